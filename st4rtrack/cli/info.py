"""`st4rtrack info` and `join`: summary of a scene folder; joining of scenes into one world frame."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from st4rtrack.scene import Scene


def info(scene: tyro.conf.Positional[Path], /) -> None:
    """Show size, source, model, cameras, known geometry and quality report of a scene.

    Args:
        scene: Scene folder, written by st4rtrack run or batch.
    """
    from st4rtrack.cli.reporter import answer, print_quality, reporter
    from st4rtrack.io.scene import load_scene

    loaded = load_scene(scene)
    facts = _facts(loaded, scene)
    reporter().event("scene", **facts)
    for name, text in _lines(facts):
        answer(f"{name}: {text}")
    print_quality(loaded)


def _facts(scene: "Scene", path: Path) -> dict[str, Any]:
    """Facts of a scene as plain values."""
    import numpy as np

    from st4rtrack.io.formats.common import image_intrinsics

    folder = path if path.is_dir() else path.parent
    height, width = scene.rgb.shape[1:3]
    solved, info = scene.solved_frames, scene.info
    focal = image_intrinsics(scene, scene.pixel_map)[:, 0, 0]
    centres = np.asarray(scene.cameras.world_from_camera, np.float64)[solved, :3, 3]
    return {
        "folder": str(folder),
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "frames": len(scene),
        "width": width,
        "height": height,
        "seconds": float(scene.time_s[-1]) - float(scene.time_s[0]),
        "source": {**info.get("source", {}), "width": scene.source_size[1], "height": scene.source_size[0]},
        "anchor": scene.anchor_index,
        "further_anchors": list(scene.anchors),
        **{name: info.get(name) for name in ("model", "options", "known", "joined")},
        "solved_frames": int(solved.sum()),
        "focal_px": [float(focal.min()), float(focal.max())],
        "path_length": float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()),
        "units": info.get("results", {}).get("units", "model"),
    }


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each fact of a scene."""
    size = f"{facts['width']}x{facts['height']} pixels, {facts['seconds']:.2f} s, {facts['bytes'] / 1e6:.1f} MB"
    yield "scene", f"{facts['frames']} frames of {size} in {facts['folder']}"
    source = facts["source"]
    frames = f", frames {source['first_frame']} to {source.get('last_frame')}" if "first_frame" in source else ""
    yield "source", f"{source.get('video', 'unknown')}, {source['width']}x{source['height']} pixels{frames}"
    further = f"; further anchors: {', '.join(map(str, facts['further_anchors']))}" if facts["further_anchors"] else ""
    yield "anchor", f"frame {facts['anchor']}{further}"
    yield from ((name, _listed(facts[name])) for name in ("model", "options", "known") if facts[name])
    if facts["joined"]:
        yield "joined", f"one world with {', '.join(facts['joined']['scenes'])}"
    low, high = facts["focal_px"]
    lengths = f"{low:.0f}" if high - low < 0.5 else f"{low:.0f} to {high:.0f}"
    unit = "metres" if facts["units"] == "metres" else "world units"
    path = f"focal length {lengths} source pixels, path {facts['path_length']:.3g} {unit}"
    yield "cameras", f"{facts['solved_frames']}/{facts['frames']} solved, {path}"


def _listed(values: Any) -> str:
    """Format plain data on one line."""
    if isinstance(values, dict):
        return ", ".join(f"{name} {_listed(value)}" for name, value in values.items() if value is not None)
    return " ".join(map(str, values)) if isinstance(values, list) else str(values)


def join(
    scenes: tyro.conf.Positional[tuple[Path, ...]],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    overwrite: bool = False,
) -> None:
    """Join scenes of several videos into one world, that of the first. Their cameras come from one model (run --cameras).

    Args:
        scenes: Scene folders.
        output: Folder to write: one scene folder per scene, and joined.ply with the points of all.
        overwrite: Replace scenes of these names in the output folder.
    """
    from st4rtrack.cli.reporter import say, wrote
    from st4rtrack.io.join import join_scenes

    for path in join_scenes(scenes, output, overwrite=overwrite):
        wrote(path)
    say(f"view them in one world: st4rtrack view {output}")

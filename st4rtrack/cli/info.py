"""`st4rtrack info`: summary of a scene folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

if TYPE_CHECKING:
    from st4rtrack.scene import Scene


def info(scene: tyro.conf.Positional[Path], /) -> None:
    """Show size, source, model, cameras, known geometry and quality report of a scene.

    Args:
        scene: Scene folder, written by st4rtrack run or batch.
    """
    from st4rtrack.cli.quality import print_quality
    from st4rtrack.cli.reporter import answer
    from st4rtrack.io.scene import load_scene

    loaded = load_scene(scene)
    for name, text in _facts(loaded, scene):
        answer(f"{name}: {text}")
    print_quality(loaded)


def _facts(scene: "Scene", path: Path) -> Iterator[tuple[str, str]]:
    """Yield names and texts of the facts of a scene."""
    import numpy as np

    from st4rtrack.io.formats.cameras import image_intrinsics

    folder = path if path.is_dir() else path.parent
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    height, width = scene.rgb.shape[1:3]
    span_s = float(scene.time_s[-1]) - float(scene.time_s[0])
    yield "scene", f"{len(scene)} frames of {width}x{height} pixels, {span_s:.2f} s, {size / 1e6:.1f} MB in {folder}"
    source = scene.info.get("source", {})
    frames = f", frames {source.get('first_frame')} to {source.get('last_frame')}" if "first_frame" in source else ""
    yield "source", f"{source.get('video', 'unknown')}, {scene.source_size[1]}x{scene.source_size[0]} pixels{frames}"
    further = f"; further anchors: {', '.join(map(str, scene.anchors))}" if scene.anchors else ""
    yield "anchor", f"frame {scene.anchor_index}{further}"
    for name in ("model", "options", "known"):
        if scene.info.get(name):
            yield name, _listed(scene.info[name])
    solved = scene.solved_frames
    focal = image_intrinsics(scene, scene.pixel_map)[:, 0, 0]
    lengths = f"{focal.min():.0f}" if np.ptp(focal) < 0.5 else f"{focal.min():.0f} to {focal.max():.0f}"
    centres = np.asarray(scene.cameras.world_from_camera, np.float64)[solved, :3, 3]
    path_length = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())
    unit = scene.info.get("results", {}).get("units", "model")
    unit = "metres" if unit == "metres" else "world units"
    yield "cameras", f"{solved.sum()}/{len(scene)} solved, focal length {lengths} source pixels, path {path_length:.3g} {unit}"


def _listed(values: Any) -> str:
    """Format plain data on one line."""
    if isinstance(values, dict):
        return ", ".join(f"{name} {_listed(value)}" for name, value in values.items() if value is not None)
    return " ".join(map(str, values)) if isinstance(values, list) else str(values)

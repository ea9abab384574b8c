"""Depth and masks of dynamic pixels as images of the size of the source video; unsolved frames are left out."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from st4rtrack.io.formats.common import lengths, need, utf8_path
from st4rtrack.io.formats.content import depth_map, dynamic_masks, has_dynamic_masks, solved_numbers
from st4rtrack.io.formats.frames import at_constant_rate
from st4rtrack.io.formats.images import scene_images
from st4rtrack.scene import Scene

_FAR_SHARE = 0.995
"""Share of the depths of a frame that are below the largest value."""
_MAX_VALUE = 65535


def write_exr(scene: Scene, folder: str | Path, *, first_frame: int = 1) -> None:
    """Write `frame_000001.exr` and so on.

    Channels: `Z`, the z-depth in world units as float32, 0 where unknown; and `mask.a`, 1 for dynamic pixels, as float16, if the
    scene has motion masks. Nuke has them as `depth.Z` and `mask.a`, the Image node of Blender as Depth and mask. The header has
    the time of the frame (`time_s`) and the unit of lengths (`comments`).

    Args:
        first_frame: Number of the first frame.
    Raises:
        UserError: all frames are unsolved, or OpenEXR is not installed.
    """
    openexr, images = need("OpenEXR", "exr"), scene_images(scene, distorted=True)
    scene, _, rate = at_constant_rate(scene)
    for frame, depth, mask in _maps(scene):
        header = {
            "type": openexr.scanlineimage,
            "compression": openexr.ZIP_COMPRESSION,
            "comments": f"{lengths(scene.info)}; {rate:.6g} frames per second",
            "time_s": float(scene.time_s[frame]),
        }
        channels = {"Z": images.from_network(depth)}
        if mask is not None:
            channels["mask.a"] = images.from_network(mask.astype(np.float16))
        with utf8_path(Path(folder) / f"frame_{first_frame + frame:06d}.exr") as file, openexr.File(header, channels) as image:
            image.write(str(file))


def write_png(scene: Scene, folder: str | Path, *, first_frame: int = 1) -> None:
    """Write `depth/frame_000001.png`, `mask/frame_000001.png` and so on, and `depth.json`.

    Depth images are 16-bit z-depth times `depth_per_unit` of the json, 0 where unknown and 65535 for everything farther;
    `st4rtrack run --depth DIR --depth-per-unit N` reads them. Masks are 255 for dynamic pixels, 0 for static ones.

    Args:
        first_frame: Number of the first frame.
    Raises:
        UserError: all frames are unsolved.
    """
    folder, images = Path(folder), scene_images(scene, distorted=True)
    scene, _, rate = at_constant_rate(scene)
    frames = solved_numbers(scene).tolist()
    per_unit = _MAX_VALUE / max(_far_depth(depth_map(scene, frame)) for frame in frames)
    for frame, depth, mask in _maps(scene):
        name = f"frame_{first_frame + frame:06d}.png"
        images.write_png(folder / "depth" / name, np.rint(depth * per_unit).clip(0, _MAX_VALUE).astype(np.uint16))
        if mask is not None:
            images.write_png(folder / "mask" / name, 255 * mask.astype(np.uint8))
    described = {
        "depth_per_unit": per_unit,
        "farthest": _MAX_VALUE / per_unit,
        "lengths": lengths(scene.info),
        "frames_per_second": rate,
        "frames": [{"frame": first_frame + frame, "time_s": float(scene.time_s[frame])} for frame in frames],
    }
    (folder / "depth.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def _maps(scene: Scene) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """Index, depth and mask of dynamic pixels [height, width] of the solved frames; no masks if the scene has none."""
    frames = solved_numbers(scene)
    masks = dynamic_masks(scene, frames) if has_dynamic_masks(scene) else [None] * len(frames)
    for frame, mask in zip(frames.tolist(), masks, strict=True):
        yield frame, depth_map(scene, frame), mask


def _far_depth(depth: np.ndarray) -> float:
    return float(np.quantile(depth[depth > 0], _FAR_SHARE)) if (depth > 0).any() else np.finfo(np.float32).tiny.item()

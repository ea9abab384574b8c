"""Depth and masks of dynamic pixels as OpenEXR or PNG images."""

import json
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.io.formats.common import lengths, need, utf8_path
from st4rtrack.io.formats.content import depth_map, dynamic_masks, has_dynamic_masks, solved_numbers
from st4rtrack.io.formats.frames import at_constant_rate
from st4rtrack.io.formats.images import scene_images
from st4rtrack.scene import Scene


def write_exr(scene: Scene, folder: str | Path, *, first_frame: int = 1) -> None:
    """Write `frame_000001.exr` and so on.

    Args:
        scene: in memory or on disk.
        folder: existing folder; files of these names are replaced.
        first_frame: Number of the first frame.
    Raises:
        UserError: all frames are unsolved, or OpenEXR is not installed.
    """
    openexr, images = need("OpenEXR", "exr"), scene_images(scene, distorted=True)
    scene, _, rate = at_constant_rate(scene)
    frames, masked = solved_numbers(scene), has_dynamic_masks(scene)
    masks = dynamic_masks(scene, frames) if masked else (None for _ in frames)
    for frame, mask in zip(frames.tolist(), masks, strict=True):
        header = {
            "type": openexr.scanlineimage,
            "compression": openexr.ZIP_COMPRESSION,
            "comments": f"{lengths(scene.info)}; {rate:.6g} frames per second",
            "time_s": float(scene.time_s[frame]),
        }
        channels = {"Z": images.from_network(depth_map(scene, frame))}
        if mask is not None:
            channels["mask.a"] = images.from_network(mask.astype(np.float16))
        with utf8_path(Path(folder) / f"frame_{first_frame + frame:06d}.exr") as file, openexr.File(header, channels) as image:
            image.write(str(file))


_FAR_SHARE = 0.995
"""Share of the depths of a frame that are below the largest value."""
_MAX_VALUE = 65535


def write_png(scene: Scene, folder: str | Path, *, first_frame: int = 1) -> None:
    """Write `depth/frame_000001.png`, `mask/frame_000001.png` and so on, and `depth.json`.

    Args:
        scene: in memory or on disk.
        folder: existing folder; files of these names are replaced.
        first_frame: Number of the first frame.
    Raises:
        UserError: all frames are unsolved.
    """
    folder, images = Path(folder), scene_images(scene, distorted=True)
    scene, _, rate = at_constant_rate(scene)
    frames = solved_numbers(scene)
    per_unit = _MAX_VALUE / max(_far_depth(depth_map(scene, frame)) for frame in frames.tolist())
    for frame in frames.tolist():
        depth = images.from_network(depth_map(scene, frame))
        _write(folder / "depth", first_frame + frame, np.rint(depth * per_unit).clip(0, _MAX_VALUE).astype(np.uint16))
    for frame, mask in zip(frames.tolist(), dynamic_masks(scene, frames) if has_dynamic_masks(scene) else ()):
        _write(folder / "mask", first_frame + frame, images.from_network(255 * mask.astype(np.uint8)))
    described = {
        "depth_per_unit": per_unit,
        "farthest": _MAX_VALUE / per_unit,
        "lengths": lengths(scene.info),
        "frames_per_second": rate,
        "frames": [{"frame": first_frame + frame, "time_s": float(scene.time_s[frame])} for frame in frames.tolist()],
    }
    (folder / "depth.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def _far_depth(depth: np.ndarray) -> float:
    return float(np.quantile(depth[depth > 0], _FAR_SHARE)) if (depth > 0).any() else np.finfo(np.float32).tiny.item()


def _write(folder: Path, number: int, image: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"frame_{number:06d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())

"""OpenEXR export: one image per frame with the z-depth and the mask of dynamic pixels; uses OpenEXR.

Channels: `Z`, the z-depth in world units as float32, 0 where unknown; and `mask.a`, 1 for dynamic pixels, as float16, if the
scene has motion masks. Nuke has them as `depth.Z` and `mask.a`, the Image node of Blender as Depth and mask. Images have the
size of the source video. The header has the time of the frame (`time_s`) and the unit of lengths (`comments`). Unsolved frames
are left out.
"""

from pathlib import Path

import numpy as np

from st4rtrack.io.formats.content import depth_map, dynamic_masks, has_dynamic_masks, solved_numbers
from st4rtrack.io.formats.extras import need, utf8_path
from st4rtrack.io.formats.frames import at_constant_rate
from st4rtrack.io.formats.images import scene_images
from st4rtrack.io.formats.units import lengths
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

"""A `Scene` with exact truth from the procedural generator."""

import numpy as np

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.scene import Scene
from st4rtrack.types import Cameras, PixelMap, Pointmap, TrackingOverTime


def procedural_scene(
    seed: int = 0, *, num_frames: int = 6, height: int = 48, width: int = 64, anchor_index: int = 0, motion: float = 1.0
) -> Scene:
    """A scene as a perfect model would give it; confidence falls with depth."""
    config = ProceduralConfig(
        height=height, width=width, num_frames=num_frames, setting="room", motion=motion, camera_motion=motion
    )
    clip = procedural_clip(seed, config, anchor=anchor_index)
    confidence = (1 + 8 * np.exp(-clip.depth / np.median(clip.depth))).astype(np.float32)
    tracking_confidence = np.repeat(confidence[anchor_index][None], num_frames, axis=0)
    return Scene(
        rgb=clip.rgb,
        time_s=clip.time_s,
        tracking=TrackingOverTime(clip.tracking_points_world, tracking_confidence, visible=clip.visible, moving=clip.moving),
        reconstruction=Pointmap(clip.reconstruction_points_world, confidence),
        cameras=Cameras(clip.world_from_camera, clip.intrinsics, np.ones(num_frames, bool)),
        anchor_index=anchor_index,
        pixel_map=PixelMap(),
        source_size=(height, width),
        info={
            "model": {"name": "tiny", "hash": "abc"},
            "source": {"name": "room", "fps": 12.0},
            "results": {"focal_px": float(clip.intrinsics[0, 0, 0]), "seconds": 12.3},
        },
    )

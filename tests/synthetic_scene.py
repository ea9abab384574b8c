"""A small made-up `Scene`: right shapes and types, values that differ everywhere, no meaning."""

import numpy as np

from st4rtrack.scene import Scene
from st4rtrack.types import Cameras, PixelMap, Pointmap, TrackingOverTime


def synthetic_scene(num_frames: int = 4, height: int = 6, width: int = 8, *, seed: int = 0) -> Scene:
    """A scene with every field of a run; the anchor's camera is the identity."""
    random = np.random.default_rng(seed)
    image = (num_frames, height, width)
    anchor_index = min(1, num_frames - 1)
    world_from_camera = np.tile(np.eye(4), (num_frames, 1, 1))
    world_from_camera[:, :3, 3] = np.outer(np.arange(num_frames) - anchor_index, [0.1, 0.0, 0.02])
    intrinsics = np.tile(np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]), (num_frames, 1, 1))
    visible = random.random(image) < 0.8
    visible[anchor_index] = True
    return Scene(
        rgb=random.integers(0, 256, (*image, 3), dtype=np.uint8),
        time_s=np.arange(num_frames) / 30.0,
        tracking=TrackingOverTime(
            random.normal(0, 1, (*image, 3)).astype(np.float32),
            (1 + random.random(image)).astype(np.float32),
            visible=visible,
            visibility=np.where(visible, 0.875, 0.25).astype(np.float16),
            moving=random.random((height, width)) < 0.3,
        ),
        reconstruction=Pointmap(
            random.normal(0, 1, (*image, 3)).astype(np.float32),
            (1 + random.random(image)).astype(np.float32),
            moving=random.random(image) < 0.2,
        ),
        cameras=Cameras(world_from_camera, intrinsics, np.arange(num_frames) % 3 != 2),
        anchor_index=anchor_index,
        pixel_map=PixelMap((0.5, 0.5), (0.0, -1.5)),
        source_size=(2 * height + 3, 2 * width),
        info={
            "model": {"name": "tiny", "hash": "abc"},
            "options": {"size": width, "refine": True},
            "source": {"path": "cat.mp4"},
        },
    )

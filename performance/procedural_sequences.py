"""Sequences of the procedural world in WorldTrack's format, to choose on what the shared sequences must not choose.

python performance/procedural_sequences.py OUTPUT [--count 4] [--frames 64] [--seed 555000]

Training draws from other seeds. Scenes in which what moves covers too little or too much of the first frame are passed over.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from st4rtrack.data.procedural import ProceduralClip, procedural_clip
from st4rtrack.data.procedural_config import ProceduralConfig
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.worldtrack import encode_jpeg, write_worldtrack

MOVING_SHARE = (0.04, 0.4)
POINTS = 1200


def main(
    output: tyro.conf.Positional[Path],
    count: int = 4,
    frames: int = 64,
    seed: Annotated[int, tyro.conf.arg(name="seed")] = 555000,
) -> None:
    """Writes OUTPUT/scene_NUMBER.npz."""
    config = ProceduralConfig(num_frames=frames)
    found, number = 0, 0
    while found < count:
        clip = procedural_clip(seed, config, number=number)
        if MOVING_SHARE[0] <= clip.moving.mean() <= MOVING_SHARE[1]:
            path = output / f"scene_{number:03d}.npz"
            write_sequence(clip, path, np.random.default_rng([seed, number]))
            found += 1
            print(f"{path}: {clip.moving.mean():.0%} of the first frame moves")
        number += 1


def write_sequence(clip: ProceduralClip, path: Path, rng: np.random.Generator) -> None:
    """One clip, with tracks of pixels of the first frame drawn at random."""
    pixels = rng.permutation(np.flatnonzero(clip.tracking_valid[0]))[:POINTS]
    tracks = clip.tracking_points_world.reshape(len(clip.rgb), -1, 3)[:, pixels].astype(np.float64)
    camera_from_world = invert_rigid(clip.world_from_camera)
    intrinsics = clip.intrinsics[0]
    write_worldtrack(
        path,
        images_jpeg=[encode_jpeg(frame) for frame in clip.rgb],
        fx_fy_cx_cy=np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]]),
        camera_from_world=camera_from_world,
        visibility=clip.visible.reshape(len(clip.rgb), -1)[:, pixels],
        tracks_camera=transform_points(camera_from_world, tracks),
        depth=clip.depth,
    )


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(main)

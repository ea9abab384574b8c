"""A clip and a network that adapt in seconds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.adapt.result import Adaptation
from st4rtrack.adapt.run import adapt_videos
from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.worldtrack import encode_jpeg, write_worldtrack
from st4rtrack.model.checkpoint import load_model, save_model
from st4rtrack.model.config import MONOCULAR, TINY
from st4rtrack.model.network import St4RTrack
from st4rtrack.train.forward import new_model
from tests.adapt.truth_teachers import TruthDepth, TruthTracks

SMALL = replace(
    TINY,
    image_size=96,
    encoder_width=32,
    encoder_depth=1,
    encoder_heads=2,
    decoder_width=32,
    decoder_depth=1,
    decoder_heads=2,
    hints=False,
)
SMALL_MONOCULAR = replace(MONOCULAR, image_size=96, encoder_width=16, pyramid_width=8)
OPTIONS: dict[str, Any] = {
    "freeze": "reconstruction",
    "steps": 8,
    "frames": 4,
    "measure_every": 4,
    "queries": 150,
    "warmup_steps": 1,
    "learning_rate": 2e-2,
}


def small_clip(num_frames: int = 6, seed: int = 23) -> ProceduralClip:
    return procedural_clip(
        seed, ProceduralConfig(64, 96, num_frames, setting="room", camera="orbit", camera_motion=2.0, moving_share=0.7)
    )


def small_base(folder: Path) -> Path:
    path = folder / "plain.safetensors"
    save_model(new_model(SMALL, seed=0), path)
    return path


def monocular_base(folder: Path) -> Path:
    """A network without decoders."""
    save_model(new_model(SMALL_MONOCULAR, seed=0), folder / "monocular.safetensors")
    return folder / "monocular.safetensors"


def load(path: Path) -> St4RTrack:
    return load_model(path, device="cpu", dtype="float32")


def write_clip(path: Path, clip: ProceduralClip) -> None:
    """A clip as a WorldTrack sequence, with a track for every fourth pixel in both directions that shows something."""
    row, column = (np.arange(2, side, 4) for side in clip.depth.shape[1:])
    chosen = (slice(None), row[:, None], column[None, :])
    known = clip.tracking_valid[0][chosen[1:]]
    camera_from_world = invert_rigid(clip.world_from_camera)
    write_worldtrack(
        path,
        images_jpeg=[encode_jpeg(image) for image in clip.rgb],
        fx_fy_cx_cy=clip.intrinsics[0][(0, 1, 0, 1), (0, 1, 2, 2)],
        camera_from_world=camera_from_world,
        visibility=clip.visible[chosen][:, known],
        tracks_camera=transform_points(camera_from_world, clip.tracking_points_world[chosen][:, known].astype(np.float64)),
        depth=clip.depth,
    )


def adapt_small(clip: ProceduralClip, base: Path, output: Path, **changes: Any) -> Adaptation:
    """`adapt_videos` with teachers that know the truth; `config` is added to `OPTIONS`."""
    config = {**OPTIONS, **changes.pop("config", {})}
    videos = changes.pop("videos", [clip.rgb])
    given = {
        "tracks": TruthTracks(clip),
        "depth": TruthDepth(clip),
        "device": "cpu",
        "scenes": "none",
        **changes,
    }
    return adapt_videos(videos, output=output, model=base, config=config, **given)

"""The loss of a step asks of the teachers what they can say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.inputs import AdaptVideo, empty_held, frame_inputs
from st4rtrack.adapt.objective import Batch, step_loss
from st4rtrack.adapt.priors import Priors
from st4rtrack.io.video import open_video
from st4rtrack.losses.adaptation import AdaptationLoss
from st4rtrack.pipeline import cameras as solver
from tests.adapt.small import load, small_base, small_clip
from tests.adapt.truth_teachers import TruthDepth, TruthTracks
from tests.seeds import SEED


@pytest.mark.parametrize("cameras", [False, True])
def test_frames_share_one_scale_where_the_teacher_says_that_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cameras: bool
) -> None:
    monkeypatch.setattr(solver, "solve_camera", lambda *_: np.eye(4))
    clip, model = small_clip(4), load(small_base(tmp_path))
    queries = np.random.default_rng(SEED).uniform((0, 0), (96, 64), (60, 2))
    tracks = TruthTracks(clip).tracks(clip.rgb, queries, 0)
    depth = replace(TruthDepth(clip).depth(clip.rgb, 0), world_from_camera=clip.world_from_camera if cameras else None)
    points = len(tracks.query_px)
    inputs = frame_inputs(model, open_video(clip.rgb), tmp_path)
    none = np.zeros(points, bool)
    video = AdaptVideo(
        inputs, Priors(tracks, depth), None, none, none, empty_held(inputs, tmp_path), np.ones((points, 3), np.float32)
    )
    batch = Batch(0, np.arange(4), np.arange(points))

    def depth_term(scales: list[float]) -> float:
        scaled = replace(depth, depth=depth.depth * np.array(scales, np.float32)[:, None, None])
        with torch.no_grad():
            found = step_loss(model, replace(video, priors=Priors(tracks, scaled)), batch, AdaptConfig(), AdaptationLoss())
        return found.parts["depth"]

    alone, together, apart = depth_term([1, 1, 1, 1]), depth_term([3, 3, 3, 3]), depth_term([1, 3, 3, 3])
    assert together == pytest.approx(alone, rel=1e-4)
    assert (apart == pytest.approx(alone, rel=1e-4)) is not cameras

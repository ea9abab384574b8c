"""Fused geometry of whole runs: as right as what it is fused from."""

from typing import Any

import numpy as np
import pytest

from st4rtrack.classical.static_depth import PairFlows, StaticDepth
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.hints import fused
from st4rtrack.model.checkpoint import load_model
from st4rtrack.pipeline.reconstruct import reconstruct
from tests.moving_camera import WIDTH, depth_of_walls, walk

FRAMES = 9
MAX_WORSE = 1.1


def log_errors(depth: list[np.ndarray], true: list[np.ndarray], chosen: list[np.ndarray]) -> np.ndarray:
    """|log-depth error| of the chosen pixels of all frames after one scale."""
    logs = np.concatenate([np.log(one[use] / other[use]) for one, other, use in zip(depth, true, chosen, strict=True)])
    return np.abs(logs - np.median(logs))


def test_fused_static_depth_is_as_right_as_the_measured_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: dict[int, np.ndarray] = {}
    static_depth = fused.static_depth

    def recorded(flows: PairFlows, index: int, *args: Any) -> StaticDepth:
        found = static_depth(flows, index, *args)
        measured[index] = found.depth
        return found

    monkeypatch.setattr(fused, "static_depth", recorded)
    clip = walk(FRAMES)
    scene = reconstruct(clip.rgb, model=load_model(device="cpu", dtype="float32"), size=WIDTH)
    points = transform_maps(invert_rigid(scene.cameras.world_from_camera), scene.reconstruction.points_world)
    output, before = list(points[..., 2]), [measured[t] for t in range(FRAMES)]
    true, known = [depth_of_walls(camera) for camera in clip.world_from_camera], [depth > 0 for depth in before]
    assert np.mean(known) > 0.5
    of_input, of_output = (log_errors(depth, true, known) for depth in (before, output))
    assert np.median(of_output) <= MAX_WORSE * np.median(of_input)
    assert np.mean(of_output) <= 1.3 * np.mean(of_input)  # a few pixels are left to the prior, which knows no bare walls

"""Hints of image pairs: classical two-view geometry as tensors."""

import numpy as np
import pytest
import torch

from st4rtrack.classical.two_view import TwoView
from st4rtrack.model.hints import MAX_LOG_DEPTH, estimate_hints, hints_of_views, known_depth, sample_by_flow
from st4rtrack.preprocess import normalize_images
from tests.moving_camera import depth_of_walls, walk
from tests.seeds import SEED


@pytest.mark.parametrize("images", [np.zeros((2, 32, 48, 3), np.uint8), np.zeros((2, 16, 16, 3), np.uint8), "noise"])
def test_images_without_information_give_finite_hints(images: np.ndarray | str) -> None:
    if isinstance(images, str):
        images = np.random.default_rng(SEED).integers(0, 255, (2, 64, 48, 3), dtype=np.uint8)
    hints = estimate_hints(*normalize_images(images)[:, None])
    for value in vars(hints).values():
        assert torch.isfinite(value).all()


def test_sampling_by_flow_follows_it() -> None:
    maps = torch.arange(20.0).reshape(1, 1, 4, 5)
    flow = torch.zeros(1, 4, 5, 2)
    torch.testing.assert_close(sample_by_flow(maps, flow), maps)
    flow[..., 0] = 1.0
    torch.testing.assert_close(sample_by_flow(maps, flow)[..., :4], maps[..., 1:])


def test_estimated_hints_have_the_depth_and_the_rotation_of_a_rendered_pair() -> None:
    video = walk(7)
    hints = estimate_hints(*normalize_images(video.rgb[[0, 3]])[:, None])
    log_depth, known = (each[0].numpy() for each in known_depth(hints.anchor_depth))
    assert known.mean() > 0.3
    ratio = log_depth[known] - np.log(depth_of_walls(np.eye(4))[known])
    assert np.median(np.abs(ratio - np.median(ratio))) < 0.1
    assert (hints.consistency > 0.9).float().mean() > 0.5
    np.testing.assert_allclose(hints.anchor_from_frame[0, :3, :3], video.world_from_camera[3, :3, :3], atol=0.05)


def test_flow_that_does_not_return_or_leaves_the_image_is_inconsistent() -> None:
    flow = np.zeros((16, 24, 2), np.float32)
    flow[:, 20:, 0] = 6.0
    back = np.zeros_like(flow)
    back[:4] = 5.0
    depth = np.full((16, 24), np.exp(MAX_LOG_DEPTH + 1), np.float32)
    hints = hints_of_views([TwoView(flow, back, depth, np.zeros_like(depth), np.eye(4), 20.0)])
    assert (hints.consistency[0, 6:, :18] == 1).all() and not hints.consistency[0, :, 20:].any()
    assert hints.consistency[0, :3, :18].max() < 1e-3
    assert not known_depth(hints.anchor_depth)[1].any() and not known_depth(hints.frame_depth)[1].any()

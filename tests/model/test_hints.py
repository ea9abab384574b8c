import numpy as np
import pytest
import torch

from st4rtrack.classical.two_view import TwoView
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.model.hints import estimate_hints, fill_in, hints_of_views, sample_by_flow, still_hints
from st4rtrack.model.network import HINT_OUTPUT_CHANNELS, points_on_base, points_on_rays
from st4rtrack.preprocess import normalize_images
from tests.moving_camera import HEIGHT, WIDTH, points_on_walls, walk
from tests.seeds import SEED


@pytest.mark.parametrize("images", [np.zeros((2, 32, 48, 3), np.uint8), np.zeros((2, 16, 16, 3), np.uint8), "noise"])
def test_images_that_tell_nothing_give_finite_hints(images: np.ndarray | str) -> None:
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


def test_filling_in_keeps_what_is_known_and_stays_between() -> None:
    values = torch.rand(2, 13, 18, generator=torch.Generator().manual_seed(SEED))
    known = torch.rand(2, 13, 18, generator=torch.Generator().manual_seed(1 + SEED)) < 0.2
    known[1] = False
    whole = fill_in(values, known)
    torch.testing.assert_close(whole[known], values[known])
    assert whole[0].min() >= values[0][known[0]].min() - 1e-6 and whole[0].max() <= values[0][known[0]].max() + 1e-6
    assert (whole[0] != 0).all() and (whole[1] == 0).all()
    torch.testing.assert_close(fill_in(torch.full((1, 7, 9), 3.0), known[:1, :7, :9]), torch.full((1, 7, 9), 3.0))


def test_what_moves_is_followed_along_its_ray_from_the_anchors_depth() -> None:
    """A camera that stands still, a point that the flow shows to move: it moves across the ray, as far as its depth says."""
    size, focal, depth = (48, 64), 60.0, 2.0
    flow = np.zeros((*size, 2), np.float32)
    flow[20:30, 20:30, 0] = 6.0
    flat = np.full(size, depth, np.float32)
    view = TwoView(flow, -np.roll(flow, 6, axis=1), flat, flat, np.eye(4), focal)
    grey = torch.zeros(1, 3, *size)
    hints = hints_of_views(grey, grey, [view])
    raw = torch.zeros(1, HINT_OUTPUT_CHANNELS, *size)
    raw[:, 4:6], raw[:, 6] = 20.0, -20.0
    own = points_on_rays(raw, hints.anchor_log_depth, hints.rays)
    tracking, reconstruction = (points[0].numpy() for points in points_on_base(raw, raw, own, hints))
    np.testing.assert_allclose(reconstruction[..., 2], depth, rtol=1e-5)
    moved = tracking - own[0].numpy()
    inner = (slice(22, 28), slice(22, 28))
    assert np.abs(moved[inner][..., 0] - 6 / focal * depth).max() < 0.02
    assert np.abs(moved[:18]).max() < 1e-5
    residual = hints.anchor_maps[0, 19].numpy() * 64 / 8
    np.testing.assert_allclose(residual[inner], 6.0, atol=1e-4)


def test_an_anchor_with_itself_has_the_hints_of_a_still_pair() -> None:
    rng = np.random.default_rng(SEED)
    images = normalize_images(rng.integers(0, 255, (2, 48, 64, 3), dtype=np.uint8))
    zero, depth = (
        np.zeros((48, 64, 2), np.float32),
        rng.uniform(0.5, 2.0, (48, 64)).astype(np.float32) * (rng.random((48, 64)) < 0.5),
    )
    camera = np.eye(4)
    camera[:3, 3] = (0.3, 0.1, -0.2)
    pair = hints_of_views(images[:1], images[1:], [TwoView(zero + 3, zero - 3, depth, depth[::-1].copy(), camera, 50.0)])
    wanted = hints_of_views(images[:1], images[:1], [TwoView(zero, zero, depth, depth, np.eye(4), 50.0)])
    found = still_hints(pair)
    for name, value in vars(wanted).items():
        torch.testing.assert_close(getattr(found, name), value, atol=1e-4, rtol=1e-4)


def test_with_nothing_learnt_the_output_is_the_classical_geometry() -> None:
    """Both branches of raw zeros, trusting what is known, put static points where they are."""
    video = walk(7)
    hints = estimate_hints(*normalize_images(video.rgb[[0, 3]])[:, None])
    raw = torch.zeros(1, HINT_OUTPUT_CHANNELS, HEIGHT, WIDTH)
    raw[:, 4:7] = 20.0
    tracking, reconstruction = points_on_base(raw, raw, points_on_rays(raw, hints.anchor_log_depth, hints.rays), hints)
    known = (hints.anchor_maps[0, 10] > 0).numpy() & (hints.consistency[0] > 0.9).numpy()
    true = points_on_walls(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2)).reshape(HEIGHT, WIDTH, 3)[known]
    points = tracking[0].numpy()[known]
    scale = np.median(np.linalg.norm(true, axis=-1)) / np.median(np.linalg.norm(points, axis=-1))
    assert np.median(np.linalg.norm(points * scale - true, axis=-1)) < 0.1 * np.median(true[:, 2])
    assert torch.isfinite(reconstruction).all()

"""Geometry of a video seen from its anchor: recovery of a rendered clip's truth, and what must hold for any video."""

import itertools

import numpy as np
import pytest

from st4rtrack.classical import anchored
from st4rtrack.classical.anchored import AnchoredGeometry, follow_video
from st4rtrack.classical.flow import FlowChain, dense_flow, returns
from st4rtrack.classical.survey import Matches, survey
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import rotation_angle
from tests.moving_camera import FOCAL, HEIGHT, WIDTH, Walk, points_on_walls, seen_at, walk

SIZE = (HEIGHT, WIDTH)
FRAMES = 16


@pytest.fixture(scope="module")
def video() -> Walk:
    return walk(FRAMES)


@pytest.fixture(scope="module")
def depth() -> np.ndarray:
    """True depth of frame 0."""
    return points_on_walls(pixel_grid(*SIZE).reshape(-1, 2))[:, 2].reshape(SIZE)


def true_matches(video: Walk, noise_px: float = 0.0) -> Matches:
    """Where the anchor's content is in all later frames, by the truth; the nearer wall hides some of it, which nobody says."""
    grid = pixel_grid(*SIZE).reshape(-1, 2)
    pixels = seen_at(points_on_walls(grid), video.world_from_camera[1:])
    pixels = pixels + np.random.default_rng(0).normal(0, noise_px, pixels.shape)
    return Matches(grid, pixels, inside_image(pixels, *SIZE), SIZE)


def relative_error(depth: np.ndarray, true: np.ndarray) -> float:
    known = depth > 0
    ratio = depth[known] / true[known]
    return float(np.median(np.abs(ratio / np.median(ratio) - 1)))


def test_a_survey_of_true_matches_recovers_focal_length_and_depth(video: Walk, depth: np.ndarray) -> None:
    found = survey(true_matches(video, noise_px=0.1))
    assert found is not None
    assert found.focal_px == pytest.approx(FOCAL, rel=0.03)
    assert (found.depth > 0).mean() > 0.8
    assert relative_error(found.depth, depth) < 0.02
    assert np.median(found.depth[found.depth > 0]) == pytest.approx(1.0)
    told = survey(true_matches(video), FOCAL)
    assert told is not None and told.focal_px == FOCAL
    assert relative_error(told.depth, depth) < 0.002


def test_points_that_move_by_themselves_get_no_depth(video: Walk) -> None:
    matches = true_matches(video)
    frames = np.arange(1, FRAMES)[:, None, None]
    movers = np.zeros(SIZE, bool)
    movers[30:60, 40:80] = True
    matches.frame_px[:, movers.ravel()] += frames * np.array([0.7, -1.5])
    found = survey(matches)
    assert found is not None
    assert (found.depth[movers] > 0).mean() < 0.1
    assert (found.depth[~movers] > 0).mean() > 0.7


def test_without_parallax_there_is_no_survey() -> None:
    grid = pixel_grid(*SIZE).reshape(-1, 2)
    still = Matches(grid, np.repeat(grid[None], 4, axis=0), np.ones((4, len(grid)), bool), SIZE)
    assert survey(still) is None


def test_a_video_is_followed(video: Walk, depth: np.ndarray) -> None:
    views = list(follow_video(video.rgb[0], list(video.rgb[1:])))
    assert len(views) == FRAMES
    assert views[0].focal_px == pytest.approx(FOCAL, rel=0.1)
    assert relative_error(views[0].anchor_depth, depth) < 0.05
    np.testing.assert_array_equal(views[0].anchor_from_frame, np.eye(4))
    known = views[0].anchor_depth > 0
    scale = np.median(depth[known] / views[0].anchor_depth[known])
    for view, true in zip(views[1:], video.world_from_camera[1:], strict=True):
        assert np.rad2deg(rotation_angle(view.anchor_from_frame[:3, :3].T @ true[:3, :3])) < 2.5
        # one scale for all frames
        assert np.linalg.norm(view.anchor_from_frame[:3, 3] * scale - true[:3, 3]) < 0.05 + 0.1 * np.linalg.norm(true[:3, 3])
        seen = view.frame_depth > 0
        assert seen.mean() > 0.15


def test_a_reference_that_is_lost_is_replaced_in_the_same_scale(
    video: Walk, depth: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchored, "MIN_SEEN_SHARE", 1.1)  # never satisfied
    geometry = AnchoredGeometry.of(video.rgb[0], list(video.rgb[1:]))
    assert geometry.surveyed is not None
    first = geometry._reference
    views = [geometry.next(rgb) for rgb in video.rgb[1:]]
    assert geometry._reference is not first
    known = geometry.surveyed.depth > 0
    scale = np.median(depth[known] / geometry.surveyed.depth[known])
    error = views[-1].anchor_from_frame[:3, 3] * scale - video.world_from_camera[-1, :3, 3]
    assert np.linalg.norm(error) < 0.2 * np.linalg.norm(video.world_from_camera[-1, :3, 3])


def test_a_fixed_camera_leaves_every_frame_a_pair_for_itself() -> None:
    still = walk(4, moves=False)
    for view in follow_video(still.rgb[0], list(still.rgb[1:])):
        assert not view.anchor_depth.any() and not view.frame_depth.any()
        np.testing.assert_allclose(view.anchor_from_frame, np.eye(4), atol=0.01)


def test_a_video_of_one_frame_and_of_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, 48, 64, 3), dtype=np.uint8)
    for frames in (noise[:1], noise):
        for view in follow_video(frames[0], list(frames[1:])):
            for value in vars(view).values():
                assert np.isfinite(value).all()


def test_chained_flow_follows_a_shift() -> None:
    rng = np.random.default_rng(1)
    picture = np.kron(rng.integers(0, 255, (40, 40)), np.ones((4, 4))).astype(np.uint8)
    frames = [np.ascontiguousarray(picture[20:116, 20 + 3 * k : 148 + 3 * k]) for k in range(5)]
    chain = FlowChain(*frames[0].shape)
    for enlarge in (1, 2):
        forward = dense_flow(frames[0], frames[1], enlarge=enlarge)
        assert np.median(np.abs(forward - (-3, 0))) < 0.1
    for a, b in itertools.pairwise(frames):
        chain.extend(dense_flow(a, b), dense_flow(b, a))
    inner = (slice(16, -16), slice(24, -24))
    assert np.median(np.abs(chain.forward[inner] - (-12, 0))) < 0.3
    assert np.median(np.abs(chain.backward[inner] - (12, 0))) < 0.3
    assert returns(chain.forward, chain.backward)[inner].mean() > 0.8

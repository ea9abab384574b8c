"""Geometry of a video relative to its anchor: recovery of the ground truth of a rendered clip."""

import itertools

import numpy as np
import pytest

from st4rtrack.classical import anchored
from st4rtrack.classical.anchored import AnchoredGeometry
from st4rtrack.classical.flow import FlowChain, dense_flow, returns
from st4rtrack.geometry.transforms import rotation_angle
from st4rtrack.types import KnownVideo
from tests.moving_camera import FOCAL, HEIGHT, WIDTH, Walk, depth_of_walls, walk

FRAMES = 16
PRIOR_SCALE = 0.3


@pytest.fixture(scope="module")
def video() -> Walk:
    return walk(FRAMES)


def geometry_of(video: Walk, known: KnownVideo, **options: object) -> AnchoredGeometry:
    return AnchoredGeometry.of(video.rgb[0], video.rgb[1:], known=known, order=range(1, FRAMES), **options)  # pyright: ignore[reportArgumentType]


def with_true_prior(video: Walk) -> AnchoredGeometry:
    """Geometry with the true focal length, and the true depth of every frame in another scale as prior."""
    geometry = geometry_of(video, KnownVideo(focal_px=FOCAL))
    return geometry.with_prior(lambda _, index: PRIOR_SCALE * depth_of_walls(video.world_from_camera[index]))


def scale_of(geometry: AnchoredGeometry, depth: np.ndarray) -> float:
    """Ground-truth length of one unit of a geometry, by the depth of its anchor."""
    assert geometry.anchor_depth is not None
    known = geometry.anchor_depth.depth > 0
    return float(np.median(depth[known] / geometry.anchor_depth.depth[known]))


def test_frames_are_registered_against_the_depth_of_a_prior(video: Walk) -> None:
    geometry = with_true_prior(video)
    assert not geometry.measures_depth
    scale = scale_of(geometry, depth_of_walls(np.eye(4)))
    for index in range(1, FRAMES):
        view, true = geometry.next(video.rgb[index], index), video.world_from_camera[index]
        assert geometry.solved
        assert np.rad2deg(rotation_angle(view.anchor_from_frame[:3, :3].T @ true[:3, :3])) < 0.5
        assert np.linalg.norm(view.anchor_from_frame[:3, 3] * scale - true[:3, 3]) < 0.05
        ratio = view.frame_depth[view.frame_depth > 0] * scale / depth_of_walls(true)[view.frame_depth > 0]
        assert len(ratio) > 0.15 * HEIGHT * WIDTH and np.median(np.abs(ratio - 1)) < 0.02


def test_reference_out_of_view_is_replaced_in_the_same_scale(video: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchored, "MIN_SEEN_SHARE", 1.1)  # never satisfied
    geometry = with_true_prior(video)
    first = geometry._reference
    views = [geometry.next(video.rgb[index], index) for index in range(1, FRAMES)]
    assert geometry._reference is not first
    error = views[-1].anchor_from_frame[:3, 3] * scale_of(geometry, depth_of_walls(np.eye(4)))
    assert np.linalg.norm(error - video.world_from_camera[-1, :3, 3]) < 0.1


def test_known_cameras_give_the_depth_of_the_anchor_and_their_unit(video: Walk) -> None:
    geometry = geometry_of(video, KnownVideo(focal_px=FOCAL, world_from_camera=video.world_from_camera))
    assert geometry.measures_depth and geometry.anchor_depth is not None and geometry.units.cameras is not None
    known = geometry.anchor_depth.depth > 0
    ratio = geometry.anchor_depth.depth[known] * geometry.units.cameras / depth_of_walls(np.eye(4))[known]
    assert known.mean() > 0.5 and np.median(np.abs(ratio - 1)) < 0.02
    lacking = video.world_from_camera.copy()
    lacking[5] = np.nan
    geometry = geometry_of(video, KnownVideo(focal_px=FOCAL, world_from_camera=lacking))
    views = [geometry.next(video.rgb[index], index) for index in range(1, 7)]
    assert geometry.units.cameras is not None and geometry.solved
    place = views[4].anchor_from_frame[:3, 3] * geometry.units.cameras
    assert np.linalg.norm(place - video.world_from_camera[5, :3, 3]) < 0.03


@pytest.mark.parametrize("provided", ["nothing", "depth", "cameras"])
def test_solver_completes_what_the_user_does_not_provide(video: Walk, provided: str) -> None:
    """The solver's unit is 0.5, that of the user's depth 2."""
    solved = video.world_from_camera.copy()
    solved[:, :3, 3] /= 0.5
    cameras = video.world_from_camera if provided == "cameras" else None
    user = KnownVideo(
        world_from_camera=cameras,
        depth=None
        if provided != "depth"
        else lambda index: (depth_of_walls(video.world_from_camera[index]) / 2).astype(np.float32),
    )
    found = KnownVideo(FOCAL, solved, user.depth, focal_source="video")
    geometry = geometry_of(video, user, solve=lambda parallax: found)
    assert geometry.focal_px == FOCAL and geometry.focal_source == "video" and geometry.cameras is not None
    unit = scale_of(geometry, depth_of_walls(np.eye(4)))
    np.testing.assert_allclose(unit * geometry.cameras[-1, :3, 3], video.world_from_camera[-1, :3, 3], rtol=0.02, atol=0.01)
    assert (geometry.units.depth is None) == (provided != "depth")


def test_video_of_one_frame_and_of_noise_gives_finite_geometry() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, 48, 64, 3), dtype=np.uint8)
    for frames in (noise[:1], noise):
        geometry = AnchoredGeometry.of(frames[0], frames[1:]).with_prior(lambda *_: np.ones((48, 64)))
        for view in (geometry.anchor_view, *map(geometry.next, frames[1:], range(1, len(frames)))):
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

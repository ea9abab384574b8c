"""The paper's three data sets as clips: each is written from a procedural clip, and gives its truth back."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.data.clip import Clip
from st4rtrack.data.dynamic_replica import DynamicReplica
from st4rtrack.data.kubric import Kubric
from st4rtrack.data.point_odyssey import PointOdyssey
from st4rtrack.data.procedural import ProceduralClip
from st4rtrack.data.raw import RawSequence
from st4rtrack.data.read_clip import Reading, read_clip, scatter_tracks
from st4rtrack.data.resample import Framing
from st4rtrack.geometry.camera import unproject
from st4rtrack.types import UserError
from tests.procedural_raw import (
    FRAMES,
    HEIGHT,
    WIDTH,
    pixels_of,
    procedural_world,
    seen_at,
    truth,
    write_kubric,
)
from tests.raw_data import World, write_dynamic_replica, write_point_odyssey

FULL = Reading(HEIGHT, WIDTH)
POINTS = pixels_of(0, 400)


def point_odyssey(root: Path, rows: np.ndarray = POINTS) -> RawSequence:
    write_point_odyssey(root, "scene", procedural_world(rows), split="train")
    return PointOdyssey(root, "train").open("scene")


def dynamic_replica(root: Path, rows: np.ndarray = POINTS) -> RawSequence:
    write_dynamic_replica(root, {"scene": procedural_world(rows)})
    return DynamicReplica(root).open("scene_source_left")


def kubric(root: Path) -> RawSequence:
    write_kubric(root, "scene")
    return Kubric(root).open("scene")


Open = Callable[[Path], RawSequence]
DEPTH_STEP_M = 1000 / 65535
SETS: list[tuple[Open, Callable[[np.ndarray], np.ndarray], float]] = [
    # how far depth z may be off by the encoding, and how far the images
    (point_odyssey, lambda z: np.full_like(z, DEPTH_STEP_M / 2 + 1e-5), 6.0),
    (dynamic_replica, lambda z: z * 2.0**-11, 0.0),
    (kubric, lambda z: z * 1e-6, 0.0),
]


@pytest.mark.parametrize(("open_set", "depth_error", "colour_error"), SETS)
@pytest.mark.parametrize("frames", [range(FRAMES), range(0, 7, 3), range(2, 8, 2)])
def test_truth_comes_back(
    tmp_path: Path, open_set: Open, depth_error: Callable[[np.ndarray], np.ndarray], colour_error: float, frames: range
) -> None:
    clip, expected = read_clip(open_set(tmp_path), frames, FULL), truth(frames[0])
    chosen = list(frames)
    assert clip.rgb.shape == (len(frames), HEIGHT, WIDTH, 3)
    assert np.abs(clip.rgb.astype(float) - expected.rgb[chosen]).mean() <= colour_error
    np.testing.assert_array_equal(clip.world_from_camera[0], np.eye(4))
    np.testing.assert_allclose(clip.world_from_camera, expected.world_from_camera[chosen], atol=1e-6)
    np.testing.assert_allclose(clip.intrinsics, expected.intrinsics[chosen], rtol=1e-6)
    assert (np.abs(clip.depth - expected.depth[chosen]) <= depth_error(expected.depth[chosen])).all()
    np.testing.assert_array_equal(clip.reconstruction_valid, expected.reconstruction_valid[chosen])
    far = depth_error(expected.depth[chosen])[..., None] * 3 + 1e-5  # rays are at most three times as long as z
    assert (np.abs(clip.reconstruction_points_world - expected.reconstruction_points_world[chosen]) <= far).all()
    assert (clip.depth.dtype, clip.tracking_points_world.dtype) == (np.float32, np.float32)
    assert (clip.intrinsics.dtype, clip.world_from_camera.dtype) == (np.float64, np.float64)


@pytest.mark.parametrize("open_set", [point_odyssey, dynamic_replica])
def test_sparse_tracks_come_back(tmp_path: Path, open_set: Open) -> None:
    """Points that are pixels of frame 0: exactly these are known, over all frames, also where they are hidden later."""
    clip, expected = read_clip(open_set(tmp_path), range(FRAMES), FULL), truth()
    known = np.zeros((HEIGHT, WIDTH), bool)
    known[POINTS[:, 1], POINTS[:, 2]] = True
    np.testing.assert_array_equal(clip.tracking_valid, np.tile(known, (FRAMES, 1, 1)))
    np.testing.assert_allclose(clip.tracking_points_world[:, known], expected.tracking_points_world[:, known], atol=1e-4)
    assert not clip.tracking_points_world[:, ~known].any() and clip.moving is not None and clip.supervised is None
    np.testing.assert_array_equal(clip.moving, known & expected.moving)
    assert clip.moving.sum() > 2 and not expected.visible[-1][known].all()


@pytest.mark.parametrize("open_set", [point_odyssey, dynamic_replica])
def test_sparse_tracks_of_another_anchor(tmp_path: Path, open_set: Callable[[Path, np.ndarray], RawSequence]) -> None:
    """Points seen in frame 0 and in frame 5, read with frame 5 first: those hidden there are not known, and the others lie on
    what the pixel shows.
    """
    rows = np.concatenate([pixels_of(0, 300), pixels_of(5, 300, seed=1)])
    clip, expected = read_clip(open_set(tmp_path, rows), [5, 3, 1], FULL), truth(5)
    own = clip.tracking_valid[0]
    assert 250 < own.sum() <= procedural_world(rows).stored_visible[5].sum()
    seen_px = seen_at(clip.tracking_points_world[0][own], clip.world_from_camera[0], clip.intrinsics[0])
    row, column = np.nonzero(own)
    assert np.abs(seen_px - np.stack([column, row], 1) - 0.5).max() < 0.5 + 1e-4
    # The truth of that very place: interpolation of the dense map where it is smooth.
    error = np.linalg.norm(clip.tracking_points_world - expected.tracking_points_world[[5, 3, 1]], axis=-1)[:, own]
    pixel_m = expected.depth[5][own] / expected.intrinsics[5, 0, 0]
    assert np.median(error / pixel_m) < 1.0 and (error < 8 * pixel_m).mean() > 0.9


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6, 7], [7, 5, 3, 1], [4, 0, 1, 2], [3]])
def test_dense_tracks_come_back_from_any_anchor(tmp_path: Path, order: list[int]) -> None:
    clip, expected = read_clip(kubric(tmp_path), order, FULL), truth(order[0])
    assert clip.tracking_valid.all() and clip.supervised is None and clip.moving is not None
    np.testing.assert_allclose(clip.tracking_points_world, expected.tracking_points_world[order], atol=2e-3)
    travel = np.linalg.norm(expected.tracking_points_world[order] - expected.tracking_points_world[order[0]], axis=-1).max(axis=0)
    clear = np.abs(travel - 0.01) > 0.002
    np.testing.assert_array_equal(clip.moving[clear], travel[clear] > 0.01)
    assert clip.moving.any() == (len(order) > 1)


def test_foreground_only(tmp_path: Path) -> None:
    labels = write_kubric(tmp_path, "scene")
    clip = read_clip(Kubric(tmp_path).open("scene"), [1, 4], Reading(HEIGHT, WIDTH, foreground_only=True))
    assert clip.supervised is not None
    np.testing.assert_array_equal(clip.supervised, labels[1] > 0)
    np.testing.assert_array_equal(clip.reconstruction_valid, labels[[1, 4]] > 0)


@pytest.mark.parametrize("size", [(18, 32), (27, 48), (54, 96), (36, 36), (16, 64), (48, 27)])
@pytest.mark.parametrize("framing", [Framing(), Framing(0.6, (0.2, 0.9))])
def test_other_sizes_see_the_same_world(tmp_path: Path, size: tuple[int, int], framing: Framing) -> None:
    """Dense tracks of a clip at another size: at the anchor they are its own depth, each where the camera sees it; at other
    times they are what the truth has at a pixel beside, up to how far a pixel reaches.
    """
    clip, expected = read_clip(kubric(tmp_path), [0, 3, 6], Reading(*size), framing), truth()
    assert clip.rgb.shape == (3, *size, 3)
    np.testing.assert_allclose(clip.tracking_points_world[0], clip.reconstruction_points_world[0], atol=1e-5)
    grid = seen_at(clip.tracking_points_world[0], clip.world_from_camera[0], clip.intrinsics[0])
    u, v = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    np.testing.assert_allclose(grid, np.stack([u, v], -1), atol=1e-3)
    before = seen_at(clip.tracking_points_world[0], clip.world_from_camera[0], expected.intrinsics[0])
    errors = []
    for down, right in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        row = np.clip(np.floor(before[..., 1] - 0.5) + down, 0, HEIGHT - 1).astype(int)
        column = np.clip(np.floor(before[..., 0] - 0.5) + right, 0, WIDTH - 1).astype(int)
        errors.append(
            np.linalg.norm(clip.tracking_points_world - expected.tracking_points_world[[0, 3, 6]][:, row, column], axis=-1)
        )
    pixel_m = clip.depth[0] / expected.intrinsics[0, 0, 0]
    assert (np.min(errors, axis=0) < 3 * pixel_m).mean() > 0.98


def test_points_of_a_pixel_the_nearest_is_kept() -> None:
    """Three points on one ray, in every order; the nearest is the one whose values are in the map."""
    intrinsics = np.array([[4.0, 0, 4.0], [0, 4.0, 3.0], [0, 0, 1.0]])
    ray = unproject(np.array([[5.5, 2.5]]), np.ones(1), intrinsics)[0]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]):
        start = ray * np.array([2.0, 3.0, 4.0])[order][:, None]
        points, valid = scatter_tracks(np.stack([start, start + [0, 0, 1.0]]), intrinsics, Reading(6, 8))
        assert valid.sum(axis=(1, 2)).tolist() == [1, 1] and valid[0, 2, 5]
        np.testing.assert_allclose(points[:, 2, 5, 2], [2.0, 3.0])


def test_points_are_kept_by_place_and_range() -> None:
    intrinsics = np.array([[4.0, 0, 4.0], [0, 4.0, 3.0], [0, 0, 1.0]])
    pixels = np.array([[0.5, 0.5], [7.9, 5.9], [8.1, 3.0], [3.0, -0.1], [2.5, 2.5], [4.5, 4.5], [6.5, 1.5], [1.5, 5.5]])
    depth = np.array([2.0, 2.0, 2.0, 2.0, 0.4, 9.5, -2.0, 2.0])
    start = unproject(pixels, depth, intrinsics)
    later = start + 1
    later[0], start[7] = np.nan, np.nan
    points, valid = scatter_tracks(np.stack([start, later]), intrinsics, Reading(6, 8, nearest_m=0.5, farthest_m=9.0))
    assert np.argwhere(valid).tolist() == [[0, 0, 0], [0, 5, 7], [1, 5, 7]]
    assert np.isfinite(points).all()


@cache
def plane_world() -> World:
    return World(frames=6, points=500, intrinsics=np.array([[50.0, 0, 24.0], [0, 50.0, 18.0], [0, 0, 1.0]]))


def plane_sequence(world: World) -> RawSequence:
    """In memory, without the rounding of files."""

    def read_tracks(start: int, stop: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
        return world.points_world[start:stop:step], world.stored_visible[start:stop:step]

    intrinsics = np.tile(world.intrinsics, (world.frames, 1, 1))
    return RawSequence("plane", intrinsics, world.world_from_camera, world.rgb, world.depth, read_tracks)


@settings(deadline=None, max_examples=40)
@given(
    order=st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True),
    size=st.tuples(st.integers(12, 60), st.integers(12, 60)),
    framing=st.builds(Framing, st.floats(0.4, 1.0), st.tuples(st.floats(0, 1), st.floats(0, 1))),
)
def test_any_order_size_and_place_is_exact(order: Sequence[int], size: tuple[int, int], framing: Framing) -> None:
    """Of a moving plane, closed-form: depth lies on it at each frame's time, and each track stays the point that it is."""
    world = plane_world()
    clip = read_clip(plane_sequence(world), order, Reading(*size), framing)
    world_from_anchor = world.world_from_camera[order[0]]
    np.testing.assert_allclose(world_from_anchor @ clip.world_from_camera, world.world_from_camera[list(order)], atol=1e-9)
    tracks = clip.tracking_points_world.astype(float) @ world_from_anchor[:3, :3].T + world_from_anchor[:3, 3]
    known = clip.tracking_valid[0]
    assert (clip.tracking_valid == known).all()
    start = world.points_world[order[0]]
    which = np.linalg.norm(tracks[0][known][:, None] - start, axis=-1).argmin(axis=1)
    assert world.stored_visible[order[0]][which].all() and len(set(which)) == len(which)
    for t, frame in enumerate(order):
        points = clip.reconstruction_points_world[t].astype(float) @ world_from_anchor[:3, :3].T + world_from_anchor[:3, 3]
        assert np.abs(world.on_surface(frame, points)).max() < 5e-5
        np.testing.assert_allclose(tracks[t][known], world.points_world[frame][which], atol=1e-5)
    seen_px = seen_at(clip.tracking_points_world[0][known], np.eye(4), clip.intrinsics[0])
    row, column = np.nonzero(known)
    assert np.abs(seen_px - np.stack([column, row], 1) - 0.5).max(initial=0) < 0.5 + 1e-4


def test_range_of_depth(tmp_path: Path) -> None:
    z = truth().depth[0]
    near, far = np.quantile(z, [0.2, 0.7])
    clip = read_clip(kubric(tmp_path), [0, 1], Reading(HEIGHT, WIDTH, nearest_m=near, farthest_m=far))
    inside = (z > near) & (z < far)
    assert (clip.reconstruction_valid[0] != inside).sum() <= 2  # the two quantiles themselves
    np.testing.assert_array_equal(clip.tracking_valid, np.tile(clip.reconstruction_valid[0], (2, 1, 1)))


def test_a_camera_that_is_not_given_stays(tmp_path: Path) -> None:
    world = plane_world()
    sequence = RawSequence(
        "fixed", np.tile(world.intrinsics, (6, 1, 1)), None, world.rgb, world.depth, plane_sequence(world).read_tracks
    )
    np.testing.assert_array_equal(read_clip(sequence, [2, 4], Reading(36, 48)).world_from_camera, np.tile(np.eye(4), (2, 1, 1)))


def test_what_cannot_be_trained_on() -> None:
    world = plane_world()
    bare = RawSequence("bare", np.tile(world.intrinsics, (6, 1, 1)), None, world.rgb, world.depth)
    with pytest.raises(UserError, match="bare has no depth or no tracks, which training needs"):
        read_clip(bare, [0, 1], FULL)


def test_a_clip_is_its_procedural_truth() -> None:
    """`Clip` un-projects as the generator does."""
    expected: ProceduralClip = truth()
    clip = Clip(
        expected.rgb,
        expected.depth,
        expected.intrinsics,
        expected.world_from_camera,
        expected.tracking_points_world,
        expected.tracking_valid,
        "procedural",
    )
    np.testing.assert_allclose(clip.reconstruction_points_world, expected.reconstruction_points_world, atol=1e-5)
    np.testing.assert_array_equal(clip.reconstruction_valid, expected.reconstruction_valid)

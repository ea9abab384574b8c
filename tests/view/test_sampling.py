import dataclasses
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.io.lazy import LazyArray
from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.render.points import look_at
from st4rtrack.scene import Scene
from st4rtrack.view.sampling import (
    Budget,
    camera_outlines,
    chosen_frames,
    chosen_pixels,
    chosen_tracks,
    decimation,
    frame_cloud,
    moving_mask,
    robust_box,
    start_view,
)
from tests.synthetic_scene import synthetic_scene


def in_front(scene: Scene) -> Scene:
    """The scene with its points, of both branches, on the anchor's rays, 1 to 2 away."""
    height, width = scene.rgb.shape[1:3]
    depth = 1 + np.random.default_rng(1).random((len(scene), height * width))
    pixels = np.broadcast_to(pixel_grid(height, width).reshape(-1, 2), (len(scene), height * width, 2))
    points = unproject(pixels, depth, intrinsics_from_focal(width, height, width)).reshape(len(scene), height, width, 3)
    points = points.astype(np.float32)
    return dataclasses.replace(
        scene,
        tracking=dataclasses.replace(scene.tracking, points_world=points),
        reconstruction=dataclasses.replace(scene.reconstruction, points_world=points.copy()),
    )


@pytest.mark.parametrize("size", [(36, 64), (64, 36), (5, 100), (1, 1)])
@pytest.mark.parametrize("count", [1, 37, 500, 10**6])
def test_pixels_are_an_even_grid_within_the_count(size: tuple[int, int], count: int) -> None:
    scene = synthetic_scene(2, *size)
    pixels = chosen_pixels(scene, count)
    assert 1 <= len(pixels) <= max(1, min(count, size[0] * size[1]))
    assert len(pixels) >= 0.5 * min(count, size[0] * size[1])
    assert len(np.unique(pixels, axis=0)) == len(pixels)
    assert (pixels >= 0).all() and (pixels < size).all()
    for axis in (0, 1):
        steps = np.diff(np.unique(pixels[:, axis]))
        assert not len(steps) or np.ptp(steps) <= 1


def test_frames_hold_the_anchor_and_the_budget() -> None:
    scene = dataclasses.replace(synthetic_scene(50), anchor_index=17)
    frames = chosen_frames(scene, Budget(frames=8))
    assert len(frames) <= 8 and 17 in frames and (np.diff(frames) > 0).all()
    assert chosen_frames(scene, Budget(frames=64)).tolist() == list(range(50))


def test_clouds_are_the_scene_at_those_pixels(tmp_path: Path) -> None:
    scene = synthetic_scene(4, 6, 8)
    assert scene.reconstruction.confidence is not None
    pixels = chosen_pixels(scene, 20)
    row, column = pixels.T
    loaded = load_scene(save_scene(scene, tmp_path / "scene"))
    assert isinstance(loaded.rgb, LazyArray)
    for here in (scene, loaded):
        points, colours, confidence = frame_cloud(here, 3, "reconstruction", pixels)
        assert np.array_equal(points, scene.reconstruction.points_world[3][row, column])
        assert np.array_equal(colours, scene.rgb[3][row, column])
        assert np.array_equal(confidence, scene.reconstruction.confidence[3][row, column])
        points, colours, _ = frame_cloud(here, 3, "tracking", pixels)
        assert np.array_equal(points, scene.tracking.points_world[3][row, column])
        assert np.array_equal(colours, scene.rgb[scene.anchor_index][row, column])


def test_one_frame_is_read_at_a_time() -> None:
    scene = synthetic_scene(40, 6, 8)
    asked: list[int] = []

    class Watched:
        shape = scene.rgb.shape

        def __getitem__(self, key: int) -> np.ndarray:
            asked.append(int(key))  # a slice, or a whole array, is a TypeError
            return scene.rgb[key]

    watched = dataclasses.replace(scene, rgb=Watched())
    frame_cloud(watched, 30, "reconstruction", chosen_pixels(watched, 10))
    start_view(watched)
    assert 30 in asked


def test_unknown_points_are_nan_and_confidence_has_a_stand_in() -> None:
    scene = synthetic_scene(3, 6, 8)
    scene.reconstruction.points_world[1, 0, 0, 2] = np.inf
    scene.reconstruction.confidence = None
    points, _, confidence = frame_cloud(scene, 1, "reconstruction", chosen_pixels(scene, 48))
    assert np.isnan(points[0]).all() and np.isfinite(points[1:]).all()
    assert np.array_equal(confidence, np.ones(48))


def test_tracks_prefer_what_moves_and_stay_within_the_count() -> None:
    scene = synthetic_scene(2, 60, 80)
    moving = np.zeros((60, 80), bool)
    moving[10:30, 20:50] = True
    pixels = chosen_pixels(scene, 4800)
    chosen = chosen_tracks(moving, pixels, 200)
    assert len(np.unique(chosen)) == len(chosen) and 120 <= len(chosen) <= 200
    share = moving[tuple(pixels[chosen].T)].mean()
    assert 0.6 < share < 0.85
    still = chosen_tracks(np.zeros((60, 80), bool), pixels, 200)
    assert 120 <= len(still) <= 200
    quarters = np.histogram2d(*pixels[still].T, bins=2, range=[[0, 60], [0, 80]])[0]
    assert quarters.min() > 0.15 * len(still)  # spread over the image


def test_moving_is_what_the_scene_says() -> None:
    scene = synthetic_scene()
    assert scene.tracking.moving is not None and np.array_equal(moving_mask(scene), scene.tracking.moving)


@pytest.mark.parametrize("aspect", [0.5, 1.0, 1.8])
def test_start_view_shows_nearly_all_and_fills_the_window(aspect: float) -> None:
    scene = in_front(synthetic_scene(4, 36, 64))
    view = start_view(scene, aspect=aspect)
    points = scene.tracking.points_world.reshape(-1, 3).astype(float)
    in_view = transform_points(look_at(view.eye, view.target, view.up), points)
    half = np.tan(np.deg2rad(view.fov_deg) / 2) * np.array([aspect, 1.0])
    placed = in_view[:, :2] / in_view[:, 2:] / half
    assert (in_view[:, 2] > 0).all()
    assert (np.abs(placed) <= 1).all(axis=1).mean() > 0.95
    cameras = camera_outlines(scene, *robust_box(points, slack=0.0))
    assert len(cameras) == 5 * len(scene)
    outlines = transform_points(look_at(view.eye, view.target, view.up), cameras)
    drawn = outlines[:, :2] / outlines[:, 2:] / half
    assert (outlines[:, 2] > 0).all() and (np.abs(drawn) <= 1).all()
    assert max(np.abs(placed).max(), np.abs(drawn).max()) > 0.85
    assert view.eye[1] < view.target[1]  # raised: y points down
    assert (view.target - view.eye)[2] > 0  # looking where the anchor looks


def test_start_view_of_nothing_known_is_finite() -> None:
    scene = synthetic_scene()
    scene.tracking.points_world[:] = np.nan
    view = start_view(scene)
    assert np.isfinite([view.eye, view.target, view.up]).all()


def test_decimation_says_what_is_left_out() -> None:
    scene = synthetic_scene(12, 30, 40)
    assert decimation(scene, Budget()) == "Shows all 12 frames, with all 1200 points of each frame."
    assert (
        decimation(scene, Budget(frames=6, points_per_frame=300))
        == "Shows 6 of 12 frames, with 300 of 1200 points of each frame."
    )

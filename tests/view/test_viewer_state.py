"""The viewer without a browser: time line, layers, picking, placement, state."""

import numpy as np
import pytest

from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.scene import Scene
from st4rtrack.view.layers import OUT_OF_SIGHT, SceneLayers, Settings
from st4rtrack.view.placement import (
    WINDOW_ASPECT,
    PointPath,
    Ray,
    camera_view,
    picture_half_size,
    pixel_on_picture,
    pixel_on_points,
    place,
    read_path,
)
from st4rtrack.view.sampling import StartView
from st4rtrack.view.state import ALL, MOST_PICKED, Timeline, ViewState, nearest_frame, path_table
from tests.synthetic_scene import synthetic_scene

HEIGHT, WIDTH, FRAMES = 12, 16, 5
STEP = 0.1
"""World units per frame, to the right, of the left half."""


def wall_scene() -> Scene:
    """A wall at depth 2 whose left half slides to the right; the cameras stand still; 10 frames per second."""
    scene = synthetic_scene(FRAMES, HEIGHT, WIDTH)
    scene.anchor_index = 0
    scene.time_s = np.arange(FRAMES) / 10
    scene.cameras.solved = np.ones(FRAMES, bool)
    scene.cameras.world_from_camera = np.tile(np.eye(4), (FRAMES, 1, 1))
    grid = pixel_grid(HEIGHT, WIDTH)
    wall = unproject(grid, np.full((HEIGHT, WIDTH), 2.0), scene.cameras.intrinsics[0])
    moving = grid[..., 0] < WIDTH / 2
    slide = np.arange(FRAMES)[:, None, None, None] * moving[..., None] * np.array([STEP, 0, 0])
    scene.tracking.points_world = (wall + slide).astype(np.float32)
    scene.reconstruction.points_world = np.tile(wall, (FRAMES, 1, 1, 1)).astype(np.float32)
    scene.tracking.confidence = np.broadcast_to(np.linspace(1, 2, HEIGHT)[:, None], (FRAMES, HEIGHT, WIDTH)).astype(np.float32)
    scene.tracking.moving = moving
    return scene


@pytest.fixture(scope="module")
def layers() -> SceneLayers:
    return SceneLayers(wall_scene(), "wall")


ALL_POINTS = Settings(points=HEIGHT * WIDTH, least_sure=0.0)


def shown(points: np.ndarray) -> np.ndarray:
    return points[:, 0] < OUT_OF_SIGHT / 2


class TestTimeline:
    def test_plays_at_the_speed_of_the_source_and_starts_again(self) -> None:
        timeline = Timeline(np.array([7.0, 7.1, 7.3, 7.4]))  # of uneven length
        timeline.play(True)
        frames = []
        for tenth in range(6):
            timeline.advance(100 + tenth * 0.1001)
            frames.append(timeline.frame)
        assert frames == [0, 1, 1, 2, 3, 0]

    def test_slow_drawing_skips_frames_and_twice_the_speed_goes_twice_as_far(self) -> None:
        for speed, frame in ((1.0, 7), (2.0, 15)):
            timeline = Timeline(np.arange(30) / 10, speed=speed)
            timeline.play(True)
            timeline.advance(0.0)
            timeline.advance(0.76)
            assert timeline.frame == frame

    def test_a_pause_is_not_made_up_for(self) -> None:
        timeline = Timeline(np.arange(10) / 10)
        timeline.play(True)
        timeline.advance(0.0)
        timeline.play(False)
        timeline.advance(50.0)
        timeline.play(True)
        timeline.advance(100.0)
        assert timeline.frame == 0

    def test_steps_stop_and_go_round(self) -> None:
        timeline = Timeline(np.arange(3) / 10)
        timeline.play(True)
        timeline.step(-1)
        assert (timeline.frame, timeline.playing) == (2, False)
        timeline.step(1)
        assert timeline.frame == 0

    def test_seek_stays_inside(self) -> None:
        timeline = Timeline(np.arange(3) / 10)
        timeline.seek(99)
        assert timeline.frame == 2
        timeline.seek(-5)
        assert timeline.frame == 0

    def test_one_frame_or_no_clock_still_plays(self) -> None:
        for times in (np.zeros(1), np.zeros(4)):
            timeline = Timeline(times)
            timeline.play(True)
            timeline.advance(0.0)
            timeline.advance(1.0)
            assert 0 <= timeline.frame < len(times)

    def test_another_scene_shows_the_frame_of_the_same_time(self) -> None:
        assert nearest_frame(np.array([5.0, 5.2, 5.4]), 0.29) == 1
        assert nearest_frame(np.array([5.0, 5.2, 5.4]), 9.0) == 2


class TestLayers:
    def test_all_points_are_there_in_their_colours(self, layers: SceneLayers) -> None:
        cloud = layers.cloud(2, "tracking", ALL_POINTS)
        np.testing.assert_allclose(cloud.points, layers.scene.tracking.points_world[2].reshape(-1, 3))
        np.testing.assert_array_equal(cloud.colours, layers.scene.rgb[0].reshape(-1, 3))
        np.testing.assert_array_equal(layers.cloud(2, "reconstruction", ALL_POINTS).colours, layers.scene.rgb[2].reshape(-1, 3))

    def test_the_least_sure_are_hidden_and_the_number_stays(self, layers: SceneLayers) -> None:
        cloud = layers.cloud(0, "tracking", Settings(points=HEIGHT * WIDTH, least_sure=0.5))
        assert len(cloud.points) == HEIGHT * WIDTH
        row = layers.pixels(HEIGHT * WIDTH)[:, 0]
        np.testing.assert_array_equal(shown(cloud.points), row >= HEIGHT // 2)  # confidence grows downwards

    def test_moving_only(self, layers: SceneLayers) -> None:
        cloud = layers.cloud(0, "tracking", Settings(points=HEIGHT * WIDTH, least_sure=0, moving_only=True))
        np.testing.assert_array_equal(shown(cloud.points), layers.moving.ravel())

    def test_tails_end_where_the_points_are_and_have_the_asked_length(self, layers: SceneLayers) -> None:
        tails = layers.tails(4, Settings(points=HEIGHT * WIDTH, least_sure=0, moving_only=True, tail=3, num_tracks=20))
        heads = tails.heads.points
        assert len(tails.segments) == 3 * len(heads) > 0
        last = tails.segments.reshape(3, len(heads), 2, 3)[-1]
        np.testing.assert_allclose(last[:, 1], heads)
        np.testing.assert_allclose(last[:, 1] - last[:, 0], np.tile([STEP, 0, 0], (len(heads), 1)), atol=1e-6)

    def test_tails_are_empty_at_the_start(self, layers: SceneLayers) -> None:
        assert layers.tails(0, ALL_POINTS).segments.shape == (0, 2, 3)

    def test_unknown_points_are_hidden(self) -> None:
        scene = wall_scene()
        scene.tracking.points_world[3, 0, 0] = np.nan
        scene.reconstruction.points_world[3, 0, 0] = np.inf
        layers = SceneLayers(scene, "holes")
        for branch in ("tracking", "reconstruction"):
            points = layers.cloud(3, branch, Settings(points=HEIGHT * WIDTH, least_sure=0)).points
            assert np.isfinite(points).all() and not shown(points)[0] and shown(points)[1:].all()
        assert np.isfinite(layers.tails(4, ALL_POINTS).segments).all()

    def test_frames_are_read_one_at_a_time_and_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        layers, read = SceneLayers(wall_scene(), "wall"), []
        from st4rtrack.view import layers as module

        inner = module.frame_cloud
        monkeypatch.setattr(
            module, "frame_cloud", lambda scene, frame, *rest: (read.append(frame), inner(scene, frame, *rest))[1]
        )
        for _ in range(3):
            layers.cloud(2, "tracking", ALL_POINTS)
        assert read == [2]


class TestPicking:
    def test_a_ray_through_a_pixel_finds_it_where_it_has_gone(self, layers: SceneLayers) -> None:
        for frame in (0, 4):
            point = layers.scene.tracking.points_world[frame, 7, 2].astype(np.float64)
            eye = np.array([0.3, -0.5, -1.0])
            hit = pixel_on_points(layers.scene, frame, Ray(eye, (point - eye) / np.linalg.norm(point - eye)))
            assert hit is not None
            np.testing.assert_array_equal(hit[0], [2.5, 7.5])
            assert hit[1] == pytest.approx(np.linalg.norm(point - eye))

    def test_the_front_hides_what_is_behind(self) -> None:
        scene = wall_scene()
        scene.tracking.points_world[0, 3, 4] = 0.5 * scene.tracking.points_world[0, 5, 9]  # on the same ray, nearer
        direction = scene.tracking.points_world[0, 5, 9].astype(np.float64)
        hit = pixel_on_points(scene, 0, Ray(np.zeros(3), direction / np.linalg.norm(direction)))
        assert hit is not None
        np.testing.assert_array_equal(hit[0], [4.5, 3.5])

    def test_a_miss_and_what_lies_behind_the_eye(self, layers: SceneLayers) -> None:
        for direction in (np.array([0, -1.0, 0]), np.array([0, 0, -1.0])):
            assert pixel_on_points(layers.scene, 0, Ray(np.zeros(3), direction)) is None

    def test_a_pixel_of_the_anchors_picture(self, layers: SceneLayers) -> None:
        half = picture_half_size(layers.scene, 0)
        corner = 0.3 * np.array([-half[0], -half[1], 1.0])
        eye = np.array([0.05, 0.02, -0.4])
        inside = corner + 0.3 * np.array([2 * half[0] * 3.25 / WIDTH, 2 * half[1] * 4.75 / HEIGHT, 0])
        hit = pixel_on_picture(Ray(eye, (inside - eye) / np.linalg.norm(inside - eye)), np.eye(4), half, 0.3, (HEIGHT, WIDTH))
        assert hit is not None
        np.testing.assert_allclose(hit[0], [3.25, 4.75])
        beside = corner - np.array([0.01, 0, 0])
        assert pixel_on_picture(Ray(eye, beside - eye), np.eye(4), half, 0.3, (HEIGHT, WIDTH)) is None

    def test_length_and_speed_of_a_path(self, layers: SceneLayers) -> None:
        path = read_path(layers.scene, np.array([2.2, 7.9]))
        assert path.length == pytest.approx(STEP * (FRAMES - 1), rel=1e-5)
        assert path.displacement == pytest.approx(STEP * (FRAMES - 1), rel=1e-5)
        np.testing.assert_allclose(path.speed, STEP * 10, rtol=1e-5)  # 10 frames per second
        np.testing.assert_allclose(path.query_source_px, layers.scene.pixel_map.source_from_network(np.array([2.5, 7.5])))

    def test_gaps_of_a_path_have_no_speed(self) -> None:
        points = np.array([[0, 0, 0], [1, 0, 0], [np.nan] * 3, [3, 0, 0], [4, 0, 0.0]])
        path = PointPath((0, 0), points, np.arange(5.0))
        assert path.length == 2 and path.displacement == 4
        np.testing.assert_array_equal(np.isnan(path.speed), [False, True, False, True, False])


class TestPlacement:
    def test_scenes_stand_apart_and_are_all_in_the_view(self) -> None:
        big = wall_scene()
        big.tracking.points_world = big.tracking.points_world * 7
        big.reconstruction.points_world = big.reconstruction.points_world * 7
        scenes = [SceneLayers(wall_scene(), "a"), SceneLayers(big, "b")]
        placements, view = place(scenes, [0, 1])
        assert placements[1].scale == pytest.approx(1 / 7) and placements[1].rescaled and not placements[0].rescaled
        a, b = (placements[k].points(scenes[k].sure_points) for k in (0, 1))
        assert a[:, 0].max() < b[:, 0].min()
        assert inside(np.concatenate([a, b]), view, WINDOW_ASPECT).mean() > 0.97

    def test_one_alone_is_where_it_was(self, layers: SceneLayers) -> None:
        placements, view = place([layers], [0])
        np.testing.assert_array_equal(placements[0].points(np.ones((1, 3), np.float32)), np.ones((1, 3)))
        assert inside(layers.sure_points, view, WINDOW_ASPECT).mean() > 0.97

    @pytest.mark.parametrize("aspect", [0.5, 1.0, 3.0])
    def test_looking_through_a_camera_shows_its_whole_picture(self, layers: SceneLayers, aspect: float) -> None:
        placements, _ = place([layers], [0])
        view = camera_view(layers.scene, 2, placements[0], aspect)
        corners = np.array([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)]) * (*picture_half_size(layers.scene, 2), 1)
        assert inside(0.999 * corners + [0, 0, 1e-3], view, aspect).all()
        assert not inside(1.02 * corners - [0, 0, 0.02], view, aspect).any()

    def test_a_ray_of_the_window_in_the_scenes_own_world(self) -> None:
        from st4rtrack.view.placement import Placement

        placement = Placement(0.5, (3.0, 0.0, 0.0))
        ray = placement.ray(placement.points(np.array([1.0, 2.0, 3.0])), np.array([0, 0, 4.0]))
        np.testing.assert_allclose(ray.origin, [1, 2, 3])
        np.testing.assert_allclose(ray.direction, [0, 0, 1])


def inside(points: np.ndarray, view: StartView, aspect: float) -> np.ndarray:
    """[points] bool: in a picture of this width / height."""
    from st4rtrack.geometry.transforms import transform_points
    from st4rtrack.render.points import look_at

    seen = transform_points(look_at(view.eye, view.target, view.up), points)
    half = np.tan(np.deg2rad(view.fov_deg) / 2) * np.array([aspect, 1.0])
    return (seen[:, 2] > 0) & (np.abs(seen[:, :2] / seen[:, 2:]) <= half).all(axis=1)


class TestState:
    def test_equal_moments_need_no_drawing_and_every_change_makes_another(self, layers: SceneLayers) -> None:
        state = ViewState([layers])
        before = state.advance(0.0)
        assert state.advance(5.0) == before
        path = read_path(layers.scene, np.array([1.0, 1.0]))
        changes = (
            lambda: state.seek(3),
            lambda: state.set(tail=5),
            lambda: state.look_through(True),
            lambda: state.add_path(0, path),
            state.clear_paths,
        )
        for change in changes:
            state.changed.clear()
            change()
            after = state.advance(6.0)
            assert state.changed.is_set() and after != before
            before = after

    def test_choosing_one_scene_of_two(self, layers: SceneLayers) -> None:
        other = SceneLayers(wall_scene(), "other")
        state = ViewState([layers, other])
        assert [which for which, _ in state.advance(0.0).frames] == [0, 1]
        state.choose("other")
        assert [which for which, _ in state.advance(0.0).frames] == [1]
        assert state.placements[1].offset == (0.0, 0.0, 0.0)
        state.choose(ALL)
        assert state.placements[1].offset[0] > 0

    def test_a_click_on_the_second_scene_is_of_the_second(self, layers: SceneLayers) -> None:
        state = ViewState([layers, SceneLayers(wall_scene(), "other")])
        state.set(least_sure=0.0)
        target = state.placements[1].points(layers.scene.tracking.points_world[0, 6, 11].astype(np.float64))
        eye = target + [0.0, 0.0, -3.0]
        hit = state.hit(eye, target - eye, 0.0)
        assert hit is not None and hit[0] == 1
        np.testing.assert_array_equal(hit[1], [11.5, 6.5])

    def test_only_the_last_points_are_kept(self, layers: SceneLayers) -> None:
        state = ViewState([layers])
        for column in range(MOST_PICKED + 2):
            state.add_path(0, read_path(layers.scene, np.array([column + 0.5, 0.5])))
        assert len(state.paths[0]) == MOST_PICKED
        table = path_table(state)
        assert table.count("\n") == MOST_PICKED + 1
        assert "| 0.4 | 0.4 | 1 | 1 |" in table  # 4 steps of 0.1; 0.1 in 0.1 s

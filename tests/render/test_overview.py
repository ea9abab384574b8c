"""The overview picture: that it shows what the scene says, and survives any scene."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from st4rtrack.geometry.camera import pixel_grid, project, unproject
from st4rtrack.render import clouds, draw, overview, sample
from st4rtrack.render.overview import render_overview, write_overview
from st4rtrack.render.points import View, fit_orbit, look_at, splat
from st4rtrack.render.rows import draw_tracks, identity_colours, plan_layout
from st4rtrack.scene import Scene
from st4rtrack.types import Cameras, PixelMap, Pointmap, TrackingOverTime, UserError
from tests.render.procedural_scene import procedural_scene
from tests.synthetic_scene import synthetic_scene

WIDTH = 800


@pytest.fixture(scope="module")
def scene() -> Scene:
    return procedural_scene(5, num_frames=7, height=48, width=64, anchor_index=2, motion=1.5)


def _view(height: int = 20, width: int = 30, focal_px: float = 20.0) -> View:
    return View(np.eye(4), np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]]), height, width)


def _sideways_scene(num_frames: int = 5, height: int = 40, width: int = 60) -> Scene:
    """A wall two units away that moves by three pixels a frame to the right; the camera stands."""
    intrinsics = np.array([[50.0, 0, width / 2], [0, 50.0, height / 2], [0, 0, 1]])
    wall = unproject(pixel_grid(height, width).reshape(-1, 2), np.full(height * width, 2.0), intrinsics).reshape(height, width, 3)
    steps = np.arange(num_frames)[:, None, None, None] * np.array([3 * 2.0 / 50.0, 0, 0])
    image = (num_frames, height, width)
    return Scene(
        rgb=np.full((*image, 3), 128, np.uint8),
        time_s=np.arange(num_frames) / 10,
        tracking=TrackingOverTime(
            (wall + steps).astype(np.float32),
            np.ones(image, np.float32),
            visible=np.ones(image, bool),
            moving=np.ones(image[1:], bool),
        ),
        reconstruction=Pointmap(np.repeat(wall[None], num_frames, 0).astype(np.float32), None),
        cameras=Cameras(np.tile(np.eye(4), (num_frames, 1, 1)), np.tile(intrinsics, (num_frames, 1, 1))),
        anchor_index=0,
        pixel_map=PixelMap(),
        source_size=(height, width),
    )


def test_picture_has_all_its_parts(scene: Scene) -> None:
    picture = render_overview(scene, width=WIDTH)
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (WIDTH, 3)
    layout = plan_layout(len(scene), 48, 64, WIDTH)
    top = layout.margin // 2 + round(1.1 * layout.heading)
    for row in range(4):
        for k in range(layout.shown):
            left = layout.margin + k * layout.pitch
            first = top + row * (layout.heading + layout.cell_height) + layout.heading
            cell = picture[first : first + layout.cell_height, left : left + layout.cell_width]
            assert cell.std(axis=(0, 1)).min() > 3, (row, k)
    panels = picture[top + 4 * (layout.heading + layout.cell_height) + layout.heading : -layout.heading]
    for half in np.array_split(panels, 2, axis=1):
        assert (np.abs(half.astype(int) - draw.PANEL).max(axis=-1) > 12).mean() > 0.15


def test_scene_is_not_changed(scene: Scene) -> None:
    before = [np.array(scene.rgb), np.array(scene.reconstruction.points_world), np.array(scene.tracking.points_world)]
    render_overview(scene, width=WIDTH)
    after = (scene.rgb, scene.reconstruction.points_world, scene.tracking.points_world)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(("num_frames", "count", "anchor"), [(1, 6, 0), (2, 6, 1), (7, 6, 3), (400, 6, 399), (400, 8, 123)])
def test_chosen_frames_hold_the_anchor(num_frames: int, count: int, anchor: int) -> None:
    index = sample.choose_frames(num_frames, count, anchor)
    assert anchor in index
    assert len(index) in {min(num_frames, count), min(num_frames, count) - 1}
    assert (np.diff(index) > 0).all()
    assert 0 <= index[0] <= index[-1] < num_frames


def test_depth_is_that_of_each_frames_own_camera() -> None:
    scene = procedural_scene(0, num_frames=3, height=24, width=32, anchor_index=1, motion=1.5)
    shown = sample.read_frames(scene, np.arange(3))
    for t in range(3):
        homogeneous = np.concatenate([scene.reconstruction.points_world[t], np.ones((24, 32, 1))], axis=-1)
        z = (homogeneous @ np.linalg.inv(scene.cameras.world_from_camera[t]).T)[..., 2]
        np.testing.assert_allclose(shown.depth[t], z, rtol=1e-4)
        back_px = project(unproject(pixel_grid(24, 32), shown.depth[t], scene.cameras.intrinsics[t]), scene.cameras.intrinsics[t])
        np.testing.assert_allclose(back_px, pixel_grid(24, 32), atol=1e-4)


def test_static_tracks_of_truth_stay_on_their_content() -> None:
    """Where a point is seen, the reconstruction of that frame has the same point at the pixel it projects to."""
    scene = procedural_scene(5, num_frames=5, height=96, width=128, anchor_index=0)
    shown = np.arange(5)
    tracks = sample.read_tracks(scene, shown, sample.moving_pixels(scene, shown), spacing_px=6)
    assert tracks.moving.any()
    assert not tracks.moving.all()
    for j, t in enumerate(tracks.frame.tolist()):
        seen = tracks.visible[j]
        column, row = np.floor(tracks.pixels_px[j, seen]).astype(int).T
        surface = scene.reconstruction.points_world[t][row, column]
        apart = np.linalg.norm(surface - tracks.points_world[j, seen], axis=1)
        assert np.median(apart / np.linalg.norm(surface, axis=1)) < 0.01


def test_tracks_are_drawn_at_the_projected_pixels() -> None:
    scene = _sideways_scene()
    tracks = sample.read_tracks(scene, np.arange(5), np.ones((40, 60), bool), spacing_px=12)
    np.testing.assert_allclose(tracks.pixels_px[4], tracks.query_px + np.array([12.0, 0.0]), atol=1e-4)
    colours = identity_colours(tracks.query_px)
    picture = draw_tracks(scene.rgb[4], tracks, colours, 4, 400, 600)
    inside = np.flatnonzero((tracks.query_px[:, 0] + 12 < 59) & (tracks.query_px[:, 1] > 1) & (tracks.query_px[:, 1] < 39))
    assert len(inside) > 4
    for k in inside:
        u, v = 10 * tracks.query_px[k] + np.array([120, 0])
        head, tail, beside = picture[int(v), int(u)], picture[int(v), int(u) - 25], picture[int(v) - 9, int(u)]
        np.testing.assert_allclose(head, colours[k], atol=4)
        assert np.ptp(tail.astype(int)) > 40, "the way of the last frame leads to the left"
        assert np.ptp(beside.astype(int)) < 10
    first = draw_tracks(scene.rgb[0], tracks, colours, 0, 400, 600)
    assert np.ptp(first[int(v), int(u)].astype(int)) < 10, "before it has moved the point is not there"


def test_hidden_points_are_rings_and_points_behind_the_camera_are_left_out() -> None:
    scene = _sideways_scene(1)
    tracks = sample.read_tracks(scene, np.arange(1), np.ones((40, 60), bool), spacing_px=12)
    colours = np.full((len(tracks.query_px), 3), (255, 0, 0), np.uint8)
    empty = draw_tracks(scene.rgb[0], replace(tracks, pixels_px=np.full_like(tracks.pixels_px, np.nan)), colours, 0, 400, 600)
    assert (empty == empty[0, 0]).all()
    hidden = draw_tracks(scene.rgb[0], replace(tracks, visible=np.zeros_like(tracks.visible)), colours, 0, 400, 600)
    u, v = (10 * tracks.query_px[0]).astype(int)
    assert np.ptp(hidden[v, u].astype(int)) < 10
    assert (hidden != empty).any(axis=-1)[v - 6 : v + 7, u - 6 : u + 7].any()
    scene.tracking.points_world[..., 2] *= -1
    assert np.isnan(sample.read_tracks(scene, np.arange(1), np.ones((40, 60), bool), spacing_px=12).pixels_px).all()


def test_near_point_wins_in_any_order() -> None:
    view = _view()
    points = np.array([[0, 0, 4.0], [0, 0, 2.0], [0, 0, 3.0], [0, 0, -1.0], [np.nan, 0, 1.0]])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9], [9, 9, 9]], np.uint8)
    for order in (np.arange(5), np.arange(5)[::-1], np.array([1, 4, 0, 3, 2])):
        image, depth = splat(view, points[order], colours[order], 0.8, background=(1, 2, 3))
        assert tuple(image[10, 15]) == (0, 255, 0)
        assert depth[10, 15] == 2.0
        assert tuple(image[0, 0]) == (1, 2, 3)
        assert np.isinf(depth[0, 0])
    assert not (image == 9).any()


def test_nearer_points_are_larger() -> None:
    def area(z: float) -> int:
        return int(
            np.isfinite(splat(_view(), np.array([[0, 0, z]]), np.zeros((1, 3), np.uint8), 0.5, background=(0, 0, 0))[1]).sum()
        )

    assert area(1.0) > area(3.0) >= 1
    assert area(1000.0) == 1


def test_splat_hits_the_projected_pixel() -> None:
    image, _ = splat(_view(), np.array([[0.5, -0.25, 2.0]]), np.array([[200, 100, 50]], np.uint8), 0.0, background=(0, 0, 0))
    row, column = np.argwhere(image.any(axis=-1))[0]
    assert (row, column) == (int(10 - 0.25 / 2 * 20), int(15 + 0.5 / 2 * 20))


def test_nothing_to_splat() -> None:
    image, depth = splat(_view(), np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), background=(7, 7, 7))
    assert (image == 7).all()
    assert np.isinf(depth).all()


@pytest.mark.parametrize("size", [(200, 300), (300, 120)])
@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (35, 25), (-40, 60), (0, 90)])
def test_second_viewpoint_holds_everything(size: tuple[int, int], azimuth: float, elevation: float) -> None:
    random = np.random.default_rng(0)
    points = random.uniform([-3, -1, 2], [4, 1, 9], (3000, 3))
    cameras = np.tile(np.eye(4), (5, 1, 1))
    cameras[:, 0, 3] = np.linspace(-2, 2, 5)
    view = fit_orbit(
        points, cameras, size, azimuths_deg=(azimuth,), elevation_deg=elevation, must_see_world=cameras[:, :3, 3]
    ).view(azimuth)
    for what, share in ((points, 0.97), (cameras[:, :3, 3], 1.0)):
        pixels, depth = view.project(what)
        inside = (pixels >= 0).all(axis=1) & (pixels <= (size[1], size[0])).all(axis=1) & (depth > 0)
        assert inside.mean() >= share
    eye = np.linalg.inv(view.camera_from_world)[:3, 3]
    if azimuth and elevation:
        assert eye[1] < -1, "raised: y points down"
        assert np.sign(eye[0]) == np.sign(azimuth)


def test_look_at_points_there() -> None:
    camera_from_world = look_at(np.array([1.0, -2, 0]), np.array([1.0, 0, 5]), np.array([0.0, -1, 0]))
    target = camera_from_world @ [1, 0, 5, 1]
    np.testing.assert_allclose(target[:2], 0, atol=1e-12)
    assert target[2] > 0
    np.testing.assert_allclose(np.linalg.det(camera_from_world[:3, :3]), 1)
    assert (camera_from_world @ [1, -1, 5, 1])[1] < 0, "what is higher is higher in the picture"


def test_least_sure_and_edge_points_are_left_out(scene: Scene) -> None:
    shown = sample.read_frames(scene, np.arange(len(scene)))
    assert shown.confidence is not None
    assert 0.75 < shown.sure.mean() < 0.85
    equal = replace(shown, display_confidence=np.ones_like(shown.confidence))
    assert equal.sure.all()
    step = np.zeros((20, 40, 3), np.float32)
    step[..., :2] = pixel_grid(20, 40) - (20, 10)
    step[..., 2] = np.where(np.arange(40) < 20, 40, 400)
    step[..., :2] *= step[..., 2:] / 40
    cloud = clouds.surface_cloud(step, np.zeros((20, 40, 3), np.uint8), np.ones((20, 40), bool), np.eye(4), 40.0, 1)
    columns = np.unique(np.round(cloud.points_world[:, 0] / cloud.points_world[:, 2] * 40 + 19.5).astype(int))
    assert {19, 20}.isdisjoint(columns)
    assert len(columns) > 30


def _spoiled(scene: Scene, what: str) -> Scene:
    """A copy in which something is not as it should be."""
    tracking, surface, cameras = scene.tracking, scene.reconstruction, scene.cameras
    points, moved = np.array(surface.points_world), np.array(tracking.points_world)
    if what == "unknown":
        return replace(
            scene,
            tracking=replace(tracking, confidence=None, visible=None, moving=None),
            reconstruction=replace(surface, confidence=None),
            cameras=replace(cameras, solved=None),
            info={},
        )
    if what == "odd info":
        return replace(scene, info={"model": None, "source": "x.mp4", "results": 3})
    if what == "some not finite":
        points[:, ::3], moved[:, :, ::4], points[0, 0] = np.nan, np.inf, np.inf
    elif what == "nothing finite":
        points[:], moved[:] = np.nan, np.nan
    elif what == "all equal":
        points[:], moved[:] = (0, 0, 1), (0, 0, 1)
    elif what == "behind":
        points, moved = -points, -moved
    elif what == "huge":
        points, moved = 1e30 * points, 1e30 * moved
    elif what == "all hidden, none moves":
        shape = tracking.visible.shape
        return replace(scene, tracking=replace(tracking, visible=np.zeros(shape, bool), moving=np.zeros(shape[1:], bool)))
    elif what == "camera far away":
        world_from_camera = np.array(cameras.world_from_camera)
        world_from_camera[-1, :3, 3] = 1e6
        return replace(scene, cameras=replace(cameras, world_from_camera=world_from_camera, solved=np.arange(len(scene)) < 3))
    elif what == "valid":
        valid = np.random.default_rng(0).random(points.shape[:3]) < 0.5
        return replace(scene, reconstruction=replace(surface, valid=valid), tracking=replace(tracking, valid=valid))
    return replace(scene, tracking=replace(tracking, points_world=moved), reconstruction=replace(surface, points_world=points))


SPOILED = (
    "unknown",
    "odd info",
    "some not finite",
    "nothing finite",
    "all equal",
    "behind",
    "huge",
    "all hidden, none moves",
    "camera far away",
    "valid",
)


@pytest.mark.parametrize("what", SPOILED)
def test_any_scene_gives_a_picture(scene: Scene, what: str) -> None:
    picture = render_overview(_spoiled(scene, what), width=600)
    assert picture.shape[1] == 600
    assert picture.std() > 5


@pytest.mark.parametrize(
    ("frames", "height", "width"), [(1, 24, 32), (2, 32, 32), (3, 64, 36), (9, 16, 64), (1, 1, 1), (4, 8, 80)]
)
def test_any_shape_gives_a_picture(frames: int, height: int, width: int) -> None:
    picture = render_overview(synthetic_scene(frames, height, width), width=600)
    assert picture.shape[1] == 600
    assert picture.shape[0] < 4000


class SpyArray:
    """Gives single frames only, as an array on disk should be read; counts them."""

    def __init__(self, frame: Any, num_frames: int) -> None:
        self._frame = frame
        self.shape = (num_frames, *frame(0).shape)
        self.read: set[int] = set()

    def __getitem__(self, key: Any) -> np.ndarray:
        assert isinstance(key, int | np.integer), f"asked for {key}, not for one frame"
        self.read.add(int(key))
        return self._frame(int(key))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise AssertionError("the whole array was read")


def test_long_videos_are_read_frame_by_frame(scene: Scene) -> None:
    count, length = 400, len(scene)

    def lazy(values: np.ndarray) -> SpyArray:
        return SpyArray(lambda t: values[t % length], count)

    tracking, surface = scene.tracking, scene.reconstruction
    rgb, tracked, reconstructed = lazy(scene.rgb), lazy(tracking.points_world), lazy(surface.points_world)
    around = np.arange(count) % length
    long = replace(
        scene,
        rgb=rgb,
        time_s=np.arange(count) / 10,
        tracking=TrackingOverTime(tracked, lazy(tracking.confidence), visible=lazy(tracking.visible), moving=tracking.moving),
        reconstruction=Pointmap(reconstructed, lazy(surface.confidence)),
        cameras=Cameras(scene.cameras.world_from_camera[around], scene.cameras.intrinsics[around]),
    )
    assert render_overview(long, width=600).std() > 5
    assert len(rgb.read) <= 8
    assert len(reconstructed.read) <= 8
    assert len(tracked.read) <= 130


def test_caption_says_what_is_known(scene: Scene) -> None:
    shown = sample.read_frames(scene, np.arange(len(scene)))
    line = " ".join(overview.caption_parts(scene, shown, np.asarray(scene.tracking.moving)))
    for part in ("model tiny", "7 frames", "64 x 48 pixels", "anchor: frame 2", "% dynamic", "12.3 s"):
        assert part in line
    bare = replace(scene, info={})
    assert "model" not in " ".join(overview.caption_parts(bare, shown, np.asarray(scene.tracking.moving)))


def test_moving_points_are_found_where_the_scene_does_not_say(scene: Scene) -> None:
    """An object that goes through a standing scene."""
    still = np.repeat(np.asarray(scene.tracking.points_world)[2][None], 3, axis=0)
    still[1:, 10:20, 10:20, 0] += np.array([0.5, 1.0])[:, None, None]
    unknown = replace(scene, tracking=TrackingOverTime(still, None), anchor_index=0)
    found = sample.moving_pixels(unknown, np.arange(3))
    assert found[10:20, 10:20].mean() > 0.8
    assert found.sum() == found[10:20, 10:20].sum()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0831, "0.0831"), (1.254, "1.25"), (42.3, "42.3"), (1300.0, "1300"), (0.0, "0.0"), (1e9, "1.0e+09"), (np.nan, "-")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert draw.number(value) == text


@pytest.mark.parametrize("modern", [True, False])
def test_text_is_where_it_should_be(monkeypatch: pytest.MonkeyPatch, modern: bool) -> None:
    if modern and not hasattr(cv2, "FontFace"):
        pytest.skip("this OpenCV has stroke fonts only")
    if not modern:
        monkeypatch.delattr(cv2, "FontFace", raising=False)
    image = np.full((40, 200, 3), 255, np.uint8)
    width = draw.put_text(image, "tracks", 190, 28, 18, (0, 0, 0), align="right")
    rows, columns = np.nonzero(image.min(axis=-1) < 128)
    assert 30 < width < 100
    assert 190 - width - 2 <= columns.min() < columns.max() <= 192
    assert 8 <= rows.min() < rows.max() <= 34
    draw.put_text(image, "over the edge", 195, 2, 18)
    draw.put_text(image, "over the edge", -50, 60, 18)


def test_write_overview(scene: Scene, tmp_path: Path) -> None:
    path = write_overview(scene, tmp_path / "overview.png", width=600)
    read = cv2.imread(str(path))
    assert read is not None
    np.testing.assert_array_equal(read[..., ::-1], render_overview(scene, width=600))
    with pytest.raises(UserError, match="image format"):
        write_overview(scene, tmp_path / "overview.xyz")
    with pytest.raises(UserError, match="cannot be written"):
        write_overview(scene, path / "overview.png", width=600)  # below a file


def test_too_narrow_is_refused(scene: Scene) -> None:
    with pytest.raises(ValueError, match="480"):
        render_overview(scene, width=100)


def test_a_sky_is_left_out_of_the_clouds_and_does_not_set_the_range_of_depth(scene: Scene) -> None:
    shown = sample.read_frames(scene, np.array([0, 1]))
    depth = shown.depth.copy()
    depth[:, :4] = 40 * np.nanmedian(depth)
    sky = replace(shown, depth=depth, display_confidence=None)
    assert not sky.sure[:, :4].any() and sky.sure[:, 4:].all()
    assert (sample.not_far(np.array([1.0, 2.0, np.nan, 100.0])) == [True, True, False, False]).all()

"""The film: what its pictures show, that it can be played, and that its memory does not depend on the length."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from st4rtrack.io.video_writer import write_gif
from st4rtrack.render.draw import ACCENT, PANEL
from st4rtrack.render.film import FilmLayout, plan_film, render_film, write_film
from st4rtrack.render.sample import MOVING_TAIL, PastTracks
from st4rtrack.scene import Scene
from st4rtrack.types import Cameras, UserError
from tests.render.procedural_scene import procedural_scene
from tests.synthetic_scene import synthetic_scene

WIDTH = 480


@pytest.fixture(scope="module")
def scene() -> Scene:
    return procedural_scene(5, num_frames=5, height=48, width=64, anchor_index=1, motion=1.5)


@pytest.fixture(scope="module")
def pictures(scene: Scene) -> list[np.ndarray]:
    count, pictures = render_film(scene, width=WIDTH, turn_deg=40, hold=2)
    made = list(pictures)
    assert len(made) == count == len(scene) + 2
    return made


def part(picture: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    left, top, width, height = box
    return picture[top : top + height, left : left + width].astype(int)


def covered(picture: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """Share of a panel that is not its empty ground."""
    return float((np.abs(part(picture, box) - PANEL).max(axis=-1) > 12).mean())


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def layout() -> FilmLayout:
    return plan_film(48, 64, WIDTH)


def test_every_panel_shows_something_that_changes(pictures: list[np.ndarray], layout: FilmLayout) -> None:
    for name in ("input", "tracks", "pair", "reconstruction", "trajectories"):
        box = getattr(layout, name)
        assert part(pictures[0], box).std() > 8, name
        assert np.abs(part(pictures[3], box) - part(pictures[0], box)).max() > 40, name
    for name in ("pair", "reconstruction", "trajectories"):
        assert covered(pictures[3], getattr(layout, name)) > 0.15, name


def test_both_outputs_have_their_colours(pictures: list[np.ndarray], layout: FilmLayout) -> None:
    red, _, blue = np.moveaxis(part(pictures[2], layout.pair), -1, 0)
    assert (blue > red + 40).mean() > 0.03
    assert (red > blue + 40).mean() > 0.03


def test_time_goes_on_below_the_pictures(pictures: list[np.ndarray], layout: FilmLayout) -> None:
    done = [float((part(picture, layout.timeline) == ACCENT).all(axis=-1).mean()) for picture in pictures]
    np.testing.assert_allclose(done, [0.2, 0.4, 0.6, 0.8, 1, 1, 1], atol=0.01)


def test_views_turn_while_the_last_frame_is_held(pictures: list[np.ndarray], layout: FilmLayout) -> None:
    np.testing.assert_array_equal(part(pictures[-1], layout.input), part(pictures[-2], layout.input))
    assert np.abs(part(pictures[-1], layout.trajectories) - part(pictures[-2], layout.trajectories)).max() > 40


def test_reconstruction_accumulates(scene: Scene, layout: FilmLayout) -> None:
    """Without turning, what was seen once stays; the camera looks elsewhere in each frame."""
    _, pictures = render_film(scene, width=WIDTH, turn_deg=0)
    first, *_, last = pictures
    assert covered(last, layout.reconstruction) > 1.02 * covered(first, layout.reconstruction)


@pytest.mark.parametrize(("height", "width"), [(64, 36), (36, 64), (30, 90), (90, 30)])
def test_boxes_of_every_shape_of_frame_lie_apart_and_inside(height: int, width: int) -> None:
    layout = plan_film(height, width, 1281)
    used = np.zeros((layout.height, layout.width), int)
    for name in ("input", "tracks", "pair", "reconstruction", "trajectories", "timeline"):
        left, top, box_width, box_height = getattr(layout, name)
        assert min(left, top) >= 0 and box_width > 0 and box_height > 0
        assert left + box_width <= layout.width and top + box_height <= layout.height
        used[top : top + box_height, left : left + box_width] += 1
    assert used.max() == 1
    assert layout.width % 2 == layout.height % 2 == 0
    assert layout.input[2] / layout.input[3] == pytest.approx(width / height, rel=0.02)


def test_mp4_is_played_with_the_video_s_own_speed(scene: Scene, tmp_path: Path) -> None:
    told = []
    write_film(scene, tmp_path / "film.mp4", width=WIDTH, hold_s=0, progress=lambda done, total: told.append((done, total)))
    assert told == [(k, len(scene)) for k in range(1, len(scene) + 1)]
    frames = decode(tmp_path / "film.mp4")
    assert len(frames) == len(scene)
    layout = plan_film(48, 64, WIDTH)
    assert frames[0].shape == (layout.height, layout.width, 3)
    with av.open(str(tmp_path / "film.mp4")) as container:
        rate = container.streams.video[0].average_rate
    assert rate is not None
    assert float(rate) == pytest.approx((len(scene) - 1) / (scene.time_s[-1] - scene.time_s[0]), rel=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_gif_is_smaller_and_leaves_frames_out(scene: Scene, tmp_path: Path) -> None:
    write_film(replace(scene, time_s=np.arange(5) / 25), tmp_path / "film.gif", width=WIDTH, hold_s=0)
    frames = decode(tmp_path / "film.gif")
    assert len(frames) == 3  # every second of five
    _, expected = render_film(scene, width=WIDTH, stride=2)
    for got, wanted in zip(frames, expected, strict=True):
        assert np.abs(got.astype(int) - wanted).mean() < 8


def test_gif_holds_times_and_colours(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    write_gif(tmp_path / "a.gif", (np.full((9, 13, 3), colour, np.uint8) for colour in colours), fps=4)
    with av.open(str(tmp_path / "a.gif")) as container:
        frames = list(container.decode(video=0))
    assert [float(frame.time or 0) for frame in frames] == [0, 0.25, 0.5]
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - colour).max() <= 2
    with pytest.raises(ValueError, match="no frames"):
        write_gif(tmp_path / "b.gif", iter([]), fps=4)
    with pytest.raises(ValueError, match="frame 1 is"):
        write_gif(tmp_path / "b.gif", iter([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)]), fps=4)
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


@pytest.mark.parametrize("num_frames", [1, 3])
def test_any_scene_can_be_shown(num_frames: int) -> None:
    """Points without meaning, one frame, infinite and missing points, no confidence, no visibility."""
    scene = synthetic_scene(num_frames)
    scene.reconstruction.points_world[:, 0] = np.inf
    scene.tracking.points_world[-1] = np.nan
    scene.reconstruction.confidence = scene.tracking.confidence = scene.tracking.visible = scene.tracking.moving = None
    count, pictures = render_film(scene, width=WIDTH)
    assert count == num_frames and len(list(pictures)) == num_frames


class OneFrame:
    """Maps of which one frame at a time can be read, as from a disk, and that know how many were."""

    def __init__(self, values: np.ndarray) -> None:
        self._values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, 0

    def __getitem__(self, index: int) -> np.ndarray:
        assert isinstance(index, int | np.integer)
        self.read += 1
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)


def test_memory_does_not_grow_with_the_film() -> None:
    """Of 300 frames, a picture keeps the recent past and some of what was before."""
    scene = synthetic_scene(300, 6, 8)
    points = OneFrame(scene.tracking.points_world)
    scene.tracking.points_world = points
    scene.reconstruction.points_world = OneFrame(scene.reconstruction.points_world)
    past = PastTracks(scene, np.ones((6, 8), bool), spacing_px=3)
    for frame in range(300):
        tracks = past.until(frame)
        assert tracks.frame[-1] == frame and len(tracks.frame) <= MOVING_TAIL + 1 + 40
        assert set(range(max(frame - MOVING_TAIL, 0), frame + 1)) <= set(tracks.frame.tolist())
    assert points.read == 300  # each once
    count, pictures = render_film(scene, width=WIDTH, stride=100)
    assert len(list(pictures)) == count == 3


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("film.avi", {}, "must end in .mp4 or .gif"),
        ("film.mp4", {"width": 100}, "at least 480"),
        ("film.mp4", {"fps": 0}, "fps must be"),
        ("film.mp4", {"stride": 0}, "stride must be at least 1"),
    ],
)
def test_mistakes_are_said(scene: Scene, tmp_path: Path, name: str, options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        write_film(scene, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_scene_without_cameras_is_said(scene: Scene, tmp_path: Path) -> None:
    cameras = Cameras(np.full_like(scene.cameras.world_from_camera, np.nan), scene.cameras.intrinsics)
    with pytest.raises(UserError, match="no cameras"):
        write_film(replace(scene, cameras=cameras), tmp_path / "film.mp4", width=WIDTH)

"""The teachers without weights find what is known of a rendered sequence, and are silent where nothing can be known."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from st4rtrack.adapt.teachers.flow import FlowTeacher
from st4rtrack.adapt.teachers.triangulation import TriangulationTeacher
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.types import UserError
from tests.moving_camera import HEIGHT, WIDTH, points_on_walls, seen_at, walk

QUERIES = pixel_grid(HEIGHT, WIDTH)[8:-8:8, 8:-8:8].reshape(-1, 2)


def test_flow_follows_walls_to_both_ends() -> None:
    sequence = walk(7)
    anchor = 3
    # of the two walls only the frame-0 view is known in closed form: follow what frame 0 sees there
    points = points_on_walls(QUERIES)
    truth = seen_at(points, sequence.world_from_camera)
    inside = ((truth > 4) & (truth < (WIDTH - 4, HEIGHT - 4))).all(axis=(0, 2))
    inside &= np.abs(QUERIES[:, 1] - HEIGHT / 2) > 8
    found = FlowTeacher().tracks(sequence.rgb, truth[anchor][inside], anchor)
    error = np.linalg.norm(found.tracks_px - truth[:, inside], axis=-1)[found.visible]
    assert found.visible[anchor].all()
    assert found.visible.mean() > 0.6
    assert np.median(error) < 0.5
    assert np.quantile(error, 0.95) < 2.0


def test_flow_hides_what_is_covered_and_follows_what_moves() -> None:
    rng = np.random.default_rng(0)
    background = cv2.resize(rng.integers(0, 255, (48, 64, 3), np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC)
    square = cv2.resize(rng.integers(0, 255, (14, 14, 3), np.uint8), (28, 28), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([background.copy() for _ in range(12)])
    for t, frame in enumerate(frames):
        frame[34:62, 10 + 5 * t : 38 + 5 * t] = square
    query = np.array([[24.0, 48.0], [80.0, 48.0], [110.0, 15.0]])  # on the square, in its way, away from it
    found = FlowTeacher().tracks(frames, query, 0)
    shift = found.tracks_px[:, 0] - query[0]
    assert found.visible[:, 0].mean() > 0.9
    assert (
        np.abs(shift[found.visible[:, 0]] - np.stack([5.0 * np.arange(12), np.zeros(12)], axis=1)[found.visible[:, 0]]).max() < 1
    )
    assert not found.visible[9:11, 1].any()
    assert found.visible[:, 2].all()


def test_flow_answers_more_questions_the_same() -> None:
    sequence = walk(4)
    teacher = FlowTeacher()
    first = teacher.tracks(sequence.rgb, QUERIES, 0)
    again = teacher.tracks(sequence.rgb, QUERIES[5:9], 0)
    np.testing.assert_array_equal(again.tracks_px, first.tracks_px[:, 5:9])
    np.testing.assert_array_equal(again.visible, first.visible[:, 5:9])
    other = teacher.tracks(sequence.rgb[::-1], QUERIES, 0)
    assert np.abs(other.tracks_px[1:] - first.tracks_px[1:]).max() > 1


def test_triangulation_finds_depth_and_cameras() -> None:
    sequence = walk(16)
    found = TriangulationTeacher().depth(sequence.rgb, 0)
    known = found.depth[0] > 0
    assert known.mean() > 0.02
    truth = points_on_walls(pixel_grid(HEIGHT, WIDTH)[known])[:, 2]
    scale = np.median(truth / found.depth[0][known])
    assert np.median(np.abs(np.log(scale * found.depth[0][known] / truth))) < 0.03
    assert found.world_from_camera is not None
    np.testing.assert_allclose(found.world_from_camera[0], np.eye(4), atol=1e-9)
    solved = np.isfinite(found.world_from_camera[:, 0, 0])
    assert solved.mean() > 0.9
    centres = scale * found.world_from_camera[solved, :3, 3]
    assert np.median(np.linalg.norm(centres - sequence.world_from_camera[solved, :3, 3], axis=1)) < 0.15


def test_triangulation_knows_the_anchor_in_the_middle() -> None:
    sequence = walk(16)
    found = TriangulationTeacher().depth(sequence.rgb, 6)
    assert found.world_from_camera is not None
    np.testing.assert_allclose(found.world_from_camera[6], np.eye(4), atol=1e-9)
    truth = np.linalg.inv(sequence.world_from_camera[6]) @ sequence.world_from_camera
    here, there = found.world_from_camera[:, :3, 3], truth[:, :3, 3]
    solved = np.isfinite(here[:, 0])
    scale = (here[solved] * there[solved]).sum() / (here[solved] ** 2).sum()
    assert np.median(np.linalg.norm(scale * here[solved] - there[solved], axis=1)) < 0.15


def test_triangulation_leaves_out_what_moves() -> None:
    """A square that crosses the moving picture has no place, so hardly any depth is written on it."""
    sequence = walk(16)
    rng = np.random.default_rng(1)
    square = cv2.resize(rng.integers(0, 255, (10, 10, 3), np.uint8), (24, 24), interpolation=cv2.INTER_CUBIC)
    rgb = sequence.rgb.copy()
    for t, frame in enumerate(rgb):
        frame[10 + 3 * t : 34 + 3 * t, 50:74] = square
    found = TriangulationTeacher().depth(rgb, 0)
    on = np.mean([(found.depth[t, 13 + 3 * t : 31 + 3 * t, 53:71] > 0).mean() for t in range(16)])
    assert on < 0.2 * (found.depth > 0).mean()


def test_triangulation_is_silent_without_parallax() -> None:
    found = TriangulationTeacher().depth(np.repeat(walk(1).rgb, 8, axis=0), 0)
    assert found.silent
    assert found.world_from_camera is None


@pytest.mark.parametrize(
    "ask", [lambda rgb: FlowTeacher().tracks(rgb, QUERIES, 0), lambda rgb: TriangulationTeacher().depth(rgb, 0)]
)
def test_one_frame_is_a_sentence(ask: Callable[[np.ndarray], object]) -> None:
    with pytest.raises(UserError, match="1 frame"):
        ask(walk(1).rgb)

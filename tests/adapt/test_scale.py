import numpy as np
import pytest

from st4rtrack.adapt.prepare import log_scales
from st4rtrack.adapt.priors import TeacherDepth

FRAMES = 6


def depth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] / (height, width)[0]
    return np.broadcast_to(1 + rows + columns, (FRAMES, height, width)).astype(np.float32)


def cameras(step: float) -> np.ndarray:
    found = np.tile(np.eye(4), (FRAMES, 1, 1))
    found[:, 0, 3] = step * np.arange(FRAMES)
    return found


def test_each_frame_has_its_own_scale_where_the_teacher_has_no_cameras() -> None:
    scales = np.array([1, 2, 3, 0.5, 1, 1], np.float32)[:, None, None]
    found = log_scales(TeacherDepth(depth(8, 8) / scales, "t"), depth(4, 4), cameras(0.1))
    assert found == pytest.approx(np.log(scales.ravel()), abs=0.15)  # pixels of another size


def test_cameras_say_the_scale_whatever_the_depth_predicted() -> None:
    teacher = TeacherDepth(depth(4, 4), "t", cameras(0.2))
    assert log_scales(teacher, 1.7 * depth(4, 4), cameras(0.5)) == pytest.approx(np.log(2.5))


def test_cameras_that_stand_still_leave_it_to_the_depth() -> None:
    teacher = TeacherDepth(depth(4, 4), "t", cameras(0.0))
    assert log_scales(teacher, 1.7 * depth(4, 4), cameras(1e-5)) == pytest.approx(np.log(1.7))


def test_unknown_cameras_and_pixels_do_not_take_part() -> None:
    known, placed = depth(4, 4).copy(), cameras(0.2)
    known[1], placed[2] = 0, np.nan
    assert log_scales(TeacherDepth(known, "t", placed), depth(4, 4), cameras(0.4)) == pytest.approx(np.log(2))
    assert log_scales(TeacherDepth(known, "t"), depth(4, 4), cameras(0.4)) == pytest.approx(0)

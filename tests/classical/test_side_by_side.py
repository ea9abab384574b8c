import threading
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from st4rtrack.classical.anchored import both_ways
from st4rtrack.classical.side_by_side import side_by_side


def test_results_come_in_the_order_of_the_items() -> None:
    assert side_by_side(lambda x: x * x, range(20)) == [x * x for x in range(20)]


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda x: 1 / x, [1, 0])


def test_it_runs_where_opencv_has_one_thread(one_opencv_thread: None) -> None:
    assert side_by_side(lambda _: threading.current_thread(), range(3)) == [threading.current_thread()] * 3


def test_no_frame_costs_new_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV keeps about a kilobyte of every thread that called it, so a long video would cost memory."""
    started: list[threading.Thread] = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread), start(thread)))
    image = np.random.default_rng(0).integers(0, 255, (32, 48), np.uint8)
    for _ in range(10):
        both_ways(image, image)
    assert len(started) <= cv2.getNumThreads()


@pytest.fixture
def one_opencv_thread() -> Iterator[None]:
    most = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(most)

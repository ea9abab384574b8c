import threading
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from st4rtrack.classical.flow import bidirectional_flow
from st4rtrack.threads import parallel_map, parallel_stream, single_threaded_blas


def test_results_come_in_the_order_of_the_items() -> None:
    assert parallel_map(lambda x: x * x, range(20)) == [x * x for x in range(20)]


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        parallel_map(lambda x: 1 / x, [1, 0])


def test_a_stream_is_taken_a_few_items_at_a_time() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for k in range(50):
            taken.append(k)
            yield k

    results = parallel_stream(lambda x: -x, items())
    assert next(results) == 0 and len(taken) <= cv2.getNumThreads()
    assert list(results) == [-k for k in range(1, 50)]
    assert list(parallel_stream(str, [])) == []


def test_blas_has_one_thread_for_a_while() -> None:
    before = _blas_threads()
    assert before, "NumPy without OpenBLAS"
    with single_threaded_blas():
        assert set(_blas_threads()) == {1}
    assert _blas_threads() == before


def test_of_runs_that_overlap_the_last_gives_blas_its_threads_back() -> None:
    before = _blas_threads()
    first, second = single_threaded_blas(), single_threaded_blas()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(_blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert _blas_threads() == before


def test_it_runs_where_opencv_has_one_thread(one_opencv_thread: None) -> None:
    assert parallel_map(lambda _: threading.current_thread(), range(3)) == [threading.current_thread()] * 3


def test_no_frame_costs_new_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV keeps about a kilobyte of every thread that called it, so a long video would cost memory."""
    started: list[threading.Thread] = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread), start(thread)))
    image = np.random.default_rng(0).integers(0, 255, (32, 48), np.uint8)
    for _ in range(10):
        bidirectional_flow(image, image)
    assert len(started) <= cv2.getNumThreads()


def _blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["internal_api"] == "openblas"]


@pytest.fixture
def one_opencv_thread() -> Iterator[None]:
    most = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(most)

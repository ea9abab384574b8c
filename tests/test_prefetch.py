"""Work that runs ahead: the same items, bounded, and nothing left behind."""

import threading
import time

import pytest

from st4rtrack.threads import prefetch, stop_workers_on_exit


def test_same_items_in_the_same_order() -> None:
    assert list(prefetch(iter(range(50)), 3)) == list(range(50))
    assert list(prefetch([], 1)) == []


def test_the_items_are_made_by_another_thread_and_no_more_than_asked_wait() -> None:
    made: list[int] = []
    makers: set[int] = set()

    def items():
        for k in range(20):
            made.append(k)
            makers.add(threading.get_ident())
            yield k

    taken = 0
    for _ in prefetch(items(), 2):
        taken += 1
        time.sleep(0.005)
        assert len(made) <= taken + 2 + 1  # two wait, one is in the maker's hands
    assert taken == 20 and threading.get_ident() not in makers


def test_prefetch_produces_before_the_consumer_asks() -> None:
    reached = threading.Event()

    def items():
        yield 0
        reached.set()
        yield 1

    running = prefetch(items(), 1)
    next(running)
    assert reached.wait(5)  # although nobody asked for the second
    running.close()


def test_an_error_comes_after_the_items_before_it() -> None:
    def items():
        yield 1
        raise OSError("the disk is gone")

    running = prefetch(items(), 4)
    assert next(running) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(running)


def test_who_stops_early_leaves_no_thread() -> None:
    closed = threading.Event()

    def items():
        try:
            yield from range(1000)
        finally:
            closed.set()

    before = threading.active_count()
    running = prefetch(prefetch(items(), 2), 2)
    next(running)
    running.close()
    assert closed.is_set() and threading.active_count() == before


def test_join_interrupted_by_ctrl_c_still_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    presses, join = [KeyboardInterrupt("first"), KeyboardInterrupt("second")], threading.Thread.join

    def interrupted_join(thread: threading.Thread, timeout: float | None = None) -> None:
        if presses:
            raise presses.pop(0)
        join(thread, timeout)

    def items():
        yield 0
        time.sleep(0.2)
        yield 1

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), stop_workers_on_exit():
        inner = prefetch(items(), 1)
        outer = prefetch(inner, 1)
        next(outer)
        monkeypatch.setattr(threading.Thread, "join", interrupted_join)
        raise KeyboardInterrupt
    assert not presses and threading.active_count() == before

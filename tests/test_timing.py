import threading
from collections.abc import Iterator

import pytest

from st4rtrack.timing import Stopwatch, recording, timed, timed_items


class Clock:
    """Seconds that pass when the test says so, in each thread for itself."""

    def __init__(self) -> None:
        self._now = threading.local()

    def __call__(self) -> float:
        return getattr(self._now, "s", 0.0)

    def passes(self, seconds: float) -> None:
        self._now.s = self() + seconds


def test_inner_parts_do_not_count_for_the_outer_one() -> None:
    clock = Clock()
    watch = Stopwatch(clock=clock)
    with watch.part("outer"):
        clock.passes(1)
        with watch.part("inner"):
            clock.passes(2)
            with watch.part("outer"):
                clock.passes(4)
        clock.passes(8)
    clock.passes(16)  # nobody's
    assert watch.seconds == {"outer": 13, "inner": 2}
    assert watch.span_s == 31


def test_a_part_ends_where_it_fails() -> None:
    clock = Clock()
    watch = Stopwatch(clock=clock)

    def fails() -> None:
        clock.passes(1)
        raise ValueError("no")

    with watch.part("outer"):
        with recording(watch), pytest.raises(ValueError, match="no"):
            timed("inner")(fails)()
        clock.passes(2)
    assert watch.seconds == {"inner": 1, "outer": 2}


def test_waiting_for_items_counts_and_what_is_done_with_them_does_not() -> None:
    clock = Clock()
    watch = Stopwatch(clock=clock)

    def items(count: int) -> Iterator[int]:
        for k in range(count):
            clock.passes(1)
            yield k
        clock.passes(0.5)

    waiting = timed_items("wait")(items)
    assert len(list(waiting(2))) == 2 and not watch.seconds, "nobody records yet"
    with recording(watch), watch.part("use"):
        for _ in waiting(3):
            clock.passes(10)
    assert watch.seconds == {"wait": 3.5, "use": 30}


def test_every_thread_has_its_own_nesting() -> None:
    clock = Clock()
    watch = Stopwatch(clock=clock)

    def work() -> None:
        with watch.part("aside"):
            clock.passes(5)

    with watch.part("main"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        clock.passes(2)
    assert watch.seconds == {"main": 2, "aside": 5}


def test_the_device_settles_where_a_part_asks_for_it() -> None:
    clock = Clock()
    watch = Stopwatch(settle=lambda: clock.passes(3), clock=clock)
    with watch.part("host"):
        clock.passes(1)
        with watch.part("network", settles=True):
            clock.passes(1)
    # what the host had begun ends before the network's time begins; what the network began ends within it
    assert watch.seconds == {"host": 4, "network": 4}

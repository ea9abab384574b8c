"""Work that goes on in the background, a bounded way ahead of who takes its results: reading, the network and writing overlap."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar, cast

Item = TypeVar("Item")

THREAD = "run ahead"
_END = object()
_PATIENCE_S = 0.1
"""How often a producer whose results nobody takes looks whether it is still wanted."""


_begun: ContextVar[list[Generator[Any, None, None]] | None] = ContextVar("begun", default=None)


@contextmanager
def ended_together() -> Iterator[None]:
    """Whatever was begun inside by `run_ahead` has ended after it, the last one first; also after an error whose traceback somebody keeps,
    and with it every generator that it went through."""
    begun: list[Generator[Any, None, None]] = []
    token = _begun.set(begun)
    try:
        yield
    finally:
        _begun.reset(token)
        with ExitStack() as closing:  # all of them, also where closing one raises
            for generator in begun:
                closing.callback(generator.close)


def run_ahead(items: Iterable[Item], most: int) -> Generator[Item, None, None]:
    """The same items in the same order, made by a thread of their own, at most `most` of them before they are taken.

    What the thread raises is raised here, after the items before it. When the taker stops early, so does the thread.

    Args:
        items: made one after the other, by one thread only.
        most: how many may wait; memory is bounded by it.
    """
    made = _made_ahead(items, most)
    if (begun := _begun.get()) is not None:
        begun.append(made)
    return made


def _made_ahead(items: Iterable[Item], most: int) -> Generator[Item, None, None]:
    waiting: queue.Queue[object] = queue.Queue(most)
    unwanted = threading.Event()
    failed: list[BaseException] = []
    thread = threading.Thread(target=_produce, args=(items, waiting, unwanted, failed), name=THREAD, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            yield cast(Item, item)
    finally:
        unwanted.set()
        _join(thread)
    if failed:
        raise failed[0]


def _join(thread: threading.Thread) -> None:
    """Waits for the end of a thread even if Ctrl-C is pressed meanwhile: the generators that it runs are closed next."""
    interrupt: KeyboardInterrupt | None = None
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _produce(
    items: Iterable[object], waiting: "queue.Queue[object]", unwanted: threading.Event, failed: list[BaseException]
) -> None:
    try:
        for item in items:
            if not _handed_over(item, waiting, unwanted):
                break
    except BaseException as error:  # whatever it is, it belongs to the taker
        failed.append(error)
    finally:
        close = getattr(items, "close", None)
        if close is not None:  # a generator inside it may own a thread, too
            close()
        _handed_over(_END, waiting, unwanted)


def _handed_over(item: object, waiting: "queue.Queue[object]", unwanted: threading.Event) -> bool:
    while not unwanted.is_set():
        with suppress(queue.Full):
            waiting.put(item, timeout=_PATIENCE_S)
            return True
    return False

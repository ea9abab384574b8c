"""Bounded background prefetching, so that reading, the network and writing overlap."""

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
"""Poll interval, in seconds, of a producer for cancellation."""


_begun: ContextVar[list[Generator[Any, None, None]] | None] = ContextVar("begun", default=None)


@contextmanager
def ended_together() -> Iterator[None]:
    """Stop all workers that `run_ahead` started in the block at its end, last one first.

    Also after an error whose traceback, and with it every generator in it, is still referenced."""
    begun: list[Generator[Any, None, None]] = []
    token = _begun.set(begun)
    try:
        yield
    finally:
        _begun.reset(token)
        with ExitStack() as closing:  # close all, even if closing one raises
            for generator in begun:
                closing.callback(generator.close)


def run_ahead(items: Iterable[Item], most: int) -> Generator[Item, None, None]:
    """Iterate over items produced by a worker thread, at most `most` of them ahead of the consumer; the order is preserved.

    Exceptions of the worker are raised here, after the items before them. If the consumer stops early, so does the worker.

    Args:
        items: produced one after the other, by a single thread.
        most: maximum number of queued items; bounds the memory.
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
    """Join a thread even if Ctrl-C is pressed meanwhile: its generators are closed next."""
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
    except BaseException as error:  # any exception is passed to the consumer
        failed.append(error)
    finally:
        close = getattr(items, "close", None)
        if close is not None:  # a nested generator may own a thread, too
            close()
        _handed_over(_END, waiting, unwanted)


def _handed_over(item: object, waiting: "queue.Queue[object]", unwanted: threading.Event) -> bool:
    while not unwanted.is_set():
        with suppress(queue.Full):
            waiting.put(item, timeout=_PATIENCE_S)
            return True
    return False

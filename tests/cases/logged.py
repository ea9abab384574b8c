"""Collects what the package warns about."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged_warnings() -> Iterator[list[str]]:
    """The messages of the package's warnings while the context is open."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("st4rtrack")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)

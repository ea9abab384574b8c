"""Collects what the package says."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged_messages() -> Iterator[list[str]]:
    """The warnings and notes of the package while the context is open."""
    messages: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("st4rtrack")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

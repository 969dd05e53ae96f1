"""What the package tells of its progress while something runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged(messages: list[str] | None = None) -> Iterator[list[str]]:
    """The messages of the logger `nezha_lite`, from level INFO on, as they come."""
    messages = [] if messages is None else messages
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("nezha_lite")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

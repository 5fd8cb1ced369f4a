"""What the package tells the `logging` module."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


class _Handler(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@contextlib.contextmanager
def log_lines(name: str = "flatstream.journal") -> Iterator[list[str]]:
    """The lines of a logger, each ``LEVEL message``."""
    lines: list[str] = []
    handler = _Handler(lines)
    logger = logging.getLogger(name)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before

"""Telling how far a tool is."""

from __future__ import annotations

import os
from collections.abc import Callable

from flatstream.reader import StreamReader
from flatstream.tools._sources import SourceStream

__all__ = ["Progress"]

# How many bytes are read between two calls.
STEP = 1 << 20


class Progress:
    """Calls ``progress(done, total)`` with the bytes read so far and those of all sources, 0 if that is not known."""

    def __init__(self, sources: list[SourceStream], progress: Callable[[int, int], object] | None) -> None:
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, got {type(progress).__name__}")
        self._sources = sources
        self._progress = progress
        self._total = 0
        self._told = 0
        if progress is not None:
            sizes = [_size_of(source.reader) for source in sources]
            self._total = sum(sizes) if all(sizes) else 0

    def tell(self) -> None:
        """Tells the caller, if enough was read since."""
        if self._progress is None:
            return
        done = sum(source.reader.offset for source in self._sources)
        if done - self._told >= STEP:
            self._told = done
            self._progress(done, self._total)

    def finish(self) -> None:
        """Tells the caller that all is read."""
        if self._progress is not None:
            done = sum(source.reader.offset for source in self._sources)
            self._progress(done, self._total or done)


def _size_of(reader: StreamReader) -> int:
    """The bytes of a source; 0 if they are not known."""
    source = reader.source
    if isinstance(source, str) and os.path.isdir(source):
        return sum(entry.stat().st_size for entry in os.scandir(source) if entry.name.endswith(".fs"))
    try:
        return os.fstat(source.fileno()).st_size
    except (AttributeError, OSError, ValueError):
        pass
    try:
        return memoryview(source).nbytes
    except TypeError:
        return 0

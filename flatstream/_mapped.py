"""Files that are mapped into memory instead of being read."""

from __future__ import annotations

import io
import mmap
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from flatstream._compressed import LONGEST_MAGIC, begins_compressed, decompressed
from flatstream._endpoints import Source
from flatstream._files import open_at_once
from flatstream._remote import is_url
from flatstream.errors import InvalidFrameError

__all__ = ["MappedFile", "map_path"]

T = TypeVar("T")


class MappedFile:
    """The source of a reader whose file is mapped: what its path was, and the map, which `close` gives up.

    Payloads are views of the map. It is unmapped by `close`, or when the last of them is gone.
    """

    def __init__(self, path: str, memory: mmap.mmap | bytes) -> None:
        self.path = path
        self.size = len(memory)
        self._memory: mmap.mmap | bytes | None = memory

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._memory is None

    def close(self) -> None:
        """Unmaps the file, unless there are views of it: then the last one does when it goes."""
        memory, self._memory = self._memory, None
        if isinstance(memory, mmap.mmap):
            # Views keep it.
            with suppress(BufferError):
                memory.close()

    def __repr__(self) -> str:
        return f"<mapped file {self.path!r:.200} of {self.size:,} bytes>"


def map_path(path: str | os.PathLike[str], look: Callable[[io.FileIO], T]) -> tuple[Source, T]:
    """A Source for a reader of the file at `path`, as it is now, mapped into memory; and what ``look(file)`` returns.

    Raises
    ------
    OSError
        The file cannot be opened or mapped.
    io.UnsupportedOperation
        It is no regular file, or one without a size.
    InvalidFrameError
        It is compressed.
    ValueError
        The path is a URL.
    """
    name = os.fsdecode(path)
    if is_url(name):
        raise ValueError(f"a URL cannot be mapped into memory: {name!r:.200}")
    with io.FileIO(path, "rb", opener=open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise io.UnsupportedOperation(f"mmap=True needs a regular file, which this is not: {name!r:.200}")
        head = file.read(LONGEST_MAGIC)
        file.seek(0)
        if begins_compressed(head) and (packed := decompressed(file, name)) is not None:
            raise InvalidFrameError(
                f"mmap=True needs a file as it is written, got a compressed one ({packed.format}): {name!r:.200}",
                offset=0,
                frame=0,
            )
        found = look(file)
        size = os.fstat(file.fileno()).st_size
        if head and not size:
            # As those in /proc; or it was emptied meanwhile.
            raise io.UnsupportedOperation(f"mmap=True needs a file with a size, and that of this is 0: {name!r:.200}")
        # An empty file cannot be mapped.
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
    mapped = MappedFile(name, memory)
    return Source(mapped, {"buffer": memory}, owned=True), found

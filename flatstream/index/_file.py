"""The file of an index: opened, locked, replaced and appended to."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flatstream._files import open_partial
from flatstream._lock import open_for_writing
from flatstream.index._fields import IndexedField
from flatstream.index._format import (
    CHECKSUM,
    MOST_LOOKED_AT,
    OTHER_STREAM,
    Head,
    Parsed,
    encode_blocks,
    encode_head,
    entry_table,
    parse_index,
    was_index,
)
from flatstream.index._leftovers import remove_leftovers
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from flatstream._core.column_reader.blocks import _Run

__all__ = ["IndexFile", "WrittenBlocks", "same_content"]

# An index that has more bytes than this is not read to be continued.
LARGEST = 1 << 30


@dataclass(frozen=True)
class WrittenBlocks:
    """What a message with blocks is about: where they begin and end, and how many blocks, frames and rows."""

    begin: int
    end: int
    blocks: int
    frames: int
    rows: int


def same_content(found: Head, wanted: Head) -> bool:
    """Whether an index with this head can be continued as one with the other."""
    return found == wanted


class IndexFile:
    """The file of an index, open for writing and locked.

    Parameters
    ----------
    path : str
        The index. It is made if there is none.
    data : os.stat_result
        Of the file with the stream, which the index is as accessible as.

    Attributes
    ----------
    parsed : Parsed or None
        What was there; None if it was nothing.
    status : os.stat_result
        Of the file that was there.

    Raises
    ------
    FileExistsError
        There is a file that is no index. It is left as it is.
    OSError
        It cannot be opened; EBUSY: somebody else writes it.
    """

    def __init__(self, path: str, data: os.stat_result) -> None:
        self._path = path
        # Of a stream that may only be read any more, too, it can be brought up to date.
        self._mode = stat.S_IMODE(data.st_mode) & 0o666 | stat.S_IWUSR
        self.parsed: Parsed | None = None
        self._writer: StreamWriter | None = None
        existed = _check_kind(path)
        self._file = open_for_writing(path, "ab", regular=True)
        try:
            self.status = status = os.fstat(self._file.fileno())
            if not existed:
                self._set_mode(self._file)
            if status.st_size:
                if was_index(self._content(min(status.st_size, MOST_LOOKED_AT))):
                    self.parsed = parse_index(self._content(min(status.st_size, LARGEST)))
                if self.parsed is None or self.parsed.problem == OTHER_STREAM:
                    raise FileExistsError(
                        errno.EEXIST, "at the path of the index there is a file that is none; it is left as it is", path
                    )
            remove_leftovers(path, was_index)
        except BaseException:
            self._file.close()
            raise

    def _content(self, size: int) -> bytes:
        with io.FileIO(self._path, "rb") as file:
            return file.read(size)

    def _set_mode(self, file: io.FileIO) -> None:
        # The ranges tell something of the messages.
        if hasattr(os, "fchmod"):
            with contextlib.suppress(OSError):
                os.fchmod(file.fileno(), self._mode)

    def cut(self, size: int) -> None:
        """Goes on at a size of the file: what is behind it is cut off."""
        if os.fstat(self._file.fileno()).st_size > size:
            os.ftruncate(self._file.fileno(), size)
        self._writer = StreamWriter(self._file, CHECKSUM)

    def replace(self, head: Head) -> None:
        """Begins a new index in the place of the one that is there, which readers see until the new one has its head.

        An index that is empty is written in place.
        """
        if os.fstat(self._file.fileno()).st_size:
            partial, file = open_partial(self._path, lambda name: open_for_writing(name, "xb"))
            try:
                self._set_mode(file)
                self._begin(file, head)
                os.replace(partial, self._path)
            except BaseException:
                self._writer = None
                file.close()
                with contextlib.suppress(OSError):
                    os.unlink(partial)
                raise
            self._file.close()
            self._file = file
        else:
            self._begin(self._file, head)

    def _begin(self, file: io.FileIO, head: Head) -> None:
        self._writer = StreamWriter(file, CHECKSUM, describe=entry_table())
        self._writer.write_payload(encode_head(head))
        self._writer.flush()

    def write_blocks(self, run: _Run, fields: Sequence[IndexedField]) -> WrittenBlocks:
        """Writes a run of blocks; the file has it after `flush`."""
        assert self._writer is not None
        ends, frames = memoryview(run[2]).cast("Q"), memoryview(run[3]).cast("I")
        self._writer.write_payload(encode_blocks(run, fields))
        frame_count = sum(frames)
        rows = frame_count if run[4] is None else sum(memoryview(run[4]).cast("I"))
        return WrittenBlocks(run[0], ends[-1], len(ends), frame_count, rows)

    def flush(self) -> None:
        """Hands everything to the file."""
        # Closing it may have been interrupted.
        if self._writer is not None and not self._writer.closed:
            self._writer.flush()

    @property
    def size(self) -> int:
        """How many bytes the index has."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Writes what is left, and closes the file, also if that fails."""
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._file.close()


def _check_kind(path: str) -> bool:
    """Whether there is a file at the path of an index; FileExistsError for what is no regular file.

    Looked at before it is opened: opening a pipe waits for a reader of it, perhaps for ever.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(mode):
        # What it leads to need not be meant, and may not be there.
        raise FileExistsError(errno.EEXIST, "the path of the index is that of a symbolic link", path)
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "the path of the index is that of no regular file", path)
    return True

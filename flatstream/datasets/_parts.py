"""The files of a dataset: a snapshot of what paths stand for, and each file open for reading from any frame."""

from __future__ import annotations

import errno
import glob
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from flatstream._endpoints import open_file
from flatstream._ranges import RangeFile, ranges_of
from flatstream._remote import is_url, list_urls, stands_for_several
from flatstream._seekable import SeekableFile
from flatstream.journal._layout import Segment, list_segments
from flatstream.journal._segment_files import open_segment, stat_segment
from flatstream.tools.inputs import ENDINGS, NO_STREAMS, STDIN, Input, expand

__all__ = ["OpenPart", "Part", "find_parts", "refreshed"]

# The ending of the index beside a file, which a pattern for the data may match too.
INDEX_ENDING = ".idx"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a dataset, or one segment of a journal, as it was when the snapshot was taken.

    Attributes
    ----------
    path : str
        Of a segment, the path of its plain file.
    kind : {"file", "segment", "remote"}
        "remote" is a URL.
    size : int or None
        How many bytes the file had; None of a URL. Of a compressed one, the size of what is stored.
    journal : str or None
        The folder of the journal whose segment it is.
    first : int
        The number of the first frame: that in the name of a segment, otherwise 0.
    was_compressed : bool
        Whether a segment was a compressed file, whose `size` says nothing of the stream's.
    """

    path: str
    kind: Literal["file", "segment", "remote"]
    size: int | None = None
    journal: str | None = None
    first: int = 0
    was_compressed: bool = False

    def open(self) -> OpenPart:
        """The bytes of the stream.

        Raises
        ------
        OSError
            It cannot be opened. FileNotFoundError: it was removed since.
        ImportError, ValueError
            There is no package for its compression or kind of URL.
        """
        if self.kind == "segment":
            file: Any = open_segment(Segment(self.path, self.first))
            # It may have been written on, and compressed, since.
            return OpenPart(file, None if self.was_compressed else self.size)
        file = open_file(self.path)
        return OpenPart(file, self.size if type(file) is io.FileIO else None)

    def open_ranges(self) -> RangeFile:
        """The same bytes, to be read at offsets, by several threads; see `open` for errors."""
        if self.kind == "segment":
            file: Any = open_segment(Segment(self.path, self.first))
            size = None if self.was_compressed else self.size
        else:
            file = open_file(self.path)
            size = self.size if type(file) is io.FileIO else None
        try:
            return ranges_of(file, size=size)
        except BaseException:
            file.close()
            raise


class OpenPart(io.RawIOBase):
    """The bytes of the stream in a part, up to the size that it had in the snapshot. Closing it closes the file.

    A plain file is read at explicit offsets, and never behind the end of the snapshot.

    Attributes
    ----------
    limit : int or None
        The size of the stream in the snapshot; None if that is not known before it is read.
    compression : str or None
        The name of the format of a compressed file.
    bytes_taken : int
        How many bytes of the stream were read.
    """

    def __init__(self, file: Any, size: int | None) -> None:
        super().__init__()
        self.file = file
        self.is_plain = type(file) is io.FileIO and hasattr(os, "preadv")
        self.compression: str | None = getattr(file, "format", None)
        self.limit = min(size, os.fstat(file.fileno()).st_size) if self.is_plain and size is not None else size
        self.bytes_taken = 0
        self._at = 0

    @property
    def can_seek(self) -> bool:
        """Whether it can be read from any offset at little cost."""
        return self.is_plain or (isinstance(self.file, SeekableFile) and self.file.has_table)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.is_plain or bool(self.file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if self.is_plain and whence == io.SEEK_SET:
            self._at = offset
            return offset
        if self.is_plain and whence == io.SEEK_END and self.limit is not None:
            self._at = self.limit + offset
            return self._at
        self._at = self.file.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int | None:
        view = memoryview(buffer)
        if self.limit is not None:
            view = view[: max(0, self.limit - self._at)]
        if not len(view):
            return 0
        taken: int | None = (
            os.preadv(self.file.fileno(), [view], self._at) if self.is_plain else self.file.readinto(view)
        )
        if taken:
            self._at += taken
            self.bytes_taken += taken
        return taken

    def bytes_left(self) -> int:
        """How many bytes were not read yet; 0 if that is not known."""
        return 0 if self.limit is None else max(0, self.limit - self._at)

    def close(self) -> None:
        try:
            self.file.close()
        finally:
            super().close()


def find_parts(paths: Iterable[str | os.PathLike[str]]) -> list[Part]:
    """The files that paths stand for: those of a list in its order, those of a pattern or a folder by name.

    Parameters
    ----------
    paths : iterable of paths
        See `flatstream.dataset`.

    Raises
    ------
    FileNotFoundError
        There is nothing at a path.
    ValueError
        A path is "-" or a pipe, which can be read once only.
    """
    found: dict[str, Part] = {}
    for path in paths:
        for one in _inputs_of(os.fspath(path)):
            for part in _parts_of(one):
                found.setdefault(part.path if part.kind == "remote" else os.path.realpath(part.path), part)
    return list(found.values())


def _inputs_of(name: str) -> list[Input]:
    if not isinstance(name, str):
        raise TypeError(f"a path of a dataset must be a str, got {name!r:.100}")
    if is_url(name) and stands_for_several(name):
        urls = [url for url in list_urls(name, ENDINGS) if not url.endswith(INDEX_ENDING)]
        if not urls:
            raise FileNotFoundError(errno.ENOENT, "no file matches the URL, or ends with .fs in its folder", name)
        return [Input(url, "remote") for url in urls]
    if name == STDIN:
        raise ValueError("a dataset reads its files more than once, so standard input ('-') cannot be one of them")
    try:
        inputs = expand([name])
    except ValueError:
        # A folder without streams, or a pattern that nothing matches.
        raise _nothing_at(name) from None
    if any(one.name == name for one in inputs):
        return inputs
    return [one for one in inputs if not one.name.endswith(INDEX_ENDING)]


def _nothing_at(name: str) -> FileNotFoundError:
    if os.path.isdir(name):
        what = NO_STREAMS
    elif glob.has_magic(name):
        what = "no file or journal matches the pattern"
    else:
        what = os.strerror(errno.ENOENT)
    return FileNotFoundError(errno.ENOENT, what, name)


def _parts_of(one: Input) -> list[Part]:
    if one.kind == "pipe":
        raise ValueError(
            f"a dataset reads its files more than once, so a pipe cannot be one of them: {one.name!r:.200}"
        )
    if one.kind == "journal":
        parts = []
        for segment in list_segments(one.name):
            try:
                parts.append(_part_of_segment(one.name, segment))
            except FileNotFoundError:
                # Removed by retention since it was listed.
                continue
        return parts
    if one.kind == "remote":
        return [Part(one.name, "remote")]
    if one.size is None:
        # Says why it cannot be opened.
        return [Part(one.name, "file", os.stat(one.name).st_size)]
    return [Part(one.name, "file", one.size)]


def refreshed(part: Part) -> Part | None:
    """The part as it is now; None if it was removed."""
    try:
        if part.kind == "segment":
            assert part.journal is not None
            return _part_of_segment(part.journal, Segment(part.path, part.first))
        return part if part.kind == "remote" else Part(part.path, "file", os.stat(part.path).st_size)
    except FileNotFoundError:
        return None


def _part_of_segment(journal: str, segment: Segment) -> Part:
    found, status = stat_segment(segment)
    return Part(segment.plain_path, "segment", status.st_size, journal, segment.first, found.is_compressed)

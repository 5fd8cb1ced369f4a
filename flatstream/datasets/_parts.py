"""The files of a dataset: a snapshot of what paths stand for, and each file open for reading from any frame."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from flatstream._endpoints import open_file
from flatstream._index_hook import SUFFIX
from flatstream._ranges import RangeFile, ranges_of
from flatstream._remote import RemoteFile, is_url, list_urls, stands_for_several
from flatstream._seekable import SeekableFile
from flatstream.errors import FlatStreamError, UnexpectedEofError
from flatstream.journal._layout import Segment, list_segments
from flatstream.journal._segment_files import open_segment, stat_segment
from flatstream.tools.inputs import ENDINGS, NO_STREAMS, STDIN, Input, expand

__all__ = ["OpenPart", "Part", "find_parts", "shown"]


# By so many bytes at its beginning a file is known again: the description, which says when the stream was begun, or the
# first messages.
KNOWN_BY = 4096


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
    fingerprint : bytes or None
        Of the first bytes as they are stored: appending leaves it as it is, and another file has another one. None if
        it is not known: of a URL, an empty file, one that could not be opened, and of a compressed segment.
    """

    path: str
    kind: Literal["file", "segment", "remote"]
    size: int | None = None
    journal: str | None = None
    first: int = 0
    was_compressed: bool = False
    fingerprint: bytes | None = None

    def open(self) -> OpenPart:
        """The bytes of the stream.

        Raises
        ------
        OSError
            It cannot be opened. FileNotFoundError: it was removed since.
        ImportError, ValueError
            There is no package for its compression or kind of URL.
        FlatStreamError
            It was replaced since, or became shorter.
        """
        return OpenPart(*self._open())

    def open_ranges(self) -> RangeFile:
        """The same bytes, to be read at offsets, by several threads; see `open` for errors."""
        file, size = self._open()
        try:
            return ranges_of(file, size=size)
        except BaseException:
            file.close()
            raise

    def _open(self) -> tuple[Any, int | None]:
        """The file, and the size of the stream in the snapshot if that is known."""
        if self.kind == "segment":
            # It may have been written on, and compressed, since.
            file: Any = open_segment(Segment(self.path, self.first))
            size = None if self.was_compressed else self.size
        else:
            try:
                file = open_file(self.path)
            except FileNotFoundError as error:
                if self.kind == "remote":
                    raise _with_hint(error, self.path) from None
                raise FileNotFoundError(
                    errno.ENOENT,
                    "the file was removed since the dataset was made or refreshed: refresh() looks at the files as "
                    "they are now",
                    self.path,
                ) from error
            size = self.size if type(file) is io.FileIO else None
        try:
            self._check_same(file)
        except BaseException:
            file.close()
            raise
        return file, size

    def _check_same(self, file: Any) -> None:
        """Raises if there is another file than that of the snapshot."""
        is_plain = type(file) is io.FileIO
        if self.fingerprint is None or self.size is None or (self.kind == "segment" and not is_plain):
            return
        found = os.fstat(file.fileno()).st_size if is_plain else os.stat(self.path).st_size
        # A JournalWriter cuts off what a crash left of the last frame of a segment.
        if found < self.size and self.kind != "segment":
            raise UnexpectedEofError(
                f"{self.path}: the file has become shorter since the dataset was made or refreshed, from "
                f"{self.size} to {found} bytes: refresh() looks at the files as they are now (make splits anew then)",
                offset=found,
            )
        if _fingerprint(self.path, self.size, file if is_plain else None) != self.fingerprint:
            raise FlatStreamError(
                f"{self.path}: the file was replaced by another one since the dataset was made or refreshed: refresh() "
                "looks at the files as they are now (make splits anew then)"
            )


def shown(text: str) -> str:
    """A path, or a text with one, as a string of Arrow, which is UTF-8: other bytes of a name are escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
        if isinstance(self.file, SeekableFile):
            return self.file.has_table
        return self.is_plain or (isinstance(self.file, RemoteFile) and self.file.seekable())

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
        urls = [url for url in list_urls(name, ENDINGS) if not url.endswith(SUFFIX)]
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
    return [one for one in inputs if not one.name.endswith(SUFFIX)]


def _nothing_at(name: str) -> FileNotFoundError:
    if os.path.isdir(name):
        what = NO_STREAMS
    elif glob.has_magic(name):
        what = "no file or journal matches the pattern"
    else:
        what = os.strerror(errno.ENOENT)
    return FileNotFoundError(errno.ENOENT, what, name)


def _with_hint(error: FileNotFoundError, url: str) -> FileNotFoundError:
    """The error of a URL where nothing was found, with what may have been meant."""
    if url.lower().startswith("http"):
        hint = "; files at http:// and https:// cannot be listed, so name each of them" if "*" in url else ""
    else:
        hint = "" if url.endswith(ENDINGS) else f"; a folder at a URL ends with a slash: {url}/"
    return FileNotFoundError(errno.ENOENT, f"{error.strerror or error}{hint}", url) if hint else error


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
        return [_part_of_file(one.name, os.stat(one.name).st_size)]
    return [_part_of_file(one.name, one.size)]


def _part_of_file(path: str, size: int) -> Part:
    return Part(path, "file", size, fingerprint=_fingerprint(path, size))


def _part_of_segment(journal: str, segment: Segment) -> Part:
    found, status = stat_segment(segment)
    path, size = segment.plain_path, status.st_size
    fingerprint = None if found.is_compressed else _fingerprint(path, size)
    return Part(path, "segment", size, journal, segment.first, found.is_compressed, fingerprint)


def _fingerprint(path: str, size: int, file: io.FileIO | None = None) -> bytes | None:
    """The fingerprint of a file that had `size` bytes, None if it has none; by way of the file if that is open."""
    size = min(size, KNOWN_BY)
    if not size:
        return None
    try:
        if file is not None and hasattr(os, "pread"):
            data = os.pread(file.fileno(), size, 0)
        else:
            with open(path, "rb", buffering=0) as opened:
                data = opened.read(size)
    except OSError:
        # Whoever reads it gets the error.
        return None
    return hashlib.blake2b(data, digest_size=8).digest() if len(data) == size else None

"""The files of a dataset: a snapshot of what paths stand for, and each file open for reading from any frame."""

from __future__ import annotations

import errno
import glob
import io
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from flatstream._compressed import LONGEST_MAGIC, begins_compressed
from flatstream._endpoints import contents_of, open_file
from flatstream._index_hook import SUFFIX, leftover_of_index
from flatstream._peeked import read_fully
from flatstream._ranges import RangeFile, ranges_of
from flatstream._remote import RemoteFile, is_url, list_urls, open_url, remote_of, stands_for_several
from flatstream._seekable import SeekableFile
from flatstream.datasets._evidence import KNOWN_BY, fingerprints_at, fingerprints_of, hash_of, identity_of
from flatstream.errors import FlatStreamError, UnexpectedEofError
from flatstream.journal._layout import Segment, list_segments
from flatstream.journal._segment_files import open_segment, stat_segment
from flatstream.tools.inputs import ENDINGS, NO_STREAMS, STDIN, Input, expand

__all__ = ["OpenPart", "Part", "find_parts", "shown"]

# How many URLs are looked at, at the same time.
AT_A_TIME = 16

REFRESH = "refresh() looks at the files as they are now (make splits anew then)"


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
        How many bytes the file had; None of a URL whose server does not tell it. Of a compressed one, the size of what
        is stored.
    journal : str or None
        The folder of the journal whose segment it is.
    first : int
        The number of the first frame: that in the name of a segment, otherwise 0.
    was_compressed : bool
        Whether a segment was a compressed file, whose `size` says nothing of the stream's.
    fingerprint : bytes or None
        Of the first bytes as they are stored: appending leaves it as it is, and another file has another one. None if
        it is not known: of an empty file, and of one that could not be opened.
    tail : bytes or None
        The same of the last bytes before `size`. None if there are none behind the first ones; of a plain segment, from
        whose end a JournalWriter cuts what a crash has left; and of a URL whose server gives no parts of files.
    identity : bytes or None
        Of a segment, that of its journal; None if it is not known.
    version : bytes or None
        Of a URL, what its store tells to know a version of a file by; see `flatstream._remote.RemoteStatus`.
    """

    path: str
    kind: Literal["file", "segment", "remote"]
    size: int | None = None
    journal: str | None = None
    first: int = 0
    was_compressed: bool = False
    fingerprint: bytes | None = None
    tail: bytes | None = None
    identity: bytes | None = None
    version: bytes | None = None

    @property
    def is_known(self) -> bool:
        """Whether it can be told from another file at its place, or from the same one once it was written on."""
        return self.kind != "remote" or self.version is not None or (self.size is not None and self.tail is not None)

    def open(self) -> OpenPart:
        """The bytes of the stream.

        Raises
        ------
        OSError
            It cannot be opened. FileNotFoundError: it was removed since; of a segment, by retention.
        ImportError, ValueError
            There is no package for its compression or kind of URL.
        FlatStreamError
            It was replaced since, or became shorter. A segment: its journal is not there any more.
        """
        return OpenPart(*self._open())

    def open_ranges(self) -> RangeFile:
        """The same bytes, to be read at offsets, by several threads; see `open` for errors."""
        file, size = self._open()
        try:
            return ranges_of(file, size=size, reopen=None if self.kind == "segment" else lambda: self._open()[0])
        except BaseException:
            file.close()
            raise

    def _open(self) -> tuple[Any, int | None]:
        """The file, and the size of the stream in the snapshot if that is known."""
        if self.kind == "segment":
            # It may have been written on, and compressed, since.
            try:
                file: Any = open_segment(Segment(self.path, self.first))
            except FileNotFoundError:
                self._check_journal()
                raise
            try:
                self._check_segment(file)
            except BaseException:
                file.close()
                raise
            return file, None if self.was_compressed else self.size
        try:
            raw = open_file(self.path, decompress=False)
        except FileNotFoundError as error:
            if self.kind == "remote":
                raise _with_hint(error, self.path) from None
            raise FileNotFoundError(
                errno.ENOENT,
                "the file was removed since the dataset was made or refreshed, or is not seen from this machine: "
                "refresh() looks at the files as they are now",
                self.path,
            ) from error
        try:
            file = self._contents_of(raw, self._check_same(raw))
        except BaseException:
            raw.close()
            raise
        return file, self.size if file is raw else None

    def _contents_of(self, raw: Any, found: int | None) -> Any:
        """What a file of `found` bytes holds, of which those count that it had in the snapshot."""
        remote = remote_of(raw)
        if remote is not None:
            if self.size is not None:
                remote.cut(self.size)
        elif self.size is not None and found is not None and found > self.size:
            # To a compressed file, members were appended. A plain one is read as far as it went.
            is_compressed = begins_compressed(raw.read(LONGEST_MAGIC))
            raw.seek(0)
            if not is_compressed:
                return raw
            cut = _CutFile(raw, self.size)
            file = contents_of(cut, self.path)
            return cut.forget() if file is None else file
        file = contents_of(raw, self.path)
        return raw if file is None else file

    def _check_same(self, raw: Any) -> int | None:
        """Raises if a file is another one than that of the snapshot; returns how many bytes it has."""
        remote = remote_of(raw)
        if remote is None:
            status = os.fstat(raw.fileno())
            found = status.st_size if stat.S_ISREG(status.st_mode) else None
            version = None
        else:
            found, version = remote.status.size, remote.status.version
            if version is not None and version == self.version and found == self.size and remote.status.is_certain:
                return found
        is_told = (version, found) == (self.version, self.size)
        # Nothing is read of a file that was empty.
        if self.fingerprint is None and (remote is None or self.size == 0 or is_told):
            return found
        if found is not None and self.size is not None and found < self.size:
            raise UnexpectedEofError(
                f"{self.path}: the file has become shorter since the dataset was made or refreshed, from "
                f"{self.size} to {found} bytes: {REFRESH}",
                offset=found,
            )
        head, tail = fingerprints_of(raw, self.size)
        has_tails = tail is not None and self.tail is not None
        if (self.fingerprint is not None and head != self.fingerprint) or (has_tails and tail != self.tail):
            raise self._replaced()
        is_whole = self.fingerprint is not None and self.size is not None and self.size <= KNOWN_BY
        if remote is not None and not (is_told or has_tails or is_whole):
            # Something may have been appended, or all of it is new but the beginning: only reading it would tell.
            raise FlatStreamError(
                f"{self.path}: the file was replaced or written on since the dataset was made or refreshed, and its "
                f"server gives no parts of it that would tell which: {REFRESH}"
            )
        return found

    def _check_journal(self) -> None:
        """Raises unless the journal of a segment is there, so that a missing segment is one that retention removed."""
        assert self.journal is not None
        if os.path.isdir(self.journal) if self.identity is None else identity_of(self.journal) == self.identity:
            return
        raise FlatStreamError(
            f"{self.path}: neither the segment nor its journal is here: the folder was removed, has another journal "
            f"now, or is not seen from this machine: {REFRESH}"
        )

    def _check_segment(self, file: Any) -> None:
        """Raises if a segment is that of another journal."""
        assert self.journal is not None
        known = None if self.identity is None else identity_of(self.journal)
        if known is not None and known != self.identity:
            raise self._replaced()
        if self.fingerprint is None or self.size is None:
            return
        if isinstance(file, SeekableFile):
            if self.was_compressed:
                raw = file._file
                status = os.fstat(raw.fileno())
                is_same = status.st_size == self.size
                is_same = is_same and fingerprints_of(raw, self.size) == (self.fingerprint, self.tail)
            else:
                # Compressed since. What cannot be decompressed is damage, of which whoever reads it tells.
                first = min(self.size, KNOWN_BY)
                head = read_fully(file.read, first)
                file.seek(0)
                is_same = bool(file.damage) or hash_of(head, first) == self.fingerprint
        elif self.was_compressed:
            # Nothing but the journal tells that it was decompressed, and is not a new one.
            is_same = known is not None
        else:
            is_same = fingerprints_of(file, self.size, with_tail=False)[0] == self.fingerprint
        # What a crash has left of its last frame may have been among the first bytes.
        if not is_same and (known is None or self.was_compressed or self.size > KNOWN_BY):
            raise self._replaced()

    def _replaced(self) -> FlatStreamError:
        return FlatStreamError(
            f"{self.path}: the file was replaced by another one, or changed, since the dataset was made or refreshed: "
            f"{REFRESH}"
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
        if whence == io.SEEK_END and self.limit is not None:
            offset, whence = self.limit + offset, io.SEEK_SET
            if self.is_plain:
                self._at = offset
                return offset
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


class _CutFile(io.RawIOBase):
    """A file that can seek, as far as a size. It is closed with this object."""

    def __init__(self, file: Any, size: int) -> None:
        super().__init__()
        self._file, self._size = file, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()  # type: ignore[no-any-return]

    def tell(self) -> int:
        return self._file.tell()  # type: ignore[no-any-return]

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_END:
            offset, whence = self._size + offset, io.SEEK_SET
        return self._file.seek(offset, whence)  # type: ignore[no-any-return]

    def forget(self) -> Any:
        """Gives the file back, at its beginning: it is not closed with this object."""
        file, self._file = self._file, None
        self.close()
        file.seek(0)
        return file

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        return self._file.readinto(view[: max(0, self._size - self._file.tell())]) or 0

    def close(self) -> None:
        if not self.closed:
            try:
                if self._file is not None:
                    self._file.close()
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
    OSError
        A folder, or a file at a URL, cannot be read.
    ImportError
        There is no package for a kind of URL.
    ValueError
        A path is "-" or a pipe, which can be read once only; or there is no such kind of URL.
    """
    found: dict[str, Part] = {}
    # Those that were listed, and not named.
    listed: set[str] = set()
    for path in paths:
        for one in _inputs_of(os.fspath(path)):
            if one.kind == "remote" and one.name != path:
                listed.add(one.name)
            for part in _parts_of(one):
                found.setdefault(part.path if part.kind == "remote" else os.path.realpath(part.path), part)
    urls = [part.path for part in found.values() if part.kind == "remote"]
    if len(urls) > 1:
        with ThreadPoolExecutor(min(AT_A_TIME, len(urls)), "flatstream-urls") as pool:
            looked_at = list(pool.map(lambda url: _part_at(url, is_listed=url in listed), urls))
    else:
        looked_at = [_part_at(url, is_listed=url in listed) for url in urls]
    for url, made in zip(urls, looked_at, strict=True):
        if made is None:
            del found[url]
        else:
            found[url] = made
    return list(found.values())


def _part_at(url: str, *, is_listed: bool) -> Part | None:
    """The file at a URL as it is now; None if it was listed and is not there any more."""
    try:
        file = open_url(url, KNOWN_BY)
    except FileNotFoundError as error:
        if is_listed:
            return None
        raise _with_hint(error, url) from None
    with file:
        remote = remote_of(file)
        assert remote is not None
        size, version = remote.status.size, remote.status.version
        fingerprint, tail = fingerprints_of(file, size)
        return Part(url, "remote", size, fingerprint=fingerprint, tail=tail, version=version)


def _inputs_of(name: str) -> list[Input]:
    if not isinstance(name, str):
        raise TypeError(f"a path of a dataset must be a str, got {name!r:.100}")
    if is_url(name) and stands_for_several(name):
        found = list_urls(name, ENDINGS)
        urls = [url for url in found if not url.endswith(SUFFIX) and leftover_of_index(url) is None]
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
        identity = identity_of(one.name)
        for segment in list_segments(one.name):
            try:
                parts.append(_part_of_segment(one.name, segment, identity))
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
    fingerprint, tail = fingerprints_at(path, size)
    return Part(path, "file", size, fingerprint=fingerprint, tail=tail)


def _part_of_segment(journal: str, segment: Segment, identity: bytes | None) -> Part:
    found, status = stat_segment(segment)
    path, size = segment.plain_path, status.st_size
    fingerprint, tail = fingerprints_at(found.path, size, with_tail=found.is_compressed)
    return Part(path, "segment", size, journal, segment.first, found.is_compressed, fingerprint, tail, identity)

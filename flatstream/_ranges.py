"""The bytes of a stream, read at offsets: of plain files, sealed ones and URLs.

`StreamReader` reads a stream from its beginning to its end. Whoever knows which parts of it are needed, as by an index,
opens it here. All offsets are those of the stream, also where the file is compressed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeAlias

from flatstream._compressed import DecompressedFile
from flatstream._core.base.pickling import fail_to_pickle
from flatstream._endpoints import open_file
from flatstream._remote import RemoteFile, is_url
from flatstream._seekable import SeekableFile

__all__ = ["PIECE", "Range", "RangeFile", "open_ranges", "ranges_of"]

# From one offset to another, as a slice.
Range: TypeAlias = tuple[int, int]

# How much is read at a time: two threads that read so much read 1.8 times as fast as one, which they do not with less.
PIECE = 4 << 20

# How far ahead of the reader `read_ranges` announces what it will read. All of a large file at once would push other
# files out of the memory of the system, and the call would wait for the disk.
AHEAD = 32 << 20

# So many pieces at most, so that small ones take little memory.
MOST_WAITING = 4096

# Of a URL: ranges that are no farther apart than GAP are fetched as one, because a request takes as long as so many
# bytes. Up to KEPT bytes are fetched when they are announced.
GAP = 64 << 10
KEPT = 64 << 20

# What is decompressed at a time.
STEP = 1 << 20

HAS_PREAD = hasattr(os, "pread")
HAS_PREADV = hasattr(os, "preadv")
HAS_FADVISE = hasattr(os, "posix_fadvise")


def open_ranges(path: str | os.PathLike[str], *, size: int | None = None) -> RangeFile:
    """Opens the stream at a path or URL, to read parts of it.

    Parameters
    ----------
    path : str or os.PathLike
        A plain file, a compressed one or a URL. (A segment of a journal, which may be compressed or removed meanwhile:
        ``ranges_of(open_segment(segment))``.)
    size : int, optional
        See `ranges_of`.

    Raises
    ------
    OSError
        It cannot be opened.
    ImportError, ValueError
        There is no package for this compression or kind of URL; `size` is negative.
    """
    file = open_file(path)
    try:
        return ranges_of(file, size=size)
    except BaseException:
        file.close()
        raise


def ranges_of(file: Any, *, size: int | None = None, reopen: Callable[[], Any] | None = None) -> RangeFile:
    """The RangeFile of an open file.

    Parameters
    ----------
    file : raw file from `open_file` or `flatstream.journal._segment_files.open_segment`
        At its beginning. The result closes it. If this raises, it stays open.
    size : int, optional
        How many bytes of the stream are read, of those that there are when it is opened. By default all.
    reopen : callable, optional
        Opens a file anew that can only be read from its beginning, when bytes are asked for that were passed. By
        default it is opened by its path, if it is a regular file or at a URL.

    Raises
    ------
    ValueError
        `size` is negative.
    """
    if size is not None and size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    if isinstance(file, SeekableFile):
        return _SealedRanges(file, size)
    if isinstance(file, RemoteFile) and file.seekable():
        return _RemoteRanges(file, size)
    if type(file) is io.FileIO and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return _PlainRanges(file, size)
    return _SequentialRanges(file, size, reopen)


class RangeFile:
    """A stream that is read at offsets. `open_ranges` makes it. It is a context manager, which closes it.

    Any number of threads may read at once. Those of a plain file do not wait for each other.

    Attributes
    ----------
    path : str
        The path or URL.
    compression : str or None
        The format of a compressed file, as "Zstandard".
    status : os.stat_result or None
        The status of the file when it was opened; None for a URL.
    bytes_read : int
        How many bytes of the stream were read so far, and decompressed to get to them.
    """

    compression: str | None = None

    def __init__(self, file: Any, size: int | None) -> None:
        self.path = os.fsdecode(file.name) if isinstance(file.name, (str, bytes, os.PathLike)) else str(file.name)
        self.bytes_read = 0
        self._file = file
        self._limit = size
        # Of whatever is below, and of `file` where only one thread may use it.
        self._lock = threading.RLock()
        self._closed = False
        self.status = _status_of(file)

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    @property
    def size(self) -> int:
        """How many bytes of the stream can be read, as it was when it was opened; -1 if only reading all of it tells.

        The size of a sealed file is known when all its headers were compared with its table, which this does once.
        """
        with self._lock:
            self._check_open()
            size = self._find_size()
        return size if self._limit is None or size < 0 else min(size, self._limit)

    @property
    def can_seek(self) -> bool:
        """Whether any part can be read alone. Otherwise all bytes before it are read, too, and, to get to an offset
        before the last one, those from the beginning.
        """
        return True

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def read_at(self, offset: int, size: int) -> bytes:
        """The `size` bytes from `offset` on.

        They are fewer, down to none, at the end of the stream, also if the file was cut since it was opened; and before
        bytes that cannot be read or decompressed: reading from there on raises.

        Raises
        ------
        OSError, EOFError
            The bytes at `offset` cannot be read or decompressed.
        ValueError
            `offset` or `size` is negative, or it is closed.
        """
        if offset < 0 or size < 0:
            raise ValueError(f"expected an offset and a size of at least 0, got {offset} and {size}")
        if self._limit is not None:
            size = min(size, self._limit - offset)
        return self._read(offset, size) if size > 0 else b""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Reads bytes from `offset` on into `buffer`, and returns how many: see `read_at`, also for the errors.

        It may be fewer also before the end, but none at the end only.
        """
        if offset < 0:
            raise ValueError(f"expected an offset of at least 0, got {offset}")
        size = len(buffer) if self._limit is None else min(len(buffer), self._limit - offset)
        return self._read_into(offset, buffer[:size]) if size > 0 else 0

    def announce(self, ranges: Iterable[Range]) -> None:
        """Says which ranges will be read, so that they are fetched at the same time, and not one after the other.

        The system begins to read those of a plain file from the disk. Those of a URL are fetched in one call, up to 64
        MiB of them, and kept until they are read. For others it does nothing.

        Parameters
        ----------
        ranges : iterable of (begin, end)
            Offsets, as of slices. In any order.

        Raises
        ------
        OSError
            Those of a URL cannot be fetched.
        ValueError
            A range is wrong, or it is closed.
        """
        self._announce(_checked(ranges))

    def read_ranges(self, ranges: Iterable[Range], piece: int = PIECE) -> Iterator[tuple[int, bytes]]:
        """Reads ranges one after the other, and announces each somewhat before it is read.

        Parameters
        ----------
        ranges : iterable of (begin, end)
            Offsets, as of slices.
        piece : int
            The most bytes at a time.

        Yields
        ------
        tuple of int and bytes
            The offset and the bytes of the next piece of a range. Pieces of two ranges are not joined. Of each range
            there is one piece or more. The last one is shorter than the range if the stream ends there (see `read_at`);
            then the next is of the next range.

        Raises
        ------
        OSError, EOFError
            Bytes cannot be read or decompressed. Those before them were given.
        ValueError
            A range or `piece` is wrong, or it is closed.
        """
        if piece < 1:
            raise ValueError(f"piece must be at least 1, got {piece}")
        return self._pieces(_checked(ranges), piece)

    def block_offsets(self, begin: int, end: int) -> list[int]:
        """Where blocks begin, from one offset to another, that are decompressed alone; none if it has no such blocks.

        Those of a file that this package has sealed begin with frames.

        Raises
        ------
        ValueError
            It is closed.
        """
        self._check_open()
        return []

    def close(self) -> None:
        """Closes the file, as soon as no thread reads it. Nothing happens if it is closed."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._close()

    def __enter__(self) -> RangeFile:
        self._check_open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ranges of {self.path!r:.200}{', closed' if self._closed else ''}>"

    # What is different for each kind of file

    def _find_size(self) -> int:
        raise NotImplementedError

    def _read(self, offset: int, size: int) -> bytes:
        raise NotImplementedError

    def _read_into(self, offset: int, buffer: memoryview) -> int:
        data = self._read(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _announce(self, ranges: list[Range]) -> None:
        self._check_open()

    def _close(self) -> None:
        self._file.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"I/O operation on closed file: {self.path!r:.200}")

    def _pieces(self, ranges: list[Range], piece: int) -> Iterator[tuple[int, bytes]]:
        self._check_open()
        # Pieces that are announced, in their order, each with the number of its range; and how many bytes they are.
        waiting: deque[tuple[int, int, int]] = deque()
        ahead = 0
        following = _cut(ranges, piece)
        ended = -1
        while True:
            if ahead <= AHEAD // 2 and len(waiting) <= MOST_WAITING // 2:
                fresh: list[Range] = []
                while ahead < AHEAD and len(waiting) < MOST_WAITING and (part := next(following, None)) is not None:
                    waiting.append(part)
                    fresh.append(part[1:])
                    ahead += part[2] - part[1]
                if fresh:
                    self._announce(fresh)
            if not waiting:
                return
            number, begin, end = waiting.popleft()
            ahead -= end - begin
            if number == ended:
                continue
            data = self.read_at(begin, end - begin)
            while len(data) < end - begin:
                try:
                    more = self.read_at(begin + len(data), end - begin - len(data))
                except BaseException:
                    yield begin, data
                    raise
                if not more:
                    ended = number
                    break
                data += more
            yield begin, data


class _PlainRanges(RangeFile):
    """A regular file."""

    def __init__(self, file: io.FileIO, size: int | None) -> None:
        super().__init__(file, size)
        assert self.status is not None
        self._size = self.status.st_size
        # How many threads read. The last one closes the file if it was closed meanwhile, whose descriptor would
        # otherwise be that of another file.
        self._reading = 0

    def _find_size(self) -> int:
        return self._size

    def _read(self, offset: int, size: int) -> bytes:
        size = min(size, self._size - offset)
        pieces: list[bytes] = []
        taken = 0
        fd = self._begin()
        try:
            while taken < size and (piece := self._read_once(fd, offset + taken, size - taken)):
                pieces.append(piece)
                taken += len(piece)
        except OSError as error:
            if not taken:
                if error.filename is None:
                    error.filename = self.path
                raise
        finally:
            self._end(taken)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_into(self, offset: int, buffer: memoryview) -> int:
        if not HAS_PREADV:
            return super()._read_into(offset, buffer)
        size = min(len(buffer), self._size - offset)
        taken = 0
        fd = self._begin()
        try:
            # Into memory that is there already: new memory for each piece takes as long as reading it.
            taken = os.preadv(fd, [buffer[:size]], offset) if size > 0 else 0
        except OSError as error:
            if error.filename is None:
                error.filename = self.path
            raise
        finally:
            self._end(taken)
        return taken

    def _read_once(self, fd: int, offset: int, size: int) -> bytes:
        if HAS_PREAD:
            return os.pread(fd, size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)  # type: ignore[no-any-return]

    def _announce(self, ranges: list[Range]) -> None:
        fd = self._begin()
        try:
            if HAS_FADVISE:
                for begin, end in _joined(ranges, 0):
                    # It is only advice, which some file systems do not take.
                    with contextlib.suppress(OSError, OverflowError):
                        os.posix_fadvise(fd, begin, end - begin, os.POSIX_FADV_WILLNEED)
        finally:
            self._end(0)

    def _begin(self) -> int:
        with self._lock:
            self._check_open()
            self._reading += 1
            return self._file.fileno()  # type: ignore[no-any-return]

    def _end(self, count: int) -> None:
        with self._lock:
            self.bytes_read += count
            self._reading -= 1
            if self._closed and not self._reading:
                self._file.close()

    def _close(self) -> None:
        if not self._reading:
            self._file.close()


class _OneAtATime(RangeFile):
    """A file that one thread at a time may use."""

    def _read(self, offset: int, size: int) -> bytes:
        pieces: list[bytes] = []
        taken = 0
        with self._lock:
            self._check_open()
            try:
                while taken < size and (piece := self._read_some(offset + taken, min(size - taken, STEP))):
                    pieces.append(piece)
                    taken += len(piece)
            except (OSError, EOFError):
                if not taken:
                    raise
            finally:
                self.bytes_read += taken
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_some(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on, none at the end only."""
        raise NotImplementedError


class _SealedRanges(_OneAtATime):
    """A sealed file, whose blocks are decompressed alone. Without its table, it is decompressed from its beginning."""

    def __init__(self, file: SeekableFile, size: int | None) -> None:
        super().__init__(file, size)
        self.compression = file.format

    @property
    def can_seek(self) -> bool:
        return bool(self._file.has_table)

    def _find_size(self) -> int:
        file = self._file
        return file.size() if file.has_table and file.check(file.count) else -1

    def block_offsets(self, begin: int, end: int) -> list[int]:
        with self._lock:
            self._check_open()
            file = self._file
            if not (file.has_table and file.check(file.count)):
                return []
            found = (file.bounds(index)[0] for index in file.blocks(begin, end))
            return [offset for offset in found if offset >= begin]

    def _read_some(self, offset: int, size: int) -> bytes:
        buffer = bytearray(size)
        count = self._file.read_at(offset, memoryview(buffer))
        return bytes(memoryview(buffer)[:count])


class _SequentialRanges(_OneAtATime):
    """Another compressed file, or a pipe, a device, or a URL whose server gives no parts of files."""

    def __init__(self, file: Any, size: int | None, reopen: Callable[[], Any] | None) -> None:
        super().__init__(file, size)
        if isinstance(file, DecompressedFile):
            self.compression = file.format
        self._open_again = reopen
        self._path = self.path if self.status is None else os.path.abspath(self.path)
        is_at_url = self.status is None and is_url(self.path)
        self._can_reopen = is_at_url or (
            isinstance(file, DecompressedFile) and self.status is not None and stat.S_ISREG(self.status.st_mode)
        )
        self._at = 0

    @property
    def can_seek(self) -> bool:
        return False

    def _find_size(self) -> int:
        return -1

    def _read_some(self, offset: int, size: int) -> bytes:
        if offset < self._at:
            self._reopen(offset)
        while self._at < offset:
            skipped = self._take(min(offset - self._at, STEP))
            if not skipped:
                return b""
            self.bytes_read += len(skipped)
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data: bytes = self._file.read(size) or b""
        self._at += len(data)
        return data

    def _reopen(self, offset: int) -> None:
        if not self._can_reopen:
            raise io.UnsupportedOperation(
                f"{self.path}: {self._at} bytes were read, and nothing before them can be read again; offset {offset} "
                "was asked for"
            )
        file = open_file(self._path) if self._open_again is None else self._open_again()
        try:
            status = _status_of(file)
            if self.status is not None and (status is None or not os.path.samestat(status, self.status)):
                raise OSError(errno.EBUSY, "another process has replaced the file", self.path)
        except BaseException:
            file.close()
            raise
        self._file.close()
        self._file, self._at = file, 0


class _RemoteRanges(RangeFile):
    """A URL whose server gives parts of files."""

    def __init__(self, file: RemoteFile, size: int | None) -> None:
        super().__init__(file, size)
        self._size = file.size
        # Announced, and not read yet: the end and the bytes of each range, by its beginning.
        self._kept: dict[int, bytes] = {}

    def _find_size(self) -> int:
        return self._size

    def _read(self, offset: int, size: int) -> bytes:
        self._check_open()
        end = min(offset + size, self._size)
        if end <= offset:
            return b""
        with self._lock:
            for begin, data in self._kept.items():
                if begin <= offset and end <= begin + len(data):
                    if end == begin + len(data):
                        # They are read in their order.
                        del self._kept[begin]
                    return data if end - offset == len(data) else data[offset - begin : end - begin]
        return self._fetch([(offset, end)])[0]

    def _announce(self, ranges: list[Range]) -> None:
        self._check_open()
        wanted: list[Range] = []
        left = KEPT
        for begin, end in _joined([(begin, min(end, self._size)) for begin, end in ranges], GAP):
            if end - begin > left:
                break
            wanted.append((begin, end))
            left -= end - begin
        if not wanted:
            return
        found = self._fetch(wanted)
        with self._lock:
            self._kept |= {begin: data for (begin, _), data in zip(wanted, found, strict=True)}
            kept = sum(map(len, self._kept.values()))
            while kept > KEPT:
                kept -= len(self._kept.pop(next(iter(self._kept))))

    def _fetch(self, ranges: list[Range]) -> list[bytes]:
        found = self._file.fetch(ranges)
        with self._lock:
            self.bytes_read += sum(map(len, found))
        return found  # type: ignore[no-any-return]

    def _close(self) -> None:
        self._kept.clear()
        self._file.close()


def _status_of(file: Any) -> os.stat_result | None:
    if isinstance(file, DecompressedFile):
        return file.stat()
    try:
        return os.fstat(file.fileno())
    except (OSError, AttributeError):
        return None


def _checked(ranges: Iterable[Range]) -> list[Range]:
    found = [(begin, end) for begin, end in ranges]
    for begin, end in found:
        if not 0 <= begin <= end:
            raise ValueError(f"expected ranges from one offset to another, got ({begin}, {end})")
    return found


def _cut(ranges: list[Range], piece: int) -> Iterator[tuple[int, int, int]]:
    """The pieces of ranges: the number of the range, and the offsets of the piece. An empty range is one piece."""
    for number, (begin, end) in enumerate(ranges):
        yield number, begin, min(end, begin + piece)
        for at in range(begin + piece, end, piece):
            yield number, at, min(end, at + piece)


def _joined(ranges: list[Range], gap: int) -> list[Range]:
    """Ranges in the order of their beginnings. Those that are at most `gap` bytes apart are one, and none is empty."""
    found: list[Range] = []
    for begin, end in sorted(ranges):
        if begin >= end:
            continue
        if found and begin <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found

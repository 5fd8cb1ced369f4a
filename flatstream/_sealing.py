"""Sealing a stream: compressing it in blocks of whole frames, so that it can be read from any place.

`flatstream._seek_table` has the format of the file, and `flatstream._seekable` reads it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
from array import array
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from flatstream._core.base.checks import index_argument
from flatstream._core.framing.deframer import index_frames
from flatstream._core.stream.frame_search import SearchStoppedError, find_frames, header_size_of
from flatstream._endpoints import compression_of, is_path
from flatstream._files import (
    check_new,
    duplicate,
    give_name,
    open_descriptor,
    open_partial,
    say_what_is_full,
    sync,
    sync_folder,
)
from flatstream._finding import find_checksum
from flatstream._lock import open_for_writing, who_writes
from flatstream._remote import is_url
from flatstream._seek_table import MAX_BLOCK, MAX_ENTRIES, Entry, SeekTable, load_zstd, make_table
from flatstream._seekable import SeekableFile, number_of_threads, open_seekable
from flatstream.checksums import Checksum, ChecksumType
from flatstream.detection import detect
from flatstream.errors import InvalidFrameError
from flatstream.framing import Deframer, deframer_for

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = [
    "BLOCK_SIZE",
    "DEFAULT_LEVEL",
    "BlockWriter",
    "SealReport",
    "check_level",
    "copy_sealed",
    "open_private",
    "seal",
]

# How many bytes of whole frames are a block. Smaller ones are read faster, and compressed worse.
BLOCK_SIZE = 256 << 10
SMALLEST_BLOCK = 4 << 10
LARGEST_BLOCK = 16 << 20
DEFAULT_LEVEL = 3

# A frame of up to this many bytes is a block of its own; a larger one is cut, so that no reader needs more memory.
LARGEST_WHOLE = 4 << 20

# How many frames are found at a time.
FRAMES = 1 << 13

# How much is read at a time, and written before the disk is waited for, so that the last sync is a short one.
CHUNK = 1 << 20
SYNC_EVERY = 16 << 20


class SealReport(NamedTuple):
    """What `seal` has made.

    Attributes
    ----------
    path : str
        The sealed file.
    size, stored_size : int
        The bytes of the stream, and those of the sealed file.
    blocks : int
        How many blocks it has.
    """

    path: str
    size: int
    stored_size: int
    blocks: int


class _Cutter:
    """Finds out where blocks end: behind whole frames.

    Parameters
    ----------
    deframer : Deframer or None
        Of the frames; None, or one that runs Python: blocks end anywhere.
    block_size : int
        At most so many bytes are a block, unless a frame is larger.
    """

    def __init__(self, deframer: Deframer | None, block_size: int) -> None:
        self._deframer = deframer
        self._header_size = 0 if deframer is None else header_size_of(deframer) or 0
        self._block_size = block_size
        self._offsets, self._lengths = array("q", bytes(8 * FRAMES)), array("q", bytes(8 * FRAMES))
        if deframer is not None:
            try:
                index_frames(b"", deframer, self._offsets, self._lengths)
            except TypeError:
                self._deframer = None
        # How many bytes of a frame that is cut are still to come.
        self._inside = 0

    @property
    def wanted(self) -> int:
        """How many bytes `cut` needs to see, at most."""
        return max(self._block_size, LARGEST_WHOLE + self._header_size)

    def cut(self, data: memoryview, is_end: bool) -> int:
        """The size of the next block, with which `data` begins; 0 if more of the stream has to be seen first.

        Parameters
        ----------
        data : memoryview
            What is not cut yet.
        is_end : bool
            Whether the stream ends with it.
        """
        limit = self._block_size
        if self._inside and data:
            size = min(self._inside, limit, len(data))
            if size < min(self._inside, limit) and not is_end:
                return 0
            self._inside -= size
            return size
        if is_end and len(data) <= limit:
            return len(data)
        if len(data) < limit:
            return 0
        if self._deframer is None:
            return limit
        end = self._whole_frames(data[:limit])
        # Small blocks are compressed badly, so that damage in the first half of one does not end it.
        while end < limit // 2 and self._is_damage(data[end:limit]):
            found = self._next_frame(data[end:limit], is_end=False)
            if not found:
                break
            end += found
            end += self._whole_frames(data[end:limit])
        if end:
            return end
        length = self._header_size + int.from_bytes(data[:4], "little")
        if length > limit:
            # Either a large frame, or damage.
            if length <= LARGEST_WHOLE:
                if len(data) < length and not is_end:
                    return 0
                if self._whole_frames(data[:length]) == length:
                    return length
            elif self._header_size and not self._next_frame(data[:limit], is_end and len(data) == limit):
                self._inside = length - limit
                return limit
        return self._next_frame(data[:limit], is_end and len(data) <= limit) or min(limit, len(data))

    def _whole_frames(self, data: memoryview) -> int:
        """Where the last of the intact frames ends with which `data` begins."""
        assert self._deframer is not None
        end = 0
        while True:
            count, size = index_frames(data[end:], self._deframer, self._offsets, self._lengths)
            end += size
            if count < FRAMES:
                return end

    def _is_damage(self, data: memoryview) -> bool:
        """Whether bytes that begin with no intact frame cannot be the beginning of one that ends behind them."""
        size = self._header_size
        return size > 0 and len(data) >= size and size + int.from_bytes(data[:4], "little") <= len(data)

    def _next_frame(self, data: memoryview, is_end: bool) -> int:
        """Where an intact frame begins behind damage; 0 if none is found."""
        assert self._deframer is not None
        try:
            return find_frames(self._deframer, data, 1, is_end, self._block_size) or 0
        except SearchStoppedError:
            return 0


class BlockWriter(io.RawIOBase):
    """A raw file to which a stream is written: it is written on compressed in blocks, with their table at the end.

    Parameters
    ----------
    write : callable
        Gets the bytes of the sealed file, and takes all of them. If it raises, nothing more is written: the object is
        closed, and the file is no sealed one.
    deframer : Deframer or None
        Of the frames of the stream; None: it is found by the first bytes.
    level : int
        That of Zstandard.
    block_size : int
        How many bytes are a block.
    threads : int, optional
        How many threads compress; by default as many as there are processors, up to 4.

    Attributes
    ----------
    table : SeekTable
        The blocks that were written.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        deframer: Deframer | None = None,
        *,
        level: int = DEFAULT_LEVEL,
        block_size: int = BLOCK_SIZE,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        self._pool: ThreadPoolExecutor | None = None
        # The sizes of the blocks that threads compress, in their order.
        self._ahead: deque[tuple[Future[bytes], int]] = deque()
        self._put = write
        self._zstd = load_zstd("writing")
        names = self._zstd.CompressionParameter
        self._options = {names.compression_level: level, names.checksum_flag: 1}
        self._cutter = None if deframer is None else _Cutter(deframer, block_size)
        self._block_size = block_size
        self._gathered = bytearray()
        self.table = SeekTable()
        self._threads = number_of_threads() if threads is None else threads

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        with memoryview(data).cast("B") as view:
            self._gathered += view
            try:
                self._write_blocks(is_end=False)
            except BaseException:
                # A block may be missing, and what follows must not be put behind the gap.
                self.abandon()
                raise
            return len(view)

    def finish(self) -> None:
        """Writes what is left, and the table. The object is closed, and what it writes to stays open."""
        if self.closed:
            return
        self._write_blocks(is_end=True)
        if not self.table.begins[-1] and not self._ahead:
            # An empty stream.
            self._add(b"")
        while self._ahead:
            self._take_oldest()
        self._put(make_table(self.table))
        self.abandon()

    def close(self) -> None:
        """`finish`. If that fails, the object is closed all the same."""
        try:
            self.finish()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Closes the object without writing anything more: the file is no sealed one."""
        for future, _ in self._ahead:
            future.cancel()
        self._ahead.clear()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
        super().close()

    def __del__(self) -> None:
        # That of files would finish one that an error has left.
        self.abandon()

    def _write_blocks(self, *, is_end: bool) -> None:
        if self._cutter is None:
            if len(self._gathered) < self._block_size and not is_end:
                return
            kind = detect(bytes(self._gathered)).checksum if self._gathered else None
            self._cutter = _Cutter(None if kind is None else deframer_for(kind), self._block_size)
        at = 0
        with memoryview(self._gathered) as view:
            while at < len(view) and (size := self._cutter.cut(view[at : at + self._cutter.wanted], is_end)):
                self._add(bytes(view[at : at + size]))
                at += size
        del self._gathered[:at]

    def _add(self, block: bytes) -> None:
        if not self._threads:
            self._write_block(self._compress(block), len(block))
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._threads, "flatstream-zstd")
        self._ahead.append((self._pool.submit(self._compress, block), len(block)))
        if len(self._ahead) > self._threads + 1:
            self._take_oldest()

    def _take_oldest(self) -> None:
        future, size = self._ahead.popleft()
        self._write_block(future.result(), size)

    def _compress(self, block: bytes) -> bytes:
        return self._zstd.compress(block, options=self._options)  # type: ignore[no-any-return]

    def _write_block(self, data: bytes, size: int) -> None:
        if len(self.table) == MAX_ENTRIES:
            raise OSError(errno.EFBIG, f"a sealed file has at most {MAX_ENTRIES} blocks")
        self._put(data)
        self.table.append(Entry(len(data), size))


def check_level(level: Any, name: str = "level") -> int:
    """The level of compression as an int.

    Raises
    ------
    TypeError, ValueError
        It is none that Zstandard has.
    """
    number = index_argument(name, level)
    least, most = load_zstd("writing").CompressionParameter.compression_level.bounds()
    if not least <= number <= most:
        raise ValueError(f"{name} must be a level of Zstandard, from {least} to {most}, got {number}")
    return number


def copy_sealed(
    source: io.FileIO,
    size: int,
    target: io.FileIO,
    deframer: Deframer | None,
    *,
    level: int = DEFAULT_LEVEL,
    block_size: int = BLOCK_SIZE,
    threads: int | None = None,
) -> Generator[int, None, SealReport]:
    """Copies a file sealed, has the disk store the copy, and compares it with the original. Gives how many bytes each
    step has done, some 1 MiB; the work goes on with the next step.

    Parameters
    ----------
    source : io.FileIO
        The stream, open for reading. Its position is used.
    size : int
        How many bytes of it are copied.
    target : io.FileIO
        An empty file, open for reading and writing.
    deframer, level, block_size, threads
        See `BlockWriter`.

    Raises
    ------
    OSError
        A file cannot be read or written; the copy is not what was written; the stream is shorter than `size`.
    """
    unsynced = 0

    def put(data: bytes) -> None:
        nonlocal unsynced
        view = memoryview(data)
        while view:
            view = view[target.write(view) :]
        unsynced += len(data)
        if unsynced > SYNC_EVERY:
            sync(target.fileno())
            unsynced = 0

    writer = BlockWriter(put, deframer, level=level, block_size=block_size, threads=threads)
    try:
        source.seek(0)
        done = 0
        while done < size:
            data = source.read(min(CHUNK, size - done))
            if not data:
                raise _changed(source, f"it has {done} bytes, and had {size}")
            writer.write(data)
            done += len(data)
            yield len(data)
        writer.finish()
    finally:
        writer.abandon()
    sync(target.fileno())
    # With another descriptor of the same file, because the reader closes what it reads.
    copy = io.FileIO(duplicate(target.fileno()), "rb")
    copy.seek(0)
    name = str(target.name)
    sealed: SeekableFile | None = None
    try:
        sealed = open_seekable(copy, name)
        if sealed is None:
            raise OSError(errno.EIO, "the sealed copy has no table", name)
        sealed._threads = writer._threads
        source.seek(0)
        done = 0
        while done < size:
            data = source.read(min(CHUNK, size - done))
            found = bytearray(len(data))
            at = 0
            while at < len(found) and (count := sealed.readinto(memoryview(found)[at:])):
                at += count
            if not data or found != data:
                raise OSError(errno.EIO, f"the sealed copy is not what was written, behind {done} bytes", name)
            done += len(data)
            yield len(data)
        if sealed.size() != size or not sealed.has_table:
            raise OSError(errno.EIO, "the table of the sealed copy is not what was written", name)
    finally:
        (copy if sealed is None else sealed).close()
    return SealReport(name, size, os.fstat(target.fileno()).st_size, len(writer.table))


def _changed(file: io.FileIO, how: str) -> OSError:
    return OSError(errno.EBUSY, f"the file was changed while it was sealed: {how}", str(file.name))


def seal(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    level: int = DEFAULT_LEVEL,
    block_size: int = BLOCK_SIZE,
    remove: bool = False,
) -> SealReport:
    """Compresses a stream that is complete, so that it can be read from any place: see docs/sealed-files.md.

    The new file is one of Zstandard, so that ``zstd -d`` gives back the stream. It consists of blocks of whole frames
    which are decompressed alone, by several threads, and has a table of them at its end. `flatstream.open` reads it.

    Parameters
    ----------
    path : str or os.PathLike
        The file with the stream. Damaged and torn ones are sealed as they are.
    out : str or os.PathLike, optional
        The new file, by default `path` with ``.zst``. It must not exist. Until it is complete, compared with the stream
        and on the disk, it is called ``<out>.partial-<number of the process>``. It gets the times and the mode of
        `path`.
    checksum : Checksum, ChecksumType or str, optional
        That of the frames; by default it is found.
    level : int
        That of Zstandard: higher ones compress better and slower.
    block_size : int
        How many bytes of frames are a block, from 4 KiB to 16 MiB. A block is read as a whole.
    remove : bool
        Whether to remove `path` afterwards. A file that a writer has open is then refused.

    Returns
    -------
    SealReport

    Raises
    ------
    FileExistsError
        `out` exists.
    InvalidFrameError
        `path` is compressed already, or no stream as far as can be seen: then give `checksum`.
    OSError
        A file cannot be read or written. EBUSY: the stream is still written, or another file got its name. There is no
        new file then, unless it is the removal that failed.
    TypeError, ValueError
        An argument is wrong.
    ImportError
        There is no package for Zstandard.

    Examples
    --------
    >>> import flatstream, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "events.fs")
    ...     with flatstream.open(path, "w", checksum="xxhash64") as writer:
    ...         writer.write_payloads([b"measured %d" % number for number in range(100_000)])
    ...     report = flatstream.seal(path)
    ...     with flatstream.open(report.path) as reader:
    ...         bytes(next(reader)), report.blocks, report.stored_size < report.size / 2
    (b'measured 0', 10, True)
    """
    for name, value in (("path", path), ("out", out)):
        if not (is_path(value) or (name == "out" and value is None)):
            raise TypeError(f"{name} must be a str or os.PathLike, got {value!r:.100}")
    if not isinstance(remove, bool):
        raise TypeError(f"remove must be a bool, got {remove!r:.100}")
    level = check_level(level)
    block_size = index_argument("block_size", block_size)
    if not SMALLEST_BLOCK <= block_size <= LARGEST_BLOCK:
        raise ValueError(f"block_size must be from {SMALLEST_BLOCK} to {LARGEST_BLOCK} bytes, got {block_size}")
    source_path = os.fsdecode(path)
    if is_url(source_path):
        raise ValueError(f"only files of this computer can be sealed, got {source_path!r:.200}")
    deframer = None if checksum is None else deframer_for(checksum)
    if (found := compression_of(source_path)) is not None:
        raise InvalidFrameError(
            f"the file is compressed already ({found}), and flatstream convert makes a sealed one of it: "
            f"{source_path!r:.200}",
            offset=0,
            frame=0,
        )
    target_path = f"{source_path}.zst" if out is None else os.fsdecode(out)
    check_new(target_path)
    # The lock keeps writers out until the stream is removed.
    # Before it is opened, because to open a named pipe waits for the other side.
    if not stat.S_ISREG(os.stat(source_path).st_mode):
        raise io.UnsupportedOperation(f"only a regular file can be sealed, got {source_path!r:.200}")
    with open_for_writing(source_path, "ab") if remove else io.FileIO(source_path, "rb") as held:
        status = os.fstat(held.fileno())
        if not remove and (writer := who_writes(source_path)) is not None:
            raise OSError(errno.EBUSY, f"a writer has the file open: {writer}", source_path)
        if status.st_size // block_size >= MAX_ENTRIES:
            raise ValueError(
                f"block_size must be larger than {status.st_size // MAX_ENTRIES} bytes for a file of {status.st_size} "
                f"bytes, because a table has at most {MAX_ENTRIES} blocks, got {block_size}"
            )
        with io.FileIO(source_path, "rb") as source:
            if not os.path.samestat(os.fstat(source.fileno()), status):
                raise _changed(source, "another file has its name")
            if deframer is None:
                deframer = deframer_for(find_checksum(source, source_path).checksum)
            partial, target = open_partial(target_path, _open_new)
            try:
                with target:
                    steps = copy_sealed(source, status.st_size, target, deframer, level=level, block_size=block_size)
                    while True:
                        try:
                            next(steps)
                        except StopIteration as end:
                            report: SealReport = end.value
                            break
                now = os.fstat(source.fileno())
                if (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                    raise _changed(source, f"it has {now.st_size} bytes, and had {status.st_size}")
                shutil.copystat(source_path, partial)
                give_name(partial, target_path)
            except BaseException as error:
                say_what_is_full(error, target_path)
                _remove(partial)
                raise
        if remove:
            # As a program that rotates its files does it.
            if not os.path.samestat(os.stat(source_path), status):
                raise OSError(
                    errno.EBUSY, "it is sealed, and not removed, because another file has its name", source_path
                )
            os.unlink(source_path)
            sync_folder(source_path)
    return report._replace(path=target_path)


def _open_new(path: str) -> io.FileIO:
    return io.FileIO(path, "x+b", opener=open_private)


def open_private(path: str, flags: int) -> int:
    """Opens a new file that others cannot read. It gets the mode of the stream when it is complete."""
    return open_descriptor(path, flags, 0o600)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


assert LARGEST_BLOCK <= MAX_BLOCK

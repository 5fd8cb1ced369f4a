"""Sealed files: those in the seekable format of Zstandard, read from any place, and decompressed by several threads.

`flatstream._seek_table` has the format. The table at the end of a file is not believed: before a block is used, all
frames before it were decompressed, or passed over by their headers, and are where the table says, and as large. So the
offset of the block in the stream is the one that decompressing from the beginning would give. The block itself must be
one frame that decompresses to exactly as many bytes as the table says. At the first contradiction the table is left,
and the file decompressed from its beginning, as one without a table.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from flatstream._compressed import ZSTANDARD, DecompressedFile
from flatstream._core.base.pickling import fail_to_pickle
from flatstream._files import duplicate
from flatstream._peeked import PeekedFile, read_fully
from flatstream._seek_table import (
    MOST_INNER,
    SKIPPABLE,
    ZSTD_MAGIC,
    SeekTable,
    WrongFrameError,
    load_zstd,
    max_stored,
    measure_frame,
    read_table,
    skippable_size,
)

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["SeekableFile", "number_of_threads", "open_seekable"]

# The most threads that decompress for one file. Each gets so many bytes of blocks at a time, because handing something
# to a thread takes as long as decompressing 100 KiB, and they are at most so many bytes ahead of the reader.
MOST_THREADS = 4
RUN_BYTES = 1 << 20
MOST_AHEAD = 16 << 20
RETAINED = 8 << 20

# How many blocks are kept that were read: one that is read on in, and one that is looked into beside it.
KEPT = 2

# How many bytes may be looked at to find out whether frames are damaged or the table is wrong: so many, and so many
# times the file.
MOST_DOUBT = 16 << 20
MOST_TIMES = 4

# How much is decompressed at a time to be passed over.
STEP = 1 << 20

# A block that cannot be decompressed is read as bytes with which no frame begins: they claim 4 GiB.
FILLING = b"\xff"


def number_of_threads() -> int:
    """How many threads decompress or compress blocks: as many as there are processors, 0 for none beside the caller."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    return 0 if count < 2 else min(count, MOST_THREADS)


class _Contradiction(Exception):  # noqa: N818 - never seen by a caller
    """A block is not what the table says of it."""


def open_seekable(file: Any, name: str) -> SeekableFile | None:
    """The contents of a file with a table of seeking; None if it has none that can be used.

    Parameters
    ----------
    file : raw file that can seek
        The result closes it. If there is none, its position is at its beginning.
    name : str
        Its path, for messages.

    Raises
    ------
    ImportError
        There is no package for Zstandard.
    """
    raw = _RawFile(file)
    head = raw.read_at(0, SKIPPABLE)
    is_possible = head.startswith(ZSTD_MAGIC) or skippable_size(head) is not None
    table = read_table(raw.read_at, raw.size()) if is_possible else None
    file.seek(0)
    return None if table is None else SeekableFile(file, name, table)


class _RawFile:
    """A file that is read at explicit offsets."""

    def __init__(self, file: Any) -> None:
        self.file = file
        is_regular = type(file) is io.FileIO and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._has_pread = is_regular and hasattr(os, "pread")

    def size(self) -> int:
        return self.file.seek(0, io.SEEK_END)  # type: ignore[no-any-return]

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; fewer only at the end."""
        if self._has_pread:
            data = os.pread(self.file.fileno(), size, offset)
            if len(data) == size or not data:
                return data
            return data + self.read_at(offset + len(data), size - len(data))
        self.file.seek(offset)
        return read_fully(self.file.read, size)


class _FromBeginning:
    """The file of a `DecompressedFile`, at a position of its own."""

    def __init__(self, raw: _RawFile) -> None:
        self._raw = raw
        self._at = 0

    def read(self, size: int) -> bytes:
        data = self._raw.read_at(self._at, size)
        self._at += len(data)
        return data

    def close(self) -> None:
        pass


class SeekableFile(PeekedFile):
    """What a sealed file holds, as a raw file that can seek. Closing it closes the file.

    Reading on decompresses the next blocks ahead, in threads. Only one thread may use the object at a time.

    Parameters
    ----------
    file : raw file that can seek
        The sealed file.
    name : str
        Its path, for messages.
    table : SeekTable or None
        Its table; None for a file without one, which is decompressed from its beginning.
    fill : bool
        Whether a block that cannot be decompressed is read as so many bytes that no frame begins with (then `damage`
        tells of it, and what cannot be decompressed without a table is the end). Otherwise that is an OSError.
    threads : int, optional
        How many threads decompress; by default as many as there are processors, up to 4.

    Attributes
    ----------
    name : str
        The path.
    format : str
        "Zstandard".
    damage : dict of int to str
        Why a block cannot be decompressed, by its number, as far as blocks were read; -1 for the rest of a file without
        a table.
    """

    format = ZSTANDARD.name

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __init__(
        self, file: Any, name: str, table: SeekTable | None, *, fill: bool = False, threads: int | None = None
    ) -> None:
        super().__init__()
        self._ahead: dict[int, tuple[Future[list[bytes | None]], int]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._blocks: dict[int, bytes] = {}
        self._file = file
        self._raw = _RawFile(file)
        self.name = name
        self._fill = fill
        self._zstd = load_zstd()
        self._table: SeekTable | None = table
        # So many blocks, from the first one on, are where the table says.
        self._checked = 0
        self._doubt = 0
        self.damage: dict[int, str] = {}
        # Where `readinto` and `peek` take bytes.
        self._position = 0
        # `_ahead` has the blocks that threads decompress: each with the run of blocks it is in, and its place there.
        # Then the block behind them, and the one that was read last.
        self._next = 0
        self._last = -2
        self._threads = number_of_threads() if threads is None else threads
        self._process = os.getpid()
        # Without a table: what decompresses from the beginning, where it is, and the size once that is known.
        self._stream: DecompressedFile | None = None
        self._stream_at = 0
        self._stream_size: int | None = None

    # Blocks

    @property
    def has_table(self) -> bool:
        """Whether blocks can be read alone, as far as that was found out: their number is not 0 then."""
        return self._table is not None

    @property
    def count(self) -> int:
        """The number of blocks; 0 for a file that has to be decompressed from its beginning."""
        return 0 if self._table is None else len(self._table)

    def bounds(self, index: int) -> tuple[int, int]:
        """Where a block begins and ends in the stream, once `check` has compared the table with the file so far."""
        if self._table is None or not 0 <= index < len(self._table):
            raise IndexError(f"expected a block from 0 to {self.count - 1}, got {index}")
        return self._table.begins[index], self._table.begins[index + 1]

    def blocks(self, begin: int, end: int) -> range:
        """The numbers of the blocks in which the bytes of the stream from `begin` to `end` are."""
        if self._table is None or begin >= end:
            return range(0)
        first = max(0, bisect_right(self._table.begins, begin) - 1)
        last = bisect_right(self._table.begins, end - 1)
        return range(first, min(last, len(self._table)))

    def check(self, count: int) -> bool:
        """Compares the first `count` entries of the table with the frames; False if they contradict, so that there are
        no blocks any more.
        """
        while self._table is not None and self._checked < min(count, len(self._table)):
            try:
                self._check_frame(self._checked)
            except _Contradiction:
                self._leave_table()
            else:
                self._checked += 1
        return self._table is not None

    def read_block(self, index: int) -> bytes:
        """One block, decompressed.

        Raises
        ------
        IndexError
            There is no such block, or none at all, because the table is wrong: `has_table` says so.
        OSError
            It cannot be decompressed, or not be read.
        """
        self.bounds(index)
        data = self._block(index)
        if data is None:
            raise IndexError(f"{self.name}: the table is wrong, so that no block can be read alone")
        return data

    def read_blocks(self, first: int, stop: int) -> Iterator[bytes]:
        """The blocks from one to another, decompressed ahead by threads; see `read_block`."""
        for index in range(first, stop):
            self._last = index - 1
            yield self.read_block(index)

    # The stream

    def size(self) -> int:
        """The size of the stream. Compares the table with the whole file, or decompresses that if it has no table."""
        if self._table is not None and self.check(len(self._table)):
            return self._table.begins[-1]
        if self._stream_size is None:
            self._skip_to(None)
        assert self._stream_size is not None
        return self._stream_size

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Reads the bytes at `offset` of the stream; returns how many, 0 only at its end. The position stays."""
        data = self._bytes_at(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position - len(self._shown) + self._read

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        base = 0 if whence == io.SEEK_SET else self.tell() if whence == io.SEEK_CUR else self.size()
        if base + offset < 0:
            raise ValueError(f"expected a position of at least 0, got {base + offset}")
        self._shown, self._read, self.error = b"", 0, None
        self._position = base + offset
        return self._position

    def _take(self, size: int) -> bytes | memoryview:
        data = self._bytes_at(self._position, size)
        self._position += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._drop_ahead()
            pool, self._pool = self._pool, None
            self._blocks.clear()
            try:
                if pool is not None and self._process == os.getpid():
                    pool.shutdown(wait=False)
                self._file.close()
            finally:
                super().close()

    def again(self) -> SeekableFile:
        """The same file once more, at its beginning, to be read beside this object. It must have a descriptor."""
        other = SeekableFile(io.FileIO(duplicate(self.fileno()), "rb"), self.name, self._table, fill=self._fill)
        other._checked = self._checked
        return other

    def fileno(self) -> int:
        return self._file.fileno()  # type: ignore[no-any-return]

    # What is inside

    def _bytes_at(self, offset: int, size: int) -> bytes | memoryview:
        """Up to `size` bytes from `offset` on, in one block; none at the end only."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        while size > 0 and (table := self._table) is not None:
            index = bisect_right(table.begins, offset) - 1
            if index >= len(table):
                # The end of the stream, if the table is right.
                if self.check(len(table)):
                    return b""
            elif (data := self._block(index)) is not None:
                at = offset - table.begins[index]
                return memoryview(data)[at : at + size]
        return self._from_beginning(offset, size) if size > 0 else b""

    def _block(self, index: int) -> bytes | None:
        """A block, of those that are kept or ahead if it is there; None if the table was found to be wrong."""
        data = self._blocks.get(index)
        if data is None:
            # What is skipped holds nothing, and is no block to decompress.
            if not self.check(index + (self._table is not None and not self._table[index].size)):
                return None
            if self._process != os.getpid():
                # The threads are not in the child.
                self._process, self._pool = os.getpid(), None
                self._ahead.clear()
            try:
                data = self._decompressed(index)
            except _Contradiction:
                self._leave_table()
                return None
            while len(self._blocks) >= KEPT:
                self._blocks.pop(next(iter(self._blocks)))
            self._blocks[index] = data
        if index == self._last + 1:
            self._fetch_ahead(index + 1)
        elif index != self._last:
            self._drop_ahead()
        self._last = index
        return data

    def _decompressed(self, index: int) -> bytes:
        assert self._table is not None
        known = self.damage.get(index)
        size = self._table[index].size
        if not size:
            return b""
        if known is None:
            ahead = self._ahead.pop(index, None)
            found = None
            if ahead is not None and not ahead[0].cancel():
                found = ahead[0].result()[ahead[1]]
            try:
                if found is None:
                    found = _decompress(self._zstd, self._stored(index), size)
                self._checked = max(self._checked, index + 1)
                return found
            except (_Contradiction, self._zstd.ZstdError) as error:
                # Either the table is wrong, or the block is damaged.
                known = self._reason(index, error)
        if self._fill:
            self.damage[index] = known
            return FILLING * size
        raise OSError(
            f"{self.name}: the {self.format} data cannot be decompressed ({known}), in the first "
            f"{self._table.places[index + 1]} bytes of the file, behind {self._table.begins[index]} bytes of the stream"
        )

    def _stored(self, index: int) -> bytes:
        """A block as it is in the file, where the table says."""
        assert self._table is not None
        return self._raw.read_at(self._table.places[index], self._table[index].stored)

    def _check_frame(self, index: int) -> None:
        """Compares an entry of the table with the frame there, of which the beginning is known. A damaged frame is as
        large as the table says: nothing else says anything.

        Raises
        ------
        _Contradiction
            There is another frame.
        """
        assert self._table is not None
        entry = self._table[index]
        place = self._table.places[index]
        try:
            found = measure_frame(self._raw.read_at, place, self._table.places[-1])
        except WrongFrameError as error:
            self._note_doubt(error.passed - entry.stored)
            return
        if found.stored not in (-1, entry.stored) or found.size not in (-1, entry.size):
            self._note_doubt(found.stored)
            # Of what is damaged, the size may be.
            if self._is_sound(place, found.stored):
                raise _Contradiction
            return
        if found.size < 0:
            # Only decompressing it tells its size, or where it ends.
            self._note_doubt(MOST_INNER if found.stored < 0 else 0)
            with contextlib.suppress(self._zstd.ZstdError):
                self._blocks = {index: _decompress(self._zstd, self._stored(index), entry.size)}

    def _note_doubt(self, count: int) -> None:
        """Notes that so many bytes of the file were looked at to find out whether a frame is damaged or the table is
        wrong. Damage costs little of this, but a table can have each of its frames reach far into the others.

        Raises
        ------
        _Contradiction
            It is many times the file.
        """
        assert self._table is not None
        self._doubt += max(0, count)
        if self._doubt > MOST_DOUBT + MOST_TIMES * self._table.places[-1]:
            raise _Contradiction

    def _is_sound(self, place: int, stored: int) -> bool:
        """Whether the frame at an offset of the file can be decompressed. It may hold any number of bytes."""
        decompressor = self._zstd.ZstdDecompressor()
        end = place + stored
        try:
            while not decompressor.eof:
                data = b""
                if decompressor.needs_input:
                    data = self._raw.read_at(place, min(STEP, end - place))
                    place += len(data)
                    if not data:
                        return False
                decompressor.decompress(data, STEP)
        except self._zstd.ZstdError:
            return False
        return place == end and not decompressor.unused_data

    def _reason(self, index: int, error: Exception) -> str:
        """Why a block cannot be decompressed, if the table is right.

        Raises
        ------
        _Contradiction
            There is another frame than the table says.
        """
        assert self._table is not None
        self._check_frame(index)
        if not isinstance(error, _Contradiction):
            return str(error)
        if self._is_sound(self._table.places[index], self._table[index].stored):
            raise error
        return "its frame is damaged"

    def _fetch_ahead(self, index: int) -> None:
        """Has threads decompress the blocks from `index` on."""
        table = self._table
        if not self._threads or table is None:
            return
        if index not in self._ahead:
            self._next = index
        while table.begins[self._next] - table.begins[index] < min(self._threads * RUN_BYTES, MOST_AHEAD):
            first = stop = self._next
            while stop < len(table) and (
                stop == first or table.begins[stop + 1] - table.begins[first] <= max(RUN_BYTES, table[first].size)
            ):
                stop += 1
            if first == stop or not self._fetch(first, stop):
                return
            self._next = stop

    def _fetch(self, first: int, stop: int) -> bool:
        """Has a thread decompress a run of blocks; False if that cannot be. What is wrong is met when they are read."""
        table = self._table
        assert table is not None
        start = table.places[first]
        if table.places[stop] - start > max_stored(2 * MOST_AHEAD):
            # Much that is to be skipped.
            return False
        with contextlib.suppress(OSError, RuntimeError):
            data = memoryview(self._raw.read_at(start, table.places[stop] - start))
            run = []
            for index in range(first, stop):
                at = table.places[index] - start
                stored, size = table[index]
                run.append((data[at : at + stored], size))
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                _keep_freed_memory()
                self._pool = ThreadPoolExecutor(self._threads, "flatstream-zstd")
            # At the end of the interpreter there are no new threads.
            future = self._pool.submit(_decompress_run, self._zstd, run)
            self._ahead.update((first + place, (future, place)) for place in range(stop - first))
            return True
        return False

    def _drop_ahead(self) -> None:
        for future, _ in self._ahead.values():
            future.cancel()
        self._ahead.clear()

    # Without a table

    def _leave_table(self) -> None:
        """From now on, the file is one without a table."""
        self._table = None
        self._drop_ahead()
        self._blocks.clear()
        self.damage.clear()

    def _from_beginning(self, offset: int, size: int) -> bytes | memoryview:
        if not self._skip_to(offset):
            return b""
        return self._stream_bytes(size)

    def _skip_to(self, offset: int | None) -> bool:
        """Decompresses up to an offset, or to the end; False if the stream ends before."""
        if self._stream is None or offset is None or offset < self._stream_at:
            self._stream = DecompressedFile(_FromBeginning(self._raw), self.name, ZSTANDARD)
            self._stream_at = 0
        while offset is None or self._stream_at < offset:
            left = STEP if offset is None else min(STEP, offset - self._stream_at)
            if not self._stream_bytes(left):
                return False
        return True

    def _stream_bytes(self, size: int) -> bytes | memoryview:
        assert self._stream is not None
        try:
            data = self._stream._take(size)
        except (OSError, EOFError) as error:
            if not self._fill:
                raise
            self.damage[-1] = str(error)
            data = b""
        if not data:
            self._stream_size = self._stream_at
        self._stream_at += len(data)
        return data


def _keep_freed_memory() -> None:
    """Has the C library keep up to 8 MiB of freed memory in each of its heaps.

    That of glibc gives memory at the end of a heap back if it is more than twice the largest block that was ever mapped
    by itself and freed. In a young process that is so little that each run of blocks gets new pages, which the system
    has to clear: that took as long as decompressing. Allocating and freeing a large block changes it, and takes 10 us.
    """
    large = bytes(RETAINED // 2)
    del large


def _decompress(zstd: Any, data: bytes | memoryview, size: int) -> bytes:
    """The block of `size` bytes in a frame of Zstandard. Other threads run meanwhile."""
    decompressor = zstd.ZstdDecompressor()
    found: bytes = decompressor.decompress(data, size + 1)
    if len(found) != size or not decompressor.eof or decompressor.unused_data:
        raise _Contradiction
    return found


def _decompress_run(zstd: Any, run: list[tuple[memoryview, int]]) -> list[bytes | None]:
    """Blocks as they are in the file, decompressed; None for one that cannot be."""
    found: list[bytes | None] = []
    for data, size in run:
        try:
            found.append(_decompress(zstd, data, size) if size else b"")
        except (_Contradiction, zstd.ZstdError):
            found.append(None)
    return found

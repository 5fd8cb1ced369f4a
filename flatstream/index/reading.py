"""Reading an index: whether it fits its stream, and what it says.

An index is never trusted for safety: whoever reads blocks by it reads whole frames with their checksums. But it is
trusted for which blocks need not be read. So it counts only if nobody could have written it who could not have written
the stream, and if it is of this stream: the first frame and the last frame that it covers are the same.
"""

from __future__ import annotations

import logging
import math
import os
import stat
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from flatstream._files import open_descriptor
from flatstream._index_hook import index_paths
from flatstream._remote import is_url
from flatstream.index._fields import IndexedField, field_at, identifier_of, others_of
from flatstream.index._format import (
    MAX_HASHED_FIRST,
    BlocksEntry,
    Fingerprint,
    Head,
    Parsed,
    fingerprint_of_first,
    fingerprint_of_last,
    parse_index,
)

if TYPE_CHECKING:
    from flatstream.schema import Table

__all__ = [
    "UNSEEKABLE",
    "FieldStatistics",
    "FileIndex",
    "UnusableIndex",
    "find_wrong",
    "load_index",
    "who_else_writes",
    "why_unseekable",
]

logger = logging.getLogger("flatstream.index")

# An index of one field has a thousandth of the stream; one of a thousand fields has a quarter. A larger one is not
# read, so that it takes no more memory than the stream would.
LEAST_LIMIT = 4 << 20

# How many of the last messages with blocks may have lost their place, because the end of the stream was written anew.
MAX_STEPS_BACK = 64


# Why a compressed file that is not sealed has no use of an index.
UNSEEKABLE = "the stream cannot be read at offsets"

# In nanoseconds. A file that was changed longer ago cannot have been changed since without another time: the times of
# file systems go in steps of some milliseconds, or of two seconds.
OLD_ENOUGH = 3 * 10**9

# How many blocks times fields are kept: 24 bytes each, and twice that while nobody else uses them.
KEPT_BLOCKS = 1 << 19


class _Ranges(Protocol):
    """What is needed of a `RangeFile`."""

    @property
    def size(self) -> int: ...
    @property
    def can_seek(self) -> bool: ...
    def read_at(self, offset: int, size: int) -> bytes: ...


@dataclass(frozen=True)
class UnusableIndex:
    """That there is no index, or why it is left aside.

    Attributes
    ----------
    reason : str
        Why, for people: ``"there is none"``, or a sentence about the index.
    path : str or None
        The index; None if there is none.
    """

    reason: str
    path: str | None = None


@dataclass(frozen=True, eq=False)
class FieldStatistics:
    """The ranges of one field, block by block; arrays of NumPy.

    Attributes
    ----------
    low, high : numpy.ndarray of int64, uint64 or float64
        The lowest and highest values. In a block without a value, `low` is the highest number of the type, and `high`
        the lowest, so that nothing lies between.
    nulls : numpy.ndarray of int64
        How many messages of the table have no value, or NaN.
    """

    low: Any
    high: Any
    nulls: Any

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        """All three."""
        return self.low, self.high, self.nulls


@dataclass(frozen=True, eq=False)
class FileIndex:
    """The index of one stream: its blocks, in order. Arrays are of NumPy, read-only, with an item for each block.

    Attributes
    ----------
    path : str
        The index.
    offsets, ends : numpy.ndarray of int64
        Where each block begins and ends, in stream offsets; on both ends a frame begins or the stream ends.
    first_frames, frames, rows : numpy.ndarray of int64
        The number of the first frame as `StreamReader.message_number` counts it, how many frames there are, and how
        many of them are messages of the table.
    statistics : dict of str to FieldStatistics
        The ranges of each field that is read as the index has it.
    fields : tuple of IndexedField
        These fields.
    covered : int
        Where the last block ends; 0 if there is none. What follows is not known.
    begin : int
        Where the messages begin: behind the description.
    gaps : list of (int, int)
        The ranges between `begin` and `covered` that no block has. Whoever reads the stream reads them, too.
    head : Head
        The head of the index.
    notes : list of str
        What of it was left aside, for people.
    """

    path: str
    offsets: Any
    ends: Any
    first_frames: Any
    frames: Any
    rows: Any
    statistics: dict[str, FieldStatistics]
    fields: tuple[IndexedField, ...]
    covered: int
    begin: int
    gaps: list[tuple[int, int]]
    head: Head
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ends)

    def __repr__(self) -> str:
        names = ", ".join(each.path for each in self.fields)
        return f"<FileIndex of {len(self)} blocks, {self.covered} bytes, with {names or 'no field'}>"


class _UnusableError(Exception):
    """An index that is left aside; the text says why."""


def why_unseekable(compression: str | None) -> str:
    """What to tell of a file that cannot be read at offsets, behind `UNSEEKABLE`."""
    kind = f"{compression} is" if compression else "it is"
    return f"{kind} read from the beginning only, and no index is used; a plain or sealed file can have one"


def load_index(
    path: str | os.PathLike[str], stream: _Ranges, *, table: Table | None = None, checksum: str | None = None
) -> FileIndex | UnusableIndex:
    """The index of a stream, if it has one that fits.

    Parameters
    ----------
    path : str or os.PathLike
        The file or URL with the stream.
    stream : RangeFile
        The same, open.
    table : Table, optional
        With which the stream is read. Without it, only `offsets`, `frames` and the like are of use: all fields are
        there, whatever they mean.
    checksum : str, optional
        The name of the checksum with which it is read.

    Returns
    -------
    FileIndex or UnusableIndex
        It never raises for what an index is; only for a `stream` that cannot be read.

    Raises
    ------
    OSError, EOFError
        From `stream`.
    ImportError
        NumPy is not installed.
    """
    reasons = []
    for name in index_paths(path):
        try:
            read, status = _read_file(name, stream)
        except FileNotFoundError:
            continue
        except (OSError, _UnusableError, ImportError, ValueError) as error:
            reasons.append(UnusableIndex(str(error), name))
            continue
        try:
            of_stream: os.stat_result | None = getattr(stream, "status", None)
            if status is not None and of_stream is not None and (who := who_else_writes(status, of_stream)):
                raise _UnusableError(who)
            return _load(name, read, stream, table, checksum)
        except _UnusableError as error:
            reasons.append(UnusableIndex(str(error), name))
    if not reasons:
        return UnusableIndex("there is none")
    logger.info("the index %s is left aside: %s", reasons[0].path, reasons[0].reason)
    return reasons[0]


class _Read:
    """An index that was read.

    Attributes
    ----------
    parsed : Parsed
        What it says.
    whole : FileIndex or None
        The arrays of all of it, once somebody has asked for them.
    """

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.whole: FileIndex | None = None


class _Kept:
    """The indexes that were read last, because to parse one takes ten times as long as to see that it is the same."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begins anew. In a forked child, too: another thread may have held the lock, or been in the middle."""
        self._lock = threading.Lock()
        self._found: dict[Any, _Read] = {}
        self._blocks = 0

    @staticmethod
    def key(status: os.stat_result) -> Any:
        """What tells that a file is the same; None if it was changed so lately that its times may not tell."""
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        if not status.st_ino or time.time_ns() - changed <= OLD_ENOUGH:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def get(self, key: Any) -> _Read | None:
        with self._lock:
            found = self._found.pop(key, None)
            if found is not None:
                # The last one is the one that was used last.
                self._found[key] = found
            return found

    def put(self, key: Any, read: _Read) -> None:
        with self._lock:
            if key in self._found:
                return
            self._found[key] = read
            self._blocks += _size_of(read)
            while self._blocks > KEPT_BLOCKS:
                self._blocks -= _size_of(self._found.pop(next(iter(self._found))))


def _size_of(read: _Read) -> int:
    """How many blocks times fields there are, and some more for the index itself."""
    head = read.parsed.head
    fields = 0 if head is None else len(head.fields)
    return 64 + sum(entry.blocks for entry in read.parsed.entries) * (1 + fields)


_kept = _Kept()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_kept.forget)


def _read_file(name: str, stream: _Ranges) -> tuple[_Read, os.stat_result | None]:
    limit = max(LEAST_LIMIT, stream.size // 4)
    if is_url(name):
        from flatstream._ranges import open_ranges

        with open_ranges(name) as remote:
            if not 0 <= remote.size <= limit:
                raise _UnusableError(f"it has {remote.size} bytes, which is too many for the stream")
            return _Read(parse_index(remote.read_at(0, remote.size))), None
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    fd = open_descriptor(name, flags)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _UnusableError("it is no regular file")
        if status.st_size > limit:
            raise _UnusableError(f"it has {status.st_size} bytes, which is too many for the stream")
        key = _kept.key(status)
        if key is not None and (known := _kept.get(key)) is not None:
            return known, status
        pieces = []
        left = limit + 1
        # It may grow meanwhile.
        while left and (piece := os.read(fd, min(left, 1 << 20))):
            pieces.append(piece)
            left -= len(piece)
        read = _Read(parse_index(b"".join(pieces)))
        if key is not None and _kept.key(os.fstat(fd)) == key:
            _kept.put(key, read)
        return read, status
    finally:
        os.close(fd)


def who_else_writes(status: os.stat_result, data: os.stat_result) -> str | None:
    """Who could write an index who could not write its stream, by the status of both; None for nobody."""
    if os.name != "posix":
        return None
    if status.st_uid not in (data.st_uid, 0, os.geteuid()):
        return "it belongs to somebody else than the file"
    more = status.st_mode & ~data.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if more or (status.st_mode & stat.S_IWGRP and status.st_gid != data.st_gid and not data.st_mode & stat.S_IWOTH):
        return "others may write it who may not write the file"
    return None


def _load(name: str, read: _Read, stream: _Ranges, table: Table | None, checksum: str | None) -> FileIndex:
    parsed = read.parsed
    head = parsed.head
    if head is None:
        raise _UnusableError(parsed.problem or "it is empty")
    notes = [] if parsed.problem is None else [f"its end is left aside: {parsed.problem}"]
    if checksum is not None and head.checksum != checksum:
        raise _UnusableError(f"its frames have the checksum {head.checksum}, and the stream is read with {checksum}")
    fields: list[IndexedField] = list(head.fields)
    if table is not None:
        fields = _fields_of(head, table, notes)
    if not stream.can_seek:
        raise _UnusableError(UNSEEKABLE)
    if first_frame_of(stream, head.first_frame.size) != head.first_frame:
        raise _UnusableError("it is of another stream: the first frame is another")
    entries = parsed.entries
    last = find_last(entries, stream)
    if last < len(entries):
        left = len(entries) - last
        said = f"{left} messages of it are" if left > 1 else "1 message of it is"
        notes.append(f"{said} about another end of the stream")
    elif len(fields) == len(head.fields):
        whole = read.whole
        if whole is None:
            whole = read.whole = _assemble(name, head, entries, fields, [])
        return replace(whole, path=name, statistics=dict(whole.statistics), gaps=list(whole.gaps), notes=notes)
    return _assemble(name, head, entries[:last], fields, notes)


def first_frame_of(stream: _Ranges, size: int) -> Fingerprint | None:
    """The fingerprint of a stream's first frame, if that has `size` bytes."""
    if not 0 < size <= stream.size:
        return None
    found = stream.read_at(0, min(size, MAX_HASHED_FIRST))
    if len(found) < min(size, MAX_HASHED_FIRST):
        return None
    made = fingerprint_of_first(found)
    return Fingerprint(size, made.hash)


def find_last(entries: list[BlocksEntry], stream: _Ranges) -> int:
    """How many of the messages are about this stream, as the last frame of each is: 0 for none."""
    size = stream.size
    count = len(entries)
    while count and entries[count - 1].end > size:
        count -= 1
    for back in range(MAX_STEPS_BACK):
        if not count:
            return 0
        # One by one at first, as after a crash; then with longer and longer steps.
        entry = entries[count - 1]
        wanted = entry.last_frame
        hashed = min(wanted.size, 4096)
        found = stream.read_at(entry.end - wanted.size, hashed)
        if len(found) == hashed and fingerprint_of_last(found, wanted.size) == wanted:
            return count
        count = max(0, count - (1 << max(0, back - 4)))
    return 0


def _fields_of(head: Head, table: Table, notes: list[str]) -> list[IndexedField]:
    """The fields that are read as the index has them; raises _UnusableError for another table."""
    said = (head.table, head.file_identifier, head.others)
    if said != (table.name, identifier_of(table), others_of(table)):
        raise _UnusableError(f"it is about messages of {head.table}, and the stream is read with {table.name}")
    found = []
    for each in head.fields:
        try:
            if each.is_read_as(field_at(table, each.path)):
                found.append(each)
                continue
        except (KeyError, TypeError):
            pass
        notes.append(f"the field {each.path} is left aside: the table has another of this name, or none")
    return found


def find_wrong(head: Head, entries: list[BlocksEntry]) -> str | None:
    """Why the numbers in messages with blocks cannot be, as far as they alone tell; None if they can, or without NumPy,
    with which they are read.
    """
    if not entries or not hasattr(entries[0].ends, "dtype"):
        return None
    try:
        _assemble("", head, entries, list(head.fields), [])
    except _UnusableError as error:
        return str(error)
    return None


_DTYPES = {"signed": "int64", "unsigned": "uint64", "floating": "float64"}
# The least and the largest number of each type.
_LIMITS: dict[str, tuple[float, float]] = {
    "signed": (-(1 << 63), (1 << 63) - 1),
    "unsigned": (0, (1 << 64) - 1),
    "floating": (-math.inf, math.inf),
}


def _assemble(
    name: str, head: Head, entries: list[BlocksEntry], wanted: list[IndexedField], notes: list[str]
) -> FileIndex:
    """The arrays of all messages together."""
    try:
        import numpy as np
    except ImportError:
        raise ImportError("an index is read with NumPy: pip install flatstream[columns]") from None

    # One call for all messages, because a call costs more than the numbers of a message.
    def joined(parts: list[Any], dtype: str) -> Any:
        return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)

    per_entry = np.array([entry.blocks for entry in entries], "int64")
    # Which block is the first one of each message.
    starts = np.cumsum(per_entry) - per_entry
    ends = joined([entry.ends for entry in entries], "int64")
    frames = joined([entry.block_frames for entry in entries], "int64")
    rows = frames
    if any(entry.block_rows is not entry.block_frames for entry in entries):
        rows = joined([entry.block_rows for entry in entries], "int64")
    offsets, first_frames = np.empty_like(ends), np.cumsum(frames) - frames
    if entries:
        offsets[1:] = ends[:-1]
        offsets[starts] = [entry.begin for entry in entries]
        first_frames += np.repeat([entry.first_frame for entry in entries] - first_frames[starts], per_entry)
    # A frame has four bytes or more.
    wrong = (frames <= 0) | (offsets < 0) | (ends - offsets < 4 * frames) | (rows > frames)
    if wrong.any():
        entry = entries[int(np.searchsorted(starts, np.argmax(wrong), "right")) - 1]
        raise _UnusableError(f"it has blocks that cannot be, between {entry.begin} and {entry.end}")
    statistics = {}
    for number, each in enumerate(head.fields):
        if each not in wanted:
            continue
        dtype = _DTYPES[each.form]
        low = joined([entry.ranges[number][0] for entry in entries], dtype)
        high = joined([entry.ranges[number][1] for entry in entries], dtype)
        nulls = [entry.ranges[number][2] for entry in entries]
        if any(part is not None for part in nulls):
            sizes = zip(nulls, entries, strict=True)
            null = joined([np.zeros(entry.blocks, "int64") if part is None else part for part, entry in sizes], "int64")
            empty = null >= rows
        else:
            null = np.zeros(len(rows), "int64")
            empty = rows == 0
        if (null > rows).any() or not ((low <= high) | empty).all():
            raise _UnusableError(f"it has ranges that cannot be, of the field {each.path}")
        if empty.any():
            low[empty], high[empty] = _LIMITS[each.form][::-1]
        statistics[each.path] = FieldStatistics(low, high, null)
    gaps = []
    behind = head.begin
    for entry in entries:
        if entry.begin > behind:
            gaps.append((behind, entry.begin))
        behind = entry.end
    covered = entries[-1].end if entries else 0
    # Other readers get the same ones.
    for array in (
        offsets,
        ends,
        first_frames,
        frames,
        rows,
        *(one for each in statistics.values() for one in each.arrays),
    ):
        array.setflags(write=False)
    return FileIndex(
        name,
        offsets,
        ends,
        first_frames,
        frames,
        rows,
        statistics,
        tuple(wanted),
        covered,
        head.begin,
        gaps,
        head,
        notes,
    )

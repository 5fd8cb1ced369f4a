"""The last messages of a stream: of a file from its end, of anything else by reading all of it."""

from __future__ import annotations

import io
import os
import stat
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from flatstream._files import duplicate
from flatstream._seekable import SeekableFile
from flatstream.cli._inputs import Input, Opened
from flatstream.cli._plans import HexPlan, Loss, Plan, Row
from flatstream.errors import FlatStreamError
from flatstream.journal import JournalReader
from flatstream.reader import StreamReader
from flatstream.writer import StreamWriter

__all__ = ["Last", "last_rows"]

# A file of up to this size is read from its beginning on: that takes no time, and is certain.
WHOLE = 16 << 20

# How many bytes at the end of a larger file are searched first, how many frames at the end of a journal, and by how
# much more each time that these are too few.
FIRST_BYTES = 1 << 16
FIRST_FRAMES = 1024
FACTOR = 4

# Of a source that fails, or whose compressed data are damaged.
ERRORS = (OSError, EOFError, FlatStreamError)


class Last(NamedTuple):
    """The last rows of a stream, and the offset, or in a journal the number, behind the last whole message.

    `error` is one behind these rows, which is to be raised.
    """

    rows: list[Row]
    loss: Loss
    end: int
    error: Exception | None = None


def last_rows(
    one: Input,
    opened: Opened,
    plan: Plan,
    count: int,
    reopen: Callable[..., Opened],
    *,
    from_start: bool = False,
) -> Last:
    """The last `count` rows of an input.

    Parameters
    ----------
    one : Input
        The input.
    opened : Opened
        The input, of which no message was read yet.
    plan : Plan
        The plan for its messages.
    count : int
        How many rows.
    reopen : callable
        ``reopen(start=...)`` opens a journal at another place.
    from_start : bool
        Whether to read all of a large file. A search from its end can take a stream inside of a message for the stream
        itself.
    """
    if isinstance(opened.reader, JournalReader):
        return _of_journal(plan, count, reopen)
    file = opened.reader.source
    # The first frame of a part is needed to decrypt the others.
    from_start = from_start or opened.reader.encryption is not None
    if not from_start and one.kind == "file" and (size := _size_of(file)) is not None:
        try:
            return _of_file(file, size, opened.reader, plan, count)
        except ERRORS:
            # Damaged blocks are told with what stands before them.
            if not isinstance(file, SeekableFile):
                raise
    return _of_all(opened.reader, plan, count)


def _size_of(file: Any) -> int | None:
    """The size of the stream in a file that can be read from any place; None for another one."""
    if isinstance(file, SeekableFile):
        try:
            size = file.size()
        except ERRORS:
            return None
        # It may have been found out that the table is wrong.
        return size if file.has_table else None
    is_regular = type(file) is io.FileIO and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    return os.fstat(file.fileno()).st_size if is_regular else None


def _of_file(file: io.FileIO | SeekableFile, size: int, known: StreamReader, plan: Plan, count: int) -> Last:
    window = FIRST_BYTES if size > WHOLE else size
    is_selective = plan.is_selective
    while True:
        begin = max(0, size - window)
        window *= FACTOR
        place, end = _place_of_last(file, known, begin, count)
        if place is None:
            continue
        if is_selective:
            place = begin
        rows: deque[Row] = deque(maxlen=count)
        loss = Loss()
        if count:
            with _reader_at(file, known, place) as reader:
                for found in plan.rows(reader, loss, live=False):
                    rows += plan.moved(found, place)
                loss.keep()
        # Where reading begins inside of a frame, its rest is no loss.
        if place == begin and begin:
            loss.ranges = [lost for lost in loss.ranges if lost[0]]
        if len(rows) < count and loss.others and not is_selective:
            # Messages before them are wanted in place of those of other tables.
            is_selective, window = True, window // FACTOR
            continue
        if len(rows) >= count or not begin:
            return Last(list(rows), loss.moved(place), end)


def _place_of_last(
    file: io.FileIO | SeekableFile, known: StreamReader, begin: int, count: int
) -> tuple[int | None, int]:
    """Where the last `count` frames begin, and where the last one ends.

    If there are fewer from `begin` on, they begin at `begin`; None if there are none, and `begin` is not the beginning.
    """
    offsets: deque[int] = deque(maxlen=count)
    with _reader_at(file, known, begin) as reader:
        for batch in reader.batches():
            offsets.extend(batch.frame_offsets[-count:] if count else ())
        end = reader.offset
        if reader.lost_ranges and reader.lost_ranges[-1][1] == end:
            end = reader.lost_ranges[-1][0]
        if begin and not reader.frames_read:
            return None, 0
    return begin + (offsets[0] if count and len(offsets) == count else 0), begin + end


def _reader_at(file: io.FileIO | SeekableFile, known: StreamReader, offset: int) -> StreamReader:
    """Reads the same file from an offset on; nothing else uses the position of `file`."""
    again = file.again() if isinstance(file, SeekableFile) else io.FileIO(duplicate(file.fileno()), "rb")
    try:
        again.seek(offset)
        return _Owning(again, known.deframer, on_error="resync")
    except BaseException:
        again.close()
        raise


class _Owning(StreamReader):
    """A reader that closes its file."""

    def close(self) -> None:
        file = self.source
        super().close()
        if file is not None:
            file.close()


def _of_journal(plan: Plan, count: int, reopen: Callable[..., Opened]) -> Last:
    wanted = max(FIRST_FRAMES, count) if plan.is_selective else count
    while True:
        with reopen(start=-wanted if wanted else "newest") as opened:
            reader: Any = opened.reader
            rows: deque[Row] = deque(maxlen=count)
            loss = Loss()
            before = reader.position
            for found in plan.rows(reader, loss, live=False):
                rows += found
            end = reader.position
            loss.keep()
        # Fewer frames than wanted: it began at the oldest one.
        if len(rows) >= count or end - before < wanted:
            return Last(list(rows), loss, end)
        wanted *= FACTOR


def _of_all(reader: StreamReader, plan: Plan, count: int) -> Last:
    rows: deque[Row] = deque(maxlen=count)
    loss = Loss()
    error = None
    if plan.is_selective or isinstance(plan, HexPlan):
        try:
            for found in plan.rows(reader, loss, live=False):
                rows += found
        except ERRORS as caught:
            error = caught
        loss.keep()
        return Last(list(rows), loss, reader.offset, error)
    # Only the last messages become rows.
    kept: deque[tuple[int, bytes]] = deque(maxlen=count)
    try:
        for batch in reader.batches():
            if count:
                kept.extend(zip(batch.frame_offsets[-count:], map(bytes, batch[-count:]), strict=True))
    except ERRORS as caught:
        error = caught
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        writer.write_payloads([payload for _, payload in kept])
    with StreamReader(sink.getvalue(), on_error="skip", allow_empty=True) as last:
        for found in plan.rows(last, loss, live=False):
            rows += found
        refused = last.lost_ranges
    # What the schema refuses is told with its offset in the stream that was read.
    at = 0
    for offset, payload in kept:
        if any(begin <= at < end for begin, end in refused):
            loss.refused.append((offset, "it is no message of the table"))
        at += 4 + len(payload)
    loss.ranges = reader.lost_ranges
    return Last(list(rows), loss, reader.offset, error)

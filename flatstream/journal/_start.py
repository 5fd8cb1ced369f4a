"""Where a JournalReader begins: the segment and the offset for a number, a time, a cursor, or a count from the end."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from flatstream._core.base.checks import index_argument
from flatstream._ranges import ranges_of
from flatstream.description._schemas import UNITS
from flatstream.description.choice import described_tables
from flatstream.framing import Deframer
from flatstream.journal._heads import newest_description
from flatstream.journal._layout import Manifest, Sealed, Segment, index_path
from flatstream.journal._numbers import plain_deframer
from flatstream.journal._parts import Start, list_complete
from flatstream.journal._segment_files import SegmentFile, open_segment, size_of
from flatstream.journal._segment_map import SegmentMap, map_segment, open_piece
from flatstream.reader import StreamReader

__all__ = ["TimeField", "check_start", "find_start"]

# In a segment of fewer bytes, a time is found sooner without its index, which NumPy has to be imported for.
LEAST_INDEXED = 16 << 20

# How often the folder is listed anew because a segment was removed meanwhile.
ATTEMPTS = 1000


class TimeField:
    """The field of a table that has the time of a message."""

    def __init__(self, time: Any) -> None:
        if not isinstance(time, tuple) or not 2 <= len(time) <= 3:
            raise TypeError(f"time must be (table, field) or (table, field, unit), got {time!r:.100}")
        table, field, unit = (*time, "ns")[:3]
        if isinstance(table, type) or not hasattr(table, "read_records"):
            raise TypeError(f"time must begin with a Table of a schema (schema.root), got {table!r:.100}")
        if not isinstance(field, str):
            raise TypeError(f"the field of time must be a str, got {field!r:.100}")
        if unit not in UNITS:
            raise ValueError(f"the unit of time must be 's', 'ms', 'us' or 'ns', got {unit!r:.100}")
        self.table, self.field, self.unit = table, field, unit
        # Messages of other tables are known by their file identifiers only.
        is_known = getattr(table, "_others", None) is not None or (
            table.schema.file_identifier and table.schema.root == table
        )
        self._on_other: Literal["raise", "skip"] = "skip" if is_known else "raise"

    def records(self, reader: StreamReader, **options: Any) -> Iterator[Any]:
        """The messages of the table, and no others as far as they can be told apart."""
        return self.table.read_records(  # type: ignore[no-any-return]
            reader, on_error="resync", on_other=self._on_other, **options
        )

    def bound(self, moment: datetime) -> int:
        """The smallest value of the field that is not before `moment`."""
        whole = moment.timestamp()
        # Exactly: a float has not enough digits for nanoseconds.
        nanoseconds = math.floor(whole) * 1_000_000_000 + moment.microsecond * 1000
        return -(-nanoseconds // UNITS[self.unit])

    def first_not_before(self, reader: StreamReader, bound: int | None) -> StreamReader | None:
        """Reads up to the first message that has the time, and at least `bound`; None if there is none."""
        where = (self.field, ">=", bound) if bound is not None else None
        return reader if next(self.records(reader, where=where, limit=1), None) is not None else None


def check_start(start: Any, time: Any) -> TimeField | None:
    """Raises for a `start` that is none; returns the field of `time`, if given.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong.
    """
    if isinstance(start, datetime):
        if start.tzinfo is None or start.utcoffset() is None:
            raise ValueError(f"start must be a datetime with a time zone, as in datetime.now(UTC), got {start!r}")
        return None if time is None else TimeField(time)
    if time is not None:
        raise ValueError(f"time is for a start that is a datetime, got start={start!r:.100}")
    if isinstance(start, str) and start in ("oldest", "newest"):
        return None
    if isinstance(start, (str, float)) or start is None:
        raise ValueError(f"start must be 'oldest', 'newest', a number, a Cursor or a datetime, got {start!r:.100}")
    index_argument("start", start)
    return None


def find_start(
    directory: str,
    start: Any,
    deframer: Deframer,
    time: TimeField | None,
    *,
    manifest: Manifest | None = None,
    clamp: Callable[[int], None] | None = None,
) -> Start:
    """Where reading begins.

    Parameters
    ----------
    start : "oldest", "newest", int or datetime
        As `check_start` takes it.
    manifest : Manifest, optional
        The content of `journal.json`, as it was read before.
    clamp : callable, optional
        Gets the end of the journal if `start` is a number above it; reading then begins at the end. By default that is
        a ValueError.
    """
    plain = plain_deframer(deframer)
    for _ in range(ATTEMPTS):
        folder = _Folder(list_complete(directory), {} if manifest is None else manifest.sealed)
        try:
            return _find(folder, start, plain, time, clamp)
        except FileNotFoundError:
            # The retention has removed it since.
            continue
    raise OSError(f"the segments in {directory} are removed faster than they can be opened")


class _Folder(NamedTuple):
    """The segments of a journal, in order, and what is known of the sealed ones, by the name of the file."""

    segments: list[Segment]
    sealed: Mapping[str, Sealed]

    def map(self, at: int, file: SegmentFile, plain: Deframer) -> SegmentMap:
        """What the segment number `at` holds, with the numbers that `Parts` gives its frames."""
        segment, size = self.segments[at], size_of(file)
        known = self.sealed.get(segment.name)
        if at + 1 < len(self.segments):
            behind = self.segments[at + 1].first
            if known is not None:
                behind = min(behind, known.next)
            return map_segment(file, segment.first, size, plain, next_known=behind, is_final=True)
        behind_last = known.next if known is not None and known.bytes == size else None
        return map_segment(file, segment.first, size, plain, next_known=behind_last, is_final=False)

    def end(self, plain: Deframer) -> Start:
        """Where the last segment ends."""
        segment = self.segments[-1]
        file = open_segment(segment)
        try:
            found = self.map(len(self.segments) - 1, file, plain)
        except BaseException:
            file.close()
            raise
        return Start(segment, file, found.end, found.next, found.next)


def _find(
    folder: _Folder, start: Any, plain: Deframer, time: TimeField | None, clamp: Callable[[int], None] | None
) -> Start:
    segments = folder.segments
    if isinstance(start, datetime):
        return _at_time(folder, start, plain, time)
    number = 0 if start in ("oldest", "newest") else index_argument("start", start)
    if not segments:
        if number > 0:
            if clamp is None:
                raise ValueError(f"start is {number}, and the journal has no frame")
            clamp(0)
        return Start(None, None, 0, 0, 0)
    oldest = segments[0].first
    if start == "oldest":
        return _begin(segments[0])
    if start == "newest":
        return folder.end(plain)
    if number < 0:
        end = folder.end(plain)
        if end.file is not None:
            end.file.close()
        number = max(oldest, end.number + number)
    if number < oldest:
        return _begin(segments[0])._replace(wanted=number)
    return _seek(folder, number, plain, clamp)


def _begin(segment: Segment) -> Start:
    return Start(segment, open_segment(segment), 0, segment.first, segment.first)


def _seek(folder: _Folder, number: int, plain: Deframer, clamp: Callable[[int], None] | None) -> Start:
    """Where the frame with this number begins, or the nearest one behind it."""
    segments = folder.segments
    at = max(i for i, segment in enumerate(segments) if segment.first <= number)
    segment = segments[at]
    if number == segment.first:
        return _begin(segment)
    file = open_segment(segment)
    try:
        offset = _offset_without_damage(file, number - segment.first, plain)
        if offset is not None:
            return Start(segment, file, offset, number, number)
        found = folder.map(at, file, plain)
        offset, reached = found.offset_of(number, file, plain)
        if at + 1 == len(segments) and reached < number:
            if clamp is None:
                raise ValueError(f"start is {number}, and the journal ends before the frame {reached}")
            clamp(reached)
            number = reached
        lost = [one for one in found.ranges if one.first <= number < one.next]
        return Start(segment, file, offset, max(number, reached), number, lost[0].end - lost[0].start if lost else 0)
    except BaseException:
        file.close()
        raise


def _offset_without_damage(file: SegmentFile, frames: int, plain: Deframer) -> int | None:
    """The offset behind the first `frames` frames; None if there is damage before it, or if there are fewer."""
    with open_piece(file, 0, size_of(file), plain) as reader:
        while frames and (batch := reader.read_batch(max_frames=frames)) is not None and not reader.skipped:
            frames -= len(batch)
        return None if frames or reader.skipped else reader.offset


def _at_time(folder: _Folder, moment: datetime, plain: Deframer, time: TimeField | None) -> Start:
    """Where the messages begin that are not before `moment`: by `time`, or the time field of the description."""
    segments = folder.segments
    if not segments:
        return Start(None, None, 0, 0, 0)
    times = [time] if time is not None else _described_times(segments, plain)
    if not times:
        bound = moment.timestamp()
        for segment in segments:
            file = open_segment(segment)
            if os.fstat(file.fileno()).st_mtime >= bound:
                return Start(segment, file, 0, segment.first, segment.first)
            file.close()
        return folder.end(plain)
    # Each table has a first message that is not before `moment`, and reading begins at the first of these.
    starts: list[Start] = []
    best = None
    try:
        for each in times:
            starts.append(_at_recorded_time(folder, each, each.bound(moment), plain))
        best = min(starts, key=lambda start: start.number)
    finally:
        for start in starts:
            if start is not best and start.file is not None:
                start.file.close()
    return best


def _described_times(segments: list[Segment], plain: Deframer) -> list[TimeField]:
    """The time fields that the newest segment names, of each table that has one."""
    description = newest_description(segments, plain)
    if description is None:
        return []
    tables = described_tables(description)
    times: dict[str, TimeField] = {}
    for root in description.roots:
        if root.time_field is not None:
            time = TimeField((tables[root.file_identifier], root.time_field, root.time_unit))
            times.setdefault(root.file_identifier, time)
    return list(times.values())


def _at_recorded_time(folder: _Folder, time: TimeField, bound: int, plain: Deframer) -> Start:
    segments = folder.segments
    # The last segment whose first message is before `bound`: the first message that is not lies in it, or is the first
    # one of the segments behind it.
    low, high = 0, len(segments)
    while low < high:
        middle = (low + high) // 2
        if _begins_before(segments[middle], time, bound, plain):
            low = middle + 1
        else:
            high = middle
    for at in range(max(0, low - 1), len(segments)):
        segment = segments[at]
        file = open_segment(segment)
        try:
            size = size_of(file)
            begin, passed = _place_before(segment, time, bound) if size >= LEAST_INDEXED else (0, 0)
            with open_piece(file, begin, size, plain) as reader:
                found = time.first_not_before(reader, bound)
                if found is not None:
                    offset, before = begin + reader.message_offset, passed + reader.message_number
                    if not reader.skipped:
                        number = segment.first + before
                    else:
                        number = _number_at(file, folder, at, offset, plain)
                    return Start(segment, file, offset, number, number)
        except BaseException:
            file.close()
            raise
        file.close()
    return folder.end(plain)


def _place_before(segment: Segment, time: TimeField, bound: int) -> tuple[int, int]:
    """Where a search for the first message that has at least the time `bound` can begin: behind the blocks of which the
    index of the segment says that they have none. And how many frames lie before.
    """
    if not os.path.lexists(index_path(segment)):
        return 0, 0
    try:
        from flatstream.index import FileIndex, load_index

        with ranges_of(open_segment(segment)) as stream:
            index = load_index(segment.path, stream, table=time.table)
    except FileNotFoundError:
        # Retention has removed the segment.
        raise
    except (ImportError, OSError, EOFError):
        # Without NumPy, or where the segment cannot be read, which whoever reads it meets.
        return 0, 0
    if not isinstance(index, FileIndex) or time.field not in index.statistics:
        return 0, 0
    # Numbers behind damage are those that only reading from the beginning gives.
    usable = len(index)
    if index.gaps:
        usable = int((index.ends <= index.gaps[0][0]).sum())
    later = (index.statistics[time.field].high[:usable] >= bound).nonzero()[0]
    block = int(later[0]) if len(later) else usable
    if not block:
        return 0, 0
    return int(index.ends[block - 1]), int(index.first_frames[block - 1] + index.frames[block - 1])


def _number_at(file: SegmentFile, folder: _Folder, at: int, offset: int, plain: Deframer) -> int:
    """The number of the intact frame at an offset behind damage."""
    segment = folder.segments[at]
    whole = folder.map(at, file, plain)
    before = map_segment(file, segment.first, offset, plain, next_known=None, is_final=True)
    return segment.first + before.frames + sum(one.next - one.first for one in whole.ranges if one.start < offset)


def _begins_before(segment: Segment, time: TimeField, bound: int, plain: Deframer) -> bool:
    """Whether the first message of a segment that has a time is before `bound`."""
    with open_segment(segment) as file, open_piece(file, 0, size_of(file), plain) as reader:
        for record in time.records(reader):
            value: Any = record
            for name in time.field.split("."):
                value = getattr(value, name, None)
            if value is not None:
                return bool(value < bound)
    return False

"""`split`: one stream as many, by time, size or count."""

from __future__ import annotations

import errno
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flatstream._core.base.checks import int_argument
from flatstream.checksums import Checksum, ChecksumType
from flatstream.reader import FrameBatch
from flatstream.tools._order import BEFORE, Order
from flatstream.tools._outputs import NewStream, has_same_frames
from flatstream.tools._progress import Progress
from flatstream.tools._sources import (
    SourceReport,
    SourceStream,
    check_single,
    common_checksum,
    common_description,
    common_transforms,
    open_sources,
    times_of,
)

if TYPE_CHECKING:
    from flatstream.description import Description, Transform
    from flatstream.reader import _OnError
    from flatstream.schema import Table
    from flatstream.tools._times import MessageTimes

__all__ = ["SplitFile", "SplitReport", "split"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# As many as a reader puts into a batch by itself.
BATCH_FRAMES = 8192
_PLACE = re.compile(r"\{\{|\}\}|\{(?P<name>number|time)(?::(?P<width>0?[1-9]?))?\}|[{}]")


@dataclass(frozen=True)
class SplitFile:
    """One of the files of `split`.

    Attributes
    ----------
    path : str
        The file.
    frames, size : int
        How many messages it has, and its size in bytes.
    """

    path: str
    frames: int
    size: int

    def to_dict(self) -> dict[str, Any]:
        """The file for JSON."""
        return {"path": self.path, "frames": self.frames, "size": self.size}


@dataclass(frozen=True)
class SplitReport:
    """The result of `split`.

    Attributes
    ----------
    files : tuple of SplitFile
        The new files, in order.
    source : SourceReport
        What was read.
    out_of_order : int
        By time: how many messages have an earlier time than one before them.
    """

    files: tuple[SplitFile, ...]
    source: SourceReport
    out_of_order: int

    @property
    def frames(self) -> int:
        """How many messages all files have."""
        return sum(file.frames for file in self.files)

    @property
    def lost_bytes(self) -> int:
        """How many bytes of the source could not be read because of damage."""
        return self.source.lost_bytes

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "files": [file.to_dict() for file in self.files],
            "frames": self.frames,
            "out_of_order": self.out_of_order,
            "source": self.source.to_dict(),
        }


def split(
    source: Any,
    pattern: str | os.PathLike[str],
    *,
    every: timedelta | None = None,
    size: int | None = None,
    count: int | None = None,
    time: Any = None,
    table: Table | str | None = None,
    checksum: Checksum | ChecksumType | str | None = None,
    to_checksum: Checksum | ChecksumType | str | None = None,
    on_error: _OnError = "raise",
    progress: Callable[[int, int], object] | None = None,
) -> SplitReport:
    """Writes the messages of a stream to several new ones.

    Parameters
    ----------
    source : path, Input or StreamReader
        The stream; a folder is a journal. A StreamReader is read from where it is, and stays open.
    pattern : path
        The names of the new files, as ``"day-{time}.fs"`` or ``"part-{number:04}.fs"``. ``{number}`` counts them from
        0; ``{time}`` is, by time, where the interval of the file begins, as ``20260131T120000Z`` (with a fraction if it
        has one). ``{{`` and ``}}`` are braces. None of these files may exist; without ``{time}``, that is checked for
        all numbers before anything is written. Until one is complete, it is called
        ``<name>.partial-<number of the process>``. They are compressed if their names end so, as ``.fs.gz``.
    every : timedelta, optional
        A file for each interval of this length. Intervals are counted from the beginning of 1970 in UTC, so that those
        of an hour begin with the hours. Intervals without messages have no file.
    size : int, optional
        Each file has at most so many bytes, its description included, or one message that is larger. (Of compressed
        files and messages, before they are compressed.)
    count : int, optional
        Each file has so many messages, and the last one what is left.
    time, table
        By time: the time field, and the type of the messages; see `merge`.
    checksum, to_checksum, on_error, progress
        See `merge`.

    Returns
    -------
    SplitReport

    Raises
    ------
    FileExistsError
        There is a file of one of these names.
    TypeError, ValueError
        An argument is wrong; not one of `every`, `size` and `count` is given; the pattern gives two files one name; no
        time is known; the description leaves no room in files of `size` bytes for a message that is not as large.
    OSError, FlatStreamError
        The source or a new file failed; the source is damaged.

    Notes
    -----
    Each file gets its name when it is complete; so files that were complete before an error remain. By time, a message
    whose time is earlier than that of a message before it, or that has none, stays in the file of that message. The
    bytes of messages are not changed, and each file begins with the description.

    Examples
    --------
    >>> import tempfile, os, flatstream
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "all.fs")
    ...     with flatstream.open(path, "w", checksum="crc32") as writer:
    ...         writer.write_payloads([bytes([number]) for number in range(10)])
    ...     report = split(path, os.path.join(folder, "part-{number}.fs"), count=4)
    >>> [(os.path.basename(file.path), file.frames) for file in report.files]
    [('part-0.fs', 4), ('part-1.fs', 4), ('part-2.fs', 2)]
    """
    given = [name for name, value in (("every", every), ("size", size), ("count", count)) if value is not None]
    if len(given) != 1:
        raise ValueError(f"expected one of every, size and count, got {' and '.join(given) or 'none'}")
    names = _Names(os.fspath(pattern))
    length = 0
    if every is not None:
        length = _nanoseconds(every)
    elif names.has_time:
        raise ValueError(f"{{time}} in a pattern is for splitting by time, got {names.pattern!r:.200}")
    if time is not None and every is None:
        raise ValueError("time is for splitting by time: say every as well")
    limit = int_argument("size", size, 1, 2**62) if size is not None else 0
    number = int_argument("count", count, 1, 2**62) if count is not None else 0
    names.check_new()
    with open_sources([source], checksum, on_error) as opened:
        check_single(opened)
        stream = opened[0]
        algorithm = common_checksum(opened, to_checksum)
        description = common_description(opened, algorithm, table)
        told = Progress(opened, progress)
        transforms = common_transforms(opened)
        same = has_same_frames(stream, algorithm)
        with _Files(names, algorithm, description, transforms, same=same) as files:
            out_of_order = 0
            if every is not None:
                out_of_order = _by_time(stream, files, length, times_of(opened, table, time, "splitting"), told)
            elif size is not None:
                _by_size(stream, files, limit, told)
            else:
                _by_count(stream, files, number, told)
            told.finish()
            files.finish()
        return SplitReport(tuple(files.done), stream.report(), out_of_order)


def _by_time(stream: SourceStream, files: _Files, length: int, times: MessageTimes, told: Progress) -> int:
    """Writes all messages to files of their intervals, and returns how many are out of order."""
    order = Order()
    for batch in stream.reader.batches():
        keys = order.keys(times.of(batch, stream.plain))
        begin = bisect_right(keys, BEFORE)
        if begin:
            files.write_undated(batch, begin)
        while begin < len(keys):
            interval = keys[begin] // length
            end = bisect_left(keys, (interval + 1) * length, begin)
            files.write_interval(batch, begin, end, interval * length)
            begin = end
        told.tell()
    return order.out_of_order


def _by_size(stream: SourceStream, files: _Files, limit: int, told: Progress) -> None:
    header = 4 + files.checksum.size
    size = limit
    described = 0
    if files.description is not None:
        described = header + len(files.description._with_transforms(files.transforms).to_bytes())
    # What compression does not make smaller has one byte more; how much smaller others become is not known here.
    header += len(files.transforms)
    limit = max(0, limit - described)
    room = 0
    for batch in stream.reader.batches():
        begin = 0
        taken = 0
        for number, length in enumerate(batch.lengths):
            taken += header + length
            if taken <= room:
                continue
            if number > begin:
                files.write(batch, begin, number)
                begin = number
            if limit < header + length <= size or not limit:
                # Otherwise the message would be alone, and the file larger all the same.
                raise ValueError(
                    f"files of {size:,} bytes are too small: each begins with the description, which has "
                    f"{described:,} bytes, and a message has {header + length:,}"
                )
            files.begin()
            taken, room = header + length, limit
        files.write(batch, begin, len(batch))
        room = max(room - taken, 0)
        told.tell()


def _by_count(stream: SourceStream, files: _Files, count: int, told: Progress) -> None:
    room = 0
    while (batch := stream.reader.read_batch(max_frames=min(room or count, BATCH_FRAMES))) is not None:
        if not room:
            files.begin()
            room = count
        files.write(batch, 0, len(batch))
        room -= len(batch)
        told.tell()


class _Names:
    """The names of the new files, by a pattern."""

    def __init__(self, pattern: str) -> None:
        if not isinstance(pattern, str):
            raise TypeError(f"pattern must be a path of str, got {pattern!r:.100}")
        self.pattern = pattern
        places = list(_PLACE.finditer(pattern))
        wrong = next((place[0] for place in places if place[0] in "{}"), None)
        if wrong is not None:
            raise ValueError(
                f"a pattern has {{number}}, {{number:04}} and {{time}} in braces, and {{{{ and }}}} for braces; "
                f"got {pattern!r:.200}"
            )
        if any(place["name"] == "time" and place["width"] is not None for place in places):
            raise ValueError(f"{{time}} in a pattern has no width, got {pattern!r:.200}")
        found = {place["name"] for place in places} - {None}
        if not found:
            raise ValueError(
                "the pattern of the new files needs {number} or {time}, as in part-{number}.fs; "
                f"got {pattern!r:.200}"
            )
        self.has_time = "time" in found

    def check_new(self) -> None:
        """Raises FileExistsError if a file has the name of one of the new ones, without {time} in the pattern."""
        folder, last = os.path.split(self.pattern)
        if self.has_time or _PLACE.search(folder) is not None or not os.path.isdir(folder or "."):
            return
        parts, end = [], 0
        for place in _PLACE.finditer(last):
            parts += [re.escape(last[end : place.start()]), r"\d+" if place["name"] else re.escape(place[0][0])]
            end = place.end()
        pattern = re.compile("".join([*parts, re.escape(last[end:])]))
        for name in sorted(os.listdir(folder or ".")):
            if pattern.fullmatch(name):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.path.join(folder, name))

    def name(self, number: int, start: int | None) -> str:
        """The name of a file by its number, and the time in nanoseconds with which its interval begins."""

        def put(place: re.Match[str]) -> str:
            if place["name"] is None:
                return place[0][0]
            if place["name"] == "time":
                return "undated" if start is None else _time_text(start)
            return format(number, place["width"] or "")

        return _PLACE.sub(put, self.pattern)


class _Files:
    """The new files, one at a time. A context manager, which removes what is not complete at its end."""

    def __init__(
        self,
        names: _Names,
        checksum: Checksum,
        description: Description | None,
        transforms: tuple[Transform, ...],
        *,
        same: bool,
    ) -> None:
        self.names = names
        self.checksum = checksum
        self.description = description
        self.transforms = transforms
        self.same = same
        self.done: list[SplitFile] = []
        self.new: NewStream | None = None
        # Where the interval of the file begins; None if that is not known yet.
        self.start: int | None = None

    def begin(self, start: int | None = None) -> None:
        """Completes the file before, and begins the next one."""
        self.finish()
        self.start = start
        path = self.names.name(len(self.done), start)
        if any(file.path == path for file in self.done):
            raise ValueError(f"the pattern gives two files the name {path!r:.200}: add {{number}}")
        self.new = NewStream(path, self.checksum, self.description, self.transforms)

    def write(self, batch: FrameBatch, begin: int, end: int) -> None:
        assert self.new is not None
        self.new.write(batch, begin, end, as_they_are=self.same)

    def write_undated(self, batch: FrameBatch, end: int) -> None:
        """Writes messages before the first one that has a time, whose interval they share."""
        if self.new is None:
            self.begin()
        self.write(batch, 0, end)

    def write_interval(self, batch: FrameBatch, begin: int, end: int, start: int) -> None:
        if self.new is not None and self.start is None:
            self.new.rename(self.names.name(len(self.done), start))
            self.start = start
        if self.new is None or self.start != start:
            self.begin(start)
        self.write(batch, begin, end)

    def finish(self) -> None:
        if self.new is None:
            return
        with self.new as new:
            new.finish()
        self.done.append(SplitFile(new.path, new.frames, new.size))
        self.new = None

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self.new is not None:
            self.new.__exit__(kind, error, traceback)


def _nanoseconds(length: timedelta) -> int:
    if not isinstance(length, timedelta):
        raise TypeError(f"every must be a timedelta, got {length!r:.100}")
    nanoseconds = length // timedelta(microseconds=1) * 1000
    if nanoseconds <= 0:
        raise ValueError(f"every must be longer than nothing, got {length}")
    return nanoseconds


def _time_text(start: int) -> str:
    """A time in nanoseconds since 1970 as ``20260131T120000Z``; the number itself beyond the years 1 to 9999."""
    seconds, rest = divmod(start, 1_000_000_000)
    try:
        text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y%m%dT%H%M%S")
    except OverflowError:
        return str(start)
    # Of early years, strftime leaves out the zeros.
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{text.zfill(15)}{fraction}Z"

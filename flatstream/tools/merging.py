"""`merge`: many streams as one, in the order of their times."""

from __future__ import annotations

import heapq
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flatstream.checksums import Checksum, ChecksumType
from flatstream.reader import FrameBatch
from flatstream.tools._order import Order
from flatstream.tools._outputs import NewStream, has_same_frames
from flatstream.tools._progress import Progress
from flatstream.tools._sources import (
    SourceReport,
    SourceStream,
    common_checksum,
    common_description,
    common_transforms,
    metadata_left_out,
    open_sources,
    times_of,
)

if TYPE_CHECKING:
    from flatstream.reader import _OnError
    from flatstream.schema import Table
    from flatstream.tools._times import MessageTimes

__all__ = ["MergeReport", "merge"]


@dataclass(frozen=True)
class MergeReport:
    """The result of `merge`.

    Attributes
    ----------
    path : str
        The new file.
    frames, size : int
        How many messages it has, and its size in bytes.
    sources : tuple of SourceReport
        What was read from each source.
    out_of_order : int
        How many messages have an earlier time than one before them in the same source.
    metadata_left_out : tuple of str
        The keys of metadata in which the sources differ, so that the new file has none of them.
    """

    path: str
    frames: int
    size: int
    sources: tuple[SourceReport, ...]
    out_of_order: int
    metadata_left_out: tuple[str, ...] = ()

    @property
    def lost_bytes(self) -> int:
        """How many bytes of the sources could not be read because of damage."""
        return sum(source.lost_bytes for source in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "path": self.path,
            "frames": self.frames,
            "size": self.size,
            "lost_bytes": self.lost_bytes,
            "out_of_order": self.out_of_order,
            "metadata_left_out": list(self.metadata_left_out),
            "sources": [source.to_dict() for source in self.sources],
        }


def merge(
    sources: Iterable[Any],
    out: str | os.PathLike[str],
    *,
    time: Any = None,
    table: Table | str | None = None,
    checksum: Checksum | ChecksumType | str | None = None,
    to_checksum: Checksum | ChecksumType | str | None = None,
    on_error: _OnError = "raise",
    progress: Callable[[int, int], object] | None = None,
) -> MergeReport:
    """Writes the messages of many streams to a new one, in the order of their times.

    Parameters
    ----------
    sources : iterable of path, Input or StreamReader
        The streams; see `flatstream.tools.inputs.expand` for folders and patterns. A StreamReader is read from where it
        is, and stays open.
    out : path
        The new file, compressed if its name ends so, as ``.fs.gz``. It must not exist. Until it is complete, it is
        called ``<out>.partial-<number of the process>``.
    time : str or (str, str) or False, optional
        The field with the time of a message and its unit: ``"wall_time"``, ``"wall_time:us"``, ``("wall_time", "us")``.
        By default that of the streams' description, or the one whose name says it. False: one source after the other.
    table : Table or str, optional
        The type of the messages, by default that of the streams' description; or its name or file identifier there.
    checksum : Checksum, ChecksumType or its name, optional
        The checksum of the sources that are paths; by default it is found out.
    to_checksum : Checksum, ChecksumType or its name, optional
        The checksum of the new file; by default that of the sources.
    on_error : {"raise", "skip", "stop", "resync"}
        What reading of the paths does at damage; see `StreamReader`.
    progress : callable, optional
        ``progress(done, total)`` gets the bytes that were read, and the bytes of all sources (0 if that is not known).

    Returns
    -------
    MergeReport

    Raises
    ------
    FileExistsError
        `out` exists.
    ValueError
        There are no sources; no time is known; the sources describe themselves as streams of different messages; they
        have different checksums, and `to_checksum` is not given.
    TypeError, OSError, FlatStreamError
        An argument is wrong; a source or the new file failed; a source is damaged. There is no new file then.

    Notes
    -----
    The messages of a source stay in their order. One whose time is earlier than that of a message before it, or that
    has none, follows that message directly. Of messages with equal times, those of the earlier source come first. The
    bytes of messages are not changed. The description is carried on, with the metadata that all have in common. If all
    are compressed in the same way, so is the new file.
    Memory: for each source, one chunk of its reader.

    Examples
    --------
    >>> import tempfile, os, flatstream
    >>> table = flatstream.Schema.from_file("examples/telemetry.bfbs").root
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [os.path.join(folder, name) for name in ("a.fs", "b.fs", "both.fs")]
    ...     for path, times in zip(paths, [(10, 30), (20, 40)]):
    ...         with flatstream.open(path, "w", checksum="crc32") as writer:
    ...             for each in times:
    ...                 flatstream.RecordWriter(writer, table).write(wall_time_ns=each)
    ...     report = merge(paths[:2], paths[2], table=table)
    ...     with flatstream.open(paths[2], checksum="crc32") as reader:
    ...         [record.wall_time_ns for record in reader.records(table)]
    [10, 20, 30, 40]
    >>> report.frames, report.out_of_order
    (4, 0)
    """
    with open_sources(sources, checksum, on_error) as opened:
        if not opened:
            raise ValueError("there are no sources to merge")
        algorithm = common_checksum(opened, to_checksum)
        description = common_description(opened, algorithm, table)
        times = None if time is False else times_of(opened, table, time, "merging")
        told = Progress(opened, progress)
        with NewStream(os.fspath(out), algorithm, description, common_transforms(opened)) as new:
            out_of_order = 0
            if times is None:
                for source in opened:
                    same = has_same_frames(source, algorithm)
                    for batch in source.reader.batches():
                        new.write(batch, 0, len(batch), as_they_are=same)
                        told.tell()
            else:
                out_of_order = _merge(
                    [_Head(source, times, same=has_same_frames(source, algorithm)) for source in opened],
                    new,
                    told,
                )
            told.finish()
            new.finish()
        reports = tuple(source.report() for source in opened)
        left_out = metadata_left_out(opened, description)
        return MergeReport(new.path, new.frames, new.size, reports, out_of_order, left_out)


class _Head:
    """The next messages of one source, with their times."""

    def __init__(self, source: SourceStream, times: MessageTimes, *, same: bool) -> None:
        self.source = source
        self.times = times
        self.same = same
        self.order = Order()
        self.batch: FrameBatch | None = None
        self.keys: list[int] = []
        self.at = 0

    def read(self) -> bool:
        """Reads the next batch; False at the end."""
        # Not kept while the next one is read: its chunk can be used again.
        self.batch = None
        self.batch = self.source.reader.read_batch()
        if self.batch is None:
            return False
        self.keys = self.order.keys(self.times.of(self.batch, self.source.plain))
        self.at = 0
        return True


def _merge(heads: list[_Head], new: NewStream, told: Progress) -> int:
    """Writes all messages, and returns how many are out of order."""
    heap = [(head.keys[0], number) for number, head in enumerate(heads) if head.read()]
    heapq.heapify(heap)
    # Messages to be written: where sources alternate, there is a new run for each of them.
    gathered: list[memoryview] = []
    while heap:
        number = heap[0][1]
        head = heads[number]
        assert head.batch is not None
        at, keys = head.at, head.keys
        # All up to the next message of another source.
        end = len(keys) if len(heap) == 1 else _end_of_run(keys, at, number, min(heap[1:3]))
        if head.same and at == 0 and end == len(keys):
            new.write_payloads(gathered)
            new.writer.write_frames(head.batch)
        elif end == at + 1:
            gathered.append(head.batch[at])
        else:
            gathered += head.batch[at:end]
        head.at = end
        if end < len(keys):
            heapq.heapreplace(heap, (keys[end], number))
            continue
        # Views that are kept would keep the reader from using its chunk again.
        new.write_payloads(gathered)
        told.tell()
        if head.read():
            heapq.heapreplace(heap, (head.keys[0], number))
        else:
            heapq.heappop(heap)
    return sum(head.order.out_of_order for head in heads)


def _end_of_run(keys: list[int], at: int, number: int, limit: tuple[int, int]) -> int:
    """Where the messages from `at` on end that come before the one at `limit`, of another source."""
    key, other = limit
    # Of equal times, those of the earlier source come first.
    return bisect_right(keys, key, at) if number < other else bisect_left(keys, key, at)

"""What a segment holds: its intact frames, what is lost in it, and which numbers they have."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from flatstream._core.stream.frame_search import header_size_of
from flatstream._endpoints import Source
from flatstream.framing import Deframer
from flatstream.journal._numbers import head_size, numbers_of_ranges
from flatstream.journal._segment_files import SegmentFile, read_at
from flatstream.reader import StreamReader

__all__ = ["LostRange", "Run", "SegmentMap", "count_frames", "map_segment", "open_piece"]


class _Piece:
    """The bytes of a file from `begin` to `end`, as a source. The position of the file is not used."""

    def __init__(self, file: SegmentFile, begin: int, end: int) -> None:
        self._file = file
        self._at = begin
        self._end = end

    def readinto(self, buffer: memoryview) -> int:
        taken = read_at(self._file, self._at, buffer[: max(0, self._end - self._at)])
        self._at += taken
        return taken

    def bytes_left(self) -> int:
        return self._end - self._at


def open_piece(file: SegmentFile, begin: int, end: int, deframer: Deframer) -> StreamReader:
    """A reader of the intact frames between two offsets of a file, which stays open."""
    piece = _Piece(file, begin, end)
    arguments = {"readinto": piece.readinto, "seekable": True, "bytes_left": piece.bytes_left}
    reader = StreamReader(Source(piece, arguments), deframer, allow_empty=False, on_error="resync")
    if begin:
        # Only at the beginning of a segment a description is no message.
        reader._deliver_description()
    return reader


class _Lost(NamedTuple):
    """A range of bytes that are no intact frames, in offsets of the file, and how many intact frames lie before it."""

    start: int
    end: int
    before: int


def count_frames(file: SegmentFile, begin: int, end: int, deframer: Deframer) -> tuple[int, list[_Lost]]:
    """The number of intact frames between two offsets of a file, and the ranges between them."""
    frames = 0
    batches: list[tuple[int, int]] = []
    with open_piece(file, begin, end, deframer) as reader:
        for batch in reader.batches():
            batches.append((batch.stream_offset, frames))
            frames += len(batch)
        ranges = reader.lost_ranges
    lost = []
    # What is lost lies between two batches, or behind the last one.
    for start, stop in ranges:
        at = bisect_left(batches, (stop, 0))
        lost.append(_Lost(begin + start, begin + stop, batches[at][1] if at < len(batches) else frames))
    return frames, lost


class LostRange(NamedTuple):
    """A range of bytes that are no intact frames.

    Attributes
    ----------
    start, end : int
        In offsets of the file.
    before : int
        How many intact frames lie before it.
    first, next : int
        The numbers from the first to the second, exclusive, are those that it stands for.
    """

    start: int
    end: int
    before: int
    first: int
    next: int


class Run(NamedTuple):
    """Intact frames that follow each other.

    Attributes
    ----------
    start, end : int
        In offsets of the file.
    number : int
        The number of the first of them.
    frames : int
        How many there are.
    """

    start: int
    end: int
    number: int
    frames: int


class SegmentMap(NamedTuple):
    """What a segment holds, or the rest of it from an intact frame on.

    Attributes
    ----------
    runs : list of Run
        The first one begins with the description, if there is one.
    ranges : list of LostRange
        What lies between the runs, before and behind them.
    frames : int
        How many intact frames there are.
    end : int
        The offset where it ends; of a segment that may still be written, where its last intact frame ends.
    next : int
        The number behind all that it holds.
    last : int
        The number of the last intact frame; the number before the first one if there is none.
    is_final : bool
        Whether nobody writes to it any more.
    """

    runs: list[Run]
    ranges: list[LostRange]
    frames: int
    end: int
    next: int
    last: int
    is_final: bool

    def offset_of(self, number: int, file: SegmentFile, deframer: Deframer) -> tuple[int, int]:
        """Where the intact frame with this number begins, or the nearest one behind it; and its number. If there is
        none, `end` and `next`.
        """
        for run in self.runs:
            if number < run.number + run.frames:
                skipped = max(0, number - run.number)
                return _offset_behind(file, run.start, self.end, skipped, deframer), run.number + skipped
        return self.end, self.next


def _offset_behind(file: SegmentFile, begin: int, end: int, frames: int, deframer: Deframer) -> int:
    """The offset behind so many frames from `begin` on."""
    if not frames:
        return begin
    with open_piece(file, begin, end, deframer) as reader:
        while frames and (batch := reader.read_batch(max_frames=frames)) is not None:
            frames -= len(batch)
        return begin + reader.offset


def map_segment(
    file: SegmentFile,
    first: int,
    end: int,
    deframer: Deframer,
    *,
    begin: int = 0,
    next_known: int | None,
    is_final: bool,
) -> SegmentMap:
    """Reads a segment from the offset `begin`, where an intact frame should begin, to the offset `end`.

    Parameters
    ----------
    first : int
        The number of the frame at `begin`.
    next_known : int or None
        The number behind its last frame, if that is known.
    is_final : bool
        Whether nobody writes to it any more. Otherwise bytes at the end may be half a frame, and stand for nothing.
    """
    frames, lost = count_frames(file, begin, end, deframer)
    if not is_final and lost and lost[-1].end == end:
        end = lost.pop().start
    pairs = [(one.start, one.end) for one in lost]
    missing = None if next_known is None else next_known - first - frames
    head = head_size(file, deframer) if pairs and not begin else 0
    counts = numbers_of_ranges(pairs, missing, header_size_of(deframer) or 4, head)
    runs: list[Run] = []
    ranges: list[LostRange] = []
    at, number, before = begin, first, 0
    for one, count in zip([*lost, _Lost(end, end, frames)], [*counts, 0], strict=True):
        if one.before > before:
            runs.append(Run(at, one.start, number, one.before - before))
        number += one.before - before
        if one.end > one.start:
            ranges.append(LostRange(*one, number, number + count))
        at, number, before = one.end, number + count, one.before
    last = runs[-1].number + runs[-1].frames - 1 if runs else first - 1
    return SegmentMap(runs, ranges, frames, end, number, last, is_final)

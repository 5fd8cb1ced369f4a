"""What is read of each file, in which pieces: whole frames each, so that threads read the pieces of one file."""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from flatstream._core.stream.leaping import leap
from flatstream.framing import Deframer, as_deframer

if TYPE_CHECKING:
    from flatstream._ranges import RangeFile
    from flatstream.datasets._heads import Head, Options
    from flatstream.datasets._parts import Part
    from flatstream.index.reading import FileIndex

__all__ = ["Piece", "Planner", "Position", "Stretch", "Target", "piece_deframer", "plan_by_index"]

logger = logging.getLogger("flatstream.datasets")

# A piece is so large that handing it to a thread costs nothing beside reading it, and that two threads read files 1.8
# times as fast as one (asv_benchmarks/scale.py). The first one of a scan is smaller, so that the first rows come at
# once, and small if few are asked for.
PIECE = 8 << 20
FIRST_PIECE = 64 << 10

# How much is read at a time to find where frames end, in a larger piece.
WINDOW = 256 << 10

# A frame that is larger is left to a StreamReader, which reads it as it comes.
LARGEST_FRAME = 64 << 20

# How many files are planned ahead, and how many at a time.
AHEAD = 8
AT_A_TIME = 2

# Blocks of an index with no more bytes between them are read as one piece: to read the bytes takes less time than
# another piece.
HOLE = 128 << 10


class Position(NamedTuple):
    """A place between two frames of a part.

    Attributes
    ----------
    offset : int
        In bytes of the stream.
    frame : int
        The number of the frame that begins there, as a StreamReader of the whole part counts.
    """

    offset: int
    frame: int


class Stretch(NamedTuple):
    """A part of a file that is to be read.

    Attributes
    ----------
    begin : Position
        Where its first frame begins.
    end : int or None
        Where its last frame ends; None for the end of the file.
    frames : int or None
        How many frames it has, if an index says so. Then damage in it means that the index is wrong.
    blocks : range or None
        Of which blocks of the index it consists.
    is_gap : bool
        Whether an index was made that found damage here.
    """

    begin: Position
    end: int | None
    frames: int | None = None
    blocks: range | None = None
    is_gap: bool = False


@dataclass
class Target:
    """A file of a dataset that is to be read.

    Attributes
    ----------
    number : int
        Which file of the dataset it is.
    stretches : list of Stretch or None
        What is read of it, in order; None before that was planned.
    is_sequential : bool
        Whether one StreamReader has to read all of it: it is encrypted, or compressed as a whole.
    uses_index : bool
        Whether an index said what is read.
    damages : int
        How often damage was found in it.
    bytes_read : int
        How many bytes of it were read, without those of the file that is open.
    delivered : list of Stretch
        Of a file that is read by an index: what was given already, in order.
    """

    number: int
    part: Part
    head: Head
    stretches: list[Stretch] | None = None
    is_sequential: bool = False
    uses_index: bool = False
    damages: int = 0
    delivered: list[Stretch] = field(default_factory=list)
    file: RangeFile | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    bytes_read: int = 0
    _counted: int = 0
    # Where the blocks of its index begin, and the numbers of their first frames.
    offsets: Any = ()
    firsts: Any = ()

    def ranges(self) -> RangeFile:
        """The file, open."""
        with self.lock:
            if self.file is None:
                self.file = self.part.open_ranges()
            return self.file

    def close(self) -> None:
        """Closes the file."""
        with self.lock:
            if self.file is not None:
                self.bytes_read += self.file.bytes_read
                self.file.close()
                self.file = None

    def planned_bytes(self) -> int:
        """How many bytes are to be read, at most."""
        size = 0 if self.file is None else self.file.size
        ends = ((each, size if each.end is None else each.end) for each in self.stretches or ())
        return sum(max(0, end - each.begin.offset) for each, end in ends)

    def forget(self) -> None:
        """Frees what was needed to read the file, which was read to its end."""
        self.offsets = self.firsts = ()
        self.delivered = []
        self.stretches = []

    def take_count(self) -> int:
        """How many bytes were read of it since this was called last."""
        with self.lock:
            total = self.bytes_read + (0 if self.file is None else self.file.bytes_read)
            fresh, self._counted = total - self._counted, total
            return fresh

    def rest_behind(self, place: Position) -> list[Stretch]:
        """What is left of the stretches behind a place that a reader has come to."""
        left: list[Stretch] = []
        for stretch in self.stretches or ():
            if stretch.end is not None and stretch.end <= place.offset:
                continue
            if stretch.begin.offset >= place.offset:
                left.append(stretch)
            elif stretch.blocks is None or stretch.frames is None:
                left.append(stretch._replace(begin=place, is_gap=False))
            else:
                # As far as the next block, where a frame has to begin.
                number = bisect_left(self.offsets, place.offset, stretch.blocks.start, stretch.blocks.stop)
                is_last = number == stretch.blocks.stop
                begin = stretch.end if is_last else int(self.offsets[number])
                if begin != place.offset:
                    left.append(Stretch(place, begin))
                if not is_last:
                    behind = Position(int(self.offsets[number]), int(self.firsts[number]))
                    frames = stretch.begin.frame + stretch.frames - behind.frame
                    left.append(Stretch(behind, stretch.end, frames, range(number, stretch.blocks.stop)))
        return left

    def without_delivered(self) -> list[Stretch]:
        """All of the file but what was given already."""
        left: list[Stretch] = []
        place = Position(self.head.begin, 0)
        for stretch in self.delivered:
            assert stretch.end is not None
            assert stretch.frames is not None
            if stretch.begin.offset > place.offset:
                left.append(Stretch(place, stretch.begin.offset))
            place = Position(stretch.end, stretch.begin.frame + stretch.frames)
        left.append(Stretch(place, None))
        return left


class Piece(NamedTuple):
    """Something to read next.

    Attributes
    ----------
    target : Target
        The file.
    begin : Position
        Where the first frame begins.
    end : int or None
        Where the last frame ends; None for the end of the file.
    frames : int or None
        How many frames there are; None for a piece that one StreamReader reads to its end.
    data : bytes, memoryview or None
        The frames; None if they are still to be read.
    is_indexed : bool
        Whether an index says that frames begin and end there.
    least : int or None
        Of a piece that one StreamReader reads: how far it reads at least before reading goes on in pieces; None for the
        end.
    limit : int or None
        Where the stretch ends in which it is; None for the end of the file.
    """

    target: Target
    begin: Position
    end: int | None
    frames: int | None
    data: bytes | memoryview | None = None
    is_indexed: bool = False
    least: int | None = None
    limit: int | None = None


def piece_deframer(head: Head, options: Options) -> Deframer:
    """What finds the frames of a piece: it refuses what the reader of the whole file does not take."""
    assert head.middle is not None
    refuses_empty = head.allow_empty is False or options.on_error != "raise"
    return as_deframer(head.middle, allow_empty=False if refuses_empty else None)


class Planner:
    """Says what to read next. One thread at a time uses it.

    Parameters
    ----------
    targets : iterator of Target
        The files, in order.
    options : Options
        How they are read.
    prepare : callable
        Plans a target: sets its `stretches`.
    by_one_reader : bool
        Whether one StreamReader reads to the end of a file whose frames nobody has looked for: without a second thread,
        that is twice as fast as pieces are.
    looks_ahead : bool
        Whether all is wanted: then some files are planned ahead, if an index says what is read of them, so that the
        system reads from the disk for several at once, and the first piece is not one for a few rows.
    """

    def __init__(
        self,
        targets: Iterator[Target],
        options: Options,
        prepare: Callable[[Target], None],
        *,
        by_one_reader: bool = False,
        looks_ahead: bool = False,
    ) -> None:
        self._options = options
        self._by_one_reader = by_one_reader
        self._looks_ahead = looks_ahead
        # Those that were planned ahead; or the error that came in place of the next one.
        self._ahead: deque[Target | BaseException] = deque()
        self._targets = targets
        self._prepare = prepare
        # Those that are to be read before the next of `targets`.
        self._again: list[Target] = []
        self._target: Target | None = None
        # What is left of it, the next one last.
        self._left: list[Stretch] = []
        self._window: memoryview | None = None
        self._size = PIECE // 4 if looks_ahead else FIRST_PIECE
        # Whether there was a piece of the target.
        self._gives = False
        self._deframer: Deframer | None = None
        # Whether what follows depends on where a reader comes to.
        self.is_blocked = False
        # The targets behind the last one that was restarted, which were planned already.
        self._seen: list[Target] = []

    @property
    def opened(self) -> list[Target]:
        """The targets that were begun or planned, and not forgotten."""
        return self._seen + [target for target in self._ahead if isinstance(target, Target)]

    def next(self) -> Piece | None:
        """What to read next; None at the end, and while that is not known (`is_blocked`).

        Raises
        ------
        OSError, EOFError, FlatStreamError
            A file cannot be read.
        """
        while not self.is_blocked:
            if self._left:
                piece = self._piece()
                if piece is not None:
                    self._gives = True
                    if self._looks_ahead and piece.is_indexed:
                        self._look_ahead()
                    return piece
                continue
            if self._target is not None and not self._gives:
                # Nothing is read of it, so that nobody comes to its end.
                self._target.close()
            if self._again:
                target = self._again.pop(0)
            else:
                found = self._ahead.popleft() if self._ahead else next(self._targets, None)
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    self._target = None
                    return None
                target = found
                self._seen.append(target)
            self._begin(target)
        return None

    def _look_ahead(self) -> None:
        """Plans the next targets, few at a time, so that what can be read already does not wait."""
        for _ in range(AT_A_TIME):
            if len(self._ahead) >= AHEAD:
                return
            try:
                target = next(self._targets, None)
            except Exception as error:
                # At its turn.
                self._ahead.append(error)
                self._looks_ahead = False
                return
            if target is None:
                self._looks_ahead = False
                return
            self._ahead.append(target)
            try:
                self._prepare(target)
            except Exception:
                # It is planned again at its turn, which raises the error.
                target.stretches = None
                target.close()

    def _begin(self, target: Target, *, gives: bool = False) -> None:
        self._target, self._gives = target, gives
        if target.stretches is None:
            self._prepare(target)
        assert target.stretches is not None
        self._left = target.stretches[::-1]
        self._deframer = None if target.is_sequential else piece_deframer(target.head, self._options)

    def forget_before(self, target: Target) -> None:
        """Says that all targets before this one were read."""
        while self._seen and self._seen[0] is not target:
            # Of a file of which nothing is read, nobody else says so.
            self._seen.pop(0).close()

    def restart(self, target: Target, stretches: list[Stretch]) -> None:
        """Goes on with these stretches of a target, and then with those behind it. Pieces behind are given anew."""
        self.is_blocked = False
        place = next(i for i, known in enumerate(self._seen) if known is target)
        self._again = self._seen[place + 1 :]
        target.stretches = stretches
        self._begin(target, gives=True)

    def _piece(self) -> Piece | None:
        target, stretch = self._target, self._left[-1]
        assert target is not None
        if self._deframer is None:
            # One reader reads all of it.
            self._left.clear()
            return Piece(target, stretch.begin, stretch.end, None, limit=stretch.end)
        if stretch.is_gap:
            self.is_blocked = True
            return Piece(target, stretch.begin, None, None, least=stretch.end)
        if stretch.frames is not None:
            return self._indexed_piece(target, stretch)
        return self._walk(target, stretch)

    def _grow(self) -> int:
        size = self._size
        self._size = min(PIECE, 4 * size)
        return size

    def _indexed_piece(self, target: Target, stretch: Stretch) -> Piece:
        assert stretch.end is not None
        assert stretch.frames is not None
        size = self._grow()
        begin, blocks = stretch.begin, stretch.blocks
        cut = 0
        if blocks is not None and stretch.end - begin.offset > size:
            # The last block that begins near enough; a larger one is a piece of its own.
            cut = bisect_right(target.offsets, begin.offset + size, blocks.start, blocks.stop) - 1
            cut = max(cut, blocks.start + 1)
        if blocks is None or not cut or cut >= blocks.stop:
            self._left.pop()
            return Piece(target, begin, stretch.end, stretch.frames, is_indexed=True)
        behind = Position(int(target.offsets[cut]), int(target.firsts[cut]))
        frames = behind.frame - begin.frame
        self._left[-1] = Stretch(behind, stretch.end, stretch.frames - frames, range(cut, blocks.stop))
        return Piece(target, begin, behind.offset, frames, is_indexed=True)

    def _walk(self, target: Target, stretch: Stretch) -> Piece | None:
        """The next frames of a stretch of which it is not known where frames begin."""
        file = target.ranges()
        begin = stretch.begin
        limit = file.size if stretch.end is None else stretch.end
        size = self._grow()
        assert self._deframer is not None
        if begin.offset >= limit:
            self._left.pop()
            return None
        # Not from the middle on: not every file can be opened there.
        if self._by_one_reader and stretch.end is None and begin.offset == target.head.begin:
            self._left.pop()
            return Piece(target, begin, None, None)
        if size > WINDOW and file.status is not None and file.compression is None:
            behind = self._leap_far(file, begin, min(limit, begin.offset + size))
            if behind != begin:
                self._left[-1] = stretch._replace(begin=behind)
                return Piece(target, begin, behind.offset, behind.frame - begin.frame, limit=stretch.end)
        data: bytes | memoryview
        while True:
            data = file.read_at(begin.offset, min(size, limit - begin.offset))
            found = leap(data, self._deframer)
            if found is None:
                # A deframer in Python.
                self._left.clear()
                return Piece(target, begin, stretch.end, None, limit=stretch.end)
            if found.end:
                break
            if found.invalid:
                self.is_blocked = True
                return Piece(target, begin, None, None, least=begin.offset, limit=stretch.end)
            if not size < found.needed <= limit - begin.offset:
                # A torn end; or a wrong length.
                self._left.pop()
                return Piece(target, begin, stretch.end, None, limit=stretch.end)
            if found.needed > LARGEST_FRAME:
                self.is_blocked = True
                return Piece(target, begin, None, None, least=begin.offset, limit=stretch.end)
            size = found.needed
        if found.end < len(data):
            # A copy would take a quarter of the time of decoding it.
            data = memoryview(data)[: found.end]
        behind = Position(begin.offset + found.end, begin.frame + found.frames)
        self._left[-1] = stretch._replace(begin=behind)
        return Piece(target, begin, behind.offset, found.frames, data, limit=stretch.end)

    def _leap_far(self, file: RangeFile, begin: Position, end: int) -> Position:
        """The end of the last frame before an offset, as far as frames fit into a window.

        The bytes are read again by who decodes them. That takes less time than memory for all of them.
        """
        assert self._deframer is not None
        if self._window is None:
            self._window = memoryview(bytearray(WINDOW))
        offset, frame = begin
        while offset < end:
            count = file.read_into(offset, self._window[: end - offset])
            found = leap(self._window[:count], self._deframer)
            if found is None or not found.end:
                break
            offset += found.end
            frame += found.frames
        return Position(offset, frame)


# With an index


def plan_by_index(target: Target, index: FileIndex, may_match: Any, size: int) -> list[Stretch]:
    """What is to be read of a file, by its index: the blocks that may match, and all that it does not cover.

    Parameters
    ----------
    target : Target
        The file. Gets the places of the blocks.
    index : FileIndex
        Its index.
    may_match : numpy.ndarray of bool, optional
        Which blocks may have rows; by default all.
    size : int
        Of the stream.
    """
    import numpy as np

    count = len(index)
    target.offsets, target.firsts = index.offsets, index.first_frames
    stretches: list[Stretch] = []
    # Numbers of blocks; the last of each run is where the next one is not read together with it.
    wanted = np.arange(count) if may_match is None else may_match.nonzero()[0]
    # Where reading cannot go on from one block to the next.
    begins = {end: begin for begin, end in index.gaps}
    behind_gap = np.isin(index.offsets, list(begins)) if begins else None
    if behind_gap is not None:
        wanted = np.union1d(wanted, behind_gap.nonzero()[0])
    if len(wanted):
        holes = index.offsets[wanted[1:]] - index.ends[wanted[:-1]]
        cuts = holes > HOLE
        if behind_gap is not None:
            # Also if the gap is between two of them.
            gaps_before = np.cumsum(behind_gap)
            cuts |= gaps_before[wanted[1:]] > gaps_before[wanted[:-1]]
        lasts = np.append(cuts.nonzero()[0], len(wanted) - 1)
        firsts = np.append(0, lasts[:-1] + 1)
        for first, last in zip(wanted[firsts].tolist(), wanted[lasts].tolist(), strict=True):
            begin, end = int(index.offsets[first]), int(index.ends[last])
            number = int(index.first_frames[first])
            if begin in begins:
                before = int(index.first_frames[first - 1] + index.frames[first - 1]) if first else 0
                stretches.append(Stretch(Position(begins[begin], before), begin, is_gap=True))
                if may_match is not None and not may_match[first : last + 1].any():
                    continue
            frames = int(index.first_frames[last] + index.frames[last]) - number
            stretches.append(Stretch(Position(begin, number), end, frames, range(first, last + 1)))
    covered = Position(target.head.begin, 0)
    if count:
        covered = Position(int(index.ends[-1]), int(index.first_frames[-1] + index.frames[-1]))
    if covered.offset < size:
        stretches.append(Stretch(covered, None))
    return stretches

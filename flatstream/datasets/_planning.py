"""Where a dataset is cut into splits: at frames, which are found by leaping over headers where nothing else tells."""

from __future__ import annotations

import io
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flatstream._core.stream.frame_search import evidence_bytes_of, find_next_frames, header_size_of
from flatstream._core.stream.leaping import boundaries
from flatstream._endpoints import open_file
from flatstream._ranges import RangeFile, ranges_of
from flatstream.datasets._parts import Part
from flatstream.errors import FlatStreamError, UnexpectedEofError
from flatstream.journal._layout import Segment
from flatstream.journal._segment_files import open_segment
from flatstream.reader import StreamReader

if TYPE_CHECKING:
    from flatstream.datasets._dataset import Dataset
    from flatstream.framing import Deframer

__all__ = ["Stretch", "cut_stretches", "find_stretches"]

# The distance of the frames that leaping notes: a twentieth of a split, and at most this.
MOST_STEP = 4 << 20

# Where a cut would leave less than this share of a split on one side of the end of a file, the file is not cut there.
TOLERANCE = 0.1

# What is read at a time to check the frames at a cut, and the most for one frame.
CHECKED = 64 << 10
MOST_CHECKED = 16 << 20

# How far behind damage frames are searched for, and how many damaged places of a file are passed over.
SEARCHED = 16 << 20
MOST_DAMAGE = 100

# How many blocks of a sealed file are tried for a cut.
MOST_BLOCKS = 8

# How much larger a compressed stream is than its file, as long as nothing else is known: it is for sharing out work only.
GUESSED_RATIO = 3


@dataclass(frozen=True, slots=True)
class Stretch:
    """Whole frames of a part that follow one another.

    Attributes
    ----------
    number : int
        Of the part in the dataset.
    begin, end : int
        Offsets in the stream; `end` is None where only reading tells where the stream ends.
    frame : int
        The number of the first frame, as far as it is known.
    is_last : bool
        Whether it goes to the end of the part.
    size : int
        About how many bytes it has.
    """

    number: int
    begin: int
    end: int | None
    frame: int
    is_last: bool
    size: int


def find_stretches(dataset: Dataset, where: Any) -> list[Stretch]:
    """What of each part may have rows that are wanted: all of it, as long as no index says otherwise."""
    found = []
    for number, part in enumerate(dataset._parts):
        head = dataset._head(number)
        if head.table is None:
            continue
        try:
            with _open(part) as file:
                size = file.size if file.can_seek else -1
        except FileNotFoundError:
            if part.kind != "segment":
                raise
            # Retention has removed it since it was listed.
            continue
        begin = head.begin if head.middle is not None else 0
        guess = size if size >= 0 else max(1, GUESSED_RATIO * (part.size or 0))
        found.append(Stretch(number, begin, size if size >= 0 else None, 0, True, max(0, guess - begin)))
    return found


def _open(part: Part) -> RangeFile:
    if part.kind == "segment":
        file = open_segment(Segment(part.path, part.first))
        return ranges_of(file, size=None if part.was_compressed else part.size)
    file = open_file(part.path)
    return ranges_of(file, size=part.size if type(file) is io.FileIO else None)


def cut_stretches(dataset: Dataset, stretches: Sequence[Stretch], count: int) -> list[list[Stretch]]:
    """Shares stretches out among at most `count` splits of about as many bytes each, in their order."""
    total = sum(stretch.size for stretch in stretches)
    if not total:
        return [list(stretches)] if stretches else []
    share = total / count
    pieces: list[Stretch] = []
    at = 0
    for stretch in stretches:
        # The places of the cuts inside of it.
        first, last = math.floor(at / share) + 1, math.ceil((at + stretch.size) / share) - 1
        slack = TOLERANCE * share
        places = [round(cut * share) - at for cut in range(first, last + 1)]
        places = [place for place in places if slack <= place <= stretch.size - slack]
        pieces.extend(_cut(dataset, stretch, places, share) if places else [stretch])
        at += stretch.size
    splits: list[list[Stretch]] = [[] for _ in range(count)]
    at = 0
    for piece in pieces:
        middle = at + piece.size / 2
        splits[min(count - 1, int(middle / share))].append(piece)
        at += piece.size
    return [split for split in splits if split]


def _cut(dataset: Dataset, stretch: Stretch, places: list[int], share: float) -> list[Stretch]:
    """Cuts a stretch at the frames that follow some places in it, as far as such are found."""
    part, head = dataset._parts[stretch.number], dataset._head(stretch.number)
    on_error = dataset._options.on_error
    if stretch.end is None or head.middle is None or header_size_of(head.middle) is None or on_error == "stop":
        # With "stop", whether a frame is read depends on all that lie before it.
        return [stretch]
    if on_error == "resync" and not evidence_bytes_of(head.middle):
        # Frames without a checksum are found again by what lies before them.
        return [stretch]
    with _open(part) as file:
        finder = _Finder(file, head.middle, stretch, careful=on_error == "resync")
        wanted = [stretch.begin + place for place in places]
        if file.compression is not None:
            cuts = finder.by_blocks(wanted)
        else:
            cuts = finder.by_leaping(wanted, max(1, int(min(MOST_STEP, share / 20))))
    return list(_pieces(stretch, cuts))


def _pieces(stretch: Stretch, cuts: Iterable[tuple[int, int]]) -> Iterable[Stretch]:
    assert stretch.end is not None
    begin, frame = stretch.begin, stretch.frame
    for offset, number in cuts:
        if begin < offset < stretch.end:
            yield Stretch(stretch.number, begin, offset, frame, False, offset - begin)
            begin, frame = offset, number
    yield Stretch(stretch.number, begin, stretch.end, frame, stretch.is_last, stretch.end - begin)


class _Finder:
    """Finds frames in a stretch at which it can be cut.

    A reader that begins at a cut must see what one sees that has read all that lies before. Where damage raises, or is
    left out frame by frame, that is so at every frame that headers lead to. Where a reader searches for the next frame
    behind damage, `careful` is true: the frames before a cut must be intact, so that every search ends before it.
    """

    def __init__(self, file: RangeFile, deframer: Deframer, stretch: Stretch, *, careful: bool) -> None:
        assert stretch.end is not None
        self._file = file
        self._deframer = deframer
        self._end = stretch.end
        self._begin = stretch.begin
        self._frame = stretch.frame
        self._careful = careful
        evidence = evidence_bytes_of(deframer)
        # How many frames in a row show where frames are.
        self._chain = 1 if evidence >= 4 else 3 if evidence else 8

    def by_leaping(self, wanted: list[int], step: int) -> list[tuple[int, int]]:
        """For each place the first frame behind it that can be found, or none."""
        cuts: list[tuple[int, int]] = []
        begin, frame = self._begin, self._frame
        waiting = list(wanted)
        room = step + CHECKED
        for _ in range(MOST_DAMAGE):
            limit = min(self._end, waiting[-1] + room)
            found = boundaries(self._file.read_at, limit, self._deframer, begin, step)
            if found is None:
                break
            offsets = [offset for offset, _ in found]
            while waiting and waiting[0] <= offsets[-1]:
                index = bisect_left(offsets, waiting.pop(0))
                offset: int | None = offsets[index]
                number = frame + found[index][1]
                if self._careful:
                    offset = self.behind_chain(offsets[index])
                    number += self._chain
                if offset is not None:
                    cuts.append((offset, number))
            if not waiting:
                break
            begin, frame = offsets[-1], frame + found[-1][1]
            if limit < self._end:
                # The next frame may be longer than that.
                room *= 16
                continue
            following = self._next_frame(begin) if self._careful else None
            if following is None:
                break
            begin = following
        return cuts

    def by_blocks(self, wanted: list[int]) -> list[tuple[int, int]]:
        """The same for a sealed file, whose blocks begin with frames, as a rule."""
        cuts = []
        for place in wanted:
            for begin in self._file.block_offsets(place, self._end)[:MOST_BLOCKS]:
                checked = self.behind_chain(begin)
                if checked is not None:
                    # How many frames lie before it would need all blocks to be read.
                    cuts.append((checked if self._careful else begin, self._frame))
                    break
        return cuts

    def behind_chain(self, offset: int) -> int | None:
        """Where the frames end that begin at an offset, so many that they show that it is the place of a frame.

        None if they are not intact, or too long.
        """
        size = CHECKED
        while size <= MOST_CHECKED:
            data = self._file.read_at(offset, min(size, self._end - offset))
            with StreamReader(data, self._deframer) as reader:
                try:
                    for _ in range(self._chain):
                        if reader.read_message() is None:
                            # The stream ends. All that there is was intact.
                            break
                    return offset + reader.offset
                except UnexpectedEofError:
                    if offset + len(data) >= self._end:
                        return None
                except FlatStreamError:
                    return None
            size *= 16
        return None

    def _next_frame(self, damaged: int) -> int | None:
        """The offset of the next frame behind one that is damaged."""
        data = self._file.read_at(damaged, min(SEARCHED, self._end - damaged))
        if len(data) < 2:
            return None
        at_end = damaged + len(data) >= self._end
        try:
            found, _ = find_next_frames(self._deframer, data, 1, at_end, len(data))
        except FlatStreamError:
            return None
        return damaged + found if found > 0 else None

"""Where a dataset is cut into splits: at frames that an index or the blocks of a sealed file name, or that leaping over
headers finds. Each such place is checked by the frames that begin there.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flatstream._core.stream.frame_search import evidence_bytes_of, find_next_frames, header_size_of
from flatstream._core.stream.leaping import boundaries
from flatstream.datasets._pieces import Position, Stretch, Target, piece_deframer
from flatstream.datasets._reading import Query
from flatstream.errors import FlatStreamError, UnexpectedEofError
from flatstream.index import UnusableIndex
from flatstream.reader import StreamReader

if TYPE_CHECKING:
    from flatstream._ranges import RangeFile
    from flatstream.datasets._dataset import Dataset

__all__ = ["Source", "find_sources", "share_out"]

# The distance of the frames that leaping notes: a twentieth of a split, and at most this.
MOST_STEP = 4 << 20

# The length of a message, without a checksum and without a message. More splits than such frames are not looked for.
LEAST_FRAME = 4

# Where a cut would leave less than this share of a split on one side of the end of a stretch, it is not made.
TOLERANCE = 0.1

# What is read at a time to check the frames at a cut, and the most for one frame.
CHECKED = 64 << 10
MOST_CHECKED = 16 << 20

# How far behind damage frames are searched for, and how many damaged places of a file are passed over.
SEARCHED = 16 << 20
MOST_DAMAGE = 100

# How many blocks are tried for a cut.
MOST_BLOCKS = 8

# How much larger a compressed stream is taken to be than its file, where nothing tells: for sharing out work only.
GUESSED_RATIO = 3


@dataclass
class Source:
    """A file of a dataset, and what of it may have rows that are wanted.

    Attributes
    ----------
    target : Target
        The file; its stretches are whole frames.
    size : int or None
        Of the stream; None where only reading tells.
    is_whole : bool
        Whether one split must have all of it.
    """

    target: Target
    size: int | None
    is_whole: bool

    def size_of(self, stretch: Stretch) -> int:
        """About how many bytes a stretch has."""
        end = self.size if stretch.end is None else stretch.end
        if end is None:
            return max(1, GUESSED_RATIO * (self.target.part.size or 0))
        return max(0, end - stretch.begin.offset)


def find_sources(dataset: Dataset, where: Any) -> list[Source]:
    """The files of a dataset that may have rows that are wanted, and which stretches of them."""
    query = dataset._query([], where, 65_536, False, False)
    found = []
    for target in dataset._targets([]):
        try:
            source = _source(dataset, query, target)
        finally:
            target.close()
        if target.stretches:
            found.append(source)
    return found


def _source(dataset: Dataset, query: Query, target: Target) -> Source:
    # Without an announcement: of a URL, it would be fetched here.
    dataset._prepare(query, target, announce=False)
    if not target.stretches:
        return Source(target, None, True)
    file = target.ranges()
    size = file.size if file.can_seek else -1
    middle = target.head.middle
    can_cut = (
        not target.is_sequential
        and size >= 0
        and middle is not None
        and header_size_of(middle) is not None
        # With "stop", whether a frame is read depends on all that lie before it.
        and query.options.on_error != "stop"
        # Frames without a checksum are found again, behind damage, by what lies before them.
        and not (query.options.on_error == "resync" and not evidence_bytes_of(middle))
    )
    source = Source(target, size if size >= 0 else None, not can_cut)
    if target.uses_index and not (can_cut and _agrees(source, query)):
        # The file is read in full. Its rows are those that are wanted all the same.
        target.uses_index = False
        target.stretches = [Stretch(Position(target.head.begin, 0), None)]
    else:
        # What an index says of the number of frames is not needed, and not believed.
        target.stretches = [stretch._replace(frames=None, blocks=None) for stretch in target.stretches]
    return source


def _agrees(source: Source, query: Query) -> bool:
    """Whether intact frames begin where stretches do, and where they end."""
    target = source.target
    assert target.stretches is not None
    if any(stretch.is_gap for stretch in target.stretches):
        # There is damage, behind which a reader comes to frames by itself.
        return False
    finder = _Finder(source, target.ranges(), query.options)
    places = {stretch.begin.offset for stretch in target.stretches}
    places.update(stretch.end for stretch in target.stretches if stretch.end is not None)
    if not all(place == source.size or finder.behind_chain(place) is not None for place in sorted(places)):
        return False
    # Without a checksum, a damaged length shows only where it leads to.
    return finder.has_evidence or all(finder.leads_to_end(stretch) for stretch in target.stretches)


Run = tuple[Source, Stretch]


def share_out(dataset: Dataset, sources: Sequence[Source], count: int) -> list[list[Run]]:
    """Shares stretches out among at most `count` splits of about as many bytes each, in their order."""
    sizes = [sum(source.size_of(stretch) for stretch in source.target.stretches or ()) for source in sources]
    total = sum(sizes)
    if not total:
        return [[(source, stretch) for source in sources for stretch in source.target.stretches or ()]][: len(sources)]
    count = min(count, max(1, total // LEAST_FRAME))
    share = total / count
    splits: list[list[Run]] = [[] for _ in range(count)]

    def give(begin: int, size: int, runs: Iterable[Run]) -> None:
        # Where its middle lies.
        splits[min(count - 1, int((begin + size / 2) / share))].extend(runs)

    at = 0
    for source, size in zip(sources, sizes, strict=True):
        stretches = source.target.stretches or ()
        if source.is_whole:
            give(at, size, [(source, stretch) for stretch in stretches])
            at += size
            continue
        for stretch in _cut(dataset, source, at, share):
            give(at, source.size_of(stretch), [(source, stretch)])
            at += source.size_of(stretch)
    return [split for split in splits if split]


def _cut(dataset: Dataset, source: Source, at: int, share: float) -> Iterator[Stretch]:
    """The stretches of a file, cut at the frames that follow the ends of splits in them, as far as such are found."""
    wanted: list[tuple[Stretch, list[int]]] = []
    slack = TOLERANCE * share
    for stretch in source.target.stretches or ():
        size = source.size_of(stretch)
        first, last = math.floor(at / share) + 1, math.ceil((at + size) / share) - 1
        places = [round(number * share) - at for number in range(first, last + 1)]
        wanted.append((stretch, [place for place in places if slack <= place <= size - slack]))
        at += size
    if not any(places for _, places in wanted):
        yield from source.target.stretches or ()
        return
    try:
        finder = _Finder(source, source.target.ranges(), dataset._options)
        finder.note_blocks(dataset)
        for stretch, places in wanted:
            yield from _pieces(stretch, finder.find(stretch, places, share) if places else [])
    finally:
        source.target.close()


def _pieces(stretch: Stretch, cuts: Iterable[Position]) -> Iterator[Stretch]:
    begin = stretch.begin
    for place in cuts:
        if begin.offset < place.offset and (stretch.end is None or place.offset < stretch.end):
            yield Stretch(begin, place.offset)
            begin = place
    yield Stretch(begin, stretch.end)


class _Finder:
    """Finds frames in a file at which it can be cut.

    A reader that begins at a cut must see what one sees that has read all that lies before. Where damage raises, or is
    left out frame by frame, that is so at every frame that headers lead to. Where a reader searches for the next frame
    behind damage, the frames before a cut must be intact, too, so that every search ends before it.
    """

    def __init__(self, source: Source, file: RangeFile, options: Any) -> None:
        assert source.size is not None
        self._source = source
        self._file = file
        self._end = source.size
        self._deframer = piece_deframer(source.target.head, options)
        self._careful = options.on_error == "resync"
        evidence = evidence_bytes_of(self._deframer)
        self.has_evidence = evidence > 0
        # How many frames in a row show where frames are.
        self._chain = 1 if evidence >= 4 else 3 if evidence else 8
        self._blocks: list[int] = []
        self._numbers: list[int] = []

    def note_blocks(self, dataset: Dataset) -> None:
        """Looks where blocks begin, in the index or in a sealed file."""
        target = self._source.target
        if dataset._options.use_index and self.has_evidence:
            index = dataset._index(target.number, target.head, self._file)
            if not isinstance(index, UnusableIndex) and index.begin == target.head.begin:
                self._blocks, self._numbers = index.offsets.tolist(), index.first_frames.tolist()
        if not self._blocks and self._file.compression is not None:
            self._blocks = self._file.block_offsets(0, self._end)
            # How many frames lie before a block only reading would tell.
            self._numbers = [0] * len(self._blocks)

    def find(self, stretch: Stretch, places: list[int], share: float) -> list[Position]:
        """For each place in a stretch the first frame behind it that can be found, or none."""
        wanted = [stretch.begin.offset + place for place in places]
        end = self._end if stretch.end is None else stretch.end
        found = []
        missing = []
        for place in wanted:
            position = self._block_at(place, end)
            if position is None:
                missing.append(place)
            else:
                found.append(position)
        if missing and self._file.compression is None:
            # A compressed file would be decompressed for it.
            found += self._by_leaping(stretch.begin, end, missing, max(1, int(min(MOST_STEP, share / 20))))
        return sorted(found)

    def _block_at(self, place: int, end: int) -> Position | None:
        first = bisect_left(self._blocks, place)
        for index in range(first, min(first + MOST_BLOCKS, len(self._blocks))):
            begin = self._blocks[index]
            if begin >= end:
                break
            behind = self.behind_chain(begin)
            if behind is None:
                continue
            number = self._numbers[index]
            return Position(behind, number + self._chain) if self._careful else Position(begin, number)
        return None

    def _by_leaping(self, begin: Position, end: int, wanted: list[int], step: int) -> list[Position]:
        cuts: list[Position] = []
        waiting = list(wanted)
        room = step + CHECKED
        for _ in range(MOST_DAMAGE):
            limit = min(end, waiting[-1] + room)
            found = boundaries(self._file.read_at, limit, self._deframer, begin.offset, step)
            if found is None:
                break
            offsets = [offset for offset, _ in found]
            while waiting and waiting[0] <= offsets[-1]:
                index = bisect_left(offsets, waiting.pop(0))
                cut = Position(offsets[index], begin.frame + found[index][1])
                if self._careful:
                    behind = self.behind_chain(cut.offset)
                    if behind is None:
                        continue
                    cut = Position(behind, cut.frame + self._chain)
                cuts.append(cut)
            if not waiting:
                break
            begin = Position(offsets[-1], begin.frame + found[-1][1])
            if limit < end:
                # The next frame may be longer than that.
                room *= 16
                continue
            following = self._next_frame(begin.offset) if self._careful else None
            if following is None:
                break
            begin = Position(following, begin.frame)
        return cuts

    def leads_to_end(self, stretch: Stretch) -> bool:
        """Whether the headers from the begin of a stretch on lead to its end."""
        if stretch.end is None:
            return True
        found = boundaries(self._file.read_at, stretch.end, self._deframer, stretch.begin.offset, MOST_STEP)
        return found is not None and found[-1][0] == stretch.end

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
        found, _ = find_next_frames(self._deframer, data, 1, damaged + len(data) >= self._end, len(data))
        return damaged + found if found > 0 else None

"""Reading the pieces of files by several threads, in order; and by one reader where there is damage."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from flatstream._endpoints import Source
from flatstream.datasets._pieces import Piece, Planner, Position, Stretch, Target, piece_deframer
from flatstream.datasets._reading import MisplacedEndError, Outcome, Query, read_sequentially
from flatstream.errors import FlatStreamError
from flatstream.reader import StreamReader

if TYPE_CHECKING:
    from flatstream._ranges import RangeFile

__all__ = ["Progress", "scan"]

logger = logging.getLogger("flatstream.datasets")

# How much of a piece is read at a time, into memory that is used again: new memory for a whole piece takes as long as
# reading it, and what was just read is still in the processor's cache when it is decoded.
CHUNK = 1 << 20

# How many pieces more than threads are read ahead.
AHEAD = 2

# Behind damage, one reader goes on for so many bytes without any, and twice as many each time, before threads do.
CLEAN = 1 << 20
MOST_CLEAN = 64 << 20

Progress = Callable[[int, int, int], object]


class _Damage:
    """What a piece gives that cannot be read as it was planned."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


# Files, rows in order, and how far each file was read.
_Given: TypeAlias = Generator[tuple[Target, list[pa.RecordBatch], int | None], None, None]

_Result = list[pa.RecordBatch] | _Damage | BaseException | None


def scan(
    targets: Iterator[Target],
    query: Query,
    outcomes: dict[int, Outcome],
    prepare: Callable[[Target], None],
    *,
    threads: int = 1,
    by_one_reader: bool = False,
    looks_ahead: bool = False,
) -> _Given:
    """Reads files in order.

    Parameters
    ----------
    targets : iterator of Target
        The files.
    query : Query
        What is read of each message.
    outcomes : dict of int to Outcome
        Gets what was found out about each file.
    prepare : callable
        Plans a target: sets its `stretches`. It is called with a lock held, by any of the threads.
    threads : int
        How many threads decode. With 1, the caller's does.
    by_one_reader, looks_ahead : bool
        See `Planner`.

    Yields
    ------
    (Target, list of RecordBatch, int or None)
        Rows in order, and how far the file was read; None at its end.
    """
    planner = Planner(targets, query.options, prepare, by_one_reader=by_one_reader, looks_ahead=looks_ahead)
    made = _Scan(planner, query, outcomes)
    return made.run_here() if threads == 1 else made.run_threads(threads)


class _Scan:
    def __init__(self, planner: Planner, query: Query, outcomes: dict[int, Outcome]) -> None:
        self._query = query
        self._outcomes = outcomes
        self._planner = planner
        # Of the planner and what follows.
        self._lock = threading.Lock()
        # Pieces that were planned before a restart are not given.
        self._epoch = 0
        self._planned = 0
        self._ended = False
        self._current: Target | None = None
        self._seen: list[Target] = []

    # One thread

    def run_here(self) -> _Given:
        try:
            while (piece := self._planner.next()) is not None:
                result = None if piece.frames is None else decode(piece, self._query)
                yield from self._give(piece, result)
            yield from self._change_to(None)
        finally:
            self._close()

    # Several

    def run_threads(self, threads: int) -> _Given:
        pending: deque[Future[tuple[int, int, Piece | None, _Result]]] = deque()
        ready: dict[int, tuple[Piece | None, _Result]] = {}
        expected = 0
        epoch = 0
        pool = ThreadPoolExecutor(threads, "flatstream-dataset")
        try:
            while True:
                if expected in ready:
                    piece, result = ready.pop(expected)
                    expected += 1
                    if piece is None:
                        if isinstance(result, BaseException):
                            raise result
                        break
                    yield from self._give(piece, result)
                    if epoch != self._epoch:
                        epoch = self._epoch
                        ready.clear()
                        expected = 0
                    continue
                while len(pending) + len(ready) < threads + AHEAD and not self._ended:
                    pending.append(pool.submit(self._work))
                made, number, piece, result = pending.popleft().result()
                if made == epoch and number >= 0:
                    ready[number] = piece, result
            yield from self._change_to(None)
        finally:
            with self._lock:
                self._ended = True
            pool.shutdown(wait=True, cancel_futures=True)
            self._close()

    def _work(self) -> tuple[int, int, Piece | None, _Result]:
        """Reads the next piece: gives the epoch and number of it, -1 for none."""
        with self._lock:
            epoch, number = self._epoch, self._planned
            if self._ended:
                return epoch, -1, None, None
            try:
                piece = self._planner.next()
            except BaseException as error:
                self._planned += 1
                self._ended = True
                return epoch, number, None, error
            if piece is None and self._planner.is_blocked:
                # Until the reader has come behind the damage.
                self._ended = True
                return epoch, -1, None, None
            self._planned += 1
            self._ended = piece is None
        if piece is None or piece.frames is None:
            return epoch, number, piece, None
        try:
            return epoch, number, piece, decode(piece, self._query)
        except BaseException as error:
            return epoch, number, piece, error

    # In order

    def _change_to(self, target: Target | None) -> _Given:
        """Notes that the file before was read to its end."""
        before, self._current = self._current, target
        if before is not None and before is not target:
            before.close()
            before.forget()
            yield before, [], None
        if target is not None and before is not target:
            self._seen.append(target)
            # What was found out before is of another reading.
            self._outcome(target)
            with self._lock:
                self._planner.forget_before(target)

    def _outcome(self, target: Target) -> Outcome:
        return self._outcomes.setdefault(target.number, Outcome())

    def _give(self, piece: Piece, result: _Result) -> _Given:
        target = piece.target
        yield from self._change_to(target)
        if isinstance(result, BaseException):
            raise result
        if isinstance(result, list):
            assert piece.end is not None
            assert piece.frames is not None
            if target.uses_index:
                target.delivered.append(Stretch(piece.begin, piece.end, piece.frames))
            yield target, result, piece.end
            return
        if piece.is_indexed:
            assert result is not None
            self._drop_index(target, result.reason)
            return
        yield from self._read_on(piece, is_damaged=result is not None)

    def _read_on(self, piece: Piece, *, is_damaged: bool) -> _Given:
        """Reads by one reader from the begin of a piece to where it was to end, and behind damage there."""
        target = piece.target
        outcome = self._outcome(target)
        least = piece.end if is_damaged else piece.least
        margin = 0
        if is_damaged:
            margin = min(MOST_CLEAN, CLEAN << min(target.damages, 10))
            target.damages += 1
        outcome.is_complete = False
        place = piece.begin
        rows = read_sequentially(
            target.part, target.head, self._query, outcome, piece.begin, piece.limit, least=least, margin=margin
        )
        try:
            for batch, place in rows:
                yield target, [batch] if batch.num_rows else [], place.offset
        except MisplacedEndError as error:
            if not target.uses_index:
                raise
            self._note_read(target, piece.begin, place)
            self._drop_index(target, error.message)
            return
        finally:
            rows.close()
            target.bytes_read += outcome.bytes_read
            outcome.bytes_read = 0
        self._note_read(target, piece.begin, place)
        if outcome.stopped is not None or (outcome.is_complete and piece.limit is None):
            if least is not None:
                self._restart(target, [])
        elif least is not None:
            if outcome.is_complete:
                assert piece.limit is not None
                place = Position(piece.limit, place.frame)
            self._restart(target, target.rest_behind(place))

    def _note_read(self, target: Target, begin: Position, place: Position) -> None:
        if target.uses_index and place.offset > begin.offset:
            target.delivered.append(Stretch(begin, place.offset, place.frame - begin.frame))

    def _drop_index(self, target: Target, reason: str) -> None:
        logger.warning("the index of %s is left aside, and the file read in full: %s", target.part.path, reason)
        self._outcome(target).index_dropped = reason
        target.uses_index = False
        self._restart(target, target.without_delivered())

    def _restart(self, target: Target, stretches: list[Stretch]) -> None:
        with self._lock:
            self._planner.restart(target, stretches)
            self._epoch += 1
            self._planned = 0
            self._ended = False

    def _close(self) -> None:
        for target in [*self._seen, *self._planner.opened]:
            target.close()


class _Bytes:
    """A part of a file, as a source of a reader."""

    def __init__(self, ranges: RangeFile, begin: int, end: int) -> None:
        self._ranges, self._at, self._end = ranges, begin, end

    def readinto(self, buffer: memoryview) -> int:
        """Reads into `buffer`; 0 at the end."""
        count = self._ranges.read_into(self._at, buffer[: self._end - self._at])
        self._at += count
        return count


def decode(piece: Piece, query: Query) -> list[pa.RecordBatch] | _Damage:
    """The rows of a piece of whole frames.

    Raises
    ------
    OSError, EOFError
        It cannot be read.
    """
    target = piece.target
    head, data = target.head, piece.data
    assert piece.end is not None
    assert head.table is not None
    size = piece.end - piece.begin.offset
    columns = query.columns_of(head, target.part)
    if data is None:
        ranges = target.ranges()
        if size <= CHUNK or ranges.status is None or ranges.compression is not None:
            # Little; or one request; or what threads decompress at the same time.
            data = ranges.read_at(piece.begin.offset, size)
    arguments: dict[str, Any] = {"parse_description": None}
    if data is None:
        arguments["readinto"] = _Bytes(ranges, piece.begin.offset, piece.end).readinto
    else:
        arguments["buffer"] = data
    deframer = piece_deframer(head, query.options)
    reader = StreamReader(Source(None, arguments), deframer, capacity=min(CHUNK, size))
    made: list[pa.RecordBatch] = []
    try:
        for batch in columns.batches(reader, "raise"):
            given = columns.rows(batch, target.part, piece.begin.frame)
            if given.num_rows:
                made.append(given)
    except FlatStreamError as error:
        return _Damage(str(error))
    if reader.offset != size or reader.frames_read != piece.frames:
        return _Damage(
            f"the index says that there are {piece.frames} frames from {piece.begin.offset} to {piece.end}, and there "
            f"are {reader.frames_read}"
        )
    return made

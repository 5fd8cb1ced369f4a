"""The messages of a dataset as records."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import pyarrow.compute as pc

from flatstream.datasets._pieces import Position, Stretch, Target
from flatstream.datasets._reading import (
    NUMBERS,
    Outcome,
    Query,
    is_torn_end,
    open_reader,
    place_error,
)
from flatstream.datasets._scan import scan
from flatstream.errors import FlatbufferError, FlatStreamError, ValidationFailedError

if TYPE_CHECKING:
    from flatstream.datasets._dataset import Dataset
    from flatstream.schema import RecordView

__all__ = ["read_records"]

logger = logging.getLogger("flatstream.datasets")


def read_records(dataset: Dataset, query: Query, limit: int | None) -> Iterator[RecordView]:
    """See `Dataset.records`.

    Parameters
    ----------
    dataset : Dataset
        The files.
    query : Query
        Of no columns; with the predicate.
    limit : int or None
        The most records.
    """
    left = limit
    targets: list[Target] = []
    if left == 0:
        return
    read = _records_of
    if query.predicate is not None and not query.predicate.is_exact:
        query, read = replace(query, numbers=True), _chosen
    for target in dataset._targets(targets):
        outcome = Outcome()
        try:
            dataset._prepare(query, target, {target.number: outcome})
            # One reader at a time opens the file by itself.
            target.close()
            for record in read(dataset, target, query, outcome):
                yield record
                if left is not None:
                    left -= 1
                    if not left:
                        return
        finally:
            target.close()
            target.bytes_read += outcome.bytes_read
            outcome.bytes_read = 0
            dataset._note([target])
            dataset._known.outcomes[target.number] = outcome
    dataset._check_that_some_are_left()


# Where messages were given already: offsets in the stream.
Ranges: TypeAlias = list[tuple[int, int]]


def _records_of(dataset: Dataset, target: Target, query: Query, outcome: Outcome) -> Iterator[RecordView]:
    """The records of a file that conditions select, if any."""
    whole = Stretch(Position(target.head.begin, 0), None)
    stretches = target.stretches or []
    if any(stretch.is_gap for stretch in stretches):
        stretches = [whole]
    given: Ranges = []
    for stretch in stretches:
        if stretch.frames is None:
            for record, _ in _read(target, query, outcome, stretch, []):
                yield record
            continue
        begin = behind = stretch.begin.offset
        try:
            for record, place in _read(target, query, outcome, stretch, []):
                behind = place
                yield record
            assert stretch.end is not None
            given.append((begin, stretch.end))
            continue
        except FlatStreamError as error:
            logger.warning("the index of %s is left aside, and the file read in full: %s", target.part.path, error)
            outcome.index_dropped = str(error)
        # Without those that were given already.
        for record, _ in _read(target, query, outcome, whole, [*given, (begin, behind)]):
            yield record
        return


def _read(
    target: Target, query: Query, outcome: Outcome, stretch: Stretch, given: Ranges
) -> Iterator[tuple[RecordView, int]]:
    """The records of a stretch that were not given, each with the offset behind it: up to its end, if an index says how
    many frames it has, or to the end of the file by the policy.
    """
    part, head = target.part, target.head
    is_indexed = stretch.frames is not None
    options = replace(query.options, on_error="raise") if is_indexed else query.options
    file = part.open()
    base = stretch.begin if head.middle is not None and file.seekable() else Position(0, 0)
    if is_indexed:
        file.limit = stretch.end
    with file, open_reader(file, head, options, base) as reader:
        columns = query.columns_of(head, part)
        records = reader.records(
            head.table, where=columns.conditions or None, on_other="skip" if head.leaves_out else "raise"
        )
        try:
            while True:
                try:
                    record = next(records, None)
                except FlatStreamError as error:
                    place_error(error, base, part.path)
                    if is_indexed or options.torn_end == "raise" or not is_torn_end(part, head, error):
                        raise
                    outcome.torn = error.offset
                    record = None
                except EOFError:
                    if options.torn_end == "raise" or file.compression is None:
                        raise
                    outcome.torn = base.offset + reader.offset
                    record = None
                if record is None:
                    break
                if not _is_in(given, base.offset + reader.message_offset):
                    yield record, base.offset + reader.offset
        finally:
            outcome.bytes_read += file.bytes_taken
            outcome.skipped += reader.skipped
            outcome.lost_bytes += reader.lost_bytes
            outcome.stopped = reader.stop_error
        if is_indexed and reader.frames_read != stretch.frames:
            raise FlatStreamError(f"there are {reader.frames_read} frames, and the index says {stretch.frames}")
        outcome.is_complete = True
        if reader.stop_error is not None:
            place_error(reader.stop_error, base, part.path)
            if options.torn_end == "stop" and is_torn_end(part, head, reader.stop_error):
                outcome.torn, outcome.stopped = reader.stop_error.offset, None


def _is_in(ranges: Ranges, offset: int) -> bool:
    return any(begin <= offset < end for begin, end in ranges)


# Expressions that conditions do not say


def _chosen(dataset: Dataset, target: Target, query: Query, outcome: Outcome) -> Iterator[RecordView]:
    """The records of a file that a predicate selects which looks at columns.

    Two readers go through the file one beside the other: one reads columns, and finds the numbers of the messages that
    are selected, and the other one reads these messages. Both count from where the same stretches begin. So it does not
    matter whether an index counts frames rightly that are not read.
    """
    stretches = target.stretches or []
    given: Ranges = []
    while stretches:
        choice = _Choice(dataset, target, query, stretches)
        decided: Ranges = []
        try:
            for stretch in stretches:
                begin = stretch.begin.offset
                decided.append((begin, begin))
                for record, offset, behind in _read_chosen(target, query, outcome, stretch, choice):
                    decided[-1] = begin, behind
                    if record is not None and not _is_in(given, offset):
                        yield record
                if choice.is_over or choice.index_dropped is not None or outcome.stopped is not None:
                    break
        finally:
            choice.close(outcome)
        if choice.index_dropped is None:
            return
        given = decided
        stretches = [Stretch(Position(target.head.begin, 0), None)]


class _Choice:
    """Which messages of a file are selected, found out as far as somebody asks."""

    def __init__(self, dataset: Dataset, target: Target, query: Query, stretches: list[Stretch]) -> None:
        self._first = target.part.first
        self._reading = target
        self._target = Target(
            target.number,
            target.part,
            target.head,
            stretches,
            is_sequential=target.is_sequential,
            uses_index=any(stretch.frames is not None for stretch in stretches),
            offsets=target.offsets,
            firsts=target.firsts,
        )
        self._outcome = Outcome()
        outcomes = {target.number: self._outcome}
        self._rows = scan(iter([self._target]), query, outcomes, partial(dataset._prepare, query, outcomes=outcomes))
        self._found: set[int] = set()
        # How far columns were read; None at the end, and the error that was the end.
        self._place: int | None = 0
        self._error: Exception | None = None

    @property
    def index_dropped(self) -> str | None:
        """Why the index is wrong; then numbers mean nothing."""
        return self._outcome.index_dropped

    @property
    def is_over(self) -> bool:
        """Whether no other message is selected."""
        return self._place is None and not self._found

    def reach(self, offset: int) -> None:
        """Reads columns up to an offset, or to the end, or until the index is seen to be wrong.

        Raises
        ------
        FlatStreamError, EOFError
            Reading columns raised it, and all messages before were taken.
        """
        while self._place is not None and self._place < offset and self.index_dropped is None:
            try:
                _, batches, self._place = next(self._rows, (None, [], None))
            except (FlatStreamError, EOFError) as error:
                self._error, self._place = error, None
                break
            for batch in batches:
                numbers = batch.column(batch.schema.get_field_index(NUMBERS))
                self._found.update(pc.subtract(numbers, self._first).to_pylist())
        if self._error is not None and not self._found:
            raise self._error

    def take(self, number: int) -> bool:
        """Whether a message is selected, up to which columns were read."""
        if number not in self._found:
            return False
        self._found.remove(number)
        return True

    def close(self, outcome: Outcome) -> None:
        """Ends the reading of columns, and notes what they say of the file."""
        self._rows.close()
        self._target.close()
        self._reading.bytes_read += self._target.take_count()
        own = self._outcome
        outcome.torn, outcome.is_complete = own.torn, own.is_complete
        if own.index_dropped is not None:
            outcome.index_dropped = own.index_dropped
            return
        outcome.skipped += own.skipped
        outcome.lost_bytes += own.lost_bytes
        outcome.stopped = outcome.stopped or own.stopped


def _read_chosen(
    target: Target, query: Query, outcome: Outcome, stretch: Stretch, choice: _Choice
) -> Iterator[tuple[RecordView | None, int, int]]:
    """The messages of a stretch, where they begin and end: a record if it is chosen, otherwise None.

    It ends as soon as no other one is chosen, or the index is seen to be wrong.
    """
    part, head, options = target.part, target.head, query.options
    assert head.table is not None
    file = part.open()
    base = stretch.begin if head.middle is not None and file.seekable() else Position(0, 0)
    if stretch.end is not None:
        file.limit = stretch.end if file.limit is None else min(stretch.end, file.limit)
    with file, open_reader(file, head, options, base) as reader:
        try:
            while True:
                payload, error = None, None
                try:
                    payload = reader.read_message()
                except (FlatStreamError, EOFError) as raised:
                    error = raised
                choice.reach(base.offset + reader.offset if payload is not None else stretch.end or sys.maxsize)
                if choice.is_over or choice.index_dropped is not None:
                    return
                if error is not None:
                    # The file has changed since columns were read.
                    if isinstance(error, FlatStreamError):
                        place_error(error, base, part.path)
                    raise error
                if payload is None:
                    return
                record: RecordView | None = None
                begin, end = reader.message_offset, reader.offset
                if choice.take(base.frame + reader.message_number):
                    try:
                        record = head.table.view(payload)
                    except (FlatbufferError, ValidationFailedError) as refused:
                        refused.offset, refused.frame = begin, reader.message_number
                        place_error(refused, base, part.path)
                        if options.on_error == "raise":
                            raise
                        if options.on_error == "stop":
                            outcome.stopped = refused
                            return
                        outcome.skipped += 1
                        outcome.lost_bytes += end - begin
                yield record, base.offset + begin, base.offset + end
        finally:
            outcome.bytes_read += file.bytes_taken

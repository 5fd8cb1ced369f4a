"""The messages of a dataset as records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.compute as pc

from flatstream.datasets._pieces import Position, Stretch, Target
from flatstream.datasets._reading import (
    FRAME,
    Outcome,
    Query,
    is_torn_end,
    open_reader,
    place_error,
)
from flatstream.datasets._scan import scan
from flatstream.errors import FlatStreamError
from flatstream.reader import StreamReader

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
    for target in dataset._targets(targets):
        outcome = Outcome()
        try:
            dataset._prepare(query, target, {target.number: outcome})
            # One reader at a time opens the file by itself.
            target.close()
            for record in _records_of(dataset, target, query, outcome):
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
            dataset._outcomes[target.number] = outcome
    dataset._check_that_some_are_left()


def _records_of(dataset: Dataset, target: Target, query: Query, outcome: Outcome) -> Iterator[RecordView]:
    stretches = target.stretches or []
    if not stretches:
        return
    wanted = None
    if query.predicate is not None and not query.predicate.is_exact:
        wanted = _wanted(dataset, target, query)
        if not wanted:
            return
    if wanted is not None or any(stretch.is_gap for stretch in stretches):
        stretches = [Stretch(Position(target.head.begin, 0), None)]
    for stretch in stretches:
        if stretch.frames is None:
            yield from _read(target, query, outcome, stretch.begin, None, wanted, 0)
            continue
        given = 0
        try:
            for record in _read(target, query, outcome, stretch.begin, stretch, wanted, 0):
                given += 1
                yield record
            continue
        except FlatStreamError as error:
            logger.warning("the index of %s is left aside, and its rest read: %s", target.part.path, error)
            outcome.index_dropped = str(error)
        # Without those that were given already.
        yield from _read(target, query, outcome, stretch.begin, None, wanted, given)
        return


def _wanted(dataset: Dataset, target: Target, query: Query) -> set[int]:
    """The numbers of the messages of a file that a predicate selects."""
    numbers = replace(query, frame=True)
    again = Target(target.number, target.part, target.head)
    outcomes: dict[int, Outcome] = {}
    found: set[int] = set()
    rows = scan(iter([again]), numbers, outcomes, partial(dataset._prepare, numbers, outcomes=outcomes))
    try:
        for _, batches, _ in rows:
            for batch in batches:
                column = batch.column(batch.schema.get_field_index(FRAME))
                found.update(pc.subtract(column, target.part.first).to_pylist())
    except FlatStreamError:
        # Reading the records raises it, too, at its place.
        pass
    finally:
        rows.close()
        target.bytes_read += again.take_count()
    return found


def _read(
    target: Target,
    query: Query,
    outcome: Outcome,
    begin: Position,
    stretch: Stretch | None,
    wanted: set[int] | None,
    passed: int,
) -> Iterator[RecordView]:
    """The records of a file from a position on: to the end of a stretch of which an index says how many frames it has,
    or to the end of the file by the policy.
    """
    part, head = target.part, target.head
    options = query.options if stretch is None else replace(query.options, on_error="raise")
    file = part.open()
    base = begin if head.middle is not None and file.seekable() else Position(0, 0)
    if stretch is not None:
        file.limit = stretch.end
    with file, open_reader(file, head, options, base) as reader:
        columns = query.columns_of(head, part)
        records = _selected(reader, columns, head, wanted)
        try:
            while True:
                try:
                    record = next(records, None)
                except FlatStreamError as error:
                    place_error(error, base, part.path)
                    if stretch is not None or options.torn_end == "raise" or not is_torn_end(part, head, error):
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
                if passed:
                    passed -= 1
                    continue
                yield record
        finally:
            outcome.bytes_read += file.bytes_taken
            outcome.skipped += reader.skipped
            outcome.lost_bytes += reader.lost_bytes
            outcome.stopped = reader.stop_error
        if stretch is not None and reader.frames_read != stretch.frames:
            raise FlatStreamError(f"there are {reader.frames_read} frames, and the index says {stretch.frames}")
        outcome.is_complete = True
        if reader.stop_error is not None:
            place_error(reader.stop_error, base, part.path)
            if options.torn_end == "stop" and is_torn_end(part, head, reader.stop_error):
                outcome.torn, outcome.stopped = reader.stop_error.offset, None


def _selected(reader: StreamReader, columns: Any, head: Any, wanted: set[int] | None) -> Iterator[RecordView]:
    on_other: Literal["raise", "skip"] = "skip" if head.leaves_out else "raise"
    if wanted is None:
        return reader.records(head.table, where=columns.conditions or None, on_other=on_other)
    return _numbered(reader, head.table, wanted)


class _numbered:  # noqa: N801 - an iterator that goes on after an error, as a generator does not
    """The messages with some numbers as records."""

    def __init__(self, reader: StreamReader, table: Any, wanted: set[int]) -> None:
        self._reader = reader
        self._table = table
        self._wanted = wanted
        self._left = len(wanted)

    def __iter__(self) -> Iterator[RecordView]:
        return self

    def __next__(self) -> RecordView:
        while self._left:
            payload = self._reader.read_message()
            if payload is None:
                break
            if self._reader.message_number in self._wanted:
                self._left -= 1
                record: RecordView = self._table.view(payload)
                return record
        raise StopIteration

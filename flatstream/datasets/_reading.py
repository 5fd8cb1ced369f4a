"""Reading the rows of a dataset: part by part, batch by batch, with the policy for damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from flatstream._endpoints import Source
from flatstream.datasets._heads import Head, Options, in_file
from flatstream.datasets._parts import OpenPart, Part
from flatstream.datasets._unify import Kind, Projection
from flatstream.errors import FlatStreamError, UnexpectedEofError
from flatstream.reader import DEFAULT_CAPACITY, StreamReader

__all__ = ["Outcome", "Position", "Query", "read_sequentially"]

# What is read of a file at a time.
CHUNK = 4 << 20

# The names of the columns that say where a row comes from.
SOURCE_FILE = "source_file"
FRAME = "frame"
SOURCE_FIELD = pa.field(SOURCE_FILE, pa.dictionary(pa.int32(), pa.string()), False)
FRAME_FIELD = pa.field(FRAME, pa.int64(), False)


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


@dataclass
class Outcome:
    """What was found out about a part by reading it.

    Attributes
    ----------
    torn : int or None
        Where the torn end begins.
    skipped, lost_bytes : int
        How many messages were left out because of damage, and how many bytes.
    stopped : FlatStreamError or None
        The error at which ``on_error="stop"`` ended.
    is_removed : bool
        Whether the file was removed before it was read.
    is_complete : bool
        Whether the part was read to its end.
    """

    torn: int | None = None
    skipped: int = 0
    lost_bytes: int = 0
    stopped: FlatStreamError | None = None
    is_removed: bool = False
    is_complete: bool = False
    bytes_read: int = 0

    @property
    def text(self) -> str:
        """What the column "status" of `Dataset.files` says."""
        said = []
        if self.is_removed:
            said.append("removed")
        if self.skipped:
            said.append(f"damaged: {self.skipped} messages, {self.lost_bytes} bytes")
        if self.stopped is not None:
            said.append(f"stopped at offset {self.stopped.offset}: {self.stopped.message}"[:200])
        if self.torn is not None:
            said.append(f"torn end at {self.torn}")
        return "; ".join(said)


@dataclass
class Query:
    """What is to be read.

    Attributes
    ----------
    schema : pyarrow.Schema
        The columns that are given, without those about the place of a row.
    read : pyarrow.Schema
        The columns that are read: these, and those that the predicate needs.
    where : object or None
        Conditions as for `StreamReader.columns`.
    """

    schema: pa.Schema
    read: pa.Schema
    where: Any
    batch_rows: int
    options: Options
    source_file: bool = False
    frame: bool = False
    projections: dict[Any, Projection] = field(default_factory=dict)

    @property
    def given(self) -> pa.Schema:
        """The columns that are given, all of them."""
        schema = self.schema
        for field_, is_wanted in ((SOURCE_FIELD, self.source_file), (FRAME_FIELD, self.frame)):
            if is_wanted:
                schema = schema.append(field_)
        return schema

    def projection(self, kind: Kind) -> Projection:
        """How the columns of files with this table become those of the dataset."""
        found = self.projections.get(kind.key)
        if found is None:
            found = self.projections[kind.key] = Projection(kind, self.read)
        return found


def read_sequentially(
    part: Part, head: Head, query: Query, outcome: Outcome, begin: Position
) -> Iterator[tuple[pa.RecordBatch, Position]]:
    """The rows of a part from a position on, as one StreamReader with the policy reads them.

    Yields
    ------
    (pyarrow.RecordBatch, Position)
        The rows, and the place behind them.
    """
    assert head.table is not None
    options = query.options
    kind = Kind(head.table, head.time, part.path)
    projection = query.projection(kind)
    try:
        file = part.open()
    except FileNotFoundError:
        outcome.is_removed = True
        return
    with file, open_reader(file, head, options, begin) as reader:
        stream = head.table.read_column_batches(
            reader,
            projection.paths,
            query.where,
            batch_rows=query.batch_rows,
            on_other="skip" if head.leaves_out else "raise",
            _numbers=FRAME if query.frame else None,
        )
        base = begin if head.middle is not None else Position(0, 0)
        while True:
            try:
                batch = next(stream, None)
            except UnexpectedEofError as error:
                if options.torn_end == "raise":
                    raise _placed(error, base, part.path) from None
                outcome.torn = base.offset + (reader.offset if error.offset is None else error.offset)
                batch = None
            except FlatStreamError as error:
                raise _placed(error, base, part.path) from None
            finally:
                outcome.bytes_read += file.bytes_taken
                file.bytes_taken = 0
            if batch is None:
                break
            reached = stream._reader.reached
            assert reached is not None
            position = Position(base.offset + reached[0], base.frame + reached[1])
            yield complete(query, part, projection.apply(batch), batch, base.frame), position
        outcome.skipped += stream.skipped
        outcome.lost_bytes += stream.lost_bytes
        outcome.stopped = stream.stop_error
        outcome.is_complete = True


def complete(query: Query, part: Part, batch: pa.RecordBatch, read: Any, first: int) -> pa.RecordBatch:
    """A batch with the columns that say where its rows come from.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        The columns of the dataset.
    read : ColumnBatch
        What it was made of, with the numbers of the frames as its last column.
    first : int
        The number of the first frame that was read.
    """
    if query.source_file:
        indices = pa.repeat(pa.scalar(0, pa.int32()), batch.num_rows)
        batch = batch.append_column(SOURCE_FIELD, pa.DictionaryArray.from_arrays(indices, [part.path]))
    if query.frame:
        numbers = pa.array(read[FRAME])
        if first + part.first:
            numbers = pc.add(numbers, first + part.first)
        batch = batch.append_column(FRAME_FIELD, numbers)
    return batch


def open_reader(file: OpenPart, head: Head, options: Options, begin: Position) -> StreamReader:
    """A reader of a part that begins at a position; at the first byte if reading must begin there."""
    arguments: dict[str, Any] = {"readinto": file.readinto, "bytes_left": file.bytes_left}
    capacity = DEFAULT_CAPACITY if file.limit is None else max(4096, min(CHUNK, file.limit - begin.offset))
    if head.middle is None:
        return StreamReader(
            Source(file, arguments),
            head.checksum,
            cipher=options.cipher,
            allow_empty=head.allow_empty,
            on_error=options.on_error,
            capacity=capacity,
        )
    if begin.offset:
        file.seek(begin.offset)
    arguments["parse_description"] = None
    return StreamReader(
        Source(file, arguments), head.middle, allow_empty=head.allow_empty, on_error=options.on_error, capacity=capacity
    )


def _placed(error: FlatStreamError, base: Position, path: str) -> FlatStreamError:
    """The error with places that are counted from the beginning of the file, whose path it says."""
    if error.offset is not None:
        error.offset += base.offset
    if error.frame is not None:
        error.frame += base.frame
    return in_file(error, path)


Progress = Callable[[int, int, int], object]

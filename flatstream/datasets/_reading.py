"""Reading the rows of a dataset: part by part, batch by batch, with the policy for damage."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flatstream._core.stream.leaping import leap
from flatstream._endpoints import Source
from flatstream.datasets._heads import Head, Options, in_file
from flatstream.datasets._parts import OpenPart, Part, shown
from flatstream.datasets._pieces import Position
from flatstream.datasets._unify import Kind, Projection
from flatstream.errors import ChecksumMismatchError, FlatStreamError, InvalidFrameError, UnexpectedEofError
from flatstream.reader import StreamReader

__all__ = [
    "FileColumns",
    "MisplacedEndError",
    "Outcome",
    "Position",
    "Query",
    "is_torn_end",
    "open_reader",
    "place_error",
    "read_sequentially",
]

# The most rows of a batch that may be the last one before reading goes on in pieces.
FEW_ROWS = 2048

# As many bytes as the longest header of a frame has.
LONGEST_HEADER = 12

# How much is read at a time of what is not wanted.
SKIPPED = 256 << 10

# The names of the columns that say where a row comes from.
SOURCE_FILE = "source_file"
FRAME = "frame"
# What no field can be called.
NUMBERS = "frame number"
SOURCE_FIELD = pa.field(SOURCE_FILE, pa.dictionary(pa.int32(), pa.string()), False)
FRAME_FIELD = pa.field(FRAME, pa.int64(), False)
NUMBERS_FIELD = FRAME_FIELD.with_name(NUMBERS)


class MisplacedEndError(InvalidFrameError):
    """No frame ends where the reading of a part of a file was to end."""


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
    index_dropped : str or None
        Why its index was left aside while it was read.
    so_far : (int, int)
        How many messages and bytes were left out before the end of the batch that `read_sequentially` gave last.
    """

    torn: int | None = None
    skipped: int = 0
    lost_bytes: int = 0
    stopped: FlatStreamError | None = None
    is_removed: bool = False
    is_complete: bool = False
    index_dropped: str | None = None
    so_far: tuple[int, int] = (0, 0)
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
    """What is to be read of each message. Threads share it.

    Attributes
    ----------
    schema : pyarrow.Schema
        The columns that are given, without those about the place of a row.
    read : pyarrow.Schema
        The columns that are read: these, and those that the predicate needs.
    predicate : Predicate or None
        Which rows are given.
    batch_rows : int
        The most rows of a batch.
    options : Options
        How files are read.
    source_file, frame : bool
        Whether there are columns about the place of a row.
    labels : dict of str to tuple of str
        The names of enums that files have different names of.
    numbers : bool
        Whether there is a column NUMBERS, of the numbers of messages, whatever fields there are.
    """

    schema: pa.Schema
    read: pa.Schema
    predicate: Any
    batch_rows: int
    options: Options
    source_file: bool = False
    frame: bool = False
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: bool = False
    _columns: dict[Any, FileColumns] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # Of this query, also where it is a changed copy of another one.
        self._columns = {}
        predicate = self.predicate
        needed = None if predicate is None or predicate.is_exact else predicate.paths
        reads_all = predicate is not None and not predicate.is_exact and needed is None
        self.reads_source = self.source_file or reads_all or (needed is not None and SOURCE_FILE in needed)
        self.reads_frame = self.frame or reads_all or (needed is not None and FRAME in needed)
        # A field of this name takes the place.
        if SOURCE_FILE in self.read.names:
            self.reads_source = self.source_file
        if FRAME in self.read.names:
            self.reads_frame = self.frame
        self.reads_numbers = self.reads_frame or self.numbers
        self.reads_more = (
            len(self.read) > len(self.schema)
            or self.reads_source is not self.source_file
            or self.reads_frame is not self.frame
        )

    @property
    def given(self) -> pa.Schema:
        """The columns that are given, all of them."""
        schema = self.schema
        for field_, is_wanted in (
            (SOURCE_FIELD, self.source_file),
            (FRAME_FIELD, self.frame),
            (NUMBERS_FIELD, self.numbers),
        ):
            if is_wanted:
                schema = schema.append(field_)
        return schema

    def columns_of(self, head: Head, part: Part) -> FileColumns:
        """How this is read of a file."""
        assert head.table is not None
        key = (id(head.table), head.time, head.leaves_out)
        found = self._columns.get(key)
        if found is None:
            kind = Kind(head.table, head.time, part.path)
            found = self._columns[key] = FileColumns(kind, self, leaves_out=head.leaves_out)
        return found


class FileColumns:
    """How the rows of a query are read of files of one table.

    Attributes
    ----------
    conditions : list or None
        What a reader leaves out messages by.
    has_rows : bool
        Whether there can be any.
    """

    def __init__(self, kind: Kind, query: Query, *, leaves_out: bool) -> None:
        self._table = kind.table
        self._projection = Projection(kind, query.read, query.options.times, query.labels)
        self._on_other: Any = "skip" if leaves_out else "raise"
        self._query = query
        self.conditions: list[Any] | None = []
        self.has_rows = True
        if query.predicate is not None:
            self.conditions = query.predicate.conditions_for(kind.table, kind.time)
            self.has_rows = self.conditions is not None

    def batches(self, reader: StreamReader, on_error: Any = None, batch_rows: int | None = None) -> Any:
        """The messages of a reader as a ColumnStream."""
        return self._table.read_column_batches(
            reader,
            self._projection.paths,
            self.conditions or None,
            batch_rows=self._query.batch_rows if batch_rows is None else batch_rows,
            on_error=on_error,
            on_other=self._on_other,
            _numbers=NUMBERS if self._query.reads_numbers else None,
        )

    def rows(self, batch: Any, part: Part, first: int) -> pa.RecordBatch:
        """The rows that are given of a ColumnBatch.

        Parameters
        ----------
        batch : ColumnBatch
            Of `batches`.
        part : Part
            The file.
        first : int
            The number of the first frame that the reader reads.
        """
        query = self._query
        made = self._projection.apply(batch)
        if query.reads_source:
            indices = pa.repeat(pa.scalar(0, pa.int32()), made.num_rows)
            made = made.append_column(SOURCE_FIELD, pa.DictionaryArray.from_arrays(indices, [shown(part.path)]))
        if query.reads_numbers:
            numbers = pa.array(batch[NUMBERS])
            if first + part.first:
                numbers = pc.add(numbers, first + part.first)
            if query.reads_frame:
                made = made.append_column(FRAME_FIELD, numbers)
            if query.numbers:
                made = made.append_column(NUMBERS_FIELD, numbers)
        predicate = query.predicate
        if predicate is not None and not predicate.is_exact and made.num_rows:
            made = predicate.filter(made)
        # Without those that only the predicate needs.
        return made.select(query.given.names) if query.reads_more else made


def read_sequentially(
    part: Part,
    head: Head,
    query: Query,
    outcome: Outcome,
    begin: Position,
    end: int | None = None,
    *,
    least: int | None = None,
    margin: int = 0,
) -> Generator[tuple[pa.RecordBatch, Position], None, None]:
    """The rows of a part from a position on, as one StreamReader with the policy reads them.

    Parameters
    ----------
    begin : Position
        Where it begins. (An encrypted stream is read from its first byte: then it has to be that of the first message.)
    end : int, optional
        Where it ends, in bytes of the stream. A frame has to end there.
    least, margin : int, optional
        Where it may end: at the first place from `least` on that has `margin` bytes without damage before it. By
        default at the end.

    Yields
    ------
    (pyarrow.RecordBatch, Position)
        The rows, and the place behind them. ``outcome.is_complete`` says whether the end was reached.

    Raises
    ------
    MisplacedEndError
        No frame ends at `end`.
    FlatStreamError
        Damage, if the policy says so.
    """
    columns = query.columns_of(head, part)
    options = query.options
    file = part.open()
    base = begin if head.middle is not None and file.seekable() else Position(0, 0)
    if end is not None:
        file.limit = end if file.limit is None else min(end, file.limit)
    with file, open_reader(file, head, options, base) as reader:
        while base.frame + reader.message_number + 1 < begin.frame and base != begin:
            # What was read before is read again.
            if reader.read_batch(min(8192, begin.frame - reader.message_number - 1)) is None:
                break
        stream = columns.batches(reader, None, query.batch_rows if least is None else min(query.batch_rows, FEW_ROWS))
        place = begin

        def note() -> None:
            outcome.skipped += stream.skipped
            outcome.lost_bytes += stream.lost_bytes
            outcome.stopped = stream.stop_error

        try:
            while True:
                try:
                    batch = next(stream, None)
                except FlatStreamError as error:
                    place_error(error, base, part.path)
                    if end is not None and isinstance(error, UnexpectedEofError):
                        raise MisplacedEndError(
                            f"{part.path}: the frame at {error.offset} does not end at {end}, where one has to end",
                            offset=error.offset,
                            frame=error.frame,
                        ) from error
                    if options.torn_end == "raise" or not is_torn_end(part, head, error):
                        raise
                    outcome.torn = error.offset
                    batch = None
                except EOFError:
                    # A compressed file that is cut off.
                    if options.torn_end == "raise" or file.compression is None:
                        raise
                    outcome.torn = place.offset
                    batch = None
                finally:
                    outcome.bytes_read += file.bytes_taken
                    file.bytes_taken = 0
                if batch is None:
                    break
                reached = stream._reader.reached
                if reached is not None:
                    place = Position(base.offset + reached[0], base.frame + reached[1])
                outcome.so_far = stream.skipped, stream.lost_bytes
                yield columns.rows(batch, part, base.frame), place
                if least is not None and place.offset >= least and stream.stop_error is None:
                    ranges = stream.lost_ranges
                    behind = max(begin.offset, base.offset + ranges[-1][1]) if ranges else begin.offset
                    if place.offset > behind and place.offset - behind >= margin:
                        return
            outcome.is_complete = True
        finally:
            note()
        lost = stream.lost_ranges
        if options.torn_end == "stop" and options.on_error == "resync" and lost and lost[-1][1] == reader.offset:
            start = base.offset + lost[-1][0]
            if _is_cut(part, head, start):
                outcome.torn = start
                outcome.skipped -= 1
                outcome.lost_bytes -= lost[-1][1] - lost[-1][0]
        if stream.stop_error is not None:
            place_error(stream.stop_error, base, part.path)
            if options.torn_end == "stop" and is_torn_end(part, head, stream.stop_error):
                outcome.torn, outcome.stopped = stream.stop_error.offset, None


def is_torn_end(part: Part, head: Head, error: FlatStreamError) -> bool:
    """Whether damage is the end of a file whose last frame was never written whole: that frame, or the zeros that a
    file system left in its place.
    """
    if error.offset is None:
        return False
    if not isinstance(error, UnexpectedEofError):
        return isinstance(error, (ChecksumMismatchError, InvalidFrameError)) and _is_zero(part, error.offset)
    if head.middle is None or head.checksum_name == "none":
        return True
    # A wrong length can lead behind the end, too: then there are intact frames behind.
    with part.open() as file:
        if not _skip_to(file, error.offset):
            return True
        arguments: dict[str, Any] = {
            "readinto": file.readinto,
            "bytes_left": file.bytes_left,
            "parse_description": None,
        }
        with StreamReader(Source(file, arguments), head.middle, on_error="resync") as reader:
            return reader.read_message() is None


def _is_cut(part: Part, head: Head, offset: int) -> bool:
    """Whether the frame at an offset, behind which no other was found, ends behind the end of a part; or there are only
    zeros.
    """
    if head.middle is None:
        return False
    with part.open() as file:
        if not _skip_to(file, offset):
            return False
        head_size = file.readinto(buffer := bytearray(LONGEST_HEADER)) or 0
        found = leap(buffer[:head_size], head.middle)
        is_longer = found is not None and not _skip_to(file, offset + found.needed)
    return is_longer or _is_zero(part, offset)


def _skip_to(file: OpenPart, offset: int) -> bool:
    """Goes on to an offset, at which the file was not yet; False if it ends before. What cannot seek is read so far."""
    if file.can_seek:
        # The size of a sealed file is not known before it is read.
        file.seek(max(0, offset - 1))
        return not offset or file.readinto(bytearray(1)) == 1
    buffer = memoryview(bytearray(min(SKIPPED, offset - file.tell())))
    try:
        while (left := offset - file.tell()) > 0:
            if not file.readinto(buffer[:left]):
                return False
    except EOFError:
        # A compressed file that is cut off.
        return False
    return True


def _is_zero(part: Part, offset: int) -> bool:
    """Whether a part has nothing but zero bytes from an offset on."""
    with part.open() as file:
        if not _skip_to(file, offset):
            return False
        buffer = bytearray(1 << 16)
        try:
            while taken := file.readinto(buffer):
                if any(buffer[:taken]):
                    return False
        except EOFError:
            # A compressed file that is cut off, behind zeros.
            pass
    return True


def open_reader(file: OpenPart, head: Head, options: Options, begin: Position) -> StreamReader:
    """A reader of a part that begins at a position; at the first byte if reading must begin there."""
    arguments: dict[str, Any] = {"readinto": file.readinto, "bytes_left": file.bytes_left}
    # The first frame may be a damaged description, which has no number.
    if head.middle is None or not begin.offset or begin.offset < head.begin:
        return StreamReader(
            Source(file, arguments),
            head.checksum,
            cipher=options.cipher,
            allow_empty=head.allow_empty,
            on_error=options.on_error,
        )
    if begin.offset:
        file.seek(begin.offset)
    arguments["parse_description"] = None
    return StreamReader(Source(file, arguments), head.middle, allow_empty=head.allow_empty, on_error=options.on_error)


def place_error(error: FlatStreamError, base: Position, path: str) -> None:
    """Has an error count from the beginning of the file, and say its path."""
    if error.offset is not None:
        error.offset += base.offset
    if error.frame is not None:
        error.frame += base.frame
    in_file(error, path)

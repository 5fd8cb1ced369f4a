"""Reading the messages of a stream as columns: all at once, or batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

from flatstream._core.arrow.exporter import ColumnType, export_stream
from flatstream._core.base.checks import int_argument
from flatstream._core.column_reader.plan import ReadPlan
from flatstream._core.column_reader.reader import ColumnIterator, ColumnReader
from flatstream._core.records.conditions import parse_conditions
from flatstream.columns.batch import MAX_SHOWN, ColumnBatch, ColumnSchema

if TYPE_CHECKING:
    from flatstream._core.flatbuf.layout import Layout
    from flatstream._core.records.conditions import _ParsedCondition
    from flatstream._core.stream.decoder import Decoder
    from flatstream.errors import FlatStreamError
    from flatstream.reader import _OnError

# The limit of rows with `batch_rows=None`, where a batch is the result of one read from the source.
BATCH_ROWS = 65_536


class _Table(Protocol):
    """The table of a schema, as far as reading columns needs it."""

    @property
    def layout(self) -> Layout: ...
    @property
    def name(self) -> str: ...

    number: int


class ColumnStream(ColumnIterator):
    """An iterator over the messages of a stream as batches of columns; see `StreamReader.column_batches`.

    Attributes
    ----------
    skipped, lost_bytes, lost_ranges : int, int, list of (int, int)
        What was left out because of damage so far; see `StreamReader`.
    others : int
        The number of messages skipped so far because they have another file identifier.
    stop_error : FlatStreamError or None
        The error at which ``on_error="stop"`` ended.

    Notes
    -----
    The object is also a stream of the Arrow C data interface: a library that takes such a stream reads the batches one
    by one when it needs them. Both ways consume the same messages: a library gets those that are left, and an export of
    a stream that was read to its end raises ValueError. After an error, reading can go on, as with the StreamReader.
    """

    def __init__(self, reader: ColumnReader, batch_rows: int | None = None) -> None:
        if not isinstance(reader, ColumnReader):
            raise TypeError("a ColumnStream is made by StreamReader.column_batches")
        rows = BATCH_ROWS if batch_rows is None else int_argument("batch_rows", batch_rows, 1, 2**31 - 1)
        # Without a number of rows, a batch ends after one read from the source.
        super().__init__(reader, rows, batch_rows is None, ColumnBatch)

    if TYPE_CHECKING:

        def __next__(self) -> ColumnBatch: ...

    @property
    def schema(self) -> ColumnSchema:
        """The types of the columns."""
        return ColumnSchema(self._reader.type)

    @property
    def skipped(self) -> int:
        """How many messages were left out because of damage so far."""
        return self._reader.skipped

    @property
    def lost_bytes(self) -> int:
        """How many bytes were left out so far."""
        return sum(end - start for start, end in self.lost_ranges)

    @property
    def lost_ranges(self) -> list[tuple[int, int]]:
        """Where they are, in stream offsets."""
        return self._reader.lost_ranges

    @property
    def stop_error(self) -> FlatStreamError | None:
        """The error at which ``on_error="stop"`` ended."""
        return self._reader.stop_error

    @property
    def others(self) -> int:
        """The number of messages skipped so far because they have another file identifier."""
        return self._reader.total_others

    @property
    def type(self) -> ColumnType:
        """The type of the batches, for `export_stream`."""
        return self._reader.type

    def __arrow_c_schema__(self) -> object:
        return self._reader.type.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        if self._at_end:
            raise ValueError(
                "this ColumnStream was read to its end, and gives its rows once: keep them, or read the stream again"
            )
        return export_stream(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ColumnStream can be neither pickled nor copied: it reads a stream of this process")

    def __repr__(self) -> str:
        names = self.schema.names
        more = f", ... {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
        return f"<ColumnStream of {', '.join(names[:MAX_SHOWN])}{more}>"

    def _repr_html_(self) -> str:
        from flatstream.columns._html import stream_html

        return stream_html(self)


def make_plan(
    table: _Table,
    fields: Iterable[str] | None = None,
    enums: Literal["dictionary", "number"] = "dictionary",
    absent: Literal["default", "null"] = "default",
) -> ReadPlan:
    """The plan for reading fields of a table's messages, with the metadata of `ColumnSchema`."""
    metadata = {"flatstream.table": table.name}
    if table.layout.file_identifier:
        metadata["flatstream.file_identifier"] = table.layout.file_identifier.decode("latin-1")
    return ReadPlan(table.layout, table.number, fields, enums, metadata, absent)


def make_conditions(
    table: _Table, where: Any, absent: Literal["default", "null"] = "default"
) -> tuple[list[_ParsedCondition], ReadPlan | None]:
    """The conditions of a `where`, and a plan of the columns that they are on; None without conditions."""
    conditions = [] if where is None else parse_conditions(where)
    paths = dict.fromkeys(condition[0] for condition in conditions)
    return conditions, ReadPlan(table.layout, table.number, paths, "number", absent=absent) if paths else None


def make_reader(
    decoder: Decoder,
    table: _Table,
    fields: Iterable[str] | None = None,
    where: Any = None,
    numbers: str | None = None,
    *,
    verify: bool = False,
    enums: Literal["dictionary", "number"] = "dictionary",
    absent: Literal["default", "null"] = "default",
    on_error: _OnError | None = None,
    on_other: Literal["raise", "skip"] | None = None,
    progress: Callable[[int, int], object] | None = None,
    max_depth: int = 64,
    max_tables: int = 1_000_000,
    max_apparent_size: int = 2**31,
) -> ColumnReader:
    """Checks the arguments of `StreamReader.columns` and makes the reader for them.

    With `numbers`, the columns get one more, of this name, behind all others: the number of each row's frame as int64,
    counted as `StreamReader.message_number` counts. Without fields, batches have rows and no columns.
    """
    plan = make_plan(table, fields, enums, absent)
    others = getattr(table, "_others", None)
    conditions, filter_plan = make_conditions(table, where, absent)
    return ColumnReader(
        decoder,
        plan,
        filter_plan,
        conditions,
        verify=bool(verify),
        on_error=on_error,
        progress=progress,
        on_other="raise" if on_other is None else on_other,
        limits=(max_depth, max_tables, max_apparent_size),
        excluded=None if others is None else "".join(others).encode("latin-1"),
        numbers=numbers,
    )


def read_all(reader: ColumnReader) -> ColumnBatch:
    """All messages that are left, as one batch."""
    found = reader.read(None)
    assert found is not None
    return ColumnBatch(*found, reader.stop_error)

"""How the messages of a stream become rows: JSON texts, or cells of columns.

A plan is made for the tables of one stream, and its `rows` reads a stream. It yields lists of rows, each as soon as its
messages have arrived if the stream is `live`. A row is a JSON text, or a tuple of cells, if the plan has columns.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click

from flatstream.cli._selection import Selection
from flatstream.errors import FlatStreamError
from flatstream.tools import _objects
from flatstream.tools._fields import expanded, has_identifier, is_plain, plain_columns, steps_of, value_at
from flatstream.tools._times import TimeField

if TYPE_CHECKING:
    from flatstream.reader import StreamReader
    from flatstream.schema import Table
    from flatstream.serializers import Serializer
    from flatstream.tools.inputs import Opened

__all__ = ["Json", "Loss", "Plan", "Row", "json_text", "plan_of"]

# How many rows are made before they are printed, and of how many characters.
ROWS = 512
CHARACTERS = 1 << 20

# Of the normal floats of 32 bits that are greater than 0.
SMALLEST = 2.0**-126

Row = Any


class Json(str):
    """A cell that is a JSON text."""


class Loss:
    """What could not be shown.

    Attributes
    ----------
    refused : list of (int, str)
        The offsets of messages that the schema refuses, and why.
    others : int
        How many messages are of other tables.
    """

    def __init__(self) -> None:
        self.refused: list[tuple[int, str]] = []
        self.others = 0
        self._ranges: list[tuple[int, int]] = []
        self._count = 0
        self._source: Any = None

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Where the bytes are that are lost, in ascending order."""
        return list(self._ranges if self._source is None else self._source.lost_ranges)

    @ranges.setter
    def ranges(self, ranges: list[tuple[int, int]]) -> None:
        self._ranges, self._count, self._source = ranges, len(ranges), None

    @property
    def size(self) -> tuple[int, int, int]:
        """Numbers that grow when there is more; they cost little, even if there are very many ranges."""
        count = self._count if self._source is None else self._source.skipped
        return count, len(self.refused), self.others

    def watch(self, source: Any) -> None:
        """Takes the ranges from a reader, or another object with `lost_ranges` and `skipped`, until `keep`."""
        self._source = source

    def keep(self) -> None:
        """Keeps the ranges that the reader has now."""
        count = self.size[0]
        self.ranges = self.ranges
        self._count = count

    def moved(self, offset: int) -> Loss:
        """A copy for a reader that began at this offset of a stream."""
        made = Loss()
        made.ranges = [(offset + begin, offset + end) for begin, end in self.ranges]
        made.refused = [(offset + at, reason) for at, reason in self.refused]
        made.others, made._count = self.others, self.size[0]
        return made


class Plan:
    """How the messages of one stream become rows.

    Attributes
    ----------
    columns : tuple of str or None
        The names of the cells; None if a row is a JSON text.
    times : mapping of str to str
        The columns that are times, and the units that they count in.
    is_selective : bool
        Whether messages are left out: those for which conditions do not hold, and those of other tables.
    """

    columns: tuple[str, ...] | None = None
    times: Mapping[str, str] = {}
    is_selective = False

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        """The rows of the messages that the reader has left.

        Parameters
        ----------
        reader : StreamReader
            The stream.
        loss : Loss
            Is kept up to date.
        limit : int, optional
            So many rows are enough. There may be more.
        live : bool
            Whether each row is wanted as soon as there is one.
        """
        raise NotImplementedError

    def moved(self, rows: list[Row], offset: int) -> list[Row]:
        """Rows of a reader that began at this offset of a stream."""
        return rows


def json_text(value: Any) -> str:
    """A value as JSON, written as `RecordView.to_json` does: bytes are lists of numbers, NaN and infinity are texts."""
    if isinstance(value, Json):
        return value
    try:
        return _compact(value, allow_nan=False)
    except ValueError:
        return _compact(_finite(value), allow_nan=False)


_compact = partial(json.dumps, ensure_ascii=False, separators=(",", ":"), default=lambda value: list(memoryview(value)))


def _finite(value: Any) -> Any:
    """The value with texts in place of numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return list(map(_finite, value)) if isinstance(value, list) else value


def record_text(record: Any) -> Json:
    """A record as JSON, with the fields that have their default value."""
    return Json(record.to_json(defaults=True))


def _shortest(value: Any) -> Any:
    """The float with the fewest digits that is the same number in 32 bits; likewise all floats in a list or dict."""
    if isinstance(value, list):
        return list(map(_shortest, value))
    if isinstance(value, dict):
        return {name: _shortest(each) for name, each in value.items()}
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    # Subnormal numbers have fewer digits.
    for digits in (6, 7, 8) if abs(value) >= SMALLEST else range(1, 8):
        short = float(f"{value:.{digits}g}")
        if struct.unpack("<f", struct.pack("<f", short))[0] == value:
            return short
    return value


class _Gathered:
    """Rows that are made one by one, and handed on together.

    Parameters
    ----------
    limit : int, optional
        So many rows are enough.
    live : bool
        Each row is handed on at once.
    """

    def __init__(self, limit: int | None, live: bool) -> None:
        self._rows: list[Row] = []
        self._size = 0
        self._full = 1 if live else min(ROWS, limit or ROWS)

    def add(self, row: Row, size: int) -> bool:
        """Adds a row of so many characters; returns whether it is time to hand them on."""
        self._rows.append(row)
        self._size += size
        return len(self._rows) >= self._full or self._size >= CHARACTERS

    def take(self) -> list[Row]:
        """The rows, which are given once."""
        rows, self._rows, self._size = self._rows, [], 0
        return rows


class HexPlan(Plan):
    """Payloads of which nothing is known, as hexadecimal digits."""

    columns = ("offset", "size", "hex")

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        """See `Plan`."""
        gathered = _Gathered(limit, live)
        loss.watch(reader)
        try:
            for payload in reader:
                if gathered.add((reader.message_offset, len(payload), payload.hex()), 2 * len(payload)):
                    yield gathered.take()
        except Exception:
            yield gathered.take()
            raise
        yield gathered.take()

    def moved(self, rows: list[Row], offset: int) -> list[Row]:
        """The rows with offsets from the beginning of the stream."""
        return [(offset + at, size, text) for at, size, text in rows]


class ObjectPlan(Plan):
    """The objects of a serializer: each as JSON, or what it has at some paths."""

    def __init__(self, serializer: Serializer, fields: tuple[str, ...]) -> None:
        self._serializer = serializer
        self._fields = fields
        self.columns = fields or None

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        """See `Plan`."""
        gathered = _Gathered(limit, live)
        loss.watch(reader)
        try:
            for each in reader.objects(self._serializer):
                try:
                    row, size = self._row(each)
                except ValueError as error:
                    loss.refused.append((reader.message_offset, str(error)))
                    continue
                if gathered.add(row, size):
                    yield gathered.take()
        except Exception:
            yield gathered.take()
            raise
        yield gathered.take()

    def _row(self, each: Any) -> tuple[Row, int]:
        if not self._fields:
            text = Json(_objects.json_text(each))
            return text, len(text)
        cells = [_objects.value_at(each, path) for path in self._fields]
        row = tuple(cell if _is_cell(cell) else Json(_objects.json_text(cell)) for cell in cells)
        return row, sum(len(cell) for cell in row if isinstance(cell, str))


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


class JsonPlan(Plan):
    """Whole messages of one table as JSON."""

    def __init__(self, table: Table, conditions: list[tuple[str, str, Any]] | None, is_selective: bool) -> None:
        self._table = table
        self._conditions = conditions or None
        self._on_other: Literal["skip", "raise"] = "skip" if has_identifier(table) else "raise"
        self.is_selective = is_selective

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        gathered = _Gathered(limit, live)
        loss.watch(reader)
        records = reader.records(self._table, where=self._conditions, on_other=self._on_other)
        try:
            for record in records:
                text = record_text(record)
                if gathered.add(text, len(text)):
                    loss.others = records.others
                    yield gathered.take()
        except Exception:
            yield gathered.take()
            raise
        loss.others = records.others
        yield gathered.take()

    def chunks(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[bytes]:
        """The lines of exactly these rows, as bytes: written in compiled code, and not one by one."""
        from flatstream.schema import json_lines

        loss.watch(reader)
        records = reader.records(self._table, where=self._conditions, on_other=self._on_other, limit=limit)
        try:
            yield from json_lines(records, defaults=True, chunk_size=1 if live else None)
        finally:
            loss.others = records.others


class CellPlan(Plan):
    """Fields of one table, read as columns."""

    def __init__(
        self,
        table: Table,
        fields: tuple[str, ...],
        conditions: list[tuple[str, str, Any]] | None,
        time: TimeField | None,
        is_selective: bool,
    ) -> None:
        self._table = table
        self._conditions = conditions or None
        self._on_other: Literal["skip", "raise"] = "skip" if has_identifier(table) else "raise"
        self.is_selective = is_selective
        self._fields = fields or tuple(plain_columns(table))
        try:
            schema = table.arrow_schema(self._fields)
        except (LookupError, TypeError, ValueError) as error:
            raise click.UsageError(f"--fields: {error.args[0]}") from None
        self.columns = schema.names
        self._floats = ["float" in type and "double" not in type for type in schema.types]
        self.times = {} if time is None else {time.path: time.unit}

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        batches = reader.column_batches(
            self._table,
            self._fields,
            self._conditions,
            batch_rows=None if live else min(ROWS, limit or ROWS),
            verify=True,
            on_other=self._on_other,
        )
        loss.watch(batches)
        for batch in batches:
            loss.others = batches.others
            columns = [
                list(map(_shortest, column.to_pylist())) if is_float else column.to_pylist()
                for column, is_float in zip(batch.values(), self._floats, strict=True)
            ]
            yield list(zip(*columns, strict=True)) if columns else [()] * batch.num_rows
        loss.others = batches.others


class RecordPlan(CellPlan):
    """Fields of one table, some of which columns do not have as JSON has them. So they are taken from the JSON."""

    def __init__(self, table: Table, *arguments: Any) -> None:
        super().__init__(table, *arguments)
        self._steps = [steps_of(table, path) for path in self._fields]

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        for texts in JsonPlan(self._table, self._conditions, self.is_selective).rows(reader, loss, limit, live=live):
            yield [tuple(map(partial(value_at, json.loads(text)), self._steps)) for text in texts]


class PaddedPlan(Plan):
    """Fields of one table among those that only the tables of other inputs have, which are null.

    Parameters
    ----------
    plan : Plan
        For the fields that the table has.
    columns, there : tuple of str
        All fields, and those of the table.
    """

    def __init__(self, plan: CellPlan, columns: tuple[str, ...], there: tuple[str, ...]) -> None:
        self._plan = plan
        self.columns = columns
        self.times, self.is_selective = plan.times, plan.is_selective
        self._places = [there.index(path) if path in there else None for path in columns]

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        """See `Plan`."""
        for rows in self._plan.rows(reader, loss, limit, live=live):
            yield [tuple(None if place is None else row[place] for place in self._places) for row in rows]


class MixedPlan(Plan):
    """Messages of several tables, each by its own file identifier."""

    columns = ("table", "message")

    def __init__(
        self, tables: Mapping[str, Table], conditions: Mapping[str, list[tuple[str, str, Any]] | None]
    ) -> None:
        self._tables = dict(tables)
        self._conditions = dict(conditions)
        self.is_selective = any(each != [] for each in conditions.values())

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        gathered = _Gathered(limit, live)
        loss.watch(reader)
        try:
            for payload in reader:
                row = self._row(payload, reader.message_offset, loss)
                if row is not None and gathered.add(row, len(row[1])):
                    yield gathered.take()
        except Exception:
            yield gathered.take()
            raise
        yield gathered.take()

    def _row(self, payload: memoryview, offset: int, loss: Loss) -> tuple[str, Json] | None:
        """The row of a message; None if it is not selected, damaged or of no known table."""
        identifier = bytes(payload[4:8]).decode("latin-1")
        if identifier not in self._tables:
            # The table of all other messages, if there is one.
            identifier = ""
        table = self._tables.get(identifier)
        if table is None:
            loss.others += 1
            return None
        try:
            record = self._selected(identifier, table, payload)
            return None if record is None else (table.name, record_text(record))
        except FlatStreamError as error:
            loss.refused.append((offset, str(error)))
            return None

    def _selected(self, identifier: str, table: Table, payload: memoryview) -> Any:
        """The record, if the conditions of its table hold; None otherwise."""
        conditions = self._conditions[identifier]
        if conditions is None:
            return None
        record = table.view(payload)
        if not conditions:
            return record
        # Conditions are applied to streams: to one of this message.
        from flatstream.reader import StreamReader

        with StreamReader(len(payload).to_bytes(4, "little") + payload) as reader:
            return next(reader.records(table, where=conditions, verify=False), None)


def plan_of(opened: Opened, selection: Selection) -> Plan:
    """The plan for the messages of an open input.

    Raises
    ------
    click.UsageError
        The selection does not fit the tables of the stream.
    """
    tables = {"": opened.table} if opened.table is not None else opened.tables
    if selection.as_hex and selection.needs_table:
        raise click.UsageError(f"--hex shows whole messages, and {selection.needs_table} is given")
    if not tables and not selection.as_hex and (serializer := _objects.serializer_of(opened.description)) is not None:
        if selection.needs_table not in (None, "--fields"):
            raise click.UsageError(
                f"{selection.needs_table} is about the fields of a schema, and the messages are objects "
                f"({serializer.name})"
            )
        if selection.format == "csv" and not selection.fields:
            raise click.UsageError("CSV has columns, and objects may have any: say them with --fields")
        return ObjectPlan(serializer, selection.fields)
    if selection.as_hex or not tables:
        if selection.needs_table:
            raise click.UsageError(
                f"{selection.needs_table} needs to know the fields of the messages, and the stream does not describe "
                "itself: say --schema FILE"
            )
        return HexPlan()
    if len(tables) == 1:
        table = next(iter(tables.values()))
        selection.check_fields(table)
        conditions = selection.conditions(table, opened.description)
        # Messages of the other tables of the stream are left out.
        is_selective = bool(conditions) or len(opened.tables) > 1
        if selection.format == "jsonl" and not selection.fields:
            return JsonPlan(table, conditions, is_selective)
        lacking = selection.lacking(table)
        shown: list[str] = []
        absent: set[str] = set()
        for path in selection.fields:
            columns = [path] if selection.format == "jsonl" else expanded(lacking.get(path, table), [path])
            shown += columns
            absent.update(columns if path in lacking else ())
        there = tuple(path for path in shown if path not in absent)
        # If it lacks all of them, one of its own says how many messages there are.
        fields = there or tuple(plain_columns(table)[:1] if absent else ())
        plan = CellPlan if all(is_plain(table, path) for path in fields or plain_columns(table)) else RecordPlan
        time = selection.time_field(table, opened.description)
        made = plan(table, fields, conditions, time, is_selective)
        return PaddedPlan(made, tuple(shown), there) if absent else made
    names = ", ".join(table.name for table in tables.values())
    if selection.fields or selection.format == "csv":
        option = "--fields" if selection.fields else "--format csv"
        raise click.UsageError(f"{option} is for messages of one table: choose it with --table, of {names}")
    conditions_of = {
        identifier: selection.conditions(table, opened.description, alone=False) for identifier, table in tables.items()
    }
    if all(each is None for each in conditions_of.values()):
        # The error says what is missing.
        selection.conditions(next(iter(tables.values())), opened.description)
    return MixedPlan(tables, conditions_of)

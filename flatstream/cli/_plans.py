"""How the messages of a stream become rows: JSON texts, or cells of columns.

A plan is made for the tables of one stream, and its `rows` reads a stream. It yields lists of rows, each as soon as its
messages have arrived if the stream is `live`. A row is a JSON text, or a tuple of cells, if the plan has columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import click

from flatstream.cli._selection import Selection
from flatstream.errors import FlatStreamError
from flatstream.tools._fields import plain_columns
from flatstream.tools._times import TimeField

if TYPE_CHECKING:
    from flatstream.reader import StreamReader
    from flatstream.schema import Table
    from flatstream.tools.inputs import Opened

__all__ = ["Json", "Loss", "Plan", "Row", "json_text", "plan_of"]

# How many rows are made before they are printed.
ROWS = 512

Row = Any


class Json(str):
    """A cell that is a JSON text."""


class Loss:
    """What could not be shown: the ranges of bytes that are lost, and messages of other tables."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []
        self.refused: list[tuple[int, str]] = []
        self.others = 0


class Plan(Protocol):
    """See above."""

    columns: tuple[str, ...] | None
    # The columns that are times, and the units that they count in.
    times: Mapping[str, str]

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


def json_text(value: Any) -> str:
    """A value as JSON. Bytes are lists of numbers, as in the JSON of FlatBuffers."""
    if isinstance(value, Json):
        return value
    return json.dumps(value, ensure_ascii=False, default=_json_of)


def _json_of(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return list(bytes(value))
    return str(value)


def record_text(record: Any) -> Json:
    """A record as JSON."""
    return Json(json_text(record.to_dict(enums="name")))


class HexPlan:
    """Payloads of which nothing is known, as hexadecimal digits."""

    columns = ("offset", "size", "hex")
    times: Mapping[str, str] = {}

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        rows: list[Row] = []
        full = 1 if live else min(ROWS, limit or ROWS)
        for payload in reader:
            rows.append((reader.message_offset, len(payload), payload.hex()))
            if len(rows) >= full:
                loss.ranges = reader.lost_ranges if reader.skipped else []
                yield rows
                rows = []
        loss.ranges = reader.lost_ranges
        yield rows


class JsonPlan:
    """Whole messages of one table as JSON."""

    columns = None
    times: Mapping[str, str] = {}

    def __init__(self, table: Table, conditions: list[tuple[str, str, Any]] | None) -> None:
        self._table = table
        self._conditions = conditions or None

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        rows: list[Row] = []
        full = 1 if live else min(ROWS, limit or ROWS)
        records = reader.records(self._table, where=self._conditions, on_other="skip")
        for record in records:
            rows.append(record_text(record))
            if len(rows) >= full:
                loss.others = records.others
                loss.ranges = reader.lost_ranges if reader.skipped else []
                yield rows
                rows = []
        loss.others = records.others
        loss.ranges = reader.lost_ranges
        yield rows


class CellPlan:
    """Fields of one table, read as columns."""

    def __init__(
        self,
        table: Table,
        fields: tuple[str, ...],
        conditions: list[tuple[str, str, Any]] | None,
        time: TimeField | None,
    ) -> None:
        self._table = table
        self._conditions = conditions or None
        self._fields = fields or tuple(plain_columns(table))
        # The path of a struct stands for all of its fields.
        self.columns = table.arrow_schema(self._fields).names
        self.times = {} if time is None else {time.path: time.unit}

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        batches = reader.column_batches(
            self._table,
            self._fields,
            self._conditions,
            batch_rows=None if live else min(ROWS, limit or ROWS),
            verify=True,
            on_other="skip",
        )
        for batch in batches:
            loss.ranges, loss.others = batches.lost_ranges, batches.others
            yield list(zip(*(column.to_pylist() for column in batch.values()), strict=True))
        loss.ranges, loss.others = batches.lost_ranges, batches.others


class MixedPlan:
    """Messages of several tables, each by its own file identifier."""

    columns = ("table", "message")
    times: Mapping[str, str] = {}

    def __init__(
        self, tables: Mapping[str, Table], conditions: Mapping[str, list[tuple[str, str, Any]] | None]
    ) -> None:
        self._tables = dict(tables)
        self._conditions = dict(conditions)

    def rows(self, reader: StreamReader, loss: Loss, limit: int | None = None, *, live: bool) -> Iterator[list[Row]]:
        rows: list[Row] = []
        full = 1 if live else min(ROWS, limit or ROWS)
        for payload in reader:
            identifier = bytes(payload[4:8]).decode("latin-1")
            table = self._tables.get(identifier)
            if table is None:
                loss.others += 1
                continue
            try:
                record = self._selected(identifier, table, payload)
            except FlatStreamError as error:
                loss.refused.append((reader.message_offset, str(error)))
                continue
            if record is None:
                continue
            rows.append((table.name, record_text(record)))
            if len(rows) >= full:
                loss.ranges = reader.lost_ranges if reader.skipped else []
                yield rows
                rows = []
        loss.ranges = reader.lost_ranges
        yield rows

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
        if selection.format == "jsonl" and not selection.fields:
            return JsonPlan(table, conditions)
        return CellPlan(table, selection.fields, conditions, selection.time_field(table, opened.description))
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

"""What formats of columns share: which columns there are, and how messages become batches of Arrow and back."""

from __future__ import annotations

import base64
import importlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flatstream.description import Description
from flatstream.reader import StreamReader
from flatstream.records import RecordWriter
from flatstream.schema import Table
from flatstream.schema._reflection import BaseType, FieldInfo
from flatstream.tools._times import unit_of_name
from flatstream.tools.conversion._fields import Leaf, Place, resolve
from flatstream.tools.conversion._formats import FORMATS
from flatstream.tools.conversion._frames import PIECE_BYTES, frames_of, on_other
from flatstream.tools.conversion._options import ArgumentError, Known, Options, known_of_description, table_for_columns
from flatstream.tools.conversion._sources import FileSource
from flatstream.tools.conversion._targets import cell_text
from flatstream.writer import StreamWriter

__all__ = ["ColumnSource", "ColumnTarget", "load_pyarrow", "metadata_of"]

DESCRIPTION_KEY = "flatstream.description"
TABLE_KEY = "flatstream.table"

# The row in an error of `RecordWriter.write_columns`.
ROW = re.compile(r"(?<=, row )\d+")

NESTED = frozenset({BaseType.OBJ, BaseType.VECTOR, BaseType.ARRAY, BaseType.UNION})


def load_pyarrow(what: str) -> Any:
    """The module pyarrow.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise ImportError(f"{what} needs pyarrow: pip install 'flatstream[columns]'") from error


def metadata_of(known: Known, table: Table, options: Options) -> dict[str, str]:
    """What files of Arrow and Parquet carry, so that the way back needs no schema."""
    found = {TABLE_KEY: table.name}
    description = known.describe(options, table) if options.describe else None
    if description is not None:
        found[DESCRIPTION_KEY] = base64.b64encode(description.to_bytes()).decode()
    return found


class ColumnTarget:
    """The base of targets that take batches of Arrow columns.

    Fields that the format cannot carry are an error, JSON text, or left out, as `on_unsupported` says.
    """

    checksum = None
    # How many rows a batch has at most. It also ends after 64 MiB of messages.
    batch_rows = 65_536

    def __init__(
        self,
        title: str,
        known: Known,
        options: Options,
        leaves_of: Callable[[Table, Iterable[str] | None], list[Leaf]],
    ) -> None:
        self.pa = load_pyarrow(title)
        self.options = options
        self.table = table_for_columns(known, title)
        if options.fields is not None:
            # For the error of a path that leads nowhere, and of one that comes twice.
            self.table.arrow_schema(options.fields)
        leaves = leaves_of(self.table, options.fields)
        unsupported = [leaf for leaf in leaves if leaf.trouble]
        if unsupported and options.on_unsupported == "raise":
            first = unsupported[0]
            more = f", as {len(unsupported) - 1} more" if len(unsupported) > 1 else ""
            raise ArgumentError(
                f"{title} cannot carry the field {first.path!r} ({first.trouble}){more}: choose other fields, or pass "
                "on_unsupported='json' for JSON text in its place, or on_unsupported='omit' to leave it out"
            )
        left_out = [leaf.path for leaf in unsupported] if options.on_unsupported == "omit" else []
        self.omitted = tuple(left_out)
        # The type of a union says nothing without its value.
        left_out += [f"{path}_type" for path in left_out if resolve(self.table, path).type.inner is BaseType.UNION]
        leaves = [leaf for leaf in leaves if leaf.path not in left_out]
        self.names = [leaf.path for leaf in leaves]
        self.json_names = [leaf.path for leaf in leaves if leaf.trouble]
        self.plain_names = [leaf.path for leaf in leaves if not leaf.trouble]
        if not leaves:
            raise ArgumentError(f"{title} cannot carry any field of {self.table.name}")
        self.schema = self._make_schema(metadata_of(known, self.table, options))
        self.messages = 0

    def _make_schema(self, metadata: dict[str, str]) -> Any:
        types = {}
        if self.plain_names:
            types = {
                field.name: field
                for field in self.table.arrow_schema(self.plain_names, enums=self.options.enums).to_pyarrow()
            }
        for name in self.json_names:
            types[name] = self.pa.field(name, self.pa.large_string())
        return self.pa.schema([types[name] for name in self.names], metadata)

    def batches(self, reader: StreamReader) -> Iterator[Any]:
        """The messages of a reader as record batches with the schema `schema`."""
        if self.json_names:
            yield from self._batches_with_json(reader)
            return
        stream = reader.column_batches(
            self.table,
            self.plain_names,
            self.options.where,
            batch_rows=self.batch_rows,
            enums=self.options.enums,
            on_other=on_other(self.options, self.table),
        )
        for batch in stream:
            self.messages += batch.num_rows
            yield self.pa.record_batch(batch)
            self.options.tick()
        self.options.losses.others += stream.others

    def _batches_with_json(self, reader: StreamReader) -> Iterator[Any]:
        """Reads messages twice: as columns, and as records for the columns of JSON text."""
        options = self.options
        places = {name: Place(self.table, name) for name in self.json_names}
        for frames in map(frames_of, reader.batches(max_frames=self.batch_rows, max_bytes=PIECE_BYTES)):
            columns = {}
            other = on_other(options, self.table)
            # Both verify, so that they leave out the same messages.
            if self.plain_names:
                with options.read_piece(frames) as inner:
                    batch = inner.columns(
                        self.table, self.plain_names, options.where, verify=True, enums=options.enums, on_other=other
                    )
                    columns = {name: self.pa.array(batch[name]) for name in self.plain_names}
            texts: dict[str, list[str | None]] = {name: [] for name in self.json_names}
            with options.read_piece(frames) as inner:
                records = inner.records(self.table, where=options.where, on_other=other)
                for record in records:
                    values = record.to_dict(enums="number" if options.enums == "number" else "name")
                    for name, cells in texts.items():
                        value = places[name].value_in(values)
                        cells.append(None if value is None else cell_text(value))
                options.losses.note(inner)
            self.options.losses.others += records.others
            for name, cells in texts.items():
                columns[name] = self.pa.array(cells, self.pa.large_string())
            made = self.pa.RecordBatch.from_arrays([columns[name] for name in self.names], schema=self.schema)
            self.messages += made.num_rows
            yield made
            options.tick()
            if options.losses.stop_error is not None:
                return


class ColumnSource(FileSource):
    """The base of sources that give batches of Arrow columns. Their rows are built as messages in memory."""

    def __init__(self, *arguments: Any) -> None:
        self.pa = load_pyarrow(FORMATS[self.format].title)
        super().__init__(*arguments)
        self.rows = 0

    def known_of(self, metadata: dict[bytes, bytes] | None) -> Known:
        """What the metadata of an Arrow schema says of the messages."""
        text = (metadata or {}).get(DESCRIPTION_KEY.encode())
        if text is None:
            return Known()
        try:
            return known_of_description(Description.from_bytes(base64.b64decode(text, validate=True)))
        except ValueError as error:
            raise ValueError(f"the metadata {DESCRIPTION_KEY!r} of the file is damaged: {error}") from error

    def batches(self) -> Iterator[Any]:
        """The content as record batches."""
        raise NotImplementedError

    def readers(self) -> Iterator[StreamReader]:
        """The rows, built as messages."""
        table = table_for_columns(self.known, self.title)
        fields: dict[str, FieldInfo] = {}
        identifier = bool(table.schema.file_identifier) and table == table.schema.root
        for batch in self.batches():
            for name in batch.schema.names:
                if name not in fields:
                    try:
                        fields[name] = resolve(table, name)
                    except KeyError as error:
                        raise ValueError(f"column {name!r}: {error.args[0]}") from None
            if not batch.num_rows:
                continue
            sink = io.BytesIO()
            with StreamWriter(sink, buffer_size=1 << 20) as writer:
                columns = {
                    name: self.prepare(name, fields[name], column)
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
                try:
                    RecordWriter(writer, table, file_identifier=identifier).write_columns(columns)
                except (TypeError, ValueError) as error:
                    # Rows are counted from the beginning of this batch.
                    text = ROW.sub(lambda found: str(int(found[0]) + self.rows), str(error), count=1)
                    raise type(error)(text) from None if text != str(error) else error
            self.rows += batch.num_rows
            yield self.options.read_piece(sink.getbuffer())

    def prepare(self, name: str, field: FieldInfo, column: Any) -> Any:
        """A column in the form that `RecordWriter.write_columns` takes."""
        types = self.pa.types
        kind = column.type
        if field.type.base in NESTED and (types.is_string(kind) or types.is_large_string(kind)):
            return self.parse_cells(name, column)
        if types.is_timestamp(kind) or types.is_duration(kind) or types.is_time(kind):
            unit = unit_of_name(name)
            if unit is not None and unit != kind.unit:
                make = self.pa.timestamp if types.is_timestamp(kind) else self.pa.duration
                return column if types.is_time(kind) else column.cast(make(unit))
        return column

    def parse_cells(self, name: str, column: Any) -> list[Any]:
        """The values of a column of JSON text."""
        values = []
        for row, cell in enumerate(column.to_pylist()):
            try:
                values.append(None if cell is None else json.loads(cell))
            except ValueError as error:
                raise ValueError(
                    f"column {name!r}, row {self.rows + row}: expected JSON, {error}: {cell!r:.100}"
                ) from None
        return values

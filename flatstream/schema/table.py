"""One table of a schema: its messages as records, as JSON text and as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from flatstream._core.flatbuf.layout import Layout
from flatstream._core.flatbuf.verifier import Types
from flatstream._core.records.json_lines import JsonLines, json_lines
from flatstream._core.records.json_reader import JsonReader
from flatstream._core.records.record_builder import RecordBuilder
from flatstream._core.records.record_filter import RecordFilter
from flatstream._core.records.record_iterator import (
    RecordIterator,
    iterate_mixed_records,
    iterate_records,
    view_message,
)
from flatstream._core.records.record_view import RecordView
from flatstream._core.stream.decoder import Decoder
from flatstream.schema._reflection import ObjectInfo
from flatstream.schema.inspection import Field, documentation_of, fields_of

if TYPE_CHECKING:
    from typing import Unpack

    from typing_extensions import Buffer

    from flatstream._core.flatbuf.builder import Builder
    from flatstream._message_reader import ColumnOptions, _OnError
    from flatstream.columns import ColumnBatch, ColumnSchema, ColumnStream
    from flatstream.schema.schema import Schema

__all__ = ["Table"]


class Table:
    """A table of a schema; see `Schema.table`.

    Examples
    --------
    >>> table = Schema.from_file("examples/telemetry.bfbs").root
    >>> table.fields["cores"]
    <Field cores: [CpuTimes]>
    >>> table.fields["cores"].type_name
    'telemetry.CpuTimes'
    """

    # The file identifiers of the other tables, if a description names several.
    _others: tuple[str, ...] | None = None

    def __init__(self, schema: Schema, number: int) -> None:
        self.schema = schema
        # The index in the schema's objects.
        self.number = number

    @property
    def _info(self) -> ObjectInfo:
        return self.schema._info.objects[self.number]

    @property
    def types(self) -> Types:
        """The schema's types in the form that the verifier takes."""
        return self.schema._types

    @property
    def layout(self) -> Layout:
        """The schema's types in the form that reading and writing messages takes."""
        return self.schema._layout

    @property
    def name(self) -> str:
        """The full name, with the namespace."""
        return self._info.name

    @property
    def field_names(self) -> tuple[str, ...]:
        """The names of all fields, deprecated ones included, in the order of their ids."""
        return tuple(field.name for field in self._info.fields)

    @property
    def fields(self) -> dict[str, Field]:
        """All fields by their names, deprecated ones included, in the order of their ids."""
        return fields_of(self.schema._info, self._info)

    @property
    def attributes(self) -> dict[str, str]:
        """The table's attributes, with their values as text; see `flatstream.schema.Field`."""
        return dict(self._info.attributes)

    @property
    def documentation(self) -> tuple[str, ...]:
        """The lines of the comment that begin with ``///``; see `flatstream.schema.Field`."""
        return documentation_of(self._info.documentation)

    # Records in

    def encode(self, builder: Builder, record: Any = None, /, **fields: Any) -> int:
        """Builds a record with `builder` and finishes the message.

        Parameters
        ----------
        builder : Builder
            A `flatstream.Builder` that holds no finished message and no unfinished table, vector or string.
        record : mapping, sequence or object with attributes, optional
            See `RecordWriter.write_record`.
        **fields
            The fields of the record as keywords, instead of `record`; see `RecordWriter.write`.

        Returns
        -------
        int
            The offset of the message in ``builder.Bytes``, as ``builder.Finish`` returns it.

        Raises
        ------
        TypeError, ValueError
            A value does not fit its field, a required field is missing, or the table has no field of this name. The
            builder keeps its previous content.
        FlatbufferError
            The builder holds a finished message, or a part of one.

        Examples
        --------
        >>> from flatstream import Builder
        >>> builder = Builder()
        >>> table = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Disk")
        >>> size = len(builder.Bytes) - table.encode(builder, name="sda")
        >>> memoryview(builder).nbytes == size
        True
        """
        if record is not None and fields:
            raise TypeError("encode() takes a record or fields as keywords, not both")
        # A new encoder costs a thousand times as much as a small record. The schema keeps it, because ``schema.root``
        # is another Table each time. Another thread, or a record that encodes another one meanwhile, takes one of its
        # own.
        spare = self.schema._spare_encoders.setdefault(self.number, [])
        try:
            encoder = spare.pop()
        except IndexError:
            encoder = RecordBuilder(self.layout, self.number)
        try:
            return encoder._encode(builder, fields if record is None else record)
        finally:
            spare.append(encoder)

    # JSON in

    def from_json(
        self,
        text: str | Buffer,
        *,
        file_identifier: bool = False,
        force_defaults: bool = False,
        unknown: Literal["raise", "skip"] = "raise",
    ) -> bytes:
        """The message of a record that is written as JSON, as ``flatc --binary`` makes it; see docs/json.md.

        Parameters
        ----------
        text : str or bytes-like
            One object of JSON, in UTF-8; what `RecordView.to_json` returns is one.
        file_identifier : bool
            Whether the message carries the schema's file identifier, as flatc's do.
        force_defaults : bool
            Whether values that equal the default are stored.
        unknown : {"raise", "skip"}
            Whether a field that the table does not have is an error, or is left out.

        Returns
        -------
        bytes
            A finished message.

        Raises
        ------
        JsonError
            The text is no JSON, or no record of this table: a value does not fit its field, a required field is
            missing, a name is no field. The error has the path of the field, and the line and column.
        ValueError
            `file_identifier` is true, and the schema has none or this is not its root.
        TypeError
            `text` is neither str nor bytes-like.

        Examples
        --------
        >>> table = Schema.from_file("examples/telemetry.bfbs").root
        >>> message = table.from_json('{"sequence": 7, "host": "alpha"}')
        >>> table.view(message)
        <telemetry.Event sequence=7 host='alpha'>
        """
        from flatstream._core.flatbuf.builder import Builder

        builder = Builder(1024)
        self.encode_json(builder, text, file_identifier=file_identifier, force_defaults=force_defaults, unknown=unknown)
        return bytes(memoryview(builder))

    def encode_json(
        self,
        builder: Builder,
        text: str | Buffer,
        *,
        file_identifier: bool = False,
        force_defaults: bool = False,
        unknown: Literal["raise", "skip"] = "raise",
    ) -> int:
        """Builds such a message with `builder`, and finishes it; returns its offset, as `encode` does.

        After an error the builder keeps its previous content. For the arguments and the errors see `from_json`, and
        `encode` for those of the builder.
        """
        identifier = self._identifier() if file_identifier else b""
        # See `encode`.
        spare = self.schema._spare_json_readers.setdefault(self.number, [])
        try:
            reader = spare.pop()
        except IndexError:
            reader = JsonReader(self.layout, self.number)
        try:
            return reader._encode_json(
                builder, text, file_identifier=identifier, force_defaults=force_defaults, unknown=unknown
            )
        finally:
            spare.append(reader)

    def _identifier(self) -> bytes:
        """The file identifier that messages of this table may carry."""
        identifier = self.layout.file_identifier
        if not identifier:
            raise ValueError(f"the schema of {self.name} has no file identifier")
        if self.number != self.layout.root:
            # A reader would take the message for one of the root table.
            name = identifier.decode("latin-1")
            raise ValueError(f"{self.name} has no file identifier: {name!r} is that of the schema's root table")
        return identifier

    # Records out

    def view(
        self,
        payload: Buffer,
        *,
        verify: bool = True,
        max_depth: int = 64,
        max_tables: int = 1_000_000,
        max_apparent_size: int = 2**31,
    ) -> RecordView:
        """A message of this type as a record that reads each field on access.

        Parameters
        ----------
        payload : bytes-like
            The message. It is not copied. The record, its parts and arrays from it keep it alive; a bytearray cannot be
            resized while any of them exists.
        verify : bool
            Whether to verify the whole message first. Without verification, no byte outside of the message is read
            either, and reading a damaged field raises FlatbufferError.
        max_depth, max_tables, max_apparent_size : int
            The limits of the verification: tables inside one another (at most 1,000), tables, and bytes, where shared
            parts count each time they are used. The last two are also those of `RecordView.to_dict` and of comparisons.

        Raises
        ------
        ValidationFailedError
            The verifier refuses the message: it is damaged or exceeds a limit.
        FlatbufferError
            The message has another file identifier than the schema, whose root this table is; or `verify` is false, and
            it does not begin with a table.
        TypeError, ValueError
            `payload` is not bytes-like, or a limit has the wrong type or range.

        Examples
        --------
        >>> table = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Event")
        >>> record = table.view(bytes.fromhex("08000000 04000400 04000000"))
        >>> record.sequence, record.host
        (0, None)
        """
        limits = (max_depth, max_tables, max_apparent_size)
        return view_message(self.schema._record_types, self.number, payload, verify, limits)

    def read_records(
        self,
        reader: Decoder,
        *,
        verify: bool = True,
        on_error: _OnError | None = None,
        on_other: Literal["raise", "skip"] = "raise",
        where: Any = None,
        limit: int | None = None,
        progress: Callable[[int, int], object] | None = None,
        max_depth: int = 64,
        max_tables: int = 1_000_000,
        max_apparent_size: int = 2**31,
    ) -> RecordIterator:
        """Iterates over the messages of a StreamReader as records of this type; see `StreamReader.records`."""
        types = self.schema._record_types
        selected = None
        if where is not None or limit is not None or progress is not None:
            from flatstream.columns.stream import make_conditions

            # The plan checks the paths; its columns are not read.
            conditions, _ = make_conditions(self, where)
            selected = RecordFilter(types, self.number, conditions, limit, progress)
        limits = (max_depth, max_tables, max_apparent_size)
        if self._others is None:
            return iterate_records(types, self.number, reader, verify, limits, on_other, on_error, selected)
        made: dict[bytes, Any] = {identifier.encode("latin-1"): None for identifier in self._others}
        made[self.schema.file_identifier.encode("latin-1")] = types, self.number
        return iterate_mixed_records(made, reader, verify, limits, on_other, on_error, selected)

    # JSON out

    def json_lines(
        self,
        reader: Decoder,
        *,
        enums: Literal["name", "number"] = "name",
        defaults: bool = False,
        nonfinite: Literal["string", "null", "bare"] = "string",
        chunk_size: int | None = None,
        **options: Any,
    ) -> JsonLines:
        """The messages of a StreamReader, which are of this type, as JSON lines.

        Parameters
        ----------
        reader : StreamReader
            The stream. Do not read from it meanwhile.
        enums, defaults, nonfinite
            See `RecordView.to_json`.
        chunk_size : int, optional
            The least number of bytes of a chunk, the last one and one before an error excepted. By default 65,536; of a
            file that is followed each line is a chunk.
        **options
            Those of `StreamReader.records`: `verify`, `on_error`, `on_other`, `where`, `limit`, `progress`,
            `max_depth`, `max_tables`, `max_apparent_size`.

        Returns
        -------
        JsonLines
            An iterator over chunks: bytes of whole lines, each of which ends with a line feed. Its attribute `lines` is
            the number of lines so far. An error comes behind the lines before it, and the iterator can go on after it
            as that of `StreamReader.records` can.

        Raises
        ------
        TypeError, ValueError
            An argument has the wrong type or value.

        Examples
        --------
        >>> import io
        >>> from flatstream import RecordWriter, StreamReader, StreamWriter
        >>> table = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Disk")
        >>> sink = io.BytesIO()
        >>> with StreamWriter(sink) as writer:
        ...     RecordWriter(writer, table).write_records([{"name": "sda"}, {"name": "sdb"}])
        2
        >>> for chunk in table.json_lines(StreamReader(sink.getvalue())):
        ...     print(chunk.decode(), end="")
        {"name":"sda"}
        {"name":"sdb"}
        """
        records = self.read_records(reader, **options)
        return json_lines(records, enums=enums, defaults=defaults, nonfinite=nonfinite, chunk_size=chunk_size)

    def _read_mixed_records(
        self,
        tables: Mapping[str, Table],
        reader: Decoder,
        *,
        verify: bool = True,
        on_error: _OnError | None = None,
        on_other: Literal["raise", "skip"] = "raise",
        limit: int | None = None,
        progress: Callable[[int, int], object] | None = None,
        max_depth: int = 64,
        max_tables: int = 1_000_000,
        max_apparent_size: int = 2**31,
    ) -> RecordIterator:
        """Iterates over the messages of a StreamReader, each as a record of its own table; see `StreamReader.records`.

        `tables` are by the file identifiers of their messages, "" for all other messages; this table is one of them.
        """
        selected = None
        if limit is not None or progress is not None:
            selected = RecordFilter(self.schema._record_types, self.number, [], limit, progress)
        made = {
            identifier.encode("latin-1"): (table.schema._record_types, table.number)
            for identifier, table in tables.items()
        }
        limits = (max_depth, max_tables, max_apparent_size)
        return iterate_mixed_records(made, reader, verify, limits, on_other, on_error, selected)

    def _identified(self, file_identifier: str) -> Table:
        """This table as the root of its schema, with a file identifier: as a description names it."""
        info = self.schema._info
        if (info.root, info.file_identifier) == (self.number, file_identifier):
            return self
        return Table(self.schema._with_root(self.number, file_identifier), self.number)

    def _one_of(self, file_identifier: str, identifiers: Iterable[str]) -> Table:
        """This table as one of several that a description names, by these file identifiers.

        Whatever reads messages of it reads no others: none of another table, and none without an identifier if it has
        one.
        """
        made = Table(self._identified(file_identifier).schema, self.number)
        made._others = tuple(identifier for identifier in identifiers if identifier != file_identifier)
        return made

    # Columns out

    def read_columns(
        self,
        reader: Decoder,
        fields: Iterable[str] | None = None,
        where: Any = None,
        **options: Unpack[ColumnOptions],
    ) -> ColumnBatch:
        """All messages that are left in a stream, as columns; see `StreamReader.columns`.

        The options are those of `StreamReader.columns`: `verify`, `enums`, `absent`, `on_error`, `on_other`,
        `progress`, `max_depth`, `max_tables` and `max_apparent_size`.
        """
        from flatstream.columns.stream import make_reader, read_all

        return read_all(make_reader(reader, self, fields, where, **options))

    def read_column_batches(
        self,
        reader: Decoder,
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        batch_rows: int | None = 65_536,
        _numbers: str | None = None,
        **options: Unpack[ColumnOptions],
    ) -> ColumnStream:
        """The messages of a stream as batches of columns; see `StreamReader.column_batches`.

        The options are those of `StreamReader.columns`: `verify`, `enums`, `absent`, `on_error`, `on_other`,
        `progress`, `max_depth`, `max_tables` and `max_apparent_size`.
        """
        from flatstream.columns.stream import ColumnStream, make_reader

        return ColumnStream(make_reader(reader, self, fields, where, _numbers, **options), batch_rows)

    def arrow_schema(
        self,
        fields: Iterable[str] | None = None,
        *,
        enums: Literal["dictionary", "number"] = "dictionary",
        absent: Literal["default", "null"] = "default",
    ) -> ColumnSchema:
        """The Arrow types of this table's columns; docs/columns.md has the whole mapping.

        Parameters
        ----------
        fields : iterable of str, optional
            Paths, as for `StreamReader.columns`; all fields by default.
        enums : {"dictionary", "number"}
            Whether enums become dictionaries of names, or numbers.
        absent : {"default", "null"}
            Whether numbers that a message does not store have their default, or are null.

        Raises
        ------
        KeyError, ValueError, TypeError
            See `StreamReader.columns`.
        """
        from flatstream.columns import ColumnSchema
        from flatstream.columns.stream import make_plan

        return ColumnSchema(make_plan(self, fields, enums, absent).type)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and (self.schema, self.number) == (other.schema, other.number)

    def __hash__(self) -> int:
        return hash((self.schema, self.number))

    def __reduce__(self) -> tuple[Any, ...]:
        return self.schema.table, (self.name,)

    def __repr__(self) -> str:
        return f"<Table {self.name} of {len(self._info.fields)} fields>"

    def _repr_html_(self) -> str:
        from flatstream.schema._html import table_html

        return table_html(self)

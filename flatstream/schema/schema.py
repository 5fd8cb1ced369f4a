"""Schemas at run time: the types of messages, from what flatc makes of a schema (``flatc --binary --schema``)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from flatstream._core.flatbuf.layout import Layout
from flatstream._core.flatbuf.verifier import Types
from flatstream._core.records.field_lookup import RecordTypes
from flatstream._core.records.record_builder import RecordBuilder
from flatstream._core.records.record_iterator import iterate_records, view_message
from flatstream._core.records.record_view import RecordView, VectorView
from flatstream._core.stream.decoder import Decoder
from flatstream.schema._reflection import ObjectInfo, SchemaInfo, layout_of, parse, types_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from flatstream._core.flatbuf.builder import Builder
    from flatstream.columns import ColumnBatch, ColumnSchema, ColumnStream

__all__ = ["RecordView", "Schema", "Table", "VectorView"]


class Schema:
    """The types of a FlatBuffers schema; made by `from_file` or `from_bytes`.

    Attributes
    ----------
    file_identifier : str
        The four characters that messages of this schema may carry, or "".
    file_extension : str
        What files of this schema are called, or "".

    Notes
    -----
    A schema is never changed once it is made; any number of threads may use it. A damaged one gives FlatbufferError
    when it is loaded: every offset and every number in it is checked before it is used.

    Examples
    --------
    >>> from pathlib import Path
    >>> schema = Schema.from_file("examples/telemetry.bfbs")
    >>> schema.root
    <Table telemetry.Event of 60 fields>
    >>> schema.table("telemetry.Disk").field_names
    ('name', 'counters')
    """

    def __init__(self, info: SchemaInfo) -> None:
        if not isinstance(info, SchemaInfo):
            raise TypeError(f"a Schema is made by Schema.from_file or Schema.from_bytes, got {type(info).__name__}")
        self._info = info
        self._types = types_of(info)
        self._layout = layout_of(info, self._types)
        self.numbers = {known.name: number for number, known in enumerate(info.objects)}
        self.file_identifier = info.file_identifier
        self.file_extension = info.file_extension

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Schema:
        """Loads a binary schema from a file.

        Raises
        ------
        OSError
            The file cannot be read.
        FlatbufferError
            It is no binary schema, or damaged.
        """
        with open(path, "rb") as file:
            return cls.from_bytes(file.read())

    @classmethod
    def from_bytes(cls, data: Buffer) -> Schema:
        """Loads a binary schema from a bytes-like object, which is copied.

        Raises
        ------
        TypeError
            `data` is not bytes-like.
        FlatbufferError
            It is no binary schema, or damaged.
        """
        return cls(parse(bytes(memoryview(data))))

    @property
    def root(self) -> Table | None:
        """The table that the schema calls the root of its messages; None if it names none."""
        return None if self._info.root is None else Table(self, self._info.root)

    def table(self, name: str) -> Table:
        """The table with this full name, namespace included.

        Raises
        ------
        KeyError
            There is none, or it is a struct.
        """
        number = self.numbers.get(name)
        if number is None:
            known = ", ".join(sorted(table.name for table in self))
            raise KeyError(f"no table {name!r} in this schema; it has {known}")
        if self._info.objects[number].is_struct:
            raise KeyError(f"{name!r} is a struct in this schema, and no table")
        return Table(self, number)

    @functools.cached_property
    def _record_types(self) -> RecordTypes:
        return RecordTypes(self._layout)

    def __iter__(self) -> Iterator[Table]:
        """All tables."""
        return (Table(self, number) for number, info in enumerate(self._info.objects) if not info.is_struct)

    def __repr__(self) -> str:
        root = self.root
        return f"<Schema of {sum(1 for _ in self)} tables" + (f", root {root.name}>" if root else ">")


class Table:
    """A table of a schema; see `Schema.table`."""

    def __init__(self, schema: Schema, number: int) -> None:
        self.schema = schema
        # Which of the schema's objects it is.
        self.number = number
        # Of `encode`, when it is first needed.
        self._record_builder: RecordBuilder | None = None

    @property
    def _info(self) -> ObjectInfo:
        return self.schema._info.objects[self.number]

    @property
    def types(self) -> Types:
        """The schema's types as the verifier wants them."""
        return self.schema._types

    @property
    def layout(self) -> Layout:
        """The schema's types as what reads and writes messages wants them."""
        return self.schema._layout

    @property
    def name(self) -> str:
        """Its full name, with the namespace."""
        return self._info.name

    @property
    def field_names(self) -> tuple[str, ...]:
        """The names of its fields, deprecated ones too, in the order of their numbers."""
        return tuple(field.name for field in self._info.fields)

    # Records in

    def encode(self, builder: Builder, record: Any = None, /, **fields: Any) -> int:
        """Builds a record with `builder` and finishes the message.

        Parameters
        ----------
        builder : Builder
            A `flatstream.Builder` that is not finished, and in the middle of nothing.
        record : mapping, sequence or object with attributes, optional
            See `RecordWriter.write_record`. Given by `fields` instead, see `RecordWriter.write`.

        Returns
        -------
        int
            Where in ``builder.Bytes`` the message begins, as from ``builder.Finish``.

        Raises
        ------
        TypeError, ValueError
            A value is not what its field takes, a required one is missing, or there is no field of this name. What the
            builder held before is still there.
        FlatbufferError
            The builder holds a finished message, or half of one.

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
        if self._record_builder is None:
            self._record_builder = RecordBuilder(self.layout, self.number)
        return self._record_builder._encode(builder, fields if record is None else record)

    # Records out

    def view(self, payload: Buffer, *, verify: bool = True) -> RecordView:
        """A message of this type as a record, whose fields are read when they are asked for.

        Parameters
        ----------
        payload : bytes-like
            The message. It is not copied, and is kept for as long as the record, a part of it or an array from it is
            alive: a bytearray cannot be resized until then.
        verify : bool
            Whether all of the message is verified first. Without, no access leads outside of the message either, and
            what is damaged gives FlatbufferError when it is read.

        Raises
        ------
        ValidationFailedError
            The verifier refuses the message: it is damaged, deeper than 64 tables, has more than 1,000,000 tables, or
            2 GiB if what is used twice counts twice.
        FlatbufferError
            `verify` is false, and the message does not even begin with a table.
        TypeError
            `payload` is not bytes-like.

        Examples
        --------
        >>> table = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Event")
        >>> record = table.view(bytes.fromhex("08000000 04000400 04000000"))
        >>> record.sequence, record.host
        (0, None)
        """
        return view_message(self.schema._record_types, self.number, payload, verify)

    def read_records(self, reader: Decoder, *, verify: bool = True) -> Iterator[RecordView]:
        """Iterates over the messages of a StreamReader as records of this type; see `StreamReader.records`."""
        return iterate_records(self.schema._record_types, self.number, reader, verify)

    # Columns out

    def read_columns(
        self,
        reader: Decoder,
        fields: Iterable[str] | None = None,
        where: tuple[str, Any, Any] | None = None,
        *,
        verify: bool = False,
        enums: Literal["dictionary", "number"] = "dictionary",
        on_error: Literal["raise", "skip"] = "raise",
        progress: Callable[[int, int], object] | None = None,
    ) -> ColumnBatch:
        """All messages that are left in a stream, as columns; see `StreamReader.columns`."""
        from flatstream.columns import batch as columns

        return columns.read_columns(
            columns.reader_of(
                reader, self.layout, self.number, self.name, fields, where, verify, enums, on_error, progress
            )
        )

    def read_column_batches(
        self,
        reader: Decoder,
        fields: Iterable[str] | None = None,
        where: tuple[str, Any, Any] | None = None,
        *,
        batch_rows: int | None = 65_536,
        verify: bool = False,
        enums: Literal["dictionary", "number"] = "dictionary",
        on_error: Literal["raise", "skip"] = "raise",
        progress: Callable[[int, int], object] | None = None,
    ) -> ColumnStream:
        """The messages of a stream as batches of columns; see `StreamReader.column_batches`."""
        from flatstream.columns import batch as columns

        return columns.ColumnStream(
            columns.reader_of(
                reader, self.layout, self.number, self.name, fields, where, verify, enums, on_error, progress
            ),
            batch_rows,
        )

    def arrow_schema(
        self, fields: Iterable[str] | None = None, *, enums: Literal["dictionary", "number"] = "dictionary"
    ) -> ColumnSchema:
        """The types that columns of this table have; docs/columns.md has the whole mapping.

        Parameters
        ----------
        fields : iterable of str, optional
            Paths, as for `StreamReader.columns`; all fields unless given.
        enums : {"dictionary", "number"}
            Whether enums are their names or their numbers.

        Raises
        ------
        KeyError, ValueError, TypeError
            See `StreamReader.columns`.
        """
        from flatstream.columns import batch as columns

        return columns.ColumnSchema(columns.plan_of(self.layout, self.number, self.name, fields, enums).type)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and (self.schema, self.number) == (other.schema, other.number)

    def __hash__(self) -> int:
        return hash((id(self.schema), self.number))

    def __repr__(self) -> str:
        return f"<Table {self.name} of {len(self._info.fields)} fields>"

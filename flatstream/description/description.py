"""`Description`: what a stream says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from flatstream.checksums import (
    Checksum,
    ChecksumType,
    Crc16,
    Crc32,
    Crc32c,
    Crc64,
    NoChecksum,
    XxHash64,
)
from flatstream.description._schemas import UNITS, find_time, schema_access, tables_of, unit_of_name
from flatstream.errors import FlatbufferError, FlatStreamError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["MAX_SIZE", "Description", "Root", "Transform", "checksum_name", "is_description", "may_describe"]

# The largest payload that is taken for a description, in bytes.
MAX_SIZE = 16 << 20
# The smallest one: the offset of the root, the file identifier, and a table.
MIN_SIZE = 12
IDENTIFIER = b"FSD1"
VERSION = 1

_NAMES: dict[type, str] = {
    NoChecksum: ChecksumType.NONE.value,
    Crc16: ChecksumType.CRC16.value,
    Crc32: ChecksumType.CRC32.value,
    Crc32c: ChecksumType.CRC32C.value,
    Crc64: ChecksumType.CRC64.value,
    XxHash64: ChecksumType.XXHASH64.value,
}


class Root(NamedTuple):
    """A type of the messages of a stream.

    Attributes
    ----------
    table : str
        The full name of the table.
    file_identifier : str
        The messages with this file identifier are of the type; "" if there is only one type, or for all others.
    schema : int
        The index of its schema in `Description.schemas`.
    time_field, time_unit : str or None
        The path of the field with the time of a message, and its unit: "s", "ms", "us" or "ns" since 1970 in UTC.
    """

    table: str
    file_identifier: str = ""
    schema: int = 0
    time_field: str | None = None
    time_unit: str | None = None


# A dictionary of Zstandard begins with this, and its number follows (RFC 8878).
ZSTD_DICTIONARY = b"\x37\xa4\x30\xec"


class Transform(NamedTuple):
    """What was done to payloads before they were framed.

    Attributes
    ----------
    name : str
        The name of the method.
    parameters : tuple of (str, str)
        Its parameters, by name.
    data : bytes
        What else is needed to undo it, as a dictionary of a compression.
    """

    name: str
    parameters: tuple[tuple[str, str], ...] = ()
    data: bytes = b""

    @property
    def text(self) -> str:
        """It in words, as "compression (level 3, method zstd, dictionary 1211377842 of 4,096 bytes)"."""
        parts = [f"{key} {value}" for key, value in self.parameters]
        if self.data[:4] == ZSTD_DICTIONARY and len(self.data) >= 8:
            number = int.from_bytes(self.data[4:8], "little")
            parts.append(f"dictionary {number} of {len(self.data):,} bytes")
        elif self.data:
            parts.append(f"{len(self.data):,} bytes of data")
        return f"{self.name} ({', '.join(parts)})" if parts else self.name

    @property
    def _undone_by(self) -> tuple[object, ...]:
        """What a reader needs to know of it.

        How hard a compressor tries makes no difference to one, and each part of an encrypted stream says its own key.
        """
        return self.name, tuple(pair for pair in self.parameters if pair[0] not in ("level", "key_id")), self.data


class Description:
    """What a stream says of itself in its first frame: its checksum, the types of its messages, and metadata.

    It is made by `StreamWriter` and `flatstream.open` with ``describe=``, and found by a reader: see
    `StreamReader.description`. It does not change after it is made, is compared by its content, and can be pickled.

    Parameters
    ----------
    roots : Table, Schema, iterable of Table, or mapping of str to Table, optional
        The type of the messages; or several, each by its file identifier.
    checksum : Checksum, ChecksumType or its name, optional
        The checksum of the frames. A writer sets it.
    metadata : mapping of str to str, optional
        Anything else.
    time_field : str, optional
        The path of the integer field with the time of a message, as ``"header.time_ns"``. By default the one whose name
        is ``time_ns``, ``timestamp_ms``, ``ts_us`` or ends so after an underscore, if there is one such field.
    time_unit : {"s", "ms", "us", "ns"}, optional
        Its unit. By default, the name of the field ends with it.
    created_ns : int, optional
        When the stream was begun, in nanoseconds since 1970 in UTC. A writer sets it to the present.
    created_by : str, optional
        The program that began it. A writer sets it to this package and its version.
    transforms : iterable of Transform
        What was done to payloads before they were framed. A writer sets it, by its framer.
    serializer : str, optional
        The name of what makes payloads of objects, if they are no FlatBuffers. See `Serializer`.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument is wrong; the table has no such field, or one that is no integer; the unit is not known; the
        description has more than 16 MiB.

    Examples
    --------
    >>> from flatstream import Schema
    >>> description = Description(Schema.from_file("examples/telemetry.bfbs"), metadata={"host": "a"})
    >>> description
    <Description of telemetry.Event, time wall_time_ns in ns>
    >>> Description.from_bytes(description.to_bytes()) == description
    True
    >>> description.table
    <Table telemetry.Event of 60 fields>
    """

    __slots__ = ("_cache", "_fields")

    # In the order of description.fbs, without the payload that it was made from.
    _fields: dict[str, Any]
    _cache: dict[str, Any]

    def __init__(
        self,
        roots: Any = None,
        *,
        checksum: Checksum | ChecksumType | str | None = None,
        metadata: Mapping[str, str] | None = None,
        time_field: str | None = None,
        time_unit: str | None = None,
        created_ns: int | None = None,
        created_by: str | None = None,
        transforms: Iterable[Transform] = (),
        serializer: str | None = None,
    ) -> None:
        tables = tables_of(roots)
        schemas: list[bytes] = []
        described = []
        times = _times_of(tables, time_field, time_unit)
        for identifier, table in tables.items():
            data = schema_access().data_of(table.schema)
            if data not in schemas:
                schemas.append(data)
            described.append(Root(table.name, identifier, schemas.index(data), *times[identifier]))
        if created_ns is not None and (
            isinstance(created_ns, bool) or not isinstance(created_ns, int) or not 0 < created_ns < 2**63
        ):
            raise ValueError(f"created_ns must be nanoseconds since 1970 as an int, got {created_ns!r:.100}")
        fields = {
            "version": VERSION,
            "checksum": None if checksum is None else checksum_name(checksum),
            "schemas": tuple(schemas),
            "roots": tuple(described),
            "transforms": tuple(_checked_transform(transform) for transform in transforms),
            "serializer": _checked_text("serializer", serializer),
            "created_ns": created_ns,
            "created_by": _checked_text("created_by", created_by),
            "metadata": _checked_metadata(metadata),
        }
        self._set(fields)
        if tables:
            self._cache["tables"] = dict(tables)
        self.to_bytes()

    def _set(self, fields: dict[str, Any], payload: bytes | None = None) -> None:
        object.__setattr__(self, "_fields", fields)
        object.__setattr__(self, "_cache", {} if payload is None else {"payload": payload})

    @classmethod
    def _of(cls, fields: dict[str, Any], payload: bytes | None = None) -> Description:
        made = cls.__new__(cls)
        made._set(fields, payload)
        return made

    @classmethod
    def from_bytes(cls, payload: Buffer) -> Description:
        """The description in a payload, which is copied.

        Nothing in it is trusted: it is verified, bounded in size, and its schemas are verified when they are used.

        Raises
        ------
        FlatbufferError
            It is no description, or a damaged one.
        TypeError
            `payload` is not bytes-like.
        """
        from flatstream.description import _types

        view = memoryview(payload).cast("B") if memoryview(payload).nbytes else memoryview(b"")
        if not is_description(view):
            raise FlatbufferError(
                f"no description: expected the file identifier {IDENTIFIER.decode()!r} and at most {MAX_SIZE} bytes, "
                f"got {view.nbytes} bytes that begin with {bytes(view[:8])!r}"
            )
        data = bytes(view)
        try:
            return cls._of(_fields_of(_types.decode(data, MAX_SIZE)), data)
        except FlatStreamError as error:
            raise FlatbufferError(f"the description of the stream is damaged: {error.message}") from error

    def to_bytes(self) -> bytes:
        """The payload: a FlatBuffer of ``description.fbs`` (see docs/description.md).

        Of a description that was read, the bytes that were read, with whatever a later version of this package wrote.
        """
        payload: bytes | None = self._cache.get("payload")
        if payload is None:
            from flatstream.description import _types

            payload = self._cache["payload"] = _types.encode(_message_of(self._fields))
            if len(payload) > MAX_SIZE:
                raise ValueError(f"the description has {len(payload)} bytes, and may have {MAX_SIZE}")
        return payload

    # Content

    @property
    def version(self) -> int:
        """The version of the format: 1. A reader takes later ones, and leaves out what it does not know."""
        return int(self._fields["version"])

    @property
    def checksum(self) -> str | None:
        """The name of the checksum of the frames, as "crc32"; "none" if they have none; None if it does not say."""
        return self._fields["checksum"]  # type: ignore[no-any-return]

    @property
    def schemas(self) -> tuple[bytes, ...]:
        """The binary schemas, as `Schema.from_bytes` takes them."""
        return self._fields["schemas"]  # type: ignore[no-any-return]

    @property
    def roots(self) -> tuple[Root, ...]:
        """The types of the messages."""
        return self._fields["roots"]  # type: ignore[no-any-return]

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """What was done to payloads before they were framed, in this order."""
        return self._fields["transforms"]  # type: ignore[no-any-return]

    @property
    def serializer(self) -> str | None:
        """The name of what makes payloads of objects (see `Serializer`); None for FlatBuffers."""
        return self._fields["serializer"]  # type: ignore[no-any-return]

    @property
    def created_ns(self) -> int | None:
        """When the stream was begun, in nanoseconds since 1970 in UTC; None if it does not say."""
        return self._fields["created_ns"]  # type: ignore[no-any-return]

    @property
    def created_by(self) -> str | None:
        """What began the stream; None if it does not say."""
        return self._fields["created_by"]  # type: ignore[no-any-return]

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata, as a new dict that is sorted by the keys."""
        return dict(self._fields["metadata"])

    @property
    def tables(self) -> dict[str, Any]:
        """The tables of the messages, by their file identifiers; "" is that of a table without one.

        Raises
        ------
        FlatbufferError
            A schema is damaged, or has no such table.
        """
        tables: dict[str, Any] | None = self._cache.get("tables")
        if tables is None:
            loaded: dict[int, Any] = {}
            tables = {}
            for root in self.roots:
                if root.schema not in loaded:
                    loaded[root.schema] = schema_access().load(self.schemas[root.schema])
                try:
                    table = loaded[root.schema].table(root.table)
                except KeyError:
                    raise FlatbufferError(
                        f"the description names the table {root.table!r:.100}, which its schema does not have"
                    ) from None
                tables.setdefault(root.file_identifier, table)
            self._cache["tables"] = tables
        if len(tables) > 1 and "several" not in self._cache:
            self._cache["several"] = {name: table._one_of(name, tables) for name, table in tables.items()}
        return dict(self._cache.get("several", tables))

    @property
    def table(self) -> Any:
        """The table of the messages, the first one if there are several; None without a schema. See `tables`."""
        return next(iter(self.tables.values()), None)

    @property
    def schema(self) -> Any:
        """The Schema of that table; None without one. See `tables`."""
        table = self.table
        return None if table is None else table.schema

    @property
    def time(self) -> tuple[str, str, str] | None:
        """The table, the path of the field with the time of a message, and its unit; of the first table that has one.
        None without such a field.
        """
        for root in self.roots:
            if root.time_field is not None and root.time_unit is not None:
                return root.table, root.time_field, root.time_unit
        return None

    # Others

    def with_checksum(self, checksum: Checksum | ChecksumType | str | None) -> Description:
        """The same description with another checksum; None does not say which."""
        name = None if checksum is None else checksum_name(checksum)
        if name == self.checksum:
            return self
        return self._changed(checksum=name)

    def with_metadata(self, metadata: Mapping[str, str]) -> Description:
        """The same description with more metadata, which takes the place of that with the same keys."""
        return self._changed(metadata=_checked_metadata(self.metadata | dict(_checked_metadata(metadata))))

    def _with_transforms(self, transforms: Iterable[tuple[str, Iterable[tuple[str, str]], bytes]]) -> Description:
        """The same description with these transforms, as `Framer.transforms` has them; none of them takes them off."""
        made = tuple(_checked_transform(Transform(name, tuple(pairs), data)) for name, pairs, data in transforms)
        return self if made == self.transforms else self._changed(transforms=made)

    def _replaced(
        self,
        *,
        checksum: Checksum | ChecksumType | str | None = None,
        created_ns: int | None = None,
        created_by: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Description:
        """The same description with the arguments that are not None in place of what it says."""
        fields = {
            "checksum": None if checksum is None else checksum_name(checksum),
            "created_ns": created_ns,
            "created_by": created_by,
            "metadata": None if metadata is None else _checked_metadata(metadata),
        }
        return self._changed(**{name: value for name, value in fields.items() if value is not None})

    def _changed(self, **fields: Any) -> Description:
        made = self._of(self._fields | {"version": VERSION} | fields)
        if "tables" in self._cache:
            made._cache["tables"] = self._cache["tables"]
        made.to_bytes()
        return made

    def _begun(self, created_ns: int, created_by: str) -> Description:
        """The same description of a stream that begins now, unless it says when it was begun."""
        if self.created_ns is not None:
            return self
        return self._changed(created_ns=created_ns, created_by=self.created_by or created_by)

    def matches(self, other: Description) -> bool:
        """Whether two streams have the same format: checksum, schemas, types, transforms and serializer.

        Metadata, and when and by what they were begun, may differ, and so may the level of a compression and the id of
        the key of an encryption.
        """
        names = ("checksum", "schemas", "roots", "serializer")
        return all(self._fields[name] == other._fields[name] for name in names) and (
            [transform._undone_by for transform in self.transforms]
            == [transform._undone_by for transform in other.transforms]
        )

    def __eq__(self, other: object) -> bool:
        return self._fields == other._fields if isinstance(other, Description) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._fields.values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Description does not change after it is made: cannot set {name!r:.100}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Description does not change after it is made: cannot delete {name!r:.100}")

    def __repr__(self) -> str:
        return f"<Description {self._summary()}>"

    def _summary(self) -> str:
        """What a short representation says."""
        parts = []
        if self.roots:
            names = ", ".join(_short(root.table) for root in self.roots[:3])
            parts.append(f"of {names}" + (f" and {len(self.roots) - 3} more" if len(self.roots) > 3 else ""))
        elif self.serializer is not None:
            parts.append(f"of objects by the serializer {_short(self.serializer)}")
        else:
            parts.append("without a schema")
        if self.checksum is not None:
            parts.append(f"checksum {_short(self.checksum)}")
        if self.time is not None:
            parts.append(f"time {_short(self.time[1])} in {self.time[2]}")
        for transform in self.transforms[:3]:
            parts.append(_short(" ".join([transform.name, dict(transform.parameters).get("method", "")]).strip()))
        return ", ".join(parts)

    def _repr_html_(self) -> str:
        from html import escape

        rows = [("checksum", self.checksum), ("created", _text_of_time(self.created_ns)), ("by", self.created_by)]
        for root in self.roots[:20]:
            time = "" if root.time_field is None else f", time {root.time_field} in {root.time_unit}"
            rows.append(("table", root.table + (f" ({root.file_identifier})" if root.file_identifier else "") + time))
        rows += [("transform", transform.text) for transform in self.transforms[:20]]
        rows.append(("serializer", self.serializer))
        rows += list(self._fields["metadata"][:50])
        cells = "".join(
            f"<tr><th>{escape(name[:100])}</th><td>{escape(value[:500])}</td></tr>"
            for name, value in rows
            if value is not None
        )
        return f"<table><caption>Description of a stream</caption>{cells}</table>"


def is_description(payload: Buffer) -> bool:
    """Whether a payload has the file identifier and the size of a description. The rest is checked by
    `Description.from_bytes`.
    """
    view = memoryview(payload)
    return may_describe(bytes(view.cast("B")[:8]) if view.nbytes else b"", view.nbytes)


def may_describe(first_bytes: bytes, size: int) -> bool:
    """Whether a payload of `size` bytes that begins with these 8 has the file identifier and the size of one."""
    return MIN_SIZE <= size <= MAX_SIZE and first_bytes[4:8] == IDENTIFIER


def checksum_name(checksum: Checksum | ChecksumType | str) -> str:
    """The name by which a description calls a checksum: that of the ChecksumType, or the name of another Checksum."""
    if isinstance(checksum, Checksum):
        return _NAMES.get(type(checksum)) or _required_text("the name of the checksum", checksum.name)
    if isinstance(checksum, ChecksumType):
        return checksum.value
    if isinstance(checksum, str):
        return _required_text("checksum", checksum)
    raise TypeError(f"expected a Checksum, a ChecksumType or a name, got {checksum!r:.100}")


# Arguments


def _checked_text(name: str, text: Any) -> str | None:
    return None if text is None else _required_text(name, text)


def _required_text(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, got {type(text).__name__}: {text!r:.100}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be Unicode without surrogates, got {text!r:.100}") from None
    # A plain str.
    return str.__str__(text)


def _checked_metadata(metadata: Any) -> tuple[tuple[str, str], ...]:
    if metadata is None:
        return ()
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping of str to str, got {type(metadata).__name__}: {metadata!r:.100}")
    items = [
        (_required_text("a key of metadata", key), _required_text(f"metadata[{key!r:.100}]", value))
        for key, value in metadata.items()
    ]
    # A vector of keys is sorted by their bytes.
    return tuple(sorted(items, key=lambda item: item[0].encode()))


def _checked_transform(transform: Any) -> Transform:
    if not isinstance(transform, Transform):
        raise TypeError(f"transforms must be Transform objects, got {type(transform).__name__}: {transform!r:.100}")
    parameters = _checked_metadata(dict(transform.parameters))
    return Transform(_required_text("the name of a transform", transform.name), parameters, bytes(transform.data))


def _times_of(
    tables: dict[str, Any], time_field: str | None, time_unit: str | None
) -> dict[str, tuple[str | None, str | None]]:
    """The field with the time of a message, and its unit, of each table."""
    if time_field is None:
        if time_unit is not None:
            raise ValueError(f"time_unit={time_unit!r:.100} is the unit of time_field, which is not given")
        return {identifier: find_time(table) or (None, None) for identifier, table in tables.items()}
    if not tables:
        raise ValueError(f"time_field={time_field!r:.100} is a field of a table, and no table is given")
    if not isinstance(time_field, str):
        raise TypeError(f"time_field must be a str, got {type(time_field).__name__}: {time_field!r:.100}")
    unit = time_unit if time_unit is not None else unit_of_name(time_field)
    if not isinstance(unit, str) or unit not in UNITS:
        if time_unit is not None:
            raise ValueError(f"time_unit must be 's', 'ms', 'us' or 'ns', got {time_unit!r:.100}")
        raise ValueError(
            f"the name of {time_field!r:.100} does not end with its unit (_s, _ms, _us or _ns): pass time_unit="
        )
    times: dict[str, tuple[str | None, str | None]] = {}
    missing: KeyError | None = None
    for identifier, table in tables.items():
        try:
            schema_access().check_integer(table, time_field)
            times[identifier] = (time_field, unit)
        except KeyError as error:
            missing = error
            times[identifier] = (None, None)
    if missing is not None and not any(field for field, _ in times.values()):
        raise missing
    return times


# To and from messages


def _message_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a message of description.fbs."""
    from flatstream.description._types import TIME_UNITS

    return {
        "version": fields["version"],
        "checksum": fields["checksum"],
        "schemas": [{"data": data} for data in fields["schemas"]] or None,
        "roots": [
            {
                "table": root.table,
                "file_identifier": root.file_identifier or None,
                "schema": root.schema,
                "time_field": root.time_field,
                "time_unit": TIME_UNITS.index(root.time_unit or "none"),
            }
            for root in fields["roots"]
        ]
        or None,
        "transforms": [
            {
                "name": transform.name,
                "parameters": _pairs_to_message(transform.parameters),
                "data": transform.data or None,
            }
            for transform in fields["transforms"]
        ]
        or None,
        "serializer": fields["serializer"],
        "created_ns": fields["created_ns"] or 0,
        "created_by": fields["created_by"],
        "metadata": _pairs_to_message(fields["metadata"]),
    }


def _pairs_to_message(pairs: tuple[tuple[str, str], ...]) -> list[dict[str, str]] | None:
    return [{"key": key, "value": value} for key, value in pairs] or None


def _fields_of(message: dict[str, Any]) -> dict[str, Any]:
    """The content of a verified message. FlatbufferError: it contradicts itself."""
    from flatstream.description._types import TIME_UNITS

    schemas = tuple(schema["data"] for schema in message["schemas"] or ())
    roots = []
    for root in message["roots"] or ():
        index, unit = root["schema"], root["time_unit"]
        if index >= len(schemas):
            raise FlatbufferError(
                f"the table {root['table']!r:.100} is of schema {index}, and there are {len(schemas)} schemas"
            )
        # A unit that a later version added is not known.
        known = TIME_UNITS[unit] if 0 < unit < len(TIME_UNITS) else None
        field = root["time_field"] if known else None
        roots.append(Root(root["table"], root["file_identifier"] or "", index, field, None if field is None else known))
    return {
        "version": message["version"],
        "checksum": message["checksum"],
        "schemas": schemas,
        "roots": tuple(roots),
        "transforms": tuple(
            Transform(transform["name"], _pairs_of(transform["parameters"]), transform["data"] or b"")
            for transform in message["transforms"] or ()
        ),
        "serializer": message["serializer"],
        "created_ns": message["created_ns"] if message["created_ns"] > 0 else None,
        "created_by": message["created_by"],
        "metadata": _pairs_of(message["metadata"]),
    }


def _pairs_of(pairs: list[dict[str, Any]] | None) -> tuple[tuple[str, str], ...]:
    # Of two with the same key, the first.
    found: dict[str, str] = {}
    for pair in pairs or ():
        found.setdefault(pair["key"], pair["value"] or "")
    return tuple(sorted(found.items(), key=lambda item: item[0].encode()))


def _short(text: str) -> str:
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text_of_time(nanoseconds: int | None) -> str | None:
    if nanoseconds is None:
        return None
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(nanoseconds // 10**9, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{nanoseconds} ns since 1970"

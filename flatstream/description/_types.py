"""The tables of description.fbs, as far as they are needed to read and write a description.

They are written down here, because descriptions are a layer below schemas: no binary schema is loaded for them.
"""

from __future__ import annotations

from typing import Any

from flatstream._core.flatbuf.builder import Builder
from flatstream._core.flatbuf.layout import EnumLayout, Layout
from flatstream._core.flatbuf.verifier import Types
from flatstream._core.records.record_builder import RecordBuilder
from flatstream.errors import FlatbufferError

IDENTIFIER = b"FSD1"

# Base types, with the numbers of reflection.BaseType.
UBYTE, USHORT, UINT, LONG, STRING, VECTOR, OBJECT = 4, 6, 8, 9, 13, 14, 15

KEY_VALUE, ROOT, TRANSFORM, BINARY_SCHEMA, DESCRIPTION = range(5)
TIME_UNIT = 0
TIME_UNITS = ("none", "s", "ms", "us", "ns")

# A field: its name, its type, the element type of a vector, the number of the table or enum that it refers to, whether
# it is required. Those without `element` and `index` are strings and numbers.
_TABLES: dict[int, tuple[str, list[tuple[str, int, int, int, bool]]]] = {
    KEY_VALUE: ("KeyValue", [("key", STRING, 0, -1, True), ("value", STRING, 0, -1, False)]),
    ROOT: (
        "Root",
        [
            ("table", STRING, 0, -1, True),
            ("file_identifier", STRING, 0, -1, False),
            ("schema", UINT, 0, -1, False),
            ("time_field", STRING, 0, -1, False),
            ("time_unit", UBYTE, 0, TIME_UNIT, False),
        ],
    ),
    TRANSFORM: (
        "Transform",
        [
            ("name", STRING, 0, -1, True),
            ("parameters", VECTOR, OBJECT, KEY_VALUE, False),
            ("data", VECTOR, UBYTE, -1, False),
        ],
    ),
    BINARY_SCHEMA: ("BinarySchema", [("data", VECTOR, UBYTE, -1, True)]),
    DESCRIPTION: (
        "Description",
        [
            ("version", USHORT, 0, -1, False),
            ("checksum", STRING, 0, -1, False),
            ("schemas", VECTOR, OBJECT, BINARY_SCHEMA, False),
            ("roots", VECTOR, OBJECT, ROOT, False),
            ("transforms", VECTOR, OBJECT, TRANSFORM, False),
            ("serializer", STRING, 0, -1, False),
            ("created_ns", LONG, 0, -1, False),
            ("created_by", STRING, 0, -1, False),
            ("metadata", VECTOR, OBJECT, KEY_VALUE, False),
        ],
    ),
}
_SIZES = {UBYTE: 1, USHORT: 2, UINT: 4, LONG: 8}
_DEFAULTS = {(DESCRIPTION, "version"): 1}
_ALIGNMENTS = {(BINARY_SCHEMA, "data"): 8}

# The tables of one description. Bytes that are referred to twice count twice, so that a small description cannot take
# the memory of a large one.
MAX_TABLES = 1 << 16
MAX_DEPTH = 4


def _make_types() -> Types:
    return Types(
        [
            (
                f"flatstream.description.{name}",
                False,
                0,
                [
                    (field, 4 + 2 * number, base, element, index, 0, required, False)
                    for number, (field, base, element, index, required) in enumerate(fields)
                ],
            )
            for name, fields in _TABLES.values()
        ],
        [[]],
        [1],
    )


def _make_layout(types: Types) -> Layout:
    objects: list[tuple[str, int, list[tuple[Any, ...]]]] = []
    for table, (name, fields) in _TABLES.items():
        described = []
        for field, base, element, _, _ in fields:
            size = _SIZES.get(base, 4)
            element_size = _SIZES.get(element, 4) if base == VECTOR else 0
            element_alignment = max(element_size, _ALIGNMENTS.get((table, field), 1))
            default = _DEFAULTS.get((table, field), 0)
            described.append((field, default, size, size, element_size, element_alignment, 0, -1, False, False))
        objects.append((f"flatstream.description.{name}", 4, described))
    units = EnumLayout(
        "flatstream.description.TimeUnit", False, False, UBYTE, [(unit, i) for i, unit in enumerate(TIME_UNITS)]
    )
    return Layout(types, objects, [units], IDENTIFIER, DESCRIPTION)


TYPES = _make_types()
LAYOUT = _make_layout(TYPES)


def encode(fields: dict[str, Any]) -> bytes:
    """The message of a description with these fields."""
    builder = Builder(1024)
    RecordBuilder(LAYOUT, DESCRIPTION, file_identifier=IDENTIFIER)._encode(builder, fields)
    return bytes(builder.Output())


def decode(data: bytes, max_apparent_size: int) -> dict[str, Any]:
    """The fields of a message, verified: numbers, and str, bytes and lists of dicts; None for what it does not have.

    Raises
    ------
    FlatbufferError
        The verifier refuses it, or a string is not UTF-8.
    """
    refused = TYPES.verify(DESCRIPTION, data, MAX_DEPTH, MAX_TABLES, max_apparent_size)
    if refused is not None:
        path, reason = refused
        raise FlatbufferError(f"{path}: {reason}" if path else reason)
    try:
        return _table(data, _follow(data, 0), DESCRIPTION)
    except UnicodeDecodeError as error:
        raise FlatbufferError(f"a string is not UTF-8: {error.object[:20]!r}") from None


# Records would do the same, but they make arrays of NumPy of bytes, which takes long to import. The verifier has
# checked every offset.


def _follow(data: bytes, at: int) -> int:
    return at + _number(data, at, 4)


def _number(data: bytes, at: int, size: int, signed: bool = False) -> int:
    return int.from_bytes(data[at : at + size], "little", signed=signed)


def _bytes(data: bytes, at: int) -> bytes:
    """The bytes of a string or vector at `at`."""
    return data[at + 4 : at + 4 + _number(data, at, 4)]


def _table(data: bytes, at: int, number: int) -> dict[str, Any]:
    """The fields of the table at `at`."""
    vtable = at - _number(data, at, 4, True)
    count = _number(data, vtable, 2) // 2 - 2
    fields: dict[str, Any] = {}
    for i, (name, base, element, index, _) in enumerate(_TABLES[number][1]):
        offset = _number(data, vtable + 4 + 2 * i, 2) if i < count else 0
        if base in _SIZES:
            value = _DEFAULTS.get((number, name), 0)
            fields[name] = _number(data, at + offset, _SIZES[base], base == LONG) if offset else value
        elif not offset:
            fields[name] = None
        else:
            target = _follow(data, at + offset)
            if base == STRING:
                fields[name] = _bytes(data, target).decode()
            elif element == UBYTE:
                fields[name] = _bytes(data, target)
            else:
                places = range(target + 4, target + 4 + 4 * _number(data, target, 4), 4)
                fields[name] = [_table(data, _follow(data, place), index) for place in places]
    return fields

"""Binary schemas (.bfbs): what flatc knows about the types of a schema, itself a FlatBuffer.

Its own schema, reflection.fbs of FlatBuffers, is written down here as far as it matters, so that the verifier can go
through a binary schema before anything in it is read. What verifies can still say nonsense (a field of type number 99,
a struct inside itself); `parse` checks that.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from typing import Any

from flatstream._core.flatbuf.layout import EnumLayout, Layout
from flatstream._core.flatbuf.verifier import Types
from flatstream.errors import FlatbufferError

IDENTIFIER = b"BFBS"
# The first entries of a vtable are its size and that of the table.
FIRST_FIELD = 4
# How often a binary schema may refer to the same bytes, on average: flatc shares vtables and little else, and something
# small that says the same thing a million times would take memory for each.
MOST_REPEATED = 16
# Structs inside structs, which are gone through by calls inside calls.
MOST_NESTED = 100


class BaseType(enum.IntEnum):
    """What a field can be, by the numbers of reflection.BaseType."""

    NONE = 0
    UTYPE = 1
    BOOL = 2
    BYTE = 3
    UBYTE = 4
    SHORT = 5
    USHORT = 6
    INT = 7
    UINT = 8
    LONG = 9
    ULONG = 10
    FLOAT = 11
    DOUBLE = 12
    STRING = 13
    VECTOR = 14
    OBJ = 15
    UNION = 16
    ARRAY = 17
    VECTOR64 = 18


SIZES = {
    BaseType.UTYPE: 1,
    BaseType.BOOL: 1,
    BaseType.BYTE: 1,
    BaseType.UBYTE: 1,
    BaseType.SHORT: 2,
    BaseType.USHORT: 2,
    BaseType.INT: 4,
    BaseType.UINT: 4,
    BaseType.LONG: 8,
    BaseType.ULONG: 8,
    BaseType.FLOAT: 4,
    BaseType.DOUBLE: 8,
}
INTEGERS = frozenset(SIZES) - {BaseType.FLOAT, BaseType.DOUBLE}


@dataclass(frozen=True)
class TypeInfo:
    """The type of a field, of the elements of a vector, or of a variant of a union."""

    base: BaseType
    element: BaseType = BaseType.NONE
    index: int = -1
    fixed_length: int = 0

    @property
    def inner(self) -> BaseType:
        """What is not a vector or an array: the elements of one, or the type itself."""
        return self.element if self.base in (BaseType.VECTOR, BaseType.ARRAY) else self.base


@dataclass(frozen=True)
class FieldInfo:
    """A field of a table or a struct."""

    name: str
    type: TypeInfo
    id: int
    offset: int
    default_integer: int = 0
    default_real: float = 0.0
    deprecated: bool = False
    required: bool = False
    key: bool = False
    optional: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    documentation: tuple[str, ...] = ()


@dataclass(frozen=True)
class ObjectInfo:
    """A table or a struct, with its fields in the order of their numbers."""

    name: str
    fields: tuple[FieldInfo, ...]
    is_struct: bool = False
    alignment: int = 1
    size: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    documentation: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnumValue:
    """A value of an enum, or a variant of a union with its type."""

    name: str
    value: int
    type: TypeInfo = TypeInfo(BaseType.NONE)
    documentation: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnumInfo:
    """An enum or a union."""

    name: str
    values: tuple[EnumValue, ...]
    is_union: bool
    underlying: TypeInfo
    attributes: dict[str, str] = field(default_factory=dict)
    documentation: tuple[str, ...] = ()


@dataclass(frozen=True)
class SchemaInfo:
    """All that a binary schema says."""

    objects: tuple[ObjectInfo, ...]
    enums: tuple[EnumInfo, ...]
    file_identifier: str
    file_extension: str
    root: int | None


# reflection.fbs: for each table the names, types and numbers of its fields. The number of a table in this list is what
# `index` means.
TYPE, KEY_VALUE, ENUM_VALUE, ENUM, FIELD, OBJECT, CALL, SERVICE, FILE, SCHEMA = range(10)


def _one(base: BaseType, index: int = -1) -> TypeInfo:
    return TypeInfo(base, index=index)


def _many(element: BaseType, index: int = -1) -> TypeInfo:
    return TypeInfo(BaseType.VECTOR, element, index)


_STRING, _STRINGS = _one(BaseType.STRING), _many(BaseType.STRING)
_BOOL, _INT, _LONG = _one(BaseType.BOOL), _one(BaseType.INT), _one(BaseType.LONG)
_ATTRIBUTES = _many(BaseType.OBJ, KEY_VALUE)

_REFLECTION: dict[int, tuple[str, list[tuple[str, TypeInfo, bool]]]] = {
    TYPE: (
        "type",
        [
            ("base_type", _one(BaseType.BYTE), False),
            ("element", _one(BaseType.BYTE), False),
            ("index", _INT, False),
            ("fixed_length", _one(BaseType.USHORT), False),
            ("base_size", _one(BaseType.UINT), False),
            ("element_size", _one(BaseType.UINT), False),
        ],
    ),
    KEY_VALUE: ("key_value", [("key", _STRING, True), ("value", _STRING, False)]),
    ENUM_VALUE: (
        "enum_value",
        [
            ("name", _STRING, True),
            ("value", _LONG, False),
            ("object", _one(BaseType.OBJ, OBJECT), False),
            ("union_type", _one(BaseType.OBJ, TYPE), False),
            ("documentation", _STRINGS, False),
            ("attributes", _ATTRIBUTES, False),
        ],
    ),
    ENUM: (
        "enum",
        [
            ("name", _STRING, True),
            ("values", _many(BaseType.OBJ, ENUM_VALUE), True),
            ("is_union", _BOOL, False),
            ("underlying_type", _one(BaseType.OBJ, TYPE), True),
            ("attributes", _ATTRIBUTES, False),
            ("documentation", _STRINGS, False),
            ("declaration_file", _STRING, False),
        ],
    ),
    FIELD: (
        "field",
        [
            ("name", _STRING, True),
            ("type", _one(BaseType.OBJ, TYPE), True),
            ("id", _one(BaseType.USHORT), False),
            ("offset", _one(BaseType.USHORT), False),
            ("default_integer", _LONG, False),
            ("default_real", _one(BaseType.DOUBLE), False),
            ("deprecated", _BOOL, False),
            ("required", _BOOL, False),
            ("key", _BOOL, False),
            ("attributes", _ATTRIBUTES, False),
            ("documentation", _STRINGS, False),
            ("optional", _BOOL, False),
            ("padding", _one(BaseType.USHORT), False),
            ("offset64", _BOOL, False),
        ],
    ),
    OBJECT: (
        "object",
        [
            ("name", _STRING, True),
            ("fields", _many(BaseType.OBJ, FIELD), True),
            ("is_struct", _BOOL, False),
            ("minalign", _INT, False),
            ("bytesize", _INT, False),
            ("attributes", _ATTRIBUTES, False),
            ("documentation", _STRINGS, False),
            ("declaration_file", _STRING, False),
        ],
    ),
    CALL: (
        "rpc_call",
        [
            ("name", _STRING, True),
            ("request", _one(BaseType.OBJ, OBJECT), True),
            ("response", _one(BaseType.OBJ, OBJECT), True),
            ("attributes", _ATTRIBUTES, False),
            ("documentation", _STRINGS, False),
        ],
    ),
    SERVICE: (
        "service",
        [
            ("name", _STRING, True),
            ("calls", _many(BaseType.OBJ, CALL), False),
            ("attributes", _ATTRIBUTES, False),
            ("documentation", _STRINGS, False),
            ("declaration_file", _STRING, False),
        ],
    ),
    FILE: ("schema_file", [("filename", _STRING, True), ("included_filenames", _STRINGS, False)]),
    SCHEMA: (
        "schema",
        [
            ("objects", _many(BaseType.OBJ, OBJECT), True),
            ("enums", _many(BaseType.OBJ, ENUM), True),
            ("file_ident", _STRING, False),
            ("file_ext", _STRING, False),
            ("root_table", _one(BaseType.OBJ, OBJECT), False),
            ("services", _many(BaseType.OBJ, SERVICE), False),
            ("advanced_features", _one(BaseType.ULONG), False),
            ("fbs_files", _many(BaseType.OBJ, FILE), False),
        ],
    ),
}


def _described() -> SchemaInfo:
    objects = []
    for _, (name, fields) in sorted(_REFLECTION.items()):
        infos = [
            FieldInfo(field_name, kind, number, FIRST_FIELD + 2 * number, required=required)
            for number, (field_name, kind, required) in enumerate(fields)
        ]
        objects.append(ObjectInfo(name, tuple(infos)))
    return SchemaInfo(tuple(objects), (), "BFBS", "bfbs", SCHEMA)


def types_of(schema: SchemaInfo) -> Types:
    """The types of a schema as the verifier wants them."""
    objects = []
    for info in schema.objects:
        by_name = {field.name: field for field in info.fields}
        fields = []
        for item in info.fields:
            type_offset = 0
            if item.type.inner is BaseType.UNION:
                type_offset = by_name[f"{item.name}_type"].offset
            fields.append(
                (
                    item.name,
                    item.offset,
                    int(item.type.base),
                    int(item.type.element),
                    item.type.index,
                    type_offset,
                    item.required,
                    item.deprecated or item.type.inner is BaseType.UTYPE,
                )
            )
        objects.append((info.name, info.is_struct, info.size if info.is_struct else 0, fields))
    unions = []
    for known in schema.enums:
        variants = [(value.value, int(value.type.base), value.type.index) for value in known.values]
        unions.append(variants if known.is_union else [])
    return Types(objects, unions)


_REFLECTION_TYPES = types_of(_described())
_FIELDS = {
    number: {name: (FIRST_FIELD + 2 * place, kind.base) for place, (name, kind, _) in enumerate(fields)}
    for number, (_, fields) in _REFLECTION.items()
}
_FORMATS = {
    BaseType.BOOL: "<?",
    BaseType.BYTE: "<b",
    BaseType.USHORT: "<H",
    BaseType.INT: "<i",
    BaseType.UINT: "<I",
    BaseType.LONG: "<q",
    BaseType.ULONG: "<Q",
    BaseType.DOUBLE: "<d",
}


class _Reader:
    """A table of a verified binary schema: its fields by their names."""

    def __init__(self, data: bytes, place: int, number: int) -> None:
        self.data = data
        self.place = place
        self.number = number

    def _find(self, name: str) -> tuple[int, BaseType]:
        offset, kind = _FIELDS[self.number][name]
        vtable = self.place - struct.unpack_from("<i", self.data, self.place)[0]
        if offset >= struct.unpack_from("<H", self.data, vtable)[0]:
            return 0, kind
        distance = struct.unpack_from("<H", self.data, vtable + offset)[0]
        return (self.place + distance if distance else 0), kind

    def _follow(self, place: int) -> int:
        target: int = place + struct.unpack_from("<I", self.data, place)[0]
        return target

    def _string_at(self, place: int) -> str:
        length = struct.unpack_from("<I", self.data, place)[0]
        return self.data[place + 4 : place + 4 + length].decode()

    def number_of(self, name: str, default: Any = 0) -> Any:
        """A number, or its default."""
        place, kind = self._find(name)
        return struct.unpack_from(_FORMATS[kind], self.data, place)[0] if place else default

    def string_of(self, name: str) -> str:
        """A string, empty if it is absent."""
        place, _ = self._find(name)
        return self._string_at(self._follow(place)) if place else ""

    def table_of(self, name: str, number: int) -> _Reader | None:
        """A table, of which `number` says what kind."""
        place, _ = self._find(name)
        return _Reader(self.data, self._follow(place), number) if place else None

    def _elements(self, name: str) -> list[int]:
        place, _ = self._find(name)
        if not place:
            return []
        vector = self._follow(place)
        length = struct.unpack_from("<I", self.data, vector)[0]
        return [self._follow(vector + 4 + 4 * i) for i in range(length)]

    def tables_of(self, name: str, number: int) -> list[_Reader]:
        """The tables of a vector."""
        return [_Reader(self.data, place, number) for place in self._elements(name)]

    def strings_of(self, name: str) -> tuple[str, ...]:
        """The strings of a vector."""
        return tuple(self._string_at(place) for place in self._elements(name))

    def attributes(self) -> dict[str, str]:
        """The attributes of a thing, as they stand in the schema."""
        return {pair.string_of("key"): pair.string_of("value") for pair in self.tables_of("attributes", KEY_VALUE)}


def parse(data: bytes) -> SchemaInfo:
    """What a binary schema says.

    Parameters
    ----------
    data : bytes
        All of it, as flatc wrote it (``flatc --binary --schema``).

    Raises
    ------
    FlatbufferError
        It is no binary schema, or damaged, or has something that is not supported.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise FlatbufferError(
            f"not a binary schema: expected the file identifier {IDENTIFIER!r} at byte 4, got {data[4:8]!r} in "
            f"{len(data)} bytes; flatc --binary --schema makes one"
        )
    reason = _REFLECTION_TYPES.verify(SCHEMA, data, max_apparent_size=MOST_REPEATED * len(data) + 65536)
    if reason is not None:
        raise FlatbufferError(f"this binary schema is damaged: {': '.join(reason)}")
    root = _Reader(data, struct.unpack_from("<I", data, 0)[0], SCHEMA)
    enums = tuple(_parse_enum(reader) for reader in root.tables_of("enums", ENUM))
    objects = tuple(_parse_object(reader) for reader in root.tables_of("objects", OBJECT))
    root_table = root.table_of("root_table", OBJECT)
    number = None
    if root_table is not None:
        name = root_table.string_of("name")
        number = next((place for place, info in enumerate(objects) if info.name == name), None)
        if number is None:
            raise _nonsense(f"its root table {name!r} is none of its objects")
        if objects[number].is_struct:
            raise _nonsense(f"its root {name!r} is a struct")
    schema = SchemaInfo(objects, enums, root.string_of("file_ident"), root.string_of("file_ext"), number)
    _check(schema)
    return schema


def _nonsense(what: str) -> FlatbufferError:
    return FlatbufferError(f"this binary schema makes no sense: {what}")


def _parse_type(reader: _Reader | None) -> TypeInfo:
    if reader is None:
        return TypeInfo(BaseType.NONE)
    base, element = reader.number_of("base_type"), reader.number_of("element")
    for number in (base, element):
        if number not in BaseType._value2member_map_:
            raise _nonsense(f"there is no base type {number}")
    return TypeInfo(BaseType(base), BaseType(element), reader.number_of("index", -1), reader.number_of("fixed_length"))


def _parse_field(reader: _Reader) -> FieldInfo:
    name = reader.string_of("name")
    if reader.number_of("offset64", False):
        raise FlatbufferError(f"field {name!r} of this binary schema has offsets of 64 bits, which are not supported")
    return FieldInfo(
        name=name,
        type=_parse_type(reader.table_of("type", TYPE)),
        id=reader.number_of("id"),
        offset=reader.number_of("offset"),
        default_integer=reader.number_of("default_integer"),
        default_real=reader.number_of("default_real", 0.0),
        deprecated=reader.number_of("deprecated", False),
        required=reader.number_of("required", False),
        key=reader.number_of("key", False),
        optional=reader.number_of("optional", False),
        attributes=reader.attributes(),
        documentation=reader.strings_of("documentation"),
    )


def _parse_object(reader: _Reader) -> ObjectInfo:
    fields = sorted((_parse_field(item) for item in reader.tables_of("fields", FIELD)), key=lambda item: item.id)
    return ObjectInfo(
        name=reader.string_of("name"),
        fields=tuple(fields),
        is_struct=reader.number_of("is_struct", False),
        alignment=reader.number_of("minalign"),
        size=reader.number_of("bytesize"),
        attributes=reader.attributes(),
        documentation=reader.strings_of("documentation"),
    )


def _parse_enum(reader: _Reader) -> EnumInfo:
    values = tuple(
        EnumValue(
            name=item.string_of("name"),
            value=item.number_of("value"),
            type=_parse_type(item.table_of("union_type", TYPE)),
            documentation=item.strings_of("documentation"),
        )
        for item in reader.tables_of("values", ENUM_VALUE)
    )
    return EnumInfo(
        name=reader.string_of("name"),
        values=values,
        is_union=reader.number_of("is_union", False),
        underlying=_parse_type(reader.table_of("underlying_type", TYPE)),
        attributes=reader.attributes(),
        documentation=reader.strings_of("documentation"),
    )


def _check(schema: SchemaInfo) -> None:
    """Refuses what no flatc writes and what nothing could be read with."""
    for kind, names in (("objects", schema.objects), ("enums", schema.enums)):
        seen: set[str] = set()
        for info in names:
            if info.name in seen:
                raise _nonsense(f"two of its {kind} have the name {info.name!r}")
            seen.add(info.name)
    for known in schema.enums:
        for value in known.values:
            if known.is_union and value.type.base not in (BaseType.NONE, BaseType.OBJ, BaseType.STRING):
                raise _nonsense(f"{known.name}.{value.name} cannot be in a union")
            _check_index(schema, value.type, f"{known.name}.{value.name}")
        if known.underlying.base not in INTEGERS:
            raise _nonsense(f"enum {known.name} is made of no integers")
    for info in schema.objects:
        _check_fields(schema, info)
    depths: dict[int, int] = {}
    for number, info in enumerate(schema.objects):
        if info.is_struct:
            _check_struct(schema, number, (), depths)


def _check_fields(schema: SchemaInfo, info: ObjectInfo) -> None:
    names: dict[str, FieldInfo] = {}
    offsets: set[int] = set()
    for item in info.fields:
        where = f"{info.name}.{item.name}"
        if item.name in names or item.offset in offsets:
            raise _nonsense(f"two fields of {info.name} have the name {item.name!r} or the place {item.offset}")
        names[item.name] = item
        offsets.add(item.offset)
        if item.type.base is BaseType.VECTOR64 or item.type.element is BaseType.VECTOR64:
            raise FlatbufferError(f"{where} of this binary schema is a vector with 64 bits, which is not supported")
        many = item.type.base in (BaseType.VECTOR, BaseType.ARRAY)
        if item.type.base is BaseType.NONE or (
            item.type.element in (BaseType.NONE, BaseType.VECTOR, BaseType.ARRAY)
            if many
            else item.type.element is not BaseType.NONE
        ):
            raise _nonsense(f"{where} has the type {item.type.base.name} of {item.type.element.name}")
        _check_index(schema, item.type, where)
        if not info.is_struct:
            if item.type.base is BaseType.ARRAY:
                raise _nonsense(f"{where} is an array outside of a struct")
            if item.offset != FIRST_FIELD + 2 * item.id:
                raise _nonsense(f"{where} has the number {item.id} and the place {item.offset} in its vtable")
    for item in info.fields:
        if item.type.inner is BaseType.UNION:
            companion = names.get(f"{item.name}_type")
            if (
                companion is None
                or companion.type.inner is not BaseType.UTYPE
                or (companion.type.base is BaseType.VECTOR) is not (item.type.base is BaseType.VECTOR)
            ):
                raise _nonsense(f"union {info.name}.{item.name} has no field for its type")


def _check_index(schema: SchemaInfo, kind: TypeInfo, where: str) -> None:
    if kind.inner is BaseType.OBJ:
        if not 0 <= kind.index < len(schema.objects):
            raise _nonsense(f"{where} is object {kind.index} of {len(schema.objects)}")
    elif kind.inner in (BaseType.UNION, BaseType.UTYPE):
        if not 0 <= kind.index < len(schema.enums) or not schema.enums[kind.index].is_union:
            raise _nonsense(f"{where} is union {kind.index} of {len(schema.enums)} enums")
    elif (
        kind.inner in INTEGERS
        and kind.index != -1
        and not (0 <= kind.index < len(schema.enums) and not schema.enums[kind.index].is_union)
    ):
        raise _nonsense(f"{where} is enum {kind.index} of {len(schema.enums)}")


def _check_struct(schema: SchemaInfo, number: int, around: tuple[int, ...], depths: dict[int, int]) -> int:
    """Makes sure that a struct is what its fields make it; returns how deep structs are nested in it."""
    info = schema.objects[number]
    if number in around:
        raise _nonsense(f"struct {info.name} is inside itself")
    # Each once, since a few structs of a few structs each can stand for more than anybody can count.
    if number in depths:
        return depths[number]
    if info.alignment not in (1, 2, 4, 8, 16, 32) or not 0 < info.size < 2**31 or info.size % info.alignment:
        raise _nonsense(f"struct {info.name} has {info.size} bytes, aligned to {info.alignment}")
    end = deepest = 0
    for item in sorted(info.fields, key=lambda item: item.offset):
        where = f"{info.name}.{item.name}"
        inner = item.type.inner
        if item.type.base is BaseType.VECTOR or (inner is not BaseType.OBJ and inner not in SIZES):
            raise _nonsense(f"{where} cannot be in a struct")
        if inner is BaseType.OBJ:
            known = schema.objects[item.type.index]
            if not known.is_struct:
                raise _nonsense(f"{where} is a table in a struct")
            if len(around) == MOST_NESTED - 1:
                raise _nonsense(f"structs are nested deeper than {MOST_NESTED}")
            deepest = max(deepest, _check_struct(schema, item.type.index, (*around, number), depths))
            size = known.size
        else:
            size = SIZES[inner]
        if item.type.base is BaseType.ARRAY:
            size *= item.type.fixed_length
        if item.offset < end or item.offset + size > info.size:
            raise _nonsense(f"{where} takes bytes {item.offset} to {item.offset + size} of a struct of {info.size}")
        end = item.offset + size
    if deepest == MOST_NESTED:
        raise _nonsense(f"structs are nested deeper than {MOST_NESTED}")
    depths[number] = deepest + 1
    return deepest + 1


def layout_of(schema: SchemaInfo, types: Types) -> Layout:
    """The layout of a schema whose `types_of` is `types`, for what reads and writes messages."""
    enums = [
        EnumLayout(
            known.name,
            known.is_union,
            "bit_flags" in known.attributes,
            int(known.underlying.base),
            [(value.name, _enumerator(known, value.value)) for value in known.values],
        )
        for known in schema.enums
    ]
    objects = []
    for info in schema.objects:
        number_of = {item.name: number for number, item in enumerate(info.fields)}
        fields = []
        for item in info.fields:
            size, alignment = _inline(schema, item.type.base, item.type.index)
            element_size, element_alignment = 0, 1
            if item.type.base in (BaseType.VECTOR, BaseType.ARRAY):
                element_size, element_alignment = _inline(schema, item.type.element, item.type.index)
                if item.type.base is BaseType.ARRAY:
                    size, alignment = element_size * item.type.fixed_length, element_alignment
                else:
                    element_alignment = max(element_alignment, _forced(item))
            fields.append(
                (
                    item.name,
                    _default_bits(item),
                    size,
                    alignment,
                    element_size,
                    element_alignment,
                    item.type.fixed_length if item.type.base is BaseType.ARRAY else 0,
                    _companion(item, number_of),
                    item.optional and item.type.base in SIZES,
                    item.deprecated,
                )
            )
        objects.append((info.name, info.alignment if info.is_struct else 4, fields))
    identifier = schema.file_identifier.encode()
    return Layout(types, objects, enums, identifier if len(identifier) == 4 else b"")


def _enumerator(known: EnumInfo, value: int) -> int:
    """A value of an enum; the schema keeps one of 64 unsigned bits as a signed number."""
    return value & 0xFFFFFFFFFFFFFFFF if known.underlying.base is BaseType.ULONG else value


def _inline(schema: SchemaInfo, base: BaseType, index: int) -> tuple[int, int]:
    """How many bytes something takes where it is, and to what they are aligned."""
    if base is BaseType.OBJ and schema.objects[index].is_struct:
        return schema.objects[index].size, schema.objects[index].alignment
    size = SIZES.get(base, 4)
    return size, size


def _forced(item: FieldInfo) -> int:
    """What the elements of a vector are aligned to at least, by its attribute."""
    text = item.attributes.get("force_align", "1")
    if text not in ("1", "2", "4", "8", "16", "32", "64", "128", "256"):
        raise _nonsense(f"{item.name} is aligned to {text!r:.100} bytes")
    return int(text)


def _default_bits(item: FieldInfo) -> int:
    """The bytes of a scalar's default as a number."""
    base = item.type.base
    if base not in SIZES or item.optional:
        return 0
    if base is BaseType.DOUBLE:
        return int(struct.unpack("<Q", struct.pack("<d", item.default_real))[0])
    if base is BaseType.FLOAT:
        try:
            return int(struct.unpack("<I", struct.pack("<f", item.default_real))[0])
        except OverflowError:
            raise _nonsense(f"the default of {item.name}, {item.default_real}, is no float of 32 bits") from None
    return item.default_integer & ((1 << 8 * SIZES[base]) - 1)


def _companion(item: FieldInfo, number_of: dict[str, int]) -> int:
    """The number of the field with a union's type, or of the union that a type is for; else -1."""
    if item.type.inner is BaseType.UNION:
        return number_of[f"{item.name}_type"]
    if item.type.inner is BaseType.UTYPE and item.name.endswith("_type"):
        return number_of.get(item.name.removesuffix("_type"), -1)
    return -1

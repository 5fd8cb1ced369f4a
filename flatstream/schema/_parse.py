"""Reading a binary schema (.bfbs), the FlatBuffer that flatc makes of a schema's text.

The schema of that FlatBuffer, reflection.fbs, is written down here as far as it is needed, so that the verifier checks
a binary schema before anything in it is read. A FlatBuffer that verifies can still contradict itself (a field of type
number 99, a struct that contains itself); `parse` checks for that.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from flatstream.errors import FlatbufferError
from flatstream.schema._compile import types_of
from flatstream.schema._reflection import (
    INTEGERS,
    SIZES,
    BaseType,
    EnumInfo,
    EnumValue,
    FieldInfo,
    ObjectInfo,
    SchemaInfo,
    TypeInfo,
    invalid_schema,
    vtable_offset,
)

IDENTIFIER = b"BFBS"
# How often the same bytes may be referred to, on average. flatc shares vtables and little else. Without a limit, a
# small file that refers to one string a million times would take the memory of a million strings.
MAX_APPARENT_COPIES = 16
# The check of structs inside structs recurses once per level.
MAX_STRUCT_DEPTH = 100

# A binary schema stores numbers of 64 bits with a sign, whatever their type.
_SIGNED = (BaseType.BYTE, BaseType.SHORT, BaseType.INT, BaseType.LONG, BaseType.ULONG)

# Numbers of the tables of reflection.fbs, which `TypeInfo.index` refers to.
TYPE, KEY_VALUE, ENUM_VALUE, ENUM, FIELD, OBJECT, CALL, SERVICE, FILE, SCHEMA = range(10)


def _single(base: BaseType, index: int = -1) -> TypeInfo:
    return TypeInfo(base, index=index)


def _vector_of(element: BaseType, index: int = -1) -> TypeInfo:
    return TypeInfo(BaseType.VECTOR, element, index)


_STRING, _STRINGS = _single(BaseType.STRING), _vector_of(BaseType.STRING)
_BOOL, _INT, _LONG = _single(BaseType.BOOL), _single(BaseType.INT), _single(BaseType.LONG)
_ATTRIBUTES = _vector_of(BaseType.OBJ, KEY_VALUE)

_REFLECTION: dict[int, tuple[str, list[tuple[str, TypeInfo, bool]]]] = {
    TYPE: (
        "type",
        [
            ("base_type", _single(BaseType.BYTE), False),
            ("element", _single(BaseType.BYTE), False),
            ("index", _INT, False),
            ("fixed_length", _single(BaseType.USHORT), False),
            ("base_size", _single(BaseType.UINT), False),
            ("element_size", _single(BaseType.UINT), False),
        ],
    ),
    KEY_VALUE: ("key_value", [("key", _STRING, True), ("value", _STRING, False)]),
    ENUM_VALUE: (
        "enum_value",
        [
            ("name", _STRING, True),
            ("value", _LONG, False),
            ("object", _single(BaseType.OBJ, OBJECT), False),
            ("union_type", _single(BaseType.OBJ, TYPE), False),
            ("documentation", _STRINGS, False),
            ("attributes", _ATTRIBUTES, False),
        ],
    ),
    ENUM: (
        "enum",
        [
            ("name", _STRING, True),
            ("values", _vector_of(BaseType.OBJ, ENUM_VALUE), True),
            ("is_union", _BOOL, False),
            ("underlying_type", _single(BaseType.OBJ, TYPE), True),
            ("attributes", _ATTRIBUTES, False),
            ("documentation", _STRINGS, False),
            ("declaration_file", _STRING, False),
        ],
    ),
    FIELD: (
        "field",
        [
            ("name", _STRING, True),
            ("type", _single(BaseType.OBJ, TYPE), True),
            ("id", _single(BaseType.USHORT), False),
            ("offset", _single(BaseType.USHORT), False),
            ("default_integer", _LONG, False),
            ("default_real", _single(BaseType.DOUBLE), False),
            ("deprecated", _BOOL, False),
            ("required", _BOOL, False),
            ("key", _BOOL, False),
            ("attributes", _ATTRIBUTES, False),
            ("documentation", _STRINGS, False),
            ("optional", _BOOL, False),
            ("padding", _single(BaseType.USHORT), False),
            ("offset64", _BOOL, False),
        ],
    ),
    OBJECT: (
        "object",
        [
            ("name", _STRING, True),
            ("fields", _vector_of(BaseType.OBJ, FIELD), True),
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
            ("request", _single(BaseType.OBJ, OBJECT), True),
            ("response", _single(BaseType.OBJ, OBJECT), True),
            ("attributes", _ATTRIBUTES, False),
            ("documentation", _STRINGS, False),
        ],
    ),
    SERVICE: (
        "service",
        [
            ("name", _STRING, True),
            ("calls", _vector_of(BaseType.OBJ, CALL), False),
            ("attributes", _ATTRIBUTES, False),
            ("documentation", _STRINGS, False),
            ("declaration_file", _STRING, False),
        ],
    ),
    FILE: ("schema_file", [("filename", _STRING, True), ("included_filenames", _STRINGS, False)]),
    SCHEMA: (
        "schema",
        [
            ("objects", _vector_of(BaseType.OBJ, OBJECT), True),
            ("enums", _vector_of(BaseType.OBJ, ENUM), True),
            ("file_ident", _STRING, False),
            ("file_ext", _STRING, False),
            ("root_table", _single(BaseType.OBJ, OBJECT), False),
            ("services", _vector_of(BaseType.OBJ, SERVICE), False),
            ("advanced_features", _single(BaseType.ULONG), False),
            ("fbs_files", _vector_of(BaseType.OBJ, FILE), False),
        ],
    ),
}


def _reflection_schema() -> SchemaInfo:
    objects = []
    for _, (name, fields) in sorted(_REFLECTION.items()):
        infos = [
            FieldInfo(field_name, type_info, number, vtable_offset(number), required=required)
            for number, (field_name, type_info, required) in enumerate(fields)
        ]
        objects.append(ObjectInfo(name, tuple(infos)))
    return SchemaInfo(tuple(objects), (), "BFBS", "bfbs", SCHEMA)


_REFLECTION_TYPES = types_of(_reflection_schema())
# For each table of reflection.fbs the vtable offset and the type of each field, by name.
_FIELDS = {
    table: {name: (vtable_offset(number), type_info.base) for number, (name, type_info, _) in enumerate(fields)}
    for table, (_, fields) in _REFLECTION.items()
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


class _TableReader:
    """A table of a verified binary schema, with its fields by name.

    `table` is the table's number in reflection.fbs, and `offset` is where it begins in `data`.
    """

    def __init__(self, data: bytes, offset: int, table: int) -> None:
        self.data = data
        self.offset = offset
        self.table = table

    def _find(self, name: str) -> tuple[int, BaseType]:
        """The offset of a field, 0 if it is absent, and its type."""
        entry, base = _FIELDS[self.table][name]
        vtable = self.offset - struct.unpack_from("<i", self.data, self.offset)[0]
        if entry >= struct.unpack_from("<H", self.data, vtable)[0]:
            return 0, base
        distance = struct.unpack_from("<H", self.data, vtable + entry)[0]
        return (self.offset + distance if distance else 0), base

    def _follow(self, offset: int) -> int:
        target: int = offset + struct.unpack_from("<I", self.data, offset)[0]
        return target

    def _string_at(self, offset: int) -> str:
        length = struct.unpack_from("<I", self.data, offset)[0]
        return self.data[offset + 4 : offset + 4 + length].decode()

    def number_of(self, name: str, default: Any = 0) -> Any:
        """A number, or `default` if it is absent."""
        offset, base = self._find(name)
        return struct.unpack_from(_FORMATS[base], self.data, offset)[0] if offset else default

    def string_of(self, name: str) -> str:
        """A string, "" if it is absent."""
        offset, _ = self._find(name)
        return self._string_at(self._follow(offset)) if offset else ""

    def table_of(self, name: str, table: int) -> _TableReader | None:
        """A table of the kind `table`, None if it is absent."""
        offset, _ = self._find(name)
        return _TableReader(self.data, self._follow(offset), table) if offset else None

    def _elements(self, name: str) -> list[int]:
        """The offsets of a vector's elements; none if it is absent."""
        offset, _ = self._find(name)
        if not offset:
            return []
        vector = self._follow(offset)
        length = struct.unpack_from("<I", self.data, vector)[0]
        return [self._follow(vector + 4 + 4 * i) for i in range(length)]

    def tables_of(self, name: str, table: int) -> list[_TableReader]:
        """The tables of a vector."""
        return [_TableReader(self.data, offset, table) for offset in self._elements(name)]

    def strings_of(self, name: str) -> tuple[str, ...]:
        """The strings of a vector."""
        return tuple(self._string_at(offset) for offset in self._elements(name))

    def attributes(self) -> dict[str, str]:
        """The attributes of a field, an object, an enum or a value of an enum."""
        return {pair.string_of("key"): pair.string_of("value") for pair in self.tables_of("attributes", KEY_VALUE)}


def is_binary_schema(data: bytes) -> bool:
    """Whether these bytes begin like a binary schema of flatc, or one of flatcc with its size in front."""
    return IDENTIFIER in (data[4:8], data[8:12])


def parse(data: bytes) -> SchemaInfo:
    """Reads and checks a binary schema.

    Parameters
    ----------
    data : bytes
        The whole file, as ``flatc --binary --schema`` writes it, or flatcc with its option ``--schema``.

    Raises
    ------
    FlatbufferError
        `data` is no binary schema, is damaged, contradicts itself or uses 64-bit offsets, which are not supported.
    """
    if len(data) >= 12 and data[8:12] == IDENTIFIER and struct.unpack_from("<I", data)[0] == len(data) - 4:
        # flatcc can put the size in front, and aligns from there on. With the offset of the root in place of the size,
        # everything stays where it is.
        data = struct.pack("<I", (struct.unpack_from("<I", data, 4)[0] + 4) & 0xFFFFFFFF) + IDENTIFIER + data[8:]
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise FlatbufferError(
            f"not a binary schema: expected the file identifier {IDENTIFIER!r} at byte 4, got {data[4:8]!r} in "
            f"{len(data)} bytes; flatc --binary --schema makes one"
        )
    failure = _REFLECTION_TYPES.verify(SCHEMA, data, max_apparent_size=MAX_APPARENT_COPIES * len(data) + 65536)
    if failure is not None:
        raise FlatbufferError(f"damaged binary schema: {': '.join(failure)}")
    reader = _TableReader(data, struct.unpack_from("<I", data, 0)[0], SCHEMA)
    enums = tuple(_parse_enum(each) for each in reader.tables_of("enums", ENUM))
    objects = tuple(_parse_object(each) for each in reader.tables_of("objects", OBJECT))
    root_table = reader.table_of("root_table", OBJECT)
    root = None
    if root_table is not None:
        name = root_table.string_of("name")
        root = next((number for number, info in enumerate(objects) if info.name == name), None)
        if root is None:
            raise invalid_schema(f"the root table {name!r} is not among its objects")
        if objects[root].is_struct:
            raise invalid_schema(f"the root {name!r} is a struct, expected a table")
    schema = SchemaInfo(objects, enums, reader.string_of("file_ident"), reader.string_of("file_ext"), root)
    _check(schema)
    return schema


def _parse_type(reader: _TableReader | None) -> TypeInfo:
    if reader is None:
        return TypeInfo(BaseType.NONE)
    base, element = reader.number_of("base_type"), reader.number_of("element")
    for number in (base, element):
        if number not in BaseType._value2member_map_:
            raise invalid_schema(f"unknown base type {number}")
    return TypeInfo(BaseType(base), BaseType(element), reader.number_of("index", -1), reader.number_of("fixed_length"))


def _parse_field(reader: _TableReader) -> FieldInfo:
    name = reader.string_of("name")
    if reader.number_of("offset64", False):
        raise FlatbufferError(f"unsupported binary schema: field {name!r} has 64-bit offsets")
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


def _parse_object(reader: _TableReader) -> ObjectInfo:
    is_struct = reader.number_of("is_struct", False)
    fields = [_parse_field(each) for each in reader.tables_of("fields", FIELD)]
    if is_struct:
        # flatcc does not number the fields of structs. Their order is that of their offsets. None of them is optional,
        # which flatc says of arrays up to some version.
        fields.sort(key=lambda field: field.offset)
        fields = [replace(field, id=number, optional=False) for number, field in enumerate(fields)]
    else:
        fields = _with_unions(sorted(fields, key=lambda field: field.id))
    return ObjectInfo(
        name=reader.string_of("name"),
        fields=tuple(fields),
        is_struct=is_struct,
        alignment=reader.number_of("minalign"),
        size=reader.number_of("bytesize"),
        attributes=reader.attributes(),
        documentation=reader.strings_of("documentation"),
    )


def _with_unions(fields: list[FieldInfo]) -> list[FieldInfo]:
    """The fields of a table, where the type of a union refers to the union: flatcc leaves that out."""
    unions = {f"{field.name}_type": field.type.index for field in fields if field.type.inner is BaseType.UNION}
    return [
        replace(field, type=replace(field.type, index=unions[field.name]))
        if field.type.inner is BaseType.UTYPE and field.type.index == -1 and field.name in unions
        else field
        for field in fields
    ]


def _parse_enum(reader: _TableReader) -> EnumInfo:
    values = tuple(
        EnumValue(
            name=each.string_of("name"),
            value=each.number_of("value"),
            type=_parse_type(each.table_of("union_type", TYPE)),
            attributes=each.attributes(),
            documentation=each.strings_of("documentation"),
        )
        for each in reader.tables_of("values", ENUM_VALUE)
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
    """Raises FlatbufferError for a schema that flatc never writes and that messages cannot be read with."""
    for kind, infos in (("objects", schema.objects), ("enums", schema.enums)):
        names: set[str] = set()
        for info in infos:
            if info.name in names:
                raise invalid_schema(f"two {kind} are named {info.name!r}")
            names.add(info.name)
    for enum in schema.enums:
        for value in enum.values:
            where = f"{enum.name}.{value.name}"
            if enum.is_union and value.type.base not in (BaseType.NONE, BaseType.OBJ, BaseType.STRING):
                raise invalid_schema(f"{where} of type {value.type.base.name} cannot be in a union")
            _check_index(schema, value.type, where)
        if enum.underlying.base not in INTEGERS:
            raise invalid_schema(f"enum {enum.name} has the type {enum.underlying.base.name}, expected an integer type")
        if enum.is_union:
            _check_variants(enum)
    for info in schema.objects:
        _check_fields(schema, info)
    depths: dict[int, int] = {}
    for number, info in enumerate(schema.objects):
        if info.is_struct:
            _check_struct(schema, number, (), depths)


def _check_variants(enum: EnumInfo) -> None:
    """Checks that the types of a union can be told apart in a message, where they have the union's underlying type."""
    bits = 8 * SIZES[enum.underlying.base]
    least = -(1 << bits - 1) if enum.underlying.base in _SIGNED else 0
    types: set[int] = set()
    for variant in enum.values:
        if not least <= variant.value < least + (1 << bits):
            raise invalid_schema(
                f"{enum.name}.{variant.name} has the number {variant.value}, which is no {enum.underlying.base.name}"
            )
        if variant.value in types:
            raise invalid_schema(f"two variants of {enum.name} have the number {variant.value}")
        types.add(variant.value)


def _check_fields(schema: SchemaInfo, info: ObjectInfo) -> None:
    by_name: dict[str, FieldInfo] = {}
    offsets: set[int] = set()
    for field in info.fields:
        where = f"{info.name}.{field.name}"
        if field.name in by_name or field.offset in offsets:
            raise invalid_schema(f"two fields of {info.name} have the name {field.name!r} or the offset {field.offset}")
        by_name[field.name] = field
        offsets.add(field.offset)
        if field.type.base is BaseType.VECTOR64 or field.type.element is BaseType.VECTOR64:
            raise FlatbufferError(f"unsupported binary schema: {where} is a vector with 64-bit offsets")
        has_elements = field.type.base in (BaseType.VECTOR, BaseType.ARRAY)
        if field.type.base is BaseType.NONE or (
            field.type.element in (BaseType.NONE, BaseType.VECTOR, BaseType.ARRAY)
            if has_elements
            else field.type.element is not BaseType.NONE
        ):
            raise invalid_schema(f"{where} has the type {field.type.base.name} of {field.type.element.name}")
        _check_index(schema, field.type, where)
        if field.required and (info.is_struct or field.type.base in SIZES):
            raise invalid_schema(f"{where} is required, which no number and no field of a struct can be")
        if not info.is_struct:
            if field.type.base is BaseType.ARRAY:
                raise invalid_schema(f"{where} is an array, which only a struct can hold")
            expected = vtable_offset(field.id)
            if field.offset != expected:
                raise invalid_schema(
                    f"{where} has the number {field.id} and the vtable offset {field.offset}, expected {expected}"
                )
    for field in info.fields:
        if field.type.inner is BaseType.UNION:
            paired_field = by_name.get(f"{field.name}_type")
            if (
                paired_field is None
                or paired_field.type.inner is not BaseType.UTYPE
                or (paired_field.type.base is BaseType.VECTOR) is not (field.type.base is BaseType.VECTOR)
                or paired_field.type.index != field.type.index
            ):
                raise invalid_schema(f"union {info.name}.{field.name} has no matching type field '{field.name}_type'")


def _check_index(schema: SchemaInfo, type_info: TypeInfo, where: str) -> None:
    index = type_info.index
    if type_info.inner is BaseType.OBJ:
        if not 0 <= index < len(schema.objects):
            raise invalid_schema(f"{where} refers to object {index} of {len(schema.objects)}")
    elif type_info.inner in (BaseType.UNION, BaseType.UTYPE):
        if not 0 <= index < len(schema.enums):
            raise invalid_schema(f"{where} refers to union {index} of {len(schema.enums)} enums and unions")
        if not schema.enums[index].is_union:
            raise invalid_schema(f"{where} refers to union {index}, which is an enum")
    elif type_info.inner in INTEGERS and index != -1:
        if not 0 <= index < len(schema.enums):
            raise invalid_schema(f"{where} refers to enum {index} of {len(schema.enums)} enums and unions")
        if schema.enums[index].is_union:
            raise invalid_schema(f"{where} refers to enum {index}, which is a union")


def _check_struct(schema: SchemaInfo, number: int, ancestors: tuple[int, ...], depths: dict[int, int]) -> int:
    """Checks size, alignment and fields of a struct; returns how many levels of structs it has, itself included.

    `ancestors` are the structs on the way to this one, and `depths` the results for the structs checked so far.
    """
    info = schema.objects[number]
    if number in ancestors:
        raise invalid_schema(f"struct {info.name} contains itself")
    # Each struct is checked once: where structs hold each other twice, the number of paths doubles with every level.
    if number in depths:
        return depths[number]
    if info.alignment not in (1, 2, 4, 8, 16, 32) or not 0 < info.size < 2**31 or info.size % info.alignment:
        raise invalid_schema(f"struct {info.name} has {info.size} bytes, aligned to {info.alignment}")
    end = depth_below = 0
    for field in sorted(info.fields, key=lambda field: field.offset):
        where = f"{info.name}.{field.name}"
        inner = field.type.inner
        if field.type.base is BaseType.VECTOR or (inner is not BaseType.OBJ and inner not in SIZES):
            raise invalid_schema(f"{where} cannot be in a struct: expected a scalar, a struct or an array of these")
        if inner is BaseType.OBJ:
            nested = schema.objects[field.type.index]
            if not nested.is_struct:
                raise invalid_schema(f"{where} is a table, which cannot be in a struct")
            if len(ancestors) == MAX_STRUCT_DEPTH - 1:
                raise invalid_schema(f"structs are nested deeper than {MAX_STRUCT_DEPTH}")
            depth_below = max(depth_below, _check_struct(schema, field.type.index, (*ancestors, number), depths))
            size = nested.size
        else:
            size = SIZES[inner]
        if field.type.base is BaseType.ARRAY:
            size *= field.type.fixed_length
        if field.offset < end or field.offset + size > info.size:
            raise invalid_schema(
                f"{where}, bytes {field.offset} to {field.offset + size}, overlaps another field or ends outside of "
                f"its struct of {info.size} bytes"
            )
        end = field.offset + size
    if depth_below == MAX_STRUCT_DEPTH:
        raise invalid_schema(f"structs are nested deeper than {MAX_STRUCT_DEPTH}")
    depths[number] = depth_below + 1
    return depth_below + 1

"""Records read from messages, slowly: by the code that flatc generated, or by the schema where there is none."""

from __future__ import annotations

import importlib
import keyword
import struct
from typing import Any

import flatbuffers

from flatstream.schema import Table
from flatstream.schema._reflection import SIZES, BaseType, FieldInfo, ObjectInfo, SchemaInfo, TypeInfo

FORMATS = dict(zip(list(BaseType)[1:13], "BbbBhHiIqQfd", strict=True))
FORMATS[BaseType.BOOL] = "?"


def read_message(table: Table, message: bytes) -> Any:
    schema = table.schema._info
    place = struct.unpack_from("<I", message, 0)[0]
    return Reading(schema).table(table.number, message, place)


def plain(value: Any) -> Any:
    """NaN is equal to nothing, and -0.0 to 0.0; their texts are as they are."""
    return repr(value) if isinstance(value, float) else value


class Reading:
    """Reads a message by the schema: with generated code, if there is some, as the oracle."""

    def __init__(self, schema: SchemaInfo) -> None:
        self.schema = schema
        self.generated = schema.objects[0].name.split(".")[0].startswith("shapes")

    def table(self, number: int, data: bytes, place: int) -> dict[str, Any]:
        info = self.schema.objects[number]
        if self.generated:
            return self.by_generated_code(info, data, place)
        return self.by_package(info, data, place)

    def class_of(self, info: ObjectInfo) -> Any:
        return getattr(importlib.import_module(info.name), info.name.split(".")[-1])

    def by_generated_code(self, info: ObjectInfo, data: bytes, place: int) -> dict[str, Any]:
        made = self.class_of(info)()
        made.Init(data, place)
        found = {}
        for item in info.fields:
            if item.deprecated or item.type.inner is BaseType.UTYPE:
                continue
            found[item.name] = self.field_by_generated_code(made, item, data)
        return found

    def field_by_generated_code(self, made: Any, item: FieldInfo, data: bytes) -> Any:
        # flatc 2.0.8 evades the words of Python.
        name = camel(item.name) + ("_" if keyword.iskeyword(item.name) else "")
        base, inner = item.type.base, item.type.inner
        if base is BaseType.UNION:
            kind = getattr(made, name + "Type")()
            return self.variant(item.type.index, kind, getattr(made, name)(), data)
        if base in (BaseType.VECTOR, BaseType.ARRAY):
            if base is BaseType.VECTOR and getattr(made, name + "IsNone")():
                return None
            if base is BaseType.ARRAY and inner is not BaseType.OBJ:
                return [plain(value) for value in getattr(made, name)()]
            count = item.type.fixed_length if base is BaseType.ARRAY else getattr(made, name + "Length")()
            if inner is BaseType.OBJ:
                info = self.schema.objects[item.type.index]
                if base is BaseType.ARRAY:
                    parts = [getattr(made, name)(self.class_of(info)(), i) for i in range(count)]
                else:
                    parts = [getattr(made, name)(i) for i in range(count)]
                return [self.table(item.type.index, data, part._tab.Pos) for part in parts]
            values = [getattr(made, name)(i) for i in range(count)]
            return [value.decode() if inner is BaseType.STRING else plain(value) for value in values]
        if base is BaseType.OBJ:
            if made.__class__.__name__ in [
                known.name.split(".")[-1] for known in self.schema.objects if known.is_struct
            ]:
                part = getattr(made, name)(self.class_of(self.schema.objects[item.type.index])())
            else:
                part = getattr(made, name)()
            return None if part is None else self.table(item.type.index, data, part._tab.Pos)
        value = getattr(made, name)()
        if base is BaseType.STRING:
            return None if value is None else value.decode()
        return bool(value) if base is BaseType.BOOL and value is not None else plain(value)

    def variant(self, index: int, kind: int, table: Any, data: bytes) -> Any:
        if not kind:
            assert table is None
            return None
        return self.variant_at(index, kind, data, table.Pos)

    def variant_at(self, index: int, kind: int, data: bytes, place: int) -> Any:
        (known,) = (value for value in self.schema.enums[index].values if value.value == kind)
        if known.type.base is BaseType.STRING:
            size = struct.unpack_from("<I", data, place)[0]
            return {known.name: data[place + 4 : place + 4 + size].decode()}
        return {known.name: self.table(known.type.index, data, place)}

    # The package's own Table knows nothing of a schema, so that it serves for any.

    def by_package(self, info: ObjectInfo, data: bytes, place: int) -> dict[str, Any]:
        made = flatbuffers.table.Table(bytearray(data), place)
        found = {}
        for item in info.fields:
            if item.type.inner is BaseType.UTYPE or item.deprecated:
                continue
            if info.is_struct:
                at = place + item.offset
            else:
                offset = made.Offset(item.offset)
                at = place + offset if offset else 0
            found[item.name] = self.value_at(info, made, item, data, at)
        return found

    def value_at(self, info: ObjectInfo, made: Any, item: FieldInfo, data: bytes, at: int) -> Any:
        base, inner = item.type.base, item.type.inner
        if base in SIZES:
            if at:
                return plain(struct.unpack_from("<" + FORMATS[base], data, at)[0])
            return None if item.optional else default_of(item)
        if not at:
            return None
        if base is BaseType.OBJ and self.schema.objects[item.type.index].is_struct:
            return self.table(item.type.index, data, at)
        if base is BaseType.ARRAY:
            size = SIZES[inner]
            values = [
                struct.unpack_from("<" + FORMATS[inner], data, at + i * size)[0] for i in range(item.type.fixed_length)
            ]
            return [plain(value) for value in values]
        target = at + struct.unpack_from("<I", data, at)[0]
        if base is BaseType.UNION:
            (type_item,) = (other for other in info.fields if other.name == item.name + "_type")
            kind = data[made.Pos + made.Offset(type_item.offset)]
            return self.variant_at(item.type.index, kind, data, target)
        count = struct.unpack_from("<I", data, target)[0]
        if base is BaseType.STRING:
            return data[target + 4 : target + 4 + count].decode()
        if base is BaseType.OBJ:
            return self.table(item.type.index, data, target)
        if inner is BaseType.UNION:
            (type_item,) = (other for other in info.fields if other.name == item.name + "_type")
            place = made.Pos + made.Offset(type_item.offset)
            kinds = place + struct.unpack_from("<I", data, place)[0]
            assert struct.unpack_from("<I", data, kinds)[0] == count
            found = []
            for i in range(count):
                kind = data[kinds + 4 + i]
                offset = struct.unpack_from("<I", data, target + 4 + 4 * i)[0]
                found.append(
                    self.variant_at(item.type.index, kind, data, target + 4 + 4 * i + offset) if kind else None
                )
                assert bool(kind) == bool(offset)
            return found
        if inner in SIZES:
            return [
                plain(struct.unpack_from("<" + FORMATS[inner], data, target + 4 + i * SIZES[inner])[0])
                for i in range(count)
            ]
        places = [target + 4 + 4 * i + struct.unpack_from("<I", data, target + 4 + 4 * i)[0] for i in range(count)]
        if inner is BaseType.STRING:
            return [data[p + 4 : p + 4 + struct.unpack_from("<I", data, p)[0]].decode() for p in places]
        return [self.table(item.type.index, data, place) for place in places]


def camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def default_of(item: FieldInfo) -> Any:
    if item.type.base is BaseType.BOOL:
        return bool(item.default_integer)
    if item.type.base is BaseType.FLOAT:
        return plain(struct.unpack("<f", struct.pack("<f", item.default_real))[0])
    if item.type.base is BaseType.DOUBLE:
        return plain(item.default_real)
    return item.default_integer & (2**64 - 1) if item.type.base is BaseType.ULONG else item.default_integer


def expected(schema: SchemaInfo, number: int, record: dict[str, Any] | None) -> Any:
    """The record that a row of columns stands for: defaults in the place of what is null or not given."""
    if record is None:
        return None
    found = {}
    for item in schema.objects[number].fields:
        if not item.deprecated and item.type.inner is not BaseType.UTYPE:
            value = expected_value(schema, item.type.base, item.type, record.get(item.name))
            if value is None and item.type.base in SIZES and not item.optional:
                value = default_of(item)
            found[item.name] = value
    return found


def expected_value(schema: SchemaInfo, base: BaseType, kind: TypeInfo, value: Any) -> Any:
    if value is None:
        return None
    if base in (BaseType.VECTOR, BaseType.ARRAY):
        return [expected_value(schema, kind.element, kind, item) for item in value]
    if base is BaseType.OBJ:
        return expected(schema, kind.index, value)
    if base is BaseType.UNION:
        for name, inner in value.items():
            if inner is not None:
                (known,) = (member for member in schema.enums[kind.index].values if member.name == name)
                return {name: expected_value(schema, known.type.base, known.type, inner)}
        return None
    if isinstance(value, str) and base is not BaseType.STRING:
        return named(schema, kind.index, value)
    return plain(value)


def named(schema: SchemaInfo, index: int, name: str) -> int:
    known = schema.enums[index]
    (value,) = (member.value for member in known.values if member.name == name)
    return value & (2**64 - 1) if known.underlying.base is BaseType.ULONG else value

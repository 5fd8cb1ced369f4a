"""What columns must hold, read slowly: by the schema as it was parsed, and the `flatbuffers` package's own access.

The judge of the compiled reader of columns. It knows the mapping of docs/columns.md and nothing of the compiled code.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from flatbuffers import number_types
from flatbuffers.table import Table as RawTable

from flatstream import Schema
from flatstream.schema._reflection import BaseType, FieldInfo, ObjectInfo, TypeInfo

FLAGS = {
    BaseType.UTYPE: number_types.Uint8Flags,
    BaseType.BOOL: number_types.BoolFlags,
    BaseType.BYTE: number_types.Int8Flags,
    BaseType.UBYTE: number_types.Uint8Flags,
    BaseType.SHORT: number_types.Int16Flags,
    BaseType.USHORT: number_types.Uint16Flags,
    BaseType.INT: number_types.Int32Flags,
    BaseType.UINT: number_types.Uint32Flags,
    BaseType.LONG: number_types.Int64Flags,
    BaseType.ULONG: number_types.Uint64Flags,
    BaseType.FLOAT: number_types.Float32Flags,
    BaseType.DOUBLE: number_types.Float64Flags,
}


class Reference:
    """Reads messages of a schema into dicts, lists, strings and numbers."""

    def __init__(self, schema: Schema, enums: str = "dictionary") -> None:
        self.schema = schema
        self.objects = schema._info.objects
        self.enums = schema._info.enums
        self.by_names = enums == "dictionary"

    def number_of(self, name: str) -> int:
        return next(place for place, info in enumerate(self.objects) if info.name == name)

    def record(self, name: str, payload: bytes) -> dict[str, Any]:
        """All fields of the message, as the default choice of columns has them."""
        number = self.number_of(name)
        data = bytearray(payload)
        place = struct.unpack_from("<I", data)[0]
        return self.members(number, data, place, (number,))

    def fields(self, number: int) -> Iterator[FieldInfo]:
        return (item for item in self.objects[number].fields if not item.deprecated)

    def is_left_out(self, kind: TypeInfo, around: tuple[int, ...]) -> bool:
        return kind.inner is BaseType.OBJ and not self.objects[kind.index].is_struct and kind.index in around

    def members(self, number: int, data: bytearray, place: int, around: tuple[int, ...]) -> dict[str, Any]:
        info = self.objects[number]
        if info.is_struct:
            return {item.name: self.inline(item.type, data, place + item.offset) for item in self.fields(number)}
        return {
            item.name: self.value(info, item, data, place, around)
            for item in self.fields(number)
            if not self.is_left_out(item.type, around)
        }

    def number(self, kind: TypeInfo, value: Any) -> Any:
        """A number, or the name that stands for it."""
        if not self.by_names or kind.index < 0 or kind.inner in (BaseType.FLOAT, BaseType.DOUBLE, BaseType.BOOL):
            return value
        known = self.enums[kind.index]
        if "bit_flags" in known.attributes:
            return value
        # A binary schema stores all numbers with a sign.
        wrapped = value - 2**64 if value >= 2**63 else value
        return next((item.name for item in known.values if item.value == wrapped), str(value))

    def inline(self, kind: TypeInfo, data: bytearray, place: int) -> Any:
        """A number, a struct or an array that lies there."""
        if kind.base is BaseType.ARRAY:
            element = TypeInfo(kind.element, index=kind.index)
            size = self.size(element)
            return [self.inline(element, data, place + size * i) for i in range(kind.fixed_length)]
        if kind.base is BaseType.OBJ:
            return self.members(kind.index, data, place, ())
        return self.number(kind, RawTable(data, 0).Get(self.flags(kind), place))

    def flags(self, kind: TypeInfo) -> Any:
        """How a number is stored; the type of a union as the union says."""
        return FLAGS[self.enums[kind.index].underlying.base if kind.base is BaseType.UTYPE else kind.base]

    def size(self, kind: TypeInfo) -> int:
        if kind.base is BaseType.OBJ:
            return self.objects[kind.index].size if self.objects[kind.index].is_struct else 4
        return self.flags(kind).bytewidth if kind.base in FLAGS else 4

    def value(self, info: ObjectInfo, item: FieldInfo, data: bytearray, place: int, around: tuple[int, ...]) -> Any:
        """A field of a table."""
        table = RawTable(data, place)
        offset = table.Offset(item.offset)
        base = item.type.base
        if base in FLAGS:
            if offset:
                return self.inline(item.type, data, place + offset)
            if item.optional:
                return None
            default: Any = item.default_real if base in (BaseType.FLOAT, BaseType.DOUBLE) else item.default_integer
            if base is BaseType.FLOAT:
                default = struct.unpack("<f", struct.pack("<f", default))[0]
            if base is BaseType.BOOL:
                default = bool(default)
            if base is BaseType.ULONG:
                default &= 2**64 - 1
            return self.number(item.type, default)
        if item.type.inner is BaseType.UNION:
            companion = next(other for other in info.fields if other.name == f"{item.name}_type")
            type_offset = table.Offset(companion.offset)
            if not offset:
                return None
            if base is BaseType.UNION:
                number = table.Get(self.flags(companion.type), place + type_offset) if type_offset else 0
                return self.union(item.type.index, number, data, place + offset, around)
            types = table.Vector(type_offset)
            kind = TypeInfo(BaseType.UTYPE, index=item.type.index)
            start = table.Vector(offset)
            return [
                self.union(
                    item.type.index,
                    table.Get(self.flags(kind), types + i * self.size(kind)),
                    data,
                    start + 4 * i,
                    around,
                )
                for i in range(table.VectorLen(offset))
            ]
        if not offset:
            return None
        if base is BaseType.OBJ and self.objects[item.type.index].is_struct:
            return self.inline(item.type, data, place + offset)
        if base is BaseType.VECTOR:
            start, length = table.Vector(offset), table.VectorLen(offset)
            element = TypeInfo(item.type.element, index=item.type.index)
            size = self.size(element)
            if element.base is BaseType.UBYTE and element.index < 0:
                return bytes(data[start : start + length])
            return [self.element(element, data, start + size * i, around) for i in range(length)]
        return self.element(item.type, data, place + offset, around)

    def element(self, kind: TypeInfo, data: bytearray, place: int, around: tuple[int, ...]) -> Any:
        table = RawTable(data, 0)
        if kind.base is BaseType.STRING:
            return table.String(place).decode()
        if kind.base is BaseType.OBJ and not self.objects[kind.index].is_struct:
            return self.members(kind.index, data, table.Indirect(place), (*around, kind.index))
        return self.inline(kind, data, place)

    def union(self, index: int, number: int, data: bytearray, place: int, around: tuple[int, ...]) -> Any:
        variants = [item for item in self.enums[index].values if item.value and not self.is_left_out(item.type, around)]
        number = number - 2**64 if number >= 2**63 else number
        if number not in [item.value for item in variants]:
            return None
        found: dict[str, Any] = {}
        for item in variants:
            found[item.name] = None
            if item.value != number:
                continue
            if item.type.base is BaseType.OBJ and self.objects[item.type.index].is_struct:
                found[item.name] = self.inline(item.type, data, RawTable(data, 0).Indirect(place))
            else:
                found[item.name] = self.element(item.type, data, place, around)
        return found

    # Paths

    def paths(self, name: str, depth: int) -> list[str]:
        """All paths from a table on that have at most so many names."""
        found: list[str] = []

        def visit(number: int, way: tuple[str, ...]) -> None:
            for item in self.fields(number):
                path = (*way, item.name)
                found.append(".".join(path))
                if len(path) >= depth:
                    continue
                if item.type.base is BaseType.OBJ:
                    visit(item.type.index, path)
                elif item.type.base is BaseType.UNION:
                    for value in self.enums[item.type.index].values:
                        if value.value:
                            found.append(".".join((*path, value.name)))
                            if value.type.base is BaseType.OBJ and len(path) + 1 < depth:
                                visit(value.type.index, (*path, value.name))

        visit(self.number_of(name), ())
        return found

    def at(self, name: str, payload: bytes, path: str) -> Any:
        """The value of one column."""
        number = self.number_of(name)
        data = bytearray(payload)
        place = struct.unpack_from("<I", data)[0]
        parts = path.split(".")
        while True:
            info = self.objects[number]
            item = next(item for item in info.fields if item.name == parts[0])
            if len(parts) == 1:
                if info.is_struct:
                    return self.inline(item.type, data, place + item.offset)
                return self.value(info, item, data, place, ())
            if info.is_struct:
                place, number, parts = place + item.offset, item.type.index, parts[1:]
                continue
            table = RawTable(data, place)
            offset = table.Offset(item.offset)
            if not offset:
                return None
            if item.type.base is BaseType.UNION:
                whole = self.value(info, item, data, place, ())
                variant = next(value for value in self.enums[item.type.index].values if value.name == parts[1])
                if whole is None or whole.get(parts[1]) is None:
                    return None
                if len(parts) == 2:
                    return whole[parts[1]]
                place, number, parts = table.Indirect(place + offset), variant.type.index, parts[2:]
            elif self.objects[item.type.index].is_struct:
                place, number, parts = place + offset, item.type.index, parts[1:]
            else:
                place, number, parts = table.Indirect(place + offset), item.type.index, parts[1:]


def in_arrow(value: Any) -> Any:
    """A value as Arrow has it: a table without columns is true."""
    if isinstance(value, dict):
        return {name: in_arrow(each) for name, each in value.items()} or True
    if isinstance(value, list):
        return [in_arrow(each) for each in value]
    return value


def bits(value: Any) -> Any:
    """A value in which NaN equals itself, and -0.0 is not 0.0."""
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("<d", value)
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(inner) for inner in value]
    return value

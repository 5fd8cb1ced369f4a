"""Records read in every way, to be compared with generated code."""

from __future__ import annotations

import math
import struct
import sys
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers.table import Table as RawTable

from flatstream import (
    Schema,
)
from flatstream.schema import Table
from flatstream.schema._reflection import SIZES, BaseType, FieldInfo
from support.messages import (
    written_by,
)
from support.schemas import generated, schema_of


def table_of(name: str, table: str | None = None) -> Table:
    schema = schema_of(name)
    found = schema.root if table is None else schema.table(f"{name}.{table}")
    assert found is not None
    return found


def difference(x: Any, y: Any, path: str = "") -> str:
    """Where two values differ in type or value, or ""; NaN is NaN, and 0.0 is not -0.0."""
    if type(x) is not type(y):
        return f"{path}: {type(x).__name__} and {type(y).__name__}"
    if isinstance(x, dict):
        if list(x) != list(y):
            return f"{path}: {list(x)} and {list(y)}"
        return next(filter(None, (difference(x[name], y[name], f"{path}.{name}") for name in x)), "")
    if isinstance(x, list):
        if len(x) != len(y):
            return f"{path}: {len(x)} and {len(y)} elements"
        return next(filter(None, (difference(x[i], y[i], f"{path}[{i}]") for i in range(len(x)))), "")
    if isinstance(x, float):
        equal = (x == y and math.copysign(1, x) == math.copysign(1, y)) or (math.isnan(x) and math.isnan(y))
    else:
        equal = x == y
    return "" if equal else f"{path}: {x!r:.100} and {y!r:.100}"


def bytes_as_lists(value: Any) -> Any:
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, dict):
        return {name: bytes_as_lists(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [bytes_as_lists(inner) for inner in value]
    return value


FORMS = {1: "B", 2: "?", 3: "b", 4: "B", 5: "h", 6: "H", 7: "i", 8: "I", 9: "q", 10: "Q", 11: "f", 12: "d"}


def number_at(table: RawTable, place: int, kind: BaseType) -> Any:
    return struct.unpack_from(f"<{FORMS[kind]}", table.Bytes, place)[0]


def default_of(item: FieldInfo) -> Any:
    if item.optional:
        return None
    kind = item.type.base
    if kind in (BaseType.FLOAT, BaseType.DOUBLE):
        return struct.unpack(f"<{FORMS[kind]}", struct.pack(f"<{FORMS[kind]}", item.default_real))[0]
    bits = item.default_integer & (1 << 64) - 1
    return struct.unpack(f"<{FORMS[kind]}", bits.to_bytes(8, "little")[: SIZES[kind]])[0]


def by_description(schema: Schema, number: int, table: RawTable) -> dict[str, Any]:
    """The same with the functions that generated code calls, as the schema says."""
    info = schema._info
    known = info.objects[number]
    by_name = {item.name: item for item in known.fields}

    def value_at(place: int, kind: BaseType, index: int, behind_offset: bool) -> Any:
        if kind is BaseType.STRING:
            return table.String(place).decode()
        if kind is BaseType.OBJ:
            at = table.Indirect(place) if behind_offset else place
            return by_description(schema, index, RawTable(table.Bytes, at))
        return number_at(table, place, kind)

    def variant_at(place: int, index: int, kind: int) -> Any:
        for value in info.enums[index].values:
            if value.value == kind and value.type.base is not BaseType.NONE:
                return value_at(place, value.type.base, value.type.index, True)
        return None

    def size_of(item: FieldInfo) -> int:
        index = item.type.index
        if item.type.inner is BaseType.OBJ and info.objects[index].is_struct:
            return info.objects[index].size
        return SIZES.get(item.type.inner, 4)

    values: dict[str, Any] = {}
    for item in known.fields:
        if item.deprecated:
            continue
        inner, index = item.type.inner, item.type.index
        indirect = inner is BaseType.OBJ and not info.objects[index].is_struct
        place = (
            table.Pos + item.offset
            if known.is_struct
            else table.Offset(item.offset) and (table.Pos + table.Offset(item.offset))
        )
        if not place:
            values[item.name] = default_of(item) if item.type.base in SIZES else None
        elif item.type.base is BaseType.ARRAY:
            values[item.name] = [
                value_at(place + i * size_of(item), inner, index, False) for i in range(item.type.fixed_length)
            ]
        elif item.type.base is BaseType.VECTOR:
            start, count = table.Vector(place - table.Pos), table.VectorLen(place - table.Pos)
            types = table.Vector(table.Offset(by_name[f"{item.name}_type"].offset)) if inner is BaseType.UNION else 0
            values[item.name] = [
                variant_at(start + 4 * i, index, table.Bytes[types + i])
                if inner is BaseType.UNION
                else value_at(start + i * size_of(item), inner, index, indirect)
                for i in range(count)
            ]
        elif inner is BaseType.UNION:
            kind = table.Offset(by_name[f"{item.name}_type"].offset)
            values[item.name] = variant_at(place, index, table.Bytes[table.Pos + kind]) if kind else None
        else:
            values[item.name] = value_at(place, inner, index, indirect)
    return values


def build_extremes(builder: Any) -> int:
    """A shapes.Vectors with the extremes of every type of number, and each kind of vector empty or not."""
    module, grid = generated("Vectors"), generated("Grid")

    def numbers(dtype: str, *values: Any) -> int:
        return int(builder.CreateNumpyVector(np.array(values, dtype=dtype)))

    def integers(dtype: str) -> int:
        limits = np.iinfo(dtype)
        return numbers(dtype, limits.min, 0, 1, limits.max)

    floats = (0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.5)
    fields = {
        "Truths": numbers("u1", 0, 1, 1), "I8s": integers("i1"), "U8s": integers("u1"), "I16s": integers("<i2"),
        "U16s": integers("<u2"), "I32s": integers("<i4"), "U32s": integers("<u4"), "I64s": integers("<i8"),
        "U64s": integers("<u8"), "F32s": numbers("<f4", *floats, 3.4028234663852886e38),
        "F64s": numbers("<f8", *floats, sys.float_info.max), "Colors": numbers("i1", -2, 0, 5, 77),
        "Weekdays": numbers("<u2", 65535, 2, 9), "Accesses": numbers("u1", 1, 255), "Overaligned": numbers("u1"),
    }  # fmt: skip
    texts = [builder.CreateString(text) for text in ("", "ASCII", "Größe\0π€𝄞", "x" * 300)]
    module.StartStringsVector(builder, len(texts))
    for text in reversed(texts):
        builder.PrependUOffsetTRelative(text)
    fields["Strings"] = builder.EndVector()
    module.StartGridsVector(builder, 2)
    for tag in (255, 1):
        corners = ([0.5, -1.5], [math.inf, 2.0])
        grid.CreateGrid(
            builder, tag, [-(2**31), 0, 2**31 - 1], [1, 65535], *corners, [True, False] * 2 + [True], [1, 2]
        )
    fields["Grids"] = builder.EndVector()
    module.StartPointsVector(builder, 0)
    fields["Points"] = builder.EndVector()
    module.StartNamedVector(builder, 0)
    fields["Named"] = builder.EndVector()
    module.Start(builder)
    for name, place in fields.items():
        getattr(module, f"Add{name}")(builder, place)
    return int(module.End(builder))


EXTREMES = written_by(flatbuffers.Builder, build_extremes)

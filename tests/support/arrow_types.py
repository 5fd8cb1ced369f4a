"""The Arrow types of a schema, and random records of it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from flatstream.schema._reflection import BaseType, SchemaInfo, TypeInfo

NUMBER_TYPES = {
    BaseType.UTYPE: pa.uint8(),
    BaseType.BOOL: pa.bool_(),
    BaseType.BYTE: pa.int8(),
    BaseType.UBYTE: pa.uint8(),
    BaseType.SHORT: pa.int16(),
    BaseType.USHORT: pa.uint16(),
    BaseType.INT: pa.int32(),
    BaseType.UINT: pa.uint32(),
    BaseType.LONG: pa.int64(),
    BaseType.ULONG: pa.uint64(),
    BaseType.FLOAT: pa.float32(),
    BaseType.DOUBLE: pa.float64(),
}


class Mapping:
    """The Arrow types of a schema. Names of enums are dictionaries, unless `names` says otherwise."""

    def __init__(
        self,
        schema: SchemaInfo,
        text: pa.DataType | None = None,
        many: Callable[[pa.DataType], pa.DataType] = pa.large_list,
        names: pa.DataType | None = None,
        bytes_type: pa.DataType | None = None,
        depth: int = 3,
        repeats: int = 1,
    ) -> None:
        self.schema, self.many, self.depth = schema, many, depth
        # How often a table may be inside of itself.
        self.repeats = repeats
        self.text = text or pa.large_utf8()
        self.bytes_type = bytes_type or pa.large_binary()
        self.names = names or pa.dictionary(pa.int32(), pa.utf8())

    def table(self, number: int, around: tuple[int, ...] = ()) -> pa.DataType:
        return pa.struct(list(self.fields(number, around)))

    def fields(self, number: int, around: tuple[int, ...] = ()) -> Iterator[pa.Field]:
        around = (*around, number)
        for item in self.schema.objects[number].fields:
            if item.deprecated or self.is_endless(item.type, around):
                continue
            yield pa.field(item.name, self.of(item.type.base, item.type, around))

    def is_endless(self, kind: TypeInfo, around: tuple[int, ...]) -> bool:
        if kind.inner is BaseType.UNION:
            return len(around) > self.depth
        return (kind.inner is BaseType.OBJ and around.count(kind.index) > self.repeats) or (
            kind.inner is BaseType.UTYPE and len(around) > self.depth
        )

    def of(self, base: BaseType, kind: TypeInfo, around: tuple[int, ...]) -> pa.DataType:
        if base is BaseType.VECTOR and kind.element is BaseType.UBYTE and kind.index == -1:
            return self.bytes_type
        if base is BaseType.VECTOR:
            return self.many(self.of(kind.element, kind, around))
        if base is BaseType.ARRAY:
            return pa.list_(self.of(kind.element, kind, around), kind.fixed_length)
        if base is BaseType.OBJ:
            return self.table(kind.index, around)
        if base is BaseType.STRING:
            return self.text
        if base is BaseType.UNION:
            return pa.struct(
                [
                    pa.field(value.name, self.of(value.type.base, value.type, around))
                    for value in self.schema.enums[kind.index].values
                    if value.value
                    and not (value.type.base is BaseType.OBJ and around.count(value.type.index) > self.repeats)
                ]
            )
        if kind.index >= 0:
            return self.names if not self.flags(kind.index) else NUMBER_TYPES[base]
        return NUMBER_TYPES[base]

    def flags(self, index: int) -> bool:
        return "bit_flags" in self.schema.enums[index].attributes

    def arrow(self, number: int, records: Sequence[dict[str, Any]]) -> pa.Table:
        """The records as a table."""
        fields = list(self.fields(number))
        if not fields:
            return pa.table({"rows": pa.nulls(len(records))}).select([])
        arrays = [pa.array([record.get(field.name) for record in records], field.type) for field in fields]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


LIMITS = {
    BaseType.BYTE: (-128, 127),
    BaseType.UBYTE: (0, 255),
    BaseType.SHORT: (-(2**15), 2**15 - 1),
    BaseType.USHORT: (0, 2**16 - 1),
    BaseType.INT: (-(2**31), 2**31 - 1),
    BaseType.UINT: (0, 2**32 - 1),
    BaseType.LONG: (-(2**63), 2**63 - 1),
    BaseType.ULONG: (0, 2**64 - 1),
}


TEXTS = ["", "a", "grüße", "\0", "日本語", "𝄞" * 5, "twelve bytes", "thirteen bytes", "x" * 300]


FLOATS = [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 2.0**-149, 3.4028234663852886e38]


class Making:
    """Records that fit a `Mapping`, of all values that there are, the extreme ones more often."""

    def __init__(self, mapping: Mapping, chance: random.Random) -> None:
        self.mapping, self.chance, self.schema = mapping, chance, mapping.schema

    def record(self, number: int, around: tuple[int, ...] = ()) -> dict[str, Any]:
        info = self.schema.objects[number]
        around = (*around, number)
        found: dict[str, Any] = {}
        for item in info.fields:
            kind = item.type
            if item.deprecated or kind.inner is BaseType.UTYPE or self.mapping.is_endless(kind, around):
                continue
            if item.name == "u64" and info.name.endswith(".Defaults"):
                # flatc 2.0.8 writes 0 into the schema for this default, which is no signed number, and not into the
                # generated code. So what is absent, or 0 and left out, is read as something else there.
                found[item.name] = self.chance.choice([1, 2**63, 2**64 - 1])
                continue
            if not info.is_struct and not item.required and self.chance.random() < 0.3:
                found[item.name] = None
                continue
            value = self.value(kind.base, kind, around)
            found[item.name] = value
            if kind.inner is BaseType.UNION:
                if kind.base is BaseType.VECTOR:
                    found[item.name + "_type"] = [next(iter(member), "NONE") for member in value]
                else:
                    found[item.name + "_type"] = next(iter(value), "NONE" if self.chance.random() < 0.5 else None)
                    if not value:
                        found[item.name] = None
                        assert not item.required
        return found

    def value(self, base: BaseType, kind: TypeInfo, around: tuple[int, ...]) -> Any:
        chance = self.chance
        if base is BaseType.VECTOR and kind.element is BaseType.UBYTE and kind.index == -1:
            return chance.randbytes(chance.randrange(5))
        if base is BaseType.VECTOR:
            values = [self.value(kind.element, kind, around) for _ in range(chance.randrange(4))]
            return [value for value in values if kind.element is not BaseType.UNION or value]
        if base is BaseType.ARRAY:
            return [self.value(kind.element, kind, around) for _ in range(kind.fixed_length)]
        if base is BaseType.OBJ:
            return self.record(kind.index, around)
        if base is BaseType.STRING:
            return chance.choice(TEXTS)
        if base is BaseType.UNION:
            known = [
                value
                for value in self.schema.enums[kind.index].values
                if value.value
                and not (value.type.base is BaseType.OBJ and around.count(value.type.index) > self.mapping.repeats)
            ]
            if not known:
                # Deep enough: each variant is a table that is around it already.
                return {}
            chosen = chance.choice(known)
            return {chosen.name: self.value(chosen.type.base, chosen.type, around)}
        if base is BaseType.BOOL:
            return chance.random() < 0.5
        if base is BaseType.FLOAT or base is BaseType.DOUBLE:
            if base is BaseType.DOUBLE and chance.random() < 0.3:
                return chance.choice([5e-324, 1.7976931348623157e308, 0.1])
            return chance.choice(FLOATS)
        if kind.index >= 0 and not self.mapping.flags(kind.index):
            return chance.choice(self.schema.enums[kind.index].values).name
        least, most = LIMITS[base]
        return chance.choice([least, most, 0, 1, chance.randint(least, most)])

"""Records out: a record says of a message what generated code says of it, value for value, and no bytes do harm.

Two readers stand beside the records. One calls the accessors that flatc generated; the other, for schemas without
generated code, calls the functions of the package ``flatbuffers`` that such code is made of. A record is read twice as
well: attribute by attribute, through its views and arrays, and with ``to_dict``. Messages are of every shape in
``schemas/``, random ones included; then come damaged ones at the edge of the memory that may be read; and last who
keeps what alive for how long.
"""

from __future__ import annotations

import array
import ctypes
import dataclasses
import functools
import gc
import importlib
import io
import itertools
import math
import mmap
import random
import struct
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import reference
from flatbuffers.table import Table as RawTable
from hypothesis import given
from hypothesis import strategies as st
from support import CutSource
from test_builder import (
    defaults,
    finished,
    generated,
    holders,
    level1s,
    numbereds,
    olds,
    optionals,
    scalars,
    shapes,
    structs,
    trees,
    unions,
    vectors,
    written_by,
)
from test_concurrency import frequent_switches, run_threads, switching
from test_half_made_objects import survives
from test_leaks import growth
from test_structure import run_python
from test_verifier import (
    FUZZED,
    NAMED,
    SANITIZED,
    chain,
    changed,
    doubling,
    messages_of,
    mutant,
    schema_of,
    telemetry_messages,
    union_messages,
)

import flatstream
from flatstream import (
    Builder,
    ChecksumMismatchError,
    ChecksumType,
    FlatbufferError,
    RecordView,
    Schema,
    StreamReader,
    ValidationFailedError,
)
from flatstream._core.records.field_lookup import RecordTypes
from flatstream._core.records.message_arrays import ArrayMemory, ArrayTypes
from flatstream._core.records.record_iterator import RecordIterator, view_message
from flatstream._core.records.record_view import VectorView
from flatstream.schema import Table
from flatstream.schema._reflection import SIZES, BaseType, FieldInfo, ObjectInfo

__all__ = ["frequent_switches"]  # a fixture

HERE = Path(__file__).parent


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


# A record, attribute by attribute


def by_attributes(value: Any) -> Any:
    """What `to_dict` is to give, from views and arrays."""
    if isinstance(value, RecordView):
        return {name: by_attributes(getattr(value, name)) for name in value.__fields__}
    if isinstance(value, VectorView):
        elements = [by_attributes(element) for element in value]
        assert len(elements) == len(value)
        return elements
    if isinstance(value, np.ndarray):
        assert not value.flags.writeable
        return value.tolist()
    return value


def bytes_as_lists(value: Any) -> Any:
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, dict):
        return {name: bytes_as_lists(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [bytes_as_lists(inner) for inner in value]
    return value


def read_both_ways(record: RecordView) -> dict[str, Any]:
    """The record without views, after making sure that its attributes say the same."""
    values = record.to_dict()
    assert difference(by_attributes(record), bytes_as_lists(values)) == ""
    for name in record.__fields__:
        assert name in record
        assert difference(by_attributes(record[name]), bytes_as_lists(values[name])) == ""
    return values


# Generated code


def camel(name: str) -> str:
    made = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    return f"{made}_" if made == "From" else made


def by_generated_code(schema: Schema, number: int, message: Any) -> dict[str, Any]:
    """The same from an object that flatc generated, with nothing but its accessors."""
    info = schema._info
    known = info.objects[number]
    package = known.name.partition(".")[0]

    def new(index: int) -> Any:
        name = info.objects[index].name.rpartition(".")[2]
        return getattr(importlib.import_module(f"{package}.{name}"), name)()

    def plain(value: Any, kind: BaseType, index: int) -> Any:
        if value is None:
            return None
        if kind is BaseType.STRING:
            return value.decode()
        if kind is BaseType.OBJ:
            return by_generated_code(schema, index, value)
        # The package gives NumPy's numbers, or numbers of another type, for some vectors.
        if kind is BaseType.BOOL:
            return bool(value)
        return float(value) if kind in (BaseType.FLOAT, BaseType.DOUBLE) else int(value)

    values: dict[str, Any] = {}
    for item in known.fields:
        if item.deprecated:
            continue
        read = getattr(message, camel(item.name))
        inner, index = item.type.inner, item.type.index
        if item.type.base is BaseType.ARRAY:
            if inner is BaseType.OBJ:
                elements = [read(new(index), i) for i in range(item.type.fixed_length)]
                # The accessor moves one object about.
                values[item.name] = [plain(read(new(index), i), inner, index) for i in range(len(elements))]
            else:
                values[item.name] = [plain(value, inner, index) for value in read()]
        elif item.type.base is BaseType.VECTOR:
            if getattr(message, f"{camel(item.name)}IsNone")():
                values[item.name] = None
            else:
                length = getattr(message, f"{camel(item.name)}Length")()
                values[item.name] = [plain(read(i), inner, index) for i in range(length)]
        elif inner is BaseType.UNION:
            raw, kind = read(), getattr(message, f"{camel(item.name)}Type")()
            variants = {value.value: value.type for value in info.enums[index].values}
            values[item.name] = None
            if raw is not None and kind in variants and variants[kind].base is BaseType.OBJ:
                variant = new(variants[kind].index)
                variant.Init(raw.Bytes, raw.Pos)
                values[item.name] = by_generated_code(schema, variants[kind].index, variant)
        elif known.is_struct and inner is BaseType.OBJ:
            values[item.name] = plain(read(new(index)), inner, index)
        elif item.default_integer == 0 and read() == 2**64 - 1 and not message._tab.Offset(item.offset):
            # flatc writes 0 into a binary schema for the default of a ulong over 2**63 - 1: only generated code knows.
            values[item.name] = 0
        else:
            values[item.name] = plain(read(), inner, index)
    return values


def generated_root(table: Table, payload: Any) -> Any:
    package, _, name = table.name.rpartition(".")
    generated(name, package)
    return getattr(importlib.import_module(f"{package}.{name}"), name).GetRootAs(payload, 0)


def check_against_generated_code(table: Table, payload: Any, verify: bool = True) -> dict[str, Any]:
    record = table.view(payload, verify=verify)
    values = read_both_ways(record)
    expected = by_generated_code(table.schema, table.number, generated_root(table, payload))
    assert difference(bytes_as_lists(values), expected) == ""
    assert record == table.view(bytes(payload))
    return values


# Schemas without generated code

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


def check_against_description(table: Table, payload: bytes) -> dict[str, Any]:
    values = read_both_ways(table.view(payload))
    root = RawTable(payload, struct.unpack_from("<I", payload)[0])
    assert difference(bytes_as_lists(values), by_description(table.schema, table.number, root)) == ""
    assert table.view(payload) == table.view(payload)
    return values


# Messages of every shape


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


@pytest.mark.parametrize("number", range(3))
def test_record_of_every_shape_says_what_generated_code_says(number):
    check_against_generated_code(table_of("shapes"), messages_of("shapes")[number])


def test_telemetry_event_says_what_generated_code_says():
    values = check_against_generated_code(table_of("telemetry"), telemetry_messages()[0])
    assert values["host"] == "host"
    assert values["disks"][1]["counters"]["read_count"] == 1


def test_extremes_of_every_type_are_what_generated_code_says():
    values = check_against_generated_code(table_of("shapes", "Vectors"), EXTREMES)
    for name, bits in (("i8s", 8), ("i16s", 16), ("i32s", 32), ("i64s", 64)):
        assert values[name] == [-(2 ** (bits - 1)), 0, 1, 2 ** (bits - 1) - 1]
        unsigned = values[f"u{name[1:]}"]
        assert list(unsigned) == [0, 0, 1, 2**bits - 1]
    assert values["strings"] == ["", "ASCII", "Größe\0π€𝄞", "x" * 300]
    assert values["truths"] == [False, True, True]
    assert (values["points"], values["named"], values["overaligned"], values["nests"]) == ([], [], b"", None)
    assert values["grids"][1]["cells"] == [-(2**31), 0, 2**31 - 1]
    assert values["grids"][0]["corners"] == [{"x": 0.5, "y": math.inf}, {"x": -1.5, "y": 2.0}]


@pytest.mark.parametrize("name", FUZZED)
def test_record_says_what_the_functions_of_the_package_say(name):
    for payload in messages_of(name):
        check_against_description(table_of(name), payload)


def test_extremes_are_what_the_functions_of_the_package_say():
    check_against_description(table_of("shapes", "Vectors"), EXTREMES)


@given(shapes)
def test_random_message_says_what_generated_code_says(shape):
    check_against_generated_code(table_of("shapes"), written_by(Builder, finished(shape, b"SHAP")))


@pytest.mark.parametrize(
    ("table", "strategy"),
    [
        ("Scalars", scalars), ("Defaults", defaults), ("Optionals", optionals), ("Vectors", vectors),
        ("Structs", structs), ("Level1", level1s), ("Tree", trees), ("Numbered", numbereds), ("Old", olds),
        ("Unions", unions), ("Holder", holders),
    ],
)  # fmt: skip
@given(st.data())
def test_random_table_says_what_generated_code_says(table, strategy, data):
    made = data.draw(strategy)
    check_against_generated_code(table_of("shapes", table), written_by(Builder, finished(made)))


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 200]), st.text(max_size=5)), max_size=6))
def test_random_vector_of_unions_says_what_the_functions_of_the_package_say(drawn):
    builder = Builder(64)
    places = []
    for kind, text in drawn:
        if kind == 1:
            name = builder.CreateString(text)
            builder.StartObject(2)
            builder.PrependUOffsetTRelativeSlot(0, name, 0)
            places.append(builder.EndObject())
        elif kind == 5:
            places.append(builder.CreateString(text))
        elif kind == 6:
            builder.StartVector(4, 0, 4)
            must = builder.EndVector()
            builder.StartVector(1, 0, 1)
            types = builder.EndVector()
            builder.StartObject(10)
            builder.PrependUOffsetTRelativeSlot(7, must, 0)
            builder.PrependUOffsetTRelativeSlot(6, types, 0)
            places.append(builder.EndObject())
        else:
            builder.Prep(8, 16)
            builder.PrependFloat64(len(text) / 3)
            builder.PrependUint64(len(text))
            places.append(builder.Offset())
    builder.StartVector(1, len(drawn), 1)
    for kind, _ in reversed(drawn):
        builder.PrependUint8(kind)
    kinds = builder.EndVector()
    builder.StartVector(4, len(drawn), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    members = builder.EndVector()
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(3, members, 0)
    builder.PrependUOffsetTRelativeSlot(2, kinds, 0)
    if drawn and drawn[0][0]:
        builder.PrependUOffsetTRelativeSlot(1, places[0], 0)
        builder.PrependUint8Slot(0, drawn[0][0], 0)
    builder.Finish(builder.EndObject())
    values = check_against_description(table_of("unions"), bytes(builder.Output()))
    assert list(values["things_type"]) == [kind for kind, _ in drawn]
    for value, (kind, text) in zip(values["things"], drawn, strict=True):
        assert (value is None) == (kind in (0, 200))
        if kind == 5:
            assert value == text


# In again


def check_round_trip(table: Table, payload: bytes) -> None:
    """A record, and what `to_dict` gives of it, is a record that can be written, and then says the same."""
    record = table.view(payload)
    for again in (record.to_dict(), record.to_dict(enums="name"), record):
        builder = Builder(64)
        table.encode(builder, again)
        written = table.view(builder)
        assert written == record
        assert difference(written.to_dict(), record.to_dict()) == ""


@given(shapes)
def test_random_record_is_written_and_read_again(shape):
    check_round_trip(table_of("shapes"), written_by(Builder, finished(shape, b"SHAP")))


def test_extremes_unions_and_versions_are_written_and_read_again():
    check_round_trip(table_of("shapes", "Vectors"), EXTREMES)
    check_round_trip(table_of("shapes_v2"), later_message())
    check_round_trip(table_of("telemetry"), telemetry_messages()[0])
    # Without the one whose type the schema does not know.
    payload = union_messages()[0]
    place = payload.index(struct.pack("<I4B", 4, 5, 2, 77, 2)) + 4
    check_round_trip(table_of("unions"), changed(payload, (place + 2, "B", 3)))


# Versions of a schema


def later_message() -> bytes:
    """What the later version of the schema writes with all that it has added."""
    added_t = generated("Added", "shapes_v2").AddedT
    generated("Tree", "shapes_v2")
    later = generated("Shape", "shapes_v2").ShapeT.InitFromBuf(
        messages_of("shapes")[0], struct.unpack_from("<I", messages_of("shapes")[0])[0]
    )
    added = added_t()
    added.words, added.size = ["one", "zwölf"], 5
    mixed = generated("Mixed", "shapes_v2").MixedT()
    mixed.flag, mixed.big, mixed.small, mixed.medium, mixed.color = True, 1.5, -3, 7, 6
    later.added, later.addeds, later.mixed, later.color2 = added, [added, added_t()], mixed, 0
    later.choice2Type, later.choice2 = 5, added
    later.choiceType, later.choice = 5, added
    later.named.tags = ["a", "b"]
    later.scalars.more = 2**64 - 1
    return written_by(flatbuffers.Builder, finished(later, b"SHAP"))


def test_earlier_and_later_versions_of_a_schema_read_each_others_messages():
    for payload in (*messages_of("shapes"), later_message()):
        earlier = check_against_generated_code(table_of("shapes"), payload)
        later = check_against_generated_code(table_of("shapes_v2"), payload)
        assert set(earlier) < set(later)
        assert earlier["title"] == later["title"]
    # Of a variant that it does not know, the earlier one has the number.
    assert (earlier["choice_type"], earlier["choice"]) == (5, None)
    assert later["choice"]["words"] == ["one", "zwölf"]
    record = table_of("shapes").view(payload)
    assert (record.choice_type, record.choice) == (5, None)
    assert record.to_dict(enums="name")["choice_type"] == 5
    assert table_of("shapes_v2").view(payload).to_dict(enums="name")["choice_type"] == "Added"
    # And it has no such fields.
    assert not hasattr(record, "added")
    assert "added" not in record
    assert table_of("shapes_v2").view(messages_of("shapes")[0]).color2 == 6


# Unaligned memory


@pytest.mark.parametrize("offset", range(8))
def test_payload_anywhere_in_memory_is_read_the_same(offset):
    for name, table, payload in (
        ("shapes", "Vectors", EXTREMES), ("shapes", None, messages_of("shapes")[0]),
        ("unions", None, union_messages()[0]), ("telemetry", None, telemetry_messages()[0]),
    ):  # fmt: skip
        memory = np.zeros(len(payload) + 16, dtype=np.uint8)
        # From a multiple of 8.
        begin = -memory.ctypes.data % 8 + offset
        memory[begin : begin + len(payload)] = np.frombuffer(payload, dtype=np.uint8)
        record = table_of(name, table).view(memory.data[begin : begin + len(payload)])
        assert difference(read_both_ways(record), table_of(name, table).view(payload).to_dict()) == ""
        if table == "Vectors":
            for field, dtype in (("i64s", "<i8"), ("f64s", "<f8"), ("u16s", "<u2"), ("f32s", "<f4")):
                values = record[field]
                assert values.dtype == dtype
                address = values.ctypes.data
                assert memory.ctypes.data <= address < memory.ctypes.data + memory.nbytes
                assert values.flags.aligned == (address % values.itemsize == 0)
                assert np.array_equal(values + 0, np.frombuffer(values.tobytes(), dtype), equal_nan=True)
            points = record.grids.to_numpy()
            assert points["cells"].tolist() == [[-(2**31), 0, 2**31 - 1]] * 2


# Attributes


def renamed(schema: Schema, table: str, names: dict[str, str]) -> Table:
    """The table with other names for some of its fields."""

    def rename(info: ObjectInfo) -> ObjectInfo:
        fields = tuple(dataclasses.replace(item, name=names.get(item.name, item.name)) for item in info.fields)
        return dataclasses.replace(info, fields=fields)

    objects = tuple(rename(info) if info.name == table else info for info in schema._info.objects)
    return Schema(dataclasses.replace(schema._info, objects=objects)).table(table)


def test_field_wins_over_everything_of_the_class_but_special_names():
    names = {
        "truth": "to_dict", "i8": "__class__", "u8": "__fields__", "i16": "payload", "u16": "types", "i32": "__dict__",
        "u32": "self", "i64": "_x", "u64": "__", "f32": "____", "f64": "__x",
    }  # fmt: skip
    table = renamed(schema_of("shapes"), "shapes.Scalars", names)
    made = generated("Scalars").ScalarsT()
    made.truth, made.i8, made.u8, made.i16, made.u16, made.i32 = True, -3, 4, 5, 6, 7
    made.u32, made.i64, made.u64, made.f32, made.f64, made.color = 8, 9, 10, 11.0, 12.0, 5
    record: Any = table.view(written_by(Builder, finished(made)))
    assert record.to_dict is True
    assert (record.payload, record.types, record.self, record._x) == (5, 6, 8, 9)
    assert (record.__, record.____, record.__x) == (10, 11.0, 12.0)
    # These are Python's own, and what is called so in the schema has its name in brackets.
    assert record.__class__ is RecordView
    assert record.__fields__[:3] == ("to_dict", "__class__", "__fields__")
    assert not hasattr(record, "__dict__")
    assert [record["__class__"], record["__fields__"], record["__dict__"]] == [-3, 4, 7]
    assert RecordView.to_dict(record) == {name: record[name] for name in record.__fields__}
    assert "payload" in dir(record)
    assert dir(record).count("to_dict") == 1
    assert isinstance(record, RecordView)
    assert repr(record).startswith("<shapes.Scalars to_dict=True __class__=-3 ")


def test_name_that_is_a_copy_or_a_subclass_of_str_is_found_all_the_same():
    class Text(str):
        __slots__ = ()

    record = table_of("shapes", "Named").view(NAMED)
    copied = "".join(["c", "o", "de"])
    for name in (copied, Text("code"), "co" + chr(100) + "e"):
        assert getattr(record, name) == record[name] == 7
        assert name in record
    for name in ("".join(["to", "_dict"]), Text("to_dict")):
        assert getattr(record, name)() == {"name": "hello", "note": "é", "code": 7}
    assert getattr(record, "".join(["__", "table__"])) == "shapes.Named"


def test_every_field_of_a_wide_table_is_found_by_its_own_name():
    record = table_of("telemetry").view(telemetry_messages()[0])
    assert len(record.__fields__) == 60
    expected = record.to_dict()
    for name in record.__fields__:
        assert difference(by_attributes(getattr(record, name)), bytes_as_lists(expected[name])) == ""


def test_what_is_no_field_is_an_attribute_error_or_a_key_error():
    record: Any = table_of("shapes", "Named").view(NAMED)
    with pytest.raises(AttributeError, match=r"^shapes\.Named has no field 'nothing'$") as caught:
        _ = record.nothing
    assert (caught.value.name, caught.value.obj) == ("nothing", record)
    with pytest.raises(KeyError, match=r"shapes\.Named has no field 'nothing'"):
        record["nothing"]
    for key in (0, None, b"name", slice(1)):
        with pytest.raises(TypeError, match="expected the name of a field, got "):
            record[key]
        assert key not in record
    with pytest.raises(TypeError):
        list(record)
    # Deprecated fields are no fields.
    old = table_of("shapes", "Old").view(written_by(Builder, finished(generated("Old").OldT())))
    assert old.__fields__ == ("kept", "also_kept", "tail")
    assert not hasattr(old, "gone")
    assert "gone" not in old.to_dict()


def test_record_cannot_be_changed_hashed_made_or_subclassed():
    record = table_of("shapes", "Named").view(NAMED)
    for name in ("code", "new", "to_dict", "__class__"):
        with pytest.raises(AttributeError, match="records are read-only"):
            setattr(record, name, 1)
        with pytest.raises(AttributeError, match="records are read-only"):
            delattr(record, name)
    with pytest.raises(TypeError, match="unhashable"):
        hash(record)
    strings = table_of("shapes", "Vectors").view(EXTREMES).strings
    with pytest.raises(TypeError, match="unhashable"):
        hash(strings)
    for cls in (RecordView, VectorView, RecordIterator, ArrayMemory, ArrayTypes):
        with pytest.raises(TypeError):
            cls()
        with pytest.raises(TypeError):
            type("Derived", (cls,), {})


def test_enums_are_numbers_or_names():
    record: Any = table_of("shapes", "Vectors").view(EXTREMES)
    assert record.colors.tolist() == [-2, 0, 5, 77]
    values = record.to_dict(enums="name")
    # Neither a number without a name nor flags have one.
    assert values["colors"] == ["Red", "Green", "Blue", 77]
    assert values["weekdays"] == ["Sunday", "Tuesday", 9]
    assert values["accesses"] == [1, 255]
    assert values["grids"][0]["days"] == ["Monday", "Sunday"]
    assert record.grids.to_list(enums="name")[1]["days"] == ["Monday", "Sunday"]
    assert record.grids.to_list()[1]["days"] == [1, 65535]
    assert record.to_dict(enums="number")["colors"] == [-2, 0, 5, 77]
    for wrong in ("names", None, 1, b"name"):
        with pytest.raises(ValueError, match="enums must be 'number' or 'name'"):
            record.to_dict(enums=wrong)
    whole = table_of("shapes").view(messages_of("shapes")[0])
    assert (whole.unions.must_type, whole.unions.must.__table__) == (3, "shapes.Empty")
    names = whole.unions.to_dict(enums="name")
    assert [names[f"{field}_type"] for field in ("choice", "other", "must")] == ["Named", "Level1", "Empty"]
    assert table_of("shapes").view(messages_of("shapes")[2]).to_dict(enums="name")["choice_type"] == "NONE"
    assert table_of("unions").view(union_messages()[0]).to_dict(enums="name")["things_type"] == [
        "Text", "First", 77, "First",
    ]  # fmt: skip


# Vectors


def test_vector_is_a_sequence_of_its_elements():
    strings = table_of("shapes", "Vectors").view(EXTREMES).strings
    plain = ["", "ASCII", "Größe\0π€𝄞", "x" * 300]
    assert list(strings) == plain
    assert list(reversed(strings)) == plain[::-1]
    assert "ASCII" in strings
    assert "other" not in strings
    assert [strings[i] for i in range(-4, 4)] == plain * 2
    assert strings[np.int64(2)] == plain[2]
    for index in (4, -5, 2**70, -(2**70)):
        with pytest.raises(IndexError, match="out of range for a vector of 4 elements"):
            strings[index]
    for wrong in ("1", 1.0, None):
        with pytest.raises(TypeError):
            strings[wrong]
    with pytest.raises(TypeError):
        strings[0] = "x"


def test_every_slice_and_slice_of_a_slice_is_that_of_a_list():
    strings = table_of("shapes", "Vectors").view(EXTREMES).strings
    plain = list(strings)
    bounds = [None, 0, 1, 3, 4, 9, -1, -3, -9, 2**70, -(2**70)]
    slices = [
        slice(start, stop, step)
        for start in bounds
        for stop in bounds
        for step in (None, 1, 2, 3, -1, -2, 2**70, -(2**70))
    ]
    for outer in slices:
        part, expected = strings[outer], plain[outer]
        assert len(part) == len(expected)
        assert part == expected
        for inner in slices[::41]:
            assert list(part[inner]) == expected[inner]
    with pytest.raises(ValueError, match="zero"):
        strings[::0]


def test_vector_is_equal_to_vectors_lists_and_tuples_with_equal_elements():
    table = table_of("shapes", "Vectors")
    one, other = table.view(EXTREMES), table.view(EXTREMES)
    assert one.strings == other.strings
    assert one.strings == list(other.strings) == one.strings
    assert one.strings == tuple(other.strings)
    assert one.strings != other.strings[:3]
    assert one.strings[:2] != other.strings[2:]
    assert one.strings != [*list(other.strings)[:3], "y"]
    assert one.strings != "".join(other.strings)
    assert one.strings != None  # noqa: E711
    assert one.grids == other.grids
    assert one.grids == list(other.grids)
    assert one.grids != other.grids[::-1]
    assert one.points == other.named == []
    shape = table_of("shapes").view(messages_of("shapes")[0])
    assert shape.vectors.points[0] == shape.structs.point
    assert shape.vectors.named[0] == shape.choice == shape.named


def test_vectors_of_structs_are_arrays_of_the_messages_memory():
    memory = bytearray(EXTREMES)
    grids = table_of("shapes", "Vectors").view(memory).grids
    values = grids.to_numpy()
    assert values.dtype.itemsize == 64
    assert values.dtype.names == ("tag", "cells", "days", "corners", "bits", "weights")
    for element, row in zip(grids, values, strict=True):
        for name in element.__fields__:
            expected = element[name]
            if name == "corners":
                assert [(corner.x, corner.y) for corner in expected] == row[name].tolist()
            else:
                assert np.array_equal(row[name], expected)
    assert grids[::-1].to_numpy()["tag"].tolist() == values["tag"].tolist()[::-1] == [255, 1]
    assert grids[1:].to_numpy()["tag"].tolist() == [255]
    assert grids[:0].to_numpy().shape == (0,)
    assert not values.flags.writeable
    start = memory.index(bytes(values[0].tobytes()))
    memory[start] = 99
    assert values["tag"][0] == grids[0].tag == 99
    # A truth value that is neither 0 nor 1 would be no truth value to NumPy.
    memory[start + 36] = 2
    assert grids[0].bits.tolist() == [True, False, True, False, True]
    fixed = grids.to_numpy()
    assert fixed["bits"].view(np.uint8).max() == 1
    assert fixed["bits"][0].tolist() == [True, False, True, False, True]
    assert fixed["tag"].tolist() == [99, 255]
    assert not fixed.flags.writeable
    shape = table_of("shapes").view(messages_of("shapes")[0])
    for vector in (shape.vectors.named, shape.vectors.strings):
        with pytest.raises(TypeError, match=r"to_numpy\(\) needs a vector of structs"):
            vector.to_numpy()
    nested = written_by(Builder, finished(nests_message()))
    nests = table_of("shapes", "Vectors").view(nested).nests
    assert nests.to_numpy()["line"]["to"]["x"].tolist() == [nest.line.to.x for nest in nests] == [3.5]
    assert nests.to_numpy()["mixed"]["flag"].tolist() == [True]


def nests_message() -> Any:
    def point(x: float, y: float) -> Any:
        made = generated("Point").PointT()
        made.x, made.y = x, y
        return made

    nest, line, mixed = generated("Nest").NestT(), generated("Line").LineT(), generated("Mixed").MixedT()
    line.from_, line.to, line.width = point(1.5, 2.5), point(3.5, 4.5), 9
    mixed.flag, mixed.big, mixed.small, mixed.medium, mixed.color = True, -1.5, -2, 3, 5
    nest.before, nest.mixed, nest.line, nest.after = -1, mixed, line, 65535
    made = generated("Vectors").VectorsT()
    made.nests = [nest]
    return made


def test_truth_values_are_true_if_any_bit_is_set():
    """As generated code has them; to NumPy itself such a byte would be neither true nor false."""
    place = EXTREMES.index(struct.pack("<I3B", 3, 0, 1, 1)) + 4
    memory = bytearray(EXTREMES)
    table = table_of("shapes", "Vectors")
    plain = table.view(memory).truths
    assert plain.dtype == bool
    memory[place : place + 3] = b"\x80\x00\x02"
    truths = table.view(memory).truths
    assert truths.dtype == bool
    assert truths.tolist() == [True, False, True]
    assert truths.view(np.uint8).tolist() == [1, 0, 1]
    assert not truths.flags.writeable
    assert table.view(memory).to_dict()["truths"] == [True, False, True]
    # Without such a byte it is the memory itself.
    memory[place : place + 3] = b"\1\0\0"
    assert plain.tolist() == [True, False, False]


def test_arrays_are_read_only_views_of_the_message():
    memory = bytearray(EXTREMES)
    record = table_of("shapes", "Vectors").view(memory)
    values = record.u8s
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        values.setflags(write=True)
    memory[memory.index(struct.pack("<I4B", 4, 0, 0, 1, 255)) + 4] = 17
    assert values[0] == record.u8s[0] == 17
    # Nobody can release the memory by way of the array.
    assert not hasattr(values.base, "release")
    with pytest.raises(BufferError):
        memory.append(0)


def test_without_numpy_vectors_of_numbers_say_so_and_all_else_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    table = Schema.from_file(HERE / "schemas" / "shapes.bfbs").table("shapes.Vectors")
    record = table.view(EXTREMES)
    for name in ("u8s", "truths", "f64s", "overaligned"):
        with pytest.raises(ImportError, match="install it"):
            record[name]
    with pytest.raises(ImportError, match="install it"):
        record.grids.to_numpy()
    assert record.to_dict()["u8s"] == bytes([0, 0, 1, 255])
    assert record == table.view(EXTREMES)
    assert repr(record) == repr(table_of("shapes", "Vectors").view(EXTREMES))
    assert record.strings[1] == "ASCII"
    assert record.nests is None
    monkeypatch.undo()
    assert record.u8s.tolist() == [0, 0, 1, 255]


# Equality and repr


def test_records_are_equal_if_all_fields_are():
    table = table_of("shapes", "Named")
    record = table.view(NAMED)
    assert record == table.view(NAMED, verify=False)
    assert record != table.view(changed(NAMED, (28, "I", 8)))
    assert record != table.view(changed(NAMED, (36, "B", ord("j"))))
    # Absent is not empty.
    assert record != table.view(changed(NAMED, (10, "H", 0)))
    # Where it lies in the message says nothing.
    made = generated("Named").NamedT()
    made.name, made.note, made.code = "hello", "é", 7
    assert record == table.view(written_by(Builder, finished(made)))
    assert record != {"name": "hello", "note": "é", "code": 7}
    assert record != None  # noqa: E711
    # Nor does which object of the program the schema is.
    again = Schema.from_file(HERE / "schemas" / "shapes.bfbs").table("shapes.Named")
    assert record == again.view(NAMED)
    later = schema_of("shapes_v2").table("shapes_v2.Named")
    assert record != later.view(NAMED)
    renamed_table = renamed(schema_of("shapes"), "shapes.Named", {"code": "number"})
    assert record != renamed_table.view(NAMED)


@pytest.mark.parametrize("verify", [True, False])
def test_one_changed_byte_of_a_value_makes_records_unequal(verify):
    """Every byte of every number of every kind of vector is compared."""
    table = table_of("shapes", "Vectors")
    record = table.view(EXTREMES)
    differences = 0
    for place in range(len(EXTREMES)):
        damaged = bytearray(EXTREMES)
        damaged[place] ^= 1
        try:
            other = table.view(damaged, verify=verify)
            equal = record == other
            assert (other == record) == equal
            assert equal == (record.to_dict() == other.to_dict() or str(record.to_dict()) == str(other.to_dict()))
        except (FlatbufferError, ValidationFailedError):
            continue
        differences += not equal
    # Numbers and letters.
    assert differences > 300


def test_nan_is_equal_to_nan_and_zero_to_minus_zero():
    table = table_of("shapes", "Scalars")

    def record(f32: float, f64: float) -> Any:
        made = generated("Scalars").ScalarsT()
        made.f32, made.f64 = f32, f64
        return table.view(written_by(Builder, finished(made)))

    assert record(math.nan, math.nan) == record(math.nan, math.nan)
    assert record(math.nan, 1.0) != record(1.0, 1.0)
    assert record(1.0, math.nan) != record(1.0, 0.0)
    assert record(0.0, -0.0) == record(-0.0, 0.0)
    extremes = table_of("shapes", "Vectors").view(EXTREMES)
    assert extremes == table_of("shapes", "Vectors").view(EXTREMES)


def test_repr_is_short():
    assert repr(table_of("shapes", "Named").view(NAMED)) == "<shapes.Named name='hello' note='é' code=7>"
    assert repr(table_of("shapes").view(messages_of("shapes")[2])) == "<shapes.Shape>"
    record = table_of("shapes", "Vectors").view(EXTREMES)
    assert repr(record) == (
        "<shapes.Vectors truths=<3 x bool> i8s=<4 x byte> u8s=<4 x ubyte> i16s=<4 x short> u16s=<4 x ushort> "
        "i32s=<4 x int> u32s=<4 x uint> i64s=<4 x long> ...>"
    )
    assert repr(record.strings) == (f"<VectorView of 4 x string: '', 'ASCII', 'Größe\\x00π€𝄞', '{'x' * 40}'...>")
    assert repr(record.strings[:2]) == "<VectorView of 2 x string: '', 'ASCII'>"
    assert repr(record.grids) == "<VectorView of 2 x shapes.Grid>"
    assert repr(record.grids[0]) == (
        "<shapes.Grid tag=1 cells=<3 x int> days=<2 x shapes.Weekday> corners=<2 x shapes.Point> bits=<5 x bool> "
        "weights=<2 x double>>"
    )
    assert repr(table_of("unions").view(union_messages()[0]).things) == "<VectorView of 4 x unions.Anything>"
    for name in FUZZED:
        for payload in messages_of(name):
            assert len(repr(table_of(name).view(payload))) < 600


# Damage


def test_bad_string_is_an_error_with_its_path():
    table = table_of("shapes")
    payload = messages_of("shapes")[0]
    # The other one is the name of a level.
    place = payload.rindex(b"three\0")
    bad = changed(payload, (place + 2, "B", 0xFF))
    with pytest.raises(ValidationFailedError) as refused:
        table.view(bad)
    assert (refused.value.validator, refused.value.path) == ("shapes.Shape", "shape.vectors.strings[2]")
    assert refused.value.reason == f"the string at byte {place - 4} is not UTF-8: see its byte 2"
    record = table.view(bad, verify=False)
    reason = f"shape.vectors.strings[2]: the string at byte {place - 4} is not UTF-8: see its byte 2"
    for read in (
        lambda: record.vectors.strings[2],
        lambda: record.vectors.strings[::-2][-1] and record.vectors.strings[::-2][0],
        lambda: list(record.vectors.strings),
        lambda: record.vectors.strings.to_list(),
        record.to_dict,
        lambda: record == table.view(payload),
    ):
        with pytest.raises(FlatbufferError) as caught:
            read()
        assert caught.value.message == reason
        assert (caught.value.offset, caught.value.frame) == (None, None)
    assert list(record.vectors.strings[:2]) == ["a", ""]
    assert repr(record.vectors.strings) == "<VectorView of 3 x string: 'a', '', 'th\\\\xffee'>"


# How the reasons below go on.
END = ", and the message ends at 52"


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ((20, "I", 2**32 - 4), "name", f"the length of a vector at byte {2**32 + 16}: 4 bytes are needed{END}"),
        ((32, "I", 17), "name", f"a vector at byte 36: 17 bytes are needed{END}"),
        ((8, "H", 49), "name", f"an offset at byte 65: 4 bytes are needed{END}"),
        ((12, "H", 34), "code", f"a field at byte 50: 4 bytes are needed{END}"),
        ((49, "B", 0x28), "note", "the string at byte 44 is not UTF-8: see its byte 0"),
    ],
)  # fmt: skip
def test_damaged_field_is_an_error_when_it_is_read_and_not_before(change, field, reason):
    record = table_of("shapes", "Named").view(changed(NAMED, change), verify=False)
    for name, expected in (("name", "hello"), ("note", "é"), ("code", 7)):
        if name == field:
            with pytest.raises(FlatbufferError) as caught:
                record[name]
            assert caught.value.message == f"named.{field}: {reason}"
            with pytest.raises(FlatbufferError):
                getattr(record, name)
        else:
            assert record[name] == getattr(record, name) == expected
    assert f"{field}=" in repr(record)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "an offset at byte 0: 4"),
        (b"\x04\0\0\0", "a table at byte 4: 4"),
        (b"\x04\0\0\0\x05\0\0\0", "a vtable before the message, of a table at byte 4: 4"),
        (b"\x04\0\0\0\xfc\xff\xff\xff", "a vtable at byte 8: 2"),
    ],
)  # fmt: skip
def test_payload_that_does_not_begin_with_a_table_is_an_error_at_once(payload, what):
    with pytest.raises(FlatbufferError) as caught:
        table_of("shapes").view(payload, verify=False)
    assert caught.value.message == f"shape: {what} bytes are needed, and the message ends at {len(payload)}"
    with pytest.raises(ValidationFailedError):
        table_of("shapes", "Named").view(payload)


def test_vtable_without_fields_is_an_empty_table():
    """As it is to the verifier, even where its size does not count itself."""
    for payload in (b"\x04\0\0\0\0\0\0\0", bytes(4)):
        for verify in (True, False):
            record = table_of("shapes").view(payload, verify=verify)
            assert record.id == 0
            assert set(record.to_dict().values()) == {None, 0}


class Edge:
    """Memory behind which nothing may be read: a byte too far ends the process."""

    def __init__(self) -> None:
        self.page = mmap.PAGESIZE
        self.memory = mmap.mmap(-1, 5 * self.page)
        self.size = 4 * self.page
        begin = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        gc.collect()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(begin + self.size), ctypes.c_size_t(self.page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, payload: bytes) -> memoryview:
        """A view of a copy that ends where the memory ends."""
        assert len(payload) <= self.size
        view = memoryview(self.memory)[self.size - len(payload) : self.size]
        view[:] = payload
        return view


@functools.cache
def edge() -> Edge:
    return Edge()


def read_somehow(table: Table, payload: bytes) -> int:
    """Reads all that can be read, without verifying; returns how many errors there were."""
    memory = edge().place(payload) if len(payload) <= edge().size else payload
    errors = 0
    try:
        record = table.view(memory, verify=False)
    except FlatbufferError:
        return 1
    left: list[Any] = [record]
    visits = 0
    while left:
        value = left.pop()
        repr(value)
        visits += 1
        if visits > 200:
            break
        names: Any = value.__fields__ if isinstance(value, RecordView) else range(min(len(value), 8))
        for name in names:
            try:
                part = getattr(value, name) if isinstance(value, RecordView) else value[name]
            except FlatbufferError as error:
                errors += error.message.startswith(table.name.rpartition(".")[2].lower())
                continue
            if isinstance(part, (RecordView, VectorView)):
                left.append(part)
            elif isinstance(part, np.ndarray):
                part.tobytes()
    for read in (record.to_dict, lambda: record == record):
        try:
            read()
        except FlatbufferError:
            errors += 1
    return errors


@pytest.mark.parametrize("name", FUZZED)
def test_message_cut_anywhere_is_read_or_refused(name):
    payload = messages_of(name)[0]
    assert read_somehow(table_of(name), payload) == 0
    errors = [read_somehow(table_of(name), payload[:length]) for length in range(len(payload))]
    assert sum(1 for count in errors if count) > len(payload) // 2


def test_extremes_cut_anywhere_are_read_or_refused():
    table = table_of("shapes", "Vectors")
    assert read_somehow(table, EXTREMES) == 0
    assert all(read_somehow(table, EXTREMES[:length]) for length in range(0, len(EXTREMES) - 8, 3))


@pytest.mark.parametrize("name", FUZZED)
def test_message_with_any_byte_changed_is_read_or_refused(name):
    payload = messages_of(name)[-1 if name == "monster_test" else 0]
    refused = 0
    for place in range(len(payload)):
        for value in (payload[place] ^ 1, payload[place] ^ 0x80, 0xFF):
            refused += bool(read_somehow(table_of(name), changed(payload, (place, "B", value))))
    assert refused > 20


@pytest.mark.parametrize("name", FUZZED)
def test_mutant_is_read_or_refused_and_what_the_verifier_accepts_is_read(name):
    rng = random.Random(5)
    table, messages = table_of(name), messages_of(name)
    accepted = 0
    for _ in range(600):
        payload = mutant(rng, messages)
        errors = read_somehow(table, payload)
        try:
            record = table.view(payload)
        except ValidationFailedError:
            continue
        accepted += 1
        assert not errors
        root = RawTable(payload, struct.unpack_from("<I", payload)[0])
        assert difference(bytes_as_lists(record.to_dict()), by_description(table.schema, table.number, root)) == ""
    assert 30 < accepted < 570


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(payload):
    for name in FUZZED:
        read_somehow(table_of(name), payload)


def test_vector_of_unions_with_another_number_of_types_is_an_error():
    payload = union_messages()[0]
    place = payload.index(struct.pack("<I4B", 4, 5, 2, 77, 2))
    record = table_of("unions").view(changed(payload, (place, "I", 3)), verify=False)
    text = r"the vector of unions has 4 elements, and the vector of their types has 3, in the table at byte \d+"
    with pytest.raises(FlatbufferError, match=rf"^root\.things: {text}"):
        _ = record.things
    assert record.things_type.tolist() == [5, 2, 77]


def test_union_with_a_type_and_no_value_or_a_value_and_no_type_is_none():
    table = table_of("shapes", "Unions")
    payload = written_by(Builder, finished(generated("Unions").UnionsT()), 64)
    record = table.view(payload, verify=False)
    assert (record.must, record.must_type) == (None, 0)
    made = generated("Unions").UnionsT()
    made.mustType, made.must = 3, generated("Empty").EmptyT()
    payload = written_by(Builder, finished(made))
    vtable = (
        struct.unpack_from("<I", payload)[0]
        - struct.unpack_from("<i", payload, struct.unpack_from("<I", payload)[0])[0]
    )
    for field, expected in ((4, (0, None)), (5, (3, None))):
        record = table.view(changed(payload, (vtable + 4 + 2 * field, "H", 0)), verify=False)
        assert (record.must_type, record.must) == expected
        assert record.to_dict()["must"] is None


# Depth and size


def deep(depth: int) -> bytes:
    """Trees in vectors of one tree."""
    builder = flatbuffers.Builder(0)
    node = None
    for _ in range(depth):
        children = None
        if node is not None:
            builder.StartVector(4, 1, 4)
            builder.PrependUOffsetTRelative(node)
            children = builder.EndVector()
        builder.StartObject(5)
        if children is not None:
            builder.PrependUOffsetTRelativeSlot(3, children, 0)
        node = builder.EndObject()
    builder.Finish(node)
    return bytes(builder.Output())


@pytest.mark.parametrize("make", [chain, deep])
def test_message_as_deep_as_any_verifier_allows_is_read_and_no_deeper(make):
    table = table_of("shapes", "Tree")
    record = table.view(make(1000), verify=False)
    assert record == table.view(make(1000), verify=False)
    assert record.to_dict()
    record = table.view(make(1001), verify=False)
    for read in (record.to_dict, lambda: record == record):
        with pytest.raises(FlatbufferError, match="tables are nested deeper than the limit of 1000"):
            read()
    for _ in range(999):
        record = record.left or record.children[0]
    with pytest.raises(FlatbufferError, match="deeper"):
        _ = record.left or record.children[0]
    with pytest.raises(ValidationFailedError, match="tables are nested deeper than the limit of 64"):
        table.view(make(65))
    assert table.view(make(64)).to_dict()


def test_message_as_deep_as_any_verifier_allows_is_read_on_a_small_stack():
    """Half a mebibyte is what some systems give a thread."""
    code = f"""
import threading
table = Schema.from_file({str(HERE / "schemas" / "shapes.bfbs")!r}).table("shapes.Tree")
def work():
    for good, bad in MESSAGES:
        record = table.view(bytes.fromhex(good), verify=False)
        attempt(record.to_dict)
        attempt(lambda: record == record)
        attempt(repr, record)
        node = record
        while node.left is not None or node.children:
            node = node.left or node.children[0]
        del record
        del node
        record = table.view(bytes.fromhex(bad), verify=False)
        attempt(record.to_dict)
        attempt(lambda: record == record)
MESSAGES = {[(make(1000).hex(), make(1001).hex()) for make in (chain, deep)]!r}
threading.stack_size({512 << (13 if SANITIZED else 10)})
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    lines = survives(code)
    assert lines[:3] == lines[5:8] == ["no error dict", "no error bool", "no error str"]
    assert all(line.endswith(": tables are nested deeper than the limit of 1000") for line in lines[3:5] + lines[8:])
    assert len(lines) == 10


def test_few_bytes_that_stand_for_very_many_tables_are_an_error():
    record = table_of("shapes", "Tree").view(doubling(60), verify=False)
    for read in (record.to_dict, lambda: record == record):
        with pytest.raises(FlatbufferError, match="there are more tables than the limit of 1000000"):
            read()
    assert len(repr(record)) < 100


def test_few_bytes_that_stand_for_very_many_bytes_are_an_error():
    text, count = b"x" * (1 << 20), 3000
    offsets = struct.pack(f"<{count}I", *(4 * (count - i) for i in range(count)))
    payload = struct.pack("<I4H", 12, 6, 8, 0, 0)
    # A shapes.Vectors with the field `strings`, number 14.
    vtable = struct.pack("<2H15H", 34, 8, *[0] * 14, 4).ljust(36, b"\0")
    payload = struct.pack("<I", 40) + vtable + struct.pack("<iII", 36, 4, count) + offsets
    payload += struct.pack("<I", len(text)) + text + b"\0"
    record = table_of("shapes", "Vectors").view(payload, verify=False)
    assert record.strings[count - 1] == text.decode()
    with pytest.raises(FlatbufferError, match="more than the limit of 2147483648 bytes"):
        assert record == record
    with pytest.raises(ValidationFailedError, match="more than the limit of 2147483648 bytes"):
        table_of("shapes", "Vectors").view(payload)


@pytest.mark.long
def test_few_bytes_that_stand_for_very_many_elements_are_an_error():
    """Thousands of tables with the same vector of empty strings, which are all the same string."""
    tables, strings = 3000, 200_000
    # A Level4 at 16, its vector `added` at 24; the vtable of an Added; so many of these, and their vector `words`.
    vtable = 28 + 4 * tables
    first = vtable + 8
    words = first + 8 * tables
    payload = struct.pack("<I5H2xiII", 16, 10, 8, 0, 0, 4, 12, 4, tables)
    payload += b"".join(struct.pack("<I", first + 8 * i - (28 + 4 * i)) for i in range(tables))
    payload += struct.pack("<4H", 8, 8, 0, 4)
    payload += b"".join(struct.pack("<iI", first + 8 * i - vtable, words - (first + 8 * i + 4)) for i in range(tables))
    payload += struct.pack("<I", strings) + (4 * (strings - np.arange(strings))).astype("<u4").tobytes() + bytes(8)
    table = table_of("shapes_v2", "Level4")
    record = table.view(payload, verify=False)
    assert len(record.added) == tables
    assert record.added[tables - 1].words[strings - 1] == ""
    assert len(record.added[0].to_dict()["words"]) == strings
    with pytest.raises(FlatbufferError, match=r"^level4\.added\[\d+\]\.words: .* 2147483648 bytes"):
        assert record == record
    with pytest.raises(ValidationFailedError, match="2147483648 bytes"):
        table.view(payload)


def test_more_structs_than_there_may_be_tables_are_no_error():
    builder = Builder(1 << 21)
    pixels = builder.CreateByteVector(bytes(1_000_001))
    builder.StartObject(24)
    # A shapes.Pixel is one byte.
    builder.PrependUOffsetTRelativeSlot(15, pixels, 0)
    builder.Finish(builder.EndObject())
    record = table_of("shapes", "Vectors").view(builder)
    assert len(record.pixels) == 1_000_001
    assert record == table_of("shapes", "Vectors").view(bytes(builder.Output()))


def test_slice_that_answers_differently_each_time_stays_inside_of_its_vector():
    class Fickle:
        def __init__(self, *answers: int) -> None:
            self.answers = list(answers)

        def __index__(self) -> int:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    table = table_of("shapes", "Vectors")
    builder = Builder(64)
    table.encode(builder, points=[(1, 2), (3, 4), (5, 6)])
    points = table.view(builder).points
    for answers in ((10**7, 1), (1, 10**7), (2, 0), (0, 2)):
        for index in (slice(None, None, Fickle(*(answer or 1 for answer in answers))), slice(Fickle(*answers), None)):
            part = points[index]
            rows = part.to_numpy().tolist()
            assert set(rows) <= {(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)}
            assert [(point.x, point.y) for point in part] == rows


# Streams

PAYLOADS = [changed(NAMED, (28, "I", number)) for number in range(40)]


def stream_of(payloads: list[bytes], checksum: str = "none") -> bytes:
    return reference.encode(payloads, checksum)


NAMED_TABLE = table_of("shapes", "Named")


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("checksum", ["none", "crc32"])
@pytest.mark.parametrize("make", [bytes, bytearray, io.BytesIO, CutSource])
def test_reader_gives_every_message_as_a_record(make, checksum, verify):
    with StreamReader(make(stream_of(PAYLOADS, checksum)), checksum, capacity=200) as reader:
        records = reader.records(NAMED_TABLE, verify=verify)
        assert iter(records) is records
        assert [(record.code, record.name) for record in records] == [(i, "hello") for i in range(40)]
        assert reader.frames_read == 40
        assert next(records, None) is None


def test_records_that_are_kept_stay_as_they_are():
    """Among them parts of records, vectors and arrays, while the reader goes from chunk to chunk."""
    payloads = []
    for number in range(60):
        made = generated("Vectors").VectorsT()
        made.i64s, made.strings = [number, -number], [str(number)] * 3
        made.scalars = [generated("Scalars").ScalarsT()]
        made.scalars[0].i32 = number
        made.points = [generated("Point").PointT()]
        made.points[0].x = float(number)
        payloads.append(written_by(Builder, finished(made)))
    for make in (io.BytesIO, CutSource, bytes):
        with StreamReader(make(stream_of(payloads)), capacity=500) as reader:
            kept = []
            for number, record in enumerate(reader.records(table_of("shapes", "Vectors"))):
                what = (record, record.i64s, record.strings, record.scalars[0], record.points.to_numpy(), record.points)
                # Only one part of each message.
                kept.append(what[number % len(what)])
                del record, what
        gc.collect()
        for number, value in enumerate(kept):
            if isinstance(value, RecordView):
                assert number == (value.i64s[0] if value.__table__ == "shapes.Vectors" else value.i32)
            elif isinstance(value, np.ndarray):
                assert number == (value[0] if value.dtype == np.int64 else value["x"][0])
            else:
                assert value == ([str(number)] * 3) or value[0].x == number


def test_list_of_records_has_all_of_them():
    with StreamReader(io.BytesIO(stream_of(PAYLOADS)), capacity=300) as reader:
        records = list(reader.records(NAMED_TABLE))
    assert [record.code for record in records] == list(range(40))
    assert len({id(record) for record in records}) == 40


def test_iterator_goes_on_after_a_message_that_was_refused():
    payloads = list(PAYLOADS[:6])
    payloads[1] = changed(payloads[1], (32, "I", 17))
    payloads[3] = b"abc"
    payloads[4] = b""
    stream = stream_of(payloads)
    for verify in (True, False):
        reader = StreamReader(stream)
        records = reader.records(NAMED_TABLE, verify=verify)
        codes: list[Any] = []
        while True:
            try:
                record = next(records)
                codes.append(record.code)
                _ = record.name
            except StopIteration:
                break
            except (ValidationFailedError, FlatbufferError) as error:
                codes.append((error.frame, error.offset, str(error).count("stream offset"), type(error)))
        places = [sum(4 + len(payload) for payload in payloads[:number]) for number in range(6)]
        kind = ValidationFailedError if verify else FlatbufferError
        expected = [0, (1, places[1], 1, kind), 2, (3, places[3], 1, kind), (4, places[4], 1, kind), 5]
        if not verify:
            # The record is there; only its name is not.
            expected.insert(1, 1)
        assert codes == expected
        assert reader.frames_read == 6
    refused = refused_by(stream_of(payloads[1:2]))
    assert (refused.validator, refused.path) == ("shapes.Named", "named.name")
    assert refused.reason == "a vector at byte 36 needs 17 bytes, but the message ends at 52"


def refused_by(stream: bytes) -> ValidationFailedError:
    with StreamReader(stream) as reader, pytest.raises(ValidationFailedError) as caught:
        next(reader.records(NAMED_TABLE))
    return caught.value


def test_iterator_goes_on_after_a_checksum_that_is_wrong():
    stream = bytearray(stream_of(PAYLOADS[:4], "crc32"))
    stream[8 + 52 + 8 + 30] ^= 1
    records = StreamReader(stream, ChecksumType.CRC32).records(NAMED_TABLE)
    assert next(records).code == 0
    with pytest.raises(ChecksumMismatchError) as caught:
        next(records)
    assert caught.value.frame == 1
    assert [record.code for record in records] == [2, 3]
    stream = bytearray(stream_of(PAYLOADS[:3], "crc32"))
    stream[8 + 52 + 8 + 30] ^= 1
    stream[2 * 60 + 8 + 32] = 17
    stream[2 * 60 + 4 : 2 * 60 + 8] = reference.encode([bytes(stream[2 * 60 + 8 :])], "crc32")[4:8]
    records = StreamReader(stream, ChecksumType.CRC32).records(NAMED_TABLE)
    assert next(records).code == 0
    with pytest.raises(ChecksumMismatchError):
        next(records)
    # Frames that were refused count.
    with pytest.raises(ValidationFailedError) as refused:
        next(records)
    assert (refused.value.frame, refused.value.offset) == (2, 120)


@pytest.mark.parametrize(("verify", "kind"), [(True, ValidationFailedError), (False, FlatbufferError)])
def test_error_of_the_first_message_asks_for_the_checksum_and_the_schema(verify, kind):
    def notes_of(records: Iterator[Any]) -> list[str]:
        with pytest.raises(kind) as caught:
            next(records)
        return getattr(caught.value, "__notes__", [])

    first = ["nothing was read before it: was the stream written with another checksum, or with another schema?"]
    bad = b"\xff" * 12
    # The checksum was forgotten.
    assert notes_of(StreamReader(stream_of(PAYLOADS, "crc32")).records(NAMED_TABLE, verify=verify)) == first
    records = StreamReader(stream_of([bad, bad, PAYLOADS[0], bad])).records(NAMED_TABLE, verify=verify)
    assert notes_of(records) == first
    assert notes_of(records) == []
    assert next(records).code == 0
    assert notes_of(records) == []
    # What was refused came before it.
    stream = bytearray(stream_of([PAYLOADS[0], bad], "crc32"))
    stream[20] ^= 1
    records = StreamReader(stream, "crc32").records(NAMED_TABLE, verify=verify)
    with pytest.raises(ChecksumMismatchError):
        next(records)
    assert notes_of(records) == []
    # A message by itself has none.
    with pytest.raises(kind) as caught:
        NAMED_TABLE.view(bad, verify=verify)
    assert not hasattr(caught.value, "__notes__")


def test_records_and_other_ways_of_reading_take_turns():
    with StreamReader(stream_of(PAYLOADS)) as reader:
        records = reader.records(NAMED_TABLE)
        first = next(records)
        assert bytes(reader.read_message() or b"") == PAYLOADS[1]
        assert next(records).code == 2
        assert next(reader) == PAYLOADS[3]
        assert next(reader.records(NAMED_TABLE, verify=False)).code == 4
        assert len(reader.read_batch(3) or ()) == 3
        assert next(records).code == 8
        assert first.code == 0


def test_end_of_records_is_looked_at_again():
    source = io.BytesIO(stream_of(PAYLOADS[:1]))
    records = StreamReader(source).records(NAMED_TABLE)
    assert next(records).code == 0
    assert next(records, None) is None
    place = source.tell()
    source.write(stream_of(PAYLOADS[1:2]))
    source.seek(place)
    assert next(records).code == 1


def test_wrong_arguments_are_type_errors():
    schema, view = schema_of("shapes"), typing.cast(Any, NAMED_TABLE.view)
    with StreamReader(stream_of(PAYLOADS)) as reader:
        for table in (schema, None, "shapes.Named", 5):
            with pytest.raises(TypeError, match="table must be a Table of a schema"):
                reader.records(table)
        with pytest.raises(TypeError):
            reader.records(NAMED_TABLE, False)  # type: ignore[call-arg]
    for source in (b"", None, [NAMED], iter(())):
        with pytest.raises(TypeError, match="reader must be a StreamReader"):
            NAMED_TABLE.read_records(source)  # type: ignore[arg-type]
    for payload in ("abc", None, 5, [1, 2]):
        with pytest.raises(TypeError, match="payload must be a bytes-like object"):
            view(payload)
    with pytest.raises(BufferError, match="payload must be C-contiguous"):
        NAMED_TABLE.view(memoryview(NAMED)[::2])
    with pytest.raises(TypeError):
        view(NAMED, False)
    # Anything that can read records from a reader does.
    records: Any = flatstream.StreamReader(b"").records(Recorder())
    assert records == ("read", True)


class Recorder:
    def read_records(self, reader: Any, *, verify: bool) -> tuple[str, bool]:
        assert isinstance(reader, StreamReader)
        return "read", verify


def test_closed_reader_gives_no_records_and_leaves_those_that_it_gave():
    reader = StreamReader(io.BytesIO(stream_of(PAYLOADS)))
    records = reader.records(NAMED_TABLE)
    first = next(records)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        next(records)
    assert first.to_dict() == {"name": "hello", "note": "é", "code": 0}


@switching
def test_threads_that_share_an_iterator_get_every_record_once():
    payloads = [changed(NAMED, (28, "I", number)) for number in range(4000)]
    reader = StreamReader(io.BytesIO(stream_of(payloads)), capacity=1000)
    records = reader.records(NAMED_TABLE)
    found: list[list[int]] = [[], [], []]

    def work(codes: list[int]) -> None:
        for record in records:
            code = record.code
            assert record.name == "hello"
            assert record.code == code
            codes.append(code)

    run_threads(*(functools.partial(work, codes) for codes in found))
    assert sorted(itertools.chain(*found)) == list(range(4000))


# Who keeps what alive

HOLDERS: dict[str, Callable[[Any], Any]] = {
    "record": lambda record: record,
    "table": lambda record: record.scalars[0],
    "struct": lambda record: record.points[1],
    "vector": lambda record: record.strings,
    "slice": lambda record: record.strings[1:],
    "array": lambda record: record.i64s,
    "part of an array": lambda record: record.i64s[1:],
    "structs": lambda record: record.points.to_numpy()["x"],
    "iterator": lambda record: iter(record.strings),
    "method": lambda record: record.to_dict,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_whatever_is_kept_of_a_message_keeps_its_memory(name):
    table = table_of("shapes", "Vectors")
    memory = bytearray(messages_of("shapes")[0])
    whole = table_of("shapes").view(memory)
    payload = memoryview(memory)
    record = table_of("shapes").view(payload).vectors
    assert record.__table__ == table.name
    # A caller may release what it gave.
    payload.release()
    held = HOLDERS[name](record)
    text = str(held) if name not in ("iterator", "method") else ""
    del record, whole
    gc.collect()
    with pytest.raises(BufferError):
        memory.append(0)
    if text:
        assert str(held) == text
    del held
    gc.collect()
    memory.append(0)


def test_closed_mapping_is_refused_while_a_record_lives(tmp_path):
    path = tmp_path / "message"
    path.write_bytes(NAMED)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        record = NAMED_TABLE.view(mapping)
        with pytest.raises(BufferError):
            mapping.close()
        assert record.name == "hello"
        del record


@pytest.mark.parametrize(
    "make",
    [
        bytes, bytearray, memoryview, lambda data: array.array("B", data), lambda data: np.frombuffer(data, np.uint8),
        lambda data: memoryview(bytearray(data)).toreadonly(), lambda data: np.frombuffer(data, "<u4"),
    ],
)  # fmt: skip
def test_payload_may_be_any_memory(make):
    record = NAMED_TABLE.view(make(NAMED))
    assert record.to_dict() == {"name": "hello", "note": "é", "code": 7}


def test_message_of_a_builder_is_read_where_it_is():
    builder = Builder(64)
    made = generated("Named").NamedT()
    made.name = "built"
    builder.Finish(made.Pack(builder))
    record = NAMED_TABLE.view(builder)
    builder.Clear()
    builder.CreateString("y" * 500)
    assert record.name == "built"


def test_buffer_that_changes_after_it_was_verified_does_no_harm():
    memory = bytearray(messages_of("shapes")[0])
    record = table_of("shapes").view(memory)
    rng = random.Random(1)
    errors = 0
    for _ in range(300):
        memory[rng.randrange(len(memory))] = rng.randrange(256)
        try:
            record.to_dict()
            _ = record.title, record.vectors.strings, record.choice
        except FlatbufferError:
            errors += 1
    assert errors


def test_cycles_through_the_payload_are_collected():
    class Memory(bytearray):
        pass

    for keep in (lambda record: record, lambda record: record.strings, lambda record: iter(record.strings)):
        memory = Memory(EXTREMES)
        memory.kept = keep(table_of("shapes", "Vectors").view(memory))  # type: ignore[attr-defined]
        found = [each for each in gc.get_objects() if type(each) is Memory]
        assert len(found) == 1
        del found, memory
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Memory]


def cycle(folder: Path) -> None:
    table: Any = table_of("shapes")
    record: Any = None
    payloads = [*messages_of("shapes"), messages_of("shapes")[0][:-30], b""]
    for verify in (True, False):
        records = StreamReader(io.BytesIO(stream_of(payloads)), capacity=3000).records(table, verify=verify)
        while True:
            try:
                record = next(records, None)
                if record is None:
                    break
                record.to_dict(enums="name")
                repr(record)
                dir(record)
                assert record == record
                _ = record.vectors and (
                    record.vectors.i64s,
                    record.vectors.points.to_numpy(),
                    record.vectors.strings[::-1],
                )
            except (FlatbufferError, ValidationFailedError):
                continue
    for wrong in (
        lambda: record.nothing,
        lambda: table.view("x"),
        lambda: view_message(RecordTypes(table.layout), 99, b"", True),
    ):
        with pytest.raises((AttributeError, TypeError, ValueError)):
            wrong()
    schema = Schema.from_file(HERE / "schemas" / "unions.bfbs")
    assert schema.root
    assert schema.root.view(union_messages()[0]).things[0] == "ok"


def test_nothing_is_left_over(tmp_path):
    grown = growth(cycle, tmp_path, sys.getallocatedblocks, 10)
    # One block in a cycle would be 10 in every round.
    assert min(grown) < 5, grown


def test_steady_state_makes_no_chunks(tmp_path):
    """A loop over records swaps between two chunks, as one over payloads does."""
    with StreamReader(io.BytesIO(stream_of(PAYLOADS * 50)), capacity=1000) as reader:
        owners = set()
        for record in reader.records(NAMED_TABLE):
            owners |= {id(found) for found in chunks_of(record)}
        assert 1 <= len(owners) <= 2


def chunks_of(record: Any) -> Iterator[Any]:
    for found in gc.get_referents(record):
        if isinstance(found, memoryview):
            yield found.obj


# Objects that were not made


def test_objects_that_were_not_made_survive_being_used():
    code = f"""
from flatstream._core.records.record_view import *
from flatstream._core.records import field_lookup, message_arrays, record_iterator, record_view
from flatstream._core.flatbuf.layout import Layout
NAMED = bytes.fromhex({NAMED.hex()!r})
table = Schema.from_file({str(HERE / "schemas" / "shapes.bfbs")!r}).table("shapes.Named")
good = table.view(NAMED)
classes = [
    RecordView, record_view.VectorView, record_iterator.RecordIterator, field_lookup.RecordTypes,
    message_arrays.ArrayMemory, message_arrays.ArrayTypes, Layout,
]
things = [cls.__new__(cls) for cls in classes]
import copy, operator, pickle
for thing in things:
    for name in dir(type(thing)):
        if name in ("__class__", "__init_subclass__", "__subclasshook__"):
            continue
        try:
            member = getattr(thing, name)
        except Exception:
            continue
        for arguments in (
            (), (0,), ("name",), (slice(1),), (good,), (thing,), (b"abc",), (0, NAMED, True), (0, StreamReader(b""), 1)
        ):
            try:
                member(*arguments)
            except Exception:
                pass
    for use in (
        repr, str, list, len, iter, next, hash, bool, memoryview, bytes, dir, copy.copy, copy.deepcopy, pickle.dumps
    ):
        try:
            use(thing)
        except Exception:
            pass
    for other in (good, thing, [], 5):
        for compare in (operator.eq, operator.ne, operator.lt, operator.contains):
            for pair in ((thing, other), (other, thing)):
                try:
                    compare(*pair)
                except Exception:
                    pass
    attempt(type(thing).__init__, thing)
attempt(field_lookup.RecordTypes, Layout.__new__(Layout))
attempt(field_lookup.RecordTypes, None)
types = field_lookup.RecordTypes(table.layout)
attempt(types.__init__, table.layout)
for number in (-1, 10**9, 2**70, None, "1", 1.5):
    attempt(record_iterator.view_message, types, number, NAMED, True)
    attempt(record_iterator.iterate_records, types, number, StreamReader(b""), True)
half = field_lookup.RecordTypes.__new__(field_lookup.RecordTypes)
attempt(record_iterator.view_message, half, 0, NAMED, True)
attempt(record_iterator.iterate_records, half, 0, StreamReader(b""), True)
attempt(record_iterator.view_message, None, 0, NAMED, True)
attempt(good.__init__)
print(good.code)
"""
    lines = survives(code)
    assert lines[-1] == "7"
    assert not [line for line in lines[:-1] if line.startswith("no error")], lines


def test_types_to_annotate_with_are_exported():
    assert flatstream.schema.__all__ == ["RecordView", "Schema", "Table", "VectorView"]
    assert flatstream.schema.VectorView is VectorView
    assert isinstance(NAMED_TABLE.view(NAMED), flatstream.schema.RecordView)
    assert importlib.import_module("flatstream.columns").__all__ == [
        "Column",
        "ColumnBatch",
        "ColumnSchema",
        "ColumnStream",
    ]


def test_struct_is_no_message():
    types = RecordTypes(table_of("shapes").layout)
    point = schema_of("shapes").numbers["shapes.Point"]
    with pytest.raises(ValueError, match="is a struct, not a table"):
        view_message(types, point, NAMED, True)


def test_record_view_is_exported_and_imported_only_when_asked_for():
    """What else an import brings in, test_structure.py says."""
    code = """
names = ("flatstream._core.records.record_view", "flatstream.schema", "numpy")
print([name in sys.modules for name in names])
print(RecordView.__name__, [name in sys.modules for name in names])
"""
    done = run_python(f"import sys, flatstream{code.replace('RecordView', 'flatstream.RecordView')}")
    assert done.stdout.splitlines() == ["[False, False, False]", "RecordView [True, True, False]"], done.stderr

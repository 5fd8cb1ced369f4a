"""Records out: a record says of a message what generated code says of it, value for value.

Two readers stand beside the records. One calls the accessors that flatc generated; the other, for schemas without
generated code, calls the functions of the package ``flatbuffers`` that such code is made of. A record is read twice as
well: attribute by attribute, through its views and arrays, and with ``to_dict``. Messages are of every shape in
``data/schemas/``, random ones included. Damaged messages are in test_records_out_damage.py, records of a stream in
test_record_iterator.py.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import struct
import sys
from array import array
from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers.table import Table as RawTable
from hypothesis import given
from hypothesis import strategies as st

from flatstream import (
    Builder,
    FlatbufferError,
    RecordView,
    Schema,
    ValidationFailedError,
)
from flatstream._core.records.message_arrays import ArrayMemory, ArrayTypes
from flatstream._core.records.record_iterator import RecordIterator
from flatstream._core.records.record_view import VectorView
from flatstream.schema import Table
from flatstream.schema._reflection import BaseType, ObjectInfo
from support.extent import in_one_test
from support.messages import (
    FUZZED,
    NAMED,
    changed,
    finished,
    messages_of,
    telemetry_messages,
    union_messages,
    written_by,
)
from support.record_views import EXTREMES, by_description, bytes_as_lists, difference, table_of
from support.schemas import SCHEMAS, generated, schema_of
from support.strategies import (
    defaults,
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
)

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


def check_against_description(table: Table, payload: bytes) -> dict[str, Any]:
    values = read_both_ways(table.view(payload))
    root = RawTable(payload, struct.unpack_from("<I", payload)[0])
    assert difference(bytes_as_lists(values), by_description(table.schema, table.number, root)) == ""
    assert table.view(payload) == table.view(payload)
    return values


# Messages of every shape


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


@in_one_test
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


@in_one_test
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
        with pytest.raises(TypeError, match=r"expected the name of a field, got .*; to_dict\(\) gives all fields"):
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


def test_without_numpy_vectors_of_numbers_are_plain_arrays(monkeypatch):
    expected = table_of("shapes", "Vectors").view(EXTREMES)
    truths = expected.truths.tolist()
    monkeypatch.setitem(sys.modules, "numpy", None)
    table = Schema.from_file(SCHEMAS / "shapes.bfbs").table("shapes.Vectors")
    record = table.view(EXTREMES)
    for name in ("i8s", "u8s", "i16s", "u16s", "i32s", "u32s", "i64s", "u64s", "f32s", "f64s", "colors", "overaligned"):
        if expected[name] is not None:
            numbers = record[name]
            assert type(numbers) is array
            assert numbers.itemsize == expected[name].itemsize
            assert numbers.tobytes() == expected[name].tobytes()
    assert record.truths == truths
    with pytest.raises(ImportError, match=r"to_numpy\(\) needs NumPy, which cannot be imported: install it"):
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
    again = Schema.from_file(SCHEMAS / "shapes.bfbs").table("shapes.Named")
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

"""Records in: what a `RecordWriter` or `Table.encode` builds is read back by generated code, value for value.

The records come as everything a record can be. The messages are compared with those that flatc's own object API packs:
both are unpacked by generated code, and must give the same values, to the bit where they are floats.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import enum
import io
import sqlite3
import struct
import types
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import flatbuffers
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import (
    Builder,
    RecordWriter,
    Schema,
    StreamReader,
    StreamWriter,
)
from flatstream._core.records.record_fields import generated_names
from support import strategies
from support.bad_input import shown
from support.extent import in_one_test
from support.messages import root_at
from support.records import NamedData, encoded, slots_of, table_of, written
from support.schemas import SHAPES, SHAPES_V2, generated


def listed(*values: Any) -> tuple[Any, ...]:
    """Values of all kinds, of which a type checker is to know nothing."""
    return values


def bits(value: float) -> Any:
    return ("float", struct.pack("<d", value)) if value == value else "NaN"


def plain(value: Any) -> Any:
    """What an object of the object API holds, so that it can be compared: floats by their bytes, text as str."""
    if isinstance(value, (bytes, bytearray)):
        return value.decode()
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return bits(float(value))
    if isinstance(value, (int, np.integer)):
        return int(value)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    return type(value).__name__, {name: plain(item) for name, item in vars(value).items()}


def unpacked(name: str, message: bytes, package: str = "shapes") -> Any:
    """What generated code reads in a message."""
    cls = getattr(generated(name, package), f"{name}T")
    return plain(cls.InitFromBuf(message, root_at(message)))


def packed(made: Any) -> bytes:
    """The message of an object of the object API, from the `flatbuffers` package."""
    builder = flatbuffers.Builder(64)
    builder.Finish(made.Pack(builder))
    return bytes(builder.Output())


def as_mapping(made: Any, schema: Schema = SHAPES) -> Any:
    """An object of the object API as nested dictionaries under the schema's own names."""
    if isinstance(made, list):
        return [as_mapping(item, schema) for item in made]
    if not type(made).__module__.startswith("shapes"):
        return made
    names = {}
    for info in schema._info.objects:
        if info.name == f"{type(made).__module__.split('.')[0]}.{type(made).__name__[:-1]}":
            names = {generated_names(field.name)[0]: field.name for field in info.fields}
    assert names or not vars(made), made
    return {names[name]: as_mapping(value, schema) for name, value in vars(made).items()}


STRATEGIES = {
    "Scalars": strategies.scalars,
    "Defaults": strategies.defaults,
    "Optionals": strategies.optionals,
    "Vectors": strategies.vectors,
    "Structs": strategies.structs,
    "Named": strategies.nameds,
    "Level1": strategies.level1s,
    "Tree": strategies.trees,
    "Numbered": strategies.numbereds,
    "Old": strategies.olds,
    "Unions": strategies.unions,
    "Holder": strategies.holders,
    "Empty": strategies.empties,
    "Shape": strategies.shapes,
}


@pytest.mark.parametrize("name", STRATEGIES)
@given(st.data())
def test_random_record_in_generated_code_out(name, data):
    made = data.draw(STRATEGIES[name])
    table = table_of(name)
    message = encoded(table, made)
    expected = unpacked(name, packed(made))
    # flatc's builders leave out -0.0 where 0.0 is the default; here it is kept.
    assert str(unpacked(name, message)).replace(str(bits(-0.0)), str(bits(0.0))) == str(expected).replace(
        str(bits(-0.0)), str(bits(0.0))
    )
    mapping = as_mapping(made)
    assert encoded(table, mapping) == message
    assert encoded(table, Reading(mapping)) == message
    assert encoded(table, types.SimpleNamespace(**mapping) if mapping else mapping) == message
    values = tuple(mapping.get(name) for name in table.layout.numbers[table.number])
    assert encoded(table, values) == encoded(table, list(values)) == message
    assert written(table, lambda records: records.write(**mapping)) == [message]
    assert written(table, lambda records: records.write_record(made)) == [message]
    assert written(table, lambda records: records.write_records([made, mapping, values])) == [message] * 3


class Reading(Mapping[str, Any]):
    """A mapping that is no dict."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values_ = values

    def __getitem__(self, name: str) -> Any:
        return self.values_[name]

    def __iter__(self) -> Any:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


@given(strategies.shapes)
def test_record_of_the_earlier_schema_is_one_of_the_later(shape):
    """A record goes in by either version of the schema, and comes out by the code of either."""
    mapping = as_mapping(shape)
    message = encoded(SHAPES_V2.table("shapes_v2.Shape"), mapping)
    assert SHAPES.root is not None
    assert SHAPES.root.types.verify(SHAPES.root.number, message) is None
    assert unpacked("Shape", message) == unpacked("Shape", encoded(table_of("Shape"), mapping))


def test_record_of_the_later_schema_is_read_by_the_earlier():
    message = encoded(
        SHAPES_V2.table("shapes_v2.Named"),
        {"name": "n", "code": 7, "tags": ["a", "ü"], "added": {"point": (1, 2), "words": ["w"], "size": 13}},
    )
    earlier = generated("Named").Named.GetRootAs(message, 0)
    assert (earlier.Name(), earlier.Note(), earlier.Code()) == (b"n", None, 7)
    later = generated("Named", "shapes_v2").Named.GetRootAs(message, 0)
    assert [later.Tags(i) for i in range(later.TagsLength())] == [b"a", "ü".encode()]
    assert (later.Added().Point().Y(), later.Added().Words(0), later.Added().Size()) == (2.0, b"w", 13)


# What a record can be


class NamedSlots:
    __slots__ = ("code", "name")

    def __init__(self) -> None:
        self.name, self.code = "n", 5


class NamedProperties:
    other = 1

    @property
    def name(self) -> str:
        return "n"

    @property
    def code(self) -> int:
        return 5


class Keyed:
    """As little as dict() takes."""

    def keys(self) -> list[str]:
        return ["name", "code"]

    def __getitem__(self, name: str) -> Any:
        return {"name": "n", "code": 5}[name]


def sqlite_row() -> Any:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute("select 5 as code, 'n' as name").fetchone()
    finally:
        connection.close()


SizedTuple = collections.namedtuple("SizedTuple", ["name", "size"])
NamedTuple = collections.namedtuple("NamedTuple", ["code", "name"])
NAMED_RECORDS = {
    "dict": {"name": "n", "code": 5},
    "mapping": Reading({"code": 5, "name": "n"}),
    "mapping proxy": types.MappingProxyType({"code": 5, "name": "n"}),
    "ordered": collections.OrderedDict(code=5, name="n"),
    "tuple": ("n", None, 5),
    "list": ["n", None, 5],
    "named tuple": NamedTuple(5, "n"),
    "data class": NamedData("n", code=5),
    "slots": NamedSlots(),
    "properties": NamedProperties(),
    "namespace": types.SimpleNamespace(name="n", code=5, something="else"),
    "structured array": np.array([("n", 5)], [("name", "U4"), ("code", "u4")])[0],
    "sqlite row": sqlite_row(),
    "keys": Keyed(),
    "names of None": {"name": "n", "note": None, "code": 5},
}


@in_one_test
@pytest.mark.parametrize("record", NAMED_RECORDS.values(), ids=NAMED_RECORDS)
def test_whatever_a_record_is_gives_the_same_message(record):
    table = table_of("Named")
    expected = encoded(table, {"name": "n", "code": 5})
    assert encoded(table, record) == expected
    assert written(table, lambda records: records.write_record(record)) == [expected]
    # And as a part of another.
    assert encoded(table_of("Vectors"), {"named": [record, record]}) == encoded(
        table_of("Vectors"), {"named": [{"name": "n", "code": 5}] * 2}
    )
    read = generated("Named").Named.GetRootAs(expected, 0)
    assert (read.Name(), read.Code()) == (b"n", 5)


@in_one_test
@pytest.mark.parametrize(
    "record",
    [5, 1.5, "abc", b"abc", None, {1, 2}, NamedData, object(), 1j, memoryview(b"a"), np.float32(1), len, lambda: 0],
    ids=lambda record: type(record).__name__,
)
def test_what_is_no_record_is_refused(record):
    table = table_of("Named")
    with pytest.raises(TypeError, match="expected a record"):
        written(table, lambda records: records.write_record(record))
    with pytest.raises(TypeError, match=r"^row 1: expected a record"):
        written(table, lambda records: records.write_records([("n",), record]))
    if record is not None:
        with pytest.raises(
            TypeError, match=r"^named: expected a record of shapes\.Named|^named: expected a record with"
        ):
            encoded(table_of("Shape"), {"named": record})


def test_list_of_records_is_not_one_record():
    with pytest.raises(TypeError, match=r"got a list of records: use write_records\(\) for several records$"):
        written(table_of("Scalars"), lambda records: records.write_record([{"truth": True}]))
    with pytest.raises(TypeError, match=r"^level: expected the values of one shapes\.Level1, got a tuple of records"):
        encoded(table_of("Shape"), {"level": ({"value": 1}, {"value": 2})})
    # A first field that takes a record is one.
    assert encoded(table_of("Level3"), [None, {"value": 1.5}]) == encoded(table_of("Level3"), {"next": {"value": 1.5}})
    assert encoded(table_of("Shape"), [{"i8": 1}]) == encoded(table_of("Shape"), {"scalars": {"i8": 1}})


@in_one_test
@pytest.mark.parametrize(
    "records", [5, None, "abc", b"abc", {"name": "n"}, NamedData("n")], ids=lambda records: type(records).__name__
)
def test_what_are_no_records_is_refused(records):
    with pytest.raises(TypeError, match="records must be an iterable of records"):
        written(table_of("Named"), lambda writer: writer.write_records(records))


def test_columns_are_not_taken_for_records():
    for columns in (pa.table({"name": ["a"]}), table_of("Named").read_columns(StreamReader(b""))):
        with pytest.raises(TypeError, match=r"use write_columns\(\) for columns$"):
            written(table_of("Named"), lambda records: records.write_records(columns))  # noqa: B023


def test_records_may_come_from_anything_that_can_be_iterated_over_and_are_counted():
    table = table_of("Named")

    def write(records: RecordWriter) -> None:
        assert records.write_records(iter([("a",), ("b",)])) == 2
        assert records.write_records({"name": name} for name in "cde") == 3
        assert records.write_records([]) == 0
        assert records.write_records(np.array([("f", 1)], [("name", "U1"), ("code", "i4")])) == 1

    names = [generated("Named").Named.GetRootAs(m, 0).Name() for m in written(table, write)]
    assert b"".join(names) == b"abcdef"


# Numbers

INTEGERS = {
    "i8": (-(2**7), 2**7 - 1), "u8": (0, 2**8 - 1), "i16": (-(2**15), 2**15 - 1), "u16": (0, 2**16 - 1),
    "i32": (-(2**31), 2**31 - 1), "u32": (0, 2**32 - 1), "i64": (-(2**63), 2**63 - 1), "u64": (0, 2**64 - 1),
    "color": (-(2**7), 2**7 - 1), "access": (0, 255), "wide": (0, 2**64 - 1), "far": (-(2**63), 2**63 - 1),
}  # fmt: skip
GETTERS = {name: name[0].upper() + name[1:] for name in INTEGERS}


class Whole:
    """Has an index and is no int."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Number(enum.IntEnum):
    ONE = 1


class Shade(enum.Enum):
    DARK = 5


class Sub(int):
    pass


@in_one_test
@pytest.mark.parametrize("name", INTEGERS)
def test_every_integer_up_to_its_limits_and_not_beyond(name):
    least, most = INTEGERS[name]
    table = table_of("Scalars")
    accepted: list[Any] = [least, most, 0, 1, Whole(most), Sub(most), Number.ONE, True, least + 1, most - 1]
    if name in ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"):
        kind = np.dtype(("uint" if name[0] == "u" else "int") + name[1:])
        accepted += [kind.type(most), kind.type(least), np.array(most, kind)]
    for value in accepted:
        fields = {name: value}
        for message in (encoded(table, fields), *written(table, lambda records: records.write(**fields))):  # noqa: B023
            read = getattr(generated("Scalars").Scalars.GetRootAs(message, 0), GETTERS[name])()
            assert read == int(value)
    for value in listed(least - 1, most + 1, 10**30, -(10**30), Whole(most + 1), Sub(least - 1)):
        fields = {name: value}
        match = rf"^{name}: expected an? \w+, {least} to {most}, got {int(value)}$"
        with pytest.raises(ValueError, match=match):
            written(table, lambda records: records.write(**fields))  # noqa: B023
        with pytest.raises(ValueError, match=match):
            written(table, lambda records: records.write_record(fields))  # noqa: B023
    for value in (1.0, "1.0", b"1", Decimal(1), Fraction(1), 1j, {1: 1}, np.float64(1), np.array([1, 2])):
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected (an? |names of )"):
            encoded(table, {name: value})


@in_one_test
@pytest.mark.parametrize("name", ["i8s", "u8s", "i16s", "u16s", "i32s", "u32s", "i64s", "u64s"])
@pytest.mark.parametrize("kind", [list, tuple, "array", "object array", "series"])
def test_integers_of_a_vector_up_to_their_limits_and_not_beyond(name, kind):
    least, most = INTEGERS[name[:-1]]
    table = table_of("Vectors")

    def made(values: list[int]) -> Any:
        if kind == "array":
            # Wider than the field, so that every element has to be looked at.
            return np.array(values, "u8" if most > 2**63 else "i8")
        if kind == "object array":
            return np.array(values, object)
        if kind == "series":
            return Series(values)
        return kind(values)

    read = generated("Vectors").Vectors.GetRootAs(encoded(table, {name: made([least, most, 0])}), 0)
    getter = name[0].upper() + name[1:]
    assert [getattr(read, getter)(i) for i in range(3)] == [least, most, 0]
    for wrong in (least - 1, most + 1):
        if kind == "array" and (wrong > 2**63 - 1 or wrong < -(2**63) or (wrong < 0 and most > 2**63)):
            continue
        with pytest.raises(ValueError, match=rf"^{name}\[1\]: expected an? \w+, {least} to {most}, got {wrong}$"):
            encoded(table, {name: made([0, wrong])})


class Series:
    """What a Series of pandas or polars is: no buffer, and an array for NumPy."""

    def __init__(self, values: list[int]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(self.values, object)


FLOAT_VALUES = [0.0, -0.0, 1.5, float("inf"), float("-inf"), float("nan"), 3.4028234663852886e38, 1e-45, 5, True,
                np.float32(2.5), np.float16(2.5), np.int8(3), Decimal("1.5"), Fraction(1, 2)]  # fmt: skip


@in_one_test
@pytest.mark.parametrize("value", FLOAT_VALUES, ids=repr)
def test_floats_are_kept_to_the_bit(value):
    read = generated("Scalars").Scalars.GetRootAs(encoded(table_of("Scalars"), {"f32": value, "f64": value}), 0)
    assert bits(read.F64()) == bits(float(value))
    narrow = struct.unpack("<f", struct.pack("<f", float(value)))[0]
    assert bits(read.F32()) == bits(narrow)
    vector = generated("Vectors").Vectors.GetRootAs(
        encoded(table_of("Vectors"), {"f32s": [value], "f64s": (value,)}), 0
    )
    assert bits(vector.F64s(0)) == bits(float(value))
    assert bits(vector.F32s(0)) == bits(narrow)


def test_float_that_is_too_large_is_refused_and_not_made_infinite():
    for name, values in (("f32", [3.5e38, -1e300, 10**39]), ("f64", [10**400])):
        for value in values:
            with pytest.raises(ValueError, match=rf"^{name}: expected a \w+, a number of at most [\d.e+]+, got -?\d"):
                encoded(table_of("Scalars"), {name: value})
    with pytest.raises(ValueError, match=r"^f32s\[1\]: expected a float, a number of at most"):
        encoded(table_of("Vectors"), {"f32s": np.array([1.0, 1e39])})
    for value in listed("1.5", b"1.5", 1j, [1.0], object()):
        with pytest.raises(TypeError, match=r"^f64: expected a double, got "):
            encoded(table_of("Scalars"), {"f64": value})


def test_bools_are_false_or_true_or_0_or_1():
    for value in (True, 1, np.True_, np.bool_(1), np.int8(1), Whole(1)):
        message = encoded(table_of("Scalars"), {"truth": value})
        assert generated("Scalars").Scalars.GetRootAs(message, 0).Truth() is True
    for value in listed(2, -1, 1.0, "true", np.array([True]), b"1"):
        with pytest.raises((TypeError, ValueError), match=r"^truth: expected a bool"):
            encoded(table_of("Scalars"), {"truth": value})
    odd = np.frombuffer(b"\x00\x01\x02\xff", np.bool_)
    read = generated("Vectors").Vectors.GetRootAs(encoded(table_of("Vectors"), {"truths": odd}), 0)
    # Any byte but 0 is true to NumPy, and is written as the 1 that it means.
    assert read.TruthsAsNumpy().view("u1").tolist() == [0, 1, 1, 1]


def test_times_are_refused_with_a_word_on_units():
    for value in (
        datetime.datetime(2026, 1, 1),
        datetime.date(2026, 1, 1),
        np.datetime64("2026-01-01"),
        np.timedelta64(1, "s"),
    ):
        for name in ("i64", "f64"):
            with pytest.raises(TypeError, match=r"; a time goes in as an integer, in the unit that the field has$"):
                encoded(table_of("Scalars"), {name: value})


# Enums


def test_enums_are_taken_by_name_or_number():
    def read(**fields: Any) -> Any:
        return generated("Scalars").Scalars.GetRootAs(encoded(table_of("Scalars"), fields), 0)

    assert read(color="Red").Color() == -2
    assert read(color="Blue").Color() == read(color=5).Color() == 5
    assert read(color=77).Color() == read(color="77").Color() == 77
    assert read(color="-3").Color() == -3
    assert read(access="200").Access() == 200
    with pytest.raises(ValueError, match=r"^color: expected a byte, -128 to 127, got 300$"):
        read(color="300")
    assert read(far="Lowest").Far() == -(2**63)
    assert read(wide="Last").Wide() == 2**63
    assert read(access="Admin").Access() == 128
    assert read(access="Read Admin").Access() == read(access="Read|Admin").Access() == 129
    assert read(wide="First Middle Last").Wide() == 1 + 2**32 + 2**63
    assert read(access="").Access() == 0
    for flags in (["Read", "Admin"], ("Admin", "Read"), {"Read", "Admin"}, ["Read", 128], [129]):
        assert read(access=flags).Access() == 129
    assert read(access=[]).Access() == 0
    vectors = generated("Vectors").Vectors.GetRootAs(
        encoded(table_of("Vectors"), {"colors": ["Red", 5, "Green"], "accesses": ("Read Write",)}), 0
    )
    assert [vectors.Colors(i) for i in range(3)] == [-2, 5, 0]
    assert vectors.Accesses(0) == 3
    for name, value in (
        ("color", "Mauve"),
        ("color", "Red Blue"),
        ("access", "Read Mauve"),
        ("color", ""),
        ("color", "5.0"),
        ("color", "--5"),
    ):
        with pytest.raises(
            ValueError, match=rf"^{name}: expected (an enumerator|names) of shapes\.\w+ \(.*\).*, got '{value}'"
        ):
            read(**{name: value})
    with pytest.raises(
        TypeError, match=r"^color: expected a byte or a name of shapes\.Color \(Red, Green, Blue\), got Shade"
    ):
        read(color=Shade.DARK)
    with pytest.raises(ValueError, match=r"^access: expected names of shapes\.Access .* with spaces .*, got 'Rd'"):
        read(access=["Read", "Rd"])
    with pytest.raises(TypeError, match=r"^color: expected a byte or a name"):
        read(color=["Red"])
    with pytest.raises(TypeError, match=r"^i32: expected an int, got str: 'Red'"):
        read(i32="Red")
    with pytest.raises(ValueError, match=r"^colors\[1\]: expected an enumerator of shapes\.Color"):
        encoded(table_of("Vectors"), {"colors": ["Red", "Mauve"]})


# Absent, default, required, optional, deprecated


def test_defaults_are_left_out_unless_they_are_forced():
    fields = {
        "truth": True, "i8": -128, "u8": 255, "i16": -32768, "u16": 65535, "i32": -(2**31), "u32": 2**32 - 1,
        "i64": -(2**63), "u64": 2**64 - 1, "f32": 0.5, "f64": -1.25e100, "color": "Blue", "weekday": "Sunday",
        "access": "Read Admin", "far": "Highest",
    }  # fmt: skip
    table = table_of("Defaults")
    # The schema does not know the default of u64: it is no signed number.
    assert table.schema._info.objects[table.number].fields[8].default_integer == 0
    assert slots_of(encoded(table, fields)) == 1
    assert slots_of(encoded(table, {**fields, "u64": None})) == 0
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        records = RecordWriter(writer, table, force_defaults=True)
        records.write(**fields)
        records.write_record(fields)
        records.write()
    forced = [bytes(payload) for payload in StreamReader(sink.getvalue())]
    assert [slots_of(message) for message in forced] == [15, 15, 0]
    assert unpacked("Defaults", forced[0]) == unpacked("Defaults", encoded(table, {}))
    # What is 0 is no default here.
    zeros = dict.fromkeys(fields, 0)
    assert slots_of(encoded(table, zeros)) == 15


def test_optional_scalars_are_absent_or_there_even_if_they_are_0():
    table = table_of("Optionals")
    fields = dict.fromkeys(table.field_names, 0)
    read = generated("Optionals").Optionals
    assert all(value is None for value in vars_of(read.GetRootAs(encoded(table, {}), 0)))
    assert slots_of(encoded(table, fields)) == len(fields)
    assert all(value is not None for value in vars_of(read.GetRootAs(encoded(table, fields), 0)))
    assert written(table, lambda records: records.write(**fields)) == [encoded(table, fields)]
    assert written(table, lambda records: records.write(**dict.fromkeys(fields))) == [encoded(table, {})]


def vars_of(read: Any) -> list[Any]:
    return [
        getattr(read, name)()
        for name in ("Truth", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "F32", "F64", "Color", "Access")
    ]


REQUIRED = [
    ("Named", {}, "name"),
    ("Named", {"name": None, "code": 3}, "name"),
    ("Structs", {"point": (1, 2)}, "point_required"),
    ("Unions", {"choice": ("Empty", {})}, "must"),
    ("Unions", {"must_type": 0}, "must"),
    ("Shape", {"named": {"code": 3}}, "named.name"),
    ("Vectors", {"named": [("a",), {"note": "x"}]}, r"named\[1\]\.name"),
    ("Tree", {"children": [(1,), {"left": {"children": [[], 5]}}]}, None),
    ("Shape", {"choice": ("Named", {"code": 1})}, r"choice\.name"),
]


@in_one_test
@pytest.mark.parametrize(("name", "record", "path"), REQUIRED)
def test_required_field_that_is_missing_is_told_with_its_path(name, record, path):
    if path is None:
        with pytest.raises(TypeError, match=r"^children\[1\]\.left\.children\[1\]: expected a record of shapes\.Tree"):
            encoded(table_of(name), record)
        return
    with pytest.raises(ValueError, match=rf"^{path}: a required field is missing$"):
        encoded(table_of(name), record)
    with pytest.raises(ValueError, match=rf"^row 0, {path}: a required field is missing$"):
        written(table_of(name), lambda records: records.write_records([record]))
    with pytest.raises(ValueError, match=rf"^{path}: a required field is missing$"):
        written(table_of(name), lambda records: records.write(**record))


UNKNOWN = [
    (
        "Named",
        {"name": "n", "nmae": 1},
        ValueError,
        r"^shapes\.Named has no field 'nmae'; it has name, note, code$",
    ),
    (
        "Shape",
        {"level": {"next": {"nest": 1}}},
        ValueError,
        r"^level\.next: shapes\.Level2 has no field 'nest'; it has next, values$",
    ),
    ("Old", {"gone": "x"}, ValueError, r"^field 'gone' of shapes\.Old is deprecated$"),
    ("Numbered", {"old": None}, ValueError, r"^field 'old' of shapes\.Numbered is deprecated$"),
    ("Named", {1: 2}, TypeError, r"^expected the name of a field, got int: 1$"),
    (
        "Structs",
        {"point": {"x": 1, "y": 2, "z": 3}},
        ValueError,
        r"^point: shapes\.Point has no field 'z'; it has x, y$",
    ),
    (
        "Structs",
        {"point": {"x": 1}},
        ValueError,
        r"^point\.y: field 'y' of struct shapes\.Point is missing: a struct needs a value for each of its fields$",
    ),
    ("Structs", {"point": (1,)}, ValueError, r"^point\.y: field 'y' of struct shapes\.Point is missing"),
    (
        "Structs",
        {"point": (1, 2, 3)},
        ValueError,
        r"^point: expected at most 2 values for the fields of shapes\.Point, got 3$",
    ),
    (
        "Named",
        ("a", "b", 1, 2),
        ValueError,
        r"^expected at most 3 values for the fields of shapes\.Named, got 4$",
    ),
    (
        "Structs",
        {"nest": {"before": 1, "mixed": (True, 1.0, 2, -1, 0), "line": ((1, 2), (3, 4), 5), "after": 6}},
        ValueError,
        r"^nest\.mixed\.medium: expected a uint, 0 to 4294967295, got -1$",
    ),
]


@in_one_test
@pytest.mark.parametrize(("name", "record", "error", "match"), UNKNOWN)
def test_unknown_names_and_too_many_or_too_few_values_are_refused(name, record, error, match):
    with pytest.raises(error, match=match):
        encoded(table_of(name), record)
    with pytest.raises(error, match=match):
        written(table_of(name), lambda records: records.write_record(record))
    if isinstance(record, dict) and all(isinstance(key, str) for key in record):
        with pytest.raises(error, match=match):
            written(table_of(name), lambda records: records.write(**record))


def test_class_that_declares_a_field_which_the_table_does_not_have_is_refused():
    @dataclasses.dataclass
    class Other:
        name: str = "n"
        size: int = 3

    with pytest.raises(ValueError, match=r"^shapes\.Named has no field 'size'"):
        encoded(table_of("Named"), Other())
    with pytest.raises(ValueError, match=r"^shapes\.Named has no field 'size'"):
        encoded(table_of("Named"), SizedTuple("n", 3))


def test_keywords_only():
    def positional(records: Any) -> None:
        records.write({"name": "n"})

    with pytest.raises(TypeError, match=r"^write\(\) takes fields as keywords"):
        written(table_of("Named"), positional)
    with pytest.raises(TypeError, match="not both"):
        table_of("Named").encode(Builder(), {"name": "n"}, name="n")


# Strings


def test_strings_of_any_script_and_length():
    for text in ("", "a", "ä" * 300, "日本語", "🚀\0🚀", "x" * 70_000):
        message = encoded(table_of("Named"), {"name": text, "note": text.encode()})
        read = generated("Named").Named.GetRootAs(message, 0)
        assert read.Name().decode() == read.Note().decode() == text


@in_one_test
@pytest.mark.parametrize(
    "value", [b"\xff", b"abc\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"a" * 99 + b"\x80"]
)
def test_bytes_that_are_no_utf_8_are_refused(value):
    with pytest.raises(ValueError, match=r"^note: expected UTF-8, got an invalid byte at index \d+ of b'"):
        encoded(table_of("Named"), {"name": "n", "note": value})
    with pytest.raises(ValueError, match=r"^strings\[1\]: expected UTF-8"):
        encoded(table_of("Vectors"), {"strings": ["a", value]})


def test_text_with_half_a_character_is_refused_with_its_path():
    with pytest.raises(
        ValueError, match=r"^strings\[1\]: expected text, got a lone surrogate at index 1 of 'a\\ud800'$"
    ):
        encoded(table_of("Vectors"), {"strings": ["a", "a\ud800"]})
    with pytest.raises(ValueError, match=r"^row 1, name: expected text"):
        written(table_of("Named"), lambda records: records.write_records([("a",), ("\udfff",)]))


@in_one_test
@pytest.mark.parametrize("value", [5, 1.5, ["a"], bytearray(b"a"), memoryview(b"a"), {}, True], ids=shown)
def test_what_is_no_string_is_refused(value):
    with pytest.raises(TypeError, match=r"^name: expected a str, or bytes of UTF-8, got "):
        encoded(table_of("Named"), {"name": value})


# Vectors

VECTOR_FIELDS = {
    "truths": "?", "i8s": "i1", "u8s": "u1", "i16s": "i2", "u16s": "u2", "i32s": "i4", "u32s": "u4", "i64s": "i8",
    "u64s": "u8", "f32s": "f4", "f64s": "f8", "colors": "i1", "weekdays": "u2", "accesses": "u1", "overaligned": "u1",
}  # fmt: skip
SOURCE_TYPES = ["?", "i1", "u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">i4", "<u4", ">u4", "<i8", ">i8", "<u8", ">u8",
                "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "O"]  # fmt: skip


@in_one_test
@pytest.mark.parametrize("field", VECTOR_FIELDS)
@pytest.mark.parametrize("dtype", SOURCE_TYPES)
def test_array_of_any_type_is_what_a_list_of_its_elements_is(field, dtype):
    table = table_of("Vectors")
    ints = [1, 0, 1, 1, 0, 0, 1]
    values = np.array([bool(i) for i in ints] if dtype == "?" or (dtype == "O" and field == "truths") else ints, dtype)
    sources: list[Any] = [values, values[::2], values[::-1], values[:0], values[3:4], np.repeat(values, 3)[1:]]
    if dtype not in ("O",):
        sources.append(memoryview(values.data) if dtype[0] not in "<>" else values)
    for source in sources:
        if np.dtype(dtype).kind == "f" and VECTOR_FIELDS[field][0] != "f":
            if len(source):
                with pytest.raises(TypeError, match=rf"^{field}\[0\]: expected an? \w+, got a float$"):
                    encoded(table, {field: source})
            continue
        assert encoded(table, {field: source}) == encoded(table, {field: source.tolist()})


@in_one_test
@pytest.mark.parametrize("field", VECTOR_FIELDS)
def test_array_of_the_fields_own_type_is_read_back_as_it_was(field):
    kind = np.dtype(VECTOR_FIELDS[field])
    rng = np.random.default_rng(7)
    values = rng.integers(0, 256, 64 * kind.itemsize, np.uint8).view(kind)
    if kind.kind == "b":
        values = rng.integers(0, 2, 64).astype("?")
    read = generated("Vectors").Vectors.GetRootAs(encoded(table_of("Vectors"), {field: values}), 0)
    getter = field[0].upper() + field[1:] + "AsNumpy"
    assert getattr(read, getter)().tobytes() == values.tobytes()


def test_sequences_of_every_kind_for_a_vector_of_numbers():
    table = table_of("Vectors")
    expected = encoded(table, {"i32s": [1, 2, 3]})
    for source in ((1, 2, 3), range(1, 4), iter([1, 2, 3]), (i for i in (1, 2, 3)), {1: 0, 2: 0, 3: 0}.keys(),
                   array.array("i", [1, 2, 3]), array.array("q", [1, 2, 3]), collections.deque([1, 2, 3]),
                   memoryview(array.array("h", [1, 2, 3])), np.array([1, 2, 3]), np.ma.array([1, 2, 3]),
                   Series([1, 2, 3])):  # fmt: skip
        assert encoded(table, {"i32s": source}) == expected
    raw = encoded(table, {"u8s": [1, 2, 255]})
    for source in listed(b"\1\2\xff", bytearray(b"\1\2\xff"), memoryview(b"\1\2\xff"), array.array("B", b"\1\2\xff")):
        assert encoded(table, {"u8s": source}) == raw
    # NaT is a null (tests/records/test_nulls.py).
    days = np.array(["2020-01-01", "1969-12-31"], "M8[ns]")
    assert encoded(table, {"i64s": days}) == encoded(table, {"i64s": days.view("i8").tolist()})
    assert encoded(table, {"i64s": np.array([5], "m8[s]")}) == encoded(table, {"i64s": [5]})


@in_one_test
@pytest.mark.parametrize(
    ("field", "value", "error", "match"),
    [
        ("i32s", "abc", TypeError, r"^i32s: expected a sequence, got str: 'abc'$"),
        ("i32s", b"abc", TypeError, r"^i32s: expected a sequence, got bytes"),
        ("i32s", bytearray(4), TypeError, r"^i32s: expected a sequence, got bytearray"),
        ("i32s", {1: 2}, TypeError, r"^i32s: expected a sequence, got dict"),
        ("i32s", 5, TypeError, r"^i32s: expected a sequence, got int: 5$"),
        ("i32s", [1, None], ValueError, r"^i32s\[1\]: an element of a vector must not be None$"),
        ("i32s", [1, "x"], TypeError, r"^i32s\[1\]: expected an int, got str: 'x'$"),
        ("i32s", np.zeros((2, 2), "i4"), ValueError, r"^i32s: expected one dimension, got ndarray with 2$"),
        ("i32s", np.array(5), ValueError, r"^i32s: expected one dimension, got ndarray with 0$"),
        (
            "i32s",
            np.ma.array([1, 2], mask=[False, True]),
            ValueError,
            r"^i32s\[1\]: an element of a vector must not be null$",
        ),
        ("i32s", np.array([1j]), TypeError, r"^i32s\[0\]: expected an int, got complex"),
        ("i8s", b"\x80", ValueError, r"^i8s\[0\]: expected a byte, -128 to 127, got 128$"),
        ("strings", "abc", TypeError, r"^strings: expected a sequence, got str"),
        ("strings", ["a", None], ValueError, r"^strings\[1\]: an element of a vector must not be None$"),
        ("named", {"name": "n"}, TypeError, r"^named: expected a sequence, got dict"),
        ("points", [(1, 2), (3,)], ValueError, r"^points\[1\]\.y: field 'y' of struct shapes\.Point is missing"),
        ("points", [(1, 2), None], TypeError, r"^points\[1\]: expected a record of shapes\.Point"),
        ("grids", [(1, [1, 2], [], [], [], [])], ValueError, r"^grids\[0\]\.cells: expected 3 elements, got 2$"),
    ],
)  # fmt: skip
def test_vector_that_cannot_be_is_told_with_its_path(field, value, error, match):
    with pytest.raises(error, match=match):
        encoded(table_of("Vectors"), {field: value})


def test_vectors_of_structs_from_rows_structured_arrays_and_matrices():
    table = table_of("Vectors")
    expected = encoded(table, {"points": [(1, 2), (3, 4)]})
    structured = np.array([(1, 2), (3, 4)], [("x", "f4"), ("y", "f8")])
    for source in (
        [[1, 2], [3, 4]],
        structured,
        np.array([[1, 2], [3, 4]]),
        [{"y": 2, "x": 1}, (3, 4)],
        structured.view(np.recarray),
    ):
        assert encoded(table, {"points": source}) == expected
    read = generated("Vectors").Vectors.GetRootAs(expected, 0)
    assert [(read.Points(i).X(), read.Points(i).Y()) for i in range(2)] == [(1, 2), (3, 4)]


def test_fixed_arrays_are_filled_element_by_element():
    grid = {
        "tag": 7, "cells": [1, -2, 3], "days": ["Monday", 65535], "corners": [(1, 2), {"x": 3, "y": 4}],
        "bits": [True, False, 1, 0, np.True_], "weights": np.array([0.5, -1.5]),
    }  # fmt: skip
    for message in (encoded(table_of("Structs"), {"grid": grid, "point_required": (0, 0)}),):
        read = generated("Structs").Structs.GetRootAs(message, 0).Grid()
        assert (read.Tag(), list(read.Cells())) == (7, [1, -2, 3])
        assert list(read.Days()) == [1, 65535]
        assert [(c.X(), c.Y()) for c in (read.Corners(generated("Point").Point(), i) for i in range(2))] == [
            (1, 2),
            (3, 4),
        ]
        assert [bool(bit) for bit in read.Bits()] == [True, False, True, False, True]
        assert list(read.Weights()) == [0.5, -1.5]
    vectors = generated("Vectors").Vectors.GetRootAs(
        encoded(table_of("Vectors"), {"grids": [grid, grid], "aligneds": [(1, 2)]}), 0
    )
    assert vectors.Grids(1).Cells()[1] == -2
    assert vectors.Aligneds(0).A() == 1
    with pytest.raises(ValueError, match=r"^grid\.corners\[1\]\.x: expected a float, a number of at most"):
        encoded(table_of("Structs"), {"grid": {**grid, "corners": [(1, 2), (1e39, 1)]}})
    with pytest.raises(ValueError, match=r"^grid\.cells\[2\]: expected an int"):
        encoded(table_of("Structs"), {"grid": {**grid, "cells": [1, 2, 2**31]}})


def test_vectors_and_structs_are_aligned_as_the_schema_says():
    for filler in range(40):
        message = encoded(
            table_of("Vectors"),
            {"strings": ["x" * filler], "overaligned": b"abc", "aligneds": [(1, 2)] * 3, "f64s": [1.0]},
        )
        read = generated("Vectors").Vectors.GetRootAs(message, 0)
        base = np.frombuffer(message, "u1").ctypes.data
        for array_, alignment in ((read.OveralignedAsNumpy(), 32), (read.F64sAsNumpy(), 8)):
            # The end of a message is what its places are aligned to.
            assert (array_.ctypes.data - base) % alignment == 0
        assert (read.Aligneds(0)._tab.Pos) % 16 == 0

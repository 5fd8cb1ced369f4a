"""Records from columns: what is written is what stands in the columns, whoever they are from, and all of it or nothing.

Messages are read with the code that flatc generated, or, for schemas that flatc 2.0.8 generates none for, with the
package's own `Table`; each is verified. Random records of every schema go through the Arrow types that they have when
they are exported, and through every other type that is taken for them. Every NumPy type, order of bytes and stride is
compared with what `struct` makes of its values. What producers can do wrong, hand-made ones do here.
"""

from __future__ import annotations

import array
import ctypes
import errno
import gc
import io
import itertools
import math
import random
import struct
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import flatbuffers
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from columns_support import (
    SHAPES,
    SHAPES_V2,
    TINY,
    UNIONS,
    Making,
    Mapping,
    expected,
    messages_of,
    plain,
    read_message,
    records_of,
    refused,
    values,
    write,
)
from hypothesis import given
from hypothesis import strategies as st
from shapes.Scalars import Scalars
from test_half_made_objects import survives

import flatstream
from flatstream import (
    BoundedFramer,
    ChecksumType,
    DefaultFramer,
    ObserverFramer,
    RecordWriter,
    SizeValidator,
    StreamReader,
    StreamWriter,
    TypedValidator,
    ValidatingFramer,
)
from flatstream._core.column_writer.writer import write_columns
from flatstream._core.flatbuf.template import Template
from flatstream._core.stream.encoder import Encoder
from flatstream.schema import Schema, Table

SCALARS = SHAPES.table("shapes.Scalars")
DEFAULTS = SHAPES.table("shapes.Defaults")
OPTIONALS = SHAPES.table("shapes.Optionals")
VECTORS = SHAPES.table("shapes.Vectors")
STRUCTS = SHAPES.table("shapes.Structs")
NAMED = SHAPES.table("shapes.Named")
LEVEL1 = SHAPES.table("shapes.Level1")
TREE = SHAPES.table("shapes.Tree")
NUMBERED = SHAPES.table("shapes.Numbered")
HOLDER = SHAPES.table("shapes.Holder")
SHAPE = SHAPES.table("shapes.Shape")
EMPTY = SHAPES.table("shapes.Empty")
SHAPE_UNIONS = SHAPES.table("shapes.Unions")
ANY_ROOT = UNIONS.table("unions.Root")

ALL_TABLES = [*(pytest.param(table, id=table.name) for schema in (SHAPES, SHAPES_V2, UNIONS, TINY) for table in schema)]
WITH_ORACLE = [param for param in ALL_TABLES if param.id != "T"]


# Every schema, by the Arrow types of what is exported


def random_records(table: Table, mapping: Mapping, seed: int, count: int) -> list[dict[str, Any]]:
    making = Making(mapping, random.Random(seed))
    return [making.record(table.number) for _ in range(count)]


@pytest.mark.parametrize("table", WITH_ORACLE)
@pytest.mark.parametrize("seed", range(3))
def test_random_records_of_every_table_come_out_as_they_went_in(table: Table, seed: int) -> None:
    mapping = Mapping(table.schema._info)
    records = random_records(table, mapping, seed, 6)
    wanted = [expected(table.schema._info, table.number, record) for record in records]
    assert records_of(table, mapping.arrow(table.number, records)) == wanted


VARIETIES = {
    "small": {"text": pa.utf8(), "many": pa.list_, "bytes_type": pa.binary()},
    "views": {"text": pa.string_view(), "many": pa.list_view, "bytes_type": pa.binary_view()},
    "large views": {"many": pa.large_list_view},
    "names as strings": {"names": pa.utf8()},
    "names as views": {"names": pa.string_view()},
    "names in a small dictionary": {"names": pa.dictionary(pa.uint8(), pa.large_utf8())},
    "bytes as lists": {"bytes_type": pa.list_(pa.uint8())},
    "strings in dictionaries": {"text": pa.dictionary(pa.int16(), pa.utf8())},
}


@pytest.mark.parametrize("table", [SHAPE, VECTORS, STRUCTS, ANY_ROOT], ids=lambda table: table.name)
@pytest.mark.parametrize("variety", VARIETIES)
def test_every_variety_of_an_arrow_type_gives_the_same_messages(table: Table, variety: str) -> None:
    mapping = Mapping(table.schema._info, **VARIETIES[variety])
    records = random_records(table, mapping, 11, 12)
    usual = Mapping(table.schema._info).arrow(table.number, records)
    columns = mapping.arrow(table.number, [as_lists(r) for r in records] if variety == "bytes as lists" else records)
    assert messages_of(table, columns) == messages_of(table, usual)


def as_lists(value: Any) -> Any:
    """Bytes become lists of numbers, in place, all the way down."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        value[key] = list(item) if isinstance(item, bytes) else as_lists(item)
    return value


@given(chance=st.randoms(use_true_random=False), data=st.data())
def test_any_slices_of_any_chunks_give_what_the_whole_gives(chance: random.Random, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from([SHAPE, VECTORS, OPTIONALS, LEVEL1, ANY_ROOT]))
    mapping = Mapping(table.schema._info, **VARIETIES[data.draw(st.sampled_from(sorted(VARIETIES)))])
    making = Making(mapping, chance)
    records = [making.record(table.number) for _ in range(data.draw(st.integers(1, 6)))]
    if mapping.bytes_type == pa.list_(pa.uint8()):
        records = [as_lists(record) for record in records]
    whole = mapping.arrow(table.number, records)
    pieces = []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=3)))
    for begin, end in itertools.pairwise([0, *cuts, len(records)]):
        pieces.append(whole.slice(begin, end - begin))
    columns = pa.concat_tables(pieces)
    wanted = [expected(table.schema._info, table.number, record) for record in records]
    assert records_of(table, columns) == wanted
    # As a mapping, whose columns need not be cut at the same places.
    apart = {name: whole[name] if chance.random() < 0.5 else columns[name] for name in whole.column_names}
    assert records_of(table, apart) == wanted
    begin = data.draw(st.integers(0, len(records)))
    assert records_of(table, whole.combine_chunks().slice(begin)) == wanted[begin:]


@given(chance=st.randoms(use_true_random=False), data=st.data())
def test_any_lists_of_python_give_what_arrow_gives(chance: random.Random, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from([SHAPE, VECTORS, OPTIONALS, DEFAULTS, SHAPE_UNIONS, ANY_ROOT]))
    mapping = Mapping(table.schema._info)
    making = Making(mapping, chance)
    records = [making.record(table.number) for _ in range(data.draw(st.integers(1, 5)))]
    names = [field.name for field in mapping.fields(table.number)]
    columns = {name: [record.get(name) for record in records] for name in names}
    assert messages_of(table, columns) == messages_of(table, mapping.arrow(table.number, records))


@given(data=st.data())
def test_any_subset_of_columns_leaves_the_others_at_their_defaults(data: st.DataObject) -> None:
    table = data.draw(st.sampled_from([SCALARS, DEFAULTS, OPTIONALS]))
    mapping = Mapping(table.schema._info)
    records = random_records(table, mapping, data.draw(st.integers(0, 1000)), 4)
    fields = [field.name for field in mapping.fields(table.number)]
    chosen = data.draw(st.lists(st.sampled_from(fields), unique=True, min_size=1))
    if table is DEFAULTS and "u64" not in chosen:
        chosen.append("u64")
    records = [{name: record[name] for name in chosen} for record in records]
    wanted = [expected(table.schema._info, table.number, record) for record in records]
    assert records_of(table, mapping.arrow(table.number, records).select(chosen)) == wanted


@pytest.mark.parametrize("table", WITH_ORACLE)
@pytest.mark.parametrize("enums", ["dictionary", "number"])
def test_columns_that_came_out_go_in_again(table: Table, enums: Any) -> None:
    # No table inside of itself: that is left out of what comes out.
    mapping = Mapping(table.schema._info, repeats=0, depth=9)
    messages = messages_of(table, mapping.arrow(table.number, random_records(table, mapping, 7, 20)))
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        writer.write_payloads(messages)
    with StreamReader(sink.getvalue()) as reader:
        again = records_of(table, reader.columns(table, enums=enums))
    assert again == [read_message(table, message) for message in messages]


# The two ways to build: a template and the builder


@pytest.mark.parametrize("table", [SCALARS, DEFAULTS, OPTIONALS, STRUCTS], ids=lambda table: table.name)
def test_templates_give_the_bytes_that_the_builder_gives(table: Table) -> None:
    mapping = Mapping(table.schema._info)
    columns = mapping.arrow(table.number, random_records(table, mapping, 5, 300))
    # What looks at every payload has none made in place.
    seen: list[bytes] = []
    slow = messages_of(table, columns, ObserverFramer(DefaultFramer(), lambda payload: seen.append(bytes(payload))))
    assert messages_of(table, columns) == slow == seen
    assert messages_of(table, columns, buffer_size=0) == slow
    assert messages_of(table, columns, buffer_size=100) == slow


def test_more_masks_than_templates_are_kept_for() -> None:
    # 2**13 combinations of absent fields, each twice.
    names = [field.name for field in Mapping(SHAPES._info, names=pa.int8()).fields(OPTIONALS.number)]
    masks = [mask for mask in range(2 ** len(names)) for _ in range(2)]
    columns = {
        name: pa.array([None if mask >> i & 1 else 1 for mask in masks], pa.int8()) for i, name in enumerate(names)
    }
    messages = messages_of(OPTIONALS, columns)
    assert len(set(messages)) == 2 ** len(names)
    by_class = records_of(OPTIONALS, {k: v.slice(0, 600) for k, v in columns.items()})
    for mask, record in zip(masks, by_class, strict=False):
        assert [value is None for value in record.values()] == [bool(mask >> i & 1) for i in range(len(names))]


def test_tables_with_more_than_64_columns() -> None:
    event = Schema.from_file("examples/telemetry.bfbs").root
    assert event is not None
    flat = [
        field.name
        for field, kind in zip(event._info.fields, event._info.fields, strict=True)
        if kind.type.base.name
        in ("INT", "UINT", "LONG", "ULONG", "FLOAT", "DOUBLE", "SHORT", "USHORT", "UBYTE", "BYTE")
    ]
    required = {field.name: ["x"] * 3 for field in event._info.fields if field.required}
    messages = messages_of(event, {**required, **{name: np.array([1, 2, 3]) for name in flat}})
    assert len(set(messages)) == 3


def test_values_that_are_the_default_are_left_out() -> None:
    messages = messages_of(SCALARS, {"i32": np.array([0, 1]), "f64": np.array([0.0, -0.0])})
    made = flatbuffers.Builder()
    made.StartObject(0)
    made.Finish(made.EndObject())
    assert messages[0] == bytes(made.Output())
    # Minus zero is equal to the default, and not the same number.
    assert values(SCALARS, "f64", {"f64": np.array([0.0, -0.0])}) == ["0.0", "-0.0"]


def test_defaults_are_written_if_they_are_forced() -> None:
    def size(force: bool) -> int:
        sink = io.BytesIO()
        with StreamWriter(sink) as writer:
            columns = {"i32": np.zeros(1, "i4"), "u64": np.ones(1, "u8")}
            write_columns(writer, SCALARS.layout, SCALARS.number, columns, b"", force)
        return len(sink.getvalue())

    assert size(True) > size(False)


def test_optional_scalars_are_written_even_if_they_are_zero() -> None:
    assert values(OPTIONALS, "i32", {"i32": pa.array([0, None, 1])}) == [0, None, 1]


def test_fields_are_stored_by_descending_alignment_so_that_messages_are_compact() -> None:
    columns = {
        "u8": np.array([1]),
        "u64": np.array([1]),
        "i16": np.array([1]),
        "i32": np.array([1]),
        "i8": np.array([1]),
    }
    (message,) = messages_of(SCALARS, columns)
    table = struct.unpack_from("<I", message)[0]
    vtable = table - struct.unpack_from("<i", message, table)[0]
    # 16 bytes of values and the offset of the vtable.
    assert struct.unpack_from("<H", message, vtable + 2)[0] == 20


def test_file_identifier_is_written_if_it_is_given() -> None:
    for columns in ({"i32": np.arange(3)}, {"i32": [1, 2, 3]}):
        sink = io.BytesIO()
        with StreamWriter(sink) as writer:
            write_columns(writer, SCALARS.layout, SCALARS.number, columns, b"SHAP")
        for payload in StreamReader(sink.getvalue()):
            assert bytes(payload[4:8]) == b"SHAP"
            assert SCALARS.types.verify(SCALARS.number, payload) is None
    with pytest.raises(ValueError, match="four bytes"):
        write_columns(writer, SCALARS.layout, SCALARS.number, columns, b"ABC")


def test_template_says_where_its_fields_are() -> None:
    template = Template(SCALARS.layout, SCALARS.number, [1, 8], b"SHAP")
    message = bytearray(template.message)
    assert len(message) == template.size
    struct.pack_into("<b", message, template.offset(1) or 0, -7)
    struct.pack_into("<Q", message, template.offset(8) or 0, 2**64 - 1)
    record = read_message(SCALARS, bytes(message))
    assert (record["i8"], record["u64"], record["i64"]) == (-7, 2**64 - 1, 0)
    assert template.offset(2) is None
    for wrong in (-1, 15, 2**70, "i8"):
        assert template.offset(wrong) is None  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="has 15 fields"):
            Template(SCALARS.layout, SCALARS.number, [wrong])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="neither a scalar nor a struct"):
        Template(NAMED.layout, NAMED.number, [0])
    with pytest.raises(ValueError, match="four bytes"):
        Template(SCALARS.layout, SCALARS.number, [0], b"X")


# NumPy

SCALAR_DTYPES = {
    "truth": "?",
    "i8": "i1",
    "u8": "u1",
    "i16": "i2",
    "u16": "u2",
    "i32": "i4",
    "u32": "u4",
    "i64": "i8",
    "u64": "u8",
    "f32": "f4",
    "f64": "f8",
}


def extremes(code: str) -> np.ndarray[Any, Any]:
    kind = np.dtype(code)
    if kind.kind == "b":
        return np.array([True, False, True])
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return np.array([limits.min, limits.max, 0, 1, limits.max // 2, limits.min // 2], kind)
    limits_f = np.finfo(kind)
    return np.array([limits_f.min, limits_f.max, 0, -0.0, math.inf, -math.inf, math.nan, limits_f.tiny], kind)


ARRANGEMENTS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "as it is": lambda data: data,
    "read-only": lambda data: np.frombuffer(data.tobytes(), data.dtype),
    "little-endian": lambda data: data.astype(data.dtype.newbyteorder("<")),
    "big-endian": lambda data: data.astype(data.dtype.newbyteorder(">")),
    "every third": lambda data: np.repeat(data, 3)[1::3],
    "backwards": lambda data: data[::-1].copy()[::-1],
    "a column of rows": lambda data: np.stack([data, data], axis=1)[:, 1],
    "unaligned": lambda data: np.frombuffer(b"x" + data.tobytes(), data.dtype, offset=1),
    "repeated by a stride of 0": lambda data: np.broadcast_to(data[1:2], (4,)),
}


@pytest.mark.parametrize("name", SCALAR_DTYPES)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_arrays_of_every_type_order_and_stride(name: str, arrangement: str) -> None:
    data = ARRANGEMENTS[arrangement](extremes(SCALAR_DTYPES[name]))
    assert values(SCALARS, name, {name: data}) == [plain(value) for value in data.tolist()]


@pytest.mark.parametrize("code", [*SCALAR_DTYPES.values(), "e"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", SCALAR_DTYPES)
def test_arrays_are_converted_to_the_type_of_the_field_if_nothing_is_lost(name: str, code: str, order: str) -> None:
    target = np.dtype(SCALAR_DTYPES[name])
    for value in extremes(code).astype(np.dtype(code).newbyteorder(order)):  # type: ignore[arg-type]
        column = np.array([0, value], np.dtype(code).newbyteorder(order))  # type: ignore[arg-type]
        exact = column[1].item()
        if isinstance(exact, float) and target.kind != "f":
            refused(SCALARS, {name: column}, TypeError, "needs integers")
        elif target.kind == "f":
            if target.itemsize == 4 and math.isfinite(exact) and abs(exact) > 3.4028235677973362e38:
                refused(SCALARS, {name: column}, ValueError, f"'{name}', row 1: expected a float", 1)
            else:
                wanted = plain(float(np.array(exact).astype(target)))
                assert values(SCALARS, name, {name: column}) == ["0.0", wanted]
        elif target.kind == "b" and exact not in (0, 1):
            refused(SCALARS, {name: column}, ValueError, f"'{name}', row 1: expected a bool", 1)
        elif target.kind in "iu" and not np.iinfo(target).min <= exact <= np.iinfo(target).max:
            refused(SCALARS, {name: column}, ValueError, f"'{name}', row 1: expected .* got {exact}", 1)
        else:
            assert values(SCALARS, name, {name: column}) == [0, exact]


def test_integers_become_the_nearest_float_in_one_step() -> None:
    # By way of a float of 64 bits these would be rounded twice.
    tricky = [2**53 + 2**29 + 1, -(2**53 + 2**29 + 1), 2**63 - 1, -(2**63), 2**60 + 2**36 + 1]
    assert values(SCALARS, "f32", {"f32": np.array(tricky)}) == [plain(float(np.int64(x).astype("f4"))) for x in tricky]
    assert values(SCALARS, "f64", {"f64": np.array([2**64 - 1], "u8")}) == [plain(float(2**64 - 1))]
    assert values(SCALARS, "f32", {"f32": np.array([2**64 - 1], "u8")}) == [
        plain(float(np.uint64(2**64 - 1).astype("f4")))
    ]


def test_every_float_of_16_bits_is_exact() -> None:
    data = np.arange(2**16, dtype="u2").view("e")
    data = data[~np.isnan(data)]
    for name in ("f32", "f64"):
        assert values(SCALARS, name, {name: data[::7]}) == [plain(float(value)) for value in data[::7]]


def test_nan_keeps_its_bits() -> None:
    odd = np.array([0x7FF8_0000_DEAD_BEEF, 0x7FF0_0000_0000_0001], "u8").view("f8")
    for message, bits in zip(messages_of(SCALARS, {"f64": odd}), odd.view("u8"), strict=True):
        assert struct.pack("<Q", bits) in message


def test_anything_with_a_buffer_is_a_column() -> None:
    assert values(SCALARS, "i64", {"i64": array.array("q", [1, -(2**63)])}) == [1, -(2**63)]
    assert values(SCALARS, "u8", {"u8": bytearray(b"\x01\xff")}) == [1, 255]
    assert values(SCALARS, "u16", {"u16": memoryview(bytearray(b"\x01\x02\x03\x04")).cast("H")}) == [0x0201, 0x0403]
    assert values(SCALARS, "f64", {"f64": (ctypes.c_double * 2)(1.5, 2.5)}) == ["1.5", "2.5"]


def test_dates_of_numpy_are_their_integers_and_not_a_time_is_null() -> None:
    times = np.array(["2024-02-29T12:00", "NaT", "1900-01-01"], "datetime64[ns]")
    for data in (times, times.astype(times.dtype.newbyteorder(">")), np.repeat(times, 2)[::2]):
        assert values(OPTIONALS, "i64", {"i64": data}) == [int(times[0].view("i8")), None, int(times[2].view("i8"))]
    assert values(SCALARS, "i64", {"i64": np.array([5, -5], "timedelta64[s]")}) == [5, -5]
    refused(SCALARS, {"f32": np.zeros(3), "u32": times}, ValueError, "'u32', row 0: expected a uint, .* got 1709208", 0)


def test_masked_arrays_are_null_where_they_are_masked() -> None:
    data = np.ma.array([1, 2, 3, 4] * 5, mask=[False, True, False, True] * 5)
    assert values(OPTIONALS, "i32", {"i32": data}) == [1, None, 3, None] * 5
    assert values(SCALARS, "i32", {"i32": data[1:]}) == [0, 3, 0, *[1, 0, 3, 0] * 4]
    assert values(OPTIONALS, "i32", {"i32": np.ma.array([1, 2])}) == [1, 2]
    strings = np.ma.array(["a", "b"], mask=[True, False])
    assert values(TREE, "label", {"label": strings}) == [None, "b"]
    dates = np.ma.array(np.array(["2024-01-01", "NaT", "2024-01-01"], "M8[s]"), mask=[True, False, False])
    assert values(OPTIONALS, "i64", {"i64": dates}) == [None, None, 1704067200]


def test_arrays_of_strings_and_of_objects() -> None:
    assert values(TREE, "label", {"label": np.array(["ä", "", "日本"])}) == ["ä", "", "日本"]
    assert values(TREE, "label", {"label": np.array(["ä", None], object)}) == ["ä", None]
    assert values(OPTIONALS, "i64", {"i64": np.array([1, None, np.int8(3)], object)}) == [1, None, 3]
    assert values(HOLDER, "raw", {"raw": np.array([b"ab", b"c"])}) == [[97, 98], [99]]
    assert values(OPTIONALS, "truth", {"truth": [np.True_, None, False, 1]}) == [True, None, False, True]


def test_arrays_of_two_dimensions_are_vectors() -> None:
    data = np.arange(12, dtype="i4").reshape(4, 3)
    for rows in (data, np.asfortranarray(data), data.astype(">i4"), np.repeat(data, 2, axis=1)[:, ::2]):
        assert values(VECTORS, "i32s", {"i32s": rows}) == data.tolist()
    assert values(VECTORS, "i32s", {"i32s": data[:, :0]}) == [[]] * 4
    assert values(VECTORS, "f64s", {"f64s": data}) == [[plain(float(x)) for x in row] for row in data.tolist()]
    assert [
        row["grid"]["cells"]
        for row in records_of(
            STRUCTS,
            {
                "point_required": np.zeros(4, [("x", "f4"), ("y", "f4")]),
                "grid.tag": np.zeros(4, "u1"),
                "grid.cells": data,
                "grid.days": data[:, :2] + 1,
                "grid.corners": [[{"x": 1, "y": 2}, {"x": 3, "y": 4}]] * 4,
                "grid.bits": np.ones((4, 5), "?"),
                "grid.weights": data[:, 1:],
            },
        )
    ] == data.tolist()
    refused(VECTORS, {"i32s": data.reshape(2, 2, 3)}, TypeError, "has 3 dimensions")
    refused(SCALARS, {"i32": data}, TypeError, "int32 in rows of 3, which does not go into int")
    refused(SCALARS, {"i32": np.array(5)}, TypeError, "has 0 dimensions")


def test_structured_arrays_are_tables_and_structs() -> None:
    data = np.array(
        [(1, 2.5, (3, 4)), (5, 6.5, (7, 8))], [("i32", ">i4"), ("f64", "f8"), ("xy", [("x", "f4"), ("y", "f8")])]
    )
    points = data["xy"]
    assert [row["i32"] for row in records_of(SCALARS, data[["i32", "f64"]])] == [1, 5]
    assert values(STRUCTS, "point_required", {"point_required": points}) == [
        {"x": "3.0", "y": "4.0"},
        {"x": "7.0", "y": "8.0"},
    ]


@pytest.mark.parametrize("code", ["c8", "c16", "g"])
def test_arrays_of_what_flatbuffers_do_not_have_are_refused(code: str) -> None:
    refused(SCALARS, {"f64": np.zeros(1, code)}, TypeError, "'f64' has items of .* which are no numbers")


def test_numpy_need_not_be_there() -> None:
    code = """
import io, sys
from array import array
sys.modules["numpy"] = sys.modules["pyarrow"] = None
from flatstream import StreamWriter
from flatstream.schema import Schema
from flatstream._core.stream.encoder import Encoder
from flatstream._core.column_writer.writer import write_columns
table = Schema.from_file("tests/schemas/shapes.bfbs").table("shapes.Scalars")
with StreamWriter(io.BytesIO()) as writer:
    print(write_columns(writer, table.layout, table.number, {"i32": array("i", [1, 2]), "f64": [0.5, None]}))
"""
    assert survives(code) == ["2"]


# Names with dots


def test_columns_with_dots_are_the_parts_of_tables_and_structs() -> None:
    columns = {
        "value": np.array([1, 2]),
        "next.values": [[1], None],
        "next.next.name": ["a", None],
        "next.next.next": {"value": np.array([0.5, 1.5])},
    }
    records = records_of(LEVEL1, columns)
    assert records[0]["next"]["next"] == {"name": "a", "next": {"value": "0.5", "end": None}, "others": None}
    assert records[1]["next"]["next"] == {"name": None, "next": {"value": "1.5", "end": None}, "others": None}


def test_parts_that_are_all_null_are_no_table() -> None:
    columns = {"next.values": [None, [1]], "next.next.name": [None, None], "value": [1, 2]}
    assert values(LEVEL1, "next", columns) == [None, {"next": None, "values": [1]}]


def test_parts_of_a_struct_are_all_there_or_none() -> None:
    columns = {"point_required": [{"x": 1, "y": 2}] * 2, "point.x": [None, 1.0], "point.y": [None, 2.0]}
    assert values(STRUCTS, "point", columns) == [None, {"x": "1.0", "y": "2.0"}]
    columns["point.y"] = [None, None]
    refused(STRUCTS, columns, ValueError, r"column 'point.y', row 1: it is null, and nothing in a struct", 1)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"next.values": [[1]], "next": [None]}, "'next' is there both as a whole and in parts"),
        ({"next": [None], "next.values": [[1]]}, "'next' is there both as a whole and in parts"),
        ({"next.nothing": [1]}, "'next.nothing': shapes.Level2 has no field 'nothing'; it has next, values$"),
        ({"": [1]}, "column '': shapes.Level1 has no field ''; it has value, next$"),
        ({"value.": [1]}, "'value' has parts, but int has none"),
        ({".": [1]}, "column '': shapes.Level1 has no field ''"),
    ],
)
def test_names_with_dots_that_make_no_sense(columns: dict[str, Any], match: str) -> None:
    kind = TypeError if "has parts" in match else ValueError
    refused(LEVEL1, columns, kind, match)


NAMED_LIKE_PATHS: dict[str, list[Any]] = {
    "value": [1, 2, 3],
    "next.values": [[1], None, []],
    "next.next.name": ["a", None, None],
    "next.next.next.value": [0.5, None, 1.5],
}
TABLES_OF_PATHS: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "pyarrow table": lambda columns: pa.table(columns),
    "pyarrow reader": lambda columns: pa.table(columns).to_reader(),
    "pyarrow chunks": lambda columns: pa.concat_tables([pa.table(columns)[:1], pa.table(columns)[1:]]),
    "polars": lambda columns: pl.DataFrame(columns),
    "pandas": lambda columns: pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype),
    "NumPy": lambda columns: np.array(
        list(zip(columns["value"], columns["next.next.next.value"], strict=True)),
        [("value", "i8"), ("next.next.next.value", "f8")],
    ),
}


@pytest.mark.parametrize("source", TABLES_OF_PATHS)
def test_columns_of_tables_may_have_dots_in_their_names(source: str) -> None:
    columns = dict(NAMED_LIKE_PATHS)
    if source == "NumPy":
        columns = {"value": [1, 2, 3], "next.next.next.value": [0.5, 2.5, 1.5]}
    assert messages_of(LEVEL1, TABLES_OF_PATHS[source](columns)) == messages_of(LEVEL1, columns)


def test_dots_in_the_names_of_the_parts_of_arrow_structs() -> None:
    wanted = messages_of(LEVEL1, NAMED_LIKE_PATHS)
    inner = {name.removeprefix("next."): pa.array(column) for name, column in NAMED_LIKE_PATHS.items()}
    value = inner.pop("value")
    # Where all parts are null, the mapping makes no table; a struct that is there is one.
    next_ = pa.StructArray.from_arrays(list(inner.values()), list(inner), mask=pa.array([False, True, False]))
    assert messages_of(LEVEL1, {"value": value, "next": next_}) == wanted
    assert messages_of(LEVEL1, pa.table({"value": value, "next": next_})) == wanted
    # Slices of either have offsets of their own; and a struct that is null hides its parts.
    assert messages_of(LEVEL1, pa.table({"value": value, "next": next_})[1:]) == wanted[1:]
    hidden = pa.StructArray.from_arrays(list(inner.values()), list(inner), mask=pa.array([True, False, True]))
    records = records_of(LEVEL1, {"next": hidden[1:]})
    assert [record["next"] is None for record in records] == [False, True]
    # Of structs in vectors and in dictionaries too.
    trees = pa.StructArray.from_arrays([pa.array(["a", "b"]), pa.array([1, 2])], ["left.label", "value"])
    lists = pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), trees)
    assert messages_of(TREE, {"children": lists}) == messages_of(
        TREE, {"children": [[{"left": {"label": "a"}, "value": 1}, {"left": {"label": "b"}, "value": 2}]]}
    )
    coded = pa.DictionaryArray.from_arrays(pa.array([1, None, 0]), trees)
    assert messages_of(TREE, {"right": coded}) == messages_of(
        TREE, {"right": [{"left": {"label": "b"}, "value": 2}, None, {"left": {"label": "a"}, "value": 1}]}
    )


def test_structs_from_tables_with_dots_are_copied_from_a_template() -> None:
    points = pa.table({"point_required.x": [1.0, 2.0], "point_required.y": [3.0, 4.0], "point.x": [None, 5.0]})
    points = points.append_column("point.y", [[None, 6.0]])
    assert [(record["point"], record["point_required"]) for record in records_of(STRUCTS, points)] == [
        (None, {"x": "1.0", "y": "3.0"}),
        ({"x": "5.0", "y": "6.0"}, {"x": "2.0", "y": "4.0"}),
    ]
    refused(STRUCTS, points.drop_columns(["point.y"]), ValueError, "column 'point.y' is missing: a struct like")


def test_paths_that_came_out_go_in_again() -> None:
    choices = [{"Named": {"name": "a", "code": 3}}, None, {"Level1": {"value": 7}}, {"Named": {"name": "b"}}]
    columns: dict[str, Any] = {
        "level": [{"value": 1, "next": {"values": [1, 2]}}, None, {"value": 5}, {}],
        "structs": [{"point_required": (1, 2)}, {"point_required": (3, 4)}, None, None],
        "choice": choices,
    }
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        writer.write_payloads(messages_of(SHAPE, columns))
    paths = [
        "level.value",
        "level.next.values",
        "structs.point_required.x",
        "structs.point_required.y",
        "choice_type",
        "choice.Named.name",
        "choice.Named.code",
        "choice.Level1.value",
    ]
    with StreamReader(sink.getvalue()) as reader:
        batch = reader.columns(SHAPE, paths)
    wanted = records_of(SHAPE, columns)
    frame = batch.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)
    for source in (batch, batch.to_arrow(), batch.to_polars(), frame):
        assert records_of(SHAPE, source) == wanted


@pytest.mark.parametrize(
    ("names", "kind", "match"),
    [
        (["next.values", "next"], ValueError, "column 'next' is there both as a whole and in parts"),
        (["next", "next.values"], ValueError, "column 'next' is there both as a whole and in parts"),
        (["next.next.name", "next.next"], ValueError, "column 'next.next' is there both as a whole and in parts"),
        (["next.next.name", "next.next.name"], ValueError, "there are two columns 'next.next.name'"),
        (["next.nothing"], ValueError, "'next.nothing': shapes.Level2 has no field 'nothing'"),
        (["value.x"], TypeError, "column 'value' has parts, but int has none"),
        (["value."], TypeError, "column 'value' has parts, but int has none"),
        ([".value"], ValueError, "column ''"),
        (["."], ValueError, "column ''"),
    ],
)
def test_tables_with_dots_that_make_no_sense(names: list[str], kind: type[Exception], match: str) -> None:
    refused(LEVEL1, pa.table([pa.nulls(1)] * len(names), names), kind, match)


def test_paths_of_arrow_without_an_end() -> None:
    refused(TREE, pa.table({"left." * 100 + "value": [1]}), ValueError, "nested deeper than 64 tables")
    inner: Any = pa.array([1])
    for _ in range(60):
        inner = pa.StructArray.from_arrays([inner], ["left.left"])
    refused(TREE, {"left": inner}, ValueError, "nested deeper than 64 tables")


# Names, lengths and types: refused before anything is written


@pytest.mark.parametrize(
    ("table", "columns", "kind", "match"),
    [
        (SCALARS, {"i33": [1]}, ValueError, "column 'i33': shapes.Scalars has no field 'i33'; it has truth, i8,"),
        (
            NAMED,
            {"nmae": ["x"]},
            ValueError,
            "^column 'nmae': shapes.Named has no field 'nmae'; it has name, note, code$",
        ),
        (SHAPE, {"named.nmae": ["x"]}, ValueError, "'named.nmae': shapes.Named has no field 'nmae'; it has name, note"),
        (NUMBERED, {"new": [1]}, ValueError, "it has first, text, choice_type, choice, truth, last$"),
        (EMPTY, {"x": [1]}, ValueError, "column 'x': shapes.Empty has no field 'x'; it has none$"),
        (NUMBERED, {"old": [1]}, ValueError, "column 'old' is deprecated in shapes.Numbered"),
        (NAMED, {"code": [1]}, ValueError, "column 'name' is missing: shapes.Named requires it"),
        (SHAPE_UNIONS, {"choice": [None]}, ValueError, "column 'must' is missing"),
        (SHAPE_UNIONS, {"must_type": ["Empty"]}, ValueError, "column 'must' is missing"),
        (SHAPE, {"choice_type": ["NONE"]}, ValueError, "column 'choice' is missing, whose type is in 'choice_type'"),
        (SHAPE, {"named": [{"code": 1}]}, ValueError, "column 'named.name' is missing: shapes.Named requires it"),
        (
            STRUCTS,
            {"point_required.x": [1]},
            ValueError,
            "column 'point_required.y' is missing: a struct like shapes.Po",
        ),
        (SCALARS, {"i32": [1], "i64": [1, 2]}, ValueError, "'i32' has 1 rows and 'i64' 2"),
        (LEVEL1, {"value": [1], "next.next.name": ["a", "b"]}, ValueError, "'value' has 1 rows and 'next.next.name' 2"),
        (SCALARS, {}, ValueError, "there are no columns"),
        (SCALARS, {"i32": {}}, ValueError, "there are no columns"),
        (SCALARS, {1: [1]}, TypeError, "the names of columns must be str, got 1"),
        (SCALARS, {"i32": "abc"}, TypeError, "must be a column of values, got one str"),
        (SCALARS, {"i32": b"abc"}, TypeError, "must be a column of values, got one bytes"),
        (SCALARS, {"i32": 5}, TypeError, "must be a NumPy array, a buffer, a list or .* got int"),
        (SCALARS, {"i32": None}, TypeError, "got NoneType"),
        (SCALARS, [1, 2], TypeError, "columns must be a mapping of names to arrays, .* got list"),
        (SCALARS, None, TypeError, "got NoneType"),
        (
            VECTORS,
            {"named.name": ["x"]},
            TypeError,
            r"'named' takes lists, for .*\[table shapes.Named\]: .* 'named.name'",
        ),
        (VECTORS, {"i8s": [None], "named": {}}, TypeError, "column 'named' takes lists"),
        (VECTORS, pa.table({"named.name": ["x"]}), TypeError, "column 'named' takes lists, .* like 'named.name'"),
        (SCALARS, {"i32": ["a"]}, TypeError, "column 'i32', row 0: expected an int, got str"),
        (SCALARS, {"i32": [0, 1.5]}, TypeError, "column 'i32', row 1: expected an int, got float"),
        (SCALARS, {"i8": [0, 1, 300]}, ValueError, "column 'i8', row 2: expected a byte, -128 to 127, got 300"),
        (SCALARS, {"u64": [0, 2**64]}, ValueError, "column 'u64', row 1: expected a ulong"),
        (SCALARS, {"f64": ["x"]}, TypeError, "column 'f64', row 0: expected a double, got str"),
        (SCALARS, {"f64": [10**400]}, ValueError, "column 'f64', row 0: expected a double"),
        (
            SCALARS,
            {"color": ["Red", "Pink"]},
            ValueError,
            "column 'color', row 1: expected an enumerator of shapes.Color",
        ),
        (TREE, {"label": ["a", 5]}, TypeError, "column 'label', row 1: expected a str, got int"),
        (TREE, {"label": ["\ud800"]}, ValueError, "column 'label', row 0: not to be written as UTF-8"),
        (VECTORS, {"i32s": [[1], 5]}, TypeError, r"column 'i32s', row 1: expected a sequence, got int"),
        (VECTORS, {"i32s": [[1], "5"]}, TypeError, r"column 'i32s', row 1: expected a sequence, got str"),
        (VECTORS, {"i32s": [[1], [2, "5"]]}, TypeError, r"column 'i32s\[1\]', row 1: expected an int, got str"),
        (
            VECTORS,
            {"points": [[{"x": 1, "z": 2}]]},
            ValueError,
            r"'points\[0\]', row 0: shapes.Point has no field 'z'; it has x, y$",
        ),
        (TREE, {"left": [5]}, TypeError, r"column 'left', row 0: expected a mapping or a tuple, got int"),
        (
            SHAPE,
            {"choice": [{"Nobody": {}}]},
            ValueError,
            "row 0: shapes.Choice has no variant 'Nobody'; it has Named, ",
        ),
        (SCALARS, {"i32": pa.array(["1"])}, TypeError, "column 'i32' is string, which does not go into int"),
        (SCALARS, {"f64": pa.array([[1.0]])}, TypeError, "column 'f64' is list<double>.*|list<float64>"),
        (SCALARS, {"i32": pa.array([1.0])}, TypeError, "column 'i32' is float64: int needs integers"),
        (SCALARS, {"color": pa.array([1.0])}, TypeError, "byte shapes.Color needs integers"),
        (SCALARS, {"i32": pa.array([{"a": 1}])}, TypeError, "column 'i32' is struct, which does not go into int"),
        (TREE, {"label": pa.array([1])}, TypeError, "column 'label' is int64, which does not go into string"),
        (TREE, {"left": pa.array([1])}, TypeError, "column 'left' is int64: table shapes.Tree needs a struct"),
        (STRUCTS, {"point_required": pa.array([1])}, TypeError, "struct shapes.Point needs a struct"),
        (VECTORS, {"i32s": pa.array([1])}, TypeError, r"column 'i32s' is int64, which does not go into \[int\]"),
        (VECTORS, {"i32s": pa.array([b"1"])}, TypeError, r"column 'i32s' is binary, which does not go into \[int\]"),
        (VECTORS, {"u8s": pa.array(["1"])}, TypeError, r"column 'u8s' is string, which does not go into \[ubyte\]"),
        (VECTORS, {"strings": pa.array([[1]])}, TypeError, r"column 'strings\[\]' is int64, .* go into string"),
        (SHAPE, {"choice": pa.array([1])}, TypeError, "union shapes.Choice needs a struct with one nullable child"),
        (
            SHAPE,
            {"choice": pa.array([{"X": 1}])},
            ValueError,
            "column 'choice.X': shapes.Choice has no variant 'X'; it has Named, ",
        ),
        (SHAPE, {"choice": pa.array([{"NONE": 1}])}, ValueError, "shapes.Choice has no variant 'NONE'; it has Named"),
        (SCALARS, pa.array([1, 2]), TypeError, "expected a table of columns, got int64"),
        (SCALARS, pa.table([pa.array([1]), pa.array([2])], ["i32", "i32"]), ValueError, "there are two columns 'i32'"),
        (
            SCALARS,
            {"f64": pa.array([(1, 2, 3)], pa.month_day_nano_interval())},
            TypeError,
            "column 'f64' is an interval of months",
        ),
        (SCALARS, {"f64": pa.array([1], pa.decimal128(5, 2))}, TypeError, "column 'f64' is a decimal"),
        (SCALARS, {"i32": pa.RunEndEncodedArray.from_arrays([2], [5])}, TypeError, "column 'i32' is a run-end encoded"),
        (SCALARS, {"i32": pa.array([[(1, 2)]], pa.map_(pa.int8(), pa.int8()))}, TypeError, "column 'i32' is a map"),
        (
            SCALARS,
            {"i32": pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])])},
            TypeError,
            "column 'i32' is a union of Arrow",
        ),
    ],
)
def test_what_does_not_fit_the_table_is_refused_before_anything_is_written(
    table: Table, columns: Any, kind: type[Exception], match: str
) -> None:
    refused(table, columns, kind, match)


# Values: refused with the path and the row, after the rows before


def test_habits_of_pandas_are_told_from_mistakes() -> None:
    frame = pd.DataFrame({"i32": [1, 2, 3]}, index=[5, 6, 7])
    refused(
        SCALARS, frame, ValueError, r"'__index_level_0__' is the index of a pandas data frame, .* reset_index\(drop=T"
    )
    assert values(SCALARS, "i32", frame.reset_index(drop=True)) == [1, 2, 3]
    frame = pd.DataFrame({"i32": [1, None, 3]})
    for columns in (frame, {"i32": frame["i32"]}):
        refused(
            SCALARS, columns, TypeError, "is (float64|double): int needs integers, .* a nullable dtype like 'Int64'"
        )
    assert values(OPTIONALS, "i32", frame.astype("Int64")) == [1, None, 3]


def test_no_more_than_some_of_many_fields_are_listed() -> None:
    table = Schema.from_file("examples/telemetry.bfbs").root
    assert table is not None
    with pytest.raises(ValueError, match=r"telemetry.Event has no field 'tempo'; it has sequence, .* and 2\d more$"):
        write(table, {"tempo": [1]})


def test_wrong_values_in_lists_are_named_by_their_indices_and_rows() -> None:
    good = {"label": "x", "children": [{"value": 1}, {"children": []}]}
    for table, name, column, kind, match in (
        (VECTORS, "i32s", [[], None, [1, 2], [3], [], [4, 5, "x"]], TypeError, r"'i32s\[2\]', row 5: .* got str"),
        (VECTORS, "i8s", [[1, 200], [], [300]], ValueError, r"'i8s\[1\]', row 0: .* got 200"),
        (VECTORS, "i8s", [[], [], (i for i in [1, 2, 300])], ValueError, r"'i8s\[2\]', row 2: .* got 300"),
        (VECTORS, "strings", [["a"], None, ["b", "\ud800"]], ValueError, r"'strings\[1\]', row 2: not to be written"),
        (
            VECTORS,
            "named",
            [[], [{"name": "a"}, {"nmae": "b"}]],
            ValueError,
            r"'named\[1\]', row 1: .* no field 'nmae'",
        ),
        (VECTORS, "scalars", [None, [(1,), {"i8": 200}]], ValueError, r"'scalars\[1\].i8', row 1: expected a byte"),
        (
            TREE,
            "children",
            [[good], [], [{}, good, {**good, "children": [{}, {}, {"value": 1.5}]}]],
            TypeError,
            r"'children\[2\].children\[2\].value', row 2: expected an int, got float",
        ),
        (
            TREE,
            "left",
            [good, None, {"right": {"children": [None, {"left": {"children": [good, {"label": 5}]}}]}}],
            TypeError,
            r"'left.right.children\[1\].left.children\[1\].label', row 2: expected a str, got int",
        ),
        (
            TREE,
            "children",
            [[good], [good, {"children": 5}]],
            TypeError,
            r"'children\[1\].children', row 1: expected a s",
        ),
        (
            ANY_ROOT,
            "things",
            [[], [("Text", "a"), ("Holder", {"many": [None, {"Named": {"code": -1}}]})]],
            ValueError,
            r"'things\[1\].Holder.many\[1\].Named.code', row 1: expected a uint",
        ),
        (
            ANY_ROOT,
            "holder",
            [None, {"many": [None, "a", 5], "many_type": [None, "Text", "Txet"]}],
            ValueError,
            r"'holder.many\[2\]', row 1: its type: expected .*'Txet'",
        ),
    ):
        refused(table, {name: column}, kind, f"^column {match}")


def test_required_values_that_are_missing_in_lists_are_found_when_their_row_comes() -> None:
    column = [[{"name": "a"}], [{"name": "b"}, {"code": 5}]]
    refused(VECTORS, {"named": column}, ValueError, r"^column 'named\[1\].name', row 1: it is null, and the schema", 1)
    # Of a name that nobody has there is no column.
    refused(VECTORS, {"named": [[{"code": 5}]]}, ValueError, r"^column 'named\[\].name' is missing: shapes.Named req")


def many(bad: Any, good: Any, at: int, count: int = 3000) -> list[Any]:
    column = [good] * count
    column[at] = bad
    return column


@pytest.mark.parametrize("at", [0, 1, 1500, 2999])
@pytest.mark.parametrize(
    ("table", "make", "match"),
    [
        (SCALARS, lambda at: {"i8": np.array(many(200, 5, at))}, "column 'i8', row {at}: expected a byte, .* got 200"),
        (SCALARS, lambda at: {"u64": np.array(many(-1, 5, at))}, "column 'u64', row {at}: .* got -1"),
        (SCALARS, lambda at: {"f32": np.array(many(1e39, 1.0, at))}, r"column 'f32', row {at}: .* got 1e\+39"),
        (SCALARS, lambda at: {"truth": np.array(many(2, 1, at))}, "column 'truth', row {at}: .* got 2"),
        (SCALARS, lambda at: {"i64": np.array(many(2**63, 1, at), "u8")}, "column 'i64', row {at}: .* got 9223372036"),
        (SCALARS, lambda at: {"color": pa.array(many("Pink", "Red", at))}, "column 'color', row {at}: .* got 'Pink'"),
        (
            SCALARS,
            lambda at: {"color": pa.array(many("Pink", "Red", at)).dictionary_encode()},
            "column 'color', row {at}: .* got 'Pink'",
        ),
        (
            NAMED,
            lambda at: {"name": pa.array(many(None, "x", at))},
            "column 'name', row {at}: it is null, and the schema",
        ),
        (
            STRUCTS,
            lambda at: {"point_required": pa.array(many(None, {"x": 1, "y": 2}, at))},
            "column 'point_required', row {at}: it is null, and the schema requires it",
        ),
        (
            STRUCTS,
            lambda at: {"point_required": pa.array(many({"x": 1, "y": None}, {"x": 1, "y": 2}, at))},
            "column 'point_required.y', row {at}: it is null, and nothing in a struct",
        ),
        (
            VECTORS,
            lambda at: {"i16s": pa.array(many([1, 70000], [1, 2], at))},
            r"column 'i16s\[1\]', row {at}: expected a short",
        ),
        (
            VECTORS,
            lambda at: {"strings": pa.array(many(["a", None], ["b"], at))},
            r"'strings\[1\]', row {at}: it is null",
        ),
        (VECTORS, lambda at: {"i32s": pa.array(many([5, None], [1], at))}, r"column 'i32s\[1\]', row {at}: it is null"),
        (
            VECTORS,
            lambda at: {"scalars": pa.array(many([{"i8": 1}, {"i8": 200}], [{"i8": 1}], at))},
            r"column 'scalars\[1\].i8', row {at}: expected a byte",
        ),
        (
            VECTORS,
            lambda at: {"scalars": pa.array(many([None], [{"i8": 1}], at))},
            r"'scalars\[0\]', row {at}: it is null",
        ),
        (
            TREE,
            lambda at: {"label": pa.array(many(b"\xff", b"x", at), pa.binary())},
            "column 'label', row {at}: it is not UTF-8: see its byte 0",
        ),
        (
            SHAPE,
            lambda at: {"choice": pa.array(many({"Named": {"name": None}}, {"Named": {"name": "x"}}, at))},
            "column 'choice.Named.name', row {at}: it is null, and the schema requires it",
        ),
        (
            SHAPE,
            lambda at: {
                "choice": pa.array(many({"Tree": {"value": 1}}, {"Tree": {"value": 1}}, at)),
                "choice_type": pa.array(many("Level1", "Tree", at)),
            },
            "column 'choice', row {at}: its type is Level1 and its value is Tree",
        ),
        (
            SHAPE,
            lambda at: {
                "choice": pa.array(many(None, {"Tree": {"value": 1}}, at)),
                "choice_type": pa.array(many("Tree", "Tree", at)),
            },
            "column 'choice', row {at}: its type is Tree and its value is NONE",
        ),
        (
            SHAPE,
            lambda at: {
                "choice": pa.array(
                    many({"Tree": {"value": 1}, "Level1": {"value": 2}}, {"Tree": {"value": 1}, "Level1": None}, at)
                )
            },
            "column 'choice', row {at}: it has values for two variants",
        ),
        (
            SHAPE_UNIONS,
            lambda at: {"must": pa.array(many(None, {"Tree": {"value": 1}}, at))},
            "column 'must', row {at}: it is null, and the schema requires it",
        ),
    ],
)
def test_bad_value_is_refused_with_its_path_and_row_and_leaves_nothing(
    table: Table, make: Callable[[int], Any], match: str, at: int
) -> None:
    refused(table, make(at), ValueError, match.replace("{at}", str(at)), at)
    # In the second array of a stream the row is still that of the whole.
    columns = make(at)
    if not any(isinstance(column, np.ndarray) for column in columns.values()):
        chunks = {name: pa.chunked_array([column[:2], column[2:7], column[7:]]) for name, column in columns.items()}
        refused(table, pa.table(chunks), ValueError, match.replace("{at}", str(at)), at)


def test_arrays_of_the_wrong_length_for_a_fixed_array() -> None:
    grid = {
        "tag": 1,
        "cells": [1, 2, 3],
        "days": [1, 2],
        "corners": [{"x": 1, "y": 2}] * 2,
        "bits": [True] * 5,
        "weights": [1.0, 2.0],
    }
    point = [{"x": 1, "y": 2}] * 2
    assert values(STRUCTS, "grid", {"grid": [grid, None], "point_required": point})[1] is None
    refused(
        STRUCTS,
        {"grid": [grid, {**grid, "cells": [1, 2]}], "point_required": point},
        ValueError,
        "column 'grid.cells', row 1: it has 2 elements, where the array has 3",
        1,
    )
    refused(
        STRUCTS,
        {"grid": [grid, {**grid, "corners": [None, None]}], "point_required": point},
        ValueError,
        r"column 'grid.corners\[0\]', row 1: it is null",
        1,
    )


def test_vectors_of_unions_and_of_their_types_belong_together() -> None:
    things = [
        [{"Text": "a"}, None, {"First": {"x": 1, "y": 2}}, {"Second": {"x": 3, "y": 4}}, {"Wide": {"a": 1, "b": 2}}]
    ]
    kinds = [["Text", "NONE", "First", "Second", "Wide"]]
    (record,) = records_of(ANY_ROOT, {"things": things, "things_type": kinds})
    assert record["things"][0] == {"Text": "a"}
    assert record["things"][1] is None
    assert record["things"][3] == {"Second": {"x": "3.0", "y": "4.0"}}
    # Without their types these are those of the values.
    assert messages_of(ANY_ROOT, {"things": things}) == messages_of(ANY_ROOT, {"things": things, "things_type": kinds})
    refused(
        ANY_ROOT, {"things": things, "things_type": [["Text"]]}, ValueError, "row 0: it has 5 elements and 1 types", 0
    )
    refused(ANY_ROOT, {"things": [None], "things_type": [["Text"]]}, ValueError, "it is null, and its types are not", 0)
    refused(
        ANY_ROOT,
        {"things": things, "things_type": [["Text", "Text", "First", "Second", "Wide"]]},
        ValueError,
        r"column 'things\[1\]', row 0: its type is Text and its value is NONE",
        0,
    )


def test_enums_by_name_by_number_and_by_the_text_of_a_number() -> None:
    for column in (
        ["Blue", "Red", 77],
        np.array([5, -2, 77]),
        pa.array(["Blue", "Red", "77"]),
        pa.array([5, -2, 77], pa.int8()),
        pa.array(["Blue", "Red", "77"]).dictionary_encode(),
        pa.array([5, -2, 77]).dictionary_encode(),
        pa.chunked_array([pa.array(["Blue"]).dictionary_encode(), pa.array(["Red", "77"]).dictionary_encode()]),
    ):
        assert values(SCALARS, "color", {"color": column}) == [5, -2, 77]
    assert values(SCALARS, "far", {"far": pa.array(["Lowest", "Highest"])}) == [-(2**63), 2**63 - 1]
    assert values(SCALARS, "wide", {"wide": pa.array(["Last", "First Last"])}) == [2**63, 2**63 + 1]
    for wrong in ("", "-", "128", "-129", "1.0", "\uff19", "1" * 30):
        refused(SCALARS, {"color": pa.array([wrong])}, ValueError, "column 'color', row 0: expected", 0)
    refused(SCALARS, {"i32": pa.array(["5"])}, TypeError, "does not go into int")


# Other libraries


def scalar_columns() -> dict[str, list[Any]]:
    return {
        "i32": [1, -5, 2**31 - 1],
        "f64": [0.5, math.inf, -1e300],
        "u64": [2**64 - 1, 0, 7],
        "truth": [True, False, True],
    }


SOURCES: dict[str, Callable[[Any], Any]] = {
    "pyarrow table": lambda table: table,
    "pyarrow batch": lambda table: table.combine_chunks().to_batches()[0],
    "pyarrow reader": lambda table: table.to_reader(),
    "pyarrow struct array": lambda table: table.to_struct_array().combine_chunks(),
    "pyarrow columns": lambda table: {name: table[name] for name in table.column_names},
    "polars frame": lambda table: pl.from_arrow(table),
    "polars series": lambda table: {name: pl.from_arrow(table[name]) for name in table.column_names},
    "pandas frame": lambda table: table.to_pandas(),
    "pandas frame of arrow": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas series": lambda table: dict(table.to_pandas().items()),
    "duckdb": lambda table: duckdb.sql("select * from table_"),
    "NumPy": lambda table: {name: table[name].to_numpy() for name in table.column_names},
}


@pytest.mark.parametrize("source", SOURCES)
def test_columns_of_every_library(source: str) -> None:
    table_ = pa.table(
        scalar_columns(),
        schema=pa.schema({"i32": pa.int32(), "f64": pa.float64(), "u64": pa.uint64(), "truth": pa.bool_()}.items()),
    )
    columns = duckdb.sql("select * from table_") if source == "duckdb" else SOURCES[source](table_)
    assert messages_of(SCALARS, columns) == messages_of(SCALARS, table_)


@pytest.mark.parametrize("source", ["pyarrow table", "polars frame", "pandas frame of arrow", "duckdb"])
def test_strings_lists_structs_and_times_of_every_library(source: str) -> None:
    table_ = pa.table(
        {
            "value": pa.array([1, 2, 3], pa.int32()),
            "label": pa.array(["a", None, "日本"]),
            "left": pa.array([{"label": "x"}, None, {"label": None}]),
            "children": pa.array([[{"value": 1}, {"value": 2}], [], None]),
        }
    )
    columns = duckdb.sql("select * from table_") if source == "duckdb" else SOURCES[source](table_)
    assert messages_of(TREE, columns) == messages_of(TREE, table_)
    times = pa.table({"i64": pa.array([0, None, 5], pa.timestamp("us"))})
    columns = duckdb.sql("select * from times") if source == "duckdb" else SOURCES[source](times)
    assert values(OPTIONALS, "i64", columns) == [0, None, 5]


@pytest.mark.parametrize(
    "kind",
    [
        pa.date32(),
        pa.date64(),
        pa.time32("s"),
        pa.time32("ms"),
        pa.time64("us"),
        pa.time64("ns"),
        pa.duration("ms"),
        pa.timestamp("s"),
        pa.timestamp("ns", "Europe/Berlin"),
    ],
    ids=str,
)
def test_times_of_arrow_are_their_integers(kind: pa.DataType) -> None:
    number = 86_400_000 if kind in (pa.date64(),) else 5
    column = pa.array([number, None], pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)
    assert values(OPTIONALS, "i64", {"i64": column}) == [number, None]


def test_stream_is_read_batch_by_batch() -> None:
    made: list[int] = []

    def batches() -> Any:
        for i in range(50):
            made.append(i)
            yield pa.record_batch({"i32": pa.array([i] * 1000, pa.int32())})

    seen: list[int] = []

    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            seen.append(len(made))
            return len(data)

    reader = pa.RecordBatchReader.from_batches(pa.schema({"i32": pa.int32()}), batches())
    with StreamWriter(Sink(), buffer_size=4096) as writer:
        assert write_columns(writer, SCALARS.layout, SCALARS.number, reader) == 50_000
    assert len(made) == 50
    # Long before the last was made, the first were written.
    assert seen[0] <= 2


def test_empty_columns_and_empty_chunks() -> None:
    schema = pa.schema({"i32": pa.int32()})
    columns: dict[str, Any]
    for columns in (
        {"i32": []},
        {"i32": np.zeros(0)[:0].astype("i4")},
        schema.empty_table(),
        pa.table({"i32": pa.chunked_array([], pa.int32())}),
    ):
        assert messages_of(SCALARS, columns) == []
    empty = pa.array([], pa.int32())
    column = pa.chunked_array([empty, pa.array([1], pa.int32()), empty, empty, pa.array([2], pa.int32()), empty])
    assert values(SCALARS, "i32", pa.table({"i32": column})) == [1, 2]
    assert values(SCALARS, "i32", {"i32": column, "f64": np.zeros(2)}) == [1, 2]
    # No columns, but rows.
    assert len(messages_of(SCALARS, pa.table({"i32": [1, 2]}).select([]))) == 2
    assert values(OPTIONALS, "i32", {"i32": pa.nulls(3)}) == [None] * 3
    assert values(TREE, "children", {"children": pa.nulls(2), "left": pa.nulls(2), "label": pa.nulls(2)}) == [None] * 2


def test_null_rows_of_a_struct_array_are_no_messages() -> None:
    rows = pa.array([{"i32": 1}, None])
    refused(SCALARS, rows, ValueError, "^row 1: it is null, and no message can be", 1)


def test_structs_in_dictionaries() -> None:
    points = pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 1]), pa.array([{"x": 1, "y": 2}, {"x": 3, "y": 4}]))
    required = [{"x": 0, "y": 0}] * 4
    found = values(STRUCTS, "point", {"point": points, "point_required": required})
    assert found == [{"x": "3.0", "y": "4.0"}, {"x": "1.0", "y": "2.0"}, None, {"x": "3.0", "y": "4.0"}]


def test_null_in_a_dictionary_is_null() -> None:
    colors = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["Red", None]))
    assert values(OPTIONALS, "color", {"color": colors}) == [-2, None, -2]
    labels = pa.DictionaryArray.from_arrays(pa.array([1, 0, None]), pa.array(["x", None]))
    assert values(TREE, "label", {"label": labels}) == [None, "x", None]
    numbers = pa.DictionaryArray.from_arrays(pa.array([1, 0, None], pa.uint8()), pa.array([7, None]))
    assert values(OPTIONALS, "i32", {"i32": numbers}) == [None, 7, None]


ANYTHING = ["NONE", "Named", "First", "Second", "Wide", "Text", "Holder"]
KINDS_OF_TYPES: dict[str, Callable[[list[Any]], Any]] = {
    "names": lambda names: names,
    "tuple": tuple,
    "numbers": lambda names: [None if name is None else ANYTHING.index(name) for name in names],
    "array of numbers": lambda names: np.array([ANYTHING.index(name or "NONE") for name in names]),
    "narrow array": lambda names: np.array([ANYTHING.index(name or "NONE") for name in names], "u1"),
    "array of names": lambda names: np.array([name or "NONE" for name in names]),
    "array of objects": lambda names: np.array(names, dtype=object),
    "pyarrow": lambda names: pa.array(names),
    "pyarrow dictionary": lambda names: pa.array(names).dictionary_encode(),
    "pyarrow chunks": lambda names: pa.chunked_array(
        [pa.array(names[:2]), pa.array(names[2:2], "str"), pa.array(names[2:])]
    ),
    "pyarrow numbers": lambda names: pa.array([None if name is None else ANYTHING.index(name) for name in names]),
    "pyarrow slice": lambda names: pa.array(["Wide", *names])[1:],
    "polars": lambda names: pl.Series(names),
    "polars categories": lambda names: pl.Series(names, dtype=pl.Categorical),
    "pandas": lambda names: pd.Series(names, dtype="string"),
    "pandas categories": lambda names: pd.Series(names, dtype="category"),
}
TYPED: list[tuple[str | None, Any]] = [
    ("Named", {"name": "a", "code": 1}),
    ("First", (1.0, 2.0)),
    ("Text", "some text"),
    (None, None),
    ("Wide", {"a": 1, "b": 2}),
    ("Second", {"x": 1, "y": 2}),
    ("Named", ("b",)),
    ("Holder", {"choice_type": "Named", "choice": {"name": "c"}, "must_type": ["Named"], "must": [{"name": "d"}]}),
]


def written_by_a_record_writer(table: Table, records: list[dict[str, Any]]) -> list[Any]:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, table).write_records(records)
    return [read_message(table, bytes(payload)) for payload in StreamReader(sink.getvalue())]


@pytest.mark.parametrize("kind", KINDS_OF_TYPES)
def test_values_of_unions_are_plain_records_if_their_types_are_there(kind: str) -> None:
    types, given = [list(column) for column in zip(*TYPED, strict=True)]
    wanted = written_by_a_record_writer(ANY_ROOT, [{"anything_type": name, "anything": value} for name, value in TYPED])
    column = KINDS_OF_TYPES[kind](types)
    assert records_of(ANY_ROOT, {"anything_type": column, "anything": given}) == wanted
    assert records_of(ANY_ROOT, {"anything": tuple(given), "anything_type": column}) == wanted
    array_of_objects = np.empty(len(given), object)
    array_of_objects[:] = given
    assert records_of(ANY_ROOT, {"anything": array_of_objects, "anything_type": column}) == wanted
    # In tables inside, by their names with dots and in lists of mappings.
    must: dict[str, Any] = {"holder.must": [[]] * len(given)}
    wanted = written_by_a_record_writer(
        ANY_ROOT, [{"holder": {"one_type": name, "one": value, "must": []}} for name, value in TYPED]
    )
    assert records_of(ANY_ROOT, {"holder.one": given, "holder.one_type": column, **must}) == wanted
    holders = [{"one_type": name, "one": value, "must": []} for name, value in TYPED]
    assert records_of(ANY_ROOT, {"holder": holders}) == wanted


@pytest.mark.parametrize("kind", ["lists", "numbers", "pyarrow", "polars", "chunks"])
def test_vectors_of_unions_are_lists_of_plain_records_if_their_types_are_there(kind: str) -> None:
    rows = [TYPED[:3], [], TYPED[4:], [*TYPED[1:3], TYPED[5]]]
    types: Any = [[name for name, _ in row] for row in rows]
    given = [[value for _, value in row] for row in rows]
    wanted = written_by_a_record_writer(
        ANY_ROOT, [{"things_type": names, "things": list_} for names, list_ in zip(types, given, strict=True)]
    )
    if kind == "numbers":
        types = [[ANYTHING.index(name) for name in row] for row in types]
    elif kind == "pyarrow":
        types = pa.array(types)
    elif kind == "chunks":
        types = pa.chunked_array([pa.array(types[:1]), pa.array(types[1:])])
    elif kind == "polars":
        types = pl.Series(types)
    assert records_of(ANY_ROOT, {"things": given, "things_type": types}) == wanted


def test_values_of_unions_may_be_mappings_of_variants_beside_their_types() -> None:
    variants = [{"Named": {"name": "a"}}, {"Level1": {"value": 1}, "Named": None}, {"name": "b"}, {}, None]
    names = ["Named", "Level1", "Named", "Empty", "NONE"]
    assert values(SHAPE, "choice", {"choice": variants, "choice_type": names}) == [
        {"Named": {"name": "a", "note": None, "code": 0}},
        {"Level1": {"value": 1, "next": None}},
        {"Named": {"name": "b", "note": None, "code": 0}},
        {"Empty": {}},
        None,
    ]


@pytest.mark.parametrize(
    ("names", "given", "kind", "match"),
    [
        (
            None,
            [{"code": 1}],
            ValueError,
            r"has no variant 'code'; it has .* or a record if there is a column of types",
        ),
        ([None], [{"code": 1}], ValueError, "'choice', row 0: shapes.Choice has no variant 'code'"),
        (
            ["Named"],
            [{"nmae": "x"}],
            ValueError,
            "'choice.Named', row 0: shapes.Named has no field 'nmae'; it has name",
        ),
        (["Named"], [5], TypeError, "'choice.Named', row 0: expected a mapping or a tuple, got int"),
        (["Named", "Nmaed"], [None, {"name": "x"}], ValueError, "'choice', row 1: its type: expected .* got 'Nmaed'"),
        (
            [1, "NONE"],
            [("a",), {"name": "x"}],
            ValueError,
            "'choice', row 1: its type is NONE, so that there can be no",
        ),
        ([1, 99], [("a",), {"name": "x"}], ValueError, "row 1: shapes.Choice has no variant 99"),
        ([1, 300], [("a",), {"name": "x"}], ValueError, "row 1: its type: "),
        ([1, 1.5], [("a",), {"name": "x"}], TypeError, "row 1: its type: "),
        (pa.array([1.5]), [{"name": "x"}], ValueError, "has no variant 'name'"),
        (pa.array([{"a": 1}]), [{"name": "x"}], ValueError, "has no variant 'name'"),
        (["Named"], [{"Level1": {}}], ValueError, "column 'choice', row 0: its type is Named and its value is Level1"),
        (["Named"], [None], ValueError, "column 'choice', row 0: its type is Named and its value is NONE"),
        (["Named", "Named"], [{"name": "x"}], ValueError, "all columns must have the same length"),
    ],
)
def test_values_of_unions_that_are_not_what_their_types_say(
    names: Any, given: list[Any], kind: type[Exception], match: str
) -> None:
    columns = {"choice": given} if names is None else {"choice": given, "choice_type": names}
    refused(SHAPE, columns, kind, match)


def test_vectors_of_plain_records_that_are_not_what_their_types_say() -> None:
    for types, things, match in (
        ([["Named"]], [[{"name": "x"}, {"name": "y"}]], "has no variant 'name'"),
        ([["Named", "Txet"]], [[{"name": "x"}, "y"]], r"'things\[1\]', row 0: its type: .* got 'Txet'"),
        ([["Text"], "Text"], [["x"], ["y"]], "expected a mapping or a tuple, got str"),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            write(ANY_ROOT, {"things": things, "things_type": types})


def test_lists_of_arrays_and_bytes() -> None:
    column = [np.array([1, 2]), array.array("b", [3]), (4,), memoryview(b"\5\6"), range(7, 9), None]
    assert values(VECTORS, "i32s", {"i32s": column}) == [[1, 2], [3], [4], [5, 6], [7, 8], None]
    assert values(VECTORS, "u8s", {"u8s": [b"\1", bytearray(b"\2"), memoryview(b"\3"), None]}) == [[1], [2], [3], None]
    assert values(VECTORS, "u8s", {"u8s": [b"\1", [2, 3]]}) == [[1], [2, 3]]
    wide = memoryview(array.array("H", [1, 255]))
    assert values(VECTORS, "u8s", {"u8s": [wide, None, b"\3"]}) == [[1, 255], None, [3]]
    assert values(TREE, "label", {"label": ["ä", "ä".encode(), None]}) == ["ä", "ä", None]
    refused(TREE, {"label": ["a", b"\xff"]}, ValueError, "column 'label', row 1: it is not UTF-8: see its byte 0", 1)


def test_tuples_in_lists_are_what_they_are_to_a_record_writer() -> None:
    required = {"point_required": [(1.5, 2.5)] * 2}
    assert values(STRUCTS, "point", {"point": [(1, 2), None], **required}) == [{"x": "1.0", "y": "2.0"}, None]
    assert values(STRUCTS, "point_required", required) == [{"x": "1.5", "y": "2.5"}] * 2
    choices = [("Named", {"name": "a"}), (2, (7,)), ("NONE", None), None, (0, None)]
    assert values(SHAPE, "choice", {"choice": choices}) == [
        {"Named": {"name": "a", "note": None, "code": 0}},
        {"Level1": {"value": 7, "next": None}},
        None,
        None,
        None,
    ]
    things = [[("Text", "a"), (2, (1, 2)), ("NONE", None)]]
    assert values(ANY_ROOT, "things", {"things": things}) == [
        [{"Text": "a"}, {"First": {"x": "1.0", "y": "2.0"}}, None]
    ]
    for wrong, match in (
        ((1, 2, 3), "shapes.Point has 2 fields, got 3 values"),
        ((1,), "column 'point.y' is missing: a struct like shapes.Point needs all of its fields"),
    ):
        refused(STRUCTS, {"point": [wrong], "point_required": [(1, 2)]}, ValueError, match)
    refused(SHAPE, {"choice": [("Named",)]}, ValueError, "row 0: expected a variant and its value, got 1 values")
    refused(SHAPE, {"choice": [(99, None)]}, ValueError, "row 0: shapes.Choice has no variant 99")


def test_vectors_and_structs_are_aligned_as_the_schema_wants_them() -> None:
    # The verifier does not look at structs, as that of the Rust crate does not.
    for count in range(4):
        for size in range(40):
            (message,) = messages_of(
                VECTORS,
                {
                    "aligneds": [[{"a": 0x1122334455667788, "b": 9}] * count],
                    "overaligned": [bytes([0xA5]) * size],
                    "mixeds": [[{"flag": True, "big": 1.25, "small": 2, "medium": 3, "color": 0}] * count],
                },
            )
            if count:
                assert message.index(struct.pack("<Q", 0x1122334455667788)) % 16 == 0
                assert message.index(struct.pack("<d", 1.25)) % 8 == 0
            if size:
                assert message.index(bytes([0xA5])) % 32 == 0
    for columns in ({}, {"pixel": [{"level": 1}]}, {"mixed.flag": [1], "mixed.big": [1], "mixed.small": [1],
                    "mixed.medium": [1], "mixed.color": [1]}):  # fmt: skip
        given = {**columns, "point_required": [{"x": 1, "y": 1}], "aligned": [{"a": 0x1122334455667788, "b": 9}]}
        (message,) = messages_of(STRUCTS, given)
        assert message.index(struct.pack("<Q", 0x1122334455667788)) % 16 == 0


# Encoders


@pytest.mark.parametrize("kind", ChecksumType, ids=lambda kind: kind.value)
@pytest.mark.parametrize("size", [0, 1, 60, 4096, 65536])
def test_every_checksum_and_buffer(kind: ChecksumType, size: int) -> None:
    columns = {"i64": np.arange(500), "f64": np.arange(500) / 2}
    strings = {"label": [str(i) for i in range(300)], "value": list(range(300))}
    assert messages_of(SCALARS, columns, kind, buffer_size=size) == messages_of(SCALARS, columns)
    assert messages_of(TREE, strings, kind, buffer_size=size) == messages_of(TREE, strings)


@pytest.mark.parametrize("kind", [ChecksumType.NONE, ChecksumType.CRC32], ids=lambda kind: kind.value)
def test_messages_that_are_larger_than_the_buffer(kind: ChecksumType) -> None:
    labels = ["x" * size for size in (10, 70_000, 5, 300_000, 65_536, 1)]
    messages = messages_of(TREE, {"label": labels}, kind)
    assert [read_message(TREE, message)["label"] for message in messages] == labels


def test_threads_that_share_a_writer_mix_no_frames() -> None:
    sink = io.BytesIO()
    rows = 30_000
    with StreamWriter(sink, ChecksumType.CRC32, buffer_size=4096) as writer:

        def work(number: int) -> int:
            columns = {"i32": np.full(rows, number), "i64": np.arange(rows)}
            return write_columns(writer, SCALARS.layout, SCALARS.number, columns)

        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(work, (1, 2, 3))) == [rows] * 3
        assert writer.frames_written == 3 * rows
    found: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for payload in StreamReader(sink.getvalue(), ChecksumType.CRC32):
        record = Scalars.GetRootAs(payload)
        found[record.I32()].append(record.I64())
    assert found == {number: list(range(rows)) for number in (1, 2, 3)}


def test_bound_of_the_framer_holds_and_the_rows_before_stand() -> None:
    columns = {"i64": np.array([0] * 10 + [1] + [0] * 10)}
    sink = io.BytesIO()
    with StreamWriter(sink, BoundedFramer(DefaultFramer(), 16)) as writer:
        with pytest.raises(flatstream.InvalidFrameError) as caught:
            write_columns(writer, SCALARS.layout, SCALARS.number, columns)
        assert (caught.value.frame, caught.value.rows_written) == (10, 10)  # type: ignore[attr-defined]
        assert writer.frames_written == 10


def test_validators_and_observers_are_asked_for_every_row() -> None:
    columns = {"i64": np.arange(5)}
    seen: list[memoryview] = []
    # Views that are kept stay what they are.
    messages = messages_of(SCALARS, columns, ObserverFramer(DefaultFramer(), seen.append))
    assert [bytes(view) for view in seen] == messages
    validator = TypedValidator.for_type(SHAPES, "shapes.Scalars")
    assert messages_of(SCALARS, columns, ValidatingFramer(DefaultFramer(), validator)) == messages
    with StreamWriter(io.BytesIO(), ValidatingFramer(DefaultFramer(), SizeValidator(0, 20))) as writer:
        with pytest.raises(flatstream.ValidationFailedError) as caught:
            write_columns(writer, SCALARS.layout, SCALARS.number, columns)
        assert caught.value.rows_written == 1  # type: ignore[attr-defined]


class Failing(io.RawIOBase):
    """Takes so many bytes, then fails."""

    def __init__(self, room: int, error: Exception) -> None:
        self.taken, self.room, self.error = bytearray(), room, error

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if len(self.taken) + len(data) > self.room:
            raise self.error
        self.taken += data
        return len(data)


@pytest.mark.parametrize("columns", [{"value": np.arange(5000)}, {"value": np.arange(5000), "label": ["x"] * 5000}])
def test_sink_that_fails_gives_its_own_error_and_the_rows_that_were_accepted(columns: Any) -> None:
    sink = Failing(20_000, OSError(errno.ENOSPC, "no space"))
    writer = StreamWriter(sink, buffer_size=8192)
    with pytest.raises(OSError, match="no space") as caught:
        write_columns(writer, TREE.layout, TREE.number, columns)
    assert caught.value.rows_written == writer.frames_written  # type: ignore[attr-defined]
    whole = io.BytesIO()
    with StreamWriter(whole) as other:
        write_columns(other, TREE.layout, TREE.number, columns)
    assert whole.getvalue().startswith(sink.taken)
    with pytest.raises(flatstream.FlatStreamError, match="refuses to go on"):
        writer.close()


def test_sink_that_would_block_can_be_tried_again_from_the_row_after() -> None:
    column = np.arange(5000)
    sink = Failing(10_000, BlockingIOError(errno.EAGAIN, "later", 0))
    writer = StreamWriter(sink, buffer_size=4096)
    with pytest.raises(BlockingIOError) as caught:
        write_columns(writer, TREE.layout, TREE.number, {"value": column})
    done = caught.value.rows_written  # type: ignore[attr-defined]
    sink.room = 10**9
    write_columns(writer, TREE.layout, TREE.number, {"value": column[done:]})
    writer.close()
    assert [bytes(payload) for payload in StreamReader(bytes(sink.taken))] == messages_of(TREE, {"value": column})


def test_closed_writer_is_refused_before_the_columns_are_looked_at() -> None:
    writer = StreamWriter(io.BytesIO())
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        write_columns(writer, SCALARS.layout, SCALARS.number, None)


def test_sink_that_writes_columns_itself_is_refused() -> None:
    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            with pytest.raises(RuntimeError, match="reentrant"):
                write_columns(writer, SCALARS.layout, SCALARS.number, {"i32": np.arange(9000)})
            return len(data)

    writer = StreamWriter(Sink(), buffer_size=1000)
    write_columns(writer, SCALARS.layout, SCALARS.number, {"i32": np.arange(1000)})
    writer.close()


def test_columns_that_a_sink_changes_or_lets_go_of() -> None:
    columns: dict[str, Any] = {"i64": np.arange(3000), "f64": np.zeros(3000)}

    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            columns.clear()
            if writing:
                gc.collect()
                with pytest.raises(BufferError):
                    held.append(1)
            return len(data)

    writing = True
    writer = StreamWriter(Sink(), buffer_size=30_000)
    held = array.array("i", range(3000))
    columns["i32"] = held
    assert write_columns(writer, SCALARS.layout, SCALARS.number, columns) == 3000
    # Nobody looks at it any more.
    writing = False
    held.append(1)
    writer.detach()


def test_offsets_that_a_sink_changes_are_compared_each_time() -> None:
    data = bytearray(struct.pack("<3001i", *range(3001)))
    strings = pa.StringArray.from_buffers(3000, pa.py_buffer(data), pa.py_buffer(b"x" * 3000))

    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, chunk: Any) -> int:
            data[:] = struct.pack("<3001i", *[2**30] * 3001)
            return len(chunk)

    with StreamWriter(Sink(), buffer_size=500) as writer, pytest.raises(ValueError, match="lead outside of its bytes"):
        write_columns(writer, TREE.layout, TREE.number, {"label": strings})


@pytest.mark.parametrize("wrong", [None, 5, "x"])
def test_arguments_of_the_wrong_type(wrong: Any) -> None:
    columns = {"i32": [1]}
    with StreamWriter(io.BytesIO()) as writer:
        for arguments in (
            (wrong, SCALARS.layout, SCALARS.number, columns),
            (writer, wrong, SCALARS.number, columns),
            (writer, SCALARS.layout, SCALARS.number, columns, wrong),
        ):
            with pytest.raises(TypeError):
                write_columns(*arguments)
        struct_number = next(number for number, info in enumerate(SHAPES._info.objects) if info.is_struct)
        for number in (-1, 10**30, None, "x", 1.0, struct_number):
            with pytest.raises(ValueError, match=r"there is no object .*: the schema has|is a struct, not a table"):
                write_columns(writer, SCALARS.layout, number, columns)  # type: ignore[arg-type]
        assert writer.frames_written == 0


def test_columns_inside_of_columns_without_an_end() -> None:
    endless: dict[str, Any] = {}
    endless["left"] = endless
    refused(TREE, endless, ValueError, "nested deeper than 64 mappings")
    refused(TREE, {"left." * 100 + "value": [1]}, ValueError, "nested deeper than 64 mappings")
    value: dict[str, Any] = {"value": 1}
    for _ in range(100):
        value = {"left": value}
    refused(TREE, {"left": [value]}, ValueError, "nested deeper than 64")


def test_record_writer_writes_columns() -> None:
    sink = io.BytesIO()
    columns = {"i32": np.array([1, 0, 3])}
    with StreamWriter(sink) as writer:
        assert RecordWriter(writer, SCALARS).write_columns(columns) == 3
        assert RecordWriter(writer, SCALARS, force_defaults=True, file_identifier=True).write_columns(columns) == 3
    messages = [bytes(payload) for payload in StreamReader(sink.getvalue())]
    assert messages[:3] == messages_of(SCALARS, columns)
    assert [message[4:8] for message in messages[3:]] == [b"SHAP"] * 3
    assert len({len(message) for message in messages[3:]}) == 1
    with StreamWriter(io.BytesIO()) as writer, pytest.raises(ValueError, match="'i8', row 2") as caught:
        RecordWriter(writer, SCALARS).write_columns({"i8": np.array([0, 1, 200])})
    assert caught.value.rows_written == 2  # type: ignore[attr-defined]


# Memory


NO_MEMORY = """
import io, random, sys
import _testcapi
import pyarrow
from columns_support import SHAPES, Making, Mapping, write_columns
from flatstream import FlatStreamError, StreamWriter
table = SHAPES.table("shapes.Shape")
mapping = Mapping(SHAPES._info)
making = Making(mapping, random.Random(3))
records = [making.record(table.number) for _ in range(3)]
arrow = mapping.arrow(table.number, records)
lists = {name: [record.get(name) for record in records] for name in arrow.column_names}
flat = pyarrow.table({"i32": range(50), "color": pyarrow.array(["Red"] * 50).dictionary_encode()})
scalars = SHAPES.table("shapes.Scalars")
class Sink(io.RawIOBase):
    # One of io.BytesIO is closed after it could not grow.
    def writable(self):
        return True
    def write(self, data):
        return len(data)
for kind, columns, most in ((scalars, flat, 200), (table, arrow, 3000), (table, lists, 6000)):
    failed = 0
    for allocation in range(0, most, 1 if most < 1000 else 23):
        writer = StreamWriter(Sink(), buffer_size=1000)
        try:
            _testcapi.set_nomemory(allocation, allocation + 1)
            try:
                write_columns(writer, kind.layout, kind.number, columns)
            finally:
                _testcapi.remove_mem_hooks()
        except MemoryError:
            failed += 1
        try:
            writer.close()
        except FlatStreamError as error:
            # It was the sink that had no memory.
            assert writer.is_refusing and isinstance(error.__cause__, MemoryError)
    with StreamWriter(io.BytesIO()) as writer:
        print(failed > 50, write_columns(writer, kind.layout, kind.number, columns))
"""


def test_memory_that_cannot_be_had_is_a_memory_error() -> None:
    pytest.importorskip("_testcapi")
    assert survives(NO_MEMORY) == ["True 50", "True 3", "True 3"]


def test_nothing_is_left_behind() -> None:
    table = pa.table(
        {"value": np.arange(2000), "label": [str(i) for i in range(2000)], "children": [[{"value": 1}]] * 2000}
    )
    bad = pa.table({"value": pa.array([1] * 500 + [2**40])})
    numbers_ = {"i64": np.arange(1000), "f64": np.zeros(1000)}
    lists = {"label": ["x"] * 500, "children": [[{"label": "y"}]] * 500}

    def work() -> None:
        write(TREE, table)
        write(SCALARS, numbers_)
        write(TREE, lists)
        with pytest.raises(ValueError, match="row 500"):
            write(TREE, bad)
        with pytest.raises(ValueError, match="no field"):
            write(SCALARS, table)

    for _ in range(3):
        work()
    gc.collect()
    references = [sys.getrefcount(item) for item in (table, bad, numbers_["i64"], TREE.layout, SCALARS.layout)]
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    work()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(10):
        work()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000
    assert pa.total_allocated_bytes() == arrow
    assert references == [sys.getrefcount(item) for item in (table, bad, numbers_["i64"], TREE.layout, SCALARS.layout)]


# What nobody sends by accident


def test_types_that_are_all_null_go_with_empty_vectors() -> None:
    root = UNIONS.table("unions.Root")
    for types_ in ([None], pa.nulls(1)):
        (message,) = messages_of(root, {"choices": [[]], "choices_type": types_})
        assert root.view(message).choices == []
        refused(root, {"choices": [[{"Named": {"name": "n"}}]], "choices_type": types_}, ValueError, "1 elements and 0")


class LongBytes(bytes):
    def __len__(self) -> int:
        return 4000


class MadeOfLongBytes(bytes):
    def __bytes__(self) -> bytes:
        return LongBytes(b"abc")


def test_bytes_that_say_they_are_longer_are_as_long_as_they_are() -> None:
    for field in ("u8s", "accesses", "overaligned"):
        (message,) = messages_of(VECTORS, {field: [MadeOfLongBytes(b"a")]})
        assert len(message) < 300
    assert values(TREE, "label", {"label": [LongBytes(b"abc")]}) == ["abc"]


def test_list_that_changes_while_it_is_read_is_read_as_it_was() -> None:
    class Kind:
        kind = "O"
        names = None

    class Column:
        dtype = Kind()

        def __init__(self) -> None:
            self.values: list[Any] = []

        def tolist(self) -> list[Any]:
            return self.values

    class Clearing:
        def __index__(self) -> int:
            column.values.clear()
            return 1

    column = Column()
    column.values = [Clearing(), *range(1000)]
    assert values(SCALARS, "i32", {"i32": column}) == [1, *range(1000)]


def test_mask_of_two_dimensions_is_refused_for_objects_too() -> None:
    for dtype in (object, "U1"):
        data = np.ma.array(np.array([["a", "b"], ["c", "d"]], dtype), mask=[[False, False], [False, False]])
        refused(VECTORS, {"strings": data}, TypeError, "has a mask of 2 dimensions")


def test_whole_numbers_become_the_nearest_float_whatever_they_come_in() -> None:
    for number in (2**60 + 2**36 + 1, -(2**60 + 2**36 + 1), 2**63 + 2**39 + 1, 2**24 + 1, 2**62 - 1):
        nearest = min(
            (float(np.nextafter(np.float32(number), np.float32(end))) for end in (-np.inf, np.inf)),
            key=lambda near: abs(int(near) - number),
        )
        nearest = min(nearest, float(np.float32(number)), key=lambda near: (abs(int(near) - number), near != nearest))
        dtype = "i8" if number < 2**63 else "u8"
        for column in (np.array([number], dtype), [number], pa.array([number], pa.uint64() if dtype == "u8" else None)):
            found = float(values(SCALARS, "f32", {"f32": column})[0])
            assert abs(int(found) - number) <= abs(int(nearest) - number), (number, column)
        sink = io.BytesIO()
        with StreamWriter(sink) as writer:
            RecordWriter(writer, SCALARS).write(f32=number)
            RecordWriter(writer, VECTORS).write(f32s=np.array([number], dtype))
            RecordWriter(writer, VECTORS).write(f32s=[number])
        scalar, *vectors = StreamReader(sink.getvalue())
        assert SCALARS.view(scalar).f32 == found
        assert [VECTORS.view(payload).f32s[0] for payload in vectors] == [found, found]


@pytest.mark.parametrize("size", [1, 9000], ids=["small", "large"])
def test_rows_written_counts_a_row_whose_rest_is_still_to_go(size: int) -> None:
    """A signal handler raises when the sink has the beginning of a frame: the frame stands, and its rest follows."""
    taken = bytearray()
    answers: list[Any] = [None, None, 10, KeyboardInterrupt()]

    def write(data: Any) -> int:
        answer = answers.pop(0) if answers else None
        if isinstance(answer, BaseException):
            raise answer
        count = min(len(data), len(data) if answer is None else answer)
        taken.extend(data[:count])
        return count

    encoder = Encoder(DefaultFramer(), 0, write, exact=True)
    labels = ["x" * size + str(i) for i in range(5)]
    with pytest.raises(KeyboardInterrupt) as caught:
        write_columns(encoder, TREE.layout, TREE.number, {"label": labels})
    written = caught.value.rows_written  # type: ignore[attr-defined]
    assert written == encoder.frames_written
    write_columns(encoder, TREE.layout, TREE.number, {"label": labels[written:]})
    assert [TREE.view(payload).label for payload in StreamReader(bytes(taken))] == labels


def test_indices_and_arrays_of_pandas() -> None:
    stamps = pd.date_range("2024-01-01", periods=2, tz="UTC").as_unit("ns")
    expected_stamps = [1_704_067_200_000_000_000, 1_704_153_600_000_000_000]
    for column in (stamps, stamps.array, pd.Series(stamps), stamps.tz_localize(None), stamps.tz_localize(None).array):
        assert values(SCALARS, "i64", {"i64": column}) == expected_stamps
    missing = pd.DatetimeIndex(["2024-01-01", None], tz="UTC").as_unit("ns")
    assert values(OPTIONALS, "i64", {"i64": missing}) == [expected_stamps[0], None]
    for column in (
        pd.RangeIndex(1, 3),
        pd.Index([1, 2]),
        pd.Index([1, 2], dtype="Int64"),
        pd.array([1, 2], dtype="Int64"),
    ):
        assert values(SCALARS, "i64", {"i64": column}) == [1, 2]
    assert values(TREE, "label", {"label": pd.Index(["a", "b"])}) == ["a", "b"]
    with pytest.raises(TypeError, match=r"got LazyFrame: collect\(\) it first"):
        write(SCALARS, pl.LazyFrame({"i64": [1]}))


def test_number_without_a_name_goes_in_as_its_text_from_a_list_too() -> None:
    for column in (["77", "Red"], np.array(["77", "Red"]), pa.array(["77", "Red"])):
        assert values(SCALARS, "color", {"color": column}) == [77, -2]

"""Records from columns: what is written is what stands in the columns, whoever they are from, and all of it or nothing.

Messages are read with the code that flatc generated, or, for schemas that flatc 2.0.8 generates none for, with the
package's own `Table`; each is verified. Random records of every schema go through the Arrow types that they have when
they are exported, and through every other type that is taken for them. Every NumPy type, order of bytes and stride is
compared with what `struct` makes of its values. What producers can do wrong, hand-made ones do in
test_arrow_import.py.
"""

from __future__ import annotations

import array
import ctypes
import io
import itertools
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import (
    DefaultFramer,
    ObserverFramer,
    StreamReader,
    StreamWriter,
)
from flatstream._core.column_writer.writer import write_columns
from flatstream._core.flatbuf.template import Template
from flatstream.schema import Schema, Table
from reference.records import expected, plain, read_message
from support.arrow_types import Making, Mapping
from support.columns import (
    ANY_ROOT,
    LEVEL1,
    NAMED,
    OPTIONALS,
    SCALARS,
    SHAPE,
    SHAPE_UNIONS,
    STRUCTS,
    TREE,
    VECTORS,
    messages_of,
    records_of,
    refused,
    values,
)
from support.extent import EVERYTHING, in_one_test
from support.processes import survives
from support.schemas import SHAPES, SHAPES_V2, TINY, UNIONS

DEFAULTS = SHAPES.table("shapes.Defaults")
HOLDER = SHAPES.table("shapes.Holder")

ALL_TABLES = [*(pytest.param(table, id=table.name) for schema in (SHAPES, SHAPES_V2, UNIONS, TINY) for table in schema)]
WITH_ORACLE = [param for param in ALL_TABLES if param.id != "T"]


# Every schema, by the Arrow types of what is exported


def random_records(table: Table, mapping: Mapping, seed: int, count: int) -> list[dict[str, Any]]:
    making = Making(mapping, random.Random(seed))
    return [making.record(table.number) for _ in range(count)]


@in_one_test(step=3)
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


@in_one_test(step=2)
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


@in_one_test(step=2)
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


@in_one_test
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


@in_one_test
@pytest.mark.parametrize("name", SCALAR_DTYPES)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_arrays_of_every_type_order_and_stride(name: str, arrangement: str) -> None:
    data = ARRANGEMENTS[arrangement](extremes(SCALAR_DTYPES[name]))
    assert values(SCALARS, name, {name: data}) == [plain(value) for value in data.tolist()]


@in_one_test
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
    data = data[:: 1 if EVERYTHING else 37]
    for name in ("f32", "f64"):
        assert values(SCALARS, name, {name: data}) == [plain(float(value)) for value in data]


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
    refused(SCALARS, {"i32": data}, TypeError, "int32 in rows of 3, which cannot be stored as int")
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
    refused(SCALARS, {"f64": np.zeros(1, code)}, TypeError, "'f64' has items of .* which are not numbers")


def test_numpy_need_not_be_there() -> None:
    code = """
import io, sys
from array import array
sys.modules["numpy"] = sys.modules["pyarrow"] = None
from flatstream import StreamWriter
from flatstream.schema import Schema
from flatstream._core.stream.encoder import Encoder
from flatstream._core.column_writer.writer import write_columns
table = Schema.from_file("tests/data/schemas/shapes.bfbs").table("shapes.Scalars")
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
    refused(STRUCTS, columns, ValueError, r"column 'point.y', row 1: it is null, but a field of a struct", 1)


@in_one_test
@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"next.values": [[1]], "next": [None]}, "'next' is given both as a whole and in parts"),
        ({"next": [None], "next.values": [[1]]}, "'next' is given both as a whole and in parts"),
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


@in_one_test
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
    refused(STRUCTS, points.drop_columns(["point.y"]), ValueError, "column 'point.y' is missing: struct")


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


@in_one_test
@pytest.mark.parametrize(
    ("names", "kind", "match"),
    [
        (["next.values", "next"], ValueError, "column 'next' is given both as a whole and in parts"),
        (["next", "next.values"], ValueError, "column 'next' is given both as a whole and in parts"),
        (["next.next.name", "next.next"], ValueError, "column 'next.next' is given both as a whole and in parts"),
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

"""Columns of other libraries, and of plain Python, give the same messages."""

from __future__ import annotations

import array
import io
import math
import struct
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flatstream import (
    RecordWriter,
    StreamReader,
    StreamWriter,
)
from flatstream._core.column_writer.writer import write_columns
from flatstream.schema import Table
from reference.records import read_message
from support.columns import (
    ANY_ROOT,
    OPTIONALS,
    SCALARS,
    SHAPE,
    STRUCTS,
    TREE,
    VECTORS,
    messages_of,
    records_of,
    refused,
    values,
    write,
)
from support.extent import in_one_test

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


@in_one_test
@pytest.mark.parametrize("source", SOURCES)
def test_columns_of_every_library(source: str) -> None:
    table_ = pa.table(
        scalar_columns(),
        schema=pa.schema({"i32": pa.int32(), "f64": pa.float64(), "u64": pa.uint64(), "truth": pa.bool_()}.items()),
    )
    columns = duckdb.sql("select * from table_") if source == "duckdb" else SOURCES[source](table_)
    assert messages_of(SCALARS, columns) == messages_of(SCALARS, table_)


@in_one_test
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


@in_one_test
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
    refused(SCALARS, rows, ValueError, "^row 1: it is null, but each row must be a message", 1)


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


@in_one_test
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


@in_one_test
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


@in_one_test
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
            "'choice', row 1: its type is NONE, so it must not have a value",
        ),
        ([1, 99], [("a",), {"name": "x"}], ValueError, "row 1: shapes.Choice has no variant 99"),
        ([1, 300], [("a",), {"name": "x"}], ValueError, "row 1: its type: "),
        ([1, 1.5], [("a",), {"name": "x"}], TypeError, "row 1: its type: "),
        (pa.array([1.5]), [{"name": "x"}], ValueError, "has no variant 'name'"),
        (pa.array([{"a": 1}]), [{"name": "x"}], ValueError, "has no variant 'name'"),
        (["Named"], [{"Level1": {}}], ValueError, "column 'choice', row 0: its type is Named, but its value is Level1"),
        (["Named"], [None], ValueError, "column 'choice', row 0: its type is Named, but its value is NONE"),
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
        ((1,), "column 'point.y' is missing: struct shapes.Point needs all of its fields"),
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

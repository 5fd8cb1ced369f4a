"""Columns that are refused: before anything is written, or with the path and the row, after the rows before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flatstream.schema import Schema, Table
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
    write,
)
from support.extent import in_one_test
from support.schemas import SHAPES

NUMBERED = SHAPES.table("shapes.Numbered")


EMPTY = SHAPES.table("shapes.Empty")


# Names, lengths and types: refused before anything is written


@in_one_test
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
        (
            SHAPE,
            {"choice_type": ["NONE"]},
            ValueError,
            "column 'choice' is missing, but column 'choice_type' has its type",
        ),
        (SHAPE, {"named": [{"code": 1}]}, ValueError, "column 'named.name' is missing: shapes.Named requires it"),
        (
            STRUCTS,
            {"point_required.x": [1]},
            ValueError,
            "column 'point_required.y' is missing: struct shapes.Po",
        ),
        (SCALARS, {"i32": [1], "i64": [1, 2]}, ValueError, "'i32' has 1 rows and 'i64' 2"),
        (LEVEL1, {"value": [1], "next.next.name": ["a", "b"]}, ValueError, "'value' has 1 rows and 'next.next.name' 2"),
        (SCALARS, {}, ValueError, "there are no columns, so the number of rows is unknown"),
        (SCALARS, {"i32": {}}, ValueError, "there are no columns, so the number of rows is unknown"),
        (SCALARS, {1: [1]}, TypeError, "the names of columns must be str, got 1"),
        (SCALARS, {"i32": "abc"}, TypeError, "must be a column of values, got a single str"),
        (SCALARS, {"i32": b"abc"}, TypeError, "must be a column of values, got a single bytes"),
        (SCALARS, {"i32": 5}, TypeError, "must be a NumPy array, a buffer, a list or .* got int"),
        (SCALARS, {"i32": None}, TypeError, "got NoneType"),
        (SCALARS, [1, 2], TypeError, "columns must be a mapping of names to arrays, .* got list: write_records"),
        (SCALARS, None, TypeError, "got NoneType"),
        (
            VECTORS,
            {"named.name": ["x"]},
            TypeError,
            r"'named' takes lists, because .*\[table shapes.Named\]: .* 'named.name'",
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
        (TREE, {"label": ["\ud800"]}, ValueError, "column 'label', row 0: it cannot be encoded as UTF-8"),
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
        (SCALARS, {"i32": pa.array(["1"])}, TypeError, "column 'i32' is string, which cannot be stored as int"),
        (SCALARS, {"f64": pa.array([[1.0]])}, TypeError, "column 'f64' is list<double>.*|list<float64>"),
        (SCALARS, {"i32": pa.array([1.0])}, TypeError, "column 'i32' is float64: int needs integers"),
        (SCALARS, {"color": pa.array([1.0])}, TypeError, "byte shapes.Color needs integers"),
        (SCALARS, {"i32": pa.array([{"a": 1}])}, TypeError, "column 'i32' is struct, which cannot be stored as int"),
        (TREE, {"label": pa.array([1])}, TypeError, "column 'label' is int64, which cannot be stored as string"),
        (TREE, {"label": pa.array([1], pa.timestamp("us"))}, TypeError, r"'label' is timestamp\[us\], which cannot"),
        (TREE, {"label": pa.array([1], pa.timestamp("s"))}, TypeError, r"'label' is timestamp\[s\], which cannot"),
        (
            TREE,
            {"label": pa.array([1], pa.timestamp("ms", "Europe/Berlin"))},
            TypeError,
            r"'label' is timestamp\[ms, Europe/Berlin\], which cannot",
        ),
        (TREE, {"left": pa.array([1])}, TypeError, "column 'left' is int64: table shapes.Tree needs a struct"),
        (STRUCTS, {"point_required": pa.array([1])}, TypeError, "struct shapes.Point needs a struct"),
        (VECTORS, {"i32s": pa.array([1])}, TypeError, r"column 'i32s' is int64, which cannot be stored as \[int\]"),
        (VECTORS, {"i32s": pa.array([b"1"])}, TypeError, r"column 'i32s' is binary, which cannot be stored as \[int\]"),
        (VECTORS, {"u8s": pa.array(["1"])}, TypeError, r"column 'u8s' is string, which cannot be stored as \[ubyte\]"),
        (VECTORS, {"strings": pa.array([[1]])}, TypeError, r"column 'strings\[\]' is int64, .* be stored as string"),
        (SHAPE, {"choice": pa.array([1])}, TypeError, "union shapes.Choice needs a struct with one nullable child"),
        (
            SHAPE,
            {"choice": pa.array([{"X": 1}])},
            ValueError,
            "column 'choice.X': shapes.Choice has no variant 'X'; it has Named, ",
        ),
        (SHAPE, {"choice": [("Empty", None)]}, ValueError, "'choice', row 0: its type is Empty, but its value is None"),
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
            "column 'i32' is an Arrow union",
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
        (
            VECTORS,
            "strings",
            [["a"], None, ["b", "\ud800"]],
            ValueError,
            r"'strings\[1\]', row 2: it cannot be encoded",
        ),
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
    refused(VECTORS, {"named": column}, ValueError, r"^column 'named\[1\].name', row 1: it is null, but the schema", 1)
    # Of a name that nobody has there is no column.
    refused(VECTORS, {"named": [[{"code": 5}]]}, ValueError, r"^column 'named\[\].name' is missing: shapes.Named req")


def many(bad: Any, good: Any, at: int, count: int = 3000) -> list[Any]:
    column = [good] * count
    column[at] = bad
    return column


@in_one_test
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
            "column 'name', row {at}: it is null, but the schema",
        ),
        (
            STRUCTS,
            lambda at: {"point_required": pa.array(many(None, {"x": 1, "y": 2}, at))},
            "column 'point_required', row {at}: it is null, but the schema requires a value",
        ),
        (
            STRUCTS,
            lambda at: {"point_required": pa.array(many({"x": 1, "y": None}, {"x": 1, "y": 2}, at))},
            "column 'point_required.y', row {at}: it is null, but a field of a struct",
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
            "column 'choice.Named.name', row {at}: it is null, but the schema requires a value",
        ),
        (
            SHAPE,
            lambda at: {
                "choice": pa.array(many({"Tree": {"value": 1}}, {"Tree": {"value": 1}}, at)),
                "choice_type": pa.array(many("Level1", "Tree", at)),
            },
            "column 'choice', row {at}: its type is Level1, but its value is Tree",
        ),
        (
            SHAPE,
            lambda at: {
                "choice": pa.array(many(None, {"Tree": {"value": 1}}, at)),
                "choice_type": pa.array(many("Tree", "Tree", at)),
            },
            "column 'choice', row {at}: its type is Tree, but its value is NONE",
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
            "column 'must', row {at}: it is null, but the schema requires a value",
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
        "column 'grid.cells', row 1: it has 2 elements, but the array has 3",
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
    refused(ANY_ROOT, {"things": [None], "things_type": [["Text"]]}, ValueError, "it is null, but its types are not", 0)
    refused(
        ANY_ROOT,
        {"things": things, "things_type": [["Text", "Text", "First", "Second", "Wide"]]},
        ValueError,
        r"column 'things\[1\]', row 0: its type is Text, but its value is NONE",
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
    refused(SCALARS, {"i32": pa.array(["5"])}, TypeError, "cannot be stored as int")

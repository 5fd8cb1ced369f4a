"""A null in a Series or an array that is given for a vector is refused with its place, whatever library it is from."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flatstream import Builder, RecordWriter, StreamReader, StreamWriter
from support.extent import in_one_test
from support.schemas import SHAPES

VECTORS = SHAPES.table("shapes.Vectors")

SERIES: dict[str, Callable[[list[Any]], Any]] = {
    "polars": pl.Series,
    "pyarrow": pa.array,
    "chunks of pyarrow": lambda values: pa.chunked_array([pa.array(values[:1]), pa.array(values[1:])]),
    "pandas with types of Arrow": lambda values: pd.Series(values, dtype=pd.ArrowDtype(pa.array(values).type)),
    "pandas with nullable types": lambda values: pd.Series(values).convert_dtypes(),
    "array of pandas": lambda values: pd.Series(values).convert_dtypes().array,
    "categories of pandas": lambda values: pd.Series(values, dtype="category"),
    "masked array": lambda values: np.ma.array(
        [values[0] if value is None else value for value in values], mask=[value is None for value in values]
    ),
}

# Fields with values for them, of which the one at index 2 becomes a null.
FIELDS: list[tuple[str, list[Any]]] = [
    ("f64s", [1.5, 2.5, 3.5]),
    ("f32s", [1.5, 2.5, 3.5]),
    ("i32s", [1, 2, 3]),
    ("u64s", [1, 2, 3]),
    ("u8s", [1, 2, 3]),
    ("truths", [True, False, True]),
    ("strings", ["a", "b", "c"]),
    ("colors", ["Red", "Blue", "Red"]),
]


def encoded(name: str, values: Any) -> Any:
    builder = Builder(8)
    VECTORS.encode(builder, {name: values})
    return VECTORS.view(bytes(builder)).to_dict(enums="name")[name]


def in_columns(name: str, values: Any) -> Any:
    """The same as one row of a column."""
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, VECTORS).write_columns({name: [None, values]})
    return list(StreamReader(sink.getvalue()).records(VECTORS))[1].to_dict(enums="name")[name]


@in_one_test
@pytest.mark.parametrize(("name", "values"), FIELDS, ids=lambda each: each if isinstance(each, str) else "")
@pytest.mark.parametrize("kind", SERIES)
def test_null_is_refused_with_its_place(kind: str, name: str, values: list[Any]) -> None:
    whole = SERIES[kind](values)
    plain = bytes(values) if name == "u8s" else values
    assert encoded(name, whole) == plain
    assert in_columns(name, whole) == plain
    holed = SERIES[kind]([*values[:2], None, *values])
    with pytest.raises(ValueError, match=rf"^{name}\[2\]: an element of a vector must not be null$"):
        encoded(name, holed)
    with pytest.raises(ValueError, match=rf"^column '{name}\[2\]', row 1: an element of a vector must not be null$"):
        in_columns(name, holed)


def test_nan_is_a_number() -> None:
    values = [float("nan"), 1.0]
    for series in (np.array(values), pl.Series(values), pd.Series(values), pa.array(values)):
        assert str(encoded("f64s", series)) == "[nan, 1.0]"


def test_null_inside_of_a_record_has_the_whole_path() -> None:
    shape = SHAPES.root
    assert shape is not None
    message = r"^row 1, vectors\.i16s\[1\]: an element of a vector must not be null$"
    with StreamWriter(io.BytesIO()) as writer, pytest.raises(ValueError, match=message):
        RecordWriter(writer, shape).write_records([{}, {"vectors": {"i16s": pl.Series([1, None])}}])


TIMES: dict[str, Callable[[list[Any]], Any]] = {
    "durations": lambda values: np.array(values, "m8[ms]"),
    "times": lambda values: np.array(values, "M8[ns]"),
    "times of the other byte order": lambda values: np.array(values, ">M8[us]"),
    "every second time": lambda values: np.array([each for value in values for each in (value, 77)], "M8[ns]")[::2],
    "index of pandas": lambda values: pd.DatetimeIndex(np.array(values, "M8[ns]")),
    "pandas": lambda values: pd.Series(np.array(values, "m8[ns]")),
}


@in_one_test
@pytest.mark.parametrize("kind", TIMES)
def test_times_are_their_integers_and_nat_is_a_null(kind: str) -> None:
    for name in ("i64s", "f64s", "u8s", "u64s"):
        plain = [1, 2, 3] if name != "u8s" else b"\1\2\3"
        assert encoded(name, TIMES[kind]([1, 2, 3])) == plain
        assert in_columns(name, TIMES[kind]([1, 2, 3])) == plain
        holed = TIMES[kind]([1, 2, "NaT", 3])
        with pytest.raises(ValueError, match=rf"^{name}\[2\]: an element of a vector must not be null$"):
            encoded(name, holed)
        with pytest.raises(
            ValueError, match=rf"^column '{name}\[2\]', row 1: an element of a vector must not be null$"
        ):
            in_columns(name, holed)


def test_nat_in_rows_of_times_has_its_place() -> None:
    times = np.array([[1, 2, 3], [4, 5, 6]], ">M8[ms]")
    with StreamWriter(io.BytesIO()) as writer:
        assert RecordWriter(writer, VECTORS).write_columns({"i64s": times}) == 2
        times[1, 2] = "NaT"
        message = r"^column 'i64s\[2\]', row 1: an element of a vector must not be null$"
        with pytest.raises(ValueError, match=message) as refused:
            RecordWriter(writer, VECTORS).write_columns({"i64s": times})
        assert (refused.value.rows_written, writer.frames_written) == (0, 2)  # type: ignore[attr-defined]


def test_times_in_the_array_of_a_struct_are_their_integers() -> None:
    grid = {"tag": 0, "days": [1, 1], "corners": [(0, 0)] * 2, "bits": [0] * 5, "weights": [0, 0]}
    structs = SHAPES.table("shapes.Structs")
    builder = Builder()
    structs.encode(builder, grid={**grid, "cells": np.array([1, 2, 3], ">m8[s]")}, point_required=(0, 0))
    assert structs.view(bytes(builder)).grid.cells.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"^grid\.cells\[1\]: an element of a vector must not be null$"):
        structs.encode(Builder(), grid={**grid, "cells": np.array([1, "NaT", 3], "m8[s]")}, point_required=(0, 0))


def test_null_in_the_array_of_a_struct_has_its_place() -> None:
    grid = {"tag": 0, "cells": pa.array([1, None, 3]), "days": [1, 1], "corners": [(0, 0)] * 2, "bits": [0] * 5}
    with pytest.raises(ValueError, match=r"^grid\.cells\[1\]: an element of a vector must not be null$"):
        SHAPES.table("shapes.Structs").encode(Builder(), grid={**grid, "weights": [0, 0]}, point_required=(0, 0))


def test_masked_number_is_no_number() -> None:
    scalars = SHAPES.table("shapes.Scalars")
    masked = np.ma.array([1.5, 2.5], mask=[False, True])
    for name in ("f64", "f32", "i32", "truth"):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: expected "):
            scalars.encode(Builder(), {name: masked[1]})
    builder = Builder()
    scalars.encode(builder, f64=masked[0])
    assert scalars.view(bytes(builder)).f64 == 1.5


def test_masked_structure_is_refused_with_its_place() -> None:
    points = np.ma.zeros(3, [("x", "f4"), ("y", "f4")])
    builder = Builder()
    VECTORS.encode(builder, points=points)
    assert len(VECTORS.view(bytes(builder)).points) == 3
    points[1] = np.ma.masked
    with pytest.raises(ValueError, match=r"^points\[1\]: an element of a vector must not be null$"):
        VECTORS.encode(Builder(), points=points)

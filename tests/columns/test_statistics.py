"""The extremes and null counts of columns, against the same computed in Python."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import pytest

from flatstream._core.arrow.column_parts import column_from_parts
from flatstream._core.arrow.exporter import ColumnData, ColumnType
from flatstream._core.column_reader.statistics import column_statistics
from flatstream.columns import ColumnBatch
from support.columns import LEVEL1, SHAPE, columns_of
from support.extent import EVERYTHING, in_one_test
from support.messages import LIMITS, extreme_messages, sample_messages
from support.processes import survives

# The formats of Arrow, with the codes of `struct` and the extreme numbers.
CODES: dict[str, tuple[str, list[Any]]] = {
    "b": ("B", [0, 1]),
    "c": ("b", [-128, 127]),
    "C": ("B", [0, 255]),
    "s": ("h", [-(2**15), 2**15 - 1]),
    "S": ("H", [0, 2**16 - 1]),
    "i": ("i", [-(2**31), 2**31 - 1]),
    "I": ("I", [0, 2**32 - 1]),
    "l": ("q", [-(2**63), 2**63 - 1]),
    "L": ("Q", [0, 2**64 - 1]),
    "f": ("f", [-math.inf, math.inf, 2.0**-149, 2.0**127]),
    "g": ("d", [-math.inf, math.inf, 5e-324, 1.7e308]),
}


def column_of(format: str, values: list[Any]) -> ColumnData:
    """A column of these values, None for null."""
    code = CODES[format][0]
    # What is stored for null must not count, so it is an extreme.
    stored = [CODES[format][1][i % 2] if value is None else value for i, value in enumerate(values)]
    validity = bytes(value is not None for value in values) if None in values else None
    content = struct.pack(f"={len(values)}{code}", *stored)
    return column_from_parts(ColumnType("x", format, True), len(values), validity, content, None, ())


def expected(values: list[Any]) -> tuple[Any, Any, int]:
    known = [value for value in values if value is not None and value == value]
    return min(known, default=None), max(known, default=None), len(values) - len(known)


def random_value(rng: random.Random, format: str) -> Any:
    code, extremes = CODES[format]
    if rng.random() < 0.1:
        return rng.choice(extremes)
    if format in "fg":
        if rng.random() < 0.2:
            return math.nan
        return struct.unpack(code, struct.pack(code, rng.uniform(-1e6, 1e6)))[0]
    return rng.randint(extremes[0], extremes[1]) // rng.choice([1, 100])


@in_one_test
@pytest.mark.parametrize("format", CODES)
def test_extremes_are_those_that_python_finds(format: str) -> None:
    rng = random.Random(format)
    for _ in range(2000 if EVERYTHING else 100):
        nulls = rng.choice([0, 0, 0.1, 0.9, 1])
        values = [
            None if rng.random() < nulls else random_value(rng, format) for _ in range(rng.choice([0, 1, 2, 7, 100]))
        ]
        column = column_of(format, values)
        assert column_statistics(column) == expected(values)
        begin = rng.randint(0, len(values))
        end = rng.randint(begin, len(values))
        assert column_statistics(column, begin, end) == expected(values[begin:end])
        assert column_statistics(column, begin) == expected(values[begin:])


@in_one_test
@pytest.mark.parametrize("format", CODES)
def test_extreme_numbers_stay_exact(format: str) -> None:
    extremes = CODES[format][1]
    low, high, nulls = column_statistics(column_of(format, extremes))
    assert (low, high, nulls) == (min(extremes), max(extremes), 0)
    assert type(low) is type(high) is (float if format in "fg" else int)


def test_nan_and_null_are_no_values() -> None:
    assert column_statistics(column_of("g", [math.nan, None, 2.5, math.nan, -1.0, None])) == (-1.0, 2.5, 4)
    assert column_statistics(column_of("g", [math.nan, 3.0, math.nan])) == (3.0, 3.0, 2)
    assert column_statistics(column_of("f", [math.nan] * 3)) == (None, None, 3)
    assert column_statistics(column_of("l", [None] * 3)) == (None, None, 3)
    assert column_statistics(column_of("l", [])) == (None, None, 0)


def test_many_rows_without_the_lock_give_the_same() -> None:
    values: list[Any] = list(range(-50_000, 50_000))
    random.Random(1).shuffle(values)
    assert column_statistics(column_of("i", values)) == (-50_000, 49_999, 0)
    values[70_000] = None
    assert column_statistics(column_of("i", values), 10, 99_000) == expected(values[10:99_000])


def test_columns_of_messages_have_statistics_with_enums_as_numbers() -> None:
    fields = [f"{name}.{field}" for name in ("scalars", "optionals") for field in [*LIMITS, "f32", "f64"]]
    fields += ["id", "scalars.truth", "scalars.color"]
    messages = sample_messages(40) + list(extreme_messages())
    by_name, by_number = (columns_of(messages, SHAPE, fields, enums=enums) for enums in ("dictionary", "number"))
    for name, column in by_number.items():
        known = expected(column.to_pylist())
        assert column_statistics(by_name[name]._data) == column_statistics(column._data) == known
    assert by_number["optionals.f64"].null_count


def test_other_columns_and_ranges_are_refused() -> None:
    numbers = column_of("l", [1, 2, 3])
    text = column_from_parts(ColumnType("name", "U", True), 1, None, b"a", struct.pack("=2q", 0, 1), ())
    with pytest.raises(TypeError, match="only columns of numbers, bools and enums have statistics: 'name' is none"):
        column_statistics(text)
    with pytest.raises(TypeError, match="is none of these"):
        column_statistics(ColumnBatch(columns_of([], LEVEL1)._data)._data)
    for begin, end in [(-1, 2), (0, 4), (2, 1), (4, None)]:
        with pytest.raises(ValueError, match=r"begin must|end must"):
            column_statistics(numbers, begin, end)
    with pytest.raises(TypeError):
        column_statistics(numbers, "0")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        column_statistics(None)  # type: ignore[arg-type]


def test_half_made_column_is_refused() -> None:
    code = """
from flatstream._core.arrow.exporter import ColumnData
from flatstream._core.column_reader.statistics import column_statistics
attempt(column_statistics, ColumnData.__new__(ColumnData))
"""
    assert survives(code) == ["TypeError this ColumnData was never completed"]

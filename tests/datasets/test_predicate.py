"""Predicates: what they leave out before a row is looked at is never a row that is asked for.

Each question is asked of rows in memory, by the library that its expression is of. The conditions must let through
these rows at least, and exactly these where the predicate says so; and so must the ranges of blocks.
"""

from __future__ import annotations

import datetime
import io
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream.datasets._predicate import Predicate
from support.extent import in_one_test
from support.questions import BEGIN, TEXT, Question, at, ids, questions, rows_of, table_of
from support.schemas import root_of

COUNT = 1200
BLOCK = 40
TIME = ("time_ns", "ns")
TABLE = table_of()
QUESTIONS = questions(COUNT)


class Range(NamedTuple):
    low: Any
    high: Any
    nulls: Any


def stream_of(table: Any, rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, "crc32") as writer:
        records = RecordWriter(writer, table)
        for row in rows:
            records.write_record(row)
    return sink.getvalue()


STREAM = stream_of(TABLE, rows_of(COUNT))


def timed(batch: Any, unit: str = "ns") -> pa.RecordBatch:
    """The rows as a dataset gives them: the time is a timestamp."""
    read = pa.record_batch(batch)
    index = read.schema.get_field_index("time_ns")
    if index < 0:
        return read
    step = {"ns": 1, "us": 10**3, "ms": 10**6}[unit]
    # Rounded down, also before 1970.
    numbers = pa.array(read.column(index).to_numpy() // step, pa.int64())
    return read.set_column(index, "time_ns", numbers.cast(pa.timestamp(unit, "UTC")))


def read(where: Any = None, fields: Any = None, table: Any = TABLE, stream: bytes = STREAM) -> Any:
    with StreamReader(stream, "crc32") as reader:
        return reader.columns(table, fields, where)


ALL = timed(read())
NUMBERED = ALL.append_column("row", pa.array(range(COUNT)))
FRAME = pl.DataFrame(NUMBERED)


def predicate_of(where: Any, schema: pa.Schema = ALL.schema, **options: Any) -> Predicate:
    made = Predicate.of(where, schema, time=TIME, **options)
    assert made is not None
    return made


def rows_that(where: Any) -> list[int]:
    """The rows that the library of an expression lets through."""
    if isinstance(where, pl.Expr):
        return FRAME.filter(where)["row"].to_list()
    found: list[int] = pa.Table.from_batches([NUMBERED]).filter(where).sort_by("row")["row"].to_pylist()
    return found


def statistics(paths: list[str], batch: Any = None, block: int = BLOCK) -> tuple[dict[str, Range], Any]:
    """The ranges of blocks of so many rows, as an index has them."""
    found = {}
    with StreamReader(STREAM, "crc32") as reader:
        numbers = reader.columns(TABLE, paths, enums="number")
    for path in paths:
        column = numbers[path].to_arrow()
        parts = [column[begin : begin + block] for begin in range(0, COUNT, block)]
        values = [[value for value in part.to_pylist() if value is not None and value == value] for part in parts]
        kind = np.dtype("f8") if pa.types.is_floating(column.type) else np.dtype("i8")
        if pa.types.is_uint64(column.type):
            kind = np.dtype("u8")
        low = np.array([min(each, default=0) for each in values], kind)
        high = np.array([max(each, default=0) for each in values], kind)
        found[path] = Range(low, high, np.array([len(p) - len(v) for p, v in zip(parts, values, strict=True)]))
    counts = np.array([min(block, COUNT - begin) for begin in range(0, COUNT, block)])
    return found, counts


INDEXED = [
    *("time_ns", "i8", "u8", "i32", "u32", "i64", "u64", "f", "d", "b", "opt", "optd", "optb", "level", "maybe"),
    *("header.sequence", "header.level", "header.limit", "point.x", "point.y", "marks"),
]
STATISTICS, COUNTS = statistics(INDEXED)


def check(predicate: Predicate, expected: list[int]) -> tuple[bool, int]:
    """Asks with a predicate, step by step; whether it is exact, and how many blocks are left."""
    conditions = predicate.conditions_for(TABLE)
    kept = [] if conditions is None else timed(read(conditions, ["time_ns"]))
    if conditions is None:
        assert not expected
    else:
        times = set(kept.column(0).cast(pa.int64()).to_pylist())
        row_of = {time: row for row, time in enumerate(ALL["time_ns"].cast(pa.int64()).to_pylist())}
        through = sorted(row_of[time] for time in times)
        if predicate.is_exact:
            assert through == expected
        assert set(expected) <= set(through)
        filtered = predicate.filter(NUMBERED.take(pa.array(through, pa.int64())))
        assert filtered["row"].to_pylist() == expected
    blocks = predicate.may_match(TABLE, STATISTICS, COUNTS)
    assert blocks.dtype == bool
    assert len(blocks) == len(COUNTS)
    assert {row // BLOCK for row in expected} <= set(np.flatnonzero(blocks))
    assert predicate.may_match(TABLE, {}, COUNTS).sum() >= blocks.sum()
    return predicate.is_exact, int(blocks.sum())


@in_one_test
@pytest.mark.parametrize("question", QUESTIONS, ids=ids(QUESTIONS))
@pytest.mark.parametrize("dialect", ["arrow", "polars"])
def test_expression_of_a_question_leaves_out_no_row_that_is_asked_for(question: Question, dialect: str) -> None:
    where = getattr(question, dialect)
    check(predicate_of(where), rows_that(where))


def held(row: dict[str, Any], condition: tuple[Any, ...]) -> bool:
    """Whether a row holds a condition, as docs/columns.md says it."""
    path, *rest = condition
    value: Any = row
    for name in path.split("."):
        value = None if value is None else value[name]
    if value is None or value != value:
        return False
    if not isinstance(rest[0], str):
        low, high = rest
        return (low is None or low <= value) and (high is None or value < high)
    sign, operand = rest
    compared: dict[str, Callable[[], bool]] = {
        "==": lambda: value == operand,
        "!=": lambda: value != operand,
        "<": lambda: value < operand,
        "<=": lambda: value <= operand,
        ">": lambda: value > operand,
        ">=": lambda: value >= operand,
        "in": lambda: value in operand,
        "not in": lambda: value not in operand,
        "startswith": lambda: value.startswith(operand),
    }
    return bool(compared[sign]())


PYTHON_ROWS = [
    {**row, "time_ns": BEGIN + datetime.timedelta(microseconds=0) if row["time_ns"] is None else row["time_ns"]}
    for row in ALL.to_pylist()
]


def on_numbers(condition: tuple[Any, ...]) -> tuple[Any, ...]:
    """The condition with times as nanoseconds."""

    def number(value: Any) -> Any:
        if isinstance(value, datetime.datetime):
            return round((value - BEGIN) / datetime.timedelta(microseconds=1)) * 1000 + int(BEGIN.timestamp()) * 10**9
        return [number(each) for each in value] if isinstance(value, list) else value

    return tuple(number(each) for each in condition)


@in_one_test
@pytest.mark.parametrize("question", QUESTIONS, ids=ids(QUESTIONS))
def test_conditions_of_a_question_are_exact_and_leave_out_no_row_that_is_asked_for(question: Question) -> None:
    if question.conditions is None:
        return
    numbers = ALL["time_ns"].cast(pa.int64()).to_pylist()
    expected = [
        i
        for i, row in enumerate(PYTHON_ROWS)
        if all(held({**row, "time_ns": numbers[i]}, on_numbers(each)) for each in question.conditions)
    ]
    assert check(predicate_of(question.conditions), expected)[0]


def test_most_questions_need_few_blocks_and_no_filter() -> None:
    found = {"arrow": [0, 0], "polars": [0, 0]}
    for dialect, counts in found.items():
        for question in QUESTIONS:
            predicate = predicate_of(getattr(question, dialect))
            counts[0] += predicate.is_exact
            counts[1] += int(predicate.may_match(TABLE, STATISTICS, COUNTS).sum() * 2 <= len(COUNTS))
    # With the versions of pyarrow and polars that the module names. With others it may be less, and then this says it.
    assert found["arrow"][0] >= 50
    assert found["polars"][0] >= 50
    assert found["arrow"][1] >= 40
    assert found["polars"][1] >= 40

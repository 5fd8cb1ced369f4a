"""Predicates: what they leave out before a row is looked at is never a row that is asked for.

Each question is asked of rows in memory, by the library that its expression is of. The conditions must let through
these rows at least, and exactly these where the predicate says so; and so must the ranges of blocks.
"""

from __future__ import annotations

import datetime
import io
import pickle
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import flatstream
from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream.datasets._predicate import Predicate
from support.extent import in_one_test
from support.questions import BEGIN, OPERATORS, Question, at, ids, older_table_of, questions, rows_of, table_of
from support.schemas import root_of

COUNT = 600
BLOCK = 20
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
ROW_OF = {time: row for row, time in enumerate(read(fields=["time_ns"])["time_ns"])}
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
        is_float = pa.types.is_floating(column.type)
        kind: Any = "f8" if is_float else "u8" if pa.types.is_uint64(column.type) else "i8"
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
    if conditions is None:
        assert not expected
    else:
        through = [ROW_OF[time] for time in read(conditions, ["time_ns"])["time_ns"]]
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


PYTHON_ROWS = read().to_pylist()


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
    conditions = [on_numbers(each) for each in question.conditions]
    expected = [i for i, row in enumerate(PYTHON_ROWS) if all(held(row, each) for each in conditions)]
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


# What no parser knows


@in_one_test
@pytest.mark.parametrize(
    "where",
    [
        pc.field("i32") + 1 == 5,
        pc.field("i8") == pc.field("u8"),
        pc.field("i32").cast("int64") > 300,
        pc.match_substring_regex(pc.field("name"), "^a.*c$"),
        pc.starts_with(pc.field("name"), "A", ignore_case=True),
        pc.field("i32") > 300.5,
        pc.if_else(pc.field("b"), pc.field("i8") > 90, pc.field("u8") < 10),
        pc.xor(pc.field("b"), pc.field("i32") > 0),
        pc.list_value_length(pc.field("parts")) == 2,
        pc.field("name").isin(["a", None]),
        ~pc.field("name").isin(["a", None]),
        ~pc.field("opt").isin([500, 501]),
        pc.field("optd").is_null(nan_is_null=True),
        ~pc.field("optd").is_nan(),
        pc.field("d").isin([float("nan"), 0.5]),
        pc.field("level") > "Info",
        pc.Expression._call("or", [pc.field("optb"), pc.field("i8") > 90]),
        ~pc.Expression._call("and", [pc.field("optb"), pc.field("i8") > 90]),
        pc.struct_field(pc.field("header"), ["sequence"]) < 100,
        pc.field(3) > 100,
        pc.field("f") == 0.1,
        pc.field("f") > pa.scalar(0.1, pa.float32()),
        pc.field("time_ns") > pa.scalar(datetime.date(2026, 1, 1)),
        pc.field("u64") != pa.scalar(None),
        pl.col("i32") + 1 == 5,
        pl.col("i8") == pl.col("u8"),
        pl.col("i8") < 300,
        pl.col("i32").cast(pl.Int64) > 300,
        pl.col("i32") > 300.5,
        pl.col("u64") > pl.lit(5, dtype=pl.Int64),
        pl.col("name").str.contains("^a.*c$"),
        pl.col("name").str.to_lowercase() == "a",
        pl.when(pl.col("b")).then(pl.col("i8") > 90).otherwise(pl.col("u8") < 10),
        pl.col("optb").xor(pl.col("b")),
        pl.col("parts").list.len() == 2,
        pl.col("name").is_in(["a", None]),
        ~pl.col("name").is_in(["a", None]),
        pl.col("name").is_in(["a", None], nulls_equal=True),
        ~pl.col("name").is_in(["a"], nulls_equal=True),
        pl.col("opt").eq_missing(None),
        pl.col("opt").ne_missing(500),
        pl.col("name").eq_missing("a"),
        pl.col("optd").is_nan(),
        pl.col("optd").is_not_nan(),
        pl.col("optd").is_finite(),
        pl.col("d") == float("nan"),
        pl.col("d") > float("inf"),
        pl.col("f") == 0.1,
        pl.col("f") <= 0.1,
        pl.col("level").cast(pl.String) > "Info",
        pl.all_horizontal(pl.col("b"), pl.col("optb")),
        pl.any_horizontal(pl.col("i8") > 95, pl.col("optb")),
        pl.col("time_ns") > pl.lit(BEGIN).cast(pl.Datetime("ns", "UTC")),
        pl.col("time_ns") <= pl.lit(BEGIN).cast(pl.Datetime("ms", "UTC")),
        pl.col("time_ns").cast(pl.Datetime("us", "UTC")) == at(100),
        pl.col("time_ns").cast(pl.Datetime("us", "UTC")) != at(100),
        pl.col("time_ns").cast(pl.Datetime("ms", "UTC")) <= at(100),
        pl.col("time_ns").cast(pl.Datetime("ms", "UTC")) > at(100),
        pl.col("time_ns").cast(pl.Datetime("ms", "UTC")).is_in([BEGIN]),
        pl.col("time_ns").cast(pl.Datetime("us")) > at(100).replace(tzinfo=None),
        pl.col("time_ns").is_between(at(100), at(101), closed="none"),
        pl.col("time_ns") > datetime.date(2026, 1, 1),
        pl.col("time_ns").dt.second() == 3,
        pl.col("i8").alias("other") > 95,
        pl.col("i32").is_in(pl.Series([1, 2], dtype=pl.Int8)),
        pl.col("i32").is_in(pl.Series([1, 2**63])) & (pl.col("i8") > 5),
        pl.col("i32").is_in(pl.Series([1, 2**100], dtype=pl.Int128)) & (pl.col("i8") > 5),
        ~pl.col("opt").is_between(None, 300),
        pl.all_horizontal(pl.col("b", "optb")),
        pl.col("opt").fill_null(0) == 0,
        pl.col("opt").is_null() | pl.col("i32").is_in([5]),
    ],
    ids=lambda where: str(where)[:60],
)
def test_expression_that_is_known_in_part_leaves_out_no_row_that_is_asked_for(where: Any) -> None:
    check(predicate_of(where), rows_that(where))


@in_one_test
@pytest.mark.parametrize(
    "where",
    [
        pl.col("i32") > pl.col("i32").mean(),
        pl.col("i32").shift(1) > 5,
        pl.col("i32").cum_sum() > 5,
        pl.col("i32") == pl.col("i32").max().over("level"),
        pl.col("name").is_duplicated(),
        (pl.col("i8") > 5) & (pl.int_range(pl.len()) > 5),
        # polars looks each value up in the whole column.
        pl.col("i8").is_in(pl.col("u8")),
    ],
    ids=str,
)
def test_expression_that_depends_on_other_rows_is_refused(where: pl.Expr) -> None:
    with pytest.raises(ValueError, match=r"may depend on other rows than its own.*use scan\(\)\.filter\(\)"):
        predicate_of(where)


def test_expression_deeper_than_any_limit_is_evaluated_by_its_library() -> None:
    deep = pc.field("i32") != 10**6
    deep_polars = pl.col("i32") != 10**6
    for number in range(201):
        deep = deep & (pc.field("i32") != number)
        deep_polars = deep_polars | (pl.col("i32") == number)
    for where in (deep, deep_polars):
        predicate = predicate_of(where)
        assert not predicate.is_exact
        assert predicate.conditions_for(TABLE) == []
        assert predicate.filter(NUMBERED)["row"].to_pylist() == rows_that(where)


def test_columns_of_an_expression_are_told_unless_it_may_take_any() -> None:
    assert predicate_of(pc.field("header", "sequence") > 5).paths == frozenset({"header"})
    assert predicate_of([("header.sequence", ">", 5), pl.col("i8") + 1 == 3]).paths == frozenset(
        {"header.sequence", "i8"}
    )
    assert predicate_of(pl.col("header").struct.field("zone") == "north").paths == frozenset({"header"})
    assert predicate_of(pl.all_horizontal(pl.col(pl.Boolean))).paths is None
    assert predicate_of(pl.any_horizontal(pl.col("^opt.?$").is_null())).paths is None
    assert predicate_of(pc.field(3) > 5).paths is None
    assert predicate_of(pl.lit(True)).paths == frozenset()


@in_one_test
@pytest.mark.parametrize(
    "where",
    [
        pc.field(1) > 50,
        pl.nth(1) > 50,
        pl.all_horizontal(pl.col(pl.Int64) != 0),
        [pl.all_horizontal(pl.col(pl.Int64) != 0), ("header.sequence", "not in", list(range(300)))],
    ],
    ids=str,
)
def test_columns_by_place_or_type_are_those_of_the_dataset_whatever_else_is_read(where: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=TABLE) as stream:
        records = RecordWriter(stream, TABLE)
        for row in rows_of(COUNT):
            records.write_record(row)
    dataset = flatstream.dataset(path)
    everything = dataset.columns()
    batch = everything.combine_chunks().to_batches()[0]
    first = where[0] if isinstance(where, list) else where
    kept = batch.filter(first) if isinstance(first, pc.Expression) else None
    expected = pl.DataFrame(batch).filter(first)["time_ns"].to_physical() if kept is None else kept["time_ns"]
    times = pa.array(expected).cast(pa.int64()).to_pylist()
    if isinstance(where, list):
        late = dataset.columns(["time_ns"], ("header.sequence", ">=", 300))["time_ns"].cast(pa.int64()).to_pylist()
        times = [time for time in times if time in set(late)]
    assert 0 < len(times) < COUNT
    for fields in (["time_ns"], ["u8", "point.x", "time_ns"], None):
        for frame in (False, True):
            found = dataset.columns(fields, where, frame=frame)["time_ns"].cast(pa.int64())
            assert found.to_pylist() == times


# Errors


@in_one_test
@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (("speed", ">", 5), KeyError, "where: no field 'speed': there are time_ns, i8"),
        (pc.field("speed") > 5, KeyError, "where: no field 'speed'"),
        (pl.col("point").struct.field("x", "y") > 5, ValueError, "is 2 columns, and not one of true and false"),
        (pl.col("speed") > 5, KeyError, "where: no field 'speed'"),
        (("header.speed", ">", 5), KeyError, "no field 'header.speed'"),
        (5, TypeError, r"where must be \(path, low, high\)"),
        ("i8 > 5", TypeError, "where must be"),
        ([pc.field("i8") > 5, "i8"], TypeError, "where must be"),
        (("i8", ">", b"x"), TypeError, "the value must be a number"),
        (("name", ">", 5), TypeError, "name is a string: the value must be a str, got int"),
        (("name", None, 5), TypeError, "name is a string: the high end of the range must be a str, got int"),
        (("i8", "startswith", "a"), ValueError, "'startswith' is for strings"),
        (("i8", ">", float("nan")), ValueError, "is NaN"),
        (("time_ns", ">", BEGIN, "ms"), ValueError, "time_ns counts in ns, and the condition says ms"),
        (("time_ns", ">", datetime.datetime(2026, 1, 1)), ValueError, "has no time zone"),
        (("i8", ">", BEGIN), TypeError, "needs the unit"),
        (pc.field("i8") + 1, TypeError, "is int8, not true or false"),
        (pl.col("i8") + 1, TypeError, "is int8, not true or false"),
        (pc.field("i8") == "x", pa.ArrowNotImplementedError, "equal"),
        (pl.col("i8") == "x", pl.exceptions.ComputeError, "compare string"),
        (pl.col("i8").str.starts_with("x"), pl.exceptions.PolarsError, "String"),
        (pl.col("b", "optb"), ValueError, "is 2 columns, and not one"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_where_that_cannot_be_asked_is_refused_at_once(where: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        predicate_of(where)


def test_where_without_a_condition_is_no_predicate() -> None:
    assert Predicate.of(None, ALL.schema) is None
    assert Predicate.of([], ALL.schema) is None
    made = predicate_of(("i8", ">", 5))
    assert Predicate.of(made, ALL.schema) is made


# Several parts, and copies


def test_conditions_and_expressions_in_one_list_must_all_hold() -> None:
    where = [("i8", ">", -50), pl.col("u8") + 1 < 200, pc.field("optb"), ("name", "in", ["a", "ab"])]
    predicate = predicate_of(where)
    expected = [
        row["row"]
        for row in NUMBERED.to_pylist()
        if row["i8"] > -50 and row["u8"] + 1 < 200 and row["optb"] and row["name"] in ("a", "ab")
    ]
    assert expected
    assert not check(predicate, expected)[0]
    copy = pickle.loads(pickle.dumps(predicate))
    assert copy.paths == predicate.paths
    check(copy, expected)
    assert repr(predicate).startswith("<Predicate ('i8', '>', -50) and ('name', 'in', ['a', 'ab']) and [([(col(")


def test_columns_that_are_no_fields_are_left_to_the_library() -> None:
    schema = ALL.schema.append(pa.field("source_file", pa.string())).append(pa.field("frame", pa.int64()))
    where = (pc.field("source_file") == "a.fs") & (pc.field("frame") > 5) & (pc.field("i8") > 5)
    predicate = predicate_of(where, schema, extra=["source_file", "frame"])
    assert predicate.paths == frozenset({"source_file", "frame", "i8"})
    assert predicate.conditions_for(TABLE) == [("i8", ">=", 6)]
    assert not predicate.is_exact
    with pytest.raises(ValueError, match="'frame' is no field of the messages: use an expression"):
        predicate_of(("frame", ">", 5), schema, extra=["source_file", "frame"])


# Files whose schemas differ


OLD = older_table_of()
OLD_ROWS = [{key: value for key, value in row.items() if key not in ("opt", "header")} for row in rows_of(100, seed=3)]
OLD_STREAM = stream_of(OLD, OLD_ROWS)


@in_one_test
@pytest.mark.parametrize(
    ("where", "count"),
    [
        (("opt", ">", 5), None),
        (pc.field("opt") > 5, None),
        (pc.field("opt").is_null(), 100),
        (~pc.field("opt").isin([5]), 100),
        (pl.col("opt").ne_missing(5), 100),
        (("header.zone", "==", "north"), None),
        (pc.field("header", "zone").is_null(), 100),
        ((pc.field("opt") > 5) | (pc.field("i8") < -80), 10),
        # The number 9 has no name in these files, so it is shown as its digits.
        (("level", "==", "Error"), None),
        (("level", "!=", "Error"), 100),
        (("level", "not in", ["Error", "Debug"]), 78),
        (("level", "in", ["9", "Error", "5"]), 32),
        (pc.field("level") == "Error", None),
        (pc.field("level") == "9", 22),
        (pc.field("level").isin(["Error", "Debug"]), 22),
        (pl.col("level").is_in(["Error", "9"]), 22),
    ],
    ids=lambda value: str(value)[:40],
)
def test_file_of_another_schema_gives_rows_by_its_own(where: Any, count: int | None) -> None:
    predicate = predicate_of(where)
    conditions = predicate.conditions_for(OLD)
    found = None if conditions is None else read(conditions, [], OLD, OLD_STREAM).num_rows
    if predicate.is_exact or found is None:
        assert found == count
    else:
        assert found is not None
        assert count is not None
        assert found >= count
    blocks = predicate.may_match(OLD, {}, np.array([50, 50]))
    assert blocks.tolist() == [count is not None] * 2


def test_name_that_no_enum_of_the_dataset_has_is_refused() -> None:
    predicate_of(("level", "==", "Error")).check([OLD, TABLE])
    predicate_of(("level", "in", ["Info", "200"])).check([OLD])
    predicate_of(("i8", "==", 5)).check([OLD])
    with pytest.raises(ValueError, match="where: 'Error' is no name of level; it has Debug, Info, Warn"):
        predicate_of(("level", "!=", "Error")).check([OLD])


# Times


@in_one_test
@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("offset", [-1500, 0, 500])
def test_time_that_is_rounded_is_compared_as_its_column_shows_it(unit: str, sign: str, offset: int) -> None:
    rounded = timed(read(), unit)
    row = COUNT // 2
    instant = pa.scalar(ALL["time_ns"][row].value // 1000 + offset, pa.timestamp("us", "UTC"))
    question = {"==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal}
    compared: Any = {**question, ">": pc.greater, ">=": pc.greater_equal}[sign]
    expected = np.flatnonzero(compared(rounded["time_ns"], instant).to_numpy(zero_copy_only=False)).tolist()
    predicate = predicate_of(compared(pc.field("time_ns"), instant), rounded.schema)
    # Of a time that is not equal to a rounded one, each nanosecond would have to be listed.
    assert predicate.is_exact == (sign != "!=" or unit != "us")
    conditions = predicate.conditions_for(TABLE)
    found = [] if conditions is None else [ROW_OF[time] for time in read(conditions, ["time_ns"])["time_ns"]]
    assert found == expected or (not predicate.is_exact and set(found) > set(expected))
    blocks = set(np.flatnonzero(predicate.may_match(TABLE, STATISTICS, COUNTS)))
    assert blocks == {row // BLOCK for row in expected} or sign in ("==", "!=")


def test_file_that_counts_times_in_another_unit_is_asked_in_its_own() -> None:
    middle = (BEGIN + datetime.timedelta(seconds=600), BEGIN + datetime.timedelta(seconds=600, milliseconds=2))
    schema = pa.schema([("time_ns", pa.timestamp("ns", "UTC"))])
    begin = int(middle[0].timestamp()) * 1000
    low, high = np.array([begin - 5, begin + 1, begin + 2]), np.array([begin - 1, begin + 1, 2**60])
    statistics = {"time_ns": Range(low, high, np.zeros(3))}
    for where in (("time_ns", *middle), pc.field("time_ns").isin(pa.array(middle[:1], pa.timestamp("ns", "UTC")))):
        predicate = predicate_of(where, schema)
        conditions = predicate.conditions_for(TABLE, ("time_ns", "ms"))
        assert conditions is not None
        assert list(predicate.may_match(TABLE, statistics, np.ones(3), ("time_ns", "ms"))) in (
            [False, True, False],
            [False, False, False],
        )
        assert read(conditions).num_rows == 0
    assert predicate_of(("time_ns", *middle), schema).conditions_for(TABLE, ("time_ns", "ms")) == [
        ("time_ns", begin, begin + 2)
    ]


def test_times_that_are_numbers_are_still_asked_for_by_datetimes() -> None:
    numbers = pa.record_batch(read())
    for where, expected in (
        (("time_ns", ">=", at(COUNT - 10, 1)), 9),
        (pc.field("time_ns") < ALL["time_ns"][7].value, 7),
    ):
        predicate = predicate_of(where, numbers.schema)
        assert predicate.is_exact
        assert read(predicate.conditions_for(TABLE), []).num_rows == expected
        assert predicate.may_match(TABLE, STATISTICS, COUNTS).sum() == 1


# Blocks


def test_block_of_nulls_or_with_limits_that_are_no_numbers_is_left_out_only_where_it_may_be() -> None:
    nan = float("nan")
    statistics = {
        "optd": Range(np.array([nan, nan, 1.0, 1.0]), np.array([nan, nan, 2.0, 2.0]), np.array([5, 0, 0, 1])),
        "u64": Range(np.array([0, 2**63, 2**64 - 1, 5], "u8"), np.array([1, 2**63, 2**64 - 1, 5], "u8"), np.zeros(4)),
    }
    counts = np.full(4, 5)

    def left(where: Any) -> list[int]:
        return np.flatnonzero(predicate_of(where).may_match(TABLE, statistics, counts)).tolist()

    assert left(("optd", ">", 5)) == [1]
    assert left(("optd", ">", 1.5)) == [1, 2, 3]
    assert left(pc.field("optd") > 5) == [0, 1, 3]
    assert left(pc.field("optd").is_null()) == [0, 3]
    assert left(pl.col("optd").is_nan()) == [0, 3]
    assert left(("u64", "==", 2**64 - 1)) == [2]
    assert left(("u64", ">", 2**70)) == []
    assert left(("u64", "!=", 5)) == [0, 1, 2]
    assert left(("u64", "in", list(range(0, 1000, 2)))) == [0]
    assert left(pl.col("u64") == 2**63) == [1]
    assert left(("u64", "<=", float("inf"))) == [0, 1, 2, 3]
    assert left(("u64", "<", -0.5)) == []
    many = [index / 7 for index in range(500)]
    assert left(("optd", "in", [*many, 1.5])) == [1, 2, 3]


def test_long_lists_are_looked_up_by_a_library_and_leave_out_blocks_by_their_ends() -> None:
    low, high = 100 - COUNT // 2, 140 - COUNT // 2
    numbers = [2**40, low, *range(low, high, 2), high, low, 5.5, float("inf")]
    names = [f"name {i}" for i in range(300)] + ["ab", "é"]
    for filler in (range(10**6, 10**6 + 300), range(10**6, 10**6 + 20_000)):
        # What lies beyond the type is not there.
        wanted = {number for number in numbers if number < 2**31 and number == number // 1}
        inside = [row["row"] for row in NUMBERED.to_pylist() if row["i32"] in wanted]
        assert len(inside) > 20
        predicate = predicate_of(("i32", "in", [*numbers, *filler]))
        assert not check(predicate, inside)[0]
        assert predicate.paths == frozenset({"i32"})
        conditions = predicate.conditions_for(TABLE)
        assert conditions is not None
        assert len(repr(conditions)) < 200
        check(predicate_of(("i32", "not in", [*numbers, *filler])), sorted(set(range(COUNT)) - set(inside)))
        asked = pc.field("i32").isin([*wanted, *filler])
        assert check(predicate_of(asked), inside)[1] == check(predicate, inside)[1] < len(COUNTS)
        by_polars = pl.col("i32").is_in([*wanted, *filler])
        assert check(predicate_of(by_polars), inside)[1] < len(COUNTS)
        check(predicate_of(~by_polars), sorted(set(range(COUNT)) - set(inside)))
        check(predicate_of(~asked), sorted(set(range(COUNT)) - set(inside)))
    texts = [*names, *(f"none {i}" for i in range(20_000))]
    for values in (names, texts):
        found = [row["row"] for row in NUMBERED.to_pylist() if row["name"] in ("ab", "é")]
        for where in (("name", "in", values), pc.field("name").isin(values), pl.col("name").is_in(values)):
            check(predicate_of(where), found)
        rest = [row["row"] for row in NUMBERED.to_pylist() if row["name"] not in ("ab", "é", None)]
        check(predicate_of([("name", "not in", values), ("i32", ">=", -COUNT)]), rest)
    for path, values in (("d", [0.5, *range(10**6, 10**6 + 20_000)]), ("level", ["Error", *texts])):
        for where in (pc.field(path).isin(values), pl.col(path).is_in(values)):
            check(predicate_of(where), rows_that(where))


def test_list_too_long_for_its_text_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatstream.datasets._expressions.MAX_TEXT", 100)
    where = pl.col("i32").is_in(list(range(1000)))
    predicate = predicate_of(where)
    assert (predicate.paths, predicate.conditions_for(TABLE)) == (frozenset({"i32"}), [])
    check(predicate, rows_that(where))
    assert predicate_of(pl.any_horizontal(pl.col("i8", "i32").is_in([5] * 100))).paths is None


def test_union_and_its_type_are_asked_for_where_a_file_lacks_a_variant() -> None:
    new = root_of(
        "union U { Circle, Square } table Circle { r: int; } table Square { s: int; }"
        "table T { u: U; y: int; } root_type T;"
    )
    old = root_of("union U { Circle } table Circle { r: int; } table T { u: U; y: int; } root_type T;")
    rows: list[dict[str, Any]] = [{"y": i, "u": ("Circle", {"r": i})} for i in range(9)] + [{"y": 9}]
    squares: list[dict[str, Any]] = [{"y": i, "u": ("Square", {"s": i})} for i in range(5)]
    schema = new.arrow_schema().to_pyarrow()
    cases: list[tuple[Any, int | None, int]] = [
        (("u_type", "==", "Square"), None, 5),
        (("u_type", "!=", "Square"), 10, 10),
        (("u_type", "in", ["NONE", "Square"]), 1, 6),
        (("u.Square.s", ">", 2), None, 2),
        (("u.Circle.r", ">", 2), 6, 6),
        (pc.field("u_type") == "Square", None, 5),
        (pc.field("u_type") != "Circle", 1, 6),
    ]
    for where, in_old, in_new in cases:
        predicate = Predicate.of(where, schema)
        assert predicate is not None
        assert predicate.is_exact
        for table, stream, expected in ((old, rows, in_old), (new, rows + squares, in_new)):
            conditions = predicate.conditions_for(table)
            found = None if conditions is None else read(conditions, [], table, stream_of(table, stream)).num_rows
            assert found == expected
    # Of a variant that the older schema lacks, only the number is known.
    newer = stream_of(new, squares)
    for where, expected in ((("u_type", "==", "2"), 5), (("u_type", "!=", "2"), 0), (("u_type", "==", "Square"), None)):
        conditions = Predicate(where, schema, None, ()).conditions_for(old)
        assert (None if conditions is None else read(conditions, [], old, newer).num_rows) == expected
    for where in (pc.field("u", "Square", "s") > 2, pl.col("u").struct.field("Square").is_null()):
        predicate = Predicate.of(where, schema)
        assert predicate is not None
        assert (predicate.is_exact, predicate.conditions_for(old), predicate.conditions_for(new)) == (False, [], [])


# Expressions made by chance, also of types that do not fit


PATHS = [path for path in ALL.schema.names if path not in ("header", "point", "parts", "filler")]
INSIDE = ["header.sequence", "header.zone", "header.level", "header.limit", "point.x", "point.y"]


def literal_for(path: str, chance: random.Random) -> Any:
    """A value of the column, one beside it, or something else."""
    kind = chance.random()
    row = chance.randrange(COUNT)
    value: Any = PYTHON_ROWS[row]
    for name in path.split("."):
        value = None if value is None else value[name]
    if path == "time_ns":
        moment = value + chance.choice([0, 0, 1, -1, 1000, 10**6])
        unit = chance.choice(["ns", "ns", "us", "ms"])
        return pa.scalar(moment // {"ns": 1, "us": 10**3, "ms": 10**6}[unit], pa.timestamp(unit, "UTC"))
    if kind < 0.55 or value is None:
        return value
    if isinstance(value, bool):
        return chance.choice([True, False, 1, 0])
    if isinstance(value, str):
        return chance.choice([value + "a", value[:1], "", "é", 5])
    return chance.choice(
        [
            *(value + 1, value - 1, -value, value + 0.5, float(value), value * 10**6, float("nan"), 2**63, -1, 0, 0.0),
            *(pa.scalar(3, pa.int8()), pa.scalar(200, pa.uint8()), pa.scalar(1.5, pa.float32()), None, True, "x"),
        ]
    )


def as_polars(value: Any) -> Any:
    if not isinstance(value, pa.Scalar):
        return value
    return pl.lit(pl.Series(pa.array([value])).to_list()[0], dtype=pl.Series(pa.array([value])).dtype)


def random_arrow(chance: random.Random, depth: int = 0) -> Any:
    if depth < 3 and chance.random() < 0.45:
        parts = [random_arrow(chance, depth + 1) for _ in range(3)]
        number = chance.randrange(4)
        if number == 3:
            return pc.if_else(*parts)
        return (~parts[0], parts[0] & parts[1], parts[0] | parts[1])[number]
    path = chance.choice(PATHS if chance.random() < 0.7 else INSIDE)
    column = pc.field(*path.split("."))
    kind = chance.random()
    if kind < 0.6:
        compared: Callable[[Any, Any], Any] = chance.choice(
            [pc.equal, pc.not_equal, pc.less, pc.less_equal, pc.greater, pc.greater_equal]
        )
        literal = pc.scalar(literal_for(path, chance))
        return compared(column, literal) if chance.random() < 0.8 else compared(literal, column)
    if kind < 0.75:
        values = [literal_for(path, chance) for _ in range(chance.randrange(5))]
        return column.isin(pa.array([each.as_py() if isinstance(each, pa.Scalar) else each for each in values]))
    if kind < 0.9:
        return chance.choice([column.is_null(), column.is_valid(), column.is_null(nan_is_null=True), column.is_nan()])
    if kind < 0.95:
        return pc.starts_with(column, chance.choice(["", "a", "ab", "é", "\U0010ffff"]))
    return chance.choice([column, pc.scalar(True), pc.scalar(False), pc.scalar(None), column + 1 > 5])


def random_polars(chance: random.Random, depth: int = 0) -> Any:
    if depth < 3 and chance.random() < 0.45:
        parts = [random_polars(chance, depth + 1) for _ in range(3)]
        number = chance.randrange(6)
        if number == 3:
            return pl.when(parts[0]).then(parts[1]).otherwise(parts[2])
        if number > 3:
            return (pl.all_horizontal(parts), pl.any_horizontal(parts))[number - 4]
        return (~parts[0], parts[0] & parts[1], parts[0] | parts[1])[number]
    path = chance.choice(PATHS if chance.random() < 0.7 else INSIDE)
    first, *rest = path.split(".")
    column = pl.col(first)
    for name in rest:
        column = column.struct.field(name)
    kind = chance.random()
    literal = as_polars(literal_for(path, chance))
    if kind < 0.5:
        sign = chance.choice(["==", "!=", "<", "<=", ">", ">="])
        return OPERATORS[sign](column, literal) if chance.random() < 0.8 else OPERATORS[sign](pl.lit(literal), column)
    if kind < 0.6:
        return chance.choice([column.eq_missing, column.ne_missing])(literal)
    if kind < 0.7:
        values = [literal_for(path, chance) for _ in range(chance.randrange(5))]
        chosen = pl.Series([each.as_py() if isinstance(each, pa.Scalar) else each for each in values])
        return column.is_in(chosen.implode() if chance.random() < 0.5 else chosen, nulls_equal=chance.random() < 0.5)
    if kind < 0.8:
        closed: Any = chance.choice(["both", "left", "right", "none"])
        return column.is_between(literal, as_polars(literal_for(path, chance)), closed=closed)
    if kind < 0.92:
        return chance.choice([column.is_null(), column.is_not_null(), column.is_nan(), column.is_not_nan()])
    if kind < 0.95:
        return column.str.starts_with(chance.choice(["", "a", "ab", "é", "\U0010ffff"]))
    return chance.choice([column, pl.lit(True), pl.lit(False), pl.lit(None), column + 1 > 5, column.is_finite()])


@pytest.mark.parametrize("count", [70, pytest.param(5000, marks=pytest.mark.long)])
@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_expressions_made_by_chance_leave_out_no_row_that_is_asked_for(library: str, count: int) -> None:
    chance = random.Random(count)
    counts = {"asked": 0, "exact": 0, "pruned": 0}
    while counts["asked"] < count:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                where = random_arrow(chance) if library == "pyarrow" else random_polars(chance)
                expected = rows_that(where)
            except (TypeError, ValueError, OverflowError, pa.ArrowException, pl.exceptions.PolarsError):
                # The types do not fit.
                continue
            try:
                predicate = predicate_of(where)
            except pl.exceptions.PolarsError:
                # Nor do they here, in a branch that no row takes.
                continue
        try:
            is_exact, blocks = check(predicate, expected)
        except pl.exceptions.PolarsError:
            # Nor do they with fewer rows.
            continue
        except Exception as error:
            error.add_note(f"with {where}")
            raise
        counts["asked"] += 1
        counts["exact"] += is_exact
        counts["pruned"] += blocks < len(COUNTS)
    assert counts["exact"] > count / 6
    assert counts["pruned"] > count / 4

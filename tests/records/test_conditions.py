"""Conditions that select messages: the same for records as for columns, and as plain Python has them."""

from __future__ import annotations

import datetime
import functools
import io
import operator
import random
import warnings
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatstream import FlatbufferError, Schema, StreamReader, StreamWriter
from flatstream._core.records.conditions import Condition, parse_conditions
from flatstream._core.records.record_filter import RecordFilter
from reference.columns import Reference
from support.alarms import Alarm
from support.arrow_types import Making, Mapping
from support.columns import LEVEL1, SHAPE, stream_of
from support.extent import in_one_test
from support.messages import NAMED, extreme_messages, numbered_messages
from support.processes import survives
from support.records import encoded, table_of
from support.schemas import SHAPES, TELEMETRY, UNIONS

UTC = datetime.UTC

# What each operator says, in plain Python.
OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, values: any(value == each for each in values),
    "not in": lambda value, values: all(value != each for each in values),
    "startswith": lambda value, start: value.startswith(start),
}


def holds(value: Any, condition: tuple[Any, ...]) -> bool:
    """Whether a condition without a unit holds for a value."""
    if value is None or value != value:
        return False
    _, second, third = condition
    if isinstance(second, str):
        return bool(OPERATORS[second](value, third))
    return (second is None or value >= second) and (third is None or value < third)


@functools.cache
def messages_and_values(schema: Schema, name: str, paths: tuple[str, ...]) -> list[tuple[bytes, dict[str, Any]]]:
    """Random messages, each with the values at these paths, which the reference read."""
    table = schema.table(name)
    making = Making(Mapping(schema._info), random.Random(9))
    messages = [encoded(table, making.record(table.number)) for _ in range(60)]
    if table == SHAPE:
        messages += extreme_messages()
    reference = Reference(schema, "number")
    return [(message, {path: reference.at(name, message, path) for path in paths}) for message in messages]


NUMBERS = st.one_of(
    st.sampled_from(
        [0, 1, -1, 2, 5, -2, 127, 128, 255, 2**31, 2**53, 2**53 + 1, 2**63, 2**64 - 1, 2**64, -(2**63), 1.5]
    ),
    st.floats(allow_nan=False),
    st.integers(-(2**65), 2**65),
    st.sampled_from([10**400, -(10**400), Fraction(1, 3), Decimal("1.5"), True]),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", "grüße", "\0", "日本語", "𝄞" * 5, "thirteen", "twelve bytes", "x" * 300, "x", "\U0010ffff"]
    ),
    st.text(max_size=3),
)


def conditions(paths: tuple[str, ...], operands: st.SearchStrategy[Any], names: list[str]) -> st.SearchStrategy[Any]:
    one = st.tuples(st.sampled_from(paths), st.sampled_from(names), operands)
    many = st.tuples(st.sampled_from(paths), st.sampled_from(["in", "not in"]), st.lists(operands, max_size=5))
    return st.one_of(one, many)


COMPARISONS = ["==", "!=", "<", "<=", ">", ">="]
NUMBER_PATHS = (
    "id",
    *(f"scalars.{name}" for name in ("truth", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64")),
    *(f"optionals.{name}" for name in ("truth", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64")),
    "scalars.color", "choice_type", "choice.Named.code", "choice.Level1.value", "structs.nest.line.to.x",
    "structs.nest.mixed.flag", "structs.nest.mixed.color",
)  # fmt: skip
TEXT_PATHS = ("title", "choice.Named.name", "choice.Named.note", "choice.Tree.label")
UNION_PATHS = ("anything.Text", "title", "anything.Named.name", "holder.one.Text", "holder.choice.Named.name")
UNION_NUMBERS = ("anything_type", "anything.First.x", "anything.Second.y", "anything.Wide.b", "holder.one.Wide.a")

SHAPE_CONDITIONS = st.one_of(
    conditions(NUMBER_PATHS, NUMBERS, COMPARISONS),
    st.tuples(st.sampled_from(NUMBER_PATHS), st.none() | NUMBERS, st.none() | NUMBERS),
    conditions(TEXT_PATHS, TEXTS, [*COMPARISONS, "startswith"]),
)
ROOT_CONDITIONS = st.one_of(
    conditions(UNION_NUMBERS, NUMBERS, COMPARISONS),
    conditions(UNION_PATHS, TEXTS, [*COMPARISONS, "startswith"]),
    st.tuples(st.sampled_from(UNION_PATHS), st.none(), st.none() | TEXTS),
)


def check(schema: Schema, name: str, paths: tuple[str, ...], where: Any) -> None:
    """Records and columns select the messages that the reference selects."""
    table = schema.table(name)
    known = messages_and_values(schema, name, paths)
    each = [where] if isinstance(where, tuple) else where
    expected = [all(holds(values[one[0]], one) for one in each) for _, values in known]
    stream = stream_of(message for message, _ in known)
    wanted = [place for place, is_wanted in enumerate(expected) if is_wanted]
    reader = StreamReader(stream)
    for verify in (True, False):
        reader = StreamReader(stream)
        numbers = [reader.message_number for _ in reader.records(table, where=where, verify=verify)]
        assert numbers == wanted
    # Each message in a batch of its own: whether it gives a row.
    rows = [StreamReader(stream_of([message])).columns(table, [], where).num_rows for message, _ in known[:20]]
    assert rows == [int(is_wanted) for is_wanted in expected[:20]]
    assert StreamReader(stream).columns(table, [], where).num_rows == len(wanted)


@settings(max_examples=120)
@given(st.one_of(SHAPE_CONDITIONS, st.lists(SHAPE_CONDITIONS, max_size=3)))
def test_records_and_columns_select_what_plain_python_selects(where):
    check(SHAPES, "shapes.Shape", NUMBER_PATHS + TEXT_PATHS, where)


@settings(max_examples=60)
@given(st.one_of(ROOT_CONDITIONS, st.lists(ROOT_CONDITIONS, max_size=3)))
def test_conditions_on_variants_of_any_type_select_what_plain_python_selects(where):
    check(UNIONS, "unions.Root", UNION_PATHS + UNION_NUMBERS, where)


def hosts(where: Any, **options: Any) -> list[int]:
    """The sequence numbers of the events that records and columns select, which must be the same."""
    root: Any = TELEMETRY.root
    stream = events()
    by_records = [record.sequence for record in StreamReader(stream).records(root, where=where, **options)]
    assert StreamReader(stream).columns(root, ["sequence"], where)["sequence"].to_pylist() == by_records
    return by_records


@functools.cache
def events() -> bytes:
    root: Any = TELEMETRY.root
    return stream_of(
        encoded(
            root,
            {
                "sequence": number,
                "host": None if number == 3 else ["alpha", "beta", "alphabet"][number % 3],
                "wall_time_ns": 10**18 + number * 10**9,
            },
        )
        for number in range(9)
    )


@in_one_test
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ([], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (("sequence", 2, 5), [2, 3, 4]),
        (["sequence", 2, 5], [2, 3, 4]),
        ([("sequence", 2, 5), ("sequence", "!=", 3)], [2, 4]),
        ((("sequence", 2, None), ("host", "==", "alpha")), [6]),
        (("host", "==", "alpha"), [0, 6]),
        (("host", "!=", "alpha"), [1, 2, 4, 5, 7, 8]),
        (("host", "in", ["beta", "alpha"]), [0, 1, 4, 6, 7]),
        (("host", "in", {"beta": 1}), [1, 4, 7]),
        (("host", "in", []), []),
        (("host", "not in", []), [0, 1, 2, 4, 5, 6, 7, 8]),
        (("host", "not in", ("beta", "beta")), [0, 2, 5, 6, 8]),
        (("host", "startswith", "alpha"), [0, 2, 5, 6, 8]),
        (("host", ">", "alpha"), [1, 2, 4, 5, 7, 8]),
        (("host", None, "b"), [0, 2, 5, 6, 8]),
        (("host", "==", np.str_("beta")), [1, 4, 7]),
        (("sequence", "in", range(2, 4)), [2, 3]),
        (("sequence", "in", np.array([1, 8, 100])), [1, 8]),
        (("sequence", "in", iter([1, 8])), [1, 8]),
        (("sequence", "==", 2.5), []),
        (("sequence", ">", 6.5), [7, 8]),
        (("sequence", ">", Fraction(13, 2)), [7, 8]),
        (("sequence", "<=", Decimal("1.9")), [0, 1]),
        (("wall_time_ns", "==", Decimal(10**18 + 10**9)), [1]),
        (("wall_time_ns", "==", Decimal(10**18 + 1)), []),
        (("wall_time_ns", ">", Fraction(10**18 + 7 * 10**9 - 1)), [7, 8]),
        (("wall_time_ns", ">", Decimal(10**18 + 7 * 10**9)), [8]),
        (("sequence", "<", Decimal("1e999999")), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (("sequence", "<", Decimal("-Infinity")), []),
    ],
)
def test_condition_selects_these_messages(where, expected):
    if where is None or not (isinstance(where, tuple) and hasattr(where[-1], "__next__")):
        assert hosts(where) == expected
        return
    # An iterator gives its values once.
    root: Any = TELEMETRY.root
    assert [record.sequence for record in StreamReader(events()).records(root, where=where)] == expected


START = datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)


@in_one_test
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ((START + datetime.timedelta(seconds=2), START + datetime.timedelta(seconds=4)), [2, 3]),
        ((START + datetime.timedelta(seconds=2, microseconds=1), None), [3, 4, 5, 6, 7, 8]),
        (("==", START.astimezone(datetime.timezone(datetime.timedelta(hours=9)))), [0]),
        (("in", [START, START + datetime.timedelta(seconds=8), START + datetime.timedelta(days=1)]), [0, 8]),
        (("<=", np.datetime64("2001-09-09T01:46:41", "s")), [0, 1]),
        (("<=", np.datetime64(10**18 + 10**9, "ns")), [0, 1]),
        (("<", np.datetime64("2001-09-10")), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (("<", np.datetime64("2001")), []),
        (("<=", pandas.Timestamp(10**18 + 10**9, tz="UTC")), [0, 1]),
        (("<", pandas.Timestamp(10**18 + 10**9 + 1, tz="Asia/Tokyo")), [0, 1]),
        (("<", pandas.Timestamp(10**18 + 10**9, tz="UTC")), [0]),
        ((">", datetime.timedelta(days=12_000)), []),
        ((10**18, START + datetime.timedelta(seconds=1)), [0]),
    ],
)
def test_times_are_counted_in_the_unit_that_is_given(where, expected):
    assert hosts(("wall_time_ns", *where, "ns")) == expected


@in_one_test
@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)])
def test_every_unit_is_exact(unit, per_second):
    instant = datetime.datetime(2024, 2, 29, 12, 0, 0, 250_001, tzinfo=UTC)
    exact = Fraction(1_709_208_000_250_001 * per_second, 10**6)
    table = table_of("Scalars")
    around = [int(exact) + step for step in (-1, 0, 1)]
    stream = stream_of(encoded(table, {"i64": number}) for number in around)
    for where, expected in [
        (("i64", instant, None, unit), [number for number in around if number >= exact]),
        (("i64", None, instant, unit), [number for number in around if number < exact]),
        (("i64", "==", instant, unit), [number for number in around if number == exact]),
        (("i64", ">", instant, unit), [number for number in around if number > exact]),
    ]:
        assert [record.i64 for record in StreamReader(stream).records(table, where=where)] == expected
        assert StreamReader(stream).columns(table, ["i64"], where)["i64"].to_pylist() == expected


def test_time_before_1970_and_duration_of_pandas():
    table = table_of("Scalars")
    stream = stream_of(encoded(table, {"i64": number}) for number in (-1001, -1000, -999, 5))
    before = datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)
    records = StreamReader(stream).records(table, where=("i64", "==", before, "ms"))
    assert [record.i64 for record in records] == [-1000]
    for duration in (pandas.Timedelta(5, "ns"), np.timedelta64(5, "ns"), np.timedelta64(5000, "ps")):
        records = StreamReader(stream).records(table, where=("i64", "==", duration, "ns"))
        assert [record.i64 for record in records] == [5]


@pytest.mark.parametrize("count", [1, 100])
def test_column_of_nothing_but_empty_strings_has_no_memory_to_be_compared(count):
    # `make test-sanitize` fails if C is given NULL.
    for record, selected in (({"title": ""}, [count, count, 0, 0]), ({}, [0, 0, 0, 0])):
        stream = stream_of([encoded(SHAPE, record)] * count)
        conditions = [("==", ""), ("<", "a"), ("!=", ""), ("startswith", "a")]
        for (comparison, value), expected in zip(conditions, selected, strict=True):
            where = ("title", comparison, value)
            assert len(list(StreamReader(stream).records(SHAPE, where=where))) == expected
            assert StreamReader(stream).columns(SHAPE, ["title"], where).num_rows == expected


def test_names_of_enums_flags_and_variants_are_values():
    table = table_of("Scalars")
    # Color: Red = -2, Green = 0, Blue = 5; Access: Read = 1, Write = 2, Execute = 4.
    stream = stream_of(
        encoded(table, {"color": color, "access": access}) for color, access in [(-2, 1), (0, 3), (5, 6), (-2, 7)]
    )

    def places(where: Any) -> list[int]:
        reader = StreamReader(stream)
        found = [reader.message_number for _ in reader.records(table, where=where)]
        assert StreamReader(stream).columns(table, [], where).num_rows == len(found)
        return found

    assert places(("color", "==", "Red")) == [0, 3]
    assert places(("color", "in", ["Blue", "Green", 77])) == [1, 2]
    assert places(("color", "not in", ["Blue"])) == [0, 1, 3]
    assert places(("color", ">=", "Green")) == [1, 2]
    assert places(("color", None, "Blue")) == [0, 1, 3]
    assert places(("access", "==", "Read Write")) == [1]
    assert places(("access", "in", ["Read", "Write Execute"])) == [0, 2]
    # As writing takes them, and as columns show numbers without a name.
    assert places(("access", "==", "Read|Write")) == [1]
    assert places(("access", "==", "7")) == [3]
    assert places(("color", "in", ["-2", "5"])) == [0, 2, 3]
    assert places(("color", "!=", "77")) == [0, 1, 2, 3]

    named = stream_of([encoded(SHAPE, {"choice": ("Named", {"name": "n"})}), encoded(SHAPE, {})])
    for where in (("choice_type", "==", "Named"), ("choice_type", "!=", "NONE"), ("choice.Named.name", "==", "n")):
        assert len(list(StreamReader(named).records(SHAPE, where=where))) == 1
        assert StreamReader(named).columns(SHAPE, [], where).num_rows == 1


with warnings.catch_warnings():
    # NumPy 2.5 has deprecated them.
    warnings.simplefilter("ignore", DeprecationWarning)
    WITHOUT_UNIT = np.timedelta64(1)

WRONG = [
    ("id", TypeError, r"where must be \(path, low, high\), \(path, operator, value\) or a list of these, got 'id'"),
    (5, TypeError, "where must be"),
    ({"id": 1}, TypeError, "where must be"),
    ([("id", 1, 2), ("id",)], TypeError, r"where must be .*, got \('id',\)"),
    ([("id", 1, 2), None], TypeError, "where must be .*, got None"),
    ([[("id", 1, 2)]], TypeError, "where must be"),
    (("id", 1, 2, "s", 3), TypeError, "where must be"),
    (("id", "=", 1), ValueError, "'=' is no operator: use one of ==, !="),
    (
        ("title", "a", "c"),
        ValueError,
        r"a range of strings .* is two conditions, \('title', '>=', low\) and \('title', '<'",
    ),
    (("id", "==", 1, "seconds"), ValueError, "unit of 'id' must be one of s, ms, us, ns, got 'seconds'"),
    (("id", "==", 1, 1), ValueError, "unit of 'id'"),
    (("id", "==", None), TypeError, "the value must be a number, got NoneType"),
    (
        ("id", "==", "5"),
        TypeError,
        "got str: the field is no string and no enum, and a time is a datetime with a time zone",
    ),
    (("id", "in", 5), TypeError, "'in' needs a list of values, got 5"),
    (("id", "in", "abc"), TypeError, "'in' needs a list of values, got 'abc'"),
    (("id", "in", [1, "abc"]), TypeError, "the value must be a number, got str"),
    (("id", "startswith", 1), ValueError, "id is no string: 'startswith' is for strings"),
    (("id", "==", float("nan")), ValueError, "the value is NaN"),
    (("id", "==", Decimal("NaN")), ValueError, "the value is NaN"),
    (("title", "==", 5), TypeError, "title is a string: the value must be a str, got int"),
    (("title", "==", b"a"), TypeError, "title is a string: the value must be a str, got bytes"),
    (("title", "==", None), TypeError, "title is a string: the value must be a str, got NoneType"),
    (("title", "in", ["a", None]), TypeError, "got NoneType"),
    (("title", "==", "a", "s"), ValueError, "title is a string, which has no unit"),
    (("title", "==", "\ud800"), ValueError, "surrogates"),
    (("nome", "==", 5), KeyError, "no field 'nome'"),
    (("choice", "==", 5), ValueError, "choice is no number, enum or string"),
    (("choice.Named", "==", 5), ValueError, "choice.Named is no number, enum or string"),
    (("choice.Nobody.name", "==", 5), KeyError, "no variant 'Nobody'"),
    (("vectors.strings", "==", "a"), ValueError, "vectors.strings is no number, enum or string"),
    (("vectors.named.name", "==", "a"), ValueError, "which is a vector"),
    (("structs.point", "==", 5), ValueError, "structs.point is no number"),
    (("title.x", "==", 5), ValueError, "no table or struct"),
    (("scalars.color", "==", "Purple"), ValueError, r"'Purple', is no name of shapes\.Color; it has "),
    (("scalars.access", "==", "Read Purple"), ValueError, r"'Read Purple', is no name of shapes\.Access"),
    (("id", "==", datetime.datetime(2024, 1, 1, tzinfo=UTC)), TypeError, "which needs the unit"),
    (("id", "==", datetime.datetime(2024, 1, 1), "s"), ValueError, "has no time zone"),
    (("id", "==", datetime.date(2024, 1, 1), "s"), TypeError, "got date$"),
    (("id", "==", np.datetime64("NaT", "s"), "s"), ValueError, "is no time, NaT"),
    (("id", "==", pandas.NaT, "s"), ValueError, "is no time, NaT"),
    (("id", "==", np.timedelta64(1, "M"), "s"), TypeError, "no length in seconds"),
    (("id", "==", WITHOUT_UNIT, "s"), TypeError, "no length in seconds"),
    (("id", "==", np.array(["2024"], "M8[s]"), "s"), TypeError, "got datetime64"),
]


@in_one_test
@pytest.mark.parametrize(("where", "error", "text"), WRONG, ids=range(len(WRONG)))
def test_wrong_condition_is_refused_by_records_as_by_columns(where, error, text):
    for read in (StreamReader(b"").records, lambda table, where: StreamReader(b"").columns(table, [], where)):
        with pytest.raises(error, match=text):
            read(SHAPE, where=where)


class _Text(str):
    """Its own methods say something else than the string."""

    def encode(self, *arguments: Any) -> Any:
        return b"beta" * 100

    def __len__(self) -> int:
        return 1 << 40


class _Real(float):
    """Its own methods say something else than the number."""

    def __float__(self) -> float:
        return 5.0

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = float.__hash__


def test_number_that_says_something_else_of_itself_is_taken_as_it_is():
    assert hosts(("sequence", "==", _Real(2))) == [2]
    with pytest.raises(ValueError, match="the value is NaN"):
        hosts(("sequence", "==", _Real("nan")))


def test_string_that_says_something_else_of_itself_is_taken_as_it_is():
    assert hosts(("host", "==", _Text("beta"))) == [1, 4, 7]


# Records: limit, progress, damage


def test_iterator_ends_after_the_limit_and_reads_no_further():
    root: Any = TELEMETRY.root
    for limit, where, expected, read in [(0, None, [], 0), (2, None, [0, 1], 2), (1, ("host", "==", "beta"), [1], 2)]:
        reader = StreamReader(io.BytesIO(events()))
        records = reader.records(root, limit=limit, where=where)
        assert [record.sequence for record in records] == expected
        assert next(records, None) is None
        assert reader.frames_read == read
        rest = [record.sequence for record in reader.records(root)]
        assert rest == list(range(read, 9))
    assert len(list(StreamReader(events()).records(root, limit=100))) == 9


@in_one_test
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"limit": -1}, ValueError, "limit"),
        ({"limit": 1.5}, TypeError, "limit"),
        ({"limit": True}, TypeError, "limit"),
        ({"limit": "1"}, TypeError, "limit"),
        ({"progress": 5}, TypeError, "progress must be callable, got int"),
    ],
)
def test_wrong_option_of_records_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        StreamReader(b"").records(SHAPE, **options)


def test_progress_is_told_of_records_given_and_of_the_offset():
    calls: list[tuple[int, int]] = []
    stream = stream_of(numbered_messages(7) * 2000)
    reader = StreamReader(io.BytesIO(stream))
    found = list(reader.records(LEVEL1, where=("value", "<", 2), progress=lambda *told: calls.append(told)))
    assert len(found) == 4000
    assert calls[-1] == (4000, len(stream))
    assert [records for records, _ in calls] == sorted(records for records, _ in calls)
    assert [offset for _, offset in calls] == sorted(offset for _, offset in calls)
    assert 3 <= len(calls) <= 14
    # Nothing was read: nothing to tell. And an end is told once.
    calls.clear()
    assert list(StreamReader(b"").records(LEVEL1, progress=lambda *told: calls.append(told))) == []
    assert calls == []
    records = StreamReader(stream_of(numbered_messages(2))).records(LEVEL1, progress=lambda *told: calls.append(told))
    assert len(list(records)) == 2
    assert next(records, None) is None
    assert len(calls) == 1


def test_error_of_progress_loses_no_record():
    def fail(records: int, offset: int) -> None:
        raise RuntimeError("stop")

    stream = stream_of(numbered_messages(7) * 1000)
    records = StreamReader(stream).records(LEVEL1, progress=fail)
    seen = []
    failures = 0
    while True:
        try:
            seen.append(next(records).value)
        except RuntimeError:
            failures += 1
        except StopIteration:
            break
    assert seen == list(range(7)) * 1000
    assert failures == 2


def test_filtered_messages_do_not_keep_signals_waiting():
    # No Python code runs until the end, which is fifteen times as far away as the signal.
    count = 1_400_000
    reader = StreamReader(stream_of(numbered_messages(7) * 1000) * (count // 7000))
    records = reader.records(LEVEL1, where=("value", "==", 100), verify=False)
    with Alarm() as alarm:
        assert alarm.strike(lambda: list(records), 0.005)
    assert reader.frames_read < count


def outcomes_of(messages: Iterator[Any]) -> list[str]:
    """What an iterator gives: messages, or errors of the first one, after which it goes on."""
    outcomes = []
    while True:
        try:
            next(messages)
            outcomes.append("message")
        except FlatbufferError as error:
            outcomes.append(f"frame {error.frame}")
        except StopIteration:
            return outcomes


def test_damage_on_the_way_to_a_value_is_an_error_and_reading_goes_on():
    table = table_of("Named")
    damaged = bytearray(NAMED)
    # Every byte after the root's offset says another thing, one at a time.
    for place in range(4, len(NAMED)):
        damaged[:] = NAMED
        damaged[place] ^= 0xFF
        stream = stream_of([bytes(damaged), NAMED])
        for where in (("code", 0, None), ("name", ">=", ""), ("note", ">=", "")):
            by_records = outcomes_of(StreamReader(stream).records(table, where=where, verify=False))
            batches = StreamReader(stream).column_batches(table, [], where, batch_rows=1)
            by_columns = outcomes_of(batches)
            assert by_records == by_columns
            assert by_records[-1] == "message"


def test_filter_cannot_be_made_or_used_wrongly():
    with pytest.raises(TypeError, match="made from a `where`"):
        Condition()
    code = """
from flatstream._core.records.conditions import Condition
from flatstream._core.records.record_filter import RecordFilter
from flatstream._core.records.record_iterator import iterate_records
from support.schemas import TELEMETRY
types, number = TELEMETRY._record_types, TELEMETRY.root.number
unmade = RecordFilter.__new__(RecordFilter)
attempt(lambda: next(iterate_records(types, number, StreamReader(TWO_FRAMES), False, unmade)))
attempt(lambda: RecordFilter(types, number, [("host",)]))
attempt(lambda: RecordFilter(types, number, [("nome", "==", ("a",), None)]))
attempt(lambda: RecordFilter(types, number, [5]))
attempt(lambda: RecordFilter(types, 10**9, []))
made = RecordFilter(types, number, [("host", "==", ("a",), None)])
attempt(lambda: made.__init__(types, number, []))
attempt(lambda: repr(Condition.__new__(Condition)))
"""
    lines = survives(code)
    assert len(lines) == 7
    assert not [line for line in lines[:6] if line.startswith("no error")]


def test_parsed_conditions_have_a_plain_form():
    assert parse_conditions([("a", None, 1), ("b.c", "in", {1}), ["d", ">", 2, "ms"]]) == [
        ("a", "range", (None, 1), None),
        ("b.c", "in", ([1],), None),
        ("d", ">", (2,), "ms"),
    ]
    assert isinstance(RecordFilter(TELEMETRY._record_types, TELEMETRY.root.number, []), RecordFilter)  # type: ignore[union-attr]


def test_writer_and_reader_of_the_example_select_what_the_readme_says():
    root: Any = TELEMETRY.root
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        for number in range(5):
            writer.write_payload(encoded(root, {"sequence": number, "load_1": number / 4}))
    records = StreamReader(sink.getvalue()).records(root, where=[("sequence", 1, 4), ("load_1", ">=", 0.5)])
    assert [record.sequence for record in records] == [2, 3]

"""The language of --where, and times and durations."""

from __future__ import annotations

import contextlib
import io
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import StreamReader, StreamWriter
from flatstream.cli._times import field_of, parse_duration, parse_time, time_conditions, value_in_unit
from flatstream.cli._where import WhereError, bind, parse
from flatstream.records import RecordWriter
from flatstream.tools._times import TimeField
from support.events import BEGIN, EVENT, SECOND, event_stream
from support.schemas import SHAPES

SHAPE: Any = SHAPES.root


def bound(text: str, table: Any = EVENT, **options: Any) -> list[Any]:
    return bind(text, parse(text), table, **options)


UNDERSTOOD: dict[str, list[Any] | None] = {
    "sequence >= 10 and host == 'a'": [("sequence", ">=", 10), ("host", "==", "a")],
    "sequence>=10and host=='a'": None,
    "10 <= sequence < 20": [("sequence", ">=", 10), ("sequence", "<", 20)],
    "20 > sequence": [("sequence", "<", 20)],
    "3 == sequence": [("sequence", "==", 3)],
    "platform in [Linux, 'Darwin']": [("platform", "in", ["Linux", "Darwin"])],
    "platform == 1": [("platform", "==", 1)],
    "host not in []": [("host", "not in", [])],
    "host in ['a', \"b\",]": [("host", "in", ["a", "b"])],
    "deadline_missed and not deadline_missed": [("deadline_missed", "==", True), ("deadline_missed", "==", False)],
    "deadline_missed == true": [("deadline_missed", "==", True)],
    r"host startswith 'it\'s\n\\'": [("host", "startswith", "it's\n\\")],
    "host == 'and or not'": [("host", "==", "and or not")],
    "host != '\u00e4\U0001f600'": [("host", "!=", "\u00e4\U0001f600")],
    "load_1 > .5 and load_1 <= 1e3": [("load_1", ">", 0.5), ("load_1", "<=", 1000.0)],
    "load_1 == 0.1": [("load_1", "==", 0.10000000149011612)],
    "cpu_total.user >= 1.5": [("cpu_total.user", ">=", 1.5)],
    "sequence == 0x1F": [("sequence", "==", 31)],
    "sequence < 1_000": [("sequence", "<", 1000)],
    "sequence > -1": [("sequence", ">", -1)],
    "wall_time_ns >= 2023-11-14T22:13:20.5Z": [("wall_time_ns", ">=", BEGIN + SECOND // 2)],
    "wall_time_ns < '2023-11-14 22:13:20+01:00'": [("wall_time_ns", "<", BEGIN - 3600 * SECOND)],
    "wall_time_ns in [2023-11-14, '2023-11-15']": [("wall_time_ns", "in", [1699920000 * SECOND, 1700006400 * SECOND])],
    "wall_time_ns > '5m'": [("wall_time_ns", ">", BEGIN - 300 * SECOND)],
}


def test_conditions_are_understood() -> None:
    for text, conditions in UNDERSTOOD.items():
        if conditions is None:
            with pytest.raises(WhereError):
                bound(text, now=BEGIN)
        else:
            assert bound(text, now=BEGIN) == conditions, text


REFUSED = [
    ("sequence = 3", 10, "write '=='"),
    ("sequence <> 3", 10, "write '!='"),
    ("sequence == 3 or host == 'a'", 15, "joined by 'and' only"),
    ("sequence == 3 || host == 'a'", 15, "joined by 'and' only"),
    ("sequence == 3 && host == 'a'", 15, "write 'and'"),
    ("(sequence == 3)", 1, "no parentheses"),
    ("! deadline_missed", 1, "write 'not'"),
    ("host =~ 'a'", 6, "startswith"),
    ("host == a", 9, "in quotes"),
    ("host == 'a", 9, "has no end"),
    (r"host == 'a\q'", 11, "backslash"),
    ("host == 3", 9, "compare it with one in quotes"),
    ("host in 'a'", 9, "expected a list"),
    ("host == null", 9, "absent"),
    ("host.x == 1", 1, "has no field host.x"),
    ("sequence >", 11, "expected a value"),
    ("sequence == and", 13, "expected a value"),
    ("sequence == 1 2", 15, "'and' or the end"),
    ("sequence in [1 2]", 16, "',' or ']'"),
    ("sequence in [1", 15, "',' or ']'"),
    ("sequence not 3", 14, "'in'"),
    ("sequence @ 3", 10, "cannot stand here"),
    ("sequence == 5m", 13, "cannot stand here"),
    ("sequence == 0x", 13, "cannot stand here"),
    ("sequence == 1__0", 13, "no number"),
    ("sequence == host", 13, "sequence is a number: compare it with one"),
    ("sequence == '5'", 13, "sequence is a number: compare it with one"),
    ("sequence == '5m'", 13, "unit must be known"),
    ("sequence", 1, "not true or false"),
    ("not host", 5, "not true or false"),
    ("sequence startswith 'a'", 1, "no text"),
    ("1 < 2", 5, "a field"),
    ("1 < sequence < 2 < 3", 18, "'and' or the end"),
    ("sequence == 1 < 2", 15, "in the middle"),
    ("sequnce == 1", 1, "it has sequence"),
    ("cpu_total == 1", 1, "no number, enum or text"),
    ("platform == 'Linx'", 13, "it has Other, Linux"),
    ("boot_time > '2026-01-01'", 13, "compare it with one"),
    ("wall_time_ns > 2026-13-01", 16, "no time"),
    ("deadline_missed == 'yes'", 20, "no text"),
    ("", 1, "a field or a value"),
    ("and", 1, "a field or a value"),
]


def test_errors_say_where_and_what() -> None:
    for text, position, problem in REFUSED:
        with pytest.raises(WhereError) as caught:
            bound(text)
        assert caught.value.position + 1 == position, (text, str(caught.value))
        assert problem in str(caught.value), (text, str(caught.value))
        assert "\n" not in str(caught.value)


@given(st.text(alphabet="ab10.'\"[]()<>=!&|,- \\_\n", max_size=25))
def test_any_text_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(WhereError):
        bound(text)


def test_conditions_select_as_python_does() -> None:
    data = event_stream(range(40))
    cases = {
        "10 <= sequence < 20 and host == 'a'": lambda n: 10 <= n < 20 and n % 2 == 0,
        "deadline_missed": lambda n: n % 5 == 0,
        "not deadline_missed and platform == Linux": lambda n: n % 5 != 0,
        "load_1 == 0.3": lambda n: n == 3,
        "load_1 <= 0.3": lambda n: n <= 3,
        "sequence not in [1, 2, 0x3]": lambda n: n not in (1, 2, 3),
        "host startswith ''": lambda n: True,
        "wall_time_ns >= 2023-11-14T22:13:50Z": lambda n: n >= 30,
    }
    for text, holds in cases.items():
        with StreamReader(data, "xxhash64") as reader:
            found = [record.sequence for record in reader.records(EVENT, where=bound(text))]
        assert found == [number for number in range(40) if holds(number)], text


NUMBER = st.integers(-3, 43)
OPERATOR = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
HOSTS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)
# What a condition says, and the same in Python, of a number and a host.
CONDITION = st.one_of(
    st.builds("sequence {} {}".format, OPERATOR, NUMBER),
    st.builds("{} {} sequence".format, NUMBER, OPERATOR),
    st.builds("{} <= sequence < {}".format, NUMBER, NUMBER),
    st.builds("sequence in {}".format, st.lists(NUMBER, max_size=4)),
    st.builds("sequence not in {}".format, st.lists(NUMBER, max_size=4)),
    st.builds("host in {}".format, HOSTS),
    st.builds("host {} {!r}".format, OPERATOR, st.sampled_from(["", "a", "b", "ab"])),
)


@given(st.lists(CONDITION, min_size=1, max_size=3))
def test_random_conditions_select_as_python_does(conditions: list[str]) -> None:
    text = " and ".join(conditions)
    # All of these conditions are expressions of Python, too.
    expected = [n for n in range(40) if eval(text, {"sequence": n, "host": "ab"[n % 2]})]
    with StreamReader(event_stream(range(40)), "xxhash64") as reader:
        assert [record.sequence for record in reader.records(EVENT, where=bound(text))] == expected


def test_a_field_in_the_variant_of_a_union_can_be_compared() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        records = RecordWriter(writer, SHAPE)
        for name in ("a", "b"):
            records.write(choice=("Named", {"name": name}))
    where = bound("choice.Named.name == 'b' and choice_type == Named", SHAPE)
    with StreamReader(sink.getvalue()) as reader:
        assert [record.choice.name for record in reader.records(SHAPE, where=where)] == ["b"]


def test_durations_are_exact() -> None:
    assert parse_duration("1ns") == 1
    assert parse_duration("1.5h") == 5400 * SECOND
    assert parse_duration("2h30m") == parse_duration("2h 30min") == 9000 * SECOND
    assert parse_duration("500 ms") == 500_000_000
    assert parse_duration("1w") == 7 * parse_duration("1d")
    assert parse_duration("0.000000001s") == 1
    for text in ("", "5", "m", "5x", "-5m", "5m!", "1e3s", "5m3"):
        with pytest.raises(ValueError, match="no duration"):
            parse_duration(text)


def test_times_are_exact() -> None:
    assert parse_time("1970-01-01") == 0
    assert parse_time("2023-11-14T22:13:20Z") == parse_time("2023-11-14T22:13:20") == BEGIN
    assert parse_time("2023-11-14T23:13:20+01:00") == parse_time("2023-11-14 23:13:20+0100") == BEGIN
    assert parse_time("2023-11-14T22:13:20.123456789Z") == BEGIN + 123_456_789
    assert parse_time("1969-12-31T23:59:59.25Z") == -750_000_000
    assert parse_time("5m", BEGIN) == BEGIN - 300 * SECOND
    assert parse_time("now", BEGIN) == BEGIN
    for text in ("", "soon", "2023-02-30", "2023-11-14T25:00", "20:00", "2023-11-14.5", "2023-11-14T22:13.5"):
        with pytest.raises(ValueError, match="no time"):
            parse_time(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_of_iso_8601_is_that_of_datetime(moment: datetime) -> None:
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert parse_time(moment.isoformat()) == expected


def test_since_and_until_are_conditions_in_the_unit_of_the_field() -> None:
    assert time_conditions(TimeField("t", "ms"), "1970-01-01T00:00:01.5Z", "7") == [("t", ">=", 1500), ("t", "<", 7)]
    assert time_conditions(TimeField("t", "s"), "1970-01-01T00:00:01.5Z", None) == [("t", ">=", Fraction(3, 2))]
    assert value_in_unit(1_500_000, "us") == 1500


def test_the_time_field_is_found_or_given() -> None:
    assert field_of(EVENT, None) == ("wall_time_ns", "ns")
    assert field_of(EVENT, "monotonic_ns") == ("monotonic_ns", "ns")
    assert field_of(EVENT, "sequence:ms") == ("sequence", "ms")
    assert field_of(SHAPE, None) is None
    for option, problem in {
        "host": "no integer",
        "sequence": "unit of sequence is not known",
        "sequence:y": "must be one of",
        "nothing:s": "no field",
        "deadline_missed:s": "no integer",
    }.items():
        with pytest.raises(ValueError, match=problem):
            field_of(EVENT, option)

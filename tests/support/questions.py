"""Questions about the rows of a dataset, each as conditions, for pyarrow, for polars and as SQL; and the rows."""

from __future__ import annotations

import datetime
import math
import operator
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from support.schemas import root_of

TEXT = """
namespace weather;

enum Level : ubyte { Debug = 0, Info = 3, Warn = 4, Error = 9 }
enum Marks : ubyte (bit_flags) { Dusty, Wet, Windy }
struct Point { x: int; y: double; }
table Header { sequence: int; zone: string; level: Level = Warn; limit: short = null; }
table Event {
  time_ns: long;
  i8: byte;
  u8: ubyte;
  i32: int = 7;
  u32: uint;
  i64: long;
  u64: ulong;
  f: float;
  d: double;
  b: bool;
  opt: int = null;
  optd: double = null;
  optb: bool = null;
  level: Level = Info;
  maybe: Level = null;
  marks: Marks;
  name: string;
  header: Header;
  point: Point;
  parts: [int];
  filler: string;
}
root_type Event;
file_identifier "WTHR";
"""

BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
BEGIN_NS = int(BEGIN.timestamp()) * 10**9
# Between two rows.
STEP_NS = 10**9 + 7
TIME = {"time_ns": "ns"}

NAMES = ["", "a", "ab", "abc", "b", "é", "zz", "A", 'say "x", y', "ab\U0001f600", "aé"]
FLOATS = [0.0, -0.0, 0.1, -0.1, 1.5, 2.5, 3.0, math.inf, -math.inf, math.nan, 1e300, 16777217.0, 5e-324]
LONGS = [0, 1, -1, 5, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]


def rows_of(count: int, seed: int = 1, filler: int = 40) -> list[dict[str, Any]]:
    """Rows in the order of their times, whose other values ascend slowly or are any of those that are hard."""
    chance = random.Random(seed)
    rows = []
    for i in range(count):
        row = {
            "time_ns": BEGIN_NS + i * STEP_NS + i % 1000,
            "i8": i * 200 // count - 100,
            "u8": i * 250 // count,
            "i32": i - count // 2,
            "u32": 2**32 - 1 - i,
            "i64": chance.choice(LONGS),
            "u64": chance.choice([0, 1, 5, 2**63 - 1, 2**63, 2**64 - 1]) if i % 7 == 0 else i,
            "f": chance.choice([value for value in FLOATS if value != 1e300]) if i % 3 == 0 else float(i),
            "d": chance.choice(FLOATS) if i % 5 == 0 and i > count // 2 else i / 10,
            "b": i > count * 2 // 3,
            "opt": None if i % 4 == 0 or i < count // 4 else i,
            "optd": None if i % 3 == 0 else chance.choice(FLOATS),
            "optb": chance.choice([None, True, False]),
            # A number without a name, of a later version of the schema.
            "level": 5 if i % 11 == 0 else [0, 3, 4, 9][i * 4 // count],
            "maybe": chance.choice([None, 0, 3, 9, 77]),
            "marks": i % 8,
            "name": None if i % 6 == 0 else NAMES[i * len(NAMES) // count] if i % 2 else chance.choice(NAMES),
            "header": None
            if i % 9 == 0
            else {
                "sequence": i,
                "zone": chance.choice(["north", "south", None]),
                "level": 9 if i > count // 2 else 4,
                "limit": None if i % 2 else i % 100,
            },
            "point": None if i % 13 == 0 else {"x": -i, "y": i / 3},
            "parts": None if i % 2 else [1] * (i % 4),
            "filler": "x" * filler,
        }
        rows.append({name: value for name, value in row.items() if value is not None})
    return rows


def table_of() -> Any:
    return root_of(TEXT)


def older_table_of() -> Any:
    """The table as an earlier version of the schema has it: without some fields, and one name of the enum."""
    text = TEXT.replace(", Error = 9", "").replace("  opt: int = null;\n", "").replace("zone: string; ", "")
    return root_of(text)


# Questions


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes
    ----------
    name : str
        What is asked, as the ids of tests have it.
    arrow, polars : expression
    sql : str
        What follows WHERE in DuckDB.
    conditions : list of tuple or None
        None if our conditions cannot say it.
    """

    name: str
    arrow: Any
    polars: Any
    sql: str
    conditions: list[tuple[Any, ...]] | None


OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def arrow_column(path: str) -> Any:
    return pc.field(*path.split("."))


def polars_column(path: str) -> Any:
    first, *rest = path.split(".")
    found = pl.col(first)
    for name in rest:
        found = found.struct.field(name)
    return found


def sql_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMPTZ '{value.astimezone(datetime.UTC).isoformat(sep=' ')}'"
    if isinstance(value, float):
        return f"'{value}'::DOUBLE"
    return repr(value)


def arrow_value(path: str, value: Any) -> Any:
    # Arrow compares a uint64 with an int64 only as long as no value is too large for an int64.
    if path == "u64" and type(value) is int and value >= 0:
        return pa.scalar(value, pa.uint64())
    # Nor does it compare times of two time zones.
    return value.astimezone(datetime.UTC) if isinstance(value, datetime.datetime) else value


def arrow_values(path: str, values: Sequence[Any]) -> Any:
    # The values must have the unit of the column.
    return pa.array(values, pa.timestamp("ns", "UTC")) if path == "time_ns" else values


def compare(path: str, sign: str, value: Any) -> Question:
    compared = OPERATORS[sign]
    return Question(
        f"{path} {sign} {value}",
        compared(arrow_column(path), arrow_value(path, value)),
        compared(polars_column(path), value),
        f"{path} {'=' if sign == '==' else sign} {sql_value(value)}",
        [(path, sign, value)],
    )


def between(path: str, low: Any, high: Any) -> Question:
    """From `low` to below `high`."""
    column = arrow_column(path)
    return Question(
        f"{low} <= {path} < {high}",
        (column >= arrow_value(path, low)) & (column < arrow_value(path, high)),
        polars_column(path).is_between(low, high, closed="left"),
        f"{path} >= {sql_value(low)} AND {path} < {sql_value(high)}",
        [(path, low, high)],
    )


def among(path: str, values: Sequence[Any]) -> Question:
    return Question(
        f"{path} in {list(values)}",
        arrow_column(path).isin(arrow_values(path, values)),
        polars_column(path).is_in(values),
        f"{path} IN ({', '.join(map(sql_value, values))})",
        [(path, "in", list(values))],
    )


def not_among(path: str, values: Sequence[Any]) -> Question:
    # Arrow says of null that it is not among the values, where others say null.
    column = arrow_column(path)
    return Question(
        f"{path} not in {list(values)}",
        ~column.isin(arrow_values(path, values)) & column.is_valid(),
        ~polars_column(path).is_in(values),
        f"{path} NOT IN ({', '.join(map(sql_value, values))})",
        [(path, "not in", list(values))],
    )


def is_null(path: str) -> Question:
    return Question(
        f"{path} is null", arrow_column(path).is_null(), polars_column(path).is_null(), f"{path} IS NULL", None
    )


def is_valid(path: str) -> Question:
    return Question(
        f"{path} is not null",
        arrow_column(path).is_valid(),
        polars_column(path).is_not_null(),
        f"{path} IS NOT NULL",
        None,
    )


def begins(path: str, prefix: str) -> Question:
    return Question(
        f"{path} begins with {prefix!r}",
        pc.starts_with(arrow_column(path), prefix),
        polars_column(path).str.starts_with(prefix),
        f"starts_with({path}, {sql_value(prefix)})",
        [(path, "startswith", prefix)],
    )


def truth(path: str) -> Question:
    return Question(path, arrow_column(path), polars_column(path), path, [(path, "==", True)])


def both(*parts: Question) -> Question:
    found = parts[0]
    for part in parts[1:]:
        conditions = None
        if found.conditions is not None and part.conditions is not None:
            conditions = found.conditions + part.conditions
        found = Question(
            f"({found.name} and {part.name})",
            found.arrow & part.arrow,
            found.polars & part.polars,
            f"({found.sql}) AND ({part.sql})",
            conditions,
        )
    return found


def either(*parts: Question) -> Question:
    found = parts[0]
    for part in parts[1:]:
        found = Question(
            f"({found.name} or {part.name})",
            found.arrow | part.arrow,
            found.polars | part.polars,
            f"({found.sql}) OR ({part.sql})",
            None,
        )
    return found


def no(part: Question) -> Question:
    return Question(f"not {part.name}", ~part.arrow, ~part.polars, f"NOT ({part.sql})", None)


def at(row: int, offset_us: int = 0) -> datetime.datetime:
    """The time of a row, in microseconds, and so many more of these."""
    return BEGIN + datetime.timedelta(microseconds=(row * STEP_NS + row % 1000) // 1000 + offset_us)


def questions(count: int) -> list[Question]:
    """Questions about the rows of `rows_of(count)`, no two of which have the same name."""
    half, quarter = count // 2, count // 4
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    later = at(half).astimezone(zone)
    return [
        # Integers
        compare("i8", "==", 3),
        compare("i8", "!=", 3),
        compare("i8", "<", -90),
        compare("i8", ">=", 99),
        compare("u8", "<=", 2),
        compare("u8", ">", 245),
        compare("i32", "==", 7),
        compare("i32", ">", half - 5),
        compare("i32", "<", -half),
        compare("u32", ">=", 2**32 - 5),
        compare("i64", "==", 2**53 + 1),
        compare("i64", ">", 2**53),
        compare("i64", "<", -(2**53)),
        compare("u64", "==", 2**64 - 1),
        compare("u64", ">", 2**63 - 1),
        between("u64", 3, 9),
        between("i32", -5, 5),
        among("i8", [-100, 0, 99]),
        among("i64", [5]),
        not_among("i8", list(range(-100, 95))),
        no(compare("i32", ">=", 10 - half)),
        no(between("i32", 20 - half, half)),
        # Floats
        compare("f", "==", 16777216.0),
        compare("f", ">", float(count - 3)),
        compare("d", "==", 0.5),
        compare("d", "!=", 0.5),
        compare("d", "<", 0.25),
        compare("d", ">", 1e10),
        compare("d", ">=", 3),
        compare("optd", "<=", -0.1),
        no(compare("d", ">", 0.3)),
        no(compare("optd", "<", 1.5)),
        among("d", [0.5, 2.5]),
        between("d", 1.0, 1.5),
        # Bools
        truth("b"),
        no(truth("b")),
        compare("b", "==", False),
        truth("optb"),
        no(truth("optb")),
        compare("optb", "!=", True),
        # Nulls
        is_null("opt"),
        is_valid("opt"),
        is_null("i32"),
        is_null("name"),
        is_valid("header"),
        is_null("header.sequence"),
        is_null("parts"),
        compare("opt", ">", count - 10),
        compare("opt", "!=", count - 1),
        no(compare("opt", "<", count - 10)),
        both(is_valid("opt"), compare("opt", "<", quarter + 9)),
        either(is_null("opt"), compare("i32", ">", half - 3)),
        no(either(is_null("opt"), compare("opt", ">", quarter))),
        # Times, also of other zones
        between("time_ns", at(half), at(half + 20)),
        compare("time_ns", ">=", later),
        compare("time_ns", ">", at(count - 5)),
        compare("time_ns", "<", at(3)),
        compare("time_ns", "<=", at(3, 1)),
        compare("time_ns", "==", BEGIN),
        compare("time_ns", "!=", BEGIN),
        compare("time_ns", "<", BEGIN),
        either(compare("time_ns", "<", at(10)), compare("time_ns", ">=", at(count - 10))),
        no(between("time_ns", at(10), at(count - 10))),
        among("time_ns", [BEGIN, at(1000), at(2000)]),
        both(between("time_ns", at(quarter), at(half)), compare("name", "==", "ab")),
        both(between("time_ns", at(5), at(quarter)), compare("d", ">", 2.0), truth("optb")),
        # Enums
        compare("level", "==", "Error"),
        compare("level", "!=", "Error"),
        compare("level", "==", "5"),
        among("level", ["Debug", "Info"]),
        not_among("level", ["Debug", "Info", "5"]),
        compare("maybe", "==", "Info"),
        no(compare("maybe", "==", "77")),
        is_null("maybe"),
        # Strings
        compare("name", "==", "abc"),
        compare("name", "==", ""),
        compare("name", "!=", "zz"),
        compare("name", "<", "ab"),
        compare("name", ">", "b"),
        compare("name", ">=", "é"),
        among("name", ["a", 'say "x", y', "none"]),
        not_among("name", ["a", "zz"]),
        begins("name", "ab"),
        begins("name", "é"),
        no(begins("name", "a")),
        no(compare("name", "<=", "abc")),
        # Fields inside of others
        compare("header.sequence", "<", 5),
        compare("header.zone", "==", "north"),
        compare("header.level", "==", "Error"),
        among("header.limit", [1, 2, 4]),
        compare("point.x", ">", -4),
        compare("point.y", ">=", 100.0),
        # Several
        both(compare("i8", ">", 50), compare("u8", "<", 240)),
        both(compare("i32", ">", 5), compare("i32", "<", 3)),
        both(compare("i32", ">", 5), compare("i32", "<", 9), compare("i32", "!=", 7)),
        either(compare("i8", "==", -100), compare("u8", "==", 249), truth("optb")),
        either(
            both(compare("i8", "<", -95), compare("name", "==", "a")), both(compare("i8", ">", 95), is_null("name"))
        ),
        no(both(compare("i32", ">", 10 - half), compare("i64", "!=", 5))),
        either(among("i32", [1 - half, 2 - half]), among("i32", [half - 1])),
    ]


def ids(found: Iterable[Question]) -> list[str]:
    return [question.name for question in found]

"""What an expression says, as a tree of tests of columns: for which values each is true, and for which it is false.

The semantics of the libraries differ. For an ordered comparison with NaN, Arrow follows IEEE, and polars and DuckDB say
that NaN is greater than all numbers; literals of floats are rounded to 32 bits here and there. So a test of floats that
an expression makes counts as one that NaN may pass and fail, its limits are a bit wider, and it is never exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from flatstream.datasets._value_sets import (
    BEGIN,
    END,
    NULL,
    VALUES,
    Cut,
    ValueSet,
    before,
    before_integer,
    before_time,
    behind,
    behind_integer,
    behind_prefix,
    behind_time,
    union_of,
)

if TYPE_CHECKING:
    from flatstream.datasets._fields import Columns


@dataclass(frozen=True, slots=True)
class Test:
    """A test of one column.

    Attributes
    ----------
    path : str
        The path of the column.
    true, false : ValueSet
        The values for which it says true, and false. For those in neither it says null.
    is_exact : bool
        Whether the sets are exactly these values, or at least these.
    """

    path: str
    true: ValueSet
    false: ValueSet
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Constant:
    """True, False, or None for null, in each row."""

    value: bool | None


@dataclass(frozen=True, slots=True)
class Combined:
    """Several trees, by Kleene's logic: "and", "or", "not" of one, or "if" of a condition and two values."""

    operator: str
    parts: tuple[Tree, ...]
    # Whether this is true and false exactly where Kleene's logic says so.
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is known about which rows it lets through."""


Tree: TypeAlias = Test | Constant | Combined | Unknown
UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Reference:
    """A column by its path; of times perhaps rounded to a coarser unit, of so many nanoseconds."""

    path: str
    unit: int = 0


@dataclass(frozen=True, slots=True)
class LiteralValue:
    """A literal: its kind, its value, and for numbers the type.

    The kinds are "null", "bool", "integer", "real", "text", and "time", whose value is the instant in nanoseconds.
    """

    kind: str
    value: Any
    # Of an integer, the name of its type ("int64"), None if it takes that of the column; of a time, the nanoseconds
    # of its unit.
    type: Any = None


@dataclass(frozen=True, slots=True)
class Literals:
    """A list of literals; of a long one the lowest and the highest, and null if it has one."""

    values: Sequence[LiteralValue]
    is_whole: bool = True


Node: TypeAlias = Test | Constant | Combined | Unknown | Reference | LiteralValue
FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


# Tests, for both libraries


def interval_set(operator: str, lower: Cut, upper: Cut) -> ValueSet:
    """The values that compare with one value so; the cuts before and behind this value."""
    if operator == "==":
        return ValueSet(union_of([(lower, upper)]))
    if operator == "!=":
        return ValueSet(union_of([(lower, upper)])).others
    begin, end = {"<": (BEGIN, lower), "<=": (BEGIN, upper), ">": (upper, END), ">=": (lower, END)}[operator]
    return ValueSet(union_of([(begin, end)]))


def _cuts(
    columns: Columns, column: Reference, domain: str, literal: LiteralValue, dialect: str
) -> tuple[Cut, Cut, bool] | None:
    """The cuts before and behind a literal, and whether they are exact; None if the comparison is not known."""
    path, value = column.path, literal.value
    if domain == "bool" and literal.kind == "bool":
        return before_integer(int(value)), behind_integer(int(value)), True
    if domain == "integer" and literal.kind == "integer":
        return (before_integer(value), behind_integer(value), True) if _fits(columns, path, literal, dialect) else None
    if domain in ("text", "label") and literal.kind == "text":
        return before(value), behind(value), True
    if domain == "real" and literal.kind in ("integer", "real"):
        if literal.kind == "real" and math.isnan(value):
            return None
        lower, upper = _rounded(value)
        return before(lower), behind(upper), False
    if domain == "time" and literal.kind == "time":
        unit = columns.unit_of(path)
        # polars compares in the coarser of two units, and rounds the other one.
        is_rounded = column.unit or (dialect == "polars" and literal.type != unit)
        slack = max(literal.type, unit, column.unit) if is_rounded else 0
        return before_time(value - slack, unit), behind_time(value + slack, unit), slack == 0
    return None


def _fits(columns: Columns, path: str, literal: LiteralValue, dialect: str) -> bool:
    """Whether a column of integers is compared with this literal as numbers are."""
    if dialect == "arrow":
        return True
    low, high, is_unsigned_long = columns.integer_range(path)
    if literal.type is None:
        return bool(low <= literal.value <= high)
    # Between an unsigned type of 64 bits and a signed one, polars compares floats.
    return literal.type in INTEGERS and is_unsigned_long == (literal.type == "uint64")


def _rounded(value: Any) -> tuple[float, float]:
    """Floats below and above a number, farther away than rounding to 32 bits moves it."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    if math.isinf(number):
        # The largest float of 32 bits, and a bit less: what is beyond becomes infinite there.
        return (3.4e38, math.inf) if number > 0 else (-math.inf, -3.4e38)
    slack = abs(number) * 2.0**-22 + 2.0**-148
    lower, upper = number - slack, number + slack
    # What is too large for 32 bits becomes infinite there.
    return (-math.inf if lower < -3.4e38 else lower), (math.inf if upper > 3.4e38 else upper)


INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


def comparison(columns: Columns, operator: str, one: Node, two: Node, dialect: str, missing: bool = False) -> Tree:
    """A column compared with a literal; with `missing`, null equals null and nothing else (polars' ``eq_missing``)."""
    if isinstance(one, LiteralValue) and isinstance(two, Reference):
        one, two, operator = two, one, FLIPPED[operator]
    if not isinstance(one, Reference) or not isinstance(two, LiteralValue):
        return UNKNOWN
    domain = columns.domain(one.path)
    if domain is None:
        return UNKNOWN
    if two.kind == "null":
        if not missing:
            return Constant(None)
        values = VALUES.with_missing(nan=domain == "real")
        return Test(one.path, NULL, values) if operator == "==" else Test(one.path, values, NULL)
    if domain == "label" and operator not in ("==", "!="):
        return UNKNOWN
    cuts = _cuts(columns, one, domain, two, dialect)
    if cuts is None:
        return UNKNOWN
    lower, upper, is_exact = cuts
    if is_exact:
        true = interval_set(operator, lower, upper)
        false = true.others
    else:
        # Both sets are as large as they can be: a value near the literal may belong to either.
        true, false = _near_sets(operator, lower, upper)
    if domain == "real":
        true, false = true.with_missing(nan=True), false.with_missing(nan=True)
    if missing:
        equal = operator == "=="
        true, false = true.with_missing(null=not equal), false.with_missing(null=equal)
    return Test(one.path, true, false, is_exact)


def _near_sets(operator: str, lower: Cut, upper: Cut) -> tuple[ValueSet, ValueSet]:
    near = ValueSet(union_of([(lower, upper)]))
    below, above = ValueSet(union_of([(BEGIN, upper)])), ValueSet(union_of([(lower, END)]))
    return {
        "==": (near, VALUES),
        "!=": (VALUES, near),
        "<": (below, above),
        "<=": (below, above),
        ">": (above, below),
        ">=": (above, below),
    }[operator]


def membership(columns: Columns, column: Node, literals: Literals | None, dialect: str, nulls: str) -> Tree:
    """A column that is one of some literals.

    `nulls` says what null in the column gives: "match" if it is found where the literals have a null, "false", or
    "null".
    """
    if not isinstance(column, Reference) or literals is None:
        return UNKNOWN
    domain = columns.domain(column.path)
    if domain is None or (not literals.is_whole and domain not in ("integer", "text", "time")):
        return UNKNOWN
    intervals = []
    is_exact = True
    has_null = False
    for literal in literals.values:
        if literal.kind == "null":
            has_null = True
            continue
        if literal.kind == "real" and math.isnan(literal.value) and domain == "real":
            is_exact = False
            continue
        cuts = _cuts(columns, column, domain, literal, dialect)
        if cuts is None:
            return UNKNOWN
        intervals.append(cuts[:2])
        is_exact = is_exact and cuts[2]
    if not literals.is_whole:
        # From the lowest to the highest.
        intervals = [(min(begin for begin, _ in intervals), max(end for _, end in intervals))]
        is_exact = False
    true = ValueSet(union_of(intervals))
    false = true.others if is_exact else VALUES
    if domain == "real":
        true, false = true.with_missing(nan=True), false.with_missing(nan=True)
    if nulls == "match":
        true, false = true.with_missing(null=has_null), false.with_missing(null=not has_null)
    elif nulls == "false":
        false = false.with_missing(null=True)
    elif has_null:
        # Whether a value that is not found is not in a list with null: libraries differ.
        is_exact = False
    return Test(column.path, true, false, is_exact)


def null_test(columns: Columns, column: Node, *, is_null: bool, nan: bool = False) -> Tree:
    """Whether a column is null, with `nan` also whether it is NaN."""
    if not isinstance(column, Reference):
        return UNKNOWN
    domain = columns.domain(column.path)
    if domain is None:
        return UNKNOWN
    has_nan = domain in ("real", "other")
    null = NULL.with_missing(nan=nan and has_nan)
    values = VALUES.with_missing(nan=has_nan and not nan)
    return Test(column.path, null, values) if is_null else Test(column.path, values, null)


def nan_test(columns: Columns, column: Node, *, is_nan: bool) -> Tree:
    if not isinstance(column, Reference) or columns.domain(column.path) != "real":
        return UNKNOWN
    nan = ValueSet(nan=True)
    return Test(column.path, nan, VALUES) if is_nan else Test(column.path, VALUES, nan)


def prefix_test(columns: Columns, column: Node, literal: Node) -> Tree:
    if not isinstance(column, Reference) or not isinstance(literal, LiteralValue):
        return UNKNOWN
    if literal.kind != "text" or columns.domain(column.path) != "text":
        return UNKNOWN
    true = ValueSet(union_of([(before(literal.value), behind_prefix(literal.value))]))
    return Test(column.path, true, true.others)


def as_tree(columns: Columns, node: Node) -> Tree:
    """A node where a truth value is expected."""
    if isinstance(node, Reference):
        if columns.domain(node.path) != "bool":
            return UNKNOWN
        true = ValueSet(((before_integer(1), behind_integer(1)),))
        return Test(node.path, true, true.others)
    if isinstance(node, LiteralValue):
        return Constant(node.value) if node.kind in ("bool", "null") else UNKNOWN
    return node

"""Sets of values of one type, as unions of intervals: which values of a column a test lets through.

A boundary between two intervals is a *cut*: ``(0, value, 0)`` lies before the value, ``(0, value, 1)`` behind it,
``BEGIN`` before and ``END`` behind all values. Cuts ascend as tuples do, so that the same code serves numbers and text.
Cuts of integers lie before an integer only: sets that have the same integers are then equal, and intervals that touch
become one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

Cut: TypeAlias = tuple[Any, ...]

BEGIN: Cut = (-1,)
END: Cut = (1,)

# The last code point, and the first and the last of those that no text has.
LAST_CODE_POINT = 0x10FFFF
SURROGATES = 0xD800, 0xDFFF


@dataclass(frozen=True, slots=True)
class ValueSet:
    """A set of values of one type.

    Attributes
    ----------
    intervals : tuple of (Cut, Cut)
        Ascending; they neither overlap nor touch.
    null, nan : bool
        Whether null and NaN belong to the set.
    """

    intervals: tuple[tuple[Cut, Cut], ...] = ()
    null: bool = False
    nan: bool = False

    def __and__(self, other: ValueSet) -> ValueSet:
        found = []
        mine, theirs = iter(self.intervals), iter(other.intervals)
        one, two = next(mine, None), next(theirs, None)
        while one is not None and two is not None:
            begin, end = max(one[0], two[0]), min(one[1], two[1])
            if begin < end:
                found.append((begin, end))
            if one[1] <= two[1]:
                one = next(mine, None)
            else:
                two = next(theirs, None)
        return ValueSet(tuple(found), self.null and other.null, self.nan and other.nan)

    def __or__(self, other: ValueSet) -> ValueSet:
        joined = union_of((*self.intervals, *other.intervals))
        return ValueSet(joined, self.null or other.null, self.nan or other.nan)

    @property
    def is_empty(self) -> bool:
        return not self.intervals and not self.null and not self.nan

    @property
    def others(self) -> ValueSet:
        """The values, without null and NaN, that are not in this set."""
        left = []
        begin = BEGIN
        for first, end in self.intervals:
            if begin < first:
                left.append((begin, first))
            begin = end
        if begin < END:
            left.append((begin, END))
        return ValueSet(tuple(left))

    def with_missing(self, *, null: bool = False, nan: bool = False) -> ValueSet:
        """This set, with null or NaN beside what it has."""
        return ValueSet(self.intervals, self.null or null, self.nan or nan)


NOTHING = ValueSet()
# All values, without null and NaN.
VALUES = ValueSet(((BEGIN, END),))
NULL = ValueSet(null=True)


def union_of(intervals: Iterable[tuple[Cut, Cut]]) -> tuple[tuple[Cut, Cut], ...]:
    """These intervals, ascending, where those that overlap or touch are one."""
    joined: list[tuple[Cut, Cut]] = []
    for begin, end in sorted(intervals):
        if begin >= end:
            continue
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return tuple(joined)


# Cuts


def before(value: Any) -> Cut:
    return 0, value, 0


def behind(value: Any) -> Cut:
    return 0, value, 1


def before_integer(number: Any) -> Cut:
    """The cut between the integers below a number and the others; the number may be an int, a Fraction or a float."""
    if isinstance(number, float) and math.isinf(number):
        return END if number > 0 else BEGIN
    return 0, math.ceil(number), 0


def behind_integer(number: Any) -> Cut:
    """The cut between the integers above a number and the others."""
    if isinstance(number, float) and math.isinf(number):
        return END if number > 0 else BEGIN
    return 0, math.floor(number) + 1, 0


def before_time(instant: Fraction, unit: int) -> Cut:
    """The cut, in nanoseconds, before the times of a column that are not earlier than an instant.

    A column counts units of so many nanoseconds; what lies between two of them was rounded down.
    """
    return 0, math.ceil(instant / unit) * unit, 0


def behind_time(instant: Fraction, unit: int) -> Cut:
    """The cut, in nanoseconds, behind the times of such a column that are not later than an instant."""
    return 0, (math.floor(instant / unit) + 1) * unit, 0


def behind_prefix(prefix: str) -> Cut:
    """The cut behind all texts that begin with a prefix."""
    text = prefix
    while text:
        code = ord(text[-1]) + 1
        if code <= LAST_CODE_POINT:
            return before(text[:-1] + chr(code if code < SURROGATES[0] or code > SURROGATES[1] else SURROGATES[1] + 1))
        text = text[:-1]
    return END


# Sets of integers in another unit


def in_units(values: ValueSet, unit: int) -> ValueSet:
    """Of a set of nanoseconds, the numbers of a field that counts units of so many nanoseconds."""
    intervals = [(_scaled(begin, unit), _scaled(end, unit)) for begin, end in values.intervals]
    return ValueSet(union_of(intervals), values.null, values.nan)


def _scaled(cut: Cut, unit: int) -> Cut:
    return cut if cut in (BEGIN, END) else (0, -(-cut[1] // unit), 0)


def hull_of(values: ValueSet) -> tuple[Cut, Cut]:
    """From where to where the values of a set reach; the set has some."""
    return values.intervals[0][0], values.intervals[-1][1]

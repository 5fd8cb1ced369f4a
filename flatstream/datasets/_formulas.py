"""Formulas without negation: which values of which columns a row must have, so that it may be let through.

A formula is a `Limit`, all of some formulas (`Every`), or one of some (`Some`). What is not known lets every row
through. So a formula is true for each row that it was made for, and for others perhaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np

from flatstream.datasets._trees import Combined, Constant, Test, Tree
from flatstream.datasets._value_sets import BEGIN, END, ValueSet, hull_of

# With more intervals of floats, blocks are compared with the lowest and the highest limit only.
MAX_INTERVALS = 64


@dataclass(frozen=True, slots=True)
class Limit:
    """The value of a column is in a set.

    Attributes
    ----------
    path : str
        The path of the column.
    values : ValueSet
        The set.
    is_exact : bool
        Whether rows with other values only are the ones that are not let through.
    """

    path: str
    values: ValueSet
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Every:
    """All of these hold.

    Attributes
    ----------
    limits : tuple of Limit
        One for each path at most.
    rest : tuple of Some
        The others.
    has_unknown : bool
        Whether there is one more, about which nothing is known.
    """

    limits: tuple[Limit, ...] = ()
    rest: tuple[Some, ...] = ()
    has_unknown: bool = False

    @property
    def members(self) -> tuple[Formula, ...]:
        """The limits, and the others that are known."""
        return *self.limits, *self.rest


@dataclass(frozen=True, slots=True)
class Some:
    """One of these holds; none, if there is none."""

    parts: tuple[Formula, ...] = ()


Formula: TypeAlias = Limit | Every | Some

ALWAYS = Every()
NEVER = Some()
UNKNOWN = Every(has_unknown=True)


class Statistics(Protocol):
    """The range of a field in each block, as an index has it."""

    @property
    def low(self) -> Any: ...
    @property
    def high(self) -> Any: ...
    @property
    def nulls(self) -> Any: ...


def every(parts: Iterable[Formula]) -> Formula:
    """The formula that all parts hold."""
    limits: dict[str, Limit] = {}
    rest: list[Some] = []
    has_unknown = False
    waiting = list(parts)
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, Every):
            has_unknown = has_unknown or part.has_unknown
            waiting[:0] = [*part.limits, *part.rest]
        elif isinstance(part, Some):
            if not part.parts:
                return NEVER
            rest.append(part)
        else:
            before = limits.get(part.path)
            if before is not None:
                part = Limit(part.path, before.values & part.values, before.is_exact and part.is_exact)
            if part.values.is_empty:
                return NEVER
            limits[part.path] = part
    if len(limits) == 1 and not rest and not has_unknown:
        return next(iter(limits.values()))
    if len(rest) == 1 and not limits and not has_unknown:
        return rest[0]
    return Every(tuple(limits.values()), tuple(rest), has_unknown)


def some(parts: Iterable[Formula]) -> Formula:
    """The formula that one of the parts holds."""
    limits: dict[str, Limit] = {}
    rest: list[Formula] = []
    waiting = list(parts)
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, Some):
            waiting[:0] = part.parts
        elif isinstance(part, Every):
            if part in (ALWAYS, UNKNOWN):
                return part
            rest.append(part)
        elif not part.values.is_empty:
            before = limits.get(part.path)
            if before is not None:
                part = Limit(part.path, before.values | part.values, before.is_exact and part.is_exact)
            limits[part.path] = part
    found = (*limits.values(), *rest)
    return found[0] if len(found) == 1 else Some(found)


def formula_of(tree: Tree, wanted: bool = True) -> Formula:
    """The formula of the rows for which a tree says true; or false, if that is wanted."""
    if isinstance(tree, Constant):
        return ALWAYS if tree.value is wanted else NEVER
    if isinstance(tree, Test):
        values = tree.true if wanted else tree.false
        return NEVER if values.is_empty else Limit(tree.path, values, tree.is_exact)
    if not isinstance(tree, Combined):
        return UNKNOWN
    parts = tree.parts
    if tree.operator == "not":
        return formula_of(parts[0], not wanted)
    if tree.operator == "if":
        condition, one, other = parts
        return some(
            [
                every([formula_of(condition, True), formula_of(one, wanted)]),
                every([formula_of(condition, False), formula_of(other, wanted)]),
            ]
        )
    found = [formula_of(part, wanted) for part in parts]
    made = every(found) if (tree.operator == "and") is wanted else some(found)
    return made if tree.is_exact else _inexact(made)


def _inexact(formula: Formula) -> Formula:
    return mapped(formula, lambda limit: replace(limit, is_exact=False))


def mapped(formula: Formula, change: Callable[[Limit], Formula]) -> Formula:
    """The formula with each limit changed."""
    if isinstance(formula, Limit):
        return change(formula)
    if isinstance(formula, Some):
        return some([mapped(part, change) for part in formula.parts])
    parts = [mapped(part, change) for part in formula.members]
    return every([*parts, UNKNOWN] if formula.has_unknown else parts)


def limits_of(formula: Formula) -> list[Limit] | None:
    """The limits that a formula consists of, if it is nothing but all of them."""
    if isinstance(formula, Limit):
        return [formula]
    if isinstance(formula, Some) or formula.rest or formula.has_unknown:
        return None
    return list(formula.limits)


def necessary(formula: Formula) -> dict[str, ValueSet] | None:
    """For each path, the values that a row must have; None if no row is let through."""
    if isinstance(formula, Limit):
        return {formula.path: formula.values}
    found: dict[str, ValueSet] = {}
    if isinstance(formula, Some):
        ways = [way for way in map(necessary, formula.parts) if way is not None]
        if not ways:
            return None
        found = ways[0]
        for way in ways[1:]:
            found = {path: values | way[path] for path, values in found.items() if path in way}
        return found
    for part in formula.members:
        needed = necessary(part)
        if needed is None:
            return None
        for path, values in needed.items():
            found[path] = found[path] & values if path in found else values
    return None if any(values.is_empty for values in found.values()) else found


# Blocks


def blocks_that_match(formula: Formula, statistics: Mapping[str, Statistics], counts: Any) -> Any:
    """Whether each block may have a row that a formula lets through, as an array of bools."""
    if isinstance(formula, Limit):
        known = statistics.get(formula.path)
        return np.ones(len(counts), bool) if known is None else _blocks_in(formula.values, known, counts)
    if isinstance(formula, Some):
        mask = np.zeros(len(counts), bool)
        for part in formula.parts:
            mask |= blocks_that_match(part, statistics, counts)
        return mask
    mask = np.ones(len(counts), bool)
    for part in formula.members:
        mask &= blocks_that_match(part, statistics, counts)
    return mask


def _blocks_in(values: ValueSet, statistics: Statistics, counts: Any) -> Any:
    low, high, nulls = np.asarray(statistics.low), np.asarray(statistics.high), np.asarray(statistics.nulls)
    mask = (nulls > 0) if values.null or values.nan else np.zeros(len(counts), bool)
    if low.dtype.kind == "f":
        found = _floats_in(values, low, high)
    elif low.dtype.kind in "iub":
        found = _integers_in(values, low, high)
    else:
        return np.ones(len(counts), bool)
    # Blocks of nothing but nulls have no range.
    return mask | found & (nulls < counts)


def _integers_in(values: ValueSet, low: Any, high: Any) -> Any:
    if low.dtype.kind == "b":
        low, high = low.astype(np.int64), high.astype(np.int64)
    limits = np.iinfo(low.dtype)
    firsts, lasts = [], []
    for begin, end in values.intervals:
        first = limits.min if begin == BEGIN else begin[1]
        last = limits.max if end == END else end[1] - 1
        if first <= limits.max and last >= limits.min:
            firsts.append(max(first, limits.min))
            lasts.append(min(last, limits.max))
    if not firsts:
        return np.zeros(len(low), bool)
    begins, ends = np.array(firsts, low.dtype), np.array(lasts, low.dtype)
    # The first interval that does not end before the block begins.
    nearest = np.searchsorted(ends, low)
    within = nearest < len(ends)
    return within & (begins[np.minimum(nearest, len(ends) - 1)] <= high)


def _floats_in(values: ValueSet, low: Any, high: Any) -> Any:
    intervals = values.intervals
    if len(intervals) > MAX_INTERVALS:
        intervals = (hull_of(values),)
    mask = np.zeros(len(low), bool)
    for begin, end in intervals:
        found = np.ones(len(low), bool)
        # Said this way, NaN leaves nothing out, which no index should have there. Limits are rounded away from the
        # interval, and belong to it.

        if begin != BEGIN:
            found &= ~(high < float_below(begin[1]))
        if end != END:
            found &= ~(low > float_above(end[1]))
        mask |= found
    return mask


def float_below(number: Any) -> float:
    """The largest float that is not above a number."""
    try:
        rounded = float(number)
    except OverflowError:
        return float(np.finfo(float).max) if number > 0 else -float("inf")
    return float(np.nextafter(rounded, -np.inf)) if rounded > number else rounded


def float_above(number: Any) -> float:
    """The smallest float that is not below a number."""
    return -float_below(-number)

"""Sets of values as unions of intervals, compared with sets of Python."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest

from flatstream.datasets._fields import conditions_of, numbers_of, says_all
from flatstream.datasets._value_sets import (
    BEGIN,
    END,
    NOTHING,
    VALUES,
    ValueSet,
    before,
    before_integer,
    before_time,
    behind,
    behind_integer,
    behind_prefix,
    behind_time,
    in_units,
    union_of,
)
from support.extent import in_one_test

# What integers are looked at, and those beyond which there is nothing.
LOOKED_AT = range(-3, 24)


def random_set(chance: random.Random) -> ValueSet:
    intervals = []
    for _ in range(chance.randrange(4)):
        first = chance.randrange(20)
        begin = BEGIN if chance.random() < 0.15 else before_integer(first)
        end = END if chance.random() < 0.15 else behind_integer(first + chance.randrange(5))
        intervals.append((begin, end))
    return ValueSet(union_of(intervals), chance.random() < 0.3, chance.random() < 0.3)


def members(values: ValueSet) -> set[Any]:
    found: set[Any] = {
        number
        for number in LOOKED_AT
        if any(begin < behind_integer(number) and before_integer(number) < end for begin, end in values.intervals)
    }
    return found | ({"null"} if values.null else set()) | ({"nan"} if values.nan else set())


def test_unions_and_intersections_are_those_of_the_values() -> None:
    chance = random.Random(1)
    for _ in range(500):
        one, other = random_set(chance), random_set(chance)
        assert members(one & other) == members(one) & members(other)
        assert members(one | other) == members(one) | members(other)
        assert members(one.others) == set(LOOKED_AT) - members(one)
        assert one.others.others == ValueSet(one.intervals)
        assert one.is_empty == (not members(one))
        ends = [cut for interval in (one | other).intervals for cut in interval]
        assert ends == sorted(set(ends))


def test_sets_of_the_same_integers_are_equal() -> None:
    touching = ValueSet(union_of([(before_integer(1), behind_integer(2)), (before_integer(3), behind_integer(5))]))
    assert touching == ValueSet(union_of([(before_integer(Fraction(1, 2)), before_integer(5.5))]))
    assert ValueSet(union_of([(behind_integer(2.5), before_integer(3))])) == NOTHING
    assert ValueSet(union_of([(behind_integer(-float("inf")), before_integer(float("inf")))])) == VALUES


@in_one_test
@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        ("a", ["a", "a\0", "az", "a\U0010ffff"], ["", "A", "`\U0010ffff", "b"]),
        ("aé", ["aé", "aéz"], ["aê", "a", "az"]),
        ("\ud7ff", ["\ud7ff", "\ud7ffx"], ["\ue000", "\ud7fe"]),
        ("a\U0010ffff", ["a\U0010ffff", "a\U0010ffffz"], ["b", "a", "a\U0010fffe"]),
        ("\U0010ffff", ["\U0010ffff", "\U0010ffffa"], ["\U0010fffe", ""]),
        ("", ["", "a", "\U0010ffff"], []),
    ],
)
def test_texts_that_begin_so_lie_between_its_cuts(prefix: str, inside: list[str], outside: list[str]) -> None:
    begin, end = before(prefix), behind_prefix(prefix)
    for text in inside:
        assert begin <= before(text)
        assert behind(text) <= end
    for text in outside:
        assert before(text) < begin or end <= before(text)


def test_times_are_compared_as_their_column_shows_them() -> None:
    for unit in (1, 1000, 10**6):
        for instant in (Fraction(-1500), Fraction(-1000), Fraction(0), Fraction(999), Fraction(2000), Fraction(5, 2)):
            for time in range(-3000, 3001, 125):
                shown = time // unit * unit
                assert (before_integer(time) >= before_time(instant, unit)) == (shown >= instant)
                assert (before_integer(time) >= behind_time(instant, unit)) == (shown > instant)


def test_nanoseconds_become_the_numbers_of_a_field() -> None:
    chance = random.Random(2)
    for _ in range(200):
        values = random_set(chance)
        for unit in (1, 3, 5):
            expected = {n for n in range(5) if n * unit in members(values)}
            assert {n for n in members(in_units(values, unit)) if n in range(5)} == expected


def test_conditions_let_through_what_a_set_has_and_exactly_that_where_they_say_all() -> None:
    chance = random.Random(3)
    exact = 0
    for _ in range(500):
        values = random_set(chance)
        if not values.intervals or values.null or values.nan:
            continue
        for most in (4096, 2):
            kept = set(LOOKED_AT)
            for _, *rest in conditions_of("x", values, integers=True, nullable=True, most=most):
                kept = {number for number in kept if holds(number, rest)}
            assert members(values) <= kept
            if most > 2 and says_all(values, integers=True):
                exact += 1
                assert kept == members(values)
    assert exact > 50


def holds(number: int, condition: list[Any]) -> bool:
    if condition == [None, None]:
        return True
    sign, operand = condition
    signs = {">=": number.__ge__, "<": number.__lt__, "<=": number.__le__, ">": number.__gt__, "==": number.__eq__}
    return number in operand if sign == "in" else number not in operand if sign == "not in" else signs[sign](operand)


def test_names_of_an_enum_become_its_numbers() -> None:
    names = {0: "debug", 3: "info", 7: "5"}

    def numbers(*wanted: str, rest: bool = False) -> set[Any]:
        chosen = ValueSet(union_of((before(name), behind(name)) for name in wanted))
        return members(numbers_of(chosen.others if rest else chosen, names))

    assert numbers("info", "debug") == {0, 3}
    assert numbers("warn") == set()
    # 5 has no name, so it is its digits, as 7 is by its name; 7 and 3 are never shown as digits.
    assert numbers("5") == {5, 7}
    assert numbers("7", "3", "-2", "05", "+5", "٣") == {-2}
    assert numbers("info", "5", rest=True) == set(LOOKED_AT) - {3, 5, 7}
    assert numbers(rest=True) == set(LOOKED_AT)

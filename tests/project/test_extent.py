"""What `make test` does of many combinations: along the diagonals, so that no value is left out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from support import extent
from support.extent import in_one_test


def done(monkeypatch: pytest.MonkeyPatch, sizes: list[int], step: int) -> set[tuple[int, ...]]:
    """The combinations of marks with so many values each that a test with this step is called with."""
    monkeypatch.setattr(extent, "EVERYTHING", False)
    found: set[tuple[int, ...]] = set()

    def test(**values: int) -> None:
        found.add(tuple(values[name] for name in names))

    names = [f"value{number}" for number in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        test = pytest.mark.parametrize(name, range(size))(test)
    decorated: Any = in_one_test(step=step)(test) if step > 1 else in_one_test(test)
    decorated()
    return found


@pytest.mark.parametrize(("sizes", "step"), [([2, 2], 2), ([9, 6, 4], 4), ([7, 13], 3), ([2, 3, 3, 2], 2), ([8], 1)])
def test_each_value_occurs_and_one_combination_in_so_many(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], step: int
) -> None:
    every = set(itertools.product(*map(range, sizes)))
    found = done(monkeypatch, sizes, step)
    assert found <= every
    assert len(every) // step <= len(found) <= len(every) // step + 1
    for place, size in enumerate(sizes):
        assert {chosen[place] for chosen in found} == set(range(size))


def test_each_pair_of_values_occurs_if_the_third_has_as_many_as_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [9, 6, 4]
    found = done(monkeypatch, sizes, 4)
    for first, second in itertools.combinations(range(3), 2):
        pairs = {(chosen[first], chosen[second]) for chosen in found}
        assert pairs == set(itertools.product(range(sizes[first]), range(sizes[second])))


def test_step_that_would_leave_out_a_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="each value of each mark has to occur"):
        done(monkeypatch, [2, 9], 3)


def test_everything_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extent, "EVERYTHING", True)

    def test() -> None: ...

    assert in_one_test(step=3)(test) is in_one_test(test) is test

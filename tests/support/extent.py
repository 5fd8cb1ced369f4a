"""How much of a sweep `make test` does, and many small cases in one test. `make test-long` does everything, each apart.

pytest, xdist and the collection in each process take 6 ms for a test: as much as most small cases ten times over.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, overload

import pytest

from support.modes import Mode

T = TypeVar("T")

# The same variable as for Hypothesis (conftest.py).
EVERYTHING = os.environ.get("FLATSTREAM_HYPOTHESIS") == "long"


# Files that try a great many streams with each checksum. There, CRC-32C and CRC-64 are left to `make test-long`: their
# frames have the sizes of those with CRC-32 and XXH3-64, and what the kernels calculate is tested in checksums/.
MANY_STREAMS = {
    "test_reference_streams",
    "test_recovery_guard",
    "test_recovery_tails",
    "test_allocation",
    "test_twins",
    "test_transform_contract",
    "test_transform_damage",
}
SAME_SIZES = {"crc32c", "crc64"}


def is_left_to_long(file: str, values: Iterable[Any]) -> bool:
    """Whether a case of a file (without ``.py``) has a checksum that is left to `make test-long` there."""
    return file in MANY_STREAMS and any(
        getattr(value, "name", value) in SAME_SIZES for value in values if isinstance(value, (str, Mode))
    )


def spread(values: Iterable[T], step: int) -> list[T]:
    """Every `step`-th value and one more or less, with the first three and the last three; all in `make test-long`.

    The distance changes, so that no alignment is left out: 0, 1, 2, `step` + 1, 2 * `step`, 3 * `step` - 1, ...
    """
    found = list(values)
    if EVERYTHING or len(found) <= 2 * step:
        return found
    steps = (place * step + (1, 0, -1)[(place - 1) % 3] for place in range(1, len(found) // step))
    last = len(found) - 1
    return [found[place] for place in sorted({0, 1, 2, last - 2, last - 1, last, *steps})]


@overload
def in_one_test(test: Callable[..., None], /) -> Callable[..., None]: ...


@overload
def in_one_test(*, step: int) -> Callable[[Callable[..., None]], Callable[..., None]]: ...


def in_one_test(test: Callable[..., None] | None = None, /, *, step: int = 1) -> Any:
    """All cases of the `parametrize` marks below as one test, which goes on after a failure and tells all of them.

    With a `step`, `make test` does only those combinations of two marks or more whose places in their marks add up to
    a multiple of it: of two marks, each value meets every `step`-th of the other's; of three, each pair of values
    occurs, if the third mark has at least `step` of them.

    Each case has a `tmp_path` and a `monkeypatch` of its own. Other fixtures are shared by all cases. In
    `make test-long` the cases stay tests of their own, and those that are marked as long are there.
    """
    if test is None:
        return functools.partial(_in_one_test, step=step)
    return _in_one_test(test, step)


def _in_one_test(test: Callable[..., None], step: int) -> Callable[..., None]:
    if EVERYTHING:
        return test
    marks = getattr(test, "pytestmark", [])
    sweeps = [mark for mark in marks if mark.name == "parametrize"]
    assert sweeps, "no `parametrize` mark is below"
    cases = _combinations([_cases_of(mark) for mark in reversed(sweeps)], step)
    given = {name for _, values in cases for name in values}
    file = test.__module__.rpartition(".")[2]
    cases = [(name, values) for name, values in cases if not is_left_to_long(file, values.values())]
    parameters = [parameter for name, parameter in inspect.signature(test).parameters.items() if name not in given]
    own = [name for name in ("tmp_path", "monkeypatch") if name in inspect.signature(test).parameters]

    @functools.wraps(test)
    def run_all(**shared: Any) -> None:
        failures: list[BaseException] = []
        skipped = 0
        for number, (name, values) in enumerate(cases):
            try:
                _run(test, {**shared, **values}, own, number)
            except pytest.skip.Exception as error:
                skipped += 1
                reason = str(error)
            except (Exception, pytest.fail.Exception) as error:
                error.add_note(f"in the case {name}")
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise BaseExceptionGroup(f"{len(failures)} of {len(cases)} cases", failures)
        if skipped == len(cases):
            pytest.skip(reason)

    run_all.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run_all.pytestmark = [mark for mark in marks if mark.name != "parametrize"]  # type: ignore[attr-defined]
    # pytest would look through it for the parameters.
    del run_all.__wrapped__
    return run_all


def _run(test: Callable[..., None], values: dict[str, Any], own: list[str], number: int) -> None:
    if "tmp_path" in own:
        folder: Path = values["tmp_path"] / str(number)
        folder.mkdir()
        values["tmp_path"] = folder
    if "monkeypatch" not in own:
        test(**values)
        return
    with pytest.MonkeyPatch.context() as monkeypatch:
        test(**values | {"monkeypatch": monkeypatch})


def _combinations(sweeps: list[list[tuple[str, dict[str, Any]]]], step: int) -> list[tuple[str, dict[str, Any]]]:
    """The cases of all marks, combined; with a `step`, along the diagonals only."""
    # More than there are values in a mark would leave out some of the others' altogether.
    assert step == 1 or step <= sorted(map(len, sweeps))[-2], "each value of each mark has to occur"
    places = itertools.product(*(range(len(sweep)) for sweep in sweeps))
    return [
        _merged(sweep[place] for sweep, place in zip(sweeps, chosen, strict=True))
        for chosen in places
        if sum(chosen) % step == 0
    ]


def _cases_of(mark: pytest.Mark) -> list[tuple[str, dict[str, Any]]]:
    """The cases of one mark: their names, and the values of the arguments."""
    names, given, *_ = mark.args
    assert set(mark.kwargs) <= {"ids"}, mark.kwargs
    arguments = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    ids = mark.kwargs.get("ids")
    cases = []
    for number, value in enumerate(given):
        name = None
        if isinstance(value, type(pytest.param())):
            if [one.name for one in value.marks] == ["long"]:
                continue
            assert not value.marks, value
            values, name = list(value.values), value.id
        else:
            values = [value] if len(arguments) == 1 else list(value)
        assert len(values) == len(arguments), (values, arguments)
        if name is None and ids is not None:
            name = "-".join(str(ids(one)) for one in values) if callable(ids) else str(list(ids)[number])
        cases.append((str(name or "-".join(map(str, values))), dict(zip(arguments, values, strict=True))))
    return cases


def _merged(chosen: Iterable[tuple[str, dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    names, values = [], {}
    for name, some in chosen:
        names.append(name)
        values.update(some)
    return "-".join(names), values

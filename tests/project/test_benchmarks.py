"""Every benchmark is run once: it must do the work that it says it does. How long that takes is no test's business."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asv_benchmarks
from asv_benchmarks import deframing, goals

MODULES = sorted(module.name for module in pkgutil.iter_modules(asv_benchmarks.__path__) if not module.ispkg)
KINDS = re.compile(r"(time|timeraw|track|peakmem)_")


def benchmarks() -> Iterator[tuple[str, type]]:
    for name in MODULES:
        module = importlib.import_module(f"asv_benchmarks.{name}")
        for cls in vars(module).values():
            if (
                inspect.isclass(cls)
                and not inspect.isabstract(cls)
                and cls.__module__ == module.__name__
                and methods_of(cls)
            ):
                yield f"{name}.{cls.__name__}", cls


def methods_of(cls: type) -> list[str]:
    return [name for name in dir(cls) if KINDS.match(name)]


def combinations(cls: Any) -> Iterator[tuple[Any, ...]]:
    """All combinations of parameters, but of how much is done only the least."""
    names = getattr(cls, "param_names", ())
    values = getattr(cls, "params", ())
    if values and not isinstance(values[0], (list, tuple)):
        values = (values,)
    chosen = [
        sorted(options)[:2] if name in ("count", "total", "messages") else options
        for name, options in zip(names, values, strict=True)
    ]
    return itertools.product(*chosen)


ALL = dict(benchmarks())


def test_there_is_a_module_for_each_concern():
    concerns = {"checksums", "framing", "deframing", "stream_io", "recovery", "memory", "imports", "threads", "peers"}
    concerns |= {"building", "columns", "columns_in", "records_in", "records_out", "verifying"}
    assert concerns <= set(MODULES)
    assert concerns == {name.split(".")[0] for name in ALL}


@pytest.mark.parametrize("name", ALL)
def test_benchmark_does_its_work(name):
    cls: Any = ALL[name]
    ran = 0
    for params in combinations(cls):
        instance = cls()
        try:
            if hasattr(instance, "setup"):
                instance.setup(*params)
        except NotImplementedError:
            continue
        try:
            for method in methods_of(cls):
                result = getattr(instance, method)(*params)
                if method.startswith("timeraw_"):
                    subprocess.run([sys.executable, "-c", result], check=True)
                elif method.startswith("track_"):
                    assert isinstance(result, (int, float))
                    assert cls.unit
                else:
                    assert result is None
                ran += 1
        finally:
            if hasattr(instance, "teardown"):
                instance.teardown(*params)
    assert ran


@pytest.mark.parametrize("name", ALL)
def test_benchmark_has_a_version_and_named_parameters(name):
    # Without a version asv takes the source for one, and any edit of it discards the history.
    cls: Any = ALL[name]
    assert isinstance(cls.version, str)
    values = getattr(cls, "params", ())
    names = getattr(cls, "param_names", ())
    assert len(names) == (len(values) if not values or isinstance(values[0], (list, tuple)) else 1)
    assert cls.__doc__


def test_benchmark_that_is_given_a_wrong_stream_fails():
    # The assertions in them are no ornament.
    scan = deframing.Scan()
    scan.setup("none", 64, 10_000)
    scan.stream = scan.stream[:-68]
    with pytest.raises(AssertionError):
        scan.time_read_batch("none", 64, 10_000)


# The table


def test_goals_are_those_of_the_document_and_name_methods_that_exist():
    rows = list(goals.goals())
    names = {row.name.split()[0] for row in rows}
    kinds = {"F": 6, "K": 5, "B": 3, "R": 3, "V": 1, "M": 3, "S": 1}
    assert names == {f"{kind}{number}" for kind, most in kinds.items() for number in range(1, most + 1)}
    for row in rows:
        assert callable(getattr(row.benchmark, row.subject))
        assert not row.yardstick or callable(getattr(row.benchmark, row.yardstick))
        assert row.target > 0


@pytest.mark.parametrize(
    ("kind", "value", "target", "reached"),
    [
        ("times faster", 3.0, 3, True),
        ("times faster", 2.9, 3, False),
        ("times slower", 2.0, 2, True),
        ("times slower", 2.1, 2, False),
        ("ns more", 8.1, 8, False),
        ("ns more", -1.0, 8, True),
        ("at most", 64.0, 64, True),
        ("at most", 64.1, 64, False),
        ("at least", 0.5, 0.5, True),
        ("at least", 0.49, 0.5, False),
    ],
)
def test_goal_is_judged_by_its_kind(kind, value, target, reached):
    goal = goals.Goal("F0", "work", object, "time_it", "", (), kind, target)
    assert goals.judge(goal, value, "1 ns", "2 ns").reached is reached


def test_table_of_goals_has_a_line_for_each_and_a_file_with_the_same(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(goals, "SECONDS", 0)
    monkeypatch.setattr(goals, "LEAST_RUNS", 1)
    monkeypatch.setattr(goals, "TURNS", 1)
    path: Path = tmp_path / "results.json"
    assert goals.main(["--only", "K2,M3", "--growth", "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    written = json.loads(path.read_text())
    # The machine, the heading, two lines for K2, one for M3, and how many are reached. No growth, which is of others.
    assert len(lines) == 6
    assert (
        [line.split()[0] for line in lines[2:-1]] == ["K2", "K2", "M3"] == [row["name"] for row in written["results"]]
    )
    assert lines[0] == written["machine"]
    reached = sum(row["reached"] for row in written["results"])
    assert lines[-1] == f"{reached} of 3 reached"
    for line, row in zip(lines[2:-1], written["results"], strict=True):
        assert line.endswith("NOT REACHED") is not row["reached"]
        assert row["value"] > 0


def test_unknown_goal_is_refused(capsys):
    with pytest.raises(SystemExit):
        goals.main(["--only", "Z9"])
    assert "no goal has one of these names: Z9" in capsys.readouterr().err

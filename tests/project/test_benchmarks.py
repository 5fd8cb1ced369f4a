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
from asv_benchmarks import checksums, deframing, engines, goals, over_nats
from support.extent import in_one_test, spread

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


MIB = 1024 * 1024
# One run of each benchmark with the data that measuring needs takes minutes. Here each runs with every parameter and
# little data: these values replace those of the classes. (The sizes of payloads are parameters, and stay.)
SMOKE_ATTRIBUTES: dict[str, dict[str, float]] = {
    "checksums.ShortPayloads": {"count": 500},
    "checksums.Portable": {"size": 16 * 1024},
    "compression.CompressedFrames": {"count": 200},
    "compression.Sizes": {"count": 200},
    "compression.Unpackers": {"count": 200},
    "command_line.Start": {"size": 100_000},
    "deframing.BatchSizes": {"count": 5000},
    "deframing.Leaping": {"total": 2 * MIB},
    "deframing.LengthPatterns": {"count": 2000},
    "following.Delivery": {"count": 10, "runs": 1},
    "framing.BufferSizes": {"count": 2000},
    "indexing.Loading": {"count": 2000},
    "indexing.Writing": {"count": 2000},
    "indexing.WritingAJournal": {"count": 2000},
    "journal_reading.JournalDelivery": {"count": 10, "runs": 1},
    "journal_writing.Acknowledged": {"seconds": 0.02, "runs": 1},
    "journal_writing.Opening": {"size": 16 * MIB},
    "journal_writing.Rotation": {"runs": 1},
    "journal_threaded.Put": {"count": 200, "runs": 1},
    "memory.ReadLargeFile": {"total": 16 * MIB},
    "scale.FullScan": {"files": 2, "rows": 5000},
    "scale.Head": {"files": 2, "rows": 5000},
    "scale.Index": {"rows": 5000},
    "scale.Slice": {"files": 2, "rows": 8000, "runs": 1},
    "sealing.Sealed": {"size": 1 * MIB},
    "memory.ReadStream": {"total": 64 * MIB},
    "memory.SteadyState": {"few": 1000, "many": 5000},
    "recovery.Intact": {"count": 4096},
    "recovery.Recover": {"count": 1024},
    "stream_io.ReadSource": {"count": 1024},
    "stream_io.WriteFile": {"count": 1024},
    "threads.TwoPaths": {"total": 1 * MIB},
    "threads.TwoThreads": {"total": 32 * MIB},
    "verifying.WriteValidated": {"count": 500},
}


def smoke_value(name: str, value: Any, size: int) -> Any:
    """A parameter that says how much is done, as little of it as there may be; others as they are."""
    if name == "total":
        return MIB
    if name == "tail" and isinstance(value, int):
        return min(value, 256 * 1024)
    if name in ("count", "events"):
        return 4 if size >= 64 * 1024 else min(value, 1000)
    return value


def combinations(cls: Any) -> Iterator[tuple[Any, ...]]:
    """All combinations of parameters, but of how much is done only the least."""
    names = getattr(cls, "param_names", ())
    values = getattr(cls, "params", ())
    if values and not isinstance(values[0], (list, tuple)):
        values = (values,)
    seen = set()
    for chosen in itertools.product(*values):
        size = dict(zip(names, chosen, strict=True)).get("size", 0)
        least = tuple(smoke_value(name, value, size) for name, value in zip(names, chosen, strict=True))
        if least not in seen:
            seen.add(least)
            yield least


ALL = dict(benchmarks())


def test_there_is_a_module_for_each_concern():
    concerns = {"checksums", "framing", "deframing", "stream_io", "recovery", "memory", "imports", "threads", "peers"}
    concerns |= {
        "asyncio_streams",
        "building",
        "columns",
        "columns_in",
        "command_line",
        "compression",
        "converting",
        "encryption",
        "engines",
        "records_in",
        "records_out",
        "verifying",
        "following",
        "indexing",
        "journal_reading",
        "json_lines",
        "journal_threaded",
        "journal_writing",
        "over_nats",
        "parsing",
        "scale",
        "sealing",
        "serializing",
    }
    assert concerns <= set(MODULES)
    assert concerns == {name.split(".")[0] for name in ALL}


def test_benchmarks_with_less_data_are_there():
    for name, attributes in SMOKE_ATTRIBUTES.items():
        assert all(getattr(ALL[name], attribute) > value for attribute, value in attributes.items()), name


# Those of the engines are run by make test-engines.
@pytest.mark.parametrize("name", [name for name in ALL if not issubclass(ALL[name], engines.Engine)])
def test_benchmark_does_its_work(name, monkeypatch):
    cls: Any = ALL[name]
    if cls is over_nats.Forwarded and over_nats.PROGRAM is None:
        pytest.skip("there is no nats-server on the PATH: install Debian's package nats-server to run this benchmark")
    for attribute, value in SMOKE_ATTRIBUTES.get(name, {}).items():
        monkeypatch.setattr(cls, attribute, value)
    monkeypatch.setattr(checksums, "BYTES_PER_SAMPLE", 64 * 1024)
    ran = 0
    for params in spread(combinations(cls), 6):
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


@in_one_test
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
    kinds = {
        "F": 6,
        "K": 5,
        "B": 3,
        "R": 3,
        "V": 1,
        "M": 3,
        "S": 1,
        "T": 1,
        "W": 1,
        "J": 6,
        "E": 2,
        "X": 2,
        "P": 4,
        "Z": 4,
        "O": 2,
        "Q": 9,
    }
    # Of the command line and of JSON; the others of D have no goal.
    others = {"D1", "D2", "D5"} | ({"N1"} if over_nats.PROGRAM is not None else set())
    others |= {name for engine in engines.INSTALLED for name in engines.GOALS[engine]}
    assert names == others | {f"{kind}{number}" for kind, most in kinds.items() for number in range(1, most + 1)}
    for row in rows:
        assert callable(getattr(row.benchmark, row.subject))
        assert not row.yardstick or callable(getattr(row.benchmark, row.yardstick))
        assert row.target > 0


@in_one_test
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

"""The figures of docs/scale.md are those of examples/scale_plan.py, and what the script simulates adds up."""

from __future__ import annotations

import importlib.util
import itertools
import math
from dataclasses import replace
from typing import Any

import pytest

from support.schemas import EXAMPLES, ROOT


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("scale_plan", EXAMPLES / "scale_plan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    import sys

    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


def test_tables_of_the_page_are_the_output_of_the_script(script: Any) -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for table in script.report(script.Plan()).split("\n\n"):
        assert table in page, f"expected in docs/scale.md:\n{table}"


def test_equal_machines_with_even_load_are_as_arithmetic_says(script: Any) -> None:
    even = replace(script.Plan(), machines=20, bytes_per_day=2e12, busiest_hour=1.0, spread=0.0)
    day = script.simulate(even, even.cron_delay)
    per_machine = even.rate * script.DAY
    assert day.busiest_rate == pytest.approx(even.rate)
    # Segments that were begun the day before end on this one.
    assert abs(day.segments - 20 * per_machine / even.segment_bytes) <= 20
    assert day.parquet_files == 20 * 24 * math.ceil(per_machine / 24 * even.parquet_share / even.parquet_file_bytes)
    assert day.backlog_bytes == pytest.approx(even.bytes_per_day * even.parquet_share / 24 * even.outage_hours)
    assert day.bytes_in_slice == pytest.approx(20 * even.rate * even.slice_seconds, rel=0.01)
    few = script.simulate(replace(even, bytes_per_day=20e6), 0)
    # Too little for the size of a segment: its age ends it.
    assert abs(few.segments - 20 * 24) <= 20


def test_segments_of_a_day_have_all_its_bytes(script: Any) -> None:
    plan = script.Plan()
    rates = [1e6 * (1 + hour % 5) for hour in range(24)]
    found = script.segments_of(plan, rates, 0.0)
    assert sum(size for _, _, size in found) == pytest.approx(sum(rates) * script.HOUR)
    assert all(size <= plan.segment_bytes * 1.001 and end - begin <= plan.segment_seconds for begin, end, size in found)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(found))


def test_a_lake_that_takes_less_than_comes_in_never_catches_up(script: Any) -> None:
    plan = replace(script.Plan(), machines=50)
    machines, hours = script.loads_of(plan)
    enough = script.catch_up(plan, machines, hours)[1]
    assert 0 < enough < script.DAY
    too_little = replace(plan, lake_bits=plan.bytes_per_day * plan.parquet_share * 8 / script.DAY / 2)
    assert script.catch_up(too_little, machines, hours)[1] == math.inf
    assert script.catch_up(replace(plan, lake_bits=1e12), machines, hours)[1] <= enough


def test_figures_are_short_texts(script: Any) -> None:
    cases = {
        (1.5e6, "B/s"): "1.5 MB/s", (93132.2, ""): "93,132", (24.0, ""): "24", (0.5, "s"): "0.5 s", (61.4, "s"): "61 s",
        (3660.0, "s"): "61 min", (40000.0, "s"): "11.1 h", (math.inf, "s"): "never", (0.0, "B"): "0 B",
    }  # fmt: skip
    assert {key: script.text_of(*key) for key in cases} == cases

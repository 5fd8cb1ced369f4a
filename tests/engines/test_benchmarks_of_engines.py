"""The benchmarks of the engines do their work. How long that takes is no test's business."""

from __future__ import annotations

from typing import Any

import pytest

from asv_benchmarks import engines

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("benchmark", [engines.Dask, engines.Ray, engines.Spark])
def test_benchmark_does_its_work(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if benchmark.engine not in engines.INSTALLED:
        pytest.skip(f"{benchmark.engine} is not installed")
    for name, value in {"files": 2, "rows": 20_000, "runs": 1}.items():
        monkeypatch.setattr(benchmark, name, value)
    instance = benchmark()
    instance.setup()
    try:
        for name in dir(benchmark):
            if name.startswith("time_"):
                assert getattr(instance, name)() is None
            elif name.startswith("track_"):
                assert getattr(instance, name)() > 0
    finally:
        instance.teardown()

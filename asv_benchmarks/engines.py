"""The files of `scale_data.py` in Dask, Ray and Spark (Y1 to Y5): two workers beside one, and a slice beside Parquet.

An engine that is not installed is left out: ``pip install 'flatstream[dask,ray,spark]'``. Spark needs Java 17.

    python -m asv_benchmarks.engines CORES FOLDER FILES ROWS

is what measures Spark: a session has the number of cores that it began with, so that each is a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from .scale import BEGIN, END, SCANNED, ManyFiles
from .scale_data import FIELDS, SLICE_BEGIN, SLICE_END, DataSet

MODULES = {"dask": ("dask.dataframe", "distributed"), "ray": ("ray.data",), "spark": ("pyspark",)}
INSTALLED = frozenset(
    name
    for name, modules in MODULES.items()
    if all(importlib.util.find_spec(module.partition(".")[0]) is not None for module in modules)
    and (name != "spark" or shutil.which("java") is not None)
)

# The goals that each has.
GOALS = {"dask": ("Y1", "Y2"), "ray": ("Y3",), "spark": ("Y4", "Y5")}

# Row groups of a million rows: one for each file here, which is what its writers choose.
ROW_GROUPS = "default"


class Engine(ManyFiles):
    """A benchmark of one of the engines."""

    engine = ""
    # How often each side is measured, after a run that is not counted. The best counts.
    runs = 4
    unit = "times its speed"

    def setup(self) -> None:
        if self.engine not in INSTALLED:
            raise NotImplementedError(f"{self.engine} is not installed")
        super().setup()

    def expect(self) -> None:
        import polars

        rows = self.by_polars(ROW_GROUPS)
        self.expected = len(rows), int(rows["memory_used"].sum())
        total = self.frame(ROW_GROUPS).select(polars.col("memory_used").sum(), polars.len()).collect()
        self.total = int(total["memory_used"][0])
        self.rows_in_all = int(total["len"][0])


class Dask(Engine):
    """Data frames of Dask: processes for the aggregate of all rows, threads of this process for the slice."""

    engine = "dask"

    def aggregate(self, workers: int) -> float:
        """Seconds for the sum of two columns of all rows."""
        from distributed import Client, LocalCluster

        from flatstream.engines.dask import read

        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster),
        ):

            def run() -> None:
                sums = read(self.paths)[SCANNED].sum().compute()
                # The sums of two columns are one column of floating-point numbers.
                assert abs(sums["memory_used"] / self.total - 1) < 1e-9

            return best_of(self.runs, run)

    def track_two_processes(self) -> float:
        """How many times faster two processes are than one."""
        return self.aggregate(1) / self.aggregate(2)

    def check(self, rows: Any) -> None:
        """Compares the number of rows and the sum of a column."""
        assert (len(rows), int(rows["memory_used"].sum())) == self.expected

    def time_slice(self) -> None:
        from flatstream.engines.dask import read

        where = [("time_ns", ">=", BEGIN), ("time_ns", "<", END)]
        self.check(read(self.paths, FIELDS, where).compute(scheduler="threads"))

    def time_parquet(self) -> None:
        """The yardstick: the same of the Parquet twins."""
        import dask.dataframe

        filters = [("time_ns", ">=", BEGIN), ("time_ns", "<", END)]
        paths = self.data.parquet(ROW_GROUPS)
        self.check(dask.dataframe.read_parquet(paths, columns=FIELDS, filters=filters).compute(scheduler="threads"))


class Ray(Engine):
    """Datasets of Ray with two processors."""

    engine = "ray"

    def setup(self) -> None:
        super().setup()
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False

    def teardown(self) -> None:
        if "ray" in sys.modules:
            import ray

            ray.shutdown()
        super().teardown()

    def check(self, found: Any) -> None:
        """Compares the number of rows."""
        assert found.materialize().count() == self.expected[0]

    def time_slice(self) -> None:
        from flatstream.engines.ray import read

        self.check(read(self.paths, FIELDS, [("time_ns", ">=", BEGIN), ("time_ns", "<", END)]))

    def time_parquet(self) -> None:
        """The yardstick: the same of the Parquet twins."""
        import ray.data
        from ray.data.expressions import col

        inside = (col("time_ns") >= BEGIN) & (col("time_ns") < END)
        self.check(ray.data.read_parquet(self.data.parquet(ROW_GROUPS), columns=FIELDS).filter(expr=inside))


class Spark(Engine):
    """Spark in a process of its own, with as many Python processes as cores."""

    engine = "spark"
    timeout = 600

    def measured(self, cores: int) -> dict[str, float]:
        """The seconds that `measure_spark` prints, which are measured once for each number of cores."""
        known: dict[int, dict[str, float]] = self.__dict__.setdefault("known", {})
        if cores in known:
            return known[cores]
        command = [sys.executable, "-m", "asv_benchmarks.engines", str(cores), str(self.data.folder)]
        done = subprocess.run(
            [*command, str(self.files), str(self.rows), str(self.runs)],
            env={**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        assert (found["rows"], found["sliced"]) == (self.rows_in_all, self.expected[0])
        known[cores] = found
        return found

    def track_two_cores(self) -> float:
        """How many times faster the aggregate of all rows is with two cores than with one."""
        return self.measured(1)["aggregate"] / self.measured(2)["aggregate"]

    def track_slice(self) -> float:
        """How many times faster the slice is than of the Parquet twins."""
        found = self.measured(2)
        return found["parquet"] / found["slice"]


def best_of(runs: int, run: Callable[[], object]) -> float:
    """The seconds of the best of several runs, after one that is not counted."""
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def measure_spark(cores: int, data: DataSet, runs: int) -> dict[str, float]:
    """Seconds for an aggregate of all rows, the slice, and the slice of Parquet; and the numbers of rows."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as sql

    from flatstream.engines.spark import register

    builder = SparkSession.builder.master(f"local[{cores}]").appName("flatstream")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        # It has no type for nanoseconds.
        "spark.sql.legacy.parquet.nanosAsLong": "true",
    }.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    register(session)

    def load(**options: str) -> Any:
        return session.read.format("flatstream").options(**options).load(data.streams())

    def sliced() -> Any:
        return load(columns=",".join(FIELDS), begin=str(SLICE_BEGIN), end=str(SLICE_END))

    def parquet() -> Any:
        rows = session.read.parquet(*data.parquet(ROW_GROUPS))
        return rows.where((rows.time_ns >= SLICE_BEGIN) & (rows.time_ns < SLICE_END)).select(FIELDS)

    def aggregate() -> Any:
        # As decimal numbers, the sums would take most of the time.
        rows = load(columns=",".join(SCANNED), uint64="long")
        return rows.agg(sql.sum("cpu"), sql.sum("memory_used"), sql.count("*")).collect()

    def read(frame: Any) -> None:
        frame.write.format("noop").mode("overwrite").save()

    assert sliced().count() == parquet().count()
    return {
        "rows": aggregate()[0][2],
        "sliced": sliced().count(),
        "aggregate": best_of(runs, aggregate),
        "slice": best_of(runs, lambda: read(sliced())),
        "parquet": best_of(runs, lambda: read(parquet())),
    }


if __name__ == "__main__":
    number, folder, files, rows, count = sys.argv[1:]
    from pathlib import Path

    print(json.dumps(measure_spark(int(number), DataSet(Path(folder), int(files), int(rows)), int(count))))

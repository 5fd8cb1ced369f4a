"""Many files, one question: slices, scans and aggregates over 20 files, beside polars and DuckDB on Parquet.

Q1 to Q8 of the performance goals. `scale_data.py` makes the files; with the sizes that measuring needs, they stay in a
folder of the system's temporary files. A slice is three columns of five minutes of the ten hours.

Warm means that the pages of all files are in memory, because the first run of each turn reads them. Cold means that
`posix_fadvise(DONTNEED)` has removed them (`scale_data.forget`); what the disk itself or the host of a virtual machine
keeps in its memory stays there.
"""

from __future__ import annotations

import datetime
import inspect
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import flatstream
import flatstream.index
from flatstream._ranges import open_ranges

from . import scale_data
from .common import Benchmark
from .scale_data import FIELDS, FILES, ROWS, SLICE_BEGIN, SLICE_END

BEGIN, END = (datetime.datetime.fromtimestamp(ns // 10**9, datetime.UTC) for ns in (SLICE_BEGIN, SLICE_END))
WHERE = [("time_ns", ">=", BEGIN), ("time_ns", "<", END)]
# The two columns of a full scan.
SCANNED = ["cpu", "memory_used"]


class ManyFiles(Benchmark):
    """A benchmark over `files` files with `rows` messages each."""

    files, rows = FILES, ROWS
    rounds, repeat = 1, (2, 5, 2.0)
    version = "1"

    def setup(self) -> None:
        if (self.files, self.rows) == (FILES, ROWS):
            self.data = scale_data.data_set()
        else:
            self.directory = tempfile.mkdtemp(prefix="flatstream-benchmark-")
            self.data = scale_data.data_set(self.files, self.rows, os.path.join(self.directory, "data"))
        self.paths = self.data.streams()
        self.expect()

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            shutil.rmtree(self.directory, ignore_errors=True)

    def expect(self) -> None:
        """Finds out what the runs must give."""

    # What ours is asked, and the same of the libraries that read the Parquet twins

    def dataset(self, **options: Any) -> Any:
        """A new dataset, so that a run includes looking at the files."""
        return flatstream.dataset(self.paths, **options)

    def frame(self, row_groups: str) -> Any:
        """The Parquet twins as a LazyFrame of polars."""
        import polars

        return polars.scan_parquet(self.data.parquet(row_groups))

    def in_slice(self) -> Any:
        """The condition of the slice for polars."""
        import polars

        return polars.col("time_ns").is_between(BEGIN, END, closed="left")

    def by_polars(self, row_groups: str) -> Any:
        """The slice of the Parquet twins."""
        return self.frame(row_groups).filter(self.in_slice()).select(FIELDS).collect()

    def by_duckdb(self, row_groups: str) -> Any:
        """The slice of the Parquet twins."""
        import duckdb

        if not hasattr(self, "database"):
            self.database = duckdb.connect()
        return self.database.sql(
            f"SELECT {', '.join(FIELDS)} FROM read_parquet(?) WHERE time_ns >= ? AND time_ns < ?",
            params=[self.data.parquet(row_groups), BEGIN, END],
        ).to_arrow_table()


class Slice(ManyFiles):
    """The slice over all files: 126,674 rows in 0.9 % of the bytes (Q1 to Q5)."""

    # Of the ratios; a ratio of 2 says that ours takes half the time.
    unit = "times its speed"
    # How often a cold slice is measured.
    runs = 4

    def expect(self) -> None:
        rows = self.by_polars("32k")
        self.expected = len(rows), int(rows["memory_used"].sum())
        self.check(self.direct())
        self.check(self.lazy())
        self.in_memory = self.ranges()
        self.check(self.from_memory())
        self.one = flatstream.dataset(self.paths[:1]).columns(FIELDS, WHERE)

    def check(self, rows: Any) -> None:
        """Compares the number of rows and the sum of a column, of tables of pyarrow or frames of polars."""
        import pyarrow.compute

        used = rows["memory_used"]
        total = used.sum() if hasattr(used, "sum") else pyarrow.compute.sum(used).as_py()
        assert (len(rows), int(total)) == self.expected

    def ranges(self) -> list[bytes]:
        """The bytes of each stream that a slice with the index reads."""
        found = []
        for path in self.paths:
            with open_ranges(path) as stream:
                index = flatstream.index.load_index(path, stream)
                assert isinstance(index, flatstream.index.FileIndex)
                times = index.statistics["time_ns"]
                inside = (times.high >= SLICE_BEGIN) & (times.low < SLICE_END)
                begin, end = int(index.offsets[inside].min()), int(index.ends[inside].max())
                found.append(stream.read_at(begin, end - begin))
        return found

    def direct(self, **options: Any) -> Any:
        """The slice by the index."""
        return self.dataset(**options).columns(FIELDS, WHERE)

    def lazy(self) -> Any:
        """The same by way of polars."""
        return self.dataset().scan().filter(self.in_slice()).select(FIELDS).collect()

    def from_memory(self) -> Any:
        """The same from the bytes, as one table."""
        import pyarrow

        table = scale_data.table()
        where = [("time_ns", ">=", SLICE_BEGIN), ("time_ns", "<", SLICE_END)]
        rows = []
        for data in self.in_memory:
            with flatstream.StreamReader(data, "xxhash64") as reader:
                rows.append(reader.columns(table, FIELDS, where).to_arrow())
        return pyarrow.concat_tables(rows)

    # Warm

    def time_slice(self) -> None:
        self.check(self.direct())

    def time_from_memory(self) -> None:
        """The yardstick: decoding the same bytes, which are in memory."""
        self.check(self.from_memory())

    def time_lazy_slice(self) -> None:
        """The same question to `scan()`."""
        self.check(self.lazy())

    def time_slice_by_duckdb(self) -> None:
        """The same question to `to_arrow_dataset()` in DuckDB, which compares times in microseconds."""
        import duckdb

        machines = self.dataset(times="us").to_arrow_dataset()  # noqa: F841 - DuckDB finds it by its name
        query = f"SELECT {', '.join(FIELDS)} FROM machines WHERE time_ns >= ? AND time_ns < ?"
        with duckdb.connect() as database:
            self.check(database.sql(query, params=[BEGIN, END]).to_arrow_table())

    def time_full_scan(self) -> None:
        """The yardstick: the same without the index."""
        self.check(self.direct(use_index=False))

    def time_polars(self) -> None:
        """The yardstick: polars on Parquet with row groups of 32,768 rows."""
        self.check(self.by_polars("32k"))

    def time_polars_default(self) -> None:
        """With row groups of a million rows."""
        self.check(self.by_polars("default"))

    def time_duckdb(self) -> None:
        """The yardstick: DuckDB on Parquet with row groups of 32,768 rows."""
        self.check(self.by_duckdb("32k"))

    def time_duckdb_default(self) -> None:
        """With row groups of a million rows."""
        self.check(self.by_duckdb("default"))

    # Cold

    def cold(self, paths: Iterable[str], run: Callable[[], Any]) -> float:
        """Seconds of one run with no page of the files in memory."""
        scale_data.forget(scale_data.with_indexes(paths))
        begin = time.perf_counter()
        rows = run()
        seconds = time.perf_counter() - begin
        self.check(rows)
        return seconds

    def cold_beside(self, other: Callable[[str], Any]) -> float:
        """How many times faster the cold slice is than `other` on cold Parquet files, the best of `runs` each."""
        ours = theirs = float("inf")
        for _ in range(self.runs):
            theirs = min(theirs, self.cold(self.data.parquet("32k"), lambda: other("32k")))
            ours = min(ours, self.cold(self.paths, self.direct))
        return theirs / ours

    def track_cold_beside_polars(self) -> float:
        return self.cold_beside(self.by_polars)

    def track_cold_beside_duckdb(self) -> float:
        return self.cold_beside(self.by_duckdb)

    # One file

    def time_one_file(self) -> None:
        rows = flatstream.dataset(self.paths[:1]).columns(FIELDS, WHERE)
        assert rows.num_rows == self.one.num_rows

    def time_one_file_by_mcap(self) -> None:
        """The yardstick: mcap's own reader with its index by time, and a record view of each message."""
        import mcap.reader

        table = scale_data.table()
        columns: list[list[Any]] = [[], [], []]
        with open(self.data.mcap(), "rb") as file:
            reader = mcap.reader.make_reader(file)
            # These are the names of mcap 1.6; earlier ones have others.
            names = "starting_at", "ending_before"
            if names[0] not in inspect.signature(reader.iter_messages).parameters:
                names = "start_time", "end_time"
            times: Any = dict(zip(names, (SLICE_BEGIN, SLICE_END), strict=True))
            for _, _, message in reader.iter_messages(**times):
                record = table.view(message.data)
                for column, name in zip(columns, FIELDS, strict=True):
                    column.append(getattr(record, name))
        assert len(columns[0]) == self.one.num_rows


class Head(ManyFiles):
    """The first ten rows of all columns (Q6)."""

    unit = "ms"

    def expect(self) -> None:
        self.open = self.dataset()
        assert self.open.columns(limit=10)["sequence"].to_pylist() == list(range(1, 11))

    def time_head(self) -> None:
        """Of a dataset that is there."""
        assert self.open.columns(limit=10).num_rows == 10

    def time_head_of_new_dataset(self) -> None:
        assert self.dataset().columns(limit=10).num_rows == 10

    def time_lazy_head(self) -> None:
        """By way of polars."""
        assert len(self.open.scan().head(10).collect()) == 10

    def track_head(self) -> float:
        """The best of 50 runs."""
        best = float("inf")
        for _ in range(50):
            begin = time.perf_counter()
            self.time_head()
            best = min(best, time.perf_counter() - begin)
        return best * 1e3


class FullScan(ManyFiles):
    """The maximum of one column and the sum of another over all files (Q7)."""

    def expect(self) -> None:
        import polars

        found = self.frame("default").select(polars.col("cpu").max(), polars.col("memory_used").sum()).collect()
        self.expected = found.row(0)

    def units(self) -> int:
        """The number of messages per sample."""
        return self.files * self.rows

    def aggregate(self, threads: int) -> None:
        import pyarrow.compute

        most, total = 0.0, 0
        for batch in self.dataset().batches(SCANNED, threads=threads):
            most = max(most, pyarrow.compute.max(batch["cpu"]).as_py())
            total += pyarrow.compute.sum(batch["memory_used"]).as_py()
        assert (most, total) == self.expected

    def time_two_threads(self) -> None:
        self.aggregate(2)

    def time_one_thread(self) -> None:
        """The yardstick for the second thread."""
        self.aggregate(1)

    def time_lazy(self) -> None:
        """The same by way of polars."""
        import polars

        scanned = self.dataset().scan().select(polars.col("cpu").max(), polars.col("memory_used").sum())
        assert scanned.collect(engine="streaming").row(0) == self.expected

    def time_polars(self) -> None:
        """The yardstick: polars on Parquet, which has a quarter of the bytes."""
        import polars

        found = self.frame("default").select(polars.col("cpu").max(), polars.col("memory_used").sum()).collect()
        assert found.row(0) == self.expected


class Index(ManyFiles):
    """The index of one field of one file (Q8)."""

    unit = "percent"
    files = 1

    def setup(self) -> None:
        # A copy, because the index is built anew.
        self.directory = tempfile.mkdtemp(prefix="flatstream-benchmark-")
        self.path = os.path.join(self.directory, "machine.fs")
        scale_data.write_stream(self.path, scale_data.columns_of(0, self.rows))
        self.size = os.path.getsize(self.path)
        self.index = f"{self.path}.idx"
        self.index_size = os.path.getsize(self.index)

    def units(self) -> int:
        """The bytes of the file."""
        return self.size

    def track_share(self) -> float:
        """How large the index is, as a part of its file."""
        return self.index_size / self.size * 100

    def time_build(self) -> None:
        os.unlink(self.index)
        report = flatstream.build_index(self.path, ["time_ns"])
        assert report.rows == self.rows

    def time_read_the_column(self) -> None:
        """The yardstick: reading the indexed column."""
        table, rows = scale_data.table(), 0
        with flatstream.open(self.path) as reader:
            for batch in reader.column_batches(table, ["time_ns"]):
                rows += batch.num_rows
        assert rows == self.rows

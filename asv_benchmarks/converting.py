"""Conversion of streams: to Parquet, beside pyarrow writing the same table from memory.

What `convert` adds to the work of pyarrow is to read the stream and to make columns of its messages.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet

import flatstream
from flatstream.tools import convert

from . import scale_data
from .columns import stream_of_named_samples, stream_of_samples
from .common import Benchmark
from .telemetry_event import EXAMPLES, make_payloads

SCHEMAS = Path(__file__).resolve().parent / "schemas"


class ToParquet(Benchmark):
    """Messages of three numbers, of three numbers and a string, and telemetry events of about 500 bytes."""

    param_names = ("messages", "count")
    params = (["numbers", "text", "events"], [10_000, 200_000])
    # A file of its own for each run.
    number = 1

    def setup(self, messages: str, count: int) -> None:
        schema = flatstream.Schema.from_file(
            EXAMPLES / "telemetry.bfbs" if messages == "events" else SCHEMAS / "sample.bfbs"
        )
        table = schema.table("sample.NamedSample") if messages == "text" else schema.root
        assert table is not None
        self.table = table
        self.folder = Path(tempfile.mkdtemp())
        self.source = self.folder / "in.fs"
        self.source.write_bytes(make_stream(messages, count))
        with flatstream.StreamReader(self.source) as reader:
            self.columns = reader.columns(table).to_arrow()
        self.runs = 0
        # Both files have the same table.
        self.time_convert(messages, count)
        self.time_pyarrow(messages, count)
        first, second = (pyarrow.parquet.read_table(self.path(run)) for run in (1, 2))
        assert first.num_rows == second.num_rows == count
        assert first.column_names == second.column_names

    def teardown(self, messages: str, count: int) -> None:
        shutil.rmtree(self.folder)

    def units(self, messages: str, count: int) -> int:
        """The number of messages per sample."""
        return count

    def path(self, run: int) -> Path:
        return self.folder / f"{run}.parquet"

    def new_path(self) -> Path:
        # The files of the first two runs are compared.
        if self.runs > 2:
            self.path(self.runs).unlink()
        self.runs += 1
        return self.path(self.runs)

    def time_convert(self, messages: str, count: int) -> None:
        report: Any = convert(self.source, self.new_path(), table=self.table, checksum="none")
        assert report.messages == count

    def time_pyarrow(self, messages: str, count: int) -> None:
        """The yardstick."""
        with pyarrow.parquet.ParquetWriter(self.new_path(), self.columns.schema) as writer:
            writer.write_table(self.columns)
        assert self.path(self.runs).stat().st_size > 0


class ToLake(Benchmark):
    """Messages of ten hours and 14 fields, into a folder for each hour, beside pyarrow writing their table so."""

    param_names = ("count",)
    params = ([20_000, 760_000],)
    number = 1
    # Of `track_bytes_against_pyarrow`.
    unit = "of pyarrow's bytes"

    def setup(self, count: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.source = self.folder / "in.fs"
        columns = scale_data.columns_of(0, count)
        scale_data.write_stream(str(self.source), columns)
        self.columns = flatstream.dataset(self.source).columns()
        self.runs = 0
        self.lake = self.folder / "lake"
        flatstream.dataset(self.source).to_parquet(self.lake)

    def teardown(self, count: int) -> None:
        shutil.rmtree(self.folder)

    def units(self, count: int) -> int:
        """The number of messages per sample."""
        return count

    def new_folder(self) -> Path:
        shutil.rmtree(self.folder / str(self.runs), ignore_errors=True)
        self.runs += 1
        return self.folder / str(self.runs)

    def time_export(self, count: int) -> None:
        report = flatstream.dataset(self.source).to_parquet(self.new_folder())
        assert report.rows == count

    def time_export_nothing(self, count: int) -> None:
        """A run that finds nothing new, as most runs of cron do."""
        assert flatstream.dataset(self.source).to_parquet(self.lake).rows == 0

    def time_pyarrow(self, count: int) -> None:
        """The yardstick: from memory, and with nothing that makes files lasting."""
        rows = self.columns
        hours = pc.floor_temporal(rows["time_ns"], unit="hour")
        rows = rows.append_column("hour", pc.strftime(hours, "%Y-%m-%d %H"))
        folder = self.new_folder()
        pyarrow.dataset.write_dataset(
            rows,
            folder,
            format="parquet",
            partitioning=["hour"],
            partitioning_flavor="hive",
            max_rows_per_group=65_536,
            file_options=pyarrow.dataset.ParquetFileFormat().make_write_options(compression="zstd"),
        )
        assert len(list(folder.iterdir())) >= 10

    def track_bytes_against_pyarrow(self, count: int) -> float:
        """The files of an export as a share of those of pyarrow's defaults, with the same compression."""
        self.time_pyarrow(count)
        size = sum(path.stat().st_size for path in (self.folder / str(self.runs)).rglob("*.parquet"))
        return flatstream.dataset(self.source).to_parquet(self.new_folder()).size / size


def make_stream(messages: str, count: int) -> bytes:
    """The stream of `count` messages of a kind."""
    if messages == "numbers":
        return stream_of_samples(count)
    if messages == "text":
        return stream_of_named_samples(count)
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink) as writer:
        for _ in range(0, count, 1000):
            writer.write_payloads(make_payloads(1000))
    return sink.getvalue()

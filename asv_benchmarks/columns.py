"""Columns: a stream of messages as NumPy and Arrow arrays, beside generated code that reads the same stream.

R2 and R3 of the performance goals. The yardstick is the code of a user of generated code: a loop over the reader, an
accessor for each field, and a list for each column.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

import flatstream

from .building import build_sample
from .common import Benchmark
from .schemas.sample import NamedSample, Sample
from .telemetry_event import EXAMPLES, make_payloads

SCHEMAS = Path(__file__).resolve().parent / "schemas"


def stream_of_samples(count: int) -> bytes:
    """`count` different messages of three scalars."""
    sink = io.BytesIO()
    builder = flatstream.Builder(64)
    with flatstream.StreamWriter(sink) as writer:
        for number in range(count):
            builder.Clear()
            build_sample(builder, number)
            writer.write_finished(builder)
    return sink.getvalue()


class Numbers(Benchmark):
    """Three scalar fields of `count` messages as NumPy arrays."""

    param_names = ("count",)
    params = ([10_000, 100_000],)

    def setup(self, count: int) -> None:
        table = flatstream.Schema.from_file(SCHEMAS / "sample.bfbs").root
        assert table is not None
        self.table = table
        self.stream = stream_of_samples(count)
        columns, lists = self.read_columns(), self.read_lists()
        assert list(columns) == list(lists) == ["time_ns", "value", "sensor"]
        for name, values in lists.items():
            assert np.array_equal(columns[name], values)
        self.last = 1_700_000_000_000_000_000 + count - 1

    def units(self, count: int) -> int:
        """The number of messages per sample."""
        return count

    def read_columns(self) -> dict[str, Any]:
        """Reads with the schema."""
        return flatstream.StreamReader(self.stream).columns(self.table).to_numpy()

    def read_lists(self) -> dict[str, list[Any]]:
        """Reads with generated code."""
        times, values, sensors = [], [], []
        for payload in flatstream.StreamReader(self.stream):
            sample = Sample.Sample.GetRootAs(payload, 0)
            times.append(sample.TimeNs())
            values.append(sample.Value())
            sensors.append(sample.Sensor())
        return {"time_ns": times, "value": values, "sensor": sensors}

    def time_columns(self, count: int) -> None:
        arrays = self.read_columns()
        assert all(len(array) == count for array in arrays.values())
        assert arrays["time_ns"][-1] == self.last

    def time_generated_code(self, count: int) -> None:
        """The yardstick."""
        lists = self.read_lists()
        assert all(len(values) == count for values in lists.values())
        assert lists["time_ns"][-1] == self.last


def stream_of_named_samples(count: int) -> bytes:
    """`count` messages of three scalars and one of 1,000 names of 12 characters."""
    sink = io.BytesIO()
    builder = flatstream.Builder(64)
    with flatstream.StreamWriter(sink) as writer:
        for number in range(count):
            builder.Clear()
            name = builder.CreateString(f"sensor-{number % 1000:05}")
            NamedSample.NamedSampleStart(builder)
            NamedSample.NamedSampleAddTimeNs(builder, 1_700_000_000_000_000_000 + number)
            NamedSample.NamedSampleAddValue(builder, number / 8)
            NamedSample.NamedSampleAddSensor(builder, number % 1000)
            NamedSample.NamedSampleAddName(builder, name)
            builder.Finish(NamedSample.NamedSampleEnd(builder))
            writer.write_finished(builder)
    return sink.getvalue()


class NumbersAndText(Benchmark):
    """Three scalar fields and a string of `count` messages, to Arrow."""

    param_names = ("count",)
    params = ([10_000, 100_000],)

    def setup(self, count: int) -> None:
        self.table = flatstream.Schema.from_file(SCHEMAS / "sample.bfbs").table("sample.NamedSample")
        self.stream = stream_of_named_samples(count)
        columns, lists = self.read_columns(), self.read_lists()
        columns.validate(full=True)
        assert columns.to_pydict() == lists
        self.last = lists["name"][-1]

    def units(self, count: int) -> int:
        """The number of messages per sample."""
        return count

    def read_columns(self) -> Any:
        """Reads with the schema."""
        return flatstream.StreamReader(self.stream).columns(self.table).to_arrow()

    def read_lists(self) -> dict[str, list[Any]]:
        """Reads with generated code."""
        times, values, sensors, names = [], [], [], []
        for payload in flatstream.StreamReader(self.stream):
            sample = NamedSample.NamedSample.GetRootAs(payload, 0)
            times.append(sample.TimeNs())
            values.append(sample.Value())
            sensors.append(sample.Sensor())
            names.append(sample.Name().decode())
        return {"time_ns": times, "value": values, "sensor": sensors, "name": names}

    def time_columns(self, count: int) -> None:
        table = self.read_columns()
        assert table.num_rows == count
        assert table["name"][-1].as_py() == self.last

    def time_generated_code(self, count: int) -> None:
        """The yardstick."""
        lists = self.read_lists()
        assert all(len(values) == count for values in lists.values())
        assert lists["name"][-1] == self.last


class Batches(Benchmark):
    """Telemetry events of about 500 bytes, read by Arrow as a stream of batches, the way to read large files."""

    param_names = ("fields", "count")
    params = (["four", "all"], [10_000, 100_000])

    def setup(self, fields: str, count: int) -> None:
        table = flatstream.Schema.from_file(EXAMPLES / "telemetry.bfbs").root
        assert table is not None
        self.table = table
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink) as writer:
            for _ in range(0, count, 1000):
                writer.write_payloads(make_payloads(1000))
        self.stream = sink.getvalue()
        self.fields = ["sequence", "memory_available", "load_1", "host"] if fields == "four" else None

    def units(self, fields: str, count: int) -> int:
        """The number of messages per sample."""
        return count

    def time_record_batches(self, fields: str, count: int) -> None:
        batches = flatstream.StreamReader(io.BytesIO(self.stream)).column_batches(self.table, self.fields)
        assert sum(batch.num_rows for batch in pyarrow.RecordBatchReader.from_stream(batches)) == count

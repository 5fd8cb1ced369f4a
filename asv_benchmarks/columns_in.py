"""Records from columns: messages from all rows of NumPy arrays or of an Arrow table, in one call.

B3 of the performance goals. The yardstick is the same as for B1: generated code with the builder of the `flatbuffers`
package, one message after another.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

import flatstream

from .common import Benchmark, NullSink
from .schemas.sample import Sample as Generated
from .schemas.sample.Sample import Sample

SCHEMA = Path(__file__).parent / "schemas" / "sample.bfbs"
FIRST_TIME = 1_700_000_000_000_000_000
GOAL_COUNT = 100_000


def from_numpy(count: int) -> dict[str, Any]:
    """Three arrays with the types of the fields."""
    return {
        "time_ns": np.arange(FIRST_TIME, FIRST_TIME + count, dtype=np.uint64),
        "value": np.arange(count, dtype=np.float64) * 0.5 - 7,
        "sensor": np.arange(count, dtype=np.uint32) % 1000,
    }


def from_converted(count: int) -> dict[str, Any]:
    """Three arrays of other types, one of them big-endian: each number is converted and checked."""
    columns = from_numpy(count)
    return {
        "time_ns": columns["time_ns"].astype(np.int64),
        "value": columns["value"].astype(np.float32),
        "sensor": columns["sensor"].astype(">u2"),
    }


def from_arrow(count: int) -> Any:
    """An Arrow table."""
    import pyarrow

    return pyarrow.table(from_numpy(count))


def from_chunks(count: int) -> Any:
    """An Arrow table in chunks of 1000 rows."""
    import pyarrow

    table = from_arrow(count)
    return pyarrow.Table.from_batches(table.to_batches(max_chunksize=1000))


SOURCES: dict[str, Callable[[int], Any]] = {
    "NumPy": from_numpy,
    "NumPy, converted": from_converted,
    "Arrow": from_arrow,
    "Arrow, in chunks": from_chunks,
}


class WriteColumns(Benchmark):
    """`count` records of three scalars, built and framed into a sink that keeps nothing."""

    param_names = ("source", "checksum", "count")
    params = ([*SOURCES], ["none", "crc32"], [200, 5000, GOAL_COUNT])

    def setup(self, source: str, checksum: str, count: int) -> None:
        root = flatstream.Schema.from_file(SCHEMA).root
        assert root is not None
        self.table = root
        self.checksum = checksum
        self.columns = SOURCES[source](count)
        # Python numbers, as a user passes them to generated code.
        self.rows = list(zip(*[column.tolist() for column in from_numpy(count).values()], strict=True))
        values, size = self.values(self.by_columns, count)
        expected, self.size_by_generated_code = self.values(self.by_generated_code, count)
        assert values == expected == self.rows
        self.size = size

    def units(self, source: str, checksum: str, count: int) -> int:
        """The number of records per sample."""
        return count

    def values(self, run: Callable[[Any], int], count: int) -> tuple[list[tuple[int, float, int]], int]:
        """The values that generated code reads from the messages of a run, and their size in bytes."""
        sink = io.BytesIO()
        size = run(sink)
        read = [Sample.GetRootAs(payload, 0) for payload in flatstream.StreamReader(sink.getvalue(), self.checksum)]
        return [(sample.TimeNs(), sample.Value(), sample.Sensor()) for sample in read], size

    def by_columns(self, sink: Any) -> int:
        """Writes all rows; returns the number of bytes written."""
        with flatstream.StreamWriter(sink, self.checksum) as writer:
            flatstream.RecordWriter(writer, self.table).write_columns(self.columns)
            return writer.bytes_written

    def by_generated_code(self, sink: Any) -> int:
        """Builds each message with generated code and `flatbuffers.Builder`; returns the number of bytes written."""
        builder = flatbuffers.Builder(1024)
        with flatstream.StreamWriter(sink, self.checksum) as writer:
            for time_ns, value, sensor in self.rows:
                Generated.SampleStart(builder)
                Generated.SampleAddTimeNs(builder, time_ns)
                Generated.SampleAddValue(builder, value)
                Generated.SampleAddSensor(builder, sensor)
                builder.Finish(Generated.SampleEnd(builder))
                writer.write_finished(builder)
                builder.Clear()
            return writer.bytes_written

    def time_columns(self, source: str, checksum: str, count: int) -> None:
        sink = NullSink()
        assert self.by_columns(sink) == sink.taken == self.size

    def time_generated_code(self, source: str, checksum: str, count: int) -> None:
        """The yardstick."""
        sink = NullSink()
        assert self.by_generated_code(sink) == sink.taken == self.size_by_generated_code


class WriteStrings(Benchmark):
    """`count` records of a name and six counters in a struct, which are built row by row."""

    param_names = ("count",)
    params = ([200, 5000, GOAL_COUNT],)

    def setup(self, count: int) -> None:
        import pyarrow

        schema = flatstream.Schema.from_file(Path(__file__).parent.parent / "examples" / "telemetry.bfbs")
        self.table = schema.table("telemetry.Disk")
        number = pyarrow.array(np.arange(count, dtype=np.uint64) + 1)
        names = [field.name for field in schema._info.objects[schema.numbers["telemetry.DiskCounters"]].fields]
        counters = pyarrow.StructArray.from_arrays([number] * len(names), names)
        self.columns = pyarrow.table({"name": [f"disk{i % 50}" for i in range(count)], "counters": counters})

    def units(self, count: int) -> int:
        """The number of records per sample."""
        return count

    def time_columns(self, count: int) -> None:
        sink = NullSink()
        with flatstream.StreamWriter(sink) as writer:
            assert flatstream.RecordWriter(writer, self.table).write_columns(self.columns) == count
        assert sink.taken > 64 * count

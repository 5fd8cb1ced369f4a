"""Records in: messages from keyword arguments, mappings and objects, by a schema at run time.

B2 of the performance goals. The yardstick is the same as for B1: generated code with the builder of the `flatbuffers`
package.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flatbuffers

import flatstream

from .building import build_sample
from .common import Benchmark, NullSink
from .schemas.sample.Sample import Sample

SCHEMA = Path(__file__).parent / "schemas" / "sample.bfbs"
FIRST_TIME = 1_700_000_000_000_000_000


def by_keywords(records: flatstream.RecordWriter, count: int) -> None:
    """One call for each record, with its fields as keywords."""
    write = records.write
    for number in range(count):
        write(time_ns=FIRST_TIME + number, value=21.5, sensor=7)


def by_mapping(records: flatstream.RecordWriter, count: int) -> None:
    """A dict for each record."""
    write = records.write_record
    for number in range(count):
        write({"time_ns": FIRST_TIME + number, "value": 21.5, "sensor": 7})


def by_position(records: flatstream.RecordWriter, count: int) -> None:
    """A tuple for each record."""
    write = records.write_record
    for number in range(count):
        write((FIRST_TIME + number, 21.5, 7))


def by_attributes(records: flatstream.RecordWriter, count: int) -> None:
    """An object for each record."""
    write = records.write_record
    for number in range(count):
        write(SimpleNamespace(time_ns=FIRST_TIME + number, value=21.5, sensor=7))


WAYS: dict[str, Callable[[flatstream.RecordWriter, int], None]] = {
    "keywords": by_keywords,
    "mapping": by_mapping,
    "position": by_position,
    "attributes": by_attributes,
}


class WriteRecords(Benchmark):
    """`count` records of three scalars, each built and framed into a sink that keeps nothing."""

    param_names = ("way", "count")
    params = ([*WAYS], [200, 5000])

    def setup(self, way: str, count: int) -> None:
        root = flatstream.Schema.from_file(SCHEMA).root
        assert root is not None
        self.table = root
        self.write = WAYS[way]
        assert self.values(self.by_schema) == self.values(self.by_generated_code)
        self.size = self.by_schema(NullSink(), count)

    def units(self, way: str, count: int) -> int:
        """The number of records per sample."""
        return count

    def values(self, run: Callable[[Any, int], int]) -> list[tuple[int, float, int]]:
        """The values that generated code reads from the first messages of a run."""
        sink = io.BytesIO()
        run(sink, 20)
        read = [Sample.GetRootAs(payload, 0) for payload in flatstream.StreamReader(sink.getvalue())]
        return [(sample.TimeNs(), sample.Value(), sample.Sensor()) for sample in read]

    def by_schema(self, sink: Any, count: int) -> int:
        """Writes records; returns the number of bytes written."""
        with flatstream.StreamWriter(sink) as writer:
            self.write(flatstream.RecordWriter(writer, self.table), count)
            return writer.bytes_written

    def by_generated_code(self, sink: Any, count: int) -> int:
        """Builds each message with generated code and `flatbuffers.Builder`; returns the number of bytes written."""
        builder = flatbuffers.Builder(1024)
        with flatstream.StreamWriter(sink) as writer:
            for number in range(count):
                build_sample(builder, number)
                writer.write_finished(builder)
                builder.Clear()
            return writer.bytes_written

    def time_records(self, way: str, count: int) -> None:
        assert self.by_schema(NullSink(), count) == self.size

    def time_generated_code(self, way: str, count: int) -> None:
        """The yardstick."""
        # Not equal, because generated code stores the fields in another order and so needs more padding.
        assert self.by_generated_code(NullSink(), count) >= self.size

"""Records: messages read with a schema at run time, and with generated code.

R1 of the performance goals.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import flatstream

from .building import build_sample
from .common import Benchmark
from .schemas.sample.Sample import Sample

SCHEMA = Path(__file__).resolve().parent / "schemas" / "sample.bfbs"

# The time stamp of the first message of `build_sample`; it increases by one per message.
FIRST_TIME = 1_700_000_000_000_000_000


def make_samples(count: int) -> bytes:
    """A stream of `count` messages of three scalars."""
    sink = io.BytesIO()
    builder = flatstream.Builder(64)
    with flatstream.StreamWriter(sink) as writer:
        for number in range(count):
            builder.Clear()
            build_sample(builder, number)
            writer.write_finished(builder)
    return sink.getvalue()


class ReadThreeFields(Benchmark):
    """The three fields of each of `count` messages, from a stream in memory.

    The timed code does not use the values, because adding them up takes a third as long as reading records. `setup`
    checks all values by their sums; a timed run checks the last message and the number of messages.
    """

    param_names = ("count",)
    params = ([200, 100_000],)

    def setup(self, count: int) -> None:
        table = flatstream.Schema.from_file(SCHEMA).root
        assert table
        self.table = table
        self.stream = make_samples(count)
        times = count * FIRST_TIME + count * (count - 1) // 2
        for verify in (True, False):
            with flatstream.StreamReader(self.stream) as reader:
                fields = [(record.time_ns, record.value, record.sensor) for record in self.records(reader, verify)]
            assert tuple(map(sum, zip(*fields, strict=True))) == (times, 21.5 * count, 7 * count)

    def units(self, count: int) -> int:
        """The number of messages per sample."""
        return count

    def records(self, reader: flatstream.StreamReader, verify: bool) -> Iterator[flatstream.RecordView]:
        """The messages of `reader`."""
        return reader.records(self.table, verify=verify)

    def read_records(self, verify: bool, count: int) -> None:
        """Reads all records."""
        time_ns = value = sensor = 0
        with flatstream.StreamReader(self.stream) as reader:
            for record in self.records(reader, verify):
                time_ns = record.time_ns
                value = record.value
                sensor = record.sensor
            assert reader.frames_read == count
        assert (time_ns, value, sensor) == (FIRST_TIME + count - 1, 21.5, 7)

    def time_records(self, count: int) -> None:
        self.read_records(True, count)

    def time_records_unverified(self, count: int) -> None:
        self.read_records(False, count)

    def time_generated_code(self, count: int) -> None:
        """The yardstick."""
        time_ns = value = sensor = 0
        with flatstream.StreamReader(self.stream) as reader:
            for payload in reader:
                sample = Sample.GetRootAs(payload, 0)
                time_ns = sample.TimeNs()
                value = sample.Value()
                sensor = sample.Sensor()
            assert reader.frames_read == count
        assert (time_ns, value, sensor) == (FIRST_TIME + count - 1, 21.5, 7)

"""Building: messages from generated code, with this package's builder and with the one of the `flatbuffers` package.

B1 of the performance goals. Both builders run the same generated code, unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers

import flatstream

from .common import Benchmark, NullSink
from .schemas.sample import Sample
from .telemetry_event import build_event, make_events

BUILDERS = {"flatstream": flatstream.Builder, "flatbuffers": flatbuffers.Builder}


def build_sample(builder: Any, number: int) -> None:
    """Three scalars."""
    Sample.SampleStart(builder)
    Sample.SampleAddTimeNs(builder, 1_700_000_000_000_000_000 + number)
    Sample.SampleAddValue(builder, 21.5)
    Sample.SampleAddSensor(builder, 7)
    builder.Finish(Sample.SampleEnd(builder))


def build_text(builder: Any, number: int) -> None:
    """A string and a vector of 16 bytes, in a table."""
    name = builder.CreateString("temperature of the room")
    data = builder.CreateByteVector(b"0123456789abcdef")
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependUOffsetTRelativeSlot(1, data, 0)
    builder.Finish(builder.EndObject())


def build_vector(builder: Any, number: int) -> None:
    """A vector of 64 numbers, one by one, in a table."""
    builder.StartVector(4, 64, 4)
    for value in range(64):
        builder.PrependUint32(value)
    values = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, values, 0)
    builder.Finish(builder.EndObject())


SHAPES: dict[str, Callable[[Any, int], None]] = {
    "three scalars": build_sample,
    "string and bytes": build_text,
    "vector of 64": build_vector,
}


class BuildAndFrame(Benchmark):
    """`count` messages built, framed with `write_finished` into a sink that keeps nothing, and cleared."""

    param_names = ("shape", "count")
    params = ([*SHAPES, "telemetry event"], [200, 5000])

    def setup(self, shape: str, count: int) -> None:
        if shape == "telemetry event":
            events = make_events(200)
            self.build = lambda builder, number: build_event(builder, events[number % 200])
        else:
            self.build = SHAPES[shape]
        streams = [self.run(name, 50) for name in BUILDERS]
        # Both builders make the same bytes, so both runs write the same number.
        assert self.first_messages("flatstream") == self.first_messages("flatbuffers")
        assert streams[0] == streams[1]
        self.size = self.run("flatbuffers", count)

    def units(self, shape: str, count: int) -> int:
        """The number of messages per sample."""
        return count

    def first_messages(self, name: str) -> list[bytes]:
        """The bytes of the first messages."""
        messages = []
        builder = BUILDERS[name](64)
        for number in range(20):
            builder.Clear()
            self.build(builder, number)
            messages.append(bytes(builder.Output()))
        return messages

    def run(self, name: str, count: int) -> int:
        """Builds and frames; returns the number of bytes that reached the sink."""
        sink = NullSink()
        builder = BUILDERS[name](1024)
        build, clear = self.build, builder.Clear
        with flatstream.StreamWriter(sink) as writer:
            write = writer.write_finished
            for number in range(count):
                build(builder, number)
                write(builder)
                clear()
        return sink.taken

    def time_flatstream(self, shape: str, count: int) -> None:
        assert self.run("flatstream", count) == self.size

    def time_flatbuffers(self, shape: str, count: int) -> None:
        """The yardstick."""
        assert self.run("flatbuffers", count) == self.size


class WriteSimple(Benchmark):
    """Simple mode: `write(item)` with an item that builds itself."""

    param_names = ("builder", "count")
    params = ([*BUILDERS], [200, 5000])

    def setup(self, builder: str, count: int) -> None:
        self.item = Item()

    def units(self, builder: str, count: int) -> int:
        """The number of items per sample."""
        return count

    def time_write(self, builder: str, count: int) -> None:
        sink = NullSink()
        with flatstream.StreamWriter(sink, builder=BUILDERS[builder](1024)) as writer:
            for _ in range(count):
                writer.write(self.item)
        # Each frame has a length of 4 bytes and a payload of 40.
        assert sink.taken == count * 44


class Item:
    """Three scalars that build themselves."""

    def serialize(self, builder: Any) -> None:
        """See `flatstream.StreamSerialize`."""
        build_sample(builder, 3)

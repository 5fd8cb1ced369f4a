"""Typed reading: messages as objects instead of bytes.

Two kinds of class are supported: a class with ``from_payload``, and a class that flatc generated from a schema. The
generated class here is `telemetry.Event`, from telemetry.fbs.
"""

# mypy: allow-untyped-calls
# (the code flatc generates has no annotations)

from __future__ import annotations

import io
from typing import Any

from flatbuffers import encode, number_types, packer, table
from telemetry import Event

from flatstream import Builder, ChecksumType, FlatbufferError, StreamReader, StreamWriter


class Reading:
    """A message with two fields, written and read by hand."""

    def __init__(self, sensor: int, celsius: float) -> None:
        self.sensor = sensor
        self.celsius = celsius

    def serialize(self, builder: Any) -> None:
        builder.StartObject(2)
        builder.PrependUint32Slot(0, self.sensor, 0)
        builder.PrependFloat64Slot(1, self.celsius, 0.0)
        builder.Finish(builder.EndObject())

    @classmethod
    def from_payload(cls, payload: memoryview) -> Reading:
        root = table.Table(payload, encode.Get(packer.uoffset, payload, 0))
        return cls(root.GetSlot(4, 0, number_types.Uint32Flags), root.GetSlot(6, 0.0, number_types.Float64Flags))


def build_event(sequence: int, host: str) -> Builder:
    builder = Builder(256)
    name = builder.CreateString(host)
    Event.Start(builder)
    Event.AddSequence(builder, sequence)
    Event.AddHost(builder, name)
    builder.Finish(Event.End(builder), file_identifier=b"TELE")
    return builder


def main() -> None:
    # A class with from_payload.
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumType.CRC32) as writer:
        writer.write_batch([Reading(1, 21.5), Reading(2, 19.25)])
    readings = list(StreamReader(sink.getvalue(), ChecksumType.CRC32).typed_messages(Reading))
    assert [(reading.sensor, reading.celsius) for reading in readings] == [(1, 21.5), (2, 19.25)]
    print(f"from_payload: {[(reading.sensor, reading.celsius) for reading in readings]}")

    # A class that flatc generated: each field is read from the payload on access.
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumType.CRC32) as writer:
        for sequence, host in enumerate(["alpha", "beta", "gamma"]):
            writer.write_message(build_event(sequence, host))
    events = [
        (event.Sequence(), event.Host().decode())
        for event in StreamReader(sink.getvalue(), ChecksumType.CRC32).typed_messages(Event.Event)
    ]
    assert events == [(0, "alpha"), (1, "beta"), (2, "gamma")]
    print(f"generated:    {events}")

    # The same with a function that gets the object and the payload.
    sizes: dict[int, int] = {}
    count = StreamReader(sink.getvalue(), ChecksumType.CRC32).process_typed_with_payload(
        Event.Event, lambda event, payload: sizes.__setitem__(event.Sequence(), len(payload))
    )
    assert count == len(sizes) == 3
    print(f"sizes:        {sizes}")

    # A payload that cannot be a FlatBuffer is refused, and the next message can be read.
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        writer.write_payload(b"?")
        writer.write_message(build_event(7, "delta"))
    messages = StreamReader(sink.getvalue()).typed_messages(Event.Event)
    try:
        next(messages)
    except FlatbufferError as error:
        print(f"refused:      {error}")
    else:
        raise AssertionError("one byte was accepted as an Event")
    assert next(messages).Sequence() == 7


if __name__ == "__main__":
    main()

"""Objects as JSON and MessagePack in streams, beside the same library with frames made by hand.

O1 and O2 of the performance goals.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import msgspec

import flatstream

from .common import Benchmark
from .telemetry_event import make_events

HEADER = struct.Struct("<I")
LIBRARIES: dict[str, Any] = {"json": msgspec.json, "msgpack": msgspec.msgpack}


class Objects(Benchmark):
    """`count` telemetry events of 16 fields, as dicts: about 900 bytes of JSON each. Or as many small numbers, which
    show the cost of a frame.
    """

    param_names = ("serializer", "items", "count")
    params = (["json", "msgpack"], ["events", "numbers"], [200, 10_000])

    def setup(self, serializer: str, items: str, count: int) -> None:
        self.events: list[Any] = list(make_events(count)) if items == "events" else list(range(count))
        library = LIBRARIES[serializer]
        self.encode, self.decode = library.Encoder().encode, library.Decoder().decode
        self.stream = self.written_by_hand().getvalue()
        sink = self.written(serializer)
        assert sink.getvalue() == self.stream
        assert list(flatstream.StreamReader(self.stream).objects(serializer)) == self.events

    def units(self, serializer: str, items: str, count: int) -> int:
        """The number of messages per sample."""
        return count

    def written(self, serializer: str) -> io.BytesIO:
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink, serializer=serializer) as writer:
            writer.write_batch(self.events)
        return sink

    def written_by_hand(self) -> io.BytesIO:
        sink = io.BytesIO()
        encode, write, pack = self.encode, sink.write, HEADER.pack
        for event in self.events:
            payload = encode(event)
            write(pack(len(payload)))
            write(payload)
        return sink

    def time_write_batch(self, serializer: str, items: str, count: int) -> None:
        assert self.written(serializer).tell() == len(self.stream)

    def time_write(self, serializer: str, items: str, count: int) -> None:
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink, serializer=serializer) as writer:
            for event in self.events:
                writer.write(event)
        assert sink.tell() == len(self.stream)

    def time_write_by_hand(self, serializer: str, items: str, count: int) -> None:
        """The yardstick for writing."""
        assert self.written_by_hand().tell() == len(self.stream)

    def time_objects(self, serializer: str, items: str, count: int) -> None:
        number = 0
        for _ in flatstream.StreamReader(self.stream).objects(serializer):
            number += 1
        assert number == count

    def time_read_by_hand(self, serializer: str, items: str, count: int) -> None:
        """The yardstick for reading."""
        view, decode, unpack = memoryview(self.stream), self.decode, HEADER.unpack_from
        place = number = 0
        while place < len(view):
            (size,) = unpack(view, place)
            begin = place + HEADER.size
            place = begin + size
            _ = decode(view[begin:place])
            number += 1
        assert number == count

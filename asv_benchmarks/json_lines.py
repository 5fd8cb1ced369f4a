"""Streams as JSON lines and back, beside orjson with the dicts of records.

D2 of the performance goals.
"""

from __future__ import annotations

import io
from typing import Any

import orjson

import flatstream

from .common import Benchmark, frames_by_hand
from .telemetry_event import EXAMPLES, make_events, make_payloads

SCHEMA = EXAMPLES / "telemetry.bfbs"


class JsonLines(Benchmark):
    """`count` telemetry events of 500 bytes: 16 fields, with strings, and 4 cores of 8 doubles.

    `setup` compares the lines with the events.
    """

    param_names = ("count",)
    params = ([200, 10_000],)

    def setup(self, count: int) -> None:
        table = flatstream.Schema.from_file(SCHEMA).root
        assert table
        self.table = table
        self.stream = frames_by_hand(make_payloads(count))
        self.lines = b"".join(table.json_lines(flatstream.StreamReader(self.stream)))
        for line, event in zip(self.lines.splitlines(), make_events(count), strict=True):
            # What equals its default is left out.
            assert {name: value for name, value in event.items() if value} == orjson.loads(line)
        self.dict_size = sum(map(len, self.dumped()))

    def units(self, count: int) -> int:
        """The number of messages per sample."""
        return count

    def dumped(self) -> list[bytes]:
        """The lines by orjson: the same fields, and those that are absent."""
        return [orjson.dumps(record.to_dict()) for record in flatstream.StreamReader(self.stream).records(self.table)]

    def time_json_lines(self, count: int) -> None:
        size = 0
        for chunk in self.table.json_lines(flatstream.StreamReader(self.stream)):
            size += len(chunk)
        assert size == len(self.lines)

    def time_orjson(self, count: int) -> None:
        """The yardstick."""
        assert sum(map(len, self.dumped())) == self.dict_size

    def time_json_lines_in(self, count: int) -> None:
        with flatstream.StreamWriter(io.BytesIO()) as writer:
            assert flatstream.RecordWriter(writer, self.table).write_json_lines(self.lines) == count

    def time_orjson_in(self, count: int) -> None:
        """The yardstick for reading JSON lines."""
        with flatstream.StreamWriter(io.BytesIO()) as writer:
            records: Any = flatstream.RecordWriter(writer, self.table)
            for line in self.lines.splitlines():
                records.write_record(orjson.loads(line))
            assert writer.frames_written == count

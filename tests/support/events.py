"""Streams of telemetry events with known numbers and times, for the tools and the command line."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flatstream import RecordWriter, StreamReader, StreamWriter
from support.schemas import EXAMPLES, TELEMETRY

SCHEMA_FILE = str(EXAMPLES / "telemetry.bfbs")
EVENT: Any = TELEMETRY.root

# 2023-11-14T22:13:20Z
BEGIN = 1_700_000_000 * 10**9
SECOND = 10**9


def event_stream(numbers: Iterable[int], checksum: str = "xxhash64", times: Iterable[int] | None = None) -> bytes:
    """A stream of events: number n has the time BEGIN and n seconds, unless `times` says others in seconds."""
    return _event_stream(tuple(numbers), checksum, None if times is None else tuple(times))


@functools.cache
def _event_stream(numbers: tuple[int, ...], checksum: str, times: tuple[int, ...] | None) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, checksum) as writer:
        write_events(writer, numbers, times)
    return sink.getvalue()


def write_events(writer: Any, numbers: Iterable[int], times: Sequence[int] | None = None) -> None:
    records = RecordWriter(writer, EVENT, file_identifier=True)
    for index, number in enumerate(numbers):
        seconds = number if times is None else times[index]
        records.write(
            sequence=number,
            wall_time_ns=BEGIN + seconds * SECOND,
            host="ab"[number % 2],
            platform="Linux",
            deadline_missed=number % 5 == 0,
            load_1=number / 10,
            cpu_total={
                "user": number,
                **dict.fromkeys(("nice", "system", "idle", "iowait", "irq", "softirq", "steal"), 0),
            },
        )


def sequences(path: Path | bytes, checksum: str = "xxhash64") -> list[int]:
    """The numbers of the events in a file or in bytes."""
    with StreamReader(path, checksum) as reader:
        return [record.sequence for record in reader.records(EVENT)]


def frames_of(data: bytes, checksum: str = "xxhash64") -> list[tuple[int, int]]:
    """Where each frame begins and ends."""
    header = 12 if checksum == "xxhash64" else {"none": 4, "crc16": 6, "crc32": 8, "crc32c": 8, "crc64": 12}[checksum]
    found = []
    with StreamReader(data, checksum) as reader:
        for payload in reader:
            found.append((reader.message_offset, reader.message_offset + header + len(payload)))
    return found

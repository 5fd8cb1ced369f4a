"""Streams to be exported, and what is in the folders of Parquet files that an export made of them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flatstream
from flatstream import RecordWriter, Schema

READINGS: Any = Schema.from_fbs(
    text="""
    namespace lab;
    enum State : ubyte { idle, busy }
    table Reading { time_ns: long; number: long; host: string; state: State; value: double; ok: bool; }
    root_type Reading;
    """
)
SECOND = 1_000_000_000
HOUR = 3600 * SECOND
# 2026-11-29 12:00 UTC.
NOON = 1_795_953_600 * SECOND


def reading(number: int, time_ns: int | None = None, host: str | None = "a") -> dict[str, Any]:
    """A message; by default one for each minute from noon on."""
    time = NOON + number * 60 * SECOND if time_ns is None else time_ns
    state = ("idle", "busy")[number % 2]
    return {"time_ns": time, "number": number, "host": host, "state": state, "value": number / 4, "ok": number % 3 == 0}


def write_readings(path: Path, numbers: Iterable[int], mode: Any = "w", **options: Any) -> Path:
    """Writes messages with these numbers into a file, or appends them."""
    given = options.pop("readings", None)
    options |= {} if mode == "a" else {"describe": READINGS.root}
    with flatstream.open(path, mode, checksum="xxhash64", **options) as stream:
        writer = RecordWriter(stream, READINGS.root)
        for one in given or map(reading, numbers):
            writer.write_record(one)
    return path


def files_of(lake: Path) -> list[Path]:
    """The Parquet files that readers of the folder see."""
    return sorted(path for path in lake.rglob("*.parquet") if "_flatstream" not in path.parts)


def rows_of(lake: Path) -> list[tuple[str, int]]:
    """The folder and the number of each row, sorted."""
    import pyarrow.parquet as pq

    found = []
    for path in files_of(lake):
        folder = path.parent.relative_to(lake).as_posix()
        with pq.ParquetFile(path) as file:
            found += [(folder, number) for number in file.read(["number"]).column(0).to_pylist()]
    return sorted(found)


def numbers_of(lake: Path) -> list[int]:
    """The numbers of all rows, sorted."""
    return sorted(number for _, number in rows_of(lake))


def folder_of(number: int) -> str:
    """The folder in which the message `reading(number)` belongs by its hour."""
    time = datetime.datetime(2026, 11, 29, 12) + datetime.timedelta(minutes=number)
    return f"date={time.date().isoformat()}/hour={time.hour}"


def leftovers_of(lake: Path) -> list[str]:
    """The files of an export that are neither Parquet with a name nor its state."""
    return sorted(
        path.relative_to(lake).as_posix()
        for path in lake.rglob("*")
        if path.is_file() and path.suffix != ".parquet" and path.name not in ("state.json", "lock")
    )

"""Streams to convert, and what a conversion and the way back make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream.schema import RecordView, Table
from flatstream.schema._reflection import BaseType, TypeInfo
from flatstream.tools import ConvertReport, convert
from support.arrow_types import Making

# Every format, with the ending of a file. Those of columns cannot carry everything.
ENDINGS = (".fs", ".parquet", ".arrow", ".arrows", ".csv", ".jsonl", ".mcap", ".fb")


class Unsorted(Making):
    """Random records without vectors that reading JSON sorts: those of tables with a key."""

    def value(self, base: BaseType, kind: TypeInfo, around: tuple[int, ...]) -> Any:
        found = super().value(base, kind, around)
        if base is BaseType.VECTOR and kind.element is BaseType.OBJ:
            is_sorted = any(field.key for field in self.schema.objects[kind.index].fields)
            return found[:1] if is_sorted else found
        return found


def write_stream(path: Path, table: Table, records: Sequence[Any], checksum: str = "crc32") -> Path:
    """Writes records to a new stream."""
    with StreamWriter(path, checksum) as writer:
        RecordWriter(writer, table).write_records(records)
    return path


def events(path: Path, table: Table, count: int, checksum: str = "crc32") -> Path:
    """Writes `count` telemetry events of numbers and text to a new stream."""
    numbers = np.arange(count)
    with StreamWriter(path, checksum) as writer:
        RecordWriter(writer, table).write_columns(
            {
                "sequence": numbers,
                "wall_time_ns": 1_700_000_000_000_000_000 + numbers * 100_000_000,
                "host": [f"host-{number % 3}" for number in range(count)],
                "load_1": numbers / 8,
                # With few digits, so that text and floats of other sizes have the same value.
                "load_5": np.round(np.sin(numbers / 100) * 16) / 16,
                "platform": ["Linux", "Windows"] * (count // 2) + ["Linux"] * (count % 2),
            }
        )
    return path


def read_stream(path: Path, table: Table, checksum: str = "crc32") -> list[RecordView]:
    """The records of a stream."""
    with StreamReader(path, checksum) as reader:
        return list(reader.records(table))


def one(source: Path, out: Path, **options: Any) -> ConvertReport:
    """Converts one file."""
    report = convert(source, out, **options)
    assert isinstance(report, ConvertReport)
    assert report.size == out.stat().st_size
    return report


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}

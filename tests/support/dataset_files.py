"""Files for datasets, and what one StreamReader of each reads of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flatstream
from flatstream import FlatStreamError, RecordWriter, Schema

EVENTS: Any = Schema.from_fbs(
    text="""
    namespace app;
    enum Level : ubyte { debug, info, error }
    table Source { host: string; port: ushort; }
    table Event { time_ns: long; level: Level; source: Source; value: double; tags: [string]; retries: int = null; }
    root_type Event;
    """
)
BEGIN = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000

# Frames of many sizes.
SIZES: Any = Schema.from_fbs(text='table T { n: int; s: string; v: [ubyte]; } root_type T; file_identifier "SIZE";')


def event(number: int) -> dict[str, Any]:
    """The event with a number, as a record."""
    return {
        "time_ns": BEGIN + number * MILLISECOND,
        "level": ("debug", "info", "error")[number % 3],
        "source": {"host": f"host{number % 4}", "port": number % 60_000},
        "value": number / 2,
        "tags": ["a"] * (number % 3),
        "retries": number if number % 5 == 0 else None,
    }


def write_events(path: Path, first: int, count: int, checksum: str = "xxhash64", **options: Any) -> Path:
    """A file with the events from `first` on."""
    with flatstream.open(path, "w", checksum=checksum, describe=EVENTS.root, **options) as stream:
        records = RecordWriter(stream, EVENTS.root)
        for number in range(first, first + count):
            records.write_record(event(number))
    return path


def write_records(path: Path, schema: Any, records: Iterable[dict[str, Any]], **options: Any) -> Path:
    """A file with records of the root of a schema, which it describes."""
    with flatstream.open(path, "w", **({"checksum": "crc32", "describe": schema.root} | options)) as stream:
        writer = RecordWriter(stream, schema.root)
        for record in records:
            writer.write_record(record)
    return path


def read_alone(paths: Iterable[Path], **options: Any) -> Any:
    """The rows of files, as one StreamReader of each reads them; a pyarrow.Table."""
    import pyarrow

    tables = []
    for path in paths:
        with flatstream.open(path, **options) as reader:
            tables.append(reader.columns().to_arrow())
    return pyarrow.concat_tables(tables)


def write_sizes(path: Path, rng: random.Random, count: int, checksum: str, *, junk: float = 0.02) -> bytes:
    """A file of frames of many sizes, some of which are no message of the table; returns its bytes."""
    describe = SIZES.root if checksum != "none" and rng.random() < 0.8 else None
    with flatstream.open(path, "w", checksum=checksum, describe=describe) as stream:
        writer = RecordWriter(stream, SIZES.root)
        for number in range(count):
            size = rng.choice([0, 3, 10, 300, 3000 if rng.random() < 0.1 else 5])
            writer.write(n=number, s="x" * rng.choice([0, 1, 5, 40]), v=bytes(size))
            if rng.random() < junk:
                stream.write_payload(b"" if rng.random() < 0.3 else rng.randbytes(rng.randrange(1, 30)))
    return path.read_bytes()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some damage of many kinds, or none."""
    made = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        if len(made) < 10:
            break
        kind, at = rng.randrange(8), rng.randrange(len(made))
        if kind == 0:
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del made[at : at + rng.randrange(1, 30)]
        elif kind == 2:
            made[at:at] = rng.randbytes(rng.randrange(1, 30))
        elif kind == 3:
            del made[at:]
        elif kind == 4:
            made[at : at + 20] = bytes(len(made[at : at + 20]))
        elif kind == 5:
            made += bytes(rng.randrange(1, 100))
        elif kind == 6:
            made += made[at : at + rng.randrange(200)]
        else:
            made[at : at + 4] = rng.choice([5000, 100_000, 2**31, 2**32 - 1]).to_bytes(4, "little")
    return bytes(made)


def reading_of_reader(path: Path, checksum: str, on_error: Any, where: Any = None) -> tuple[Any, ...]:
    """What one StreamReader finds: rows with the numbers of their frames, the error, and what was lost."""
    rows: list[dict[str, Any]] = []
    error = None
    with flatstream.open(path, checksum=checksum, on_error=on_error) as reader:
        batches = SIZES.root.read_column_batches(reader, ["n", "s", "v"], where, _numbers="frame")
        try:
            for batch in batches:
                rows += batch.to_pylist()
        except FlatStreamError as caught:
            error = place_of(caught)
        return rows, error, batches.skipped, batches.lost_bytes, place_of(batches.stop_error)


def place_of(error: FlatStreamError | None) -> Any:
    """What an error is, and where it came."""
    return None if error is None else (type(error).__name__, error.offset, error.frame)

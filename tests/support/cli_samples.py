"""Files and journals as the command line meets them, the same in each run."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatstream
from flatstream.schema import Table
from support.journal_folders import damage_frame, make_journal, tear

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
SCHEMA = EXAMPLES / "telemetry.bfbs"

# 2026-01-02T03:04:05Z, in nanoseconds.
BEGIN = 1_767_323_045_000_000_000


def root() -> Table:
    """The table of the events."""
    found = telemetry().root
    assert found is not None
    return found


def telemetry() -> flatstream.Schema:
    return flatstream.Schema.from_file(SCHEMA)


def write_events(path: Path, count: int = 50, checksum: str = "xxhash64", **options: Any) -> Path:
    """Writes telemetry events, ten a second; `options` are those of `flatstream.open`."""
    with flatstream.open(path, "w", checksum=checksum, **options) as writer:
        events = flatstream.RecordWriter(writer, root())
        for number in range(count):
            events.write(
                sequence=number, wall_time_ns=BEGIN + number * 100_000_000, host="abc"[number % 3], load_1=number / 4
            )
    return path


def described(**more: Any) -> dict[str, Any]:
    """The options by which a stream is written that describes itself, the same in each run."""
    description = flatstream.Description(
        telemetry(), created_ns=BEGIN, created_by="the tests", metadata={"site": "north", "rack": "7"}, **more
    )
    return {"describe": description}


def mixed_schemas() -> list[flatstream.Schema]:
    """Two schemas, each with one table that has a field for the time whose name says no unit."""
    texts = [
        'namespace mix; table Temp { time:ulong; celsius:float; } root_type Temp; file_identifier "TEMP";',
        'namespace mix; table Door { time:ulong; open:bool; } root_type Door; file_identifier "DOOR";',
    ]
    return [flatstream.Schema.from_fbs(text=text) for text in texts]


def write_mixed(path: Path, count: int = 1000) -> Path:
    """A stream of which every fifth message is a Door; one message a second."""
    temp, door = (schema.root for schema in mixed_schemas())
    assert temp is not None
    assert door is not None
    with flatstream.open(path, "w", checksum="crc32", describe=[temp, door]) as writer:
        temps, doors = (flatstream.RecordWriter(writer, table, file_identifier=True) for table in (temp, door))
        for number in range(count):
            (temps if number % 5 else doors).write(time=1_700_000_000 + number)
    return path


def damage(path: Path, offsets: Sequence[int], value: int = 0xFF) -> Path:
    """Overwrites single bytes."""
    with open(path, "r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(bytes([value]))
    return path


def make_samples(folder: Path) -> Path:
    """Writes one input of each kind into a folder.

    Streams with and without a checksum, a description and damage; what crashes leave; files of other formats; journals.
    """
    for checksum in ("crc32", "xxhash64", "none"):
        write_events(folder / f"{checksum}.fs", checksum=checksum)
    write_events(folder / "described.fs", **described())
    whole = (folder / "xxhash64.fs").read_bytes()
    (folder / "torn.fs").write_bytes(whole[:-5])
    (folder / "zeros.fs").write_bytes(whole + bytes(1000))
    (folder / "damaged.fs").write_bytes(whole)
    # The payloads of the first and of another frame, and the length of a third.
    damage(folder / "damaged.fs", [40, 500, 1819])
    (folder / "empty.fs").touch()
    # Not really compressed, so that each version of zlib writes the same.
    with gzip.GzipFile(folder / "compressed.fs.gz", "wb", compresslevel=0, mtime=0) as file:
        file.write((folder / "described.fs").read_bytes())
    shutil.copy(SCHEMA, folder / "telemetry.bfbs")
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    (folder / "table.parquet").write_bytes(b"PAR1" + bytes(range(1, 200)) + b"PAR1")
    (folder / "notes.txt").write_text("Nothing of interest\nin two lines\n")
    (folder / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (folder / "agent.fbs").write_text("namespace agent;\ntable Event { time_ns:ulong; }\nroot_type Event;\n")
    (folder / "random").write_bytes(bytes(number * number * 7 % 251 for number in range(3000)))
    with flatstream.open(folder / "xxhash64.fs", checksum="xxhash64") as reader:
        (folder / "message.bin").write_bytes(next(reader))
    make_journal(folder / "journal", [10, 10, 5], sealed=2)
    tear(make_journal(folder / "torn-journal", [10, 5], sealed=1)[-1])
    paths = make_journal(folder / "damaged-journal", [10, 10, 10, 5], sealed=3)
    damage_frame(paths[0], 3)
    os.unlink(paths[2])
    return folder


STREAMS = ("crc32.fs", "xxhash64.fs", "none.fs", "described.fs", "torn.fs", "zeros.fs", "damaged.fs", "empty.fs")
FOREIGN = (
    "telemetry.bfbs",
    "image.png",
    "table.parquet",
    "notes.txt",
    "rows.jsonl",
    "agent.fbs",
    "random",
    "message.bin",
)
JOURNALS = ("journal", "torn-journal", "damaged-journal")

"""A folder of sample inputs for the commands that show messages."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import flatstream
from flatstream.journal import JournalWriter, RotationPolicy
from support.events import event_stream, frames_of, write_events
from support.messages import flatbuffer_of_string

# The number of the event that is damaged in damaged.fs, and where its frame begins and ends there.
DAMAGED = 7
DAMAGED_RANGE = frames_of(event_stream(range(20)))[DAMAGED]


def make_inputs(folder: Path) -> Path:
    """Files and journals of the events 0 to 19: intact, torn, damaged, mixed, empty, compressed; a text."""
    intact = event_stream(range(20))
    (folder / "intact.fs").write_bytes(intact)
    (folder / "torn.fs").write_bytes(intact[:-5])
    damaged = bytearray(intact)
    damaged[DAMAGED_RANGE[0] + 30] ^= 1
    (folder / "damaged.fs").write_bytes(damaged)
    (folder / "empty.fs").write_bytes(b"")
    (folder / "text.fs").write_text("This is no stream.\n" * 20)
    with gzip.open(folder / "intact.fs.gz", "wb") as file:
        file.write(intact)
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink, "xxhash64") as writer:
        write_events(writer, range(3))
        writer.write_payload(b"\x08\x00\x00\x00ABCD" + bytes(8))
        # The identifier of an event, and no event.
        writer.write_payload(b"\x0c\x00\x00\x00TELE" + b"\xff" * 8)
        write_events(writer, range(3, 5))
    (folder / "others.fs").write_bytes(sink.getvalue())
    with flatstream.open(folder / "strings.fs", "w", checksum="crc32") as writer:
        writer.write_payloads([flatbuffer_of_string("one"), flatbuffer_of_string("two")])
    with JournalWriter(folder / "journal", "xxhash64", rotate=RotationPolicy(max_bytes=1500)) as journal:
        write_events(journal, range(20))
    return folder

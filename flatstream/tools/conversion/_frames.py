"""Frames in memory: the form in which sources without frames hand messages on, and messages that are selected."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from flatstream.reader import StreamReader
from flatstream.schema import Table
from flatstream.tools._fields import has_identifier
from flatstream.tools.conversion._options import Options
from flatstream.writer import StreamWriter

__all__ = ["PIECE_BYTES", "frames_of", "on_other", "prefixed", "selected_payloads", "unprefixed"]

# How many bytes of messages are in memory at a time, roughly.
PIECE_BYTES = 8 << 20

HEADER = 4


def frames_of(payloads: Iterable[Any]) -> memoryview:
    """The payloads as a stream without a checksum, in memory."""
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        writer.write_payloads(payloads)
    return sink.getbuffer()


def on_other(options: Options, table: Table | None) -> Literal["raise", "skip"]:
    """Messages of other tables are left out if one table was asked for, and can be told from others."""
    if options.table is None or table is None:
        return "raise"
    return "skip" if has_identifier(table) else "raise"


def selected_payloads(reader: StreamReader, table: Table | None, options: Options) -> Iterator[Any]:
    """The messages of a table for which a condition holds, in sequences of payloads; by default all."""
    other = on_other(options, table)
    for batch in reader.batches(max_bytes=PIECE_BYTES):
        if options.where is None and other == "raise":
            yield batch
            options.tick()
            continue
        assert table is not None
        frames = frames_of(batch)
        chosen = []
        with options.read_piece(frames) as inner:
            # Messages that are not looked into pass as they are.
            records = inner.records(table, where=options.where, on_other=other, verify=options.where is not None)
            for _ in records:
                begin = inner.message_offset
                size = int.from_bytes(frames[begin : begin + HEADER], "little")
                chosen.append(frames[begin + HEADER : begin + HEADER + size])
            options.losses.others += records.others
            options.losses.note(inner)
        yield chosen
        options.tick()
        if options.losses.stop_error is not None:
            return


# Size-prefixed messages count alignment from the prefix, which takes 4 bytes, and others from the message itself. The
# offset of the root table is the only one that leads across the first bytes of a message, so zeros behind it (and
# behind the file identifier, which has a fixed place) move all that is aligned.


def _insert(payload: Any, count: int, begin: int) -> bytes:
    root = int.from_bytes(payload[:4], "little") + count
    return b"".join((root.to_bytes(4, "little"), payload[4:begin], bytes(count), payload[begin:]))


def _begin(payload: Any, identifier: bytes) -> int:
    """Where zeros can be inserted: behind the offset of the root table, and the file identifier if there is one."""
    return 8 if identifier and payload[4:8] == identifier else 4


def prefixed(payload: Any, identifier: bytes, alignment: int) -> bytes:
    """A message as a size-prefixed one, with its prefix."""
    moved = _insert(payload, alignment - HEADER, _begin(payload, identifier))
    return len(moved).to_bytes(HEADER, "little") + moved


def unprefixed(payload: Any, identifier: bytes) -> bytes:
    """A size-prefixed message, given without its prefix, as an ordinary one."""
    return _insert(payload, HEADER, _begin(payload, identifier))

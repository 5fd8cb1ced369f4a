"""Writing columns and reading them back, in memory."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from typing import Any

import flatbuffers
import pytest

from flatstream import (
    ChecksumType,
    ColumnBatch,
    StreamReader,
    StreamWriter,
)
from flatstream._core.column_writer.writer import write_columns
from flatstream.schema import Table
from reference.records import read_message
from support.messages import (
    written_by,
)
from support.schemas import SHAPES, UNIONS


def messages_of(table: Table, columns: Any, framer: Any = None, **options: Any) -> list[bytes]:
    """Writes columns into memory; returns the messages, each of which the verifier has found good."""
    sink = io.BytesIO()
    with StreamWriter(sink, framer, **options) as writer:
        count = write_columns(writer, table.layout, table.number, columns)
        assert writer.frames_written == count
    deframer = framer if isinstance(framer, ChecksumType) else None
    messages = [bytes(payload) for payload in StreamReader(sink.getvalue(), deframer)]
    assert len(messages) == count
    for message in messages:
        assert table.types.verify(table.number, message) is None
    return messages


def records_of(table: Table, columns: Any, **options: Any) -> list[Any]:
    """What `messages_of` writes, read by the code that flatc generated, or by the package where there is none."""
    return [read_message(table, message) for message in messages_of(table, columns, **options)]


def write(table: Table, columns: Any, **options: Any) -> int:
    with StreamWriter(io.BytesIO(), **options) as writer:
        return write_columns(writer, table.layout, table.number, columns)


def values(table: Table, name: str, columns: Any) -> list[Any]:
    return [record[name] for record in records_of(table, columns)]


def refused(table: Table, columns: Any, kind: type[Exception], match: str, rows: int = 0) -> None:
    """Writing fails like this, after so many rows, which are there, and without a trace of any other."""
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        with pytest.raises(kind, match=match) as caught:
            write_columns(writer, table.layout, table.number, columns)
        assert type(caught.value) is kind
        assert caught.value.rows_written == rows  # type: ignore[attr-defined]
        assert writer.frames_written == rows
        # And it goes on as if nothing had been.
        writer.write_payload(b"the next")
    assert [bytes(payload) for payload in StreamReader(sink.getvalue())][rows:] == [b"the next"]


SHAPE = SHAPES.table("shapes.Shape")


def stream_of(payloads: Iterable[bytes], checksum: str = "none") -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, checksum) as writer:
        writer.write_payloads(list(payloads))
    return sink.getvalue()


def columns_of(payloads: Iterable[bytes], table: Any = SHAPE, *arguments: Any, **options: Any) -> ColumnBatch:
    batch = StreamReader(stream_of(payloads)).columns(table, *arguments, **options)
    assert isinstance(batch, ColumnBatch)
    return batch


LEVEL1 = SHAPES.table("shapes.Level1")


def named_message(name: bytes) -> bytes:
    def build(builder: Any) -> Any:
        text = builder.CreateByteVector(name + b"\0")
        builder.StartObject(3)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
        return builder.EndObject()

    payload = bytearray(written_by(flatbuffers.Builder, build))
    # The zero behind it is not of it.
    place = payload.index(struct.pack("<I", len(name) + 1) + name)
    payload[place : place + 4] = struct.pack("<I", len(name))
    return bytes(payload)


NAMED = SHAPES.table("shapes.Named")


SCALARS = SHAPES.table("shapes.Scalars")


OPTIONALS = SHAPES.table("shapes.Optionals")


VECTORS = SHAPES.table("shapes.Vectors")


STRUCTS = SHAPES.table("shapes.Structs")


TREE = SHAPES.table("shapes.Tree")


SHAPE_UNIONS = SHAPES.table("shapes.Unions")


ANY_ROOT = UNIONS.table("unions.Root")

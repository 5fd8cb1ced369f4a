"""The messages of records, built by `Table.encode` and `RecordWriter`."""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Callable
from typing import Any

from flatstream import (
    Builder,
    DefaultDeframer,
    RecordWriter,
    Schema,
    StreamReader,
    StreamWriter,
    TypedValidator,
)
from support.messages import root_at
from support.schemas import SHAPES


@dataclasses.dataclass
class NamedData:
    """A record of the table Named as a data class."""

    name: str
    note: str | None = None
    code: int = 0


def table_of(name: str, schema: Schema = SHAPES) -> Any:
    return schema.table(f"shapes.{name}")


def encoded(table: Any, record: Any) -> bytes:
    """The message of a record, which is sound."""
    builder = Builder(64)
    head = table.encode(builder, record)
    message = bytes(builder.Output())
    assert len(builder.Bytes) - head == len(message)
    assert table.types.verify(table.number, message) is None
    return message


def written(table: Any, write: Callable[[RecordWriter], Any]) -> list[bytes]:
    """The messages of a stream that `write` is given a record writer for."""
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        write(RecordWriter(writer, table))
    validator = TypedValidator.for_type(table.schema, table.name)
    return [bytes(payload) for payload in StreamReader(sink.getvalue(), DefaultDeframer().with_validator(validator))]


def slots_of(message: bytes) -> int:
    """How many fields the root table of a message has."""
    root = root_at(message)
    vtable = root - struct.unpack_from("<i", message, root)[0]
    size = struct.unpack_from("<H", message, vtable)[0]
    return sum(1 for place in range(vtable + 4, vtable + size, 2) if struct.unpack_from("<H", message, place)[0])

"""Batches and NumPy: one field of thousands of messages as an array, without a loop over messages.

A batch holds all frames that are available in one chunk. Its `offsets` and `lengths` locate the payloads in its
`buffer`; NumPy uses all three without a copy.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import io
from typing import Any

import numpy as np

from flatstream import Builder, ChecksumType, StreamReader, StreamWriter

COUNT = 5000


class Sample:
    """A table of two fields: a time, and a value that never equals its default, so that it is always stored."""

    def __init__(self, time_ns: int, value: float) -> None:
        self.time_ns = time_ns
        self.value = value

    def serialize(self, builder: Builder) -> None:
        builder.StartObject(2)
        builder.PrependUint64Slot(0, self.time_ns, 0)
        builder.PrependFloat64Slot(1, self.value, 0.0)
        builder.Finish(builder.EndObject())


def field_offset(payload: memoryview, field: int) -> int:
    """The offset of a table's field in the payload; 0 if the field is not stored."""
    root = int.from_bytes(payload[:4], "little")
    vtable = root - int.from_bytes(payload[root : root + 4], "little", signed=True)
    entry = vtable + 4 + 2 * field
    offset = int.from_bytes(payload[entry : entry + 2], "little")
    return root + offset if offset else 0


def column(buffer: Any, offsets: Any, offset: int) -> Any:
    """The 8 bytes at `offset` of each payload, as a float64 array."""
    indices = offsets[:, np.newaxis] + np.arange(offset, offset + 8)
    return buffer[indices].view("<f8")[:, 0]


def main() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumType.XXHASH64) as writer:
        writer.write_batch(Sample(1 + number, 1.0 + number / 2) for number in range(COUNT))
    sink.seek(0)

    columns = []
    batches = 0
    with StreamReader(sink, ChecksumType.XXHASH64, capacity=64 * 1024) as reader:
        for batch in reader.batches():
            buffer = np.asarray(batch.buffer)
            offsets, lengths = np.asarray(batch.offsets), np.asarray(batch.lengths)
            assert offsets.dtype == lengths.dtype == np.int64
            assert np.shares_memory(buffer, np.asarray(batch[0]))

            # Messages of one kind that store all fields have one layout: the same header, and the same field offsets.
            value_offset = field_offset(batch[0], 1)
            headers = buffer[offsets[:, np.newaxis] + np.arange(12)]
            assert (lengths == lengths[0]).all()
            assert (headers == headers[0]).all()

            columns.append(column(buffer, offsets, value_offset))
            batches += 1

    values = np.concatenate(columns)
    assert batches > 1
    assert values.tolist() == [1.0 + number / 2 for number in range(COUNT)]
    print(f"{values.size} values from {batches} batches: {values.min()} to {values.max()}, mean {values.mean()}")


if __name__ == "__main__":
    main()

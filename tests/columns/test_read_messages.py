"""`read_messages`: the loops that read columns, called directly, without a stream around them."""

from __future__ import annotations

import io
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatstream import Builder, FlatbufferError, Schema, StreamReader, StreamWriter
from flatstream._core.arrow.exporter import ColumnData
from flatstream._core.column_reader.extract import read_messages
from flatstream._core.column_reader.plan import ReadPlan
from flatstream._core.column_reader.reader import ColumnReader
from flatstream.columns import ColumnBatch
from support.extent import in_one_test

SCHEMA = Schema.from_file(Path(__file__).resolve().parents[2] / "examples" / "telemetry.bfbs")
EVENT = SCHEMA.table("telemetry.Event")
FIELDS = ["sequence", "host", "load_1"]


def plan_of(fields: list[str] | None = None) -> ReadPlan:
    return ReadPlan(EVENT.layout, EVENT.number, FIELDS if fields is None else fields)


def message(sequence: int, host: str) -> bytes:
    builder = Builder(64)
    text = builder.CreateString(host)
    builder.StartObject(60)
    builder.PrependUint64Slot(0, sequence, 0)
    builder.PrependUOffsetTRelativeSlot(EVENT.field_names.index("host"), text, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def side_by_side(messages: list[bytes], gap: int = 5) -> tuple[bytes, array[int], array[int]]:
    """The messages with other bytes around them, their offsets, and their lengths."""
    data, offsets, lengths = b"\xff" * gap, array("q"), array("q")
    for each in messages:
        offsets.append(len(data))
        lengths.append(len(each))
        data += each + b"\xff" * gap
    return data, offsets, lengths


MESSAGES = [message(number, f"host {number}") for number in range(10)]
DATA, OFFSETS, LENGTHS = side_by_side(MESSAGES)
ROWS = [{"sequence": number, "host": f"host {number}", "load_1": 0.0} for number in range(10)]


def rows_of(columns: ColumnData) -> list[dict[str, Any]]:
    return ColumnBatch(columns).to_pylist()


def test_messages_anywhere_in_memory_are_read() -> None:
    assert rows_of(read_messages(plan_of(), DATA, OFFSETS, LENGTHS)) == ROWS


def test_messages_in_any_order_and_more_than_once_are_read() -> None:
    chosen = [7, 2, 2, 9]
    offsets = array("q", (OFFSETS[i] for i in chosen))
    lengths = array("q", (LENGTHS[i] for i in chosen))
    assert rows_of(read_messages(plan_of(), DATA, offsets, lengths)) == [ROWS[i] for i in chosen]


@in_one_test
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_any_contiguous_unsigned_bytes_are_taken(kind: Any) -> None:
    offsets: Any = np.array(OFFSETS, np.int64)
    assert rows_of(read_messages(plan_of(), kind(DATA), offsets, memoryview(LENGTHS))) == ROWS


def test_frames_of_a_batch_are_taken_as_they_are() -> None:
    stream = io.BytesIO()
    with StreamWriter(stream) as writer:
        writer.write_payloads(MESSAGES)
    batch = StreamReader(stream.getvalue()).read_batch()
    assert batch is not None
    columns = read_messages(plan_of(), batch.buffer, batch.offsets, batch.lengths)
    assert rows_of(columns) == StreamReader(stream.getvalue()).columns(EVENT, FIELDS).to_pylist()


def test_columns_have_memory_of_their_own_and_no_view_is_left() -> None:
    data, offsets, lengths = bytearray(DATA), array("q", OFFSETS), array("q", LENGTHS)
    columns = read_messages(plan_of(), data, offsets, lengths)
    # These raise BufferError if a view is left.
    data.clear()
    offsets.pop()
    lengths.pop()
    assert rows_of(columns) == ROWS


def test_empty_memory_gives_columns_without_rows() -> None:
    none = array("q")
    for data in (b"", DATA):
        columns = read_messages(plan_of(), data, none, none)
        assert (columns.length, rows_of(columns)) == (0, [])
        assert [child.type.name for child in columns.children] == FIELDS
    assert rows_of(read_messages(plan_of([]), DATA, OFFSETS, LENGTHS)) == [{}] * 10


def test_message_without_bytes_is_damaged() -> None:
    zero = array("q", [0])
    with pytest.raises(FlatbufferError, match="event: the offset of the root at byte 0 needs 4 bytes"):
        read_messages(plan_of(), b"", zero, zero)


@in_one_test
@pytest.mark.parametrize("position", range(4))
def test_none_is_refused_for_every_argument(position: int) -> None:
    arguments: list[Any] = [plan_of(), DATA, OFFSETS, LENGTHS]
    arguments[position] = None
    with pytest.raises(TypeError, match=r"must not be None|got NoneType"):
        read_messages(*arguments)


@pytest.mark.parametrize("position", [1, 2, 3])
def test_strided_memory_is_refused(position: int) -> None:
    arguments: list[Any] = [plan_of(), DATA, OFFSETS, LENGTHS]
    whole = arguments[position]
    numbers = np.frombuffer(whole, np.uint8 if position == 1 else np.int64)
    for strided in (memoryview(whole)[::2], memoryview(whole)[::-1], numbers[::2], numbers[::-1]):
        arguments[position] = strided
        with pytest.raises((ValueError, BufferError), match="contiguous"):
            read_messages(*arguments)


@in_one_test
@pytest.mark.parametrize(
    ("position", "wrong"),
    [
        (1, np.zeros(100, np.int8)),
        (1, np.zeros(100, np.uint16)),
        (1, np.zeros((10, 10), np.uint8)),
        *((position, array(kind, [0] * 10)) for position in (2, 3) for kind in "bBhHiIQfd"),
        *((position, np.zeros((10, 1), np.int64)) for position in (2, 3)),
        *((position, bytes(80)) for position in (2, 3)),
    ],
)
def test_memory_of_another_type_is_refused(position: int, wrong: Any) -> None:
    arguments: list[Any] = [plan_of(), DATA, OFFSETS, LENGTHS]
    arguments[position] = wrong
    with pytest.raises(ValueError, match=r"Buffer dtype mismatch|wrong number of dimensions"):
        read_messages(*arguments)


@pytest.mark.parametrize("position", [1, 2, 3])
def test_object_without_a_buffer_is_refused(position: int) -> None:
    arguments: list[Any] = [plan_of(), DATA, OFFSETS, LENGTHS]
    arguments[position] = [1, 2, 3]
    with pytest.raises(TypeError):
        read_messages(*arguments)


@in_one_test
@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (-1, 4),
        (0, -1),
        (0, len(DATA) + 1),
        (len(DATA), 1),
        (len(DATA) + 1, 0),
        (1, 2**63 - 1),
        (2**63 - 1, 1),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), 2**63 - 1),
        (-(2**63), -(2**63)),
    ],
)
def test_message_outside_of_the_memory_is_refused(offset: int, length: int) -> None:
    offsets, lengths = array("q", OFFSETS), array("q", LENGTHS)
    offsets[3], lengths[3] = offset, length
    with pytest.raises(ValueError, match=f"message 3 has {length} bytes at {offset}, but the data has {len(DATA)}"):
        read_messages(plan_of(), DATA, offsets, lengths)


def test_as_many_lengths_as_offsets_are_needed() -> None:
    for offsets, lengths in ((OFFSETS[:9], LENGTHS), (OFFSETS, LENGTHS[:9]), (OFFSETS, array("q"))):
        with pytest.raises(ValueError, match=f"got {len(lengths)} and {len(offsets)}"):
            read_messages(plan_of(), DATA, offsets, lengths)


def test_first_damaged_message_is_named_and_the_plan_can_be_used_again() -> None:
    data = bytearray(DATA)
    for i in (8, 4):
        data[OFFSETS[i] : OFFSETS[i] + 4] = b"\xff" * 4
    plan = plan_of()
    with pytest.raises(FlatbufferError, match="a message cannot be read: event: a table at byte 4294967295") as caught:
        read_messages(plan, data, OFFSETS, LENGTHS)
    assert (caught.value.frame, caught.value.offset) == (4, OFFSETS[4])
    for _ in range(2):
        assert rows_of(read_messages(plan, DATA, OFFSETS, LENGTHS)) == ROWS


def test_no_byte_behind_a_message_is_read() -> None:
    # Cut short at every byte, with the rest of the message still behind it in memory.
    whole = message(1, "a host")
    for length in range(len(whole)):
        try:
            rows = rows_of(read_messages(plan_of(), whole, array("q", [0]), array("q", [length])))
        except FlatbufferError:
            continue
        # Only the zero byte after a string and padding are not looked at.
        assert rows == [{"sequence": 1, "host": "a host", "load_1": 0.0}]
        assert not any(whole[length:])


def test_plan_of_a_reader_and_half_made_plan_are_refused() -> None:
    plan = plan_of()
    ColumnReader(StreamReader(b""), plan)
    with pytest.raises(ValueError, match="this plan is in use"):
        read_messages(plan, DATA, OFFSETS, LENGTHS)
    with pytest.raises(TypeError, match=r"ReadPlan\.__init__ was not called"):
        read_messages(ReadPlan.__new__(ReadPlan), DATA, OFFSETS, LENGTHS)
    with pytest.raises(TypeError, match="plan"):
        read_messages(EVENT, DATA, OFFSETS, LENGTHS)  # type: ignore[arg-type]

"""A column of frame numbers beside the fields, and batches that have rows and no columns."""

from __future__ import annotations

import io
import struct
from typing import Any, Literal

import pytest

from flatstream import (
    Aes256Gcm,
    ChecksumFramer,
    CompressedFramer,
    Crc32,
    EncryptedFramer,
    FlatbufferError,
    Framer,
    Schema,
    StreamReader,
    StreamWriter,
    ZstdCompressor,
)
from flatstream.columns.stream import ColumnStream, make_reader, read_all
from reference.columns import bits
from support.columns import LEVEL1, SHAPE, stream_of
from support.extent import in_one_test
from support.messages import numbered_messages, sample_messages

COUNT = 3000
MESSAGES = numbered_messages(COUNT)
DAMAGED = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def numbers_of(
    reader: Any, table: Any = LEVEL1, where: Any = None, batch_rows: int | None = 1000, **options: Any
) -> Any:
    """Values and frame numbers of all rows, and the errors that came."""
    stream = table.read_column_batches(reader, ["value"], where, batch_rows=batch_rows, _numbers="frame", **options)
    values: list[int] = []
    numbers: list[int] = []
    errors: list[Any] = []
    while True:
        try:
            batch = next(stream)
        except StopIteration:
            return values, numbers, errors
        except FlatbufferError as error:
            errors.append(error.frame)
            continue
        assert batch.names == ("value", "frame")
        assert batch["frame"].type == "int64"
        assert batch["frame"].null_count == 0
        values += batch["value"].to_pylist()
        numbers += batch["frame"].to_pylist()


def one_by_one(stream: bytes, deframer: Any = None, **options: Any) -> dict[int, int]:
    """The value of each message by its `message_number`."""
    reader = StreamReader(stream, deframer, **options)
    found = {}
    for record in reader.records(LEVEL1):
        found[reader.message_number] = record.value
    return found


@in_one_test
@pytest.mark.parametrize("batch_rows", [None, 1, 7, 1000, 100_000])
def test_frames_are_numbered_as_messages_are(batch_rows: int | None) -> None:
    count = 100 if batch_rows == 1 else COUNT
    values, numbers, errors = numbers_of(StreamReader(stream_of(MESSAGES[:count])), batch_rows=batch_rows)
    assert values == numbers == list(range(count))
    assert not errors


def test_rows_that_conditions_select_keep_their_numbers() -> None:
    where = [("value", 500, 2500), ("value", "not in", [600, 601, 1999])]
    values, numbers, _ = numbers_of(StreamReader(stream_of(MESSAGES)), where=where)
    assert numbers == values == [i for i in range(500, 2500) if i not in (600, 601, 1999)]


def test_messages_read_before_count() -> None:
    reader = StreamReader(stream_of(MESSAGES[:50]))
    for _ in range(3):
        reader.read_message()
    reader.read_batch(4)
    assert numbers_of(reader)[1] == list(range(7, 50))


@in_one_test
@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("verify", [False, True])
def test_damaged_messages_count(on_error: Literal["raise", "skip"], verify: bool) -> None:
    damaged = [0, 5, 6, 999, 1000, 1500, COUNT - 1]
    messages = list(MESSAGES)
    for i in damaged:
        messages[i] = DAMAGED
    good = [i for i in range(COUNT) if i not in damaged]
    values, numbers, errors = numbers_of(StreamReader(stream_of(messages)), on_error=on_error, verify=verify)
    assert values == numbers == good
    assert errors == (damaged if on_error == "raise" else [])


@in_one_test
@pytest.mark.parametrize("on_error", ["skip", "resync"])
def test_refused_frames_count_as_they_do_for_messages(on_error: Literal["skip", "resync"]) -> None:
    stream = bytearray(stream_of(MESSAGES, "xxhash64"))
    # A wrong checksum in some frames, and for "resync" a wrong length, so that a range is searched.
    begins, begin = [], 0
    while begin < len(stream):
        begins.append(begin)
        begin += 12 + struct.unpack_from("<I", stream, begin)[0]
    for i in (3, 4, 1700):
        stream[begins[i] + 5] ^= 1
    if on_error == "resync":
        stream[begins[40] + 3] ^= 0x70
        stream[begins[41] + 3] ^= 0x70
    expected = one_by_one(bytes(stream), "xxhash64", on_error=on_error)
    values, numbers, _ = numbers_of(StreamReader(bytes(stream), "xxhash64", on_error=on_error))
    assert dict(zip(numbers, values, strict=True)) == expected
    assert len(values) == COUNT - (5 if on_error == "resync" else 3)


def test_messages_of_other_tables_count() -> None:
    table: Any = Schema.from_fbs(text='table A { value: int; } root_type A; file_identifier "AAAA";').root
    mine = [table.from_json(f'{{"value": {i}}}', file_identifier=True) for i in range(100)]
    other = mine[1].replace(b"AAAA", b"BBBB")
    assert other != mine[1]
    messages = [other if i % 7 == 3 else each for i, each in enumerate(mine)]
    values, numbers, _ = numbers_of(StreamReader(stream_of(messages)), table, on_other="skip")
    assert values == numbers == [i for i in range(100) if i % 7 != 3]


@in_one_test
@pytest.mark.parametrize("kind", ["described", "compressed", "encrypted"])
def test_frames_that_are_no_messages_do_not_count(kind: str) -> None:
    cipher = Aes256Gcm(bytes(32)) if kind == "encrypted" else None
    framer: Framer = ChecksumFramer(Crc32())
    if kind == "compressed":
        framer = CompressedFramer(framer, ZstdCompressor())
    if cipher is not None:
        framer = EncryptedFramer(framer, cipher)
    sink = io.BytesIO()
    with StreamWriter(sink, framer, describe=LEVEL1) as writer:
        writer.write_payloads(MESSAGES)
    reader = StreamReader(sink.getvalue(), "crc32", cipher=cipher)
    values, numbers, _ = numbers_of(reader)
    assert values == numbers == list(range(COUNT))


def test_all_at_once_has_numbers_too() -> None:
    batch = read_all(make_reader(StreamReader(stream_of(MESSAGES)), LEVEL1, ["value"], None, "n"))
    assert batch["n"].to_pylist() == list(range(COUNT))
    batch.to_arrow().validate(full=True)
    empty = read_all(make_reader(StreamReader(b""), LEVEL1, ["value"], None, "n"))
    assert empty.to_pylist() == []
    assert empty.schema.types == (batch.schema.types[0], "int64")


def test_numbers_come_behind_fields_of_every_type() -> None:
    messages = sample_messages(20)
    stream = ColumnStream(make_reader(StreamReader(stream_of(messages)), SHAPE, None, None, "frame number"))
    plain = ColumnStream(make_reader(StreamReader(stream_of(messages)), SHAPE))
    assert stream.schema.names == (*plain.schema.names, "frame number")
    assert stream.schema.metadata == plain.schema.metadata
    batch, expected = next(stream), next(plain)
    table = batch.to_arrow()
    table.validate(full=True)
    assert table.column("frame number").to_pylist() == list(range(20))
    rows = batch.to_pylist()
    assert [row.pop("frame number") for row in rows] == list(range(20))
    # (NaN is not equal to itself.)
    assert bits(rows) == bits(expected.to_pylist())


def test_name_of_a_selected_field_is_refused() -> None:
    with pytest.raises(ValueError, match="must have another name than the field 'value'"):
        make_reader(StreamReader(b""), LEVEL1, ["value"], None, "value")
    with pytest.raises(TypeError):
        make_reader(StreamReader(b""), LEVEL1, ["value"], None, 5)  # type: ignore[arg-type]
    # A field that is not selected leaves its name free.
    assert make_reader(StreamReader(b""), LEVEL1, [], None, "value").type.children[0].format == "l"


# Rows without columns


@in_one_test
@pytest.mark.parametrize("where", [None, ("value", 100, 200)])
def test_no_fields_give_rows_without_columns(where: Any) -> None:
    reader = StreamReader(stream_of(MESSAGES))
    batches = list(reader.column_batches(LEVEL1, [], where, batch_rows=40))
    count = COUNT if where is None else 100
    assert sum(batch.num_rows for batch in batches) == count
    assert all(batch.names == () and len(batch) == 0 for batch in batches)
    assert all(batch.num_rows == 40 for batch in batches[:-1])
    whole = StreamReader(stream_of(MESSAGES)).columns(LEVEL1, [], where)
    assert whole.num_rows == count
    table = whole.to_arrow()
    assert (table.num_rows, table.num_columns) == (count, 0)
    assert whole[10:20].num_rows == 10


def test_no_fields_still_notice_damage() -> None:
    messages = [*MESSAGES[:5], DAMAGED, *MESSAGES[6:9]]
    assert StreamReader(stream_of(messages)).columns(LEVEL1, [], on_error="skip").num_rows == 8
    with pytest.raises(FlatbufferError, match="a message cannot be read"):
        StreamReader(stream_of(messages)).columns(LEVEL1, [])


def test_numbers_alone_are_possible() -> None:
    batch = read_all(make_reader(StreamReader(stream_of(MESSAGES[:9])), LEVEL1, [], ("value", 3, None), "frame"))
    assert batch.to_pylist() == [{"frame": i} for i in range(3, 9)]

"""Damage in columns: an error or a row for any byte, and no harm to the rows around it."""

from __future__ import annotations

import functools
import io
import random
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import flatbuffers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatstream
from flatstream import (
    ChecksumMismatchError,
    ColumnStream,
    DefaultDeframer,
    FlatbufferError,
    SizeValidator,
    StreamReader,
    TypedValidator,
    UnexpectedEofError,
    ValidationFailedError,
)
from reference.columns import Reference, bits
from support.columns import LEVEL1, NAMED, SHAPE, columns_of, named_message, stream_of
from support.extent import in_one_test, spread
from support.messages import (
    event_payloads,
    grid_message,
    message,
    numbered_messages,
    sample_messages,
    union_message,
    written_by,
)
from support.schemas import SHAPES, generated, schema_of

# Damage


def outcomes(stream: ColumnStream) -> Iterator[Any]:
    """Rows and errors, as they come."""
    while True:
        try:
            batch = next(stream, None)
        except (FlatbufferError, ChecksumMismatchError, ValidationFailedError) as error:
            yield error
            continue
        if batch is None:
            return
        yield from batch.to_pylist()


def damaged_versions(payload: bytes, seed: int) -> Iterator[bytes]:
    """Each byte of a message changed, in some ways; of a long one in fewer."""
    rng = random.Random(seed)
    for place in range(len(payload)):
        old = payload[place]
        ways = sorted({0, 0xFF, old ^ 0x80, old ^ 1, (old + 4) & 0xFF, rng.randrange(256)} - {old})
        for new in rng.sample(ways, min(len(ways), max(1, 1500 // len(payload)))):
            yield payload[:place] + bytes([new]) + payload[place + 1 :]


@functools.cache
def rich_messages() -> tuple[tuple[str, str, bytes], ...]:
    schema = "shapes"
    found = [(schema, "shapes.Shape", grid_message(2))]
    samples = sample_messages(60)
    found += [(schema, "shapes.Shape", each) for each in (samples[0], samples[len(samples) // 2])]
    found.append(
        ("unions", "unions.Holder", union_message([(1, 1.5, "one"), (5, 0.0, "text"), (4, 2.5, ""), (2, 1.0, "x")]))
    )
    found.append(("telemetry", "telemetry.Event", event_payloads(1)[0]))
    return tuple(found)


@pytest.mark.parametrize("number", range(5))
def test_damage_at_any_byte_gives_an_error_or_a_row_and_harms_no_other_row(number):
    name, table_name, payload = rich_messages()[number]
    schema = schema_of(name)
    table = schema.table(table_name)
    reference = Reference(schema)
    # Columns compare the file identifier, which only the message of an event has.
    validator = TypedValidator.for_type(schema, table_name, identifier=name == "telemetry")
    versions = spread(damaged_versions(payload, number), 9)
    good = reference.record(table_name, payload)
    stream = StreamReader(stream_of(each for version in versions for each in (version, payload))).column_batches(table)
    found = list(outcomes(stream))
    assert len(found) == 2 * len(versions)
    refused = accepted = 0
    for version, outcome, neighbour in zip(versions, found[::2], found[1::2], strict=True):
        assert bits(neighbour) == bits(good)
        try:
            validator.validate(version)
        except ValidationFailedError:
            sound = False
        else:
            sound = True
        if sound:
            # What the verifier accepts can be read, and says what it says.
            accepted += 1
            assert not isinstance(outcome, Exception), outcome
            assert bits(outcome) == bits(reference.record(table_name, version))
        elif isinstance(outcome, FlatbufferError):
            refused += 1
            assert outcome.frame is not None
            assert re.match(r"a message cannot be read: \w+(\.\w+)*: \w", str(outcome))
    assert accepted
    assert refused
    # The same, with those that cannot be read left out.
    batch = columns_of([each for version in versions for each in (version, payload)], table, on_error="skip")
    assert batch.skipped == refused
    assert bits(batch.to_pylist()) == bits([each for each in found if not isinstance(each, Exception)])
    # And verified first: only what the verifier accepts is left.
    verified = columns_of(versions, table, on_error="skip", verify=True)
    assert (verified.num_rows, verified.skipped) == (accepted, len(versions) - accepted)


def test_any_cut_of_a_message_gives_an_error_or_a_row():
    for name, table_name, payload in rich_messages():
        table = schema_of(name).table(table_name)
        batch = columns_of([payload[:size] for size in range(len(payload))] + [payload], table, on_error="skip")
        assert batch.num_rows + batch.skipped == len(payload) + 1
        assert bits(batch.to_pylist()[-1]) == bits(Reference(schema_of(name)).record(table_name, payload))


@settings(max_examples=60)
@given(st.binary(max_size=120), st.booleans())
def test_random_bytes_give_an_error_or_a_row(data, verify):
    batch = columns_of([data, sample_messages(1)[0]], SHAPE, on_error="skip", verify=verify)
    assert batch.num_rows + batch.skipped == 2
    assert batch.num_rows >= 1
    batch.to_arrow().validate(full=True)


def test_error_says_where_and_rows_before_it_come_first_and_reading_goes_on_behind_it():
    payloads = numbered_messages(20)
    payloads[7] = b"\xff" * 12
    payloads[8] = b"\1"
    payloads[19] = b""
    stream = stream_of(payloads, "crc32")
    reader = StreamReader(stream, "crc32")
    batches = reader.column_batches(LEVEL1, ["value"])
    assert next(batches)["value"].to_pylist() == list(range(7))
    begin = sum(8 + len(each) for each in payloads[:7])
    for frame, offset, text in [
        (7, begin, "level1: a table at byte 4294967295 needs 4 bytes, but the message ends at 12"),
        (8, begin + 20, "level1: the offset of the root at byte 0 needs 4 bytes, but the message ends at 1"),
    ]:
        with pytest.raises(FlatbufferError) as caught:
            next(batches)
        assert (caught.value.frame, caught.value.offset) == (frame, offset)
        assert text in str(caught.value)
    assert next(batches)["value"].to_pylist() == list(range(9, 19))
    with pytest.raises(FlatbufferError, match="frame 19"):
        next(batches)
    assert next(batches, None) is None
    # All at once: the error, and reading goes on behind it.
    reader = StreamReader(stream, "crc32")
    with pytest.raises(FlatbufferError, match="frame 7"):
        reader.columns(LEVEL1, ["value"])


FIRST = [
    (
        "nothing was read before it: was the stream written with another checksum (flatstream.detect tells), "
        "or with another schema?"
    )
]


def notes_of(stream: bytes, checksum: str = "none", **options: Any) -> list[list[str]]:
    """The notes of each error of a stream."""
    batches = StreamReader(stream, checksum).column_batches(LEVEL1, ["value"], **options)
    found: list[list[str]] = []
    while True:
        try:
            if next(batches, None) is None:
                return found
        except FlatbufferError as error:
            found.append(getattr(error, "__notes__", []))


@pytest.mark.parametrize("verify", [True, False])
def test_error_of_the_first_message_asks_for_the_checksum_and_the_schema(verify):
    good, bad = numbered_messages(3), b"\xff" * 12
    # The checksum was forgotten.
    with pytest.raises(FlatbufferError) as caught:
        StreamReader(stream_of(good, "crc32")).columns(LEVEL1, ["value"], verify=verify)
    assert caught.value.__notes__ == FIRST
    assert notes_of(stream_of([bad, *good, bad]), verify=verify) == [FIRST, []]
    assert notes_of(stream_of([good[0], bad, *good]), verify=verify) == [[]]
    assert notes_of(stream_of([bad, good[0]]), verify=verify, on_error="skip") == []
    # Of the path to a filter as well; and what it leaves out was read.
    assert notes_of(stream_of([bad]), verify=verify, where=("value", 0, 1)) == [FIRST]
    assert notes_of(stream_of([good[1], bad]), verify=verify, where=("value", 0, 1)) == [[]]
    # What was read in another way, or refused, came before it.
    reader = StreamReader(stream_of([good[0], bad]))
    reader.read_message()
    with pytest.raises(FlatbufferError) as caught:
        reader.columns(LEVEL1, ["value"], verify=verify)
    assert not hasattr(caught.value, "__notes__")
    stream = bytearray(stream_of([good[0], bad], "crc32"))
    stream[20] ^= 1
    reader = StreamReader(bytes(stream), "crc32")
    with pytest.raises(ChecksumMismatchError):
        reader.read_message()
    with pytest.raises(FlatbufferError) as caught:
        reader.columns(LEVEL1, ["value"], verify=verify)
    assert not hasattr(caught.value, "__notes__")


def test_frame_numbers_count_frames_that_were_refused():
    payloads = numbered_messages(6)
    payloads[4] = b"\xff" * 12
    stream = bytearray(stream_of(payloads, "crc32"))
    stream[4] ^= 1
    reader = StreamReader(bytes(stream), "crc32")
    batches = reader.column_batches(LEVEL1, ["value"])
    with pytest.raises(ChecksumMismatchError, match="frame 0"):
        next(batches)
    assert next(batches)["value"].to_pylist() == [1, 2, 3]
    with pytest.raises(FlatbufferError, match="frame 4") as caught:
        next(batches)
    assert caught.value.offset == sum(8 + len(each) for each in payloads[:4])
    assert next(batches)["value"].to_pylist() == [5]


def test_missing_required_field_is_damage():
    builder = flatbuffers.Builder(16)
    builder.StartObject(3)
    builder.PrependUint32Slot(2, 5, 0)
    builder.Finish(builder.EndObject())
    payload = bytes(builder.Output())
    with pytest.raises(FlatbufferError, match=r"named\.name: a required field, missing from the table at byte \d+ \("):
        columns_of([payload], NAMED)
    # Of what is not read, nothing is asked.
    assert columns_of([payload], NAMED, ["code"])["code"].to_pylist() == [5]
    with pytest.raises(FlatbufferError, match=r"named\.name: a required field is missing from the table"):
        columns_of([payload], NAMED, ["code"], verify=True)


def test_verification_sees_what_reading_does_not_look_at():
    payload = named_message(b"text").replace(b"text\0", b"text\1")
    assert columns_of([payload], NAMED, ["name"])["name"].to_pylist() == ["text"]
    with pytest.raises(FlatbufferError, match=r"named\.name: the string at byte .* has no zero byte") as caught:
        columns_of([named_message(b"a"), payload], NAMED, ["code"], verify=True)
    assert caught.value.frame == 1
    batch = columns_of([payload, named_message(b"a"), payload], NAMED, ["name"], verify=True, on_error="skip")
    assert (batch["name"].to_pylist(), batch.skipped) == (["a"], 2)


@in_one_test
@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("where", [None, ("value", 2, 9)])
def test_frames_that_fail_their_checksum_and_damaged_messages_are_skipped_and_counted(verify, where):
    payloads = numbered_messages(12)
    payloads[5] = b"\xff" * 12
    stream = bytearray(stream_of(payloads, "crc32"))
    for frame in (0, 1, 7, 11):
        stream[sum(8 + len(each) for each in payloads[:frame]) + 4] ^= 1
    expected = [number for number in range(12) if number not in (0, 1, 5, 7, 11) and (not where or 2 <= number < 9)]
    for source in (bytes(stream), io.BytesIO(stream)):
        options: dict[str, Any] = {"on_error": "skip", "verify": verify}
        batch = StreamReader(source, "crc32").columns(LEVEL1, ["value"], where, **options)
        assert (batch["value"].to_pylist(), batch.skipped) == (expected, 5)
    batches = StreamReader(bytes(stream), "crc32").column_batches(LEVEL1, ["value"], where, batch_rows=2, **options)
    found = list(batches)
    assert [value for each in found for value in each["value"].to_pylist()] == expected
    assert sum(each.skipped for each in found) == batches.skipped == 5


def test_what_a_validator_refuses_is_skipped():
    payloads = numbered_messages(6)
    longest = max(map(len, payloads))
    deframer = DefaultDeframer().with_validator(SizeValidator(1, longest - 1))
    batch = StreamReader(stream_of(payloads), deframer).columns(LEVEL1, ["value"], on_error="skip")
    assert batch["value"].to_pylist() == [number for number in range(6) if len(payloads[number]) < longest]
    assert batch.skipped == 6 - batch.num_rows > 0


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_torn_stream_gives_the_rows_before_it_and_then_its_error_again_and_again(on_error):
    stream = stream_of(numbered_messages(5))[:-3]
    for source in (stream, io.BytesIO(stream)):
        batches = StreamReader(source).column_batches(LEVEL1, ["value"], on_error=on_error)
        assert next(batches)["value"].to_pylist() == [0, 1, 2, 3]
        for _ in range(2):
            with pytest.raises(UnexpectedEofError):
                next(batches)
    with pytest.raises(UnexpectedEofError):
        StreamReader(stream).columns(LEVEL1, on_error=on_error)


class Faulty(io.RawIOBase):
    """Gives a stream in pieces, and in between what it is told to raise."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.pieces:
            return 0
        piece = self.pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        buffer[: len(piece)] = piece
        return len(piece)


def test_fault_of_the_source_comes_after_the_rows_before_it():
    stream = stream_of(numbered_messages(6))
    batches = StreamReader(Faulty([stream, OSError(5, "broken")])).column_batches(LEVEL1, ["value"])
    assert next(batches)["value"].to_pylist() == list(range(6))
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            next(batches)


def test_source_that_has_no_data_now_loses_nothing():
    stream = stream_of(numbered_messages(6))
    source = Faulty([stream[:70], BlockingIOError(), BlockingIOError(), stream[70:]])
    batches = StreamReader(source).column_batches(LEVEL1, ["value"])
    first = next(batches)["value"].to_pylist()
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            next(batches)
    assert first + next(batches)["value"].to_pylist() == list(range(6))


def test_interrupt_loses_no_rows():
    stream = stream_of(numbered_messages(6))
    batches = StreamReader(Faulty([stream[:70], KeyboardInterrupt(), stream[70:]])).column_batches(LEVEL1, ["value"])
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    # Two whole frames had arrived. How much the source had given of the next, nobody knows.
    assert next(batches)["value"].to_pylist() == [0, 1]
    with pytest.raises(flatstream.FlatStreamError, match="interrupted inside the source"):
        next(batches)


def test_batches_of_what_is_at_hand_follow_a_slow_source():
    pieces = [stream_of([each]) for each in numbered_messages(4)]
    source = Faulty(list(pieces))
    batches = StreamReader(source).column_batches(LEVEL1, ["value"], batch_rows=None)
    assert [batch["value"].to_pylist() for batch in batches] == [[0], [1], [2], [3]]


def repeating_message(width: int, text: bytes) -> bytes:
    """A Vectors whose vector of strings has the same string again and again, as no honest writer needs it."""

    def build(builder: Any) -> Any:
        string = builder.CreateString(text)
        builder.StartVector(4, width, 4)
        for _ in range(width):
            builder.PrependUOffsetTRelative(string)
        strings = builder.EndVector()
        builder.StartObject(24)
        builder.PrependUOffsetTRelativeSlot(14, strings, 0)
        return builder.EndObject()

    return written_by(flatbuffers.Builder, build)


def test_message_that_repeats_a_string_in_every_element_is_read_up_to_a_limit():
    table = SHAPES.table("shapes.Vectors")
    batch = columns_of([repeating_message(1000, b"shared" * 10)], table, ["strings"])
    assert batch["strings"].to_pylist() == [["shared" * 10] * 1000]
    bomb = repeating_message(20_000, b"x" * 100_000)
    with pytest.raises(FlatbufferError, match=r"vectors\.strings: more repeated bytes than the limit, in a vector"):
        columns_of([bomb], table, ["strings"])
    tracemalloc.start()
    batch = columns_of([bomb, message(generated("Vectors").VectorsT())], table, ["strings"], on_error="skip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (batch.num_rows, batch.skipped) == (1, 1)
    assert peak < 400 * len(bomb)

"""What users rely on first: writing and reading, their own strategies, batches, checksums, simple and expert mode."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

import flatstream
from flatstream import (
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    ChecksumType,
    DefaultDeframer,
    DefaultFramer,
    FlatbufferError,
    FlatStreamError,
    InvalidFrameError,
    Packable,
    StreamReader,
    StreamSerialize,
    StreamWriter,
    UnexpectedEofError,
    ValidationFailedError,
)
from reference import framing as reference
from support.extent import in_one_test
from support.items import finished_builder
from support.memory import address
from support.messages import flatbuffer_of_string
from support.modes import MODES, Mode, every_mode
from support.python_strategies import CheckedMagicDeframer, MagicFramer
from support.sinks import PlainSink
from support.streams import corpus, flip, read_all

every_checksum_type = pytest.mark.parametrize("checksum_type", list(ChecksumType))


# Writing, reading, flushing, detaching, errors


@in_one_test
@every_checksum_type
def test_checksum_type_is_accepted_as_framer_and_deframer(checksum_type: ChecksumType) -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, checksum_type) as writer:
        writer.write_payloads([b"abc", b""])
    assert sink.getvalue() == reference.encode([b"abc", b""], checksum_type.value)
    with StreamReader(sink.getvalue(), checksum_type) as reader:
        assert list(reader) == [b"abc", b""]


@in_one_test
@every_checksum_type
def test_checksum_type_is_accepted_by_open(checksum_type: ChecksumType, tmp_path: Path) -> None:
    ways: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"checksum": checksum_type}, {"checksum": checksum_type.value}),
        ({"framer": checksum_type}, {"deframer": checksum_type}),
        ({"checksum": checksum_type.checksum()}, {"checksum": checksum_type}),
    ]
    for number, (writing, reading) in enumerate(ways):
        path = tmp_path / f"{number}.fs"
        with flatstream.open(path, "w", **writing) as writer:
            writer.write_payload(b"abc")
        assert path.read_bytes() == reference.encode([b"abc"], checksum_type.value)
        with flatstream.open(path, **reading) as reader:
            assert list(reader) == [b"abc"]


def test_write_message_writes_and_resets_the_builder() -> None:
    sink = PlainSink()
    builder = finished_builder("first")
    with StreamWriter(sink) as writer:
        writer.write_message(builder)
        assert not builder.finished
        assert builder.Head() == len(builder.Bytes)
        # The next message is built without a Clear() of the caller's.
        builder.Finish(builder.CreateString("second"))
        writer.write_message(builder)
    assert sink.arrived() == reference.encode(map(flatbuffer_of_string, ["first", "second"]), "none")


def test_write_message_that_fails_leaves_the_builder_as_it_was() -> None:
    builder = finished_builder("too long")
    sink = PlainSink()
    with StreamWriter(sink, DefaultFramer().bounded(3)) as writer, pytest.raises(InvalidFrameError):
        writer.write_message(builder)
    assert builder.finished
    assert builder.Output() == flatbuffer_of_string("too long")
    assert sink.arrived() == b""


def test_read_message_gives_messages_and_then_none() -> None:
    with StreamReader(corpus(MODES["crc32"], [b"a", b"", b"bc"]).data, ChecksumType.CRC32) as reader:
        messages: list[Any] = [reader.read_message() for _ in range(6)]
    assert messages == [b"a", b"", b"bc", None, None, None]


def test_iteration_gives_messages_and_stops() -> None:
    with StreamReader(corpus(MODES["crc32"], [b"a", b"", b"bc"]).data, ChecksumType.CRC32) as reader:
        assert iter(reader) is reader
        assert list(reader) == [b"a", b"", b"bc"]
        assert list(reader) == []


def test_flush_hands_everything_to_the_sink_and_flushes_it() -> None:
    class Sink(PlainSink):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    sink = Sink()
    with StreamWriter(sink) as writer:
        writer.write_payload(b"abc")
        assert sink.arrived() == b""
        writer.flush()
        assert (sink.arrived(), sink.flushed) == (b"\x03\x00\x00\x00abc", 1)


def test_detach_gives_back_the_sink_and_what_reading_left() -> None:
    # The crate's into_inner.
    sink = io.BytesIO()
    writer = StreamWriter(sink)
    writer.write_payload(b"abc")
    assert writer.detach() is sink
    assert sink.getvalue() == b"\x03\x00\x00\x00abc"
    assert writer.closed

    source = io.BytesIO(sink.getvalue() + b"and more")
    reader = StreamReader(source, DefaultDeframer())
    assert bytes(next(reader)) == b"abc"
    assert reader.detach() == (source, b"and more")
    assert reader.closed
    assert not source.closed


@in_one_test
@pytest.mark.parametrize(
    ("error", "bases", "fields"),
    [
        (InvalidFrameError, [ValueError], ["declared_len", "buffer_len", "limit"]),
        (ChecksumMismatchError, [ValueError], ["expected", "calculated"]),
        (UnexpectedEofError, [EOFError], ["needed", "got"]),
        (ValidationFailedError, [ValueError], ["validator", "reason"]),
        (FlatbufferError, [ValueError], []),
    ],
)
def test_error_tree(error: type[FlatStreamError], bases: list[type], fields: list[str]) -> None:
    assert issubclass(error, FlatStreamError)
    for base in bases:
        assert issubclass(error, base)
    # A device's error is none of ours.
    assert not issubclass(error, OSError)
    raised = error("what happened", offset=7, frame=2)
    assert (raised.message, raised.offset, raised.frame) == ("what happened", 7, 2)
    assert str(raised) == "what happened (frame 2, stream offset 7)"
    for field in fields:
        assert hasattr(raised, field)


def test_checksum_mismatch_carries_expected_and_calculated() -> None:
    with StreamReader(flip(corpus(MODES["crc32"], [b"123456789"]).data, 32), ChecksumType.CRC32) as reader:
        with pytest.raises(ChecksumMismatchError) as caught:
            reader.read_message()
        assert (caught.value.expected, caught.value.calculated) == (0xCBF43927, 0xCBF43926)
        assert str(caught.value) == (
            "checksum mismatch: the frame stores 0xcbf43927, its payload gives 0xcbf43926 (frame 0, stream offset 0)"
        )


@in_one_test
@every_mode
def test_clean_end_is_distinct_from_a_torn_end(mode: Mode) -> None:
    stream = corpus(mode, [b"abc", b"def"])
    assert read_all(stream.data, mode.deframer()) == ([b"abc", b"def"], None)
    payloads, error = read_all(stream.data[:-1], mode.deframer())
    assert payloads == [b"abc"]
    assert isinstance(error, UnexpectedEofError)


def test_buffers_are_reused() -> None:
    with StreamWriter(PlainSink(), capacity=4096) as writer:
        builder = writer.builder
        for number in range(100):
            writer.write(f"message {number}")
        assert writer.builder is builder
        assert len(builder.Bytes) == 4096
    with StreamReader(io.BytesIO(corpus(MODES["none"], [b"x" * 50] * 1000).data), capacity=1024) as reader:
        for _ in reader:
            assert reader.buffer_capacity == 1024


# Items and strategies that users write


class Event:
    """An application's object that builds its own message."""

    def __init__(self, number: int) -> None:
        self.number = number

    def serialize(self, builder: Any) -> None:
        builder.StartObject(1)
        builder.PrependUint64Slot(0, self.number, 0)
        builder.Finish(builder.EndObject())


class PackedEvent:
    """What flatc's object API makes: it builds the table and leaves it to others to finish the message."""

    def __init__(self, number: int) -> None:
        self.number = number

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name is flatc's
        builder.StartObject(1)
        builder.PrependUint64Slot(0, self.number, 0)
        return int(builder.EndObject())


def event_bytes(number: int) -> bytes:
    builder = flatbuffers.Builder(64)
    Event(number).serialize(builder)
    return bytes(builder.Output())


@in_one_test
@pytest.mark.parametrize(
    ("item", "payload"),
    [
        ("a string", flatbuffer_of_string("a string")),
        ("", flatbuffer_of_string("")),
        ("\u00fc\u4e2d\U0001f600", flatbuffer_of_string("\u00fc\u4e2d\U0001f600")),
        (Event(7), event_bytes(7)),
        (PackedEvent(7), event_bytes(7)),
    ],
    ids=["str", "empty str", "unicode str", "serialize", "Pack"],
)
def test_write_takes_every_kind_of_item(item: Any, payload: bytes) -> None:
    sink = PlainSink()
    with StreamWriter(sink) as writer:
        writer.write(item)
    assert sink.arrived() == reference.encode([payload], "none")


def test_items_are_recognised_by_their_protocols() -> None:
    assert isinstance(Event(1), StreamSerialize)
    assert isinstance(PackedEvent(1), Packable)
    assert not isinstance(PackedEvent(1), StreamSerialize)
    assert not isinstance(b"bytes", StreamSerialize)


def test_item_that_raises_writes_nothing() -> None:
    class Broken:
        def serialize(self, builder: Any) -> None:
            builder.StartObject(1)
            raise LookupError("no such sensor")

    sink = PlainSink()
    with StreamWriter(sink) as writer:
        with pytest.raises(LookupError, match="no such sensor"):
            writer.write(Broken())
        assert (writer.frames_written, writer.bytes_written) == (0, 0)
        # The half-built message is gone from the builder, too.
        writer.write(Event(3))
    assert sink.arrived() == reference.encode([event_bytes(3)], "none")


def test_framer_and_deframer_are_open_to_subclassing() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, MagicFramer(ChecksumFramer(flatstream.Crc16()))) as writer:
        writer.write_payloads([b"abc", b""])
    assert sink.getvalue() == bytes.fromhex("4d414743 03000000 d69d 616263  4d414743 00000000 0000")
    deframer = CheckedMagicDeframer(ChecksumDeframer(flatstream.Crc16()))
    assert read_all(sink.getvalue(), deframer) == ([b"abc", b""], None)
    payloads, error = read_all(flip(sink.getvalue(), 8 * 10), deframer)
    assert payloads == []
    assert isinstance(error, ChecksumMismatchError)
    payloads, error = read_all(flip(sink.getvalue(), 8 * 13), deframer)
    assert payloads == [b"abc"]
    assert isinstance(error, InvalidFrameError)
    assert (error.offset, error.frame) == (13, 1)


def test_checksum_is_open_to_subclassing() -> None:
    class Length(Checksum):
        size = 1

        def calculate(self, payload: Any) -> int:
            return len(payload)

    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumFramer(Length())) as writer:
        writer.write_payload(b"abc")
    assert sink.getvalue() == b"\x03\x00\x00\x00\x03abc"
    assert read_all(sink.getvalue(), ChecksumDeframer(Length())) == ([b"abc"], None)


def test_framers_and_deframers_of_the_crate_are_there() -> None:
    for framer, deframer, frame in [
        (DefaultFramer(), DefaultDeframer(), "03000000 616263"),
        (ChecksumFramer(flatstream.Crc32()), ChecksumDeframer(flatstream.Crc32()), "03000000 c2412435 616263"),
    ]:
        sink = io.BytesIO()
        with StreamWriter(sink, framer) as writer:
            assert writer.framer is framer
            writer.write_payload(b"abc")
        assert sink.getvalue() == bytes.fromhex(frame)
        with StreamReader(sink.getvalue(), deframer) as reader:
            assert reader.deframer is deframer
            assert list(reader) == [b"abc"]


# Batches, views and builders without copies


def test_write_batch_writes_what_write_writes() -> None:
    items: list[Any] = ["one", Event(2), PackedEvent(3), "four"]
    single, batch = PlainSink(), PlainSink()
    with StreamWriter(single) as writer:
        for item in items:
            writer.write(item)
    with StreamWriter(batch) as writer:
        writer.write_batch(item for item in items)
        assert writer.frames_written == 4
    expected = [flatbuffer_of_string("one"), event_bytes(2), event_bytes(3), flatbuffer_of_string("four")]
    assert single.arrived() == batch.arrived() == reference.encode(expected, "none")


@in_one_test
@pytest.mark.parametrize("container", [list, tuple, iter])
@every_mode
def test_write_payloads_writes_all_of_an_iterable(mode: Mode, container: Any) -> None:
    stream = corpus(mode)
    sink = PlainSink()
    with StreamWriter(sink, mode.framer()) as writer:
        writer.write_payloads(container(stream.payloads))
        writer.write_payloads([])
        assert (writer.frames_written, writer.bytes_written) == (len(stream.payloads), len(stream.data))
    assert sink.arrived() == stream.data


def test_batch_that_fails_keeps_what_came_before() -> None:
    def payloads() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise LookupError("no more")

    sink = PlainSink()
    with StreamWriter(sink) as writer:
        with pytest.raises(LookupError):
            writer.write_payloads(payloads())
        assert writer.frames_written == 2
        with pytest.raises(TypeError):
            writer.write_batch(["c", None])
        assert writer.frames_written == 3
    assert sink.arrived() == reference.encode([b"a", b"b", flatbuffer_of_string("c")], "none")


def test_payloads_are_read_only_views_of_the_callers_own_bytes() -> None:
    data = corpus(MODES["none"], [b"abc", b"defg"]).data
    with StreamReader(data) as reader:
        first, second = reader
    for payload, start in ((first, 4), (second, 11)):
        assert isinstance(payload, memoryview)
        assert payload.readonly
        assert payload.format == "B"
        assert address(payload) == address(data) + start


def test_batch_is_index_and_views_of_one_buffer() -> None:
    data = corpus(MODES["crc32"], [b"abc", b"", b"defg"]).data
    with StreamReader(data, ChecksumType.CRC32) as reader:
        batch = reader.read_batch()
        assert reader.read_batch() is None
    assert batch is not None
    assert np.asarray(batch.offsets).tolist() == [8, 19, 27]
    assert np.asarray(batch.lengths).tolist() == [3, 0, 4]
    assert np.asarray(batch.offsets).dtype == np.int64
    assert list(batch) == [b"abc", b"", b"defg"]
    assert batch.stream_offset == 0
    assert address(batch.buffer) == address(data)


def test_builder_given_by_the_caller_is_the_one_used() -> None:
    class OwnBuilder(flatbuffers.Builder):  # type: ignore[misc]
        """Stands for one with an allocator of its own."""

        __slots__ = ()

    builder = OwnBuilder(16)
    sink = PlainSink()
    with StreamWriter(sink, builder=builder) as writer:
        assert writer.builder is builder
        writer.write("abc")
        assert builder.Output() == flatbuffer_of_string("abc")
        assert writer.builder is builder
    assert sink.arrived() == reference.encode([flatbuffer_of_string("abc")], "none")


@pytest.mark.parametrize(("capacity", "asked"), [(None, 1024), (1, 1), (50_000, 50_000)])
def test_make_builder_makes_the_builder_once(capacity: int | None, asked: int) -> None:
    made = []

    def make_builder(size: int) -> flatbuffers.Builder:
        made.append((size, flatbuffers.Builder(size)))
        return made[-1][1]

    with StreamWriter(PlainSink(), make_builder=make_builder, capacity=capacity) as writer:
        assert made == []
        writer.write_batch(["a", "b" * 3000, "c"])
        assert writer.builder is made[0][1]
    assert [size for size, _ in made] == [asked]


# Checksums of every size


@in_one_test
@pytest.mark.parametrize(
    ("checksum", "size", "name", "value", "stored"),
    [
        (flatstream.NoChecksum, 0, "NoChecksum", 0, ""),
        (flatstream.Crc16, 2, "Crc16", 0x31C3, "c331"),
        (flatstream.Crc32, 4, "Crc32", 0xCBF43926, "2639f4cb"),
        (flatstream.Crc32c, 4, "Crc32c", 0xE3069283, "839206e3"),
        (flatstream.Crc64, 8, "Crc64", 0x995DC9BBDF1939FA, "fa3919dfbbc95d99"),
        (flatstream.XxHash64, 8, "XxHash64", 0x72DCB18B67A17DFF, "ff7da1678bb1dc72"),
    ],
)
def test_sized_checksums(checksum: type[Checksum], size: int, name: str, value: int, stored: str) -> None:
    instance: Any = checksum()
    assert (instance.size, instance.name) == (size, name)
    assert instance.calculate(b"123456789") == value
    instance.verify(value, b"123456789")
    if size:
        with pytest.raises(ChecksumMismatchError) as caught:
            instance.verify(value ^ 1, b"123456789")
        assert (caught.value.expected, caught.value.calculated) == (value ^ 1, value)
    sink = PlainSink()
    with StreamWriter(sink, ChecksumFramer(instance)) as writer:
        writer.write_payload(b"123456789")
    assert sink.arrived() == bytes.fromhex("09000000" + stored) + b"123456789"
    assert read_all(sink.arrived(), ChecksumDeframer(instance)) == ([b"123456789"], None)


@in_one_test
@pytest.mark.parametrize("size", range(9))
def test_custom_checksum_may_have_any_size_up_to_eight(size: int) -> None:
    class Sized(Checksum):
        @property
        def size(self) -> int:
            return size

        def calculate(self, payload: Any) -> int:
            return 0x1122334455667788

    sink = PlainSink()
    with StreamWriter(sink, ChecksumFramer(Sized())) as writer:
        writer.write_payload(b"abc")
    assert sink.arrived() == b"\x03\x00\x00\x00" + bytes.fromhex("8877665544332211")[:size] + b"abc"
    assert read_all(sink.arrived(), ChecksumDeframer(Sized())) == ([b"abc"], None)
    # Compared modulo that width.
    Sized().verify(0x1122334455667788 % 256**size + 256**size, memoryview(b"abc"))
    if size:
        with pytest.raises(ChecksumMismatchError):
            Sized().verify(0x1122334455667789, memoryview(b"abc"))


# Processing payloads


@in_one_test
@every_mode
def test_write_payload_only_frames(mode: Mode) -> None:
    stream = corpus(mode)
    sink = PlainSink()
    with StreamWriter(sink, mode.framer()) as writer:
        for payload in stream.payloads:
            writer.write_payload(payload)
    assert sink.arrived() == stream.data


@pytest.mark.parametrize("source", [bytes, io.BytesIO])
def test_process_all_calls_the_function_for_each_payload(source: Any) -> None:
    stream = corpus(MODES["crc64"])
    seen: list[Any] = []
    with StreamReader(source(stream.data), ChecksumType.CRC64) as reader:
        assert reader.process_all(seen.append) == len(stream.payloads)
        assert seen == list(stream.payloads)
        assert reader.process_all(seen.append) == 0
    assert seen == list(stream.payloads)


@pytest.mark.parametrize("source", [bytes, io.BytesIO])
def test_process_all_stops_at_the_functions_error(source: Any) -> None:
    stream = corpus(MODES["none"], [b"a", b"b", b"stop", b"c", b"d"])
    seen: list[bytes] = []
    problem = LookupError("stop here")

    def process(payload: memoryview) -> str:
        seen.append(bytes(payload))
        if seen[-1] == b"stop":
            raise problem
        return "what it returns is ignored"

    with StreamReader(source(stream.data)) as reader:
        with pytest.raises(LookupError) as caught:
            reader.process_all(process)
        assert caught.value is problem
        assert seen == [b"a", b"b", b"stop"]
        assert reader.frames_read == 3
        # The payload that it raised for counts as read.
        assert reader.process_all(process) == 2
        assert seen == [b"a", b"b", b"stop", b"c", b"d"]


def test_process_all_stops_at_a_damaged_frame_and_goes_on_behind_it() -> None:
    stream = corpus(MODES["crc32"], [b"a", b"bad", b"c"])
    seen = []
    with StreamReader(flip(stream.data, 8 * (stream.ends[1] - 1)), ChecksumType.CRC32) as reader:
        with pytest.raises(ChecksumMismatchError):
            reader.process_all(lambda payload: seen.append(bytes(payload)))
        assert reader.process_all(lambda payload: seen.append(bytes(payload))) == 1
    assert seen == [b"a", b"c"]


def test_messages_iterates() -> None:
    stream = corpus(MODES["crc16"])
    with StreamReader(stream.data, ChecksumType.CRC16) as reader:
        messages = reader.messages()
        assert next(messages) == stream.payloads[0]
        assert list(messages) == list(stream.payloads[1:])


# Simple and expert mode


def test_simple_and_expert_mode_work_side_by_side() -> None:
    builder = flatbuffers.Builder(16)
    sink = PlainSink()
    with StreamWriter(sink, ChecksumType.CRC32) as writer:
        writer.write("simple")
        builder.Finish(builder.CreateString("expert"))
        writer.write_finished(builder)
        writer.write_payload(b"finished elsewhere")
        # Expert mode leaves the builder as it is: the message can go out once more.
        writer.write_finished(builder)
        assert builder.finished
        writer.write("simple again")
        assert writer.builder is not builder
    expected = [
        flatbuffer_of_string("simple"),
        flatbuffer_of_string("expert"),
        b"finished elsewhere",
        flatbuffer_of_string("expert"),
        flatbuffer_of_string("simple again"),
    ]
    assert sink.arrived() == reference.encode(expected, "crc32")


def test_several_right_sized_builders() -> None:
    small, large = flatbuffers.Builder(64), flatbuffers.Builder(65536)
    sink = PlainSink()
    expected = []
    with StreamWriter(sink) as writer:
        for number in range(20):
            text = "burst" * 10_000 if number % 5 == 0 else f"event {number}"
            builder = large if number % 5 == 0 else small
            builder.Clear()
            builder.Finish(builder.CreateString(text))
            writer.write_finished(builder)
            expected.append(flatbuffer_of_string(text))
        # None of them had to grow, and the one for small messages has not seen a large one.
        assert (len(small.Bytes), len(large.Bytes)) == (64, 65536)
    assert sink.arrived() == reference.encode(expected, "none")


@pytest.fixture
def written_from(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where in memory the pieces lie that files are offered. (Only sinks that are known to keep none get no copies.)"""
    addresses: list[int] = []
    writev = os.writev

    def note(fd: int, pieces: Any) -> int:
        addresses.extend(address(piece) for piece in pieces)
        return writev(fd, pieces)

    monkeypatch.setattr(os, "writev", note)
    return addresses


@pytest.mark.parametrize("write", ["write_finished", "write_message"])
def test_expert_mode_hands_over_the_builders_own_bytes(write: str, written_from: list[int], tmp_path: Path) -> None:
    text = "x" * 100_000
    builder = flatbuffers.Builder(200_000)
    builder.Finish(builder.CreateString(text))
    message = address(builder.Bytes) + builder.Head()
    with StreamWriter(tmp_path / "file", ChecksumType.CRC32, buffer_size=4096) as writer:
        getattr(writer, write)(builder)
    assert (tmp_path / "file").read_bytes() == reference.encode([flatbuffer_of_string(text)], "crc32")
    assert written_from[1:] == [message]


def test_simple_mode_hands_over_the_builders_own_bytes(written_from: list[int], tmp_path: Path) -> None:
    text = "x" * 100_000
    with StreamWriter(tmp_path / "file", capacity=200_000, buffer_size=4096) as writer:
        writer.write(text)
        message = address(writer.builder.Bytes) + writer.builder.Head()
    assert (tmp_path / "file").read_bytes() == reference.encode([flatbuffer_of_string(text)], "none")
    assert written_from[1:] == [message]

"""Typed reading: messages as instances of classes with `from_payload`, or of classes that flatc generated."""

from __future__ import annotations

import importlib
import io
import zlib
from typing import Any

import flatbuffers
import pytest

from flatstream import (
    ChecksumMismatchError,
    ChecksumType,
    FlatbufferError,
    StreamDeserialize,
    StreamReader,
    StreamWriter,
)
from reference import framing as reference
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES
from support.schemas import EXAMPLES
from support.streams import corpus, flip


class Message:
    """An application's class."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    @classmethod
    def from_payload(cls, payload: memoryview) -> Message:
        if bytes(payload[:3]) == b"bad":
            raise LookupError("not a message")
        return cls(bytes(payload))


class Event:
    """The root table of `flatbuffer_of_event`, with the methods that flatc gives its classes."""

    def __init__(self) -> None:
        self.table: Any = None

    @classmethod
    def GetRootAs(cls, buf: Any, offset: int = 0) -> Event:  # noqa: N802 - the name is flatc's
        event = cls()
        root = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        event.table = flatbuffers.table.Table(buf, root + offset)
        event.table.Offset(4)
        return event

    def number(self) -> int:
        return int(self.table.Get(flatbuffers.number_types.Uint64Flags, self.table.Offset(4) + self.table.Pos))

    def name(self) -> bytes:
        return bytes(self.table.String(self.table.Offset(8) + self.table.Pos))


class EventT:
    """The same with flatc's object API: everything is taken out of the payload at once."""

    number = 0
    name = b""

    @classmethod
    def InitFromPackedBuf(cls, buf: Any, pos: int = 0) -> EventT:  # noqa: N802 - the name is flatc's
        event = Event.GetRootAs(buf, pos)
        made = cls()
        made.number, made.name = event.number(), event.name()
        return made


class OlderEventT:
    """The same as flatc 2.0.8 generates it: told where the root is, and with nothing that finds it."""

    number = 0
    name = b""

    @classmethod
    def InitFromBuf(cls, buf: Any, pos: int) -> OlderEventT:  # noqa: N802 - the name is flatc's
        event, made = Event(), cls()
        event.table = flatbuffers.table.Table(buf, pos)
        made.number, made.name = event.number(), event.name()
        return made


EVENTS = corpus(MODES["crc32"], [flatbuffer_of_event(number) for number in range(1, 20)])
NUMBERS_AND_NAMES = [(number, b"sensor-%d" % (number % 7)) for number in range(1, 20)]


def test_class_with_from_payload_is_a_stream_deserialize() -> None:
    assert isinstance(Message, StreamDeserialize)
    assert not isinstance(Event, StreamDeserialize)


@pytest.mark.parametrize("source", [bytes, io.BytesIO])
def test_typed_messages_gives_instances(source: Any) -> None:
    data = reference.encode([b"one", b"", b"three"], "none")
    with StreamReader(source(data)) as reader:
        messages = list(reader.typed_messages(Message))
    assert all(type(message) is Message for message in messages)
    assert [message.payload for message in messages] == [b"one", b"", b"three"]


@pytest.mark.parametrize("source", [bytes, io.BytesIO])
def test_process_typed_gives_instances_and_counts_them(source: Any) -> None:
    data = reference.encode([b"one", b"", b"three"], "none")
    seen: list[Message] = []
    with StreamReader(source(data)) as reader:
        assert reader.process_typed(Message, seen.append) == 3
        assert reader.process_typed(Message, seen.append) == 0
    assert [message.payload for message in seen] == [b"one", b"", b"three"]


@pytest.mark.parametrize("source", [bytes, io.BytesIO])
def test_process_typed_with_payload_gives_both(source: Any) -> None:
    data = reference.encode([b"one", b"", b"three"], "none")
    seen: list[tuple[bytes, memoryview]] = []
    with StreamReader(source(data)) as reader:
        count = reader.process_typed_with_payload(
            Message, lambda message, payload: seen.append((message.payload, payload))
        )
    assert count == 3
    assert [first for first, _ in seen] == [b"one", b"", b"three"]
    # The payloads may be kept.
    assert [bytes(second) for _, second in seen] == [b"one", b"", b"three"]
    assert all(isinstance(second, memoryview) for _, second in seen)


def test_generated_class_is_read_by_get_root_as() -> None:
    with StreamReader(EVENTS.data, ChecksumType.CRC32) as reader:
        events = list(reader.typed_messages(Event))
    # Generated objects look into the payload when they are asked, and keep it alive.
    assert [(event.number(), event.name()) for event in events] == NUMBERS_AND_NAMES


@pytest.mark.parametrize("cls", [EventT, OlderEventT])
def test_object_api_class_is_read_by_init_from_packed_buf_or_init_from_buf(cls: Any) -> None:
    seen: list[tuple[int, bytes]] = []
    with StreamReader(EVENTS.data, ChecksumType.CRC32) as reader:
        reader.process_typed(cls, lambda event: seen.append((event.number, event.name)))
    assert seen == NUMBERS_AND_NAMES


def test_class_that_flatc_generated_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    generated: Any = importlib.import_module("telemetry.Event")

    builder = flatbuffers.Builder(256)
    host = builder.CreateString("host-7")
    generated.Start(builder)
    generated.AddSequence(builder, 2**40 + 7)
    generated.AddHost(builder, host)
    builder.Finish(generated.End(builder))
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumType.XXHASH64) as writer:
        writer.write_finished(builder)
    with StreamReader(sink.getvalue(), ChecksumType.XXHASH64) as reader:
        (event,) = reader.typed_messages(generated.Event)
    assert (event.Sequence(), event.Host()) == (2**40 + 7, b"host-7")


def test_from_payload_comes_before_what_flatc_generates() -> None:
    class Both(Event):
        @classmethod
        def from_payload(cls, payload: memoryview) -> int:
            return len(payload)

    with StreamReader(b"\x03\x00\x00\x00abc") as reader:
        lengths: list[Any] = list(reader.typed_messages(Both))
    assert lengths == [3]


@in_one_test
@pytest.mark.parametrize("junk", [b"", b"\x01", b"ab", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff" * 3], ids=bytes.hex)
def test_payload_that_is_no_flatbuffer_is_flatbuffer_error_and_the_next_can_be_read(junk: bytes) -> None:
    stream = corpus(MODES["crc32"], [flatbuffer_of_event(1), junk, flatbuffer_of_event(2)])
    with StreamReader(stream.data, ChecksumType.CRC32) as reader:
        messages = reader.typed_messages(Event)
        assert next(messages).number() == 1
        with pytest.raises(FlatbufferError, match=f"a payload of {len(junk)} bytes is no Event: ") as caught:
            next(messages)
        assert (caught.value.offset, caught.value.frame) == (stream.starts[1], 1)
        assert next(messages).number() == 2
        assert list(messages) == []


def test_error_of_from_payload_stops_and_the_next_can_be_read() -> None:
    data = reference.encode([b"good", b"bad", b"fine"], "none")
    with StreamReader(data) as reader:
        messages = reader.typed_messages(Message)
        assert next(messages).payload == b"good"
        with pytest.raises(LookupError, match="not a message"):
            next(messages)
        assert [message.payload for message in messages] == [b"fine"]

    seen: list[Message] = []
    with StreamReader(data) as reader:
        with pytest.raises(LookupError, match="not a message"):
            reader.process_typed(Message, seen.append)
        assert reader.process_typed(Message, seen.append) == 1
    assert [message.payload for message in seen] == [b"good", b"fine"]


@pytest.mark.parametrize("process", ["process_typed", "process_typed_with_payload"])
def test_functions_error_stops_it(process: str) -> None:
    seen: list[bytes] = []

    def stop(message: Message, payload: memoryview | None = None) -> None:
        seen.append(message.payload)
        raise LookupError("stop here")

    with StreamReader(reference.encode([b"one", b"two"], "none")) as reader:
        with pytest.raises(LookupError, match="stop here"):
            getattr(reader, process)(Message, stop)
        assert list(reader) == [b"two"]
    assert seen == [b"one"]


@pytest.mark.parametrize("payload", [b"", b"abc"])
def test_payload_without_a_root_is_refused_by_init_from_buf(payload: bytes) -> None:
    with (
        StreamReader(reference.encode([payload], "none")) as reader,
        pytest.raises(FlatbufferError, match="OlderEventT"),
    ):
        next(reader.typed_messages(OlderEventT))


def test_damaged_frame_between_typed_messages_is_raised_and_can_be_skipped() -> None:
    data = flip(EVENTS.data, 8 * (EVENTS.ends[1] - 1))
    with StreamReader(data, ChecksumType.CRC32) as reader:
        messages = reader.typed_messages(EventT)
        assert next(messages).number == 1
        with pytest.raises(ChecksumMismatchError):
            next(messages)
        assert [message.number for message in messages] == list(range(3, 20))


def test_place_of_the_last_message_stays_when_the_next_is_refused() -> None:
    stream = bytearray()
    for payload in (b"p0", b"p1", b"p2"):
        stream += bytes.fromhex("02000000") + zlib.crc32(payload).to_bytes(4, "little") + payload
    stream[-1] ^= 1
    with StreamReader(stream, ChecksumType.CRC32) as reader:
        assert (reader.message_number, reader.message_offset) == (-1, 0)
        next(reader)
        next(reader)
        with pytest.raises(ChecksumMismatchError) as caught:
            next(reader)
        assert (caught.value.frame, caught.value.offset) == (2, 20)
        assert (reader.message_number, reader.message_offset) == (1, 10)

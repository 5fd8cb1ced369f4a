"""A description at the head of a stream: written once, taken off by readers of any source, and no message."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    BoundedDeframer,
    BoundedFramer,
    ChecksumFramer,
    ChecksumMismatchError,
    DefaultFramer,
    Description,
    FlatbufferError,
    FlatStreamError,
    InvalidFrameError,
    SizeValidator,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
)
from flatstream._core.framing.framer import NonEmptyFramer
from flatstream._core.stream.decoder import Decoder
from reference import framing as reference
from support.extent import in_one_test
from support.modes import MODES, Mode, every_mode
from support.processes import forked
from support.python_strategies import CheckedMagicDeframer, MagicFramer, PythonDeframer, PythonFramer
from support.schemas import TELEMETRY
from support.sinks import PlainSink, every_sink
from support.sources import CutReadSource, CutSource, InterruptedSource, every_source

MESSAGES = [b"one", b"", b"three" * 40, b"4", b"five"]
SMALL = Description(metadata={"host": "a"}, created_ns=1, created_by="test")


def described(
    mode: Mode | None = None, description: Description = SMALL, messages: list[bytes] | None = None
) -> tuple[bytes, int]:
    """A stream with a description, and the size of the description's frame."""
    mode = mode or MODES["crc32"]
    messages = MESSAGES if messages is None else messages
    sink = io.BytesIO()
    with StreamWriter(sink, mode.framer(), describe=description) as writer:
        writer.write_payloads(messages)
    data = sink.getvalue()
    return data, len(data) - len(reference.encode(messages, mode.name))


def payload_of(message: memoryview | None) -> bytes:
    """The bytes of a message that is there."""
    assert message is not None
    return bytes(message)


# Writing


@in_one_test
@every_mode
def test_stream_is_a_frame_of_the_description_and_the_usual_bytes(mode: Mode) -> None:
    data, head = described(mode)
    with StreamReader(io.BytesIO(), mode.deframer()) as reader:
        assert reader.description is None
    # To others, it is one more message.
    expected = SMALL.with_checksum(mode.checksum()).to_bytes()
    assert data == reference.encode([expected, *MESSAGES], mode.name)
    assert head == len(expected) + 4 + mode.size


@in_one_test
@every_sink
def test_description_comes_first_to_any_sink_and_is_not_counted(sink_kind: Any, tmp_path: Path) -> None:
    for size in (0, 1, 300, 65536):
        with sink_kind.open(tmp_path) as target:
            with StreamWriter(
                target.sink, "crc32", buffer_size=size, describe=TELEMETRY, metadata={"a": "b"}
            ) as writer:
                # Nothing is handed over before the first message, whatever the buffer.
                assert writer.pending_bytes > 7000
                assert (writer.frames_written, writer.bytes_written) == (0, 0)
                writer.write_payloads(MESSAGES)
                made = writer.description
            arrived = target.arrived()
        assert (writer.frames_written, writer.bytes_written) == (5, len(reference.encode(MESSAGES, "crc32")))
        assert made is not None
        assert made.metadata == {"a": "b"}
        assert made.checksum == "crc32"
        assert made.created_by == f"flatstream {flatstream.__version__}"
        assert made.created_ns is not None
        assert arrived == reference.encode([made.to_bytes(), *MESSAGES], "crc32")


def test_every_way_of_writing_counts_without_the_description() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, describe=True) as writer:
        writer.write("text")
        writer.write_payload(b"a")
        source = StreamReader(reference.encode([b"b", b"c"], "none"))
        batch = source.read_batch()
        assert batch is not None
        writer.write_frames(batch)
        with pytest.raises(FlatbufferError) as raised:
            writer.write_finished(flatstream.Builder())
        assert raised.value.frame == 4
        writer.flush()
        assert raised.value.offset == len(sink.getvalue())
    assert writer.frames_written == 4
    assert len(list(StreamReader(sink.getvalue()))) == 4


def test_description_goes_through_the_innermost_framer() -> None:
    seen: list[bytes] = []
    sink = io.BytesIO()
    framer = NonEmptyFramer(BoundedFramer(ChecksumFramer(flatstream.Crc16()), 3))
    chain = framer.observed(lambda payload: seen.append(bytes(payload))).with_validator(SizeValidator(1, 3))
    with StreamWriter(sink, chain, describe=SMALL) as writer:
        writer.write_payload(b"abc")
        with pytest.raises(FlatStreamError):
            writer.write_payload(b"abcd")
    assert seen == [b"abc"]
    reader = StreamReader(sink.getvalue(), "crc16")
    assert reader.description == SMALL.with_checksum("crc16")
    assert list(reader) == [b"abc"]


def test_wrong_description_does_not_empty_a_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.fs"
    path.write_bytes(b"kept")
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"describe": 3}, TypeError, "expected a Table"),
        ({"time_field": "time_ns"}, ValueError, "pass it as describe="),
        ({"time_unit": "s", "metadata": {}}, ValueError, "pass it as describe="),
        ({"describe": True, "time_field": "time_ns"}, ValueError, "no table is given"),
        ({"describe": SMALL, "time_field": "time_ns"}, ValueError, "has its time field already"),
        ({"describe": SMALL.with_checksum("crc64")}, ValueError, r"checksum is 'crc64', and .* with 'crc32'"),
        ({"metadata": {"a": 1}}, TypeError, "must be a str"),
    ]
    for options, error, message in wrong:
        with pytest.raises(error, match=message):
            StreamWriter(path, "crc32", **options)
        with pytest.raises(error, match=message):
            flatstream.open(path, "w", checksum="crc32", **options)
    assert path.read_bytes() == b"kept"


def test_describe_none_and_false_write_no_description() -> None:
    for describe in (None, False):
        sink = io.BytesIO()
        with StreamWriter(sink, describe=describe) as writer:
            writer.write_payload(b"abc")
            assert writer.description is None
        assert sink.getvalue() == reference.encode([b"abc"], "none")
    with StreamWriter(io.BytesIO(), metadata={"a": "b"}) as writer:
        assert writer.description is not None
        assert writer.description.metadata == {"a": "b"}
    with StreamWriter(io.BytesIO(), describe=SMALL, metadata={"b": "c"}) as writer:
        assert writer.description is not None
        assert writer.description.metadata == {"host": "a", "b": "c"}
        assert writer.description.created_ns == 1


class BlockingSink(PlainSink):
    """Takes `room` bytes more, then would block."""

    room = 0

    def write(self, data: Any) -> Any:
        if not self.room:
            raise BlockingIOError(11, "would block", 0)
        taken = min(self.room, len(data))
        self.room -= taken
        return super().write(bytes(data[:taken])) or taken


@pytest.mark.parametrize("size", [0, 50, 65536])
def test_sink_that_blocks_in_the_description_gets_it_later(size: int) -> None:
    sink = BlockingSink()
    writer = StreamWriter(sink, "crc32", buffer_size=size, describe=SMALL)
    for written, message in enumerate(MESSAGES * 20, 1):
        while True:
            try:
                writer.write_payload(message)
                break
            except BlockingIOError:
                sink.room += 7
        assert writer.frames_written == written
    while not writer.closed:
        sink.room += 7
        try:
            writer.close()
        except BlockingIOError:
            continue
    expected = SMALL.with_checksum("crc32").to_bytes()
    assert sink.arrived() == reference.encode([expected, *MESSAGES * 20], "crc32")


def test_sink_that_fails_in_the_description_says_so() -> None:
    class Failing(PlainSink):
        def write(self, data: Any) -> Any:
            if self.arrived():
                raise OSError(5, "gone")
            return super().write(bytes(data[:20])) or 20

    writer = StreamWriter(Failing(), "crc32", describe=SMALL)
    writer.write_payload(b"abc")
    with pytest.raises(OSError, match="gone") as raised:
        writer.flush()
    assert any("inside the description" in note for note in raised.value.__notes__)
    with pytest.raises(FlatStreamError, match="refuses to go on") as refused:
        writer.write_payload(b"abc")
    assert (refused.value.frame, refused.value.offset) == (0, 0)
    with pytest.raises(FlatStreamError):
        writer.close()


# Reading


def everything_of(reader: StreamReader, way: str) -> list[bytes]:
    if way == "messages":
        return [bytes(payload) for payload in reader]
    if way == "batches":
        return [bytes(payload) for batch in reader.batches(2) for payload in batch]
    if way == "process":
        found: list[bytes] = []
        assert reader.process_all(lambda payload: found.append(bytes(payload))) == len(found)
        return found
    return [bytes(payload) for payload in iter(reader.read_message, None)]


@in_one_test(step=4)
@pytest.mark.parametrize("way", ["messages", "batches", "process", "read"])
@pytest.mark.parametrize("name", ["none", "crc16", "crc32", "sum24"])
@every_source
def test_reader_of_any_source_takes_the_description_off(source_kind: Any, name: str, way: str, tmp_path: Path) -> None:
    mode = MODES[name]
    data, head = described(mode)
    for capacity in (1, 1 << 18):
        for first in (False, True):
            with (
                source_kind.open(data, tmp_path) as source,
                StreamReader(source, mode.deframer(), capacity=capacity) as reader,
            ):
                if first:
                    # Looking at it takes no message.
                    assert reader.description == SMALL.with_checksum(mode.checksum())
                    assert (reader.frames_read, reader.offset, reader.message_number) == (0, head, -1)
                assert everything_of(reader, way) == MESSAGES
                assert reader.description == SMALL.with_checksum(mode.checksum())
                assert (reader.frames_read, reader.offset) == (5, len(data))
                assert reader.bytes_read == len(data) - head
                assert (reader.skipped, reader.lost_bytes) == (0, 0)
            assert reader.description is not None


def test_numbers_and_offsets_of_messages() -> None:
    data, head = described()
    reader = StreamReader(data, "crc32")
    assert payload_of(reader.read_message()) == b"one"
    assert (reader.message_number, reader.message_offset, reader.offset) == (0, head, head + 11)
    assert payload_of(reader.read_message()) == b""
    assert (reader.message_number, reader.message_offset) == (1, head + 11)
    batch = StreamReader(data, "crc32").read_batch()
    assert batch is not None
    assert (batch.stream_offset, len(batch)) == (head, 5)
    # Errors too.
    damaged = bytearray(data)
    damaged[-1] ^= 1
    reader = StreamReader(bytes(damaged), "crc32")
    with pytest.raises(ChecksumMismatchError) as raised:
        list(reader)
    assert raised.value.frame == 4
    assert not hasattr(raised.value, "__notes__")
    reader = StreamReader(data[:-1], "crc32")
    with pytest.raises(UnexpectedEofError) as torn:
        list(reader)
    assert torn.value.frame == 4


@in_one_test
@pytest.mark.parametrize("data", [b"", b"\1", b"\1\0\0\0a", b"\0\0\0\0" * 5, reference.encode([b"1234FSD"], "none")])
def test_stream_without_a_description_has_none(data: bytes) -> None:
    for source in (data, io.BytesIO(data), CutReadSource(data, range(20))):
        reader = StreamReader(source)
        assert reader.description is None
        assert reader.offset == 0
        _, rest = reader.detach()
        assert bytes(rest) == data[: len(rest)]
        assert len(rest) == len(data) or not isinstance(source, bytes)


def test_description_behind_the_head_is_a_message() -> None:
    payload = SMALL.to_bytes()
    data = reference.encode([b"first", payload, b"last"], "crc32")
    reader = StreamReader(data, "crc32")
    assert reader.description is None
    assert list(reader) == [b"first", payload, b"last"]
    # Also behind another one: two streams, one behind the other.
    data, _ = described()
    reader = StreamReader(data + data, "crc32")
    expected = SMALL.with_checksum("crc32").to_bytes()
    assert list(reader) == [*MESSAGES, expected, *MESSAGES]


def test_only_a_description_has_a_frame_longer_than_the_bound() -> None:
    data, _ = described(description=Description(TELEMETRY))
    calls: list[bytes] = []
    for deframer in (
        flatstream.ChecksumDeframer(flatstream.Crc32(), max_frame_len=300),
        BoundedDeframer(flatstream.ChecksumDeframer(flatstream.Crc32()), 300),
        flatstream.ChecksumDeframer(flatstream.Crc32()).with_validator(SizeValidator(0, 300)),
        flatstream.ChecksumDeframer(flatstream.Crc32()).observed(lambda payload: calls.append(bytes(payload))),
    ):
        for source in (data, io.BytesIO(data), CutSource(data, range(0, len(data), 11))):
            reader = StreamReader(source, deframer, capacity=16)
            assert list(reader) == MESSAGES
            assert reader.description is not None
            assert reader.description.schema == TELEMETRY
    assert calls == MESSAGES * 3
    # A message that has its length is refused.
    long = reference.encode([b"x" * 7000], "crc32")
    for source in (long, io.BytesIO(long), CutSource(long, range(20))):
        with pytest.raises(InvalidFrameError, match="more than the limit of 300") as raised:
            StreamReader(source, BoundedDeframer(flatstream.ChecksumDeframer(flatstream.Crc32()), 300)).read_message()
        assert (raised.value.frame, raised.value.offset, raised.value.declared_len) == (0, 0, 7000)
    # And one over the limit of descriptions, at once: with 4 bytes.
    large = (1 << 24) + 1
    with pytest.raises(InvalidFrameError):
        StreamReader(large.to_bytes(4, "little"), BoundedDeframer(flatstream.DefaultDeframer(), 300)).read_message()
    # A length that a description could have, and no more bytes: the error is the one without descriptions.
    with pytest.raises(InvalidFrameError):
        StreamReader(b"\0\2\0\0", BoundedDeframer(flatstream.DefaultDeframer(), 300)).read_message()


def test_deframers_written_in_python_find_it_too() -> None:
    seen: list[bytes] = []
    for framer, deframer in (
        (PythonFramer(), PythonDeframer()),
        (MagicFramer(ChecksumFramer(flatstream.Crc32())), CheckedMagicDeframer(MODES["crc32"].deframer())),
    ):
        sink = io.BytesIO()
        with StreamWriter(sink, framer, describe=SMALL) as writer:
            writer.write_payloads(MESSAGES)
        made = writer.description
        assert made is not None
        assert made.checksum is None
        data = sink.getvalue()
        seen.clear()
        for chain in (deframer, deframer.bounded(1000), deframer.observed(lambda payload: seen.append(bytes(payload)))):
            for source in (data, io.BytesIO(data), CutSource(data, range(len(data)))):
                reader = StreamReader(source, chain, capacity=8)
                assert list(reader) == MESSAGES
                assert reader.description == made
        assert seen == MESSAGES * 3
        # Adapters around it bound messages only, the deframer itself all that it finds.
        assert list(StreamReader(data, deframer.bounded(200))) == MESSAGES
    damaged = bytearray(data)
    damaged[60] ^= 1
    reader = StreamReader(bytes(damaged), chain)
    assert reader.description is None
    with pytest.raises(ChecksumMismatchError):
        reader.read_message()
    assert list(reader) == MESSAGES


def test_python_deframer_that_fails_at_the_head_fails_as_without_descriptions() -> None:
    with pytest.raises(InvalidFrameError, match="expected the magic number"):
        StreamReader(b"abcdefgh", CheckedMagicDeframer(PythonDeframer())).read_message()


def test_source_that_blocks_in_the_description_is_read_on_later() -> None:
    data, head = described(description=Description(TELEMETRY))

    class Slow:
        position = 0
        ready = False

        def readinto(self, buffer: Any) -> int | None:
            self.ready = not self.ready
            if not self.ready:
                return None
            size = min(97, len(buffer), len(data) - self.position)
            buffer[:size] = data[self.position : self.position + size]
            self.position += size
            return size

    reader = StreamReader(Slow(), "crc32")
    blocked = 0
    while True:
        try:
            found = reader.description
            break
        except BlockingIOError:
            blocked += 1
    assert blocked >= head // 97
    assert found is not None
    assert found.schema == TELEMETRY
    reader = StreamReader(Slow(), "crc32")
    messages: list[bytes] = []
    while len(messages) < len(MESSAGES):
        try:
            payload = reader.read_message()
            assert payload is not None
            messages.append(bytes(payload))
        except BlockingIOError:
            continue
    assert messages == MESSAGES
    interrupted = InterruptedSource(data, range(0, len(data), 50))
    assert list(StreamReader(interrupted, "crc32")) == MESSAGES


def test_detach_gives_the_bytes_that_were_not_read() -> None:
    data, head = described()
    source = io.BytesIO(data)
    reader = StreamReader(source, "crc32")
    assert reader.detach() == (source, b"")
    reader = StreamReader(source, "crc32")
    assert reader.description is not None
    assert reader.detach() == (source, data[head:])
    # Behind the description, the rest is a stream without one.
    rest = StreamReader(data[head:], "crc32")
    assert rest.description is None
    assert list(rest) == MESSAGES
    reader = StreamReader(data, "crc32")
    reader.close()
    assert reader.description is None


def test_receiver_of_a_socket_learns_the_schema() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, StreamWriter(ours, "crc32", describe=TELEMETRY) as writer:
        reader = StreamReader(theirs, "crc32")
        records = flatstream.RecordWriter(writer, TELEMETRY.table("telemetry.Event"))
        records.write(sequence=7)
        writer.flush()
        made = reader.description
        assert made is not None
        assert next(reader.records(made.table)).sequence == 7


def test_fork_leaves_the_description_to_the_parent() -> None:
    read_end, write_end = os.pipe()
    with io.FileIO(read_end, "rb") as source, io.FileIO(write_end, "wb") as sink:
        writer = StreamWriter(sink, "crc32", describe=SMALL)
        assert "belongs to the process" in forked(lambda: writer.write_payload(b"abc"))
        assert forked(writer.close) is None
        writer.write_payload(b"abc")
        writer.close()
        sink.close()
        reader = StreamReader(source, "crc32")
        assert list(reader) == [b"abc"]
        assert reader.description is not None


def test_typed_reading_records_and_columns_leave_the_description_out() -> None:
    table = TELEMETRY.table("telemetry.Event")
    sink = io.BytesIO()
    with StreamWriter(sink, "crc32", describe=table) as writer:
        flatstream.RecordWriter(writer, table).write_records([{"sequence": number} for number in range(100)])
    data = sink.getvalue()
    assert [record.sequence for record in StreamReader(data, "crc32").records(table)] == list(range(100))
    assert list(StreamReader(data, "crc32").columns(table, ["sequence"])["sequence"].to_pylist()) == list(range(100))
    batches = StreamReader(data, "crc32").column_batches(table, ["sequence"], batch_rows=30)
    assert [len(batch["sequence"]) for batch in batches] == [30, 30, 30, 10]


# Damage


def test_damaged_description_is_refused_and_has_no_number() -> None:
    data, head = described()
    damaged = bytearray(data)
    damaged[head - 1] ^= 1
    stream = bytes(damaged)
    for make in (lambda: stream, lambda: io.BytesIO(stream), lambda: CutSource(stream, range(len(stream)))):
        reader = StreamReader(make(), "crc32")
        # It is left to the first read.
        assert reader.description is None
        assert reader.description is None
        with pytest.raises(ChecksumMismatchError, match=r"\(stream offset 0\)") as raised:
            reader.read_message()
        assert (raised.value.offset, raised.value.frame) == (0, None)
        assert reader.description is None
        assert list(reader) == MESSAGES
        assert reader.message_number == 4
        for on_error in ("skip", "resync"):
            reader = StreamReader(make(), "crc32", on_error=on_error, allow_empty=True)
            assert list(reader) == MESSAGES
            assert reader.message_number == 4
            assert (reader.skipped, reader.lost_ranges) == (1, [(0, head)])
            assert reader.description is None
        reader = StreamReader(make(), "crc32", on_error="stop", allow_empty=True)
        assert list(reader) == []
        assert isinstance(reader.stop_error, ChecksumMismatchError)
        assert reader.offset == 0
        # A read that does not stop finds it there.
        with pytest.raises(ChecksumMismatchError):
            next(iter(reader.messages(on_error="raise")))
        assert [bytes(m) for m in reader.messages(on_error="raise")] == MESSAGES
        assert reader.message_number == 4
        reader = StreamReader(make(), "crc32", on_error="stop")
        assert list(reader) == []
        assert [bytes(p) for b in reader.batches(on_error="skip") for p in b] == [m for m in MESSAGES if m]


def broken_payload() -> bytes:
    """What looks like a description, and is none."""
    return SMALL.to_bytes()[:30] + b"\xff" * 40


@pytest.mark.parametrize("name", ["none", "crc16", "crc32"])
def test_description_that_cannot_be_verified_is_an_error_at_the_first_read(name: str) -> None:
    mode = MODES[name]
    messages = [b"one" * 10, b"two" * 10]
    head = len(broken_payload()) + 4 + mode.size
    data = reference.encode([broken_payload(), *messages], name)
    for source in (data, io.BytesIO(data)):
        reader = StreamReader(source, mode.deframer())
        assert reader.description is None
        with pytest.raises(FlatbufferError, match="the description of the stream is damaged") as raised:
            reader.read_message()
        assert (raised.value.offset, raised.value.frame) == (0, None)
        assert list(reader) == messages
        assert reader.message_number == 1
    reader = StreamReader(data, mode.deframer(), on_error="skip")
    assert list(reader) == messages
    assert reader.lost_ranges == [(0, head)]
    if name == "crc32":
        reader = StreamReader(data, mode.deframer(), on_error="resync")
        assert list(reader) == messages
        assert reader.lost_ranges == [(0, head)]
        assert reader.message_number == 1


def test_torn_description_is_a_torn_frame() -> None:
    data, head = described()
    for size in range(1, head):
        for source in (data[:size], io.BytesIO(data[:size])):
            reader = StreamReader(source, "crc32")
            assert reader.description is None
            with pytest.raises(UnexpectedEofError) as raised:
                reader.read_message()
            assert raised.value.got == size
            assert raised.value.offset == 0


def test_search_goes_past_a_description_of_which_the_length_is_damaged() -> None:
    data, head = described()
    for place in range(head):
        for bit in (0, 7):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            reader = StreamReader(bytes(damaged), "crc32", on_error="resync", allow_empty=True)
            found = list(reader)
            assert found == MESSAGES, (place, bit)
            assert reader.lost_ranges == [(0, head)]
            reader = StreamReader(io.BytesIO(bytes(damaged)), "crc32", on_error="resync", allow_empty=True, capacity=50)
            assert list(reader) == MESSAGES, (place, bit)


def test_memory_for_a_description_grows_only_as_its_bytes_come() -> None:
    # It claims to be as large as one may be.
    head = ((1 << 24) - 100).to_bytes(4, "little") + bytes([8, 0, 0, 0]) + b"FSD1" + bytes(1000)
    reader = StreamReader(io.BytesIO(head))
    assert reader.description is None
    assert reader.buffer_capacity <= 4 << 20
    with pytest.raises(UnexpectedEofError):
        reader.read_message()


def test_error_of_the_parser_that_is_not_about_the_bytes_leaves_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = described()
    calls = []

    def parse(payload: Any) -> Description:
        calls.append(1)
        if len(calls) < 3:
            raise MemoryError
        return Description.from_bytes(payload)

    reader = Decoder(MODES["crc32"].deframer(), 1 << 16, buffer=data, parse_description=parse)
    with pytest.raises(MemoryError):
        reader._description  # noqa: B018
    with pytest.raises(MemoryError):
        reader.read_message()
    assert bytes(reader.read_message() or b"") == b"one"
    assert reader._description is not None


def test_default_framer_says_that_there_is_no_checksum() -> None:
    with StreamWriter(io.BytesIO(), DefaultFramer(), describe=True) as writer:
        assert writer.description is not None
        assert writer.description.checksum == "none"

"""A serializer makes the bytes of a writer, keeps them until they are taken, and refuses what is too much."""

from __future__ import annotations

import functools
import io
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatstream
from flatstream import (
    AdaptiveWatermarkPolicy,
    DefaultFramer,
    FlatbufferError,
    FrameParser,
    FrameSerializer,
    InvalidFrameError,
    RecordWriter,
    StreamReader,
    StreamWriter,
)
from reference import framing as reference
from support.extent import in_one_test
from support.items import BytesItem, StringItem, UnfinishedItem, finished_builder
from support.memory import address
from support.modes import MODES, Mode, every_mode
from support.processes import run_python
from support.python_strategies import PythonFramer
from support.schemas import TELEMETRY
from support.threads import run_threads

DISK = TELEMETRY.table("telemetry.Disk")


def write_all(writer: Any) -> None:
    """Every way to write."""
    writer.write_payload(b"abc")
    writer.write_payload(bytearray(100_000))
    writer.write_payload(bytes(70_000))
    writer.write_payloads([b"x" * size for size in range(200)])
    writer.write_payloads(iter([bytearray(5), memoryview(b"view")]))
    writer.write("text")
    writer.write_batch(["one", StringItem(), BytesItem(b"bytes" * 50_000)])
    writer.write_finished(finished_builder("finished"))
    writer.write_message(finished_builder("message"))
    records = RecordWriter(writer, DISK)
    records.write(name="sda", counters=(1, 2, 3, 4, 5, 6))
    records.write_records([{"name": f"sd{number}"} for number in range(300)])
    records.write_columns({"name": ["a", "b"]})
    records.write_json_lines(io.BytesIO(b'{"name": "sdz"}\n'))


@functools.cache
def frames(mode: Mode) -> bytes:
    return reference.encode([b"%d" % number * (number % 40) for number in range(300)], mode.name)


def write_frames(writer: Any, mode: Mode) -> None:
    for batch in StreamReader(frames(mode), mode.deframer()).batches(100):
        writer.write_frames(batch)


@functools.cache
def written(mode: Mode) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, mode.framer()) as writer:
        write_all(writer)
        write_frames(writer, mode)
    return sink.getvalue()


def sent(serializer: FrameSerializer, size: int) -> bytes:
    """What a transport that takes at most `size` bytes at a time gets."""
    pieces = []
    assert sum(map(len, serializer.pending_buffers())) == serializer.pending_bytes
    while buffers := serializer.pending_buffers(1):
        assert len(buffers) == 1
        piece = bytes(buffers[0][:size])
        serializer.mark_sent(len(piece))
        pieces.append(piece)
    return b"".join(pieces)


TAKING: dict[str, Callable[[FrameSerializer], bytes]] = {
    "all": lambda serializer: serializer.take(),
    "parts": lambda serializer: b"".join(iter(lambda: serializer.take(1000), b"")),
    "buffers": lambda serializer: b"".join(serializer.pending_buffers()),
    "sent": lambda serializer: sent(serializer, 3000),
}


@in_one_test(step=4)
@every_mode
@pytest.mark.parametrize("taking", TAKING)
@pytest.mark.parametrize("buffer_size", [1, 100, 65_536, 1 << 22])
def test_bytes_are_those_of_a_writer(mode: Mode, taking: str, buffer_size: int) -> None:
    serializer = FrameSerializer(mode.framer(), buffer_size=buffer_size)
    write_all(serializer)
    write_frames(serializer, mode)
    expected = written(mode)
    assert serializer.pending_bytes == serializer.bytes_written == len(expected)
    assert TAKING[taking](serializer) == expected


@given(data=st.data())
def test_writes_and_takes_in_any_order_give_the_stream(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(list(MODES.values())))
    serializer = FrameSerializer(mode.framer(), buffer_size=data.draw(st.sampled_from([1, 30, 1000])))
    payloads: list[bytes] = []
    got = b""
    kept: list[tuple[memoryview, bytes]] = []
    for step in data.draw(st.lists(st.integers(0, 5), max_size=40)):
        if step < 3:
            payload = data.draw(st.binary(max_size=60)) * data.draw(st.sampled_from([1, 1, 50]))
            payloads.append(payload)
            serializer.write_payload(payload if step else bytearray(payload))
        elif step == 3:
            got += serializer.take(data.draw(st.none() | st.integers(1, 200)))
        else:
            buffers = serializer.pending_buffers()
            whole = b"".join(buffers)
            kept += [(buffer, bytes(buffer)) for buffer in buffers]
            size = data.draw(st.integers(0, len(whole)))
            serializer.mark_sent(size)
            got += whole[:size]
        assert serializer.pending_bytes == len(reference.encode(payloads, mode.name)) - len(got)
    got += serializer.take()
    assert got == reference.encode(payloads, mode.name)
    # Views of what was sent stay as they were.
    assert all(bytes(buffer) == seen for buffer, seen in kept)


def test_large_bytes_object_is_not_copied() -> None:
    serializer = FrameSerializer("crc32")
    payload, changing = bytes(200_000), bytearray(200_000)
    serializer.write_payload(b"first")
    serializer.write_payload(payload)
    serializer.write_payload(changing)
    changing[:] = b"x" * len(changing)
    buffers = serializer.pending_buffers()
    assert [len(buffer) for buffer in buffers] == [13, 8, 200_000, 200_008]
    assert address(buffers[2]) == address(payload)
    assert all(buffer.readonly for buffer in buffers)
    for buffer in buffers:
        # The program's own views.
        buffer.release()
    assert serializer.take() == reference.encode([b"first", payload, bytes(200_000)], "crc32")


def test_part_of_a_large_object_is_copied() -> None:
    serializer = FrameSerializer()
    builder = flatstream.Builder()
    builder.Finish(builder.CreateByteVector(bytes(300_000)))
    serializer.write_finished(builder)
    expected = bytes(builder.Output())
    builder.Clear()
    builder.Finish(builder.CreateByteVector(b"x" * 300_000))
    assert serializer.take() == reference.encode([expected], "none")


def test_memory_of_what_was_sent_is_given_back() -> None:
    serializer = FrameSerializer(buffer_size=1000)
    for _ in range(200):
        serializer.write_payloads([b"x" * 90] * 100)
        serializer.write_payload(bytes(50_000))
        total = serializer.pending_bytes
        serializer.mark_sent(total // 2)
        assert len(serializer.take()) == total - total // 2
        assert serializer.pending_buffers() == []
        assert serializer.buffer_capacity == 1000


# Too much


@pytest.mark.parametrize("buffer_size", [100, 65_536])
@pytest.mark.parametrize(
    "framer",
    [DefaultFramer(), DefaultFramer().observed(lambda payload: None), PythonFramer()],
    ids=["default", "observed", "in Python"],
)
def test_no_more_is_kept_than_max_pending(framer: Any, buffer_size: int) -> None:
    most = 200_000
    serializer = FrameSerializer(framer, max_pending=most, buffer_size=buffer_size)
    rng = random.Random(1)
    accepted = []
    got = []
    told: list[tuple[str, int]] = []
    refused = 0
    for number in range(800):
        payload = b"%d" % number + bytes(rng.choice([10, 300, 70_000 if number % 5 == 0 else 5]))
        try:
            serializer.write_payload(payload)
        except BlockingIOError as error:
            told.append((str(error), error.characters_written))
            refused += 1
            before = serializer.pending_bytes
            assert most < before + 4 + len(payload)
            got.append(serializer.take(rng.choice([None, 50_000])))
        else:
            accepted.append(payload)
            # A framer that is told each payload has accepted it when it is told.
            assert serializer.pending_bytes <= most + (0 if type(framer) is DefaultFramer else 4 + len(payload))
    assert refused > 3
    assert all("bytes are pending" in text and taken == 0 for text, taken in told)
    assert serializer.frames_written == len(accepted)
    assert b"".join(got) + serializer.take() == reference.encode(accepted, "none")


def test_message_that_is_larger_than_max_pending_is_taken_alone() -> None:
    for framer in (DefaultFramer(), DefaultFramer().observed(lambda payload: None)):
        serializer = FrameSerializer(framer, max_pending=1000)
        assert serializer.buffer_capacity == 1000
        serializer.write_payload(b"small")
        with pytest.raises(BlockingIOError, match="9 bytes are pending"):
            serializer.write_payload(bytes(5000))
        assert serializer.take() == reference.encode([b"small"], "none")
        serializer.write_payload(bytes(5000))
        for refused in (bytes(5000), b"small"):
            with pytest.raises(BlockingIOError, match=r"5004 bytes are pending, and .* above max_pending=1000: send"):
                serializer.write_payload(refused)
        assert serializer.take(5000) + serializer.take() == reference.encode([bytes(5000)], "none")


def test_large_message_leaves_the_room_that_max_pending_says() -> None:
    serializer = FrameSerializer(max_pending=1000, buffer_size=400)
    serializer.write_payload(bytes(696))
    for number in range(30):
        serializer.write_payload(b"%06d" % number)
    assert serializer.pending_bytes == 1000
    with pytest.raises(BlockingIOError):
        serializer.write_payload(b"")
    serializer.mark_sent(700)
    serializer.write_payload(bytes(300))
    serializer.write_payload(bytes(392))
    assert (serializer.pending_bytes, serializer.frames_written) == (1000, 33)
    assert len(serializer.take()) == 1000
    assert serializer.buffer_capacity == 400


def test_without_a_limit_everything_is_kept() -> None:
    serializer = FrameSerializer(max_pending=None)
    for _ in range(40):
        serializer.write_payload(bytes(1 << 20))
    assert serializer.pending_bytes == 40 * (4 + (1 << 20))
    assert sum(map(len, serializer.pending_buffers())) == serializer.pending_bytes


def test_refused_messages_change_nothing() -> None:
    serializer = FrameSerializer(DefaultFramer().bounded(10))
    with pytest.raises(InvalidFrameError) as caught:
        serializer.write_payload(b"x" * 11)
    assert (caught.value.offset, caught.value.frame) == (0, 0)
    with pytest.raises(FlatbufferError):
        serializer.write(UnfinishedItem())
    with pytest.raises(TypeError):
        serializer.write_payload("text")  # type: ignore[arg-type]
    assert serializer.pending_bytes == 0
    assert serializer.pending_buffers() == []
    assert serializer.take() == serializer.take(5) == b""


# Wrong calls, and the end


def test_wrong_counts_are_refused() -> None:
    serializer = FrameSerializer()
    serializer.write_payload(b"abc")
    for count in (-1, 8, 2**70):
        with pytest.raises(ValueError, match=f"nbytes must be from 0 to 7, the bytes pending, got {count}"):
            serializer.mark_sent(count)
    for wrong in (None, "1", 1.5):
        with pytest.raises(TypeError, match="nbytes must be an int, got"):
            serializer.mark_sent(wrong)  # type: ignore[arg-type]
    for count in (0, -1):
        with pytest.raises(ValueError, match="max_bytes"):
            serializer.take(count)
        with pytest.raises(ValueError, match="max_buffers"):
            serializer.pending_buffers(count)
    with pytest.raises(TypeError, match="max_bytes"):
        serializer.take("5")  # type: ignore[arg-type]
    assert serializer.pending_bytes == 7


def test_what_is_pending_is_sent_after_the_end() -> None:
    serializer = FrameSerializer()
    serializer.write_payload(b"abc")
    serializer.finish()
    serializer.finish()
    assert serializer.finished
    calls: list[Callable[[], object]] = [
        lambda: serializer.write_payload(b"abc"),
        lambda: serializer.write_payloads([b"abc"]),
        lambda: serializer.write("abc"),
        lambda: serializer.write_finished(finished_builder("abc")),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="this FrameSerializer is closed"):
            call()
    assert repr(serializer) == "<FrameSerializer finished, 7 bytes pending, 1 frames>"
    assert serializer.take(3) + b"".join(serializer.pending_buffers()) == b"\x03\x00\x00\x00abc"
    serializer.mark_sent(4)
    assert serializer.pending_bytes == 0


def test_description_comes_first() -> None:
    serializer = FrameSerializer("crc32", describe=DISK, metadata={"site": "north"}, time_field=None)
    RecordWriter(serializer, DISK).write(name="sda")
    parser = FrameParser("crc32")
    parser.feed(serializer.take())
    (record,) = parser.records()
    assert record["name"] == "sda"
    assert parser.description == serializer.description
    assert parser.description is not None
    assert parser.description.metadata == {"site": "north"}
    assert serializer.frames_written == 1
    assert FrameSerializer().description is None
    with pytest.raises(ValueError, match="time_field"):
        FrameSerializer(time_field="time")


def test_builder_is_the_one_that_was_given_and_a_policy_replaces_it() -> None:
    builder = flatstream.Builder(100)
    assert FrameSerializer(builder=builder).builder is builder
    policy = AdaptiveWatermarkPolicy(messages_to_wait=2, baseline_capacity=256)
    serializer = FrameSerializer(memory_policy=policy, capacity=256)
    serializer.write(BytesItem(bytes(100_000)))
    assert len(serializer.builder.Bytes) > 100_000
    for _ in range(10):
        serializer.write("small")
    assert len(serializer.builder.Bytes) <= 1024
    with pytest.raises(TypeError, match="builder must be"):
        FrameSerializer(builder=5)


def test_serializer_that_was_not_made_raises() -> None:
    serializer = FrameSerializer.__new__(FrameSerializer)
    with pytest.raises(ValueError, match="closed"):
        serializer.write_payload(b"abc")
    assert serializer.take() == b""
    assert serializer.pending_buffers() == []
    serializer.mark_sent(0)
    assert serializer.pending_bytes == 0
    assert not isinstance(serializer, StreamWriter)


def test_calls_from_within_a_write_are_refused() -> None:
    errors: list[BaseException] = []

    def observe(payload: memoryview) -> None:
        for call in (serializer.take, serializer.pending_buffers, lambda: serializer.mark_sent(0), serializer.finish):
            with pytest.raises(RuntimeError, match="reentrant call: this FrameSerializer") as caught:
                call()
            errors.append(caught.value)

    serializer = FrameSerializer(DefaultFramer().observed(observe))
    serializer.write_payload(b"abc")
    assert len(errors) == 4
    assert serializer.take() == b"\x03\x00\x00\x00abc"


def test_threads_share_a_serializer() -> None:
    serializer = FrameSerializer(buffer_size=500)
    pieces = []
    done: list[int] = []

    def write(start: int) -> None:
        for number in range(start, start + 2000):
            serializer.write_payload(struct.pack("<I", number))
        done.append(start)

    def take() -> None:
        while len(done) < 3 or serializer.pending_bytes:
            pieces.append(serializer.take(1234))

    run_threads(*[lambda start=start: write(start) for start in (0, 10_000, 20_000)], take)
    numbers = [struct.unpack("<I", payload)[0] for payload in StreamReader(b"".join(pieces))]
    assert sorted(numbers) == [start + number for start in (0, 10_000, 20_000) for number in range(2000)]
    for start in (0, 10_000, 20_000):
        own = [number for number in numbers if start <= number < start + 10_000]
        assert own == sorted(own)


def test_child_process_does_not_write_for_its_parent() -> None:
    code = """
import os
from flatstream import FrameSerializer

serializer = FrameSerializer()
serializer.write_payload(b"abc")
child = os.fork()
if not child:
    try:
        serializer.write_payload(b"def")
    except RuntimeError as error:
        os._exit("after a fork" not in str(error))
    os._exit(2)
serializer.write_payload(b"def")
assert len(serializer.take()) == 14
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    assert run_python(code).returncode == 0

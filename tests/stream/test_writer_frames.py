"""write_frames(): the frames of a batch are passed on as they are, each of them accepted completely or not at all."""

from __future__ import annotations

import errno
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    BoundedFramer,
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumType,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    FrameBatch,
    InvalidFrameError,
    StreamReader,
    StreamWriter,
    XxHash64,
)
from flatstream._core.stream.encoder import Encoder
from reference import framing as reference
from support.extent import in_one_test
from support.faults import device_error
from support.python_strategies import PythonDeframer
from support.sinks import every_sink

CHECKSUMS = ["none", "crc16", "crc32", "crc32c", "crc64", "xxhash64"]


def batch_of(payloads: list[bytes], checksum: str = "none", *, copied: bool = False) -> FrameBatch:
    """One batch of these payloads, from memory or from a reader's own chunk."""
    stream = reference.encode(payloads, checksum)
    source: Any = io.BytesIO(stream) if copied else stream
    with StreamReader(source, checksum, capacity=max(len(stream), 1)) as reader:
        batch = reader.read_batch(max(len(payloads), 1))
    assert batch is not None
    assert len(batch) == len(payloads)
    return batch


def some_payloads(seed: int, count: int, longest: int) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(chance.choice([0, 1, 7, 64, longest])) for _ in range(count)]


# What arrives


@in_one_test(step=4)
@pytest.mark.parametrize("buffer_size", [0, 50, 1000, 65_536])
@pytest.mark.parametrize("checksum", CHECKSUMS)
@every_sink
def test_batches_arrive_as_they_were(sink_kind: Any, checksum: Any, buffer_size: int, tmp_path: Path) -> None:
    payloads = some_payloads(1, 300, 700)
    stream = reference.encode(payloads, checksum)
    with sink_kind.open(tmp_path) as target:
        with (
            StreamReader(io.BytesIO(stream), checksum, capacity=5000) as reader,
            StreamWriter(target.sink, checksum, buffer_size=buffer_size) as writer,
        ):
            for batch in reader.batches():
                writer.write_frames(batch)
                assert writer.frames_written == reader.frames_read
                assert writer.bytes_written == reader.offset
        assert target.arrived() == stream


def test_batch_and_other_writes_keep_their_order() -> None:
    sink = io.BytesIO()
    small, large = [b"small"] * 5, [b"large" * 100] * 400
    with StreamWriter(sink, "crc32", buffer_size=1000) as writer:
        writer.write_payload(b"before")
        writer.write_frames(batch_of(small, "crc32"))
        writer.write_payload(b"between")
        writer.write_frames(batch_of(large, "crc32"))
        writer.write_payload(b"after")
        writer.write_frames(batch_of(small, "crc32"))
        assert writer.frames_written == 413
    payloads = [b"before", *small, b"between", *large, b"after", *small]
    assert sink.getvalue() == reference.encode(payloads, "crc32")


def test_large_batch_reaches_a_file_in_one_call_without_a_copy() -> None:
    pieces: list[memoryview] = []

    def write(data: memoryview) -> int:
        pieces.append(data)
        return len(data)

    batch = batch_of([b"x" * 64] * 5000)
    encoder = Encoder(DefaultFramer(), 65_536, write, takes_at_once=True)
    encoder.write_frames(batch)
    (piece,) = pieces
    assert piece.obj is batch.buffer.obj
    assert encoder.frames_written == 5000


def test_batch_outlives_the_sink_that_releases_its_view() -> None:
    class Sink:
        def write(self, data: memoryview) -> int:
            batch.buffer.release()
            self.data = bytes(data)
            return len(data)

    batch = batch_of([b"x" * 64] * 5000, copied=True)
    sink = Sink()
    with StreamWriter(sink) as writer:
        writer.write_frames(batch)
    assert sink.data == reference.encode([b"x" * 64] * 5000, "none")
    with StreamWriter(io.BytesIO()) as other, pytest.raises(ValueError, match="released"):
        other.write_frames(batch)


# What is refused


@in_one_test
@pytest.mark.parametrize("found", CHECKSUMS)
@pytest.mark.parametrize("made", CHECKSUMS)
def test_batch_of_another_checksum_is_refused_before_anything_is_written(made: Any, found: Any) -> None:
    batch = batch_of([b"a" * 10] * 3, found)
    with StreamWriter(io.BytesIO(), made) as writer:
        if made == found:
            writer.write_frames(batch)
            assert writer.frames_written == 3
        else:
            with pytest.raises(ValueError, match=r"use write_payloads\(batch\)") as caught:
                writer.write_frames(batch)
            for checksum in (made, found):
                name = "Default" if checksum == "none" else type(ChecksumType(checksum).checksum()).__name__
                assert name in str(caught.value)
            assert writer.frames_written == 0
            writer.write_payloads(batch)
            assert writer.frames_written == 3


class OwnChecksum(Checksum):
    """Of the size of CRC-32, and not CRC-32."""

    size = 4

    def calculate(self, payload: Any) -> int:
        return len(payload)


class OwnVerify(Crc32):
    def verify(self, expected: int, payload: Any) -> None:
        pass


@pytest.mark.parametrize(
    "deframer",
    [
        ChecksumDeframer(OwnChecksum()),
        # It accepts frames with any checksum.
        ChecksumDeframer(OwnVerify()),
        PythonDeframer(),
    ],
    ids=["own_checksum", "own_verify", "own_deframer"],
)
def test_batch_of_frames_that_only_python_knows_is_refused(deframer: Any) -> None:
    stream = b"\1\0\0\0\1\0\0\0x" if isinstance(deframer, ChecksumDeframer) else b"\1\0\0\0x"
    with StreamReader(stream, deframer) as reader:
        batch = reader.read_batch()
    assert batch is not None
    for framer in (ChecksumFramer(Crc32()), DefaultFramer()):
        with StreamWriter(io.BytesIO(), framer) as writer:
            with pytest.raises(ValueError, match="write_payloads"):
                writer.write_frames(batch)
            assert writer.frames_written == 0


@in_one_test
@pytest.mark.parametrize("value", [[b"a"], b"a", None, iter([])], ids=["list", "bytes", "None", "iterator"])
def test_what_is_no_batch_is_refused(value: Any) -> None:
    with StreamWriter(io.BytesIO()) as writer, pytest.raises(TypeError, match="must be a FrameBatch"):
        writer.write_frames(value)


def test_closed_writer_refuses_a_batch() -> None:
    writer = StreamWriter(io.BytesIO())
    writer.close()
    with pytest.raises(ValueError, match="this StreamWriter is closed"):
        writer.write_frames(batch_of([b"a"]))


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 100, 65_536])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_frame_over_the_bound_of_the_writer_is_refused_and_those_before_it_are_written(
    place: int, buffer_size: int
) -> None:
    payloads = [b"x" * 10] * 20
    payloads[place] = b"x" * 11
    sink = io.BytesIO()
    writer = StreamWriter(sink, BoundedFramer(ChecksumFramer(XxHash64()), 10), buffer_size=buffer_size)
    with pytest.raises(InvalidFrameError) as caught:
        writer.write_frames(batch_of(payloads, "xxhash64"))
    assert (caught.value.declared_len, caught.value.limit, caught.value.frame) == (11, 10, place)
    assert writer.frames_written == place
    writer.close()
    assert sink.getvalue() == reference.encode(payloads[:place], "xxhash64")


def test_framer_that_looks_at_payloads_gets_each_of_them() -> None:
    seen: list[bytes] = []
    sink = io.BytesIO()
    payloads = some_payloads(2, 100, 500)
    framer = DefaultFramer().observed(lambda payload: seen.append(bytes(payload)))
    with StreamWriter(sink, framer) as writer:
        # The frames are made again, so the checksum of the batch does not matter.
        writer.write_frames(batch_of(payloads, "crc32"))
    assert seen == payloads
    assert sink.getvalue() == reference.encode(payloads, "none")


def test_bounded_deframer_does_not_matter() -> None:
    stream = reference.encode([b"abc", b"de"], "none")
    sink = io.BytesIO()
    with StreamReader(stream, DefaultDeframer().bounded(100)) as reader, StreamWriter(sink) as writer:
        for batch in reader.batches():
            writer.write_frames(batch)
    assert sink.getvalue() == stream


def test_memory_of_the_caller_that_was_changed_after_it_was_read_is_refused() -> None:
    stream = bytearray(reference.encode([b"abc", b"defg"], "none"))
    with StreamReader(stream) as reader, StreamWriter(io.BytesIO()) as writer:
        batch = reader.read_batch()
        assert batch is not None
        stream[7] = 200
        with pytest.raises(ValueError, match="frame 1 of the batch was changed after it was read"):
            writer.write_frames(batch)
        assert writer.frames_written == 0


# Sinks that fail in the middle


class Faulty:
    """Takes `limit` bytes in pieces of at most `most`, raises each of `errors` once, and then takes everything."""

    def __init__(self, limit: int, errors: list[BaseException], most: int = 1 << 30) -> None:
        self.limit = limit
        self.errors = errors
        self.most = most
        self.data = bytearray()

    def write(self, data: Any) -> int:
        if not self.errors:
            self.data += data
            return len(data)
        if len(self.data) >= self.limit:
            raise self.errors.pop(0).with_traceback(None)
        taken = data[: min(self.most, self.limit - len(self.data))]
        self.data += taken
        return len(taken)

    def rollback(self, count: int) -> bool:
        del self.data[-count:]
        return True


PAYLOADS = [b"%d" % number * 9 for number in range(10, 40)]
FRAMES = reference.encode(PAYLOADS, "none")
FRAME = 4 + 18


def encoder_for(sink: Faulty, buffer_size: int, *, rollback: bool = False) -> Encoder:
    return Encoder(
        DefaultFramer(),
        buffer_size,
        sink.write,
        rollback=sink.rollback if rollback else None,
        error_takes_nothing=True,
        takes_at_once=True,
    )


@in_one_test
@pytest.mark.parametrize("most", [1, 50, 1 << 30])
@pytest.mark.parametrize("buffer_size", [0, 30, 100, 5000])
@pytest.mark.parametrize("make_error", [lambda: BlockingIOError(11, "full", 0), lambda: TimeoutError("slow")])
def test_sink_that_blocks_anywhere_gets_each_accepted_frame_once(
    make_error: Callable[[], BaseException], buffer_size: int, most: int
) -> None:
    batch = batch_of(PAYLOADS)
    for limit in range(0, len(FRAMES) + 1, 5):
        sink = Faulty(limit, [make_error(), make_error()], most)
        encoder = encoder_for(sink, buffer_size)
        try:
            encoder.write_frames(batch)
            assert encoder.frames_written == len(PAYLOADS)
        except (BlockingIOError, TimeoutError):
            accepted = encoder.frames_written
            assert accepted < len(PAYLOADS)
            # All that the sink has begun is accepted, and what the buffer had room for.
            assert accepted * FRAME >= limit
            if buffer_size:
                assert accepted * FRAME >= min(limit + buffer_size - 2 * FRAME, len(FRAMES) - FRAME)
        accepted = encoder.frames_written
        assert encoder.bytes_written == accepted * FRAME
        assert encoder.pending_bytes == accepted * FRAME - len(sink.data)
        sink.errors.clear()
        encoder.write_payload(b"next")
        encoder._drain_buffer()
        assert sink.data == FRAMES[: accepted * FRAME] + b"\4\0\0\0next"


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 30, 100, 5000])
def test_sink_that_fails_anywhere_and_is_cut_back_gets_each_accepted_frame_once(buffer_size: int) -> None:
    batch = batch_of(PAYLOADS)
    for limit in range(0, len(FRAMES), 3):
        error = device_error(errno.ENOSPC)
        sink = Faulty(limit, [error])
        encoder = encoder_for(sink, buffer_size, rollback=True)
        try:
            encoder.write_frames(batch)
        except OSError as caught:
            assert caught is error  # noqa: PT017 - a large buffer takes the batch, and nothing fails
            assert encoder.frames_written == limit // FRAME
            assert sink.data == FRAMES[: limit // FRAME * FRAME]
        accepted = encoder.frames_written
        assert not encoder.is_refusing
        sink.errors.clear()
        encoder.write_payload(b"next")
        encoder._drain_buffer()
        assert sink.data == FRAMES[: accepted * FRAME] + b"\4\0\0\0next"


@pytest.mark.parametrize("buffer_size", [0, 30, 100])
def test_sink_that_fails_inside_a_frame_and_cannot_be_cut_back_makes_the_writer_refuse(buffer_size: int) -> None:
    batch = batch_of(PAYLOADS)
    for limit in range(0, len(FRAMES), 3):
        sink = Faulty(limit, [device_error(errno.EIO)])
        encoder = encoder_for(sink, buffer_size)
        with pytest.raises(OSError, match="Input/output error"):
            encoder.write_frames(batch)
        assert encoder.frames_written == limit // FRAME
        assert encoder.is_refusing == (limit % FRAME != 0)
        assert sink.data == FRAMES[:limit]


@pytest.mark.parametrize("buffer_size", [0, 30, 100])
def test_handler_that_raises_in_the_middle_loses_no_frame_that_has_begun(buffer_size: int) -> None:
    batch = batch_of(PAYLOADS)
    for limit in range(0, len(FRAMES), 3):
        sink = Faulty(limit, [KeyboardInterrupt()])
        encoder = encoder_for(sink, buffer_size)
        with pytest.raises(KeyboardInterrupt):
            encoder.write_frames(batch)
        accepted = encoder.frames_written
        assert accepted == -(-limit // FRAME)
        encoder.write_payload(b"next")
        encoder._drain_buffer()
        assert sink.data == FRAMES[: accepted * FRAME] + b"\4\0\0\0next"


def test_sink_of_unknown_kind_that_fails_makes_the_writer_refuse() -> None:
    class Sink:
        calls = 0

        def write(self, data: Any) -> int:
            self.calls += 1
            if self.calls > 3:
                raise RuntimeError("of its own")
            return len(data[:50])

    writer = StreamWriter(Sink(), buffer_size=30)
    with pytest.raises(RuntimeError):
        writer.write_frames(batch_of(PAYLOADS))
    assert writer.is_refusing
    assert writer.frames_written == 150 // FRAME
    with pytest.raises(Exception, match="refuses to go on"):
        writer.close()

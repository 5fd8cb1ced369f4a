"""Damaged streams: lengths that lie, cuts anywhere, bounds, stale bytes, faults inside of a checksum."""

from __future__ import annotations

import errno
import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import flatbuffers
import pytest

from flatstream import (
    ChecksumMismatchError,
    ChecksumType,
    DefaultDeframer,
    DefaultFramer,
    InvalidFrameError,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
)
from reference import framing as reference
from support.extent import in_one_test
from support.messages import flatbuffer_of_string
from support.modes import MODES, Mode, every_mode
from support.sinks import PlainSink
from support.sources import CutReadSource, CutSource, FaultySource
from support.streams import by_batch, by_message, corpus, flip, read_all

every_checksum = pytest.mark.parametrize("mode", [pytest.param(m, id=n) for n, m in MODES.items() if n != "none"])
MIB = 1 << 20


def overstate(data: bytes, offset: int, length: int) -> bytes:
    """`data` with another length in the frame at `offset`."""
    return data[:offset] + length.to_bytes(4, "little") + data[offset + 4 :]


# A length overstated within bounds is UnexpectedEof


@in_one_test
@every_mode
def test_length_overstated_within_bounds_is_unexpected_eof(mode: Mode) -> None:
    stream = corpus(mode)
    for frame, offset in enumerate(stream.starts):
        rest = len(stream.data) - offset
        # Just beyond the end of the stream, far beyond it, and the most that the default limit allows.
        for length in (rest - 4 - mode.size + 1, rest + 1000, 2**31):
            payloads, error = read_all(overstate(stream.data, offset, length), mode.deframer())
            assert payloads == list(stream.payloads[:frame])
            assert isinstance(error, UnexpectedEofError)
            assert (error.frame, error.offset) == (frame, offset)
            assert (error.needed, error.got) == (4 + mode.size + length, rest)


def test_length_overstated_within_bounds_is_unexpected_eof_from_a_source_that_is_no_buffer() -> None:
    stream = corpus(MODES["crc32"])
    offset = stream.starts[-1]
    data = overstate(stream.data, offset, len(stream.payloads[-1]) + 1)
    for source in (io.BytesIO(data), CutSource(data, range(len(data))), CutReadSource(data)):
        payloads, error = read_all(source, ChecksumType.CRC32, capacity=16)
        assert payloads == list(stream.payloads[:-1])
        assert isinstance(error, UnexpectedEofError)
        assert (error.needed, error.got) == (len(data) - offset + 1, len(data) - offset)


def test_lying_length_allocates_no_more_than_a_megabyte_beyond_what_arrived() -> None:
    claim = (1900 * MIB).to_bytes(4, "little") + b"123456"

    def read() -> BaseException | None:
        return read_all(io.BytesIO(claim), capacity=4096)[1]

    assert isinstance(read(), UnexpectedEofError)
    assert peak_of(read) < MIB + 64 * 1024


# Cutting a stream anywhere yields the whole frames in order and a clean end only at frame boundaries


@in_one_test
@every_mode
def test_cutting_a_stream_anywhere_yields_whole_frames_and_a_clean_end_only_at_boundaries(mode: Mode) -> None:
    stream = corpus(mode)
    boundaries = {0, *stream.ends}
    for cut in range(len(stream.data) + 1):
        whole = stream.whole_frames(cut)
        for source in (stream.data[:cut], io.BytesIO(stream.data[:cut])):
            payloads, error = read_all(source, mode.deframer(), capacity=8)
            assert payloads == list(stream.payloads[:whole])
            if cut in boundaries:
                assert error is None
                continue
            torn = reference.decode(stream.data[:cut], mode.name).end
            assert isinstance(torn, reference.Torn)
            assert isinstance(error, UnexpectedEofError)
            assert (error.offset, error.frame, error.needed, error.got) == (
                torn.offset,
                torn.frame,
                torn.needed,
                torn.got,
            )


@in_one_test
@pytest.mark.parametrize("read", [by_message, by_batch])
@every_mode
def test_cut_stream_ends_the_same_way_for_every_way_of_reading(
    mode: Mode, read: Callable[[StreamReader], list[bytes]]
) -> None:
    stream = corpus(mode)
    for cut in range(len(stream.data) + 1):
        reader = StreamReader(stream.data[:cut], mode.deframer())
        if cut in (0, *stream.ends):
            assert read(reader) == list(stream.payloads[: stream.whole_frames(cut)])
            # A clean end is no error the second time either.
            assert read(reader) == []
        else:
            with pytest.raises(UnexpectedEofError) as first:
                read(reader)
            # And a torn one never becomes clean by asking again.
            with pytest.raises(UnexpectedEofError) as second:
                read(reader)
            assert second.value is first.value
        assert reader.frames_read == stream.whole_frames(cut)
        reader.close()


# A length over the bound is InvalidFrame with declared_len and limit, before any allocation


class HeaderOnlySource:
    """Gives the four bytes of a length and must not be asked for more."""

    def __init__(self, length: int, before: bytes = b"") -> None:
        self.rest = before + length.to_bytes(4, "little")

    def readinto(self, buffer: Any) -> int:
        assert self.rest, "the length is over the bound: nothing more is to be read"
        size = len(self.rest)
        buffer[:size] = self.rest
        self.rest = b""
        return size


@in_one_test
@every_mode
@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda mode: mode.deframer(), 2**31),
        (lambda mode: mode.deframer(max_frame_len=1000), 1000),
        (lambda mode: mode.deframer().bounded(1000), 1000),
        (lambda mode: mode.deframer().with_max_frame_len(1000), 1000),
        (lambda mode: mode.deframer().with_max_frame_len(2**32).bounded(0), 0),
        (lambda mode: mode.deframer().bounded(2000).bounded(1000).bounded(3000), 1000),
    ],
    ids=["default", "max_frame_len", "bounded", "with_max_frame_len", "zero", "innermost"],
)
def test_length_over_the_bound_is_invalid_frame_before_any_allocation(
    mode: Mode, make: Callable[[Mode], Any], limit: int
) -> None:
    # Behind the first frame, which may be a description: of that, 8 bytes of payload are looked at.
    first = reference.encode([b""], mode.name)
    for length in (limit + 1, 2**32 - 1):
        deframer = make(mode)
        with StreamReader(HeaderOnlySource(length, first), deframer, capacity=64) as reader:
            message = reader.read_message()
            assert message is not None
            assert not message.nbytes
            for _ in range(2):
                with pytest.raises(InvalidFrameError) as caught:
                    reader.read_message()
                assert (caught.value.declared_len, caught.value.buffer_len) == (length, 4)
                # What is over several limits may be refused by any of them.
                assert caught.value.limit == limit or (caught.value.limit == 2**31 and length > 2**31)
                assert (caught.value.frame, caught.value.offset) == (1, len(first))
            assert reader.buffer_capacity == 64


def test_length_over_the_bound_costs_no_memory() -> None:
    def read() -> None:
        with (
            StreamReader(HeaderOnlySource(2**31), DefaultDeframer(max_frame_len=2**31 - 1), capacity=64) as reader,
            pytest.raises(InvalidFrameError),
        ):
            reader.read_message()

    read()
    assert peak_of(read) < 64 * 1024


@in_one_test
@every_mode
def test_length_at_the_bound_is_read(mode: Mode) -> None:
    stream = corpus(mode, [b"12345", b"1234567"])
    assert read_all(stream.data, mode.deframer().bounded(7)) == ([b"12345", b"1234567"], None)


@in_one_test
@every_mode
def test_payload_over_the_bound_is_refused_by_the_writer_and_nothing_is_written(mode: Mode) -> None:
    sink = PlainSink()
    with StreamWriter(sink, mode.framer().bounded(5), buffer_size=0) as writer:
        writer.write_payload(b"12345")
        with pytest.raises(InvalidFrameError) as caught:
            writer.write_payload(b"123456")
        assert (caught.value.declared_len, caught.value.limit) == (6, 5)
        assert (caught.value.frame, caught.value.offset) == (1, 4 + mode.size + 5)
        writer.write_payload(b"")
    assert sink.arrived() == reference.encode([b"12345", b""], mode.name)


def peak_of(function: Callable[[], object]) -> int:
    """The most bytes that were allocated at a time while `function` ran."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# A 16 MiB + 1 payload fails a 16 MiB bound and round-trips by default


@pytest.mark.parametrize("name", ["none", "crc32", "xxhash64"])
def test_payload_of_16_mib_and_a_byte_fails_a_16_mib_bound_and_round_trips_by_default(name: str) -> None:
    mode = MODES[name]
    payload = bytes(16 * MIB) + b"!"
    sink = io.BytesIO()
    with StreamWriter(sink, mode.framer()) as writer:
        with pytest.raises(InvalidFrameError) as refused:
            StreamWriter(io.BytesIO(), mode.framer().bounded(16 * MIB)).write_payload(payload)
        assert (refused.value.declared_len, refused.value.limit) == (16 * MIB + 1, 16 * MIB)
        writer.write_payload(payload)
    assert sink.tell() == 4 + mode.size + 16 * MIB + 1

    for make_source in (bytes, io.BytesIO):
        assert read_all(make_source(sink.getvalue()), mode.deframer()) == ([payload], None)
        payloads, error = read_all(make_source(sink.getvalue()), mode.deframer().bounded(16 * MIB))
        assert payloads == []
        assert isinstance(error, InvalidFrameError)
        assert (error.declared_len, error.limit) == (16 * MIB + 1, 16 * MIB)


# A small frame after a large one shows no stale bytes


@in_one_test
@pytest.mark.parametrize("source_kind", [io.BytesIO, CutSource, CutReadSource, bytes])
@every_mode
def test_small_frame_after_a_large_one_shows_no_stale_bytes(mode: Mode, source_kind: Any) -> None:
    payloads = []
    for number, size in enumerate([5000, 0, 1, 2, 3, 5000, 7, 4999, 0, 8]):
        payloads.append(bytes([0x41 + number]) * size)
    stream = corpus(mode, payloads)
    assert read_all(source_kind(stream.data), mode.deframer(), capacity=16) == (payloads, None)
    with StreamReader(source_kind(stream.data), mode.deframer(), capacity=16) as reader:
        # The view of the large frame is let go of before the small one is read into the same memory.
        assert [bytes(payload) for payload in reader] == payloads


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 16, 65536])
@every_mode
def test_small_message_after_a_large_one_is_written_without_stale_bytes(mode: Mode, buffer_size: int) -> None:
    texts = ["x" * 3000, "", "y", "z" * 2999, "yz", "x" * 20]
    sink = PlainSink()
    with StreamWriter(sink, mode.framer(), buffer_size=buffer_size, capacity=1) as writer:
        writer.write_batch(texts)
    assert sink.arrived() == reference.encode(map(flatbuffer_of_string, texts), mode.name)


def test_small_message_after_a_large_one_in_expert_mode_is_written_without_stale_bytes() -> None:
    texts = ["x" * 3000, "", "y"]
    builder = flatbuffers.Builder(16)
    sink = PlainSink()
    with StreamWriter(sink, DefaultFramer()) as writer:
        for text in texts:
            builder.Clear()
            builder.Finish(builder.CreateString(text))
            writer.write_finished(builder)
    assert sink.arrived() == reference.encode(map(flatbuffer_of_string, texts), "none")


# An I/O error inside the checksum field keeps its kind


@in_one_test
@pytest.mark.parametrize(
    "make_fault",
    [
        pytest.param(lambda: OSError(errno.EIO, "Input/output error"), id="EIO"),
        pytest.param(lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), id="ECONNRESET"),
        pytest.param(lambda: PermissionError(errno.EACCES, "Permission denied"), id="EACCES"),
    ],
)
@every_checksum
def test_io_error_inside_the_checksum_field_keeps_its_kind(mode: Mode, make_fault: Callable[[], OSError]) -> None:
    stream = corpus(mode)
    frame = 3
    for inside in range(mode.size + 1):
        fault = make_fault()
        number = fault.errno
        source = FaultySource(stream.data, stream.starts[frame] + 4 + inside, fault)
        payloads, error = read_all(source, mode.deframer())
        assert payloads == list(stream.payloads[:frame])
        assert error is fault
        assert fault.errno == number


@in_one_test
@every_checksum
def test_stream_that_ends_inside_the_checksum_field_is_torn(mode: Mode) -> None:
    # The same place, where there is no fault but an end.
    stream = corpus(mode)
    frame = 3
    for inside in range(mode.size):
        _, error = read_all(stream.data[: stream.starts[frame] + 4 + inside], mode.deframer())
        assert isinstance(error, UnexpectedEofError)
        assert (error.frame, error.got) == (frame, 4 + inside)


# A flipped checksum byte is ChecksumMismatch


@in_one_test
@every_checksum
def test_flipped_checksum_byte_is_checksum_mismatch(mode: Mode) -> None:
    stream = corpus(mode)
    algorithm = reference.ALGORITHMS[mode.name]
    for frame, offset in enumerate(stream.starts):
        right = algorithm.stored(stream.payloads[frame])
        for place in range(mode.size):
            for bit in range(8):
                damaged = flip(stream.data, 8 * (offset + 4 + place) + bit)
                payloads, error = read_all(damaged, mode.deframer())
                assert payloads == list(stream.payloads[:frame])
                assert isinstance(error, ChecksumMismatchError)
                assert (error.frame, error.offset) == (frame, offset)
                assert (error.expected, error.calculated) == (right ^ 1 << (8 * place + bit), right)


@in_one_test
@every_checksum
def test_frame_after_a_flipped_checksum_byte_can_be_read(mode: Mode) -> None:
    stream = corpus(mode)
    damaged = flip(stream.data, 8 * (stream.starts[2] + 4))
    with StreamReader(damaged, mode.deframer()) as reader:
        assert [next(reader), next(reader)] == list(stream.payloads[:2])
        with pytest.raises(ChecksumMismatchError):
            next(reader)
        assert list(reader) == list(stream.payloads[3:])
        assert reader.frames_read == len(stream.payloads) - 1

"""Payloads at the edges of what a length of 32 bits can say, and lengths that lie.

A payload of 0, 2**31 - 1, 2**31 or 2**32 - 1 bytes is framed and read rightly, and one of 2**32 bytes is refused. None
of them is copied, and none takes memory here: they are mappings of nothing, or of the hole in a sparse file. A header
that claims gigabytes costs at most a mebibyte more than has arrived.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import socket
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import xxhash
from fastcrc import crc16, crc64

from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    Framer,
    FrameSpan,
    InvalidFrameError,
    NoChecksum,
    RecoveryEnd,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
    recover,
)
from reference import framing as reference
from support.extent import in_one_test
from support.items import FinishedBytes
from support.memory import address
from support.modes import MODES
from support.sinks import PlainSink
from support.sources import CutSource

MEBIBYTE = 1 << 20
MOST = 2**32 - 1
HUGE = [2**31 - 1, 2**31, MOST]

# What a test may allocate besides, for its own objects and the interpreter's.
BESIDES = 64 * 1024

# A sink that may keep what it gets gets copies of at most this many bytes.
COPY = 1 << 20


@contextlib.contextmanager
def nothing(size: int) -> Iterator[mmap.mmap]:
    """A mapping of `size` zero bytes that takes no memory as long as nobody reads them."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ) as mapping:
        yield mapping


@contextlib.contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """Gives a function that says how many bytes more than at the beginning were allocated at a time, at most."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# Writing


class SizeCountingSink:
    """Counts the bytes that it is given and looks at none of a large piece; keeps the small ones."""

    def __init__(self) -> None:
        self.count = 0
        self.pieces: list[bytes | tuple[int, int]] = []

    def write(self, data: Any) -> int:
        self.count += len(data)
        self.pieces.append(bytes(data) if len(data) < 1000 else (address(data), len(data)))
        return len(data)


class LongestPieceSink:
    """Counts what it is given, and keeps the first and the last piece."""

    def __init__(self) -> None:
        self.count = self.longest = 0
        self.first = self.last = b""

    def write(self, data: Any) -> int:
        self.last = bytes(data[:10])
        self.first = self.first or self.last
        self.count += len(data)
        self.longest = max(self.longest, len(data))
        return len(data)


WAYS: dict[str, Callable[[StreamWriter, Any], None]] = {
    "write_payload": lambda writer, payload: writer.write_payload(payload),
    "write_payloads": lambda writer, payload: writer.write_payloads([payload]),
    "write_finished": lambda writer, payload: writer.write_finished(FinishedBytes(payload)),
    "write_message": lambda writer, payload: writer.write_message(FinishedBytes(payload)),
}


@in_one_test
@pytest.mark.parametrize("size", HUGE)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("buffer_size", [0, 65_536])
def test_huge_payload_reaches_a_file_with_its_header_and_without_a_copy(buffer_size, way, size, monkeypatch):
    pieces: list[bytes | tuple[int, int]] = []

    def writev(fd: int, parts: Any) -> int:
        pieces.extend(bytes(part) if len(part) < 1000 else (address(part), len(part)) for part in parts)
        return sum(map(len, parts))

    monkeypatch.setattr(os, "writev", writev)
    with nothing(size) as payload, peak() as allocated, open("/dev/null", "wb", buffering=0) as file:
        with StreamWriter(file, buffer_size=buffer_size) as writer:
            WAYS[way](writer, payload)
            assert (writer.frames_written, writer.bytes_written) == (1, 4 + size)
            writer.write_payload(b"next")
            assert (writer.frames_written, writer.bytes_written) == (2, 4 + size + 8)
        assert allocated() < 65_536 + BESIDES
        assert pieces == [size.to_bytes(4, "little"), (address(payload), size)]


@pytest.mark.parametrize(
    ("buffer_size", "size"),
    # Each piece is a copy: seconds for all of it.
    [
        pytest.param(buffer_size, size, marks=[] if (buffer_size, size) == (65_536, HUGE[-1]) else pytest.mark.long)
        for buffer_size in (0, 65_536)
        for size in HUGE
    ],
)
def test_huge_payload_reaches_a_sink_that_may_keep_it_as_copies_that_take_little_memory(buffer_size, size):
    sink = LongestPieceSink()
    with nothing(size) as payload, peak() as allocated:
        with StreamWriter(sink, buffer_size=buffer_size) as writer:
            writer.write_payload(payload)
            assert (writer.frames_written, writer.bytes_written) == (1, 4 + size)
            writer.write_payload(b"next")
        assert allocated() < 2 * COPY + 65_536 + BESIDES
    assert (sink.first, sink.last) == (size.to_bytes(4, "little"), b"\4\0\0\0next")
    assert (sink.longest, sink.count) == (COPY, 4 + size + 8)


def test_payload_of_nothing_is_four_zero_bytes():
    sink = PlainSink()
    with nothing(1) as mapping, memoryview(mapping)[:0] as empty, StreamWriter(sink) as writer:
        payload: Any
        for payload in (b"", bytearray(), empty, np.empty(0)):
            writer.write_payload(payload)
    assert sink.arrived() == bytes(16)


FRAMERS: dict[str, Callable[[], Framer]] = {
    "default": DefaultFramer,
    "no_checksum": lambda: ChecksumFramer(NoChecksum()),
    "crc32": lambda: ChecksumFramer(Crc32()),
    "bounded": lambda: DefaultFramer().bounded(2**40),
    "observed": lambda: DefaultFramer().observed(lambda payload: None),
}


@in_one_test
@pytest.mark.parametrize("framer", FRAMERS)
@pytest.mark.parametrize("way", WAYS)
def test_payload_of_two_to_the_32_bytes_is_refused_before_anything_is_done(way, framer):
    sink = SizeCountingSink()
    with nothing(2**32) as payload, peak() as allocated:
        with StreamWriter(sink, FRAMERS[framer]()) as writer:
            writer.write_payload(b"before")
            with pytest.raises(InvalidFrameError, match="payload of 4294967296 bytes") as caught:
                WAYS[way](writer, payload)
            error = caught.value
            assert (error.declared_len, error.buffer_len, error.limit) == (2**32, 2**32, MOST)
            assert error.frame == 1
            # The writer goes on.
            assert writer.frames_written == 1
            writer.write_payload(b"behind")
            before = sink.count + writer.bytes_written
        assert allocated() < 65_536 + BESIDES
    assert before == sink.count == writer.bytes_written


@in_one_test
@pytest.mark.parametrize("framer", FRAMERS)
def test_framer_by_itself_refuses_what_does_not_fit_a_length(framer):
    sink = SizeCountingSink()
    refused = pytest.raises(InvalidFrameError, match="payload of 4294967296 bytes")
    with nothing(2**32) as payload, memoryview(payload) as view, refused:
        FRAMERS[framer]().frame_and_write(sink, view)
    assert sink.pieces == []


@pytest.mark.parametrize("size", HUGE)
def test_framer_by_itself_writes_a_huge_payload_without_a_copy(size):
    sink = SizeCountingSink()
    with nothing(size) as payload, peak() as allocated:
        with memoryview(payload) as view:
            DefaultFramer().frame_and_write(sink, view)
        assert allocated() < BESIDES
        assert sink.pieces == [size.to_bytes(4, "little"), (address(payload), size)]


@pytest.mark.parametrize("bound", [pytest.param(2**31 - 1, marks=pytest.mark.long), 2**31])
def test_bound_at_the_edge_lets_its_own_length_pass_and_no_more(bound):
    sink = SizeCountingSink()
    with StreamWriter(sink, DefaultFramer().bounded(bound)) as writer:
        with nothing(bound) as payload:
            writer.write_payload(payload)
        with nothing(bound + 1) as payload, pytest.raises(InvalidFrameError) as caught:
            writer.write_payload(payload)
        assert (caught.value.declared_len, caught.value.limit) == (bound + 1, bound)
    assert sink.count == 4 + bound


def test_counts_and_offsets_of_a_writer_go_beyond_32_bits():
    sink = SizeCountingSink()
    with nothing(MOST) as payload, StreamWriter(sink, DefaultFramer().bounded(MOST)) as writer:
        for _ in range(2):
            writer.write_payload(payload)
        with nothing(2**32) as too_much, pytest.raises(InvalidFrameError) as caught:
            writer.write_payload(too_much)
        assert writer.bytes_written == 2 * (4 + MOST)
    assert (caught.value.frame, caught.value.offset) == (2, 2 * (4 + MOST))
    assert sink.count == 2 * (4 + MOST)


@pytest.mark.parametrize("size", HUGE)
def test_huge_payload_goes_to_a_file_in_as_many_system_calls_as_it_takes(size, monkeypatch):
    # Linux takes at most 2**31 - 4096 bytes at a time.
    vectored = []
    real = os.writev

    def writev(descriptor: int, pieces: Any) -> int:
        taken = real(descriptor, pieces)
        vectored.append(taken)
        return taken

    monkeypatch.setattr(os, "writev", writev)
    with nothing(size) as payload, peak() as allocated:
        with StreamWriter(os.devnull) as writer:
            writer.write_payload(payload)
            writer.write_payload(b"next")
            assert writer.bytes_written == 4 + size + 8
        assert allocated() < 65_536 + BESIDES
    assert vectored[0] > 2**30


# Reading


@contextlib.contextmanager
def sparse_stream(folder: Path, *sizes: int, then: bytes = b"") -> Iterator[mmap.mmap]:
    """A mapping of frames with payloads of zero bytes, which are holes in its file, and `then` behind them."""
    path = folder / "sparse"
    with open(path, "w+b") as file:
        for size in sizes:
            file.write(size.to_bytes(4, "little"))
            file.seek(size, io.SEEK_CUR)
        file.write(then)
        file.truncate()
        # Closed when the last view of it is gone.
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    path.unlink()


@pytest.mark.parametrize("size", HUGE)
def test_huge_frame_of_a_mapping_is_read_without_a_copy(size, tmp_path):
    with sparse_stream(tmp_path, size, then=b"\4\0\0\0next") as mapping, peak() as allocated:
        with StreamReader(mapping, DefaultDeframer(max_frame_len=MOST)) as reader:
            payload = next(reader)
            assert (len(payload), address(payload)) == (size, address(mapping) + 4)
            assert (payload[0], payload[size - 1]) == (0, 0)
            assert reader.message_offset == 0
            assert bytes(next(reader)) == b"next"
            assert reader.message_offset == 4 + size
            assert reader.read_message() is None
            assert reader.offset == reader.bytes_read == 4 + size + 8
        payload.release()
        assert allocated() < BESIDES


@pytest.mark.parametrize("size", HUGE)
def test_huge_frames_in_a_batch_have_offsets_beyond_32_bits(size, tmp_path):
    with sparse_stream(tmp_path, size, size, then=b"\4\0\0\0next") as mapping:
        with StreamReader(mapping, DefaultDeframer(max_frame_len=MOST)) as reader:
            batch = next(reader.batches())
            assert batch.offsets.tolist() == [4, 8 + size, 12 + 2 * size]
            assert batch.lengths.tolist() == [size, size, 4]
            assert [len(payload) for payload in batch] == [size, size, 4]
            assert bytes(batch[-1]) == b"next"
            assert len(batch.buffer) == 2 * (4 + size) + 8
            # What is too much in bytes is left for the next one.
        with StreamReader(mapping, DefaultDeframer(max_frame_len=MOST)) as reader:
            assert [len(batch) for batch in reader.batches(max_bytes=size)] == [1, 1, 1]
        with StreamReader(mapping, DefaultDeframer(max_frame_len=MOST)) as reader:
            assert [len(batch) for batch in reader.batches(max_bytes=2 * size)] == [2, 1]


@in_one_test
@pytest.mark.parametrize("deframer", [DefaultDeframer(), ChecksumDeframer(NoChecksum())], ids=repr)
@pytest.mark.parametrize("size", [2**31 - 1, 2**31])
def test_length_up_to_two_to_the_31_is_accepted_by_default(size, deframer, tmp_path):
    with sparse_stream(tmp_path, size) as mapping, StreamReader(mapping, deframer) as reader:
        assert [len(payload) for payload in reader] == [size]


DEFRAMERS: dict[str, Callable[[], Deframer]] = {
    "default": DefaultDeframer,
    "crc32": lambda: ChecksumDeframer(Crc32()),
    "adapted": lambda: DefaultDeframer().observed(lambda payload: None).bounded(MOST),
}


@in_one_test
@pytest.mark.parametrize("deframer", DEFRAMERS)
@pytest.mark.parametrize("size", [2**31 + 1, MOST])
def test_length_beyond_two_to_the_31_is_refused_by_default_as_soon_as_it_is_seen(size, deframer):
    header = size.to_bytes(4, "little")
    for source in (header, io.BytesIO(header)):
        with peak() as allocated, StreamReader(source, DEFRAMERS[deframer]()) as reader:
            with pytest.raises(InvalidFrameError) as caught:
                reader.read_message()
            assert (caught.value.declared_len, caught.value.limit, caught.value.buffer_len) == (size, 2**31, 4)
            assert allocated() < 262_144 + BESIDES


@in_one_test
@pytest.mark.parametrize("limit", [0, 1, 2**31 - 1, 2**32 - 2])
def test_limit_lets_its_own_length_pass_and_no_more(limit, tmp_path):
    makers: list[Callable[[], Deframer]] = [
        lambda: DefaultDeframer(max_frame_len=limit),
        lambda: DefaultDeframer().with_max_frame_len(limit),
        lambda: DefaultDeframer(max_frame_len=MOST).bounded(limit),
    ]
    for make in makers:
        with sparse_stream(tmp_path, limit, limit + 1) as mapping, StreamReader(mapping, make()) as reader:
            assert len(next(reader)) == limit
            with pytest.raises(InvalidFrameError) as caught:
                next(reader)
            error = caught.value
            assert (error.declared_len, error.limit, error.offset, error.frame) == (limit + 1, limit, 4 + limit, 1)


def test_errors_behind_huge_frames_have_their_true_offsets(tmp_path):
    with sparse_stream(tmp_path, MOST, MOST, then=b"\x09\0\0\0torn") as mapping:
        with StreamReader(mapping, DefaultDeframer(max_frame_len=MOST)) as reader:
            sizes = [len(next(reader)), len(next(reader))]
            with pytest.raises(UnexpectedEofError) as caught:
                next(reader)
        assert sizes == [MOST, MOST]
        assert (caught.value.offset, caught.value.frame) == (2 * (4 + MOST), 2)
        assert (caught.value.needed, caught.value.got) == (13, 8)


def test_huge_frames_are_recovered_from_a_mapping(tmp_path):
    deframer = DefaultDeframer(max_frame_len=MOST)
    with sparse_stream(tmp_path, MOST, 2**31, then=b"\4\0\0\0next") as mapping, peak() as allocated:
        report = recover(mapping, deframer)
        assert (report.frames, report.end) == (3, RecoveryEnd.CLEAN_EOF)
        assert report.last_good_offset == 4 + MOST + 4 + 2**31 + 8
        with memoryview(mapping) as view, view[:-1] as torn:
            report = recover(torn, deframer, guard=False)
        assert (report.frames, report.end) == (2, RecoveryEnd.TORN_TAIL)
        assert report.last_good_offset == 4 + MOST + 4 + 2**31
        assert allocated() < BESIDES


# Lengths that lie


class Repeating:
    """A source of `size` bytes that it does not have in memory."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head = head
        self.left = size

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self.left)
        if self.head:
            size = min(size, len(self.head))
            buffer[:size] = self.head[:size]
            self.head = self.head[size:]
        self.left -= size
        return size


@contextlib.contextmanager
def arriving(kind: str, data: bytes, folder: Path) -> Iterator[Any]:
    """A source of `data`; what it allocates when it is read is not more than what is read."""
    path = folder / "lying"
    path.write_bytes(data)
    with contextlib.ExitStack() as stack:
        if kind == "raw_file":
            yield stack.enter_context(io.FileIO(path, "rb"))
        elif kind == "buffered_file":
            yield stack.enter_context(open(path, "rb"))
        elif kind == "memory":
            yield io.BytesIO(data)
        elif kind == "object":
            yield CutSource(data, range(0, len(data), 5000))
        else:
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            with theirs:
                # It must hold everything, since nobody sends while it is read.
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    ours.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
                    theirs.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
                theirs.settimeout(10)
                theirs.sendall(data)
            yield ours


@in_one_test
@pytest.mark.parametrize("kind", ["raw_file", "buffered_file", "memory", "object", "socket"])
@pytest.mark.parametrize("capacity", [1, 4096, 262_144, MEBIBYTE + 1, 4 * MEBIBYTE])
@pytest.mark.parametrize("arrived", [4, 14, 100_000])
@pytest.mark.parametrize("claimed", [200_000, 2**31, MOST])
def test_lying_length_costs_a_mebibyte_more_than_arrived_at_most(claimed, arrived, capacity, kind, tmp_path):
    data = claimed.to_bytes(4, "little") + bytes(arrived - 4)
    deframer = DefaultDeframer(max_frame_len=MOST)
    with arriving(kind, data, tmp_path) as source, peak() as allocated:
        reader = StreamReader(source, deframer, capacity=capacity)
        with pytest.raises(UnexpectedEofError) as caught:
            reader.read_message()
        assert (caught.value.needed, caught.value.got) == (4 + claimed, arrived)
        # A chunk is as large as it was asked to be, and no larger than that without a reason.
        most = max(capacity, arrived + MEBIBYTE)
        assert reader.buffer_capacity <= most
        assert allocated() <= most + BESIDES
        reader.close()
        assert reader.buffer_capacity == 0


@pytest.mark.parametrize("capacity", [1, 262_144, 4 * MEBIBYTE])
def test_lying_length_over_many_mebibytes_costs_one_more_than_arrived_at_most(capacity):
    arrived = 20 * MEBIBYTE + 5
    source = Repeating(b"\xff\xff\xff\xff", arrived)
    with peak() as allocated, StreamReader(source, DefaultDeframer(max_frame_len=MOST), capacity=capacity) as reader:
        with pytest.raises(UnexpectedEofError) as caught:
            reader.read_message()
        assert (caught.value.needed, caught.value.got) == (4 + MOST, arrived)
        assert reader.buffer_capacity <= arrived + MEBIBYTE
        assert allocated() <= arrived + MEBIBYTE + BESIDES


@in_one_test
@pytest.mark.parametrize("mode", ["crc16", "crc32", "xxhash64", "sum24"])
def test_lying_length_of_a_checksummed_frame_costs_no_more(mode):
    data = b"\0\0\0\x80" + bytes(50)
    with peak() as allocated, StreamReader(io.BytesIO(data), MODES[mode].deframer(), capacity=100) as reader:
        with pytest.raises(UnexpectedEofError) as caught:
            reader.read_message()
        assert (caught.value.needed, caught.value.got) == (4 + MODES[mode].size + 2**31, 54)
        assert allocated() <= MEBIBYTE + 54 + BESIDES


def test_lying_length_behind_views_that_are_kept_costs_their_chunk_more():
    capacity = 262_144
    good = reference.encode([b"x" * 1000] * 100, "none")
    source = io.BytesIO(good + b"\0\0\0\x80" + bytes(100_000))
    with peak() as allocated, StreamReader(source, capacity=capacity) as reader:
        kept: list[Any] = []
        with pytest.raises(UnexpectedEofError):
            kept.extend(iter(reader.read_message, None))
        assert allocated() <= capacity + (100_004 + MEBIBYTE) + BESIDES
    assert [bytes(view) for view in kept] == [b"x" * 1000] * len(kept)


class Exaggerating(Deframer):
    """Says that it needs more than there can be, one way or the other."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def locate(self, data):
        return self.answer


@in_one_test
@pytest.mark.parametrize("answer", [2**40, 2**62, FrameSpan(0, 4, 2**40), FrameSpan(2**62 - 4, 2**62, 2**62)], ids=str)
def test_deframer_in_python_that_asks_for_far_too_much_costs_no_more(answer):
    with peak() as allocated, StreamReader(io.BytesIO(bytes(1000)), Exaggerating(answer), capacity=100) as reader:
        with pytest.raises(UnexpectedEofError) as caught:
            reader.read_message()
        assert caught.value.needed == (answer if isinstance(answer, int) else answer.frame_end)
        assert allocated() <= MEBIBYTE + 1000 + BESIDES


def test_true_length_is_read_with_a_mebibyte_more_at_most():
    size = 10 * MEBIBYTE
    source = Repeating(size.to_bytes(4, "little"), 4 + size)
    with peak() as allocated, StreamReader(source, capacity=4096) as reader:
        assert len(next(reader)) == size
        assert reader.read_message() is None
        assert allocated() <= size + MEBIBYTE + 2 * 4096 + BESIDES


# With checksums, which look at every byte


def checksum_of_zeros(mode: str, size: int) -> int:
    """What independent implementations say of `size` zero bytes, a piece at a time."""
    piece = bytes(1 << 24)
    value = 0
    hasher = xxhash.xxh3_64()
    step: dict[str, Callable[[bytes], Any]] = {
        "crc16": lambda data: crc16.xmodem(data, value),
        "crc32": lambda data: zlib.crc32(data, value),
        "crc32c": lambda data: google_crc32c.extend(value, data),
        "crc64": lambda data: crc64.xz(data, value),
        "xxhash64": hasher.update,
    }
    for place in range(0, size, len(piece)):
        value = step[mode](piece[: min(len(piece), size - place)]) or 0
    return hasher.intdigest() if mode == "xxhash64" else value


@pytest.mark.parametrize("mode", ["crc16", "crc32", "crc32c", "crc64", "xxhash64"])
@pytest.mark.parametrize("size", [5 << 20, *(pytest.param(size, marks=pytest.mark.long) for size in HUGE)])
def test_huge_payload_has_the_checksum_that_others_calculate(size, mode, tmp_path):
    expected = checksum_of_zeros(mode, size).to_bytes(MODES[mode].size, "little")
    sink = SizeCountingSink()
    with nothing(size) as payload, peak() as allocated, StreamWriter(sink, MODES[mode].framer()) as writer:
        writer.write_payload(payload)
        assert allocated() < 2 * COPY + 65_536 + 4 * BESIDES
        assert sink.pieces[0] == size.to_bytes(4, "little") + expected
        assert sink.count == 4 + len(expected) + size
    path = tmp_path / "stream"
    with open(path, "w+b") as file:
        file.write(size.to_bytes(4, "little") + expected)
        file.truncate(4 + len(expected) + size)
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping,
            StreamReader(mapping, MODES[mode].deframer(max_frame_len=MOST)) as reader,
        ):
            view = next(reader)
            assert len(view) == size
            assert reader.read_message() is None
            view.release()


@pytest.mark.long
@pytest.mark.parametrize("size", HUGE[:2])
def test_huge_frame_of_a_file_that_is_not_mapped_is_read(size, tmp_path):
    # This one takes as much memory as the frame has bytes.
    path = tmp_path / "stream"
    with open(path, "wb") as file:
        file.write(size.to_bytes(4, "little"))
        file.truncate(4 + size - 4)
        file.seek(0, io.SEEK_END)
        file.write(b"last")
    with StreamReader(path) as reader:
        payload = next(reader)
        assert len(payload) == size
        assert (bytes(payload[:4]), bytes(payload[-4:])) == (bytes(4), b"last")
        assert reader.read_message() is None
        assert reader.buffer_capacity <= 4 + size + MEBIBYTE

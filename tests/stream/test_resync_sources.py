"""Resynchronizing with sources that come bit by bit, fail or never end: memory, windows, interruptions, time."""

from __future__ import annotations

import errno
import io
import os
import random
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatstream import StreamReader
from support.alarms import Alarm
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES
from support.sources import CutSource, FaultySource
from support.streams import Corpus, corpus, flip

CRC32 = MODES["crc32"]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def with_length(stream: Corpus, frame: int, length: int) -> bytes:
    start = stream.starts[frame]
    return stream.data[:start] + length.to_bytes(4, "little") + stream.data[start + 4 :]


def payloads_of(reader: StreamReader) -> list[bytes]:
    return [bytes(payload) for payload in reader]


def reader_of(source: Any, **options: Any) -> StreamReader:
    return StreamReader(source, CRC32.deframer(), on_error="resync", **options)


# Windows


class Pipe(CutSource):
    """Cannot seek, and gives at most 4,000 bytes at a time."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)

    def take(self, size: int) -> bytes:
        return super().take(min(size, 4000))


@pytest.mark.parametrize("length", [70_000, pytest.param(1 << 20, marks=pytest.mark.long), 1_900_000_000])
def test_length_beyond_the_window_takes_no_more_than_the_window_from_a_pipe(length: int) -> None:
    stream = corpus(CRC32, [noise(200, number) for number in range(4000)])
    for frame in (0, 3, 2000):
        data = with_length(stream, frame, length)
        source = Pipe(data)
        reader = reader_of(source, capacity=4096, resync_window=1 << 16)
        got = []
        furthest = 0
        for payload in reader:
            got.append(bytes(payload))
            furthest = max(furthest, source.position - reader.message_offset)
        assert got == [payload for number, payload in enumerate(stream.payloads) if number != frame]
        assert reader.lost_ranges == [(stream.starts[frame], stream.ends[frame])]
        assert furthest <= (1 << 16) + (1 << 20)
        assert reader.buffer_capacity <= (1 << 16) + (1 << 20)


def test_search_of_endless_damage_keeps_no_more_than_the_window() -> None:
    stream = corpus(CRC32, [noise(100, number) for number in range(10)])
    # Zeros with here and there a length that is beyond the window, or plausible.
    rng = random.Random(3)
    gap = bytearray(6 << 20)
    for place in range(0, len(gap) - 4, 4096):
        gap[place : place + 4] = rng.choice([50, 5000, 1 << 24, 1 << 30]).to_bytes(4, "little")
    data = stream.data[: stream.ends[4]] + bytes(gap) + stream.data[stream.starts[5] :]
    reader = reader_of(Pipe(data), capacity=1 << 16, resync_window=1 << 18)
    tracemalloc.start()
    got = payloads_of(reader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got == list(stream.payloads)
    assert reader.lost_ranges == [(stream.ends[4], stream.ends[4] + len(gap))]
    assert reader.buffer_capacity <= 1 << 20
    assert peak < 4 << 20


def test_intact_frame_beyond_the_window_is_read_from_a_file_and_a_buffer_and_lost_from_a_pipe() -> None:
    large = noise(300_000)
    stream = corpus(CRC32, [b"one", b"two", large, b"three", b"four"])
    for source in (stream.data, io.BytesIO(stream.data)):
        reader = reader_of(source, capacity=1000, resync_window=10_000)
        assert payloads_of(reader) == list(stream.payloads)
        assert reader.skipped == 0
    reader = reader_of(Pipe(stream.data), capacity=1000, resync_window=10_000)
    assert payloads_of(reader) == [b"one", b"two", b"three", b"four"]
    assert reader.lost_ranges == [(stream.starts[2], stream.ends[2])]
    assert reader.skipped == 1


def test_frame_up_to_the_window_is_read_whole_whatever_is_in_it() -> None:
    inner = corpus(CRC32, [flatbuffer_of_event(number) for number in range(2000)])
    stream = corpus(CRC32, [b"one", inner.data, b"two"])
    for source in (stream.data, io.BytesIO(stream.data), Pipe(stream.data)):
        reader = reader_of(source, capacity=1000, resync_window=len(inner.data) + 8)
        assert payloads_of(reader) == list(stream.payloads)
        assert reader.skipped == 0


def nested() -> Corpus:
    """A stream with a long payload that is itself a stream."""
    inner = corpus(CRC32, [noise(100, number) for number in range(3000)])
    return corpus(CRC32, [b"one", b"two", inner.data, b"three", b"four"])


def sources_of_known_size(data: bytes, path: Path) -> Iterator[Any]:
    """A path, file objects whose first bytes were read already, and a buffer."""
    path.write_bytes(data)
    yield path
    for buffering in (0, -1):
        with open(path, "rb", buffering) as file:
            yield file
    stream = io.BytesIO(b"before" + data)
    stream.seek(6)
    yield stream
    yield data


@pytest.mark.parametrize("window", [1, 9, 10_000])
def test_intact_stream_in_a_frame_beyond_the_window_is_one_payload_of_a_file(window: int, tmp_path: Path) -> None:
    stream = nested()
    for source in sources_of_known_size(stream.data, tmp_path / "nested.fs"):
        with reader_of(source, capacity=1000, resync_window=window) as reader:
            assert payloads_of(reader) == list(stream.payloads)
            assert (reader.skipped, reader.lost_bytes) == (0, 0)


def test_damaged_stream_in_a_frame_beyond_the_window_is_lost_as_a_whole_from_a_file(tmp_path: Path) -> None:
    stream = nested()
    data = flip(stream.data, 8 * (stream.starts[2] + 150_000))
    for source in sources_of_known_size(data, tmp_path / "nested.fs"):
        with reader_of(source, capacity=1000, resync_window=10_000) as reader:
            assert payloads_of(reader) == [b"one", b"two", b"three", b"four"]
            assert reader.lost_ranges == [(stream.starts[2], stream.ends[2])]


@in_one_test
@pytest.mark.parametrize("length", [20_000, 100_000, 399_000, 1_900_000_000])
def test_wrong_length_beyond_the_window_loses_one_frame_of_a_file(length: int, tmp_path: Path) -> None:
    stream = corpus(CRC32, [noise(200, number) for number in range(2000)])
    data = with_length(stream, 5, length)
    for source in sources_of_known_size(data, tmp_path / "damaged.fs"):
        with reader_of(source, capacity=4096, resync_window=10_000) as reader:
            assert payloads_of(reader) == [payload for number, payload in enumerate(stream.payloads) if number != 5]
            assert reader.lost_ranges == [(stream.starts[5], stream.ends[5])]


def test_length_beyond_the_end_of_a_file_takes_no_memory(tmp_path: Path) -> None:
    stream = corpus(CRC32, [noise(200, number) for number in range(5000)])
    path = tmp_path / "damaged.fs"
    path.write_bytes(with_length(stream, 5, 1_900_000_000))
    with reader_of(path, capacity=4096, resync_window=1 << 16) as reader:
        assert len(payloads_of(reader)) == 4999
        assert reader.buffer_capacity <= (1 << 16) + (1 << 20)


def small_integers(size: int, below: int) -> bytes:
    generator = random.Random(5)
    return b"".join(generator.randrange(below).to_bytes(4, "little") for _ in range(size // 4))


@pytest.mark.parametrize("name", ["crc16", "crc32", pytest.param("crc64", marks=pytest.mark.long), "xxhash64"])
@pytest.mark.parametrize("bit", [3, 30])
def test_wrong_length_among_long_payloads_that_are_full_of_lengths_loses_one_frame(
    name: str, bit: int, tmp_path: Path
) -> None:
    # Nearly each fourth offset could begin a frame of half a megabyte, which another seems to follow.
    integers = small_integers(1 << 17, 5000)
    mode = MODES[name]
    stream = corpus(mode, [integers[4 * number :] + integers[: 4 * number] for number in range(6)])
    path = tmp_path / "damaged.fs"
    path.write_bytes(flip(stream.data, 8 * stream.starts[2] + bit))
    for source in (path, path.read_bytes()):
        with StreamReader(source, mode.deframer(), on_error="resync") as reader:
            assert payloads_of(reader) == [payload for number, payload in enumerate(stream.payloads) if number != 2]
            assert reader.lost_ranges == [(stream.starts[2], stream.ends[2])]


def test_damaged_frame_beyond_the_window_is_lost_from_a_file_alone() -> None:
    stream = corpus(CRC32, [b"one", noise(300_000), b"three", b"four"])
    data = flip(stream.data, 8 * 150_000)
    reader = reader_of(io.BytesIO(data), capacity=1000, resync_window=10_000)
    assert payloads_of(reader) == [b"one", b"three", b"four"]
    assert reader.lost_ranges == [(stream.starts[1], stream.ends[1])]
    # And cut by the end of the file.
    data = stream.data[: stream.ends[1] - 1]
    reader = reader_of(io.BytesIO(data), capacity=1000, resync_window=10_000)
    assert payloads_of(reader) == [b"one"]
    assert reader.lost_ranges == [(stream.starts[1], len(data))]


@in_one_test
@pytest.mark.parametrize("window", [1, 16, 100, 5000])
def test_any_window_gives_the_frames_that_fit(window: int) -> None:
    stream = corpus(CRC32, [noise(1 + 13 * number % 90, number) for number in range(80)])
    data = with_length(flipped := corpus(CRC32, stream.payloads), 40, 1 << 30)
    assert flipped.data == stream.data
    reader = reader_of(Pipe(data), capacity=16, resync_window=window)
    got = payloads_of(reader)
    assert all(payload in stream.payloads for payload in got)
    if window > 100:
        assert len(got) == 79
    covered = reader.bytes_read + reader.lost_bytes
    assert covered == len(data)


# Faults of the source


class Moody(io.RawIOBase):
    """Gives `piece` bytes, then raises, and so on. Each error leaves all bytes where they are."""

    def __init__(self, data: bytes, piece: int, error: type[BaseException] = BlockingIOError) -> None:
        self.data = data
        self.piece = piece
        self.error = error
        self.position = 0
        self.turn = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.turn += 1
        if self.turn % 2 == 0:
            raise self.error(errno.EAGAIN, "not now")
        piece = self.data[self.position : self.position + min(self.piece, len(buffer))]
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


def patiently(reader: StreamReader) -> Iterator[bytes]:
    while True:
        try:
            payload = reader.read_message()
        except (BlockingIOError, TimeoutError):
            continue
        if payload is None:
            return
        yield bytes(payload)


@in_one_test
@pytest.mark.parametrize("piece", [1, 7, 100, 1000])
@pytest.mark.parametrize("error", [BlockingIOError, TimeoutError])
def test_source_that_has_no_data_in_the_middle_of_a_search_loses_nothing(
    piece: int, error: type[BaseException]
) -> None:
    stream = corpus(CRC32, [noise(1 + 13 * number % 90, number) for number in range(40)])
    data = flip(flip(with_length(stream, 5, 700), 8 * stream.starts[20] + 60), 8 * stream.starts[30] + 31)
    data = data[:-3]
    reader = reader_of(Moody(data, piece, error), capacity=64)
    assert list(patiently(reader)) == [
        payload for number, payload in enumerate(stream.payloads) if number not in (5, 20, 30, 39)
    ]
    assert reader.lost_ranges == [
        *((stream.starts[frame], stream.ends[frame]) for frame in (5, 20, 30)),
        (stream.starts[39], len(data)),
    ]


def test_fault_of_the_source_in_the_middle_of_a_search_is_raised_again_and_again() -> None:
    stream = corpus(CRC32, [noise(90, number) for number in range(40)])
    data = with_length(stream, 5, 3000)
    for fault_at in range(stream.starts[5] + 10, stream.starts[20], 50):
        reader = reader_of(FaultySource(data, fault_at, OSError(errno.EIO, "broken"), piece=64), capacity=64)
        assert [bytes(reader.read_message() or b"") for _ in range(5)] == list(stream.payloads[:5])
        for _ in range(3):
            with pytest.raises(OSError, match="broken"):
                reader.read_message()


def test_signal_in_the_middle_of_a_search_is_looked_at_and_nothing_is_lost() -> None:
    stream = corpus(CRC32, [noise(90, number) for number in range(10)])
    rng = random.Random(5)
    gap = b"".join(rng.choice([b"\x20\x01\x00\x00", b"\x00\x20\x00\x00"]) for _ in range(1 << 19))
    data = stream.data[: stream.ends[4]] + gap + stream.data[stream.starts[5] :]
    reader = reader_of(data)
    got: list[memoryview] = []
    interruptions = 0
    with Alarm() as alarm:
        for _ in range(3):
            began = time.monotonic()
            # Between the reading of a frame and the call of list.append, no signal is looked at: in a statement like
            # `payload = reader.read_message()` a handler may raise before the result is stored.
            if alarm.strike(lambda: reader.process_all(got.append), 0.02):
                interruptions += 1
                assert time.monotonic() - began < 1
    # The rest is read without a signal.
    reader.process_all(got.append)
    assert interruptions
    assert got == list(stream.payloads)
    assert reader.lost_ranges == [(stream.ends[4], stream.ends[4] + len(gap))]


def test_signal_while_a_pipe_is_waited_for_in_a_search_loses_nothing() -> None:
    stream = corpus(CRC32, [noise(90, number) for number in range(20)])
    data = with_length(stream, 3, 1000)
    receiving, sending = os.pipe()
    with (
        open(receiving, "rb", buffering=0) as source,
        open(sending, "wb", buffering=0) as sink,
        Alarm() as alarm,
    ):
        reader = reader_of(source, capacity=100)
        sink.write(data[: stream.starts[6]])
        got = [bytes(reader.read_message() or b"") for _ in range(3)]
        for place in (stream.starts[6], stream.starts[8]):
            assert alarm.strike(reader.read_message, 0.05)
            sink.write(data[place : place + stream.starts[2]])
        sink.write(data[stream.starts[10] :])
        sink.close()
        got += payloads_of(reader)
    assert got == [payload for number, payload in enumerate(stream.payloads) if number != 3]
    assert reader.lost_ranges == [(stream.starts[3], stream.ends[3])]


def test_closing_in_the_middle_of_a_search_closes() -> None:
    stream = corpus(CRC32, [noise(90, number) for number in range(10)])
    reader = reader_of(Moody(with_length(stream, 0, 1 << 30), 300), capacity=64)
    with pytest.raises(BlockingIOError):
        reader.read_message()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read_message()


def test_payloads_that_are_kept_stay_as_they_are() -> None:
    stream = corpus(CRC32, [noise(90, number) for number in range(200)])
    data = stream.data
    for frame in range(5, 200, 10):
        data = flip(data, 8 * stream.starts[frame] + 10)
    kept = list(reader_of(io.BytesIO(data), capacity=128))
    assert [bytes(payload) for payload in kept] == [
        payload for number, payload in enumerate(stream.payloads) if number % 10 != 5
    ]


# Time


def damaged(count: int, place: int) -> bytes:
    """A stream of `count` thousand frames, one of a hundred of which has a wrong bit."""
    data = bytearray()
    stream = corpus(CRC32, [flatbuffer_of_event(number) for number in range(1000)])
    for frame in range(50, 1000, 100):
        at = stream.starts[frame] + place
        data += stream.data[len(data) : at] + bytes([stream.data[at] ^ 0x40])
    data += stream.data[len(data) :]
    return bytes(data) * count


def seconds_for(data: bytes, batches: bool) -> float:
    began = time.process_time()
    reader = reader_of(data)
    found: Any = reader.batches() if batches else reader
    for _ in found:
        pass
    assert reader.skipped
    return time.process_time() - began


@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize("place", [1, pytest.param(3, marks=pytest.mark.long), 40])
def test_time_grows_with_the_damage_and_not_with_the_stream(batches: bool, place: int) -> None:
    few = min(seconds_for(damaged(2, place), batches) for _ in range(3))
    many = min(seconds_for(damaged(40, place), batches) for _ in range(2))
    # Twenty times as much. Were each search to look at the rest of the stream, it would be 400 times.
    assert many < 100 * few


def test_file_on_disk_is_resynchronized(tmp_path: Path) -> None:
    stream = corpus(CRC32, [noise(900, number) for number in range(1000)])
    path = tmp_path / "damaged.fs"
    path.write_bytes(with_length(stream, 500, 1 << 30))
    with reader_of(path) as reader:
        assert payloads_of(reader) == [payload for number, payload in enumerate(stream.payloads) if number != 500]

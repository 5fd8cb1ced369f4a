"""Leaping from frame to frame by their headers, against a walk in Python."""

from __future__ import annotations

import itertools
import random
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    Aes256Gcm,
    ChecksumDeframer,
    ChecksumType,
    Crc16,
    Crc32,
    DefaultDeframer,
    Deframer,
    StreamReader,
    XxHash64,
)
from flatstream._core.stream.leaping import Leap, boundaries, leap
from support.columns import stream_of
from support.extent import EVERYTHING, in_one_test
from support.processes import survives

PLAIN = DefaultDeframer()
DEFRAMERS: dict[str, tuple[str, Deframer]] = {
    "none": ("none", PLAIN),
    "crc16": ("crc16", ChecksumDeframer(Crc16())),
    "crc32": ("crc32", ChecksumDeframer(Crc32())),
    "xxhash64": ("xxhash64", ChecksumDeframer(XxHash64())),
    "adapted": ("crc32", ChecksumDeframer(Crc32()).observed(len).bounded(5000)),
    "compressed": ("crc32", ChecksumDeframer(Crc32()).compressed()),
}


def walk(stream: bytes, header: int, begin: int = 0) -> list[int]:
    """Where the whole frames begin, and where the last one ends."""
    places = [begin]
    while len(stream) - places[-1] >= header:
        end = places[-1] + header + struct.unpack_from("<I", stream, places[-1])[0]
        if end > len(stream):
            break
        places.append(end)
    return places


def header_of(name: str) -> int:
    return {"none": 4, "crc16": 6, "crc32": 8, "xxhash64": 12}[DEFRAMERS[name][0]]


def random_stream(rng: random.Random, checksum: str, longest: int = 300) -> bytes:
    payloads = [rng.randbytes(rng.choice([1, rng.randint(0, longest)])) for _ in range(rng.randint(0, 60))]
    return stream_of(payloads, checksum)


@in_one_test
@pytest.mark.parametrize("name", DEFRAMERS)
def test_leaps_end_behind_the_last_whole_frame(name: str) -> None:
    checksum, deframer = DEFRAMERS[name]
    rng = random.Random(name)
    for _ in range(300 if EVERYTHING else 20):
        stream = random_stream(rng, checksum)
        for cut in {len(stream), rng.randint(0, len(stream)), rng.randint(0, len(stream))}:
            data = stream[:cut]
            places = walk(data, header_of(name))
            found = leap(rng.choice([bytes, bytearray, memoryview])(data), deframer)
            assert found is not None
            assert (found.end, found.frames, found.invalid) == (places[-1], len(places) - 1, False)
            rest = cut - found.end
            if rest == 0:
                assert found.needed == 0
            elif rest < header_of(name):
                assert found.needed == header_of(name)
            else:
                assert found.end + found.needed in walk(stream, header_of(name))
                assert found.needed > rest


def test_leaps_begin_and_stop_where_they_are_told() -> None:
    rng = random.Random(5)
    stream = stream_of([rng.randbytes(rng.randint(0, 90)) for _ in range(200)], "crc32")
    places = walk(stream, 8)
    deframer = ChecksumDeframer(Crc32())
    for _ in range(200):
        first = rng.randrange(len(places))
        stop = rng.randint(0, len(stream) + 10)
        most = rng.choice([None, 0, 1, 7, 10**6])
        end = next((i for i in range(first, len(places)) if places[i] >= stop), len(places) - 1)
        if most is not None:
            end = min(end, first + most)
        assert leap(stream, deframer, places[first], stop=stop, max_frames=most) == (
            places[end], end - first, 0, False
        )  # fmt: skip


@in_one_test
@pytest.mark.parametrize(
    ("deframer", "length"),
    [
        (PLAIN.bounded(100), 101),
        (PLAIN.with_max_frame_len(100), 2**32 - 1),
        (DefaultDeframer(allow_empty=False), 0),
        (DefaultDeframer(max_frame_len=50), 51),
    ],
)
def test_lengths_that_the_deframer_refuses_end_a_leap(deframer: Deframer, length: int) -> None:
    good = stream_of([b"a" * 10] * 5)
    bad = struct.pack("<I", length) + b"b" * min(length, 300)
    assert leap(good + bad + good, deframer) == Leap(len(good), 5, 0, True)
    assert leap(good + bad + good, PLAIN, max_frames=5) == Leap(len(good), 5, 0, False)
    assert boundaries(reading(good + bad + good), len(good) * 2 + len(bad), deframer, every=30) == [
        (0, 0), (42, 3), (70, 5)
    ]  # fmt: skip


def test_largest_length_overflows_nothing() -> None:
    data = b"\xff" * 4 + b"x" * 100
    assert leap(data, DefaultDeframer(max_frame_len=2**32 - 1)) == Leap(0, 0, 2**32 + 3, False)
    assert leap(data, PLAIN, stop=2**63 - 1, max_frames=2**63 - 1) is not None
    assert boundaries(reading(data), 2**63 - 1, DefaultDeframer(max_frame_len=2**32 - 1), every=2**63 - 1) == [(0, 0)]


# Boundaries


def reading(data: bytes, asked: list[tuple[int, int]] | None = None) -> Any:
    """A `read_at` of these bytes, which notes what it is asked for."""

    def read_at(offset: int, size: int) -> bytes:
        if asked is not None:
            asked.append((offset, size))
        return data[offset : offset + size]

    return read_at


def expected_boundaries(places: list[int], every: int) -> list[tuple[int, int]]:
    found = [(places[0], 0)]
    for number, place in enumerate(places):
        if place >= found[-1][0] + every:
            found.append((place, number))
    if found[-1][0] != places[-1]:
        found.append((places[-1], len(places) - 1))
    return found


@in_one_test
@pytest.mark.parametrize("name", DEFRAMERS)
def test_boundaries_are_frames_at_the_distance_asked_for(name: str) -> None:
    checksum, deframer = DEFRAMERS[name]
    rng = random.Random(name)
    for _ in range(300 if EVERYTHING else 20):
        stream = random_stream(rng, checksum, rng.choice([20, 300, 4000]))
        stream = stream[: rng.choice([len(stream), rng.randint(0, len(stream))])]
        places = walk(stream, header_of(name))
        every = rng.choice([1, 50, 1000, 10**9])
        window = rng.choice([16, 17, 100, 1000, 10**6])
        asked: list[tuple[int, int]] = []
        found = boundaries(reading(stream, asked), len(stream), deframer, every=every, window=window)
        assert found == expected_boundaries(places, every)
        assert all(0 < size <= len(stream) - offset for offset, size in asked)
        # Nothing is read twice, but for a header that a window did not have whole.
        assert sum(size for _, size in asked) <= len(stream) + 12 * len(asked)
        if len(places) > 3:
            first = rng.choice(places)
            assert boundaries(reading(stream), len(stream), deframer, first, every, window=window) == (
                expected_boundaries([place for place in places if place >= first], every)
            )


def test_payloads_longer_than_a_window_are_not_read() -> None:
    stream = stream_of([bytes(100_000)] * 20 + [b"a"] * 5, "crc32")
    asked: list[tuple[int, int]] = []
    found = boundaries(reading(stream, asked), len(stream), ChecksumDeframer(Crc32()), every=1, window=20_000)
    assert found == expected_boundaries(walk(stream, 8), 1)
    assert sum(size for _, size in asked) < len(stream) // 15


@in_one_test
@pytest.mark.parametrize("cut", [0, 3, 50, 5000, 9_999])
def test_stream_that_is_cut_meanwhile_ends_at_its_last_whole_frame(cut: int) -> None:
    stream = stream_of([b"payload of a frame"] * 1000)
    places = walk(stream[:cut], 4)
    found = boundaries(reading(stream[:cut]), len(stream), PLAIN, every=400, window=300)
    assert found == expected_boundaries(places, 400)


@in_one_test
@pytest.mark.parametrize("cut", [0, 5, 2_000, 9_000, 10_003, 10_004, 10_005, 15_000, 20_008, 29_999])
def test_stream_that_is_cut_inside_of_a_long_frame_ends_before_it(cut: int) -> None:
    stream = stream_of([b"p" * 10_000] * 3)
    for window in (16, 3000, 9000, 12_000):
        found = boundaries(reading(stream[:cut]), len(stream), PLAIN, every=1, window=window)
        assert found == expected_boundaries(walk(stream[:cut], 4), 1)


def test_pieces_between_boundaries_are_what_a_reader_gives(tmp_path: Path) -> None:
    payloads = [bytes([i % 251]) * (i % 900) for i in range(3000)]
    path = tmp_path / "events.fs"
    path.write_bytes(stream_of(payloads, "xxhash64"))
    with open(path, "rb") as file:

        def read_at(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        found = boundaries(read_at, path.stat().st_size, ChecksumDeframer(XxHash64()), every=50_000)
        assert found is not None
        assert len(found) > 20
        together = []
        for (begin, number), (end, next_number) in itertools.pairwise(found):
            piece = [bytes(each) for each in StreamReader(read_at(begin, end - begin), ChecksumType.XXHASH64)]
            assert len(piece) == next_number - number
            together += piece
    assert together == payloads


def test_threads_leap_over_the_same_bytes_at_once() -> None:
    stream = stream_of([b"x" * 60] * 20_000)
    results: list[Any] = []

    def run() -> None:
        results.extend(leap(stream, PLAIN) for _ in range(20))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Leap(len(stream), 20_000, 0, False)] * 80


# What is refused


class Python(Deframer):
    def locate(self, data: Any) -> int:
        return len(data) + 1


def test_frames_without_headers_of_a_fixed_form_are_not_leapt_over() -> None:
    for deframer in (Python(), Python().bounded(5), Python().compressed()):
        assert leap(b"abc", deframer) is None
        assert boundaries(reading(b"abc"), 3, deframer) is None
    encrypted = ChecksumDeframer(Crc32()).encrypted(Aes256Gcm(bytes(32)))
    assert leap(stream_of([b"abc"], "crc32"), encrypted) == Leap(11, 1, 0, False)


def test_wrong_arguments_are_refused() -> None:
    data = stream_of([b"abc"])
    for begin in (-1, 8, 2**70):
        with pytest.raises(ValueError, match="begin must"):
            leap(data, PLAIN, begin)
        with pytest.raises(ValueError, match="begin must"):
            boundaries(reading(data), 7, PLAIN, begin)
    for arguments in ({"stop": -1}, {"max_frames": -1}):
        with pytest.raises(ValueError, match="must be"):
            leap(data, PLAIN, **arguments)
    for wrong in (None, "abc", 5):
        with pytest.raises(TypeError):
            leap(wrong, PLAIN)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            leap(data, wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            boundaries(wrong, 7, PLAIN)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            boundaries(lambda offset, size, given=wrong: given, 7, PLAIN)  # type: ignore[misc]
    for options in ({"every": 0}, {"window": 15}, {"window": 2**40}):
        with pytest.raises(ValueError, match="must be"):
            boundaries(reading(data), 7, PLAIN, **options)
    with pytest.raises(ValueError, match="asked for 7 bytes and returned 14"):
        boundaries(lambda offset, size: data * 2, 7, PLAIN)


def test_errors_of_the_source_reach_the_caller() -> None:
    def read_at(offset: int, size: int) -> bytes:
        raise OSError(5, "no disk")

    with pytest.raises(OSError, match="no disk"):
        boundaries(read_at, 7, PLAIN)


def test_half_made_deframer_is_not_leapt_with() -> None:
    code = """
from flatstream._core.stream.leaping import boundaries, leap
for kind in (DefaultDeframer, ChecksumDeframer, BoundedDeframer, ObserverDeframer, CompressedDeframer):
    made = kind.__new__(kind)
    print(leap(b"\\0" * 100, made), boundaries(lambda offset, size: b"\\0" * size, 100, made))
"""
    for line in survives(code):
        assert line == "None None" or line.startswith("TypeError") or "frames=" in line

"""What the guard costs, with hostile data and long tails: it decides or says that it cannot, and holds little."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path
from typing import Any

import pytest

from flatstream import InvalidFrameError, RecoveryEnd, StreamWriter, recover
from support.extent import in_one_test
from support.modes import MODES
from support.processes import SANITIZED, survives
from support.streams import Corpus, recover_bytes

every_checksum = pytest.mark.parametrize("name", ["crc16", "crc32", "crc32c", "crc64", "xxhash64"])


def small_integers(size: int, below: int = 1 << 20) -> bytes:
    generator = random.Random(5)
    return b"".join(generator.randrange(below).to_bytes(4, "little") for _ in range(size // 4))


INTEGERS = small_integers(1 << 18)


def integer_stream(name: str, size: int) -> Corpus:
    """Frames of 4 KiB of small integers, each of which could be the length of a frame."""
    payloads = [INTEGERS[at % 250_000 // 4 * 4 :][:4096] for at in range(0, size * 97, 4096 * 97)]
    sink = io.BytesIO()
    ends = []
    with StreamWriter(sink, name) as writer:
        for payload in payloads:
            writer.write_payload(payload)
            ends.append(writer.bytes_written)
    return Corpus(tuple(payloads), sink.getvalue(), (0, *ends)[: len(ends)], tuple(ends))


@in_one_test
@pytest.mark.parametrize("size", [1 << 18, 1 << 21])
@every_checksum
def test_torn_stream_of_small_integers_is_torn_at_its_last_frame_and_a_wrong_length_is_found(
    name: str, size: int
) -> None:
    stream = integer_stream(name, size)
    torn = stream.data[:-3]
    last = len(stream.payloads) - 1
    assert recover(torn, name) == (last, stream.starts[last], RecoveryEnd.TORN_TAIL)
    damaged = bytearray(torn)
    damaged[stream.starts[1] + 3] |= 0x40
    began = time.perf_counter()
    error = recover_bytes(bytes(damaged), name)
    assert time.perf_counter() - began < 20
    assert isinstance(error, InvalidFrameError)
    assert (error.offset, error.frame, error.next_intact_offset) == (stream.starts[1], 1, stream.starts[2])


@in_one_test
@pytest.mark.parametrize("name", ["crc16", "crc32", "crc32c", "crc64"])
def test_long_torn_frame_of_small_integers_is_a_torn_tail_with_a_crc(name: str) -> None:
    # All frames that they could begin have 128 GiB.
    sink = io.BytesIO()
    with StreamWriter(sink, name) as writer:
        writer.write_payloads([b"first", INTEGERS * 2])
    report = recover(sink.getvalue()[:-3], name)
    assert report == (1, 9 + MODES[name].size, RecoveryEnd.TORN_TAIL)


@pytest.mark.parametrize(
    ("name", "body"),
    [("crc32", INTEGERS), ("crc64", INTEGERS), ("crc32", random.Random(6).randbytes(8 << 20))],
    ids=["crc32-integers", "crc64-integers", "crc32-random"],
)
def test_intact_frame_between_two_wrong_lengths_is_found_behind_a_long_payload(name: str, body: bytes) -> None:
    # What follows the intact frame is no length of a frame.
    sink = io.BytesIO()
    starts = []
    with StreamWriter(sink, name) as writer:
        for payload in (b"first", body, random.Random(7).randbytes(3 << 20), b"last" * 1000):
            starts.append(writer.bytes_written)
            writer.write_payload(payload)
    data = bytearray(sink.getvalue())
    data[starts[1] + 3] ^= 0x40
    data[starts[3] + 3] ^= 0x40
    error = recover_bytes(bytes(data), name)
    assert isinstance(error, InvalidFrameError)
    assert (error.offset, error.frame, error.next_intact_offset) == (starts[1], 1, starts[2])


def test_search_goes_on_behind_a_window_in_which_it_had_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatstream.recovery.WINDOW", 1 << 20)
    sink = io.BytesIO()
    with StreamWriter(sink, "xxhash64") as writer:
        writer.write_payloads([b"first", INTEGERS * 10])
        intact = writer.bytes_written
        writer.write_payload(b"last" * 5000)
    data = bytearray(sink.getvalue())
    data[17 + 3] ^= 0x40
    error = recover_bytes(bytes(data), "xxhash64")
    assert isinstance(error, InvalidFrameError)
    assert (error.offset, error.next_intact_offset) == (17, intact)


@pytest.mark.parametrize("size", [1 << 21, 3 << 20])
def test_search_that_had_to_stop_is_an_error_that_says_so(size: int) -> None:
    # One long torn frame full of small integers: all frames that they could begin are more than can be examined, with a
    # checksum that is calculated from each byte of each.
    name = "xxhash64"
    sink = io.BytesIO()
    with StreamWriter(sink, name) as writer:
        writer.write_payloads([b"first", INTEGERS * (size // len(INTEGERS))])
    data = sink.getvalue()[:-3]
    error = recover_bytes(data, name)
    assert isinstance(error, InvalidFrameError), error
    assert "the search for intact frames behind it had to stop" in str(error)
    assert "Nothing may be cut off here" in str(error)
    assert (error.frame, error.next_intact_offset) == (1, None)
    assert recover(data, name, guard=False) == (1, 9 + MODES[name].size, RecoveryEnd.TORN_TAIL)


@pytest.mark.parametrize(
    "name", ["none", "crc32", *(pytest.param(name, marks=pytest.mark.long) for name in ("crc16", "crc64", "xxhash64"))]
)
def test_long_torn_frame_of_other_bytes_is_a_torn_tail(name: str) -> None:
    for body in (random.Random(1).randbytes(2_000_000), b"text, " * 300_000, bytes(2_000_000) + b"\x01" * 9):
        sink = io.BytesIO()
        with StreamWriter(sink, name) as writer:
            writer.write_payloads([b"first", body])
        report = recover(sink.getvalue()[:-3], name)
        assert report == (1, 9 + MODES[name].size, RecoveryEnd.TORN_TAIL)


# Memory

PEAK = """
import resource
from pathlib import Path

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

path = Path({path!r})
before = peak()
print(*recover(path, {checksum!r}))
for file in (open(path, "rb"), open(path, "rb", buffering=0)):
    with file:
        print(*recover(file, {checksum!r}, guard=False))
print((peak() - before) // 1024)
"""


@pytest.mark.skipif(SANITIZED, reason="what is freed stays allocated there for a while")
@pytest.mark.parametrize("checksum", ["none", "crc32"])
def test_recovery_of_a_long_torn_frame_in_a_file_holds_one_window(checksum: str, tmp_path: Path) -> None:
    path = tmp_path / "torn.fs"
    mode = MODES[checksum]
    size = 200 << 20
    with open(path, "wb") as file:
        with StreamWriter(file, checksum) as writer:
            writer.write_payload(b"first")
        begin = file.tell()
        file.write((size + 1000).to_bytes(4, "little") + bytes(range(1, 1 + mode.size)) + b"payload")
        # A hole: it takes no room on the disk.
        file.truncate(begin + size)
        file.seek(begin + size - 1)
        file.write(b"\x01")
    *reports, growth = survives(PEAK.format(path=str(path), checksum=checksum))
    assert reports == [f"1 {begin} RecoveryEnd.TORN_TAIL"] * 3
    assert int(growth) < 80


def test_intact_frames_far_behind_a_wrong_length_are_found_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "damaged.fs"
    with open(path, "wb") as file:
        with StreamWriter(file, "crc32") as writer:
            writer.write_payload(b"first")
        begin = file.tell()
        file.write((1 << 30).to_bytes(4, "little"))
        file.truncate(begin + (20 << 20))
        file.seek(0, 2)
        intact = file.tell()
        with StreamWriter(file, "crc32") as writer:
            writer.write_payload(b"intact")
    for source in (path, path.read_bytes()):
        error: Any = recover_bytes(source, "crc32")
        assert isinstance(error, InvalidFrameError)
        assert (error.offset, error.next_intact_offset) == (begin, intact)

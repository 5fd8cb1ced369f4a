"""Shared parts of the benchmarks: payloads to write, streams to read, and the same work by hand.

"By hand" is the code that a user writes without this package: `struct`, `zlib` and `io`, over the same bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import flatstream

# Over these ranges, the cost of a frame and of a byte must not grow.
SIZES = [16, 64, 1024, 64 * 1024, 1024 * 1024]
COUNTS = [256, 10_000, 100_000, 200_000, 1_000_000]
MAX_BYTES = 256 * 1024 * 1024

# The goals refer to this size and count.
GOAL_SIZE = 64
GOAL_COUNT = 200_000

CHECKSUMS = ["none", "crc16", "crc32", "crc32c", "crc64", "xxhash64"]


class Benchmark:
    """The settings of asv for every benchmark here.

    Each sample is one call, after `warmup_time` seconds of calls that are not counted, so that caches are warm. Calls
    share only the bytes that `setup` made. Each call ends with an assertion about its result.
    """

    version = "1"
    number = 1
    warmup_time = 0.1
    rounds = 2
    repeat = (3, 20, 2.0)
    timeout = 300


def check_combination(size: int, count: int) -> None:
    """Makes asv skip combinations that are too large for memory, or redundant.

    Raises
    ------
    NotImplementedError
        This combination is skipped.
    """
    if size * count > MAX_BYTES:
        raise NotImplementedError(f"{count} frames of {size} bytes are more than {MAX_BYTES} bytes")
    if (count == min(COUNTS) and size < 64 * 1024) or (count == GOAL_COUNT and size != GOAL_SIZE):
        raise NotImplementedError("other counts cover this size")


def payload_of(size: int) -> bytes:
    """`size` bytes without a simple pattern."""
    return bytes((7 * i * i + i // 3) % 256 for i in range(min(size, 4096))) * (size // 4096 or 1)


def frames_by_hand(payloads: Sequence[bytes], checksum: str = "none") -> bytes:
    """The stream of `payloads`, made with `struct` and the package's checksums."""
    mode = flatstream.ChecksumType(checksum).checksum()
    pieces = []
    for payload in payloads:
        pieces.append(struct.pack("<I", len(payload)))
        pieces.append(mode.calculate(memoryview(payload)).to_bytes(mode.size, "little"))
        pieces.append(payload)
    return b"".join(pieces)


def repeated_frame(size: int, count: int, checksum: str = "none") -> bytes:
    """A stream of `count` equal frames."""
    return frames_by_hand([payload_of(size)], checksum) * count


def write_by_hand(payloads: Sequence[bytes]) -> io.BytesIO:
    """The yardstick for writing without a checksum."""
    sink = io.BytesIO()
    write, pack = sink.write, struct.pack
    for payload in payloads:
        write(pack("<I", len(payload)))
        write(payload)
    return sink


def write_by_hand_with_crc32(payloads: Sequence[bytes]) -> io.BytesIO:
    """The yardstick for writing with a checksum."""
    sink = io.BytesIO()
    write, pack, crc32 = sink.write, struct.pack, zlib.crc32
    for payload in payloads:
        write(pack("<II", len(payload), crc32(payload)))
        write(payload)
    return sink


def scan_by_hand(stream: bytes) -> tuple[int, int]:
    """The yardstick for reading; returns the number of payloads and their total size."""
    read, unpack = io.BytesIO(stream).read, struct.unpack
    count = size = 0
    while header := read(4):
        payload = read(unpack("<I", header)[0])
        count += 1
        size += len(payload)
    return count, size


class NullSink(io.RawIOBase):
    """A sink that discards its input and counts the bytes."""

    def __init__(self) -> None:
        self.taken = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = len(data)
        self.taken += size
        return size

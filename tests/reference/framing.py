"""The wire format in plain Python: slow, readable, and the judge of everything that is compiled.

A stream is frames, one after another, with nothing before, between or after them. One frame is

    0                4               4+C                     4+C+L
    +----------------+----------------+-----------------------+
    | payload length |    checksum    |        payload        |
    | L: u32, LE     | C bytes, LE    |        L bytes        |
    +----------------+----------------+-----------------------+

C is the size of the checksum's value, 0 to 8 bytes; which checksum it is, writer and reader agree on beforehand. It
covers the payload and nothing else. A value that is wider than C bytes loses what is above them.

Reading a stream goes wrong in one of three ways:

- The stream ends inside a frame: it is torn. With fewer than 4 bytes of the frame there, 4 are needed; with those, the
  whole frame.
- The length cannot be right, because it is over the limit, or 0 where nothing may be empty. That is known as soon as
  the 4 bytes of the length are there, whether the rest is or not. Nothing can be read behind it.
- The checksum of a whole frame is not that of its payload. The frame ends where its length says all the same, so that
  reading goes on behind it.

Nothing here is taken from the package. XXH3 alone is not written out: it comes from the xxhash package.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import xxhash

LENGTH_SIZE = 4


# Checksums


@functools.cache
def crc_of_bytes(width: int, polynomial: int) -> list[int]:
    """For each byte, the remainder of its division by the polynomial, bit by bit, when `width` zero bits follow it."""
    remainders = []
    for byte in range(256):
        register = byte << (width - 8)
        for _ in range(8):
            outgoing = register >> (width - 1)
            register = (register << 1) % 2**width
            if outgoing:
                register ^= polynomial
        remainders.append(register)
    return remainders


REVERSED = [int(f"{byte:08b}"[::-1], 2) for byte in range(256)]


def crc(data: bytes, *, width: int, polynomial: int, reflected: bool, initial: int, final_xor: int) -> int:
    """A cyclic redundancy check: the remainder of a division of polynomials, a byte at a time.

    `polynomial` is without its highest term. A reflected CRC takes each byte's lowest bit first, and its result is
    reversed; the division is the same.
    """
    remainders = crc_of_bytes(width, polynomial)
    register = initial
    for byte in data:
        incoming = REVERSED[byte] if reflected else byte
        register = (register << 8) % 2**width ^ remainders[register >> (width - 8) ^ incoming]
    if reflected:
        register = int(f"{register:0{width}b}"[::-1], 2)
    return register ^ final_xor


# The parameters are those of the RevEng catalogue, under its names.


def crc16_xmodem(data: bytes) -> int:
    return crc(data, width=16, polynomial=0x1021, reflected=False, initial=0, final_xor=0)


def crc32_iso_hdlc(data: bytes) -> int:
    return crc(data, width=32, polynomial=0x04C11DB7, reflected=True, initial=2**32 - 1, final_xor=2**32 - 1)


def crc32c_iscsi(data: bytes) -> int:
    return crc(data, width=32, polynomial=0x1EDC6F41, reflected=True, initial=2**32 - 1, final_xor=2**32 - 1)


def crc64_xz(data: bytes) -> int:
    return crc(data, width=64, polynomial=0x42F0E1EBA9EA3693, reflected=True, initial=2**64 - 1, final_xor=2**64 - 1)


def weighted_sum(data: bytes) -> int:
    """Each byte times its place, counted from 1, added up: an example of a checksum that is nobody's standard."""
    total = 0
    for index in range(len(data)):
        total += (index + 1) * data[index]
    return total


@dataclass(frozen=True)
class Algorithm:
    """A checksum, and how many bytes of a frame hold its value."""

    size: int
    calculate: Callable[[bytes], int]

    def stored(self, payload: bytes) -> int:
        """What a frame stores: the value's lowest `size` bytes."""
        return self.calculate(payload) % (1 << 8 * self.size)


ALGORITHMS = {
    "none": Algorithm(0, lambda data: 0),
    "crc16": Algorithm(2, crc16_xmodem),
    "crc32": Algorithm(4, crc32_iso_hdlc),
    "crc32c": Algorithm(4, crc32c_iscsi),
    "crc64": Algorithm(8, crc64_xz),
    "xxhash64": Algorithm(8, xxhash.xxh3_64_intdigest),
    "sum24": Algorithm(3, weighted_sum),
}


# Writing


def encode(payloads: Iterable[bytes], checksum: str) -> bytes:
    """The stream of `payloads`; `checksum` is a name in ALGORITHMS."""
    algorithm = ALGORITHMS[checksum]
    stream = b""
    for payload in payloads:
        stream += len(payload).to_bytes(LENGTH_SIZE, "little")
        stream += algorithm.stored(payload).to_bytes(algorithm.size, "little")
        stream += payload
    return stream


# Reading


@dataclass(frozen=True)
class Good:
    """A whole frame whose checksum is right: number `frame`, of `size` bytes, at `offset`."""

    offset: int
    frame: int
    size: int
    payload: bytes


@dataclass(frozen=True)
class Mismatch:
    """A whole frame that stores the checksum `expected`, whose payload has the checksum `calculated`."""

    offset: int
    frame: int
    size: int
    expected: int
    calculated: int


@dataclass(frozen=True)
class Clean:
    """The stream ends at `offset`, where a frame does."""

    offset: int


@dataclass(frozen=True)
class Torn:
    """The stream ends inside frame number `frame` at `offset`: `needed` bytes of it are needed, `got` are there."""

    offset: int
    frame: int
    needed: int
    got: int


@dataclass(frozen=True)
class Invalid:
    """At `offset`, where frame number `frame` begins, stands a length that cannot be one."""

    offset: int
    frame: int
    declared_len: int
    limit: int


@dataclass(frozen=True)
class Stream:
    """All frames of a stream in order, those that are skipped because of their checksum too, and how it ends."""

    outcomes: list[Good | Mismatch]
    end: Clean | Torn | Invalid

    @property
    def payloads(self) -> list[bytes]:
        """Those of the good frames."""
        return [outcome.payload for outcome in self.outcomes if isinstance(outcome, Good)]


def decode(data: bytes, checksum: str, *, max_frame_len: int = 2**31, allow_empty: bool = True) -> Stream:
    """All that a reader finds in `data`; `checksum` is a name in ALGORITHMS."""
    algorithm = ALGORITHMS[checksum]
    outcomes: list[Good | Mismatch] = []
    offset = 0
    while offset < len(data):
        frame = len(outcomes)
        got = len(data) - offset
        if got < LENGTH_SIZE:
            return Stream(outcomes, Torn(offset, frame, LENGTH_SIZE, got))

        length = int.from_bytes(data[offset : offset + LENGTH_SIZE], "little")
        if length > max_frame_len or (length == 0 and not allow_empty):
            return Stream(outcomes, Invalid(offset, frame, length, max_frame_len))

        size = LENGTH_SIZE + algorithm.size + length
        if got < size:
            return Stream(outcomes, Torn(offset, frame, size, got))

        header_end = offset + LENGTH_SIZE + algorithm.size
        payload = data[header_end : offset + size]
        expected = int.from_bytes(data[offset + LENGTH_SIZE : header_end], "little")
        calculated = algorithm.stored(payload)
        if expected == calculated:
            outcomes.append(Good(offset, frame, size, payload))
        else:
            outcomes.append(Mismatch(offset, frame, size, expected, calculated))
        offset += size
    return Stream(outcomes, Clean(offset))


# Recovery


@dataclass(frozen=True)
class Recovered:
    """The stream begins with `frames` intact frames, the last of which ends at `last_good_offset`.

    `end` is what follows there: "clean_eof" for nothing, "torn_tail" for what may be cut, or what is wrong.
    """

    frames: int
    last_good_offset: int
    end: str | Mismatch | Invalid


def recover(data: bytes, checksum: str, *, max_frame_len: int = 2**31, allow_empty: bool = True) -> Recovered:
    """What recovery without a guard says of `data`: only a torn frame at the end may be cut.

    Where nothing may be empty, zero bytes up to the end are no frames but a torn tail: file systems leave such.
    """
    stream = decode(data, checksum, max_frame_len=max_frame_len, allow_empty=allow_empty)
    frames = 0
    offset = 0
    for outcome in stream.outcomes:
        if isinstance(outcome, Mismatch):
            return Recovered(frames, offset, outcome)
        frames += 1
        offset += outcome.size
    if isinstance(stream.end, Clean):
        return Recovered(frames, offset, "clean_eof")
    if isinstance(stream.end, Torn):
        return Recovered(frames, offset, "torn_tail")
    if stream.end.declared_len == 0 and data[offset:].strip(b"\0") == b"":
        return Recovered(frames, offset, "torn_tail")
    return Recovered(frames, offset, stream.end)

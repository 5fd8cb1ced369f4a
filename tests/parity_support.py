"""Helpers of the tests of parity, recovery and bad input: streams whose every boundary is known, and devices that fail.

What a test expects of a stream comes from here, by adding up sizes, and from `reference`; never from the package.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import reference
from support import Mode, PlainSink

import flatstream
from flatstream import FlatStreamError, RecoveryEnd, RecoveryReport, StreamReader

# Of all lengths up to a few header sizes, an empty one among them, and none that could be taken for a header.
SMALL_PAYLOADS = (b"", b"a", b"abc", b"\xff" * 5, bytes(range(1, 40)), b"telemetry", b"\x7f" * 17)


# Streams


@dataclass(frozen=True)
class Corpus:
    """A stream, and what it was made of: frame i is ``data[starts[i]:ends[i]]`` and holds ``payloads[i]``."""

    payloads: tuple[bytes, ...]
    data: bytes
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def whole_frames(self, cut: int) -> int:
        """How many frames lie whole before `cut`."""
        return sum(end <= cut for end in self.ends)

    def report(self, cut: int) -> RecoveryReport:
        """What recovery must say of the first `cut` bytes."""
        frames = self.whole_frames(cut)
        offset = self.ends[frames - 1] if frames else 0
        return RecoveryReport(frames, offset, RecoveryEnd.CLEAN_EOF if offset == cut else RecoveryEnd.TORN_TAIL)


def corpus(mode: Mode, payloads: Iterable[bytes] = SMALL_PAYLOADS) -> Corpus:
    """The stream of `payloads` with the checksum of `mode`."""
    made = tuple(payloads)
    ends = tuple(itertools.accumulate(4 + mode.size + len(payload) for payload in made))
    data = reference.encode(made, mode.name)
    assert len(data) == (ends[-1] if ends else 0)
    return Corpus(made, data, (0, *ends)[: len(made)], ends)


def flip(data: bytes, bit: int) -> bytes:
    """`data` with one bit turned over, counted from the lowest of the first byte."""
    changed = bytearray(data)
    changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


def read_all(source: Any, deframer: Any = None, **options: Any) -> tuple[list[bytes], BaseException | None]:
    """All payloads up to the end or the first error, and that error."""
    payloads = []
    with StreamReader(source, deframer, **options) as reader:
        try:
            for payload in reader:
                payloads.append(bytes(payload))
        except (FlatStreamError, OSError) as error:
            return payloads, error
    return payloads, None


def recover_bytes(source: Any, deframer: Any = None, *, guard: bool = True) -> RecoveryReport | FlatStreamError:
    """What `flatstream.recover` reports, or the error that it raises."""
    try:
        return flatstream.recover(source, deframer, guard=guard)
    except FlatStreamError as error:
        return error


def address(buffer: Any) -> int:
    """Where in memory the first byte of `buffer` lies."""
    return int(np.frombuffer(buffer, np.uint8).__array_interface__["data"][0])


# FlatBuffers, made by the reference builder


def flatbuffer_of_string(text: str) -> bytes:
    """A message whose root is a string, as `StreamWriter.write` makes of a `str`."""
    builder = flatbuffers.Builder(64)
    builder.Finish(builder.CreateString(text))
    return bytes(builder.Output())


def flatbuffer_of_vector(values: Sequence[int], size: int = 4) -> bytes:
    """A message whose root is a table with one field: a vector of unsigned integers of `size` bytes."""
    builder = flatbuffers.Builder(64)
    prepend = {1: "PrependUint8", 2: "PrependUint16", 4: "PrependUint32", 8: "PrependUint64"}[size]
    builder.StartVector(size, len(values), size)
    for value in reversed(values):
        getattr(builder, prepend)(value)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def flatbuffer_of_event(number: int) -> bytes:
    """A message like a telemetry agent's: a counter, a measured value, a name, a short history, a flag."""
    builder = flatbuffers.Builder(256)
    name = builder.CreateString(f"sensor-{number % 7}")
    builder.StartVector(4, number % 9, 4)
    for place in range(number % 9):
        builder.PrependInt32(place * number % 50)
    history = builder.EndVector()
    builder.StartObject(5)
    builder.PrependUint64Slot(0, number, 0)
    builder.PrependFloat64Slot(1, number * 0.5, 0.0)
    builder.PrependUOffsetTRelativeSlot(2, name, 0)
    builder.PrependUOffsetTRelativeSlot(3, history, 0)
    builder.PrependBoolSlot(4, number % 2, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


# Devices that fail


class FaultySource:
    """Gives ``data[:fault_at]`` in pieces of at most `piece` bytes, raises `error` once, and then gives the rest.

    That it works again afterwards shows whether it is the reader that refuses to go on.
    """

    def __init__(self, data: bytes, fault_at: int, error: BaseException, piece: int = 1 << 20) -> None:
        self.data = data
        self.fault_at = fault_at
        self.error = error
        self.piece = piece
        self.position = 0
        self.faults = 0

    def readinto(self, buffer: Any) -> int:
        end = len(self.data)
        if not self.faults:
            end = self.fault_at
            if self.position == end:
                self.faults += 1
                # One error may serve thousands of faults, and must not carry the tracebacks of all of them.
                raise self.error.with_traceback(None)
        piece = self.data[self.position : min(end, self.position + self.piece, self.position + len(buffer))]
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


class FaultySink(PlainSink):
    """Takes `limit` bytes, raises `error` once instead of taking the next one, and then takes everything.

    A single ``write`` takes what it can before the fault. That it works again afterwards shows whether it is the writer
    that refuses to go on.
    """

    def __init__(self, limit: int, error: BaseException) -> None:
        super().__init__()
        self.limit = limit
        self.error = error
        self.faults = 0

    def write(self, data: Any) -> int:
        if self.faults:
            self.pieces.append(bytes(data))
            return len(data)
        if not self.limit:
            self.faults += 1
            raise self.error.with_traceback(None)
        taken = bytes(data[: self.limit])
        self.limit -= len(taken)
        self.pieces.append(taken)
        return len(taken)


def raised_by(function: Callable[..., object], *arguments: Any) -> BaseException:
    """The exception that ``function(*arguments)`` raises, whatever it is; a test fails if there is none."""
    try:
        function(*arguments)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")

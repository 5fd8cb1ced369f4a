"""Streams whose every boundary is known, and ways to read them to their end.

What a test expects of a stream comes from here, by adding up sizes, and from `reference`; never from the package.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import flatstream
from flatstream import (
    FlatStreamError,
    RecoveryEnd,
    RecoveryReport,
    StreamReader,
)
from reference import framing as reference
from support.modes import Mode

# Of all lengths up to a few header sizes, an empty one among them, and none that could be taken for a header.
SMALL_PAYLOADS = (b"", b"a", b"abc", b"\xff" * 5, bytes(range(1, 40)), b"telemetry", b"\x7f" * 17)


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

    def report(self, cut: int, guard: bool = True) -> RecoveryReport:
        """What recovery must say of the first `cut` bytes."""
        frames = self.whole_frames(cut)
        offset = self.ends[frames - 1] if frames else 0
        report = RecoveryReport(frames, offset, RecoveryEnd.CLEAN_EOF if offset == cut else RecoveryEnd.TORN_TAIL)
        return guarded(report, self.data[:cut], self.starts, self.ends[0] - len(self.payloads[0])) if guard else report


def guarded(report: RecoveryReport, data: bytes, starts: Sequence[int], header_size: int) -> RecoveryReport:
    """What recovery must say with the guard of `data`, of which it says `report` without: no zeros at the end are a
    frame, though a length may stand before them where there is a checksum, and without a frame there is no stream.
    """
    frames, offset, end = report
    lead = 4 if header_size >= 6 else 0
    while frames and not data[starts[frames - 1] + lead :].strip(b"\x00"):
        frames -= 1
        offset, end = starts[frames], RecoveryEnd.TORN_TAIL
    return RecoveryReport(frames, offset, end if frames or not data else RecoveryEnd.NOT_A_STREAM)


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


PAYLOADS = [b"message %03d." % number for number in range(100)]


STREAM = reference.encode(PAYLOADS, "none")


def encode(*payloads: bytes) -> bytes:
    return reference.encode(payloads, "none")


def by_message(reader: StreamReader) -> list[bytes]:
    payloads = []
    while (payload := reader.read_message()) is not None:
        payloads.append(bytes(payload))
    return payloads


def by_batch(reader: StreamReader) -> list[bytes]:
    return [bytes(payload) for batch in reader.batches() for payload in batch]

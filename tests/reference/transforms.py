"""Transforms in plain Python: what is stored in the frames of a stream, and what a reader makes of frames.

A transform changes what the frames store. It may put frames of its own before and behind the messages. A `Twin` says
both for a whole stream at once, without objects that have a state.

- `store(payloads)` gives what the frames store, in order, with those that are no messages.
- `read(frames)` is the other way. A frame is what it stores, or None where the frame was damaged, so that nobody knows
  what it stored. Each frame becomes a `Message`, or nothing (CONTROL), or it is REFUSED.

Nothing here is taken from the package.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reference.framing import ALGORITHMS, LENGTH_SIZE, Good, Mismatch, decode

CONTROL = "control"
REFUSED = "refused"
DAMAGED = "damaged"

Outcome = bytes | str


@dataclass(frozen=True)
class Twin:
    """What a transform does. An outcome is the payload of a message, or one of the words above."""

    store: Callable[[Sequence[bytes]], list[bytes]]
    read: Callable[[Sequence[bytes | None]], list[Outcome]]


def stateless(change: Callable[[bytes], bytes], undo: Callable[[bytes], bytes | None]) -> Twin:
    """A transform that looks at one frame at a time. `undo` returns None for what was never stored."""

    def read(frames: Sequence[bytes | None]) -> list[Outcome]:
        found: list[Outcome] = []
        for stored in frames:
            payload = None if stored is None else undo(stored)
            found.append(DAMAGED if stored is None else REFUSED if payload is None else payload)
        return found

    return Twin(lambda payloads: [change(payload) for payload in payloads], read)


def xored(data: bytes) -> bytes:
    """Each byte with the bits of 0x5A changed: as long as before, and its own inverse."""
    return bytes(byte ^ 0x5A for byte in data)


def unmarked(data: bytes) -> bytes | None:
    """Without the letter R before it, and the right way round again."""
    return data[1:][::-1] if data[:1] == b"R" else None


def inflated(data: bytes) -> bytes | None:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return None


XOR = stateless(xored, xored)
REVERSE = stateless(lambda payload: b"R" + payload[::-1], unmarked)
ZLIB = stateless(lambda payload: zlib.compress(payload, 1), inflated)


# A transform with a state: messages are numbered. A frame with the letter B begins the stream; "D" and a number stand
# before each payload; "F" and how many messages there were ends it. A number that is not the next one is refused,
# unless a frame before it was lost. Then it may be a later one.


def numbered(payloads: Sequence[bytes]) -> list[bytes]:
    messages = [b"D" + number.to_bytes(4, "little") + payload for number, payload in enumerate(payloads)]
    return [b"B", *messages, b"F" + len(payloads).to_bytes(4, "little")]


def in_order(frames: Sequence[bytes | None]) -> list[Outcome]:
    found: list[Outcome] = []
    expected = None
    may_be_later = False
    for stored in frames:
        number = None if stored is None else int.from_bytes(stored[1:5], "little")
        if stored is None:
            found.append(DAMAGED)
            may_be_later = True
        elif stored == b"B" and expected is None:
            found.append(CONTROL)
            expected, may_be_later = 0, False
        elif (
            stored[:1] in (b"D", b"F")
            and len(stored) >= 5
            and number is not None
            and (number == expected or (may_be_later and number >= (expected or 0)))
        ):
            found.append(stored[5:] if stored[:1] == b"D" else CONTROL)
            expected = number + (stored[:1] == b"D")
            may_be_later = False
        else:
            found.append(REFUSED)
            may_be_later = True
    return found


NUMBERS = Twin(numbered, in_order)


# Whole streams


@dataclass(frozen=True)
class Frame:
    """A whole frame at `offset`, of `size` bytes, and what is made of it."""

    offset: int
    size: int
    outcome: Outcome


def encode(stored: Sequence[bytes], checksum: str) -> bytes:
    """Frames around what they store; the checksum is over that."""
    algorithm = ALGORITHMS[checksum]
    stream = b""
    for payload in stored:
        stream += len(payload).to_bytes(LENGTH_SIZE, "little")
        stream += algorithm.stored(payload).to_bytes(algorithm.size, "little")
        stream += payload
    return stream


def frames_of(data: bytes, checksum: str, twin: Twin) -> list[Frame]:
    """The whole frames of a stream up to where none is."""
    outcomes: list[Good | Mismatch] = decode(data, checksum).outcomes
    made = twin.read([one.payload if isinstance(one, Good) else None for one in outcomes])
    return [Frame(one.offset, one.size, outcome) for one, outcome in zip(outcomes, made, strict=True)]

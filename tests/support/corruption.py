"""Seeded damage to streams, and what reading and recovery make of it.

Each kind of damage keeps account of where the bytes of the original stream are afterwards. So it is known which frames
are still intact, whatever the package says.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import flatbuffers
import numpy as np

from flatstream import FlatStreamError, RecoveryEnd, StreamReader, recover
from reference import framing as reference

CHECKSUMS = {"none": 0, "crc16": 2, "crc32": 4, "crc32c": 4, "crc64": 8, "xxhash64": 8}
FRAMES = 300


@dataclass(frozen=True)
class Piece:
    """Bytes `begin` to `end` of the original stream of one writer; those that no writer wrote have the writer -1."""

    data: bytes
    writer: int = -1
    begin: int = 0

    @property
    def end(self) -> int:
        return self.begin + len(self.data)

    def part(self, begin: int, end: int) -> Piece:
        return Piece(self.data[begin:end], self.writer, self.begin + begin)


Pieces = list[Piece]


def message(rng: random.Random, number: int) -> bytes:
    """A message of 40 to 400 bytes, seldom 3,000: a number, a name and samples, as a telemetry agent writes it."""
    builder = flatbuffers.Builder(512)
    name = builder.CreateString(f"host-{rng.randrange(50)}.example")
    count = 350 if rng.random() < 0.02 else rng.randrange(40)
    # Small numbers in 8 bytes: most of their bytes are zero, and any four of them look like a length.
    samples = builder.CreateNumpyVector(np.array([rng.randrange(2000) for _ in range(count)], np.int64))
    builder.StartObject(4)
    builder.PrependUint64Slot(0, number, 0)
    builder.PrependUOffsetTRelativeSlot(1, name, 0)
    builder.PrependUOffsetTRelativeSlot(2, samples, 0)
    builder.PrependFloat64Slot(3, rng.random(), 0.0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


@functools.cache
def stream(checksum: str, writer: int) -> tuple[bytes, tuple[int, ...], tuple[bytes, ...]]:
    """The stream of a writer, the offsets of its frames (and of its end), and their payloads, all of which differ."""
    rng = random.Random(1000 + writer)
    payloads = tuple(message(rng, 1 + writer * FRAMES + number) for number in range(FRAMES))
    frames = [reference.encode([payload], checksum) for payload in payloads]
    return b"".join(frames), tuple(itertools.accumulate(map(len, frames), initial=0)), payloads


@functools.cache
def numbers(checksum: str) -> dict[bytes, int]:
    """The place in the order of writing of each payload of both writers."""
    return {payload: i for writer in (0, 1) for i, payload in enumerate(stream(checksum, writer)[2])}


# Kinds of damage. Each returns the damaged stream as pieces.


def flipped(rng: random.Random, checksum: str, where: str) -> Pieces:
    data, starts, _ = stream(checksum, 0)
    frame = rng.randrange(FRAMES)
    header = 4 + CHECKSUMS[checksum]
    begin, end = {"length": (0, 4), "checksum": (4, header), "payload": (header, starts[frame + 1] - starts[frame])}[
        where
    ]
    at = starts[frame] + rng.randrange(begin, end)
    return [
        Piece(data[:at], 0),
        Piece(bytes([data[at] ^ 1 << rng.randrange(8)])),
        Piece(data[at + 1 :], 0, at + 1),
    ]


def sectors(rng: random.Random, checksum: str, what: str, size: int) -> Pieces:
    data, _, _ = stream(checksum, 0)
    pieces = [Piece(data[at : at + size], 0, at) for at in range(0, len(data), size)]
    at = rng.randrange(len(pieces))
    if what == "zeroed":
        pieces[at] = Piece(bytes(len(pieces[at].data)))
    elif what == "repeated":
        pieces.insert(at, pieces[at])
    elif what == "lost":
        del pieces[at]
    else:
        # Not the last one: the others have all the same size.
        at, other = rng.sample(range(len(pieces) - 1), 2)
        pieces[at], pieces[other] = pieces[other], pieces[at]
    return pieces


def torn(rng: random.Random, checksum: str) -> Pieces:
    data, _, _ = stream(checksum, 0)
    return [Piece(data[: rng.randrange(len(data))], 0)]


def foreign_tail(rng: random.Random, checksum: str) -> Pieces:
    size = rng.randrange(1, 8192)
    tail = rng.choice(
        [bytes(size), rng.randbytes(size), b"a line of a log\n" * (size // 16 + 1), gzip.compress(rng.randbytes(size))]
    )
    return [*torn(rng, checksum), Piece(tail)]


def interleaved(rng: random.Random, checksum: str) -> Pieces:
    """Two writers append to one file what their buffers hold, each without regard to the other's frames."""
    streams = [stream(checksum, 0)[0], stream(checksum, 1)[0]]
    at = [0, 0]
    pieces = []
    while at[0] < len(streams[0]) or at[1] < len(streams[1]):
        writer = rng.randrange(2)
        size = rng.choice([512, 4096, 8192, rng.randrange(1, 8192)])
        pieces.append(Piece(streams[writer][at[writer] : at[writer] + size], writer, at[writer]))
        at[writer] += size
    return [piece for piece in pieces if piece.data]


KINDS: dict[str, Callable[[random.Random, str], Pieces]] = {
    "bit of a length": lambda rng, checksum: flipped(rng, checksum, "length"),
    "bit of a checksum": lambda rng, checksum: flipped(rng, checksum, "checksum"),
    "bit of a payload": lambda rng, checksum: flipped(rng, checksum, "payload"),
    **{
        f"{what} sector of {size}": functools.partial(sectors, what=what, size=size)
        for what in ("zeroed", "repeated", "swapped", "lost")
        for size in (512, 4096)
    },
    "torn tail": torn,
    "foreign tail": foreign_tail,
    "two writers": interleaved,
}


def applies(kind: str, checksum: str) -> bool:
    return kind != "bit of a checksum" or CHECKSUMS[checksum] > 0


# What is still intact, and what the package says


def intact_frames(pieces: Pieces, checksum: str) -> Iterator[tuple[int, bytes]]:
    """The offset in the damaged stream, and the payload, of each frame whose bytes are all there, in one row."""
    merged: list[tuple[int, Piece]] = []
    offset = 0
    for piece in pieces:
        last = merged[-1][1] if merged else None
        if last is not None and piece.writer == last.writer >= 0 and piece.begin == last.end:
            merged[-1] = (merged[-1][0], Piece(last.data + piece.data, last.writer, last.begin))
        else:
            merged.append((offset, piece))
        offset += len(piece.data)
    for offset, piece in merged:
        if piece.writer < 0:
            continue
        _, starts, payloads = stream(checksum, piece.writer)
        for i, payload in enumerate(payloads):
            if piece.begin <= starts[i] and starts[i + 1] <= piece.end:
                yield offset + starts[i] - piece.begin, payload


@dataclass
class Verdict:
    """What became of one damaged stream, or the sum over many.

    Attributes
    ----------
    wrong : int
        Payloads that were delivered although no writer wrote them.
    undelivered : int
        Intact frames that resync did not deliver, but for those that count as `inside`.
    inside : int
        Intact frames that it did not deliver because they now lie in what seems to be the payload of another frame:
        the bytes before them name a length that ends where reading goes on. They cannot be told from a stream that a
        payload contains.
    moved : int
        Frames delivered again, or before one that was written earlier.
    cut : int
        Bytes of intact frames that recovery authorised to cut.
    unaccounted : int
        Streams whose bytes are not all either delivered or told as lost.
    """

    wrong: int = 0
    undelivered: int = 0
    inside: int = 0
    moved: int = 0
    cut: int = 0
    unaccounted: int = 0
    seeds: list[int] = field(default_factory=list)

    def add(self, other: Verdict, seed: int) -> None:
        for name in ("wrong", "undelivered", "inside", "moved", "cut", "unaccounted"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.wrong or other.undelivered or other.cut or other.unaccounted:
            self.seeds.append(seed)


def damaged(kind: str, checksum: str, seed: int) -> Pieces:
    """The damage of one seed. The same for ever, whatever was damaged before."""
    return KINDS[kind](random.Random(f"{kind} {seed}"), checksum)


def judge(pieces: Pieces, checksum: str) -> Verdict:
    """Reads a damaged stream with resync, recovers it, and compares both with what is intact."""
    data = b"".join(piece.data for piece in pieces)
    intact = dict(intact_frames(pieces, checksum))
    written = numbers(checksum)
    verdict = Verdict()
    delivered = {}
    newest = -1
    with StreamReader(data, checksum, on_error="resync") as reader:
        for view in reader:
            payload = bytes(view)
            delivered[reader.message_offset] = payload
            number = written.get(payload)
            if number is None:
                verdict.wrong += 1
            elif payload in stream(checksum, 0)[2]:
                verdict.moved += number <= newest
                newest = max(newest, number)
        lost = reader.lost_ranges
        verdict.unaccounted = int(reader.bytes_read + reader.lost_bytes != len(data))
    for offset, payload in intact.items():
        if delivered.get(offset) == payload:
            continue
        # What seems to be the frame around it, in a row of lost ones.
        begin, edge = max((found for found in lost if found[0] <= offset), default=(0, 0))
        end = begin
        while end <= offset and end + 4 <= edge:
            begin = end
            end = begin + 4 + CHECKSUMS[checksum] + int.from_bytes(data[begin : begin + 4], "little")
        if begin < offset < end <= edge:
            verdict.inside += 1
        else:
            verdict.undelivered += 1
    try:
        report = recover(data, checksum)
    except FlatStreamError:
        return verdict
    if report.end is RecoveryEnd.TORN_TAIL:
        header = 4 + CHECKSUMS[checksum]
        verdict.cut = sum(header + len(p) for offset, p in intact.items() if offset >= report.last_good_offset)
    return verdict


def judge_many(kind: str, checksum: str, seeds: range) -> Verdict:
    total = Verdict()
    for seed in seeds:
        total.add(judge(damaged(kind, checksum, seed), checksum), seed)
    return total

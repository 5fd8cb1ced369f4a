"""Frames that say what they are, and the judge who compares a journal with what its writers were told.

A payload names the run of the program that wrote it, its stream (one for each producer) and its place in the stream,
and the rest of it follows from these and a seed. So a frame that nobody wrote is noticed, as is one in the wrong place.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flatstream import FlatStreamError
from flatstream.journal import JournalReader

MAGIC = b"\xf5JFR"
HEAD = struct.Struct("<4sIIQI")  # the magic number, run, stream, place, how many bytes follow

# How many bytes follow the head: mostly few, sometimes more than a buffer has.
LENGTHS = (0, 3, 8, 17, 40, 40, 64, 100, 130, 200, 300, 900, 2500, 20, 33, 5)


class Claim(NamedTuple):
    """What a frame says of itself."""

    run: int
    stream: int
    place: int


def payload_of(seed: int, run: int, stream: int, place: int, length: int | None = None) -> bytes:
    """The payload of a frame. Without `length`, its length is drawn from the seed."""
    digest = hashlib.blake2b(b"%d %d %d %d" % (seed, run, stream, place), digest_size=32).digest()
    if length is None:
        length = LENGTHS[digest[0] % len(LENGTHS)]
        if digest[1] == 0:
            length = 20_000 + 400 * digest[2]
    body = (digest * (length // 32 + 1))[:length]
    return HEAD.pack(MAGIC, run, stream, place, length) + body


def claim_of(payload: bytes, seed: int) -> Claim | None:
    """What the frame says of itself; None if the frame is not one of ours."""
    if len(payload) < HEAD.size:
        return None
    magic, run, stream, place, length = HEAD.unpack_from(payload)
    if magic != MAGIC or len(payload) != HEAD.size + length or payload_of(seed, run, stream, place, length) != payload:
        return None
    return Claim(run, stream, place)


@dataclass(repr=False)
class Ledger:
    """What the program of one run was told by its writer.

    Attributes
    ----------
    run : int
        Its number.
    first : int or None
        The writer's position when it was opened; None if that did not come to its end.
    handed_over, durable : int
        Frames with smaller numbers were given to the system (flush), and on the disk (sync).
    promised : set of Claim
        Frames of producers that waited for the disk, and those that one waited for that can drop frames.
    dropped : int
        How many frames were dropped because the disk was full.
    errors : list
        What failed: the call, and the number or the class of the error.
    violations : list of str
        What the program itself found wrong.
    is_poisoned : bool
        Whether the writer said that a sync had failed.
    is_waiting : bool
        Whether the program waits until it is released (`support.journal_faults.Running.release`).
    is_finished : bool
        Whether the program came to its end.
    """

    run: int
    first: int | None = None
    handed_over: int = 0
    durable: int = 0
    promised: set[Claim] = field(default_factory=set)
    dropped: int = 0
    errors: list[list[Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    is_poisoned: bool = False
    is_waiting: bool = False
    is_finished: bool = False

    def __repr__(self) -> str:
        told = f"from {self.first}, handed over {self.handed_over}, durable {self.durable}"
        kinds = Counter(f"{call}: {error}" for call, error, *_ in self.errors)
        end = "finished" if self.is_finished else "not finished"
        return f"<run {self.run} {told}, {dict(kinds)}, {self.violations}, {end}>"

    def note(self, record: list[Any]) -> None:
        """Adds what the program tells (`support.journal_child.Program.tell`)."""
        kind, *values = record
        if kind == "opened":
            self.first = values[0] if self.first is None else self.first
        elif kind == "handed over":
            self.handed_over = max(self.handed_over, values[0])
        elif kind == "durable":
            self.durable = max(self.durable, values[0])
        elif kind == "promised":
            self.promised.add(Claim(*values))
        elif kind == "kept":
            self.promised.update(Claim(self.run, 0, number) for number in range(*values))
        elif kind == "dropped":
            self.dropped = values[0]
        elif kind == "error":
            self.errors.append(values)
        elif kind == "violation":
            self.violations.append(values[0])
        elif kind == "poisoned":
            self.is_poisoned = True
        elif kind == "waiting":
            self.is_waiting = True
        elif kind == "finished":
            self.is_finished = True
        else:
            raise AssertionError(record)


class Found(NamedTuple):
    """A frame that was read, and its number."""

    number: int
    claim: Claim


@dataclass
class Reading:
    """What a reader found in a journal: its frames and gaps, and what is wrong with it."""

    frames: list[Found] = field(default_factory=list)
    gaps: list[Any] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    position: int = 0


def read_journal(directory: str | os.PathLike[str], seed: int, **options: Any) -> Reading:
    """Reads all of a journal, and looks at each frame by itself and at the order of numbers."""
    reading = Reading()
    before = -1
    try:
        with JournalReader(directory, **options) as reader:
            for view in reader:
                payload = bytes(view)
                number = reader.number
                claim = claim_of(payload, seed)
                if not payload:
                    reading.problems.append(f"frame {number} is empty")
                elif claim is None:
                    reading.problems.append(f"frame {number} was written by nobody: {payload[:40]!r}")
                else:
                    reading.frames.append(Found(number, claim))
                if number <= before:
                    reading.problems.append(f"frame {number} came after frame {before}")
                before = number
            # The same in every folder.
            reading.gaps = [gap._replace(segment=os.path.basename(gap.segment or "")) for gap in reader.gaps]
            reading.position = reader.position
    except (OSError, ValueError, FlatStreamError) as error:
        reading.problems.append(f"reading failed behind frame {before}: {type(error).__name__}: {error}")
    return reading


def judge(
    reading: Reading,
    ledgers: Sequence[Ledger],
    *,
    handed_over: bool = True,
    gaps: bool = False,
    removed: bool = False,
    numbered: bool = True,
) -> list[str]:
    """What is wrong with a journal, in words; an empty list if nothing is.

    Parameters
    ----------
    reading : Reading
        What was read after the last run.
    ledgers : sequence of Ledger
        The runs, in their order.
    handed_over : bool
        Whether frames that were only flushed must be there (the system did not stop).
    gaps : bool
        Whether numbers may be missing between frames.
    removed : bool
        Whether the oldest frames may be missing, because retention removed them.
    numbered : bool
        Whether the frames of stream 0 carry their numbers as their places. Only then it is looked for those that were
        handed over or are on the disk.
    """
    problems = [*reading.problems]
    runs = {ledger.run for ledger in ledgers}
    for ledger in ledgers:
        problems += [f"run {ledger.run}: {text}" for text in ledger.violations]
    by_number = {found.number: found.claim for found in reading.frames}
    missing_numbers = {number for gap in reading.gaps for number in range(gap.first, gap.next)}
    seen: set[Claim] = set()
    last_run = -1
    before: int | None = None
    for number, claim in reading.frames:
        if claim in seen:
            problems.append(f"frame {number} is a second copy of {claim}")
        seen.add(claim)
        if claim.run not in runs:
            problems.append(f"frame {number} is of run {claim.run}, which has not been")
        if claim.run < last_run:
            problems.append(f"frame {number} is of run {claim.run} and came behind one of run {last_run}")
        last_run = claim.run
        if numbered and claim.stream == 0 and claim.place != number:
            problems.append(f"frame {number} was written as number {claim.place}")
        between = () if before is None else range(before + 1, number)
        if number == before or (between and not (gaps and missing_numbers.issuperset(between))):
            problems.append(f"frame {number} came behind frame {before}, gaps {reading.gaps}")
        before = number
    if not gaps and any(gap.next > gap.first for gap in reading.gaps if not (removed and gap is reading.gaps[0])):
        problems.append(f"there are gaps: {reading.gaps}")
    oldest = reading.frames[0].number if reading.frames and removed else 0
    for ledger in ledgers:
        if ledger.first is not None and numbered:
            behind = max(ledger.durable, ledger.handed_over if handed_over else 0)
            for number in range(max(ledger.first, oldest), behind):
                if number not in by_number and ledger.dropped and number in missing_numbers:
                    continue
                if by_number.get(number) != Claim(ledger.run, 0, number):
                    kind = "acknowledged" if number < ledger.durable else "handed over"
                    problems.append(f"frame {number} of run {ledger.run} was {kind}, found {by_number.get(number)}")
        missing = ledger.promised - seen
        if missing and not removed:
            problems.append(f"{len(missing)} frames were acknowledged and are missing, as {min(missing)}")
    dropped = sum(ledger.dropped for ledger in ledgers)
    if dropped and len(missing_numbers) != dropped:
        problems.append(f"{dropped} frames were dropped, {len(missing_numbers)} are missing")
    problems += _disorder_of_streams(reading.frames)
    return problems


def _disorder_of_streams(frames: Iterable[Found]) -> list[str]:
    """What is out of order within the stream of one producer."""
    problems = []
    places: dict[tuple[int, int], int] = {}
    for number, (run, stream, place) in frames:
        if place <= places.get((run, stream), -1):
            problems.append(f"frame {number}: place {place} of stream {stream}, run {run}, is out of order")
        places[run, stream] = place
    return problems

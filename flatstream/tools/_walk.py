"""One pass over a stream: how many frames it has, what they look like, and where it is damaged."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from flatstream._core.checksums.checksum import UncheckedChecksum
from flatstream._core.framing.transform import restores_payloads
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._core.stream.frame_search import evidence_bytes_of, header_size_of, largest_of
from flatstream.errors import (
    ChecksumMismatchError,
    FlatbufferError,
    FlatStreamError,
    UnexpectedEofError,
    ValidationFailedError,
)
from flatstream.framing import ChecksumDeframer, Deframer
from flatstream.reader import StreamReader
from flatstream.recovery import RecoveryEnd, recover
from flatstream.validation import Validator

if TYPE_CHECKING:
    from flatstream.transforms.encryption import EncryptionReport

__all__ = ["Damage", "Totals", "check_file", "first_error", "identifier_of", "read_to_end", "walk_headers"]

DamageKind = Literal["torn", "checksum", "frame", "payload"]

Step = Callable[[int], object]

CAPACITY = 1 << 20

# Of so many messages each identifier is looked at; of each further batch, those of so many. Of a large payload so many
# bytes are kept.
ALL_OF = 1 << 16
SAMPLES = 64
LARGEST_COPY = 64 << 10

# Frames of more bytes on average than this are walked header by header, without reading what lies between.
LARGE_FRAMES = 256 << 10

# How many damaged places are kept; all are counted.
MOST_DAMAGE = 10_000

# A checksum of so many bytes that matches is evidence of a frame.
ENOUGH_EVIDENCE = 4

# In bytes.
LONGEST_HEADER = 12


@dataclass(frozen=True)
class Damage:
    """A damaged place of a stream.

    Attributes
    ----------
    begin, end : int
        The bytes that are lost. In a segment of a journal they are counted from its beginning.
    kind : {"torn", "checksum", "frame", "payload"}
        The first bytes of a frame whose last ones were never written; a payload that does not match its checksum; bytes
        that are no frame; a payload that is no message of its table.
    reason : str
        What is wrong, in words.
    frame : int
        How many intact frames are before it.
    segment : str or None
        The name of the segment, in a journal.
    """

    begin: int
    end: int
    kind: DamageKind
    reason: str
    frame: int
    segment: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return asdict(self)


@dataclass
class Totals:
    """What was found on the way through a stream."""

    frames: int = 0
    payload_bytes: int = 0
    largest: int = 0
    looked_at: int = 0
    # By the four characters behind the offset of the root; "" for messages without them.
    identifiers: Counter[str] = field(default_factory=Counter)
    first: bytes | memoryview | None = None
    last: bytes | memoryview | None = None
    damage: list[Damage] = field(default_factory=list)
    damaged_places: int = 0
    lost_bytes: int = 0
    # Where the bytes end that were read.
    end: int = 0
    # Whether it is a compressed file that ends inside its data.
    is_cut_off: bool = False
    # Of an encrypted stream that was decrypted: what is missing.
    encryption: EncryptionReport | None = None
    chosen: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, batch: FrameBatch) -> None:
        """Counts the frames of a batch."""
        count = len(batch)
        self.frames += count
        # A batch is contiguous, and its first payload begins behind a header; or the buffer has payloads alone.
        self.payload_bytes += len(batch.buffer) - count * batch.offsets[0]
        self.largest = max(self.largest, largest_of(batch.lengths))
        # At random, because the types of messages may alternate. The same again for the same stream.
        some = range(count) if self.frames <= ALL_OF else self.chosen.sample(range(count), min(count, SAMPLES))
        buffer, offsets, lengths = batch.buffer, batch.offsets, batch.lengths
        for index in some:
            self.look_at(buffer[offsets[index] : offsets[index] + 8], lengths[index])
        if self.first is None:
            self.first = _kept(batch[0])
        self.last = _kept(batch[-1])

    def look_at(self, payload: memoryview | bytes, size: int) -> None:
        """Notes the identifier of one message of `size` bytes, of which the first are given."""
        self.looked_at += 1
        self.identifiers[identifier_of(payload, size)] += 1

    def add_damage(self, damage: Damage) -> None:
        """Notes a damaged place."""
        self.damaged_places += 1
        self.lost_bytes += damage.end - damage.begin
        if len(self.damage) < MOST_DAMAGE:
            self.damage.append(damage)

    @property
    def state(self) -> Literal["intact", "torn", "damaged"]:
        """What is wrong with the stream, or "intact"."""
        if self.encryption is not None and self.encryption.is_gapped:
            return "damaged"
        if not self.damaged_places:
            return "intact"
        return "torn" if self.torn is not None else "damaged"

    @property
    def torn(self) -> int | None:
        """Where a torn tail begins, if that is the only damage."""
        if self.damaged_places == 1 and self.damage[0].kind == "torn":
            return self.damage[0].begin
        return None


def step_of(progress: Callable[[int, int], object] | None, size: int | None) -> Step:
    """A `step` that calls ``progress(offset, size)``; if the size is not known, with the offset in its place."""

    def step(offset: int) -> None:
        if progress is not None:
            progress(offset, size or offset)

    return step


def identifier_of(payload: memoryview | bytes, size: int | None = None) -> str:
    """The file identifier of a message, of which the first bytes are enough; "" if there seems to be none."""
    first = bytes(payload[:8])
    # The root table lies behind the identifier.
    is_behind = 8 <= int.from_bytes(first[:4], "little") < (len(payload) if size is None else size)
    return _identifier(first[4:]) if is_behind else ""


@functools.lru_cache(64)
def _identifier(characters: bytes) -> str:
    if len(characters) < 4 or not all(0x20 < character < 0x7F for character in characters):
        return ""
    return characters.decode("ascii")


def _kept(payload: memoryview) -> bytes | memoryview:
    # A view would keep the reader from using its memory again.
    return bytes(payload) if len(payload) <= LARGEST_COPY else payload


def kind_of(error: FlatStreamError | None) -> DamageKind:
    """Which kind of damage an error is about."""
    if isinstance(error, ChecksumMismatchError):
        return "checksum"
    if isinstance(error, (ValidationFailedError, FlatbufferError)):
        return "payload"
    return "torn" if isinstance(error, UnexpectedEofError) else "frame"


def reason_of(error: FlatStreamError | None) -> str:
    """What an error says, without the place."""
    return "" if error is None else error.message


def read_to_end(
    reader: StreamReader, totals: Totals, step: Step | None = None, validator: Validator | None = None
) -> None:
    """Reads all frames, and notes each damaged place with its reason, also that a compressed source is cut off. Nothing
    is raised but other errors of the source.

    `validator` is for readers whose deframer has none. The frames that it refuses do not count as intact.
    """
    error: FlatStreamError | None = None
    while True:
        try:
            batch = reader.read_batch(on_error="stop")
        except EOFError as cut_off:
            # A compressed file. What was before its end is still of use.
            reason = str(cut_off).removeprefix(f"{getattr(reader.source, 'name', None)}: ")
            totals.add_damage(Damage(reader.offset, reader.offset, "torn", reason, totals.frames))
            totals.is_cut_off = True
            break
        if batch is not None:
            totals.add(batch)
            if validator is not None:
                _validate(batch, validator, totals)
            if step is not None:
                step(reader.offset)
            continue
        # At the end of the stream, that of the last damage is still there.
        error, known = reader.stop_error, error
        if error is None or error is known:
            break
        kind, reason = kind_of(error), reason_of(error)
        is_encrypted = reader.encryption is not None
        if kind == "payload" and not is_encrypted and evidence_bytes_of(reader.deframer) >= ENOUGH_EVIDENCE:
            # The frame is as it was written, and the next one is behind it. (Of an encrypted stream, frames behind a
            # gap are refused here, and not below.)
            begin = reader.offset
            with contextlib.suppress(ValidationFailedError, FlatbufferError):
                reader.read_batch(1, on_error="raise")
            totals.add_damage(Damage(begin, reader.offset, kind, reason, totals.frames))
            continue
        # One frame behind the damage; then it is looked for the next one.
        batch = reader.read_batch(1, on_error="resync")
        if kind == "torn" and batch is not None:
            kind, reason = "frame", "the header declares a payload that reaches beyond the end of the stream"
        lost = reader.lost_ranges[-1:] if batch is None else batch.lost_ranges
        for begin, end in lost:
            totals.add_damage(Damage(begin, end, kind, reason, totals.frames))
        if batch is None:
            break
        totals.add(batch)
        if validator is not None:
            _validate(batch, validator, totals)
    totals.end = reader.offset
    totals.encryption = reader.encryption


def _validate(batch: FrameBatch, validator: Validator, totals: Totals) -> None:
    """Notes the frames of a batch, which was counted already, that a validator refuses."""
    refused = 0
    for index, payload in enumerate(batch):
        try:
            validator.validate(payload)
        except (ValidationFailedError, FlatbufferError) as error:
            refused += 1
            before = totals.frames - len(batch) + index + 1 - refused
            totals.add_damage(Damage(*batch._range_of(index), "payload", reason_of(error), before))
    totals.frames -= refused


def first_error(file: io.RawIOBase, deframer: Deframer, offset: int, otherwise: str) -> tuple[DamageKind, str]:
    """Which kind of damage begins at an offset of a file, and what is wrong there."""
    file.seek(offset)
    with StreamReader(file, deframer, capacity=4096, allow_empty=False) as reader:
        try:
            reader.read_message()
        except FlatStreamError as error:
            return kind_of(error), reason_of(error)
    return "frame", otherwise


def check_file(path: str, deframer: Deframer, *, allow_empty: bool | None = None, step: Step | None = None) -> Totals:
    """Reads a file to its end.

    Parameters
    ----------
    path : str
        The file.
    deframer : Deframer
        Reads its frames, and compares their checksums.
    allow_empty : bool, optional
        As for `recover`: by default empty frames are taken, unless nothing but zeros follows, or the file is damaged.
    step : callable, optional
        Gets the offset after each batch.
    """
    totals = Totals()
    with StreamReader(path, deframer, capacity=CAPACITY, allow_empty=allow_empty is not False) as reader:
        read_to_end(reader, totals, step)
        described = reader.description is not None
    ends_with_zeros = allow_empty is None and totals.frames > 0 and not any(_last_bytes(path, LONGEST_HEADER))
    if totals.damage and allow_empty is None:
        # Zeros are no frames in a damaged file.
        totals = Totals()
        with StreamReader(path, deframer, capacity=CAPACITY, allow_empty=False) as reader:
            read_to_end(reader, totals, step)
    if ends_with_zeros or (totals.damaged_places == 1 and totals.damage[0].end == totals.end):
        _judge_end(path, deframer, allow_empty, totals, described)
    return totals


def _judge_end(path: str, deframer: Deframer, allow_empty: bool | None, totals: Totals, described: bool) -> None:
    """Finds out whether what is at the end of a file is a torn tail, as `recover` knows it."""
    try:
        report = recover(path, deframer, allow_empty=allow_empty)
    except FlatStreamError:
        if totals.damage and totals.damage[0].kind == "torn":
            totals.damage[0] = _as(totals.damage[0], "frame")
        return
    if report.end is RecoveryEnd.TORN_TAIL:
        reason = reason_of(UnexpectedEofError())
        if not any(_last_bytes(path, min(LONGEST_HEADER, totals.end - report.last_good_offset))):
            reason = "zeros run to the end of the file"
        # A description is a frame, and no message.
        frames = report.frames - described
        torn = Damage(report.last_good_offset, totals.end, "torn", reason, frames)
        totals.damage, totals.damaged_places, totals.lost_bytes = [], 0, 0
        totals.frames = frames
        totals.add_damage(torn)


def _as(damage: Damage, kind: DamageKind) -> Damage:
    return Damage(damage.begin, damage.end, kind, damage.reason, damage.frame, damage.segment)


def _last_bytes(path: str, size: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return file.read(size)


def walk_headers(path: str, deframer: Deframer, step: Step | None = None) -> Totals | None:
    """Counts frames by their headers, without comparing checksums; None if they do not lead to the end of the file, or
    payloads are not what is stored.
    """
    width = header_size_of(deframer)
    if width is None or restores_payloads(deframer):
        return None
    totals = Totals()
    unchecked = ChecksumDeframer(UncheckedChecksum(width - 4))
    with StreamReader(path, unchecked, capacity=CAPACITY) as reader:
        try:
            while (batch := reader.read_batch()) is not None:
                totals.add(batch)
                if step is not None:
                    step(reader.offset)
                if totals.payload_bytes > LARGE_FRAMES * totals.frames:
                    break
            totals.end = reader.offset
        except FlatStreamError:
            return None
        return totals if batch is None or _hop(reader.source, width, totals, step) else None


def _hop(file: Any, width: int, totals: Totals, step: Step | None) -> bool:
    """Goes on from `totals.end` from header to header, for frames that are so large that it pays not to read them."""
    fd = file.fileno()
    size = os.fstat(fd).st_size
    at, length = totals.end, 0
    while at < size:
        header = os.pread(fd, width + 8, at)
        length = int.from_bytes(header[:4], "little")
        if len(header) < width or at + width + length > size:
            return False
        totals.frames += 1
        totals.payload_bytes += length
        totals.largest = max(totals.largest, length)
        totals.look_at(header[width : width + min(8, length)], length)
        totals.end = at
        at += width + length
        if step is not None and not totals.frames % 1000:
            step(at)
    if totals.end < at:
        totals.last = os.pread(fd, length, totals.end + width) if length <= LARGEST_COPY else None
    totals.end = at
    return at == size

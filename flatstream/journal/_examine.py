"""What is in a segment, and in all segments of a folder: read without changing anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from flatstream._core.stream.frame_search import header_size_of
from flatstream._lock import who_writes
from flatstream.checksums import ChecksumType
from flatstream.detection import detect, other_checksum
from flatstream.errors import FlatStreamError
from flatstream.framing import Deframer, as_deframer
from flatstream.journal._layout import (
    LOCK,
    Manifest,
    Sealed,
    Segment,
    list_segments,
    lost_segments,
    read_manifest,
    tails_of_segment,
)
from flatstream.journal._numbers import distribute, head_size, possible_frames
from flatstream.journal._segment_files import SegmentFile, damaged_blocks, open_segment, size_of, stat_segment
from flatstream.reader import StreamReader
from flatstream.recovery import RecoveryEnd, recover

__all__ = [
    "Content",
    "Damage",
    "Examined",
    "Folder",
    "checksum_of",
    "deframer_of",
    "examine",
    "find_lost",
    "number_damage",
    "read_content",
    "read_folder",
]

State = Literal["sealed", "growing", "not sealed", "torn", "damaged", "unreadable"]

BATCH_BYTES = 16 << 20

# How a segment of which no frame can be read looks if its first frame was torn.
TORN_FIRST = ("a torn frame", "zeros")

# What a reading of a segment calls with the open file and its size, so that somebody else can see how far it is.
Watch = Callable[[SegmentFile, int], object]


class Content(NamedTuple):
    """What reading a segment found. Offsets are in bytes from its beginning.

    Attributes
    ----------
    size : int
        How many bytes it had.
    frames : int
        How many frames are intact, without the description.
    torn : int or None
        Where a torn tail begins, which may be cut off.
    lost_ranges : list of (int, int)
        Where bytes that are no intact frames begin and end, but for a torn tail of an intact segment.
    frames_before : list of int
        How many intact frames are before each of them.
    reason : str or None
        The first damage, in words.
    head : int
        The size of the frame of the description, also of a damaged one; 0 if the segment begins with another frame.
    """

    size: int
    frames: int
    torn: int | None = None
    lost_ranges: list[tuple[int, int]] = []  # noqa: RUF012 - never changed
    frames_before: list[int] = []  # noqa: RUF012
    reason: str | None = None
    head: int = 0


class Damage(NamedTuple):
    """Bytes that are lost, and the numbers of the frames that were in them.

    Attributes
    ----------
    begin, end : int
        The bytes in the segment. They are equal if only frames are missing.
    first, next : int
        The number of the first frame that may be lost, and that of the frame behind it.
    """

    begin: int
    end: int
    first: int
    next: int


class Examined(NamedTuple):
    """A segment, what was found in it, and the numbers of its frames.

    Attributes
    ----------
    segment : Segment
    state : {"sealed", "growing", "not sealed", "torn", "damaged", "unreadable"}
    frames, size : int
        How many frames are intact, and the size in bytes.
    next : int
        The number of the frame behind the segment: that of the next segment if there is one.
    expected : int or None
        The same if it is known without reading the segment.
    began, ended : float or None
        In seconds since 1970.
    content : Content or None
        None if the segment was not read: then `journal.json` knows it, and it has the size that it should have.
    damage : list of Damage
        Only of a segment that was read.
    reason : str or None
        What is damaged, in words.
    tails : list of (str, int)
        The files with tails that were cut off, and their sizes.
    gap : int
        How many numbers are missing behind a segment that is as it was sealed: those of frames that were dropped, or
        lost before.
    stored : int or None
        The size of the file of a compressed segment; None for a plain one.
    """

    segment: Segment
    state: State
    frames: int
    size: int
    next: int
    expected: int | None
    began: float | None
    ended: float | None
    content: Content | None
    damage: list[Damage]
    reason: str | None
    tails: list[tuple[str, int]]
    gap: int = 0
    stored: int | None = None


class Folder(NamedTuple):
    """A journal's folder, as it is at one time.

    Attributes
    ----------
    directory : str
    manifest : Manifest or None
    segments : list of Segment
    writer : str or None
        Which process writes, as text.
    lost : dict of Sealed
        The sealed segments whose files are gone, by name.
    """

    directory: str
    manifest: Manifest | None
    segments: list[Segment]
    writer: str | None
    lost: dict[str, Sealed]


def read_folder(directory: str) -> Folder:
    """What a journal's folder has.

    Raises
    ------
    FlatStreamError
        It is no journal: it has neither segments nor `journal.json`. Or a later version wrote it.
    OSError
        It cannot be read.
    """
    segments = list_segments(directory)
    manifest = read_manifest(directory)
    if not segments and manifest is None:
        raise FlatStreamError(f"{directory} is no journal: it has no segments and no journal.json")
    try:
        writer = who_writes(os.path.join(directory, LOCK))
    except FileNotFoundError:
        writer = None
    return Folder(directory, manifest, segments, writer, {} if manifest is None else find_lost(directory, manifest))


def find_lost(directory: str, manifest: Manifest) -> dict[str, Sealed]:
    """The sealed segments whose files are gone, while a writer may remove others: see `lost_segments`."""
    lost = lost_segments(manifest, list_segments(directory))
    if lost:
        # While the folder was listed, the oldest segments may have been removed behind what was listed already.
        again = lost_segments(manifest, list_segments(directory))
        lost = {name: one for name, one in lost.items() if name in again}
    return lost


def checksum_of(folder: Folder, given: str | None = None) -> ChecksumType:
    """The checksum of a journal: `given`, that of `journal.json`, or the one that the first segments show.

    Raises
    ------
    FlatStreamError
        It cannot be found out, or is one of the application's own.
    """
    if given is not None:
        written = None if folder.manifest is None else folder.manifest.checksum
        if written not in (None, given):
            raise FlatStreamError(
                f"{folder.directory} has the checksum {written!r}, as journal.json says, not {given!r}"
            )
        return ChecksumType(given)
    if folder.manifest is not None:
        if folder.manifest.checksum is None:
            raise FlatStreamError(
                f"{folder.directory} was written with a checksum or framer that flatstream does not have: use "
                "flatstream.recover and flatstream.salvage in a program that has it"
            )
        try:
            return ChecksumType(folder.manifest.checksum)
        except ValueError:
            raise FlatStreamError(
                f"{folder.directory} has a checksum that this version does not know: {folder.manifest.checksum!r:.100}"
            ) from None
    for segment in folder.segments:
        with open_segment(segment) as file:
            kind = detect(file).checksum
        if kind is not None:
            return kind
    raise FlatStreamError(
        f"{folder.directory} has no journal.json and no segment that shows its checksum: say which it is (--checksum)"
    )


def deframer_of(checksum: ChecksumType) -> Deframer:
    """Reads the frames of a journal: none is empty."""
    return as_deframer(checksum, allow_empty=False)


def read_content(segment: Segment, deframer: Deframer, watch: Watch | None = None) -> Content:
    """Reads a segment to its end.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with open_segment(segment) as file:
        found = _read_open(file, deframer, watch)
        blocks = damaged_blocks(file)
        if blocks is None:
            return found
        return found._replace(reason=blocks if found.reason is None else f"{found.reason}; {blocks}")


def _read_open(file: SegmentFile, deframer: Deframer, watch: Watch | None) -> Content:
    size = size_of(file)
    if watch is not None:
        watch(file, size)
    head = 0
    try:
        report = recover(file, deframer, allow_empty=False)
    except FlatStreamError as error:
        reason = str(error)
        head = head_size(file, deframer)
    else:
        frames = report.frames
        if frames and (head := head_size(file, deframer)):
            frames -= 1
        if report.end is RecoveryEnd.CLEAN_EOF:
            # What a writer adds meanwhile was read too.
            return Content(report.last_good_offset, frames, head=head)
        if report.end is RecoveryEnd.TORN_TAIL or report.looks_like in TORN_FIRST:
            return Content(size, frames, torn=report.last_good_offset, head=head)
        kind = other_checksum(file, deframer)
        seems = report.looks_like if kind is None else f"a stream with the checksum {kind.value}"
        reason = f"no frame can be read; the file looks like {seems or 'nothing that is known'}"
    file.seek(0)
    return _read_damaged(file, size, deframer, reason, head)


def _read_damaged(file: SegmentFile, size: int, deframer: Deframer, reason: str, head: int) -> Content:
    frames = 0
    # Where each batch begins, and how many frames are before it. A batch is contiguous.
    places: list[tuple[int, int]] = []
    with StreamReader(file, deframer, on_error="resync", allow_empty=False) as reader:
        for batch in reader.batches(max_bytes=BATCH_BYTES):
            places.append((batch.stream_offset, frames))
            frames += len(batch)
        ranges = list(reader.lost_ranges)
        end = reader.offset
    before = [next((count for start, count in places if start >= found[1]), frames) for found in ranges]
    return Content(max(size, end), frames, lost_ranges=ranges, frames_before=before, reason=reason, head=head)


def examine(
    folder: Folder, deframer: Deframer, *, everything: bool, watch: Callable[[str], Watch] | None = None
) -> Iterator[Examined]:
    """What is in each segment. One that is removed meanwhile is left out; one that cannot be read is said to be so.

    Parameters
    ----------
    folder : Folder
    deframer : Deframer
        From `deframer_of`.
    everything : bool
        Whether to read segments that `journal.json` knows, too.
    watch : callable, optional
        Gets the name of a segment that is read, and returns what is called with its open file and size.
    """
    sealed = folder.manifest.sealed if folder.manifest is not None else {}
    begun = folder.manifest.begun if folder.manifest is not None else {}
    compressed = folder.manifest.compressed if folder.manifest is not None else {}
    for at, listed in enumerate(folder.segments):
        segment = listed
        name = segment.name
        is_last = at + 1 == len(folder.segments)
        successor = None if is_last else folder.segments[at + 1].first
        known = sealed.get(name)
        try:
            segment, status = stat_segment(segment)
            stored = known.bytes if known is not None and not segment.is_compressed else compressed.get(name)
            trusted = known is not None and stored == status.st_size
            content = None
            if everything or not trusted:
                content = read_content(segment, deframer, watch(name) if watch is not None else None)
            tails = [(path, os.stat(path).st_size) for path in tails_of_segment(segment)]
        except FileNotFoundError:
            # Retention.
            continue
        except OSError as error:
            reason = error.strerror or str(error)
            yield Examined(
                segment, "unreadable", 0, 0, successor or segment.first, successor, None, None, None, [], reason, []
            )
            continue
        judged = _judge(
            segment,
            successor,
            known,
            begun.get(name),
            content,
            status,
            is_last,
            folder.writer is not None,
            header_size_of(deframer) or 4,
            tails,
        )
        yield judged._replace(stored=status.st_size) if segment.is_compressed else judged


def _judge(
    segment: Segment,
    successor: int | None,
    known: Sealed | None,
    began: float | None,
    content: Content | None,
    status: os.stat_result,
    is_last: bool,
    is_written: bool,
    header_size: int,
    tails: list[tuple[str, int]],
) -> Examined:
    began, ended = (began, status.st_mtime) if known is None else (known.began, known.ended)
    expected = known.next if successor is None and known is not None else successor
    if content is None:
        assert known is not None
        state: State = "damaged" if known.damaged else "sealed"
        reason = "some of its bytes are no frames" if known.damaged else None
        gap = 0 if known.damaged or expected is None else max(0, expected - segment.first - known.frames)
        return Examined(
            segment, state, known.frames, known.bytes, known.next, expected, began, ended, None, [], reason, tails, gap
        )
    damage, end = number_damage(segment.first, expected, content, header_size)
    reason, gap = content.reason, 0
    if known is None:
        # A segment that ended is sealed a little later.
        is_whole = is_written
    else:
        is_whole = not known.damaged and (content.size, content.frames) == (known.bytes, known.frames)
        if content.size != known.bytes:
            reason = f"it has {content.size} bytes, and had {known.bytes} when it was sealed"
            reason += f"; {content.reason}" if content.reason else ""
            damage = damage or [Damage(content.size, content.size, segment.first + content.frames, end)]
    if is_whole and not content.lost_ranges and content.torn is None and content.reason is None:
        gap, damage = end - segment.first - content.frames, []
    if content.reason is not None and not damage:
        # Nothing stands for what cannot be decompressed without a table.
        damage = [Damage(content.size, content.size, end, end)]
    if damage:
        state = "damaged"
        reason = reason or "frames are missing at its end"
    elif is_written and is_last and known is None:
        state = "growing"
    elif content.torn is not None:
        state = "torn"
    else:
        state = "not sealed" if known is None else "sealed"
    return Examined(
        segment, state, content.frames, content.size, end, expected, began, ended, content, damage, reason, tails, gap
    )


def number_damage(first: int, expected: int | None, content: Content, header_size: int) -> tuple[list[Damage], int]:
    """The numbers of the frames that lost ranges stand for, and the number of the frame behind the segment.

    Parameters
    ----------
    first : int
        The number of the segment's first frame.
    expected : int, optional
        The number of the frame behind the segment; None if it is not known.
    content : Content
    header_size : int
    """
    ranges = content.lost_ranges
    behind: list[Damage] = []
    if expected is None:
        shares = [possible_frames([one], header_size, content.head) for one in ranges]
        expected = first + content.frames + sum(shares)
    else:
        missing = max(0, expected - first - content.frames)
        shares = distribute(missing, ranges, content.head)
        if missing and not any(shares):
            # At the end, where nothing is left of them, or a torn tail.
            at = content.size if content.torn is None else content.torn
            behind = [Damage(at, content.size, first + content.frames, expected)]
    damage = []
    number = first
    before = 0
    for (begin, end), count, share in zip(ranges, content.frames_before, shares, strict=True):
        number += count - before
        before = count
        damage.append(Damage(begin, end, number, number + share))
        number += share
    return damage + behind, max(expected, first + content.frames)

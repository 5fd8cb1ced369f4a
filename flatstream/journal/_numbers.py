"""How many frame numbers the lost bytes of a segment stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flatstream._core.framing.deframer import NonEmptyDeframer
from flatstream.description.description import may_describe
from flatstream.framing import (
    BoundedDeframer,
    Deframer,
    ObserverDeframer,
    ValidatingDeframer,
)
from flatstream.journal._segment_files import SegmentFile, read_at, size_of

__all__ = [
    "FIRST_BYTES",
    "MARKED_BYTES",
    "FirstFrame",
    "distribute",
    "find_first_frame",
    "head_size",
    "numbers_of_ranges",
    "plain_deframer",
    "possible_frames",
]

# The first bytes of a payload that say whether it is a description: the offset of the root, and the file identifier.
MARKED_BYTES = 8
# With the longest header.
FIRST_BYTES = 12 + MARKED_BYTES


def possible_frames(ranges: Iterable[tuple[int, int]], header_size: int, head: int = 0) -> int:
    """How many frames these ranges of bytes can have held, each at least one. No frame is empty, so this is more than
    there were.

    Parameters
    ----------
    ranges : iterable of (int, int)
        The first byte of each, and the byte behind its last one.
    header_size : int
        The size of a frame's header in bytes, its checksum included.
    head : int
        How many bytes at the beginning are the description's: they stand for no frame.
    """
    return sum(_possible(start, end, header_size) for start, end in _behind_head(ranges, head))


def _possible(start: int, end: int, header_size: int) -> int:
    return max(1, (end - start) // header_size) if end > start else 0


def _behind_head(ranges: Iterable[tuple[int, int]], head: int) -> list[tuple[int, int]]:
    return [(max(start, head), max(end, head)) for start, end in ranges]


def distribute(missing: int, ranges: Sequence[tuple[int, int]], head: int = 0) -> list[int]:
    """How many of the `missing` frames lay in each of the ranges, in proportion to their bytes behind the first `head`.

    The shares are rounded down so that the sums up to each range are; the last range gets the rest. If they have no
    bytes there, each share is 0.
    """
    ranges = _behind_head(ranges, head)
    total = sum(end - start for start, end in ranges)
    shares = []
    given = seen = 0
    for start, end in ranges:
        seen += end - start
        upto = missing * seen // total if total else 0
        shares.append(upto - given)
        given = upto
    return shares


def numbers_of_ranges(
    ranges: Sequence[tuple[int, int]], missing: int | None, header_size: int, head: int = 0
) -> list[int]:
    """How many numbers each of the ranges stands for.

    Parameters
    ----------
    ranges : sequence of (int, int)
        The lost ranges of a segment.
    missing : int or None
        How many frames of the segment are missing; None if that is not known. Frames that cannot have been in the
        ranges are missing behind the last one.
    header_size, head : int
        See `possible_frames`.
    """
    each = [_possible(start, end, header_size) for start, end in _behind_head(ranges, head)]
    if missing is None or missing >= sum(each):
        return each
    return distribute(max(0, missing), ranges, head)


def plain_deframer(deframer: Deframer) -> Deframer:
    """`deframer` without observers and validators: it finds all frames, and calls nobody."""
    if type(deframer) in (NonEmptyDeframer, ObserverDeframer, ValidatingDeframer):
        return plain_deframer(deframer.inner)  # type: ignore[attr-defined]
    if type(deframer) is BoundedDeframer:
        return BoundedDeframer(plain_deframer(deframer.inner), deframer.max_len)
    return deframer


class FirstFrame(NamedTuple):
    """The frame with which a segment begins: its size in bytes, its header included, and whether the segment has all of
    it. Its checksum is not compared.
    """

    size: int
    is_whole: bool
    is_description: bool


def find_first_frame(file: SegmentFile, deframer: Deframer) -> FirstFrame | None:
    """The first frame of a segment; None if not enough of it is there, or no frame begins there."""
    # A description is framed without what bounds, observes and validates messages.
    while type(deframer) in (NonEmptyDeframer, ObserverDeframer, ValidatingDeframer, BoundedDeframer):
        deframer = deframer.inner  # type: ignore[attr-defined]
    wanted, data = FIRST_BYTES, b""
    while True:
        before, data = len(data), _read_beginning(file, wanted)
        if len(data) == before:
            return None
        try:
            span = deframer.locate(memoryview(data))
        except Exception:
            # It is damaged. Or the deframer is one of the application, which fails again when it reads.
            return None
        if isinstance(span, int):
            if span <= len(data):
                return None
            wanted = span
            continue
        start, end, size = span
        wanted = min(size, start + MARKED_BYTES)
        if len(data) >= wanted:
            is_whole = size <= size_of(file)
            return FirstFrame(size, is_whole, may_describe(data[start:wanted], end - start))


def head_size(file: SegmentFile, deframer: Deframer) -> int:
    """How many bytes the frame of the description has with which a segment begins; 0 if there is none."""
    found = find_first_frame(file, deframer)
    return found.size if found is not None and found.is_whole and found.is_description else 0


def _read_beginning(file: SegmentFile, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: read_at(file, 0, memoryview(buffer))])

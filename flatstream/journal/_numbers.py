"""How many frame numbers the lost bytes of a segment stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flatstream._core.framing.deframer import NonEmptyDeframer
from flatstream.framing import (
    BoundedDeframer,
    Deframer,
    ObserverDeframer,
    ValidatingDeframer,
)

__all__ = ["distribute", "numbers_of_ranges", "plain_deframer", "possible_frames"]


def possible_frames(ranges: Iterable[tuple[int, int]], header_size: int) -> int:
    """How many frames these ranges of bytes can have held, each at least one. No frame is empty, so this is more than
    there were.

    Parameters
    ----------
    ranges : iterable of (int, int)
        The first byte of each, and the byte behind its last one.
    header_size : int
        The size of a frame's header in bytes, its checksum included.
    """
    return sum(_possible(start, end, header_size) for start, end in ranges)


def _possible(start: int, end: int, header_size: int) -> int:
    return max(1, (end - start) // header_size)


def distribute(missing: int, ranges: Sequence[tuple[int, int]]) -> list[int]:
    """How many of the `missing` frames lay in each of the ranges, in proportion to their bytes.

    The shares are rounded down so that the sums up to each range are; the last range gets the rest.
    """
    total = sum(end - start for start, end in ranges)
    shares = []
    given = seen = 0
    for start, end in ranges:
        seen += end - start
        upto = missing * seen // total if total else missing
        shares.append(upto - given)
        given = upto
    return shares


def numbers_of_ranges(ranges: Sequence[tuple[int, int]], missing: int | None, header_size: int) -> list[int]:
    """How many numbers each of the ranges stands for.

    Parameters
    ----------
    ranges : sequence of (int, int)
        The lost ranges of a segment.
    missing : int or None
        How many frames of the segment are missing; None if that is not known. Frames that cannot have been in the
        ranges are missing behind the last one.
    header_size : int
        See `possible_frames`.
    """
    each = [_possible(start, end, header_size) for start, end in ranges]
    if missing is None or missing >= sum(each):
        return each
    return distribute(max(0, missing), ranges)


def plain_deframer(deframer: Deframer) -> Deframer:
    """`deframer` without observers and validators: it finds all frames, and calls nobody."""
    if type(deframer) in (NonEmptyDeframer, ObserverDeframer, ValidatingDeframer):
        return plain_deframer(deframer.inner)  # type: ignore[attr-defined]
    if type(deframer) is BoundedDeframer:
        return BoundedDeframer(plain_deframer(deframer.inner), deframer.max_len)
    return deframer

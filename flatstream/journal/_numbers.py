"""The numbers of frames in a segment with damage: how many frames the lost bytes stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["distribute", "possible_frames"]


def possible_frames(ranges: Iterable[tuple[int, int]], header_size: int) -> int:
    """The most frames that lost bytes can have held: at least one for each range.

    Parameters
    ----------
    ranges : iterable of (begin, end)
        Offsets in bytes.
    header_size : int
        The size of a frame's header, in bytes. No frame is shorter.
    """
    return sum(max(1, (end - begin) // header_size) for begin, end in ranges)


def distribute(missing: int, ranges: Sequence[tuple[int, int]]) -> list[int]:
    """How many of `missing` frames each range of lost bytes stands for: in proportion to its bytes.

    The same ranges always give the same numbers, and their sum is `missing`.
    """
    total = sum(end - begin for begin, end in ranges)
    numbers, bytes_before, before = [], 0, 0
    for begin, end in ranges:
        bytes_before += end - begin
        behind = missing * bytes_before // total
        numbers.append(behind - before)
        before = behind
    return numbers

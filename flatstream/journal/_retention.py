"""Which segments of a journal are removed, and removing them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from flatstream.journal._layout import Segment, files_of_segment, list_cursors, list_segments
from flatstream.journal._segment_files import stat_segment
from flatstream.journal.policies import RetentionPolicy

__all__ = ["SegmentSize", "first_needed", "list_sizes", "remove_segment", "surplus"]


class SegmentSize(NamedTuple):
    """A segment, how many bytes of the disk it takes, and when it was last written, in seconds since 1970."""

    segment: Segment
    bytes: int
    ended: float


def list_sizes(directory: str) -> list[SegmentSize]:
    """The segments in a folder with their sizes, in the order of their frames."""
    found = []
    for segment in list_segments(directory):
        # It may have been removed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            there, status = stat_segment(segment)
            found.append(SegmentSize(there, status.st_size, status.st_mtime))
    return found


def first_needed(directory: str, journal: str) -> int | None:
    """The number of the first frame that a registered reader of this journal still needs; None if there is none. A
    reader whose cursor cannot be read may need all.
    """
    unreadable: list[str] = []
    cursors = list_cursors(directory, unreadable)
    if unreadable:
        return 0
    return min((one.number for one in cursors.values() if one.journal == journal), default=None)


def surplus(
    sizes: Sequence[SegmentSize], policy: RetentionPolicy, needed: int | None, now: float | None = None
) -> list[Segment]:
    """The segments to remove, oldest first. The last one, which is in use, is never among them.

    Parameters
    ----------
    sizes : sequence of SegmentSize
        All segments, in the order of their frames.
    policy : RetentionPolicy
        The limits.
    needed : int or None
        The first frame that a reader needs.
    now : float, optional
        The time, in seconds since 1970.
    """
    now = time.time() if now is None else now
    total = sum(one.bytes for one in sizes)
    removed: list[Segment] = []
    for i in range(len(sizes) - 1):
        one = sizes[i]
        # A segment has the frames up to the first one of the next segment.
        is_needed = needed is not None and needed < sizes[i + 1].segment.first
        if is_needed and not (policy.max_reader_bytes is not None and total > policy.max_reader_bytes):
            break
        if not (
            (policy.max_segments is not None and len(sizes) - i > policy.max_segments)
            or (policy.max_bytes is not None and total > policy.max_bytes)
            # A clock that was set back makes a segment younger than it is: it is kept for longer.
            or (policy.max_seconds is not None and now - one.ended > policy.max_seconds)
            or is_needed
        ):
            break
        removed.append(one.segment)
        total -= one.bytes
    return removed


def remove_segment(segment: Segment, tails: list[str]) -> None:
    """Removes the files of a segment, itself last. What does not exist is left out. `tails` are those of all segments
    (`list_tails`). That is on the disk only when the folder is synced.
    """
    for path in files_of_segment(segment, tails):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

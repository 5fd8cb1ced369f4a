"""Metrics and health of a JournalWriter: a snapshot, which costs nothing until it is taken."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import NamedTuple

__all__ = ["Histogram", "JournalMetrics", "health_of"]

# Upper bounds of the latencies of syncs, in seconds: from a fast disk to a hanging one.
LATENCY_BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

# A disk with less is said to be nearly full: the smaller of a part of its size and a number of bytes.
LOW_DISK_PART = 0.05
LOW_DISK_BYTES = 1 << 30

# How long ago the last sync may be, in intervals of the policy, but at least so many seconds.
LATE_SYNC_INTERVALS = 10
LATE_SYNC_SECONDS = 5.0


class Histogram(NamedTuple):
    """How many values lie between bounds.

    Attributes
    ----------
    bounds : tuple of float
        The upper bounds, increasing. A value that equals a bound counts below it.
    counts : tuple of int
        For each bound, the number of values up to it and above the one before; and last, of those above all bounds.
    sum : float
        The sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class LatencyRecorder:
    """Counts latencies, for a `Histogram`."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Counts one."""
        self._counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self._sum += seconds

    def histogram(self) -> Histogram:
        """What was counted so far."""
        return Histogram(LATENCY_BOUNDS, tuple(self._counts), self._sum)


class JournalMetrics(NamedTuple):
    """A snapshot of a JournalWriter, which `JournalWriter.metrics` takes. All counts are since it was opened.

    Attributes
    ----------
    frames, bytes : int
        How many frames were accepted, and their size in bytes, headers included. Those that were dropped are counted.
    position, durable_position : int
        The number of the next frame; and the number up to which all frames are on the disk, but those dropped.
    pending_bytes : int
        How many bytes are in the buffer.
    dropped_frames, drop_episodes : int
        How many frames were dropped because the disk was full, and how often that began.
    syncs : int
        How often the disk was waited for.
    sync_seconds : Histogram
        How long that took, in seconds.
    last_sync : float or None
        When the last successful one ended, in seconds since 1970.
    rotations : int
        How many segments were begun after the first one.
    rotation_seconds_max : float
        The longest time that a write waited for a new segment, in seconds.
    segments, journal_bytes : int
        How many segments the folder has, and their size in bytes.
    removed_segments : int
        How many were removed.
    cut_backs : int
        How often the end of the file was cut back to the last whole frame.
    errors : dict
        How many errors the system reported, by their name ("ENOSPC").
    disk_free, disk_size : int
        The bytes that the file system has free for this process, and its size; -1 if that is not known.
    poisoned : bool
        Whether a sync failed, so that nothing more is written.
    """

    frames: int
    bytes: int
    position: int
    durable_position: int
    pending_bytes: int
    dropped_frames: int
    drop_episodes: int
    syncs: int
    sync_seconds: Histogram
    last_sync: float | None
    rotations: int
    rotation_seconds_max: float
    segments: int
    journal_bytes: int
    removed_segments: int
    cut_backs: int
    errors: dict[str, int]
    disk_free: int
    disk_size: int
    poisoned: bool


def health_of(metrics: JournalMetrics, problems: list[str], sync_seconds: float | None, opened: float) -> list[str]:
    """What is wrong, in sentences.

    Parameters
    ----------
    metrics : JournalMetrics
        The snapshot.
    problems : list of str
        What the writer knows to be wrong at the moment.
    sync_seconds : float or None
        The interval of the sync policy.
    opened : float
        When the journal was opened, in seconds since 1970.
    """
    found = list(problems)
    free, size = metrics.disk_free, metrics.disk_size
    if 0 <= free < min(LOW_DISK_BYTES, LOW_DISK_PART * size):
        found.append(f"the disk is nearly full: {free} of {size} bytes are free")
    if sync_seconds is not None and metrics.durable_position < metrics.position and not metrics.poisoned:
        late = time.time() - (metrics.last_sync or opened)
        if late > max(LATE_SYNC_SECONDS, LATE_SYNC_INTERVALS * sync_seconds):
            found.append(
                f"the last sync was {late:.0f} s ago, and {metrics.position - metrics.durable_position} frames are not "
                f"synced: the policy is every {sync_seconds:g} s"
            )
    return found

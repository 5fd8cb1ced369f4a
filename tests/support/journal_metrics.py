"""Metrics of a journal that are made up, and what gives them as a JournalWriter does."""

from __future__ import annotations

from flatstream.journal import Histogram, JournalMetrics

METRICS = JournalMetrics(
    frames=10,
    bytes=1000,
    position=110,
    durable_position=100,
    pending_bytes=5,
    dropped_frames=3,
    drop_episodes=2,
    syncs=6,
    sync_seconds=Histogram((0.001, 0.25, 10.0), (1, 2, 0, 3), 1.5),
    last_sync=1_700_000_000.5,
    rotations=4,
    rotation_seconds_max=0.01,
    segments=7,
    journal_bytes=5000,
    removed_segments=8,
    cut_backs=9,
    errors={"ENOSPC": 11, "EIO": 1},
    disk_free=12_000_000_000,
    disk_size=24_000_000_000,
    poisoned=False,
)


class MadeUp:
    """Has the two methods of a JournalWriter that exporters call, and counts the calls."""

    def __init__(self, metrics: JournalMetrics = METRICS, health: list[str] | None = None) -> None:
        self.current = metrics
        self.sick = health or []
        self.calls = 0

    def metrics(self) -> JournalMetrics:
        self.calls += 1
        return self.current

    def health(self) -> list[str]:
        return self.sick


class Failing(MadeUp):
    """A writer whose metrics cannot be read."""

    def metrics(self) -> JournalMetrics:
        raise OSError("the disk is gone")


class MadeUpQueue:
    """Has what exporters read of a ThreadedWriter."""

    queued = 13
    dropped = 14
    refused = 15
    lost = 16

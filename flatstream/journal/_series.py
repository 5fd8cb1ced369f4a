"""What is exported of a journal's metrics: the names, units and meanings that all exporters share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, Protocol

from flatstream._core.base.pickling import fail_to_pickle

if TYPE_CHECKING:
    from flatstream.journal.metrics import JournalMetrics

__all__ = ["ERRORS", "SERIES", "SYNC_SECONDS", "Exporter", "Journal", "Measured", "Queue", "Series", "Snapshot"]


class Measured(Protocol):
    """What is measured: a JournalWriter."""

    def metrics(self) -> JournalMetrics:
        """The numbers of now."""

    def health(self) -> list[str]:
        """What is wrong, in words."""


class Queue(Protocol):
    """A queue before a writer: a ThreadedWriter."""

    @property
    def queued(self) -> int:
        """How many payloads wait."""

    @property
    def dropped(self) -> int:
        """How many payloads were dropped because the queue was full."""

    @property
    def refused(self) -> int:
        """How many payloads the framer refused."""

    @property
    def lost(self) -> int:
        """How many payloads were queued when the writer began to refuse."""


class Journal(NamedTuple):
    """A journal that is exported."""

    writer: Measured
    queue: Queue | None


class Snapshot(NamedTuple):
    """All numbers of one journal at one time. `metrics` is None if the writer could not give them."""

    metrics: JournalMetrics | None
    problems: int
    queued: int | None = None
    dropped: int | None = None
    refused: int | None = None
    lost: int | None = None


class Series(NamedTuple):
    """One number of each journal.

    Attributes
    ----------
    name : str
        In words that are joined by "_", without the name of the package and the unit.
    kind : {"counter", "gauge"}
        A counter counts from when the writer was made.
    unit : {"bytes", "seconds", ""}
        "" for what is counted in `things`.
    things : str
        What is counted, in the singular; "" with a unit.
    text : str
        The meaning.
    read : callable
        The number in a snapshot; None if there is none.
    """

    name: str
    kind: Literal["counter", "gauge"]
    unit: Literal["bytes", "seconds", ""]
    things: str
    text: str
    read: Callable[[Snapshot], float | None]


def _of(name: str) -> Callable[[Snapshot], float | None]:
    def read(snapshot: Snapshot) -> float | None:
        value: float | None = None if snapshot.metrics is None else getattr(snapshot.metrics, name)
        return value

    return read


def _known(name: str) -> Callable[[Snapshot], float | None]:
    """A number that is -1 if it is not known."""

    def read(snapshot: Snapshot) -> float | None:
        value = _of(name)(snapshot)
        return value if value is not None and value >= 0 else None

    return read


def _problems(snapshot: Snapshot) -> int | None:
    return None if snapshot.metrics is None else snapshot.problems


# Not in the table: the errors, which have a kind, and the histogram.
ERRORS = ("errors", "Errors, by kind.")
SYNC_SECONDS = ("sync", "How long the disk took to sync.")

SERIES = [
    Series(
        "up", "gauge", "", "", "1 if the metrics could be read, 0 if not.", lambda shot: int(shot.metrics is not None)
    ),
    Series("frames", "counter", "", "frame", "Frames accepted.", _of("frames")),
    Series("written", "counter", "bytes", "", "Bytes of the frames accepted.", _of("bytes")),
    Series("position", "gauge", "", "frame", "The number of the next frame.", _of("position")),
    Series(
        "durable_position",
        "gauge",
        "",
        "frame",
        "All frames with smaller numbers are on the disk, but those that were dropped.",
        _of("durable_position"),
    ),
    Series("pending", "gauge", "bytes", "", "Bytes in the writer's buffer.", _of("pending_bytes")),
    Series(
        "dropped_frames", "counter", "", "frame", "Frames dropped because the disk was full.", _of("dropped_frames")
    ),
    Series("drop_episodes", "counter", "", "episode", "How often frames began to be dropped.", _of("drop_episodes")),
    Series(
        "last_sync_timestamp", "gauge", "seconds", "", "When the last sync succeeded, since 1970.", _of("last_sync")
    ),
    Series("rotations", "counter", "", "rotation", "Segments begun behind another one.", _of("rotations")),
    Series("rotation_max", "gauge", "seconds", "", "The longest rotation.", _of("rotation_seconds_max")),
    Series("segments", "gauge", "", "segment", "Segments of the journal.", _of("segments")),
    Series("size", "gauge", "bytes", "", "The size of all segments.", _of("journal_bytes")),
    Series("removed_segments", "counter", "", "segment", "Segments removed by retention.", _of("removed_segments")),
    Series("cut_backs", "counter", "", "cut", "How often half a frame was cut off after an error.", _of("cut_backs")),
    Series("disk_free", "gauge", "bytes", "", "Bytes of the file system that are free.", _known("disk_free")),
    Series("disk_size", "gauge", "bytes", "", "The size of the file system.", _known("disk_size")),
    Series("poisoned", "gauge", "", "", "1 if the writer refuses all writes after a failed sync.", _of("poisoned")),
    Series("problems", "gauge", "", "problem", "How many things are wrong; health() tells them.", _problems),
    Series("queued", "gauge", "", "payload", "Payloads in the queue before the writer.", lambda shot: shot.queued),
    Series(
        "queue_dropped",
        "counter",
        "",
        "payload",
        "Payloads dropped because the queue was full.",
        lambda shot: shot.dropped,
    ),
    Series(
        "queue_refused", "counter", "", "payload", "Payloads of the queue that were refused.", lambda shot: shot.refused
    ),
    Series(
        "queue_lost",
        "counter",
        "",
        "payload",
        "Payloads in the queue when the writer began to refuse.",
        lambda shot: shot.lost,
    ),
]


class Exporter:
    """The journals of an exporter, by name. Threads may add and remove journals while others read them."""

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __init__(self, journals: Mapping[str, Measured] | None = None) -> None:
        self._journals: dict[str, Journal] = {}
        for name, writer in (journals or {}).items():
            self.add(name, writer)

    def add(self, name: str, writer: Measured, *, queue: Queue | None = None) -> None:
        """Exports a journal from now on, in place of the one with the same name if there is one.

        Parameters
        ----------
        name : str
            The value of the label ``journal``.
        writer : JournalWriter
            Kept until it is replaced or removed.
        queue : ThreadedWriter, optional
            The queue before the writer: its depth and drops are exported too.

        Raises
        ------
        TypeError
            `name` is no str, or `writer` has no metrics.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a journal must be a str, got {name!r:.100}")
        if not callable(getattr(writer, "metrics", None)):
            raise TypeError(f"writer must be a JournalWriter, got {type(writer).__name__}, which has no metrics()")
        self._journals[name] = Journal(writer, queue)

    def remove(self, name: str) -> None:
        """Exports a journal no longer. Does nothing if there is none of this name."""
        self._journals.pop(name, None)

    def _snapshots(self) -> dict[str, Snapshot]:
        """The numbers of all journals. One that fails does not hide the others."""
        return {name: _snapshot(journal) for name, journal in self._journals.copy().items()}


def _snapshot(journal: Journal) -> Snapshot:
    metrics: Any = None
    problems = 0
    try:
        problems = len(journal.writer.health())
        metrics = journal.writer.metrics()
    except Exception:
        # "up" says so.
        pass
    queue = journal.queue
    if queue is None:
        return Snapshot(metrics, problems)
    return Snapshot(metrics, problems, queue.queued, queue.dropped, queue.refused, queue.lost)

"""Writing the indexes of a journal's segments (docs/index.md), by the keeper's thread.

Frames are read back from the file some time after they were handed to the system, which has them in memory still. So
writing frames costs nothing more, no acknowledgement waits for longer than a step takes, and what goes wrong here
concerns indexes alone: a segment without one, or with one that ends early, is read where others are looked up.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flatstream.checksums import Checksum
from flatstream.description import Description
from flatstream.errors import FlatStreamError
from flatstream.journal._layout import INDEX

if TYPE_CHECKING:
    from flatstream.index import FileIndexer, IndexReport

__all__ = ["LOOK_EVERY", "Indexer"]

# How many bytes of a segment in use are indexed at a time, when so many have been added.
LOOK_EVERY = 4 << 20

# How many bytes are read in a step, between which the keeper does what is more urgent: that takes half a millisecond.
STEP = 1 << 20

# What an index meets that cannot be written. In the main thread any other exception may come from a signal handler, and
# concerns whoever it is meant for.
EXPECTED = (OSError, EOFError, ImportError, LookupError, MemoryError, TypeError, ValueError, FlatStreamError)

# How many bytes `finish` reads at most, in some 50 ms. What is left is indexed by the next writer. To open an index is
# counted as so many bytes.
MOST_AT_CLOSE = 64 << 20
OPENING = 1 << 20


class _Job:
    """A segment that is to be indexed.

    Attributes
    ----------
    end : int
        Where its whole frames end, as far as is known.
    is_ended : bool
        Whether it is no longer written.
    seen : int
        Up to where it was indexed, but for frames that make no whole block.
    """

    def __init__(self, table: str | None) -> None:
        # One of several, by its file identifier.
        self.table = table
        self.end = 0
        self.is_ended = False
        self.seen = 0
        self.builder: FileIndexer | None = None

    @property
    def has_work(self) -> bool:
        return self.is_ended or self.end - self.seen >= LOOK_EVERY


class Indexer:
    """Writes the indexes of the segments of one writer. One thread at a time works; others leave it to that.

    Parameters
    ----------
    fields : sequence of str, optional
        The fields to index; by default that of the time, in segments whose description names it. Of several tables,
        the first one that has it.
    checksum : Checksum
        That of the frames.
    tell : callable
        Gets a level, a text and arguments for the log.

    Attributes
    ----------
    lock : Lock
        Held during each step. Who removes a segment holds it too.
    problem : str or None
        Why the last index could not be written, in words.
    report : IndexReport or None
        What the index has that was written last.
    """

    def __init__(self, fields: Sequence[str] | None, checksum: Checksum, tell: Callable[..., None]) -> None:
        self._fields = None if fields is None else list(fields)
        self._checksum = checksum
        self._tell = tell
        self.lock = threading.Lock()
        self.problem: str | None = None
        self.report: IndexReport | None = None
        # By the path of the plain segment, oldest first. None: it gets no index.
        self._jobs: dict[str, _Job | None] = {}

    def _job_for(self, description: Description | None) -> _Job | None:
        """A job for a segment that begins with this description; None if it gets no index."""
        roots = () if description is None else description.roots
        chosen = [root for root in roots if self._fields is not None or root.time_field is not None]
        if not chosen:
            return None
        return _Job(chosen[0].file_identifier if len(roots) > 1 else None)

    def leaves_out(self, path: str) -> bool:
        """Whether a segment was noted, and gets no index."""
        return path in self._jobs and self._jobs[path] is None

    def note(self, path: str, end: int, *, is_ended: bool, description: Callable[[], Description | None]) -> None:
        """Notes that a segment has whole frames up to an offset, and whether it is no longer written.

        Parameters
        ----------
        path : str
            Of the plain segment.
        end : int
            The offset.
        is_ended : bool
            Whether it is no longer written.
        description : callable
            Returns the description with which it begins, when it is noted for the first time.
        """
        if path not in self._jobs:
            self._jobs[path] = self._job_for(description())
        job = self._jobs[path]
        if job is not None:
            job.end = end
            job.is_ended = is_ended
        elif is_ended:
            del self._jobs[path]

    def open(self, path: str) -> None:
        """Opens the index of the segment in use, if it has one, before more is written to that: what it says of frames
        that a crash has taken back is cut off.
        """
        job = self._jobs.get(path)
        if job is None or not os.path.lexists(path + INDEX):
            return
        with self.lock:
            try:
                self._open(path, job)
            except _errors() as error:
                # Readers compare an index with its segment, so that one that cannot be cut is left aside.
                self._fail(path, error)

    @property
    def has_work(self) -> bool:
        """Whether `work` has something to do."""
        return any(job is not None and job.has_work for job in list(self._jobs.values()))

    def work(self) -> None:
        """Does one step, which takes less than a millisecond."""
        if self.lock.acquire(blocking=False):
            try:
                self._step(STEP)
            finally:
                self.lock.release()

    def finish(self) -> None:
        """Indexes what is left, but not more than takes some 100 ms, and closes all indexes. Nothing is written to the
        segments any more.
        """
        with self.lock:
            for job in list(self._jobs.values()):
                if job is not None:
                    job.is_ended = True
            left = MOST_AT_CLOSE
            while left > 0 and self._jobs:
                left -= max(self._step(left), OPENING)
            self._stop()

    def stop(self) -> None:
        """Closes all indexes as they are."""
        with self.lock:
            self._stop()

    def forget(self, path: str) -> None:
        """Leaves a segment that was removed. With the lock."""
        self._close(self._jobs.pop(path, None))

    def _stop(self) -> None:
        for path in list(self._jobs):
            self.forget(path)

    def _step(self, size: int) -> int:
        """Indexes about `size` bytes of the oldest segment that has so many. Returns how many."""
        found = next(((path, job) for path, job in list(self._jobs.items()) if job is not None and job.has_work), None)
        if found is None:
            return size
        path, job = found
        try:
            builder = job.builder
            if builder is None:
                if not os.path.exists(path):
                    # Removed, or compressed: then its index can be made of that file when it is needed.
                    self.forget(path)
                    return 0
                builder = self._open(path, job)
            before = builder.position
            if builder.advance(job.end, size):
                return max(1, builder.position - before)
            job.seen = job.end
            if job.is_ended:
                builder.finish(job.end)
            self.report = builder.report()
            if job.is_ended:
                self.forget(path)
            self.problem = None
            return max(1, builder.position - before)
        except _errors() as error:
            self._fail(path, error)
            return 1

    def _open(self, path: str, job: _Job) -> FileIndexer:
        # Journals without an index need not wait for what it imports.
        from flatstream.index import FileIndexer

        job.builder = builder = FileIndexer(path, self._fields, table=job.table, checksum=self._checksum)
        return builder

    def _fail(self, path: str, error: Exception) -> None:
        """Leaves a segment whose index cannot be written. The journal is not concerned, and the next segment is tried
        again.
        """
        name = os.path.basename(path)
        if self.problem is None:
            self._tell(logging.WARNING, "the index of %s could not be written: %s", name, error)
        self.problem = f"the index of {name} could not be written, so that it is read in full: {error}"
        job = self._jobs.pop(path, None)
        if job is not None and not job.is_ended:
            # Not tried again. `note` forgets it when it has ended.
            self._jobs[path] = None
        self._close(job)

    @staticmethod
    def _close(job: Any) -> None:
        if job is not None and job.builder is not None:
            with contextlib.suppress(*EXPECTED):
                job.builder.close()


def _errors() -> tuple[type[Exception], ...]:
    """The errors that are those of an index, in this thread."""
    return EXPECTED if threading.current_thread() is threading.main_thread() else (Exception,)

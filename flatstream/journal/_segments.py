"""The sink of a JournalWriter: the segment in use, and those that wait to be sealed.

The writer's buffer hands its bytes to `SegmentSink.write`. Here it is decided whether they go into the segment in use
or into a new one, and what happens when the disk is full: where the buffer is handed over, so that a frame costs
nothing more than with a StreamWriter. A segment ends only at the end of a frame.

All methods but `snapshot`'s callers run while the writer is held, so no two of them run at once.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from flatstream._lock import open_for_writing
from flatstream.journal._layout import Segment, segment_path
from flatstream.journal._recovery import FULL
from flatstream.journal.metrics import LatencyRecorder
from flatstream.journal.policies import RotationPolicy

if TYPE_CHECKING:
    import io

    from flatstream.journal.writer import JournalWriter

__all__ = ["EndedSegment", "SegmentSink", "WhenFull"]

log = logging.getLogger("flatstream.journal")

WhenFull = Literal["raise", "drop_newest", "drop_oldest"]

# No limit on bytes or frames.
UNLIMITED = 2**62

# After a new segment could not be begun, the old one is used for so many seconds before it is tried again.
ROTATION_PAUSE = 1.0

# While frames are dropped, so many seconds lie between two attempts to write.
DROP_PAUSE = 0.05

# How many ranges of dropped frames are remembered for those who wait for them. Neighbouring ones are one range.
MAX_DROPPED_RANGES = 1000

# Errors of fdatasync on a file system that cannot sync at all.
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)

fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class EndedSegment(NamedTuple):
    """A segment that is no longer written, and not sealed yet. `next` is the number of the frame behind its last one.

    `began` and `ended` are in seconds since 1970.
    """

    file: io.FileIO
    segment: Segment
    next: int
    bytes: int
    began: float
    ended: float


class Snapshot(NamedTuple):
    """What is to be synced, so that all frames with a smaller number than `number` are on the disk: files, and so many
    names in the folder.
    """

    number: int
    files: list[io.FileIO]
    names: int


class SegmentSink:
    """Writes to the last segment of a journal.

    Parameters
    ----------
    directory : str
        The folder.
    file : io.FileIO
        The segment in use, from `open_for_writing`, which ends with a whole frame. `close` closes it.
    first : int
        The number of its first frame.
    number : int
        The number of the next frame.
    began : float
        When the segment was begun, in seconds since 1970.
    rotation : RotationPolicy
        When a new segment is begun.
    when_full : {"raise", "drop_newest", "drop_oldest"}
        What happens when the disk is full.
    sync_every : int
        The disk is waited for when so many frames are not synced; 0 for never.
    wake : callable
        Tells the keeper that there is an ended segment.
    """

    def __init__(
        self,
        directory: str,
        file: io.FileIO,
        first: int,
        number: int,
        began: float,
        *,
        rotation: RotationPolicy,
        when_full: WhenFull,
        sync_every: int,
        wake: Callable[[], None],
    ) -> None:
        self.directory = directory
        self.file = file
        self.first = first
        # The number of the frame behind the last one that the system has whole, or that was dropped.
        self.number = number
        # Open all the time, because names are lasting only when the folder is synced, and descriptors can be short.
        self._folder = _open_folder(directory)
        # The size of the file, and how many of its last bytes belong to a frame that is not whole.
        self.size = os.fstat(file.fileno()).st_size
        self.torn = 0
        # Whether a system call is in progress. An exception of a signal handler can end it between the call and the
        # lines that count what it took; what was not counted is cut off then.
        self._is_writing = False
        # The segment that is being replaced by a new one.
        self._ending: EndedSegment | None = None
        self._rotation = rotation
        self._when_full = when_full
        self._sync_every = sync_every
        self._wake = wake
        self._writer: weakref.ref[JournalWriter] | None = None
        self.began = began
        # The age is measured by the monotonic clock, so that setting the clock neither delays nor hastens a rotation.
        # The part before this process is a difference of the system's clock, which may have been set back.
        self._began_monotonic = time.monotonic() - max(0.0, time.time() - began)
        self._must_rotate = False
        self._rotate_not_before = 0.0
        # Frames were dropped, so the next frame needs a new segment, whose name has its number.
        self._has_gap = False
        self._write_not_before = 0.0
        self.dropped_ranges: deque[tuple[int, int]] = deque(maxlen=MAX_DROPPED_RANGES)
        self.ended: deque[EndedSegment] = deque()
        # How many names of new segments there were, and how many of them are on the disk.
        self._names = 1
        self._names_synced = 0
        # One sync at a time: the system reports an error to one of several, and the others would return as if all was
        # well. Whoever has it never waits for the writer. Files of ended segments are closed with it only. A signal
        # handler may sync in the middle of a sync of its thread.
        self.sync_lock = threading.RLock()
        self.durable = number
        self.is_poisoned = False
        self.closed = False
        # For metrics.
        self.errors: Counter[str] = Counter()
        self.dropped_frames = 0
        self.drop_episodes = 0
        self.rotations = 0
        self.longest_rotation = 0.0
        self.cut_backs = 0
        self.latencies = LatencyRecorder()
        self.syncs = 0
        self.last_sync: float | None = None
        # What is wrong at the moment, by its kind.
        self.problems: dict[str, str] = {}

    def attach(self, writer: JournalWriter) -> None:
        """Sets the writer that is asked where frames end."""
        self._writer = weakref.ref(writer)

    def fileno(self) -> int:
        """The descriptor of the segment in use."""
        return self.file.fileno()

    # Writing

    def write(self, view: memoryview) -> int:
        """Takes as many bytes as belong into one segment; returns how many. If it raises, it took none."""
        return self._take(os.write, view, len(view))

    def writev(self, pieces: Sequence[memoryview]) -> int:
        """Takes the header of a large frame and its payload; returns how many of their bytes. If it raises, none."""
        return self._take(os.writev, pieces, sum(map(len, pieces)))

    def _take(self, call: Callable[[int, Any], int], data: Any, offered: int) -> int:
        writer = self._writer() if self._writer is not None else None
        assert writer is not None
        self._settle()
        # Empty while a frame is handed over that is larger than the buffer.
        is_buffered = writer.pending_bytes > 0
        if not self.torn and self._has_gap and not self._begin_after_gap():
            return self._drop(writer, offered, is_buffered)
        size, frames = offered, 1
        if not self.torn:
            size, frames = self._fit(writer, offered, is_buffered)
        elif is_buffered:
            size, frames = writer._whole_frames(UNLIMITED, UNLIMITED)
        if size < offered:
            data = data[:size]
        self._is_writing = True
        while True:
            try:
                taken = call(self.file.fileno(), data)
                break
            except OSError as error:
                self._is_writing = False
                self._note_error(error, "writing")
                if self._makes_room(writer, error):
                    self._is_writing = True
                    continue
                if error.errno in FULL and self._when_full == "drop_newest":
                    return self._drop(writer, offered, is_buffered)
                raise
        torn, synced = 0, self.durable
        if taken < size:
            # The disk is nearly full, for example.
            whole, frames = writer._whole_frames(taken, UNLIMITED) if is_buffered else (0, 0)
            torn = taken - whole if frames else self.torn + taken
        else:
            if self._sync_every and self.number + frames - synced >= self._sync_every:
                synced = self._sync_now(self.number + frames)
            if self.problems:
                self.problems.pop("write", None)
        # No call behind this line, so that no signal handler can come between what is counted and the return.
        self.size += taken
        self.number += frames
        self.torn = torn
        self.durable = synced if synced > self.durable else self.durable
        self._is_writing = False
        return taken

    def _settle(self) -> None:
        """Completes what an exception of a signal handler ended. Bytes that a call wrote and that were not counted are
        cut off: the buffer offers them again, or has dropped them.
        """
        if (ended := self._ending) is not None:
            if ended.file is not self.file and not ended.file.closed and ended not in self.ended:
                self.ended.append(ended)
            self._ending = None
        if self._is_writing:
            fd = self.file.fileno()
            if os.fstat(fd).st_size > self.size:
                os.ftruncate(fd, self.size)
                self.cut_backs += 1
            self._is_writing = False

    def rollback(self, count: int) -> bool:
        """Removes the last `count` bytes, those of a frame that is not whole; False if that is not what they are."""
        fd = self.file.fileno()
        if count != self.torn or os.fstat(fd).st_size != self.size:
            return False
        self._cut_torn()
        return True

    def _cut_torn(self) -> None:
        os.ftruncate(self.file.fileno(), self.size - self.torn)
        self.size -= self.torn
        self.torn = 0
        self.cut_backs += 1

    # Segments

    def _fit(self, writer: JournalWriter, offered: int, is_buffered: bool) -> tuple[int, int]:
        """How many of the offered bytes, which begin with a frame, go into one segment, and how many frames they are.
        Begins a new segment if it is time for it.
        """
        now = time.monotonic()
        if now >= self._rotate_not_before:
            if not self._is_due(now):
                size, frames = self._room(writer, offered, is_buffered, self.size, self.number - self.first)
                if size:
                    return size, frames
            if self.number == self.first or self.begin_segment():
                size, frames = self._room(writer, offered, is_buffered, 0, 0)
                if size:
                    return size, frames
                # The first frame is larger than a segment.
                return writer._whole_frames(UNLIMITED, 1) if is_buffered else (offered, 1)
        return writer._whole_frames(UNLIMITED, UNLIMITED) if is_buffered else (offered, 1)

    def _room(
        self, writer: JournalWriter, offered: int, is_buffered: bool, used_bytes: int, used_frames: int
    ) -> tuple[int, int]:
        """How many bytes and frames of those offered a segment has room for that has so many already."""
        room = UNLIMITED if self._rotation.max_bytes is None else max(0, self._rotation.max_bytes - used_bytes)
        count = UNLIMITED if self._rotation.max_frames is None else max(0, self._rotation.max_frames - used_frames)
        if is_buffered:
            return writer._whole_frames(room, count)
        return (offered, 1) if offered <= room and count else (0, 0)

    def _is_due(self, now: float) -> bool:
        """Whether the segment in use has frames and is too old, or has to end for another reason."""
        if self.number == self.first:
            return False
        limit = self._rotation.max_seconds
        return self._must_rotate or (limit is not None and now - self._began_monotonic >= limit)

    def age(self) -> float:
        """How old the segment in use is, in seconds."""
        return time.monotonic() - self._began_monotonic

    def rotate_if_due(self) -> None:
        """Begins a new segment if the age of the one in use says so."""
        self._settle()
        now = time.monotonic()
        if not self.torn and now >= self._rotate_not_before and self._is_due(now):
            self.begin_segment()

    def rotate(self) -> None:
        """Begins a new segment if the one in use has frames.

        Raises
        ------
        OSError
            It cannot be made. The one in use stays in use.
        """
        self._settle()
        if self.number != self.first and not self.torn:
            self._begin_segment()

    def begin_segment(self) -> bool:
        """Begins a new segment; False if that is not possible now, and then the one in use stays in use."""
        try:
            self._begin_segment()
        except OSError as error:
            self._note_error(error, "beginning a segment")
            self._rotate_not_before = time.monotonic() + ROTATION_PAUSE
            self.problems["rotation"] = f"a new segment could not be begun, so the old one grows: {error}"
            return False
        return True

    def _begin_segment(self) -> None:
        started = time.perf_counter()
        path = segment_path(self.directory, self.number)
        try:
            file = open_for_writing(path, "xb")
        except FileExistsError:
            # Left by an attempt that a signal handler ended.
            file = open_for_writing(path, "ab")
            if os.fstat(file.fileno()).st_size:
                file.close()
                raise
        now, now_monotonic, ended = time.time(), time.monotonic(), self.in_use()
        # A signal handler can come behind each call. `_settle` completes what is begun here.
        self._ending = ended
        self._names += 1
        self.file, self.first, self.size, self.torn = file, self.number, 0, 0
        self.began, self._began_monotonic = now, now_monotonic
        self._must_rotate = False
        self._rotate_not_before = 0.0
        self.ended.append(ended)
        self._ending = None
        self.problems.pop("rotation", None)
        if self._has_gap:
            begin, end = self.dropped_ranges[-1]
            self._has_gap = False
            self.problems.pop("full", None)
            log.warning("%s: %d frames were dropped, from number %d on", self.directory, end - begin, begin)
        self.rotations += 1
        self.longest_rotation = max(self.longest_rotation, time.perf_counter() - started)
        log.info("%s: begins segment %d after %d frames", self.directory, self.first, ended.next - ended.segment.first)
        self._wake()

    # A full disk

    def _makes_room(self, writer: JournalWriter, error: OSError) -> bool:
        """Whether the write that failed with `error` should be tried again at once."""
        if error.errno == errno.EFBIG and self.number != self.first:
            # The size of a file is limited, for this process or by the file system.
            self._must_rotate = True
            return not self.torn and self.begin_segment()
        return error.errno in FULL and self._when_full == "drop_oldest" and writer._remove_oldest()

    def _drop(self, writer: JournalWriter, offered: int, is_buffered: bool) -> int:
        """Drops all frames that are offered, and returns how many bytes they have."""
        if self.torn:
            self._cut_torn()
        frames = writer._whole_frames(UNLIMITED, UNLIMITED)[1] if is_buffered else 1
        begin, end, is_first = self.number, self.number + frames, not self._has_gap
        # A signal handler can have ended an earlier call behind the append.
        if self.dropped_ranges and self.dropped_ranges[-1][1] >= begin and self.dropped_ranges[-1][0] <= begin:
            begin = self.dropped_ranges.pop()[0]
        self.dropped_ranges.append((begin, end))
        if is_first:
            log.warning("%s: the disk is full, so frames are dropped from number %d on", self.directory, begin)
        self.problems["full"] = f"the disk is full, so frames are dropped: {end - begin} since number {begin}"
        self._write_not_before = time.monotonic() + DROP_PAUSE
        # No call behind this line.
        self._has_gap = True
        self.drop_episodes += is_first
        self.dropped_frames += frames
        self.number = end
        return offered

    def _begin_after_gap(self) -> bool:
        """Begins the segment behind frames that were dropped; False if there is no room yet."""
        return time.monotonic() >= self._write_not_before and self.begin_segment()

    def _note_error(self, error: OSError, doing: str) -> None:
        self.errors[errno.errorcode.get(error.errno or 0, "unknown")] += 1
        if not (error.errno in FULL and self._when_full != "raise"):
            self.problems["write"] = f"{doing} failed: {error}"
            log.error("%s: %s failed: %s", self.directory, doing, error)

    # Syncing

    def snapshot(self) -> Snapshot:
        """What is to be synced now."""
        self._settle()
        return Snapshot(self.number, [*(one.file for one in list(self.ended)), self.file], self._names)

    def sync(self, snapshot: Snapshot) -> None:
        """Returns when the disk has what the snapshot names.

        Raises
        ------
        OSError
            It failed. What the system could not store may be lost, and no later sync would say so.
        """
        with self.sync_lock:
            self._wait_for_disk(snapshot)
            self.durable = max(self.durable, snapshot.number)

    def _sync_now(self, number: int) -> int:
        """Syncs in the middle of a write, up to the frame before `number`, and returns that."""
        snapshot = Snapshot(number, [*(one.file for one in list(self.ended)), self.file], self._names)
        try:
            with self.sync_lock:
                self._wait_for_disk(snapshot)
        except OSError as error:
            writer = self._writer() if self._writer is not None else None
            if writer is not None:
                writer._poison(error)
            raise
        self._wake()
        return number

    def _wait_for_disk(self, snapshot: Snapshot) -> None:
        started = time.perf_counter()
        for file in snapshot.files:
            # One that is closed meanwhile was synced before, or removed.
            if not file.closed:
                self.sync_descriptor(file.fileno())
        if self._names_synced < snapshot.names:
            if self._folder is not None:
                self.sync_descriptor(self._folder)
            self._names_synced = max(self._names_synced, snapshot.names)
        if self.is_poisoned:
            raise OSError(errno.EIO, "an earlier sync failed", self.directory)
        self.latencies.add(time.perf_counter() - started)
        self.syncs += 1
        self.last_sync = time.time()

    def sync_descriptor(self, descriptor: int) -> None:
        """Waits for the disk, while the caller has `sync_lock`. A failure is final."""
        if self.is_poisoned:
            raise OSError(errno.EIO, "an earlier sync failed", self.directory)
        try:
            fdatasync(descriptor)
        except OSError as error:
            if error.errno not in CANNOT_SYNC:
                self.is_poisoned = True
                raise

    def close(self) -> None:
        """Syncs and closes all files.

        Raises
        ------
        OSError
            The sync failed. The files are closed all the same.
        """
        if self.closed:
            return
        self.closed = True
        if sys.is_finalizing():
            # A thread may have ended with the lock.
            self.close_files()
            return
        with self.sync_lock:
            try:
                self._settle()
                if self._has_gap:
                    # So that the numbers of these frames are not used again.
                    self.begin_segment()
                # After a failed sync, the writer has raised that already.
                if not self.is_poisoned:
                    self.sync(self.snapshot())
            finally:
                self.close_files()

    def close_files(self) -> None:
        """Closes all files as they are."""
        for one in self.ended:
            one.file.close()
        self.file.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def in_use(self) -> EndedSegment:
        """The segment in use, as if it had ended now."""
        segment = Segment(segment_path(self.directory, self.first), self.first)
        # Frames that were dropped belong to no segment.
        behind = self.dropped_ranges[-1][0] if self._has_gap else self.number
        return EndedSegment(self.file, segment, behind, self.size, self.began, time.time())


def _open_folder(directory: str) -> int | None:
    """A descriptor of a folder to sync it; None where that is not possible."""
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (PermissionError, AttributeError):
        # A folder in which one may write and not look cannot be synced, nor can one on Windows.
        return None

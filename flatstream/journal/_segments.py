"""The sink of a JournalWriter: the segment in use, and those that wait to be sealed.

The writer's buffer hands its bytes to `SegmentSink.write`. Here it is decided whether they go into the segment in use
or into a new one, and what happens when the disk is full: where the buffer is handed over, so that a frame costs
nothing more than with a StreamWriter. A segment ends only at the end of a frame.

A segment gets its description immediately before its first frame, in a write of its own: so a segment without a frame
is an empty file, and a description that cannot be written is a write that fails, like that of a frame.

All methods but `snapshot`'s callers run while the writer is held, so no two of them run at once.
"""

from __future__ import annotations

import contextlib
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

from flatstream._files import OpenFolder
from flatstream._lock import open_for_writing
from flatstream.journal._heads import Heads
from flatstream.journal._layout import DIGITS, Segment, segment_path
from flatstream.journal._recovery import FULL
from flatstream.journal.metrics import LatencyRecorder
from flatstream.journal.policies import RotationPolicy

if TYPE_CHECKING:
    import io

    from flatstream.description import Description
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

# How many lines for the log are kept until they are written.
MAX_LINES = 1000

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
    names of new segments.
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
    heads : Heads
        Makes the descriptions of segments.
    description : Description or None
        That of the segment in use, if it has bytes.
    sync_every : int
        The disk is waited for when so many frames are not synced; 0 for never.
    wake : callable
        Tells the keeper that there is an ended segment.
    wake_every : int
        The keeper is woken when so many bytes were added to a segment, too.
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
        heads: Heads,
        description: Description | None,
        sync_every: int,
        wake: Callable[[], None],
        wake_every: int = UNLIMITED,
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
        self._heads = heads
        # What the segment begins with, and has as soon as its size is not 0: the frame of its description, or nothing.
        self._head = heads.frame(first)
        # That of a segment in which an earlier writer has written.
        self._earlier = description
        self._has_earlier = self.size > 0
        # Whether a system call is in progress. An exception of a signal handler can end it between the call and the
        # lines that count what it took; what was not counted is cut off then.
        self._is_writing = False
        # The path of a new segment while it is made. If an exception ends that, the segment is the next one all the
        # same if it exists: readers may have seen it, and believe that the one in use is final.
        self._begun: str | None = None
        # The frame of which the file has a part is to be dropped, and the part may have been cut off already.
        self._must_drop = False
        self._max_bytes = UNLIMITED if rotation.max_bytes is None else min(rotation.max_bytes, UNLIMITED)
        self._max_frames = UNLIMITED if rotation.max_frames is None else min(rotation.max_frames, UNLIMITED)
        self._max_seconds = rotation.max_seconds
        self._when_full = when_full
        self._sync_every = sync_every
        self._wake = wake
        # The size of the segment at which the keeper was last told that it grows.
        self._wake_every = wake_every
        self._size_told = self.size
        # Whether the keeper was stopped, and perhaps not resumed. (It sets this.)
        self.is_unkept = False
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
        # How many names of segments were made, and how many of them the disk has, which changes with `sync_lock` held.
        self._names = 1
        self._synced_names = 0
        # One sync at a time: the system reports an error to one of several, and the others would return as if all was
        # well. Whoever has it never waits for the writer. Files are closed only with it. Reentrant, because a signal
        # handler that writes may run in the middle of a sync.
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
        # The error of each that the log has.
        self._told: dict[str, int | None] = {}
        # What the log is to be told when nothing is held: its handlers may wait for a lock, and a thread that has it
        # may wait for this journal, because it writes what is logged into it.
        self.lines: deque[tuple[int, str, tuple[Any, ...]]] = deque(maxlen=MAX_LINES)

    def tell(self, level: int, text: str, *arguments: Any) -> None:
        """Has the keeper tell the log something, and look for work."""
        self.lines.append((level, text, arguments))
        self._wake()

    def write_log(self) -> None:
        """Tells the log what there is to tell. To be called while nothing is held."""
        while self.lines:
            with contextlib.suppress(IndexError):
                level, text, arguments = self.lines.popleft()
                log.log(level, f"%s: {text}", self.directory, *arguments)

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
        if self._must_drop:
            return self._drop(writer, offered, is_buffered)
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
                if not self.size:
                    self._put_head(data)
                taken = call(self.file.fileno(), data)
                break
            except OSError as error:
                # Of a description, a part may be there, which is cut off before anything else is done.
                self._is_writing = not self.size
                self._note_error("write", f"writing failed: {error}", error)
                if self._makes_room(writer, error):
                    self._is_writing = True
                    continue
                if error.errno in FULL and self._when_full == "drop_newest":
                    return self._drop(writer, offered, is_buffered)
                raise
        if taken < size:
            self._count_part(writer, taken, is_buffered)
            return taken
        if self.problems:
            self.problems.pop("write", None)
        is_synced = self._sync_every and self.number + frames - self.durable >= self._sync_every
        if is_synced:
            self._sync_now()
        if self.is_unkept or not 0 <= self.size + taken - self._size_told < self._wake_every:
            # The keeper looks when the frames are counted. Behind the count, an exception of a signal handler would
            # have them written twice.
            self._size_told = self.size + taken
            self._wake()
        # No call from here on, so no signal handler can come between these lines. What was synced is durable only now,
        # because bytes that were not counted are cut off again.
        self.size += taken
        self.number += frames
        self.torn = 0
        self._is_writing = False
        if is_synced and self.number > self.durable:
            self.durable = self.number
        return taken

    def description(self) -> Description | None:
        """What the segment in use begins with, or will begin with."""
        return self._earlier if self._has_earlier else self._heads.parse(self._head)

    def put_head(self) -> None:
        """Writes the description of a segment that is empty, if that is possible now. Otherwise it comes with the first
        frame.
        """
        if not self.size and self._head:
            self._is_writing = True
            with contextlib.suppress(OSError):
                self._put_head(None)
                self._is_writing = False

    def _put_head(self, data: Any) -> None:
        """Writes the description, with which a segment begins, before its first frames, `data`."""
        head = self._head
        if not head and data is not None and self._heads.is_needed_before(data):
            # Readers would take the first message for the description.
            head = self._head = self._heads.least_frame(self.first)
        if head:
            fd = self.file.fileno()
            if os.fstat(fd).st_size:
                # A part of it that an earlier attempt has left.
                os.ftruncate(fd, 0)
            rest = memoryview(head)
            while rest:
                rest = rest[os.write(fd, rest) :]
            self.size = len(head)

    def _settle(self) -> None:
        """Finishes what an exception of a signal handler has ended in the middle. To be called before all else.

        Raises
        ------
        OSError
            A segment that was made cannot be used, and the one in use must not grow any more.
        """
        self._cut_uncounted()
        if self._begun is not None:
            if os.path.lexists(self._begun):
                # Its number is behind that of the next frame, if numbers were to be left free.
                self._begin_segment(max(self.number, int(os.path.basename(self._begun)[:DIGITS])))
            self._begun = None

    def _cut_uncounted(self) -> None:
        """Cuts off bytes that a call wrote which an exception ended before they were counted: the buffer offers them
        again, or has dropped them.
        """
        if self._is_writing:
            fd = self.file.fileno()
            if os.fstat(fd).st_size > self.size:
                os.ftruncate(fd, self.size)
                self.cut_backs += 1
            self._is_writing = False

    def _count_part(self, writer: JournalWriter, taken: int, is_buffered: bool) -> None:
        """Counts a write that took only a part of what it was offered: the disk is nearly full, for example."""
        whole, frames = writer._whole_frames(taken, UNLIMITED) if is_buffered else (0, 0)
        torn = taken - whole if frames else self.torn + taken
        self.size += taken
        self.number += frames
        self.torn = torn
        self._is_writing = False

    def rollback(self, count: int) -> bool:
        """Removes the last `count` bytes, those of a frame that is not whole; False if that is not what they are."""
        fd = self.file.fileno()
        if count != self.torn or os.fstat(fd).st_size != self.size:
            return False
        self._cut_torn()
        self._must_drop = False
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
                used = self.size or len(self._head)
                size, frames = self._room(writer, offered, is_buffered, used, self.number - self.first)
                if size:
                    return size, frames
            if self.number == self.first or self.begin_segment():
                size, frames = self._room(writer, offered, is_buffered, self.size or len(self._head), 0)
                if size:
                    return size, frames
                # The first frame is larger than a segment.
                return writer._whole_frames(UNLIMITED, 1) if is_buffered else (offered, 1)
        return writer._whole_frames(UNLIMITED, UNLIMITED) if is_buffered else (offered, 1)

    def _room(
        self, writer: JournalWriter, offered: int, is_buffered: bool, used_bytes: int, used_frames: int
    ) -> tuple[int, int]:
        """How many bytes and frames of those offered a segment has room for that has so many already."""
        room = max(0, self._max_bytes - used_bytes)
        count = max(0, self._max_frames - used_frames)
        if is_buffered:
            return writer._whole_frames(room, count)
        return (offered, 1) if offered <= room and count else (0, 0)

    def _is_due(self, now: float) -> bool:
        """Whether the segment in use has frames and is too old, or has to end for another reason."""
        if self.number == self.first:
            return False
        limit = self._max_seconds
        return self._must_rotate or (limit is not None and now - self._began_monotonic >= limit)

    def whole(self) -> tuple[str, int]:
        """The path of the segment in use, and where its whole frames end."""
        self._settle()
        return segment_path(self.directory, self.first), self.size - self.torn

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
            self._begin_segment(self.number)

    def skip_to(self, number: int) -> None:
        """Leaves the numbers below `number` free: begins a new segment with the frame `number`. Nothing is torn, and
        nothing is in the buffer.

        Raises
        ------
        OSError
            The segment cannot be made. The one in use stays in use.
        """
        self._settle()
        if number > self.number:
            self._begin_segment(number)

    def begin_segment(self) -> bool:
        """Begins a new segment; False if that is not possible now, and then the one in use stays in use.

        Raises
        ------
        OSError
            The new segment exists and cannot be used, so that the one in use must not grow any more.
        """
        try:
            self._begin_segment(self.number)
        except OSError as error:
            if self._begun is not None:
                raise
            problem = f"a new segment could not be begun, so the old one grows: {error}"
            self._note_error("rotation", problem, error)
            self._rotate_not_before = time.monotonic() + ROTATION_PAUSE
            # Also where a full disk is expected.
            self.problems["rotation"] = problem
            return False
        return True

    def _begin_segment(self, number: int) -> None:
        started = time.perf_counter()
        file = self._make_segment(segment_path(self.directory, number))
        ended = self.in_use()
        dropped = self.dropped_ranges[-1] if self._has_gap else None
        now, monotonic = time.time(), time.monotonic()
        head = self._heads.frame(number)
        # No call among these lines but the last one, so that an exception of a signal handler finds all done, or none.
        self._begun = None
        self.file, self.first, self.number, self.size, self.torn = file, number, number, 0, 0
        self._head, self._has_earlier = head, False
        self.began, self._began_monotonic = now, monotonic
        self._must_rotate = self._has_gap = False
        self._rotate_not_before = 0.0
        self._names += 1
        self.ended.append(ended)
        self.problems.pop("rotation", None)
        if dropped is not None:
            self.problems.pop("full", None)
            self.tell(logging.WARNING, "%d frames were dropped, from number %d on", dropped[1] - dropped[0], dropped[0])
        self.rotations += 1
        self.longest_rotation = max(self.longest_rotation, time.perf_counter() - started)
        self.tell(logging.INFO, "begins segment %d after %d frames", self.first, ended.next - ended.segment.first)

    def _make_segment(self, path: str) -> io.FileIO:
        """Makes a file that does not exist; or opens the one that an attempt has made which an exception ended."""
        is_ours = self._begun == path
        self._begun = path
        try:
            return open_for_writing(path, "xb", regular=True)
        except FileExistsError:
            if is_ours:
                file = self._open_again(path)
                if not os.fstat(file.fileno()).st_size:
                    return file
                file.close()
            # Somebody else's.
            self._begun = None
            raise
        except OSError:
            if not os.path.lexists(path):
                self._begun = None
            raise

    def _open_again(self, path: str) -> io.FileIO:
        try:
            return open_for_writing(path, "ab", regular=True)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # The traceback of the exception still has the file, and its lock. The lock of the journal is enough.
            return open_for_writing(path, "ab", regular=True, lock=False)

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
            self._must_drop = True
            self._cut_torn()
        frames = writer._whole_frames(UNLIMITED, UNLIMITED)[1] if is_buffered else 1
        number, end = self.number, self.number + frames
        if not (self.dropped_ranges and self.dropped_ranges[-1][1] == number):
            self.dropped_ranges.append((number, number))
        begin = self.dropped_ranges[-1][0]
        is_first = not self._has_gap
        if is_first:
            self.tell(logging.WARNING, "the disk is full, so frames are dropped from number %d on", number)
        self.problems["full"] = f"the disk is full, so frames are dropped: {end - begin} since number {begin}"
        self._write_not_before = time.monotonic() + DROP_PAUSE
        # No call among these lines, so no signal handler can come between them.
        if is_first:
            self.drop_episodes += 1
        self._must_drop = False
        self._has_gap = True
        self.dropped_frames += frames
        self.dropped_ranges[-1] = (begin, end)
        self.number = end
        return offered

    def _begin_after_gap(self) -> bool:
        """Begins the segment behind frames that were dropped; False if there is no room yet."""
        return time.monotonic() >= self._write_not_before and self.begin_segment()

    def _note_error(self, kind: str, problem: str, error: OSError) -> None:
        """Counts an error, and notes what is wrong until it works again."""
        self.errors[errno.errorcode.get(error.errno or 0, "unknown")] += 1
        if not (error.errno in FULL and self._when_full != "raise"):
            # One line, however often a program tries again: thousands in a second would fill a disk.
            if kind not in self.problems or self._told.get(kind) != error.errno:
                self.tell(logging.ERROR, "%s", problem)
            self._told[kind] = error.errno
            self.problems[kind] = problem

    # Syncing

    def snapshot(self) -> Snapshot:
        """What is to be synced now."""
        self._settle()
        return Snapshot(self.number, self._files(), self._names)

    def _files(self) -> list[io.FileIO]:
        """The files that are not synced."""
        # A copy in one step: the keeper takes segments away meanwhile.
        return [*(one.file for one in list(self.ended)), self.file]

    def sync(self, snapshot: Snapshot) -> None:
        """Returns when the disk has what the snapshot names.

        Raises
        ------
        OSError
            It failed. What the system could not store may be lost, and no later sync would say so.
        """
        with self.sync_lock:
            self._wait_for_disk(snapshot.files, snapshot.names)
            # No call between these lines: a write in another thread may set it too.
            if snapshot.number > self.durable:
                self.durable = snapshot.number

    def _sync_now(self) -> None:
        """Syncs in the middle of a write, what it wrote included."""
        try:
            with self.sync_lock:
                self._wait_for_disk(self._files(), self._names)
        except OSError as error:
            writer = self._writer() if self._writer is not None else None
            if writer is not None:
                writer._poison(error)
            raise
        # The keeper tells those who wait. It looks when the frames are counted.
        self._wake()

    def _wait_for_disk(self, files: Sequence[io.FileIO], names: int) -> None:
        """Syncs files, and the folder if it has names that the disk has not. With `sync_lock`."""
        if self.is_poisoned:
            raise OSError(errno.EIO, "an earlier sync failed", self.directory)
        started = time.perf_counter()
        for file in files:
            # One that is closed meanwhile was synced, or removed.
            if not file.closed:
                self.sync_descriptor(file.fileno())
        if names > self._synced_names:
            if self._folder is not None and (folder := self._folder.fileno()) is not None:
                self.sync_descriptor(folder)
            self._synced_names = names
        self.latencies.add(time.perf_counter() - started)
        self.syncs += 1
        self.last_sync = time.time()

    def sync_descriptor(self, descriptor: int) -> None:
        """Waits for the disk, while the caller has `sync_lock`. A failure is final."""
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
            The sync failed. The files are closed all the same. After another exception they are open, and a further
            call finishes the work.
        """
        if self.closed:
            # An exception may have ended this in the middle.
            self.close_files()
            return
        # At the end of the interpreter, a thread may have ended with the lock.
        with contextlib.nullcontext() if sys.is_finalizing() else self.sync_lock:
            try:
                self._cut_uncounted()
                if self._has_gap:
                    # So that the numbers of these frames are not used again. If it is made and cannot be used, it is
                    # there all the same.
                    with contextlib.suppress(OSError):
                        self.begin_segment()
                # After a failed sync, the writer has raised that already.
                if not self.is_poisoned and not sys.is_finalizing():
                    self._wait_for_disk(self._files(), self._names)
                    if self.number > self.durable:
                        self.durable = self.number
            except OSError:
                self.closed = True
                self.close_files()
                raise
            self.closed = True
            self.close_files()

    def close_files(self) -> None:
        """Closes all files as they are."""
        for one in list(self.ended):
            one.file.close()
        self.file.close()
        if self._folder is not None:
            self._folder.close()

    def in_use(self) -> EndedSegment:
        """The segment in use, as if it had ended now."""
        segment = Segment(segment_path(self.directory, self.first), self.first)
        # Frames that were dropped belong to no segment.
        behind = max(self.first, self.dropped_ranges[-1][0]) if self._has_gap else self.number
        return EndedSegment(self.file, segment, behind, self.size, self.began, time.time())


def _open_folder(directory: str) -> OpenFolder | None:
    """A folder, to sync it; None where that is not possible."""
    try:
        return OpenFolder(directory)
    except PermissionError:
        # A folder in which one may write and not look cannot be synced.
        return None

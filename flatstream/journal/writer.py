"""JournalWriter: writes frames into a folder of segments, and keeps it in order."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from flatstream._core.base.checks import index_argument
from flatstream._core.framing.framer import NonEmptyFramer
from flatstream._endpoints import Sink
from flatstream._files import sync_folder
from flatstream._lock import open_for_writing
from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.description import Description
from flatstream.description.head import as_description, begin_description
from flatstream.description.serializing import serializer_to_write, with_serializer
from flatstream.errors import FlatStreamError
from flatstream.framing import deframer_for, framer_for
from flatstream.journal._compression import Compressor
from flatstream.journal._heads import Heads, continue_descriptions, find_identity
from flatstream.journal._indexing import LOOK_EVERY, Indexer
from flatstream.journal._keeper import Keeper
from flatstream.journal._layout import (
    INDEX,
    LOCK,
    MANIFEST,
    Manifest,
    Sealed,
    Segment,
    list_cursors,
    list_segments,
    list_tails,
    lost_segments,
    read_manifest,
    segment_name,
    segment_path,
    time_of_cursors,
    write_manifest,
)
from flatstream.journal._recovery import FULL, SegmentReport, recover_segments
from flatstream.journal._retention import first_needed, list_sizes, remove_segment, surplus
from flatstream.journal._segments import ROTATION_PAUSE, UNLIMITED, EndedSegment, SegmentSink, WhenFull
from flatstream.journal.metrics import JournalMetrics, health_of
from flatstream.journal.policies import CompressionPolicy, RetentionPolicy, RotationPolicy, SyncPolicy
from flatstream.memory_policy import MemoryPolicy
from flatstream.serializers import Serializer, as_serializer
from flatstream.writer import DEFAULT_BUFFER_SIZE, StreamWriter

if TYPE_CHECKING:
    from flatstream.index import IndexReport

__all__ = ["JournalWriter"]

log = logging.getLogger("flatstream.journal")

# After so many seconds of sealing the keeper does what else there is to do: threads wait for the disk, and old segments
# are to be removed also while others end faster than they are sealed.
SEAL_TURN = 0.02

# How many bytes of sealed segments without an index a writer takes for those that `close` had no time to index. If they
# are more, they were written without indexes.
MOST_UNINDEXED = 4 << 30


class JournalWriter(StreamWriter):
    """Writes messages into a journal: a folder of segments, each a plain stream of frames.

    Frames are numbered from 0 through all segments, and a number names a frame for ever. Opening makes the journal one
    that can be written after any crash: a torn tail is saved beside its segment and cut off, a damaged segment stays as
    it is and a new one begins (see `recovery`). No frame is empty.

    Parameters
    ----------
    directory : str or os.PathLike
        The folder. It is created if it does not exist; its parent must exist.
    checksum : Checksum, ChecksumType or its name
        The checksum of the frames. A journal keeps the one that it was begun with.
    sync : {"never", "each"} or SyncPolicy
        When the writer waits for the disk by itself: never, in each write, or as the policy says. `sync` and
        `wait_durable` do so whenever they are called. Without a sync a frame survives the end of the process once it
        was handed over (`flush`), and a power cut only by chance.
    rotate : RotationPolicy or None
        When a new segment begins; None for only when `rotate` is called.
    retain : RetentionPolicy, optional
        Which segments are removed. By default none.
    compress : CompressionPolicy or bool, optional
        Which segments are compressed once they are sealed; True for all, by default none. A thread does it; readers see
        no difference, and the numbers of the frames stay. See docs/sealed-files.md.
    index : bool or list of str
        Which fields segments are indexed by, so that a few minutes of many hours are read alone (docs/index.md). True:
        by the time field of the description, if it names one. False: no index is written. A thread does it; an index
        that cannot be written is no error of the journal.
    when_full : {"raise", "drop_newest", "drop_oldest"}
        What happens when the disk is full: the write raises OSError; frames are dropped and counted until there is room
        again; or the oldest segments are removed, except those that a registered reader needs, and if there are none
        the write raises.
    describe : bool, Table, Schema, list, dict or Description
        What each segment begins with. A table (or what else `flatstream.Description` takes) describes the messages, so
        that readers need no schema. True: what the journal says of its messages already. The checksum, the identity of
        the journal and the number of the segment's first frame are in each description. False or None: none.
        If the schema has changed, a new segment begins, unless `Schema.check_evolution` says that readers would break.
    metadata, time_field, time_unit, serializer
        For the description; see `flatstream.Description`.
    builder, capacity, buffer_size, memory_policy, make_builder
        As for `StreamWriter`.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong; the journal has another checksum, or messages that `describe` does not describe; a field
        of `index` cannot be indexed.
    OSError
        The folder cannot be used. EBUSY: another writer has it open, and the message says which process.
    InvalidFrameError
        The segments have another checksum; or, from a write, the payload is empty.
    FlatStreamError
        From every write, sync, flush and close after a sync failed: what the system could not store may be lost.

    Notes
    -----
    Threads may share a writer. A thread syncs by the clock and for those who wait, seals segments that ended, and
    removes segments; writes wait for it only where the policy says so. The logger "flatstream.journal" gets one line
    for each recovery, rotation, episode of dropping and error. Otherwise as `StreamWriter`.

    Examples
    --------
    >>> import tempfile, os
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with JournalWriter(os.path.join(parent, "events")) as journal:
    ...         journal.write_payload(b"abc")
    ...         journal.wait_durable()
    ...         journal.durable_position
    1
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        checksum: Checksum | ChecksumType | str | None = "xxhash64",
        *,
        sync: Literal["never", "each"] | SyncPolicy = "never",
        rotate: RotationPolicy | None = RotationPolicy(),  # noqa: B008 - it is frozen
        retain: RetentionPolicy | None = None,
        compress: CompressionPolicy | bool | None = None,
        index: bool | Sequence[str] = True,
        when_full: WhenFull = "raise",
        describe: Any = True,
        metadata: Mapping[str, str] | None = None,
        time_field: str | None = None,
        time_unit: Literal["s", "ms", "us", "ns"] | None = None,
        serializer: Serializer | str | None = None,
        builder: Any = None,
        capacity: int | None = None,
        buffer_size: int = DEFAULT_BUFFER_SIZE,
        memory_policy: MemoryPolicy | None = None,
        make_builder: Callable[[int], Any] | None = None,
    ) -> None:
        if not isinstance(directory, (str, os.PathLike)):
            raise TypeError(f"directory must be a str or os.PathLike, got {directory!r:.100}")
        if sync not in ("never", "each") and not isinstance(sync, SyncPolicy):
            raise ValueError(f"sync must be 'never', 'each' or a SyncPolicy, got {sync!r:.100}")
        if rotate is not None and not isinstance(rotate, RotationPolicy):
            raise TypeError(f"rotate must be a RotationPolicy or None, got {rotate!r:.100}")
        if retain is not None and not isinstance(retain, RetentionPolicy):
            raise TypeError(f"retain must be a RetentionPolicy or None, got {retain!r:.100}")
        if compress is not None and not isinstance(compress, (bool, CompressionPolicy)):
            raise TypeError(f"compress must be a CompressionPolicy or a bool, got {compress!r:.100}")
        if when_full not in ("raise", "drop_newest", "drop_oldest"):
            raise ValueError(f"when_full must be 'raise', 'drop_newest' or 'drop_oldest', got {when_full!r:.100}")
        fields = checked_fields(index)
        compression = CompressionPolicy() if compress is True else compress or None
        algorithm = as_checksum(checksum)
        chosen = None if serializer is None else as_serializer(serializer)
        wanted = with_serializer(as_description(describe, metadata, time_field, time_unit), chosen)
        if wanted is not None:
            wanted = begin_description(wanted, framer_for(algorithm))
        if fields is not None and wanted is not None and wanted.roots:
            check_fields(wanted, fields)
        policy = sync if isinstance(sync, SyncPolicy) else SyncPolicy(frames=1 if sync == "each" else None)
        # Absolute, because the process may change its folder.
        self._directory = os.path.abspath(os.fspath(directory))
        self._sync_policy = policy
        self._retain = retain
        self._opened = time.time()
        self._removed_segments = 0
        self._compressor: Compressor | None = None
        self._indexer: Indexer | None = None
        self._closing = threading.RLock()
        self._is_closing = False
        # When the keeper last synced by the clock, or tried to.
        self._last_try = time.monotonic()
        self._rotation_seconds = None if rotate is None else rotate.max_seconds
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._directory)
        # Each time: whoever made it may have been killed before this.
        sync_folder(self._directory)
        self._lock_file = open_for_writing(os.path.join(self._directory, LOCK), "ab", regular=True)
        segments: SegmentSink | None = None
        self._keeper = Keeper(self)
        try:
            self._manifest, self._reports, least = _recover(self._directory, algorithm)
            rotation = rotate if rotate is not None else RotationPolicy(max_bytes=None)
            frames = min(policy.frames or 0, UNLIMITED)
            wake_every = UNLIMITED if index is False else LOOK_EVERY
            segments = self._open_segment(rotation, when_full, frames, least, algorithm, wanted, wake_every)
            chosen = serializer_to_write(segments.description(), chosen)
            if not any(report.frames for report in self._reports):
                # Who reads the journal before it has frames knows what they will be.
                segments.put_head()
            sink = Sink(
                segments,
                segments.write,
                writev=segments.writev if hasattr(os, "writev") else None,
                rollback=segments.rollback,
                error_takes_nothing=True,
                none_blocks=True,
                takes_at_once=True,
                owned=True,
            )
            super().__init__(
                sink,
                NonEmptyFramer(framer_for(algorithm)),
                builder=builder,
                capacity=capacity,
                buffer_size=0 if policy.frames == 1 else buffer_size,
                memory_policy=memory_policy,
                make_builder=make_builder,
            )
        except BaseException:
            if segments is not None:
                segments.close_files()
            self._lock_file.close()
            raise
        self._set_serializer(chosen)
        self._base = segments.number
        self._segments = segments
        if compression is not None:
            self._compressor = Compressor(
                self._directory, compression, self._manifest, deframer_for(algorithm), segments.tell
            )
        try:
            if index is not False:
                self._begin_indexes(fields, algorithm)
            self._gather_all(frames)
            segments.attach(self)
            self._remove_surplus()
            has_work = self._indexer is not None and self._indexer.has_work
            if policy.seconds is not None or rotation.max_seconds is not None or compression is not None or has_work:
                self._keeper.start()
        except BaseException:
            self.close()
            raise

    def _open_segment(
        self,
        rotation: RotationPolicy,
        when_full: WhenFull,
        sync_every: int,
        least: int,
        checksum: Checksum,
        wanted: Description | None,
        wake_every: int,
    ) -> SegmentSink:
        """Opens the segment to go on with: the last one, or a new one. The next number is at least `least`."""
        manifest = self._manifest
        last = self._reports[-1] if self._reports else None
        how = continue_descriptions(self._reports, wanted, deframer_for(checksum))
        heads = Heads(how.description, checksum, manifest.id)
        number = max(self._number_behind(last), least)
        began = time.time()
        is_whole = last is not None and last.next == last.first + last.frames and not _is_damaged(last, manifest)
        if last is not None and not (is_whole and number == last.next):
            last = None
        if last is not None and (how.ends_last or Segment(last.path, last.first).is_compressed):
            _seal_recovered(last, manifest)
            last = None
        if last is not None:
            first, name = last.first, os.path.basename(last.path)
            known = manifest.sealed.pop(name, None)
            began = manifest.begun.get(name, began if known is None else known.began)
            file = open_for_writing(last.path, "ab", regular=True)
            if how.clears_last:
                os.ftruncate(file.fileno(), 0)
        else:
            first = number
            file = open_for_writing(segment_path(self._directory, first), "xb", regular=True)
        try:
            manifest.begun = {os.path.basename(segment_path(self._directory, first)): began}
            try:
                write_manifest(self._directory, manifest)
            except OSError as error:
                # A journal can be opened on a full disk: what is not noted is read once more.
                if error.errno not in FULL or not os.path.exists(os.path.join(self._directory, MANIFEST)):
                    raise
                log.warning("%s: %s could not be written: %s", self._directory, MANIFEST, error)
            return SegmentSink(
                self._directory,
                file,
                first,
                number,
                began,
                rotation=rotation,
                when_full=when_full,
                heads=heads,
                description=how.last,
                sync_every=sync_every,
                wake=self._keeper.wake,
                wake_every=wake_every,
            )
        except BaseException:
            file.close()
            raise

    def _number_behind(self, last: SegmentReport | None) -> int:
        """The number of the frame to go on with. `last` is the last segment, None if there is none."""
        # A registered reader may have read frames that a power cut took back. Their numbers are not used again.
        cursors = (one.number for one in list_cursors(self._directory).values() if one.journal == self._manifest.id)
        return max([0 if last is None else last.next, *cursors])

    # State

    @property
    def directory(self) -> str:
        """The folder of the journal, as an absolute path."""
        return self._directory

    @property
    def id(self) -> str:
        """The identity of the journal: 32 hexadecimal digits that no other journal has."""
        return self._manifest.id

    @property
    def recovery(self) -> list[SegmentReport]:  # type: ignore[override]
        """What opening the journal found in each segment, and did to it."""
        return self._reports

    @property
    def position(self) -> int:
        """The number of the next frame. Frames with smaller numbers were accepted; some may still be in the buffer."""
        return self._base + self.frames_written

    @property
    def durable_position(self) -> int:
        """All frames with smaller numbers are on the disk, but those that were dropped."""
        return self._segments.durable

    @property
    def description(self) -> Description | None:
        """The description with which the segment in use begins, or will begin; None if it has none."""
        return self._segments.description()

    @property
    def index_report(self) -> IndexReport | None:
        """What the index has that was written last, of the segment in use or of one that ended; None if there is none.

        `health` says why one could not be written.
        """
        return None if self._indexer is None else self._indexer.report

    # Syncing

    def sync(self) -> None:
        """Flushes, and returns when the disk has every message that was accepted before (fdatasync).

        Other threads can write meanwhile. An OSError of the sync is final: every later write, sync, flush and close
        raises FlatStreamError. An OSError of the flush is not.
        """
        self._drain_buffer()
        self._sync_handed_over()

    def _sync_handed_over(self) -> None:
        """Returns when the disk has what the system has."""
        segments = self._segments
        snapshot = self._call_exclusively(self._snapshot)
        try:
            segments.sync(snapshot)
        except OSError as error:
            # Only a failed sync is final.
            if segments.is_poisoned:
                self._poison(error)
            raise
        finally:
            self._keeper.tell()

    def _snapshot(self) -> Any:
        self._check_open()
        return self._segments.snapshot()

    def _check_open(self) -> None:
        if self._endpoint is None:
            raise ValueError("this JournalWriter is closed")

    def _poison(self, error: OSError) -> None:
        """Refuses every later write after a sync failed."""
        if not self.is_refusing:
            self._segments.tell(logging.ERROR, "a sync failed, so nothing more is written: %s", error)
        self._segments.is_poisoned = True
        self._segments.errors[f"sync {errno.errorcode.get(error.errno or 0, 'unknown')}"] += 1
        self._refuse_after_failed_sync(error)
        self._keeper.tell()

    def wait_durable(self, position: int | None = None, timeout: float | None = None) -> None:
        """Returns when the disk has all frames with smaller numbers than `position`.

        One thread syncs for all who wait, so many producers together get many more frames acknowledged than one.

        Parameters
        ----------
        position : int, optional
            A number that `position` had; by default what it is now.
        timeout : float, optional
            How many seconds to wait at most; by default without a limit.

        Raises
        ------
        TimeoutError
            The time is over. The frames are not known to be on the disk yet.
        FlatStreamError
            A sync failed, or the thread that syncs; or frames before `position` that the disk did not have at the call
            were dropped because it was full. (Those that were dropped before the last sync are not told here, but for
            the last one before `position`: see `metrics`.)
        OSError
            The system takes no more bytes, so that the frames cannot be handed over now.
        ValueError
            No frame has that number yet, or the writer was closed before.
        RuntimeError
            It is called by a signal handler, or a builder, in the middle of a write; or in a forked child.
        """
        # In a forked child, and for a signal handler in the middle of a write, this raises.
        if self._is_forked_copy:
            self._drain_buffer()
        self._check_can_enter()
        known = self.position
        number = known if position is None else index_argument("position", position)
        if not 0 <= number <= known:
            raise ValueError(f"position must be from 0 to {known}, the number of the next frame, got {number}")
        limit = None if timeout is None else checked_seconds("timeout", timeout)
        segments, floor = self._segments, self._segments.durable
        if floor < number and not self._keeper.wait_for(self, number, limit):
            raise TimeoutError(
                errno.ETIMEDOUT, f"the disk did not have all frames before number {number} within {limit:g} s"
            )
        if segments.durable < number:
            # Raises the error that says why.
            self._drain_buffer()
            raise ValueError("this JournalWriter was closed while its frames were waited for")
        for begin, end in list(segments.dropped_ranges):
            if begin < min(end, number) and end > min(floor, number - 1):
                raise FlatStreamError(f"the frames from number {begin} to {end - 1} were dropped: the disk was full")

    # Segments

    def rotate(self) -> None:
        """Begins a new segment, if the one in use has frames. What is in the buffer is handed over first.

        Raises
        ------
        OSError
            The new segment cannot be made. The one in use stays in use.
        """
        self._drain_buffer()
        self._call_exclusively(self._rotate)
        self._segments.write_log()

    def _rotate(self) -> None:
        self._check_open()
        self._segments.rotate()

    def _remove_oldest(self) -> bool:
        """Removes the oldest segment that may be removed, because the disk is full; returns whether there was one."""
        segments = list_segments(self._directory)
        needed = first_needed(self._directory, self.id)
        if len(segments) < 2 or (needed is not None and needed < segments[1].first):
            return False
        if segments[0].first >= self._segments.first:
            return False
        self._remove(segments[0], list_tails(self._directory), "the disk is full")
        self._forget_older()
        return True

    def _remove_surplus(self) -> None:
        """Removes the segments that the retention policy does not keep."""
        if self._retain is None:
            return
        asked = time_of_cursors(self._directory)
        needed = first_needed(self._directory, self.id)
        found = surplus(list_sizes(self._directory), self._retain, needed)
        if not found:
            return
        tails = list_tails(self._directory)
        for segment in found:
            # A reader may register meanwhile. Then the next rotation decides.
            if segment.first >= self._segments.first or time_of_cursors(self._directory) != asked:
                break
            self._remove(segment, tails, "retention")
        sync_folder(found[0].path)
        self._forget_older()

    def _forget_older(self) -> None:
        """Forgets sealed segments that are older than all there are: they were lost, or removed by hand."""
        oldest = min((one.name for one in list_segments(self._directory)), default="")
        for name in [known for known in list(self._manifest.sealed) if known < oldest]:
            self._manifest.sealed.pop(name, None)
            self._manifest.compressed.pop(name, None)

    def _remove(self, segment: Segment, tails: list[str], reason: str) -> None:
        segments = self._segments
        with segments.sync_lock:
            ended = segments.ended
            # It is the oldest one. (Others only if somebody has removed files. A copy, because writes append.)
            for one in [ended[0]] if ended and ended[0].segment.first == segment.first else list(ended):
                # Its blocks are free only when no descriptor is open.
                if one.segment.first == segment.first:
                    ended.remove(one)
                    one.file.close()
        # The keeper may be compressing or indexing it.
        with contextlib.ExitStack() as locks:
            if self._compressor is not None:
                locks.enter_context(self._compressor.lock)
            if self._indexer is not None:
                locks.enter_context(self._indexer.lock)
                self._indexer.forget(segment.plain_path)
            remove_segment(segment, tails)
            self._manifest.sealed.pop(segment.name, None)
            self._manifest.compressed.pop(segment.name, None)
        self._removed_segments += 1
        segments.tell(logging.INFO, "removed segment %d (%s)", segment.first, reason)

    # Indexes

    def _begin_indexes(self, fields: list[str] | None, checksum: Checksum) -> None:
        """Prepares for indexes: of the segment in use, and of those that recovery has read, which a crash has left."""
        segments = self._segments
        description = segments.description()
        if fields is not None:
            check_fields(description, fields)
        self._indexer = indexer = Indexer(fields, checksum, segments.tell)
        crashed = [one for one in self._reports if one.action in ("nothing", "cut") and one.first != segments.first]
        for report in (*self._unindexed(), *crashed):
            if report.frames:
                path = Segment(report.path, report.first).plain_path
                indexer.note(path, report.bytes, is_ended=True, description=segments.description)
        path, end = segments.whole()
        indexer.note(path, end, is_ended=False, description=segments.description)
        if end:
            indexer.open(path)

    def _unindexed(self) -> list[SegmentReport]:
        """The sealed segments that the last `close` had no time for: the last ones without an index, and the one before
        them, whose index may be a part. If there is none with an index, it wrote none.
        """
        found: list[SegmentReport] = []
        size = 0
        for report in reversed(self._reports):
            if report.action == "sealed" and report.first != self._segments.first:
                size += report.bytes
                if size > MOST_UNINDEXED or Segment(report.path, report.first).is_compressed:
                    break
                if not _is_damaged(report, self._manifest):
                    found.append(report)
                if os.path.lexists(report.path + INDEX):
                    return found[::-1]
        return []

    def _note_growth(self) -> None:
        """Tells the indexer how far the segment in use is."""
        assert self._indexer is not None
        if self._indexer.leaves_out(segment_path(self._directory, self._segments.first)):
            return
        path, end = self._call_exclusively(self._whole)
        self._indexer.note(path, end, is_ended=False, description=self._segments.description)

    def _note_end(self, one: EndedSegment) -> None:
        """Tells the indexer that a segment ended."""
        indexer = self._indexer
        if indexer is None:
            return
        if one.next > one.segment.first:
            indexer.note(one.segment.path, one.bytes, is_ended=True, description=self._segments.description)
        else:
            with indexer.lock:
                indexer.forget(one.segment.path)

    def _finish_indexes(self) -> None:
        """Indexes what the keeper has not, after all was written."""
        segments = self._segments
        for one in [*segments.ended, segments.in_use()]:
            self._note_end(one)
        if self._indexer is not None:
            self._indexer.finish()

    def _whole(self) -> tuple[str, int]:
        self._check_open()
        return self._segments.whole()

    def _seal_ended(self) -> None:
        """Syncs, seals and closes the segments that are no longer written, as many as a turn has time for."""
        segments = self._segments
        changed = False
        end = time.monotonic() + SEAL_TURN
        while segments.ended and not (changed and time.monotonic() >= end):
            with segments.sync_lock:
                if not segments.ended:
                    break
                one = segments.ended[0]
                if segments.is_poisoned or segments.closed:
                    return
                failure: OSError | None = None
                has_frames = one.next > one.segment.first
                if has_frames:
                    try:
                        segments.sync_descriptor(one.file.fileno())
                    except OSError as error:
                        failure = error
                else:
                    # Its name has the number of a frame that was dropped.
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(one.segment.path)
                if failure is None:
                    segments.ended.popleft()
                    one.file.close()
                    if has_frames:
                        # With the lock, because a write that finds the disk full may remove the segment.
                        self._manifest.sealed[os.path.basename(one.segment.path)] = _seal(one)
                        changed = True
                    self._note_end(one)
            if failure is not None:
                self._poison(failure)
                raise failure
        if changed:
            name = os.path.basename(segment_path(self._directory, segments.first))
            self._manifest.begun = {name: segments.began}
            write_manifest(self._directory, self._manifest)

    def _seconds_until_sync(self) -> float | None:
        """In how many seconds the policy wants a sync; None if it does not."""
        if self._sync_policy.seconds is None:
            return None
        left = self._last_try + self._sync_policy.seconds - time.monotonic()
        # While nothing is written, there is nothing to sync, and it is looked at again after an interval.
        return left if left > 0 or self.position > self._segments.durable else self._sync_policy.seconds

    def _seconds_until_work(self) -> float | None:
        """In how many seconds the keeper has work to do, as far as it is known now."""
        if self._is_shut:
            return self._seconds_until_sync() if self.position > self._segments.durable else None
        known = [] if (left := self._seconds_until_sync()) is None else [left]
        if self._rotation_seconds is not None:
            left = self._rotation_seconds - self._segments.age()
            # While the segment has no frames, and if it cannot end now, it is looked at again after such a time.
            known.append(left if left > 0 else min(self._rotation_seconds, ROTATION_PAUSE))
        if self._segments.ended and not self._segments.is_poisoned:
            known.append(0.0)
        if self._compressor is not None and (left := self._compressor.seconds_until_work()) is not None:
            known.append(left)
        if self._indexer is not None and self._indexer.has_work:
            known.append(0.0)
        return min(known, default=None)

    def _is_old(self) -> bool:
        """Whether the segment in use, with frames in it or in the buffer, is older than the policy says."""
        limit, segments = self._rotation_seconds, self._segments
        return limit is not None and self.position > segments.first and segments.age() >= limit

    def _rotate_if_due(self) -> None:
        self._check_open()
        self._segments.rotate_if_due()

    def _sync_all(self) -> None:
        """Syncs what the system has, also if it takes no more, which is raised then."""
        failure: OSError | None = None
        try:
            # When `close` was cut short by an exception, all is handed over.
            if not self._is_shut:
                self._drain_buffer()
        except OSError as error:
            failure = error
        self._sync_handed_over()
        if failure is not None:
            raise failure

    def _keep(self, wanted: int) -> None:
        """The keeper's work: to sync for those who wait and by the clock; to seal, remove and compress segments."""
        segments = self._segments
        if self._is_shut:
            # An exception of a signal handler has cut `close` short, and the next call does what is left. But who waits
            # for the disk need not wait for that.
            self._last_try = time.monotonic()
            if not self.closed and self.position > segments.durable:
                self._sync_all()
            return
        if self._is_old():
            with contextlib.suppress(OSError):
                self._drain_buffer()
            self._call_exclusively(self._rotate_if_due)
        until_sync = self._seconds_until_sync()
        if wanted > segments.durable or (until_sync is not None and until_sync <= 0):
            self._last_try = time.monotonic()
            self._sync_all()
        if self.closed:
            # The disk hung for longer than `close` waits.
            return
        if self._indexer is not None:
            self._note_growth()
        if segments.ended:
            try:
                self._seal_ended()
                if not self.closed:
                    self._remove_surplus()
            finally:
                # Segments are sealed also if `journal.json` could not be written.
                if self._compressor is not None:
                    self._compressor.look_again()
        if self._indexer is not None and self._indexer.has_work:
            # Before the segment is compressed, which takes longer.
            self._indexer.work()
        elif self._compressor is not None:
            self._compressor.work()

    # Metrics

    def metrics(self) -> JournalMetrics:
        """A snapshot of what was written, and of the disk. It reads the folder; nothing is counted for it meanwhile.

        Of a folder that is not there any more, or cannot be read, `segments` and `journal_bytes` are 0.
        """
        segments = self._segments
        try:
            sizes = list_sizes(self._directory)
        except OSError:
            sizes = []
        try:
            disk = shutil.disk_usage(self._directory)
            free, size = disk.free, disk.total
        except OSError:
            free = size = -1
        return JournalMetrics(
            frames=self.frames_written,
            bytes=self.bytes_written,
            position=self.position,
            durable_position=segments.durable,
            pending_bytes=self.pending_bytes,
            dropped_frames=segments.dropped_frames,
            drop_episodes=segments.drop_episodes,
            syncs=segments.syncs,
            sync_seconds=segments.latencies.histogram(),
            last_sync=segments.last_sync,
            rotations=segments.rotations,
            rotation_seconds_max=segments.longest_rotation,
            segments=len(sizes),
            journal_bytes=sum(one.bytes for one in sizes),
            removed_segments=self._removed_segments,
            cut_backs=segments.cut_backs,
            errors=dict(segments.errors),
            disk_free=free,
            disk_size=size,
            poisoned=segments.is_poisoned,
        )

    def health(self) -> list[str]:
        """What is wrong at the moment, in sentences; an empty list if nothing is."""
        problems = [*self._segments.problems.values(), *self._what_is_gone()]
        if self.is_refusing:
            problems.append("nothing more is written, because a sync failed or a write failed inside a frame")
        if self._compressor is not None and self._compressor.problem is not None:
            problems.append(self._compressor.problem)
        if self._indexer is not None and self._indexer.problem is not None:
            problems.append(self._indexer.problem)
        if self._keeper.problem is not None:
            problems.append(self._keeper.problem)
        return health_of(self.metrics(), problems, self._sync_policy.seconds, self._opened)

    def _what_is_gone(self) -> list[str]:
        """What somebody has moved or removed under the writer: no write fails because of it."""
        segments = self._segments
        first, file = segments.first, segments.file
        path = segment_path(self._directory, first)
        try:
            mine = os.fstat(file.fileno())
            if os.path.samestat(os.stat(path), mine):
                return []
            why = "another file has its name"
        except ValueError:
            # The writer is closed.
            return []
        except OSError as error:
            why = os.strerror(error.errno or errno.ENOENT)
        if segments.file is not file:
            # A rotation meanwhile.
            return []
        return [f"the segment in use is not at its path any more, so that what is written may be lost: {path}: {why}"]

    # The end

    def close(self) -> None:
        """Flushes, syncs, seals the last segment and frees the lock. A second call does nothing.

        Raises
        ------
        OSError, FlatStreamError
            Frames could not be handed over, or a sync failed, now or earlier. The journal is closed all the same.
        RuntimeError
            It is called by a signal handler, or a builder, in the middle of a write. The journal stays open.
        """
        if self._is_forked_copy:
            super().close()
            return
        # Before the keeper is waited for, which may wait for the end of that write.
        self._check_can_enter()
        # Another thread that closes it waits, and returns when it is closed. (Reentrant for signal handlers. At the
        # end of the interpreter, a thread may have ended with the lock.)
        with contextlib.nullcontext() if sys.is_finalizing() else self._closing:
            is_nested = self._is_closing
            try:
                self._is_closing = True
                self._close(is_nested)
            finally:
                self._is_closing = is_nested

    def _close(self, is_nested: bool) -> None:
        if is_nested:
            # A signal handler closes it in the middle of `close`, which goes on afterwards with what is left.
            self._keeper.stop()
            super().close()
            return
        was_open = not self.closed
        try:
            self._keeper.stop()
            if self._compressor is not None and not self._keeper.is_running:
                self._compressor.stop()
            super().close()
            if was_open:
                self._seal_last()
                if self._indexer is not None and not self._keeper.is_running and not sys.is_finalizing():
                    self._finish_indexes()
        finally:
            if self.closed:
                if self._indexer is not None and not self._keeper.is_running and not sys.is_finalizing():
                    self._indexer.stop()
                self._lock_file.close()
                self._keeper.tell()
                if not sys.is_finalizing():
                    self._segments.write_log()
            else:
                # A signal handler raised: nothing is lost, and a further call finishes the work.
                try:
                    self._keeper.resume()
                except BaseException:
                    # Another one has. (After a third one the next write that is handed over does it.)
                    self._keeper.resume()
                    raise

    def detach(self) -> Any:
        """Not possible: a journal is more than one file. io.UnsupportedOperation."""
        raise io.UnsupportedOperation("a JournalWriter has no single sink: close it")

    def _seal_last(self) -> None:
        """Notes that all segments are on the disk."""
        segments, manifest = self._segments, self._manifest
        if segments.is_poisoned:
            # In another thread, since the last look.
            raise FlatStreamError(f"{self._directory}: a sync failed, and what it should have stored may be lost")
        if segments.durable < segments.number:
            # At the end of the interpreter nothing is synced.
            return
        for one in [*segments.ended, segments.in_use()]:
            if one.next == one.segment.first != segments.first:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(one.segment.path)
                continue
            manifest.sealed[os.path.basename(one.segment.path)] = _seal(one)
        manifest.begun = {}
        try:
            write_manifest(self._directory, manifest)
        except OSError as error:
            # All frames are on the disk. The segments are read once more when the journal is opened.
            log.warning("%s: %s could not be written: %s", self._directory, MANIFEST, error)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"in {self._directory!r:.100}"
        return f"<JournalWriter {state}, position {self.position}>"


def _recover(directory: str, checksum: Checksum) -> tuple[Manifest, list[SegmentReport], int]:
    """Makes a journal one that can be written: see `recover_segments`. A new one gets an identity. Returns also a
    number that is above those of all frames which the journal is known to have had.
    """
    kind = next((kind.value for kind in ChecksumType if type(kind.checksum()) is type(checksum)), None)
    manifest = read_manifest(directory)
    if manifest is None:
        manifest = Manifest(find_identity(directory, deframer_for(checksum)), kind)
    elif manifest.checksum != kind:
        raise ValueError(f"the journal in {directory} has the checksum {manifest.checksum!r}, got {checksum!r:.100}")
    # Also those of segments that somebody has deleted.
    least = max((one.next for one in manifest.sealed.values()), default=0)
    reports = recover_segments(directory, deframer_for(checksum).with_max_frame_len(2**32 - 1), manifest)
    for report in reports:
        if report.action == "cut":
            saved = f"saved as {report.saved_as}" if report.saved_as is not None else "all of them zeros"
            log.warning("%s: cut off %d bytes of an unfinished frame, %s", report.path, report.bytes_cut, saved)
        elif report.action == "damaged":
            log.error("%s: is damaged, and stays as it is: %s", report.path, report.error)
    for name, one in lost_segments(manifest, list_segments(directory)).items():
        log.error("%s is lost: it was sealed with %d frames", os.path.join(directory, name), one.frames)
    if reports:
        log.info("%s: opened %d segments, the next frame is %d", directory, len(reports), reports[-1].next)
    return manifest, reports, least


def checked_seconds(name: str, value: float) -> float:
    """`value`, a number of seconds that is not negative; TypeError or ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, got {value!r:.100}")
    if not value >= 0:
        raise ValueError(f"{name} must be at least 0 seconds, got {value!r}")
    # Longer waits than a thread can make are without an end.
    return min(float(value), threading.TIMEOUT_MAX)


def checked_fields(index: Any) -> list[str] | None:
    """The fields that the argument `index` names; None for a bool."""
    if isinstance(index, bool):
        return None
    if isinstance(index, str) or not isinstance(index, Sequence) or not all(isinstance(one, str) for one in index):
        raise TypeError(f"index must be a bool or a list of the names of fields, got {index!r:.100}")
    if not index:
        raise ValueError("index must name a field, or be False, got no names")
    return list(index)


def check_fields(description: Description | None, fields: list[str]) -> None:
    """Raises an error if messages with this description cannot be indexed by these fields."""
    if description is None or not description.roots:
        raise ValueError(f"index names the fields {fields!r:.200}, and the journal's messages are not described")
    from flatstream.index._fields import choose_fields

    choose_fields(description.tables[description.roots[0].file_identifier], fields, description)


def _is_damaged(report: SegmentReport, manifest: Manifest) -> bool:
    known = manifest.sealed.get(segment_name(report.path))
    return report.action == "damaged" or (known is not None and known.damaged)


def _seal_recovered(report: SegmentReport, manifest: Manifest) -> None:
    """Notes that the last segment, which recovery has synced, is written no more."""
    name = segment_name(report.path)
    ended = os.stat(report.path).st_mtime
    began = manifest.begun.get(name, ended)
    manifest.sealed.setdefault(name, Sealed(report.frames, report.bytes, report.next, began, ended))


def _seal(one: EndedSegment) -> Sealed:
    return Sealed(one.next - one.segment.first, one.bytes, one.next, one.began, one.ended)

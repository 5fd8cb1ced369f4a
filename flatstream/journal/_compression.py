"""Compressing the segments of a journal that ended, by the keeper's thread.

The work is done in steps of some milliseconds, between which the keeper syncs, seals and removes. No step waits for
another thread, and writers wait for none.

A segment is compressed in this order, so that it is there whenever the work ends:

1. ``<name>.fs.zst.partial`` is written, synced, and compared with the plain file.
2. It is renamed to ``<name>.fs.zst``, and the folder is synced. Now both files are there, and the plain one is the
   segment: the next writer removes the other.
3. `journal.json` gets the size of the compressed file, so that opening the journal need not read it.
4. The plain file is removed. Readers that have it open go on with it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from typing import NamedTuple

from flatstream._files import open_regular, sync_folder
from flatstream._sealing import SealReport, copy_sealed, open_private
from flatstream._startup import new_tail_names
from flatstream.framing import Deframer
from flatstream.journal._layout import (
    COMPRESSED,
    INDEX_NAME,
    UNFINISHED,
    UNFINISHED_NAME,
    Manifest,
    Sealed,
    Segment,
    list_segments,
    write_manifest,
)
from flatstream.journal.policies import CompressionPolicy

__all__ = ["Compressor", "settled_segments"]

# After an error, the next try is so many seconds later.
PAUSE_AFTER_ERROR = 60.0

# How long a turn is, in seconds: the keeper then looks whether there is something else to do.
TURN = 0.005


def settled_segments(directory: str, manifest: Manifest) -> list[Segment]:
    """The segments in a folder, without what a writer has left that was killed while it compressed, and without indexes
    of segments that were removed. The caller holds the lock of the journal.

    If a plain file beside a compressed one is not as it was sealed, and the compressed one is as the writer has made
    it, then somebody has decompressed it, and perhaps not to its end. The plain file gets a name as a tail has.
    """
    segments = list_segments(directory)
    names = os.listdir(directory)
    leftovers = [name for name in names if UNFINISHED_NAME.fullmatch(name)]
    if segments:
        # Of those that a version has removed which knows no indexes. Behind the oldest segment, somebody may bring back
        # one that is missing.
        leftovers += [name for name in names if INDEX_NAME.fullmatch(name) and name < segments[0].name]
    known = set(names)
    for number, segment in enumerate(segments):
        packed = segment.name + COMPRESSED
        if segment.is_compressed or packed not in known:
            continue
        if _is_half_decompressed(directory, segment, manifest):
            for name in new_tail_names(segment.path):
                if not os.path.lexists(name):
                    os.rename(segment.path, name)
                    break
            segments[number] = Segment(segment.path + COMPRESSED, segment.first)
        else:
            leftovers.append(packed)
    for name in leftovers:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    return segments


def _is_half_decompressed(directory: str, segment: Segment, manifest: Manifest) -> bool:
    sealed, stored = manifest.sealed.get(segment.name), manifest.compressed.get(segment.name)
    return (
        sealed is not None
        and stored is not None
        and os.path.getsize(os.path.join(directory, segment.name + COMPRESSED)) == stored
        and os.path.getsize(segment.path) != sealed.bytes
    )


class _Work(NamedTuple):
    """A segment that is being compressed."""

    name: str
    source: io.FileIO
    target: io.FileIO
    steps: Generator[int, None, SealReport]


class Compressor:
    """Compresses the sealed segments of one writer. All methods but `lock` belong to the keeper's thread.

    Parameters
    ----------
    directory : str
        The folder of the journal.
    policy : CompressionPolicy
        What is compressed, and when.
    manifest : Manifest
        That of the writer. Its `compressed` is brought up to date.
    deframer : Deframer
        Of the frames, so that blocks end behind whole ones.
    tell : callable
        Gets a level, a text and arguments for the log.

    Attributes
    ----------
    lock : Lock
        Held while files get names or are removed, for two system calls. Who removes a segment holds it too.
    problem : str or None
        Why the last try failed, in words.
    """

    def __init__(
        self,
        directory: str,
        policy: CompressionPolicy,
        manifest: Manifest,
        deframer: Deframer,
        tell: Callable[..., None],
    ) -> None:
        self._directory = directory
        self._policy = policy
        self._manifest = manifest
        self._deframer = deframer
        self._tell = tell
        self.lock = threading.Lock()
        self.problem: str | None = None
        self._work: _Work | None = None
        # When something may be to do next, by the monotonic clock; None if only a change of the segments makes any.
        self._next: float | None = 0.0
        # Those that cannot be compressed: they are not what they were sealed as.
        self._left_alone: set[str] = set()

    def seconds_until_work(self) -> float | None:
        """In how many seconds `work` has something to do; None if it has not, until `look_again` is called."""
        if self._work is not None:
            return 0.0
        return None if self._next is None else max(0.0, self._next - time.monotonic())

    def look_again(self) -> None:
        """Notes that there are other segments."""
        if self.problem is None:
            self._next = 0.0

    def work(self) -> None:
        """Does what can be done in a few milliseconds."""
        end = time.monotonic() + TURN
        try:
            while (until := self.seconds_until_work()) is not None and until <= 0:
                self._step()
                if time.monotonic() >= end:
                    return
        except Exception as error:
            # What compressing meets is no fault of the journal: everything is there as it was.
            self.stop()
            self._next = time.monotonic() + PAUSE_AFTER_ERROR
            if self.problem is None:
                self._tell(logging.WARNING, "a segment could not be compressed, and stays as it is: %s", error)
            self.problem = f"a segment could not be compressed, and will be tried again: {error}"

    def stop(self) -> None:
        """Leaves off: the file that is not complete is removed, and the segment stays as it is."""
        work, self._work = self._work, None
        if work is not None:
            with contextlib.suppress(Exception):
                work.steps.close()
            work.source.close()
            work.target.close()
            with contextlib.suppress(OSError):
                os.unlink(work.target.name)

    def _step(self) -> None:
        if self._work is None:
            found = self._choose()
            if found is None:
                return
            self._work = self._begin(found)
            return
        try:
            next(self._work.steps)
        except StopIteration as end:
            self._finish(self._work, end.value)

    def _choose(self) -> str | None:
        """The name of the oldest segment to compress now; None if there is none, and then `_next` says when to look."""
        policy, manifest = self._policy, self._manifest
        names = sorted(manifest.sealed.copy())
        self._next = None
        waiting = []
        for name in names[: max(0, len(names) - policy.after_segments)]:
            one: Sealed | None = manifest.sealed.get(name)
            if one is None or not one.frames or one.damaged or name in manifest.compressed or name in self._left_alone:
                continue
            age = time.time() - one.ended
            if policy.after_seconds is not None and age < policy.after_seconds:
                # A clock that was set back makes it younger than it is: it is looked at again after such a time.
                waiting.append(min(policy.after_seconds, policy.after_seconds - age))
                continue
            self._next = 0.0
            return name
        if waiting:
            self._next = time.monotonic() + min(waiting)
        return None

    def _begin(self, name: str) -> _Work | None:
        path = os.path.join(self._directory, name)
        try:
            source = open_regular(path)
        except FileNotFoundError:
            # Removed, or lost.
            self._left_alone.add(name)
            return None
        try:
            size = os.fstat(source.fileno()).st_size
            known = self._manifest.sealed.get(name)
            if known is None or known.bytes != size:
                self._left_alone.add(name)
                # Of one that retention has removed since it was opened, nothing is to be told.
                if known is not None:
                    self._tell(logging.WARNING, "%s is not as it was sealed, and is not compressed", name)
                source.close()
                return None
            # What an attempt has left, or somebody's pipe, which nobody may read.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + COMPRESSED + UNFINISHED)
            target = io.FileIO(path + COMPRESSED + UNFINISHED, "x+b", opener=open_private)
        except BaseException:
            source.close()
            raise
        steps = copy_sealed(source, size, target, self._deframer, level=self._policy.level, threads=0)
        return _Work(name, source, target, steps)

    def _finish(self, work: _Work, report: SealReport) -> None:
        """Gives the new file its name, and removes the plain one."""
        plain = os.path.join(self._directory, work.name)
        status = os.fstat(work.source.fileno())
        # Readers and the retention go by the time of the last frame.
        os.utime(work.target.name, ns=(status.st_atime_ns, status.st_mtime_ns))
        with contextlib.suppress(OSError):
            os.chmod(work.target.name, status.st_mode & 0o7777)
        work.source.close()
        work.target.close()
        with self.lock:
            # A write that found the disk full may have removed it meanwhile.
            if work.name in self._manifest.sealed and os.path.exists(plain):
                os.replace(work.target.name, plain + COMPRESSED)
                self._manifest.compressed[work.name] = report.stored_size
        if work.name not in self._manifest.compressed:
            self.stop()
            return
        try:
            sync_folder(plain)
            write_manifest(self._directory, self._manifest)
        except BaseException:
            with self.lock, contextlib.suppress(OSError):
                if os.path.exists(plain):
                    self._manifest.compressed.pop(work.name, None)
                    os.unlink(plain + COMPRESSED)
            raise
        with self.lock, contextlib.suppress(FileNotFoundError):
            os.unlink(plain)
        sync_folder(plain)
        self._work = None
        self.problem = None
        self._tell(logging.INFO, "compressed %s from %d to %d bytes", work.name, report.size, report.stored_size)

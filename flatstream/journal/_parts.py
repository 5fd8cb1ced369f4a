"""The segments of a journal as one source: for the decoder of a JournalReader.

The decoder sees the bytes of the segments one after the other. `Parts` opens the next segment when the decoder has come
to the end of one, and knows which number the frame has that was read last. While the segment that is read is the last
one and the reader follows, `Parts` is also the follower of that file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, NamedTuple

from flatstream._endpoints import Source
from flatstream._files import sync, sync_folder
from flatstream._follow import LONGEST_PAUSE, PATH_INTERVAL, SHORTEST_PAUSE, Follower, Watch, open_watch
from flatstream.description import Description
from flatstream.framing import Deframer
from flatstream.journal._heads import newest_description, read_description
from flatstream.journal._layout import (
    Manifest,
    Sealed,
    Segment,
    list_segments,
    read_manifest,
    segment_name,
    segments_behind,
)
from flatstream.journal._numbers import find_first_frame, plain_deframer
from flatstream.journal._segment_files import SegmentFile, is_compressed_file, open_segment, read_at, size_of
from flatstream.journal._segment_map import SegmentMap, count_frames, map_segment

__all__ = ["UNKNOWN", "Gap", "Parts", "Start", "list_complete", "logger", "next_after"]

logger = logging.getLogger("flatstream.journal")

# The identity of a journal whose file `journal.json` is lost.
UNKNOWN = "0" * 32


class Gap(NamedTuple):
    """Numbers of which a reader gave no frame.

    Attributes
    ----------
    first : int
        The first of them.
    next : int
        The number behind the last one.
    lost_bytes : int
        How many damaged bytes stand there; 0 if the frames were removed by the retention, or never written because the
        disk was full.
    segment : str
        The path of the segment in which, or behind which, they are missing.
    """

    first: int
    next: int
    lost_bytes: int
    segment: str


class Start(NamedTuple):
    """Where reading begins: an open segment, an offset in it, and the number of the frame there. `wanted` is the number
    that was asked for.
    """

    segment: Segment | None
    file: SegmentFile | None
    offset: int
    number: int
    wanted: int
    lost_bytes: int = 0


class _Anchor(NamedTuple):
    """A place in a part whose number is known: the next frame there has `number`. The decoder had delivered and refused
    so many frames; `refused` is -1 if what was refused before belongs behind the place.
    """

    number: int
    delivered: int
    refused: int
    offset: int


class _Part:
    """A segment that is read.

    Attributes
    ----------
    base : int
        The stream offset of the first byte of the file; negative if reading began in the middle.
    begin : int
        The offset in the file where reading began.
    delivered, refused : int
        How many frames the decoder had delivered and refused before.
    start : int
        The number of the frame at `begin`.
    last : int
        The number of the last frame that was delivered before.
    journal : str
        The identity of its journal.
    gaps : list of Gap
        Those before the part.
    """

    def __init__(
        self, segment: Segment, file: SegmentFile, base: int, anchor: _Anchor, last: int, journal: str, gaps: list[Gap]
    ) -> None:
        status = os.fstat(file.fileno())
        # That of the file which is read: the segment may have been compressed since it was listed.
        self.path, self.first = str(file.name), segment.first
        self.file = file
        self.is_compressed = is_compressed_file(file)
        self.identity = (status.st_dev, status.st_ino)
        self.base = base
        self.begin = anchor.offset
        self.delivered = anchor.delivered
        self.refused = anchor.refused
        self.start = anchor.number
        self.anchor = anchor
        self.last = last
        self.journal = journal
        self.gaps = gaps
        # Made when damage is met; and the one by which the anchor's number was found.
        self.map: SegmentMap | None = None
        self.anchor_map: SegmentMap | None = None
        # When the folder had been changed last before the map was made.
        self.map_time = 0
        # What it begins with, once that is known.
        self.description: Description | None = None
        self.is_description_known = False
        # Whether the folder was synced since the part was opened.
        self.is_name_synced = False

    def size(self) -> int:
        return size_of(self.file)

    def is_in_place(self) -> bool | None:
        """Whether the file is at its path; None if nothing is there."""
        try:
            status = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return (status.st_dev, status.st_ino) == self.identity


class _State(NamedTuple):
    """What is read. One object, so that a signal between two statements never leaves a half of a change."""

    part: _Part | None
    follower: Follower | None


def list_complete(directory: str) -> list[Segment]:
    """The segments in a folder, none missing between two others.

    A listing that is made while files are created can have a later one and not an earlier one. A second listing has all
    that were created before the last one of the first.
    """
    seen = list_segments(directory)
    return [segment for segment in list_segments(directory) if seen and segment.first <= seen[-1].first]


def next_after(segments: list[Segment], first: int) -> Segment | None:
    """The first of the sorted segments that begins behind the number `first`."""
    at = bisect_right(segments, first, key=lambda segment: segment.first)
    return segments[at] if at < len(segments) else None


class Parts:
    """The segments in a folder, from a start on. See `flatstream._core.stream.decoder.Decoder`, `parts` and `follower`.

    The decoder calls all methods but `wait` while it is held.

    Parameters
    ----------
    directory : str
        The folder, an absolute path.
    deframer : Deframer
        That of the reader.
    manifest : Manifest or None
        The content of `journal.json`, as it was read before `start` was found.
    start : Start
        Where reading begins. Its file belongs to this object.
    check : callable
        Gets the Manifest of a journal that is found later, and raises ValueError if it cannot be read on.
    """

    def __init__(
        self,
        directory: str,
        deframer: Deframer,
        manifest: Manifest | None,
        start: Start,
        *,
        follow: bool,
        check: Callable[[Manifest], None],
    ) -> None:
        self.directory = directory
        self._plain = plain_deframer(deframer)
        self._check = check
        self._follow = follow
        self.id = UNKNOWN if manifest is None else manifest.id
        # Where `readinto` reads, in the stream. The decoder sets it.
        self.position = 0
        self._taken_end = 0
        # What the folder was found to hold; it may hold more.
        self._segments: list[Segment] = []
        # Whether the folder may hold another segment than the one that is followed. Set by any thread.
        self.folder_changed = True
        # The part whose journal was replaced by another one since.
        self._replaced: _Part | None = None
        self._folder_time = -1
        self._noted: tuple[str, int] | None = None
        self._watch: Watch | None = None
        self._watch_process = 0
        self._closed = False
        self._start_number = start.number
        gaps = []
        part = None
        if start.segment is not None and start.file is not None:
            if start.number > start.wanted:
                gaps = [Gap(start.wanted, start.number, start.lost_bytes, start.segment.path)]
            anchor = _Anchor(start.number, 0, 0, start.offset)
            part = _Part(start.segment, start.file, -start.offset, anchor, start.number - 1, self.id, gaps)
        self._state = _State(part, None)
        if follow:
            self._state = self._entered(part)

    def source(self) -> Source:
        """The Source for a StreamReader."""
        arguments: dict[str, Any] = {
            "readinto": self.readinto,
            "error_takes_nothing": True,
            "parts": self,
            "seekable": True,
            "bytes_left": self.bytes_left,
        }
        if self._follow:
            arguments["follower"] = self
        return Source(self, arguments, owned=True)

    # For the decoder, of every part

    @property
    def is_growing(self) -> bool:
        """Whether the part is the last one, and is followed."""
        return self._state.follower is not None

    def readinto(self, buffer: memoryview) -> int:
        """Reads bytes of the part at `position`; returns how many, 0 at its end."""
        part, follower = self._state
        if part is None:
            return 0
        if follower is not None:
            follower.position = self.position - part.base
            return follower.readinto(buffer)
        at = self.position - part.base
        taken = read_at(part.file, at, buffer)
        self._taken_end = at + taken
        return taken

    def bytes_left(self) -> int:
        """How many bytes the part has behind those that were read."""
        part = self._state.part
        return 0 if part is None else part.size() - self._taken_end

    def begins_at(self, offset: int) -> bool:
        """Whether the part begins at this stream offset: a description is expected there."""
        part = self._state.part
        return part is None or offset == part.base

    def advance(self, offset: int, delivered: int, refused: int) -> bool:
        """Begins the next part, or what was added to this one; False if there is neither.

        Parameters
        ----------
        offset : int
            The stream offset up to which the part was read.
        delivered, refused : int
            How many frames were delivered and refused so far.
        """
        part = self._state.part
        if self.is_growing:
            return False
        found = self._open_next(part)
        if found is None:
            if self._follow:
                self._state = self._entered(part)
            return False
        segment, file = found
        try:
            # The file has its final size since the next one is there.
            if part is not None and not self._is_replaced(part) and part.size() > offset - part.base:
                file.close()
                self._note_final(part)
                return True
            if (
                part is not None
                and not self._is_replaced(part)
                and segment.first != self._clean_end(part, delivered, refused)
            ):
                segment, file = self._nearest(part, segment, file)
            last, gaps = self._leave(part, delivered, refused, None if self._is_replaced(part) else segment.first)
            if self._is_replaced(part):
                last = segment.first - 1
            made = _Part(segment, file, offset, _Anchor(segment.first, delivered, refused, 0), last, self.id, gaps)
            state = self._entered(made) if self._follow else _State(made, None)
        except BaseException:
            file.close()
            raise
        self._state = state
        if part is not None:
            part.file.close()
        return True

    def _open_next(self, part: _Part | None) -> tuple[Segment, SegmentFile] | None:
        """Opens the segment behind `part`, the next one that exists."""
        listed = False
        if part is not None and not part.is_in_place():
            self._list(part)
            listed = True
            if self._is_replaced(part) and not self._follow:
                return None
        while True:
            found = self._next_in_list(part)
            if found is not None:
                try:
                    return found, open_segment(found)
                except FileNotFoundError:
                    # Removed since: by the retention, or because it was empty and the disk is full.
                    listed = False
            if listed:
                return None
            self._list(part)
            listed = True

    def _is_replaced(self, part: _Part | None) -> bool:
        """Whether another journal has taken the place of that of `part`."""
        return part is not None and self._replaced is part

    def _clean_end(self, part: _Part, delivered: int, refused: int) -> int:
        """The number behind the last frame of a part without damage that was read to its end; -1 for another one."""
        return part.anchor.number + delivered - part.anchor.delivered if refused == part.refused else -1

    def _nearest(self, part: _Part, segment: Segment, file: SegmentFile) -> tuple[Segment, SegmentFile]:
        """The segment behind `part`, if it is nearer than `segment`, which is open.

        A folder that is listed while segments are created may have shown a later one only. When it is listed again, now
        that this one exists, all before it are seen.
        """
        while True:
            self._list(part)
            found = self._next_in_list(part)
            if found is None or found.first >= segment.first:
                return segment, file
            with contextlib.suppress(FileNotFoundError):
                nearer = open_segment(found)
                file.close()
                return found, nearer

    def _list(self, part: _Part | None) -> None:
        """Lists the folder anew, and finds out whether it has another journal by now."""
        if part is None or part.is_in_place():
            if (part is None or self.id == UNKNOWN) and (manifest := self._manifest()) is not None:
                self._check(manifest)
                self.id = manifest.id
                if part is not None:
                    part.journal = manifest.id
        elif not self._is_replaced(part) and (manifest := self._manifest()) is not None and manifest.id != self.id:
            if self.id == UNKNOWN and part.is_in_place() is None:
                # Removed by the retention, as far as anybody knows.
                self.id = manifest.id
            else:
                self._begin_anew(part, manifest)
        self._segments = self._list_behind(part)

    def _list_behind(self, part: _Part | None) -> list[Segment]:
        """The segments behind `part`, in order; all if there is none or if the journal was made anew."""
        least = "" if part is None or self._is_replaced(part) else segment_name(part.path)
        try:
            return segments_behind(self.directory, least)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _begin_anew(self, part: _Part | None, manifest: Manifest) -> None:
        """Goes on with another journal that was made in the same folder."""
        if self._follow:
            self._check(manifest)
            logger.warning(
                "%s: the journal %s was replaced by %s: reading goes on at the first frame of that",
                self.directory, self.id, manifest.id,
            )  # fmt: skip
            self.id = manifest.id
        self._replaced = part

    def _manifest(self) -> Manifest | None:
        try:
            return read_manifest(self.directory)
        except OSError:
            return None

    # Numbers

    @property
    def journal(self) -> str:
        """The identity of the journal whose frames are read."""
        part = self._state.part
        known = self.id if part is None else part.journal
        if known == UNKNOWN and (part is None or part.is_in_place()) and (manifest := self._manifest()) is not None:
            # The writer made its first segment before it wrote this.
            return manifest.id
        return known

    def description(self) -> Description | None:
        """The description of the segment that is read; while that has no frame, of the one before it."""
        part = self._state.part
        if part is None:
            return None
        if not part.is_description_known and not part.file.closed:
            first = find_first_frame(part.file, self._plain)
            if first is None or not first.is_whole:
                before = [segment for segment in list_segments(self.directory) if segment.first < part.first]
                return newest_description(before, self._plain)
            part.description = read_description(part.file, self._plain)
            part.is_description_known = True
        return part.description

    def last_number(self, offset: int, delivered: int, refused: int) -> int:
        """The number of the last frame that was delivered. The arguments are those of `advance`."""
        part = self._state.part
        if part is None:
            return self._start_number - 1
        if part.map is not None and not part.map.is_final and self._folder_mtime() != part.map_time:
            self._note_final(part)
        anchor = part.anchor
        if refused != anchor.refused:
            found = self._anchor_at(part, offset - part.base, delivered, refused)
            if found is None:
                is_new = delivered <= part.delivered and anchor.number == part.start
                return part.last if is_new else anchor.number - 1
            anchor = found
        elif delivered <= part.delivered and anchor.number == part.start:
            return part.last
        return anchor.number + delivered - anchor.delivered - 1

    def _anchor_at(self, part: _Part, offset: int, delivered: int, refused: int) -> _Anchor | None:
        """The place behind the last intact frame before `offset` in the file, where damage lies before it; None if no
        intact frame was passed.
        """
        known = self._map_of(part, offset)
        anchor = part.anchor
        run = next((run for run in reversed(known.runs) if run.start < offset), None)
        if run is None or (offset >= run.end <= anchor.offset):
            return None
        if offset >= run.end:
            at, number = run.end, run.number + run.frames
        else:
            at, begin, number = offset, run.start, run.number
            if part.anchor_map is known and begin < anchor.offset:
                begin, number = anchor.offset, anchor.number
            number += count_frames(part.file, begin, offset, self._plain)[0]
        # In the middle of damage, or behind it, the frames there are not read yet.
        part.anchor = _Anchor(number, delivered, refused if at == offset else -1, at)
        part.anchor_map = known
        return part.anchor

    def _map_of(self, part: _Part, offset: int) -> SegmentMap:
        """What the segment holds, up to `offset` in the file at least."""
        known = part.map
        if known is not None and (known.is_final or offset <= known.end):
            return known
        part.map_time = self._folder_mtime()
        if self._state.part is part and self._state.follower is None:
            self._list(part)
            after = None if self._is_replaced(part) else next_after(list_complete(self.directory), part.first)
            if after is not None:
                part.map = self._make_map(part, after.first)
                return part.map
        part.map = self._provisional_map(part, part.anchor)
        return part.map

    def _provisional_map(self, part: _Part, anchor: _Anchor) -> SegmentMap:
        size, sealed = part.size(), self._sealed(part)
        if sealed is not None and sealed.bytes == size:
            # The writer was closed, and has noted how many frames it wrote.
            return map_segment(part.file, part.first, size, self._plain, next_known=sealed.next, is_final=False)
        return map_segment(
            part.file, anchor.number, size, self._plain, begin=anchor.offset, next_known=None, is_final=False
        )

    def _sealed(self, part: _Part) -> Sealed | None:
        """What the journal knows of the segment."""
        manifest = self._manifest()
        if manifest is None or manifest.id != part.journal:
            return None
        return manifest.sealed.get(segment_name(part.path))

    def _note_final(self, part: _Part) -> None:
        """Has the numbers behind damage found again: they are known exactly, if the segment has a successor by now."""
        if part.map is not None and not part.map.is_final:
            part.map = None
            part.anchor = part.anchor._replace(refused=-1)

    def _make_map(self, part: _Part, next_first: int | None) -> SegmentMap:
        sealed = self._sealed(part)
        # What a damaged segment was sealed with is an estimate, and may be too high.
        known = [number for number in (next_first, sealed and sealed.next) if number is not None]
        return map_segment(
            part.file, part.first, part.size(), self._plain, next_known=min(known, default=None), is_final=True
        )

    def _leave(self, part: _Part | None, delivered: int, refused: int, next_first: int | None) -> tuple[int, list[Gap]]:
        """The number of the last frame delivered when `part` was read to its end, and all gaps up to `next_first`."""
        if part is None:
            if next_first is not None and next_first > self._start_number:
                return self._start_number - 1, [Gap(self._start_number, next_first, 0, self.directory)]
            return self._start_number - 1, []
        last, gaps = part.last, []
        if refused == part.refused:
            end = part.anchor.number + delivered - part.anchor.delivered
            if delivered > part.delivered:
                last = end - 1
        else:
            if part.map is None or not part.map.is_final:
                part.map = self._make_map(part, next_first)
            end = part.map.next
            gaps = self._gaps_of(part, part.map.ranges)
            if part.map.last >= part.start:
                last = part.map.last
        if next_first is not None and next_first > end:
            gaps.append(Gap(end, next_first, self._bytes_cut_off(part), part.path))
        return last, [*part.gaps, *gaps] if gaps else part.gaps

    def _bytes_cut_off(self, part: _Part) -> int:
        """How many bytes the segment had when it was sealed and has no more."""
        sealed = self._sealed(part)
        return 0 if sealed is None else max(0, sealed.bytes - part.size())

    def _gaps_of(self, part: _Part, ranges: Any) -> list[Gap]:
        found = [one for one in ranges if one.start >= part.begin]
        return [Gap(one.first, one.next, one.end - one.start, part.path) for one in found]

    def gaps(self, offset: int, refused: int) -> list[Gap]:
        """The gaps before the last frame delivered. The arguments are those of `advance`."""
        part = self._state.part
        if part is None:
            return []
        if refused == part.refused:
            return list(part.gaps)
        end = offset - part.base
        known = self._map_of(part, end)
        if not known.is_final:
            known = self._provisional_map(part, _Anchor(part.first, 0, 0, 0))
        # A range in which the position lies is not passed yet.
        return [*part.gaps, *self._gaps_of(part, [one for one in known.ranges if one.end < end])]

    # For the decoder, of a part that is followed

    def _entered(self, part: _Part | None) -> _State:
        """The state in which `part` is read. Only if it is the last one, it is followed."""
        if part is None or next_after(self._segments, part.first) is None:
            # The watch is set before the folder is listed, so that each later change is reported.
            waits = part is None or self._is_replaced(part)
            follower: Follower
            if part is None or waits:
                follower = _FolderFollower(self)
            elif part.is_compressed:
                follower = _CompressedFollower(self, part)
            else:
                follower = _SegmentFollower(self, part)
            self._list(part)
            if waits == (part is None or self._is_replaced(part)) and self._next_in_list(part) is None:
                return _State(part, follower)
            follower.close()
        return _State(part, None)

    def _next_in_list(self, part: _Part | None) -> Segment | None:
        return next_after(self._segments, -1 if part is None or self._is_replaced(part) else part.first)

    def look(self, offset: int) -> int:
        """The number of bytes that the part has from the stream offset on; 0 if it is final, so that `is_growing` ends.

        Raises
        ------
        OSError
            ESTALE: the segment was cut, or replaced by another file of the same journal.
        """
        if self.folder_changed:
            self.folder_changed = False
            try:
                is_last = self._is_last(offset)
            except BaseException:
                self.folder_changed = True
                raise
            if not is_last:
                self._end_following()
                return 0
        part, follower = self._state
        if part is None or follower is None:
            return 0
        try:
            return follower.look(offset - part.base)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            manifest = self._manifest()
            if manifest is None or manifest.id == self.id:
                raise _stale(f"the segment was cut to {part.size()} bytes", part, offset) from None
            self._begin_anew(part, manifest)
            self._end_following()
            return 0

    def _is_last(self, offset: int) -> bool:
        """Whether no segment is behind the part that is followed, and no other journal took its place."""
        part = self._state.part
        self._list(part)
        if part is not None and not self._is_replaced(part) and part.is_in_place() is False:
            raise _stale("the segment was replaced by another file", part, offset)
        if self._is_replaced(part) and not isinstance(self._state.follower, _FolderFollower):
            return False
        return self._next_in_list(part) is None

    def _end_following(self) -> None:
        part, follower = self._state
        self._state = _State(part, None)
        if part is not None:
            self._note_final(part)
        if follower is not None:
            follower.close()

    def holds_more(self) -> bool:
        """Whether the folder seems to hold more than the part that is followed. Any thread may call it."""
        part = self._state.part
        try:
            found = bool(self._list_behind(part)) or (
                part is not None and not self._is_replaced(part) and not part.is_in_place()
            )
        except OSError:
            return False
        if found:
            self.folder_changed = True
        return found

    def has_folder_changed(self) -> bool:
        """Whether the folder has another modification time than at the last call."""
        before, self._folder_time = self._folder_time, self._folder_mtime()
        return self._folder_time != before

    def _folder_mtime(self) -> int:
        try:
            return os.stat(self.directory).st_mtime_ns
        except OSError:
            return 0

    def wait(self, seconds: float) -> None:
        """Waits until there may be another frame, for at most `seconds` and at most about one second."""
        follower = self._state.follower
        if follower is not None:
            follower.wait(seconds)

    @property
    def size(self) -> int:
        """The stream offset at which the part ended when it was looked at."""
        part, follower = self._state
        return 0 if part is None or follower is None else part.base + follower.size

    def settle(self, offset: int) -> bool:
        """See `Follower.settle`, as for the methods that follow; offsets are those of the stream."""
        follower, at = self._followed(offset)
        return follower.settle(at)

    def only_zeros(self, offset: int) -> bool:
        """See `Follower`."""
        follower, at = self._followed(offset)
        return follower.only_zeros(at)

    def is_stalled(self, offset: int) -> bool:
        """See `Follower`."""
        follower, at = self._followed(offset)
        return follower.is_stalled(at)

    def note_search(self) -> None:
        """See `Follower`."""
        self._followed(0)[0].note_search()

    def read_bytes(self, offset: int, size: int) -> memoryview:
        """See `Follower`."""
        follower, at = self._followed(offset)
        return follower.read_bytes(at, size)

    def _followed(self, offset: int) -> tuple[Follower, int]:
        part, follower = self._state
        assert part is not None
        assert follower is not None
        return follower, offset - part.base

    def note_damage(self, error: Exception) -> None:
        """Logs damage in the segment that is written: reading goes on when the next segment is there."""
        part = self._state.part
        if part is None:
            return
        place = (part.path, getattr(error, "offset", 0) or 0)
        if place != self._noted:
            self._noted = place
            logger.warning(
                "%s: damage at offset %d, in the segment that is written: reading waits until the next one begins (%s)",
                part.path, place[1] - part.base, error,
            )  # fmt: skip

    def sync(self) -> None:
        """Returns when the disk has the segment that is read, and its name. A sync writes what the system has of a
        file, whoever wrote it.
        """
        part = self._state.part
        if part is None or part.file.closed:
            return
        sync(part.file.fileno())
        if not part.is_name_synced:
            sync_folder(part.path)
            part.is_name_synced = True

    # The end

    def watch(self) -> Watch | None:
        """An inotify instance that watches the folder; None if there is none. A child process makes its own."""
        # Another thread may close the reader meanwhile.
        watch = self._watch
        if watch is None or self._watch_process != os.getpid():
            watch = self._watch = open_watch()
            self._watch_process = os.getpid()
        if watch is not None:
            # Again, because the folder may have been made anew. For the same one, this changes nothing.
            watch.number = watch.add_folder(self.directory)
        return watch

    def close(self) -> None:
        """Closes the segment, and wakes the threads that wait."""
        part, follower = self._state
        self._closed = True
        if follower is not None:
            follower.close()
        self._watch = None
        if part is not None:
            part.file.close()


def _stale(reason: str, part: _Part, offset: int) -> OSError:
    error = OSError(
        errno.ESTALE, f"{reason}, and {offset - part.base} bytes of it were read: open the journal again", part.path
    )
    error.offset = offset  # type: ignore[attr-defined]
    return error


class _SegmentFollower(Follower):
    """The follower of the last segment of a journal. Its waits end when another segment is in the folder, too."""

    def __init__(self, parts: Parts, part: _Part) -> None:
        self._parts = parts
        self._number = -1
        assert isinstance(part.file, io.FileIO)
        super().__init__(part.file, part.path)

    def _make_watch(self) -> Watch | None:
        watch = self._parts.watch()
        if watch is None:
            return None
        self._number = watch.add_file(self._file)
        return watch if self._number >= 0 else None

    def _look_up(self, now: float) -> bool:
        self._next_lookup = now + PATH_INTERVAL
        return self._parts.holds_more()

    def wait(self, seconds: float) -> None:
        if self._watch is None and self._parts.has_folder_changed():
            self._next_lookup = 0.0
        super().wait(seconds)

    def close(self) -> None:
        self._closed = True
        watch = self._watch
        if watch is not None and self._process == os.getpid():
            # That is reported, and so wakes the threads that wait.
            watch.remove(self._number)
        self._watch = None


class _NextFollower(Follower):
    """Waits for the next segment of a journal, behind what is not written any more."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pause = SHORTEST_PAUSE
        self.position = self.size = 0
        self._closed = False
        self._process = os.getpid()
        self._watch = parts.watch()

    def wait(self, seconds: float) -> None:
        if self._closed or self._parts.holds_more():
            return
        watch = self._watch
        if os.getpid() != self._process:
            self._process = os.getpid()
            watch = self._watch = self._parts.watch()
        seconds = min(seconds, PATH_INTERVAL)
        if watch is None or watch.number < 0:
            time.sleep(min(seconds, self._pause))
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return
        # Reports that another thread has taken are not waited for longer than a pause of polling.
        watch.wait(min(seconds, LONGEST_PAUSE) if threading.active_count() > 1 else seconds)
        watch.take_events()
        with contextlib.suppress(OSError):
            self._parts.watch()

    def close(self) -> None:
        self._closed = True
        watch = self._watch
        if watch is not None and self._process == os.getpid():
            watch.wake()
        self._watch = None


class _FolderFollower(_NextFollower):
    """Waits for the first segment of a journal."""

    def look(self, offset: int) -> int:
        return 0

    def readinto(self, buffer: memoryview) -> int:
        return 0


class _CompressedFollower(_NextFollower):
    """The follower of a last segment that is compressed, because all behind it were lost: it does not grow."""

    def __init__(self, parts: Parts, part: _Part) -> None:
        super().__init__(parts)
        self._compressed = part
        self.size = part.size()

    def look(self, offset: int) -> int:
        return self.size - offset

    def readinto(self, buffer: memoryview) -> int:
        return read_at(self._compressed.file, self.position, buffer)

    def _read_at(self, offset: int, buffer: memoryview) -> int:
        taken = 0
        while taken < len(buffer) and (count := read_at(self._compressed.file, offset + taken, buffer[taken:])):
            taken += count
        return taken

    def only_zeros(self, offset: int) -> bool:
        return not self.read_bytes(offset, self.size - offset).tobytes().strip(b"\x00")

    def settle(self, offset: int) -> bool:
        return False

    def is_stalled(self, offset: int) -> bool:
        return False

    def note_search(self) -> None:
        pass

"""JournalReader: reads all segments of a journal as one stream."""

from __future__ import annotations

import contextlib
import io
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from flatstream._core.stream.decoder import DEFAULT_RESYNC_WINDOW, iterates_in_c
from flatstream._core.stream.memory_policy import MemoryPolicy
from flatstream._files import sync_folder
from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.description import Description
from flatstream.detection import detect
from flatstream.errors import FlatStreamError
from flatstream.framing import Deframer, as_deframer
from flatstream.journal._heads import newest_description
from flatstream.journal._layout import (
    MANIFEST,
    Manifest,
    cursor_path,
    list_segments,
    may_be_of_journal,
    read_cursor,
    read_manifest,
    write_atomically,
)
from flatstream.journal._numbers import plain_deframer
from flatstream.journal._parts import UNKNOWN, Gap, Parts, Start, logger
from flatstream.journal._segment_files import open_segment
from flatstream.journal._start import check_start, find_start
from flatstream.journal.cursor import Cursor
from flatstream.reader import StreamReader

if TYPE_CHECKING:
    from flatstream.reader import _OnError

__all__ = ["JournalReader"]

# The checksum of a journal of which nothing is there yet: that of a JournalWriter by default.
USUAL_CHECKSUM = "xxhash64"


@iterates_in_c
class JournalReader(StreamReader):
    """Reads the frames of a journal: all segments in order, as one stream.

    All that a `StreamReader` does, it does across the segments. Each frame has a number for ever, counted from 0.

    Parameters
    ----------
    directory : path
        The folder of the journal.
    checksum : Checksum, ChecksumType or str, optional
        By default that of the journal, which `journal.json` says; if that file is lost, it is detected.
    deframer : Deframer, optional
        Instead of `checksum`: a validator or observer around it, or a format of one's own.
    follow : bool
        At the end, reads wait for further frames, across all that a writer does: new segments, removal of old ones,
        its restart. A journal that is made anew in the same folder is read from its first frame. See docs/journal.md.
    start : "oldest", "newest", int, Cursor or datetime
        The first frame there is; only frames that are written from now on; a number, or -n for the newest n; a place;
        or a time with a time zone: by the time fields of the description, as with `time`; without any, the first
        segment that was written to since, by its modification time. If the frames there were removed, reading begins at
        the oldest, and tells a gap. A cursor above the end, as after a power cut, begins at the end, with a warning to
        the log.
    name : str, optional
        Registers the reader: it begins where it last called `commit`, and at `start` for the first time. Retention
        keeps the segments that it needs.
    time : (Table, str) or (Table, str, str), optional
        With a datetime: the field with the time of a message, and its unit, "s", "ms", "us" or "ns" (the default).
        Reading begins exactly at the first message that is not before `start`. Times should not decrease.
    on_error : {"resync", "raise", "skip", "stop"}
        As for a StreamReader; no damage reaches beyond its segment. In the segment that is written, "resync" while
        following waits at damage until the next segment begins.
    capacity, memory_policy, resync_window
        See `StreamReader`.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong; the checksum is not that of the journal; `start` is a number above the end, or a cursor of
        another journal.
    FlatStreamError
        The folder is no journal: it has files, and none of a journal. (An empty one may become a journal: it has no
        frames. With `follow`, so has any other.)
    OSError
        The folder or a segment cannot be read. ESTALE, from every read: the followed segment was cut or replaced.

    Notes
    -----
    After a crash between the delivery of a frame and `commit`, the frame is given again: at least once. Whoever stores
    the number together with the result has it exactly once::

        with JournalReader("events", name="totals") as reader:
            for payload in reader:
                if reader.number >= table.next_number:
                    table.store(payload, next_number=reader.number + 1)
            reader.commit()
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        checksum: Checksum | ChecksumType | str | None = None,
        *,
        deframer: Deframer | None = None,
        follow: bool = False,
        start: Literal["oldest", "newest"] | int | Cursor | datetime = "oldest",
        name: str | None = None,
        time: tuple[Any, str] | tuple[Any, str, Literal["s", "ms", "us", "ns"]] | None = None,
        on_error: _OnError = "resync",
        capacity: int | None = None,
        memory_policy: MemoryPolicy | None = None,
        resync_window: int = DEFAULT_RESYNC_WINDOW,
    ) -> None:
        if not isinstance(directory, (str, os.PathLike)):
            raise TypeError(f"directory must be a path, got {directory!r:.100}")
        if not isinstance(follow, bool):
            raise TypeError(f"follow must be a bool, got {follow!r:.100}")
        folder = os.path.abspath(os.fspath(directory))
        if not isinstance(folder, str):
            raise TypeError(f"directory must be a path of str, got {directory!r:.100}")
        is_cursor = isinstance(start, Cursor)
        field = check_start(start.number if isinstance(start, Cursor) else start, time)
        self._cursor_path = None if name is None else cursor_path(folder, name)
        # Raises for a folder that does not exist, and for a file.
        names = os.listdir(folder)
        manifest = read_manifest(folder)
        if manifest is None and not follow and not all(map(may_be_of_journal, names)) and not list_segments(folder):
            raise FlatStreamError(f"{folder} is no journal: it has other files, and no segments and no {MANIFEST}")
        made, kind = _deframer(folder, checksum, deframer, manifest)

        def check(found: Manifest) -> None:
            _check_checksum(folder, kind, found)

        place: Any = start
        is_registered = False
        before = None if self._cursor_path is None else read_cursor(self._cursor_path)
        if (found := before) is not None:
            is_registered = _is_of(found, manifest)
            if is_registered:
                place, is_cursor = found, True
            else:
                logger.warning("%s is of another journal: reading begins at %s", self._cursor_path, start)
        if isinstance(place, Cursor):
            if not _is_of(place, manifest):
                raise ValueError(
                    f"the cursor is one of the journal {place.journal}, and {folder} has the journal "
                    f"{UNKNOWN if manifest is None else manifest.id}"
                )
            place = place.number

        def clamp(end: int) -> None:
            logger.warning(
                "%s ends before frame %d, and the cursor is at %d: the frames between were lost, and their numbers "
                "will be used again", folder, end, place,
            )  # fmt: skip

        if self._cursor_path is not None and not is_registered:
            # First of all, so that nothing is removed while the place is looked for.
            oldest = next((segment.first for segment in list_segments(folder)), 0)
            _store(self._cursor_path, Cursor(UNKNOWN if manifest is None else manifest.id, oldest))
        try:
            begin = find_start(folder, place, made, field, manifest=manifest, clamp=clamp if is_cursor else None)
            parts = _parts(folder, made, manifest, begin, follow, check)
            super().__init__(
                parts.source(),
                made,
                capacity=capacity,
                memory_policy=memory_policy,
                allow_empty=False,
                on_error=on_error,
                resync_window=resync_window,
            )
        except BaseException:
            if self._cursor_path is not None and not is_registered:
                if before is not None:
                    _store(self._cursor_path, before)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self._cursor_path)
            raise
        self._parts = parts
        # What they were when the reader was closed.
        self._closed_at: tuple[Cursor, list[Gap]] | None = None
        if self._cursor_path is not None and not is_registered:
            try:
                self.commit()
            except BaseException:
                self.close()
                raise

    # Where reading is

    @property
    def directory(self) -> str:
        """The folder of the journal, an absolute path."""
        return self._parts.directory

    @property
    def source(self) -> Any:
        """The folder; None after `close`."""
        return None if self.closed else self.directory

    @property
    def id(self) -> str:
        """The identity of the journal, 32 hexadecimal digits; zeros if its `journal.json` is lost."""
        return self._parts.journal

    @property
    def number(self) -> int:
        """The number of the last frame delivered, of a batch its last one; -1 before the first."""
        return self.position - 1 if self.frames_read else -1

    @property
    def position(self) -> int:
        """The number behind the last frame delivered, or where reading began: where a reader goes on."""
        if self._closed_at is not None:
            return self._closed_at[0].number
        return self._parts.last_number(self.offset, self.frames_read, self._frames_refused) + 1

    @property
    def cursor(self) -> Cursor:
        """The `position` and the `id`: a `start` for another reader, to go on there. ``str(cursor)`` can be stored."""
        if self._closed_at is not None:
            return self._closed_at[0]
        return Cursor(self._parts.journal, self.position)

    @property
    def gaps(self) -> list[Gap]:
        """The numbers before `position` of which no frame was given, since reading began."""
        if self._closed_at is not None:
            return list(self._closed_at[1])
        return self._parts.gaps(self.offset, self._frames_refused)

    @property
    def description(self) -> Description | None:
        """The description with which the segment begins that is read; of the one before, while it has no frame."""
        return self._call_exclusively(self._parts.description)

    def _newest_description(self) -> Description | None:
        # The tables of the newest segment read the messages of older ones too: `Schema.check_evolution`.
        plain = plain_deframer(self.deframer)
        return newest_description(list_segments(self.directory), plain) or self.description

    def commit(self, cursor: Cursor | None = None) -> None:
        """Stores the `cursor` of a reader with a name, so that it goes on there. Returns when it is on the disk.

        Parameters
        ----------
        cursor : Cursor, optional
            An earlier place that the reader had: for who has read on, and knows only of the frames before it that they
            are safe.

        Raises
        ------
        TypeError, ValueError
            The reader has no name; `cursor` is no Cursor, of another journal than the one that is read now, or behind
            the place where the reader is.
        OSError
            The file cannot be written; it has its old content.
        """
        path = self._cursor_path
        if path is None:
            raise ValueError("commit is for a reader with a name: JournalReader(directory, name=...)")
        reached = self.cursor
        if cursor is None:
            cursor = reached
        elif not isinstance(cursor, Cursor):
            raise TypeError(f"cursor must be a Cursor or None, got {cursor!r:.100}")
        elif cursor.journal != reached.journal or not 0 <= cursor.number <= reached.number:
            raise ValueError(f"the reader is at {reached}, and cannot commit {cursor}: it is no earlier place of it")
        _store(path, cursor)

    def _sync(self) -> None:
        """Returns when the disk has the segment that is read, as far as its writer has handed it to the system, and its
        name.
        """
        self._parts.sync()

    # The end

    def close(self) -> None:
        """Closes the reader. Payloads already handed out stay valid, as do `cursor`, `number` and `gaps`."""
        if self.closed:
            return
        try:
            # Behind damage, this reads the segment again.
            at = (self.cursor, self.gaps)
        finally:
            super().close()
        self._closed_at = at

    def detach(self) -> tuple[Any, bytes | memoryview]:
        """Raises io.UnsupportedOperation: the source is many files. Store the `cursor` instead."""
        raise io.UnsupportedOperation("a JournalReader has no source to give back: its cursor is where another goes on")

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"from {self.directory!r:.100}"
        return f"<JournalReader {state}, {self.frames_read} frames>"


def _parts(folder: str, deframer: Deframer, manifest: Manifest | None, begin: Start, follow: bool, check: Any) -> Parts:
    try:
        return Parts(folder, deframer, manifest, begin, follow=follow, check=check)
    except BaseException:
        if begin.file is not None:
            begin.file.close()
        raise


def _is_of(cursor: Cursor, manifest: Manifest | None) -> bool:
    """Whether the cursor can be one of this journal."""
    return manifest is None or cursor.journal in (UNKNOWN, manifest.id)


def _deframer(
    folder: str, checksum: Checksum | ChecksumType | str | None, deframer: Deframer | None, manifest: Manifest | None
) -> tuple[Deframer, str | None]:
    """The deframer of a reader, and the name of its checksum if that can be compared with the journal's."""
    if deframer is not None:
        if checksum is not None:
            raise ValueError("expected a checksum or a deframer, got both")
        if not isinstance(deframer, Deframer):
            raise TypeError(f"deframer must be an instance of Deframer, got {deframer!r:.100}")
        return deframer, None
    if checksum is not None:
        made = as_deframer(checksum)
        kind = _kind_of(as_checksum(checksum))
        if manifest is not None:
            _check_checksum(folder, kind, manifest)
        return made, kind
    if manifest is not None:
        if manifest.checksum is None:
            raise ValueError(f"the journal in {folder} has frames of its writer's own: pass the deframer for them")
        kind = manifest.checksum
        return as_deframer(kind), kind
    for segment in list_segments(folder):
        with open_segment(segment) as file:
            found = detect(file).checksum
        if found is not None:
            return as_deframer(found), found.value
    return as_deframer(USUAL_CHECKSUM), USUAL_CHECKSUM


def _kind_of(checksum: Checksum) -> str | None:
    """The name of a built-in checksum, as in `journal.json`; None for another one."""
    return next((kind.value for kind in ChecksumType if type(kind.checksum()) is type(checksum)), None)


def _check_checksum(folder: str, kind: str | None, manifest: Manifest) -> None:
    if kind is not None and manifest.checksum is not None and manifest.checksum != kind:
        raise ValueError(f"the journal in {folder} has the checksum {manifest.checksum!r}, and the reader has {kind!r}")


def _store(path: str, cursor: Cursor) -> None:
    """Replaces a cursor file, and makes its folder if it does not exist. Returns when the disk has it."""
    data = f"{cursor}\n".encode()
    try:
        write_atomically(path, data)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        sync_folder(folder)
        write_atomically(path, data)

"""Recovery: how much of a stream is intact, and may the rest be cut off?

Only a torn tail may be cut off: the first bytes of a frame whose last bytes were never written, or the zero bytes that
a file system left in their place. Any other damage (a checksum that does not match, a length over the limit, a payload
that a validator refuses, a device that fails) is raised as an error, because cutting there could destroy intact frames,
or an intact file that is read in the wrong way. And a file of which no frame can be read is no stream.
"""

from __future__ import annotations

import enum
import errno
import io
import os
from bisect import bisect_left
from typing import Any, NamedTuple, Protocol

from flatstream._core.framing.transform import restores_payloads
from flatstream._core.stream.frame_search import (
    SearchStoppedError,
    evidence_bytes_of,
    find_frames,
    find_intact_frame,
    has_wrong_length,
    header_size_of,
    largest_of,
    trailing_zeros,
)
from flatstream._endpoints import has_known_size, is_path, open_source, size_of
from flatstream._file_types import begins_with_table, checksum_of_first_frame, looks_like
from flatstream._lock import lock_file, who_writes
from flatstream._remote import is_url
from flatstream.checksums import Checksum, ChecksumType
from flatstream.errors import (
    ChecksumMismatchError,
    FlatbufferError,
    FlatStreamError,
    InvalidFrameError,
    UnexpectedEofError,
    ValidationFailedError,
)
from flatstream.framing import Deframer, as_deframer, deframer_for
from flatstream.reader import FrameBatch, StreamReader

__all__ = ["RecoveryEnd", "RecoveryReport", "recover", "recover_file"]

# How many bytes are searched at a time, or 4 times as many as the longest payload has. Frames that begin and end within
# half of it are found. Without a checksum, a wrong length is not noticed at once: then as many bytes before a tear are
# searched, for frames that reach over it.
WINDOW = 16 << 20

# How many bytes of the stream are read to see what it is: whether its first frame has another checksum, for instance.
FIRST = 16 << 20

# How many bytes behind a tear are searched for frames with other checksums.
OTHERS = 1 << 20

# How many of them are kept of a source that cannot be read again.
ENOUGH_TO_NAME = 4096

# The checksum of 1 byte of zeros is often 0, like that of other numbers. With 2 bytes, zeros are told from a frame.
ENOUGH_FOR_ZEROS = 2

# A first frame of at most this many bytes is thought to be torn, if its bytes are not those of another format.
LONGEST_TORN = 64 << 20

GUARD_OFF = "guard=False reports a torn tail all the same"


class RecoveryEnd(enum.Enum):
    """How a stream ends."""

    CLEAN_EOF = "clean_eof"
    """With the last byte of a frame."""
    TORN_TAIL = "torn_tail"
    """Inside a frame: the bytes from ``last_good_offset`` on may be cut off."""
    NOT_A_STREAM = "not_a_stream"
    """There are bytes, and not one frame, nor the beginning of a description: perhaps a file of another format. Nothing
    may be cut off.
    """


class _Report(NamedTuple):
    frames: int
    last_good_offset: int
    end: RecoveryEnd


class RecoveryReport(_Report):
    """The result of `recover`: a tuple of three, with two more attributes, which are not compared.

    Attributes
    ----------
    frames : int
        How many intact frames the stream begins with, its description included.
    last_good_offset : int
        The offset in bytes at which the last of them ends; 0 if there is none.
    end : RecoveryEnd
        Whether the stream ends there, or a torn frame follows, or it is none.
    looks_like : str or None
        Only with NOT_A_STREAM: what the source seems to be. "gzip", "zstd", "Parquet", "Arrow", "PNG" and other
        formats, "text", "zeros", "a stream with the checksum crc32" (or another), or "a torn frame": a length that is
        not unusual, and fewer bytes behind it. None if nothing was recognized.
    being_written : str or None
        Only of `recover_file` with a path: the process that has the file open to write it, as text. What it has written
        half is no torn tail. None if no writer has locked the file.
    """

    _looks_like: str | None = None
    _being_written: str | None = None

    def __new__(  # noqa: D102 - as a tuple is made
        cls, frames: int, last_good_offset: int, end: RecoveryEnd, looks_like: str | None = None
    ) -> RecoveryReport:
        report = super().__new__(cls, frames, last_good_offset, end)
        if looks_like is not None:
            report._looks_like = looks_like
        return report

    @property
    def looks_like(self) -> str | None:
        """What the source seems to be, with NOT_A_STREAM."""
        return self._looks_like

    @property
    def being_written(self) -> str | None:
        """The process that has the file open to write it."""
        return self._being_written

    def __repr__(self) -> str:
        seems = "" if self.looks_like is None else f", looks_like={self.looks_like!r}"
        written = "" if self.being_written is None else f", being_written={self.being_written!r}"
        return f"{super().__repr__()[:-1]}{seems}{written})"


def recover(
    source: Any,
    deframer: Deframer | Checksum | ChecksumType | str | None = None,
    *,
    guard: bool = True,
    allow_empty: bool | None = None,
) -> RecoveryReport:
    """Reads a stream from the position of `source` to its end, and reports how much is intact. Nothing is changed.

    Parameters
    ----------
    source
        As for `StreamReader`. Its position afterwards is unspecified.
    deframer : Deframer, Checksum, ChecksumType or its name, optional
        The counterpart of the framer that wrote the stream.
    guard : bool
        Whether to search the bytes from a tear on for intact frames. If there is one, a length is damaged and the
        stream is not torn: then InvalidFrameError is raised instead of reporting a torn tail. The guard also tells zero
        bytes from frames, and a foreign file from a torn stream. Without it, the report is the same as the crate's.
    allow_empty : bool, optional
        Whether a payload may be empty. False refuses every empty frame, True takes each. By default an empty frame is
        taken unless nothing but zeros follows to the end of the stream; with ``guard=False`` it is always taken. A
        deframer that refuses empty payloads by itself goes on doing so.

    Returns
    -------
    RecoveryReport
        Offsets are relative to the first position of `source`. The end is TORN_TAIL also if zeros run to the end of the
        stream from anywhere in or behind the last frame (with a checksum of 2 bytes or more; with a shorter one, and
        without, from behind it, or if they make it incomplete). It is NOT_A_STREAM if there are bytes but no frame.

    Raises
    ------
    ChecksumMismatchError, InvalidFrameError, ValidationFailedError, FlatbufferError
        The stream is damaged, or not of this format, or its description is damaged. Cutting it here might destroy
        intact frames. The error's ``next_intact_offset`` is the offset of the nearest intact frame behind the damage,
        None if none was found or without the guard. In a source that is neither a buffer nor seekable, only 16 MiB are
        searched for it.
    InvalidFrameError
        Also if the search of the guard had to stop, in a long torn frame that is full of plausible lengths: not with a
        CRC, but with another checksum (with XXH3 also in more than about 8 MiB of random bytes).
    OSError
        From the source, as it is.

    Notes
    -----
    The guard accepts as evidence: one good frame with a checksum of 4 bytes or more; with a shorter one, several in a
    row, or one that ends where the stream does, or one whose payload has the structure that a FlatBuffers builder
    makes; without a checksum, several frames in a row with such payloads, or one from which frame follows frame to the
    end of the stream. A frame is good if its checksum matches and its validators accept it. A payload that contains a
    flatstream can be such evidence too. If payloads do, use ``guard=False``.

    At most 32 MiB of a file are held at a time, or 8 times the longest payload read. A compressed file is read as it
    is, and is no stream.

    Examples
    --------
    >>> recover(b"\\x03\\x00\\x00\\x00abc\\x09\\x00\\x00\\x00d")
    RecoveryReport(frames=1, last_good_offset=7, end=<RecoveryEnd.TORN_TAIL: 'torn_tail'>)
    """
    made = as_deframer(deframer, allow_empty=allow_empty)
    # Of a compressed file, the offsets of the stream would be taken for its own.
    with StreamReader(open_source(source, decompress=False), made) as reader:
        recovery = _Recovery(reader, made, guard, zeros_are_torn=guard and allow_empty is not True)
        try:
            recovery.read_to_end()
            return recovery.report_clean_end()
        except UnexpectedEofError as tear:
            try:
                return recovery.report_tear(tear)
            except FlatStreamError as error:
                # What the first bytes say of the stream.
                for note in getattr(tear, "__notes__", ()):
                    error.add_note(note)
                raise
        except (ChecksumMismatchError, InvalidFrameError, ValidationFailedError, FlatbufferError) as error:
            report = recovery.report_zeros(error)
            if report is None:
                if guard:
                    error.next_intact_offset = recovery.next_intact_offset(error)
                raise
            return report


def recover_file(
    file: Any,
    deframer: Deframer | Checksum | ChecksumType | str | None = None,
    *,
    guard: bool = True,
    allow_empty: bool | None = None,
) -> RecoveryReport:
    """Reads a file from its beginning, and reports how much is intact. Nothing is changed.

    Parameters
    ----------
    file : path, or seekable file object
        The position of a file object is left at ``last_good_offset``: after a torn tail, ``file.truncate()`` cuts it
        off, and writing can go on from there. If the end is NOT_A_STREAM, the position is left at the end of the file,
        so that ``file.truncate()`` cuts nothing. If an error is raised, the position is unspecified.
        A file object that can be written is locked until it is closed, so that no writer appends to it meanwhile.
    deframer, guard, allow_empty
        See `recover`.

    Returns
    -------
    RecoveryReport
        Offsets are relative to the beginning of the file. Of a path, ``being_written`` says whether a writer has it
        open. If the file grows meanwhile, the report is about the bytes up to the end that reading came to.

    Raises
    ------
    TypeError
        `file` is neither a path nor seekable.
    OSError
        With the number EBUSY: `file` can be written, and another writer has it open.
    ChecksumMismatchError, InvalidFrameError, ValidationFailedError, OSError
        See `recover`. If a writer has the path open, a note of the error says who: the last frame may be half written.
    """
    if is_url(file):
        return recover(file, deframer, guard=guard, allow_empty=allow_empty)
    if is_path(file):
        # It may have begun or ended in the meantime.
        before = who_writes(file)
        try:
            report = recover(file, deframer, guard=guard, allow_empty=allow_empty)
        except FlatStreamError as error:
            if writer := before or who_writes(file):
                error.add_note(f"a writer has the file open ({writer}): its last frame may be half written")
            raise
        report._being_written = before or who_writes(file)
        return report
    if not callable(getattr(file, "seek", None)):
        raise TypeError(f"file must be a path or a seekable file object, got {file!r:.100}")
    _lock_if_writable(file)
    file.seek(0)
    report = recover(file, deframer, guard=guard, allow_empty=allow_empty)
    if report.end is RecoveryEnd.NOT_A_STREAM:
        file.seek(0, os.SEEK_END)
    else:
        file.seek(report.last_good_offset)
    return report


def _lock_if_writable(file: Any) -> None:
    """Locks the file of a file object. Where there are no locks, nothing is locked."""
    # Of a temporary file that has a wrapper, the file itself. Other objects may do more than tell their descriptor when
    # they are asked for it (tempfile.SpooledTemporaryFile).
    file = getattr(file, "file", file)
    if not isinstance(file, (io.RawIOBase, io.BufferedIOBase)):
        return
    try:
        if not file.writable():
            return
        fd = file.fileno()
    except (OSError, ValueError):
        # It has no descriptor, or is closed.
        return
    name = getattr(file, "name", None)
    try:
        lock_file(fd, name if isinstance(name, str) else f"the file with the descriptor {fd}")
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise


class _Bytes(Protocol):
    """The bytes of a stream, by their offsets in it."""

    # The first offset that can be read.
    begin: int

    def read(self, begin: int, size: int) -> tuple[memoryview, bool]:
        """The bytes from `begin` on, `size` if there are so many, and whether the stream ends with them."""


class _Held:
    """Bytes in memory: a whole stream, or a part of it from `begin` on, with which it ends or not."""

    def __init__(self, data: memoryview, ends: bool = True, begin: int = 0) -> None:
        self.data, self.ends, self.begin = data, ends, begin

    def read(self, begin: int, size: int) -> tuple[memoryview, bool]:
        first = begin - self.begin
        return self.data[first : first + size], self.ends and first + size >= len(self.data)


class _File:
    """A seekable file whose position `origin` is the beginning of the stream, which ends at `end`, if that is known."""

    begin = 0

    def __init__(self, file: Any, origin: int, end: int | None) -> None:
        self.file, self.origin, self.end = file, origin, end

    def read(self, begin: int, size: int) -> tuple[memoryview, bool]:
        if self.end is not None and begin + size >= self.end:
            return self._read(begin, max(0, self.end - begin))[0], True
        return self._read(begin, size)

    def _read(self, begin: int, size: int) -> tuple[memoryview, bool]:
        self.file.seek(self.origin + begin)
        pieces: list[bytes] = []
        while size > 0 and (piece := self.file.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces)), size > 0


class _Recovery:
    """One call of `recover`."""

    def __init__(self, reader: StreamReader, deframer: Deframer, guard: bool, zeros_are_torn: bool) -> None:
        self.reader, self.deframer, self.guard = reader, deframer, guard
        self.zeros_are_torn = zeros_are_torn
        self.evidence_bytes = evidence_bytes_of(deframer)
        self.header_size = header_size_of(deframer)
        # The longest payload read.
        self.longest = 0
        # The offset and the number of the first of the last frames read, if they consist of zeros up to the last byte.
        self.zeros: tuple[int, int] | None = None
        self.origin = _position_of(reader.source)
        # Payloads that a transform restores are not what lies in the file.
        reader._keep_stored()
        self.size_is_known = self.origin is not None and has_known_size(reader.source)
        if self.size_is_known:
            reader._set_source_size(self._size)
        # Where the stream ended when that was seen. A file that somebody writes may have more bytes by now, with which
        # a frame that was half written is whole.
        self.end: int | None = None
        # If the source cannot be read again: the first bytes, and those from the frame on with which reading ended.
        self.first = b""
        self.last: _Held | None = None

    def _size(self) -> int:
        """The stream offset at which the file ends now."""
        assert self.origin is not None
        return size_of(self.reader.source) - self.origin

    @property
    def frames(self) -> int:
        """How many frames were read, with those that are no messages."""
        reader = self.reader
        return reader.frames_read + reader._control_frames + (reader._description_size > 0)

    def read_to_end(self) -> None:
        for batch in self.reader.batches():
            if not batch.stream_offset and self.origin is None and self.zeros_are_torn:
                self.first = bytes(_stored(batch)[:ENOUGH_TO_NAME])
            self.longest = max(self.longest, _longest_stored(batch))
            if self.zeros_are_torn and self.header_size is not None:
                self._note_zeros(batch)

    def _note_zeros(self, batch: FrameBatch) -> None:
        stored = _stored(batch)
        size = len(stored)
        zeros_begin = size - trailing_zeros(stored)
        if zeros_begin == 0 and self.zeros is not None:
            return
        # The length may have been written before the zeros begin. The zeros of a payload have the checksum 0 with
        # CRC-16, for instance.
        lead = 4 if self.evidence_bytes >= ENOUGH_FOR_ZEROS else 0
        begins = batch.frame_offsets
        first = bisect_left(begins, batch.stream_offset + zeros_begin - lead)
        self.zeros = None
        if zeros_begin < size and first < len(begins):
            self.zeros = begins[first], self.frames - len(begins) + first

    # What the end is

    def report_clean_end(self) -> RecoveryReport:
        self.end = self.reader.offset
        if self.zeros is not None:
            self._check_zeros(*self.zeros)
            return self._torn(*self.zeros)
        return RecoveryReport(self.frames, self.reader.offset, RecoveryEnd.CLEAN_EOF)

    def report_tear(self, tear: UnexpectedEofError) -> RecoveryReport:
        """The report of a stream that ends inside a frame; raises InvalidFrameError if it is not torn there."""
        offset, frames = self.reader.offset, self.frames
        self.last = _Held(self.reader._remaining(), True, offset)
        if tear.got is not None:
            self.end = offset + tear.got
        if self.zeros is not None and _is_zero(self._bytes_from(offset), offset):
            self._check_zeros(*self.zeros)
            return self._torn(*self.zeros)
        if self.guard:
            self._check_tear(tear, offset)
        return self._torn(offset, frames)

    def report_zeros(self, error: FlatStreamError) -> RecoveryReport | None:
        """The report of a stream that ends with zeros in which a frame was refused; None if it does not."""
        offset, end, frames = error.offset, self.reader.offset, self.frames
        if offset is None:
            return None
        if isinstance(error, InvalidFrameError):
            # Zero bytes that the file system left look like empty frames. No other invalid frame is a torn tail.
            if error.declared_len != 0 or not self._rest_is_zero(offset):
                return None
            if self.guard:
                self._check_zeros(*(self.zeros or (offset, frames)))
            return self._torn(*(self.zeros or (offset, frames)))
        if isinstance(error, ValidationFailedError) and restores_payloads(self.deframer):
            # A transform refuses zeros, behind a length that was written or in an empty frame.
            if not self.zeros_are_torn or not self._rest_is_zero(offset, lead=4):
                return None
            if self.guard:
                self._check_zeros(*(self.zeros or (offset, frames)))
            return self._torn(*(self.zeros or (offset, frames)))
        if not isinstance(error, ChecksumMismatchError) or end <= offset:
            return None
        if not self.zeros_are_torn or self.evidence_bytes < ENOUGH_FOR_ZEROS:
            return None
        stream = self._bytes_from(offset)
        if not _is_zero(stream, end - 1):
            return None
        if _is_zero(stream, offset):
            return self._torn(*(self.zeros or (offset, frames)))
        # Foreign files end with zeros too. And a wrong length can make a frame reach over others to the end.
        try:
            is_torn = frames and self._find_intact(offset) is None
        except SearchStoppedError:
            is_torn = False
        return self._torn(offset, frames) if is_torn else None

    def _rest_is_zero(self, offset: int, lead: int = 0) -> bool:
        """Whether all bytes are zero from the frame at `offset` on, with which reading ended.

        Of a stream that can be read again, the first `lead` bytes may be others.
        """
        stream = self._bytes_from(offset)
        if stream is not self.last or self.last.ends:
            return _is_zero(stream, offset + lead)
        return self.reader._rest_is_zero()

    def _torn(self, offset: int, frames: int) -> RecoveryReport:
        if frames and self.guard and not self.evidence_bytes:
            # Without a checksum, the frames that were read may be none, but parts of frames with one.
            self._check_other_checksums(0, *self._first_bytes(), offset)
            # The offset of its root, taken for a length, leads to bytes that may look like more frames.
            if begins_with_table(self._first_bytes()[0]):
                return RecoveryReport(0, 0, RecoveryEnd.NOT_A_STREAM, "a FlatBuffer")
        # The mark of a description tells a stream from a foreign file.
        if frames or not self.guard or self.reader._is_in_description:
            return RecoveryReport(frames, offset, RecoveryEnd.TORN_TAIL)
        first, is_all = self._first_bytes()
        seems = looks_like(first)
        if seems is None and not self.evidence_bytes and begins_with_table(first):
            seems = "a FlatBuffer"
        if seems is None and is_all and _may_be_torn(first, self.header_size or 4):
            seems = "a torn frame"
        return RecoveryReport(0, 0, RecoveryEnd.NOT_A_STREAM, seems)

    # The search for intact frames

    def _check_tear(self, tear: UnexpectedEofError, offset: int) -> None:
        """Raises InvalidFrameError if there are intact frames beyond the tear, which is at `offset`."""
        if not self.evidence_bytes:
            self._check_checksum(tear, "read without one")
        elif not offset:
            # No frame was read, so it is not certain that the stream has the checksum that it is read with.
            self._check_checksum(tear, "read with another")
        try:
            found = self._find_intact(offset)
        except SearchStoppedError:
            raise self._not_torn(
                tear,
                offset,
                "and the search for intact frames behind it had to stop, because these bytes are full of plausible "
                "lengths: it is not known whether the stream is torn. Nothing may be cut off here",
            ) from tear
        if found is None:
            self._check_other_checksums(offset, *self._bytes_from(offset).read(offset, OTHERS), offset)
            return
        reason = (
            "only the length of this frame is wrong, and the payload behind it is intact"
            if found == offset
            else f"an intact frame begins at stream offset {found}"
        )
        error = self._not_torn(tear, offset, f"but the stream is not torn: {reason}. Nothing may be cut off here")
        if found > offset:
            error.next_intact_offset = found
        raise error from tear

    def _check_zeros(self, offset: int, frames: int) -> None:
        """Raises InvalidFrameError if an intact frame ends with the zeros that begin at `offset`.

        Without a checksum, the frames read may not be those that were written.
        """
        if self.evidence_bytes or (self.origin is None and self.reader._whole_buffer() is None):
            return
        found = self._find_intact(offset)
        if found is not None:
            raise InvalidFrameError(
                f"zeros follow to the end of the stream, but the stream is not torn: the frame that begins at stream "
                f"offset {found} and those behind it lead to the end. Nothing may be cut off here; guard=False reports "
                "empty frames all the same",
                declared_len=0,
                offset=offset,
                frame=frames,
            )

    @staticmethod
    def _not_torn(tear: UnexpectedEofError, offset: int, reason: str) -> InvalidFrameError:
        return InvalidFrameError(
            f"the frame's length reaches {tear.needed} bytes, beyond the end of the stream, {reason}; {GUARD_OFF}",
            buffer_len=tear.got,
            offset=offset,
            frame=tear.frame,
        )

    def _check_checksum(self, tear: UnexpectedEofError, how: str) -> None:
        """Raises InvalidFrameError if the stream has another checksum than expected."""
        kind = checksum_of_first_frame(self._first_bytes()[0])
        if kind is None or kind is ChecksumType.NONE:
            return
        raise InvalidFrameError(
            f"the first frame is intact with the checksum {kind.value!r}, but the stream is {how}: was it written with "
            f"it? Nothing may be cut off here; {GUARD_OFF}",
            offset=0,
            frame=0,
        ) from tear

    def _check_other_checksums(self, begin: int, data: memoryview, at_end: bool, tear: int) -> None:
        """Raises InvalidFrameError if `data`, from the stream offset `begin` on, has frames with another checksum."""
        inner: Any = self.deframer
        while (wrapped := getattr(inner, "inner", None)) is not None:
            inner = wrapped
        at_end = at_end and len(data) <= OTHERS
        for kind in ChecksumType:
            if kind is ChecksumType.NONE or type(kind.checksum()) is type(getattr(inner, "checksum", None)):
                continue
            try:
                found = find_frames(deframer_for(kind), data[:OTHERS], 0, at_end, self.longest)
            except SearchStoppedError:
                continue
            if found is not None:
                raise InvalidFrameError(
                    f"the stream ends inside a frame, but an intact frame with the checksum {kind.value!r} begins at "
                    f"stream offset {begin + found}: was the stream written with it? Nothing may be cut off here; "
                    f"{GUARD_OFF}",
                    offset=tear,
                )

    def _find_intact(self, tear: int) -> int | None:
        """The offset of an intact frame that cutting the stream at `tear` would remove, or None.

        It is `tear` itself if only the length of the frame there is wrong.
        """
        stream = self._bytes_from(tear, history=not self.evidence_bytes)
        window, at_end = stream.read(tear, self._window())
        if not at_end:
            return self._next_intact(stream, tear + 1)
        begin = max(stream.begin, tear - WINDOW) if not self.evidence_bytes else tear
        if begin < tear:
            window, at_end = stream.read(begin, tear - begin + len(window))
        if len(window) < tear - begin:
            # Another process has truncated the file in the meantime.
            return None
        found = find_intact_frame(self.deframer, window, tear - begin, self.longest)
        return None if found is None else begin + found

    def _next_intact(self, stream: _Bytes, begin: int) -> int | None:
        """The offset of the nearest intact frame from `begin` on that was found. SearchStoppedError: none was found,
        and not everything was examined.
        """
        size = self._window()
        stopped: SearchStoppedError | None = None
        while True:
            window, at_end = stream.read(begin, size)
            if trailing_zeros(window) < len(window):
                try:
                    found = find_frames(self.deframer, window, 0, at_end, self.longest)
                except SearchStoppedError as error:
                    found, stopped = None, error
                if found is not None:
                    return begin + found
            if len(window) < size or at_end:
                if stopped is not None:
                    raise stopped
                return None
            # A frame of up to half a window that began in this one is whole in the next one.
            begin += size // 2

    def next_intact_offset(self, error: FlatStreamError) -> int | None:
        """The offset of the nearest intact frame behind the frame that was refused; None if none was found."""
        begin, end = error.offset, self.reader.offset
        if begin is None:
            return None
        try:
            stream = self._bytes_from(begin)
            nearest = self._next_intact(stream, begin + 1)
            if nearest is None or not begin < nearest < end:
                return nearest
            # Frames inside of the payload are not those of this stream, if the length is right.
            window, at_end = stream.read(end, self._window())
            if find_frames(self.deframer, window, 0, at_end, self.longest) != 0:
                return nearest
            # Or the length is wrong, and ends with another frame by accident: frames may all be of one size.
            return nearest if has_wrong_length(self.deframer, stream.read(begin, nearest - begin)[0]) else end
        except (SearchStoppedError, OSError):
            return None

    def _window(self) -> int:
        return max(WINDOW, 4 * self.longest)

    # Bytes

    def _bytes_from(self, offset: int, history: bool = False) -> _Bytes:
        """The bytes of the stream from the frame at `offset` on, the last one that was looked at. With `history`, also
        those before it, if they can be read again.
        """
        whole = self.reader._whole_buffer()
        if whole is not None:
            return _Held(memoryview(whole))
        if self.origin is not None and (self.size_is_known or history):
            return _File(self.reader.source, self.origin, self.end)
        if self.last is None:
            self.last = _Held(*self.reader._look_ahead(offset, WINDOW), offset)
        return self.last

    def _first_bytes(self) -> tuple[memoryview, bool]:
        """Up to FIRST bytes from the beginning of the stream on, if they can be read, and whether they are all."""
        if self.reader._whole_buffer() is not None or self.origin is not None:
            return self._bytes_from(0, history=True).read(0, FIRST)
        if self.first or self.frames:
            return memoryview(self.first), False
        stream = self._bytes_from(0)
        return stream.read(0, FIRST if self.last is None else len(self.last.data))


def _position_of(source: Any) -> int | None:
    """The position of a seekable file that can be read again; None for any other source."""
    seekable = getattr(source, "seekable", None)
    if not callable(seekable) or not callable(getattr(source, "read", None)) or not seekable():
        return None
    position = source.tell()
    return position if isinstance(position, int) else None


def _stored(batch: FrameBatch) -> memoryview:
    """The bytes of the frames of a batch, as they lie in the stream."""
    return batch.buffer if batch._stored is None else batch._stored


def _longest_stored(batch: FrameBatch) -> int:
    """About the length of the longest payload of a batch, as it is stored."""
    if batch._stored is None:
        return largest_of(batch.lengths)
    return max(end - begin for begin, end in map(batch._range_of, range(len(batch))))


def _is_zero(stream: _Bytes, begin: int) -> bool:
    """Whether all bytes from `begin` to the end of the stream are zero."""
    while True:
        window, at_end = stream.read(begin, FIRST)
        if trailing_zeros(window) < len(window):
            return False
        if at_end or len(window) < FIRST:
            return at_end
        begin += len(window)


def _may_be_torn(data: memoryview, header_size: int) -> bool:
    """Whether a stream of which these are all bytes may have been torn in its first frame."""
    return len(data) >= 4 and len(data) - header_size < int.from_bytes(data[:4], "little") <= LONGEST_TORN

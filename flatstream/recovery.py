"""Recovery: how much of a stream is intact, and may the rest be cut off?

Only a torn tail may be cut off: the first bytes of a frame whose last bytes were never written. Any other damage (a
checksum that does not match, a length over the limit, a payload that a validator refuses, a device that fails) is
raised as an error, because cutting there could destroy intact frames, or an intact file that is read in the wrong way.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from flatstream._core.stream.frame_search import find_intact_frame, needs_history
from flatstream._endpoints import is_path
from flatstream.checksums import Checksum, ChecksumType
from flatstream.errors import FlatStreamError, InvalidFrameError, UnexpectedEofError
from flatstream.framing import Deframer, as_deframer
from flatstream.reader import StreamReader

__all__ = ["RecoveryEnd", "RecoveryReport", "recover", "recover_file"]

# Without a checksum, a wrong length is not noticed at once. Then the guard also searches this many bytes before a tear.
# It does not find a longer frame that begins before the tear and reaches over it.
HISTORY = 16 << 20

# How many bytes of the stream are read to see whether its first frame has a checksum after all.
FIRST = 1 << 20


class RecoveryEnd(enum.Enum):
    """How a stream ends."""

    CLEAN_EOF = "clean_eof"
    """With the last byte of a frame."""
    TORN_TAIL = "torn_tail"
    """Inside a frame: the bytes from ``last_good_offset`` on may be cut off."""


class RecoveryReport(NamedTuple):
    """The result of `recover`.

    Attributes
    ----------
    frames : int
        How many intact frames the stream begins with.
    last_good_offset : int
        The offset in bytes at which the last of them ends; 0 if there is none.
    end : RecoveryEnd
        Whether the stream ends there, or a torn frame follows.
    """

    frames: int
    last_good_offset: int
    end: RecoveryEnd


def recover(
    source: Any, deframer: Deframer | Checksum | ChecksumType | str | None = None, *, guard: bool = True
) -> RecoveryReport:
    """Reads a stream from the position of `source` to its end, and reports how much is intact. Nothing is changed.

    Parameters
    ----------
    source
        As for `StreamReader`. Its position afterwards is unspecified.
    deframer : Deframer, Checksum, ChecksumType or its name, optional
        The counterpart of the framer that wrote the stream. With ``allow_empty=False``, a tail of zero bytes is a torn
        tail.
    guard : bool
        Whether to search the bytes from a tear on for intact frames. If there is one, a length is damaged and the
        stream is not torn: then InvalidFrameError is raised instead of reporting a torn tail. Without the guard, the
        report is the same as the crate's.

    Returns
    -------
    RecoveryReport
        Offsets are relative to the first position of `source`.

    Raises
    ------
    ChecksumMismatchError, InvalidFrameError, ValidationFailedError
        The stream is damaged, or not of this format. Cutting it here might destroy intact frames.
    OSError
        From the source, as it is.

    Notes
    -----
    The guard accepts two kinds of evidence: a good frame from which frame follows frame exactly to the end of the
    stream; and several good frames in a row (one is enough with a checksum of 4 bytes or more). A frame is good if its
    checksum matches; without a checksum, if its payload has the structure that a FlatBuffers builder makes. A payload
    that contains a flatstream can be such evidence too. If payloads do, use ``guard=False``.

    Examples
    --------
    >>> recover(b"\\x03\\x00\\x00\\x00abc\\x09\\x00\\x00\\x00d")
    RecoveryReport(frames=1, last_good_offset=7, end=<RecoveryEnd.TORN_TAIL: 'torn_tail'>)
    """
    made = as_deframer(deframer)
    with StreamReader(source, made) as reader:
        try:
            for _ in reader:
                pass
        except UnexpectedEofError as error:
            if guard:
                _check_tear(reader, made, error)
            return RecoveryReport(reader.frames_read, reader.offset, RecoveryEnd.TORN_TAIL)
        except InvalidFrameError as error:
            # Zero bytes that the file system left look like empty frames. No other invalid frame is a torn tail.
            offset = reader.offset
            if error.declared_len != 0 or not reader._rest_is_zero():
                raise
            return RecoveryReport(reader.frames_read, offset, RecoveryEnd.TORN_TAIL)
        return RecoveryReport(reader.frames_read, reader.offset, RecoveryEnd.CLEAN_EOF)


def recover_file(
    file: Any, deframer: Deframer | Checksum | ChecksumType | str | None = None, *, guard: bool = True
) -> RecoveryReport:
    """Reads a file from its beginning, and reports how much is intact. Nothing is changed.

    Parameters
    ----------
    file : path, or seekable file object
        The position of a file object is left at ``last_good_offset``: after a torn tail, ``file.truncate()`` cuts it
        off, and writing can go on from there. If an error is raised, the position is unspecified.
    deframer, guard
        See `recover`.

    Returns
    -------
    RecoveryReport
        Offsets are relative to the beginning of the file.

    Raises
    ------
    TypeError
        `file` is neither a path nor seekable.
    ChecksumMismatchError, InvalidFrameError, ValidationFailedError, OSError
        See `recover`.
    """
    if is_path(file):
        return recover(file, deframer, guard=guard)
    if not callable(getattr(file, "seek", None)):
        raise TypeError(f"file must be a path or a seekable file object, got {file!r:.100}")
    file.seek(0)
    report = recover(file, deframer, guard=guard)
    file.seek(report.last_good_offset)
    return report


def _check_tear(reader: StreamReader, deframer: Deframer, tear: UnexpectedEofError) -> None:
    """Raises InvalidFrameError if there are intact frames beyond the tear, which is at the reader's offset."""
    offset = reader.offset
    source, window = reader.source, reader._remaining()
    start = offset
    if needs_history(deframer):
        start, window = _with_history(source, reader, window)
        _check_checksum(_first_bytes(source, reader), tear, "read without one")
    elif not offset:
        # No frame was read, so it is not certain that the stream has the checksum that it is read with.
        _check_checksum(window, tear, "read with another")
    found = find_intact_frame(deframer, window, offset - start)
    if found is None:
        return
    where = start + found
    reason = (
        "only the length of this frame is wrong, and the payload behind it is intact"
        if where == offset
        else f"an intact frame begins at stream offset {where}"
    )
    raise InvalidFrameError(
        f"the frame's length reaches {tear.needed} bytes, beyond the end of the stream, but the stream is not torn: "
        f"{reason}. Nothing may be cut off here; guard=False reports a torn tail all the same",
        declared_len=None,
        buffer_len=tear.got,
        offset=offset,
        frame=tear.frame,
    ) from tear


def _first_bytes(source: Any, reader: StreamReader) -> memoryview:
    """The first bytes of the stream, if the source is a buffer or seekable; otherwise no bytes."""
    whole = reader._whole_buffer()
    if whole is not None:
        return memoryview(whole)[:FIRST]
    if not callable(seekable := getattr(source, "seekable", None)) or not seekable():
        return memoryview(b"")
    end = source.tell()
    source.seek(end - reader.offset - len(reader._remaining()))
    first = memoryview(source.read(FIRST) or b"")
    source.seek(end)
    return first


def _check_checksum(first: memoryview, tear: UnexpectedEofError, how: str) -> None:
    """Raises InvalidFrameError if the stream, whose first bytes are `first`, has another checksum than expected."""
    for kind in ChecksumType:
        size = kind.checksum().size
        # With some checksums, a run of zero bytes has the checksum 0, which is no evidence.
        if not any(first[4 : 4 + size]):
            continue
        try:
            found = StreamReader(first, kind).read_message()
        except (FlatStreamError, EOFError):
            continue
        if found is not None:
            raise InvalidFrameError(
                f"the first frame is intact with the checksum {kind.value!r}, but the stream is {how}: was it written "
                "with it? Nothing may be cut off here; guard=False reports a torn tail all the same",
                offset=0,
                frame=0,
            ) from tear


def _with_history(source: Any, reader: StreamReader, window: Any) -> tuple[int, Any]:
    """The offset and the bytes of the end of the stream, from up to HISTORY bytes before the tear on."""
    offset = reader.offset
    before = min(offset, HISTORY)
    whole = reader._whole_buffer()
    if whole is not None:
        return offset - before, memoryview(whole)[offset - before :]
    seekable = getattr(source, "seekable", None)
    if not before or not callable(seekable) or not seekable():
        return offset, window
    end = source.tell()
    begin = end - len(window) - before
    if begin < 0:
        return offset, window
    source.seek(begin)
    try:
        pieces = [bytes(window)]
        while before > 0 and (piece := source.read(before)):
            pieces.insert(-1, piece)
            before -= len(piece)
    finally:
        source.seek(end)
    # If bytes are missing, another process truncated the file in the meantime, and there are none to search.
    return (offset, window) if before else (offset - sum(map(len, pieces[:-1])), b"".join(pieces))

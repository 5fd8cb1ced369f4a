"""Recovery: how much of a stream is intact, and may what follows be cut?

Only a torn tail may: the beginning of a frame whose end was never written. Everything else that is not as it should be
(a checksum that does not match, a length over the limit, a validator's refusal, a device that fails) is raised, because
cutting there could destroy what is still good, or a good file that is read the wrong way.
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

# How far before a tear the guard looks where no checksum notices a wrong length at once. A frame longer than this that
# begins before the tear and reaches over it is not found.
HISTORY = 16 << 20

# How many bytes of the first frame are looked at to see whether it has a checksum after all.
FIRST = 1 << 20


class RecoveryEnd(enum.Enum):
    """How a stream ends."""

    CLEAN_EOF = "clean_eof"
    """With the last byte of a frame."""
    TORN_TAIL = "torn_tail"
    """Inside a frame: what follows ``last_good_offset`` may be cut."""


class RecoveryReport(NamedTuple):
    """What `recover` found.

    Attributes
    ----------
    frames : int
        How many intact frames the stream begins with.
    last_good_offset : int
        Where the last of them ends, in bytes; 0 if there is none.
    end : RecoveryEnd
        What follows there: nothing, or a torn frame.
    """

    frames: int
    last_good_offset: int
    end: RecoveryEnd


def recover(
    source: Any, deframer: Deframer | Checksum | ChecksumType | str | None = None, *, guard: bool = True
) -> RecoveryReport:
    """Reads a stream from where `source` stands to its end, and reports what is intact. Nothing is changed.

    Parameters
    ----------
    source
        As for `StreamReader`. Afterwards it stands at an unspecified place.
    deframer : Deframer, Checksum, ChecksumType or its name, optional
        The one that the stream was written for. With ``allow_empty=False``, a tail of zero bytes is a torn tail.
    guard : bool
        Whether to search the bytes from a tear on for intact frames, and to raise InvalidFrameError instead of
        reporting a torn tail if there is one: then a length is damaged, and not the tail torn. Without it, the report
        is the crate's.

    Returns
    -------
    RecoveryReport
        Offsets count from where `source` stood.

    Raises
    ------
    ChecksumMismatchError, InvalidFrameError, ValidationFailedError
        The stream is damaged, or not of this format. Cutting it here might destroy intact frames.
    OSError
        From the source, as it is.

    Notes
    -----
    The guard's evidence is: a frame from which frames lead on exactly to the end of the stream, and which is good; or
    several good frames in a row (one is enough with a checksum of 4 bytes or more). Good means that the checksum
    matches; without a checksum, that the payload is what a FlatBuffers builder makes. A payload that holds a flatstream
    of its own can be such evidence; if it is known to, use ``guard=False``.

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
            # Of all frames only an empty one that is not allowed can be the file system's doing and not the writer's.
            offset = reader.offset
            if error.declared_len != 0 or not reader.rest_is_zero():
                raise
            return RecoveryReport(reader.frames_read, offset, RecoveryEnd.TORN_TAIL)
        return RecoveryReport(reader.frames_read, reader.offset, RecoveryEnd.CLEAN_EOF)


def recover_file(
    file: Any, deframer: Deframer | Checksum | ChecksumType | str | None = None, *, guard: bool = True
) -> RecoveryReport:
    """Reads a file from its beginning, and reports what is intact. Nothing is changed.

    Parameters
    ----------
    file : path, or seekable file object
        Of a file object, the cursor is left at ``last_good_offset``: after a torn tail, ``file.truncate()`` cuts it,
        and writing goes on from there. If an error is raised, the cursor is anywhere.
    deframer, guard
        See `recover`.

    Returns
    -------
    RecoveryReport
        Offsets count from the beginning of the file.

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
    """Raises InvalidFrameError if intact frames stand beyond the tear at the reader's place."""
    offset = reader.offset
    source, window = reader.source, reader.remaining()
    start = offset
    if needs_history(deframer):
        start, window = _with_history(source, reader, window)
        _check_checksum(_first_bytes(source, reader), tear, "read without one")
    elif not offset:
        # Nothing was read, so nothing speaks for the checksum that it is read with.
        _check_checksum(window, tear, "read with another")
    found = find_intact_frame(deframer, window, offset - start)
    if found is None:
        return
    where = start + found
    what = (
        "only the length of this frame is wrong, and the payload behind it is intact"
        if where == offset
        else f"an intact frame stands at stream offset {where}"
    )
    raise InvalidFrameError(
        f"the frame's length reaches {tear.needed} bytes, beyond the end of the stream, but the stream is not torn: "
        f"{what}. Nothing may be cut here; guard=False reports a torn tail all the same",
        declared_len=None,
        buffer_len=tear.got,
        offset=offset,
        frame=tear.frame,
    ) from tear


def _first_bytes(source: Any, reader: StreamReader) -> memoryview:
    """The beginning of the stream, if the source is a buffer or can be looked at again; else nothing."""
    whole = reader.whole_buffer()
    if whole is not None:
        return memoryview(whole)[:FIRST]
    if not callable(seekable := getattr(source, "seekable", None)) or not seekable():
        return memoryview(b"")
    end = source.tell()
    source.seek(end - reader.offset - len(reader.remaining()))
    first = memoryview(source.read(FIRST) or b"")
    source.seek(end)
    return first


def _check_checksum(first: memoryview, tear: UnexpectedEofError, how: str) -> None:
    """Raises InvalidFrameError if the stream, which begins with `first`, has another checksum than it is read with."""
    for kind in ChecksumType:
        size = kind.checksum().size
        # A run of zero bytes has the checksum 0 with some, and says nothing.
        if not any(first[4 : 4 + size]):
            continue
        try:
            found = StreamReader(first, kind).read_message()
        except (FlatStreamError, EOFError):
            continue
        if found is not None:
            raise InvalidFrameError(
                f"the first frame is intact with the checksum {kind.value!r}, but the stream is {how}: was it written "
                "with it? Nothing may be cut here; guard=False reports a torn tail all the same",
                offset=0,
                frame=0,
            ) from tear


def _with_history(source: Any, reader: StreamReader, window: Any) -> tuple[int, Any]:
    """The last bytes of the stream, from up to HISTORY bytes before the tear, and where they begin."""
    offset = reader.offset
    before = min(offset, HISTORY)
    whole = reader.whole_buffer()
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
    # Somebody cut the file in the meantime: then there is nothing to search in it.
    return (offset, window) if before else (offset - sum(map(len, pieces[:-1])), b"".join(pieces))

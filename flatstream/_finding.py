"""Finding out with which checksum a stream is to be read, for `flatstream.open`. What is not certain is an error."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from flatstream._core.checksums.checksum import Checksum
from flatstream._core.stream.frame_search import find_next_frames
from flatstream._file_types import begins_with_table
from flatstream._peeked import PeekedFile, read_fully
from flatstream.checksums import ChecksumType
from flatstream.detection import HEADER, PLACE, count_frames, describe_head, detect, first_bytes
from flatstream.errors import FlatbufferError, FlatStreamError, InvalidFrameError, UnexpectedEofError
from flatstream.framing import deframer_for
from flatstream.reader import StreamReader

__all__ = ["Found", "find_checksum"]

# So many bytes are searched for frames if there are none at the beginning. (In random bytes, that takes 0.1 seconds.)
SEARCHED = 256 << 10

# How many frames are compared with each checksum.
FRAMES = 1000

# Without a checksum, lengths that lead from the first byte to the very last one are evidence. So many bytes are read to
# see that; of a stream that cannot seek, from memory.
WALKED = 64 << 20
WALKED_FROM_MEMORY = 16 << 20

# A checksum of so many bytes is evidence by one frame.
ENOUGH = 4


class Found(NamedTuple):
    """The checksum of a stream, and how it was found."""

    checksum: Checksum | ChecksumType
    by: Literal["description", "detection", "empty file"]


class _Walk(NamedTuple):
    """Frames from the first byte on, read with one checksum."""

    kind: ChecksumType
    # How many were read, and whether one of them cannot be zeros.
    frames: int
    has_content: bool
    has_empty: bool
    # Whether the stream ends with the last of them; or what follows is no frame.
    to_the_end: bool
    failed: bool
    # Why reading ended.
    reason: str

    @property
    def is_evidence(self) -> bool:
        if self.kind.checksum().size >= ENOUGH:
            return self.has_content
        return self.has_content and (self.frames > 1 or self.to_the_end)


def find_checksum(file: Any, name: str) -> Found:
    """The checksum of the stream in a file from `open_file`, whose position is left at its beginning.

    Parameters
    ----------
    file : seekable raw file, or PeekedFile
        At its beginning.
    name : str
        Its path, for messages.

    Raises
    ------
    InvalidFrameError
        It is not certain. The message says what was tried, and what the file looks like.
    OSError, EOFError
        From the file.
    """
    head = file.peek if isinstance(file, PeekedFile) else _head_of(file)
    try:
        return _find(file, head, name)
    finally:
        if not isinstance(file, PeekedFile):
            file.seek(0)


def _head_of(file: Any) -> Callable[[int], bytes]:
    known = b""

    def head(size: int) -> bytes:
        nonlocal known
        if len(known) < size:
            file.seek(len(known))
            known += read_fully(file.read, size - len(known))
        return known[:size]

    return head


def _find(file: Any, head: Callable[[int], bytes], name: str) -> Found:
    if not head(1):
        if isinstance(file, PeekedFile) and file.error is not None:
            raise file.error
        return Found(ChecksumType.NONE, "empty file")
    described = _described_checksum(head, name)
    if described is not None:
        return Found(described, "description")
    if isinstance(file, PeekedFile):
        # The next frame of a pipe may come much later than the first.
        found = _find_in_first_frame(head)
        if found is not None:
            return found
    first = first_bytes(head, PLACE)
    if len(first) > PLACE:
        # A large first frame, and some that follow it.
        first = head(len(first) + PLACE)
    is_all = len(head(len(first) + 1)) == len(first) and getattr(file, "error", None) is None
    walks = [_walk(kind, first, is_all) for kind in ChecksumType]
    certain = [walk.kind for walk in walks if walk.is_evidence and walk.kind.checksum().size >= ENOUGH]
    if not certain:
        whole = _whole(file, first, is_all)
        walks[0] = _walk_without_checksum(whole, walks[0])
        certain = [
            walk.kind
            for walk in walks
            if 0 < walk.kind.checksum().size < ENOUGH and (walk.is_evidence or _goes_on(walk, first, is_all))
        ]
        if _is_without_checksum(walks[0], whole, first, is_all):
            certain.append(ChecksumType.NONE)
    if len(certain) == 1:
        return Found(certain[0], "detection")
    detected = detect(first[:SEARCHED])
    if not certain and detected.confidence == 1.0 and detected.checksum not in (None, ChecksumType.NONE):
        # It is damaged at its beginning.
        assert detected.checksum is not None
        return Found(detected.checksum, "detection")
    tried = "; ".join(f"{walk.kind.value}: {walk.reason}" for walk in walks)
    seems = detected.looks_like
    name = f"{name!r:.200}"
    if len(certain) > 1:
        what = f"the checksum of {name} fits {' and '.join(kind.value for kind in certain)}: pass the one"
    elif seems is not None:
        what = f"{name} looks like {seems}, and not like a stream; if it is one, pass the checksum"
    else:
        what = f"the checksum of {name} is not certain: pass the one"
    raise InvalidFrameError(
        f"{what} that it was written with, as in checksum='crc32', or checksum='none'. Tried {tried}",
        offset=0,
        frame=0,
    )


def _described_checksum(head: Callable[[int], bytes], name: str) -> ChecksumType | None:
    """What the description at the head says; None if there is none, or it is damaged.

    Raises
    ------
    InvalidFrameError
        It says a checksum that is not built in.
    """
    described = describe_head(head)
    if described is not None and described.kind is None:
        raise InvalidFrameError(
            f"the description of {name!r:.200} says that its checksum is {described.name!r:.100}, which is "
            "not built in: pass it, as in checksum=MyChecksum()",
            offset=0,
            frame=0,
        )
    return None if described is None else described.kind


def _find_in_first_frame(head: Callable[[int], bytes]) -> Found | None:
    """What the first frame says for certain, without reading further."""
    length = int.from_bytes(head(4), "little")
    if length + HEADER > PLACE:
        return None
    for size in sorted({kind.checksum().size for kind in ChecksumType}):
        data = head(4 + size + length)
        for kind in ChecksumType:
            if kind.checksum().size == size >= ENOUGH and _walk(kind, data, True).is_evidence:
                return Found(kind, "detection")
    return None


def _walk(kind: ChecksumType, data: bytes, is_all: bool) -> _Walk:
    """Reads up to FRAMES frames of `data`, which `is_all` of the stream or its beginning."""
    frames, has_content, has_empty = 0, any(data[4 : 4 + kind.checksum().size]), False
    ended = failed = False
    reason = "the frames that were looked at are whole"
    with StreamReader(data, deframer_for(kind)) as reader:
        try:
            while frames < FRAMES:
                batch = reader.read_batch(FRAMES - frames)
                if batch is None:
                    ended = is_all
                    break
                frames += len(batch)
                has_content = has_content or any(batch.lengths)
                has_empty = has_empty or not all(batch.lengths)
        except UnexpectedEofError as error:
            if is_all:
                failed, reason = True, _reason(error)
        except FlatStreamError as error:
            failed, reason = True, _reason(error)
    return _Walk(kind, frames, has_content and frames > 0, has_empty, ended, failed, reason)


def _reason(error: FlatStreamError) -> str:
    if isinstance(error, UnexpectedEofError):
        return f"frame {error.frame} at offset {error.offset} is torn"
    if isinstance(error, InvalidFrameError):
        return f"no frame at offset {error.offset}"
    if isinstance(error, FlatbufferError):
        return f"a damaged description at offset {error.offset}"
    return f"frame {error.frame} at offset {error.offset} does not match"


def _whole(file: Any, first: bytes, is_all: bool) -> Any:
    """The whole stream as a source, at its beginning; None if it is too large."""
    if is_all:
        return first
    if isinstance(file, PeekedFile):
        data = file.peek(WALKED_FROM_MEMORY)
        return data if len(file.peek(WALKED_FROM_MEMORY + 1)) == len(data) and file.error is None else None
    if file.seek(0, io.SEEK_END) > WALKED:
        return None
    file.seek(0)
    return file


def _walk_without_checksum(source: Any, walk: _Walk) -> _Walk:
    """`walk` over the whole stream."""
    if walk.failed or walk.to_the_end:
        return walk
    if source is None:
        return walk._replace(reason="the lengths are plausible, but it is too large to look at all of them")
    has_empty = False
    with StreamReader(source, deframer_for(None)) as reader:
        try:
            for batch in reader.batches():
                has_empty = has_empty or not all(batch.lengths)
        except FlatStreamError as error:
            return walk._replace(failed=True, reason=_reason(error))
    return walk._replace(has_empty=has_empty, to_the_end=True, reason="the lengths lead to the end")


def _has_lengths(kind: ChecksumType, source: Any) -> bool:
    """Whether the lengths lead to the end, if the frames have a checksum as long as this one, which need not match."""
    if not isinstance(source, bytes):
        source.seek(0)
    with StreamReader(source, deframer_for(kind), on_error="skip", allow_empty=True) as reader:
        try:
            for _ in reader.batches():
                pass
        except FlatStreamError:
            return False
    return True


def _goes_on(walk: _Walk, first: bytes, is_all: bool) -> bool:
    """Whether there are intact frames behind the damage that ended the walk after its first frame."""
    return walk.has_content and find_next_frames(deframer_for(walk.kind), first, 1, is_all, 0)[0] > 0


def _is_without_checksum(walk: _Walk, whole: Any, first: bytes, is_all: bool) -> bool:
    if walk.to_the_end and walk.has_content:
        # The offset of a root can be the length of a frame that ends where the message does. And zeros at the end of
        # the payloads of damaged frames that have a checksum can be empty frames.
        others = (ChecksumType.CRC16, ChecksumType.CRC32, ChecksumType.CRC64) if walk.has_empty else ()
        return not begins_with_table(first) and not any(_has_lengths(kind, whole) for kind in others)
    # Torn, damaged or large, but it begins with frames whose payloads are such as a builder makes.
    begin, frames = count_frames(deframer_for(None), first, is_all)
    return begin == 0 and frames > 1

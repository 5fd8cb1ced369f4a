"""Detection: with which checksum was a stream written, or is it none?"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flatstream._core.stream.frame_search import evidence_bytes_of, find_next_frames
from flatstream._endpoints import is_path, open_file
from flatstream._file_types import begins_with_table, looks_like
from flatstream._peeked import PeekedFile, read_fully
from flatstream.checksums import ChecksumType
from flatstream.description.description import IDENTIFIER, MAX_SIZE, Description
from flatstream.errors import FlatbufferError, FlatStreamError
from flatstream.framing import Deframer, deframer_for
from flatstream.reader import StreamReader

__all__ = ["Detection", "count_frames", "describe_head", "detect", "detect_in", "first_bytes", "other_checksum"]

# How many bytes are looked at in one place, and how many frames at most.
PLACE = 1 << 20
FRAMES = 1000

# How many places there are behind the first.
QUARTERS = 4

# So many frames with FlatBuffers and without a checksum are no accident.
FEW = 10

# A first frame of up to this many bytes is read as a whole.
LARGEST_FIRST = 64 << 20

# The longest header: a length and a checksum.
HEADER = 12

# The first bytes of a description, by which it is known, and the longest checksum before it. (A description is longer.)
SHORTEST_DESCRIPTION = 16
LONGEST_CHECKSUM = 8


class Detection(NamedTuple):
    """The result of `detect`.

    Attributes
    ----------
    checksum : ChecksumType or None
        The checksum of the stream; ChecksumType.NONE if its frames have none. None if this is no stream with a built-in
        checksum, or if it is empty.
    frames : int
        How many intact frames were looked at; 0 if `checksum` is None.
    confidence : float
        From 0 to 1: 1.0 if frames with a checksum of 4 bytes or more match, or 2 with CRC-16, or 10 without a checksum
        hold FlatBuffers; 0.5 for fewer of them, and if no frame without a checksum begins where the stream does; 0.0 if
        `checksum` is None.
    looks_like : str or None
        If `checksum` is None: what the source seems to be, as in `RecoveryReport`, or "a FlatBuffer" if it is one
        message without a frame; or None.
    """

    checksum: ChecksumType | None
    frames: int
    confidence: float
    looks_like: str | None


NOTHING = Detection(None, 0, 0.0, None)


def detect(source: Any) -> Detection:
    """Finds out with which built-in checksum a stream was written, without reading all of it.

    Parameters
    ----------
    source : path, bytes-like object, or seekable file
        A path may be a URL, or that of a compressed file, of which only the beginning is looked at. The position of a
        file object is left as it is; the stream is thought to begin at the beginning of the file.

    Returns
    -------
    Detection
        ``checksum`` is None for an empty source, for a file of another format, and for zeros.

    Raises
    ------
    TypeError
        `source` is none of these.
    OSError
        From the source, as it is.

    Notes
    -----
    For each checksum, and for none, up to 1,000 frames are looked at in each of up to five places: at the beginning, at
    each quarter and near the end, 1 MiB at each. (A larger first frame is read as a whole, up to 64 MiB.) So the answer
    does not depend on the first frame being intact. Frames without a checksum count only if they hold what a
    FlatBuffers builder makes: the lengths of other payloads cannot be told from any other bytes.

    Examples
    --------
    >>> import io
    >>> from flatstream import StreamWriter
    >>> sink = io.BytesIO()
    >>> with StreamWriter(sink, "crc32") as writer:
    ...     writer.write_payloads([b"first", b"second"])
    >>> detect(sink.getvalue())
    Detection(checksum=<ChecksumType.CRC32: 'crc32'>, frames=2, confidence=1.0, looks_like=None)
    >>> detect(b"root:x:0:0:root:/root:/bin/sh")
    Detection(checksum=None, frames=0, confidence=0.0, looks_like='text')
    """
    if is_path(source):
        with open_file(source) as file:
            return detect_in(file)
    if callable(getattr(source, "seek", None)) and callable(getattr(source, "read", None)):
        if isinstance(source, io.TextIOBase):
            raise TypeError("source is a text file object: open it in binary mode, as in open(path, 'rb')")
        before = source.tell()
        try:
            return _detect(source)
        finally:
            source.seek(before)
    try:
        data = memoryview(source).cast("B")
    except TypeError:
        raise TypeError(
            f"source must be a path, a bytes-like object or a seekable file object, got {source!r:.100}"
        ) from None
    return _detect(data)


def detect_in(file: Any) -> Detection:
    """`detect` for a file from `open_file`, at its beginning. If it cannot seek, only its beginning is looked at."""
    if not isinstance(file, PeekedFile):
        return _detect(file)
    # One byte more shows whether the stream ends there.
    first = first_bytes(file.peek, PLACE)
    is_all = len(file.peek(len(first) + 1)) == len(first) and file.error is None
    if not first and file.error is not None:
        raise file.error
    return _detect_places([(first, is_all)]) if first else NOTHING


def first_bytes(head: Callable[[int], bytes], size: int) -> bytes:
    """The first `size` bytes of a stream, which ``head(size)`` gives, or the first frame if it is larger."""
    first = head(size)
    if len(first) == size:
        length = int.from_bytes(first[:4], "little")
        if size - HEADER < length <= LARGEST_FIRST:
            return head(length + HEADER)
    return first


def _detect(source: Any) -> Detection:
    """`detect` for a memoryview or a file."""
    if isinstance(source, memoryview):
        size = len(source)
    else:
        source.seek(0, os.SEEK_END)
        size = source.tell()
    if not size:
        return NOTHING
    first = first_bytes(lambda wanted: _read(source, 0, wanted), PLACE)
    return _detect_places(list(_places(source, size, first)))


def _detect_places(places: list[tuple[bytes, bool]]) -> Detection:
    """`detect` in the bytes of several places, each with whether the stream ends with them."""
    first = places[0][0]
    seems = looks_like(first)
    # Archives and documents may contain streams; they do not begin with one.
    is_foreign = seems is not None and seems != "zeros" and not seems.startswith("a stream")
    best = Detection(None, 0, 0.0, seems)
    described = describe_head(lambda size: first[:size])
    if described is not None and described.kind is not None:
        frames = sum(count_frames(deframer_for(described.kind), *place)[1] for place in places)
        return Detection(described.kind, frames, 1.0, None)
    for kind in ChecksumType:
        deframer = deframer_for(kind)
        begin, frames = count_frames(deframer, *places[0])
        if begin != 0 and is_foreign:
            continue
        frames += sum(count_frames(deframer, *place)[1] for place in places[1:])
        enough = {0: FEW, 2: 2}.get(kind.checksum().size, 1)
        is_sure = frames >= enough and (begin == 0 or kind is not ChecksumType.NONE)
        confidence = 1.0 if is_sure else 0.5
        if frames and (confidence, frames) > (best.confidence, best.frames):
            best = Detection(kind, frames, confidence, None)
    if best.checksum is None and seems is None and begins_with_table(first):
        return Detection(None, 0, 0.0, "a FlatBuffer")
    return best


def other_checksum(source: Any, deframer: Deframer) -> ChecksumType | None:
    """The checksum of the stream in a memoryview or file, if it is certain, and not that of `deframer`; otherwise None.

    A description makes it certain. Otherwise it is not if any of the bytes that `detect` looks at are frames for
    `deframer`: then the others may be those of streams in its payloads.
    """
    described = describe_head(lambda size: _read(source, 0, size))
    if described is not None and described.kind is not None:
        with StreamReader(described.frame, deframer) as reader:
            return described.kind if reader.description is None else None
    size = len(source) if isinstance(source, memoryview) else source.seek(0, os.SEEK_END)
    places = list(_places(source, size, _read(source, 0, PLACE)))
    # First, because it is quick where there are frames, and all that is needed for a stream with the right checksum.
    # Without a checksum, a damaged description has some: its schema is a FlatBuffer.
    few = FEW if evidence_bytes_of(deframer) == 0 else 1
    for number, place in enumerate(places):
        begin, frames = count_frames(deframer, *place)
        if frames >= few or (frames and not number and not begin):
            return None
    found = _detect(source)
    return found.checksum if found.confidence == 1.0 else None


class DescribedHead(NamedTuple):
    """The frame of a description, and the checksum that it says: its name, and its kind, None if it is not built in."""

    frame: bytes
    name: str
    kind: ChecksumType | None


def describe_head(head: Callable[[int], bytes]) -> DescribedHead | None:
    """The description with which a stream begins, whose first bytes ``head(size)`` gives; None if there is none that
    says its checksum, or it is damaged.
    """
    length = int.from_bytes(head(4), "little")
    if not SHORTEST_DESCRIPTION <= length <= MAX_SIZE:
        return None
    beginning = head(4 + LONGEST_CHECKSUM + SHORTEST_DESCRIPTION)
    for size in range(LONGEST_CHECKSUM + 1):
        if beginning[8 + size : 12 + size] != IDENTIFIER:
            continue
        frame = head(4 + size + length)
        try:
            description = Description.from_bytes(frame[4 + size :])
        except FlatbufferError:
            return None
        name = description.checksum
        if name is None:
            return None
        kind = next((kind for kind in ChecksumType if kind.value == name), None)
        if kind is None:
            return DescribedHead(frame, name, None)
        # With another one, or none that matches, it is damaged, or no description at all.
        with StreamReader(frame, deframer_for(kind)) as reader:
            return DescribedHead(frame, name, kind) if reader.description == description else None
    return None


def _read(source: Any, begin: int, size: int) -> bytes:
    if isinstance(source, memoryview):
        return bytes(source[begin : begin + size])
    source.seek(begin)
    return read_fully(source.read, size)


def _places(source: Any, size: int, first: bytes) -> Iterator[tuple[bytes, bool]]:
    """The bytes of each place, and whether the stream ends with them."""
    yield first, len(first) == size
    end = len(first)
    for quarter in range(1, QUARTERS + 1):
        begin = max(end, (size - PLACE) * quarter // QUARTERS)
        if begin < size:
            place = _read(source, begin, PLACE)
            end = begin + len(place)
            yield place, end >= size


def count_frames(deframer: Deframer, place: bytes, at_end: bool) -> tuple[int, int]:
    """Where intact frames begin, and how many there are in a row; -1 and 0 if there are none."""
    begin, _ = find_next_frames(deframer, place, 0, at_end, 0)
    if begin < 0:
        return -1, 0
    frames = 0
    with StreamReader(memoryview(place)[begin:], deframer) as reader:
        try:
            for payload in reader:
                # Zeros behind the last frame look like empty ones.
                frames += bool(len(payload))
                if frames == FRAMES:
                    break
        except FlatStreamError:
            pass
    return begin, max(frames, 1)

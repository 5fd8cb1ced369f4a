"""Segments as open files: plain ones, and compressed ones, which hold the same bytes.

A compressed segment is a sealed file (`flatstream._seekable`) with the ending ``.fs.zst``. All offsets and sizes are
those of the plain segment. A block that cannot be decompressed is read as bytes that are no frames, so that damage
costs the frames of that block, as it does in a plain segment.
"""

from __future__ import annotations

import io
import os
from typing import TypeAlias

from flatstream._files import open_regular
from flatstream._follow import read_once
from flatstream._seek_table import read_table
from flatstream._seekable import SeekableFile
from flatstream.journal._layout import COMPRESSED, Segment

__all__ = [
    "SegmentFile",
    "damage_at",
    "damaged_blocks",
    "is_compressed_file",
    "open_segment",
    "read_at",
    "size_of",
    "stat_segment",
]

SegmentFile: TypeAlias = io.FileIO | SeekableFile


def open_segment(segment: Segment) -> SegmentFile:
    """A segment, open for reading. Its ``name`` is the path of the file that was there: the plain one, if both are.

    Raises
    ------
    FileNotFoundError
        It was removed.
    ImportError
        It is compressed, and there is no package for Zstandard.
    OSError
        It cannot be opened; EINVAL: it is no regular file.
    """
    plain = segment.plain_path
    try:
        return open_regular(plain)
    except FileNotFoundError:
        # Compressed since it was listed, or before.
        raw = open_regular(plain + COMPRESSED)
    try:

        def raw_at(offset: int, size: int) -> bytes:
            raw.seek(offset)
            return raw.read(size) or b""

        table = read_table(raw_at, os.fstat(raw.fileno()).st_size)
        raw.seek(0)
        return SeekableFile(raw, plain + COMPRESSED, table, fill=True)
    except BaseException:
        raw.close()
        raise


def stat_segment(segment: Segment) -> tuple[Segment, os.stat_result]:
    """A segment with the path of the file that is there now, and its status.

    Raises
    ------
    FileNotFoundError
        It was removed.
    """
    plain = segment.plain_path
    try:
        return Segment(plain, segment.first), os.stat(plain)
    except FileNotFoundError:
        return Segment(plain + COMPRESSED, segment.first), os.stat(plain + COMPRESSED)


def is_compressed_file(file: SegmentFile) -> bool:
    """Whether a file from `open_segment` is a compressed one."""
    return isinstance(file, SeekableFile)


def size_of(file: SegmentFile) -> int:
    """The size of the plain segment."""
    return file.size() if isinstance(file, SeekableFile) else os.fstat(file.fileno()).st_size


def read_at(file: SegmentFile, offset: int, buffer: memoryview) -> int:
    """Reads the bytes at `offset` of the plain segment; returns how many, 0 only at its end."""
    return file.read_at(offset, buffer) if isinstance(file, SeekableFile) else read_once(file, offset, buffer)


def damage_at(file: SegmentFile, offset: int) -> str | None:
    """Why a byte of a segment was read as none of a frame, if the block with it is damaged; None otherwise."""
    if not isinstance(file, SeekableFile):
        return None
    index = next(iter(file.blocks(offset, offset + 1)), -1)
    why = file.damage.get(index)
    if why is None:
        return None
    if index < 0:
        return f"the compressed data cannot be decompressed ({why})"
    begin, end = file.bounds(index)
    return f"block {index} of the compressed segment, with {end - begin:,} bytes, cannot be decompressed ({why})"


def damaged_blocks(file: SegmentFile) -> str | None:
    """Which blocks of a compressed segment were found to be damaged, in words; None if there are none."""
    if not isinstance(file, SeekableFile) or not file.damage:
        return None
    index, why = next(iter(file.damage.items()))
    more = f", and {len(file.damage) - 1} others" if len(file.damage) > 1 else ""
    return f"compressed data is damaged ({why}){more}" if index < 0 else f"block {index} is damaged ({why}){more}"

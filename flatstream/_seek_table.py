"""The seekable format of Zstandard: its table, and the frames of Zstandard in a file, found by their headers.

A sealed file is frames of Zstandard, each of which holds a block of some 256 KiB and can be decompressed alone, and
behind them a table in a frame that decompressors skip (all numbers are little-endian)::

    28 B5 2F FD ...                      one frame of Zstandard: a block of whole frames of the stream
    28 B5 2F FD ...                      the next block
    5E 2A 4D 18 | size of what follows   the table, a skippable frame
        stored size | size               one entry of 2 * 4 bytes for each frame of Zstandard, in their order
        ...                              (of 12 bytes with a checksum of the block, in files of others)
    number of entries | 00 | B1 EA 92 8F the end of the file

So the whole file is an ordinary one: ``zstd -d`` gives back the stream. The format is described in the source of
Zstandard, in contrib/seekable_format. pyzstd reads and writes it, but believes the table, reads in one thread, and
would need a second copy of the library: so this module and `flatstream._seekable` use the one that `.zst` files are
read with, and need no more of it than to compress and decompress one frame.
"""

from __future__ import annotations

import contextlib
import importlib
import struct
import sys
from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

__all__ = [
    "LONGEST_HEADER",
    "MAX_BLOCK",
    "MAX_ENTRIES",
    "MOST_INNER",
    "SKIPPABLE",
    "ZSTD_MAGIC",
    "Entry",
    "FrameHeader",
    "SeekTable",
    "WrongFrameError",
    "load_zstd",
    "make_table",
    "max_size",
    "max_stored",
    "measure_frame",
    "parse_header",
    "read_table",
    "skippable_size",
]

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
TABLE_MAGIC = b"\x5e\x2a\x4d\x18"
END_MAGIC = b"\xb1\xea\x92\x8f"
FOOTER = struct.Struct("<IB4s")
# The header of a skippable frame: magic number and size.
SKIPPABLE = 8
# The longest header of a frame of Zstandard.
LONGEST_HEADER = 18

# A block of a table is decompressed as a whole, so a table with larger ones is not used.
MAX_BLOCK = 64 << 20
# So many entries are a terabyte of blocks of 256 KiB. The largest table has 48 MiB.
MAX_ENTRIES = 1 << 22

# Blocks of Zstandard (of up to 128 KiB, inside of a frame) by their types, and the largest one. A frame may have any
# number of them, of 3 bytes each. More are not passed over one by one: decompressing them takes less time.
RAW, RUN, COMPRESSED = 0, 1, 2
LARGEST_INNER = 128 << 10
MOST_INNER = 1024

ReadAt = Callable[[int, int], bytes]


def load_zstd(doing: str = "reading") -> Any:
    """The module of Zstandard: that of the standard library, or the package that has it for older versions.

    Raises
    ------
    ImportError
        There is neither.
    """
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError(f"{doing} Zstandard needs the package backports.zstd: pip install 'flatstream[compression]'")


class Entry(NamedTuple):
    """A frame of Zstandard: its size in the file, and the size of the block that it holds."""

    stored: int
    size: int


class SeekTable:
    """Where the blocks of a file are.

    Block `i` has the bytes of the stream from ``begins[i]`` to ``begins[i + 1]``, and is stored from ``places[i]`` to
    ``places[i + 1]``.
    """

    def __init__(self) -> None:
        self.places = array("q", [0])
        self.begins = array("q", [0])

    def __len__(self) -> int:
        return len(self.begins) - 1

    def __getitem__(self, index: int) -> Entry:
        return Entry(self.places[index + 1] - self.places[index], self.begins[index + 1] - self.begins[index])

    def append(self, entry: Entry) -> None:
        self.places.append(self.places[-1] + entry.stored)
        self.begins.append(self.begins[-1] + entry.size)

    def cut(self, count: int) -> None:
        """Forgets all but the first `count` blocks."""
        del self.places[count + 1 :]
        del self.begins[count + 1 :]


def max_stored(size: int) -> int:
    """How large a frame of Zstandard with so many bytes can be: what cannot be compressed is stored as it is."""
    return size + (size >> 8) + 1024


def max_size(stored: int) -> int:
    """How many bytes a frame of Zstandard of this size can hold: 128 KiB of one value take 4 bytes."""
    return stored // 4 * LARGEST_INNER


def make_table(entries: SeekTable) -> bytes:
    """The skippable frame with the table that ends a file."""
    numbers = array("I")
    for index in range(len(entries)):
        numbers.extend(entries[index])
    if sys.byteorder == "big":
        numbers.byteswap()
    content = numbers.tobytes() + FOOTER.pack(len(entries), 0, END_MAGIC)
    return TABLE_MAGIC + len(content).to_bytes(4, "little") + content


def read_table(read_at: ReadAt, size: int) -> SeekTable | None:
    """The table at the end of a file; None if there is none that can be used.

    Nothing that it says is believed but that its blocks have no more than `MAX_BLOCK` bytes, and lie one behind the
    other from the first byte of the file up to the table. Whether frames of Zstandard with such blocks are there is for
    the reader to look.

    Parameters
    ----------
    read_at : callable
        ``read_at(offset, count)`` gives bytes of the file, fewer at its end.
    size : int
        The size of the file.
    """
    footer = read_at(size - FOOTER.size, FOOTER.size) if size >= FOOTER.size + SKIPPABLE else b""
    if len(footer) != FOOTER.size or not footer.endswith(END_MAGIC):
        return None
    count, descriptor, _ = FOOTER.unpack(footer)
    width = 12 if descriptor & 0x80 else 8
    content = count * width + FOOTER.size
    # Bits 2 to 6 are reserved.
    if descriptor & 0x7C or not 0 < count <= MAX_ENTRIES or content + SKIPPABLE > size:
        return None
    at = size - content - SKIPPABLE
    data = read_at(at, content + SKIPPABLE)
    if len(data) != content + SKIPPABLE or data[:SKIPPABLE] != TABLE_MAGIC + content.to_bytes(4, "little"):
        return None
    numbers = array("I", data[SKIPPABLE : -FOOTER.size])
    if sys.byteorder == "big":
        numbers.byteswap()
    stored, sizes = numbers[:: width // 4], numbers[1 :: width // 4]
    if max(sizes) > MAX_BLOCK or any(
        one > max_stored(whole) or whole > max_size(one) for one, whole in zip(stored, sizes, strict=True) if whole
    ):
        return None
    if any(not one for one in stored) or sum(stored) != at:
        return None
    table = SeekTable()
    table.places.extend(accumulate(stored))
    table.begins.extend(accumulate(sizes))
    return table


# Frames of Zstandard


class WrongFrameError(ValueError):
    """No frame of Zstandard is there, or none that is whole: `passed` says how many bytes of it were passed over."""

    def __init__(self, message: str, passed: int = 0) -> None:
        super().__init__(message)
        self.passed = passed


class FrameHeader(NamedTuple):
    """The header of a frame of Zstandard.

    Attributes
    ----------
    length : int
        Its own size.
    size : int or None
        The size of what the frame holds; None if it does not say that.
    has_checksum : bool
        Whether 4 bytes with a checksum end the frame.
    """

    length: int
    size: int | None
    has_checksum: bool


def parse_header(data: bytes) -> FrameHeader | None:
    """The header with which a frame of Zstandard begins; None if these bytes, of which there should be LONGEST_HEADER,
    begin with none, or need a dictionary.
    """
    if len(data) < 6 or data[:4] != ZSTD_MAGIC:
        return None
    flags = data[4]
    is_single = bool(flags & 0x20)
    if flags & 0x08 or flags & 0x03:
        return None
    width = (1 if is_single else 0, 2, 4, 8)[flags >> 6]
    at = 5 + (not is_single)
    if len(data) < at + width:
        return None
    size: int | None = None
    if width:
        size = int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0)
    return FrameHeader(at + width, size, bool(flags & 0x04))


def skippable_size(data: bytes) -> int | None:
    """The size of the frame that decompressors skip and that begins so, its header included; None for anything else."""
    if len(data) < SKIPPABLE or data[1:4] != TABLE_MAGIC[1:] or data[0] >> 4 != 5:
        return None
    return SKIPPABLE + int.from_bytes(data[4:8], "little")


def measure_frame(read_at: ReadAt, at: int, end: int) -> Entry:
    """The frame of Zstandard, or the skippable one, at an offset of a file that ends at `end`.

    Its blocks are passed over by their headers, without decompressing them; of one that does not say its size, the size
    is -1. If it has very many, it is not measured, and both are -1.

    Raises
    ------
    WrongFrameError
        There is no frame, or a part of one.
    """
    # With the header of the first block inside.
    head = read_at(at, LONGEST_HEADER + 3)
    if (skipped := skippable_size(head)) is not None:
        if at + skipped > end:
            raise WrongFrameError("a skippable frame is cut off")
        return Entry(skipped, 0)
    header = parse_header(head)
    if header is None:
        raise WrongFrameError("no frame of Zstandard begins there")
    place = at + header.length
    block = head[header.length : header.length + 3]
    for _ in range(MOST_INNER):
        if len(block) < 3:
            raise WrongFrameError("the file ends inside a frame", place - at)
        number = int.from_bytes(block, "little")
        kind, length = number >> 1 & 3, number >> 3
        if kind > COMPRESSED or length > LARGEST_INNER:
            raise WrongFrameError(f"a block of the frame is damaged, at offset {place}", place - at)
        place += 3 + (1 if kind == RUN else length)
        if number & 1:
            break
        block = read_at(place, 3)
    else:
        return Entry(-1, -1)
    place += 4 if header.has_checksum else 0
    if place > end:
        raise WrongFrameError("the file ends inside a frame", place - at)
    return Entry(place - at, -1 if header.size is None else header.size)

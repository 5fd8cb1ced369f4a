"""Compressed files, read as what they were before: gzip, bzip2, xz, Zstandard and LZ4.

A file is taken for a compressed one if it begins as its format does, something can be decompressed, and it is no intact
stream. (A stream may begin with any bytes: they are the length of its first frame.) Compressed files may consist of
several members, one after another, as ``cat`` makes them; zero bytes behind the last one are padding. The end of the
file inside a member, and damaged data, are errors: never a clean end.
"""

from __future__ import annotations

import importlib
import io
import os
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from flatstream._core.framing.deframer import index_frames
from flatstream._peeked import PeekedFile, read_fully
from flatstream._seek_table import ZSTD_MAGIC, load_zstd, skippable_size
from flatstream.checksums import ChecksumType
from flatstream.framing import deframer_for

__all__ = ["LONGEST_MAGIC", "ZSTANDARD", "CutOffError", "DecompressedFile", "begins_compressed", "decompressed"]

# Behind the first byte of a frame that is to be left out.
SKIPPABLE_MAGIC = b"\x2a\x4d\x18"

# How many compressed bytes are read at a time, and how many decompressed bytes show that there are any.
CHUNK = 128 << 10
FIRST = 64 << 10

# What the decompressor of xz may take: enough for ``xz -9`` (65 MiB) four times. Those of the other formats take at
# most 128 MiB by themselves.
XZ_MEMORY = 260 << 20

# A first frame of up to this many bytes is read, to see whether the file is an intact stream.
LARGEST_FIRST = 64 << 20
HEADER = 12

# One frame with a checksum of so many bytes is evidence; with a shorter one, and without, so many frames are, or frames
# that lead to the end of the file.
ENOUGH = 4
FEW = 3

INSTALL = "pip install 'flatstream[compression]'"


class CutOffError(EOFError):
    """A compressed file ends inside its data.

    Attributes
    ----------
    compression : str
        The name of its format.
    """

    compression = ""


class _Decompressor(Protocol):
    """One member, as the standard library decompresses it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """`zlib.decompressobj` for gzip, with the interface of the other decompressors."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        # Whether the last call gave all that it was allowed to: then there may be more.
        self._filled = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._filled and not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        tail = self._inner.unconsumed_tail
        found = self._inner.decompress(tail + data if tail else data, max_length)
        self._filled = len(found) == max_length
        return found


def _bzip2() -> _Decompressor:
    import bz2

    return bz2.BZ2Decompressor()


def _xz() -> _Decompressor:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)


def _zstd() -> _Decompressor:
    return load_zstd().ZstdDecompressor()  # type: ignore[no-any-return]


def _lz4() -> _Decompressor:
    try:
        # By name, because its types are not known to type checkers.
        frame: Any = importlib.import_module("lz4.frame")
    except ImportError:
        raise ImportError(f"reading LZ4 needs the package lz4: {INSTALL}") from None
    return frame.LZ4FrameDecompressor()  # type: ignore[no-any-return]


class _Format(NamedTuple):
    name: str
    magic: bytes
    make: Callable[[], _Decompressor]
    # Whether members may be mixed with frames of another magic number, which are to be left out.
    skippable: bool = False
    # Whether zeros behind the last member are padding. In Zstandard they are none, but what a power cut leaves.
    is_padded: bool = True
    # What stands behind `magic` and one more byte, and is evidence enough: nothing is decompressed before the end of a
    # block, of up to 900 kB.
    block: bytes | None = None


ZSTANDARD = _Format("Zstandard", ZSTD_MAGIC, _zstd, True, False)
FORMATS = (
    _Format("gzip", b"\x1f\x8b\x08", _Gunzip),
    _Format("bzip2", b"BZh", _bzip2, block=b"1AY&SY"),
    _Format("xz", b"\xfd7zXZ\x00", _xz),
    ZSTANDARD,
    _Format("LZ4", b"\x04\x22\x4d\x18", _lz4, True),
)
MAGICS = tuple(known.magic for known in FORMATS)
LONGEST_MAGIC = 10
# A file may begin with frames that are to be left out, but not with any number of them.
MOST_SKIPPED = 16


def begins_compressed(head: bytes, *, whole: bool = True) -> bool:
    """Whether a file that begins with these bytes may be a compressed one: a quick look, before `decompressed`.

    Without `whole`, `head` may be shorter than what all compressed files begin with.
    """
    if head.startswith(MAGICS) or skippable_size(head) is not None:
        return True
    return not whole and bool(head) and (any(known.startswith(head) for known in MAGICS) or _may_be_skippable(head))


def _may_be_skippable(head: bytes) -> bool:
    return head[0] >> 4 == 5 and SKIPPABLE_MAGIC.startswith(head[1:4])


def _format_of(file: Any, head: bytes) -> _Format | None:
    """The format of the file that begins with `head`, behind frames that are to be left out."""
    at = 0
    for _ in range(MOST_SKIPPED):
        found = next((known for known in FORMATS if head.startswith(known.magic)), None)
        skipped = skippable_size(head)
        if skipped is None:
            return found if found is None or not at or found.skippable else None
        at += skipped
        file.seek(at)
        head = read_fully(file.read, LONGEST_MAGIC)
    return None


def decompressed(file: Any, name: str) -> DecompressedFile | None:
    """What a compressed file holds, as a file; None if it is not compressed.

    Parameters
    ----------
    file : file object
        At its beginning, with ``read``. If it cannot seek, it must be a `PeekedFile`. The result closes it. If there is
        none, its position is at its beginning again.
    name : str
        Its path, for messages.

    Raises
    ------
    ImportError
        The package for this format is not installed.
    """
    if not file.seekable():
        # What is tried here is read once more.
        first = decompressed(io.BytesIO(file.peek(CHUNK)), name)
        return None if first is None else DecompressedFile(file, name, first.known)
    head = read_fully(file.read, LONGEST_MAGIC)
    known = _format_of(file, head)
    if known is not None and not _is_intact_stream(file, head):
        file.seek(0)
        found = DecompressedFile(file, name, known)
        if found.peek(FIRST) or found.error is None or isinstance(found.error, EOFError):
            return found
        if known.block is not None and head[len(known.magic) + 1 :].startswith(known.block):
            return found
        found.forget()
    file.seek(0)
    return None


def _is_intact_stream(file: Any, head: bytes) -> bool:
    """Whether the file begins with an intact frame, and others behind it as far as its checksum is not enough."""
    length = int.from_bytes(head[:4], "little")
    if length > LARGEST_FIRST or file.seek(0, io.SEEK_END) < 4 + length:
        return False
    file.seek(0)
    # Without a checksum, a few frames more.
    data = read_fully(file.read, HEADER + length + CHUNK)
    at_end = len(data) < HEADER + length + CHUNK
    for kind in ChecksumType:
        offsets, lengths = array("q", bytes(8 * FEW)), array("q", bytes(8 * FEW))
        count, end = index_frames(data, deframer_for(kind), offsets, lengths)
        if (count and kind.checksum().size >= ENOUGH) or count == FEW or (at_end and end == len(data)):
            return True
    return False


class DecompressedFile(PeekedFile):
    """The contents of a compressed file. Closing it closes the file.

    Attributes
    ----------
    name : str
        The path of the file.
    format : str
        The name of the format, and `known` is the format itself.
    """

    def __init__(self, file: Any, name: str, known: _Format) -> None:
        super().__init__()
        self._file: Any = file
        self.known = known
        self.name, self.format = name, known.name
        self._decompressor: _Decompressor | None = known.make()
        # Read from the file, and not given to the decompressor.
        self._input = b""
        # Of damaged data nothing more can be decompressed.
        self._damaged: Exception | None = None
        # How many bytes were read from the file, and decompressed.
        self._taken = self._given = 0

    def forget(self) -> None:
        """Gives the file back: it is not closed with this object."""
        self._file = None
        super().close()

    def close(self) -> None:
        if not self.closed:
            file, self._file, self._decompressor = self._file, None, None
            try:
                if file is not None:
                    file.close()
            finally:
                super().close()

    def stat(self) -> os.stat_result | None:
        """The status of the compressed file; None if it has no descriptor."""
        try:
            return os.fstat(self._file.fileno())
        except (OSError, AttributeError):
            return None

    def _more(self) -> bytes:
        data: bytes = self._file.read(CHUNK) or b""
        self._taken += len(data)
        return data

    def _take(self, size: int) -> bytes:
        if self._damaged is not None:
            raise self._damaged
        while True:
            if self._decompressor is None and not self._begin_member():
                return b""
            decompressor = self._decompressor
            assert decompressor is not None
            if not self._input and decompressor.needs_input:
                self._input = self._more()
                if not self._input:
                    self._damaged = cut_off = CutOffError(
                        f"{self.name}: the {self.format} data is cut off at the end of the file, after {self._taken} "
                        f"bytes, which hold the first {self._given} bytes of the stream"
                    )
                    cut_off.compression = self.format
                    raise self._damaged
            data, self._input = self._input, b""
            try:
                found = decompressor.decompress(data, size)
            except Exception as error:
                # The libraries' own errors have no common class, and that of LZ4 is RuntimeError.
                raise self._damage(f"cannot be decompressed ({error})") from error
            if decompressor.eof:
                self._input = decompressor.unused_data or b""
                self._decompressor = None
            if found:
                self._given += len(found)
                return found

    def _begin_member(self) -> bool:
        """Prepares for the next member. False at the end of the file, before which zeros may stand."""
        while not (rest := self._input.lstrip(b"\x00") if self.known.is_padded else self._input):
            self._input = self._more()
            if not self._input:
                return False
        while len(rest) < LONGEST_MAGIC and (more := self._more()):
            rest += more
        is_member = rest.startswith(self.known.magic) or (self.known.skippable and skippable_size(rest) is not None)
        if not is_member:
            raise self._damage(f"is followed by {len(rest)} bytes or more that are none")
        self._input = rest
        self._decompressor = self.known.make()
        return True

    def _damage(self, what: str) -> OSError:
        self._damaged = OSError(
            f"{self.name}: the {self.format} data {what}, in the first {self._taken} bytes of the file, behind "
            f"{self._given} bytes of the stream"
        )
        return self._damaged

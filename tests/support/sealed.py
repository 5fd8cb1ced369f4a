"""Sealed files made by hand, so that what reads them is tested without what writes them."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence

__all__ = ["compress", "compress_without_size", "sealed", "table", "zstd"]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OPTIONS: dict[int, int] = {zstd.CompressionParameter.compression_level: 3, zstd.CompressionParameter.checksum_flag: 1}


def compress(block: bytes) -> bytes:
    """One frame of Zstandard."""
    return zstd.compress(block, options=OPTIONS)


def compress_without_size(block: bytes) -> bytes:
    """One frame of Zstandard that does not say how much it holds."""
    compressor = zstd.ZstdCompressor(options=OPTIONS)
    half = len(block) // 2
    return compressor.compress(block[:half], compressor.FLUSH_BLOCK) + compressor.compress(
        block[half:], compressor.FLUSH_FRAME
    )


def table(entries: Sequence[tuple[int, int]], *, count: int | None = None, descriptor: int = 0) -> bytes:
    """The table that ends a file, written down from the description of the format."""
    body = b"".join(struct.pack("<II", *entry) for entry in entries)
    body += struct.pack("<IBI", len(entries) if count is None else count, descriptor, 0x8F92EAB1)
    return struct.pack("<II", 0x184D2A5E, len(body)) + body


def sealed(blocks: Sequence[bytes]) -> bytes:
    """A sealed file with these blocks."""
    stored = [compress(block) for block in blocks]
    return b"".join(stored) + table([(len(one), len(block)) for one, block in zip(stored, blocks, strict=True)])

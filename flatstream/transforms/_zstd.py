"""Zstandard by the packages that there are for it: one to compress, and the fastest to decompress.

``compression.zstd`` is in the standard library from Python 3.14 on, and ``backports.zstd`` is the same for earlier
ones. It makes a decompression context for each frame, since its decompressor ends with a frame, and that takes longer
than the frame of a small message. The package ``zstandard`` uses one context again: it is taken where it is installed
(``time_read_zstd`` of asv_benchmarks/compression.py has both).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from flatstream._core.framing.stored import ZstdUnpack
from flatstream.errors import DecompressionError

__all__ = ["INSTALL", "MAGIC", "ZSTD", "Unpacker", "make_unpacker", "standard_zstd"]

ZSTD = "zstd"
INSTALL = "pip install 'flatstream[compression]'"

# What a frame begins with (RFC 8878, 3.1.1). Other frames can be skipped, and hold no message.
MAGIC = b"\x28\xb5\x2f\xfd"

# A block becomes at most 128 KiB and takes 4 bytes or more, its header included (RFC 8878, 3.1.1.2). So no frame
# becomes larger than this allows, whatever size it declares.
MAX_BLOCK = 128 << 10
MIN_BLOCK = 4


def standard_zstd() -> Any:
    """The module of the standard library, or its backport.

    Raises
    ------
    ImportError
        There is none.
    """
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError(f"Zstandard needs the package backports.zstd: {INSTALL}")


class Unpacker(NamedTuple):
    """How to decompress frames of Zstandard that were compressed with one dictionary, or without any.

    Attributes
    ----------
    library : str
        "zstandard" or "standard".
    unpack : function
        ``unpack(data, max_size)`` gives the content of the one frame in `data`, a memoryview of bytes. It raises
        DecompressionError if that is no such frame, is damaged, does not declare the size of its content, or has
        another dictionary; or if the content is larger than `max_size`.
    size_of : function
        ``size_of(data, max_size)`` gives the size that the header declares, and raises for what the header shows.
    """

    library: str
    unpack: Callable[[Any, int], bytes]
    size_of: Callable[[Any, int], int]


def refused(reason: str) -> DecompressionError:
    return DecompressionError(validator=ZSTD, reason=reason)


def check_header(declared: Callable[[Any], tuple[int | None, int]], own_id: int, data: Any, max_size: int) -> int:
    """The size of the content that the header of a frame declares.

    ``declared(data)`` gives it (None: it is not declared), and the number of the dictionary (0: there is none), which
    must be 0 or `own_id`.
    """
    if data[:4] != MAGIC:
        first = bytes(memoryview(data)[:4])
        raise refused(f"{len(data)} bytes that begin with {first.hex(' ') or 'nothing'} are no frame")
    size, dictionary_id = declared(data)
    if size is None:
        raise refused("the frame does not declare the size of its content")
    if size > max_size:
        raise refused(f"the frame declares a content of {size:,} bytes, more than the limit of {max_size:,}")
    if size > len(data) // MIN_BLOCK * MAX_BLOCK:
        raise refused(f"the frame declares a content of {size:,} bytes, and its {len(data)} bytes hold less")
    if dictionary_id not in (0, own_id):
        given = f"the one that is given has {own_id}" if own_id else "none is given"
        raise refused(f"the frame was compressed with the dictionary number {dictionary_id}, and {given}")
    return size


def check_size(content: bytes, size: int) -> None:
    if len(content) != size:
        raise refused(f"the frame declares a content of {size:,} bytes and has {len(content):,}")


def standard_unpacker(dictionary: bytes) -> Unpacker:
    """By the standard library, or its backport."""
    zstd = standard_zstd()
    known = zstd.ZstdDict(dictionary) if dictionary else None

    def declared(data: Any) -> tuple[int | None, int]:
        try:
            found = zstd.get_frame_info(data)
        except zstd.ZstdError as error:
            raise refused(f"the header of the frame is damaged ({error})") from error
        return found.decompressed_size, found.dictionary_id

    size_of = functools.partial(check_header, declared, 0 if known is None else known.dict_id)

    def unpack(data: Any, max_size: int) -> bytes:
        size = size_of(data, max_size)
        decompressor = zstd.ZstdDecompressor(known)
        try:
            # One byte more than there may be, so that the end of the frame is seen.
            content: bytes = decompressor.decompress(data, size + 1)
        except zstd.ZstdError as error:
            raise refused(f"the frame is damaged ({error})") from error
        if not decompressor.eof:
            raise refused(f"the frame ends after {len(content):,} of {size:,} bytes of its content")
        if decompressor.unused_data:
            raise refused(f"{len(decompressor.unused_data)} bytes follow the frame")
        check_size(content, size)
        return content

    return Unpacker("standard", unpack, size_of)


def reusing_unpacker(dictionary: bytes) -> Unpacker:
    """By the package zstandard, whose contexts are kept and used again."""
    zstandard: Any = importlib.import_module("zstandard")
    error_class, parameters = zstandard.ZstdError, zstandard.get_frame_parameters
    known = None
    if dictionary:
        known = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_FULLDICT)
    own_id = 0 if known is None else known.dict_id()

    def declared(data: Any) -> tuple[int | None, int]:
        try:
            found = parameters(data)
        except error_class as error:
            raise refused(f"the header of the frame is damaged ({error})") from error
        return None if found.content_size == zstandard.CONTENTSIZE_UNKNOWN else found.content_size, found.dict_id

    size_of = functools.partial(check_header, declared, own_id)

    def fail(error: object) -> DecompressionError:
        return refused(f"the frame is damaged, or not alone ({error})")

    def explain(data: Any, max_size: int) -> bytes:
        size = size_of(data, max_size)
        # For an empty content, `decompress` does not look behind the header.
        whole = make().decompressobj()
        try:
            content: bytes = whole.decompress(data)
        except error_class as error:
            raise fail(error) from error
        if not whole.eof or whole.unused_data or len(content) != size:
            raise fail("its content is not empty, or bytes follow")
        return content

    make = functools.partial(zstandard.ZstdDecompressor, dict_data=known)
    return Unpacker("zstandard", ZstdUnpack(make, error_class, explain, fail, own_id), size_of)


# In the order in which they are tried.
UNPACKERS: tuple[Callable[[bytes], Unpacker], ...] = (reusing_unpacker, standard_unpacker)


def make_unpacker(dictionary: bytes) -> Unpacker:
    """The fastest unpacker that there is for frames compressed with this dictionary; b"" is none.

    Raises
    ------
    ImportError
        There is none.
    """
    for make in UNPACKERS[:-1]:
        with contextlib.suppress(ImportError):
            return make(dictionary)
    return UNPACKERS[-1](dictionary)

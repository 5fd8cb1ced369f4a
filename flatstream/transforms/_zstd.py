"""Zstandard by the packages that there are for it: one to compress, and the fastest to decompress.

``compression.zstd`` is in the standard library from Python 3.14 on, and ``backports.zstd`` is the same for earlier
ones. It makes a decompression context for each frame, since its decompressor ends with a frame, and that takes longer
than the frame of a small message. The package ``zstandard`` uses one context again: it is taken where it is installed
(``time_read_zstd`` of asv_benchmarks/compression.py has both).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

from flatstream.errors import DecompressionError

__all__ = ["INSTALL", "MAGIC", "ZSTD", "Unpacker", "make_unpacker", "standard_zstd"]

ZSTD = "zstd"
INSTALL = "pip install 'flatstream[compression]'"

# What a frame begins with (RFC 8878, 3.1.1). Other frames can be skipped, and hold no message.
MAGIC = b"\x28\xb5\x2f\xfd"

# A block becomes at most 128 KiB and takes 4 bytes or more, its header included (RFC 8878, 3.1.1.2). So no frame becomes
# larger than this allows, whatever size it declares.
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


class Unpacker:
    """Decompresses frames of Zstandard that were compressed with one dictionary, or without any.

    Contexts are kept and used again. Each call takes one, so that threads can share an unpacker, and none is taken by
    a process that forks meanwhile.
    """

    def __init__(self, dictionary_id: int) -> None:
        self.dictionary_id = dictionary_id

    def unpack(self, data: Any, max_size: int) -> bytes:
        """The content of the one frame in `data`, a memoryview of bytes.

        Raises
        ------
        DecompressionError
            It is no such frame, is damaged, does not declare the size of its content, or has another dictionary; or the
            content is larger than `max_size`.
        """
        if data[:4] != MAGIC:
            first = bytes(memoryview(data)[:4])
            raise refused(f"{len(data)} bytes that begin with {first.hex(' ') or 'nothing'} are no frame")
        size, dictionary_id = self._declared(data)
        if size is None:
            raise refused("the frame does not declare the size of its content")
        if size > max_size:
            raise refused(f"the frame declares a content of {size:,} bytes, more than the limit of {max_size:,}")
        if size > len(data) // MIN_BLOCK * MAX_BLOCK:
            raise refused(f"the frame declares a content of {size:,} bytes, and its {len(data)} bytes hold less")
        if dictionary_id not in (0, self.dictionary_id):
            given = f"the one that is given has {self.dictionary_id}" if self.dictionary_id else "none is given"
            raise refused(f"the frame was compressed with the dictionary number {dictionary_id}, and {given}")
        return self._unpack(data, size)

    def _declared(self, data: Any) -> tuple[int | None, int]:
        """The size of the content, None if it is not declared, and the number of the dictionary, 0 without one."""
        raise NotImplementedError

    def _unpack(self, data: Any, size: int) -> bytes:
        raise NotImplementedError


def refused(reason: str) -> DecompressionError:
    return DecompressionError(validator=ZSTD, reason=reason)


class StandardUnpacker(Unpacker):
    """By the standard library."""

    def __init__(self, zstd: Any, dictionary: bytes) -> None:
        self.zstd = zstd
        self.dictionary = zstd.ZstdDict(dictionary) if dictionary else None
        super().__init__(self.dictionary.dict_id if dictionary else 0)

    def _declared(self, data: Any) -> tuple[int | None, int]:
        try:
            found = self.zstd.get_frame_info(data)
        except self.zstd.ZstdError as error:
            raise refused(f"the header of the frame is damaged ({error})") from error
        return found.decompressed_size, found.dictionary_id

    def _unpack(self, data: Any, size: int) -> bytes:
        decompressor = self.zstd.ZstdDecompressor(self.dictionary)
        try:
            # One byte more than there may be, so that the end of the frame is seen.
            content: bytes = decompressor.decompress(data, size + 1)
        except self.zstd.ZstdError as error:
            raise refused(f"the frame is damaged ({error})") from error
        if not decompressor.eof:
            raise refused(f"the frame ends after {len(content):,} of {size:,} bytes of its content")
        if decompressor.unused_data:
            raise refused(f"{len(decompressor.unused_data)} bytes follow the frame")
        if len(content) != size:
            raise refused(f"the frame declares a content of {size:,} bytes and has {len(content):,}")
        return content


class ReusingUnpacker(Unpacker):
    """By the package zstandard."""

    def __init__(self, zstandard: Any, dictionary: bytes) -> None:
        self.zstandard = zstandard
        self.dictionary = None
        if dictionary:
            self.dictionary = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_FULLDICT)
        self.free: list[Any] = []
        super().__init__(self.dictionary.dict_id() if self.dictionary is not None else 0)

    def _declared(self, data: Any) -> tuple[int | None, int]:
        try:
            found = self.zstandard.get_frame_parameters(data)
        except self.zstandard.ZstdError as error:
            raise refused(f"the header of the frame is damaged ({error})") from error
        size = found.content_size
        return None if size == self.zstandard.CONTENTSIZE_UNKNOWN else size, found.dict_id

    def _unpack(self, data: Any, size: int) -> bytes:
        try:
            context = self.free.pop()
        except IndexError:
            context = self.zstandard.ZstdDecompressor(dict_data=self.dictionary)
        try:
            if size:
                # It allocates the declared size, which was compared with the limit.
                content: bytes = context.decompress(data, max_output_size=size, allow_extra_data=False)
            else:
                # For this size, `decompress` does not look behind the header.
                whole = context.decompressobj()
                content = whole.decompress(data)
                if not whole.eof or whole.unused_data:
                    raise refused("the frame is damaged, or not alone")
        except self.zstandard.ZstdError as error:
            raise refused(f"the frame is damaged, or not alone ({error})") from error
        self.free.append(context)
        if len(content) != size:
            raise refused(f"the frame declares a content of {size:,} bytes and has {len(content):,}")
        return content


def _reusing(dictionary: bytes) -> Unpacker:
    zstandard: Any = importlib.import_module("zstandard")
    return ReusingUnpacker(zstandard, dictionary)


def _standard(dictionary: bytes) -> Unpacker:
    return StandardUnpacker(standard_zstd(), dictionary)


# In the order in which they are tried.
UNPACKERS: tuple[Callable[[bytes], Unpacker], ...] = (_reusing, _standard)


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

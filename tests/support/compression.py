"""Payloads that compress, dictionaries, and frames of Zstandard made by hand."""

from __future__ import annotations

import functools
import struct
import zlib
from typing import Any

import pytest
from backports import zstd

from flatstream import Compressor, DecompressionError
from flatstream.transforms import _zstd
from flatstream.transforms.compressors import train_dictionary

# What is between the hosts and numbers of events is the same in all of them, as it is in messages of one table.
HOSTS = ("alpha", "beta", "gamma", "delta")


def event(number: int) -> bytes:
    """A message of 132 bytes or a few more, as a small FlatBuffer may have them."""
    host = HOSTS[number % 4].encode()
    return struct.pack(
        "<IHHHHHHHHiQQdddI",
        28, 20, 64, 4, 8, 16, 24, 32, 40, 20, number, 1_735_689_600_000_000_000 + number * 1_000_003,
        number % 100 / 8, 1.5, 0.25, len(host),
    ) + host.ljust(8, b"\0") + b"service=telemetry; level=info; state=ok\0"  # fmt: skip


@functools.cache
def events(count: int = 400) -> tuple[bytes, ...]:
    return tuple(map(event, range(count)))


@functools.cache
def dictionary(size: int = 2048, begin: int = 1000) -> bytes:
    """A dictionary from other events than `events` has; another `begin` gives another one."""
    return train_dictionary([event(number) for number in range(begin, begin + 500)], size)


class Deflate(Compressor):
    """A method of an application."""

    number, name = 200, "deflate"

    def compress(self, payload: memoryview) -> bytes:
        return zlib.compress(payload)

    def decompress(self, data: memoryview, max_size: int) -> bytes:
        undo = zlib.decompressobj()
        try:
            payload = undo.decompress(data, max_size + 1)
        except zlib.error as error:
            raise DecompressionError(str(error)) from error
        if not undo.eof or undo.unused_data or len(payload) > max_size:
            raise DecompressionError("damaged, or too large")
        return payload


def frame_header(
    *, size: int | None, size_bytes: int = 4, dictionary_id: int = 0, window: int | None = None, magic: bytes = b""
) -> bytes:
    """The header of a frame (RFC 8878, 3.1.1.1) that declares what it is told, right or wrong.

    `window` is the byte of the window descriptor; None makes a frame of a single segment.
    """
    size_flag = {None: 0, 1: 0, 2: 1, 4: 2, 8: 3}[None if size is None else size_bytes]
    is_single = window is None
    descriptor = size_flag << 6 | is_single << 5 | (3 if dictionary_id else 0)
    data = (magic or _zstd.MAGIC) + bytes([descriptor])
    data += b"" if window is None else bytes([window])
    data += struct.pack("<I", dictionary_id) if dictionary_id else b""
    if size is not None:
        data += (size - 256 if size_bytes == 2 else size).to_bytes(size_bytes, "little")
    elif is_single:
        raise ValueError("a frame of a single segment declares its size")
    return data


def block(data: bytes, *, last: bool = True) -> bytes:
    """A block of bytes that stand there as they are."""
    return (len(data) << 3 | last).to_bytes(3, "little") + data


def repeated(byte: bytes, count: int, *, last: bool = True) -> bytes:
    """A block that is one byte, repeated up to 131,072 times: the densest that there is."""
    return (count << 3 | 1 << 1 | last).to_bytes(3, "little") + byte


def unpack_zstd(frame: bytes, trained: bytes = b"") -> bytes:
    """A frame, by the library alone; ValueError if there is anything but one whole frame."""
    try:
        if zstd.get_frame_size(frame) != len(frame):
            raise ValueError("more than a frame")
        content: bytes = zstd.decompress(frame, zstd.ZstdDict(trained) if trained else None)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    return content


# Both ways to decompress Zstandard: `zstandard`, which uses a context again, and the standard module.
UNPACKERS: dict[str, Any] = {"zstandard": _zstd.reusing_unpacker, "standard": _zstd.standard_unpacker}


@pytest.fixture(params=list(UNPACKERS))
def every_unpacker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with each way to decompress Zstandard."""
    monkeypatch.setattr(_zstd, "UNPACKERS", (UNPACKERS[request.param],))
    return str(request.param)

"""Compressed payloads in plain Python: what is stored for a payload, and which stored bytes are taken.

What stands in a frame instead of the payload:

    0   1
    +---+---------------------------------------+
    | m | the payload, compressed by method m   |
    +---+---------------------------------------+

    m = 0  the payload as it is: compressed, it would not be shorter
        1  one frame of Zstandard, which declares the size of its content
        2  the size of the payload, 4 bytes little-endian, and one block of LZ4

Anything else is refused, and so is a payload that is longer than the limit.

Blocks of LZ4 are decompressed here byte by byte. Of Zstandard, the header is read here (RFC 8878, 3.1.1.1); the content
is left to the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reference.framing import encode

STORED, ZSTD, LZ4 = 0, 1, 2

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class RefusedError(Exception):
    """These bytes are not what is stored for a payload within the limit."""


class UnspecifiedError(RefusedError):
    """These bytes break a rule of their format whose breach decoders need not notice."""


# Writing


def stored(payload: bytes, method: int, compress: Callable[[bytes], bytes]) -> bytes:
    """What is stored for a payload, by a method whose bytes `compress` makes."""
    compressed = compress(payload)
    if len(compressed) >= len(payload):
        return bytes([STORED]) + payload
    return bytes([method]) + compressed


def encode_compressed(
    payloads: Iterable[bytes], checksum: str, method: int, compress: Callable[[bytes], bytes]
) -> bytes:
    """The stream of `payloads`: the frames of what is stored for each."""
    return encode([stored(payload, method, compress) for payload in payloads], checksum)


# Reading


def restore(data: bytes, limit: int, unpack_zstd: Callable[[bytes], bytes], dictionary_id: int = 0) -> bytes:
    """The payload for which `data` is stored. `unpack_zstd` raises ValueError for a frame that is damaged."""
    if not data:
        raise RefusedError("nothing")
    method, rest = data[0], data[1:]
    if method == STORED:
        payload = rest
    elif method == ZSTD:
        payload = restore_zstd(rest, limit, unpack_zstd, dictionary_id)
    elif method == LZ4:
        payload = restore_lz4(rest, limit)
    else:
        raise RefusedError(f"method {method}")
    if len(payload) > limit:
        raise RefusedError("too long")
    return payload


def restore_zstd(frame: bytes, limit: int, unpack_zstd: Callable[[bytes], bytes], dictionary_id: int) -> bytes:
    size, found = zstd_header(frame)
    if size is None or size > limit:
        raise RefusedError("no size, or too long")
    if found not in (0, dictionary_id):
        raise RefusedError("another dictionary")
    try:
        payload = unpack_zstd(frame)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    if len(payload) != size:
        raise RefusedError("another size than declared")
    return payload


def zstd_header(frame: bytes) -> tuple[int | None, int]:
    """The declared size of the content, and the number of the dictionary (0 is none)."""
    if frame[:4] != ZSTD_MAGIC or len(frame) < 5:
        raise RefusedError("no frame of Zstandard")
    descriptor = frame[4]
    size_flag, is_single_segment, is_reserved, id_flag = (
        descriptor >> 6,
        descriptor >> 5 & 1,
        descriptor >> 3 & 1,
        descriptor & 3,
    )
    if is_reserved:
        raise RefusedError("a reserved bit")
    place = 5
    # A window descriptor, unless the content is the window.
    place += not is_single_segment
    id_bytes = (0, 1, 2, 4)[id_flag]
    size_bytes = (is_single_segment, 2, 4, 8)[size_flag]
    if len(frame) < place + id_bytes + size_bytes:
        raise RefusedError("a header that is cut off")
    dictionary_id = int.from_bytes(frame[place : place + id_bytes], "little")
    place += id_bytes
    if not size_bytes:
        return None, dictionary_id
    size = int.from_bytes(frame[place : place + size_bytes], "little")
    # Sizes below 256 take one byte, so those of two bytes are counted from there.
    return size + 256 * (size_bytes == 2), dictionary_id


def restore_lz4(data: bytes, limit: int) -> bytes:
    if len(data) <= 4:
        raise RefusedError("no size, or no block")
    size = int.from_bytes(data[:4], "little")
    if size > limit:
        raise RefusedError("too long")
    payload = lz4_block(data[4:], size)
    if len(payload) != size:
        raise RefusedError("another size than declared")
    return payload


def lz4_block(block: bytes, size: int) -> bytes:
    """The content of a block: sequences of bytes that stand there, and of copies of what was before.

    A sequence is a token, whose upper half is the number of bytes that follow it, and whose lower half is the length of
    the copy, less 4; 15 goes on with bytes to be added, up to one that is not 255. The copy begins so many bytes before
    the end of what was made as 2 bytes say. The last sequence has no copy. It has the last 5 bytes of the content, and
    the last copy begins 12 bytes before the end or earlier.
    """
    if not size and block != b"\0":
        raise RefusedError("no content, and more than a token that says so")
    made = bytearray()
    at = 0
    is_specified = True

    def take(count: int) -> bytes:
        nonlocal at
        if at + count > len(block):
            raise RefusedError("a block that is cut off")
        at += count
        return block[at - count : at]

    def more(length: int) -> int:
        if length < 15:
            return length
        while (byte := take(1)[0]) == 255:
            length += 255
        return length + byte

    while True:
        token = take(1)[0]
        made += take(more(token >> 4))
        if len(made) > size:
            raise RefusedError("more than declared")
        if at == len(block):
            if not is_specified:
                raise UnspecifiedError("copies from nowhere")
            return bytes(made)
        if len(made) > size - 12 or at > len(block) - 8:
            raise RefusedError("a copy too near to the end")
        distance = int.from_bytes(take(2), "little")
        if distance > len(made):
            raise RefusedError("a copy of what is not there")
        # 0 is no distance: decoders give zeros, as what is not there yet.
        is_specified = is_specified and distance > 0
        length = more(token & 15) + 4
        if len(made) + length > size - 5:
            raise RefusedError("a copy too near to the end")
        for _ in range(length):
            made.append(made[-distance] if distance else 0)

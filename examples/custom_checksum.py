"""Custom checksums: Adler-32 in four bytes, and a plain sum in three.

A checksum declares its size in a frame, 0 to 8 bytes, and calculates a number from a payload. A number that needs more
bytes is truncated to its low bytes.
"""

# ruff: noqa: PT017 - a script has no pytest.raises

from __future__ import annotations

import io
import zlib

from flatstream import Checksum, ChecksumDeframer, ChecksumFramer, ChecksumMismatchError, StreamReader, StreamWriter


class Adler32(Checksum):
    size = 4

    def calculate(self, payload: memoryview) -> int:
        return zlib.adler32(payload)


class Sum24(Checksum):
    size = 3

    def calculate(self, payload: memoryview) -> int:
        return sum(payload)


def write(checksum: Checksum, payloads: list[bytes]) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumFramer(checksum)) as writer:
        writer.write_payloads(payloads)
    return sink.getvalue()


def main() -> None:
    payloads = [b"Wikipedia", b"abc"]

    # Stored little-endian, in exactly `size` bytes, between the length and the payload.
    stream = write(Adler32(), payloads)
    assert stream[:8].hex(" ") == "09 00 00 00 98 03 e6 11"
    assert write(Sum24(), payloads)[:7].hex(" ") == "09 00 00 00 97 03 00"

    reader = StreamReader(stream, ChecksumDeframer(Adler32()))
    assert [bytes(payload) for payload in reader] == payloads
    print(f"{len(payloads)} payloads, each with {Adler32().size} bytes of {Adler32().name}")

    # A damaged payload is detected. Its frame was read completely, so the next read returns the following frame.
    damaged = bytearray(stream)
    damaged[8] ^= 0x01
    reader = StreamReader(damaged, ChecksumDeframer(Adler32()))
    try:
        reader.read_message()
    except ChecksumMismatchError as error:
        assert error.expected == 0x11E60398
        assert error.calculated == zlib.adler32(b"Vikipedia")
        print(f"detected: {error}")
    else:
        raise AssertionError("the damage was not detected")
    assert bytes(next(reader)) == b"abc"
    print("and the frame behind it is read")


if __name__ == "__main__":
    main()

"""The built-in checksums: how many bytes each adds to a frame, and which flipped bits each detects.

Frames do not say which checksum they have. A stream whose writer was given `describe=` says it at its beginning; of
others, `flatstream.open` and `flatstream.detect` find it by trying, and a StreamReader must be told.
"""

from __future__ import annotations

import io

from flatstream import ChecksumMismatchError, ChecksumType, StreamReader, StreamWriter

PAYLOAD = b"123456789"
LENGTH_SIZE = 4

# The checksum of PAYLOAD in a frame: the check values of the catalogues.
CHECK_VALUES = {
    ChecksumType.NONE: 0,
    ChecksumType.CRC16: 0x31C3,
    ChecksumType.CRC32: 0xCBF43926,
    ChecksumType.CRC32C: 0xE3069283,
    ChecksumType.CRC64: 0x995DC9BBDF1939FA,
    ChecksumType.XXHASH64: 0x72DCB18B67A17DFF,
}


def is_detected(stream: bytes, kind: ChecksumType, bit: int) -> bool:
    """Whether reading detects a flip of one bit of the payload."""
    damaged = bytearray(stream)
    damaged[len(stream) - len(PAYLOAD) + bit // 8] ^= 1 << bit % 8
    try:
        StreamReader(damaged, kind).read_message()
    except ChecksumMismatchError:
        return True
    return False


def main() -> None:
    assert set(CHECK_VALUES) == set(ChecksumType)
    for kind, value in CHECK_VALUES.items():
        checksum = kind.checksum()
        sink = io.BytesIO()
        with StreamWriter(sink, kind) as writer:
            writer.write_payload(PAYLOAD)
        stream = sink.getvalue()

        # [u32 length][checksum, little-endian, checksum.size bytes][payload]
        expected = len(PAYLOAD).to_bytes(LENGTH_SIZE, "little") + value.to_bytes(checksum.size, "little") + PAYLOAD
        assert stream == expected
        assert [bytes(payload) for payload in StreamReader(stream, kind)] == [PAYLOAD]

        detected = sum(is_detected(stream, kind, bit) for bit in range(8 * len(PAYLOAD)))
        assert detected == (0 if kind is ChecksumType.NONE else 8 * len(PAYLOAD))
        print(f"{kind.value:<9}{checksum.size} bytes   {detected:>2} of {8 * len(PAYLOAD)} flipped bits detected")


if __name__ == "__main__":
    main()

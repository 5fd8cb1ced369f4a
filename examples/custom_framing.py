"""A custom format: each frame begins with a magic number.

A framer turns a payload into the bytes of a frame; a deframer locates the frame again. Both can wrap another framer or
deframer, so that the magic number precedes any kind of frame, with any checksum.

    +--------+----------------+----------+---------+
    | "MAGC" | payload length | checksum | payload |
    +--------+----------------+----------+---------+
"""

# ruff: noqa: PT017 - a script has no pytest.raises

from __future__ import annotations

import io
from typing import Any

from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    Crc32,
    Deframer,
    Framer,
    FrameSpan,
    InvalidFrameError,
    RecoveryEnd,
    StreamReader,
    StreamWriter,
    recover,
)

MAGIC = b"MAGC"


class MagicFramer(Framer):
    def __init__(self, inner: Framer) -> None:
        self.inner = inner

    def frame_and_write(self, writer: Any, payload: memoryview) -> None:
        # The bytes written here form one frame. If the inner framer refuses the payload, none of them reaches the sink.
        writer.write(MAGIC)
        self.inner.frame_and_write(writer, payload)


class MagicDeframer(Deframer):
    def __init__(self, inner: Deframer) -> None:
        self.inner = inner

    def locate(self, data: memoryview) -> FrameSpan | int:
        if len(data) <= len(MAGIC):
            return len(MAGIC) + 1  # the number of bytes that must be present
        found = bytes(data[: len(MAGIC)])
        if found != MAGIC:
            raise InvalidFrameError(f"expected the magic number {MAGIC!r}, found {found!r}")
        inner = self.inner.locate(data[len(MAGIC) :])
        if isinstance(inner, int):
            return inner + len(MAGIC)
        start, end, frame_end = inner
        return FrameSpan(start + len(MAGIC), end + len(MAGIC), frame_end + len(MAGIC))

    def check(self, frame: memoryview, payload: memoryview) -> None:
        self.inner.check(frame[len(MAGIC) :], payload)


def main() -> None:
    framer = MagicFramer(ChecksumFramer(Crc32()))
    deframer = MagicDeframer(ChecksumDeframer(Crc32()))

    sink = io.BytesIO()
    with StreamWriter(sink, framer.bounded(1000)) as writer:  # adapters work with any framer
        writer.write_payloads([b"abc", b"", b"defg"])
    stream = sink.getvalue()
    assert stream[:15].hex(" ") == "4d 41 47 43 03 00 00 00 c2 41 24 35 61 62 63"
    assert len(stream) == 3 * (4 + 4 + 4) + 7

    payloads = [bytes(payload) for payload in StreamReader(stream, deframer)]
    assert payloads == [b"abc", b"", b"defg"]
    print(f"read back {payloads}")

    # A wrong magic number does not begin a frame. The position of the next frame is unknown, so reading ends.
    damaged = bytearray(stream)
    damaged[15] = ord("X")
    reader = StreamReader(damaged, deframer)
    assert bytes(next(reader)) == b"abc"
    try:
        reader.read_message()
    except InvalidFrameError as error:
        assert (error.offset, error.frame) == (15, 1)
        print(f"refused: {error}")
    else:
        raise AssertionError("the damaged magic number was accepted")

    # Recovery takes any deframer.
    report = recover(stream[:-1], deframer)
    assert (report.frames, report.last_good_offset, report.end) == (2, 27, RecoveryEnd.TORN_TAIL)
    print(f"a torn stream: {report}")


if __name__ == "__main__":
    main()

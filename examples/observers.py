"""Observers: functions that see every payload, when writing and when reading.

An observer is called exactly once for each frame: before a framer frames it, or after a deframer has accepted it. Its
argument is a view of the payload, without a copy.
"""

from __future__ import annotations

import io

from flatstream import ChecksumDeframer, ChecksumFramer, ChecksumMismatchError, Crc32, StreamReader, StreamWriter


class Meter:
    """Counts messages and bytes."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0

    def __call__(self, payload: memoryview) -> None:
        self.messages += 1
        self.bytes += len(payload)


def main() -> None:
    payloads = [bytes([number]) * number for number in range(1, 11)]

    written = Meter()
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumFramer(Crc32()).observed(written)) as writer:
        writer.write_payloads(payloads)
    assert (written.messages, written.bytes) == (10, 55)

    read = Meter()
    largest: list[memoryview] = []

    def keep_large(payload: memoryview) -> None:
        # When reading, an observer may keep the payload: it is the same kind of view that the reader hands out.
        if len(payload) > 8:
            largest.append(payload)

    # Observers can be stacked; the innermost one is called first.
    deframer = ChecksumDeframer(Crc32()).observed(read).observed(keep_large)
    for _ in StreamReader(sink.getvalue(), deframer):
        pass
    assert (read.messages, read.bytes) == (10, 55)
    assert largest == payloads[8:]
    print(f"written and read: {read.messages} messages, {read.bytes} bytes; {len(largest)} large ones kept")

    # A frame that is refused is not observed.
    damaged = bytearray(sink.getvalue())
    damaged[-1] ^= 0xFF
    seen = Meter()
    try:
        StreamReader(damaged, ChecksumDeframer(Crc32()).observed(seen)).process_all(len)
    except ChecksumMismatchError:
        print(f"of a stream with a damaged last frame, {seen.messages} were observed")
    assert seen.messages == 9

    # An error in an observer stops the write: the payload is not written.
    def refuse(payload: memoryview) -> None:
        raise RuntimeError("not today")

    with StreamWriter(io.BytesIO(), ChecksumFramer(Crc32()).observed(refuse)) as writer:
        try:
            writer.write_payload(b"abc")
        except RuntimeError as error:
            print(f"an observer's own error reaches the caller: {error}")
        assert writer.frames_written == 0


if __name__ == "__main__":
    main()

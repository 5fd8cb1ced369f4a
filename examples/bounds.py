"""Bounds: the greatest length of a payload, when writing and when reading.

The length in a header may be wrong. The deframer compares it with the bound before it allocates memory; and if the
bound allows the length, memory grows only as bytes arrive.
"""

# ruff: noqa: PT017 - a script has no pytest.raises

from __future__ import annotations

import io
import struct

from flatstream import DefaultDeframer, DefaultFramer, InvalidFrameError, StreamReader, StreamWriter, UnexpectedEofError

BOUND = 1000


def main() -> None:
    # Writing: nothing of a payload over the bound is written, and the writer goes on.
    sink = io.BytesIO()
    with StreamWriter(sink, DefaultFramer().bounded(BOUND)) as writer:
        writer.write_payload(bytes(BOUND))
        try:
            writer.write_payload(bytes(BOUND + 1))
        except InvalidFrameError as error:
            assert (error.declared_len, error.limit) == (BOUND + 1, BOUND)
            print(f"writing: {error}")
        else:
            raise AssertionError("a payload over the bound was written")
        writer.write_payload(b"abc")
    assert [len(payload) for payload in StreamReader(sink.getvalue())] == [BOUND, 3]

    # Reading: the frame is refused as soon as its header has arrived.
    reader = StreamReader(struct.pack("<I", BOUND + 1), DefaultDeframer().bounded(BOUND))
    try:
        reader.read_message()
    except InvalidFrameError as error:
        assert (error.declared_len, error.limit, error.offset) == (BOUND + 1, BOUND, 0)
        print(f"reading: {error}")
    else:
        raise AssertionError("a length over the bound was accepted")

    # Without an explicit bound, a deframer allows the maximum of FlatBuffers, 2 GiB. A header that declares nearly 2 GB
    # in front of ten bytes takes no more memory than the ten bytes and one step of growth, 1 MiB.
    reader = StreamReader(io.BytesIO(struct.pack("<I", 2_000_000_000) + bytes(10)))
    try:
        reader.read_message()
    except UnexpectedEofError as error:
        assert (error.needed, error.got) == (2_000_000_004, 14)
        assert reader.buffer_capacity < 2 << 20
        print(f"torn:    {error}")
    else:
        raise AssertionError("a frame of ten bytes was accepted as one of 2 GB")


if __name__ == "__main__":
    main()

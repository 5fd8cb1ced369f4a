"""Bounds: how long a payload may be, when writing and when reading.

A length in a header is a claim. It is compared with the bound before any memory is taken for it; and even where the
bound allows it, memory grows only as bytes arrive.
"""

# ruff: noqa: PT017 - a script has no pytest.raises

from __future__ import annotations

import io
import struct

from flatstream import DefaultDeframer, DefaultFramer, InvalidFrameError, StreamReader, StreamWriter, UnexpectedEofError

BOUND = 1000


def main() -> None:
    # Writing: a payload over the bound is refused whole, and the writer goes on.
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

    # Reading: the header alone is enough to refuse the frame.
    reader = StreamReader(struct.pack("<I", BOUND + 1), DefaultDeframer().bounded(BOUND))
    try:
        reader.read_message()
    except InvalidFrameError as error:
        assert (error.declared_len, error.limit, error.offset) == (BOUND + 1, BOUND, 0)
        print(f"reading: {error}")
    else:
        raise AssertionError("a length over the bound was accepted")

    # Without a bound of its own, a deframer allows what FlatBuffers allows: 2 GiB. A header that claims nearly as much
    # in front of ten bytes costs no more memory than the ten bytes and one step of growth, 1 MiB.
    reader = StreamReader(io.BytesIO(struct.pack("<I", 2_000_000_000) + bytes(10)))
    try:
        reader.read_message()
    except UnexpectedEofError as error:
        assert (error.needed, error.got) == (2_000_000_004, 14)
        assert reader.buffer_capacity < 2 << 20
        print(f"a lie:   {error}")
    else:
        raise AssertionError("a frame of ten bytes passed for one of 2 GB")


if __name__ == "__main__":
    main()

"""NonEmptyFramer: empty payloads are refused, others pass at the speed of the inner framer."""

from __future__ import annotations

import io
import pickle
from array import array

import pytest

from flatstream import Framer, InvalidFrameError, StreamReader, StreamWriter
from flatstream._core.framing.framer import NonEmptyFramer, frame_payloads
from flatstream.framing import as_framer
from support.extent import in_one_test

CHECKSUMS = ["none", "crc16", "crc32", "crc32c", "crc64", "xxhash64"]
PAYLOADS = [b"a", b"bc", b"d" * 1000]


@in_one_test
@pytest.mark.parametrize("checksum", CHECKSUMS)
def test_it_makes_the_frames_of_the_inner_framer(checksum: str) -> None:
    streams = []
    for framer in (as_framer(checksum), NonEmptyFramer(as_framer(checksum))):
        sink = io.BytesIO()
        with StreamWriter(sink, framer) as writer:
            writer.write_payload(PAYLOADS[0])
            writer.write_payloads(PAYLOADS * 40)
        streams.append(sink.getvalue())
    assert streams[0] == streams[1]


@in_one_test
@pytest.mark.parametrize("checksum", CHECKSUMS)
def test_loops_in_c_take_it_and_stop_before_an_empty_payload(checksum: str) -> None:
    # A framer that the loop has to call for each payload is a TypeError.
    for framer in (NonEmptyFramer(as_framer(checksum)), NonEmptyFramer(as_framer(checksum).bounded(5)).bounded(7)):
        out, ends = bytearray(1000), array("q", [0] * 10)
        assert frame_payloads([b"a", b"b", b"", b"c"], framer, out, ends) == 2


def adapted(framer: Framer) -> list[Framer]:
    return [framer, framer.bounded(10), framer.observed(lambda payload: None), NonEmptyFramer(framer.bounded(10))]


@in_one_test
@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("buffer_size", [0, 1000])
def test_an_empty_payload_is_refused_and_the_others_are_written(index: int, buffer_size: int) -> None:
    framer = adapted(NonEmptyFramer(as_framer("crc32")))[index]
    sink = io.BytesIO()
    with StreamWriter(sink, framer, buffer_size=buffer_size) as writer:
        writer.write_payload(b"a")
        with pytest.raises(InvalidFrameError, match="the payload is empty"):
            writer.write_payload(b"")
        with pytest.raises(InvalidFrameError, match="the payload is empty"):
            writer.write_payloads([b"b"] * 50 + [b"", b"never"])
        with pytest.raises(InvalidFrameError, match="the payload is empty"):
            framer.frame_and_write(io.BytesIO(), memoryview(b""))
        writer.write_payload(b"c")
    assert [bytes(payload) for payload in StreamReader(sink.getvalue(), "crc32")] == [b"a", *[b"b"] * 50, b"c"]


def test_it_can_be_pickled_and_shown() -> None:
    framer = NonEmptyFramer(as_framer("crc32"))
    copy = pickle.loads(pickle.dumps(framer))
    assert repr(copy) == repr(framer) == "NonEmptyFramer(ChecksumFramer(Crc32()))"
    with pytest.raises(TypeError, match="inner must be an instance of Framer"):
        NonEmptyFramer(5)  # type: ignore[arg-type]

"""The output buffer of a writer whose sink has to know where frames end."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

import flatstream
from flatstream import StreamReader, StreamWriter
from support.extent import in_one_test

HEADER = 4


class PartialSink(io.RawIOBase):
    """Takes at most so many bytes of each write, or ends of frames, and notes what the writer says of the rest."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = bytearray()
        self.writer: StreamWriter | None = None
        self.offers: list[int] = []

    def writable(self) -> bool:
        return True

    def write(self, view: Any) -> int:
        assert self.writer is not None
        self.offers.append(len(view))
        if self.writer.pending_bytes:
            assert self.writer.pending_bytes == len(view)
            # Ends of frames, as the writer tells them, are those in the bytes themselves.
            size, count = self.writer._whole_frames(len(view), 10**9)
            assert size == len(view)
            for limit in range(0, len(view) + 1, 7):
                inside, ends = self.writer._whole_frames(limit, 10**9)
                assert inside <= limit
                assert ends <= count
        taken = min(self.size, len(view))
        self.data += view[:taken]
        return taken


@in_one_test
@pytest.mark.parametrize("size", [1, 3, 10, 1000])
@pytest.mark.parametrize("buffer_size", [0, 50, 1000])
def test_the_writer_tells_where_frames_end_whatever_the_sink_took(size: int, buffer_size: int) -> None:
    sink = PartialSink(size)
    payloads = [b"x" * (number % 13 + 1) for number in range(60)] + [b"y" * 2000]
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        sink.writer = writer
        writer._gather_all(0)
        for number, payload in enumerate(payloads):
            writer.write_payload(payload)
            taken = writer._frames_taken
            ends = 0
            whole = 0
            for before in payloads[: number + 1]:
                ends += HEADER + len(before)
                whole += ends <= len(sink.data)
            assert taken == whole
    assert [bytes(payload) for payload in StreamReader(bytes(sink.data))] == payloads


def writes(payloads: list[bytes]) -> dict[str, Callable[[StreamWriter], None]]:
    source = io.BytesIO()
    with StreamWriter(source) as writer:
        writer.write_payloads(payloads)
    batch = StreamReader(source.getvalue()).read_batch()
    assert batch is not None

    def one_by_one(writer: StreamWriter) -> None:
        for payload in payloads:
            writer.write_payload(payload)

    return {
        "one by one": one_by_one,
        "list": lambda writer: writer.write_payloads(payloads),
        "iterator": lambda writer: writer.write_payloads(iter(payloads)),
        "frames": lambda writer: writer.write_frames(batch),
    }


@in_one_test
@pytest.mark.parametrize("way", ["one by one", "list", "iterator", "frames"])
@pytest.mark.parametrize("max_frames", [1, 2, 33, 64, 65, 1000])
@pytest.mark.parametrize("before", [0, 500])
def test_the_buffer_never_holds_more_frames_than_its_limit(way: str, max_frames: int, before: int) -> None:
    class Counting(io.BytesIO):
        most = 0

        def write(self, view: Any) -> int:
            self.most = max(self.most, writer._whole_frames(len(view), 10**9)[1])
            return super().write(view)

    payloads = [b"%d" % number for number in range(3000)]
    sink = Counting()
    writer = StreamWriter(sink)
    # The room for ends may be larger than the limit by then.
    writer.write_payloads([b"before"] * before)
    writer._gather_all(max_frames)
    writer.flush()
    sink.most = 0
    writes(payloads)[way](writer)
    assert writer.frames_written - writer._frames_taken <= max_frames
    writer.flush()
    assert 0 < sink.most <= max_frames
    assert [bytes(one) for one in StreamReader(sink.getvalue())] == [b"before"] * before + payloads


def test_a_batch_with_a_frame_larger_than_the_buffer_passes() -> None:
    payloads = [b"a", b"b" * 5000, b"c", b"d" * 300, b"e" * 5000]
    for buffer_size in (0, 100, 400):
        sink = io.BytesIO()
        with StreamWriter(sink, buffer_size=buffer_size) as writer:
            writer._gather_all(0)
            writes(payloads)["frames"](writer)
            assert writer.frames_written == 5
        assert [bytes(payload) for payload in flatstream.StreamReader(sink.getvalue())] == payloads

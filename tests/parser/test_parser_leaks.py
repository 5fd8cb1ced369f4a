"""Parsers and serializers leave nothing over, however they are used and however it ends."""

from __future__ import annotations

import contextlib
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from pickle import PickleBuffer

import pytest

from flatstream import DefaultDeframer, DefaultFramer, FlatStreamError, FrameParser, FrameSerializer
from reference import framing as reference
from support.memory import growth, repeat

STREAM = reference.encode([b"message %d" % number * (number % 9) for number in range(60)], "crc32")


def parse(folder: Path) -> None:
    kept: list[memoryview] = []
    for capacity in (64, 4096):
        parser = FrameParser("crc32", capacity=capacity)
        for at in range(0, len(STREAM), 100):
            parser.feed(STREAM[at : at + 100])
            kept += parser
        parser.feed_eof()
        assert parser.read_message() is None
    assert len(kept) == 120


def parse_lent(folder: Path) -> None:
    parser = FrameParser("crc32", capacity=256)
    at = 0
    held = []
    while at < len(STREAM):
        buffer = parser.get_buffer()
        held += [PickleBuffer(buffer), buffer[:1]][: at % 3]
        size = min(len(buffer), len(STREAM) - at)
        buffer[:size] = STREAM[at : at + size]
        parser.buffer_updated(size)
        at += size
        held.append(parser.read_batch())
    with contextlib.suppress(BufferError):
        parser.get_buffer()
        parser.feed(b"abc")
    parser.detach()


def parse_badly(folder: Path) -> None:
    damaged = bytearray(STREAM)
    damaged[200] ^= 4
    for on_error in ("raise", "skip", "stop", "resync"):
        parser = FrameParser("crc32", on_error=on_error)
        for at in range(0, len(damaged), 333):
            parser.feed(damaged[at : at + 333])
            with contextlib.suppress(FlatStreamError):
                parser.process_all(len)
    parser = FrameParser(max_frame_len=10)
    parser.feed(STREAM)
    for _ in range(2):
        with contextlib.suppress(FlatStreamError):
            parser.read_message()
    parser = FrameParser(DefaultDeframer().observed(lambda payload: 1 // 0))
    parser.feed(STREAM)
    with contextlib.suppress(ZeroDivisionError):
        parser.read_message()


def serialize(folder: Path) -> None:
    for framer in (DefaultFramer(), DefaultFramer().observed(len)):
        serializer = FrameSerializer(framer, max_pending=20_000, buffer_size=1000)
        views = []
        for number in range(300):
            try:
                serializer.write_payload(b"x" * (number * 10))
            except BlockingIOError:
                views += serializer.pending_buffers()
                serializer.mark_sent(serializer.pending_bytes // 2)
                serializer.take(3000)
        serializer.finish()
        serializer.take(10)


CYCLES = [parse, parse_lent, parse_badly, serialize]


@pytest.mark.parametrize("cycle", CYCLES, ids=lambda cycle: cycle.__name__)
def test_cycles_leave_nothing_over(cycle: Callable[[Path], None], tmp_path: Path) -> None:
    grown = growth(cycle, tmp_path, sys.getallocatedblocks, 10)
    assert min(grown) <= 3, grown
    tracemalloc.start()
    try:
        grown = growth(cycle, tmp_path, lambda: tracemalloc.get_traced_memory()[0], 4)
    finally:
        tracemalloc.stop()
    assert min(grown) <= 1000, grown


@pytest.mark.long
@pytest.mark.parametrize("cycle", CYCLES, ids=lambda cycle: cycle.__name__)
def test_a_million_frames_leave_the_process_as_large_as_it_was(cycle: Callable[[Path], None], tmp_path: Path) -> None:
    def resident() -> int:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * 4096

    repeat(cycle, tmp_path, 300)
    before = resident()
    repeat(cycle, tmp_path, 10_000)
    assert resident() - before < 4 << 20

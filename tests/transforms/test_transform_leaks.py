"""Transforms leave nothing behind: no block of memory and no reference, however many frames and errors there were."""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import pytest

from flatstream import FlatStreamError, StreamReader, StreamWriter, recover
from support.extent import EVERYTHING, in_one_test
from support.memory import growth, repeat
from support.modes import MODES
from support.transforms import CASES, Case, NumberingDeframer, NumberingFramer

PAYLOADS = [b"", b"a", b"x" * 40, b"y" * 300, b"z" * 20]


class Interrupt(BaseException):
    pass


def cycle_of(case: Case) -> Any:
    """Everything that can be done with a stream, and everything that can go wrong."""
    mode = MODES["crc32"]
    stream = case.write(PAYLOADS, mode, describe=True)
    middle = len(stream) // 2
    damaged = stream[:middle] + bytes([stream[middle] ^ 1]) + stream[middle + 1 :]

    def observe(payload: Any) -> None:
        if len(payload) == 300:
            raise Interrupt

    def cycle(folder: Path) -> None:
        sink = io.BytesIO()
        with StreamWriter(sink, case.framer(mode.framer()).bounded(400), describe=True, buffer_size=64) as writer:
            writer.write_payloads(PAYLOADS)
            with contextlib.suppress(FlatStreamError):
                writer.write_payload(bytes(401))
            with contextlib.suppress(TypeError):
                writer.write_payload(None)  # type: ignore[arg-type]
        for data in (stream, damaged, stream[:middle]):
            for on_error in ("raise", "skip", "stop", "resync"):
                for observed in (False, True):
                    deframer = case.deframer(mode.deframer())
                    if observed:
                        deframer = deframer.observed(observe)
                    with StreamReader(io.BytesIO(data), deframer, capacity=100, on_error=on_error) as reader:
                        for _ in range(8):
                            with contextlib.suppress(FlatStreamError, Interrupt):
                                reader.read_message()
                            with contextlib.suppress(FlatStreamError, Interrupt):
                                reader.read_batch(max_bytes=50)
                        with contextlib.suppress(FlatStreamError, Interrupt):
                            while reader.read_batch() is not None:
                                pass
            with contextlib.suppress(FlatStreamError):
                recover(data, case.deframer(mode.deframer()))

    return cycle


# The others are chains of the same.
FIRST = ("numbers around zlib", "encrypted")


@in_one_test
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FIRST else pytest.mark.long) for name in CASES]
)
def test_streams_leave_no_blocks_of_memory(name: str, tmp_path: Path) -> None:
    cycle = cycle_of(CASES[name])
    # What the libraries keep from one stream to the next grows first. A block for each cycle would be four.
    repeat(cycle, tmp_path, 80 if EVERYTHING else 10)
    grown = growth(cycle, tmp_path, sys.getallocatedblocks, 4)
    assert min(grown) < 4, grown
    if EVERYTHING:
        tracemalloc.start()
        try:
            repeat(cycle, tmp_path, 2)
            grown = growth(cycle, tmp_path, lambda: tracemalloc.get_traced_memory()[0], 2)
        finally:
            tracemalloc.stop()
        assert min(grown) <= 500, grown


@pytest.mark.long
@in_one_test
@pytest.mark.parametrize("name", ["numbers", "zstd", "lz4", "encrypted", "numbers around zlib"])
def test_a_million_frames_leave_the_process_as_large_as_it_was(name: str) -> None:
    case, mode = CASES[name], MODES["crc32c"]
    stream = case.write([b"message %d" % (number % 10) for number in range(50_000)], mode)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def read_and_write(folder: Path) -> None:
        reader = StreamReader(io.BytesIO(stream), case.deframer(mode.deframer()))
        with reader, StreamWriter(io.BytesIO(), case.framer(mode.framer())) as writer:
            for batch in reader.batches():
                writer.write_payloads(batch)

    grown = growth(read_and_write, Path(), resident, 4)
    assert min(grown) < 1 << 20, grown


def test_cycles_through_a_transform_are_collected() -> None:
    class Holding(NumberingFramer):
        holder: Any = None

    class HoldingDeframer(NumberingDeframer):
        holder: Any = None

    framer = Holding(MODES["crc32"].framer())
    sink = io.BytesIO()
    writer = StreamWriter(sink, framer)
    writer._session.holder = writer  # type: ignore[attr-defined]
    writer.write_payload(b"a")
    writer.close()
    reader = StreamReader(sink.getvalue(), HoldingDeframer(MODES["crc32"].deframer()))
    reader._session.holder = reader  # type: ignore[attr-defined]
    reader.read_batch(max_bytes=1)
    gone: list[Any] = [weakref.ref(writer._session), weakref.ref(reader._session)]
    del writer, reader, framer
    gc.collect()
    assert [reference() for reference in gone] == [None, None]

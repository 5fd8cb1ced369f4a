"""Allocation: after warm-up, reading and writing allocate nothing per message.

`tracemalloc` counts every block that Python or the package's own memory functions take: what stays shows at the end,
and what is there at a time shows in the peak. Both must be the same for ten times as many messages.
"""

from __future__ import annotations

import gc
import io
import itertools
import mmap
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from flatstream import (
    ChecksumType,
    DefaultDeframer,
    DefaultFramer,
    SizeValidator,
    StreamReader,
    StreamWriter,
)
from reference import framing as reference
from support.items import finished_builder
from support.messages import flatbuffer_of_event
from support.modes import MODES, Mode
from support.sources import CutReadSource

FEW = 2_000
MANY = 20_000
# What may differ between two runs: the interpreter's own caches, and integers that are longer; nothing per message. A
# byte for every eighth message would be more.
SLACK = 2048
WARM_UP = 1000

EVENT = flatbuffer_of_event(3)
NATIVE_MODES = pytest.mark.parametrize("mode", [pytest.param(m, id=n) for n, m in MODES.items() if n != "sum24"])


def memory_of(work: Callable[[], object]) -> tuple[int, int]:
    """How many bytes more there are after `work` than before it, and how many there were at most while it ran."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def assert_independent_of_count(work: Callable[[int], Callable[[], object]]) -> None:
    """`work` makes a function for a number of messages, with everything that it needs ready before it runs."""
    # What something else takes meanwhile (a finalizer, a module that is imported late) shows once; what a message
    # takes, every time.
    for _ in range(3):
        few, many = work(FEW), work(MANY)
        few_kept, few_peak = memory_of(few)
        many_kept, many_peak = memory_of(many)
        if many_kept <= few_kept + SLACK and many_peak <= few_peak + SLACK:
            break
    assert many_kept <= few_kept + SLACK
    assert many_peak <= few_peak + SLACK


# Reading, views not kept


def for_each(reader: StreamReader) -> None:
    for _ in reader:
        pass


def read_messages(reader: StreamReader) -> None:
    while reader.read_message() is not None:
        pass


def process_all(reader: StreamReader) -> None:
    reader.process_all(len)


def read_batches(reader: StreamReader) -> None:
    # A limit, because all frames of a buffer are at hand, and the index of a batch is as long as the batch.
    for batch in reader.batches(max_frames=1000):
        assert len(batch)


def typed_messages(reader: StreamReader) -> None:
    class Message:
        @classmethod
        def from_payload(cls, payload: memoryview) -> int:
            return len(payload)

    for _ in reader.typed_messages(Message):
        pass


READINGS = pytest.mark.parametrize("read", [for_each, read_messages, process_all, read_batches, typed_messages])
SOURCES = pytest.mark.parametrize("make_source", [io.BytesIO, CutReadSource, bytes, bytearray, memoryview])


def drained(reader: StreamReader, read: Callable[[StreamReader], None], frames: int) -> Callable[[], None]:
    # The first messages warm it up: chunks are there before anything is counted.
    for _ in range(100):
        next(reader)

    def work() -> None:
        with reader:
            read(reader)
            assert reader.frames_read == frames

    return work


@SOURCES
@READINGS
def test_reading_allocates_nothing_per_message(
    read: Callable[[StreamReader], None], make_source: Callable[[bytes], Any]
) -> None:
    frame = reference.encode([EVENT], "none")

    def work(count: int) -> Callable[[], None]:
        return drained(StreamReader(make_source(frame * count), capacity=65536), read, count)

    assert_independent_of_count(work)


@NATIVE_MODES
def test_reading_with_a_checksum_allocates_nothing_per_message(mode: Mode) -> None:
    frame = reference.encode([EVENT], mode.name)

    def work(count: int) -> Callable[[], None]:
        return drained(StreamReader(io.BytesIO(frame * count), mode.deframer(), capacity=65536), for_each, count)

    assert_independent_of_count(work)


def test_reading_through_adapters_allocates_nothing_per_message() -> None:
    frame = reference.encode([EVENT], "crc32")

    def work(count: int) -> Callable[[], None]:
        deframer = MODES["crc32"].deframer().bounded(1000).observed(len).with_validator(SizeValidator(1, 1000))
        return drained(StreamReader(io.BytesIO(frame * count), deframer, capacity=65536), for_each, count)

    assert_independent_of_count(work)


def test_reading_a_mapping_allocates_nothing_per_message() -> None:
    frame = reference.encode([EVENT], "none")

    def work(count: int) -> Callable[[], None]:
        mapping = mmap.mmap(-1, len(frame) * count)
        mapping[:] = frame * count
        return drained(StreamReader(mapping), for_each, count)

    assert_independent_of_count(work)


def test_reading_without_keeping_views_takes_two_chunks_at_most() -> None:
    frame = reference.encode([EVENT], "none")
    capacity = 65536

    def work() -> None:
        with StreamReader(io.BytesIO(frame * 20_000), capacity=capacity) as reader:
            for_each(reader)

    data = len(frame) * 20_000
    _, peak = memory_of(work)
    assert data <= peak <= data + 2 * capacity + 16384


# Writing


class Nowhere:
    """Takes everything and keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)


def one_by_one(name: str, make: Callable[[], Any]) -> Any:
    def write(writer: StreamWriter, count: int) -> None:
        message = make()
        method = getattr(writer, name)
        for _ in range(count):
            method(message)

    return pytest.param(write, id=f"{name} {make().__class__.__name__}")


def all_at_once(name: str, message: Any) -> Any:
    def write(writer: StreamWriter, count: int) -> None:
        getattr(writer, name)(itertools.repeat(message, count))

    return pytest.param(write, id=f"{name} {type(message).__name__}")


WRITINGS = pytest.mark.parametrize(
    "write",
    [
        one_by_one("write_payload", lambda: EVENT),
        one_by_one("write_payload", lambda: bytearray(EVENT)),
        one_by_one("write_payload", lambda: memoryview(EVENT)),
        one_by_one("write_finished", lambda: finished_builder("telemetry", 256)),
        all_at_once("write_payloads", EVENT),
        all_at_once("write_payloads", memoryview(EVENT)),
    ],
)


def written(writer: StreamWriter, write: Callable[[StreamWriter, int], None], count: int) -> Callable[[], None]:
    # The first messages warm it up: the buffer has been full before anything is counted.
    write(writer, WARM_UP)

    def work() -> None:
        with writer:
            write(writer, count)
            assert writer.frames_written == count + WARM_UP

    return work


@WRITINGS
def test_writing_allocates_nothing_per_message(write: Callable[[StreamWriter, int], None]) -> None:
    def work(count: int) -> Callable[[], None]:
        return written(StreamWriter(Nowhere(), ChecksumType.CRC32), write, count)

    assert_independent_of_count(work)


@NATIVE_MODES
def test_writing_with_a_checksum_allocates_nothing_per_message(mode: Mode) -> None:
    def write(writer: StreamWriter, count: int) -> None:
        for _ in range(count):
            writer.write_payload(EVENT)

    def work(count: int) -> Callable[[], None]:
        return written(StreamWriter(Nowhere(), mode.framer()), write, count)

    assert_independent_of_count(work)


@WRITINGS
def test_writing_through_allocates_nothing_per_message(write: Callable[[StreamWriter, int], None]) -> None:
    def work(count: int) -> Callable[[], None]:
        return written(StreamWriter(Nowhere(), ChecksumType.CRC32, buffer_size=0), write, count)

    assert_independent_of_count(work)


@WRITINGS
def test_writing_payloads_larger_than_the_buffer_allocates_nothing_per_message(
    write: Callable[[StreamWriter, int], None],
) -> None:
    def work(count: int) -> Callable[[], None]:
        return written(StreamWriter(Nowhere(), ChecksumType.CRC32, buffer_size=16), write, count)

    assert_independent_of_count(work)


@WRITINGS
def test_writing_through_adapters_allocates_nothing_per_message(write: Callable[[StreamWriter, int], None]) -> None:
    def work(count: int) -> Callable[[], None]:
        framer = DefaultFramer().bounded(1000).observed(len).with_validator(SizeValidator(1, 1000))
        return written(StreamWriter(Nowhere(), framer), write, count)

    assert_independent_of_count(work)


def test_simple_mode_allocates_nothing_per_message_that_stays() -> None:
    # The builder of the flatbuffers package makes objects for every message; all of them go again. It is slow, hence
    # fewer messages, and a buffer that they fill.
    def memory(count: int) -> tuple[int, int]:
        def write(writer: StreamWriter, count: int) -> None:
            writer.write_batch(itertools.repeat("abc", count))

        return memory_of(written(StreamWriter(Nowhere(), buffer_size=4096), write, count))

    few_kept, few_peak = memory(500)
    many_kept, many_peak = memory(5000)
    assert many_kept <= few_kept + SLACK
    assert many_peak <= few_peak + SLACK


def test_writing_and_reading_back_gives_what_was_written() -> None:
    # What the tests above do, once, with a sink that can be read: none of them wins by not doing the work.
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        writer.write_payloads(itertools.repeat(EVENT, 1000))
    assert sink.getvalue() == reference.encode([EVENT], "none") * 1000
    with StreamReader(sink.getvalue(), DefaultDeframer()) as reader:
        assert [bytes(payload) for payload in reader] == [EVENT] * 1000

"""Faults of sinks and sources: errors keep their kind and come again, EINTR never surfaces, torn is not ended."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flatstream import (
    DefaultDeframer,
    DefaultFramer,
    FlatStreamError,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
)
from reference import framing as reference
from support.errors import raised_by
from support.extent import in_one_test
from support.items import finished_builder
from support.messages import flatbuffer_of_string
from support.modes import MODES, Mode, every_mode
from support.sinks import FaultySink, InterruptedSink, PlainSink, ShortSink
from support.sources import FaultySource, InterruptedSource
from support.streams import corpus, read_all


class DeviceError(Exception):
    """What a sink may raise that is no OSError."""


every_fault = pytest.mark.parametrize(
    "make_fault",
    [
        pytest.param(lambda: OSError(errno.ENOSPC, "No space left on device"), id="ENOSPC"),
        pytest.param(lambda: BrokenPipeError(errno.EPIPE, "Broken pipe"), id="EPIPE"),
        pytest.param(lambda: PermissionError(errno.EACCES, "Permission denied"), id="EACCES"),
        pytest.param(lambda: OSError("a device that gives no number"), id="no_errno"),
        pytest.param(lambda: DeviceError("no OSError at all"), id="DeviceError"),
    ],
)


# A sink's error keeps its kind in write and write_finished

WRITES: dict[str, Callable[[StreamWriter], None]] = {
    "write": lambda writer: writer.write("abc"),
    "write_batch": lambda writer: writer.write_batch(["abc"]),
    "write_finished": lambda writer: writer.write_finished(finished_builder("abc")),
    "write_message": lambda writer: writer.write_message(finished_builder("abc")),
    "write_payload": lambda writer: writer.write_payload(flatbuffer_of_string("abc")),
    "write_payloads": lambda writer: writer.write_payloads([flatbuffer_of_string("abc")]),
}
every_write = pytest.mark.parametrize("write", [pytest.param(write, id=name) for name, write in WRITES.items()])


@in_one_test
@every_fault
@every_write
def test_sinks_error_keeps_its_kind_in_every_way_of_writing(
    write: Callable[[StreamWriter], None], make_fault: Callable[[], Exception]
) -> None:
    fault = make_fault()
    number = getattr(fault, "errno", None)
    sink = FaultySink(0, fault)
    writer = StreamWriter(sink, buffer_size=0)
    assert raised_by(write, writer) is fault
    assert getattr(fault, "errno", None) == number
    assert sink.faults == 1
    with contextlib.suppress(FlatStreamError):
        writer.close()


@in_one_test
@every_fault
@pytest.mark.parametrize("finish", [StreamWriter.flush, StreamWriter.close, StreamWriter.detach])
@every_write
def test_sinks_error_keeps_its_kind_when_what_was_gathered_is_handed_over(
    write: Callable[[StreamWriter], None], finish: Callable[[StreamWriter], object], make_fault: Callable[[], Exception]
) -> None:
    fault = make_fault()
    writer = StreamWriter(FaultySink(3, fault))
    write(writer)
    assert raised_by(finish, writer) is fault
    with contextlib.suppress(FlatStreamError):
        writer.close()


@in_one_test
@every_mode
def test_sinks_error_at_every_byte_keeps_its_kind_and_nothing_follows_the_torn_frame(mode: Mode) -> None:
    stream = corpus(mode)
    fault = OSError(errno.EIO, "Input/output error")
    for limit in range(len(stream.data)):
        sink = FaultySink(limit, fault)
        writer = StreamWriter(sink, mode.framer(), buffer_size=0)
        assert raised_by(writer.write_payloads, stream.payloads) is fault
        # The sink works again, but nobody may put a frame behind half of one.
        for write in WRITES.values():
            with pytest.raises(FlatStreamError) as refused:
                write(writer)
            assert refused.value.__cause__ is fault
        with pytest.raises(FlatStreamError):
            writer.flush()
        with pytest.raises(FlatStreamError):
            writer.close()
        assert sink.arrived() == stream.data[:limit]
        assert writer.closed


@in_one_test
@every_fault
def test_sinks_error_in_its_own_flush_keeps_its_kind(make_fault: Callable[[], Exception]) -> None:
    fault = make_fault()

    class Sink(PlainSink):
        def flush(self) -> None:
            raise fault

    sink = Sink()
    writer = StreamWriter(sink)
    writer.write_payload(b"abc")
    assert raised_by(writer.flush) is fault
    assert raised_by(writer.close) is fault
    assert sink.arrived() == b"\x03\x00\x00\x00abc"


# A source's error keeps its kind, and comes again


def through(read: Callable[[StreamReader], Any]) -> Callable[[StreamReader], list[bytes]]:
    def read_through(reader: StreamReader) -> list[bytes]:
        got: list[bytes] = []
        while (result := read(reader)) is not None:
            got.extend(map(bytes, result))
        return got

    return read_through


READS: dict[str, Callable[[StreamReader], Any]] = {
    "read_message": lambda reader: None if (payload := reader.read_message()) is None else [payload],
    "next": lambda reader: None if (payload := next(reader, None)) is None else [payload],
    "read_batch": lambda reader: reader.read_batch(),
    "process_all": lambda reader: None if reader.process_all(lambda payload: None) == 0 else [],
}
every_read = pytest.mark.parametrize("read", [pytest.param(read, id=name) for name, read in READS.items()])


@in_one_test
@every_read
@every_mode
def test_device_fault_at_every_byte_comes_through_as_itself_and_is_sticky(
    mode: Mode, read: Callable[[StreamReader], Any]
) -> None:
    stream = corpus(mode)
    fault = OSError(errno.EIO, "Input/output error")
    for fault_at in range(len(stream.data) + 1):
        source = FaultySource(stream.data, fault_at, fault, piece=11)
        with StreamReader(source, mode.deframer()) as reader:
            assert raised_by(through(read), reader) is fault, f"fault at {fault_at}"
            assert fault.errno == errno.EIO
            assert reader.frames_read == stream.whole_frames(fault_at)
            # The source would give the rest now; the reader does not know what was lost in between.
            for again in READS.values():
                assert raised_by(again, reader) is fault
            assert reader.frames_read == stream.whole_frames(fault_at)
            assert source.position == fault_at


@in_one_test
@pytest.mark.parametrize(
    "make_fault",
    [
        pytest.param(lambda: BlockingIOError(errno.EAGAIN, "Would block"), id="BlockingIOError"),
        pytest.param(lambda: TimeoutError(errno.ETIMEDOUT, "Timed out"), id="TimeoutError"),
    ],
)
@every_mode
def test_source_that_would_block_at_every_byte_loses_nothing(mode: Mode, make_fault: Callable[[], OSError]) -> None:
    stream = corpus(mode)
    fault = make_fault()
    for fault_at in range(len(stream.data) + 1):
        with StreamReader(FaultySource(stream.data, fault_at, fault), mode.deframer()) as reader:
            got: list[bytes] = []
            assert raised_by(got.extend, map(bytes, reader)) is fault
            assert len(got) == stream.whole_frames(fault_at)
            got.extend(map(bytes, reader))
            assert got == list(stream.payloads)


# EINTR never surfaces


@in_one_test
@every_read
@every_mode
def test_interrupted_source_never_surfaces(mode: Mode, read: Callable[[StreamReader], Any]) -> None:
    stream = corpus(mode)
    source = InterruptedSource(stream.data, range(len(stream.data)))
    with StreamReader(source, mode.deframer()) as reader:
        through(read)(reader)
        assert reader.frames_read == len(stream.payloads)
        assert reader.offset == len(stream.data)
    # Every byte came on its own, and each third call was interrupted: the last of them was asked for at the end.
    assert source.interruptions >= len(stream.data) // 2


def test_interrupted_read_never_surfaces() -> None:
    stream = corpus(MODES["crc32"])
    interrupted = InterruptedSource(stream.data, range(len(stream.data)))

    class ReadOnly:
        def read(self, size: int) -> bytes:
            return interrupted.take(size)

    assert read_all(ReadOnly(), MODES["crc32"].deframer()) == (list(stream.payloads), None)
    assert interrupted.interruptions > 0


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 1, 16, 65536])
@every_mode
def test_interrupted_sink_never_surfaces(mode: Mode, buffer_size: int) -> None:
    stream = corpus(mode)
    sink = InterruptedSink([1, 3])
    with StreamWriter(sink, mode.framer(), buffer_size=buffer_size) as writer:
        writer.write_payloads(stream.payloads)
    assert sink.arrived() == stream.data
    assert sink.interruptions > 0


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 1, 16, 65536])
@every_mode
def test_short_writes_are_continued(mode: Mode, buffer_size: int) -> None:
    stream = corpus(mode)
    sink = ShortSink([1, 2, 5])
    with StreamWriter(sink, mode.framer(), buffer_size=buffer_size) as writer:
        writer.write_payloads(stream.payloads)
    assert sink.arrived() == stream.data


@contextlib.contextmanager
def signals_every(seconds: float) -> Iterator[list[int]]:
    """Has a signal interrupt the main thread again and again; gives the list of those that came."""
    seen: list[int] = []
    done = threading.Event()
    target = threading.get_ident()

    def send() -> None:
        while not done.wait(seconds):
            signal.pthread_kill(target, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_real_signals_during_reading_and_writing_never_surface() -> None:
    payloads = [bytes([number % 251]) * (number % 700) for number in range(600)]
    read_end, write_end = os.pipe()
    arrived = bytearray()

    def carry() -> None:
        # Slowly, so that the writer meets a full pipe and the reader an empty one.
        with os.fdopen(read_end, "rb", buffering=0) as file:
            while piece := file.read(8192):
                arrived.extend(piece)
                time.sleep(0.001)

    def feed(data: bytes, descriptor: int) -> None:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for begin in range(0, len(data), 8192):
                file.write(data[begin : begin + 8192])
                time.sleep(0.001)

    thread = threading.Thread(target=carry)
    thread.start()
    with signals_every(0.0005) as seen:
        with os.fdopen(write_end, "wb", buffering=0) as file, StreamWriter(file, buffer_size=0) as writer:
            writer.write_payloads(payloads)
        thread.join()
    assert len(seen) > 10
    assert bytes(arrived) == reference.encode(payloads, "none")

    read_end, write_end = os.pipe()
    thread = threading.Thread(target=feed, args=(bytes(arrived), write_end))
    thread.start()
    with signals_every(0.0005) as seen:
        with os.fdopen(read_end, "rb", buffering=0) as file:
            assert read_all(file) == (payloads, None)
        thread.join()
    assert len(seen) > 10


# Premature end is UnexpectedEof


@in_one_test
@every_read
@every_mode
def test_premature_end_is_unexpected_eof(mode: Mode, read: Callable[[StreamReader], Any]) -> None:
    stream = corpus(mode)
    for cut in sorted(set(range(len(stream.data))) - {0, *stream.ends}):
        # A fault that never comes: a source that gives this much and then b"" for ever.
        source = FaultySource(stream.data[:cut], len(stream.data) + 1, OSError(), piece=11)
        with StreamReader(source, mode.deframer()) as reader:
            error = raised_by(through(read), reader)
            torn = reference.decode(stream.data[:cut], mode.name).end
            assert isinstance(torn, reference.Torn)
            assert isinstance(error, UnexpectedEofError)
            assert isinstance(error, EOFError)
            assert (error.offset, error.frame, error.needed, error.got) == (
                torn.offset,
                torn.frame,
                torn.needed,
                torn.got,
            )
            assert raised_by(read, reader) is error


def test_premature_end_of_a_socket_and_a_pipe_is_unexpected_eof() -> None:
    data = reference.encode([b"abc", b"defg"], "none")[:-1]
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as file:
        payloads, error = read_all(file, DefaultDeframer())
    assert payloads == [b"abc"]
    assert isinstance(error, UnexpectedEofError)
    assert (error.offset, error.frame, error.needed, error.got) == (7, 1, 8, 7)


# What comes after an error that the framer, not the sink, is to blame for


def test_refused_payload_does_not_stop_the_writer() -> None:
    sink = PlainSink()
    with StreamWriter(sink, DefaultFramer().bounded(3)) as writer:
        writer.write_payload(b"abc")
        assert isinstance(raised_by(writer.write_payload, b"abcd"), FlatStreamError)
        writer.write_payload(b"de")
    assert sink.arrived() == b"\x03\x00\x00\x00abc\x02\x00\x00\x00de"

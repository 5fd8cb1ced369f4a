"""Every kind of source is read and every kind of sink written alike, and each is left as it should be.

What is shown: messages come when they are sent and not when some buffer is full; what does not arrive at once, or is
not taken at once, is waited for or said, and never lost; a reader begins where its source stands and gives back what it
took and did not use; files that grow can be followed; what is no source or sink is refused, with a message that says
why. `flatstream.open` is in test_open.py.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import mmap
import os
import queue
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatstream import (
    ChecksumMismatchError,
    ChecksumType,
    InvalidFrameError,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
)
from reference import framing as reference
from support.bad_input import shown
from support.extent import in_one_test
from support.modes import every_mode
from support.sinks import PlainSink, every_sink
from support.sources import CutReadSource, CutSource, InterruptedSource, every_source
from support.streams import PAYLOADS, STREAM, encode

# How long to wait for what comes at once, unless it never does.
PATIENCE = 30

FRAME_SIZE = 16
assert len(STREAM) == 100 * FRAME_SIZE


# Sources of every kind


@in_one_test
@every_mode
@every_source
@pytest.mark.parametrize("capacity", [1, 100, 262_144])
def test_every_source_gives_every_message_in_order(source_kind, mode, capacity, tmp_path):
    payloads = [b"", b"a", b"x" * 99, *PAYLOADS, b"L" * 3000, b""]
    stream = reference.encode(payloads, mode.name)
    with (
        source_kind.open(stream, tmp_path) as source,
        StreamReader(source, mode.deframer(), capacity=capacity) as reader,
    ):
        assert [bytes(payload) for payload in reader] == payloads
        assert reader.read_message() is None
        assert reader.frames_read == len(payloads)
        assert reader.bytes_read == reader.offset == len(stream)


@in_one_test
@every_source
def test_every_source_that_is_empty_ends_cleanly(source_kind, tmp_path):
    with source_kind.open(b"", tmp_path) as source, StreamReader(source) as reader:
        assert reader.read_message() is None
        assert reader.read_batch() is None
        assert list(reader) == []


@in_one_test
@every_source
def test_every_source_that_is_torn_says_so_again_and_again(source_kind, tmp_path):
    with source_kind.open(STREAM[:-3], tmp_path) as source, StreamReader(source, capacity=100) as reader:
        received: list[bytes] = []
        with pytest.raises(UnexpectedEofError) as caught:
            collect(reader, received)
        assert received == PAYLOADS[:99]
        assert (caught.value.offset, caught.value.frame, caught.value.needed, caught.value.got) == (1584, 99, 16, 13)
        with pytest.raises(UnexpectedEofError) as again:
            reader.read_message()
        assert again.value is caught.value


@in_one_test
@every_source
def test_reader_closes_what_it_opened_and_nothing_else(source_kind, tmp_path):
    with source_kind.open(STREAM, tmp_path) as source:
        reader = StreamReader(source)
        opened = reader.source
        assert next(reader) == PAYLOADS[0]
        reader.close()
        assert reader.closed
        assert reader.source is None
        reader.close()
        if source_kind.name == "path":
            assert isinstance(opened, io.FileIO)
            assert opened.closed
            return
        assert opened is source
        if source_kind.name == "socket":
            assert source.fileno() >= 0
        else:
            assert getattr(source, "closed", False) is False
    with pytest.raises(ValueError, match="this StreamReader is closed"):
        next(reader)
    with pytest.raises(ValueError, match="this StreamReader is closed"):
        reader.read_batch()
    with pytest.raises(ValueError, match="this StreamReader is closed"):
        reader.detach()
    with pytest.raises(ValueError, match="this StreamReader is closed"):
        reader.process_all(print)


def read_rest(source: Any) -> bytes:
    """What a source that is no buffer still gives."""
    receive = source.recv if isinstance(source, socket.socket) else source.read
    pieces = []
    while piece := receive(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


@in_one_test
@every_source
@pytest.mark.parametrize("capacity", [1, 50, 262_144])
@pytest.mark.parametrize("frames", [0, 1, 7, 100])
def test_detach_gives_back_what_was_taken_and_not_read(source_kind, frames, capacity, tmp_path):
    with source_kind.open(STREAM, tmp_path) as source:
        reader = StreamReader(source, capacity=capacity)
        for payload in PAYLOADS[:frames]:
            assert next(reader) == payload
        detached, unread = reader.detach()
        assert reader.closed
        assert (detached is source) is (source_kind.name != "path")
        rest = b"" if source_kind.is_buffer else read_rest(detached)
        if source_kind.name == "path":
            detached.close()
        assert bytes(unread) + rest == STREAM[frames * FRAME_SIZE :]
        assert isinstance(unread, memoryview) is source_kind.is_buffer
        with pytest.raises(ValueError, match="this StreamReader is closed"):
            next(reader)


def test_detach_after_an_error_gives_back_what_lies_behind_the_last_frame_read():
    # A torn frame was not read. One whose checksum is wrong was.
    reader = StreamReader(io.BytesIO(encode(b"good") + b"\xff\0\0\0torn"))
    assert bytes(next(reader)) == b"good"
    with pytest.raises(UnexpectedEofError):
        next(reader)
    assert reader.detach()[1] == b"\xff\0\0\0torn"

    stream = bytearray(reference.encode([b"good", b"evil", b"good"], "crc32"))
    stream[12 + 8] ^= 1
    reader = StreamReader(io.BytesIO(stream), ChecksumType.CRC32)
    assert bytes(next(reader)) == b"good"
    with pytest.raises(ChecksumMismatchError):
        next(reader)
    assert reader.detach()[1] == bytes(stream[24:])


def test_detached_source_can_be_read_on_with_another_reader():
    source = CutSource(STREAM)
    reader = StreamReader(source, capacity=100)
    received = [bytes(next(reader)) for _ in range(10)]
    rest, unread = reader.detach()
    with StreamReader(io.BytesIO(bytes(unread) + rest.data[rest.position :])) as other:
        received += [bytes(payload) for payload in other]
    assert received == PAYLOADS


# What consumes the first bytes of a source, by the name of its kind.
CONSUMERS: dict[str, Callable[[Any, int], Any]] = {
    "raw_file": lambda source, size: source.seek(size),
    "buffered_file": lambda source, size: source.read(size),
    "bytesio": lambda source, size: source.seek(size),
    "gzip": lambda source, size: source.read(size),
    "pipe": lambda source, size: os.read(source.fileno(), size),
    "socket": lambda source, size: source.recv(size),
    "socket_makefile": lambda source, size: source.read(size),
}


@in_one_test
@every_source
def test_reading_begins_where_the_source_stands_and_offsets_count_from_there(source_kind, tmp_path):
    with source_kind.open(b"magic" + STREAM, tmp_path) as source:
        if source_kind.name in CONSUMERS:
            CONSUMERS[source_kind.name](source, 5)
        elif source_kind.is_buffer:
            source = memoryview(source)[5:]
        else:
            source = io.FileIO(source, "rb")
            source.seek(5)
        with StreamReader(source, capacity=64) as reader:
            assert reader.offset == 0
            assert [bytes(payload) for payload in reader] == PAYLOADS
            assert reader.offset == len(STREAM)
        if source_kind.name == "path":
            source.close()
        if isinstance(source, memoryview):
            source.release()


def test_position_of_a_mapping_is_not_minded(tmp_path):
    with mmap.mmap(-1, len(STREAM)) as mapping:
        mapping[:] = STREAM
        mapping.seek(100)
        with StreamReader(mapping) as reader:
            assert [bytes(payload) for payload in reader] == PAYLOADS
        assert mapping.tell() == 100


@in_one_test
@pytest.mark.parametrize("make", [CutSource, CutReadSource, InterruptedSource])
@pytest.mark.parametrize("capacity", [1, 5, 64, 4096])
@pytest.mark.parametrize("step", [1, 3, 16, 17])
def test_source_that_gives_little_at_a_time_gives_the_same_messages(make, capacity, step):
    source = make(STREAM, range(0, len(STREAM), step))
    with StreamReader(source, capacity=capacity) as reader:
        assert [bytes(payload) for payload in reader] == PAYLOADS
    if make is InterruptedSource:
        assert source.interruptions > 20


# What arrives while it is read


@dataclass
class Line:
    """A source, and how to send to it; `blocked` is what it raises when nothing has arrived and it may not wait."""

    source: Any
    send: Callable[[bytes], Any]
    hang_up: Callable[[], Any]
    blocked: type[BaseException] = BlockingIOError


def _pipe_line(stack: ExitStack, blocking: bool, wrap: Callable[[io.FileIO], Any]) -> Line:
    reading, writing = os.pipe()
    os.set_blocking(reading, blocking)
    sending = stack.enter_context(io.FileIO(writing, "wb"))
    raw = stack.enter_context(io.FileIO(reading, "rb"))
    source = wrap(raw)
    if hasattr(source, "close"):
        stack.callback(source.close)
    return Line(source, sending.write, sending.close)


def _socket_line(stack: ExitStack, blocking: bool, wrap: Callable[[socket.socket], Any]) -> Line:
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    stack.enter_context(theirs)
    source = wrap(ours)
    if source is not ours:
        stack.callback(source.close)
    if not blocking:
        ours.setblocking(False)
    return Line(source, theirs.sendall, theirs.close)


def _timed_socket_line(stack: ExitStack, blocking: bool) -> Line:
    line = _socket_line(stack, True, lambda ours: ours)
    line.source.settimeout(PATIENCE if blocking else 0.001)
    line.blocked = TimeoutError
    return line


class OnlyRead:
    """An object with nothing but ``read``."""

    def __init__(self, file: Any) -> None:
        self.read = file.read


class OnlyRead1:
    """An object with ``read1``, and a ``read`` that must not be called: it would wait for more."""

    def __init__(self, file: Any) -> None:
        self.read1 = file.read

    def read(self, size: int) -> bytes:
        raise AssertionError("read() was called")


class OnlyReadinto:
    """An object with nothing but ``readinto``."""

    def __init__(self, file: Any) -> None:
        self.readinto = file.readinto


def _gzip_line(stack: ExitStack, blocking: bool) -> Line:
    line = _pipe_line(stack, blocking, lambda raw: gzip.GzipFile(fileobj=raw))
    compressor = zlib.compressobj(1, wbits=31)
    send, hang_up = line.send, line.hang_up

    def finish() -> None:
        with contextlib.suppress(ValueError):
            send(compressor.flush())
        hang_up()

    line.send = lambda data: send(compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))
    line.hang_up = finish
    return line


LINES: dict[str, Callable[[ExitStack, bool], Line]] = {
    "raw_pipe": lambda stack, blocking: _pipe_line(stack, blocking, lambda raw: raw),
    "buffered_pipe": lambda stack, blocking: _pipe_line(stack, blocking, io.BufferedReader),
    "object_with_read": lambda stack, blocking: _pipe_line(stack, blocking, OnlyRead),
    "object_with_read1": lambda stack, blocking: _pipe_line(stack, blocking, OnlyRead1),
    "object_with_readinto": lambda stack, blocking: _pipe_line(stack, blocking, OnlyReadinto),
    "socket": lambda stack, blocking: _socket_line(stack, blocking, lambda ours: ours),
    "socket_file": lambda stack, blocking: _socket_line(stack, blocking, lambda ours: ours.makefile("rb")),
    "raw_socket_file": lambda stack, blocking: _socket_line(
        stack, blocking, lambda ours: ours.makefile("rb", buffering=0)
    ),
    "socket_with_time_limit": _timed_socket_line,
}


@in_one_test
@pytest.mark.parametrize("name", [*LINES, "gzip_over_a_pipe"])
@pytest.mark.parametrize("batched", [False, True])
def test_messages_are_delivered_when_they_arrive(name, batched):
    arrived: queue.Queue[bytes | None] = queue.Queue()

    def receive(reader: StreamReader) -> None:
        items: Iterator[Any] = (batch[-1] for batch in reader.batches()) if batched else reader
        for payload in items:
            arrived.put(bytes(payload))
        arrived.put(None)

    with ExitStack() as stack:
        line = (_gzip_line if name == "gzip_over_a_pipe" else LINES[name])(stack, True)
        reader = stack.enter_context(StreamReader(line.source))
        thread = threading.Thread(target=receive, args=(reader,))
        thread.start()
        try:
            for payload in [b"first", b"", b"x" * 1000, b"last"]:
                frame = encode(payload)
                # In two pieces, the second of which completes the frame.
                line.send(frame[:3])
                line.send(frame[3:])
                assert arrived.get(timeout=PATIENCE) == payload
        finally:
            # Ends the reading, so that a thread that waits for more does not wait for ever.
            line.hang_up()
            thread.join(PATIENCE)
        assert arrived.get(timeout=PATIENCE) is None
        assert not thread.is_alive()


def collect(items: Iterator[Any], payloads: list[bytes]) -> None:
    """Adds the payloads that a reader, or its batches, gives to `payloads`, one by one: those before an error too."""
    for item in items:
        payloads.extend([bytes(item)] if isinstance(item, memoryview) else map(bytes, item))


@in_one_test
@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("capacity", [1, 20, 4096])
@pytest.mark.parametrize("batched", [False, True])
def test_source_that_has_nothing_now_raises_and_loses_nothing(name, capacity, batched):
    with ExitStack() as stack:
        line = LINES[name](stack, False)
        reader = stack.enter_context(StreamReader(line.source, capacity=capacity))

        def receive() -> list[bytes]:
            """All that is there; it ends with the error that says that nothing is, and must not end otherwise."""
            payloads: list[bytes] = []
            items: Iterator[Any] = reader.batches() if batched else reader
            with pytest.raises(line.blocked):
                collect(items, payloads)
            return payloads

        stream = encode(b"first", b"", b"x" * 50, b"last")
        assert receive() == []
        line.send(stream[:3])
        assert receive() == []
        assert receive() == []
        line.send(stream[3:8])
        assert receive() == []
        line.send(stream[8:20])
        assert receive() == [b"first", b""]
        assert reader.offset == 13
        line.send(stream[20:])
        assert receive() == [b"x" * 50, b"last"]
        assert (reader.frames_read, reader.offset) == (4, len(stream))
        line.hang_up()
        assert reader.read_message() is None


def test_socket_file_whose_time_was_up_never_looks_like_a_clean_end():
    # Python's socket file refuses to be read again after a time-out; that is an error, and not an end.
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as source, StreamReader(source) as reader:
        ours.settimeout(0.001)
        with pytest.raises(TimeoutError):
            reader.read_message()
        theirs.sendall(encode(b"late"))
        with pytest.raises(OSError, match="timed out"):
            reader.read_message()
        with pytest.raises(OSError, match="timed out"):
            reader.read_message()


def test_device_error_while_reading_is_raised_again_and_again():
    error = OSError(errno.EIO, "broken")

    class BrokenSource(CutSource):
        def readinto(self, buffer: Any) -> int:
            if self.position == 100:
                raise error
            return super().readinto(buffer)

    source = BrokenSource(STREAM, [100])
    reader = StreamReader(source)
    assert [bytes(next(reader)) for _ in range(6)] == PAYLOADS[:6]
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            next(reader)
        assert caught.value is error
    with pytest.raises(OSError):
        reader.read_batch()
    assert source.calls == 1
    assert reader.detach()[1] == STREAM[96:100]


def test_connection_reset_by_the_other_end_is_no_clean_end():
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        # Closing resets instead of saying goodbye.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with StreamReader(ours) as reader:
            for _ in range(2):
                with pytest.raises(ConnectionResetError):
                    reader.read_message()


# Files that grow


@pytest.mark.parametrize("kind", ["path", "raw_file", "buffered_file"])
def test_file_that_grows_after_a_clean_end_is_read_on(kind, tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(b"")
    with ExitStack() as stack:
        growing = stack.enter_context(io.FileIO(path, "ab"))
        source: Any = path
        if kind == "raw_file":
            source = stack.enter_context(io.FileIO(path, "rb"))
        elif kind == "buffered_file":
            source = stack.enter_context(open(path, "rb"))
        reader = stack.enter_context(StreamReader(source, capacity=40))
        kept = []
        for number in range(0, 100, 5):
            assert reader.read_message() is None
            assert list(reader) == []
            growing.write(STREAM[number * FRAME_SIZE : (number + 5) * FRAME_SIZE])
            kept += list(reader)
        assert [bytes(payload) for payload in kept] == PAYLOADS
        assert reader.offset == len(STREAM)


def test_memory_file_that_grows_after_a_clean_end_is_read_on():
    source = io.BytesIO()
    reader = StreamReader(source)
    received = []
    for number in range(100):
        assert reader.read_message() is None
        position = source.tell()
        source.seek(0, io.SEEK_END)
        source.write(STREAM[number * FRAME_SIZE : (number + 1) * FRAME_SIZE])
        source.seek(position)
        received += [bytes(payload) for payload in reader]
    assert received == PAYLOADS


def test_file_seen_inside_a_frame_stays_torn_though_it_grows(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(STREAM[:-1])
    with StreamReader(path) as reader:
        for payload in PAYLOADS[:-1]:
            assert next(reader) == payload
        with pytest.raises(UnexpectedEofError):
            next(reader)
        path.write_bytes(STREAM)
        with pytest.raises(UnexpectedEofError):
            next(reader)


# gzip


@in_one_test
@pytest.mark.parametrize("cut", [1, 4, 8, 9, 30, 100])
def test_truncated_gzip_stream_is_an_error_and_no_clean_end(cut):
    # What gzip itself says of it reaches the caller, and comes again.
    compressed = gzip.compress(STREAM, compresslevel=1)
    received: list[bytes] = []
    with gzip.GzipFile(fileobj=io.BytesIO(compressed[:-cut])) as source, StreamReader(source) as reader:
        with pytest.raises(EOFError):
            collect(reader, received)
        for _ in range(2):
            with pytest.raises(EOFError):
                reader.read_message()
    assert received == PAYLOADS[: len(received)]


@pytest.mark.parametrize("place", [-8, -1, 100])
def test_damaged_gzip_stream_is_an_error_and_no_clean_end(place):
    compressed = bytearray(gzip.compress(STREAM, compresslevel=1))
    compressed[place] ^= 0xFF
    with gzip.GzipFile(fileobj=io.BytesIO(compressed)) as source, StreamReader(source, ChecksumType.NONE) as reader:
        for _ in range(3):
            with pytest.raises((OSError, zlib.error, EOFError, InvalidFrameError, UnexpectedEofError)):
                collect(reader, [])


# What is no source


class NoSource:
    pass


@in_one_test
@pytest.mark.parametrize(
    "source", [None, 3, 3.5, NoSource(), bytes, io.BytesIO, ["bytes"], iter(b"abc"), True], ids=shown
)
def test_object_that_is_no_source_is_refused(source):
    message = "source must be a path, a socket, an object with readinto.* or read.*, or a bytes-like object; got"
    with pytest.raises(TypeError, match=message):
        StreamReader(source)


def _text_files(stack: ExitStack, tmp_path: Path, mode: str) -> list[Any]:
    path = tmp_path / "text"
    path.write_text("text")
    return [
        io.StringIO("text"),
        stack.enter_context(open(path, mode, encoding="ascii")),
        io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
    ]


def test_text_file_is_no_source_and_the_message_says_what_to_do(tmp_path):
    with ExitStack() as stack:
        for file in _text_files(stack, tmp_path, "r"):
            with pytest.raises(TypeError, match=r"source is a text file object: open it in binary mode, .*'rb'"):
                StreamReader(file)


def test_text_file_is_no_sink_and_the_message_says_what_to_do(tmp_path):
    with ExitStack() as stack:
        for file in _text_files(stack, tmp_path, "r+"):
            with pytest.raises(TypeError, match=r"sink is a text file object: open it in binary mode, .*'wb'"):
                StreamWriter(file)
    assert (tmp_path / "text").read_text() == "text"


def closed_files(tmp_path: Path, mode: str) -> list[Any]:
    path = tmp_path / "closed"
    path.write_bytes(STREAM)
    ours, theirs = socket.socketpair()
    makefile = ours.makefile("rwb")
    files: list[Any] = [
        io.FileIO(path, mode),
        open(path, mode),  # noqa: SIM115 - closed below
        io.BytesIO(STREAM),
        gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(STREAM)), mode=mode),
        makefile,
        ours,
        theirs,
    ]
    for file in files:
        file.close()
    return files


def test_closed_file_or_socket_is_no_source(tmp_path):
    for file in closed_files(tmp_path, "rb"):
        with pytest.raises(ValueError, match="source is closed"):
            StreamReader(file)


def test_closed_file_or_socket_is_no_sink(tmp_path):
    for file in closed_files(tmp_path, "ab"):
        with pytest.raises(ValueError, match="sink is closed"):
            StreamWriter(file)


def test_closed_mapping_and_released_view_are_no_source():
    mapping = mmap.mmap(-1, 100)
    mapping.close()
    with pytest.raises(ValueError, match="closed"):
        StreamReader(mapping)
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="released"):
        StreamReader(view)


def test_write_only_file_is_no_source(tmp_path):
    path = tmp_path / "stream"
    with io.FileIO(path, "wb") as raw, open(path, "wb") as buffered:
        for file in (raw, buffered):
            with pytest.raises(io.UnsupportedOperation, match="source is not readable"):
                StreamReader(file)


def test_read_only_file_is_no_sink(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(STREAM)
    with io.FileIO(path, "rb") as raw, open(path, "rb") as buffered:
        for file in (raw, buffered):
            with pytest.raises(io.UnsupportedOperation, match="sink is not writable"):
                StreamWriter(file)


def test_strided_buffer_is_no_source():
    for source in (memoryview(STREAM)[::2], np.frombuffer(STREAM, np.uint8)[::2]):
        with pytest.raises(BufferError, match="source must be C-contiguous"):
            StreamReader(source)


@in_one_test
@pytest.mark.parametrize("dtype", ["<i2", "<i4", "<f8", "S16"])
def test_buffer_of_other_items_than_bytes_is_read_as_its_bytes(dtype):
    source = np.frombuffer(STREAM, dtype).reshape(2, -1)
    assert [bytes(payload) for payload in StreamReader(source)] == PAYLOADS


@in_one_test
@pytest.mark.parametrize("answer", [-1, 33, "3", 2.0, [], b"abc"], ids=repr)
def test_readinto_that_returns_nonsense_is_an_error_that_says_so(answer):
    class Source:
        def readinto(self, buffer: Any) -> Any:
            return answer

    reader = StreamReader(Source(), capacity=32)
    for _ in range(2):
        with pytest.raises(OSError, match=r"the source's readinto\(\) was offered 32 bytes and returned") as caught:
            reader.read_message()
        assert caught.value.errno == errno.EIO


@in_one_test
@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ("text", TypeError, "open the file in binary mode"),
        (3, TypeError, r"what the source's read\(\) returned must be a bytes-like object, got int"),
        ([1, 2], TypeError, r"what the source's read\(\) returned must be a bytes-like object, got list"),
        (bytes(33), OSError, r"the source's read\(\) was asked for 32 bytes and returned 33"),
        (memoryview(bytes(8))[::2], BufferError, "must be C-contiguous"),
    ],
    ids=["str", "int", "list", "too_much", "strided"],
)
def test_read_that_returns_nonsense_is_an_error_that_says_so(answer, error, message):
    class Source:
        def read(self, size: int) -> Any:
            return answer

    reader = StreamReader(Source(), capacity=32)
    for _ in range(2):
        with pytest.raises(error, match=message):
            reader.read_message()


# Sinks of every kind


@in_one_test
@every_mode
@every_sink
@pytest.mark.parametrize("buffer_size", [0, 100, 65_536])
def test_every_sink_gets_the_stream_byte_for_byte(sink_kind, mode, buffer_size, tmp_path):
    payloads = [b"", b"a", b"x" * 99, *PAYLOADS, b"L" * 3000, b""]
    stream = reference.encode(payloads, mode.name)
    with sink_kind.open(tmp_path) as target:
        with StreamWriter(target.sink, mode.framer(), buffer_size=buffer_size) as writer:
            for payload in payloads:
                writer.write_payload(payload)
            assert (writer.frames_written, writer.bytes_written) == (len(payloads), len(stream))
        assert target.arrived() == stream


@in_one_test
@every_sink
def test_writer_closes_what_it_opened_and_nothing_else(sink_kind, tmp_path):
    with sink_kind.open(tmp_path) as target:
        writer = StreamWriter(target.sink)
        opened = writer.sink
        writer.write_payload(b"first")
        writer.close()
        assert writer.closed
        if sink_kind.name == "path":
            assert opened.closed
        else:
            assert opened is target.sink
            # It can be written to by somebody else.
            (opened.send if isinstance(opened, socket.socket) else opened.write)(b"more")
        assert target.arrived() == encode(b"first") + (b"" if sink_kind.name == "path" else b"more")


def test_frames_wait_in_the_buffer_until_it_is_full_or_flushed():
    sink = PlainSink()
    writer = StreamWriter(sink, buffer_size=40)
    writer.write_payloads([b"x" * 12, b"x" * 12])
    assert (sink.pieces, writer.pending_bytes) == ([], 32)
    writer.write_payload(b"x" * 12)
    # There was room for half of the third frame, but what is handed over is whole frames.
    assert (sink.pieces, writer.pending_bytes) == ([encode(b"x" * 12) * 2], 16)
    writer.flush()
    assert sink.pieces == [encode(b"x" * 12) * 2, encode(b"x" * 12)]
    writer.close()


@pytest.mark.parametrize("size", [10, 5000])
def test_without_a_buffer_every_frame_is_handed_over_at_once(size):
    sink = PlainSink()
    writer = StreamWriter(sink, buffer_size=0)
    for number in range(5):
        writer.write_payload(b"%d" % number * size)
        assert sink.arrived() == encode(*(b"%d" % done * size for done in range(number + 1)))
        assert writer.pending_bytes == 0
    writer.close()


def test_flush_reaches_the_file_through_a_buffered_one(tmp_path):
    path = tmp_path / "stream"
    with open(path, "wb") as file, StreamWriter(file) as writer:
        writer.write_payload(b"first")
        assert path.read_bytes() == b""
        writer.flush()
        assert path.read_bytes() == encode(b"first")


def test_file_is_written_from_where_it_stands(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(b"header" + b"x" * 20 + b"end")
    with io.FileIO(path, "r+b") as file:
        file.seek(6)
        with StreamWriter(file) as writer:
            writer.write_payload(b"0123456789abcdef")
        assert file.tell() == 26
    assert path.read_bytes() == b"header" + encode(b"0123456789abcdef") + b"end"


def test_large_payload_to_a_file_goes_out_in_one_vectored_write(tmp_path, monkeypatch):
    calls = []
    real = os.writev

    def writev(descriptor: int, pieces: Any) -> int:
        calls.append([len(piece) for piece in pieces])
        return real(descriptor, pieces)

    monkeypatch.setattr(os, "writev", writev)
    path = tmp_path / "stream"
    with StreamWriter(path, ChecksumType.CRC32, buffer_size=64) as writer:
        writer.write_payloads([b"small", b"L" * 5000])
    assert calls == [[8, 5000]]
    assert path.read_bytes() == reference.encode([b"small", b"L" * 5000], "crc32")


@in_one_test
@pytest.mark.parametrize("sink", [None, 3, b"bytes", NoSource(), io.BytesIO, object, [], bytearray(10)], ids=shown)
def test_object_that_is_no_sink_is_refused(sink):
    with pytest.raises(TypeError, match=r"sink must be a path, a socket or an object with write\(buffer\), got"):
        StreamWriter(sink)


def test_sink_that_loses_its_descriptor_says_so(tmp_path):
    # A number that was closed may be another file's by now.
    path = tmp_path / "stream"
    file = io.FileIO(path, "wb")
    writer = StreamWriter(file, buffer_size=64)
    writer.write_payload(b"first")
    file.close()
    with io.FileIO(tmp_path / "another", "wb") as another:
        with pytest.raises(ValueError, match="closed file"):
            writer.write_payload(b"L" * 5000)
        with pytest.raises(ValueError, match="closed file"):
            writer.close()
        assert another.tell() == 0
    assert (tmp_path / "another").read_bytes() == b""


@in_one_test
@every_sink
@every_source
def test_what_any_sink_took_any_source_gives(sink_kind, source_kind, tmp_path):
    with sink_kind.open(tmp_path) as target:
        with StreamWriter(target.sink, ChecksumType.XXHASH64, buffer_size=100) as writer:
            writer.write_payloads(PAYLOADS)
        stream = target.arrived()
    with (
        source_kind.open(stream, tmp_path) as source,
        StreamReader(source, ChecksumType.XXHASH64, capacity=100) as reader,
    ):
        assert [bytes(payload) for payload in reader] == PAYLOADS

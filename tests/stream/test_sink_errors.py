"""Real faults of files and sockets, sinks that are not what their class says, and the framer's own errors."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

import pytest

import flatstream
from flatstream import DefaultFramer, FlatStreamError, Framer, InvalidFrameError, StreamWriter
from reference import framing as reference
from support.extent import in_one_test
from support.faults import device_error, file_size_limit
from support.sinks import PlainSink
from support.streams import encode


def write_and_flush(writer: StreamWriter, *payloads: bytes) -> None:
    writer.write_payloads(payloads)
    writer.flush()


# Real faults


@in_one_test
@pytest.mark.parametrize("mode", ["w", "a"])
@pytest.mark.parametrize("buffer_size", [0, 10, 64, 300, 65536])
@pytest.mark.parametrize("size", [9, 40, 333])
def test_full_device_rolls_a_file_back_to_its_last_whole_frame(tmp_path, size, buffer_size, mode):
    path = tmp_path / "stream"
    accepted = [b"before"] if mode == "a" else []
    path.write_bytes(encode(*accepted))
    with flatstream.open(path, mode, buffer_size=buffer_size) as writer:
        with file_size_limit(1001):
            failures: list[int | None] = []
            for number in range(400):
                payload = b"%3d" % number + b"x" * (size - 3)
                try:
                    writer.write_payload(payload)
                except OSError as error:
                    failures.append(error.errno)
                    if len(failures) == 3:
                        break
                else:
                    accepted.append(payload)
            assert set(failures) <= {errno.EFBIG}
            # With a small buffer or none, nothing may be left to flush; then this is too much for the file.
            with pytest.raises(OSError) as caught:
                write_and_flush(writer, b"x" * 70_000)
            assert caught.value.errno == errno.EFBIG
            on_disk = reference.decode(path.read_bytes(), "none")
            assert isinstance(on_disk.end, reference.Clean)
            assert on_disk.payloads == accepted[: len(on_disk.payloads)]
            assert on_disk.end.offset + 4 + size > 1001
        writer.write_payload(b"after")
    assert path.read_bytes() == encode(*accepted, b"after")


@in_one_test
@pytest.mark.parametrize("call", ["ftruncate", "lseek", "fstat"])
@pytest.mark.parametrize("size", [40, 5000], ids=["buffered", "large"])
def test_full_device_whose_file_cannot_be_cut_refuses(tmp_path, monkeypatch, size, call):
    path = tmp_path / "stream"
    payload = b"x" * size

    def fail(*arguments: Any) -> None:
        raise device_error(errno.EIO)

    writer = StreamWriter(path, buffer_size=1000)
    monkeypatch.setattr(os, call, fail)
    with file_size_limit(101), pytest.raises(OSError) as caught:
        write_and_flush(writer, payload, payload, payload)
    monkeypatch.undo()
    assert caught.value.errno == errno.EFBIG
    assert any("failed too: [Errno 5]" in note for note in getattr(caught.value, "__notes__", []))
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        writer.write_payload(b"later")
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        writer.close()
    assert path.read_bytes() == encode(*[payload] * 3)[:101]


def test_close_whose_file_cannot_be_closed_raises(tmp_path):
    writer = StreamWriter(tmp_path / "stream")
    file = writer.sink
    writer.write_payload(b"first")
    writer.flush()
    # What it stands for is gone, so that the system refuses to close it.
    os.close(file.fileno())
    with pytest.raises(OSError) as caught:
        writer.close()
    assert caught.value.errno == errno.EBADF
    assert writer.closed
    assert file.closed
    writer.close()


def test_full_device_in_the_middle_of_a_file_refuses_and_cuts_nothing(tmp_path):
    # The writer stands inside a file whose end belongs to somebody else.
    path = tmp_path / "stream"
    path.write_bytes(b"x" * 3000)
    with io.FileIO(path, "r+b") as file:
        file.seek(900)
        writer = StreamWriter(file, buffer_size=64)
        with file_size_limit(1001), pytest.raises(OSError):
            writer.write_payload(b"p" * 500)
        with pytest.raises(FlatStreamError, match="refuses to go on"):
            writer.write_payload(b"p")
        with pytest.raises(FlatStreamError, match="refuses to go on"):
            writer.close()
    assert path.read_bytes() == b"x" * 900 + encode(b"p" * 500)[:101] + b"x" * 1999


def test_full_device_behind_a_buffered_file_refuses(tmp_path):
    path = tmp_path / "stream"
    payloads = [b"%4d" % number * 10 for number in range(200)]
    with contextlib.suppress(OSError), open(path, "wb", buffering=128) as file:
        writer = StreamWriter(file, buffer_size=64)
        with file_size_limit(1001), pytest.raises(OSError):
            writer.write_payloads(payloads)
        with pytest.raises(FlatStreamError, match="refuses to go on"):
            writer.close()
    on_disk = reference.decode(path.read_bytes(), "none")
    assert on_disk.payloads == payloads[: len(on_disk.payloads)]
    assert isinstance(on_disk.end, reference.Torn | reference.Clean)


if os.path.exists("/dev/full"):

    @pytest.mark.parametrize("buffer_size", [0, 64, 65536])
    def test_device_that_is_full_from_the_start_takes_nothing_and_says_so(buffer_size):
        writer = StreamWriter("/dev/full", buffer_size=buffer_size)
        file = writer.sink
        with pytest.raises(OSError) as caught:
            write_and_flush(writer, b"x" * 10)
        assert caught.value.errno == errno.ENOSPC
        # Nothing is torn, so it may be tried again; it fails again.
        with pytest.raises(OSError) as caught:
            writer.write_payload(b"x" * 100_000)
        assert caught.value.errno == errno.ENOSPC
        if writer.pending_bytes:
            with pytest.raises(OSError):
                writer.close()
        else:
            writer.close()
        assert file.closed
        assert writer.closed


def nonblocking_pipe() -> tuple[io.FileIO, io.FileIO]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    return io.FileIO(reading, "rb"), io.FileIO(writing, "wb")


def fill_and_drain(writer: StreamWriter, receive: Any, sizes: Iterable[int]) -> tuple[list[bytes], bytes, int]:
    """Writes payloads of these sizes to a sink that blocks, takes from its other end when it does, and tries again.

    Gives the payloads, what arrived, and how often the sink blocked.
    """
    payloads = [bytes([97 + number % 26]) * size for number, size in enumerate(sizes)]
    arrived = bytearray()
    blocked = 0
    for payload in payloads:
        while True:
            before = writer.frames_written
            try:
                writer.write_payload(payload)
            except BlockingIOError:
                assert writer.frames_written == before
                blocked += 1
                arrived += receive(20_000)
            else:
                assert writer.frames_written == before + 1
                break
    while True:
        try:
            writer.close()
        except BlockingIOError:
            assert not writer.closed
            blocked += 1
            arrived += receive(20_000)
        else:
            break
    with contextlib.suppress(BlockingIOError):
        while piece := receive(1 << 20):
            arrived += piece
    return payloads, bytes(arrived), blocked


MIXED_SIZES = [10, 3000, 0, 70_000, 1, 300_000, 5, 5000] * 4


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 64, 4096, 65536])
@pytest.mark.parametrize("wrapped", ["raw", "buffered"])
def test_pipe_that_blocks_loses_nothing(wrapped, buffer_size):
    reading, writing = nonblocking_pipe()
    sink = writing if wrapped == "raw" else io.BufferedWriter(writing, 1000)
    with reading, sink:
        writer = StreamWriter(sink, buffer_size=buffer_size)
        payloads, arrived, blocked = fill_and_drain(writer, lambda size: reading.read(size) or b"", MIXED_SIZES)
    assert blocked > 5
    assert arrived == encode(*payloads)


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 64, 4096, 65536])
@pytest.mark.parametrize("kind", ["socket", "socket_file"])
def test_socket_that_blocks_loses_nothing(kind, buffer_size):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            end.setblocking(False)
        sink: Any = ours if kind == "socket" else socket.SocketIO(ours, "w")
        writer = StreamWriter(sink, buffer_size=buffer_size)
        payloads, arrived, blocked = fill_and_drain(writer, theirs.recv, MIXED_SIZES)
        if kind == "socket_file":
            sink.close()
    assert blocked > 5
    assert arrived == encode(*payloads)


def test_socket_whose_time_is_up_goes_on_later():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.settimeout(0.01)
        writer = StreamWriter(ours, buffer_size=64)
        payload = b"p" * 200_000
        writer.write_payload(payload)
        assert 0 < writer.pending_bytes < len(payload)
        with pytest.raises(TimeoutError):
            writer.write_payload(b"next")
        with pytest.raises(TimeoutError):
            writer.close()
        assert not writer.closed
        arrived = bytearray()
        while not writer.closed:
            arrived += theirs.recv(1 << 20)
            with contextlib.suppress(TimeoutError):
                writer.close()
        ours.close()
        while piece := theirs.recv(1 << 20):
            arrived += piece
    assert arrived == encode(payload)


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 64, 65536])
@pytest.mark.parametrize("size", [10, 200_000])
def test_pipe_nobody_reads_any_more_raises_at_every_write(buffer_size, size):
    reading, writing = os.pipe()
    with io.FileIO(writing, "wb") as sink:
        writer = StreamWriter(sink, buffer_size=buffer_size)
        writer.write_payload(b"arrives")
        writer.flush()
        assert os.read(reading, 100) == encode(b"arrives")
        os.close(reading)
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                write_and_flush(writer, b"x" * size)
        if writer.pending_bytes:
            with pytest.raises(BrokenPipeError):
                writer.close()
        writer.close()


def test_large_payload_whose_rest_finds_no_memory_makes_the_writer_refuse(tmp_path):
    # The sink has its beginning, and the rest should wait in the buffer, for which there is no memory: then nothing
    # may follow. In a process of its own, because of the limit; the payload is mapped and takes no memory.
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import mmap, resource
            from flatstream import DefaultFramer, FlatStreamError
            from flatstream._core.stream.encoder import Encoder

            taken = bytearray()
            answers = [4, BlockingIOError()]  # The header, and nothing of the payload.

            def write(data):
                answer = answers.pop(0) if answers else len(data)
                if isinstance(answer, BaseException):
                    raise answer
                taken.extend(data[:answer])
                return answer

            encoder = Encoder(DefaultFramer(), 64, write, error_takes_nothing=True)
            payload = mmap.mmap(-1, 512 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * mmap.PAGESIZE
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), hard))
            try:
                encoder.write_payload(payload)
                print("no error")
            except MemoryError:
                pass
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            try:
                encoder.write_payload(b"later")
                encoder._drain_buffer()
                print("written behind a torn frame")
            except FlatStreamError as error:
                print("refused" if "refuses to go on" in str(error) else error)
            print(len(taken))
            """
        )
    )
    environment = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":allocator_may_return_null=1"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split("\n") == ["refused", "4", ""], done.stdout + done.stderr


# Sinks that are not what their class says


class Rot13File(io.FileIO):
    """A file whose `write` changes what it is given, as one that encrypts or counts does."""

    def write(self, data: Any) -> int:
        return super().write(bytes(byte ^ 13 for byte in bytes(data)))


@pytest.mark.parametrize("buffer_size", [0, 64, 65536])
def test_file_with_a_write_of_its_own_gets_every_byte_through_it(tmp_path, buffer_size):
    path = tmp_path / "stream"
    payloads = [b"small", b"L" * 100_000, b"small"]
    with Rot13File(path, "wb") as sink, StreamWriter(sink, buffer_size=buffer_size) as writer:
        writer.write_payloads(payloads)
    assert bytes(byte ^ 13 for byte in path.read_bytes()) == encode(*payloads)


class Rot13Socket(socket.socket):
    def send(self, data: Any, flags: int = 0) -> int:
        return super().send(bytes(byte ^ 13 for byte in bytes(data)), flags)


@pytest.mark.parametrize("buffer_size", [0, 64, 65536])
def test_socket_with_a_send_of_its_own_gets_every_byte_through_it(buffer_size):
    payloads = [b"small", b"L" * 70_000, b"small"]
    ours, theirs = socket.socketpair()
    arrived = bytearray()
    with theirs, Rot13Socket(fileno=ours.detach()) as sink:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with StreamWriter(sink, buffer_size=buffer_size) as writer:
            writer.write_payloads(payloads)
        sink.close()
        while piece := theirs.recv(1 << 20):
            arrived += piece
    assert bytes(byte ^ 13 for byte in arrived) == encode(*payloads)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("of its own"), device_error(errno.EIO)], ids=repr)
def test_file_that_fails_after_its_write_is_not_written_to_twice(tmp_path, error):
    # Its own code runs after the system call, so that an error does not mean that nothing was taken.
    class LoggingFile(io.FileIO):
        failed = False

        def write(self, data: Any) -> int:
            count = super().write(data)
            if not self.failed:
                self.failed = True
                raise error
            return count

    path = tmp_path / "stream"
    with LoggingFile(path, "wb") as sink:
        writer = StreamWriter(sink, buffer_size=64)
        with pytest.raises(type(error)):
            write_and_flush(writer, b"once")
        with contextlib.suppress(FlatStreamError):
            writer.write_payload(b"later")
            writer.flush()
        with contextlib.suppress(FlatStreamError):
            writer.close()
    on_disk = reference.decode(path.read_bytes(), "none")
    assert on_disk.payloads in ([b"once"], [b"once", b"later"])
    assert isinstance(on_disk.end, reference.Clean)


def test_socket_file_interrupted_after_its_send_is_not_sent_twice():
    # SocketIO.write is Python: a signal handler may raise when the bytes are sent and their number is not yet returned.
    # A trace function raises at that very place.
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.SocketIO(ours, "w") as sink:
        writer = StreamWriter(sink, buffer_size=64)
        writer.write_payload(b"once")

        def raise_on_return(frame: Any, event: str, argument: Any) -> Any:
            if frame.f_code is socket.SocketIO.write.__code__:
                if event == "return":
                    raise KeyboardInterrupt
                return raise_on_return
            return None

        tracer = sys.gettrace()
        sys.settrace(raise_on_return)
        try:
            with pytest.raises(KeyboardInterrupt):
                writer.flush()
        finally:
            sys.settrace(tracer)
        with contextlib.suppress(FlatStreamError):
            writer.write_payload(b"later")
            writer.flush()
        with contextlib.suppress(FlatStreamError):
            writer.close()
        ours.shutdown(socket.SHUT_WR)
        arrived = reference.decode(theirs.recv(1000), "none")
    assert arrived.payloads in ([b"once"], [b"once", b"later"])


def test_memory_that_cannot_grow_now_is_written_to_later():
    sink = io.BytesIO()
    writer = StreamWriter(sink, buffer_size=64)
    writer.write_payload(b"first")
    with sink.getbuffer(), pytest.raises(BufferError):
        writer.flush()
    writer.write_payload(b"second")
    writer.close()
    assert sink.getvalue() == encode(b"first", b"second")


def test_compressor_whose_file_fails_refuses():
    class FailingFile(io.BytesIO):
        full = False

        def write(self, data: Any) -> int:
            if self.full:
                raise device_error(errno.ENOSPC)
            return super().write(data)

    file = FailingFile()
    sink = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=0)
    writer = StreamWriter(sink, buffer_size=64)
    writer.write_payload(b"first")
    writer.flush()
    file.full = True
    with pytest.raises(OSError) as caught:
        write_and_flush(writer, *[bytes(50_000)] * 10)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        writer.close()
    file.full = False
    sink.close()


class NoneFromRaw(io.RawIOBase):
    """A raw file that takes at most `room` bytes, and returns None when it is full."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        taken = min(self.room, len(data))
        self.data += data[:taken]
        self.room -= taken
        return taken or None


def test_none_from_a_raw_file_means_that_it_would_block():
    with NoneFromRaw(10) as sink:
        writer = StreamWriter(sink, buffer_size=64)
        writer.write_payload(b"0123456789")
        with pytest.raises(BlockingIOError):
            writer.flush()
        assert sink.data == encode(b"0123456789")[:10]
        sink.room = 100
        writer.close()
        assert sink.data == encode(b"0123456789")


def test_none_from_another_object_means_that_it_took_everything():
    sink = PlainSink()
    with StreamWriter(sink, buffer_size=0) as writer:
        writer.write_payloads([b"a" * 5000, b"b"])
    assert sink.pieces == [b"\x88\x13\0\0", b"a" * 5000, b"\x01\0\0\0b"]


# The framer's own errors


@pytest.mark.parametrize("buffer_size", [0, 64])
def test_framer_that_fails_halfway_leaves_no_trace(buffer_size):
    class HalfFramer(Framer):
        def frame_and_write(self, writer, payload):
            writer.write(b"half of it")
            if payload == b"bad":
                raise ZeroDivisionError

    sink = PlainSink()
    with StreamWriter(sink, HalfFramer(), buffer_size=buffer_size) as writer:
        writer.write_payload(b"good")
        with pytest.raises(ZeroDivisionError):
            writer.write_payload(b"bad")
        writer.write_payload(b"good")
        assert writer.frames_written == 2
    assert sink.arrived() == b"half of it" * 2


def test_payload_over_the_bound_leaves_the_writer_working():
    sink = PlainSink()
    with StreamWriter(sink, DefaultFramer().bounded(5)) as writer:
        with pytest.raises(InvalidFrameError) as caught:
            writer.write_payloads([b"12345", b"123456", b"never"])
        assert (caught.value.frame, caught.value.offset) == (1, 9)
        assert writer.frames_written == 1
        writer.write_payload(b"last")
    assert sink.arrived() == encode(b"12345", b"last")

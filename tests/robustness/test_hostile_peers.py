"""Peers that mean harm, or are broken: slow, huge, half-open, sending garbage or bombs, taking nothing.

Each costs a bounded amount of memory, which tracemalloc measures with the chunks of readers in it (of libraries that
take memory past Python, the process is measured), and ends by itself. No peer disturbs another one. No assertion is
about time: where something would never end, a limit that is far too long ends the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import random
import socket
import struct
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from flatstream import (
    Aes256Gcm,
    ChecksumDeframer,
    ChecksumFramer,
    Crc32,
    DecompressionError,
    DecryptionError,
    DefaultDeframer,
    FlatStreamError,
    InvalidFrameError,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
    ValidationFailedError,
    ZstdCompressor,
)
from flatstream.aio import Connection, Server, connect, serve
from flatstream.aio.reader import DEFAULT_CAPACITY
from flatstream.parser import FrameParser
from reference import framing as reference
from support.async_streams import in_loop
from support.extent import EVERYTHING, in_one_test
from support.processes import run_python
from support.sources import CutSource

HOST = "127.0.0.1"
KIB, MIB = 1 << 10, 1 << 20
# A test that does not end by itself is ended by this.
FOREVER = 120.0


@contextlib.contextmanager
def memory_at_most(limit: int) -> Iterator[None]:
    """The memory that is taken inside, at its peak, is at most `limit` bytes more than before."""
    is_outer = not tracemalloc.is_tracing()
    if is_outer:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        yield
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        if is_outer:
            tracemalloc.stop()
    assert peak <= limit, f"{peak:,} bytes were taken, and {limit:,} are the bound"


def garbage(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def claim(length: int) -> bytes:
    return struct.pack("<I", length)


# A StreamReader over a socket


class Peer(threading.Thread):
    """Sends to a socket in a thread what an iterable gives, as far as the other side takes it, and shuts it down."""

    def __init__(self, sock: socket.socket, pieces: Iterator[bytes]) -> None:
        super().__init__(daemon=True)
        self.sock, self.pieces = sock, pieces
        self.sent = 0

    def run(self) -> None:
        with contextlib.suppress(OSError):
            for piece in self.pieces:
                self.sock.sendall(piece)
                self.sent += len(piece)
            self.sock.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def reading_from(pieces: Iterator[bytes], deframer: Any, **options: Any) -> Iterator[StreamReader]:
    near, far = socket.socketpair()
    peer = Peer(far, pieces)
    with near, far:
        near.settimeout(FOREVER)
        peer.start()
        try:
            with StreamReader(near, deframer, **options) as reader:
                yield reader
        finally:
            near.close()
            far.close()
            peer.join(FOREVER)


LIMITED = DefaultDeframer(max_frame_len=MIB)


@in_one_test
@pytest.mark.parametrize("length", [MIB + 1, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_length_over_the_limit_takes_no_memory_and_ends_the_stream(length: int, on_error: Any) -> None:
    pieces = iter([reference.encode([b"fine"], "none"), claim(length), *[bytes(KIB)] * 50])
    with reading_from(pieces, LIMITED, on_error=on_error) as reader, memory_at_most(600 * KIB):
        assert reader.read_message() == b"fine"  # type: ignore[comparison-overlap]
        for _ in range(3):
            with pytest.raises(InvalidFrameError) as caught:
                reader.read_message()
            assert caught.value.limit == MIB
            assert (caught.value.frame, caught.value.offset) == (1, 8)


def test_claim_below_the_limit_takes_memory_as_bytes_come_and_not_before() -> None:
    # 2 GiB are claimed, the default limit, and 1 MiB comes, in small pieces.
    pieces = iter([claim(2**31 - 1), *[bytes(16 * KIB)] * 64])
    with reading_from(pieces, DefaultDeframer()) as reader, memory_at_most(5 * MIB), pytest.raises(UnexpectedEofError):
        reader.read_message()


def test_peer_that_sends_single_bytes_costs_no_more_than_they_are() -> None:
    data = reference.encode([b"x" * 300] * 20, "crc32") + claim(60_000) + bytes(2000)
    pieces = (data[place : place + 1] for place in range(len(data)))
    with reading_from(pieces, ChecksumDeframer(Crc32())) as reader, memory_at_most(MIB):
        for _ in range(20):
            assert reader.read_message() == b"x" * 300  # type: ignore[comparison-overlap]
        with pytest.raises(UnexpectedEofError) as caught:
            reader.read_message()
    assert (caught.value.needed, caught.value.got) == (60_008, 2004)


def test_peer_that_stops_in_the_middle_is_given_up_and_can_go_on() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(0.01)
        with StreamReader(near) as reader, memory_at_most(MIB):
            frame = reference.encode([b"late"], "none")
            far.sendall(frame[:6])
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    reader.read_message()
            far.sendall(frame[6:])
            assert reader.read_message() == b"late"  # type: ignore[comparison-overlap]


@in_one_test
@pytest.mark.parametrize("seed", range(8))
def test_garbage_is_refused_and_never_an_end(seed: int) -> None:
    pieces = iter([garbage(64 * KIB, seed)])
    with reading_from(pieces, ChecksumDeframer(Crc32(), max_frame_len=MIB)) as reader, memory_at_most(4 * MIB):
        with pytest.raises(FlatStreamError):
            reader.process_all(len)
        # Some lengths are possible by chance: then the frame fails its checksum, or is torn.
        assert reader.frames_read == 0


@pytest.mark.parametrize("checksum", ["none", "crc32"])
def test_garbage_without_end_is_searched_in_bounded_memory(checksum: str) -> None:
    total = 64 * MIB if EVERYTHING else 3 * MIB // 2
    good = reference.encode([b"\x04\x00\x00\x00" + bytes(60)] * 3, checksum)
    # What comes is not kept: of the source, one piece is in memory.
    block = garbage(256 * KIB)
    pieces = [block[place:] + block[:place] for place in range(0, 256, 16)]

    class Endless:
        """Gives `total` bytes of garbage, and then frames."""

        given = 0

        def readinto(self, buffer: memoryview) -> int:
            if self.given >= total:
                size = min(len(buffer), total + len(good) - self.given)
                buffer[:size] = good[self.given - total :][:size]
            else:
                piece = pieces[self.given // len(block) % len(pieces)]
                begin = self.given % len(block)
                size = min(len(buffer), len(block) - begin, total - self.given)
                buffer[:size] = piece[begin : begin + size]
            self.given += size
            return size

    reader = StreamReader(Endless(), checksum, on_error="resync", resync_window=MIB)
    with memory_at_most(12 * MIB):
        found = sum(1 for _ in reader)
    if checksum == "crc32":
        assert found == 3
    assert reader.offset == total + len(good)


def test_damaged_frames_without_end_are_left_out_in_bounded_memory() -> None:
    # Their lengths lead to one another, so that each is skipped alone, and the ranges are one.
    frame = bytearray(reference.encode([b"x" * 100], "crc32"))
    frame[30] ^= 1
    count = 200_000 if EVERYTHING else 4000
    source = CutSource(bytes(frame) * count, range(0, len(frame) * count, 64 * KIB))
    reader = StreamReader(source, "crc32", on_error="skip")
    with memory_at_most(2 * MIB):
        assert list(reader) == []
        assert reader.skipped == count
        assert reader.lost_bytes == len(frame) * count
        assert len(reader.lost_ranges) == 1


def test_empty_frames_without_end_take_no_memory() -> None:
    count = 4_000_000 if EVERYTHING else 400_000
    near = io.BytesIO(bytes(4) * count)
    reader = StreamReader(near, DefaultDeframer())
    with memory_at_most(MIB):
        assert reader.process_all(len) == count


# A parser that is fed


@in_one_test
@pytest.mark.parametrize("by_buffer", [False, True])
def test_parser_takes_memory_for_what_was_fed_and_not_for_claims(by_buffer: bool) -> None:
    with memory_at_most(8 * MIB):
        for seed in range(20):
            parser = FrameParser("crc32", max_frame_len=64 * MIB)
            for piece in (claim(60 * MIB), garbage(1000, seed), b"", garbage(10_000, seed + 1)):
                if by_buffer and piece:
                    place = 0
                    while place < len(piece):
                        view = parser.get_buffer(-1)
                        size = min(len(view), len(piece) - place, 700)
                        view[:size] = piece[place : place + size]
                        parser.buffer_updated(size)
                        place += size
                else:
                    parser.feed(piece)
                assert parser.read_message() is None
            assert parser.buffered == 11_004
            parser.feed_eof()
            with pytest.raises(UnexpectedEofError):
                parser.read_message()


def test_bytes_fed_one_by_one_are_parsed_in_linear_work() -> None:
    # Work that grew with the square of a frame's size would not end within the time of a test.
    size = 500_000 if EVERYTHING else 40_000
    data = reference.encode([bytes(size)], "none")
    parser = FrameParser()
    with memory_at_most(2 * MIB):
        for place in range(0, len(data), 1):
            parser.feed(data[place : place + 1])
            if place % 1000 == 0:
                assert parser.read_message() is None
        assert len(parser.read_message() or b"") == size


# A server of flatstream.aio


LARGEST = 64 * KIB
LIMITS: dict[str, Any] = {"deframer": "crc32", "framer": "crc32", "max_frame_len": LARGEST}


async def echo(connection: Connection) -> None:
    async for payload in connection.reader:
        await connection.writer.write_payload(payload)


class Serving:
    """A server whose handlers' errors are kept. Honest clients are served before, after and meanwhile."""

    def __init__(self, handler: Callable[[Connection], Coroutine[Any, Any, None]] = echo, **options: Any) -> None:
        self.handler, self.options = handler, LIMITS | options
        # Not the errors themselves, whose tracebacks keep connections.
        self.errors: list[type[Exception]] = []
        self.texts: list[str] = []
        self.server: Server

    async def handle(self, connection: Connection) -> None:
        try:
            await self.handler(connection)
        except Exception as error:
            self.errors.append(type(error))
            self.texts.append(str(error))
            raise

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Serving]:
        async with asyncio.timeout(FOREVER), await serve(self.handle, HOST, 0, **self.options) as self.server:
            await self.check()
            yield self
            await self.check()

    async def check(self) -> None:
        """An honest client is served."""
        async with connect(HOST, self.server.port, deframer="crc32", framer="crc32") as honest:
            for number in range(3):
                await honest.writer.write_payload(b"honest %d" % number)
                assert bytes(await honest.reader.read_message() or b"") == b"honest %d" % number

    async def peer(self) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (HOST, self.server.port))
        return sock

    async def send(self, sock: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(sock, data)

    async def wait_for_errors(self, count: int) -> None:
        """Returns when so many handlers have failed."""
        while len(self.errors) < count:
            await asyncio.sleep(0.001)

    async def wait_gone(self) -> None:
        """Returns when nobody is connected."""
        while self.server.connections:
            await asyncio.sleep(0.001)


async def closed_by_server(sock: socket.socket) -> bytes:
    """What the server sent before it closed."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := await asyncio.get_running_loop().sock_recv(sock, 65536):
            received += piece
    return received


@in_loop
async def test_garbage_ends_its_own_connection_only() -> None:
    async with Serving().running() as serving:
        with memory_at_most(8 * MIB):
            for seed in range(20):
                with await serving.peer() as sock:
                    await serving.send(sock, garbage(20_000, seed) + b"\xff" * 8)
                    assert await closed_by_server(sock) == b""
            await serving.check()
        assert len(serving.errors) == 20
        assert all(issubclass(error, FlatStreamError) for error in serving.errors)


@in_loop
async def test_huge_claims_of_many_peers_take_no_memory() -> None:
    count = 50
    async with Serving(max_frame_len=16 * MIB).running() as serving:
        # So many times 16 MiB are claimed, and allowed; and as many claims are over the limit. Each connection may have
        # two chunks.
        with contextlib.ExitStack() as stack, memory_at_most(count * (2 * DEFAULT_CAPACITY + 64 * KIB)):
            for _ in range(count):
                sock = stack.enter_context(await serving.peer())
                await serving.send(sock, claim(16 * MIB) + bytes(100))
            for _ in range(count):
                with await serving.peer() as other:
                    await serving.send(other, claim(16 * MIB + 1) + bytes(100))
                    assert await closed_by_server(other) == b""
            await serving.check()
            assert serving.server.connections >= count
        await serving.wait_gone()
        assert sorted(error.__name__ for error in serving.errors) == (
            ["InvalidFrameError"] * count + ["UnexpectedEofError"] * count
        )


# Long enough for an honest client on a machine that is busy.
IDLE = 0.5


@in_loop
async def test_slow_peer_is_ended_by_the_idle_time_however_it_drips() -> None:
    # It sends bytes all the time, and never a whole message.
    async with Serving(idle_timeout=IDLE).running() as serving:
        with memory_at_most(MIB), await serving.peer() as sock:
            await serving.send(sock, claim(60_000) + bytes(4))
            while not serving.errors:
                await serving.send(sock, b"x")
                await asyncio.sleep(0.02)
        assert serving.errors == [TimeoutError]


@in_loop
async def test_silent_and_half_open_peers_are_ended() -> None:
    async with Serving(idle_timeout=IDLE).running() as serving:
        frame = reference.encode([b"a whole one"], "crc32")
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(await serving.peer()) for _ in range(20)]
            for place, sock in enumerate(silent):
                # Nothing, parts of a header and parts of a frame.
                await serving.send(sock, frame[: place % len(frame)])
            for sock in silent:
                assert await closed_by_server(sock) == b""
        await serving.wait_for_errors(20)
        assert set(serving.errors) == {TimeoutError}
        # One that has sent its end inside of a frame is told at once.
        serving.errors.clear()
        with await serving.peer() as sock:
            await serving.send(sock, frame + frame[:5])
            sock.shutdown(socket.SHUT_WR)
            assert await closed_by_server(sock) == frame
        await serving.wait_for_errors(1)
        assert serving.errors == [UnexpectedEofError]


@in_loop
async def test_peer_that_takes_nothing_blocks_its_own_handler_and_no_memory() -> None:
    written = 0

    async def flood(connection: Connection) -> None:
        nonlocal written
        async for payload in connection.reader:
            await connection.writer.write_payload(payload)
            while bytes(payload) == b"flood":
                await connection.writer.write_payload(bytes(10_000))
                written += 1

    async with Serving(flood, idle_timeout=IDLE).running() as serving:
        with memory_at_most(4 * MIB), await serving.peer() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await serving.send(sock, reference.encode([b"flood"], "crc32"))
            await serving.check()
            await serving.wait_for_errors(1)
        assert written > 0
        assert serving.errors == [TimeoutError]
        assert "took no bytes" in serving.texts[0]


@in_loop
async def test_peer_that_floods_waits_for_the_handler() -> None:
    proceed = asyncio.Event()
    held: list[int] = []

    async def slow(connection: Connection) -> None:
        async for payload in connection.reader:
            if len(payload) > 1000 and not held:
                await proceed.wait()
                held.append(connection.reader.buffered)
            if len(payload) < 1000:
                await connection.writer.write_payload(payload)

    sent = reference.encode([bytes(5000)], "crc32") * 4000
    async with Serving(slow).running() as serving:
        with memory_at_most(8 * MIB), await serving.peer() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            flood = asyncio.create_task(serving.send(sock, sent))
            # Nothing moves any more when the system's buffers and the reader's are full.
            for _ in range(20):
                await serving.check()
            assert not flood.done()
            proceed.set()
            await flood
            sock.shutdown(socket.SHUT_WR)
            assert await closed_by_server(sock) == b""
        # The capacity of a reader, and what one call of the system gives on top.
        assert held[0] <= 2 * DEFAULT_CAPACITY
        assert serving.errors == []


@in_loop
async def test_more_peers_than_allowed_are_turned_away_at_once() -> None:
    async with Serving(max_connections=5).running() as serving:
        await serving.wait_gone()
        with contextlib.ExitStack() as stack, memory_at_most(4 * MIB):
            taken = [stack.enter_context(await serving.peer()) for _ in range(5)]
            while serving.server.connections < 5:
                await asyncio.sleep(0.001)
            for number in range(50):
                with await serving.peer() as sock:
                    assert await closed_by_server(sock) == b""
                assert serving.server.rejected == number + 1
            taken[0].close()
            while serving.server.connections == 5:
                await asyncio.sleep(0.001)
            await serving.check()
        await serving.wait_gone()


@in_loop
async def test_peers_that_break_off_leave_nothing() -> None:
    async with Serving().running() as serving:
        frame = reference.encode([b"x" * 1000], "crc32")

        async def round_of(count: int) -> None:
            for number in range(count):
                with await serving.peer() as sock:
                    await serving.send(sock, frame * (number % 3) + frame[: number % 900])
                    # A reset instead of an end.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await serving.wait_gone()
            serving.errors.clear()

        await round_of(50)
        tracemalloc.start()
        try:
            await round_of(50)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            await round_of(1000 if EVERYTHING else 150)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        # Less than one chunk of one of them.
        assert grown < 100 * KIB


# Bombs, through chains of transforms


def compressed_frames(payloads: list[bytes]) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumFramer(Crc32()).compressed(ZstdCompressor())) as writer:
        writer.write_payloads(payloads)
    return sink.getvalue()


@in_loop
async def test_bomb_sent_to_a_server_is_refused_and_the_connection_goes_on() -> None:
    refused: list[BaseException] = []

    async def handler(connection: Connection) -> None:
        while True:
            try:
                payload = await connection.reader.read_message()
            except DecompressionError as error:
                refused.append(error)
                continue
            if payload is None:
                return
            await connection.writer.write_payload(payload)

    deframer = ChecksumDeframer(Crc32()).compressed().with_max_frame_len(64 * KIB)
    bombs = compressed_frames([b"fine", bytes(50 * MIB), b"also fine", bytes(64 * KIB + 1), bytes(64 * KIB)])
    assert len(bombs) < 20_000
    async with asyncio.timeout(FOREVER), await serve(handler, HOST, 0, deframer=deframer, framer="crc32") as server:
        with memory_at_most(3 * MIB), socket.create_connection((HOST, server.port)) as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(sock, bombs)
            sock.shutdown(socket.SHUT_WR)
            received = await closed_by_server(sock)
    assert received == reference.encode([b"fine", b"also fine", bytes(64 * KIB)], "crc32")
    assert [type(error) for error in refused] == [DecompressionError] * 2
    assert [error.frame for error in refused] == [1, 3]  # type: ignore[attr-defined]


PROCESS = """
import resource
from flatstream import Aes256Gcm, ChecksumDeframer, Crc32, StreamReader

MIB = 1 << 20
data = bytes.fromhex(open({path!r}).read())
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
deframer = {deframer}
# What the libraries need once.
list(StreamReader(data[:{first}], deframer))
before = peak()
reader = StreamReader(data, deframer, on_error="skip")
print(sum(1 for _ in reader), reader.skipped, peak() - before)
"""


@pytest.mark.parametrize("chain", ["compressed", "compressed and encrypted"])
def test_bombs_do_not_grow_the_process(chain: str, tmp_path: Any) -> None:
    # Libraries take memory past tracemalloc. The peer has the key.
    framer: Any = ChecksumFramer(Crc32())
    deframer = "ChecksumDeframer(Crc32())"
    if chain == "compressed and encrypted":
        framer = framer.encrypted(Aes256Gcm(bytes(32)))
        deframer += ".encrypted(Aes256Gcm(bytes(32)))"
    sink = io.BytesIO()
    with StreamWriter(sink, framer.compressed(ZstdCompressor())) as writer:
        writer.write_payload(b"fine" * 100)
        writer.flush()
        first = len(sink.getvalue())
        for _ in range(2):
            writer.write_payload(bytes(40 * MIB))
        writer.write_payload(b"fine" * 100)
    path = tmp_path / "bombs"
    path.write_text(sink.getvalue().hex())
    code = PROCESS.format(path=str(path), first=first, deframer=f"{deframer}.compressed().with_max_frame_len(MIB)")
    messages, refused, grown = map(int, run_python(code).stdout.split())
    assert (messages, refused) == (2, 2)
    # A message and its window; 40 MiB would be one that was unpacked.
    assert grown < 20


@in_one_test
@pytest.mark.parametrize("cipher", [Aes256Gcm])
def test_stranger_without_the_key_learns_nothing_and_costs_nothing(cipher: Any) -> None:
    framer = ChecksumFramer(Crc32())
    sink = io.BytesIO()
    with StreamWriter(sink, framer.encrypted(cipher(bytes(32)))) as writer:
        writer.write_payloads([b"secret %d" % number for number in range(20)])
    frames = [bytes(payload) for payload in StreamReader(sink.getvalue(), "crc32")]
    chance = random.Random(5)
    messages = set()
    deframer = ChecksumDeframer(Crc32(), max_frame_len=64 * KIB).encrypted(cipher(bytes(32)))
    for _ in range(300 if EVERYTHING else 60):
        # True checksums around what was changed, mixed up, cut or made up.
        forged = [bytearray(frame) for frame in chance.choices(frames, k=4)]
        victim = chance.choice(forged)
        victim[chance.randrange(len(victim))] ^= chance.randrange(1, 256)
        forged.append(bytearray(chance.randbytes(chance.randrange(200))))
        data = reference.encode([bytes(each) for each in forged], "crc32")
        with memory_at_most(2 * MIB), StreamReader(data, deframer) as reader:
            while True:
                try:
                    payload = reader.read_message()
                except DecryptionError as error:
                    messages.add((type(error), error.message, error.validator, error.reason, error.path))
                    continue
                except UnexpectedEofError:
                    break
                if payload is None:
                    break
                assert bytes(payload).startswith(b"secret ")
    assert len(messages) == 1


# Objects


@in_one_test
@pytest.mark.parametrize(
    ("serializer", "payload"),
    [
        ("json", b"[" * 50_000),
        ("json", b'{"a":' * 20_000),
        ("json", b'"' + b"x" * 100_000),
        ("json", b"1" * 4000 + b"x"),
        ("msgpack", b"\xdd\xff\xff\xff\xff"),
        ("msgpack", b"\xdf\xff\xff\xff\xff"),
        ("msgpack", b"\xdb\xff\xff\xff\xffabc"),
        ("msgpack", b"\xc6\xff\xff\xff\xffabc"),
        ("msgpack", b"\xc9\xff\xff\xff\xff\x01abc"),
        ("msgpack", b"\x91" * 50_000),
        ("msgpack", b"\xdd\x00\x10\x00\x00" * 100),
        ("msgpack", b"\x81\x80\x80"),
        ("msgpack", b"\xc1"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_hostile_object_is_refused_in_bounded_memory(serializer: str, payload: bytes) -> None:
    data = reference.encode([payload, json.dumps(5).encode() if serializer == "json" else b"\x05"], "crc32")
    objects = StreamReader(data, "crc32").objects(serializer)
    with memory_at_most(40 * MIB):
        with pytest.raises((ValidationFailedError, TypeError)):
            next(objects)
        assert list(objects) == [5]

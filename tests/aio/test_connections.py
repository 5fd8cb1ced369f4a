"""connect and serve: over TCP, Unix sockets and TLS; ends, loss, limits, and the end of a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import InvalidFrameError, UnexpectedEofError
from flatstream.aio import AsyncStreamReader, AsyncStreamWriter, Connection, Server, connect, serve
from flatstream.aio._link import Link
from reference import framing as reference
from support.async_streams import StubTransport, in_loop, tls_contexts, turns, write_on
from support.logs import log_lines
from support.schemas import root_of

HOST = "127.0.0.1"
Handler = Callable[[Connection], Awaitable[object]]


async def echo(connection: Connection) -> None:
    async for payload in connection.reader:
        await connection.writer.write_payload(payload)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return tls_contexts(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def raw_peer(handler: Handler, **options: Any) -> AsyncIterator[tuple[Server, socket.socket]]:
    """A server, and a plain socket that is connected to it."""
    async with await serve(handler, HOST, 0, **options) as server:
        with socket.create_connection((HOST, server.port)) as sock:
            sock.setblocking(False)
            yield server, sock


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def read_on(reader: AsyncStreamReader) -> None:
    """Reads until the other side has ended the connection, in whatever way."""
    with contextlib.suppress(OSError):
        async for _ in reader:
            pass


class Caught:
    """A handler that notes what another one raised."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.errors: list[BaseException] = []
        self.ended = asyncio.Event()

    async def __call__(self, connection: Connection) -> None:
        try:
            await self._handler(connection)
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.ended.set()


# Messages there and back


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls", "unix with tls", "sock"])
@in_loop
async def test_messages_go_there_and_back(
    kind: str, tmp_path: Path, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    messages = [os.urandom(n * n % 5000) for n in range(300)] + [os.urandom(1 << 20), b"last"]
    options: dict[str, Any] = {"deframer": "crc32", "framer": "crc32"}
    address: dict[str, Any] = {"path": tmp_path / "socket"} if "unix" in kind else {"host": HOST, "port": 0}
    secure: dict[str, Any] = {"ssl": contexts[0]} if "tls" in kind else {}
    async with await serve(echo, **address, **secure, **options) as server:
        if "port" in address:
            address["port"] = server.port
        if kind == "sock":
            address = {"sock": socket.create_connection((HOST, server.port))}
        secure = {"ssl": contexts[1], "server_hostname": "localhost"} if "tls" in kind else {}
        async with connect(**address, **secure, **options) as connection:
            sending = asyncio.create_task(connection.writer.write_payloads(messages))
            got = []
            async for payload in connection.reader:
                got.append(bytes(payload))
                if len(got) == len(messages):
                    break
            await sending
            assert got == messages
            assert server.connections == 1
            if "tls" in kind:
                assert connection.get_extra_info("cipher")
        assert connection.closed
    assert server.connections == 0
    assert not (tmp_path / "socket").exists()


@in_loop
async def test_end_of_one_direction_leaves_the_other_open() -> None:
    async def count(connection: Connection) -> None:
        number = 0
        async for _ in connection.reader:
            number += 1
        for _ in range(number):
            await connection.writer.write_payload(b"%d" % number)

    async with await serve(count, HOST, 0) as server, connect(HOST, server.port) as connection:
        await connection.writer.write_payloads([b"x"] * 3)
        await connection.writer.close()
        assert [bytes(payload) async for payload in connection.reader] == [b"3"] * 3
        await connection.wait_closed()


@in_loop
async def test_subprocess_is_a_pair_of_streams() -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    messages = [b"%d" % n * n for n in range(1500)]

    async def send() -> None:
        assert process.stdin is not None
        async with AsyncStreamWriter(process.stdin, "crc32") as writer:
            await writer.write_payloads(messages)

    sending = asyncio.create_task(send())
    async with AsyncStreamReader(process.stdout, "crc32") as reader:
        assert [bytes(payload) async for payload in reader] == messages
    await sending
    assert await process.wait() == 0


@in_loop
async def test_streams_of_asyncio_are_read_and_written() -> None:
    async def handle(stream_reader: asyncio.StreamReader, stream_writer: asyncio.StreamWriter) -> None:
        async with AsyncStreamReader(stream_reader) as reader, AsyncStreamWriter(stream_writer) as writer:
            async for payload in reader:
                await writer.write_payload(payload)

    messages = [b"%d" % n * 50 for n in range(3000)]
    server = await asyncio.start_server(handle, HOST, 0)
    async with server, connect(HOST, server.sockets[0].getsockname()[1]) as connection:

        async def send() -> None:
            await connection.writer.write_payloads(messages)
            await connection.writer.close()

        sending = asyncio.create_task(send())
        assert [bytes(payload) async for payload in connection.reader] == messages
        await sending


# Loss


@in_loop
async def test_peer_that_vanishes_inside_of_a_frame_is_an_error() -> None:
    handler = Caught(echo)
    async with raw_peer(handler) as (_, sock):
        await asyncio.get_running_loop().sock_sendall(sock, b"\x05\x00\x00\x00ab")
        sock.close()
        await handler.ended.wait()
    assert [type(error) for error in handler.errors] == [UnexpectedEofError]


@in_loop
async def test_peer_that_resets_the_connection_is_an_error() -> None:
    handler = Caught(echo)
    async with raw_peer(handler) as (server, sock):
        await until(lambda: server.connections == 1)
        await turns(20)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        await handler.ended.wait()
    assert [type(error) for error in handler.errors] == [ConnectionResetError]


@in_loop
async def test_peer_that_vanishes_without_the_end_of_tls_is_no_clean_end(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    handler = Caught(echo)
    async with await serve(handler, HOST, 0, ssl=contexts[0]) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port, ssl=contexts[1], server_hostname="localhost")
        writer.write(reference.encode([b"abc"], "none"))
        assert await reader.readexactly(7) == reference.encode([b"abc"], "none")
        # The socket below, without a word of TLS: whoever is between the two could do that.
        raw = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
        raw.shutdown(socket.SHUT_RDWR)
        raw.close()
        await handler.ended.wait()
        writer.transport.abort()
    assert [type(error) for error in handler.errors] == [ConnectionAbortedError]


@in_loop
async def test_client_sees_what_the_server_does() -> None:
    async def refuse(connection: Connection) -> None:
        connection.abort()

    async with await serve(refuse, HOST, 0) as server:
        connection = await connect(HOST, server.port)
        with pytest.raises(OSError):
            # It finds out when the news has arrived.
            await write_on(connection.writer)
        with pytest.raises(OSError):
            await connection.reader.read_message()
        with pytest.raises(OSError):
            await connection.close()
        assert connection.closed


@in_loop
async def test_connection_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            await connect(HOST, port)
        with pytest.raises(ConnectionRefusedError):
            async with connect(HOST, port):
                pass
    with pytest.raises(FileNotFoundError):
        await connect(path=tmp_path / "nothing")


# Limits


@in_loop
async def test_frame_over_the_limit_ends_its_connection_and_no_other() -> None:
    handler = Caught(echo)
    with log_lines("flatstream.aio") as lines:
        async with raw_peer(handler, max_frame_len=1000) as (server, sock), connect(HOST, server.port) as other:
            await asyncio.get_running_loop().sock_sendall(sock, (1001).to_bytes(4, "little") + bytes(20))
            await handler.ended.wait()
            assert [type(error) for error in handler.errors] == [InvalidFrameError]
            await until(lambda: server.connections == 1)
            await other.writer.write_payload(b"still here")
            assert bytes(await other.reader.read_message() or b"") == b"still here"
    assert [line.split()[0] for line in lines] == ["WARNING", "DEBUG"]
    assert lines[0].startswith("WARNING the connection from 127.0.0.1:")
    assert "InvalidFrameError" in lines[0]


@in_loop
async def test_connections_over_the_limit_are_reset_at_once() -> None:
    async with await serve(echo, HOST, 0, max_connections=2) as server:
        async with connect(HOST, server.port) as first, connect(HOST, server.port) as second:
            for connection in (first, second):
                await connection.writer.write_payload(b"x")
                assert await connection.reader.read_message() is not None
            with pytest.raises(ConnectionResetError):
                async with connect(HOST, server.port) as third:
                    await third.reader.read_message()
            assert (server.connections, server.rejected) == (2, 1)
        await until(lambda: server.connections == 0)
        async with connect(HOST, server.port) as again:
            await again.writer.write_payload(b"x")
            assert await again.reader.read_message() is not None


@in_loop
async def test_peer_that_sends_no_whole_message_in_time_is_dropped() -> None:
    handler = Caught(echo)
    async with raw_peer(handler, idle_timeout=0.05) as (_, sock):
        # One byte now and then is not a message.
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, reference.encode([b"abc"], "none") + b"\xff\x00")
        assert await loop.sock_recv(sock, 100) == reference.encode([b"abc"], "none")
        with contextlib.suppress(OSError):
            while not handler.ended.is_set():
                await loop.sock_sendall(sock, b"\x00")
                await asyncio.sleep(0.01)
    assert [type(error) for error in handler.errors] == [TimeoutError]


@in_loop
async def test_peer_that_takes_nothing_in_time_is_dropped() -> None:
    async def flood(connection: Connection) -> None:
        while True:
            await connection.writer.write_payload(b"x" * 100_000)

    handler = Caught(flood)
    async with raw_peer(handler, idle_timeout=0.05):
        await handler.ended.wait()
    assert [type(error) for error in handler.errors] == [TimeoutError]


class StubLoop:
    """A loop with a clock that stands, and one timer."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due = 0.0
        self._look: Callable[[], None] = self.stop

    def stop(self) -> None:
        raise AssertionError("no timer was set")

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, look: Callable[[], None]) -> None:
        self.due, self._look = due, look

    def call_later(self, seconds: float, look: Callable[[], None]) -> None:
        self.call_at(self.now + seconds, look)

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def wait_until_due(self) -> None:
        self.now = self.due
        self._look()


@in_loop
async def test_peer_that_takes_bytes_now_and_then_is_not_dropped() -> None:
    # What is due for the reader must not shorten the time that the peer has to take bytes.
    loop, transport = StubLoop(), StubTransport(room=0)
    link = Link(loop)  # type: ignore[arg-type]
    reader, writer = AsyncStreamReader(link), AsyncStreamWriter(link, buffer_size=100)
    transport.connect(link)
    link.limit_idle_time(3.0)
    await writer.write_payload(b"x" * 1000)
    loop.now = 100.1
    waiting = asyncio.create_task(reader.read_message())
    await turns()
    loop.wait_until_due()
    assert loop.now == 103.0
    transport.give(reference.encode([b"abc"], "none"))
    await waiting
    waiting = asyncio.create_task(reader.read_message())
    await turns()
    loop.wait_until_due()
    assert (loop.now, transport.is_closing()) == (103.1, False)
    waiting.cancel()
    await turns()
    transport.take(1)
    loop.now = 105.9
    for at in (106.0, 109.0):
        assert not transport.is_closing()
        loop.wait_until_due()
        assert loop.now == at
    assert isinstance(link.error, TimeoutError)
    assert transport.is_closing()
    writer.abort()


@in_loop
async def test_handler_that_works_for_long_is_not_idle() -> None:
    async def work(connection: Connection) -> None:
        async for _ in connection.reader:
            await asyncio.sleep(0.2)
            await connection.writer.write_payload(b"done")

    async with await serve(work, HOST, 0, idle_timeout=0.1) as server, connect(HOST, server.port) as connection:
        await connection.writer.write_payload(b"x")
        assert await connection.reader.read_message() is not None


@in_loop
async def test_handshake_that_takes_too_long_is_dropped_and_counted(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    with log_lines("flatstream.aio") as lines:
        async with await serve(echo, HOST, 0, ssl=contexts[0], handshake_timeout=0.1, max_connections=2) as server:
            loop = asyncio.get_running_loop()
            with (
                socket.create_connection((HOST, server.port)) as silent,
                socket.create_connection((HOST, server.port)) as wrong,
            ):
                for sock in (silent, wrong):
                    sock.setblocking(False)
                # Those in the handshake count.
                await until(lambda: server.connections == 2)
                await loop.sock_sendall(wrong, b"GET / HTTP/1.0\r\n\r\n" * 10)
                await until(lambda: server.connections == 0)
    assert len(lines) == 2
    assert all("before its TLS handshake was done" in line for line in lines)


@in_loop
async def test_fast_sender_and_slow_handler_take_bounded_memory() -> None:
    go_on = asyncio.Event()
    readers: list[AsyncStreamReader] = []

    async def sleepy(connection: Connection) -> None:
        readers.append(connection.reader)
        await go_on.wait()
        async for _ in connection.reader:
            pass

    async with raw_peer(sleepy) as (_, sock):
        frames = reference.encode([b"x" * 1000], "none") * 1000
        sent = 0
        stuck = 0
        while stuck < 50:
            try:
                sent += sock.send(frames[sent % 1004 :])
                stuck = 0
            except BlockingIOError:
                stuck += 1
            await asyncio.sleep(0)
        assert readers[0].buffered <= 512 * 1024
        go_on.set()
        sock.setblocking(True)
        sock.settimeout(30)
        await asyncio.to_thread(sock.sendall, frames[sent % 1004 :])
        sock.shutdown(socket.SHUT_WR)
        assert await asyncio.to_thread(sock.recv, 1) == b""
        assert readers[0].frames_read == -(-sent // 1004) + (len(frames) - (sent % 1004)) // 1004 - (
            sent % 1004 > 0
        ) + (1 if sent % 1004 else 0)


# Handlers, and the end of a server


@in_loop
async def test_error_of_a_handler_is_logged_and_the_server_goes_on() -> None:
    async def fail(connection: Connection) -> None:
        await connection.reader.read_message()
        raise KeyError("wrong")

    with log_lines("flatstream.aio") as lines:
        async with await serve(fail, HOST, 0) as server:
            for _ in range(2):
                async with connect(HOST, server.port) as connection:
                    await connection.writer.write_payload(b"x")
                    await read_on(connection.reader)
                    connection.abort()
    assert len(lines) == 2
    assert all(line.startswith("ERROR the handler of the connection from 127.0.0.1:") for line in lines)


@in_loop
async def test_close_waits_for_handlers_and_then_cancels_them() -> None:
    events: list[str] = []

    async def work(connection: Connection) -> None:
        try:
            async for payload in connection.reader:
                await connection.writer.write_payload(payload)
            events.append("ended")
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    server = await serve(work, HOST, 0)
    port = server.port
    first, second = await connect(HOST, port), await connect(HOST, port)
    for connection in (first, second):
        await connection.writer.write_payload(b"x")
        assert await connection.reader.read_message() is not None
    closing = asyncio.create_task(server.close(grace=0.2))
    await until(lambda: not server.sockets)
    with pytest.raises(OSError):
        await connect(HOST, port)
    # A handler can still end by itself, and what it writes arrives.
    await first.writer.write_payload(b"late")
    assert bytes(await first.reader.read_message() or b"") == b"late"
    await first.close()
    await closing
    assert events == ["ended", "cancelled"]
    await read_on(second.reader)
    second.abort()
    await server.close()
    with pytest.raises(ValueError, match="closed"):
        _ = server.port


@in_loop
async def test_what_a_handler_wrote_arrives_before_its_connection_is_closed() -> None:
    async def flood(connection: Connection) -> None:
        await connection.writer.write_payloads([b"x" * 1000] * 3000)

    async with await serve(flood, HOST, 0) as server, connect(HOST, server.port) as connection:
        await asyncio.sleep(0.01)
        assert sum([1 async for _ in connection.reader]) == 3000


@in_loop
async def test_peer_that_does_not_take_what_is_left_is_dropped() -> None:
    async def flood(connection: Connection) -> None:
        # So much that the system does not take all of it.
        connection.writer._stream_writer.write_payloads([b"x" * 100_000] * 200)

    with log_lines("flatstream.aio") as lines:
        async with raw_peer(flood, close_timeout=0.05) as (server, _):
            await until(lambda: server.connections == 1)
            await until(lambda: server.connections == 0)
    assert "TimeoutError: the other side did not take what was left within 0.05 s" in lines[0]


@in_loop
async def test_errors_of_a_handler_itself_are_no_errors_of_its_connection() -> None:
    async def fail(connection: Connection) -> None:
        raise PermissionError("a file of the handler")

    with log_lines("flatstream.aio") as lines:
        async with raw_peer(fail) as (server, sock):
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(sock, 1)
            await until(lambda: server.connections == 0)
    assert [line.split()[0] for line in lines] == ["ERROR"]


@in_loop
async def test_serve_forever_closes_when_it_is_cancelled() -> None:
    server = await serve(echo, HOST, 0)
    task = asyncio.create_task(server.serve_forever())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.sockets


@in_loop
async def test_unix_socket_of_an_earlier_server_is_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    first = await serve(echo, path=path)
    second = await serve(echo, path=path)
    await first.close()
    assert path.exists()
    async with connect(path=path) as connection:
        await connection.writer.write_payload(b"x")
        assert await connection.reader.read_message() is not None
        assert connection.peer
    await second.close()
    assert not path.exists()
    path.write_bytes(b"a file")
    with pytest.raises(OSError, match="cannot listen on"):
        await serve(echo, path=path)
    assert path.read_bytes() == b"a file"


@in_loop
async def test_address_in_use_is_an_error_that_names_it() -> None:
    async with await serve(echo, HOST, 0) as server:
        with pytest.raises(OSError, match=f"cannot listen on .*{server.port}"):
            await serve(echo, HOST, server.port)


@in_loop
async def test_connections_are_kept_alive_by_the_system() -> None:
    made: list[Any] = []

    async def look(connection: Connection) -> None:
        made.append(connection.get_extra_info("socket"))
        made.append(made[-1].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        await echo(connection)

    async with await serve(look, HOST, 0) as server, connect(HOST, server.port, keepalive=7) as connection:
        sock = connection.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
        await until(lambda: len(made) == 2)
        assert made[1]
    async with await serve(echo, HOST, 0) as server, connect(HOST, server.port, keepalive=None) as connection:
        assert not connection.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@in_loop
async def test_streams_describe_themselves_at_both_ends() -> None:
    table = root_of("table Sample { number: long; } root_type Sample;")

    async def double(connection: Connection) -> None:
        await connection.reader.read_description()
        records = connection.writer.records(table)
        async for record in connection.reader.records():
            await records.write(number=2 * record.number)

    async with (
        await serve(double, HOST, 0, describe=table) as server,
        connect(HOST, server.port, describe=table) as connection,
    ):
        assert await connection.writer.records(table).write_columns({"number": list(range(5))}) == 5
        await connection.writer.close()
        assert await connection.reader.read_description() is not None
        assert [record.number async for record in connection.reader.records()] == [0, 2, 4, 6, 8]


@in_loop
async def test_one_serializer_is_for_both_directions() -> None:
    async def double(connection: Connection) -> None:
        async for item in connection.reader.objects():
            await connection.writer.write({"double": 2 * item["n"]})

    async with await serve(double, HOST, 0, serializer="json") as server:
        async with connect(HOST, server.port, serializer="json") as connection:
            for number in range(3):
                await connection.writer.write({"n": number})
            await connection.writer.close()
            assert [item["double"] async for item in connection.reader.objects()] == [0, 2, 4]
        async with connect(HOST, server.port) as connection:
            with pytest.raises(ValueError, match="does not describe itself") as caught:
                connection.reader.objects()
            assert "await reader.read_description() before" in caught.value.__notes__[0]


@in_loop
async def test_compressed_and_encrypted_streams_go_there_and_back() -> None:
    pytest.importorskip("cryptography")
    cipher = flatstream.Aes256Gcm(bytes(range(32)), key_id="it")
    framer = flatstream.ChecksumFramer(flatstream.Crc32()).encrypted(cipher).compressed(flatstream.Lz4Compressor())
    messages = [b"%d" % number * 100 for number in range(500)]
    options: dict[str, Any] = {"framer": framer, "describe": True, "deframer": "crc32", "cipher": cipher}
    async with await serve(echo, HOST, 0, **options) as server, connect(HOST, server.port, **options) as connection:

        async def send() -> None:
            await connection.writer.write_payloads(messages)
            await connection.writer.close()

        sending = asyncio.create_task(send())
        assert [bytes(payload) async for payload in connection.reader] == messages
        await sending
        # Both ends have written what ends the encrypted stream.
        assert connection.reader.encryption is not None
        assert connection.reader.encryption.is_finished
        assert connection.writer.bytes_written < sum(map(len, messages))


@in_loop
async def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="handler must be callable"):
        await serve(None, HOST, 0)  # type: ignore[arg-type]
    for wrong in ({}, {"host": HOST}, {"path": "x", "port": 1}):
        with pytest.raises(TypeError, match="expected"):
            await serve(echo, **wrong)
        with pytest.raises(TypeError, match="expected"):
            await connect(**wrong)
    for options in (
        {"max_connections": 0}, {"max_connections": True}, {"idle_timeout": 0}, {"keepalive": -1},
        {"on_error": "what"}, {"buffer_size": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            await serve(echo, HOST, 0, **options)
    with pytest.raises(TypeError, match="ssl must be"):
        await serve(echo, HOST, 0, ssl=True)  # type: ignore[arg-type]
    for made in (Connection, Server):
        with pytest.raises(TypeError, match="is made by"):
            made()
    with pytest.raises(ValueError, match="server_hostname"):
        connect(path="x", ssl=True)

"""What one side of a connection sees of the end of the other: an end, or an error."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flatstream import UnexpectedEofError
from flatstream.aio import Connection, connect, serve
from flatstream.aio._link import Link
from reference import framing as reference
from support.async_streams import StubTransport, in_loop, tls_contexts

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return tls_contexts(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def client_of(
    handler: Callable[[Connection], Awaitable[object]],
    contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    **options: Any,
) -> AsyncIterator[Connection]:
    secure: list[dict[str, Any]] = [{}, {}]
    if contexts is not None:
        secure = [{"ssl": contexts[0]}, {"ssl": contexts[1], "server_hostname": "localhost"}]
    async with (
        await serve(handler, HOST, 0, **secure[0], **options) as server,
        connect(HOST, server.port, **secure[1]) as connection,
    ):
        yield connection


async def read_all(connection: Connection, got: list[bytes]) -> None:
    async for payload in connection.reader:
        got.append(bytes(payload))


@pytest.mark.parametrize("tls", [False, True])
@in_loop
async def test_handler_that_fails_does_not_look_like_an_end(
    tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    go_on = asyncio.Event()

    async def fail(connection: Connection) -> None:
        await connection.writer.write_payloads([b"1", b"2", b"3"])
        await connection.writer.flush()
        await go_on.wait()
        raise RuntimeError("the disk is full")

    got: list[bytes] = []
    with pytest.raises(ConnectionResetError):  # noqa: PT012
        async with client_of(fail, contexts if tls else None) as connection:
            for _ in range(3):
                got.append(bytes(await connection.reader.read_message() or b""))
            go_on.set()
            await read_all(connection, got)
    assert got == [b"1", b"2", b"3"]


@in_loop
async def test_frame_that_is_refused_and_idle_time_do_not_look_like_an_end() -> None:
    async def take(connection: Connection) -> None:
        await read_all(connection, [])

    for data, options in ((b"x" * 11, {"max_frame_len": 10}), (b"x", {"idle_timeout": 0.02})):
        with pytest.raises(ConnectionResetError):  # noqa: PT012
            async with client_of(take, **options) as connection:
                await connection.writer.write_payload(data)
                await read_all(connection, [])


@in_loop
async def test_client_that_knows_nothing_of_tls_sees_no_end(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def nothing(connection: Connection) -> None:
        raise AssertionError("there is no connection")

    async with await serve(nothing, HOST, 0, ssl=contexts[0]) as server:
        with pytest.raises((ConnectionResetError, UnexpectedEofError)):  # noqa: PT012
            async with connect(HOST, server.port) as connection:
                await connection.writer.write_payload(b"x" * 100)
                await read_all(connection, [])


@in_loop
async def test_client_that_is_cancelled_does_not_look_like_an_end() -> None:
    errors: list[BaseException] = []
    ended = asyncio.Event()

    async def take(connection: Connection) -> None:
        try:
            await read_all(connection, [])
        except OSError as error:
            errors.append(error)
        finally:
            ended.set()

    async with await serve(take, HOST, 0) as server:
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(0.02), connect(HOST, server.port) as connection:
                await connection.writer.write_payload(b"x")
                await connection.reader.read_message()
        await ended.wait()
    assert [type(error) for error in errors] == [ConnectionResetError]


@in_loop
async def test_handler_that_returns_at_once_is_a_clean_end_and_leaving_is_no_error() -> None:
    async def nothing(connection: Connection) -> None:
        pass

    async with client_of(nothing) as connection:
        assert await connection.reader.read_message() is None
        # The other side is closed, and answers this with a reset.
        await connection.writer.write_payload(b"x")
        await connection.writer.flush()
        await asyncio.sleep(0.01)
    assert connection.closed
    await connection.close()


@in_loop
async def test_reset_that_closing_finds_is_a_connection_error_and_closes_all_the_same() -> None:
    class Reset(StubTransport):
        def write_eof(self) -> None:
            raise OSError(107, "Transport endpoint is not connected")

    transport = Reset()
    link = Link(asyncio.get_running_loop())
    connection = Connection._new(link, {"deframer": None, "framer": None, "reader": {}, "writer": {"buffer_size": 100}})
    transport.connect(link)
    await connection.writer.write_payload(b"abc")
    with pytest.raises(ConnectionResetError, match="may not have got what was written"):
        await connection.close()
    await connection.wait_closed()
    assert transport.taken == reference.encode([b"abc"], "none")
    assert connection.closed

"""Connections: a reader and a writer over one transport, and how to make them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl as tls
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from flatstream._core.base.pickling import fail_to_pickle
from flatstream.aio._link import Link
from flatstream.aio.reader import DEFAULT_CAPACITY, DEFAULT_MAX_FRAME_LEN, AsyncStreamReader
from flatstream.aio.writer import DEFAULT_BUFFER_SIZE, AsyncStreamWriter
from flatstream.checksums import Checksum, ChecksumType
from flatstream.framing import Deframer, Framer

if TYPE_CHECKING:
    from typing import Self

    from flatstream.aio.reader import _OnError
    from flatstream.serializers import Serializer
    from flatstream.transforms.ciphers import Cipher

__all__ = ["Connection", "connect"]

DEFAULT_HANDSHAKE_TIMEOUT = 10.0
DEFAULT_KEEPALIVE = 60.0
# How often the system asks a silent peer before it gives the connection up.
KEEPALIVE_PROBES = 4


class Connection:
    """A connection: a `reader` and a `writer`. Made by `connect` and `serve`.

    Attributes
    ----------
    reader : AsyncStreamReader
    writer : AsyncStreamWriter
    """

    reader: AsyncStreamReader
    writer: AsyncStreamWriter

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("a Connection is made by flatstream.aio.connect and serve")

    @classmethod
    def _new(cls, link: Link, settings: dict[str, Any]) -> Self:
        connection = cls.__new__(cls)
        connection._link = link
        # Both before the transport: with TLS, bytes can arrive together with it.
        connection.reader = AsyncStreamReader(link, settings["deframer"], **settings["reader"])
        connection.reader._serializer = settings["writer"].get("serializer")
        connection.writer = AsyncStreamWriter(link, settings["framer"], **settings["writer"])
        return connection

    _link: Link

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the transport knows: "peername", "sockname", "socket", "peercert", "cipher", "ssl_object" and others."""
        return self._link.transport.get_extra_info(name, default)

    @property
    def peer(self) -> str:
        """The other side, as text: "host:port", or "unix" with its process id if that is known."""
        return peer_text(self._link.transport)

    async def close(self) -> None:
        """Closes the writer, which hands over everything, then the reader and the transport.

        Raises what closing the writer raises; the connection is closed all the same.
        """
        try:
            await self.writer.close()
        finally:
            await self.reader.close()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Returns when the transport is closed, by whichever side."""
        await self._link.wait_lost()

    def abort(self) -> None:
        """Drops everything that was not sent, and closes the transport at once. Later operations raise OSError.

        The other side gets a ConnectionResetError, with TLS too. (Unix sockets have no resets: there it sees an end.)
        """
        self.writer._discard()
        self._link.abort()

    @property
    def closed(self) -> bool:
        """Whether the transport is closed, or about to be."""
        return self._link.is_lost or self._link.transport.is_closing()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        elif not isinstance(error, Exception):
            # Cancelled: it may be because the other side takes nothing.
            self.abort()
        else:
            try:
                await self.close()
            except Exception as second:
                error.add_note(f"closing the connection failed too: {type(second).__name__}: {second}")

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __repr__(self) -> str:
        return f"<Connection to {self.peer}, {'closed' if self.closed else 'open'}>"


def connect(
    host: str | None = None,
    port: int | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    sock: socket.socket | None = None,
    ssl: tls.SSLContext | bool | None = None,
    server_hostname: str | None = None,
    handshake_timeout: float = DEFAULT_HANDSHAKE_TIMEOUT,
    keepalive: float | None = DEFAULT_KEEPALIVE,
    deframer: Deframer | Checksum | ChecksumType | str | None = None,
    framer: Framer | Checksum | ChecksumType | str | None = None,
    max_frame_len: int = DEFAULT_MAX_FRAME_LEN,
    on_error: _OnError = "raise",
    allow_empty: bool | None = None,
    read_capacity: int = DEFAULT_CAPACITY,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    describe: Any = None,
    metadata: dict[str, str] | None = None,
    serializer: Serializer | str | None = None,
    cipher: Cipher | None = None,
) -> Connecting:
    """Connects to a server: ``async with connect(host, port) as connection``, or ``connection = await connect(...)``.

    Parameters
    ----------
    host, port : str, int
        A TCP address.
    path : path
        Instead, that of a Unix socket.
    sock : socket.socket
        Instead, a connected stream socket, which then belongs to the connection.
    ssl : ssl.SSLContext or True, optional
        Uses TLS; True: with the default context.
    server_hostname : str, optional
        The name that the certificate must be for; `host` by default.
    handshake_timeout : float
        How many seconds the TLS handshake may take.
    keepalive : float, optional
        After so many seconds without a byte, the system asks whether the other side is still there, and after four
        questions without an answer, reads fail with TimeoutError (TCP only). None: it never asks.
    deframer, max_frame_len, on_error, allow_empty, cipher
        Of the reader; see `AsyncStreamReader`. `read_capacity` is its `capacity`.
    framer, buffer_size, describe, metadata
        Of the writer; see `AsyncStreamWriter`.
    serializer
        Of the writer, and of the reader's `objects` if the stream that is read names none.

    Raises
    ------
    OSError, ssl.SSLError
        There is no connection.
    TypeError, ValueError
        An argument is wrong.

    Examples
    --------
    >>> import asyncio
    >>> from flatstream.aio import connect, serve
    >>> async def echo(connection):
    ...     async for payload in connection.reader:
    ...         await connection.writer.write_payload(payload)
    >>> async def main():
    ...     async with await serve(echo, "127.0.0.1", 0) as server:
    ...         async with connect("127.0.0.1", server.port) as connection:
    ...             await connection.writer.write_payload(b"abc")
    ...             print(bytes(await connection.reader.read_message()))
    >>> asyncio.run(main())
    b'abc'
    """
    if sum(given is not None for given in (host, path, sock)) != 1 or (host is None) != (port is None):
        raise TypeError("expected host and port, or path, or sock")
    settings = settings_of(
        deframer=deframer,
        framer=framer,
        capacity=read_capacity,
        max_frame_len=max_frame_len,
        on_error=on_error,
        allow_empty=allow_empty,
        buffer_size=buffer_size,
        describe=describe,
        metadata=metadata,
        serializer=serializer,
        cipher=cipher,
    )
    options: dict[str, Any] = {}
    if ssl:
        options = {
            "ssl": tls.create_default_context() if ssl is True else ssl,
            "ssl_handshake_timeout": handshake_timeout,
            "server_hostname": server_hostname if server_hostname is not None else host,
        }
        if options["server_hostname"] is None:
            raise ValueError("with ssl, path and sock need a server_hostname")

    async def open_connection() -> Connection:
        loop = asyncio.get_running_loop()
        link = Link(loop)
        connection = Connection._new(link, settings)

        def protocol() -> Link:
            return link

        try:
            if path is not None:
                await loop.create_unix_connection(protocol, os.fspath(path), **options)
            elif sock is not None:
                await loop.create_connection(protocol, sock=sock, **options)
            else:
                assert host is not None
                assert port is not None
                await loop.create_connection(protocol, host, port, **options)
            if keepalive is not None:
                keep_alive(link.transport, keepalive)
        except BaseException:
            connection.writer._discard()
            if link.transport is not None:
                link.transport.abort()
            raise
        return connection

    return Connecting(open_connection)


class Connecting:
    """What `connect` returns: it is awaited, or entered with ``async with``, once."""

    def __init__(self, open_connection: Callable[[], Any]) -> None:
        self._open = open_connection
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, Any, Connection]:
        return self._open().__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> Connection:
        self._connection = await self._open()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.__aexit__(kind, error, traceback)


def settings_of(
    *, deframer: Any, framer: Any, buffer_size: int, describe: Any, metadata: Any, serializer: Any, **reader: Any
) -> Any:
    """The arguments of the reader and the writer of a connection."""
    return {
        "deframer": deframer,
        "framer": framer,
        "reader": reader,
        "writer": {"buffer_size": buffer_size, "describe": describe, "metadata": metadata, "serializer": serializer},
    }


def keep_alive(transport: Any, seconds: float) -> None:
    """Has the system ask a silent TCP peer whether it is there."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = max(1, round(seconds))
    options = {"TCP_KEEPIDLE": idle, "TCP_KEEPINTVL": max(1, idle // 4), "TCP_KEEPCNT": KEEPALIVE_PROBES}
    for name, value in options.items():
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def peer_text(transport: Any) -> str:
    name = None if transport is None else transport.get_extra_info("peername")
    if isinstance(name, tuple) and len(name) >= 2:
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    return "unix" if not name else str(name)

"""serve: a server whose connections are handled by a coroutine each."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl as tls
import stat
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from flatstream._core.base.pickling import fail_to_pickle
from flatstream.aio._link import Link, abort_transport, reset_at_close
from flatstream.aio.connection import (
    DEFAULT_HANDSHAKE_TIMEOUT,
    DEFAULT_KEEPALIVE,
    Connection,
    keep_alive,
    settings_of,
)
from flatstream.aio.reader import DEFAULT_CAPACITY, DEFAULT_MAX_FRAME_LEN
from flatstream.aio.writer import DEFAULT_BUFFER_SIZE
from flatstream.checksums import Checksum, ChecksumType
from flatstream.errors import FlatStreamError
from flatstream.framing import Deframer, Framer

if TYPE_CHECKING:
    from typing import Self

    from flatstream.aio.reader import _OnError
    from flatstream.serializers import Serializer
    from flatstream.transforms.ciphers import Cipher

__all__ = ["Server", "serve"]

logger = logging.getLogger("flatstream.aio")

DEFAULT_MAX_CONNECTIONS = 1000
DEFAULT_IDLE_TIMEOUT = 300.0
DEFAULT_GRACE = 10.0
# How long the server does not accept after the system had no descriptor or memory for a connection.
ACCEPT_DELAY = 1.0
NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Handler = Callable[[Connection], Awaitable[object]]


class Server:
    """Accepts connections, and runs a handler for each. Made by `serve`.

    Attributes
    ----------
    sockets : tuple of socket.socket
        On which it listens; empty after `close`.
    rejected : int
        How many connections were refused (reset at once) because there were as many as allowed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("a Server is made by flatstream.aio.serve")

    @classmethod
    def _new(cls, handler: Handler, listeners: list[socket.socket], limits: dict[str, Any], settings: Any) -> Self:
        server = cls.__new__(cls)
        server._handler = handler
        server.sockets = tuple(listeners)
        server.rejected = 0
        server._limits = limits
        server._settings = settings
        server._loop = asyncio.get_running_loop()
        server._tasks = set()
        server._connections = set()
        server._acceptors = [server._loop.create_task(server._accept(listener)) for listener in listeners]
        server._paths = [
            (path, os.stat(path).st_ino)
            for listener in listeners
            if listener.family == getattr(socket, "AF_UNIX", None) and (path := listener.getsockname())
            if isinstance(path, str) and not path.startswith("\0")
        ]
        return server

    sockets: tuple[socket.socket, ...]
    rejected: int
    _handler: Handler
    _limits: dict[str, Any]
    _settings: Any
    _loop: asyncio.AbstractEventLoop
    _tasks: set[asyncio.Task[None]]
    _connections: set[Connection]
    _acceptors: list[asyncio.Task[None]]
    _paths: list[tuple[str, int]]

    @property
    def port(self) -> int:
        """The port of the first socket, as the system chose it for port 0."""
        if not self.sockets:
            raise ValueError("this Server is closed")
        name = self.sockets[0].getsockname()
        if not isinstance(name, tuple):
            raise ValueError(f"this Server listens on a Unix socket, which has no port: {name!r:.100}")
        return int(name[1])

    @property
    def connections(self) -> int:
        """How many connections there are, those in their TLS handshake included."""
        return len(self._tasks)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = await self._loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in NO_RESOURCES:
                    # The peer is gone already.
                    logger.info("a connection could not be accepted: %s", error)
                    await asyncio.sleep(0)
                    continue
                logger.error("no connections are accepted for %g s: %s", ACCEPT_DELAY, error)
                await asyncio.sleep(ACCEPT_DELAY)
                continue
            if len(self._tasks) >= self._limits["max_connections"]:
                self.rejected += 1
                logger.warning(
                    "a connection was refused: there are %d, as many as allowed; %d were refused so far",
                    len(self._tasks), self.rejected,
                )  # fmt: skip
                reset_at_close(peer)
                peer.close()
                continue
            peer.setblocking(False)
            task = self._loop.create_task(self._run(peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, sock: socket.socket) -> None:
        """The life of a connection. Only cancellation leaves it."""
        limits = self._limits
        link = Link(self._loop)
        connection = Connection._new(link, self._settings)
        try:
            options: dict[str, Any] = {}
            if limits["ssl"] is not None:
                options = {"ssl": limits["ssl"], "ssl_handshake_timeout": limits["handshake_timeout"]}
            # A peer that does not know of TLS must not take a handshake that fails for the end of a stream.
            reset_at_close(sock, bool(options))
            await self._loop.connect_accepted_socket(lambda: link, sock, **options)
            reset_at_close(sock, False)
        except (OSError, EOFError) as error:
            connection.writer._discard()
            sock.close()
            logger.info("a connection has ended before its TLS handshake was done: %s", error or type(error).__name__)
            return
        except BaseException:
            connection.writer._discard()
            if link.transport is not None:
                abort_transport(link.transport)
            sock.close()
            raise
        if limits["keepalive"] is not None:
            with contextlib.suppress(OSError):
                keep_alive(link.transport, limits["keepalive"])
        if limits["idle_timeout"] is not None:
            link.limit_idle_time(limits["idle_timeout"])
        peer = connection.peer
        self._connections.add(connection)
        try:
            await self._handler(connection)
            await _close(connection, limits["close_timeout"])
        except Exception as error:
            if error is link.error or isinstance(error, ConnectionError | FlatStreamError):
                # What the other side did, or sent.
                logger.warning("the connection from %s has ended: %s: %s", peer, type(error).__name__, error)
                logger.debug("where that came to light", exc_info=True)
            else:
                logger.exception("the handler of the connection from %s failed", peer)
        finally:
            # Otherwise it is closed already.
            connection.abort()
            self._connections.discard(connection)

    async def close(self, grace: float = DEFAULT_GRACE) -> None:
        """Stops accepting, waits `grace` seconds for the handlers, cancels those that are left, and waits for them.

        Connections are closed when their handlers return. A handler that should end sooner must be told by the program:
        an `asyncio.Event`, say.
        """
        for acceptor in self._acceptors:
            acceptor.cancel()
        await asyncio.gather(*self._acceptors, return_exceptions=True)
        for listener in self.sockets:
            listener.close()
        self.sockets = ()
        for path, inode in self._paths:
            # Unless another server has made it anew.
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
        self._paths = []
        tasks = {task for task in self._tasks if task is not asyncio.current_task()}
        if tasks and grace > 0:
            await asyncio.wait(tasks, timeout=grace)
        left = [task for task in tasks if not task.done()]
        if left:
            logger.info("%d handlers are cancelled: they had not ended within %g s", len(left), grace)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def serve_forever(self) -> None:
        """Returns never. If it is cancelled, it calls `close`."""
        try:
            await self._loop.create_future()
        finally:
            await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(DEFAULT_GRACE if error is None else 0)

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __repr__(self) -> str:
        names = ", ".join(str(listener.getsockname()) for listener in self.sockets)
        return f"<Server on {names or 'nothing: it is closed'}, {len(self._tasks)} connections>"


async def serve(
    handler: Handler,
    host: str | None = None,
    port: int | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    sock: socket.socket | None = None,
    ssl: tls.SSLContext | None = None,
    max_connections: int = DEFAULT_MAX_CONNECTIONS,
    idle_timeout: float | None = DEFAULT_IDLE_TIMEOUT,
    handshake_timeout: float = DEFAULT_HANDSHAKE_TIMEOUT,
    close_timeout: float = DEFAULT_GRACE,
    keepalive: float | None = DEFAULT_KEEPALIVE,
    backlog: int = 100,
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
) -> Server:
    """Begins to accept connections, and awaits ``handler(connection)`` for each, in a task of its own.

    The connection is closed when the handler returns. What it raises is logged, to "flatstream.aio", and aborts its own
    connection only: the other side gets a ConnectionResetError, and no end. See docs/async.md.

    Parameters
    ----------
    handler : callable
        Takes a `Connection`, and returns an awaitable.
    host, port : str, int
        The TCP address to listen on; port 0: one that is free, see `Server.port`. Without `host`: all interfaces.
    path : path
        Instead, that of a Unix socket. A socket that is left there from an earlier server is replaced.
    sock : socket.socket
        Instead, a bound stream socket, which then belongs to the server.
    ssl : ssl.SSLContext, optional
        Uses TLS.
    max_connections : int
        As many connections at the same time. Further ones are reset at once.
    idle_timeout : float, optional
        If a handler waits so many seconds for one whole message, or the other side takes no bytes for so long, the
        connection is aborted, and the handler gets a TimeoutError. None: there is no limit.
    handshake_timeout : float
        How many seconds a TLS handshake may take.
    close_timeout : float
        How many seconds the other side has to take what is left when the handler has returned.
    keepalive, deframer, framer, max_frame_len, on_error, allow_empty, read_capacity, buffer_size, describe, metadata,
    serializer, cipher
        See `connect`.

    Returns
    -------
    Server
        It is accepting. ``async with`` closes it.

    Raises
    ------
    OSError
        The address is in use, or not allowed.
    TypeError, ValueError
        An argument is wrong.
    """
    if not callable(handler):
        raise TypeError(f"handler must be callable with a connection, got {handler!r:.100}")
    if sum(given is not None for given in (port, path, sock)) != 1 or (host is not None and port is None):
        raise TypeError("expected port (and host), or path, or sock")
    if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
        raise ValueError(f"max_connections must be an int of at least 1, got {max_connections!r:.100}")
    if ssl is not None and not isinstance(ssl, tls.SSLContext):
        raise TypeError(f"ssl must be an ssl.SSLContext or None, got {ssl!r:.100}")
    for name, value in (("idle_timeout", idle_timeout), ("keepalive", keepalive)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be more than 0 seconds, or None, got {value!r:.100}")
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
    # Wrong arguments raise here, and not for each connection.
    Connection._new(Link(asyncio.get_running_loop()), settings).writer._discard()
    limits = {
        "max_connections": max_connections,
        "idle_timeout": idle_timeout,
        "handshake_timeout": handshake_timeout,
        "close_timeout": close_timeout,
        "keepalive": keepalive,
        "ssl": ssl,
    }
    return Server._new(handler, await _listen(host, port, path, sock, backlog), limits, settings)


async def _close(connection: Connection, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await connection.close()
    except TimeoutError:
        link = connection._link
        if link.error is None:
            link.fail(TimeoutError(f"the other side did not take what was left within {seconds:g} s"))
            assert link.error is not None
        raise link.error from None


async def _listen(
    host: str | None, port: int | None, path: str | os.PathLike[str] | None, sock: socket.socket | None, backlog: int
) -> list[socket.socket]:
    """Sockets that listen and do not block."""
    listeners: list[socket.socket] = []
    try:
        if sock is not None:
            listeners.append(sock)
        elif path is not None:
            listeners.append(_bind_unix(os.fspath(path)))
        else:
            assert port is not None
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, kind, protocol, _, address in dict.fromkeys(found):
                listeners.append(_bind(family, kind, protocol, address, listeners))
        for listener in listeners:
            listener.setblocking(False)
            listener.listen(backlog)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _bind(family: int, kind: int, protocol: int, address: Any, earlier: list[socket.socket]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if earlier and not address[1]:
            # The port that the system chose for the first one.
            address = (address[0], earlier[0].getsockname()[1], *address[2:])
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
    except BaseException:
        listener.close()
        raise
    return listener


def _bind_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {path!r}: {error.strerror}") from None
    except BaseException:
        listener.close()
        raise
    return listener

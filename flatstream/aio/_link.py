"""Between a transport of asyncio and the parser of a reader and the encoder of a writer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from flatstream.aio.writer import AsyncStreamWriter
    from flatstream.parser import FrameParser

# What arrives for a reader that is closed is dropped in pieces of this size.
DROPPED = 4096
# The two numbers of `SO_LINGER`: whether it is on, and for how many seconds.
LINGER = struct.Struct("HH" if os.name == "nt" else "ii")


class Inlet(Protocol):
    """Where a reader gets its bytes from."""

    def attach(self, parser: FrameParser, capacity: int) -> None:
        """Says which parser the bytes are for, and how many may wait there."""

    def more(self) -> Awaitable[object] | None:
        """What ends when the parser has more bytes, or has to be asked again; None at the end of the stream."""

    async def close_inlet(self) -> None:
        """Ends reading."""


class Outlet(Protocol):
    """Where a writer puts its bytes."""

    def attach_writer(self, writer: AsyncStreamWriter) -> None:
        """Says which writer to open and close the gate of."""

    def write(self, data: memoryview | bytes) -> None:
        """Takes all of the bytes."""

    def takes_more(self) -> bool:
        """Whether it has room now. If not, it calls the writer's `_hand_over` when it has."""

    def room(self) -> Awaitable[object] | None:
        """What ends when a write may begin, or has to ask again; None if it may begin now."""

    async def wait_taken(self) -> None:
        """Returns when the other side may take more."""

    async def close_outlet(self) -> None:
        """Ends writing, when everything was taken."""

    def abort(self) -> None:
        """Ends everything at once."""


def wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


def new_waiter(loop: asyncio.AbstractEventLoop, waiters: list[asyncio.Future[None]]) -> asyncio.Future[None]:
    """A future in the list, in place of those whose tasks were cancelled."""
    if waiters:
        waiters[:] = [waiter for waiter in waiters if not waiter.done()]
    waiter = loop.create_future()
    waiters.append(waiter)
    return waiter


def reset_at_close(sock: Any, is_wanted: bool = True) -> None:
    """Whether the other side sees a reset, and no end, when `sock` is closed. Only TCP has resets."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    # It may be closed already.
    with contextlib.suppress(OSError):
        # What the system has not sent yet is dropped.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(is_wanted, 0))


def abort_transport(transport: Any) -> None:
    """Closes a transport at once, so that the other side cannot take it for the end of the stream."""
    reset_at_close(transport.get_extra_info("socket"))
    transport.abort()


class Link(asyncio.BufferedProtocol):
    """The protocol of a transport. It is the inlet of a reader, the outlet of a writer, or both.

    Reading: the transport reads into the parser's own memory, until as many bytes wait there as the limit says. It is
    paused then, until a reader has to wait for more.

    Writing: the transport is never given more while it has anything left, but for what is in the writer's buffer when
    that is full. From then on the writer's gate is closed: its writes wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: Any = None
        self.error: BaseException | None = None
        self.is_lost = False
        self._is_aborted = False
        self._lost_waiters: list[asyncio.Future[None]] = []
        # Reading
        self._parser: FrameParser | None = None
        # The transport is paused when so many bytes wait to be parsed. What one call of the system gives comes on top.
        self._read_limit = 0
        self._has_ended = False
        self._is_reading_paused = False
        self._is_inlet_closed = False
        self._readers: list[asyncio.Future[None]] = []
        # Since when a reader waits for the message that it waits for, and where that begins in the stream.
        self._waiting_since = 0.0
        self._waiting_at = -1
        # Writing
        self._writer: AsyncStreamWriter | None = None
        self._is_writing_paused = False
        self._is_outlet_closed = False
        self._writers: list[asyncio.Future[None]] = []
        self._resumed = 0
        # What the transport has left, and since when it is known to have as much; -1 if nobody looked since the pause.
        self._left = -1
        self._left_since = 0.0
        # Idle time
        self._idle_timeout: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    # The transport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self._writer is not None:
            # With anything left in it, it says that it is full. (With TLS, it would say so with nothing left, too.)
            transport.set_write_buffer_limits(high=1 if transport.get_extra_info("sslcontext") else 0, low=0)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_lost = True
        if self.error is None:
            self.error = exc
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._writer is not None:
            # The next write finds out.
            self._writer._is_gated = True
        for waiters in (self._readers, self._writers, self._lost_waiters):
            wake(waiters)

    async def wait_lost(self) -> None:
        """Returns when the transport is closed."""
        while not self.is_lost:
            await new_waiter(self.loop, self._lost_waiters)

    def fail(self, error: BaseException) -> None:
        """Ends everything at once with an error, which readers and writers raise."""
        if self.error is None:
            self.error = error
        if self.transport is not None and not self.is_lost:
            abort_transport(self.transport)
        for waiters in (self._readers, self._writers):
            wake(waiters)

    def abort(self) -> None:
        self._is_aborted = True
        if not self.is_lost:
            self.fail(ConnectionAbortedError("the connection was aborted on this side"))

    def _close_if_done(self) -> None:
        """Closes the transport if nobody reads or writes any more."""
        if self.transport is None or self.transport.is_closing():
            return
        if (self._is_outlet_closed or self._writer is None) and (
            self._is_inlet_closed or self._has_ended or self._parser is None
        ):
            self.transport.close()

    def _raise_error(self) -> None:
        """Raises the error that ended the connection, if there is one."""
        if self.error is not None:
            # Without the traceback of the last time.
            raise self.error.with_traceback(None)

    # Reading

    def attach(self, parser: FrameParser, capacity: int) -> None:
        self._parser = parser
        self._read_limit = capacity

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._parser is None or self._is_inlet_closed or self._has_ended:
            # TLS gives what it has after the transport was paused, and asks for a buffer after the end.
            return memoryview(bytearray(DROPPED))
        return self._parser.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        if self._parser is not None and not self._is_inlet_closed and not self._has_ended:
            self._parser.buffer_updated(nbytes)
            self._has_bytes(self._parser)

    def data_received(self, data: bytes) -> None:
        # Transports of pipes have no protocols with buffers.
        if self._parser is not None and not self._is_inlet_closed:
            self._parser.feed(data)
            self._has_bytes(self._parser)

    def _has_bytes(self, parser: FrameParser) -> None:
        if self._readers:
            wake(self._readers)
        elif parser.buffered >= self._read_limit and not self._is_reading_paused:
            self._is_reading_paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self._is_cut():
            # Whoever is between the two sides could do that.
            self.fail(ConnectionAbortedError("the connection was cut: the other side had not ended the TLS stream"))
            return False
        self._has_ended = True
        if self._parser is not None and not self._is_inlet_closed:
            self._parser.feed_eof()
        wake(self._readers)
        if self._is_outlet_closed or self._writer is None:
            return False
        # The other side reads on. With TLS that is not possible: its transport closes itself.
        return self.transport.get_extra_info("sslcontext") is None

    def _is_cut(self) -> bool:
        """Whether the connection below TLS has ended without the message by which TLS ends. (Not all loops tell.)"""
        tls = self.transport.get_extra_info("ssl_object")
        if tls is None:
            return False
        try:
            return bool(tls.read(1) != b"")
        except OSError:
            # An SSLError: more is expected.
            return True

    def more(self) -> Awaitable[object] | None:
        parser = self._parser
        if parser is None or self._is_inlet_closed:
            raise ValueError("this AsyncStreamReader is closed")
        if self._has_ended:
            return None
        self._raise_error()
        if self.is_lost:
            raise ConnectionAbortedError("the connection was closed, and the other side had not ended the stream")
        if self._is_reading_paused:
            self._is_reading_paused = False
            self.transport.resume_reading()
        if self._idle_timeout is not None and self._waiting_at != parser.offset:
            self._waiting_at = parser.offset
            self._waiting_since = self.loop.time()
        return new_waiter(self.loop, self._readers)

    async def close_inlet(self) -> None:
        if self._is_inlet_closed:
            return
        self._is_inlet_closed = True
        wake(self._readers)
        if not self._has_ended and not self._is_reading_paused and not self.transport.is_closing():
            self._is_reading_paused = True
            self.transport.pause_reading()
        self._close_if_done()

    # Writing

    def attach_writer(self, writer: AsyncStreamWriter) -> None:
        self._writer = writer

    def write(self, data: memoryview | bytes) -> None:
        if self.is_lost or self.transport.is_closing():
            self._raise_error()
            raise ConnectionResetError("the connection was closed, and bytes that were written are lost")
        was_paused = self._is_writing_paused
        self.transport.write(data)
        if was_paused and self._writer is not None:
            self._writer._is_gated = True

    def takes_more(self) -> bool:
        return not self._is_writing_paused

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        self._left = -1

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._resumed += 1
        if self._writer is not None and not self._is_outlet_closed:
            self._writer._is_gated = False
            self._writer._hand_over()
        wake(self._writers)

    def room(self) -> Awaitable[object] | None:
        if self._is_outlet_closed:
            raise ValueError("this AsyncStreamWriter is closed")
        self._raise_error()
        if self.is_lost or self.transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        if self._is_writing_paused:
            return new_waiter(self.loop, self._writers)
        if self._writer is not None:
            self._writer._is_gated = False
        return None

    async def wait_taken(self) -> None:
        self._raise_error()
        # Once it was resumed, all that it had before was taken. It may be full again already.
        before = self._resumed
        while self._is_writing_paused and self._resumed == before and not self.is_lost:
            await new_waiter(self.loop, self._writers)
        self._raise_error()

    async def close_outlet(self) -> None:
        if self._is_aborted:
            # As was asked for.
            await self.wait_lost()
            return
        if not self._is_outlet_closed:
            self._is_outlet_closed = True
            if self._writer is not None:
                self._writer._is_gated = True
            wake(self._writers)
            try:
                # If the other side has ended, closing says all.
                if not self._has_ended:
                    self._write_eof()
            finally:
                self._close_if_done()
        await self.wait_taken()
        if self.transport.is_closing():
            await self.wait_lost()
            self._raise_error()

    def _write_eof(self) -> None:
        if self.is_lost or self.transport.is_closing() or not self.transport.can_write_eof():
            return
        try:
            self.transport.write_eof()
        except OSError as error:
            # The reader finds out by itself, behind what has arrived before.
            raise ConnectionResetError(
                error.errno, "the other side has reset the connection, and may not have got what was written"
            ) from None

    # Idle time

    def limit_idle_time(self, seconds: float) -> None:
        """Ends the connection if a reader waits so long for a whole message, or if the other side takes nothing for so
        long.
        """
        self._idle_timeout = seconds
        self._idle_timer = self.loop.call_later(seconds, self._check_idle_time)

    def _check_idle_time(self) -> None:
        seconds = self._idle_timeout
        if seconds is None or self.is_lost or self.transport.is_closing():
            return
        now = self.loop.time()
        due = now + seconds
        if any(not waiter.done() for waiter in self._readers):
            due = min(due, self._waiting_since + seconds)
            if due <= now:
                self.fail(TimeoutError(f"no whole message came within {seconds:g} s"))
                return
        else:
            # Nobody waits: the next wait begins anew, also if it is for the same message.
            self._waiting_at = -1
        if self._is_writing_paused:
            left = self.transport.get_write_buffer_size()
            if left != self._left:
                self._left, self._left_since = left, now
            elif now >= self._left_since + seconds:
                self.fail(TimeoutError(f"the other side took no bytes within {seconds:g} s"))
                return
            due = min(due, self._left_since + seconds)
        self._idle_timer = self.loop.call_at(due, self._check_idle_time)


class StreamInlet:
    """An asyncio.StreamReader as the source of a reader."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._capacity = 0
        self._parser: FrameParser | None = None
        self._turn = asyncio.Lock()
        self._reads = 0
        self._has_ended = False
        self._is_closed = False

    def attach(self, parser: FrameParser, capacity: int) -> None:
        self._parser = parser
        self._capacity = capacity

    def more(self) -> Awaitable[object] | None:
        if self._is_closed:
            raise ValueError("this AsyncStreamReader is closed")
        return None if self._has_ended else self._read(self._reads)

    async def _read(self, seen: int) -> None:
        # An asyncio.StreamReader lets one task wait at a time.
        async with self._turn:
            if self._reads != seen or self._parser is None or self._is_closed:
                return
            # If this is cancelled, it has taken nothing.
            data = await self._stream.read(self._capacity)
            self._reads += 1
            if self._is_closed:
                return
            if data:
                self._parser.feed(data)
            else:
                self._has_ended = True
                self._parser.feed_eof()

    async def close_inlet(self) -> None:
        self._is_closed = True


class StreamOutlet:
    """An asyncio.StreamWriter as the sink of a writer."""

    def __init__(self, stream: asyncio.StreamWriter) -> None:
        self._stream = stream
        self._writer: AsyncStreamWriter | None = None
        self._is_closed = False

    def attach_writer(self, writer: AsyncStreamWriter) -> None:
        self._writer = writer

    def write(self, data: memoryview | bytes) -> None:
        if self._stream.is_closing():
            raise ConnectionResetError("the stream was closed, and bytes that were written are lost")
        self._stream.write(data)
        if self._writer is not None:
            # The next write asks the stream.
            self._writer._is_gated = True

    def room(self) -> Awaitable[object] | None:
        if self._is_closed:
            raise ValueError("this AsyncStreamWriter is closed")
        return self._wait_for_room()

    async def _wait_for_room(self) -> None:
        if self._stream.is_closing():
            raise ConnectionResetError("the stream is closed")
        await self._stream.drain()
        if self._writer is not None and not self._is_closed:
            self._writer._is_gated = False

    def takes_more(self) -> bool:
        return True

    async def wait_taken(self) -> None:
        await self._stream.drain()

    async def close_outlet(self) -> None:
        self._is_closed = True
        if self._writer is not None:
            self._writer._is_gated = True
        self._stream.close()
        await self._stream.wait_closed()

    def abort(self) -> None:
        self._is_closed = True
        abort_transport(self._stream.transport)

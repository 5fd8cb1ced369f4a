"""Event loops, a transport that does what a test says, and certificates for TLS."""

from __future__ import annotations

import asyncio
import datetime
import functools
import inspect
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flatstream.aio import AsyncStreamWriter
from flatstream.aio._link import Link
from support.logs import log_lines

T = TypeVar("T")

# No test should take so long, on any machine.
TIME_LIMIT = 30.0

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
try:
    import uvloop
except ImportError:  # not for this system
    pass
else:
    LOOPS["uvloop"] = uvloop.new_event_loop

every_loop = pytest.mark.parametrize("loop_name", LOOPS)


def run(coroutine: Coroutine[Any, Any, T], loop_name: str = "asyncio") -> T:
    """What a coroutine returns. An exception that the loop's handler gets fails the test."""
    lost: list[dict[str, Any]] = []

    async def limited() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: lost.append(context))
        async with asyncio.timeout(TIME_LIMIT):
            return await coroutine

    with log_lines("flatstream.aio"), asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        result = runner.run(limited())
    assert not lost, lost
    return result


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine function, once in each kind of loop."""

    @functools.wraps(test)
    def run_test(loop_name: str, **arguments: Any) -> None:
        run(test(**arguments), loop_name)

    # pytest takes the names of the arguments from here.
    signature = inspect.signature(test)
    parameter = inspect.Parameter("loop_name", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    attributes = vars(run_test)
    attributes["__signature__"] = signature.replace(parameters=[parameter, *signature.parameters.values()])
    del attributes["__wrapped__"]
    decorated: Callable[..., None] = every_loop(run_test)
    return decorated


async def turns(count: int = 5) -> None:
    """Lets the loop run what is due."""
    for _ in range(count):
        await asyncio.sleep(0)


async def write_on(writer: AsyncStreamWriter) -> None:
    """Writes until the writer says that nobody reads."""
    while True:
        await writer.write_payload(b"x" * 10_000)
        await asyncio.sleep(0)


class StubTransport:
    """A transport over memory. It takes `room` bytes, and keeps the rest until `take` is called."""

    def __init__(self, room: int = 1 << 60) -> None:
        self.room = room
        self.taken = bytearray()
        self.kept = bytearray()
        self.largest = 0
        self.is_reading = True
        self.has_ended = False
        self.pauses = 0
        self._protocol: Any = None
        self._is_closing = False
        self._is_paused = False

    def connect(self, link: Link) -> None:
        self._protocol = link
        link.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    # Writing

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert (high, low) == (0, 0)

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def write(self, data: Any) -> None:
        assert not self._is_closing
        assert not self.has_ended
        data = bytes(data)
        count = min(self.room, len(data)) if not self.kept else 0
        self.taken += data[:count]
        self.room -= count
        self.kept += data[count:]
        self.largest = max(self.largest, len(self.kept))
        if self.kept and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def take(self, count: int) -> None:
        """The other side takes so many bytes, or has room for them."""
        now = min(count, len(self.kept))
        self.taken += self.kept[:now]
        del self.kept[:now]
        self.room += count - now
        if not self.kept and self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()
        if not self.kept and self._is_closing:
            self.lose(None)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True

    # Reading

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False
        self.pauses += 1

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True

    def give(self, data: bytes) -> int:
        """The other side has sent bytes; returns how many the protocol took before it paused."""
        done = 0
        while done < len(data) and self.is_reading:
            buffer = self._protocol.get_buffer(-1)
            count = min(len(buffer), len(data) - done)
            buffer[:count] = data[done : done + count]
            self._protocol.buffer_updated(count)
            done += count
        return done

    def end(self) -> None:
        if not self._protocol.eof_received():
            self.close()

    # The end

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self.kept:
                self.lose(None)

    def abort(self) -> None:
        self._is_closing = True
        self.kept.clear()
        self.lose(None)

    def lose(self, error: BaseException | None) -> None:
        self._is_closing = True
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)


def tls_contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server and a client that trusts it, with a certificate for "localhost" that is made here."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cafile=str(path))
    return server, client

"""Messages over a socket of this machine in an event loop (X1, X2), beside asyncio's own streams.

The other end is another process. It serves what it is asked for: bytes from memory, as fast as the socket takes them;
or the same bytes piece by piece with asyncio's streams, or message by message with the package.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import flatstream
from flatstream.aio import connect

from .common import Benchmark

# How much raw streams read at a time.
READ_SIZE = 64 * 1024

# A request is one line: what to send, the size of a payload, and how many.
SERVER = """
import asyncio, os, socket, sys
sys.path.insert(0, sys.argv[1])
from flatstream.aio import serve as serve_with
from asv_benchmarks.common import payload_of, repeated_frame

memory = {}

async def serve(reader, writer):
    kind, size, count = (await reader.readline()).split()
    size, count = int(size), int(count)
    if kind == b"memory":
        if (size, count) not in memory:
            memory.clear()
            memory[size, count] = repeated_frame(size, count)
        sock = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
        sock.setblocking(True)
        with sock:
            await asyncio.get_running_loop().run_in_executor(None, sock.sendall, memory[size, count])
            writer.close()
    elif kind == b"raw":
        piece = repeated_frame(size, 1)
        for _ in range(count):
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    elif kind == b"blocks":
        count = -(-count * (size + 4) // 65536)
        for _ in range(count):
            writer.write(bytes(65536))
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    else:
        raise ValueError(kind)

async def serve_messages(connection):
    kind, size, count = bytes(await connection.reader.read_message()).split()
    payload, writer = payload_of(int(size)), connection.writer
    if kind == b"each":
        for _ in range(int(count)):
            await writer.write_payload(payload)
    else:
        payloads = [payload] * 1000
        for begin in range(0, int(count), 1000):
            await writer.write_payloads(payloads[:int(count) - begin])

async def main():
    streams = await asyncio.start_server(serve, "127.0.0.1", 0)
    messages = await serve_with(serve_messages, "127.0.0.1", 0)
    print(streams.sockets[0].getsockname()[1], messages.port, flush=True)
    await asyncio.Event().wait()

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


class OverSocket(Benchmark):
    """Reads `total` bytes in messages of `size` bytes from a TCP connection to another process."""

    param_names = ("loop", "size", "total")
    params = (["asyncio", "uvloop"], [100, 1024, 64 * 1024], [16 * 1024 * 1024])
    rounds = 1

    def setup(self, loop: str, size: int, total: int) -> None:
        self.count = max(1, total // (size + 4))
        self.streams, self.messages = _ports(loop)
        self.runner = asyncio.Runner(loop_factory=_loop_factory(loop))

    def teardown(self, loop: str, size: int, total: int) -> None:
        self.runner.close()

    def units(self, loop: str, size: int, total: int) -> int:
        return self.count

    # X1: reading alone

    async def _read_messages(self, size: int) -> int:
        sock = await self._ask_for("memory", size)
        count = 0
        async with connect(sock=sock) as connection:
            async for payload in connection.reader:
                count += 1
                last = payload
            assert len(last) == size
        return count

    async def _read_batches(self, size: int) -> int:
        count = 0
        async with connect(sock=await self._ask_for("memory", size)) as connection:
            async for batch in connection.reader.batches():
                count += len(batch)
        return count

    async def _readexactly(self, size: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.streams)
        writer.write(self._request("memory", size))
        unpack = struct.Struct("<I").unpack
        count = 0
        while True:
            try:
                header = await reader.readexactly(4)
            except asyncio.IncompleteReadError:
                break
            payload = await reader.readexactly(unpack(header)[0])
            count += 1
        assert len(payload) == size
        writer.close()
        await writer.wait_closed()
        return count

    # X2: both ends

    async def _messages_at_both_ends(self, size: int, kind: str = "each") -> int:
        count = 0
        async with connect("127.0.0.1", self.messages) as connection:
            await connection.writer.write_payload(self._request(kind, size))
            async for payload in connection.reader:
                count += 1
                last = payload
            assert len(last) == size
        return count

    async def _batches_at_both_ends(self, size: int) -> int:
        count = 0
        async with connect("127.0.0.1", self.messages) as connection:
            await connection.writer.write_payload(self._request("many", size))
            async for batch in connection.reader.batches():
                count += len(batch)
        return count

    async def _raw_at_both_ends(self, size: int, kind: str = "raw") -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.streams)
        writer.write(self._request(kind, size))
        taken = 0
        while data := await reader.read(READ_SIZE):
            taken += len(data)
        writer.close()
        await writer.wait_closed()
        return taken // (size + 4)

    async def _blocks_at_both_ends(self, size: int) -> int:
        return min(await self._raw_at_both_ends(size, "blocks"), self.count)

    def _request(self, kind: str, size: int) -> bytes:
        return f"{kind} {size} {self.count}\n".encode()

    async def _ask_for(self, kind: str, size: int) -> Any:
        sock = socket.create_connection(("127.0.0.1", self.streams))
        sock.sendall(self._request(kind, size))
        return sock

    def _run(self, work: Callable[[int], Coroutine[Any, Any, int]], size: int) -> None:
        assert self.runner.run(work(size)) == self.count

    def time_async_for(self, loop: str, size: int, total: int) -> None:
        self._run(self._read_messages, size)

    def time_batches(self, loop: str, size: int, total: int) -> None:
        self._run(self._read_batches, size)

    def time_readexactly(self, loop: str, size: int, total: int) -> None:
        self._run(self._readexactly, size)

    def time_messages_at_both_ends(self, loop: str, size: int, total: int) -> None:
        self._run(self._messages_at_both_ends, size)

    def time_batches_at_both_ends(self, loop: str, size: int, total: int) -> None:
        self._run(self._batches_at_both_ends, size)

    def time_raw_streams_at_both_ends(self, loop: str, size: int, total: int) -> None:
        """The yardstick: the same pieces, each written and drained."""
        self._run(self._raw_at_both_ends, size)

    def time_raw_blocks_at_both_ends(self, loop: str, size: int, total: int) -> None:
        """As many bytes in blocks of 64 KiB, without any messages."""
        self._run(self._blocks_at_both_ends, size)


@functools.cache
def _ports(loop: str) -> tuple[int, int]:
    """The ports of the other process, which is started once and ends with this one."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(Path(__file__).parent.parent), loop],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(flatstream.__file__).parent.parent)},
    )
    atexit.register(_end, process)
    assert process.stdout is not None
    streams, messages = process.stdout.readline().split()
    return int(streams), int(messages)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop

"""A million frames through one object of each kind: what it holds at the end is what it held in the beginning.

`test_leaks.py` makes and drops objects. Here one lives on, as in an agent that runs for months.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import resource
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flatstream import (
    Aes256Gcm,
    ChecksumDeframer,
    ChecksumFramer,
    Crc32,
    JsonSerializer,
    Lz4Compressor,
    MessagePackSerializer,
    StreamReader,
    StreamWriter,
    ZstdCompressor,
)
from flatstream.aio import connect, serve
from flatstream.parser import FrameParser, FrameSerializer
from reference import framing as reference
from support.async_streams import run
from support.extent import EVERYTHING

FRAMES = 1_000_000 if EVERYTHING else 12_000
# What is compared: the state after so many parts.
PARTS = 6
# A chunk more or less, which depends on who holds a view just now, is no leak.
CAPACITY = 8192
PAYLOADS = [b"%d" % number * (number % 20 + 1) for number in range(200)]


class Pipe:
    """Bytes in, bytes out; nothing is kept."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), len(self.data))
        buffer[:size] = self.data[:size]
        del self.data[:size]
        return size


def through_pipe(framer: Any, deframer: Any) -> Iterator[int]:
    """One writer and one reader. Each step gives how many frames came through."""
    pipe = Pipe()
    writer, reader = StreamWriter(pipe, framer), StreamReader(pipe, deframer, capacity=CAPACITY)
    for turn in itertools.count():
        writer.write_payloads(PAYLOADS)
        writer.flush()
        if turn % 2:
            yield sum(1 for _ in itertools.islice(reader, len(PAYLOADS)))
        else:
            found = 0
            while found < len(PAYLOADS):
                batch = reader.read_batch(len(PAYLOADS) - found)
                assert batch is not None
                found += len(batch)
            yield found


def plain() -> Iterator[int]:
    return through_pipe("crc32", "crc32")


def compressed_by_zstd() -> Iterator[int]:
    base = ChecksumFramer(Crc32())
    return through_pipe(base.compressed(ZstdCompressor()), ChecksumDeframer(Crc32()).compressed())


def compressed_by_lz4() -> Iterator[int]:
    base = ChecksumFramer(Crc32())
    return through_pipe(base.compressed(Lz4Compressor()), ChecksumDeframer(Crc32()).compressed())


def encrypted() -> Iterator[int]:
    cipher = Aes256Gcm(bytes(32))
    return through_pipe(ChecksumFramer(Crc32()).encrypted(cipher), ChecksumDeframer(Crc32()).encrypted(cipher))


def compressed_and_encrypted() -> Iterator[int]:
    cipher = Aes256Gcm(bytes(32))
    framer = ChecksumFramer(Crc32()).encrypted(cipher).compressed(ZstdCompressor())
    return through_pipe(framer, ChecksumDeframer(Crc32()).encrypted(cipher).compressed())


def parser_and_serializer() -> Iterator[int]:
    serializer, parser = FrameSerializer("crc32"), FrameParser("crc32")
    for turn in itertools.count():
        serializer.write_payloads(PAYLOADS)
        data = serializer.take()
        if turn % 2:
            parser.feed(data)
        else:
            place = 0
            while place < len(data):
                view = parser.get_buffer(-1)
                size = min(len(view), len(data) - place)
                view[:size] = data[place : place + size]
                parser.buffer_updated(size)
                place += size
        yield sum(1 for _ in parser)


def objects(serializer: Any) -> Callable[[], Iterator[int]]:
    def step() -> Iterator[int]:
        pipe = Pipe()
        writer, reader = (
            StreamWriter(pipe, "crc32", serializer=serializer()),
            StreamReader(pipe, "crc32", capacity=CAPACITY),
        )
        found = reader.objects(serializer())
        items = [{"n": number, "text": "x" * (number % 30)} for number in range(200)]
        while True:
            writer.write_batch(items)
            writer.flush()
            yield sum(1 for _ in itertools.islice(found, len(items)))

    return step


def refused_objects() -> Iterator[int]:
    """Half of them cannot be loaded."""
    pipe = Pipe()
    writer, reader = StreamWriter(pipe, "crc32"), StreamReader(pipe, "crc32", capacity=CAPACITY)
    found = reader.objects("json")
    while True:
        writer.write_payloads([b"1", b"["] * 100)
        writer.flush()
        count = 0
        while count < 200:
            with contextlib.suppress(ValueError):
                next(found)
            count += 1
        yield count


KINDS: dict[str, Callable[[], Iterator[int]]] = {
    "plain": plain,
    "zstd": compressed_by_zstd,
    "lz4": compressed_by_lz4,
    "encrypted": encrypted,
    "compressed and encrypted": compressed_and_encrypted,
    "parser": parser_and_serializer,
    "json": objects(JsonSerializer),
    "msgpack": objects(MessagePackSerializer),
    "refused objects": refused_objects,
}


def check_steady(sizes: list[tuple[int, int, int]]) -> None:
    """Blocks, traced memory and the process, after each part. The first ones fill caches and free lists."""
    blocks, traced, process = zip(*sizes[2:], strict=True)
    assert max(blocks) - min(blocks) < 100, blocks
    assert max(traced) - min(traced) < 64 << 10, traced
    # The most that the process ever had, in KiB: what libraries take past Python is in it.
    assert process[-1] - process[0] < 8 << 10, process


def sizes_now() -> tuple[int, int, int]:
    gc.collect()
    return (
        sys.getallocatedblocks(),
        tracemalloc.get_traced_memory()[0],
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_object_that_lives_on_holds_no_more_after_many_frames(kind: str) -> None:
    steps = KINDS[kind]()
    sizes = []
    # In the long run the process itself shows it, at its full speed.
    if not EVERYTHING:
        tracemalloc.start()
    try:
        for _ in range(PARTS):
            found = 0
            while found < FRAMES // PARTS:
                found += next(steps)
            sizes.append(sizes_now())
    finally:
        tracemalloc.stop()
    check_steady(sizes)


def test_connection_that_lives_on_holds_no_more_after_many_frames() -> None:
    async def echo(connection: Any) -> None:
        while (batch := await connection.reader.read_batch()) is not None:
            await connection.writer.write_payloads(list(batch))

    async def measure() -> list[tuple[int, int, int]]:
        sizes = []
        async with (
            await serve(echo, "127.0.0.1", 0, deframer="crc32", framer="crc32") as server,
            connect("127.0.0.1", server.port, deframer="crc32", framer="crc32") as connection,
        ):
            for _ in range(PARTS):
                for _ in range(FRAMES // PARTS // len(PAYLOADS)):
                    await connection.writer.write_payloads(PAYLOADS)
                    await connection.writer.flush()
                    for _ in PAYLOADS:
                        assert await connection.reader.read_message() is not None
                await asyncio.sleep(0)
                sizes.append(sizes_now())
        return sizes

    if not EVERYTHING:
        tracemalloc.start()
    try:
        sizes = run(measure())
    finally:
        tracemalloc.stop()
    check_steady(sizes)


def test_pipe_of_these_tests_gives_what_it_got() -> None:
    pipe = Pipe()
    with StreamWriter(pipe, "crc32") as writer:
        writer.write_payloads(PAYLOADS)
    assert bytes(pipe.data) == reference.encode(PAYLOADS, "crc32")
    assert [bytes(payload) for payload in StreamReader(pipe, "crc32")] == PAYLOADS
    assert not pipe.data

"""Journals that go over a broker, and what must be in their mirrors."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatstream.journal import JournalReader, JournalWriter

if TYPE_CHECKING:
    from nats.aio.client import Client

    from support.nats_server import NatsServer

SUBJECT = "telemetry.alpha"


def payload_of(number: int) -> bytes:
    """The payload of a frame: another one for each number."""
    return b"frame %d " % number + b"." * (number * 7 % 50)


def write(folder: Path, numbers: Iterable[int], **options: Any) -> None:
    """Appends frames with these numbers, the next ones of a journal."""
    with JournalWriter(folder, **options) as journal:
        for number in numbers:
            assert journal.position == number
            journal.write_payload(payload_of(number))


def numbers_in(folder: Path, *, start: int | str = "oldest") -> list[int]:
    """The numbers of the frames of a journal, each of which must have the payload of its number."""
    numbers = []
    with JournalReader(folder, start=start) as reader:  # type: ignore[arg-type]
        for payload in reader:
            assert bytes(payload) == payload_of(reader.number), reader.number
            numbers.append(reader.number)
    return numbers


def mirror_in(folder: Path) -> Path:
    """The only mirror in a folder."""
    (mirror,) = folder.iterdir()
    return mirror


@asynccontextmanager
async def broker(server: NatsServer, **stream: Any) -> AsyncIterator[Client]:
    """A connection to the server, which has a stream for all subjects of these tests."""
    import nats

    async def ignore(_: Exception) -> None:
        """The server is killed in tests."""

    connection = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=ignore)
    try:
        config = {"name": "TELEMETRY", "subjects": ["telemetry.>"]} | stream
        await connection.jetstream().add_stream(**config)
        yield connection
    finally:
        await connection.close()


def start_program(*arguments: str) -> subprocess.Popen[bytes]:
    """Starts ``python -m flatstream.nats`` in a process of its own."""
    root = str(Path(__file__).parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "flatstream.nats", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


async def until(condition: Any, process: subprocess.Popen[bytes] | None = None) -> None:
    """Waits until `condition` is true. The test has a time limit."""
    while not condition():
        assert process is None or process.poll() is None, process.communicate()[0].decode()
        await asyncio.sleep(0.01)

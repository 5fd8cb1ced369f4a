"""A journal that is forwarded to NATS JetStream, beside nats-py alone that publishes the same bytes (N1)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from flatstream.journal import JournalWriter

from .common import payload_of
from .stream_io import OnDisk

PROGRAM = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
# Messages under way: the window of a Forwarder.
WINDOW = 16
START_SECONDS = 30


class Forwarded(OnDisk):
    """`count` frames of `size` bytes with xxhash64. A real server on this machine stores them in a file."""

    param_names = ("size", "count")
    params = ([64, 1024], [200_000])

    def setup(self, size: int, count: int) -> None:
        if PROGRAM is None:
            raise NotImplementedError("there is no nats-server on the PATH")
        directory = self.make_directory()
        self.folder = directory / "journal"
        with JournalWriter(self.folder, describe=False) as journal:
            for _ in range(count // 1000):
                journal.write_payloads([payload_of(size)] * 1000)
        self.frames = b"".join(path.read_bytes() for path in sorted(self.folder.glob("*.fs")))
        self.loop = asyncio.new_event_loop()
        self.server, url = start_server(directory / "server")
        self._run(self._connect(url))
        # So that each name of a reader is used once.
        self.turn = 0

    def teardown(self, size: int, count: int) -> None:
        if hasattr(self, "server"):
            self._run(self.connection.close())
            self.loop.close()
            self.server.kill()
            self.server.wait()
        super().teardown(size, count)

    def units(self, size: int, count: int) -> int:
        return count

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def _connect(self, url: str) -> None:
        import nats

        self.connection = await nats.connect(url)
        self.context = self.connection.jetstream()

    async def _begin(self) -> None:
        """An empty stream: what it had would be duplicates."""
        import nats.js.errors

        with contextlib.suppress(nats.js.errors.NotFoundError):
            await self.context.delete_stream("BENCH")
        await self.context.add_stream(name="BENCH", subjects=["bench"])

    def time_forward(self, size: int, count: int) -> None:
        from flatstream.nats import forward

        async def work() -> None:
            await self._begin()
            self.turn += 1
            report = await forward(self.folder, "bench", connection=self.connection, name=f"turn{self.turn}")
            assert report.frames == count

        self._run(work())

    def time_publish_by_nats_py(self, size: int, count: int) -> None:
        async def work() -> None:
            await self._begin()
            piece = self.connection.max_payload - 1024
            waiting: deque[asyncio.Future[Any]] = deque()
            for number, begin in enumerate(range(0, len(self.frames), piece)):
                if len(waiting) == WINDOW:
                    await waiting.popleft()
                data, headers = self.frames[begin : begin + piece], {"Nats-Msg-Id": str(number)}
                waiting.append(await self.context.publish_async("bench", data, headers=headers))
            for answer in waiting:
                await answer

        self._run(work())


def start_server(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server on a free port of this machine, and its URL."""
    assert PROGRAM is not None
    folder.mkdir()
    config = {
        "listen": "127.0.0.1:-1",
        "ports_file_dir": str(folder),
        "jetstream": {"store_dir": str(folder / "store")},
    }
    (folder / "server.conf").write_text(json.dumps(config))
    server = subprocess.Popen([PROGRAM, "-c", str(folder / "server.conf")], stderr=subprocess.DEVNULL)
    ports = folder / f"{Path(PROGRAM).name}_{server.pid}.ports"
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return server, json.loads(ports.read_text())["nats"][0]
        except (FileNotFoundError, ValueError):
            if time.monotonic() > end or server.poll() is not None:
                server.kill()
                raise RuntimeError("the nats-server does not start") from None
            time.sleep(0.01)

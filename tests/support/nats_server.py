"""A real nats-server with JetStream, on a free port, with its store in a folder of the test."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

PROGRAM = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")

# A test that has not ended by then has failed, in seconds.
LIMIT = 90.0

needs_server = pytest.mark.skipif(
    PROGRAM is None, reason="there is no nats-server on the PATH: install Debian's package nats-server to run this test"
)


class NatsServer:
    """A server that can be killed and started again on the same port, with the same store."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.port = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = settings
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert PROGRAM is not None
        config = {
            "listen": f"127.0.0.1:{self.port}",
            "ports_file_dir": str(self.folder),
            "jetstream": {"store_dir": str(self.folder / "store")},
            **self._settings,
        }
        path = self.folder / "server.conf"
        path.write_text(json.dumps(config))
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen([PROGRAM, "-c", str(path)], stdout=log, stderr=log)
        ports = self.folder / f"{Path(PROGRAM).name}_{self._process.pid}.ports"
        end = time.monotonic() + LIMIT
        while self.port < 0:
            assert time.monotonic() < end, (self.folder / "server.log").read_text()
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            try:
                self.port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])
            except (FileNotFoundError, ValueError):
                time.sleep(0.005)

    def kill(self) -> None:
        """Ends it at once, as a crash does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(LIMIT)

    def pause(self) -> None:
        """Stops it, so that it answers nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def running_server(folder: Path, **settings: Any) -> Iterator[NatsServer]:
    server = NatsServer(folder, **settings)
    try:
        yield server
    finally:
        server.kill()


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine with a time limit."""

    async def limited() -> T:
        async with asyncio.timeout(LIMIT):
            return await work()

    return asyncio.run(limited())

"""A writer whose writes wait at a gate, so that a test decides when another thread goes on; and sinks that are
full or block for as long as the test wants.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flatstream import StreamWriter
from support.threads import PATIENCE


class GatedWriter(StreamWriter):
    """A StreamWriter into memory. `batches` are the arguments of ``write_payloads``, which waits for `open`."""

    def __init__(self) -> None:
        self.memory = io.BytesIO()
        super().__init__(self.memory)
        self.batches: list[list[bytes]] = []
        self._entered = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def write_payloads(self, payloads: Iterable[Any]) -> None:
        payloads = list(payloads)
        self.batches.append(payloads)
        self._entered.release()
        assert self._gate.acquire(timeout=PATIENCE), "nobody opens the gate"
        super().write_payloads(payloads)

    def wait_for_entry(self) -> list[bytes]:
        """Waits until the next ``write_payloads`` has begun; returns its argument."""
        assert self._entered.acquire(timeout=PATIENCE), "nobody comes to the gate"
        return self.batches[-1]

    def open(self, times: int = 1) -> None:
        """Lets so many calls pass."""
        self._gate.release(times)


class FullDisk:
    """A file on a disk that is full until `free` is called. `sink` is open for writing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stream"
        self.path.touch()
        self.sink = io.FileIO("/dev/full", "wb")

    def free(self) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.dup2(fd, self.sink.fileno())
        os.close(fd)

    def arrived(self) -> bytes:
        return self.path.read_bytes()


class BlockingSink(io.RawIOBase):
    """A sink in memory that would block while `is_blocking` is set."""

    def __init__(self) -> None:
        self.is_blocking = True
        self.attempts = 0
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        self.attempts += 1
        if self.is_blocking:
            return None
        self.pieces.append(bytes(data))
        return len(data)

    def arrived(self) -> bytes:
        return b"".join(self.pieces)


def wait_until(condition: Callable[[], object]) -> None:
    """Waits until a condition holds that another thread brings about."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.0005)

"""Writers that several threads share: framers of every kind, and sinks with a thread at the other end."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from flatstream import (
    Checksum,
    ChecksumFramer,
    Crc32,
    DefaultFramer,
    Framer,
    Validator,
    XxHash64,
)
from support.python_strategies import PythonFramer
from support.sinks import PlainSink
from support.threads import PATIENCE


def numbered(thread: int, number: int) -> bytes:
    """A payload that says who wrote it and when; every 16th is larger than the buffers used here."""
    return b"%d:%d:" % (thread, number) + b"." * (2000 if number % 16 == 0 else number % 50)


class PythonXxHash64(Checksum):
    size = 8

    def calculate(self, payload):
        return XxHash64().calculate(payload)


class PythonValidator(Validator):
    def validate(self, payload):
        assert bytes(payload).count(b":") >= 2


FRAMERS: dict[str, tuple[Callable[[], Framer], str]] = {
    "default": (DefaultFramer, "none"),
    "crc32": (lambda: ChecksumFramer(Crc32()), "crc32"),
    "xxhash64": (lambda: ChecksumFramer(XxHash64()), "xxhash64"),
    "observed": (lambda: DefaultFramer().observed(bytes), "none"),
    "python_framer": (lambda: PythonFramer(piece_size=500), "none"),
    "python_checksum": (lambda: ChecksumFramer(PythonXxHash64()), "xxhash64"),
    "python_validator": (lambda: ChecksumFramer(Crc32()).with_validator(PythonValidator()), "crc32"),
}


class SlowSink(PlainSink):
    """Lets other threads run in the middle of its work, and takes less than it is offered."""

    def write(self, data: Any) -> Any:
        piece = bytes(data[:100])
        time.sleep(0)
        self.pieces.append(piece)
        time.sleep(0)
        return len(piece)


@contextlib.contextmanager
def open_sink(kind: str, folder: Any) -> Iterator[tuple[Any, Callable[[], bytes]]]:
    """A sink that other threads run beside, and what gives all that arrived there."""
    if kind == "file":
        path = folder / "stream"
        with io.FileIO(path, "wb") as file:
            yield file, path.read_bytes
    elif kind == "object":
        sink = SlowSink()
        yield sink, sink.arrived
    else:
        reading, writing = os.pipe() if kind == "pipe" else [end.detach() for end in socket.socketpair()]
        pieces: list[bytes] = []

        def drain() -> None:
            while piece := os.read(reading, 700):
                pieces.append(piece)
            os.close(reading)

        thread = threading.Thread(target=drain, daemon=True)
        thread.start()
        ours: Any = io.FileIO(writing, "wb") if kind == "pipe" else socket.socket(fileno=writing)

        def arrived() -> bytes:
            ours.close()
            thread.join(PATIENCE)
            return b"".join(pieces)

        with ours:
            yield ours, arrived

"""Every kind of sink, and sinks that behave badly.

``SINKS`` are the kinds, by name. A test that wants all of them is decorated with ``@every_sink`` and takes a
``sink_kind``::

    @every_sink
    def test_something(sink_kind, tmp_path):
        with sink_kind.open(tmp_path) as target:
            with StreamWriter(target.sink) as writer:
                ...
            assert target.arrived() == stream

Leaving the ``with`` closes files, sockets and descriptors and waits for the threads that drain them. The folder is used
as in `support.sources`.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.sources import new_path
from support.threads import JOIN_SECONDS, running


@dataclass(frozen=True)
class Target:
    """An open sink, and ``arrived()``: closes it and gives all bytes that came out at the other end."""

    sink: Any
    arrived: Callable[[], bytes]


@dataclass(frozen=True)
class SinkKind:
    """A kind of sink: ``open(folder)`` is a context manager that gives a `Target`."""

    name: str
    open: Callable[[Path], AbstractContextManager[Target]]


class PlainSink:
    """An object with ``write`` and nothing else, which returns None: it takes everything."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: Any) -> Any:
        self.pieces.append(bytes(data))

    def arrived(self) -> bytes:
        return b"".join(self.pieces)


class CountingSink(PlainSink):
    """A PlainSink whose ``write`` returns how many bytes it took: all of them."""

    def write(self, data: Any) -> Any:
        super().write(data)
        return len(data)


class ShortSink(CountingSink):
    """Takes at most `sizes` bytes of what it is offered, one of these numbers after another, over and over."""

    def __init__(self, sizes: Iterable[int] = (1,)) -> None:
        super().__init__()
        self.sizes = itertools.cycle(sizes)
        self.calls = 0

    def write(self, data: Any) -> Any:
        self.calls += 1
        return super().write(data[: next(self.sizes)])


class InterruptedSink(ShortSink):
    """A ShortSink of which every third call raises InterruptedError and takes nothing."""

    interruptions = 0

    def write(self, data: Any) -> Any:
        if self.calls % 3 == 2:
            self.calls += 1
            self.interruptions += 1
            raise InterruptedError(4, "Interrupted system call")
        return super().write(data)


@contextlib.contextmanager
def _path_sink(folder: Path) -> Iterator[Target]:
    path = new_path(folder)
    try:
        yield Target(path, path.read_bytes)
    finally:
        path.unlink(missing_ok=True)


def _file_sink(open_file: Callable[[Path], Any]) -> Callable[[Path], AbstractContextManager[Target]]:
    @contextlib.contextmanager
    def make(folder: Path) -> Iterator[Target]:
        with _path_sink(folder) as target, open_file(target.sink) as file:

            def arrived() -> bytes:
                file.close()
                return target.arrived()

            yield Target(file, arrived)

    return make


@contextlib.contextmanager
def _bytesio_sink(folder: Path) -> Iterator[Target]:
    with io.BytesIO() as file:
        yield Target(file, file.getvalue)


@contextlib.contextmanager
def _gzip_sink(folder: Path) -> Iterator[Target]:
    with io.BytesIO() as compressed, gzip.GzipFile(fileobj=compressed, mode="wb", compresslevel=1) as file:

        def arrived() -> bytes:
            file.close()
            return gzip.decompress(compressed.getvalue())

        yield Target(file, arrived)


@contextlib.contextmanager
def _drained(sink: Any, other_end: Any, receive: Callable[[int], bytes]) -> Iterator[Target]:
    """A Target whose bytes a thread takes from the other end as they come, so that the sink never blocks for long."""
    pieces: list[bytes] = []

    def drain() -> None:
        with other_end:
            while piece := receive(1 << 16):
                pieces.append(piece)

    with ExitStack() as stack:
        thread = stack.enter_context(running(drain))
        # Closed before the thread is waited for: that is what ends it.
        stack.enter_context(sink)

        def arrived() -> bytes:
            sink.close()
            thread.join(JOIN_SECONDS)
            return b"".join(pieces)

        yield Target(sink, arrived)


def _pipe_sink(folder: Path) -> AbstractContextManager[Target]:
    read_end, write_end = os.pipe()
    reading = io.FileIO(read_end, "rb")
    return _drained(io.FileIO(write_end, "wb"), reading, reading.read)


def _socket_sink(folder: Path) -> AbstractContextManager[Target]:
    ours, theirs = socket.socketpair()
    return _drained(ours, theirs, theirs.recv)


def _object_sink(make: Callable[[], PlainSink]) -> Callable[[Path], AbstractContextManager[Target]]:
    def open_target(folder: Path) -> AbstractContextManager[Target]:
        sink = make()
        return contextlib.nullcontext(Target(sink, sink.arrived))

    return open_target


SINKS: dict[str, SinkKind] = {
    kind.name: kind
    for kind in (
        SinkKind("path", _path_sink),
        SinkKind("raw_file", _file_sink(lambda path: io.FileIO(path, "wb"))),
        SinkKind("buffered_file", _file_sink(lambda path: io.BufferedWriter(io.FileIO(path, "wb")))),
        SinkKind("bytesio", _bytesio_sink),
        SinkKind("gzip", _gzip_sink),
        SinkKind("pipe", _pipe_sink),
        SinkKind("socket", _socket_sink),
        SinkKind("object_returning_none", _object_sink(PlainSink)),
        SinkKind("object_returning_counts", _object_sink(CountingSink)),
    )
}


every_sink = pytest.mark.parametrize("sink_kind", [pytest.param(kind, id=name) for name, kind in SINKS.items()])


class FaultySink(PlainSink):
    """Takes `limit` bytes, raises `error` once instead of taking the next one, and then takes everything.

    A single ``write`` takes what it can before the fault. That it works again afterwards shows whether it is the writer
    that refuses to go on.
    """

    def __init__(self, limit: int, error: BaseException) -> None:
        super().__init__()
        self.limit = limit
        self.error = error
        self.faults = 0

    def write(self, data: Any) -> int:
        if self.faults:
            self.pieces.append(bytes(data))
            return len(data)
        if not self.limit:
            self.faults += 1
            raise self.error.with_traceback(None)
        taken = bytes(data[: self.limit])
        self.limit -= len(taken)
        self.pieces.append(taken)
        return len(taken)

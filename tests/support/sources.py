"""Every kind of source, and sources that behave badly.

``SOURCES`` are the kinds, by name. A test that wants all of them is decorated with ``@every_source`` and takes a
``source_kind``::

    @every_source
    def test_something(source_kind, tmp_path):
        with source_kind.open(stream, tmp_path) as source, StreamReader(source) as reader:
            ...

Leaving the ``with`` closes files, sockets and descriptors and waits for the threads that feed them. The folder is where
the kinds that are files put theirs; under Hypothesis, give the folder of a module-scoped fixture, because ``tmp_path``
belongs to one test.
"""

from __future__ import annotations

import array
import contextlib
import gzip
import io
import itertools
import mmap
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.threads import running

_numbers = itertools.count()


def new_path(folder: Path) -> Path:
    return folder / f"stream-{next(_numbers)}.fs"


@dataclass(frozen=True)
class SourceKind:
    """A kind of source: ``open(data, folder)`` is a context manager that gives a source with the bytes `data`."""

    name: str
    open: Callable[[bytes, Path], AbstractContextManager[Any]]
    is_buffer: bool = False
    """Whether payloads are views of the source's own memory, and not of a chunk."""
    seekable: bool = False


@contextlib.contextmanager
def _path_source(data: bytes, folder: Path) -> Iterator[Path]:
    path = new_path(folder)
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink()


@contextlib.contextmanager
def _raw_source(data: bytes, folder: Path) -> Iterator[io.FileIO]:
    with _path_source(data, folder) as path, io.FileIO(path, "rb") as file:
        yield file


@contextlib.contextmanager
def _buffered_source(data: bytes, folder: Path) -> Iterator[io.BufferedReader]:
    with _path_source(data, folder) as path, open(path, "rb") as file:
        yield file


@contextlib.contextmanager
def _bytesio_source(data: bytes, folder: Path) -> Iterator[io.BytesIO]:
    # Not closed: payload views do not point into it, but a test may want to look at it afterwards.
    yield io.BytesIO(data)


@contextlib.contextmanager
def _gzip_source(data: bytes, folder: Path) -> Iterator[gzip.GzipFile]:
    with gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(data, compresslevel=1))) as file:
        yield file


@contextlib.contextmanager
def _pipe_source(data: bytes, folder: Path) -> Iterator[io.FileIO]:
    read_end, write_end = os.pipe()

    def feed() -> None:
        # A test that stops reading closes the read end, and this end breaks.
        with contextlib.suppress(BrokenPipeError), io.FileIO(write_end, "wb") as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]

    with ExitStack() as stack:
        file = io.FileIO(read_end, "rb")
        stack.enter_context(running(feed))
        # Closed before the thread is waited for.
        stack.enter_context(file)
        yield file


@contextlib.contextmanager
def _socket_source(data: bytes, folder: Path) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError), theirs:
            theirs.sendall(data)

    with ExitStack() as stack:
        stack.enter_context(running(feed))
        stack.enter_context(ours)
        yield ours


@contextlib.contextmanager
def _makefile_source(data: bytes, folder: Path) -> Iterator[io.BufferedReader]:
    with _socket_source(data, folder) as ours, ours.makefile("rb") as file:
        yield file


@contextlib.contextmanager
def _mmap_source(data: bytes, folder: Path) -> Iterator[mmap.mmap | memoryview]:
    # Nothing can be mapped of an empty file. The nearest to a mapping of no bytes is no bytes of a mapping.
    with _raw_source(data or b"\0", folder) as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if data:
        yield mapping
    else:
        with memoryview(mapping)[:0] as nothing:
            yield nothing
    # While a test keeps views of it, it cannot be closed; it goes with the last of them.
    with contextlib.suppress(BufferError):
        mapping.close()


def _buffer_source(make: Callable[[bytes], Any]) -> Callable[[bytes, Path], AbstractContextManager[Any]]:
    return lambda data, folder: contextlib.nullcontext(make(data))


SOURCES: dict[str, SourceKind] = {
    kind.name: kind
    for kind in (
        SourceKind("path", _path_source),
        SourceKind("raw_file", _raw_source, seekable=True),
        SourceKind("buffered_file", _buffered_source, seekable=True),
        SourceKind("bytesio", _bytesio_source, seekable=True),
        SourceKind("gzip", _gzip_source, seekable=True),
        SourceKind("pipe", _pipe_source),
        SourceKind("socket", _socket_source),
        SourceKind("socket_makefile", _makefile_source),
        SourceKind("bytes", _buffer_source(lambda data: data), is_buffer=True),
        SourceKind("bytearray", _buffer_source(bytearray), is_buffer=True),
        SourceKind("memoryview", _buffer_source(memoryview), is_buffer=True),
        SourceKind("mmap", _mmap_source, is_buffer=True),
        SourceKind("array", _buffer_source(lambda data: array.array("B", data)), is_buffer=True),
        SourceKind("numpy", _buffer_source(lambda data: np.array(list(data), dtype=np.uint8)), is_buffer=True),
    )
}

every_source = pytest.mark.parametrize("source_kind", [pytest.param(kind, id=name) for name, kind in SOURCES.items()])


class CutSource:
    """A source with ``readinto`` that gives `data` in pieces: a read never goes past one of the places `cuts`."""

    def __init__(self, data: bytes, cuts: Iterable[int] = ()) -> None:
        self.data = data
        self.cuts = sorted({cut for cut in cuts if 0 < cut < len(data)} | {len(data)})
        self.position = 0
        self.calls = 0

    def take(self, size: int) -> bytes:
        """At most `size` bytes, up to the next cut; b"" at the end."""
        self.calls += 1
        end = next((cut for cut in self.cuts if cut > self.position), self.position)
        piece = self.data[self.position : min(end, self.position + size)]
        self.position += len(piece)
        return piece

    def readinto(self, buffer: Any) -> int:
        piece = self.take(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


class CutReadSource:
    """Like `CutSource`, but a source with ``read`` only."""

    def __init__(self, data: bytes, cuts: Iterable[int] = ()) -> None:
        self.cut_source = CutSource(data, cuts)

    def read(self, size: int) -> bytes:
        return self.cut_source.take(size)


class InterruptedSource(CutSource):
    """A CutSource of which every third call raises InterruptedError, as a system call does that a signal came upon."""

    interruptions = 0

    def take(self, size: int) -> bytes:
        if self.calls % 3 == 2:
            self.calls += 1
            self.interruptions += 1
            raise InterruptedError(4, "Interrupted system call")
        return super().take(size)


class FaultySource:
    """Gives ``data[:fault_at]`` in pieces of at most `piece` bytes, raises `error` once, and then gives the rest.

    That it works again afterwards shows whether it is the reader that refuses to go on.
    """

    def __init__(self, data: bytes, fault_at: int, error: BaseException, piece: int = 1 << 20) -> None:
        self.data = data
        self.fault_at = fault_at
        self.error = error
        self.piece = piece
        self.position = 0
        self.faults = 0

    def readinto(self, buffer: Any) -> int:
        end = len(self.data)
        if not self.faults:
            end = self.fault_at
            if self.position == end:
                self.faults += 1
                # One error may serve thousands of faults, and must not carry the tracebacks of all of them.
                raise self.error.with_traceback(None)
        piece = self.data[self.position : min(end, self.position + self.piece, self.position + len(buffer))]
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)

"""Helpers that the tests share: every kind of source and sink, sources and sinks that behave badly, the checksum modes.

Sources and sinks
-----------------
``SOURCES`` and ``SINKS`` are the kinds, by name. A test that wants all of them is decorated with ``@every_source`` or
``@every_sink`` and takes a ``source_kind`` or ``sink_kind``::

    @every_source
    def test_something(source_kind, tmp_path):
        with source_kind.open(stream, tmp_path) as source, StreamReader(source) as reader:
            ...

    @every_sink
    def test_something(sink_kind, tmp_path):
        with sink_kind.open(tmp_path) as target:
            with StreamWriter(target.sink) as writer:
                ...
            assert target.arrived() == stream

Leaving the ``with`` closes files, sockets and descriptors and waits for the threads that feed or drain them. The folder
is where the kinds that are files put theirs; under Hypothesis, give the folder of a module-scoped fixture, because
``tmp_path`` belongs to one test.

Checksums
---------
``MODES`` are the checksum modes by name, the names of `reference.ALGORITHMS`: "none", "crc16", "crc32", "crc32c",
"crc64", "xxhash64", and "sum24", a checksum of three bytes written in Python. ``@every_mode`` gives a test each of them
as ``mode``.
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
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flatstream
from flatstream import (
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumType,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    Framer,
)

# How long a test waits for a thread that has nothing left to do.
JOIN_SECONDS = 30

_numbers = itertools.count()


def _new_path(folder: Path) -> Path:
    return folder / f"stream-{next(_numbers)}.fs"


@contextlib.contextmanager
def _running(function: Callable[[], None]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(JOIN_SECONDS)
        assert not thread.is_alive(), "the thread at the other end of a pipe or socket did not come to its end"


# Sources


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
    path = _new_path(folder)
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
        stack.enter_context(_running(feed))
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
        stack.enter_context(_running(feed))
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


# Sinks


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
    path = _new_path(folder)
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
        thread = stack.enter_context(_running(drain))
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


# Checksum modes


class Sum24(Checksum):
    """A checksum of three bytes, written in Python: each byte times its place, counted from 1, all added up."""

    size = 3

    def calculate(self, payload: Any) -> int:
        return sum(place * byte for place, byte in enumerate(bytes(payload), 1))


@dataclass(frozen=True)
class Mode:
    """One way to protect payloads; `name` is that of the reference's algorithm, `size` its bytes in a frame."""

    name: str
    checksum: Callable[[], Checksum]
    size: int
    checksum_type: ChecksumType | None

    def framer(self) -> Framer:
        return DefaultFramer() if self.name == "none" else ChecksumFramer(self.checksum())

    def deframer(self, **options: Any) -> Deframer:
        """`options` are ``max_frame_len`` and ``allow_empty``."""
        return DefaultDeframer(**options) if self.name == "none" else ChecksumDeframer(self.checksum(), **options)


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("none", flatstream.NoChecksum, 0, ChecksumType.NONE),
        Mode("crc16", flatstream.Crc16, 2, ChecksumType.CRC16),
        Mode("crc32", flatstream.Crc32, 4, ChecksumType.CRC32),
        Mode("crc32c", flatstream.Crc32c, 4, ChecksumType.CRC32C),
        Mode("crc64", flatstream.Crc64, 8, ChecksumType.CRC64),
        Mode("xxhash64", flatstream.XxHash64, 8, ChecksumType.XXHASH64),
        Mode("sum24", Sum24, 3, None),
    )
}

every_mode = pytest.mark.parametrize("mode", [pytest.param(mode, id=name) for name, mode in MODES.items()])


# Errors


def facts(error: BaseException) -> tuple[type[BaseException], dict[str, Any]]:
    """An error's class and all of its attributes but the message, whose wording is nobody's contract.

    For an error that is none of ours the attributes are those of OSError, if it is one.
    """
    if isinstance(error, flatstream.FlatStreamError):
        return type(error), {name: value for name, value in vars(error).items() if name not in ("message", "__notes__")}
    return type(error), {"errno": error.errno} if isinstance(error, OSError) else {}

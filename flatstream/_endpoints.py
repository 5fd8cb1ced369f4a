"""Sources and sinks of streams, each turned into the few functions that the core calls.

Wherever possible, these functions are the methods of the source or sink itself, and not wrappers in Python. No Python
may run between the return of a system call and the moment at which the core has counted its bytes, or a signal handler
that raises would make the count wrong.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from flatstream._compressed import LONGEST_MAGIC, begins_compressed, decompressed
from flatstream._core.stream.encoder import Encoder
from flatstream._files import duplicate
from flatstream._lock import open_for_writing
from flatstream._remote import is_url, open_url
from flatstream._seekable import open_seekable

__all__ = [
    "PathToOpen",
    "Sink",
    "Source",
    "compression_of",
    "contents_of",
    "has_known_size",
    "is_path",
    "open_file",
    "open_sink",
    "open_source",
    "size_of",
]


class Sink(NamedTuple):
    """A sink. The fields are the arguments of the same names of `flatstream._core.stream.encoder.Encoder`."""

    target: Any
    write: Callable[[Any], int | None]
    writev: Callable[..., int] | None = None
    fileno: Callable[[], int] | None = None
    rollback: Callable[[int], bool] | None = None
    error_takes_nothing: bool = False
    none_blocks: bool = False
    takes_at_once: bool = False
    owned: bool = False

    def encoder_arguments(self) -> dict[str, Any]:
        names = ("write", "writev", "fileno", "rollback", "error_takes_nothing", "none_blocks", "takes_at_once")
        return {name: getattr(self, name) for name in names}


class Source(NamedTuple):
    """A source. `arguments` are those of `flatstream._core.stream.decoder.Decoder`."""

    target: Any
    arguments: dict[str, Any]
    owned: bool = False


def has_known_size(file: Any) -> bool:
    """Whether the size of a file object is known without reading it."""
    if type(file) is io.BytesIO:
        return True
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    return type(raw) is io.FileIO and stat.S_ISREG(os.fstat(raw.fileno()).st_mode)


def size_of(file: Any) -> int:
    """The size, in bytes, of a file object whose size is known."""
    if isinstance(file, io.BytesIO):
        with file.getbuffer() as view:
            return view.nbytes
    return os.fstat(file.fileno()).st_size


class PathToOpen(NamedTuple):
    """A path and how to open it for writing. The writer opens it last, after all other arguments were checked.

    ``prepare(file)``, if given, is called with the open and locked file before anything is written, and returns it or
    the file that has taken its place. If it raises, the file is closed.
    """

    path: str | os.PathLike[str]
    mode: str
    lock: bool = True
    prepare: Callable[[io.FileIO], io.FileIO] | None = None


def is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def open_file(path: str | os.PathLike[str], *, decompress: bool = True) -> Any:
    """The raw file at a path or URL, open to read its bytes, or what they were before they were compressed.

    Raises
    ------
    OSError
        It cannot be opened.
    ImportError, ValueError
        There is no package for this compression or kind of URL.
    """
    try:
        file: Any = open_url(path) if isinstance(path, str) and is_url(path) else io.FileIO(path, "rb")
    except IsADirectoryError as error:
        what = "is a folder: if it is a journal, flatstream.journal.JournalReader reads it"
        raise IsADirectoryError(error.errno, what, path) from None
    try:
        found = contents_of(file, path) if decompress else None
    except BaseException:
        file.close()
        raise
    return file if found is None else found


def contents_of(file: Any, path: str | os.PathLike[str]) -> Any:
    """What a raw file, which is at its beginning, holds if it is compressed; as a file that closes it. Otherwise None.

    Raises
    ------
    OSError
        It cannot be read.
    ImportError
        There is no package for this compression.
    """
    if type(file) is io.FileIO:
        # Nothing is taken from pipes and devices.
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        head = file.read(LONGEST_MAGIC)
        file.seek(0)
        if not begins_compressed(head):
            return None
    name = os.fsdecode(os.fspath(path))
    # With a table at its end, it is read from any place, and by threads.
    return (open_seekable(file, name) if file.seekable() else None) or decompressed(file, name)


def compression_of(path: str | os.PathLike[str]) -> str | None:
    """The name of the format if the file at `path` is a compressed one, otherwise None.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    # To open a pipe would wait for its writer.
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    with open_file(path) as file:
        return getattr(file, "format", None)


def _check_file(value: Any, role: str, able: str) -> None:
    """Raises for a text file, a closed file, and a file that was opened for the other direction."""
    if isinstance(value, io.TextIOBase):
        mode = "rb" if role == "source" else "wb"
        raise TypeError(f"{role} is a text file object: open it in binary mode, as in open(path, {mode!r})")
    if getattr(value, "closed", False) is True:
        raise ValueError(f"{role} is closed: {value!r:.100}")
    check = getattr(value, able, None)
    if callable(check) and not check():
        raise io.UnsupportedOperation(f"{role} is not {able}: {value!r:.100}")


def _refuse_datagrams(value: Any, role: str) -> None:
    """Raises for a socket, or a file object with the descriptor of one, that is not of type SOCK_STREAM.

    The kernel drops the end of a message for which the reader's buffer has no room. Then a payload is made of pieces of
    two messages, and without a checksum nobody notices. A `socket.makefile` for both directions that has buffers
    (`io.BufferedRWPair`) does not show its socket, and is not recognized.
    """
    # Other objects may do more than tell their descriptor when they are asked for it (tempfile.SpooledTemporaryFile).
    if not isinstance(value, (socket.socket, io.RawIOBase, io.BufferedIOBase)):
        return
    try:
        if isinstance(value, socket.socket):
            kind = value.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        elif stat.S_ISSOCK(os.fstat(fd := value.fileno()).st_mode):
            # The socket object closes its descriptor.
            with socket.socket(fileno=duplicate(fd)) as same:
                kind = same.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        else:
            return
    except Exception:
        # It has no descriptor, or none that can be looked at. What is wrong with it shows when it is used.
        return
    if kind != socket.SOCK_STREAM:
        name = next((member.name for member in socket.SocketKind if member == kind), str(kind))
        raise ValueError(
            f"{role} is a datagram socket or the like ({name}), which cuts messages that are longer than a buffer: "
            f"expected a socket of type SOCK_STREAM, got {value!r:.100}"
        )


def _rollback(file: io.FileIO) -> Callable[[int], bool]:
    def rollback(count: int) -> bool:
        """Removes the last `count` bytes of a regular file, if the file ends at the position of this file object."""
        fd = file.fileno()
        status = os.fstat(fd)
        # Also of a file that is open for appending: a write leaves the position at the end of what it wrote.
        position = os.lseek(fd, 0, os.SEEK_CUR)
        # If it is not at the end, another process has written to the file or truncated it since. If it is smaller than
        # `count`, another process has emptied the file inside the frame, whose first bytes are gone with the others.
        if not stat.S_ISREG(status.st_mode) or status.st_size != position or position < count:
            return False
        os.ftruncate(fd, position - count)
        os.lseek(fd, position - count, os.SEEK_SET)
        return True

    return rollback


def open_sink(sink: Any) -> Sink:
    """The Sink for a path, which is created or emptied, for a PathToOpen, or for an object with ``write``.

    A Sink is returned as it is.

    Raises
    ------
    TypeError
        Bytes cannot be written to `sink`.
    ValueError
        It is closed, or a socket of another type than SOCK_STREAM.
    io.UnsupportedOperation
        It is not writable.
    OSError
        The path cannot be opened, or another writer has the file open.
    """
    if isinstance(sink, Sink):
        return sink
    if is_path(sink):
        sink = PathToOpen(sink, "wb")
    if isinstance(sink, PathToOpen):
        if is_url(sink.path):
            raise ValueError(f"a URL can only be read, not written: got {sink.path!r:.200}")
        file = open_for_writing(sink.path, sink.mode, lock=sink.lock)
        if sink.prepare is not None:
            try:
                file = sink.prepare(file)
            except BaseException:
                file.close()
                raise
        return _file_sink(file, owned=True)
    # A subclass (such as ssl.SSLSocket) may run code of its own after the system call. So if it raises, it may have
    # taken bytes.
    if isinstance(sink, socket.socket):
        if sink.fileno() < 0:
            raise ValueError(f"sink is closed: {sink!r:.100}")
        _refuse_datagrams(sink, "sink")
        if type(sink) is not socket.socket:
            return Sink(sink, sink.send)
        return Sink(
            sink, sink.send, writev=getattr(sink, "sendmsg", None), error_takes_nothing=True, takes_at_once=True
        )
    if isinstance(sink, type) or not callable(getattr(sink, "write", None)):
        raise TypeError(f"sink must be a path, a socket or an object with write(buffer), got {sink!r:.100}")
    if isinstance(sink, Encoder):
        raise TypeError(f"sink is a stream writer itself: did flatstream.open take the place of open()? {sink!r:.100}")
    _check_file(sink, "sink", "writable")
    _refuse_datagrams(sink, "sink")
    if type(sink) is io.FileIO:
        return _file_sink(sink, owned=False)
    # BytesIO takes all, or raises before it takes anything (except for MemoryError, which the encoder handles).
    return Sink(
        sink,
        sink.write,
        error_takes_nothing=type(sink) is io.BytesIO,
        none_blocks=isinstance(sink, io.RawIOBase),
        takes_at_once=_takes_at_once(sink),
    )


# Files of the standard library that compress what they are given before they return.
_COMPRESSING = {("gzip", "GzipFile"), ("bz2", "BZ2File"), ("lzma", "LZMAFile")}


def _takes_at_once(sink: Any) -> bool:
    """Whether `sink` is known to have read or copied the bytes when its write() returns. Transports of asyncio, for
    example, keep them.
    """
    cls = type(sink)
    if cls in (io.BufferedWriter, io.BufferedRandom):
        # Large pieces go through to the raw file.
        cls = type(sink.raw)
    if cls in (io.FileIO, io.BytesIO, socket.SocketIO, mmap.mmap):
        return True
    # The modules are not imported for this.
    name = (cls.__module__, cls.__qualname__)
    return name in _COMPRESSING and getattr(sys.modules.get(name[0]), name[1], None) is cls


def _file_sink(file: io.FileIO, *, owned: bool) -> Sink:
    # os.writev takes a descriptor. The encoder calls fileno() for each write, because the file may have been closed and
    # its descriptor used again for another.
    writev = getattr(os, "writev", None)
    return Sink(
        file,
        file.write,
        writev=writev,
        fileno=file.fileno if writev is not None else None,
        rollback=_rollback(file),
        error_takes_nothing=True,
        none_blocks=True,
        takes_at_once=True,
        owned=owned,
    )


def open_source(source: Any, *, decompress: bool = True) -> Source:
    """The Source for a path or URL, a socket, an object with ``readinto`` or ``read``, or a bytes-like object; or a
    Source. With `decompress`, a compressed file at a path or URL is decompressed while it is read.

    The first of these methods that an object has is used: ``readinto1``, ``readinto``, ``read1``, ``read``. They are in
    this order so that a read returns the bytes that are there and does not wait until its buffer is full: frames then
    arrive when they are sent.

    Raises
    ------
    TypeError
        Bytes cannot be read from `source`.
    ValueError
        It is closed, or a socket of another type than SOCK_STREAM.
    io.UnsupportedOperation
        It is not readable.
    OSError
        The path cannot be opened.
    """
    if isinstance(source, Source):
        return source
    if is_path(source):
        file = open_file(source, decompress=decompress)
        if type(file) is io.FileIO:
            _advise_sequential(file)
        return Source(file, {"readinto": file.readinto, "error_takes_nothing": type(file) is io.FileIO}, owned=True)
    if isinstance(source, socket.socket):
        if source.fileno() < 0:
            raise ValueError(f"source is closed: {source!r:.100}")
        _refuse_datagrams(source, "source")
        return Source(source, {"readinto": source.recv_into, "error_takes_nothing": type(source) is socket.socket})
    if isinstance(source, type) or source is None:
        raise TypeError(_source_message(source))
    if not isinstance(source, mmap.mmap):
        # BytesIO.readinto1 makes a bytes object first; BytesIO.readinto copies once.
        names = ("readinto1", "readinto") if not isinstance(source, io.BytesIO) else ("readinto",)
        for name in names:
            if callable(method := getattr(source, name, None)):
                _check_file(source, "source", "readable")
                _refuse_datagrams(source, "source")
                return Source(source, {"readinto": method, "error_takes_nothing": _error_takes_nothing(source)})
        for name in ("read1", "read"):
            if callable(method := getattr(source, name, None)):
                _check_file(source, "source", "readable")
                _refuse_datagrams(source, "source")
                return Source(source, {"read": method})
    try:
        memoryview(source)
    except TypeError:
        raise TypeError(_source_message(source)) from None
    except ValueError:
        # The core raises for a closed mmap and a released memoryview. It accepts item types that memoryview does not
        # know.
        pass
    return Source(source, {"buffer": source})


def _advise_sequential(file: io.FileIO) -> None:
    """Has the system read further ahead: of a file that is not in memory, columns came 1.2 times as fast."""
    advise = getattr(os, "posix_fadvise", None)
    if advise is not None:
        # It is no file of a kind that can be read ahead, as a pipe.
        with contextlib.suppress(OSError):
            advise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)


def _error_takes_nothing(file: Any) -> bool:
    """Whether no Python runs between the system call that takes bytes from `file` and the moment they are counted."""
    if type(file) in (io.BufferedReader, io.BufferedRandom):
        file = file.raw
    return type(file) in (io.FileIO, io.BytesIO)


def _source_message(source: Any) -> str:
    return (
        "source must be a path, a socket, an object with readinto(buffer) or read(size), or a bytes-like object; "
        f"got {source!r:.100}"
    )

"""Sockets that cut messages are refused, as sources and as sinks, in every form; stream sockets go on working."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from flatstream import StreamReader, StreamWriter, recover_file
from support.extent import in_one_test
from support.streams import encode


class OwnSocket(socket.socket):
    """A subclass, as ssl.SSLSocket is."""


class SocketThatLies(socket.socket):
    @property
    def type(self) -> Any:
        return socket.SOCK_STREAM


class OwnFile(io.RawIOBase):
    """A file object of a user's."""

    def __init__(self, ours: socket.socket) -> None:
        self.ours = ours

    def fileno(self) -> int:
        return self.ours.fileno()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self.ours.send(data)

    def readinto(self, buffer: Any) -> int:
        return self.ours.recv_into(buffer)


def as_class(kind: type[socket.socket]) -> Callable[[socket.socket], Any]:
    def convert(ours: socket.socket) -> Any:
        return kind(ours.family, ours.type, ours.proto, fileno=os.dup(ours.fileno()))

    return convert


SOURCES: dict[str, Callable[[socket.socket], Any]] = {
    "socket": lambda ours: ours,
    "subclass": as_class(OwnSocket),
    "lying_subclass": as_class(SocketThatLies),
    "wrong_type": lambda ours: socket.socket(ours.family, socket.SOCK_STREAM, 0, fileno=os.dup(ours.fileno())),
    "raw_makefile": lambda ours: ours.makefile("rb", buffering=0),
    "buffered_makefile": lambda ours: ours.makefile("rb"),
    "raw_file": lambda ours: io.FileIO(os.dup(ours.fileno()), "rb"),
    "buffered_file": lambda ours: io.BufferedReader(io.FileIO(os.dup(ours.fileno()), "rb")),
    "own_file": OwnFile,
}
SINKS: dict[str, Callable[[socket.socket], Any]] = SOURCES | {
    "raw_makefile": lambda ours: ours.makefile("wb", buffering=0),
    "buffered_makefile": lambda ours: ours.makefile("wb"),
    "raw_file": lambda ours: io.FileIO(os.dup(ours.fileno()), "wb"),
    "buffered_file": lambda ours: io.BufferedWriter(io.FileIO(os.dup(ours.fileno()), "wb")),
}


def opened(make: Callable[[socket.socket], Any], ours: socket.socket) -> Any:
    made = make(ours)
    return made if hasattr(made, "close") else contextlib.nullcontext(made)


@contextlib.contextmanager
def sockets(kind: str) -> Any:
    if kind == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            yield ours, ours
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, getattr(socket, kind))
    with ours, theirs:
        yield ours, theirs


@in_one_test
@pytest.mark.parametrize("form", SOURCES)
@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_SEQPACKET", "udp"])
def test_socket_of_messages_is_no_source(kind, form):
    name = "SOCK_DGRAM" if kind == "udp" else kind
    with sockets(kind) as (ours, _), opened(SOURCES[form], ours) as source:
        expected = rf"source is a datagram socket or the like \({name}\).* expected a socket of type SOCK_STREAM, got"
        with pytest.raises(ValueError, match=expected):
            StreamReader(source)
        # It is still open.
        assert os.fstat(source.fileno())


@in_one_test
@pytest.mark.parametrize("form", SINKS)
@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_SEQPACKET", "udp"])
def test_socket_of_messages_is_no_sink(kind, form):
    name = "SOCK_DGRAM" if kind == "udp" else kind
    with sockets(kind) as (ours, theirs), opened(SINKS[form], ours) as sink:
        with pytest.raises(ValueError, match=rf"sink is a datagram socket or the like \({name}\)"):
            StreamWriter(sink)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_raw_socket_is_refused():
    try:
        ours = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        pytest.skip("raw sockets need a privilege")
    with ours:
        for make in (StreamReader, StreamWriter):
            with pytest.raises(ValueError, match="SOCK_RAW"):
                make(ours)


@in_one_test
@pytest.mark.parametrize("form", SINKS)
def test_stream_socket_of_every_form_carries_frames(form):
    with sockets("SOCK_STREAM") as (ours, theirs), opened(SINKS[form], ours) as sink:
        with StreamWriter(sink) as writer:
            writer.write_payload(b"one")
        assert theirs.recv(100) == encode(b"one")
    with sockets("SOCK_STREAM") as (ours, theirs), opened(SOURCES[form], ours) as source:
        theirs.sendall(encode(b"one"))
        theirs.close()
        with StreamReader(source) as reader:
            assert list(reader) == [b"one"]


def test_nonblocking_stream_socket_is_still_told_by_its_type():
    # On old systems the flags are part of `type`.
    with sockets("SOCK_STREAM") as (ours, theirs):
        ours.setblocking(False)
        theirs.sendall(encode(b"one"))
        with StreamReader(ours) as reader:
            assert bytes(next(reader)) == b"one"


@in_one_test
@pytest.mark.parametrize("answer", [-1, 10**6, "3", None, OSError("no"), ZeroDivisionError("odd")], ids=repr)
def test_descriptor_that_is_none_is_not_looked_at(answer):
    class Odd(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def fileno(self) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        def write(self, data: Any) -> int:
            self.written += bytes(data)
            return len(data)

    sink = Odd()
    with StreamWriter(sink) as writer:
        writer.write_payload(b"one")
    assert sink.written == encode(b"one")


def test_temporary_file_in_memory_stays_there():
    # Its fileno() writes it to the disk.
    with tempfile.SpooledTemporaryFile(1000) as file:
        with StreamWriter(file) as writer:
            writer.write_payload(b"one")
        file.seek(0)
        assert bytes(next(StreamReader(file))) == b"one"
        assert recover_file(file).frames == 1
        assert not file._rolled  # type: ignore[attr-defined]

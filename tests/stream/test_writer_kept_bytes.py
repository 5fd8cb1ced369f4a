"""Sinks that keep what they are given, as the transports of asyncio do: the caller's memory may change afterwards."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mmap
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flatbuffers import Builder

import flatstream
from flatstream import StreamReader, StreamWriter
from flatstream._endpoints import open_sink
from reference import framing as reference
from support.extent import in_one_test
from support.sinks import PlainSink

LARGE = 200_000


class KeepingSink:
    """Keeps views of what it is given; takes at most `most` bytes at a time."""

    def __init__(self, most: int = 1 << 40, view_of: Callable[[Any], Any] = memoryview) -> None:
        self.most = most
        self.view_of = view_of
        self.pieces: list[Any] = []

    def write(self, data: Any) -> int:
        taken = data[: self.most]
        self.pieces.append(self.view_of(taken))
        return len(taken)

    def arrived(self) -> bytes:
        return b"".join(self.pieces)


@in_one_test(step=2)
@pytest.mark.parametrize("checksum", ["none", "crc32"])
@pytest.mark.parametrize("most", [1 << 40, 7, 70_000])
@pytest.mark.parametrize("buffer_size", [0, 100, 65_536])
@pytest.mark.parametrize("size", [10, LARGE])
def test_payload_changed_after_the_write_is_what_it_was(size: int, buffer_size: int, most: int, checksum: Any) -> None:
    if most == 7:
        size = min(size, 2000)
    sink = KeepingSink(most)
    buffer = bytearray(size)
    payloads = []
    with StreamWriter(sink, checksum, buffer_size=buffer_size) as writer:
        for value in range(20 if size < LARGE else 5):
            buffer[:] = bytes([value]) * len(buffer)
            payloads.append(bytes(buffer))
            writer.write_payload(buffer)
            if value == 3:
                writer.flush()
        buffer[:] = b"\xff" * len(buffer)
    assert sink.arrived() == reference.encode(payloads, checksum)


def test_sink_that_blocks_in_the_middle_and_keeps_its_part_has_the_right_bytes() -> None:
    class Blocking(KeepingSink):
        calls = 0

        def write(self, data: Any) -> int:
            self.calls += 1
            if self.calls % 2 == 0:
                raise BlockingIOError(11, "full", 0)
            return super().write(data)

    sink = Blocking(50_000)
    buffer = bytearray(b"a" * LARGE)
    writer = StreamWriter(sink, "crc32")
    writer.write_payload(buffer)
    buffer[:] = b"b" * LARGE
    while writer.pending_bytes:
        try:
            writer.flush()
        except BlockingIOError:
            continue
    writer.close()
    assert sink.arrived() == reference.encode([b"a" * LARGE], "crc32")


def test_builder_used_again_after_its_message_was_written_changes_nothing_that_a_sink_kept() -> None:
    for make in (Builder, flatstream.Builder):
        sink = KeepingSink()
        builder = make(100)
        expected = []
        with StreamWriter(sink) as writer:
            for letter in "abc":
                builder.Clear()
                builder.Finish(builder.CreateString(letter * LARGE))
                expected.append(bytes(builder.Output()))
                writer.write_finished(builder)
        assert sink.arrived() == reference.encode(expected, "none")


def test_batch_of_memory_that_changes_is_copied_for_a_sink_that_keeps() -> None:
    stream = bytearray(reference.encode([b"x" * 1000] * 300, "crc32"))
    expected = bytes(stream)
    sink = KeepingSink()
    with StreamReader(stream, "crc32") as reader, StreamWriter(sink, "crc32") as writer:
        for batch in reader.batches():
            writer.write_frames(batch)
    stream[:] = bytes(len(stream))
    assert sink.arrived() == expected


def test_view_of_the_copy_cannot_be_written_to() -> None:
    sink = KeepingSink()
    with StreamWriter(sink) as writer:
        writer.write_payload(bytearray(LARGE))
    assert all(piece.readonly for piece in sink.pieces)


KNOWN: dict[str, Callable[[Path], Any]] = {
    "path": lambda folder: folder / "sink",
    "raw_file": lambda folder: io.FileIO(folder / "sink", "wb"),
    "buffered_file": lambda folder: io.BufferedWriter(io.FileIO(folder / "sink", "wb")),
    "buffered_random": lambda folder: io.BufferedRandom(io.FileIO(folder / "sink", "w+b")),
    "bytesio": lambda folder: io.BytesIO(),
    "socket": lambda folder: socket.socketpair()[0],
    "socket_file": lambda folder: socket.socketpair()[0].makefile("wb"),
    "gzip": lambda folder: gzip.GzipFile(folder / "sink", "wb"),
    "bz2": lambda folder: bz2.BZ2File(folder / "sink", "wb"),
    "lzma": lambda folder: lzma.LZMAFile(folder / "sink", "wb"),  # noqa: SIM115 - closed by the test
    "mmap": lambda folder: mmap.mmap(-1, 100),
}


@in_one_test
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("kind", KNOWN)
def test_sink_known_to_take_its_bytes_at_once_gets_no_copies(kind: str, tmp_path: Path) -> None:
    sink = open_sink(KNOWN[kind](tmp_path))
    assert sink.takes_at_once
    sink.target.close()


class File(io.FileIO):
    pass


class Buffer(io.BytesIO):
    pass


class Socket(socket.socket):
    pass


UNKNOWN: dict[str, Callable[[Path], Any]] = {
    "object": lambda folder: PlainSink(),
    "subclass_of_file": lambda folder: File(folder / "sink", "wb"),
    "subclass_of_bytesio": lambda folder: Buffer(),
    "subclass_of_socket": lambda folder: Socket(),
    "buffer_over_subclass": lambda folder: io.BufferedWriter(File(folder / "sink", "wb")),
    "subclass_of_gzip": lambda folder: type("GzipFile", (gzip.GzipFile,), {"__module__": "gzip"})(
        folder / "sink", "wb"
    ),
}


@in_one_test
@pytest.mark.parametrize("kind", UNKNOWN)
def test_sink_that_may_keep_its_bytes_is_not_trusted(kind: str, tmp_path: Path) -> None:
    sink = open_sink(UNKNOWN[kind](tmp_path))
    assert not sink.takes_at_once
    if hasattr(sink.target, "close"):
        sink.target.close()

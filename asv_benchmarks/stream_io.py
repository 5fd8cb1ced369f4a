"""Streams of files and other sources and sinks.

F6 of the performance goals. The files are in the page cache, because they were just written and the warm-up reads them.
"""

from __future__ import annotations

import io
import mmap
import os
import socket
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import flatstream

from .common import CHECKSUMS, Benchmark, payload_of, repeated_frame

GIB = 1024 * 1024 * 1024
SIZES = [16, 64, 1024, 64 * 1024, 1024 * 1024]


class OnDisk(Benchmark):
    """A benchmark with a temporary directory."""

    def make_directory(self) -> Path:
        self.directory = tempfile.TemporaryDirectory(prefix="flatstream-benchmark-")
        return Path(self.directory.name)

    def teardown(self, *_: Any) -> None:
        # A combination that was skipped has no directory.
        if hasattr(self, "directory"):
            self.directory.cleanup()


class ReadFile(OnDisk):
    """A file of about `total` bytes, with `size` bytes of payload per frame, read from its path (F6)."""

    param_names = ("checksum", "size", "total")
    params = (["none", "crc32", "xxhash64"], SIZES, [64 * 1024 * 1024, GIB])
    # Few samples, because asv calls `setup`, which writes the file, for each of them.
    rounds = 1
    repeat = (2, 4, 2.0)

    def setup(self, checksum: str, size: int, total: int) -> None:
        if total == GIB and size != 1024:
            raise NotImplementedError("the smaller file shows that the cost does not grow")
        self.path = self.make_directory() / "stream.fs"
        self.count = total // size
        payload = payload_of(size)
        with flatstream.open(self.path, "w", checksum=checksum) as writer:
            for _ in range(self.count // 1024):
                writer.write_payloads([payload] * 1024)
            writer.write_payloads([payload] * (self.count % 1024))
        self.size = self.path.stat().st_size

    def units(self, checksum: str, size: int, total: int) -> int:
        """How many frames a sample reads."""
        return total // size

    def time_readinto(self, checksum: str, size: int, total: int) -> None:
        """The yardstick: the same bytes in pieces of 256 KiB, not examined."""
        piece = memoryview(bytearray(256 * 1024))
        taken = 0
        with open(self.path, "rb", buffering=0) as file:
            while got := file.readinto(piece):
                taken += got
        assert taken == self.size

    def time_batches(self, checksum: str, size: int, total: int) -> None:
        count = 0
        with flatstream.open(self.path, checksum=checksum) as reader:
            for batch in reader.batches():
                count += len(batch)
            assert reader.offset == self.size
        assert count == self.count

    def time_for_loop(self, checksum: str, size: int, total: int) -> None:
        count = 0
        with flatstream.open(self.path, checksum=checksum) as reader:
            for _ in reader:
                count += 1
            assert reader.offset == self.size
        assert count == self.count


class ReadSource(OnDisk):
    """64 MiB of 1 KiB frames from each kind of source, in a loop over its payloads."""

    param_names = ("source",)
    params = (["bytes", "mmap", "path", "raw file", "buffered file", "BytesIO", "read() only", "socket"],)
    size, count = 1024, 64 * 1024
    rounds = 1

    def setup(self, source: str) -> None:
        self.stream = repeated_frame(self.size, self.count)
        self.path = self.make_directory() / "stream.fs"
        self.path.write_bytes(self.stream)

    def units(self, source: str) -> int:
        """How many frames a sample reads."""
        return self.count

    def open_source(self, source: str, stack: ExitStack) -> Any:
        if source == "bytes":
            return self.stream
        if source == "path":
            return self.path
        if source == "BytesIO":
            return io.BytesIO(self.stream)
        if source == "socket":
            here, there = socket.socketpair()
            stack.enter_context(here)

            def send() -> None:
                with there:
                    there.sendall(self.stream)

            sender = threading.Thread(target=send)
            sender.start()
            stack.callback(sender.join)
            return here
        file = stack.enter_context(self.path.open("rb", buffering=0 if source == "raw file" else -1))
        if source == "mmap":
            return stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if source == "read() only":
            return ReadOnly(file)
        return file

    def time_for_loop(self, source: str) -> None:
        count = 0
        with ExitStack() as stack:
            opened = self.open_source(source, stack)
            with flatstream.StreamReader(opened) as reader:
                for payload in reader:  # noqa: B007
                    count += 1
                assert reader.offset == len(self.stream)
                # The mapping cannot be closed while a view exists.
                del payload
        assert count == self.count


class ReadOnly:
    """A source with only `read`, like some decompressors."""

    def __init__(self, file: Any) -> None:
        self.read = file.read


class WriteFile(OnDisk):
    """64 MiB of 1 KiB frames into a file, beside the same bytes written in pieces of 64 KiB."""

    param_names = ("checksum",)
    params = (CHECKSUMS,)
    size, count = 1024, 64 * 1024
    rounds = 1

    def setup(self, checksum: str) -> None:
        self.path = self.make_directory() / "stream.fs"
        self.payloads = [payload_of(self.size)] * self.count
        header = 4 + flatstream.ChecksumType(checksum).checksum().size
        self.total = self.count * (header + self.size)

    def units(self, checksum: str) -> int:
        """How many frames a sample writes."""
        return self.count

    def time_write_payloads(self, checksum: str) -> None:
        with flatstream.open(self.path, "w", checksum=checksum) as writer:
            writer.write_payloads(self.payloads)
        assert os.path.getsize(self.path) == self.total

    def time_write_in_pieces(self, checksum: str) -> None:
        """The yardstick."""
        piece = memoryview(bytes(64 * 1024))
        with open(self.path, "wb", buffering=0) as file:
            for begin in range(0, self.total, len(piece)):
                file.write(piece[: self.total - begin])
        assert os.path.getsize(self.path) == self.total

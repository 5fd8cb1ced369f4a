"""Memory: peak use while reading a stream larger than memory, and growth with the number of messages.

M1 and M2 of the performance goals.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import flatstream

from .common import Benchmark, NullSink, payload_of, repeated_frame

MIB = 1024 * 1024

# Runs in a separate process, so that its peak is the peak of reading.
READ_ALL = """
import sys
import flatstream

count = size = 0
with flatstream.open(sys.argv[1], checksum="none") as reader:
    for payload in reader:
        count += 1
        size += len(payload)
try:
    # Not getrusage: on Linux its maximum includes the process before exec.
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
except OSError:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(count, size, peak)
"""


def write_sparse(path: Path, size: int, count: int) -> None:
    """A stream of `count` frames of `size` zero bytes, in a sparse file: only the headers take space on the disk."""
    header = size.to_bytes(4, "little")
    with path.open("wb") as file:
        for number in range(count):
            file.seek(number * (4 + size))
            file.write(header)
        file.truncate(count * (4 + size))


class ReadLargeFile(Benchmark):
    """A stream of 4 GiB from its path, without keeping a view (M1)."""

    param_names = ("size",)
    params = ([64 * 1024, MIB],)
    unit = "MiB"
    total = 4096 * MIB

    def setup(self, size: int) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="flatstream-benchmark-")
        self.path = Path(self.directory.name) / "stream.fs"
        self.count = self.total // size
        write_sparse(self.path, size, self.count)

    def teardown(self, size: int) -> None:
        self.directory.cleanup()

    def track_peak_resident_memory(self, size: int) -> float:
        result = subprocess.run(
            [sys.executable, "-c", READ_ALL, str(self.path)], capture_output=True, text=True, check=True
        )
        count, total, peak = map(int, result.stdout.split())
        assert (count, total) == (self.count, self.total)
        return peak / MIB


class ReadStream(Benchmark):
    """256 MiB of frames of `size` bytes from a path, with the peak of the whole process as asv measures it."""

    param_names = ("size",)
    params = ([1024, MIB, 64 * MIB],)
    total = 256 * MIB

    def setup(self, size: int) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="flatstream-benchmark-")
        self.path = Path(self.directory.name) / "stream.fs"
        write_sparse(self.path, size, self.total // size)

    def teardown(self, size: int) -> None:
        self.directory.cleanup()

    def peakmem_for_loop(self, size: int) -> None:
        with flatstream.open(self.path, checksum="none") as reader:
            assert sum(1 for _ in reader) == self.total // size


def peak_of(function: Any, count: int) -> int:
    """The peak of Python's memory during `function(count)`, in bytes."""
    tracemalloc.start()
    try:
        function(count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class SteadyState(Benchmark):
    """The growth of the peak of Python's memory per message, from 100,000 to 1,000,000 messages (M2)."""

    param_names = ("checksum", "work")
    params = (["none", "crc32", "xxhash64"], ["write_payload", "write_payloads", "for loop", "read_batch"])
    unit = "bytes/message"
    few, many = 100_000, 1_000_000
    size = 64

    def setup(self, checksum: str, work: str) -> None:
        self.checksum = checksum
        self.payload = payload_of(self.size)
        self.thousand = [self.payload] * 1000
        frame = repeated_frame(self.size, 1, checksum)
        self.frame_size = len(frame)
        self.piece = frame * 4096

    def track_growth(self, checksum: str, work: str) -> float:
        function = {
            "write_payload": self.write_payload,
            "write_payloads": self.write_payloads,
            "for loop": self.for_loop,
            "read_batch": self.read_batch,
        }[work]
        # The first call creates objects that later calls reuse; they do not count as growth.
        function(self.few)
        return (peak_of(function, self.many) - peak_of(function, self.few)) / (self.many - self.few)

    def write_payload(self, count: int) -> None:
        sink = NullSink()
        with flatstream.StreamWriter(sink, self.checksum) as writer:
            for _ in range(count):
                writer.write_payload(self.payload)
        assert sink.taken == count * self.frame_size

    def write_payloads(self, count: int) -> None:
        sink = NullSink()
        with flatstream.StreamWriter(sink, self.checksum) as writer:
            for _ in range(count // 1000):
                writer.write_payloads(self.thousand)
        assert sink.taken == count * self.frame_size

    def for_loop(self, count: int) -> None:
        seen = 0
        with flatstream.StreamReader(Repeated(self.piece, count * self.frame_size), self.checksum) as reader:
            for _ in reader:
                seen += 1
        assert seen == count

    def read_batch(self, count: int) -> None:
        seen = 0
        with flatstream.StreamReader(Repeated(self.piece, count * self.frame_size), self.checksum) as reader:
            for batch in reader.batches():
                seen += len(batch)
        assert seen == count


class Repeated:
    """A source of `total` bytes that repeats `piece`, without holding all of them in memory."""

    def __init__(self, piece: bytes, total: int) -> None:
        self.piece = memoryview(piece)
        self.left = total
        self.position = 0

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer)
        size = min(len(room), self.left, len(self.piece) - self.position)
        room[:size] = self.piece[self.position : self.position + size]
        self.position = (self.position + size) % len(self.piece)
        self.left -= size
        return size

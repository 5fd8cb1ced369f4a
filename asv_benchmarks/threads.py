"""Two threads beside one: for large payloads with checksums (S1), and for columns of files (T1).

Each thread has its own writer or reader. The interpreter's lock is released while the checksum of a payload of 256 KiB
or more is calculated. For shorter payloads it is held, because handing it over takes as long as the checksum. The
messages of a chunk are found and read as columns without the lock, if there are many.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import flatstream

from .columns import SCHEMAS, stream_of_samples
from .common import Benchmark, frames_by_hand

KIB = 1024
MIB = 1024 * KIB


class TwoThreads(Benchmark):
    """The same work by one thread, and by two threads that do half of it each."""

    param_names = ("work", "checksum", "size")
    params = (["write", "read"], ["crc32", "xxhash64"], [64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB])
    total = 512 * MIB

    def setup(self, work: str, checksum: str, size: int) -> None:
        # The two halves of the work share no memory.
        self.count = self.total // 2 // size
        self.checksum = checksum
        self.work = self.write if work == "write" else self.read
        self.payloads = [random.Random(half).randbytes(size) for half in range(2)]
        self.streams = [frames_by_hand([payload] * 4, checksum) for payload in self.payloads]

    def write(self, half: int) -> None:
        # A file: an object written in Python would get a copy of each payload, because it might keep it.
        with open(os.devnull, "wb", buffering=0) as sink, flatstream.StreamWriter(sink, self.checksum) as writer:
            for _ in range(self.count):
                writer.write_payload(self.payloads[half])
            assert writer.bytes_written == len(self.streams[half]) // 4 * self.count

    def read(self, half: int) -> None:
        size = seen = 0
        while seen < self.count:
            with flatstream.StreamReader(self.streams[half], self.checksum) as reader:
                for payload in reader:
                    size += len(payload)
                    seen += 1
        assert size == seen * len(self.payloads[half])

    def time_one_thread(self, work: str, checksum: str, size: int) -> None:
        self.work(0)
        self.work(1)

    def time_two_threads(self, work: str, checksum: str, size: int) -> None:
        run_twice(self.work)


class TwoPaths(Benchmark):
    """Two columns of two files, by one thread after the other and by a thread for each file."""

    param_names = ("where", "checksum", "capacity")
    params = (["all", "half"], ["none", "xxhash64"], [None, 256 * KIB, 4 * MIB])
    total = 64 * MIB

    def setup(self, where: str, checksum: str, capacity: int | None) -> None:
        table = flatstream.Schema.from_file(SCHEMAS / "sample.bfbs").root
        assert table is not None
        self.table = table
        self.folder = tempfile.TemporaryDirectory()
        payloads = [bytes(payload) for payload in flatstream.StreamReader(stream_of_samples(10_000))]
        frames = frames_by_hand(payloads, checksum)
        self.times = self.total // len(frames) + 1
        for half in range(2):
            Path(self.folder.name, f"{half}.fs").write_bytes(frames * self.times)
        # The times of the samples ascend.
        self.where = ("time_ns", 1_700_000_000_000_005_000, None) if where == "half" else None
        self.rows = self.times * (5_000 if where == "half" else 10_000)

    def teardown(self, where: str, checksum: str, capacity: int | None) -> None:
        self.folder.cleanup()

    def read(self, half: int, checksum: str, capacity: int | None) -> None:
        rows = 0
        path = Path(self.folder.name, f"{half}.fs")
        with flatstream.StreamReader(path, checksum, capacity=capacity) as reader:
            for batch in reader.column_batches(self.table, ["value", "sensor"], self.where):
                rows += batch.num_rows
        assert rows == self.rows

    def time_one_thread(self, where: str, checksum: str, capacity: int | None) -> None:
        for half in range(2):
            self.read(half, checksum, capacity)

    def time_two_threads(self, where: str, checksum: str, capacity: int | None) -> None:
        run_twice(lambda half: self.read(half, checksum, capacity))


def run_twice(work: Callable[[int], None]) -> None:
    """Both halves of some work at once, each in a thread."""
    done: list[int] = []

    def run(half: int) -> None:
        work(half)
        done.append(half)

    threads = [threading.Thread(target=run, args=(half,)) for half in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1]

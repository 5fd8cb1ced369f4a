"""Two threads beside one, for large payloads with checksums (S1).

Each thread has its own writer or reader. The interpreter's lock is released while the checksum of a payload of 256 KiB
or more is calculated. For shorter payloads it is held, because handing it over takes as long as the checksum.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable

import flatstream

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
        done: list[int] = []

        def run(function: Callable[[int], None], half: int) -> None:
            function(half)
            done.append(half)

        threads = [threading.Thread(target=run, args=(self.work, half)) for half in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done) == [0, 1]

"""Sealed files: how much smaller they are, and how fast they are made and read, as a whole and in slices (Z1)."""

from __future__ import annotations

import importlib
import os
import random
import time
from typing import Any

import flatstream
import flatstream._seekable as seekable
from flatstream._endpoints import open_file

from .stream_io import OnDisk
from .telemetry_event import EXAMPLES

MIB = 1024 * 1024

# How many events a second there are, and how many seconds a slice has.
EVENTS = 100
SLICE = 30

FIELDS = ["sequence", "load_1"]


def zstd() -> Any:
    """The module that compresses."""
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return importlib.import_module("backports.zstd")


class Sealed(OnDisk):
    """A described stream of `size` bytes, of events of some 130 bytes with numbers that wander, with XXH3-64."""

    size = 64 * MIB
    # Of the ratios; the speed is in GB/s.
    unit = "times smaller"
    rounds, repeat = 1, (2, 4, 2.0)

    def setup(self) -> None:
        folder = self.make_directory()
        root = flatstream.Schema.from_file(EXAMPLES / "telemetry.bfbs").root
        assert root is not None
        self.table = root
        self.path, self.sealed, self.new = (str(folder / name) for name in ("plain.fs", "plain.fs.zst", "new.zst"))
        self.count, self.total = self.write_events()
        self.stored = flatstream.seal(self.path).stored_size
        self.bytes = os.path.getsize(self.path)
        # Where a slice begins and ends.
        self.slice = self.bytes // 2, self.bytes // 2 + SLICE * EVENTS * 130

    def write_events(self) -> tuple[int, int]:
        """Returns how many there are, and the sum of their numbers."""
        rng = random.Random(1)
        count, moment, load, memory = 0, 1_700_000_000 * 10**9, 1.0, 1 << 33
        with flatstream.open(self.path, "w", checksum="xxhash64", describe=self.table) as writer:
            records = flatstream.RecordWriter(writer, self.table)
            while writer.bytes_written < self.size:
                moment += 10**9 // EVENTS + rng.randrange(1000)
                load = max(0.0, load + rng.gauss(0, 0.01))
                memory += rng.randrange(-(1 << 20), 1 << 20)
                records.write(
                    sequence=count,
                    wall_time_ns=moment,
                    monotonic_ns=moment - 1_690_000_000 * 10**9,
                    host="alpha",
                    load_1=load,
                    memory_available=memory,
                    context_switches=count * 1200 + rng.randrange(500),
                )
                count += 1
        return count, count * (count - 1) // 2

    def units(self) -> int:
        """The number of bytes of the stream per sample."""
        return self.bytes

    # Size

    def track_ratio(self) -> float:
        """How many times smaller the sealed file is."""
        return self.bytes / self.stored

    def track_ratio_beside_whole_file(self) -> float:
        """The ratio, beside that of Zstandard with the same level for the whole file."""
        with open(self.path, "rb") as file:
            whole = zstd().compress(file.read(), level=3)
        return len(whole) / self.stored

    # Making one

    def time_seal(self) -> None:
        """Compressing, waiting for the disk, reading back and comparing."""
        report = flatstream.seal(self.path, self.new, checksum="xxhash64")
        assert report.size == self.bytes
        os.unlink(self.new)

    def time_compress_whole_file(self) -> None:
        """The yardstick: compressing and decompressing the same bytes in memory, and one write and sync."""
        with open(self.path, "rb") as file:
            data = file.read()
        whole = zstd().compress(data, level=3)
        with open(self.new, "wb") as file:
            file.write(whole)
            os.fsync(file.fileno())
        assert zstd().decompress(whole) == data
        os.unlink(self.new)

    # Reading all

    def columns_of(self, path: str) -> None:
        with flatstream.open(path, checksum="xxhash64") as reader:
            total = rows = 0
            for batch in reader.column_batches(self.table, FIELDS):
                numbers = batch["sequence"].to_numpy()
                rows += len(numbers)
                total += int(numbers.sum())
        assert (rows, total) == (self.count, self.total)

    def time_columns(self) -> None:
        """Two columns of the sealed file, with as many threads that decompress as there are processors."""
        self.columns_of(self.sealed)

    def time_columns_with_one_thread(self) -> None:
        before = seekable.number_of_threads
        seekable.number_of_threads = lambda: 0
        try:
            self.columns_of(self.sealed)
        finally:
            seekable.number_of_threads = before

    def time_columns_of_plain_file(self) -> None:
        """The yardstick: the same stream as it is."""
        self.columns_of(self.path)

    def track_columns_speed(self) -> float:
        """In GB of the stream a second, the best of several runs."""
        best = 0.0
        for _ in range(5):
            begin = time.perf_counter()
            self.time_columns()
            best = max(best, self.bytes / (time.perf_counter() - begin) / 1e9)
        return best

    # Reading a slice

    def slice_of(self, path: str) -> None:
        begin, end = self.slice
        buffer = bytearray(end - begin)
        with open_file(path) as file:
            file.seek(begin)
            view = memoryview(buffer)
            while view and (count := file.readinto(view)):
                view = view[count:]
        assert any(buffer[-100:])

    def time_slice(self) -> None:
        """Opening the sealed file, and reading the bytes of half a minute in the middle."""
        self.slice_of(self.sealed)

    def time_slice_of_plain_file(self) -> None:
        """The yardstick: the same of the stream as it is."""
        self.slice_of(self.path)

    def time_decompressing_up_to_the_slice(self) -> None:
        """What a file without blocks costs: all before the slice is decompressed."""
        with zstd().open(self.sealed) as file:
            left = self.slice[1]
            while left and (data := file.read(min(left, MIB))):
                left -= len(data)
        assert not left

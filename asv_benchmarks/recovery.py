"""Recovery: the speed of examining a complete stream and a stream that ends inside a frame, and of salvaging one."""

from __future__ import annotations

import os

import flatstream

from .common import CHECKSUMS, Benchmark, repeated_frame
from .stream_io import OnDisk


class Recover(Benchmark):
    """64 MiB of 1 KiB frames in memory."""

    param_names = ("checksum", "tail")
    params = (CHECKSUMS, ["clean", "torn"])
    size, count = 1024, 64 * 1024

    def setup(self, checksum: str, tail: str) -> None:
        self.stream = repeated_frame(self.size, self.count, checksum)
        self.whole = len(self.stream) - (len(self.stream) // self.count if tail == "torn" else 0)
        if tail == "torn":
            self.stream = self.stream[:-10]
        self.end = flatstream.RecoveryEnd.TORN_TAIL if tail == "torn" else flatstream.RecoveryEnd.CLEAN_EOF

    def units(self, checksum: str, tail: str) -> int:
        """The number of frames per sample."""
        return self.count

    def time_recover(self, checksum: str, tail: str) -> None:
        report = flatstream.recover(self.stream, checksum)
        assert (report.last_good_offset, report.end) == (self.whole, self.end)

    def time_read_batches(self, checksum: str, tail: str) -> None:
        """The yardstick: reading the complete frames."""
        with flatstream.StreamReader(memoryview(self.stream)[: self.whole], checksum) as reader:
            count = sum(len(batch) for batch in reader.batches())
        assert count == self.count - (tail == "torn")


class Search(Benchmark):
    """The cost of the search behind a tear: `tail` bytes without a frame behind a damaged length."""

    param_names = ("checksum", "tail")
    params = (["none", "crc32", "xxhash64"], [64 * 1024, 4 * 1024 * 1024])

    def setup(self, checksum: str, tail: int) -> None:
        self.frames = repeated_frame(1024, 100, checksum)
        # A length that reaches far beyond the end, then bytes that nowhere begin a frame that fits.
        self.stream = self.frames + (2**30).to_bytes(4, "little") + b"\x7f" * tail

    def time_recover(self, checksum: str, tail: int) -> None:
        report = flatstream.recover(self.stream, checksum)
        assert (report.frames, report.last_good_offset) == (100, len(self.frames))
        assert report.end is flatstream.RecoveryEnd.TORN_TAIL


class Intact(OnDisk):
    """A file of 256 MiB in frames of 1 KiB, without damage (J4)."""

    param_names = ("checksum",)
    params = (["crc32", "xxhash64"],)
    size, count = 1024, 256 * 1024
    rounds, repeat = 1, (2, 3, 2.0)

    def setup(self, checksum: str) -> None:
        folder = self.make_directory()
        self.path, self.out = folder / "stream.fs", folder / "salvaged.fs"
        self.path.write_bytes(repeated_frame(self.size, self.count, checksum))

    def units(self, checksum: str) -> int:
        """The number of frames per sample."""
        return self.count

    def time_recover_file(self, checksum: str) -> None:
        report = flatstream.recover_file(self.path, checksum)
        assert (report.frames, report.end) == (self.count, flatstream.RecoveryEnd.CLEAN_EOF)

    def time_resync(self, checksum: str) -> None:
        with flatstream.open(self.path, checksum=checksum, on_error="resync") as reader:
            assert sum(len(batch) for batch in reader.batches()) == self.count
            assert not reader.lost_bytes

    def time_salvage(self, checksum: str) -> None:
        """Reading, writing a second file, waiting for the disk, and reading that file back."""
        report = flatstream.salvage(self.path, self.out, checksum)
        os.unlink(self.out)
        assert (report.frames, report.lost_bytes) == (self.count, 0)

    def time_read_batches(self, checksum: str) -> None:
        """The yardstick: reading the same file by batches."""
        with flatstream.open(self.path, checksum=checksum) as reader:
            assert sum(len(batch) for batch in reader.batches()) == self.count

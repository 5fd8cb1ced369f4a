"""Recovery: the speed of examining a complete stream and a stream that ends inside a frame."""

from __future__ import annotations

import flatstream

from .common import CHECKSUMS, Benchmark, repeated_frame


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

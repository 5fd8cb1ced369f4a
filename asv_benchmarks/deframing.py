"""Deframing: from the bytes of a stream in memory to its payloads.

F1, F2 and F3 of the performance goals, and the reading half of K4.
"""

from __future__ import annotations

import os
import random
import tempfile
from abc import ABC, abstractmethod
from array import array

from isal import isal_zlib

import flatstream
from flatstream._core.framing.deframer import index_frames
from flatstream._core.stream.leaping import boundaries, leap

from .common import COUNTS, SIZES, Benchmark, check_combination, frames_by_hand, repeated_frame, scan_by_hand


def scan(stream: bytes, checksum: str = "none") -> tuple[int, int]:
    """Indexes all frames by `read_batch`; returns their number and the end of the last payload."""
    count = end = 0
    with flatstream.StreamReader(stream, checksum) as reader:
        while (batch := reader.read_batch()) is not None:
            count += len(batch)
            end = batch.stream_offset + batch.offsets[-1] + batch.lengths[-1]
    return count, end


def check_scan(stream: bytes, checksum: str = "none") -> None:
    """Compares every offset and length of `scan` with the stream's headers."""
    header = 4 + flatstream.ChecksumType(checksum).checksum().size
    position = 0
    with flatstream.StreamReader(stream, checksum) as reader:
        for batch in reader.batches():
            for offset, length in zip(batch.offsets, batch.lengths, strict=True):
                assert batch.stream_offset + offset == position + header
                assert length == int.from_bytes(stream[position : position + 4], "little")
                position += header + length
    assert position == len(stream)


class Reading(Benchmark, ABC):
    """A stream of `count` frames of `size` bytes each, in one bytes object."""

    param_names = ("checksum", "size", "count")
    params = (["none", "crc32", "xxhash64"], SIZES, COUNTS)

    def setup(self, checksum: str, size: int, count: int) -> None:
        check_combination(size, count)
        self.stream = repeated_frame(size, count, checksum)
        # The yardsticks read without a checksum, which would double the cost of reading by hand.
        self.plain = self.stream if checksum == "none" else repeated_frame(size, count)
        check_scan(self.stream[: len(self.stream) // count * min(count, 1000)], checksum)

    def units(self, checksum: str, size: int, count: int) -> int:
        """The number of frames per sample."""
        return count

    @property
    @abstractmethod
    def goal(self) -> str:
        """The performance goal that it measures."""

    def time_by_hand(self, checksum: str, size: int, count: int) -> None:
        assert scan_by_hand(self.plain) == (count, count * size)


class Scan(Reading):
    """The positions of all frames: `read_batch`."""

    goal = "F1"

    def time_read_batch(self, checksum: str, size: int, count: int) -> None:
        assert scan(self.stream, checksum) == (count, len(self.stream))

    def time_reading_the_bytes_once(self, checksum: str, size: int, count: int) -> None:
        """A floor: a vectorized CRC over the same bytes, which runs at about the speed of memory."""
        assert isal_zlib.crc32(self.stream) != 0


class Iterate(Reading):
    """A view of each payload: `for payload in reader`."""

    goal = "F2"

    def time_for_loop(self, checksum: str, size: int, count: int) -> None:
        seen = 0
        with flatstream.StreamReader(self.stream, checksum) as reader:
            for payload in reader:  # noqa: B007
                seen += 1
            assert len(payload) == size
            assert reader.offset == len(self.stream)
        assert seen == count


class ProcessAll(Reading):
    """A call for each payload: `process_all(lambda p: None)`."""

    goal = "F3"

    def setup(self, checksum: str, size: int, count: int) -> None:
        super().setup(checksum, size, count)
        self.views = [memoryview(self.stream)[:size]] * count

    def time_process_all(self, checksum: str, size: int, count: int) -> None:
        with flatstream.StreamReader(self.stream, checksum) as reader:
            assert reader.process_all(lambda payload: None) == count
            assert reader.offset == len(self.stream)

    def time_calls_over_a_list(self, checksum: str, size: int, count: int) -> None:
        """The yardstick: the same lambda, called for ready-made memoryviews."""
        function = lambda payload: None  # noqa: E731
        calls = 0
        for view in self.views:
            function(view)
            calls += 1
        assert calls == count


class LengthPatterns(Benchmark):
    """`read_batch` over several orders of lengths.

    In a run of equal lengths, finding a frame need not wait for the header of the previous one.
    """

    param_names = ("pattern",)
    params = (["equal", "two in turn", "one of two", "any", "eight of each"],)
    count = 200_000

    def setup(self, pattern: str) -> None:
        chance = random.Random(1)
        lengths = {
            "equal": lambda i: 64,
            "two in turn": lambda i: (64, 72)[i % 2],
            "one of two": lambda i: chance.choice((64, 72)),
            "any": lambda i: chance.randrange(40, 90),
            "eight of each": lambda i: 40 + i // 8 * 37 % 50,
        }[pattern]
        self.stream = frames_by_hand([bytes(lengths(i)) for i in range(self.count)])
        check_scan(self.stream[: 4 + int.from_bytes(self.stream[:4], "little")])

    def units(self, pattern: str) -> int:
        return self.count

    def time_read_batch(self, pattern: str) -> None:
        assert scan(self.stream) == (self.count, len(self.stream))


class BatchSizes(Benchmark):
    """The maximal number of frames per batch; the index of the default, 8,192, stays in the processor's caches."""

    param_names = ("max_frames",)
    params = ([256, 1024, 4096, 8192, 16_384, 65_536, 1_000_000],)
    size, count = 64, 200_000

    def setup(self, max_frames: int) -> None:
        self.stream = repeated_frame(self.size, self.count)

    def units(self, max_frames: int) -> int:
        return self.count

    def time_read_batch(self, max_frames: int) -> None:
        seen = 0
        with flatstream.StreamReader(self.stream) as reader:
            for batch in reader.batches(max_frames):
                seen += len(batch)
        assert seen == self.count


class IndexFrames(Benchmark):
    """The loop that finds frames, without a reader: 256 KiB of memory, which is one chunk."""

    param_names = ("checksum", "size")
    params = (["none", "crc32", "xxhash64"], [16, 64, 1024])

    def setup(self, checksum: str, size: int) -> None:
        mode = flatstream.ChecksumType(checksum).checksum()
        self.deframer = flatstream.ChecksumDeframer(mode) if mode.size else flatstream.DefaultDeframer()
        frame_size = 4 + mode.size + size
        self.count = 256 * 1024 // frame_size
        self.stream = repeated_frame(size, self.count, checksum)
        self.offsets, self.lengths = array("q", [0]) * self.count, array("q", [0]) * self.count
        assert index_frames(self.stream, self.deframer, self.offsets, self.lengths) == (self.count, len(self.stream))
        assert list(self.offsets) == list(range(4 + mode.size, len(self.stream), frame_size))
        assert set(self.lengths) == {size}

    def units(self, checksum: str, size: int) -> int:
        return self.count

    def time_index_frames(self, checksum: str, size: int) -> None:
        found = index_frames(self.stream, self.deframer, self.offsets, self.lengths)
        assert found == (self.count, len(self.stream))


class Leaping(Benchmark):
    """Leaping over frames by their headers: in memory, and in a file whose bytes are in the system's cache."""

    param_names = ("size", "window")
    params = ([64, 1024, 64 * 1024, 1024 * 1024], [64 * 1024, 256 * 1024, 1024 * 1024])
    total = 128 * 1024 * 1024

    def setup(self, size: int, window: int) -> None:
        self.count = self.total // (size + 12)
        self.stream = repeated_frame(size, self.count, "xxhash64")
        self.deframer = flatstream.ChecksumDeframer(flatstream.XxHash64())
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self.file.write(self.stream)

    def teardown(self, size: int, window: int) -> None:
        self.file.close()

    def read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self.file.fileno(), size, offset)

    def time_leap(self, size: int, window: int) -> None:
        assert leap(self.stream, self.deframer) == (len(self.stream), self.count, 0, False)

    def time_boundaries(self, size: int, window: int) -> None:
        found = boundaries(self.read_at, len(self.stream), self.deframer, window=window)
        assert found is not None
        assert found[-1] == (len(self.stream), self.count)

    def time_reading_the_bytes(self, size: int, window: int) -> None:
        """The yardstick."""
        read = 0
        while part := self.read_at(read, window):
            read += len(part)
        assert read == len(self.stream)

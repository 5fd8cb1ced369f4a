"""Framing: from finished payloads to the bytes of a stream, in memory.

F4, F5 and W1 of the performance goals, and the writing half of K4. The sink is a BytesIO, also for the yardstick by
hand, so both sides include the memory of the stream. All payloads of a sample are the same object, so the cost of
reading different payloads from memory is not included.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence

import flatstream
from flatstream._core.framing.framer import frame_payloads

from .common import (
    CHECKSUMS,
    COUNTS,
    SIZES,
    Benchmark,
    check_combination,
    frames_by_hand,
    payload_of,
    write_by_hand,
    write_by_hand_with_crc32,
)


class Writing(Benchmark, ABC):
    """`count` payloads of `size` bytes."""

    param_names = ("checksum", "size", "count")
    params = (CHECKSUMS, SIZES, COUNTS)

    def setup(self, checksum: str, size: int, count: int) -> None:
        check_combination(size, count)
        self.payloads = [payload_of(size)] * count
        self.by_hand = write_by_hand if checksum == "none" else write_by_hand_with_crc32
        header = 4 + flatstream.ChecksumType(checksum).checksum().size
        self.size = count * (header + size)
        # The written bytes are compared once, here; the samples compare only the size.
        few = self.payloads[:100]
        assert self.write(checksum, few).getvalue() == frames_by_hand(few, checksum)
        if checksum in ("none", "crc32"):
            assert self.by_hand(few).getvalue() == frames_by_hand(few, checksum)
        self.size_by_hand = count * (size + (4 if checksum == "none" else 8))

    def units(self, checksum: str, size: int, count: int) -> int:
        """The number of frames per sample."""
        return count

    @abstractmethod
    def write(self, checksum: str, payloads: Sequence[bytes]) -> io.BytesIO:
        """The stream of `payloads`."""

    def time_by_hand(self, checksum: str, size: int, count: int) -> None:
        assert self.by_hand(self.payloads).tell() == self.size_by_hand


class WriteOneByOne(Writing):
    """One call for each payload (F4)."""

    params = (["none", "crc32", "xxhash64"], SIZES, COUNTS)

    def write(self, checksum: str, payloads: Sequence[bytes]) -> io.BytesIO:
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink, checksum) as writer:
            write_payload = writer.write_payload
            for payload in payloads:
                write_payload(payload)
        return sink

    def time_write_payload(self, checksum: str, size: int, count: int) -> None:
        assert self.write(checksum, self.payloads).tell() == self.size


class WriteMany(Writing):
    """One call for all of them (F5)."""

    def write(self, checksum: str, payloads: Sequence[bytes]) -> io.BytesIO:
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink, checksum) as writer:
            writer.write_payloads(payloads)
        return sink

    def time_write_payloads(self, checksum: str, size: int, count: int) -> None:
        assert self.write(checksum, self.payloads).tell() == self.size


class PassOn(Benchmark):
    """A batch of `count` frames passed on to a writer as it is (W1). The sink already has the memory for it."""

    param_names = ("checksum", "size", "count")
    params = (CHECKSUMS, [16, 64, 1024, 64 * 1024], [8192])
    # Calls per sample: one takes about 20 us.
    calls = 20

    def setup(self, checksum: str, size: int, count: int) -> None:
        count = self.frames(size, count)
        stream = frames_by_hand([payload_of(size)] * count, checksum)
        with flatstream.StreamReader(io.BytesIO(stream), checksum, capacity=len(stream)) as reader:
            batch = reader.read_batch(count)
        assert batch is not None
        assert len(batch) == count
        self.batch = batch
        self.sink = io.BytesIO()
        self.writer = flatstream.StreamWriter(self.sink, checksum)
        self.writer.write_frames(batch)
        self.writer.flush()
        assert self.sink.getvalue() == stream
        self.size = len(stream)

    def teardown(self, *_: object) -> None:
        if hasattr(self, "writer"):
            self.writer.close()

    def frames(self, size: int, count: int) -> int:
        """How many frames the batch has: fewer if they are large, as in a reader's chunk."""
        return min(count, 4 * 1024 * 1024 // size)

    def units(self, checksum: str, size: int, count: int) -> int:
        """The number of frames per sample."""
        return self.calls * self.frames(size, count)

    def time_write_frames(self, checksum: str, size: int, count: int) -> None:
        write, flush, seek, batch = self.writer.write_frames, self.writer.flush, self.sink.seek, self.batch
        for _ in range(self.calls):
            seek(0)
            write(batch)
            flush()
        assert self.sink.tell() == self.size

    def time_memcpy(self, checksum: str, size: int, count: int) -> None:
        """The yardstick: the same bytes, not counted as frames."""
        write, seek, buffer = self.sink.write, self.sink.seek, self.batch.buffer
        for _ in range(self.calls):
            seek(0)
            write(buffer)
        assert self.sink.tell() == self.size


class BufferSizes(Benchmark):
    """Sizes of the output buffer, for a sink in memory; the default is 64 KiB."""

    param_names = ("buffer_size",)
    params = ([0, 4096, 16 * 1024, 64 * 1024, 256 * 1024],)
    size, count = 64, 100_000

    def setup(self, buffer_size: int) -> None:
        self.payloads = [payload_of(self.size)] * self.count

    def time_write_payloads(self, buffer_size: int) -> None:
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink, buffer_size=buffer_size) as writer:
            writer.write_payloads(self.payloads)
        assert sink.tell() == self.count * (4 + self.size)


class FramePayloads(Benchmark):
    """The loop that makes frames, without a writer: from a list of payloads into 64 KiB of memory."""

    param_names = ("checksum", "size")
    params = (["none", "crc32", "xxhash64"], [16, 64, 1024])

    def setup(self, checksum: str, size: int) -> None:
        mode = flatstream.ChecksumType(checksum).checksum()
        self.framer = flatstream.ChecksumFramer(mode) if mode.size else flatstream.DefaultFramer()
        frame_size = 4 + mode.size + size
        self.count = 64 * 1024 // frame_size
        self.payloads = [payload_of(size)] * self.count
        self.out, self.ends = bytearray(64 * 1024), array("q", [0]) * self.count
        assert frame_payloads(self.payloads, self.framer, self.out, self.ends) == self.count
        assert self.out[: self.count * frame_size] == frames_by_hand(self.payloads, checksum)

    def units(self, checksum: str, size: int) -> int:
        return self.count

    def time_frame_payloads(self, checksum: str, size: int) -> None:
        assert frame_payloads(self.payloads, self.framer, self.out, self.ends) == self.count

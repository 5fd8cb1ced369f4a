"""A file that is followed while another process writes it (J3): how long a frame takes from flush to delivery.

The writer puts the time into each payload before it writes and flushes it; the clock is that of the whole machine. The
yardstick is a loop that reads at the end of the file again and again, which takes a processor of its own.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import flatstream

from .stream_io import OnDisk

STAMP = struct.Struct("<q")
FRAME = 4 + STAMP.size

WRITER = """
import struct, sys, time
import flatstream
path, count, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with flatstream.open(path, "a") as writer:
    due = time.monotonic()
    for _ in range(count):
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        writer.write_payload(struct.pack("<q", time.monotonic_ns()))
        writer.flush()
"""


class Delivery(OnDisk):
    """Flushes at a steady rate (`rate` in 1/s), each of one frame of 8 bytes; the best of several runs."""

    param_names = ("rate",)
    params = ([300],)
    unit = "us"
    count = 450
    runs = 3
    # The program that writes: its arguments are the path, the number of frames and the rate.
    writer = WRITER

    def setup(self, rate: int) -> None:
        self.path = self.make_directory() / "stream.fs"
        # The share of a processor that the last run took.
        self.share = 0.0

    def prepare(self) -> None:
        """Makes an empty stream, before each run."""
        self.path.write_bytes(b"")

    def _delays(self, rate: int, stamps: Iterator[int]) -> list[float]:
        """The sorted delays of one run in microseconds."""
        self.prepare()
        command = [sys.executable, "-c", self.writer, str(self.path), str(self.count), str(rate)]
        folder = str(Path(flatstream.__file__).parent.parent)
        delays = []
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": folder}) as writer:
            for number, stamp in enumerate(stamps):
                if not number:
                    begin, busy = time.monotonic(), time.process_time()
                delays.append((time.monotonic_ns() - stamp) / 1e3)
                if len(delays) == self.count:
                    break
            self.share = (time.process_time() - busy) / (time.monotonic() - begin)
        assert writer.returncode == 0
        assert len(delays) == self.count
        assert min(delays) > 0
        return sorted(delays)

    def _following(self) -> Iterator[int]:
        with flatstream.open(self.path, checksum="none", follow=True) as reader:
            for payload in reader:
                yield STAMP.unpack(payload)[0]

    def _spinning(self) -> Iterator[int]:
        with self.path.open("rb", buffering=0) as file:
            data = b""
            while True:
                data += file.read(FRAME - len(data))
                if len(data) == FRAME:
                    yield STAMP.unpack_from(data, 4)[0]
                    data = b""

    def track_median(self, rate: int) -> float:
        """The median delay."""
        return min(self._delays(rate, self._following())[self.count // 2] for _ in range(self.runs))

    def track_median_of_spinning(self, rate: int) -> float:
        """The yardstick."""
        return min(self._delays(rate, self._spinning())[self.count // 2] for _ in range(self.runs))

    def track_median_beside_spinning(self, rate: int) -> float:
        """The median delay as a multiple of the yardstick's."""
        return self.track_median(rate) / self.track_median_of_spinning(rate)

    def track_slowest_hundredth(self, rate: int) -> float:
        """The delay that 99 of 100 frames do not exceed."""
        return min(self._delays(rate, self._following())[self.count * 99 // 100] for _ in range(self.runs))

    def track_share_of_processor(self, rate: int) -> float:
        """How much of a processor the following process takes, in percent."""

        def run() -> float:
            self._delays(rate, self._following())
            return 100 * self.share

        return min(run() for _ in range(self.runs))

"""What a put into the queue of a ThreadedWriter costs its producer, beside the writer itself and beside `queue.Queue`.

The queue has room for all payloads. Its thread takes them meanwhile, and needs the interpreter's lock for that: the
time includes what it takes from the producer.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

import flatstream
from flatstream.journal import ThreadedWriter

from .common import Benchmark, NullSink, payload_of


class Put(Benchmark):
    """`count` payloads of 64 bytes, one call for each; the best of several runs, which are taken in turn."""

    param_names = ("checksum",)
    params = (["xxhash64"],)
    unit = "ns"
    size = 64
    count = 20_000
    runs = 40

    def setup(self, checksum: str) -> None:
        self.payload = payload_of(self.size)
        self.builder = flatstream.Builder(256)
        self.builder.Finish(self.builder.CreateString("x" * self.size))
        self.sink = NullSink()
        self.writer = flatstream.StreamWriter(self.sink, checksum)
        self.threaded = ThreadedWriter(flatstream.StreamWriter(self.sink, checksum), self.count)

    def teardown(self, checksum: str) -> None:
        self.threaded.close()
        self.writer.close()

    def _time(self, put: Callable[[Any], object], item: Any) -> float:
        """Nanoseconds of one call."""
        begin = time.perf_counter()
        for _ in range(self.count):
            put(item)
        return (time.perf_counter() - begin) / self.count * 1e9

    def _time_put(self, put: Callable[[Any], object], item: Any) -> float:
        before = self.threaded.frames_written
        taken = self._time(put, item)
        # Not measured: the next run begins with an empty queue.
        self.threaded.flush()
        assert self.threaded.frames_written - before == self.count
        return taken

    def _time_queue(self) -> float:
        # Nobody takes anything out of it.
        yardstick: queue.Queue[bytes] = queue.Queue()
        taken = self._time(yardstick.put, self.payload)
        assert yardstick.qsize() == self.count
        return taken

    def track_put(self, checksum: str) -> float:
        """A put of bytes."""
        return min(self._time_put(self.threaded.write_payload, self.payload) for _ in range(self.runs))

    def track_put_of_builder(self, checksum: str) -> float:
        """A put of a copy of a finished message."""
        return min(self._time_put(self.threaded.write_finished, self.builder) for _ in range(self.runs))

    def track_queue_put(self, checksum: str) -> float:
        """The yardstick."""
        return min(self._time_queue() for _ in range(self.runs))

    def track_write_payload(self, checksum: str) -> float:
        """The same writer without a thread."""
        return min(self._time(self.writer.write_payload, self.payload) for _ in range(self.runs))

    def track_put_beside_queue_put(self, checksum: str) -> float:
        """The time of a put as a multiple of the yardstick's."""
        best = [float("inf"), float("inf")]
        for _ in range(self.runs):
            best[0] = min(best[0], self._time_put(self.threaded.write_payload, self.payload))
            best[1] = min(best[1], self._time_queue())
        return best[0] / best[1]

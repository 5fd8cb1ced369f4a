"""What a put into the queue of a ThreadedWriter costs its producer, beside the writer itself and beside `queue.Queue`.

The queue has room for all payloads. Its thread takes them meanwhile, and needs the interpreter's lock for that: the time
includes what it takes from the producer.
"""

from __future__ import annotations

import queue
from typing import Any

import flatstream
from flatstream.journal import ThreadedWriter

from .common import Benchmark, NullSink, payload_of


class Put(Benchmark):
    """`count` payloads of 64 bytes, one call for each."""

    param_names = ("checksum",)
    params = (["xxhash64"],)
    size = 64
    count = 20_000

    def setup(self, checksum: str) -> None:
        self.payload = payload_of(self.size)
        self.builder = flatstream.Builder(256)
        self.builder.Finish(self.builder.CreateString("x" * self.size))
        self.sink = NullSink()
        self.writer = flatstream.StreamWriter(self.sink, checksum)
        self.threaded = ThreadedWriter(flatstream.StreamWriter(self.sink, checksum), 10 * self.count)
        # Nobody takes anything out of it, so a run has one of its own.
        self.queue: queue.Queue[Any] = queue.Queue()

    def teardown(self, checksum: str) -> None:
        self.threaded.close()
        self.writer.close()

    def units(self, checksum: str) -> int:
        return self.count

    def time_put(self, checksum: str) -> None:
        put, payload = self.threaded.write_payload, self.payload
        for _ in range(self.count):
            put(payload)
        assert not self.threaded.dropped

    def time_write_payload(self, checksum: str) -> None:
        write, payload = self.writer.write_payload, self.payload
        for _ in range(self.count):
            write(payload)

    def time_queue_put(self, checksum: str) -> None:
        """The yardstick."""
        self.queue = queue.Queue()
        put, payload = self.queue.put, self.payload
        for _ in range(self.count):
            put(payload)
        assert self.queue.qsize() == self.count

    def time_write_finished(self, checksum: str) -> None:
        put, builder = self.threaded.write_finished, self.builder
        for _ in range(self.count):
            put(builder)

    def time_put_and_flush(self, checksum: str) -> None:
        """Until the sink has them."""
        self.time_put(checksum)
        self.threaded.flush()

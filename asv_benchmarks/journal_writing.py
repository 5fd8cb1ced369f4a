"""A journal that is written: a payload without a sync (J1), acknowledged payloads of many producers (J2), the longest
wait for a new segment, and opening a journal after a crash.
"""

from __future__ import annotations

import os
import shutil
import struct
import threading
import time
from pathlib import Path
from typing import Any

import flatstream
from flatstream.journal import JournalWriter, RotationPolicy

from .common import payload_of
from .stream_io import OnDisk


class WriteOneByOne(OnDisk):
    """`write_payload` of `count` payloads of 64 bytes into a file, with XXH3; nothing waits for the disk."""

    param_names = ("count",)
    params = ([200_000],)

    def setup(self, count: int) -> None:
        self.payload = payload_of(64)
        self.folder = self.make_directory()
        self.size = 76 * count
        # Beginning and ending a journal waits for the disk, so that is not timed.
        self.journal = JournalWriter(self.folder / "journal", rotate=None)
        self.journal.flush()  # the description
        self.writer = flatstream.open(self.folder / "stream.fs", "w", checksum="xxhash64")

    def teardown(self, *arguments: Any) -> None:
        self.writer.close()
        self.journal.close()
        super().teardown(*arguments)

    def units(self, count: int) -> int:
        """The number of frames per sample."""
        return count

    def _write(self, writer: flatstream.StreamWriter, path: Path, count: int) -> None:
        write, payload = writer.write_payload, self.payload
        before = path.stat().st_size
        for _ in range(count):
            write(payload)
        writer.flush()
        assert path.stat().st_size - before == self.size
        os.truncate(path, before)

    def time_journal(self, count: int) -> None:
        self._write(self.journal, self.folder / "journal" / f"{0:020d}.fs", count)

    def time_stream_writer(self, count: int) -> None:
        """The yardstick."""
        self._write(self.writer, self.folder / "stream.fs", count)


class Acknowledged(OnDisk):
    """Payloads of 120 bytes, each of which is on the disk before its producer goes on: how many a second."""

    param_names = ("producers",)
    params = ([1, 4, 16, 64],)
    unit = "1/s"
    seconds = 1.0
    runs = 3

    def setup(self, producers: int) -> None:
        self.folder = self.make_directory()
        self.payload = payload_of(120)

    def _journal(self, producers: int) -> float:
        shutil.rmtree(self.folder / "journal", ignore_errors=True)
        with JournalWriter(self.folder / "journal") as journal:
            end = time.monotonic() + self.seconds
            counts = [0] * producers

            def produce(index: int) -> None:
                count = 0
                while time.monotonic() < end:
                    journal.write_payload(self.payload)
                    journal.wait_durable(journal.position)
                    count += 1
                counts[index] = count

            threads = [threading.Thread(target=produce, args=(index,)) for index in range(producers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert journal.durable_position == sum(counts)
        return sum(counts) / self.seconds

    def _bare_loop(self) -> float:
        frame = struct.pack("<I", len(self.payload)) + bytes(8) + self.payload
        fd = os.open(self.folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            end = time.monotonic() + self.seconds
            count = 0
            while time.monotonic() < end:
                os.pwrite(fd, frame, count * len(frame))
                os.fdatasync(fd)
                count += 1
        finally:
            os.close(fd)
        return count / self.seconds

    def track_group_commit(self, producers: int) -> float:
        """By the journal."""
        return max(self._journal(producers) for _ in range(self.runs))

    def track_bare_loop(self, producers: int) -> float:
        """The yardstick: a loop of pwrite and fdatasync, alone."""
        return max(self._bare_loop() for _ in range(self.runs))

    def track_beside_bare_loop(self, producers: int) -> float:
        """How many times as many as the yardstick; measured in turn."""
        pairs = [(self._journal(producers), self._bare_loop()) for _ in range(self.runs)]
        return max(mine for mine, _ in pairs) / max(bare for _, bare in pairs)


class Rotation(OnDisk):
    """How long a write waits at most for a new segment, in 300 rotations."""

    unit = "us"
    runs = 3

    def setup(self) -> None:
        self.folder = self.make_directory()

    def _longest(self) -> float:
        shutil.rmtree(self.folder / "journal", ignore_errors=True)
        with JournalWriter(self.folder / "journal", rotate=RotationPolicy(max_frames=100), buffer_size=0) as journal:
            journal.write_payloads([b"x" * 64] * 30_000)
            metrics = journal.metrics()
            assert metrics.rotations == 299
        return 1e6 * metrics.rotation_seconds_max

    def _opening(self) -> float:
        longest = 0.0
        for number in range(300):
            begin = time.perf_counter()
            fd = os.open(self.folder / f"bare{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            longest = max(longest, time.perf_counter() - begin)
            os.close(fd)
            os.unlink(self.folder / f"bare{number}")
        return 1e6 * longest

    def track_longest(self) -> float:
        """The longest wait of the best run."""
        return min(self._longest() for _ in range(self.runs))

    def track_longest_open(self) -> float:
        """The yardstick: the longest time to make a file, of 300."""
        return min(self._opening() for _ in range(self.runs))


class Opening(OnDisk):
    """Opening a journal after a crash: a segment of 256 MiB that is not sealed is read."""

    size = 256 << 20

    def setup(self) -> None:
        self.folder = self.make_directory() / "journal"
        with JournalWriter(self.folder, rotate=None) as journal:
            payload = payload_of(1024)
            journal.write_payloads([payload] * (self.size // (len(payload) + 12)))
            self.count = journal.position
        (self.path,) = self.folder.glob("*.fs")

    def units(self) -> int:
        """The bytes of the segment."""
        return self.path.stat().st_size

    def time_opening(self) -> None:
        Path(self.folder / "journal.json").unlink(missing_ok=True)
        with JournalWriter(self.folder) as journal:
            assert journal.recovery[0].action == "nothing"
            assert journal.position == self.count

    def time_read_batches(self) -> None:
        """The yardstick."""
        with flatstream.open(self.path, checksum="xxhash64") as reader:
            assert sum(len(batch) for batch in reader.batches()) == self.count

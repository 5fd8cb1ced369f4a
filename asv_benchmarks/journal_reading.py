"""A journal that is read: across segments beside one file, and followed while another process writes it (J3)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import flatstream
from flatstream.journal import JournalReader, JournalWriter, RotationPolicy

from .common import payload_of
from .following import FRAME, STAMP, Delivery
from .stream_io import OnDisk

WRITER = """
import struct, sys, time
from flatstream.journal import JournalWriter, RotationPolicy
path, count, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with JournalWriter(path + ".journal", "none", rotate=RotationPolicy(max_frames=100)) as writer:
    due = time.monotonic()
    for _ in range(count):
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        writer.write_payload(struct.pack("<q", time.monotonic_ns()))
        writer.flush()
"""


class ReadOneByOne(OnDisk):
    """Payloads of 64 bytes with xxhash64, one by one, from a journal of segments of `segment` frames and from one file
    with the same frames.
    """

    param_names = ("segment", "count")
    params = ([100, 10_000, 1_000_000], [1_000_000])

    def setup(self, segment: int, count: int) -> None:
        directory = self.make_directory()
        self.path, self.folder = directory / "stream.fs", directory / "journal"
        payloads = [payload_of(64)] * 1000
        with (
            flatstream.open(self.path, "w", checksum="xxhash64") as writer,
            JournalWriter(self.folder, rotate=RotationPolicy(max_frames=segment)) as journal,
        ):
            for _ in range(count // 1000):
                writer.write_payloads(payloads)
                journal.write_payloads(payloads)

    def units(self, segment: int, count: int) -> int:
        return count

    def _read(self, reader: flatstream.StreamReader, count: int) -> None:
        with reader:
            found = 0
            for _ in reader:
                found += 1
        assert found == count

    def time_journal(self, segment: int, count: int) -> None:
        self._read(JournalReader(self.folder), count)

    def time_stream(self, segment: int, count: int) -> None:
        """The yardstick."""
        self._read(flatstream.open(self.path, checksum="xxhash64"), count)


class JournalDelivery(Delivery):
    """How long a frame takes from flush to delivery through a journal, of which every hundredth begins a segment."""

    writer = WRITER

    def prepare(self) -> None:
        self.journal = Path(f"{self.path}.journal")
        self.path.touch()
        shutil.rmtree(self.journal, ignore_errors=True)
        self.journal.mkdir()

    def _following(self) -> Iterator[int]:
        with JournalReader(self.journal, "none", follow=True) as reader:
            for payload in reader:
                yield STAMP.unpack(payload)[0]

    def _spinning(self) -> Iterator[int]:
        # The segments by name, because spinning does not find the next one by itself.
        first = 0
        while True:
            path = self.journal / f"{first:020d}.fs"
            while not path.exists():
                pass
            with path.open("rb", buffering=0) as file:

                def spin(size: int, file: FileIO = file) -> bytes:
                    data = b""
                    while len(data) < size:
                        data += file.read(size - len(data))
                    return data

                # The description with which each segment begins.
                spin(int.from_bytes(spin(4), "little"))
                for _ in range(100):
                    yield STAMP.unpack(spin(FRAME)[4:])[0]
            first += 100

"""Indexes beside files: what they cost while a file is written, how large they are, how long they take to load (Q9).

That building one takes as long as reading its columns is Q8 of `scale.py`.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import flatstream
from flatstream._ranges import RangeFile, open_ranges
from flatstream.index import FileIndex, build_index, load_index
from flatstream.journal import JournalWriter

from .stream_io import OnDisk
from .telemetry_event import EXAMPLES

# Numbers that wander, so that each message stores them all.
FIELDS = ["wall_time_ns", "sequence", "load_1", "load_5", "memory_available", "context_switches", "interrupts", "pid"]


def records_of(count: int) -> list[dict[str, Any]]:
    """`count` events of some 110 bytes."""
    rng = random.Random(1)
    begin = 1_700_000_000 * 10**9
    return [
        {
            "sequence": n,
            "wall_time_ns": begin + n * 10**7 + rng.randrange(1000),
            "monotonic_ns": n * 10**7,
            "host": "alpha",
            "load_1": rng.random(),
            "memory_available": rng.randrange(1 << 34),
            "context_switches": n * 1200 + rng.randrange(500),
        }
        for n in range(count)
    ]


class IndexedFile(OnDisk):
    """A described file of `count` events with XXH3-64."""

    count = 200_000

    def make_file(self) -> None:
        root = flatstream.Schema.from_file(EXAMPLES / "telemetry.bfbs").root
        assert root is not None
        self.table = root
        self.path = Path(self.make_directory()) / "events.fs"
        self.records = records_of(self.count)
        self.write_records(index=False)

    def write_records(self, *, index: bool | list[str]) -> None:
        with flatstream.open(
            self.path, "w", checksum="xxhash64", describe=self.table, index=index, time_field="wall_time_ns"
        ) as writer:
            flatstream.RecordWriter(writer, self.table).write_records(self.records)
        assert writer.frames_written == self.count


class Writing(IndexedFile):
    """Writing with an index of one field, and without (Q9)."""

    rounds, repeat = 1, (3, 10, 4.0)

    def setup(self) -> None:
        self.make_file()
        with flatstream.open(self.path) as reader:
            self.payloads = [bytes(payload) for payload in reader]

    def units(self) -> int:
        """The number of messages per sample."""
        return self.count

    def write_payloads(self, *, index: bool) -> None:
        with flatstream.open(
            self.path, "w", checksum="xxhash64", describe=self.table, index=index, time_field="wall_time_ns"
        ) as writer:
            writer.write_payloads(self.payloads)
        assert writer.frames_written == self.count
        assert not index or writer.index_report.rows == self.count

    def time_records_with_index(self) -> None:
        self.write_records(index=True)

    def time_records(self) -> None:
        """The yardstick."""
        self.write_records(index=False)

    def time_payloads_with_index(self) -> None:
        self.write_payloads(index=True)

    def time_payloads(self) -> None:
        """The yardstick."""
        self.write_payloads(index=False)


class WritingAJournal(IndexedFile):
    """Writing a journal whose thread writes an index of one field, and without; both until it is closed (Q9)."""

    rounds, repeat = 1, (3, 10, 4.0)

    def setup(self) -> None:
        self.make_file()
        self.journal = self.path.with_name("journal")

    def units(self) -> int:
        """The number of messages per sample."""
        return self.count

    def write(self, *, index: bool) -> None:
        shutil.rmtree(self.journal, ignore_errors=True)
        with JournalWriter(self.journal, describe=self.table, index=index, time_field="wall_time_ns") as journal:
            flatstream.RecordWriter(journal, self.table).write_records(self.records)
        report = journal.index_report
        assert not index or (report is not None and report.rows == self.count)

    def time_records_with_index(self) -> None:
        self.write(index=True)

    def time_records(self) -> None:
        """The yardstick."""
        self.write(index=False)


class Loading(IndexedFile):
    """An index of some fields: loading it, and its size."""

    param_names = ("fields",)
    params = ([1, 4, 8],)
    unit = "percent"

    def setup(self, fields: int) -> None:
        self.make_file()
        self.index_size = build_index(self.path, FIELDS[:fields]).size
        self.ranges: RangeFile = open_ranges(self.path)

    def teardown(self, *_: Any) -> None:
        if hasattr(self, "ranges"):
            self.ranges.close()
        super().teardown()

    def time_load(self, fields: int) -> None:
        found = load_index(self.path, self.ranges, table=self.table)
        assert isinstance(found, FileIndex)
        assert len(found.fields) == fields
        assert found.covered == self.ranges.size

    def track_share(self, fields: int) -> float:
        """How large the index is, as a part of its file."""
        return self.index_size / os.path.getsize(self.path) * 100

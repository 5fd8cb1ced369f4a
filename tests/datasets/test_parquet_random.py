"""Exports to Parquet while files and journals live as they do: a row is there once, whatever happens between runs."""

from __future__ import annotations

import datetime
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream.journal import JournalWriter, RotationPolicy
from flatstream.records import RecordWriter
from support.extent import EVERYTHING
from support.lakes import NOON, READINGS, SECOND, files_of, folder_of, leftovers_of, reading, rows_of, write_readings

pytest.importorskip("pyarrow")


class World:
    """Files and a journal in a folder, a clock, and a lake."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.inputs = folder / "in"
        self.inputs.mkdir()
        self.journal = folder / "journal"
        self.lake = folder / "lake"
        self.written = 0
        self.made = 0
        self.files: list[Path] = []
        self.kept: dict[Path, bytes] = {}
        self.log: list[str] = []

    def take(self, most: int = 40) -> range:
        count = self.chance.randrange(most)
        self.written += count
        return range(self.written - count, self.written)

    def new_file(self) -> None:
        path = self.inputs / f"{self.made:03}.fs"
        self.made += 1
        self.files.append(write_readings(path, self.take()))

    def append(self) -> None:
        if self.files:
            write_readings(self.chance.choice(self.files), self.take(), "a")

    def append_torn(self) -> None:
        """What is half written at the time of a run becomes whole afterwards."""
        if not self.files:
            return
        path = self.chance.choice(self.files)
        before = path.stat().st_size
        write_readings(path, self.take(10), "a")
        whole = path.read_bytes()
        os.truncate(path, self.chance.randint(before, len(whole)))
        self.run()
        with open(path, "ab") as file:
            file.write(whole[file.tell() :])

    def rotate(self) -> None:
        """The file gets another name, or is copied and emptied; and its name a new file."""
        if not self.files:
            return
        path = self.chance.choice(self.files)
        self.made += 1
        old = path.with_name(f"{self.made:03}-old.fs")
        if self.chance.random() < 0.5:
            path.rename(old)
        else:
            shutil.copy(path, old)
            path.unlink() if self.chance.random() < 0.5 else os.truncate(path, 0)
        self.files.remove(path)
        if not path.exists():
            self.files.append(write_readings(path, self.take()))

    def compress(self) -> None:
        if self.files:
            import gzip

            path = self.files.pop(self.chance.randrange(len(self.files)))
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()

    def log_to_journal(self) -> None:
        rotate = RotationPolicy(max_frames=self.chance.choice([5, 17, 100]))
        with JournalWriter(self.journal, describe=READINGS.root, rotate=rotate) as writer:
            records = RecordWriter(writer, READINGS.root)
            for number in self.take():
                records.write_record(reading(number))
                if self.chance.random() < 0.02:
                    writer.flush()
                    self.run()

    def move_journal(self) -> None:
        if self.journal.exists():
            self.made += 1
            moved = self.journal.with_name(f"journal{self.made}")
            self.journal.rename(moved)
            self.journal = moved

    def run(self, **options: Any) -> Any:
        paths = [path for path in (self.inputs, self.journal) if path.exists() and any(path.iterdir())]
        if not paths:
            return None
        if not options and self.chance.random() < 0.5:
            # Somewhere in the time that has been written.
            now = NOON // SECOND + 60 * self.chance.randint(0, self.written + 60)
            options["until"] = datetime.datetime.fromtimestamp(now, datetime.UTC)
        policy: Any = self.chance.choice(["raise", "skip", "stop", "resync"])
        report = flatstream.dataset(paths, on_error=policy).to_parquet(self.lake, **options)
        assert (report.lost, report.changed, report.skipped, report.stopped) == ([], [], 0, [])
        for path, content in self.kept.items():
            assert path.read_bytes() == content
        self.kept = {path: path.read_bytes() for path in files_of(self.lake)}
        return report


@pytest.mark.parametrize("seed", range(60 if EVERYTHING else 2))
def test_rows_are_there_once_whatever_happens_to_their_files(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    actions = [
        world.new_file,
        world.append,
        world.append_torn,
        world.rotate,
        world.compress,
        world.log_to_journal,
        world.move_journal,
        world.run,
    ]
    for _ in range(25):
        action = world.chance.choice(actions)
        world.log.append(action.__name__)
        action()
    world.run(until="now")
    expected = sorted((folder_of(number), number) for number in range(world.written))
    assert rows_of(world.lake) == expected, world.log
    assert leftovers_of(world.lake) == []
    assert world.run(until="now").rows == 0

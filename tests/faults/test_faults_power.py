"""Power cuts: what is on a disk at some moment, with any part of what was still in its cache."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from support import power_disk
from support.fault_counts import Count
from support.journal_child import Plan
from support.journal_faults import Programs, Running, random_plan, share_of
from support.journal_frames import Ledger, judge, read_journal
from support.power_disk import PowerDisk

pytestmark = pytest.mark.faults

DISKS = {
    "power cut with ext4": ("ext4", ""),
    "power cut with ext4, data=writeback": ("ext4", "data=writeback"),
    "power cut with XFS": ("xfs", ""),
}
SEEDS = 6
CUTS = 25

# How long each writer writes before power cuts are tried, in seconds.
WRITING = 0.4


class Observed:
    """What a program had been told at each moment of a disk's log."""

    def __init__(self) -> None:
        # The thread of the disk calls this, and the test looks at it.
        self._turn = threading.Lock()
        self._running: Running | None = None
        self._disk: PowerDisk | None = None
        self.durable: list[tuple[int, int]] = []

    def begin(self, disk: PowerDisk, running: Running) -> int:
        """Begins to watch; returns how long the log is."""
        with self._turn:
            self._disk, self._running = disk, running
            return len(disk.log)

    def end(self) -> int:
        """Stops watching; returns how long the log is."""
        with self._turn:
            assert self._disk is not None
            self._running = None
            return len(self._disk.log)

    def __call__(self) -> None:
        """Takes in what the program told before the next write arrives at the disk: that must be on it by now."""
        with self._turn:
            running, disk = self._running, self._disk
            if running is not None and disk is not None:
                running.listen()
                if not self.durable or running.ledger.durable > self.durable[-1][1]:
                    self.durable.append((len(disk.log), running.ledger.durable))

    def durable_at(self, moment: int) -> int:
        """The frames that the program knew on the disk when it had received `moment` entries."""
        return max((durable for length, durable in self.durable if length <= moment), default=0)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", DISKS)
def test_power_cut_keeps_what_was_synced_and_makes_no_frame(
    name: str, seed: int, programs: Programs, memory_path: Path, count: Count
) -> None:
    kind, options = DISKS[name]
    if (missing := power_disk.missing_for(kind)) is not None:
        pytest.skip(missing)
    random_ = random.Random(seed)
    observed = Observed()
    problems: list[str] = []
    with PowerDisk(memory_path, kind, options, observed) as disk:
        plan = random_plan(
            random_, disk.mounted / "journal", seed, sync=(None, "each", 7, 0.002, 50, None)[seed % 6],
            does=("random", "durably", "steadily", "random", "random", "steadily")[seed % 6],
        )  # fmt: skip
        running = programs.start(plan)
        begin = observed.begin(disk, running)
        deadline = time.monotonic() + WRITING
        while time.monotonic() < deadline:
            time.sleep(0.02)
        end = observed.end()
        ledger = running.kill()
        problems += ledger.violations
    cuts = share_of(CUTS)
    image = memory_path / "image"
    for moment in sorted(random_.randrange(begin, end + 1) for _ in range(cuts)):
        disk.image_after(moment, random_, image)
        with disk.mount_image(image) as mounted:
            told = Ledger(0, first=0, durable=observed.durable_at(moment))
            directory = mounted / "journal"
            where = f"{plan}, at {moment} of {begin} to {end}: "
            found = judged(directory, plan, programs, told) if directory.exists() else []
            if not directory.exists() and told.durable:
                found = [f"the journal is missing, {told.durable} frames were acknowledged"]
            problems += [where + text for text in found]
    count(name, cuts, problems)


def judged(directory: Path, plan: Plan, programs: Programs, told: Ledger) -> list[str]:
    """What is wrong with the journal after a power cut, and after the next writer has recovered it."""
    reading = read_journal(directory, plan.seed) if any(directory.glob("*.fs")) else None
    problems: list[str] = []
    if reading is not None:
        problems += judge(reading, [told], handed_over=False, gaps=True)
    elif told.durable:
        problems.append(f"there is no segment, {told.durable} frames were acknowledged")
    script = (("write", 5, 40), "sync")
    again = programs.run(
        Plan(**{**vars(plan), "directory": str(directory), "run": 1, "does": "script", "script": script})
    )
    if not again.is_finished or again.errors:
        problems.append(f"the next writer failed: {again}")
    reading_again = read_journal(directory, plan.seed)
    problems += judge(reading_again, [told, again], handed_over=False, gaps=True)
    if reading is not None and reading_again.frames[: len(reading.frames)] != reading.frames:
        problems.append("recovery lost frames that could be read before")
    return problems

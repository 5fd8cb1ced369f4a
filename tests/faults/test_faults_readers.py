"""Readers beside writers that are killed, rotate and thin out; a second writer; forks; and a clock that jumps."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from flatstream.journal import JournalReader
from support.fault_counts import Count
from support.journal_child import Plan
from support.journal_faults import Programs, follow, share_of
from support.journal_frames import Claim, Reading, claim_of, judge, read_journal

pytestmark = pytest.mark.faults

ROTATIONS = 1000
FRAMES_PER_SEGMENT = 10


@pytest.mark.parametrize("sync", [None, 0.002])
def test_follower_sees_every_frame_once_through_rotations_while_the_writer_is_killed(
    sync: float | None, programs: Programs, memory_path: Path, count: Count
) -> None:
    rotations = share_of(ROTATIONS)
    plan = Plan(
        str(memory_path / "journal"), 5, 0, "steadily", sync=sync, rotate={"max_frames": FRAMES_PER_SEGMENT},
        options={"buffer_size": 300},
    )  # fmt: skip
    frames, ledgers, problems = follow(programs, plan, rotations * FRAMES_PER_SEGMENT, random.Random(5))
    problems += judge(Reading(frames), ledgers)
    # What is there in the end is what was seen while it was written.
    if read_journal(plan.directory, plan.seed).frames != frames:
        problems.append("the follower saw other frames than a reader that came later")
    begun = len(list(Path(plan.directory).glob("*.fs")))
    if begun < rotations:
        problems.append(f"there were {begun} segments")
    count("rotations under a follower, while the writer is killed and started again", begun, problems)


@pytest.mark.parametrize("is_registered", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_slow_reader_under_retention_misses_nothing_that_it_registered_for_and_is_told_of_the_rest(
    seed: int, is_registered: bool, programs: Programs, memory_path: Path, count: Count
) -> None:
    random_ = random.Random(seed)
    plan = Plan(
        str(memory_path / "journal"), seed, 0, "steadily", rotate={"max_frames": 40}, retain={"max_segments": 3},
        options={"buffer_size": 300},
    )  # fmt: skip
    running = programs.start(plan)
    problems: list[str] = []
    while running.ledger.first is None:
        assert running.listen(1), running.ledger
    before = -1
    frames = share_of(3000)
    with JournalReader(plan.directory, follow=True, name="slow" if is_registered else None) as reader:
        if is_registered:
            reader.commit()
        for index in range(frames):
            running.listen()
            view = reader.read_message(timeout=30)
            assert view is not None
            payload = bytes(view)
            claim, number = claim_of(payload, seed), reader.number
            if claim != Claim(0, 0, number) or number <= before:
                problems.append(f"frame {number} came behind {before} and says {claim}")
            missing = [gap for gap in reader.gaps if gap.first <= before + 1 and gap.next >= number]
            if number != before + 1 and before >= 0 and (is_registered or not missing):
                problems.append(f"frame {number} came behind {before}, gaps {list(reader.gaps)[-3:]}")
            before = number
            if index % 100 == 50:
                time.sleep(random_.uniform(0, 0.02))
            if is_registered and index % 70 == 0:
                reader.commit()
    problems += running.kill().violations
    count("retention under a slow reader, with and without a name", frames, problems)


def test_second_writer_is_refused_and_changes_nothing(programs: Programs, tmp_path: Path, count: Count) -> None:
    problems: list[str] = []
    cases = share_of(20)
    plan = Plan(str(tmp_path / "journal"), 3, 0, "steadily", rotate={"max_frames": 40}, options={"buffer_size": 300})
    running = programs.start(plan)
    while running.ledger.first is None:
        assert running.listen(1), running.ledger
    for index in range(cases):
        second = programs.run(Plan(**{**vars(plan), "run": 100 + index, "does": "second"}))
        problems += second.violations
        running.listen()
    first = running.kill()
    last = programs.run(Plan(**{**vars(plan), "run": 1, "does": "recover"}))
    problems += judge(read_journal(plan.directory, plan.seed), [first, last])
    count("a second writer on the folder", cases, problems)


@pytest.mark.parametrize("sync", [None, "each", 0.002])
def test_forked_child_neither_writes_nor_keeps_the_lock(
    sync: Any, programs: Programs, tmp_path: Path, count: Count
) -> None:
    problems: list[str] = []
    cases = share_of(20)
    plan = Plan(str(tmp_path / "journal"), 4, 0, "fork", sync=sync, rotate={"max_frames": 30})
    ledgers = [programs.run(Plan(**{**vars(plan), "run": run})) for run in range(cases)]
    for ledger in ledgers:
        if not ledger.is_finished or ledger.errors:
            problems.append(f"{ledger}")
    problems += judge(read_journal(plan.directory, plan.seed), ledgers)
    count("a fork while the writer is open", cases, problems)


@pytest.mark.parametrize("seed", range(5))
def test_clock_that_jumps_disturbs_neither_order_nor_numbers(
    seed: int, programs: Programs, tmp_path: Path, count: Count
) -> None:
    random_ = random.Random(seed)
    cases = share_of(8)
    problems: list[str] = []
    plan = Plan(
        str(tmp_path / "journal"), seed, 0, "random", rotate={"max_seconds": 0.005}, sync=(None, 0.002)[seed % 2]
    )
    ledgers = []
    for run in range(cases):
        steps = tuple(random_.choice([-1e6, -3600, -0.004, 0.01, 3600, -1.7e9]) for _ in range(500))
        running = programs.start(Plan(**{**vars(plan), "run": run, "clock_steps": steps}))
        deadline = time.monotonic() + 0.1
        while time.monotonic() < deadline and running.listen(0.02):
            pass
        ledgers.append(running.kill())
    ledgers.append(programs.run(Plan(**{**vars(plan), "run": cases, "does": "recover"})))
    problems += judge(read_journal(plan.directory, plan.seed), ledgers)
    count("a clock that jumps, under rotation by time", cases, problems)

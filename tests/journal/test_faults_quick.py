"""A small part of the fault injection of tests/faults, which takes seconds; and the judge himself."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream.journal._segments
from flatstream import FlatStreamError
from flatstream.journal import JournalWriter, SyncPolicy
from support.faults import device_error
from support.journal_child import Plan
from support.journal_faults import Programs, follow, kill_at_random
from support.journal_frames import Claim, Found, Ledger, Reading, claim_of, judge, payload_of, read_journal
from support.journal_scenarios import RECOVERIES, Template
from support.journal_tails import CutJournal


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with Programs() as made:
        yield made


# The judge


def test_payload_says_what_it_is_and_a_changed_one_does_not() -> None:
    payload = payload_of(1, 2, 3, 4)
    assert claim_of(payload, 1) == Claim(2, 3, 4)
    for wrong in (b"", payload[:-1], payload + b"\0", payload[:-1] + bytes([payload[-1] ^ 1]), bytes(len(payload))):
        assert claim_of(wrong, 1) is None
    assert claim_of(payload, 2) is None


FRAMES = [Found(number, Claim(0, 0, number)) for number in range(6)]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (FRAMES[:4], "frame 4 of run 0 was acknowledged, found None"),
        (FRAMES[:5], "frame 5 of run 0 was handed over, found None"),
        ([*FRAMES[:3], Found(3, Claim(1, 0, 3)), *FRAMES[4:]], "frame 3 of run 0 was acknowledged, found Claim(run=1"),
        ([*FRAMES, Found(6, Claim(0, 0, 5))], "frame 6 is a second copy"),
        ([*FRAMES, Found(6, Claim(7, 0, 6))], "frame 6 is of run 7, which has not been"),
        ([*FRAMES[:3], *FRAMES[4:]], "frame 4 came behind frame 2"),
        ([*FRAMES, Found(6, Claim(0, 0, 7))], "frame 6 was written as number 7"),
        (
            [*FRAMES, Found(6, Claim(1, 0, 6)), Found(7, Claim(0, 0, 7))],
            "frame 7 is of run 0 and came behind one of run 1",
        ),
    ],
)
def test_judge_notices(frames: list[Found], says: str) -> None:
    ledgers = [Ledger(0, first=0, durable=5, handed_over=6), Ledger(1, first=6)]
    assert judge(Reading(FRAMES), ledgers) == []
    found = judge(Reading(frames), ledgers)
    assert any(text.startswith(says) for text in found), found


# Kills


@pytest.mark.parametrize("seed", [101, 102, 103])
def test_sigkill_at_random_moments_loses_no_acknowledged_frame(seed: int, programs: Programs, tmp_path: Path) -> None:
    assert kill_at_random(programs, tmp_path, seed, 8) == []


def test_follower_sees_every_frame_once_while_the_writer_is_killed(programs: Programs, tmp_path: Path) -> None:
    plan = Plan(str(tmp_path / "journal"), 6, 0, "steadily", rotate={"max_frames": 10}, options={"buffer_size": 300})
    frames, ledgers, problems = follow(programs, plan, 300, random.Random(6))
    assert problems == []
    assert judge(Reading(frames), ledgers) == []
    assert len(ledgers) > 1
    assert read_journal(plan.directory, plan.seed).frames == frames


# Recovery


@pytest.mark.parametrize("name", RECOVERIES)
def test_recovery_keeps_whole_frames_and_a_second_one_changes_nothing(
    name: str, programs: Programs, tmp_path: Path
) -> None:
    scenario = RECOVERIES[name]
    template = Template(programs, scenario, tmp_path / "journal")
    directory = template.directory
    assert programs.run(scenario.plan(directory, 1, "recover")).violations == []
    once = read_journal(directory, scenario.seed)
    # How many frames were damaged is not known, so those behind the damage have other numbers.
    assert judge(once, [template.ledger], gaps=scenario.has_gaps, numbered=not scenario.has_gaps) == []
    assert programs.run(scenario.plan(directory, 2, "recover")).violations == []
    assert read_journal(directory, scenario.seed) == once


@pytest.mark.parametrize("checksum", ["crc16", "crc32", "xxhash64"])
def test_zeros_behind_a_cut_make_no_frame(checksum: str, tmp_path: Path) -> None:
    journal = CutJournal(tmp_path / "journal", checksum, 1)
    random_ = random.Random(1)
    for length in [*range(1, 20), 100, 511, 512, 4096, 8192]:
        cut = random_.randrange(len(journal.content) + 1)
        assert list(journal.problems_with(cut, bytes(length), reopens=length % 4 == 0)) == []


def test_random_bytes_behind_a_cut_make_no_frame(tmp_path: Path) -> None:
    journal = CutJournal(tmp_path / "journal", "xxhash64", 1)
    random_ = random.Random(2)
    for length in [*range(1, 20), 100, 511, 512, 4096, 8192]:
        cut = random_.randrange(len(journal.content) + 1)
        assert list(journal.problems_with(cut, random_.randbytes(length), reopens=length % 4 == 0)) == []


# Errors


def write_durably(writer: JournalWriter, numbers: range) -> None:
    for number in numbers:
        writer.write_payload(payload_of(1, 0, 0, number))
        writer.wait_durable()


@pytest.mark.parametrize("limit", [1, 500, 511, 700, 777])
def test_limit_on_the_size_of_files_leaves_no_frame_behind_torn_bytes(
    limit: int, programs: Programs, tmp_path: Path
) -> None:
    script = (("write", 30, 40), "flush", ("write", 3, 40), "sync", ("batch", 2, 9), "flush")
    plan = Plan(str(tmp_path / "journal"), limit, 0, "script", script=script, options={"buffer_size": 100})
    limited = programs.run(Plan(**{**vars(plan), "file_size_limit": limit}))
    again = programs.run(Plan(**{**vars(plan), "run": 1}))
    assert limited.errors
    assert not again.errors
    assert judge(read_journal(plan.directory, limit), [limited, again]) == []


@pytest.mark.parametrize("policy", ["never", "each", SyncPolicy(frames=2), SyncPolicy(seconds=0.001)])
def test_failed_sync_poisons_the_journal(policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path / "journal", sync=policy)
    writer.write_payload(payload_of(1, 0, 0, 0))
    writer.sync()
    durable = writer.durable_position
    assert durable == 1

    def fail(_: int) -> None:
        raise device_error(errno.EIO)

    monkeypatch.setattr(flatstream.journal._segments, "fdatasync", fail)
    with pytest.raises((OSError, FlatStreamError)):
        write_durably(writer, range(1, 4))
    monkeypatch.undo()
    for call in (
        lambda: writer.write_payload(b"later"),
        lambda: writer.write_payloads([b"later"]),
        writer.flush,
        writer.sync,
        writer.rotate,
    ):
        with pytest.raises(FlatStreamError):
            call()
    assert writer.metrics().poisoned
    assert writer.health()
    assert writer.durable_position == durable
    with pytest.raises(FlatStreamError):
        writer.close()
    frames = read_journal(tmp_path / "journal", 1).frames
    assert frames[0] == (0, Claim(0, 0, 0))


# Others


def test_second_writer_is_refused(programs: Programs, tmp_path: Path) -> None:
    plan = Plan(str(tmp_path / "journal"), 3, 0, "steadily")
    running = programs.start(plan)
    while running.ledger.first is None:
        assert running.listen(1)
    second = programs.run(Plan(**{**vars(plan), "run": 1, "does": "second"}))
    assert second.is_finished
    assert second.violations == []
    running.kill()


def test_forked_child_writes_nothing(programs: Programs, tmp_path: Path) -> None:
    plan = Plan(str(tmp_path / "journal"), 4, 0, "fork", sync=0.002, rotate={"max_frames": 30})
    ledgers = [programs.run(Plan(**{**vars(plan), "run": run})) for run in range(3)]
    assert all(ledger.is_finished and not ledger.errors for ledger in ledgers)
    assert judge(read_journal(plan.directory, plan.seed), ledgers) == []


def test_clock_that_jumps_disturbs_nothing(programs: Programs, tmp_path: Path) -> None:
    script = (("write", 60, 40), "flush") * 3
    steps = (-1e6, 3600.0, -1.7e9, 0.01, 1e6) * 30
    plan = Plan(
        str(tmp_path / "journal"), 4, 0, "script", rotate={"max_seconds": 0.005}, clock_steps=steps, script=script
    )
    ledgers = [programs.run(Plan(**{**vars(plan), "run": run})) for run in range(3)]
    assert all(ledger.is_finished and not ledger.errors for ledger in ledgers)
    assert judge(read_journal(plan.directory, plan.seed), ledgers) == []

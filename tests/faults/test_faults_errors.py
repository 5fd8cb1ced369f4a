"""Calls of the system that fail: each with each error, a full disk, a limit on the size of files, a failed fsync."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import journal_strace
from support.fault_counts import Count
from support.journal_child import Plan
from support.journal_faults import Programs, random_plan, share_of
from support.journal_frames import judge, read_journal
from support.journal_scenarios import RECOVERIES, WRITINGS, Template, differences_after_recovery, tear
from support.journal_strace import READS, Call, Traced, calls_to_hit, run_traced

pytestmark = pytest.mark.faults

NO_STRACE = journal_strace.missing()
needs_strace = pytest.mark.skipif(NO_STRACE is not None, reason=NO_STRACE or "")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

ERRORS = ("ENOSPC", "EIO", "EINTR", "EAGAIN", "EDQUOT", "EFBIG")
FAILING = ("write", "writev", "pwrite64", "openat", "fdatasync", "fsync", "ftruncate", "rename", "close", "unlink")
WRITES = ("write", "writev", "pwrite64", "pwritev")
SYNCS = ("fdatasync", "fsync")


def counted_calls(programs: Programs, template: Template, folder: Path) -> list[Call]:
    directory = template.copy(folder / "counted")
    traced = run_traced(programs, template.scenario.plan(directory, run=1), folder / "log")
    shutil.rmtree(directory)
    assert traced.ledger.is_finished
    return calls_to_hit(traced.calls, FAILING)


def is_of_segment(text: str) -> bool:
    """Whether a call's descriptor is that of a segment, as strace shows it."""
    return ".fs>" in text.partition(",")[0]


def judged(programs: Programs, template: Template, directory: Path, traced: Traced) -> list[str]:
    """What is wrong after a run in which a call failed, and after a next one."""
    scenario = template.scenario
    removed = bool(scenario.settings.get("retain"))
    problems = []
    if not traced.ledger.is_finished:
        problems.append(f"the program did not come to its end: status {traced.status}, {traced.ledger}")
    again = programs.run(scenario.plan(directory, run=2))
    if not again.is_finished or again.errors:
        problems.append(f"the next writer failed: {again}")
    reading = read_journal(directory, scenario.seed)
    ledgers = [template.ledger, traced.ledger, again]
    # On a full disk a torn tail that cannot be saved stays where it is, as damage.
    is_kept = scenario.damage is tear and any("ENOSPC" in text or "EDQUOT" in text for text in traced.injected)
    return problems + judge(reading, ledgers, removed=removed, gaps=is_kept)


def injected(programs: Programs, template: Template, folder: Path, injection: str) -> tuple[Traced, list[str]]:
    """Runs the program with an injection; what it told, and what is wrong."""
    directory = template.copy(folder / "journal")
    try:
        traced = run_traced(programs, template.scenario.plan(directory, run=1), folder / "log", injection)
        return traced, [f"{injection}: {text}" for text in judged(programs, template, directory, traced)]
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@needs_strace
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", WRITINGS)
def test_error_of_each_call_leaves_no_frame_behind_torn_bytes(
    name: str, error: str, programs: Programs, memory_path: Path, count: Count
) -> None:
    template = Template(programs, WRITINGS[name], memory_path / "template")
    calls = counted_calls(programs, template, memory_path)
    calls = calls[:: max(1, len(calls) // share_of(len(calls)))]
    problems: list[str] = []
    cases = failed_syncs = 0
    for call in calls:
        traced, wrong = injected(programs, template, memory_path, f"{call.name}:error={error}:when={call.number}")
        # The journal's thread made fewer calls this time.
        if not traced.injected:
            continue
        cases += 1
        # Python tries again after EINTR, so nothing has failed. A journal that could not be opened was not changed.
        if call.name in SYNCS and any(map(is_of_segment, traced.injected)) and error != "EINTR":
            was_opened = all(errors[0] != "open" for errors in traced.ledger.errors)
            failed_syncs += was_opened
            if was_opened and not traced.ledger.is_poisoned:
                wrong.append(f"{call} failed, and the journal is not poisoned: {traced.ledger.errors}")
        if call.name not in SYNCS and traced.ledger.is_poisoned:
            wrong.append(f"no sync failed, and the journal is poisoned: {traced.ledger.errors}")
        problems += [f"{name}, {call.text}: {text}" for text in wrong]
    assert cases >= max(1, len(calls) // 2)
    count(f"{error} from one system call", cases, problems)
    if failed_syncs:
        count("a failed fsync or fdatasync", failed_syncs, [])


@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("name", WRITINGS)
def test_disk_that_takes_nothing_more_keeps_what_it_has(
    name: str, error: str, programs: Programs, memory_path: Path, count: Count
) -> None:
    template = Template(programs, WRITINGS[name], memory_path / "template")
    calls = [call for call in counted_calls(programs, template, memory_path) if call.name in WRITES]
    calls = calls[:: max(1, len(calls) // share_of(len(calls)))]
    problems: list[str] = []
    for call in calls:
        _, wrong = injected(programs, template, memory_path, f"{call.name}:error={error}:when={call.number}+")
        problems += [f"{name}, {call.text}: {text}" for text in wrong]
    count("ENOSPC or EIO from each write from one on", len(calls), problems)


@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("name", RECOVERIES)
def test_error_of_each_call_of_recovery_leaves_a_journal_that_recovers_to_the_same(
    name: str, error: str, programs: Programs, memory_path: Path, count: Count
) -> None:
    scenario = RECOVERIES[name]
    template = Template(programs, scenario, memory_path / "template")
    undisturbed = template.copy(memory_path / "undisturbed")
    traced = run_traced(programs, scenario.plan(undisturbed, run=1), memory_path / "log", reads=True)
    assert traced.ledger.is_finished
    calls = calls_to_hit(traced.calls, [*FAILING, *READS])
    calls = calls[:: max(1, len(calls) // share_of(len(calls)))]
    problems: list[str] = []
    for index, call in enumerate(calls):
        directory = template.copy(memory_path / f"{index}")
        injection = f"{call.name}:error={error}:when={call.number}"
        # It is opened again if it fails.
        failed = run_traced(programs, scenario.plan(directory, run=1), memory_path / "log", injection, reads=True)
        wrong = [] if failed.ledger.is_finished else [f"it did not come to its end: {failed.ledger}"]
        wrong += differences_after_recovery(programs, scenario, directory, undisturbed, is_full=error == "ENOSPC")
        problems += [f"{name}, {call.text}: {text}" for text in wrong]
        shutil.rmtree(directory)
    count("ENOSPC or EIO from one system call of recovery", len(calls), problems)


# Short writes


@pytest.mark.parametrize("part", range(4))
def test_limit_on_the_size_of_files_leaves_no_frame_behind_torn_bytes(
    part: int, programs: Programs, memory_path: Path, count: Count
) -> None:
    # The last write before the limit is a short one, whatever the limit is: each number of bytes of a frame.
    limits = list(range(600 + part, 1000, 4))
    limits = limits[:: max(1, len(limits) // share_of(len(limits)))]
    problems: list[str] = []
    for limit in limits:
        directory = memory_path / f"journal-{limit}"
        options = {"buffer_size": (0, 64, 300, 4096)[limit % 16 // 4]}
        script = (("write", 30, 40), "flush", ("write", 3, 40), "sync", ("batch", 2, 9), "flush")
        plan = Plan(str(directory), limit, 0, "script", script=script, options=options, sync=(None, 5)[limit % 3 == 0])
        limited = programs.run(Plan(**{**vars(plan), "file_size_limit": limit}))
        again = programs.run(Plan(**{**vars(plan), "run": 1}))
        if not limited.is_finished or not again.is_finished or again.errors or not limited.errors:
            problems.append(f"limit {limit}: {limited}, then {again}")
        found = judge(read_journal(directory, limit), [limited, again])
        problems += [f"limit {limit}, {options}: {text}" for text in found]
        shutil.rmtree(directory)
    count("short writes: the limit on the size of files (RLIMIT_FSIZE)", len(limits), problems)


# A full disk


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of `size` bytes."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes=200", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


POLICIES = ("raise", "drop_newest", "drop_oldest")


@needs_root
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("policy", POLICIES)
def test_full_disk_loses_what_its_policy_says_and_goes_on_when_there_is_room(
    policy: str, seed: int, programs: Programs, tmp_path: Path, count: Count
) -> None:
    random_ = random.Random(seed)
    rounds = share_of(4)
    problems: list[str] = []
    for index in range(rounds):
        with small_disk(tmp_path / f"disk-{index}", 256 << 10) as disk:
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(random_.randrange(110, 160) << 10))
            plan = random_plan(
                random_, disk / "journal", seed * 100 + index, does="until full", sync=random_.choice([None, 7, 0.002]),
                rotate=random_.choice([{"max_frames": 100}, {"max_bytes": 20_000}, {"max_bytes": 1 << 20}]),
                options={"buffer_size": random_.choice([0, 4096, 65536]), "when_full": policy},
            )  # fmt: skip
            running = programs.start(plan)
            running.await_gate()
            ballast.unlink(missing_ok=True)
            running.release()
            status = running.end()
            ledger = running.ledger
            again = programs.run(Plan(**{**vars(plan), "run": 1, "does": "recover"}))
            where = f"{plan.seed}, {plan.sync}, {plan.rotate}, {plan.options}: "
            if status or not ledger.is_finished or not again.is_finished:
                problems.append(f"{where}status {status}, {ledger}, then {again}")
            reading = read_journal(plan.directory, plan.seed)
            has_met_it = {
                "raise": bool(ledger.errors),
                "drop_newest": ledger.dropped > 0,
                # If there is no older segment, it fails.
                "drop_oldest": reading.frames[0].number > 0 or bool(ledger.errors),
            }
            if not has_met_it[policy]:
                problems.append(f"{where}the disk was never full: {ledger}")
            gaps, removed = policy == "drop_newest", policy == "drop_oldest"
            problems += [where + text for text in judge(reading, [ledger, again], gaps=gaps, removed=removed)]
    count("a tmpfs that is full, then has room again", rounds, problems)

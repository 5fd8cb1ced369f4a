"""Writers that are killed: at any moment, and at each call of the system, also while they recover a journal."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from support import journal_strace
from support.fault_counts import Count
from support.journal_faults import Programs, kill_at_random, share_of
from support.journal_frames import judge, read_journal
from support.journal_scenarios import RECOVERIES, WRITINGS, Scenario, Template, differences_after_recovery
from support.journal_strace import CALLS, Call, calls_to_hit, run_traced

pytestmark = pytest.mark.faults

CHAINS = 50
KILLS = 20

NO_STRACE = journal_strace.missing()
needs_strace = pytest.mark.skipif(NO_STRACE is not None, reason=NO_STRACE or "")

# The calls of a scenario are shared out between so many tests, which can run at the same time.
PARTS = 4


@pytest.mark.parametrize("seed", range(CHAINS))
def test_sigkill_at_random_moments_loses_no_acknowledged_frame(
    seed: int, programs: Programs, tmp_path: Path, memory_path: Path, count: Count
) -> None:
    kills = share_of(KILLS)
    # Half of them where syncing takes its time.
    problems = kill_at_random(programs, tmp_path if seed % 2 else memory_path, seed, kills)
    count("SIGKILL at a random moment", kills, problems)


def changing_calls(programs: Programs, template: Template, folder: Path, gate: str = "begin") -> list[Call]:
    """The calls of the system of a scenario that runs to its end."""
    directory = template.copy(folder / "counted")
    traced = run_traced(programs, template.scenario.plan(directory, run=1, gate=gate), folder / "log")
    shutil.rmtree(directory)
    assert traced.status == 0
    assert traced.ledger.is_finished
    assert not traced.ledger.violations
    return calls_to_hit(traced.calls, CALLS)


def part_of(calls: list[Call], part: int) -> list[Call]:
    chosen = calls[part::PARTS]
    return chosen[:: max(1, len(chosen) // share_of(len(chosen)))]


def every_part(scenarios: dict[str, Scenario]) -> pytest.MarkDecorator:
    names = [(name, part) for name in scenarios for part in range(PARTS)]
    return pytest.mark.parametrize(("name", "part"), names, ids=[f"{name}-{part}" for name, part in names])


# From the opening on, and from there on: the first calls of the journal's own thread are counted apart in the second.
@needs_strace
@pytest.mark.parametrize("gate", ["begin", "opened"])
@every_part(WRITINGS)
def test_sigkill_at_each_call_of_a_writer_loses_no_acknowledged_frame(
    name: str, part: int, gate: str, programs: Programs, memory_path: Path, count: Count
) -> None:
    scenario = WRITINGS[name]
    template = Template(programs, scenario, memory_path / "template")
    calls = part_of(changing_calls(programs, template, memory_path, gate), part)
    problems: list[str] = []
    cases = 0
    for index, call in enumerate(calls):
        directory = template.copy(memory_path / f"{index}")
        plan = scenario.plan(directory, run=1, gate=gate)
        killed = run_traced(programs, plan, memory_path / "log", f"{call.name}:signal=SIGKILL:when={call.number}")
        # The journal's thread made fewer calls this time.
        cases += killed.status == -9
        again = programs.run(scenario.plan(directory, run=2))
        if not again.is_finished:
            problems.append(f"{call}: the next writer did not finish: {again}")
        reading = read_journal(directory, plan.seed)
        ledgers = [template.ledger, killed.ledger, again]
        found = judge(reading, ledgers, removed=bool(plan.retain), gaps=scenario.has_gaps)
        problems += [f"{name}, {call}: {text}" for text in found]
        shutil.rmtree(directory)
    assert cases > len(calls) // 2
    count("SIGKILL at a system call, while a journal is made, written, rotated and thinned out", cases, problems)


@needs_strace
@every_part(RECOVERIES)
def test_sigkill_at_each_call_of_recovery_leaves_a_journal_that_recovers_to_the_same(
    name: str, part: int, programs: Programs, memory_path: Path, count: Count
) -> None:
    scenario = RECOVERIES[name]
    template = Template(programs, scenario, memory_path / "template")
    undisturbed = template.copy(memory_path / "undisturbed")
    programs.run(scenario.plan(undisturbed, run=1, does="recover"))
    all_calls = changing_calls(programs, template, memory_path)
    calls = part_of(all_calls, part)
    random_ = random.Random(part)
    problems: list[str] = []
    twice = 0
    for index, call in enumerate(calls):
        directory = template.copy(memory_path / f"{index}")
        plan = scenario.plan(directory, run=1, does="recover")
        killed = run_traced(programs, plan, memory_path / "log", f"{call.name}:signal=SIGKILL:when={call.number}")
        if killed.status != -9:
            problems.append(f"{call}: exit status {killed.status}")
        where = f"{call.text}"
        if index % 2:
            twice += 1
            second = random_.choice(all_calls)
            injection = f"{second.name}:signal=SIGKILL:when={second.number}"
            run_traced(programs, plan, memory_path / "log", injection)
            where += f", then {second}"
        different = differences_after_recovery(programs, scenario, directory, undisturbed)
        problems += [f"{name}, {where}: {text}" for text in different]
        shutil.rmtree(directory)
    count("SIGKILL at a system call of recovery, then recovery again", len(calls) - twice, problems)
    count("SIGKILL at system calls of two recoveries, then recovery again", twice, [])

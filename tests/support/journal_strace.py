"""Programs whose calls of the system are counted, fail, or are their last: by strace, which attaches to them.

A program waits until strace is there (`Plan.gate`), so that calls are counted from there on. The programs make nearly
the same calls each time: so each call of a first run has its number in the next ones. strace counts the calls of each
thread for itself, and the journal's own thread makes a few more or less from time to time.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from support.journal_child import Plan
from support.journal_faults import PATIENCE, Programs, Running
from support.journal_frames import Ledger

# Calls that change something, or that could fail in a journal. Those that a machine does not have are passed over.
CALLS = [
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "open", "openat", "creat", "fdatasync", "fsync"),
    *("sync_file_range", "ftruncate", "truncate", "fallocate", "rename", "renameat", "renameat2", "unlink", "unlinkat"),
    *("close", "link", "linkat", "flock", "mkdir", "mkdirat", "copy_file_range", "sendfile"),
]
READS = ("read", "pread64", "getdents64", "fstat", "newfstatat")

LINE = re.compile(r"^(?:(\d+) +)?(\w+)\((.*)")


class Call(NamedTuple):
    """One call of a first run: the `number`-th of its name in its thread, counted from 1, and how strace shows it."""

    name: str
    number: int
    text: str


@dataclass
class Traced:
    """A program's run under strace: what it told, its exit status, and its calls."""

    ledger: Ledger
    status: int
    calls: list[Call]

    @property
    def injected(self) -> list[str]:
        """The calls that strace made fail."""
        return [call.text for call in self.calls if "(INJECTED)" in call.text]


def missing() -> str | None:
    """What this machine lacks for these tests; None if it lacks nothing."""
    if shutil.which("strace") is None:
        return "strace is missing"
    if os.geteuid() != 0:
        return "attaching strace needs root"
    tried = subprocess.run(
        ["strace", "-o", os.devnull, "-e", "inject=fsync:error=EIO:when=1", "true"], capture_output=True, check=False
    )
    return (
        None if tried.returncode == 0 else f"strace does not work here: {tried.stderr.decode(errors='replace')[:200]}"
    )


def run_traced(programs: Programs, plan: Plan, log: Path, *injections: str, reads: bool = False) -> Traced:
    """Runs a program under strace, which does `injections` (as in ``strace --inject``)."""
    running = programs.start(plan if plan.gate else Plan(**{**vars(plan), "gate": "begin"}))
    # What it does before is not counted.
    running.await_gate()
    calls = [*CALLS, *(READS if reads else ())]
    command = ["strace", "-f", "-y", "-s", "8", "-o", str(log), "-p", str(running.pid)]
    command += ["-e", "trace=" + ",".join(f"?{name}" for name in calls), "-e", "signal=none"]
    for injection in injections:
        command += ["-e", f"inject={injection}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as strace:
        _await_attached(strace, running)
        running.release()
        status = running.end()
        # It ends with the last process that it has attached to.
        strace.wait(PATIENCE)
    return Traced(running.ledger, status, list(_calls_in(log)))


def calls_to_hit(calls: Iterable[Call], names: Iterable[str]) -> list[Call]:
    """One call for each name and number: a run stops at the thread that comes to this number first."""
    return list({(call.name, call.number): call for call in calls if call.name in names}.values())


def _await_attached(strace: subprocess.Popen[bytes], running: Running) -> None:
    assert strace.stderr is not None
    told = b""
    deadline = time.monotonic() + PATIENCE
    while b"attached" not in told:
        ready, _, _ = select.select([strace.stderr], [], [], 1)
        piece = os.read(strace.stderr.fileno(), 4096) if ready else b""
        told += piece
        if (ready and not piece) or time.monotonic() > deadline:
            os.kill(running.pid, 9)
            raise AssertionError(f"strace did not attach: {told.decode(errors='replace')}")


def _calls_in(log: Path) -> Iterator[Call]:
    counts: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if match := LINE.match(line):
            thread, name, text = match.groups()
            counts[thread, name] += 1
            yield Call(name, counts[thread, name], text)

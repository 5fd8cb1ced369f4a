"""Kills an export at each of its steps: a script that `test_parquet_killed` runs, because it forks.

    python export_kills.py SOURCE FOLDER BEGIN STRIDE COUNT

A run in a child process ends without a word at its n-th call that changes files or writes Parquet: n is BEGIN, BEGIN +
STRIDE and so on, until a run comes to its end. After each kill, a second run is killed at another step, and a third one
comes to its end; then there must be COUNT rows. Prints how many kills there were, and stops at the first mistake.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

# In place of the folder of this file, whose modules would hide others.
sys.path[0] = str(Path(__file__).parent.parent)

import pyarrow  # noqa: E402

import flatstream  # noqa: E402
import flatstream.columns.stream  # noqa: E402
from flatstream.datasets import _dataset, _export_run, _parquet  # noqa: E402, F401
from support.lakes import folder_of, leftovers_of, rows_of  # noqa: E402

# What changes files, or makes them lasting: by the name of the function.
CALLS = {"open", "replace", "rename", "link", "unlink", "mkdir", "write"}
METHODS = {"write_table", "close"}
# Functions of Python: of the second one, the call of os.open is made by compiled code, which no profiler sees.
FUNCTIONS = {"fsync", "open_descriptor"}
KILLED = 9


class Killer:
    """Ends the process at the n-th step."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            is_step = argument.__name__ in CALLS and "flatstream" in frame.f_code.co_filename
        else:
            name = frame.f_code.co_name
            is_step = event == "call" and (
                (name in METHODS and "parquet" in frame.f_code.co_filename) or name in FUNCTIONS
            )
        if is_step:
            self.steps += 1
            if self.steps == self.at:
                os._exit(KILLED)


def fsync(fd: int) -> None:
    """In place of the system's, which takes long: a process that is killed leaves all that it has written."""


def run(source: str, lake: Path, at: int | None) -> None:
    """One run of the export, in two steps; the process ends at a step of it."""
    vars(os)["fsync"] = fsync
    _export_run.STEP_BYTES = 4000
    _export_run.BATCH_ROWS = 40
    dataset = flatstream.dataset(source)
    if at is not None:
        killer = Killer(at)
        threading.setprofile(killer)
        sys.setprofile(killer)
    dataset.to_parquet(lake, row_group_rows=25)
    sys.setprofile(None)


def child(work: Any, *arguments: Any) -> int:
    """The exit status of a forked process that does some work."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work(*arguments)
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(lake: Path, count: int) -> None:
    """Every row is there once, where it belongs, and nothing else is."""
    expected = sorted((folder_of(number), number) for number in range(count))
    found = rows_of(lake)
    assert found == expected, f"{len(found)} rows, expected {count}"
    assert leftovers_of(lake) == []


def main() -> None:
    source, folder, begin, stride = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    count = int(sys.argv[5])
    # Imports pandas, if it is there, which takes longer than all else: not in each child.
    pyarrow.array([0])
    kills = 0
    at = begin
    while True:
        lake = folder / f"lake{at}"
        status = child(run, source, lake, at)
        if status == 0:
            break
        assert status == KILLED, f"step {at}: exit status {status}"
        kills += 1
        # The run that cleans up after it is killed, too.
        if child(run, source, lake, 1 + at * 7 % 23) == KILLED:
            kills += 1
        assert child(run, source, lake, None) == 0, f"step {at}: the last run"
        assert child(check, lake, count) == 0, f"step {at}: the rows"
        at += stride
    print(kills)


if __name__ == "__main__":
    begun = time.monotonic()
    main()
    print(f"{time.monotonic() - begun:.1f} s", file=sys.stderr)

"""How many faults of each kind the tests of ``faults/`` tried: printed, and kept in docs/reliability.md."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# The name under which a test's counts travel with its report, from process to process.
PROPERTY = "fault cases"

# If set: the document that gets the table, between the markers.
TABLE = os.environ.get("FLATSTREAM_FAULT_TABLE")
BEGIN, END = "<!-- counts -->", "<!-- /counts -->"

# The fixture `count`: counts cases of a kind for the table, and fails if anything is wrong.
Count = Callable[[str, int, list[str]], None]

# The kinds of cases, in the order of the table.
KINDS = (
    "SIGKILL at a random moment",
    "SIGKILL at a system call, while a journal is made, written, rotated and thinned out",
    "SIGKILL at a system call of recovery, then recovery again",
    "SIGKILL at system calls of two recoveries, then recovery again",
    "ENOSPC from one system call",
    "EIO from one system call",
    "EINTR from one system call",
    "EAGAIN from one system call",
    "EDQUOT from one system call",
    "EFBIG from one system call",
    "ENOSPC or EIO from each write from one on",
    "ENOSPC or EIO from one system call of recovery",
    "a failed fsync or fdatasync",
    "short writes: the limit on the size of files (RLIMIT_FSIZE)",
    "a tmpfs that is full, then has room again",
    "power cut with ext4",
    "power cut with ext4, data=writeback",
    "power cut with XFS",
    "zeros behind a cut of the last segment",
    "random bytes behind a cut of the last segment",
    "a second writer on the folder",
    "a fork while the writer is open",
    "a clock that jumps, under rotation by time",
    "retention under a slow reader, with and without a name",
    "rotations under a follower, while the writer is killed and started again",
)


def table_of(reports: Iterable[Any]) -> list[str]:
    """The lines of a table of all cases in the reports of tests, as Markdown. Empty if there are none."""
    cases = dict.fromkeys(KINDS, 0)
    failures = dict.fromkeys(KINDS, 0)
    for report in reports:
        for name, value in report.user_properties:
            if name == PROPERTY:
                kind, count, failed = value
                cases[kind] += count
                failures[kind] += failed
    lines = [
        f"| {kind} | {cases[kind]:,} | {failures[kind]:,} |" if cases[kind] else f"| {kind} | not run | |"
        for kind in KINDS
    ]
    if not any(cases.values()):
        return []
    total = f"| **all** | **{sum(cases.values()):,}** | **{sum(failures.values()):,}** |"
    return ["| what | cases | failures |", "|---|--:|--:|", *lines, total]


def left_out(skipped: Iterable[Any]) -> list[str]:
    """Lines that say which tests were skipped, and what the machine lacks for them."""
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if not reasons:
        return []
    return ["", *(f"Left out: {count} tests, because {reason}." for reason, count in sorted(reasons.items()))]


def write_table(lines: Iterable[str], document: Path) -> None:
    """Puts the table between the markers of a document."""
    text = document.read_text() if document.exists() else f"# Reliability\n\n{BEGIN}\n{END}\n"
    before, found, rest = text.partition(BEGIN)
    _, ended, behind = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{document} has no {BEGIN} ... {END}")
    table = "\n".join(lines)
    document.write_text(f"{before}{BEGIN}\n{table}\n{END}{behind}")

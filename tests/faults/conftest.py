"""Fixtures of the fault injection, and its table at the end of the run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fault_counts import PROPERTY, TABLE, Count, left_out, table_of, write_table
from support.journal_faults import Programs

IN_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    """The server that starts programs."""
    with Programs() as made:
        yield made


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if there is one: syncing takes no time there."""
    if not IN_MEMORY.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="flatstream-faults-", dir=IN_MEMORY))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def count(record_property: Callable[[str, Any], None]) -> Count:
    """Counts the cases of a kind for the table, and fails the test if anything is wrong."""

    def count(kind: str, cases: int, problems: list[str]) -> None:
        record_property(PROPERTY, [kind, cases, len(problems)])
        assert not problems, "\n".join([f"{len(problems)} problems", *problems[:20]])

    return count


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = table_of(report for report in reports if report.when == "call")
    if not lines:
        return
    lines += left_out(terminalreporter.getreports("skipped"))
    terminalreporter.section("faults")
    for line in lines:
        terminalreporter.line(line)
    if TABLE:
        write_table(lines, Path(TABLE))

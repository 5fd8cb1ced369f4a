"""How the tests are shared between processes: whole files, one after the other, and never two that are timed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("xdist", reason="make test has no other way to share the tests")


class Process:
    """A process of xdist's, which notes what it is given and has done everything at once when it is asked to."""

    def __init__(self, name: str, tests: list[str]) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self._tests = tests
        self._next = 0
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def run_one(self, scheduler: Any) -> bool:
        if self._next == len(self.given):
            return False
        self._next += 1
        scheduler.mark_test_complete(self, self.given[self._next - 1])
        return True

    @property
    def ran(self) -> list[str]:
        return [self._tests[index] for index in self.given]


def shared(config: pytest.Config, tests: list[str]) -> list[list[str]]:
    """What each of two processes that are equally fast runs."""
    options = SimpleNamespace(loadscopereorder=False)
    values = {"dist": "loadgroup", "tx": ["2*popen"]}
    stub = SimpleNamespace(getvalue=values.get, option=options, hook=config.hook)
    scheduler = config.hook.pytest_xdist_make_scheduler(config=stub, log=None)
    processes = [Process(name, tests) for name in ("first", "second")]
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, tests)
    scheduler.schedule()
    # By turns, so that none is faster.
    while sum(process.run_one(scheduler) for process in processes):
        pass
    assert scheduler.tests_finished
    return [process.ran for process in processes]


def test_each_file_is_run_by_one_process_without_others_in_between(pytestconfig: pytest.Config) -> None:
    files = ["tests/stream/test_a.py", "tests/stream/test_b.py", "tests/aio/test_c.py", "flatstream/records.py"]
    # Names as they are, and as xdist changes them if pytest lets it; some have its sign in a parameter.
    names = ["test_x", "Class::test_y", "test_z[a::b@c]", "test_x@group"]
    tests = [f"{file}::{name}" for file in files for name in names]
    found = shared(pytestconfig, tests)
    assert sorted(found[0] + found[1]) == sorted(tests)
    for ran in found:
        assert len(ran) == 2 * len(names)
        for begin in range(0, len(ran), len(names)):
            assert len({name.partition("::")[0] for name in ran[begin : begin + len(names)]}) == 1


def test_files_that_are_timed_are_run_by_one_process(pytestconfig: pytest.Config) -> None:
    timed = ["tests/robustness/test_concurrency.py", "tests/checksums/test_lock_release.py"]
    others = [f"tests/stream/test_{letter}.py" for letter in "abcdef"]
    found = shared(pytestconfig, [f"{file}::test_x" for file in timed[:1] + others + timed[1:]])
    assert [name.partition("::")[0] for name in found[0] if "stream" not in name] == timed
    assert not any(name.partition("::")[0] in timed for name in found[1])


def test_faults_of_a_file_are_shared_out(pytestconfig: pytest.Config) -> None:
    tests = [f"tests/faults/test_faults_kills.py::test_x[{number}]" for number in range(10)]
    first, second = shared(pytestconfig, tests)
    assert len(first) == len(second) == 5

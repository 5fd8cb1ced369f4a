"""Settings and fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support.extent import is_left_to_long

# A shell that runs a command in the background has it ignore SIGINT, and so do its children. Tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: under the sanitizers, and while two test runs share a machine, time says nothing. `derandomize` keeps a
# run the same as the one before it; `make test-long` looks further.
settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=20, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", parent=settings.get_profile("default"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("FLATSTREAM_HYPOTHESIS", "default"))

# The files that take longest, in seconds on two cores: begun first, so that the processes end together.
SLOWEST = {
    "test_benchmarks": 14,
    "test_typing": 10,
    "test_examples": 10,
    "test_crc_kernels": 9,
    "test_tutorial": 8,
    "test_half_made_objects": 8,
    "test_columns": 8,
    "test_reader_follow": 7,
    "test_replay": 7,
    "test_equality": 7,
    "test_pickling": 7,
    "test_convert_files": 6,
    "test_collector": 6,
    "test_benchmark_peers": 6,
    "test_resync_sources": 6,
    "test_agent": 5,
    "test_arrow_export": 5,
    "test_sizes": 5,
    "test_convert_command": 4,
    "test_checksums": 4,
    "test_crc_doors": 4,
    "test_threaded_end": 4,
    "test_following_inputs": 4,
    "test_journal_writer": 4,
    "test_records_out_damage": 4,
    "test_next_frames": 4,
    "test_recovery_guard": 4,
    "test_schema": 4,
    "test_faults_quick": 4,
}

# Tests that measure who runs when, or are interrupted at a moment of the clock: never two of them at once.
TIMED = {"test_concurrency", "test_lock_release", "test_lock_release_threads", "test_signals_and_forks"}


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what `make test` leaves out, and puts the files that take longest first."""
    for item in items:
        if hasattr(item, "callspec") and is_left_to_long(item.path.stem, item.callspec.params.values()):
            item.add_marker("long")
    if config.pluginmanager.hasplugin("xdist"):
        items.sort(key=lambda item: 60 if item.path.stem in TIMED else SLOWEST.get(item.path.stem, 0), reverse=True)


def group_of(test: str) -> str:
    """What a process takes at once, of which the test with this name is part: a file, or all that is timed."""
    path = PurePosixPath(test.partition("::")[0])
    if path.stem in TIMED:
        return "timed"
    # The faults of a file can be shared out: each is a program of its own.
    return test if "faults" in path.parts else str(path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Shares the tests between processes.

    Not by xdist's marks of groups, which pytest 9.2 leaves without effect: xdist writes them into names that are no
    longer read. Each process would take every second test, and make what the tests of a file share.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Runs a test without what others have hung on the garbage collector (Hypothesis does).

    An exception that a signal handler raises in there is swallowed, and a test of signals waits for it in vain.
    """
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    try:
        return (yield)
    finally:
        gc.callbacks[:] = callbacks


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Calls a test from a generator, which has handled exceptions of its own.

    CPython 3.11 leaves one behind if a trace function or a signal handler raises at the line of an `except`, and all
    exceptions that later tests raise would have it as their context.
    """
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    called = (pyfuncitem.obj(**values) for values in (arguments,))
    assert next(called) is None, "a test returns nothing"
    return True


def pytest_collection_finish() -> None:
    """Has the garbage collector look at what the tests make only.

    Many tests call it, and the libraries and 15,000 tests are millions of objects: a call takes 0.3 s with them, and
    3 ms without.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    if (processes := sys.modules.get("support.processes")) is not None:
        processes.stop_server()


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Has the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def bystander() -> Iterator[Any]:
    """A `support.bystander.Bystander`: a thread that notices when the interpreter's lock is released."""
    from support.bystander import Bystander

    with Bystander() as made:
        yield made


@pytest.fixture
def quick_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the reference calculate its checksums in C: its own take a second for 256 KiB."""
    from reference.framing import ALGORITHMS
    from support.bystander import QUICK

    for name, algorithm in QUICK.items():
        monkeypatch.setitem(ALGORITHMS, name, algorithm)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Has the garbage collector look at what is made in this file only, since many tests call it.

    Not all garbage is collected here, which would take as long as it saves.
    """
    gc.collect(1)
    gc.freeze()


@pytest.fixture(scope="module")
def quick_collections() -> None:
    """Collects all garbage first, where the collector is called a thousand times."""
    gc.collect()
    gc.freeze()

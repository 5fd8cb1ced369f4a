"""JournalWriter and handlers of signals: their exceptions at any point, and handlers that use the journal."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flatstream import StreamReader
from flatstream.errors import FlatStreamError
from flatstream.index import FileIndexer
from flatstream.journal import JournalReader, JournalWriter, RotationPolicy, SyncPolicy, _indexing, _keeper, _segments
from flatstream.journal import writer as journal_writer
from flatstream.journal._worker import Worker
from flatstream.tools import check_index
from support.alarms import Alarm
from support.events import EVENT, write_events
from support.extent import EVERYTHING
from support.gated import wait_until
from support.interrupts import Interrupted, Interruption
from support.journals import Disk, failing_disk, frames_of, segments_of
from support.logs import log_lines
from support.processes import run_python
from support.threads import JOIN_SECONDS, run_threads

FILES = ("journal/_segments.py", "journal/_heads.py", "journal/writer.py", "flatstream/_lock.py")


class Synced:
    """What was synced: the sizes of files, and names in folders."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.names: set[str] = set()

    def sync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self.names.update(os.listdir(descriptor))
        else:
            self.sizes[status.st_ino] = status.st_size

    def has(self, directory: Path, position: int) -> bool:
        """Whether the disk has all frames with smaller numbers."""
        number = 0
        for first, path in segments_of(directory).items():
            if first >= position:
                break
            assert first == number
            status = path.stat()
            data = path.read_bytes()[: self.sizes.get(status.st_ino, 0)]
            with StreamReader(data, "xxhash64") as reader, contextlib.suppress(FlatStreamError):
                for _ in reader:
                    number += 1
            if path.name not in self.names:
                return False
        return number >= position


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Synced:
    made = Synced()
    monkeypatch.setattr(_segments, "fdatasync", made.sync)
    return made


def write(payload: bytes) -> Callable[[JournalWriter], bytes]:
    def do(journal: JournalWriter) -> bytes:
        journal.write_payload(payload)
        return payload

    return do


STEPS: list[Callable[[JournalWriter], bytes | None]] = [
    write(b"0" * 40),
    write(b"1"),
    JournalWriter.rotate,
    write(b"2"),
    JournalWriter.sync,
    write(b"3" * 10_000),
    write(b"4" * 40),
    write(b"5" * 40),
    lambda journal: journal.wait_durable(),
    write(b"6"),
    JournalWriter.rotate,
    write(b"7"),
]

POLICIES: dict[str, dict[str, Any]] = {
    "each": {"sync": "each", "rotate": RotationPolicy(max_frames=3)},
    # The description has some 230 bytes.
    "every 2 frames": {"sync": SyncPolicy(frames=2), "rotate": RotationPolicy(max_bytes=350)},
    "not buffered": {"buffer_size": 0, "rotate": RotationPolicy(max_bytes=120), "describe": False},
}


# A signal between the opening of a file and the statement that stores it leaves the file to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("policy", POLICIES)
def test_an_exception_of_a_handler_at_any_point_loses_and_doubles_nothing(
    tmp_path: Path, synced: Synced, policy: str
) -> None:
    at = 0
    place: str | None = ""
    while place is not None:
        at += 1 if EVERYTHING or at < 3 else 9 + at % 4
        directory = tmp_path / str(at)
        journal = JournalWriter(directory, **POLICIES[policy])
        interruption = Interruption(at, FILES)
        accepted = []
        for step in STEPS:
            before = journal.position
            payload = None
            try:
                with interruption.armed():
                    payload = step(journal)
            except Interrupted:
                # The payload of a write that was interrupted was accepted or not; `position` says which.
                if journal.position > before:
                    payload = next(one for one in map(payload_of, STEPS[STEPS.index(step) :]) if one is not None)
            if payload is not None:
                accepted.append(payload)
            assert journal.position == len(accepted), interruption.place
            assert synced.has(directory, journal.durable_position), interruption.place
        place = interruption.place
        with contextlib.suppress(Interrupted), interruption.armed():
            journal.close()
        place = interruption.place
        journal.close()
        assert journal.durable_position == len(accepted), place
        assert synced.has(directory, len(accepted)), place
        assert frames_of(directory) == dict(enumerate(accepted)), place
        with JournalWriter(directory) as again:
            assert again.position == len(accepted), place
    assert at > 100


# Of each frame the keeper is told, as of every fourth megabyte of a journal with indexes.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("buffer_size", [0, 100])
def test_an_exception_of_a_handler_while_the_keeper_is_told_that_a_segment_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer_size: int
) -> None:
    monkeypatch.setattr(journal_writer, "LOOK_EVERY", 1)
    at = 0
    place: str | None = ""
    while place is not None:
        at += 1
        directory = tmp_path / str(at)
        journal = JournalWriter(directory, buffer_size=buffer_size)
        interruption = Interruption(at, (*FILES, "journal/_keeper.py", "journal/_worker.py"))
        for number in range(3):
            with contextlib.suppress(Interrupted), interruption.armed():
                journal.write_payload(b"%d" % number * 90)
            if journal.position == number:
                journal.write_payload(b"%d" % number * 90)
        place = interruption.place
        journal.close()
        assert frames_of(directory) == {number: b"%d" % number * 90 for number in range(3)}, place
    assert at > 20


def payload_of(step: Callable[[JournalWriter], bytes | None]) -> bytes | None:
    closure = getattr(step, "__closure__", None)
    return closure[0].cell_contents if closure else None


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_exception_of_a_handler_while_frames_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_segments, "DROP_PAUSE", 0.0)
    at = 0
    place: str | None = ""
    while place is not None:
        at += 1 if EVERYTHING or at < 3 else 4 + at % 3
        directory = tmp_path / str(at)
        journal = JournalWriter(directory, when_full="drop_newest", rotate=RotationPolicy(max_frames=4))
        interruption = Interruption(at, FILES[:1])
        payloads = [b"%d" % number * 20 for number in range(10)]
        with failing_disk(monkeypatch) as disk:
            for number, payload in enumerate(payloads):
                journal.write_payload(payload)
                # The disk takes a part of a frame, then nothing, and then all again.
                disk.room = {3: 10, 4: 0, 5: 0, 7: 15}.get(number)
                for _ in range(2):
                    with contextlib.suppress(Interrupted), interruption.armed():
                        journal.flush()
                        break
        place = interruption.place
        journal.close()
        frames = frames_of(directory)
        assert frames == {number: payloads[number] for number in frames}, place
        dropped = {number for begin, end in journal._segments.dropped_ranges for number in range(begin, end)}
        assert sorted(frames) == sorted(set(range(10)) - dropped), place
        assert journal.metrics().dropped_frames == len(dropped), place
        assert 0 < len(dropped) < 6
    assert at > 20


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    with failing_disk(monkeypatch) as disk:
        yield disk


def ends(function: Callable[[], Any]) -> None:
    """Calls a function in a thread, which must come to its end, and raises what it raises."""
    run_threads(function)


def test_a_handler_can_write_in_the_middle_of_a_sync(tmp_path: Path, disk: Disk) -> None:
    with JournalWriter(tmp_path / "j", sync="each") as journal:
        journal.write_payload(b"a")

        def handler() -> None:
            disk.on_sync = None
            journal.write_payload(b"b")

        disk.on_sync = handler
        ends(journal.sync)
        assert journal.durable_position == journal.position == 2
    assert frames_of(tmp_path / "j") == {0: b"a", 1: b"b"}


def test_a_handler_in_the_middle_of_a_write_cannot_wait(tmp_path: Path, disk: Disk) -> None:
    with JournalWriter(tmp_path / "j", sync=SyncPolicy(frames=2)) as journal:
        journal.write_payload(b"a")
        told: list[str] = []

        def handler() -> None:
            disk.on_sync = None
            try:
                journal.wait_durable(1)
            except RuntimeError as error:
                told.append(str(error))

        disk.on_sync = handler
        ends(lambda: journal.write_payloads([b"b", b"c"]))
        assert told == ["reentrant call: this JournalWriter is in the middle of another operation"]
        journal.wait_durable()


@contextlib.contextmanager
def closing_on_a_signal(journal: JournalWriter) -> Iterator[list[str]]:
    """Has a signal close the journal, as programs do that are asked to end; gives what came of it."""
    seen: list[str] = []

    def handle(number: int, frame: Any) -> None:
        try:
            journal.close()
            seen.append("closed")
        except RuntimeError as error:
            seen.append(str(error))

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("point", ["stop", "seal", "index"])
def test_a_handler_can_close_in_the_middle_of_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    journal = JournalWriter(tmp_path / "j", describe=EVENT)
    monkeypatch.setattr(_indexing.Indexer, "work", lambda indexer: None)
    write_events(journal, range(100))
    points: dict[str, tuple[Any, str]] = {
        "stop": (_keeper.Keeper, "stop"),
        "seal": (JournalWriter, "_seal_last"),
        "index": (FileIndexer, "finish"),
    }
    kind, name = points[point]
    do = getattr(kind, name)

    def do_signalled(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(kind, name, do)
        os.kill(os.getpid(), signal.SIGUSR1)
        return do(*arguments, **options)

    monkeypatch.setattr(kind, name, do_signalled)
    with closing_on_a_signal(journal) as seen:
        journal.close()
    assert seen == ["closed"]
    assert journal.closed
    assert not journal._keeper.is_running
    with JournalWriter(tmp_path / "j") as again:
        assert again.position == 100
    report = check_index(tmp_path / "j")
    assert [one.state for one in report.checks] == ["fits"]


def test_a_handler_cannot_close_in_the_middle_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = JournalWriter(tmp_path / "j", buffer_size=0)
    segments = journal._segments
    fit, waits = segments._fit, threading.Event()

    def keep(wanted: int) -> None:
        waits.set()
        # As the thread does before it syncs: it waits for the end of the write.
        journal._call_exclusively(lambda: None)

    def fit_signalled(*arguments: Any) -> tuple[int, int]:
        journal._keeper.wake()
        assert waits.wait(JOIN_SECONDS)
        os.kill(os.getpid(), signal.SIGUSR1)
        return fit(*arguments)

    with monkeypatch.context() as patch, closing_on_a_signal(journal) as seen:
        patch.setattr(journal, "_keep", keep)
        patch.setattr(segments, "_fit", fit_signalled)
        began = time.monotonic()
        journal.write_payload(b"abc")
    assert seen == ["reentrant call: this JournalWriter is in the middle of another operation"]
    # Not as long as `close` waits for its thread.
    assert time.monotonic() - began < _keeper.PATIENCE / 2
    journal.close()
    assert frames_of(tmp_path / "j") == {0: b"abc"}


def test_an_exception_in_the_middle_of_a_sync_leaves_names_to_sync(
    tmp_path: Path, synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        journal.write_payload(b"a")

        def interrupt(descriptor: int) -> None:
            raise Interrupted

        with monkeypatch.context() as patch:
            patch.setattr(_segments, "fdatasync", interrupt)
            with pytest.raises(Interrupted):
                journal.sync()
        journal.sync()
        assert synced.has(tmp_path / "j", 1)


def test_a_sync_that_overtakes_another_one_syncs_the_names_too(tmp_path: Path, synced: Synced) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        journal.write_payload(b"a")
        journal.flush()
        # As a thread does that has not come to its sync yet.
        slow = journal._call_exclusively(journal._snapshot)
        journal.sync()
        assert synced.has(tmp_path / "j", 1)
        journal._segments.sync(slow)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_real_signal_at_random_moments(tmp_path: Path) -> None:
    accepted: list[bytes] = []

    def write() -> None:
        payload = b"%d" % len(accepted)
        journal.write_payload(payload)
        accepted.append(payload)
        if len(accepted) % 7 == 0:
            journal.wait_durable(timeout=JOIN_SECONDS)

    with (
        JournalWriter(tmp_path / "j", sync=SyncPolicy(frames=3), rotate=RotationPolicy(max_frames=5)) as journal,
        Alarm() as alarm,
    ):
        interruptions = 0
        while interruptions < 300:
            interruptions += alarm.strike_repeated(write, 0.0001 + 0.00003 * (interruptions % 13))
            # It was accepted, and the handler ran before it was stored.
            if journal.position > len(accepted):
                accepted.append(b"%d" % len(accepted))
            assert journal.position == len(accepted)
    assert frames_of(tmp_path / "j") == dict(enumerate(accepted))


# New segments


def test_a_segment_that_was_made_and_cannot_be_locked_is_the_next_one_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JournalWriter(tmp_path / "j", buffer_size=0) as journal, JournalReader(tmp_path / "j", follow=True) as reader:
        journal.write_payload(b"a")
        assert bytes(reader.read_message(timeout=JOIN_SECONDS) or b"") == b"a"

        def fail(*arguments: object, **options: object) -> bool:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        with monkeypatch.context() as patch:
            patch.setattr("flatstream._lock._try_lock", fail)
            for act in (journal.rotate, journal.rotate, lambda: journal.write_payload(b"refused")):
                with pytest.raises(OSError, match="cannot be locked"):
                    act()
            # A reader has seen the new segment, and is done with the old one.
            with pytest.raises(TimeoutError):
                reader.read_message(timeout=0.05)
        journal.write_payload(b"b")
        assert bytes(reader.read_message(timeout=JOIN_SECONDS) or b"") == b"b"
        assert reader.number == 1
    assert frames_of(tmp_path / "j") == {0: b"a", 1: b"b"}
    assert list(segments_of(tmp_path / "j")) == [0, 1]


# Threads, processes and their ends


class Journaling(logging.Handler):
    """Writes what is logged into a journal."""

    def __init__(self, journal: JournalWriter) -> None:
        super().__init__()
        self.journal = journal
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.journal.write_payload(record.getMessage().encode())


def test_a_logging_handler_can_write_into_the_journal(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=10), buffer_size=0)
    handler = Journaling(journal)
    loggers = [logging.getLogger("flatstream.journal"), logging.getLogger("flatstream.tests")]
    before = [(one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.INFO)
        one.propagate = False

    def log() -> None:
        for _ in range(500):
            loggers[1].info("a line")

    def write_all() -> None:
        for _ in range(500):
            journal.write_payload(b"abc")

    try:
        run_threads(log, write_all)
        deadline = time.monotonic() + JOIN_SECONDS
        while not any("begins segment" in line for line in list(handler.lines)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        for one, (level, propagate) in zip(loggers, before, strict=True):
            one.removeHandler(handler)
            one.level, one.propagate = level, propagate
    journal.close()
    assert set(frames_of(tmp_path / "j").values()) >= {b"abc", b"a line"}


def test_those_who_wait_are_told_that_the_thread_failed_and_can_wait_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        journal.write_payload(b"a")

        def fail(wanted: int) -> None:
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(journal, "_keep", fail)
            with pytest.raises(FlatStreamError, match="the journal's thread failed: MemoryError"):
                journal.wait_durable(timeout=JOIN_SECONDS)
        journal.wait_durable(timeout=JOIN_SECONDS)
        assert journal.durable_position == 1


@pytest.mark.filterwarnings("ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        journal.write_payload(b"a")

        def fail(wanted: int) -> None:
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(journal, "_keep", fail)
            with pytest.raises(TimeoutError):
                journal.wait_durable(timeout=0.1)
        journal.wait_durable(timeout=JOIN_SECONDS)
        assert journal.durable_position == 1


def test_handler_of_the_log_that_raises_does_not_end_the_thread(tmp_path: Path) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            raise ValueError("the disk of the log is full")

    seen: list[str] = []
    logger, handler = logging.getLogger("flatstream.journal"), Broken()
    journal = JournalWriter(tmp_path / "j", sync=SyncPolicy(seconds=0.01), rotate=RotationPolicy(max_frames=2))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        for _ in range(7):
            journal.write_payload(b"abc")
            # By the clock: nothing else wakes the thread.
            wait_until(lambda: journal.durable_position == journal.position)
        wait_until(lambda: sum("begins segment" in line for line in seen) == 3)
        assert journal._keeper.is_running
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    journal.close()


def test_without_a_thread_those_who_wait_sync_and_do_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more_threads(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    # Compressing and the like is made for one thread at a time, and must not go on behind `close`.
    monkeypatch.setattr(JournalWriter, "_keep", None)
    journal = JournalWriter(tmp_path / "j", compress=True)
    journal.write_payload(b"a")
    journal.rotate()
    journal.write_payload(b"b")
    journal.wait_durable(timeout=JOIN_SECONDS)
    assert journal.durable_position == 2
    journal.close()
    assert frames_of(tmp_path / "j") == {0: b"a", 1: b"b"}


def test_second_thread_that_closes_a_journal_waits_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = JournalWriter(tmp_path / "j")
    journal.write_payload(b"a")
    seal, sealed = journal._seal_last, []
    began, second_waits = threading.Event(), threading.Event()

    def seal_slowly() -> None:
        began.set()
        assert not second_waits.wait(0.2)
        sealed.append(threading.get_ident())
        seal()

    def close_second() -> None:
        assert began.wait(JOIN_SECONDS)
        journal.close()
        # Now the journal belongs to whoever opens it next.
        second_waits.set()
        with JournalWriter(tmp_path / "j") as again:
            assert again.position == 1

    monkeypatch.setattr(journal, "_seal_last", seal_slowly)
    run_threads(journal.close, close_second)
    assert len(sealed) == 1


def test_long_intervals_do_not_end_the_thread(tmp_path: Path) -> None:
    policy = SyncPolicy(seconds=1e300)
    with JournalWriter(tmp_path / "j", sync=policy, rotate=RotationPolicy(max_seconds=1e300)) as journal:
        time.sleep(0.05)
        journal.write_payload(b"a")
        journal.wait_durable(timeout=JOIN_SECONDS)
        assert journal.durable_position == 1


def test_huge_limits_are_no_limits(tmp_path: Path) -> None:
    rotate = RotationPolicy(max_bytes=2**200, max_frames=2**200)
    with JournalWriter(tmp_path / "j", sync=SyncPolicy(frames=2**200), rotate=rotate) as journal:
        journal.write_payloads([b"a"] * 10)
    assert len(frames_of(tmp_path / "j")) == 10


def test_a_closed_journal_begins_no_segment(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "j")
    journal.write_payload(b"a")
    journal.close()
    # As a thread does that was in `rotate` when another one closed the journal.
    with pytest.raises(ValueError, match="is closed"):
        journal._call_exclusively(journal._rotate)
    assert list(segments_of(tmp_path / "j")) == [0]


def test_a_sync_that_fails_while_another_thread_closes_fails_both(tmp_path: Path, disk: Disk) -> None:
    journal = JournalWriter(tmp_path / "j")
    journal.write_payload(b"a")
    disk.failing_syncs = 1
    # As a thread does that has not told the writer yet.
    snapshot = journal._call_exclusively(journal._snapshot)
    with pytest.raises(OSError, match="Input/output error"):
        journal._segments.sync(snapshot)
    with pytest.raises(FlatStreamError, match="a sync failed"):
        journal.close()
    assert journal.closed


AT_EXIT = """
import atexit
late = []
# Called after the functions of the package, which ended the thread.
atexit.register(lambda: (late[0].wait_durable(timeout=20), print("durable", late[0].durable_position), late[0].close()))
from flatstream.journal import JournalWriter
late.append(JournalWriter({path!r}))
late[0].write_payload(b"a")
late[0].wait_durable()
late[0].write_payload(b"b")
"""


def test_the_end_of_the_interpreter_can_wait_for_the_disk(tmp_path: Path) -> None:
    done = run_python(AT_EXIT.format(path=str(tmp_path / "j")))
    assert done.stdout == "durable 2\n", done.stderr
    assert frames_of(tmp_path / "j") == {0: b"a", 1: b"b"}


FORK = """
import os, signal, sys, threading
from flatstream.journal import JournalWriter
journal = JournalWriter({path!r})
journal.write_payload(b"a")
journal.wait_durable()
journal.write_payload(b"b")
held, free = threading.Event(), threading.Event()
def hold():
    with journal._keeper._mutex:
        held.set()
        free.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(20)
    try:
        journal.wait_durable()
    except RuntimeError as error:
        print(str(error)[:53], flush=True)
    sys.exit(7)
free.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
journal.close()
"""


def test_a_forked_child_neither_waits_nor_hangs_at_its_end(tmp_path: Path) -> None:
    done = run_python(FORK.format(path=str(tmp_path / "j")))
    assert done.stdout == "this JournalWriter belongs to the process that made i\n7\n", done.stderr
    assert frames_of(tmp_path / "j") == {0: b"a", 1: b"b"}


def test_a_close_that_was_cut_short_leaves_no_failure_to_those_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = JournalWriter(tmp_path / "j", sync=SyncPolicy(seconds=0.02))
    journal.write_payload(b"a")
    journal.wait_durable(timeout=JOIN_SECONDS)
    with monkeypatch.context() as patch, log_lines() as lines:
        # As a handler does at the beginning of a call: when nothing more is written, and nothing is closed.
        patch.setattr(journal._segments, "close", raise_interrupted)
        journal.write_payload(b"b")
        with pytest.raises(Interrupted):
            journal.close()
        assert not journal.closed
        journal.wait_durable(timeout=JOIN_SECONDS)
        assert journal.durable_position == 2
        # The clock runs on.
        time.sleep(0.1)
    assert journal._keeper.problem is None
    assert not [line for line in lines if "thread failed" in line]
    journal.close()
    assert frames_of(tmp_path / "j") == {0: b"a", 1: b"b"}


def raise_interrupted(*arguments: object) -> None:
    raise Interrupted


def stop_interrupted(keeper: _keeper.Keeper, *arguments: float) -> None:
    """`Keeper.stop`, and an exception of a handler behind it."""
    STOP(keeper, *arguments)
    raise Interrupted


STOP, RESUME = _keeper.Keeper.stop, _keeper.Keeper.resume


@pytest.mark.parametrize("is_half_stopped", [False, True])
def test_a_keeper_that_an_exception_left_stopped_is_started_by_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_half_stopped: bool
) -> None:
    journal = JournalWriter(tmp_path / "j", sync=SyncPolicy(seconds=0.01))
    with monkeypatch.context() as patch:
        patch.setattr(_keeper.Keeper, "resume", raise_interrupted)
        if is_half_stopped:
            # In the middle of `stop`, before the thread has ended.
            patch.setattr(Worker, "join", raise_interrupted)
        else:
            patch.setattr(_keeper.Keeper, "stop", stop_interrupted)
        with pytest.raises(Interrupted):
            journal.close()
    journal.write_payload(b"a")
    journal.flush()
    wait_until(lambda: journal.durable_position == 1)
    # By the clock.
    journal.write_payload(b"b")
    wait_until(lambda: journal.durable_position == 2)
    journal.close()


def test_an_exception_while_the_keeper_is_resumed_does_not_leave_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 0
    place: str | None = ""
    while place is not None:
        at += 1
        journal = JournalWriter(tmp_path / str(at), sync=SyncPolicy(seconds=0.01))
        interruption = Interruption(at, ("journal/_keeper.py", "journal/_worker.py"))

        def resume(keeper: _keeper.Keeper, interruption: Interruption = interruption) -> None:
            with interruption.armed():
                RESUME(keeper)

        with monkeypatch.context() as patch:
            patch.setattr(_keeper.Keeper, "stop", stop_interrupted)
            patch.setattr(_keeper.Keeper, "resume", resume)
            with pytest.raises(Interrupted):
                journal.close()
        place = interruption.place
        journal.write_payload(b"a")
        wait_until(partial(is_durable, journal, 1))
        journal.close()
    assert at > 5


def is_durable(journal: JournalWriter, number: int) -> bool:
    return journal.durable_position >= number


def test_a_keeper_that_has_stopped_for_good_is_not_started_again(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "j", sync=SyncPolicy(seconds=0.01))
    # As at the exit of the interpreter.
    journal._keeper.stop_for_good()
    journal.write_payload(b"a")
    journal.flush()
    assert not journal._keeper.start()
    journal._keeper.resume()
    assert not journal._keeper.is_running
    journal.close()
    assert frames_of(tmp_path / "j") == {0: b"a"}

"""ThreadedWriter and signal handlers, which raise or call it at any point of its calls; and handlers of the log."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flatstream import DefaultFramer, SizeValidator, StreamReader, StreamWriter, ValidationFailedError
from flatstream.journal import ThreadedWriter
from reference import framing as reference
from support.alarms import Alarm, Struck
from support.extent import EVERYTHING
from support.gated import FullDisk, wait_until
from support.interrupts import Interrupted, Interruption
from support.threads import running

FILES = ("journal/threaded.py", "journal/_writing_thread.py", "journal/_worker.py")
NAME = "flatstream-threaded-writer"

# How long until a call that hangs is ended, in seconds.
WATCHDOG = 5.0


def refusing_writer(sink: io.BytesIO) -> StreamWriter:
    return StreamWriter(sink, DefaultFramer().with_validator(SizeValidator(1, 3)))


def payloads_of(sink: io.BytesIO) -> list[bytes]:
    return [bytes(payload) for payload in StreamReader(sink.getvalue())]


def holds(sink: io.BytesIO, payloads: list[bytes]) -> bool:
    return set(payloads) <= set(payloads_of(sink))


def points() -> Iterator[int]:
    at = 0
    while True:
        at += 1 if EVERYTHING or at < 60 else 3
        yield at


# A handler that calls the writer


@pytest.mark.parametrize("method", ["put", "flush", "sync", "close"])
def test_a_handler_in_the_middle_of_a_call_cannot_wait(method: str) -> None:
    sink = io.BytesIO()
    threaded = ThreadedWriter(StreamWriter(sink), 1, flush_interval=0)
    functions: dict[str, Callable[[], object]] = {
        "put": lambda: threaded.write_payloads([b"a", b"b"]),
        "flush": threaded.flush,
        "sync": threaded.sync,
        "close": threaded.close,
    }

    def call() -> None:
        # As the handler finds it which interrupts a put.
        with (
            threaded._mutex,
            pytest.raises(RuntimeError, match=r"reentrant call: .* which a signal handler interrupts"),
        ):
            functions[method]()

    with Alarm() as alarm:
        assert not alarm.strike(call, WATCHDOG)
    # Nothing was done, and all goes on.
    assert not threaded._waiters
    assert not threaded._requests
    threaded.write_payload(b"c")
    threaded.close()
    assert payloads_of(sink) == ([b"a", b"c"] if method == "put" else [b"c"])


def test_a_handler_can_close_at_any_moment() -> None:
    chance = random.Random(2)
    closed = refused = 0
    for _ in range(60):
        sink = io.BytesIO()
        threaded = ThreadedWriter(StreamWriter(sink), 3, "block", flush_interval=0)
        put: list[bytes] = []
        answers: list[str] = []

        def handle(threaded: ThreadedWriter = threaded, answers: list[str] = answers) -> None:
            try:
                threaded.close(WATCHDOG)
                answers.append("closed")
            except RuntimeError as error:
                answers.append(str(error))

        def step(threaded: ThreadedWriter = threaded, put: list[bytes] = put) -> None:
            payload = b"%d" % len(put)
            with contextlib.suppress(ValueError):
                threaded.write_payload(payload)
                put.append(payload)
                if len(put) % 10 == 0:
                    threaded.flush()

        with Alarm(action=handle) as alarm:
            alarm.strike_repeated(step, chance.uniform(1e-4, 2e-3))
        assert len(answers) == 1
        closed += answers == ["closed"]
        refused += "reentrant call" in answers[0]
        threaded.close(WATCHDOG)
        # A put that the handler interrupts behind the append was accepted, and so was one that it closes before.
        assert payloads_of(sink) == put
    assert closed + refused == 60
    assert closed > 30


# A handler that raises


@pytest.mark.parametrize("when_full", ["block", "drop_oldest"])
def test_an_exception_at_any_point_loses_nothing_and_stops_nobody(when_full: Any) -> None:
    for at in points():
        sink = io.BytesIO()
        threaded = ThreadedWriter(StreamWriter(sink), 4, when_full, flush_interval=0)
        interruption = Interruption(at, FILES)
        put: list[bytes] = []
        doubtful: list[bytes] = []
        for number in range(6):
            payload = b"%d" % number
            try:
                with interruption.armed():
                    threaded.write_payload(payload)
            except Interrupted:
                doubtful.append(payload)
            else:
                put.append(payload)
            if number % 3 == 2:
                with contextlib.suppress(Interrupted), interruption.armed():
                    threaded.flush()
                assert not threaded._requests, interruption.place
        # Without another call.
        if when_full == "block":
            wait_until(partial(holds, sink, put))
        with contextlib.suppress(Interrupted), interruption.armed():
            threaded.close(WATCHDOG)
        place = interruption.place
        threaded.close(WATCHDOG)
        assert threaded._thread.join(WATCHDOG), place
        found = payloads_of(sink)
        assert len(found) + threaded.dropped >= len(put), place
        assert len(set(found)) == len(found), place
        assert found == sorted(found), place
        assert set(found) <= {*put, *doubtful}, place
        if place is None:
            break
    assert at > 20


def test_payload_of_an_interrupted_put_needs_no_further_call() -> None:
    for at in points():
        sink = io.BytesIO()
        threaded = ThreadedWriter(StreamWriter(sink), 4, flush_interval=0)
        wait_until(partial(getattr, threaded, "_is_asleep"))
        interruption = Interruption(at, FILES)
        with contextlib.suppress(Interrupted), interruption.armed():
            threaded.write_payload(b"a")
        wait_until(partial(holds, sink, [b"a"] * threaded.queued))
        threaded.close()
        if interruption.place is None:
            break
    assert at > 3


def test_an_error_that_an_interrupted_call_was_told_is_told_to_the_next_one() -> None:
    for at in points():
        threaded = ThreadedWriter(refusing_writer(io.BytesIO()), 4, flush_interval=0)
        interruption = Interruption(at, FILES)
        threaded.write_payload(b"too long")
        told = 0
        for function in (threaded.flush, threaded.close, threaded.close):
            try:
                with interruption.armed():
                    function()
            except ValidationFailedError:
                told += 1
            except Interrupted:
                pass
        assert told == 1, interruption.place
        if interruption.place is None:
            break
    assert at > 20


@pytest.mark.filterwarnings("ignore:.*_forget:pytest.PytestUnraisableExceptionWarning")
def test_an_exception_while_an_object_is_made_leaves_no_thread() -> None:
    # Not in threading itself, whose state Python does not keep whole.
    for at in points():
        interruption = Interruption(at, FILES)
        writer = StreamWriter(io.BytesIO())
        try:
            with interruption.armed():
                ThreadedWriter(writer, 4).close()
        except Interrupted:
            gc.collect()
        place = interruption.place
        wait_until(lambda: not any(one.name == NAME and one.is_alive() for one in threading.enumerate()))
        if place is None:
            break
    assert at > 20


@pytest.mark.parametrize("raising", [Struck, OSError])
def test_an_exception_in_the_middle_of_the_end_does_not_mislead_the_next_close(raising: type[BaseException]) -> None:
    """In Python before 3.13, one that comes in `Thread.join` has threading call a thread dead that works."""
    release = threading.Event()

    class Slow(StreamWriter):
        def close(self) -> None:
            release.wait(WATCHDOG)
            super().close()

    sink = io.BytesIO()
    threaded = ThreadedWriter(Slow(sink), 4)
    threaded.write_payload(b"a")
    with Alarm(raising) as alarm:
        for _ in range(3):
            assert alarm.strike(threaded.close, 0.02)
            assert threaded._thread.is_working()
    release.set()
    threaded.close()
    assert threaded.closed
    assert payloads_of(sink) == [b"a"]


# Handlers of the log


class Raising(logging.Handler):
    """Raises for each line."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        raise self.error


@pytest.fixture(params=[ValueError("of the handler"), SystemExit(3)], ids=["error", "exit"])
def raising(request: pytest.FixtureRequest) -> Iterator[Raising]:
    handler = Raising(request.param)
    logger = logging.getLogger("flatstream.journal")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


def test_handler_of_the_log_that_raises_loses_no_payload(raising: Raising) -> None:
    sink = io.BytesIO()
    threaded = ThreadedWriter(refusing_writer(sink), 10, flush_interval=0)
    with threaded._mutex:
        threaded.write_payloads([b"a", b"too long", b"b"])
    wait_until(lambda: threaded.refused and not threaded.queued)
    with pytest.raises(ValidationFailedError):
        threaded.flush()
    threaded.write_payload(b"c")
    threaded.close()
    assert payloads_of(sink) == [b"a", b"b", b"c"]
    assert (raising.count, threaded.lost) == (1, 0)


def test_handler_of_the_log_that_raises_does_not_end_the_attempts(raising: Raising, tmp_path: Path) -> None:
    disk = FullDisk(tmp_path)
    with disk.sink:
        threaded = ThreadedWriter(StreamWriter(disk.sink), 10, flush_interval=0)
        threaded.write_payload(b"a")
        with contextlib.suppress(OSError):
            threaded.flush()
        disk.free()
        wait_until(lambda: threaded._failing_since is None)
        threaded.close()
        assert disk.arrived() == reference.encode([b"a"], "none")
    assert (raising.count, threaded.lost) == (2, 0)


def test_handler_of_the_log_that_raises_at_the_end_of_drops(raising: Raising) -> None:
    sink = io.BytesIO()
    threaded = ThreadedWriter(StreamWriter(sink), 1, "drop_newest", flush_interval=0)
    with threaded._mutex:
        threaded.write_payload(b"a")
        # The beginning of the drops is told by the put.
        with contextlib.suppress(ValueError, SystemExit):
            threaded.write_payload(b"b")
    wait_until(lambda: raising.count == 2)
    threaded.write_payload(b"c")
    threaded.close()
    assert payloads_of(sink) == [b"a", b"c"]
    assert (threaded.dropped, threaded.lost) == (1, 0)


def test_waiting_threads_hear_of_the_end_though_a_handler_of_the_log_raises(raising: Raising) -> None:
    threaded = ThreadedWriter(StreamWriter(io.BytesIO()), 10, flush_interval=0)
    told: list[BaseException] = []

    def fail() -> None:
        raise MemoryError

    threaded._hand_over = fail  # type: ignore[assignment, method-assign]

    def flush() -> None:
        try:
            threaded.flush(WATCHDOG)
        except Exception as error:
            told.append(error)

    with running(flush):
        pass
    assert "refuses to go on" in str(told[0])
    with pytest.raises(Exception, match="refuses to go on"):
        threaded.close()

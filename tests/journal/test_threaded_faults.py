"""ThreadedWriter over sinks that fail, block or hang, and with threads that are interrupted or come to their end."""

from __future__ import annotations

import io
import os
import random
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flatstream import DefaultFramer, FlatStreamError, SizeValidator, StreamReader, StreamWriter, ValidationFailedError
from flatstream.journal import ThreadedWriter
from reference import framing as reference
from support.alarms import Alarm, StruckError
from support.faults import device_error
from support.gated import BlockingSink, FullDisk, GatedWriter, wait_until
from support.logs import log_lines
from support.sinks import FaultySink
from support.threads import running

A, B, C, D = (letter.encode() for letter in "abcd")


@pytest.fixture
def log() -> Iterator[list[str]]:
    with log_lines() as lines:
        yield lines


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FullDisk]:
    full = FullDisk(tmp_path)
    with full.sink:
        yield full


def stopped(capacity: int = 10, when_full: Any = "raise") -> tuple[GatedWriter, ThreadedWriter]:
    """A threaded writer whose thread has `A` and waits at the gate."""
    writer = GatedWriter()
    threaded = ThreadedWriter(writer, capacity, when_full, flush_interval=0)
    threaded.write_payload(A)
    writer.wait_for_entry()
    return writer, threaded


# A sink that fails and may work again


def test_error_of_the_sink_reaches_the_next_put_once_and_nothing_is_lost(log: list[str], disk: FullDisk) -> None:
    threaded = ThreadedWriter(StreamWriter(disk.sink), 10, flush_interval=0)
    threaded.write_payload(A)
    wait_until(lambda: threaded._error)
    with pytest.raises(OSError, match="No space left"):
        threaded.write_payload(B)
    # Once, however often it fails.
    threaded.write_payload(C)
    wait_until(lambda: threaded._pause > 0.03)
    threaded.write_payload(D)
    assert threaded.errors == 1
    disk.free()
    threaded.close()
    assert disk.arrived() == reference.encode([A, C, D], "none")
    assert threaded.lost == 0
    first, second = log
    assert ": writing fails, and is tried again: OSError: [Errno 28] No space left on device; " in first
    assert ": writing works again after " in second


def test_each_flush_sync_and_close_says_that_the_sink_fails_and_can_be_repeated(disk: FullDisk) -> None:
    threaded = ThreadedWriter(StreamWriter(disk.sink), 10, flush_interval=3600)
    threaded.write_payload(A)
    for function in (threaded.flush, threaded.flush, threaded.sync, threaded.close, threaded.close):
        with pytest.raises(OSError, match="No space left"):
            function()
        assert not threaded.closed
    with pytest.raises(ValueError, match="closed"):
        threaded.write_payload(B)
    disk.free()
    threaded.close()
    assert threaded.closed
    assert disk.arrived() == reference.encode([A], "none")


def test_error_that_is_over_is_not_raised_any_more(disk: FullDisk) -> None:
    with ThreadedWriter(StreamWriter(disk.sink), 10, flush_interval=0) as threaded:
        threaded.write_payload(A)
        wait_until(lambda: threaded._error)
        disk.free()
        wait_until(disk.arrived)
        wait_until(lambda: threaded._is_asleep)
        threaded.write_payload(B)
        assert threaded.errors == 1
    assert disk.arrived() == reference.encode([A, B], "none")


def test_put_that_waits_for_room_hears_of_the_error(disk: FullDisk) -> None:
    threaded = ThreadedWriter(StreamWriter(disk.sink, buffer_size=0), 1, flush_interval=0)
    refused = []

    def produce() -> None:
        for number in range(4):
            try:
                threaded.write_payload(b"%d" % number)
            except OSError:
                refused.append(number)

    with running(produce):
        wait_until(lambda: refused)
        disk.free()
    threaded.close()
    assert len(refused) == 1
    written = [bytes(payload) for payload in StreamReader(disk.arrived())]
    assert written == [b"%d" % number for number in range(4) if number not in refused]


def test_sink_that_would_block_is_waited_for_without_an_error() -> None:
    sink = BlockingSink()
    threaded = ThreadedWriter(StreamWriter(sink, buffer_size=0), 2, "raise", flush_interval=0)
    threaded.write_payload(A)
    wait_until(lambda: sink.attempts > 3)
    threaded.write_payloads([B, C])
    with pytest.raises(BlockingIOError, match="the queue of"):
        threaded.write_payload(D)
    with pytest.raises(
        TimeoutError, match=r"3 payloads were not all handed over within 0\.01 s; they stay in the queue"
    ):
        threaded.flush(0.01)
    sink.is_blocking = False
    threaded.close()
    assert threaded.errors == 0
    assert sink.arrived() == reference.encode([A, B, C], "none")


def test_pipe_that_is_slow_to_be_read_gets_everything() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    sent = [bytes([number % 256]) * 1000 for number in range(1000)]
    with io.FileIO(reading, "rb") as source, io.FileIO(writing, "wb") as sink:
        threaded = ThreadedWriter(StreamWriter(sink, "crc32"), 1000)
        threaded.write_payloads(sent)

        def close() -> None:
            threaded.close()
            sink.close()

        with running(close):
            assert [bytes(payload) for payload in StreamReader(source, "crc32")] == sent


# A writer that refuses to go on


def test_loss_is_told_with_its_number(log: list[str]) -> None:
    # It takes half of the first frame, and nobody can take that back.
    threaded = ThreadedWriter(StreamWriter(FaultySink(3, device_error(5)), buffer_size=0), 10, flush_interval=3600)
    threaded._mutex.acquire()
    for payload in (A, B, C):
        threaded.write_payload(payload)
    threaded._mutex.release()
    wait_until(lambda: threaded.is_refusing)
    functions: list[Callable[[], None]] = [
        lambda: threaded.write_payload(D),
        threaded.flush,
        threaded.sync,
        threaded.close,
    ]
    for function in functions:
        with pytest.raises(
            FlatStreamError, match=r"3 payloads that were queued are lost: OSError: .*Input/output"
        ) as caught:
            function()
        assert isinstance(caught.value.__cause__, OSError)
    assert (threaded.lost, threaded.queued, threaded.closed) == (3, 0, True)
    assert threaded.writer.closed
    threaded.close()
    assert "refuses to go on, and 3 payloads that were queued are lost: OSError" in log[0]


@pytest.mark.parametrize("method", ["flush", "sync", "close"])
def test_call_that_waits_hears_of_the_loss(method: str) -> None:
    writer, threaded = stopped()
    threaded.write_payloads([B, C])
    told = []

    def call() -> None:
        try:
            getattr(threaded, method)()
        except FlatStreamError as error:
            told.append(str(error))

    with running(call):
        wait_until(lambda: threaded._requests)
        writer.close()
        writer.open()
    assert "3 payloads that were queued are lost: ValueError: this GatedWriter is closed" in told[0]
    if method != "close":
        with pytest.raises(FlatStreamError, match="3 payloads"):
            threaded.close()
    assert threaded.closed


def test_failed_sync_is_final(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(descriptor: int) -> None:
        raise device_error(5)

    monkeypatch.setattr("os.fdatasync", fail)
    threaded = ThreadedWriter(StreamWriter(tmp_path / "stream"), 10)
    threaded.write_payload(A)
    with pytest.raises(FlatStreamError, match=r"0 payloads that were queued are lost: OSError: .*Input/output error"):
        threaded.sync()
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        threaded.write_payload(B)
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        threaded.close()


# A payload that the framer refuses


def test_payload_that_the_framer_refuses_is_left_out_and_told_once(log: list[str]) -> None:
    sink = io.BytesIO()
    framer = DefaultFramer().with_validator(SizeValidator(min_size=1, max_size=3))
    threaded = ThreadedWriter(StreamWriter(sink, framer), 100, flush_interval=0)
    threaded._mutex.acquire()
    for payload in (A, b"too long", B, b"", C):
        threaded.write_payload(payload)
    threaded._mutex.release()
    wait_until(lambda: threaded.refused == 2)
    with pytest.raises(ValidationFailedError, match=r"SizeValidator refused the payload: 8 bytes .* \(frame 1"):
        threaded.write_payload(D)
    threaded.write_payload(D)
    threaded.write_payload(b"also too long")
    with pytest.raises(ValidationFailedError, match="13 bytes"):
        threaded.close()
    assert threaded.closed
    assert sink.getvalue() == reference.encode([A, B, C, D], "none")
    assert (threaded.refused, threaded.lost, threaded.errors) == (3, 0, 0)
    assert sum("a payload was refused" in message for message in log) == 2


# Time limits


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_time_limit_loses_nothing_and_close_can_be_called_again(timeout: float) -> None:
    writer, threaded = stopped()
    threaded.write_payload(B)
    for function in (threaded.flush, threaded.sync, threaded.close, threaded.close):
        with pytest.raises(TimeoutError, match="2 payloads were not all handed over within"):
            function(timeout)
    assert not threaded._requests
    writer.open(10)
    threaded.close(30)
    assert writer.memory.getvalue() == reference.encode([A, B], "none")
    assert not threaded._thread.is_working()


def test_thread_closes_the_writer_even_if_close_gave_up() -> None:
    writer, threaded = stopped()
    with pytest.raises(TimeoutError):
        threaded.close(0)
    writer.open()
    wait_until(lambda: threaded.closed)
    assert writer.closed
    threaded.close()


# The thread comes to its end


@pytest.mark.parametrize("method", ["_take_batch", "_fall_asleep", "_hand_over"])
def test_death_of_the_thread_ends_all_waiting(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, threaded = stopped(1, "block")
    threaded.write_payload(B)
    ended: list[str] = []

    def try_to(function: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            try:
                function()
            except FlatStreamError as error:
                ended.append(str(error))

        return run

    def die(*arguments: Any) -> Any:
        raise MemoryError("none left")

    with running(try_to(lambda: threaded.write_payload(C))), running(try_to(threaded.flush)):
        wait_until(lambda: threaded._waiters and threaded._requests)
        monkeypatch.setattr(threaded, method, die)
        writer.open(3)
    # What the thread has done before is done. Nothing waits for ever: `running` has waited for both.
    assert all("payloads that were queued are lost: MemoryError: none left" in text for text in ended)
    wait_until(lambda: threaded.is_refusing)
    with pytest.raises(FlatStreamError, match="payloads that were queued are lost: MemoryError: none left"):
        threaded.write_payload(D)
    with pytest.raises(FlatStreamError, match="MemoryError"):
        threaded.close()
    assert writer.closed


def test_sink_that_calls_its_own_writer_is_refused() -> None:
    told: list[str] = []

    class Sink:
        def write(self, data: Any) -> None:
            if told:
                return
            functions: list[Callable[[], None]] = [
                threaded.flush,
                threaded.sync,
                threaded.close,
                lambda: threaded.write_payloads([B, C]),
            ]
            for function in functions:
                try:
                    function()
                except RuntimeError as error:
                    told.append(str(error))

    threaded = ThreadedWriter(StreamWriter(Sink(), buffer_size=0), 1, flush_interval=0)
    threaded.write_payload(A)
    wait_until(lambda: len(told) == 4)
    threaded.close()
    assert all("reentrant call: this is the thread of this ThreadedWriter" in text for text in told)
    # B was put: there was room for it.
    assert threaded.frames_written == 2


# Signals


@pytest.mark.parametrize("call", ["put", "flush", "close"])
def test_signal_handler_that_raises_ends_the_waiting_and_nothing_else(call: str) -> None:
    writer, threaded = stopped(1, "block")
    threaded.write_payload(B)
    functions = {"put": lambda: threaded.write_payload(C), "flush": threaded.flush, "close": threaded.close}
    with Alarm(StruckError) as alarm:
        assert alarm.strike_when(functions[call], lambda: wait_until(lambda: threaded._waiters or threaded._requests))
    assert not threaded._requests
    writer.open(10)
    if call != "close":
        threaded.write_payload(D)
    threaded.close()
    assert writer.memory.getvalue() == reference.encode([A, B, D] if call != "close" else [A, B], "none")


def test_signal_handler_may_put_while_a_put_waits() -> None:
    writer, threaded = stopped(1, "drop_oldest")

    def handle(number: int, frame: Any) -> None:
        threaded.write_payload(D)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with threaded._mutex:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    writer.open(10)
    threaded.close()
    assert writer.memory.getvalue() == reference.encode([A, D], "none")


def test_signals_that_raise_at_any_moment_lose_nothing_and_stop_nobody() -> None:
    chance = random.Random(1)
    sink = io.BytesIO()
    threaded = ThreadedWriter(StreamWriter(sink), 3, "block", flush_interval=0)
    calls: list[Callable[[bytes], object]] = [threaded.write_payload] * 20 + [lambda payload: threaded.flush()]
    put: list[bytes] = []
    doubtful: set[bytes] = set()
    with Alarm(StruckError) as alarm:
        for number in range(3000):
            payload = b"%d" % number
            call = chance.choice(calls)
            if alarm.strike(partial(call, payload), chance.uniform(1e-6, 1e-3)):
                # It is not known whether it was put.
                doubtful.add(payload)
            elif call == threaded.write_payload:
                put.append(payload)
    threaded.close(60)
    written = [bytes(payload) for payload in StreamReader(sink.getvalue())]
    assert [payload for payload in written if payload not in doubtful] == put
    assert written == sorted(written, key=int)
    assert len(set(written)) == len(written)
    assert doubtful

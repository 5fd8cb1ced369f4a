"""stop_on_signals: a request for the end, which wakes who waits, and handlers that are there again afterwards."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import Any

import pytest

from flatstream.journal import stop_on_signals
from support.gated import wait_until
from support.threads import run_threads, running


def test_signal_asks_for_the_end_once() -> None:
    with stop_on_signals() as stop:
        assert (stop.requested, stop.signal) == (False, None)
        signal.raise_signal(signal.SIGTERM)
        assert (stop.requested, stop.signal) == (True, signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGTERM
        # It does not wait any more.
        for _ in range(3):
            assert stop.wait(3600)
            assert stop.wait()


def test_wait_without_a_signal_takes_its_time() -> None:
    with stop_on_signals() as stop:
        began = time.monotonic()
        assert not stop.wait(0.25)
        assert time.monotonic() - began >= 0.25
        assert not stop.wait(0)
        assert not stop.wait(-1)


def test_signal_wakes_the_main_thread() -> None:
    main = threading.main_thread().ident
    assert main is not None
    with stop_on_signals([signal.SIGUSR1]) as stop:

        def strike() -> None:
            time.sleep(0.05)
            signal.pthread_kill(main, signal.SIGUSR1)

        with running(strike):
            assert stop.wait()
        assert stop.signal == signal.SIGUSR1


def test_request_wakes_all_threads() -> None:
    stop = stop_on_signals()
    started = threading.Semaphore(0)

    def wait() -> None:
        started.release()
        assert stop.wait()

    def ask() -> None:
        for _ in range(3):
            started.acquire()
        stop.request()
        stop.request()

    run_threads(wait, wait, wait, ask)
    assert (stop.requested, stop.signal) == (True, None)


def test_handlers_are_there_again_afterwards() -> None:
    came: list[int] = []

    def handle(number: int, frame: Any) -> None:
        came.append(number)

    before = signal.signal(signal.SIGUSR1, handle), signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with contextlib.suppress(KeyError), stop_on_signals([signal.SIGUSR1, signal.SIGUSR2]) as stop:
            signal.raise_signal(signal.SIGUSR1)
            raise KeyError
        assert stop.requested
        assert signal.getsignal(signal.SIGUSR1) is handle
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
        signal.raise_signal(signal.SIGUSR1)
        assert came == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGUSR2, before[1])


def test_signal_without_handlers_is_refused_and_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(OSError, match="Invalid argument"), stop_on_signals([signal.SIGTERM, signal.SIGKILL]):
        pass
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ValueError, match="is not a valid Signals"):
        stop_on_signals([12345])


def test_other_thread_than_the_main_one_is_refused() -> None:
    told: list[str] = []

    def enter() -> None:
        try:
            with stop_on_signals():
                pass
        except ValueError as error:
            told.append(str(error))

    with running(enter):
        wait_until(lambda: told)
    assert told == ["stop_on_signals must be entered in the main thread: only there signals are handled"]

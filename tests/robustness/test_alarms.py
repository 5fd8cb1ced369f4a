"""support.alarms: the exception of a signal comes in the code that is struck, whenever the signal does."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from support import alarms
from support.alarms import Alarm, Struck, StruckError
from support.gated import wait_until
from support.threads import PATIENCE


def work() -> None:
    for number in range(1000):
        str(number)


def wait_in_vain() -> None:
    time.sleep(PATIENCE)


def end_with_an_error() -> None:
    raise LookupError


def raise_at_once() -> None:
    signal.raise_signal(signal.SIGALRM)


def late_signals_do_nothing() -> bool:
    for _ in range(3):
        raise_at_once()
    return True


@pytest.mark.parametrize("raised", [Struck, StruckError, KeyboardInterrupt])
def test_code_that_waits_is_struck(raised: type[BaseException]) -> None:
    with Alarm(raised) as alarm:
        assert alarm.strike(wait_in_vain, 0.01)
        assert alarm.strike_repeated(lambda: time.sleep(0.001), 0.01)
        assert not alarm.is_armed


def test_code_that_ends_before_the_signal_is_not_struck() -> None:
    with Alarm() as alarm:
        assert not alarm.strike(work, PATIENCE)
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert not alarm.is_armed


def test_late_signal_does_nothing() -> None:
    for struck, function in ((True, raise_at_once), (False, work)):
        with Alarm() as alarm:
            assert late_signals_do_nothing()
            assert alarm.strike(function, PATIENCE) is struck
            assert late_signals_do_nothing()
        assert late_signals_do_nothing()


def test_other_exception_comes_out_and_nothing_is_armed_behind_it() -> None:
    with Alarm() as alarm:
        with pytest.raises(LookupError):
            alarm.strike(end_with_an_error, PATIENCE)
        assert late_signals_do_nothing()
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_there_is_one_exception_although_signals_come_again_while_it_is_on_its_way() -> None:
    def wait() -> None:
        try:
            raise_at_once()
        finally:
            late_signals_do_nothing()
            passed.append(1)

    passed: list[int] = []
    with Alarm() as alarm:
        assert alarm.strike(wait, PATIENCE)
    assert passed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_exception_that_is_swallowed_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "SWALLOWED_SECONDS", 0.05)

    class Swallowing:
        def __del__(self) -> None:
            raise_at_once()

    def wait(seconds: float) -> None:
        swallowing: list[Any] = [Swallowing()]
        swallowing.append(swallowing)
        del swallowing
        gc.collect()
        still_armed.append(alarm.is_armed)
        time.sleep(seconds)

    still_armed: list[bool] = []
    with Alarm() as alarm:
        assert not alarm.strike(lambda: wait(0), PATIENCE)
        assert still_armed == [False]
        assert alarm.strike(lambda: wait(PATIENCE), 0.05)


def test_action_runs_in_the_main_thread_while_armed_and_may_raise() -> None:
    threads: list[int] = []

    def note() -> None:
        threads.append(threading.get_ident())
        if len(threads) == 2:
            raise Struck

    with Alarm(action=note) as alarm:
        assert not alarm.strike(raise_at_once, PATIENCE)
        assert alarm.strike(raise_at_once, PATIENCE)
        assert late_signals_do_nothing()
    assert threads == [threading.get_ident()] * 2


def test_signal_that_comes_too_early_comes_again() -> None:
    # The interpreter may look for signals just before one comes, and then be in a call of the system for long.
    def lose_one_and_wait() -> None:
        lost: list[int] = []
        handler = signal.signal(signal.SIGALRM, lambda *_: lost.append(1))
        try:
            wait_until(lambda: lost)
        finally:
            signal.signal(signal.SIGALRM, handler)
        wait_in_vain()

    with Alarm() as alarm:
        assert alarm.strike(lose_one_and_wait, 0.01)
        assert alarm.strike_when(lose_one_and_wait, lambda: time.sleep(0.01))


@pytest.mark.parametrize("raised", [Struck, StruckError])
def test_other_thread_says_when(raised: type[BaseException]) -> None:
    def wait() -> None:
        begun.append(1)
        wait_in_vain()

    begun: list[int] = []
    with Alarm(raised) as alarm:
        assert alarm.strike_when(wait, lambda: wait_until(lambda: begun))
        # The signal comes behind the code.
        over = threading.Event()
        assert not alarm.strike_when(lambda: threading.Timer(0.01, over.set).start(), lambda: over.wait(PATIENCE))


def test_signals_at_random_moments_raise_nothing_outside() -> None:
    chance = random.Random(1)
    struck = outside = 0
    with Alarm() as alarm:
        for _ in range(2000):
            try:
                struck += alarm.strike(work, chance.uniform(1e-6, 2e-4))
            except Struck:
                outside += 1
    assert outside == 0
    assert struck > 100


def test_exception_that_a_handler_leaves_behind_in_an_except_stays_there() -> None:
    def catch() -> None:
        try:
            raise KeyError
        except KeyError:
            pass

    def strike_before(opcode: int) -> Callable[[], None]:
        """`catch`, with a signal before the execution of its opcode of that number."""
        left = [opcode]

        def step(frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code is catch.__code__:
                frame.f_trace_opcodes = True
                left[0] -= event == "opcode"
                if left[0] == 0:
                    sys.settrace(None)
                    raise_at_once()
                return step
            return None

        def run() -> None:
            sys.settrace(step)
            try:
                catch()
            finally:
                sys.settrace(before)

        return run

    before = sys.gettrace()
    struck = 0
    with Alarm() as alarm:
        for opcode in range(1, 15):
            struck += alarm.strike(strike_before(opcode), PATIENCE)
            with pytest.raises(LookupError) as caught:
                end_with_an_error()
            assert caught.value.__context__ is None
    assert struck > 5


def test_child_of_a_fork_can_be_ended_by_its_alarm() -> None:
    def outcome_in_child() -> int:
        child = os.fork()
        if not child:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            try:
                wait_in_vain()
            finally:
                os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with Alarm():
        assert outcome_in_child() == -signal.SIGALRM
    assert outcome_in_child() == -signal.SIGALRM

"""Real signals whose handlers raise in the middle of some code, and never outside of it.

A handler runs in the main thread at the first moment at which the interpreter looks for signals, which may be long
after the signal was sent: it is sent to the process, another thread may be the one that the system interrupts, and the
machine may be busy. So a handler that raises whenever it runs can strike behind the ``try`` that expects it, and its
exception ends the test, or all of them if it comes while pytest makes a report. The handler of an `Alarm` raises only
while it is armed, which is a matter of one attribute; whether the signal comes late then makes no difference.

A signal can also be too early: the interpreter has looked for signals, and is about to make a call of the system that
blocks. So it is sent again and again, and only the first one whose handler runs raises.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

from support.threads import running

# How long until a signal is sent again, in seconds: less than what a test waits for.
REPEAT_SECONDS = 0.05

# How long after its exception the code may go on before it is known that the exception was swallowed in a finalizer.
SWALLOWED_SECONDS = 1.0


class Struck(BaseException):
    """Raised by the handler of an `Alarm`. No code knows it, so none takes it for an error of its own."""


class StruckError(Exception):
    """As `Struck`, for exceptions that ``except Exception`` catches, as that of a watchdog is."""


class Alarm:
    """While entered, SIGALRM raises in code that is given to `strike` and its relatives, and does nothing elsewhere.

    It is entered in the main thread, and code is struck there.

    Parameters
    ----------
    raised : type of BaseException or BaseException
        What the handler raises, and what is expected: that very object, if it is one.
    action : callable, optional
        Called by the handler in place of raising. It may raise `raised`; what else it raises reaches the caller of
        `strike`, and it too is called while armed only.

    Attributes
    ----------
    is_armed : bool
        Whether the handler has still to run. It disarms itself before it raises.
    """

    def __init__(
        self, raised: type[BaseException] | BaseException = Struck, *, action: Callable[[], object] | None = None
    ) -> None:
        self.is_armed = False
        self._raised = raised
        self._type = raised if isinstance(raised, type) else type(raised)
        self._action = action
        # When it raises once more.
        self._once_more = math.inf

    def strike(self, function: Callable[[], object], after: float, again: float = REPEAT_SECONDS) -> bool:
        """Calls ``function()``, and has a signal come after so many seconds; returns whether its exception came.

        The signal is sent again after `again` seconds, which matters as long as the handler has not run. On a machine
        that is busy, the signal may come before `function` has begun. If the exception is swallowed, which Python does
        in finalizers, it comes once more after some time: no code that can be struck waits for ever.
        """
        return self._strike(function, lambda: signal.setitimer(signal.ITIMER_REAL, after, again))

    def strike_repeated(self, step: Callable[[], object], after: float) -> bool:
        """Calls ``step()`` again and again until a signal has come, after so many seconds; returns as `strike` does."""

        def repeat() -> None:
            while self.is_armed:
                step()

        return self.strike(repeat, after)

    def strike_when(
        self, function: Callable[[], object], wait: Callable[[], object], again: float = REPEAT_SECONDS
    ) -> bool:
        """Calls ``function()``, and meanwhile ``wait()`` in another thread, which then sends the signal.

        The thread does not let go of the interpreter's lock between the end of `wait` and the signal. For `again`, and
        what is returned, see `strike`.
        """
        main, begun, over = threading.get_ident(), threading.Lock(), threading.Event()

        def send() -> None:
            begun.acquire()
            try:
                wait()
            finally:
                while True:
                    signal.pthread_kill(main, signal.SIGALRM)
                    if over.wait(again):
                        break

        begun.acquire()
        # The thread starts before anything is armed: an exception in `Thread.start` would leave it half started.
        with running(send):
            try:
                return self._strike(function, begun.release)
            finally:
                over.set()

    def _strike(self, function: Callable[[], object], begin: Callable[[], object]) -> bool:
        # A generator has handled exceptions of its own: CPython 3.11 leaves one behind if a handler raises at the line
        # of an `except`, and all that the test raises later would have it as their context.
        called = (function() for _ in (None,))
        try:
            self.is_armed = True
            begin()
            next(called)
            # The interpreter looks for signals where functions begin, calls end and loops go back: up to here the
            # `try` catches what is raised, and from here on nothing is.
            self.is_armed = False
            self._once_more = math.inf
        except self._type as error:
            if self._raised is not self._type and self._raised is not error:
                raise
            return True
        finally:
            # Behind an exception too, the interpreter has not looked for signals before it is here.
            self.is_armed = False
            self._once_more = math.inf
            signal.setitimer(signal.ITIMER_REAL, 0)
        return False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_armed or time.monotonic() >= self._once_more:
            self.is_armed = False
            if self._action is not None:
                self._action()
            else:
                self._once_more = time.monotonic() + SWALLOWED_SECONDS
                raise self._raised

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGALRM, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        # With the system's action, a signal that is late would end the process.
        signal.signal(signal.SIGALRM, _do_nothing if self._before is signal.SIG_DFL else self._before)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def _let_alarms_end_a_child() -> None:
    """Tests call `signal.alarm` in forked children, which are to end if they hang."""
    handler = signal.getsignal(signal.SIGALRM)
    if handler is _do_nothing or isinstance(getattr(handler, "__self__", None), Alarm):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_let_alarms_end_a_child)

"""The end of a process that is asked to end: for the application to use, because a library installs no handlers."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from flatstream._core.base.pickling import fail_to_pickle

if TYPE_CHECKING:
    from typing import Self

__all__ = ["stop_on_signals"]

# How long a wait sleeps before it looks again. A signal ends the sleep of the main thread, unless the system delivered
# it to another thread.
LOOK_EVERY = 0.1


class stop_on_signals:  # noqa: N801 - used like a function, as `contextlib.suppress`
    """While entered, a signal does not interrupt the program: it asks for the end, and the program looks for that.

    The main thread enters and leaves it. On leaving, the handlers that were there before are there again.

    Parameters
    ----------
    signals : iterable of int
        SIGTERM and SIGINT by default: what a service manager sends, and Ctrl-C.

    Attributes
    ----------
    requested : bool
        Whether one of the signals has come, or `request` was called.
    signal : int or None
        The first one that came.

    Raises
    ------
    ValueError
        Entered in another thread than the main one, or a signal that has no handlers.

    Examples
    --------
    >>> with stop_on_signals() as stop:
    ...     while not stop.requested:
    ...         if stop.wait(0.001):
    ...             break
    ...         stop.request()
    """

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __init__(self, signals: Iterable[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
        self.requested = False
        self.signal: int | None = None
        self._signals = [signal.Signals(number) for number in signals]
        self._previous: dict[int, Any] = {}
        # Held until the end is asked for. (A handler may run in the middle of anything, so it may not wait for a lock,
        # as `threading.Event.set` does.)
        self._pending = threading.Lock()
        self._pending.acquire()

    def request(self) -> None:
        """Asks for the end, as a signal does. From any thread."""
        self.requested = True
        with contextlib.suppress(RuntimeError):
            self._pending.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Sleeps for so many seconds, or without None for ever, but not longer than until the end is asked for.

        Returns `requested`. From any thread.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while not self.requested:
            left = LOOK_EVERY if end is None else min(end - time.monotonic(), LOOK_EVERY)
            if left <= 0:
                break
            if self._pending.acquire(timeout=left):
                # For the other threads that wait.
                self.request()
        return self.requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
        self.request()

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("stop_on_signals must be entered in the main thread: only there signals are handled")
        try:
            for number in self._signals:
                self._previous[number] = signal.signal(number, self._handle)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            # None: the handler was not set by Python, and cannot be set by it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

"""A thread of which it is always known whether it works."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

__all__ = ["Worker", "held_lock"]

# A thread that waits for the end looks again after so many seconds: an exception of a signal handler may have ended
# another one's call of `join` that would have woken it.
LOOK_EVERY = 0.5


def held_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


class Worker:
    """A thread that calls `work` once, as a daemon.

    An exception of a signal handler can end `Thread.start` before the thread is there, or behind it. In Python before
    3.13 one that comes in `Thread.is_alive` or `Thread.join` has them call a thread dead that works. What is asked here
    depends on neither, and no exception leaves it in a wrong state.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._is_started = False
        # Whether the thread works, by "works": decided once, by the first who asks, in one call of compiled code.
        self._decision: dict[str, bool] = {}
        self._ident: int | None = None
        self._is_over = False
        # Released at the end of the work.
        self._end = held_lock()

    def start(self) -> None:
        """Starts the thread. RuntimeError if there can be no more threads."""
        self._thread.start()
        self._is_started = True

    def is_working(self) -> bool:
        """Whether the thread works, or will."""
        return self._decision.get("works", self._is_started) and not self._is_over

    def settle(self) -> bool:
        """Decides that a thread never works whose `start` an exception ended and which has not begun; returns whether
        it works. Not while another thread is in `start`.
        """
        if not self._is_started:
            self._decision.setdefault("works", False)
        return self.is_working()

    def leave(self) -> None:
        """Says, in the thread, that it does no more: for others the work has ended."""
        self._is_over = True

    def is_current(self) -> bool:
        """Whether the caller is this thread, at work."""
        return self._ident == threading.get_ident()

    def join(self, seconds: float | None) -> bool:
        """Waits until the work has ended, but at most so many seconds, if not None; returns whether it has."""
        end = math.inf if seconds is None else time.monotonic() + seconds
        while self.is_working():
            if self._end.acquire(timeout=max(min(end - time.monotonic(), LOOK_EVERY), 0)):
                self._end.release()
            elif time.monotonic() >= end:
                break
        return not self.is_working()

    def _run(self) -> None:
        if not self._decision.setdefault("works", True):
            return
        self._ident = threading.get_ident()
        try:
            self._work()
        finally:
            self._ident = None
            self._is_over = True
            self._end.release()

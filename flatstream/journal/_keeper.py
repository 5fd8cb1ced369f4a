"""The thread that works for a JournalWriter: it syncs, rotates, removes and compresses when the policies say so."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, NoReturn

from flatstream.errors import FlatStreamError
from flatstream.journal._worker import Worker, held_lock

if TYPE_CHECKING:
    from flatstream.journal.writer import JournalWriter

__all__ = ["Keeper"]

log = logging.getLogger("flatstream.journal")

# After the keeper's work failed, it rests for so many seconds.
PAUSE_AFTER_ERROR = 0.25

# How long `close` waits for the keeper, in seconds: a sync on a disk that hangs may take longer. And how long the
# end of the interpreter waits for all of them.
PATIENCE = 60.0
PATIENCE_AT_EXIT = 1.0

# A thread that waits for the disk looks again after so many seconds, even if it was not woken.
LOOK_EVERY = 1.0


class Keeper:
    """The thread that works for a JournalWriter, which it does not keep alive."""

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = weakref.ref(writer)
        reference = weakref.ref(self, _forget)
        _keepers[id(reference)] = reference
        # Held for a few instructions, never while something waits or the caller's code runs. Reentrant, because a
        # signal handler can run in the middle. (Not a Condition, which an exception of a handler can leave locked.)
        self._mutex = threading.RLock()
        # A lock without an owner: its release makes the thread look for work.
        self._bell = held_lock()
        # The threads that wait for the disk: each with the number behind its last frame, and a lock whose release wakes
        # it. It is woken only when the disk has its frames, because a wake-up costs more than a write (J2).
        self._waiters: list[tuple[int, threading.Lock]] = []
        self._worker: Worker | None = None
        self._wanted = 0
        self._is_woken = False
        self._is_stopping = False
        # Whether it was stopped, and perhaps not resumed: then the next write that is handed over wakes it.
        self._is_unkept = False
        # Whether it has stopped for good: at the exit of the interpreter, and in a forked child.
        self._is_final = False
        # How often the thread's work failed, and the last error.
        self._failures = 0
        self._failure: Exception | None = None
        # How many of these failures the waiting threads were woken for.
        self._told = 0
        # What is wrong at the moment, in words.
        self.problem: str | None = None

    def start(self) -> bool:
        """Starts the thread, unless it runs already or the journal is being closed; returns whether it runs."""
        worker = self._worker
        if worker is not None and worker.is_working() and not self._is_stopping and not self._is_unkept:
            return True
        with self._mutex:
            if self._is_stopping:
                writer = self._writer()
                if self._is_final or writer is None or writer.closed or writer._is_closing:
                    return False
                # A second exception of a signal handler came before `close`, which one had cut short, called `resume`.
                self._is_stopping = False
            if self._worker is None or not self._worker.settle():
                self._worker = Worker(self._run, "flatstream-journal")
                try:
                    self._worker.start()
                except RuntimeError:
                    # At the end of the interpreter there are no new threads. `close` does what is left.
                    return False
            self._set_unkept(False)
            return True

    def _set_unkept(self, is_unkept: bool) -> None:
        self._is_unkept = is_unkept
        writer = self._writer()
        segments = None if writer is None else getattr(writer, "_segments", None)
        if segments is not None:
            segments.is_unkept = is_unkept

    def wake(self) -> None:
        """Has the thread look for work."""
        if sys.is_finalizing():
            return
        with self._mutex:
            self._is_woken = True
        self._ring()
        self.start()

    def _ring(self) -> None:
        # It is released still if the thread has not looked since.
        if self._bell.locked():
            with contextlib.suppress(RuntimeError):
                self._bell.release()

    def tell(self) -> None:
        """Wakes the threads that wait for the disk, if their frames are there, or if waiting is in vain."""
        if sys.is_finalizing():
            return
        writer = self._writer()
        is_over = writer is None or writer.closed or writer.is_refusing
        with self._mutex:
            durable = 0 if writer is None else writer._segments.durable
            is_over = is_over or self._failures != self._told
            self._told = self._failures
            waiters, self._waiters = self._waiters, []
            for number, waiter in waiters:
                if is_over or number <= durable:
                    waiter.release()
                else:
                    self._waiters.append((number, waiter))

    def wait_for(self, writer: JournalWriter, number: int, seconds: float | None) -> bool:
        """Waits until the disk has the frames before `number`, or never will; False if the time is over.

        Raises
        ------
        OSError
            What the thread met when it handed over what is in the buffer.
        FlatStreamError
            The thread's work failed in another way.
        """
        segments = writer._segments
        deadline = None if seconds is None else time.monotonic() + seconds
        failures = self._failures
        while not (segments.durable >= number or writer.is_refusing or writer.closed):
            entry = number, waiter = number, held_lock()
            with self._mutex:
                # Compared again: a thread is woken only if it is in `_waiters`.
                if segments.durable >= number or writer.is_refusing or writer.closed:
                    break
                if self._failures != failures:
                    self._raise_failure()
                self._wanted = max(self._wanted, number)
                self._waiters.append(entry)
            try:
                left = LOOK_EVERY if deadline is None else min(deadline - time.monotonic(), LOOK_EVERY)
                self._ring()
                if not self.start():
                    # There is no thread. Of its work, what is waited for; the rest is done by one at a time.
                    writer._sync_all()
                elif left <= 0:
                    return False
                else:
                    # With a time limit: an exception of a signal handler can have ended the call that would have woken
                    # it, or the journal's thread.
                    waiter.acquire(timeout=left)
            finally:
                with self._mutex:
                    if entry in self._waiters:
                        self._waiters.remove(entry)
        return True

    def _raise_failure(self) -> NoReturn:
        failure = self._failure
        if isinstance(failure, OSError):
            raise OSError(failure.errno, failure.strerror) from failure
        raise FlatStreamError(f"the journal's thread failed: {type(failure).__name__}: {failure}") from failure

    def stop(self, patience: float = PATIENCE) -> None:
        """Ends the thread, and waits until it has ended, but not longer than `patience` seconds."""
        if sys.is_finalizing():
            # There a thread can have been ended while it held the lock.
            return
        with self._mutex:
            self._is_stopping = True
            self._set_unkept(True)
            worker = self._worker
            if worker is not None:
                worker.settle()
        self._ring()
        # The thread may be the one that drops the last reference to the writer.
        if worker is not None and not worker.is_current():
            worker.join(patience)

    def stop_for_good(self, patience: float = PATIENCE) -> None:
        """`stop`, and no call starts the thread again."""
        self._is_final = True
        self.stop(patience)

    @property
    def is_running(self) -> bool:
        """Whether the thread is in the middle of its work, and another one asks."""
        worker = self._worker
        return worker is not None and worker.is_working() and not worker.is_current()

    def resume(self) -> None:
        """Lets the thread begin again after `stop`."""
        if sys.is_finalizing():
            return
        with self._mutex:
            self._is_stopping = self._is_final
        self.start()

    def leave_to_parent(self) -> None:
        """Resets the state in a forked child: the thread is not there, and another one may have held the lock."""
        self._mutex = threading.RLock()
        self._bell = held_lock()
        self._waiters = []
        self._worker = None
        self._is_stopping = self._is_final = True

    def _run(self) -> None:
        pause: float | None = None
        while True:
            writer = self._writer()
            if writer is None or writer.closed:
                return
            timeout = writer._seconds_until_work() if pause is None else pause
            durable = writer._segments.durable
            del writer
            with self._mutex:
                is_idle = pause is not None or not (self._is_woken or self._wanted > durable)
                is_stopping = self._is_stopping
            if is_idle and not is_stopping and (timeout is None or timeout > 0):
                self._bell.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            with self._mutex:
                if self._is_stopping:
                    # With the mutex: who resumes it from now on starts another thread.
                    if self._worker is not None:
                        self._worker.leave()
                    return
                self._is_woken = False
                wanted = self._wanted
            writer = self._writer()
            if writer is None or writer.closed:
                return
            try:
                writer._keep(wanted)
            except Exception as error:
                if isinstance(error, ValueError) and writer._is_shut:
                    # It was closed meanwhile.
                    pause = None
                else:
                    pause = PAUSE_AFTER_ERROR
                    self._note_failure(writer, error)
            else:
                self.problem = pause = None
            # A write may have synced the frames that threads wait for.
            self.tell()
            # Whatever somebody's handler of the log raises does not end the thread.
            while writer._segments.lines:
                with contextlib.suppress(Exception):
                    writer._segments.write_log()
            del writer

    def _note_failure(self, writer: JournalWriter, error: Exception) -> None:
        is_first = self.problem is None
        with self._mutex:
            self.problem = f"the journal's thread failed, and tries again: {error}"
            self._failures += 1
            self._failure = error.with_traceback(None)
            # The waiting threads get the error. A thread that waits again sets its number again.
            self._wanted = 0
        if is_first:
            with contextlib.suppress(Exception):
                log.error("%s: the journal's thread failed, and tries again: %s", writer.directory, error)


# Of their own, because a keeper lives as long as its thread. By the identity of the reference: a dictionary can be
# copied while daemon threads open journals.
_keepers: dict[int, weakref.ref[Keeper]] = {}


def _forget(reference: weakref.ref[Keeper]) -> None:
    _keepers.pop(id(reference), None)


def _all_keepers() -> list[Keeper]:
    return [keeper for reference in list(_keepers.values()) if (keeper := reference()) is not None]


def _stop_keepers() -> None:
    """Ends the threads before the interpreter does, which would end them wherever they are, with the locks they have.

    The writers are handed over afterwards (`flatstream._at_exit`).
    """
    end = time.monotonic() + PATIENCE_AT_EXIT
    for keeper in _all_keepers():
        keeper.stop_for_good(max(0.0, end - time.monotonic()))


def _leave_keepers_to_parent() -> None:
    for keeper in _all_keepers():
        keeper.leave_to_parent()


# Before what `flatstream._at_exit` has registered, because functions are called in the opposite order.
atexit.register(_stop_keepers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_keepers_to_parent)

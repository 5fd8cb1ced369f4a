"""The thread of a ThreadedWriter, and what passes between it and the threads that put payloads."""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import math
import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Any, NoReturn

from flatstream._at_exit import PATIENCE
from flatstream._core.base.pickling import fail_to_pickle
from flatstream.errors import FlatStreamError
from flatstream.journal._worker import Worker, held_lock
from flatstream.writer import StreamWriter

__all__ = ["LOOK_EVERY", "WritingThread", "logger", "seconds_argument"]

logger = logging.getLogger("flatstream.journal")

# How many payloads the thread takes out of the queue at once, at most.
BATCH = 256

# Pauses before the thread tries again, in seconds: the first one, which doubles each time, and the longest.
PAUSES_AFTER_ERROR = (0.01, 1.0)
PAUSES_WHILE_BLOCKED = (0.001, 0.05)

# How long a waiting call sleeps before it looks for signals. A signal interrupts the sleep, unless it came just before
# it or was delivered to another thread.
LOOK_EVERY = 0.05


class _Request:
    """A call that waits for the thread: for everything that was put before it.

    Attributes
    ----------
    target : int
        How many payloads must be finished with.
    wants_sync : bool
        Whether the writer is to be synced then.
    done : Lock
        Held until the request is answered.
    error : BaseException or None
        The answer.
    """

    def __init__(self, wants_sync: bool) -> None:
        self.target = 0
        self.wants_sync = wants_sync
        self.done = held_lock()
        self.error: BaseException | None = None


class WritingThread:
    """The base class of ThreadedWriter: a queue, a thread that empties it, and the calls that wait for the thread.

    Parameters
    ----------
    writer : StreamWriter
        Gets the payloads.
    capacity : int
        How many payloads the queue holds.
    flush_interval : float
        The writer is flushed at most so many seconds after a put.
    """

    # Whether `__init__` has come to its end, so that there is something to close.
    _is_made = False

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __init__(self, writer: StreamWriter, capacity: int, flush_interval: float) -> None:
        self.writer = writer
        self.capacity = capacity
        self.dropped = self.drop_episodes = self.refused = self.lost = self.errors = 0
        self._flush_interval = seconds_argument("flush_interval", flush_interval)

        # Held for a few instructions, never while anything waits or runs code of others. Reentrant, because a signal
        # handler or a finalizer can run in the middle of a put and put something itself.
        self._mutex = threading.RLock()
        self._queue: deque[bytes] = deque()
        # What the thread has taken out of the queue, and the writer has not accepted yet.
        self._batch: list[bytes] = []
        # How many payloads have left both of them, for whatever reason.
        self._finished = 0
        # A put that finds so many payloads in the queue has more to do than to append its own. See `_set_limit`.
        self._limit = 0
        # What a put raises, if nothing can be put any more.
        self._refusal: tuple[type[Exception], str] | None = None
        # What the next call raises.
        self._error: BaseException | None = None
        # Why the thread has come to its end before `close`.
        self._fatal: BaseException | None = None
        self._is_loss_told = False
        # Producers that wait for room.
        self._waiters: list[threading.Lock] = []
        self._requests: list[_Request] = []
        # Time and number of the first drop of the episode.
        self._episode: tuple[float, int] | None = None
        self._is_closing = self._is_closed = self._is_forked = self._is_told = False

        # The thread. `_wake` is released when it sleeps and is to wake.
        self._wake = held_lock()
        self._is_asleep = True
        self._is_turning = False
        self._wake_at = 1
        # Whether something happened that it must look at before it sleeps.
        self._has_news = False
        self._failing_since: float | None = None
        self._pause = 0.0
        # Since when the writer's buffer has had payloads.
        self._unflushed_since: float | None = None
        reference = weakref.ref(self, _forget)
        self._thread = Worker(partial(_run, reference, self._wake), "flatstream-threaded-writer")
        self._set_limit()
        self._thread.start()
        _writers[id(reference)] = reference
        self._is_made = True

    @property
    def queued(self) -> int:
        """How many payloads the writer has not accepted yet."""
        with self._mutex:
            return len(self._queue) + len(self._batch)

    def _check_can_put(self) -> None:
        """Raises what a put raises: an error of the thread, or that nothing can be put any more."""
        if (error := self._take_error()) is not None:
            raise error
        if self._fatal is not None:
            self._raise_fatal()
        if self._refusal is not None:
            kind, message = self._refusal
            raise kind(message)

    def _take_error(self) -> BaseException | None:
        """The error that was not delivered yet, which counts as delivered now."""
        error, self._error = self._error, None
        if error is not None:
            try:
                self._set_limit()
            except BaseException:
                # Of a signal handler: nobody has heard of the error yet.
                self._error = error
                raise
        return error

    def _raise_fatal(self) -> NoReturn:
        self._is_loss_told = True
        error = self._fatal
        assert error is not None
        told = str(error) if isinstance(error, FlatStreamError) else f"{type(error).__name__}: {error}"
        raise FlatStreamError(
            f"this {type(self).__name__} refuses to go on, and {self.lost} payloads that were queued are lost: {told}"
        ) from error

    def _is_in_call(self) -> bool:
        """Whether this thread is in the middle of a call that has the mutex, which a signal handler (or a finalizer)
        interrupts. The writing thread comes no further then. To be asked without the mutex.
        """
        return bool(self._mutex._is_owned())  # type: ignore[attr-defined]

    def _check_can_wait(self, why: str, is_in_call: bool) -> None:
        """Raises RuntimeError if this thread cannot wait for the writing thread."""
        if self._thread.is_current():
            raise RuntimeError(
                f"reentrant call: this is the thread of this {type(self).__name__}, in the middle of a write: {why}"
            )
        if is_in_call:
            raise RuntimeError(
                f"reentrant call: this {type(self).__name__} is in the middle of another call of this thread, which a "
                f"signal handler interrupts: {why}"
            )

    def _wait_for_thread(self, wants_sync: bool, timeout: float | None) -> None:
        """Waits until everything that was put before is finished with, and flushed or synced; or closed."""
        seconds = math.inf if timeout is None else seconds_argument("timeout", timeout)
        is_in_call = self._is_in_call()
        request = _Request(wants_sync)
        try:
            with self._mutex:
                if self._is_forked:
                    self._check_can_put()
                self._check_can_wait("it would wait for itself", is_in_call)
                if self._fatal is not None:
                    self._raise_fatal()
                if self._is_closed:
                    # By a call of another thread. Everything is handed over.
                    return
                self._ask(request)
            self._wait(request, seconds)
        except BaseException:
            self._give_up(request)
            raise
        if request.error is not None:
            raise request.error

    def _ask(self, request: _Request) -> None:
        """Asks the thread to finish with everything that is queued. With the mutex."""
        request.target = self._finished + len(self._batch) + len(self._queue)
        self._requests.append(request)
        self._wake_thread()

    def _give_up(self, request: _Request) -> None:
        """Waits no longer. What the answer was, if there is one already, the next call hears."""
        with self._mutex:
            if request in self._requests:
                self._requests.remove(request)
                return
            error = request.error
            if error is None or self._fatal is not None:
                return
            # What the sink met is over when it works.
            if self._failing_since is not None or self._is_closed or not isinstance(error, (OSError, MemoryError)):
                self._deliver(error)

    def _wait(self, request: _Request, seconds: float) -> None:
        """Waits until a request is answered. After an exception, the caller gives it up."""
        end = time.monotonic() + seconds
        while not request.done.acquire(timeout=max(min(LOOK_EVERY, end - time.monotonic()), 0)):
            with self._mutex:
                if self._is_forked:
                    self._check_can_put()
                if time.monotonic() >= end and request in self._requests:
                    raise TimeoutError(
                        errno.ETIMEDOUT,
                        f"{len(self._queue) + len(self._batch)} payloads were not all handed over within "
                        f"{seconds:g} s; they stay in the queue",
                    )

    # Between producers and the thread. All of these are called with the mutex.

    def _set_limit(self) -> None:
        """Calculates `_limit` anew, after a change of anything that it depends on."""
        if self._refusal is not None or self._error is not None or self._fatal is not None:
            self._limit = 0
        elif self._is_asleep:
            self._limit = min(self._wake_at - 1, self.capacity)
        else:
            self._limit = self.capacity

    def _refuse(self, kind: type[Exception], message: str) -> None:
        """Has every later put raise that error, and the puts that wait for room."""
        self._refusal = kind, message
        self._set_limit()
        self._wake_waiters()

    def _wake_thread(self) -> None:
        self._has_news = True
        if self._is_asleep:
            # First, so that it wakes even if a signal handler raises here; then it may be released already.
            with contextlib.suppress(RuntimeError):
                self._wake.release()
            self._is_asleep = False
            self._set_limit()

    def _wake_waiters(self) -> None:
        """Has the puts that wait for room look again. All of them, so that none is forgotten if one gives up."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.release()

    # The thread

    def _log(self, level: int, text: str, *arguments: Any) -> None:
        """Whatever somebody's handler of the log raises does not end the thread."""
        with contextlib.suppress(BaseException):
            logger.log(level, text, *arguments)

    def _answer(self, requests: Iterable[_Request], error: BaseException | None = None) -> None:
        """Ends the waiting of calls. Without an error they get the one that was not delivered yet, if there is one."""
        with self._mutex:
            # One that gave up is not there any more.
            answered = [request for request in requests if request in self._requests]
            if answered and error is None:
                error = self._take_error()
            for request in answered:
                self._requests.remove(request)
                request.error = error
                request.done.release()

    def _turn(self) -> float | None:
        """Does what there is to do. Returns how many seconds to sleep then, -1 for ever; None at the end."""
        try:
            with self._mutex:
                if self._is_closed:
                    # It is being collected.
                    return None
                self._is_turning = True
                self._is_asleep = False
                # It is released still if somebody woke the thread when its time was over.
                self._wake.acquire(blocking=False)
                self._set_limit()
            while not self._is_forked:
                with self._mutex:
                    self._has_news = False
                    self._take_batch()
                has_failed = not self._write_batch() or not self._hand_over()
                if self._is_closed or self._fatal is not None:
                    return None
                self._end_episode()
                with self._mutex:
                    # After a failure the queue waits for the next attempt.
                    if self._has_news or (self._queue and not has_failed):
                        continue
                    return self._fall_asleep(has_failed)
            return None
        except BaseException as error:
            # Nothing above raises, but there may be no memory. The producers must not wait for ever.
            self._die(error)
            return None

    def _take_batch(self) -> None:
        if self._batch:
            return
        # First a copy, then the change, which needs no memory.
        self._batch = list(islice(self._queue, BATCH))
        popleft = self._queue.popleft
        for _ in self._batch:
            popleft()
        if self._waiters:
            self._wake_waiters()

    def _fall_asleep(self, has_failed: bool) -> float:
        """Decides how long to sleep, and how many payloads in the queue end that before. With the mutex."""
        self._is_asleep = True
        self._is_turning = False
        if has_failed:
            seconds, self._wake_at = self._pause, self.capacity + 1
        elif self._unflushed_since is not None:
            # Puts need not wake it: it takes them when it flushes, unless the queue is half full before.
            seconds = max(self._unflushed_since + self._flush_interval - time.monotonic(), 0.0)
            self._wake_at = max(self.capacity // 2, 1)
        else:
            seconds, self._wake_at = -1.0, 1
        self._set_limit()
        return seconds

    def _write_batch(self) -> bool:
        """Writes what was taken out of the queue; returns whether the writer accepted or refused each of it."""
        while batch := self._batch:
            before = self.writer.frames_written
            try:
                self.writer.write_payloads(batch)
            except BaseException as error:
                self._accept(min(max(self.writer.frames_written - before, 0), len(batch)))
                if not self._refuses_payload(error):
                    return self._fail(error)
            else:
                self._accept(len(batch))
        return True

    def _accept(self, count: int) -> None:
        if count and self._unflushed_since is None:
            self._unflushed_since = time.monotonic()
        with self._mutex:
            del self._batch[:count]
            self._finished += count

    def _refuses_payload(self, error: BaseException) -> bool:
        """Whether an error is about the payload, not about the sink. That payload is left out then."""
        if isinstance(error, (OSError, MemoryError)) or not isinstance(error, Exception) or not self._can_go_on():
            return False
        with self._mutex:
            if not self._batch:
                return False
            del self._batch[0]
            self._finished += 1
            self.refused += 1
            is_first = self._error is None
            self._deliver(error)
        if is_first:
            self._log(logging.WARNING, "%r: a payload was refused: %s: %s", self, type(error).__name__, error)
        return True

    def _can_go_on(self) -> bool:
        return not self.writer.is_refusing and not self.writer.closed

    def _deliver(self, error: BaseException) -> None:
        """Gives an error to the next call, or to one that waits for room. With the mutex."""
        if self._error is None:
            self._error = error
            self._set_limit()
            self._wake_waiters()

    def _hand_over(self) -> bool:
        """Flushes, syncs and closes the writer if that is wanted now; returns whether it works."""
        with self._mutex:
            ready = [request for request in self._requests if request.target <= self._finished]
            is_last = self._is_closing and not self._queue
        if ready or is_last or self._is_flush_due():
            try:
                self.writer.flush()
            except BaseException as error:
                return self._fail(error)
            self._unflushed_since = None
        self._succeed()
        syncs = [request for request in ready if request.wants_sync]
        if not is_last:
            self._answer([request for request in ready if not request.wants_sync])
        if syncs and not self._sync(syncs):
            return False
        return self._close_writer() if is_last else True

    def _is_flush_due(self) -> bool:
        # After a failure only an attempt shows whether it works again.
        return self._unflushed_since is not None and (
            self._failing_since is not None or time.monotonic() >= self._unflushed_since + self._flush_interval
        )

    def _sync(self, requests: list[_Request]) -> bool:
        try:
            self.writer.sync()
        except BaseException as error:
            if not self._can_go_on():
                return self._fail(error)
            # Such as a sink that is no file. That is no reason to stop.
            self._answer(requests, error)
        else:
            self._answer(requests)
        return True

    def _close_writer(self) -> bool:
        error = None
        try:
            self.writer.close()
        except BaseException as caught:
            if not self.writer.closed:
                return self._fail(caught)
            error = caught
        with self._mutex:
            if error is not None:
                self._deliver(error)
            # If the call that wanted it has given up, the next one gets the error.
            self._answer(self._requests)
            self._is_closed = True
        self._end_episode()
        return True

    def _succeed(self) -> None:
        """The sink works. If it did not before, says so."""
        self._pause = 0.0
        if self._failing_since is None:
            return
        seconds, self._failing_since = time.monotonic() - self._failing_since, None
        with self._mutex:
            # Nothing was lost by it, so there is nothing left to do for who did not hear of it.
            if isinstance(self._error, (OSError, MemoryError)):
                self._take_error()
        self._log(logging.WARNING, "%r: writing works again after %.3f s", self, seconds)

    def _fail(self, error: BaseException) -> bool:
        """Notes that the sink fails. Returns False."""
        if not self._can_go_on():
            self._die(error)
            return False
        is_blocked = isinstance(error, BlockingIOError)
        first, longest = PAUSES_WHILE_BLOCKED if is_blocked else PAUSES_AFTER_ERROR
        self._pause = min(max(2 * self._pause, first), longest)
        if is_blocked:
            return False
        is_first = self._failing_since is None
        if self._unflushed_since is None:
            # So that the next attempt shows whether the sink works, even if there is nothing to write.
            self._unflushed_since = time.monotonic()
        with self._mutex:
            if is_first:
                self._failing_since = time.monotonic()
                self.errors += 1
                # Calls that wait for the thread hear of it. If there are none, the next call does.
                if not self._requests:
                    self._deliver(error)
            self._answer(self._requests, error)
        if is_first:
            self._log(
                logging.WARNING,
                "%r: writing fails, and is tried again: %s: %s; %d payloads are queued",
                self,
                type(error).__name__,
                error,
                self.queued,
            )
        return False

    def _die(self, error: BaseException) -> None:
        """The end of the thread before `close`: what is queued is lost."""
        with self._mutex:
            self._fatal = error
            lost = len(self._batch) + len(self._queue)
            self.lost += lost
            self._finished += lost
            self._batch = []
            self._queue.clear()
            self._error = None
            self._set_limit()
            self._wake_waiters()
            for request in list(self._requests):
                try:
                    self._raise_fatal()
                except FlatStreamError as told:
                    self._answer([request], told)
        self._log(
            logging.ERROR,
            "%r: refuses to go on, and %d payloads that were queued are lost: %s: %s",
            self,
            lost,
            type(error).__name__,
            error,
        )

    def _end_episode(self) -> None:
        """Ends an episode of drops, if the queue is empty."""
        if self._episode is None:
            return
        with self._mutex:
            if self._queue or self._batch or self._episode is None:
                return
            (began, before), self._episode = self._episode, None
            dropped = self.dropped - before
        self._log(
            logging.WARNING,
            "%r: the queue is empty again; %d payloads were dropped in %.3f s",
            self,
            dropped,
            time.monotonic() - began,
        )

    # The end of the process

    def _leave_to_parent(self) -> None:
        """What a forked child does first: this copy refuses everything. It has no thread, and the mutex may be held."""
        self._mutex = threading.RLock()
        self._is_forked = True
        self._error = None
        self._queue.clear()
        self._batch = []
        self._requests = []
        self._waiters = []
        self._fatal = None
        message = (
            f"this {type(self).__name__} belongs to the process that made it, which has its thread: after a fork the "
            "child must open its own writer"
        )
        self._refusal = RuntimeError, message
        self._set_limit()

    def _begin_exit(self) -> tuple[str, _Request] | None:
        """Refuses every later put, and has the thread hand over the queue. Returns what there is to hand over, if
        anything, and the request.
        """
        with self._mutex:
            if self._is_forked or self._is_closed or self._fatal is not None:
                return None
            if not self._is_closing:
                # What a daemon thread put from now on could be lost without a word.
                self._refuse(RuntimeError, f"the interpreter exits: this {type(self).__name__} takes nothing more")
            payloads, pending = len(self._queue) + len(self._batch), self.writer.pending_bytes
            if not payloads and not pending:
                return None
            what = f"{payloads} payloads in its queue" if payloads else f"{pending} bytes in its buffer"
            request = _Request(False)
            self._ask(request)
            return what, request

    def _end_exit(self, what: str, request: _Request, end: float) -> tuple[str, type[Warning]]:
        """Waits for the request, not longer than until `end`; returns a warning."""
        why = ""
        try:
            self._wait(request, max(end - time.monotonic(), 0))
            if request.error is not None:
                raise request.error
        except TimeoutError:
            why = "its thread could not hand them over in time"
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        if left := self.queued or (self.lost if self._fatal is not None else 0):
            return f"{left} of {what} are lost, because {why}", RuntimeWarning
        if pending := self.writer.pending_bytes:
            return f"{what} are in the buffer of its writer, {pending} bytes, because {why}", RuntimeWarning
        if why:
            return f"{what} were handed over now; {why}", RuntimeWarning
        return f"{what} were handed over now", ResourceWarning


def _run(reference: weakref.ref[WritingThread], wake: threading.Lock) -> None:
    """The thread. It holds no reference while it sleeps, so that a writer that nobody has any more is collected."""
    while (writer := reference()) is not None:
        seconds = writer._turn()
        del writer
        if seconds is None:
            return
        wake.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))


def seconds_argument(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, got {value!r:.100}")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a finite number of seconds, at least 0, got {value!r}")
    return float(value)


# By the identity of the reference, as in `flatstream._at_exit`.
_writers: dict[int, weakref.ref[WritingThread]] = {}


def _forget(reference: weakref.ref[WritingThread]) -> None:
    _writers.pop(id(reference), None)


def _open_writers() -> list[WritingThread]:
    found = [reference() for reference in list(_writers.values())]
    return [writer for writer in found if writer is not None]


def _hand_over_all() -> None:
    """At the exit of the interpreter, before `flatstream._at_exit`, which looks after the buffers of the writers."""
    end = time.monotonic() + PATIENCE
    # All begin, before one is waited for.
    begun = [(writer, writer._begin_exit()) for writer in _open_writers()]
    told = [(writer, writer._end_exit(*left, end)) for writer, left in begun if left is not None]
    # Afterwards, because a warning may be an error.
    for writer, fate in told:
        if fate is not None:
            writer._is_told = True
            message, category = fate
            message = f"{writer!r} is open at the exit of the interpreter: {message}"
            warnings.warn(message, category, source=writer, stacklevel=2)


def _leave_all_to_parent() -> None:
    for writer in _open_writers():
        writer._leave_to_parent()


atexit.register(_hand_over_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)

"""ThreadedWriter: writes from a thread of its own, so that who produces payloads need not wait for the sink."""

from __future__ import annotations

import contextlib
import errno
import time
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

from flatstream._core.base.checks import index_argument
from flatstream.errors import FlatStreamError
from flatstream.journal._messages import MessageCopier
from flatstream.journal._worker import held_lock
from flatstream.journal._writing_thread import LOOK_EVERY, WritingThread, logger
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from typing import Self

__all__ = ["ThreadedWriter"]

WhenFull = Literal["block", "drop_newest", "drop_oldest", "raise"]


class ThreadedWriter(WritingThread):
    """Queues payloads, and writes them to a StreamWriter in a thread of its own.

    A put costs a fraction of a microsecond and does not wait for the sink, unless the queue is full and `when_full` is
    "block". The order is kept. Threads may share the object.

    Parameters
    ----------
    writer : StreamWriter
        Any one, such as a JournalWriter. It belongs to this object from now on: `close` closes it, and nobody else
        writes to it meanwhile.
    capacity : int
        How many payloads the queue holds. Besides these, the thread has at most 256 that it is writing.
    when_full : {"block", "drop_newest", "drop_oldest", "raise"}
        What a put does when the queue is full: it waits; drops its own payload; drops the payload that waits longest;
        or raises BlockingIOError. What is dropped is counted in `dropped`.
    flush_interval : float
        The writer is flushed at most so many seconds after a put, if the sink keeps up. 0: after each of its writes.

    Attributes
    ----------
    writer : StreamWriter
        The writer.
    capacity : int
        How many payloads the queue holds.
    when_full : str
        The policy.
    dropped : int
        How many payloads were dropped because the queue was full.
    drop_episodes : int
        How often dropping began. An episode ends when the queue is empty again. The logger "flatstream.journal" gets a
        line at its beginning, from the put, and one at its end.
    refused : int
        How many payloads the framer refused (a validator, or a bound on the size). They are left out.
    lost : int
        How many payloads were in the queue when the writer began to refuse to go on.
    errors : int
        How often the thread began to fail. It may have gone on since.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong; a put, flush or sync after `close`.
    BlockingIOError
        From a put, with "raise": the queue is full.
    OSError
        From the next put, flush, sync or close: the sink fails. A put raises it once until the sink works again, and
        its payload was not queued. What is queued stays there, and the thread tries again after a pause.
    InvalidFrameError, ValidationFailedError, FlatStreamError
        From the next put, flush, sync or close: the framer refused a payload that was put before (once); or the writer
        refuses to go on, and what was queued is lost: the text says how many payloads (each time).
    RuntimeError
        From a put in a forked child or after the interpreter began to exit; from the thread itself (a sink that calls
        the writer that writes to it). From what would wait (flush, sync, close, a put without room) in a signal handler
        that interrupts another call of this object in the few instructions in which it must not be: nothing was done.

    Notes
    -----
    A sink that would block (BlockingIOError) is waited for, as one that blocks is; see `flush` for a time limit.

    When the interpreter exits, the queue is handed over within one second, with a ResourceWarning; a RuntimeWarning
    says how many payloads are lost if that is not enough. The exit never waits longer. An object that is collected
    before `close` hands over its queue with a ResourceWarning. After a fork, the child's copy refuses everything but
    `close`, which does nothing there.

    Examples
    --------
    >>> import io
    >>> from flatstream import StreamWriter
    >>> sink = io.BytesIO()
    >>> with ThreadedWriter(StreamWriter(sink), 1000, "drop_oldest") as writer:
    ...     writer.write_payload(b"abc")
    >>> sink.getvalue()
    b'\\x03\\x00\\x00\\x00abc'
    """

    def __init__(
        self,
        writer: StreamWriter,
        capacity: int,
        when_full: WhenFull = "block",
        *,
        flush_interval: float = 0.1,
    ) -> None:
        if not isinstance(writer, StreamWriter):
            raise TypeError(f"writer must be a StreamWriter, got {writer!r:.100}")
        if writer.closed:
            raise ValueError("the writer is closed")
        capacity = index_argument("capacity", capacity)
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        if when_full not in get_args(WhenFull):
            raise ValueError(f"when_full must be one of {', '.join(get_args(WhenFull))}; got {when_full!r:.100}")
        self.when_full = when_full
        self._copier = MessageCopier(lambda: writer._new_builder(writer._capacity))
        super().__init__(writer, capacity, flush_interval)

    # State

    @property
    def frames_written(self) -> int:
        """How many payloads the writer has accepted. Some may still be in its buffer: see `flush`."""
        return int(self.writer.frames_written)

    @property
    def is_refusing(self) -> bool:
        """Whether every later put is refused, because the writer refuses to go on."""
        return self._fatal is not None

    @property
    def closed(self) -> bool:
        """Whether `close` has finished."""
        return self._is_closed

    # Putting

    def write_payload(self, payload: Any, /) -> None:
        """Queues a finished message, any C-contiguous buffer. It is copied if it is not `bytes`."""
        if type(payload) is not bytes:
            payload = _copy(payload)
        with self._mutex:
            queue = self._queue
            if len(queue) < self._limit:
                queue.append(payload)
                return
        self._put(payload)

    def write_payloads(self, payloads: Iterable[Any]) -> None:
        """Queues each of `payloads`, an iterable of bytes-like objects, in order.

        If one is refused or the queue is full, those before it are queued.
        """
        if isinstance(payloads, (bytes, bytearray, memoryview, str)) or not hasattr(type(payloads), "__iter__"):
            raise TypeError(f"payloads must be an iterable of bytes-like objects, got one {type(payloads).__name__}")
        put = self.write_payload
        for payload in payloads:
            put(payload)

    def write_finished(self, builder: Any, /) -> None:
        """Queues a copy of the message that `builder` has finished; the builder is not changed."""
        self.write_payload(self._copier.of_builder(builder))

    def write_message(self, builder: Any) -> None:
        """Queues a copy of the message that `builder` has finished. If it was queued or dropped, clears the builder."""
        self.write_finished(builder)
        builder.Clear()

    def write(self, item: Any) -> None:
        """Makes the message of `item`, as `StreamWriter.write` does, and queues it."""
        dumps = self.writer._dumps
        self.write_payload(self._copier.of_item(item) if dumps is None else dumps(item))

    def write_batch(self, items: Iterable[Any]) -> None:
        """Queues each of `items` as `write` does. If one fails, those before it are queued."""
        if isinstance(items, str) or not hasattr(type(items), "__iter__"):
            raise TypeError(
                f"items must be an iterable of items, got one {type(items).__name__}: write() takes a single item"
            )
        for item in items:
            self.write(item)

    def _put(self, payload: bytes) -> None:
        """A put for which there is something to do, or no room."""
        is_first_drop = False
        while True:
            waiter = None
            is_in_call = self._is_in_call()
            with self._mutex:
                self._check_can_put()
                queue = self._queue
                if len(queue) < self.capacity:
                    # First, so that no payload lies there unseen if a signal handler raises in between.
                    if len(queue) + 1 >= self._wake_at:
                        self._wake_thread()
                    queue.append(payload)
                    return
                if self.when_full == "raise":
                    raise BlockingIOError(
                        errno.EAGAIN, f"the queue of {self!r} is full: it holds {self.capacity} payloads"
                    )
                if self.when_full != "block":
                    is_first_drop = self._count_drop()
                    if self.when_full == "drop_oldest":
                        # In this order, so that requests are answered if a signal handler raises in between.
                        self._finished += 1
                        queue.popleft()
                        queue.append(payload)
                    break
                self._check_can_wait("a put would wait for itself", is_in_call)
                waiter = held_lock()
                self._waiters.append(waiter)
            while not waiter.acquire(timeout=LOOK_EVERY):
                # The thread that would release it is in the parent process only.
                if self._is_forked:
                    break
        if is_first_drop:
            logger.warning(
                "%r: the queue is full (%d payloads), and payloads are dropped (%s)",
                self,
                self.capacity,
                self.when_full,
            )

    def _count_drop(self) -> bool:
        """Counts a payload that is dropped; returns whether an episode begins with it."""
        self.dropped += 1
        if self._episode is not None:
            return False
        self._episode = time.monotonic(), self.dropped - 1
        self.drop_episodes += 1
        return True

    # Waiting for the thread

    def flush(self, timeout: float | None = None) -> None:
        """Returns when everything that was put before is handed to the sink, and the writer is flushed.

        An error that comes meanwhile is raised, and nothing is lost by it, unless it says so. After `timeout` seconds,
        TimeoutError: the thread goes on nevertheless.
        """
        self._check_open()
        self._wait_for_thread(False, timeout)

    def sync(self, timeout: float | None = None) -> None:
        """Returns when the disk has everything that was put before: `flush`, and `sync` of the writer."""
        self._check_open()
        self._wait_for_thread(True, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Flushes, closes the writer, and ends the thread. Another call does nothing once this is done.

        Nothing can be put from the beginning of this call on. After an error of the sink and after TimeoutError
        (`timeout` is in seconds) nothing is lost: the thread goes on, and another call waits for it again.
        """
        if self._is_forked:
            self._is_closed = True
            return
        is_in_call = self._is_in_call()
        with self._mutex:
            if not self._is_closing:
                self._check_can_wait("it cannot be closed from there", is_in_call)
                # In this order, so that no put is accepted if a signal handler raises in between.
                self._refuse(ValueError, f"this {type(self).__name__} is closed")
                self._is_closing = True
        if self._fatal is not None:
            self._close_after_fatal()
        elif self._is_closed:
            if (error := self._take_error()) is not None:
                raise error
        else:
            try:
                self._wait_for_thread(False, timeout)
            except FlatStreamError:
                if self._fatal is None:
                    raise
                self._close_after_fatal()
            self._thread.join(timeout)

    def _close_after_fatal(self) -> None:
        """The end when there is no thread any more."""
        with self._mutex:
            was_closed, self._is_closed = self._is_closed, True
        if was_closed:
            return
        # It says again why it refuses to go on.
        with contextlib.suppress(FlatStreamError, OSError):
            self.writer.close()
        self._raise_fatal()

    def _check_open(self) -> None:
        if self._is_closing:
            raise ValueError(f"this {type(self).__name__} is closed")

    # The end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except Exception as second:
            # The first error is raised; the second one becomes a note of it.
            error.add_note(f"closing the threaded writer failed too: {type(second).__name__}: {second}")

    def __del__(self) -> None:
        if not self._is_made:
            # An exception of a signal handler can end `__init__` when the thread runs already.
            if (wake := self.__dict__.get("_wake")) is not None:
                with contextlib.suppress(RuntimeError):
                    wake.release()
            return
        if self._is_closed or self._is_forked:
            return
        with self._mutex:
            queued, endpoint = len(self._queue) + len(self._batch), self.writer._endpoint
            is_open = endpoint is not None and (endpoint.owned or queued or self.writer.pending_bytes)
            self._refuse(ValueError, f"this {type(self).__name__} is closed")
            if self._is_turning:
                # The thread has a reference again, because it can get one until this method has returned.
                self._is_closing = True
            else:
                self._is_closed = True
            self._wake_thread()
        try:
            if is_open and not self._is_told:
                warnings.warn(f"unclosed threaded writer {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            if self._is_closed:
                self._close_at_collection()

    def _close_at_collection(self) -> None:
        try:
            self.writer.write_payloads([*self._batch, *self._queue])
            self.writer.close()
        except Exception as error:
            lost = len(self._batch) + len(self._queue)
            if self._fatal is not None and not self._is_loss_told:
                lost = self.lost
            if lost and not self._is_told:
                message = f"{self!r} was not closed, and {lost} payloads in its queue may be lost: {error}"
                warnings.warn(message, RuntimeWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"<ThreadedWriter over {self.writer!r:.200}>"


def _copy(payload: Any) -> bytes:
    if isinstance(payload, str):
        raise TypeError("payload must be a bytes-like object, got str: encode it first")
    try:
        view = memoryview(payload)
    except TypeError:
        raise TypeError(f"payload must be a bytes-like object, got {type(payload).__name__}") from None
    with view:
        if not view.c_contiguous:
            raise BufferError(f"payload must be C-contiguous, got a strided {type(payload).__name__}")
        return view.tobytes()

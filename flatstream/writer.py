"""StreamWriter: from an agent's messages to a stream."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flatstream._core.flatbuf.builder import Builder
from flatstream._core.stream.encoder import Encoder, check_buffer_size
from flatstream._core.stream.memory_policy import MemoryPolicy, ReclamationInfo, ReclamationReason
from flatstream._endpoints import Sink, open_sink
from flatstream.checksums import Checksum, ChecksumType
from flatstream.framing import Framer, as_framer
from flatstream.serialization import Packable, StreamSerialize, serialize

if TYPE_CHECKING:
    from typing import Self

__all__ = ["StreamWriter"]

DEFAULT_BUFFER_SIZE = 64 * 1024
DEFAULT_BUILDER_CAPACITY = 1024


class StreamWriter(Encoder):
    """Writes messages to a sink, each in a frame ``[u32 LE length][checksum][payload]``.

    Frames are gathered in a buffer and handed to the sink together; `flush` and `close` hand over the rest.

    Parameters
    ----------
    sink : path, socket or object with ``write(buffer)``
        A path is created or emptied, and closed by `close`; anything else is flushed, and stays open. A ``write`` that
        takes less than it is offered is called again for the rest. If it returns None, that means it took everything;
        from an `io.RawIOBase`, that it would block.
    framer : Framer, Checksum, ChecksumType or its name, optional
        How frames are made; without a checksum by default.
    builder : Builder or flatbuffers.Builder, optional
        The builder of simple mode (`write`, `write_batch`). By default the writer makes one when it needs it.
    capacity : int, optional
        How many bytes that builder starts with.
    buffer_size : int
        How many bytes to gather before the sink gets them. 0 hands over every frame at once.
    memory_policy : MemoryPolicy, optional
        Decides when a builder that a large message made grow is replaced by a fresh one: that of simple mode, and that
        of a `RecordWriter`.
    make_builder : callable, optional
        ``make_builder(capacity)`` makes the builders of simple mode.

    Raises
    ------
    TypeError, ValueError, io.UnsupportedOperation
        An argument is not what it should be; the sink is a text file, closed or read-only.
    OSError
        The path cannot be opened.

    Notes
    -----
    Nothing accepted is lost without a word. When a sink would block (BlockingIOError) or a time limit strikes, what it
    did not take waits in the buffer, to the byte. When it fails inside a frame, the file is cut back to the last whole
    frame if it can be; if it cannot, every later write is refused, so that no frame ever stands behind torn bytes.

    Threads may share a writer: operations exclude one another. After a fork the child's copy refuses to write.

    A writer that is collected without `close` hands over the rest and issues a ResourceWarning.

    Examples
    --------
    >>> import io
    >>> sink = io.BytesIO()
    >>> with StreamWriter(sink, ChecksumType.CRC32) as writer:
    ...     writer.write_payload(b"abc")
    >>> sink.getvalue().hex(" ")
    '03 00 00 00 c2 41 24 35 61 62 63'
    """

    def __init__(
        self,
        sink: Any,
        framer: Framer | Checksum | ChecksumType | str | None = None,
        *,
        builder: Any = None,
        capacity: int | None = None,
        buffer_size: int = DEFAULT_BUFFER_SIZE,
        memory_policy: MemoryPolicy | None = None,
        make_builder: Callable[[int], Any] | None = None,
    ) -> None:
        if memory_policy is not None and not isinstance(memory_policy, MemoryPolicy):
            raise TypeError(f"memory_policy must be an instance of MemoryPolicy, got {memory_policy!r:.100}")
        baseline = 0 if memory_policy is None else memory_policy.baseline_capacity
        if not isinstance(baseline, int) or isinstance(baseline, bool):
            raise TypeError(f"memory_policy.baseline_capacity must be an int, got {baseline!r:.100}")
        if baseline < 0:
            raise ValueError(f"memory_policy.baseline_capacity must be at least 0, got {baseline}")
        if make_builder is not None and not callable(make_builder):
            raise TypeError(f"make_builder must be callable, got {make_builder!r:.100}")
        if capacity is not None and (not isinstance(capacity, int) or isinstance(capacity, bool)):
            raise TypeError(f"capacity must be an int, got {type(capacity).__name__}: {capacity!r:.100}")
        if capacity is not None and capacity < 0:
            raise ValueError(f"capacity must not be negative, got {capacity}")
        if builder is not None:
            _check_builder(builder)
        made = as_framer(framer)
        check_buffer_size(buffer_size)
        # Last, so that a wrong argument does not empty a file.
        endpoint = open_sink(sink)
        try:
            super().__init__(made, buffer_size, **endpoint.encoder_arguments())
        except BaseException:
            if endpoint.owned:
                endpoint.target.close()
            raise
        self._endpoint: Sink | None = endpoint
        self._builder = builder
        self._capacity = DEFAULT_BUILDER_CAPACITY if capacity is None else max(capacity, 1)
        self._make_builder = make_builder
        self._policy = memory_policy
        self._baseline = baseline

    @property
    def sink(self) -> Any:
        """Where the stream goes; None after `close` or `detach`."""
        return None if self._endpoint is None else self._endpoint.target

    @property
    def builder(self) -> Any:
        """The builder of simple mode. It is the writer's: what it holds changes with the next `write`."""
        if self._builder is None:
            self._builder = self._new_builder(self._capacity)
        return self._builder

    def _new_builder(self, capacity: int) -> Any:
        if self._make_builder is not None:
            builder = self._make_builder(capacity)
            _check_builder(builder)
            return builder
        return Builder(capacity)

    # Simple mode

    def write(self, item: str | StreamSerialize | Packable) -> None:
        """Builds the message of `item` with the writer's own builder and writes it.

        Parameters
        ----------
        item : str, object with ``serialize(builder)``, or object-API object with ``Pack(builder)``
            A `str` becomes a message whose root is a string. ``serialize`` must call ``builder.Finish``.

        Raises
        ------
        TypeError
            `item` is none of these.
        FlatbufferError
            Its ``serialize`` did not finish the message.
        InvalidFrameError, ValidationFailedError, OSError, BlockingIOError, ValueError
            See `write_payload`. Whatever is raised, by ``serialize`` too, nothing of `item` was written.
        """
        self.write_built(self._build, item)

    def _build(self, item: str | StreamSerialize | Packable) -> Any:
        builder = self._builder
        if builder is None:
            builder = self.builder
        builder.Clear()
        serialize(item, builder)
        if self._policy is not None:
            # Before the message is framed, so that an error of the policy's leaves nothing of it written. If the
            # builder is replaced, this one still holds the message.
            self._consult(builder, self._use_builder)
        return builder

    def _use_builder(self, builder: Any) -> None:
        self._builder = builder

    def write_batch(self, items: Iterable[str | StreamSerialize | Packable]) -> None:
        """Writes each of `items` like `write`. If one fails, those before it are written; see `frames_written`."""
        if isinstance(items, str) or not hasattr(type(items), "__iter__"):
            raise TypeError(
                f"items must be an iterable of items, got one {type(items).__name__}: write() takes a single item"
            )
        for item in items:
            self.write(item)

    def _consult(self, builder: Any, use_builder: Callable[[Any], None]) -> None:
        """Asks the memory policy, if the builder has grown beyond what the policy wants to keep; `use_builder` is told
        of the one to use from now on.
        """
        capacity = len(builder.Bytes)
        if capacity <= self._baseline:
            return
        assert self._policy is not None
        size = capacity - builder.Head()
        reason = self._policy.should_reset(size, capacity)
        if reason is None:
            return
        if not isinstance(reason, ReclamationReason):
            raise TypeError(
                f"{type(self._policy).__name__}.should_reset must return a ReclamationReason or None, "
                f"got {reason!r:.100}"
            )
        use_builder(self._new_builder(self._baseline))
        self._policy.on_reclaim(ReclamationInfo(reason, size, capacity, self._baseline))

    @property
    def _builder_consultant(self) -> Callable[[Any, Callable[[Any], None]], None] | None:
        """What a record writer asks about its builder; None if there is no memory policy."""
        return None if self._policy is None else self._consult

    # Expert mode beside write_payload, write_payloads and write_finished

    def write_message(self, builder: Any) -> None:
        """Writes the message that `builder` has finished, then clears the builder for the next.

        Raises
        ------
        See `write_finished`. The builder is cleared only if the message was written.
        """
        self.write_finished(builder)
        builder.Clear()

    # The end

    def flush(self) -> None:
        """Hands everything to the sink, and has the sink hand it on if it can (``sink.flush()``).

        Raises
        ------
        OSError, BlockingIOError
            From the sink. What it did not take stays in the buffer, unless the writer refuses to go on.
        ValueError
            The writer is closed.
        """
        self.drain_buffer()
        self._flush_sink()

    def _flush_sink(self) -> None:
        flush = getattr(self.sink, "flush", None)
        if callable(flush):
            flush()

    def close(self) -> None:
        """Flushes, and closes the sink if the writer opened it. Does nothing the second time.

        Raises
        ------
        OSError, FlatStreamError
            What was accepted could not be handed over. The writer is closed all the same, and so is a file it opened;
            after BlockingIOError and TimeoutError it stays open, so that `close` can be tried again.
        """
        if self._endpoint is None:
            return
        if self.is_foreign:
            # The bytes in the buffer are the parent's to write, and so is the file.
            self.shut_down()
            self._endpoint = None
            return
        self.check_reentry()
        try:
            if not self._hand_over_the_last():
                return
        except (BlockingIOError, TimeoutError):
            # It stays open if anything is left to be handed over later.
            if self.is_shut or self.is_refusing:
                self._finish()
            raise
        except BaseException:
            self._finish()
            raise
        self._finish()

    def _hand_over_the_last(self) -> bool:
        """Returns whether it is for the caller to let go of the sink, or another thread is about to."""
        # In this order, so that no other thread's frame can come after the last that is handed over.
        if not self.drain_and_shut():
            return False
        try:
            self._flush_sink()
        except BaseException:
            self._finishing = False
            raise
        return True

    def _finish(self) -> None:
        self.shut_down()
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None and endpoint.owned:
            endpoint.target.close()

    def detach(self) -> Any:
        """Flushes, and gives back the sink, open; the writer is closed.

        Raises
        ------
        ValueError
            The writer is closed.
        OSError, FlatStreamError
            See `flush`; the writer then keeps the sink.
        """
        if self._endpoint is None or not self._hand_over_the_last():
            raise ValueError(f"this {type(self).__name__} is closed")
        endpoint, self._endpoint = self._endpoint, None
        return None if endpoint is None else endpoint.target

    @property
    def closed(self) -> bool:
        """Whether `close` or `detach` was called."""
        return self._endpoint is None

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
            # The first error is the one to see; that closing failed as well is said with it.
            error.add_note(f"closing the stream writer failed too: {type(second).__name__}: {second}")
            self._finish()

    def __del__(self) -> None:
        # An instance whose __init__ failed has no endpoint.
        endpoint = getattr(self, "_endpoint", None)
        if endpoint is None or self.is_foreign:
            return
        try:
            if self.pending_bytes or endpoint.owned:
                warnings.warn(f"unclosed stream writer {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            with contextlib.suppress(Exception):
                self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"to {self.sink!r:.100}"
        return f"<StreamWriter {state}, {self.frames_written} frames>"


def _check_builder(builder: Any) -> None:
    if isinstance(builder, type):
        raise TypeError(f"builder must be an instance of flatbuffers.Builder, got the class {builder.__name__}")
    for name in ("Bytes", "Head", "Clear", "Finish", "finished"):
        if not hasattr(builder, name):
            raise TypeError(f"builder must be a flatbuffers.Builder, got {type(builder).__name__} without {name}")

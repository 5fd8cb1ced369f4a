"""StreamWriter: writes messages to a stream."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flatstream._at_exit import watch
from flatstream._core.base.exclusive import Exclusive
from flatstream._core.stream.encoder import begin_session, check_buffer_size
from flatstream._core.stream.memory_policy import MemoryPolicy
from flatstream._endpoints import Sink, open_sink
from flatstream._files import duplicate
from flatstream._message_writer import MessageWriter
from flatstream._startup_report import StartupReport
from flatstream.checksums import Checksum, ChecksumType
from flatstream.description.description import Description
from flatstream.description.head import as_description, begin_description, head_frame
from flatstream.description.serializing import serializer_to_write, with_serializer
from flatstream.framing import Framer, as_framer
from flatstream.serializers import Serializer, as_serializer

if TYPE_CHECKING:
    from typing import Self

    from flatstream._index_hook import WriterIndex

__all__ = ["StreamWriter"]

DEFAULT_BUFFER_SIZE = 64 * 1024


class StreamWriter(MessageWriter):
    """Writes messages to a sink, each in a frame ``[u32 LE length][checksum][payload]``.

    Frames are gathered in a buffer and handed to the sink together; `flush` and `close` hand over the rest.

    Parameters
    ----------
    sink : path, socket or object with ``write(buffer)``
        A path is created or emptied, locked, and closed by `close`; any other sink is flushed and stays open. ``write``
        may take a part of its argument. None means that it took all; from an `io.RawIOBase`, that it would block.
    framer : Framer, Checksum, ChecksumType or its name, optional
        Makes the frames; without a checksum by default.
    builder : Builder or flatbuffers.Builder, optional
        The builder of `write`. By default the writer makes one: ``make_builder(capacity)``, of `capacity` bytes.
    buffer_size : int
        How many bytes are gathered before the sink gets them; 0 hands over each frame at once.
    memory_policy : MemoryPolicy, optional
        Decides when a builder that grew for a large message is replaced: that of `write`, and that of a `RecordWriter`.
    describe : Table, Schema, tables, Description or True, optional
        What the stream says of itself in its first frame, which is no message: the types of its messages (of several
        tables, or of a mapping of file identifiers to tables, each by its file identifier), its checksum, and when it
        was begun. True: no types. See `Description`, and docs/description.md.
    metadata : mapping of str to str, optional
        Of the description.
    time_field, time_unit : str, optional
        Of the description, and of its table: the path of the field with the time of a message, and its unit.
    serializer : Serializer or its name, optional
        Makes the payloads of `write` and `write_batch`: "json", "msgpack" or one of the application. The description
        names it. By default they are FlatBuffers, or what the given description names. See docs/serializers.md.

    Raises
    ------
    TypeError, ValueError, BufferError, io.UnsupportedOperation
        An argument is wrong; the sink is a text file, closed or read-only; the writer is closed.
    InvalidFrameError, ValidationFailedError, FlatbufferError
        From any write: the framer refuses the payload, or the builder is not finished. Nothing of it was written.
    OSError
        The sink failed, and the payload was not accepted. If the stream now ends inside a frame and cannot be cut back
        to its last whole frame, every later write raises FlatStreamError.
    BlockingIOError
        The sink would block, and the buffer has no room. The payload was not accepted; try again later.

    Notes
    -----
    Accepted messages are not lost silently: if the sink blocks or a time limit expires, the rest stays in the buffer.
    Threads may share a writer: operations exclude one another, and each waits for its turn. After a fork, the child's
    copy refuses to write. A writer that is collected, or that is there when the interpreter exits, before `close`,
    hands over the rest and issues a ResourceWarning.

    Examples
    --------
    >>> import io
    >>> sink = io.BytesIO()
    >>> with StreamWriter(sink, ChecksumType.CRC32) as writer:
    ...     writer.write_payload(b"abc")
    >>> sink.getvalue().hex(" ")
    '03 00 00 00 c2 41 24 35 61 62 63'
    """

    # What `flatstream.open` with ``recover=True`` did to the file; otherwise None.
    recovery: StartupReport | None = None
    # The index that is written with the file; None without.
    _index: WriterIndex | None = None
    # Whether the exit of the interpreter has said that it is open.
    _is_told = False

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
        describe: Any = None,
        metadata: Mapping[str, str] | None = None,
        time_field: str | None = None,
        time_unit: str | None = None,
        serializer: Serializer | str | None = None,
        _begins: bool = True,
    ) -> None:
        self._set_builder(builder, capacity, memory_policy, make_builder)
        made = as_framer(framer)
        check_buffer_size(buffer_size)
        chosen = None if serializer is None else as_serializer(serializer)
        description = with_serializer(as_description(describe, metadata, time_field, time_unit), chosen)
        chosen = serializer_to_write(description, chosen)
        head = payload = None
        if description is not None:
            description = begin_description(description, made)
            head, payload = head_frame(description, made), description.to_bytes()
        session, frames = begin_session(made, payload) if _begins else (made, [])
        # Last, so that a wrong argument does not empty a file.
        endpoint = open_sink(sink)
        try:
            super().__init__(made, buffer_size, **endpoint.encoder_arguments(), session=session)
            if head is not None:
                self._put_head(head)
            if _begins:
                self._begin(frames)
        except BaseException:
            if endpoint.owned:
                endpoint.target.close()
            raise
        self._endpoint: Sink | None = endpoint
        self._description = description
        self._set_serializer(chosen)
        watch(self)
        self._sync_turn = Exclusive()

    @property
    def sink(self) -> Any:
        """The sink; None after `close` or `detach`."""
        return None if self._endpoint is None else self._endpoint.target

    @property
    def description(self) -> Description | None:
        """The description with which the stream begins; None if it has none, or (in mode "a") if that is not known."""
        return self._description

    @property
    def index_report(self) -> Any:
        """What the index has that is written with the file, as an `IndexReport`; None without ``index=``.

        After an error of the index, its `stopped_because` is not None. `covered` is behind what was written, until the
        writer is closed.
        """
        return None if self._index is None else self._index.report

    def _append_to(
        self, found: Description | None, wanted: Description | None, *, is_new: bool = True, after: bytes | None = None
    ) -> None:
        """Sets the description of a file to which the writer appends; if there is none, begins it with `wanted`.

        `is_new` is whether the file has no frames yet. `after` is what ``Framer.start`` gets. Without a message,
        nothing is appended to a file that has frames.
        """
        if found is None and wanted is not None:
            found = begin_description(wanted, self.framer)
            self._put_head(head_frame(found, self.framer))
        self._description = found
        self._set_serializer(serializer_to_write(found, self._serializer))
        self._restart(after, None if found is None else found.to_bytes())
        if is_new:
            self._begin()

    # The end

    def flush(self) -> None:
        """Hands everything to the sink, and calls ``sink.flush()`` if it has that method.

        If the sink fails, the bytes that it did not take stay in the buffer, unless `is_refusing`.
        """
        self._drain_buffer()
        self._flush_sink()
        if self._index is not None:
            self._call_exclusively(self._index.flushed)

    def _flush_sink(self) -> None:
        flush = getattr(self.sink, "flush", None)
        if callable(flush):
            flush()

    def sync(self) -> None:
        """Flushes, and returns when the disk has every message that was accepted before (fdatasync).

        Other threads can write meanwhile. An OSError is final: what the system could not store may be lost, and no
        later sync would say so. So every later write, sync, flush and close raises FlatStreamError.
        io.UnsupportedOperation: the sink is no file.
        """
        # One at a time: the system reports an error to one of several, and the others would return as if all was well.
        self._sync_turn._call_exclusively(self._sync)

    def _sync(self) -> None:
        # Another descriptor of the same file, so that the file can be closed meanwhile, and its number used again.
        held: list[int] = []
        try:
            self._call_exclusively(partial(self._duplicate_descriptor, held))
            self.flush()
            try:
                getattr(os, "fdatasync", os.fsync)(held[0])
            except OSError as error:
                self._refuse_after_failed_sync(error)
                raise
        finally:
            if held:
                os.close(held[0])

    def _duplicate_descriptor(self, held: list[int]) -> None:
        """Appends it to `held`: what is returned through compiled code can be lost when a signal handler raises."""
        if self._endpoint is None:
            raise ValueError("this StreamWriter is closed")
        sink = self._endpoint.target
        try:
            descriptor: int = sink.fileno()
        except (AttributeError, io.UnsupportedOperation):
            raise io.UnsupportedOperation(f"the sink has no file to sync: it has no fileno(): {sink!r:.100}") from None
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise io.UnsupportedOperation(f"the sink is no regular file, so it cannot be synced: {sink!r:.100}")
        held.append(duplicate(descriptor))

    def close(self) -> None:
        """Flushes, and closes the sink if the writer opened it. A second call does nothing.

        If the sink fails, the writer is closed all the same, and so is a file that it opened. After BlockingIOError,
        TimeoutError and an exception of a signal handler nothing is lost, and a further `close` finishes the work.
        """
        if self._is_forked_copy:
            # The parent process writes the bytes in the buffer, and closes the file.
            self._shut_down()
            self._endpoint = None
            if self._index is not None:
                self._index.abandon()
            return
        # All in one compiled call: a signal handler that raises cannot leave it half done.
        self._conclude(True)

    def detach(self) -> Any:
        """Flushes, closes the writer and returns the sink, which stays open. If `flush` fails, the writer keeps it."""
        return self._conclude(False)

    @property
    def closed(self) -> bool:
        """Whether `close` or `detach` has finished."""
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
            # The first error is raised; the second one becomes a note of it.
            error.add_note(f"closing the stream writer failed too: {type(second).__name__}: {second}")

    def __del__(self) -> None:
        # An instance whose __init__ failed has no endpoint.
        endpoint = getattr(self, "_endpoint", None)
        if endpoint is None or self._is_forked_copy:
            return
        try:
            if (self.pending_bytes or endpoint.owned) and not self._is_told:
                warnings.warn(f"unclosed stream writer {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            with contextlib.suppress(Exception):
                self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"to {self.sink!r:.100}"
        return f"<StreamWriter {state}, {self.frames_written} frames>"

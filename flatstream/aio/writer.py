"""AsyncStreamWriter: writes messages to a stream in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from flatstream._core.base.pickling import fail_to_pickle
from flatstream._core.stream.awaitable import AsyncEncoder
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._core.stream.memory_policy import MemoryPolicy
from flatstream._endpoints import Sink
from flatstream.aio._link import Outlet, StreamOutlet
from flatstream.checksums import Checksum, ChecksumType
from flatstream.errors import FlatStreamError
from flatstream.framing import Framer
from flatstream.records import RecordWriter
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from typing import Self

    from flatstream.aio.files import AsyncFileWriter
    from flatstream.description import Description
    from flatstream.schema import Table
    from flatstream.serializers import Serializer

    _Nothing = Coroutine[Any, Any, None]

__all__ = ["AsyncRecordWriter", "AsyncStreamWriter"]

DEFAULT_BUFFER_SIZE = 64 * 1024


class AsyncStreamWriter(AsyncEncoder):
    """Writes messages to a stream, and waits while the other side takes no more.

    `connect` and `serve` make writers of connections, and `flatstream.aio.open` those of pipes.

    Frames are gathered in a buffer. It is handed over when it is full, and otherwise as soon as the event loop gets its
    turn: messages that are written together go out together.

    Parameters
    ----------
    sink : asyncio.StreamWriter
        Where the bytes go: of ``asyncio.open_connection``, or the standard input of a subprocess. `close` closes it.
    framer : Framer, Checksum, ChecksumType or its name, optional
        Makes the frames; without a checksum by default.
    buffer_size : int
        How many bytes are gathered at most.
    builder, capacity, memory_policy, make_builder, describe, metadata, time_field, time_unit, serializer
        See `flatstream.StreamWriter`.

    Raises
    ------
    TypeError, ValueError, BufferError
        An argument is wrong; the writer is closed.
    InvalidFrameError, ValidationFailedError, FlatbufferError
        From any write: the framer refuses the payload, or the builder is not finished. Nothing of it was written.
    OSError
        The connection is lost (ConnectionResetError and others), and nothing of the message was written. What was
        accepted before may not have arrived: only an answer of the other side can tell.

    Notes
    -----
    **Backpressure.** A write waits first, while the other side takes no more, and is then done in one step. It never
    waits with something half done. At most three buffers and one message are held here.

    **Cancellation.** A write that raises CancelledError was not accepted, and one that returns was accepted whole.
    (`write_payloads`, `write_batch` and `AsyncRecordWriter.write_columns` with many parts: `frames_written` tells how
    many messages were accepted.) Cancelled `flush` and `close` lose nothing, and can be called again.

    Tasks may share a writer. Their messages are never mixed; those of one task keep their order.

    Examples
    --------
    >>> import asyncio
    >>> async def main():
    ...     process = await asyncio.create_subprocess_exec(
    ...         "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    ...     )
    ...     async with AsyncStreamWriter(process.stdin, "crc32") as writer:
    ...         await writer.write_payload(b"abc")
    ...     async with AsyncStreamReader(process.stdout, "crc32") as reader:
    ...         print([bytes(payload) async for payload in reader])
    ...     await process.wait()
    >>> from flatstream.aio import AsyncStreamReader
    >>> asyncio.run(main())
    [b'abc']
    """

    def __init__(
        self,
        sink: asyncio.StreamWriter | Outlet,
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
    ) -> None:
        if isinstance(sink, asyncio.StreamWriter):
            outlet: Outlet = StreamOutlet(sink)
        elif hasattr(sink, "close_outlet"):
            outlet = sink
        else:
            raise TypeError(
                "sink must be an asyncio.StreamWriter (of others, flatstream.aio.connect, serve and open make the "
                f"writer), got {type(sink).__name__}: {sink!r:.100}"
            )
        self._loop = asyncio.get_running_loop()
        self._outlet = outlet
        self._is_closed = False
        self._is_putting = False
        self._stream_writer = StreamWriter(
            # `Outlet.write` raises before it takes anything.
            Sink(outlet, self._put, writev=self._put_pieces, error_takes_nothing=True),
            framer,
            builder=builder,
            capacity=capacity,
            buffer_size=buffer_size,
            memory_policy=memory_policy,
            make_builder=make_builder,
            describe=describe,
            metadata=metadata,
            time_field=time_field,
            time_unit=time_unit,
            serializer=serializer,
        )
        super().__init__(self._stream_writer)
        outlet.attach_writer(self)

    # Handing over

    def _put(self, data: memoryview | bytes) -> int:
        # A transport may call `resume_writing` from within, which must not write here meanwhile.
        self._is_putting = True
        try:
            self._outlet.write(data)
        finally:
            self._is_putting = False
        return len(data)

    def _put_pieces(self, pieces: list[memoryview]) -> int:
        # Of a message that is larger than the buffer. The transport may keep what it gets, so it gets a copy.
        return self._put(b"".join(pieces))

    def _room(self) -> Awaitable[object] | None:
        if self._is_closed:
            raise ValueError("this AsyncStreamWriter is closed")
        return self._outlet.room()

    def _schedule(self) -> None:
        self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Gives what is in the buffer to the transport, unless that is full; it will ask for it then."""
        self._is_scheduled = False
        if self._is_putting:
            self._is_scheduled = True
            self._schedule()
        elif not self._is_closed and self._outlet.takes_more():
            try:
                self._stream_writer._drain_buffer()
            except (OSError, FlatStreamError):
                # The next write, `flush` or `close` finds the same error, and raises it.
                self._is_gated = True

    def _discard(self) -> None:
        """Forgets what is in the buffer: there is no connection."""
        self._is_closed = self._is_gated = True
        self._stream_writer._shut_down()
        self._stream_writer._endpoint = None

    # Writing. `write_payload` and `write_payloads` are inherited.

    def write(self, item: Any) -> _Nothing:
        """Builds the message of `item` and writes it; see `flatstream.StreamWriter.write`.

        It is built when there is room for it, and once.
        """
        return self._call(self._stream_writer.write, item)

    async def write_batch(self, items: Iterable[Any]) -> None:
        """Writes each of `items` as `write` does. If one fails, those before it are written; see `frames_written`."""
        if isinstance(items, str) or not hasattr(type(items), "__iter__"):
            raise TypeError(
                f"items must be an iterable of items, got one {type(items).__name__}: write() takes a single item"
            )
        for item in items:
            await self.write(item)

    def write_finished(self, builder: Any) -> _Nothing:
        """Writes the message that `builder` has finished; the builder is not changed, and may be when this returns."""
        return self._call(self._stream_writer.write_finished, builder)

    def write_message(self, builder: Any) -> _Nothing:
        """Writes the message that `builder` has finished. If it was written, clears the builder."""
        return self._call(self._stream_writer.write_message, builder)

    def write_frames(self, batch: FrameBatch) -> _Nothing:
        """Writes the frames of a `FrameBatch` as they are, headers included, in one step.

        The reader and the writer must have the same checksum; ValueError otherwise, and nothing is written.
        """
        return self._call(self._stream_writer.write_frames, batch)

    def records(
        self, table: Table, *, file_identifier: bool | None = None, force_defaults: bool = False
    ) -> AsyncRecordWriter:
        """A writer of records of `table` to this stream; for the options see `flatstream.RecordWriter`."""
        return AsyncRecordWriter(self, table, file_identifier=file_identifier, force_defaults=force_defaults)

    # State

    @property
    def framer(self) -> Framer:
        """The framer."""
        return self._stream_writer.framer

    @property
    def description(self) -> Description | None:
        """The description with which the stream begins; None if it has none."""
        return self._stream_writer.description

    @property
    def frames_written(self) -> int:
        """The number of messages accepted."""
        return self._stream_writer.frames_written

    @property
    def bytes_written(self) -> int:
        """The size of their frames in bytes, headers included."""
        return self._stream_writer.bytes_written

    @property
    def pending_bytes(self) -> int:
        """How many bytes are in the writer's buffer. The transport may have more, which it was given and keeps."""
        return self._stream_writer.pending_bytes

    @property
    def builder(self) -> Any:
        """The builder of `write`, which the next `write` clears."""
        return self._stream_writer.builder

    # The end

    async def flush(self) -> None:
        """Hands over everything that was accepted, and returns when the system has taken it.

        (An asyncio.StreamWriter, and TLS, take up to 64 KiB more than the system has.)
        """
        if self._is_closed:
            raise ValueError("this AsyncStreamWriter is closed")
        if not self._is_putting:
            self._stream_writer._drain_buffer()
        await self._outlet.wait_taken()

    async def close(self) -> None:
        """Hands over everything, ends the stream, and returns when the system has taken it.

        The other side then sees the end; what it sends can still be read. Where that is not possible (TLS, a pipe, an
        asyncio.StreamWriter), the transport is closed; that of a connection with TLS when its reader is closed, too.

        If the connection is lost, the writer is closed all the same, and the error is raised. If it is cancelled, what
        it began goes on, and a further `close` waits for it.
        """
        failure: BaseException | None = None
        if not self._is_closed:
            self._is_closed = self._is_gated = True
            try:
                self._stream_writer.close()
            except (OSError, FlatStreamError) as error:
                failure = error
        await self._outlet.close_outlet()
        if failure is not None:
            raise failure

    def abort(self) -> None:
        """Drops everything that was not sent, and closes the transport at once.

        The other side of a TCP connection gets a ConnectionResetError. Unix sockets and pipes have no resets: there it
        sees an end, inside a frame perhaps.
        """
        self._discard()
        self._outlet.abort()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        elif not isinstance(error, Exception):
            # Cancelled: it may be because the other side takes nothing.
            self.abort()
        else:
            try:
                await self.close()
            except Exception as second:
                error.add_note(f"closing the stream writer failed too: {type(second).__name__}: {second}")

    def __repr__(self) -> str:
        return f"<AsyncStreamWriter {'closed' if self._is_closed else 'open'}, {self.frames_written} frames>"


# Records that are built between two looks at whether there is room.
RECORDS_AT_ONCE = 256


class AsyncRecordWriter:
    """Writes records of one table of a schema to an asynchronous writer; see `flatstream.RecordWriter`.

    Parameters
    ----------
    writer : AsyncStreamWriter or AsyncFileWriter
        The stream that the messages are written to. It stays open.
    table : Table
        The type of the records.
    file_identifier, force_defaults
        See `flatstream.RecordWriter`, as for what the methods take and raise.

    Notes
    -----
    A record is built when there is room for it, and once.
    """

    def __init__(
        self,
        writer: AsyncStreamWriter | AsyncFileWriter,
        table: Table,
        *,
        file_identifier: bool | None = None,
        force_defaults: bool = False,
    ) -> None:
        if not isinstance(getattr(writer, "_stream_writer", None), StreamWriter):
            raise TypeError(
                "writer must be an AsyncStreamWriter or an AsyncFileWriter, "
                f"got {type(writer).__name__}: {writer!r:.100}"
            )
        self._writer = writer
        self._records = RecordWriter(
            writer._stream_writer, table, file_identifier=file_identifier, force_defaults=force_defaults
        )

    @property
    def table(self) -> Table:
        """The type of the records."""
        return self._records.table

    def write(self, /, **fields: Any) -> _Nothing:
        """Writes a record with these fields."""
        return self._writer._call(self._records.write, **fields)

    def write_record(self, record: Any) -> _Nothing:
        """Writes a record, a mapping or an object with attributes."""
        return self._writer._call(self._records.write_record, record)

    async def write_records(self, records: Iterable[Any]) -> int:
        """Writes each of `records`, and returns how many there were.

        It waits between them, too. If one is refused, or it is cancelled, those before are written; `frames_written` of
        the writer says how many.
        """
        iterator = iter(records)
        total = 0
        while count := await self._writer._call(self._write_some, iterator, total):
            total += count
        return total

    def _write_some(self, records: Iterator[Any], before: int) -> int:
        try:
            return self._records.write_records(islice(records, RECORDS_AT_ONCE))
        except Exception as error:
            if before:
                error.add_note(f"rows are counted from the record number {before} on, which is row 0")
            raise

    def write_columns(self, columns: Any) -> Coroutine[Any, Any, int]:
        """Writes a record for each row of `columns`, and returns how many there were.

        All of them are written in one step, and so held in memory. Write large data in parts.
        """
        return self._writer._call(self._records.write_columns, columns)

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __repr__(self) -> str:
        return f"<AsyncRecordWriter of {self.table.name} to {self._writer!r}>"

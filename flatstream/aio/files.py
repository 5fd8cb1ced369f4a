"""Files and journals in an event loop, by a thread for each; and pipes."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

from flatstream._core.base.pickling import fail_to_pickle
from flatstream._core.stream.awaitable import AsyncItems, Refilled, iterates_asynchronously_in_c
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._open import open as open_stream
from flatstream.aio._items import NEVER_STOPPED, Converted, InThread, Results, as_it_is
from flatstream.aio._link import Link, new_waiter, wake
from flatstream.aio._thread import Worker, finished
from flatstream.aio.reader import AsyncStreamReader
from flatstream.aio.writer import AsyncRecordWriter, AsyncStreamWriter
from flatstream.description.choice import choose_tables
from flatstream.description.serializing import serializer_to_read
from flatstream.errors import FlatbufferError, FlatStreamError, ValidationFailedError
from flatstream.journal import Cursor, JournalReader
from flatstream.reader import StreamReader
from flatstream.serialization import payload_decoder, required_comparer
from flatstream.serializers import REFUSALS, as_serializer, refusal
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Self

    from flatstream._core.records.record_view import RecordView
    from flatstream.aio.reader import _OnError
    from flatstream.columns import ColumnBatch
    from flatstream.description import Description
    from flatstream.framing import Deframer, Framer
    from flatstream.schema import Table
    from flatstream.serializers import Serializer
    from flatstream.transforms.encryption import EncryptionReport

__all__ = ["AsyncFileReader", "AsyncFileWriter", "open_pipe"]

T = TypeVar("T")
R = TypeVar("R")

# A header, and more: what a frame has besides its payload.
MAX_FRAME_OVERHEAD = 64


@iterates_asynchronously_in_c
class AsyncFileReader(AsyncItems[memoryview]):
    """Reads the messages of a StreamReader or JournalReader, which a thread of its own reads batch by batch.

    ``async for`` over a file or journal that is followed waits for messages without blocking the event loop. `close`
    ends the wait.

    Parameters
    ----------
    reader : StreamReader or JournalReader
        It belongs to this object from now on: nobody else may read from it, and `close` closes it.

    Raises
    ------
    TypeError, ValueError
        `reader` is another object; the reader is closed.
    FlatStreamError, OSError
        What `reader` raises, behind the messages before.

    Notes
    -----
    A read that is cancelled has taken nothing. What the thread reads ahead, one batch, waits for the next read.

    Examples
    --------
    >>> import asyncio, flatstream
    >>> from flatstream.aio import AsyncFileReader
    >>> async def main():
    ...     async with AsyncFileReader(flatstream.StreamReader(b"\\x03\\x00\\x00\\x00abc")) as reader:
    ...         return [bytes(payload) async for payload in reader]
    >>> asyncio.run(main())
    [b'abc']
    """

    def __init__(self, reader: StreamReader) -> None:
        if not isinstance(reader, StreamReader):
            raise TypeError(f"reader must be a StreamReader or a JournalReader, got {type(reader).__name__}")
        self._refilled: Refilled[memoryview] = Refilled()
        super().__init__(self._refilled, NEVER_STOPPED)
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._worker = Worker()
        self._waiters: list[asyncio.Future[None]] = []
        # Whether the thread reads. Nobody else touches the reader then.
        self._is_reading = False
        self._has_come_to_end = False
        self._failure: BaseException | None = None
        self._is_closed = False
        # The batch whose messages are given. Behind it, or if there is none, the reader's place: the number and offset
        # of its last message, and the journal.
        self._batch: FrameBatch | None = None
        self._place = (-1, -1, "")
        # The offset of the last message before the batch.
        self._offset_before = -1
        # The number and the offset when it was closed.
        self._given = (-1, -1)
        # What is known of the description: the stream's, and that by which all messages can be read.
        self._descriptions: tuple[Description | None, Description | None] | None = None

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("this AsyncFileReader is closed")

    def _more(self, on_error: _OnError | None = None) -> Any:
        self._check_open()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._has_come_to_end:
            # A later read looks again: the file may have grown.
            self._has_come_to_end = False
            return None
        if not self._is_reading:
            self._submit(partial(self._reader.read_batch, on_error=on_error)).add_done_callback(self._put)
        return new_waiter(self._loop, self._waiters)

    def _submit(self, read: Callable[[], R]) -> asyncio.Future[tuple[R, tuple[int, int, str]]]:
        """Has the thread read, and tell the place of the reader then. It must not be reading, nor have read ahead."""
        self._is_reading = True
        return self._worker.submit(partial(self._read, read))

    def _read(self, read: Callable[[], R]) -> tuple[R, tuple[int, int, str]]:
        # In the thread.
        reader = self._reader
        result = read()
        if self._descriptions is None and (reader.frames_read or not reader._is_following):
            self._descriptions = (reader.description, reader._newest_description())
        if not isinstance(reader, JournalReader):
            return result, (reader.message_number, reader.message_offset, "")
        return result, (reader.number, reader.message_offset, reader.id if reader.frames_read else "")

    def _put(self, taken: asyncio.Future[tuple[FrameBatch | None, tuple[int, int, str]]]) -> None:
        self._is_reading = False
        self._failure = taken.exception()
        if self._failure is None and not self._is_closed:
            batch, place = taken.result()
            self._has_come_to_end = batch is None
            if batch is not None:
                self._offset_before = self.offset
                self._batch, self._place = batch, place
                self._refilled._refill(batch)
        wake(self._waiters)

    def _moved(self, read: asyncio.Future[tuple[Any, tuple[int, int, str]]]) -> None:
        """The thread has read something else than a batch."""
        self._is_reading = False
        if read.exception() is None:
            self._place = read.result()[1]
        wake(self._waiters)

    async def _get_turn(self) -> None:
        """Waits until the thread reads nothing, and has it read next what was not given yet."""
        while self._is_reading and not self._is_closed:
            await new_waiter(self._loop, self._waiters)
        self._check_open()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        self._has_come_to_end = False
        batch, given = self._batch, self._refilled._given
        if batch is not None:
            # Of which the rest, if there is any, is given again.
            if given < len(batch) and not self._reader._give_again(batch, given):
                raise RuntimeError("somebody else has read from the reader of this AsyncFileReader")
            self._place = (self.number, self.offset, self._place[2])
            self._batch = None
            self._refilled._refill(())

    # Reading. ``async for payload in reader`` is inherited.

    def read_message(self) -> Coroutine[Any, Any, memoryview | None]:
        """The next payload, a read-only memoryview of unsigned bytes; None at the end. (A followed file has none.)"""
        return self._next_or_none()

    async def read_batch(
        self, max_frames: int | None = None, max_bytes: int | None = None, *, on_error: _OnError | None = None
    ) -> FrameBatch | None:
        """The frames that one read of the file gives, as a FrameBatch; None at the end.

        See `flatstream.StreamReader.read_batch`.
        """
        while True:
            await self._get_turn()
            read = partial(self._reader.read_batch, max_frames, max_bytes, on_error=on_error)
            self._submit(read).add_done_callback(self._put)
            while self._is_reading and not self._is_closed:
                await new_waiter(self._loop, self._waiters)
            if self._more_is_known():
                # An error, or the end.
                return self._more()  # type: ignore[no-any-return]
            batch = self._batch
            # Otherwise another task has taken some of it.
            if batch is not None and not self._refilled._given:
                self._place = (self._place[0], int(batch.frame_offsets[-1]), self._place[2])
                self._batch = None
                self._refilled._refill(())
                return batch

    def _more_is_known(self) -> bool:
        return self._is_closed or self._failure is not None or self._has_come_to_end

    def batches(
        self, max_frames: int | None = None, max_bytes: int | None = None, *, on_error: _OnError | None = None
    ) -> AsyncIterator[FrameBatch]:
        """Iterates over the results of `read_batch` up to the end. After an error, the iterator can go on."""
        self._reader.batches(max_frames, max_bytes, on_error=on_error)
        return Results(partial(self.read_batch, max_frames, max_bytes, on_error=on_error))

    def typed_messages(
        self, cls: type[T], *, on_error: _OnError | None = None, on_other: Literal["raise", "skip"] = "raise"
    ) -> AsyncIterator[T]:
        """Iterates over the messages as instances of `cls`; see `flatstream.StreamReader.typed_messages`."""
        if on_other not in ("raise", "skip"):
            raise ValueError(f"on_other must be 'raise' or 'skip', got {on_other!r:.100}")
        is_other = required_comparer(cls) if on_other == "skip" else None
        decode = payload_decoder(cls)
        return Converted(self, lambda: (decode, as_it_is), on_error=on_error, is_other=is_other).items()

    def objects(
        self, serializer: Serializer | str | None = None, *, on_error: _OnError | None = None
    ) -> AsyncIterator[Any]:
        """Iterates over the messages as objects, which `serializer` makes; see `flatstream.StreamReader.objects`.

        By default it is the one that the stream's description names. The objects are made in the event loop.
        """
        if serializer is not None:
            serializer = as_serializer(serializer)

        def choose() -> tuple[Callable[[memoryview], Any], Callable[[Any], FlatStreamError]]:
            chosen = serializer_to_read(self._newest(), serializer)
            return chosen._loads, partial(refusal, chosen.name)

        return Converted(self, choose, REFUSALS, on_error).items()

    def records(
        self,
        table: Table | str | None = None,
        *,
        verify: bool = True,
        on_error: _OnError | None = None,
        limit: int | None = None,
        **options: Any,
    ) -> AsyncIterator[RecordView]:
        """Iterates over the messages, which are of `table`, as `RecordView` objects.

        The options are those of `flatstream.StreamReader.records`. Without `table`, or with its name, the tables are
        those of the stream's description. The views are made in the event loop. With further options (`where` and
        others), or several tables, the thread makes them one by one, which takes longer.
        """
        found: Any = table
        if (table is None or isinstance(table, str)) and self._descriptions is not None:
            found, is_one_of_several = choose_tables(self._newest(), table, "records")
            if is_one_of_several:
                found = None
        if not hasattr(found, "view") or options:
            options |= {"verify": verify, "on_error": on_error, "limit": limit}
            return self._in_thread(partial(self._reader.records, table, **options), table)
        view = partial(found.view, verify=verify)
        damage = (FlatbufferError, ValidationFailedError)
        return Converted(self, lambda: (view, as_it_is), damage, on_error).items(limit)

    def column_batches(
        self, table: Table | str | None = None, fields: Any = None, where: Any = None, **options: Any
    ) -> AsyncIterator[ColumnBatch]:
        """Reads messages as batches of columns, in the thread; see `flatstream.StreamReader.column_batches`."""
        return self._in_thread(partial(self._reader.column_batches, table, fields, where, **options), table)

    async def columns(
        self, table: Table | str | None = None, fields: Any = None, where: Any = None, **options: Any
    ) -> ColumnBatch:
        """Reads all remaining messages as columns, in the thread; see `flatstream.StreamReader.columns`.

        If it is cancelled, it waits until the thread is done, and what was read is lost.
        """
        await self._get_turn()
        future = self._submit(partial(self._reader.columns, table, fields, where, **options))
        future.add_done_callback(self._moved)
        return (await finished(future))[0]  # type: ignore[no-any-return]

    def _in_thread(self, make: Callable[[], Iterator[T]], table: Any) -> AsyncIterator[T]:
        if self._descriptions is not None or not (table is None or isinstance(table, str)):
            # For the errors of wrong arguments. With the description, they come with the first message.
            make()
        return InThread(self, make)

    # What the stream is

    def _newest(self) -> Description | None:
        return None if self._descriptions is None else self._descriptions[1]

    async def read_description(self) -> Description | None:
        """Reads as far as the stream's description, and returns it; None if it says nothing of itself.

        It takes no message.
        """
        if self._descriptions is None:
            await self._get_turn()
            future = self._submit(lambda: None)
            future.add_done_callback(self._moved)
            await asyncio.wait([future])
            future.result()
        return self.description

    @property
    def description(self) -> Description | None:
        """The stream's description; None if it has none, or if it was not read yet (see `read_description`).

        `flatstream.aio.open` has read it. Of a journal, that of the segment that was read first.
        """
        return None if self._descriptions is None else self._descriptions[0]

    @property
    def encryption(self) -> EncryptionReport | None:
        """What was found of an encrypted stream so far; None for others. See docs/encryption.md."""
        return self._reader.encryption

    @property
    def deframer(self) -> Deframer:
        """The deframer."""
        return self._reader.deframer

    @property
    def skipped(self) -> int:
        """How many frames were left out because of damage, up to where the thread has read."""
        return self._reader.skipped

    @property
    def lost_bytes(self) -> int:
        """How many bytes were left out."""
        return self._reader.lost_bytes

    @property
    def lost_ranges(self) -> list[tuple[int, int]]:
        """Where they are: a list of (start, end), in stream offsets."""
        return self._reader.lost_ranges

    @property
    def stop_error(self) -> FlatStreamError | None:
        """The error at which ``on_error="stop"`` ended, or None."""
        return self._reader.stop_error

    # Where reading is

    @property
    def number(self) -> int:
        """The number of the last message given; of a journal, its number there. -1 before the first."""
        if self._is_closed:
            return self._given[0]
        number = self._place[0]
        return number if self._batch is None else number - (len(self._batch) - self._refilled._given)

    @property
    def offset(self) -> int:
        """The stream offset of the frame of the last message given; -1 before the first."""
        if self._is_closed:
            return self._given[1]
        if self._batch is None:
            return self._place[1]
        given = self._refilled._given
        return int(self._batch.frame_offsets[given - 1]) if given else self._offset_before

    @property
    def cursor(self) -> Cursor:
        """Of a journal: the place behind the last message given, where another reader can go on.

        ValueError: it is no journal, or no message was given yet.
        """
        if not self._place[2]:
            raise ValueError("there is a cursor when a message of a journal was given")
        return Cursor(self._place[2], self.number + 1)

    async def commit(self) -> None:
        """Of a journal with a name: stores the `cursor`. Returns when it is on the disk; see `JournalReader.commit`."""
        if not isinstance(self._reader, JournalReader):
            raise ValueError("commit is for the reader of a journal")
        await asyncio.to_thread(self._reader.commit, self.cursor)

    @property
    def reader(self) -> StreamReader:
        """The reader that the thread reads."""
        return self._reader

    # The end

    async def close(self) -> None:
        """Ends reading, also where a task waits, and closes the reader. Payloads already handed out stay valid."""
        if self._is_closed:
            return
        self._given = (self.number, self.offset)
        self._is_closed = True
        self._refilled._refill(())
        try:
            await finished(asyncio.ensure_future(asyncio.to_thread(self._reader.close)))
        finally:
            self._worker.stop()
            wake(self._waiters)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        worker = getattr(self, "_worker", None)
        if worker is not None and not self._is_closed:
            worker.stop()

    def __repr__(self) -> str:
        return f"<AsyncFileReader {'closed' if self._is_closed else 'open'} of {self._reader!r}>"


class AsyncFileWriter:
    """Writes messages with a StreamWriter or JournalWriter, in a thread of its own.

    What has room in the buffer of a StreamWriter is put there at once. The thread does all that may wait for the disk.

    Parameters
    ----------
    writer : StreamWriter or JournalWriter
        It belongs to this object from now on: nobody else may write to it, and `close` closes it.

    Raises
    ------
    TypeError, ValueError, FlatStreamError, OSError
        What `writer` raises.

    Notes
    -----
    Operations are done one after the other. A task that is cancelled while the thread does its operation is cancelled
    when that is done; `frames_written` says what was accepted.
    """

    def __init__(self, writer: StreamWriter) -> None:
        if not isinstance(writer, StreamWriter):
            raise TypeError(f"writer must be a StreamWriter or a JournalWriter, got {type(writer).__name__}")
        self._writer = writer
        self._worker = Worker()
        self._turn = asyncio.Lock()
        self._is_closed = False
        # A journal may sync at any write.
        self._has_buffer = type(writer) is StreamWriter
        # For AsyncRecordWriter, as AsyncStreamWriter has them.
        self._stream_writer = writer
        self._call = self._do

    async def _do(self, function: Callable[..., R], *arguments: Any, **options: Any) -> R:
        async with self._turn:
            if self._is_closed:
                raise ValueError("this AsyncFileWriter is closed")
            return await finished(self._worker.submit(partial(function, *arguments, **options)))

    async def write_payload(self, payload: Any, /) -> None:
        """Writes a finished message, any C-contiguous buffer. The bytes may be changed when this has returned."""
        writer = self._writer
        if (
            self._has_buffer
            and not self._turn.locked()
            and type(payload) is bytes
            and (writer.pending_bytes + len(payload) + MAX_FRAME_OVERHEAD <= writer.buffer_capacity)
        ):
            writer.write_payload(payload)
        else:
            await self._do(writer.write_payload, payload)

    async def write_payloads(self, payloads: Iterable[Any], /) -> None:
        """Writes each of `payloads`, in order. If one is refused, those before it are written."""
        await self._do(self._writer.write_payloads, payloads)

    async def write(self, item: Any) -> None:
        """Builds the message of `item`, in the thread, and writes it."""
        await self._do(self._writer.write, item)

    async def write_batch(self, items: Iterable[Any]) -> None:
        """Writes each of `items` as `write` does. If one fails, those before it are written."""
        await self._do(self._writer.write_batch, items)

    async def write_finished(self, builder: Any, /) -> None:
        """Writes the message that `builder` has finished."""
        await self._do(self._writer.write_finished, builder)

    async def write_message(self, builder: Any) -> None:
        """Writes the message that `builder` has finished. If it was written, clears the builder."""
        await self._do(self._writer.write_message, builder)

    def records(
        self, table: Table, *, file_identifier: bool | None = None, force_defaults: bool = False
    ) -> AsyncRecordWriter:
        """A writer of records of `table` to this file; for the options see `flatstream.RecordWriter`."""
        return AsyncRecordWriter(self, table, file_identifier=file_identifier, force_defaults=force_defaults)

    async def write_frames(self, batch: FrameBatch) -> None:
        """Writes the frames of a `FrameBatch` as they are, headers included."""
        await self._do(self._writer.write_frames, batch)

    async def flush(self) -> None:
        """Hands everything to the system."""
        await self._do(self._writer.flush)

    async def sync(self) -> None:
        """Flushes, and returns when the disk has every message that was accepted before."""
        await self._do(self._writer.sync)

    @property
    def writer(self) -> StreamWriter:
        """The writer that the thread writes with."""
        return self._writer

    @property
    def framer(self) -> Framer:
        """The framer."""
        return self._writer.framer

    @property
    def recovery(self) -> Any:
        """What `open` with recover=True has done, or what a journal's writer has found; see `flatstream.open`."""
        return self._writer.recovery

    @property
    def frames_written(self) -> int:
        """The number of messages accepted."""
        return self._writer.frames_written

    @property
    def bytes_written(self) -> int:
        """The size of their frames in bytes, headers included."""
        return self._writer.bytes_written

    @property
    def builder(self) -> Any:
        """The builder of `write`, which the next `write` clears."""
        return self._writer.builder

    @property
    def description(self) -> Description | None:
        """The description with which the stream begins."""
        return self._writer.description

    async def close(self) -> None:
        """Flushes, and closes the writer. A second call does nothing."""
        async with self._turn:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                await finished(self._worker.submit(self._writer.close))
            finally:
                self._worker.stop()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except Exception as second:
            if error is None:
                raise
            error.add_note(f"closing the stream writer failed too: {type(second).__name__}: {second}")

    def __del__(self) -> None:
        worker = getattr(self, "_worker", None)
        if worker is not None and not self._is_closed:
            worker.stop()

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __repr__(self) -> str:
        return f"<AsyncFileWriter {'closed' if self._is_closed else 'open'} of {self._writer!r}>"


class Opening(Generic[T]):
    """What `open` and `open_pipe` return: it is awaited, or entered with ``async with``, once."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._made: Any = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._make().__await__()

    async def __aenter__(self) -> T:
        self._made = await self._make()
        return self._made  # type: ignore[no-any-return]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._made.__aexit__(kind, error, traceback)


def open(path: str | os.PathLike[str], mode: str = "r", **options: Any) -> Opening[Any]:
    """Opens the stream in a file, as `flatstream.open` does, by a thread.

    ``async with flatstream.aio.open(path) as reader``, or ``reader = await flatstream.aio.open(path)``.

    Parameters
    ----------
    path, mode, **options
        Those of `flatstream.open`.

    Returns
    -------
    AsyncFileReader or AsyncFileWriter
        When it is awaited, or entered.

    Examples
    --------
    >>> import asyncio, os, tempfile
    >>> import flatstream.aio
    >>> async def main(path):
    ...     async with flatstream.aio.open(path, "w", checksum="crc32") as writer:
    ...         await writer.write_payload(b"abc")
    ...     async with flatstream.aio.open(path) as reader:
    ...         return [bytes(payload) async for payload in reader]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(os.path.join(folder, "events.fs")))
    [b'abc']
    """

    async def make() -> AsyncFileReader | AsyncFileWriter:
        def open_here() -> tuple[Any, Any]:
            opening: Callable[..., Any] = open_stream
            opened = opening(path, mode, **options)
            if not isinstance(opened, StreamReader) or opened._is_following:
                # A file that is followed may have no description yet.
                return opened, None
            return opened, (opened.description, opened._newest_description())

        opened, descriptions = await finished(asyncio.ensure_future(asyncio.to_thread(open_here)))
        if not isinstance(opened, StreamReader):
            return AsyncFileWriter(opened)
        reader = AsyncFileReader(opened)
        reader._descriptions = descriptions
        return reader

    return Opening(make)


def open_pipe(pipe: Any, mode: str = "r", **options: Any) -> Opening[Any]:
    """Reads or writes a pipe, a terminal or a socket pair by the event loop itself, without a thread.

    Parameters
    ----------
    pipe : file object
        Of a pipe: ``sys.stdin.buffer``, or ``os.fdopen(descriptor, "rb", 0)``. It then belongs to the reader or writer,
        and does not block any more.
    mode : {"r", "w"}
        Whether to read or to write.
    **options
        The keyword arguments of `AsyncStreamReader` or `AsyncStreamWriter`, with `deframer` or `framer`.

    Returns
    -------
    AsyncStreamReader or AsyncStreamWriter
        When it is awaited, or entered.

    Raises
    ------
    ValueError
        It is a regular file (see `open`), or `mode` is another.
    """
    if mode not in ("r", "w"):
        raise ValueError(f'mode must be "r" or "w", got {mode!r:.100}')

    async def make() -> AsyncStreamReader | AsyncStreamWriter:
        if stat.S_ISREG(os.fstat(pipe.fileno()).st_mode):
            raise ValueError(f"expected a pipe, got a regular file: open it with flatstream.aio.open: {pipe!r:.100}")
        loop = asyncio.get_running_loop()
        link = Link(loop)
        if mode == "r":
            reader = AsyncStreamReader(link, **options)
            await loop.connect_read_pipe(lambda: link, pipe)
            return reader
        writer = AsyncStreamWriter(link, **options)
        try:
            await loop.connect_write_pipe(lambda: link, pipe)
        except BaseException:
            writer._discard()
            raise
        return writer

    return Opening(make)

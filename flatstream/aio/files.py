"""Files and journals in an event loop, by a thread for each; and pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import stat
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from flatstream._core.base.pickling import fail_to_pickle
from flatstream._core.stream.awaitable import AsyncItems, Refilled, iterates_asynchronously_in_c
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._open import open as open_stream
from flatstream.aio._link import Link, new_waiter, wake
from flatstream.aio.reader import AsyncStreamReader
from flatstream.aio.writer import AsyncStreamWriter
from flatstream.journal import Cursor, JournalReader
from flatstream.reader import StreamReader
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Self

    from flatstream._core.records.record_view import RecordView
    from flatstream.description import Description
    from flatstream.schema import Table

__all__ = ["AsyncFileReader", "AsyncFileWriter", "open_pipe"]

T = TypeVar("T")
R = TypeVar("R")

# A header, and more: what a frame has besides its payload.
MAX_FRAME_OVERHEAD = 64


class Worker:
    """A thread that makes one call after the other. A daemon: one that waits for a file must not keep a program up."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="flatstream.aio", daemon=True).start()

    def submit(self, function: Callable[[], R]) -> asyncio.Future[R]:
        future: asyncio.Future[R] = self._loop.create_future()
        self._calls.put((function, future))
        return future

    def stop(self) -> None:
        """Ends the thread behind the calls that it has."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            try:
                result, error = function(), None
            except BaseException as raised:
                result, error = None, raised
            # The loop may be closed meanwhile.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, future, result, error)
            # Before the next call, which may wait for long.
            del call, function, future, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        future.set_exception(RuntimeError(f"a function raised {error!r}"))
    else:
        future.set_exception(error)


async def finished(future: asyncio.Future[R]) -> R:
    """The result of what a thread does. If it is cancelled, it waits until the thread is done."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    result = future.result()
    if cancelled is not None:
        raise cancelled
    return result


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
        super().__init__(self._refilled, reader)
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._worker = Worker()
        self._waiters: list[asyncio.Future[None]] = []
        self._is_taking = False
        self._has_come_to_end = False
        self._failure: BaseException | None = None
        self._is_closed = False
        # The batch whose messages are given, the number of its last message, and the journal.
        self._batch: FrameBatch | None = None
        self._last_number = -1
        self._journal = ""
        # The number and the offset when it was closed.
        self._given = (-1, -1)

    def _more(self) -> Any:
        if self._is_closed:
            raise ValueError("this AsyncFileReader is closed")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._has_come_to_end:
            # A later read looks again: the file may have grown.
            self._has_come_to_end = False
            return None
        if not self._is_taking:
            self._is_taking = True
            self._worker.submit(self._take).add_done_callback(self._put)
        return new_waiter(self._loop, self._waiters)

    def _take(self) -> tuple[FrameBatch | None, int, str]:
        # In the thread.
        reader = self._reader
        batch = reader.read_batch()
        if isinstance(reader, JournalReader):
            return batch, reader.number, reader.id
        return batch, reader.message_number, ""

    def _put(self, taken: asyncio.Future[tuple[FrameBatch | None, int, str]]) -> None:
        self._is_taking = False
        self._failure = taken.exception()
        if self._failure is None and not self._is_closed:
            batch, number, journal = taken.result()
            self._has_come_to_end = batch is None
            if batch is not None:
                self._batch, self._last_number, self._journal = batch, number, journal
                self._refilled._refill(batch)
        wake(self._waiters)

    # Reading. ``async for payload in reader`` is inherited.

    def read_message(self) -> Coroutine[Any, Any, memoryview | None]:
        """The next payload, a read-only memoryview of unsigned bytes; None at the end. (A followed file has none.)"""
        return self._next_or_none()

    def records(self, table: Table, *, verify: bool = True) -> AsyncIterator[RecordView]:
        """Iterates over the messages, which are of `table`, as `RecordView` objects; see `Table.view`."""
        return AsyncItems(map(partial(table.view, verify=verify), self._refilled), self._reader, self)

    # Where reading is

    @property
    def number(self) -> int:
        """The number of the last message given; of a journal, its number there. -1 before the first."""
        if self._is_closed:
            return self._given[0]
        return -1 if self._batch is None else self._last_number - (len(self._batch) - self._refilled._given)

    @property
    def offset(self) -> int:
        """The stream offset of the frame of the last message given; -1 before the first."""
        if self._is_closed:
            return self._given[1]
        given = self._refilled._given
        return -1 if self._batch is None or not given else int(self._batch.frame_offsets[given - 1])

    @property
    def cursor(self) -> Cursor:
        """Of a journal: the place behind the last message given, where another reader can go on.

        ValueError: it is no journal, or no message was given yet.
        """
        if not self._journal or self._batch is None:
            raise ValueError("there is a cursor when a message of a journal was given")
        return Cursor(self._journal, self.number + 1)

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

    async def _do(self, function: Callable[..., R], *arguments: Any) -> R:
        async with self._turn:
            if self._is_closed:
                raise ValueError("this AsyncFileWriter is closed")
            return await finished(self._worker.submit(partial(function, *arguments)))

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

    async def write_finished(self, builder: Any, /) -> None:
        """Writes the message that `builder` has finished."""
        await self._do(self._writer.write_finished, builder)

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
    def frames_written(self) -> int:
        """The number of messages accepted."""
        return self._writer.frames_written

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
        opening: Callable[..., Any] = open_stream
        opened = await finished(asyncio.ensure_future(asyncio.to_thread(opening, path, mode, **options)))
        return AsyncFileReader(opened) if isinstance(opened, StreamReader) else AsyncFileWriter(opened)

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

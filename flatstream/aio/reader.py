"""AsyncStreamReader: reads the messages of a stream in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from flatstream._core.stream.awaitable import AsyncItems, iterates_asynchronously_in_c
from flatstream._core.stream.decoder import DEFAULT_RESYNC_WINDOW
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._core.stream.memory_policy import AdaptiveWatermarkPolicy, MemoryPolicy
from flatstream.aio._link import Inlet, StreamInlet
from flatstream.checksums import Checksum, ChecksumType
from flatstream.framing import Deframer
from flatstream.parser import FrameParser

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Self

    from flatstream._core.records.record_view import RecordView
    from flatstream.columns import ColumnBatch
    from flatstream.description import Description
    from flatstream.errors import FlatStreamError
    from flatstream.serializers import Serializer
    from flatstream.transforms.ciphers import Cipher
    from flatstream.transforms.encryption import EncryptionReport

    _OnError = Literal["raise", "skip", "stop", "resync"]

__all__ = ["AsyncStreamReader"]

T = TypeVar("T")

DEFAULT_CAPACITY = 256 * 1024
DEFAULT_MAX_FRAME_LEN = 16 * 1024 * 1024


@iterates_asynchronously_in_c
class AsyncStreamReader(AsyncItems[memoryview]):
    """Reads the messages of a stream, as views that need no copy, and awaits bytes when there is no whole message.

    `connect` and `serve` make readers of connections, and `flatstream.aio.open` those of pipes. Tasks may share a
    reader: each message is given once.

    Parameters
    ----------
    source : asyncio.StreamReader
        The bytes: of ``asyncio.open_connection``, or the standard output of a subprocess. It stays the caller's.
    deframer : Deframer, Checksum, ChecksumType or its name, optional
        Finds the frames; without a checksum by default.
    capacity : int
        The size of a chunk: how many bytes are read at a time. A larger frame gets a larger chunk, as its bytes arrive.
    max_frame_len : int
        The longest payload that is read; a longer one is an InvalidFrameError before memory is taken for it.
    memory_policy : MemoryPolicy, optional
        Decides when a chunk that grew for a large frame is given back; by default an AdaptiveWatermarkPolicy.
    allow_empty, on_error, resync_window, cipher
        See `flatstream.StreamReader`. What the stream's description says of compression and encryption is undone if
        `deframer` is no Deframer.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong; the reader is closed.
    ChecksumMismatchError, ValidationFailedError
        From every read: the frame was read whole and refused. The next read gives the frame after it.
    UnexpectedEofError, InvalidFrameError, OSError
        The stream ends inside a frame; a length is over the limit; the connection failed. Messages that had arrived
        whole are given before. Later reads raise the same.
    TimeoutError
        From a server: no message came in time (`serve`, `idle_timeout`).

    Notes
    -----
    A payload stays valid and unchanged for as long as it is held. An ``await`` that is cancelled has taken nothing: the
    next read gives the message that it would have given.

    While nobody waits for a message, the transport is read until `capacity` bytes wait here, and then paused. So the
    memory of a reader is bounded by two chunks and the largest frame.

    Examples
    --------
    >>> import asyncio
    >>> async def main():
    ...     stream = asyncio.StreamReader()
    ...     stream.feed_data(b"\\x03\\x00\\x00\\x00abc\\x01\\x00\\x00\\x00d")
    ...     stream.feed_eof()
    ...     async with AsyncStreamReader(stream) as reader:
    ...         return [bytes(payload) async for payload in reader]
    >>> asyncio.run(main())
    [b'abc', b'd']
    """

    def __init__(
        self,
        source: asyncio.StreamReader | Inlet,
        deframer: Deframer | Checksum | ChecksumType | str | None = None,
        *,
        capacity: int = DEFAULT_CAPACITY,
        max_frame_len: int = DEFAULT_MAX_FRAME_LEN,
        allow_empty: bool | None = None,
        on_error: _OnError = "raise",
        resync_window: int = DEFAULT_RESYNC_WINDOW,
        memory_policy: MemoryPolicy | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        parser = FrameParser(
            deframer,
            capacity=capacity,
            max_frame_len=max_frame_len,
            # A reader may be one of a thousand, and one large message must not keep its memory for ever.
            memory_policy=AdaptiveWatermarkPolicy() if memory_policy is None else memory_policy,
            allow_empty=allow_empty,
            on_error=on_error,
            resync_window=resync_window,
            cipher=cipher,
        )
        if isinstance(source, asyncio.StreamReader):
            self._inlet: Inlet = StreamInlet(source)
        elif hasattr(source, "close_inlet"):
            self._inlet = source
        else:
            raise TypeError(
                "source must be an asyncio.StreamReader (of others, flatstream.aio.connect, serve and open make the "
                f"reader), got {type(source).__name__}: {source!r:.100}"
            )
        super().__init__(parser, parser)
        self._parser = parser
        # That of the connection, for streams that name none.
        self._serializer: Serializer | str | None = None
        self._inlet.attach(parser, capacity)
        self._is_closed = False

    def _more(self) -> Any:
        """What to await when the parser has nothing whole; None at the end."""
        return self._inlet.more()

    # Reading. ``async for payload in reader`` is inherited.

    def read_message(self) -> Coroutine[Any, Any, memoryview | None]:
        """The next payload, a read-only memoryview of unsigned bytes; None at a clean end."""
        return self._next_or_none()

    async def read_batch(
        self, max_frames: int | None = None, max_bytes: int | None = None, *, on_error: _OnError | None = None
    ) -> FrameBatch | None:
        """The whole frames that have arrived, as a FrameBatch; None at a clean end.

        It waits only if none has arrived. See `flatstream.StreamReader.read_batch`.
        """
        parser = self._parser
        while (batch := parser.read_batch(max_frames, max_bytes, on_error=on_error)) is None:
            waiting = None if self._has_stopped else self._more()
            if waiting is None:
                return None
            await waiting
        return batch

    def batches(
        self, max_frames: int | None = None, max_bytes: int | None = None, *, on_error: _OnError | None = None
    ) -> AsyncIterator[FrameBatch]:
        """Iterates over the results of `read_batch` up to the end. After an error, the iterator can go on."""
        # For the error of a wrong argument.
        self._parser.batches(max_frames, max_bytes, on_error=on_error)
        return self._items_of(Arrived(lambda: self._parser.read_batch(max_frames, max_bytes, on_error=on_error)))

    def messages(self, *, on_error: _OnError | None = None) -> AsyncIterator[memoryview]:
        """An iterator over the payloads: the reader itself, or one with another `on_error`."""
        return self if on_error is None else self._items_of(self._parser.messages(on_error=on_error))

    def typed_messages(
        self, cls: type[T], *, on_error: _OnError | None = None, on_other: Literal["raise", "skip"] = "raise"
    ) -> AsyncIterator[T]:
        """Iterates over the messages as instances of `cls`; see `flatstream.StreamReader.typed_messages`."""
        return self._items_of(self._parser.typed_messages(cls, on_error=on_error, on_other=on_other))

    def objects(
        self, serializer: Serializer | str | None = None, *, on_error: _OnError | None = None
    ) -> AsyncIterator[Any]:
        """Iterates over the messages as objects, which `serializer` makes; see `flatstream.StreamReader.objects`.

        By default it is the one that the stream's description names (await `read_description` before); without one,
        that of the connection.
        """
        found = self._parser.description
        if serializer is None and (found is None or (found.serializer is None and not found.roots)):
            serializer = self._serializer
        return self._items_of(self._made(partial(self._parser.objects, serializer, on_error=on_error)))

    def records(self, table: Any = None, **options: Any) -> AsyncIterator[RecordView]:
        """Iterates over the messages, which are of `table`, as `RecordView` objects.

        The options are those of `flatstream.StreamReader.records`. Without `table`, or with its name, the tables are
        those of the stream's description: await `read_description` before.
        """
        records = self._made(partial(self._parser.records, table, **options))
        return AsyncItems(records, self._parser, self, options.get("limit"))

    def column_batches(
        self, table: Any = None, fields: Any = None, where: Any = None, **options: Any
    ) -> AsyncIterator[ColumnBatch]:
        """Reads messages as batches of columns. Each has the messages that have arrived, and at least one.

        The options are those of `flatstream.StreamReader.column_batches`, without `batch_rows`. Without `table`, or
        with its name, await `read_description` before.
        """
        return self._items_of(self._made(partial(_ColumnBatches, self._parser, table, fields, where, options)))

    def _made(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except ValueError as error:
            if self._awaits_description:
                error.add_note("the stream's description has not arrived yet: await reader.read_description() before")
            raise

    def _items_of(self, items: Iterator[T]) -> AsyncIterator[T]:
        return AsyncItems(items, self._parser, self)

    # What the stream is

    async def read_description(self) -> Description | None:
        """Waits for the first frame, and returns the stream's description; None if it says nothing of itself.

        It takes no message. Damage is left to the first read.
        """
        parser = self._parser
        while (found := parser.description) is None and self._awaits_description:
            waiting = self._more()
            if waiting is None:
                return parser.description
            await waiting
        return found

    @property
    def description(self) -> Description | None:
        """The stream's description; None if it has none, or if it has not arrived yet (see `read_description`)."""
        return self._parser.description

    @property
    def encryption(self) -> EncryptionReport | None:
        """What was found of an encrypted stream so far; None for others. See docs/encryption.md."""
        return self._parser.encryption

    @property
    def deframer(self) -> Deframer:
        """The deframer."""
        return self._parser.deframer

    # Where reading is

    @property
    def frames_read(self) -> int:
        """The number of frames delivered."""
        return self._parser.frames_read

    @property
    def bytes_read(self) -> int:
        """The size of these frames in bytes, headers included."""
        return self._parser.bytes_read

    @property
    def offset(self) -> int:
        """Where the next frame begins, in bytes from where reading began."""
        return self._parser.offset

    @property
    def message_offset(self) -> int:
        """Where the last frame delivered begins."""
        return self._parser.message_offset

    @property
    def message_number(self) -> int:
        """The number of that frame, counted from 0; -1 before the first frame."""
        return self._parser.message_number

    @property
    def buffered(self) -> int:
        """How many bytes have arrived and are not read yet."""
        return self._parser.buffered

    @property
    def skipped(self) -> int:
        """How many frames were left out because of damage."""
        return self._parser.skipped

    @property
    def lost_bytes(self) -> int:
        """How many bytes were left out."""
        return self._parser.lost_bytes

    @property
    def lost_ranges(self) -> list[tuple[int, int]]:
        """Where they are: a list of (start, end), in bytes from where reading began."""
        return self._parser.lost_ranges

    @property
    def stop_error(self) -> FlatStreamError | None:
        """The error at which ``on_error="stop"`` ended, or None."""
        return self._parser.stop_error

    # The end

    async def close(self) -> None:
        """Ends reading. Payloads already handed out stay valid.

        A connection is closed when its writer is closed, too. A second call does nothing.
        """
        if not self._is_closed:
            self._is_closed = True
            # It refuses every later read, and lets go of its memory.
            self._parser.detach()
        await self._inlet.close_inlet()

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

    def __repr__(self) -> str:
        return f"<AsyncStreamReader {'closed' if self._is_closed else 'open'}, {self.frames_read} frames>"


class Arrived(Generic[T]):
    """An iterator over the results of a function, which ends when it gives None, and goes on when it gives others."""

    def __init__(self, take: Callable[[], T | None]) -> None:
        self._take = take

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        item = self._take()
        if item is None:
            raise StopIteration
        return item


class _ColumnBatches:
    """The columns of the messages that have arrived."""

    def __init__(self, parser: FrameParser, table: Any, fields: Any, where: Any, options: dict[str, Any]) -> None:
        self._make = partial(parser.column_batches, table, fields, where, batch_rows=None, **options)
        # For the errors of wrong arguments.
        self._batches: Any = self._make()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._batches is None:
            self._batches = self._make()
        try:
            return next(self._batches)
        except StopIteration:
            self._batches = None
            raise

"""Forwarder: publishes the frames of a journal to a stream of NATS JetStream."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from flatstream._core.base.checks import index_argument
from flatstream._core.base.pickling import fail_to_pickle
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream.checksums import Checksum, ChecksumType
from flatstream.errors import FlatStreamError
from flatstream.journal import Cursor, Gap, JournalReader
from flatstream.journal._parts import UNKNOWN
from flatstream.nats._connection import (
    DEFAULT_SERVERS,
    check_subject,
    connected,
    log,
    raise_if_cancelled,
    require_nats,
    stream_of,
)
from flatstream.nats._message import HEADERS_SIZE, Message, headers_of
from flatstream.nats._publisher import Publisher

if TYPE_CHECKING:
    from typing import Self

    from nats.aio.client import Client

__all__ = ["ForwardReport", "Forwarder", "forward"]

# The cursor is stored so often, in seconds.
COMMIT_EVERY = 1.0
# Pauses between two attempts when the broker refuses or does not answer, in seconds.
FIRST_PAUSE = 0.1
LAST_PAUSE = 5.0
# Of one reading: the bytes of a chunk, and frames.
MAX_CAPACITY = 8 << 20
MAX_FRAMES = 1 << 17
# Errors of JetStream that another attempt does not help: the message is larger than the stream takes; another stream
# has the subject.
FINAL_ERRORS = (10054, 10060)


class ForwardReport(NamedTuple):
    """What a Forwarder has done.

    Attributes
    ----------
    position : int
        The number below which the broker has acknowledged everything.
    messages, frames, bytes : int
        How many messages the broker has acknowledged, and the frames in them, with their headers.
    repeated : int
        How many of these the broker had already, from an attempt whose acknowledgement was not received.
    attempts : int
        How often publishing was tried again.
    too_large : int
        How many frames were left out because they do not fit into a message.
    gaps : list of Gap
        What the journal did not have; see `JournalReader.gaps`.
    """

    position: int
    messages: int
    frames: int
    bytes: int
    repeated: int
    attempts: int
    too_large: int
    gaps: list[Gap]


class _Published:
    """A message on its way. `end` is when it counts as failed, by the loop's clock."""

    __slots__ = ("end", "future", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.future: asyncio.Future[bool] | None = None
        self.end = 0.0


class Forwarder:
    """Publishes the frames of a journal to JetStream: each one once it is on the disk, in order, many in a message.

    It is a registered reader of the journal: it goes on where the broker has acknowledged everything, and retention
    keeps what the broker does not have yet. After a crash some messages are published again. The broker leaves them out
    by their ids, or a receiver does by the numbers of their frames.

    Parameters
    ----------
    directory : path
        The folder of the journal.
    subject : str
        A stream of the broker must have it. One forwarder for each journal.
    name : str
        That of the registered reader.
    connection : nats.aio.client.Client, optional
        An open connection, which stays open. By default one is made.
    servers : str or list of str
        Where to.
    connect_options : mapping, optional
        Further arguments of ``nats.connect``: ``tls``, ``user_credentials``. By default it reconnects for ever.
    stream : str, optional
        The name of the stream, which is compared; by default the one that has the subject.
    start : "oldest", "newest", int, Cursor or datetime
        Where to begin the first time; see `JournalReader`.
    follow : bool
        At the end of the journal it waits for further frames. False: it ends when the broker has all.
    checksum : Checksum, ChecksumType or str, optional
        That of the journal, if the journal does not say it.
    max_message_bytes : int, optional
        The largest message. By default, and at most, what the broker and the stream take.
    window : int
        How many messages are under way at a time. When the broker is slow or full, the forwarder waits.
    linger : float
        When it has caught up, it waits so many seconds for further frames before it publishes the next message.
    ack_timeout : float
        After so many seconds without an acknowledgement, it publishes again.
    give_up : float, optional
        After so many seconds without any progress, it raises. By default it goes on for ever.
    on_too_large : {"raise", "skip"}
        What happens to a frame that is larger than a message: FlatStreamError, when all before it is acknowledged; or
        it is left out, counted in `too_large`, and is a gap.

    Raises
    ------
    ImportError
        nats-py is not installed; the message names the extra.
    TypeError, ValueError
        An argument is wrong.
    FlatStreamError
        From `run`: there is no such stream; a frame is too large.
    OSError
        From `run`: the journal cannot be read, or the cursor not be stored.
    nats.errors.Error, nats.js.errors.Error, TimeoutError
        From `run`: the broker cannot be reached at first, refuses for good, or `give_up` is over.

    Notes
    -----
    Each frame is on the disk before it is published, because the number of a frame that a power cut takes is used
    again. The forwarder syncs the segment itself; the writer need not.
    """

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __init__(
        self,
        directory: Any,
        subject: str,
        *,
        name: str = "nats",
        connection: Client | None = None,
        servers: str | list[str] = DEFAULT_SERVERS,
        connect_options: Mapping[str, Any] | None = None,
        stream: str | None = None,
        start: Literal["oldest", "newest"] | int | Cursor | datetime = "oldest",
        follow: bool = True,
        checksum: Checksum | ChecksumType | str | None = None,
        max_message_bytes: int | None = None,
        window: int = 16,
        linger: float = 0.05,
        ack_timeout: float = 5.0,
        give_up: float | None = None,
        on_too_large: Literal["raise", "skip"] = "raise",
    ) -> None:
        require_nats()
        self._subject = check_subject(subject)
        if "*" in subject.split(".") or ">" in subject:
            raise ValueError(f"a forwarder publishes to one subject, got one with wildcards: {subject!r:.100}")
        if max_message_bytes is not None and index_argument("max_message_bytes", max_message_bytes) <= HEADERS_SIZE:
            raise ValueError(f"max_message_bytes must be above {HEADERS_SIZE}, got {max_message_bytes}")
        if index_argument("window", window) < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        for what, seconds in (("linger", linger), ("ack_timeout", ack_timeout), ("give_up", give_up)):
            check_seconds(what, seconds)
        if on_too_large not in ("raise", "skip"):
            raise ValueError(f"on_too_large must be 'raise' or 'skip', got {on_too_large!r:.100}")
        self._arguments: dict[str, Any] = {"checksum": checksum, "follow": follow, "start": start, "name": name}
        self._directory = directory
        self._connection = connection
        self._servers = servers
        self._connect_options = connect_options
        self._stream = stream
        self._max_message_bytes = max_message_bytes
        self._window = window
        self._linger = linger
        self._ack_timeout = ack_timeout
        self._give_up = give_up
        self._on_too_large = on_too_large
        self._reader: JournalReader | None = None
        self._in_flight: deque[_Published] = deque()
        self._stop: asyncio.Event | None = None
        self._is_stopping = threading.Event()
        self._task: asyncio.Task[None] | None = None
        # The journal that is read, and the number below which the broker has all of it.
        self._journal = ""
        self._acked = 0
        self._committed = 0
        # Whether a receiver cannot tell from the message that was published last whether those before it are lost.
        self._needs_mark = False
        # In the reading thread: the number behind the last frame of the journal that was read.
        self._after = 0
        self._checksum_name = ""
        self._described: object = None
        self._has_caught_up = False
        self._messages = self._frames = self._bytes = self._repeated = self._attempts = self._too_large = 0
        self._gaps: list[Gap] = []
        # Since when nothing was acknowledged though something failed, and the pause before the next attempt.
        self._failing_since: float | None = None
        self._next_pause = FIRST_PAUSE

    @property
    def report(self) -> ForwardReport:
        """What it has done so far."""
        return ForwardReport(
            self._acked, self._messages, self._frames, self._bytes, self._repeated, self._attempts, self._too_large,
            list(self._gaps),
        )  # fmt: skip

    # Running

    async def __aenter__(self) -> Self:
        """Starts it as a task. Leaving the block stops it, and raises what it raised."""
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._task is not None
        self.stop()
        await self._task

    def stop(self) -> None:
        """Has `run` end, when what is under way is acknowledged, or `ack_timeout` is over. From the loop's thread."""
        self._is_stopping.set()
        if self._stop is not None:
            self._stop.set()

    async def run(self) -> None:
        """Forwards until `stop` is called; without `follow`, up to the end of the journal."""
        if self._stop is not None:
            raise RuntimeError("this Forwarder has run: make another one")
        self._stop = asyncio.Event()
        if self._is_stopping.is_set():
            return
        thread = ThreadPoolExecutor(1, "flatstream-nats")
        loop = asyncio.get_running_loop()
        try:
            async with connected(self._connection, self._servers, self._connect_options) as connection:
                limit = await self._find_limit(connection)
                try:
                    await loop.run_in_executor(thread, self._open, limit)
                    await self._forward(connection, thread, limit)
                finally:
                    await asyncio.shield(self._close(thread))
        finally:
            thread.shutdown(wait=False)

    async def _find_limit(self, connection: Client) -> int:
        """How many bytes of frames a message can have."""
        info = await stream_of(connection, self._subject, self._stream)
        limits = [connection.max_payload, self._max_message_bytes, info.config.max_msg_size]
        limit = int(min(one for one in limits if one is not None and one > 0)) - HEADERS_SIZE
        if limit <= 0:
            raise FlatStreamError(f"the broker takes messages of {limit + HEADERS_SIZE} bytes, too few for the headers")
        self._stream = info.config.name
        return limit

    async def _close(self, thread: ThreadPoolExecutor) -> None:
        """Closes the reader, which ends a read that waits, and stores the cursor."""
        self._is_stopping.set()
        for published in self._in_flight:
            _forget(published.future)
        reader = self._reader
        if reader is None:
            return
        await asyncio.to_thread(reader.close)
        await asyncio.get_running_loop().run_in_executor(thread, self._commit)

    async def _forward(self, connection: Client, thread: ThreadPoolExecutor, limit: int) -> None:
        assert self._stop is not None
        loop = asyncio.get_running_loop()
        publisher = Publisher(connection, self._subject, self._stream or "")
        await publisher.open()
        stopped = asyncio.ensure_future(self._stop.wait())
        reading: asyncio.Future[list[Message] | None] | None = None
        commit_at = loop.time() + COMMIT_EVERY
        too_large: FlatStreamError | None = None
        is_at_end = False
        try:
            while True:
                raise_if_cancelled()
                is_at_end = is_at_end or self._stop.is_set()
                if reading is None and not is_at_end and len(self._in_flight) < self._window:
                    reading = loop.run_in_executor(thread, self._read, limit)
                if not self._in_flight and self._needs_mark:
                    number = self._acked
                    mark = Message("mark", self._journal, self._checksum_name, number, number, number, number, b"")
                    await self._publish(publisher, mark)
                if is_at_end and not self._in_flight:
                    break
                await self._wait(reading if not is_at_end else None, stopped, loop)
                if not await self._settle(publisher):
                    break
                if reading is not None and reading.done() and not is_at_end:
                    try:
                        messages = reading.result()
                    except _TooLargeError as error:
                        messages, too_large = error.before, error.error
                    reading = None
                    is_at_end = messages is None or too_large is not None
                    for message in messages or ():
                        await self._publish(publisher, message)
                if loop.time() >= commit_at:
                    await asyncio.to_thread(self._commit)
                    commit_at = loop.time() + COMMIT_EVERY
            if too_large is not None and not self._in_flight:
                raise too_large
        finally:
            await publisher.close()
            stopped.cancel()
            if reading is not None:
                # Its result is not published; the cursor is before it.
                reading.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _wait(
        self, reading: asyncio.Future[Any] | None, stopped: asyncio.Future[Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Waits until something was read or acknowledged, or a message is late, or the end is asked for."""
        waits: set[asyncio.Future[Any]] = set() if self._is_stopping.is_set() else {stopped}
        timeout = COMMIT_EVERY
        if reading is not None:
            waits.add(reading)
        if self._in_flight:
            oldest = self._in_flight[0]
            if oldest.future is not None:
                waits.add(oldest.future)
            timeout = min(timeout, max(0.0, oldest.end - loop.time()))
        if waits:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    # The broker

    async def _publish(self, publisher: Publisher, message: Message) -> None:
        if message.journal != self._journal:
            # Another journal took the place of the one that was read. Receivers tell them apart.
            while self._in_flight:
                if not await self._settle(publisher):
                    return
                await self._wait(None, asyncio.get_running_loop().create_future(), asyncio.get_running_loop())
            self._journal, self._acked, self._committed = message.journal, message.after, -1
        published = _Published(message)
        self._in_flight.append(published)
        await self._send(publisher, published)

    async def _send(self, publisher: Publisher, published: _Published) -> None:
        """Publishes a message. If that fails, it is late at once."""
        nats = require_nats()
        loop = asyncio.get_running_loop()
        message = published.message._replace(acked=self._acked)
        published.end = loop.time() + self._ack_timeout
        self._needs_mark = message.acked < message.after
        try:
            published.future = await publisher.publish(message.data, headers_of(message))
        except (nats.errors.Error, nats.js.errors.Error, OSError) as error:
            published.future = loop.create_future()
            published.future.set_exception(error)

    async def _settle(self, publisher: Publisher) -> bool:
        """Counts what is acknowledged, and publishes again what failed. False if the end was asked for meanwhile, and
        the broker does not answer.
        """
        nats = require_nats()
        loop = asyncio.get_running_loop()
        while self._in_flight:
            raise_if_cancelled()
            oldest = self._in_flight[0]
            future = oldest.future
            assert future is not None
            error: BaseException | None = None
            if future.done():
                error = asyncio.CancelledError() if future.cancelled() else future.exception()
                if error is None:
                    self._in_flight.popleft()
                    self._count(oldest.message, future.result())
                    self._failing_since, self._next_pause = None, FIRST_PAUSE
                    continue
                if isinstance(error, nats.js.errors.APIError) and error.err_code in FINAL_ERRORS:
                    raise error
            elif loop.time() < oldest.end:
                return True
            else:
                error = TimeoutError(f"the broker has acknowledged nothing for {self._ack_timeout:g} s")
            if publisher.connection.is_closed:
                raise nats.errors.ConnectionClosedError
            if self._is_stopping.is_set():
                return False
            if self._failing_since is None:
                self._failing_since = loop.time()
            elif self._give_up is not None and loop.time() - self._failing_since >= self._give_up:
                raise error
            self._attempts += 1
            log.warning(
                "%s: frames from number %d on are published again: %s: %s",
                self._directory, oldest.message.first, type(error).__name__, error,
            )  # fmt: skip
            await self._pause(self._next_pause)
            self._next_pause = min(2 * self._next_pause, LAST_PAUSE)
            # All that is behind it too, in this order: the broker leaves out what it has.
            for published in self._in_flight:
                _forget(published.future)
                await self._send(publisher, published)
            assert oldest.future is not None
            await asyncio.wait({oldest.future}, timeout=self._ack_timeout)
        return True

    async def _pause(self, seconds: float) -> None:
        assert self._stop is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    def _count(self, message: Message, was_there: bool) -> None:
        self._acked = max(self._acked, message.next)
        self._messages += 1
        self._frames += message.next - message.first
        self._bytes += len(message.data) if message.kind == "frames" else 0
        self._repeated += was_there

    # The journal, in the reading thread

    def _open(self, limit: int) -> None:
        capacity = min(max(limit, 256 << 10), MAX_CAPACITY)
        reader = JournalReader(self._directory, capacity=capacity, **self._arguments)
        # What is missing at the very beginning: retention was faster.
        gaps = reader.gaps
        self._after = self._acked = self._committed = gaps[0].first if gaps else reader.position
        self._journal = reader.id
        self._checksum_name = reader.checksum or ""
        self._reader = reader
        if self._is_stopping.is_set():
            reader.close()

    def _read(self, limit: int) -> list[Message] | None:
        """The next messages; None at the end. Their frames are on the disk."""
        reader = self._reader
        assert reader is not None
        if self._has_caught_up:
            self._is_stopping.wait(self._linger)
        try:
            batch = reader.read_batch(MAX_FRAMES, max(limit, 256 << 10))
        except ValueError:
            if reader.closed:
                return None
            raise
        if batch is None:
            return None
        reader._sync()
        self._has_caught_up = len(batch.buffer) < limit // 2
        self._gaps = reader.gaps
        journal, first = reader.id, reader.position - len(batch)
        if journal == UNKNOWN:
            raise FlatStreamError(
                f"{self._directory}: the identity of the journal is lost with its journal.json: open it with a "
                "JournalWriter once, which finds the identity or gives it another one"
            )
        if journal != self._journal:
            self._after = first
        messages: list[Message] = []
        made = Message("frames", journal, self._checksum_name, first, first, self._after, 0, b"")
        # Another object for each segment.
        description = reader.description
        if description is not None and description is not self._described:
            data = description.to_bytes()
            if len(data) <= limit:
                messages.append(made._replace(kind="description", data=data))
            else:
                log.warning("%s: the description, of %d bytes, does not fit into a message", self._directory, len(data))
        self._described = description
        for begin, end, piece in _pieces(batch, limit):
            if piece is None:
                self._too_large += 1
                size = batch.lengths[begin]
                text = (
                    f"{self._directory}: frame {first + begin} has a payload of {size} bytes, and the broker takes "
                    f"messages of {limit + HEADERS_SIZE} bytes with their headers (max_payload, max_msg_size)"
                )
                if self._on_too_large == "raise":
                    raise _TooLargeError(
                        messages, FlatStreamError(f"{text}: raise these limits, or pass on_too_large='skip'")
                    )
                log.error("%s: it is left out", text)
                continue
            messages.append(made._replace(first=first + begin, next=first + end, after=self._after, data=piece))
            self._after = first + end
        return messages

    def _commit(self) -> None:
        """Stores what the broker has acknowledged."""
        reader, number = self._reader, self._acked
        if reader is None or number == self._committed or reader.id != self._journal:
            return
        reader.commit(Cursor(self._journal, number))
        self._committed = number


def _forget(future: asyncio.Future[Any] | None) -> None:
    """Gives a future up, whose result nobody asks for any more."""
    if future is not None and not future.cancel() and not future.cancelled():
        future.exception()


class _TooLargeError(Exception):
    """A frame is too large; what is before it can be published."""

    def __init__(self, before: list[Message], error: FlatStreamError) -> None:
        super().__init__(str(error))
        self.before = before
        self.error = error


def _pieces(batch: FrameBatch, limit: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Cuts the frames of a batch into pieces of at most `limit` bytes: the first frame of each, the one behind its
    last, and the bytes; None for a frame that is larger.
    """
    offsets, buffer = batch.offsets, batch.buffer
    # Each frame begins with a header of this size, and the next one behind its payload.
    header, count, size = int(offsets[0]), len(batch), len(buffer)
    at = 0
    while at < count:
        begin = int(offsets[at]) - header
        end = count if size - begin <= limit else bisect_right(offsets, begin + limit + header, at + 1) - 1
        if end <= at:
            yield at, at + 1, None
            at += 1
            continue
        yield at, end, bytes(buffer[begin : size if end == count else int(offsets[end]) - header])
        at = end


def check_seconds(name: str, value: object) -> None:
    """Raises unless `value` is a number of seconds that is not negative, or None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, got {value!r:.100}")
    if not value >= 0:
        raise ValueError(f"{name} must be at least 0 seconds, got {value!r}")


async def forward(directory: Any, subject: str, *, follow: bool = False, **options: Any) -> ForwardReport:
    """Forwards what a journal has to a stream of JetStream; returns when the broker has acknowledged it.

    Parameters are those of `Forwarder`, but for `follow`, which is False here.
    """
    forwarder = Forwarder(directory, subject, follow=follow, **options)
    await forwarder.run()
    return forwarder.report

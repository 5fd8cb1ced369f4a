"""Receiver: stores what forwarders publish in journals. Subscription: hands it over as messages."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from flatstream._core.base.checks import index_argument
from flatstream._core.base.pickling import fail_to_pickle
from flatstream.journal import Cursor, MirrorWriter
from flatstream.journal._layout import read_manifest
from flatstream.nats._connection import DEFAULT_SERVERS, check_subject, connected, log, require_nats
from flatstream.nats._intake import Arrived, Intake, Known, Repeat
from flatstream.nats._order import Missing
from flatstream.nats.forwarder import check_seconds

if TYPE_CHECKING:
    from typing import Self

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from flatstream.description import Description

__all__ = ["ReceiveReport", "Received", "Receiver", "Subscription", "receive"]

FULL = (errno.ENOSPC, errno.EDQUOT)
# That of a mirror whose journal.json is lost.
DEFAULT_CHECKSUM = "xxhash64"
# The pause between two attempts to write to a full disk, in seconds.
FULL_PAUSE = 1.0
# How often a receiver looks whether it is to stop, in seconds.
LOOK_EVERY = 0.2
# So many gaps are remembered for the report.
MAX_MISSING = 1000


class ReceiveReport(NamedTuple):
    """What a Receiver has done.

    Attributes
    ----------
    positions : dict
        The number of the next frame of each journal that it has received from, by its identity. The disk has all below.
    frames : int
        How many frames it has stored.
    messages, repeated, refused : int
        How many messages came; of these, how many brought nothing new, and how many were none of a forwarder, or
        damaged. What is refused is not asked for again.
    missing : list of Missing
        Numbers of which no frame will come: the last 1,000 ranges.
    """

    positions: dict[str, int]
    frames: int
    messages: int
    repeated: int
    refused: int
    missing: list[Missing]


class Receiver:
    """Stores the frames that forwarders publish: each journal in a folder of its own, as a mirror of the forwarded one.

    A mirror is a journal with the same identity, in which each frame has the number that it has in the forwarded one
    (`flatstream.journal.MirrorWriter`). So the receiver needs to remember nothing: it goes on where the mirrors end. A
    message is acknowledged when its frames are on the disk.

    Parameters
    ----------
    subject : str
        The subject; with wildcards, those of many forwarders.
    directory : path
        The folder in which the mirrors are, each named after its identity. It is created if it does not exist.
    durable : str
        The name of the consumer of the stream, which is made if it does not exist. Only one receiver uses it.
    connection, servers, connect_options
        See `Forwarder`.
    stream : str, optional
        The name of the stream; by default the one that has the subject.
    batch : int
        How many messages are asked for at once. They are synced together.
    ack_wait : float
        After so many seconds without an acknowledgement the broker repeats a message: for a consumer that is made.
    idle_timeout : float, optional
        `run` ends when nothing came for so many seconds. By default it ends when `stop` is called.
    accepts_damage : bool
        See `MirrorWriter`.
    max_open : int
        How many mirrors are open at a time.
    journal_options : mapping, optional
        Further arguments for each `MirrorWriter`: ``rotate``, ``retain``.

    Raises
    ------
    ImportError
        nats-py is not installed; the message names the extra.
    TypeError, ValueError
        An argument is wrong.
    FlatStreamError
        From `run`: there is no such stream, or the consumer is of another kind; a mirror is damaged, or a sync failed.
    OSError
        From `run`: a mirror cannot be written. While the disk is full, it waits: nothing is acknowledged meanwhile.
    nats.errors.Error
        From `run`: the broker cannot be reached at first.
    """

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __init__(
        self,
        subject: str,
        directory: Any,
        *,
        durable: str = "flatstream",
        connection: Client | None = None,
        servers: str | list[str] = DEFAULT_SERVERS,
        connect_options: Mapping[str, Any] | None = None,
        stream: str | None = None,
        batch: int = 64,
        ack_wait: float = 30.0,
        idle_timeout: float | None = None,
        accepts_damage: bool = False,
        max_open: int = 100,
        journal_options: Mapping[str, Any] | None = None,
    ) -> None:
        require_nats()
        self._subject = check_subject(subject)
        if not isinstance(directory, (str, os.PathLike)):
            raise TypeError(f"directory must be a path, got {directory!r:.100}")
        for name, value in (("batch", batch), ("max_open", max_open)):
            if index_argument(name, value) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_seconds("ack_wait", ack_wait)
        check_seconds("idle_timeout", idle_timeout)
        self._directory = os.path.abspath(os.fspath(directory))
        self._durable = durable
        self._connection = connection
        self._servers = servers
        self._connect_options = connect_options
        self._stream = stream
        self._batch = batch
        self._ack_wait = ack_wait
        self._idle_timeout = idle_timeout
        self._options = {"accepts_damage": accepts_damage, **dict(journal_options or {})}
        self._max_open = max_open
        # By identity; the one that was used last is the last one. The storing thread alone uses the writers.
        self._mirrors: OrderedDict[str, MirrorWriter] = OrderedDict()
        self._thread: ThreadPoolExecutor | None = None
        self._intake: Intake | None = None
        self._stop: asyncio.Event | None = None
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        self._positions: dict[str, int] = {}
        self._frames = 0
        self._missing: list[Missing] = []

    @property
    def directory(self) -> str:
        """The folder of the mirrors, an absolute path."""
        return self._directory

    @property
    def report(self) -> ReceiveReport:
        """What it has done so far."""
        intake = self._intake
        counts = (0, 0, 0) if intake is None else (intake.messages, intake.repeated, intake.refused)
        return ReceiveReport(dict(self._positions), self._frames, *counts, list(self._missing))

    async def __aenter__(self) -> Self:
        """Starts it as a task. Leaving the block stops it, and raises what it raised."""
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._task is not None
        self.stop()
        await self._task

    def stop(self) -> None:
        """Has `run` end when what it has taken is stored. From the loop's thread."""
        self._is_stopping = True
        if self._stop is not None:
            self._stop.set()

    async def run(self) -> None:
        """Receives until `stop` is called, or nothing comes for `idle_timeout` seconds."""
        if self._stop is not None:
            raise RuntimeError("this Receiver has run: make another one")
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        thread = self._thread = ThreadPoolExecutor(1, "flatstream-nats")
        try:
            async with connected(self._connection, self._servers, self._connect_options) as connection:
                await loop.run_in_executor(thread, self._make_folder)
                intake = self._intake = Intake(
                    connection, self._subject, self._stream, self._durable, self._look_up,
                    batch=self._batch, ack_wait=self._ack_wait,
                )  # fmt: skip
                await intake.open()
                try:
                    await self._receive(intake, thread)
                finally:
                    await intake.close()
        finally:
            await asyncio.shield(loop.run_in_executor(thread, self._close))
            thread.shutdown(wait=False)

    async def _receive(self, intake: Intake, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        storing: asyncio.Future[None] | None = None
        waiting: list[Msg | None] = []
        last = loop.time()
        try:
            while not self._is_stopping:
                # What comes while a batch is stored is the next batch.
                arrived = await intake.next(0.001 if storing is not None else LOOK_EVERY)
                deliveries = [*(one.delivery for one in arrived), *(one.delivery for one in intake.repeats())]
                if storing is not None:
                    await storing
                    storing = None
                    await intake.acknowledge(waiting)
                waiting = deliveries
                if arrived:
                    last = loop.time()
                    storing = loop.run_in_executor(thread, self._store, arrived)
                else:
                    await intake.acknowledge(waiting)
                    waiting = []
                if self._idle_timeout is not None and loop.time() - last >= self._idle_timeout:
                    break
        finally:
            if storing is not None:
                await asyncio.shield(storing)
                await intake.acknowledge(waiting)

    # The mirrors, in the storing thread

    def _make_folder(self) -> None:
        os.makedirs(self._directory, exist_ok=True)

    async def _look_up(self, journal: str) -> Known:
        thread = self._thread
        assert thread is not None
        known = await asyncio.get_running_loop().run_in_executor(thread, self._known, journal)
        if known.position is not None:
            self._positions[journal] = known.position
        return known

    def _known(self, journal: str) -> Known:
        """Where the mirror of a journal ends, and its checksum."""
        folder = os.path.join(self._directory, journal)
        if not os.path.exists(folder):
            return Known(None, None)
        manifest = read_manifest(folder)
        checksum = None if manifest is None else manifest.checksum
        # A mirror that never had a frame may begin anywhere.
        return Known(self._mirror(journal, checksum or DEFAULT_CHECKSUM).position or None, checksum)

    def _mirror(self, journal: str, checksum: Any, description: Description | None = None) -> MirrorWriter:
        mirror = self._mirrors.get(journal)
        if mirror is not None and description is not None:
            known = mirror.description
            if known is None or not description.matches(known):
                # A new segment begins, with the new description.
                del self._mirrors[journal]
                mirror.close()
                mirror = None
        if mirror is None:
            while len(self._mirrors) >= self._max_open:
                _, oldest = self._mirrors.popitem(last=False)
                oldest.close()
            folder = os.path.join(self._directory, journal)
            describe = True if description is None else description
            mirror = MirrorWriter(folder, journal, checksum, **{"describe": describe} | self._options)
            self._mirrors[journal] = mirror
        self._mirrors.move_to_end(journal)
        return mirror

    def _store(self, arrived: list[Arrived]) -> None:
        """Writes frames to their mirrors; returns when the disk has them."""
        touched: dict[str, None] = {}
        for one in arrived:
            while True:
                try:
                    self._write(one)
                    break
                except OSError as error:
                    self._wait_for_room(error)
            touched[one.journal] = None
            self._missing += one.missing
        del self._missing[:-MAX_MISSING]
        for journal in touched:
            mirror = self._mirrors.get(journal)
            if mirror is None:
                # It was closed meanwhile, which syncs it.
                continue
            while True:
                try:
                    mirror.sync()
                    break
                except OSError as error:
                    self._wait_for_room(error)
        for one in arrived:
            self._positions[one.journal] = max(self._positions.get(one.journal, 0), one.next)

    def _write(self, one: Arrived) -> None:
        """Writes the frames of one message. After an error, another call goes on where this one stopped."""
        mirror = self._mirror(one.journal, one.checksum, one.description)
        mirror.skip_to(one.first)
        number = one.first
        for batch in one.batches:
            done = mirror.position - number
            if done < len(batch):
                before = mirror.frames_written
                try:
                    if done:
                        mirror.write_payloads(batch[done:])
                    else:
                        mirror.write_frames(batch)
                finally:
                    self._frames += mirror.frames_written - before
            number += len(batch)

    def _wait_for_room(self, error: OSError) -> None:
        if error.errno not in FULL or self._is_stopping:
            raise error
        log.error("%s: the disk is full, so nothing is received until there is room: %s", self._directory, error)
        time.sleep(FULL_PAUSE)

    def _close(self) -> None:
        while self._mirrors:
            _, mirror = self._mirrors.popitem()
            mirror.close()


class Received:
    """Frames that a forwarder has published in one message, in their turn; or a description of those that follow.

    Attributes
    ----------
    journal : str
        The identity of the forwarded journal.
    subject : str
        Where it was published.
    first, next : int
        The number of the first frame, and the one behind the last. Equal if there are no frames: it is a description,
        or says only what is missing.
    batches : list of FrameBatch
        The frames. Their payloads are valid as long as they are held.
    description : Description or None
        The description.
    missing : list of Missing
        Numbers before `first` of which no frame will come.
    """

    __slots__ = (
        "_arrived",
        "_subscription",
        "batches",
        "description",
        "first",
        "journal",
        "missing",
        "next",
        "subject",
    )

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __init__(self, arrived: Arrived, subscription: Subscription) -> None:
        self.journal = arrived.journal
        self.subject = arrived.subject
        self.first = arrived.first
        self.next = arrived.next
        self.batches = arrived.batches
        self.description = arrived.description
        self.missing = arrived.missing
        self._arrived = arrived
        self._subscription = subscription

    @property
    def cursor(self) -> Cursor:
        """The place behind the last frame. To be stored with the result, for `Subscription.positions`."""
        return Cursor(self.journal, self.next)

    def __iter__(self) -> Iterator[memoryview]:
        """The payloads."""
        return itertools.chain.from_iterable(self.batches)

    async def acknowledge(self) -> None:
        """Tells the broker that this message, and all that came before it of this journal, need not come again."""
        await self._subscription._acknowledge(self._arrived)

    def __repr__(self) -> str:
        return f"<Received frames {self.first} to {self.next} of {self.journal}>"


class Subscription:
    """Takes what forwarders publish as messages, in the order of the frames of each journal, each frame once.

    ::

        async with Subscription("telemetry.*", positions=stored) as messages:
            async for received in messages:
                with database:
                    database.store(list(received), received.cursor)
                await received.acknowledge()

    Parameters
    ----------
    subject, durable, connection, servers, connect_options, stream, batch, ack_wait, idle_timeout
        See `Receiver`. After `idle_timeout`, the iteration ends.
    positions : iterable of Cursor
        Where the journals are gone on with that were received from before: what is stored together with a result makes
        it *exactly once*. Without it, after a crash, messages that were not acknowledged come again: *at least once*.

    Raises
    ------
    Others
        As `Receiver`.
    """

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __init__(
        self,
        subject: str,
        *,
        durable: str = "flatstream",
        positions: Iterable[Cursor] = (),
        connection: Client | None = None,
        servers: str | list[str] = DEFAULT_SERVERS,
        connect_options: Mapping[str, Any] | None = None,
        stream: str | None = None,
        batch: int = 64,
        ack_wait: float = 30.0,
        idle_timeout: float | None = None,
    ) -> None:
        require_nats()
        self._subject = check_subject(subject)
        if index_argument("batch", batch) < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        check_seconds("ack_wait", ack_wait)
        check_seconds("idle_timeout", idle_timeout)
        # What is safe of each journal.
        self._safe: dict[str, int] = {}
        for cursor in positions:
            if not isinstance(cursor, Cursor):
                raise TypeError(f"positions must be cursors, got {cursor!r:.100}")
            self._safe[cursor.journal] = cursor.number
        self._durable = durable
        self._connection = connection
        self._servers = servers
        self._connect_options = connect_options
        self._stream = stream
        self._batch = batch
        self._ack_wait = ack_wait
        self._idle_timeout = idle_timeout
        self._intake: Intake | None = None
        self._repeats: list[Repeat] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._intake is not None:
            raise RuntimeError("this Subscription was entered before: make another one")
        async with contextlib.AsyncExitStack() as stack:
            connection = await stack.enter_async_context(
                connected(self._connection, self._servers, self._connect_options)
            )
            intake = self._intake = Intake(
                connection, self._subject, self._stream, self._durable, self._look_up,
                batch=self._batch, ack_wait=self._ack_wait,
            )  # fmt: skip
            await intake.open()
            stack.push_async_callback(intake.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def _look_up(self, journal: str) -> Known:
        return Known(self._safe.get(journal), None)

    async def __aiter__(self) -> AsyncIterator[Received]:
        """Gives what is received; ends after `idle_timeout`."""
        intake = self._intake
        if intake is None:
            raise ValueError("a Subscription is used in 'async with'")
        loop = asyncio.get_running_loop()
        last = loop.time()
        while self._idle_timeout is None or loop.time() - last < self._idle_timeout:
            for arrived in await intake.next(LOOK_EVERY):
                last = loop.time()
                if arrived.batches or arrived.description is not None or arrived.missing:
                    yield Received(arrived, self)
                elif arrived.delivery is not None:
                    self._repeats.append(Repeat(arrived.journal, arrived.next, arrived.delivery))
            self._repeats += intake.repeats()
            await self._acknowledge_repeats()

    async def _acknowledge(self, arrived: Arrived) -> None:
        assert self._intake is not None
        self._safe[arrived.journal] = max(self._safe.get(arrived.journal, 0), arrived.next)
        await self._intake.acknowledge([arrived.delivery])
        await self._acknowledge_repeats()

    async def _acknowledge_repeats(self) -> None:
        assert self._intake is not None
        safe = [one for one in self._repeats if one.next <= self._safe.get(one.journal, 0)]
        if safe:
            self._repeats = [one for one in self._repeats if one.next > self._safe.get(one.journal, 0)]
            await self._intake.acknowledge(one.delivery for one in safe)


async def receive(subject: str, directory: Any, *, idle_timeout: float | None = 1.0, **options: Any) -> ReceiveReport:
    """Receives what a stream has into journals; returns when nothing has come for `idle_timeout` seconds.

    Parameters are those of `Receiver`.
    """
    receiver = Receiver(subject, directory, idle_timeout=idle_timeout, **options)
    await receiver.run()
    return receiver.report

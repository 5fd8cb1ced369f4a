"""Messages of a stream in the order of their frames: by a durable consumer of JetStream, which is pulled.

The consumer hands over what nobody has acknowledged, again after a while. So after a receiver was killed, later
messages come before those that it had. And a forwarder whose publication failed repeats it behind later ones. `Order`
says which message is the next one of its journal. When one comes too early, the stream itself is asked for those before
it, so that nobody waits for what never comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from flatstream.checksums import Checksum, as_checksum
from flatstream.errors import FlatStreamError
from flatstream.nats._connection import log, raise_if_cancelled, require_nats, stream_of
from flatstream.nats._message import ForeignMessageError, Message, batches_of, description_of, parse_message
from flatstream.nats._order import Missing, Order, Taken

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from flatstream._core.stream.frame_batch import FrameBatch
    from flatstream.description import Description

__all__ = ["Arrived", "Intake", "Known", "Repeat"]

# How long a pull request waits at the broker, in seconds; and how long the answer may take beyond that.
PULL_SECONDS = 10.0
PULL_GRACE = 5.0
# How often a waiting intake looks whether the connection was made anew, in seconds.
LOOK_EVERY = 0.5
# Pauses between two attempts when the broker does not answer, in seconds.
FIRST_PAUSE = 0.1
LAST_PAUSE = 5.0
# What is kept of messages that came too early. A forwarder has at most its window under way; what does not fit comes
# again when the broker repeats it.
MAX_HELD = 1024
MAX_HELD_BYTES = 64 << 20
PULL_BYTES = 8 << 20
# Acknowledgement, in consumers: the only policy with which each message is repeated until it is acknowledged.
EXPLICIT = "explicit"


class _Item(NamedTuple):
    """A message with its place in the stream, and its delivery; None if the stream was asked for it."""

    message: Message
    subject: str
    sequence: int
    delivery: Msg | None

    # For `Order`.

    @property
    def first(self) -> int:
        return self.message.first

    @property
    def next(self) -> int:
        return self.message.next

    @property
    def after(self) -> int:
        return self.message.after

    @property
    def acked(self) -> int:
        return self.message.acked


class Arrived(NamedTuple):
    """A message whose turn it is, without the frames that were there already."""

    journal: str
    subject: str
    checksum: Checksum
    first: int
    next: int
    batches: list[FrameBatch]
    description: Description | None
    missing: list[Missing]
    # None if the stream was asked for it: it comes again, and is acknowledged then.
    delivery: Msg | None


class Repeat(NamedTuple):
    """A delivery that brought nothing new. It is to be acknowledged when all below `next` is safe."""

    journal: str
    next: int
    delivery: Msg


class Known(NamedTuple):
    """What is known of a journal: the number of the first frame that is wanted, and its checksum; None if not."""

    position: int | None
    checksum: str | None


class Intake:
    """Takes the messages of a subject from a stream.

    Parameters
    ----------
    connection : nats.aio.client.Client
        It stays open.
    subject : str
        It may have wildcards. Each journal has an order of its own.
    stream : str or None
        The name of the stream; by default the one that has the subject.
    durable : str
        The name of the consumer. It is made if it does not exist.
    look_up : callable
        Gets the identity of a journal and returns what is known of it.
    batch : int
        How many messages are asked for at once.
    ack_wait : float
        After so many seconds without an acknowledgement the broker repeats a message: for a consumer that is made.
    """

    def __init__(
        self,
        connection: Client,
        subject: str,
        stream: str | None,
        durable: str,
        look_up: Callable[[str], Awaitable[Known]],
        *,
        batch: int,
        ack_wait: float,
    ) -> None:
        self._connection = connection
        self._subject = subject
        # Known once it is open.
        self._stream: str = stream or ""
        self._durable = durable
        self._look_up = look_up
        self._batch = batch
        self._ack_wait = ack_wait
        self._orders: dict[str, Order[_Item]] = {}
        # Of each journal, and all by their names.
        self._checksum_names: dict[str, str] = {}
        self._checksums: dict[str, Checksum] = {}
        self._subscription: Any = None
        self._delivered: deque[Msg] = deque()
        self._has_delivered = asyncio.Event()
        # All messages of the stream up to this one were looked at.
        self._looked = 0
        # Messages before this one were delivered and not acknowledged when the consumer was found.
        self._unfinished = 0
        # How many messages the open pull request may still bring, and until when it is open, by the loop's clock.
        self._wanted = 0
        self._pull_end = 0.0
        self._connects = 0
        self._repeats: list[Repeat] = []
        self.messages = 0
        self.repeated = 0
        self.refused = 0

    # The consumer

    async def open(self) -> None:
        """Finds the stream and the consumer, which is made if it does not exist.

        Raises
        ------
        FlatStreamError
            There is no stream, or the consumer cannot be used.
        """
        info = await stream_of(self._connection, self._subject, self._stream or None)
        self._stream = info.config.name
        await self._ensure_consumer()
        inbox = self._connection.new_inbox()
        # What was asked for is all that comes: no other limit is needed.
        self._subscription = await self._connection.subscribe(
            inbox, cb=self._take_delivery, pending_bytes_limit=-1, pending_msgs_limit=-1
        )
        self._inbox = inbox

    async def _ensure_consumer(self) -> None:
        nats = require_nats()
        context = self._connection.jetstream()
        try:
            info = await context.consumer_info(self._stream, self._durable)
        except nats.js.errors.NotFoundError:
            config = nats.js.api.ConsumerConfig(
                durable_name=self._durable,
                filter_subject=self._subject,
                ack_policy=nats.js.api.AckPolicy.EXPLICIT,
                deliver_policy=nats.js.api.DeliverPolicy.ALL,
                ack_wait=self._ack_wait,
                max_ack_pending=max(1000, 4 * self._batch),
            )
            info = await context.add_consumer(self._stream, config)
        config = info.config
        if config.deliver_subject or str(getattr(config.ack_policy, "value", config.ack_policy)) != EXPLICIT:
            raise FlatStreamError(
                f"the consumer {self._durable!r} of the stream {self._stream!r} is not one that is pulled and "
                "acknowledges each message: take another name"
            )
        if config.filter_subject not in (None, "", self._subject):
            raise FlatStreamError(
                f"the consumer {self._durable!r} of the stream {self._stream!r} is for the subject "
                f"{config.filter_subject!r}, expected {self._subject!r}: take another name"
            )
        self._looked = max(self._looked, self._ack_floor(info))
        if info.num_ack_pending and info.delivered is not None:
            # They were delivered to a receiver that was killed, and come again after a while only.
            self._unfinished = int(info.delivered.stream_seq or 0) + 1

    def _ack_floor(self, info: Any) -> int:
        return int(info.ack_floor.stream_seq or 0) if info.ack_floor is not None else 0

    async def close(self) -> None:
        """Ends the subscription. Messages that were handed over and not acknowledged come again."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._connection.is_closed:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()

    # Taking messages

    async def next(self, timeout: float | None) -> list[Arrived]:
        """Waits for messages whose turn it is; an empty list after `timeout` seconds, or if there were only repeats.

        Raises
        ------
        FlatStreamError
            The stream is gone, or the consumer cannot be used.
        nats.errors.ConnectionClosedError
            The connection was closed.
        """
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        arrived: list[Arrived] = []
        if self._unfinished:
            unfinished, self._unfinished = self._unfinished, 0
            arrived = self._arrived(await self._look_through(unfinished))
        while not arrived and not self._repeats:
            raise_if_cancelled()
            left = LOOK_EVERY if end is None else min(LOOK_EVERY, end - loop.time())
            if left <= 0:
                break
            for delivery in await self._pull(left):
                arrived += await self._sort_in(delivery)
        return arrived

    async def _pull(self, seconds: float) -> list[Msg]:
        """What has been delivered, at most a batch; waits for the first one."""
        nats = require_nats()
        loop = asyncio.get_running_loop()
        if self._connection.is_closed:
            raise nats.errors.ConnectionClosedError
        connects = self._connection.stats["reconnects"]
        if self._wanted <= 0 or loop.time() > self._pull_end or connects != self._connects:
            if self._connection.is_connected:
                await self._request()
            self._connects = connects
        if not self._delivered:
            self._has_delivered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._has_delivered.wait()
        deliveries: list[Msg] = []
        while self._delivered and len(deliveries) < self._batch:
            message = self._delivered.popleft()
            if await self._is_message(message):
                deliveries.append(message)
                self._wanted -= 1
        return deliveries

    async def _take_delivery(self, message: Msg) -> None:
        self._delivered.append(message)
        self._has_delivered.set()

    async def _request(self) -> None:
        limit = max(PULL_BYTES, 2 * self._connection.max_payload)
        asked = {"batch": self._batch, "max_bytes": limit, "expires": int(PULL_SECONDS * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        self._wanted = self._batch
        self._pull_end = asyncio.get_running_loop().time() + PULL_SECONDS + PULL_GRACE
        await self._connection.publish(subject, json.dumps(asked).encode(), reply=self._inbox)

    async def _is_message(self, message: Msg) -> bool:
        """Whether it is a message of the stream; what else the broker says about the pull request is dealt with."""
        headers = message.headers or {}
        status = None if message.reply else headers.get("Status")
        if status is None:
            return bool(message.reply)
        self._wanted = 0
        if status not in ("100", "404", "408") and "Server Shutdown" not in (headers.get("Description") or ""):
            # Without a consumer, or while the broker starts.
            log.info("the broker says %s %s to a pull request", status, headers.get("Description"))
            await self._find_again()
        return False

    async def _find_again(self) -> None:
        """Waits until the consumer is there again; makes it if it was removed."""
        nats = require_nats()
        pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            try:
                await self._ensure_consumer()
                return
            except nats.js.errors.NotFoundError as error:
                raise FlatStreamError(f"the stream {self._stream!r} is gone") from error
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                if self._connection.is_closed:
                    raise
                log.info("the consumer %r cannot be reached: %s", self._durable, error)
                pause = min(2 * pause, LAST_PAUSE)
                raise_if_cancelled()

    async def _sort_in(self, delivery: Msg) -> list[Arrived]:
        sequence = delivery.metadata.sequence.stream
        item = await self._parsed(delivery.headers, delivery.data, delivery.subject, sequence, delivery)
        if item is None:
            await delivery.term()
            self._look_at(sequence)
            return []
        taken = self._judge(item)
        if taken is None:
            taken = await self._ask_stream(item)
        self._look_at(sequence)
        return self._arrived(taken)

    def _look_at(self, sequence: int) -> None:
        if sequence == self._looked + 1:
            self._looked = sequence

    async def _parsed(
        self, headers: Any, data: bytes, subject: str, sequence: int, delivery: Msg | None
    ) -> _Item | None:
        """A message of the stream whose headers are right; None for another one, which is refused."""
        self.messages += 1
        try:
            message = parse_message(headers, data)
            if message.checksum not in self._checksums:
                self._checksums[message.checksum] = as_checksum(message.checksum)
            await self._check_journal(message)
            if message.kind == "description":
                description_of(message)
            elif message.kind == "frames":
                batches_of(message, self._checksums[message.checksum])
        except (ForeignMessageError, ValueError) as error:
            self.refused += 1
            log.error("message %d of the stream %s is refused: %s", sequence, self._stream, error)
            return None
        return _Item(message, subject, sequence, delivery)

    async def _check_journal(self, message: Message) -> None:
        if message.journal not in self._orders:
            known = await self._look_up(message.journal)
            self._orders[message.journal] = Order(message.journal, known.position)
            self._checksum_names[message.journal] = known.checksum or message.checksum
        name = self._checksum_names[message.journal]
        if message.checksum != name:
            raise ForeignMessageError(f"its checksum is {message.checksum}, and the journal's {name}")

    def _judge(self, item: _Item) -> list[Taken[_Item]] | None:
        """Takes the message if it is the next one, and those that waited for it. None if it comes too early."""
        order = self._orders[item.message.journal]
        verdict = order.judge(item)
        if verdict == "early":
            return None
        if verdict == "repeated":
            self._repeat(item)
            return []
        return [order.take(item), *self._released(order)]

    def _repeat(self, item: _Item) -> None:
        self.repeated += 1
        if item.delivery is not None:
            self._repeats.append(Repeat(item.message.journal, item.next, item.delivery))

    def _released(self, order: Order[_Item]) -> list[Taken[_Item]]:
        taken, repeated = order.release()
        for item in repeated:
            self._repeat(item)
        return taken

    async def _ask_stream(self, item: _Item) -> list[Taken[_Item]]:
        """Keeps a message that comes too early, and reads the messages before it from the stream."""
        order = self._orders[item.message.journal]
        held = [one for kept in self._orders.values() for one in kept.held.values()]
        if (
            len(held) >= MAX_HELD
            or sum(len(one.message.data) for one in held) + len(item.message.data) > MAX_HELD_BYTES
        ):
            # It comes again.
            return []
        order.hold(item)
        self._looked = max(self._looked, await self._acknowledged())
        taken = await self._look_through(item.sequence)
        self._looked = max(self._looked, item.sequence)
        return taken

    async def _look_through(self, end: int) -> list[Taken[_Item]]:
        """Reads what the stream has from the first message that was not looked at up to `end`, that one excluded; and
        concludes what is lost.
        """
        taken: list[Taken[_Item]] = []
        while self._looked + 1 < end:
            found = await self._message_from(self._looked + 1)
            if found is None or found.seq >= end:
                break
            item = await self._parsed(found.headers, found.data or b"", found.subject, found.seq, None)
            self._looked = found.seq
            if item is not None:
                judged = self._judge(item)
                if judged is None:
                    self._orders[item.message.journal].hold(item)
                else:
                    taken += judged
        for order in self._orders.values():
            if order.held:
                order.conclude()
                taken += self._released(order)
        return taken

    async def _acknowledged(self) -> int:
        context = self._connection.jetstream()
        info = await self._insist(lambda: context.consumer_info(self._stream, self._durable))
        return 0 if info is None else self._ack_floor(info)

    async def _message_from(self, sequence: int) -> Any:
        """The first message of the subject with this number in the stream, or a larger one; None if there is none."""
        context = self._connection.jetstream()
        return await self._insist(lambda: context.get_msg(self._stream, seq=sequence, subject=self._subject, next=True))

    async def _insist(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of the broker, however long it takes; None if there is no such thing."""
        nats = require_nats()
        pause = FIRST_PAUSE
        while True:
            try:
                return await ask()
            except nats.js.errors.NotFoundError:
                return None
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                if self._connection.is_closed:
                    raise
                log.info("the broker does not answer: %s: %s", type(error).__name__, error)
            raise_if_cancelled()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    def _arrived(self, taken: list[Taken[_Item]]) -> list[Arrived]:
        return [self._one_arrived(one) for one in taken]

    def _one_arrived(self, taken: Taken[_Item]) -> Arrived:
        item, skip, missing = taken
        message = item.message
        for gap in missing:
            log.warning(
                "journal %s: no frames from number %d to %d, %s",
                gap.journal, gap.first, gap.next - 1,
                "which the stream has lost" if gap.cause == "stream" else "which were not forwarded",
            )  # fmt: skip
        checksum = self._checksums[message.checksum]
        return Arrived(
            message.journal,
            item.subject,
            checksum,
            message.first + skip,
            message.next,
            batches_of(message, checksum, skip) if message.kind == "frames" else [],
            description_of(message) if message.kind == "description" else None,
            missing,
            item.delivery,
        )

    # Acknowledging

    def repeats(self) -> list[Repeat]:
        """Deliveries that brought nothing new since the last call."""
        repeats, self._repeats = self._repeats, []
        return repeats

    async def acknowledge(self, deliveries: Iterable[Msg | None]) -> None:
        """Acknowledges what is safe. An acknowledgement that is lost has the message repeated."""
        for delivery in deliveries:
            if delivery is not None:
                await delivery.ack()

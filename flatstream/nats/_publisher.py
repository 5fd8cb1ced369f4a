"""Publications to JetStream that are acknowledged later.

`JetStreamContext.publish_async` of nats-py 2.16 does not hand over what the broker says when it refuses a message: the
error is raised in the subscription's task, and the future of the publication never ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flatstream.nats._connection import require_nats

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

__all__ = ["Publisher"]

NO_RESPONDERS = "503"


class Publisher:
    """Publishes to one subject, and gives a future for each answer of the broker.

    Parameters
    ----------
    connection : nats.aio.client.Client
        It stays open.
    subject, stream : str
        The subject, and the stream that must have it.
    """

    def __init__(self, connection: Client, subject: str, stream: str) -> None:
        self.connection = connection
        self._subject = subject
        self._stream = stream
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._subscription: Any = None
        self._inbox = ""

    async def open(self) -> None:
        """Subscribes to the answers."""
        self._inbox = self.connection.new_inbox()
        self._subscription = await self.connection.subscribe(f"{self._inbox}.*", cb=self._take_answer)

    async def close(self) -> None:
        """Ends the subscription. Futures without an answer never get one."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self.connection.is_closed:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()

    async def publish(self, data: bytes, headers: Mapping[str, str]) -> asyncio.Future[bool]:
        """Publishes a message. The future says whether the broker had it already, or raises what the broker says.

        A future that is not waited for any more must be cancelled.

        Raises
        ------
        nats.errors.Error
            The connection takes no more.
        """
        token = str(next(self._numbers))
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        future.add_done_callback(lambda _: self._waiting.pop(token, None))
        try:
            await self.connection.publish(
                self._subject,
                data,
                reply=f"{self._inbox}.{token}",
                headers={**headers, "Nats-Expected-Stream": self._stream},
            )
        except BaseException:
            future.cancel()
            raise
        return future

    async def _take_answer(self, message: Msg) -> None:
        future = self._waiting.get(message.subject.rpartition(".")[2])
        if future is None or future.done():
            return
        nats = require_nats()
        errors = nats.js.errors
        if (message.headers or {}).get("Status") == NO_RESPONDERS:
            future.set_exception(errors.NoStreamResponseError())
            return
        try:
            answer = json.loads(message.data)
            error = answer.get("error")
            if error is None:
                future.set_result(bool(answer.get("duplicate")) and int(answer["seq"]) >= 0)
                return
            found = errors.APIError(
                code=error.get("code"), err_code=error.get("err_code"), description=error.get("description")
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            found = nats.errors.Error(f"the broker's answer is none of JetStream: {message.data[:100]!r}")
        future.set_exception(found)

"""The connection to NATS, and what both sides ask of JetStream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from flatstream.errors import FlatStreamError

if TYPE_CHECKING:
    from nats.aio.client import Client

__all__ = ["check_subject", "connected", "log", "raise_if_cancelled", "require_nats", "stream_of"]

log = logging.getLogger("flatstream.nats")

DEFAULT_SERVERS = "nats://127.0.0.1:4222"


def require_nats() -> Any:
    """The package `nats`.

    Raises
    ------
    ImportError
        It is not installed; the message names the extra.
    """
    try:
        import nats
        import nats.js.api
        import nats.js.errors
    except ImportError as error:
        raise ImportError(
            f"flatstream.nats needs the package nats-py: pip install 'flatstream[nats]' ({error})"
        ) from None
    return nats


@contextlib.asynccontextmanager
async def connected(
    connection: Client | None, servers: Any, options: Mapping[str, Any] | None
) -> AsyncIterator[Client]:
    """The caller's connection, or one that is made now, which reconnects for ever, and is closed at the end."""
    nats = require_nats()
    if connection is not None:
        yield connection
        return

    async def note(error: Exception) -> None:
        log.warning("the connection to NATS: %s: %s", type(error).__name__, error)

    defaults = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.5, "error_cb": note}
    made = await nats.connect(servers, **(defaults | dict(options or {})))
    try:
        yield made
    finally:
        await made.close()


async def stream_of(connection: Client, subject: str, stream: str | None) -> Any:
    """What JetStream says of the stream that has a subject.

    Raises
    ------
    FlatStreamError
        There is none.
    """
    nats = require_nats()
    context = connection.jetstream()
    try:
        name = stream if stream is not None else await context.find_stream_name_by_subject(subject)
        return await context.stream_info(name)
    except nats.js.errors.NotFoundError:
        asked = f"named {stream!r}" if stream is not None else f"for the subject {subject!r}"
        raise FlatStreamError(
            f"the broker has no stream {asked}: make one, as with 'nats stream add' or JetStreamContext.add_stream"
        ) from None


def raise_if_cancelled() -> None:
    """Raises CancelledError in a task that was cancelled: `asyncio.wait_for` of Python 3.11, by which nats-py waits,
    forgets a cancellation that comes together with what it waits for.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def check_subject(subject: object) -> str:
    """A subject, or what subjects of a stream match."""
    if not isinstance(subject, str):
        raise TypeError(f"subject must be a str, got {subject!r:.100}")
    if not subject or any(character.isspace() or not character.isprintable() for character in subject):
        raise ValueError(f"subject must be a subject of NATS, got {subject!r:.100}")
    return subject

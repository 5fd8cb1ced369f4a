"""``python -m flatstream.nats``: a forwarder or a receiver as a service."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any

from flatstream.errors import FlatStreamError
from flatstream.nats._connection import DEFAULT_SERVERS, connected, require_nats
from flatstream.nats.forwarder import Forwarder
from flatstream.nats.receiver import Receiver

__all__ = ["main"]

DONE = 0
MISSING = 1
ERROR = 4

EPILOG = """\
SIGTERM and Ctrl-C end it when what is under way is stored.

exit status:
  0  done
  1  done, and frames were missing: the log says which
  2  the command line is wrong
  4  error: the broker or the disk refuses
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flatstream.nats",
        description="Forwards a journal to a stream of NATS JetStream, or receives what was forwarded into journals.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    send = commands.add_parser("forward", help="publish the frames of a journal", epilog=EPILOG,
                               formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    send.add_argument("directory", metavar="DIR", help="the folder of the journal")
    send.add_argument("subject", metavar="SUBJECT", help="where to publish")
    send.add_argument("--name", default="nats", help="the name of the registered reader (default: %(default)s)")
    send.add_argument("--start", choices=["oldest", "newest"], default="oldest", help="where to begin the first time")
    send.add_argument("--once", action="store_true", help="end when the broker has all that the journal has now")
    send.add_argument("--skip-too-large", action="store_true", help="leave out frames that do not fit into a message")
    take = commands.add_parser("receive", help="store what was published in journals", epilog=EPILOG,
                               formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    take.add_argument("subject", metavar="SUBJECT", help="what to receive; it may have wildcards")
    take.add_argument("directory", metavar="DIR", help="the folder in which each journal gets a folder")
    take.add_argument("--durable", default="flatstream", help="the name of the consumer (default: %(default)s)")
    take.add_argument("--idle-timeout", type=float, metavar="SECONDS", help="end when nothing came for so long")
    take.add_argument("--ack-wait", type=float, default=30.0, metavar="SECONDS",
                      help="when the broker repeats what was not acknowledged (default: %(default)g)")  # fmt: skip
    take.add_argument("--accept-damage", action="store_true",
                      help="go on behind a damaged mirror, as if frames without a known number were lost")  # fmt: skip
    for command in (send, take):
        command.add_argument("--server", action="append", metavar="URL", help=f"a server (default: {DEFAULT_SERVERS})")
        command.add_argument("--creds", metavar="FILE", help="the credentials of the user")
        command.add_argument("--create-stream", metavar="NAME",
                             help="make the stream, with the subject, if it does not exist")  # fmt: skip
        command.add_argument("--give-up", type=float, metavar="SECONDS",
                             help="end with an error when no broker is reached at first for so long, or takes nothing "
                             "of what is forwarded (default: try for ever)")  # fmt: skip
        command.add_argument("-q", "--quiet", action="store_true", help="log warnings and errors only")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns the exit status."""
    options = _parser().parse_args(arguments)
    level = logging.WARNING if options.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    nats = require_nats()
    try:
        return asyncio.run(_run(options))
    except (FlatStreamError, OSError, ValueError, nats.errors.Error, nats.js.errors.Error) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return ERROR


async def _run(options: argparse.Namespace) -> int:
    given: dict[str, Any] = {"user_credentials": options.creds} if options.creds else {}
    servers = options.server or DEFAULT_SERVERS
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(options.give_up):
                connection = await stack.enter_async_context(connected(None, servers, given))
        except TimeoutError:
            raise TimeoutError(f"no broker was reached within {options.give_up:g} s: {servers}") from None
        if options.create_stream:
            await _create_stream(connection, options.create_stream, options.subject)
        worker: Forwarder | Receiver
        if options.command == "forward":
            worker = Forwarder(
                options.directory,
                options.subject,
                connection=connection,
                name=options.name,
                start=options.start,
                follow=not options.once,
                give_up=options.give_up,
                on_too_large="skip" if options.skip_too_large else "raise",
            )
        else:
            worker = Receiver(
                options.subject,
                options.directory,
                connection=connection,
                durable=options.durable,
                ack_wait=options.ack_wait,
                idle_timeout=options.idle_timeout,
                accepts_damage=options.accept_damage,
            )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        await worker.run()
    if isinstance(worker, Forwarder):
        sent = worker.report
        print(
            f"{sent.frames:,} frames forwarded in {sent.messages:,} messages; the journal goes on at {sent.position:,}"
        )
        return MISSING if sent.gaps or sent.too_large else DONE
    taken = worker.report
    print(f"{taken.frames:,} frames of {len(taken.positions):,} journals received in {taken.messages:,} messages")
    return MISSING if taken.missing or taken.refused else DONE


async def _create_stream(connection: Any, name: str, subject: str) -> None:
    nats = require_nats()
    context = connection.jetstream()
    try:
        await context.stream_info(name)
    except nats.js.errors.NotFoundError:
        await context.add_stream(name=name, subjects=[subject])

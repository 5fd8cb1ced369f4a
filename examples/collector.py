"""Collect what many agents measure, over TCP or TLS, so that nothing is lost or doubled whoever is killed.

    python collector.py serve /var/lib/collector --port 7411
    python collector.py agent /var/lib/agent --connect collector:7411
    python collector.py demo

An agent writes what it measures into a journal of its own first. Its uplink connects, says which journal it has, and
the collector answers with the number of the first frame that it does not have on its disk. From there on the agent
sends each frame with its number. The collector stores each agent's frames in a mirror of the agent's journal
(`MirrorWriter`: the same identity, the same numbers), syncs all mirrors that have something new together, and then
acknowledges what is on the disk. The agent commits that as the cursor of a registered reader, so that the retention of
its journal keeps what the collector does not have.

So neither side remembers anything but its journals: after a kill of the collector its mirrors say what it has, and
after a kill of an agent its journal says what there is. There is a journal for each agent, and not one for all: nothing
has to be read to find the number that an agent goes on with, each agent has limits of its own, and what an agent has
measured can be read with all tools as if it had been measured here. The price is one sync for each agent with news, and
not one for all; they are made together, far less often than frames come.

Messages are frames of a flatstream with CRC-32C; their first byte says what they are:

    agent to collector    H  JSON: protocol, journal (its identity), name
                          D  the description of its journal; empty if it has none
                          F  number (u64 LE), payload: a frame
                          B  a beat: still there
    collector to agent    P  number (u64 LE): all frames below are on the disk. The first one answers the greeting
                          E  text: refused

Hostile peers: the collector bounds the size of a frame, the number of connections and of journals, the time for the TLS
handshake, for the greeting and between two messages, what a connection may have unsynced (then it is not read), and,
with --max-bytes, what a journal takes on the disk. Who may connect is the business of TLS: --client-ca.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from flatstream import Description, FlatStreamError, FrameBatch
from flatstream.aio import Connection, connect, serve
from flatstream.journal import (
    Cursor,
    JournalReader,
    JournalWriter,
    MirrorWriter,
    RetentionPolicy,
    RotationPolicy,
    SyncPolicy,
)

PROTOCOL = 1
CHECKSUM = "crc32c"
GREETING, DESCRIPTION, FRAME, BEAT, POSITION, REFUSAL = b"HDFBPE"
MIB = 1 << 20

MAX_FRAME = 1 * MIB  # a message of an agent with its number
MAX_GREETING = 4096
MAX_GAPS = 1000  # of one agent; each begins a file
MAX_UNSYNCED = 8 * MIB  # of one agent; then the collector reads no further until the disk has it
GREETING_SECONDS = 10.0
IDLE_SECONDS = 60.0  # a silent connection is closed
BEAT_SECONDS = 20.0  # so an agent with nothing to send says that it is there
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 30.0
READER_NAME = "collector"

log = logging.getLogger("collector")

T = TypeVar("T")


class RefusedError(Exception):
    """The other side does not speak this protocol, or may not."""


# --- The collector ---------------------------------------------------------------------------------------------------


class Mirror:
    """The journal of one agent at the collector, and the connection that writes it."""

    def __init__(self, writer: MirrorWriter, gaps: int = 0) -> None:
        self.writer = writer
        self.durable = writer.position
        self.connection: Connection | None = None
        self.unsynced = 0  # bytes
        self.gaps = gaps  # and other descriptions: each began a file
        self.has_news = asyncio.Event()  # for the connection: `durable` has moved

    def store(self, batch: FrameBatch) -> None:
        """Writes the frames of a batch of messages that are not there yet."""
        run: list[memoryview] = []
        first = self.writer.position
        for message in batch:
            if message[0] == BEAT:
                self.has_news.set()  # it is answered
                continue
            number = int.from_bytes(message[1:9], "little")
            if message[0] != FRAME or len(message) < 10 or number >= 1 << 63:
                raise RefusedError(f"expected a frame or a beat, got {bytes(message[:20])!r}")
            if number < first + len(run):
                continue  # it came before the connection was lost
            if number > first + len(run):
                self.writer.write_payloads(run)
                self.gaps += 1
                if self.gaps > MAX_GAPS:
                    raise RefusedError(f"its journal has more than {MAX_GAPS} gaps")
                log.warning("%s: frames %d to %d are missing", self.writer.id, first + len(run), number - 1)
                self.writer.skip_to(number)  # the agent does not have these either
                run, first = [], number
            run.append(message[9:])
            self.unsynced += len(message)
        self.writer.write_payloads(run)


class Collector:
    """Stores what agents send, each in `directory`/<identity of its journal>."""

    def __init__(
        self, directory: Path, *, max_journals: int = 1000, max_bytes: int | None = None, sync_interval: float = 0.02
    ) -> None:
        self.directory = directory
        self.max_journals = max_journals
        self.retain = None if max_bytes is None else RetentionPolicy(max_bytes=max_bytes)
        self.sync_interval = sync_interval
        self.mirrors: dict[str, Mirror] = {}
        self.opening = asyncio.Lock()
        self.disk = ThreadPoolExecutor(1)  # opens, syncs and closes, one after the other
        self.has_unsynced = asyncio.Event()
        directory.mkdir(parents=True, exist_ok=True)

    async def handle(self, connection: Connection) -> None:
        """The life of a connection."""
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                mirror = await self.greet(connection)
        except (RefusedError, ValueError, RecursionError, FlatStreamError) as error:
            log.warning("%s is refused: %s", connection.peer, error)
            await connection.writer.write_payload(bytes([REFUSAL]) + str(error).encode()[:200])
            return
        older, mirror.connection = mirror.connection, connection
        if older is not None:
            older.abort()  # the agent has lost it, and the system has not noticed yet
        acknowledging = asyncio.create_task(self.acknowledge(mirror, connection))
        try:
            await self.take(mirror, connection)
        except RefusedError as error:
            log.warning("%s is refused: %s", connection.peer, error)
        finally:
            acknowledging.cancel()
            await asyncio.gather(acknowledging, return_exceptions=True)
            if mirror.connection is connection:
                mirror.connection = None

    async def greet(self, connection: Connection) -> Mirror:
        greeting, described = [await connection.reader.read_message() for _ in range(2)]
        if greeting is None or described is None:
            raise RefusedError("it has ended within its greeting")
        if greeting[0] != GREETING or len(greeting) > MAX_GREETING or described[0] != DESCRIPTION:
            raise RefusedError(f"expected a greeting, got {bytes(greeting[:20])!r}")
        said = json.loads(bytes(greeting[1:]))
        if not isinstance(said, dict) or said.get("protocol") != PROTOCOL or not isinstance(said.get("journal"), str):
            raise RefusedError(f"expected the protocol {PROTOCOL} and a journal, got {bytes(greeting[1:100])!r}")
        description = Description.from_bytes(described[1:]) if len(described) > 1 else None
        async with self.opening:
            mirror = self.mirrors.get(said["journal"])
            gaps = 0
            if mirror is not None and not is_described(mirror.writer, description):
                # A new segment with the new description begins.
                gaps = mirror.gaps + 1
                if gaps > MAX_GAPS:
                    raise RefusedError(f"its journal has begun more than {MAX_GAPS} files")
                del self.mirrors[said["journal"]]
                if mirror.connection is not None:
                    mirror.connection.abort()
                    mirror.connection = None
                await self.on_disk(mirror.writer.close)
                mirror = None
            if mirror is None:
                mirror = self.mirrors[said["journal"]] = await self.open(said["journal"], description, gaps)
        log.info("%s: %s has the journal %s, from frame %d on", connection.peer, str(said.get("name"))[:100],
                 mirror.writer.id, mirror.durable)  # fmt: skip
        return mirror

    async def open(self, journal: str, description: Description | None, gaps: int) -> Mirror:
        if len(self.mirrors) >= self.max_journals:
            raise RefusedError(f"there are {self.max_journals} journals, as many as allowed")

        def open_mirror() -> MirrorWriter:
            # `journal` is 32 hexadecimal digits: MirrorWriter refuses another one before it makes a folder.
            return MirrorWriter(self.directory / journal, journal, describe=description or True, retain=self.retain)

        return Mirror(await self.on_disk(open_mirror), gaps)

    async def on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.disk, work)

    async def take(self, mirror: Mirror, connection: Connection) -> None:
        """Stores what comes, until the agent ends the connection, or has another one."""
        while (batch := await connection.reader.read_batch()) is not None:
            if mirror.connection is not connection:
                return
            mirror.store(batch)
            if mirror.unsynced:
                self.has_unsynced.set()
            while mirror.unsynced > MAX_UNSYNCED and mirror.connection is connection:
                await asyncio.sleep(self.sync_interval)

    async def acknowledge(self, mirror: Mirror, connection: Connection) -> None:
        mirror.has_news.set()
        while True:
            await mirror.has_news.wait()
            mirror.has_news.clear()
            await connection.writer.write_payload(bytes([POSITION]) + mirror.durable.to_bytes(8, "little"))

    async def sync(self) -> None:
        """Has all that is new put onto the disk, and then acknowledged. Ends with an error if a sync fails."""
        while True:
            await self.has_unsynced.wait()
            self.has_unsynced.clear()
            await asyncio.sleep(self.sync_interval)  # what comes meanwhile is synced together
            news = [(one, one.writer.position) for one in self.mirrors.values() if one.writer.position > one.durable]
            for mirror, _ in news:
                mirror.unsynced = 0
            await self.on_disk(partial(sync_all, [mirror.writer for mirror, _ in news]))
            for mirror, position in news:
                mirror.durable = position
                mirror.has_news.set()

    def close(self) -> None:
        self.disk.shutdown()
        for mirror in self.mirrors.values():
            mirror.writer.close()


def is_described(writer: MirrorWriter, description: Description | None) -> bool:
    """Whether the segments of a mirror begin with such a description."""
    known = writer.description
    return description is None or (known is not None and description.matches(known))


def sync_all(writers: list[MirrorWriter]) -> None:
    for writer in writers:
        if not writer.closed:
            writer.sync()


async def run_collector(options: argparse.Namespace) -> None:
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
        if options.client_ca:
            context.load_verify_locations(options.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    collector = Collector(options.directory, max_journals=options.max_journals, max_bytes=options.max_bytes)
    stopped = stop_event()
    syncing = asyncio.create_task(collector.sync())
    try:
        server = await serve(
            collector.handle,
            options.host,
            options.port,
            ssl=context,
            deframer=CHECKSUM,
            framer=CHECKSUM,
            max_frame_len=MAX_FRAME,
            allow_empty=False,
            max_connections=options.max_connections,
            idle_timeout=IDLE_SECONDS,
        )
        async with server:
            print(f"listening on {options.host}:{server.port}", flush=True)
            waiting = asyncio.create_task(stopped.wait())
            await asyncio.wait({waiting, syncing}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            await server.close(grace=0)
        if syncing.done():
            syncing.result()  # the disk has failed: what was not acknowledged, the agents have
    finally:
        syncing.cancel()
        await asyncio.wait({syncing})
        collector.close()


# --- An agent --------------------------------------------------------------------------------------------------------


class Agent:
    """Measures into a journal of its own, and sends that to the collector."""

    def __init__(self, directory: Path, address: tuple[str, int], *, context: ssl.SSLContext | None = None) -> None:
        self.directory = directory
        self.address = address
        self.context = context
        # Frames are sent when they are on the disk, so that their numbers are not used for others after a power cut.
        self.journal = JournalWriter(
            directory,
            sync=SyncPolicy(seconds=0.1),
            rotate=RotationPolicy(max_bytes=4 * MIB),
            # Beyond the first limit, what is acknowledged is removed; beyond the second, also what is not.
            retain=RetentionPolicy(max_bytes=16 * MIB, max_reader_bytes=1024 * MIB),
        )
        self.wanted = 0
        self.acknowledged = -1
        self.stopped = asyncio.Event()

    async def measure(self, rate: float, count: int | None) -> None:
        """One sample each 1 / `rate` seconds; up to the frame `count`, if it is given."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.stopped.is_set() and (count is None or self.journal.position < count):
            self.journal.write_payload(b"sample %d of %s" % (self.journal.position, self.directory.name.encode()))
            due = max(due + 1 / rate, loop.time() - 1)
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def uplink(self) -> None:
        """Sends, for ever. A lost connection is made anew, after a pause that grows and differs from agent to agent."""
        backoff = FIRST_BACKOFF
        while not self.stopped.is_set():
            known = self.acknowledged
            try:
                host, port = self.address
                # The time for the connection and its TLS handshake is limited by the system and by `connect`.
                async with connect(host, port, ssl=self.context, deframer=CHECKSUM, framer=CHECKSUM,
                                   max_frame_len=MAX_GREETING) as connection:  # fmt: skip
                    await self.talk(connection)
            except (OSError, EOFError, FlatStreamError, RefusedError) as error:
                log.info("%s: %s: %s", self.directory.name, type(error).__name__, error)
            if self.acknowledged > known:
                backoff = FIRST_BACKOFF
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff * random.uniform(0.5, 1)):
                    await self.stopped.wait()
            backoff = min(2 * backoff, LAST_BACKOFF)

    async def talk(self, connection: Connection) -> None:
        description = self.journal.description
        greeting = {"protocol": PROTOCOL, "journal": self.journal.id, "name": self.directory.name}
        await connection.writer.write_payload(bytes([GREETING]) + json.dumps(greeting).encode())
        described = b"" if description is None else description.to_bytes()
        await connection.writer.write_payload(bytes([DESCRIPTION]) + described)
        position = await self.answer(connection)
        thread = ThreadPoolExecutor(1)  # reading a journal that is followed waits
        loop = asyncio.get_running_loop()
        reader = await loop.run_in_executor(thread, self.open_reader, position)
        try:
            tasks = [
                asyncio.create_task(self.send(connection, reader, thread)),
                asyncio.create_task(self.commit(connection, reader)),
                asyncio.create_task(self.beat(connection)),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                reader.close()  # ends the read that waits
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            thread.shutdown(wait=False)

    def open_reader(self, position: int) -> JournalReader:
        if position > self.journal.position:
            # The collector would take what is measured from here on for what it has, and leave it out.
            log.error(
                "%s: the collector has frames up to %d of this journal, which ends at %d: it is an older copy of "
                "another one, and needs an identity of its own", self.directory.name, position, self.journal.position,
            )  # fmt: skip
            raise RefusedError("the collector has more of this journal than there is here")
        reader = JournalReader(self.directory, name=READER_NAME, start=position, follow=True)
        if reader.position > position:
            # The collector has lost what it had acknowledged: it gets what this journal still has of it.
            log.error(
                "%s: the collector goes on at frame %d, and had all below %d",
                self.directory.name, position, reader.position,
            )  # fmt: skip
            reader.close()
            (self.directory / "cursors" / f"{READER_NAME}.cursor").unlink()
            reader = JournalReader(self.directory, name=READER_NAME, start=position, follow=True)
        self.wanted = position
        return reader

    async def answer(self, connection: Connection) -> int:
        """The position in the collector's next message."""
        async with asyncio.timeout(IDLE_SECONDS):
            message = await connection.reader.read_message()
        if message is None:
            raise RefusedError("the collector has ended the connection")
        if message[0] != POSITION or len(message) != 9:
            raise RefusedError(f"the collector says: {bytes(message[1:]).decode(errors='replace')}")
        return int.from_bytes(message[1:], "little")

    async def send(self, connection: Connection, reader: JournalReader, thread: ThreadPoolExecutor) -> None:
        def read() -> tuple[FrameBatch | None, int]:
            batch = reader.read_batch(max_bytes=256 * 1024)
            self.journal.wait_durable(min(reader.position, self.journal.position))
            return batch, reader.position

        while not reader.closed:
            batch, end = await asyncio.get_running_loop().run_in_executor(thread, read)
            if batch is None:
                return
            first = end - len(batch)
            numbered = enumerate(batch, first)
            # What the collector has already, because the last commit was before that.
            await connection.writer.write_payloads(
                [b"F" + number.to_bytes(8, "little") + payload for number, payload in numbered if number >= self.wanted]
            )

    async def commit(self, connection: Connection, reader: JournalReader) -> None:
        while True:
            position = await self.answer(connection)
            self.acknowledged = max(self.acknowledged, position)
            with contextlib.suppress(ValueError):
                # The reader has not come so far: these frames were acknowledged on an earlier connection.
                await asyncio.to_thread(reader.commit, Cursor(reader.id, position))

    async def beat(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await connection.writer.write_payload(bytes([BEAT]))


async def run_agents(options: argparse.Namespace) -> None:
    context = None
    if options.ca:
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert:
            context.load_cert_chain(options.cert, options.key)
    host, _, port = options.connect.rpartition(":")
    options.directory.mkdir(parents=True, exist_ok=True)
    names = [f"agent-{number:03d}" for number in range(options.agents)]
    agents = [Agent(options.directory / name, (host, int(port)), context=context) for name in names]
    stopped = stop_event()
    uplinks = [asyncio.create_task(agent.uplink()) for agent in agents]
    measuring = [asyncio.create_task(agent.measure(options.rate, options.count)) for agent in agents]
    try:
        while not stopped.is_set():
            if options.count is not None and all(agent.acknowledged >= options.count for agent in agents):
                break
            for task in uplinks + measuring:
                if task.done():
                    task.result()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await stopped.wait()
    finally:
        for agent in agents:
            agent.stopped.set()
        for task in uplinks + measuring:
            task.cancel()
        await asyncio.wait(uplinks + measuring)
        for agent in agents:
            agent.journal.close()
    print(f"{sum(agent.acknowledged for agent in agents):,} samples acknowledged", flush=True)


# --- The programs ----------------------------------------------------------------------------------------------------


def stop_event() -> asyncio.Event:
    """Is set by SIGTERM and Ctrl-C."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def start(*arguments: str) -> subprocess.Popen[str]:
    """This program in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)


def start_collector(directory: Path, port: int = 0, *more: str) -> tuple[subprocess.Popen[str], int]:
    """A collector that accepts connections, and its port."""
    process = start("serve", str(directory), "--port", str(port), "-q", *more)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("listening on "):
        process.kill()
        raise RuntimeError(f"the collector does not start: {line!r}")
    return process, int(line.rpartition(":")[2])


def samples_in(directory: Path) -> list[int]:
    """The numbers of the samples in a journal, each of which must be what was measured under its number."""
    numbers = []
    with JournalReader(directory) as reader:
        for payload in reader:
            assert bytes(payload).startswith(b"sample %d of " % reader.number), bytes(payload)
            numbers.append(reader.number)
    return numbers


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def stored(directory: Path) -> int:
    """How many bytes a collector has stored."""
    return sum(path.stat().st_size for path in directory.glob("*/*.fs"))


def demo() -> None:
    """Ten agents and a collector, each of which is killed on the way."""
    agents, count = 10, 400
    with tempfile.TemporaryDirectory() as name:
        received, sent = Path(name) / "received", Path(name) / "sent"
        collector, port = start_collector(received)
        arguments = ["agent", str(sent), "--connect", f"127.0.0.1:{port}", "--agents", str(agents),
                     "--rate", "400", "--count", str(count), "-q"]  # fmt: skip
        agent = start(*arguments)
        try:
            wait_for(lambda: stored(received) > 20_000)
            collector.kill()
            collector.communicate()
            print("killed the collector")
            collector, _ = start_collector(received, port)
            wait_for(lambda: stored(received) > 60_000)
            agent.kill()
            agent.communicate()
            print("killed the agents")
            agent = start(*arguments)
            print(agent.communicate(timeout=120)[0].strip())
        finally:
            for process in (collector, agent):
                process.kill()
                process.communicate()
        journals = sorted(received.iterdir())
        assert len(journals) == agents
        assert all(samples_in(journal) == list(range(count)) for journal in journals)
        print(f"collected {agents} x {count} samples, each once, in order")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Collects what agents measure.")
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="store what agents send")
    server.add_argument("directory", type=Path)
    server.add_argument("--host", default="127.0.0.1")
    server.add_argument("--port", type=int, default=7411, help="0: one that is free")
    server.add_argument("--max-connections", type=int, default=500)
    server.add_argument("--max-journals", type=int, default=1000)
    server.add_argument("--max-bytes", type=int, help="for each agent; the oldest frames are removed beyond")
    server.add_argument("--client-ca", help="agents need a certificate of this authority")
    agent = commands.add_parser("agent", help="measure and send")
    agent.add_argument("directory", type=Path)
    agent.add_argument("--connect", default="127.0.0.1:7411", metavar="HOST:PORT")
    agent.add_argument("--agents", type=int, default=1, help="how many, in this process")
    agent.add_argument("--rate", type=float, default=10.0, help="samples a second, of each agent")
    agent.add_argument("--count", type=int, help="end when each has so many acknowledged")
    agent.add_argument("--ca", help="use TLS; the collector has a certificate of this authority")
    for command in (server, agent):
        command.add_argument("--cert")
        command.add_argument("--key")
        command.add_argument("-q", "--quiet", action="store_true")
    commands.add_parser("demo", help="show it in a few seconds")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments if arguments is not None else (sys.argv[1:] or ["demo"]))
    if options.command == "demo":
        demo()
        return
    logging.basicConfig(level=logging.WARNING if options.quiet else logging.INFO, stream=sys.stderr)
    asyncio.run(run_collector(options) if options.command == "serve" else run_agents(options))


if __name__ == "__main__":
    main()

"""examples/collector.py as it is deployed: killed on either side, over TLS, and with peers that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatstream import FrameSerializer, StreamReader
from flatstream.aio import connect
from flatstream.journal import JournalReader, JournalWriter
from support.async_streams import tls_contexts
from support.gated import wait_until
from support.logs import log_lines
from support.schemas import EXAMPLES, root_of

SECONDS = 90


def load() -> Any:
    spec = importlib.util.spec_from_file_location("collector_example", EXAMPLES / "collector.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # For dataclasses and pickles, as an import does.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


collector = load()


class Site:
    """A collector and processes of agents, each of which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.received = folder / "received"
        self.sent = folder / "sent"
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.port = 0
        self.more: list[str] = []

    def start_collector(self, *more: str) -> None:
        self.processes["collector"], self.port = collector.start_collector(self.received, self.port, *more)

    def start_agents(self, name: str, agents: int, count: int, *more: str) -> None:
        self.processes[name] = collector.start(
            "agent", str(self.sent / name), "--connect", f"127.0.0.1:{self.port}", "--agents", str(agents),
            "--rate", "300", "--count", str(count), "-q", *more,
        )  # fmt: skip

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.communicate()

    def wait_for_bytes(self, count: int) -> None:
        """Waits until the collector has stored so many bytes more."""
        before = collector.stored(self.received)
        wait_until(lambda: collector.stored(self.received) >= before + count or self.is_done())

    def is_done(self) -> bool:
        """Whether all agents have ended, because everything was acknowledged."""
        return all(one.poll() is not None for name, one in self.processes.items() if name != "collector")

    def finish(self, agents: int, count: int) -> None:
        """Waits for the agents, ends the collector, and looks at what it has."""
        for name in [name for name in self.processes if name != "collector"]:
            process = self.processes.pop(name)
            output = process.communicate(timeout=SECONDS)[0]
            assert process.returncode == 0, output
        process = self.processes.pop("collector")
        process.terminate()
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        sources = {}
        for folder in self.sent.glob("*/*"):
            with JournalReader(folder, name="collector") as reader:
                sources[reader.id] = folder.name
                # What was acknowledged is committed, but for the last moment.
                assert 0 < reader.position <= count
        mirrors = {mirror.name: mirror for mirror in self.received.iterdir()}
        assert len(mirrors) == agents
        assert mirrors.keys() == sources.keys()
        for identity, mirror in mirrors.items():
            with JournalReader(mirror) as reader:
                found = [bytes(payload) for payload in reader]
                assert reader.gaps == []
            assert found == [b"sample %d of %s" % (number, sources[identity].encode()) for number in range(count)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        for name in list(made.processes):
            made.kill(name)


def test_nothing_is_lost_or_doubled_when_either_side_is_killed(site: Site) -> None:
    site.start_collector()
    site.start_agents("one", 3, 250)
    site.start_agents("two", 2, 250)
    for victim in ("collector", "one"):
        site.wait_for_bytes(6000)
        site.kill(victim)
        if victim == "collector":
            site.start_collector()
        else:
            site.start_agents(victim, 3, 250)
    site.finish(5, 250)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_hundred_agents_and_the_collector_are_killed_in_any_order(site: Site, seed: int) -> None:
    dice = random.Random(seed)
    names = ["one", "two", "three", "four"]
    site.start_collector()
    for name in names:
        site.start_agents(name, 25, 600)
    for victim in dice.choices(["collector", *names], weights=[3, 1, 1, 1, 1], k=8):
        site.wait_for_bytes(dice.randrange(1, 200_000))
        site.kill(victim)
        if victim == "collector":
            site.start_collector()
        else:
            site.start_agents(victim, 25, 600)
    site.finish(100, 600)


def test_collector_that_has_lost_its_disk_gets_everything_again(site: Site) -> None:
    site.start_collector()
    site.start_agents("one", 2, 60)
    wait_until(site.is_done)
    site.kill("one")
    site.kill("collector")
    shutil.rmtree(site.received)
    site.start_collector()
    site.start_agents("one", 2, 120)
    site.finish(2, 120)


def test_tls_with_certificates_on_both_sides(site: Site, tmp_path: Path) -> None:
    tls_contexts(tmp_path)
    # A key and a certificate for "localhost", which is its own authority.
    file = str(tmp_path / "server.pem")
    site.start_collector("--cert", file, "--key", file, "--client-ca", file)
    tls = ["--connect", f"localhost:{site.port}", "--ca", file]
    site.start_agents("one", 2, 40, *tls, "--cert", file, "--key", file)
    # Without a certificate, or without TLS, nobody gets anything stored.
    site.start_agents("stranger", 1, 40, *tls)
    site.start_agents("plain", 1, 40)
    wait_until(lambda: site.processes["one"].poll() is not None)
    for name in ("stranger", "plain"):
        assert site.processes[name].poll() is None
        site.kill(name)
        shutil.rmtree(site.sent / name, ignore_errors=True)
    site.finish(2, 40)


# Peers that mean no good


ID = "0123456789abcdef" * 2


def greeting(**changes: Any) -> bytes:
    return b"H" + json.dumps({"protocol": 1, "journal": ID, "name": "x", **changes}).encode()


def frame(number: int, payload: bytes = b"abc") -> bytes:
    return b"F" + number.to_bytes(8, "little") + payload


@contextlib.asynccontextmanager
async def served(folder: Path, **options: Any) -> Any:
    """A collector in this process, and how to connect to it."""
    made = collector.Collector(folder, **options)
    syncing = asyncio.create_task(made.sync())
    server = await collector.serve(
        made.handle, "127.0.0.1", 0, deframer="crc32c", framer="crc32c", max_frame_len=collector.MAX_FRAME,
        allow_empty=False,
    )  # fmt: skip

    def open_connection() -> Any:
        return connect("127.0.0.1", server.port, deframer="crc32c", framer="crc32c")

    try:
        yield open_connection
    finally:
        await server.close(grace=0)
        syncing.cancel()
        await asyncio.wait({syncing})
        made.close()


def run(work: Any) -> None:
    async def limited() -> None:
        async with asyncio.timeout(SECONDS):
            await work

    asyncio.run(limited())


async def ended(connection: Any) -> list[bytes]:
    """What the collector says until it ends the connection."""
    found: list[bytes] = []
    with contextlib.suppress(OSError):
        async for message in connection.reader:
            found.append(bytes(message))
    return found


async def stores_for_others(open_connection: Any, folder: Path) -> None:
    """The collector goes on for agents that do nothing wrong."""
    other = "f" * 32
    async with open_connection() as connection:
        await connection.writer.write_payloads([greeting(journal=other), b"D", frame(0, b"well")])
        async for message in connection.reader:
            if int.from_bytes(message[1:], "little") == 1:
                break
    with JournalReader(folder / other) as reader:
        assert [bytes(payload) for payload in reader] == [b"well"]


def test_peers_that_do_not_speak_the_protocol_are_refused(tmp_path: Path) -> None:
    wrong = [
        [b"GET / HTTP/1.1", b"D"],
        [greeting(protocol=2), b"D"],
        [greeting(journal="../../etc"), b"D"],
        [greeting(journal="0" * 32), b"D"],
        [greeting(journal=5), b"D"],
        [b"H[1]", b"D"],
        [b"H" + b"[" * 4000, b"D"],
        [b"H" + b"x" * 5000, b"D"],
        [b"H\xff\xfe", b"D"],
        [greeting(), b"F"],
        [greeting(), b"Dno description"],
    ]

    async def work() -> None:
        async with served(tmp_path / "received") as open_connection:
            for messages in wrong:
                async with open_connection() as connection:
                    await connection.writer.write_payloads(messages)
                    (said,) = await ended(connection)
                    assert said[:1] == b"E", messages
            assert list((tmp_path / "received").iterdir()) == []
            await stores_for_others(open_connection, tmp_path / "received")

    run(work())


def test_wrong_messages_end_their_connection_and_store_nothing(tmp_path: Path) -> None:
    wrong = [
        b"X",
        b"F",
        frame(0, b""),
        frame(1 << 63),
        frame(0, b"x" * (2 << 20)),
    ]

    async def work() -> None:
        async with served(tmp_path / "received") as open_connection:
            for message in wrong:
                # The collector resets the connection, if it has not read all.
                with contextlib.suppress(ConnectionError):
                    async with open_connection() as connection:
                        await connection.writer.write_payloads([greeting(), b"D"])
                        with contextlib.suppress(ConnectionError):
                            await connection.writer.write_payload(message)
                        assert all(said == b"P" + bytes(8) for said in await ended(connection))
            await stores_for_others(open_connection, tmp_path / "received")

    run(work())
    with JournalReader(tmp_path / "received" / ID) as reader:
        assert list(reader) == []


def test_bytes_that_are_no_frames_and_halves_end_their_connection(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path / "received") as open_connection:
            async with open_connection() as probe:
                port = probe.get_extra_info("peername")[1]
            for data in (b"\x00" * 100, b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x05\x00"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(data)
                writer.write_eof()
                answer = await reader.read()
                assert all(bytes(payload[:1]) == b"E" for payload in StreamReader(answer, "crc32c"))
                writer.close()
            await stores_for_others(open_connection, tmp_path / "received")

    run(work())


def test_journals_and_gaps_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MAX_GAPS", 5)

    async def work() -> None:
        async with served(tmp_path / "received", max_journals=2) as open_connection:
            async with open_connection() as connection:
                await connection.writer.write_payloads([greeting(), b"D", *(frame(2 * n) for n in range(1, 100))])
                await ended(connection)
            await stores_for_others(open_connection, tmp_path / "received")
            async with open_connection() as connection:
                await connection.writer.write_payloads([greeting(journal="e" * 32), b"D"])
                (said,) = await ended(connection)
                assert b"there are 2 journals, as many as allowed" in said

    run(work())
    with JournalReader(tmp_path / "received" / ID) as reader:
        assert [reader.number for _ in reader] == [2, 4, 6, 8, 10]
    assert len(list((tmp_path / "received").iterdir())) == 2


def test_second_connection_of_an_agent_takes_the_place_of_the_first(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path / "received") as open_connection:
            # The collector resets it, which closing it would raise.
            lost = await open_connection()
            await lost.writer.write_payloads([greeting(), b"D", frame(0)])
            async for message in lost.reader:
                if message[1]:
                    break
            async with open_connection() as connection:
                await connection.writer.write_payloads([greeting(), b"D"])
                # It says what it has, and what comes twice is stored once.
                message = await connection.reader.read_message()
                assert bytes(message) == b"P" + (1).to_bytes(8, "little")
                await ended(lost)
                lost.abort()
                await connection.writer.write_payloads([frame(0), frame(1), b"B"])
                async for message in connection.reader:
                    if message[1] == 2:
                        break

    run(work())
    with JournalReader(tmp_path / "received" / ID) as reader:
        assert [bytes(payload) for payload in reader] == [b"abc", b"abc"]


def test_gap_of_an_agent_is_a_gap_at_the_collector(site: Site) -> None:
    folder = site.sent / "one" / "agent-000"
    folder.parent.mkdir(parents=True)
    with JournalWriter(folder) as journal:
        for number in range(30):
            journal.write_payload(b"sample %d of agent-000" % number)
            if number % 10 == 9:
                journal.rotate()
    (folder / f"{10:020d}.fs").unlink()
    site.start_collector()
    site.start_agents("one", 1, 30)
    wait_until(site.is_done)
    (mirror,) = site.received.iterdir()
    assert collector.samples_in(mirror) == [*range(10), *range(20, 30)]


def test_connection_that_waits_for_the_disk_ends_when_its_agent_comes_with_another_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: Any) -> None:
        await asyncio.get_running_loop().create_future()

    handle = collector.Collector.handle
    handled: list[str] = []

    async def note(self: Any, connection: Any) -> None:
        try:
            await handle(self, connection)
        finally:
            handled.append(connection.peer)

    monkeypatch.setattr(collector, "MAX_UNSYNCED", 1000)
    monkeypatch.setattr(collector.Collector, "sync", never)
    monkeypatch.setattr(collector.Collector, "handle", note)
    table = root_of("table Sample { number: long; } root_type Sample;")
    description = FrameSerializer("xxhash64", describe=table).description
    assert description is not None

    async def work() -> None:
        received = tmp_path / "received"
        async with served(received, sync_interval=0.001) as open_connection, open_connection() as waiting:
            await waiting.writer.write_payloads([greeting(), b"D", *(frame(n, b"x" * 200) for n in range(10))])
            assert await waiting.reader.read_message() is not None
            async with open_connection() as other:
                await other.writer.write_payloads([greeting(), b"D" + description.to_bytes()])
                assert await other.reader.read_message() is not None
                while not handled:
                    await asyncio.sleep(0.001)
                waiting.abort()

    run(work())


def test_agent_refuses_a_collector_that_has_more_than_its_journal(tmp_path: Path) -> None:
    async def work() -> None:
        agent = collector.Agent(tmp_path / "copy", ("127.0.0.1", 1))
        try:
            agent.journal.write_payload(b"sample 0 of copy")
            agent.journal.sync()
            agent.open_reader(1).close()
            with log_lines("collector") as lines, pytest.raises(collector.RefusedError, match="more of this journal"):
                agent.open_reader(2)
            assert ["has frames up to 2 of this journal, which ends at 1" in line for line in lines] == [True]
        finally:
            agent.journal.close()

    run(work())

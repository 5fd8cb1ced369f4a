"""The forwarder, the receiver and the broker are killed, in processes of their own: each frame arrives once."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flatstream.journal import JournalReader, JournalWriter, RotationPolicy
from support.nats_journals import SUBJECT, broker, numbers_in, payload_of, start_program, until
from support.nats_server import NatsServer, needs_server, run, running_server

pytestmark = needs_server

VICTIMS = ("forwarder", "receiver", "broker")
FRAMES = 400


class Course:
    """A journal that is written, and the three programs by which it reaches its mirror."""

    def __init__(self, server: NatsServer, folder: Path) -> None:
        self.server = server
        self.source = folder / "source"
        self.mirrors = folder / "mirrors"
        self.programs: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        if name == "broker":
            self.server.start()
        elif name == "forwarder":
            self.programs[name] = start_program("forward", str(self.source), SUBJECT, "--server", self.server.url)
        else:
            self.programs[name] = start_program(
                "receive", SUBJECT, str(self.mirrors), "--server", self.server.url, "--ack-wait", "1"
            )

    def kill(self, name: str) -> None:
        if name == "broker":
            self.server.kill()
            return
        self.programs[name].kill()
        self.programs[name].communicate()

    def bytes_received(self) -> int:
        return sum(path.stat().st_size for path in self.mirrors.glob("*/*.fs"))


@contextmanager
def begun(tmp_path: Path) -> Iterator[Course]:
    with running_server(tmp_path / "nats") as server:
        course = Course(server, tmp_path)
        try:
            yield course
        finally:
            for program in course.programs.values():
                program.kill()
                program.communicate()


def kill_again_and_again(tmp_path: Path, seed: int, victims: list[str]) -> None:
    dice = random.Random(seed)

    async def work() -> None:
        with (
            JournalWriter(tmp_path / "source", rotate=RotationPolicy(max_frames=300)) as journal,
            begun(tmp_path) as course,
        ):
            async with broker(course.server):
                course.start("forwarder")
                course.start("receiver")
                # The last frames come when all run again.
                for victim in [*victims, None]:
                    numbers = range(journal.position, journal.position + FRAMES)
                    # Killed somewhere on the way: when so many bytes more have arrived.
                    wanted = course.bytes_received() + dice.randrange(1, 20 * FRAMES)
                    pause = dice.choice([1, 7, 50])
                    for number in numbers:
                        journal.write_payload(payload_of(number))
                        if number % pause == 0:
                            journal.flush()
                            await asyncio.sleep(0)
                    journal.flush()
                    await until(lambda wanted=wanted: course.bytes_received() >= wanted)
                    if victim is not None:
                        course.kill(victim)
                        course.start(victim)
                mirror = course.mirrors / journal.id

                def has_all() -> bool:
                    with JournalReader(mirror) as reader:
                        for _ in reader.batches():
                            pass
                        return reader.position == journal.position

                await until(has_all)
                assert numbers_in(mirror) == list(range(journal.position))
                # Both end when they are told to, with everything in order.
                for name in ("forwarder", "receiver"):
                    program = course.programs.pop(name)
                    program.terminate()
                    output = (await asyncio.to_thread(program.communicate))[0].decode()
                    assert program.returncode == 0, output
                with JournalReader(course.source, name="nats") as reader:
                    assert reader.position == journal.position

    run(work)


def test_each_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 0, ["forwarder", "receiver", "broker"])


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_all_that_are_killed_in_any_order_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    kill_again_and_again(tmp_path, seed, random.Random(seed).choices(VICTIMS, k=8))

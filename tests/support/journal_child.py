"""The program that writes a journal and is killed, and the server that starts it again and again.

The server imports everything once and forks for each program, because the start of an interpreter takes longer than
what most of the programs do. It is a process of its own, so that a process of tests, which may have threads, need not
fork.

A program tells what its writer promised on a socket, one line of JSON at a time. It uses send(), which no test makes
fail: write() would be one of the calls under test.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import random
import resource
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flatstream import FlatStreamError
from flatstream.journal import JournalWriter, RetentionPolicy, RotationPolicy, SyncPolicy
from support.compressed import wait_until_compressed
from support.journal_frames import payload_of

# A program that is forgotten ends after so many seconds.
LONGEST = 300

# A kind of failure that leaves the journal as it was.
EXPECTED = (OSError, FlatStreamError)


@dataclass(frozen=True)
class Plan:
    """What a program does.

    Attributes
    ----------
    directory : str
        The folder of the journal.
    seed, run : int
        What its frames follow from (`support.journal_frames`).
    does : str
        The name of one of PROGRAMS.
    sync
        None, "never", "each", a number of frames (int) or of seconds (float).
    rotate, retain : dict
        The arguments of the policies. Empty: no rotation, no retention.
    options : dict
        Further arguments of JournalWriter.
    script : tuple
        The calls of the program "script".
    gate : str
        Where it waits for a byte: "begin", "opened" (when the journal is open), or nowhere.
    file_size_limit : int or None
        RLIMIT_FSIZE.
    clock_steps : tuple of float
        By how many seconds the clock jumps, one after another, every 20 calls of time.time.
    """

    directory: str
    seed: int
    run: int
    does: str = "random"
    checksum: str = "xxhash64"
    sync: Any = None
    rotate: dict[str, Any] = field(default_factory=dict)
    retain: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    script: tuple[Any, ...] = ()
    gate: str = ""
    file_size_limit: int | None = None
    clock_steps: tuple[float, ...] = ()

    def open(self) -> JournalWriter:
        """The writer."""
        sync = self.sync
        if isinstance(sync, float):
            sync = SyncPolicy(seconds=sync)
        elif isinstance(sync, int):
            sync = SyncPolicy(frames=sync)
        return JournalWriter(
            self.directory,
            self.checksum,
            sync="never" if sync is None else sync,
            rotate=RotationPolicy(**self.rotate) if self.rotate else None,
            retain=RetentionPolicy(**self.retain) if self.retain else None,
            **self.options,
        )


class Program:
    """A run of a program: its plan, and the socket on which it tells what was promised."""

    def __init__(self, plan: Plan, channel: socket.socket) -> None:
        self.plan = plan
        self.channel = channel
        self.told = threading.Lock()
        self.random = random.Random(plan.seed * 1_000_003 + plan.run)
        self.is_poisoned = False

    def tell(self, *record: Any) -> None:
        data = json.dumps(record).encode() + b"\n"
        with self.told:
            self.channel.sendall(data)

    def wait(self) -> None:
        """Waits for `support.journal_faults.Running.release`."""
        self.tell("waiting")
        self.channel.recv(1)

    def payload(self, place: int, stream: int = 0, length: int | None = None) -> bytes:
        return payload_of(self.plan.seed, self.plan.run, stream, place, length)

    @contextlib.contextmanager
    def failing(self, call: str) -> Iterator[list[BaseException]]:
        """Lets a call fail as the system makes it, and tells how. An error of another kind ends the program."""
        caught: list[BaseException] = []
        try:
            yield caught
        except EXPECTED as error:
            caught.append(error)
            self.tell("error", call, getattr(error, "errno", None) or type(error).__name__, str(error)[:200])

    # Calls

    def call(self, writer: JournalWriter, name: str, size: int | None = None) -> bool:
        """Makes one call of the writer, tells what it promised, and looks at what must hold. False: it failed."""
        position = writer.position
        durable = writer.durable_position
        with self.failing(name) as caught:
            if name == "write":
                writer.write_payload(self.payload(position, length=size))
            elif name == "batch":
                count = self.random.randrange(1, 20) if size is None else size
                writer.write_payloads([self.payload(position + index) for index in range(count)])
            elif name == "flush":
                writer.flush()
                self.tell("handed over", position)
            elif name == "sync":
                writer.sync()
                self.tell("durable", position)
                if writer.durable_position < position:
                    self.tell("violation", f"durable_position {writer.durable_position} after sync() at {position}")
            elif name == "wait":
                writer.wait_durable(position)
                self.tell("durable", position)
                # If any of them was dropped, it fails.
                self.tell("kept", durable, position)
            elif name == "rotate":
                writer.rotate()
            elif name == "compress":
                wait_until_compressed(writer)
            elif name == "look":
                writer.metrics()
                writer.health()
                self.tell("durable", writer.durable_position)
            elif name == "close":
                writer.close()
                self.tell("handed over", position)
            else:
                raise AssertionError(name)
        is_known_durable = name == "wait" and position <= durable
        if self.is_poisoned and not caught and name not in ("look", "rotate", "compress") and not is_known_durable:
            self.tell("violation", f"{name} succeeded after a failed sync")
        if self.is_poisoned and writer.durable_position != durable:
            self.tell(
                "violation", f"durable_position moved from {durable} to {writer.durable_position} after a failed sync"
            )
        if caught and not self.is_poisoned and writer.metrics().poisoned:
            self.is_poisoned = True
            self.tell("poisoned")
        if caught and name == "write" and writer.position != position:
            self.tell("violation", f"write_payload failed at {position} and moved the position to {writer.position}")
        if writer.durable_position < durable:
            self.tell("violation", f"durable_position went back from {durable} to {writer.durable_position}")
        if writer.durable_position > writer.position:
            self.tell("violation", f"durable_position {writer.durable_position} is above {writer.position}")
        return not caught

    def opened(self) -> JournalWriter:
        writer = self.plan.open()
        self.tell("opened", writer.position)
        if self.plan.gate == "opened":
            self.wait()
        return writer

    # Programs

    def write_at_random(self) -> None:
        """Writes until it is killed, in all ways that a writer has."""
        names = ["write"] * 60 + ["batch"] * 12 + ["flush"] * 8 + ["sync"] * 4 + ["wait"] * 2 + ["rotate"] * 2
        names += ["look"] * 2
        writer = self.opened()
        while True:
            for _ in range(200):
                self.call(writer, self.random.choice(names))
            self.call(writer, "close")
            writer = self.plan.open()

    def write_script(self) -> None:
        """Makes the calls of the script, whatever fails, and closes."""
        writer = None
        for _ in range(3):
            with self.failing("open"):
                writer = self.opened()
                break
        if writer is None:
            self.tell("finished")
            return
        for step in self.plan.script:
            name, times, size = step if isinstance(step, tuple) else (step, 1, None)
            for _ in range(times):
                self.call(writer, name, size)
        # What can be tried again leaves it open.
        for _ in range(3):
            if self.call(writer, "close") or writer.closed:
                break
        self.tell("finished")

    def write_until_full(self) -> None:
        """Writes until the disk is full and 200 frames more, and again 200 when there is room."""
        writer = self.opened()
        full_since = None
        count = 0
        while full_since is None or count < full_since + 200:
            self.call(writer, self.random.choice(["write"] * 40 + ["batch"] * 5 + ["flush"] * 5 + ["wait"]))
            metrics = writer.metrics()
            count += 1
            if full_since is None and (metrics.errors or metrics.dropped_frames or metrics.removed_segments):
                full_since = count
            if count > 20_000:
                self.tell("violation", "the disk does not become full")
                break
        self.call(writer, "flush")
        self.wait()
        self.call(writer, "flush")
        for index in range(200):
            self.call(writer, "write", 40)
            if index % 50 == 49:
                dropped = writer.metrics().dropped_frames
                if not self.call(writer, "sync") and writer.metrics().dropped_frames == dropped:
                    self.tell("violation", "sync failed though there is room")
        self.call(writer, "close")
        self.tell("dropped", writer.metrics().dropped_frames)
        self.tell("finished")

    def write_steadily(self) -> None:
        """Writes 20 frames and flushes, over and over, and waits for the disk from time to time."""
        writer = self.opened()
        while True:
            for _ in range(20):
                writer.write_payload(self.payload(writer.position, length=40))
            self.call(writer, "flush")
            if self.random.random() < 0.05:
                self.call(writer, "wait")

    def write_durably(self) -> None:
        """Writes and waits for the disk after each few frames."""
        writer = self.opened()
        while True:
            self.call(writer, "batch", self.random.randrange(1, 6))
            self.call(writer, self.random.choice(["wait", "sync"]))

    def write_with_producers(self) -> None:
        """Four threads write a frame each and wait for the disk."""
        writer = self.opened()

        def produce(stream: int) -> None:
            place = 0
            while True:
                writer.write_payload(self.payload(place, stream))
                writer.wait_durable(writer.position)
                self.tell("promised", self.plan.run, stream, place)
                place += 1

        threads = [threading.Thread(target=produce, args=(stream,), daemon=True) for stream in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.tell("violation", "the producers ended")

    def fork_and_write(self) -> None:
        """Forks while frames are in the buffer. The child tries to write them too, and ends as programs do."""
        writer = self.opened()
        for _ in range(40):
            self.call(writer, "write")
        child = os.fork()
        if not child:
            # Told by the exit status, because the parent tells its own promises on the same socket.
            try:
                status = 0
                for call in (lambda: writer.write_payload(b"of the child"), writer.flush, writer.sync, writer.rotate):
                    try:
                        call()
                        status = 3
                    except (FlatStreamError, ValueError, OSError, RuntimeError):
                        pass
                writer.close()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            self.tell("violation", f"the forked child's writer did something: exit status {status}")
        for _ in range(40):
            self.call(writer, "write")
        self.call(writer, "close")
        self.tell("finished")

    def open_twice(self) -> None:
        """Opens the journal although another process has it open."""
        try:
            self.plan.open().close()
            self.tell("violation", "a second writer was let in")
        except OSError as error:
            if error.errno != errno.EBUSY:
                self.tell("violation", f"a second writer was refused with {error!r}")
        self.tell("finished")

    def recover(self) -> None:
        """Opens the journal, which recovers it, and closes it."""
        self.opened().close()
        self.tell("finished")


PROGRAMS: dict[str, Callable[[Program], None]] = {
    "random": Program.write_at_random,
    "script": Program.write_script,
    "until full": Program.write_until_full,
    "steadily": Program.write_steadily,
    "durably": Program.write_durably,
    "producers": Program.write_with_producers,
    "fork": Program.fork_and_write,
    "second": Program.open_twice,
    "recover": Program.recover,
}


def _step_the_clock(steps: tuple[float, ...]) -> None:
    """Makes time.time jump, forwards and backwards."""
    true_time = time.time
    calls = 0

    def stepping() -> float:
        nonlocal calls
        calls += 1
        return true_time() + sum(steps[: calls // 20])

    time.time = stepping


def _run(plan: Plan, channel: socket.socket) -> None:
    signal.alarm(LONGEST)
    if plan.file_size_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.file_size_limit, resource.RLIM_INFINITY))
    if plan.clock_steps:
        _step_the_clock(plan.clock_steps)
    program = Program(plan, channel)
    if plan.gate == "begin":
        program.wait()
    try:
        PROGRAMS[plan.does](program)
    except BaseException:
        with contextlib.suppress(OSError):
            program.tell("violation", traceback.format_exc()[-1500:])


# The server: for each request a header of 4 bytes, its length, and a pickled tuple

LENGTH = struct.Struct("<I")


def send_request(server: socket.socket, request: tuple[Any, ...], *descriptors: int) -> None:
    data = pickle.dumps(request)
    socket.send_fds(server, [LENGTH.pack(len(data))], list(descriptors))
    server.sendall(data)


def serve(server: socket.socket) -> None:
    """Forks a program for each request ("start", plan), and answers with its process number; ("wait", number) answers
    with its exit status, as `os.waitstatus_to_exitcode` gives it.
    """
    while True:
        header, descriptors, _, _ = socket.recv_fds(server, LENGTH.size, 1)
        if not header:
            return
        (size,) = LENGTH.unpack(header)
        data = b""
        while len(data) < size:
            data += server.recv(size - len(data))
        kind, value = pickle.loads(data)
        if kind == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(value, 0)[1])
        else:
            answer = os.fork()
            if not answer:
                server.close()
                with socket.socket(fileno=descriptors[0]) as channel:
                    _run(value, channel)
                sys.stdout.flush()
                # No handlers at exit: those of the server are not the program's. What a writer owes then is tested
                # in tests/journal.
                os._exit(0)
            os.close(descriptors[0])
        server.sendall(struct.pack("<i", answer))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as of_parent:
        serve(of_parent)

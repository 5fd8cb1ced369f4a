"""Programs that write journals, started, killed and judged by the tests.

`Programs` starts them (`support.journal_child`) and kills them; what they told is in a `Ledger`. `judge` compares it
with what a reader finds (`support.journal_frames`).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from flatstream.journal import JournalReader
from support.journal_child import Plan, send_request
from support.journal_frames import Found, Ledger, claim_of, judge, read_journal

# How much a program can tell before anybody listens, in bytes.
CHANNEL = 4 << 20

# A program that neither ends nor tells anything for so many seconds hangs.
PATIENCE = 60

# How many cases a suite runs, as a share of the usual number (make test-faults SHARE=0.1).
SHARE = float(os.environ.get("FLATSTREAM_FAULT_SHARE", "1"))


def share_of(cases: int) -> int:
    """How many of the usual cases to run."""
    return max(1, round(cases * SHARE))


class Running:
    """A program that was started.

    Attributes
    ----------
    pid : int
    ledger : Ledger
        What it has told so far.
    """

    def __init__(self, programs: Programs, plan: Plan, pid: int, channel: socket.socket) -> None:
        self.programs = programs
        self.plan = plan
        self.pid = pid
        self.channel = channel
        self.ledger = Ledger(plan.run)
        self._rest = b""
        self._is_ended = False
        self._is_waited_for = False
        channel.setblocking(False)

    def fileno(self) -> int:
        return self.channel.fileno()

    def await_gate(self) -> None:
        """Returns when the program waits to be released (`Plan.gate`)."""
        deadline = time.monotonic() + PATIENCE
        while not self.ledger.is_waiting:
            assert self.listen(1), f"the program has ended: {self.ledger}"
            assert time.monotonic() < deadline, f"the program does not wait: {self.ledger}"

    def release(self) -> None:
        """Lets it go on."""
        self.await_gate()
        self.ledger.is_waiting = False
        self.channel.send(b"!")

    def listen(self, seconds: float = 0.0) -> bool:
        """Takes in what the program told. Waits at most `seconds` for something. False: it has ended."""
        if self._is_ended:
            return False
        if seconds > 0:
            select.select([self.channel], [], [], seconds)
        while True:
            try:
                data = self.channel.recv(1 << 16)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                data = b""
            if not data:
                self._is_ended = True
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self.ledger.note(json.loads(line))

    def kill(self) -> Ledger:
        """Kills the program with SIGKILL, and returns what it had told."""
        # The server has not waited for it, so the number is still that of this program.
        os.kill(self.pid, signal.SIGKILL)
        self.end()
        return self.ledger

    def end(self, seconds: float = PATIENCE) -> int:
        """Waits for the program to end. Returns its exit status; minus the signal that killed it."""
        deadline = time.monotonic() + seconds
        while self.listen(0.5):
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                self.ledger.violations.append(f"it did not end within {seconds} seconds")
                break
        if self._is_waited_for:
            return 0
        self._is_waited_for = True
        status = self.programs.wait(self.pid)
        self.listen()
        self.channel.close()
        return status


class Programs:
    """A server that starts programs."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        tests = str(Path(__file__).parent.parent)
        path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH", "")]))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "support.journal_child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )
        self._server = ours
        self._running: list[Running] = []

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._running:
            if not one._is_waited_for:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
                one.channel.close()
        self._server.close()
        self._process.wait(PATIENCE)

    def _answer(self) -> int:
        data = b""
        while len(data) < 4:
            piece = self._server.recv(4 - len(data))
            if not piece:
                raise AssertionError(f"the server of programs has ended: {self._process.wait()}")
            data += piece
        return int(struct.unpack("<i", data)[0])

    def start(self, plan: Plan) -> Running:
        ours, theirs = socket.socketpair()
        with theirs:
            for side in (ours, theirs):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL)
            send_request(self._server, ("start", plan), theirs.fileno())
            running = Running(self, plan, self._answer(), ours)
        self._running = [one for one in self._running if not one._is_waited_for] + [running]
        return running

    def run(self, plan: Plan) -> Ledger:
        """Runs a program to its end."""
        running = self.start(plan)
        status = running.end()
        if status:
            running.ledger.violations.append(f"exit status {status}")
        return running.ledger

    def wait(self, pid: int) -> int:
        send_request(self._server, ("wait", pid))
        return self._answer()


# Killing at random moments

CHECKSUMS = ("xxhash64", "xxhash64", "crc32", "crc16", "crc32c", "none")
SYNCS = (None, "each", 7, 0.002, None)
ROTATIONS: tuple[dict[str, Any], ...] = (
    {"max_frames": 7},
    {"max_frames": 100},
    {"max_bytes": 4096},
    {"max_bytes": 1 << 20},
    {"max_seconds": 0.01},
    {},
)
BUFFERS = (0, 64, 4096, 65536)


def random_plan(random_: random.Random, directory: Path, seed: int, **fixed: Any) -> Plan:
    """A plan with settings drawn at random."""
    settings: dict[str, Any] = {
        "checksum": random_.choice(CHECKSUMS),
        "sync": random_.choice(SYNCS),
        "rotate": random_.choice(ROTATIONS),
        "options": {"buffer_size": random_.choice(BUFFERS)},
        "does": random_.choice(["random"] * 6 + ["durably", "producers"]),
    }
    return Plan(str(directory), seed, 0, **{**settings, **fixed})


def kill_at_random(programs: Programs, folder: Path, seed: int, kills: int) -> list[str]:
    """Kills programs that write to one journal, one after another, and judges what is there after each.

    Returns what is wrong, in words.
    """
    random_ = random.Random(seed)
    directory = folder / f"journal-{seed}"
    plan = random_plan(random_, directory, seed)
    ledgers: list[Ledger] = []
    problems: list[str] = []
    for run in range(kills):
        running = programs.start(_with(plan, run=run, sync=random_.choice(SYNCS), rotate=random_.choice(ROTATIONS)))
        # Half of the moments are within the first milliseconds: while the journal is opened and recovered.
        delay = random_.uniform(0, 0.006 if random_.random() < 0.5 else 0.04)
        if plan.sync == "each" or plan.does == "durably":
            delay *= 2
        deadline = time.monotonic() + delay
        while (left := deadline - time.monotonic()) > 0:
            if not running.listen(left):
                break
        ledgers.append(running.kill())
        if not directory.exists():
            continue
        problems += [f"{plan}, run {run}: {text}" for text in _judged_before_recovery(directory, plan, ledgers)]
        if problems:
            return problems
    ledger = programs.run(_with(plan, run=kills, does="recover"))
    ledgers.append(ledger)
    reading = read_journal(directory, seed)
    return [f"{plan}: {text}" for text in judge(reading, ledgers, numbered=plan.does != "producers")]


def _judged_before_recovery(directory: Path, plan: Plan, ledgers: list[Ledger]) -> list[str]:
    """What is wrong with a journal whose writer was killed, as a reader sees it that comes before the next writer.

    The torn frame at its end is a gap.
    """
    reading = read_journal(directory, plan.seed)
    if not reading.frames and not any(ledger.handed_over or ledger.durable for ledger in ledgers):
        # Killed before journal.json was there, or with nothing but a torn frame.
        return []
    if reading.gaps and reading.gaps[-1].first >= (reading.frames[-1].number if reading.frames else 0):
        reading.gaps.pop()
    return judge(reading, ledgers, numbered=plan.does != "producers")


# Following


def follow(
    programs: Programs, plan: Plan, until: int, random_: random.Random, **options: Any
) -> tuple[list[Found], list[Ledger], list[str]]:
    """Follows a journal whose writer is killed and started again, until `until` frames are there, and then to its end.

    Returns the frames, the runs, and what is wrong.
    """
    ledgers: list[Ledger] = []
    frames: list[Found] = []
    problems: list[str] = []
    running = programs.start(plan)
    while running.ledger.first is None:
        assert running.listen(1), running.ledger
    with JournalReader(plan.directory, follow=True, **options) as reader:
        next_kill = time.monotonic() + random_.uniform(0, 0.1)
        quiet_since = None
        while True:
            try:
                view = reader.read_message(timeout=0.002 if quiet_since is None else 0.05)
                assert view is not None
                payload = bytes(view)
                claim = claim_of(payload, plan.seed)
                if claim is None:
                    problems.append(f"frame {reader.number} was written by nobody: {payload[:40]!r}")
                else:
                    frames.append(Found(reader.number, claim))
                if quiet_since is not None:
                    quiet_since = time.monotonic()
            except TimeoutError:
                if quiet_since is not None and time.monotonic() > quiet_since + 1:
                    break
            if quiet_since is not None or time.monotonic() < next_kill:
                continue
            ledgers.append(running.kill())
            if ledgers[-1].handed_over >= until:
                ledgers.append(programs.run(Plan(**{**vars(plan), "run": len(ledgers), "does": "recover"})))
                quiet_since = time.monotonic()
            else:
                running = programs.start(Plan(**{**vars(plan), "run": len(ledgers)}))
                next_kill = time.monotonic() + random_.uniform(0, 0.2)
        problems += [f"the reader saw a gap: {gap}" for gap in reader.gaps if gap.next > gap.first]
    return frames, ledgers, problems


def _with(plan: Plan, **changes: Any) -> Plan:
    return Plan(**{**vars(plan), **changes})

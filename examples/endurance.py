"""A journal that is written at 10,000 frames a second, and whose writer is killed and started again at random.

At the end every frame that the writer acknowledged is found, once and in order:

    python examples/endurance.py --seconds 60

The writer is a process of its own (``--writer``). It writes frames with their numbers, in bursts; a thread of the
journal syncs them together (group commit), and the writer prints up to which number the disk has them. The parent
process kills it with SIGKILL in the middle of whatever it does, and starts the next one, which recovers the journal and
goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from flatstream.journal import JournalReader, JournalWriter, RotationPolicy, SyncPolicy

# How often a second frames are written and the disk is asked for.
BURSTS = 100

# How often the disk is synced, in seconds.
GROUP_COMMIT = 0.005


def payload_of(run: int, number: int) -> bytes:
    """A payload that says in which run it was written, and under which number."""
    return b"run %d frame %d %s" % (run, number, b"." * (number % 100))


def write(directory: str, rate: int, run: int) -> None:
    """Writes frames until it is killed. Prints a line for what is acknowledged: below which number, from which on."""
    rotate = RotationPolicy(max_bytes=1 << 20)
    with JournalWriter(directory, sync=SyncPolicy(seconds=GROUP_COMMIT), rotate=rotate) as writer:
        first = writer.position
        print(first, first, flush=True)
        began = time.monotonic()
        told = first
        for burst in range(1, 1 << 62):
            due = first + rate * burst // BURSTS
            for number in range(writer.position, due):
                writer.write_payload(payload_of(run, number))
            # To the system, so that the next sync has it; no need to wait for the disk here.
            writer.flush()
            if (durable := writer.durable_position) > told:
                print(first, durable, flush=True)
                told = durable
            time.sleep(max(0.0, began + burst / BURSTS - time.monotonic()))


@dataclass
class Runs:
    """What all writers acknowledged.

    Attributes
    ----------
    acknowledged : dict
        For each run, the number of its first frame and the one behind its last frame that was acknowledged.
    kills : int
        How many were killed.
    """

    acknowledged: dict[int, tuple[int, int]] = field(default_factory=dict)
    kills: int = 0


def kill_again_and_again(directory: str, rate: int, seconds: float, seed: int) -> Runs:
    """Starts writers and kills each at a random moment, for so many seconds."""
    random_ = random.Random(seed)
    runs = Runs()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run = len(runs.acknowledged)
        command = [sys.executable, __file__, "--writer", directory, "--rate", str(rate), "--run", str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            # The first line says that the journal is open. One in five is killed before.
            lifetime = random_.uniform(0.0, 0.3) if run % 5 == 4 else random_.uniform(0.3, 2.0)
            timer = threading.Timer(min(lifetime, max(0.0, end - time.monotonic())), process.kill)
            timer.start()
            runs.acknowledged[run] = (0, 0)
            for line in process.stdout:
                # A line that the end of the process cut off has no end.
                if line.endswith("\n"):
                    first, durable = map(int, line.split())
                    runs.acknowledged[run] = (first, durable)
            timer.join()
        if process.returncode >= 0:
            raise SystemExit(f"the writer of run {run} ended by itself, with exit status {process.returncode}")
        runs.kills += 1
    return runs


def verify(directory: str, runs: Runs) -> tuple[int, int]:
    """Reads the journal. Returns how many frames it has, and how many of them were acknowledged.

    Raises AssertionError if a frame that was acknowledged is missing, or one came twice, in another place or changed.
    """
    frames = acknowledged = 0
    last_run = 0
    with JournalReader(directory) as reader:
        for payload in reader:
            words = bytes(payload).split()
            run, number = int(words[1]), int(words[3])
            assert bytes(payload) == payload_of(run, number), f"frame {reader.number} is {bytes(payload)!r}"
            assert number == reader.number == frames, f"{number} is number {reader.number}, expected {frames}"
            assert run >= last_run, f"frame {number} of run {run} came behind run {last_run}"
            last_run = run
            first, durable = runs.acknowledged[run]
            acknowledged += first <= number < durable
            frames += 1
        assert not reader.gaps, reader.gaps
    expected = sum(durable - first for first, durable in runs.acknowledged.values())
    assert acknowledged == expected, f"{expected} frames were acknowledged, {acknowledged} of them are there"
    return frames, acknowledged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--rate", type=int, default=10_000, help="frames a second (10000)")
    parser.add_argument("--seed", type=int, default=1, help="for the moments of the kills (1)")
    parser.add_argument("--directory", help="the folder of the journal; by default one that is removed at the end")
    parser.add_argument("--writer", metavar="DIRECTORY", help=argparse.SUPPRESS)
    parser.add_argument("--run", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writer is not None:
        write(arguments.writer, arguments.rate, arguments.run)
        return
    with contextlib.ExitStack() as stack:
        directory = arguments.directory
        if directory is None:
            directory = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "journal")
        began = time.monotonic()
        runs = kill_again_and_again(directory, arguments.rate, arguments.seconds, arguments.seed)
        seconds = time.monotonic() - began
        segments = len(list(Path(directory).glob("*.fs")))
        frames, acknowledged = verify(directory, runs)
        print(f"{runs.kills} writers killed in {seconds:.1f} s, {segments} segments")
        print(f"{frames} frames found, {frames / seconds:.0f} a second")
        print(f"{acknowledged} frames acknowledged, all found, once, in order")


if __name__ == "__main__":
    main()

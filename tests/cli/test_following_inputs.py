"""flatstream follow: messages as they are written."""

from __future__ import annotations

import gzip
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import flatstream
from flatstream.journal import JournalWriter, RotationPolicy
from support.cli import call_flatstream, environment, script
from support.events import SCHEMA_FILE, event_stream, write_events

SCHEMA = ("--schema", SCHEMA_FILE)

# In seconds; longer than any test waits for what must come.
PATIENCE = 60


class Follower:
    """A process that follows, and the lines that it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: dict[str, queue.Queue[str]] = {"stdout": queue.Queue(), "stderr": queue.Queue()}
        for name, lines in self._lines.items():
            threading.Thread(target=self._read, args=(getattr(process, name), lines), daemon=True).start()

    def _read(self, stream: Any, lines: queue.Queue[str]) -> None:
        for line in stream:
            lines.put(line.rstrip("\n"))

    def line(self, stream: str = "stdout") -> str:
        return self._lines[stream].get(timeout=PATIENCE)

    def numbers(self, count: int) -> list[int]:
        return [json.loads(self.line())["sequence"] for _ in range(count)]

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def is_silent(self) -> bool:
        return all(lines.empty() for lines in self._lines.values())


@contextmanager
def following(*args: str | Path, stdin: Any = subprocess.DEVNULL) -> Iterator[Follower]:
    process = subprocess.Popen(
        [*script(), "follow", *map(str, args)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    try:
        yield Follower(process)
    finally:
        process.kill()
        process.wait(PATIENCE)
        for stream in (process.stdout, process.stderr, process.stdin):
            if stream is not None:
                stream.close()


def test_a_file_is_followed_from_its_last_messages_on(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    with flatstream.open(path, "w", checksum="xxhash64") as writer:
        write_events(writer, range(5000))
        writer.flush()
        with following("-n", "3", path, *SCHEMA) as follower:
            assert follower.numbers(3) == [4997, 4998, 4999]
            for number in range(5000, 5004):
                write_events(writer, [number])
                writer.flush()
                assert follower.numbers(1) == [number]
            # Half a frame is not there yet, and no damage.
            half = event_stream([5004])
            os.write(writer.sink.fileno(), half[:30])
            os.write(writer.sink.fileno(), half[30:])
            assert follower.numbers(1) == [5004]
            assert follower.is_silent()
            assert follower.end() == 130
            assert follower.line("stderr") == "flatstream follow: interrupted"


def test_every_nth_message_is_one_of_those_that_come(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    with flatstream.open(path, "w", checksum="xxhash64") as writer:
        write_events(writer, range(10))
        writer.flush()
        with following("--every", "3", path, *SCHEMA) as follower:
            number = 10
            while follower.is_silent():
                write_events(writer, range(number, number + 6))
                writer.flush()
                number += 6
                # To let it print what it has read.
                time.sleep(0.01)
            first, second = follower.numbers(2)
            assert first >= 10
            assert second == first + 3


def test_an_empty_file_is_waited_for_and_conditions_hold(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.touch()
    options = ("--where", "host == 'b'", "--fields", "sequence,host")
    with following(path, *SCHEMA, *options) as follower:
        # A file that changes while it is looked at is looked at again.
        with flatstream.open(path, "a", checksum="crc32") as writer:
            write_events(writer, range(10))
            writer.flush()
            assert follower.numbers(5) == [1, 3, 5, 7, 9]
            write_events(writer, range(10, 14))
            writer.flush()
            assert follower.numbers(2) == [11, 13]
        assert follower.end() == 130


def test_refused_frames_are_told_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    stream = event_stream([1])
    path.write_bytes(stream)
    damaged = bytearray(event_stream([2]))
    damaged[30] ^= 1
    with following("--all", path, *SCHEMA) as follower:
        assert follower.numbers(1) == [1]
        with path.open("ab") as file:
            file.write(damaged + event_stream([3]))
        assert follower.numbers(1) == [3]
        error = follower.line("stderr")
        assert error == (
            f"flatstream follow: {path}: damaged: {len(damaged)} bytes at offset {len(stream)} cannot be read and are "
            "left out"
        )
        path.rename(tmp_path / "old.fs")
        assert "the file was deleted or renamed" in follower.line("stderr")
        assert follower.process.wait(PATIENCE) == 4


def test_a_journal_is_followed_across_its_segments(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    with following("-n", "2", folder, *SCHEMA) as follower:
        with JournalWriter(folder, "xxhash64", rotate=RotationPolicy(max_frames=4)) as journal:
            write_events(journal, range(3))
            journal.flush()
            first = follower.numbers(2)
            rest = list(range(first[-1] + 1, 11))
            write_events(journal, range(3, 11))
            journal.flush()
            assert first in ([0, 1], [1, 2])
            assert follower.numbers(len(rest)) == rest
        assert follower.end() == 130


def test_several_inputs_are_followed_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / "a.fs", tmp_path / "b.fs"]
    for path in paths:
        path.write_bytes(event_stream([0]))
    with following(*paths, *SCHEMA, "--format", "table", "--fields", "sequence") as follower:
        begin = sorted(follower.line() for _ in range(6 + 1))
        assert begin == sorted(
            ["", "sequence", "sequence", "       0", "       0", *(f"==> {path} <==" for path in paths)]
        )
        for path in (*paths, paths[1]):
            with path.open("ab") as file:
                file.write(event_stream([7]))
            line = follower.line()
            while line != "       7":
                line = follower.line()
        assert follower.end() == 130


def test_a_pipe_is_read_as_it_comes() -> None:
    with following("-", *SCHEMA, stdin=subprocess.PIPE) as follower:
        assert follower.process.stdin is not None
        for number in range(3):
            os.write(follower.process.stdin.fileno(), event_stream([number]))
            assert follower.numbers(1) == [number]
        follower.process.stdin.close()
        assert follower.process.wait(PATIENCE) == 0


def test_what_cannot_be_followed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.fs").write_text("This is no stream.\n" * 100)
    (tmp_path / "events.fs.gz").write_bytes(gzip.compress(event_stream(range(3))))
    for path, status, problem in (
        ("none.fs", 4, "No such file"),
        ("text.fs", 4, "no stream"),
        ("events.fs.gz", 4, "compressed"),
        ("https://example.invalid/events.fs", 4, "a URL cannot be followed"),
        ("*.fsx", 4, "no file matches"),
    ):
        result = call_flatstream("follow", path, cwd=tmp_path)
        assert (result.status, problem in result.errors) == (status, True), result
    assert call_flatstream("follow", "text.fs", "none.fs", cwd=tmp_path).status == 4


def test_an_interrupt_ends_reading_a_pipe() -> None:
    process = subprocess.Popen(
        [*script(), "cat", "-", *SCHEMA],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(event_stream(range(3)))
        process.stdin.flush()
        # A message is shown when it has come, and not when the pipe ends.
        assert b'"sequence":0' in process.stdout.readline()
        status = None
        for _ in range(PATIENCE // 5):
            process.send_signal(signal.SIGINT)
            # A signal between the interpreter's last look for signals and the system call is seen after the call.
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(5)
                break
        assert status == 130
        assert process.stderr.read() == b"flatstream cat: interrupted\n"

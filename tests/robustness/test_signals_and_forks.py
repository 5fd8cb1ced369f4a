"""Signals and forks: no frame is lost, torn or written twice.

A signal handler may raise at any moment: every frame that counts as accepted is in the stream once, in order. A child
process that inherits a writer by a fork never writes what is its parent's to write.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flatstream import (
    StreamReader,
    StreamWriter,
)
from reference import framing as reference
from support.alarms import Alarm
from support.shared_writers import FRAMERS, numbered, open_sink
from support.sinks import PlainSink
from support.threads import PATIENCE

# Signals


class RandomAlarm(Alarm):
    """An alarm that comes at random moments."""

    def __init__(self, seed: int, longest: float) -> None:
        super().__init__()
        self._chance = random.Random(seed)
        self._longest = longest

    def strike_at_random(self, step: Callable[[], object]) -> bool:
        """Calls `step` until the alarm strikes. False if that was where Python cannot raise, as in a finalizer."""
        return self.strike_repeated(step, self._chance.uniform(1e-6, self._longest))


def write_under_alarms(
    writer: StreamWriter, alarm: RandomAlarm, interruptions: int, payload: Callable[[int], bytes]
) -> int:
    """Writes numbered payloads until that many interruptions have come; gives how many the writer says it accepted.

    After an interruption the count of the writer tells whether the frame that was being written counts as accepted.
    """

    def step() -> None:
        number = writer.frames_written
        if number % 64 == 63:
            writer.flush()
        writer.write_payload(payload(number))

    struck = 0
    while struck < interruptions:
        struck += alarm.strike_at_random(step)
    return writer.frames_written


def check_interrupted_writing(kind: str, buffer_size: int, framer: str, interruptions: int, folder: Any) -> None:
    make_framer, checksum = FRAMERS[framer]

    def payload(number: int) -> bytes:
        return numbered(0, number)

    with open_sink(kind, folder) as (sink, arrived), RandomAlarm(buffer_size, 0.0005) as alarm:
        writer = StreamWriter(sink, make_framer(), buffer_size=buffer_size)
        frames = write_under_alarms(writer, alarm, interruptions, payload)
        assert not writer.is_refusing
        writer.close()
        read = reference.decode(arrived(), checksum)
    assert isinstance(read.end, reference.Clean)
    assert len(read.payloads) == len(read.outcomes) == frames
    for number, got in enumerate(read.payloads):
        assert got == payload(number)


INTERRUPTED = [
    ("file", 0, "default"),
    ("file", 64, "default"),
    ("file", 300, "python_framer"),
    ("pipe", 0, "xxhash64"),
    ("pipe", 64, "python_checksum"),
    ("socket", 0, "default"),
    ("socket", 300, "observed"),
]


@pytest.mark.parametrize(("kind", "buffer_size", "framer"), INTERRUPTED)
def test_writer_interrupted_at_random_moments_loses_and_repeats_nothing(kind, buffer_size, framer, tmp_path):
    check_interrupted_writing(kind, buffer_size, framer, 100, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "buffer_size", "framer"), INTERRUPTED)
def test_writer_interrupted_at_many_random_moments_loses_and_repeats_nothing(kind, buffer_size, framer, tmp_path):
    check_interrupted_writing(kind, buffer_size, framer, 1000, tmp_path)


@pytest.mark.parametrize("interruptions", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_simple_mode_interrupted_at_random_moments_writes_whole_messages(interruptions, tmp_path):
    path = tmp_path / "stream"
    with StreamWriter(path, buffer_size=64) as writer, RandomAlarm(1, 0.0005) as alarm:
        # The first one imports what builds messages.
        writer.write("message 0")
        struck = 0
        while struck < interruptions:
            struck += alarm.strike_at_random(lambda: writer.write(f"message {writer.frames_written}"))
        frames = writer.frames_written
    read = reference.decode(path.read_bytes(), "none")
    assert isinstance(read.end, reference.Clean)
    assert len(read.payloads) == frames
    for number, payload in enumerate(read.payloads):
        assert payload[8:].rstrip(b"\0") == b"message %d" % number


def check_interrupted_reading(kind: str, batched: bool, interruptions: int, folder: Any) -> None:
    """A reader over a C-level source loses no frame but those that were on their way to the caller."""
    count = 2_000_000 if interruptions > 100 else 200_000
    frame = reference.encode([b"x" * 12], "none")
    path = folder / "stream"
    path.write_bytes(frame * count)
    with contextlib.ExitStack() as stack:
        source: Any = path
        if kind == "pipe":
            process = stack.enter_context(subprocess.Popen(["cat", path], stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            source = process.stdout.raw  # type: ignore[attr-defined]
        reader = stack.enter_context(StreamReader(source, capacity=100))
        alarm = stack.enter_context(RandomAlarm(7, 0.0005))
        received = lost = struck = 0
        here = 0

        def step() -> None:
            nonlocal here
            if batched:
                batch = reader.read_batch()
                assert batch is not None
                here += len(batch)
            else:
                assert reader.read_message() == b"x" * 12  # type: ignore[comparison-overlap]
                here += 1

        while struck < interruptions:
            before = reader.frames_read
            here = 0
            is_struck = alarm.strike_at_random(step)
            # The frames of one call at most were found, and then the signal came before they could be counted.
            doubtful = reader.frames_read - before - here
            assert 0 <= doubtful <= (6 if batched else 1) * is_struck
            lost += doubtful
            received += here
            struck += is_struck
        assert reader.frames_read == received + lost
        rest = reader.process_all(lambda payload: None)
        assert received + lost + rest == count
        assert reader.offset == count * len(frame)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("kind", ["path", "pipe"])
def test_reader_interrupted_at_random_moments_keeps_its_place(kind, batched, tmp_path):
    check_interrupted_reading(kind, batched, 100, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("kind", ["path", "pipe"])
def test_reader_interrupted_at_many_random_moments_keeps_its_place(kind, batched, tmp_path):
    check_interrupted_reading(kind, batched, 1000, tmp_path)


def test_thread_interrupted_while_it_waits_for_another_leaves_the_writer_working():
    # The main thread waits for the turn of a thread that is blocked by a full pipe, and is interrupted there.
    reading, writing = os.pipe()
    large = b"L" * 300_000
    with io.FileIO(reading, "rb") as source, io.FileIO(writing, "wb") as sink:
        writer = StreamWriter(sink, buffer_size=0)
        thread = threading.Thread(target=writer.write_payload, args=(large,))
        with RandomAlarm(3, 0.02) as alarm:
            thread.start()
            arrived = bytearray(source.read(1))
            for _ in range(10):
                assert alarm.strike_at_random(lambda: writer.write_payload(b"never"))
        while len(arrived) < 4 + len(large):
            arrived += source.read(100_000)
        thread.join(PATIENCE)
        writer.write_payload(b"last")
        arrived += source.read(100)
        writer.close()
    assert arrived == reference.encode([large, b"last"], "none")


@contextlib.contextmanager
def interrupted_at_return(function: Any) -> Iterator[None]:
    """Raises KeyboardInterrupt where `function` (of Python) returns, once: a signal handler may raise there."""
    left = [True]

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if left and frame.f_code is function.__code__:
            if event == "return":
                left.clear()
                raise KeyboardInterrupt
            return trace
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_signal_while_a_turn_is_passed_on_does_not_make_others_wait_for_ever():
    reading, writing = os.pipe()
    large = b"L" * 300_000
    arrived = bytearray()
    with io.FileIO(reading, "rb") as source, io.FileIO(writing, "wb") as sink:
        writer = StreamWriter(sink, buffer_size=0)

        def receive() -> None:
            # The main thread is in the middle of its write now. Another one comes, and waits.
            arrived.extend(source.read(1))
            second.start()
            time.sleep(0.1)
            # The test closes the source if the second frame does not come.
            with contextlib.suppress(ValueError):
                while len(arrived) < 4 + len(large) + 10:
                    arrived.extend(source.read(100_000))

        def write_second() -> None:
            with contextlib.suppress(OSError, ValueError):
                writer.write_payload(b"second")

        second = threading.Thread(target=write_second, daemon=True)
        receiver = threading.Thread(target=receive, daemon=True)
        receiver.start()
        with contextlib.suppress(KeyboardInterrupt), interrupted_at_return(threading.Condition.__enter__):
            writer.write_payload(large)
        second.join(5)
        assert not second.is_alive()
        receiver.join(PATIENCE)
        assert arrived == reference.encode([large, b"second"], "none")
        writer.close()


@pytest.mark.parametrize("buffering", [0, -1], ids=["raw", "buffered"])
def test_socket_file_interrupted_after_it_has_received_does_not_skip_frames(buffering):
    # SocketIO.readinto is Python. What it had received when the signal came is gone, so that reading cannot go on as if
    # nothing had been.
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb", buffering=buffering) as source, StreamReader(source) as reader:
        theirs.sendall(reference.encode([b"first", b"second"], "none"))
        with interrupted_at_return(socket.SocketIO.readinto), pytest.raises(KeyboardInterrupt):
            reader.read_message()
        theirs.sendall(reference.encode([b"third"], "none"))
        theirs.close()
        try:
            payload = reader.read_message()
        except Exception:
            return
        assert payload is not None
        assert bytes(payload) == b"first"


# Forks

# What a child does with the writer that it inherits; some end as Python does, with all that this collects.
CHILDREN = [
    "leave",
    "leave_now",
    "close",
    "collect",
    "write",
    "write_large",
    "flush",
    "detach",
    "with",
    "write_other",
]

FORKING = """
    import contextlib, gc, json, os, random, sys, warnings
    import flatstream

    def try_to_write(writer, use):
        try:
            use(writer)
        except RuntimeError as error:
            if "belongs to the process that made it" in str(error):
                return
            raise
        raise AssertionError("the child could write")

    def child(what, writer):
        if what == "close":
            writer.close()
            assert writer.closed
        elif what == "write":
            try_to_write(writer, lambda writer: writer.write_payload(b"child"))
            try_to_write(writer, lambda writer: writer.write_payloads([b"child"]))
        elif what == "write_large":
            try_to_write(writer, lambda writer: writer.write_payload(b"child" * 50_000))
        elif what == "flush":
            try_to_write(writer, lambda writer: writer.flush())
        elif what == "detach":
            try_to_write(writer, lambda writer: writer.detach())
        elif what == "with":
            with writer:
                pass
        elif what == "write_other":
            with flatstream.open(path + ".child", "w") as other:
                other.write_payload(b"child")
            with flatstream.open(path + ".child") as reader:
                assert list(reader) == [b"child"]

    path, count, buffer_size, children = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    chance = random.Random(buffer_size)
    writer = flatstream.open(path, "w", checksum="crc32", buffer_size=buffer_size)
    statuses = []
    with warnings.catch_warnings():
        for number in range(count):
            what = children[number % len(children)]
            for _ in range(chance.randrange(4)):
                writer.write_payload(b"%d" % writer.frames_written)
            if chance.random() < 0.1:
                writer.flush()
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    child(what, writer)
                    if what == "collect":
                        del writer
                        gc.collect()
                    status = 0
                finally:
                    if what == "leave_now" or status:
                        os._exit(status)
                # As the end of a program: buffers are flushed, objects are collected.
                sys.exit(0)
            statuses.append(os.waitpid(pid, 0)[1])
    writer.write_payload(b"%d" % writer.frames_written)
    frames = writer.frames_written
    writer.close()
    print(json.dumps({"frames": frames, "statuses": statuses}))
"""


@pytest.mark.parametrize("count", [15, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("buffer_size", [0, pytest.param(40, marks=pytest.mark.long), 65_536])
def test_forked_children_never_write_what_is_their_parents(buffer_size, count, tmp_path):
    script = tmp_path / "forks.py"
    script.write_text(textwrap.dedent(FORKING))
    path = tmp_path / "stream"
    done = subprocess.run(
        [sys.executable, script, path, str(count), str(buffer_size), *CHILDREN],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    outcome = json.loads(done.stdout)
    assert outcome["statuses"] == [0] * count
    read = reference.decode(path.read_bytes(), "crc32")
    assert isinstance(read.end, reference.Clean)
    assert read.payloads == [b"%d" % number for number in range(outcome["frames"])]


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Python 3.12 and later warn of a fork beside threads, which is what is done here on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")
        yield


def in_child(function: Callable[[], bool]) -> bool:
    """What `function` returns in a forked child, which then ends at once. False if it raised or hung."""
    with forking():
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(PATIENCE)
            status = 0 if function() else 1
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def test_child_forked_while_a_thread_writes_can_close_its_copy(tmp_path):
    # The copy stands in the middle of an operation of a thread that the child does not have.
    reading, writing = os.pipe()
    with io.FileIO(reading, "rb") as source, io.FileIO(writing, "wb") as sink:
        writer = StreamWriter(sink, buffer_size=0)
        large = b"L" * 300_000
        thread = threading.Thread(target=writer.write_payload, args=(large,))
        thread.start()
        arrived = bytearray(source.read(1))

        def close_in_child() -> bool:
            with contextlib.suppress(RuntimeError):
                writer.write_payload(b"child")
                return False
            writer.close()
            return writer.closed

        assert in_child(close_in_child)
        while len(arrived) < 4 + len(large):
            arrived += source.read(100_000)
        thread.join(PATIENCE)
        writer.close()
    assert arrived == reference.encode([large], "none")


def test_grandchild_may_write_with_a_writer_of_its_parent_and_not_of_its_grandparent():
    ours = PlainSink()
    writer = StreamWriter(ours)
    writer.write_payload(b"parent")

    def child() -> bool:
        sink = PlainSink()
        mine = StreamWriter(sink)
        mine.write_payload(b"child")

        def grandchild() -> bool:
            for inherited in (writer, mine):
                try:
                    inherited.write_payload(b"grandchild")
                except RuntimeError:
                    continue
                return False
            return True

        if not in_child(grandchild):
            return False
        mine.close()
        return sink.arrived() == reference.encode([b"child"], "none")

    assert in_child(child)
    writer.close()
    assert ours.arrived() == reference.encode([b"parent"], "none")


def test_child_may_read_on_with_the_reader_that_it_inherits():
    # Reading harms nobody: of memory, both have their own copy.
    payloads = [b"%d" % number for number in range(100)]
    reader = StreamReader(reference.encode(payloads, "none"))
    assert bytes(next(reader)) == b"0"
    assert in_child(lambda: [bytes(view) for view in reader] == payloads[1:])
    assert [bytes(view) for view in reader] == payloads[1:]

"""Threads, calls from inside a call, signals and forks: no crash, no interleaved frame, no byte lost or written twice.

Several threads may share a writer or a reader, since its operations exclude one another. What an observer, a strategy
or a sink calls on the very object that is calling it is refused with RuntimeError, and the object goes on. A signal
handler may raise at any moment: every frame that counts as accepted is in the stream once, in order. A child process
that inherits a writer by a fork never writes what is its parent's to write.
"""

from __future__ import annotations

import collections
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
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumType,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    Framer,
    FrameSpan,
    MemoryPolicy,
    NoOpPolicy,
    StreamReader,
    StreamWriter,
    Validator,
    XxHash64,
)
from reference import framing as reference
from support.sinks import PlainSink
from support.threads import PATIENCE, run_threads, switching

THREADS = 4


# Threads on one writer


def numbered(thread: int, number: int) -> bytes:
    """A payload that says who wrote it and when; every 16th is larger than the buffers used here."""
    return b"%d:%d:" % (thread, number) + b"." * (2000 if number % 16 == 0 else number % 50)


def assert_all_there(stream: bytes, frames: int, checksum: str = "none") -> None:
    """Each of THREADS threads wrote `frames` payloads: all are there, whole, once, and each thread's in its order."""
    read = reference.decode(stream, checksum)
    assert read.end == reference.Clean(len(stream))
    assert len(read.payloads) == len(read.outcomes) == THREADS * frames
    next_numbers = [0] * THREADS
    for payload in read.payloads:
        thread = int(payload[: payload.index(b":")])
        assert payload == numbered(thread, next_numbers[thread])
        next_numbers[thread] += 1
    assert next_numbers == [frames] * THREADS


class PythonFramer(Framer):
    """The default framer in Python, in as many writes as there may be."""

    def frame_and_write(self, writer, payload):
        writer.write(len(payload).to_bytes(4, "little"))
        for place in range(0, len(payload), 500):
            writer.write(payload[place : place + 500])


class PythonXxHash64(Checksum):
    size = 8

    def calculate(self, payload):
        return XxHash64().calculate(payload)


class PythonValidator(Validator):
    def validate(self, payload):
        assert bytes(payload).count(b":") >= 2


FRAMERS: dict[str, tuple[Callable[[], Framer], str]] = {
    "default": (DefaultFramer, "none"),
    "crc32": (lambda: ChecksumFramer(Crc32()), "crc32"),
    "xxhash64": (lambda: ChecksumFramer(XxHash64()), "xxhash64"),
    "observed": (lambda: DefaultFramer().observed(bytes), "none"),
    "python_framer": (PythonFramer, "none"),
    "python_checksum": (lambda: ChecksumFramer(PythonXxHash64()), "xxhash64"),
    "python_validator": (lambda: ChecksumFramer(Crc32()).with_validator(PythonValidator()), "crc32"),
}


class SlowSink(PlainSink):
    """Lets other threads run in the middle of its work, and takes less than it is offered."""

    def write(self, data: Any) -> Any:
        piece = bytes(data[:100])
        time.sleep(0)
        self.pieces.append(piece)
        time.sleep(0)
        return len(piece)


@contextlib.contextmanager
def open_sink(kind: str, folder: Any) -> Iterator[tuple[Any, Callable[[], bytes]]]:
    """A sink that other threads run beside, and what gives all that arrived there."""
    if kind == "file":
        path = folder / "stream"
        with io.FileIO(path, "wb") as file:
            yield file, path.read_bytes
    elif kind == "object":
        sink = SlowSink()
        yield sink, sink.arrived
    else:
        reading, writing = os.pipe() if kind == "pipe" else [end.detach() for end in socket.socketpair()]
        pieces: list[bytes] = []

        def drain() -> None:
            while piece := os.read(reading, 700):
                pieces.append(piece)
            os.close(reading)

        thread = threading.Thread(target=drain, daemon=True)
        thread.start()
        ours: Any = io.FileIO(writing, "wb") if kind == "pipe" else socket.socket(fileno=writing)

        def arrived() -> bytes:
            ours.close()
            thread.join(PATIENCE)
            return b"".join(pieces)

        with ours:
            yield ours, arrived


@switching
@pytest.mark.parametrize("framer", FRAMERS)
@pytest.mark.parametrize("buffer_size", [0, 100, 65_536])
@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "object"])
def test_threads_on_one_writer_never_mix_frames(kind, buffer_size, framer, tmp_path):
    make_framer, checksum = FRAMERS[framer]
    frames = 80
    with open_sink(kind, tmp_path) as (sink, arrived):
        with StreamWriter(sink, make_framer(), buffer_size=buffer_size) as writer:

            def write(thread: int) -> None:
                for number in range(frames):
                    if number % 40 == 39:
                        writer.flush()
                    writer.write_payload(numbered(thread, number))

            run_threads(*(lambda thread=thread: write(thread) for thread in range(THREADS)))
            assert writer.frames_written == THREADS * frames
        assert_all_there(arrived(), frames, checksum)


@switching
@pytest.mark.parametrize("kind", ["file", "pipe", "object"])
def test_threads_that_write_many_payloads_in_one_call_never_mix_frames(kind, tmp_path):
    frames = 300
    with open_sink(kind, tmp_path) as (sink, arrived):
        with StreamWriter(sink, ChecksumType.CRC32, buffer_size=256) as writer:

            def write(thread: int) -> None:
                for start in range(0, frames, 30):
                    writer.write_payloads(numbered(thread, number) for number in range(start, start + 30))

            run_threads(*(lambda thread=thread: write(thread) for thread in range(THREADS)))
        assert_all_there(arrived(), frames, "crc32")


class Item:
    """Builds a message that is a string, in as many steps as there may be."""

    def __init__(self, text: str) -> None:
        self.text = text

    def serialize(self, builder: Any) -> None:
        builder.CreateString("something that is not part of the message")
        time.sleep(0)
        builder.Finish(builder.CreateString(self.text))


@switching
@pytest.mark.parametrize("make_item", [str, Item])
@pytest.mark.parametrize("policy", [None, NoOpPolicy()], ids=["without_policy", "with_policy"])
def test_threads_in_simple_mode_never_mix_messages(make_item, policy):
    # They share the writer's builder, too.
    sink = PlainSink()
    frames = 100
    with StreamWriter(sink, buffer_size=256, memory_policy=policy) as writer:

        def write(thread: int) -> None:
            for number in range(frames):
                writer.write(make_item(f"{thread}:{number}:{'.' * (number % 30)}"))

        run_threads(*(lambda thread=thread: write(thread) for thread in range(THREADS)))
    texts = collections.defaultdict(list)
    for text in messages(sink.arrived()):
        texts[text[0]].append(text)
    assert texts == {
        str(thread): [f"{thread}:{number}:{'.' * (number % 30)}" for number in range(frames)]
        for thread in range(THREADS)
    }


def messages(stream: bytes) -> list[str]:
    """The strings that are the roots of a stream's messages."""
    texts = []
    for payload in reference.decode(stream, "none").payloads:
        place = int.from_bytes(payload[:4], "little")
        size = int.from_bytes(payload[place : place + 4], "little")
        texts.append(payload[place + 4 : place + 4 + size].decode())
    return texts


def test_thread_that_writes_while_another_builds_its_message_waits_or_has_a_builder_of_its_own():
    building, written = threading.Event(), threading.Event()

    class SlowItem:
        def serialize(self, builder: Any) -> None:
            text = builder.CreateString("slow")
            building.set()
            # Not for ever: the other thread may have to wait until this message is written.
            written.wait(0.2)
            builder.Finish(text)

    sink = PlainSink()
    with StreamWriter(sink) as writer:

        def write_fast() -> None:
            assert building.wait(PATIENCE)
            writer.write("fast")
            written.set()

        run_threads(lambda: writer.write(SlowItem()), write_fast)
    assert sorted(messages(sink.arrived())) == ["fast", "slow"]


@switching
def test_thread_that_closes_a_writer_others_write_to_loses_no_accepted_frame():
    for _ in range(15):
        sink = SlowSink()
        writer = StreamWriter(sink, buffer_size=256)
        accepted = [0] * THREADS

        def write(thread: int, writer: StreamWriter = writer, accepted: list[int] = accepted) -> None:
            with contextlib.suppress(ValueError):
                for number in range(150):
                    writer.write_payload(numbered(thread, number))
                    accepted[thread] += 1

        def close(writer: StreamWriter = writer) -> None:
            time.sleep(0.001)
            writer.close()

        run_threads(close, *(lambda thread=thread: write(thread) for thread in range(THREADS)))
        read = reference.decode(sink.arrived(), "none")
        assert isinstance(read.end, reference.Clean)
        counts = collections.Counter(int(payload[: payload.index(b":")]) for payload in read.payloads)
        assert [counts[thread] for thread in range(THREADS)] == accepted
        assert writer.frames_written == sum(accepted)


@pytest.mark.parametrize("ending", ["close", "detach"])
def test_frame_written_while_another_thread_closes_arrives_or_is_refused(ending):
    # The sink is being flushed: the buffer was handed over, and the writer is not closed yet.
    outcomes: list[str] = []

    class Sink(PlainSink):
        def flush(self) -> None:
            thread.start()
            # Not for ever: the other thread may have to wait until the writer is closed.
            thread.join(0.2)

    def write_late() -> None:
        try:
            writer.write_payload(b"late")
            outcomes.append("accepted")
        except ValueError:
            outcomes.append("refused")

    thread = threading.Thread(target=write_late)
    sink = Sink()
    writer = StreamWriter(sink)
    writer.write_payload(b"first")
    getattr(writer, ending)()
    thread.join(PATIENCE)
    expected = {"accepted": [b"first", b"late"], "refused": [b"first"]}
    assert sink.arrived() == reference.encode(expected[outcomes[0]], "none")
    assert writer.frames_written == len(expected[outcomes[0]])


def test_thread_waits_for_a_write_that_blocks_and_then_goes_on():
    reading, writing = os.pipe()
    with io.FileIO(reading, "rb") as source, io.FileIO(writing, "wb") as sink:
        writer = StreamWriter(sink, buffer_size=0)
        large = b"L" * 300_000
        first = threading.Thread(target=writer.write_payload, args=(large,))
        second = threading.Thread(target=writer.write_payload, args=(b"second",))
        first.start()
        arrived = bytearray(source.read(1000))
        second.start()
        second.join(0.1)
        assert second.is_alive()
        while len(arrived) < 4 + len(large) + 10:
            arrived += source.read(10_000)
        first.join(PATIENCE)
        second.join(PATIENCE)
        assert arrived == reference.encode([large, b"second"], "none")
        writer.close()


# Threads on one reader


class PythonDeframer(Deframer):
    def locate(self, data):
        if len(data) < 4:
            return 4
        end = 4 + int.from_bytes(data[:4], "little")
        return FrameSpan(4, end, end)


DEFRAMERS: dict[str, tuple[Callable[[], Deframer], str]] = {
    "default": (DefaultDeframer, "none"),
    "crc32": (lambda: ChecksumDeframer(Crc32()), "crc32"),
    "observed": (lambda: DefaultDeframer().observed(bytes), "none"),
    "python_deframer": (PythonDeframer, "none"),
    "python_checksum": (lambda: ChecksumDeframer(PythonXxHash64()), "xxhash64"),
}


@switching
@pytest.mark.parametrize("deframer", DEFRAMERS)
@pytest.mark.parametrize("capacity", [64, 4096])
@pytest.mark.parametrize("kind", ["memory", "file", "pipe"])
@pytest.mark.parametrize("how", ["messages", "batches", "mixed"])
def test_threads_on_one_reader_get_every_frame_once(how, kind, capacity, deframer, tmp_path):
    make_deframer, checksum = DEFRAMERS[deframer]
    payloads = [b"%d:" % number + b"." * (number % 40) for number in range(1500)]
    stream = reference.encode(payloads, checksum)
    received: list[list[bytes]] = [[] for _ in range(THREADS)]
    with contextlib.ExitStack() as stack:
        source: Any = stream
        if kind == "file":
            (tmp_path / "stream").write_bytes(stream)
            source = tmp_path / "stream"
        elif kind == "pipe":
            reading, writing = os.pipe()
            source = stack.enter_context(io.FileIO(reading, "rb"))

            def feed() -> None:
                with io.FileIO(writing, "wb") as file:
                    for place in range(0, len(stream), 333):
                        file.write(stream[place : place + 333])

            feeder = threading.Thread(target=feed, daemon=True)
            feeder.start()
            stack.callback(feeder.join, PATIENCE)
        reader = stack.enter_context(StreamReader(source, make_deframer(), capacity=capacity))

        def read(thread: int) -> None:
            kept = []
            if how == "batches" or (how == "mixed" and thread % 2):
                while (batch := reader.read_batch(5)) is not None:
                    kept += list(batch)
            else:
                kept += list(reader)
            received[thread] = [bytes(view) for view in kept]

        run_threads(*(lambda thread=thread: read(thread) for thread in range(THREADS)))
        assert (reader.frames_read, reader.offset) == (len(payloads), len(stream))
    assert sorted(payload for mine in received for payload in mine) == sorted(payloads)
    order = {payload: number for number, payload in enumerate(payloads)}
    for mine in received:
        numbers = [order[payload] for payload in mine]
        assert numbers == sorted(numbers)


@switching
def test_thread_that_closes_a_reader_others_read_from_ends_them():
    payloads = [b"%d" % number for number in range(3000)]
    stream = reference.encode(payloads, "none")
    for _ in range(20):
        reader = StreamReader(io.BytesIO(stream), capacity=64)
        received: list[list[bytes]] = [[] for _ in range(THREADS)]

        def read(thread: int, reader: StreamReader = reader, received: list[list[bytes]] = received) -> None:
            try:
                for view in reader:
                    received[thread].append(bytes(view))
            except ValueError as error:
                assert "this StreamReader is closed" in str(error)  # noqa: PT017 - it may come, or not

        run_threads(reader.close, *(lambda thread=thread: read(thread) for thread in range(THREADS)))
        everything = [payload for mine in received for payload in mine]
        assert sorted(everything, key=int) == payloads[: len(everything)]


def test_close_waits_for_a_read_that_blocks():
    # What the read in the other thread gets is not lost, and not freed under it.
    reading, writing = os.pipe()
    with io.FileIO(reading, "rb") as source, io.FileIO(writing, "wb") as sink:
        reader = StreamReader(source)
        received = []
        thread = threading.Thread(target=lambda: received.append(bytes(next(reader))))
        thread.start()
        time.sleep(0.05)
        closing = threading.Thread(target=reader.close)
        closing.start()
        closing.join(0.1)
        assert closing.is_alive()
        sink.write(reference.encode([b"late"], "none"))
        thread.join(PATIENCE)
        closing.join(PATIENCE)
        assert received == [b"late"]
        with pytest.raises(ValueError, match="closed"):
            next(reader)


# Calls from inside a call


class Reenter:
    """Calls `use` when it is called, once, and keeps the error that this gives."""

    def __init__(self) -> None:
        self.use: Callable[[], Any] | None = None
        self.errors: list[str] = []

    def __call__(self, *arguments: Any) -> None:
        use, self.use = self.use, None
        if use is not None:
            try:
                use()
                self.errors.append("no error")
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")


def assert_refused(reenter: Reenter, name: str) -> None:
    expected = f"RuntimeError: reentrant call: this {name} is in the middle of another operation"
    assert reenter.errors == [expected]


WRITER_USES: dict[str, Callable[[StreamWriter], Any]] = {
    "write": lambda writer: writer.write("inner"),
    "write_batch": lambda writer: writer.write_batch(["inner"]),
    "write_payload": lambda writer: writer.write_payload(b"inner"),
    "write_large_payload": lambda writer: writer.write_payload(b"inner" * 50_000),
    "write_payloads": lambda writer: writer.write_payloads([b"inner"]),
    "flush": lambda writer: writer.flush(),
    "close": lambda writer: writer.close(),
    "detach": lambda writer: writer.detach(),
}


class ReenteringFramer(Framer):
    def __init__(self, reenter: Reenter) -> None:
        self.reenter = reenter

    def frame_and_write(self, writer, payload):
        self.reenter()
        DefaultFramer().frame_and_write(writer, payload)


class ReenteringChecksum(Checksum):
    size = 1

    def __init__(self, reenter: Reenter) -> None:
        self.reenter = reenter

    def calculate(self, payload):
        self.reenter()
        return 0


class ReenteringValidator(Validator):
    def __init__(self, reenter: Reenter) -> None:
        self.reenter = reenter

    def validate(self, payload):
        self.reenter()


WRITING_STRATEGIES: dict[str, Callable[[Reenter], Framer]] = {
    "observer": lambda reenter: DefaultFramer().observed(reenter),
    "framer": ReenteringFramer,
    "checksum": lambda reenter: ChecksumFramer(ReenteringChecksum(reenter)),
    "validator": lambda reenter: DefaultFramer().with_validator(ReenteringValidator(reenter)),
}


@pytest.mark.parametrize("use", WRITER_USES)
@pytest.mark.parametrize("strategy", WRITING_STRATEGIES)
def test_writer_called_from_its_own_strategy_refuses_and_goes_on(strategy, use):
    reenter = Reenter()
    sink = PlainSink()
    writer = StreamWriter(sink, WRITING_STRATEGIES[strategy](reenter))
    writer.write_payload(b"first")
    reenter.use = lambda: WRITER_USES[use](writer)
    writer.write_payload(b"outer")
    assert_refused(reenter, "StreamWriter")
    assert not writer.closed
    assert writer.sink is sink
    writer.write_payload(b"last")
    assert writer.frames_written == 3
    writer.close()
    expected = reference.encode([b"first", b"outer", b"last"], "none")
    if strategy == "checksum":
        expected = b"\5\0\0\0\0first\5\0\0\0\0outer\4\0\0\0\0last"
    assert sink.arrived() == expected


@pytest.mark.parametrize("use", WRITER_USES)
@pytest.mark.parametrize("place", ["write", "large_write"])
def test_writer_called_from_its_own_sink_refuses_and_goes_on(place, use):
    reenter = Reenter()

    class Sink(PlainSink):
        def write(self, data: Any) -> None:
            reenter()
            super().write(data)

    sink = Sink()
    writer = StreamWriter(sink, buffer_size=64)
    payload = b"outer" if place == "write" else b"outer" * 100
    reenter.use = lambda: WRITER_USES[use](writer)
    writer.write_payload(payload)
    writer.flush()
    assert_refused(reenter, "StreamWriter")
    assert not writer.closed
    writer.write_payload(b"last")
    writer.close()
    assert sink.arrived() == reference.encode([payload, b"last"], "none")


def test_writer_called_from_a_payload_being_made_takes_it_first():
    # Between two payloads nothing is in progress.
    sink = PlainSink()
    writer = StreamWriter(sink, buffer_size=64)

    def payloads() -> Iterator[bytes]:
        yield b"first"
        writer.write_payload(b"inner")
        writer.flush()
        yield b"last"

    writer.write_payloads(payloads())
    writer.close()
    assert sink.arrived() == reference.encode([b"first", b"inner", b"last"], "none")


def test_writer_called_from_an_item_being_built_refuses_and_goes_on():
    # The builder of simple mode holds half of the outer message.
    reenter = Reenter()
    sink = PlainSink()
    writer = StreamWriter(sink)

    class Nested:
        def serialize(self, builder: Any) -> None:
            text = builder.CreateString("outer")
            reenter()
            builder.Finish(text)

    reenter.use = lambda: writer.write("inner")
    writer.write(Nested())
    assert_refused(reenter, "StreamWriter")
    writer.write("last")
    writer.close()
    payloads = reference.decode(sink.arrived(), "none").payloads
    assert [payload[8:13] for payload in payloads] == [b"outer", b"last\0"]


READER_USES: dict[str, Callable[[StreamReader], Any]] = {
    "read_message": lambda reader: reader.read_message(),
    "next": next,
    "read_batch": lambda reader: reader.read_batch(),
    "process_all": lambda reader: reader.process_all(print),
    "close": lambda reader: reader.close(),
    "detach": lambda reader: reader.detach(),
}


class ReenteringDeframer(PythonDeframer):
    def __init__(self, reenter: Reenter) -> None:
        self.reenter = reenter

    def locate(self, data):
        self.reenter()
        return super().locate(data)


class ReenteringCheck(PythonDeframer):
    def __init__(self, reenter: Reenter) -> None:
        self.reenter = reenter

    def check(self, frame, payload):
        self.reenter()


READING_STRATEGIES: dict[str, Callable[[Reenter], Deframer]] = {
    "observer": lambda reenter: DefaultDeframer().observed(reenter),
    "deframer": ReenteringDeframer,
    "check": ReenteringCheck,
    "validator": lambda reenter: DefaultDeframer().with_validator(ReenteringValidator(reenter)),
}


@pytest.mark.parametrize("use", READER_USES)
@pytest.mark.parametrize("strategy", READING_STRATEGIES)
@pytest.mark.parametrize("batched", [False, True])
def test_reader_called_from_its_own_strategy_refuses_and_goes_on(batched, strategy, use, tmp_path):
    reenter = Reenter()
    path = tmp_path / "stream"
    payloads = [b"%d" % number for number in range(10)]
    path.write_bytes(reference.encode(payloads, "none"))
    with StreamReader(path, READING_STRATEGIES[strategy](reenter)) as reader, reader.source as file:
        received = [bytes(next(reader)) for _ in range(3)]
        reenter.use = lambda: READER_USES[use](reader)
        received += [bytes(view) for view in (next(reader.batches(2)) if batched else [next(reader)])]
        assert_refused(reenter, "StreamReader")
        assert not reader.closed
        assert reader.source is file
        received += [bytes(view) for view in reader]
        assert received == payloads
        reader.close()
        assert file.closed


@pytest.mark.parametrize("use", READER_USES)
def test_reader_called_from_its_own_source_refuses_and_goes_on(use):
    reenter = Reenter()

    class Source(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            reenter()
            return super().readinto(buffer)

    payloads = [b"%d" % number for number in range(10)]
    reader = StreamReader(Source(reference.encode(payloads, "none")), capacity=20)
    reenter.use = lambda: READER_USES[use](reader)
    received = [bytes(view) for view in reader]
    assert_refused(reenter, "StreamReader")
    assert received == payloads
    assert not reader.closed
    reader.close()


class ReenteringPolicy(MemoryPolicy):
    baseline_capacity = 1

    def __init__(self, reenter: Reenter) -> None:
        self.reenter = reenter

    def should_reset(self, last_message_size, current_capacity):
        self.reenter()


@pytest.mark.parametrize("use", READER_USES)
def test_reader_called_from_its_own_memory_policy_refuses_and_goes_on(use):
    reenter = Reenter()
    payloads = [b"L" * 500, *(b"%d" % number for number in range(10))]
    source = io.BytesIO(reference.encode(payloads, "none"))
    reader = StreamReader(source, capacity=20, memory_policy=ReenteringPolicy(reenter))
    reenter.use = lambda: READER_USES[use](reader)
    received = [bytes(view) for view in reader]
    assert_refused(reenter, "StreamReader")
    assert received == payloads
    reader.close()


def test_reader_called_from_what_processes_a_message_gives_the_next_one():
    # Between two messages nothing is in progress.
    reader = StreamReader(reference.encode([b"a", b"b", b"c", b"d"], "none"))
    pairs = []
    assert reader.process_all(lambda view: pairs.append((bytes(view), bytes(next(reader))))) == 2
    assert pairs == [(b"a", b"b"), (b"c", b"d")]


# Signals


class Alarms:
    """Raises KeyboardInterrupt in the main thread again and again, at random moments, while it is switched on."""

    def __init__(self, seed: int, longest: float) -> None:
        self.chance = random.Random(seed)
        self.longest = longest
        self.raised = 0
        self.on = False

    def handle(self, number: int, frame: Any) -> None:
        if self.on:
            # Off until the main thread has dealt with this one.
            self.on = False
            self.raised += 1
            raise KeyboardInterrupt

    def set(self) -> None:
        self.on = True
        signal.setitimer(signal.ITIMER_REAL, self.chance.uniform(1e-6, self.longest))

    def repeat_until_struck(self, step: Callable[[], object]) -> None:
        """Calls `step` until an alarm strikes, whose KeyboardInterrupt reaches the caller.

        In a function of its own: Python 3.12 and later may raise at the jump back of a loop, outside of the `try`
        around it.
        """
        self.set()
        # It is off when it has struck where Python cannot raise, as in a finalizer.
        while self.on:
            step()

    def __enter__(self) -> Alarms:
        self.before = signal.signal(signal.SIGALRM, self.handle)
        return self

    def __exit__(self, *exception: object) -> None:
        self.on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


def write_under_alarms(
    writer: StreamWriter, alarms: Alarms, interruptions: int, payload: Callable[[int], bytes]
) -> int:
    """Writes numbered payloads until that many interruptions have come; gives how many the writer says it accepted.

    After an interruption the count of the writer tells whether the frame that was being written counts as accepted.
    """

    def step() -> None:
        number = writer.frames_written
        if number % 64 == 63:
            writer.flush()
        writer.write_payload(payload(number))

    while alarms.raised < interruptions:
        with contextlib.suppress(KeyboardInterrupt):
            alarms.repeat_until_struck(step)
    return writer.frames_written


def check_interrupted_writing(kind: str, buffer_size: int, framer: str, interruptions: int, folder: Any) -> None:
    make_framer, checksum = FRAMERS[framer]

    def payload(number: int) -> bytes:
        return numbered(0, number)

    with open_sink(kind, folder) as (sink, arrived), Alarms(buffer_size, 0.0005) as alarms:
        writer = StreamWriter(sink, make_framer(), buffer_size=buffer_size)
        frames = write_under_alarms(writer, alarms, interruptions, payload)
        alarms.on = False
        assert not writer.is_refusing
        writer.close()
        assert alarms.raised == interruptions
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
    with StreamWriter(path, buffer_size=64) as writer, Alarms(1, 0.0005) as alarms:
        # The first one imports what builds messages.
        writer.write("message 0")
        while alarms.raised < interruptions:
            with contextlib.suppress(KeyboardInterrupt):
                alarms.repeat_until_struck(lambda: writer.write(f"message {writer.frames_written}"))
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
        alarms = stack.enter_context(Alarms(7, 0.0005))
        received = lost = 0
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

        while alarms.raised < interruptions:
            before = reader.frames_read
            here = 0
            try:
                alarms.repeat_until_struck(step)
            except KeyboardInterrupt:
                # The frames of one call at most were found, and then the signal came before they could be counted.
                doubtful = reader.frames_read - before - here
                assert 0 <= doubtful <= (6 if batched else 1)
                lost += doubtful
                received += here
        alarms.on = False
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
        with Alarms(3, 0.02) as alarms:
            thread.start()
            arrived = bytearray(source.read(1))
            for _ in range(10):
                # The alarm may come as soon as it is set.
                with pytest.raises(KeyboardInterrupt):  # noqa: PT012
                    alarms.set()
                    writer.write_payload(b"never")
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


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("buffer_size", [0, 40, 65_536])
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

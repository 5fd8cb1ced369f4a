"""Threads and calls from inside a call: no crash, no interleaved frame, no byte lost or written twice.

Several threads may share a writer or a reader, since its operations exclude one another. What an observer, a strategy
or a sink calls on the very object that is calling it is refused with RuntimeError, and the object goes on.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import threading
import time
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
    MemoryPolicy,
    NoOpPolicy,
    StreamReader,
    StreamWriter,
    Validator,
)
from reference import framing as reference
from support.extent import in_one_test
from support.python_strategies import PythonDeframer
from support.shared_writers import FRAMERS, PythonXxHash64, SlowSink, numbered, open_sink
from support.sinks import PlainSink
from support.threads import PATIENCE, run_threads, switching

THREADS = 4


# Threads on one writer


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


@switching
@in_one_test(step=3)
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


DEFRAMERS: dict[str, tuple[Callable[[], Deframer], str]] = {
    "default": (DefaultDeframer, "none"),
    "crc32": (lambda: ChecksumDeframer(Crc32()), "crc32"),
    "observed": (lambda: DefaultDeframer().observed(bytes), "none"),
    "python_deframer": (PythonDeframer, "none"),
    "python_checksum": (lambda: ChecksumDeframer(PythonXxHash64()), "xxhash64"),
}


@switching
@in_one_test(step=3)
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

"""ThreadedWriter: what it queues, drops and writes, and in which order. Schedules are exact: the writer has a gate."""

from __future__ import annotations

import array
import contextlib
import errno
import io
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import Builder, ChecksumFramer, Crc32, FlatbufferError, StreamReader, StreamWriter
from flatstream.journal import ThreadedWriter
from reference import framing as reference
from support.extent import in_one_test
from support.gated import GatedWriter, wait_until
from support.logs import log_lines
from support.threads import run_threads, running, switching

A, B, C, D, E, F = (letter.encode() for letter in "abcdef")


@pytest.fixture
def log() -> Iterator[list[str]]:
    with log_lines() as lines:
        yield lines


def gated(capacity: int, when_full: Any) -> tuple[GatedWriter, ThreadedWriter]:
    """A threaded writer whose thread has `A` and waits at the gate."""
    writer = GatedWriter()
    threaded = ThreadedWriter(writer, capacity, when_full, flush_interval=0)
    threaded.write_payload(A)
    assert writer.wait_for_entry() == [A]
    return writer, threaded


def finish(writer: GatedWriter, threaded: ThreadedWriter) -> list[bytes]:
    """Everything that was written."""
    writer.open(1000)
    threaded.flush()
    written = [bytes(payload) for payload in StreamReader(writer.memory.getvalue())]
    threaded.close()
    assert threaded.closed
    assert writer.closed
    return written


# Policies


def test_newest_payloads_are_dropped() -> None:
    writer, threaded = gated(2, "drop_newest")
    threaded.write_payloads([B, C, D, E])
    assert (threaded.queued, threaded.dropped, threaded.drop_episodes) == (3, 2, 1)
    assert finish(writer, threaded) == [A, B, C]
    assert (threaded.queued, threaded.frames_written) == (0, 3)


def test_oldest_payloads_are_dropped() -> None:
    writer, threaded = gated(2, "drop_oldest")
    threaded.write_payloads([B, C, D, E])
    assert (threaded.queued, threaded.dropped, threaded.drop_episodes) == (3, 2, 1)
    # The thread has the first one, which is in the queue no more.
    assert finish(writer, threaded) == [A, D, E]


def test_full_queue_raises_and_takes_more_later() -> None:
    writer, threaded = gated(2, "raise")
    threaded.write_payloads([B, C])
    with pytest.raises(
        BlockingIOError, match=r"the queue of <ThreadedWriter .* is full: it holds 2 payloads"
    ) as caught:
        threaded.write_payload(D)
    assert caught.value.errno == errno.EAGAIN
    assert (threaded.dropped, threaded.drop_episodes) == (0, 0)
    writer.open()
    assert writer.wait_for_entry() == [B, C]
    threaded.write_payload(E)
    assert finish(writer, threaded) == [A, B, C, E]


def test_put_waits_for_room() -> None:
    writer, threaded = gated(1, "block")
    threaded.write_payload(B)
    put: list[bytes] = []

    def produce() -> None:
        for payload in (C, D):
            threaded.write_payload(payload)
            put.append(payload)

    with running(produce):
        wait_until(lambda: threaded._waiters)
        assert put == []
        writer.open()
        assert writer.wait_for_entry() == [B]
        wait_until(lambda: threaded._waiters)
        assert put == [C]
        writer.open()
        assert writer.wait_for_entry() == [C]
    assert put == [C, D]
    assert finish(writer, threaded) == [A, B, C, D]
    assert threaded.dropped == 0


def test_flush_waits_for_what_was_put_before_only() -> None:
    writer, threaded = gated(10, "block")
    threaded.write_payload(B)
    done = threading.Event()

    def flush() -> None:
        threaded.flush()
        done.set()

    with running(flush):
        wait_until(lambda: threaded._requests)
        threaded.write_payload(C)
        writer.open()
        # B and C are one batch: C was put before the thread took anything again.
        assert writer.wait_for_entry() == [B, C]
        threaded.write_payload(D)
        assert not done.is_set()
        writer.open()
        assert writer.wait_for_entry() == [D]
        assert done.wait(30)
        assert threaded.queued == 1
    assert finish(writer, threaded) == [A, B, C, D]


def test_thread_takes_at_most_256_payloads_at_once() -> None:
    writer, threaded = gated(1000, "raise")
    payloads = [b"%d" % number for number in range(1000)]
    threaded.write_payloads(payloads)
    assert finish(writer, threaded) == [A, *payloads]
    assert [len(batch) for batch in writer.batches] == [1, 256, 256, 256, 232]


class Model:
    """The queue and the thread as they are described, in the simplest way."""

    def __init__(self, capacity: int, when_full: str) -> None:
        self.capacity = capacity
        self.when_full = when_full
        self.queue: deque[bytes] = deque()
        self.taken: list[bytes] = []
        self.written: list[bytes] = []
        self.dropped = self.refused = 0

    def put(self, payload: bytes) -> None:
        if len(self.queue) < self.capacity:
            self.queue.append(payload)
        elif self.when_full == "raise":
            self.refused += 1
        else:
            self.dropped += 1
            if self.when_full == "drop_oldest":
                self.queue.popleft()
                self.queue.append(payload)
        if not self.taken:
            self.take()

    def take(self) -> None:
        self.taken = list(itertools.islice(self.queue, 256))
        for _ in self.taken:
            self.queue.popleft()

    def write(self) -> None:
        self.written += self.taken
        self.take()


@given(
    st.integers(1, 5),
    st.sampled_from(["drop_newest", "drop_oldest", "raise"]),
    st.lists(st.sampled_from(["put", "put", "put", "write"]), max_size=60),
)
def test_queue_does_what_the_model_does(capacity: int, when_full: Any, steps: list[str]) -> None:
    model = Model(capacity, when_full)
    writer = GatedWriter()
    threaded = ThreadedWriter(writer, capacity, when_full, flush_interval=0)
    for number, step in enumerate(steps):
        if step == "put":
            was_idle = not model.taken
            payload = b"%d" % number
            model.put(payload)
            try:
                threaded.write_payload(payload)
            except BlockingIOError:
                assert when_full == "raise"
            if was_idle:
                assert writer.wait_for_entry() == model.taken
        elif model.taken:
            model.write()
            writer.open()
            if model.taken:
                assert writer.wait_for_entry() == model.taken
            else:
                wait_until(lambda: threaded._is_asleep)
        assert threaded.dropped == model.dropped
        assert threaded.queued == len(model.queue) + len(model.taken)
    while model.taken:
        model.write()
    assert finish(writer, threaded) == model.written
    assert threaded.frames_written == len(model.written)


# Episodes of drops


def test_episode_of_drops_has_a_line_at_its_begin_and_one_at_its_end(log: list[str]) -> None:
    writer, threaded = gated(2, "drop_newest")
    threaded.write_payloads([B, C])
    assert log == []
    threaded.write_payloads([D, E])
    (first,) = log
    assert "the queue is full (2 payloads), and payloads are dropped (drop_newest)" in first
    writer.open(2)
    wait_until(lambda: len(log) == 2)
    assert "the queue is empty again; 2 payloads were dropped in " in log[1]
    # Another one.
    wait_until(lambda: threaded._is_asleep)
    threaded.write_payload(A)
    writer.wait_for_entry()
    writer.wait_for_entry()
    threaded.write_payloads([B, C, D])
    assert (threaded.dropped, threaded.drop_episodes) == (3, 2)
    finish(writer, threaded)
    assert len(log) == 4
    assert "; 1 payloads were dropped in " in log[3]
    assert all(line.startswith("WARNING ") for line in log)


def test_episode_goes_on_while_the_queue_is_not_empty() -> None:
    writer, threaded = gated(1, "drop_oldest")
    for _ in range(5):
        threaded.write_payloads([B, C])
        writer.open()
        writer.wait_for_entry()
    assert (threaded.dropped, threaded.drop_episodes) == (5, 1)
    finish(writer, threaded)


# What is put


def test_what_is_no_bytes_is_copied_at_the_put() -> None:
    writer, threaded = gated(10, "raise")
    changing = bytearray(b"before")
    numbers = array.array("i", [1, 2, 3])
    before = numbers.tobytes()
    for payload in (changing, memoryview(changing)[1:], numbers):
        threaded.write_payload(payload)
    changing[:] = b"behind"
    numbers[0] = 9
    assert finish(writer, threaded) == [A, b"before", b"efore", before]


@in_one_test
@pytest.mark.parametrize(
    "payload", ["text", 5, None, memoryview(b"strided")[::2]], ids=["text", "number", "None", "strided"]
)
def test_payload_is_refused_at_the_put_with_the_error_of_a_stream_writer(payload: Any) -> None:
    errors = []
    with StreamWriter(io.BytesIO()) as plain, ThreadedWriter(StreamWriter(io.BytesIO()), 1) as threaded:
        for writer in (plain, threaded):
            with pytest.raises((TypeError, BufferError)) as caught:
                writer.write_payload(payload)
            errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


class Item:
    def __init__(self, text: str) -> None:
        self.text = text

    def serialize(self, builder: Any) -> None:
        if self.text:
            builder.Finish(builder.CreateString(self.text))


def test_items_and_builders_become_the_messages_that_a_stream_writer_makes() -> None:
    def fill(writer: Any) -> None:
        writer.write("text")
        writer.write(Item("x" * 10_000))
        writer.write_batch(["one", Item("two")])
        for builder in (Builder(16), flatbuffers.Builder(16)):
            builder.Finish(builder.CreateString("finished"))
            writer.write_finished(builder)
            writer.write_message(builder)
            builder.Finish(builder.CreateString("again"))
            writer.write_finished(builder)

    plain, threaded = io.BytesIO(), io.BytesIO()
    with StreamWriter(plain, "crc32") as writer:
        fill(writer)
    with ThreadedWriter(StreamWriter(threaded, "crc32"), 100) as queue:
        fill(queue)
    assert plain.getvalue() == threaded.getvalue()


def finished_with_prefix() -> Any:
    builder = flatbuffers.Builder(64)
    builder.StartObject(1)
    builder.PrependInt32Slot(0, 5, 0)
    builder.FinishSizePrefixed(builder.EndObject())
    return builder


@in_one_test
@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("write", 5),
        ("write", Item),
        ("write", Item("")),
        ("write_batch", "text"),
        ("write_payloads", b"abc"),
        ("write_finished", Builder(16)),
        ("write_finished", object()),
        ("write_message", flatbuffers.Builder(16)),
        ("write_finished", finished_with_prefix()),
    ],
)
def test_wrong_item_or_builder_has_the_error_of_a_stream_writer(method: str, argument: Any) -> None:
    errors = []
    with StreamWriter(io.BytesIO()) as plain, ThreadedWriter(StreamWriter(io.BytesIO()), 1) as threaded:
        for writer in (plain, threaded):
            with pytest.raises((TypeError, FlatbufferError)) as caught:
                getattr(writer, method)(argument)
            errors.append((caught.type, getattr(caught.value, "message", str(caught.value))))
        assert threaded.queued == 0
    assert errors[0] == errors[1]
    assert getattr(caught.value, "offset", None) is None


def test_builders_are_those_of_the_writer() -> None:
    made = []

    def make(capacity: int) -> Any:
        made.append(capacity)
        return flatbuffers.Builder(capacity)

    with ThreadedWriter(StreamWriter(io.BytesIO(), make_builder=make, capacity=77), 10) as threaded:
        threaded.write_batch(["one", "two"])
        # One that has grown is not kept.
        threaded.write("x" * 2_000_000)
        threaded.write("three")
    assert made == [77, 77]


def test_item_may_write_another_one_while_it_is_built() -> None:
    class Nested:
        def serialize(self, builder: Any) -> None:
            threaded.write("inner")
            builder.Finish(builder.CreateString("outer"))

    sink = io.BytesIO()
    with ThreadedWriter(StreamWriter(sink), 10) as threaded:
        threaded.write(Nested())
    assert [bytes(payload)[8:13] for payload in StreamReader(sink.getvalue())] == [b"inner", b"outer"]


# Many producers


@switching
@pytest.mark.parametrize("capacity", [1, 7, 10_000])
def test_many_producers_lose_nothing_and_keep_their_order(capacity: int) -> None:
    sink = io.BytesIO()
    threaded = ThreadedWriter(StreamWriter(sink, "crc32"), capacity)
    count = 300

    def produce(producer: int) -> None:
        for number in range(count):
            threaded.write_payload(b"%d:%d" % (producer, number))
            if number % 100 == 50:
                threaded.flush()

    run_threads(*(lambda producer=producer: produce(producer) for producer in range(6)))
    threaded.close()
    found: dict[bytes, list[int]] = {}
    for payload in StreamReader(sink.getvalue(), "crc32"):
        producer, number = bytes(payload).split(b":")
        found.setdefault(producer, []).append(int(number))
    assert list(found.values()) == [list(range(count))] * 6


@switching
@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest", "raise"])
def test_every_payload_of_many_producers_is_written_or_counted(when_full: Any) -> None:
    sink = io.BytesIO()
    threaded = ThreadedWriter(StreamWriter(sink), 5, when_full)
    refused: list[int] = []

    def produce(producer: int) -> None:
        for number in range(500):
            try:
                threaded.write_payload(b"%d:%d" % (producer, number))
            except BlockingIOError:
                refused.append(number)

    run_threads(*(lambda producer=producer: produce(producer) for producer in range(4)))
    threaded.close()
    assert threaded.frames_written + threaded.dropped + len(refused) == 2000
    assert len(list(StreamReader(sink.getvalue()))) == threaded.frames_written
    assert bool(refused) <= (when_full == "raise")


@switching
def test_close_ends_the_producers_and_loses_nothing_that_was_accepted() -> None:
    sink = io.BytesIO()
    threaded = ThreadedWriter(StreamWriter(sink), 3)
    accepted = [0] * 4

    def produce(producer: int) -> None:
        with contextlib.suppress(ValueError):
            while True:
                threaded.write_payload(b"%d" % producer)
                accepted[producer] += 1

    def close() -> None:
        wait_until(lambda: all(count > 10 for count in accepted))
        threaded.close()

    run_threads(close, *(lambda producer=producer: produce(producer) for producer in range(4)))
    written = [bytes(payload) for payload in StreamReader(sink.getvalue())]
    assert [written.count(b"%d" % producer) for producer in range(4)] == accepted


# Flushing


def test_buffer_is_flushed_within_the_interval() -> None:
    sink = io.BytesIO()
    with ThreadedWriter(StreamWriter(sink), 100, flush_interval=0.02) as threaded:
        threaded.write_payload(A)
        wait_until(sink.getvalue)
        threaded.write_payload(B)
        wait_until(lambda: len(sink.getvalue()) == 10)


def test_thread_wakes_for_half_a_queue_and_not_for_each_put() -> None:
    writer = GatedWriter()
    writer.open(1000)
    threaded = ThreadedWriter(writer, 20, flush_interval=3600)
    threaded.write_payload(A)
    wait_until(lambda: threaded._is_asleep and threaded.frames_written)
    for number in range(9):
        threaded.write_payload(b"%d" % number)
    assert len(writer.batches) == 1
    threaded.write_payload(B)
    wait_until(lambda: threaded.frames_written == 11)
    assert writer.memory.getvalue() == b""
    threaded.flush()
    assert len(writer.memory.getvalue()) == 55
    threaded.close()


def test_sync_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    path = tmp_path / "stream"
    monkeypatch.setattr("os.fdatasync", lambda fd: synced.append(path.read_bytes()))
    with ThreadedWriter(StreamWriter(path), 10) as threaded:
        threaded.write_payload(A)
        threaded.sync()
        assert synced == [reference.encode([A], "none")]


def test_sync_of_what_is_no_file_is_refused_and_the_thread_goes_on() -> None:
    sink = io.BytesIO()
    with ThreadedWriter(StreamWriter(sink), 10) as threaded:
        threaded.write_payload(A)
        with pytest.raises(io.UnsupportedOperation, match="the sink has no file to sync"):
            threaded.sync()
        threaded.write_payload(B)
    assert sink.getvalue() == reference.encode([A, B], "none")


# Arguments and state


@in_one_test
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"writer": io.BytesIO()}, TypeError, "writer must be a StreamWriter, got <_io.BytesIO"),
        ({"capacity": 0}, ValueError, "capacity must be at least 1, got 0"),
        ({"capacity": 1.5}, TypeError, "capacity must be"),
        (
            {"when_full": "wait"},
            ValueError,
            "when_full must be one of block, drop_newest, drop_oldest, raise; got 'wait'",
        ),
        ({"flush_interval": -1}, ValueError, "flush_interval must be a finite number of seconds, at least 0, got -1"),
        ({"flush_interval": "1"}, TypeError, "flush_interval must be a number of seconds, got '1'"),
    ],
)
def test_wrong_argument_is_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with StreamWriter(io.BytesIO()) as writer, pytest.raises(error, match=text):
        ThreadedWriter(**{"writer": writer, "capacity": 5, **arguments})


def test_closed_writer_is_refused() -> None:
    writer = StreamWriter(io.BytesIO())
    writer.close()
    with pytest.raises(ValueError, match="the writer is closed"):
        ThreadedWriter(writer, 5)


def test_closed_threaded_writer_refuses_everything_but_close() -> None:
    threaded = ThreadedWriter(StreamWriter(io.BytesIO(), ChecksumFramer(Crc32())), 5)
    threaded.close()
    functions: list[Callable[[], None]] = [
        lambda: threaded.write_payload(A),
        lambda: threaded.write("x"),
        threaded.flush,
        threaded.sync,
    ]
    for function in functions:
        with pytest.raises(ValueError, match="this ThreadedWriter is closed"):
            function()
    threaded.close()
    assert not threaded._thread.is_working()
    assert repr(threaded) == "<ThreadedWriter over <StreamWriter closed, 0 frames>>"


@in_one_test
@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_wrong_timeout_is_refused(timeout: Any) -> None:
    with ThreadedWriter(StreamWriter(io.BytesIO()), 5) as threaded:
        for function in (threaded.flush, threaded.sync):
            with pytest.raises((TypeError, ValueError), match="timeout must be a"):
                function(timeout)
        threaded.write_payload(A)

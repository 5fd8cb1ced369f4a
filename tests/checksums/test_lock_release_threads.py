"""What other threads do to a writer or reader while a checksum is calculated with the lock released."""

from __future__ import annotations

import collections
import contextlib
import io
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    Crc16,
    Crc32,
    StreamReader,
    StreamWriter,
    XxHash64,
)
from reference import framing as reference
from support.bystander import (
    ATTEMPTING,
    CRCS,
    LARGE,
    LARGE_VALUE,
    PATIENCE,
    QUICK,
    RELEASE_FROM,
    Bystander,
    Discard,
    frame,
)
from support.extent import in_one_test
from support.items import FinishedBytes
from support.sinks import PlainSink
from support.threads import run_threads, switching

pytestmark = pytest.mark.usefixtures("quick_reference")


# An operation, what another thread does meanwhile, and what the test looks at afterwards.
Attempt = tuple[Callable[[], Any], Callable[[], Any], tuple[Any, ...]]


def during(bystander: Bystander, start: Callable[[], Attempt]) -> tuple[Any, Any, tuple[Any, ...]]:
    """What an operation and an action of another thread give when the action begins while the operation calculates.

    ``start()`` makes everything anew for an attempt. The operation must not let go of the lock but to calculate.
    """
    deadline = time.monotonic() + ATTEMPTING
    while True:
        operation, action, rest = start()
        bystander.wake(action)
        result = operation()
        hit = bystander.began
        outcome = bystander.outcome()
        if hit:
            return result, outcome, rest
        assert time.monotonic() < deadline, "the lock was never released"
        for thing in rest:
            if isinstance(thing, StreamWriter):
                thing.close()


# What others do meanwhile


def test_counter_of_another_thread_grows_while_a_checksum_is_calculated(bystander):
    # More than a turn: without the lock the other thread goes on, and gives its turn back each time.
    counted: list[int] = []

    def start() -> Attempt:
        counted.clear()
        stop: list[int] = []

        def count() -> int:
            number = 0
            while not stop:
                number += 1
                counted.append(number)
                # Long enough for the other thread to take its turn.
                time.sleep(1e-5)
            return number

        def calculate() -> int:
            before = len(counted)
            Crc16().calculate(LARGE)
            grown = len(counted) - before
            stop.append(1)
            return grown

        return calculate, count, ()

    grown, number, _ = during(bystander, start)
    assert 1 <= grown <= number


def test_small_frame_written_by_another_thread_follows_the_large_one(bystander):
    def start() -> Attempt:
        sink = PlainSink()
        writer = StreamWriter(sink, Crc32())
        seen: list[int] = []

        def write_small() -> None:
            seen.append(writer.frames_written)
            writer.write_payload(b"small")

        return lambda: writer.write_payload(LARGE), write_small, (writer, sink, seen)

    result, outcome, (writer, sink, seen) = during(bystander, start)
    writer.close()
    # The large one was not accepted yet when the small one came, and still is the first.
    assert (result, outcome, seen) == (None, None, [0])
    assert writer.frames_written == 2
    assert sink.arrived() == reference.encode([LARGE, b"small"], "crc32")


@pytest.mark.parametrize("how", ["write_payload", "write_payloads", "write_large", "write", "write_finished"])
def test_frame_of_any_kind_written_by_another_thread_follows_the_large_one(bystander, how):
    text = b"\x04\0\0\0\x04\0\0\0text\0\0\0\0"
    other = LARGE[: RELEASE_FROM + 5]
    actions: dict[str, tuple[Callable[[StreamWriter], Any], list[bytes]]] = {
        "write_payload": (lambda writer: writer.write_payload(b"small"), [b"small"]),
        "write_payloads": (lambda writer: writer.write_payloads([b"a", other, b"b"]), [b"a", other, b"b"]),
        "write_large": (lambda writer: writer.write_payload(other), [other]),
        "write": (lambda writer: writer.write("text"), [text]),
        "write_finished": (lambda writer: writer.write_finished(FinishedBytes(b"built")), [b"built"]),
    }
    act, payloads = actions[how]

    def start() -> Attempt:
        sink = PlainSink()
        writer = StreamWriter(sink, Crc32(), buffer_size=4096)
        return lambda: writer.write_payload(LARGE), lambda: act(writer), (writer, sink)

    result, outcome, (writer, sink) = during(bystander, start)
    writer.close()
    assert (result, outcome) == (None, None)
    assert sink.arrived() == reference.encode([LARGE, *payloads], "crc32")


def test_large_frame_of_many_given_in_one_call_is_not_torn_by_another_thread(bystander):
    def start() -> Attempt:
        sink = PlainSink()
        writer = StreamWriter(sink, Crc32())
        payloads = [b"before", LARGE, b"after"]
        return lambda: writer.write_payloads(payloads), lambda: writer.write_payload(b"between"), (writer, sink)

    _, outcome, (writer, sink) = during(bystander, start)
    writer.close()
    assert outcome is None
    # Between two frames of one call another thread may have its turn, but not before a frame that has begun.
    payloads = reference.decode(sink.arrived(), "crc32").payloads
    assert payloads in (
        [b"before", LARGE, b"between", b"after"],
        [b"before", LARGE, b"after", b"between"],
    )


def test_list_emptied_by_another_thread_while_one_of_its_payloads_is_written_leaves_that_one_whole(bystander):
    def start() -> Attempt:
        sink = PlainSink()
        writer = StreamWriter(sink, Crc32())
        # Nobody else knows them, so that what the list lets go of would be freed.
        payloads = [bytes([number]) * (1 << 24) for number in range(2)]
        return lambda: writer.write_payloads(payloads), payloads.clear, (writer, sink)

    _, outcome, (writer, sink) = during(bystander, start)
    writer.close()
    assert outcome is None
    # Which of the two it was is the operating system's decision.
    assert reference.decode(sink.arrived(), "crc32").payloads in (
        [bytes(1 << 24)],
        [bytes(1 << 24), b"\1" * (1 << 24)],
    )


def test_properties_read_by_another_thread_during_a_large_write_are_those_before_it(bystander):
    def start() -> Attempt:
        writer = StreamWriter(Discard(), Crc32())
        writer.write_payload(b"first")

        def look() -> tuple[Any, ...]:
            return (
                writer.frames_written,
                writer.bytes_written,
                writer.pending_bytes,
                writer.closed,
                repr(writer)[-10:],
            )

        return lambda: writer.write_payload(LARGE), look, (writer,)

    _, outcome, (writer,) = during(bystander, start)
    assert outcome == (1, 13, 13, False, " 1 frames>")
    assert (writer.frames_written, writer.bytes_written) == (2, 13 + 8 + len(LARGE))
    writer.close()


def test_payload_resized_by_another_thread_during_the_write_raises_buffer_error_and_is_free_afterwards(bystander):
    def start() -> Attempt:
        sink = PlainSink()
        writer = StreamWriter(sink, Crc32())
        payload = bytearray(LARGE)
        return lambda: writer.write_payload(payload), payload.clear, (writer, sink, payload)

    _, outcome, (writer, sink, payload) = during(bystander, start)
    assert isinstance(outcome, BufferError)
    payload.clear()
    writer.close()
    assert sink.arrived() == frame(LARGE)


@pytest.mark.parametrize(
    "operation",
    [
        lambda payload: Crc32().calculate(payload),
        lambda payload: Crc32().extend(0, payload),
        lambda payload: Crc32().verify(LARGE_VALUE, payload),
    ],
    ids=["calculate", "extend", "verify"],
)
def test_payload_resized_during_a_calculation_raises_buffer_error_and_is_free_afterwards(bystander, operation):
    def start() -> Attempt:
        payload = bytearray(LARGE)
        return lambda: operation(payload), payload.clear, (payload,)

    result, outcome, (payload,) = during(bystander, start)
    assert isinstance(outcome, BufferError)
    assert result in (None, LARGE_VALUE)
    payload.clear()


@pytest.mark.parametrize("how", ["read_message", "read_batch"])
def test_source_resized_by_another_thread_during_a_read_raises_buffer_error_and_is_free_when_it_is_closed(
    bystander, how
):
    def start() -> Attempt:
        source = bytearray(frame(LARGE))
        reader = StreamReader(source, Crc32())
        return getattr(reader, how), source.clear, (reader, source)

    result, outcome, (reader, source) = during(bystander, start)
    assert isinstance(outcome, BufferError)
    assert (result if how == "read_message" else result[0]) == LARGE
    del result
    reader.close()
    source.clear()


# Closing


@pytest.mark.parametrize("ending", ["close", "detach"])
@pytest.mark.parametrize("buffer_size", [0, 65_536, 1 << 25])
def test_writer_closed_by_another_thread_during_a_large_write_takes_it_first(bystander, buffer_size, ending):
    def start() -> Attempt:
        sink = PlainSink()
        writer = StreamWriter(sink, Crc32(), buffer_size=buffer_size)
        writer.write_payload(b"first")
        seen: list[Any] = []

        def end() -> Any:
            seen.append(writer.frames_written)
            result = getattr(writer, ending)()
            seen.append(writer.frames_written)
            return result

        return lambda: writer.write_payload(LARGE), end, (writer, sink, seen)

    result, outcome, (writer, sink, seen) = during(bystander, start)
    assert (result, outcome) == (None, sink if ending == "detach" else None)
    assert seen == [1, 2]
    assert writer.closed
    with pytest.raises(ValueError, match="closed"):
        writer.write_payload(LARGE)
    with pytest.raises(ValueError, match="closed"):
        writer.write_payload(b"late")
    assert sink.arrived() == reference.encode([b"first", LARGE], "crc32")


def test_file_closed_by_another_thread_during_a_large_write_has_the_frame(bystander, tmp_path):
    numbers = iter(range(1000))

    def start() -> Attempt:
        path = tmp_path / f"{next(numbers)}.fs"
        # All of it stays in the buffer until it is closed: to write a file would let go of the lock.
        writer = StreamWriter(path, Crc32(), buffer_size=1 << 25)
        return lambda: writer.write_payload(LARGE), writer.close, (writer, path)

    result, outcome, (writer, path) = during(bystander, start)
    assert (result, outcome, writer.closed) == (None, None, True)
    assert path.read_bytes() == frame(LARGE)


def test_writer_closed_by_two_threads_at_once_is_closed_without_an_error():
    # The second comes while the first hands over the large frame, and waits for its turn: then there is nothing left to
    # do, as with any second close.
    writing, go_on = threading.Event(), threading.Event()

    class Sink(PlainSink):
        def write(self, data: Any) -> None:
            writing.set()
            assert go_on.wait(PATIENCE)
            super().write(data)

    sink = Sink()
    writer = StreamWriter(sink, Crc32(), buffer_size=1 << 25)
    writer.write_payload(LARGE)

    def close_second() -> None:
        assert writing.wait(PATIENCE)
        # This cannot be waited for: that the second has asked for its turn.
        threading.Timer(0.05, go_on.set).start()
        writer.close()

    run_threads(writer.close, close_second)
    assert writer.closed
    assert sink.arrived() == frame(LARGE)


@pytest.mark.parametrize("how", ["read_message", "read_batch", "iteration"])
@pytest.mark.parametrize("ending", ["close", "detach"])
def test_reader_closed_by_another_thread_during_a_large_read_gives_the_frame_first(bystander, ending, how):
    def start() -> Attempt:
        reader = StreamReader(frame(LARGE) + frame(b"unread"), Crc32())
        reads: dict[str, Callable[[], Any]] = {
            "read_message": reader.read_message,
            "read_batch": lambda: reader.read_batch(1)[0],  # type: ignore[index]
            "iteration": lambda: next(reader),
        }
        seen: list[int] = []

        def end() -> Any:
            seen.append(reader.frames_read)
            return getattr(reader, ending)()

        return reads[how], end, (reader, seen)

    result, outcome, (reader, seen) = during(bystander, start)
    assert seen == [0]
    assert result == LARGE
    assert reader.closed
    assert reader.frames_read == 1
    if ending == "detach":
        assert bytes(outcome[1]) == frame(b"unread")
    with pytest.raises(ValueError, match="closed"):
        reader.read_message()


# Readers


def test_frame_read_by_another_thread_is_the_one_behind_the_large_one(bystander):
    def start() -> Attempt:
        reader = StreamReader(frame(LARGE) + frame(b"second") + frame(b"third"), Crc32())
        return reader.read_message, reader.read_message, (reader,)

    result, outcome, (reader,) = during(bystander, start)
    assert result == LARGE
    assert outcome == b"second"
    assert reader.read_message() == b"third"
    assert reader.read_message() is None


def test_batch_read_by_another_thread_begins_behind_the_one_that_is_being_read(bystander):
    payloads = [number.to_bytes(4, "little") * 1024 for number in range(6000)]
    stream = b"".join(map(frame, payloads))

    def start() -> Attempt:
        reader = StreamReader(stream, Crc32())
        return lambda: reader.read_batch(4000), lambda: reader.read_batch(1500), (reader,)

    result, outcome, (reader,) = during(bystander, start)
    assert [bytes(view) for view in result] == payloads[:4000]
    assert [bytes(view) for view in outcome] == payloads[4000:5500]
    assert [bytes(view) for view in reader] == payloads[5500:]
    assert reader.frames_read == 6000


def test_damaged_large_frame_is_refused_in_the_thread_that_read_it_and_the_other_gets_the_next(bystander):
    damaged = bytearray(frame(LARGE))
    damaged[-1] ^= 1

    def start() -> Attempt:
        reader = StreamReader(bytes(damaged) + frame(b"second"), Crc32())

        def read() -> Any:
            try:
                return reader.read_message()
            except ChecksumMismatchError as error:
                return error

        return read, reader.read_message, (reader,)

    result, outcome, (reader,) = during(bystander, start)
    assert isinstance(result, ChecksumMismatchError)
    assert (result.offset, result.frame, result.expected) == (0, 0, LARGE_VALUE)
    assert result.calculated == zlib.crc32(LARGE[1:] + b"\1")
    assert outcome == b"second"
    assert reader.read_message() is None


# Calls from inside a call


def test_observer_that_writes_to_its_own_writer_is_refused_while_another_thread_waits(bystander):
    def start() -> Attempt:
        sink = PlainSink()
        errors: list[Exception] = []

        def write_again(payload: memoryview) -> None:
            if len(payload) == len(LARGE):
                # Here the other thread asks for the writer.
                Crc32().calculate(payload)
                for again in (b"inner", LARGE):
                    try:
                        writer.write_payload(again)
                    except RuntimeError as error:
                        errors.append(error)

        writer = StreamWriter(sink, ChecksumFramer(Crc32()).observed(write_again))
        return lambda: writer.write_payload(LARGE), lambda: writer.write_payload(b"other"), (writer, sink, errors)

    result, outcome, (writer, sink, errors) = during(bystander, start)
    writer.close()
    expected = "reentrant call: this StreamWriter is in the middle of another operation"
    assert [str(error) for error in errors] == [expected] * 2
    assert (result, outcome) == (None, None)
    assert sink.arrived() == reference.encode([LARGE, b"other"], "crc32")


@pytest.mark.parametrize("use", ["read_message", "read_batch", "close"])
def test_observer_that_uses_its_own_reader_is_refused_though_the_lock_was_released_before(bystander, use):
    # The observer is called after the checksum was compared: another thread has asked for the reader meanwhile, and it
    # is still this one's.
    def start() -> Attempt:
        errors: list[Exception] = []

        def use_again(payload: memoryview) -> None:
            if len(payload) == len(LARGE):
                try:
                    getattr(reader, use)()
                except RuntimeError as error:
                    errors.append(error)

        reader = StreamReader(frame(LARGE) + frame(b"second"), ChecksumDeframer(Crc32()).observed(use_again))
        return reader.read_message, reader.read_message, (reader, errors)

    result, outcome, (_, errors) = during(bystander, start)
    assert [str(error) for error in errors] == [
        "reentrant call: this StreamReader is in the middle of another operation"
    ]
    assert result == LARGE
    assert outcome == b"second"


def test_observer_of_a_large_frame_that_fails_leaves_the_writer_to_the_thread_that_waits(bystander):
    def start() -> Attempt:
        sink = PlainSink()

        def fail(payload: memoryview) -> None:
            if len(payload) == len(LARGE):
                Crc32().calculate(payload)
                raise ZeroDivisionError

        writer = StreamWriter(sink, ChecksumFramer(Crc32()).observed(fail))

        def write() -> Any:
            try:
                writer.write_payload(LARGE)
            except ZeroDivisionError as error:
                return error

        return write, lambda: writer.write_payload(b"other"), (writer, sink)

    result, outcome, (writer, sink) = during(bystander, start)
    writer.close()
    assert isinstance(result, ZeroDivisionError)
    assert outcome is None
    assert sink.arrived() == frame(b"other")


# Threads that share a writer or a reader, with payloads above and below the size


THREADS = 3
FRAMES = 40
SIZES = [5, RELEASE_FROM - 1, 40_000, RELEASE_FROM, 0, 300_007, 700, 1_000_000, RELEASE_FROM + 1, 63]
FILLING = bytes(range(251)) * 4100


def payload_of(thread: int, number: int) -> bytes:
    """Says who wrote it and when; its size is one of those above, and more."""
    size = SIZES[(7 * thread + number) % len(SIZES)]
    return b"%d:%d:" % (thread, number) + FILLING[thread + number : thread + number + size]


EXPECTED = {(thread, number): payload_of(thread, number) for thread in range(THREADS) for number in range(FRAMES)}


def assert_all_there(stream: bytes, mode: str) -> None:
    """Every payload of every thread is in the stream, whole, once, and each thread's are in its order."""
    read = reference.decode(stream, mode)
    assert read.end == reference.Clean(len(stream))
    assert len(read.payloads) == len(read.outcomes) == THREADS * FRAMES
    numbers: dict[int, list[int]] = collections.defaultdict(list)
    for payload in read.payloads:
        thread, number = map(int, payload.split(b":", 2)[:2])
        assert payload == EXPECTED[thread, number]
        numbers[thread].append(number)
    assert numbers == {thread: list(range(FRAMES)) for thread in range(THREADS)}


every_quick_mode = pytest.mark.parametrize("mode", QUICK)
# Where every mode takes the same way: a small checksum and a large one.
two_quick_modes = pytest.mark.parametrize(
    "mode", [pytest.param(name, marks=[] if name in ("crc16", "xxhash64") else pytest.mark.long) for name in QUICK]
)


@switching
@in_one_test(step=3)
@pytest.mark.parametrize("how", ["write_payload", "write_payloads", "mixed"])
@pytest.mark.parametrize("buffer_size", [0, 65_536, 1 << 20])
@two_quick_modes
def test_threads_that_write_large_and_small_payloads_lose_repeat_and_tear_none(mode, buffer_size, how, tmp_path):
    path = tmp_path / "stream.fs"
    with StreamWriter(path, mode, buffer_size=buffer_size) as writer:

        def write(thread: int) -> None:
            if how == "write_payloads" or (how == "mixed" and thread == 0):
                for start in range(0, FRAMES, 8):
                    writer.write_payloads([EXPECTED[thread, number] for number in range(start, start + 8)])
                return
            for number in range(FRAMES):
                payload: Any = EXPECTED[thread, number]
                writer.write_payload(bytearray(payload) if how == "mixed" and number % 2 else payload)
                if number % 10 == 9:
                    writer.flush()

        run_threads(*(lambda thread=thread: write(thread) for thread in range(THREADS)))
        assert writer.frames_written == THREADS * FRAMES
    assert_all_there(path.read_bytes(), mode)


@switching
def test_thread_that_closes_a_writer_others_write_large_payloads_to_loses_no_accepted_frame():
    for attempt in range(5):
        sink = PlainSink()
        writer = StreamWriter(sink, Crc32())
        accepted = [0] * THREADS

        def write(thread: int, writer: StreamWriter = writer, accepted: list[int] = accepted) -> None:
            with contextlib.suppress(ValueError):
                for number in range(FRAMES):
                    writer.write_payload(EXPECTED[thread, number])
                    accepted[thread] += 1

        def close(writer: StreamWriter = writer, attempt: int = attempt) -> None:
            while writer.frames_written < 10 * attempt:
                time.sleep(0)
            writer.close()

        run_threads(close, *(lambda thread=thread: write(thread) for thread in range(THREADS)))
        read = reference.decode(sink.arrived(), "crc32")
        assert isinstance(read.end, reference.Clean)
        counts = collections.Counter(int(payload[: payload.index(b":")]) for payload in read.payloads)
        assert [counts[thread] for thread in range(THREADS)] == accepted
        for payload in read.payloads:
            thread, number = map(int, payload.split(b":", 2)[:2])
            assert payload == EXPECTED[thread, number]


@switching
@in_one_test(step=3)
@pytest.mark.parametrize("kind", ["memory", "file", "bytesio"])
@pytest.mark.parametrize("how", ["messages", "batches", "mixed"])
@two_quick_modes
def test_threads_that_read_large_and_small_frames_get_each_once(mode, how, kind, tmp_path):
    payloads = list(EXPECTED.values())
    stream = b"".join(reference.encode([payload], mode) for payload in payloads)
    source: Any = {"memory": stream, "bytesio": io.BytesIO(stream), "file": tmp_path / "stream.fs"}[kind]
    (tmp_path / "stream.fs").write_bytes(stream)
    received: list[list[memoryview]] = [[] for _ in range(THREADS)]
    with StreamReader(source, mode, capacity=500_000) as reader:

        def read(thread: int) -> None:
            if how == "batches" or (how == "mixed" and thread == 0):
                while (batch := reader.read_batch(3)) is not None:
                    received[thread].extend(batch)
            else:
                received[thread].extend(reader)

        run_threads(*(lambda thread=thread: read(thread) for thread in range(THREADS)))
        assert (reader.frames_read, reader.offset) == (len(payloads), len(stream))
    order = {payload: number for number, payload in enumerate(payloads)}
    numbers = [[order[bytes(view)] for view in mine] for mine in received]
    assert sorted(number for mine in numbers for number in mine) == list(range(len(payloads)))
    assert all(mine == sorted(mine) for mine in numbers)


@switching
def test_threads_that_read_a_damaged_stream_are_told_of_each_damaged_frame_once():
    payloads = list(EXPECTED.values())
    stream = bytearray()
    damaged = []
    for number, payload in enumerate(payloads):
        stream += frame(payload)
        if number % 7 == 3:
            stream[-1] ^= 1
            damaged.append(number)
    assert {len(payloads[number]) >= RELEASE_FROM for number in damaged} == {False, True}
    reader = StreamReader(bytes(stream), Crc32())
    received: list[list[bytes]] = [[] for _ in range(THREADS)]
    refused: list[int | None] = []

    def read(thread: int) -> None:
        while True:
            try:
                view = reader.read_message()
            except ChecksumMismatchError as error:
                refused.append(error.frame)
                continue
            if view is None:
                return
            received[thread].append(bytes(view))

    run_threads(*(lambda thread=thread: read(thread) for thread in range(THREADS)))
    assert sorted(refused) == damaged  # type: ignore[type-var]
    good = [payload for number, payload in enumerate(payloads) if number not in damaged]
    assert sorted(payload for mine in received for payload in mine) == sorted(good)


@switching
def test_one_checksum_used_by_many_threads_at_once_gives_each_its_value():
    # Its instances hold no state.
    checksums = {cls(): algorithm for cls, algorithm in zip([*CRCS, XxHash64], QUICK.values(), strict=True)}
    payloads = list(EXPECTED.values())[:30]
    expected: dict[Any, list[int]] = {
        checksum: [algorithm.calculate(p) for p in payloads] for checksum, algorithm in checksums.items()
    }
    wrong: list[Any] = []

    def calculate() -> None:
        for checksum, values in expected.items():
            if [checksum.calculate(payload) for payload in payloads] != values:
                wrong.append(checksum)

    run_threads(*[calculate] * 4)
    assert wrong == []

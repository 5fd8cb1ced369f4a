"""Checksums of large payloads are calculated with the interpreter's lock released, and of smaller ones never.

From 256 KiB on, other threads run while a checksum is calculated: alone, or for a frame that is written or read, or for
the many frames of a batch. The writer or reader that it is calculated for stays held meanwhile, so that whatever the
other threads do to it waits for its turn, and what they do to the bytes is refused.

How this is shown without looking at a clock: a thread that wants to run must wait until the running one lets go of the
lock, or until the switch interval is over. With an interval of a quarter of an hour only the former is left. So a
`Bystander` is woken up, which makes it wait for the lock, and the operation in question is repeated until the bystander
has run. If the lock is not released, that never happens, however often the operation is repeated; this is what the
tests of smaller payloads show. If it is, it happens as soon as the operating system lets the bystander run while a
calculation lasts, which with the payloads used here is at the first attempt or soon after.
"""

from __future__ import annotations

import binascii
import collections
import contextlib
import gc
import io
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import fastcrc
import google_crc32c
import pytest
import reference
from support import PlainSink
from test_concurrency import frequent_switches, run_threads, switching

from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    Crc16,
    Crc32,
    Crc32c,
    Crc64,
    DefaultDeframer,
    NoChecksum,
    StreamReader,
    StreamWriter,
    XxHash64,
    recover,
)
from flatstream._core.checksums import xxh3

__all__ = ["frequent_switches"]  # a fixture

# From this many bytes on the lock is released: RELEASE_FROM of flatstream/_core/checksum.pxd.
RELEASE_FROM = 262_144

# In seconds: how long to wait for a thread that should come to its end at once, and how long to go on with attempts of
# which the first should do.
PATIENCE = 60
ATTEMPTING = 5

# Longer than any run of the tests.
NO_FORCED_SWITCHES = 1000.0

CRCS = [Crc16, Crc32, Crc32c, Crc64]
# Where the xxhash package hides its C function, its Python function decides on the lock for itself.
CHECKSUMS = [*CRCS, XxHash64] if xxh3.KERNEL_NAME else CRCS

# Takes a millisecond or more, which is a long time for a thread that only waits for the lock.
LARGE = bytes(1 << 24)
LARGE_VALUE = zlib.crc32(LARGE)
BELOW = bytes(RELEASE_FROM - 1)

# The reference's own take a second for 256 KiB. These are others' as well.
QUICK = {
    "crc16": reference.Algorithm(2, lambda data: binascii.crc_hqx(data, 0)),
    "crc32": reference.Algorithm(4, zlib.crc32),
    "crc32c": reference.Algorithm(4, google_crc32c.value),
    "crc64": reference.Algorithm(8, fastcrc.crc64.xz),
    "xxhash64": reference.ALGORITHMS["xxhash64"],
}


@pytest.fixture(autouse=True)
def quick_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, algorithm in QUICK.items():
        monkeypatch.setitem(reference.ALGORITHMS, name, algorithm)


def frame(payload: bytes) -> bytes:
    """The frame of `payload` with its CRC-32."""
    return len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload


class Bystander:
    """A thread that runs when, and only when, the running one lets go of the interpreter's lock.

    `wake` has it wait for the lock, and then call a function. The thread that wakes it goes on and knows by `began`
    whether the other has run in the meantime. `outcome` lets go of the lock, waits for the function to return, and
    gives what it returned, or the exception that it raised.
    """

    def __init__(self) -> None:
        self.woken = threading.Lock()
        self.finished = threading.Lock()
        self.function: Callable[[], Any] | None = None
        self.began = False
        self.pending = False
        self.result: Any = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.interval = sys.getswitchinterval()

    def run(self) -> None:
        # Both locks are always locked, except to pass the turn on. The thread that waits in acquire() has let go of the
        # interpreter's lock, and asks for it when it wakes up.
        while True:
            self.woken.acquire()
            if self.function is None:
                return
            self.began = True
            try:
                self.result = self.function()
            except Exception as error:
                self.result = error
            self.finished.release()

    def __enter__(self) -> Bystander:
        # A finalizer might close a file, which releases the lock.
        gc.collect()
        gc.disable()
        sys.setswitchinterval(NO_FORCED_SWITCHES)
        self.woken.acquire()
        self.finished.acquire()
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.setswitchinterval(self.interval)
        gc.enable()
        if self.pending:
            self.outcome()
        self.function = None
        self.woken.release()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def wake(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.began = False
        self.pending = True
        self.woken.release()

    def outcome(self) -> Any:
        assert self.finished.acquire(timeout=PATIENCE), "the bystander waits for ever"
        self.pending = False
        return self.result

    def run_during(self, operation: Callable[[], Any]) -> None:
        """Repeats `operation` until the bystander, once woken, has run while it lasted."""
        deadline = time.monotonic() + ATTEMPTING
        while not self.began:
            assert time.monotonic() < deadline, "the lock was never released"
            operation()


@pytest.fixture
def bystander() -> Iterator[Bystander]:
    with Bystander() as made:
        yield made


def assert_released(bystander: Bystander, operation: Callable[[], Any]) -> None:
    """`operation` releases the lock."""
    bystander.wake(lambda: "ran")
    bystander.run_during(operation)
    assert bystander.outcome() == "ran"


def assert_not_released(bystander: Bystander, operation: Callable[[], Any], times: int) -> None:
    """`operation` does not release the lock, not once in `times`."""
    bystander.wake(lambda: "ran")
    for _ in range(times):
        operation()
    assert not bystander.began, "the lock was released"
    # It did want to run.
    bystander.run_during(lambda: Crc32().calculate(LARGE))
    assert bystander.outcome() == "ran"


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


class Discard:
    """A sink that takes everything and lets go of nothing."""

    def write(self, data: Any) -> int:
        return len(data)


# What the bystander shows


def test_bystander_runs_when_the_running_thread_sleeps(bystander):
    assert_released(bystander, lambda: time.sleep(0.001))


def test_bystander_does_not_run_while_the_running_thread_only_calculates_in_python(bystander):
    assert_not_released(bystander, lambda: sum(range(1000)), 2000)


# Where the lock is released


@pytest.mark.parametrize("size", [RELEASE_FROM, RELEASE_FROM + 1, len(LARGE)])
@pytest.mark.parametrize("cls", CHECKSUMS)
def test_calculation_from_256_kib_on_lets_other_threads_run(bystander, cls, size):
    payload = LARGE[:size]
    assert_released(bystander, lambda: cls().calculate(payload))


@pytest.mark.parametrize("size", [0, 1, 4096, RELEASE_FROM - 1])
@pytest.mark.parametrize("cls", CHECKSUMS)
def test_calculation_below_256_kib_does_not_let_other_threads_run(bystander, cls, size):
    payload = LARGE[:size]
    assert_not_released(bystander, lambda: cls().calculate(payload), 1000)


@pytest.mark.parametrize("size", [RELEASE_FROM, len(LARGE)])
@pytest.mark.parametrize("cls", CRCS)
def test_extension_from_256_kib_on_lets_other_threads_run(bystander, cls, size):
    payload = LARGE[:size]
    assert_released(bystander, lambda: cls().extend(0, payload))


@pytest.mark.parametrize("cls", CRCS)
def test_extension_below_256_kib_does_not_let_other_threads_run(bystander, cls):
    assert_not_released(bystander, lambda: cls().extend(0, BELOW), 1000)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_calculation_of_other_buffers_lets_other_threads_run(bystander, kind):
    payload = kind(LARGE)
    assert_released(bystander, lambda: Crc32().calculate(payload))


def test_verification_of_a_large_payload_lets_other_threads_run(bystander):
    assert_released(bystander, lambda: Crc32().verify(LARGE_VALUE, LARGE))


WRITES: dict[str, Callable[[StreamWriter, bytes], Any]] = {
    "write_payload": lambda writer, payload: writer.write_payload(payload),
    "write_payload_of_bytearray": lambda writer, payload: writer.write_payload(bytearray(payload)),
    "write_payloads_of_list": lambda writer, payload: writer.write_payloads([b"small", payload, b"small"]),
    "write_payloads_of_iterator": lambda writer, payload: writer.write_payloads(iter([b"small", payload, b"small"])),
    "write_finished": lambda writer, payload: writer.write_finished(Finished(payload)),
    "_write_built": lambda writer, payload: writer._write_built(Finished, payload),
}


class Finished:
    """What a writer asks of a builder that has finished `payload`."""

    finished = True

    def __init__(self, payload: bytes) -> None:
        self.Bytes = payload

    def Head(self) -> int:  # noqa: N802 - flatbuffers' name
        return 0


FRAMERS: dict[str, Callable[[], Any]] = {
    "crc32": lambda: ChecksumFramer(Crc32()),
    "bounded": lambda: ChecksumFramer(Crc32()).bounded(1 << 30),
    "observed": lambda: ChecksumFramer(Crc32()).observed(len),
}

# Smaller than the payloads, and larger than all of them.
BUFFER_SIZES = [0, 65_536, 1 << 25]


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
@pytest.mark.parametrize("framer", FRAMERS)
@pytest.mark.parametrize("how", WRITES)
def test_write_of_a_large_payload_lets_other_threads_run(bystander, how, framer, buffer_size):
    with StreamWriter(Discard(), FRAMERS[framer](), buffer_size=buffer_size) as writer:

        def write() -> None:
            WRITES[how](writer, LARGE)
            # So that the next attempt finds the buffer empty as well.
            writer.flush()

        assert_released(bystander, write)


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
@pytest.mark.parametrize("framer", FRAMERS)
@pytest.mark.parametrize("how", WRITES)
def test_write_of_payloads_below_256_kib_does_not_let_other_threads_run(bystander, how, framer, buffer_size):
    with StreamWriter(Discard(), FRAMERS[framer](), buffer_size=buffer_size) as writer:
        assert_not_released(bystander, lambda: WRITES[how](writer, BELOW), 200)


def test_write_of_a_large_payload_without_a_checksum_does_not_let_other_threads_run(bystander):
    # There is nothing to calculate.
    with StreamWriter(Discard()) as writer:
        assert_not_released(bystander, lambda: writer.write_payload(LARGE), 200)


def read_message(stream: bytes) -> None:
    assert StreamReader(stream, Crc32()).read_message() is not None


def iterate(stream: bytes) -> None:
    for _ in StreamReader(stream, Crc32()):
        pass


READS: dict[str, Callable[[bytes], Any]] = {
    "read_message": read_message,
    "iteration": iterate,
    "process_all": lambda stream: StreamReader(stream, Crc32()).process_all(len),
    "read_batch": lambda stream: StreamReader(stream, Crc32()).read_batch(),
    "batches": lambda stream: list(StreamReader(stream, Crc32()).batches(1)),
    "bounded": lambda stream: StreamReader(stream, ChecksumDeframer(Crc32()).bounded(1 << 30)).read_message(),
    "observed": lambda stream: StreamReader(stream, ChecksumDeframer(Crc32()).observed(len)).read_message(),
    "from_memory_of_its_own": lambda stream: StreamReader(Memory(stream), Crc32()).read_message(),
    "recover": lambda stream: recover(stream, Crc32()),
}


class Memory:
    """A source that copies, and lets go of nothing."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), len(self.data))
        buffer[:size] = self.data[:size]
        self.data = self.data[size:]
        return size


@pytest.mark.parametrize("how", READS)
def test_read_of_a_large_frame_lets_other_threads_run(bystander, how):
    stream = frame(LARGE)
    assert_released(bystander, lambda: READS[how](stream))


@pytest.mark.parametrize("how", READS)
def test_read_of_a_frame_below_256_kib_does_not_let_other_threads_run(bystander, how):
    stream = frame(BELOW)
    assert_not_released(bystander, lambda: READS[how](stream), 200)


@pytest.mark.parametrize("how", [how for how in READS if how not in ("read_batch", "batches")])
def test_read_of_many_small_frames_one_by_one_does_not_let_other_threads_run(bystander, how):
    stream = frame(LARGE[:4096]) * 1000
    assert_not_released(bystander, lambda: READS[how](stream), 10)


def test_read_of_a_large_frame_without_a_checksum_does_not_let_other_threads_run(bystander):
    stream = len(LARGE).to_bytes(4, "little") + LARGE
    assert_not_released(bystander, lambda: StreamReader(stream).read_message(), 500)


# Batches


def batch(stream: bytes, deframer: Any = None, **limits: int) -> int:
    found = StreamReader(stream, deframer or Crc32()).read_batch(**limits)
    assert found is not None
    return len(found)


def test_batch_of_many_small_frames_lets_other_threads_run(bystander):
    stream = frame(LARGE[:4096]) * 4000
    assert batch(stream) == 4000
    assert_released(bystander, lambda: batch(stream))


def test_batch_of_a_large_frame_behind_a_large_frame_lets_other_threads_run(bystander):
    # The first is found in another way than those behind it, so that the lock may have been released for that alone.
    stream = frame(LARGE[:RELEASE_FROM]) + frame(LARGE)
    assert batch(stream, max_frames=2) == 2
    assert_released(bystander, lambda: batch(stream, max_frames=2))


@pytest.mark.parametrize("max_frames", [2, 100, None])
def test_batch_of_a_large_frame_behind_a_small_one_lets_other_threads_run(bystander, max_frames):
    stream = frame(b"small") + frame(LARGE)
    limits = {} if max_frames is None else {"max_frames": max_frames}
    assert batch(stream, **limits) == 2
    assert_released(bystander, lambda: batch(stream, **limits))


def test_batch_of_many_frames_behind_a_tiny_one_lets_other_threads_run(bystander):
    stream = frame(b"t") + frame(LARGE[:65_536]) * 250
    assert batch(stream) == 251
    assert_released(bystander, lambda: batch(stream))


def test_batch_of_less_than_256_kib_in_all_does_not_let_other_threads_run(bystander):
    stream = frame(LARGE[:4096]) * 60
    assert batch(stream) == 60
    assert_not_released(bystander, lambda: batch(stream), 500)


@pytest.mark.parametrize("limits", [{"max_frames": 10}, {"max_bytes": 10 * 4096}], ids=["max_frames", "max_bytes"])
def test_small_batch_of_many_frames_does_not_let_other_threads_run(bystander, limits):
    # It is what the batch holds that counts, and not what lies behind it.
    stream = frame(LARGE[:4096]) * 4000
    assert batch(stream, **limits) == 10
    assert_not_released(bystander, lambda: batch(stream, **limits), 2000)


@pytest.mark.parametrize("deframer", [DefaultDeframer, lambda: ChecksumDeframer(NoChecksum())], ids=["default", "none"])
def test_batch_without_a_checksum_does_not_let_other_threads_run(bystander, deframer):
    stream = (b"\x00\x10\x00\x00" + LARGE[:4096]) * 4000
    assert batch(stream, deframer()) == 4000
    assert_not_released(bystander, lambda: batch(stream, deframer()), 200)


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
        "write_finished": (lambda writer: writer.write_finished(Finished(b"built")), [b"built"]),
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


@switching
@pytest.mark.parametrize("how", ["write_payload", "write_payloads", "mixed"])
@pytest.mark.parametrize("buffer_size", [0, 65_536, 1 << 20])
@every_quick_mode
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
@pytest.mark.parametrize("kind", ["memory", "file", "bytesio"])
@pytest.mark.parametrize("how", ["messages", "batches", "mixed"])
@every_quick_mode
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

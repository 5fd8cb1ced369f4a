"""Turns of threads on one object: in the order in which they came, and none is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream._core.base.exclusive import Exclusive
from reference import framing as reference
from support.alarms import Alarm, Struck
from support.extent import in_one_test
from support.schemas import TELEMETRY
from support.shared_writers import numbered
from support.sinks import PlainSink
from support.threads import PATIENCE, run_threads, switching


@contextlib.contextmanager
def held(lock: Exclusive) -> Iterator[None]:
    """Another thread is in the middle of an operation on `lock` until the block ends."""
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        leave.wait(PATIENCE)

    thread = threading.Thread(target=lock._call_exclusively, args=(hold,))
    thread.start()
    assert inside.wait(PATIENCE)
    try:
        yield
    finally:
        leave.set()
        thread.join(PATIENCE)


def start_in_order(lock: Exclusive, count: int, order: list[int]) -> list[threading.Thread]:
    """Threads that wait for their turn on `lock`, one behind the other, and append their numbers to `order`."""
    threads = []
    for number in range(count):
        thread = threading.Thread(target=lock._call_exclusively, args=(lambda number=number: order.append(number),))
        thread.start()
        # There is no way to see that it waits. Its call has begun after this time.
        time.sleep(0.02)
        threads.append(thread)
    return threads


def test_waiters_get_their_turns_in_the_order_in_which_they_came() -> None:
    lock = Exclusive()
    order: list[int] = []
    with held(lock):
        threads = start_in_order(lock, 8, order)
        assert order == []
    for thread in threads:
        thread.join(PATIENCE)
    assert order == list(range(8))


@in_one_test
@pytest.mark.parametrize("use", ["flush", "close", "detach", "write_payload"])
def test_thread_that_writes_without_a_pause_lets_another_in_after_one_operation(use: str) -> None:
    class Sink(PlainSink):
        """Counts the operations of the busy thread that begin while the other one waits."""

        operations = 0

        def write(self, data: Any) -> None:
            self.operations += waiting.is_set()
            time.sleep(0.01)
            super().write(data)

    waiting, over = threading.Event(), threading.Event()
    sink = Sink()
    writer = StreamWriter(sink, "crc32", buffer_size=0)

    def write() -> None:
        with contextlib.suppress(ValueError):
            while not over.is_set():
                writer.write_payload(b"x" * 100)

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.05)
    waiting.set()
    getattr(writer, use)(*([b"y"] if use == "write_payload" else []))
    operations = sink.operations
    over.set()
    thread.join(PATIENCE)
    # The one in progress, or one that began in the moment before this thread waited; and this thread's own.
    assert operations <= 2
    writer.close()


def test_reader_that_reads_without_a_pause_lets_another_in_after_one_operation() -> None:
    frame = reference.encode([b"x" * 100], "none")
    over = threading.Event()

    class Source:
        def readinto(self, buffer: Any) -> int:
            time.sleep(0.01)
            buffer[: len(frame)] = frame
            return len(frame)

    reader = StreamReader(Source())

    def read() -> None:
        with contextlib.suppress(ValueError):
            while not over.is_set():
                reader.read_message()

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.05)
    began = time.monotonic()
    reader.close()
    took = time.monotonic() - began
    over.set()
    thread.join(PATIENCE)
    assert took < 0.5


def test_waiter_interrupted_by_a_signal_raises_at_once_and_the_next_one_gets_the_turn() -> None:
    lock = Exclusive()
    order: list[int] = []

    def wait() -> None:
        lock._call_exclusively(lambda: order.append(-1))

    with held(lock), Alarm() as alarm:
        assert alarm.strike(wait, 0.05)
        threads = start_in_order(lock, 3, order)
        # In the middle of the queue, too.
        assert alarm.strike(wait, 0.05)
        threads += start_in_order(lock, 1, order)
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [0, 1, 2, 0]


def test_waiter_whose_turn_has_come_and_whose_handler_raises_passes_the_turn_on() -> None:
    # The handler lets the operation before end, so the turn is this thread's when the handler raises.
    lock = Exclusive()
    order: list[int] = []
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        leave.wait(PATIENCE)

    holder = threading.Thread(target=lock._call_exclusively, args=(hold,))
    holder.start()
    inside.wait(PATIENCE)
    threads: list[threading.Thread] = []

    def handler() -> None:
        threads.extend(start_in_order(lock, 2, order))
        leave.set()
        holder.join(PATIENCE)
        raise Struck

    with Alarm(action=handler) as alarm:
        assert alarm.strike(lambda: lock._call_exclusively(lambda: order.append(-1)), 0.05)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert order == [0, 1]
    assert lock._call_exclusively(lambda: "free") == "free"


def test_handler_that_uses_the_object_its_thread_waits_for_goes_first() -> None:
    lock = Exclusive()
    order: list[str] = []

    def handler() -> None:
        leave.set()
        lock._call_exclusively(lambda: order.append("handler"))

    leave, inside = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        leave.wait(PATIENCE)

    holder = threading.Thread(target=lock._call_exclusively, args=(hold,))
    holder.start()
    inside.wait(PATIENCE)
    with Alarm(action=handler) as alarm:
        assert not alarm.strike(lambda: lock._call_exclusively(lambda: order.append("waiter")), 0.05)
    holder.join(PATIENCE)
    assert order == ["handler", "waiter"]


@switching
def test_many_threads_and_signals_never_lose_a_turn() -> None:
    lock = Exclusive()
    counts = [0] * 6
    inside = 0
    over = threading.Event()

    def operate() -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        time.sleep(0)
        inside -= 1

    def work(number: int) -> None:
        while not over.is_set():
            lock._call_exclusively(operate)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    interruptions = 0
    end = time.monotonic() + 1.5
    with Alarm() as alarm:
        while time.monotonic() < end:
            interruptions += alarm.strike_repeated(lambda: lock._call_exclusively(lambda: None), 0.0005)
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread waits for ever"
    assert interruptions > 20
    # Each had its turns, and none much less than the others.
    assert min(counts) > max(counts) / 10


@switching
def test_threads_that_close_flush_and_write_keep_every_frame_whole() -> None:
    class Sink(PlainSink):
        def write(self, data: Any) -> int:
            time.sleep(0)
            self.pieces.append(bytes(data[:1000]))
            return len(data[:1000])

    sink = Sink()
    writer = StreamWriter(sink, "crc32", buffer_size=300)

    def write(thread: int) -> None:
        for number in range(200):
            writer.write_payload(numbered(thread, number))
            if number % 7 == 0:
                writer.flush()

    run_threads(*(lambda thread=thread: write(thread) for thread in range(6)))
    writer.close()
    read = reference.decode(sink.arrived(), "crc32")
    assert isinstance(read.end, reference.Clean)
    assert sorted(read.payloads) == sorted(numbered(thread, number) for thread in range(6) for number in range(200))


# Forks


def outcome_in_child(use: Callable[[], object]) -> str:
    """What `use` raises or returns in a forked child, as a text; the child is killed if it hangs."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(10)
            try:
                text = f"returned {use()}"
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            os.write(writing, text.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text


# Python 3.12 and later warn of a fork beside threads, which is what is done here on purpose.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def busy() -> Iterator[Callable[[Callable[..., Any]], Any]]:
    """Starts a thread in ``make(block)``'s operation: `block` is to be called in the middle of it."""
    inside, leave = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def block() -> None:
        inside.set()
        leave.wait(PATIENCE)

    def start(operate: Callable[[Callable[[], None]], Any]) -> None:
        thread = threading.Thread(target=operate, args=(block,))
        thread.start()
        threads.append(thread)
        assert inside.wait(PATIENCE)

    yield start
    leave.set()
    for thread in threads:
        thread.join(PATIENCE)


class BlockingSink(PlainSink):
    block: Callable[[], None] = staticmethod(lambda: None)

    def write(self, data: Any) -> None:
        self.block()
        super().write(data)


class BlockingSource:
    def __init__(self, block: Callable[[], None]) -> None:
        self.block = block

    def readinto(self, buffer: Any) -> int:
        self.block()
        return 0


IN_USE = "was in use by another thread when the process forked"


@forks
def test_child_of_a_process_with_a_record_writer_in_use_is_refused_at_once(busy: Any) -> None:
    sink = BlockingSink()
    writer = StreamWriter(sink, buffer_size=0)
    records = RecordWriter(writer, TELEMETRY.table("telemetry.Disk"))

    def operate(block: Callable[[], None]) -> None:
        sink.block = block
        records.write(name="thread")
        sink.block = lambda: None

    busy(operate)
    for use in (lambda: records.write(name="child"), lambda: records.write_record({"name": "child"})):
        outcome = outcome_in_child(use)
        assert outcome.startswith("RuntimeError: this ")
        assert IN_USE in outcome
    assert "belongs to the process that made it" in outcome_in_child(lambda: writer.write_payload(b"child"))
    assert outcome_in_child(writer.close) == "returned None"


@forks
def test_child_of_a_process_with_a_reader_in_use_is_refused_at_once_and_may_close_it(busy: Any) -> None:
    readers: list[StreamReader] = []

    def operate(block: Callable[[], None]) -> None:
        readers.append(StreamReader(BlockingSource(block)))
        readers[0].read_message()

    busy(operate)
    (reader,) = readers
    uses: list[Callable[[], object]] = [reader.read_message, reader.read_batch, lambda: next(reader), reader.detach]
    for use in uses:
        outcome = outcome_in_child(use)
        assert outcome.startswith("RuntimeError: this StreamReader")
        assert IN_USE in outcome

    def close_and_read() -> object:
        reader.close()
        assert reader.closed
        return reader.read_message()

    assert "ValueError: this StreamReader is closed" in outcome_in_child(close_and_read)


@forks
def test_child_of_a_process_with_waiters_goes_on_with_an_object_that_was_free() -> None:
    # A thread waits, is woken, and has not run yet when the process forks: in the child it never will.
    lock = Exclusive()
    outcomes: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        leave.wait(PATIENCE)

    def hold_and_fork() -> None:
        lock._call_exclusively(hold)
        outcomes.append(outcome_in_child(lambda: lock._call_exclusively(lambda: "entered")))

    holder = threading.Thread(target=hold_and_fork)
    holder.start()
    inside.wait(PATIENCE)
    waiter = threading.Thread(target=lock._call_exclusively, args=(lambda: None,))
    waiter.start()
    time.sleep(0.05)
    leave.set()
    holder.join(PATIENCE)
    waiter.join(PATIENCE)
    assert outcomes in (["returned entered"],) or IN_USE in outcomes[0]


@forks
def test_operation_of_the_forking_thread_goes_on_in_the_child() -> None:
    lock = Exclusive()

    def fork_inside() -> str:
        def child() -> str:
            with pytest.raises(RuntimeError, match="reentrant call"):
                lock._call_exclusively(lambda: None)
            return "refused"

        return outcome_in_child(child)

    assert lock._call_exclusively(fork_inside) == "returned refused"

    # The child itself comes to the end of the operation, and can enter again.
    reading, writing = os.pipe()

    def fork_and_return() -> int:
        return os.fork()

    pid = lock._call_exclusively(fork_and_return)
    if pid == 0:
        try:
            signal.alarm(10)
            run_threads(lambda: lock._call_exclusively(lambda: None), lambda: lock._call_exclusively(lambda: None))
            os.write(writing, b"entered")
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"entered"
    os.waitpid(pid, 0)


@forks
def test_waiter_whose_handler_forks_is_refused_in_the_child() -> None:
    lock = Exclusive()
    reading, writing = os.pipe()
    children: list[int] = []

    def handler() -> None:
        children.append(os.fork())
        if children[0]:
            raise Struck

    parent = os.getpid()

    def wait() -> None:
        try:
            lock._call_exclusively(lambda: None)
        except Exception as error:
            if os.getpid() == parent:
                raise
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            if os.getpid() != parent:
                os._exit(0)

    with held(lock), Alarm(action=handler) as alarm:
        assert alarm.strike(wait, 0.05)
    os.close(writing)
    with open(reading, "rb") as file:
        assert IN_USE in file.read().decode()
    os.waitpid(children[0], 0)

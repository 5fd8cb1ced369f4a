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

import functools
import time
from collections.abc import Callable
from typing import Any

import pytest

from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    Crc32,
    DefaultDeframer,
    NoChecksum,
    StreamReader,
    StreamWriter,
    XxHash64,
    recover,
)
from flatstream._core.checksums import crc, xxh3
from support.bystander import CRCS, LARGE, LARGE_VALUE, RELEASE_FROM, Bystander, Discard, batch, frame
from support.items import FinishedBytes

pytestmark = pytest.mark.usefixtures("quick_reference")

# Where the xxhash package hides its C function, its Python function decides on the lock for itself.
CHECKSUMS = [*CRCS, XxHash64] if xxh3.KERNEL_NAME else CRCS
# The kernels, called directly.
DOORS = [crc.crc16, crc.crc32, crc.crc32c, crc.crc64, *([xxh3.xxh3_64] if xxh3.KERNEL_NAME else [])]

BELOW = bytes(RELEASE_FROM - 1)


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


@pytest.mark.parametrize("door", DOORS)
def test_kernel_called_directly_with_256_kib_or_more_lets_other_threads_run(bystander, door):
    for size in (RELEASE_FROM, len(LARGE)):
        payload = LARGE[:size]
        assert_released(bystander, functools.partial(door, payload))


@pytest.mark.parametrize("door", DOORS)
def test_kernel_called_directly_with_less_than_256_kib_does_not_let_other_threads_run(bystander, door):
    for payload in (b"", BELOW):
        assert_not_released(bystander, functools.partial(door, payload), 1000)


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
    "write_finished": lambda writer, payload: writer.write_finished(FinishedBytes(payload)),
    "_write_built": lambda writer, payload: writer._write_built(FinishedBytes, payload),
}


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


@pytest.mark.parametrize("how", [how for how in READS if how not in ("read_batch", "batches", "recover")])
def test_read_of_many_small_frames_one_by_one_does_not_let_other_threads_run(bystander, how):
    stream = frame(LARGE[:4096]) * 1000
    assert_not_released(bystander, lambda: READS[how](stream), 10)


def test_read_of_a_large_frame_without_a_checksum_does_not_let_other_threads_run(bystander):
    stream = len(LARGE).to_bytes(4, "little") + LARGE
    assert_not_released(bystander, lambda: StreamReader(stream).read_message(), 500)


# Batches


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

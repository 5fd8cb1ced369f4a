"""A signal often makes a blocking call return early with a part of the bytes. Its handler runs then, not after the next
call, which may block for long; and at that point every byte is counted.
"""

from __future__ import annotations

import ctypes
import functools
import io
import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

from flatstream import DefaultFramer, StreamReader, StreamWriter
from flatstream._core.stream.encoder import Encoder
from reference import framing as reference
from support.alarms import Alarm, Struck
from support.threads import PATIENCE, running

# A second signal would interrupt the call that the handler must not wait for. It comes so late that the test fails.
AGAIN = 3

ERRORS: list[BaseException] = [Struck(), TimeoutError("watchdog"), OSError(5, "of the handler")]


class Drain:
    """Reads a pipe in a thread, from `start` on."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.pieces: list[bytes] = []
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while piece := os.read(self.descriptor, 65536):
            self.pieces.append(piece)

    def all(self) -> bytes:
        self.thread.join(PATIENCE)
        return b"".join(self.pieces)


LARGE = b"L" * 300_000
SMALL = [b"%d" % number * 20 for number in range(3000)]
# Made before the clock runs: on a busy machine it takes so long that a signal comes before the first write.
FRAMES = reference.encode(SMALL, "none")


def write_small_and_drain(writer: Encoder) -> None:
    writer.write_payloads(SMALL)
    writer._drain_buffer()


def pass_frames_on(writer: Encoder) -> None:
    with StreamReader(FRAMES, "none") as reader:
        for batch in reader.batches():
            writer.write_frames(batch)


USES: dict[str, tuple[int, Callable[[Encoder], object], list[bytes]]] = {
    "drain": (1 << 20, write_small_and_drain, SMALL),
    "large": (1000, lambda writer: writer.write_payload(LARGE), [LARGE]),
    "write_through": (0, lambda writer: writer.write_payload(LARGE), [LARGE]),
    "frames": (1000, pass_frames_on, SMALL),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_handler_runs_after_a_write_that_its_signal_cut_short(use: str, error: BaseException) -> None:
    buffer_size, write, payloads = USES[use]
    reading, writing = os.pipe()
    drain = Drain(reading)
    with io.FileIO(writing, "wb") as sink:
        writer = StreamWriter(sink, "none", buffer_size=buffer_size)
        began = time.monotonic()
        with Alarm(error) as alarm:
            assert alarm.strike(lambda: write(writer), 0.1, AGAIN)
        assert time.monotonic() - began < 1
        assert not writer.is_refusing
        accepted = writer.frames_written
        drain.thread.start()
        writer.write_payload(b"next")
        writer.close()
    # What had begun is accepted.
    expected = [*payloads[:accepted], b"next"]
    assert drain.all() == reference.encode(expected, "none")
    assert accepted == 1 if payloads == [LARGE] else accepted > 0
    os.close(reading)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_close_whose_write_was_cut_short_runs_the_handler_and_can_be_tried_again(error: BaseException) -> None:
    reading, writing = os.pipe()
    drain = Drain(reading)
    writer = StreamWriter(io.FileIO(writing, "wb"), "none", buffer_size=1 << 20)
    sink = writer.sink
    writer.write_payloads(SMALL)
    began = time.monotonic()
    with Alarm(error) as alarm:
        assert alarm.strike(writer.close, 0.1, AGAIN)
    assert time.monotonic() - began < 1
    assert not writer.closed
    drain.thread.start()
    writer.close()
    assert writer.closed
    sink.close()
    assert drain.all() == reference.encode(SMALL, "none")
    os.close(reading)


@pytest.mark.parametrize("use", ["drain", "large", "frames"])
def test_handler_between_two_calls_leaves_a_sink_of_any_kind_working(use: str) -> None:
    # Also one of which it would not be known how much it took if it raised: it has not raised.
    buffer_size, write, payloads = USES[use]
    reading, writing = os.pipe()
    drain = Drain(reading)
    encoder = Encoder(DefaultFramer(), buffer_size, functools.partial(os.write, writing))
    with Alarm() as alarm:
        assert alarm.strike(lambda: write(encoder), 0.1, AGAIN)
    assert not encoder.is_refusing
    accepted = encoder.frames_written
    drain.thread.start()
    encoder._drain_buffer()
    os.close(writing)
    assert drain.all() == reference.encode(payloads[:accepted], "none")
    os.close(reading)


def test_handler_runs_after_a_read_that_gave_a_part_of_a_frame() -> None:
    # The bytes and the signal come at the same moment: a thread writes and signals without letting go of the
    # interpreter's lock, for which the read waits.
    reading, writing = os.pipe()
    stream = reference.encode([b"first", b"x" * 1000], "none")
    write = ctypes.PyDLL(None).write
    switch = sys.getswitchinterval()

    def write_a_part() -> None:
        time.sleep(0.1)
        write(writing, stream[:500], 500)

    def write_the_rest() -> None:
        # So that this test ends, also without the handler.
        struck.wait(1.6)
        os.write(writing, stream[500:])
        os.close(writing)

    struck = threading.Event()
    with (
        io.FileIO(reading, "rb") as source,
        StreamReader(source, "none") as reader,
        Alarm() as alarm,
        running(write_the_rest),
    ):
        try:
            sys.setswitchinterval(5)
            began = time.monotonic()
            assert alarm.strike_when(lambda: reader.process_all(len), write_a_part, AGAIN)
            assert time.monotonic() - began < 1
        finally:
            sys.setswitchinterval(switch)
            struck.set()
        rest = [bytes(payload) for payload in reader]
        assert [b"first", b"x" * 1000][reader.frames_read - len(rest) :] == rest
        assert reader.offset == len(stream)

"""A writer whose sink fails loses nothing without a word, and never leaves a frame behind torn bytes.

Sinks here fail as devices do: with ENOSPC, EIO and the like, by taking less than they were offered, by blocking, by a
signal, by saying nonsense; at every call in turn and in random schedules. Whatever happens, one of two things holds:
what the sink has, together with what waits in the buffer, is the accepted frames in order, each once; or the writer
refuses every later write, and the sink has whole frames with at most one torn frame behind them. Real devices are in
test_sink_errors.py; flush, close, detach, with-statement and collection in test_writer_closing.py.
"""

from __future__ import annotations

import contextlib
import errno
import io
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from flatstream import DefaultFramer, FlatStreamError, Framer, StreamReader, StreamWriter
from flatstream._core.stream.encoder import Encoder
from reference import framing as reference
from support.extent import EVERYTHING, in_one_test
from support.faults import device_error
from support.python_strategies import PythonFramer
from support.sinks import InterruptedSink, ShortSink
from support.streams import encode

# A sink that does as it is told


@dataclass
class Take:
    """Take at most `most` bytes, and say how many."""

    most: int


@dataclass
class Fail:
    """Take `taken` bytes, and raise `error` all the same."""

    error: BaseException
    taken: int = 0


@dataclass
class Say:
    """Take `taken` bytes, and return `value`."""

    value: Any
    taken: int = 0


class ToldSink:
    """Follows `answers`, one for each call of `write` or `writev`, and takes everything when they are used up."""

    def __init__(self, *answers: Take | Fail | Say) -> None:
        self.answers = list(answers)
        self.data = bytearray()
        self.calls = 0
        # What rollback() does: True takes back and says so, False does nothing and says so; or an error to raise.
        self.rollback_answer: bool | BaseException = True
        self.rolled_back: list[int] = []

    def next_answer(self) -> Take | Fail | Say | None:
        return self.answers.pop(0) if self.answers else None

    def write(self, data: memoryview) -> Any:
        self.calls += 1
        assert isinstance(data, memoryview)
        assert data.readonly
        assert len(data) > 0, "a sink must not be asked to write nothing"
        answer = self.next_answer()
        if answer is None:
            self.data += data
            return len(data)
        if isinstance(answer, Take):
            self.data += data[: answer.most]
            return min(answer.most, len(data))
        self.data += data[: answer.taken]
        if isinstance(answer, Fail):
            raise answer.error
        return answer.value

    def writev(self, pieces: list[memoryview]) -> Any:
        assert len(pieces) > 1
        return self.write(memoryview(b"".join(pieces)))

    def rollback(self, count: int) -> bool:
        self.rolled_back.append(count)
        if isinstance(self.rollback_answer, BaseException):
            raise self.rollback_answer
        if self.rollback_answer:
            assert 0 < count <= len(self.data)
            del self.data[-count:]
        return self.rollback_answer


def exact_encoder(sink: ToldSink, buffer_size: int, *, rollback: bool = True, framer: Framer | None = None) -> Encoder:
    """An encoder for a sink whose exceptions mean that nothing was taken, as those of a system call do."""
    made = DefaultFramer() if framer is None else framer
    return Encoder(
        made,
        buffer_size,
        sink.write,
        writev=sink.writev,
        rollback=sink.rollback if rollback else None,
        error_takes_nothing=True,
    )


def assert_refuses(encoder: Encoder, sink: ToldSink, cause: BaseException) -> None:
    """Every later write is refused, because of `cause`, and the sink is asked for nothing more."""
    assert encoder.is_refusing
    before, calls, frames = bytes(sink.data), sink.calls, encoder.frames_written
    attempts = [
        lambda: encoder.write_payload(b"later"),
        lambda: encoder.write_payload(b"L" * 100_000),
        lambda: encoder.write_payloads([b"later"]),
        encoder._drain_buffer,
    ]
    for attempt in attempts:
        with pytest.raises(FlatStreamError, match="refuses to go on") as caught:
            attempt()
        assert caught.value.__cause__ is cause
        assert str(cause) in str(caught.value)
    assert (bytes(sink.data), sink.calls, encoder.frames_written) == (before, calls, frames)


def write_and_drain(encoder: Encoder, payload: bytes) -> None:
    encoder.write_payload(payload)
    encoder._drain_buffer()


DEVICE_ERRORS = [errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EPIPE, errno.EDQUOT]


# Every call in turn

SIZES = [3, 40, 0, 7, 300, 1, 64, 60, 5, 150, 2, 9]
PAYLOADS = [bytes([65 + number]) * size for number, size in enumerate(SIZES)]


def write_all(encoder: Encoder, payloads: Iterable[bytes]) -> tuple[list[bytes], list[BaseException]]:
    """Offers each payload once; gives those that were accepted and the errors of the others, a final flush's too."""
    accepted: list[bytes] = []
    errors: list[BaseException] = []
    for payload in payloads:
        before = encoder.frames_written
        try:
            encoder.write_payload(payload)
        except (OSError, FlatStreamError) as error:
            errors.append(error)
            assert encoder.frames_written == before
        else:
            assert encoder.frames_written == before + 1
            accepted.append(payload)
    try:
        encoder._drain_buffer()
    except (OSError, FlatStreamError) as error:
        errors.append(error)
        with contextlib.suppress(OSError, FlatStreamError):
            encoder._drain_buffer()
    return accepted, errors


def calls_without_faults(buffer_size: int, short: int) -> int:
    sink = ToldSink(*[Take(short)] * 2000)
    write_all(exact_encoder(sink, buffer_size), PAYLOADS)
    assert sink.data == encode(*PAYLOADS)
    return sink.calls


@in_one_test(step=3)
@pytest.mark.parametrize("number", DEVICE_ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("short", [1, 50, 10_000])
@pytest.mark.parametrize("buffer_size", [0, 1, 16, 64, 4096])
def test_device_error_at_any_call_of_a_file_rolls_back_and_goes_on(buffer_size, short, number):
    # One byte at a time makes hundreds of calls: then not each of them fails, but each place within a frame does.
    total = calls_without_faults(buffer_size, short)
    for failing in range(0, total, 1 + total // 40):
        error = device_error(number)
        sink = ToldSink(*[Take(short)] * failing, Fail(error), *[Take(short)] * 2000)
        encoder = exact_encoder(sink, buffer_size)
        accepted, errors = write_all(encoder, PAYLOADS)
        assert errors == [error]
        assert not encoder.is_refusing
        assert sink.data == encode(*accepted)
        # At most the payload that met the error was not accepted, and it may be offered again.
        assert len(accepted) >= len(PAYLOADS) - 1


@in_one_test
@pytest.mark.parametrize("short", [1, 50, 10_000])
@pytest.mark.parametrize("buffer_size", [0, 1, 16, 64, 4096])
def test_device_error_at_any_call_of_a_pipe_refuses_unless_a_frame_ends_there(buffer_size, short):
    total = calls_without_faults(buffer_size, short)
    outcomes = set()
    for failing in range(0, total, 1 + total // 40):
        error = device_error(errno.EIO)
        sink = ToldSink(*[Take(short)] * failing, Fail(error), *[Take(short)] * 2000)
        encoder = exact_encoder(sink, buffer_size, rollback=False)
        with contextlib.suppress(OSError):
            encoder.write_payloads(PAYLOADS)
            encoder._drain_buffer()
        got = reference.decode(bytes(sink.data), "none")
        assert got.payloads == PAYLOADS[: len(got.payloads)]
        if isinstance(got.end, reference.Clean):
            assert not encoder.is_refusing
            accepted = PAYLOADS[: encoder.frames_written]
            encoder._drain_buffer()
            assert sink.data == encode(*accepted)
        else:
            assert isinstance(got.end, reference.Torn)
            assert_refuses(encoder, sink, error)
        outcomes.add(type(got.end))
    assert reference.Clean in outcomes


@in_one_test
@pytest.mark.parametrize("taken", [0, 1, 4, 30])
@pytest.mark.parametrize("buffer_size", [0, 64])
def test_device_error_of_a_sink_that_may_have_taken_a_part_refuses(buffer_size, taken):
    # A buffer with a file behind it, a compressor: nobody knows what arrived.
    error = device_error(errno.ENOSPC)
    sink = ToldSink(Take(1000), Fail(error, taken))
    encoder = Encoder(DefaultFramer(), buffer_size, sink.write)
    with pytest.raises(OSError) as caught:
        encoder.write_payloads([b"0123456789abcdef"] * 10)
    assert caught.value is error
    assert any("refuses every later write" in note for note in error.__notes__)
    assert_refuses(encoder, sink, error)
    assert encode(*[b"0123456789abcdef"] * 10).startswith(sink.data)


def test_frame_that_could_not_be_written_is_not_counted():
    # Written through, the sink has a part of it and fails: "The payload was not accepted."
    error = device_error(errno.EIO)
    for buffer_size, payload in [(0, b"small"), (0, b"L" * 9000), (16, b"L" * 9000)]:
        sink = ToldSink(Take(6), Fail(error))
        encoder = exact_encoder(sink, buffer_size, rollback=False)
        with pytest.raises(OSError):
            encoder.write_payload(payload)
        assert sink.data == encode(payload)[:6]
        assert (encoder.frames_written, encoder.bytes_written) == (0, 0)
        assert_refuses(encoder, sink, error)


def test_refusal_says_which_frame_is_torn_and_where():
    error = device_error(errno.ENOSPC)
    sink = ToldSink(Take(10_000), Take(7), Fail(error))
    encoder = exact_encoder(sink, 32, rollback=False)
    encoder.write_payloads([b"0123456789ab", b"0123456789ab"])  # Two frames of 16 bytes fill the buffer.
    with pytest.raises(OSError):
        encoder.write_payloads([b"cdefghijklmn", b"opqrstuvwxyz", b"next"])
    assert sink.data == encode(b"0123456789ab", b"0123456789ab") + b"\x0c\0\0\0cde"
    with pytest.raises(FlatStreamError) as caught:
        encoder._drain_buffer()
    assert (caught.value.frame, caught.value.offset) == (2, 32)
    assert "25 bytes were not handed over" in str(caught.value)


# Rollback


def test_rollback_takes_back_no_more_than_the_unfinished_frame():
    sink = ToldSink(Take(22), Fail(device_error(errno.ENOSPC)))
    encoder = exact_encoder(sink, 1000)
    encoder.write_payloads([b"0123456789ab"] * 3)
    with pytest.raises(OSError):
        encoder._drain_buffer()
    assert sink.rolled_back == [6]
    assert sink.data == encode(b"0123456789ab")
    assert encoder.pending_bytes == 32
    encoder._drain_buffer()
    assert sink.data == encode(*[b"0123456789ab"] * 3)


def test_large_frame_is_taken_back_and_was_not_accepted():
    sink = ToldSink(Take(1000), Take(1), Fail(device_error(errno.ENOSPC)))
    encoder = exact_encoder(sink, 64)
    with pytest.raises(OSError):
        encoder.write_payload(b"L" * 5000)
    assert sink.rolled_back == [1001]
    assert (bytes(sink.data), encoder.frames_written, encoder.pending_bytes) == (b"", 0, 0)
    encoder.write_payload(b"L" * 5001)
    assert sink.data == encode(b"L" * 5001)


@in_one_test
@pytest.mark.parametrize("payload", [b"0123456789", b"L" * 5000], ids=["buffered", "large"])
@pytest.mark.parametrize("answer", [False, device_error(errno.EIO)], ids=["says_no", "fails"])
def test_rollback_that_is_not_done_makes_the_writer_refuse(answer, payload):
    error = device_error(errno.ENOSPC)
    sink = ToldSink(Take(7), Fail(error))
    sink.rollback_answer = answer
    encoder = exact_encoder(sink, 64)
    with pytest.raises(OSError) as caught:
        write_and_drain(encoder, payload)
    assert caught.value is error
    assert sink.rolled_back == [7]
    assert sink.data == encode(payload)[:7]
    assert_refuses(encoder, sink, error)
    if answer is not False:
        assert any("failed too: [Errno 5]" in note for note in error.__notes__)


@in_one_test
@pytest.mark.parametrize("payload", [b"0123456789", b"L" * 5000], ids=["buffered", "large"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), MemoryError()], ids=repr)
def test_rollback_that_is_interrupted_makes_the_writer_refuse(interruption, payload):
    # Nobody knows whether it was done: a signal may have come before, between or after its system calls.
    sink = ToldSink(Take(7), Fail(device_error(errno.ENOSPC)))
    sink.rollback_answer = interruption
    encoder = exact_encoder(sink, 64)
    with pytest.raises((KeyboardInterrupt, MemoryError, OSError)):
        write_and_drain(encoder, payload)
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        encoder.write_payload(b"later")
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        encoder._drain_buffer()
    assert sink.data == encode(payload)[:7]


# Short writes, blocking, signals


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 1, 7, 64, 65536])
@pytest.mark.parametrize("sizes", [(1,), (2, 3, 1), (100, 1)], ids=str)
def test_sink_that_takes_less_than_it_is_offered_gets_the_rest(buffer_size, sizes):
    sink = ShortSink(sizes)
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        writer.write_payloads(PAYLOADS)
    assert sink.arrived() == encode(*PAYLOADS)


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 1, 7, 64, 65536])
def test_interrupted_system_calls_are_made_again(buffer_size):
    sink = InterruptedSink((5,))
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        writer.write_payloads(PAYLOADS)
    assert sink.arrived() == encode(*PAYLOADS)
    assert sink.interruptions > 10


# What says "not now", with the sink that says it.
BLOCKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "raises": (Fail(BlockingIOError(errno.EAGAIN, "full")), {}),
    "raises_with_count": (Fail(BlockingIOError(errno.EAGAIN, "full", 3), 3), {}),
    "returns_0": (Say(0), {}),
    "returns_none_and_is_raw": (Say(None), {"none_blocks": True}),
    "times_out": (Fail(TimeoutError("timed out")), {"error_takes_nothing": True}),
}
every_blocked = pytest.mark.parametrize("how", BLOCKED)


@in_one_test
@every_blocked
def test_blocked_sink_with_room_in_the_buffer_is_no_error(how):
    answer, options = BLOCKED[how]
    # The first frame was taken in part, and there is room for the second after that.
    sink = ToldSink(Take(30), answer)
    encoder = Encoder(DefaultFramer(), 64, sink.write, **options)
    payloads = [b"a" * 40, b"b" * 40]
    encoder.write_payloads(payloads)
    assert encoder.frames_written == 2
    encoder._drain_buffer()
    assert sink.data == encode(*payloads)


@in_one_test
@every_blocked
def test_blocked_sink_and_a_full_buffer_raise_and_the_payload_was_not_accepted(how):
    answer, options = BLOCKED[how]
    sink = ToldSink(Take(2), answer, answer)
    encoder = Encoder(DefaultFramer(), 64, sink.write, **options)
    encoder.write_payload(b"a" * 60)
    error = TimeoutError if how == "times_out" else BlockingIOError
    for _ in range(2):
        with pytest.raises(error):
            encoder.write_payload(b"b" * 40)
        assert encoder.frames_written == 1
        assert not encoder.is_refusing
    encoder.write_payload(b"b" * 40)
    encoder._drain_buffer()
    assert sink.data == encode(b"a" * 60, b"b" * 40)


@in_one_test
@every_blocked
@pytest.mark.parametrize("taken", [1, 4, 5, 4999])
def test_large_frame_of_which_a_blocked_sink_has_a_part_is_accepted(how, taken):
    answer, options = BLOCKED[how]
    sink = ToldSink(Take(taken), answer)
    encoder = Encoder(DefaultFramer(), 64, sink.write, writev=sink.writev, **options)
    encoder.write_payload(b"L" * 5000)
    assert (encoder.frames_written, encoder.bytes_written) == (1, 5004)
    assert encoder.pending_bytes == 5004 - len(sink.data)
    encoder.write_payload(b"next")
    encoder._drain_buffer()
    assert sink.data == encode(b"L" * 5000, b"next")
    assert encoder.buffer_capacity == 64


def test_large_frame_that_goes_out_bit_by_bit_is_not_copied_at_each_turn():
    # A sink that blocks after every 4 KiB: to copy the rest each time would cost the square of the payload's size.
    owners: dict[int, Any] = {}

    class Sink(ToldSink):
        def write(self, data: memoryview) -> Any:
            # Kept alive, so that no other object takes its place.
            owners[id(data.obj)] = data.obj
            return super().write(data)

    answers: list[Take | Say] = [Take(4096), Say(0)]
    sink = Sink(*answers * 200)
    encoder = Encoder(DefaultFramer(), 64, sink.write)
    payload = bytes(range(256)) * 2000
    encoder.write_payload(payload)
    turns = 0
    while encoder.pending_bytes:
        turns += 1
        with contextlib.suppress(BlockingIOError):
            encoder._drain_buffer()
    assert turns == 125
    assert sink.data == encode(payload)
    # The header, the payload itself, and the buffer that its rest waits in.
    assert len(owners) <= 4


@in_one_test
@every_blocked
def test_large_frame_of_which_a_blocked_sink_has_nothing_was_not_accepted(how):
    answer, options = BLOCKED[how]
    if how == "raises_with_count":
        answer = Fail(BlockingIOError(errno.EAGAIN, "full", 0))
    sink = ToldSink(answer)
    encoder = Encoder(DefaultFramer(), 64, sink.write, writev=sink.writev, **options)
    with pytest.raises((BlockingIOError, TimeoutError)):
        encoder.write_payload(b"L" * 5000)
    assert (encoder.frames_written, encoder.bytes_written, encoder.pending_bytes) == (0, 0, 0)
    encoder.write_payload(b"next")
    encoder._drain_buffer()
    assert sink.data == encode(b"next")


@in_one_test
@every_blocked
@pytest.mark.parametrize("taken", [0, 1, 4, 8])
def test_write_through_to_a_blocked_sink_accepts_a_frame_that_has_begun(how, taken):
    answer, options = BLOCKED[how]
    begin = [Take(taken)] if taken else []
    sink = ToldSink(*begin, answer)
    encoder = Encoder(DefaultFramer(), 0, sink.write, **options)
    if taken or how == "raises_with_count":
        encoder.write_payload(b"first")
        accepted = [b"first"]
    else:
        with pytest.raises((BlockingIOError, TimeoutError)):
            encoder.write_payload(b"first")
        accepted = []
    assert encoder.frames_written == len(accepted)
    encoder.write_payload(b"second")
    assert sink.data == encode(*accepted, b"second")
    assert encoder.pending_bytes == 0


@in_one_test
@pytest.mark.parametrize("payload", [b"0123456789", b"L" * 5000], ids=["buffered", "large"])
@pytest.mark.parametrize("rollback", [True, False])
def test_error_behind_a_frame_half_of_which_was_blocked_leaves_no_hole(payload, rollback):
    error = device_error(errno.EIO)
    sink = ToldSink(Take(6), Say(0), Take(3), Fail(error))
    encoder = exact_encoder(sink, 0, rollback=rollback)
    encoder.write_payload(payload)
    with pytest.raises(OSError):
        encoder._drain_buffer()
    # Nine bytes of it may be taken back only if the first six, which went out before, can be given again.
    if encoder.is_refusing:
        assert sink.data == encode(payload)[:9]
        assert_refuses(encoder, sink, error)
    else:
        assert rollback
        assert sink.rolled_back == [9]
        encoder.write_payload(b"next")
        encoder._drain_buffer()
        assert sink.data == encode(payload, b"next")


def test_timeout_of_a_sink_that_may_have_taken_a_part_refuses():
    error = TimeoutError("timed out")
    sink = ToldSink(Fail(error, 3))
    encoder = Encoder(DefaultFramer(), 0, sink.write)
    with pytest.raises(TimeoutError):
        encoder.write_payload(b"first")
    assert_refuses(encoder, sink, error)


@in_one_test
@pytest.mark.parametrize(
    ("value", "shown"), [(-1, "-1"), (10, "10"), ("9", "'9'"), (4.0, "4.0"), (b"", "b''"), ([], r"\[\]")]
)
@pytest.mark.parametrize("exact", [True, False])
def test_sink_that_returns_nonsense_is_an_error_that_says_so_and_refuses(value, shown, exact):
    sink = ToldSink(Say(value))
    encoder = Encoder(DefaultFramer(), 0, sink.write, rollback=sink.rollback, error_takes_nothing=exact)
    with pytest.raises(
        OSError, match=rf"was offered 9 bytes and returned {shown}: how many it took is unknown"
    ) as caught:
        encoder.write_payload(b"first")
    assert caught.value.errno == errno.EIO
    assert sink.rolled_back == []
    assert_refuses(encoder, sink, caught.value)


@in_one_test
@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), ValueError("no")], ids=repr)
@pytest.mark.parametrize("taken", [0, 1, 6])
@pytest.mark.parametrize("payload", [b"first", b"L" * 5000], ids=["buffered", "large"])
def test_system_call_cut_short_by_python_is_made_again_later(payload, taken, interruption):
    begin = [Take(taken)] if taken else []
    sink = ToldSink(*begin, Fail(interruption))
    encoder = exact_encoder(sink, 0)
    with pytest.raises(type(interruption)):
        encoder.write_payload(payload)
    assert not encoder.is_refusing
    # What has begun is finished; what has not is not accepted.
    accepted = [payload] if taken else []
    assert encoder.frames_written == len(accepted)
    encoder.write_payload(b"next")
    assert sink.data == encode(*accepted, b"next")


@pytest.mark.parametrize("payload", [b"first", b"L" * 5000], ids=["buffered", "large"])
def test_sink_without_memory_for_the_number_of_bytes_that_it_took_makes_the_writer_refuse(payload):
    # It may have taken nothing, or all, and not have had the memory to say so.
    sink = ToldSink(Fail(MemoryError()))
    encoder = exact_encoder(sink, 0)
    with pytest.raises(MemoryError) as caught:
        encoder.write_payload(payload)
    assert "it is not known how far into it" in caught.value.__notes__[0]
    assert_refuses(encoder, sink, caught.value)


@pytest.mark.parametrize("size", [10, 1000, 70_000])
def test_any_allocation_that_fails_while_memory_is_the_sink_leaves_whole_frames_or_a_writer_that_refuses(size):
    _testcapi = pytest.importorskip("_testcapi")
    payload = b"x" * size
    failed = refused = 0
    for place in range(60):
        sink = io.BytesIO()
        writer = StreamWriter(sink, buffer_size=64)
        _testcapi.set_nomemory(place, place + 1)
        try:
            writer.write_payload(payload)
            writer.flush()
        except MemoryError:
            failed += 1
        finally:
            _testcapi.remove_mem_hooks()
        try:
            writer.write_payload(payload)
            writer.close()
        except FlatStreamError:
            assert writer.is_refusing
            refused += 1
            with contextlib.suppress(FlatStreamError):
                writer.close()
            continue
        stream = sink.getvalue()
        assert len(stream) % (4 + size) == 0, place
        assert [bytes(each) for each in StreamReader(stream)] == [payload] * (len(stream) // (4 + size))
    assert failed > refused


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), ValueError("no")], ids=repr)
def test_sink_in_python_cut_short_refuses(interruption):
    # It may have handed on what it was given before the signal came.
    sink = ToldSink(Fail(interruption, 3))
    encoder = Encoder(DefaultFramer(), 0, sink.write)
    with pytest.raises(type(interruption)):
        encoder.write_payload(b"first")
    assert_refuses(encoder, sink, interruption)


def test_buffer_that_a_sink_took_is_not_offered_again_when_the_same_call_fails():
    # The first write of a drain succeeds and the second fails: what the first took must not be written twice.
    sink = ToldSink(Take(25), Fail(KeyboardInterrupt()))
    encoder = exact_encoder(sink, 64)
    encoder.write_payloads([b"0123456789ab"] * 3)
    with pytest.raises(KeyboardInterrupt):
        encoder._drain_buffer()
    encoder._drain_buffer()
    assert sink.data == encode(*[b"0123456789ab"] * 3)


# Random schedules


class SometimesFailingSink(ToldSink):
    """Decides at each call what to answer. An exact one that raises has taken nothing; another may have."""

    def __init__(self, chance: random.Random, fault_rate: float, *, exact: bool, none_blocks: bool) -> None:
        super().__init__()
        self.chance = chance
        self.fault_rate = fault_rate
        self.exact = exact
        self.none_blocks = none_blocks

    def next_answer(self) -> Take | Fail | Say | None:
        if self.chance.random() >= self.fault_rate:
            return self.chance.choice((None, Take(1), Take(self.chance.randrange(1, 100))))
        kind = self.chance.randrange(7)
        taken = 0 if self.exact else self.chance.choice((0, 1, 10))
        if kind == 0:
            return Fail(device_error(self.chance.choice(DEVICE_ERRORS)), taken)
        if kind == 1:
            return Fail(InterruptedError(errno.EINTR, "interrupted"))
        if kind == 2:
            return Fail(BlockingIOError(errno.EAGAIN, "full"))
        if kind == 3:
            return Fail(TimeoutError("timed out"), taken)
        if kind == 4:
            return Fail(KeyboardInterrupt(), taken)
        if kind == 5 and self.none_blocks:
            return Say(None)
        return Say(0)

    def rollback(self, count: int) -> bool:
        answers: list[bool | BaseException] = [True, True, True, False, device_error(errno.EIO)]
        self.rollback_answer = self.chance.choice(answers)
        return super().rollback(count)


class Schedule:
    """One random sequence of writes and flushes, and one random schedule of faults; everything is checked each time."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        exact = self.chance.random() < 0.7
        none_blocks = self.chance.random() < 0.5
        self.sink = SometimesFailingSink(
            self.chance, self.chance.choice((0.02, 0.1, 0.4)), exact=exact, none_blocks=none_blocks
        )
        self.encoder = Encoder(
            PythonFramer() if self.chance.random() < 0.2 else DefaultFramer(),
            self.chance.choice((0, 1, 16, 64, 300)),
            self.sink.write,
            writev=self.sink.writev if self.chance.random() < 0.5 else None,
            rollback=self.sink.rollback if exact and self.chance.random() < 0.6 else None,
            error_takes_nothing=exact,
            none_blocks=none_blocks,
        )
        self.accepted: list[bytes] = []
        # Whether the writer has raised because of something that was accepted and may not arrive.
        self.doubtful = b""
        self.frozen: bytes | None = None

    def payload(self) -> bytes:
        size = self.chance.choice((0, 1, 5, 12, 12, 60, 61, 200, 1000))
        return self.chance.randbytes(size)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            step = self.chance.randrange(6)
            if step == 0:
                self.offer([], self.encoder._drain_buffer)
            elif step == 1:
                payloads = [self.payload() for _ in range(self.chance.randrange(1, 8))]
                given: Any = self.chance.choice((iter, list, tuple))(payloads)
                self.offer(payloads, lambda given=given: self.encoder.write_payloads(given))
            else:
                payload = self.payload()
                given = self.chance.choice((bytes, bytearray, memoryview))(payload)
                self.offer([payload], lambda given=given: self.encoder.write_payload(given))
            self.check()
        self.sink.fault_rate = 0
        self.offer([], self.encoder._drain_buffer)
        self.check()
        if not self.encoder.is_refusing:
            assert self.sink.data == encode(*self.accepted)

    def offer(self, payloads: list[bytes], call: Any) -> None:
        before = self.encoder.frames_written
        refused = self.encoder.is_refusing
        self.doubtful = b""
        try:
            call()
        except FlatStreamError:
            assert refused, "refused without an error before"
            assert self.encoder.frames_written == before
            return
        except (OSError, KeyboardInterrupt) as error:
            count = self.encoder.frames_written - before
            assert 0 <= count <= len(payloads)
            if not self.encoder.is_refusing and isinstance(error, OSError) and len(payloads) == 1:
                assert count == 0, "an error for a payload that was accepted"
            if count < len(payloads):
                self.doubtful = encode(payloads[count])
        else:
            count = self.encoder.frames_written - before
            assert count == len(payloads)
            assert not refused, "accepted after a refusal"
        self.accepted += payloads[:count]

    def check(self) -> None:
        encoder, data = self.encoder, bytes(self.sink.data)
        stream = encode(*self.accepted)
        assert encoder.frames_written == len(self.accepted)
        assert encoder.bytes_written == len(stream)
        if not encoder.is_refusing:
            assert data == stream[: len(stream) - encoder.pending_bytes]
            return
        if self.frozen is None:
            self.frozen = data
            # Whole frames, in order, each once, and at most one torn frame behind them.
            assert (stream + self.doubtful).startswith(data)
        assert data == self.frozen, "written after a refusal"


@in_one_test
@pytest.mark.parametrize("block", range(20))
def test_random_faults_lose_and_repeat_nothing(block):
    for seed in range(150 * block, 150 * block + (150 if EVERYTHING else 60)):
        try:
            Schedule(seed).run(25)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.long
@pytest.mark.parametrize("block", range(100))
def test_many_random_faults_lose_and_repeat_nothing(block):
    for seed in range(10_000 + 1000 * block, 10_000 + 1000 * (block + 1)):
        try:
            Schedule(seed).run(40)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise

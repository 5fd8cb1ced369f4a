"""Custom strategies, sinks, sources and builders that answer nonsense: refused with an error that names the culprit.

It says what was expected and what came. Nothing is lost or half written: when the culprit comes to its senses, the
stream goes on, or it refuses to.
"""

from __future__ import annotations

import contextlib
import errno
import io
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest

from flatstream import (
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    DefaultFramer,
    Deframer,
    FlatStreamError,
    Framer,
    FrameSpan,
    InvalidFrameError,
    MemoryPolicy,
    ReclamationReason,
    StreamReader,
    StreamWriter,
    Validator,
    recover,
)
from reference import framing as reference
from support.bad_input import TWO_FRAMES, Case, Errors, table
from support.errors import raised_by
from support.extent import in_one_test
from support.messages import flatbuffer_of_string
from support.sinks import PlainSink

# Checksums


class Answering(Checksum):
    """Answers `nonsense` once, and the sum of all bytes ever after."""

    size = 2

    def __init__(self, nonsense: object) -> None:
        self.nonsense = nonsense
        self.asked = 0

    def calculate(self, payload: Any) -> Any:
        self.asked += 1
        return self.nonsense if self.asked == 1 else sum(bytes(payload))


def sum16(*payloads: bytes) -> bytes:
    return b"".join(
        len(payload).to_bytes(4, "little") + sum(payload).to_bytes(2, "little") + payload for payload in payloads
    )


NO_NUMBERS = [
    (None, "NoneType: None"),
    ("5", "str: '5'"),
    (5.0, r"float: 5\.0"),
    (b"\x05", r"bytes: b'\\x05'"),
    ([5], r"list: \[5\]"),
]
every_no_number = pytest.mark.parametrize(
    ("nonsense", "what"), NO_NUMBERS, ids=[repr(value) for value, _ in NO_NUMBERS]
)


@in_one_test
@every_no_number
def test_checksum_that_calculates_no_number_is_refused_when_writing(nonsense: object, what: str) -> None:
    sink = PlainSink()
    with StreamWriter(sink, ChecksumFramer(Answering(nonsense))) as writer:
        Case("", writer.write_payload, TypeError, f"Answering.calculate must return an int, got {what}").check(b"abc")
        assert writer.frames_written == 0
        writer.write_payload(b"abc")
    assert sink.arrived() == sum16(b"abc")


@in_one_test
@every_no_number
def test_checksum_that_calculates_no_number_is_refused_when_reading(nonsense: object, what: str) -> None:
    with StreamReader(sum16(b"abc", b"de"), ChecksumDeframer(Answering(nonsense))) as reader:
        Case("", reader.read_message, TypeError, f"Answering.calculate must return an int, got {what}").check()
        # The frame was read whole.
        assert list(reader) == [b"de"]


@in_one_test
@every_no_number
def test_checksum_that_calculates_no_number_is_refused_by_verify(nonsense: object, what: str) -> None:
    checksum = Answering(nonsense)
    Case("", checksum.verify, TypeError, f"Answering.calculate must return an int, got {what}").check(294, b"abc")
    checksum.verify(294, memoryview(b"abc"))


class Sized(Checksum):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    @property
    def size(self) -> Any:
        return self.answer

    def calculate(self, payload: Any) -> int:
        return 0


@in_one_test
@pytest.mark.parametrize("make", [ChecksumFramer, ChecksumDeframer])
@pytest.mark.parametrize("size", [None, "4", 4.0, True, -1, 9, 2**70], ids=repr)
def test_checksum_of_an_impossible_size_is_refused(size: Any, make: Callable[[Checksum], object]) -> None:
    error = ValueError if type(size) is int else TypeError
    Case("", make, error, f"Sized.size must be .*from 0 to 8.*, got {size!r}").check(Sized(size))


@in_one_test
@pytest.mark.parametrize("answer", [True, False, "good", 0], ids=repr)
def test_checksum_whose_verify_returns_something_is_refused(answer: object) -> None:
    # A True that means "it is good" would have to be told from a True that means "it is damaged".
    class Verdict(Answering):
        def verify(self, expected: int, payload: Any) -> Any:
            return answer if self.asked == 0 else None

    checksum = Verdict(0)
    with StreamReader(sum16(b"abc", b"de"), ChecksumDeframer(checksum)) as reader:
        message = f"Verdict.verify must return None or raise ChecksumMismatchError, got {answer!r}"
        Case("", reader.read_message, TypeError, message).check()
        checksum.asked = 1
        assert list(reader) == [b"de"]


# Framers


class FramerOf(Framer):
    """Does `action` with writer and payload until it is set to None; then it frames."""

    def __init__(self, action: Callable[[Any, Any], object] | None) -> None:
        self.action = action

    def frame_and_write(self, writer: Any, payload: Any) -> Any:
        if self.action is not None:
            return self.action(writer, payload)
        return DefaultFramer().frame_and_write(writer, payload)


def write_and_return(answer: object) -> Callable[[Any, Any], object]:
    def action(writer: Any, payload: Any) -> object:
        writer.write(b"a frame")
        return answer

    return action


DATA = "data must be a bytes-like object, got "
BAD_FRAMERS: dict[str, tuple[Callable[[Any, Any], object], Errors, str]] = {
    "returns the frame": (
        lambda writer, payload: b"a frame",
        TypeError,
        "frame_and_write must write the frame and return None, got b'a frame'",
    ),
    "returns True": (
        write_and_return(True),
        TypeError,
        "frame_and_write must write the frame and return None, got True",
    ),
    "returns a number": (write_and_return(7), TypeError, "frame_and_write must write the frame and return None, got 7"),
    "writes nothing": (
        lambda writer, payload: None,
        InvalidFrameError,
        r"frame_and_write wrote nothing for a payload of 3 bytes \(frame 1, stream offset 6\)",
    ),
    "writes no bytes": (lambda writer, payload: writer.write(b""), (InvalidFrameError, TypeError), ""),
    "writes str": (lambda writer, payload: writer.write("abc"), TypeError, DATA + "str: encode it first"),
    "writes None": (lambda writer, payload: writer.write(None), TypeError, DATA + "NoneType"),
    "writes a number": (lambda writer, payload: writer.write(5), TypeError, DATA + "int"),
    "writes a strided view": (
        lambda writer, payload: writer.write(payload[::2]),
        BufferError,
        "data must be C-contiguous, got a strided memoryview",
    ),
    "writes into the payload": (lambda writer, payload: payload.__setitem__(0, 1), TypeError, "read-only"),
}


@in_one_test
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in an adapter"])
@pytest.mark.parametrize("name", list(BAD_FRAMERS))
def test_framer_that_answers_nonsense_is_refused(name: str, wrapped: bool) -> None:
    action, error, message = BAD_FRAMERS[name]
    framer = FramerOf(None)
    sink = PlainSink()
    with StreamWriter(sink, framer.bounded(100) if wrapped else framer) as writer:
        writer.write_payload(b"ok")
        framer.action = action
        Case("", writer.write_payload, error, message).check(bytearray(b"abc"))
        assert (writer.frames_written, writer.bytes_written) == (1, 6)
        framer.action = None
        writer.write_payload(b"on")
    assert sink.arrived() == reference.encode([b"ok", b"on"], "none")


@pytest.mark.parametrize("fails", [False, True], ids=["and returns", "and raises"])
def test_framer_that_keeps_the_writer_cannot_use_it_later(fails: bool) -> None:
    kept = []

    def keep(writer: Any, payload: Any) -> None:
        kept.append(writer)
        writer.write(b"frame")
        if fails:
            raise LookupError("the framer fails")

    framer = FramerOf(keep)
    sink = PlainSink()
    with StreamWriter(sink, framer) as writer:
        with pytest.raises(LookupError) if fails else contextlib.nullcontext():
            writer.write_payload(b"abc")
        # Nothing that is written now could ever arrive.
        with pytest.raises(ValueError, match="this frame is finished: a framer must not keep the writer"):
            kept[0].write(b"more")
        framer.action = None
        writer.write_payload(b"on")
    assert sink.arrived() == (b"" if fails else b"frame") + b"\x02\x00\x00\x00on"


def test_framer_that_uses_the_stream_writer_itself_is_refused() -> None:
    # Half of a frame would stand in another.
    writer: StreamWriter
    framer = FramerOf(lambda inside, payload: writer.write_payload(b"inside"))
    sink = PlainSink()
    with StreamWriter(sink, framer) as writer:
        Case("", writer.write_payload, RuntimeError, "reentrant call.*StreamWriter").check(b"abc")
        framer.action = None
        writer.write_payload(b"on")
    assert sink.arrived() == b"\x02\x00\x00\x00on"


# Deframers


class DeframerOf(Deframer):
    """Gives `answer` instead of the frame that begins with "d", until it is set to None."""

    def __init__(self, answer: Any, verdict: Any = None) -> None:
        self.answer = answer
        self.verdict = verdict

    def locate(self, data: Any) -> Any:
        if len(data) < 5:
            return 5
        if self.answer is not None and bytes(data[4:5]) == b"d":
            return self.answer[0]
        end = 4 + int.from_bytes(data[:4], "little")
        return FrameSpan(4, end, end)

    def check(self, frame: Any, payload: Any) -> Any:
        return self.verdict if bytes(payload) == b"de" else None


LOCATE = r"DeframerOf\.locate must return FrameSpan\(payload_start, payload_end, frame_end\) or an int, got "
ORDER = r"DeframerOf\.locate must return 0 <= payload_start <= payload_end <= frame_end and frame_end > 0, got "
THREE = r"DeframerOf\.locate must return a span of three ints, got "
BAD_LOCATES: list[tuple[Any, Errors, str]] = [
    (None, TypeError, LOCATE + "None"),
    ("span", TypeError, LOCATE + "'span'"),
    (3.0, TypeError, LOCATE + r"3\.0"),
    (True, TypeError, LOCATE + "True"),
    ([4, 6, 6], TypeError, LOCATE + r"\[4, 6, 6\]"),
    ((4, 6), TypeError, LOCATE + r"\(4, 6\)"),
    ((4, 6, 6, 6), TypeError, LOCATE + r"\(4, 6, 6, 6\)"),
    (("4", 6, 6), TypeError, THREE + r"\('4', 6, 6\)"),
    ((4, 6.0, 6), TypeError, THREE + r"\(4, 6\.0, 6\)"),
    ((4, 6, None), TypeError, THREE + r"\(4, 6, None\)"),
    (-1, ValueError, "DeframerOf.locate asked for -1 bytes, but it was shown 6"),
    (0, ValueError, "DeframerOf.locate asked for 0 bytes, but it was shown 6"),
    (6, ValueError, "DeframerOf.locate asked for 6 bytes, but it was shown 6"),
    (-(2**70), ValueError, f"DeframerOf.locate asked for {-(2**70)} bytes, but it was shown 6"),
    (2**70, (ValueError, InvalidFrameError), rf"DeframerOf\.locate .*{2**70}"),
    (FrameSpan(0, 0, 0), ValueError, ORDER + r"FrameSpan\(payload_start=0, payload_end=0, frame_end=0\)"),
    ((-1, 6, 6), ValueError, ORDER + r"\(-1, 6, 6\)"),
    ((4, 3, 6), ValueError, ORDER + r"\(4, 3, 6\)"),
    ((4, 7, 6), ValueError, ORDER + r"\(4, 7, 6\)"),
    ((4, 6, -6), ValueError, ORDER + r"\(4, 6, -6\)"),
    ((-(2**70), 6, 6), ValueError, ORDER + rf"\({-(2**70)}, 6, 6\)"),
    ((4, 6, 2**70), (ValueError, InvalidFrameError), rf"DeframerOf\.locate .*{2**70}"),
]


@in_one_test
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in an adapter"])
@pytest.mark.parametrize("source", [bytes, io.BytesIO])
@pytest.mark.parametrize(("answer", "error", "message"), BAD_LOCATES, ids=[repr(each[0]) for each in BAD_LOCATES])
def test_deframer_whose_locate_answers_nonsense_is_refused(
    answer: Any, error: Errors, message: str, source: Any, wrapped: bool
) -> None:
    deframer = DeframerOf([answer])
    with StreamReader(source(TWO_FRAMES), deframer.bounded(100) if wrapped else deframer) as reader:
        assert bytes(next(reader)) == b"abc"
        for read in (reader.read_message, reader.read_batch):
            Case("", read, error, message).check()
            assert (reader.frames_read, reader.offset) == (1, 7)
        # Nothing was consumed, so that a deframer of better memory may go on.
        deframer.answer = None
        assert list(reader) == [b"de"]


@pytest.mark.parametrize("span", [(4, 6, 7), (4, 2**40, 2**40), (2**40, 2**40, 2**40 + 1)], ids=repr)
def test_deframer_whose_span_ends_beyond_the_stream_is_a_torn_stream(span: Any) -> None:
    # A span may reach past what has arrived; that the rest never comes is the end of the stream, and costs no memory.
    with StreamReader(io.BytesIO(TWO_FRAMES), DeframerOf([span]), capacity=16) as reader:
        assert bytes(next(reader)) == b"abc"
        error = raised_by(reader.read_message)
        assert isinstance(error, EOFError)
        assert (error.needed, error.got) == (span[2], 6)  # type: ignore[attr-defined]
        assert reader.buffer_capacity <= 16 + (1 << 20)


@in_one_test
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in an adapter"])
@pytest.mark.parametrize("source", [bytes, io.BytesIO])
@pytest.mark.parametrize("verdict", [False, True, 0, "good"], ids=repr)
def test_deframer_whose_check_returns_something_is_refused(verdict: Any, source: Any, wrapped: bool) -> None:
    deframer = DeframerOf(None, verdict)
    data = TWO_FRAMES + b"\x01\x00\x00\x00f"
    with StreamReader(source(data), deframer.bounded(100) if wrapped else deframer) as reader:
        assert bytes(next(reader)) == b"abc"
        Case("", reader.read_message, TypeError, f"DeframerOf.check must return None or raise, got {verdict!r}").check()
        # The frame was read whole: the next one follows.
        assert list(reader) == [b"f"]


def test_deframer_that_answers_nonsense_is_refused_by_recovery_too() -> None:
    Case("", recover, TypeError, LOCATE + "None").check(TWO_FRAMES, DeframerOf([None]))
    Case("", recover, TypeError, "DeframerOf.check must return None or raise, got False").check(
        TWO_FRAMES, DeframerOf(None, False)
    )


def test_deframer_that_uses_the_stream_reader_itself_is_refused() -> None:
    reader: StreamReader

    class Greedy(DeframerOf):
        def check(self, frame: Any, payload: Any) -> Any:
            return reader.read_message()

    with StreamReader(TWO_FRAMES, Greedy(None)) as reader:
        Case("", reader.read_message, RuntimeError, "reentrant call.*StreamReader").check()


# Validators


class ValidatorOf(Validator):
    def __init__(self, answer: object) -> None:
        self.answer = answer

    def validate(self, payload: Any) -> Any:
        return self.answer if bytes(payload) == b"de" else None


@in_one_test
@pytest.mark.parametrize("answer", [False, True, 0, "bad"], ids=repr)
def test_validator_that_returns_something_is_refused(answer: object) -> None:
    # False says "bad" to one author and nothing to another.
    message = f"ValidatorOf.validate must return None or raise ValidationFailedError, got {answer!r}"
    sink = PlainSink()
    with StreamWriter(sink, DefaultFramer().with_validator(ValidatorOf(answer))) as writer:
        writer.write_payload(b"abc")
        Case("", writer.write_payload, TypeError, message).check(b"de")
        writer.write_payload(b"f")
    data = reference.encode([b"abc", b"f"], "none")
    assert sink.arrived() == data

    deframer = DeframerOf(None).with_validator(ValidatorOf(answer))
    with StreamReader(TWO_FRAMES + data, deframer) as reader:
        assert bytes(next(reader)) == b"abc"
        Case("", reader.read_message, TypeError, message).check()
        assert list(reader) == [b"abc", b"f"]


# Memory policies


class PolicyOf(MemoryPolicy):
    def __init__(self, answer: object, baseline: Any = 0) -> None:
        self.answer = answer
        self.baseline = baseline

    @property
    def baseline_capacity(self) -> Any:
        return self.baseline

    def should_reset(self, last_message_size: int, current_capacity: int) -> Any:
        return self.answer


@in_one_test
@pytest.mark.parametrize("answer", [True, False, 1, "message_count"], ids=repr)
def test_memory_policy_that_answers_nonsense_is_refused_when_writing(answer: object) -> None:
    message = f"PolicyOf.should_reset must return a ReclamationReason or None, got {answer!r}"
    policy = PolicyOf(answer)
    sink = PlainSink()
    with StreamWriter(sink, memory_policy=policy) as writer:
        Case("", writer.write, TypeError, message).check("one")
        # The docstring of write(): whatever is raised, nothing of the item was written.
        assert (writer.frames_written, writer.bytes_written) == (0, 0)
        policy.answer = ReclamationReason.MESSAGE_COUNT
        writer.write("two")
    assert sink.arrived() == reference.encode([flatbuffer_of_string("two")], "none")


@in_one_test
@pytest.mark.parametrize("read", [StreamReader.read_message, StreamReader.read_batch])
@pytest.mark.parametrize("answer", [True, False, 1, "message_count"], ids=repr)
def test_memory_policy_that_answers_nonsense_is_refused_when_reading(answer: object, read: Any) -> None:
    message = f"PolicyOf.should_reset must return a ReclamationReason or None, got {answer!r}"
    payloads = [b"large" * 100, b"a", b"b"]
    policy = PolicyOf(answer)
    with StreamReader(io.BytesIO(reference.encode(payloads, "none")), capacity=64, memory_policy=policy) as reader:
        Case("", read, TypeError, message).check(reader)
        # The payload was not given: it comes again.
        policy.answer = None
        assert [bytes(payload) for payload in reader] == payloads


@in_one_test
@pytest.mark.parametrize("baseline", [None, "16384", 16384.0, True, -1], ids=repr)
def test_memory_policy_with_an_impossible_baseline_is_refused(baseline: Any) -> None:
    policy = PolicyOf(None, baseline)
    error = ValueError if type(baseline) is int else TypeError
    for make in (
        lambda: StreamReader(b"", memory_policy=policy),
        lambda: StreamWriter(PlainSink(), memory_policy=policy),
    ):
        Case("", make, error, f"baseline_capacity must be .*, got .*{baseline}").check()


# Builders


@in_one_test
@pytest.mark.parametrize("answer", [None, 5, b"builder", flatbuffers.Builder], ids=str)
def test_make_builder_that_makes_none_is_refused(answer: Any) -> None:
    made = [answer, flatbuffers.Builder(16)]
    sink = PlainSink()
    with StreamWriter(sink, make_builder=lambda capacity: made.pop(0)) as writer:
        Case("", writer.write, TypeError, r"builder must be .*flatbuffers\.Builder, got ").check("abc")
        assert writer.frames_written == 0
        writer.write("abc")
    assert sink.arrived() == reference.encode([flatbuffer_of_string("abc")], "none")


def test_item_that_uses_the_stream_writer_itself_is_refused() -> None:
    # The builder holds half of another message.
    class Nosy:
        def serialize(self, builder: Any) -> None:
            writer.write("inside")

    sink = PlainSink()
    with StreamWriter(sink) as writer:
        Case("", writer.write, RuntimeError, "reentrant call.*StreamWriter").check(Nosy())
        writer.write("on")
    assert sink.arrived() == reference.encode([flatbuffer_of_string("on")], "none")


# Sinks


class SinkOf(PlainSink):
    """Answers `nonsense` once."""

    def __init__(self, nonsense: Any) -> None:
        super().__init__()
        self.nonsense = [nonsense]

    def write(self, data: Any) -> Any:
        super().write(data)
        return self.nonsense.pop() if self.nonsense else len(data)


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 3, 100])
@pytest.mark.parametrize("answer", [1000, -1, -(2**70), 2**70, "7", 7.0, b"", [7]], ids=repr)
def test_sink_whose_write_answers_nonsense_is_refused(answer: Any, buffer_size: int) -> None:
    sink = SinkOf(answer)
    writer = StreamWriter(sink, buffer_size=buffer_size)

    def write() -> None:
        writer.write_payload(b"abc")
        writer.flush()

    error = Case("", write, OSError, r"write\(\) was offered [0-9]+ bytes and returned ").check()
    assert isinstance(error, OSError)
    assert error.errno == errno.EIO
    assert f"returned {answer!r}" in str(error)
    # How much it took is unknown, so that nothing may follow.
    arrived = sink.arrived()
    refused = Case("", writer.write_payload, FlatStreamError, "refuses to go on.*OSError").check(b"de")
    assert refused.__cause__ is error
    assert isinstance(raised_by(writer.close), FlatStreamError)
    assert sink.arrived() == arrived
    assert writer.closed


@pytest.mark.parametrize("buffer_size", [0, 3, 100])
def test_sink_that_takes_nothing_would_block_and_nothing_is_lost(buffer_size: int) -> None:
    class Full(PlainSink):
        full = True

        def write(self, data: Any) -> int:
            if self.full:
                return 0
            super().write(data)
            return len(data)

    sink = Full()
    writer = StreamWriter(sink, buffer_size=buffer_size)
    accepted = []
    for payload in (b"abc", b"de"):
        error = raised_by(write_and_flush, writer, payload)
        assert isinstance(error, BlockingIOError)
        assert error.errno == errno.EAGAIN
        assert "would block" in str(error)
        accepted.append(payload)
        if writer.frames_written < len(accepted):
            accepted.pop()
    sink.full = False
    writer.write_payload(b"f")
    writer.close()
    assert sink.arrived() == reference.encode([*accepted, b"f"], "none")


def write_and_flush(writer: StreamWriter, payload: bytes) -> None:
    writer.write_payload(payload)
    writer.flush()


# Sources


class SourceOf:
    """Gives TWO_FRAMES from its `position`, but answers `nonsense` once, at 9."""

    def __init__(self, nonsense: Any) -> None:
        self.nonsense = [nonsense]
        self.position = 0

    def take(self, size: int) -> bytes:
        end = 9 if self.position < 9 else len(TWO_FRAMES)
        piece = TWO_FRAMES[self.position : min(end, self.position + size)]
        self.position += len(piece)
        return piece


class ReadintoOf(SourceOf):
    def readinto(self, buffer: Any) -> Any:
        if self.position == 9 and self.nonsense:
            return self.nonsense.pop()
        piece = self.take(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


class ReadOf(SourceOf):
    def read(self, size: int) -> Any:
        if self.position == 9 and self.nonsense:
            nonsense = self.nonsense.pop()
            return nonsense(size) if callable(nonsense) else nonsense
        return self.take(size)


def bad_source_cases() -> list[Case]:
    def readinto(answer: Any) -> Case:
        message = r"readinto\(\) was offered [0-9]+ bytes and returned "
        return Case(f"readinto {answer!r}", lambda: ReadintoOf(answer), OSError, message)

    def read(name: str, answer: Any, error: Errors, message: str) -> Case:
        return Case(f"read {name}", lambda: ReadOf(answer), error, message)

    returned = r"what the source's read\(\) returned must be a bytes-like object, got "
    return [
        *map(readinto, (10**9, -1, 2**70, -(2**70), "3", 3.0, b"abc")),
        read("str", "abc", TypeError, r"the source's read\(\) returned str: open the file in binary mode"),
        read("int", 3, TypeError, returned + "int"),
        read("list", [1, 2], TypeError, returned + "list"),
        read("strided", np.zeros(8, np.uint8)[::2], BufferError, returned[:-30] + ".*strided ndarray"),
        read(
            "too much",
            lambda size: bytes(size + 1),
            OSError,
            r"read\(\) was asked for [0-9]+ bytes and returned [0-9]+",
        ),
    ]


@in_one_test
@table(*bad_source_cases())
def test_source_that_answers_nonsense_is_refused_and_every_later_read_is_too(case: Case) -> None:
    source: Any = case.call()
    with StreamReader(source, capacity=16) as reader:
        assert bytes(next(reader)) == b"abc"
        error = Case("", reader.read_message, case.error, case.message).check()
        if isinstance(error, OSError):
            assert error.errno == errno.EIO
        # What it has lost in between is unknown: the bytes that follow need not be those that are missing.
        for read in (reader.read_message, reader.read_batch):
            assert raised_by(read) is error
        assert (reader.frames_read, reader.offset) == (1, 7)


@in_one_test
@table(*bad_source_cases())
def test_source_that_answers_nonsense_is_refused_by_recovery(case: Case) -> None:
    source: Any = case.call()
    Case("", recover, case.error, case.message).check(source)


@pytest.mark.parametrize("make", [ReadintoOf, ReadOf])
def test_source_that_has_nothing_now_would_block_and_nothing_is_lost(make: Any) -> None:
    with StreamReader(make(None), capacity=16) as reader:
        assert bytes(next(reader)) == b"abc"
        error = raised_by(reader.read_message)
        assert isinstance(error, BlockingIOError)
        assert error.errno == errno.EAGAIN
        assert list(reader) == [b"de"]


def test_source_that_keeps_the_buffer_cannot_change_what_was_read() -> None:
    # It got a view of the chunk; the payloads that lie in there are the reader's to guard.
    kept = []

    class Keeps:
        data = TWO_FRAMES

        def readinto(self, buffer: Any) -> int:
            kept.append(buffer)
            size = len(self.data)
            buffer[:size] = self.data
            self.data = b""
            return size

    with StreamReader(Keeps()) as reader:
        first = next(reader)
        second = next(reader)
        assert reader.read_message() is None
    assert (bytes(first), bytes(second)) == (b"abc", b"de")
    assert len(kept) == 2

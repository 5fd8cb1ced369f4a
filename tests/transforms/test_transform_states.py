"""Transforms with a state: readers that go back, writers whose frames are not accepted, and the ends of streams."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    AdaptiveWatermarkPolicy,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    Description,
    Framer,
    MemoryPolicy,
    SizeValidator,
    StreamReader,
    StreamWriter,
    TransformFramer,
    UnexpectedEofError,
    ValidationFailedError,
)
from flatstream._core.stream.decoder import Decoder
from flatstream._endpoints import PathToOpen, Sink
from reference import framing
from reference import transforms as reference
from support.extent import in_one_test, spread
from support.modes import MODES
from support.streams import by_batch, by_message, next_message
from support.transforms import (
    CASES,
    Case,
    NumberingDeframer,
    NumberingFramer,
    PlainFramer,
    ReversingDeframer,
    ReversingFramer,
    every_state,
    every_transform,
    refused,
)

PAYLOADS = [b"message %d" % number for number in range(12)]


def numbered(payloads: list[bytes] = PAYLOADS, checksum: str = "crc32") -> bytes:
    return reference.encode(reference.NUMBERS.store(payloads), checksum)


def numbers_reader(source: Any, **options: Any) -> StreamReader:
    return StreamReader(source, NumberingDeframer(ChecksumDeframer(Crc32())), **options)


def taken_from(reader: StreamReader, take: str, count: int) -> list[bytes] | None:
    """The next message, or batch of messages; None at the end."""
    if take == "batch":
        batch = reader.read_batch(count)
        return None if batch is None else [bytes(payload) for payload in batch]
    payload = reader.read_message()
    return None if payload is None else [bytes(payload)]


# Readers that go back


class Interrupt(BaseException):
    """What a signal handler may raise."""


@in_one_test
@every_state
@pytest.mark.parametrize("error", [Interrupt, MemoryError, ValidationFailedError])
@pytest.mark.parametrize("take", ["message", "batch"])
def test_observer_that_raises_leaves_the_order_as_it_is(case: Case, error: Any, take: str) -> None:
    stream = case.write(PAYLOADS, MODES["crc32"])
    for at in range(len(PAYLOADS)):
        calls = 0

        def observe(payload: Any, at: int = at) -> None:
            nonlocal calls
            calls += 1
            if calls == at + 1:
                raise error("from the observer")

        found: list[bytes] = []
        raised = 0
        with StreamReader(stream, case.deframer(MODES["crc32"].deframer()).observed(observe)) as reader:
            while True:
                try:
                    taken = taken_from(reader, take, 5)
                except (Interrupt, MemoryError, ValidationFailedError):
                    raised += 1
                    continue
                if taken is None:
                    break
                found += taken
            # A frame that an observer refuses is consumed; when a signal came, it is given again.
            expected = PAYLOADS if error is Interrupt else PAYLOADS[:at] + PAYLOADS[at + 1 :]
            assert (found, raised) == (expected, 1)
            assert reader.frames_read == len(expected)


class FailingPolicy(MemoryPolicy):
    """Raises at every second question, and never wants a smaller chunk."""

    baseline_capacity = 1

    def __init__(self) -> None:
        self.questions = 0

    def should_reset(self, last_message_size: int, current_capacity: int) -> None:
        self.questions += 1
        if self.questions % 2:
            raise OSError(errno.EIO, "the policy fails")


@in_one_test
@every_transform
@pytest.mark.parametrize("take", ["message", "batch"])
def test_policy_that_fails_loses_no_message(case: Case, take: str) -> None:
    stream = case.write([b"x" * 300, *PAYLOADS], MODES["crc32"])
    seen: list[bytes] = []
    policy = FailingPolicy()
    deframer = case.deframer(MODES["crc32"].deframer()).observed(lambda payload: seen.append(bytes(payload)))
    with StreamReader(io.BytesIO(stream), deframer, capacity=16, memory_policy=policy) as reader:
        found: list[bytes] = []
        while True:
            before = reader.frames_read
            try:
                taken = taken_from(reader, take, 1)
            except OSError:
                assert reader.frames_read == before
                continue
            if taken is None:
                break
            found += taken
    assert found == [b"x" * 300, *PAYLOADS]
    assert policy.questions >= 2
    if take == "message":
        # Not a second time for a message that was restored already.
        assert seen == found


@in_one_test
@every_transform
def test_policy_shrinks_the_chunk_of_a_large_frame(case: Case) -> None:
    large = os.urandom(70_000)
    stream = case.write([b"a", large, *PAYLOADS * 30], MODES["crc32"])
    policy = AdaptiveWatermarkPolicy(baseline_capacity=1000, messages_to_wait=3, size_ratio_threshold=2)
    with StreamReader(
        io.BytesIO(stream), case.deframer(MODES["crc32"].deframer()), capacity=1000, memory_policy=policy
    ) as reader:
        assert [bytes(payload) for payload in reader] == [b"a", large, *PAYLOADS * 30]
        assert reader.buffer_capacity <= 2000


def test_message_larger_than_a_batch_is_held_for_the_next_read() -> None:
    payloads = [b"a", b"b" * 50, b"c", b"d" * 30, b"e"]
    seen: list[bytes] = []
    deframer = NumberingDeframer(ChecksumDeframer(Crc32())).observed(lambda payload: seen.append(bytes(payload)))
    stream = numbered(payloads)
    with StreamReader(stream, deframer) as reader:
        batch = reader.read_batch(max_bytes=20)
        assert batch is not None
        assert ([bytes(payload) for payload in batch], reader.frames_read, reader.message_number) == ([b"a"], 1, 0)
        # It was looked at, once.
        assert seen == payloads[:2]
        assert reader.offset == batch._range_of(0)[1]
        assert reader.message_offset == batch.frame_offsets[0]
        assert next_message(reader) == payloads[1]
        assert (reader.frames_read, reader.message_number) == (2, 1)
        assert [list(batch) for batch in reader.batches(max_bytes=2)] == [[b"c"], [b"d" * 30], [b"e"]]
        assert seen == payloads


@in_one_test
@every_state
def test_batch_that_begins_with_a_held_message_is_given_again_as_a_whole(case: Case) -> None:
    calls = 0

    def interrupt_once(payload: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise Interrupt

    stream = case.write([b"a", b"b" * 50, b"c", b"d", b"e", b"f", b"g"], MODES["crc32"])
    with StreamReader(stream, case.deframer(MODES["crc32"].deframer()).observed(interrupt_once)) as reader:
        assert list(map(bytes, reader.read_batch(max_bytes=20) or ())) == [b"a"]
        with pytest.raises(Interrupt):
            reader.read_batch()
        assert reader.frames_read == 1
        assert by_batch(reader) == [b"b" * 50, b"c", b"d", b"e", b"f", b"g"]
        assert reader.frames_read == 7


def test_error_behind_a_batch_comes_with_the_next_read_and_the_order_goes_on() -> None:
    stream = bytearray(numbered())
    frames = framing.decode(bytes(stream), "crc32").outcomes
    stream[frames[5].offset + 9] ^= 1
    with numbers_reader(bytes(stream)) as reader:
        batch = reader.read_batch()
        assert batch is not None
        assert list(batch) == PAYLOADS[:4]
        assert reader.offset == frames[5].offset
        with pytest.raises(ChecksumMismatchError) as caught:
            reader.read_batch()
        assert (caught.value.offset, caught.value.frame) == (frames[5].offset, 4)
        assert by_batch(reader) == PAYLOADS[5:]


@in_one_test
@pytest.mark.parametrize("first", ["stop", "raise"])
@pytest.mark.parametrize("second", ["raise", "skip", "stop"])
@pytest.mark.parametrize("hit", [2, 4, 11])
def test_frame_refused_under_one_mode_is_the_next_one_under_another(first: Any, second: Any, hit: int) -> None:
    # A frame left out: nothing is damaged, and the order is not.
    stored = reference.NUMBERS.store(PAYLOADS)
    stream = reference.encode(stored[:hit] + stored[hit + 1 :], "crc32")
    with numbers_reader(stream) as reader:
        found = list(map(bytes, reader.read_batch(on_error=first) or ()))
        assert found == PAYLOADS[: hit - 1]
        rest: list[bytes] = []
        errors = 0
        while True:
            try:
                batch = reader.read_batch(on_error=second)
            except ValidationFailedError:
                errors += 1
                continue
            if batch is None:
                break
            rest += map(bytes, batch)
        if second == "stop":
            assert reader.stop_error is not None
            assert rest == []
        else:
            # The frame behind the gap is refused, and those behind it are in order.
            assert found + rest == PAYLOADS[: hit - 1] + PAYLOADS[hit + 1 :]
            assert errors == (second == "raise")


def test_transform_is_told_which_mode_begins() -> None:
    with numbers_reader(numbered()) as reader:
        session: Any = reader._session
        reader.read_batch(1)
        assert session.tolerated == []
        reader.read_batch(1, on_error="stop")
        reader.read_batch(1, on_error="skip")
        reader.read_batch(1, on_error="resync")
        reader.read_batch(1)
        reader.read_message()
        assert session.tolerated == [True, False]


# Ends


def without_end(payloads: list[bytes] = PAYLOADS) -> bytes:
    return reference.encode(reference.NUMBERS.store(payloads)[:-1], "crc32")


@in_one_test
@pytest.mark.parametrize("take", [by_message, by_batch], ids=["message", "batch"])
def test_stream_that_cannot_end_there_is_told_at_its_end(take: Callable[[StreamReader], list[bytes]]) -> None:
    deframer = NumberingDeframer(ChecksumDeframer(Crc32()), needs_end=True).bounded(100)
    with StreamReader(numbered(), deframer) as reader:
        assert take(reader) == PAYLOADS
    stream = without_end()
    for open_source in (bytes, io.BytesIO):
        for on_error in ("raise", "skip", "resync"):
            with StreamReader(open_source(stream), deframer, on_error=on_error) as reader:
                assert [next_message(reader) for _ in PAYLOADS] == PAYLOADS
                for _ in range(2):
                    with pytest.raises(ValidationFailedError, match="no end") as caught:
                        reader.read_message() if take is by_message else reader.read_batch()
                    assert (caught.value.offset, caught.value.frame) == (len(stream), len(PAYLOADS))
                assert reader.skipped == 0
    with StreamReader(stream, deframer, on_error="stop") as reader:
        assert take(reader) == PAYLOADS
        assert isinstance(reader.stop_error, ValidationFailedError)


def test_torn_stream_is_torn_and_not_asked_for_its_end() -> None:
    deframer = NumberingDeframer(ChecksumDeframer(Crc32()), needs_end=True)
    with StreamReader(without_end()[:-1], deframer) as reader, pytest.raises(UnexpectedEofError):
        by_message(reader)


class Recording(Deframer):
    """A deframer in Python that tells what it is called with, and is no adapter."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def locate(self, data: Any) -> Any:
        return DefaultDeframer().locate(data)

    def start(self) -> Recording:
        self.calls.append("start")
        return self

    def end(self) -> None:
        self.calls.append("end")

    def bind_description(self, payload: bytes) -> None:
        self.calls.append(f"description of {type(payload).__name__}")


def test_deframer_in_python_is_told_of_a_stream() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, describe=True) as writer:
        writer.write_payload(b"a")
    base = Recording()
    with StreamReader(sink.getvalue(), base.bounded(10).observed(len)) as reader:
        assert base.calls == ["start"]
        assert by_message(reader) == [b"a"]
        assert base.calls == ["start", "description of bytes", "end"]
        assert reader.read_batch() is None
    assert base.calls == ["start", "description of bytes", "end", "end"]


class OwnFrames(Framer):
    """A framer in Python with frames of its own, without a transform."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def frame_and_write(self, writer: Any, payload: Any) -> None:
        DefaultFramer().frame_and_write(writer, payload)

    def start(self, after: bytes | None = None) -> OwnFrames:
        self.calls.append(("start", after))
        return OwnFrames(self.calls)

    def bind_description(self, payload: bytes) -> None:
        self.calls.append(("description", payload[4:8]))

    def begin(self) -> list[bytes]:
        self.calls.append("begin")
        return [framing.encode([b"<"], "none")]

    def accepted(self) -> None:
        self.calls.append("accepted")

    def finish(self) -> list[bytes]:
        self.calls.append("finish")
        return [framing.encode([b">"], "none"), framing.encode([b"."], "none")]


@in_one_test
@pytest.mark.parametrize("buffer_size", [65536, 0, 20])
def test_framer_in_python_has_frames_of_its_own(buffer_size: int) -> None:
    calls: list[Any] = []
    sink = io.BytesIO()
    writer = StreamWriter(sink, OwnFrames(calls).bounded(20), describe=True, buffer_size=buffer_size)
    assert calls == [("start", None), ("description", b"FSD1"), "begin"]
    writer.write_payloads([b"a", b"b"])
    assert writer.detach() is sink
    # Without a transform, nothing is said of what is accepted.
    assert calls[3:] == ["finish"]
    with StreamReader(sink.getvalue()) as reader:
        assert by_message(reader) == [b"<", b"a", b"b", b">", b"."]
    assert (writer.frames_written, writer.bytes_written) == (2, 10)


# Writers


class FailingAt(NumberingFramer):
    """Fails for the payloads that say so."""

    def transform(self, payload: memoryview) -> bytes:
        if bytes(payload[:4]) == b"fail":
            raise refused("as asked")
        return super().transform(payload)


def test_payload_that_is_not_transformed_is_not_written_and_the_next_one_is() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, FailingAt(ChecksumFramer(Crc32())).bounded(100)) as writer:
        for payload in PAYLOADS:
            writer.write_payload(payload)
            with pytest.raises(ValidationFailedError) as caught:
                writer.write_payload(b"fail")
            assert (caught.value.frame, caught.value.offset) == (writer.frames_written, writer.bytes_written + 9)
            with pytest.raises(flatstream.InvalidFrameError):
                writer.write_payload(bytes(101))
    assert sink.getvalue() == numbered()


class Disk:
    """Takes `room` bytes, is full then until somebody makes room, and can be cut."""

    def __init__(self, room: int, error: BaseException | None = None) -> None:
        self.data = bytearray()
        self.room = room
        self.error = error or OSError(errno.ENOSPC, "No space left on device")

    def write(self, data: Any) -> int:
        if not self.room:
            raise self.error.with_traceback(None)
        taken = min(self.room, len(data))
        self.data += bytes(data[:taken])
        self.room -= taken
        return taken

    def rollback(self, size: int) -> bool:
        del self.data[len(self.data) - size :]
        return True

    def sink(self) -> Sink:
        return Sink(self, self.write, rollback=self.rollback, error_takes_nothing=True, takes_at_once=True)


@in_one_test
@every_state
@pytest.mark.parametrize("buffer_size", [0, 64, 65536])
def test_frame_that_a_full_disk_did_not_take_is_not_counted(case: Case, buffer_size: int) -> None:
    whole = case.write(PAYLOADS, MODES["crc32"])
    refusals = 0
    for room in spread(range(len(whole)), 17):
        disk = Disk(room)
        writer = StreamWriter(disk.sink(), case.framer(MODES["crc32"].framer()), buffer_size=buffer_size)
        accepted: list[bytes] = []
        for payload in PAYLOADS:
            before = writer.frames_written
            try:
                writer.write_payload(payload)
            except OSError:
                refusals += 1
                if len(accepted) % 2:
                    disk.room += 1000
                if writer.frames_written == before:
                    continue
            accepted.append(payload)
        assert writer.frames_written == len(accepted)
        disk.room = 1 << 20
        writer.close()
        with StreamReader(bytes(disk.data), case.deframer(MODES["crc32"].deframer())) as reader:
            assert by_message(reader) == accepted
            assert reader._control_frames == sum(case.controls)
    assert refusals or buffer_size == 65536


@in_one_test
@every_state
@pytest.mark.parametrize("size", [8, 5000])
def test_frame_of_which_the_sink_has_a_part_is_accepted_though_the_write_was_interrupted(case: Case, size: int) -> None:
    payloads = [b"%d" % number * size for number in range(1, 5)]
    frames = framing.decode(case.write(payloads, MODES["crc32"]), "crc32").outcomes
    second = frames[case.controls[0] + 1]
    for taken in (0, 1, 9, second.size - 1):
        disk = Disk(second.offset + taken, Interrupt())
        writer = StreamWriter(disk.sink(), case.framer(MODES["crc32"].framer()), buffer_size=0)
        writer.write_payload(payloads[0])
        with pytest.raises(Interrupt):
            writer.write_payload(payloads[1])
        # With a part of it there, its rest follows with the next write.
        assert writer.frames_written == (2 if taken else 1)
        disk.room = 1 << 20
        for payload in payloads[writer.frames_written :]:
            writer.write_payload(payload)
        writer.close()
        with StreamReader(bytes(disk.data), case.deframer(MODES["crc32"].deframer())) as reader:
            assert by_message(reader) == payloads


class Blocking(io.RawIOBase):
    """A sink that takes `room` bytes, and then would block until there is room again."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.room = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        if not self.room:
            return None
        taken = min(self.room, len(data))
        self.data += bytes(data[:taken])
        self.room -= taken
        return taken


@in_one_test
@every_transform
@pytest.mark.parametrize("buffer_size", [0, 30, 65536])
def test_sink_that_blocks_gets_every_message_once_and_in_order(case: Case, buffer_size: int) -> None:
    sink = Blocking()
    writer = StreamWriter(sink, case.framer(MODES["crc32"].framer()), buffer_size=buffer_size)
    for payload in PAYLOADS:
        while True:
            before = writer.frames_written
            try:
                writer.write_payload(payload)
            except BlockingIOError:
                sink.room += 7
                if writer.frames_written == before:
                    continue
            break
    closing = 0
    while not writer.closed:
        try:
            writer.close()
        except BlockingIOError:
            closing += 1
            sink.room += 7
            if sum(case.controls):
                # The end is in the buffer, so that nothing can follow.
                with pytest.raises(ValueError, match="is being closed: the end of the stream was written already"):
                    writer.write_payload(b"late")
    assert closing
    with StreamReader(bytes(sink.data), case.deframer(MODES["crc32"].deframer())) as reader:
        assert by_message(reader) == PAYLOADS
        assert reader._control_frames == sum(case.controls)
    assert writer.frames_written == len(PAYLOADS)


class Counting(PlainFramer):
    """Tells how many payloads it got, and how many frames were accepted."""

    def __init__(self, inner: Framer) -> None:
        super().__init__(inner)
        self.transformed = self.taken = 0

    def transform(self, payload: memoryview) -> memoryview:
        self.transformed += 1
        return payload

    def accepted(self) -> None:
        self.taken += 1


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 1000])
def test_every_transform_of_a_chain_is_told_of_each_accepted_frame(buffer_size: int) -> None:
    inner = Counting(DefaultFramer().bounded(50))
    outer = Counting(inner.observed(len))
    sink = Blocking()
    sink.room = 100
    writer = StreamWriter(sink, outer.bounded(60), buffer_size=buffer_size)
    for number, size in ((1, 10), (2, 20)):
        writer.write_payload(bytes(size))
        assert [outer.transformed, outer.taken, inner.transformed, inner.taken] == [number] * 4
    # Refused outside, between them, and inside.
    with pytest.raises(flatstream.InvalidFrameError):
        writer.write_payload(bytes(61))
    assert [outer.transformed, outer.taken, inner.transformed, inner.taken] == [2] * 4
    with pytest.raises(flatstream.InvalidFrameError):
        writer.write_payload(bytes(51))
    assert [outer.transformed, outer.taken, inner.transformed, inner.taken] == [3, 2, 3, 2]
    writer.close()


class Bad(TransformFramer):
    """Gives wrong answers."""

    answers: dict[str, Any]

    def __init__(self, inner: Framer, **answers: Any) -> None:
        super().__init__(inner)
        self.answers = answers

    def start(self, after: bytes | None = None) -> Framer:
        return self.answers.get("start", self)  # type: ignore[no-any-return]

    def begin(self) -> list[bytes]:
        return self.answers.get("begin", [])  # type: ignore[no-any-return]

    def finish(self) -> list[bytes]:
        answer = self.answers.get("finish", [])
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def transform(self, payload: memoryview) -> Any:
        return self.answers.get("transform", payload)


@in_one_test
@pytest.mark.parametrize("answer", [None, "text", 3, [b"a"]])
def test_wrong_answers_of_a_framer_are_type_errors(answer: Any, tmp_path: Path) -> None:
    path = tmp_path / "old.fs"
    path.write_bytes(b"something")
    for name, text in (
        ("start", "Bad.start must return a Framer"),
        ("begin", "Bad.begin must return a list of frames, each bytes"),
    ):
        if name == "begin" and answer == [b"a"]:
            continue
        with pytest.raises(TypeError, match=text):
            StreamWriter(path, Bad(DefaultFramer(), **{name: answer}))
    # The file was not emptied.
    assert path.read_bytes() == b"something"
    writer = StreamWriter(io.BytesIO(), Bad(DefaultFramer(), transform=answer))
    with pytest.raises(TypeError, match=r"what Bad.transform returned must be a bytes-like object"):
        writer.write_payload(b"a")
    assert writer.frames_written == 0
    writer.close()


@in_one_test
@pytest.mark.parametrize("answer", [None, [b""], (b"a",), ["text"], ValueError("no end"), refused("no end")])
def test_framer_that_fails_at_the_end_loses_no_message(answer: Any) -> None:
    sink = io.BytesIO()
    writer = StreamWriter(sink, Bad(DefaultFramer(), finish=answer))
    writer.write_payload(b"a")
    kind = type(answer) if isinstance(answer, Exception) else TypeError
    with pytest.raises(kind, match=r"no end|Bad\.finish must return a list of frames"):
        writer.close()
    assert writer.closed
    assert sink.getvalue() == framing.encode([b"a"], "none")
    writer.close()


class BadDeframer(ReversingDeframer):
    def __init__(self, inner: Deframer, answer: Any) -> None:
        super().__init__(inner)
        self.answer = answer

    def restore(self, payload: memoryview) -> Any:
        return self.answer if bytes(payload) == b"Rdab" else super().restore(payload)


@in_one_test
@pytest.mark.parametrize("answer", ["text", 3, [b"a"], object()])
def test_wrong_answer_of_a_deframer_is_a_type_error_and_the_next_message_comes(answer: Any) -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, ReversingFramer(DefaultFramer())) as writer:
        writer.write_payloads([b"a", b"bad", b"c"])
    with StreamReader(sink.getvalue(), BadDeframer(DefaultDeframer(), answer)) as reader:
        assert next_message(reader) == b"a"
        with pytest.raises(TypeError, match=r"what BadDeframer.restore returned must be a bytes-like object"):
            reader.read_message()
        assert next_message(reader) == b"c"

    class Starting(ReversingDeframer):
        def start(self) -> Any:
            return answer

    with pytest.raises(TypeError, match=r"Starting\.start must return a Deframer"):
        StreamReader(sink.getvalue(), Starting(DefaultDeframer()))

    class Around(ReversingDeframer):
        def with_inner(self, inner: Deframer) -> Any:
            return answer

    with pytest.raises(TypeError, match=r"Around.with_inner must return a TransformDeframer"):
        StreamReader(sink.getvalue(), Around(NumberingDeframer(DefaultDeframer())))


# Deframers that a description asks for


def described(payloads: list[bytes], **options: Any) -> bytes:
    return CASES["numbers"].write(payloads, MODES["crc32"], describe=True, **options)


def core_decoder(source: bytes, choose: Any, **options: Any) -> Any:
    return Decoder(
        ChecksumDeframer(Crc32()),
        4096,
        buffer=source,
        parse_description=Description.from_bytes,
        deframer_for=choose,
        **options,
    )


def test_description_chooses_the_deframer_of_what_follows() -> None:
    chosen: list[Any] = []

    def choose(description: Description) -> Deframer:
        chosen.append(NumberingDeframer(ChecksumDeframer(Crc32())))
        return chosen[-1]  # type: ignore[no-any-return]

    stream = described(PAYLOADS)
    for take in (by_message, by_batch):
        decoder = core_decoder(stream, choose)
        assert take(decoder) == PAYLOADS
        assert decoder.deframer is chosen[-1]
        assert isinstance(decoder._description, Description)
    # None: the given one goes on. Without a description it is not asked.
    decoder = core_decoder(stream, lambda description: None)
    assert len(by_message(decoder)) == len(PAYLOADS) + 2
    count = len(chosen)
    decoder = core_decoder(numbered(), choose)
    assert len(by_message(decoder)) == len(PAYLOADS) + 2
    assert len(chosen) == count


@in_one_test
@pytest.mark.parametrize("error", [TypeError("no cipher"), refused("no cipher"), OSError(errno.ENOENT, "no cipher")])
@pytest.mark.parametrize("on_error", ["raise", "skip", "stop", "resync"])
def test_deframer_that_cannot_be_made_is_an_error_of_each_read_of_a_message(error: Exception, on_error: Any) -> None:
    def choose(description: Description) -> Deframer:
        raise error

    decoder = core_decoder(described(PAYLOADS), choose, on_error=on_error)
    if on_error != "skip":
        assert decoder._description is not None
    for _ in range(3):
        with pytest.raises(type(error), match="no cipher"):
            decoder.read_batch() if on_error == "stop" else decoder.read_message()
    assert decoder._description is not None
    assert decoder.frames_read == 0


# Files


def test_file_that_is_followed_gives_messages_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    for case in CASES.values():
        framer = case.framer(MODES["crc32"].framer())
        deframer = case.deframer(MODES["crc32"].deframer())
        with StreamWriter(path, framer, describe=True, buffer_size=0) as writer:
            readers = StreamReader(path, deframer, follow=True), StreamReader(path, deframer, follow=True)
            with readers[0] as reader, readers[1] as batches:
                for payload in PAYLOADS:
                    with pytest.raises(TimeoutError):
                        reader.read_message(timeout=0)
                    writer.write_payload(payload)
                    assert next_message(reader, 60) == payload
                    batch = batches.read_batch()
                    assert batch is not None
                    assert list(batch) == [payload]
                # Half a frame is not there yet.
                end = path.stat().st_size
                writer.write_payload(b"whole")
                whole = path.read_bytes()
                with open(path, "r+b") as file:
                    file.truncate(end + 9)
                with pytest.raises(TimeoutError):
                    reader.read_message(timeout=0)
                with open(path, "r+b") as file:
                    file.seek(0, os.SEEK_END)
                    file.write(whole[end + 9 :])
                assert next_message(reader, 60) == b"whole"
                writer.close()
                with pytest.raises(TimeoutError):
                    reader.read_message(timeout=0)


def test_damaged_frame_of_a_followed_file_is_refused_and_the_order_goes_on(tmp_path: Path) -> None:
    stream = bytearray(numbered())
    frames = framing.decode(bytes(stream), "crc32").outcomes
    stream[frames[5].offset + 9] ^= 1
    path = tmp_path / "a.fs"
    path.write_bytes(stream)
    with numbers_reader(path, follow=True) as reader:
        assert [next_message(reader, 60) for _ in range(4)] == PAYLOADS[:4]
        with pytest.raises(ChecksumMismatchError):
            reader.read_message(timeout=60)
        assert [next_message(reader, 60) for _ in range(7)] == PAYLOADS[5:]


@pytest.mark.parametrize("describe", [None, True])
def test_appending_restarts_the_framer_with_what_it_is_given(tmp_path: Path, describe: Any) -> None:
    path = tmp_path / "a.fs"
    calls: list[Any] = []
    with StreamWriter(path, OwnFrames(calls), describe=describe) as writer:
        writer.write_payload(b"a")
    description = writer.description
    calls.clear()
    for message in (None, b"b"):
        writer = StreamWriter(PathToOpen(os.fspath(path), "ab", True), OwnFrames(calls), _begins=False)
        writer._append_to(description, None, is_new=False, after=b"after")
        if message is not None:
            writer.write_payload(message)
        writer.close()
    begun = [("start", None), ("start", b"after"), *([("description", b"FSD1")] if describe else [])]
    assert [call for call in calls if call != ("start", None)] == [
        call for call in [*begun, *begun, "begin", "finish"] if call != ("start", None)
    ]
    with StreamReader(path) as reader:
        assert by_message(reader) == [b"<", b"a", b">", b".", b"<", b"b", b">", b"."]


def test_validator_outside_of_a_transform_does_not_disturb_the_order() -> None:
    deframer = NumberingDeframer(ChecksumDeframer(Crc32())).with_validator(SizeValidator(0, 9))
    payloads = [b"a", b"b" * 10, b"c"] * 3
    with StreamReader(numbered(payloads), deframer) as reader:
        session: Any = reader._session
        found: list[bytes] = []
        errors = 0
        while True:
            try:
                batch = reader.read_batch()
            except ValidationFailedError:
                errors += 1
                # Nothing is missing.
                assert not session.inner.may_be_later
                continue
            if batch is None:
                break
            found += map(bytes, batch)
    assert (found, errors) == ([payload for payload in payloads if len(payload) < 10], 3)


# Sources with parts


class Pieces:
    """Streams one after another, as the segments of a journal are."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.number = self.taken = 0
        self.position = 0
        self.is_growing = False
        self.damage: list[Exception] = []

    def readinto(self, buffer: Any) -> int:
        piece = self.pieces[self.number][self.taken : self.taken + len(buffer)]
        buffer[: len(piece)] = piece
        self.taken += len(piece)
        return len(piece)

    def begins_at(self, offset: int) -> bool:
        return offset in [sum(map(len, self.pieces[:number])) for number in range(len(self.pieces) + 1)]

    def advance(self, offset: int, delivered: int, refused: int) -> bool:
        if self.number + 1 == len(self.pieces):
            return False
        self.number, self.taken = self.number + 1, 0
        return True


@in_one_test
@every_state
@pytest.mark.parametrize("take", [by_message, by_batch], ids=["message", "batch"])
def test_each_part_has_a_copy_of_the_chain_of_its_own(case: Case, take: Callable[[Any], list[bytes]]) -> None:
    payloads = [PAYLOADS[:4], [], PAYLOADS[4:5], PAYLOADS[5:]]
    pieces = Pieces(
        [case.write(some, MODES["crc32"], describe=number % 2 == 1) for number, some in enumerate(payloads)]
    )
    decoder = Decoder(
        case.deframer(MODES["crc32"].deframer()),
        64,
        readinto=pieces.readinto,
        parts=pieces,
        parse_description=Description.from_bytes,
    )
    assert take(decoder) == PAYLOADS
    assert decoder._control_frames == len(payloads) * sum(case.controls)
    assert decoder.offset == sum(map(len, pieces.pieces))


def test_each_part_is_told_where_it_ends() -> None:
    whole, torn = numbered([b"a"]), without_end([b"b"])
    deframer = NumberingDeframer(ChecksumDeframer(Crc32()), needs_end=True)
    pieces = Pieces([whole, torn, whole])
    decoder: Any = Decoder(deframer, 64, readinto=pieces.readinto, parts=pieces)
    assert [bytes(decoder.read_message()) for _ in range(2)] == [b"a", b"b"]
    with pytest.raises(ValidationFailedError, match="no end") as caught:
        decoder.read_message()
    assert caught.value.offset == len(whole + torn)


def test_part_goes_back_to_the_deframer_that_was_given() -> None:
    plain = io.BytesIO()
    with StreamWriter(plain, "crc32") as writer:
        writer.write_payloads([b"c", b"d"])
    pieces = Pieces([described([b"a", b"b"]), plain.getvalue(), described([b"e"])])
    given: Any = ChecksumDeframer(Crc32())
    decoder: Any = Decoder(
        given,
        64,
        readinto=pieces.readinto,
        parts=pieces,
        parse_description=Description.from_bytes,
        deframer_for=lambda description: NumberingDeframer(given),
    )
    assert decoder.deframer is given
    assert by_message(decoder) == [b"a", b"b", b"c", b"d", b"e"]
    assert type(decoder.deframer) is NumberingDeframer

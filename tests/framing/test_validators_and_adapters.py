"""Validators, and the adapters of framers and deframers: what each is asked, when, and how often."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from flatstream import (
    BoundedDeframer,
    BoundedFramer,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    CompositeValidator,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    Framer,
    InvalidFrameError,
    NoValidator,
    ObserverDeframer,
    ObserverFramer,
    SizeValidator,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
    ValidatingDeframer,
    ValidatingFramer,
    ValidationFailedError,
    Validator,
)
from reference import framing as reference
from support.extent import in_one_test
from support.items import finished_builder
from support.messages import flatbuffer_of_string
from support.modes import MODES, Mode, every_mode
from support.python_strategies import PythonDeframer, PythonFramer
from support.sinks import PlainSink
from support.sources import CutSource
from support.streams import corpus, flip, read_all


class Recorder(Validator):
    """Notes what it was asked, and refuses payloads that begin with `refused`."""

    def __init__(
        self, refused: bytes | None = None, log: list[tuple[str, bytes]] | None = None, name: str = ""
    ) -> None:
        self.refused = refused
        self.log: list[tuple[str, bytes]] = [] if log is None else log
        self.given_name = name

    @property
    def name(self) -> str:
        return self.given_name

    def validate(self, payload: Any) -> None:
        self.log.append((self.given_name, bytes(payload)))
        if self.refused is not None and bytes(payload).startswith(self.refused):
            raise ValidationFailedError(validator=self.name, reason="it begins like that")


# Validators


def test_no_validator_accepts_everything() -> None:
    for payload in (b"", b"abc", bytes(1000)):
        NoValidator().validate(payload)
    sink = PlainSink()
    with StreamWriter(sink, DefaultFramer().with_validator(NoValidator())) as writer:
        writer.write_payload(b"")
    assert read_all(sink.arrived(), DefaultDeframer().with_validator(NoValidator())) == ([b""], None)


@in_one_test
@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 3), (2, 5), (3, 3), (1, 2**32 - 1)])
def test_size_validator_accepts_sizes_between_its_limits_both_included(low: int, high: int) -> None:
    validator = SizeValidator(low, high)
    assert (validator.min_size, validator.max_size, validator.name) == (low, high, "SizeValidator")
    for size in range(8):
        if low <= size <= high:
            validator.validate(bytes(size))
            continue
        with pytest.raises(ValidationFailedError) as caught:
            validator.validate(bytes(size))
        assert caught.value.validator == "SizeValidator"
        assert caught.value.reason == (
            f"{size} bytes are fewer than the {low} required"
            if size < low
            else f"{size} bytes are more than the {high} allowed"
        )


def test_composite_validator_is_and_and_stops_at_the_first_failure() -> None:
    log: list[tuple[str, bytes]] = []
    composite = CompositeValidator(
        Recorder(None, log, "first"), Recorder(b"b", log, "second"), Recorder(b"", log, "third")
    )
    with pytest.raises(ValidationFailedError) as caught:
        composite.validate(b"bad")
    assert caught.value.validator == "second"
    assert log == [("first", b"bad"), ("second", b"bad")]

    log.clear()
    with pytest.raises(ValidationFailedError) as caught:
        composite.validate(b"good")
    assert caught.value.validator == "third"
    assert log == [("first", b"good"), ("second", b"good"), ("third", b"good")]


def test_composite_validator_of_none_accepts_everything() -> None:
    CompositeValidator().validate(b"anything")


def test_composite_validator_add_gives_a_longer_one_and_leaves_the_old() -> None:
    size = SizeValidator(0, 3)
    old = CompositeValidator(NoValidator())
    new = old.add(size)
    assert (len(old.validators), new.validators[1:]) == (1, (size,))
    old.validate(b"long enough")
    with pytest.raises(ValidationFailedError):
        new.validate(b"long enough")


def test_composite_validators_nest() -> None:
    log: list[tuple[str, bytes]] = []
    inner = CompositeValidator(Recorder(None, log, "b"), SizeValidator(0, 2), Recorder(None, log, "never"))
    with pytest.raises(ValidationFailedError) as caught:
        CompositeValidator(Recorder(None, log, "a"), inner, Recorder(None, log, "never")).validate(b"abc")
    assert caught.value.validator == "SizeValidator"
    assert [name for name, _ in log] == ["a", "b"]


@in_one_test
@every_mode
@pytest.mark.parametrize("in_python", [False, True], ids=["SizeValidator", "python"])
def test_validation_happens_before_writing(mode: Mode, in_python: bool) -> None:
    validator = Recorder(b"long", name="Recorder") if in_python else SizeValidator(0, 3)
    sink = PlainSink()
    with StreamWriter(sink, mode.framer().with_validator(validator), buffer_size=0) as writer:
        writer.write_payload(b"ok")
        with pytest.raises(ValidationFailedError) as caught:
            writer.write_payload(b"long payload")
        assert (caught.value.frame, caught.value.offset) == (1, 4 + mode.size + 2)
        assert (caught.value.validator, caught.value.reason) == (
            ("Recorder", "it begins like that")
            if in_python
            else ("SizeValidator", "12 bytes are more than the 3 allowed")
        )
        assert writer.frames_written == 1
        writer.write_payload(b"yes")
    assert sink.arrived() == reference.encode([b"ok", b"yes"], mode.name)


@in_one_test
@pytest.mark.parametrize(
    "write",
    [
        lambda writer, text: writer.write(text),
        lambda writer, text: writer.write_batch([text]),
        lambda writer, text: writer.write_finished(finished_builder(text)),
        lambda writer, text: writer.write_message(finished_builder(text)),
        lambda writer, text: writer.write_payload(flatbuffer_of_string(text)),
        lambda writer, text: writer.write_payloads([flatbuffer_of_string(text)]),
    ],
    ids=["write", "write_batch", "write_finished", "write_message", "write_payload", "write_payloads"],
)
def test_every_way_of_writing_is_validated(write: Callable[[StreamWriter, str], None]) -> None:
    validator = Recorder()
    with StreamWriter(PlainSink(), DefaultFramer().with_validator(validator)) as writer:
        write(writer, "text")
    assert validator.log == [("", flatbuffer_of_string("text"))]


def test_validation_happens_after_the_checksum_on_reading() -> None:
    stream = corpus(MODES["crc32"], [b"one", b"two", b"three"])
    damaged = flip(stream.data, 8 * (stream.ends[1] - 1))
    validator = Recorder(b"o", name="Recorder")
    with StreamReader(damaged, MODES["crc32"].deframer().with_validator(validator)) as reader:
        with pytest.raises(ValidationFailedError):
            reader.read_message()
        with pytest.raises(ChecksumMismatchError):
            reader.read_message()
        assert list(reader) == [b"three"]
    # What has not its checksum is none of the validator's business.
    assert [payload for _, payload in validator.log] == [b"one", b"three"]


@in_one_test
@every_mode
@pytest.mark.parametrize("in_python", [False, True], ids=["SizeValidator", "python"])
def test_refused_frame_is_consumed_and_the_next_can_be_read(mode: Mode, in_python: bool) -> None:
    stream = corpus(mode, [b"ok", b"long payload", b"", b"long again", b"yes"])
    validator = Recorder(b"long", name="Recorder") if in_python else SizeValidator(0, 3)
    for source in (stream.data, CutSource(stream.data, range(len(stream.data)))):
        with StreamReader(source, mode.deframer().with_validator(validator)) as reader:
            assert bytes(next(reader)) == b"ok"
            with pytest.raises(ValidationFailedError) as caught:
                reader.read_message()
            assert (caught.value.frame, caught.value.offset) == (1, stream.starts[1])
            assert bytes(next(reader)) == b""
            with pytest.raises(ValidationFailedError) as caught:
                next(reader)
            assert (caught.value.frame, caught.value.offset) == (3, stream.starts[3])
            assert list(reader) == [b"yes"]
            assert reader.frames_read == 3


def test_validation_failed_carries_validator_and_reason() -> None:
    error = ValidationFailedError(validator="SizeValidator", reason="too short")
    assert (error.validator, error.reason) == ("SizeValidator", "too short")
    assert str(error) == "SizeValidator refused the payload: too short"


# Adapters


def note_in(seen: list[bytes]) -> Callable[[memoryview], None]:
    """An observer that appends a copy of each payload to `seen`."""
    return lambda payload: seen.append(bytes(payload))


def frames_seen(mode: Mode, read: Callable[[StreamReader], None], source: Any) -> list[bytes]:
    seen: list[bytes] = []
    with StreamReader(source, mode.deframer().observed(note_in(seen))) as reader:
        read(reader)
    return seen


def read_on(read: Callable[[StreamReader], Any]) -> Callable[[StreamReader], None]:
    """Reads to the end with `read`, past frames that are refused."""

    def read_to_the_end(reader: StreamReader) -> None:
        while True:
            try:
                if read(reader) is None:
                    return
            except (ChecksumMismatchError, ValidationFailedError):
                continue

    return read_to_the_end


READINGS: dict[str, Callable[[StreamReader], Any]] = {
    "read_message": lambda reader: reader.read_message(),
    "next": lambda reader: next(reader, None),
    "process_all": lambda reader: reader.process_all(lambda payload: None) or None,
    "read_batch": lambda reader: reader.read_batch(),
    "read_batch of 2": lambda reader: reader.read_batch(2),
    "read_batch of 9 bytes": lambda reader: reader.read_batch(max_bytes=9),
}
every_reading = pytest.mark.parametrize("read", [pytest.param(read, id=name) for name, read in READINGS.items()])
OBSERVED_SOURCES = pytest.mark.parametrize(
    "make_source",
    [bytes, io.BytesIO, lambda data: CutSource(data, range(len(data))), lambda data: CutSource(data, [5, 9, 40, 41])],
    ids=["bytes", "BytesIO", "one byte at a time", "in pieces"],
)


@in_one_test
@OBSERVED_SOURCES
@every_reading
@every_mode
def test_observer_of_a_deframer_is_called_exactly_once_per_frame(
    mode: Mode, read: Callable[[StreamReader], Any], make_source: Callable[[bytes], Any]
) -> None:
    stream = corpus(mode)
    assert frames_seen(mode, read_on(read), make_source(stream.data)) == list(stream.payloads)


@in_one_test
@OBSERVED_SOURCES
@every_reading
def test_observer_of_a_deframer_is_called_once_per_good_frame_with_errors_in_between(
    read: Callable[[StreamReader], Any], make_source: Callable[[bytes], Any]
) -> None:
    mode = MODES["crc32"]
    payloads = [b"a%d" % number * (number % 5 + 1) for number in range(20)]
    stream = corpus(mode, payloads)
    data = stream.data
    for number in (0, 3, 4, 11, 19):
        data = flip(data, 8 * (stream.ends[number] - 1))
    good = [payload for number, payload in enumerate(payloads) if number not in (0, 3, 4, 11, 19)]
    assert frames_seen(mode, read_on(read), make_source(data)) == good


@in_one_test
@every_reading
def test_observer_of_a_deframer_is_not_called_for_a_torn_frame(read: Callable[[StreamReader], Any]) -> None:
    stream = corpus(MODES["crc16"])
    for cut in range(len(stream.data) + 1):
        seen: list[bytes] = []
        deframer = MODES["crc16"].deframer().observed(note_in(seen))
        with StreamReader(stream.data[:cut], deframer) as reader:
            for _ in range(2):
                try:
                    read_on(read)(reader)
                except UnexpectedEofError:
                    assert cut not in (0, *stream.ends)
        assert seen == list(stream.payloads[: stream.whole_frames(cut)])


def test_observer_of_a_deframer_is_called_once_however_the_batches_are_mixed_with_messages() -> None:
    stream = corpus(MODES["none"], [bytes([number]) * (number % 7) for number in range(60)])
    seen: list[bytes] = []
    deframer = DefaultDeframer().observed(note_in(seen))
    got: list[bytes] = []
    with StreamReader(CutSource(stream.data, range(0, len(stream.data), 13)), deframer, capacity=32) as reader:
        for number in itertools.count():
            if number % 3 == 0:
                if (payload := reader.read_message()) is None:
                    break
                got.append(bytes(payload))
            elif (batch := reader.read_batch(number % 4 + 1)) is not None:
                got.extend(map(bytes, batch))
    assert got == seen == list(stream.payloads)


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 8, 65536])
@every_mode
def test_observer_of_a_framer_is_called_exactly_once_per_frame(mode: Mode, buffer_size: int) -> None:
    seen: list[bytes] = []
    expected = [flatbuffer_of_string(text) for text in ("a", "b", "c", "d", "e")] + [b"f", b"", b"g"]
    sink = PlainSink()
    framer = mode.framer().observed(note_in(seen))
    with StreamWriter(sink, framer, buffer_size=buffer_size) as writer:
        writer.write("a")
        writer.write_batch(["b", "c"])
        writer.write_finished(finished_builder("d"))
        writer.write_message(finished_builder("e"))
        writer.write_payload(b"f")
        writer.write_payloads([b"", b"g"])
        writer.flush()
        assert seen == expected
    assert seen == expected
    assert sink.arrived() == reference.encode(expected, mode.name)


def test_observer_of_a_framer_with_errors_in_between() -> None:
    inside: list[bytes] = []
    outside: list[bytes] = []
    framer = DefaultFramer().observed(note_in(inside)).bounded(3).observed(note_in(outside))
    sink = PlainSink()
    with StreamWriter(sink, framer) as writer:
        for payload in (b"a", b"long", b"b", b"longer", b"c"):
            try:
                writer.write_payload(payload)
            except InvalidFrameError:
                assert len(payload) > 3
    # Outermost first: an observer inside the bound sees only what passes it.
    assert inside == [b"a", b"b", b"c"]
    assert outside == [b"a", b"long", b"b", b"longer", b"c"]
    assert sink.arrived() == reference.encode(inside, "none")


@pytest.mark.parametrize("buffer_size", [0, 4])
def test_observer_of_a_framer_is_called_once_for_a_frame_that_is_tried_again(buffer_size: int) -> None:
    class Full(PlainSink):
        blocked = 2

        def write(self, data: Any) -> int:
            if self.blocked:
                self.blocked -= 1
                raise BlockingIOError(errno.EAGAIN, "would block")
            super().write(data)
            return len(data)

    seen: list[bytes] = []
    sink = Full()
    with StreamWriter(sink, DefaultFramer().observed(note_in(seen)), buffer_size=buffer_size) as writer:
        while not writer.frames_written:
            with contextlib.suppress(BlockingIOError):
                writer.write_payload(b"abc")
        # The observer was told, so the frame is accepted, and waits until the sink takes it.
        while writer.pending_bytes:
            with contextlib.suppress(BlockingIOError):
                writer.flush()
    assert sink.arrived() == b"\x03\x00\x00\x00abc"
    assert seen == [b"abc"]


def test_observers_error_stops_the_write_and_reaches_the_reader() -> None:
    problem = LookupError("the observer fails")

    def observe(payload: memoryview) -> None:
        if bytes(payload) == b"bad":
            raise problem

    sink = PlainSink()
    with StreamWriter(sink, DefaultFramer().observed(observe)) as writer:
        writer.write_payload(b"a")
        with pytest.raises(LookupError) as caught:
            writer.write_payload(b"bad")
        assert caught.value is problem
        writer.write_payload(b"b")
    assert sink.arrived() == reference.encode([b"a", b"b"], "none")

    with StreamReader(reference.encode([b"a", b"bad", b"b"], "none"), DefaultDeframer().observed(observe)) as reader:
        assert bytes(next(reader)) == b"a"
        with pytest.raises(LookupError) as caught:
            next(reader)
        assert caught.value is problem
        # The frame counts as consumed.
        assert list(reader) == [b"b"]


def test_observed_payloads_are_read_only_views() -> None:
    views: list[memoryview] = []
    with StreamWriter(PlainSink(), DefaultFramer().observed(views.append)) as writer:
        writer.write_payload(bytearray(b"abc"))
    with StreamReader(io.BytesIO(b"\x03\x00\x00\x00abc"), DefaultDeframer().observed(views.append)) as reader:
        list(reader)
    for view in views:
        assert isinstance(view, memoryview)
        assert (view.readonly, view.format, bytes(view)) == (True, "B", b"abc")
    assert len(views) == 2


@in_one_test
@pytest.mark.parametrize("bound", [0, 1, 3, 2**32 - 1, 2**40])
@every_mode
def test_bounds_on_both_sides(mode: Mode, bound: int) -> None:
    payloads = [b"", b"a", b"ab", b"abc", b"abcd"]
    sink = PlainSink()
    with StreamWriter(sink, mode.framer().bounded(bound)) as writer:
        for payload in payloads:
            if len(payload) <= bound:
                writer.write_payload(payload)
                continue
            with pytest.raises(InvalidFrameError) as refused:
                writer.write_payload(payload)
            assert (refused.value.declared_len, refused.value.limit) == (len(payload), bound)
    fitting = [payload for payload in payloads if len(payload) <= bound]
    assert sink.arrived() == reference.encode(fitting, mode.name)

    got, error = read_all(reference.encode(payloads, mode.name), mode.deframer().bounded(bound))
    assert got == fitting
    if len(fitting) == len(payloads):
        assert error is None
    else:
        assert isinstance(error, InvalidFrameError)
        assert (error.declared_len, error.limit) == (len(fitting), bound)


FRAMERS: dict[str, Callable[[], Framer]] = {
    "DefaultFramer": DefaultFramer,
    "ChecksumFramer": lambda: ChecksumFramer(Crc32()),
    "BoundedFramer": lambda: BoundedFramer(DefaultFramer(), 900),
    "ObserverFramer": lambda: ObserverFramer(DefaultFramer(), lambda payload: None),
    "ValidatingFramer": lambda: ValidatingFramer(DefaultFramer(), NoValidator()),
    "python": PythonFramer,
}
DEFRAMERS: dict[str, Callable[[], Deframer]] = {
    "DefaultDeframer": DefaultDeframer,
    "ChecksumDeframer": lambda: ChecksumDeframer(Crc32()),
    "BoundedDeframer": lambda: BoundedDeframer(DefaultDeframer(), 900),
    "ObserverDeframer": lambda: ObserverDeframer(DefaultDeframer(), lambda payload: None),
    "ValidatingDeframer": lambda: ValidatingDeframer(DefaultDeframer(), NoValidator()),
    "python": PythonDeframer,
}
CHAINS = list(itertools.permutations(["bounded", "observed", "with_validator", "with_max_frame_len"]))


def chained(strategy: Any, chain: tuple[str, ...], seen: list[bytes], validator: Validator) -> Any:
    arguments = {
        "bounded": 100,
        "observed": note_in(seen),
        "with_validator": validator,
        "with_max_frame_len": 200,
    }
    for name in chain:
        strategy = getattr(strategy, name)(arguments[name])
    return strategy


@in_one_test
@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
@pytest.mark.parametrize("name", list(FRAMERS))
def test_every_framer_chains_fluently_in_every_order(name: str, chain: tuple[str, ...]) -> None:
    seen: list[bytes] = []
    validator = Recorder(b"refused", name="Recorder")
    framer = chained(FRAMERS[name](), chain, seen, validator)
    assert isinstance(framer, Framer)
    sink = PlainSink()
    with StreamWriter(sink, framer) as writer:
        writer.write_payload(b"abc")
        with pytest.raises(ValidationFailedError):
            writer.write_payload(b"refused")
        with pytest.raises(InvalidFrameError) as caught:
            writer.write_payload(bytes(101))
        assert caught.value.limit == 100
        writer.write_payload(b"def")
    assert sink.arrived() == reference.encode([b"abc", b"def"], "crc32" if name == "ChecksumFramer" else "none")
    assert seen[0] == b"abc"
    assert seen[-1] == b"def"
    assert [seen.count(payload) for payload in (b"abc", b"def")] == [1, 1]


@in_one_test
@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
@pytest.mark.parametrize("name", list(DEFRAMERS))
def test_every_deframer_chains_fluently_in_every_order(name: str, chain: tuple[str, ...]) -> None:
    seen: list[bytes] = []
    validator = Recorder(b"refused", name="Recorder")
    deframer = chained(DEFRAMERS[name](), chain, seen, validator)
    assert isinstance(deframer, Deframer)
    mode = "crc32" if name == "ChecksumDeframer" else "none"
    data = reference.encode([b"abc", b"refused", b"def", bytes(101)], mode)
    for source in (data, io.BytesIO(data)):
        seen.clear()
        with StreamReader(source, deframer) as reader:
            assert bytes(next(reader)) == b"abc"
            with pytest.raises(ValidationFailedError):
                next(reader)
            assert bytes(next(reader)) == b"def"
            with pytest.raises(InvalidFrameError) as caught:
                next(reader)
            assert (caught.value.declared_len, caught.value.limit, caught.value.frame) == (101, 100, 3)
        # A deframer's observer sees what was accepted inside it; whether that is before the validator is the order's.
        observed_outside = chain.index("observed") > chain.index("with_validator")
        assert seen == ([b"abc", b"def"] if observed_outside else [b"abc", b"refused", b"def"])


@in_one_test
@pytest.mark.parametrize("name", list(DEFRAMERS))
def test_with_max_frame_len_sets_a_deframers_own_limit(name: str) -> None:
    # The only way to raise a limit: bounds around it stay.
    deframer = DEFRAMERS[name]().with_max_frame_len(5).with_max_frame_len(7)
    mode = "crc32" if name == "ChecksumDeframer" else "none"
    limit = 5 if name == "python" else 7
    data = reference.encode([bytes(limit), bytes(limit + 1)], mode)
    payloads, error = read_all(data, deframer)
    assert payloads == [bytes(limit)]
    assert isinstance(error, InvalidFrameError)
    assert (error.declared_len, error.limit) == (limit + 1, limit)


def test_with_max_frame_len_keeps_allow_empty_and_checksum() -> None:
    deframer = ChecksumDeframer(Crc32(), allow_empty=False).with_max_frame_len(10)
    assert read_all(reference.encode([b"abc"], "crc32"), deframer) == ([b"abc"], None)
    _, error = read_all(reference.encode([b""], "crc32"), deframer)
    assert isinstance(error, InvalidFrameError)

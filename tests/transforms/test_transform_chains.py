"""Adapters on both sides of transforms, transforms in transforms, and what is written in Python among them."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import flatstream
from flatstream import (
    BoundedDeframer,
    BoundedFramer,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    Framer,
    FrameSpan,
    InvalidFrameError,
    ObserverDeframer,
    ObserverFramer,
    SizeValidator,
    StreamReader,
    StreamWriter,
    TransformDeframer,
    TransformFramer,
    ValidatingDeframer,
    ValidatingFramer,
    ValidationFailedError,
    Validator,
)
from reference import framing
from reference import transforms as reference
from support.extent import in_one_test
from support.modes import MODES
from support.python_strategies import CheckedMagicDeframer, MagicFramer, PythonDeframer, PythonFramer
from support.streams import by_batch, by_message, next_message
from support.transforms import (
    CASES,
    Case,
    NumberingDeframer,
    NumberingFramer,
    PlainFramer,
    ReversingDeframer,
    ReversingFramer,
    XorDeframer,
    XorFramer,
    every_transform,
    every_twin,
)

PAYLOADS = [b"first", b"second message", b"third"]


def write(framer: Framer, payloads: list[bytes] = PAYLOADS) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, framer) as writer:
        writer.write_payloads(payloads)
    return sink.getvalue()


def read(stream: bytes, deframer: Deframer) -> list[bytes]:
    with StreamReader(stream, deframer) as reader:
        found = by_message(reader)
    with StreamReader(io.BytesIO(stream), deframer, capacity=16) as reader:
        assert by_batch(reader) == found
    return found


# Inside and outside


@in_one_test
@every_twin
def test_observers_see_plain_payloads_outside_and_stored_ones_inside(case: Case) -> None:
    assert case.twin is not None
    outside: list[bytes] = []
    inside: list[bytes] = []
    framer = case.framer(DefaultFramer().observed(lambda payload: inside.append(bytes(payload))))
    stream = write(framer.observed(lambda payload: outside.append(bytes(payload))))
    stored = case.twin.store(PAYLOADS)
    assert (outside, inside) == (PAYLOADS, stored)
    for take in (by_message, by_batch):
        outside.clear()
        inside.clear()
        deframer = case.deframer(DefaultDeframer().observed(lambda payload: inside.append(bytes(payload))))
        with StreamReader(stream, deframer.observed(lambda payload: outside.append(bytes(payload)))) as reader:
            take(reader)
        assert (outside, inside) == (PAYLOADS, stored)


def test_bounds_are_for_plain_payloads_outside_and_for_stored_ones_inside() -> None:
    payloads = [b"x", b"y" * 10, b"z"]
    framer = ReversingFramer(DefaultFramer())
    with pytest.raises(InvalidFrameError, match="11 bytes is longer than the bound of 10"):
        write(ReversingFramer(DefaultFramer().bounded(10)), payloads)
    with pytest.raises(InvalidFrameError, match="10 bytes is longer than the bound of 9"):
        write(framer.bounded(9), payloads)
    stream = write(framer.bounded(10), payloads)
    assert read(stream, ReversingDeframer(DefaultDeframer()).bounded(10)) == payloads
    # Inside: nothing can be read behind it. Outside, the frame is consumed.
    with StreamReader(stream, ReversingDeframer(DefaultDeframer(max_frame_len=10))) as reader:
        assert next_message(reader) == b"x"
        for _ in range(2):
            with pytest.raises(InvalidFrameError, match="a payload of 11 bytes, more than the limit of 10"):
                reader.read_message()
    for deframer in (
        ReversingDeframer(DefaultDeframer()).bounded(9),
        ReversingDeframer(DefaultDeframer()).with_max_frame_len(9),
        ReversingDeframer(DefaultDeframer()).bounded(20).with_max_frame_len(9),
    ):
        with StreamReader(stream, deframer) as reader:
            assert next_message(reader) == b"x"
            with pytest.raises(InvalidFrameError) as caught:
                reader.read_message()
            assert caught.value.message == "the payload has 10 bytes when it is restored, more than the bound of 9"
            assert (caught.value.limit, caught.value.declared_len) == (9, 10)
            assert (caught.value.offset, caught.value.frame) == (6, 1)
            assert next_message(reader) == b"z"
        with StreamReader(stream, deframer, on_error="skip") as reader:
            assert by_batch(reader) == [b"x", b"z"]
            assert reader.lost_ranges == [(6, 21)]


def test_validators_outside_see_messages_and_inside_they_are_refused() -> None:
    deframer = ReversingDeframer(ChecksumDeframer(Crc32())).with_validator(SizeValidator(0, 6))
    stream = write(ReversingFramer(ChecksumFramer(Crc32())))
    with StreamReader(stream, deframer, on_error="skip") as reader:
        assert by_message(reader) == [b"first", b"third"]
    with pytest.raises(ValidationFailedError):
        write(ReversingFramer(DefaultFramer()).with_validator(SizeValidator(0, 6)))
    text = r"a validator inside of a ReversingFramer would see stored bytes and no messages: put it around"
    with pytest.raises(TypeError, match=text):
        ReversingFramer(DefaultFramer().with_validator(SizeValidator(0, 6)).bounded(9))
    with pytest.raises(TypeError, match=text):
        ReversingFramer(XorFramer(PlainFramer(DefaultFramer())).with_validator(SizeValidator(0, 6)))
    with pytest.raises(TypeError, match="inside of a ReversingDeframer"):
        ReversingDeframer(DefaultDeframer().with_validator(SizeValidator(0, 6)).bounded(9))


def test_empty_payloads_are_refused_as_they_are_stored_and_as_they_are_restored() -> None:
    for payloads, deframer in (
        ([b"a", b"", b"b"], ReversingDeframer(DefaultDeframer())),
        ([b"a", b"", b"b"], NumberingDeframer(DefaultDeframer())),
    ):
        framer = (
            ReversingFramer(DefaultFramer())
            if type(deframer) is ReversingDeframer
            else NumberingFramer(DefaultFramer())
        )
        stream = write(framer, payloads)
        assert read(stream, deframer) == payloads
        with StreamReader(stream, deframer, allow_empty=False) as reader:
            assert next_message(reader) == b"a"
            with pytest.raises(InvalidFrameError, match="the payload is empty when it is restored"):
                reader.read_message()
            assert next_message(reader) == b"b"
        # Zeros are no frames: nothing is read behind them.
        with StreamReader(write(DefaultFramer(), []) + bytes(8), deframer, allow_empty=False) as reader:
            for _ in range(2):
                with pytest.raises(InvalidFrameError, match="the header declares an empty payload"):
                    reader.read_message()


def test_checksums_are_over_what_is_stored() -> None:
    stream = write(XorFramer(ChecksumFramer(Crc32())))
    assert stream == reference.encode(reference.XOR.store(PAYLOADS), "crc32")
    with StreamReader(
        bytes([*stream[:9], stream[9] ^ 1, *stream[10:]]), XorDeframer(ChecksumDeframer(Crc32()))
    ) as reader:
        with pytest.raises(ChecksumMismatchError) as caught:
            reader.read_message()
        assert (caught.value.offset, caught.value.frame) == (0, 0)
        assert by_message(reader) == PAYLOADS[1:]


# Python among them


class CountingFramer(BoundedFramer):
    """A built-in adapter with a method and attributes of its own, and a constructor that takes other arguments."""

    __slots__ = ("count", "note")

    def __init__(self, inner: Framer, note: str) -> None:
        super().__init__(inner, 100)
        self.note, self.count = note, [0]

    def frame_and_write(self, writer: Any, payload: Any) -> None:
        self.count[0] += 1
        super().frame_and_write(writer, payload)


class CountingDeframer(ValidatingDeframer):
    def __init__(self, inner: Deframer, note: str) -> None:
        super().__init__(inner, SizeValidator(0, 100))
        self.note, self.seen = note, []

    seen: list[bytes]

    def check(self, frame: Any, payload: Any) -> None:
        super().check(frame, payload)
        self.seen.append(bytes(payload))


class LongerOnly(Validator):
    def validate(self, payload: Any) -> None:
        if len(payload) < 6:
            raise ValidationFailedError(validator="LongerOnly", reason=f"{bytes(payload)!r} is short")


@in_one_test
@every_transform
def test_adapters_in_python_outside_see_plain_payloads(case: Case) -> None:
    framer = CountingFramer(case.framer(ChecksumFramer(Crc32())).observed(print), "note").bounded(50)
    stream = write(CountingFramer(case.framer(ChecksumFramer(Crc32())), "note").bounded(50))
    deframer = CountingDeframer(case.deframer(ChecksumDeframer(Crc32())), "note")
    assert read(stream, deframer.bounded(50)) == PAYLOADS
    assert set(deframer.seen) == set(PAYLOADS)
    with StreamReader(stream, deframer.with_validator(LongerOnly()), on_error="skip") as reader:
        assert by_batch(reader) == [b"second message"]
    assert isinstance(framer, BoundedFramer)
    with pytest.raises(InvalidFrameError):
        write(framer, [b"x" * 51])
    with pytest.raises(InvalidFrameError):
        write(framer.inner, [b"x" * 101])


@in_one_test
@every_transform
def test_frames_written_in_python_inside_work(case: Case) -> None:
    pairs: list[tuple[Framer, Deframer]] = [
        (PythonFramer(piece_size=3), PythonDeframer()),
        (MagicFramer(DefaultFramer()), CheckedMagicDeframer(DefaultDeframer())),
        (MagicFramer(ChecksumFramer(Crc32())), CheckedMagicDeframer(ChecksumDeframer(Crc32()))),
        (MagicFramer(DefaultFramer()).bounded(1000), CheckedMagicDeframer(DefaultDeframer()).bounded(1000)),
    ]
    for framer, deframer in pairs:
        stream = write(case.framer(framer).observed(lambda payload: None))
        assert read(stream, case.deframer(deframer)) == PAYLOADS
        with StreamReader(stream + b"x", case.deframer(deframer), on_error="stop") as reader:
            assert by_message(reader) == PAYLOADS
            assert reader.stop_error is not None


def test_check_takes_a_frame_as_it_is_stored_and_payloads_as_they_are_restored() -> None:
    seen: list[bytes] = []
    deframer = (
        ReversingDeframer(ChecksumDeframer(Crc32())).bounded(5).observed(lambda payload: seen.append(bytes(payload)))
    )
    frame = write(ReversingFramer(ChecksumFramer(Crc32())), [b"abc"])
    span = deframer.locate(frame)
    assert isinstance(span, FrameSpan)
    view = memoryview(frame)
    stored = view[span.payload_start : span.payload_end]
    assert bytes(stored) == b"Rcba"
    # Nothing is restored: the bounds and observers outside are not asked.
    deframer.check(view, stored)
    assert seen == []
    deframer.check(view, memoryview(b"abc"))
    assert seen == [b"abc"]
    with pytest.raises(InvalidFrameError, match="6 bytes when it is restored"):
        deframer.inner.check(view, memoryview(b"abcdef"))
    other = memoryview(write(DefaultFramer(), [b"abc"]))
    with pytest.raises(ValidationFailedError, match="no R"):
        ReversingDeframer(DefaultDeframer()).check(other, other[4:])


def test_frame_and_write_of_a_chain_writes_what_a_writer_writes() -> None:
    sink = io.BytesIO()
    framer = ReversingFramer(XorFramer(ChecksumFramer(Crc32()))).bounded(100).observed(lambda payload: None)
    for payload in PAYLOADS:
        framer.frame_and_write(sink, memoryview(payload))
    assert sink.getvalue() == write(framer)


# Copies for one stream


def test_chains_without_a_state_are_used_as_they_are() -> None:
    framer = ReversingFramer(DefaultFramer()).bounded(9)
    deframer = ReversingDeframer(DefaultDeframer()).bounded(9)
    assert framer.start() is framer
    assert deframer.start() is deframer
    assert DefaultFramer().begin() == framer.begin() == framer.finish() == []


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_adapters_are_copied_around_the_copy_of_a_transform(depth: int) -> None:
    framer: Framer = CountingFramer(NumberingFramer(DefaultFramer().bounded(500)), "mine")
    deframer: Deframer = CountingDeframer(NumberingDeframer(DefaultDeframer().bounded(500)), "mine")
    for _ in range(depth):
        framer = framer.bounded(90).observed(len).with_validator(SizeValidator(0, 80)).bounded(85)
        deframer = deframer.bounded(90).observed(len).with_validator(SizeValidator(0, 80)).bounded(85)
    for given, kinds in (
        (framer, (BoundedFramer, ObserverFramer, ValidatingFramer)),
        (deframer, (BoundedDeframer, ObserverDeframer, ValidatingDeframer)),
    ):
        made: Any = given.start()
        assert made is not given
        link: Any = given
        while hasattr(link, "inner"):
            assert type(made) is type(link)
            if type(link) in kinds:
                assert {
                    name: getattr(made, name) for name in ("max_len", "callback", "validator") if hasattr(link, name)
                } == {name: getattr(link, name) for name in ("max_len", "callback", "validator") if hasattr(link, name)}
            if isinstance(link, (CountingFramer, CountingDeframer)):
                assert made.note == "mine"
            if isinstance(link, (NumberingFramer, NumberingDeframer)):
                # What is inside of it has no state.
                assert made is not link
                assert made.inner is link.inner
            made, link = made.inner, link.inner


@in_one_test
@every_transform
def test_one_chain_serves_many_streams_at_once(case: Case) -> None:
    framer, deframer = (
        case.framer(ChecksumFramer(Crc32())).bounded(100),
        case.deframer(ChecksumDeframer(Crc32())).bounded(100),
    )
    sinks = [io.BytesIO() for _ in range(3)]
    writers = [StreamWriter(sink, framer) for sink in sinks]
    for number in range(9):
        writers[number % 3].write_payload(b"%d" % number)
    for writer in writers:
        assert writer.framer is framer
        writer.close()
    readers = [StreamReader(sink.getvalue(), deframer) for sink in sinks]
    for round_ in range(3):
        assert [bytes(reader.read_message() or b"") for reader in readers] == [
            b"%d" % (3 * round_ + i) for i in range(3)
        ]
    for reader in readers:
        assert reader.deframer is deframer
        assert reader.read_message() is None


@in_one_test
@every_twin
def test_chains_are_pickled_and_copied(case: Case) -> None:
    framer, deframer = (
        case.framer(ChecksumFramer(Crc32())).bounded(100),
        case.deframer(ChecksumDeframer(Crc32())).bounded(100),
    )
    makers: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
    for make in makers:
        assert read(write(make(framer)), make(deframer)) == PAYLOADS
        assert repr(make(framer)) == repr(framer)


# Descriptions and the fluent methods


def test_transforms_are_listed_from_the_outside() -> None:
    class Marked(PlainFramer):
        described = ("plain", (), b"data")

    numbers = ("numbers", (("width", "4"),), b"")
    assert NumberingFramer(DefaultFramer()).transforms == (numbers,)
    assert Marked(XorFramer(NumberingFramer(DefaultFramer())).bounded(9)).observed(len).transforms == (
        ("plain", (), b"data"),
        numbers,
    )
    assert DefaultFramer().bounded(9).transforms == ()


@in_one_test
@every_transform
def test_description_is_not_transformed(case: Case) -> None:
    stream = case.write(PAYLOADS, MODES["crc32"], describe=True, metadata={"host": "agent"})
    first = framing.decode(stream, "crc32").outcomes[0]
    assert isinstance(first, framing.Good)
    assert first.payload[4:8] == b"FSD1"
    for source in (stream, io.BytesIO(stream)):
        with StreamReader(source, case.deframer(ChecksumDeframer(Crc32())).bounded(20)) as reader:
            assert reader.description is not None
            assert reader.description.metadata == {"host": "agent"}
            assert by_message(reader) == PAYLOADS
            assert reader.checksum == "crc32"


def test_fluent_methods_make_the_transforms_of_the_package() -> None:
    cipher = flatstream.Aes256Gcm(bytes(32))
    framer = ChecksumFramer(Crc32()).encrypted(cipher).compressed(flatstream.ZstdCompressor())
    deframer = ChecksumDeframer(Crc32()).encrypted(cipher, require_final=True).compressed()
    assert isinstance(framer, flatstream.CompressedFramer)
    assert isinstance(framer.inner, flatstream.EncryptedFramer)
    assert isinstance(deframer, flatstream.CompressedDeframer)
    assert isinstance(deframer.inner, flatstream.EncryptedDeframer)
    assert read(write(framer), deframer) == PAYLOADS


def test_transforms_need_their_methods_and_an_inner_object() -> None:
    with pytest.raises(TypeError, match=r"TransformFramer must define transform\(payload\)"):
        write(TransformFramer(DefaultFramer()))
    with pytest.raises(TypeError, match=r"TransformDeframer must define restore\(payload\)"):
        read(write(DefaultFramer()), TransformDeframer(DefaultDeframer()))
    wrong: list[tuple[Any, Any]] = [(XorFramer, DefaultDeframer()), (XorDeframer, DefaultFramer()), (XorFramer, None)]
    for kind, inner in wrong:
        with pytest.raises(TypeError, match="inner must be an instance of"):
            kind(inner)
    for made in (XorFramer.__new__(XorFramer), XorDeframer.__new__(XorDeframer)):
        with pytest.raises(TypeError, match="__init__ was not called"):
            made.start()
    framer = XorFramer.__new__(XorFramer)
    for call in (framer.begin, framer.finish, lambda: framer.transforms, lambda: framer.inner_frame(b"")):
        with pytest.raises(TypeError, match="__init__ was not called"):
            call()
    with pytest.raises(TypeError, match="must not be called twice"):
        XorFramer(DefaultFramer()).__init__(DefaultFramer())  # type: ignore[misc]


def test_cases_of_the_registry_store_what_their_names_say() -> None:
    assert {name for name, case in CASES.items() if case.twin is None} == {
        "zstd",
        "lz4",
        "encrypted",
        "zstd around encrypted",
    }
    for case in CASES.values():
        stored = [
            one.payload
            for one in framing.decode(case.write(PAYLOADS), "none").outcomes
            if isinstance(one, framing.Good)
        ]
        assert (stored == PAYLOADS) == (case.name == "plain")

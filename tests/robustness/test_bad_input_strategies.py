"""Bad arguments of the strategies' own methods: refused with an error that says what was expected and what came."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import pytest

import flatstream
from flatstream import (
    BoundedDeframer,
    BoundedFramer,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumType,
    CompositeValidator,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    NoValidator,
    ObserverDeframer,
    ObserverFramer,
    SizeValidator,
    TypedValidator,
    ValidatingDeframer,
    ValidatingFramer,
)
from reference import framing as reference
from support.bad_input import NO_INTS, TWO_FRAMES, Case, callables, instances, lengths, no_bytes, refusals, table
from support.extent import in_one_test

FRAMERS: dict[str, Any] = {
    "DefaultFramer": DefaultFramer(),
    "ChecksumFramer": ChecksumFramer(Crc32()),
    "BoundedFramer": BoundedFramer(DefaultFramer(), 9),
    "ObserverFramer": ObserverFramer(DefaultFramer(), lambda payload: None),
    "ValidatingFramer": ValidatingFramer(DefaultFramer(), NoValidator()),
}
DEFRAMERS: dict[str, Any] = {
    "DefaultDeframer": DefaultDeframer(),
    "ChecksumDeframer": ChecksumDeframer(Crc32()),
    "BoundedDeframer": BoundedDeframer(DefaultDeframer(), 9),
    "ObserverDeframer": ObserverDeframer(DefaultDeframer(), lambda payload: None),
    "ValidatingDeframer": ValidatingDeframer(DefaultDeframer(), NoValidator()),
}
CHECKSUMS: dict[str, Any] = {member.value: member.checksum() for member in ChecksumType}
VALIDATORS: dict[str, Any] = {
    "NoValidator": NoValidator(),
    "SizeValidator": SizeValidator(0, 9),
    "TypedValidator": TypedValidator.from_verify("any", lambda payload: None),
    "CompositeValidator": CompositeValidator(SizeValidator(0, 9)),
}


class NotCallable:
    write = 5


def fluent_cases(name: str, strategy: Any) -> list[Case]:
    return [
        *lengths(f"{name}.bounded", "max_len", strategy.bounded),
        *refusals(
            f"{name}.with_max_frame_len",
            strategy.with_max_frame_len,
            *[(value, TypeError, f"max_(frame_)?len must be an int, got {what}") for value, what in NO_INTS],
            (-1, ValueError, "max_(frame_)?len must not be negative, got -1"),
        ),
        *callables(f"{name}.observed", "an observer", strategy.observed),
        *instances(f"{name}.with_validator", "validator", "Validator", strategy.with_validator),
    ]


def framer_cases(name: str, framer: Any) -> list[Case]:
    def write_to(writer: Any) -> None:
        framer.frame_and_write(writer, b"abc")

    return [
        *fluent_cases(name, framer),
        *refusals(
            f"{name}.frame_and_write(payload)", partial(framer.frame_and_write, io.BytesIO()), *no_bytes("payload")
        ),
        *refusals(
            f"{name}.frame_and_write(writer)",
            write_to,
            *[(value, (TypeError, AttributeError), "write") for value in (None, 5, b"")],
            (NotCallable(), TypeError, "not callable"),
            (io.StringIO(), TypeError, "memoryview"),
        ),
    ]


def deframer_cases(name: str, deframer: Any) -> list[Case]:
    def check_frame(frame: Any) -> None:
        deframer.check(frame, memoryview(TWO_FRAMES)[4:7])

    return [
        *fluent_cases(name, deframer),
        *refusals(f"{name}.locate", deframer.locate, *no_bytes("data")),
        *refusals(f"{name}.check(frame)", check_frame, *no_bytes("frame")),
        *refusals(f"{name}.check(payload)", partial(deframer.check, bytes(9)), *no_bytes("payload")),
        *refusals(
            f"{name}.check",
            partial(deframer.check, bytes(9)),
            (b"elsewhere", ValueError, "payload must be a memoryview of a part of frame, not a copy"),
        ),
    ]


def checksum_cases(name: str, checksum: Any) -> list[Case]:
    def verify(expected: Any) -> None:
        checksum.verify(expected, b"abc")

    return [
        *refusals(f"{name}.calculate", checksum.calculate, *no_bytes("payload")),
        *refusals(f"{name}.verify(payload)", partial(checksum.verify, 0), *no_bytes("payload")),
        *refusals(
            f"{name}.verify(expected)",
            verify,
            *[(value, TypeError, "expected must be an int, got ") for value in (None, "5", 5.0)],
        ),
    ]


STRATEGY_CASES = [
    *[case for name, framer in FRAMERS.items() for case in framer_cases(name, framer)],
    *[case for name, deframer in DEFRAMERS.items() for case in deframer_cases(name, deframer)],
    *[case for name, checksum in CHECKSUMS.items() for case in checksum_cases(name, checksum)],
    *[
        case
        for name, validator in VALIDATORS.items()
        for case in refusals(f"{name}.validate", validator.validate, *no_bytes("payload"))
    ],
    *refusals(
        "CompositeValidator.add",
        CompositeValidator().add,
        *[(value, TypeError, "Validator.*got ") for value in (None, 5, NoValidator)],
    ),
]


@in_one_test
@table(*STRATEGY_CASES)
def test_bad_argument_of_a_strategys_method_is_refused(case: Case) -> None:
    case.check()


@pytest.fixture
def after_all_refusals() -> None:
    """Every one of the strategies has refused everything once more."""
    for case in STRATEGY_CASES:
        with pytest.raises(case.error):
            case.call()


@pytest.mark.usefixtures("after_all_refusals")
def test_strategies_work_after_all_those_refusals() -> None:
    for name, framer in FRAMERS.items():
        sink = io.BytesIO()
        framer.frame_and_write(sink, b"abc")
        assert sink.getvalue() == reference.encode([b"abc"], "crc32" if name == "ChecksumFramer" else "none")
    for name, deframer in DEFRAMERS.items():
        mode = "crc32" if name == "ChecksumDeframer" else "none"
        frame = memoryview(reference.encode([b"abc"], mode))
        start, end, frame_end = deframer.locate(frame)
        assert (start, end, frame_end) == (len(frame) - 3, len(frame), len(frame))
        deframer.check(frame, frame[start:end])
    for name, checksum in CHECKSUMS.items():
        assert checksum.calculate(b"123456789") == reference.ALGORITHMS[name].calculate(b"123456789")
        checksum.verify(reference.ALGORITHMS[name].calculate(b"abc"), b"abc")
    for validator in VALIDATORS.values():
        validator.validate(b"abc")


def test_payload_inside_the_header_is_refused_by_check() -> None:
    frame = memoryview(b"\x03\x00\x00\x00abc")
    with pytest.raises(ValueError, match="the payload begins 2 bytes into the frame, inside its header of 4"):
        DefaultDeframer().check(frame, frame[2:5])


def test_checksum_of_a_name_is_found_by_its_value_only() -> None:
    assert isinstance(flatstream.ChecksumType("crc32").checksum(), Crc32)
    for name in ("CRC32", "Crc32", ""):
        with pytest.raises(ValueError, match="not a valid ChecksumType"):
            flatstream.ChecksumType(name)

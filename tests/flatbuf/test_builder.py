"""`flatstream.Builder` is `flatbuffers.Builder`: the same bytes, state, results and exceptions, and views that hold.

The package's own builder is the oracle. Whatever is done here is done to both builders, and what can be seen of them is
compared after each step: with every number type and many values that are no such number; with random sequences of
operations, misuse among them; with random messages over data/schemas through the code that flatc generates and its
object API; with NumPy arrays; through StreamWriter. What only ours has, the views of a finished message, is held to
what was copied when the view was taken, whatever is done to the builder afterwards. The differences that the docstring
of the class names are shown at the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import decimal
import enum
import fractions
import gc
import hashlib
import inspect
import io
import struct
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers import number_types
from flatbuffers.builder import (
    BuilderNotFinishedError,
    BuilderSizeError,
    EndVectorLengthMismatched,
    IsNestedError,
    IsNotNestedError,
    OffsetArithmeticError,
    StructIsNotInlineError,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import flatstream
from flatstream import Builder, SizeThresholdPolicy, StreamReader, StreamWriter
from support.messages import finished, outcome, root_at, telemetry_sample, written_by
from support.schemas import ROOT, generated
from support.strategies import (
    DOUBLES,
    FLOATS,
    TEXTS,
    defaults,
    empties,
    holders,
    level1s,
    nameds,
    numbereds,
    olds,
    optionals,
    scalars,
    shapes,
    signed,
    structs,
    trees,
    unions,
    unsigned,
    vectors,
)

KINDS = ("Bool", "Byte", "Uint8", "Uint16", "Uint32", "Uint64", "Int8", "Int16", "Int32", "Int64", "Float32", "Float64")
INTEGER_KINDS = KINDS[1:10]
EITHER = pytest.mark.parametrize("make", [flatbuffers.Builder, Builder], ids=["package", "ours"])

# Raised by the conversion of a value, for which the package has moved its head already when it finds that it cannot
# have it. What is in the buffer then is nobody's message.
HALFWAY = (struct.error, OverflowError, TypeError, ValueError)


def plain_state(builder: Any) -> dict[str, Any]:
    """What a builder says of itself, but for the buffer."""
    names = ("nested", "finished", "forceDefaults", "current_vtable", "sharedStrings")
    state = {name: getattr(builder, name) for name in names}
    state["vectorNumElems"] = getattr(builder, "vectorNumElems", "not there")
    return state


def buffer_state(builder: Any) -> dict[str, Any]:
    head = builder.Head()
    return {
        "head": (builder.head, head),
        "offset": builder.Offset(),
        "capacity": len(builder.Bytes),
        "written": bytes(builder.Bytes[head:]),
        "minalign": builder.minalign,
        "objectEnd": builder.objectEnd,
        "vtables": builder.vtables,
    }


class Twins:
    """The package's builder and ours. A method called on the twins is called on both; they have to come out alike."""

    def __init__(self, size: int = 1024, make: Callable[[int], Any] = Builder) -> None:
        self.package = flatbuffers.Builder(size)
        self.ours = make(size)
        self.compare()

    def compare(self) -> None:
        assert plain_state(self.ours) == plain_state(self.package)
        assert buffer_state(self.ours) == buffer_state(self.package)
        assert outcome(self.ours.Output) == outcome(self.package.Output)
        if self.package.finished:
            with memoryview(self.ours) as view:
                assert bytes(view) == bytes(self.package.Output())
        else:
            with pytest.raises(BufferError, match="not finished"):
                memoryview(self.ours)

    def attempt(self, operation: Callable[[Any], Any]) -> tuple[str, Any]:
        """Does the same to both, and compares; returns how it ended."""
        expected = outcome(lambda: operation(self.package))
        assert outcome(lambda: operation(self.ours)) == expected
        if expected[0] == "raised" and issubclass(expected[1], HALFWAY):
            assert plain_state(self.ours) == plain_state(self.package)
        else:
            self.compare()
        return expected

    def call(self, name: str, *arguments: Any, **keywords: Any) -> tuple[str, Any]:
        return self.attempt(lambda builder: getattr(builder, name)(*arguments, **keywords))

    def make(self, operation: Callable[[Any], Any]) -> Any:
        """Like `attempt`, for what must work; returns the result."""
        how, what = self.attempt(operation)
        assert how == "returned", what
        return what[1]

    def alike(self) -> bool:
        return buffer_state(self.ours) == buffer_state(self.package)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **keywords: self.make(lambda builder: getattr(builder, name)(*arguments, **keywords))


def check_same(build: Callable[[Any], Any], sizes: tuple[int, ...] = (0, 7, 1024)) -> bytes:
    """Builds with both builders from several initial sizes; returns the bytes, which are the same every time."""
    expected = written_by(flatbuffers.Builder, build, sizes[0])
    for size in sizes:
        assert written_by(Builder, build, size) == expected
    return expected


# Numbers


class Number:
    """Compares and converts like the integer that it holds, and is none."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Number({self.value})"

    def __index__(self) -> int:
        return self.value

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= other)

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= other)

    def __eq__(self, other: object) -> bool:
        return self.value == other

    __hash__ = None  # type: ignore[assignment]


class OnlyIndex:
    def __repr__(self) -> str:
        return "OnlyIndex()"

    def __index__(self) -> int:
        return 3


class OnlyFloat:
    def __repr__(self) -> str:
        return "OnlyFloat()"

    def __float__(self) -> float:
        return 1.5


class Flag(enum.IntEnum):
    LOW = 1
    HIGH = 200


class SubInt(int):
    pass


class SubFloat(float):
    pass


EDGES = sorted(
    {sign * 2**bits + step for bits in (0, 7, 8, 15, 16, 31, 32, 63, 64) for sign in (1, -1) for step in (-1, 0, 1)}
)
NUMBERS = [
    *EDGES, 10**30, -(10**30), 10**400, True, False, SubInt(7), SubInt(2**40), Flag.LOW, Flag.HIGH,
    0.0, -0.0, 0.5, 1.0, -1.5, 5e-324, 1e-46, 3.4028234663852886e38, 3.4028235677973366e38, 1e39,
    1.7976931348623157e308,
    float("inf"), float("-inf"), float("nan"), SubFloat(2.5),
    np.int8(-5), np.uint8(200), np.int16(-300), np.int64(7), np.uint64(2**64 - 1), np.float16(0.5), np.float32(1.5),
    np.float64(2.5), np.bool_(True),
    Number(5), Number(-5), Number(300), Number(2**70), OnlyIndex(), OnlyFloat(), fractions.Fraction(1, 2),
    decimal.Decimal(3),
]  # fmt: skip
NO_NUMBERS = [None, "", "1", b"1", 1j, [], (), {}, object(), int]


@pytest.mark.parametrize("kind", KINDS)
def test_any_value_as_a_number_does_what_it_does_to_the_package(kind):
    for value in (*NUMBERS, *NO_NUMBERS):
        Twins(0).call(f"Prepend{kind}", value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("force", [False, True], ids=["", "defaults forced"])
def test_any_value_and_default_in_a_slot_does_what_it_does_to_the_package(kind, force):
    for value in (*NUMBERS, *NO_NUMBERS):
        for default in (0, 1, None, True, 0.0, 2.5, value):
            twins = Twins(8)
            twins.ForceDefaults(force)
            twins.StartObject(2)
            twins.call(f"Prepend{kind}Slot", 1, value, default)
            if twins.alike():
                twins.EndObject()


@pytest.mark.parametrize("kind", KINDS)
def test_any_default_for_a_number_does_what_it_does_to_the_package(kind):
    for default in (*NUMBERS, *NO_NUMBERS):
        for value in (0, 1, 1.0, None):
            twins = Twins(64)
            twins.StartObject(1)
            twins.call(f"Prepend{kind}Slot", 0, value, default)


@pytest.mark.parametrize("name", ["PlaceVOffsetT", "PlaceSOffsetT", "PlaceUOffsetT", "PrependVOffsetT"])
def test_any_value_as_an_offset_does_what_it_does_to_the_package(name):
    for value in (*NUMBERS, *NO_NUMBERS):
        twins = Twins(0)
        twins.Prep(8, 0)  # the room without which the package would place it behind the end
        twins.call(name, value)


@pytest.mark.parametrize(
    "name", ["PrependUOffsetTRelative", "PrependSOffsetTRelative", "assertStructIsInline", "Finish"]
)
def test_any_value_as_a_place_does_what_it_does_to_the_package(name):
    for value in (*NUMBERS, *NO_NUMBERS):
        for written in (0, 1, 5):
            twins = Twins(64)
            for number in range(written):
                twins.PrependUint8(number)
            twins.call(name, value)


@pytest.mark.parametrize("flags", [name for name in dir(number_types) if name.endswith("Flags")])
def test_methods_that_take_the_type_do_what_they_do_to_the_package(flags):
    kind = getattr(number_types, flags)
    for value in (*NUMBERS, *NO_NUMBERS):
        Twins(3).call("Prepend", kind, value)
        placed = Twins(3)
        placed.Prep(8, 0)
        placed.call("Place", value, kind)
        for default in (0, None, value):
            slotted = Twins(3)
            slotted.StartObject(1)
            slotted.call("PrependSlot", kind, 0, value, default)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("Bool", True, "01"),
        ("Byte", 200, "c8"),
        ("Int8", -2, "fe"),
        ("Uint16", 0x1234, "3412"),
        ("Int16", -2, "feff"),
        ("Uint32", 0x12345678, "78563412"),
        ("Int32", -2, "feffffff"),
        ("Uint64", 2**64 - 2, "feffffffffffffff"),
        ("Int64", -(2**63), "0000000000000080"),
        ("Float32", 1.5, "0000c03f"),
        ("Float64", -2.0, "00000000000000c0"),
    ],
)
def test_number_lies_in_the_buffer_with_its_low_byte_first(kind, value, expected):
    builder = Builder(0)
    getattr(builder, f"Prepend{kind}")(value)
    assert bytes(builder.Bytes[builder.Head() :]).hex() == expected


@given(
    st.lists(
        st.one_of(
            *(
                st.tuples(
                    st.just(kind),
                    st.integers(
                        getattr(number_types, f"{kind}Flags").min_val, getattr(number_types, f"{kind}Flags").max_val
                    ),
                )
                for kind in INTEGER_KINDS[1:]
            ),
            st.tuples(st.just("Bool"), st.booleans()),
            st.tuples(st.just("Float32"), st.floats(width=32)),
            st.tuples(st.just("Float64"), st.floats()),
        )
    ),
    st.sampled_from([0, 1, 7, 1024]),
)
def test_random_numbers_one_after_another_are_the_packages_bytes(numbers, size):
    twins = Twins(size)
    for kind, value in numbers:
        twins.call(f"Prepend{kind}", value)


# Which numbers a place, a size or a field's number can be


SLOT_NUMBERS = [
    -(2**63) - 1,
    -(2**63),
    -4,
    -3,
    -1,
    0,
    2,
    3,
    2**63 - 1,
    2**63,
    10**30,
    None,
    "0",
    1.0,
    True,
    OnlyIndex(),
    np.int64(1),
    slice(0, 1),
]


@pytest.mark.parametrize("slot", SLOT_NUMBERS, ids=repr)
def test_any_field_number_does_what_it_does_to_the_package(slot):
    for method, arguments in {
        "Slot": (),
        "PrependUint8Slot": (5, 0),
        "PrependFloat64Slot": (0.5, 0.0),
        "PrependBoolSlot": (True, None),
        "PrependUOffsetTRelativeSlot": (1, 0),
        "PrependStructSlot": (1, 0),
    }.items():
        twins = Twins(64)
        twins.PrependUint8(1)
        twins.StartObject(3)
        twins.call(method, slot, *arguments)
        if twins.alike():
            twins.EndObject()


FIELD_COUNTS: list[Any] = [
    0,
    1,
    3,
    -1,
    True,
    300,
    None,
    1.0,
    "3",
    [],
    np.int64(7),
    np.uint8(200),
    OnlyIndex(),
    SubInt(2),
]


@pytest.mark.parametrize("count", FIELD_COUNTS, ids=repr)
def test_any_number_of_fields_does_what_it_does_to_the_package(count):
    twins = Twins(16)
    how, _ = twins.call("StartObject", count)
    if how == "returned":
        twins.EndObject()


SIZES: list[Any] = [
    0,
    1,
    7,
    1024,
    True,
    -1,
    2**31 + 1,
    2**70,
    None,
    "1",
    1.0,
    0.5,
    float("nan"),
    [],
    np.int64(64),
    OnlyIndex(),
]


@pytest.mark.parametrize("size", SIZES, ids=repr)
def test_any_initial_size_does_what_it_does_to_the_package(size):
    expected = outcome(lambda: len(flatbuffers.Builder(size).Bytes))
    assert outcome(lambda: len(Builder(size).Bytes)) == expected


@pytest.mark.parametrize(
    "value",
    [0, 1, 2, 3, 4, 8, 16, 64, 100, True, None, "1", 1.0, 0.5, float("nan"), OnlyIndex(), np.int64(8)],
    ids=repr,
)
def test_any_size_does_what_it_does_to_the_package(value):
    for arguments in ((value, 0), (4, value), (value, value)):
        twins = Twins(5)
        twins.PrependUint8(1)
        twins.call("Prep", *arguments)
    for element_and_count in ((value, 1, 1), (1, value, 1), (2, 3, value)):
        twins = Twins(5)
        twins.PrependUint8(1)
        twins.call("StartVector", *element_and_count)


@pytest.mark.parametrize(
    "count", [0, -1, -(10**30), 1, 7, 64, True, None, "1", 1.5, OnlyIndex(), np.int64(3)], ids=repr
)
def test_any_padding_does_what_it_does_to_the_package(count):
    twins = Twins(128)
    twins.PrependUint16(0x5566)
    twins.call("Pad", count)


# Strings and bytes


ENCODINGS = [
    ("utf-8", "strict"),
    ("latin-1", "strict"),
    ("utf-16-le", "strict"),
    ("ascii", "replace"),
    ("ascii", "strict"),
    ("utf-8", "surrogateescape"),
    ("utf-8", "surrogatepass"),
    ("no-such", "strict"),
    (None, "strict"),
    ("utf-8", None),
    ("ascii", "no-such"),
]


class SubStr(str):
    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"own " + super().encode(encoding, errors)


class SubBytes(bytes):
    pass


STRINGS = [
    "",
    "a",
    "abc",
    "abcd",
    "\0",
    "a\0b",
    "\u00e9\u20ac\U0001f600",
    "\ud800",
    "\udc80x",
    SubStr("sub"),
    b"",
    b"bytes",
    b"\xff\0\xfe",
    SubBytes(b"sub"),
    bytearray(b"array"),
    memoryview(b"view"),
    None,
    5,
    1.5,
    [b"x"],
    np.array([1], np.uint8),
]


@pytest.mark.parametrize("method", ["CreateString", "CreateSharedString"])
@pytest.mark.parametrize("text", STRINGS, ids=ascii)
def test_any_string_does_what_it_does_to_the_package(method, text):
    for encoding in ENCODINGS:
        twins = Twins(0)
        twins.call(method, text, *encoding)
        twins.call(method, text)
        twins.call(method, text, encoding=encoding[0], errors=encoding[1])
        twins.call(method, "after")


@pytest.mark.parametrize("data", STRINGS, ids=ascii)
def test_anything_as_a_vector_of_bytes_does_what_it_does_to_the_package(data):
    twins = Twins(0)
    twins.call("CreateByteVector", data)
    twins.call("CreateByteVector", b"after")


@given(st.lists(st.one_of(st.text(), st.binary(), st.text(max_size=2))), st.sampled_from([0, 1, 7, 64]))
def test_random_shared_strings_are_written_once_and_where_the_package_has_them(texts, size):
    twins = Twins(size)
    for text in texts:
        twins.CreateSharedString(text)
    assert len(twins.ours.sharedStrings or ()) == len(set(texts))


def test_string_lies_in_the_buffer_behind_its_length_with_a_zero_behind_it():
    builder = Builder(0)
    assert builder.CreateString("h\u00e9") == 8
    assert bytes(builder.Bytes[builder.Head() :]) == b"\x03\0\0\0h\xc3\xa9\0"


@pytest.mark.parametrize("size", [0, 1, 7, 1024])
def test_bytearray_can_be_changed_after_it_was_written(size):
    builder = Builder(size)
    data = bytearray(b"abc")
    builder.CreateByteVector(data)
    builder.CreateString(data)
    data.extend(b"d")
    assert bytes(builder.Bytes[builder.Head() :]) == b"\x03\0\0\0abc\0\x03\0\0\0abc\0"


# Misuse


@pytest.mark.parametrize(
    ("misuse", "error"),
    [
        (lambda b: b.EndObject(), IsNotNestedError),
        (lambda b: b.EndVector(), IsNotNestedError),
        (lambda b: b.EndVector(3), IsNotNestedError),
        (lambda b: b.Slot(0), IsNotNestedError),
        (lambda b: b.assertNested(), IsNotNestedError),
        (lambda b: b.PrependUint8Slot(0, 1, 0), IsNotNestedError),
        (lambda b: b.Output(), BuilderNotFinishedError),
        (lambda b: (b.StartObject(1), b.StartObject(1)), IsNestedError),
        (lambda b: (b.StartObject(1), b.StartVector(1, 1, 1)), IsNestedError),
        (lambda b: (b.StartVector(1, 1, 1), b.CreateString("x")), IsNestedError),
        (lambda b: (b.StartVector(1, 1, 1), b.CreateByteVector(b"x")), IsNestedError),
        (lambda b: (b.StartVector(1, 1, 1), b.CreateNumpyVector(np.zeros(1))), IsNestedError),
        (lambda b: (b.StartObject(1), b.CreateSharedString("x")), IsNestedError),
        (lambda b: (b.StartObject(1), b.assertNotNested()), IsNestedError),
        (lambda b: (b.StartObject(1), b.EndVector()), AttributeError),
        (lambda b: (b.Clear(), b.StartObject(1), b.EndVector()), TypeError),
        (lambda b: (b.StartVector(1, 1, 1), b.Slot(0)), TypeError),
        (lambda b: (b.StartVector(1, 1, 1), b.EndObject()), TypeError),
        (lambda b: (b.StartObject(1), b.EndObject(), b.EndObject()), IsNotNestedError),
        (lambda b: (b.StartObject(1), b.EndObject(), b.WriteVtable()), TypeError),
        (lambda b: (b.StartObject(1), b.PrependStructSlot(0, 4, 0)), StructIsNotInlineError),
        (lambda b: b.assertStructIsInline(1), StructIsNotInlineError),
        (lambda b: b.PrependUOffsetTRelative(1), OffsetArithmeticError),
        (lambda b: b.PrependSOffsetTRelative(100), OffsetArithmeticError),
        (lambda b: (b.StartObject(1), b.PrependUOffsetTRelativeSlot(0, 100, 0)), OffsetArithmeticError),
        (lambda b: b.Finish(100), OffsetArithmeticError),
        (lambda b: b.FinishSizePrefixed(100), OffsetArithmeticError),
        (lambda b: b.Finish(-1), TypeError),
        (lambda b: b.Finish(2**32), TypeError),
        (lambda b: b.StartVector(1, -1, 1) and b.EndVector(), TypeError),
        (lambda b: Builder(-1), BuilderSizeError),
        (lambda b: Builder(2**31 + 1), BuilderSizeError),
        (lambda b: b.CreateString(5), TypeError),
        (lambda b: b.CreateByteVector("text"), TypeError),
        (lambda b: b.CreateByteVector(memoryview(b"x")), TypeError),
        (lambda b: b.CreateString("\ud800"), UnicodeEncodeError),
        (lambda b: b.PrependUint8(256), TypeError),
        (lambda b: b.PrependFloat32(1e39), OverflowError),
        (lambda b: b.PrependUint8(1.0), struct.error),
        (lambda b: b.no_such_attribute, AttributeError),
    ],
    ids=inspect.getsource if False else None,
)
def test_misuse_raises_the_packages_own_exception(misuse, error):
    with pytest.raises(error) as caught:
        misuse(Builder(64))
    assert caught.type is error
    assert Twins(64).attempt(misuse) == ("raised", error)


@pytest.mark.parametrize(
    "identifier",
    [
        None,
        b"ABCD",
        bytearray(b"ABCD"),
        memoryview(b"ABCD"),
        b"",
        b"ABC",
        b"ABCDE",
        "ABCD",
        5,
        [65, 66, 67, 68],
        SubBytes(b"WXYZ"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["Finish", "FinishSizePrefixed"])
def test_any_file_identifier_does_what_it_does_to_the_package(method, identifier):
    for content in (b"", b"a", b"abcdefg"):
        twins = Twins(0)
        root = twins.CreateByteVector(content)
        twins.call(method, root, identifier)
        twins.call(method, root, file_identifier=identifier)


@pytest.mark.parametrize("minalign", [0, 1, 2, 3, 16, 64, 100, 1024])
def test_message_is_aligned_to_a_minalign_that_was_set_as_by_the_package(minalign):
    twins = Twins(7)
    root = twins.CreateByteVector(b"abc")
    twins.attempt(lambda builder: setattr(builder, "minalign", minalign))
    twins.Finish(root, b"ABCD")


@pytest.mark.parametrize("value", [-1, 2**31 + 1, 2**70, None, "1", 1.5], ids=repr)
def test_minalign_that_cannot_be_one_is_refused(value):
    builder = Builder(16)
    with pytest.raises((ValueError, TypeError, OverflowError)):
        builder.minalign = value
    assert builder.minalign == 1


def test_unfinished_builder_has_no_message_until_it_is_finished_again():
    twins = Twins()
    assert twins.call("Output") == ("raised", BuilderNotFinishedError)
    twins.Finish(twins.CreateString("one"))
    twins.call("Output")
    twins.Clear()
    assert twins.call("Output") == ("raised", BuilderNotFinishedError)


def test_number_of_elements_for_end_vector_is_deprecated_and_checked():
    for given_count, error in ((2, None), (3, EndVectorLengthMismatched), (0, None)):
        for make in (flatbuffers.Builder, Builder):
            builder = make(64)
            builder.StartVector(1, 2, 1)
            builder.PrependUint8(1)
            builder.PrependUint8(2)
            with contextlib.ExitStack() as stack:
                if given_count:
                    warned = stack.enter_context(pytest.warns(DeprecationWarning, match="numElems is deprecated"))
                if error:
                    stack.enter_context(pytest.raises(error))
                assert builder.EndVector(given_count) == 8
            if given_count:
                assert [Path(warning.filename) for warning in warned] == [Path(__file__)]
            assert not builder.nested


def test_deprecation_that_is_an_error_leaves_both_builders_alike():
    twins = Twins()
    twins.StartVector(1, 1, 1)
    assert twins.call("EndVector", 1) == ("raised", DeprecationWarning)
    assert not twins.ours.nested


def test_table_with_a_field_beyond_64_kib_is_refused_and_the_builder_can_be_cleared():
    def build(builder: Any, size: int) -> Any:
        builder.StartObject(2)
        builder.PrependUint8Slot(0, 1, 0)
        builder.Pad(size)
        return builder.EndObject()

    for size in (65526, 65527, 65528, 65529, 65530, 70_000):
        twins = Twins(1 << 18)
        twins.attempt(lambda builder, size=size: build(builder, size))  # type: ignore[misc]
        twins.Clear()
        twins.Finish(twins.CreateString("after"))
    with pytest.raises(TypeError, match=r"^bad number \d+ for type uint16$"):
        build(Builder(1 << 18), 70_000)


# Random sequences of operations


small_numbers = st.integers(-3, 300)
VALUES = {kind: st.one_of(st.integers(-2, 3), st.integers(-(2**64), 2**65), st.none()) for kind in INTEGER_KINDS}
VALUES["Bool"] = st.one_of(st.booleans(), st.integers(-1, 2), st.none())
VALUES["Float32"] = VALUES["Float64"] = st.one_of(st.floats(width=32), st.integers(-3, 3))
kinds_and_values = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind]))
kinds_and_slots = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind], VALUES[kind]))
ROOM = 16


class Operations(RuleBasedStateMachine):
    """Both builders through the same operations, sensible or not, and views of ours that have to stay as they were."""

    def __init__(self) -> None:
        super().__init__()
        self.twins = Twins(64)
        self.places = [0]
        self.views: list[tuple[memoryview, bytes]] = []

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        how, what = self.twins.call(name, *arguments, **keywords)
        if how == "raised":
            if not self.twins.alike():
                self.anew(64)
            return None
        if isinstance(what[1], int):
            self.places.append(what[1])
        return what[1]

    @rule(size=st.sampled_from([0, 1, 7, 64, 1024]))
    def anew(self, size):
        self.twins = Twins(size)
        self.places = [0]

    @rule()
    def clear(self):
        self.twins.Clear()
        self.places = [0]

    @rule(number=kinds_and_values)
    def prepend(self, number):
        self.call(f"Prepend{number[0]}", number[1])

    @rule(number=kinds_and_slots, slot=st.integers(-6, 6))
    def prepend_slot(self, number, slot):
        self.call(f"Prepend{number[0]}Slot", slot, number[1], number[2])

    @rule(force=st.booleans())
    def force_defaults(self, force):
        self.call("ForceDefaults", force)

    @rule(fields=st.integers(-1, 8))
    def start_object(self, fields):
        self.call("StartObject", fields)

    @rule(slot=st.integers(-6, 6))
    def slot(self, slot):
        self.call("Slot", slot)

    @rule()
    def end_object(self):
        self.call("EndObject")

    @rule(fields=st.lists(st.tuples(st.integers(0, 3), kinds_and_slots), max_size=6), count=st.integers(4, 6))
    def table(self, fields, count):
        self.call("StartObject", count)
        for slot, (kind, value, default) in fields:
            self.call(f"Prepend{kind}Slot", slot, value, default)
        self.call("EndObject")

    @rule(
        size=st.sampled_from([1, 2, 4, 8, 16]), count=st.integers(0, 9), alignment=st.sampled_from([1, 2, 4, 8, 16, 32])
    )
    def start_vector(self, size, count, alignment):
        self.call("StartVector", size, count, alignment)

    @rule()
    def end_vector(self):
        # Without room for the length the package would write it behind the end.
        if self.twins.package.Head() >= ROOM:
            self.call("EndVector")

    @rule(kind=st.sampled_from(INTEGER_KINDS), values=st.lists(st.integers(0, 127), max_size=9))
    def vector(self, kind, values):
        width = getattr(number_types, "Uint8Flags" if kind == "Byte" else f"{kind}Flags").bytewidth
        if self.call("StartVector", width, len(values), width) is not None:
            for value in reversed(values):
                self.call(f"Prepend{kind}", value)
            self.call("EndVector")

    @rule(text=st.one_of(st.text(max_size=9), st.binary(max_size=9), st.none()))
    def string(self, text):
        self.call("CreateString", text)

    @rule(text=st.sampled_from(["", "a", "abc", b"abc", "\ud800"]))
    def shared_string(self, text):
        self.call("CreateSharedString", text)

    @rule(data=st.one_of(st.binary(max_size=20), st.binary(max_size=20).map(bytearray), st.text(max_size=1)))
    def byte_vector(self, data):
        self.call("CreateByteVector", data)

    @rule(
        values=st.lists(st.integers(0, 127), max_size=9),
        dtype=st.sampled_from(["<u1", ">i2", "<i4", ">f4", "<f8", "?"]),
    )
    def numpy_vector(self, values, dtype):
        self.call("CreateNumpyVector", np.array(values, dtype))

    @rule(data=st.data())
    def offset(self, data):
        self.call("PrependUOffsetTRelative", data.draw(st.sampled_from(self.places)))

    @rule(data=st.data(), slot=st.integers(-1, 5), default=st.sampled_from([0, 0, 4]))
    def offset_slot(self, data, slot, default):
        self.call("PrependUOffsetTRelativeSlot", slot, data.draw(st.sampled_from(self.places)), default)

    @rule(place=small_numbers)
    def any_offset(self, place):
        self.call("PrependUOffsetTRelative", place)
        self.call("PrependSOffsetTRelative", place)

    @rule(slot=st.integers(0, 5), alignment=st.sampled_from([1, 4, 8, 16]), inline=st.booleans())
    def struct(self, slot, alignment, inline):
        self.call("Prep", alignment, 2 * alignment)
        if self.twins.package.Head() >= alignment:
            self.call("Pad", alignment)
        self.call("PrependUint8", 7)
        self.call("PrependStructSlot", slot, self.twins.package.Offset() - (not inline), 0)

    @rule(count=st.integers(-1, ROOM))
    def pad(self, count):
        if self.twins.package.Head() >= count:
            self.call("Pad", count)

    @rule(size=st.sampled_from([0, 1, 2, 3, 4, 8, 16, 64]), additional=st.integers(0, 70))
    def prep(self, size, additional):
        self.call("Prep", size, additional)

    @rule(value=small_numbers, name=st.sampled_from(["PlaceVOffsetT", "PlaceSOffsetT", "PlaceUOffsetT"]))
    def place(self, name, value):
        if self.twins.package.Head() >= ROOM:
            self.call(name, value)

    @rule(data=st.binary(max_size=ROOM))
    def bytes_through_the_buffer(self, data):
        if self.twins.package.Head() < ROOM or self.twins.package.nested:
            return

        def write(builder: Any) -> Any:
            builder.StartVector(1, len(data), 1)
            builder.head = builder.head - len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            return builder.EndVector()

        self.places.append(self.twins.make(write))

    @rule(data=st.data(), prefixed=st.booleans(), identifier=st.sampled_from([None, None, b"ABCD", b"no", "ABCD"]))
    def finish(self, data, prefixed, identifier):
        root = data.draw(st.one_of(st.sampled_from(self.places), small_numbers))
        self.call("FinishSizePrefixed" if prefixed else "Finish", root, identifier)

    @precondition(lambda self: self.twins.package.finished)
    @rule()
    def look(self):
        self.views.append((memoryview(self.twins.ours), bytes(self.twins.package.Output())))

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def look_away(self, data):
        self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))

    @invariant()
    def views_are_as_they_were(self):
        for view, expected in self.views:
            assert view == expected


Operations.TestCase.settings = settings(max_examples=2 * settings().max_examples)
TestOperations = Operations.TestCase


# Messages, through the code that flatc generates


@given(shapes, st.sampled_from([0, 1, 7, 1024]))
def test_random_message_is_the_packages_bytes_and_so_is_what_was_read_from_it(shape, size):
    expected = written_by(flatbuffers.Builder, finished(shape, b"SHAP"), size)
    builder = Builder(size)
    finished(shape, b"SHAP")(builder)
    assert bytes(memoryview(builder)) == bytes(builder.Output()) == expected
    # Read through the view, into objects whose vectors are NumPy arrays and whose strings are bytes.
    view = memoryview(builder)
    module = generated("Shape")
    assert module.Shape.ShapeBufferHasIdentifier(view, 0)
    again = module.ShapeT.InitFromBuf(view, root_at(view))
    assert written_by(Builder, finished(again), size) == written_by(flatbuffers.Builder, finished(again), size)


@pytest.mark.parametrize(
    "strategy",
    [scalars, defaults, optionals, vectors, structs, nameds, level1s, trees, numbereds, olds, unions, holders, empties],
    ids=[
        "scalars",
        "defaults",
        "optionals",
        "vectors",
        "structs",
        "named",
        "level",
        "tree",
        "numbered",
        "old",
        "unions",
        "holder",
        "empty",
    ],
)
@given(st.data(), st.booleans())
def test_random_table_is_the_packages_bytes_with_defaults_forced_and_without(strategy, data, force):
    made = data.draw(strategy)

    def build(builder: Any) -> Any:
        builder.ForceDefaults(force)
        return made.Pack(builder)

    # Forced, an absent optional scalar is refused, or kept out, as by the package.
    expected = outcome(lambda: written_by(flatbuffers.Builder, build))
    for size in (0, 7, 1024):
        assert outcome(lambda size=size: written_by(Builder, build, size)) == expected  # type: ignore[misc]


@given(st.lists(st.one_of(vectors, trees, unions), min_size=2, max_size=4))
def test_builder_that_is_cleared_and_used_again_writes_what_a_new_one_writes(made):
    builder = Builder(16)
    kept = []
    for shape in made:
        builder.Clear()
        finished(shape)(builder)
        expected = written_by(flatbuffers.Builder, finished(shape), 16)
        assert bytes(memoryview(builder)) == expected
        kept.append((memoryview(builder), expected))
    assert all(view == expected for view, expected in kept)


@given(
    st.tuples(
        unsigned(8), st.lists(signed(32), min_size=3, max_size=3), st.lists(unsigned(16), min_size=2, max_size=2)
    ),
    st.lists(FLOATS, min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.lists(DOUBLES, min_size=2, max_size=2),
)
def test_struct_with_fixed_arrays_is_the_packages_bytes(heads, corners, bits, weights):
    grid, vectors_module, structs_module = generated("Grid"), generated("Vectors"), generated("Structs")

    def place(builder: Any) -> Any:
        return grid.CreateGrid(builder, *heads, corners[:2], corners[2:], bits, weights)

    def build(builder: Any) -> Any:
        vectors_module.StartGridsVector(builder, 2)
        place(builder)
        place(builder)
        grids = builder.EndVector()
        vectors_module.Start(builder)
        vectors_module.AddGrids(builder, grids)
        inner = vectors_module.End(builder)
        structs_module.Start(builder)
        structs_module.AddGrid(builder, place(builder))
        structs_module.AddPointRequired(builder, generated("Point").CreatePoint(builder, 1.5, -2.5))
        structs_module.End(builder)
        return inner

    check_same(build)


@given(st.binary(max_size=40), nameds)
def test_vector_from_bytes_and_nested_message_are_the_packages_bytes(raw, named):
    holder = generated("Holder")

    def build(builder: Any) -> Any:
        inner = written_by(type(builder), finished(named))
        first = holder.HolderMakeInnerVectorFromBytes(builder, inner)
        second = holder.HolderMakeInnerShapeVectorFromBytes(builder, raw)
        third = builder.CreateByteVector(inner)
        holder.Start(builder)
        holder.AddInner(builder, first)
        holder.AddInnerShape(builder, second)
        holder.AddRaw(builder, third)
        return holder.End(builder)

    message = check_same(build)
    read = holder.Holder.GetRootAs(message)
    name = named.name.encode()
    assert generated("Named").Named.GetRootAs(read.InnerAsNumpy().tobytes()).Name() == name


def test_later_version_of_the_schema_reads_what_ours_wrote_and_back():
    named_v2 = generated("Named", "shapes_v2")
    builder = Builder(0)
    made = generated("Named").NamedT()
    made.name, made.note, made.code = "n", "o", 7
    finished(made)(builder)
    later = named_v2.NamedT.InitFromBuf(memoryview(builder), root_at(memoryview(builder)))
    assert (later.name, later.note, later.code, later.tags, later.added) == (b"n", b"o", 7, None, None)
    later.tags = ["x", "y"]
    message = check_same(lambda builder: later.Pack(builder))
    earlier = generated("Named").NamedT.InitFromBuf(message, root_at(message))
    assert (earlier.name, earlier.note, earlier.code) == (b"n", b"o", 7)


def test_event_of_the_telemetry_example_is_the_packages_bytes():
    module, sources, sample, tick = telemetry_sample()
    built = []
    for builder in (flatbuffers.Builder(0), Builder(0), Builder(4096)):
        module.build_event(builder, tick, sources, sample)
        module.build_event(builder, tick, sources, sample)
        built.append(bytes(builder.Output()))
    assert built[1] == built[0]
    assert built[2] == built[0]
    assert len(built[0]) > 500


@given(st.data())
def test_union_of_structs_and_strings_and_vector_of_unions_are_the_packages_bytes(data):
    """tests/data/schemas/unions.fbs, for which flatc 2.0.8 writes no code: built as such code would."""
    drawn = data.draw(st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 5]), FLOATS, TEXTS), max_size=5))

    def member(builder: Any, kind: int, number: float, text: str) -> Any:
        if kind == 1:
            name = builder.CreateString(text)
            builder.StartObject(2)
            builder.PrependUOffsetTRelativeSlot(0, name, 0)
            builder.PrependUint32Slot(1, len(text), 0)
            return builder.EndObject()
        if kind == 5:
            return builder.CreateSharedString(text)
        # A struct in a union stands by itself.
        if kind == 4:
            builder.Prep(8, 16)
            builder.PrependFloat64(number)
            builder.Pad(7)
            builder.PrependUint8(len(text))
        else:
            builder.Prep(4, 8)
            builder.PrependFloat32(number)
            builder.PrependFloat32(-number)
        return builder.Offset()

    def build(builder: Any) -> Any:
        places = [member(builder, *each) for each in drawn]
        builder.StartVector(1, len(drawn), 1)
        for kind, _, _ in reversed(drawn):
            builder.PrependUint8(kind)
        kinds = builder.EndVector()
        builder.StartVector(4, len(drawn), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        members = builder.EndVector()
        builder.StartObject(8)
        builder.PrependUOffsetTRelativeSlot(3, members, 0)
        builder.PrependUOffsetTRelativeSlot(2, kinds, 0)
        if drawn:
            builder.PrependUOffsetTRelativeSlot(1, places[0], 0)
            builder.PrependUint8Slot(0, drawn[0][0], 0)
        return builder.EndObject()

    check_same(build)


# NumPy


DTYPES = [
    "?",
    "i1",
    "u1",
    "<i2",
    ">i2",
    "<u2",
    ">u2",
    "<i4",
    ">i4",
    "<u4",
    ">u4",
    "<i8",
    ">i8",
    "<u8",
    ">u8",
    "<f2",
    ">f2",
    "<f4",
    ">f4",
    "<f8",
    ">f8",
    "g",
    ">g",
]
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda x: x,
    "empty": lambda x: x[:0],
    "strided": lambda x: x[::3],
    "backwards": lambda x: x[::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype),
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1),
    "single": lambda x: x[3:4],
    "no dimension": lambda x: np.array(x[2]).astype(x.dtype),
    "repeated": lambda x: np.broadcast_to(x[1:2], (4,)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_vector_is_the_packages_bytes(dtype, layout):
    with np.errstate(all="ignore"):
        values = np.arange(-3, 10).astype(dtype)
    array = LAYOUTS[layout](values)
    for size in (0, 1, 7, 1024):
        twins = Twins(size)
        twins.PrependUint8(1)
        twins.CreateNumpyVector(array)
        twins.CreateNumpyVector(array)


@pytest.mark.parametrize(
    "value",
    [
        None, [1], b"x", 5, np.int32(5), np.zeros((2, 2)), np.zeros((0, 3)), np.array(["a"]), np.array([b"a"]),
        np.array([1j]), np.array([None]), np.zeros(2, "M8[s]"), np.zeros(2, "m8[s]"), np.zeros(2, [("a", "i4")]),
        memoryview(b"x"), bytearray(b"x"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_vector_of_numbers_is_refused_as_by_the_package(value):
    twins = Twins()
    assert twins.call("CreateNumpyVector", value) == ("raised", TypeError)


def test_masked_array_is_written_as_by_the_package():
    twins = Twins()
    twins.CreateNumpyVector(np.ma.array([1, 2, 3], mask=[0, 1, 0], dtype="<i4", fill_value=9))  # type: ignore[arg-type]


def test_array_over_the_builders_own_buffer_is_written_as_it_was():
    builder = Builder(64)
    place = builder.CreateByteVector(b"abcdefgh")
    window = np.frombuffer(builder.Bytes, np.uint8)[-8:]
    assert bytes(window) == b"abcdefgh"
    assert builder.CreateNumpyVector(window) == place + 12
    assert bytes(builder.Bytes[builder.Head() :]) == 2 * b"\x08\0\0\0abcdefgh"


def test_without_numpy_the_package_says_so_through_our_builder(monkeypatch):
    monkeypatch.setattr("flatbuffers.builder.np", None)
    twins = Twins()
    assert twins.call("CreateNumpyVector", np.zeros(1)) == (
        "raised",
        flatbuffers.compat.NumpyRequiredForThisFeature,
    )


# Vtables


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["Uint8", "Uint16", "Uint32", "Float64"])), max_size=5),
        min_size=2,
        max_size=40,
    )
)
def test_tables_with_equal_vtables_share_one_as_the_package_has_them_do(tables):
    twins = Twins(0)
    for fields in tables:
        twins.StartObject(7)
        for slot, kind in fields:
            getattr(twins, f"Prepend{kind}Slot")(slot, 1, 0)
        twins.EndObject()
    places = twins.ours.vtables
    assert len(set(places.values())) == len(places) <= len(tables)


def test_thousands_of_different_vtables_are_all_found_again():
    def build(builder: Any) -> Any:
        tables = []
        for _ in range(2):
            for number in range(2000):
                builder.StartObject(12)
                for slot in range(11):
                    if number >> slot & 1:
                        builder.PrependUint8Slot(slot, 1, 0)
                builder.PrependUint8Slot(11, 1, 0)
                tables.append(builder.EndObject())
        builder.StartVector(4, len(tables), 4)
        for place in reversed(tables):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()

    expected = written_by(flatbuffers.Builder, build)
    builder = Builder(0)
    builder.Finish(build(builder))
    assert builder.Output() == expected
    assert len(builder.vtables) == 2000
    builder.Clear()
    assert builder.vtables == {}
    builder.Finish(build(builder))
    assert builder.Output() == expected


def test_vtables_are_forgotten_by_clear_and_not_found_in_the_next_message():
    def table(builder: Any) -> Any:
        builder.StartObject(2)
        builder.PrependUint32Slot(1, 7, 0)
        return builder.EndObject()

    twins = Twins(0)
    for _ in range(3):
        twins.attempt(table)
        twins.attempt(table)
        assert len(twins.ours.vtables) == 1
        twins.Clear()


@pytest.mark.parametrize("fields", [1, 100, 32765, 32766, 40_000])
def test_table_of_very_many_fields_is_the_packages_as_long_as_the_last_are_absent(fields):
    for present in (0, min(fields - 1, 5), fields - 1):
        twins = Twins(64)
        twins.StartObject(fields)
        twins.PrependUint8Slot(present, 1, 0)
        how, _ = twins.attempt(lambda builder: builder.EndObject())
        assert how == ("raised" if present > 32764 else "returned")


# Views of a finished message


def address(buffer: Any) -> int:
    return int(np.frombuffer(buffer, np.uint8).__array_interface__["data"][0])


def finished_builder(content: bytes = b"message", size: int = 64, make: Callable[[int], Any] = Builder) -> Any:
    builder = make(size)
    builder.Finish(builder.CreateByteVector(content))
    return builder


def test_view_is_read_only_bytes_at_the_address_of_the_buffer():
    builder = finished_builder()
    expected = bytes(builder.Output())
    view = memoryview(builder)
    assert (view.readonly, view.format, view.itemsize, view.ndim, view.shape, view.contiguous) == (
        True,
        "B",
        1,
        1,
        (len(expected),),
        True,
    )
    assert view == expected
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    there = address(view)
    del view
    # Nobody looks any more, so that Bytes is still the same memory.
    assert address(builder.Bytes) + builder.Head() == there


@pytest.mark.parametrize(
    "take",
    [
        bytes,
        bytearray,
        lambda b: bytes(np.frombuffer(b, np.uint8)),
        lambda b: b"".join([b]),
        lambda b: io.BytesIO(b).getvalue(),
    ],
    ids=["bytes", "bytearray", "numpy", "join", "BytesIO"],
)
def test_finished_builder_is_bytes_like(take):
    builder = finished_builder(b"abc")
    assert take(builder) == bytes.fromhex("04000000 03000000 616263 00")
    assert hashlib.sha256(builder).digest() == hashlib.sha256(builder.Output()).digest()


def test_writable_buffer_of_the_builder_is_refused():
    builder = finished_builder()
    with pytest.raises((TypeError, BufferError)):
        io.BytesIO(bytes(64)).readinto(builder)
    assert not np.frombuffer(builder, np.uint8).flags.writeable
    with pytest.raises((TypeError, BufferError)):
        (ctypes.c_char * 4).from_buffer(builder)


@pytest.mark.parametrize("unfinished", [lambda b: None, lambda b: b.CreateString("x"), lambda b: b.StartObject(1)])
def test_unfinished_builder_gives_no_view(unfinished):
    builder = Builder(64)
    unfinished(builder)
    for take in (memoryview, bytes, lambda b: np.frombuffer(b, np.uint8)):
        with pytest.raises(BufferError, match="is not finished: call its Finish"):
            take(builder)


DEEDS: dict[str, Callable[[Any], Any]] = {
    "clear": lambda b: b.Clear(),
    "clear and build": lambda b: (b.Clear(), b.Finish(b.CreateByteVector(b"\xff" * 40))),
    "clear twice": lambda b: (b.Clear(), b.Clear(), b.Finish(b.CreateByteVector(b"\xff" * 3))),
    "number": lambda b: b.PrependUint8(255),
    "numbers": lambda b: [b.PrependUint64(2**64 - 1) for _ in range(20)],
    "string": lambda b: b.CreateString("\xff" * 9),
    "shared string": lambda b: b.CreateSharedString("\xff" * 9),
    "bytes": lambda b: b.CreateByteVector(b"\xff" * 9),
    "bytearray": lambda b: b.CreateByteVector(bytearray(b"\xff" * 9)),
    "numpy": lambda b: b.CreateNumpyVector(np.full(3, -1)),
    "much": lambda b: b.CreateByteVector(b"\xff" * 5000),
    "table": lambda b: (b.StartObject(2), b.PrependUint32Slot(1, 2**32 - 1, 0), b.EndObject()),
    "two tables": lambda b: [(b.StartObject(2), b.PrependUint32Slot(1, 2**32 - 1, 0), b.EndObject()) for _ in "ab"],
    "pad": lambda b: b.Pad(3),
    "pad far": lambda b: b.Pad(3000),
    "prep": lambda b: b.Prep(16, 3),
    "grow": lambda b: b.GrowByteBuffer(),
    "finish again": lambda b: b.Finish(4),
    "place": lambda b: b.PlaceUOffsetT(2**32 - 1),
    "place of a type": lambda b: b.Place(255, number_types.Uint8Flags),
    "write into Bytes": lambda b: b.Bytes.__setitem__(slice(None), b"\xff" * len(b.Bytes)),
    "move the head and write": lambda b: (setattr(b, "head", len(b.Bytes)), b.PrependUint64(2**64 - 1)),  # type: ignore[func-returns-value]
    "finished by hand": lambda b: (setattr(b, "finished", False), b.PrependUint8(1)),  # type: ignore[func-returns-value]
    "begin anew": lambda b: b.__init__(16),
    "begin anew in vain": lambda b: outcome(lambda: b.__init__(-1)),
}


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "view": memoryview,
    "part": lambda b: memoryview(b)[2:9],
    "cast": lambda b: memoryview(memoryview(b)).cast("c"),
    "array": lambda b: np.frombuffer(b, np.uint8),
    "array of a view": lambda b: np.frombuffer(memoryview(b), np.uint8),
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_view_stays_as_it_was_whatever_is_done_to_the_builder(deed, holder):
    for size in (0, 1, 64, 1024):
        builder = finished_builder(b"the message", size)
        held = HOLDERS[holder](builder)
        before = bytes(held)
        DEEDS[deed](builder)
        gc.collect(0)
        assert bytes(held) == before
        # And what is built meanwhile is right, too: it was copied, or begun anew.
        builder.Clear()
        builder.Finish(builder.CreateByteVector(b"next"))
        assert builder.Output() == finished_builder(b"next").Output()
        assert bytes(held) == before
        del builder
        gc.collect(0)
        assert bytes(held) == before


@given(st.lists(st.tuples(st.binary(max_size=80), st.sampled_from(sorted(DEEDS)), st.booleans()), max_size=12))
def test_many_views_of_many_messages_all_stay_as_they_were(steps):
    builder = Builder(16)
    held = []
    for content, deed, drop in steps:
        builder.Clear()
        root = builder.CreateByteVector(content)
        builder.Finish(root)
        held.append((memoryview(builder), bytes(builder.Output())))
        DEEDS[deed](builder)
        if drop:
            held.pop(len(held) // 2)
        assert all(view == expected for view, expected in held)


def test_building_goes_on_from_what_a_view_shows():
    twins = Twins(0)
    twins.CreateString("first")
    twins.Finish(8)
    with memoryview(twins.ours) as view:
        before = bytes(view)
        twins.CreateString("second")
        twins.Finish(24)
        assert view == before
    assert bytes(twins.ours.Output()).endswith(before)


def test_view_that_is_gone_leaves_the_builder_its_memory():
    builder = finished_builder(b"x" * 100, 1024)
    there = address(builder.Bytes)
    for _ in range(5):
        with memoryview(builder):
            pass
        builder.Clear()
        builder.Finish(builder.CreateByteVector(b"y" * 100))
    assert address(builder.Bytes) == there


def test_view_keeps_the_memory_and_not_the_builder():
    class Own(Builder):
        pass

    builder = Own(64)
    builder.Finish(builder.CreateString("kept"))
    gone = weakref.ref(builder)
    view, expected = memoryview(builder), bytes(builder.Output())
    del builder
    gc.collect()
    assert gone() is None
    assert view == expected


def test_memory_of_dropped_views_is_given_back():
    builder = Builder(1 << 16)

    def round_trip() -> None:
        builder.Clear()
        builder.Finish(builder.CreateByteVector(b"z" * 50_000))
        memoryview(builder)

    round_trip()
    tracemalloc.start()
    try:
        round_trip()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(50):
            views = [memoryview(builder)]
            round_trip()
            del views
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


# Limits


@pytest.mark.parametrize(
    "operation",
    [
        lambda b: b.Prep(1, 2**31),
        lambda b: b.Prep(1, 2**40),
        lambda b: b.Prep(1, 2**70),
        lambda b: b.Prep(2**31, 1),
        lambda b: b.Prep(2**62, 1),
        lambda b: b.Pad(2**31),
        lambda b: b.Pad(2**31 + 1),
        lambda b: b.Pad(2**40),
        lambda b: b.Pad(2**70),
        lambda b: b.StartVector(1, 2**31, 1),
        lambda b: b.StartVector(8, 2**28, 8),
        lambda b: b.StartVector(2**31, 2**31, 1),
        lambda b: b.StartVector(2**64, 2**64, 1),
        lambda b: b.StartVector(1, 1, 2**32),
    ],
)
@pytest.mark.parametrize("content", [b"", b"abc"])
def test_more_than_2_gib_is_refused_before_the_memory_is_taken(operation, content):
    builder = Builder(16)
    builder.CreateByteVector(content)
    written = bytes(builder.Bytes[builder.Head() :])
    tracemalloc.start()
    try:
        with pytest.raises(BuilderSizeError):
            operation(builder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert len(builder.Bytes) == 16
    # StartVector aligns twice, and only the second may be too much.
    assert bytes(builder.Bytes[builder.Head() :]).lstrip(b"\0") == written.lstrip(b"\0")
    builder.Clear()
    builder.Finish(builder.CreateByteVector(b"next"))
    assert builder.Output() == finished_builder(b"next").Output()


def test_limit_is_the_packages():
    assert Builder.MAX_BUFFER_SIZE == flatbuffers.Builder.MAX_BUFFER_SIZE == 2**31


def test_message_of_tens_of_megabytes_is_the_packages_bytes():
    block = bytes(range(256)) * (20 << 12)  # 20 MiB
    array = np.arange(1 << 20, dtype=">u8")

    def build(builder: Any) -> Any:
        blob = builder.CreateByteVector(block)
        numbers = builder.CreateNumpyVector(array)
        text = builder.CreateString("\u00e9" * (1 << 20))
        builder.StartObject(3)
        for slot, place in enumerate((blob, numbers, text)):
            builder.PrependUOffsetTRelativeSlot(slot, place, 0)
        return builder.EndObject()

    expected = written_by(flatbuffers.Builder, build, 7)
    builder = Builder(7)
    builder.Finish(build(builder))
    assert len(expected) > 30 << 20
    # Not compared by assert: pytest would think long about a difference.
    same = memoryview(builder) == expected
    assert same


def in_a_process(code: str) -> str:
    """What `code` prints in a process of its own, which has to come to its end: it is after memory not its own."""
    command = [sys.executable, "-X", "faulthandler", "-c", f"from flatstream import Builder\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr[-2000:]) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "operation",
    [
        "Prep(4, -9)",
        "Prep(1 << 30, 1 - 3 * (1 << 30))",
        "Prep(-8, -1000)",
        "StartVector(1, -129, 1)",
        "StartVector(-5, 1, 8)",
    ],
)
def test_negative_size_does_not_move_the_head_out_of_the_buffer(operation):
    code = (
        "builder = Builder(0)\n"
        f"try: builder.{operation}\n"
        "except (ValueError, RuntimeError, TypeError): pass\n"
        "print(0 <= builder.Head() <= len(builder.Bytes))"
    )
    assert in_a_process(code) == "True\n"


def test_vtables_that_were_written_over_are_not_followed_out_of_the_buffer():
    code = (
        "builder = Builder(16)\n"
        "builder.StartObject(0); builder.EndObject()\n"
        "builder.Bytes[builder.Head():] = bytes([255]) * builder.Offset()\n"
        "print(sum(map(len, builder.vtables)) <= 8)"
    )
    assert in_a_process(code) == "True\n"


def test_builder_without_init_and_one_marked_finished_by_hand_come_to_no_harm():
    code = (
        "names = [name for name in dir(Builder) if not name.startswith('__') or name in ('__buffer__', '__sizeof__')]\n"
        "for finished in (False, True):\n"
        "    for name in names:\n"
        "        for arguments in ((), (0,), (1,), (0, 0), (0, 0, 0), (0, 1, 0), (b'',), (b'', None)):\n"
        "            builder = Builder.__new__(Builder)\n"
        "            builder.finished = finished\n"
        "            try:\n"
        "                member = getattr(builder, name)\n"
        "                if callable(member): member(*arguments)\n"
        "                memoryview(builder)\n"
        "            except Exception: pass\n"
        "print('done')"
    )
    assert in_a_process(code) == "done\n"


class Meddler:
    """A number that does something to the builder whenever it is looked at."""

    def __init__(self, builder: Any, deed: Callable[[Any], Any]) -> None:
        self.builder, self.deed = builder, deed

    def _act(self, *_: Any) -> Any:
        outcome(lambda: self.deed(self.builder))
        return 1

    __index__ = __float__ = _act
    __mul__ = __rmul__ = __sub__ = __rsub__ = __add__ = __radd__ = _act
    __hash__ = None  # type: ignore[assignment]

    def _yes(self, _: Any) -> bool:
        self._act()
        return True

    __le__ = __ge__ = __eq__ = __ne__ = _yes

    def _no(self, _: Any) -> bool:
        self._act()
        return False

    __lt__ = __gt__ = _no


@pytest.mark.parametrize("deed", [*DEEDS, "look", "other table"])
def test_number_that_meddles_with_the_builder_while_it_is_taken_does_no_harm(deed):
    looked = []
    deeds = DEEDS | {
        "look": lambda b: (setattr(b, "finished", True), looked.append((memoryview(b), bytes(b)))),  # type: ignore[func-returns-value]
        "other table": lambda b: (setattr(b, "nested", False), b.StartObject(500), b.Slot(499)),  # type: ignore[func-returns-value]
    }
    calls: list[Callable[[Any, Any], Any]] = [
        lambda b, x: b.PrependUint8(x),
        lambda b, x: b.PrependFloat64(x),
        lambda b, x: b.PrependUint64Slot(0, x, 0),
        lambda b, x: b.PrependFloat32Slot(0, 1.5, x),
        lambda b, x: b.PrependUint8Slot(x, 1, 0),
        lambda b, x: b.Slot(x),
        lambda b, x: b.Prep(x, 0),
        lambda b, x: b.Prep(4, x),
        lambda b, x: b.Pad(x),
        lambda b, x: b.PlaceUOffsetT(x),
        lambda b, x: b.PrependUOffsetTRelative(x),
        lambda b, x: b.PrependSOffsetTRelative(x),
        lambda b, x: b.PrependStructSlot(0, x, 0),
        lambda b, x: b.StartVector(x, 1, 1),
        lambda b, x: b.StartVector(1, 1, x),
        lambda b, x: b.StartObject(x),
        lambda b, x: b.Finish(x),
        lambda b, x: b.EndVector(x),
        lambda b, x: setattr(b, "head", x),
        lambda b, x: setattr(b, "minalign", x),
    ]
    for call in calls:
        for nested in (True, False):
            builder = Builder(16)
            builder.PrependUint32(7)
            if nested:
                builder.StartObject(3)
            outcome(lambda call=call, builder=builder: call(builder, Meddler(builder, deeds[deed])))  # type: ignore[misc]
            assert 0 <= builder.Head() <= len(builder.Bytes)
            builder.Clear()
            builder.Finish(builder.CreateByteVector(b"next"))
            assert builder.Output() == finished_builder(b"next").Output()
    assert all(view == expected for view, expected in looked)


# Drop-in: the same names


PUBLIC = sorted(name for name in dir(flatbuffers.Builder) if not name.startswith("_") and name not in ("Bytes",))


def test_every_public_name_of_the_package_is_there():
    ours = Builder(16)
    assert [name for name in PUBLIC if not hasattr(ours, name) and name != "vectorNumElems"] == []


METHODS = sorted(name for name in PUBLIC if inspect.isfunction(getattr(flatbuffers.Builder, name)))
KEYWORD_ARGUMENTS: dict[str, Any] = {
    "s": "text", "encoding": "utf-8", "errors": "strict", "x": 1, "rootTable": 0, "file_identifier": b"ABCD",
    "flags": number_types.Uint8Flags, "forceDefaults": True, "numElems": 2, "elemSize": 1, "alignment": 1, "n": 3,
    "off": 0, "size": 4, "additionalBytes": 2, "numfields": 3, "slotnum": 1, "obj": 0, "o": 0, "d": 0, "v": 0,
}  # fmt: skip
PARTICULAR = {
    "CreateByteVector": {"x": b"abc"},
    "CreateNumpyVector": {"x": np.arange(3)},
    "EndVector": {"numElems": None},
}


def test_every_method_takes_its_arguments_by_the_packages_names():
    refused = []
    for name in METHODS:
        parameters = list(inspect.signature(getattr(flatbuffers.Builder, name)).parameters.values())[1:]
        # Some take theirs by place alone in the package, too.
        if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
            continue
        arguments = {p.name: PARTICULAR.get(name, {}).get(p.name, KEYWORD_ARGUMENTS[p.name]) for p in parameters}  # type: ignore[attr-defined]
        expected = outcome(lambda name=name, arguments=arguments: getattr(flatbuffers.Builder(64), name)(**arguments))  # type: ignore[misc]
        if outcome(lambda name=name, arguments=arguments: getattr(Builder(64), name)(**arguments)) != expected:  # type: ignore[misc]
            refused.append(name)
    assert refused == []


# StreamWriter


class Item:
    """For simple mode: builds a table of a number and a string."""

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text = number, text

    def serialize(self, builder: Any) -> None:
        text = builder.CreateString(self.text)
        builder.StartObject(2)
        builder.PrependUint32Slot(0, self.number, 0)
        builder.PrependUOffsetTRelativeSlot(1, text, 0)
        builder.Finish(builder.EndObject())


ITEMS: list[Any] = [Item(number, "x" * size) for number, size in enumerate([0, 1, 10, 5000, 3, 70_000, 2])]
ITEMS += ["", "text", "\u20ac" * 2000]


def payload_of(item: Any) -> bytes:
    builder = flatbuffers.Builder(0)
    if isinstance(item, str):
        builder.Finish(builder.CreateString(item))
    else:
        item.serialize(builder)
    return bytes(builder.Output())


PAYLOADS = [payload_of(item) for item in ITEMS]
STREAM = b"".join(struct.pack("<I", len(payload)) + payload for payload in PAYLOADS)


@pytest.mark.parametrize("buffer_size", [0, 1, 100, 65536])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"capacity": 1},
        {"builder": flatbuffers.Builder},
        {"builder": Builder},
        {"make_builder": flatbuffers.Builder},
        {"make_builder": Builder},
        {"memory_policy": lambda size: SizeThresholdPolicy(4096, 1024, 1, baseline_capacity=256)},
        {
            "make_builder": flatbuffers.Builder,
            "memory_policy": lambda size: SizeThresholdPolicy(4096, 1024, 1, baseline_capacity=256),
        },
    ],
    ids=lambda options: (
        " ".join(f"{key}={getattr(value, '__module__', value)}" for key, value in options.items()) or "default"
    ),
)
def test_simple_mode_writes_the_same_stream_with_either_builder(options, buffer_size):
    made = {key: value(64) if key in ("builder", "memory_policy") else value for key, value in options.items()}
    for write in (
        lambda writer: [writer.write(item) for item in ITEMS],
        lambda writer: writer.write_batch(iter(ITEMS)),
    ):
        sink = io.BytesIO()
        with StreamWriter(sink, buffer_size=buffer_size, **made) as writer:
            write(writer)
        assert sink.getvalue() == STREAM


def test_simple_mode_builds_with_our_builder_by_default():
    with StreamWriter(io.BytesIO()) as writer:
        assert type(writer.builder) is Builder is flatstream.Builder
        assert len(writer.builder.Bytes) == 1024
    with StreamWriter(io.BytesIO(), capacity=100) as writer:
        assert len(writer.builder.Bytes) == 100


@EITHER
@pytest.mark.parametrize("buffer_size", [0, 100, 65536])
def test_expert_mode_writes_the_same_stream_with_either_builder(make, buffer_size):
    builder = make(64)
    sink = io.BytesIO()
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        for number, payload in enumerate(PAYLOADS):
            if isinstance(item := ITEMS[number], str):
                builder.Finish(builder.CreateString(item))
            else:
                item.serialize(builder)
            if number % 2:
                writer.write_message(builder)
                assert not builder.finished
            else:
                writer.write_finished(builder)
                assert bytes(builder.Output()) == payload
                builder.Clear()
    assert sink.getvalue() == STREAM


@EITHER
def test_unfinished_builder_is_refused_by_the_writer(make):
    with StreamWriter(io.BytesIO()) as writer:
        for write in (writer.write_finished, writer.write_message):
            with pytest.raises(flatstream.FlatbufferError, match="Finish"):
                write(make(16))
        assert writer.frames_written == 0


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_subclass_of_our_builder_is_written(large):
    class Own(Builder):
        cleared = 0

        def Clear(self):  # noqa: N802 - the package's name
            self.cleared += 1
            super().Clear()

    builder = Own(16)
    text = "t" * (100_000 if large else 5)
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        builder.Finish(builder.CreateString(text))
        writer.write_message(builder)
    assert builder.cleared == 1
    assert sink.getvalue()[4:] == payload_of(text)
    with StreamWriter(second := io.BytesIO(), builder=Own(16)) as writer:
        writer.write(text)
        assert writer.builder.cleared == 1
    assert second.getvalue() == sink.getvalue()


@EITHER
@pytest.mark.parametrize("size", [3, 100_000])
def test_view_that_an_observer_keeps_of_a_builders_message_stays_as_it_was(make, size):
    kept: list[memoryview] = []
    copies: list[bytes] = []

    def observe(payload: memoryview) -> None:
        kept.append(payload)
        copies.append(bytes(payload))

    builder = make(64)
    sink = io.BytesIO()
    with StreamWriter(sink, flatstream.DefaultFramer().observed(observe), buffer_size=64) as writer:
        for letter in "abc":
            builder.Finish(builder.CreateString(letter * size))
            # The package's builder cannot be cleared under a view of its bytearray in every case: a fresh one then.
            writer.write_finished(builder)
            if make is Builder:
                builder.Clear()
            else:
                builder = make(64)
    assert [bytes(payload) for payload in kept] == copies == [payload_of(letter * size) for letter in "abc"]


class MeddlingSink:
    """Clears the builder and builds something else with it in the middle of every write, and takes it in pieces."""

    def __init__(self, builder: Any) -> None:
        self.builder, self.received, self.step = builder, bytearray(), 700

    def write(self, data: memoryview) -> int:
        taken = bytes(data[: self.step])
        self.builder.Clear()
        self.builder.Finish(self.builder.CreateByteVector(b"\xff" * 90_000))
        assert bytes(data[: self.step]) == taken
        self.received += taken
        return len(taken)


@pytest.mark.parametrize("buffer_size", [0, 64, 65536])
@pytest.mark.parametrize("size", [10, 5000])
def test_sink_that_rebuilds_the_builder_in_the_middle_of_a_write_gets_the_message_as_it_was(buffer_size, size):
    builder = Builder(64)
    sink = MeddlingSink(builder)
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        for letter in "ab":
            builder.Clear()
            builder.Finish(builder.CreateString(letter * size))
            writer.write_finished(builder)
    assert bytes(sink.received) == b"".join(
        struct.pack("<I", len(payload)) + payload for payload in (payload_of(letter * size) for letter in "ab")
    )


def test_memory_policy_replaces_our_builder_when_it_has_grown():
    sink = io.BytesIO()
    policy = SizeThresholdPolicy(4096, 1024, 1, baseline_capacity=256)
    with StreamWriter(sink, memory_policy=policy, capacity=256) as writer:
        first = writer.builder
        writer.write(Item(1, "x" * 9000))
        grown = writer.builder
        assert len(grown.Bytes) > 4096
        writer.write("small")
        writer.write("small")
        assert type(writer.builder) is Builder
        assert writer.builder is not first
        assert len(writer.builder.Bytes) == 256
    with StreamReader(sink.getvalue()) as reader:
        assert [bytes(payload) for payload in reader] == [
            payload_of(i) for i in (Item(1, "x" * 9000), "small", "small")
        ]


# What the docstring names as differences


def test_bytes_is_a_writable_memoryview_of_the_whole_buffer():
    builder = Builder(32)
    assert type(builder.Bytes) is memoryview
    assert (builder.Bytes.readonly, builder.Bytes.format, len(builder.Bytes)) == (False, "B", 32)
    assert bytes(builder.Bytes) == bytes(32)
    builder.Bytes[0:2] = b"ab"
    assert bytes(builder.Bytes[:3]) == b"ab\0"


def test_bytes_that_somebody_holds_is_left_alone_by_the_builder():
    builder = Builder(32)
    builder.PrependUint32(1)
    held = builder.Bytes
    builder.PrependUint32(2)
    assert bytes(held[-8:]) == b"\0\0\0\0\x01\0\0\0"
    assert bytes(builder.Bytes[-8:]) == b"\x02\0\0\0\x01\0\0\0"


@pytest.mark.parametrize("size", [0, 1, 7])
def test_place_and_pad_make_room(size):
    builder = Builder(size)
    builder.Place(7, number_types.Uint64Flags)
    builder.Pad(5)
    builder.PlaceUOffsetT(3)
    builder.PlaceVOffsetT(2)
    builder.PlaceSOffsetT(-1)
    assert bytes(builder.Bytes[builder.Head() :]).hex() == "ffffffff020003000000" + "00" * 5 + "0700000000000000"


def test_end_of_a_vector_that_was_overfilled_makes_room():
    builder = Builder(8)
    builder.StartVector(1, 0, 1)
    for _ in range(8):
        builder.PrependUint8(1)
    assert builder.EndVector() == 12
    assert bytes(builder.Bytes[builder.Head() :]) == bytes(4) + b"\x01" * 8


def test_current_vtable_and_vtables_are_copies():
    builder = Builder(64)
    builder.StartObject(2)
    builder.current_vtable[0] = 99  # type: ignore[index]
    assert builder.current_vtable == [0, 0]
    builder.EndObject()
    builder.vtables.clear()
    assert builder.vtables == {(4,): 8}


def test_growing_by_hand_keeps_the_head_where_the_message_begins():
    builder = finished_builder(b"abc", 64)
    message = bytes(builder.Output())
    builder.GrowByteBuffer()
    assert len(builder.Bytes) == 128
    assert builder.Output() == message
    empty = Builder(0)
    empty.GrowByteBuffer()
    assert (len(empty.Bytes), empty.Head()) == (1, 1)


@pytest.mark.long  # not minutes, but 3 GiB of memory
def test_growing_by_hand_from_more_than_half_of_the_limit_ends_at_the_limit():
    builder = Builder(2**30 + 1)
    builder.GrowByteBuffer()
    assert len(builder.Bytes) == 2**31
    with pytest.raises(BuilderSizeError):
        builder.GrowByteBuffer()


@pytest.mark.parametrize("head", [-1, 65, 2**70, -(2**70), None, "1", 1.5])
def test_head_outside_the_buffer_is_refused(head):
    builder = Builder(64)
    with pytest.raises((ValueError, TypeError, OverflowError)):
        builder.head = head
    assert builder.Head() == 64


def test_class_docstring_names_these_differences():
    text = " ".join((Builder.__doc__ or "").split())
    for said in (
        "memoryview(builder)",
        "``Bytes`` is a writable memoryview",
        "``Place`` and ``Pad`` make room",
        "``current_vtable`` and ``vtables`` are copies",
    ):
        assert said in text

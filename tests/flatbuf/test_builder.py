"""`flatstream.Builder` is `flatbuffers.Builder`: the same bytes, state, results and exceptions, and views that hold.

The package's own builder is the oracle. Whatever is done here is done to both builders, and what can be seen of them is
compared after each step: with every number type and many values that are no such number; with random sequences of
operations, misuse among them; and, in the files beside this one, with random messages over data/schemas through the
code that flatc generates and its object API, with NumPy arrays, through StreamWriter. What only ours has, the views of
a finished message, is held to what was copied when the view was taken, whatever is done to the builder afterwards
(test_builder_views.py). The differences that the docstring of the class names are in test_builder_in_streams.py.
"""

from __future__ import annotations

import contextlib
import decimal
import enum
import fractions
import inspect
import struct
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
from hypothesis import given
from hypothesis import strategies as st

from flatstream import Builder
from support.bad_input import shown
from support.builders import INTEGER_KINDS, KINDS, Twins
from support.extent import in_one_test
from support.messages import outcome

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


@in_one_test
@pytest.mark.parametrize("kind", KINDS)
def test_any_value_as_a_number_does_what_it_does_to_the_package(kind):
    for value in (*NUMBERS, *NO_NUMBERS):
        Twins(0).call(f"Prepend{kind}", value)


@in_one_test
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


@in_one_test
@pytest.mark.parametrize("kind", KINDS)
def test_any_default_for_a_number_does_what_it_does_to_the_package(kind):
    for default in (*NUMBERS, *NO_NUMBERS):
        for value in (0, 1, 1.0, None):
            twins = Twins(64)
            twins.StartObject(1)
            twins.call(f"Prepend{kind}Slot", 0, value, default)


@in_one_test
@pytest.mark.parametrize("name", ["PlaceVOffsetT", "PlaceSOffsetT", "PlaceUOffsetT", "PrependVOffsetT"])
def test_any_value_as_an_offset_does_what_it_does_to_the_package(name):
    for value in (*NUMBERS, *NO_NUMBERS):
        twins = Twins(0)
        twins.Prep(8, 0)  # the room without which the package would place it behind the end
        twins.call(name, value)


@in_one_test
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


@in_one_test
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


@in_one_test
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


@in_one_test
@pytest.mark.parametrize("slot", SLOT_NUMBERS, ids=shown)
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


@in_one_test
@pytest.mark.parametrize("count", FIELD_COUNTS, ids=shown)
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


@in_one_test
@pytest.mark.parametrize("size", SIZES, ids=shown)
def test_any_initial_size_does_what_it_does_to_the_package(size):
    expected = outcome(lambda: len(flatbuffers.Builder(size).Bytes))
    assert outcome(lambda: len(Builder(size).Bytes)) == expected


@in_one_test
@pytest.mark.parametrize(
    "value",
    [0, 1, 2, 3, 4, 8, 16, 64, 100, True, None, "1", 1.0, 0.5, float("nan"), OnlyIndex(), np.int64(8)],
    ids=shown,
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


@in_one_test
@pytest.mark.parametrize(
    "count", [0, -1, -(10**30), 1, 7, 64, True, None, "1", 1.5, OnlyIndex(), np.int64(3)], ids=shown
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


@in_one_test
@pytest.mark.parametrize("method", ["CreateString", "CreateSharedString"])
@pytest.mark.parametrize("text", STRINGS, ids=shown)
def test_any_string_does_what_it_does_to_the_package(method, text):
    for encoding in ENCODINGS:
        twins = Twins(0)
        twins.call(method, text, *encoding)
        twins.call(method, text)
        twins.call(method, text, encoding=encoding[0], errors=encoding[1])
        twins.call(method, "after")


@in_one_test
@pytest.mark.parametrize("data", STRINGS, ids=shown)
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


@in_one_test
@pytest.mark.parametrize("size", [0, 1, 7, 1024])
def test_bytearray_can_be_changed_after_it_was_written(size):
    builder = Builder(size)
    data = bytearray(b"abc")
    builder.CreateByteVector(data)
    builder.CreateString(data)
    data.extend(b"d")
    assert bytes(builder.Bytes[builder.Head() :]) == b"\x03\0\0\0abc\0\x03\0\0\0abc\0"


# Misuse


@in_one_test
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


@in_one_test
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
    ids=shown,
)
@pytest.mark.parametrize("method", ["Finish", "FinishSizePrefixed"])
def test_any_file_identifier_does_what_it_does_to_the_package(method, identifier):
    for content in (b"", b"a", b"abcdefg"):
        twins = Twins(0)
        root = twins.CreateByteVector(content)
        twins.call(method, root, identifier)
        twins.call(method, root, file_identifier=identifier)


@in_one_test
@pytest.mark.parametrize("minalign", [0, 1, 2, 3, 16, 64, 100, 1024])
def test_message_is_aligned_to_a_minalign_that_was_set_as_by_the_package(minalign):
    twins = Twins(7)
    root = twins.CreateByteVector(b"abc")
    twins.attempt(lambda builder: setattr(builder, "minalign", minalign))
    twins.Finish(root, b"ABCD")


@in_one_test
@pytest.mark.parametrize("value", [-1, 2**31 + 1, 2**70, None, "1", 1.5], ids=shown)
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

"""The verifier: the verdicts of the reference, the exact reason for every kind of damage.

The reference is the verifier of the Rust crate `flatbuffers`; ``data/vectors/verifier`` holds what it said of 20,005
messages, most of them damaged (see ``data/vectors/README.md``). The damage made here is made by hand, in messages laid
out byte by byte below, so that the place in each reason can be checked against the picture. Fuzzing is
in test_verifier_fuzzing.py.
"""

from __future__ import annotations

import array
import functools
import lzma
import mmap
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from flatstream import (
    DefaultDeframer,
    StreamReader,
    TableRootValidator,
    TypedValidator,
    ValidationFailedError,
    Validator,
)
from flatstream._core.flatbuf.verifier import Types
from flatstream.schema._reflection import BaseType
from support.extent import in_one_test
from support.messages import (
    NAMED,
    chain,
    changed,
    doubling,
    refusal,
    union_vector,
)
from support.processes import SANITIZED, survives
from support.schemas import SCHEMAS, VECTORS, schema_of


@functools.cache
def validator_of(name: str, table: str | None = None) -> TypedValidator:
    return TypedValidator.for_type(schema_of(name), table and f"{name}.{table}")


# The reference's verdicts


@functools.cache
def reference_payloads() -> tuple[bytes, ...]:
    data = lzma.decompress((VECTORS / "verifier" / "payloads.bin.xz").read_bytes())
    payloads = []
    place = 0
    while place < len(data):
        (length,) = struct.unpack_from("<I", data, place)
        payloads.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    return tuple(payloads)


def reference_verdicts(bit: int) -> list[bool]:
    return [bool(verdict >> bit & 1) for verdict in (VECTORS / "verifier" / "verdicts.bin").read_bytes()]


# The messages that the reference refuses although nothing in them is wrong: in each, an empty vector of longs (at the
# byte after the number) ends where its length does, so that no element could be aligned. flatc writes such vectors.
ACCEPTED_EMPTY_VECTORS = {1627: 88, 7393: 88, 7695: 88, 9260: 216, 18394: 88, 19142: 152}


def expected_verdicts(bit: int) -> list[bool]:
    verdicts = reference_verdicts(bit)
    if bit:
        for number in ACCEPTED_EMPTY_VECTORS:
            assert not verdicts[number]
            verdicts[number] = True
    return verdicts


WITH_A_BIT = pytest.mark.parametrize(
    ("bit", "make"),
    [
        pytest.param(0, TableRootValidator, id="table_root"),
        pytest.param(1, lambda: TypedValidator.for_type(schema_of("monster_test")), id="typed"),
    ],
)


def test_reference_has_all_verdicts_of_both_kinds():
    """The tests below compare something: so many payloads, of which so many are good."""
    assert len(reference_payloads()) == 20_005
    assert (sum(reference_verdicts(0)), sum(reference_verdicts(1))) == (17_518, 5_597)


@in_one_test
@pytest.mark.parametrize(("number", "place"), ACCEPTED_EMPTY_VECTORS.items())
def test_messages_accepted_against_the_reference_have_a_misaligned_empty_vector(number, place):
    payload = reference_payloads()[number]
    assert struct.unpack_from("<I", payload, place) == (0,)
    assert (place + 4) % 8 == 4
    monster = schema_of("monster_test").table("MyGame.Example.Monster").view(payload)
    assert monster.vector_of_longs.tolist() == []


@WITH_A_BIT
def test_verdicts_of_validate_are_those_of_the_reference_but_for_empty_vectors(bit, make):
    validator = make()
    verdicts = [refusal(validator, payload) is None for payload in reference_payloads()]
    assert [i for i, pair in enumerate(zip(verdicts, expected_verdicts(bit), strict=True)) if pair[0] != pair[1]] == []


@WITH_A_BIT
def test_verdicts_of_a_validating_reader_are_those_of_the_reference_but_for_empty_vectors(bit, make):
    # A list of payloads with their lengths is a stream of frames without a checksum.
    stream = lzma.decompress((VECTORS / "verifier" / "payloads.bin.xz").read_bytes())
    verdicts = []
    refused = []
    with StreamReader(stream, DefaultDeframer().with_validator(make())) as reader:
        while True:
            try:
                payload = reader.read_message()
            except ValidationFailedError as error:
                refused.append(error.frame)
                verdicts.append(False)
                continue
            if payload is None:
                break
            assert payload == reference_payloads()[len(verdicts)]
            verdicts.append(True)
    assert verdicts == expected_verdicts(bit)
    assert refused == [number for number, verdict in enumerate(verdicts) if not verdict]


@pytest.mark.parametrize("name", ["monsterdata_test.mon", "monsterdata_python_wire.mon"])
def test_monster_of_the_flatbuffers_project_is_accepted(name):
    payload = (VECTORS / "verifier" / name).read_bytes()
    assert refusal(validator_of("monster_test"), payload) is None
    assert refusal(TableRootValidator(), payload) is None


# What is wrong with it, for a change of one number: (place, format, value), path, reason.
ROOT_DAMAGE = [
    ((0, "I", 17), "named", "the offset of a vtable at byte 17 is not aligned to 4 bytes"),
    ((0, "I", 18), "named", "the offset of a vtable at byte 18 is not aligned to 4 bytes"),
    ((0, "I", 52), "named", "the offset of a vtable at byte 52 needs 4 bytes, but the message ends at 52"),
    (
        (0, "I", 2**32 - 4),
        "named",
        "the offset of a vtable at byte 4294967292 needs 4 bytes, but the message ends at 52",
    ),
    ((0, "I", 2**31), "named", "the offset of a vtable at byte 2147483648 needs 4 bytes, but the message ends at 52"),
    ((16, "i", 20), "named", "the table at byte 16 has its vtable -20 bytes away, outside the message"),
    ((16, "i", 2**31 - 1), "named", "the table at byte 16 has its vtable -2147483647 bytes away, outside the message"),
    ((16, "i", -36), "named", "the table at byte 16 has its vtable 36 bytes away, outside the message"),
    ((16, "i", -(2**31)), "named", "the table at byte 16 has its vtable 2147483648 bytes away, outside the message"),
    ((16, "i", -35), "named", "a vtable at byte 51 is not aligned to 2 bytes"),
    ((16, "i", 11), "named", "a vtable at byte 5 is not aligned to 2 bytes"),
    ((4, "H", 9), "named", "the end of a vtable at byte 13 is not aligned to 2 bytes"),
    ((4, "H", 1), "named", "the end of a vtable at byte 5 is not aligned to 2 bytes"),
    ((4, "H", 50), "named", "a vtable at byte 4 needs 50 bytes, but the message ends at 52"),
    ((4, "H", 65534), "named", "a vtable at byte 4 needs 65534 bytes, but the message ends at 52"),
]
FIELD_DAMAGE = [
    # A table at byte 0 that is its own vtable, of no bytes: an empty table.
    ((0, "I", 0), "named.name", "a required field is missing from the table at byte 0"),
    ((8, "H", 0), "named.name", "a required field is missing from the table at byte 16"),
    ((4, "H", 4), "named.name", "a required field is missing from the table at byte 16"),
    ((4, "H", 0), "named.name", "a required field is missing from the table at byte 16"),
    # Only a vtable of no bytes fits there, and a vtable with no bytes has no fields.
    ((16, "i", -34), "named.name", "a required field is missing from the table at byte 16"),
    ((8, "H", 5), "named.name", "an offset at byte 21 is not aligned to 4 bytes"),
    ((8, "H", 36), "named.name", "an offset at byte 52 needs 4 bytes, but the message ends at 52"),
    ((8, "H", 65532), "named.name", "an offset at byte 65548 needs 4 bytes, but the message ends at 52"),
    ((20, "I", 13), "named.name", "the length of a vector at byte 33 is not aligned to 4 bytes"),
    ((20, "I", 32), "named.name", "the length of a vector at byte 52 needs 4 bytes, but the message ends at 52"),
    (
        (20, "I", 2**32 - 4),
        "named.name",
        "the length of a vector at byte 4294967312 needs 4 bytes, but the message ends at 52",
    ),
    ((32, "I", 17), "named.name", "a vector at byte 36 needs 17 bytes, but the message ends at 52"),
    ((32, "I", 2**32 - 1), "named.name", "a vector at byte 36 needs 4294967295 bytes, but the message ends at 52"),
    ((32, "I", 2**31), "named.name", "a vector at byte 36 needs 2147483648 bytes, but the message ends at 52"),
    # All there is to the end, and nothing behind it.
    ((32, "I", 16), "named.name", "the string at byte 32 has no zero byte after its 16 bytes"),
    ((32, "I", 4), "named.name", "the string at byte 32 has no zero byte after its 4 bytes"),
    ((41, "B", 1), "named.name", "the string at byte 32 has no zero byte after its 5 bytes"),
    ((36, "B", 0x80), "named.name", "the string at byte 32 is not UTF-8: see its byte 0"),
    ((40, "B", 0xC3), "named.name", "the string at byte 32 is not UTF-8: see its byte 4"),
    ((49, "B", 0x28), "named.note", "the string at byte 44 is not UTF-8: see its byte 0"),
    ((44, "I", 1), "named.note", "the string at byte 44 is not UTF-8: see its byte 0"),
    ((50, "B", 255), "named.note", "the string at byte 44 has no zero byte after its 2 bytes"),
    ((10, "H", 10), "named.note", "an offset at byte 26 is not aligned to 4 bytes"),
    ((12, "H", 13), "named.code", "a field at byte 29 is not aligned to 4 bytes"),
    ((12, "H", 36), "named.code", "a field at byte 52 needs 4 bytes, but the message ends at 52"),
]


def test_message_made_by_hand_is_the_one_that_generated_code_reads():
    from shapes.Named import Named

    assert len(NAMED) == 52
    assert refusal(validator_of("shapes", "Named"), NAMED) is None
    assert refusal(TableRootValidator(), NAMED) is None
    named = Named.GetRootAs(NAMED)
    assert (named.Name(), named.Note(), named.Code()) == (b"hello", "é".encode(), 7)


@in_one_test
@pytest.mark.parametrize(("change", "path", "reason"), ROOT_DAMAGE + FIELD_DAMAGE)
def test_damage_is_refused_with_its_place_and_reason(change, path, reason):
    with pytest.raises(ValidationFailedError) as caught:
        validator_of("shapes", "Named").validate(changed(NAMED, change))
    assert (caught.value.validator, caught.value.path, caught.value.reason) == ("shapes.Named", path, reason)
    assert str(caught.value) == f"shapes.Named refused the payload: {path}: {reason}"


@in_one_test
@pytest.mark.parametrize(("change", "path", "reason"), ROOT_DAMAGE)
def test_damage_to_the_root_is_refused_without_a_schema(change, path, reason):
    with pytest.raises(ValidationFailedError) as caught:
        TableRootValidator().validate(changed(NAMED, change))
    assert (caught.value.validator, caught.value.path, caught.value.reason) == ("TableRootValidator", "", reason)


@in_one_test
@pytest.mark.parametrize("change", [change for change, _, _ in FIELD_DAMAGE])
def test_damage_behind_the_root_is_accepted_without_a_schema(change):
    assert refusal(TableRootValidator(), changed(NAMED, change)) is None


@in_one_test
@pytest.mark.parametrize(
    "change",
    [
        pytest.param((6, "H", 0), id="size of the table is not asked for"),
        pytest.param((6, "H", 65535), id="size of the table may be any"),
        pytest.param((10, "H", 0), id="optional string is absent"),
        pytest.param((12, "H", 0), id="optional number is absent"),
        pytest.param((4, "H", 6), id="vtable ends behind the first field"),
        pytest.param((12, "H", 4), id="two fields at one place"),
        pytest.param((12, "H", 24), id="field behind the table"),
        pytest.param((24, "I", 8), id="two strings at one place"),
        pytest.param((4, "H", 48), id="vtable up to the end of the message"),
        pytest.param((32, "I", 6), id="zero bytes in a string"),
        pytest.param((51, "B", 7), id="anything in padding"),
    ],
)
def test_what_the_reference_does_not_ask_about_is_accepted(change):
    assert refusal(validator_of("shapes", "Named"), changed(NAMED, change)) is None


@in_one_test
@pytest.mark.parametrize("length", range(52))
def test_message_that_was_cut_is_refused_unless_only_padding_is_gone(length):
    # The last byte that counts is the zero behind "é", at 50.
    assert (refusal(validator_of("shapes", "Named"), NAMED[:length]) is None) == (length == 51)
    # The root has all that it needs up to the offset of its vtable, at 16 to 20.
    assert (refusal(TableRootValidator(), NAMED[:length]) is None) == (length >= 20)


@in_one_test
@pytest.mark.parametrize("validator", [TableRootValidator(), validator_of("shapes", "Named")], ids=["root", "typed"])
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x01])
@pytest.mark.parametrize("length", range(8))
def test_few_bytes_are_refused(length, fill, validator):
    _, reason = refusal(validator, bytes([fill]) * length) or ("", "accepted")
    if length < 4:
        assert reason == f"an offset at byte 0 needs 4 bytes, but the message ends at {length}"
    elif fill == 0:
        # The table at byte 0 is its own vtable, of no bytes: a table without fields, which may be a root.
        expected = (
            "accepted"
            if isinstance(validator, TableRootValidator)
            else "a required field is missing from the table at byte 0"
        )
        assert reason == expected
    elif fill == 0xFF:
        assert reason == "the offset of a vtable at byte 4294967295 is not aligned to 4 bytes"
    else:
        assert reason == "the offset of a vtable at byte 16843009 is not aligned to 4 bytes"


@in_one_test
@pytest.mark.parametrize("offset", range(1, 8))
def test_alignment_counts_from_the_first_byte_of_the_payload(offset):
    """Where the payload lies in memory does not matter, as for the reference."""
    memory = memoryview(bytes(offset) + NAMED)[offset:]
    assert refusal(validator_of("shapes", "Named"), memory) is None


# One field, number `number` of its table, at a multiple of 8; `tail` comes right behind its four bytes.


def one_field(number: int, value: int, tail: bytes = b"", form: str = "I") -> tuple[bytes, int]:
    """The message, and the place of the field."""
    size = 4 + 2 * (number + 1)
    table = -(-(4 + size) // 8) * 8 + 4
    head = struct.pack(f"<I2H{number + 1}H", table, size, 8, *[0] * number, 4)
    head = head.ljust(table, b"\0") + struct.pack(f"<i{form}", table - 4, value)
    return head + tail, table + 4


# Fields of shapes.Vectors: name, number, bytes of an element, and to what a vector of them must be aligned.
VECTORS_OF = [
    ("truths", 0, 1, 1),
    ("i8s", 1, 1, 1),
    ("u8s", 2, 1, 1),
    ("i16s", 3, 2, 2),
    ("u16s", 4, 2, 2),
    ("i32s", 5, 4, 4),
    ("u32s", 6, 4, 4),
    ("i64s", 7, 8, 8),
    ("u64s", 8, 8, 8),
    ("f32s", 9, 4, 4),
    ("f64s", 10, 8, 8),
    ("colors", 11, 1, 1),
    ("weekdays", 12, 2, 2),
    ("accesses", 13, 1, 1),
    ("strings", 14, 4, 4),
    # Structs are arrays of bytes to the reference: not aligned.
    ("pixels", 15, 1, 1),
    ("points", 16, 8, 1),
    ("mixeds", 17, 32, 1),
    ("nests", 18, 64, 1),
    ("grids", 19, 64, 1),
    ("aligneds", 20, 16, 1),
    ("scalars", 21, 4, 4),
    ("named", 22, 4, 4),
    ("overaligned", 23, 1, 1),
]


@in_one_test
@pytest.mark.parametrize(("name", "number", "width", "alignment"), VECTORS_OF)
def test_vector_length_is_held_against_what_is_there(name, number, width, alignment):
    validator = validator_of("shapes", "Vectors")
    room = 64
    empty, place = one_field(number, 4, struct.pack("<I", 0))
    assert refusal(validator, empty) is None
    for count in (room // width + 1, 2**16, 2**28, 2**29, 2**30, 2**31 - 1, 2**31, 2**32 - 1):
        message, place = one_field(number, 4, struct.pack("<I", count) + bytes(room))
        assert refusal(validator, message) == (
            f"vectors.{name}",
            f"a vector at byte {place + 8} needs {count * width} bytes, but the message ends at {len(message)}",
        )


@in_one_test
@pytest.mark.parametrize(("name", "number", "width", "alignment"), VECTORS_OF)
@pytest.mark.parametrize("shift", [4, 8])
def test_vector_is_aligned_to_its_numbers(name, number, width, alignment, shift):
    # The elements begin at a multiple of 8, and `shift` less 4 behind it. The element is zeros, or an offset to itself,
    # where zeros are a string or a table: only `named` has a required field.
    message, place = one_field(number, shift, bytes(shift - 4) + struct.pack("<I", 1) + bytes(64))
    start = place + shift + 4
    wrong = (f"vectors.{name}", f"a vector at byte {start} is not aligned to {alignment} bytes")
    if name == "named":
        wrong = ("vectors.named[0].name", f"a required field is missing from the table at byte {start}")
        assert refusal(validator_of("shapes", "Vectors"), message) == wrong
    else:
        assert refusal(validator_of("shapes", "Vectors"), message) == (wrong if start % alignment else None)


@in_one_test
@pytest.mark.parametrize(("name", "number", "width", "alignment"), VECTORS_OF)
@pytest.mark.parametrize("shift", [4, 8])
def test_empty_vector_need_not_be_aligned_to_its_numbers(name, number, width, alignment, shift):
    # Nothing follows the length: the message ends there.
    message, place = one_field(number, shift, bytes(shift - 4) + struct.pack("<I", 0))
    assert len(message) == place + shift + 4
    table = schema_of("shapes").table("shapes.Vectors")
    assert refusal(validator_of("shapes", "Vectors"), message) is None
    record = table.view(message)
    assert len(record[name]) == 0
    assert record.to_dict()[name] in ([], b"")
    for verify in (False, True):
        stream = struct.pack("<I", len(message)) + message
        assert StreamReader(stream).columns(table, [name], verify=verify)[name].to_pylist() in ([[]], [b""])


@pytest.mark.parametrize("offset", [5, 6, 7])
def test_vector_whose_length_is_not_aligned_is_refused(offset):
    message, place = one_field(2, offset, bytes(16))
    assert refusal(validator_of("shapes", "Vectors"), message) == (
        "vectors.u8s",
        f"the length of a vector at byte {place + offset} is not aligned to 4 bytes",
    )


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_bad_string_of_a_vector_is_named_by_its_index(bad):
    texts = [b"ab\0\0", b"cd\0\0", b"ef\0\0"]
    texts[bad] = b"x\xff\0\0"
    # The vector of 3 offsets, and behind it the strings of 8 bytes each.
    tail = struct.pack("<I3I", 3, 12, 16, 20) + b"".join(struct.pack("<I", 2) + text for text in texts)
    message, place = one_field(14, 4, tail)
    assert refusal(validator_of("shapes", "Vectors"), message) == (
        f"vectors.strings[{bad}]",
        f"the string at byte {place + 20 + 8 * bad} is not UTF-8: see its byte 1",
    )


def test_bad_field_of_a_table_in_a_vector_is_named_with_its_index():
    # Two tables without fields: `name` of shapes.Named is required, of the first one already.
    tail = struct.pack("<I2I", 2, 8, 8) + bytes(8)
    message, place = one_field(22, 4, tail)
    assert refusal(validator_of("shapes", "Vectors"), message) == (
        "vectors.named[0].name",
        f"a required field is missing from the table at byte {place + 16}",
    )
    # Of shapes.Scalars nothing is required.
    message, _ = one_field(21, 4, tail)
    assert refusal(validator_of("shapes", "Vectors"), message) is None


def test_bad_string_of_the_monster_is_named_by_its_index():
    monster = bytearray((VECTORS / "verifier" / "monsterdata_test.mon").read_bytes())
    place = monster.index(b"test2\0")
    monster[place + 5] = 1
    assert refusal(validator_of("monster_test"), monster) == (
        "monster.testarrayofstring[1]",
        f"the string at byte {place - 4} has no zero byte after its 5 bytes",
    )


@in_one_test
@pytest.mark.parametrize(
    ("name", "number", "width"),
    [("i8", 1, 1), ("u16", 4, 2), ("i32", 5, 4), ("u64", 8, 8), ("f32", 9, 4), ("f64", 10, 8), ("color", 11, 1)],
)
def test_number_is_there_and_aligned(name, number, width):
    validator = validator_of("shapes", "Scalars")
    message, place = one_field(number, 0, bytes(4))
    entry = 8 + 2 * number
    for distance in range(4, 16):
        at = place - 4 + distance
        expected = None
        if at % width:
            expected = (f"scalars.{name}", f"a field at byte {at} is not aligned to {width} bytes")
        elif at + width > len(message):
            expected = (
                f"scalars.{name}",
                f"a field at byte {at} needs {width} bytes, but the message ends at {len(message)}",
            )
        assert refusal(validator, changed(message, (entry, "H", distance))) == expected


@in_one_test
@pytest.mark.parametrize(
    ("name", "number", "size"),
    [("pixel", 0, 1), ("point", 1, 8), ("mixed", 2, 32), ("nest", 3, 64), ("grid", 4, 64), ("aligned", 5, 16)],
)
def test_struct_is_there_and_need_not_be_aligned(name, number, size):
    validator = validator_of("shapes", "Structs")
    # `point_required` is field 6: at the same place, for nobody forbids it, and its 8 bytes are there.
    message, place = one_field(6, 0, bytes(62))
    entry = 8 + 2 * number
    for distance in (4, 5, 7, 12):
        at = place - 4 + distance
        wrong = (
            f"structs.{name}",
            f"a struct at byte {at} needs {size} bytes, but the message ends at {len(message)}",
        )
        expected = wrong if at + size > len(message) else None
        assert refusal(validator, changed(message, (entry, "H", distance))) == expected


# Unions


def unions(must_type: int = 3, must: int = 1, more: tuple[int, int] = (0, 0)) -> bytes:
    """A message of the type shapes.Unions: a vtable of 16 bytes at 4, the table at 20, an empty table at 36.

    `must_type` is a type, or absent if 0; `must` is 0 if the value is absent. `more` are the entries of the vtable for
    the type and the value of `choice`: 4 is a byte of 3, 8 the offset of the empty table.
    """
    entries = [more[0], more[1], 0, 0, 4 if must_type else 0, 8 if must else 0]
    # The vtable of the empty table is at 32.
    return struct.pack("<I8HiBxxxI2Hi", 20, 16, 12, *entries, 16, must_type, 8, 4, 4, 4)


def test_union_made_by_hand_is_accepted():
    assert refusal(validator_of("shapes", "Unions"), unions()) is None


INCONSISTENT = "a union in the table at byte 20 has a type without a value, or a value without a type"


@in_one_test
@pytest.mark.parametrize(
    ("message", "path", "reason"),
    [
        (unions(must_type=0), "unions.must", INCONSISTENT),
        (unions(must=0), "unions.must", INCONSISTENT),
        (unions(must_type=0, must=0), "unions.must", "a required field is missing from the table at byte 20"),
        (unions(more=(4, 0)), "unions.choice", INCONSISTENT),
        (unions(more=(0, 8)), "unions.choice", INCONSISTENT),
        # Shapes.Named, whose name is required, where an empty table is.
        (unions(must_type=1), "unions.must.name", "a required field is missing from the table at byte 36"),
        (
            changed(unions(), (28, "I", 7)),
            "unions.must",
            "the offset of a vtable at byte 35 is not aligned to 4 bytes",
        ),
        (
            changed(unions(more=(100, 8)), (24, "B", 3)),
            "unions.choice",
            "the type of a union at byte 120 needs 1 bytes, but the message ends at 40",
        ),
    ],
)
def test_damaged_union_is_refused_with_its_path(message, path, reason):
    assert refusal(validator_of("shapes", "Unions"), message) == (path, reason)


@in_one_test
@pytest.mark.parametrize("kind", [5, 6, 100, 255])
def test_union_of_an_unknown_type_is_accepted_whatever_its_value_is(kind):
    """A later version of the schema may know the type: the reference asks nothing."""
    message = unions(must_type=kind)
    for offset in (0, 7, 8, 2**31, 2**32 - 1):
        assert refusal(validator_of("shapes", "Unions"), changed(message, (28, "I", offset))) is None


@pytest.mark.parametrize("kind", [2, 3, 4])
def test_union_of_a_known_type_is_looked_into(kind):
    message = unions(must_type=kind)
    assert refusal(validator_of("shapes", "Unions"), message) is None
    assert refusal(validator_of("shapes", "Unions"), changed(message, (28, "I", 2**31))) == (
        "unions.must",
        "the offset of a vtable at byte 2147483676 needs 4 bytes, but the message ends at 40",
    )


def test_vector_of_unions_is_looked_into_element_by_element():
    validator = TypedValidator.for_type(schema_of("unions"), "unions.Root")
    # A string (5), a struct Point (2) of 8 bytes, and an unknown type.
    values = struct.pack("<I3I", 3, 12, 16, 0)
    message, place = union_vector(bytes([5, 2, 77]), values, struct.pack("<I4s", 2, b"ok") + bytes(8))
    assert refusal(validator, message) is None
    assert refusal(validator, changed(message, (place + 20, "B", 0xFF))) == (
        "root.things[0]",
        f"the string at byte {place + 16} is not UTF-8: see its byte 0",
    )
    assert refusal(validator, message[:-1]) == (
        "root.things[1]",
        f"a struct at byte {place + 24} needs 8 bytes, but the message ends at {len(message) - 1}",
    )
    assert refusal(validator, changed(message, (place, "I", 2))) == (
        "root.things",
        "a vector of unions in the table at byte 16 and the vector of its types differ in length",
    )
    # One of two.
    # The types without the values, and the values without the types.
    for entry in (12, 14):
        expected = ("root.things", INCONSISTENT.replace("20", "16"))
        assert refusal(validator, changed(message, (entry, "H", 0))) == expected


# UTF-8


@functools.cache
def string_type() -> Types:
    """One table with one string, without the detour over a schema."""
    return Types([("text", False, 0, [("text", 4, BaseType.STRING, 0, -1, 0, False, False)])], [])


def expect_utf8_as_python(length: int, sequences: Iterator[tuple[int, ...]]) -> int:
    """Verifies strings of `length` bytes, one after another in the same memory, and compares with Python's decoder."""
    message, place = one_field(0, 4, struct.pack("<I", length) + bytes(length + 1))
    memory = bytearray(message)
    start = place + 8
    verify = string_type().verify
    tried = 0
    for sequence in sequences:
        text = bytes(sequence)
        memory[start : start + length] = text
        try:
            text.decode()
            expected = None
        except UnicodeDecodeError as error:
            expected = ("text.text", f"the string at byte {place + 4} is not UTF-8: see its byte {error.start}")
        assert verify(0, memory) == expected, text
        tried += 1
    return tried


def test_one_and_two_bytes_are_utf8_exactly_if_python_says_so():
    assert expect_utf8_as_python(1, ((a,) for a in range(256))) == 256
    assert expect_utf8_as_python(2, ((a, b) for a in range(256) for b in range(256))) == 65_536


# Around every border that RFC 3629 draws, and some in between.
LEADS = sorted({0x00, 0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xC3, 0xDE, *range(0xDF, 0x100)})
TRAILS = (0x00, 0x7F, 0x80, 0xA0, 0xBF, 0xC0, 0xFF)


def test_three_bytes_are_utf8_exactly_if_python_says_so():
    sequences = ((a, b, c) for a in LEADS for b in range(256) for c in TRAILS)
    assert expect_utf8_as_python(3, sequences) == len(LEADS) * 256 * 7


def test_four_bytes_are_utf8_exactly_if_python_says_so():
    leads = (0x41, 0xC3, 0xE0, 0xE1, 0xED, 0xEF, *range(0xF0, 0xF9), 0xFF)
    trails = (0x7F, 0x80, 0xBF, 0xC0)
    sequences = ((a, b, c, d) for a in leads for b in range(256) for c in trails for d in trails)
    assert expect_utf8_as_python(4, sequences) == len(leads) * 256 * 16


@pytest.mark.long
def test_all_sequences_of_three_bytes_that_begin_no_ascii_are_utf8_exactly_if_python_says_so():
    sequences = ((a, b, c) for a in range(0x80, 256) for b in range(256) for c in range(256))
    assert expect_utf8_as_python(3, sequences) == 128 * 65_536


@in_one_test
@pytest.mark.parametrize("text", ["", "a", "é", "€", "\U00010000", "\U0010ffff", "\ud7ff\ue000", "\0", "\ufeffx"])
@pytest.mark.parametrize("repeat", [1, 2, 63, 1000])
def test_good_utf8_is_accepted_whole(text, repeat):
    encoded = (text * repeat).encode()
    message, _ = one_field(0, 4, struct.pack("<I", len(encoded)) + encoded + b"\0")
    assert string_type().verify(0, message) is None


# Depth, number of tables, apparent size


@in_one_test
@pytest.mark.parametrize("depth", [1, 2, 63, 64])
def test_message_as_deep_as_the_limit_is_accepted(depth):
    assert refusal(validator_of("shapes", "Tree"), chain(depth)) is None
    exact = TypedValidator.for_type(schema_of("shapes"), "shapes.Tree", max_depth=depth)
    assert refusal(exact, chain(depth)) is None


@in_one_test
@pytest.mark.parametrize("limit", [0, 1, 2, 64, 1000])
@pytest.mark.parametrize("more", [1, 2, 500])
def test_message_deeper_than_the_limit_is_refused(limit, more):
    validator = TypedValidator.for_type(schema_of("shapes"), "shapes.Tree", max_depth=limit)
    assert refusal(validator, chain(limit + more)) == (
        "tree" + ".left" * limit,
        f"tables are nested deeper than the limit of {limit}",
    )


def test_message_of_a_thousand_levels_is_accepted_where_that_is_the_limit():
    validator = TypedValidator.for_type(schema_of("shapes"), "shapes.Tree", max_depth=1000)
    assert refusal(validator, chain(1000)) is None


def test_message_as_deep_as_any_limit_allows_is_verified_on_a_small_stack():
    """Half a mebibyte is what some systems give a thread; each level is a call inside another."""
    code = f"""
import threading
schema = Schema.from_file({str(SCHEMAS / "shapes.bfbs")!r})
validator = TypedValidator.for_type(schema, "shapes.Tree", max_depth=1000)
def work():
    attempt(validator.validate, bytes.fromhex({chain(1000).hex()!r}))
    attempt(validator.validate, bytes.fromhex({chain(1001).hex()!r}))
threading.stack_size({512 << (13 if SANITIZED else 10)})
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    first, second = survives(code)
    assert first == "no error NoneType"
    assert second.endswith(": tables are nested deeper than the limit of 1000")


def test_offset_that_leads_to_itself_is_an_empty_table_and_no_cycle():
    """Offsets only lead onward: with 0, `left` of the table at 16 is the table at 20, which is its own vtable."""
    message = changed(chain(1) + bytes(4), (16, "i", 12), (20, "I", 0))
    assert refusal(validator_of("shapes", "Tree"), message) is None


@in_one_test
@pytest.mark.parametrize("levels", [1, 2, 5, 10])
def test_number_of_tables_counts_each_as_often_as_it_is_reached(levels):
    message = doubling(levels)
    tables = 2**levels - 1
    schema = schema_of("shapes")
    for limit in (tables, tables + 1):
        assert refusal(TypedValidator.for_type(schema, "shapes.Tree", max_tables=limit), message) is None
    validator = TypedValidator.for_type(schema, "shapes.Tree", max_tables=tables - 1)
    # The last table that is reached is the one all the way to the right.
    assert refusal(validator, message) == (
        "tree" + ".right" * (levels - 1),
        f"there are more tables than the limit of {tables - 1}",
    )


def test_limit_of_tables_has_a_path_whatever_the_first_type_of_the_schema_is():
    # In a process of its own: a type without fields comes first, and to look for the name of its first field is fatal.
    code = """
import struct
from flatstream._core.flatbuf.verifier import Types
types = Types([("empty", False, 0, []), ("root", False, 0, [("f", 4, 15, 0, 0, 0, False, False)])], [])
# The table at 12 with its vtable at 4; its field leads to the table at 20, which is its own vtable.
message = struct.pack("<I4HiIi", 12, 6, 8, 4, 0, 8, 4, 0)
for limit in (2, 1, 0):
    print(types.verify(1, message, max_tables=limit))
"""
    assert survives(code) == [
        "None",
        "('root.f', 'there are more tables than the limit of 1')",
        "('root', 'there are more tables than the limit of 0')",
    ]


@pytest.mark.parametrize("levels", [20, 40, 64])
def test_message_of_exponentially_many_tables_is_refused_soon(levels):
    """A million tables are reached within a second; 2**64 never are."""
    path, reason = refusal(validator_of("shapes", "Tree"), doubling(levels)) or ("", "")
    assert reason == "there are more tables than the limit of 1000000"
    assert path.startswith(("tree.left.", "tree.right."))


# Of NAMED: the root's offset 4, the table's 4, the size of the vtable 2, the vtable 10; of each string its entry 2, its
# offset 4, its length 4 and its bytes; of `code` its entry 2 and itself 4.
NAMED_APPARENT_SIZE = 4 + 4 + 2 + 10 + (2 + 4 + 4 + 5) + (2 + 4 + 4 + 2) + (2 + 4)


@in_one_test
@pytest.mark.parametrize("limit", range(NAMED_APPARENT_SIZE + 2))
def test_apparent_size_is_what_is_looked_at_and_no_more(limit):
    validator = TypedValidator.for_type(schema_of("shapes"), "shapes.Named", max_apparent_size=limit)
    refused = refusal(validator, NAMED)
    if limit >= NAMED_APPARENT_SIZE == 53:
        assert refused is None
        return
    ends = {"named": 4 + 4 + 2 + 10, "named.name": 35, "named.note": 47, "named.code": 53}
    path = next(path for path, end in ends.items() if limit < end)
    assert refused == (
        path,
        f"the message has more than the limit of {limit} bytes if shared bytes are counted at each use",
    )


def test_apparent_size_counts_twice_what_is_used_twice():
    # Eight offsets to one string of 1,000 bytes.
    text = struct.pack("<I", 1000) + b"x" * 1000 + b"\0"
    tail = struct.pack("<I8I", 8, *(32 - 4 * i for i in range(8))) + text
    message, _ = one_field(14, 4, tail)
    schema = schema_of("shapes")
    # Root, table, vtable and its size; entry, offset and length of the vector; its offsets twice: seen, and followed.
    needed = 4 + 4 + 2 + (4 + 2 * 15) + 2 + 4 + 4 + 8 * 4 + 8 * (4 + 4 + 1000)
    # Entries before the last are read, and say nothing.
    needed += 14 * 2
    for limit, accepted in ((needed - 1, False), (needed, True)):
        validator = TypedValidator.for_type(schema, "shapes.Vectors", max_apparent_size=limit)
        assert (refusal(validator, message) is None) == accepted


LIMIT_OF_A_ROOT = pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({}, None),
        ({"max_depth": 1, "max_tables": 1}, None),
        ({"max_depth": 0}, "tables are nested deeper than the limit of 0"),
        ({"max_tables": 0}, "there are more tables than the limit of 0"),
        ({"max_depth": 1000, "max_tables": 2**62}, None),
    ],
)


@in_one_test
@LIMIT_OF_A_ROOT
@pytest.mark.parametrize("typed", [False, True])
def test_root_is_one_table_at_depth_one(typed, limits, reason):
    if typed:
        validator: Validator = TypedValidator.for_type(schema_of("shapes"), "shapes.Named", **limits)
    else:
        validator = TableRootValidator(**limits)
    refused = refusal(validator, NAMED)
    assert refused == (reason and ("named" if typed else "", reason))


MAKERS = [TableRootValidator, lambda **limits: TypedValidator.for_type(schema_of("shapes"), **limits)]


@in_one_test
@pytest.mark.parametrize("make", MAKERS, ids=["root", "typed"])
@pytest.mark.parametrize(("name", "most"), [("max_depth", 1000), ("max_tables", 2**62)])
def test_limit_that_is_none_is_refused(make, name, most):
    for value in (True, 1.0, "1", None, b"1", [1], np.float64(1)):
        with pytest.raises(TypeError, match=f"{name} must be an int, got {type(value).__name__}"):
            make(**{name: value})
    for value in (-1, most + 1, 2**64, -(2**64)):
        with pytest.raises(ValueError, match=f"{name} must be from 0 to {most}, got {value}"):
            make(**{name: value})
    make(**{name: 0})
    make(**{name: most})


def test_limit_of_the_apparent_size_that_is_none_is_refused():
    for value, error in ((-1, ValueError), (2**62 + 1, ValueError), (1.5, TypeError), (None, TypeError)):
        with pytest.raises(error, match="max_apparent_size must be"):
            TypedValidator.for_type(schema_of("shapes"), max_apparent_size=value)  # type: ignore[arg-type]
    TypedValidator.for_type(schema_of("shapes"), max_apparent_size=2**62)


# Every kind of memory


def mapped(data: bytes) -> mmap.mmap:
    mapping = mmap.mmap(-1, len(data))
    mapping[:] = data
    return mapping


@in_one_test
@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(bytearray(data)),
        lambda data: array.array("B", data),
        lambda data: np.frombuffer(data, np.uint8),
        lambda data: np.frombuffer(data, np.int32),
        lambda data: np.frombuffer(data, np.uint8).reshape(4, 13),
        mapped,
    ],
    ids=["bytes", "bytearray", "memoryview", "writable", "array", "numpy", "numpy int32", "numpy 2d", "mmap"],
)
@pytest.mark.parametrize("validator", [TableRootValidator(), validator_of("shapes", "Named")], ids=["root", "typed"])
def test_any_memory_is_verified_where_it_is(make, validator):
    assert refusal(validator, make(NAMED)) is None
    damaged = make(changed(NAMED, (4, "H", 9)))
    assert (refusal(validator, damaged) or ("", ""))[1] == "the end of a vtable at byte 13 is not aligned to 2 bytes"


@in_one_test
@pytest.mark.parametrize("value", [None, 5, "text", [1, 2], object()])
def test_what_is_no_memory_is_a_type_error(value):
    for validator in (TableRootValidator(), validator_of("shapes", "Named")):
        with pytest.raises(TypeError, match="payload"):
            validator.validate(value)


def test_memory_that_is_not_in_one_piece_is_refused():
    for validator in (TableRootValidator(), validator_of("shapes", "Named")):
        with pytest.raises((BufferError, ValueError, TypeError)):
            validator.validate(memoryview(NAMED * 2)[::2])


def test_memory_is_released_after_a_verdict():
    memory = bytearray(NAMED)
    for change in ((4, "H", 10), (4, "H", 9)):
        struct.pack_into(f"<{change[1]}", memory, change[0], change[2])
        refusal(validator_of("shapes", "Named"), memory)
        # While anybody held it, it could not grow.
        memory.append(0)


@pytest.mark.parametrize("mebibytes", [1, 48])
def test_long_string_is_verified_to_its_end(mebibytes):
    length = mebibytes << 20
    message, place = one_field(0, 4, struct.pack("<I", length))
    memory = bytearray(message) + b"x" * length + b"\0"
    verify = string_type().verify
    assert verify(0, memory) is None
    start = place + 8
    where = f"the string at byte {place + 4}"
    memory[-1] = 1
    assert verify(0, memory) == ("text.text", f"{where} has no zero byte after its {length} bytes")
    memory[-1] = 0
    memory[start + length - 1] = 0xC3
    assert verify(0, memory) == ("text.text", f"{where} is not UTF-8: see its byte {length - 1}")
    memory[start + length - 1] = ord("x")
    memory[start + length // 2] = 0xFF
    assert verify(0, memory) == ("text.text", f"{where} is not UTF-8: see its byte {length // 2}")
    del memory[-1]
    memory[start + length // 2] = ord("x")
    assert verify(0, memory) == ("text.text", f"{where} has no zero byte after its {length} bytes")


def test_vector_of_very_many_strings_is_verified_to_its_last():
    count = 1 << 20
    # All offsets lead to the one string behind them.
    offsets = (4 * (count - np.arange(count, dtype="<u4"))).astype("<u4").tobytes()
    message, place = one_field(14, 4, struct.pack("<I", count) + offsets + struct.pack("<I4s", 2, b"ok"))
    memory = bytearray(message)
    validator = validator_of("shapes", "Vectors")
    assert refusal(validator, memory) is None
    struct.pack_into("<I", memory, place + 8 + 4 * (count - 1), 9)
    end = len(message)
    assert refusal(validator, memory) == (
        f"vectors.strings[{count - 1}]",
        f"the length of a vector at byte {end - 12 + 9} is not aligned to 4 bytes",
    )

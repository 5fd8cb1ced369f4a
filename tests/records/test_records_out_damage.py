"""Records of damaged messages: no bytes do harm, and neither depth nor size does."""

from __future__ import annotations

import ctypes
import functools
import gc
import mmap
import random
import struct
from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers.table import Table as RawTable
from hypothesis import given
from hypothesis import strategies as st

from flatstream import (
    Builder,
    FlatbufferError,
    RecordView,
    ValidationFailedError,
)
from flatstream._core.records.record_view import VectorView
from flatstream.schema import Table
from support.extent import in_one_test
from support.messages import (
    FUZZED,
    NAMED,
    chain,
    changed,
    doubling,
    finished,
    messages_of,
    mutant,
    union_messages,
    written_by,
)
from support.processes import SANITIZED, survives
from support.record_views import EXTREMES, by_description, bytes_as_lists, difference, table_of
from support.schemas import SCHEMAS, generated

# Damage


def test_bad_string_is_an_error_with_its_path():
    table = table_of("shapes")
    payload = messages_of("shapes")[0]
    # The other one is the name of a level.
    place = payload.rindex(b"three\0")
    bad = changed(payload, (place + 2, "B", 0xFF))
    with pytest.raises(ValidationFailedError) as refused:
        table.view(bad)
    assert (refused.value.validator, refused.value.path) == ("shapes.Shape", "shape.vectors.strings[2]")
    assert refused.value.reason == f"the string at byte {place - 4} is not UTF-8: see its byte 2"
    record = table.view(bad, verify=False)
    reason = f"shape.vectors.strings[2]: the string at byte {place - 4} is not UTF-8: see its byte 2"
    for read in (
        lambda: record.vectors.strings[2],
        lambda: record.vectors.strings[::-2][-1] and record.vectors.strings[::-2][0],
        lambda: list(record.vectors.strings),
        lambda: record.vectors.strings.to_list(),
        record.to_dict,
        lambda: record == table.view(payload),
    ):
        with pytest.raises(FlatbufferError) as caught:
            read()
        assert caught.value.message == reason
        assert (caught.value.offset, caught.value.frame) == (None, None)
    assert list(record.vectors.strings[:2]) == ["a", ""]
    assert repr(record.vectors.strings) == "<VectorView of 3 x string: 'a', '', 'th\\\\xffee'>"


# How the reasons below go on.
END = ", and the message ends at 52"


@in_one_test
@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ((20, "I", 2**32 - 4), "name", f"the length of a vector at byte {2**32 + 16}: 4 bytes are needed{END}"),
        ((32, "I", 17), "name", f"a vector at byte 36: 17 bytes are needed{END}"),
        ((8, "H", 49), "name", f"an offset at byte 65: 4 bytes are needed{END}"),
        ((12, "H", 34), "code", f"a field at byte 50: 4 bytes are needed{END}"),
        ((49, "B", 0x28), "note", "the string at byte 44 is not UTF-8: see its byte 0"),
    ],
)  # fmt: skip
def test_damaged_field_is_an_error_when_it_is_read_and_not_before(change, field, reason):
    record = table_of("shapes", "Named").view(changed(NAMED, change), verify=False)
    for name, expected in (("name", "hello"), ("note", "é"), ("code", 7)):
        if name == field:
            with pytest.raises(FlatbufferError) as caught:
                record[name]
            assert caught.value.message == f"named.{field}: {reason}"
            with pytest.raises(FlatbufferError):
                getattr(record, name)
        else:
            assert record[name] == getattr(record, name) == expected
    assert f"{field}=" in repr(record)


@in_one_test
@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "an offset at byte 0: 4"),
        (b"\x04\0\0\0", "a table at byte 4: 4"),
        (b"\x04\0\0\0\x05\0\0\0", "a vtable before the message, of a table at byte 4: 4"),
        (b"\x04\0\0\0\xfc\xff\xff\xff", "a vtable at byte 8: 2"),
    ],
)  # fmt: skip
def test_payload_that_does_not_begin_with_a_table_is_an_error_at_once(payload, what):
    with pytest.raises(FlatbufferError) as caught:
        table_of("shapes").view(payload, verify=False)
    assert caught.value.message == f"shape: {what} bytes are needed, and the message ends at {len(payload)}"
    with pytest.raises(ValidationFailedError):
        table_of("shapes", "Named").view(payload)


def test_vtable_without_fields_is_an_empty_table():
    """As it is to the verifier, even where its size does not count itself."""
    for payload in (b"\x04\0\0\0\0\0\0\0", bytes(4)):
        for verify in (True, False):
            record = table_of("shapes").view(payload, verify=verify)
            assert record.id == 0
            assert set(record.to_dict().values()) == {None, 0}


class Edge:
    """Memory behind which nothing may be read: a byte too far ends the process."""

    def __init__(self) -> None:
        self.page = mmap.PAGESIZE
        self.memory = mmap.mmap(-1, 5 * self.page)
        self.size = 4 * self.page
        begin = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        gc.collect()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(begin + self.size), ctypes.c_size_t(self.page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, payload: bytes) -> memoryview:
        """A view of a copy that ends where the memory ends."""
        assert len(payload) <= self.size
        view = memoryview(self.memory)[self.size - len(payload) : self.size]
        view[:] = payload
        return view


@functools.cache
def edge() -> Edge:
    return Edge()


def read_somehow(table: Table, payload: bytes) -> int:
    """Reads all that can be read, without verifying; returns how many errors there were."""
    memory = edge().place(payload) if len(payload) <= edge().size else payload
    errors = 0
    try:
        record = table.view(memory, verify=False)
    except FlatbufferError:
        return 1
    left: list[Any] = [record]
    visits = 0
    while left:
        value = left.pop()
        repr(value)
        visits += 1
        if visits > 200:
            break
        names: Any = value.__fields__ if isinstance(value, RecordView) else range(min(len(value), 8))
        for name in names:
            try:
                part = getattr(value, name) if isinstance(value, RecordView) else value[name]
            except FlatbufferError as error:
                errors += error.message.startswith(table.name.rpartition(".")[2].lower())
                continue
            if isinstance(part, (RecordView, VectorView)):
                left.append(part)
            elif isinstance(part, np.ndarray):
                part.tobytes()
    for read in (record.to_dict, lambda: record == record):
        try:
            read()
        except FlatbufferError:
            errors += 1
    return errors


@in_one_test
@pytest.mark.parametrize("name", FUZZED)
def test_message_cut_anywhere_is_read_or_refused(name):
    payload = messages_of(name)[0]
    assert read_somehow(table_of(name), payload) == 0
    errors = [read_somehow(table_of(name), payload[:length]) for length in range(len(payload))]
    assert sum(1 for count in errors if count) > len(payload) // 2


def test_extremes_cut_anywhere_are_read_or_refused():
    table = table_of("shapes", "Vectors")
    assert read_somehow(table, EXTREMES) == 0
    assert all(read_somehow(table, EXTREMES[:length]) for length in range(0, len(EXTREMES) - 8, 3))


@in_one_test
@pytest.mark.parametrize("name", FUZZED)
def test_message_with_any_byte_changed_is_read_or_refused(name):
    payload = messages_of(name)[-1 if name == "monster_test" else 0]
    refused = 0
    for place in range(len(payload)):
        for value in (payload[place] ^ 1, payload[place] ^ 0x80, 0xFF):
            refused += bool(read_somehow(table_of(name), changed(payload, (place, "B", value))))
    assert refused > 20


@in_one_test
@pytest.mark.parametrize("name", FUZZED)
def test_mutant_is_read_or_refused_and_what_the_verifier_accepts_is_read(name):
    rng = random.Random(5)
    table, messages = table_of(name), messages_of(name)
    accepted = 0
    for _ in range(600):
        payload = mutant(rng, messages)
        errors = read_somehow(table, payload)
        try:
            record = table.view(payload)
        except ValidationFailedError:
            continue
        except FlatbufferError as error:
            # The verifier does not look at the file identifier.
            if "has the file identifier" not in str(error):
                raise
            continue
        accepted += 1
        assert not errors
        root = RawTable(payload, struct.unpack_from("<I", payload)[0])
        assert difference(bytes_as_lists(record.to_dict()), by_description(table.schema, table.number, root)) == ""
    assert 30 < accepted < 570


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(payload):
    for name in FUZZED:
        read_somehow(table_of(name), payload)


def test_vector_of_unions_with_another_number_of_types_is_an_error():
    payload = union_messages()[0]
    place = payload.index(struct.pack("<I4B", 4, 5, 2, 77, 2))
    record = table_of("unions").view(changed(payload, (place, "I", 3)), verify=False)
    text = r"the vector of unions has 4 elements, and the vector of their types has 3, in the table at byte \d+"
    with pytest.raises(FlatbufferError, match=rf"^root\.things: {text}"):
        _ = record.things
    assert record.things_type.tolist() == [5, 2, 77]


def test_union_with_a_type_and_no_value_or_a_value_and_no_type_is_none():
    table = table_of("shapes", "Unions")
    payload = written_by(Builder, finished(generated("Unions").UnionsT()), 64)
    record = table.view(payload, verify=False)
    assert (record.must, record.must_type) == (None, 0)
    made = generated("Unions").UnionsT()
    made.mustType, made.must = 3, generated("Empty").EmptyT()
    payload = written_by(Builder, finished(made))
    vtable = (
        struct.unpack_from("<I", payload)[0]
        - struct.unpack_from("<i", payload, struct.unpack_from("<I", payload)[0])[0]
    )
    for field, expected in ((4, (0, None)), (5, (3, None))):
        record = table.view(changed(payload, (vtable + 4 + 2 * field, "H", 0)), verify=False)
        assert (record.must_type, record.must) == expected
        assert record.to_dict()["must"] is None


# Depth and size


def deep(depth: int) -> bytes:
    """Trees in vectors of one tree."""
    builder = flatbuffers.Builder(0)
    node = None
    for _ in range(depth):
        children = None
        if node is not None:
            builder.StartVector(4, 1, 4)
            builder.PrependUOffsetTRelative(node)
            children = builder.EndVector()
        builder.StartObject(5)
        if children is not None:
            builder.PrependUOffsetTRelativeSlot(3, children, 0)
        node = builder.EndObject()
    builder.Finish(node)
    return bytes(builder.Output())


@pytest.mark.parametrize("make", [chain, deep])
def test_message_as_deep_as_any_verifier_allows_is_read_and_no_deeper(make):
    table = table_of("shapes", "Tree")
    record = table.view(make(1000), verify=False)
    assert record == table.view(make(1000), verify=False)
    assert record.to_dict()
    record = table.view(make(1001), verify=False)
    for read in (record.to_dict, lambda: record == record):
        with pytest.raises(FlatbufferError, match="tables are nested deeper than the limit of 1000"):
            read()
    for _ in range(999):
        record = record.left or record.children[0]
    with pytest.raises(FlatbufferError, match="deeper"):
        _ = record.left or record.children[0]
    with pytest.raises(ValidationFailedError, match="tables are nested deeper than the limit of 64"):
        table.view(make(65))
    assert table.view(make(64)).to_dict()


def test_message_as_deep_as_any_verifier_allows_is_read_on_a_small_stack():
    """Half a mebibyte is what some systems give a thread."""
    code = f"""
import threading
table = Schema.from_file({str(SCHEMAS / "shapes.bfbs")!r}).table("shapes.Tree")
def work():
    for good, bad in MESSAGES:
        record = table.view(bytes.fromhex(good), verify=False)
        attempt(record.to_dict)
        attempt(lambda: record == record)
        attempt(repr, record)
        attempt(record.to_json)
        node = record
        while node.left is not None or node.children:
            node = node.left or node.children[0]
        del record
        del node
        record = table.view(bytes.fromhex(bad), verify=False)
        attempt(record.to_dict)
        attempt(lambda: record == record)
        attempt(record.to_json)
MESSAGES = {[(make(1000).hex(), make(1001).hex()) for make in (chain, deep)]!r}
threading.stack_size({512 << (13 if SANITIZED else 10)})
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    lines = survives(code)
    assert lines[:4] == lines[7:11] == ["no error dict", "no error bool", "no error str", "no error str"]
    assert all(line.endswith(": tables are nested deeper than the limit of 1000") for line in lines[4:7] + lines[11:])
    assert len(lines) == 14


@pytest.mark.parametrize(
    "read",
    [pytest.param(lambda record: record.to_dict(), marks=pytest.mark.long), lambda record: record == record],
    ids=["to_dict", "equality"],
)
def test_few_bytes_that_stand_for_very_many_tables_are_an_error(read):
    record = table_of("shapes", "Tree").view(doubling(60), verify=False)
    with pytest.raises(FlatbufferError, match="there are more tables than the limit of 1000000"):
        read(record)
    assert len(repr(record)) < 100


def test_few_bytes_that_stand_for_very_many_bytes_are_an_error():
    text, count = b"x" * (1 << 20), 3000
    offsets = struct.pack(f"<{count}I", *(4 * (count - i) for i in range(count)))
    payload = struct.pack("<I4H", 12, 6, 8, 0, 0)
    # A shapes.Vectors with the field `strings`, number 14.
    vtable = struct.pack("<2H15H", 34, 8, *[0] * 14, 4).ljust(36, b"\0")
    payload = struct.pack("<I", 40) + vtable + struct.pack("<iII", 36, 4, count) + offsets
    payload += struct.pack("<I", len(text)) + text + b"\0"
    record = table_of("shapes", "Vectors").view(payload, verify=False)
    assert record.strings[count - 1] == text.decode()
    with pytest.raises(FlatbufferError, match="more than the limit of 2147483648 bytes"):
        assert record == record
    with pytest.raises(ValidationFailedError, match="more than the limit of 2147483648 bytes"):
        table_of("shapes", "Vectors").view(payload)


@pytest.mark.long
def test_few_bytes_that_stand_for_very_many_elements_are_an_error():
    """Thousands of tables with the same vector of empty strings, which are all the same string."""
    tables, strings = 3000, 200_000
    # A Level4 at 16, its vector `added` at 24; the vtable of an Added; so many of these, and their vector `words`.
    vtable = 28 + 4 * tables
    first = vtable + 8
    words = first + 8 * tables
    payload = struct.pack("<I5H2xiII", 16, 10, 8, 0, 0, 4, 12, 4, tables)
    payload += b"".join(struct.pack("<I", first + 8 * i - (28 + 4 * i)) for i in range(tables))
    payload += struct.pack("<4H", 8, 8, 0, 4)
    payload += b"".join(struct.pack("<iI", first + 8 * i - vtable, words - (first + 8 * i + 4)) for i in range(tables))
    payload += struct.pack("<I", strings) + (4 * (strings - np.arange(strings))).astype("<u4").tobytes() + bytes(8)
    table = table_of("shapes_v2", "Level4")
    record = table.view(payload, verify=False)
    assert len(record.added) == tables
    assert record.added[tables - 1].words[strings - 1] == ""
    assert len(record.added[0].to_dict()["words"]) == strings
    with pytest.raises(FlatbufferError, match=r"^level4\.added\[\d+\]\.words: .* 2147483648 bytes"):
        assert record == record
    with pytest.raises(ValidationFailedError, match="2147483648 bytes"):
        table.view(payload)


def test_more_structs_than_there_may_be_tables_are_no_error():
    builder = Builder(1 << 21)
    pixels = builder.CreateByteVector(bytes(1_000_001))
    builder.StartObject(24)
    # A shapes.Pixel is one byte.
    builder.PrependUOffsetTRelativeSlot(15, pixels, 0)
    builder.Finish(builder.EndObject())
    record = table_of("shapes", "Vectors").view(builder)
    assert len(record.pixels) == 1_000_001
    assert record == table_of("shapes", "Vectors").view(bytes(builder.Output()))


def test_slice_that_answers_differently_each_time_stays_inside_of_its_vector():
    class Fickle:
        def __init__(self, *answers: int) -> None:
            self.answers = list(answers)

        def __index__(self) -> int:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    table = table_of("shapes", "Vectors")
    builder = Builder(64)
    table.encode(builder, points=[(1, 2), (3, 4), (5, 6)])
    points = table.view(builder).points
    for answers in ((10**7, 1), (1, 10**7), (2, 0), (0, 2)):
        for index in (slice(None, None, Fickle(*(answer or 1 for answer in answers))), slice(Fickle(*answers), None)):
            part = points[index]
            rows = part.to_numpy().tolist()
            assert set(rows) <= {(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)}
            assert [(point.x, point.y) for point in part] == rows

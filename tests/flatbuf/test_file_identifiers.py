"""Messages that carry a file identifier other than the schema's: refused or left out by every way of reading."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import flatbuffers
import pytest

from flatstream import (
    DefaultDeframer,
    FlatbufferError,
    FlatStreamError,
    RecordWriter,
    Schema,
    StreamReader,
    StreamWriter,
    TypedValidator,
    ValidationFailedError,
)
from support.extent import in_one_test
from support.messages import refusal
from support.schemas import SCHEMAS, SHAPES, generated, schema_of

ROOT: Any = SHAPES.root
WRONG = "the message has the file identifier 'UNIO', but that of shapes.Shape is 'SHAP'"


def message(identifier: bytes | None = None) -> bytes:
    """A message of any table without required fields, with this identifier."""
    builder = flatbuffers.Builder(64)
    builder.StartObject(0)
    builder.Finish(builder.EndObject(), identifier)
    return bytes(builder.Output())


OWN, OTHER, NONE = message(b"SHAP"), message(b"UNIO"), message()


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in messages)


def typed(cls: Any) -> Callable[..., Any]:
    return lambda messages, **options: list(StreamReader(framed(*messages)).typed_messages(cls, **options))


# Each reads messages one after the other; the result has an element or a row for each.
WAYS: dict[str, Callable[..., Any]] = {
    "records": lambda messages, **options: list(StreamReader(framed(*messages)).records(ROOT, **options)),
    "records unverified": lambda messages, **options: list(
        StreamReader(framed(*messages)).records(ROOT, verify=False, **options)
    ),
    "columns": lambda messages, **options: StreamReader(framed(*messages)).columns(ROOT, **options).to_pylist(),
    "columns verified": lambda messages, **options: (
        StreamReader(framed(*messages)).columns(ROOT, verify=True, **options).to_pylist()
    ),
    "column_batches": lambda messages, **options: [
        row
        for batch in StreamReader(framed(*messages)).column_batches(ROOT, batch_rows=2, **options)
        for row in batch.to_pylist()
    ],
    "generated code": typed(generated("Shape").Shape),
    "object API": typed(generated("Shape").ShapeT),
}
every_way = pytest.mark.parametrize("read", WAYS.values(), ids=WAYS)


@in_one_test
@every_way
def test_message_with_the_identifier_of_the_schema_or_with_none_is_read(read):
    assert len(read([OWN, NONE, OWN])) == 3


@in_one_test
@every_way
@pytest.mark.parametrize("before", [0, 1, 3])
def test_message_with_another_identifier_is_refused_with_both(read, before):
    with pytest.raises(FlatbufferError, match=r"'UNIO', but that of .*Shape.* is 'SHAP'") as caught:
        read([OWN] * before + [OTHER, OWN])
    assert (caught.value.frame, caught.value.offset) == (before, before * len(framed(OWN)))


@pytest.mark.parametrize("verify", [True, False])
def test_view_refuses_another_identifier(verify):
    assert ROOT.view(OWN, verify=verify) == ROOT.view(NONE, verify=verify)
    with pytest.raises(FlatbufferError) as caught:
        ROOT.view(OTHER, verify=verify)
    assert str(caught.value) == WRONG
    # Before anything else is found out about the message.
    with pytest.raises(FlatbufferError, match="file identifier 'UNIO'"):
        ROOT.view(OTHER[:8], verify=verify)


@in_one_test
@every_way
def test_reading_goes_on_behind_a_message_with_another_identifier(read):
    rows = 0
    records = StreamReader(framed(OWN, OTHER, NONE)).records(ROOT)
    while True:
        try:
            if next(records, None) is None:
                break
        except FlatbufferError:
            rows += 100
        rows += 1
    assert rows == 103
    batches = StreamReader(framed(OWN, OTHER, NONE)).column_batches(ROOT)
    assert next(batches).num_rows == 1
    with pytest.raises(FlatbufferError, match="file identifier"):
        next(batches)
    assert [batch.num_rows for batch in batches] == [1]


# What is an identifier


@in_one_test
@every_way
@pytest.mark.parametrize("four", [b"\0\0\0\0", b"UNI\0", b"\x1fNIO", b"UNI\x7f", b"\xff\xff\xff\xff", b"\x80NIO"])
def test_bytes_that_are_not_printable_are_no_identifier(read, four):
    assert len(read([message(four)])) == 1


@in_one_test
@every_way
@pytest.mark.parametrize("four", [b"    ", b"~~~~", b"SHAq", b"sHAP", b"0000"])
def test_any_four_printable_bytes_are_an_identifier(read, four):
    with pytest.raises(FlatbufferError, match="has the file identifier"):
        read([message(four)])


def test_printable_bytes_of_a_root_before_byte_8_are_no_identifier():
    # The root is at 4: the bytes there are the distance to its vtable, which lies far outside.
    for root in (4, 5, 6, 7):
        bad = struct.pack("<I", root) + b"UNIOUNIO"
        for read in (lambda bad=bad: ROOT.view(bad), lambda bad=bad: ROOT.view(bad, verify=False)):
            with pytest.raises(FlatStreamError) as caught:
                read()
            assert "identifier" not in str(caught.value)
        assert "identifier" not in str(refusal(TypedValidator.for_type(SHAPES, identifier=True), bad))


@in_one_test
@pytest.mark.parametrize("length", range(8))
def test_message_too_short_for_an_identifier_is_refused_for_that(length):
    with pytest.raises(FlatStreamError) as caught:
        ROOT.view(OTHER[:length])
    assert "identifier" not in str(caught.value)


# Whose the identifier is


def test_identifier_belongs_to_the_root_table_only():
    empty = SHAPES.table("shapes.Empty")
    assert empty.view(OTHER).to_dict() == empty.view(NONE).to_dict()
    stream = framed(OTHER, NONE)
    assert len(list(StreamReader(stream).records(empty))) == 2
    assert StreamReader(stream).columns(SHAPES.table("shapes.Scalars"), ["i8"])["i8"].to_pylist() == [0, 0]


def test_schema_without_an_identifier_takes_every_message():
    table: Any = schema_of("wide_unions").root
    assert [record.rest for record in StreamReader(framed(OWN, OTHER, NONE)).records(table)] == [0, 0, 0]
    assert StreamReader(framed(OWN, OTHER, NONE)).columns(table, ["rest"]).num_rows == 3


def test_class_of_the_user_decides_by_itself():
    class Anything:
        @classmethod
        def from_payload(cls, payload: memoryview) -> bytes:
            return bytes(payload)

    assert typed(Anything)([OWN, OTHER]) == [OWN, OTHER]


def test_validator_compares_identifiers_only_if_asked():
    assert refusal(TypedValidator.for_type(SHAPES), OTHER) is None
    strict = TypedValidator.for_type(SHAPES, identifier=True)
    assert [refusal(strict, each) for each in (OWN, NONE)] == [None, None]
    assert refusal(strict, OTHER) == ("", WRONG)
    reader = StreamReader(framed(OWN, OTHER, NONE), DefaultDeframer().with_validator(strict))
    assert bytes(reader.read_message() or b"") == OWN
    with pytest.raises(ValidationFailedError, match="file identifier 'UNIO'"):
        reader.read_message()
    assert bytes(reader.read_message() or b"") == NONE
    # The rest of the checks is made as ever.
    assert refusal(strict, OWN[:-1]) is not None


@pytest.mark.parametrize(
    ("schema", "name"), [(SHAPES, "shapes.Empty"), (schema_of("wide_unions"), None)], ids=["no root", "no identifier"]
)
def test_validator_that_has_no_identifier_to_compare_with_is_an_error(schema, name):
    with pytest.raises(ValueError, match="has no file identifier: it is that of a schema's root table"):
        TypedValidator.for_type(schema, name, identifier=True)


def test_stream_of_two_types_is_read_by_each_schema():
    """What the writer writes with `file_identifier=True`, the reader of the same schema takes and no other does."""
    unions = schema_of("unions").root
    assert unions is not None
    sink = io.BytesIO()
    with StreamWriter(sink, "crc32") as writer:
        shape = RecordWriter(writer, ROOT, file_identifier=True)
        union = RecordWriter(writer, unions, file_identifier=True)
        for number in range(10):
            shape.write()
            union.write(title=str(number))
    assert StreamReader(sink.getvalue(), "crc32").columns(ROOT, on_other="skip").num_rows == 10
    found = StreamReader(sink.getvalue(), "crc32").columns(unions, ["title"], on_other="skip")
    assert (found["title"].to_pylist(), found.others) == ([str(number) for number in range(10)], 10)
    with pytest.raises(FlatbufferError, match=r"'SHAP', but that of unions\.Root is 'UNIO'"):
        StreamReader(sink.getvalue(), "crc32").columns(unions, ["title"])


# Leaving them out


@in_one_test
@every_way
def test_messages_with_another_identifier_are_left_out(read):
    assert len(read([OWN, OTHER, NONE, OTHER, OTHER, OWN], on_other="skip")) == 3
    assert len(read([OTHER] * 5, on_other="skip")) == 0
    assert len(read([], on_other="skip")) == 0


def test_messages_that_are_left_out_are_counted_apart_from_damaged_ones():
    damaged = OWN[:-2]
    messages = [OWN, OTHER, damaged, NONE, OTHER]
    batch = StreamReader(framed(*messages)).columns(ROOT, on_other="skip", on_error="skip")
    assert (batch.num_rows, batch.others, batch.skipped) == (2, 2, 1)
    assert "1 skipped, 2 others" in repr(batch)
    batches = StreamReader(framed(*messages)).column_batches(ROOT, batch_rows=1, on_other="skip", on_error="skip")
    counts = [(batch.num_rows, batch.others, batch.skipped) for batch in batches]
    assert [sum(count) for count in zip(*counts, strict=True)] == [2, 2, 1]
    assert (batches.others, batches.skipped) == (2, 1)
    # One of the two alone: another identifier is an error like any other.
    batch = StreamReader(framed(*messages)).columns(ROOT, on_error="skip")
    assert (batch.num_rows, batch.others, batch.skipped) == (2, 0, 3)
    with pytest.raises(FlatbufferError, match="a message cannot be read") as caught:
        StreamReader(framed(*messages)).columns(ROOT, on_other="skip")
    assert caught.value.frame == 2
    records = StreamReader(framed(*messages)).records(ROOT, on_other="skip")
    assert (next(records) == ROOT.view(OWN), records.others) == (True, 0)
    with pytest.raises(ValidationFailedError) as refused:
        next(records)
    assert (refused.value.frame, records.others) == (2, 1)
    assert (len(list(records)), records.others) == (1, 2)


@pytest.mark.parametrize("cls", [generated("Shape").Shape, generated("Shape").ShapeT])
def test_typed_messages_that_are_left_out_are_counted(cls):
    messages: Any = StreamReader(framed(OTHER, OWN, NONE, OTHER, OTHER)).typed_messages(cls, on_other="skip")
    assert messages.others == 0
    assert isinstance(next(messages), cls)
    assert messages.others == 1
    assert len(list(messages)) == 1
    assert messages.others == 3


class OwnShape(generated("Shape").Shape):  # type: ignore[misc]
    @classmethod
    def GetRootAs(cls, buf: Any, offset: int = 0) -> OwnShape:  # noqa: N802 - the name is flatc's
        made = cls()
        made.Init(buf, flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset) + offset)
        return made


class OwnShapeT(generated("Shape").ShapeT):  # type: ignore[misc]
    pass


@pytest.mark.parametrize("cls", [OwnShape, OwnShapeT])
def test_class_that_inherits_from_a_generated_one_has_its_identifier(cls):
    with pytest.raises(FlatbufferError, match=f"'UNIO', but that of {cls.__name__} is 'SHAP'"):
        list(StreamReader(framed(OTHER)).typed_messages(cls))
    messages: Any = StreamReader(framed(OTHER, OWN, NONE)).typed_messages(cls, on_other="skip")
    assert (len(list(messages)), messages.others) == (2, 1)


@pytest.mark.parametrize("cls", [generated("Shape").Shape, generated("Shape").ShapeT])
def test_functions_are_called_with_messages_of_the_identifier_only(cls):
    data = framed(OTHER, OWN, NONE, OTHER)
    seen: list[Any] = []
    assert StreamReader(data).process_typed(cls, seen.append, on_other="skip") == 2
    assert [type(each) for each in seen] == [cls, cls]
    payloads: list[bytes] = []
    count = StreamReader(data).process_typed_with_payload(
        cls, lambda message, payload: payloads.append(bytes(payload)), on_other="skip"
    )
    assert (count, payloads) == (2, [OWN, NONE])
    processes: list[Any] = [StreamReader(data).process_typed, StreamReader(data).process_typed_with_payload]
    for process in processes:
        with pytest.raises(FlatbufferError, match="the file identifier 'UNIO'"):
            process(cls, lambda *arguments: None)
        with pytest.raises(ValueError, match="on_other must be 'raise' or 'skip', got 'all'"):
            process(cls, lambda *arguments: None, on_other="all")


@pytest.mark.parametrize("verify", [True, False])
def test_rows_of_a_long_mixed_stream_are_those_with_the_identifier(verify):
    builder = flatbuffers.Builder(64)
    own = []
    for number in range(3):
        builder.Clear()
        builder.StartObject(len(ROOT.field_names))
        builder.Finish(builder.EndObject(), b"SHAP" if number else None)
        own.append(bytes(builder.Output()))
    messages = [own[number % 3] if number % 7 in (0, 1, 4) else OTHER for number in range(20_000)]
    expected = sum(each is not OTHER for each in messages)
    batch = StreamReader(framed(*messages)).columns(ROOT, verify=verify, on_other="skip")
    assert (batch.num_rows, batch.others) == (expected, 20_000 - expected)
    stream = StreamReader(framed(*messages)).column_batches(ROOT, batch_rows=999, verify=verify, on_other="skip")
    assert sum(batch.num_rows for batch in stream) == expected
    assert stream.others == 20_000 - expected


# Wrong arguments


@in_one_test
@every_way
def test_on_other_is_raise_or_skip(read):
    for wrong in ("ignore", "", "SKIP"):
        with pytest.raises(ValueError, match="on_other must be 'raise' or 'skip', got"):
            read([OWN], on_other=wrong)


def test_leaving_out_needs_an_identifier():
    reader = StreamReader(framed(OWN))
    empty = SHAPES.table("shapes.Empty")
    for read in (
        lambda: reader.records(empty, on_other="skip"),
        lambda: reader.columns(empty, on_other="skip"),
        lambda: reader.column_batches(empty, on_other="skip"),
        lambda: reader.typed_messages(dict, on_other="skip"),
        lambda: reader.process_typed(dict, len, on_other="skip"),
    ):
        with pytest.raises((ValueError, TypeError), match=r"on_other='skip' needs a file identifier|expected a class"):
            read()

    class Anything:
        @classmethod
        def from_payload(cls, payload: memoryview) -> bytes:
            return bytes(payload)

    with pytest.raises(ValueError, match="on_other='skip' needs a file identifier, and Anything knows none"):
        reader.typed_messages(Anything, on_other="skip")
    # Nothing was taken from the stream.
    assert bytes(reader.read_message() or b"") == OWN


def test_identifier_of_the_layout_is_that_of_the_root():
    assert (SHAPES.file_identifier, schema_of("tiny").file_identifier) == ("SHAP", "TINY")
    assert Schema.from_file(SCHEMAS / "shapes.bfbs")._layout.root == ROOT.number
    assert schema_of("wide_unions")._layout.file_identifier == b""


# Together with the options for damage and for selecting

DAMAGED = b"\xff" * 20


@in_one_test
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("others", [1, 3])
def test_messages_left_out_are_counted_once_though_damage_makes_readers_read_them_again(verify, others):
    messages = ([OWN] * 2 + [OTHER] * others + [DAMAGED] + [OTHER] * 2) * 5 + [OWN]
    batches = StreamReader(framed(*messages)).column_batches(ROOT, verify=verify, on_other="skip")
    rows = errors = counted = 0
    while True:
        try:
            batch = next(batches, None)
        except FlatbufferError:
            errors += 1
            continue
        if batch is None:
            break
        rows, counted = rows + batch.num_rows, counted + batch.others
    assert (rows, errors, counted, batches.others) == (11, 5, 5 * (others + 2), 5 * (others + 2))


@pytest.mark.parametrize("mode", ["skip", "resync"])
def test_message_with_another_identifier_is_lost_like_a_damaged_one(mode):
    stream = framed(OWN, OTHER, OWN)
    lost = [(len(framed(OWN)), len(framed(OWN, OTHER)))]
    for verify in (True, False):
        reader = StreamReader(stream)
        assert len(list(reader.records(ROOT, verify=verify, on_error=mode))) == 2
        assert (reader.skipped, reader.lost_ranges) == (1, lost)
        batch = StreamReader(stream).columns(ROOT, verify=verify, on_error=mode)
        assert (batch.num_rows, batch.skipped, batch.lost_ranges, batch.others) == (2, 1, lost, 0)


def test_reading_stops_before_a_message_with_another_identifier():
    reader = StreamReader(framed(OWN, OTHER, OWN))
    assert len(list(reader.records(ROOT, on_error="stop"))) == 1
    assert "'UNIO'" in str(reader.stop_error)
    batch = StreamReader(framed(OWN, OTHER, OWN)).columns(ROOT, on_error="stop")
    assert batch.num_rows == 1
    assert "'UNIO'" in str(batch.stop_error)


@pytest.mark.parametrize("mode", ["skip", "resync"])
def test_damage_and_other_identifiers_are_left_out_apart(mode):
    stream = framed(OWN, OTHER, DAMAGED, OTHER, OWN)
    reader = StreamReader(stream)
    records = reader.records(ROOT, on_error=mode, on_other="skip")
    assert (len(list(records)), records.others, reader.skipped, reader.lost_bytes) == (2, 2, 1, len(framed(DAMAGED)))
    batch = StreamReader(stream).columns(ROOT, on_error=mode, on_other="skip")
    assert (batch.num_rows, batch.others, batch.skipped, batch.lost_bytes) == (2, 2, 1, len(framed(DAMAGED)))


def test_records_are_selected_among_those_with_the_identifier():
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        own = RecordWriter(writer, ROOT, file_identifier=True)
        for title in ["a", "b", "c", "b", "b"]:
            own.write(title=title)
            writer.write_payloads([OTHER, DAMAGED])
    options: dict[str, Any] = {"on_error": "skip", "on_other": "skip", "where": ("title", "==", "b")}
    reader = StreamReader(sink.getvalue())
    told: list[int] = []
    records = reader.records(ROOT, limit=2, progress=lambda count, offset: told.append(count), **options)
    assert [record.title for record in records] == ["b", "b"]
    assert (records.others, reader.skipped, told) == (3, 3, [2])
    batch = StreamReader(sink.getvalue()).columns(ROOT, ["title"], **options)
    assert (batch["title"].to_pylist(), batch.others, batch.skipped) == (["b", "b", "b"], 5, 5)


def test_typed_messages_leave_out_what_their_checksum_refuses_and_other_identifiers():
    sink = io.BytesIO()
    with StreamWriter(sink, "crc32") as writer:
        writer.write_payloads([OWN, OTHER, OWN, OWN])
    stream = bytearray(sink.getvalue())
    stream[-1] ^= 1
    messages = StreamReader(stream, "crc32").typed_messages(generated("Shape").Shape, on_error="skip", on_other="skip")
    assert (len(list(messages)), messages.others) == (2, 1)  # type: ignore[attr-defined]

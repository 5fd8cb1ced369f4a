"""Size-prefixed messages: no writer takes them, and a schema that is told reads them."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from typing import Any

import flatbuffers
import pytest
from hypothesis import given

from flatstream import (
    Builder,
    ChecksumFramer,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    FlatbufferError,
    RecordWriter,
    Schema,
    StreamReader,
    StreamWriter,
    TableRootValidator,
    TypedValidator,
    ValidationFailedError,
)
from support import strategies
from support.arrow_types import Making, Mapping
from support.columns import messages_of
from support.extent import in_one_test
from support.schemas import SCHEMAS, SHAPES, TINY, UNIONS, generated

PREFIXED = Schema.from_file(SCHEMAS / "shapes.bfbs", size_prefixed=True)
SHAPE: Any = SHAPES.root
PREFIXED_SHAPE: Any = PREFIXED.root
SCALARS = SHAPES.table("shapes.Scalars")

REASON = "finished with FinishSizePrefixed.*call Finish"


class OwnBuilder(Builder):
    pass


BUILDERS = [Builder, OwnBuilder, flatbuffers.Builder]


class Finished:
    """A builder of another kind, that has these bytes."""

    finished = True

    def __init__(self, message: bytes) -> None:
        self.Bytes = message

    def Head(self) -> int:  # noqa: N802 - the name is that of flatbuffers
        return 0

    def Clear(self) -> None:  # noqa: N802
        pass


class Item:
    def __init__(self, build: Callable[[Any], object]) -> None:
        self.serialize: Any = build


def scalar(builder: Any) -> int:
    builder.StartObject(8)
    builder.PrependInt64Slot(7, 5, 0)
    return builder.EndObject()  # type: ignore[no-any-return]


def empty(builder: Any) -> int:
    builder.StartObject(3)
    return builder.EndObject()  # type: ignore[no-any-return]


def text(builder: Any) -> int:
    return builder.CreateString("abc")  # type: ignore[no-any-return]


def parent_of_an_empty_table(builder: Any) -> int:
    # The child is written first, so that it is at the end: there a root without fields would be.
    child = empty(builder)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, child, 0)
    return builder.EndObject()  # type: ignore[no-any-return]


ROOTS = {"scalar": scalar, "parent": parent_of_an_empty_table, "text": text}
IDENTIFIERS = [None, b"TEST", b"\x08\0\0\0"]


def accepts(builder: Any) -> bool:
    with StreamWriter(io.BytesIO()) as writer:
        try:
            writer.write_finished(builder)
        except FlatbufferError as error:
            if "FinishSizePrefixed" not in str(error):
                raise
        return writer.frames_written == 1


@in_one_test
@pytest.mark.parametrize("make", BUILDERS, ids=lambda make: f"{make.__module__.partition('.')[0]}.{make.__name__}")
@pytest.mark.parametrize("identifier", IDENTIFIERS, ids=repr)
@pytest.mark.parametrize("root", ROOTS)
def test_every_way_of_writing_refuses_a_size_prefixed_message(make: Any, identifier: Any, root: str) -> None:
    def finish(builder: Any) -> None:
        builder.FinishSizePrefixed(ROOTS[root](builder), identifier)

    builder = make(64)
    finish(builder)
    sink = io.BytesIO()
    # Items are built with the builder of the writer.
    with StreamWriter(sink, "crc32", builder=make(64)) as writer:
        for write in (
            lambda: writer.write_message(builder),
            lambda: writer.write_finished(builder),
            lambda: writer.write(Item(finish)),
            lambda: writer.write_batch([Item(finish)]),
        ):
            with pytest.raises(FlatbufferError, match=REASON):
                write()
        assert writer.frames_written == 0
        builder.Clear()
        builder.Finish(ROOTS[root](builder), identifier)
        message = bytes(builder.Output())
        writer.write_message(builder)
    assert [bytes(payload) for payload in StreamReader(sink.getvalue(), "crc32")] == [message]


@in_one_test
@pytest.mark.parametrize("make", [Builder, OwnBuilder])
@pytest.mark.parametrize("root", [*ROOTS, "empty"])
def test_size_prefixed_message_in_a_builder_is_no_payload(make: Any, root: str) -> None:
    table = SHAPES.table("shapes.Empty")
    builder = make(64)
    builder.FinishSizePrefixed((ROOTS | {"empty": empty})[root](builder))
    sink = io.BytesIO()
    with StreamWriter(sink, "crc32") as writer:
        for take in (
            lambda: writer.write_payload(builder),
            lambda: writer.write_payloads([builder]),
            lambda: writer.write_payloads([b"x", builder]),
            lambda: writer.write_payloads(iter([builder])),
            lambda: DefaultFramer().frame_and_write(sink, builder),
            lambda: ChecksumFramer(Crc32()).bounded(100).frame_and_write(sink, builder),
            lambda: TableRootValidator().validate(builder),
            lambda: TypedValidator.for_type(SHAPES, "shapes.Empty").validate(builder),
            lambda: table.view(builder),
            lambda: table.view(builder, verify=False),
        ):
            with pytest.raises(FlatbufferError, match=REASON):
                take()
        assert writer.frames_written == 1
        # Its bytes are what the application makes of them, for example a file of such messages.
        prefixed = bytes(memoryview(builder))
        assert prefixed == bytes(builder.Output())
        assert struct.unpack_from("<I", prefixed)[0] == len(prefixed) - 4
        builder.Clear()
        builder.Finish(empty(builder))
        writer.write_payload(builder)
        assert table.view(builder) == table.view(bytes(builder.Output()))
    assert [len(payload) for payload in StreamReader(sink.getvalue(), "crc32")] == [1, len(bytes(builder))]


@pytest.mark.parametrize("identifier", IDENTIFIERS, ids=repr)
def test_root_without_fields_is_known_to_our_builder_and_reads_the_same_both_ways(identifier: Any) -> None:
    for make in BUILDERS:
        builder = make(8)
        builder.FinishSizePrefixed(empty(builder), identifier)
        if isinstance(builder, Builder):
            assert not accepts(builder)
        else:
            # Its bytes are those of a message without a prefix, whose root is the same table: no fields.
            assert accepts(builder)
            view = SHAPES.table("shapes.Empty").view(bytes(builder.Output()), verify=False)
            assert view.to_dict() == {}


def test_message_without_prefix_is_never_taken_for_one() -> None:
    for schema in (SHAPES, UNIONS, TINY):
        for table in schema:
            mapping = Mapping(table.schema._info)
            for seed in range(3):
                records = [Making(mapping, random.Random(seed)).record(table.number) for _ in range(3)]
                for message in messages_of(table, mapping.arrow(table.number, records)):
                    assert accepts(Finished(message))


@in_one_test
@pytest.mark.parametrize("identifier", [None, b"TEST"], ids=repr)
@pytest.mark.parametrize("alignment", [1, 2, 4, 8, 16, 64])
@pytest.mark.parametrize("fields", [0, 1, 5])
def test_root_without_fields_is_taken_whatever_is_in_front_of_it(identifier: Any, alignment: int, fields: int) -> None:
    for after in (
        lambda builder: None,
        lambda builder: builder.CreateString("unused"),
        lambda builder: builder.CreateByteVector(bytes(16)),
        scalar,
        empty,
        parent_of_an_empty_table,
    ):
        builder = flatbuffers.Builder(8)
        builder.Prep(alignment, 0)
        builder.StartObject(fields)
        root = builder.EndObject()
        after(builder)
        builder.Finish(root, identifier)
        message = bytes(builder.Output())
        if struct.unpack_from("<I", message)[0] == len(message) - 4:
            assert accepts(builder), message.hex(" ", 4)


@given(strategies.shapes)
def test_random_size_prefixed_message_of_generated_code_is_refused(made: Any) -> None:
    builder = flatbuffers.Builder(64)
    builder.FinishSizePrefixed(made.Pack(builder))
    fields = [value for value in vars(made).values() if value not in (None, 0)]
    if fields:
        assert not accepts(builder)
    builder = flatbuffers.Builder(64)
    builder.Finish(made.Pack(builder))
    assert accepts(builder)


# Reading


def size_prefixed(count: int = 5) -> bytes:
    """A file of size-prefixed messages, one after another, as flatc's own code writes them."""
    parts = []
    for i in range(count):
        made = generated("Shape").ShapeT()
        made.id, made.title = i + 2**40, f"title {i}"
        made.scalars = generated("Scalars").ScalarsT()
        made.scalars.f64, made.scalars.i64 = i / 2, -i
        builder = flatbuffers.Builder(8)
        builder.FinishSizePrefixed(made.Pack(builder), b"SHAP")
        parts.append(bytes(builder.Output()))
    return b"".join(parts)


EXPECTED = [(i + 2**40, f"title {i}", i / 2, -i) for i in range(5)]


def test_file_of_size_prefixed_messages_is_read_as_records_columns_and_views() -> None:
    data = size_prefixed()
    root = PREFIXED_SHAPE
    assert PREFIXED.size_prefixed
    assert not SHAPES.size_prefixed
    records = list(StreamReader(data).records(root))
    assert [(r.id, r.title, r.scalars.f64, r.scalars.i64) for r in records] == EXPECTED
    batch = StreamReader(data).columns(root, ["id", "title", "scalars.f64", "scalars.i64"], verify=True)
    assert [tuple(row.values()) for row in batch.to_pylist()] == EXPECTED
    for payload, expected in zip(StreamReader(data), EXPECTED, strict=True):
        assert root.view(payload).id == expected[0]
        assert root.types.verify(root.number, payload) is None
    validator = TypedValidator.for_type(PREFIXED, "shapes.Shape")
    assert len(list(StreamReader(data, DefaultDeframer().with_validator(validator)))) == 5


def test_error_of_an_ordinary_schema_says_how_to_read_them() -> None:
    data = size_prefixed()
    hint = "is not aligned to 8 bytes; counted from 4 bytes before.*load the schema with size_prefixed=True"
    with pytest.raises(ValidationFailedError, match=hint):
        list(StreamReader(data).records(SHAPE))
    with pytest.raises(FlatbufferError, match=hint):
        StreamReader(data).columns(SHAPE, verify=True)
    with pytest.raises(ValidationFailedError, match=hint):
        SHAPE.view(next(iter(StreamReader(data))))


def message(**fields: Any) -> bytes:
    builder = Builder(8)
    SHAPE.encode(builder, fields)
    return bytes(builder)


def test_damaged_message_gets_no_such_hint() -> None:
    # Shifted by 2 bytes: misaligned wherever the count begins.
    payload = bytearray(message(id=2**40, title="t"))
    root = struct.unpack_from("<I", payload)[0]
    payload[0:4] = struct.pack("<I", root + 2)
    path, reason = SHAPE.types.verify(SHAPE.number, payload)
    assert "not aligned to 4 bytes" in reason
    assert "size_prefixed" not in path + reason


def test_alignment_is_counted_from_the_prefix_for_all_widths() -> None:
    # Without a prefix in front, a message with numbers of 8 bytes is misaligned for such a schema; one without is not.
    assert PREFIXED_SHAPE.types.verify(PREFIXED_SHAPE.number, message(title="t")) is None
    for fields in ({"id": 1}, {"vectors": {"u64s": [1]}}, {"vectors": {"f64s": [1]}}):
        assert SHAPE.types.verify(SHAPE.number, message(**fields)) is None
        assert "is not aligned to" in PREFIXED_SHAPE.types.verify(PREFIXED_SHAPE.number, message(**fields))[1]


def test_schema_for_size_prefixed_messages_writes_none() -> None:
    message = "size_prefixed=True reads messages only"
    with StreamWriter(io.BytesIO()) as writer, pytest.raises(ValueError, match=message):
        RecordWriter(writer, PREFIXED_SHAPE)
    with pytest.raises(ValueError, match="size_prefixed=True reads messages only"):
        PREFIXED_SHAPE.encode(Builder(), id=1)


def test_schema_from_bytes_takes_the_option_too() -> None:
    schema = Schema.from_bytes((SCHEMAS / "shapes.bfbs").read_bytes(), size_prefixed=True)
    assert [record.id for record in StreamReader(size_prefixed()).records(schema.root)] == [row[0] for row in EXPECTED]

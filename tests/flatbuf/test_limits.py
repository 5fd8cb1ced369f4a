"""The limits of reading, given to every way of reading a message, and the writer's warning of a message beyond them."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from flatstream import Builder, FlatbufferError, RecordWriter, StreamReader, StreamWriter, ValidationFailedError
from support.extent import in_one_test
from support.messages import chain, doubling
from support.schemas import SHAPES

TREE: Any = SHAPES.table("shapes.Tree")


def framed(message: bytes) -> bytes:
    """A stream without a checksum that has this one message."""
    return struct.pack("<I", len(message)) + message


# Each way verifies a Tree as a whole, with limits.
WAYS: dict[str, Callable[..., Any]] = {
    "view": lambda message, **limits: TREE.view(message, **limits),
    "records": lambda message, **limits: next(StreamReader(framed(message)).records(TREE, **limits)),
    "columns": lambda message, **limits: StreamReader(framed(message)).columns(TREE, ["value"], verify=True, **limits),
    "column_batches": lambda message, **limits: next(
        StreamReader(framed(message)).column_batches(TREE, ["value"], verify=True, **limits)
    ),
}
every_way = pytest.mark.parametrize("read", WAYS.values(), ids=WAYS)
REFUSED = (ValidationFailedError, FlatbufferError)


@in_one_test
@every_way
@pytest.mark.parametrize("limit", [1, 64, 65, 1000])
def test_depth_up_to_the_limit_is_read_and_more_is_refused(read, limit):
    read(chain(limit), max_depth=limit)
    with pytest.raises(REFUSED, match=f"tables are nested deeper than the limit of {limit}"):
        read(chain(limit + 1), max_depth=limit)


@in_one_test
@every_way
def test_depth_is_limited_to_64_by_default(read):
    read(chain(64))
    with pytest.raises(REFUSED, match="tables are nested deeper than the limit of 64"):
        read(chain(65))


@in_one_test
@every_way
@pytest.mark.parametrize("levels", [1, 2, 6])
def test_tables_up_to_the_limit_are_read_and_more_are_refused(read, levels):
    tables = 2**levels - 1
    read(doubling(levels), max_tables=tables)
    with pytest.raises(REFUSED, match=f"there are more tables than the limit of {tables - 1}"):
        read(doubling(levels), max_tables=tables - 1)


@in_one_test
@every_way
def test_bytes_up_to_the_limit_are_read_and_more_are_refused(read):
    # The offset of the root; the table of 4 bytes; the 2 bytes of its vtable's size, and the vtable of 4 bytes.
    message = struct.pack("<I2Hi", 8, 4, 4, 4)
    read(message, max_apparent_size=14)
    with pytest.raises(REFUSED, match="more than the limit of 13 bytes"):
        read(message, max_apparent_size=13)


@in_one_test
@every_way
@pytest.mark.parametrize(("name", "most"), [("max_depth", 1000), ("max_tables", 2**62), ("max_apparent_size", 2**62)])
def test_limit_of_a_wrong_type_or_size_is_an_error_with_its_name(read, name, most):
    for value in (1.5, "1", None, True, b""):
        with pytest.raises(TypeError, match=f"{name} must be an int"):
            read(chain(1), **{name: value})
    for value in (-1, most + 1):
        with pytest.raises(ValueError, match=name):
            read(chain(1), **{name: value})
    read(chain(1), **{name: most})


# Dicts and comparisons


def to_dict(record: Any, **limits: Any) -> Any:
    return record.to_dict(**limits)


def test_dict_of_a_record_has_the_limits_that_the_record_was_opened_with():
    message = doubling(6)
    assert to_dict(TREE.view(message, max_tables=63))["value"] == 0
    record = TREE.view(message, verify=False, max_tables=62)
    with pytest.raises(FlatbufferError, match="there are more tables than the limit of 62"):
        record.to_dict()
    with pytest.raises(FlatbufferError, match="there are more tables than the limit of 62"):
        record == TREE.view(message)  # noqa: B015 - the comparison raises
    # A part has the limits of the whole.
    with pytest.raises(FlatbufferError, match="there are more tables than the limit of 30"):
        TREE.view(message, verify=False, max_tables=30).left.to_dict()
    # But a limit of the call counts.
    assert record.to_dict(max_tables=63) == TREE.view(message).to_dict()


@in_one_test
@pytest.mark.parametrize("depth", [1, 2, 64, 1000])
def test_dict_is_as_deep_as_its_limit_and_no_deeper(depth):
    record = TREE.view(chain(depth), max_depth=1000)
    for limits in ({}, {"max_depth": depth}):
        found, levels = record.to_dict(**limits), 0
        while found is not None:
            found, levels = found["left"], levels + 1
        assert levels == depth
    with pytest.raises(FlatbufferError, match=f"tables are nested deeper than the limit of {depth - 1}"):
        record.to_dict(max_depth=depth - 1)


def test_depth_of_a_part_counts_from_the_root_of_the_message():
    part = TREE.view(chain(5)).left.left
    assert part.to_dict(max_depth=5)["left"]["left"]["left"] is None
    with pytest.raises(
        FlatbufferError, match=r"tree\.left\.left\.left\.left: tables are nested deeper than the limit of 4"
    ):
        part.to_dict(max_depth=4)


def test_size_of_a_dict_is_limited():
    table = SHAPES.table("shapes.Named")
    builder = Builder()
    table.encode(builder, name="x" * 100)
    record = table.view(builder)
    assert record.to_dict(max_apparent_size=100)["name"] == "x" * 100
    with pytest.raises(FlatbufferError, match="more than the limit of 99 bytes"):
        record.to_dict(max_apparent_size=99)
    with pytest.raises(FlatbufferError, match="more than the limit of 99 bytes"):
        table.view(builder, verify=False, max_apparent_size=99).to_dict()


def test_list_of_a_vector_has_the_limits_of_its_record_and_of_the_call():
    table = SHAPES.table("shapes.Vectors")
    builder = Builder()
    table.encode(builder, named=[{"name": "a"}] * 5)
    vector = table.view(builder, max_tables=6).named
    assert len(vector.to_list()) == 5
    with pytest.raises(FlatbufferError, match="there are more tables than the limit of 4"):
        vector.to_list(max_tables=4)
    with pytest.raises(FlatbufferError, match="nested deeper than the limit of 1"):
        vector.to_list(max_depth=1)


@pytest.mark.parametrize(("name", "most"), [("max_depth", 1000), ("max_tables", 2**62), ("max_apparent_size", 2**62)])
def test_limit_of_a_dict_of_a_wrong_type_or_size_is_an_error_with_its_name(name, most):
    for value in (1.5, "1", True, b""):
        with pytest.raises(TypeError, match=f"{name} must be an int"):
            TREE.view(chain(1)).to_dict(**{name: value})
    for value in (-1, most + 1):
        with pytest.raises(ValueError, match=name):
            TREE.view(chain(1)).to_dict(**{name: value})


def test_types_with_other_limits_outlive_the_schema_and_share_its_arrays():
    from flatstream import Schema
    from support.schemas import SCHEMAS

    schema = Schema.from_file(SCHEMAS / "shapes.bfbs")
    builder = Builder()
    table = schema.table("shapes.Vectors")
    table.encode(builder, i32s=[1, 2])
    records = [table.view(builder, max_tables=limit) for limit in (1, 2, 1_000_000)]
    del schema, table
    assert [record.i32s.tolist() for record in records] == [[1, 2]] * 3
    assert records[0] == records[1] == records[2]


# What the writer writes can be read, or the writer warns

WARNING = "a message of 1000001 tables in [0-9]+ bytes exceeds a default limit .* it needs max_tables=1000001"
VECTORS = SHAPES.table("shapes.Vectors")


def write_record(scalars: int) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, VECTORS).write(scalars=((),) * scalars)
    return sink.getvalue()


def write_columns(scalars: int) -> bytes:
    import numpy as np
    import pyarrow as pa

    items = pa.StructArray.from_arrays([pa.array(np.zeros(scalars, bool))], ["truth"])
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, VECTORS).write_columns({"scalars": pa.LargeListArray.from_arrays([0, scalars], items)})
    return sink.getvalue()


def encode(scalars: int) -> bytes:
    builder = Builder()
    VECTORS.encode(builder, scalars=((),) * scalars)
    return framed(bytes(builder))


def build(scalars: int) -> bytes:
    """As code that flatc generated does."""
    builder = Builder()
    tables = []
    for _ in range(scalars):
        builder.StartObject(0)
        tables.append(builder.EndObject())
    builder.StartVector(4, scalars, 4)
    for table in tables:
        builder.PrependUOffsetTRelative(table)
    vector = builder.EndVector()
    builder.StartObject(22)
    builder.PrependUOffsetTRelativeSlot(21, vector, 0)
    builder.Finish(builder.EndObject())
    return framed(bytes(builder))


WRITERS = pytest.mark.parametrize("write", [write_record, write_columns, encode, build])


@WRITERS
def test_writer_warns_of_a_message_that_readers_refuse_by_default(write):
    with pytest.warns(RuntimeWarning, match=WARNING) as caught:
        stream = write(1_000_000)
    assert len(caught) == 1
    with pytest.raises(ValidationFailedError, match="there are more tables than the limit of 1000000"):
        next(StreamReader(stream).records(VECTORS))
    record = next(StreamReader(stream).records(VECTORS, max_tables=1_000_001))
    assert len(record.scalars) == 1_000_000


def test_nothing_is_written_if_the_warning_is_an_error():
    sink = io.BytesIO()
    with StreamWriter(sink) as writer, warnings.catch_warnings():
        warnings.simplefilter("error")
        records = RecordWriter(writer, VECTORS)
        with pytest.raises(RuntimeWarning, match=WARNING):
            records.write(scalars=((),) * 1_000_000)
        records.write(u8s=b"after")
    assert [record.to_dict()["u8s"] for record in StreamReader(sink.getvalue()).records(VECTORS)] == [b"after"]


def test_message_of_as_many_tables_as_readers_accept_is_written_without_a_warning():
    builder = Builder()
    # Those of an earlier message do not count.
    for scalars in (1, 999_999):
        builder.Clear()
        VECTORS.encode(builder, scalars=((),) * scalars)
    assert len(VECTORS.view(builder).scalars) == 999_999

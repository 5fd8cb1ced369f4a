"""What comes out goes in again: to_dict() with all its options, and the rows and columns of batches.

Random records of every table of every schema are written once by columns, and then each form in which the package gives
them is written by every way of writing. Records are compared by to_dict(), which other tests compare with generated
code; NaN counts as equal to itself, and -0.0 differs from 0.0.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import pyarrow
import pytest

from flatstream import Builder, RecordWriter, Schema, StreamReader, StreamWriter
from flatstream.schema import Table
from support.arrow_types import Making, Mapping
from support.columns import messages_of
from support.extent import in_one_test
from support.schemas import SHAPES, SHAPES_V2, TELEMETRY, TINY, UNIONS, schema_of

SCHEMAS = [SHAPES, SHAPES_V2, UNIONS, TINY, TELEMETRY, schema_of("names"), schema_of("monster_test")]
TABLES = [pytest.param(table, id=f"{i} {table.name}") for i, schema in enumerate(SCHEMAS) for table in schema]

TREE = SHAPES.table("shapes.Tree")
HOLDER, ROOT = UNIONS.table("unions.Holder"), UNIONS.table("unions.Root")
T = TINY.table("T")

ENUMS: Any = ["number", "name"]
COLUMN_ENUMS: Any = ["dictionary", "number"]

every_seed = pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 7))])


def random_messages(table: Table, seed: int, count: int = 4) -> list[bytes]:
    mapping = Mapping(table.schema._info)
    making = Making(mapping, random.Random(seed))
    records = [making.record(table.number) for _ in range(count)]
    return messages_of(table, mapping.arrow(table.number, records))


def stream_of(table: Table, write: Any) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        write(RecordWriter(writer, table))
    return sink.getvalue()


def read(table: Table, data: bytes) -> list[str]:
    """The records of a stream, as text: all numbers are shown in full, and NaN is equal to itself."""
    return [repr(record.to_dict()) for record in StreamReader(data).records(table)]


def encode_all(writer: RecordWriter, records: list[Any]) -> None:
    for record in records:
        builder = Builder(8)
        writer.table.encode(builder, record)
        writer._columns_to[0].write_finished(builder)


def write_each(writer: RecordWriter, records: list[Any]) -> None:
    for record in records:
        writer.write_record(record)


# Each of these writes records that are dicts by the names of the fields.
WAYS: dict[str, Callable[[RecordWriter, list[dict[str, Any]]], object]] = {
    "write": lambda writer, records: [writer.write(**record) for record in records],
    "write_record": write_each,
    "write_records": lambda writer, records: writer.write_records(records),
    "encode": encode_all,
    "write_columns": lambda writer, records: writer.write_columns(
        {name: [record.get(name) for record in records] for name in {name: 0 for record in records for name in record}}
    ),
}


@in_one_test
@every_seed
@pytest.mark.parametrize("table", TABLES)
def test_dicts_of_records_go_in_again(table: Table, seed: int) -> None:
    records = [table.view(message) for message in random_messages(table, seed)]
    wanted = [repr(record.to_dict()) for record in records]
    for enums in ENUMS:
        dicts = [record.to_dict(enums=enums) for record in records]
        for name, way in WAYS.items():
            if dicts[0] or name != "write_columns":
                assert read(table, stream_of(table, lambda writer, way=way, dicts=dicts: way(writer, dicts))) == wanted


def without_lone_types(table: Table, value: Any) -> Any:
    """Rows in which the type of a union without a value is NONE, in all tables inside of them too."""
    if isinstance(value, list):
        return [without_lone_types(table, item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {name: without_lone_types(table, item) for name, item in value.items()}
    for name, kind in value.items():
        member = name.removesuffix("_type")
        if member == name or member not in value or kind is None:
            continue
        none = 0 if isinstance(kind[0] if isinstance(kind, list) and kind else kind, int) else "NONE"
        if isinstance(kind, list):
            if value[member] is not None:
                made[name] = [none if item is None else each for each, item in zip(kind, value[member], strict=True)]
        elif value[member] is None:
            made[name] = none
    return made


@in_one_test
@every_seed
@pytest.mark.parametrize("table", TABLES)
def test_rows_and_columns_of_batches_go_in_again(table: Table, seed: int) -> None:
    messages = random_messages(table, seed)
    data = stream_of(table, lambda writer: writer._columns_to[0].write_payloads(messages))
    for enums in COLUMN_ENUMS:
        batch = StreamReader(data).columns(table, enums=enums)
        if not batch.names:
            continue
        # Columns leave out tables inside themselves, so it is the batch that must come again, but for the types of
        # unions whose values were left out: a message has no type without a value.
        wanted = repr(without_lone_types(table, batch.to_pylist()))

        def again(write: Any, enums: Any = enums) -> str:
            return repr(StreamReader(stream_of(table, write)).columns(table, enums=enums).to_pylist())

        for name, way in WAYS.items():
            rows = batch.to_pylist()
            assert again(lambda writer, way=way, rows=rows: way(writer, rows)) == wanted, name
        lists = {name: batch[name].to_pylist() for name in batch}
        assert again(lambda writer, lists=lists: writer.write_columns(lists)) == wanted
        assert again(lambda writer, batch=batch: writer.write_columns(batch)) == wanted


def nested(depth: int, around: Callable[[Any], dict[str, Any]], record: dict[str, Any]) -> dict[str, Any]:
    for _ in range(depth):
        record = around(record)
    return record


DEEP: dict[str, tuple[Table, Any, Any]] = {
    "tables": (TREE, lambda record: {"left": record}, {"value": 1}),
    "vectors of tables": (TREE, lambda record: {"children": [record, record][:1]}, {"value": 1}),
    "unions": (HOLDER, lambda record: {"must": [], "choice": ("Holder", record)}, {"must": []}),
    "vectors of unions": (HOLDER, lambda record: {"must": [("Holder", record)]}, {"must": []}),
    "unions of the whole schema": (T, lambda record: {"t": [], "u": ("T", record)}, {"t": ["x"]}),
}


@in_one_test
@pytest.mark.parametrize("depth", [1, 2, 30, 63])
@pytest.mark.parametrize("name", DEEP)
def test_tables_inside_themselves_go_in_again_as_deep_as_they_may_be(name: str, depth: int) -> None:
    table, around, inner = DEEP[name]
    data = stream_of(table, lambda writer: writer.write_record(nested(depth, around, inner)))
    for enums in ENUMS:
        dicts = [record.to_dict(enums=enums) for record in StreamReader(data).records(table)]
        for way in WAYS.values():
            assert read(table, stream_of(table, lambda writer, way=way, dicts=dicts: way(writer, dicts))) == read(
                table, data
            )


def test_element_of_a_vector_of_unions_without_a_value_goes_in_again() -> None:
    table = ROOT
    data = stream_of(
        table, lambda writer: writer.write_columns({"choices": [[{"Named": {"name": "a"}}, None]], "title": ["x"]})
    )
    (record,) = (record.to_dict() for record in StreamReader(data).records(table))
    assert (record["choices_type"], record["choices"]) == ([1, 0], [{"name": "a", "code": 0}, None])
    for way in WAYS.values():
        assert read(table, stream_of(table, lambda writer, way=way: way(writer, [record]))) == read(table, data)
    # Without a type, None is no element.
    with pytest.raises(ValueError, match=r"^choices\[0\]: an element of a vector of unions must have a value$"):
        table.encode(Builder(), choices=[None])


def test_type_of_a_union_without_a_value_is_an_error_unless_columns_leave_the_value_out() -> None:
    message = "^anything: the type of the union is Named, but its value is missing$"
    with pytest.raises(ValueError, match=message):
        ROOT.encode(Builder(), anything_type="Named")
    with pytest.raises(ValueError, match="its type is Named, but its value is NONE"):
        messages_of(ROOT, {"anything_type": ["Named"], "anything": [None]})
    builder = Builder()
    HOLDER.encode(builder, must=[], choice_type="Holder")
    assert HOLDER.view(bytes(builder)).to_dict()["choice_type"] == 0


def test_bool_for_a_union_says_that_columns_left_its_value_out() -> None:
    tree = schema_of("monster_test").table("MyGame.Example.Monster")
    left_out = {"name": ["a"], "any_ambiguous_type": ["M1"], "any_ambiguous": pyarrow.array([True])}
    assert tree.view(messages_of(tree, left_out)[0]).any_ambiguous is None
    nothing = {"name": ["a"], "any_ambiguous_type": ["NONE"], "any_ambiguous": pyarrow.array([None], pyarrow.bool_())}
    assert tree.view(messages_of(tree, nothing)[0]).any_ambiguous is None
    for columns, text in [
        ({"any_ambiguous_type": ["NONE"], "any_ambiguous": pyarrow.array([True])}, "it is true, but its type is not"),
        ({"any_ambiguous": pyarrow.array([True])}, "it is true, but its type is not that of a table around it"),
        ({"any_ambiguous_type": ["M1"], "any_ambiguous": pyarrow.array([False])}, "it is false: a union without"),
    ]:
        with pytest.raises(ValueError, match=text):
            messages_of(tree, {"name": ["a"], **columns})
    with pytest.raises(TypeError, match=r"union unions\.Anything needs a struct with one nullable child per variant"):
        messages_of(ROOT, {"anything": pyarrow.array([True])})


ARRAYS = [b"\1\2", bytearray(b"\1\2"), memoryview(b"\1\2"), [1, 2], (1, 2)]


@in_one_test
@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: type(value).__name__)
def test_array_of_ubyte_in_a_struct_takes_bytes(value: Any) -> None:
    # struct S { x: short; y: [ubyte:2]; }
    record = {"t": [], "s": {"x": 5, "y": value}}
    expected = {"x": 5, "y": b"\1\2"}
    for way in WAYS.values():
        data = stream_of(T, lambda writer, way=way: way(writer, [record]))
        assert [each.to_dict()["s"] for each in StreamReader(data).records(T)] == [expected]


@in_one_test
@pytest.mark.parametrize(
    "value",
    [b"", b"\1", b"\1\2\3", bytearray(3), memoryview(b"123")],
    ids=lambda value: f"{type(value).__name__} {len(value)}",
)
def test_array_of_ubyte_takes_bytes_of_its_own_length_only(value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^s\.y: expected 2 elements, got {len(value)}$"):
        T.encode(Builder(), t=[], s={"x": 5, "y": value})


def test_array_of_other_numbers_takes_no_bytes() -> None:
    grid = {"tag": 0, "cells": bytes(3), "days": [1, 1], "corners": [(0, 0)] * 2, "bits": [0] * 5, "weights": [0, 0]}
    with pytest.raises(TypeError, match=r"^grid\.cells: expected a sequence, got bytes"):
        SHAPES.table("shapes.Structs").encode(Builder(), grid=grid, point_required=(0, 0))


def test_schemas_are_all_that_the_tests_have() -> None:
    assert all(isinstance(schema, Schema) for schema in SCHEMAS)
    assert len(TABLES) > 50

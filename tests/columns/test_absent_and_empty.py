"""Numbers that a message does not store as nulls, and tables without fields in Parquet and back."""

from __future__ import annotations

import io
from typing import Any

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flatstream import Builder, RecordWriter, StreamReader, StreamWriter
from support.columns import SHAPE, columns_of, messages_of
from support.extent import in_one_test
from support.messages import shape_messages
from support.schemas import SHAPES, UNIONS

DEFAULTS = SHAPES.table("shapes.Defaults")
SCALARS = SHAPES.table("shapes.Scalars")


def encoded(table: Any, record: Any, force_defaults: bool = False) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, table, force_defaults=force_defaults).write_record(record)
    return bytes(next(StreamReader(sink.getvalue())))


def nothing() -> bytes:
    """A message of any table, without fields."""
    builder = Builder()
    builder.StartObject(0)
    builder.Finish(builder.EndObject())
    return bytes(builder)


NOTHING = nothing()


# Absent numbers


@in_one_test
@pytest.mark.parametrize("table", [DEFAULTS, SCALARS], ids=["defaults", "zeros"])
@pytest.mark.parametrize("enums", ["dictionary", "number"])
def test_absent_numbers_are_null_and_stored_ones_are_not(table, enums):
    full = encoded(table, dict.fromkeys(table.field_names, 1), force_defaults=True)
    batch = columns_of([NOTHING, full, NOTHING], table, absent="null", enums=enums)
    for name in table.field_names:
        first, second, third = batch[name].to_pylist()
        assert (first, third) == (None, None)
        assert second is not None
        assert batch.to_arrow().column(name).null_count == 2
    # Not asked for, they have their defaults.
    plain = columns_of([NOTHING, full], table)
    assert not any(None in plain[name].to_pylist() for name in table.field_names)


def test_stored_default_is_no_null():
    full = encoded(DEFAULTS, {"i32": -2147483648, "truth": True, "f32": 0.5}, force_defaults=True)
    batch = columns_of([full, NOTHING], DEFAULTS, ["i32", "truth", "f32", "color"], absent="null")
    assert batch.to_pylist() == [
        {"i32": -2147483648, "truth": True, "f32": 0.5, "color": None},
        {"i32": None, "truth": None, "f32": None, "color": None},
    ]
    assert DEFAULTS.view(full).to_dict(absent="null")["i32"] == -2147483648
    assert DEFAULTS.view(NOTHING).to_dict(absent="null") == dict.fromkeys(DEFAULTS.field_names)
    assert DEFAULTS.view(NOTHING).to_dict()["i32"] == -2147483648


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_rows_of_one_shape_and_of_many_have_the_same_nulls(rows):
    one = [encoded(SCALARS, {"i32": 5})] * rows
    many = [encoded(SCALARS, {"i32": 5, name: 1}) for name in ("i8", "u16", "f64")] * rows
    alone = columns_of(one, SCALARS, ["i32", "i8"], absent="null")
    assert (alone["i32"].to_pylist(), alone["i8"].to_pylist()) == ([5] * rows, [None] * rows)
    mixed = columns_of(many, SCALARS, ["i8", "u16", "f64"], absent="null")
    assert mixed["i8"].to_pylist() == [1, None, None] * rows
    assert mixed["u16"].to_pylist() == [None, 1, None] * rows
    assert mixed["f64"].to_pylist() == [None, None, 1.0] * rows
    assert mixed.to_arrow()["f64"].to_pylist() == [None, None, 1.0] * rows


def test_absent_numbers_inside_of_tables_and_vectors_are_null_but_not_those_of_structs():
    vectors = SHAPES.table("shapes.Vectors")
    message = encoded(vectors, {"scalars": [{"i32": 4}, {}], "points": [{"x": 0, "y": 0}], "i32s": [0]})
    batch = columns_of([message], vectors, ["scalars", "points", "i32s"], absent="null")
    first, second = batch["scalars"].to_pylist()[0]
    assert (first["i32"], first["i8"], second["i32"]) == (4, None, None)
    assert batch["points"].to_pylist() == [[{"x": 0.0, "y": 0.0}]]
    assert batch["i32s"].to_pylist() == [[0]]
    converted = vectors.view(message).to_dict(absent="null")
    assert (converted["scalars"][0]["i32"], converted["scalars"][0]["i8"]) == (4, None)
    assert converted["points"] == [{"x": 0.0, "y": 0.0}]
    assert vectors.view(message).scalars.to_list(absent="null")[1]["i32"] is None
    assert vectors.view(message).scalars.to_list()[1]["i32"] == 0


def test_absent_numbers_are_in_no_range():
    messages = [encoded(SCALARS, {"i32": number}) for number in (-1, 0, 1)]
    found = columns_of(messages, SCALARS, ["i32"], ("i32", -5, 5), absent="null")
    # 0 is the default, so it is not stored.
    assert found["i32"].to_pylist() == [-1, 1]
    assert columns_of(messages, SCALARS, ["i32"], ("i32", -5, 5))["i32"].to_pylist() == [-1, 0, 1]


def test_schema_of_columns_says_that_absent_numbers_are_nullable():
    found = SCALARS.arrow_schema(absent="null").to_pyarrow()
    assert all(field.nullable for field in found)
    assert not any(field.nullable for field in SCALARS.arrow_schema().to_pyarrow())
    assert columns_of([NOTHING], SCALARS, absent="null").to_arrow().schema.equals(found, check_metadata=True)


def test_what_is_absent_stays_absent_when_it_goes_in_again():
    messages = [encoded(SCALARS, {"i32": 5}), NOTHING, encoded(SCALARS, {"f64": 1.5, "color": "Blue"})]
    fields = [name for name in SCALARS.field_names if name not in ("u64", "wide")]
    batch = columns_of(messages, SCALARS, fields, absent="null")
    for columns in (batch, batch.to_arrow(), {name: batch[name].to_pylist() for name in fields}):
        again = columns_of(messages_of(SCALARS, columns), SCALARS, fields, absent="null")
        assert again.to_pylist() == batch.to_pylist()


@in_one_test
@pytest.mark.parametrize("wrong", ["nulls", "", "none", True])
def test_absent_is_default_or_null(wrong):
    reader = StreamReader(b"")
    for read in (
        lambda: reader.columns(SCALARS, absent=wrong),
        lambda: reader.column_batches(SCALARS, absent=wrong),
        lambda: SCALARS.arrow_schema(absent=wrong),
        lambda: SCALARS.view(NOTHING).to_dict(absent=wrong),
    ):
        with pytest.raises(ValueError, match="absent must be 'default' or 'null', got"):
            read()


# Tables without fields


def parquet(table: pa.Table) -> pa.Table:
    """The table written to Parquet and read again."""
    file = io.BytesIO()
    pq.write_table(table, file)
    return pq.read_table(io.BytesIO(file.getvalue()))


def test_every_column_of_every_table_reaches_parquet():
    for schema in (SHAPES, UNIONS):
        for table in schema:
            batch = StreamReader(b"").columns(table)
            if batch.names:
                assert parquet(batch.to_arrow()).num_columns == len(batch.names)
    # pyarrow reads no arrays of structs that are null from Parquet, whatever they were made of.
    fields = [name for name in SHAPE.field_names if name not in ("structs", "vectors")]
    table = columns_of(shape_messages(), SHAPE, fields).to_arrow()
    assert parquet(table).to_pylist() == table.to_pylist()


CHOICE = SHAPES.table("shapes.Unions")


def choice(**record: Any) -> bytes:
    """A message of the type shapes.Unions."""
    return encoded(CHOICE, {"must": ("Named", {"name": "must"}), **record})


def test_presence_of_a_table_without_fields_is_a_bool_in_arrow_and_an_empty_dict_in_python():
    messages = [choice(choice=("Empty", {})), choice(choice=("Named", {"name": "n"})), choice()]
    batch = columns_of(messages, CHOICE, ["choice", "choice.Empty"])
    assert [row and row["Empty"] for row in batch["choice"].to_pylist()] == [{}, None, None]
    assert batch["choice.Empty"].to_pylist() == [{}, None, None]
    assert batch["choice.Empty"].type == "bool"
    for table in (batch.to_arrow(), parquet(batch.to_arrow())):
        assert table.column("choice.Empty").to_pylist() == [True, None, None]
        assert [row and row["Empty"] for row in table.column("choice").to_pylist()] == [True, None, None]
    assert polars.DataFrame(batch)["choice.Empty"].to_list() == [True, None, None]
    assert batch["choice.Empty"].to_arrow().to_pylist() == [True, None, None]


@in_one_test
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 64, 65])
def test_bits_of_presence_are_as_many_as_rows(rows):
    messages = [choice(choice=("Empty", {})) if row % 3 else choice() for row in range(rows)]
    batch = columns_of(messages, CHOICE, ["choice.Empty"])
    array = batch.to_arrow().column(0)
    array.validate(full=True)
    assert array.to_pylist() == [True if row % 3 else None for row in range(rows)]


def test_presence_goes_in_again_from_every_form():
    messages = [choice(choice=("Empty", {})), choice(choice=("Named", {"name": "n"})), choice()]
    expected = [CHOICE.view(message) for message in messages]
    batch = columns_of(messages, CHOICE)
    for columns in (
        batch,
        batch.to_arrow(),
        parquet(batch.to_arrow()),
        polars.DataFrame(batch),
        {name: batch[name].to_pylist() for name in batch.names},
    ):
        assert [CHOICE.view(message) for message in messages_of(CHOICE, columns)] == expected


def test_bools_for_a_table_with_fields_are_refused():
    shape = SHAPES.table("shapes.Vectors")
    with pytest.raises(TypeError, match=r"column 'scalars\[\]' is .*bool.* needs a struct"):
        messages_of(shape, {"scalars": pa.array([[True]])})


def test_false_is_no_table():
    with pytest.raises(ValueError, match="row 1: it is false: a table without fields is true where it is, or null"):
        messages_of(CHOICE, {"choice.Empty": pa.array([True, False, None]), "must.Empty": pa.array([True] * 3)})


def test_batch_without_columns_is_no_presence():
    empty = SHAPES.table("shapes.Empty")
    batch = columns_of([NOTHING, NOTHING], empty)
    assert (batch.num_rows, batch.names) == (2, ())
    assert pa.record_batch(batch).num_columns == 0

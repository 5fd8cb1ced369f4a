"""The Arrow C data interface: who takes the exported columns gets them right, and gives the memory back.

pyarrow, polars, pandas and duckdb read what is exported. Then the protocol itself, through ctypes: what a structure
holds, who releases what and when, and from which thread.
"""

from __future__ import annotations

import ctypes
import gc
import io
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from flatstream import ColumnBatch, StreamReader
from flatstream._core.arrow.exporter import ColumnType, export_stream
from reference.columns import Reference, bits, in_arrow
from support.arrow_abi import ArrowArray, ArrowArrayStream, ArrowSchema, copy_of, release, structure
from support.columns import LEVEL1, SHAPE, columns_of, stream_of
from support.extent import in_one_test
from support.messages import (
    event_payloads,
    extreme_messages,
    grid_message,
    message,
    numbered_messages,
    sample_messages,
    union_message,
)
from support.processes import survives
from support.records import encoded, table_of
from support.schemas import SCHEMAS, SHAPES, TESTS, generated, schema_of

UNIONS = [[(1, 1.5, "one"), (5, 0.0, "té"), (4, 2.5, ""), (2, 1.0, "x")], []]
# Messages of every schema, and their table; made when they are asked for.
KINDS: dict[str, Callable[[], tuple[Any, list[bytes]]]] = {
    "shapes": lambda: (SHAPE, sample_messages(25) + [grid_message(seed) for seed in range(5)]),
    "extremes": lambda: (SHAPE, list(extreme_messages())),
    "unions": lambda: (schema_of("unions").table("unions.Holder"), [union_message(each) for each in UNIONS] * 5),
    "telemetry": lambda: (schema_of("telemetry").root, event_payloads(20)),
    "nothing": lambda: (SHAPE, []),
    "level": lambda: (LEVEL1, numbered_messages(100)),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[Any, list[bytes], list[dict[str, Any]]]:
    table, payloads = KINDS[request.param]()
    reference = Reference(table.schema)
    return table, payloads, [reference.record(table.name, each) for each in payloads]


def query(text: str, **tables: Any) -> list[Any]:
    """What duckdb answers about some tables."""
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return connection.execute(text).fetchall()


def batches_of(table: Any, payloads: list[bytes], rows: int = 7, **options: Any) -> Any:
    return StreamReader(io.BytesIO(stream_of(payloads)), capacity=1000).column_batches(
        table, batch_rows=rows, **options
    )


# Consumers


def test_pyarrow_reads_batches_arrays_and_streams(kind):
    table, payloads, rows = kind
    batch = columns_of(payloads, table)
    for made in (
        pa.table(batch),
        pa.Table.from_batches([pa.record_batch(batch)]),
        pa.RecordBatchReader.from_stream(batch).read_all(),
        pa.RecordBatchReader.from_stream(batches_of(table, payloads)).read_all(),
        pa.table({name: pa.array(column) for name, column in batch.items()}),
        batch.to_arrow(),
    ):
        made.validate(full=True)
        assert made.num_rows == len(rows)
        assert bits(made.to_pylist()) == bits(in_arrow(rows))
    assert pa.schema(batch) == batch.schema.to_pyarrow() == pa.RecordBatchReader.from_stream(batch).schema
    assert pa.schema(batch).equals(table.arrow_schema().to_pyarrow(), check_metadata=True)


def test_schema_of_pyarrow_says_what_may_be_null_and_whose_it_is():
    schema = SHAPE.arrow_schema().to_pyarrow()
    assert schema.metadata[b"flatstream.table"] == b"shapes.Shape"
    assert schema.metadata[b"flatstream.file_identifier"] == b"SHAP"
    assert b"tree.left" in schema.metadata[b"flatstream.recursive"].split(b"\n")
    assert [field.name for field in schema if not field.nullable] == ["choice_type", "id"]
    named = schema.field("named").type
    assert [named.field(name).nullable for name in ("name", "note", "code")] == [False, True, False]
    assert schema.field("optionals").type.field("u8").nullable
    structs = schema.field("structs").type
    assert structs.field("point").nullable
    assert not structs.field("point_required").nullable
    assert not structs.field("point").type.field("x").nullable
    assert structs.field("grid").type.field("cells").type == pa.list_(pa.field("item", pa.int32(), nullable=False), 3)
    color = schema.field("scalars").type.field("color").type
    assert color == pa.dictionary(pa.int32(), pa.string())
    numbers = SHAPE.arrow_schema(["scalars.color", "choice_type"], enums="number").to_pyarrow()
    assert numbers.types == [pa.int8(), pa.uint8()]
    # A path is null where something on the way is absent.
    assert numbers.field("scalars.color").nullable
    assert not numbers.field("choice_type").nullable


MAPPED = {
    "shapes.Scalars": [
        pa.bool_(), pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64(),
        pa.float32(), pa.float64(), pa.dictionary(pa.int32(), pa.string()), pa.uint8(), pa.uint64(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    "shapes.Holder": [pa.large_binary()] * 3,
    "shapes.Named": [pa.large_string(), pa.large_string(), pa.uint32()],
}  # fmt: skip


@pytest.mark.parametrize("name", MAPPED)
def test_types_are_those_of_the_mapping(name):
    assert SHAPES.table(name).arrow_schema().to_pyarrow().types == MAPPED[name]


def test_polars_reads_batches_and_streams(kind):
    table, payloads, rows = kind
    for frame in (
        columns_of(payloads, table).to_polars(),
        pl.DataFrame(columns_of(payloads, table)),
        pl.DataFrame(batches_of(table, payloads)),
    ):
        assert frame.height == len(rows)
        for name in frame.columns:
            values = frame[name].to_list()
            assert bits(trimmed(values)) == bits(trimmed([row[name] for row in rows])), name


def trimmed(value: Any) -> Any:
    """A value in which a struct without fields is nothing, as some make of it."""
    if isinstance(value, pl.Series):
        value = value.to_list()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [trimmed(inner) for inner in value]
    if isinstance(value, dict):
        return {key: trimmed(inner) for key, inner in value.items() if key != "Empty"} if value else None
    return value


def test_pandas_reads_batches(kind):
    table, payloads, rows = kind
    frame = columns_of(payloads, table).to_pandas()
    assert list(frame.columns) == list(table.arrow_schema().names)
    assert len(frame) == len(rows)
    for name in frame.columns:
        if frame[name].dtype.kind in "biuf" and (frame[name].dtype.kind != "f" or not frame[name].hasnans):
            values = [None if value is pd.NA else value for value in frame[name].tolist()]
            assert bits(values) == bits([row[name] for row in rows])
        elif rows and isinstance(rows[0][name], str):
            assert [value if isinstance(value, str) else None for value in frame[name]] == [row[name] for row in rows]


STAMP = 1764000000000000123  # nanoseconds; as a float it loses the last digits
NULLABLE = {
    "truth": True, "i8": -128, "u8": 255, "i16": -(2**15), "u16": 2**16 - 1, "i32": -(2**31), "u32": 2**32 - 1,
    "i64": STAMP, "u64": 2**64 - 1, "access": 3,
}  # fmt: skip


def optional_payloads(*made: dict[str, Any]) -> list[bytes]:
    """Messages of `shapes.Optionals` with these fields."""
    kind = generated("Optionals").OptionalsT
    payloads = []
    for fields in made:
        record = kind()
        for name, value in fields.items():
            setattr(record, name, value)
        payloads.append(message(record))
    return payloads


def test_pandas_gets_exact_integers_and_bools_beside_nulls():
    table = SHAPES.table("shapes.Optionals")
    payloads = optional_payloads({**NULLABLE, "f64": 1.5}, {})
    batch = columns_of(payloads, table)
    frame = batch.to_pandas()
    assert tuple(frame.columns) == batch.names
    for name, value in NULLABLE.items():
        width = "UInt8" if name == "access" else f"{'UInt' if name[0] == 'u' else 'Int'}{name[1:]}"
        assert frame[name].dtype == ("boolean" if name == "truth" else width)
        assert frame[name].tolist() == [value, pd.NA]
        alone = columns_of(payloads, table, [name]).to_pandas()
        assert alone[name].tolist() == [value, pd.NA]
    assert frame["f64"].dtype == np.float64
    assert frame["f64"].isna().tolist() == [False, True]
    # What has no null is plain, though the schema would allow one.
    plain = columns_of(payloads[:1], table).to_pandas()
    assert plain["truth"].dtype == np.bool_
    for name, value in list(NULLABLE.items())[1:-1]:
        assert plain[name].dtype == np.dtype(f"{name[0]}{int(name[1:]) // 8}")
        assert plain[name].tolist() == [value]


def test_pandas_gets_exact_integers_beside_nulls_in_structs():
    shape, optionals = generated("Shape").ShapeT, generated("Optionals").OptionalsT
    payloads = []
    for stamp in (STAMP, None):
        made = shape()
        made.optionals = optionals()
        made.optionals.i64 = stamp
        payloads.append(message(made))
    found = columns_of([*payloads, message(shape())], SHAPE, ["optionals", "id"]).to_pandas()["optionals"]
    assert [found[0]["i64"], found[1]["i64"], found[2]] == [STAMP, None, None]


def test_column_becomes_a_series(kind):
    table, payloads, _ = kind
    batch = columns_of(payloads, table)
    frame, polars = batch.to_pandas(), batch.to_polars()
    for name, column in batch.items():
        pd.testing.assert_series_equal(column.to_pandas(), frame[name])
        assert column.to_polars().name == name
        assert column.to_polars().equals(polars[name], null_equal=True)
        assert pl.Series(column).equals(polars[name], null_equal=True)
        assert bits(pa.array(column).to_pylist()) == bits(in_arrow(column.to_pylist()))


def test_pandas_makes_a_series_of_a_column():
    payloads = optional_payloads({**NULLABLE, "f64": 1.5}, {})
    batch = columns_of(payloads, SHAPES.table("shapes.Optionals"))
    assert pd.Series(batch["i64"]).tolist() == [STAMP, None]
    assert pd.Series(batch["f64"]).dtype == np.float64
    numbers = columns_of(numbered_messages(5), LEVEL1)
    series = pd.Series(numbers["value"])
    assert (series.dtype, series.tolist()) == (np.int32, [0, 1, 2, 3, 4])
    frame = pd.DataFrame(dict(numbers))
    assert frame["value"].tolist() == [0, 1, 2, 3, 4]
    assert frame["next"].tolist() == numbers["next"].to_pylist()


def test_duckdb_reads_batches_and_streams(kind):
    table, payloads, _ = kind
    names = table.arrow_schema().names
    # Numbers: in a fixed array it takes a dictionary's indices for anything, whoever made it (duckdb 2.0).
    rows = [Reference(table.schema, "number").record(table.name, each) for each in payloads]
    for exported in (columns_of(payloads, table, enums="number"), batches_of(table, payloads, enums="number")):
        found = [dict(zip(names, row, strict=True)) for row in query("select * from made", made=exported)]
        assert bits(trimmed(found)) == bits(trimmed(rows))


def test_consumers_compute_the_same_from_a_stream():
    payloads = numbered_messages(1000)
    stream = batches_of(LEVEL1, payloads, 64)
    assert query("select sum(value), count(next) from made", made=stream) == [(499_500, 334)]
    frame = pl.DataFrame(batches_of(LEVEL1, payloads, 64))
    assert (frame["value"].sum(), frame["next"].is_not_null().sum()) == (499_500, 334)
    reader = pa.RecordBatchReader.from_stream(batches_of(LEVEL1, payloads, 64))
    assert sum(sum(batch["value"].to_pylist()) for batch in reader) == 499_500
    assert int(columns_of(payloads, LEVEL1).to_pandas()["value"].sum()) == 499_500


def test_parquet_keeps_what_was_exported(tmp_path):
    table, payloads = KINDS["telemetry"]()
    made = columns_of(payloads, table).to_arrow()
    pyarrow.parquet.write_table(made, tmp_path / "events.parquet")
    again = pyarrow.parquet.read_table(tmp_path / "events.parquet")
    assert bits(again.to_pylist()) == bits(made.to_pylist())
    assert again.schema.metadata[b"flatstream.table"] == b"telemetry.Event"


def colored(numbers: list[int]) -> list[bytes]:
    scalars = generated("Scalars")
    payloads = []
    for number in numbers:
        made = scalars.ScalarsT()
        made.color, made.far = number, number * 2**40
        payloads.append(message(made))
    return payloads


def test_numbers_without_a_name_become_their_digits_whatever_batch_they_are_in():
    numbers = [0, 5, -2, 77, 5, 78, 0, 77, -128, 127, 5, 0, 78, 79, 80]
    names = {0: "Green", 5: "Blue", -2: "Red"}
    expected = [names.get(number, str(number)) for number in numbers]
    table = SHAPES.table("shapes.Scalars")
    payloads = colored(numbers)
    for rows in (1, 2, 3, 100):
        options = {"fields": ["color", "far"]}
        found = pa.RecordBatchReader.from_stream(batches_of(table, payloads, rows, **options)).read_all()
        found.validate(full=True)
        assert found["color"].to_pylist() == expected
        assert found.unify_dictionaries()["color"].to_pylist() == expected
        assert found["far"].to_pylist() == ["Near" if not number else str(number * 2**40) for number in numbers]
        assert pl.DataFrame(batches_of(table, payloads, rows, **options))["color"].to_list() == expected
        made = batches_of(table, payloads, rows, **options)
        assert [row[0] for row in query("select color from made", made=made)] == expected
    batch = columns_of(payloads, table, ["color"])
    assert batch["color"].to_pylist() == expected
    assert list(batch.to_pandas()["color"]) == expected
    # Those of the schema come first, always, and each other once.
    dictionary = pa.array(batch["color"]).dictionary.to_pylist()
    assert sorted(dictionary[:3]) == ["Blue", "Green", "Red"]
    assert dictionary[3:] == ["77", "78", "-128", "127", "79", "80"]


def test_absent_enums_add_no_name():
    optional = generated("Optionals").OptionalsT()
    batch = columns_of([message(optional)] * 3, SHAPES.table("shapes.Optionals"), ["color"])
    assert (
        pa.array(batch["color"]).dictionary.to_pylist()
        == pa.array(columns_of([], SHAPES.table("shapes.Optionals"), ["color"])["color"]).dictionary.to_pylist()
    )
    days = columns_of([message(generated("Shape").ShapeT())], SHAPE, ["defaults.weekday", "structs.grid.days"])
    assert "0" not in pa.array(days["defaults.weekday"]).dictionary.to_pylist()
    assert "0" not in pa.array(days["structs.grid.days"]).values.dictionary.to_pylist()


def test_enums_as_numbers_keep_their_type_and_value():
    numbers = [0, 5, -2, 77, -128]
    table = SHAPES.table("shapes.Scalars")
    batch = columns_of(colored(numbers), table, ["color", "far"], enums="number")
    assert batch.to_arrow().schema.types == [pa.int8(), pa.int64()]
    assert batch["color"].to_pylist() == numbers
    assert columns_of(colored(numbers), table, ["color"])["color"].to_numpy().tolist() == numbers


@in_one_test
@pytest.mark.parametrize(
    ("method", "missing"),
    [("to_arrow", "pyarrow"), ("to_pandas", "pandas"), ("to_pandas", "pyarrow"), ("to_polars", "polars")],
)
def test_library_that_is_not_installed_is_named(method, missing, monkeypatch):
    batch = columns_of(numbered_messages(2), LEVEL1, ["value"])
    monkeypatch.setitem(sys.modules, missing, None)
    for each in (batch, batch["value"]):
        with pytest.raises(ImportError, match=rf"needs {missing}: pip install 'flatstream\[columns\]'"):
            getattr(each, method)()


def test_numpy_that_is_not_installed_is_named(monkeypatch):
    batch = columns_of(numbered_messages(2), LEVEL1, ["value"])
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError, match=r"to_numpy\(\) needs numpy: pip install 'flatstream\[numpy\]'"):
        batch["value"].to_numpy()


def test_numbers_of_a_column_are_a_plain_array_without_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    batch = columns_of(numbered_messages(300), LEVEL1)
    numbers = batch["value"].to_array()
    assert numbers.typecode == "i"
    assert numbers.tolist() == batch["value"].to_pylist() == list(range(300))
    with pytest.raises(TypeError, match=r"to_array\(\) needs a column of numbers, and 'name' has large_string$"):
        columns_of([encoded(table_of("Named"), {"name": "a"})], table_of("Named"), ["name"])["name"].to_array()
    table = table_of("Scalars")
    scalars = columns_of([encoded(table, {"truth": True, "f64": 0.5, "color": "Blue"}), encoded(table, {})], table)
    assert [scalars[name].to_array().tolist() for name in ("truth", "f64", "color")] == [[1, 0], [0.5, 0.0], [5, 0]]
    table = table_of("Optionals")
    optional = columns_of([encoded(table, {})], table, ["i32"])
    with pytest.raises(ValueError, match=r"column 'i32' has 1 nulls.*use to_pylist"):
        optional["i32"].to_array()


def test_reading_columns_imports_no_library():
    code = """
import sys
from flatstream import *
schema = Schema.from_file(SCHEMA)
batch = StreamReader(b"").columns(schema.root)
batch.to_pylist(), batch.__arrow_c_stream__(), batch.__arrow_c_array__(), schema.root.arrow_schema()
print([name for name in ("numpy", "pyarrow", "pandas", "polars") if name in sys.modules])
"""
    path = str((SCHEMAS / "shapes.bfbs").resolve())
    assert survives(code.replace("SCHEMA", repr(path))) == ["[]"]


# Errors in streams


def test_error_reaches_the_consumer_with_its_text_after_the_rows_before_it():
    payloads = numbered_messages(30)
    payloads[20] = b"\xff" * 12
    reader = pa.RecordBatchReader.from_stream(batches_of(LEVEL1, payloads, 8))
    assert sum(next(reader).num_rows for _ in range(3)) == 20
    text = "FlatbufferError: a message cannot be read: level1: a table at byte 4294967295 .*frame 20, stream offset"
    with pytest.raises(pa.ArrowInvalid, match=text):
        next(reader)
    assert next(reader).num_rows == 8
    for read in (
        lambda: pl.DataFrame(batches_of(LEVEL1, payloads, 8)),
        lambda: query("select sum(value) from made", made=batches_of(LEVEL1, payloads, 8)),
    ):
        with pytest.raises(Exception, match="FlatbufferError: a message cannot be read"):
            read()
    # Nobody is left with half of it.
    skipping = batches_of(LEVEL1, payloads, 8, on_error="skip")
    assert pl.DataFrame(skipping).height == 29
    assert skipping.skipped == 1


class Broken(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raise OSError(28, "the disk is full of nothing")


def test_notes_of_an_error_reach_the_consumer():
    stream = stream_of(numbered_messages(3), "crc32")
    text = "(?s)FlatbufferError: a message cannot be read: .*\nnothing was read before it: was the stream written"
    with pytest.raises(pa.ArrowInvalid, match=text):
        pa.RecordBatchReader.from_stream(StreamReader(stream).column_batches(LEVEL1)).read_all()
    # Whatever stands in their place.
    for notes, shown in [(["one", "two"], "\none\ntwo"), ([5, "a\ud800\0b"], "\na\\?\\?b"), ("text", ""), (None, "")]:
        error = ValueError("wrong")
        error.__notes__ = notes  # type: ignore[assignment]
        reader = pa.RecordBatchReader.from_stream(Source(ColumnType("", "+s", False), error))
        with pytest.raises(pa.ArrowInvalid, match=f"ValueError: wrong{shown}"):
            next(reader)


def test_fault_of_the_source_reaches_the_consumer_as_such():
    reader = pa.RecordBatchReader.from_stream(StreamReader(Broken()).column_batches(LEVEL1))
    with pytest.raises(OSError, match="the disk is full of nothing"):
        next(reader)


class Source:
    """Gives what it is told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    @property
    def type(self) -> Any:
        return self.answer(0)

    def next_data(self) -> Any:
        return self.answer(-1)

    def answer(self, place: int) -> Any:
        answer = self.answers[place]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return export_stream(self)


@in_one_test
@pytest.mark.parametrize(
    ("error", "raised", "text"),
    [
        (ValueError("odd \0 text"), pa.ArrowInvalid, "ValueError: odd \\? text"),
        (MemoryError("no room"), pa.ArrowMemoryError, "MemoryError: no room"),
        (KeyboardInterrupt(), pa.ArrowInvalid, "KeyboardInterrupt"),
        (OSError("without a number"), OSError, "without a number"),
        (UnicodeError("\ud800"), pa.ArrowInvalid, "UnicodeError: \\?"),
    ],
)
def test_any_exception_becomes_an_error_of_the_stream(error, raised, text):
    with pytest.raises(raised, match=text):
        pa.RecordBatchReader.from_stream(Source(error, None))
    kind = ColumnType("", "+s", False, [ColumnType("a", "i", True)])
    with pytest.raises(raised, match=text):
        pa.RecordBatchReader.from_stream(Source(kind, error)).read_all()


@in_one_test
@pytest.mark.parametrize("answer", [5, "text", object(), (1, 2)])
def test_source_that_gives_no_columns_is_an_error_of_the_stream(answer):
    kind = ColumnType("", "+s", False, [])
    with pytest.raises(pa.ArrowInvalid, match="TypeError"):
        pa.RecordBatchReader.from_stream(Source(kind, answer)).read_all()
    with pytest.raises(pa.ArrowInvalid):
        pa.RecordBatchReader.from_stream(Source(answer, None))


# The protocol


def test_structures_say_what_the_specification_asks():
    batch = columns_of(numbered_messages(10), LEVEL1, ["value", "next.values", "next.next.name"])
    schema_capsule, array_capsule = batch.__arrow_c_array__()
    schema = structure(schema_capsule, b"arrow_schema", ArrowSchema)
    array = structure(array_capsule, b"arrow_array", ArrowArray)
    assert (schema.format, schema.name, schema.n_children, schema.flags) == (b"+s", b"", 3, 0)
    assert [schema.children[i].contents.format for i in range(3)] == [b"i", b"+L", b"U"]
    assert [schema.children[i].contents.name for i in range(3)] == [b"value", b"next.values", b"next.next.name"]
    assert [schema.children[i].contents.flags for i in range(3)] == [0, 2, 2]
    (length,) = ctypes.cast(schema.metadata, ctypes.POINTER(ctypes.c_int32))[:1]
    assert length == 2
    assert (array.length, array.null_count, array.offset, array.n_buffers, array.n_children) == (10, 0, 0, 1, 3)
    assert array.buffers[0] is None
    value, values, name = (array.children[i].contents for i in range(3))
    assert (value.n_buffers, values.n_buffers, name.n_buffers) == (2, 2, 3)
    assert (value.null_count, values.null_count, name.null_count) == (0, 6, 10)
    assert value.buffers[0] is None
    assert list(ctypes.cast(value.buffers[1], ctypes.POINTER(ctypes.c_int32))[:10]) == list(range(10))
    # Rows 0, 3, 6 and 9 have vectors.
    assert ctypes.cast(values.buffers[0], ctypes.POINTER(ctypes.c_uint8))[:2] == [0b01001001, 0b10]
    assert ctypes.cast(values.buffers[1], ctypes.POINTER(ctypes.c_int64))[:11] == [0, 0, 0, 0, 3, 3, 3, 9, 9, 9, 11]
    # All memory is aligned to 8 bytes at least.
    assert all(each.buffers[1] % 8 == 0 for each in (value, values, name))


def test_numbers_are_exported_without_a_copy():
    batch = columns_of(numbered_messages(100), LEVEL1, ["value"])
    array = batch["value"].to_numpy()
    made = structure(batch["value"].__arrow_c_array__()[1], b"arrow_array", ArrowArray)
    assert made.buffers[1] == array.__array_interface__["data"][0]
    assert np.shares_memory(array, batch.to_arrow()["value"].chunk(0).to_numpy())


def traced(call: Any) -> int:
    """How many bytes are left of what `call` takes and does not give back."""
    call()
    gc.collect()
    tracemalloc.start()
    try:
        call()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            call()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_capsules_that_nobody_takes_give_everything_back():
    batch = columns_of(sample_messages(20), SHAPE)
    for export in (
        batch.__arrow_c_array__,
        batch.__arrow_c_stream__,
        batch.__arrow_c_schema__,
        lambda: [column.__arrow_c_array__() for column in batch.values()],
        lambda: batches_of(SHAPE, sample_messages(3)).__arrow_c_stream__(),
    ):
        assert traced(export) < 2000


def test_capsules_that_are_taken_give_everything_back():
    batch = columns_of(sample_messages(20), SHAPE)
    for consume in (
        lambda: pa.record_batch(batch),
        lambda: pa.RecordBatchReader.from_stream(batch).read_all(),
        lambda: pa.RecordBatchReader.from_stream(batches_of(SHAPE, sample_messages(9), 2)).read_next_batch(),
        lambda: pa.schema(batch),
    ):
        assert traced(consume) < 3000


def test_consumer_outlives_the_batch_the_reader_and_the_schema():
    def read() -> Any:
        payloads = numbered_messages(500)
        schema = type(SHAPES).from_file(SCHEMAS / "shapes.bfbs")
        reader = StreamReader(io.BytesIO(stream_of(payloads)))
        return reader.columns(schema.table("shapes.Level1")).to_arrow()

    made = read()
    gc.collect()
    assert made["value"].to_pylist() == list(range(500))
    made.validate(full=True)


def test_memory_lives_as_long_as_a_consumer_holds_it():
    batch = columns_of(numbered_messages(50), LEVEL1, ["value"])
    _, capsule = batch.__arrow_c_array__()
    moved = copy_of(structure(capsule, b"arrow_array", ArrowArray))
    watched = weakref.ref(batch)
    del batch, capsule
    gc.collect()
    assert watched() is None
    child = moved.children[0].contents
    assert ctypes.cast(child.buffers[1], ctypes.POINTER(ctypes.c_int32))[49] == 49
    # From a thread that Python has not started.
    release_from_another_thread(moved)
    assert not moved.release


def release_from_another_thread(made: Any) -> None:
    thread = threading.Thread(target=release, args=(made,))
    thread.start()
    thread.join()


def test_child_that_was_taken_out_outlives_its_parent():
    batch = columns_of(numbered_messages(50), LEVEL1, ["value", "next"])
    schema_capsule, array_capsule = batch.__arrow_c_array__()
    del batch
    array = copy_of(structure(array_capsule, b"arrow_array", ArrowArray))
    schema = copy_of(structure(schema_capsule, b"arrow_schema", ArrowSchema))
    child, child_schema = copy_of(array.children[0].contents), copy_of(schema.children[0].contents)
    release(array)
    release(schema)
    assert not array.release
    gc.collect()
    assert ctypes.cast(child.buffers[1], ctypes.POINTER(ctypes.c_int32))[:50] == list(range(50))
    assert (child_schema.format, child_schema.name) == (b"i", b"value")
    release(child)
    release(child_schema)


def test_capsule_that_was_taken_is_not_taken_again():
    batch = columns_of(numbered_messages(5), LEVEL1)
    schema_capsule, array_capsule = batch.__arrow_c_array__()

    class Twice:
        def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
            return schema_capsule, array_capsule

    assert pa.record_batch(Twice()).num_rows == 5
    with pytest.raises(pa.ArrowInvalid, match="released"):
        pa.record_batch(Twice())
    stream_capsule = batch.__arrow_c_stream__()

    class TwiceStream:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return stream_capsule

    assert pa.RecordBatchReader.from_stream(TwiceStream()).read_all().num_rows == 5
    with pytest.raises(pa.ArrowInvalid, match="released"):
        pa.RecordBatchReader.from_stream(TwiceStream())
    # The batch itself can be exported as often as anybody likes.
    assert pa.record_batch(batch).equals(pa.record_batch(batch))


def test_stream_is_read_through_the_functions_of_its_structure():
    payloads = numbered_messages(10)
    payloads[5] = b"\1"
    stream = batches_of(LEVEL1, payloads, 100)
    capsule = stream.__arrow_c_stream__()
    made = structure(capsule, b"arrow_array_stream", ArrowArrayStream)
    schema = ArrowSchema()
    assert made.get_schema(ctypes.pointer(made), ctypes.pointer(schema)) == 0
    assert (schema.format, schema.n_children) == (b"+s", 2)
    release(schema)
    assert made.get_last_error(ctypes.pointer(made)) is None
    array = ArrowArray()
    assert made.get_next(ctypes.pointer(made), ctypes.pointer(array)) == 0
    assert array.length == 5
    release(array)
    assert made.get_next(ctypes.pointer(made), ctypes.pointer(array)) == 22
    assert not array.release
    text = ctypes.string_at(made.get_last_error(ctypes.pointer(made)))
    assert text.startswith(b"FlatbufferError: a message cannot be read: level1: the offset of the root")
    assert made.get_next(ctypes.pointer(made), ctypes.pointer(array)) == 0
    assert array.length == 4
    release(array)
    # The end: a released array, again and again.
    for _ in range(2):
        assert made.get_next(ctypes.pointer(made), ctypes.pointer(array)) == 0
        assert not array.release
    release(made)
    assert not made.release


def test_stream_and_iterator_take_from_the_same_messages():
    stream = batches_of(LEVEL1, numbered_messages(10), 4)
    first = next(stream)
    assert isinstance(first, ColumnBatch)
    assert pa.RecordBatchReader.from_stream(stream).read_all()["value"].to_pylist() == [4, 5, 6, 7, 8, 9]
    assert first["value"].to_pylist() == [0, 1, 2, 3]
    assert next(stream, None) is None


def test_batch_is_a_stream_as_often_as_it_is_asked():
    batch = columns_of(numbered_messages(10), LEVEL1)
    for _ in range(3):
        assert pa.RecordBatchReader.from_stream(batch).read_all().num_rows == 10
    assert pa.array(batch["value"]).to_pylist() == list(range(10))
    assert pl.Series(batch["value"]).to_list() == list(range(10))


def test_release_after_the_interpreter_has_ended_harms_nobody():
    # A library's own threads and static objects may let go of memory after Python has: here, as the process exits.
    code = f"""
import sys
sys.path[:0] = {[str(TESTS), *sys.path]!r}
import ctypes
from support import arrow_abi
from support.columns import LEVEL1, columns_of
from support.messages import numbered_messages
batch = columns_of(numbered_messages(5), LEVEL1)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.__cxa_atexit.argtypes = [ctypes.c_void_p] * 3
for capsule, name, kind in zip(
    (*batch.__arrow_c_array__(), batch.__arrow_c_stream__()),
    (b"arrow_schema", b"arrow_array", b"arrow_array_stream"),
    (arrow_abi.ArrowSchema, arrow_abi.ArrowArray, arrow_abi.ArrowArrayStream),
):
    moved = arrow_abi.copy_of(arrow_abi.structure(capsule, name, kind))
    place = libc.malloc(ctypes.sizeof(moved))
    ctypes.memmove(place, ctypes.addressof(moved), ctypes.sizeof(moved))
    assert libc.__cxa_atexit(moved.release, place, None) == 0
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]


def test_many_rows_are_exported_in_batches_that_add_up():
    payloads = numbered_messages(50) * 400
    total = 0
    for batch in pa.RecordBatchReader.from_stream(batches_of(LEVEL1, payloads, 65_536)):
        batch.validate(full=True)
        total += batch.num_rows
    assert total == 20_000


def test_memory_that_runs_out_anywhere_is_an_error_and_harms_nothing():
    # Some builds of Python come without.
    pytest.importorskip("_testcapi")
    code = """
import _testcapi
import pyarrow
from reference.columns import bits, in_arrow
from support.columns import SHAPE, stream_of
from support.messages import grid_message, sample_messages
stream = stream_of([grid_message(2), *sample_messages(6)])
expected = bits(StreamReader(stream).columns(SHAPE).to_pylist())

def fails(call, place):
    _testcapi.set_nomemory(place, place + 1)
    try:
        return call()
    except MemoryError:
        return None
    finally:
        _testcapi.remove_mem_hooks()

failed = lost = 0
for place in range(0, 3000, 5):
    batches = StreamReader(stream).column_batches(SHAPE)
    batch = fails(lambda: next(batches), place)
    if batch is None:
        failed += 1
        # Once more: all rows are there, unless it was their columns that could not be made.
        batch = next(batches, None)
    if batch is None:
        lost += 1
    else:
        assert bits(batch.to_pylist()) == expected, place
print(failed > 200, 0 < lost < failed)
failed = 0
for place in range(0, 6000, 11):
    capsules = fails(batch.__arrow_c_array__, place)
    failed += capsules is None
    del capsules
assert bits(pyarrow.table(batch).to_pylist()) == in_arrow(expected)
print(failed > 100)
"""
    assert survives(code) == ["True True", "True"]

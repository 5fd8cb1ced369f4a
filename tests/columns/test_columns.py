"""Columns: generated code in, columns out, value for value; and what is refused, and where.

`reference.columns.Reference` is the judge: slow, in Python, by the `flatbuffers` package's own access to messages. What
flatc generates is the other: its object API, and its accessors.
"""

from __future__ import annotations

import gc
import importlib
import io
import math
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flatbuffers.table import Table as RawTable
from hypothesis import given, settings
from hypothesis import strategies as st

import flatstream
from flatstream import (
    ColumnBatch,
    ColumnStream,
    FlatbufferError,
    StreamReader,
)
from flatstream._core.column_reader.plan import ReadPlan
from flatstream._core.column_reader.reader import ColumnReader
from reference.columns import Reference, bits, in_arrow
from support import strategies
from support.columns import LEVEL1, NAMED, SHAPE, columns_of, named_message, stream_of
from support.extent import EVERYTHING, in_one_test, spread
from support.messages import (
    event_payloads,
    extreme_messages,
    grid_message,
    message,
    numbered_messages,
    root_at,
    sample_messages,
    union_message,
)
from support.processes import survives
from support.schemas import SCHEMAS, SHAPES, VECTORS, generated, schema_of


def check(batch: ColumnBatch, expected: list[dict[str, Any]]) -> None:
    """The batch has these rows, and so has what pyarrow makes of it."""
    assert batch.num_rows == len(expected)
    assert bits(batch.to_pylist()) == bits(expected)
    table = batch.to_arrow()
    table.validate(full=True)
    assert bits(table.to_pylist()) == bits([in_arrow(row) if row else row for row in expected])


# What generated code wrote


@settings(max_examples=250 if EVERYTHING else 10)
@given(st.lists(strategies.shapes, max_size=5), st.sampled_from(["dictionary", "number"]), st.booleans())
def test_random_messages_come_out_as_the_reference_reads_them(made, enums, verify):
    payloads = [message(each) for each in made]
    reference = Reference(SHAPES, enums)
    check(
        columns_of(payloads, enums=enums, verify=verify), [reference.record("shapes.Shape", each) for each in payloads]
    )


TABLES = {
    "Scalars": strategies.scalars,
    "Defaults": strategies.defaults,
    "Optionals": strategies.optionals,
    "Vectors": strategies.vectors,
    "Structs": strategies.structs,
    "Named": strategies.nameds,
    "Level1": strategies.level1s,
    "Tree": strategies.trees,
    "Numbered": strategies.numbereds,
    "Old": strategies.olds,
    "Unions": strategies.unions,
    "Holder": strategies.holders,
    "Empty": strategies.empties,
}


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=120 if EVERYTHING else 5)
@given(st.data())
def test_each_table_comes_out_as_the_reference_reads_it(name, data):
    payloads = [message(each) for each in data.draw(st.lists(TABLES[name], min_size=1, max_size=4))]
    table = SHAPES.table(f"shapes.{name}")
    check(columns_of(payloads, table), [Reference(SHAPES).record(table.name, each) for each in payloads])


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def plain(value: Any, kind: Any, around: tuple[int, ...] = ()) -> Any:
    """A value of the object API as a column has it, with enums as numbers."""
    objects = SHAPES._info.objects
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, np.ndarray)):
        if kind.element.name == "UBYTE" and kind.index < 0:
            return bytes(bytearray(value))
        element = type(kind)(kind.element, index=kind.index)
        return [plain(item, element, around) for item in value]
    if kind.base.name == "OBJ":
        info = objects[kind.index]
        within = around if info.is_struct else (*around, kind.index)
        return {
            item.name: plain(getattr(value, {"from": "from_"}.get(item.name, camel(item.name))), item.type, within)
            for item in info.fields
            if item.type.inner.name not in ("UNION", "UTYPE")
            and not item.deprecated
            and item.name not in ("grid", "grids")
            and not (item.type.inner.name == "OBJ" and item.type.index in within)
        }
    return value.item() if isinstance(value, np.generic) else value


def without(value: Any) -> Any:
    """Rows without what the object API cannot read (fixed arrays) and unions, which it has otherwise."""
    if isinstance(value, list):
        return [without(item) for item in value]
    if isinstance(value, dict):
        return {
            name: without(inner)
            for name, inner in value.items()
            if name not in ("grid", "grids", "choice", "other", "must") and not name.endswith("_type")
        }
    return value


@settings(max_examples=25)
@given(strategies.shapes)
def test_columns_are_what_the_object_api_reads(made):
    payload = message(made)
    module = generated("Shape")
    again = module.ShapeT.InitFromBuf(bytearray(payload), root_at(payload))
    kind = SHAPES._info.objects[SHAPE.number].fields[0].type
    expected = plain(again, type(kind)(type(kind.base).OBJ, index=SHAPE.number))
    if expected["defaults"] is not None and expected["defaults"]["u64"] == 2**64 - 1:
        # Absent: flatc 2.0.8 writes no default into the schema that is too much for a long.
        expected["defaults"]["u64"] = 0
    (row,) = columns_of([payload], enums="number").to_pylist()
    assert bits(without(row)) == bits(expected)


def test_columns_of_scalars_are_what_the_accessors_return():
    scalars = importlib.import_module("shapes.Scalars")
    rng = random.Random(5)
    payloads = []
    for _ in range(300):
        made = scalars.ScalarsT()
        for name, (low, high) in {
            "i8": (-128, 127), "u8": (0, 255), "i16": (-(2**15), 2**15 - 1), "u16": (0, 2**16 - 1),
            "i32": (-(2**31), 2**31 - 1), "u32": (0, 2**32 - 1), "i64": (-(2**63), 2**63 - 1), "u64": (0, 2**64 - 1),
        }.items():  # fmt: skip
            setattr(made, name, rng.choice([low, high, 0, rng.randint(low, high)]))
        made.truth, made.f32, made.f64 = rng.random() < 0.5, rng.choice([math.nan, math.inf, -0.0, 1.5]), rng.random()
        payloads.append(message(made))
    arrays = columns_of(payloads, SHAPES.table("shapes.Scalars")).to_numpy()
    for name, accessor, dtype in [
        ("truth", "Truth", "?"), ("i8", "I8", "i1"), ("u8", "U8", "u1"), ("i16", "I16", "i2"), ("u16", "U16", "u2"),
        ("i32", "I32", "i4"), ("u32", "U32", "u4"), ("i64", "I64", "i8"), ("u64", "U64", "u8"), ("f32", "F32", "f4"),
        ("f64", "F64", "f8"), ("color", "Color", "i1"),
    ]:  # fmt: skip
        array = arrays[name]
        assert array.dtype == dtype
        assert not isinstance(array, np.ma.MaskedArray)
        read = [getattr(scalars.Scalars.GetRootAs(payload), accessor)() for payload in payloads]
        assert bits(array.tolist()) == bits(read)


def test_events_of_the_telemetry_agent_come_out_as_the_reference_reads_them():
    schema = schema_of("telemetry")
    payloads = event_payloads(50)
    check(columns_of(payloads, schema.root), [Reference(schema).record("telemetry.Event", each) for each in payloads])


def test_monster_of_flatc_comes_out_as_the_reference_reads_it():
    schema = schema_of("monster_test")
    assert schema.root is not None
    payload = (VECTORS / "verifier" / "monsterdata_python_wire.mon").read_bytes()
    check(columns_of([payload] * 3, schema.root), [Reference(schema).record(schema.root.name, payload)] * 3)


@pytest.mark.parametrize("writer", ["shapes", "shapes_v2"])
@pytest.mark.parametrize("reader", ["shapes", "shapes_v2"])
@settings(max_examples=80 if EVERYTHING else 4)
@given(st.data())
def test_older_and_newer_schemas_read_the_same_messages(writer, reader, data):
    made = data.draw(strategies.shapes)
    payload = message(made)
    if writer == "shapes_v2":
        module = generated("Shape", "shapes_v2")
        for part in (SCHEMAS / "shapes_v2").glob("*.py"):
            generated(part.stem, "shapes_v2")
        # What the other version wrote, with more: read by the newer code, extended, and written again.
        later = module.ShapeT.InitFromBuf(bytearray(payload), root_at(payload))
        later.added = generated("Added", "shapes_v2").AddedT()
        later.added.words = ["new", "wörds"]
        later.color2 = 6
        if later.named is not None:
            later.named.tags = ["a", "b"]
        if later.scalars is not None:
            later.scalars.more, later.scalars.color = 9, 6
        payload = message(later)
    schema = schema_of(reader)
    name = f"{reader}.Shape"
    check(columns_of([payload] * 2, schema.table(name)), [Reference(schema).record(name, payload)] * 2)


MEMBERS = st.lists(st.tuples(st.integers(1, 5), strategies.FLOATS, strategies.TEXTS), max_size=5)


@given(st.lists(MEMBERS, max_size=4))
def test_unions_of_structs_and_strings_and_vectors_of_unions_come_out(members):
    schema = schema_of("unions")
    table = schema.table("unions.Holder")
    payloads = [union_message(each) for each in members]
    for verify in (False, True):
        check(
            columns_of(payloads, table, verify=verify),
            [Reference(schema).record(table.name, each) for each in payloads],
        )
    batch = columns_of(payloads, table, ["one.Text", "one.First.x", "one.Named.name", "one_type", "one.Wide"])
    names = ["NONE", "Named", "First", "Second", "Wide", "Text"]
    assert batch["one_type"].to_pylist() == [names[each[0][0]] if each else "NONE" for each in members]
    assert batch["one.Text"].to_pylist() == [each[0][2] if each and each[0][0] == 5 else None for each in members]
    assert batch["one.Named.name"].to_pylist() == [each[0][2] if each and each[0][0] == 1 else None for each in members]
    assert bits(batch["one.First.x"].to_pylist()) == bits(
        [-each[0][1] if each and each[0][0] == 2 else None for each in members]
    )


def test_fixed_arrays_come_out_as_the_reference_reads_them():
    payloads = [grid_message(seed) for seed in range(60)]
    reference = Reference(SHAPES)
    check(columns_of(payloads), [reference.record("shapes.Shape", each) for each in payloads])
    paths = ["structs.grid.cells", "structs.grid.days", "structs.grid.bits", "structs.grid.corners"]
    batch = columns_of(payloads, SHAPE, paths)
    check(batch, [{path: reference.at("shapes.Shape", each, path) for path in paths} for each in payloads])
    cells = batch["structs.grid.cells"].to_numpy()
    assert (cells.shape, cells.dtype) == ((60, 3), np.dtype("i4"))
    there = [value for value in batch["structs.grid.cells"].to_pylist() if value is not None]
    assert cells[~cells.mask[:, 0]].tolist() == there
    assert 0 < len(there) < 60
    # As numbers; their names are for to_pylist and Arrow.
    assert batch["structs.grid.days"].to_numpy().dtype == "u2"


# Chosen fields

PATHS = Reference(SHAPES).paths("shapes.Shape", 4)


def test_paths_that_subsets_are_drawn_from_are_many_and_of_all_kinds():
    assert len(PATHS) > 250
    assert {"id", "level.next.next.name", "structs.nest.line.from", "choice.Named.name", "tree.left.left.value"} <= set(
        PATHS
    )


@settings(max_examples=400 if EVERYTHING else 15)
@given(st.lists(strategies.shapes, max_size=4), st.lists(st.sampled_from(PATHS), unique=True, max_size=12))
def test_random_subset_of_fields_comes_out_as_the_reference_reads_it(made, paths):
    payloads = [message(each) for each in made]
    reference = Reference(SHAPES)
    expected = [{path: reference.at("shapes.Shape", each, path) for path in paths} for each in payloads]
    batch = columns_of(payloads, SHAPE, paths)
    assert batch.names == tuple(paths)
    check(batch, expected)


def test_every_path_by_itself_comes_out_as_the_reference_reads_it():
    rng = random.Random(3)
    payloads = [grid_message(seed) for seed in range(3)] + sample_messages(12)
    rng.shuffle(payloads)
    reference = Reference(SHAPES)
    for path in spread(PATHS, 3):
        batch = columns_of(payloads, SHAPE, [path])
        assert bits(batch[path].to_pylist()) == bits([reference.at("shapes.Shape", each, path) for each in payloads]), (
            path
        )


def test_recursion_is_left_out_and_told_and_can_be_asked_for():
    tree = generated("Tree").TreeT
    leaf, inner, root = tree(), tree(), tree()
    leaf.value, leaf.label = 3, "leaf"
    inner.value, inner.left = 2, leaf
    root.value, root.left, root.children = 1, inner, [leaf, inner]
    table = SHAPES.table("shapes.Tree")
    schema = table.arrow_schema()
    assert schema.names == ("value", "label")
    assert schema.metadata["flatstream.recursive"].split("\n") == ["left", "right", "children"]
    assert "flatstream.recursive" not in table.arrow_schema(["value"]).metadata
    batch = columns_of([message(root)], table, ["left.left.label", "left.left.left.value", "children", "left"])
    assert batch.to_pylist() == [
        {
            "left.left.label": "leaf",
            "left.left.left.value": None,
            "children": [{"value": 3, "label": "leaf"}, {"value": 2, "label": None}],
            "left": {"value": 2, "label": None},
        }
    ]
    assert batch.schema.metadata["flatstream.recursive"].split("\n")[:3] == [
        "children.left",
        "children.right",
        "children.children",
    ]


@in_one_test
@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        (["nome"], KeyError, "no field 'nome' in shapes.Shape; it has 'scalars', 'defaults'"),
        (["named.nome"], KeyError, r"no field 'nome' in shapes.Named \(at 'named'\); it has 'name', 'note', 'code'"),
        (["choice.Nome"], KeyError, "no variant 'Nome' in union 'choice'; it has 'Named', 'Level1', 'Empty', 'Tree'"),
        (["choice.NONE"], KeyError, "no variant 'NONE'"),
        (["old.gone"], KeyError, "no field 'gone' in shapes.Old"),
        ([""], KeyError, "no field ''"),
        (["named."], KeyError, "no field ''"),
        (["named..name"], KeyError, "no field ''"),
        (["vectors.named.name"], ValueError, "goes through 'named', which is a vector"),
        (["structs.grid.corners.x"], ValueError, "goes through 'corners', which is an array"),
        (["title.x"], ValueError, "goes through 'title', which is no table or struct"),
        (["id.x"], ValueError, "goes through 'id', which is no table or struct"),
        (["id", "id"], ValueError, "field 'id' is selected twice"),
        (["tree" + ".left" * 70], ValueError, "has more than 60 names"),
        ("id", TypeError, "fields must be an iterable of paths, got a single str: 'id'"),
        (b"id", TypeError, "fields must be an iterable of paths"),
        ([1], TypeError, "the path of a field must be a str, got int"),
        (5, TypeError, "not iterable"),
    ],
)
def test_wrong_field_is_refused_with_what_is_known(fields, error, text):
    reader = StreamReader(stream_of(sample_messages(1)))
    for attempt in (
        lambda: reader.columns(SHAPE, fields),
        lambda: reader.column_batches(SHAPE, fields),
        lambda: SHAPE.arrow_schema(fields),
    ):
        with pytest.raises(error, match=text):
            attempt()
    # Nothing was read.
    assert reader.frames_read == 0


def test_path_through_a_unions_string_is_refused():
    with pytest.raises(ValueError, match=r"goes through one\.Text, which is no table or struct"):
        schema_of("unions").table("unions.Holder").arrow_schema(["one.Text.x"])


def test_no_fields_give_rows_without_columns_and_still_look_at_the_tables():
    batch = columns_of(sample_messages(3), SHAPE, [])
    assert (batch.num_rows, len(batch), batch.to_pylist()) == (3, 0, [{}, {}, {}])
    with pytest.raises(FlatbufferError, match="shape: a table at byte"):
        columns_of([b"\xff" * 8], SHAPE, [])


def test_fields_may_come_from_an_iterator():
    assert columns_of(sample_messages(2), SHAPE, iter(["id", "title"])).names == ("id", "title")


# Batches


@in_one_test(step=3)
@pytest.mark.parametrize("capacity", [64, 1000, 256 * 1024])
@pytest.mark.parametrize("batch_rows", [1, 7, 100, 65_536, None])
@pytest.mark.parametrize("from_bytes", [True, False])
@pytest.mark.parametrize("checksum", ["none", "crc16", "xxhash64"])
def test_batches_together_are_what_one_batch_is(capacity, batch_rows, from_bytes, checksum):
    payloads = numbered_messages(250)
    stream = stream_of(payloads, checksum)
    source = stream if from_bytes else io.BytesIO(stream)
    whole = StreamReader(stream, checksum).columns(LEVEL1)
    reader = StreamReader(source, checksum, capacity=capacity)
    batches = reader.column_batches(LEVEL1, batch_rows=batch_rows)
    assert isinstance(batches, ColumnStream)
    found = list(batches)
    assert [row for batch in found for row in batch.to_pylist()] == whole.to_pylist()
    assert all(1 <= batch.num_rows <= (batch_rows or 250) for batch in found)
    if batch_rows is not None:
        assert all(batch.num_rows == min(batch_rows, 250) for batch in found[:-1])
    assert reader.frames_read == 250
    assert next(batches, None) is None
    for batch in found:
        batch.to_arrow().validate(full=True)


def test_stream_without_messages_gives_no_rows_and_no_batches():
    batch = StreamReader(b"").columns(SHAPE)
    check(batch, [])
    assert all(array.shape[0] == 0 for array in batch.to_numpy().values())
    assert list(StreamReader(b"").column_batches(SHAPE)) == []


def test_columns_are_of_the_messages_that_are_left():
    payloads = numbered_messages(10)
    reader = StreamReader(stream_of(payloads))
    for _ in range(4):
        reader.read_message()
    assert reader.columns(LEVEL1, ["value"])["value"].to_pylist() == [4, 5, 6, 7, 8, 9]
    assert reader.columns(LEVEL1, ["value"]).num_rows == 0


def test_unaligned_messages_come_out_the_same():
    payloads = sample_messages(8)
    expected = [Reference(SHAPES).record("shapes.Shape", each) for each in payloads]
    for checksum in ("none", "crc16"):
        stream = stream_of(payloads, checksum)
        for shift in range(8):
            source = memoryview(bytes(shift) + stream)[shift:]
            check(StreamReader(source, checksum).columns(SHAPE), expected)


def test_tables_of_thousands_of_shapes_come_out_as_the_reference_reads_them():
    """More than the table of shapes keeps: each has other fields."""
    rng = random.Random(1)
    names = ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "access", "wide", "far", "color"]
    chosen = rng.sample(range(2**13), 6000)
    builder = flatstream.Builder(256)
    payloads = []
    order = list(range(13))
    for number in chosen:
        builder.Clear()
        rng.shuffle(order)
        builder.StartObject(15)
        for slot in order:
            if number >> slot & 1:
                if slot < 3:
                    builder.PrependUint8Slot(slot, 1, 0)
                else:
                    builder.PrependUint64Slot(slot, number + slot, 0)
        builder.Finish(builder.EndObject())
        payloads.append(bytes(memoryview(builder)))
    batch = columns_of(payloads, SHAPES.table("shapes.Scalars"), [*names, "f64"])
    reference = Reference(SHAPES)
    expected = [reference.record("shapes.Scalars", each) for each in payloads]
    assert bits(batch.to_pylist()) == bits([{name: row[name] for name in [*names, "f64"]} for row in expected])
    # Once more in batches, between which the table of shapes is begun anew.
    stream = StreamReader(stream_of(payloads * 2)).column_batches(
        SHAPES.table("shapes.Scalars"), ["u64", "i8"], batch_rows=5000
    )
    found: list[int] = [value for each in stream for value in each["u64"].to_pylist()]
    assert found == [row["u64"] for row in expected] * 2


def test_progress_is_told_rows_and_offset_after_each_batch_of_frames():
    payloads = numbered_messages(20_000)
    stream = stream_of(payloads)
    told: list[tuple[int, int]] = []
    batch = StreamReader(stream).columns(LEVEL1, ["value"], progress=lambda *numbers: told.append(numbers))
    assert batch.num_rows == 20_000
    assert [rows for rows, _ in told] == [8192, 16384, 20_000]
    assert told[0][1] == sum(4 + len(each) for each in payloads[:8192])
    assert told[-1][1] == len(stream)
    told.clear()
    # Rows that a filter lets through.
    StreamReader(stream).columns(LEVEL1, ["value"], ("value", 100, 150), progress=lambda *numbers: told.append(numbers))
    assert [rows for rows, _ in told] == [50, 50, 50]


def test_progress_that_raises_loses_nothing():
    def stop(rows: int, offset: int) -> None:
        raise ZeroDivisionError

    stream = StreamReader(stream_of(numbered_messages(10))).column_batches(LEVEL1, ["value"], progress=stop)
    assert next(stream)["value"].to_pylist() == list(range(10))
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert next(stream, None) is None


def test_progress_that_reads_on_is_refused():
    found: list[int] = []

    def read_on(rows: int, offset: int) -> None:
        with pytest.raises(RuntimeError, match="in the middle of another operation"):
            next(stream)
        found.append(rows)

    stream = StreamReader(stream_of(numbered_messages(10))).column_batches(LEVEL1, ["value"], progress=read_on)
    assert next(stream).num_rows == 10
    assert found == [10]


def test_threads_that_share_a_stream_get_every_row_once():
    payloads = numbered_messages(5000)
    stream = StreamReader(io.BytesIO(stream_of(payloads)), capacity=2000).column_batches(
        LEVEL1, ["value"], batch_rows=50
    )
    found: list[list[int]] = []

    def run() -> None:
        for batch in stream:
            found.append(batch["value"].to_pylist())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(value for values in found for value in values) == list(range(5000))
    assert all(values == sorted(values) for values in found)


@pytest.mark.parametrize("take", [bytes, bytearray, io.BytesIO], ids=["bytes", "bytearray", "file"])
def test_other_threads_run_while_columns_are_read(take):
    stream = stream_of(numbered_messages(3000)) * 300
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.0005):
            ticks.append(time.perf_counter())

    def ticks_within() -> int:
        """How often the other thread ran in the middle of a reading."""
        source = take(stream)
        begin = time.perf_counter()
        batch = StreamReader(source).columns(LEVEL1)
        end = time.perf_counter()
        assert batch.num_rows == 900_000
        margin = (end - begin) / 10
        return sum(begin + margin < moment < end - margin for moment in ticks)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        # If the lock were held from end to end, there would be none however often it is tried.
        assert any(ticks_within() for _ in range(20))
    finally:
        stop.set()
        thread.join()


def test_signal_interrupts_the_reading_of_a_stream_in_memory():
    code = """
import signal, sys, threading, time, os
from support.columns import LEVEL1, stream_of
from support.messages import numbered_messages
stream = stream_of(numbered_messages(3000)) * 2000
reader = StreamReader(stream)
main = threading.get_ident()
def interrupt():
    while not reader.frames_read:
        time.sleep(0.001)
    signal.pthread_kill(main, signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    reader.columns(LEVEL1)
except KeyboardInterrupt:
    print("interrupted", 0 < reader.frames_read < 6_000_000)
"""
    assert survives(code) == ["interrupted True"]


# Strings


BAD_TEXTS = [
    b"\x80", b"\xff", b"abc\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x82\x82\xac",
    b"x" * 31 + b"\xe2\x82", b"x" * 64 + b"\xbf",
]  # fmt: skip


@in_one_test
@pytest.mark.parametrize(
    "text", ["", "a", "ä", "x" * 7 + "ß", "€uro", "\U0001f600" * 9, "nul\0inside", "x" * 100, "x" * 63 + "é"]
)
def test_text_comes_out_as_it_is(text):
    payloads = [named_message(each.encode()) for each in ("before", text, "after")]
    assert columns_of(payloads, NAMED, ["name"])["name"].to_pylist() == ["before", text, "after"]


@in_one_test
@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bytes_that_are_no_utf8_are_damage_even_if_a_neighbour_completes_them(text):
    payloads = [named_message(each) for each in (b"a", text, b"\x82\x83", b"end")]
    with pytest.raises(FlatbufferError, match=r"named\.name: a string that is not UTF-8 at byte \d+ \(frame 1"):
        columns_of(payloads, NAMED, ["name"])
    batch = columns_of(payloads, NAMED, ["name"], on_error="skip")
    assert (batch["name"].to_pylist(), batch.skipped) == (["a", "end"], 2)


def test_binary_is_not_looked_at():
    holder = generated("Holder").HolderT()
    holder.raw, holder.inner = [0xFF, 0, 0x80], []
    batch = columns_of([message(holder)], SHAPES.table("shapes.Holder"))
    assert batch.to_pylist() == [{"inner": b"", "inner_shape": None, "raw": b"\xff\0\x80"}]


# Arguments and objects


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"on_error": "ignore"}, ValueError, "on_error must be 'raise', 'skip', 'stop' or 'resync', got 'ignore'"),
        ({"enums": "name"}, ValueError, "enums must be 'dictionary' or 'number', got 'name'"),
        ({"progress": 5}, TypeError, "progress must be callable, got int"),
    ],
)
def test_wrong_option_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        columns_of([], SHAPE, **options)


@in_one_test
@pytest.mark.parametrize(
    ("rows", "error"), [(0, ValueError), (-1, ValueError), (2**31, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_wrong_number_of_rows_is_refused(rows, error):
    with pytest.raises(error, match="batch_rows must be "):
        next(StreamReader(b"").column_batches(SHAPE, batch_rows=rows))


def test_closed_reader_gives_no_columns():
    reader = StreamReader(b"")
    batches = reader.column_batches(SHAPE)
    reader.close()
    for attempt in (lambda: next(batches), lambda: reader.columns(SHAPE)):
        with pytest.raises(ValueError, match="closed"):
            attempt()


def test_table_reads_what_the_reader_reads():
    stream = stream_of(numbered_messages(5))
    batch = LEVEL1.read_columns(StreamReader(stream), ["value"])
    assert batch["value"].to_pylist() == [0, 1, 2, 3, 4]
    (other,) = LEVEL1.read_column_batches(StreamReader(stream), ["value"])
    assert other.to_pylist() == batch.to_pylist()
    with pytest.raises(TypeError, match="reader must be a StreamReader, got BytesIO"):
        LEVEL1.read_columns(io.BytesIO(stream))  # type: ignore[arg-type]


def test_batch_is_a_mapping_of_columns():
    batch = columns_of(numbered_messages(4), LEVEL1)
    assert list(batch) == list(batch.keys()) == ["value", "next"] == list(batch.names)
    assert (len(batch), batch.num_rows, "value" in batch, "other" in batch) == (2, 4, True, False)
    assert [len(column) for column in batch.values()] == [4, 4]
    column = batch["next"]
    assert column.name == "next"
    assert column.null_count == 2
    assert column.type.startswith("struct<next: struct<name: large_string,")
    assert repr(batch["value"]) == "<Column 'value' of 4 int32>"
    assert repr(batch) == "<ColumnBatch of 4 rows in 2 columns>"
    assert batch == batch
    assert batch != columns_of(numbered_messages(4), LEVEL1)
    assert len({batch}) == 1
    with pytest.raises(KeyError, match="no column 'other'; there are 'value', 'next'"):
        batch["other"]


def test_arrays_are_read_only_views_of_the_columns_memory_and_outlive_the_batch():
    batch = columns_of(numbered_messages(1000), LEVEL1, ["value"])
    first, second = batch["value"].to_numpy(), batch.to_numpy()["value"]
    assert np.shares_memory(first, second)
    assert not first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    del batch, second
    assert first.tolist() == list(range(1000))


def test_arrays_with_nulls_are_masked_and_others_are_not():
    payloads = extreme_messages()
    batch = columns_of(payloads, SHAPE, ["optionals.i32", "id", "scalars.i32", "optionals.truth"])
    arrays = batch.to_numpy()
    assert not isinstance(arrays["id"], np.ma.MaskedArray)
    for name in ("optionals.i32", "scalars.i32", "optionals.truth"):
        assert isinstance(arrays[name], np.ma.MaskedArray)
        assert arrays[name].tolist() == batch[name].to_pylist()
        assert arrays[name].mask.sum() == batch[name].null_count
    assert arrays["optionals.truth"].dtype == bool


def every_column() -> Iterator[tuple[Any, list[Any]]]:
    """Columns of every kind, also of nested fields, and the values they are to have."""
    for payloads in (list(extreme_messages()), sample_messages(20), [grid_message(seed) for seed in range(7)]):
        batch = columns_of(payloads)
        yield from ((batch[name], batch[name].to_pylist()) for name in batch.names)
        deeper = columns_of(payloads, SHAPE, ["structs.grid.cells", "named.name", "optionals.i64", "scalars.color"])
        yield from ((column, column.to_pylist()) for column in deeper.values())


def test_column_is_a_sequence_of_its_values():
    for column, expected in every_column():
        size = len(expected)
        assert bits(list(column)) == bits(expected)
        assert bits([column[row] for row in range(-size, size)]) == bits(expected * 2)
        for part in (slice(None), slice(2, -1), slice(-1, None, -2), slice(4, 1), slice(1, 2), slice(size, None, 3)):
            assert bits(column[part]) == bits(expected[part])
        for row in (size, -size - 1):
            with pytest.raises(IndexError, match=f"row {row} of a column of {size}"):
                column[row]
    column = columns_of(numbered_messages(3000), LEVEL1, ["value"])["value"]
    assert list(column) == list(range(3000))
    assert column[np.int16(-1)] == 2999
    assert 17 in column
    for wrong in ("value", 1.0, None):
        with pytest.raises(TypeError, match="a row of a column must be an int or a slice, got "):
            column[wrong]  # type: ignore[call-overload]


def test_numpy_takes_a_column_for_its_array():
    column = columns_of(numbered_messages(50), LEVEL1, ["value"])["value"]
    array = np.asarray(column)
    assert array.dtype == np.int32
    assert array.tolist() == list(range(50))
    assert np.shares_memory(array, column.to_numpy())
    assert np.shares_memory(column.__array__(copy=False), array)
    for copy in (np.array(column), column.__array__(copy=True), column.__array__(np.dtype("i4"), copy=True)):
        assert copy.flags.writeable
        assert not np.shares_memory(copy, array)
        assert copy.tolist() == list(range(50))
    assert np.shares_memory(column.__array__("i4"), array)
    assert np.asarray(column, np.float32).dtype == np.float32
    assert np.mean(column) == 24.5
    with pytest.raises(ValueError, match="'value' cannot be converted to this array without a copy"):
        column.__array__(np.dtype("f8"), copy=False)


def test_numpy_is_given_no_number_for_a_null():
    batch = columns_of(extreme_messages(), SHAPE, [f"optionals.{name}" for name in ("i64", "truth", "f64", "color")])
    for name, column in batch.items():
        array, masked = np.asarray(column), column.to_numpy()
        assert column.null_count
        if name == "optionals.f64":
            assert array.dtype == np.float64
            assert np.isnan(array[masked.mask]).all()
        else:
            assert array.dtype == object
            assert all(value is None for value in array[masked.mask])
        assert bits(array[~masked.mask].tolist()) == bits(masked.compressed().tolist())
        assert array.flags.writeable
        with pytest.raises(ValueError, match="without a copy"):
            column.__array__(copy=False)
    with pytest.raises(TypeError):
        np.asarray(batch["optionals.i64"], np.int64)
    path = "structs.grid.cells"
    cells = columns_of([grid_message(seed) for seed in range(60)], SHAPE, [path])[path]
    assert 0 < cells.null_count < 60
    assert np.asarray(cells).tolist() == [[None] * 3 if value is None else value for value in cells]
    texts = columns_of(numbered_messages(4), LEVEL1, ["next.values"])["next.values"]
    assert np.asarray(texts).tolist() == [[], None, None, [0, 1, 2]]


def test_bytes_that_are_no_bool_are_true():
    truth = generated("Scalars").ScalarsT()
    truth.truth = True
    payload = message(truth)
    table = RawTable(bytearray(payload), root_at(payload))
    place = table.Pos + table.Offset(4)
    assert payload[place] == 1
    changed = payload[:place] + b"\x80" + payload[place + 1 :]
    batch = columns_of([payload, changed], SHAPES.table("shapes.Scalars"), ["truth"])
    assert batch["truth"].to_pylist() == [True, True]
    assert batch["truth"].to_numpy().view(np.uint8).tolist() == [1, 1]


def test_arrays_of_texts_and_vectors_hold_objects():
    arrays = columns_of(numbered_messages(4), LEVEL1, ["next.values", "next"]).to_numpy()
    assert arrays["next.values"].dtype == object
    assert arrays["next.values"].tolist() == [[], None, None, [0, 1, 2]]
    assert arrays["next"][1] is None


def test_schema_says_what_the_columns_are():
    schema = SHAPE.arrow_schema(["id", "named.name", "optionals.f32", "vectors.accesses", "choice_type"])
    assert schema.names == ("id", "named.name", "optionals.f32", "vectors.accesses", "choice_type")
    assert schema.types == (
        "uint64", "large_string", "float", "large_list<item: uint8>", "dictionary<values=string, indices=int32>"
    )  # fmt: skip
    assert schema.metadata == {"flatstream.table": "shapes.Shape", "flatstream.file_identifier": "SHAP"}
    assert schema == SHAPE.arrow_schema(schema.names)
    assert hash(schema) == hash(SHAPE.arrow_schema(schema.names))
    assert schema != SHAPE.arrow_schema(["id"])
    assert repr(SHAPE.arrow_schema(["id"])) == "<ColumnSchema id: uint64>"
    assert columns_of([], SHAPE, schema.names).schema == schema
    batches = StreamReader(b"").column_batches(SHAPE, schema.names)
    assert batches.schema == schema
    assert repr(batches) == "<ColumnStream of id, named.name, optionals.f32, vectors.accesses, choice_type>"


def test_half_made_and_misused_objects_raise():
    code = """
from flatstream import Schema
from flatstream._core.arrow.exporter import ColumnData, ColumnType, export_stream
from flatstream._core.column_reader.reader import ColumnReader
from flatstream._core.column_reader.plan import ReadPlan
schema = Schema.from_file(SCHEMA)
layout, number = schema.root.layout, schema.root.number
reader = StreamReader(TWO_FRAMES)
attempt(ColumnData)
attempt(ColumnData.__new__(ColumnData).__arrow_c_array__)
attempt(ColumnType.__new__(ColumnType).__arrow_c_schema__)
attempt(ColumnType("a", "i", True).__init__, "b", "i", True)
attempt(ColumnType, "a", "+s", True, [ColumnType.__new__(ColumnType)])
attempt(ColumnType, "a", "U", True, (), ["x"], [1])
attempt(ReadPlan(layout, number).__init__, layout, number)
attempt(ReadPlan, type(layout).__new__(type(layout)), number)
attempt(ReadPlan, layout, 10**6)
attempt(ColumnReader.__new__(ColumnReader).read, None)
attempt(lambda: ColumnReader.__new__(ColumnReader).type)
attempt(ColumnReader, reader, ReadPlan.__new__(ReadPlan))
attempt(ColumnReader, reader, None)
attempt(ColumnReader, reader, ReadPlan(layout, number), ReadPlan(layout, number))
attempt(ColumnReader, type(reader).__new__(type(reader)), ReadPlan(layout, number))
attempt(ColumnReader(type(reader).__new__(type(reader)), ReadPlan(layout, number)).read, None)
twice = ColumnReader(reader, ReadPlan(layout, number))
attempt(twice.__init__, reader, ReadPlan(layout, number))
class Bad:
    type = 5
    def next_data(self): return 5
import pyarrow
class Exporter:
    def __arrow_c_stream__(self, requested_schema=None): return export_stream(Bad())
attempt(pyarrow.RecordBatchReader.from_stream, Exporter())
"""
    lines = survives(code.replace("SCHEMA", repr(str(SCHEMAS / "shapes.bfbs"))))
    assert [line.split(" ", 1)[0] for line in lines] == [
        "TypeError", "TypeError", "TypeError", "TypeError", "TypeError", "ValueError", "TypeError", "ValueError",
        "ValueError", "TypeError", "TypeError", "TypeError", "TypeError", "ValueError", "no", "ValueError", "TypeError",
        "ArrowInvalid",
    ]  # fmt: skip


def test_plans_belong_to_one_reader():
    plan = ReadPlan(LEVEL1.layout, LEVEL1.number, ["value"])
    ColumnReader(StreamReader(b""), plan)
    with pytest.raises(ValueError, match="a plan belongs to one reader"):
        ColumnReader(StreamReader(b""), plan)


def wide_schema_types() -> Any:
    """Tables T0 to T19, each with the next one twice: more columns than anybody can count."""
    from flatstream._core.flatbuf.layout import Layout
    from flatstream._core.flatbuf.verifier import Types

    objects, known = [], []
    for number in range(20):
        kinds = [("a", 4), ("b", 6)] if number < 19 else []
        objects.append(
            (f"T{number}", False, 0, [(name, place, 15, 0, number + 1, 0, False, False) for name, place in kinds])
        )
        known.append((f"T{number}", 4, [(name, 0, 4, 4, 0, 1, 0, -1, False, False) for name, _ in kinds]))
    return Layout(Types(objects, []), known, [], b"")


def test_more_columns_than_anybody_can_count_are_refused():
    layout = wide_schema_types()
    with pytest.raises(ValueError, match="more than 50000 columns: select some of them by their paths"):
        ReadPlan(layout, 0)
    assert [child.name for child in ReadPlan(layout, 0, ["a.b.a.b.a.b.a.b.a.b.a.b.a.b.a"]).type.children] == [
        "a.b.a.b.a.b.a.b.a.b.a.b.a.b.a"
    ]


def test_memory_of_columns_is_given_back():
    stream = stream_of(sample_messages(20) * 2)

    def read() -> None:
        StreamReader(stream).columns(SHAPE)
        batches = StreamReader(io.BytesIO(stream)).column_batches(SHAPE, batch_rows=7)
        for batch in batches:
            batch.to_pylist()
        with pytest.raises(FlatbufferError):
            columns_of([*sample_messages(5), b"\xff" * 9], SHAPE)

    read()
    growths = []
    tracemalloc.start()
    try:
        # What grows once belongs to a cache; what is kept of each reading grows every time.
        for _ in range(4):
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(3):
                read()
            gc.collect()
            growths.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    assert min(growths) < 2000

"""Columns from libraries that do something wrong: the Arrow C data interface, held by hand-made producers.

Every field of their structures is wrong once; streams fail, and capsules are no capsules. Nothing is read outside of
what they have, an error says which column is wrong and how, and whatever was handed over is released, once.
"""

from __future__ import annotations

import errno
import gc
import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import StreamWriter
from flatstream._core.column_writer.writer import write_columns
from flatstream.schema import Table
from support.arrow_abi import ARRAY_RELEASE, GET_ERROR, GET_NEXT, GET_SCHEMA, Producer, StreamProducer
from support.columns import refused, values, write
from support.extent import in_one_test
from support.processes import survives
from support.schemas import SHAPES

SCALARS = SHAPES.table("shapes.Scalars")
TREE = SHAPES.table("shapes.Tree")
VECTORS = SHAPES.table("shapes.Vectors")


def numbers(count: int = 3, **options: Any) -> Producer:
    return Producer("i", count, [None, struct.pack(f"<{count}i", *range(count))], name="i32", **options)


def table_of(*columns: Producer, length: int = 3, **options: Any) -> Producer:
    return Producer("+s", length, [None], columns, **options)


def test_hand_made_table_is_read_and_everything_is_released_once() -> None:
    producer = table_of(numbers())
    assert values(SCALARS, "i32", producer) == [0, 1, 2]
    gc.collect()
    assert producer.released == {"schema": 1, "array": 1, "child schema": 0, "child array": 0}
    assert producer.children[0].released == {"schema": 0, "array": 0, "child schema": 1, "child array": 1}


def released_once(producer: Producer | StreamProducer) -> bool:
    gc.collect()
    if isinstance(producer, StreamProducer):
        return producer.released == 1 and all(
            step.released["array"] <= 1 for step in producer.steps if isinstance(step, Producer)
        )
    return producer.released["schema"] == producer.released["array"] == 1


BROKEN: dict[str, tuple[Table, Callable[[], Producer], str]] = {
    "length below zero": (SCALARS, lambda: table_of(numbers(array_length=-1)), "its length is -1|length is -1"),
    "enormous length": (SCALARS, lambda: table_of(numbers(array_length=2**62)), "its length is 4611686018427387904"),
    "enormous offset": (
        SCALARS,
        lambda: table_of(numbers(offset=2**62)),
        "its offset 4611686018427387904|and its offset",
    ),
    "offset below zero": (SCALARS, lambda: table_of(numbers(), offset=-1), "its offset -1"),
    "too many nulls": (SCALARS, lambda: table_of(numbers(null_count=4)), "4 of 3 values are null"),
    "nulls below -1": (SCALARS, lambda: table_of(numbers(null_count=-2)), "-2 of 3 values are null"),
    "nulls without bits": (SCALARS, lambda: table_of(numbers(null_count=1)), "no validity buffer"),
    "one buffer": (
        SCALARS,
        lambda: table_of(numbers(array_n_buffers=1)),
        "an array of int32 has 2 buffers, but this one has 1",
    ),
    "three buffers": (SCALARS, lambda: table_of(numbers(array_n_buffers=3)), "has 2 buffers, but this one has 3"),
    "buffers below zero": (SCALARS, lambda: table_of(numbers(array_n_buffers=-1)), "claims -1 buffers"),
    "no buffers": (SCALARS, lambda: table_of(numbers(array_buffers=None)), "claims 2 buffers, but has none"),
    "no values": (SCALARS, lambda: table_of(Producer("i", 3, [None, None], name="i32")), "no buffer of values"),
    "no bits": (SCALARS, lambda: table_of(Producer("b", 3, [None, None], name="truth")), "no buffer of values"),
    "no children": (SCALARS, lambda: table_of(numbers(), array_n_children=0), "should have 1 children, but has 0"),
    "more children": (SCALARS, lambda: table_of(numbers(), array_n_children=2), "should have 1 children, but has 2"),
    "children that are NULL": (SCALARS, lambda: table_of(numbers(), array_children=None), "should have 1 children"),
    "a released child": (SCALARS, lambda: table_of(numbers(array_release=ARRAY_RELEASE())), "missing or released"),
    "a short child": (SCALARS, lambda: table_of(numbers(2)), "has 2 rows, but 3 are needed"),
    "a short child after an offset": (SCALARS, lambda: table_of(numbers(), offset=1), "has 3 rows, but 4 are needed"),
    "more schemas": (SCALARS, lambda: table_of(numbers(), schema_n_children=-1), "claims -1 children"),
    "schemas that are NULL": (
        SCALARS,
        lambda: table_of(numbers(), schema_children=None),
        "claims 1 children, but has none",
    ),
    "a schema without format": (
        SCALARS,
        lambda: table_of(numbers(schema_format=None)),
        "column 'i32' has no Arrow type",
    ),
    "an unknown format": (
        SCALARS,
        lambda: table_of(numbers(schema_format=b"?!")),
        "unknown Arrow type: '\\?!'",
    ),
    "a number with children": (
        SCALARS,
        lambda: table_of(Producer("i", 3, [None, bytes(12)], [numbers()], name="i32")),
        "should have 0 children",
    ),
    "a list without child": (
        VECTORS,
        lambda: table_of(Producer("+l", 2, [None, bytes(12)], name="i32s"), length=2),
        "should have 1 children",
    ),
    "a size that is none": (
        VECTORS,
        lambda: table_of(Producer("+w:x", 2, [None], [numbers(4)], name="i32s"), length=2),
        "of an invalid size: 'x'",
    ),
    "a size below zero": (
        VECTORS,
        lambda: table_of(Producer("w:-4", 2, [None, b""], name="u8s"), length=2),
        "of an invalid size: '-4'",
    ),
    "a released dictionary": (
        SCALARS,
        lambda: table_of(numbers(dictionary=numbers(array_release=ARRAY_RELEASE()))),
        "dictionary is released",
    ),
    "a dictionary by floats": (
        SCALARS,
        lambda: table_of(Producer("g", 1, [None, bytes(8)], name="i32", dictionary=numbers()), length=1),
        "indexed by float64",
    ),
    "last offset below zero": (
        TREE,
        lambda: table_of(Producer("u", 2, [None, struct.pack("<3i", 0, 1, -1), b"ab"], name="label"), length=2),
        "its last offset is -1",
    ),
    "no offsets": (
        TREE,
        lambda: table_of(Producer("u", 2, [None, None, b"ab"], name="label"), length=2),
        "no buffer of offs",
    ),
    "no bytes": (
        TREE,
        lambda: table_of(Producer("U", 1, [None, struct.pack("<2q", 0, 1), None], name="label"), length=1),
        "no buffer of bytes",
    ),
    "too few elements": (
        VECTORS,
        lambda: table_of(Producer("+w:3", 2, [None], [numbers(5)], name="i32s"), length=2),
        "it has 5 elements",
    ),
    "no sizes": (
        VECTORS,
        lambda: table_of(Producer("+vl", 1, [None, bytes(4), None], [numbers()], name="i32s"), length=1),
        "no buffer of sizes",
    ),
    "no list offsets": (
        VECTORS,
        lambda: table_of(Producer("+l", 1, [None, None], [numbers()], name="i32s"), length=1),
        "no buffer of offsets",
    ),
    "no views": (
        TREE,
        lambda: table_of(Producer("vu", 1, [None, None, b""], name="label"), length=1),
        "no buffer of views",
    ),
    "no buffer for views": (
        TREE,
        lambda: table_of(Producer("vu", 1, [None, bytes(16), None, struct.pack("<q", 5)], name="label"), length=1),
        "its buffer 0 is missing",
    ),
    "a buffer of views below zero": (
        TREE,
        lambda: table_of(Producer("vu", 1, [None, bytes(16), b"", struct.pack("<q", -5)], name="label"), length=1),
        "its buffer 0 has -5 bytes",
    ),
    "no sizes of buffers": (
        TREE,
        lambda: table_of(Producer("vu", 1, [None, bytes(16), b"", None], name="label"), length=1),
        "no buffer of the sizes",
    ),
}


@in_one_test
@pytest.mark.parametrize("name", BROKEN)
def test_malformed_array_is_refused_before_anything_is_written_and_released_once(name: str) -> None:
    table, make, match = BROKEN[name]
    producer = make()
    with StreamWriter(io.BytesIO()) as writer:
        with pytest.raises((ValueError, TypeError), match=match):
            write_columns(writer, table.layout, table.number, producer)
        assert writer.frames_written == 0
    assert released_once(producer)


ROW_BROKEN: dict[str, tuple[Table, Callable[[], Producer], str]] = {
    "offsets that go back": (
        TREE,
        lambda: Producer("u", 3, [None, struct.pack("<4i", 0, 2, 1, 3), b"abc"], name="label"),
        "row 1: its offsets",
    ),
    "an offset below zero": (
        TREE,
        lambda: Producer("u", 3, [None, struct.pack("<4i", 0, 1, -1, 3), b"abc"], name="label"),
        "row 1: its offsets",
    ),
    "an offset beyond the last": (
        TREE,
        lambda: Producer("U", 3, [None, struct.pack("<4q", 0, 1, 9, 3), b"abc"], name="label"),
        "row 1: its offsets",
    ),
    "list offsets that go back": (
        VECTORS,
        lambda: Producer("+l", 3, [None, struct.pack("<4i", 0, 2, 1, 3)], [numbers()], name="i32s"),
        "row 1: its offsets lead outside of its elements",
    ),
    "large list offsets below zero": (
        VECTORS,
        lambda: Producer("+L", 3, [None, struct.pack("<4q", 0, 1, -(2**63), 2**63 - 1)], [numbers()], name="i32s"),
        "row 1: its offsets lead outside of its elements",
    ),
    "list offsets beyond the child": (
        VECTORS,
        lambda: Producer("+l", 3, [None, struct.pack("<4i", 0, 1, 4, 4)], [numbers()], name="i32s"),
        "row 1: its offsets lead outside of its elements",
    ),
    "a list view beyond the child": (
        VECTORS,
        lambda: Producer(
            "+vl", 3, [None, struct.pack("<3i", 0, 2, 0), struct.pack("<3i", 1, 2, 1)], [numbers()], name="i32s"
        ),
        "row 1: its offsets lead outside of its elements",
    ),
    "a list view of a size below zero": (
        VECTORS,
        lambda: Producer(
            "+vL", 3, [None, struct.pack("<3q", 0, 2, 0), struct.pack("<3q", 1, -1, 1)], [numbers()], name="i32s"
        ),
        "row 1: its offsets lead outside of its elements",
    ),
    "a view into a buffer that is not there": (
        TREE,
        lambda: Producer(
            "vu",
            3,
            [None, bytes(16) + struct.pack("<i4sii", 13, b"", 1, 0) + bytes(16), b"x" * 20, struct.pack("<q", 20)],
            name="label",
        ),
        "row 1: its offsets",
    ),
    "a view beyond its buffer": (
        TREE,
        lambda: Producer(
            "vu",
            3,
            [None, bytes(16) + struct.pack("<i4sii", 13, b"", 0, 8) + bytes(16), b"x" * 20, struct.pack("<q", 20)],
            name="label",
        ),
        "row 1: its offsets",
    ),
    "a view of a size below zero": (
        TREE,
        lambda: Producer(
            "vu",
            3,
            [None, bytes(16) + struct.pack("<i4sii", -1, b"", 0, 0) + bytes(16), b"x" * 20, struct.pack("<q", 20)],
            name="label",
        ),
        "row 1: its offsets",
    ),
    "an index beyond the dictionary": (
        SCALARS,
        lambda: Producer("c", 3, [None, b"\0\x03\0"], name="i32", dictionary=numbers()),
        "outside of its dictionary",
    ),
    "an index below zero": (
        SCALARS,
        lambda: Producer("c", 3, [None, b"\0\xff\0"], name="i32", dictionary=numbers()),
        "outside of its dictionary",
    ),
    "an enormous index": (
        SCALARS,
        lambda: Producer("L", 3, [None, struct.pack("<3Q", 0, 2**64 - 1, 0)], name="i32", dictionary=numbers()),
        "outside of its dictionary",
    ),
    "an index of an enum beyond the dictionary": (
        SCALARS,
        lambda: Producer(
            "C",
            3,
            [None, b"\0\x01\0"],
            name="color",
            dictionary=Producer("u", 1, [None, struct.pack("<2i", 0, 3), b"Red"]),
        ),
        "outside of its dictionary",
    ),
    "an index of a string beyond the dictionary": (
        TREE,
        lambda: Producer(
            "C",
            3,
            [None, b"\0\x01\0"],
            name="label",
            dictionary=Producer("u", 1, [None, struct.pack("<2i", 0, 3), b"Red"]),
        ),
        "outside of its dictionary",
    ),
    "a dictionary with bad offsets": (
        SCALARS,
        lambda: Producer(
            "C",
            3,
            [None, b"\0\x01\0"],
            name="color",
            dictionary=Producer("u", 3, [None, struct.pack("<4i", 0, 3, 2, 3), b"Red"]),
        ),
        "its offsets lead outside",
    ),
    "a name that is not UTF-8": (
        SCALARS,
        lambda: Producer("u", 3, [None, struct.pack("<4i", 0, 3, 4, 7), b"Red\xffRed"], name="color"),
        "is not UTF-8",
    ),
    "a string that is not UTF-8": (
        TREE,
        lambda: Producer("u", 3, [None, struct.pack("<4i", 0, 3, 24, 25), b"Red" + b"x" * 20 + b"\xc3x"], name="label"),
        "row 1: it is not UTF-8: see its byte 20",
    ),
}


@in_one_test
@pytest.mark.parametrize("name", ROW_BROKEN)
def test_row_that_leads_outside_of_its_column_is_refused_after_those_before(name: str) -> None:
    table, make, match = ROW_BROKEN[name]
    producer = table_of(make())
    refused(table, producer, ValueError, match, 1)
    assert released_once(producer)


SMALL = st.integers(-3, 9) | st.sampled_from([2**31 - 1, -(2**31), 100])


@given(data=st.data())
def test_any_offsets_sizes_and_indices_stay_inside_of_the_columns(data: st.DataObject) -> None:
    def numbers_of(code: str, count: int) -> bytes:
        return struct.pack(f"<{count}{code}", *data.draw(st.lists(SMALL, min_size=count, max_size=count)))

    def validity(rows: int) -> dict[str, Any]:
        return {"null_count": data.draw(st.sampled_from([0, -1, min(1, rows)])), "offset": 0}

    def strings(name: str, rows: int) -> Producer:
        text = b"abcdefg"
        bits: bytes | None = data.draw(st.binary(min_size=(rows + 7) // 8, max_size=(rows + 7) // 8))
        kind = data.draw(st.sampled_from(["u", "U", "vu"]))
        if kind == "vu":
            views = b"".join(struct.pack("<i4s", data.draw(SMALL), b"abcd") + numbers_of("i", 2) for _ in range(rows))
            return Producer(kind, rows, [bits, views, text, struct.pack("<q", len(text))], name=name, **validity(rows))
        # How long the bytes are is what the last offset says: of that one the producer has to know.
        code = "i" if kind == "u" else "q"
        offsets = numbers_of(code, rows) + struct.pack("<" + code, data.draw(st.integers(-1, len(text))))
        return Producer(kind, rows, [bits, offsets, text], name=name, **validity(rows))

    def dictionary(name: str, rows: int) -> Producer:
        indices = struct.pack(f"<{rows}h", *data.draw(st.lists(st.integers(-2, 5), min_size=rows, max_size=rows)))
        bits: bytes | None = data.draw(st.binary(min_size=(rows + 7) // 8, max_size=(rows + 7) // 8))
        return Producer("s", rows, [bits, indices], name=name, dictionary=strings("", 4), **validity(rows))

    def trees(name: str, rows: int, depth: int) -> Producer:
        parts = [strings("label", rows)]
        if depth:
            count = data.draw(st.integers(0, 5))
            kind = data.draw(st.sampled_from(["+l", "+L", "+vl", "+vL"]))
            code = "i" if kind[-1] == "l" else "q"
            buffers = [None, numbers_of(code, rows + (len(kind) == 2))]
            if len(kind) == 3:
                buffers.append(numbers_of(code, rows))
            parts.append(Producer(kind, rows, buffers, [trees("item", count, depth - 1)], name="children"))
        return Producer("+s", rows, [None], parts, name=name)

    rows = data.draw(st.integers(1, 5))
    table, producer = data.draw(
        st.sampled_from(
            [(TREE, lambda: trees("", rows, 2)), (SCALARS, lambda: table_of(dictionary("color", rows), length=rows))]
        )
    )
    made = producer()
    with StreamWriter(io.BytesIO()) as writer:
        try:
            written = write_columns(writer, table.layout, table.number, made)
        except ValueError as error:
            written = error.rows_written  # type: ignore[attr-defined]
        assert writer.frames_written == written
    assert released_once(made)


def test_dictionary_of_the_type_and_of_the_array_belong_together() -> None:
    producer = table_of(numbers(dictionary=numbers(), schema_dictionary=None))
    refused(SCALARS, producer, ValueError, "column 'i32': .* only one of the array and its type has a dictionary", 0)
    assert producer.released["array"] == 1


def test_types_inside_of_types_without_an_end() -> None:
    inner = numbers()
    for _ in range(100):
        inner = Producer("+s", 3, [None], [inner], name="left")
    refused(TREE, inner, ValueError, "nested deeper than 64 types")
    assert released_once(inner)


def test_capsules_are_taken_once() -> None:
    class Twice:
        def __init__(self) -> None:
            self.made = table_of(numbers()).__arrow_c_array__()

        def __arrow_c_array__(self, requested_schema: object = None) -> Any:
            return self.made

    twice = Twice()
    assert write(SCALARS, twice) == 3
    with pytest.raises(ValueError, match="was taken already"):
        write(SCALARS, twice)
    stream = pa.table({"i32": [1]}).__arrow_c_stream__()

    class Stream:
        def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
            return stream

    assert write(SCALARS, Stream()) == 1
    with pytest.raises(ValueError, match="was taken already"):
        write(SCALARS, Stream())


@in_one_test
@pytest.mark.parametrize("answer", [None, 5, (), (1,), (1, 2, 3), (1, 2), "ab", [1, 2]])
def test_answers_that_are_no_capsules(answer: Any) -> None:
    class Wrong:
        def __arrow_c_array__(self, requested_schema: object = None) -> Any:
            return answer

    class WrongStream:
        def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
            return answer

    for columns in (Wrong(), WrongStream(), {"i32": Wrong()}, {"i32": WrongStream()}):
        with pytest.raises((TypeError, ValueError)):
            write(SCALARS, columns)
    # A schema without its array is released.
    producer = table_of(numbers())
    answer = (producer.__arrow_c_array__()[0], None)
    with pytest.raises((TypeError, ValueError)):
        write(SCALARS, Wrong())
    assert producer.released["schema"] == 1


def test_producer_that_raises() -> None:
    class Raising:
        def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
            raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        write(SCALARS, Raising())


# Streams that fail


def test_stream_that_fails_in_the_middle_says_why_and_what_was_written_before_stands() -> None:
    for message, text in (
        (b"the disk is on fire", "the disk is on fire"),
        (None, "Input/output error"),
        (b"\xff", "\ufffd"),
    ):
        producer = StreamProducer(table_of(numbers()), [table_of(numbers()), table_of(numbers()), errno.EIO], message)
        with StreamWriter(io.BytesIO()) as writer:
            with pytest.raises(OSError, match=f"could not give the next array: {text}") as caught:
                write_columns(writer, SCALARS.layout, SCALARS.number, producer)
            assert (caught.value.errno, caught.value.rows_written) == (errno.EIO, 6)  # type: ignore[attr-defined]
            assert writer.frames_written == 6
        assert released_once(producer)
        assert [step.released["array"] for step in producer.steps if isinstance(step, Producer)] == [1, 1]


def test_stream_that_has_no_schema() -> None:
    producer = StreamProducer(table_of(numbers()), [], schema_code=errno.EINVAL)
    with pytest.raises(OSError, match="could not give its schema: the disk is on fire") as caught:
        write(SCALARS, producer)
    assert caught.value.errno == errno.EINVAL
    assert released_once(producer)


def test_stream_without_functions() -> None:
    for name, kind in (("get_schema", GET_SCHEMA), ("get_next", GET_NEXT)):
        producer = StreamProducer(table_of(numbers()), [], **{name: kind()})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no function to read it with"):
            write(SCALARS, producer)
        assert released_once(producer)
    producer = StreamProducer(table_of(numbers()), [5], get_last_error=GET_ERROR())
    with pytest.raises(OSError, match="could not give the next array"):
        write(SCALARS, producer)
    assert released_once(producer)


def test_stream_whose_second_array_is_malformed() -> None:
    producer = StreamProducer(table_of(numbers()), [table_of(numbers()), table_of(numbers(null_count=9))])
    with StreamWriter(io.BytesIO()) as writer:
        with pytest.raises(ValueError, match="9 of 3 values are null") as caught:
            write_columns(writer, SCALARS.layout, SCALARS.number, producer)
        assert caught.value.rows_written == writer.frames_written == 3  # type: ignore[attr-defined]
    assert released_once(producer)
    assert [step.released["array"] for step in producer.steps if isinstance(step, Producer)] == [1, 1]


def test_stream_of_a_column_is_gathered_and_released() -> None:
    producer = StreamProducer(numbers(), [numbers(), numbers(2)])
    assert values(SCALARS, "i32", {"i32": producer, "f64": np.zeros(5)}) == [0, 1, 2, 0, 1]
    assert released_once(producer)
    assert [step.released["array"] for step in producer.steps if isinstance(step, Producer)] == [1, 1]
    producer = StreamProducer(numbers(), [numbers(), numbers(2)])
    refused(SCALARS, {"i32": producer, "f64": np.zeros(4)}, ValueError, "'i32' has 5 rows and 'f64' 4")
    assert released_once(producer)
    refused(SCALARS, {"i32": StreamProducer(numbers(), [numbers(array_length=-2)])}, ValueError, "number of rows: -2")


def test_error_of_a_python_generator_behind_a_stream() -> None:
    def batches() -> Any:
        yield pa.record_batch({"i32": pa.array([1], pa.int32())})
        raise RuntimeError("out of cheese")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"i32": pa.int32()}), batches())
    with pytest.raises(OSError, match="out of cheese") as caught:
        write(SCALARS, reader)
    assert caught.value.rows_written == 1  # type: ignore[attr-defined]


HALF_MADE = """
import io
from array import array
from flatstream import StreamWriter
from flatstream._core.arrow import importer as arrow_import
from flatstream._core.column_writer import sources as column_sources
from flatstream._core.column_writer import plan as column_plan, row_builder, writer as column_writer
from flatstream._core.flatbuf import layout, template
from flatstream.schema import Schema
table = Schema.from_file("tests/data/schemas/shapes.bfbs").table("shapes.Scalars")
def attempt(call):
    try:
        print("returned", call())
    except Exception as error:
        print(type(error).__name__)
bare_layout = layout.Layout.__new__(layout.Layout)
bare_writer = StreamWriter.__new__(StreamWriter)
writer = StreamWriter(io.BytesIO())
columns = {"i32": array("i", [1])}
attempt(lambda: column_writer.write_columns(writer, bare_layout, 0, columns))
attempt(lambda: column_writer.write_columns(bare_writer, table.layout, table.number, columns))
made = template.Template.__new__(template.Template)
print(made.message, made.size, made.offset(0))
attempt(lambda: template.Template(bare_layout, 0, []))
made = template.Template(table.layout, table.number, [1])
attempt(lambda: made.__init__(table.layout, table.number, [1]))
owners = arrow_import.SchemaOwner, arrow_import.ArrayOwner, column_sources.ArrayStream
for cls in (*owners, column_plan.WritePlan, row_builder.RowBuilder, column_writer.RowWriter):
    cls.__new__(cls)
attempt(lambda: arrow_import.StreamOwner.__new__(arrow_import.StreamOwner).fail(5, "it"))
source = arrow_import.Source.__new__(arrow_import.Source, "x", "y")
source.parts.append(5)
print(source.parts, source.name)
for wrong in ((), (None, None), ("x", 5)):
    attempt(lambda: arrow_import.Source.__new__(arrow_import.Source, *wrong))
attempt(lambda: column_sources.PythonList.__new__(column_sources.PythonList, None))
writer.close()
print("survived")
"""


def test_half_made_objects_survive() -> None:
    assert survives(HALF_MADE) == [
        "ValueError",
        "ValueError",
        "b'' 0 None",
        "ValueError",
        "TypeError",
        "OSError",
        "[5] x",
        "TypeError",
        "TypeError",
        "TypeError",
        "TypeError",
        "survived",
    ]


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR])
def test_stream_that_would_block_is_no_sink_that_would(code: int) -> None:
    producer = StreamProducer(table_of(numbers()), [code])
    with pytest.raises(OSError, match="the disk is on fire") as caught:
        write(SCALARS, producer)
    assert not isinstance(caught.value, (BlockingIOError, TimeoutError, InterruptedError))
    assert caught.value.errno == errno.EIO

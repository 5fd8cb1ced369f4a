"""Columns and the writer they go to: checksums, buffers, threads, sinks that fail, memory."""

from __future__ import annotations

import array
import errno
import gc
import io
import struct
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from shapes.Scalars import Scalars

import flatstream
from flatstream import (
    BoundedFramer,
    ChecksumType,
    DefaultFramer,
    ObserverFramer,
    RecordWriter,
    SizeValidator,
    StreamReader,
    StreamWriter,
    TypedValidator,
    ValidatingFramer,
)
from flatstream._core.column_writer.writer import write_columns
from flatstream._core.stream.encoder import Encoder
from reference.records import read_message
from support.columns import OPTIONALS, SCALARS, TREE, VECTORS, messages_of, refused, values, write
from support.extent import in_one_test
from support.processes import survives
from support.schemas import SHAPES, UNIONS

# Encoders


@in_one_test
@pytest.mark.parametrize("kind", ChecksumType, ids=lambda kind: kind.value)
@pytest.mark.parametrize("size", [0, 1, 60, 4096, 65536])
def test_every_checksum_and_buffer(kind: ChecksumType, size: int) -> None:
    columns = {"i64": np.arange(500), "f64": np.arange(500) / 2}
    strings = {"label": [str(i) for i in range(300)], "value": list(range(300))}
    assert messages_of(SCALARS, columns, kind, buffer_size=size) == messages_of(SCALARS, columns)
    assert messages_of(TREE, strings, kind, buffer_size=size) == messages_of(TREE, strings)


@pytest.mark.parametrize("kind", [ChecksumType.NONE, ChecksumType.CRC32], ids=lambda kind: kind.value)
def test_messages_that_are_larger_than_the_buffer(kind: ChecksumType) -> None:
    labels = ["x" * size for size in (10, 70_000, 5, 300_000, 65_536, 1)]
    messages = messages_of(TREE, {"label": labels}, kind)
    assert [read_message(TREE, message)["label"] for message in messages] == labels


def test_threads_that_share_a_writer_mix_no_frames() -> None:
    sink = io.BytesIO()
    rows = 30_000
    with StreamWriter(sink, ChecksumType.CRC32, buffer_size=4096) as writer:

        def work(number: int) -> int:
            columns = {"i32": np.full(rows, number), "i64": np.arange(rows)}
            return write_columns(writer, SCALARS.layout, SCALARS.number, columns)

        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(work, (1, 2, 3))) == [rows] * 3
        assert writer.frames_written == 3 * rows
    found: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for payload in StreamReader(sink.getvalue(), ChecksumType.CRC32):
        record = Scalars.GetRootAs(payload)
        found[record.I32()].append(record.I64())
    assert found == {number: list(range(rows)) for number in (1, 2, 3)}


def test_bound_of_the_framer_holds_and_the_rows_before_stand() -> None:
    columns = {"i64": np.array([0] * 10 + [1] + [0] * 10)}
    sink = io.BytesIO()
    with StreamWriter(sink, BoundedFramer(DefaultFramer(), 16)) as writer:
        with pytest.raises(flatstream.InvalidFrameError) as caught:
            write_columns(writer, SCALARS.layout, SCALARS.number, columns)
        assert (caught.value.frame, caught.value.rows_written) == (10, 10)  # type: ignore[attr-defined]
        assert writer.frames_written == 10


def test_validators_and_observers_are_asked_for_every_row() -> None:
    columns = {"i64": np.arange(5)}
    seen: list[memoryview] = []
    # Views that are kept stay what they are.
    messages = messages_of(SCALARS, columns, ObserverFramer(DefaultFramer(), seen.append))
    assert [bytes(view) for view in seen] == messages
    validator = TypedValidator.for_type(SHAPES, "shapes.Scalars")
    assert messages_of(SCALARS, columns, ValidatingFramer(DefaultFramer(), validator)) == messages
    with StreamWriter(io.BytesIO(), ValidatingFramer(DefaultFramer(), SizeValidator(0, 20))) as writer:
        with pytest.raises(flatstream.ValidationFailedError) as caught:
            write_columns(writer, SCALARS.layout, SCALARS.number, columns)
        assert caught.value.rows_written == 1  # type: ignore[attr-defined]


class Failing(io.RawIOBase):
    """Takes so many bytes, then fails."""

    def __init__(self, room: int, error: Exception) -> None:
        self.taken, self.room, self.error = bytearray(), room, error

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if len(self.taken) + len(data) > self.room:
            raise self.error
        self.taken += data
        return len(data)


@pytest.mark.parametrize("columns", [{"value": np.arange(5000)}, {"value": np.arange(5000), "label": ["x"] * 5000}])
def test_sink_that_fails_gives_its_own_error_and_the_rows_that_were_accepted(columns: Any) -> None:
    sink = Failing(20_000, OSError(errno.ENOSPC, "no space"))
    writer = StreamWriter(sink, buffer_size=8192)
    with pytest.raises(OSError, match="no space") as caught:
        write_columns(writer, TREE.layout, TREE.number, columns)
    assert caught.value.rows_written == writer.frames_written  # type: ignore[attr-defined]
    whole = io.BytesIO()
    with StreamWriter(whole) as other:
        write_columns(other, TREE.layout, TREE.number, columns)
    assert whole.getvalue().startswith(sink.taken)
    with pytest.raises(flatstream.FlatStreamError, match="refuses to go on"):
        writer.close()


def test_sink_that_would_block_can_be_tried_again_from_the_row_after() -> None:
    column = np.arange(5000)
    sink = Failing(10_000, BlockingIOError(errno.EAGAIN, "later", 0))
    writer = StreamWriter(sink, buffer_size=4096)
    with pytest.raises(BlockingIOError) as caught:
        write_columns(writer, TREE.layout, TREE.number, {"value": column})
    done = caught.value.rows_written  # type: ignore[attr-defined]
    sink.room = 10**9
    write_columns(writer, TREE.layout, TREE.number, {"value": column[done:]})
    writer.close()
    assert [bytes(payload) for payload in StreamReader(bytes(sink.taken))] == messages_of(TREE, {"value": column})


def test_closed_writer_is_refused_before_the_columns_are_looked_at() -> None:
    writer = StreamWriter(io.BytesIO())
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        write_columns(writer, SCALARS.layout, SCALARS.number, None)


def test_sink_that_writes_columns_itself_is_refused() -> None:
    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            with pytest.raises(RuntimeError, match="reentrant"):
                write_columns(writer, SCALARS.layout, SCALARS.number, {"i32": np.arange(9000)})
            return len(data)

    writer = StreamWriter(Sink(), buffer_size=1000)
    write_columns(writer, SCALARS.layout, SCALARS.number, {"i32": np.arange(1000)})
    writer.close()


def test_columns_that_a_sink_changes_or_lets_go_of() -> None:
    columns: dict[str, Any] = {"i64": np.arange(3000), "f64": np.zeros(3000)}

    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            columns.clear()
            if writing:
                gc.collect()
                with pytest.raises(BufferError):
                    held.append(1)
            return len(data)

    writing = True
    writer = StreamWriter(Sink(), buffer_size=30_000)
    held = array.array("i", range(3000))
    columns["i32"] = held
    assert write_columns(writer, SCALARS.layout, SCALARS.number, columns) == 3000
    # Nobody looks at it any more.
    writing = False
    held.append(1)
    writer.detach()


def test_offsets_that_a_sink_changes_are_compared_each_time() -> None:
    data = bytearray(struct.pack("<3001i", *range(3001)))
    strings = pa.StringArray.from_buffers(3000, pa.py_buffer(data), pa.py_buffer(b"x" * 3000))

    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, chunk: Any) -> int:
            data[:] = struct.pack("<3001i", *[2**30] * 3001)
            return len(chunk)

    with StreamWriter(Sink(), buffer_size=500) as writer, pytest.raises(ValueError, match="lead outside of its bytes"):
        write_columns(writer, TREE.layout, TREE.number, {"label": strings})


@pytest.mark.parametrize("wrong", [None, 5, "x"])
def test_arguments_of_the_wrong_type(wrong: Any) -> None:
    columns = {"i32": [1]}
    with StreamWriter(io.BytesIO()) as writer:
        for arguments in (
            (wrong, SCALARS.layout, SCALARS.number, columns),
            (writer, wrong, SCALARS.number, columns),
            (writer, SCALARS.layout, SCALARS.number, columns, wrong),
        ):
            with pytest.raises(TypeError):
                write_columns(*arguments)
        struct_number = next(number for number, info in enumerate(SHAPES._info.objects) if info.is_struct)
        for number in (-1, 10**30, None, "x", 1.0, struct_number):
            with pytest.raises(ValueError, match=r"there is no object .*: the schema has|is a struct, not a table"):
                write_columns(writer, SCALARS.layout, number, columns)  # type: ignore[arg-type]
        assert writer.frames_written == 0


def test_columns_inside_of_columns_without_an_end() -> None:
    endless: dict[str, Any] = {}
    endless["left"] = endless
    refused(TREE, endless, ValueError, "nested deeper than 64 mappings")
    refused(TREE, {"left." * 100 + "value": [1]}, ValueError, "nested deeper than 64 mappings")
    value: dict[str, Any] = {"value": 1}
    for _ in range(62):
        value = {"left": value}
    # With the root and the value in `left`, 64 tables: as many as a verifier accepts by default.
    assert len(messages_of(TREE, {"left": [value]})) == 1
    refused(TREE, {"left": [{"left": value}]}, ValueError, "is nested deeper than 64 tables, the default limit")
    refused(TREE, {"children": [[{"left": value}]]}, ValueError, "is nested deeper than 64 tables, the default limit")
    for _ in range(300):
        value = {"left": value}
    refused(TREE, {"left": [value]}, ValueError, "nested deeper than 293")


def test_record_writer_writes_columns() -> None:
    sink = io.BytesIO()
    columns = {"i32": np.array([1, 0, 3])}
    with StreamWriter(sink) as writer:
        assert RecordWriter(writer, SCALARS).write_columns(columns) == 3
        assert RecordWriter(writer, SCALARS, force_defaults=True).write_columns(columns) == 3
        root = SHAPES.table("shapes.Shape")
        assert RecordWriter(writer, root, file_identifier=True).write_columns({"id": [1, 2, 3]}) == 3
    messages = [bytes(payload) for payload in StreamReader(sink.getvalue())]
    assert messages[:3] == messages_of(SCALARS, columns)
    assert len({len(message) for message in messages[3:6]}) == 1
    assert [message[4:8] for message in messages[6:]] == [b"SHAP"] * 3
    with StreamWriter(io.BytesIO()) as writer, pytest.raises(ValueError, match="'i8', row 2") as caught:
        RecordWriter(writer, SCALARS).write_columns({"i8": np.array([0, 1, 200])})
    assert caught.value.rows_written == 2  # type: ignore[attr-defined]


# Memory


NO_MEMORY = """
import io, random, sys
import _testcapi
import pyarrow
from support.arrow_types import Making, Mapping
from support.schemas import SHAPES
from flatstream._core.column_writer.writer import write_columns
from flatstream import FlatStreamError, StreamWriter
table = SHAPES.table("shapes.Shape")
mapping = Mapping(SHAPES._info)
making = Making(mapping, random.Random(3))
records = [making.record(table.number) for _ in range(3)]
arrow = mapping.arrow(table.number, records)
lists = {name: [record.get(name) for record in records] for name in arrow.column_names}
flat = pyarrow.table({"i32": range(50), "color": pyarrow.array(["Red"] * 50).dictionary_encode()})
scalars = SHAPES.table("shapes.Scalars")
class Sink(io.RawIOBase):
    # One of io.BytesIO is closed after it could not grow.
    def writable(self):
        return True
    def write(self, data):
        return len(data)
for kind, columns, most in ((scalars, flat, 200), (table, arrow, 3000), (table, lists, 6000)):
    failed = 0
    for allocation in range(0, most, 1 if most < 1000 else 23):
        writer = StreamWriter(Sink(), buffer_size=1000)
        try:
            _testcapi.set_nomemory(allocation, allocation + 1)
            try:
                write_columns(writer, kind.layout, kind.number, columns)
            finally:
                _testcapi.remove_mem_hooks()
        except MemoryError:
            failed += 1
        try:
            writer.close()
        except FlatStreamError as error:
            # It was the sink that had no memory.
            assert writer.is_refusing and isinstance(error.__cause__, MemoryError)
    with StreamWriter(io.BytesIO()) as writer:
        print(failed > 50, write_columns(writer, kind.layout, kind.number, columns))
"""


def test_memory_that_cannot_be_had_is_a_memory_error() -> None:
    pytest.importorskip("_testcapi")
    assert survives(NO_MEMORY) == ["True 50", "True 3", "True 3"]


def test_nothing_is_left_behind() -> None:
    table = pa.table(
        {"value": np.arange(2000), "label": [str(i) for i in range(2000)], "children": [[{"value": 1}]] * 2000}
    )
    bad = pa.table({"value": pa.array([1] * 500 + [2**40])})
    numbers_ = {"i64": np.arange(1000), "f64": np.zeros(1000)}
    lists = {"label": ["x"] * 500, "children": [[{"label": "y"}]] * 500}

    def work() -> None:
        write(TREE, table)
        write(SCALARS, numbers_)
        write(TREE, lists)
        with pytest.raises(ValueError, match="row 500"):
            write(TREE, bad)
        with pytest.raises(ValueError, match="no field"):
            write(SCALARS, table)

    for _ in range(3):
        work()
    gc.collect()
    references = [sys.getrefcount(item) for item in (table, bad, numbers_["i64"], TREE.layout, SCALARS.layout)]
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    work()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(10):
        work()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000
    assert pa.total_allocated_bytes() == arrow
    assert references == [sys.getrefcount(item) for item in (table, bad, numbers_["i64"], TREE.layout, SCALARS.layout)]


# What nobody sends by accident


def test_types_that_are_all_null_go_with_empty_vectors() -> None:
    root = UNIONS.table("unions.Root")
    for types_ in ([None], pa.nulls(1)):
        (message,) = messages_of(root, {"choices": [[]], "choices_type": types_})
        assert root.view(message).choices == []
        refused(root, {"choices": [[{"Named": {"name": "n"}}]], "choices_type": types_}, ValueError, "1 elements and 0")


class LongBytes(bytes):
    def __len__(self) -> int:
        return 4000


class MadeOfLongBytes(bytes):
    def __bytes__(self) -> bytes:
        return LongBytes(b"abc")


def test_bytes_that_say_they_are_longer_are_as_long_as_they_are() -> None:
    for field in ("u8s", "accesses", "overaligned"):
        (message,) = messages_of(VECTORS, {field: [MadeOfLongBytes(b"a")]})
        assert len(message) < 300
    assert values(TREE, "label", {"label": [LongBytes(b"abc")]}) == ["abc"]


def test_list_that_changes_while_it_is_read_is_read_as_it_was() -> None:
    class Kind:
        kind = "O"
        names = None

    class Column:
        dtype = Kind()

        def __init__(self) -> None:
            self.values: list[Any] = []

        def tolist(self) -> list[Any]:
            return self.values

    class Clearing:
        def __index__(self) -> int:
            column.values.clear()
            return 1

    column = Column()
    column.values = [Clearing(), *range(1000)]
    assert values(SCALARS, "i32", {"i32": column}) == [1, *range(1000)]


def test_mask_of_two_dimensions_is_refused_for_objects_too() -> None:
    for dtype in (object, "U1"):
        data = np.ma.array(np.array([["a", "b"], ["c", "d"]], dtype), mask=[[False, False], [False, False]])
        refused(VECTORS, {"strings": data}, TypeError, "has a mask of 2 dimensions")


def test_whole_numbers_become_the_nearest_float_whatever_they_come_in() -> None:
    for number in (2**60 + 2**36 + 1, -(2**60 + 2**36 + 1), 2**63 + 2**39 + 1, 2**24 + 1, 2**62 - 1):
        nearest = min(
            (float(np.nextafter(np.float32(number), np.float32(end))) for end in (-np.inf, np.inf)),
            key=lambda near: abs(int(near) - number),
        )
        nearest = min(nearest, float(np.float32(number)), key=lambda near: (abs(int(near) - number), near != nearest))
        dtype = "i8" if number < 2**63 else "u8"
        for column in (np.array([number], dtype), [number], pa.array([number], pa.uint64() if dtype == "u8" else None)):
            found = float(values(SCALARS, "f32", {"f32": column})[0])
            assert abs(int(found) - number) <= abs(int(nearest) - number), (number, column)
        sink = io.BytesIO()
        with StreamWriter(sink) as writer:
            RecordWriter(writer, SCALARS).write(f32=number)
            RecordWriter(writer, VECTORS).write(f32s=np.array([number], dtype))
            RecordWriter(writer, VECTORS).write(f32s=[number])
        scalar, *vectors = StreamReader(sink.getvalue())
        assert SCALARS.view(scalar).f32 == found
        assert [VECTORS.view(payload).f32s[0] for payload in vectors] == [found, found]


@pytest.mark.parametrize("size", [1, 9000], ids=["small", "large"])
def test_rows_written_counts_a_row_whose_rest_is_still_to_go(size: int) -> None:
    """A signal handler raises when the sink has the beginning of a frame: the frame stands, and its rest follows."""
    taken = bytearray()
    answers: list[Any] = [None, None, 10, KeyboardInterrupt()]

    def write(data: Any) -> int:
        answer = answers.pop(0) if answers else None
        if isinstance(answer, BaseException):
            raise answer
        count = min(len(data), len(data) if answer is None else answer)
        taken.extend(data[:count])
        return count

    encoder = Encoder(DefaultFramer(), 0, write, error_takes_nothing=True)
    labels = ["x" * size + str(i) for i in range(5)]
    with pytest.raises(KeyboardInterrupt) as caught:
        write_columns(encoder, TREE.layout, TREE.number, {"label": labels})
    written = caught.value.rows_written  # type: ignore[attr-defined]
    assert written == encoder.frames_written
    write_columns(encoder, TREE.layout, TREE.number, {"label": labels[written:]})
    assert [TREE.view(payload).label for payload in StreamReader(bytes(taken))] == labels


def test_indices_and_arrays_of_pandas() -> None:
    stamps = pd.date_range("2024-01-01", periods=2, tz="UTC").as_unit("ns")
    expected_stamps = [1_704_067_200_000_000_000, 1_704_153_600_000_000_000]
    for column in (stamps, stamps.array, pd.Series(stamps), stamps.tz_localize(None), stamps.tz_localize(None).array):
        assert values(SCALARS, "i64", {"i64": column}) == expected_stamps
    missing = pd.DatetimeIndex(["2024-01-01", None], tz="UTC").as_unit("ns")
    assert values(OPTIONALS, "i64", {"i64": missing}) == [expected_stamps[0], None]
    for column in (
        pd.RangeIndex(1, 3),
        pd.Index([1, 2]),
        pd.Index([1, 2], dtype="Int64"),
        pd.array([1, 2], dtype="Int64"),
    ):
        assert values(SCALARS, "i64", {"i64": column}) == [1, 2]
    assert values(TREE, "label", {"label": pd.Index(["a", "b"])}) == ["a", "b"]
    with pytest.raises(TypeError, match=r"got LazyFrame: collect\(\) it first"):
        write(SCALARS, pl.LazyFrame({"i64": [1]}))


def test_nan_of_pandas_is_null_and_that_of_its_numpy_array_is_a_number() -> None:
    frame = pd.DataFrame({"f64": [1.5, np.nan]})
    assert values(OPTIONALS, "f64", frame) == values(OPTIONALS, "f64", {"f64": frame["f64"]}) == ["1.5", None]
    assert values(SCALARS, "f64", frame) == ["1.5", "0.0"]
    for columns in ({"f64": frame["f64"].to_numpy()}, pl.from_pandas(frame, nan_to_null=False)):
        for table in (SCALARS, OPTIONALS):
            assert values(table, "f64", columns) == ["1.5", "nan"]


def test_number_without_a_name_goes_in_as_its_text_from_a_list_too() -> None:
    for column in (["77", "Red"], np.array(["77", "Red"]), pa.array(["77", "Red"])):
        assert values(SCALARS, "color", {"color": column}) == [77, -2]

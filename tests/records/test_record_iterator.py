"""Records of a stream, and who keeps what alive."""

from __future__ import annotations

import array
import functools
import gc
import importlib
import io
import itertools
import mmap
import random
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flatstream
from flatstream import (
    Builder,
    ChecksumMismatchError,
    ChecksumType,
    FlatbufferError,
    RecordView,
    Schema,
    StreamReader,
    ValidationFailedError,
)
from flatstream._core.records.field_lookup import RecordTypes
from flatstream._core.records.record_iterator import view_message
from flatstream._core.records.record_view import VectorView
from reference import framing as reference
from support.extent import in_one_test
from support.memory import growth
from support.messages import (
    NAMED,
    changed,
    finished,
    messages_of,
    union_messages,
    written_by,
)
from support.processes import run_python, survives
from support.record_views import EXTREMES, table_of
from support.schemas import SCHEMAS, generated, schema_of
from support.sources import CutSource
from support.threads import run_threads, switching

# Streams

PAYLOADS = [changed(NAMED, (28, "I", number)) for number in range(40)]


def stream_of(payloads: list[bytes], checksum: str = "none") -> bytes:
    return reference.encode(payloads, checksum)


NAMED_TABLE = table_of("shapes", "Named")


@in_one_test
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("checksum", ["none", "crc32"])
@pytest.mark.parametrize("make", [bytes, bytearray, io.BytesIO, CutSource])
def test_reader_gives_every_message_as_a_record(make, checksum, verify):
    with StreamReader(make(stream_of(PAYLOADS, checksum)), checksum, capacity=200) as reader:
        records = reader.records(NAMED_TABLE, verify=verify)
        assert iter(records) is records
        assert [(record.code, record.name) for record in records] == [(i, "hello") for i in range(40)]
        assert reader.frames_read == 40
        assert next(records, None) is None


def test_records_that_are_kept_stay_as_they_are():
    """Among them parts of records, vectors and arrays, while the reader goes from chunk to chunk."""
    payloads = []
    for number in range(60):
        made = generated("Vectors").VectorsT()
        made.i64s, made.strings = [number, -number], [str(number)] * 3
        made.scalars = [generated("Scalars").ScalarsT()]
        made.scalars[0].i32 = number
        made.points = [generated("Point").PointT()]
        made.points[0].x = float(number)
        payloads.append(written_by(Builder, finished(made)))
    for make in (io.BytesIO, CutSource, bytes):
        with StreamReader(make(stream_of(payloads)), capacity=500) as reader:
            kept = []
            for number, record in enumerate(reader.records(table_of("shapes", "Vectors"))):
                what = (record, record.i64s, record.strings, record.scalars[0], record.points.to_numpy(), record.points)
                # Only one part of each message.
                kept.append(what[number % len(what)])
                del record, what
        gc.collect()
        for number, value in enumerate(kept):
            if isinstance(value, RecordView):
                assert number == (value.i64s[0] if value.__table__ == "shapes.Vectors" else value.i32)
            elif isinstance(value, np.ndarray):
                assert number == (value[0] if value.dtype == np.int64 else value["x"][0])
            else:
                assert value == ([str(number)] * 3) or value[0].x == number


def test_list_of_records_has_all_of_them():
    with StreamReader(io.BytesIO(stream_of(PAYLOADS)), capacity=300) as reader:
        records = list(reader.records(NAMED_TABLE))
    assert [record.code for record in records] == list(range(40))
    assert len({id(record) for record in records}) == 40


def test_iterator_goes_on_after_a_message_that_was_refused():
    payloads = list(PAYLOADS[:6])
    payloads[1] = changed(payloads[1], (32, "I", 17))
    payloads[3] = b"abc"
    payloads[4] = b""
    stream = stream_of(payloads)
    for verify in (True, False):
        reader = StreamReader(stream)
        records = reader.records(NAMED_TABLE, verify=verify)
        codes: list[Any] = []
        while True:
            try:
                record = next(records)
                codes.append(record.code)
                _ = record.name
            except StopIteration:
                break
            except (ValidationFailedError, FlatbufferError) as error:
                codes.append((error.frame, error.offset, str(error).count("stream offset"), type(error)))
        places = [sum(4 + len(payload) for payload in payloads[:number]) for number in range(6)]
        kind = ValidationFailedError if verify else FlatbufferError
        expected = [0, (1, places[1], 1, kind), 2, (3, places[3], 1, kind), (4, places[4], 1, kind), 5]
        if not verify:
            # The record is there; only its name is not.
            expected.insert(1, 1)
        assert codes == expected
        assert reader.frames_read == 6
    refused = refused_by(stream_of(payloads[1:2]))
    assert (refused.validator, refused.path) == ("shapes.Named", "named.name")
    assert refused.reason == "a vector at byte 36 needs 17 bytes, but the message ends at 52"


def refused_by(stream: bytes) -> ValidationFailedError:
    with StreamReader(stream) as reader, pytest.raises(ValidationFailedError) as caught:
        next(reader.records(NAMED_TABLE))
    return caught.value


def test_iterator_goes_on_after_a_checksum_that_is_wrong():
    stream = bytearray(stream_of(PAYLOADS[:4], "crc32"))
    stream[8 + 52 + 8 + 30] ^= 1
    records = StreamReader(stream, ChecksumType.CRC32).records(NAMED_TABLE)
    assert next(records).code == 0
    with pytest.raises(ChecksumMismatchError) as caught:
        next(records)
    assert caught.value.frame == 1
    assert [record.code for record in records] == [2, 3]
    stream = bytearray(stream_of(PAYLOADS[:3], "crc32"))
    stream[8 + 52 + 8 + 30] ^= 1
    stream[2 * 60 + 8 + 32] = 17
    stream[2 * 60 + 4 : 2 * 60 + 8] = reference.encode([bytes(stream[2 * 60 + 8 :])], "crc32")[4:8]
    records = StreamReader(stream, ChecksumType.CRC32).records(NAMED_TABLE)
    assert next(records).code == 0
    with pytest.raises(ChecksumMismatchError):
        next(records)
    # Frames that were refused count.
    with pytest.raises(ValidationFailedError) as refused:
        next(records)
    assert (refused.value.frame, refused.value.offset) == (2, 120)


@pytest.mark.parametrize(("verify", "kind"), [(True, ValidationFailedError), (False, FlatbufferError)])
def test_error_of_the_first_message_asks_for_the_checksum_and_the_schema(verify, kind):
    def notes_of(records: Iterator[Any]) -> list[str]:
        with pytest.raises(kind) as caught:
            next(records)
        return getattr(caught.value, "__notes__", [])

    first = [
        (
            "nothing was read before it: was the stream written with another checksum (flatstream.detect tells), "
            "or with another schema?"
        )
    ]
    bad = b"\xff" * 12
    # The checksum was forgotten.
    assert notes_of(StreamReader(stream_of(PAYLOADS, "crc32")).records(NAMED_TABLE, verify=verify)) == first
    records = StreamReader(stream_of([bad, bad, PAYLOADS[0], bad])).records(NAMED_TABLE, verify=verify)
    assert notes_of(records) == first
    assert notes_of(records) == []
    assert next(records).code == 0
    assert notes_of(records) == []
    # What was refused came before it.
    stream = bytearray(stream_of([PAYLOADS[0], bad], "crc32"))
    stream[20] ^= 1
    records = StreamReader(stream, "crc32").records(NAMED_TABLE, verify=verify)
    with pytest.raises(ChecksumMismatchError):
        next(records)
    assert notes_of(records) == []
    # A message by itself has none.
    with pytest.raises(kind) as caught:
        NAMED_TABLE.view(bad, verify=verify)
    assert not hasattr(caught.value, "__notes__")


def test_records_and_other_ways_of_reading_take_turns():
    with StreamReader(stream_of(PAYLOADS)) as reader:
        records = reader.records(NAMED_TABLE)
        first = next(records)
        assert bytes(reader.read_message() or b"") == PAYLOADS[1]
        assert next(records).code == 2
        assert next(reader) == PAYLOADS[3]
        assert next(reader.records(NAMED_TABLE, verify=False)).code == 4
        assert len(reader.read_batch(3) or ()) == 3
        assert next(records).code == 8
        assert first.code == 0


def test_end_of_records_is_looked_at_again():
    source = io.BytesIO(stream_of(PAYLOADS[:1]))
    records = StreamReader(source).records(NAMED_TABLE)
    assert next(records).code == 0
    assert next(records, None) is None
    place = source.tell()
    source.write(stream_of(PAYLOADS[1:2]))
    source.seek(place)
    assert next(records).code == 1


def test_wrong_arguments_are_type_errors():
    schema, view = schema_of("shapes"), typing.cast(Any, NAMED_TABLE.view)
    with StreamReader(stream_of(PAYLOADS)) as reader:
        for table in (schema, None, "shapes.Named", 5):
            with pytest.raises(TypeError, match=r"table must be a Table of a schema|needs a table"):
                reader.records(table)
        with pytest.raises(TypeError):
            reader.records(NAMED_TABLE, False)  # type: ignore[call-arg]
    for source in (b"", None, [NAMED], iter(())):
        with pytest.raises(TypeError, match="reader must be a StreamReader"):
            NAMED_TABLE.read_records(source)  # type: ignore[arg-type]
    for payload in ("abc", None, 5, [1, 2]):
        with pytest.raises(TypeError, match="payload must be a bytes-like object"):
            view(payload)
    with pytest.raises(BufferError, match="payload must be C-contiguous"):
        NAMED_TABLE.view(memoryview(NAMED)[::2])
    with pytest.raises(TypeError):
        view(NAMED, False)
    # Anything that can read records from a reader does.
    records: Any = flatstream.StreamReader(b"").records(Recorder())
    assert records == ("read", True)


class Recorder:
    def read_records(self, reader: Any, *, verify: bool, **limits: Any) -> tuple[str, bool]:
        assert isinstance(reader, StreamReader)
        return "read", verify


def test_closed_reader_gives_no_records_and_leaves_those_that_it_gave():
    reader = StreamReader(io.BytesIO(stream_of(PAYLOADS)))
    records = reader.records(NAMED_TABLE)
    first = next(records)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        next(records)
    assert first.to_dict() == {"name": "hello", "note": "é", "code": 0}


@switching
def test_threads_that_share_an_iterator_get_every_record_once():
    payloads = [changed(NAMED, (28, "I", number)) for number in range(4000)]
    reader = StreamReader(io.BytesIO(stream_of(payloads)), capacity=1000)
    records = reader.records(NAMED_TABLE)
    found: list[list[int]] = [[], [], []]

    def work(codes: list[int]) -> None:
        for record in records:
            code = record.code
            assert record.name == "hello"
            assert record.code == code
            codes.append(code)

    run_threads(*(functools.partial(work, codes) for codes in found))
    assert sorted(itertools.chain(*found)) == list(range(4000))


# Who keeps what alive

HOLDERS: dict[str, Callable[[Any], Any]] = {
    "record": lambda record: record,
    "table": lambda record: record.scalars[0],
    "struct": lambda record: record.points[1],
    "vector": lambda record: record.strings,
    "slice": lambda record: record.strings[1:],
    "array": lambda record: record.i64s,
    "part of an array": lambda record: record.i64s[1:],
    "structs": lambda record: record.points.to_numpy()["x"],
    "iterator": lambda record: iter(record.strings),
    "method": lambda record: record.to_dict,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_whatever_is_kept_of_a_message_keeps_its_memory(name):
    table = table_of("shapes", "Vectors")
    memory = bytearray(messages_of("shapes")[0])
    whole = table_of("shapes").view(memory)
    payload = memoryview(memory)
    record = table_of("shapes").view(payload).vectors
    assert record.__table__ == table.name
    # A caller may release what it gave.
    payload.release()
    held = HOLDERS[name](record)
    text = str(held) if name not in ("iterator", "method") else ""
    del record, whole
    gc.collect()
    with pytest.raises(BufferError):
        memory.append(0)
    if text:
        assert str(held) == text
    del held
    gc.collect()
    memory.append(0)


def test_closed_mapping_is_refused_while_a_record_lives(tmp_path):
    path = tmp_path / "message"
    path.write_bytes(NAMED)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        record = NAMED_TABLE.view(mapping)
        with pytest.raises(BufferError):
            mapping.close()
        assert record.name == "hello"
        del record


@in_one_test
@pytest.mark.parametrize(
    "make",
    [
        bytes, bytearray, memoryview, lambda data: array.array("B", data), lambda data: np.frombuffer(data, np.uint8),
        lambda data: memoryview(bytearray(data)).toreadonly(), lambda data: np.frombuffer(data, "<u4"),
    ],
)  # fmt: skip
def test_payload_may_be_any_memory(make):
    record = NAMED_TABLE.view(make(NAMED))
    assert record.to_dict() == {"name": "hello", "note": "é", "code": 7}


def test_message_of_a_builder_is_read_where_it_is():
    builder = Builder(64)
    made = generated("Named").NamedT()
    made.name = "built"
    builder.Finish(made.Pack(builder))
    record = NAMED_TABLE.view(builder)
    builder.Clear()
    builder.CreateString("y" * 500)
    assert record.name == "built"


def test_buffer_that_changes_after_it_was_verified_does_no_harm():
    memory = bytearray(messages_of("shapes")[0])
    record = table_of("shapes").view(memory)
    rng = random.Random(1)
    errors = 0
    for _ in range(300):
        memory[rng.randrange(len(memory))] = rng.randrange(256)
        try:
            record.to_dict()
            _ = record.title, record.vectors.strings, record.choice
        except FlatbufferError:
            errors += 1
    assert errors


def test_cycles_through_the_payload_are_collected():
    class Memory(bytearray):
        pass

    for keep in (lambda record: record, lambda record: record.strings, lambda record: iter(record.strings)):
        memory = Memory(EXTREMES)
        memory.kept = keep(table_of("shapes", "Vectors").view(memory))  # type: ignore[attr-defined]
        found = [each for each in gc.get_objects() if type(each) is Memory]
        assert len(found) == 1
        del found, memory
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Memory]


def cycle(folder: Path) -> None:
    table: Any = table_of("shapes")
    record: Any = None
    payloads = [*messages_of("shapes"), messages_of("shapes")[0][:-30], b""]
    for verify in (True, False):
        records = StreamReader(io.BytesIO(stream_of(payloads)), capacity=3000).records(table, verify=verify)
        while True:
            try:
                record = next(records, None)
                if record is None:
                    break
                record.to_dict(enums="name")
                repr(record)
                dir(record)
                assert record == record
                _ = record.vectors and (
                    record.vectors.i64s,
                    record.vectors.points.to_numpy(),
                    record.vectors.strings[::-1],
                )
            except (FlatbufferError, ValidationFailedError):
                continue
    for wrong in (
        lambda: record.nothing,
        lambda: table.view("x"),
        lambda: view_message(RecordTypes(table.layout), 99, b"", True),
    ):
        with pytest.raises((AttributeError, TypeError, ValueError)):
            wrong()
    schema = Schema.from_file(SCHEMAS / "unions.bfbs")
    assert schema.root
    assert schema.root.view(union_messages()[0]).things[0] == "ok"


def test_nothing_is_left_over(tmp_path):
    grown = growth(cycle, tmp_path, sys.getallocatedblocks, 10)
    # One block in a cycle would be 10 in every round.
    assert min(grown) < 5, grown


def test_steady_state_makes_no_chunks(tmp_path):
    """A loop over records swaps between two chunks, as one over payloads does."""
    with StreamReader(io.BytesIO(stream_of(PAYLOADS * 50)), capacity=1000) as reader:
        owners = set()
        for record in reader.records(NAMED_TABLE):
            owners |= {id(found) for found in chunks_of(record)}
        assert 1 <= len(owners) <= 2


def chunks_of(record: Any) -> Iterator[Any]:
    for found in gc.get_referents(record):
        if isinstance(found, memoryview):
            yield found.obj


# Objects that were not made


def test_objects_that_were_not_made_survive_being_used():
    code = f"""
from flatstream._core.records.record_view import *
from flatstream._core.records import field_lookup, message_arrays, record_iterator, record_view
from flatstream._core.flatbuf.layout import Layout
NAMED = bytes.fromhex({NAMED.hex()!r})
table = Schema.from_file({str(SCHEMAS / "shapes.bfbs")!r}).table("shapes.Named")
good = table.view(NAMED)
classes = [
    RecordView, record_view.VectorView, record_iterator.RecordIterator, field_lookup.RecordTypes,
    message_arrays.ArrayMemory, message_arrays.ArrayTypes, Layout,
]
things = [cls.__new__(cls) for cls in classes]
import copy, operator, pickle
for thing in things:
    for name in dir(type(thing)):
        if name in ("__class__", "__init_subclass__", "__subclasshook__"):
            continue
        try:
            member = getattr(thing, name)
        except Exception:
            continue
        for arguments in (
            (), (0,), ("name",), (slice(1),), (good,), (thing,), (b"abc",), (0, NAMED, True), (0, StreamReader(b""), 1)
        ):
            try:
                member(*arguments)
            except Exception:
                pass
    for use in (
        repr, str, list, len, iter, next, hash, bool, memoryview, bytes, dir, copy.copy, copy.deepcopy, pickle.dumps
    ):
        try:
            use(thing)
        except Exception:
            pass
    for other in (good, thing, [], 5):
        for compare in (operator.eq, operator.ne, operator.lt, operator.contains):
            for pair in ((thing, other), (other, thing)):
                try:
                    compare(*pair)
                except Exception:
                    pass
    attempt(type(thing).__init__, thing)
attempt(field_lookup.RecordTypes, Layout.__new__(Layout))
attempt(field_lookup.RecordTypes, None)
types = field_lookup.RecordTypes(table.layout)
attempt(types.__init__, table.layout)
for number in (-1, 10**9, 2**70, None, "1", 1.5):
    attempt(record_iterator.view_message, types, number, NAMED, True)
    attempt(record_iterator.iterate_records, types, number, StreamReader(b""), True)
half = field_lookup.RecordTypes.__new__(field_lookup.RecordTypes)
attempt(record_iterator.view_message, half, 0, NAMED, True)
attempt(record_iterator.iterate_records, half, 0, StreamReader(b""), True)
attempt(record_iterator.view_message, None, 0, NAMED, True)
attempt(good.__init__)
print(good.code)
"""
    lines = survives(code)
    assert lines[-1] == "7"
    assert not [line for line in lines[:-1] if line.startswith("no error")], lines


def test_types_to_annotate_with_are_exported():
    assert flatstream.schema.__all__ == [
        "Enum",
        "EnumValue",
        "EvolutionIssue",
        "Field",
        "RecordView",
        "Schema",
        "Struct",
        "Table",
        "VectorView",
        "json_lines",
    ]
    assert flatstream.schema.VectorView is VectorView
    assert isinstance(NAMED_TABLE.view(NAMED), flatstream.schema.RecordView)
    assert importlib.import_module("flatstream.columns").__all__ == [
        "Column",
        "ColumnBatch",
        "ColumnSchema",
        "ColumnStream",
    ]


def test_struct_is_no_message():
    types = RecordTypes(table_of("shapes").layout)
    point = schema_of("shapes").numbers["shapes.Point"]
    with pytest.raises(ValueError, match="is a struct, not a table"):
        view_message(types, point, NAMED, True)


def test_record_view_is_exported_and_imported_only_when_asked_for():
    """What else an import brings in, test_structure.py says."""
    code = """
names = ("flatstream._core.records.record_view", "flatstream.schema", "numpy")
print([name in sys.modules for name in names])
print(RecordView.__name__, [name in sys.modules for name in names])
"""
    done = run_python(f"import sys, flatstream{code.replace('RecordView', 'flatstream.RecordView')}")
    assert done.stdout.splitlines() == ["[False, False, False]", "RecordView [True, True, False]"], done.stderr

"""Records written to a stream: nothing half-written, framing, threads, many kinds of records, memory."""

from __future__ import annotations

import functools
import gc
import importlib
import io
import pickle
import struct
import sys
import threading
import tracemalloc
import types
from typing import Any

import flatbuffers
import numpy as np
import pytest

from asv_benchmarks.common import NullSink
from flatstream import (
    BoundedFramer,
    Builder,
    ChecksumFramer,
    Crc32,
    DefaultFramer,
    FlatbufferError,
    InvalidFrameError,
    MemoryPolicy,
    ObserverFramer,
    ReclamationReason,
    RecordWriter,
    Schema,
    SizeValidator,
    StreamReader,
    StreamWriter,
    ValidatingFramer,
    ValidationFailedError,
)
from flatstream._core.records.record_builder import RecordBuilder
from flatstream.journal import ThreadedWriter
from flatstream.schema._reflection import BaseType, FieldInfo, ObjectInfo, SchemaInfo, TypeInfo
from support.extent import in_one_test
from support.messages import outcome, root_at, telemetry_sample
from support.modes import MODES, every_mode
from support.processes import survives
from support.records import encoded, slots_of, table_of, written
from support.schemas import SCHEMAS, SHAPES, TELEMETRY, generated

# Depth


def test_records_are_nested_as_deep_as_verifiers_look_and_no_deeper():
    def nested(levels: int) -> dict[str, Any]:
        record: dict[str, Any] = {"value": 1}
        for _ in range(levels - 1):
            record = {"left": record}
        return record

    encoded(table_of("Tree"), nested(64))
    with pytest.raises(ValueError, match=r"^left(\.left){62}\.left: tables are nested deeper than 64"):
        encoded(table_of("Tree"), nested(65))
    endless: dict[str, Any] = {"value": 1}
    endless["children"] = [endless]
    with pytest.raises(ValueError, match="tables are nested deeper than 64"):
        written(table_of("Tree"), lambda records: records.write(**endless))


# Nothing half-written


def test_refused_record_leaves_nothing_and_the_next_is_written():
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumFramer(Crc32())) as writer:
        records = RecordWriter(writer, table_of("Vectors"))
        for record in ({"named": [("a",), {"code": 1}]}, {"strings": ["a", 5]}, {"i8s": [1, 2, 300]}, {"no": 1}, 7):
            with pytest.raises((TypeError, ValueError)):
                records.write_record(record)
            assert (writer.frames_written, writer.bytes_written, writer.pending_bytes) == (0, 0, 0)
        records.write(i8s=[1, 2, 3])
        before = writer.bytes_written
        with pytest.raises(ValueError, match=r"^row 2, i8s\[0\]: expected a byte"):
            records.write_records([{"i8s": [1]}, {"i8s": [2]}, {"i8s": [200]}, {"i8s": [3]}])
        assert writer.frames_written == 3
        assert writer.bytes_written > before
    payloads = list(StreamReader(sink.getvalue(), "crc32"))
    reads = [generated("Vectors").Vectors.GetRootAs(payload, 0) for payload in payloads]
    assert [[read.I8s(i) for i in range(read.I8sLength())] for read in reads] == [[1, 2, 3], [1], [2]]


class Failing:
    name = "n"

    @property
    def code(self) -> int:
        raise ZeroDivisionError("mine")


class FailingIndex:
    def __index__(self) -> int:
        raise ZeroDivisionError("mine")


def test_error_of_the_records_own_code_comes_through_with_its_place():
    table = table_of("Shape")
    with pytest.raises(ZeroDivisionError, match=r"^mine") as caught:
        encoded(table, {"named": Failing()})
    assert caught.value.__notes__ == ["at named"]
    with pytest.raises(ZeroDivisionError) as caught:
        written(table, lambda records: records.write_records([{}, {"vectors": {"i32s": [1, FailingIndex()]}}]))
    assert caught.value.__notes__ == ["at row 1, vectors.i32s[1]"]

    def failing() -> Any:
        yield ("a",)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError) as caught:
        written(table_of("Named"), lambda records: records.write_records(failing()))
    assert not hasattr(caught.value, "__notes__")


def test_failed_encode_leaves_the_builder_as_it_was():
    table = table_of("Shape")
    builder = Builder(16)
    place = builder.CreateString("before")
    used = builder.Offset()
    for record in ({"title": "x" * 1000, "named": {"code": 1}}, {"vectors": {"strings": ["a", 5]}}, {"id": -1}, 7):
        with pytest.raises((TypeError, ValueError)):
            table.encode(builder, record)
        assert (builder.Offset(), builder.nested, builder.finished) == (used, False, False)
    table.encode(builder, title="t")
    message = bytes(builder.Output())
    assert generated("Shape").Shape.GetRootAs(message, 0).Title() == b"t"
    assert message[len(message) - place + 4 :][:6] == b"before"
    with pytest.raises(FlatbufferError, match="finished message: call its Clear"):
        table.encode(builder, title="t")
    builder.Clear()
    builder.StartObject(1)
    with pytest.raises(FlatbufferError, match="in the middle of a table"):
        table.encode(builder, title="t")
    for wrong in (flatbuffers.Builder(16), None, Builder, 5):
        with pytest.raises(TypeError, match=r"builder must be a flatstream\.Builder"):
            table.encode(wrong, title="t")


def test_builder_cannot_be_cleared_or_exchanged_in_the_middle_of_a_record():
    builder = Builder(16)

    class Clearing:
        def __iter__(self) -> Any:
            builder.Clear()
            yield {"name": "z"}

    with pytest.raises((RuntimeError, ValueError), match=r"the record used the builder|Offset arithmetic"):
        table_of("Vectors").encode(builder, strings=["first" * 10, "second"], named=Clearing())

    class Exchanging:
        def __iter__(self) -> Any:
            records._use_builder(Builder(0))
            yield {"name": "z"}

    with StreamWriter(io.BytesIO()) as writer:
        records = RecordWriter(writer, table_of("Vectors"))
        with pytest.raises(RuntimeError, match="in the middle of a record"):
            records.write(strings=iter(["first", "second"]), named=Exchanging())
        assert writer.frames_written == 0
        records.write(strings=["a"])
        assert writer.frames_written == 1


def test_encode_is_what_serialize_of_an_item_calls():
    table = table_of("Named")

    class Item:
        def serialize(self, builder: Builder) -> None:
            table.encode(builder, name="n", code=5)

    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        writer.write(Item())
        writer.write(Item())
    assert [bytes(payload) for payload in StreamReader(sink.getvalue())] == [encoded(table, ("n", None, 5))] * 2


def test_a_schema_keeps_the_encoders_of_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    # ``schema.root`` is another Table each time, and making an encoder costs a thousand times as much as encoding.
    made = []

    class Counted(RecordBuilder):
        def __init__(self, *arguments: Any) -> None:
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr("flatstream.schema.table.RecordBuilder", Counted)
    schema = pickle.loads(pickle.dumps(TELEMETRY))
    builder = Builder(64)
    for number in range(10):
        builder.Clear()
        schema.table("telemetry.Event").encode(builder, sequence=number)
        assert schema.root.view(bytes(builder)).sequence == number
        builder.Clear()
        with pytest.raises(TypeError):
            schema.table("telemetry.Disk").encode(builder, name=number)
    assert len(made) == 2


def test_a_record_encodes_another_one_of_its_table_while_it_is_encoded() -> None:
    table = TELEMETRY.table("telemetry.Disk")

    class Nested:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        @property
        def name(self) -> str:
            if not self.depth:
                return "a"
            builder = Builder(64)
            table.encode(builder, Nested(self.depth - 1))
            return f"{table.view(bytes(builder)).name}{self.depth}"

    builder = Builder(64)
    table.encode(builder, Nested(3))
    assert table.view(bytes(builder)).name == "a123"


def test_a_writer_of_another_kind_is_refused_with_what_to_do_instead() -> None:
    told = r"must be a StreamWriter, got ThreadedWriter: build each record with"
    with ThreadedWriter(StreamWriter(io.BytesIO()), 10) as writer, pytest.raises(TypeError, match=told):
        RecordWriter(writer, table_of("Named"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a StreamWriter, got BytesIO$"):
        RecordWriter(io.BytesIO(), table_of("Named"))  # type: ignore[arg-type]


def test_record_that_meddles_with_the_builder_does_no_harm():
    table = table_of("Shape")
    for deed in ("Clear", "Output", "StartObject", "CreateString", "view", "encode"):
        builder = Builder(16)

        class Meddler:
            def __init__(self, deed: str, builder: Builder) -> None:
                self.deed, self.builder = deed, builder

            def __index__(self) -> int:
                if self.deed == "view":
                    memoryview(self.builder.Bytes)[:] = b"\xff" * len(self.builder.Bytes)
                elif self.deed == "encode":
                    if not self.builder.finished:
                        table.encode(self.builder, title="x")
                else:
                    arguments = {"StartObject": (3,), "CreateString": ("x" * 500,)}.get(self.deed, ())
                    getattr(self.builder, self.deed)(*arguments)
                return 1

        record = {
            "title": "t",
            "vectors": {"i32s": [1, Meddler(deed, builder)], "strings": ["a", "b"]},
            "id": Meddler(deed, builder),
        }
        result = outcome(functools.partial(table.encode, builder, record))
        assert result[0] == "returned" or result[1].__module__ in ("builtins", "flatbuffers.builder"), result
        if deed == "encode":
            assert (result[0], result[1]) == ("raised", RuntimeError), result


# Streams


@in_one_test
@every_mode
@pytest.mark.parametrize("buffer_size", [0, 1, 64, 4096])
def test_records_are_framed_as_their_payloads_would_be(mode, buffer_size):
    mode = MODES[mode] if isinstance(mode, str) else mode
    table = table_of("Named")
    flat = table_of("Scalars")
    streams = []
    for by_payload in (False, True):
        sink = io.BytesIO()
        with StreamWriter(sink, mode.framer(), buffer_size=buffer_size) as writer:
            named, numbers = RecordWriter(writer, table), RecordWriter(writer, flat)
            for i in range(40):
                if by_payload:
                    writer.write_payload(encoded(flat, {"i32": i, "f64": i / 3}))
                    writer.write_payload(encoded(table, ("x" * i, None, i)))
                else:
                    numbers.write(i32=i, f64=i / 3)
                    named.write(name="x" * i, code=i)
        streams.append(sink.getvalue())
    assert streams[0] == streams[1]


def test_framers_that_look_at_payloads_see_those_of_records():
    seen: list[bytes] = []
    sink = io.BytesIO()
    table = table_of("Scalars")
    with StreamWriter(sink, ObserverFramer(DefaultFramer(), lambda payload: seen.append(bytes(payload)))) as writer:
        records = RecordWriter(writer, table)
        records.write(i32=5)
        records.write_record({"i32": 6})
        records.write(u8=1)
    assert seen == [bytes(payload) for payload in StreamReader(sink.getvalue())]
    assert len(seen) == 3
    with StreamWriter(io.BytesIO(), BoundedFramer(DefaultFramer(), 30)) as writer:
        records = RecordWriter(writer, table)
        records.write(i32=5)
        with pytest.raises(InvalidFrameError):
            records.write(i64=5, f64=5.0, u64=7)
        with pytest.raises(InvalidFrameError):
            RecordWriter(writer, table_of("Named")).write(name="x" * 50)
        assert writer.frames_written == 1
    with StreamWriter(io.BytesIO(), ValidatingFramer(DefaultFramer(), SizeValidator(0, 20))) as writer:
        records = RecordWriter(writer, table)
        with pytest.raises(ValidationFailedError):
            records.write(i64=5, f64=5.0)
        assert writer.frames_written == 0


def test_closed_writer_takes_no_records():
    writer = StreamWriter(io.BytesIO())
    records = RecordWriter(writer, table_of("Scalars"))
    records.write(i32=1)
    writer.close()
    for write in (
        lambda: records.write(i32=1),
        lambda: records.write_record((True,)),
        lambda: records.write_records([{}]),
    ):
        with pytest.raises(ValueError, match="closed"):
            write()


def test_messages_carry_the_file_identifier_if_asked():
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        records = RecordWriter(writer, table_of("Shape"), file_identifier=True)
        records.write(id=7)
        records.write(title="t")
        records.write_record({"id": 7})
    payloads = [bytes(payload) for payload in StreamReader(sink.getvalue())]
    assert [payload[4:8] for payload in payloads] == [b"SHAP"] * 3
    assert payloads[0] == payloads[2]
    assert generated("Shape").Shape.GetRootAs(payloads[0], 0).Id() == 7


def test_arguments_of_a_record_writer_are_checked():
    with StreamWriter(io.BytesIO()) as writer:
        with pytest.raises(TypeError, match="stream_writer must be a StreamWriter, got BytesIO"):
            RecordWriter(io.BytesIO(), table_of("Named"))  # type: ignore[arg-type]
        for table in (SHAPES, "shapes.Named", None):
            with pytest.raises(TypeError, match="table must be a Table of a Schema"):
                RecordWriter(writer, table)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"got Schema: <Schema of .*>; its root table is schema\.root"):
            RecordWriter(writer, SHAPES)  # type: ignore[arg-type]
        bare = Schema(SchemaInfo((ObjectInfo("T", ()),), (), "", "", 0))
        assert bare.root is not None
        with pytest.raises(ValueError, match="the schema of T has no file identifier"):
            RecordWriter(writer, bare.root, file_identifier=True)
        # Readers of the root table would take its messages for their own.
        with pytest.raises(
            ValueError, match=r"shapes\.Named has no file identifier: 'SHAP' is that of the schema's root"
        ):
            RecordWriter(writer, table_of("Named"), file_identifier=True)
        records = RecordWriter(writer, table_of("Named"))
        assert records.table == table_of("Named")
        assert repr(records) == "<RecordWriter of shapes.Named>"


def test_sink_that_writes_a_record_of_its_own_is_refused_in_the_middle():
    outcomes: list[str] = []

    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            try:
                records.write(i32=1)
            except RuntimeError as error:
                outcomes.append(str(error))
            return len(data)

    writer = StreamWriter(Sink(), buffer_size=0)
    records = RecordWriter(writer, table_of("Scalars"))
    records.write(i32=2)
    records.write_record({"i32": 3})
    assert len(outcomes) == 2
    assert all("reentrant" in outcome for outcome in outcomes)
    writer.close()


def test_threads_share_a_record_writer():
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        records = RecordWriter(writer, table_of("Named"))
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)

        class Slow:
            """Its code runs in the middle of a record."""

            def __init__(self, value: int) -> None:
                self.value = value

            def __index__(self) -> int:
                return sum([self.value] + [0] * 20)

        def work(number: int) -> None:
            for i in range(200):
                records.write(name=f"{number}", code=Slow(1000 * number + i))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
    reads = [generated("Named").Named.GetRootAs(payload, 0) for payload in StreamReader(sink.getvalue())]
    assert sorted((int(read.Name()), read.Code()) for read in reads) == [
        (number, 1000 * number + i) for number in range(1, 5) for i in range(200)
    ]


def test_memory_policy_of_the_stream_writer_is_asked_about_the_builder_of_records_too():
    seen: list[Any] = []

    class Telling(MemoryPolicy):
        baseline_capacity = 1024

        def should_reset(self, last_message_size: int, current_capacity: int) -> Any:
            seen.append((last_message_size, current_capacity))
            return ReclamationReason.SIZE_THRESHOLD if last_message_size < 1000 else None

    sink = io.BytesIO()
    with StreamWriter(sink, memory_policy=Telling()) as writer:
        records = RecordWriter(writer, table_of("Named"))
        for size in (10, 100_000, 10, 20):
            records.write(name="x" * size)
        RecordWriter(writer, table_of("Scalars")).write(i32=5)
    # As long as the builder was large; the last two were built with another.
    assert [size > 100_000 for size, _ in seen] == [True, False]
    assert all(capacity > 100_000 for _, capacity in seen)
    sizes = [len(payload) for payload in StreamReader(sink.getvalue())]
    assert len(sizes) == 5

    class Failing(Telling):
        def should_reset(self, last_message_size: int, current_capacity: int) -> Any:
            raise ZeroDivisionError("mine")

    with StreamWriter(io.BytesIO(), memory_policy=Failing()) as writer:
        records = RecordWriter(writer, table_of("Named"))
        with pytest.raises(ZeroDivisionError, match=r"^mine"):
            records.write(name="x" * 100_000)
        assert writer.frames_written == 0
        records._use_builder(flatbuffers.Builder(10))
        records.write(name="x")
        assert writer.frames_written == 1


# Many kinds of records


def test_every_subset_of_fields_gives_its_own_message():
    """More than the patterns that are kept, forth and back."""
    table = table_of("Scalars")
    names = ["truth", "i8", "u8", "i16", "u16", "i32", "u32", "f32", "f64"]
    subsets = [[name for k, name in enumerate(names) if mask >> k & 1] for mask in range(2 ** len(names))]

    def write(records: RecordWriter) -> None:
        for subset in subsets + subsets[::-7]:
            records.write(**{name: 1.0 if name[0] == "f" else 1 for name in subset})

    for message, subset in zip(written(table, write), subsets + subsets[::-7], strict=True):
        read = generated("Scalars").Scalars.GetRootAs(message, 0)
        assert [getattr(read, name[0].upper() + name[1:])() for name in names] == [
            int(name in subset) for name in names
        ]
        assert slots_of(message) == len(subset)


@in_one_test
@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_table_of_many_fields(count):
    fields = tuple(
        FieldInfo(f"f{i}", TypeInfo(BaseType.INT if i % 2 else BaseType.DOUBLE), i, 4 + 2 * i) for i in range(count)
    )
    table = Schema(SchemaInfo((ObjectInfo("T", fields),), (), "", "", 0)).root
    assert table is not None
    record = {f"f{i}": i + 1 if i % 2 else i + 1.5 for i in range(count)}
    message = encoded(table, record)
    assert written(table, lambda records: records.write(**record)) == [message]
    root = root_at(message)
    vtable = root - struct.unpack_from("<i", message, root)[0]
    for i in range(count):
        place = root + struct.unpack_from("<H", message, vtable + 4 + 2 * i)[0]
        assert struct.unpack_from("<i" if i % 2 else "<d", message, place)[0] == record[f"f{i}"]
    last = {f"f{count - 1}": 1}
    assert written(table, lambda records: records.write(**last)) == [encoded(table, last)]


def test_event_of_the_telemetry_example_as_a_record():
    """A real message: taken apart by generated code, and built again from the values."""
    module, sources, sample, tick = telemetry_sample()
    builder = flatbuffers.Builder(0)
    module.build_event(builder, tick, sources, sample)
    message = bytes(builder.Output())
    event = importlib.import_module("telemetry.Event").Event.GetRootAs(message, 0)
    assert TELEMETRY.root is not None

    def times(read: Any) -> list[float]:
        return [
            read.User(),
            read.Nice(),
            read.System(),
            read.Idle(),
            read.Iowait(),
            read.Irq(),
            read.Softirq(),
            read.Steal(),
        ]

    def camel(name: str) -> str:
        return "".join(part.capitalize() for part in name.split("_"))

    record: dict[str, Any] = {}
    for name in TELEMETRY.root.field_names:
        if name in ("cpu_total", "cores", "disks", "interfaces"):
            continue
        record[name] = getattr(event, camel(name))()
    record["cpu_total"] = times(event.CpuTotal())
    record["cores"] = [times(event.Cores(i)) for i in range(event.CoresLength())]
    record["disks"] = [{"name": event.Disks(i).Name()} for i in range(event.DisksLength())]
    again = encoded(TELEMETRY.root, record)
    read = importlib.import_module("telemetry.Event").Event.GetRootAs(again, 0)
    for name in record:
        if name not in ("cpu_total", "cores", "disks", "interfaces"):
            assert getattr(read, camel(name))() == record[name], name
    assert times(read.CpuTotal()) == record["cpu_total"]
    assert [times(read.Cores(i)) for i in range(read.CoresLength())] == record["cores"]


# Memory


def test_steady_state_keeps_nothing():
    writer = StreamWriter(NullSink())
    table = table_of("Shape")
    records = RecordWriter(writer, table)
    flat = RecordWriter(writer, table_of("Scalars"))

    class Lost:
        pass

    def cycle() -> None:
        records.write(title="t", vectors={"i32s": np.arange(9), "strings": ["a", "b"]}, choice=("Tree", {"value": 1}))
        flat.write(i32=7, f64=1.5)
        flat.write_record(types.SimpleNamespace(i32=7))
        for wrong in ({"vectors": {"strings": ["a", 5]}}, {"structs": {"point": (1,)}}, {"x": 1}, Lost()):
            with pytest.raises((TypeError, ValueError)):
                records.write_record(wrong)

    for _ in range(50):
        cycle()
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(20):
            cycle()
        grown = []
        for _ in range(3):
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(200):
                cycle()
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0] - before)
        # The writer's own index of frames grows once or twice.
        assert min(grown) < 1000, grown
    finally:
        tracemalloc.stop()
    writer.close()


def test_memory_that_runs_out_anywhere_leaves_whole_messages_and_a_writer_that_goes_on():
    # Some builds of Python come without.
    pytest.importorskip("_testcapi")
    lines = survives(
        """
import _testcapi, types
from support.schemas import SHAPES
table, flat = SHAPES.table("shapes.Shape"), SHAPES.table("shapes.Scalars")
record = {
    "title": "x" * 50, "vectors": {"i32s": list(range(50)), "strings": ["a", "b" * 100], "points": [(1, 2)] * 9},
    "choice": ("Tree", {"children": [{"label": str(i)} for i in range(20)]}),
    "structs": {"point_required": (1, 2)},
}
shown = types.SimpleNamespace(**record)
ways = {
    "keywords": lambda records, numbers: records.write(**record),
    "mapping": lambda records, numbers: records.write_record(record),
    "attributes": lambda records, numbers: records.write_record(shown),
    "numbers": lambda records, numbers: numbers.write(i32=5, f64=1.5, i8=3),
    "tuple": lambda records, numbers: numbers.write_record((True, 1, 2)),
    "encode": lambda records, numbers: table.encode(Builder(1), record),
    "refused": lambda records, numbers: attempt_quietly(records.write_record, {"vectors": {"strings": ["a", 5]}}),
}

def attempt_quietly(function, *arguments):
    try:
        function(*arguments)
    except (TypeError, ValueError, FlatStreamError):
        pass

for name, way in ways.items():
    failed = written = refused = 0
    for place in (*range(300), *range(300, 9000, 97)):
        sink = io.BytesIO()
        writer = StreamWriter(sink, buffer_size=64)
        records, numbers = RecordWriter(writer, table), RecordWriter(writer, flat)
        _testcapi.set_nomemory(place, place + 1)
        try:
            way(records, numbers)
            written += 1
        except MemoryError:
            failed += 1
        finally:
            _testcapi.remove_mem_hooks()
        # Nothing of it, or all; and the next is written, unless the sink ran out of memory and has lost count.
        frames = writer.frames_written
        assert frames in (0, 1), (name, place)
        try:
            way(records, numbers)
            writer.close()
        except FlatStreamError:
            assert writer.is_refusing, (name, place)
            attempt_quietly(writer.close)
            refused += 1
            continue
        with StreamReader(sink.getvalue()) as reader:
            payloads = [bytes(payload) for payload in reader]
        assert len(payloads) == frames + (name not in ("encode", "refused")), (name, place)
        assert len(set(payloads)) <= 1, (name, place)
        if payloads:
            view = (table if len(payloads[0]) > 200 else flat).view(payloads[0])
            assert len(view.to_dict()) > 5
    print(name, failed > refused, written > 0)
"""
    )
    assert lines == [
        f"{name} True True" for name in ("keywords", "mapping", "attributes", "numbers", "tuple", "encode", "refused")
    ]


def test_half_made_record_writers_come_to_no_harm():
    lines = survives(
        f"""
schema = Schema.from_file({str(SCHEMAS / "shapes.bfbs")!r})
from flatstream._core.records.record_encoder import RecordEncoder, write
from flatstream._core.records.record_builder import RecordBuilder
from flatstream._core.flatbuf.layout import Layout, EnumLayout
from flatstream._core.flatbuf.template import Template
table = schema.table("shapes.Scalars")
encoder = StreamWriter(io.BytesIO())
for made in (RecordWriter.__new__(RecordWriter), RecordEncoder.__new__(RecordEncoder)):
    attempt(made.write_record, {{}})
    attempt(made.write_record, ())
    attempt(made.write_records, [{{}}])
    attempt(write, made)
    attempt(repr, made)
for made in (RecordEncoder.__new__(RecordEncoder), RecordBuilder.__new__(RecordBuilder)):
    attempt(made._encode, Builder(), {{}})
attempt(RecordBuilder, Layout.__new__(Layout), 0)
for number in (10**9, -1, schema.numbers["shapes.Point"], None):
    attempt(RecordBuilder, table.layout, number)
    attempt(RecordEncoder, table.layout, number, encoder)
attempt(RecordBuilder, None, 0)
attempt(lambda: RecordBuilder(table.layout, table.number, file_identifier=b"abc"))
attempt(RecordEncoder, table.layout, table.number, 5)
only = RecordBuilder(table.layout, table.number)
attempt(only.__init__, table.layout, table.number)
attempt(write, only)
attempt(write, 5)
attempt(write)
half = RecordEncoder.__new__(RecordEncoder)
RecordBuilder.__init__(half, table.layout, table.number)
attempt(half.write_record, {{}})
attempt(half.write_record, {{"i32": 1}})
attempt(write, half)
attempt(RecordEncoder.__init__, half, table.layout, table.number, encoder)
writer = StreamWriter(io.BytesIO())
records = RecordWriter(writer, table)
attempt(records.__init__, writer, table)
records.write(i32=1)
attempt(records._encode, Builder.__new__(Builder), {{}})
attempt(Layout, None, [], [], b"")
attempt(table.layout.__init__, table.types, [], [], b"")
attempt(table.layout.check_field, 10**6, 0)
attempt(table.layout.check_field, 0, 10**6)
attempt(Layout.__new__(Layout).check_field, 0, 0)
attempt(EnumLayout.__new__(EnumLayout).__init__, "a", False, False, 3, [("x", 1)])
writer.close()
encoder.close()
"""
    )
    assert sum("ValueError" in line or "TypeError" in line for line in lines) == len(lines) - 3

"""Bad arguments of the methods of readers, writers and batches, and methods of those that are closed.

Each is refused with an error that says what was expected, what came, and where. Afterwards the object works as before.
"""

from __future__ import annotations

import array
import io
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest

from flatstream import FlatbufferError, FlatStreamError, FrameBatch, Serializer, StreamReader, StreamWriter
from reference import framing as reference
from support.bad_input import TWO_FRAMES, Case, Errors, Refused, callables, counts, no_bytes, refusals, table
from support.extent import in_one_test
from support.items import UnfinishedItem
from support.messages import flatbuffer_of_string
from support.schemas import SHAPES, TESTS
from support.sinks import PlainSink

# Writers


class Packs:
    """Returns from ``Pack`` what is no offset."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def Pack(self, builder: Any) -> object:  # noqa: N802 - the name is flatc's
        return self.answer


class FakeBuilder:
    """Has what write_finished looks at."""

    def __init__(self, *, finished: bool = True, data: Any = b"abc", head: Any = 0) -> None:
        self.finished = finished
        self.Bytes = data
        self.head = head

    def Head(self) -> Any:  # noqa: N802 - the name is the builder's
        return self.head

    def Clear(self) -> None:  # noqa: N802 - the name is the builder's
        raise AssertionError("cleared, though nothing was written")


ITEM = r"an item must be a str, have serialize\(builder\), or be an object-API object with Pack\(builder\); got "
ITEMS = "items must be an iterable.*, got "
BATCH = "batch must be a FrameBatch, got "
PAYLOADS = "payloads must be an iterable of bytes-like objects, got "
BUILDER = r"builder must be .*flatbuffers\.Builder, got "
UNFINISHED = r"the builder is not finished: call its Finish\(root\)"


def builders(name: str) -> list[Case]:
    refused: list[tuple[str, Any, Errors, str]] = [
        ("None", None, TypeError, BUILDER + "NoneType"),
        ("int", 5, TypeError, BUILDER + "int"),
        ("bytes", b"abc", TypeError, BUILDER + "bytes"),
        ("class", flatbuffers.Builder, TypeError, BUILDER),
        ("not finished", flatbuffers.Builder(16), FlatbufferError, UNFINISHED),
        ("Bytes None", FakeBuilder(data=None), TypeError, r"builder\.Bytes must be a bytes-like object, got NoneType"),
        ("Bytes str", FakeBuilder(data="abc"), TypeError, r"builder\.Bytes must be a bytes-like object, got str"),
        ("Bytes strided", FakeBuilder(data=memoryview(b"abcd")[::2]), BufferError, "builder.Bytes .*C-contiguous"),
        ("head -1", FakeBuilder(head=-1), FlatbufferError, "the builder's head is -1, outside its 3 bytes"),
        ("head 4", FakeBuilder(head=4), FlatbufferError, "the builder's head is 4, outside its 3 bytes"),
        ("head 2**70", FakeBuilder(head=2**70), (FlatbufferError, OverflowError), ""),
        ("head str", FakeBuilder(head="1"), TypeError, "int.*str|str.*int"),
        ("head None", FakeBuilder(head=None), TypeError, "int.*None|None.*int"),
    ]

    def case(what: str, builder: Any, error: Errors, message: str) -> Case:
        return Case(f"{name} {what}", lambda writer: getattr(writer, name)(builder), error, message)

    return [case(*each) for each in refused]


WRITER_CASES = [
    *refusals(
        "write",
        lambda writer, item: writer.write(item),
        (None, TypeError, ITEM + "NoneType"),
        (5, TypeError, ITEM + "int"),
        (b"abc", TypeError, ITEM + r"bytes: write_payload\(\) takes finished bytes"),
        ({}, TypeError, ITEM + "dict: a RecordWriter writes records"),
        (UnfinishedItem, TypeError, ITEM + "the class UnfinishedItem"),
        (str, TypeError, ITEM + "the class str"),
        ("\ud800", UnicodeEncodeError, "surrogates not allowed"),
    ),
    Case(
        "write UnfinishedItem",
        lambda writer: writer.write(UnfinishedItem()),
        FlatbufferError,
        r"UnfinishedItem\.serialize\(builder\) must call builder\.Finish\(root\), and did not",
    ),
    Case("write Pack None", lambda writer: writer.write(Packs(None)), TypeError, r"Pack.* None"),
    Case("write Pack str", lambda writer: writer.write(Packs("5")), TypeError, r"Pack.* (str|'5')"),
    *refusals(
        "write_batch",
        lambda writer, items: writer.write_batch(items),
        ("abc", TypeError, ITEMS + r"one str: write\(\) takes a single item"),
        (None, TypeError, ITEMS + "(one )?None"),
        (5, TypeError, ITEMS + "(one )?(int|5)"),
        ([None], TypeError, ITEM + "NoneType"),
        ([5], TypeError, ITEM + "int"),
    ),
    *refusals("write_payload", lambda writer, payload: writer.write_payload(payload), *no_bytes("payload")),
    *refusals("write_payloads list", lambda writer, payload: writer.write_payloads([payload]), *no_bytes("payload")),
    *refusals("write_payloads iter", lambda writer, value: writer.write_payloads(iter([value])), *no_bytes("payload")),
    *refusals(
        "write_payloads",
        lambda writer, payloads: writer.write_payloads(payloads),
        (None, TypeError, PAYLOADS + "(one )?None"),
        (5, TypeError, PAYLOADS + "(one )?(int|5)"),
        (b"abc", TypeError, PAYLOADS + "one bytes"),
        (bytearray(b"abc"), TypeError, PAYLOADS + "one bytearray"),
        (memoryview(b"abc"), TypeError, PAYLOADS + "one memoryview"),
        ("abc", TypeError, "must be .*bytes-like objects?, got (one )?str"),
        (array.array("B", b"abc"), TypeError, "must be .*bytes-like objects?, got (one )?(int|array)"),
    ),
    *refusals(
        "write_frames",
        lambda writer, batch: writer.write_frames(batch),
        (None, TypeError, BATCH + "NoneType"),
        (b"abc", TypeError, BATCH + "bytes"),
        ([b"abc"], TypeError, BATCH + r"list: use write_payloads\(\)"),
        (FrameBatch, TypeError, BATCH + "type"),
    ),
    *builders("write_finished"),
    *builders("write_message"),
]


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 65536])
@table(*WRITER_CASES)
def test_bad_argument_of_a_writers_method_is_refused_and_the_writer_goes_on(case: Case, buffer_size: int) -> None:
    sink = PlainSink()
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        writer.write_payload(b"abc")
        case.check(writer)
        assert (writer.frames_written, writer.bytes_written) == (1, 7)
        writer.write("and on")
        writer.write_payload(b"de")
    assert sink.arrived() == reference.encode([b"abc", flatbuffer_of_string("and on"), b"de"], "none")


@in_one_test
@table(*[case for case in WRITER_CASES if case.error is FlatbufferError])
def test_error_of_a_writer_says_where(case: Case) -> None:
    with StreamWriter(PlainSink()) as writer:
        writer.write_payload(b"abc")
        error = case.check(writer)
        assert isinstance(error, FlatStreamError)
        assert (error.frame, error.offset) == (1, 7)
        assert str(error).endswith("(frame 1, stream offset 7)")


# Readers


class Text:
    @classmethod
    def from_payload(cls, payload: memoryview) -> str:
        return bytes(payload).decode()


TYPED = r"expected a class with from_payload\(payload\), or one generated by flatc .*; got "
NO_CLASSES: list[Refused] = [
    (value, TypeError, TYPED + re.escape(repr(value))) for value in (None, 5, "Event", object, bytes)
]
TABLE = SHAPES.table("shapes.Named")
NO_TABLES: list[Refused] = [
    (value, TypeError, rf"table must be a Table of a schema \(.*\), got {type(value).__name__}")
    for value in (5, b"shapes.Named", TABLE.schema, type(TABLE))
]
# They stand for a table of the stream's description.
NO_TABLES += [
    (value, TypeError, r"\(\) needs a table, because the stream has no description") for value in (None, "shapes.Named")
]
READER_CASES = [
    *callables("process_all", "fn", lambda reader, fn: reader.process_all(fn)),
    *callables("process_typed", "fn", lambda reader, fn: reader.process_typed(Text, fn)),
    *callables("process_typed_with_payload", "fn", lambda reader, fn: reader.process_typed_with_payload(Text, fn)),
    *refusals("typed_messages(cls)", lambda reader, cls: reader.typed_messages(cls), *NO_CLASSES),
    *refusals("process_typed(cls)", lambda reader, cls: reader.process_typed(cls, len), *NO_CLASSES),
    *refusals(
        "process_typed_with_payload(cls)", lambda reader, cls: reader.process_typed_with_payload(cls, len), *NO_CLASSES
    ),
    *counts("read_batch", "max_frames", lambda reader, value: reader.read_batch(max_frames=value), but_none=True),
    *counts("read_batch", "max_bytes", lambda reader, value: reader.read_batch(max_bytes=value), but_none=True),
    *counts("batches", "max_frames", lambda reader, value: list(reader.batches(max_frames=value)), but_none=True),
    *counts("batches", "max_bytes", lambda reader, value: list(reader.batches(max_bytes=value)), but_none=True),
    *refusals(
        "objects(serializer)",
        lambda reader, value: reader.objects(value),
        (5, TypeError, "serializer must be a Serializer or the name of one, got 5"),
        (b"json", TypeError, "serializer must be a Serializer or the name of one, got b'json'"),
        (Serializer, TypeError, r"got <class 'flatstream\.serializers\.Serializer'> \(an instance is needed\)"),
        ("yaml", ValueError, "no serializer is called 'yaml': pass 'json' or 'msgpack', or a Serializer"),
        (None, ValueError, r"the stream does not describe itself: pass the serializer, as in objects\('json'\)"),
    ),
    *refusals(
        "objects(on_error)",
        lambda reader, value: reader.objects("json", on_error=value),
        *[(value, ValueError, "on_error must be 'raise', 'skip', 'stop' or 'resync', got ") for value in ("ignore", 1)],
    ),
    *refusals("records(table)", lambda reader, value: reader.records(value), *NO_TABLES),
    *refusals("columns(table)", lambda reader, value: reader.columns(value), *NO_TABLES),
    *refusals("column_batches(table)", lambda reader, value: reader.column_batches(value), *NO_TABLES),
    *refusals(
        "write_json_lines(table)", lambda reader, value: reader.write_json_lines(io.BytesIO(), value), *NO_TABLES
    ),
    *refusals(
        "write_json_lines(file)",
        lambda reader, value: reader.write_json_lines(value, TABLE),
        *[(value, TypeError, r"file must have a method write\(bytes\), got ") for value in (None, 5, b"")],
    ),
    *refusals(
        "columns(fields)",
        lambda reader, value: reader.columns(TABLE, value),
        (["nme"], KeyError, "'nme'.*name, note, code|nme"),
        (["name", "name"], ValueError, "name"),
        ("name", TypeError, "str"),
        (5, TypeError, "int"),
        ([5], TypeError, "int"),
    ),
    *refusals(
        "columns(where)",
        lambda reader, value: reader.columns(TABLE, where=value),
        (5, TypeError, r"where must be \(path, low, high\), \(path, operator, value\) or a list of these, got 5"),
        (("name", 1, 2), TypeError, "name is a string: the low end of the range must be a str, got int"),
        (("code", "a", 2), ValueError, "'a' is no operator"),
        (("nme", 1, 2), KeyError, "nme"),
    ),
    *refusals(
        "records(where)",
        lambda reader, value: reader.records(TABLE, where=value),
        (5, TypeError, "where must be"),
        (("name", "==", 2), TypeError, "name is a string: the value must be a str, got int"),
        ([("code", 1, 2), ("nme", 1, 2)], KeyError, "nme"),
    ),
    *refusals(
        "columns(on_error)",
        lambda reader, value: reader.columns(TABLE, on_error=value),
        *[
            (value, ValueError, f"on_error must be 'raise', 'skip', 'stop' or 'resync', got {value!r}")
            for value in ("ignore", 1, True)
        ],
    ),
    *refusals(
        "columns(enums)",
        lambda reader, value: reader.columns(TABLE, enums=value),
        *[(value, ValueError, "'dictionary' or 'number'") for value in ("names", None)],
    ),
    *refusals(
        "column_batches(batch_rows)",
        lambda reader, value: reader.column_batches(TABLE, batch_rows=value),
        *[(value, (TypeError, ValueError), "batch_rows must be ") for value in (0, -1, 2**31, "5", 2.0, True)],
    ),
    *callables(
        "column_batches", "progress", lambda reader, fn: reader.column_batches(TABLE, progress=fn), but_none=True
    ),
]


@in_one_test
@pytest.mark.parametrize("source", [bytes, io.BytesIO])
@table(*READER_CASES)
def test_bad_argument_of_a_readers_method_is_refused_and_the_reader_goes_on(case: Case, source: Any) -> None:
    with StreamReader(source(TWO_FRAMES)) as reader:
        assert bytes(next(reader)) == b"abc"
        case.check(reader)
        assert (reader.frames_read, reader.offset) == (1, 7)
        assert list(reader) == [b"de"]


# Batches


@in_one_test
@table(
    *refusals(
        "batch",
        lambda batch, index: batch[index],
        *[(value, TypeError, "int.*(str|float|None)|(str|float|None).*int") for value in ("0", 1.0, None)],
        *[(value, IndexError, f"frame {value} of a batch of 2") for value in (2, -3, 2**70, -(2**70))],
        (slice("a", None), TypeError, ""),
        (slice(None, None, 0), ValueError, "step cannot be zero"),
    )
)
def test_bad_index_of_a_batch_is_refused_and_the_batch_is_as_before(case: Case) -> None:
    with StreamReader(TWO_FRAMES) as reader:
        batch = reader.read_batch()
    assert batch is not None
    case.check(batch)
    assert list(batch) == [b"abc", b"de"]
    assert batch[-2:] == [b"abc", b"de"]


def test_batch_cannot_be_written_to() -> None:
    with StreamReader(TWO_FRAMES) as reader:
        batch: Any = reader.read_batch()
    for part in (batch.offsets, batch.lengths, batch.buffer, batch[0]):
        with pytest.raises(TypeError, match="read-only"):
            part[0] = 1
        with pytest.raises(ValueError, match="read-only"):
            np.asarray(part)[0] = 1
    for name in ("offsets", "lengths", "buffer", "stream_offset"):
        with pytest.raises(AttributeError):
            setattr(batch, name, None)
    assert list(batch) == [b"abc", b"de"]


# After the end

BATCH_OF_ONE = StreamReader(b"\3\0\0\0abc").read_batch()
WRITES: dict[str, Callable[[Any], object]] = {
    "write": lambda writer: writer.write("abc"),
    "write_batch": lambda writer: writer.write_batch(["abc"]),
    "write_payload": lambda writer: writer.write_payload(b"abc"),
    "write_payloads": lambda writer: writer.write_payloads([b"abc"]),
    "write_frames": lambda writer: writer.write_frames(BATCH_OF_ONE),
    "write_finished": lambda writer: writer.write_finished(FakeBuilder()),
    "write_message": lambda writer: writer.write_message(FakeBuilder()),
    "flush": lambda writer: writer.flush(),
    "sync": lambda writer: writer.sync(),
    "detach": lambda writer: writer.detach(),
}
READS: dict[str, Callable[[Any], object]] = {
    "read_message": lambda reader: reader.read_message(),
    "next": next,
    "read_batch": lambda reader: reader.read_batch(),
    "batches": lambda reader: list(reader.batches()),
    "process_all": lambda reader: reader.process_all(len),
    "messages": lambda reader: next(reader.messages()),
    "typed_messages": lambda reader: next(reader.typed_messages(Text)),
    "process_typed": lambda reader: reader.process_typed(Text, len),
    "process_typed_with_payload": lambda reader: reader.process_typed_with_payload(Text, len),
    "records": lambda reader: next(reader.records(TABLE)),
    "columns": lambda reader: reader.columns(TABLE),
    "column_batches": lambda reader: next(reader.column_batches(TABLE)),
    "detach": lambda reader: reader.detach(),
}


@in_one_test
@pytest.mark.parametrize("end", [StreamWriter.close, StreamWriter.detach])
@pytest.mark.parametrize("use", WRITES.values(), ids=WRITES)
def test_closed_writer_refuses_everything(use: Callable[[Any], object], end: Callable[[Any], object]) -> None:
    sink = PlainSink()
    writer = StreamWriter(sink)
    end(writer)
    with pytest.raises(ValueError, match="this StreamWriter is closed"):
        use(writer)
    # Closing once more is no error.
    writer.close()
    assert (writer.closed, writer.sink, sink.arrived()) == (True, None, b"")


@in_one_test
@pytest.mark.parametrize("end", [StreamReader.close, StreamReader.detach])
@pytest.mark.parametrize("use", READS.values(), ids=READS)
@pytest.mark.parametrize("source", [bytes, io.BytesIO])
def test_closed_reader_refuses_everything(
    source: Any, use: Callable[[Any], object], end: Callable[[Any], object]
) -> None:
    reader = StreamReader(source(TWO_FRAMES))
    next(reader)
    end(reader)
    with pytest.raises(ValueError, match="this StreamReader is closed"):
        use(reader)
    reader.close()
    assert (reader.closed, reader.source, reader.frames_read, reader.offset) == (True, None, 1, 7)


def test_sink_closed_under_the_writer_is_an_error_that_says_so() -> None:
    sink = io.BytesIO()
    writer = StreamWriter(sink)
    writer.write_payload(b"abc")
    sink.close()
    for end in (writer.flush, writer.close):
        with pytest.raises(ValueError, match="closed file"):
            end()
    assert writer.closed


def test_source_closed_under_the_reader_is_an_error_that_says_so() -> None:
    source = io.BytesIO(TWO_FRAMES)
    with StreamReader(source) as reader:
        source.close()
        for _ in range(2):
            with pytest.raises(ValueError, match="closed file"):
                reader.read_message()


# A payload over 2**32 - 1 bytes

HUGE = """
import io, mmap, sys
sys.path[:0] = [{folder!r}]
from flatstream import *
from support.modes import Sum24

# Pages that nobody may read: had a byte of it been touched, this process would be gone.
huge = mmap.mmap(-1, 2**32, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)

class Builder:
    finished, Bytes = True, huge
    def Head(self): return 0
    def Clear(self): raise SystemExit("cleared, though nothing was written")

class PythonFramer(Framer):
    def frame_and_write(self, writer, payload):
        DefaultFramer().frame_and_write(writer, payload)

framers = [DefaultFramer(), DefaultFramer().bounded(2**40), DefaultFramer().observed(lambda payload: None)]
framers += [PythonFramer(), PythonFramer().with_validator(NoValidator()), DefaultFramer().with_validator(NoValidator())]
checksums = [Crc16(), Crc32(), Crc32c(), Crc64(), XxHash64(), NoChecksum(), Sum24()]
framers += [ChecksumFramer(checksum) for checksum in checksums]
count = 0
for framer in framers:
    for buffer_size in (0, 65536):
        sink = io.BytesIO()
        writer = StreamWriter(sink, framer, buffer_size=buffer_size)
        for write in (
            lambda: writer.write_payload(huge),
            lambda: writer.write_payload(memoryview(huge)),
            lambda: writer.write_payloads([huge]),
            lambda: writer.write_finished(Builder()),
            lambda: writer.write_message(Builder()),
            lambda: framer.frame_and_write(sink, huge),
        ):
            try:
                write()
            except InvalidFrameError as error:
                count += 1
                assert (error.declared_len, error.limit) == (2**32, 2**32 - 1), vars(error)
                assert "4294967296 bytes" in str(error), error
            else:
                raise SystemExit(f"{{framer}} took it")
        writer.write_payload(b"abc")
        writer.close()
        assert len(sink.getvalue()) == 7 + getattr(getattr(framer, "checksum", None), "size", 0), sink.getvalue()
print(count)
"""


def test_payload_over_what_the_header_can_express_is_refused_without_reading_it() -> None:
    code = HUGE.format(folder=str(TESTS))
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{13 * 2 * 6}\n")


# No method is left out


@pytest.mark.parametrize(
    ("cls", "compiled", "cases", "take_nothing"),
    [
        (
            StreamWriter,
            {"write_payload", "write_payloads", "write_frames", "write_finished"},
            WRITER_CASES,
            {"close", "detach", "flush", "sync"},
        ),
        (
            StreamReader,
            {"read_message", "process_all", "read_batch", "batches"},
            READER_CASES,
            {"close", "detach", "messages", "read_message"},
        ),
    ],
)
def test_every_method_that_takes_something_has_its_bad_input(
    cls: type, compiled: set[str], cases: list[Case], take_nothing: set[str]
) -> None:
    written_in_python = [base for base in cls.__mro__ if re.match(r"flatstream\.(?!_core)", base.__module__)]
    methods = compiled | {
        name
        for base in written_in_python
        for name, value in vars(base).items()
        if not name.startswith("_") and callable(value)
    }
    assert methods == {re.split(r"[( ]", case.name)[0] for case in cases} | take_nothing

"""Streams that introduce themselves: opened, read as records and as columns without a checksum and without a table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    ChecksumType,
    Description,
    FlatbufferError,
    InvalidFrameError,
    Schema,
    StreamReader,
    StreamWriter,
    ValidationFailedError,
)
from flatstream._core.records.record_builder import RecordBuilder
from flatstream.journal import JournalReader, JournalWriter
from flatstream.records import RecordWriter
from reference import framing as reference
from support.errors import raised_by
from support.extent import in_one_test
from support.modes import Sum24

# Two schemas with identifiers, and one table of the second that is not its root.
EVENTS: Any = Schema.from_fbs(
    text='namespace a; table Event { time_ns:ulong; value:int; } root_type Event; file_identifier "EVNT";'
).root
OTHERS = Schema.from_fbs(
    text="""
    namespace b; table Note { text:string; } table Mark { value:int; } root_type Note; file_identifier "NOTE";
    """
)
NOTES: Any = OTHERS.root
MARKS = OTHERS.table("b.Mark")
every_checksum = pytest.mark.parametrize("name", [kind.value for kind in ChecksumType])


def message(table: Any, identifier: str | None = None, **fields: Any) -> bytes:
    """A finished message of a table, with the identifier of its schema or another one."""
    builder = flatstream.Builder(64)
    if identifier is None:
        identifier = table.schema.file_identifier
    RecordBuilder(table.layout, table.number, file_identifier=identifier.encode())._encode(builder, fields)
    return bytes(builder.Output())


def stream_of(describe: Any, payloads: list[bytes], checksum: str = "crc32", **options: Any) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, checksum, describe=describe, **options) as writer:
        writer.write_payloads(payloads)
    return sink.getvalue()


ONE = [message(EVENTS, time_ns=10 * number, value=number) for number in range(5)]
MIXED = [
    message(EVENTS, time_ns=1, value=1),
    message(NOTES, text="a"),
    message(MARKS, "MARK", value=7),
    message(EVENTS, time_ns=2, value=2),
    message(NOTES, text="b"),
]
DESCRIBED = {"EVNT": EVENTS, "NOTE": NOTES, "MARK": MARKS}


@in_one_test
@every_checksum
def test_description_says_the_checksum(name: str, tmp_path: Path) -> None:
    path = tmp_path / "stream"
    for describe, payloads in ((True, []), (True, [b"x"]), (EVENTS, ONE), (DESCRIBED, MIXED)):
        with flatstream.open(path, "w", checksum=name, describe=describe) as writer:
            writer.write_payloads(payloads)
        with flatstream.open(path) as reader:
            assert (reader.checksum, reader.checksum_found_by) == (name, "description")
            assert reader.description is not None
            assert reader.description.checksum == name
            assert list(reader) == payloads
        with flatstream.open(path, "a") as writer:
            assert writer.description == reader.description
            writer.write_payloads(payloads)
        with flatstream.open(path, follow=True) as reader:
            assert reader.checksum_found_by == "description"
            assert [bytes(reader.read_message(timeout=10) or b"") for _ in payloads] == payloads
    # Torn behind the description.
    path.write_bytes(stream_of(EVENTS, ONE, name)[:-3])
    with flatstream.open(path) as reader:
        assert reader.checksum_found_by == "description"
        assert isinstance(raised_by(lambda: list(reader)), flatstream.UnexpectedEofError)


@in_one_test
@every_checksum
def test_damaged_description_is_not_believed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "stream"
    data = bytearray(stream_of(EVENTS, ONE * 4, name))
    data[200] ^= 0xFF
    path.write_bytes(data)
    with flatstream.open(path, on_error="resync") as reader:
        # Without a checksum, damage to the schema in it is seen only by the verifier, if at all.
        assert (reader.checksum, reader.checksum_found_by == "detection" or name == "none") == (name, True)
    # A description that says another checksum than its frame has.
    said = "crc32c" if name == "crc32" else "crc32"
    described = Description(EVENTS, checksum=said)
    path.write_bytes(reference.encode([described.to_bytes(), *ONE], name))
    with flatstream.open(path) as reader:
        assert (reader.checksum, reader.checksum_found_by) == (name, "detection")


def test_description_with_a_checksum_that_is_not_built_in_names_it(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    with flatstream.open(path, "w", checksum=Sum24(), describe=EVENTS) as writer:
        writer.write_payloads(ONE)
    with pytest.raises(InvalidFrameError, match="says that its checksum is 'Sum24', which is not built in: pass it"):
        flatstream.open(path)
    with flatstream.open(path, checksum=Sum24()) as reader:
        assert [record.value for record in reader.records()] == [0, 1, 2, 3, 4]


def test_records_and_columns_are_of_the_described_table() -> None:
    data = stream_of(EVENTS, ONE)

    def reader() -> StreamReader:
        return StreamReader(data, "crc32")

    for table in (None, "a.Event", "Event", "EVNT", EVENTS):
        assert [record.value for record in reader().records(table)] == [0, 1, 2, 3, 4]
        assert reader().columns(table)["value"].to_pylist() == [0, 1, 2, 3, 4]
        assert [batch["value"].to_pylist() for batch in reader().column_batches(table)] == [[0, 1, 2, 3, 4]]
        lines = io.BytesIO()
        assert reader().write_json_lines(lines, table) == 5
        assert lines.getvalue().splitlines()[1] == b'{"time_ns":10,"value":1}'
    assert [record.value for record in reader().records(where=("value", ">", 2), limit=1)] == [3]
    assert reader().columns(fields=["value"], where=("time_ns", 20, None))["value"].to_pylist() == [2, 3, 4]
    # Records that are read in any order with the rest.
    with reader() as one:
        next(one)
        assert next(one.records()).value == 1
        assert one.columns()["value"].to_pylist() == [2, 3, 4]


@in_one_test
@pytest.mark.parametrize("method", ["records", "columns", "column_batches", "write_json_lines"])
def test_without_a_table_and_a_description_of_one_an_error_says_what_to_pass(method: str) -> None:
    def call(data: bytes, *arguments: Any) -> BaseException:
        reader = StreamReader(data, "crc32")
        first = (io.BytesIO(),) if method == "write_json_lines" else ()
        return raised_by(lambda: getattr(reader, method)(*first, *arguments))

    plain = reference.encode(ONE, "crc32")
    for arguments in ((), (None,), ("a.Event",)):
        error = call(plain, *arguments)
        assert type(error) is TypeError
        assert str(error).startswith(f"{method}() needs a table, because the stream has no description: pass one")
        error = call(stream_of(True, ONE), *arguments)
        assert type(error) is TypeError
        assert "the stream has a description without a schema" in str(error)
    error = call(stream_of(EVENTS, ONE), "b.Note")
    assert type(error) is ValueError
    assert str(error) == "the description has no table 'b.Note', or several: it has a.Event (EVNT)"
    if method != "records":
        error = call(stream_of(DESCRIBED, MIXED))
        assert type(error) is ValueError
        assert str(error) == (
            "the stream has messages of several tables: a.Event (EVNT), b.Note (NOTE), b.Mark (MARK). Pass the name of "
            f"one, as in {method}('a.Event')"
        )
    for wrong in (3, EVENTS.schema, type(EVENTS), b"a.Event"):
        assert type(call(plain, wrong)) is TypeError


def test_each_message_of_a_mixed_stream_is_a_record_of_its_own_table() -> None:
    data = stream_of(DESCRIBED, MIXED)
    assert [record.to_dict() for record in _records(data)] == [
        {"time_ns": 1, "value": 1},
        {"text": "a"},
        {"value": 7},
        {"time_ns": 2, "value": 2},
        {"text": "b"},
    ]
    assert len(list(_records(data, limit=2))) == 2
    told: list[tuple[int, int]] = []
    list(_records(data, progress=lambda *numbers: told.append(numbers)))
    assert told[-1] == (5, len(data))
    with pytest.raises(ValueError, match=r"where= is about the fields of one table.*records\('a\.Event', where="):
        _records(data, where=("value", ">", 1))
    for name, values in (("a.Event", [1, 2]), ("EVNT", [1, 2]), ("Mark", [7])):
        assert [record.value for record in _records(data, name)] == values
        assert StreamReader(data, "crc32").columns(name)["value"].to_pylist() == values
        batches = StreamReader(data, "crc32").column_batches(name)
        assert [batch["value"].to_pylist() for batch in batches] == [values]
        assert batches.others == 5 - len(values)
        assert isinstance(raised_by(lambda name=name: list(_records(data, name, on_other="raise"))), FlatbufferError)
    assert [record.value for record in _records(data, "a.Event", where=("value", ">", 1))] == [2]


def _records(data: bytes, *arguments: Any, **options: Any) -> Any:
    return StreamReader(data, "crc32").records(*arguments, **options)


def test_messages_of_a_mixed_stream_that_are_of_no_table() -> None:
    unknown, bare = message(EVENTS, "WHAT", value=9), message(EVENTS, "", value=8)
    data = stream_of({"EVNT": EVENTS, "NOTE": NOTES}, [MIXED[0], unknown, bare, b"", MIXED[1]])
    records = _records(data)
    assert next(records).value == 1
    error = raised_by(lambda: next(records))
    assert type(error) is FlatbufferError
    known = "expected a message with one of the file identifiers b'EVNT', b'NOTE'"
    assert f"{known}: it has the file identifier b'WHAT' (frame 1, " in str(error)
    assert (error.frame, error.offset is not None) == (1, True)
    error = raised_by(lambda: next(records))
    assert "it has none (frame 2" in str(error)
    assert "it has none (frame 3" in str(raised_by(lambda: next(records)))
    assert next(records).text == "a"
    skipping = _records(data, on_other="skip")
    assert [sorted(record.to_dict()) for record in skipping] == [["time_ns", "value"], ["text"]]
    assert skipping.others == 3
    with StreamReader(data, "crc32", on_error="skip", allow_empty=True) as reader:
        assert len(list(reader.records())) == 2
        assert reader.skipped == 3
    with StreamReader(data, "crc32", on_error="stop", allow_empty=True) as reader:
        assert len(list(reader.records())) == 1
    # A table without an identifier is that of all others.
    others = [message(MARKS, "", value=8), message(MARKS, "WHAT", value=9)]
    data = stream_of({"NOTE": NOTES, "": MARKS}, [MIXED[1], *others])
    assert [record.to_dict() for record in _records(data)] == [{"text": "a"}, {"value": 8}, {"value": 9}]


def test_damaged_message_of_a_mixed_stream_is_refused_by_the_verifier_of_its_table() -> None:
    damaged = bytearray(MIXED[1])
    damaged[-8:] = b"\xff" * 8
    data = stream_of(DESCRIBED, [MIXED[0], bytes(damaged), MIXED[3]])
    records = _records(data)
    assert next(records).value == 1
    error = raised_by(lambda: next(records))
    assert type(error) is ValidationFailedError
    assert error.validator == "b.Note"
    assert next(records).value == 2
    assert [record.value for record in _records(data, on_error="skip")] == [1, 2]


def test_mixed_stream_is_written_by_several_record_writers() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, "crc64", describe=[EVENTS, NOTES]) as writer:
        events, notes = (RecordWriter(writer, table, file_identifier=True) for table in (EVENTS, NOTES))
        for number in range(3):
            events.write(time_ns=number, value=number)
            notes.write(text=str(number))
    with StreamReader(sink.getvalue(), "crc64") as reader:
        assert [sorted(record.to_dict()) for record in reader.records()] == [["time_ns", "value"], ["text"]] * 3


def test_record_writers_of_a_described_mixed_stream_write_the_described_identifiers(tmp_path: Path) -> None:
    # One table with an identifier of its own, one by an identifier that only the description has, one without any.
    sink = io.BytesIO()
    with StreamWriter(sink, "crc64", describe={"NOTE": NOTES, "EVNX": EVENTS, "": MARKS}) as writer:
        events, notes, marks = (RecordWriter(writer, table) for table in (EVENTS, NOTES, MARKS))
        events.write(time_ns=1, value=2)
        notes.write_columns({"text": ["a", "b"]})
        marks.write(value=3)
        events.write_json_lines(['{"time_ns": 4}'])
        RecordWriter(writer, NOTES, file_identifier=True).write(text="c")
    with StreamReader(sink.getvalue(), "crc64") as reader:
        assert [record.to_dict() for record in reader.records()] == [
            {"time_ns": 1, "value": 2}, {"text": "a"}, {"text": "b"}, {"value": 3}, {"time_ns": 4, "value": 0},
            {"text": "c"},
        ]  # fmt: skip
    with JournalWriter(tmp_path / "journal", describe=[EVENTS, NOTES]) as journal:
        RecordWriter(journal, NOTES).write(text="d")
    with JournalReader(tmp_path / "journal") as reader:
        assert [record.to_dict() for record in reader.records()] == [{"text": "d"}]
    # One table needs none.
    with StreamWriter(sink := io.BytesIO(), "crc64", describe=NOTES) as writer:
        RecordWriter(writer, NOTES).write(text="e")
    with StreamReader(sink.getvalue(), "crc64") as reader:
        assert [b"NOTE" in bytes(payload) for payload in reader] == [False]

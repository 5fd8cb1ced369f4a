"""Descriptions: what a stream says of itself goes along, and the way back needs no schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from mcap.reader import make_reader

import flatstream
from flatstream import Description, RecordWriter, StreamReader, StreamWriter
from flatstream.schema import Schema
from flatstream.tools import convert, plot
from support.conversion import names_in, one
from support.extent import in_one_test
from support.schemas import SHAPES, TELEMETRY, root_of

assert TELEMETRY.root is not None
assert SHAPES.root is not None
EVENT, SHAPE = TELEMETRY.root, SHAPES.root
BEGIN = 1_700_000_000_000_000_000


def described(path: Path, checksum: str = "crc32", **options: Any) -> Path:
    """A described stream of 20 events."""
    given: dict[str, Any] = {"describe": TELEMETRY, "metadata": {"site": "north"}}
    with StreamWriter(path, checksum, **(given | options)) as writer:
        columns = {"wall_time_ns": [BEGIN + number for number in range(20)], "load_1": [0.5] * 20}
        RecordWriter(writer, EVENT).write_columns(columns)
    return path


def description_of(path: Path, checksum: str) -> Description:
    with StreamReader(path, checksum) as reader:
        found = reader.description
    assert found is not None
    return found


def payloads_of(path: Path, checksum: str) -> list[bytes]:
    with StreamReader(path, checksum) as reader:
        return [bytes(payload) for payload in reader]


@in_one_test
@pytest.mark.parametrize("ending", [".fs", ".parquet", ".arrow", ".arrows", ".mcap"])
def test_description_goes_there_and_back(tmp_path: Path, ending: str) -> None:
    source = described(tmp_path / "in.fs")
    before = description_of(source, "crc32")
    out, back = tmp_path / f"out{ending}", tmp_path / "back.fs"
    # Neither a schema nor a field with a time nor, but for a stream, a checksum is given.
    assert one(source, out, checksum="crc32", to_checksum="crc64" if ending == ".fs" else None).messages == 20
    report = one(out, back, to_checksum="xxhash64", checksum="crc64" if ending == ".fs" else None)
    assert (report.messages, report.checksum) == (20, "xxhash64")
    after = description_of(back, "xxhash64")
    assert after == before.with_checksum("xxhash64")
    assert (after.metadata, after.time, after.created_ns) == (before.metadata, before.time, before.created_ns)
    # By default, the checksum is the one that the description says.
    if ending != ".fs":
        assert one(out, tmp_path / "same.fs").checksum == "crc32"
    with StreamReader(back, "xxhash64") as reader:
        assert [event.wall_time_ns - BEGIN for event in reader.records(EVENT)] == list(range(20))


def test_known_schema_makes_a_description_and_none_is_written_if_not_asked(tmp_path: Path) -> None:
    source = described(tmp_path / "in.fs", describe=None, metadata=None)
    one(source, tmp_path / "out.fs", checksum="crc32", schema=TELEMETRY)
    found = description_of(tmp_path / "out.fs", "crc32")
    assert (found.table, found.checksum, found.time) == (EVENT, "crc32", ("telemetry.Event", "wall_time_ns", "ns"))
    assert payloads_of(tmp_path / "out.fs", "crc32") == payloads_of(source, "crc32")
    one(tmp_path / "out.fs", tmp_path / "bare.fs", checksum="crc32", describe=False)
    assert (tmp_path / "bare.fs").read_bytes() == source.read_bytes()
    # Another field with the time.
    one(source, tmp_path / "other.fs", checksum="crc32", schema=TELEMETRY, time_field="monotonic_ns")
    assert description_of(tmp_path / "other.fs", "crc32").time == ("telemetry.Event", "monotonic_ns", "ns")
    one(source, tmp_path / "third.fs", checksum="crc32", schema=TELEMETRY, time_field="sequence:ms")
    assert description_of(tmp_path / "third.fs", "crc32").time == ("telemetry.Event", "sequence", "ms")
    with pytest.raises(ValueError, match="time_field says the unit 'ms', and time_unit 's'"):
        convert(source, tmp_path / "x.fs", schema=TELEMETRY, time_field="sequence:ms", time_unit="s")
    one(source, tmp_path / "out.parquet", checksum="crc32", schema=TELEMETRY, describe=False)
    assert b"flatstream.description" not in (pyarrow.parquet.read_schema(tmp_path / "out.parquet").metadata or {})


def mixed(path: Path) -> Path:
    with StreamWriter(path, "crc32", describe=[EVENT, SHAPE], time_field=None) as writer:
        events = RecordWriter(writer, EVENT, file_identifier=True)
        shapes = RecordWriter(writer, SHAPE, file_identifier=True)
        for number in range(10):
            events.write(wall_time_ns=BEGIN + number)
            shapes.write(id=number)
    return path


def test_stream_of_several_tables_becomes_channels_and_comes_back(tmp_path: Path) -> None:
    source = mixed(tmp_path / "in.fs")
    with pytest.raises(ValueError, match=r"which field of shapes\.Shape has it"):
        convert(source, tmp_path / "out.mcap", checksum="crc32")
    # Each table takes the field from the description; here, only the events have one.
    report = one(source, tmp_path / "events.mcap", checksum="crc32", table="telemetry.Event")
    assert (report.messages, report.others) == (10, 10)
    found = description_of(source, "crc32")
    both = Description([EVENT, SHAPE], time_field=None)
    assert found.tables == both.tables
    with pytest.raises(ValueError, match=r"CSV has messages of one table.*shapes\.Shape, telemetry\.Event"):
        convert(source, tmp_path / "out.csv", checksum="crc32")
    report = one(source, tmp_path / "out.csv", checksum="crc32", table="SHAP", fields=["id"])
    assert (report.messages, report.others) == (10, 10)
    assert (tmp_path / "out.csv").read_text().split() == ['"id"', *map(str, range(10))]
    one(source, tmp_path / "out.fs", checksum="crc32", to_checksum="crc64")
    assert payloads_of(tmp_path / "out.fs", "crc64") == payloads_of(source, "crc32")
    assert description_of(tmp_path / "out.fs", "crc64") == found.with_checksum("crc64")


def test_channels_of_several_tables_have_their_schemas_and_times(tmp_path: Path) -> None:
    first, second = (
        Schema.from_fbs(text=f'table {name} {{ {field}: ulong; }} root_type {name}; file_identifier "{name * 4}";')
        for name, field in (("A", "time_ms"), ("B", "b_time_us"))
    )
    assert first.root is not None
    assert second.root is not None
    source = tmp_path / "in.fs"
    with StreamWriter(source, "crc32", describe=[first.root, second.root], metadata={"site": "north"}) as writer:
        for number in range(10):
            RecordWriter(writer, first.root, file_identifier=True).write(time_ms=number)
            RecordWriter(writer, second.root, file_identifier=True).write(b_time_us=number)
    one(source, tmp_path / "out.mcap")
    with (tmp_path / "out.mcap").open("rb") as file:
        found = [
            (channel.topic, schema.data, message.log_time)
            for schema, channel, message in make_reader(file).iter_messages(log_time_order=False)
            if schema is not None
        ]
    expected = [(name, number * factor) for number in range(10) for name, factor in (("A", 10**6), ("B", 10**3))]
    assert [(topic, time) for topic, _, time in found] == expected
    assert {topic: Schema.from_bytes(data) for topic, data, _ in found} == {"A": first, "B": second}
    one(tmp_path / "out.mcap", tmp_path / "back.fs")
    assert payloads_of(tmp_path / "back.fs", "crc32") == payloads_of(source, "crc32")
    assert description_of(tmp_path / "back.fs", "crc32") == description_of(source, "crc32")
    # One of them, by its topic.
    assert one(tmp_path / "out.mcap", tmp_path / "b.jsonl", table="B").messages == 10
    assert (tmp_path / "b.jsonl").read_text().startswith('{"b_time_us":0}\n{"b_time_us":1}\n')


def test_mcap_has_the_messages_without_an_identifier_of_a_mixed_stream(tmp_path: Path) -> None:
    first = root_of('table A { time_s: int; } root_type A; file_identifier "AAAA";')
    plain = root_of("table C { time_s: int; } root_type C;")
    with flatstream.open(tmp_path / "in.fs", "w", describe=[first, plain]) as writer:
        for number in range(5):
            RecordWriter(writer, first).write(time_s=number)
            RecordWriter(writer, plain).write(time_s=10 + number)
    assert one(tmp_path / "in.fs", tmp_path / "out.mcap").messages == 10
    for name, table in (("A", first), ("C", plain)):
        assert one(tmp_path / "out.mcap", tmp_path / f"{name}.fs", table=name).messages == 5
        with flatstream.open(tmp_path / f"{name}.fs") as reader:
            found = [next(iter(record.to_dict().values())) for record in reader.records(table)]
        assert found == list(range(5) if name == "A" else range(10, 15))


def test_damaged_metadata_is_an_error(tmp_path: Path) -> None:
    table = pa.table({"pid": [1]}).replace_schema_metadata({"flatstream.description": "not base64!"})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(ValueError, match=r"the metadata 'flatstream\.description' of the file is damaged"):
        convert(tmp_path / "in.parquet", tmp_path / "out.fs")
    assert names_in(tmp_path) == {"in.parquet"}


def test_plot_takes_schema_and_time_from_the_description(tmp_path: Path) -> None:
    found = plot(described(tmp_path / "in.fs"), "load_1")
    assert (found.axis, found.is_time, len(found.lines[0].x)) == ("wall_time_ns", True, 20)

"""What was converted and converted back is the same message, for every format and every kind of field."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream.schema import Schema, Table
from flatstream.tools import convert
from flatstream.tools.conversion._columns import ColumnTarget
from support.conversion import ENDINGS, Unsorted, events, one, read_stream, write_stream
from support.extent import in_one_test
from support.schema_sweep import random_records, schema_files
from support.schemas import EXAMPLES, TELEMETRY, schema_of

TABLES = {
    "telemetry": (TELEMETRY.root, "wall_time_ns"),
    "shapes": (schema_of("shapes").root, "id"),
    "unions": (schema_of("unions").root, None),
    "tiny": (schema_of("tiny").root, None),
}


def clear_times(records: list[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    """Times that MCAP can carry, which are not negative."""
    return [record | {field: abs(record.get(field) or 0)} for record in records]


# MCAP needs a field with a time.
CASES = [
    (name, ending)
    for name, (_, time_field) in TABLES.items()
    for ending in (*ENDINGS, ".jsonl.gz", ".csv.xz", ".fb.lz4", ".fs.zst", ".fs.bz2")
    if (ending != ".mcap" or time_field is not None) and (name == "telemetry" or ending in ENDINGS)
]


@in_one_test
@pytest.mark.parametrize(("name", "ending"), CASES)
def test_way_there_and_back_gives_equal_records(tmp_path: Path, name: str, ending: str) -> None:
    table, time_field = TABLES[name]
    assert table is not None
    records = random_records(table, 5, 60, Unsorted)
    if ending == ".mcap":
        assert time_field is not None
        records = clear_times(records, time_field)
    source = write_stream(tmp_path / "in.fs", table, records)
    out, back = tmp_path / f"out{ending}", tmp_path / "back.fs"
    there = one(
        source, out, table=table, checksum="crc32", on_unsupported="json", time_field=time_field, time_unit="ns"
    )
    assert there.messages == len(records)
    # Files of Arrow, Parquet and MCAP carry the schema.
    given = {} if ending in (".parquet", ".arrow", ".arrows", ".mcap") else {"table": table}
    assert one(out, back, to_checksum="crc32", **given).messages == len(records)
    for number, (old, new) in enumerate(zip(read_stream(source, table), read_stream(back, table), strict=True)):
        if ending.startswith(".csv"):
            # A table of which no column has a value cannot be told from one that is absent.
            drop_empty = without_empty(old.to_dict()), without_empty(new.to_dict())
            assert repr(drop_empty[0]) == repr(drop_empty[1]), number
        else:
            assert old == new, number


def without_empty(values: Any) -> Any:
    """A record without absent fields, and without tables in which nothing is left."""
    if isinstance(values, dict):
        kept = {name: without_empty(value) for name, value in values.items()}
        return {name: value for name, value in kept.items() if value is not None and value != {}}
    return values


@pytest.mark.long
@pytest.mark.parametrize("name", schema_files())
def test_every_schema_goes_through_every_format(tmp_path: Path, name: str) -> None:
    schema = Schema.from_file(schema_files()[name])
    for number, table in enumerate(schema):
        records = random_records(table, number, 40, Unsorted)
        if not records or not table.arrow_schema(None).names:
            continue
        source = write_stream(tmp_path / f"{number}.fs", table, records)
        for ending in (".parquet", ".arrow", ".arrows", ".jsonl", ".fb"):
            out = tmp_path / f"{number}{ending}"
            back = tmp_path / f"{number}{ending}.back.fs"
            one(source, out, table=table, checksum="crc32", on_unsupported="json")
            one(out, back, table=table, to_checksum="crc32")
            assert read_stream(source, table) == read_stream(back, table), (table.name, ending)


def test_chain_through_all_formats_ends_with_equal_records(tmp_path: Path) -> None:
    table = TELEMETRY.root
    assert table is not None
    records = clear_times(random_records(table, 8, 60), "wall_time_ns")
    path = first = write_stream(tmp_path / "in.fs", table, records)
    for number, ending in enumerate([".parquet", ".csv", ".mcap", ".jsonl", ".arrow", ".fb", ".arrows", ".fs"]):
        following = tmp_path / f"{number}{ending}"
        options = {"time_field": "wall_time_ns"} if ending == ".mcap" else {}
        checksum = "crc32" if path is first else None
        one(path, following, table=table, checksum=checksum, on_unsupported="json", **options)
        path = following
    one(path, tmp_path / "last.fs", checksum="none", to_checksum="crc32")
    assert read_stream(first, table) == read_stream(tmp_path / "last.fs", table)


def test_another_checksum_keeps_every_payload_and_needs_no_schema(tmp_path: Path) -> None:
    payloads = [b"x" * size for size in (1, 5, 70_000, 3)]
    with StreamWriter(tmp_path / "in.fs", "crc16") as writer:
        writer.write_payloads(payloads)
    report = one(tmp_path / "in.fs", tmp_path / "out.fs", checksum="crc16", to_checksum="xxhash64")
    assert (report.messages, report.checksum) == (4, "xxhash64")
    with StreamReader(tmp_path / "out.fs", "xxhash64") as reader:
        assert [bytes(payload) for payload in reader] == payloads
    # That of the source is kept.
    assert one(tmp_path / "in.fs", tmp_path / "same.fs", checksum="crc16").checksum == "crc16"
    assert (tmp_path / "same.fs").read_bytes() == (tmp_path / "in.fs").read_bytes()


@in_one_test
@pytest.mark.parametrize("ending", ENDINGS)
def test_file_without_messages_stays_one(tmp_path: Path, ending: str) -> None:
    table = TELEMETRY.root
    assert table is not None
    source = write_stream(tmp_path / "in.fs", table, [])
    out = tmp_path / f"out{ending}"
    options = {"time_field": "wall_time_ns"} if ending == ".mcap" else {}
    assert one(source, out, table=table, on_unsupported="json", **options).messages == 0
    # A stream of a description alone has one frame, which is too few to find the checksum by.
    checksum = "none" if ending == ".fs" else None
    assert one(out, tmp_path / "back.fs", table=table, checksum=checksum).messages == 0
    with StreamReader(tmp_path / "back.fs") as reader:
        assert reader.read_message() is None
        assert reader.description is not None
        assert reader.description.table == table
    assert one(out, tmp_path / "bare.fs", table=table, checksum=checksum, describe=False).size == 0


@in_one_test
@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv", ".jsonl"])
def test_chosen_fields_and_messages_are_those_of_columns(tmp_path: Path, ending: str) -> None:
    table = TELEMETRY.root
    assert table is not None
    source = events(tmp_path / "in.fs", table, 1000)
    fields, where = ["sequence", "host", "cpu_total"], [("sequence", ">=", 990), ("host", "==", "host-1")]
    out = tmp_path / f"out{ending}"
    report = one(source, out, table=table, checksum="crc32", fields=fields, where=where)
    with StreamReader(source, "crc32") as reader:
        expected = reader.columns(table, fields, where)
    assert report.messages == expected.num_rows == 3
    back = tmp_path / "back.fs"
    if ending == ".jsonl":
        assert [json.loads(line) for line in out.read_text().splitlines()] == expected.to_pylist()
        return
    one(out, back, table=table, to_checksum="crc32")
    with StreamReader(back, "crc32") as reader:
        assert reader.columns(table, fields).to_pylist() == expected.to_pylist()


@pytest.mark.parametrize("ending", [".fs", ".mcap", ".fb"])
def test_messages_are_selected_whole(tmp_path: Path, ending: str) -> None:
    table = TELEMETRY.root
    assert table is not None
    source = events(tmp_path / "in.fs", table, 500)
    out = tmp_path / f"out{ending}"
    report = one(source, out, table=table, checksum="crc32", where=lambda found, description: [("load_1", "<", 0.5)])
    assert report.messages == 4
    one(out, tmp_path / "back.fs", table=table, to_checksum="crc32")
    with StreamReader(source, "crc32") as reader:
        first = [bytes(next(reader)) for _ in range(4)]
    with StreamReader(tmp_path / "back.fs", "crc32") as reader:
        found = list(reader.records(table))
    assert found == [table.view(payload) for payload in first]
    if ending != ".fb":
        # The same bytes. Size-prefixed messages are aligned differently.
        with StreamReader(tmp_path / "back.fs", "crc32") as reader:
            assert [bytes(payload) for payload in reader] == first
    with pytest.raises(ValueError, match="whole messages, so that no fields can be chosen"):
        convert(source, tmp_path / f"other{ending}", table=table, checksum="crc32", fields=["host"])


def test_unknown_numbers_of_enums_make_one_dictionary_in_an_arrow_file(tmp_path: Path) -> None:
    # Each batch of columns has a dictionary of its own; an Arrow file has one, to which it can add.
    table = TELEMETRY.root
    assert table is not None
    numbers = [1, 77, 2, 88, 77, 99, 0, 88]
    source = tmp_path / "in.fs"
    with StreamWriter(source, "crc32") as writer:
        records = RecordWriter(writer, table)
        for number in numbers:
            records.write(platform=str(number))
    for ending in (".arrow", ".arrows", ".parquet"):
        out, back = tmp_path / f"out{ending}", tmp_path / f"back{ending}.fs"
        with pytest.MonkeyPatch.context() as patch:
            for known in [ColumnTarget, *ColumnTarget.__subclasses__()]:
                patch.setattr(known, "batch_rows", 2)
            one(source, out, table=table, checksum="crc32")
        one(out, back, to_checksum="crc32")
        assert [record.platform for record in read_stream(back, table)] == numbers


def test_fixed_arrays_in_absent_structs_can_be_read_from_parquet(tmp_path: Path) -> None:
    table: Table | None = schema_of("tiny").root
    assert table is not None
    records = random_records(table, 1, 50)
    source = write_stream(tmp_path / "in.fs", table, records)
    one(source, tmp_path / "out.parquet", table=table, checksum="crc32", on_unsupported="json")
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").num_rows == 50


def test_size_prefixed_messages_are_aligned(tmp_path: Path) -> None:
    # Aligned (force_align: 16) is in shapes: both forms must have it at a multiple of 16.
    table = schema_of("shapes").root
    prefixed_schema = Schema.from_file(EXAMPLES.parent / "tests/data/schemas/shapes.bfbs", size_prefixed=True)
    prefixed_table = prefixed_schema.root
    assert table is not None
    assert prefixed_table is not None
    for identifier in (False, True):
        sink = io.BytesIO()
        with StreamWriter(sink) as writer:
            records = RecordWriter(writer, table, file_identifier=identifier)
            records.write_records(random_records(table, 2, 80))
        (tmp_path / "in.fs").write_bytes(sink.getvalue())
        out, back = tmp_path / f"{identifier}.fb", tmp_path / f"{identifier}.fs"
        one(tmp_path / "in.fs", out, table=table, checksum="none")
        one(out, back, table=table)
        with StreamReader(sink.getvalue()) as old, StreamReader(out) as new, StreamReader(back) as last:
            # The verifier checks alignment, from the prefix or from the message.
            expected = [record.to_dict() for record in old.records(table)]
            assert [repr(record.to_dict()) for record in new.records(prefixed_table)] == list(map(repr, expected))
            assert [repr(record.to_dict()) for record in last.records(table)] == list(map(repr, expected))
        with StreamReader(back) as reader:
            assert {bytes(payload[4:8]) == b"SHAP" for payload in reader} == {identifier}


def test_random_bytes_in_strings_and_cells_survive_csv(tmp_path: Path) -> None:
    table = TELEMETRY.table("telemetry.Disk")
    chance = random.Random(3)
    texts = ["", '"', ",", "\n", "\r\n", "NaN", "null", "NA", " ", "\0", "'", "ü", "1", "true", '""', "a\n\nb"]
    texts += ["".join(chance.choice('",\n\r a\t;\\') for _ in range(9)) for _ in range(50)]
    source = write_stream(tmp_path / "in.fs", table, [{"name": text} for text in [*texts, None]])
    one(source, tmp_path / "out.csv", table=table, checksum="crc32", fields=["name"])
    one(tmp_path / "out.csv", tmp_path / "back.fs", table=table, to_checksum="crc32")
    assert [record.name for record in read_stream(tmp_path / "back.fs", table)] == [*texts, None]

"""What other libraries read of converted files, and what is converted of the files that they write."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from mcap.reader import NonSeekingReader, make_reader
from mcap.writer import CompressionType, Writer

from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream.schema import Schema
from flatstream.tools import convert
from support.conversion import events, one, read_stream, write_stream
from support.extent import in_one_test
from support.schema_sweep import FLATCS as KNOWN_FLATCS
from support.schema_sweep import Flatc, PlainMaking, every_flatc, random_records, schema_files
from support.schemas import TELEMETRY, schema_of

assert TELEMETRY.root is not None
EVENT = TELEMETRY.root
FLAT = ["sequence", "wall_time_ns", "host", "platform", "load_1", "load_5", "pid", "deadline_missed"]
COUNT = 3000


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return events(tmp_path_factory.mktemp("convert") / "in.fs", EVENT, COUNT)


@pytest.fixture(scope="module")
def rows(stream: Path) -> list[dict[str, Any]]:
    with StreamReader(stream, "crc32") as reader:
        return reader.columns(EVENT, FLAT).to_pylist()


def converted(stream: Path, out: Path, **options: Any) -> Path:
    one(stream, out, table=EVENT, checksum="crc32", **options)
    return out


def query(text: str) -> list[Any]:
    found = duckdb.sql(text)
    assert found is not None
    return found.fetchall()


def test_parquet_is_read_by_pyarrow_polars_duckdb_and_pandas(
    stream: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = converted(stream, tmp_path / "out.parquet", fields=FLAT, compression="zstd")
    file = pyarrow.parquet.ParquetFile(path)
    assert file.metadata.num_rows == COUNT
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.read().to_pylist() == rows
    assert pl.read_parquet(path).to_dicts() == rows
    found = query(f"select * from '{path}'")
    assert [dict(zip(FLAT, row, strict=True)) for row in found] == rows
    assert pd.read_parquet(path)["load_5"].tolist() == [row["load_5"] for row in rows]


def test_arrow_files_and_streams_are_read_by_pyarrow_and_polars(
    stream: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = converted(stream, tmp_path / "out.feather", fields=FLAT, compression="lz4")
    assert pyarrow.feather.read_table(path).to_pylist() == rows
    assert pl.read_ipc(path).to_dicts() == rows
    path = converted(stream, tmp_path / "out.arrows", fields=FLAT)
    assert pa.ipc.open_stream(path).read_all().to_pylist() == rows
    assert pl.read_ipc_stream(path).to_dicts() == rows


def test_csv_is_read_by_the_csv_module_polars_and_duckdb(
    stream: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = converted(stream, tmp_path / "out.csv", fields=FLAT)
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["sequence"], row["host"], float(row["load_5"])) for row in found] == [
        (str(row["sequence"]), row["host"], row["load_5"]) for row in rows
    ]
    assert pl.read_csv(path).to_dicts() == rows
    found_rows = query(f"select sequence, platform, deadline_missed from '{path}'")
    assert found_rows == [(row["sequence"], row["platform"], row["deadline_missed"]) for row in rows]


def test_json_lines_are_read_by_orjson_polars_and_duckdb(
    stream: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = converted(stream, tmp_path / "out.jsonl", fields=FLAT)
    assert [orjson.loads(line) for line in path.read_bytes().splitlines()] == rows
    assert pl.read_ndjson(path).to_dicts() == rows
    found = query(f"select sequence, host from read_json('{path}', format='newline_delimited')")
    assert found == [(row["sequence"], row["host"]) for row in rows]


def test_nested_columns_are_read_by_polars_and_duckdb(tmp_path: Path) -> None:
    records = random_records(EVENT, 4, 100)
    source = write_stream(tmp_path / "in.fs", EVENT, records)
    for ending in (".parquet", ".arrow"):
        path = converted(source, tmp_path / f"out{ending}")
        frame = pl.read_parquet(path) if ending == ".parquet" else pl.read_ipc(path)
        with StreamReader(source, "crc32") as reader:
            expected = reader.columns(EVENT).to_pylist()
        assert list(map(repr, frame.to_dicts())) == list(map(repr, expected))
    found = query(f"select disks[1].counters.read_bytes, len(cores) from '{tmp_path / 'out.parquet'}'")
    assert found == [
        (
            ((row["disks"] or [{}])[0].get("counters") or {}).get("read_bytes"),
            None if row["cores"] is None else len(row["cores"]),
        )
        for row in expected
    ]


# MCAP


def test_mcap_has_messages_schema_and_times_that_its_own_reader_reads(stream: Path, tmp_path: Path) -> None:
    path = converted(stream, tmp_path / "out.mcap", time_field="wall_time_ns")
    with StreamReader(stream, "crc32") as reader:
        payloads = [bytes(payload) for payload in reader]
    for make in (lambda file: make_reader(file, validate_crcs=True), NonSeekingReader):
        with path.open("rb") as file:
            found = list(make(file).iter_messages())
        assert [message.data for _, _, message in found] == payloads
        assert [message.log_time for _, _, message in found] == [
            1_700_000_000_000_000_000 + number * 100_000_000 for number in range(COUNT)
        ]
        assert [message.sequence for _, _, message in found] == list(range(COUNT))
        schema, channel, _ = found[0]
        assert schema is not None
        assert (schema.name, schema.encoding) == ("telemetry.Event", "flatbuffer")
        assert Schema.from_bytes(schema.data) == TELEMETRY
        assert (channel.topic, channel.message_encoding) == ("telemetry.Event", "flatbuffer")
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == COUNT


@in_one_test
@pytest.mark.parametrize(("unit", "factor"), [("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)])
def test_log_times_have_the_unit_that_is_said(tmp_path: Path, unit: Any, factor: int) -> None:
    source = write_stream(tmp_path / "in.fs", EVENT, [{"sequence": 7}, {"sequence": 0}])
    path = converted(source, tmp_path / "out.mcap", time_field="sequence", time_unit=unit)
    with path.open("rb") as file:
        times = [message.log_time for _, _, message in make_reader(file).iter_messages(log_time_order=False)]
    assert times == [7 * factor, 0]


def foxglove_file(path: Path, topics: dict[str, str], encoding: str = "flatbuffer", **options: Any) -> list[bytes]:
    """An MCAP file as recorders write it: topics of schemas of Foxglove. Returns the messages of the first topic."""
    first: list[bytes] = []
    with path.open("wb") as file:
        writer = Writer(file, **options)
        writer.start()
        for number, (topic, name) in enumerate(topics.items()):
            content = schema_files()[f"foxglove_schemas_flatbuffer.{name}"].read_bytes()
            table = Schema.from_bytes(content).root
            assert table is not None
            schema_id = writer.register_schema(name=table.name, encoding=encoding, data=content)
            channel_id = writer.register_channel(topic=topic, message_encoding=encoding, schema_id=schema_id)
            sink = io.BytesIO()
            with StreamWriter(sink) as stream:
                RecordWriter(stream, table).write_records(random_records(table, number, 20))
            with StreamReader(sink.getvalue()) as reader:
                for time, payload in enumerate(reader):
                    # Out of order: the file's order is kept.
                    writer.add_message(channel_id, log_time=1000 - time, publish_time=0, data=bytes(payload))
                    first += [bytes(payload)] if number == 0 else []
        writer.finish()
    return first


@pytest.mark.parametrize("compression", CompressionType)
def test_recording_of_foxglove_becomes_a_stream_and_a_table(tmp_path: Path, compression: CompressionType) -> None:
    messages = foxglove_file(
        tmp_path / "in.mcap", {"/gps": "LocationFix", "/log": "Log"}, compression=compression, chunk_size=500
    )
    with pytest.raises(ValueError, match=r"several topics .* choose one with table=, of /gps, /log"):
        convert(tmp_path / "in.mcap", tmp_path / "out.fs")
    assert one(tmp_path / "in.mcap", tmp_path / "out.fs", table="/gps").messages == 20
    with StreamReader(tmp_path / "out.fs") as reader:
        assert [bytes(payload) for payload in reader] == messages
    one(tmp_path / "in.mcap", tmp_path / "out.parquet", table="foxglove.LocationFix")
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["frame_id"].to_pylist() == [
        table_of("LocationFix").view(message).frame_id for message in messages
    ]


def table_of(name: str) -> Any:
    return Schema.from_file(schema_files()[f"foxglove_schemas_flatbuffer.{name}"]).root


def test_mcap_without_flatbuffers_or_damaged_is_refused(tmp_path: Path) -> None:
    foxglove_file(tmp_path / "in.mcap", {"/gps": "LocationFix"}, encoding="protobuf")
    with pytest.raises(ValueError, match=r"'/gps' has no FlatBuffers \(protobuf\)"):
        convert(tmp_path / "in.mcap", tmp_path / "out.fs")
    foxglove_file(tmp_path / "good.mcap", {"/gps": "LocationFix"}, compression=CompressionType.NONE)
    content = (tmp_path / "good.mcap").read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 3] ^= 1
    for number, cut in enumerate([content[:-30], content[: len(content) // 2], content[:20], bytes(damaged)]):
        (tmp_path / f"{number}.mcap").write_bytes(cut)
        with pytest.raises(ValueError, match="the MCAP file"):
            convert(tmp_path / f"{number}.mcap", tmp_path / "out.fs")
    assert not (tmp_path / "out.fs").exists()
    with pytest.raises(ValueError, match=r"no topic or table '/log': the MCAP file has /gps"):
        convert(tmp_path / "good.mcap", tmp_path / "out.fs", table="/log")


# flatc


@every_flatc
def test_flatc_reads_size_prefixed_messages(tmp_path: Path, version: str) -> None:
    table = schema_of("shapes").root
    assert table is not None
    (tmp_path / "flatc").mkdir()
    flatc = Flatc(KNOWN_FLATCS[version], schema_files()["shapes"], tmp_path / "flatc")
    for number, record in enumerate(random_records(table, 6, 5, PlainMaking)):
        source = write_stream(tmp_path / f"{number}.fs", table, [record])
        one(source, tmp_path / f"{number}.fb", table=table, checksum="crc32")
        with StreamReader(source, "crc32") as reader:
            plain = bytes(next(reader))
        (expected,) = flatc.to_json(table.name, [plain])
        (tmp_path / "flatc" / "one.bin").write_bytes((tmp_path / f"{number}.fb").read_bytes())
        flatc.run(
            "--json", "--strict-json", "--raw-binary", "--size-prefixed", "--root-type", table.name,
            "schema.bfbs", "--", "one.bin",
        )  # fmt: skip
        assert json.loads((tmp_path / "flatc" / "one.json").read_text()) == expected


@every_flatc
def test_json_of_flatc_is_read_and_json_lines_are_read_by_flatc(tmp_path: Path, version: str) -> None:
    records = random_records(EVENT, 9, 10, PlainMaking)
    source = write_stream(tmp_path / "in.fs", EVENT, records)
    (tmp_path / "flatc").mkdir()
    flatc = Flatc(KNOWN_FLATCS[version], schema_files()["telemetry"], tmp_path / "flatc")
    with StreamReader(source, "crc32") as reader:
        told = flatc.to_json(EVENT.name, [bytes(payload) for payload in reader])
    (tmp_path / "flatc.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    one(tmp_path / "flatc.jsonl", tmp_path / "back.fs", table=EVENT, to_checksum="crc32")
    assert read_stream(tmp_path / "back.fs", EVENT) == read_stream(source, EVENT)
    one(source, tmp_path / "out.jsonl", table=EVENT, checksum="crc32")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        values = {name: value for name, value in json.loads(line).items() if value is not None}
        (tmp_path / "flatc" / f"m{number}.json").write_text(json.dumps(values))
    made = flatc.from_json(EVENT.name, len(lines))
    assert [EVENT.view(message) for message in made] == read_stream(source, EVENT)


# Files of other libraries


def test_parquet_and_arrow_of_polars_duckdb_and_pandas_become_streams(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    frame = pl.DataFrame(rows)
    frame.write_parquet(tmp_path / "polars.parquet")
    frame.write_ipc(tmp_path / "polars.arrow", compression="zstd")
    frame.write_ipc_stream(tmp_path / "polars.arrows")
    frame.to_pandas().to_parquet(tmp_path / "pandas.parquet", index=False)
    duckdb.sql(f"copy (select * from frame) to '{tmp_path / 'duckdb.parquet'}' (format parquet)")
    frame.write_csv(tmp_path / "polars.csv")
    duckdb.sql(f"copy (select * from frame) to '{tmp_path / 'duckdb.csv'}' (header)")
    frame.to_pandas().to_csv(tmp_path / "pandas.csv", index=False)
    frame.write_ndjson(tmp_path / "polars.ndjson")
    frame.to_pandas().to_json(tmp_path / "pandas.jsonl", orient="records", lines=True)
    for path in sorted(tmp_path.iterdir()):
        out = tmp_path / f"{path.name}.fs"
        assert one(path, out, table=EVENT).messages == COUNT
        with StreamReader(out) as reader:
            found = reader.columns(EVENT, FLAT).to_pylist()
        assert found == rows, path.name


def test_times_of_arrow_get_the_unit_of_the_field(tmp_path: Path) -> None:
    times = pa.array([1_700_000_000_123_456, 0], pa.timestamp("us", "UTC"))
    pyarrow.parquet.write_table(pa.table({"wall_time_ns": times}), tmp_path / "in.parquet")
    one(tmp_path / "in.parquet", tmp_path / "out.fs", table=EVENT, to_checksum="crc32")
    assert [event.wall_time_ns for event in read_stream(tmp_path / "out.fs", EVENT)] == [1_700_000_000_123_456_000, 0]
    # A field without a unit in its name keeps the number.
    pyarrow.parquet.write_table(pa.table({"sequence": times}), tmp_path / "plain.parquet")
    one(tmp_path / "plain.parquet", tmp_path / "plain.fs", table=EVENT, to_checksum="crc32")
    assert [event.sequence for event in read_stream(tmp_path / "plain.fs", EVENT)] == [1_700_000_000_123_456, 0]

"""What a format cannot carry, and what of a source does not fit: errors that name the place, JSON text, or left out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream.schema import Schema
from flatstream.tools import convert
from support.conversion import events, names_in, one, read_stream, write_stream
from support.extent import in_one_test
from support.schemas import EXAMPLES, SCHEMAS, SHAPES, TELEMETRY, schema_of

assert TELEMETRY.root is not None
EVENT = TELEMETRY.root
UNIONS = schema_of("unions").root
assert UNIONS is not None


@in_one_test
@pytest.mark.parametrize(
    ("schema", "ending", "message"),
    [
        (
            "telemetry",
            ".csv",
            r"CSV cannot carry the field 'cores' \(a vector\), as 2 more: choose other fields, or pass",
        ),
        ("unions", ".csv", r"CSV cannot carry the field 'anything' \(a union\)"),
        ("tiny", ".csv", r"CSV cannot carry the field 's\.y' \(a fixed array\)"),
        ("shapes", ".parquet", r"Parquet cannot carry the field 'tree' \(a table inside itself \(tree\.left\)\)"),
        ("shapes", ".arrow", r"Arrow IPC cannot carry the field 'tree' \(a table inside itself"),
    ],
)
def test_field_that_the_format_cannot_carry_is_named(tmp_path: Path, schema: str, ending: str, message: str) -> None:
    table = schema_of(schema).root
    assert table is not None
    source = write_stream(tmp_path / "in.fs", table, [])
    with pytest.raises(ValueError, match=message):
        convert(source, tmp_path / f"out{ending}", table=table)
    assert names_in(tmp_path) == {"in.fs"}


def test_bytes_and_enums_in_vectors_are_json_text_as_flatc_has_them(tmp_path: Path) -> None:
    table = SHAPES.table("shapes.Vectors")
    source = write_stream(tmp_path / "in.fs", table, [{"u8s": b"\x00\xff", "colors": ["Red", "Blue"]}, {}])
    one(source, tmp_path / "out.csv", table=table, checksum="crc32", on_unsupported="json", fields=["u8s", "colors"])
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"u8s": "[0,255]", "colors": '["Red","Blue"]'}, {"u8s": "", "colors": ""}]


def test_omitted_fields_are_named_in_the_report(tmp_path: Path) -> None:
    assert UNIONS is not None
    source = write_stream(tmp_path / "in.fs", UNIONS, [{}])
    report = one(source, tmp_path / "out.csv", table=UNIONS, checksum="crc32", on_unsupported="omit")
    assert {"anything", "things", "holder.one"} & set(report.omitted)
    header = (tmp_path / "out.csv").read_text().splitlines()[0]
    # The type of a union says nothing without its value.
    assert "anything" not in header


@in_one_test
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".mcap", ".fb"])
def test_missing_schema_says_how_to_pass_it(tmp_path: Path, ending: str) -> None:
    source = events(tmp_path / "in.fs", EVENT, 5)
    with pytest.raises(ValueError, match=r"needs the schema of the messages, .*: pass schema="):
        convert(source, tmp_path / f"out{ending}", checksum="crc32")
    assert names_in(tmp_path) == {"in.fs"}


def test_schema_is_a_path_a_schema_or_that_of_a_table(tmp_path: Path) -> None:
    source = events(tmp_path / "in.fs", EVENT, 5)
    expected = None
    choices: list[dict[str, Any]] = [
        {"schema": EXAMPLES / "telemetry.bfbs"},
        {"schema": EXAMPLES / "telemetry.fbs"},
        {"schema": TELEMETRY},
        {"table": EVENT},
        {"schema": TELEMETRY, "table": "telemetry.Event"},
        {"schema": TELEMETRY, "table": "Event"},
    ]
    for number, options in enumerate(choices):
        out = tmp_path / f"{number}.csv"
        one(source, out, checksum="crc32", fields=["sequence", "host"], **options)
        expected = expected or out.read_bytes()
        assert out.read_bytes() == expected
    with pytest.raises(LookupError, match="no table 'Events': there are telemetry"):
        convert(source, tmp_path / "out.csv", schema=TELEMETRY, table="Events")
    with pytest.raises(ValueError, match="got both, of different schemas"):
        convert(source, tmp_path / "out.csv", schema=SHAPES, table=EVENT)


@in_one_test
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"to_format": "xml"}, ValueError, "to_format must be one of 'fs', 'parquet'"),
        ({"on_unsupported": "no"}, ValueError, "on_unsupported must be one of 'raise', 'json', 'omit', got 'no'"),
        ({"time_unit": "h"}, ValueError, "time_unit must be one of"),
        ({"fields": "host"}, TypeError, "fields must be an iterable of paths, got a str"),
        ({"fields": ["hosts"]}, KeyError, "hosts"),
        ({"fields": ["host", "host"]}, ValueError, "host"),
        ({"progress": 5}, TypeError, "progress must be callable"),
        ({"processes": 0}, ValueError, "processes"),
        ({"where": ("hosts", "==", "a")}, KeyError, "hosts"),
        ({"checksum": "crc33"}, ValueError, "crc33"),
        ({"to_checksum": "crc33"}, ValueError, "crc33"),
    ],
)
def test_wrong_argument_is_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    source = events(tmp_path / "in.fs", EVENT, 5)
    options: dict[str, Any] = {"table": EVENT, "checksum": "crc32"}
    with pytest.raises(error, match=message):
        convert(source, tmp_path / "out.parquet", **(options | arguments))
    assert names_in(tmp_path) == {"in.fs"}
    for out, expected in [("out.xml", "is none of .fs, .parquet"), ("out.parquet.gz", "not compressed as a whole")]:
        with pytest.raises(ValueError, match=expected):
            convert(source, tmp_path / out, table=EVENT)
    with pytest.raises(TypeError, match="source must be a path or an iterable of paths, got 5"):
        convert(5, tmp_path / "out.csv")


@in_one_test
@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".arrows", ".mcap"])
def test_unknown_compression_is_refused(tmp_path: Path, ending: str) -> None:
    source = events(tmp_path / "in.fs", EVENT, 5)
    options: dict[str, Any] = {"table": EVENT, "checksum": "crc32", "time_field": "wall_time_ns"}
    with pytest.raises(ValueError, match=r"(?i)compression|codec"):
        convert(source, tmp_path / f"out{ending}", compression="squeezed", **options)
    assert names_in(tmp_path) == {"in.fs"}
    sizes = {
        name: one(source, tmp_path / f"{name}{ending}", compression=name, **options).size
        for name in ("none", "zstd", "lz4")
    }
    assert len(set(sizes.values())) == 3


def test_mcap_needs_a_time_that_it_can_carry(tmp_path: Path) -> None:
    table = TELEMETRY.table("telemetry.Disk")
    source = write_stream(tmp_path / "in.fs", table, [{"name": "sda"}])
    options: dict[str, Any] = {"table": table, "checksum": "crc32"}
    for field, message in [
        (None, r"MCAP needs a time .* which field of telemetry\.Disk has it: pass time_field="),
        ("name", r"name of telemetry\.Disk is no integer"),
        ("size", r"telemetry\.Disk has no field 'size'"),
        ("counters.read_count", r"the unit of counters\.read_count is not known"),
    ]:
        with pytest.raises(ValueError, match=message):
            convert(source, tmp_path / "out.mcap", time_field=field, **options)
    # A field of a table that is absent is 0.
    one(source, tmp_path / "out.mcap", time_field="counters.read_time_ms", **options)
    source = write_stream(tmp_path / "far.fs", EVENT, [{"sequence": 1}, {"sequence": 2**40}])
    with pytest.raises(ValueError, match=r"message 1: MCAP cannot carry the time 1099511627776 s of 'sequence'"):
        convert(source, tmp_path / "far.mcap", table=EVENT, checksum="crc32", time_field="sequence", time_unit="s")


# Values that do not fit


def refused(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises((ValueError, TypeError), match=message):
        convert(folder / name, folder / "out.fs", table=EVENT)
    assert not (folder / "out.fs").exists()


def test_lines_of_json_that_do_not_fit_are_named(tmp_path: Path) -> None:
    refused(tmp_path, "a.jsonl", '{"pid": 1}\n\n{"pid": -1}\n', r"pid: .*-1.*\(line 3, column")
    refused(tmp_path, "b.jsonl", '{"pid": 1}\n{"pids": 1}\n', r"no such field.*\(line 2, column")
    refused(tmp_path, "c.jsonl", '{"pid": 1}\n{"pid": \n', r"\(line 2, column")
    refused(tmp_path, "d.jsonl", "[1]\n", r"\(line 1, column")
    refused(tmp_path, "e.jsonl", '{"disks": [{"name": 5}]}\n', r"disks\[0\]\.name: .*\(line 1, column")
    refused(tmp_path, "f.jsonl", '{"pid": 1}\n' * 5000 + "?\n", r"\(line 5001, column")


def test_cells_of_csv_that_do_not_fit_are_named(tmp_path: Path) -> None:
    refused(tmp_path, "a.csv", "logical_cpus\n1\n\n70000\n", r"(?s)70000")
    refused(tmp_path, "b.csv", "pids\n1\n", r"column 'pids': telemetry\.Event has no field 'pids'")
    refused(tmp_path, "c.csv", "pid,host,pid\n1,a,1\n", r"two columns are called 'pid'")
    refused(tmp_path, "d.csv", "", "needs a first line")
    refused(tmp_path, "e.csv", "platform\nLinux\nBeOS\n", r"column 'platform', row 1: .*'BeOS'")
    refused(tmp_path, "f.csv", "sequence,cores\n1,[]\n2,[1\n", r"column 'cores', row 1: expected JSON, .*'\[1'")
    refused(tmp_path, "g.csv", "pid,host\n1,a\n2\n", r"(?s)CSV|row|columns")


def test_rows_of_later_batches_are_counted_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatstream.tools.conversion._arrow.BATCH_ROWS", 10)
    table = pa.table({"pid": pa.array([*range(25), -1, *range(20)], pa.int64())})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(ValueError, match=r"column 'pid', row 25: expected a uint, .* got -1"):
        convert(tmp_path / "in.parquet", tmp_path / "out.fs", table=EVENT)


def test_files_that_are_not_what_their_ending_says_are_refused(tmp_path: Path) -> None:
    for ending in (".parquet", ".arrow", ".arrows", ".mcap"):
        for content in (b"", b"no such file", b"PAR1ARROW1" * 30):
            (tmp_path / f"in{ending}").write_bytes(content)
            with pytest.raises(ValueError, match=r"\w"):
                convert(tmp_path / f"in{ending}", tmp_path / "out.fs", table=EVENT)
    (tmp_path / "in.fb").write_bytes(b"\x09\x00\x00\x00abc")
    with pytest.raises(EOFError):
        convert(tmp_path / "in.fb", tmp_path / "out.fs", table=EVENT)
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "nothing.parquet", tmp_path / "out.fs", table=EVENT)
    assert not (tmp_path / "out.fs").exists()


def test_enums_are_numbers_if_asked(tmp_path: Path) -> None:
    source = events(tmp_path / "in.fs", EVENT, 4)
    options: dict[str, Any] = {"table": EVENT, "checksum": "crc32", "fields": ["platform"]}
    for enums, expected in (("number", [1, 3, 1, 3]), ("dictionary", ["Linux", "Windows"] * 2)):
        out = tmp_path / f"{enums}.jsonl"
        one(source, out, enums=enums, **options)
        assert [json.loads(line)["platform"] for line in out.read_text().splitlines()] == expected
        one(source, tmp_path / f"{enums}.parquet", enums=enums, **options)
        assert pl.read_parquet(tmp_path / f"{enums}.parquet")["platform"].to_list() == expected
        one(tmp_path / f"{enums}.parquet", tmp_path / f"{enums}.fs", to_checksum="crc32")
        assert [event.platform for event in read_stream(tmp_path / f"{enums}.fs", EVENT)] == [1, 3, 1, 3]


def test_messages_of_other_tables_are_left_out_if_one_is_asked_for(tmp_path: Path) -> None:
    shape = SHAPES.root
    assert shape is not None
    with StreamWriter(tmp_path / "in.fs", "crc32") as writer:
        for number in range(6):
            schema, values = (TELEMETRY, {"sequence": number}) if number % 2 else (SHAPES, {"id": number})
            assert schema.root is not None
            RecordWriter(writer, schema.root, file_identifier=True).write_record(values)
    with pytest.raises(ValueError, match="file identifier"):
        convert(tmp_path / "in.fs", tmp_path / "out.csv", schema=TELEMETRY, checksum="crc32", fields=["sequence"])
    report = one(
        tmp_path / "in.fs", tmp_path / "out.csv", schema=TELEMETRY, table="Event", checksum="crc32", fields=["sequence"]
    )
    assert (report.messages, report.others) == (3, 3)
    assert (tmp_path / "out.csv").read_text() == '"sequence"\n1\n3\n5\n'
    # A stream has all of them.
    assert one(tmp_path / "in.fs", tmp_path / "out.fs", checksum="crc32").messages == 6


def test_size_prefixed_schema_is_not_needed_for_size_prefixed_files(tmp_path: Path) -> None:
    source = events(tmp_path / "in.fs", EVENT, 5)
    one(source, tmp_path / "out.fb", table=EVENT, checksum="crc32")
    prefixed = Schema.from_file(SCHEMAS.parent.parent.parent / "examples" / "telemetry.bfbs", size_prefixed=True)
    with StreamReader(tmp_path / "out.fb") as reader:
        assert [event.sequence for event in reader.records(prefixed.root)] == list(range(5))

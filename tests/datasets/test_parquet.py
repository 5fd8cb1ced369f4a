"""Datasets exported to Parquet: the folders, the types, and what a second run does."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import RecordWriter, Schema
from flatstream.schema import Table
from support.lakes import (
    HOUR,
    NOON,
    READINGS,
    SECOND,
    files_of,
    folder_of,
    leftovers_of,
    numbers_of,
    reading,
    rows_of,
    write_readings,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def table_of(schema: Schema) -> Table:
    """The table of the root."""
    assert schema.root is not None
    return schema.root


def export(source: Any, lake: Path, **options: Any) -> Any:
    keys = {"time_field", "time_unit", "on_error", "torn_end", "times", "table", "schema", "checksum"}
    dataset = flatstream.dataset(source, **{key: options.pop(key) for key in keys & options.keys()})
    return dataset.to_parquet(lake, **options)


# What readers see


def test_hours_become_folders_that_every_reader_takes_for_columns(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(150))
    lake = tmp_path / "lake"
    report = export(source, lake)
    assert rows_of(lake) == sorted((folder_of(number), number) for number in range(150))
    assert (report.rows, report.sources, report.finished) == (150, 1, 0)
    assert sorted(report.files) == [path.relative_to(lake).as_posix() for path in files_of(lake)]
    assert report.size == sum(path.stat().st_size for path in files_of(lake))
    assert leftovers_of(lake) == []

    expected = [(datetime.date(2026, 11, 29), 12 + hour, 60 if hour < 2 else 30) for hour in range(3)]
    polars = pytest.importorskip("polars")
    frame = polars.scan_parquet(f"{lake}/**/*.parquet", hive_partitioning=True)
    assert frame.group_by("date", "hour").len().sort("hour").collect().rows() == expected
    duckdb = pytest.importorskip("duckdb")
    query = f"select date, hour, count(*) from '{lake}/**/*.parquet' group by all order by hour"
    assert duckdb.sql(query).fetchall() == expected
    import pyarrow.dataset

    found = pyarrow.dataset.dataset(lake, partitioning="hive").to_table()
    assert sorted(set(found["hour"].to_pylist())) == [12, 13, 14]
    assert found.num_rows == 150


def test_rows_in_files_equal_those_of_the_dataset(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(90))
    export(source, tmp_path / "lake")
    tables = [pq.ParquetFile(path).read() for path in files_of(tmp_path / "lake")]
    expected = flatstream.dataset(source).columns()
    found = pa.concat_tables(tables).sort_by("number")
    assert found.to_pylist() == expected.to_pylist()
    assert found.schema.field("time_ns").type == pa.timestamp("ns", "UTC")


def test_a_file_becomes_a_stream_again(tmp_path: Path) -> None:
    from flatstream.tools import convert

    source = write_readings(tmp_path / "a.fs", range(10))
    export(source, tmp_path / "lake", partition_by=None)
    (path,) = files_of(tmp_path / "lake")
    convert(path, tmp_path / "back.fs")
    assert (
        flatstream.dataset(tmp_path / "back.fs").columns().to_pylist()
        == flatstream.dataset(source).columns().to_pylist()
    )


@pytest.mark.parametrize(
    ("partition_by", "expected"),
    [
        (None, ["."]),
        ("day", ["date=2026-11-29", "date=2026-11-30"]),
        ("state", ["state=busy", "state=idle"]),
        (["ok", "day"], [f"ok={ok}/date=2026-11-{day}" for ok in ("false", "true") for day in (29, 30)]),
    ],
)
def test_folders_by_other_keys(tmp_path: Path, partition_by: Any, expected: list[str]) -> None:
    source = write_readings(tmp_path / "a.fs", range(0, 1200, 5))
    export(source, tmp_path / "lake", partition_by=partition_by)
    assert sorted({folder for folder, _ in rows_of(tmp_path / "lake")}) == expected
    assert numbers_of(tmp_path / "lake") == list(range(0, 1200, 5))


def test_values_that_cannot_stand_in_a_path_are_encoded(tmp_path: Path) -> None:
    hosts = ["a/b", "..", "x=y %", "ü", "", None, "007"]
    rows = [reading(number, host=host) for number, host in enumerate(hosts)]
    source = write_readings(tmp_path / "a.fs", [], readings=rows)
    lake = tmp_path / "lake"
    export(source, lake, partition_by="host")
    null = "host=__HIVE_DEFAULT_PARTITION__"
    expected = ["host=a%2Fb", "host=..", "host=x%3Dy%20%25", "host=%C3%BC", null, null, "host=007"]
    assert rows_of(lake) == sorted(zip(expected, range(7), strict=True))
    assert all("host" not in pq.read_schema(path).names for path in files_of(lake))
    polars = pytest.importorskip("polars")
    frame = polars.scan_parquet(
        f"{lake}/**/*.parquet", hive_partitioning=True, hive_schema={"host": polars.String}
    ).sort("number")
    assert frame.collect()["host"].to_list() == ["a/b", "..", "x=y %", "ü", None, None, "007"]


def test_a_value_too_long_for_a_folder_is_refused_before_its_step_counts(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    for host in ("x" * 251, "\N{WATER WAVE}" * 21):
        # A folder can be called "host=" and 250 bytes more; such a character takes 12.
        source = write_readings(tmp_path / "a.fs", (), readings=[reading(1, host="x" * 250), reading(2, host=host)])
        with pytest.raises(ValueError, match=r"value '.* of 'host' makes the name of a folder of 25\d bytes, .* 255"):
            export(source, lake, partition_by="host")
        assert not (lake / "_flatstream/export/state.json").exists()
    export(source, lake, partition_by="host", where=("number", "==", 1))
    assert rows_of(lake) == [("host=" + "x" * 250, 1)]


def test_a_folder_that_cannot_be_made_is_found_before_its_step_counts(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    source = write_readings(tmp_path / "a.fs", range(3))
    lake.mkdir()
    (lake / "date=2026-11-29").write_bytes(b"of another program")
    for key in ("hour", "day"):
        with pytest.raises(NotADirectoryError, match=r"makes a folder here, and there is a file: '.*date=2026-11-29'"):
            export(source, lake, partition_by=key)
        assert not (lake / "_flatstream/export/state.json").exists()
    (lake / "date=2026-11-29").unlink()
    assert export(source, lake, partition_by="day").rows == 3
    with pytest.raises(NotADirectoryError, match=r"makes a folder here, and there is a file: '.*a.fs'"):
        export(source, source)


def test_times_before_1970_and_none_have_folders(tmp_path: Path) -> None:
    rows = [reading(0, time_ns=-1), reading(1, time_ns=-HOUR - 1), reading(2, time_ns=0)]
    source = write_readings(tmp_path / "a.fs", [], readings=rows)
    export(source, tmp_path / "lake")
    assert rows_of(tmp_path / "lake") == [
        ("date=1969-12-31/hour=22", 1),
        ("date=1969-12-31/hour=23", 0),
        ("date=1970-01-01/hour=0", 2),
    ]
    schema: Any = Schema.from_fbs(text="table T { time_ns: long = null; number: long; } root_type T;")
    with flatstream.open(tmp_path / "b.fs", "w", describe=schema) as stream:
        RecordWriter(stream, table_of(schema)).write_records([{"time_ns": NOON, "number": 0}, {"number": 1}])
    export(tmp_path / "b.fs", tmp_path / "other")
    null = "__HIVE_DEFAULT_PARTITION__"
    assert rows_of(tmp_path / "other") == [(folder_of(0), 0), (f"date={null}/hour={null}", 1)]


def test_numbers_in_place_of_timestamps_have_the_same_folders(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(70))
    export(source, tmp_path / "lake", times="number")
    assert rows_of(tmp_path / "lake") == sorted((folder_of(number), number) for number in range(70))
    assert pq.read_schema(files_of(tmp_path / "lake")[0]).field("time_ns").type == pa.int64()


def test_fields_and_conditions_choose_what_is_exported(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(120))
    lake = tmp_path / "lake"
    export(source, lake, fields=["number", "value"], where=("number", ">=", 50))
    assert numbers_of(lake) == list(range(50, 120))
    assert all(pq.read_schema(path).names == ["number", "value"] for path in files_of(lake))
    assert {folder for folder, _ in rows_of(lake)} == {folder_of(50), folder_of(60)}


def test_row_groups_and_files_have_the_sizes_asked_for(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(1000))
    export(source, tmp_path / "lake", partition_by=None, row_group_rows=300)
    (path,) = files_of(tmp_path / "lake")
    meta = pq.read_metadata(path)
    assert [meta.row_group(number).num_rows for number in range(meta.num_row_groups)] == [300, 300, 300, 100]
    export(source, tmp_path / "small", partition_by=None, row_group_rows=200, max_file_bytes=1, compression="none")
    # The rows come in one batch, whose groups go into one file.
    assert numbers_of(tmp_path / "small") == list(range(1000))


def test_many_folders_and_little_memory_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flatstream.datasets import _export_files, _export_run

    monkeypatch.setattr(_export_files, "MOST_OPEN", 3)
    monkeypatch.setattr(_export_files, "MOST_WAITING", 2000)
    monkeypatch.setattr(_export_run, "BATCH_ROWS", 50)
    monkeypatch.setattr(_export_run, "STEP_BYTES", 6000)
    source = write_readings(tmp_path / "a.fs", [n * 37 % 250 for n in range(250)])
    export(source, tmp_path / "lake", row_group_rows=20, max_file_bytes=1)
    assert rows_of(tmp_path / "lake") == sorted((folder_of(number), number) for number in range(250))
    assert leftovers_of(tmp_path / "lake") == []


def test_hosts_that_take_turns_get_one_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flatstream.datasets import _export_files, _export_run

    monkeypatch.setattr(_export_files, "MOST_OPEN", 4)
    monkeypatch.setattr(_export_run, "BATCH_ROWS", 60)
    opened: list[int] = []
    finish = _export_files.Files._finish

    def counting(self: Any, folder: str) -> None:
        opened.append(len(self._open))
        finish(self, folder)

    monkeypatch.setattr(_export_files.Files, "_finish", counting)
    readings = [reading(number, host=f"h{number % 30}") for number in range(3000)]
    source = write_readings(tmp_path / "a.fs", (), readings=readings)
    report = export(source, tmp_path / "lake", partition_by="host")
    assert len(report.files) == 30
    assert rows_of(tmp_path / "lake") == sorted((f"host=h{number % 30}", number) for number in range(3000))
    # Their rows are in their order, also where small batches became one.
    for path in files_of(tmp_path / "lake"):
        numbers = pq.ParquetFile(path).read(["number"]).column(0).to_pylist()
        assert numbers == sorted(numbers)
    # Files of full row groups are as many as are open at a time.
    export(source, tmp_path / "full", partition_by="host", row_group_rows=20)
    assert len(numbers_of(tmp_path / "full")) == 3000
    assert max(opened) == 4


def test_only_columns_whose_values_repeat_get_dictionaries(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(400))
    export(source, tmp_path / "lake", partition_by=None)
    meta = pq.read_metadata(files_of(tmp_path / "lake")[0])
    group = meta.row_group(0)
    found = {group.column(n).path_in_schema: group.column(n).has_dictionary_page for n in range(group.num_columns)}
    assert found["host"]
    assert found["state"]
    assert not found["number"]
    assert not found["time_ns"]


def test_fixed_arrays_and_tables_inside_become_columns_of_parquet(tmp_path: Path) -> None:
    schema: Any = Schema.from_fbs(
        text="""
        struct Point { at: [float:3]; } table Inner { names: [string]; point: Point; }
        table T { time_ns: long; number: long; inner: Inner; } root_type T;
        """
    )
    rows = [{"time_ns": NOON, "number": 0}, {"number": 1, "inner": {"names": ["x"], "point": {"at": [1, 2, 3]}}}]
    with flatstream.open(tmp_path / "a.fs", "w", describe=schema) as stream:
        RecordWriter(stream, table_of(schema)).write_records(rows)
    export(tmp_path / "a.fs", tmp_path / "lake", partition_by=None)
    found = pq.read_table(files_of(tmp_path / "lake")[0])["inner"].to_pylist()
    assert found == [None, {"names": ["x"], "point": {"at": [1.0, 2.0, 3.0]}}]


# A second run


def test_a_second_run_exports_what_was_added_and_leaves_files_alone(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(70))
    lake = tmp_path / "lake"
    export(source, lake)
    before = {path: path.read_bytes() for path in files_of(lake)}
    report = export(source, lake)
    assert (report.files, report.rows, report.sources) == ([], 0, 0)
    write_readings(source, range(70, 75), "a")
    # A row that comes late, of an hour that has a file.
    write_readings(source, [], "a", readings=[reading(75, time_ns=NOON)])
    write_readings(tmp_path / "b.fs", range(76, 80))
    report = export([source, tmp_path / "b.fs"], lake)
    assert (report.rows, report.sources) == (10, 2)
    assert numbers_of(lake) == list(range(80))
    assert (folder_of(0), 75) in rows_of(lake)
    assert {path: path.read_bytes() for path in before} == before
    assert len(files_of(lake)) == len(before) + 2


@pytest.mark.parametrize("on_error", ["raise", "skip", "stop", "resync"])
def test_a_file_that_grows_byte_by_byte_is_exported_once(tmp_path: Path, on_error: str) -> None:
    """Whatever part of a frame is there at the time of a run."""
    whole = write_readings(tmp_path / "whole.fs", range(12)).read_bytes()
    source, lake = tmp_path / "a.fs", tmp_path / "lake"
    first = len(write_readings(tmp_path / "head.fs", []).read_bytes())
    rows = 0
    for end in [*range(first, len(whole), 233), len(whole)]:
        with open(source, "ab") as file:
            file.write(whole[file.tell() : end])
        rows += export(source, lake, on_error=on_error).rows
    assert numbers_of(lake) == list(range(12))
    assert rows == 12


def test_several_exports_share_a_folder(tmp_path: Path) -> None:
    one, other = write_readings(tmp_path / "a.fs", range(5)), write_readings(tmp_path / "b.fs", range(5, 9))
    lake = tmp_path / "lake"
    export(one, lake, name="a")
    export(other, lake, name="b")
    assert export(one, lake, name="a").rows == 0
    assert numbers_of(lake) == list(range(9))
    assert sorted(path.name.split("-")[0] for path in files_of(lake)) == ["a", "b"]


def test_columns_that_came_later_are_in_later_files(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(5))
    lake = tmp_path / "lake"
    export(source, lake)
    newer: Any = Schema.from_fbs(
        text="""
        namespace lab;
        enum State : ubyte { idle, busy }
        table Reading { time_ns: long; number: long; host: string; state: State; value: double; ok: bool; more: int; }
        root_type Reading;
        """
    )
    with flatstream.open(tmp_path / "b.fs", "w", describe=newer) as stream:
        RecordWriter(stream, newer.root).write_record({"time_ns": NOON, "number": 5, "more": 7})
    export([source, tmp_path / "b.fs"], lake)
    polars = pytest.importorskip("polars")
    frame = polars.scan_parquet(f"{lake}/**/*.parquet", missing_columns="insert", extra_columns="ignore")
    assert frame.collect().height == 6
    duckdb = pytest.importorskip("duckdb")
    query = f"select number, more from read_parquet('{lake}/**/*.parquet', union_by_name=true) order by number"
    assert duckdb.sql(query).fetchall() == [*((number, None) for number in range(5)), (5, 7)]


# Hours that are not over


def at(number: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(NOON / SECOND + number * 60, datetime.UTC)


def test_columns_whose_type_became_wider_are_read_as_the_guide_says(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    duckdb = pytest.importorskip("duckdb")
    import pyarrow.dataset

    lake = tmp_path / "lake"
    fields = (("n: int; x: float;", 1, 1.5), ("n: long; x: double; late: string;", 2**40, 1e300))
    for name, (text, number, value) in zip("ab", fields, strict=True):
        schema = Schema.from_fbs(text=f"table T {{ time_ns: long; {text} }} root_type T;")
        with flatstream.open(tmp_path / f"{name}.fs", "w", checksum="crc32", describe=schema) as stream:
            RecordWriter(stream, table_of(schema)).write_record({"n": number, "x": value})
        report = export(tmp_path / f"{name}.fs", lake)
    newest = lake / report.files[-1]
    expected = [(1, 1.5, None, 0), (2**40, 1e300, None, 0)]
    frame = polars.scan_parquet(
        f"{lake}/**/*.parquet",
        hive_partitioning=True,
        schema=polars.read_parquet_schema(newest),
        missing_columns="insert",
        cast_options=polars.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
    )
    assert frame.select("n", "x", "late", "hour").sort("n").collect().rows() == expected
    query = f"select n, x, late, hour from read_parquet('{lake}/**/*.parquet', union_by_name=true) order by n"
    assert duckdb.sql(query).fetchall() == expected
    schemas = [pyarrow.dataset.dataset(lake, partitioning="hive").schema, pq.read_schema(newest)]
    unified = pa.unify_schemas(schemas, promote_options="permissive")
    table = pyarrow.dataset.dataset(lake, partitioning="hive", schema=unified).to_table().sort_by("n")
    assert [tuple(row[name] for name in ("n", "x", "late", "hour")) for row in table.to_pylist()] == expected


def test_an_open_hour_is_held_back_until_it_is_over(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(100))
    lake = tmp_path / "lake"
    report = export(source, lake, until=at(100))
    assert numbers_of(lake) == list(range(60))
    assert report.held_back == [str(source)]
    assert export(source, lake, until=at(110)).rows == 0
    write_readings(source, range(100, 150), "a")
    # The late row stands behind one that is held back, so that it waits, too.
    write_readings(source, [], "a", readings=[reading(150, time_ns=NOON)])
    assert export(source, lake, until=at(150)).rows == 60
    report = export(source, lake, until=at(180))
    assert report.held_back == []
    assert numbers_of(lake) == list(range(151))
    assert len(files_of(lake)) == 4


def test_a_time_far_in_the_future_holds_nothing_back(tmp_path: Path) -> None:
    rows = [reading(0), reading(1, time_ns=NOON + 1000 * HOUR), reading(2), reading(60), reading(61)]
    source = write_readings(tmp_path / "a.fs", [], readings=rows)
    export(source, tmp_path / "lake", until=at(65))
    assert numbers_of(tmp_path / "lake") == [0, 1, 2]


def test_closed_means_by_the_clock(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC).timestamp()
    times = [int(now - 7200) * SECOND, int(now + 5) * SECOND]
    source = write_readings(tmp_path / "a.fs", [], readings=[reading(n, time_ns=t) for n, t in enumerate(times)])
    export(source, tmp_path / "lake", until="closed")
    assert numbers_of(tmp_path / "lake") == [0]
    export(source, tmp_path / "lake")
    assert numbers_of(tmp_path / "lake") == [0, 1]


# What is refused


def refused(tmp_path: Path, options: dict[str, Any], kind: type[Exception], words: str) -> None:
    source = tmp_path / "a.fs"
    if not source.exists():
        write_readings(source, range(3))
    with pytest.raises(kind, match=words):
        export(source, tmp_path / "lake", **options)
    assert not (tmp_path / "lake").exists()


def test_wrong_arguments_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    for options, kind, words in (
        ({"partition_by": "nothing"}, KeyError, "no field 'nothing'"),
        ({"partition_by": "value"}, TypeError, "the field 'value' is double"),
        ({"partition_by": ["host", "host"]}, ValueError, "more than once"),
        ({"partition_by": ["day", "hour"]}, ValueError, "more than once"),
        ({"partition_by": [1]}, TypeError, "names of columns or None, got 1"),
        ({"partition_by": "host", "fields": ["host"]}, ValueError, "no field is left"),
        ({"fields": "number"}, TypeError, "must be a list of paths"),
        ({"fields": ["nothing"]}, KeyError, "no field 'nothing'"),
        ({"until": "tomorrow"}, ValueError, "until must be"),
        ({"until": datetime.datetime(2026, 1, 1)}, ValueError, "time zone"),
        ({"until": "closed", "partition_by": "host"}, ValueError, "folders by time"),
        ({"compression": "zip"}, ValueError, "compression must be one of zstd"),
        ({"row_group_rows": 0}, ValueError, "row_group_rows"),
        ({"max_file_bytes": -1}, ValueError, "max_file_bytes"),
        ({"resume": 1}, TypeError, "resume must be a bool"),
        ({"progress": 1}, TypeError, "progress must be callable"),
    ):
        refused(tmp_path, options, kind, words)
    for name in ("", "a/b", "_a", ".", "a" * 101, 7):
        with pytest.raises(ValueError, match="name of an export"):
            export(tmp_path / "a.fs", tmp_path / "lake", name=name)
    with pytest.raises(ValueError, match="mount it"):
        flatstream.dataset(tmp_path / "a.fs").to_parquet("s3://bucket/lake")


def test_a_field_that_is_called_as_a_folder_is_refused(tmp_path: Path) -> None:
    schema: Any = Schema.from_fbs(text="table T { time_ns: long; hour: int; } root_type T;")
    with flatstream.open(tmp_path / "a.fs", "w", describe=schema) as stream:
        RecordWriter(stream, table_of(schema)).write_record({"time_ns": NOON})
    with pytest.raises(ValueError, match="a column 'hour', and there is a field of this name"):
        export(tmp_path / "a.fs", tmp_path / "lake")
    export(tmp_path / "a.fs", tmp_path / "lake", fields=["time_ns"])


def test_hours_without_a_time_are_refused(tmp_path: Path) -> None:
    schema: Any = Schema.from_fbs(text="table T { number: long; } root_type T;")
    with flatstream.open(tmp_path / "a.fs", "w", describe=schema) as stream:
        RecordWriter(stream, table_of(schema)).write_record({"number": 1})
    with pytest.raises(ValueError, match=r"needs to know the time of messages, and .*a\.fs"):
        export(tmp_path / "a.fs", tmp_path / "lake")
    export(tmp_path / "a.fs", tmp_path / "lake", partition_by=None)
    assert numbers_of(tmp_path / "lake") == [1]


def test_hours_of_a_time_that_the_caller_names(tmp_path: Path) -> None:
    old: Any
    new: Any
    old, new = (
        Schema.from_fbs(text=f"{text} root_type T;")
        for text in ("table T { when: long; number: int; }", "table In { at: int; } table T { number: int; in: In; }")
    )
    for name, schema, record in (
        ("a.fs", old, {"when": NOON, "number": 0}),
        ("b.fs", new, {"number": 1, "in": {"at": NOON // SECOND + 3600}}),
    ):
        with flatstream.open(tmp_path / name, "w", checksum="crc32", describe=schema) as stream:
            RecordWriter(stream, table_of(schema)).write_record(record)
    for number, options in enumerate([{"time_field": "when:ns"}, {"time_field": "when", "time_unit": "ns"}]):
        export(tmp_path / "a.fs", tmp_path / f"{number}", **options)
        assert rows_of(tmp_path / f"{number}") == [(folder_of(0), 0)]
    export(tmp_path / "b.fs", tmp_path / "in", time_field="in.at:s")
    assert rows_of(tmp_path / "in") == [(folder_of(60), 1)]
    with pytest.raises(
        ValueError, match="was begun with time_field='when:ns', and cannot go on with time_field='when:s'"
    ):
        export(tmp_path / "a.fs", tmp_path / "0", time_field="when:s")
    found = flatstream.dataset(tmp_path / "a.fs", time_field="when:ns")
    assert found.time_field == "when"
    assert found.arrow_schema.field("when").type == pa.timestamp("ns", "UTC")
    assert found.count(("when", ">=", datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC))) == 1
    with pytest.raises(ValueError, match=r"b\.fs.* does not say which field it is"):
        export([tmp_path / "a.fs", tmp_path / "b.fs"], tmp_path / "both", time_field="when:ns")
    with pytest.raises(KeyError, match="no field 'nope' in any file"):
        flatstream.dataset(tmp_path / "a.fs", time_field="nope:ns").count()
    with pytest.raises(ValueError, match=r"a\.fs: the unit of when is not known"):
        flatstream.dataset(tmp_path / "a.fs", time_field="when").count()
    bad: Any
    for bad in ({"time_field": "when:h"}, {"time_unit": "ns"}, {"time_field": "when:ns", "time_unit": "s"}):
        with pytest.raises(ValueError, match="time_field"):
            flatstream.dataset(tmp_path / "a.fs", **bad)


def test_a_misspelt_period_is_told_with_those_there_are(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(3))
    with pytest.raises(KeyError, match=r"no field 'hours' in any file .*; and 'hour' and 'day' for the time"):
        export(source, tmp_path / "lake", partition_by="hours")


@pytest.mark.parametrize(
    "changed",
    [{"partition_by": "day"}, {"fields": ["number"]}, {"where": ("number", ">", 1)}, {"times": "number"}],
    ids=lambda changed: next(iter(changed)),
)
def test_an_export_does_not_go_on_with_other_options(tmp_path: Path, changed: dict[str, Any]) -> None:
    source = write_readings(tmp_path / "a.fs", range(3))
    export(source, tmp_path / "lake", until=at(500))
    with pytest.raises(ValueError, match=f"was begun with (no )?{next(iter(changed))}="):
        export(source, tmp_path / "lake", **changed)
    assert numbers_of(tmp_path / "lake") == [0, 1, 2]


def test_a_second_export_of_the_same_sources_into_a_folder_is_refused(tmp_path: Path) -> None:
    from flatstream.journal import JournalWriter

    lake = tmp_path / "lake"
    source = write_readings(tmp_path / "a.fs", range(3))
    with JournalWriter(tmp_path / "journal", describe=READINGS) as journal:
        RecordWriter(journal, READINGS.root).write_record(reading(3))
    export([source, tmp_path / "journal"], lake, name="box1")
    for shared in (source, tmp_path / "journal"):
        for _ in range(2):
            with pytest.raises(
                ValueError, match=r"export 'box1' .* has rows of .*: go on with name='box1', .*again=True"
            ):
                export(shared, lake, times="us")
    assert numbers_of(lake) == [0, 1, 2, 3]
    # Another machine's file has the same path.
    source.unlink()
    write_readings(source, range(10, 12))
    export(source, lake, name="box2")
    export(tmp_path / "journal", lake, again=True)
    assert export(tmp_path / "journal", lake).rows == 0
    assert numbers_of(lake) == [0, 1, 2, 3, 3, 10, 11]


def test_a_source_that_joins_an_export_later_is_refused_if_another_has_it(tmp_path: Path) -> None:
    from flatstream.journal import JournalWriter

    lake = tmp_path / "lake"
    first, second = write_readings(tmp_path / "a.fs", range(3)), write_readings(tmp_path / "b.fs", range(3, 5))
    with JournalWriter(tmp_path / "journal", describe=READINGS) as journal:
        RecordWriter(journal, READINGS.root).write_record(reading(9))
    export([first, tmp_path / "journal"], lake, name="box1")
    export(second, lake, name="box2")
    for joins in (first, tmp_path / "journal"):
        with pytest.raises(ValueError, match=r"export 'box1' in this folder has rows of .*: go on with name='box1'"):
            export([second, joins], lake, name="box2")
    # One that no other has may join.
    export([second, write_readings(tmp_path / "c.fs", [5])], lake, name="box2")
    assert numbers_of(lake) == [0, 1, 2, 3, 4, 5, 9]
    assert export([first, second], lake, name="box2", again=True).rows == 3
    write_readings(first, [6], "a")
    assert export([first, second], lake, name="box2").rows == 1


@pytest.mark.parametrize("values", ["{'a', 'b', 'c', 'd', 'e', 'f'}", "numpy.arange(2000)"])
def test_conditions_have_one_text_in_all_processes(tmp_path: Path, values: str) -> None:
    import subprocess
    import sys

    source = write_readings(tmp_path / "a.fs", range(3))
    path = "number" if "numpy" in values else "host"
    code = (
        "import sys, flatstream, numpy\n"
        f"where = ({path!r}, 'in', {values})\n"
        "flatstream.dataset(sys.argv[1]).to_parquet(sys.argv[2], where=[where])\n"
    )
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(source), str(tmp_path / "lake")],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    if "numpy" in values:
        import numpy as np

        changed = np.arange(2000)
        changed[1000] = 5000
        with pytest.raises(ValueError, match="was begun with where="):
            export(source, tmp_path / "lake", where=[("number", "in", changed)])


def test_keys_whose_folders_readers_pass_over_are_refused(tmp_path: Path) -> None:
    schema = Schema.from_fbs(text="table T { time_ns: long; _host: string; n: int; } root_type T;")
    with flatstream.open(tmp_path / "a.fs", "w", checksum="crc32", describe=schema) as stream:
        RecordWriter(stream, table_of(schema)).write_record({"_host": "a", "n": 1})
    with pytest.raises(
        ValueError, match="folders of '_host' would have names with '_' at their beginning, which pyarr"
    ):
        export(tmp_path / "a.fs", tmp_path / "lake", partition_by=["_host", "day"])
    assert not (tmp_path / "lake").exists()
    assert export(tmp_path / "a.fs", tmp_path / "lake").rows == 1


def test_a_time_that_parquet_cannot_hold_is_told_with_a_way_out(tmp_path: Path) -> None:
    schema = Schema.from_fbs(text="table T { time_s: long; n: int; } root_type T;")
    with flatstream.open(tmp_path / "a.fs", "w", checksum="crc32", describe=schema) as stream:
        RecordWriter(stream, table_of(schema)).write_records({"time_s": time, "n": 1} for time in (0, 2**62, -(2**63)))
    with pytest.raises(OverflowError, match=r"timestamp.*; .*times='number' exports the numbers"):
        export(tmp_path / "a.fs", tmp_path / "lake")
    assert leftovers_of(tmp_path / "lake") == []
    export(tmp_path / "a.fs", tmp_path / "numbers", times="number")
    null = "date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__"
    folders = [path.parent.relative_to(tmp_path / "numbers").as_posix() for path in files_of(tmp_path / "numbers")]
    assert sorted(folders) == ["date=1970-01-01/hour=0", null]


def test_other_options_are_told_with_one_remedy(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(3))
    export(source, tmp_path / "lake")
    with pytest.raises(
        ValueError, match=r"no fields=, .* fields=\['number'\]: export into another folder, from"
    ) as caught:
        export(source, tmp_path / "lake", fields=["number"])
    assert "name" not in str(caught.value).replace(str(tmp_path), "")


def test_resume_false_wants_a_new_export(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(3))
    export(source, tmp_path / "lake", resume=False)
    with pytest.raises(FileExistsError, match="resume=True goes on"):
        export(source, tmp_path / "lake", resume=False)


def test_a_second_process_is_told_who_exports(tmp_path: Path) -> None:
    from flatstream.datasets._export_state import Export

    source = write_readings(tmp_path / "a.fs", range(3))
    with (
        Export(str(tmp_path / "lake"), "export", {}),
        pytest.raises(OSError, match=f"another run of it is at work: this process, {os.getpid()}"),
    ):
        export(source, tmp_path / "lake")
    assert files_of(tmp_path / "lake") == []


def test_a_state_that_is_damaged_or_lost_is_no_reason_to_begin_again(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", range(3))
    lake = tmp_path / "lake"
    export(source, lake)
    state = lake / "_flatstream" / "export" / "state.json"
    good = state.read_bytes()
    content = json.loads(good)
    for bad in (
        b"",
        good[:-20],
        good.replace(b'"rows": 3', b'"rows": 4'),
        b"[]",
        b"\xff",
        json.dumps(content | {"format": 2}).encode(),
    ):
        state.write_bytes(bad)
        with pytest.raises(ValueError, match="does not say how far the export has come"):
            export(source, lake)
        assert state.read_bytes() == bad
    state.unlink()
    with pytest.raises(FileExistsError, match=r"whose state .* is lost"):
        export(source, lake)
    export(source, lake, name="other", partition_by="hour")
    state.write_bytes(good)
    assert export(source, lake).rows == 0


def test_progress_rises_to_the_size_of_the_sources(tmp_path: Path) -> None:
    paths = [write_readings(tmp_path / f"{n}.fs", range(n * 100, n * 100 + 100)) for n in range(3)]
    seen: list[tuple[int, int]] = []
    export(paths, tmp_path / "lake", progress=lambda done, total: seen.append((done, total)))
    total = sum(path.stat().st_size for path in paths)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_nothing_to_export_makes_no_file(tmp_path: Path) -> None:
    source = write_readings(tmp_path / "a.fs", [])
    report = export(source, tmp_path / "lake")
    assert (report.rows, files_of(tmp_path / "lake")) == (0, [])
    assert json.loads(json.dumps(report.to_dict()))["rows"] == 0
    assert READINGS.root is not None

"""``flatstream convert --partition-by``: what it prints, and its exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream.journal import JournalWriter, RetentionPolicy, RotationPolicy
from flatstream.records import RecordWriter
from support.cli import call_flatstream
from support.lakes import READINGS, files_of, numbers_of, reading, rows_of, write_readings

pytest.importorskip("pyarrow")

INTACT, DAMAGED, USAGE, ERROR = 0, 1, 2, 4


def test_each_run_adds_what_is_new(tmp_path: Path) -> None:
    write_readings(tmp_path / "a.fs", range(100))
    lake = tmp_path / "lake"
    done = call_flatstream("convert", "a.fs", "lake", "--partition-by", "hour", cwd=tmp_path)
    size = sum(path.stat().st_size for path in files_of(lake))
    assert (done.status, done.errors) == (INTACT, "")
    assert done.output == f"lake: 100 messages in 2 new files, {size / 1000:.3g} kB\n"
    write_readings(tmp_path / "a.fs", range(100, 103), "a")
    write_readings(tmp_path / "b.fs", range(103, 105))
    # Each path is known by itself, also among others.
    done = call_flatstream("convert", "*.fs", "lake", "--partition-by", "hour", "--json", cwd=tmp_path)
    report = json.loads(done.output)
    assert (done.status, report["rows"], report["sources"], report["path"]) == (INTACT, 5, 2, "*.fs")
    assert numbers_of(lake) == list(range(105))


def test_options_choose_rows_columns_folders_and_names(tmp_path: Path) -> None:
    import pyarrow.parquet

    write_readings(tmp_path / "a.fs", range(100))
    options = ["--partition-by", "state, day", "--where", "number >= 10", "--since", "2026-11-29T12:20:00Z"]
    options += ["--fields", "number,value", "--compression", "snappy", "--name", "alpha", "--to", "parquet"]
    done = call_flatstream("convert", "a.fs", "lake", *options, cwd=tmp_path)
    assert done.status == INTACT, done.errors
    lake = tmp_path / "lake"
    day = "date=2026-11-29"
    assert rows_of(lake) == sorted((f"state={('idle', 'busy')[n % 2]}/{day}", n) for n in range(20, 100))
    meta = pyarrow.parquet.read_metadata(files_of(lake)[0])
    assert meta.schema.names == ["number", "value"]
    assert meta.row_group(0).column(0).compression == "SNAPPY"
    assert all(path.name.startswith("alpha-") for path in files_of(lake))
    # The time is in no field that is asked for, and in no file.
    done = call_flatstream("convert", "a.fs", "us", "--partition-by", "hour", "--times", "us", cwd=tmp_path)
    assert done.status == INTACT
    assert (
        str(pyarrow.parquet.read_schema(files_of(tmp_path / "us")[0]).field("time_ns").type) == "timestamp[us, tz=UTC]"
    )
    assert call_flatstream("convert", "a.fs", "all", "--partition-by", "none", cwd=tmp_path).status == INTACT
    assert [folder for folder, _ in rows_of(tmp_path / "all")] == ["."] * 100


def test_closed_holds_back_the_hour_that_is_not_over(tmp_path: Path) -> None:
    import time

    now = time.time_ns()
    rows = [reading(0, time_ns=now - 7200 * 10**9), reading(1, time_ns=now + 10**9)]
    write_readings(tmp_path / "a.fs", [], readings=rows)
    done = call_flatstream("convert", "a.fs", "lake", "--partition-by", "hour", "--closed", cwd=tmp_path)
    assert done.status == INTACT
    assert done.output.endswith("; 1 file held back at the hour or day that is not over\n")
    assert numbers_of(tmp_path / "lake") == [0]


def test_what_is_lost_or_damaged_is_told_with_a_status(tmp_path: Path) -> None:
    def append(begin: int, end: int, retain: RetentionPolicy | None = None) -> None:
        rotate = RotationPolicy(max_frames=10)
        with JournalWriter(tmp_path / "journal", describe=READINGS.root, rotate=rotate, retain=retain) as writer:
            for number in range(begin, end):
                RecordWriter(writer, READINGS.root).write_record(reading(number))

    append(0, 5)
    command = ["convert", "journal", "lake", "--partition-by", "day"]
    assert call_flatstream(*command, cwd=tmp_path).status == INTACT
    append(5, 45)
    append(45, 45, RetentionPolicy(max_segments=2))
    done = call_flatstream(*command, cwd=tmp_path)
    assert done.status == DAMAGED
    assert "25 messages from number 5 on were removed before they were exported" in done.errors
    assert numbers_of(tmp_path / "lake") == [*range(5), *range(30, 45)]

    source = write_readings(tmp_path / "a.fs", range(50))
    data = bytearray(source.read_bytes())
    data[-150] ^= 255
    source.write_bytes(data)
    command = ["convert", "a.fs", "other", "--partition-by", "day"]
    done = call_flatstream(*command, cwd=tmp_path)
    assert (done.status, done.output) == (DAMAGED, "")
    assert done.errors.startswith("flatstream convert: a.fs: ")
    assert "; --on-error resync leaves out what is damaged; exported all the same: " in done.errors
    before = numbers_of(tmp_path / "other")
    done = call_flatstream(*command, "--on-error", "resync", cwd=tmp_path)
    assert done.status == DAMAGED
    assert "1 place and" in done.errors
    assert len(numbers_of(tmp_path / "other")) == 49 > len(before)


def test_what_was_encrypted_is_written_if_asked(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    key = bytes(range(32))
    (tmp_path / "key").write_bytes(key)
    framer = flatstream.ChecksumFramer(flatstream.Crc32c()).encrypted(flatstream.Aes256Gcm(key))
    with flatstream.open(tmp_path / "a.fs", "w", describe=READINGS.root, framer=framer) as stream:
        RecordWriter(stream, READINGS.root).write_records([reading(number) for number in range(3)])
    command = ["convert", "a.fs", "lake", "--partition-by", "hour"]
    for options, status, words in (
        ([], ERROR, "--key-file"),
        (["--key-file", "key"], USAGE, "--decrypt writes what was encrypted"),
    ):
        done = call_flatstream(*command, *options, cwd=tmp_path)
        assert (done.status, done.output) == (status, ""), done
        assert words in done.errors
    assert call_flatstream(*command, "--key-file", "key", "--decrypt", cwd=tmp_path).status == INTACT
    assert numbers_of(tmp_path / "lake") == [0, 1, 2]


def test_wrong_usage_makes_nothing(tmp_path: Path) -> None:
    write_readings(tmp_path / "a.fs", range(3))
    by_hour = ["a.fs", "lake", "--partition-by", "hour"]
    cases: list[tuple[list[str], int, str]] = [
        (["a.fs", "lake.parquet", "--closed"], USAGE, "--closed goes with --partition-by only"),
        (["a.fs", "lake.parquet", "--times", "us"], USAGE, "--times goes with --partition-by only"),
        (["a.fs", "lake.parquet", "--name", "x"], USAGE, "--name goes with --partition-by only"),
        ([*by_hour, "--to", "csv"], USAGE, "--partition-by makes Parquet files, got --to csv"),
        ([*by_hour, "--processes", "2"], USAGE, "--processes does not go with --partition-by"),
        ([*by_hour, "--from", "fs"], USAGE, "--from does not go with --partition-by"),
        ([*by_hour, "--no-describe"], USAGE, "--describe does not go with --partition-by"),
        (["a.fs", "-", "--partition-by", "hour"], USAGE, "OUT cannot be standard output"),
        (["a.fs", "lake", "--partition-by", "nothing"], USAGE, "no field 'nothing'"),
        (["a.fs", "lake", "--partition-by", "value"], ERROR, "the field 'value' is double"),
        ([*by_hour, "--compression", "zip"], ERROR, "compression must be one of"),
        ([*by_hour, "--where", "nothing > 1"], USAGE, "--where: "),
        (["b.fs", "lake", "--partition-by", "hour"], ERROR, "b.fs: No such file"),
    ]
    for arguments, status, message in cases:
        done = call_flatstream("convert", *arguments, cwd=tmp_path)
        assert (done.status, done.output) == (status, ""), (arguments, done)
        assert done.errors.count("\n") == 1, done.errors
        assert message in done.errors, done.errors
    assert [path.name for path in tmp_path.iterdir()] == ["a.fs"]


def test_messages_name_options_and_their_values_as_they_are_typed(tmp_path: Path) -> None:
    from flatstream import Schema

    write_readings(tmp_path / "a.fs", range(3))

    def errors(*options: str) -> str:
        return call_flatstream("convert", "a.fs", "lake", *options, cwd=tmp_path).errors

    assert errors("--partition-by", "hour") == ""
    text = errors("--partition-by", "hour", "--fields", "time_ns,host")
    assert "was begun with no --fields, and cannot go on with --fields time_ns,host: export into another folder" in text
    assert "begun with --partition-by hour, and cannot go on with --partition-by none:" in errors(
        "--partition-by", "none"
    )
    text = errors("--partition-by", "hour", "--name", "b")
    assert "go on with --name export, export into another folder, or pass --again" in text
    assert "'hour' and 'day' for the time, and 'none' for no folders" in errors("--partition-by", "hours")
    assert errors("--partition-by", "hour", "--name", "b", "--again") == ""
    assert numbers_of(tmp_path / "lake") == [0, 0, 1, 1, 2, 2]
    schema: Any = Schema.from_fbs(text="table T { when: long; number: int; } root_type T;")
    with flatstream.open(tmp_path / "a.fs", "w", checksum="crc32", describe=schema) as stream:
        RecordWriter(stream, schema.root).write_record({"when": 1, "number": 7})
    done = call_flatstream("convert", "a.fs", "when", "--partition-by", "hour", cwd=tmp_path)
    assert "pass --time-field name:ns, describe streams" in done.errors
    done = call_flatstream("convert", "a.fs", "when", "--partition-by", "hour", "--time-field", "when:s", cwd=tmp_path)
    assert (done.status, rows_of(tmp_path / "when")) == (INTACT, [("date=1970-01-01/hour=0", 7)])


def test_what_is_no_stream_is_no_damage(tmp_path: Path) -> None:
    write_readings(tmp_path / "a.fs", range(3))
    (tmp_path / "b.fs").write_text("id,host\n1,a\n" * 100)
    for options in ([], ["--on-error", "resync"]):
        done = call_flatstream("convert", "*.fs", "lake", "--partition-by", "hour", *options, cwd=tmp_path)
        assert (done.status, done.output) == (ERROR, "")
        assert done.errors == "flatstream convert: b.fs: no stream: it is a text\n"


def test_what_was_exported_before_damage_is_told(tmp_path: Path) -> None:
    for name in ("a.fs", "b.fs"):
        data = bytearray(write_readings(tmp_path / name, range(100)).read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / name).write_bytes(data)
    run = ["convert", "*.fs", "lake", "--partition-by", "none"]
    done = call_flatstream(*run, cwd=tmp_path)
    rows = len(numbers_of(tmp_path / "lake"))
    assert done.status == DAMAGED
    assert 0 < rows < 200
    assert "; and also: b.fs: " in done.errors
    assert done.errors.endswith(f"; exported all the same: {rows} rows in 1 new files\n")
    done = call_flatstream(*run, cwd=tmp_path)
    assert done.status == DAMAGED
    assert done.errors.startswith("flatstream convert: a.fs: ")
    assert "exported" not in done.errors


def test_messages_of_wrong_arguments_are_in_words_of_the_command_line(tmp_path: Path) -> None:
    write_readings(tmp_path / "a.fs", range(3))
    with flatstream.open(tmp_path / "plain.fs", "w", checksum="crc32") as stream:
        RecordWriter(stream, READINGS.root).write_record(reading(1))
    cases = [
        (
            ["a.fs", "lake", "--partition-by", "host", "--closed"],
            "--closed needs folders by time: --partition-by with ",
        ),
        (["plain.fs", "lake", "--partition-by", "hour"], "pass --table or --schema, as in --schema events.fbs\n"),
        (["a.fs", "a.fs", "--partition-by", "hour"], "a.fs: an export to Parquet makes a folder here, and there is a "),
    ]
    for arguments, text in cases:
        done = call_flatstream("convert", *arguments, cwd=tmp_path)
        assert text in done.errors
        assert "=" not in done.errors

"""examples/replay.py over files of known content: what it loads, says and draws; and over journals."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import flatstream
from flatstream.journal import JournalReader, JournalWriter
from support.schemas import EXAMPLES

SCHEMA = flatstream.Schema.from_file(EXAMPLES / "telemetry.bfbs")
BEGUN_NS = 1_767_225_600_000_000_000  # 2026-01-01
EVENTS = 1000
GIB = 2**30


def event(number: int) -> dict[str, Any]:
    """One event of a machine that is busy a quarter of the time, 10 ms after the one before."""
    seconds = number / 100
    return {
        "sequence": number,
        "wall_time_ns": BEGUN_NS + number * 10_000_000,
        "monotonic_ns": 5_000 + number * 10_000_000,
        "lateness_ns": 1000 * number,
        "deadline_missed": number % 100 == 99,
        "host": "näme",
        "platform": "Linux",
        "logical_cpus": 2,
        # Both together: a quarter busy, an eighth waiting.
        "cpu_total": (seconds / 4, 0, seconds / 8, seconds * 5 / 4, seconds / 4, 0, 0, seconds / 8),
        "cores": [(seconds, 0, 0, 0, 0, 0, 0, 0), (0, 0, 0, seconds, 0, 0, 0, 0)],
        "load_1": 0.5,
        "memory_total": 8 * GIB,
        "memory_used": GIB + number * GIB // 1000,
        "memory_cached": 2 * GIB,
        "disks": [{"name": "sda", "counters": (1, 2, 3, 4, 5, number)}],
        "process_resident": 64 * 2**20,
    }


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "machine.telemetry"
    with flatstream.open(path, "w", checksum="xxhash64") as writer:
        assert SCHEMA.root is not None
        flatstream.RecordWriter(writer, SCHEMA.root).write_records(map(event, range(EVENTS)))
    return path


def run_replay(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "replay.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@functools.cache
def replay_main() -> Callable[[list[str]], int]:
    """What the program does, in this process: to import its libraries takes two seconds."""
    specification = importlib.util.spec_from_file_location("replay", EXAMPLES / "replay.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["replay"] = module
    specification.loader.exec_module(module)
    main: Callable[[list[str]], int] = module.main
    return main


def replay(*arguments: Any, status: int = 0) -> subprocess.CompletedProcess[str]:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        found = replay_main()(list(map(str, arguments)))
    done = subprocess.CompletedProcess("replay.py", found, output.getvalue(), errors.getvalue())
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("engine", ["polars", "pandas"])
def test_file_becomes_parquet_a_summary_and_a_picture(recorded, engine):
    done = (run_replay if engine == "polars" else replay)(recorded, "--with", engine)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:3] == ["loaded", "1000", "events"]
    assert done.stdout.splitlines()[1:4] == [
        "host      näme, from 2026-01-01 00:00:00 UTC for 10.0 s",
        "events    1000, 100.1/s, 0 missing",
        "deadlines 10 missed, at worst 999 us late",
    ]
    table = {" ".join(line[:-3]): [float(value) for value in line[-3:]] for line in lines[5:-1]}
    assert table["cpu busy %"] == [25.0, 25.0, 25.0]
    assert table["cpu iowait %"] == [12.5, 12.5, 12.5]
    assert table["memory used GiB"][0] < 1.03
    assert table["memory used GiB"][2] == 2.0
    assert table["agent MiB"] == [64.0, 64.0, 64.0]
    assert table["load"] == [0.5, 0.5, 0.5]
    picture = recorded.with_suffix(".png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 10_000
    loaded = pq.read_table(recorded.with_suffix(".parquet"))
    assert loaded.num_rows == EVENTS
    assert loaded.column_names == list(SCHEMA.root.field_names if SCHEMA.root else ())
    assert loaded.schema.metadata[b"flatstream.table"] == b"telemetry.Event"
    for number in (0, 1, EVENTS - 1):
        row = loaded.slice(number, 1).to_pylist()[0]
        expected = event(number)
        assert tuple(row["cpu_total"].values()) == expected["cpu_total"]
        assert list(row["cpu_total"]) == ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"]
        assert row["disks"][0]["name"] == "sda"
        assert row["disks"][0]["counters"]["write_time_ms"] == number
        assert row["memory_used"] == expected["memory_used"]
        assert (row["host"], row["platform"], row["kernel"]) == ("näme", "Linux", None)


def test_a_stream_that_says_its_schema_is_read_by_it(recorded, tmp_path):
    # A later version of the schema, with one more field.
    text = (EXAMPLES / "telemetry.fbs").read_text(encoding="utf-8")
    later: Any = flatstream.Schema.from_fbs(
        text=text.replace("process_started:double;", "process_started:double; fan_rpm:int;")
    )
    path = tmp_path / "machine.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=later) as writer:
        flatstream.RecordWriter(writer, later.root).write_record(event(0) | {"fan_rpm": 900})
    (tmp_path / "telemetry.fbs").write_text(text, encoding="utf-8")
    table_of = importlib.import_module("replay").table_of
    with flatstream.open(path) as reader:
        assert table_of(reader, None) == later.root
        assert "fan_rpm" not in table_of(reader, tmp_path / "telemetry.fbs").field_names
        assert reader.columns(table_of(reader, None))["fan_rpm"].to_pylist() == [900]
    with flatstream.open(recorded) as reader:
        assert table_of(reader, None) == SCHEMA.root


def test_window_of_time_and_names_of_what_is_written(recorded, tmp_path):
    done = replay(
        recorded, "--begin", "2026-01-01T00:00:02+00:00", "--end", "2026-01-01T00:00:03+00:00",
        "--parquet", tmp_path / "other.parquet", "--png", tmp_path / "other.png",
    )  # fmt: skip
    assert "events    100, 101.0/s, 0 missing" in done.stdout
    assert pq.read_table(tmp_path / "other.parquet")["sequence"].to_pylist() == list(range(200, 300))
    assert (tmp_path / "other.png").exists()
    assert not recorded.with_suffix(".parquet").exists()


@pytest.mark.parametrize("engine", ["polars", "pandas"])
def test_counters_that_begin_anew_give_no_negative_rates(tmp_path, engine):
    """Three runs in one file: the agent started again, and then the machine, whose counters begin near 0."""
    path = tmp_path / "machine.telemetry"
    again = [event(number) for number in range(EVENTS)]
    for number, record in enumerate(again):
        # An hour of work before this run. The machine worked on between the runs.
        record["monotonic_ns"] += 3_600_000_000_000
        record["cpu_total"] = tuple(value + 900 for value in event(number)["cpu_total"])
    rebooted = [event(number) for number in range(EVENTS)]
    for number, record in enumerate(rebooted):
        if number % 7 == 3:
            # An agent that could not read them for once.
            record["cpu_total"] = None
    for records in (again[:500], again[500:], rebooted):
        with flatstream.open(path, "a", checksum="xxhash64") as writer:
            assert SCHEMA.root is not None
            first = records[0]["sequence"]
            flatstream.RecordWriter(writer, SCHEMA.root).write_records(
                {**record, "sequence": record["sequence"] - first} for record in records
            )
    done = replay(path, "--with", engine)
    assert done.stderr == ""
    assert "for 20.0 s" in done.stdout
    assert "events    2000, 100.1/s, 0 missing" in done.stdout
    table = {" ".join(line.split()[:-3]): line.split()[-3:] for line in done.stdout.splitlines()[5:-1]}
    least, mean, most = map(float, table["cpu busy %"])
    assert 0 <= least <= mean <= most <= 50
    assert mean == pytest.approx(25, abs=1)


def test_damaged_and_torn_files_are_told_or_skipped(recorded):
    data = bytearray(recorded.read_bytes())
    data[data.index("näme".encode(), len(data) // 2)] ^= 0xFF
    recorded.write_bytes(data)
    # What comes before is loaded all the same.
    done = replay(recorded, status=1)
    assert re.search(r"after \d+ events: .*offset", done.stderr), done.stderr
    assert re.search(r"^events    [1-9]\d\d, .* 0 missing$", done.stdout, re.MULTILINE), done.stdout
    done = replay(recorded, "--skip-damaged")
    assert "loaded    999 events" in done.stdout
    assert "1 skipped" in done.stdout
    assert "1 missing" in done.stdout
    recorded.write_bytes(data[:-5])
    done = replay(recorded, "--skip-damaged", status=1)
    assert "after 998 events: " in done.stderr
    assert "the stream ends inside a frame" in done.stderr
    assert "loaded    998 events" in done.stdout
    assert pq.read_table(recorded.with_suffix(".parquet")).num_rows == 998
    recorded.with_suffix(".parquet").unlink()
    done = replay(recorded, "--checksum", "crc32", status=1)
    assert "after 0 events: " in done.stderr
    assert "was the stream written with another" in done.stderr
    assert not recorded.with_suffix(".parquet").exists()
    recorded.write_bytes(b"")
    assert "nothing to summarise" in replay(recorded).stdout
    assert "No such file" in replay(recorded.with_name("no such file"), status=1).stderr


def test_one_event_has_no_series_and_is_no_error(recorded):
    with flatstream.open(recorded, "w", checksum="xxhash64") as writer:
        assert SCHEMA.root is not None
        flatstream.RecordWriter(writer, SCHEMA.root).write(**event(5))
    done = replay(recorded)
    assert "events    1, 0.0/s, 0 missing" in done.stdout
    assert "cpu" not in done.stdout


def agent(folder: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "telemetry_agent.py"), "--quiet", "--output", str(folder),
         *arguments], check=True, capture_output=True, timeout=60,
    )  # fmt: skip


def test_journal_of_the_agent_is_loaded_value_for_value(tmp_path):
    folder = tmp_path / "live"
    agent(folder, "--rate", "100", "--seconds", "1")
    done = replay(folder)
    assert "gap" not in done.stdout
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    cls = importlib.import_module("telemetry.Event").Event
    rows = pq.read_table(folder.with_suffix(".parquet")).to_pylist()
    with JournalReader(folder) as reader:
        read = list(reader.typed_messages(cls))
    assert len(read) == len(rows) > 0
    for one, row in zip(read, rows, strict=True):
        assert (one.Sequence(), one.WallTimeNs(), one.MemoryUsed()) == (
            row["sequence"],
            row["wall_time_ns"],
            row["memory_used"],
        )
        assert [one.Disks(i).Name().decode() for i in range(one.DisksLength())] == [
            disk["name"] for disk in row["disks"]
        ]
        assert [one.Cores(i).User() for i in range(one.CoresLength())] == [core["user"] for core in row["cores"]]
        assert one.Host().decode() == row["host"]
        assert (one.Load1(), one.ProcessStarted()) == (row["load_1"], row["process_started"])
    # A segment is a file of frames.
    (segment,) = folder.glob("*.fs")
    assert f"loaded    {len(rows)} events" in replay(segment).stdout


def test_damage_in_a_journal_is_told_and_all_other_events_are_loaded(tmp_path):
    folder = tmp_path / "journal"
    with JournalWriter(folder) as writer:
        assert SCHEMA.root is not None
        flatstream.RecordWriter(writer, SCHEMA.root).write_records(map(event, range(EVENTS)))
    (segment,) = folder.glob("*.fs")
    data = bytearray(segment.read_bytes())
    data[data.index("näme".encode(), len(data) // 2)] ^= 0xFF
    segment.write_bytes(data)
    done = replay(folder)
    assert "loaded    999 events" in done.stdout
    gap = re.search(r"^gap       events (\d+) to (\d+), [1-9]\d* bytes: ", done.stdout, re.MULTILINE)
    assert gap, done.stdout
    assert gap[1] == gap[2]
    assert ", 1 missing" in done.stdout

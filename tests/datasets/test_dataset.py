"""Many files as one table: what is read, in which order, and what a dataset says of itself."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import RecordWriter, Schema

pyarrow = pytest.importorskip("pyarrow")

EVENTS = Schema.from_fbs(
    text="""
    namespace app;
    enum Level : ubyte { debug, info, error }
    table Source { host: string; port: ushort; }
    table Event { time_ns: long; level: Level; source: Source; value: double; tags: [string]; retries: int = null; }
    root_type Event;
    """
)
BEGIN = 1_700_000_000_000_000_000


def event(number: int) -> dict[str, Any]:
    return {
        "time_ns": BEGIN + number * 1_000_000,
        "level": ("debug", "info", "error")[number % 3],
        "source": {"host": f"host{number % 4}", "port": number},
        "value": number / 2,
        "tags": ["a"] * (number % 3),
        "retries": number if number % 5 == 0 else None,
    }


def write_events(path: Path, first: int, count: int, checksum: str = "xxhash64", **options: Any) -> Path:
    with flatstream.open(path, "w", checksum=checksum, describe=EVENTS.root, **options) as stream:
        records = RecordWriter(stream, EVENTS.root)
        for number in range(first, first + count):
            records.write_record(event(number))
    return path


def three_files(folder: Path) -> list[Path]:
    return [write_events(folder / f"part{i}.fs", 100 * i, 10 + i, ("xxhash64", "crc32", "none")[i]) for i in range(3)]


def read_alone(paths: list[Path]) -> Any:
    """The rows of files as one StreamReader of each reads them."""
    tables = []
    for path in paths:
        with flatstream.open(path) as reader:
            tables.append(reader.columns().to_arrow())
    return pyarrow.concat_tables(tables)


def test_files_are_read_in_order_and_equal_those_of_a_reader(tmp_path: Path) -> None:
    paths = three_files(tmp_path)
    found = flatstream.dataset(tmp_path, times="number")
    expected = read_alone(paths)
    assert found.columns().to_pylist() == expected.to_pylist()
    assert found.arrow_schema.equals(expected.schema)
    assert found.count() == 33


def test_source_and_frame_say_where_a_row_comes_from(tmp_path: Path) -> None:
    paths = three_files(tmp_path)
    rows = flatstream.dataset(paths).columns(["value"], ("value", ">=", 54.0), source_file=True, frame=True).to_pylist()
    assert [(row["source_file"], row["frame"]) for row in rows] == [(str(paths[1]), 8 + i) for i in range(3)] + [
        (str(paths[2]), i) for i in range(12)
    ]


def test_a_time_goes_out_as_a_timestamp_of_its_unit(tmp_path: Path) -> None:
    found = flatstream.dataset(write_events(tmp_path / "a.fs", 0, 3))
    assert found.arrow_schema.field("time_ns").type == pyarrow.timestamp("ns", "UTC")
    assert found.columns(["time_ns"]).column(0).cast(pyarrow.int64()).to_pylist() == [
        BEGIN + i * 1_000_000 for i in range(3)
    ]


def test_a_dataset_that_was_pickled_reads_the_same(tmp_path: Path) -> None:
    three_files(tmp_path)
    found = flatstream.dataset(tmp_path)
    assert pickle.loads(pickle.dumps(found)).columns() == found.columns()

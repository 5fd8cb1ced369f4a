"""Journals as datasets: segments that are written, sealed, compressed and removed meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import RecordWriter
from flatstream.journal import JournalReader, JournalWriter, RotationPolicy
from support.dataset_files import EVENTS, event
from support.journals import segments_of

pyarrow = pytest.importorskip("pyarrow")


def write_journal(folder: Path, first: int, count: int, **options: Any) -> Path:
    """A journal of segments of some 20 events."""
    options = {"describe": EVENTS.root, "rotate": RotationPolicy(max_bytes=4000)} | options
    with JournalWriter(folder, **options) as journal:
        records = RecordWriter(journal, EVENTS.root)
        for number in range(first, first + count):
            records.write_record(event(number))
    return folder


def values(found: Any, *args: Any, **options: Any) -> Any:
    return found.columns(["value"], *args, **options).column(0).to_pylist()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return write_journal(tmp_path / "journal", 0, 100)


def test_segments_are_files_with_the_numbers_of_the_journal(journal: Path) -> None:
    found = flatstream.dataset(journal)
    assert values(found) == [number / 2 for number in range(100)]
    assert found.columns(["value"], frame=True).column("frame").to_pylist() == list(range(100))
    segments = segments_of(journal)
    assert len(segments) > 3
    assert found.files.column("path").to_pylist() == [str(path) for path in segments.values()]
    assert set(found.files.column("journal").to_pylist()) == {str(journal)}
    assert found.columns(["value"], ("value", "==", 30), frame=True).to_pylist() == [{"value": 30, "frame": 60}]
    with JournalReader(journal) as reader:
        assert found.columns().num_rows == sum(1 for _ in reader)
    assert [record.value for record in found.records(("value", ">", 49))] == [49.5]


def test_a_folder_of_journals_is_all_of_them(journal: Path) -> None:
    write_journal(journal.parent / "k", 100, 5)
    assert values(flatstream.dataset(journal.parent)) == [number / 2 for number in range(105)]


def test_segments_that_are_written_are_read_up_to_the_snapshot(journal: Path) -> None:
    with JournalWriter(journal, describe=EVENTS.root) as writer:
        records = RecordWriter(writer, EVENTS.root)
        records.write_record(event(100))
        writer.flush()
        found = flatstream.dataset(journal)
        records.write_record(event(101))
        writer.flush()
        assert len(values(found)) == 101
        found.refresh()
        assert len(values(found)) == 102


def test_segments_that_are_compressed_meanwhile_are_read(journal: Path) -> None:
    pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
    found = flatstream.dataset(journal)
    expected = values(found)
    for path in list(segments_of(journal).values())[:-1]:
        flatstream.seal(path, path.with_name(path.name + ".zst"))
        path.unlink()
    assert values(found) == expected
    found.refresh()
    assert values(found) == expected
    assert found.files.column("compression").to_pylist()[0] == "Zstandard"
    assert values(found, ("value", ">", 48)) == [48.5, 49, 49.5]


def test_segments_that_retention_removes_are_told(journal: Path) -> None:
    found = flatstream.dataset(journal)
    assert found.count() == 100
    segments = segments_of(journal)
    first, second = list(segments)[:2]
    segments[first].unlink()
    assert values(found) == [number / 2 for number in range(second, 100)]
    assert found.files.column("status").to_pylist()[0] == "removed"
    fresh = flatstream.dataset(journal)
    segments[second].unlink()
    assert values(fresh)[0] == list(segments)[2] / 2
    assert fresh.files.column("status").to_pylist()[0] == "removed"
    assert len(list(fresh.records())) == len(values(fresh))
    fresh.refresh()
    assert fresh.files.num_rows == len(segments) - 2
    for path in segments_of(journal).values():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="all files of the dataset were removed"):
        fresh.count()


def test_the_indexes_of_segments_are_used(tmp_path: Path) -> None:
    folder = write_journal(tmp_path / "journal", 0, 4000, rotate=RotationPolicy(max_bytes=100_000))
    found = flatstream.dataset(folder)
    assert all(text.startswith("covers ") for text in found.files.column("index").to_pylist()[:-1])
    time = event(2000)["time_ns"]
    assert values(found, ("time_ns", time, time + 2, "ns")) == [1000]
    assert found.bytes_read < sum(found.files.column("bytes").to_pylist()) / 2


def test_an_empty_journal_needs_a_table(tmp_path: Path) -> None:
    write_journal(tmp_path / "journal", 0, 0)
    found = flatstream.dataset(tmp_path / "journal", EVENTS.root)
    assert found.count() == 0
    assert found.columns().schema.names == list(EVENTS.root.field_names)

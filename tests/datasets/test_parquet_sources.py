"""Exports to Parquet whose files are renamed, replaced, compressed, damaged and removed; and journals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import FlatStreamError, RecordWriter, Schema
from flatstream.journal import JournalWriter, RetentionPolicy, RotationPolicy
from support.compressed import wait_until_compressed
from support.journals import segments_of
from support.lakes import NOON, READINGS, files_of, numbers_of, reading, write_readings

pytest.importorskip("pyarrow")


def export(source: Any, lake: Path, **options: Any) -> Any:
    keys = {"on_error", "torn_end", "cipher"}
    dataset = flatstream.dataset(source, **{key: options.pop(key) for key in keys & options.keys()})
    return dataset.to_parquet(lake, **options)


# Files


def test_a_rotated_file_is_known_by_its_new_name(tmp_path: Path) -> None:
    """As logrotate does it: the file gets another name, and a new one its name."""
    folder, lake = tmp_path / "in", tmp_path / "lake"
    folder.mkdir()
    write_readings(folder / "a.fs", range(10))
    export(folder, lake)
    # It grew after the last run.
    write_readings(folder / "a.fs", range(10, 15), "a")
    (folder / "a.fs").rename(folder / "a-1.fs")
    write_readings(folder / "a.fs", range(15, 18))
    report = export(folder, lake)
    assert (report.rows, report.replaced) == (8, [])
    assert numbers_of(lake) == list(range(18))
    assert export(folder, lake).rows == 0


def test_a_file_that_is_copied_and_emptied_is_known_by_its_copy(tmp_path: Path) -> None:
    folder, lake = tmp_path / "in", tmp_path / "lake"
    folder.mkdir()
    write_readings(folder / "a.fs", range(10))
    export(folder, lake)
    shutil.copy(folder / "a.fs", folder / "a-1.fs")
    os.truncate(folder / "a.fs", 0)
    assert export(folder, lake).rows == 0
    write_readings(folder / "a.fs", range(10, 12))
    assert export(folder, lake).rows == 2
    assert numbers_of(lake) == list(range(12))


def test_a_replaced_file_is_exported_and_told(tmp_path: Path) -> None:
    source, lake = write_readings(tmp_path / "a.fs", range(10)), tmp_path / "lake"
    export(source, lake)
    source.unlink()
    write_readings(source, range(10, 13))
    report = export(source, lake)
    assert (report.rows, report.replaced) == (3, [str(source)])
    assert numbers_of(lake) == list(range(13))
    assert export(source, lake).replaced == []


def test_a_copy_is_a_file_of_its_own(tmp_path: Path) -> None:
    """As for every other question to the dataset: its rows are there twice."""
    source, lake = write_readings(tmp_path / "a.fs", range(3)), tmp_path / "lake"
    export(source, lake)
    shutil.copy(source, tmp_path / "b.fs")
    export([source, tmp_path / "b.fs"], lake)
    assert numbers_of(lake) == [0, 0, 1, 1, 2, 2]


def test_a_file_that_is_cut_or_changed_is_refused_or_left_out(tmp_path: Path) -> None:
    source, lake = write_readings(tmp_path / "a.fs", range(100)), tmp_path / "lake"
    export(source, lake)
    whole = source.read_bytes()
    assert len(whole) > 4200
    other = write_readings(tmp_path / "b.fs", range(100, 103))
    for bad in (whole[:-200], whole[:-100] + bytes(100)):
        source.write_bytes(bad)
        with pytest.raises(FlatStreamError, match=r"a\.fs: its bytes before offset \d+, up to which it was exported"):
            export([source, other], lake)
        assert numbers_of(lake) == list(range(103))
        report = export([source, other], lake, on_error="resync")
        assert report.changed == [str(source)]
    assert numbers_of(lake) == list(range(103))
    # It comes back.
    source.write_bytes(whole)
    assert export(source, lake).changed == []
    assert numbers_of(lake) == list(range(103))


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_compressed_file_is_known_as_the_one_that_it_was(tmp_path: Path, ending: str) -> None:
    import gzip

    folder, lake = tmp_path / "in", tmp_path / "lake"
    folder.mkdir()
    source = write_readings(folder / "a.fs", range(100))
    export(folder, lake)
    write_readings(source, range(100, 130), "a")
    if ending == ".gz":
        (folder / "a.fs.gz").write_bytes(gzip.compress(source.read_bytes()))
    else:
        pytest.importorskip("backports.zstd")
        flatstream.seal(source, folder / "a.fs.zst")
    source.unlink(missing_ok=True)
    assert export(folder, lake).rows == 30
    assert export(folder, lake).sources == 0
    assert numbers_of(lake) == list(range(130))


def test_a_file_that_vanishes_is_passed_over(tmp_path: Path) -> None:
    paths = [write_readings(tmp_path / f"{n}.fs", range(n, n + 1)) for n in range(3)]
    dataset = flatstream.dataset(paths)
    assert dataset.arrow_schema.names
    paths[1].unlink()
    report = dataset.to_parquet(tmp_path / "lake")
    assert (report.removed, numbers_of(tmp_path / "lake")) == ([str(paths[1])], [0, 2])


def test_a_file_that_is_replaced_while_it_is_read_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flatstream.datasets import _export_run, _reading

    source, lake = write_readings(tmp_path / "a.fs", range(5)), tmp_path / "lake"
    whole = _reading.read_sequentially

    def replace_it(*arguments: Any) -> Any:
        yield from whole(*arguments)
        source.rename(tmp_path / "old.fs")
        write_readings(source, range(5, 7))

    monkeypatch.setattr(_export_run, "read_sequentially", replace_it)
    with pytest.raises(FlatStreamError, match="renamed or replaced while it was read"):
        export(source, lake)
    monkeypatch.setattr(_export_run, "read_sequentially", whole)
    assert files_of(lake) == []
    export([source, tmp_path / "old.fs"], lake)
    assert numbers_of(lake) == list(range(7))


def test_damage_ends_one_file_and_not_the_others(tmp_path: Path) -> None:
    bad, good = write_readings(tmp_path / "a.fs", range(20)), write_readings(tmp_path / "b.fs", range(20, 25))
    data = bytearray(bad.read_bytes())
    middle = len(data) - 500
    data[middle] ^= 255
    bad.write_bytes(data)
    lake = tmp_path / "lake"
    for _ in range(2):
        with pytest.raises(FlatStreamError, match=r"a\.fs"):
            export([bad, good], lake)
        found = numbers_of(lake)
        assert len(found) == len(set(found))
        assert found[-5:] == list(range(20, 25))
    before = [number for number in found if number < 20]
    assert before == list(range(len(before)))
    report = export([bad, good], lake, on_error="skip")
    assert report.skipped == 1
    assert numbers_of(lake) == [number for number in range(25) if number != len(before)]
    assert export([bad, good], lake, on_error="skip").rows == 0


def test_damage_behind_a_row_that_is_held_back_is_counted_once(tmp_path: Path) -> None:
    import datetime

    source, lake = write_readings(tmp_path / "a.fs", range(50, 70)), tmp_path / "lake"
    data = bytearray(source.read_bytes())
    data[-110] ^= 255
    source.write_bytes(data)
    now = datetime.datetime.fromtimestamp(NOON // 10**9 + 65 * 60, datetime.UTC)
    report = export(source, lake, on_error="skip", until=now)
    assert (report.rows, report.skipped, len(report.held_back)) == (10, 0, 1)
    report = export(source, lake, on_error="skip")
    assert (report.rows, report.skipped, report.held_back) == (9, 1, [])


def test_a_field_called_frame_is_exported(tmp_path: Path) -> None:
    schema: Any = Schema.from_fbs(text="table T { time_ns: long; frame: int; number: long; } root_type T;")
    source, lake = tmp_path / "a.fs", tmp_path / "lake"
    for first in (0, 3):
        with flatstream.open(source, "a" if first else "w", describe=None if first else schema) as stream:
            rows = [{"time_ns": NOON, "frame": 77, "number": first + n} for n in range(3)]
            RecordWriter(stream, schema.root).write_records(rows)
        export(source, lake)
    assert numbers_of(lake) == list(range(6))


def test_urls_are_exported_once(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    lake = tmp_path / "lake"
    source = write_readings(tmp_path / "a.fs", range(10))
    try:
        files.pipe("/export/a.fs", source.read_bytes())
        assert export("memory://export/*.fs", lake).rows == 10
        assert export("memory://export/*.fs", lake).sources == 0
        write_readings(source, range(10, 13), "a")
        files.pipe("/export/a.fs", source.read_bytes())
        files.pipe("/export/b.fs", write_readings(tmp_path / "b.fs", range(13, 15)).read_bytes())
        assert export("memory://export/*.fs", lake).rows == 5
    finally:
        files.rm("/export", recursive=True)
    assert numbers_of(lake) == list(range(15))


def test_files_of_other_tables_and_none_are_passed_over(tmp_path: Path) -> None:
    write_readings(tmp_path / "a.fs", range(3))
    (tmp_path / "empty.fs").write_bytes(b"")
    assert export(tmp_path, tmp_path / "lake").rows == 3
    assert export(tmp_path, tmp_path / "lake").rows == 0


def test_an_encrypted_file_goes_on_at_its_frame(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    cipher = flatstream.Aes256Gcm(bytes(32))
    framer = flatstream.ChecksumFramer(flatstream.Crc32c()).encrypted(cipher)
    source, lake = tmp_path / "a.fs", tmp_path / "lake"
    rows = [reading(number) for number in range(8)]
    with flatstream.open(source, "w", describe=READINGS.root, framer=framer) as stream:
        writer = RecordWriter(stream, READINGS.root)
        for number, row in enumerate(rows):
            writer.write_record(row)
            if number == 4:
                stream.flush()
                assert export(source, lake, cipher=cipher).rows == 5
    assert export(source, lake, cipher=cipher).rows == 3
    assert numbers_of(lake) == list(range(8))


# Journals


def append(folder: Path, numbers: Any, **options: Any) -> None:
    options.setdefault("rotate", RotationPolicy(max_frames=10))
    with JournalWriter(folder, describe=READINGS.root, **options) as writer:
        records = RecordWriter(writer, READINGS.root)
        for number in numbers:
            records.write_record(reading(number))


def test_a_journal_that_grows_is_exported_once(tmp_path: Path) -> None:
    journal, lake = tmp_path / "journal", tmp_path / "lake"
    begin = 0
    for count in (3, 4, 3, 1, 25, 0, 12):
        append(journal, range(begin, begin + count))
        begin += count
        assert export(journal, lake).rows == count
    assert numbers_of(lake) == list(range(begin))
    # However many segments there were, the state has one place.
    import json

    state = json.loads((lake / "_flatstream" / "export" / "state.json").read_bytes())
    assert len(state["journals"]) == 1
    assert state["files"] == {}


def test_a_journal_that_is_being_written_is_exported_up_to_its_end(tmp_path: Path) -> None:
    journal, lake = tmp_path / "journal", tmp_path / "lake"
    with JournalWriter(journal, describe=READINGS.root) as writer:
        records = RecordWriter(writer, READINGS.root)
        for number in range(30):
            records.write_record(reading(number))
            if number % 7 == 0:
                writer.flush()
                export(journal, lake)
                assert numbers_of(lake) == list(range(number + 1))
    export(journal, lake)
    assert numbers_of(lake) == list(range(30))


def test_what_retention_removed_too_early_is_told(tmp_path: Path) -> None:
    journal, lake = tmp_path / "journal", tmp_path / "lake"
    append(journal, range(15))
    export(journal, lake)
    append(journal, range(15, 58))
    append(journal, [], retain=RetentionPolicy(max_segments=2))
    oldest = min(segments_of(journal))
    report = export(journal, lake)
    assert [tuple(one) for one in report.lost] == [(str(journal), 15, oldest)]
    assert numbers_of(lake) == [*range(15), *range(oldest, 58)]
    assert export(journal, lake).lost == []


def test_retention_of_what_was_exported_is_no_loss(tmp_path: Path) -> None:
    journal, lake = tmp_path / "journal", tmp_path / "lake"
    append(journal, range(30))
    export(journal, lake)
    append(journal, range(30, 32))
    append(journal, [], retain=RetentionPolicy(max_segments=1))
    assert min(segments_of(journal)) == 30
    report = export(journal, lake)
    assert (report.rows, report.lost) == (2, [])
    assert numbers_of(lake) == list(range(32))


def test_a_compressed_segment_goes_on_as_the_plain_one(tmp_path: Path) -> None:
    pytest.importorskip("backports.zstd")
    journal, lake = tmp_path / "journal", tmp_path / "lake"
    append(journal, range(7))
    export(journal, lake)
    append(journal, range(7, 35))
    with JournalWriter(journal, compress=True) as writer:
        wait_until_compressed(writer)
    assert any(path.name.endswith(".fs.zst") for path in journal.iterdir())
    assert export(journal, lake).rows == 28
    assert numbers_of(lake) == list(range(35))


def test_a_journal_with_another_folder_is_known_by_its_identity(tmp_path: Path) -> None:
    journal, lake = tmp_path / "journal", tmp_path / "lake"
    append(journal, range(12))
    export(journal, lake)
    journal.rename(tmp_path / "moved")
    append(tmp_path / "moved", range(12, 14))
    append(journal, range(14, 16))
    report = export([tmp_path / "moved", journal], lake)
    assert numbers_of(lake) == list(range(16))
    assert (report.rows, report.replaced) == (4, [])


def test_another_journal_in_the_folder_is_exported_and_told(tmp_path: Path) -> None:
    journal, lake = tmp_path / "journal", tmp_path / "lake"
    append(journal, range(12))
    export(journal, lake)
    shutil.rmtree(journal)
    append(journal, range(12, 15))
    report = export(journal, lake)
    assert (report.rows, report.replaced) == (3, [str(journal)])
    assert numbers_of(lake) == list(range(15))


def test_an_open_hour_holds_back_all_later_segments(tmp_path: Path) -> None:
    import datetime

    journal, lake = tmp_path / "journal", tmp_path / "lake"
    append(journal, [*range(55, 65), *range(10, 20), *range(20, 22)])
    now = datetime.datetime.fromtimestamp(NOON // 10**9 + 65 * 60, datetime.UTC)
    report = export(journal, lake, until=now)
    assert numbers_of(lake) == list(range(55, 60))
    assert report.held_back == [str(min(segments_of(journal).items())[1])]
    export(journal, lake, until=now + datetime.timedelta(hours=1))
    assert numbers_of(lake) == sorted([*range(55, 65), *range(10, 22)])


def test_a_changed_segment_stops_its_journal_until_the_policy_says_otherwise(tmp_path: Path) -> None:
    journal, lake = tmp_path / "journal", tmp_path / "lake"
    append(journal, range(15))
    export(journal, lake)
    append(journal, range(15, 25))
    changed = segments_of(journal)[10]
    data = bytearray(changed.read_bytes())
    # In a message that was exported.
    data[-550] ^= 255
    changed.write_bytes(data)
    with pytest.raises(FlatStreamError, match="are others now"):
        export(journal, lake)
    assert numbers_of(lake) == list(range(15))
    assert export(journal, lake, on_error="resync").changed == [str(changed)]
    assert numbers_of(lake) == [*range(15), *range(20, 25)]


def test_a_damaged_segment_stops_its_journal_until_the_policy_says_otherwise(tmp_path: Path) -> None:
    journal, lake = tmp_path / "journal", tmp_path / "lake"
    append(journal, range(25))
    second = segments_of(journal)[10]
    data = bytearray(second.read_bytes())
    data[-300] ^= 255
    second.write_bytes(data)
    for _ in range(2):
        with pytest.raises(FlatStreamError, match="checksum"):
            export(journal, lake)
        found = numbers_of(lake)
        assert found == list(range(len(found)))
        assert 10 < len(found) < 20
    export(journal, lake, on_error="resync")
    assert numbers_of(lake) == [number for number in range(25) if number != len(found)]

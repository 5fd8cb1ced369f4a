"""Files that are replaced, cut or written on after a dataset has looked at them."""

from __future__ import annotations

import gzip
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import FlatStreamError, UnexpectedEofError
from flatstream.journal import JournalWriter, RotationPolicy
from support.compressed import compress_by_hand
from support.dataset_files import EVENTS, SIZES, event, write_events, write_records
from support.sealed import sealed

pyarrow = pytest.importorskip("pyarrow")


def write_journal(folder: Path, first: int, count: int) -> None:
    with JournalWriter(folder, describe=EVENTS.root) as journal:
        records = flatstream.RecordWriter(journal, EVENTS.root)
        for number in range(first, first + count):
            records.write_record(event(number))


def read_all_ways(found: Any) -> None:
    """Each way of reading tells that a.fs was replaced, and how one goes on."""
    for read in (
        found.count,
        lambda: found.count(("value", ">", 3)),
        found.head,
        lambda: list(found.records()),
        lambda: found.splits(2),
        lambda: found.to_arrow_dataset().to_table(),
    ):
        with pytest.raises(FlatStreamError, match=r"a\.fs: the file was replaced .*refresh\(\)"):
            read()


@pytest.mark.parametrize("is_read_before", [False, True])
@pytest.mark.parametrize("count", [60, 500])
def test_a_replaced_file_is_an_error_until_refresh(tmp_path: Path, count: int, is_read_before: bool) -> None:
    path = write_events(tmp_path / "a.fs", 0, 50, index=True)
    write_events(tmp_path / "b.fs", 0, 50)
    found = flatstream.dataset(tmp_path)
    if is_read_before:
        assert found.count() == 100
    write_events(path, 1000, count, index=True)
    read_all_ways(found)
    read_all_ways(pickle.loads(pickle.dumps(found)))
    assert "replaced" in found.files.column("status").to_pylist()[0]
    found.refresh()
    assert found.count() == 50 + count


def test_a_file_of_the_same_size_or_another_schema_in_its_place_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    texts = [[{"n": number, "s": "text"} for number in range(first, first + 50)] for first in (1, 100)]
    write_records(path, SIZES, texts[0])
    found = flatstream.dataset(path)
    assert found.count() == 50
    size = path.stat().st_size
    path.unlink()
    write_records(path, SIZES, texts[1])
    assert path.stat().st_size == size
    with pytest.raises(FlatStreamError, match="replaced"):
        found.count()
    path.unlink()
    write_events(path, 0, 100)
    with pytest.raises(FlatStreamError, match="replaced"):
        found.count()


def test_a_compressed_file_that_is_replaced_is_an_error(tmp_path: Path) -> None:
    plain = [write_events(tmp_path / f"{name}.fs", 100 * number, 50 + number) for number, name in enumerate("xy")]
    path = tmp_path / "a.fs.gz"
    path.write_bytes(gzip.compress(plain[0].read_bytes()))
    found = flatstream.dataset(path)
    assert found.count() == 50
    path.write_bytes(gzip.compress(plain[1].read_bytes() * 2))
    with pytest.raises(FlatStreamError, match="replaced"):
        found.count()


def test_a_file_that_becomes_shorter_is_an_error_until_refresh(tmp_path: Path) -> None:
    long = write_events(tmp_path / "a.fs", 0, 50).read_bytes()
    path = tmp_path / "a.fs"
    found = flatstream.dataset(path)
    path.write_bytes(long[: len(long) // 2])
    with pytest.raises(UnexpectedEofError, match=r"a\.fs: the file has become shorter .*refresh\(\)"):
        found.count()
    found.refresh()
    assert 0 < found.count() < 50


def test_splits_of_a_replaced_file_are_an_error_in_other_processes(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.fs", 0, 100)
    splits = flatstream.dataset(path).splits(3)
    write_events(path, 1000, 300)
    for split in splits:
        with pytest.raises(FlatStreamError, match=r"a\.fs: the file was replaced .*refresh\(\)"):
            list(flatstream.read_split(pickle.loads(pickle.dumps(split))))


def test_what_is_appended_or_copied_to_another_inode_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=EVENTS.root) as stream:
        records = flatstream.RecordWriter(stream, EVENTS.root)
        records.write_record(event(0))
        stream.flush()
        found = flatstream.dataset(path)
        splits = found.splits(1)
        for number in range(1, 100):
            records.write_record(event(number))
            stream.flush()
            assert number % 30 or found.count() == 1
    # As rsync does it.
    other = tmp_path / "new"
    other.write_bytes(path.read_bytes())
    other.replace(path)
    assert found.count() == 1
    assert sum(batch.num_rows for batch in flatstream.read_split(splits[0])) == 1
    found.refresh()
    assert found.count() == 100


def test_a_journal_that_is_made_anew_is_an_error(tmp_path: Path) -> None:
    write_journal(tmp_path / "j", 0, 100)
    found = flatstream.dataset(tmp_path / "j")
    assert found.count() == 100
    for path in (tmp_path / "j").iterdir():
        path.unlink()
    write_journal(tmp_path / "j", 500, 300)
    with pytest.raises(FlatStreamError, match="replaced"):
        found.count()


def test_a_removed_file_names_refresh(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.fs", 0, 5)
    found = flatstream.dataset(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"refresh\(\)") as caught:
        found.count()
    assert caught.value.filename == str(path)


# Files that begin alike


def write_alike(path: Path, first: int, count: int) -> Path:
    """A file without a description whose first messages, more than 4 KiB, are the same in each."""
    with flatstream.open(path, "w", checksum="crc32") as stream:
        records = flatstream.RecordWriter(stream, EVENTS.root)
        for number in (*range(200), *range(first, first + count)):
            records.write_record(event(number))
    return path


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file_with_the_same_beginning_in_its_place_is_an_error(tmp_path: Path, ending: str) -> None:
    pack = gzip.compress if ending else bytes
    contents = [write_alike(tmp_path / "x.fs", first, count).read_bytes() for first, count in ((1000, 9), (5000, 300))]
    assert contents[0][:4096] == contents[1][:4096]
    path = tmp_path / f"a.fs{ending}"
    path.write_bytes(pack(contents[0]))
    found = flatstream.dataset(path, table=EVENTS.root)
    splits = found.splits(1)
    assert found.count() == 209
    for other in (contents[1], write_alike(tmp_path / "x.fs", 5000, 9).read_bytes()):
        path.write_bytes(pack(other))
        with pytest.raises(FlatStreamError, match=r"a\.fs.*replaced .*refresh\(\)|a\.fs.*shorter"):
            found.count()
        with pytest.raises(FlatStreamError, match=r"a\.fs.*replaced .*refresh\(\)|a\.fs.*shorter"):
            list(flatstream.read_split(pickle.loads(pickle.dumps(splits[0]))))
    found.refresh()
    assert found.columns(["value"]).column(0).to_pylist()[-9:] == [number / 2 for number in range(5000, 5009)]


def test_members_that_are_appended_to_a_compressed_file_are_read_after_refresh(tmp_path: Path) -> None:
    plain = [write_events(tmp_path / "x.fs", 0, 100).read_bytes(), write_alike(tmp_path / "y.fs", 0, 50).read_bytes()]
    for ending, pack in ((".gz", gzip.compress), (".fs.zst", lambda data: sealed([data]))):
        path = tmp_path / f"a{ending}"
        path.write_bytes(pack(plain[0]))
        found = flatstream.dataset(path)
        splits = found.splits(1)
        with path.open("ab") as file:
            file.write(pack(plain[1].replace(plain[0], b"")))
        for _ in range(2):
            assert found.count() == len(found.columns(["value"])) == sum(1 for _ in found.records()) == 100
            assert sum(batch.num_rows for batch in flatstream.read_split(splits[0])) == 100


# Segments


def packed_journal(folder: Path, first: int, count: int, **options: Any) -> list[Path]:
    """A journal whose segments are compressed; returns these."""
    with JournalWriter(folder, rotate=RotationPolicy(max_bytes=4000), **options) as journal:
        records = flatstream.RecordWriter(journal, EVENTS.root)
        for number in range(first, first + count):
            records.write_record(event(number))
    return [compress_by_hand(path) for path in sorted(folder.glob("*.fs"))]


@pytest.mark.parametrize("has_manifest", [True, False])
@pytest.mark.parametrize("then", ["plain", "packed"])
@pytest.mark.parametrize("now", ["plain", "packed"])
def test_a_journal_that_is_made_anew_is_an_error_also_if_it_is_compressed(
    tmp_path: Path, then: str, now: str, has_manifest: bool
) -> None:
    folder = tmp_path / "j"
    for number, form in enumerate((then, now)):
        write = packed_journal if form == "packed" else write_journal
        options = {"describe": EVENTS.root} if form == "packed" else {}
        write(folder, number * 500, 100, **options)
        if not has_manifest:
            (folder / "journal.json").unlink()
        if not number:
            found = flatstream.dataset(folder)
            splits = found.splits(1)
            assert found.count() == 100
            shutil.rmtree(folder)
    with pytest.raises(FlatStreamError, match=r"replaced .*refresh\(\)"):
        found.count()
    with pytest.raises(FlatStreamError, match=r"replaced .*refresh\(\)"):
        list(flatstream.read_split(pickle.loads(pickle.dumps(splits[0]))))
    found.refresh()
    assert found.count() == 100


def test_a_journal_that_begins_alike_is_told_by_its_identity(tmp_path: Path) -> None:
    """Without descriptions, which say when a segment was begun."""
    folder = tmp_path / "j"
    for number in range(2):
        with JournalWriter(folder) as journal:
            records = flatstream.RecordWriter(journal, EVENTS.root)
            for each in (*range(200), *range(1000 * number, 1000 * number + 50)):
                records.write_record(event(each))
        if not number:
            found = flatstream.dataset(folder, table=EVENTS.root)
            assert found.count() == 250
            shutil.rmtree(folder)
    with pytest.raises(FlatStreamError, match="replaced"):
        found.count()


def test_segments_of_the_same_journal_may_be_compressed_and_cut(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    write_journal(folder, 0, 100)
    last = max(folder.glob("*.fs"))
    with last.open("ab") as file:
        file.write(b"\x50\0\0\0torn")
    found = flatstream.dataset(folder)
    assert found.count() == 100
    # The next writer cuts off what is torn, and writes on.
    write_journal(folder, 100, 50)
    assert 100 <= found.count() <= 101
    found.refresh()
    for path in sorted(folder.glob("*.fs")):
        compress_by_hand(path)
    assert found.count() == 150
    found.refresh()
    assert found.count() == 150


def test_a_torn_first_frame_of_a_segment_may_be_cut_off(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    write_journal(folder, 0, 3)
    (segment,) = folder.glob("*.fs")
    with segment.open("ab") as file:
        file.write(b"\x50\0\0\0torn")
    assert segment.stat().st_size < 4096
    found = flatstream.dataset(folder)
    assert found.count() == 3
    write_journal(folder, 3, 50)
    assert 3 <= found.count() <= 4

"""Splits: all rows of a dataset once, in any process, whatever the files are."""

from __future__ import annotations

import gzip
import io
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import ChecksumFramer, Crc32, Description, FlatStreamError, JournalWriter, StreamWriter
from flatstream._ranges import open_ranges
from flatstream.datasets import _planning
from flatstream.datasets.splits import KEPT_SOURCES, Split, planned_size, read_split, split_by_time
from flatstream.index import FileIndex, build_index, load_index
from flatstream.journal import RotationPolicy
from support.events import BEGIN, EVENT, SECOND, frames_of, write_events
from support.extent import in_one_test
from support.pickling import key_of
from support.processes import run_python

COUNTS = (1, 3, 7, 20)


def stream(numbers: Iterable[int], checksum: str = "xxhash64", **options: Any) -> bytes:
    """A described stream of events."""
    sink = io.BytesIO()
    described = Description(EVENT, time_field="wall_time_ns", time_unit="ns")
    with StreamWriter(sink, checksum, describe=described, **options) as writer:
        write_events(writer, list(numbers))
    return sink.getvalue()


def rows(splits: Iterable[Split], **options: Any) -> list[int]:
    """The numbers of the events in splits, each of which goes through a pickle of its own."""
    found: list[int] = []
    for split in splits:
        for batch in read_split(pickle.loads(pickle.dumps(split)), ["sequence"], **options):
            found += batch.column(0).to_pylist()
    return found


def expected(dataset: Any) -> list[int]:
    """The numbers as the dataset gives them."""
    numbers: list[int] = dataset.columns(["sequence"]).column(0).to_pylist()
    return numbers


def check(dataset: Any, want: list[int] | None = None, counts: Iterable[int] = COUNTS) -> list[list[Split]]:
    """Any number of splits has the rows of the dataset, each once and in order."""
    want = expected(dataset) if want is None else want
    plans = []
    for count in counts:
        splits = dataset.splits(count)
        assert 1 <= len(splits) <= count
        assert rows(splits) == want
        plans.append(splits)
    return plans


def write(folder: Path, *contents: bytes) -> Path:
    for number, content in enumerate(contents):
        (folder / f"part-{number}.fs").write_bytes(content)
    return folder


@in_one_test
@pytest.mark.parametrize("checksum", ["none", "crc16", "crc32", "xxhash64"])
def test_splits_of_files_have_each_row_once(tmp_path: Path, checksum: str) -> None:
    contents = [stream(range(100 * i, 100 * i + count), checksum) for i, count in enumerate((60, 1, 0, 90))]
    plans = check(flatstream.dataset(write(tmp_path, *contents)), [*range(60), 100, *range(300, 390)])
    assert [len(splits) for splits in plans[:3]] == [1, 3, 7]
    assert len(plans[3]) > 12


def test_splits_have_about_the_same_size(tmp_path: Path) -> None:
    dataset = flatstream.dataset(write(tmp_path, stream(range(700)), stream(range(100))))
    sizes = [split.size for split in dataset.splits(4)]
    assert len(sizes) == 4
    # A twentieth of a split, at either end, and a frame.
    assert max(sizes) < 1.15 * min(sizes)
    assert sum(sizes) == planned_size(dataset)


def test_more_splits_than_frames_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = stream(range(30), "none")
    dataset = flatstream.dataset(write(tmp_path, data, stream(range(30, 33), "none")))
    asked: list[int] = []
    find = _planning._Finder.find

    def noting(self: Any, stretch: Any, places: list[int], share: float) -> Any:
        asked.append(len(places))
        return find(self, stretch, places, share)

    monkeypatch.setattr(_planning._Finder, "find", noting)
    splits = dataset.splits(1_000_000)
    assert rows(splits) == [*range(33)]
    # The description of each file is a frame, too.
    assert len(splits) <= 33 + 2
    assert 0 < sum(asked) <= len(data)


def test_a_file_of_less_than_the_default_size_is_one_split(tmp_path: Path) -> None:
    splits = flatstream.dataset(write(tmp_path, stream(range(3)))).splits()
    assert [split.paths for split in splits] == [(str(tmp_path / "part-0.fs"),)]


def test_no_messages_make_no_splits_with_rows(tmp_path: Path) -> None:
    dataset = flatstream.dataset(write(tmp_path, stream([]), b""), table=EVENT)
    assert rows(dataset.splits(4)) == []


def test_a_torn_end_is_treated_as_by_the_dataset(tmp_path: Path) -> None:
    write(tmp_path, stream(range(50))[:-10], stream(range(100, 150)))
    check(flatstream.dataset(tmp_path), [*range(49), *range(100, 150)])
    strict = flatstream.dataset(tmp_path, torn_end="raise")
    for count in COUNTS:
        with pytest.raises(flatstream.UnexpectedEofError, match="part-0"):
            rows(strict.splits(count))


@in_one_test(step=3)
@pytest.mark.parametrize("checksum", ["none", "crc16", "crc32", "xxhash64"])
@pytest.mark.parametrize("what", ["payload", "length", "plausible length"])
@pytest.mark.parametrize("on_error", ["skip", "stop", "resync", "raise"])
def test_damage_is_treated_as_by_the_dataset(tmp_path: Path, checksum: str, what: str, on_error: Any) -> None:
    # Without a checksum, frames of zeros and lengths are all that shows damage.
    data = stream(range(600), checksum)
    frames = [(begin, end) for begin, end in frames_of(data, checksum)]
    changed = bytearray(data)
    for number in (5, 301, 302, 590):
        begin, end = frames[number]
        one = damage_of(changed[begin:end], what)
        changed[begin:end] = one
    dataset = flatstream.dataset(
        write(tmp_path, bytes(changed), stream(range(1000, 1100), checksum)), on_error=on_error
    )
    try:
        want = expected(dataset)
    except FlatStreamError as error:
        for count in (1, 9):
            with pytest.raises(type(error)):
                rows(dataset.splits(count))
    else:
        check(dataset, want, (1, 9))


def damage_of(frame: bytearray, what: str) -> bytearray:
    """A damaged frame: a byte of its payload, or its length, is another."""
    if what == "payload":
        frame[-20] ^= 255
    elif what == "length":
        frame[:4] = b"\xff\xff\xff\xff"
    else:
        # It leads into the middle of a frame.
        frame[:4] = (2 * int.from_bytes(frame[:4], "little") + 77).to_bytes(4, "little")
    return frame


def test_splits_of_a_resynchronized_file_go_on_behind_the_damage(tmp_path: Path) -> None:
    data = bytearray(stream(range(2000)))
    begin = frames_of(bytes(data))[10][0]
    data[begin : begin + 4] = b"\xff\xff\xff\xff"
    splits = flatstream.dataset(write(tmp_path, bytes(data)), on_error="resync").splits(4)
    assert len(splits) == 4
    assert rows(splits) == [number for number in range(2000) if number != 10]


def test_compressed_files_are_split_where_they_can_be_sought(tmp_path: Path) -> None:
    content = stream(range(3000))
    (tmp_path / "a.fs").write_bytes(content)
    flatstream.seal(tmp_path / "a.fs", remove=True, block_size=65536)
    with gzip.open(tmp_path / "b.fs.gz", "wb") as file:
        file.write(content)
    plans = check(flatstream.dataset(tmp_path), [*range(3000)] * 2, (1, 2, 5))
    assert len({split.ranges[0].begin for split in plans[-1] if split.paths == (str(tmp_path / "a.fs.zst"),)}) > 1


def test_compressed_payloads_are_split(tmp_path: Path) -> None:
    with flatstream.open(
        tmp_path / "a.fs", "w", framer=ChecksumFramer(Crc32()).compressed(flatstream.ZstdCompressor()), describe=EVENT
    ) as writer:
        write_events(writer, range(1000))
    plans = check(flatstream.dataset(tmp_path), [*range(1000)])
    assert len(plans[1]) == 3


def test_an_encrypted_file_is_read_by_one_split(tmp_path: Path) -> None:
    cipher = flatstream.Aes256Gcm(key_of, key_id="a")
    with flatstream.open(
        tmp_path / "a.fs", "w", framer=ChecksumFramer(Crc32()).encrypted(cipher), describe=EVENT
    ) as writer:
        write_events(writer, range(1000))
    plans = check(flatstream.dataset(tmp_path, cipher=cipher), [*range(1000)], (1, 4))
    assert [len(splits) for splits in plans] == [1, 1]


def test_keys_are_not_sent_to_other_processes(tmp_path: Path) -> None:
    write(tmp_path, stream(range(10)))
    with pytest.raises(TypeError, match="holds a key and is not pickled"):
        flatstream.dataset(tmp_path, cipher=flatstream.Aes256Gcm(bytes(32))).splits(4)


def test_journals_are_split_by_segments_and_inside_of_them(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, "crc32", describe=EVENT, rotate=RotationPolicy(max_frames=400)) as writer:
        write_events(writer, range(1000))
    plans = check(flatstream.dataset(tmp_path), [*range(1000)])
    assert {len(split.paths) for split in plans[0]} == {3}


def test_a_segment_that_is_removed_meanwhile_is_left_out(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, "crc32", describe=EVENT, rotate=RotationPolicy(max_frames=10)) as writer:
        write_events(writer, range(30))
    splits = flatstream.dataset(tmp_path).splits(2)
    min(tmp_path.glob("*.fs")).unlink()
    assert rows(splits) == [*range(10, 30)]


@pytest.mark.parametrize("now", ["nothing", "a folder", "another journal", "no manifest"])
def test_a_journal_that_is_not_there_is_an_error(tmp_path: Path, now: str) -> None:
    # As on a worker that lacks the shared folder, or has a journal of its own at the same path.
    folder = tmp_path / "journal"
    with JournalWriter(folder, "crc32", describe=EVENT, rotate=RotationPolicy(max_frames=10)) as writer:
        write_events(writer, range(30))
    dataset = flatstream.dataset(folder)
    splits = dataset.splits(2)
    assert rows(splits) == [*range(30)]
    if now == "no manifest":
        (folder / "journal.json").unlink()
        min(folder.glob("*.fs")).unlink()
    else:
        folder.rename(tmp_path / "elsewhere")
    if now == "a folder":
        folder.mkdir()
    elif now == "another journal":
        with JournalWriter(folder, "crc32", describe=EVENT) as writer:
            write_events(writer, range(3))
        # The first segment of the other one has the same name.
        splits = splits[1:]
    for split in splits[:1]:
        with pytest.raises(FlatStreamError, match="neither the segment nor its journal is here"):
            rows([split])
    with pytest.raises((FlatStreamError, FileNotFoundError)):
        dataset.count()


def test_a_file_that_is_removed_meanwhile_is_an_error(tmp_path: Path) -> None:
    splits = flatstream.dataset(write(tmp_path, stream(range(9)), stream(range(9)))).splits(2)
    (tmp_path / "part-0.fs").unlink()
    with pytest.raises(FileNotFoundError, match=r"removed .*, or is not seen from this machine: .*part-0"):
        rows(splits)


def test_a_file_that_grows_meanwhile_is_read_to_where_it_was(tmp_path: Path) -> None:
    data = stream(range(60))
    cut = frames_of(data)[40][0]
    path = write(tmp_path, data[:cut]) / "part-0.fs"
    splits = flatstream.dataset(path).splits(3)
    path.write_bytes(data)
    assert rows(splits) == [*range(40)]


def test_a_file_that_is_cut_meanwhile_is_an_error_where_rows_are_lost_inside(tmp_path: Path) -> None:
    data = stream(range(600))
    path = write(tmp_path, data) / "part-0.fs"
    splits = flatstream.dataset(path).splits(3)
    path.write_bytes(data[: frames_of(data)[20][0]])
    with pytest.raises(flatstream.UnexpectedEofError, match="part-0"):
        rows(splits)


def test_another_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, stream(range(600))) / "part-0.fs"
    splits = flatstream.dataset(path).splits(3)
    path.write_bytes(stream(range(1, 700), metadata={"a": "b" * 100}))
    with pytest.raises(FlatStreamError, match=r"part-0|frame"):
        rows(splits)


def test_conditions_of_the_plan_and_of_the_reading_are_both_met(tmp_path: Path) -> None:
    dataset = flatstream.dataset(write(tmp_path, stream(range(60)), stream(range(60, 100))))
    splits = dataset.splits(3, [("sequence", ">=", 20)])
    assert rows(splits) == [*range(20, 100)]
    assert rows(splits, where=[("sequence", "<", 70)]) == [*range(20, 70)]
    together = dataset.splits(3, (("sequence", ">=", 20), ("sequence", "<", 90)))
    assert rows(together, where=(("sequence", "<", 80), ("sequence", ">", 70))) == [*range(71, 80)]


def test_columns_of_all_files_come_from_every_split(tmp_path: Path) -> None:
    dataset = flatstream.dataset(write(tmp_path, stream(range(60)), stream(range(60, 100))))
    for split in dataset.splits(3):
        for batch in read_split(split):
            assert batch.schema.equals(dataset.arrow_schema)
        assert next(read_split(split, [])).num_columns == 0
        assert split.source.arrow_schema.equals(dataset.arrow_schema)


def test_a_pickle_of_a_split_is_small_and_that_of_several_has_the_schema_once(tmp_path: Path) -> None:
    folder = tmp_path / "a folder of data with a rather long name" / "2026" / "11" / "29"
    folder.mkdir(parents=True)
    dataset = flatstream.dataset(write(folder, *[stream(range(100 * i, 100 * i + 100)) for i in range(8)]))
    splits = dataset.splits(4)
    source = len(pickle.dumps(splits[0].source))
    for split in splits:
        assert len(split.ranges) >= 2
        assert len(pickle.dumps(split)) - source < 300
        assert len(split.packed) < 300
    assert len(pickle.dumps(splits)) - source < 4 * 300
    again = pickle.loads(pickle.dumps(splits))
    assert again == splits
    assert len({id(split.source) for split in again}) == 1
    assert again[0].source is pickle.loads(pickle.dumps(splits[1])).source
    assert [Split(splits[0].source, split.packed) for split in splits] == splits


def test_a_process_keeps_few_sources(tmp_path: Path) -> None:
    dataset = flatstream.dataset(write(tmp_path, stream(range(9))))
    first = dataset.splits(1, [("sequence", "<", 5)])[0].source
    for number in range(KEPT_SOURCES):
        dataset.splits(1, [("sequence", "<", 100 + number)])
    again = pickle.loads(pickle.dumps(first))
    assert again is not first
    assert again == first


def test_another_process_reads_a_split(tmp_path: Path) -> None:
    splits = flatstream.dataset(write(tmp_path, stream(range(300)))).splits(3)
    (tmp_path / "split").write_bytes(pickle.dumps(splits[1]))
    done = run_python(
        "import pickle, flatstream; split = pickle.load(open(" + repr(str(tmp_path / "split")) + ", 'rb'));"
        "print([n for b in flatstream.read_split(split, ['sequence']) for n in b.column(0).to_pylist()])"
    )
    assert done.stderr == ""
    assert done.stdout.strip() == str(rows([splits[1]]))
    assert len(rows([splits[1]])) > 50


def test_splits_of_relative_paths_are_read_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "other").mkdir()
    write(tmp_path / "data", stream(range(60)), stream(range(60, 100)))
    with JournalWriter("journal", "crc32", describe=EVENT, rotate=RotationPolicy(max_frames=40)) as writer:
        write_events(writer, range(100, 200))
    flatstream.seal(min((tmp_path / "journal").glob("*.fs")), remove=True)
    (tmp_path / "plain.fs").write_bytes(stream(range(200, 210)))
    for paths in (["data", "journal", "plain.fs"], ["./data/*.fs", "other/../journal", "plain.fs"]):
        splits = flatstream.dataset(paths).splits(4)
        monkeypatch.chdir(tmp_path / "other")
        assert rows(splits) == [*range(210)]
        assert splits[0].paths[0] == str(tmp_path / "data" / "part-0.fs")
        monkeypatch.chdir(tmp_path)


def test_a_split_says_what_it_reads(tmp_path: Path) -> None:
    split = flatstream.dataset(write(tmp_path, stream(range(30)))).splits(1)[0]
    assert repr(split) == f"<Split of {split.size:,} bytes in part-0.fs>"
    assert repr(split.source).startswith("<SplitSource ")
    (one,) = split.ranges
    assert (one.part.path, one.end) == (str(tmp_path / "part-0.fs"), None)
    assert one.begin > 0
    with pytest.raises(AttributeError, match="cannot be changed"):
        split.packed = b""


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    dataset = flatstream.dataset(write(tmp_path, stream(range(30))))
    for wrong in (0, -1, 1_000_001, 2**31):
        with pytest.raises(ValueError, match="n must be"):
            dataset.splits(wrong)
        with pytest.raises(ValueError, match="n must be"):
            split_by_time(dataset, n=wrong)
    for no_number in ("4", 1.5, True):
        with pytest.raises(TypeError, match="n must be"):
            dataset.splits(no_number)  # type: ignore[arg-type]
    split = dataset.splits(1)[0]
    with pytest.raises(TypeError, match="expected a Split"):
        read_split(b"x")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="no field 'nothing'"):
        read_split(split, ["nothing"])
    with pytest.raises(TypeError, match="SplitSource"):
        Split(None, b"")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes"):
        Split(split.source, "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not those of a split"):
        _ = Split(split.source, split.packed[:-3]).ranges


# With an index


def indexed(folder: Path, *contents: bytes) -> Path:
    write(folder, *contents)
    for path in folder.glob("*.fs"):
        build_index(path)
    return folder


def test_an_index_leaves_out_what_has_no_rows(tmp_path: Path) -> None:
    dataset = flatstream.dataset(indexed(tmp_path, stream(range(3000)), stream(range(3000, 6000))))
    where = [("wall_time_ns", ">=", BEGIN + 100 * SECOND), ("wall_time_ns", "<", BEGIN + 110 * SECOND)]
    for count in COUNTS:
        splits = dataset.splits(count, where)
        assert rows(splits) == [*range(100, 110)]
        assert sum(split.size for split in splits) < planned_size(dataset) / 10
    assert dataset.splits(3, [("wall_time_ns", "<", BEGIN)]) == []


def test_an_index_says_where_files_are_cut(tmp_path: Path) -> None:
    indexed(tmp_path, stream(range(3000)))
    begins = set(load_offsets(tmp_path / "part-0.fs"))
    (splits,) = check(flatstream.dataset(tmp_path), [*range(3000)], (3,))
    assert all(split.ranges[0].begin in begins for split in splits)
    (splits,) = check(flatstream.dataset(tmp_path, use_index=False), [*range(3000)], (3,))
    assert not all(split.ranges[0].begin in begins for split in splits)


def load_offsets(path: Path) -> list[int]:
    with open_ranges(path) as file:
        index = load_index(path, file)
    assert isinstance(index, FileIndex)
    offsets: list[int] = index.offsets.tolist()
    assert len(offsets) > 5
    return offsets


@in_one_test
@pytest.mark.parametrize("on_error", ["raise", "skip", "resync", "stop"])
@pytest.mark.parametrize("where", [None, [("sequence", ">=", 900), ("wall_time_ns", "<", BEGIN + 2500 * SECOND)]])
def test_an_index_of_another_file_changes_no_result(tmp_path: Path, on_error: Any, where: Any) -> None:
    indexed(tmp_path, stream(range(3000)))
    # The same first frame, and other frames behind it, so that the index seems to fit.
    other = stream([*range(5), *range(1005, 4000)])
    path = tmp_path / "part-0.fs"
    before = path.read_bytes()
    path.write_bytes(before[: frames_of(before)[5][1]] + other[frames_of(other)[5][1] :])
    dataset = flatstream.dataset(tmp_path, on_error=on_error)
    want = dataset.columns(["sequence"], where).column(0).to_pylist()
    assert len(want) > 1000
    for count in (1, 9):
        assert rows(dataset.splits(count, where)) == want


@in_one_test(step=2)
@pytest.mark.parametrize("what", ["payload", "length", "plausible length"])
@pytest.mark.parametrize("moment", ["before the index", "after the index"])
@pytest.mark.parametrize("on_error", ["skip", "stop", "resync"])
def test_damage_in_a_file_with_an_index_is_treated_as_by_the_dataset(
    tmp_path: Path, what: str, moment: str, on_error: Any
) -> None:
    data = bytearray(stream(range(3000)))
    if moment == "after the index":
        indexed(tmp_path, bytes(data))
    frames = frames_of(bytes(data))
    for number in (300, 301, 1500, 2990):
        begin, end = frames[number]
        data[begin:end] = damage_of(data[begin:end], what)
    write(tmp_path, bytes(data))
    if moment == "before the index":
        indexed(tmp_path, bytes(data))
    dataset = flatstream.dataset(tmp_path, on_error=on_error)
    for where in (None, [("wall_time_ns", ">=", BEGIN + 1400 * SECOND)]):
        try:
            want = flatstream.dataset(tmp_path, on_error=on_error, use_index=False).columns(["sequence"], where)
        except FlatStreamError:
            # A frame that leads too far is known by another sign where its split ends.
            with pytest.raises(FlatStreamError):
                rows(dataset.splits(4, where))
        else:
            for count in (1, 9):
                assert rows(dataset.splits(count, where)) == want.column(0).to_pylist()


def test_splits_by_time_have_each_row_once_in_its_range(tmp_path: Path) -> None:
    # Two files of one time, and one that goes on behind its index.
    contents = [stream(range(0, 4000, 2)), stream(range(1, 4001, 2)), stream(range(3000, 6000))]
    indexed(tmp_path, *contents)
    with flatstream.open(tmp_path / "part-2.fs", "a") as writer:
        write_events(writer, range(6000, 6100))
    dataset = flatstream.dataset(tmp_path)
    field, splits = split_by_time(dataset, None, 5)
    assert field == "wall_time_ns"
    assert len(splits) == 5
    found = []
    for split, following in zip(splits, [*splits[1:], None], strict=True):
        assert split.times is not None
        assert following is None or (following.times is not None and split.times[1] == following.times[0])
        numbers = rows([split])
        assert all(split.times[0] <= BEGIN + number * SECOND < split.times[1] for number in numbers)
        found += numbers
    assert sorted(found) == sorted([*range(4001 - 1), *range(3000, 6100)])
    sizes = [split.size for split in splits]
    # Blocks are of 64 KiB.
    assert max(sizes) - min(sizes) < 5 * 65536


def test_splits_by_time_need_an_index_of_an_undamaged_file(tmp_path: Path) -> None:
    dataset = flatstream.dataset(write(tmp_path, stream(range(9))))
    with pytest.raises(ValueError, match=r"part-0\.fs has no index.*'flatstream index .*part-0\.fs' makes one"):
        split_by_time(dataset)
    with pytest.raises(ValueError, match="'sequence' is not the time of the messages, which is 'wall_time_ns'"):
        split_by_time(dataset, "sequence")
    data = bytearray(stream(range(900)))
    data[frames_of(bytes(data))[300][1] - 20] ^= 255
    indexed(tmp_path, bytes(data))
    with pytest.raises(ValueError, match="damaged"):
        split_by_time(flatstream.dataset(tmp_path, on_error="skip"))


def test_splits_have_the_columns_of_files_that_they_are_not_of(tmp_path: Path) -> None:
    older, newer = (
        flatstream.Schema.from_fbs(text=f"namespace app; table Event {{ {fields} }} root_type Event;").root
        for fields in ("time_ns: long; value: int;", "time_ns: long; value: long; name: string;")
    )
    tables: list[tuple[str, Any, dict[str, str]]] = [("a", older, {}), ("b", newer, {"name": "x"})]
    for name, table, row in tables:
        with flatstream.open(tmp_path / f"{name}.fs", "w", describe=table) as writer:
            records = flatstream.RecordWriter(writer, table)
            for number in range(20):
                records.write(time_ns=number, value=number, **row)
    dataset = flatstream.dataset(tmp_path)
    splits = dataset.splits(8)
    assert splits[0].paths == (str(tmp_path / "a.fs"),)
    assert splits[-1].paths == (str(tmp_path / "b.fs"),)
    batches = [batch for split in splits for batch in read_split(pickle.loads(pickle.dumps(split)))]
    assert all(batch.schema.equals(dataset.arrow_schema) for batch in batches)
    names = [name for batch in batches for name in batch.column("name").to_pylist()]
    assert names == [None] * 20 + ["x"] * 20
    # A column of the other file alone, and a condition on it.
    assert {name for batch in read_split(splits[0], ["name"]) for name in batch.column(0).to_pylist()} == {None}
    assert list(read_split(splits[0], ["value"], [("name", "==", "x")])) == []


def test_files_at_urls_are_split_and_read_by_ranges(tmp_path: Path) -> None:
    indexed(tmp_path, stream(range(3000)))
    dataset = flatstream.dataset(f"file://{tmp_path}/part-0.fs")
    (splits,) = check(dataset, [*range(3000)], (4,))
    assert len(splits) == 4
    where = [("wall_time_ns", ">=", BEGIN + 100 * SECOND), ("wall_time_ns", "<", BEGIN + 110 * SECOND)]
    (split,) = flatstream.dataset(f"file://{tmp_path}/part-0.fs").splits(1, where)
    assert split.size < planned_size(dataset) / 3
    assert rows([split]) == [*range(100, 110)]

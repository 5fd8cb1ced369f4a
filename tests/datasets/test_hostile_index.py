"""Indexes that are wrong, stale, torn, foreign or made to mislead: none changes what a question gives.

An index says which blocks need not be read, and nobody can tell whether that is so without reading them. So it counts
only if nobody could write it who could not write the stream. All the rest is checked here: whatever an index says of
where frames are, and whatever stream it was made for, the rows are those of the stream.
"""

from __future__ import annotations

import io
import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import flatstream
from flatstream import RecordWriter, StreamReader, StreamWriter, build_index, seal
from flatstream.index._format import entry_table
from support.extent import in_one_test
from support.questions import TEXT, at, rows_of, table_of
from support.schemas import root_of

TABLE = table_of()
COUNT = 800
ROWS = rows_of(COUNT, filler=160)
FIELDS = ["time_ns", "i8", "u64", "d", "opt", "level"]
WHERES: list[Any] = [
    ("time_ns", at(300), at(320)),
    pc.field("i8") > 90,
    (pc.field("i8") < -95) | (pc.field("opt") > COUNT - 5),
    [("d", "<", 1.0), ("u64", "<", 2**63)],
]


def write(path: Path, rows: list[dict[str, Any]], table: Any = TABLE, **options: Any) -> None:
    with flatstream.open(path, "w", checksum="crc32", describe=table, **options) as stream:
        RecordWriter(stream, table).write_records(rows)


def answers(folder: Path, *, index: bool = True, threads: int = 1, on_error: Any = "raise") -> list[pa.Table]:
    dataset = flatstream.dataset(folder, use_index=index, on_error=on_error, threads=threads)
    return [dataset.columns(["time_ns", "name"], where, frame=True).combine_chunks() for where in WHERES]


class Place:
    """A folder with a stream and its index.

    Attributes
    ----------
    path, index : Path
    data, good : bytes
        What they have at first.
    expected : list of pyarrow.Table
        The rows that are asked for, of a dataset that uses no index.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.path, self.index = folder / "a.fs", folder / "a.fs.idx"
        write(self.path, ROWS)
        build_index(self.path, FIELDS)
        self.data, self.good = self.path.read_bytes(), self.index.read_bytes()
        self.expected = answers(folder, index=False)

    def check(self, index: bytes | None = None, **options: Any) -> int:
        """Asks with another index; how many bytes were read."""
        if index is not None:
            self.index.write_bytes(index)
        assert answers(self.folder, **options) == self.expected
        # What was read for the last of the questions that one block answers.
        dataset = flatstream.dataset(self.folder, threads=1, on_error=options.get("on_error", "raise"))
        dataset.count(WHERES[0])
        return int(dataset.bytes_read)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def place(shared: Place) -> Place:
    shared.path.write_bytes(shared.data)
    shared.index.write_bytes(shared.good)
    return shared


@pytest.fixture(autouse=True)
def quiet() -> None:
    # That an index is left aside is said in the log, thousands of times here.
    logging.getLogger("flatstream").setLevel(logging.ERROR)


def test_questions_are_answered_by_the_index_if_it_is_right(place: Place) -> None:
    assert all(0 < len(found) < COUNT / 4 for found in place.expected)
    assert place.check() < len(place.data) / 3
    # All but the description.
    assert place.check(b"") > len(place.data) * 0.95


# Torn and damaged


@pytest.mark.parametrize("step", [501, pytest.param(13, marks=pytest.mark.long)])
def test_index_that_is_cut_anywhere_changes_no_answer(place: Place, step: int) -> None:
    for size in range(0, len(place.good), step):
        place.check(place.good[:size])


@pytest.mark.parametrize("step", [401, pytest.param(11, marks=pytest.mark.long)])
def test_index_with_any_byte_changed_changes_no_answer(place: Place, step: int) -> None:
    for offset in range(step % 7, len(place.good), step):
        changed = bytearray(place.good)
        changed[offset] ^= 1 << offset % 8
        place.check(bytes(changed))


def test_bytes_that_are_no_index_change_no_answer(place: Place) -> None:
    for content in (b"\0" * 5000, os.urandom(5000), place.data, b"PK\3\4", place.good * 2):
        place.check(content)


# Foreign and stale


def test_index_of_another_stream_changes_no_answer(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "other.fs"
    write(other, ROWS[::-1])
    build_index(other, FIELDS)
    place.check(Path(f"{other}.idx").read_bytes())
    for table in (TEXT.replace("opt: int = null", "opt: int = 7"), TEXT.replace("i8: byte", "i8: ubyte")):
        rows = [{key: abs(value) if key == "i8" else value for key, value in row.items()} for row in ROWS]
        write(other, rows, root_of(table))
        build_index(other, FIELDS)
        place.check(Path(f"{other}.idx").read_bytes())


def test_stream_that_was_written_anew_does_not_follow_the_old_index(tmp_path: Path) -> None:
    folder = tmp_path / "streams"
    place = Place(folder)
    for rows in (ROWS[::-1], ROWS[: COUNT // 2], [], ROWS[100:], ROWS + ROWS[:50]):
        # As a program would that knows nothing of indexes.
        source = tmp_path / "new.fs"
        write(source, rows)
        shutil.copyfile(source, place.path)
        place.expected = answers(folder, index=False)
        place.check(place.good)


@pytest.mark.parametrize("step", [50_001, pytest.param(1001, marks=pytest.mark.long)])
def test_stream_that_was_cut_back_and_went_on_otherwise_is_read_as_it_is(tmp_path: Path, step: int) -> None:
    place = Place(tmp_path / "streams")
    with StreamReader(place.data, "crc32") as reader:
        ends = [reader.offset for _ in reader]
    tail = tmp_path / "tail.fs"
    write(tail, ROWS[::-1])
    with StreamReader(tail, "crc32") as reader:
        begin = next(iter([reader.message_offset for _ in reader]))
    others = tail.read_bytes()[begin:]
    for end in [ends[number] for number in range(0, COUNT, step * COUNT // len(place.data))]:
        for rest in (others, others[: len(place.data) - end], b""):
            place.path.write_bytes(place.data[:end] + rest)
            place.expected = answers(place.folder, index=False)
            place.check(place.good)


def test_rows_behind_the_end_of_the_index_are_found(place: Place) -> None:
    more = [row | {"i8": 100, "d": 0.0, "opt": COUNT - 1} for row in ROWS[:30]]
    with flatstream.open(place.path, "a", describe=TABLE) as stream:
        RecordWriter(stream, TABLE).write_records(more)
    before = place.expected
    try:
        place.expected = answers(place.folder, index=False)
        assert [len(found) - len(old) for found, old in zip(place.expected, before, strict=True)] == [0, 30, 30, 26]
        for threads in (1, 2):
            place.check(place.good, threads=threads)
    finally:
        place.expected = before


def test_damage_where_the_index_points_is_told_as_without_it(place: Place) -> None:
    before = place.expected
    for offset in range(5000, len(place.data), len(place.data) // 4):
        damaged = bytearray(place.data)
        damaged[offset] ^= 0x55
        place.path.write_bytes(damaged)
        for policy in ("skip", "resync"):
            place.expected = answers(place.folder, index=False, on_error=policy)
            place.check(place.good, on_error=policy)
        dataset = flatstream.dataset(place.folder)
        with pytest.raises(flatstream.FlatStreamError, match=r"a\.fs"):
            dataset.columns(["name"])
    place.expected = before


# Made to mislead, with matching checksums


def entries_of(data: bytes) -> list[dict[str, Any]]:
    with StreamReader(data, "xxhash64") as reader:
        return [record.to_dict() for record in reader.records(entry_table())]


def index_of(entries: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, "xxhash64", describe=entry_table()) as writer:
        RecordWriter(writer, entry_table()).write_records(entries)
    return sink.getvalue()


PLACES = ("begin", "ends", "frames", "last_frame_size", "last_frame_hash")
NUMBERS = [0, 1, 3, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def changed_number(value: int, chance: random.Random) -> int:
    return chance.choice([*NUMBERS, value + 1, max(value - 1, 0), value + 331, value * 2, max(value - 331, 0)])


def misplaced(entries: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """The messages of an index with something wrong in where blocks are; the ranges are those of the blocks."""
    number = chance.randrange(1, len(entries))
    blocks = dict(entries[number]["blocks"])
    key = chance.choice(PLACES)
    if isinstance(blocks[key], list):
        values = list(blocks[key])
        place = chance.randrange(len(values))
        values[place] = changed_number(values[place], chance)
        blocks[key] = values
    else:
        blocks[key] = changed_number(blocks[key], chance)
    made = [*entries[:number], entries[number] | {"blocks": blocks}, *entries[number + 1 :]]
    kind = chance.randrange(6)
    if kind == 0:
        made.append(made[-1])
    elif kind == 1:
        made[0] = made[0] | {"head": made[0]["head"] | {"begin": changed_number(made[0]["head"]["begin"], chance)}}
    return made


# Of records: what conditions say, and what they do not say, which takes the numbers of messages.
OF_RECORDS: list[Any] = [
    WHERES[0],
    pc.field("i8") > 90,
    (pc.field("i8") > 90) & ((pc.field("name") != "none") | pc.field("b")),
    (pc.field("i8") < -95) | (pc.field("opt") > COUNT - 5),
]


def times_of_records(folder: Path, *, index: bool = True) -> list[list[int]]:
    """The times of records; sorted, because rows may not be in order where an index is seen to be wrong."""
    dataset = flatstream.dataset(folder, use_index=index)
    return [sorted(record.time_ns for record in dataset.records(where)) for where in OF_RECORDS]


def rows_only(tables: list[pa.Table]) -> list[pa.Table]:
    """Without the numbers of frames: those are counted by the blocks that are not read."""
    return [table.drop_columns(["frame"]) for table in tables]


def put_misplaced(place: Place, chance: random.Random, count: int) -> Iterator[int]:
    """Puts up to `count` indexes whose blocks are elsewhere beside the stream, one after the other: their numbers."""
    entries = entries_of(place.good)
    for number in range(count):
        try:
            index = index_of(misplaced(entries, chance))
        except (TypeError, ValueError):
            # The number does not fit its field.
            continue
        place.index.write_bytes(index)
        yield number


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_index_whose_blocks_are_elsewhere_changes_no_answer(place: Place, count: int) -> None:
    chance = random.Random(count)
    expected = rows_only(place.expected)
    made = 0
    for number in put_misplaced(place, chance, count):
        made += 1
        assert rows_only(answers(place.folder, threads=1 + number % 2)) == expected
    assert made > count / 2


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.long)])
def test_index_whose_blocks_are_elsewhere_changes_no_records(place: Place, count: int) -> None:
    chance = random.Random(count + 1)
    expected = times_of_records(place.folder, index=False)
    assert all(0 < len(found) < COUNT / 4 for found in expected)
    made = 0
    for _ in put_misplaced(place, chance, count):
        made += 1
        assert times_of_records(place.folder) == expected
    assert made > count / 2


def test_wrong_numbers_of_frames_that_are_not_read_change_no_records(place: Place) -> None:
    expected = times_of_records(place.folder, index=False)
    for step in (-1, 1, 5):
        entries = entries_of(place.good)
        for entry in entries[1:]:
            entry["blocks"]["frames"][0] += step
        place.index.write_bytes(index_of(entries))
        assert times_of_records(place.folder) == expected


@in_one_test
@pytest.mark.parametrize(
    "change",
    [
        lambda blocks: blocks.update(ends=[end - 7 for end in blocks["ends"]]),
        lambda blocks: blocks.update(ends=[*blocks["ends"][1:], blocks["ends"][-1] + 1]),
        lambda blocks: blocks.update(begin=blocks["begin"] + 100),
        lambda blocks: blocks.update(frames=[1] * len(blocks["frames"])),
        lambda blocks: blocks.update(frames=[2**32 - 1] * len(blocks["frames"])),
        lambda blocks: blocks.update(frames=blocks["frames"][::-1]),
        lambda blocks: blocks.update(ends=[2**63 - 1] * len(blocks["ends"])),
        lambda blocks: blocks.update(ends=[2**64 - 1] * len(blocks["ends"])),
        lambda blocks: blocks.update(first_frame=2**63),
        lambda blocks: blocks.update(ends=sorted(blocks["ends"], reverse=True)),
        lambda blocks: blocks.update(ranges=blocks["ranges"][:1]),
        lambda blocks: blocks.update(ranges=[]),
        lambda blocks: blocks.update(ends=[], frames=[], ranges=[{} for _ in blocks["ranges"]]),
        lambda blocks: blocks.update(ranges=[{"low": [], "high": []} for _ in blocks["ranges"]]),
    ],
)
def test_index_that_lies_about_its_blocks_changes_no_answer(change: Callable[[Any], Any], place: Place) -> None:
    entries = entries_of(place.good)
    for entry in entries[1:]:
        change(entry["blocks"])
    place.index.write_bytes(index_of(entries))
    for threads in (1, 2):
        assert rows_only(answers(place.folder, threads=threads)) == rows_only(place.expected)
    assert times_of_records(place.folder) == times_of_records(place.folder, index=False)


def test_ranges_that_cannot_be_change_no_answer(place: Place) -> None:
    for number in range(len(FIELDS)):
        entries = entries_of(place.good)
        for entry in entries[1:]:
            found = entry["blocks"]["ranges"][number]
            for low, high in (("low", "high"), ("low_ulong", "high_ulong"), ("low_double", "high_double")):
                if found.get(low):
                    found[low], found[high] = [min(value + 1, 2**64 - 1) for value in found[high]], found[low]
        place.index.write_bytes(index_of(entries))
        assert answers(place.folder) == place.expected
        entries = entries_of(place.good)
        for entry in entries[1:]:
            entry["blocks"]["ranges"][number]["nulls"] = [2**32 - 1] * len(entry["blocks"]["ends"])
        place.index.write_bytes(index_of(entries))
        assert answers(place.folder) == place.expected


def test_limits_of_floats_that_are_no_numbers_change_no_answer(place: Place) -> None:
    for low, high in ((float("nan"), float("nan")), (-float("inf"), float("nan")), (float("nan"), float("inf"))):
        entries = entries_of(place.good)
        for entry in entries[1:]:
            blocks = entry["blocks"]
            count = len(blocks["ends"])
            blocks["ranges"][FIELDS.index("d")].update(low_double=[low] * count, high_double=[high] * count)
        place.index.write_bytes(index_of(entries))
        assert answers(place.folder) == place.expected


# Whoever could write the index only


@pytest.mark.skipif(os.name != "posix", reason="owners and modes are those of POSIX")
def test_index_that_somebody_else_could_write_changes_no_answer(tmp_path: Path) -> None:
    place = Place(tmp_path / "streams")
    entries = entries_of(place.good)
    for entry in entries[1:]:
        blocks = entry["blocks"]
        # That there is nothing to be found.
        blocks["ranges"][1].update(low=[0] * len(blocks["ends"]), high=[0] * len(blocks["ends"]))
    place.index.write_bytes(index_of(entries))
    assert len(answers(place.folder)[1]) == 0
    place.index.chmod(0o666)
    place.path.chmod(0o644)
    place.check()
    place.index.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(place.index, 4711, 4711)
        os.chown(place.path, 4712, 4712)
        place.check()


def test_index_that_is_no_file_of_bytes_changes_no_answer(tmp_path: Path) -> None:
    place = Place(tmp_path / "streams")
    place.index.unlink()
    place.index.mkdir()
    place.check()
    place.index.rmdir()
    os.mkfifo(place.index)
    place.check()
    place.index.unlink()
    place.index.symlink_to(place.index)
    place.check()


# Sealed streams have the index of the plain one


def test_sealed_stream_with_an_index_of_another_changes_no_answer(tmp_path: Path) -> None:
    place = Place(tmp_path / "streams")
    seal(place.path)
    place.path.unlink()
    place.expected = answers(place.folder, index=False)
    assert [len(found) for found in place.expected] == [len(found) for found in answers(place.folder)]
    sealed = Path(f"{place.path}.zst")
    assert sealed.exists()
    for content in (place.good, place.good[:-9], b"", index_of(entries_of(place.good)[:1])):
        place.index.write_bytes(content)
        assert answers(place.folder) == place.expected
        Path(f"{sealed}.idx").write_bytes(content)
        assert answers(place.folder) == place.expected

"""Torn and damaged files: the rows are those of one StreamReader, whatever the policy, the threads and the index."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import ChecksumFramer, Crc32, FlatStreamError, RecordWriter, Schema
from flatstream.datasets._reading import Outcome
from support.dataset_files import (
    BEGIN,
    MILLISECOND,
    SIZES,
    damaged,
    place_of,
    reading_of_reader,
    write_events,
    write_sizes,
)
from support.extent import EVERYTHING
from support.logs import log_lines

pyarrow = pytest.importorskip("pyarrow")

POLICIES = ("raise", "skip", "stop", "resync")
ROUNDS = 60 if EVERYTHING else 6


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of few frames, so that small files have many."""
    monkeypatch.setattr("flatstream.datasets._snapshot.SMALL", 0)
    monkeypatch.setattr("flatstream.datasets._reading.FEW_ROWS", 6)
    for name, value in (("PIECE", 700), ("FIRST_PIECE", 40), ("LARGEST_FRAME", 2500), ("HOLE", 300), ("WINDOW", 250)):
        monkeypatch.setattr(f"flatstream.datasets._pieces.{name}", value)
    for name, value in (("CLEAN", 64), ("MOST_CLEAN", 1024)):
        monkeypatch.setattr(f"flatstream.datasets._scan.{name}", value)


def reading_of_dataset(
    path: Path, checksum: str, on_error: Any, where: Any, threads: int, batch_rows: int
) -> tuple[Any, ...]:
    """What a dataset finds, as `reading_of_reader`."""
    found = flatstream.dataset(path, SIZES.root, checksum, on_error=on_error, torn_end="raise")
    rows: list[dict[str, Any]] = []
    error = None
    try:
        for batch in found.batches(["n", "s", "v"], where, frame=True, threads=threads, batch_rows=batch_rows):
            rows += batch.to_pylist()
    except FlatStreamError as caught:
        error = place_of(caught)
    outcome = found._known.outcomes.get(0, Outcome())
    return rows, error, outcome.skipped, outcome.lost_bytes, place_of(outcome.stopped)


@pytest.mark.parametrize("checksum", ["none", "crc16", "xxhash64"])
def test_rows_of_a_damaged_file_are_those_of_one_reader(tmp_path: Path, checksum: str) -> None:
    rng = random.Random(f"damage {checksum}")
    path = tmp_path / "a.fs"
    for _ in range(ROUNDS):
        data = damaged(write_sizes(path, rng, rng.choice([0, 3, 50, 150]), checksum), rng)
        path.write_bytes(data)
        where = rng.choice([None, ("n", 10, 60)])
        for policy in POLICIES:
            expected = reading_of_reader(path, checksum, policy, where)
            for threads in (1, 3):
                rows = rng.choice([5, 50, 10_000])
                assert reading_of_dataset(path, checksum, policy, where, threads, rows) == expected, (policy, threads)


@pytest.mark.parametrize("checksum", ["none", "crc16", "xxhash64"])
def test_an_index_of_a_damaged_file_changes_no_row(
    tmp_path: Path, checksum: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    rng = random.Random(f"index {checksum}")
    path = tmp_path / "a.fs"
    used = 0
    for _ in range(ROUNDS):
        path.write_bytes(damaged(write_sizes(path, rng, rng.choice([3, 50, 150]), checksum, junk=0.002), rng))
        try:
            flatstream.build_index(path, ["n"], table=SIZES.root, checksum=checksum)
        except FlatStreamError:
            # Nothing of it is a frame.
            continue
        low = rng.randrange(150)
        where = ("n", low, low + rng.randrange(1, 60))
        for policy in POLICIES:
            rows, error, *_ = reading_of_reader(path, checksum, policy, where)
            for threads in (1, 3):
                assert reading_of_dataset(path, checksum, policy, where, threads, 50)[:2] == (rows, error)
        found = flatstream.dataset(path, SIZES.root, checksum, on_error="resync")
        found.count(where)
        used += 0 < found.bytes_read < path.stat().st_size / 2
    assert used > 0


SEVERAL = [
    Schema.from_fbs(text='table A { n: int; s: string; v: [ubyte]; } root_type A; file_identifier "AAAA";'),
    Schema.from_fbs(text='table B { b: int; s: string; } root_type B; file_identifier "BBBB";'),
]


@pytest.mark.parametrize("what", ["several tables", "compressed"])
def test_rows_of_other_streams_are_those_of_one_reader(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    rng = random.Random(what)
    is_several = what == "several tables"
    framer: flatstream.Framer = ChecksumFramer(Crc32())
    if not is_several:
        pytest.importorskip("lz4")
        framer = ChecksumFramer(Crc32()).compressed(flatstream.Lz4Compressor())
    roots: list[Any] = [schema.root for schema in SEVERAL]
    path, table = tmp_path / "a.fs", "A" if is_several else None
    for _ in range(ROUNDS // 2):
        description = flatstream.Description(roots) if is_several else roots[0]
        with flatstream.open(path, "w", framer=framer, describe=description) as stream:
            one, other = RecordWriter(stream, roots[0]), RecordWriter(stream, roots[1]) if is_several else None
            for number in range(150):
                if other is not None and rng.random() < 0.5:
                    other.write(b=number, s="y" * rng.randrange(50))
                else:
                    one.write(n=number, s="x" * rng.choice([0, 5, 40]), v=bytes(rng.choice([0, 300, 3000])))
        with flatstream.open(path) as reader:
            assert reader.description is not None
            head = reader.offset
        data = path.read_bytes()
        path.write_bytes(data[:head] + damaged(data[head:], rng))
        where: Any = rng.choice([None, ("n", 10, 60)])
        if rng.random() < 0.7:
            flatstream.build_index(path, ["n"], table=table)
        for policy in POLICIES:
            expected = outcome_of(lambda policy=policy: flatstream.open(path, on_error=policy), table, where)
            for threads in (1, 3):
                found = flatstream.dataset(path, table, on_error=policy, torn_end="raise", threads=threads)  # type: ignore[arg-type]
                assert outcome_of_dataset(found, where) == expected
        path.with_name("a.fs.idx").unlink(missing_ok=True)


def outcome_of(opened: Any, table: Any, where: Any) -> tuple[list[Any], Any]:
    rows: list[Any] = []
    with opened() as reader:
        batches = reader.column_batches(table, ["n", "s"], where)
        try:
            for batch in batches:
                rows += batch.to_pylist()
        except FlatStreamError as error:
            return rows, place_of(error)
    return rows, None


def outcome_of_dataset(found: Any, where: Any) -> tuple[list[Any], Any]:
    rows: list[Any] = []
    try:
        for batch in found.batches(["n", "s"], where, batch_rows=50):
            rows += batch.to_pylist()
    except FlatStreamError as error:
        return rows, place_of(error)
    return rows, None


def test_an_error_of_a_later_file_comes_behind_the_rows_of_those_before(tmp_path: Path) -> None:
    paths = [write_events(tmp_path / f"{number}.fs", 100 * number, 100) for number in range(4)]
    for path in paths:
        flatstream.build_index(path)
    found = flatstream.dataset(paths)
    assert found.count() == 400
    paths[2].unlink()
    for threads in (1, 3):
        rows: list[Any] = []
        batches = found.batches(["value"], ("time_ns", ">", 0, "ns"), threads=threads)
        with pytest.raises(FileNotFoundError) as caught:
            rows.extend(row for batch in batches for row in batch.to_pylist())
        assert (len(rows), caught.value.filename) == (200, str(paths[2]))


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes of small files with many blocks."""
    from flatstream._core.column_reader.blocks import BlockBuilder
    from flatstream.index import building

    monkeypatch.setattr(
        building,
        "BlockBuilder",
        lambda *args, **options: BlockBuilder(*args, **options | {"block_size": 500, "least_size": 50}),
    )


def test_damage_that_came_after_the_index_costs_no_row_and_gives_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    path = write_events(tmp_path / "a.fs", 0, 400)
    flatstream.build_index(path)
    data = bytearray(path.read_bytes())
    whole = flatstream.dataset(path).columns(["value"], ("value", ">=", 0)).column(0).to_pylist()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    expected = reading_of_events(path)
    assert len(expected) == 399
    for threads in (1, 3):
        found = flatstream.dataset(path, on_error="resync", threads=threads)
        with log_lines("flatstream.datasets") as lines:
            rows = found.columns(["value"], ("time_ns", ">", 0, "ns")).column(0).to_pylist()
            assert sorted(rows) == expected
            assert sorted(record.value for record in found.records(("time_ns", ">", 0, "ns"))) == expected
        assert [line.split(": ")[0] for line in lines] == [
            f"WARNING the index of {path} is left aside, and the file read in full",
            f"WARNING the index of {path} is left aside, and the file read in full",
        ]
        assert found.files.column("index").to_pylist()[0].startswith("ignored: ")
        assert found.files.column("status").to_pylist()[0].startswith("damaged: 1 messages, ")
    with pytest.raises(FlatStreamError, match=r"a\.fs: checksum mismatch"):
        flatstream.dataset(path).columns(["value"], ("time_ns", ">", 0, "ns"))
    assert whole == [number / 2 for number in range(400)]


def test_rows_behind_damage_that_stops_are_not_given_with_an_index_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    path = write_events(tmp_path / "a.fs", 0, 400)
    flatstream.build_index(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    late = BEGIN + 390 * MILLISECOND
    for where, count in ((("time_ns", ">=", late, "ns"), 0), (("time_ns", ">", 0, "ns"), None), (None, None)):
        found = flatstream.dataset(path, on_error="stop")
        without = flatstream.dataset(path, on_error="stop", use_index=False)
        rows = without.columns(where=where)
        assert found.columns(where=where) == rows
        assert len(list(found.records(where))) == rows.num_rows
        assert sum(batch.num_rows for split in found.splits(3, where) for batch in flatstream.read_split(split)) == len(
            rows
        )
        assert rows.num_rows == count if count is not None else 150 < rows.num_rows < 250
        assert found.files.column("status").to_pylist()[0].startswith("stopped at offset ")
    assert flatstream.dataset(path, on_error="stop").time_range == without.time_range
    assert without.time_range is not None
    assert without.time_range.last < late


@pytest.mark.parametrize("is_indexed", [False, True])
def test_records_that_an_expression_selects_meet_damage_as_columns_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_indexed: bool
) -> None:
    small_blocks(monkeypatch)
    rng = random.Random(f"expressions {is_indexed}")
    path = tmp_path / "a.fs"
    number = pyarrow.compute.field("n")
    low_bits = pyarrow.compute.bit_wise_and(number, 7)
    # Conditions cannot say these; the last one selects nothing.
    wheres = [(number < 60) | (low_bits == 3), (number > 40) & (low_bits < 5), (number > 1000) & (low_bits < 5)]

    def reading(policy: Any, where: Any, asks_records: bool) -> tuple[Any, ...]:
        found = flatstream.dataset(path, SIZES.root, "xxhash64", on_error=policy)
        rows: list[int] = []
        error = None
        try:
            if asks_records:
                for record in found.records(where):
                    rows.append(record.n)
            else:
                for batch in found.batches(["n"], where):
                    rows += batch.column(0).to_pylist()
        except FlatStreamError as caught:
            error = place_of(caught)
        return rows, error, found.files.column("status").to_pylist()

    for _ in range(ROUNDS):
        data = write_sizes(path, rng, rng.choice([3, 50, 150]), "xxhash64")
        Path(f"{path}.idx").unlink(missing_ok=True)
        if is_indexed:
            flatstream.build_index(path, ["n"], table=SIZES.root, checksum="xxhash64")
        path.write_bytes(rng.choice([damaged(data, rng), data[: rng.randrange(len(data))]]))
        for policy in POLICIES:
            for where in wheres:
                assert reading(policy, where, True) == reading(policy, where, False), (policy, where)


def test_records_that_an_expression_selects_are_refused_as_those_of_conditions(tmp_path: Path) -> None:
    schema = Schema.from_fbs(text="table R { n: int; name: string; } root_type R;")
    whole = flatstream.Builder()
    name = whole.CreateString("lost")
    whole.StartObject(2)
    whole.PrependInt32Slot(0, 4, 0)
    whole.PrependUOffsetTRelativeSlot(1, name, 0)
    whole.Finish(whole.EndObject())
    # The name leads far behind the end of the message, which columns of the number do not see.
    payload = bytearray(whole.Output())
    place = payload.index(b"lost") - 4
    payload[place : place + 4] = (2**31).to_bytes(4, "little")
    path = tmp_path / "a.fs"
    table: Any = schema.root
    with flatstream.open(path, "w", checksum="crc32", describe=table) as stream:
        records = RecordWriter(stream, table)
        for number in range(10):
            if number == 4:
                stream.write_payload(bytes(payload))
            else:
                records.write(n=number, name="x")
    number = pyarrow.compute.field("n")
    expression = (number > 2) & (pyarrow.compute.bit_wise_and(number, 16) == 0)
    for policy, expected in (("skip", [3, 5, 6, 7, 8, 9]), ("resync", [3, 5, 6, 7, 8, 9]), ("stop", [3])):
        seen = []
        for where in (("n", ">", 2), expression):
            found = flatstream.dataset(path, on_error=policy)  # type: ignore[arg-type]
            assert [record.n for record in found.records(where)] == expected
            seen.append(found.files.column("status").to_pylist())
        assert seen[0] == seen[1]
    places = []
    for where in (("n", ">", 2), expression):
        with pytest.raises(flatstream.ValidationFailedError, match=r"a\.fs") as caught:
            list(flatstream.dataset(path).records(where))
        places.append(place_of(caught.value))
    assert places[0] == places[1]


def reading_of_events(path: Path) -> list[float]:
    with flatstream.open(path, on_error="resync") as reader:
        return list(reader.columns(fields=["value"])["value"])


# The end


def test_a_torn_end_is_told_or_raised(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.fs", 0, 30)
    whole = path.read_bytes()
    other = write_events(tmp_path / "b.fs", 30, 1)
    path.write_bytes(whole[:-3])
    last = reading_end(path)
    for on_error in POLICIES:
        found = flatstream.dataset([path, other], on_error=on_error)  # type: ignore[arg-type]
        assert found.count() == 30
        assert found.files.column("status").to_pylist() == [f"torn end at {last}", ""]
        assert len(list(found.records())) == 30
    with pytest.raises(flatstream.UnexpectedEofError, match=r"a\.fs: the stream ends inside a frame") as caught:
        flatstream.dataset([path, other], torn_end="raise").count()
    assert caught.value.offset == last


def reading_end(path: Path) -> int:
    with flatstream.open(path, on_error="stop") as reader:
        for _ in reader:
            pass
        assert reader.stop_error is not None
        assert reader.stop_error.offset is not None
        return reader.stop_error.offset


def test_a_compressed_file_that_is_cut_off_has_a_torn_end(tmp_path: Path) -> None:
    rows = 3000
    data = write_events(tmp_path / "a.fs", 0, rows).read_bytes()
    (tmp_path / "a.fs").unlink()
    stored = gzip.compress(data, 1)
    (tmp_path / "a.fs.gz").write_bytes(stored[: len(stored) * 2 // 3])
    found = flatstream.dataset(tmp_path)
    count = found.count()
    assert rows / 3 < count < rows
    assert found.files.column("status").to_pylist()[0].startswith("torn end at ")
    assert len(list(found.records())) == count
    with pytest.raises(EOFError, match=r"a\.fs\.gz"):
        flatstream.dataset(tmp_path, torn_end="raise").count()


def test_a_file_that_was_mended_has_no_status(tmp_path: Path) -> None:
    """In the middle: a file whose first or last bytes are others is taken for another one."""
    path = write_events(tmp_path / "a.fs", 0, 200)
    whole = path.read_bytes()
    with flatstream.open(path) as reader:
        reader.read_batch(100)
        end = reader.offset
    assert 4096 < end < len(whole) - 4096
    path.write_bytes(whole[: end - 1] + bytes([whole[end - 1] ^ 1]) + whole[end:])
    found = flatstream.dataset(path, on_error="skip")
    assert found.count() == 199
    assert found.files.column("status").to_pylist()[0].startswith("damaged: 1 messages, ")
    path.write_bytes(whole)
    assert found.count() == 200
    assert found.files.column("status").to_pylist() == [""]


def test_zeros_at_the_end_are_a_torn_end(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.fs", 0, 30)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(5000))
    for on_error in ("raise", "stop", "resync"):
        found = flatstream.dataset(path, on_error=on_error)
        assert found.count() == 30
        assert found.files.column("status").to_pylist() == [f"torn end at {size}"]
        assert len(list(found.records())) == 30
    with pytest.raises(flatstream.ChecksumMismatchError):
        flatstream.dataset(path, torn_end="raise").count()


def test_a_wrong_length_is_no_torn_end(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.fs", 0, 30)
    with flatstream.open(path) as reader:
        offsets = [reader.message_offset for _ in reader]
    data = bytearray(path.read_bytes())
    data[offsets[10] : offsets[10] + 4] = (100_000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(flatstream.UnexpectedEofError, match=r"a\.fs: "):
        flatstream.dataset(path).count()
    found = flatstream.dataset(path, on_error="stop")
    assert found.count() == 10
    assert found.files.column("status").to_pylist()[0].startswith(f"stopped at offset {offsets[10]}: ")
    assert flatstream.dataset(path, on_error="resync").count() == 29


def test_errors_say_the_file_and_the_place_in_it(tmp_path: Path) -> None:
    one, two = (write_events(tmp_path / f"{name}.fs", 0, 100) for name in "ab")
    with flatstream.open(two) as reader:
        offsets = [reader.message_offset for _ in reader]
    data = bytearray(two.read_bytes())
    data[offsets[70] + 20] ^= 1
    two.write_bytes(data)
    for threads in (1, 3):
        rows: list[Any] = []
        batches = flatstream.dataset([one, two], threads=threads).batches(["value"])
        with pytest.raises(flatstream.ChecksumMismatchError, match=rf"^{two}: checksum mismatch: ") as caught:
            rows.extend(row for batch in batches for row in batch.to_pylist())
        assert (len(rows), caught.value.offset, caught.value.frame) == (170, offsets[70], 70)
    with pytest.raises(flatstream.ChecksumMismatchError, match=rf"^{two}: checksum mismatch: "):
        list(flatstream.dataset([one, two]).records())

"""Many files as one table: what is read, in which order, and what a dataset says of itself."""

from __future__ import annotations

import gzip
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import Schema
from flatstream.datasets import Dataset
from support.dataset_files import BEGIN, EVENTS, MILLISECOND, event, read_alone, write_events, write_records

pyarrow = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")
pytest.importorskip("pyarrow.dataset")


def three_files(folder: Path) -> list[Path]:
    return [write_events(folder / f"part{i}.fs", 100 * i, 10 + i, ("xxhash64", "crc32", "none")[i]) for i in range(3)]


def values(found: Any, where: Any = None) -> Any:
    return found.columns(["value"], where).column(0).to_pylist()


# What is read


def test_files_are_read_in_order_and_equal_those_of_a_reader(tmp_path: Path) -> None:
    paths = three_files(tmp_path)
    found = flatstream.dataset(tmp_path, times="number")
    expected = read_alone(paths)
    assert found.columns().to_pylist() == expected.to_pylist()
    assert found.arrow_schema.equals(expected.schema)
    assert found.count() == 33


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are UTF-8 there")
def test_name_of_a_file_that_is_not_utf_8_is_shown_with_escapes(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name, first in ((b"\xff.fs", 0), (b"\\xff.fs", 10)):
        write_events(Path(os.fsdecode(os.path.join(folder, name))), first, 2)
    found = flatstream.dataset(tmp_path)
    shown = f"{tmp_path}/\\xff.fs"
    assert found.files.column("path").to_pylist() == [shown, shown]
    assert found.columns(["value"], source_file=True).column("source_file").to_pylist() == [shown] * 4
    assert found.count(pc.field("source_file") == shown) == 4
    events = found.to_arrow_dataset()
    assert events.to_table(columns=["value"]).num_rows == 4
    assert sorted(fragment.count_rows() for fragment in events.get_fragments()) == [2, 2]
    rows = pyarrow.dataset.dataset([events]).to_table(columns=["value"]).column(0).to_pylist()
    assert sorted(rows) == sorted(values(found))


def test_paths_keep_their_order_and_are_read_once(tmp_path: Path) -> None:
    one, two, three = three_files(tmp_path)
    found = flatstream.dataset([two, tmp_path, f"{tmp_path}/part[0-9].fs", one])
    assert found.files.column("path").to_pylist() == [str(two), str(one), str(three)]


def test_indexes_that_a_pattern_matches_are_no_files_of_the_dataset(tmp_path: Path) -> None:
    flatstream.build_index(write_events(tmp_path / "a.fs", 0, 3))
    assert flatstream.dataset(f"{tmp_path}/a.*").count() == 3


@pytest.mark.parametrize("name", ["no.fs", "no*.fs", "empty"])
def test_a_path_where_nothing_is_says_what_was_looked_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=name.replace("*", r"\*")) as caught:
        flatstream.dataset(tmp_path / name)
    assert caught.value.filename == str(tmp_path / name)


def test_urls_are_read_also_by_patterns_and_with_indexes(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    path = write_events(tmp_path / "a.fs", 0, 3000)
    flatstream.build_index(path)
    memory = fsspec.filesystem("memory")
    for name in ("one.fs", "two.fs"):
        memory.pipe(f"/datasets/{name}", path.read_bytes())
    memory.pipe("/datasets/one.fs.idx", (tmp_path / "a.fs.idx").read_bytes())
    try:
        for url in (
            "memory://datasets/*",
            "memory://datasets/",
            ["memory://datasets/one.fs", "memory://datasets/two.fs"],
        ):
            found = flatstream.dataset(url)
            names = [path.rpartition("/")[2] for path in found.files.column("path").to_pylist()]
            assert names == ["one.fs", "two.fs"]
            assert values(found, ("value", "<", 1)) == [0, 0.5] * 2
            before = found.bytes_read
            assert values(found, ("time_ns", BEGIN, BEGIN + 1, "ns")) == [0, 0]
            assert found.bytes_read - before < 1.5 * path.stat().st_size
        with pytest.raises(FileNotFoundError, match="no file matches the URL"):
            flatstream.dataset("memory://datasets/*.gz")
        with pytest.raises(FileNotFoundError):
            flatstream.dataset("memory://nothing/")
    finally:
        memory.rm("/datasets", recursive=True)


def test_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("-", tmp_path / "pipe"):
        with pytest.raises(ValueError, match="more than once"):
            flatstream.dataset(path)


def test_conditions_and_expressions_select_rows(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    found = flatstream.dataset(three_files(tmp_path))
    time = datetime.fromtimestamp(BEGIN // 10**9, UTC)
    expected = [row["value"] for row in map(event, [*range(10), *range(100, 111)]) if row["level"] == "error"]
    wheres: list[Any] = [
        [("level", "==", "error"), ("value", "<", 75)],
        [("time_ns", ">=", time), ("level", "in", ["error"]), ("value", "<", 75)],
        (pc.field("level") == "error") & (pc.field("value") < 75),
        (polars.col("level").cast(polars.String) == "error") & (polars.col("value") < 75),
        [pc.field("level") == "error", ("value", "<", 75)],
    ]
    for where in wheres:
        assert found.columns(["value"], where).column(0).to_pylist() == expected
        assert found.count(where) == len(expected)
        assert [record.value for record in found.records(where)] == expected


def test_a_predicate_is_about_fields_that_are_not_given(tmp_path: Path) -> None:
    found = flatstream.dataset(three_files(tmp_path))
    where = pc.field("source", "port") * 2 == 204
    assert found.columns(["source.host"], where).to_pylist() == [{"source.host": "host2"}]
    assert found.columns(["source", "value"], [where, ("source.host", "==", "host2")]).num_rows == 1


def test_source_and_frame_say_where_a_row_comes_from(tmp_path: Path) -> None:
    paths = three_files(tmp_path)
    found = flatstream.dataset(paths)
    rows = found.columns(["value"], ("value", ">=", 54.0), source_file=True, frame=True).to_pylist()
    assert [(row["source_file"], row["frame"]) for row in rows] == [(str(paths[1]), 8 + i) for i in range(3)] + [
        (str(paths[2]), i) for i in range(12)
    ]
    where = [pc.field("frame") == 9, pc.field("source_file") == str(paths[1])]
    assert found.columns(["value"], where).to_pylist() == [{"value": 109 / 2}]


def test_a_field_called_frame_is_read_and_its_column_refused(tmp_path: Path) -> None:
    schema = Schema.from_fbs(text="table T { frame: int; x: int; } root_type T;")
    found = flatstream.dataset(write_records(tmp_path / "a.fs", schema, [{"frame": 7, "x": 1}]))
    assert found.columns(where=pc.field("frame") * 1 == 7).to_pylist() == [{"frame": 7, "x": 1}]
    assert found.columns(["x"], frame=True).to_pylist() == [{"x": 1, "frame": 0}]
    assert [record.x for record in found.records(pc.field("frame") * 1 == 7)] == [1]
    assert list(found.records((pc.field("frame") == 8) | (pc.field("x") == 8))) == []
    with pytest.raises(ValueError, match="have a field 'frame'"):
        found.columns(frame=True)


def test_a_table_without_fields_can_be_asked_for(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    schema = Schema.from_fbs(
        text="table Mark {} table In { mark: Mark; } table T { x: int; mark: Mark; in: In; } root_type T;"
    )
    rows = [{"x": x, **({"mark": {}} if x % 2 else {}), **({"in": {"mark": {}}} if x % 3 else {})} for x in range(30)]
    found = flatstream.dataset(write_records(tmp_path / "a.fs", schema, rows))
    table = found.columns()
    x, mark = pc.field("x"), pc.field("mark")
    wheres: list[Any] = [mark.is_null(), mark.is_valid(), mark, ~mark, mark == True, (x > 20) | mark.is_null()]  # noqa: E712
    wheres += [pc.field("in", "mark").is_null(), pc.field("in", "mark")]
    for where in wheres:
        expected = table.filter(where).column("x").to_pylist()
        assert found.columns(["x"], where).column(0).to_pylist() == expected
        assert [record.x for record in found.records(where)] == expected
    for where in (polars.col("mark").is_null(), polars.col("mark"), polars.col("in").struct.field("mark").is_null()):
        assert found.count(where) == polars.DataFrame(table).filter(where).height
    with pytest.raises(ValueError, match="mark is no number, enum or string"):
        found.count(("mark", "==", True))
    assert pickle.loads(pickle.dumps(found._predicate(mark))).paths == {"mark"}


def test_batches_have_no_more_rows_than_asked_for_and_none_is_empty(tmp_path: Path) -> None:
    found = flatstream.dataset(three_files(tmp_path))
    sizes = [batch.num_rows for batch in found.batches(["value"], batch_rows=4)]
    assert (sum(sizes), max(sizes), min(sizes) > 0) == (33, 4, True)
    assert list(found.batches([], ("value", ">", 1e9))) == []


@pytest.mark.parametrize("threads", [1, 2])
def test_a_limit_ends_reading(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_events(tmp_path / f"{i}.fs", 0, 4000) for i in range(2)]
    monkeypatch.setattr("flatstream.datasets._snapshot.SMALL", 0)
    monkeypatch.setattr("flatstream.datasets._pieces.PIECE", 1 << 15)
    found = flatstream.dataset(paths)
    assert sum(batch.num_rows for batch in found.batches(limit=3, threads=threads)) == 3
    assert found.bytes_read < paths[0].stat().st_size
    before = found.bytes_read
    assert found.columns(["value"], limit=5000).num_rows == 5000
    assert found.columns(limit=0).num_rows == 0
    assert len(list(found.records(limit=2))) == 2
    assert found.bytes_read > before


def test_head_reads_no_more_than_the_first_file(tmp_path: Path) -> None:
    found = flatstream.dataset(three_files(tmp_path))
    assert found.head(3).column("value").to_pylist() == [0, 0.5, 1]
    assert found.bytes_read <= (tmp_path / "part0.fs").stat().st_size
    assert found.head(15).num_rows == 15


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    found = flatstream.dataset(three_files(tmp_path))
    told: list[tuple[int, int, int]] = []
    found.columns(progress=lambda *place: told.append(place))
    size = sum(found.files.column("bytes").to_pylist())
    assert told == sorted(told)
    assert told[-1] == (33, size, size)


def test_records_are_of_the_table_of_their_file(tmp_path: Path) -> None:
    three_files(tmp_path)
    found = flatstream.dataset(tmp_path)
    records = list(found.records())
    assert [record.source.port for record in records] == [*range(10), *range(100, 111), *range(200, 212)]
    assert records[0].to_dict() == EVENTS.root.view(first_payload(tmp_path / "part0.fs")).to_dict()


def first_payload(path: Path) -> bytes:
    with flatstream.open(path) as reader:
        return bytes(next(reader))


# Times


def test_a_time_goes_out_as_a_timestamp_of_its_unit(tmp_path: Path) -> None:
    found = flatstream.dataset(write_events(tmp_path / "a.fs", 0, 3))
    assert found.arrow_schema.field("time_ns").type == pyarrow.timestamp("ns", "UTC")
    numbers = found.columns(["time_ns"]).column(0).cast(pyarrow.int64()).to_pylist()
    assert numbers == [BEGIN + i * MILLISECOND for i in range(3)]


def test_times_are_rounded_down_to_another_unit_also_before_1970(tmp_path: Path) -> None:
    schema = Schema.from_fbs(text="table T { time_ns: long; } root_type T;")
    path = write_records(tmp_path / "a.fs", schema, [{"time_ns": time} for time in (-1, 0, 1999, -2001)])
    column = flatstream.dataset(path, times="us").columns().column(0)
    assert column.type == pyarrow.timestamp("us", "UTC")
    assert column.cast(pyarrow.int64()).to_pylist() == [-1, 0, 1, -3]
    extremes = write_records(tmp_path / "c.fs", schema, [{"time_ns": -(2**63)}, {"time_ns": 2**63 - 1}])
    units: list[tuple[Any, int]] = [("s", 10**9), ("ms", 10**6), ("us", 1000), ("ns", 1)]
    for unit, step in units:
        column = flatstream.dataset(extremes, times=unit).columns().column(0)
        assert column.cast(pyarrow.int64()).to_pylist() == [-(2**63) // step, (2**63 - 1) // step]
    finer = flatstream.dataset(write_records(tmp_path / "b.fs", schema, [{"time_ns": 5}]), times="ns")
    assert finer.columns().column(0).cast(pyarrow.int64()).to_pylist() == [5]


def test_a_nested_time_is_a_timestamp_alone_and_in_its_struct(tmp_path: Path) -> None:
    schema = Schema.from_fbs(text="table H { at: ulong; } table T { header: H; x: int; } root_type T;")
    path = write_records(
        tmp_path / "a.fs", schema, [{"header": {"at": 5}}, {"x": 1}], time_field="header.at", time_unit="ms"
    )
    found = flatstream.dataset(path)
    at = datetime(1970, 1, 1, 0, 0, 0, 5000, UTC)
    assert found.columns(["header.at", "header"]).to_pylist() == [
        {"header.at": at, "header": {"at": at}},
        {"header.at": None, "header": None},
    ]
    assert found.time_range == ("header.at", "ms", 5, 5)


def test_a_time_that_no_timestamp_has_is_an_error_and_a_number(tmp_path: Path) -> None:
    schema = Schema.from_fbs(text="table T { time_ns: ulong; } root_type T;")
    path = write_records(tmp_path / "a.fs", schema, [{"time_ns": 2**63}])
    with pytest.raises(OverflowError, match=r"'time_ns' has the value 9223372036854775808.*times='number'"):
        flatstream.dataset(path).columns()
    assert flatstream.dataset(path, times="number").columns().to_pylist() == [{"time_ns": 2**63}]
    assert flatstream.dataset(path).time_range == ("time_ns", "ns", 2**63, 2**63)


def test_a_time_that_is_too_large_for_a_finer_unit_is_an_error(tmp_path: Path) -> None:
    schema = Schema.from_fbs(text="table T { time_s: long; } root_type T;")
    path = write_records(tmp_path / "a.fs", schema, [{"time_s": 2**40}])
    with pytest.raises(OverflowError, match="'time_s' does not fit a timestamp in ns"):
        flatstream.dataset(path, times="ns").columns()


@pytest.mark.parametrize("indexed", [0, 2])
def test_the_range_of_times_is_that_of_all_files(tmp_path: Path, indexed: int) -> None:
    paths = three_files(tmp_path)
    for path in paths[:indexed]:
        flatstream.build_index(path)
    found = flatstream.dataset(paths)
    assert found.time_field == "time_ns"
    assert found.time_range == ("time_ns", "ns", BEGIN, BEGIN + 211 * MILLISECOND)
    assert found.time_range is not None
    assert found.time_range.begin == datetime.fromtimestamp(BEGIN // 10**9, UTC)
    assert (found.time_range.end - found.time_range.begin).total_seconds() == 0.211
    # A small part of each index is compared with its file.
    assert found.bytes_read < sum(path.stat().st_size for path in paths[indexed:]) + indexed * 2000


def test_without_a_time_there_is_no_range(tmp_path: Path) -> None:
    schema = Schema.from_fbs(text="table T { x: int; } root_type T;")
    found = flatstream.dataset(write_records(tmp_path / "a.fs", schema, [{"x": 1}]))
    assert (found.time_range, found.time_field) == (None, None)
    assert flatstream.dataset(write_events(tmp_path / "b.fs", 0, 0)).time_range is None


# The snapshot


def test_what_is_written_later_is_read_after_refresh(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=EVENTS.root) as stream:
        records = flatstream.RecordWriter(stream, EVENTS.root)
        records.write_record(event(0))
        stream.flush()
        found = flatstream.dataset(tmp_path)
        assert found.count() == 1
        records.write_record(event(1))
        stream.flush()
        write_events(tmp_path / "b.fs", 2, 1)
        assert values(found) == [0]
        found.refresh()
        assert values(found) == [0, 0.5, 1]


def test_an_index_that_is_made_later_is_used(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.fs", 0, 2000)
    found = flatstream.dataset(path)
    where = ("time_ns", BEGIN, BEGIN + 1, "ns")
    assert values(found, where) == [0]
    assert found.bytes_read > path.stat().st_size * 0.9
    flatstream.build_index(path)
    before = found.bytes_read
    assert values(found, where) == [0]
    assert found.bytes_read - before < path.stat().st_size / 2
    found.refresh()
    assert found.files.column("index").to_pylist()[0].startswith("covers ")


def test_a_frame_that_is_half_written_is_told_as_a_torn_end(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.fs", 0, 5)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    found = flatstream.dataset(path)
    assert found.count() == 4
    path.write_bytes(whole)
    assert found.count() == 4
    assert found.files.column("status").to_pylist()[0].startswith("torn end at ")
    found.refresh()
    assert (found.count(), found.files.column("status").to_pylist()) == (5, [""])


def test_a_removed_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    one, two, _ = three_files(tmp_path)
    found = flatstream.dataset(tmp_path)
    assert found.count() == 33
    two.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        found.count()
    assert caught.value.filename == str(two)
    found.refresh()
    assert found.count() == 22
    one.unlink()


def test_a_dataset_that_was_pickled_reads_the_same(tmp_path: Path) -> None:
    three_files(tmp_path)
    found = flatstream.dataset(tmp_path, times="us", on_error="skip")
    again = pickle.loads(pickle.dumps(found))
    assert again.columns() == found.columns()
    write_events(tmp_path / "z.fs", 0, 1)
    assert pickle.loads(pickle.dumps(found)).count() == 33


def test_no_file_stays_open(tmp_path: Path) -> None:
    found = flatstream.dataset(three_files(tmp_path))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    found.columns()
    rows = found.batches(["value"], batch_rows=1)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    records = found.records()
    next(records)
    del records
    assert found.files.num_rows == 3
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_rows_that_are_being_read_are_of_the_files_before_a_refresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flatstream.datasets._snapshot.SMALL", 0)
    texts = {
        "b": "table T { x: int; y: int; } root_type T;",
        "c": "table T { s: string; x: int; y: int; } root_type T;",
        "d": "table T { x: int; y: int; z: int; } root_type T;",
    }
    kinds = zip(texts, ("crc32", "xxhash64", "crc64"), strict=True)
    for place, (name, checksum) in enumerate(kinds):
        schema = Schema.from_fbs(text=texts[name])
        rows = [{"x": 1000 * place + number, "y": number} for number in range(500)]
        write_records(tmp_path / f"{name}.fs", schema, rows, checksum=checksum)
    expected = [1000 * place + number for place in range(3) for number in range(500)]
    other = Schema.from_fbs(text="table T { q: [int]; x: int; } root_type T;")
    x = pc.field("x")
    wheres: list[Any] = [None, ("x", ">=", 0), (x >= 0) | (pc.field("y") < 0)]
    for where in wheres:
        for threads in (1, 2):
            found = flatstream.dataset(tmp_path, threads=threads)
            batches, records = found.batches(["x"], where, batch_rows=50), found.records(where)
            not_begun = found.batches(["x"], where)
            rows = next(batches).column(0).to_pylist()
            values = [next(records).x]
            new = write_records(tmp_path / "a.fs", other, [{"x": -1}], checksum="none")
            found.refresh()
            assert found.files.num_rows == 4
            for batch in batches:
                rows += batch.column(0).to_pylist()
            values += [record.x for record in records]
            assert rows == values == expected
            assert [value for batch in not_begun for value in batch.column(0).to_pylist()] == expected
            # What was found out of a file before is not told of another one.
            assert found.files.column("status").to_pylist() == [""] * 4
            assert found.columns(["x"]).column(0).to_pylist() == [-1, *expected]
            new.unlink()


# Threads


def large_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatstream.datasets._snapshot.SMALL", 0)
    monkeypatch.setattr("flatstream.datasets._pieces.FIRST_PIECE", 100)
    monkeypatch.setattr("flatstream.datasets._pieces.PIECE", 2000)


def test_threads_give_rows_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large_pieces(monkeypatch)
    found = flatstream.dataset([write_events(tmp_path / f"{i}.fs", 1000 * i, 500) for i in range(3)])
    expected = [number / 2 for i in range(3) for number in range(1000 * i, 1000 * i + 500)]
    for threads in (1, 2, 5):
        rows = [value for batch in found.batches(["value"], threads=threads) for value in batch.column(0).to_pylist()]
        assert rows == expected


def test_a_dataset_is_read_by_several_threads_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large_pieces(monkeypatch)
    found = flatstream.dataset([write_events(tmp_path / f"{i}.fs", 1000 * i, 200) for i in range(3)], threads=2)
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: found.count(pc.field("value") >= 500), range(8)))
    assert counts == [400] * 8


def test_iterators_that_are_dropped_end_their_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large_pieces(monkeypatch)
    found = flatstream.dataset(write_events(tmp_path / "a.fs", 0, 500))
    before = threading.active_count()
    rows = found.batches(threads=3)
    next(rows)
    assert threading.active_count() > before
    del rows
    assert threading.active_count() == before


def test_an_exception_of_progress_ends_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large_pieces(monkeypatch)
    found = flatstream.dataset(write_events(tmp_path / "a.fs", 0, 500), threads=2)
    before = threading.active_count()

    def stop(*place: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.columns(progress=stop)
    assert threading.active_count() == before


# Compressed files


def test_compressed_files_are_read_and_told(tmp_path: Path) -> None:
    pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
    path = write_events(tmp_path / "a.fs", 0, 100)
    (tmp_path / "b.fs.gz").write_bytes(gzip.compress(path.read_bytes()))
    flatstream.seal(path, tmp_path / "c.fs.zst")
    found = flatstream.dataset(tmp_path)
    assert values(found) == [number / 2 for number in range(100)] * 3
    assert found.columns(["value"], ("value", ">", 49), frame=True).column("frame").to_pylist() == [99] * 3
    assert found.files.column("compression").to_pylist() == [None, "gzip", "Zstandard"]
    assert [record.value for record in found.records(("value", "==", 1))] == [1] * 3


def test_files_of_compressed_messages_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
    large_pieces(monkeypatch)
    framer = flatstream.ChecksumFramer(flatstream.Crc32()).compressed(flatstream.ZstdCompressor())
    path = write_records(tmp_path / "a.fs", EVENTS, map(event, range(200)), checksum=None, framer=framer)
    assert values(flatstream.dataset(path, threads=2)) == [number / 2 for number in range(200)]


def test_encrypted_files_are_read_with_their_key(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    cipher = flatstream.ChaCha20Poly1305(bytes(32), key_id="k")
    framer = flatstream.ChecksumFramer(flatstream.Crc32()).encrypted(cipher)
    path = write_records(tmp_path / "a.fs", EVENTS, map(event, range(20)), checksum=None, framer=framer)
    found = flatstream.dataset(path, cipher=cipher)
    assert values(found) == [number / 2 for number in range(20)]
    assert found.columns(["value"], ("value", ">", 9), frame=True).column("frame").to_pylist() == [19]
    with pytest.raises(flatstream.InvalidFrameError, match=r"a\.fs: .*encrypted"):
        flatstream.dataset(path).count()


# What it says


def test_files_is_a_table_of_what_is_known(tmp_path: Path) -> None:
    paths = three_files(tmp_path)
    flatstream.build_index(paths[0])
    found = flatstream.dataset(tmp_path)
    rows = found.files.to_pylist()
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert [row["bytes"] for row in rows] == [path.stat().st_size for path in paths]
    assert [row["checksum"] for row in rows] == ["xxhash64", "crc32", "none"]
    assert {row["table"] for row in rows} == {"app.Event"}
    assert [row["index"] for row in rows] == [f"covers {paths[0].stat().st_size:,} bytes: time_ns", "none", "none"]
    assert found.files.column("first_time").cast(pyarrow.int64()).to_pylist() == [BEGIN, None, None]
    assert [row["status"] for row in rows] == [""] * 3
    assert repr(found).startswith("<Dataset of 3 files, ")
    assert found.table_name == "app.Event"


def test_files_tells_of_what_is_no_stream(tmp_path: Path) -> None:
    write_events(tmp_path / "a.fs", 0, 3)
    (tmp_path / "b.fs").write_bytes(b"something else, and long enough to see that" * 5)
    found = flatstream.dataset(tmp_path)
    assert found.files.column("status").to_pylist()[1].startswith("cannot be read: ")
    with pytest.raises(flatstream.InvalidFrameError, match=r"b\.fs"):
        found.count()


WRONG: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "fields that are no list": ({"fields": "value"}, TypeError),
    "a field that is no str": ({"fields": [1]}, TypeError),
    "a field twice": ({"fields": ["value", "value"]}, ValueError),
    "no such field": ({"fields": ["nothing"]}, KeyError),
    "no rows in a batch": ({"batch_rows": 0}, ValueError),
    "a limit below 0": ({"limit": -1}, ValueError),
    "no threads": ({"threads": 0}, ValueError),
    "a flag that is no bool": ({"frame": 1}, TypeError),
    "progress that cannot be called": ({"progress": 1}, TypeError),
    "a condition on no field": ({"where": ("nothing", "==", 1)}, KeyError),
    "a where that is none": ({"where": 5}, TypeError),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_refused_at_once(tmp_path: Path, wrong: str) -> None:
    found = flatstream.dataset(write_events(tmp_path / "a.fs", 0, 1))
    options, error = WRONG[wrong]
    with pytest.raises(error):
        found.batches(**options)


def test_wrong_arguments_of_dataset_are_refused(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.fs", 0, 1)
    for options in ({"on_error": "x"}, {"torn_end": 1}, {"times": "h"}, {"threads": 0}, {"checksum": "x"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            flatstream.dataset(path, **options)
    for wrong in ({"use_index": 1}, {"table": 5}, {"table": Schema}):
        with pytest.raises(TypeError):
            flatstream.dataset(path, **wrong)
    with pytest.raises(ValueError, match="got both"):
        flatstream.dataset(path, EVENTS.root, schema=EVENTS)
    with pytest.raises(TypeError, match=r"made by flatstream\.dataset"):
        Dataset([], None, [])  # type: ignore[arg-type]

"""`Dataset.to_arrow_dataset`: DuckDB, polars and pyarrow query it by name, and their questions reach the files."""

from __future__ import annotations

import gc
import pickle
import threading
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet
import pytest

import flatstream
from asv_benchmarks import scale_data
from support.gated import wait_until
from support.schemas import root_of

FILES, ROWS = 3, 3000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> scale_data.DataSet:
    """Streams with 14 columns, and the same rows as Parquet."""
    made = scale_data.data_set(FILES, ROWS, tmp_path_factory.mktemp("machines") / "data")
    # A few blocks each.
    assert Path(made.streams()[0]).stat().st_size > 4 * 65_536
    return made


@pytest.fixture
def dataset(data: scale_data.DataSet) -> flatstream.Dataset:
    return flatstream.dataset(data.streams(), times="us")


@pytest.fixture(scope="module")
def rows(data: scale_data.DataSet) -> pyarrow.Table:
    """What it must give."""
    table = pyarrow.parquet.read_table(data.parquet("32k"))
    floored = table["time_ns"].cast(pyarrow.timestamp("us", "UTC"), safe=False)
    return table.set_column(0, "time_ns", floored)


def same(got: pyarrow.Table, expected: pyarrow.Table) -> bool:
    """Whether the columns have the same names and values."""
    return polars.DataFrame(got).equals(polars.DataFrame(expected)) and got.column_names == expected.column_names


@pytest.fixture
def asked(dataset: flatstream.Dataset, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The fields, conditions and limits with which batches are asked for."""
    calls = []
    batches = type(dataset).batches

    def spy(self: Any, fields: Any = None, where: Any = None, **options: Any) -> Any:
        calls.append((fields, where, options.get("limit")))
        return batches(self, fields, where, **options)

    monkeypatch.setattr(type(dataset), "batches", spy)
    return calls


# Questions of libraries


QUERIES = [
    "SELECT count(*) FROM machines",
    "SELECT host, max(cpu), sum(memory_used) FROM machines GROUP BY host ORDER BY host",
    "SELECT sequence FROM machines WHERE host = 2 AND cpu > 50 ORDER BY sequence",
    "SELECT sequence FROM machines WHERE state IN ('Failed', 'Draining') ORDER BY host, sequence",
    "SELECT host, sequence FROM machines WHERE time_ns BETWEEN '2026-09-21 16:00:00+00' AND '2026-09-21 16:05:00+00'",
    "SELECT * FROM machines WHERE sequence = 17 OR load > 15.9 ORDER BY host, sequence",
    "SELECT m.host FROM machines m JOIN (SELECT 3 AS host) t USING (host) WHERE NOT sequence > 5",
]


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_duckdb_query_by_name_gives_what_it_gives_for_arrow(dataset, rows, query):
    with duckdb.connect() as database:
        machines = rows
        expected = database.execute(query).fetchall()
        machines = dataset.to_arrow_dataset()  # noqa: F841
        assert database.execute(query).fetchall() == expected
        assert expected


def test_duckdb_filter_and_columns_reach_the_data_set(dataset, asked):
    machines = dataset.to_arrow_dataset()  # noqa: F841
    with duckdb.connect() as database:
        database.execute("SELECT sum(load) FROM machines WHERE sequence < 10").fetchall()
    ((fields, where, _),) = asked
    assert fields == ["load"]
    assert where.equals(pc.field("sequence") < pc.scalar(pyarrow.scalar(10, pyarrow.uint64())))


def test_slice_in_duckdb_reads_a_part_of_the_files(data, dataset):
    machines = dataset.to_arrow_dataset()  # noqa: F841
    with duckdb.connect() as database:
        query = "SELECT count(*) FROM machines WHERE time_ns < to_timestamp(?)"
        ((found,),) = database.execute(query, [scale_data.BEGIN // 10**9 + 60]).fetchall()
    assert 0 < found < FILES * ROWS / 100
    assert dataset.bytes_read < data.size() / 2


def test_times_as_numbers_are_compared_in_duckdb_with_epochs(data, asked):
    machines = flatstream.dataset(data.streams(), times="number").to_arrow_dataset()  # noqa: F841
    with duckdb.connect() as database:
        query = "SELECT count(*) FROM machines WHERE time_ns < epoch_ns(to_timestamp(?))"
        ((found,),) = database.execute(query, [scale_data.BEGIN // 10**9 + 60]).fetchall()
    assert 0 < found < FILES * ROWS / 100
    assert "time_ns <" in str(asked[0][1])


def test_limit_in_duckdb_reads_a_few_pieces(data, dataset, monkeypatch):
    monkeypatch.setattr("flatstream.datasets._pieces.PIECE", 64 << 10)
    machines = dataset.to_arrow_dataset()  # noqa: F841
    with duckdb.connect() as database:
        assert database.execute("SELECT sequence FROM machines LIMIT 3").fetchall() == [(1,), (2,), (3,)]
    # Some are read ahead, by other threads.
    assert dataset.bytes_read < data.size() / 2


def test_threads_end_when_a_library_stops_asking(data, monkeypatch):
    monkeypatch.setattr("flatstream.datasets._pieces.PIECE", 16 << 10)
    monkeypatch.setattr("flatstream.datasets._snapshot.SMALL", 0)
    machines = flatstream.dataset(data.streams(), threads=2).to_arrow_dataset()
    with duckdb.connect() as database:
        assert len(database.execute("SELECT sequence FROM machines WHERE load >= 0 LIMIT 3").fetchall()) == 3
    batches = machines.to_batches(batch_size=10)
    next(batches)
    reader = machines.scanner(columns=["load"]).to_reader()
    reader.read_next_batch()
    assert any(thread.name.startswith("flatstream") for thread in threading.enumerate())
    del batches, reader
    gc.collect()
    # The libraries have threads of their own that let go of it.
    wait_until(lambda: not any(thread.name.startswith("flatstream") for thread in threading.enumerate()))


def test_data_set_is_not_read_before_rows_are_asked_for(dataset):
    machines = dataset.to_arrow_dataset().filter(pc.field("host") == 1)
    assert machines.schema.equals(dataset.arrow_schema)
    scanner = machines.scanner(columns=["host"])
    assert scanner.projected_schema.names == ["host"]
    assert scanner.dataset_schema.equals(dataset.arrow_schema)
    scanner.to_reader()
    heads = dataset.bytes_read
    assert heads < 65_536
    assert machines.count_rows() == ROWS
    assert dataset.bytes_read > heads


def test_polars_scan_of_arrow_dataset_passes_on_columns_and_filter(dataset, rows, asked):
    machines = polars.scan_pyarrow_dataset(dataset.to_arrow_dataset())
    got = machines.filter(polars.col("sequence") > ROWS - 5).select("host", "sequence").collect()
    assert sorted(got.rows()) == [(host, number) for host in (1, 2, 3) for number in range(ROWS - 4, ROWS + 1)]
    assert sorted(asked[0][0]) == ["host", "sequence"]
    assert asked[0][1] is not None


# pyarrow's methods


def test_columns_come_in_the_order_and_as_often_as_asked(dataset, rows):
    machines = dataset.to_arrow_dataset()
    assert same(machines.to_table(columns=["load", "host"]), rows.select(["load", "host"]))
    assert machines.to_table(columns=["load", "host", "load"]).column_names == ["load", "host", "load"]
    assert same(machines.to_table(), rows)
    nothing = machines.to_table(columns=[])
    assert (nothing.num_rows, nothing.num_columns) == (FILES * ROWS, 0)


def test_computed_columns_are_computed(dataset, rows):
    got = dataset.to_arrow_dataset().to_table(columns={"double": pc.field("load") * 2}, filter=pc.field("host") == 2)
    assert got["double"].to_pylist() == pc.multiply(rows.filter(pc.field("host") == 2)["load"], 2).to_pylist()


def test_filters_of_several_calls_hold_together(dataset, rows):
    first, second, third = pc.field("host") > 1, pc.field("sequence") <= 20, pc.field("cpu") >= 0
    machines = dataset.to_arrow_dataset().filter(first).filter(second)
    expected = rows.filter(first & second)
    assert same(machines.to_table(filter=third), expected.filter(third))
    assert machines.count_rows() == expected.num_rows == 40
    assert same(machines.head(3), expected.slice(0, 3))
    assert machines.head(0).num_rows == 0
    assert same(machines.take([39, 0, 7]), expected.take([39, 0, 7]))
    twice = machines.take([39, 0, 7], columns=["load", "host", "load"])
    assert twice.column_names == ["load", "host", "load"]
    assert twice.column(0) == twice.column(2) == expected.take([39, 0, 7])["load"]
    assert same(pyarrow.Table.from_batches(machines.to_batches(batch_size=16)), expected)
    assert "filtered by" in repr(machines)


def test_sorting_and_joining_use_the_filtered_rows(dataset, rows):
    chosen = pc.field("sequence") == 7
    machines = dataset.to_arrow_dataset().filter(chosen)
    assert machines.sort_by([("host", "descending")]).to_table()["host"].to_pylist() == [3, 2, 1]
    names = pyarrow.table({"host": pyarrow.array([1, 3], pyarrow.uint16()), "name": ["alpha", "gamma"]})
    both = machines.join(pyarrow.dataset.dataset(names), "host", join_type="inner").to_table()
    assert sorted(both["name"].to_pylist()) == ["alpha", "gamma"]
    both = machines.join(machines, "host", right_suffix="_right").to_table()
    assert both.num_rows == FILES


COMPILED = {
    "scanner": lambda machines: pyarrow.dataset.Scanner.from_dataset(machines).to_table(),
    "fragments": lambda machines: pyarrow.concat_tables(part.to_table() for part in machines.get_fragments()),
    "other schema": lambda machines: machines.replace_schema(machines.schema).to_table(),
    "union": lambda machines: pyarrow.dataset.dataset([machines]).to_table(),
    "pickled fragments": lambda machines: pyarrow.concat_tables(
        pickle.loads(pickle.dumps(part)).to_table() for part in machines.get_fragments()
    ),
}


@pytest.mark.parametrize("way", COMPILED)
def test_compiled_functions_of_pyarrow_see_the_same_rows(dataset, rows, way):
    # They read the C++ dataset inside, past all methods of Python.
    assert same(COMPILED[way](dataset.to_arrow_dataset()), rows)


def test_empty_file_has_no_rows_for_compiled_functions(data, tmp_path):
    (tmp_path / "empty.fs").write_bytes(b"")
    (tmp_path / "full.fs").symlink_to(data.streams()[0])
    events = flatstream.dataset(tmp_path).to_arrow_dataset()
    assert [fragment.count_rows() for fragment in events.get_fragments()] == [0, ROWS]
    assert pyarrow.dataset.dataset([events, events]).count_rows() == 2 * ROWS


def test_filtered_data_set_as_the_right_side_of_a_join_stays_filtered(dataset):
    left = pyarrow.dataset.dataset(pyarrow.table({"host": pyarrow.array([1, 2], pyarrow.uint16())}))
    machines = dataset.to_arrow_dataset().filter(pc.field("sequence") == 7)
    assert left.join(machines, "host", join_type="inner").to_table().num_rows == 2
    with pytest.raises(ValueError, match="fragments of a filtered"):
        machines.get_fragments()


def test_write_dataset_writes_all_or_the_filtered_rows(dataset, rows, tmp_path):
    machines = dataset.to_arrow_dataset()
    order = [("host", "ascending"), ("sequence", "ascending")]
    pyarrow.dataset.write_dataset(machines, tmp_path / "all", format="parquet")
    assert same(pyarrow.parquet.read_table(tmp_path / "all").sort_by(order), rows)
    pyarrow.dataset.write_dataset(machines.filter(pc.field("host") == 3), tmp_path / "some", format="parquet")
    assert pyarrow.parquet.read_table(tmp_path / "some").num_rows == ROWS
    pyarrow.dataset.write_dataset(machines.scanner(columns=["host"]), tmp_path / "one", format="parquet")
    assert pyarrow.parquet.read_table(tmp_path / "one").column_names == ["host"]


def test_pickled_data_set_has_the_same_files_and_filter(dataset):
    machines = dataset.to_arrow_dataset().filter(pc.field("sequence") == 7)
    again = pickle.loads(pickle.dumps(machines))
    assert same(again.to_table(), machines.to_table())
    assert again.files == machines.files


def test_two_scans_at_once_give_the_same(dataset, rows):
    machines = dataset.to_arrow_dataset()
    found: list[pyarrow.Table] = []
    threads = [threading.Thread(target=lambda: found.append(machines.to_table(["load"]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [same(table, rows.select(["load"])) for table in found] == [True] * 3


# What goes wrong


def test_unknown_column_is_refused_with_the_names_that_there_are(dataset):
    machines = dataset.to_arrow_dataset()
    with pytest.raises(KeyError, match=r"no column 'lod'; there are cpu, .*load"):
        machines.to_table(columns=["load", "lod"])
    with pytest.raises(TypeError, match=r"must be a pyarrow.compute.Expression, got str"):
        machines.filter("load > 1")
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        machines.head(-1)


def test_damage_in_a_file_is_an_error_in_each_library(data, tmp_path):
    stream = bytearray(Path(data.streams()[0]).read_bytes())
    stream[-40] ^= 255
    (tmp_path / "damaged.fs").write_bytes(stream)
    machines = flatstream.dataset(tmp_path / "damaged.fs").to_arrow_dataset()
    with pytest.raises(flatstream.ChecksumMismatchError):
        machines.to_table()
    with duckdb.connect() as database, pytest.raises(duckdb.Error, match="checksum"):
        database.execute("SELECT sum(load) FROM machines").fetchall()
    with pytest.raises(flatstream.ChecksumMismatchError):
        pyarrow.dataset.Scanner.from_dataset(machines).to_table()


NESTED = root_of(
    """
    namespace app;
    enum Level : ubyte { debug, info, error }
    table Inner { level: Level; levels: [Level]; name: string; }
    table Event { number: int; level: Level = info; inner: Inner; inners: [Inner]; }
    root_type Event;
    """
)


def test_enums_inside_of_columns_are_strings_so_that_duckdb_hands_over_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.fs", "b.fs"):
        with flatstream.open(tmp_path / name, "w", describe=NESTED) as stream:
            records = flatstream.RecordWriter(stream, NESTED)
            for number in range(40):
                inner = {"level": number % 3, "levels": [number % 2] * (number % 3), "name": "x"}
                records.write_record(
                    {"number": number, "level": 9 if number == 5 else 2, "inner": inner if number % 4 else None}
                    | {"inners": [inner] * (number % 2)}
                )
    read = flatstream.dataset(tmp_path)
    events = read.to_arrow_dataset()
    kind = events.schema.field("inner").type
    assert kind.field("level").type == pyarrow.large_string()
    assert kind.field("levels").type.value_type == pyarrow.large_string()
    assert events.schema.field("inners").type.value_type.field("level").type == pyarrow.large_string()
    assert events.schema.field("level").type == read.arrow_schema.field("level").type
    assert events.to_table().to_pylist() == read.columns().to_pylist()
    assert events.to_table(["inners", "number"]).to_pylist() == read.columns(["inners", "number"]).to_pylist()
    # What can be asked of strings only, and what of both.
    for where in (pc.starts_with(pc.field("inner", "level"), "e"), pc.field("inner", "level") == "error"):
        found = events.to_table(filter=where)
        assert found.num_rows == events.count_rows(filter=where) == 20
        assert {row["level"] for row in found["inner"].to_pylist()} == {"error"}
    asked: list[Any] = []
    scanner = type(events).scanner

    def noted(self: Any, columns: Any = None, filter: Any = None, **options: Any) -> Any:
        asked.append(filter)
        return scanner(self, columns, filter, **options)

    monkeypatch.setattr(type(events), "scanner", noted)
    with duckdb.connect() as database:
        query = 'SELECT number, "inner".level, "inner".levels FROM events WHERE number > 35 AND level = ?'
        assert len(database.execute(query, ["error"]).fetchall()) == 8
    assert "(number > 35)" in str(asked[0])

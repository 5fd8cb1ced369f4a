"""`Dataset.scan`: polars' queries give what they give over frames, and read what they need."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest
from polars.testing import assert_frame_equal

import flatstream
from asv_benchmarks import scale_data
from flatstream.datasets._polars import grouped

FILES, ROWS = 3, 3000
BEGIN = datetime.datetime.fromtimestamp(scale_data.BEGIN // 10**9, datetime.UTC)
HOUR = datetime.timedelta(hours=1)
col = polars.col


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> scale_data.DataSet:
    """Streams with 14 columns, and the same rows as Parquet."""
    return scale_data.data_set(FILES, ROWS, tmp_path_factory.mktemp("machines") / "data")


@pytest.fixture
def dataset(data: scale_data.DataSet) -> flatstream.Dataset:
    return flatstream.dataset(data.streams())


@pytest.fixture(scope="module")
def frame(data: scale_data.DataSet) -> polars.DataFrame:
    """What it must give."""
    return polars.read_parquet(data.parquet("32k"))


@pytest.fixture
def asked(dataset: flatstream.Dataset, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How batches are asked for."""
    calls = []
    batches = type(dataset).batches

    def spy(self: Any, fields: Any = None, where: Any = None, **options: Any) -> Any:
        calls.append({"fields": fields, "where": where, **options})
        return batches(self, fields, where, **options)

    monkeypatch.setattr(type(dataset), "batches", spy)
    return calls


Query = Callable[[polars.LazyFrame], polars.LazyFrame]
QUERIES: dict[str, Query] = {
    "all": lambda rows: rows,
    "columns": lambda rows: rows.select("load", "host"),
    "length": lambda rows: rows.select(polars.len()),
    "slice of time": lambda rows: rows.filter(col("time_ns").is_between(BEGIN + HOUR, BEGIN + 2 * HOUR)),
    "filter of a column that is not given": lambda rows: rows.filter(col("cpu") > 50).select("host", "sequence"),
    "or": lambda rows: rows.filter((col("sequence") < 3) | (col("load") > 15.9)),
    "enum": lambda rows: rows.filter(col("state").cast(polars.String).is_in(["Failed", "Draining"])),
    "two filters": lambda rows: rows.filter(col("host") == 2).filter(col("sequence") % 7 == 0),
    "filter of two columns": lambda rows: rows.filter(col("received") > col("sent") * 2),
    "nothing matches": lambda rows: rows.filter(polars.lit(False)),
    "head": lambda rows: rows.head(5),
    "head of a filter": lambda rows: rows.filter(col("sequence") > 2990).head(15),
    "filter of a head": lambda rows: rows.head(3500).filter(col("sequence") < 3).select("host"),
    "slice": lambda rows: rows.slice(2990, 20),
    "tail": lambda rows: rows.tail(3),
    "numbers of rows": lambda rows: rows.with_row_index().filter(col("sequence") == 1).select("index", "host"),
    "groups": lambda rows: rows.group_by("host").agg(col("sent").max()).sort("host"),
    "join with itself": lambda rows: rows.filter(col("sequence") == 7).join(rows, on=["host", "sequence"]).sort("host"),
    "window": lambda rows: rows.filter(col("load") == col("load").max().over("host")).sort("host", "sequence"),
}


@pytest.mark.parametrize("name", QUERIES)
def test_query_gives_what_it_gives_for_a_frame(dataset, frame, name):
    query = QUERIES[name]
    expected = query(frame.lazy()).collect()
    for engine in ("in-memory", "streaming"):
        assert_frame_equal(query(dataset.scan()).collect(engine=engine), expected)


def test_scan_reads_nothing_but_the_beginnings_before_it_is_collected(dataset):
    scanned = dataset.scan().filter(col("host") == 1).select("load")
    assert dataset.bytes_read == 0
    assert scanned.collect_schema() == polars.Schema({"load": polars.Float64})
    assert dataset.bytes_read < 65_536
    assert "flatstream" in scanned.explain()


def test_filter_and_columns_reach_the_data_set(dataset, asked):
    dataset.scan().filter(col("sequence") < 10).select(col("load").sum()).collect()
    (call,) = asked
    assert sorted(call["fields"]) == ["load", "sequence"]
    assert call["where"].meta.root_names() == ["sequence"]
    assert call["limit"] is None


def test_filter_behind_a_head_is_not_passed_on_with_the_limit(dataset, asked):
    # The limit counts rows before the filter.
    dataset.scan().head(100).filter(col("sequence") < 10).collect()
    assert (asked[0]["where"], asked[0]["limit"]) == (None, 100)


def test_slice_reads_a_part_of_the_files(data, dataset):
    found = dataset.scan().filter(col("time_ns") < BEGIN + HOUR / 60).collect()
    assert 0 < len(found) < FILES * ROWS / 100
    assert dataset.bytes_read < data.size() / 2


def test_head_reads_one_file(data, dataset):
    assert dataset.scan().select("sequence").head(3).collect()["sequence"].to_list() == [1, 2, 3]
    assert dataset.bytes_read <= Path(data.streams()[0]).stat().st_size + 65_536


def test_columns_on_request_are_there_if_the_query_uses_them(data, dataset, asked):
    scanned = dataset.scan(source_file=True, frame=True)
    assert scanned.collect_schema().names()[-2:] == ["source_file", "frame"]
    rows = scanned.filter(col("sequence") == 17).select("frame", "source_file").collect()
    assert rows["frame"].to_list() == [16] * FILES
    assert rows["source_file"].cast(polars.String).to_list() == data.streams()
    assert scanned.select("host").head(1).collect().columns == ["host"]
    assert [(call["source_file"], call["frame"]) for call in asked] == [(True, True), (False, False)]
    assert "frame" not in dataset.scan().collect_schema()


def test_query_of_polars_reaches_the_data_set_through_duckdb(dataset, asked):
    duckdb = pytest.importorskip("duckdb")
    machines = dataset.scan()  # noqa: F841 - DuckDB finds it by its name
    with duckdb.connect() as database:
        rows = database.execute("SELECT host, load FROM machines WHERE sequence = 7 ORDER BY host").fetchall()
    assert [host for host, _ in rows] == [1, 2, 3]
    assert sorted(asked[0]["fields"]) == ["host", "load", "sequence"]


def test_batches_are_grouped_more_and_more_until_they_have_the_rows():
    import pyarrow

    batch = pyarrow.record_batch({"number": [1, 2]})
    assert [len(group) for group in grouped([batch] * 20, 1000)] == [1, 2, 4, 8, 5]
    assert [len(group) for group in grouped([batch] * 10, 4)] == [1, 2, 2, 2, 2, 1]
    assert list(grouped([], 4)) == []
    pulled: list[int] = []

    def pull():
        for number in range(9):
            pulled.append(number)
            yield batch

    groups = grouped(pull(), 1000)
    next(groups)
    assert pulled == [0]


def test_damage_is_an_error_of_the_query(data, tmp_path):
    stream = bytearray(Path(data.streams()[0]).read_bytes())
    stream[-40] ^= 255
    (tmp_path / "damaged.fs").write_bytes(stream)
    scanned = flatstream.dataset(tmp_path / "damaged.fs").scan()
    with pytest.raises(
        (flatstream.ChecksumMismatchError, polars.exceptions.ComputeError), match=r"damaged\.fs.*checksum"
    ):
        scanned.select("load").collect()
    assert len(flatstream.dataset(tmp_path / "damaged.fs", on_error="skip").scan().collect()) == ROWS - 1


def test_scan_without_polars_says_what_to_install(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"scan\(\) needs polars 1.33 or later: pip install 'flatstream\[columns\]'"):
        dataset.scan()


def test_scan_with_an_old_polars_says_so(dataset, monkeypatch):
    monkeypatch.setattr(polars, "__version__", "1.9.0")
    with pytest.raises(ImportError, match=r"needs polars 1.33 or later, and this is 1.9.0"):
        dataset.scan()
    monkeypatch.setattr(polars, "__version__", "3.0.0-beta.1")
    assert len(dataset.scan().head(2).collect()) == 2


def test_options_that_an_older_polars_lacks_are_left_out(dataset, monkeypatch):
    import polars.io.plugins as plugins

    register = plugins.register_io_source

    def older(io_source: Any, *, schema: Any) -> Any:
        return register(io_source, schema=schema)

    monkeypatch.setattr(plugins, "register_io_source", older)
    assert len(dataset.scan().head(2).collect()) == 2

"""Datasets in Dask, with two processes as workers."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from asv_benchmarks.scale_data import BEGIN
from support.engines import FILES, ROWS, kill_once, write_files

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]

HOUR = 3600 * 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dask") / "data"


@pytest.fixture(scope="module")
def table(folder: Path) -> Any:
    """The rows of the files in `folder`."""
    pytest.importorskip("dask.dataframe")
    return write_files(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two processes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as made,
        distributed.Client(made) as client,
    ):
        yield client


def read(*arguments: Any, **options: Any) -> Any:
    from flatstream.engines.dask import read

    return read(*arguments, **options)


def as_arrow(frame: Any) -> Any:
    """A data frame of pandas as an Arrow table, without its index."""
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()


def same(found: Any, expected: Any) -> None:
    """Two tables have the same values; nothing is said of types that hold the same, as strings of two kinds."""
    assert found.column_names == expected.column_names
    assert found.cast(expected.schema).equals(expected)


def test_all_rows_come_once_and_in_order(folder: Path, table: Any, cluster: Any) -> None:
    frame = read(folder, partitions=5)
    assert frame.npartitions == 5
    found = frame.compute()
    same(as_arrow(found), table)
    assert found.dtypes.equals(frame.dtypes)
    assert str(found.dtypes["sequence"]) == "uint64"
    assert str(found.dtypes["time_ns"]) == "datetime64[ns, UTC]"


def test_arrow_types_are_kept_where_they_are_asked_for(folder: Path, table: Any, cluster: Any) -> None:
    frame = read(folder, partitions=3, dtype_backend="pyarrow")
    found = frame.compute()
    same(as_arrow(found), table)
    assert found.dtypes.equals(frame.dtypes)
    assert str(found.dtypes["sequence"]) == "uint64[pyarrow]"


def test_aggregates_are_those_of_the_table(folder: Path, table: Any, cluster: Any) -> None:
    frame = read(folder, partitions=6)
    found = frame.groupby("state").sequence.sum().compute()
    expected = table.group_by("state").aggregate([("sequence", "sum")])
    assert found.to_dict() == {row["state"]: row["sequence_sum"] for row in expected.to_pylist()}
    assert len(frame) == table.num_rows
    assert frame.memory_used.max().compute() == max(table.column("memory_used").to_pylist())


def test_only_the_columns_that_dask_needs_are_read(folder: Path, table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import flatstream.engines.dask

    module: Any = flatstream.engines.dask
    asked = []
    original = module.read_split

    def noting(split: Any, columns: Any) -> Any:
        asked.append(columns)
        return original(split, columns)

    monkeypatch.setattr(module, "read_split", noting)
    frame = read(folder, partitions=2)
    frame[frame.host == 2].sequence.sum().compute(scheduler="sync")
    assert asked
    assert all(sorted(columns) == ["host", "sequence"] for columns in asked)


def test_conditions_and_columns_choose_what_is_read(folder: Path, table: Any, cluster: Any) -> None:
    import pyarrow.compute as pc

    frame = read(folder, ["sequence", "host"], [("host", "==", 3), ("sequence", "<=", 100)], partitions=4)
    expected = table.filter((pc.field("host") == 3) & (pc.field("sequence") <= 100)).select(["sequence", "host"])
    same(as_arrow(frame.compute()), expected)


def test_no_rows_are_an_empty_data_frame(folder: Path, table: Any, cluster: Any) -> None:
    frame = read(folder, where=[("host", "==", 99)])
    found = frame.compute()
    assert len(found) == 0
    assert found.dtypes.equals(frame.dtypes)
    assert list(found.columns) == table.column_names


def test_a_dataset_that_is_made_already_is_read(folder: Path, table: Any, cluster: Any) -> None:
    dataset = flatstream.dataset(folder / "host-01.fs")
    assert len(read(dataset)) == ROWS
    with pytest.raises(TypeError, match="on_error"):
        read(dataset, on_error="skip")


def test_the_time_as_index_has_divisions_and_finds_slices(folder: Path, table: Any, cluster: Any) -> None:
    import pandas as pd
    import pyarrow.compute as pc

    frame = read(folder, ["sequence", "host"], index="time_ns", partitions=5)
    assert frame.known_divisions
    assert frame.npartitions == 5
    assert frame.index.name == "time_ns"
    whole = frame.compute()
    assert whole.index.is_monotonic_increasing
    assert len(whole) == table.num_rows
    assert whole.sequence.sum() == pc.sum(table.column("sequence")).as_py()
    begin, end = (pd.Timestamp(BEGIN + hours * HOUR, tz="UTC") for hours in (3, 4))
    part = frame.loc[begin:end]
    assert part.npartitions <= 2
    expected = table.filter((pc.field("time_ns") >= begin) & (pc.field("time_ns") <= end))
    found = part.compute()
    assert sorted(zip(found.host, found.sequence, strict=True)) == sorted(
        (row["host"], row["sequence"]) for row in expected.to_pylist()
    )


def test_the_time_as_index_needs_an_index_of_each_file(folder: Path, table: Any, tmp_path: Path) -> None:
    (tmp_path / "a.fs").write_bytes((folder / "host-00.fs").read_bytes())
    with pytest.raises(ValueError, match=r"a\.fs.*no index"):
        read(tmp_path, index=True)
    with pytest.raises(ValueError, match="'sequence' is not the time"):
        read(folder, index="sequence")


def test_a_worker_that_is_killed_costs_no_row(folder: Path, table: Any, cluster: Any, tmp_path: Path) -> None:
    before = set(cluster.run(os.getpid).values())
    marker = str(tmp_path / "killed")
    frame = read(folder, partitions=8)

    def killing(part: Any, partition_info: Any = None) -> Any:
        if partition_info is not None and partition_info["number"] == 3:
            kill_once(marker)
        return part

    found = frame.map_partitions(killing, meta=frame._meta).compute()
    assert os.path.exists(marker)
    same(as_arrow(found), table)
    after = set(cluster.run(os.getpid).values())
    assert len(before & after) == 1


def test_damage_is_an_error_with_the_path_unless_it_is_left_out(
    folder: Path, table: Any, cluster: Any, tmp_path: Path
) -> None:
    data = bytearray((folder / "host-00.fs").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "damaged.fs").write_bytes(data)
    with pytest.raises(flatstream.FlatStreamError, match=r"damaged\.fs"):
        read(tmp_path, partitions=3).compute()
    assert len(read(tmp_path, partitions=3, on_error="resync")) == ROWS - 1


def test_a_task_is_small(folder: Path, table: Any) -> None:
    from flatstream.engines.dask import _Reader

    frame = read(folder, partitions=FILES)
    (operation,) = (one for one in frame.expr.walk() if "func" in one._parameters)
    reader, splits = operation.operand("func"), operation.operand("iterables")[0]
    assert isinstance(reader, _Reader)
    assert len(pickle.dumps(reader)) < 4096
    # What they have in common is there once.
    assert len(pickle.dumps(splits)) - len(pickle.dumps(splits[0])) < 300 * (FILES - 1)


@pytest.mark.parametrize("times", ["us", "s", "number"])
def test_divisions_have_the_unit_of_the_column(folder: Path, table: Any, times: str) -> None:
    frame = read(folder, ["sequence"], index=True, partitions=4, times=times)
    assert frame.known_divisions
    parts = [part.compute(scheduler="sync") for part in frame.partitions]
    for part, first, last in zip(parts, frame.divisions, frame.divisions[1:], strict=False):
        assert first <= part.index[0]
        assert part.index[-1] <= last if part is parts[-1] else part.index[-1] < last
    assert sum(map(len, parts)) == table.num_rows


def test_wrong_arguments_are_refused(folder: Path, table: Any) -> None:
    with pytest.raises(KeyError, match="no field 'nothing'"):
        read(folder, ["nothing"])
    with pytest.raises(TypeError, match="several names"):
        read(folder, "host")
    with pytest.raises(ValueError, match="n must be"):
        read(folder, partitions=0)
    with pytest.raises(ValueError, match="dtype_backend"):
        read(folder, dtype_backend="numpy")
    with pytest.raises(FileNotFoundError):
        read(folder / "nothing")

"""Datasets in Ray, with two worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from support.engines import FILES, ROWS, kill_once, write_files

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray") / "data"


@pytest.fixture(scope="module")
def table(folder: Path) -> Any:
    """The rows of the files in `folder`."""
    pytest.importorskip("ray.data")
    return write_files(folder)


@pytest.fixture(scope="module", autouse=True)
def cluster(table: Any) -> Iterator[None]:
    """Ray with two processors, so that there are two workers at a time."""
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 << 20,
        # Workers import the modules of the tests, too.
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(["tests", ".", os.environ.get("PYTHONPATH", "")])}},
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    yield
    ray.shutdown()


def read(*arguments: Any, **options: Any) -> Any:
    from flatstream.engines.ray import read

    return read(*arguments, **options)


def as_arrow(dataset: Any) -> Any:
    """All rows of a dataset of Ray, in their order."""
    import pyarrow as pa
    import ray

    return pa.concat_tables(ray.get(dataset.to_arrow_refs()))


def test_all_rows_come_once_and_in_order(folder: Path, table: Any) -> None:
    found = as_arrow(read(folder, partitions=5))
    assert found.schema.equals(table.schema)
    assert found.equals(table)


def test_rows_are_counted_and_aggregated(folder: Path, table: Any) -> None:
    import pyarrow.compute as pc

    dataset = read(folder, partitions=4)
    assert dataset.count() == table.num_rows
    expected = {host + 1: ROWS for host in range(FILES)}
    found = dataset.groupby("host").count().take_all()
    assert {row["host"]: row["count()"] for row in found} == expected
    assert dataset.max("memory_used") == pc.max(table.column("memory_used")).as_py()
    assert (
        dataset.select_columns(["state"]).unique("state").sort() == pc.unique(table.column("state")).to_pylist().sort()
    )


def test_conditions_and_columns_choose_what_is_read(folder: Path, table: Any) -> None:
    import pyarrow.compute as pc

    dataset = read(folder, ["sequence", "host"], [("host", "==", 3), ("sequence", "<=", 100)], partitions=4)
    expected = table.filter((pc.field("host") == 3) & (pc.field("sequence") <= 100)).select(["sequence", "host"])
    assert as_arrow(dataset).equals(expected)


def test_columns_that_ray_selects_are_read_alone(folder: Path, table: Any) -> None:
    from flatstream.engines.ray import make_datasource

    datasource = make_datasource(flatstream.dataset(folder))
    projected = datasource.apply_projection({"cpu": "cpu", "host": "host"})
    (task,) = projected.get_read_tasks(1)
    assert {name for block in task() for name in block.column_names} == {"cpu", "host"}
    found = as_arrow(read(folder, partitions=3).select_columns(["cpu", "host"]))
    assert found.equals(table.select(["cpu", "host"]))


def test_no_rows_are_an_empty_dataset(folder: Path) -> None:
    dataset = read(folder, where=[("host", "==", 99)])
    assert dataset.count() == 0
    assert dataset.take_all() == []


def test_a_dataset_that_is_made_already_is_read(folder: Path) -> None:
    dataset = flatstream.dataset(folder / "host-01.fs")
    assert read(dataset).count() == ROWS
    with pytest.raises(TypeError, match="on_error"):
        read(dataset, on_error="skip")


def test_a_worker_that_is_killed_costs_no_row(folder: Path, table: Any, tmp_path: Path) -> None:
    marker = str(tmp_path / "killed")

    def killing(block: Any) -> Any:
        # In the middle of reading: the task has given some blocks already, and has others to give.
        if block.column("sequence")[0].as_py() > ROWS // 2:
            kill_once(marker)
        return block

    dataset = read(folder, partitions=6).map_batches(killing, batch_format="pyarrow", batch_size=1000)
    found = as_arrow(dataset)
    assert os.path.exists(marker)
    assert found.equals(table)


def test_damage_is_an_error_with_the_path_unless_it_is_left_out(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "host-00.fs").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "damaged.fs").write_bytes(data)
    with pytest.raises(Exception, match=r"damaged\.fs"):
        read(tmp_path, partitions=3).materialize()
    assert read(tmp_path, partitions=3, on_error="resync").count() == ROWS - 1


def test_a_task_is_small(folder: Path) -> None:
    from ray import cloudpickle

    from flatstream.engines.ray import make_datasource

    for task in make_datasource(flatstream.dataset(folder)).get_read_tasks(FILES):
        assert len(cloudpickle.dumps(task)) < 4096


def test_wrong_arguments_are_refused(folder: Path) -> None:
    with pytest.raises(KeyError, match="no field 'nothing'"):
        read(folder, ["nothing"])
    with pytest.raises(TypeError, match="several names"):
        read(folder, "host")
    with pytest.raises(ValueError, match="partitions must be"):
        read(folder, partitions=0)
    with pytest.raises(FileNotFoundError):
        read(folder / "nothing")

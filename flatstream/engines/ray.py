"""Datasets in Ray (the extra ``ray``): `read` gives a `ray.data.Dataset`.

A read task is a split of the dataset: ranges of bytes, which the worker reads itself. So all workers must see the files
under the same paths, on a shared file system or by URLs.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flatstream._core.base.checks import int_argument
from flatstream.datasets.splits import Split, planned_size, read_split
from flatstream.engines._tables import as_dataset, cast_batch, changed_schema, plain_type, projected

if TYPE_CHECKING:
    import pyarrow as pa

    from flatstream.datasets import Dataset

__all__ = ["make_datasource", "read"]

INSTALL = "pip install 'flatstream[ray]'"

# A task is of so many bytes at least.
LEAST_BYTES = 8 << 20

# The first version whose projections are those that `_Source` was tested with.
PROJECTS = (2, 60)


def read(
    source: Dataset | str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    columns: Iterable[str] | None = None,
    where: Any = None,
    partitions: int | None = None,
    *,
    ray_options: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A dataset as one of Ray.

    Parameters
    ----------
    source : Dataset or paths
        What `flatstream.dataset` gave, or what it takes.
    columns : iterable of str, optional
        The columns to read; all by default. Ray 2.60 or later also tells which ones it needs, if it is asked by
        ``select_columns``.
    where : optional
        Which rows to read, as for `Dataset.batches`. Ray's own filters are applied to rows that were read.
    partitions : int, optional
        The number of read tasks, some 64 MB each by default. A task may be of many files.
    ray_options : dict, optional
        The options of `ray.data.read_datasource`, such as ``{"concurrency": 8}``.
    **options
        Those of `flatstream.dataset`, if `source` is paths.

    Returns
    -------
    ray.data.Dataset
        In the order of files and frames. Enums are strings.

    Raises
    ------
    ImportError
        Ray is not installed; the message names the extra.
    LookupError
        There is no such column.
    Exception
        What `flatstream.dataset` raises.

    Examples
    --------
    ``flatstream.engines.ray.read("data/*.fs", ["time_ns", "cpu"], [("cpu", ">", 0.9)]).groupby("host").mean("cpu")``
    """
    data = _import_ray()
    datasource = make_datasource(as_dataset(source, options), columns, where, partitions)
    return data.read_datasource(datasource, override_num_blocks=partitions, **(ray_options or {}))


def make_datasource(
    dataset: Dataset, columns: Iterable[str] | None = None, where: Any = None, partitions: int | None = None
) -> Any:
    """The `ray.data.Datasource` of a dataset, for `ray.data.read_datasource`; the parameters are those of `read`."""
    names = None if columns is None else projected(dataset, columns).names
    if partitions is not None:
        partitions = int_argument("partitions", partitions, 1, 1_000_000)
    return _datasource_class()(dataset, names, where, partitions)


def _import_ray() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(f"flatstream.engines.ray needs the packages of Ray Data: {INSTALL} ({error})") from None
    return ray.data


@functools.cache
def _datasource_class() -> Any:
    """The class, which cannot be made before Ray is imported."""
    data = _import_ray()
    import ray

    knows_projections = tuple(int(part) for part in ray.__version__.split(".")[:2]) >= PROJECTS

    class FlatstreamDatasource(data.Datasource):  # type: ignore[misc,name-defined]
        """The splits of a dataset as read tasks."""

        def __init__(self, dataset: Dataset, columns: list[str] | None, where: Any, partitions: int | None) -> None:
            super().__init__()
            self._dataset = dataset
            self._columns = columns
            self._where = where
            self._partitions = partitions
            self._splits: dict[int, list[Split]] = {}
            self._size: int | None = None
            # What the base class's `apply_projection` combines.
            self._projection_map: dict[str, str] | None = None

        def get_name(self) -> str:
            return "Flatstream"

        def supports_projection_pushdown(self) -> bool:
            return knows_projections

        def estimate_inmemory_data_size(self) -> int | None:
            # Columns take less than messages do, as a rule, and this is what Ray chooses the number of tasks by.
            if self._size is None:
                self._size = planned_size(self._dataset, self._where)
            return self._size

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[Any]:
            columns = self._columns
            if self._projection_map is not None:
                columns = [name for name in self._projection_map if columns is None or name in columns]
            count = self._suitable(parallelism) if self._partitions is None else self._partitions
            splits = self._plan(count)
            limit = {} if per_task_row_limit is None else {"per_task_row_limit": per_task_row_limit}
            return [_task(data, split, columns, self._where, limit) for split in splits]

        def _suitable(self, parallelism: int) -> int:
            # Ray asks for some 200 tasks where it has two processors, each of which takes it some milliseconds.
            return max(1, min(parallelism, (self.estimate_inmemory_data_size() or 0) // LEAST_BYTES))

        def _plan(self, count: int) -> list[Split]:
            # Ray asks for the tasks of the same plan several times.
            if count not in self._splits:
                self._splits[count] = self._dataset.splits(count, self._where)
            return self._splits[count]

    return FlatstreamDatasource


def _task(data: Any, split: Split, columns: list[str] | None, where: Any, limit: dict[str, int]) -> Any:
    from ray.data.block import BlockMetadata

    # The number of rows is not said: it is known only for files with an index, and an index may be wrong.
    metadata = BlockMetadata(num_rows=None, size_bytes=split.size, input_files=list(split.paths), exec_stats=None)
    # A function of this module with small arguments: one that closes over the datasource is pickled with all of it.
    return data.ReadTask(functools.partial(_blocks, split, columns), metadata, **limit)


def _blocks(split: Split, columns: list[str] | None) -> Iterator[pa.Table]:
    """What a read task does, in a worker."""
    import pyarrow as pa

    # Without a column Ray forgets how many rows a table has.
    names = columns or split.source.arrow_schema.names[:1] if columns is not None else None
    schema = changed_schema(projected(split.source, names), plain_type, nullable=True)
    count = 0
    for batch in read_split(split, names):
        count += 1
        yield pa.Table.from_batches([cast_batch(batch, schema)])
    if not count:
        yield schema.empty_table()

"""Datasets in Dask (the extra ``dask``): `read` gives a `dask.dataframe.DataFrame`.

A partition is a split of the dataset: ranges of bytes, which the worker reads itself. So all workers must see the files
under the same paths, on a shared file system or by URLs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from flatstream.datasets.splits import Split, read_split, split_by_time, ticks
from flatstream.engines._tables import as_dataset, cast_batch, changed_schema, plain_type, projected

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from flatstream.datasets import Dataset

__all__ = ["read"]

INSTALL = "pip install 'flatstream[dask]'"


def read(
    source: Dataset | str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    columns: Iterable[str] | None = None,
    where: Any = None,
    partitions: int | None = None,
    *,
    index: str | bool | None = None,
    dtype_backend: Literal["pyarrow"] | None = None,
    **options: Any,
) -> Any:
    """A dataset as a data frame of Dask.

    Parameters
    ----------
    source : Dataset or paths
        What `flatstream.dataset` gave, or what it takes.
    columns : iterable of str, optional
        The columns to read; all by default. Of these, Dask reads those that it needs.
    where : optional
        Which rows to read, as for `Dataset.batches`. Dask does not hand filters on: those of the data frame are applied
        to rows that were read.
    partitions : int, optional
        How many, some 64 MB each by default. A partition may be of many files.
    index : str or bool, optional
        The time field, or True for it: the column becomes the index of the data frame, whose partitions are time
        ranges, with known divisions, and are sorted. That needs an index beside each file: see
        `flatstream.build_index`.
    dtype_backend : "pyarrow", optional
        Types of Arrow for all columns. By default, numbers, bools and times that are never null have types of NumPy,
        and the others those of Arrow. Enums are strings.
    **options
        Those of `flatstream.dataset`, if `source` is paths.

    Returns
    -------
    dask.dataframe.DataFrame
        In the order of files and frames; with `index`, in the order of times.

    Raises
    ------
    ImportError
        Dask or pandas is not installed; the message names the extra.
    KeyError
        There is no such column.
    ValueError
        `index` is not the time field, or a file has no index that fits, so that the order of times is not known.
    Exception
        What `flatstream.dataset` raises.

    Examples
    --------
    ``flatstream.engines.dask.read("data/*.fs", where=[("cpu", ">", 90.0)]).groupby("host").cpu.mean().compute()``
    """
    try:
        import dask.dataframe as dd
    except ImportError as error:
        raise ImportError(f"flatstream.engines.dask needs the packages of Dask: {INSTALL} ({error})") from None
    if dtype_backend not in (None, "pyarrow"):
        raise ValueError(f"dtype_backend must be None or 'pyarrow', got {dtype_backend!r:.100}")
    dataset = as_dataset(source, options)
    schema = changed_schema(projected(dataset, columns), plain_type)
    divisions = None
    field = None
    if index is None or index is False:
        splits = dataset.splits(partitions, where)
    else:
        field, splits = split_by_time(dataset, None if index is True else index, partitions, where)
        names = [field, *(name for name in schema.names if name != field)]
        schema = changed_schema(projected(dataset, names), plain_type)
        divisions = _divisions(dataset, splits, schema.field(field).type)
    reader = _Reader(schema, dtype_backend, field)
    if not splits:
        return dd.from_pandas(reader.meta, npartitions=1)
    return dd.from_map(
        reader,
        splits,
        meta=reader.meta,
        divisions=divisions,
        label="flatstream",
        enforce_metadata=False,
    )


def _divisions(dataset: Dataset, splits: list[Split], of: pa.DataType) -> tuple[Any, ...]:
    """The first time of each split, and the last of all, as values of the column."""
    import pandas as pd
    import pyarrow as pa

    ranges = [split.times for split in splits if split.times is not None]
    if not ranges:
        return (None, None)
    # The last division belongs to the last partition.
    bounds = [begin for begin, _ in ranges] + [ranges[-1][1] - 1]
    if not pa.types.is_timestamp(of):
        return tuple(bounds)
    # The column may have a coarser unit, of which each split has whole ones.
    scale = ticks(dataset)
    values = pd.Series([bound // scale for bound in bounds], dtype="int64")
    return tuple(values.astype(f"datetime64[{of.unit}]").dt.tz_localize("UTC"))


class _Reader:
    """What makes a partition of a split, in a worker. Dask pickles it once with the graph, and asks for columns."""

    def __init__(self, schema: pa.Schema, dtype_backend: str | None, index: str | None) -> None:
        self._schema = schema
        self._dtype_backend = dtype_backend
        self._index = index

    @property
    def meta(self) -> pd.DataFrame:
        """A data frame without rows."""
        return self._frame(self._schema.empty_table(), self._schema.names)

    def __call__(self, split: Split, columns: list[str] | None = None) -> pd.DataFrame:
        import pyarrow as pa

        shown = [name for name in self._schema.names if name != self._index] if columns is None else list(columns)
        names = shown if self._index is None else [self._index, *shown]
        schema = pa.schema([self._schema.field(name) for name in names])
        batches = [cast_batch(batch, schema) for batch in read_split(split, names)]
        if not names:
            return self._without_columns(sum(batch.num_rows for batch in batches))
        return self._frame(pa.Table.from_batches(batches, schema), names)

    @staticmethod
    def _without_columns(rows: int) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(index=pd.RangeIndex(rows))

    def _frame(self, table: pa.Table, names: list[str]) -> pd.DataFrame:
        import pandas as pd

        made = pd.DataFrame({name: self._series(table.column(name), table.field(name)) for name in names}, copy=False)
        if self._index is None:
            return made
        made = made.set_index(self._index)
        # Files are read one after the other, and each begins anew.
        return made if made.index.is_monotonic_increasing else made.sort_index(kind="stable")

    def _series(self, column: pa.ChunkedArray, field: pa.Field) -> pd.Series:
        import pandas as pd
        import pyarrow as pa

        types = pa.types
        of = field.type
        plain = types.is_integer(of) or types.is_floating(of) or types.is_boolean(of) or types.is_timestamp(of)
        if self._dtype_backend is None and plain and not field.nullable:
            return column.to_pandas()
        return pd.Series(pd.arrays.ArrowExtensionArray(column))

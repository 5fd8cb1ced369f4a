"""A dataset as a polars LazyFrame: polars passes on which columns and rows a query needs.

polars calls a registered source with the columns that the query and its filter use, the filter, a number of rows and a
number of rows in a batch, each of which may be None (seen with polars 2.1):

- It does not apply the filter again, so the source must apply all of it. If polars cannot hand the filter over, it
  applies it itself and passes None.
- A number of rows counts rows before the filter: ``head(3).filter(...)`` gives both, ``filter(...).head(3)`` the filter
  only, and then polars stops pulling when it has enough.

The interface is unstable by polars' own word. Nothing private is used, and options that a version does not have are
left out. The filter is read by `Predicate`, which reads all rows where it does not know an expression.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow

if TYPE_CHECKING:
    import polars

    from flatstream.datasets._dataset import Dataset

BATCH_ROWS = 65_536
OLDEST = "1.33 or later"
# The names of the columns on request.
SOURCE_FILE, FRAME = "source_file", "frame"


def scan(dataset: Dataset, *, source_file: bool = False, frame: bool = False) -> polars.LazyFrame:
    """A LazyFrame of the rows of `dataset`; see `Dataset.scan`."""
    try:
        import polars
        from polars.io.plugins import register_io_source
    except ImportError as error:
        raise ImportError(f"scan() needs polars {OLDEST}: pip install 'flatstream[columns]'") from error
    if _is_too_old(polars.__version__):
        raise ImportError(f"scan() needs polars {OLDEST}, and this is {polars.__version__}")

    def schema() -> polars.Schema:
        # By way of an empty frame, which has the types that polars makes of the batches.
        return polars.DataFrame(dataset._query(None, None, 1, source_file, frame).given.empty_table()).schema

    def source(
        columns: list[str] | None, predicate: polars.Expr | None, rows: int | None, batch_rows: int | None
    ) -> Iterator[polars.DataFrame]:
        # The first `rows` rows, of which the filter then takes some.
        first, later = (predicate, None) if rows is None else (None, predicate)
        added = {name for name, asked in ((SOURCE_FILE, source_file), (FRAME, frame)) if asked}
        batches = dataset.batches(
            None if columns is None else [name for name in columns if name not in added],
            first,
            batch_rows=batch_rows or BATCH_ROWS,
            limit=rows,
            source_file=SOURCE_FILE in added and (columns is None or SOURCE_FILE in columns),
            frame=FRAME in added and (columns is None or FRAME in columns),
            # Other threads would read ahead what nobody asks for.
            threads=1 if rows is not None and rows <= BATCH_ROWS else None,
        )
        for together in grouped(batches, batch_rows or BATCH_ROWS):
            part = polars.DataFrame(pyarrow.Table.from_batches(together))
            if later is not None:
                part = part.filter(later)
            yield part if columns is None else part.select(columns)

    known = inspect.signature(register_io_source).parameters
    options: dict[str, Any] = {"is_pure": True, "explain_name": "flatstream"}
    return register_io_source(
        source, schema=schema, **{name: value for name, value in options.items() if name in known}
    )


def _is_too_old(version: str) -> bool:
    """Whether this version of polars gives the columns of a source in another order than the query has them."""
    numbers = version.split(".")[:2]
    return all(number.isdecimal() for number in numbers) and tuple(map(int, numbers)) < (1, 33)


def grouped(batches: Iterable[pyarrow.RecordBatch], rows: int) -> Iterator[list[pyarrow.RecordBatch]]:
    """Batches in groups of at least `rows` rows, because a group costs polars as much as a batch.

    The first groups are smaller, so that a query that needs few rows gets them soon: of 1, 2, 4 and so on batches.
    """
    group: list[pyarrow.RecordBatch] = []
    size, most = 0, 1
    for batch in batches:
        group.append(batch)
        size += batch.num_rows
        if len(group) >= most or size >= rows:
            yield group
            group, size, most = [], 0, most * 2
    if group:
        yield group

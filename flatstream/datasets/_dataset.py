"""`flatstream.dataset`: many files as one table."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from flatstream._core.base.checks import int_argument
from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.datasets._heads import Head, Options, read_head
from flatstream.datasets._parts import Part, find_parts
from flatstream.datasets._reading import Outcome, Position, Query, read_sequentially
from flatstream.datasets._unify import Kind, unify
from flatstream.tools.inputs import load_schema, pick_table

if TYPE_CHECKING:
    from flatstream.schema import Schema, Table
    from flatstream.transforms.ciphers import Cipher

__all__ = ["Dataset", "dataset"]

PathLike = str | os.PathLike[str]


def dataset(
    paths: PathLike | Iterable[PathLike],
    table: Table | str | None = None,
    checksum: Checksum | ChecksumType | str | None = None,
    *,
    schema: Schema | PathLike | None = None,
    on_error: Literal["raise", "skip", "stop", "resync"] = "raise",
    torn_end: Literal["stop", "raise"] = "stop",
    cipher: Cipher | None = None,
    times: Literal["timestamp", "number"] = "timestamp",
    use_index: bool = True,
    threads: int | None = None,
) -> Dataset:
    """Many files as one table. See `Dataset`."""
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    given = [os.fspath(path) for path in listed]
    for name, value, known in (
        ("on_error", on_error, ("raise", "skip", "stop", "resync")),
        ("torn_end", torn_end, ("stop", "raise")),
        ("times", times, ("timestamp", "number")),
    ):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r:.100}")
    if checksum is not None:
        as_checksum(checksum)
    undescribed = table if table is not None and not isinstance(table, str) else None
    if schema is not None:
        if undescribed is not None:
            raise ValueError("expected a schema or a Table, which has one, got both")
        made = load_schema(schema, table if isinstance(table, str) else None)
        tables = {} if made.root is None else {made.file_identifier: made.root}
        undescribed = pick_table(tables, made, table if isinstance(table, str) else None)
    if threads is not None:
        threads = int_argument("threads", threads, 1, 1024)
    options = Options(checksum, table, undescribed, on_error, torn_end, cipher, times, bool(use_index), threads)
    return Dataset(given, options, find_parts(given))


class Dataset:
    """The messages of many files, as one table."""

    def __init__(self, paths: list[str], options: Options, parts: list[Part]) -> None:
        self._paths = paths
        self._options = options
        self._parts = parts
        self._lock = threading.Lock()
        self._heads: dict[int, Head] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._schemas: dict[tuple[str, ...] | None, pa.Schema] = {}
        self._bytes_read = 0

    # What it is

    def _head(self, number: int) -> Head:
        head = self._heads.get(number)
        if head is None:
            guess = next(iter(self._heads.values())).checksum if self._heads else ChecksumType.XXHASH64
            head = read_head(self._parts[number], self._options, guess)
            if self._options.times == "number":
                head = replace(head, time=None)
            self._heads[number] = head
        return head

    def _kinds(self) -> list[Kind]:
        """The tables of the files, each with one of them."""
        found: dict[Any, Kind] = {}
        for number, part in enumerate(self._parts):
            head = self._head(number)
            if head.table is not None:
                kind = Kind(head.table, head.time, part.path)
                found.setdefault(kind.key, kind)
        return list(found.values())

    def _schema(self, fields: tuple[str, ...] | None) -> pa.Schema:
        made = self._schemas.get(fields)
        if made is None:
            made = self._schemas[fields] = unify(self._kinds(), fields)
        return made

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns of the dataset, and their types."""
        return self._schema(None)

    @property
    def bytes_read(self) -> int:
        """How many bytes of streams this object has read."""
        return self._bytes_read

    # Reading

    def _query(
        self, fields: Iterable[str] | None, where: Any, batch_rows: int, source_file: bool, frame: bool
    ) -> Query:
        if isinstance(fields, str):
            raise TypeError(f"fields must be a list of paths, got a str: {fields!r:.100}")
        schema = self._schema(None if fields is None else tuple(fields))
        return Query(schema, schema, where, batch_rows, self._options, source_file, frame)

    def batches(
        self,
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        batch_rows: int = 65_536,
        limit: int | None = None,
        source_file: bool = False,
        frame: bool = False,
        threads: int | None = None,
        progress: Any = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows, batch by batch, in the order of the files and of the frames in each."""
        query = self._query(fields, where, batch_rows, source_file, frame)
        return self._read(query, limit, progress)

    def _read(self, query: Query, limit: int | None, progress: Any) -> Iterator[pa.RecordBatch]:
        left = limit
        if left == 0:
            return
        rows = 0
        for number, part in enumerate(self._parts):
            head = self._head(number)
            if head.table is None:
                continue
            outcome = Outcome()
            try:
                for batch, _ in read_sequentially(part, head, query, outcome, Position(head.begin, 0)):
                    if not batch.num_rows:
                        continue
                    if left is not None:
                        batch = batch.slice(0, left)
                        left -= batch.num_rows
                    rows += batch.num_rows
                    yield batch
                    if left == 0:
                        return
            finally:
                with self._lock:
                    self._bytes_read += outcome.bytes_read
                    self._outcomes[number] = outcome

    def columns(
        self,
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        limit: int | None = None,
        source_file: bool = False,
        frame: bool = False,
        progress: Any = None,
    ) -> pa.Table:
        """All rows, as one pyarrow.Table."""
        query = self._query(fields, where, 65_536, source_file, frame)
        return pa.Table.from_batches(self._read(query, limit, progress), query.given)

    def count(self, where: Any = None) -> int:
        """The number of rows."""
        return sum(batch.num_rows for batch in self.batches([], where))

    def head(self, n: int = 10) -> pa.Table:
        """The first rows."""
        return self.columns(limit=n)

    # Other libraries

    def scan(self) -> Any:
        """A polars.LazyFrame of the dataset."""
        from flatstream.datasets._polars import scan

        return scan(self)

    def to_arrow_dataset(self) -> Any:
        """A pyarrow.dataset.Dataset, which DuckDB, polars and pyarrow query."""
        from flatstream.datasets._arrow import arrow_dataset

        return arrow_dataset(self)

    def splits(self, n: int | None = None, where: Any = None) -> Any:
        """Pieces of the dataset for other processes; see `flatstream.read_split`."""
        from flatstream.datasets.splits import plan_splits

        return plan_splits(self, n, where)

    def to_parquet(self, directory: PathLike, **options: Any) -> Any:
        """Writes the dataset as Parquet files."""
        from flatstream.datasets._parquet import write_parquet

        return write_parquet(self, directory, **options)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        # What was found out by reading is found out again.
        return state | {"_heads": {}, "_outcomes": {}, "_schemas": {}, "_bytes_read": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

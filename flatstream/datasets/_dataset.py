"""`flatstream.dataset`: many files as one table."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from flatstream._core.base.checks import int_argument
from flatstream._seekable import number_of_threads
from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.datasets._heads import Head, Options, read_head
from flatstream.datasets._parts import Part, find_parts
from flatstream.datasets._pieces import Position, Stretch, Target
from flatstream.datasets._reading import Outcome, Query
from flatstream.datasets._scan import Progress, scan
from flatstream.datasets._unify import Kind, unify
from flatstream.tools.inputs import load_schema, pick_table

if TYPE_CHECKING:
    import polars

    from flatstream.datasets._arrow import ArrowDataset
    from flatstream.schema import Schema, Table
    from flatstream.transforms.ciphers import Cipher

__all__ = ["Dataset", "dataset"]

# Fewer bytes are read by one thread.
SMALL = 1 << 20

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


class _Tuples:
    is_exact = True

    def __init__(self, where: Any) -> None:
        self._where = where

    def conditions_for(self, table: Any, time: Any) -> Any:
        return self._where if isinstance(self._where, list) else [self._where]


def default_threads() -> int:
    """How many threads decode by default: as many as there are processors, up to 4."""
    return max(1, number_of_threads())


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
        # Those of all files of a dataset of which this one has some.
        self._known_kinds: list[Kind] | None = None

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
        if self._known_kinds is not None:
            return self._known_kinds
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
        predicate = None if where is None else _Tuples(where)
        batch_rows = int_argument("batch_rows", batch_rows, 1, 2**31 - 1)
        return Query(schema, schema, predicate, batch_rows, self._options, bool(source_file), bool(frame))

    def _targets(self, made: list[Target]) -> Iterator[Target]:
        for number, part in enumerate(self._parts):
            head = self._head(number)
            if head.table is not None:
                made.append(Target(number, part, head))
                yield made[-1]

    def _prepare(self, query: Query, target: Target) -> None:
        """Plans what is read of a file."""
        head = target.head
        begin = Position(head.begin, 0)
        target.stretches = []
        if not query.columns_of(head, target.part).has_rows:
            return
        try:
            file = target.ranges()
        except FileNotFoundError:
            if target.part.kind != "segment":
                raise
            self._outcomes.setdefault(target.number, Outcome()).is_removed = True
            return
        target.is_sequential = head.middle is None or not file.can_seek
        target.stretches = [Stretch(begin, None)]

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
        progress: Progress | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows, batch by batch, in the order of the files and of the frames in each."""
        query = self._query(fields, where, batch_rows, source_file, frame)
        if limit is not None:
            limit = int_argument("limit", limit, 0, 2**63 - 1)
        if threads is None:
            threads = self._options.threads
        threads = default_threads() if threads is None else int_argument("threads", threads, 1, 1024)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, got {progress!r:.100}")
        return self._read(query, limit, threads, progress)

    def _read(
        self, query: Query, limit: int | None, threads: int, progress: Progress | None
    ) -> Iterator[pa.RecordBatch]:
        if limit == 0:
            return
        if sum(part.size or SMALL for part in self._parts) < SMALL:
            # Threads would take longer to begin than to read.
            threads = 1
        outcomes: dict[int, Outcome] = {}
        targets: list[Target] = []
        rows = done = 0
        total = sum(part.size or 0 for part in self._parts)
        found = scan(self._targets(targets), query, outcomes, partial(self._prepare, query), threads=threads)
        try:
            for target, batches, offset in found:
                for batch in batches:
                    if limit is not None and rows + batch.num_rows > limit:
                        batch = batch.slice(0, limit - rows)
                    rows += batch.num_rows
                    yield batch
                    if rows == limit:
                        return
                size = target.part.size or 0
                if offset is None:
                    done += size
                    with self._lock:
                        self._bytes_read += target.take_count()
                if progress is not None:
                    progress(rows, done + (0 if offset is None else min(size, offset)), total)
        finally:
            found.close()
            with self._lock:
                self._outcomes.update(outcomes)
                self._bytes_read += sum(target.take_count() for target in targets)

    def columns(
        self,
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        limit: int | None = None,
        source_file: bool = False,
        frame: bool = False,
        progress: Progress | None = None,
    ) -> pa.Table:
        """All rows, as one pyarrow.Table."""
        query = self._query(fields, where, 65_536, source_file, frame)
        rows = self.batches(fields, where, limit=limit, source_file=source_file, frame=frame, progress=progress)
        return pa.Table.from_batches(rows, query.given)

    def count(self, where: Any = None) -> int:
        """The number of rows."""
        return sum(batch.num_rows for batch in self.batches([], where))

    def head(self, n: int = 10) -> pa.Table:
        """The first rows."""
        query = self._query(None, None, 65_536, False, False)
        return pa.Table.from_batches(self.batches(limit=n, threads=1), query.given)

    # Other libraries

    def scan(self, *, source_file: bool = False, frame: bool = False) -> polars.LazyFrame:
        """A polars.LazyFrame of the rows.

        polars passes on which columns a query uses, its filter, and how many rows it takes. Nothing is read before the
        query is collected, but the beginnings of the files when polars asks for the schema.

        Parameters
        ----------
        source_file, frame : bool
            As for `batches`.

        Returns
        -------
        polars.LazyFrame
            Each query on it reads the files anew.

        Raises
        ------
        ImportError
            There is no polars, or one without ``polars.io.plugins.register_io_source``.

        Notes
        -----
        What goes wrong while reading, such as damage, is an error of ``collect``: the one that `batches` raises, with
        polars 2.1.
        """
        from flatstream.datasets._polars import scan

        return scan(self, source_file=source_file, frame=frame)

    def to_arrow_dataset(self) -> ArrowDataset:
        """A pyarrow.dataset.Dataset of the rows, which DuckDB, polars and pyarrow query by its name.

        Returns
        -------
        ArrowDataset
            It passes columns and filters on to `batches`. Nothing is read before rows are asked for, but the beginnings
            of the files, because the data set states its columns.

        Notes
        -----
        DuckDB 2.0 passes on no comparison with times in nanoseconds: make the data set with ``times="us"`` for it.
        """
        from flatstream.datasets._arrow import ArrowDataset

        return ArrowDataset(self)

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

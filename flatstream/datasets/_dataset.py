"""`flatstream.dataset`: many files as one table."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from flatstream._core.base.checks import int_argument
from flatstream._seekable import number_of_threads
from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.datasets._heads import Head, Options, read_head
from flatstream.datasets._parts import Part, find_parts
from flatstream.datasets._pieces import Position, Stretch, Target, plan_by_index
from flatstream.datasets._predicate import Predicate
from flatstream.datasets._reading import FRAME, FRAME_FIELD, SOURCE_FIELD, SOURCE_FILE, Outcome, Query
from flatstream.datasets._scan import Progress, scan
from flatstream.datasets._unify import TIMES, Kind, time_of, unify
from flatstream.index import FileIndex, UnusableIndex, load_index
from flatstream.tools.inputs import load_schema, pick_table

if TYPE_CHECKING:
    import polars

    from flatstream._ranges import RangeFile
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
    times: Literal["timestamp", "number", "s", "ms", "us", "ns"] = "timestamp",
    use_index: bool = True,
    threads: int | None = None,
) -> Dataset:
    """Many files as one table. See `Dataset`."""
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    given = [os.fspath(path) for path in listed]
    for name, value, known in (
        ("on_error", on_error, ("raise", "skip", "stop", "resync")),
        ("torn_end", torn_end, ("stop", "raise")),
        ("times", times, TIMES),
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
        # By the number of the file, with what tells whether it has changed since.
        self._indexes: dict[int, tuple[Any, FileIndex | UnusableIndex]] = {}
        self._schemas: dict[tuple[str, ...] | None, pa.Schema] = {}
        self._bytes_read = 0
        # Those of all files of a dataset of which this one has some.
        self._known_kinds: list[Kind] | None = None

    # What it is

    def _head(self, number: int) -> Head:
        head = self._heads.get(number)
        if head is None:
            guess = next(iter(self._heads.values())).checksum if self._heads else ChecksumType.XXHASH64
            head = self._heads[number] = read_head(self._parts[number], self._options, guess)
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
            made = self._schemas[fields] = unify(self._kinds(), fields, self._options.times)
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
        predicate = self._predicate(where)
        read = schema
        if predicate is not None and not predicate.is_exact:
            needed = self._schema(None).names if predicate.paths is None else sorted(predicate.paths)
            extra = [name for name in needed if name not in schema.names and name not in self._extra()]
            if extra:
                read = self._schema((*schema.names, *extra))
        for name, is_wanted in ((SOURCE_FILE, source_file), (FRAME, frame)):
            if is_wanted and name in read.names:
                raise ValueError(
                    f"the messages have a field {name!r}, so that there is no name for the column of {name}=True: "
                    "select other fields"
                )
        batch_rows = int_argument("batch_rows", batch_rows, 1, 2**31 - 1)
        return Query(schema, read, predicate, batch_rows, self._options, bool(source_file), bool(frame))

    def _extra(self) -> list[str]:
        """The columns that are no fields of messages."""
        names = self._schema(None).names
        return [name for name in (SOURCE_FILE, FRAME) if name not in names]

    def _predicate(self, where: Any) -> Predicate | None:
        """What a `where` says."""
        if where is None or isinstance(where, Predicate):
            return where
        schema = self._schema(None)
        extra = self._extra()
        for known in (SOURCE_FIELD, FRAME_FIELD):
            if known.name in extra:
                schema = schema.append(known)
        made = Predicate.of(where, schema, time=time_of(self._kinds()), extra=extra)
        if made is not None:
            made.check(kind.table for kind in self._kinds())
        return made

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
        if query.predicate is not None and self._options.use_index and not target.is_sequential:
            self._plan_by_index(query, target, file)

    def _plan_by_index(self, query: Query, target: Target, file: RangeFile) -> None:
        """Plans to read only what may have rows, if the file has an index."""
        head = target.head
        assert head.table is not None
        index = self._index(target.number, head, file)
        if isinstance(index, UnusableIndex) or not len(index) or index.begin != head.begin:
            return
        if query.reads_frame and index.gaps:
            # Behind damage, frames are numbered as the policy has it.
            return
        may_match = query.predicate.may_match(head.table, index.statistics, index.rows, head.time)
        target.uses_index = True
        target.stretches = plan_by_index(target, index, may_match, file.size)
        file.announce(
            [(stretch.begin.offset, file.size if stretch.end is None else stretch.end) for stretch in target.stretches]
        )

    def _index(self, number: int, head: Head, file: RangeFile) -> FileIndex | UnusableIndex:
        """The index of a file, which is kept as long as the file does not change."""
        status = file.status
        key = None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns, file.size)
        known = self._indexes.get(number)
        if known is not None and known[0] == key:
            return known[1]
        part = self._parts[number]
        found = load_index(part.path, file, table=head.table, checksum=head.checksum_name)
        with self._lock:
            self._indexes[number] = key, found
        return found

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
        return state | {"_heads": {}, "_indexes": {}, "_outcomes": {}, "_schemas": {}, "_bytes_read": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

"""`flatstream.dataset`: many files as one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from flatstream._core.base.checks import int_argument
from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.datasets._files import files_table, find_range
from flatstream.datasets._heads import Options
from flatstream.datasets._parts import find_parts
from flatstream.datasets._pieces import Target
from flatstream.datasets._reading import Outcome, Query
from flatstream.datasets._records import read_records
from flatstream.datasets._scan import Progress, scan
from flatstream.datasets._snapshot import Known, Snapshot
from flatstream.datasets._time_range import TimeRange
from flatstream.datasets._unify import TIMES, time_of
from flatstream.description._schemas import UNITS
from flatstream.tools.inputs import load_schema, pick_table

if TYPE_CHECKING:
    from datetime import datetime

    import polars

    from flatstream.datasets._arrow import ArrowDataset
    from flatstream.datasets._parquet import ParquetReport
    from flatstream.datasets.splits import Split
    from flatstream.schema import RecordView, Schema, Table
    from flatstream.transforms.ciphers import Cipher

__all__ = ["Dataset", "TimeRange", "dataset"]

PathLike = str | os.PathLike[str]

# The rows of a batch, unless the caller says how many.
BATCH_ROWS = 65_536
# Of one file of which an index says that fewer bytes are read: threads take as long to begin.
WORTH_THREADS = 4 << 20


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
    time_field: str | None = None,
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
) -> Dataset:
    """Many files as one table: files, journals, compressed ones, each with its own checksum and description.

    Parameters
    ----------
    paths : path, or iterable of paths
        Of files; of journals; of other folders, which stand for the ``.fs`` files (compressed ones too) and the
        journals in them; patterns such as ``"data/**/*.fs"``; URLs, which may be patterns, or end with a slash as
        folders. Files are read in this order, those of a folder or pattern by name, and each once.
    table : Table or str, optional
        The table of the messages that are read, if a file has messages of several, or files have different ones: its
        name, or the file identifier of its messages. Messages of other tables are left out. A Table also says what the
        messages of files are that do not describe them.
    checksum : Checksum, ChecksumType or str, optional
        That of files whose description does not say it. By default it is found out, as by `flatstream.open`.
    schema : Schema or path, optional
        That of files that do not describe their messages.
    on_error : {"raise", "skip", "stop", "resync"}
        What happens at damage, as for a `StreamReader` of each file. `Dataset.files` tells what was left out.
    torn_end : {"stop", "raise"}
        What happens at the end of a file that a crash left behind, or somebody still writes: a frame that is not whole,
        or zeros. By default the rows before it are given, and `Dataset.files` tells of it. With "raise", an error comes
        where a `StreamReader` raises one.
    cipher : Cipher, optional
        For encrypted files, as for `flatstream.open`.
    times : {"timestamp", "number", "s", "ms", "us", "ns"}
        The field with the time of a message, as descriptions name it, is a timestamp in UTC of the unit in which it
        counts; or a number, as it is stored; or a timestamp of a unit, to which it is rounded down. (DuckDB looks into
        indexes for timestamps of microseconds, and not for those of nanoseconds.)
    use_index : bool
        Whether the indexes beside files say what need not be read (docs/index.md).
    threads : int, optional
        How many threads decode. By default as many as there are processors, up to 4.
    time_field : str, optional
        The path of the field with the time of a message, an integer since 1970 in UTC, in place of the one that
        descriptions name; with its unit, as in ``"when:ns"``, if its name does not end with it. Files whose schema
        lacks it say no time.
    time_unit : {"s", "ms", "us", "ns"}, optional
        The unit of `time_field`.

    Returns
    -------
    Dataset
        Only names, sizes, and the first and last bytes of files were looked at so far.

    Raises
    ------
    FileNotFoundError
        A path stands for nothing.
    OSError, FlatStreamError
        A folder, a file at a URL, or the file with the schema, cannot be read.
    ImportError
        There is no package for a kind of URL.
    TypeError, ValueError
        An argument is wrong; or there is no path at all.
    LookupError
        The schema has no such table.

    Examples
    --------
    >>> import flatstream, tempfile
    >>> from flatstream import RecordWriter, Schema
    >>> table = Schema.from_file("examples/telemetry.bfbs").root
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for host in ("alpha", "beta"):
    ...         with flatstream.open(f"{folder}/{host}.fs", "w", checksum="xxhash64", describe=table) as writer:
    ...             records = RecordWriter(writer, table)
    ...             for number in range(3):
    ...                 records.write(sequence=number, host=host)
    ...     found = flatstream.dataset(f"{folder}/*.fs")
    ...     found.count(), found.columns(["sequence", "host"], ("sequence", ">", 1)).to_pylist()
    (6, [{'sequence': 2, 'host': 'alpha'}, {'sequence': 2, 'host': 'beta'}])
    """
    given = _names_of(paths)
    for name, value, known in (
        ("on_error", on_error, ("raise", "skip", "stop", "resync")),
        ("torn_end", torn_end, ("stop", "raise")),
        ("times", times, TIMES),
    ):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r:.100}")
    if not isinstance(use_index, bool):
        raise TypeError(f"use_index must be a bool, got {use_index!r:.100}")
    if checksum is not None:
        as_checksum(checksum)
    undescribed = None
    if table is not None and not isinstance(table, str):
        if isinstance(table, type) or not hasattr(table, "read_columns"):
            raise TypeError(f"table must be a Table of a schema, its name or None, got {table!r:.100}")
        undescribed = table
    if schema is not None:
        if undescribed is not None:
            raise ValueError("expected a schema or a Table, which has one, got both")
        if not isinstance(schema, type) and hasattr(schema, "read_columns"):
            raise TypeError("schema must be a Schema or the path of one, got a Table: pass it as table=")
        name_of_table = table if isinstance(table, str) else None
        made = load_schema(schema, name_of_table)
        tables = {} if made.root is None else {made.file_identifier: made.root}
        undescribed = pick_table(tables, made, name_of_table)
    if threads is not None:
        threads = int_argument("threads", threads, 1, 1024)
    time = _time_of(time_field, time_unit)
    options = Options(checksum, table, undescribed, on_error, torn_end, cipher, times, use_index, threads, time)
    return Dataset(given, options, find_parts(given))


def _time_of(path: Any, unit: Any) -> tuple[str, str | None] | None:
    """The time that the arguments `time_field` and `time_unit` say."""
    if unit is not None and (not isinstance(unit, str) or unit not in UNITS):
        raise ValueError(f"time_unit must be one of {', '.join(map(repr, UNITS))}, got {unit!r:.100}")
    if path is None:
        if unit is not None:
            raise ValueError("time_unit is that of time_field, which was not given")
        return None
    if not isinstance(path, str):
        raise TypeError(f"time_field must be the path of a field, as 'when' or 'when:ns', got {path!r:.100}")
    name, colon, said = path.partition(":")
    if not name or (colon and said not in UNITS):
        raise ValueError(f"time_field must be 'name' or 'name:unit', with one of {', '.join(UNITS)}, got {path!r:.100}")
    if colon and unit not in (None, said):
        raise ValueError(f"time_field says the unit {said!r}, and time_unit {unit!r}")
    return name, said or unit


def _names_of(paths: Any) -> list[str]:
    if not isinstance(paths, (str, os.PathLike)) and (isinstance(paths, bytes) or not isinstance(paths, Iterable)):
        raise TypeError(f"paths must be a path or an iterable of paths, got {type(paths).__name__}: {paths!r:.100}")
    names = []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
        if not isinstance(name, str):
            raise TypeError(f"a path must be a str or an os.PathLike of it, got {type(path).__name__}: {path!r:.100}")
        names.append(name)
    if not names:
        raise ValueError("paths must be a path or several of them, got none: did a pattern match no file?")
    return names


class Dataset(Snapshot):
    """The messages of many files, as one table; made by `flatstream.dataset`.

    A dataset has the files and their sizes as of when it was made, or of the last `refresh`: what is written to them
    meanwhile is not read, and a file that was replaced or became shorter is an error until then. It holds no file open
    between two calls.

    Notes
    -----
    The columns are those of all files: the fields of each file's own schema, in the order in which they are first seen.
    A field that a file's schema does not have is null in its rows. Types that differ become one that holds both without
    loss: of integers and of floats the wider one; the names of an enum are those of all files. Other types are a
    TypeError, which names two files.

    Rows, and their order, are those of one `StreamReader` for each file, with the same `on_error`; but with an index,
    damage is not seen in what is not read. (With "stop", an index leaves out nothing.)

    It can be pickled, and be used by several threads. The cost of a call is that of reading the files; that of `head`
    is less than a millisecond, once the beginnings of the files were read.
    """

    # What it is

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns and their types. Reads the beginnings of all files, once.

        Raises
        ------
        OSError, FlatStreamError
            A file cannot be read, or is no stream.
        ValueError
            A file does not describe its messages, and no schema was given; files have different tables.
        TypeError
            A field has types in two files that no type holds.
        """
        return self._now()._schema(None)

    @property
    def table_name(self) -> str | None:
        """The name of the table of the messages; None if no file has any. Errors are those of `arrow_schema`."""
        kinds = self._now()._kinds()
        return kinds[0].table.name if kinds else None

    @property
    def time_field(self) -> str | None:
        """The path of the field with the time of a message; None without one, or if files have different ones."""
        time = time_of(self._now()._kinds())
        return None if time is None else time[0]

    @property
    def files(self) -> pa.Table:
        """What is known of each file, as a small table, in the order in which they are read.

        Columns: `path`; `bytes` (as stored, null of a URL whose server does not tell it); `journal` (its folder, for a
        segment); `compression`; `checksum`; `table`; `index` ("covers ...", "none", or "ignored: " and why);
        `first_time` and `last_time`, where an index tells them; and `status`, which says what was found when it was
        last read: "", "torn end at ...", "damaged: ...", "stopped at ..." or "removed"; or "cannot be read: ..." and
        why.
        """
        return files_table(self._now())

    @property
    def bytes_read(self) -> int:
        """How many bytes of streams this object has read so far, in this process, without the beginnings of files."""
        return self._read_so_far.value

    @property
    def time_range(self) -> TimeRange | None:
        """The first and the last time of a message; None without a time field, and without a message.

        Blocks of which an index says it are not read; the time of all others is. With ``on_error="stop"`` all are read.
        It is kept until `refresh`.
        """
        now = self._now()
        known = now._known.time_range
        if known is None:
            time = time_of(now._kinds())
            found = find_range(now, now._threads(None))
            known = now._known.time_range = [None if time is None or found is None else TimeRange(*time, *found)]
        return known[0]

    def refresh(self) -> None:
        """Looks at the paths again: for files that are new, have grown or were removed.

        Raises
        ------
        FileNotFoundError
            A path stands for nothing now. Then nothing has changed.
        OSError
            A folder, or a file at a URL, cannot be read. Then nothing has changed, either.
        """
        parts = find_parts(self._paths)
        now = self._now()
        # Of some URLs it is not known whether they have changed.
        known = {part: number for number, part in enumerate(now._parts) if part.is_known}
        if parts == now._parts and len(known) == len(parts):
            # An index may be new.
            with now._known.lock:
                now._known.indexes.clear()
            return
        # The beginning of a file that has not changed is still the same.
        heads = now._known.heads
        kept = {number: heads.get(known[part]) for number, part in enumerate(parts) if part in known}
        # At once, for other threads.
        self._state = (
            parts,
            Known(heads={number: head for number, head in kept.items() if head is not None}, kinds=self._given_kinds),
        )

    # Reading

    def batches(
        self,
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        batch_rows: int = BATCH_ROWS,
        limit: int | None = None,
        source_file: bool = False,
        frame: bool = False,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Reads rows, batch by batch, in the order of the files and of the frames in each.

        Parameters
        ----------
        fields : iterable of str, optional
            The columns, by their paths, as for `StreamReader.columns`: ``"name"``, ``"position.x"``. By default all.
            An empty list gives batches that have a number of rows and no columns.
        where : condition, expression or list of these, optional
            Which rows: conditions as for `StreamReader.columns`, where a datetime that the time of a message is
            compared with needs no unit; or an expression of pyarrow (`pyarrow.compute.Expression`) or polars
            (`polars.Expr`), whose library decides. All parts of a list must hold. Expressions can also be about the
            columns "source_file" and "frame".
        batch_rows : int
            The most rows of a batch. They can be fewer at any place; there is no batch without a row.
        limit : int, optional
            The most rows in all. After these, no more is read.
        source_file : bool
            Whether to add a column "source_file", the path of the file, a dictionary of strings. Of a segment it is the
            path of the plain file.
        frame : bool
            Whether to add a column "frame", the number of the message in its file, as `StreamReader.message_number` has
            it; in a journal the number of the frame, which is exact as long as no frame before it in its segment is
            lost.
        threads : int, optional
            How many threads decode, instead of those of the dataset. With 1, it is the caller's.
        progress : callable, optional
            Called with the rows so far, the bytes of files that are done, and those of all, now and then and at the end
            of each file.

        Yields
        ------
        pyarrow.RecordBatch
            The caller's: it shares no memory with another one.

        Raises
        ------
        KeyError, TypeError, ValueError
            An argument is wrong: there is no such field, for instance. These come at once; all others where they are
            met.
        FlatStreamError
            Damage, as `on_error` and `torn_end` say; or a file was replaced or became shorter since the dataset was
            made or refreshed. The message has the path; `offset` and `frame` are those in the file.
        OSError, EOFError
            A file cannot be read. FileNotFoundError: it was removed. (A segment that retention has removed is told in
            `files`, and passed over.)
        OverflowError
            A time does not fit a timestamp.
        """
        now = self._now()
        query = now._query(fields, where, batch_rows, source_file, frame)
        if limit is not None:
            limit = int_argument("limit", limit, 0, 2**63 - 1)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, got {progress!r:.100}")
        return now._read(query, limit, now._threads(threads), progress)

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
        """Reads all rows, as one pyarrow.Table; see `batches` for arguments and errors."""
        if fields is not None and not isinstance(fields, (str, bytes)):
            fields = list(fields)
        now = self._now()
        batches = now.batches(fields, where, limit=limit, source_file=source_file, frame=frame, progress=progress)
        return pa.Table.from_batches(batches, now._given_schema(fields, source_file, frame))

    def count(self, where: Any = None) -> int:
        """The number of rows. All frames that may count are read, and their checksums compared; see `batches`."""
        return sum(batch.num_rows for batch in self.batches([], where))

    def head(self, n: int = 10, fields: Iterable[str] | None = None, where: Any = None) -> pa.Table:
        """The first `n` rows, as one pyarrow.Table; see `batches` for the other arguments and errors.

        No more files are read than these are in.
        """
        n = int_argument("n", n, 0, 2**63 - 1)
        if fields is not None and not isinstance(fields, (str, bytes)):
            fields = list(fields)
        now = self._now()
        return pa.Table.from_batches(
            now.batches(fields, where, limit=n, threads=1), now._given_schema(fields, False, False)
        )

    def records(self, where: Any = None, *, limit: int | None = None) -> Iterator[RecordView]:
        """Iterates over the messages as `RecordView` objects, in order, each of the table of its own file.

        Parameters
        ----------
        where : condition, expression or list of these, optional
            See `batches`.
        limit : int, optional
            The most messages. After these, no more is read.

        Raises
        ------
        As `batches`. Each message is verified as a whole, as by `StreamReader.records`, which may refuse some of which
        columns can be read.
        """
        now = self._now()
        query = now._query([], where, BATCH_ROWS, False, False)
        if limit is not None:
            limit = int_argument("limit", limit, 0, 2**63 - 1)
        return read_records(now, query, limit)

    def _read(
        self, query: Query, limit: int | None, threads: int, progress: Progress | None
    ) -> Iterator[pa.RecordBatch]:
        if limit == 0:
            return
        outcomes: dict[int, Outcome] = {}
        targets: list[Target] = []
        rows = 0
        # Up to each file.
        sizes = [0, *accumulate(part.size or 0 for part in self._parts)]
        if limit is not None and limit <= BATCH_ROWS:
            # Other threads would read ahead what nobody asks for.
            threads = 1
        prepare = partial(self._prepare, query, outcomes=outcomes, threads=threads)
        chosen = self._targets(targets)
        if threads > 1 and len(self._parts) == 1 and query.predicate is not None:
            chosen = iter(list(chosen))
            for target in targets:
                try:
                    prepare(target)
                except BaseException:
                    target.close()
                    raise
                if target.planned_bytes() < WORTH_THREADS:
                    threads = 1
        found = scan(
            chosen,
            query,
            outcomes,
            prepare,
            threads=threads,
            # The first piece is small, and so is the first batch then.
            by_one_reader=threads == 1 and limit is None,
            looks_ahead=limit is None,
        )
        try:
            for target, batches, offset in found:
                for batch in batches:
                    if limit is not None and rows + batch.num_rows > limit:
                        batch = batch.slice(0, limit - rows)
                    rows += batch.num_rows
                    yield batch
                    if rows == limit:
                        return
                begin, end = sizes[target.number : target.number + 2]
                if offset is None:
                    self._note([target])
                if progress is not None:
                    progress(rows, end if offset is None else min(end, begin + offset), sizes[-1])
            if progress is not None:
                progress(rows, sizes[-1], sizes[-1])
        finally:
            found.close()
            self._note(targets)
            with self._known.lock:
                self._known.outcomes.update(outcomes)
        self._check_that_some_are_left()

    # Other libraries

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """All rows for any library that takes Arrow data, as ``polars.DataFrame(dataset)`` and ``pyarrow.table``.

        Each call reads the files anew, batch by batch as the library asks for them. Nothing of a query of the library
        reaches the index: that takes `scan` or `to_arrow_dataset`. Errors while reading become the library's own, with
        the text of those of `batches`.
        """
        now = self._now()
        reader = pa.RecordBatchReader.from_batches(now.arrow_schema, now.batches())
        return reader.__arrow_c_stream__(requested_schema)

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
            There is no polars, or one before 1.33.

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

    def splits(self, n: int | None = None, where: Any = None) -> list[Split]:
        """Shares the dataset out among other processes, which read their parts by `flatstream.read_split`.

        Files are cut at frames: those that an index names, those at which the blocks of a sealed file begin, or those
        that are found by leaping from header to header, which is done only in files that a cut lies in.

        Parameters
        ----------
        n : int, optional
            How many splits, at most 1,000,000; there may be fewer, if there are few frames or blocks, or if a file
            cannot be cut: it is encrypted, or compressed as a whole. By default, so many that each has some 64 MiB.
        where : optional
            As for `batches`. `read_split` gives the rows that meet it, and splits leave out what an index says to have
            none.

        Returns
        -------
        list of Split
            Of about as many bytes each, in the order of the dataset. Their rows are those of the dataset, each once.
            They can be pickled, with less than 300 bytes each if they are of a few files, besides what is there once
            for all of them: the schema and the options.

        Raises
        ------
        TypeError
            The dataset has a cipher that cannot be pickled, because it holds a key.
        OSError, FlatStreamError, TypeError, ValueError, KeyError
            An argument is wrong, or a file cannot be read; see `batches`.

        Notes
        -----
        Whoever reads a split opens its files by their paths, which are absolute in it, also where those of the dataset
        are not. With ``on_error="stop"``, a file is in one split; with "resync", so is one without a checksum. The
        dataset is not changed, and several threads may call this.
        """
        from flatstream.datasets.splits import plan_splits

        return plan_splits(self._now(), n, where)

    def to_parquet(
        self,
        directory: PathLike,
        *,
        partition_by: str | Sequence[str] | None = "hour",
        fields: Iterable[str] | None = None,
        where: Any = None,
        until: Literal["now", "closed"] | datetime = "now",
        row_group_rows: int = 65_536,
        max_file_bytes: int = 512 << 20,
        compression: Literal["zstd", "snappy", "gzip", "brotli", "lz4", "none"] = "zstd",
        resume: bool = True,
        name: str = "export",
        again: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> ParquetReport:
        """Puts the rows into Parquet files in a folder, each row once, and goes on where the last run stopped.

        It can be run again and again, as by cron, with a new dataset of the same paths: each run reads what was added
        since, and puts it into new files. A run can be killed at any moment, or lose its power: the next one goes on,
        and no row is missing or there twice. No file is overwritten, and none removed but what a killed run left under
        ``_flatstream``, where the state of the export is. See docs/convert.md.

        Parameters
        ----------
        directory : path
            The folder, which is made if it is not there. Not a URL: files must get their names at once.
        partition_by : "hour", "day", names of columns, or None
            The folders below it, in the layout of Hive: of the time, in UTC, ``date=2026-11-29/hour=13``; of columns of
            integers, bools, strings and enums, ``host=alpha``, which are then in no file; or several, as
            ``["host", "day"]``. None for no folders.
        fields : iterable of str, optional
            As for `columns`.
        where : conditions, optional
            As for `columns`.
        until : "now", "closed", or datetime
            How far files are read: to their ends; or to the first row of the hour or day that is not over, so that it
            comes into one file when it is. What follows such a row waits with it. A datetime with a time zone is what
            counts as the present for that.
        row_group_rows : int
            How many rows a row group has.
        max_file_bytes : int
            About how large a file becomes, at most.
        compression : str
            That of the files.
        resume : bool
            False: raise an error if there was a run with this folder and name before.
        name : str
            That of the export, with which the names of its files begin. Exports of different names can share a folder:
            of different machines, for instance.
        again : bool
            True: export sources that are new to this export although another one in the folder has rows of them, which
            readers of the folder then find twice; as for exports with conditions that exclude each other.
        progress : callable, optional
            Called with the bytes that were read, and those that there are.

        Returns
        -------
        ParquetReport
            What this run did, and what it could not do.

        Raises
        ------
        TypeError, ValueError, KeyError
            An argument is wrong; messages say no time; fields have the names of folders; or an earlier run had other
            options, or its state is damaged; or an export of another name in the folder has the same sources.
        FileExistsError
            There was a run, and `resume` is False; or there are its files, and its state is lost.
        FlatStreamError
            Damage, if `on_error` is "raise": all that is before it is exported, and the other files too. Or a file
            was changed before the place where the last run ended.
        OSError
            EBUSY: another process runs this export. Others: a file cannot be read or written; nothing of the step in
            which that happens is exported.

        Examples
        --------
        >>> import tempfile
        >>> import flatstream
        >>> from flatstream import RecordWriter, Schema, dataset
        >>> schema = Schema.from_file("examples/telemetry.bfbs")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with flatstream.open(f"{folder}/a.fs", "w", checksum="crc32", describe=schema) as writer:
        ...         RecordWriter(writer, schema.root).write(wall_time_ns=1_795_957_200_000_000_000, host="a")
        ...     lake = f"{folder}/lake"
        ...     report = dataset(f"{folder}/a.fs").to_parquet(lake, fields=["wall_time_ns", "host"])
        ...     again = dataset(f"{folder}/a.fs").to_parquet(lake, fields=["wall_time_ns", "host"])
        >>> [file.rpartition("/")[0] for file in report.files], report.rows, again.rows
        (['date=2026-11-29/hour=13'], 1, 0)
        """
        from flatstream.datasets._parquet import write_parquet

        return write_parquet(
            self._now(),
            directory,
            partition_by=partition_by,
            fields=fields,
            where=where,
            until=until,
            row_group_rows=row_group_rows,
            max_file_bytes=max_file_bytes,
            compression=compression,
            resume=resume,
            name=name,
            again=again,
            progress=progress,
        )

    def __repr__(self) -> str:
        sizes = [part.size for part in self._parts if part.size is not None]
        return f"<Dataset of {len(self._parts)} files, {sum(sizes):,} bytes>"

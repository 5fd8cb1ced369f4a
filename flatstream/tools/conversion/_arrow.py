"""Parquet, Arrow IPC and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from flatstream.reader import StreamReader
from flatstream.tools.conversion._columns import NESTED, ColumnSource, ColumnTarget
from flatstream.tools.conversion._fields import flat_leaves, is_flags, nested_leaves, resolve
from flatstream.tools.conversion._formats import FORMATS
from flatstream.tools.conversion._options import ArgumentError, Known, Options, table_for_columns
from flatstream.tools.conversion._shapes import OneDictionary, Reshaping, VariableLists

__all__ = [
    "ArrowSource",
    "ArrowStreamTarget",
    "ArrowTarget",
    "CsvSource",
    "CsvTarget",
    "ParquetSource",
    "ParquetTarget",
]

BATCH_ROWS = 65_536

# The compressions inside of files that every reader of the formats knows.
PARQUET_COMPRESSIONS = ("snappy", "zstd", "gzip", "brotli", "lz4", "none")
IPC_COMPRESSIONS = ("lz4", "zstd", "none")

# A cell of CSV may be as large as this.
CSV_BLOCK = 16 << 20


def _check_compression(options: Options, title: str, known: tuple[str, ...]) -> None:
    if options.compression not in (None, *known):
        raise ArgumentError(
            f"compression must be one of {', '.join(known)} for {title}, got {options.compression!r:.100}"
        )


class ParquetTarget(ColumnTarget):
    """A Parquet file with a row group for each batch."""

    # Large enough to be compressed well, and small enough that one is encoded while the next is read.
    batch_rows = 1 << 17

    def __init__(self, file: Any, known: Known, options: Options) -> None:
        super().__init__(FORMATS["parquet"].title, known, options, nested_leaves)
        import pyarrow.parquet

        _check_compression(options, FORMATS["parquet"].title, PARQUET_COMPRESSIONS)
        self.shape = VariableLists(self.pa)
        self.stored = self.shape.schema(self.schema)
        self.writer = pyarrow.parquet.ParquetWriter(file, self.stored, compression=options.compression or "snappy")
        # pyarrow encodes and compresses without the interpreter's lock.
        self.encoder = ThreadPoolExecutor(1)
        self.pending: Future[None] | None = None

    def write(self, reader: StreamReader) -> None:
        """See `Target`."""
        for batch in self.batches(reader):
            made = self.shape.batch(batch, self.stored)
            self._wait()
            self.pending = self.encoder.submit(self.writer.write_batch, made)

    def _wait(self) -> None:
        if self.pending is not None:
            self.pending.result()
            self.pending = None

    def finish(self) -> None:
        """See `Target`."""
        self._wait()
        self.encoder.shutdown()
        self.writer.close()

    def abort(self) -> None:
        """See `Target`."""
        self.encoder.shutdown()
        self.writer.close()


class ParquetSource(ColumnSource):
    """A Parquet file."""

    format = "parquet"

    def read_known(self) -> Known:
        """See `FileSource`."""
        import pyarrow.parquet

        if not self.file.seekable():
            raise ArgumentError("Parquet is read from its end: it cannot come from a pipe")
        self.parquet = pyarrow.parquet.ParquetFile(self.file)
        return self.known_of(self.parquet.schema_arrow.metadata)

    def batches(self) -> Iterator[Any]:
        """See `ColumnSource`."""
        return iter(self.parquet.iter_batches(BATCH_ROWS))


class _IpcTarget(ColumnTarget):
    """The base of both forms of Arrow IPC."""

    def __init__(self, name: str, known: Known, options: Options, shape: type[Reshaping], open_writer: str) -> None:
        super().__init__(FORMATS[name].title, known, options, nested_leaves)
        _check_compression(options, FORMATS[name].title, IPC_COMPRESSIONS)
        self.shape = shape(self.pa)
        self.open_writer = open_writer

    def open(self, file: Any) -> None:
        """Begins the file."""
        ipc = self.pa.ipc
        compression = None if self.options.compression == "none" else self.options.compression
        settings = ipc.IpcWriteOptions(emit_dictionary_deltas=True, compression=compression)
        self.writer = getattr(ipc, self.open_writer)(file, self.schema, options=settings)

    def write(self, reader: StreamReader) -> None:
        """See `Target`."""
        for batch in self.batches(reader):
            self.writer.write_batch(self.shape.batch(batch, self.schema))

    def finish(self) -> None:
        """See `Target`."""
        self.writer.close()

    abort = finish


class ArrowTarget(_IpcTarget):
    """An Arrow IPC file."""

    def __init__(self, file: Any, known: Known, options: Options) -> None:
        super().__init__("arrow", known, options, OneDictionary, "new_file")
        self.open(file)


class ArrowStreamTarget(_IpcTarget):
    """An Arrow IPC stream, which can go through a pipe."""

    def __init__(self, file: Any, known: Known, options: Options) -> None:
        super().__init__("arrows", known, options, Reshaping, "new_stream")
        self.open(file)


class ArrowSource(ColumnSource):
    """Arrow IPC, of either form."""

    format = "arrow"

    def read_known(self) -> Known:
        """See `FileSource`."""
        ipc = self.pa.ipc
        is_file = self.file.seekable() and self.file.read(6) == b"ARROW1"
        if self.file.seekable():
            self.file.seek(0)
        self.reader = ipc.open_file(self.file) if is_file else ipc.open_stream(self.file)
        self.is_file = is_file
        return self.known_of(self.reader.schema.metadata)

    def batches(self) -> Iterator[Any]:
        """See `ColumnSource`."""
        if not self.is_file:
            whole = iter(self.reader)
        else:
            whole = (self.reader.get_batch(number) for number in range(self.reader.num_record_batches))
        for batch in whole:
            for begin in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.slice(begin, BATCH_ROWS)


class CsvTarget(ColumnTarget):
    """CSV with a header. A null is an empty cell, and an empty string is a pair of quotes."""

    def __init__(self, file: Any, known: Known, options: Options) -> None:
        super().__init__(FORMATS["csv"].title, known, options, flat_leaves)
        import pyarrow.csv

        self.writer = pyarrow.csv.CSVWriter(file, self.schema)

    def write(self, reader: StreamReader) -> None:
        """See `Target`."""
        for batch in self.batches(reader):
            self.writer.write_batch(batch)

    def finish(self) -> None:
        """See `Target`."""
        self.writer.close()

    abort = finish


class CsvSource(ColumnSource):
    """CSV with a header of paths of fields."""

    format = "csv"

    def batches(self) -> Iterator[Any]:
        """See `ColumnSource`."""
        import pyarrow.csv

        pa = self.pa
        table = table_for_columns(self.known, self.title)
        header = self.file.readline().decode("utf-8-sig")
        names = next(csv.reader([header]), [])
        if not names:
            raise ValueError("CSV needs a first line with the names of the columns")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two columns are called {twice!r}")
        if not self.file.peek(1):
            # pyarrow refuses a file without rows.
            return iter(())
        types = {}
        for name in names:
            try:
                field = resolve(table, name)
            except KeyError as error:
                raise ValueError(f"column {name!r}: {error.args[0]}") from None
            kind = table.arrow_schema([name]).to_pyarrow()[0].type if field.type.base not in NESTED else None
            is_text = kind is None or pa.types.is_dictionary(kind) or is_flags(table, field)
            types[name] = pa.string() if is_text else kind
        return iter(
            pyarrow.csv.open_csv(
                self.file,
                # A line of one column can be empty: it is a null.
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(names) > 1),
                read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=CSV_BLOCK),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
                ),
            )
        )

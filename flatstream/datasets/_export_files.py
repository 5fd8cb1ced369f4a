"""The Parquet files of one step of an export: one that is open for each folder, and how rows come into row groups."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flatstream._files import open_descriptor
from flatstream.datasets._export_state import Export, NewFile
from flatstream.datasets._unify import convert, nullable_field
from flatstream.tools.conversion._shapes import VariableLists

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["COMPRESSIONS", "Files"]

# Those that every reader of Parquet knows.
COMPRESSIONS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")

# How many files are open at a time, and how many bytes of rows wait for their row groups. A folder whose rows all wait
# has no file yet: with thousands of hosts that take turns, each gets one file of many rows, and not one for each batch.
MOST_OPEN = 64
MOST_WAITING = 256 << 20
# What a column of a batch takes beside its values, and how many small batches of a folder become one: of a few rows,
# the values take less than the rest.
COLUMN_BYTES = 400
MOST_BATCHES = 16
SMALL_BATCH = 1024

# A column gets a dictionary if its values come so often in the first row group. With pyarrow's default, a dictionary
# for every column, files with row groups of 64 Ki rows of telemetry are 30 percent larger.
REPEATED = 8


# How many row groups wait for the thread that encodes them, while further rows are read.
MOST_QUEUED = 2
# A row group with so many rows is enough to decide for all files of a run which columns get dictionaries.
ENOUGH = 4096


class Files:
    """The files of one step after the other. A thread encodes row groups while further rows are read.

    Parameters
    ----------
    export : Export
        Says what the files are called.
    schema : pyarrow.Schema
        That of the batches.
    metadata : mapping of str to str
        What each file carries.
    row_group_rows : int
        How many rows a row group has, but the last one of a file, and those that were written early because too many
        rows waited.
    max_file_bytes : int
        When a file has so many bytes, its folder gets another one for further rows.
    compression : str
        The name of a compression, or "none".

    Attributes
    ----------
    complete : list of (NewFile, int)
        The files of this step that are complete, and how many rows each has.
    """

    def __init__(
        self,
        export: Export,
        schema: pa.Schema,
        metadata: Mapping[str, str],
        row_group_rows: int,
        max_file_bytes: int,
        compression: str,
    ) -> None:
        self._export = export
        self._shape = VariableLists(pa)
        # Sources of one run may have fields that those of another lack. The schema of each file is one for all.
        self._nullable = pa.schema([nullable_field(field) for field in schema])
        self._schema = self._shape.schema(self._nullable).with_metadata(dict(metadata))
        self._row_group_rows = row_group_rows
        self._max_file_bytes = max_file_bytes
        self._compression = compression
        # In the order of their last use: all that have rows, and those of them that are open.
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._open: OrderedDict[str, _File] = OrderedDict()
        self._waiting = 0
        self._with_dictionary: list[str] | None = None
        # pyarrow encodes and compresses without the interpreter's lock.
        self._encoder = ThreadPoolExecutor(1, "flatstream-parquet")
        self._queued: deque[Future[None]] = deque()
        self.complete: list[tuple[NewFile, int]] = []

    @property
    def rows(self) -> int:
        """How many rows the complete files have."""
        return sum(rows for _, rows in self.complete)

    def add(self, folder: str, batch: pa.RecordBatch) -> None:
        """Puts rows into the file of a folder."""
        file = self._files.get(folder)
        if file is not None and file.written and file.size() >= self._max_file_bytes:
            self._finish(folder)
            file = None
        if file is None:
            file = self._files[folder] = _File(self._export.new_file(folder))
        elif folder in self._open:
            self._open.move_to_end(folder)
        columns = zip(batch.columns, self._nullable, strict=True)
        arrays = [convert(array, field.type, field.name) for array, field in columns]
        rows = self._shape.batch(pa.RecordBatch.from_arrays(arrays, schema=self._nullable), self._schema)
        before = file.bytes
        file.put(rows)
        self._waiting += file.bytes - before
        if file.rows >= self._row_group_rows:
            self._write(folder, self._row_group_rows)
        while self._waiting > MOST_WAITING:
            self._write_largest()

    def _write_largest(self) -> None:
        """Writes the rows of the folders of which most wait, until half of the memory is free again, so that of
        thousands of folders the largest ones are not looked for again with each batch.
        """
        for folder in sorted(self._files, key=lambda one: self._files[one].bytes, reverse=True):
            # One that is open can be complete meanwhile, to make room for another.
            if folder in self._files:
                self._write(folder, 1)
            if self._waiting <= MOST_WAITING // 2:
                break

    def finish(self) -> None:
        """Completes all files of this step."""
        while self._files:
            self._finish(next(iter(self._files)))
        self._wait(0)

    def close(self) -> None:
        """Ends the thread, and closes the files that are not complete, which are removed with the export."""
        self._encoder.shutdown(cancel_futures=True)
        for file in self._open.values():
            assert file.writer is not None
            # The disk may be full.
            with contextlib.suppress(OSError):
                file.writer.close()
        self._open.clear()
        self._files.clear()

    def _finish(self, folder: str) -> None:
        file = self._files[folder]
        self._write(folder, 1)
        assert file.writer is not None
        self._submit(file.writer.close)
        del self._open[folder], self._files[folder]
        self.complete.append((file.new, file.written))

    def _write(self, folder: str, least: int) -> None:
        """Has the rows of a folder that wait written as row groups, as long as there are `least`."""
        file = self._files[folder]
        table = pa.Table.from_batches(file.waiting, self._schema).unify_dictionaries()
        self._waiting -= file.bytes
        at = 0
        while table.num_rows - at >= max(least, 1):
            group = table.slice(at, self._row_group_rows)
            if file.writer is None:
                if len(self._open) >= MOST_OPEN:
                    self._finish(next(iter(self._open)))
                # No path that is taken is written over.
                os.close(open_descriptor(file.new.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                file.writer = pq.ParquetWriter(
                    file.new.path,
                    self._schema,
                    compression=self._compression,
                    use_dictionary=self._columns_with_dictionary(group),
                )
                self._open[folder] = file
            self._submit(self._encode, file.writer, group)
            at += group.num_rows
            file.written += group.num_rows
        rest = table.slice(at)
        file.waiting = []
        file.rows = file.bytes = 0
        for one in rest.to_batches() if rest.num_rows else ():
            file.put(one)
        self._waiting += file.bytes

    def _encode(self, writer: pq.ParquetWriter, group: pa.Table) -> None:
        try:
            writer.write_table(group, self._row_group_rows)
        except pa.ArrowInvalid as error:
            text = f"rows that Parquet cannot hold: {error}"
            if "timestamp" in str(error):
                # Seconds become milliseconds.
                text += "; the unit of a time in Parquet is ms or finer. times='number' exports the numbers"
            raise OverflowError(text) from error

    def _columns_with_dictionary(self, group: pa.Table) -> list[str]:
        if self._with_dictionary is not None:
            return self._with_dictionary
        found = _repeated(group)
        if group.num_rows >= ENOUGH:
            self._with_dictionary = found
        return found

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        """Has the thread do something. What it has raised before comes here."""
        self._wait(MOST_QUEUED)
        self._queued.append(self._encoder.submit(function, *arguments))

    def _wait(self, most: int) -> None:
        """Waits until so many things are left to be done by the thread."""
        while len(self._queued) > most:
            self._queued.popleft().result()


class _File:
    """A file that is being written, and the rows that wait for its next row group."""

    def __init__(self, new: NewFile) -> None:
        self.new = new
        self.writer: pq.ParquetWriter | None = None
        self.waiting: list[pa.RecordBatch] = []
        self.rows = 0
        self.bytes = 0
        self.written = 0

    def put(self, rows: pa.RecordBatch) -> None:
        """Has rows wait."""
        self.waiting.append(rows)
        self.rows += rows.num_rows
        self.bytes += _bytes_of(rows)
        last = self.waiting[-MOST_BATCHES:]
        if len(last) == MOST_BATCHES and max(one.num_rows for one in last) < SMALL_BATCH:
            self.waiting[-MOST_BATCHES:] = _combined(last)
            self.bytes = sum(map(_bytes_of, self.waiting))

    def size(self) -> int:
        """How many bytes were written so far, without row groups that are being encoded."""
        return os.stat(self.new.path).st_size


def _bytes_of(rows: pa.RecordBatch) -> int:
    """How much memory rows take."""
    return int(rows.nbytes + COLUMN_BYTES * rows.num_columns)


def _combined(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The same rows in one batch."""
    found: list[pa.RecordBatch] = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()
    return found


def _repeated(group: pa.Table) -> list[str]:
    """The columns of Parquet whose values repeat enough for a dictionary, and those of text and inside of others."""
    found = []
    for name, column in zip(group.column_names, group.columns, strict=True):
        kind = column.type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind)
        if not is_number:
            found += _leaves(name, kind)
        elif pc.count_distinct(column).as_py() * REPEATED <= group.num_rows:
            found.append(name)
    return found


def _leaves(name: str, kind: pa.DataType) -> list[str]:
    """What the columns of Parquet of a field are called."""
    if pa.types.is_struct(kind):
        return [leaf for child in kind for leaf in _leaves(f"{name}.{child.name}", child.type)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _leaves(f"{name}.list.element", kind.value_type)
    return [name]

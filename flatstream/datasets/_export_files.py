"""The Parquet files of one step of an export: one that is open for each folder, and how rows come into row groups."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flatstream.datasets._export_state import Export, NewFile
from flatstream.tools.conversion._shapes import VariableLists

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COMPRESSIONS", "Files"]

# Those that every reader of Parquet knows.
COMPRESSIONS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")

# How many files are open at a time, and how many bytes of rows wait for their row groups.
MOST_OPEN = 64
MOST_WAITING = 256 << 20

# A column gets a dictionary if its values come so often in the first row group. With pyarrow's default, a dictionary
# for every column, files with row groups of 64 Ki rows of telemetry are 30 percent larger.
REPEATED = 8


class Files:
    """The files of a step.

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
        A file with so many bytes is the last but one of its folder.
    compression : str
        The name of a compression, or "none".
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
        self._schema = self._shape.schema(schema).with_metadata(dict(metadata))
        self._row_group_rows = row_group_rows
        self._max_file_bytes = max_file_bytes
        self._compression = compression
        # In the order of their last use.
        self._open: OrderedDict[str, _File] = OrderedDict()
        self._waiting = 0
        self.complete: list[tuple[NewFile, int]] = []

    @property
    def rows(self) -> int:
        """How many rows the complete files have."""
        return sum(rows for _, rows in self.complete)

    def add(self, folder: str, batch: pa.RecordBatch) -> None:
        """Puts rows into the file of a folder."""
        file = self._open.get(folder)
        if file is None:
            if len(self._open) >= MOST_OPEN:
                self._finish(next(iter(self._open)))
            file = self._open[folder] = _File(self._export.new_file(folder))
        else:
            self._open.move_to_end(folder)
        rows = self._shape.batch(batch, self._schema)
        file.waiting.append(rows)
        file.rows += rows.num_rows
        file.bytes += rows.nbytes
        self._waiting += rows.nbytes
        if file.rows >= self._row_group_rows:
            self._write(file, self._row_group_rows)
            if os.stat(file.new.path).st_size >= self._max_file_bytes:
                self._finish(folder)
        while self._waiting > MOST_WAITING:
            largest = max(self._open.values(), key=lambda one: one.bytes)
            self._write(largest, 1)

    def finish(self) -> None:
        """Completes all files."""
        while self._open:
            self._finish(next(iter(self._open)))

    def abandon(self) -> None:
        """Closes the files, which are removed with the export."""
        for file in self._open.values():
            if file.writer is not None:
                # The disk may be full.
                with contextlib.suppress(OSError):
                    file.writer.close()
        self._open.clear()

    def _finish(self, folder: str) -> None:
        file = self._open[folder]
        self._write(file, 1)
        assert file.writer is not None
        file.writer.close()
        del self._open[folder]
        self.complete.append((file.new, file.written))

    def _write(self, file: _File, least: int) -> None:
        """Writes the rows that wait as row groups, as long as there are `least`."""
        table = pa.Table.from_batches(file.waiting, self._schema).unify_dictionaries()
        self._waiting -= file.bytes
        at = 0
        while table.num_rows - at >= max(least, 1):
            group = table.slice(at, self._row_group_rows)
            if file.writer is None:
                # No path that is taken is written over.
                os.close(os.open(file.new.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                file.writer = pq.ParquetWriter(
                    file.new.path,
                    self._schema,
                    compression=self._compression,
                    use_dictionary=_repeated(group),
                )
            file.writer.write_table(group, self._row_group_rows)
            at += group.num_rows
            file.written += group.num_rows
        rest = table.slice(at)
        file.waiting = rest.to_batches() if rest.num_rows else []
        file.rows = rest.num_rows
        file.bytes = sum(one.nbytes for one in file.waiting)
        self._waiting += file.bytes


class _File:
    """A file that is being written, and the rows that wait for its next row group."""

    def __init__(self, new: NewFile) -> None:
        self.new = new
        self.writer: pq.ParquetWriter | None = None
        self.waiting: list[pa.RecordBatch] = []
        self.rows = 0
        self.bytes = 0
        self.written = 0


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

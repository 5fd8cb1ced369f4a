"""A dataset as a `pyarrow.dataset.Dataset`, which DuckDB, polars and pyarrow query by name.

These libraries ask a dataset of pyarrow's for its schema and for a scanner of some columns with a filter, and then
pull batches. `ArrowDataset` answers such questions itself, so that columns and filters reach the index.

pyarrow's compiled functions (joins, unions, fragments) do not ask the Python methods: they read the C++ object inside.
That is a dataset of files here, one for each of ours, in a file system of Python's (`_Rows`), where each file is made
as an Arrow IPC file when it is opened. These functions therefore see the same rows, but they hold a whole file in
memory and use no index.

DuckDB hands over no filter at all if any column has a dictionary inside of it, as an enum in a table inside of another
(seen with 2.0). So enums inside of structs and lists are strings here; those that are columns stay dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.fs

from flatstream.datasets._parts import shown as in_utf8
from flatstream.datasets._unify import convert

if TYPE_CHECKING:
    from flatstream.datasets._dataset import Dataset

# As many rows as pyarrow's own scanner has in a batch.
BATCH_ROWS = 131_072


class ArrowDataset(pyarrow.dataset.FileSystemDataset):  # type: ignore[misc]
    """The rows of a `flatstream.Dataset` for libraries that take a `pyarrow.dataset.Dataset`.

    Made by `Dataset.to_arrow_dataset`. Nothing is read before a library asks for rows; a library that stops asking, as
    for ``LIMIT``, ends the reading. Columns and filters are passed on to `Dataset.batches`, which leaves out what the
    index says cannot match.

    Parameters
    ----------
    dataset : Dataset
        Where the rows come from.
    where : pyarrow.compute.Expression, optional
        A filter of all that is asked.
    """

    def __init__(self, dataset: Dataset, where: pyarrow.compute.Expression | None = None) -> None:
        files = pyarrow.fs.PyFileSystem(_Rows(dataset))
        ipc = pyarrow.dataset.IpcFileFormat()
        fragments = [ipc.make_fragment(path, filesystem=files) for path in _names(dataset)]
        super().__init__(fragments, shown_schema(dataset.arrow_schema), ipc, files)
        self._dataset, self._where = dataset, where
        if where is not None:
            # Where pyarrow looks for the filter of a dataset that is given to a compiled function.
            self._scan_options = {"filter": where}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._dataset, self._where)

    def __repr__(self) -> str:
        filtered = "" if self._where is None else f", filtered by {self._where}"
        return f"<{type(self).__name__} of {self._dataset!r}{filtered}>"

    def filter(self, expression: pyarrow.compute.Expression) -> ArrowDataset:
        """The rows for which `expression` is true, as a dataset."""
        if not isinstance(expression, pyarrow.compute.Expression):
            raise TypeError(f"expression must be a pyarrow.compute.Expression, got {type(expression).__name__}")
        return type(self)(self._dataset, self._both(expression))

    def _both(self, expression: pyarrow.compute.Expression | None) -> pyarrow.compute.Expression | None:
        """The filter of this dataset and another."""
        if expression is None or self._where is None:
            return self._where if expression is None else expression
        return self._where & expression

    # Scanning

    def scanner(self, columns: Any = None, filter: Any = None, **options: Any) -> Any:
        """What reads `columns` of the rows for which `filter` is true.

        Parameters
        ----------
        columns : list of str, or dict of str to pyarrow.compute.Expression, optional
            Names of columns, or new names with what is computed for them; all columns if not given.
        filter : pyarrow.compute.Expression, optional
            Rows for which it is false or null are left out.
        **options
            Of pyarrow's scanners. Only ``batch_size``, the most rows in a batch, has a meaning here.

        Returns
        -------
        RowScanner
            It reads when it is asked to. Where all is asked of as ``pyarrow.dataset.write_dataset`` does, whose
            compiled code takes nothing else: a `pyarrow.dataset.Scanner`, which reads ahead.
        """
        scan = RowScanner(self._dataset, columns, self._both(filter), options.get("batch_size") or BATCH_ROWS)
        return scan.native() if columns is None and filter is None and "use_threads" in options else scan

    def to_batches(self, columns: Any = None, filter: Any = None, **options: Any) -> Iterator[pyarrow.RecordBatch]:
        """The rows in batches. See `scanner` for the arguments."""
        return self._scan(columns, filter, options).to_batches()

    def to_table(self, columns: Any = None, filter: Any = None, **options: Any) -> pyarrow.Table:
        """All rows. See `scanner` for the arguments."""
        return self._scan(columns, filter, options).to_table()

    def head(self, num_rows: int, columns: Any = None, filter: Any = None, **options: Any) -> pyarrow.Table:
        """The first `num_rows` rows. See `scanner` for the other arguments."""
        return self._scan(columns, filter, options).head(num_rows)

    def take(self, indices: Any, columns: Any = None, filter: Any = None, **options: Any) -> pyarrow.Table:
        """The rows with the numbers `indices`, in that order. See `scanner` for the other arguments."""
        return self._scan(columns, filter, options).take(indices)

    def count_rows(self, filter: Any = None, **options: Any) -> int:
        """How many rows there are. See `scanner` for the arguments."""
        return self._scan(None, filter, options).count_rows()

    def _scan(self, columns: Any, filter: Any, options: dict[str, Any]) -> RowScanner:
        return RowScanner(self._dataset, columns, self._both(filter), options.get("batch_size") or BATCH_ROWS)

    # What holds all rows anyway: the table goes to pyarrow, so that the filter uses the index.

    def sort_by(self, sorting: Any, **kwargs: Any) -> pyarrow.dataset.InMemoryDataset:
        """The rows in another order, in memory. See `pyarrow.dataset.Dataset.sort_by`."""
        return self._in_memory().sort_by(sorting, **kwargs)

    def join(self, right_dataset: Any, *arguments: Any, **options: Any) -> pyarrow.dataset.InMemoryDataset:
        """The rows beside those of another dataset, in memory. See `pyarrow.dataset.Dataset.join`."""
        return self._in_memory().join(_in_memory(right_dataset), *arguments, **options)

    def join_asof(self, right_dataset: Any, *arguments: Any, **options: Any) -> pyarrow.dataset.InMemoryDataset:
        """The rows beside the nearest of another dataset, in memory. See `pyarrow.dataset.Dataset.join_asof`."""
        return self._in_memory().join_asof(_in_memory(right_dataset), *arguments, **options)

    def _in_memory(self) -> pyarrow.dataset.InMemoryDataset:
        return pyarrow.dataset.InMemoryDataset(self.to_table())


def _in_memory(dataset: Any) -> Any:
    """`dataset`, in memory if it is one of ours."""
    return dataset._in_memory() if isinstance(dataset, ArrowDataset) else dataset


class RowScanner:
    """One scan of an `ArrowDataset`, with the methods of a `pyarrow.dataset.Scanner`.

    It is none, because pyarrow's scanners read ahead in threads of their own as soon as a reader is made, up to a
    gigabyte, and so would ``LIMIT 10`` in DuckDB. Each method begins anew.
    """

    def __init__(self, dataset: Dataset, columns: Any, where: Any, batch_rows: int) -> None:
        # The files as they are now, of which the schema is.
        dataset = dataset._now()
        self._dataset, self._columns, self._where, self._batch_rows = dataset, columns, where, batch_rows
        self._schema = shown_schema(dataset.arrow_schema)
        known = set(self._schema.names)
        # The columns by their names, or None for all; and whether pyarrow computes them from all columns.
        self._names: list[str] | None = None
        self._computed = isinstance(columns, dict) or not (
            where is None or isinstance(where, pyarrow.compute.Expression)
        )
        self._has_strings = not self._schema.equals(dataset.arrow_schema)
        if where is not None and not self._computed and self._has_strings:
            try:
                dataset._predicate(where)
            except pyarrow.ArrowException:
                # What can be asked of strings, and not of dictionaries.
                self._computed = True
        if columns is not None and not self._computed:
            self._names = [columns] if isinstance(columns, str) else list(columns)
            if unknown := [name for name in self._names if name not in known]:
                # Special columns of pyarrow's, such as "__filename", are among them.
                raise KeyError(f"no column {unknown[0]!r:.100}; there are {', '.join(sorted(known))}")

    @property
    def dataset_schema(self) -> pyarrow.Schema:
        """The schema of the dataset."""
        return self._schema

    @property
    def projected_schema(self) -> pyarrow.Schema:
        """The schema of the batches."""
        if self._computed:
            return self._compute(iter(())).projected_schema
        schema = self._schema
        return schema if self._names is None else pyarrow.schema([schema.field(name) for name in self._names])

    def _batches(self, limit: int | None = None) -> Iterator[pyarrow.RecordBatch]:
        """The batches, read when they are asked for."""
        if self._computed:
            batches = map(shown, self._dataset.batches(batch_rows=self._batch_rows))
            yield from self._compute(batches).to_batches()
            return
        names = None if self._names is None else list(dict.fromkeys(self._names))
        schema = self.projected_schema
        for read in self._dataset.batches(names, self._where, batch_rows=self._batch_rows, limit=limit):
            batch = shown(read) if self._has_strings else read
            if names == self._names:
                yield batch
            else:
                columns = [batch.column(name) for name in self._names or ()]
                yield pyarrow.RecordBatch.from_arrays(columns, schema=schema)

    def _compute(self, batches: Iterator[pyarrow.RecordBatch]) -> pyarrow.dataset.Scanner:
        """pyarrow's scanner over all columns: for what only pyarrow can compute."""
        reader = pyarrow.RecordBatchReader.from_batches(self._schema, batches)
        return pyarrow.dataset.Scanner.from_batches(reader, columns=self._columns, filter=self._where)

    def native(self) -> pyarrow.dataset.Scanner:
        """The same as a `pyarrow.dataset.Scanner`, which can be used once and reads ahead."""
        return pyarrow.dataset.Scanner.from_batches(self.to_reader())

    def to_reader(self) -> pyarrow.RecordBatchReader:
        """A reader of the batches, which reads when it is asked to."""
        return pyarrow.RecordBatchReader.from_batches(self.projected_schema, self._batches())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The batches through the Arrow C stream interface."""
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def to_batches(self) -> Iterator[pyarrow.RecordBatch]:
        """The batches."""
        return self._batches()

    def to_table(self) -> pyarrow.Table:
        """All rows."""
        return pyarrow.Table.from_batches(self._batches(), self.projected_schema)

    def head(self, num_rows: int) -> pyarrow.Table:
        """The first `num_rows` rows."""
        if num_rows < 0:
            raise ValueError(f"num_rows must not be negative, got {num_rows}")
        rows: list[pyarrow.RecordBatch] = []
        if num_rows:
            left = num_rows
            for batch in self._batches(None if self._computed else num_rows):
                rows.append(batch.slice(0, left))
                left -= rows[-1].num_rows
                if not left:
                    break
        return pyarrow.Table.from_batches(rows, self.projected_schema)

    def take(self, indices: Any) -> pyarrow.Table:
        """The rows with the numbers `indices`, in that order."""
        names = self._names
        if names is not None and len(set(names)) < len(names):
            # pyarrow's scanner takes no name twice.
            once = RowScanner(self._dataset, list(dict.fromkeys(names)), self._where, self._batch_rows).take(indices)
            return pyarrow.Table.from_arrays([once.column(name) for name in names], schema=self.projected_schema)
        return self.native().take(indices)

    def count_rows(self) -> int:
        """How many rows there are."""
        if self._computed:
            return sum(batch.num_rows for batch in self._batches())
        return self._dataset.count(self._where)


def shown_schema(schema: pyarrow.Schema) -> pyarrow.Schema:
    """The schema, in which enums inside of columns are strings."""
    fields = [field.with_type(_shown_type(field.type, inside=False)) for field in schema]
    return pyarrow.schema(fields, schema.metadata)


def _shown_type(kind: pyarrow.DataType, *, inside: bool) -> pyarrow.DataType:
    types = pyarrow.types
    if types.is_dictionary(kind):
        return pyarrow.large_string() if inside else kind
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(_shown_type(field.type, inside=True)) for field in kind])
    if types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = kind.value_field.with_type(_shown_type(kind.value_type, inside=True))
        return pyarrow.large_list(item) if types.is_large_list(kind) else pyarrow.list_(item, kind.list_size)
    return kind


def shown(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """The rows, with the types of `shown_schema`."""
    schema = shown_schema(batch.schema)
    if schema.equals(batch.schema):
        return batch
    columns = [convert(column, field.type, field.name) for column, field in zip(batch.columns, schema, strict=True)]
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def _names(dataset: Dataset) -> dict[str, int]:
    """The paths of the files, which are UTF-8 here, with their numbers in the dataset."""
    found: dict[str, int] = {}
    for number, part in enumerate(dataset._parts):
        name = in_utf8(part.path)
        # Another file may have the name that an escaped one is shown by.
        found[f"{name}#{number}" if name in found else name] = number
    return found


def _only(dataset: Dataset, number: int) -> Dataset:
    """A dataset of one of the files, with the columns of all."""
    one = type(dataset)(dataset._paths, dataset._options, [dataset._parts[number]], dataset._kinds())
    one._known.schemas[None] = dataset.arrow_schema
    return one


class _Rows(pyarrow.fs.FileSystemHandler):  # type: ignore[misc]
    """A file system with a file of Arrow's IPC format for each file of a dataset, made when it is opened."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rows) and self.dataset is other.dataset

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def get_type_name(self) -> str:
        return "flatstream"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[pyarrow.fs.FileInfo]:
        known = _names(self.dataset)
        kinds = pyarrow.fs.FileType
        return [pyarrow.fs.FileInfo(path, kinds.File if path in known else kinds.NotFound) for path in paths]

    def get_file_info_selector(self, selector: pyarrow.fs.FileSelector) -> list[pyarrow.fs.FileInfo]:
        return self.get_file_info(list(_names(self.dataset)))

    def open_input_file(self, path: str) -> pyarrow.NativeFile:
        now = self.dataset._now()
        read = _only(now, _names(now)[path])
        schema = shown_schema(read.arrow_schema)
        rows = pyarrow.Table.from_batches(map(shown, read.batches()), schema)
        made = pyarrow.BufferOutputStream()
        # The IPC file format has room for one dictionary for each column.
        with pyarrow.ipc.new_file(
            made, rows.schema, options=pyarrow.ipc.IpcWriteOptions(unify_dictionaries=True)
        ) as new:
            new.write_table(rows)
        return pyarrow.BufferReader(made.getvalue())

    def open_input_stream(self, path: str) -> pyarrow.NativeFile:
        return self.open_input_file(path)

    def _refuse(self, *arguments: object) -> Any:
        raise NotImplementedError("the rows of a flatstream dataset can be read only")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse

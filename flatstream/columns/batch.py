"""Columns in memory: Column, ColumnBatch and ColumnSchema, and their conversion to other libraries."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from flatstream._core.arrow.exporter import ColumnData, ColumnType, export_stream
from flatstream.columns._convert import (
    array_of,
    frame_of,
    import_library,
    plain_array_of,
    type_text,
    unmasked,
    values_of,
)
from flatstream.columns._slices import columns_of, rows_of

if TYPE_CHECKING:
    from array import array

    from flatstream.errors import FlatStreamError

# How many values an iterator over a column converts at a time.
VALUES_AHEAD = 1024
# How many columns a repr shows.
MAX_SHOWN = 10


class Column:
    """One column of a `ColumnBatch`.

    Attributes
    ----------
    name : str
        The path of the field.
    type : str
        Arrow's name for its type.
    null_count : int
        The number of null rows.

    Notes
    -----
    A column is a sequence of the Python values that `to_pylist` returns: an index returns one value, a slice a list.
    `numpy.asarray` converts a column like `to_numpy`, with enums as numbers, but without a mask: nulls are NaN in an
    array of floats. A column of any other type that has nulls becomes an array of objects with None.
    """

    def __init__(self, data: ColumnData) -> None:
        self._data = data
        self.name = data.type.name
        self.type = type_text(data.type)
        self.null_count = data.null_count

    def __len__(self) -> int:
        return self._data.length

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            rows = range(len(self))[index]
            if not rows:
                return []
            values = values_of(self._data, min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1)
            return values[:: rows.step] if len(rows) > 1 else values
        try:
            row = operator.index(index)
        except TypeError:
            raise TypeError(f"a row of a column must be an int or a slice, got {type(index).__name__}") from None
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of a column of {len(self)} rows")
        row %= len(self)
        return values_of(self._data, row, row + 1)[0]

    def __iter__(self) -> Iterator[Any]:
        for begin in range(0, len(self), VALUES_AHEAD):
            yield from values_of(self._data, begin, min(begin + VALUES_AHEAD, len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """The column as an array for NumPy: the result of `to_numpy` without a mask."""
        array, new = unmasked(self._data)
        if dtype is not None and array.dtype != dtype:
            array, new = array.astype(dtype), True
        if new and copy is False:
            raise ValueError(f"column {self.name!r} cannot be converted to this array without a copy")
        return array.copy() if copy and not new else array

    def to_numpy(self) -> Any:
        """The column as a NumPy array.

        Returns
        -------
        numpy.ndarray or numpy.ma.MaskedArray
            For numbers, enums (as numbers) and bools, and for fixed arrays of these (with two dimensions): a read-only
            view of the column's memory, without a copy, or a masked array over this view if there are nulls. For
            strings, vectors, structs and unions: an array of the objects that `to_pylist` returns, which is slow for
            many rows; `to_arrow` is not.

        Raises
        ------
        ImportError
            NumPy is not installed.
        """
        return array_of(self._data)

    def to_array(self) -> array[Any]:
        """The numbers of the column as an array of the standard library, which needs no NumPy; a copy.

        Enums are numbers, and bools are 0 and 1.

        Raises
        ------
        TypeError
            The column has no numbers: use `to_pylist`.
        ValueError
            The column has nulls.
        """
        return plain_array_of(self._data)

    def to_pylist(self) -> list[Any]:
        """The column as a list of Python objects: None for nulls, str, bytes, lists, and dicts for structs.

        An enum is its name, or the digits of its number if the number has no name.
        """
        return values_of(self._data)

    def to_arrow(self) -> Any:
        """The column as a pyarrow.Array, which shares its memory.

        Raises
        ------
        ImportError
            pyarrow is not installed.
        """
        return import_library("pyarrow", "to_arrow").array(self)

    def to_pandas(self) -> Any:
        """The column as a pandas.Series, converted through pyarrow; see `ColumnBatch.to_pandas`.

        Raises
        ------
        ImportError
            pandas or pyarrow is not installed.
        """
        pandas = import_library("pandas", "to_pandas")
        pyarrow = import_library("pyarrow", "to_pandas")
        return frame_of(pandas, pyarrow, pyarrow.table({self.name: self.to_arrow()}))[self.name]

    def to_polars(self) -> Any:
        """The column as a polars.Series.

        Raises
        ------
        ImportError
            polars is not installed.
        """
        return import_library("polars", "to_polars").Series(self.name, self)

    def __arrow_c_schema__(self) -> object:
        return self._data.type.__arrow_c_schema__()

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self._data.__arrow_c_array__(requested_schema)

    def __repr__(self) -> str:
        return f"<Column {self.name!r} of {len(self)} {self.type}>"

    def _repr_html_(self) -> str:
        from flatstream.columns._html import column_html

        return column_html(self)


class ColumnBatch(Mapping[str, Column]):
    """A batch of messages as columns: a mapping from column names to `Column`.

    ``batch["name"]`` is a column, ``batch[["name", "other"]]`` a batch of these columns, and ``batch[10:20]`` a batch
    of these rows.

    Attributes
    ----------
    num_rows : int
        The number of messages.
    skipped, lost_bytes, lost_ranges : int, int, list of (int, int)
        What was left out because of damage since the batch before; see `StreamReader`. Always 0 and empty unless
        `on_error` is "skip" or "resync".
    others : int
        The number of messages with another file identifier that were skipped; always 0 unless ``on_other="skip"`` was
        given.
    stop_error : FlatStreamError or None
        The error at which ``on_error="stop"`` ended.
    names : tuple of str
        The names of the columns, in order.

    Notes
    -----
    Each column owns its memory. The memory lives as long as the column or any array or table that shares it, in any
    library. A batch of some columns shares their memory with the whole one. A batch of some rows has a copy of theirs;
    its `skipped`, `lost_bytes`, `lost_ranges`, `others` and `stop_error` say nothing.

    Examples
    --------
    >>> from flatstream import Schema, StreamReader
    >>> schema = Schema.from_file("examples/telemetry.bfbs")
    >>> StreamReader(b"").columns(schema.root, ["sequence", "host"])
    <ColumnBatch of 0 rows in 2 columns>
    """

    def __init__(
        self,
        data: ColumnData,
        skipped: int = 0,
        lost_ranges: Sequence[tuple[int, int]] = (),
        others: int = 0,
        stop_error: FlatStreamError | None = None,
    ) -> None:
        if not isinstance(data, ColumnData):
            raise TypeError("a ColumnBatch is made by StreamReader.columns or StreamReader.column_batches")
        self._data = data
        self._columns = {child.type.name: child for child in data.children}
        self.num_rows = data.length
        self.skipped = skipped
        self.lost_ranges = list(lost_ranges)
        # Not a generator: if there is no memory for one, CPython 3.12.1 and 3.13.0 release its code once too often.
        self.lost_bytes = sum([end - start for start, end in lost_ranges])
        self.others = others
        self.stop_error = stop_error
        self.names = tuple(self._columns)

    @property
    def schema(self) -> ColumnSchema:
        """The types of the columns."""
        return ColumnSchema(self._data.type)

    @overload
    def __getitem__(self, key: str) -> Column: ...
    @overload
    def __getitem__(self, key: slice | list[str]) -> ColumnBatch: ...
    def __getitem__(self, key: str | slice | list[str]) -> Column | ColumnBatch:
        if isinstance(key, slice):
            begin, end, step = key.indices(self.num_rows)
            if step != 1:
                raise ValueError(f"rows of a batch can be taken in steps of 1 only, got {step}")
            return ColumnBatch(rows_of(self._data, begin, max(begin, end)))
        for name in key if isinstance(key, list) else [key]:
            if name not in self._columns:
                raise KeyError(f"no column {name!r}; there are {', '.join(map(repr, self.names)) or 'none'}")
        if not isinstance(key, list):
            return Column(self._columns[key])
        if len(set(key)) < len(key):
            raise ValueError(f"a column is named twice: {key!r:.200}")
        return ColumnBatch(columns_of(self._data, key), self.skipped, self.lost_ranges, self.others, self.stop_error)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        # pandas.DataFrame(batch) gets this attribute too, and would otherwise make a frame of the names.
        raise TypeError(
            "a batch is not one array: to_numpy() has an array for each column, and to_pandas() is a data frame"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def to_numpy(self) -> dict[str, Any]:
        """All columns as a dict of NumPy arrays, by name; see `Column.to_numpy`."""
        return {name: column.to_numpy() for name, column in self.items()}

    def to_pylist(self) -> list[dict[str, Any]]:
        """All rows as a list of dicts."""
        columns = [column.to_pylist() for column in self.values()]
        if not columns:
            return [{} for _ in range(self.num_rows)]
        return [dict(zip(self.names, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_arrow(self) -> Any:
        """The columns as a pyarrow.Table, which shares their memory.

        Raises
        ------
        ImportError
            pyarrow is not installed.
        """
        pyarrow = import_library("pyarrow", "to_arrow")
        return pyarrow.Table.from_batches([pyarrow.record_batch(self)])

    def to_pandas(self) -> Any:
        """The columns as a pandas.DataFrame, converted through pyarrow.

        Returns
        -------
        pandas.DataFrame
            Columns of integers and bools have NumPy types, or the nullable types of pandas ("Int64", "UInt8",
            "boolean") if there are nulls, so every value is exact. In columns of floats, nulls are NaN. Enums are
            categories.

        Raises
        ------
        ImportError
            pandas or pyarrow is not installed.
        """
        pandas = import_library("pandas", "to_pandas")
        return frame_of(pandas, import_library("pyarrow", "to_pandas"), self.to_arrow())

    def to_polars(self) -> Any:
        """The columns as a polars.DataFrame.

        Raises
        ------
        ImportError
            polars is not installed.
        """
        return import_library("polars", "to_polars").DataFrame(self)

    def __arrow_c_schema__(self) -> object:
        return self._data.type.__arrow_c_schema__()

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self._data.__arrow_c_array__(requested_schema)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return export_stream(_Once(self._data))

    def __repr__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        skipped += f", {self.others} others" if self.others else ""
        return f"<ColumnBatch of {self.num_rows} rows in {len(self)} columns{skipped}>"

    def _repr_html_(self) -> str:
        from flatstream.columns._html import batch_html

        return batch_html(self)


class _Once:
    """A source for `export_stream` that has one batch."""

    def __init__(self, data: ColumnData) -> None:
        self.type = data.type
        self._rest: ColumnData | None = data

    def next_data(self) -> ColumnData | None:
        data, self._rest = self._rest, None
        return data


class ColumnSchema:
    """The types of columns. Any library that takes an Arrow schema through the C data interface accepts it.

    Attributes
    ----------
    names : tuple of str
        The names of the columns, in order.
    types : tuple of str
        Arrow's names for their types.
    metadata : dict of str to str
        The name of the table (``flatstream.table``), the file identifier if there is one
        (``flatstream.file_identifier``), and the paths that are left out because they lead to a table inside itself,
        one per line (``flatstream.recursive``).
    """

    def __init__(self, type: ColumnType) -> None:
        self._type = type
        self.names = tuple(child.name for child in type.children)
        self.types = tuple(type_text(child) for child in type.children)
        self.metadata = dict(type.metadata)

    def to_pyarrow(self) -> Any:
        """The schema as a pyarrow.Schema.

        Raises
        ------
        ImportError
            pyarrow is not installed.
        """
        return import_library("pyarrow", "to_pyarrow").schema(self)

    def __arrow_c_schema__(self) -> object:
        return self._type.__arrow_c_schema__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ColumnSchema) and (self.names, self.types, self.metadata) == (
            other.names,
            other.types,
            other.metadata,
        )

    def __hash__(self) -> int:
        return hash((self.names, self.types))

    def __repr__(self) -> str:
        shown = [f"{name}: {type:.60}" for name, type in zip(self.names[:MAX_SHOWN], self.types, strict=False)]
        more = f", ... {len(self.names) - MAX_SHOWN} more" if len(self.names) > MAX_SHOWN else ""
        return f"<ColumnSchema {', '.join(shown)}{more}>"

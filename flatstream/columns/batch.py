"""Messages as columns: for NumPy, and by the Arrow C data interface for every library that knows it.

What is read of which field is said by the table of a schema; see `StreamReader.columns` and docs/columns.md.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

from flatstream._core.arrow.exporter import ColumnData, ColumnType, export_stream
from flatstream._core.column_reader.plan import ReadPlan
from flatstream._core.column_reader.reader import ColumnReader
from flatstream.columns._convert import array_of, frame_of, type_text, unmasked, values_of

if TYPE_CHECKING:
    from typing import Self

    from flatstream._core.flatbuf.layout import Layout
    from flatstream._core.stream.decoder import Decoder

__all__ = ["Column", "ColumnBatch", "ColumnSchema", "ColumnStream"]

# How many rows a batch has unless somebody says.
BATCH_ROWS = 65_536

# How many values an iterator over a column makes at a time.
VALUES_AHEAD = 1024


class Column:
    """One column of a `ColumnBatch`.

    Attributes
    ----------
    name : str
        The path of the field.
    type : str
        Arrow's name for its type.
    null_count : int
        How many rows have no value.

    Notes
    -----
    It is a sequence of Python values, those of `to_pylist`: an index gives one, a slice a list of them. NumPy takes it
    for the array that `to_numpy` gives, where enums are numbers. Only nulls would lose their mask on the way: they are
    NaN in an array of floats, and None in an array of objects made of any other column.
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
            raise IndexError(f"row {row} of a column of {len(self)}")
        row %= len(self)
        return values_of(self._data, row, row + 1)[0]

    def __iter__(self) -> Iterator[Any]:
        for begin in range(0, len(self), VALUES_AHEAD):
            yield from values_of(self._data, begin, min(begin + VALUES_AHEAD, len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """What NumPy makes an array of: what `to_numpy` gives, but for nulls."""
        array, new = unmasked(self._data)
        if dtype is not None and array.dtype != dtype:
            array, new = array.astype(dtype), True
        if new and copy is False:
            raise ValueError(f"an array of column {self.name!r} cannot be made without a copy")
        return array.copy() if copy and not new else array

    def to_numpy(self) -> Any:
        """The column as a NumPy array.

        Returns
        -------
        numpy.ndarray or numpy.ma.MaskedArray
            Of numbers and bools, and of fixed arrays of these (with two dimensions), a read-only view of the column's
            own memory: nothing is copied. Enums are their numbers. If there are nulls, a masked array over that view.
            Of strings, vectors, structs and unions, an array of the objects that `to_pylist` gives, which takes long
            for many rows: see `to_arrow`.

        Raises
        ------
        ImportError
            NumPy is not installed.
        """
        return array_of(self._data)

    def to_pylist(self) -> list[Any]:
        """The column as a list of Python objects: None for nulls, str, bytes, lists, and dicts for structs.

        Enums are their names, or the digits of a number that has none.
        """
        return values_of(self._data)

    def to_arrow(self) -> Any:
        """The column as a pyarrow.Array, which shares its memory.

        Raises
        ------
        ImportError
            pyarrow is not installed.
        """
        return _library("pyarrow", "to_arrow").array(self)

    def to_pandas(self) -> Any:
        """The column as a pandas.Series, by way of pyarrow; see `ColumnBatch.to_pandas`.

        Raises
        ------
        ImportError
            pandas or pyarrow is not installed.
        """
        pandas = _library("pandas", "to_pandas")
        pyarrow = _library("pyarrow", "to_pandas")
        return frame_of(pandas, pyarrow, pyarrow.table({self.name: self.to_arrow()}))[self.name]

    def to_polars(self) -> Any:
        """The column as a polars.Series.

        Raises
        ------
        ImportError
            polars is not installed.
        """
        return _library("polars", "to_polars").Series(self.name, self)

    def __arrow_c_schema__(self) -> object:
        return self._data.type.__arrow_c_schema__()

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self._data.__arrow_c_array__(requested_schema)

    def __repr__(self) -> str:
        return f"<Column {self.name!r} of {len(self)} {self.type}>"


class ColumnBatch(Mapping[str, Column]):
    """Many messages as columns: a mapping of their names to `Column`.

    Attributes
    ----------
    num_rows : int
        How many messages there are.
    skipped : int
        How many were left out since they were damaged; always 0 unless that was asked for.
    names : tuple of str
        The columns, in order.

    Notes
    -----
    The memory of a column is its own. It lives as long as the column, or an array or table that was made of it, in
    whatever library.

    Examples
    --------
    >>> from flatstream import Schema, StreamReader
    >>> schema = Schema.from_file("examples/telemetry.bfbs")
    >>> StreamReader(b"").columns(schema.root, ["sequence", "host"])
    <ColumnBatch of 0 rows in 2 columns>
    """

    def __init__(self, data: ColumnData, skipped: int = 0) -> None:
        if not isinstance(data, ColumnData):
            raise TypeError("a ColumnBatch is made by StreamReader.columns or column_batches")
        self._data = data
        self._columns = {child.type.name: child for child in data.children}
        self.num_rows = data.length
        self.skipped = skipped
        self.names = tuple(self._columns)

    @property
    def schema(self) -> ColumnSchema:
        """The types of the columns."""
        return ColumnSchema(self._data.type)

    def __getitem__(self, name: str) -> Column:
        try:
            return Column(self._columns[name])
        except KeyError:
            raise KeyError(f"no column {name!r}; there are {', '.join(map(repr, self.names)) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def to_numpy(self) -> dict[str, Any]:
        """All columns as NumPy arrays, by their names; see `Column.to_numpy`."""
        return {name: column.to_numpy() for name, column in self.items()}

    def to_pylist(self) -> list[dict[str, Any]]:
        """All rows as dicts."""
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
        pyarrow = _library("pyarrow", "to_arrow")
        return pyarrow.Table.from_batches([pyarrow.record_batch(self)])

    def to_pandas(self) -> Any:
        """The columns as a pandas.DataFrame, by way of pyarrow.

        Returns
        -------
        pandas.DataFrame
            Integers and bools are columns of NumPy's types, or, where there are nulls, of the nullable types of pandas
            ("Int64", "UInt8", "boolean"): every value is exact. Of floats, nulls are NaN. Enums are categories.

        Raises
        ------
        ImportError
            pandas or pyarrow is not installed.
        """
        pandas = _library("pandas", "to_pandas")
        return frame_of(pandas, _library("pyarrow", "to_pandas"), self.to_arrow())

    def to_polars(self) -> Any:
        """The columns as a polars.DataFrame.

        Raises
        ------
        ImportError
            polars is not installed.
        """
        return _library("polars", "to_polars").DataFrame(self)

    def __arrow_c_schema__(self) -> object:
        return self._data.type.__arrow_c_schema__()

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self._data.__arrow_c_array__(requested_schema)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return export_stream(_Once(self._data))

    def __repr__(self) -> str:
        left_out = f", {self.skipped} skipped" if self.skipped else ""
        return f"<ColumnBatch of {self.num_rows} rows in {len(self)} columns{left_out}>"


class _Once:
    """A batch as a stream of one."""

    def __init__(self, data: ColumnData) -> None:
        self.type = data.type
        self._rest: ColumnData | None = data

    def next_data(self) -> ColumnData | None:
        data, self._rest = self._rest, None
        return data


class ColumnStream:
    """Iterates over the messages of a stream as batches of columns; see `StreamReader.column_batches`.

    Attributes
    ----------
    skipped : int
        How many messages were left out so far since they were damaged.

    Notes
    -----
    It is a stream of the Arrow C data interface as well: whatever takes such a stream reads the batches one by one, as
    it wants them, and holds no more of them than it needs. Both ways take from the same messages. After an error it can
    be gone on with, as the reader can.
    """

    def __init__(self, reader: ColumnReader, batch_rows: int | None = None) -> None:
        if not isinstance(reader, ColumnReader):
            raise TypeError("a ColumnStream is made by StreamReader.column_batches")
        if batch_rows is not None:
            if not isinstance(batch_rows, int) or isinstance(batch_rows, bool):
                raise TypeError(f"batch_rows must be an int, got {type(batch_rows).__name__}: {batch_rows!r:.100}")
            if not 1 <= batch_rows <= 2**31 - 1:
                raise ValueError(f"batch_rows must be from 1 to {2**31 - 1}, got {batch_rows}")
        self._reader = reader
        self._rows = BATCH_ROWS if batch_rows is None else batch_rows
        self._one = batch_rows is None

    @property
    def schema(self) -> ColumnSchema:
        """The types of the columns."""
        return ColumnSchema(self._reader.type)

    @property
    def skipped(self) -> int:
        """How many messages were left out so far since they were damaged."""
        return self._reader.total_skipped

    @property
    def type(self) -> ColumnType:
        """What `export_stream` asks for."""
        return self._reader.type

    def next_data(self) -> ColumnData | None:
        """What `export_stream` asks for: the columns of the next batch, or None at the end."""
        found = self._reader.read(self._rows, self._one)
        return None if found is None else found[0]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ColumnBatch:
        found = self._reader.read(self._rows, self._one)
        if found is None:
            raise StopIteration
        return ColumnBatch(*found)

    def __arrow_c_schema__(self) -> object:
        return self._reader.type.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return export_stream(self)

    def __repr__(self) -> str:
        return f"<ColumnStream of {', '.join(self.schema.names)}>"


class ColumnSchema:
    """The types of columns; whatever takes an Arrow schema by the C data interface takes this.

    Attributes
    ----------
    names : tuple of str
        The columns, in order.
    types : tuple of str
        Arrow's names for their types.
    metadata : dict of str to str
        The name of the table (``flatstream.table``), the file identifier if there is one
        (``flatstream.file_identifier``), and, a line for each, paths that were left out because they lead back into a
        table that they are in (``flatstream.recursive``).
    """

    def __init__(self, type: ColumnType) -> None:
        self._type = type
        self.names = tuple(child.name for child in type.children)
        self.types = tuple(type_text(child) for child in type.children)
        self.metadata = dict(type.metadata)

    def to_pyarrow(self) -> Any:
        """The same as a pyarrow.Schema.

        Raises
        ------
        ImportError
            pyarrow is not installed.
        """
        return _library("pyarrow", "to_pyarrow").schema(self)

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
        columns = ", ".join(f"{name}: {type}" for name, type in zip(self.names, self.types, strict=True))
        return f"<ColumnSchema {columns}>"


def _library(name: str, method: str) -> Any:
    """An optional library, imported when it is first asked for."""
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(f"{method}() needs {name}: pip install 'flatstream[columns]'") from error


def plan_of(
    layout: Layout,
    table: int,
    name: str,
    fields: Iterable[str] | None,
    enums: Literal["dictionary", "number"],
) -> ReadPlan:
    """What is read of each message."""
    metadata = {"flatstream.table": name}
    if layout.file_identifier:
        metadata["flatstream.file_identifier"] = layout.file_identifier.decode("latin-1")
    return ReadPlan(layout, table, fields, enums, metadata)


def reader_of(
    decoder: Decoder,
    layout: Layout,
    table: int,
    name: str,
    fields: Iterable[str] | None,
    where: tuple[str, Any, Any] | None,
    verify: bool,
    enums: Literal["dictionary", "number"],
    on_error: Literal["raise", "skip"],
    progress: Callable[[int, int], object] | None,
) -> ColumnReader:
    """What reads columns, from the arguments of `StreamReader.columns`."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r:.100}")
    plan = plan_of(layout, table, name, fields, enums)
    condition = low = high = None
    if where is not None:
        if not isinstance(where, (tuple, list)) or len(where) != 3 or not isinstance(where[0], str):
            raise TypeError(f"where must be (path, low, high), got {where!r:.200}")
        path, low, high = where
        condition = ReadPlan(layout, table, [path], "number")
    return ColumnReader(
        decoder, plan, condition, low, high, verify=bool(verify), skip=on_error == "skip", progress=progress
    )


def read_columns(reader: ColumnReader) -> ColumnBatch:
    """All messages that are left as one batch."""
    found = reader.read(None)
    assert found is not None
    return ColumnBatch(*found)

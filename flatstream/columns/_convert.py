"""Conversion of columns to Python objects, NumPy arrays and pandas frames, and Arrow's names for their types."""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import Any

from flatstream._core.arrow.exporter import WIDTHS, ColumnData, ColumnType

# By format of the C data interface: Arrow's name of the type, and its format in memoryview and NumPy.
NUMBERS = {
    "b": ("bool", "?"),
    "c": ("int8", "b"),
    "C": ("uint8", "B"),
    "s": ("int16", "h"),
    "S": ("uint16", "H"),
    "i": ("int32", "i"),
    "I": ("uint32", "I"),
    "l": ("int64", "q"),
    "L": ("uint64", "Q"),
    "f": ("float", "f"),
    "g": ("double", "d"),
}


def type_text(type: ColumnType) -> str:
    """Arrow's name of a type."""
    if type.presence:
        return "bool"
    if type.labels is not None:
        return "dictionary<values=string, indices=int32>"
    if type.format in NUMBERS:
        return NUMBERS[type.format][0]
    if type.format == "U":
        return "large_string"
    if type.format == "Z":
        return "large_binary"
    inner = ", ".join(f"{child.name}: {type_text(child)}" for child in type.children)
    if type.format == "+L":
        return f"large_list<{inner}>"
    if type.format.startswith("+w:"):
        return f"fixed_size_list<{inner}>[{type.format[3:]}]"
    return f"struct<{inner}>"


def view_of(memory: Any) -> Any:
    """The bytes of one buffer of a column."""
    # Before Python 3.12, annotations cannot express that an object has the buffer protocol.
    return memoryview(memory)


def numbers_of(data: ColumnData) -> Any:
    """The numbers of a column, as a memoryview of their type over the column's memory."""
    return view_of(data.data)[: data.length * WIDTHS[data.type.format]].cast(NUMBERS[data.type.format][1])


def _plain_values(data: ColumnData, begin: int, end: int) -> list[Any]:
    """The values of the rows from `begin` to `end`. A null row has an arbitrary value."""
    type = data.type
    if type.format in NUMBERS:
        numbers: list[Any] = numbers_of(data)[begin:end].tolist()
        if type.labels is None:
            return numbers
        assert type.numbers is not None
        names = dict(zip(type.numbers, type.labels, strict=True))
        return [names.get(number) or str(number) for number in numbers]
    if type.format in ("U", "Z", "+L"):
        offsets: list[int] = view_of(data.offsets)[8 * begin : 8 * (end + 1)].cast("q").tolist()
        first = offsets[0]
        content: Any
        if type.format == "+L":
            content = values_of(data.children[0], first, offsets[-1])
        else:
            content = bytes(view_of(data.data)[first : offsets[-1]])
        pieces = [content[start - first : stop - first] for start, stop in pairwise(offsets)]
        return [piece.decode() for piece in pieces] if type.format == "U" else pieces
    if type.format.startswith("+w:"):
        size = int(type.format[3:])
        items = values_of(data.children[0], size * begin, size * end)
        return [items[size * row : size * (row + 1)] for row in range(end - begin)]
    members = [child.type.name for child in data.children]
    if not members:
        return [{} for _ in range(begin, end)]
    columns = [values_of(child, begin, end) for child in data.children]
    return [dict(zip(members, row, strict=True)) for row in zip(*columns, strict=True)]


def values_of(data: ColumnData, begin: int = 0, end: int | None = None) -> list[Any]:
    """The values of the rows from `begin` to `end`, with None for nulls."""
    end = data.length if end is None else end
    values = _plain_values(data, begin, end)
    if data.validity is None:
        return values
    valid = view_of(data.validity)[begin:end]
    return [value if is_valid else None for value, is_valid in zip(values, valid, strict=True)]


def array_of(data: ColumnData) -> Any:
    """A column as a NumPy array; see `Column.to_numpy`."""
    try:
        import numpy as np
    except ImportError as error:
        raise ImportError("to_numpy() needs numpy: pip install 'flatstream[numpy]'") from error

    type = data.type
    values: Any
    if type.format in NUMBERS:
        values = np.frombuffer(numbers_of(data), NUMBERS[type.format][1])
    elif type.format.startswith("+w:") and data.children[0].type.format in NUMBERS:
        values = array_of(data.children[0]).reshape(data.length, int(type.format[3:]))
    else:
        values = np.empty(data.length, object)
        # Loop, not one assignment: NumPy would turn nested lists into dimensions.
        for row, value in enumerate(values_of(data)):
            values[row] = value
        return values
    if data.validity is None:
        return values
    mask = np.frombuffer(view_of(data.validity), np.uint8, data.length) == 0
    if values.ndim == 2:
        mask = np.repeat(mask[:, None], values.shape[1], axis=1)
    return np.ma.MaskedArray(values, mask)


def plain_array_of(data: ColumnData) -> array[Any]:
    """A column as an array of the standard library; see `Column.to_array`."""
    if data.type.format not in NUMBERS:
        raise TypeError(f"to_array() needs a column of numbers, and {data.type.name!r} has {type_text(data.type)}")
    if data.null_count:
        raise ValueError(
            f"column {data.type.name!r} has {data.null_count} nulls, for which an array has no value: use to_pylist()"
        )
    numbers = numbers_of(data)
    return array("B" if numbers.format == "?" else numbers.format, numbers.tobytes())


def unmasked(data: ColumnData) -> tuple[Any, bool]:
    """A column as an array without a mask, and whether the array is a copy; see `Column.__array__`."""
    values = array_of(data)
    if not hasattr(values, "mask"):
        return values, values.dtype.kind == "O"
    if values.dtype.kind == "f":
        return values.filled(float("nan")), True
    objects = values.data.astype(object)
    objects[values.mask] = None
    return objects, True


def frame_of(pandas: Any, pyarrow: Any, table: Any) -> Any:
    """A pyarrow.Table as a pandas.DataFrame with exact integers; see `ColumnBatch.to_pandas`."""
    dtypes = {pyarrow.bool_(): pandas.BooleanDtype()}
    for bits in (8, 16, 32, 64):
        for sign in ("Int", "UInt"):
            dtypes[getattr(pyarrow, f"{sign.lower()}{bits}")()] = getattr(pandas, f"{sign}{bits}Dtype")()
    # By default, pyarrow converts integers to floats if there are nulls, in structs too.
    with_nulls = [field.name for field in table.schema if field.type in dtypes and table[field.name].null_count]
    if not with_nulls:
        return table.to_pandas(integer_object_nulls=True)
    rest = table.drop_columns(with_nulls).to_pandas(integer_object_nulls=True)
    exact = table.select(with_nulls).to_pandas(types_mapper=dtypes.get)
    return pandas.concat([rest, exact], axis=1)[table.column_names]


def import_library(name: str, method: str) -> Any:
    """Imports an optional library for a method that needs it."""
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(f"{method}() needs {name}: pip install 'flatstream[columns]'") from error

"""One Arrow schema for files whose schemas differ, and the conversion of each file's columns to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from flatstream.description._schemas import UNITS

if TYPE_CHECKING:
    from flatstream._core.arrow.exporter import ColumnType
    from flatstream.schema import Table

__all__ = [
    "TIMES",
    "Kind",
    "Projection",
    "TypeConflictError",
    "convert",
    "empty_parts",
    "fields_of_table",
    "labels_of",
    "nullable_field",
    "raise_missing",
    "time_of",
    "unify",
]

# What the times of messages can become: timestamps of their own unit, numbers as they are stored, or timestamps of a
# unit, to which they are rounded down.
TIMES = ("timestamp", "number", "s", "ms", "us", "ns")


# How many types of columns are kept: most datasets have files of few tables, and are asked more than once.
KEPT = 1024


class TypeConflictError(TypeError):
    """A field has types in two files that no type holds without loss."""


class Kind(NamedTuple):
    """What the messages of some files of a dataset are, and the name of one of these files.

    Attributes
    ----------
    table : Table
        That of their messages.
    time : (str, str) or None
        The path of the field with the time of a message, and its unit.
    path : str
        One of the files, for messages.
    """

    table: Table
    time: tuple[str, str] | None
    path: str

    @property
    def key(self) -> tuple[int, tuple[str, str] | None]:
        """Equal for files whose columns are the same."""
        return id(self.table), self.time


def fields_of_table(kind: Kind, paths: Iterable[str] | None, times: str) -> dict[str, pa.Field]:
    """The fields of a table as a dataset gives them, with its time as a timestamp; without those that it lacks.

    Parameters
    ----------
    kind : Kind
        The table.
    paths : iterable of str, optional
        By default all fields, each of a table or struct as one column.
    times : str
        One of TIMES. (Times are rounded later.)
    """
    time = None if times == "number" else kind.time
    if paths is None:
        return {field.name: _timed(field, time, field.name) for field in _all_fields(kind.table)}
    found = {}
    for path in paths:
        field = _field_at(kind.table, path)
        if field is not None:
            found[path] = _timed(field, time, path)
    return found


@lru_cache(KEPT)
def _all_fields(table: Table) -> tuple[pa.Field, ...]:
    """The columns of a table, each table or struct as one."""
    return tuple(table.arrow_schema().to_pyarrow())


@lru_cache(KEPT)
def _field_at(table: Table, path: str) -> pa.Field | None:
    """The column at a path of a table; None if there is none."""
    try:
        schema = table.arrow_schema([path]).to_pyarrow()
    except KeyError:
        return None
    # The path may be that of a variant of a union, which has other names.
    return schema.field(0)


def _timed(field: pa.Field, time: tuple[str, str] | None, path: str) -> pa.Field:
    """The field, in which the integer at the path of the time is a timestamp."""
    if time is None or (time[0] != path and not time[0].startswith(path + ".")):
        return field
    if time[0] == path:
        is_time = pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)
        return field.with_type(pa.timestamp(time[1], "UTC")) if is_time else field
    if not pa.types.is_struct(field.type):
        return field
    children = [_timed(child, time, f"{path}.{child.name}") for child in field.type]
    return field.with_type(pa.struct(children))


def _rounded(field: pa.Field, time: tuple[str, str] | None, path: str, times: str) -> pa.Field:
    """The field with the time in the unit that `times` says."""
    return field if times not in UNITS or time is None else _timed(field, (time[0], times), path)


# One type


def time_of(kinds: Sequence[Kind]) -> tuple[str, str] | None:
    """The path of the time of a dataset's messages, and the finest unit that it has in a file; None without one, or
    with several.
    """
    found = {kind.time for kind in kinds if kind.time is not None}
    if len({path for path, _ in found}) != 1:
        return None
    return min(found, key=lambda time: UNITS[time[1]])


def unify(kinds: Sequence[Kind], paths: Sequence[str] | None, times: str) -> pa.Schema:
    """The schema of the columns of several tables.

    A field that a table lacks can be null. Types that differ become one that holds the values of both.

    Parameters
    ----------
    kinds : sequence of Kind
        In the order of their files. Fields are in the order in which they are first seen.
    paths : sequence of str, optional
        The columns, in this order; by default all.
    times : str
        One of TIMES.

    Raises
    ------
    KeyError
        No table has a field at a path.
    TypeConflictError
        There is no type for two that differ.
    """
    found: dict[str, tuple[pa.Field, str]] = {}
    missing: set[str] = set()
    empty = frozenset().union(*map(empty_parts, kinds)) if len(kinds) > 1 else frozenset()
    for number, kind in enumerate(kinds):
        own = {
            name: _rounded(field, kind.time, name, times) for name, field in fields_of_table(kind, paths, times).items()
        }
        for name, field in own.items():
            if name not in found:
                found[name] = field.with_name(name), kind.path
                if number:
                    missing.add(name)
                continue
            before, where = found[name]
            found[name] = _unified_field(before, field, name, (where, kind.path), empty), where
        missing.update(found.keys() - own.keys())
    order: Iterable[str] = found
    if paths is not None:
        for path in paths:
            if path not in found:
                raise_missing(kinds, path)
        order = paths
    return pa.schema([nullable_field(found[name][0]) if name in missing else found[name][0] for name in order])


def nullable_field(field: pa.Field) -> pa.Field:
    """The field as one of a column that files lack: it can be null, and so can all that is inside of it.

    Where a struct or a fixed array is null, so are its children: Arrow allows that only of children that are nullable,
    and Parquet is not written otherwise.
    """
    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([nullable_field(child) for child in kind])
    elif pa.types.is_fixed_size_list(kind):
        kind = pa.list_(nullable_field(kind.value_field), kind.list_size)
    elif pa.types.is_large_list(kind):
        kind = pa.large_list(nullable_field(kind.value_field))
    return field.with_type(kind).with_nullable(True)


def raise_missing(kinds: Sequence[Kind], path: str) -> NoReturn:
    """Raises KeyError for a path at which no table has a field."""
    names = list(dict.fromkeys(name for kind in kinds for name in kind.table.field_names))
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    raise KeyError(f"no field {path!r:.200} in any file of the dataset: there are {shown or 'none'}")


def _unified_field(
    one: pa.Field, other: pa.Field, path: str, where: tuple[str, str], empty: frozenset[str]
) -> pa.Field:
    if one.type.equals(other.type) and one.nullable == other.nullable:
        return one
    made = _unified(one.type, other.type, path, where, empty)
    return pa.field(one.name, made, one.nullable or other.nullable)


def _unified(
    one: pa.DataType, other: pa.DataType, path: str, where: tuple[str, str], empty: frozenset[str]
) -> pa.DataType:
    """The type that holds both.

    Parameters
    ----------
    one, other : pyarrow.DataType
        The types of a field.
    path : str
        The field, with "[]" for the items of a vector.
    where : (str, str)
        The file of each.
    empty : frozenset of str
        The paths of tables and structs that have no fields in some files.
    """
    if one.equals(other):
        return one
    types = pa.types
    if path in empty:
        # A table that was given fields later: before, it is a column that is true where there is one.
        filled = [kind for kind in (one, other) if types.is_struct(kind)]
        if len(filled) == 1 and any(types.is_boolean(kind) for kind in (one, other)):
            return pa.struct([nullable_field(child) for child in filled[0]])
    made = None
    if types.is_integer(one) and types.is_integer(other):
        made = _wider_integer(one, other)
    elif types.is_floating(one) and types.is_floating(other):
        made = pa.float64()
    elif types.is_timestamp(one) and types.is_timestamp(other):
        finer = min(one.unit, other.unit, key=lambda unit: UNITS[unit])
        made = pa.timestamp(finer, "UTC")
    elif types.is_struct(one) and types.is_struct(other):
        made = _unified_struct(one, other, path, where, empty)
    elif types.is_large_list(one) and types.is_large_list(other):
        item = _unified_field(one.value_field, other.value_field, f"{path}[]", where, empty)
        made = pa.large_list(item)
    elif types.is_fixed_size_list(one) and types.is_fixed_size_list(other) and one.list_size == other.list_size:
        item = _unified_field(one.value_field, other.value_field, f"{path}[]", where, empty)
        made = pa.list_(item, one.list_size)
    if made is not None:
        return made
    hint = ""
    if types.is_timestamp(one) or types.is_timestamp(other):
        hint = "; only one of them is the time of its messages: times='number' gives both as numbers"
    raise TypeConflictError(
        f"the field {path!r} is {one} in {where[0]} and {other} in {where[1]}: no type holds both without loss{hint}"
    )


def _wider_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    signed = [kind for kind in (one, other) if pa.types.is_signed_integer(kind)]
    if len(signed) != 1:
        return max(one, other, key=lambda kind: kind.bit_width)
    unsigned = other if signed[0] is one else one
    width = max(signed[0].bit_width, 2 * unsigned.bit_width)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(width)


def _unified_struct(
    one: pa.DataType, other: pa.DataType, path: str, where: tuple[str, str], empty: frozenset[str]
) -> pa.DataType:
    names = list(dict.fromkeys([field.name for field in one] + [field.name for field in other]))
    fields = []
    for name in names:
        has = one.get_field_index(name) >= 0, other.get_field_index(name) >= 0
        if all(has):
            fields.append(_unified_field(one.field(name), other.field(name), f"{path}.{name}", where, empty))
        else:
            fields.append(nullable_field((one if has[0] else other).field(name)))
    return pa.struct(fields)


Labels = Mapping[str, tuple[str, ...]]


def labels_of(kinds: Sequence[Kind], paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names of the enums that do not have the same names in all files, by path; those of all files together.

    Parameters
    ----------
    kinds : sequence of Kind
        In the order of their files.
    paths : sequence of str
        Columns.
    """
    found: dict[str, list[tuple[str, ...]]] = {}
    for kind in kinds:
        for path in paths:
            try:
                columns = kind.table.arrow_schema([path])
            except KeyError:
                continue
            _collect(columns._type.children[0], path, found)
    return {
        path: tuple(dict.fromkeys(name for names in known for name in names))
        for path, known in found.items()
        if len(set(known)) > 1
    }


def _collect(column: ColumnType, path: str, found: dict[str, list[tuple[str, ...]]]) -> None:
    if column.labels is not None:
        found.setdefault(path, []).append(tuple(column.labels))
    is_struct = column.format == "+s"
    for child in column.children:
        _collect(child, f"{path}.{child.name}" if is_struct else f"{path}[]", found)


def empty_parts(kind: Kind) -> frozenset[str]:
    """The paths of the tables and structs without fields, which Arrow shows as columns that are true where one is.

    The items of a vector have the path of the vector with "[]".
    """
    return _empty_parts(kind.table)


@lru_cache(KEPT)
def _empty_parts(table: Table) -> frozenset[str]:
    found: set[str] = set()
    waiting = [(column.name, column) for column in table.arrow_schema()._type.children]
    while waiting:
        path, column = waiting.pop()
        is_struct = column.format == "+s"
        if is_struct and not column.children:
            found.add(path)
        waiting += ((f"{path}.{child.name}" if is_struct else f"{path}[]", child) for child in column.children)
    return frozenset(found)


# Conversion


class Projection:
    """How the columns that are read from the files of one table become those of the dataset.

    Parameters
    ----------
    kind : Kind
        The table.
    schema : pyarrow.Schema
        The columns of the dataset, whose names are paths.
    times : str
        One of TIMES.
    labels : dict of str to tuple of str, optional
        See `labels_of`.

    Attributes
    ----------
    paths : list of str
        The fields to be read, as for `StreamReader.columns`.
    """

    def __init__(self, kind: Kind, schema: pa.Schema, times: str, labels: Labels | None = None) -> None:
        labels = labels or {}
        self._labels = labels
        own = fields_of_table(kind, schema.names, times)
        self.schema = schema
        self.kind = kind
        self.paths: list[str] = []
        # For each column of the dataset: which column that is read, the fields on the way to it inside, and its type in
        # these files, with the time as a timestamp, or None if that is what is read and wanted. None: it has no field.
        self._steps: list[tuple[int, tuple[str, ...], pa.DataType | None] | None] = []
        known = [path for path in schema.names if path in own]
        for field in schema:
            if field.name not in own:
                self._steps.append(None)
                continue
            # A field inside of a column that is read anyway cannot be read a second time.
            outer = min((path for path in known if field.name == path or field.name.startswith(path + ".")), key=len)
            if outer not in self.paths:
                self.paths.append(outer)
            inner = tuple(field.name[len(outer) + 1 :].split(".")) if outer != field.name else ()
            read = _field_at(kind.table, field.name)
            assert read is not None
            is_same = not inner and read.type.equals(field.type) and not _is_labelled(field.name, labels)
            self._steps.append((self.paths.index(outer), inner, None if is_same else own[field.name].type))

    def apply(self, batch: Any) -> pa.RecordBatch:
        """The columns of the dataset, of a ColumnBatch of `paths`."""
        read = pa.record_batch(batch)
        arrays = []
        for field, step in zip(self.schema, self._steps, strict=True):
            if step is None:
                arrays.append(pa.nulls(read.num_rows, field.type))
                continue
            index, inner, own = step
            array = read.column(index)
            if inner:
                array = pc.struct_field(array, list(inner))
            if own is not None:
                array = convert(convert(array, own, field.name), field.type, field.name, self._labels)
            arrays.append(array)
        if arrays:
            return pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        return read.select([])


def _is_labelled(path: str, labels: Labels) -> bool:
    """Whether the names of an enum at a path, or inside of it, differ between files."""
    return any(known == path or known.startswith((f"{path}.", f"{path}[]")) for known in labels)


def convert(array: pa.Array, kind: pa.DataType, path: str, labels: Labels | None = None) -> pa.Array:
    """An array as one of another type, without loss.

    Parameters
    ----------
    array : pyarrow.Array
        The values.
    kind : pyarrow.DataType
        The type; see `unify`.
    path : str
        Of the column, for messages and `labels`.
    labels : dict of str to tuple of str, optional
        The names of enums, by path.

    Raises
    ------
    OverflowError
        A time lies behind the largest that a timestamp has.
    """
    own = array.type
    if own.equals(kind) and not (labels and _is_labelled(path, labels)):
        return array
    types = pa.types
    if types.is_dictionary(kind):
        return _relabelled(array, (labels or {}).get(path))
    if types.is_timestamp(kind):
        return _times(array, kind, path)
    if types.is_struct(kind):
        children = []
        for field in kind:
            # A table that had no fields is a column that is true.
            place = own.get_field_index(field.name) if types.is_struct(own) else -1
            if place < 0:
                children.append(pa.nulls(len(array), field.type))
            else:
                children.append(convert(array.field(place), field.type, f"{path}.{field.name}", labels))
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask) if children else array
    if types.is_large_list(kind) or types.is_fixed_size_list(kind):
        values = convert(array.values, kind.value_type, f"{path}[]", labels)
        # The list of other values.
        buffers = list(array.buffers()[: kind.num_buffers])
        return pa.Array.from_buffers(kind, len(array), buffers, array.null_count, array.offset, [values])
    return array.cast(kind)


def _relabelled(array: pa.DictionaryArray, labels: tuple[str, ...] | None) -> pa.DictionaryArray:
    """Enums with these names first, and then those of numbers that have no name."""
    own = array.dictionary.to_pylist()
    if labels is None or tuple(own) == labels:
        return array
    places = {name: place for place, name in enumerate(dict.fromkeys((*labels, *own)))}
    indices = pa.array([places[name] for name in own], pa.int32()).take(array.indices)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(places), array.type.value_type))


def _times(array: pa.Array, kind: pa.DataType, path: str) -> pa.Array:
    if pa.types.is_timestamp(array.type):
        if UNITS[array.type.unit] < UNITS[kind.unit]:
            # Down, also before 1970. (Arrow's floor_temporal overflows within a unit of the lowest number.)
            counts = array.view(pa.int64())
            step = pa.scalar(UNITS[kind.unit] // UNITS[array.type.unit], pa.int64())
            whole = pc.divide(counts, step)
            is_below = pc.less(counts, pc.multiply(whole, step))
            return pc.subtract(whole, is_below.cast(pa.int64())).view(kind)
        try:
            return array.cast(kind)
        except pa.ArrowInvalid as error:
            raise OverflowError(f"a time {path!r} does not fit a timestamp in {kind.unit}: {error}") from None
    if pa.types.is_uint64(array.type):
        largest = pc.max(array).as_py()
        if largest is not None and largest >= 2**63:
            raise OverflowError(
                f"the time {path!r} has the value {largest}, and timestamps of Arrow end at {2**63 - 1}: "
                "times='number' gives the numbers"
            )
        return array.view(pa.int64()).view(kind)
    whole = array if pa.types.is_int64(array.type) else array.cast(pa.int64())
    return whole.view(kind)

"""What is known about the columns of a dataset, and about the fields of one file, when a predicate is taken apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from flatstream._core.records.conditions import UNITS
from flatstream.columns.stream import make_plan
from flatstream.datasets._value_sets import (
    BEGIN,
    END,
    Cut,
    ValueSet,
    before_integer,
    behind_integer,
    in_units,
    union_of,
)

if TYPE_CHECKING:
    import pyarrow

    from flatstream._core.arrow.exporter import ColumnType
    from flatstream.schema import Table

# What the formats of Arrow are compared as, of the columns that are read; all others can only be tested for null.
FORMATS = defaultdict(lambda: "other", dict.fromkeys("cCsSiIlL", "integer"), b="bool", f="real", g="real", U="text")


# How many values a condition may list. With more, it takes longer to make it for each piece of a file than to look the
# values up in a library's hash table.
MAX_POINTS = 256


class Columns:
    """The columns of a dataset, by their paths.

    Parameters
    ----------
    schema : pyarrow.Schema
        All columns, where a table or a struct is one.
    times : mapping of str to str
        The path of each field with the time of a message, and the unit that it counts in.
    extra : iterable of str
        The columns that are no fields of messages.
    empty : iterable of str
        The tables and structs without fields, whose columns are true where there is one.
    """

    def __init__(
        self,
        schema: pyarrow.Schema,
        times: Mapping[str, str],
        extra: Iterable[str] = (),
        empty: Iterable[str] = (),
    ) -> None:
        self.schema = schema
        self.times = dict(times)
        self.extra = frozenset(extra)
        self.empty = frozenset(empty)
        self._found: dict[str, tuple[pyarrow.DataType, bool] | None] = {}

    def type_of(self, path: str) -> Any:
        """The type of a column, or of a field inside of one; None if there is no such field."""
        found = self._find(path)
        return None if found is None else found[0]

    def _find(self, path: str) -> tuple[pyarrow.DataType, bool] | None:
        """The type, and whether the path leads through a union or to one."""
        if path not in self._found:
            self._found[path] = self._walk(path)
        return self._found[path]

    def _walk(self, path: str) -> tuple[pyarrow.DataType, bool] | None:
        import pyarrow

        if path in self.schema.names:
            type_ = self.schema.field(path).type
            return type_, self._is_union(set(self.schema.names), path)
        names = {field.name: field.type for field in self.schema}
        is_union = False
        type_ = None
        for name in path.split("."):
            if name not in names:
                return None
            type_ = names[name]
            is_union = is_union or self._is_union(set(names), name)
            names = {field.name: field.type for field in type_} if pyarrow.types.is_struct(type_) else {}
        return type_, is_union

    @staticmethod
    def _is_union(names: set[str], name: str) -> bool:
        """Whether this may be a union, beside which its type has a name that tells so."""
        return f"{name}_type" in names

    def domain(self, path: str) -> str | None:
        """What the values of a column are compared as.

        Returns
        -------
        str or None
            "bool", "integer", "real", "text", "label" (a name of an enum), "time", or "other" for what can only be
            tested for null. None if nothing can be said about the column.
        """
        import pyarrow

        found = self._find(path)
        if found is None or found[1] or path in self.extra:
            return None
        if path in self.empty:
            return "other"
        type_ = found[0]
        types = pyarrow.types
        if types.is_timestamp(type_) or (types.is_integer(type_) and path in self.times):
            return "time" if path in self.times else None
        if types.is_boolean(type_):
            return "bool"
        if types.is_integer(type_):
            return "integer"
        if types.is_floating(type_):
            return "real"
        if types.is_string(type_) or types.is_large_string(type_):
            return "text"
        if types.is_dictionary(type_):
            return "label"
        return "other"

    def is_number(self, path: str) -> bool:
        """Whether a column is one of integers."""
        import pyarrow

        type_ = self.type_of(path)
        return type_ is not None and bool(pyarrow.types.is_integer(type_))

    def unit_of(self, path: str) -> int:
        """The unit of a column of times, in nanoseconds."""
        return UNITS[self.times[path] if self.is_number(path) else self.type_of(path).unit]

    def integer_range(self, path: str) -> tuple[int, int, bool]:
        """The smallest and the largest number of a column of integers, and whether it is of uint64."""
        import pyarrow

        type_ = self.type_of(path)
        width = type_.bit_width
        if pyarrow.types.is_signed_integer(type_):
            return -(2 ** (width - 1)), 2 ** (width - 1) - 1, False
        return 0, 2**width - 1, width == 64


class FileFields:
    """The fields of the messages of one file.

    Parameters
    ----------
    table : Table
        The table of its messages.
    time : (str, str) or None
        The path of the field with the time of a message, and its unit in this file.
    """

    def __init__(self, table: Table, time: tuple[str, str] | None) -> None:
        self.table = table
        self.time = time
        self._found: dict[str, ColumnType | str] = {}

    def column(self, path: str) -> ColumnType | str:
        """The type of the column that a field is read as; or "missing", or "unknown" if it cannot be read so."""
        if path not in self._found:
            found: ColumnType | str
            try:
                (found,) = make_plan(self.table, [path]).type.children
            except KeyError:
                found = "missing"
            except ValueError:
                found = "unknown"
            self._found[path] = found
        return self._found[path]

    def unit_of(self, path: str, unit: str) -> str:
        """The unit of a field with a time; of the dataset, if the file does not say one."""
        return self.time[1] if self.time is not None and self.time[0] == path else unit

    def values(self, path: str, domain: str, values: ValueSet, unit: str | None) -> ValueSet:
        """Of a set of values of a column, those that the field has in this file.

        Parameters
        ----------
        path, domain, values
            The field, which is not missing, what its values are compared as, and the set.
        unit : str or None
            The unit of times of the dataset; the file may have another one.

        Raises
        ------
        TypeError
            The field has another type here than in the dataset, which no dataset should have.
        """
        column = self.column(path)
        own = column if isinstance(column, str) else "label" if column.labels is not None else FORMATS[column.format]
        expected = "integer" if domain == "time" else domain
        if isinstance(column, str) or expected not in (own, "other"):
            raise TypeError(f"where: {path} is {own} in {self.table.name}, and {domain} in the dataset")
        if domain == "time":
            values = in_units(values, UNITS[self.unit_of(path, unit or "")])
        elif domain == "label":
            values = numbers_of(values, dict(zip(column.numbers or (), column.labels or (), strict=True)))
        return ValueSet(
            values.intervals,
            values.null and column.nullable,
            values.nan and (domain == "other" or column.format in "fg"),
        )


def numbers_of(values: ValueSet, names: Mapping[int, str]) -> ValueSet:
    """Of a set of names of an enum, or of all but some names, the numbers.

    Columns show a number that has no name as its digits.
    """
    is_rest = bool(values.intervals) and values.intervals[0][0] == BEGIN
    intervals = values.others.intervals if is_rest else values.intervals
    wanted = {begin[1] for begin, _ in intervals}
    numbers = [number for number, name in names.items() if name in wanted]
    for name in wanted:
        if name.isascii() and name.removeprefix("-").isdecimal() and str(int(name)) == name and int(name) not in names:
            numbers.append(int(name))
    made = ValueSet(union_of((before_integer(number), behind_integer(number)) for number in numbers))
    return ValueSet(made.others.intervals if is_rest else made.intervals, values.null, values.nan)


def conditions_of(
    path: str, values: ValueSet, *, integers: bool, nullable: bool, most: float = MAX_POINTS
) -> list[tuple[Any, ...]]:
    """The conditions, for reading columns, that let through what a set has; or more, if there are none that say it.

    The set has neither null nor NaN, and is not empty. `most` is how many values a condition may list.
    """
    points = _points(values.intervals, integers, most) if len(values.intervals) > 1 or not integers else None
    if points is not None:
        return [(path, "==", points[0])] if len(points) == 1 else [(path, "in", points)]
    made: list[tuple[Any, ...]] = []
    begin, end = values.intervals[0][0], values.intervals[-1][1]
    if begin != BEGIN:
        made.append((path, ">" if begin[2] else ">=", begin[1]))
    if end != END:
        made.append((path, "<=" if end[2] else "<", end[1]))
    excluded = _points(_gaps(values), integers, most)
    if excluded:
        made.append((path, "not in", excluded))
    if not made and nullable:
        made.append((path, None, None))
    return made


def says_all(values: ValueSet, *, integers: bool) -> bool:
    """Whether `conditions_of` lets through nothing but what the set has."""
    if values.null or values.nan:
        return False
    return any(_points(each, integers, MAX_POINTS) is not None for each in (values.intervals, _gaps(values)))


def _gaps(values: ValueSet) -> list[tuple[Cut, Cut]]:
    intervals = values.intervals
    return [(one[1], other[0]) for one, other in pairwise(intervals)]


def _points(intervals: Sequence[tuple[Cut, Cut]], integers: bool, most: float) -> list[Any] | None:
    """The values in intervals; None if they cannot be listed, or are too many."""
    points: list[Any] = []
    for begin, end in intervals:
        if begin == BEGIN or end == END:
            return None
        if integers and len(points) + end[1] - begin[1] <= most:
            points.extend(range(begin[1], end[1]))
        elif not integers and begin[1] == end[1]:
            points.append(begin[1])
        else:
            return None
    return points

"""The field with the time of a message, and its unit."""

from __future__ import annotations

from typing import NamedTuple

from flatstream.schema import Table
from flatstream.schema._reflection import INTEGERS
from flatstream.tools.conversion._fields import resolve, unit_of
from flatstream.tools.conversion._options import NANOSECONDS, Known

__all__ = ["TimeField", "time_field_of"]


class TimeField(NamedTuple):
    """The path of an integer field with a time since 1970, and its unit."""

    path: str
    unit: str

    @property
    def factor(self) -> int:
        """How many nanoseconds its unit has."""
        return NANOSECONDS[self.unit]


def time_field_of(table: Table, known: Known, path: str | None, unit: str | None) -> TimeField | None:
    """The field that the caller names, else the one that the source says, else the only one whose name says it.

    Raises
    ------
    ValueError
        The field that was named does not exist, is no integer, or has no unit.
    """
    if path is None:
        described = known.time_of(table)
        if described is not None:
            return TimeField(described[0], unit or described[1])
        return _guess(table)
    try:
        field = resolve(table, path)
    except KeyError as error:
        raise ValueError(f"time_field: {error.args[0]}") from None
    if field.type.base not in INTEGERS:
        raise ValueError(f"time_field: the field {path!r} of {table.name} is no integer")
    found = unit or unit_of(path)
    if found is None:
        raise ValueError(f"time_field: the field {path!r} of {table.name} does not say its unit: pass time_unit=")
    return TimeField(path, found)


def _guess(table: Table) -> TimeField | None:
    names = [
        field.name
        for field in table._info.fields
        if field.type.base in INTEGERS and not field.deprecated and _is_time(field.name)
    ]
    if len(names) > 1:
        names = [name for name in names if name.rpartition("_")[0] in ("time", "timestamp")]
    return TimeField(names[0], names[0].rpartition("_")[2]) if len(names) == 1 else None


def _is_time(name: str) -> bool:
    stem, _, unit = name.rpartition("_")
    known = ("time", "timestamp", "ts")
    return unit in NANOSECONDS and (stem in known or stem.endswith(tuple(f"_{word}" for word in known)))

"""The field with the time of a message, and its unit."""

from __future__ import annotations

from flatstream.schema import Table
from flatstream.tools._times import TimeField, guess_time_field, time_field
from flatstream.tools.conversion._options import Known

__all__ = ["TimeField", "time_field_of"]


def time_field_of(table: Table, known: Known, path: str | None, unit: str | None) -> TimeField | None:
    """The field that the caller names, else the one that the source says, else the only one whose name says it.

    Raises
    ------
    ValueError
        The field that was named does not exist, is no integer, or has no unit.
    """
    if path is not None:
        return time_field(table, path if unit is None else (path, unit))
    described = known.time_of(table)
    return guess_time_field(table) if described is None else TimeField(described[0], unit or described[1])

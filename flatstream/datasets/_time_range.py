"""TimeRange: the first and the last time in a dataset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from flatstream.description._schemas import UNITS

__all__ = ["TimeRange"]


class TimeRange(NamedTuple):
    """The first and the last time in a dataset.

    Attributes
    ----------
    field : str
        The path of the field.
    unit : str
        What `first` and `last` count in: "s", "ms", "us" or "ns".
    first, last : int
        The smallest and the largest value, since 1970.
    """

    field: str
    unit: str
    first: int
    last: int

    @property
    def begin(self) -> datetime:
        """The first time, in UTC, rounded down to microseconds.

        Raises
        ------
        OverflowError
            It lies outside of the years that a datetime has.
        """
        return _datetime(self.first, self.unit)

    @property
    def end(self) -> datetime:
        """The last time, as `begin`."""
        return _datetime(self.last, self.unit)


def _datetime(count: int, unit: str) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=count * UNITS[unit] // 1000)

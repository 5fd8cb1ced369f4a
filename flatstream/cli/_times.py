"""Times and durations as the command line takes them: ISO 8601, ``5m`` ago, and numbers of the time field itself."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flatstream.cli._inputs import time_field_option
from flatstream.tools._times import UNITS, TimeField, guess_time_field, time_field

if TYPE_CHECKING:
    from flatstream.schema import Table

__all__ = [
    "field_of",
    "is_number",
    "is_time",
    "likely_unit",
    "parse_duration",
    "parse_time",
    "time_conditions",
    "time_options",
    "value_in_unit",
]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

# In nanoseconds.
LENGTHS = {**UNITS, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9, "w": 604_800 * 10**9}

_PART = r"(?P<number>\d{1,12}(?:\.\d{1,12})?)\s*(?P<unit>ns|us|ms|s|min|m|h|d|w)"
_PARTS = re.compile(_PART, re.ASCII)
_DURATION = re.compile(rf"(?:{re.sub(r'[?]P<[a-z]+>', '?:', _PART)}\s*)+", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
# The date, the time up to whole seconds, the digits of the fraction, and the time zone.
_ISO = re.compile(
    r"(?P<whole>\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?:[.,](?P<fraction>\d+))?"
    r"\s*(?P<zone>Z|z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# From 1990 to 2100, in nanoseconds.
LIKELY = (631_152_000 * 10**9, 4_102_444_800 * 10**9)

FORMS = "2026-01-31, 2026-01-31T12:00:00.5Z, 5m (ago), 2h30m (ago), now, or a number as the time field has it"


def parse_duration(text: str) -> int:
    """A duration in nanoseconds: ``"500ms"``, ``"1.5h"``, ``"2h30m"``. Units: ns, us, ms, s, m or min, h, d, w.

    Raises
    ------
    ValueError
        The text is no duration.
    """
    if not _DURATION.fullmatch(text.strip()):
        raise ValueError(f"no duration: {text!r:.100}; expected a number and a unit, as 500ms, 30s, 5m, 2h30m or 7d")
    return sum(int(Fraction(part["number"]) * LENGTHS[part["unit"]]) for part in _PARTS.finditer(text))


def parse_time(text: str, now: int | None = None) -> int:
    """A time in nanoseconds since 1970 in UTC.

    Parameters
    ----------
    text : str
        ISO 8601 with a date, where a time without a zone is one in UTC and up to 9 digits of a second count; a
        duration, which is so long ago; or "now".
    now : int, optional
        The present time.

    Raises
    ------
    ValueError
        The text is no time.
    """
    plain = text.strip()
    if plain == "now" or _DURATION.fullmatch(plain):
        present = time.time_ns() if now is None else now
        return present if plain == "now" else present - parse_duration(plain)
    match = _ISO.fullmatch(plain)
    if match is not None and not (match["fraction"] and match["whole"].count(":") < 2):
        zone = (match["zone"] or "Z").upper()
        try:
            moment = datetime.fromisoformat(match["whole"] + ("T00:00" if len(match["whole"]) == 10 else "") + zone)
        except ValueError as error:
            raise ValueError(f"no time: {text!r:.100}: {error}") from None
        nanoseconds = (moment - _EPOCH) // timedelta(seconds=1) * 10**9
        return nanoseconds + int((match["fraction"] or "")[:9].ljust(9, "0"))
    raise ValueError(f"no time: {text!r:.100}; expected one as {FORMS}")


def is_time(text: str) -> bool:
    """Whether `parse_time` takes a text."""
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


def is_number(text: str) -> bool:
    """Whether a time is given as the number that the time field has."""
    return _NUMBER.fullmatch(text.strip()) is not None


def likely_unit(value: int, unit: str) -> str | None:
    """The unit in which a number is a time from 1990 to 2100, if it is none in `unit`; None if there is no such one."""
    if LIKELY[0] <= value * UNITS[unit] < LIKELY[1]:
        return None
    return next((other for other in UNITS if LIKELY[0] <= value * UNITS[other] < LIKELY[1]), None)


def value_in_unit(nanoseconds: int, unit: str) -> int | Fraction:
    """A time in nanoseconds as a number of its units, exactly."""
    value = Fraction(nanoseconds, UNITS[unit])
    return value.numerator if value.denominator == 1 else value


def field_of(table: Table, option: str | None, description: Any = None) -> TimeField | None:
    """The time field of a table: that of ``--time-field NAME[:UNIT]``, of the description, or by its name.

    Raises
    ------
    ValueError
        The option names no field of the table with a time.
    """
    for root in () if description is None else description.roots:
        if root.table == table.name and root.time_field:
            found = TimeField(root.time_field, str(root.time_unit))
            if option is None or option == found.path:
                return found
    return guess_time_field(table) if option is None else time_field(table, option)


def time_conditions(
    field: TimeField, since: str | None, until: str | None, now: int | None = None
) -> list[tuple[str, str, Any]]:
    """The conditions of ``--since`` and ``--until`` on a time field: from `since` on, and before `until`.

    Raises
    ------
    ValueError
        One of them is no time.
    """
    conditions: list[tuple[str, str, Any]] = []
    for operator, text in ((">=", since), ("<", until)):
        if text is None:
            continue
        if is_number(text):
            value: Any = int(text)
        else:
            value = value_in_unit(parse_time(text, now), field.unit)
        conditions.append((field.path, operator, value))
    return conditions


def time_options(function: FunctionT) -> FunctionT:
    """Adds the options that select messages by their time: `since`, `until` and `time_field`."""
    for option in (
        time_field_option(),
        click.option("--until", metavar="TIME", help="Only messages before this time."),
        click.option("--since", metavar="TIME", help=f"Only messages from this time on: {FORMS}."),
    ):
        function = option(function)
    return function

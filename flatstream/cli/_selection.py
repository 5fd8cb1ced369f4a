"""The options by which commands select messages and show them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flatstream.cli._inputs import _with_parameters_of
from flatstream.cli._output import complain, is_terminal, time_text
from flatstream.cli._times import field_of, is_number, likely_unit, parse_time, time_conditions, time_options
from flatstream.cli._where import Comparison, NoSuchFieldError, WhereError, bind, parse
from flatstream.tools._fields import field_at, known_paths
from flatstream.tools._times import TimeField, unit_of_name

if TYPE_CHECKING:
    from flatstream.schema import Table

__all__ = ["WHERE_HELP", "Selection", "selection_options"]

# The number is an int of 64 bits later on.
EVERY = click.IntRange(1, 2**62)

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Selection:
    """The values of the options of `selection_options`.

    Attributes
    ----------
    fields : tuple of str
        The paths of ``--fields``; empty for all.
    every : int
        One message is shown of so many.
    format : {"jsonl", "csv", "table"}
        How they are shown.
    as_hex : bool
        Payloads are shown instead of fields.
    since : str or None
        The text of ``--since``.
    """

    def __init__(
        self,
        fields: str | None,
        where: tuple[str, ...],
        since: str | None,
        until: str | None,
        time_field: str | None,
        every: int,
        format: str | None,
        as_hex: bool,
    ) -> None:
        self.fields = _names(fields)
        self.every = every
        self.format = format or ("table" if is_terminal(sys.stdout) else "jsonl")
        self.as_hex = as_hex
        self.since, self._until, self._time_field = since, until, time_field
        # One for all inputs.
        self._now = time.time_ns()
        self._doubted: set[str] = set()
        # Fields that a table may lack, because other inputs have them, each with a table that has it.
        self._of_others: dict[str, Table] = {}
        self._where: list[tuple[str, list[Comparison]]] = []
        try:
            self._where = [(text, parse(text)) for text in where]
        except WhereError as error:
            raise click.UsageError(f"--where: {error}") from None
        for option, text in (("--since", since), ("--until", until)):
            if text is not None and not is_number(text):
                try:
                    parse_time(text)
                except ValueError as error:
                    raise click.UsageError(f"{option}: {error}") from None

    @property
    def needs_table(self) -> str | None:
        """The option that needs to know the fields of messages; None if there is none."""
        for option, value in (
            ("--where", self._where),
            ("--since", self.since),
            ("--until", self._until),
            ("--fields", self.fields),
        ):
            if value:
                return option
        return None

    def time_field(self, table: Table, description: Any) -> TimeField | None:
        """The time field of a table.

        Raises
        ------
        click.UsageError
            ``--time-field`` names none of its fields.
        """
        try:
            return field_of(table, self._time_field, description)
        except ValueError as error:
            raise click.UsageError(f"--time-field: {error}") from None

    def conditions(self, table: Table, description: Any, *, alone: bool = True) -> list[tuple[str, str, Any]] | None:
        """The conditions on messages of a table; None if it lacks a field that they are on, and is not the only one.

        Raises
        ------
        click.UsageError
            A condition does not fit the table, or no time field is known.
        """
        try:
            time = self.time_field(table, description)
        except click.UsageError:
            if alone:
                raise
            time = None

        def unit_of(path: str) -> str | None:
            return time.unit if time is not None and path == time.path else unit_of_name(path)

        found: list[tuple[str, str, Any]] = []
        try:
            for text, comparisons in self._where:
                found += bind(text, comparisons, table, unit_of, self._now)
        except WhereError as error:
            if not alone and isinstance(error, NoSuchFieldError):
                return None
            raise click.UsageError(f"--where: {error}") from None
        if self.since is not None or self._until is not None:
            if time is None and not alone:
                return None
            if time is None:
                raise click.UsageError(
                    f"the time field of {table.name} is not known: say it, as --time-field NAME:UNIT with one of the "
                    "units s, ms, us and ns"
                )
            self._doubt_numbers(time)
            found += time_conditions(time, self.since, self._until, self._now)
        return found

    def _doubt_numbers(self, time: TimeField) -> None:
        """Says once if a number for ``--since`` or ``--until`` seems to be meant in another unit than the field's."""
        for option, text in (("--since", self.since), ("--until", self._until)):
            if text is None or not is_number(text) or option in self._doubted:
                continue
            meant = likely_unit(int(text), time.unit)
            if meant is not None:
                self._doubted.add(option)
                complain(
                    f"{option} {text} is {time_text(int(text), time.unit)}, because {time.path} counts in {time.unit}; "
                    f"in {meant} it would be {time_text(int(text), meant)}"
                )

    def find_fields(self, tables: Iterable[Table], *, are_all: bool) -> None:
        """Takes note of the fields of ``--fields`` that one of these tables has: the others may lack them.

        Raises
        ------
        click.UsageError
            None has a field, and these are the tables of all inputs.
        """
        known = list(tables)
        for path in self.fields:
            having = next((table for table in known if field_at(table, path) is not None), None)
            if having is not None:
                self._of_others[path] = having
            elif are_all and known:
                raise click.UsageError(
                    f"--fields: no input has a field {path}; {known[0].name} has "
                    f"{known_paths(known[0], path.partition('.')[0])}"
                )

    def lacking(self, table: Table) -> dict[str, Table]:
        """The fields of ``--fields`` that a table does not have, each with the table of another input that has it."""
        return {path: having for path, having in self._of_others.items() if field_at(table, path) is None}

    def check_fields(self, table: Table) -> None:
        """Raises click.UsageError if ``--fields`` names a field that the table does not have, and no other input."""
        for path in self.fields:
            if field_at(table, path) is None and path not in self._of_others:
                raise click.UsageError(
                    f"--fields: {table.name} has no field {path}; it has {known_paths(table, path.partition('.')[0])}"
                )


def joined(fields: tuple[str, ...]) -> str | None:
    """The texts of ``--fields``, which may be repeated, as one; None if there are none."""
    return ",".join(fields) if fields else None


def _names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise click.UsageError(f"--fields: expected names with commas between them, as a,b.c; got {text!r:.100}")
    if len(set(names)) < len(names):
        raise click.UsageError(f"--fields: a field is named twice in {text!r:.100}")
    return names


def selection_options(function: FunctionT) -> FunctionT:
    """Adds the options that select and show messages, which the function gets as one argument, `selection`."""

    @click.option(
        "--fields",
        multiple=True,
        metavar="A,B.C",
        help="Show these fields only. A dot leads into a table or struct.",
    )
    @click.option(
        "--where",
        multiple=True,
        metavar="CONDITIONS",
        help="Only messages for which this holds, as \"sequence >= 10 and host == 'a'\". Conditions are listed at the "
        "end of --help.",
    )
    @time_options
    @click.option(
        "--every", type=click.IntRange(1, 2**62), default=1, metavar="N", help="Every N-th of these messages."
    )
    @click.option(
        "--format",
        type=click.Choice(["jsonl", "csv", "table"]),
        help="JSON lines, CSV or a table. By default a table on a terminal, and JSON lines elsewhere.",
    )
    @click.option("--hex", "as_hex", is_flag=True, help="Show the bytes of messages instead of their fields.")
    def with_selection(
        *args: Any,
        fields: tuple[str, ...],
        where: tuple[str, ...],
        since: str | None,
        until: str | None,
        time_field: str | None,
        every: int,
        format: str | None,
        as_hex: bool,
        as_json: bool = False,
        **kwargs: Any,
    ) -> Any:
        if as_json and format not in (None, "jsonl"):
            raise click.UsageError(f"--json is --format jsonl, and --format {format} is given")
        selection = Selection(
            joined(fields), where, since, until, time_field, every, "jsonl" if as_json else format, as_hex
        )
        return function(*args, selection=selection, **kwargs)

    return _with_parameters_of(function, with_selection)


WHERE_HELP = """\b
Conditions of --where:
  sequence >= 10 and host == 'a'            == != < <= > >=, joined by "and"
  10 <= sequence < 20                       a range
  host in ['a', 'b']   host not in ['c']    a list
  host startswith 'web-'                    the beginning of a text
  is_late   not is_late                     a field that is true or false
  platform == Linux                         the name of an enum's value
  wall_time_ns >= 2026-01-31T12:00:00Z      a time, if the unit of the field is known
No condition holds for NaN, nor for a field that a message does not have.
"""

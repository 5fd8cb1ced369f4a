"""What merge, split and sample have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flatstream.checksums import ChecksumType
from flatstream.cli._inputs import Source, source_options
from flatstream.cli._output import complain, count_text
from flatstream.cli._plans import Loss
from flatstream.cli._show import tell_loss
from flatstream.cli._status import combine
from flatstream.tools.inputs import pick_table

if TYPE_CHECKING:
    from flatstream.schema import Table
    from flatstream.tools._sources import SourceReport

__all__ = [
    "parse_size",
    "table_of",
    "tell_out_of_order",
    "tell_sources",
    "timed_source_options",
    "to_checksum_option",
    "wrong_usage",
]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>(?:[kmgt]i?)?b?)", re.ASCII | re.IGNORECASE)


def to_checksum_option(function: FunctionT) -> FunctionT:
    """Adds ``--to-checksum``."""
    return click.option(
        "--to-checksum",
        type=click.Choice([kind.value for kind in ChecksumType]),
        help="The checksum of what is written. By default that of the input.",
    )(function)


def parse_size(text: str) -> int:
    """A number of bytes: ``"1500"``, ``"64MB"``, ``"1.5 GiB"``.

    Raises
    ------
    ValueError
        The text is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"no size: {text!r:.100}; expected a number of bytes, as 1500, 64MB or 1.5GiB")
    unit = match["unit"].lower().removesuffix("b")
    base = 1024 if unit.endswith("i") else 1000
    return int(Fraction(match["number"]) * base ** ("kmgt".index(unit[0]) + 1 if unit else 0))


def table_of(source: Source) -> Table | str | None:
    """The table of ``--schema`` and ``--table``, or its name, if the stream's own description is to say it."""
    if source.schema is None:
        return source.table
    root = source.schema.root
    tables = {} if root is None else {source.schema.file_identifier: root}
    try:
        return pick_table(tables, source.schema, source.table)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None


# How errors of the functions name their arguments, and what the options are called.
OPTIONS = {
    "with to_checksum": "with --to-checksum",
    "say the field, as 'name:unit'": "say it with --time-field NAME:UNIT",
    "say the table of both": "say the schema of both with --schema FILE",
    "does not describe itself: say the table": "does not describe itself: say it with --schema FILE",
    "the pattern of the new files needs": "the pattern of the new files (-o) needs",
}


def in_options(text: str) -> str:
    """A message with the names of options in place of those of arguments."""
    for argument, option in OPTIONS.items():
        text = text.replace(argument, option)
    return text


@contextmanager
def wrong_usage() -> Iterator[None]:
    """Turns errors of arguments into those of the command line. Errors of streams are ValueErrors too, and stay."""
    from flatstream.errors import FlatStreamError

    try:
        yield
    except FlatStreamError:
        raise
    except OverflowError as error:
        raise click.UsageError(f"a number is too large: {error}") from None
    except (ValueError, LookupError) as error:
        raise click.UsageError(in_options(str(error.args[0]))) from None


def timed_source_options(function: FunctionT) -> FunctionT:
    """Adds ``--checksum``, and ``--schema`` and ``--table`` for what is put in order by time, as `source`."""
    return source_options(
        function,
        table_help="The table whose time field counts. Messages of other tables pass with those before them.",
        with_key=False,
    )


def tell_sources(sources: Iterable[SourceReport]) -> int:
    """Says what of the inputs could not be read, and returns the exit status."""
    statuses = []
    for source in sources:
        loss = Loss()
        loss.ranges = list(source.lost_ranges)
        statuses.append(tell_loss(source.name, loss))
    return combine(statuses)


def tell_out_of_order(number: int) -> None:
    """Says that messages have earlier times than those before them."""
    if number:
        complain(f"{count_text(number, 'message')} earlier than one before in the same input, and left behind it")

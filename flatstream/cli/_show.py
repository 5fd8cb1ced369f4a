"""Showing the messages of inputs: what head, tail, cat and follow have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from flatstream.cli._encrypted import tell_missing
from flatstream.cli._formats import Printer
from flatstream.cli._inputs import Input, Opened, Source, for_each_of
from flatstream.cli._output import complain, count_text
from flatstream.cli._plans import JsonPlan, Loss, Plan, Row, plan_of
from flatstream.cli._selection import Selection
from flatstream.cli._status import DAMAGED, INTACT, combine, for_each
from flatstream.cli._times import is_number, parse_time
from flatstream.errors import FlatStreamError
from flatstream.reader import StreamReader

if TYPE_CHECKING:
    from flatstream.schema import Table

__all__ = ["open_since", "show", "show_each", "tell_loss", "thinned"]

# How many lost ranges and refused messages are told one by one.
TOLD = 10


def show_each(inputs: list[Input], source: Source, selection: Selection, action: Callable[[Input], int]) -> int:
    """Calls `action`, which shows an input, for each, and returns the worst status.

    A field of ``--fields`` that an input lacks is null there, if another input has it. What else of the selection does
    not fit an input is told with its name, and the others follow.

    Raises
    ------
    click.UsageError
        No input has a field; nothing is shown then. Or there is one input, and the selection does not fit it.
    """
    if len(inputs) == 1 or selection.as_hex:
        return for_each(inputs, action)
    if selection.fields:
        _find_fields(inputs, source, selection)

    def named(one: Input) -> int:
        try:
            return action(one)
        except click.UsageError as error:
            raise click.UsageError(
                error.message if one.name in error.message else f"{one.name}: {error.message}"
            ) from None

    return for_each_of(inputs, named)


def _find_fields(inputs: list[Input], source: Source, selection: Selection) -> None:
    """Looks for the fields of ``--fields`` in the descriptions of all inputs that can be read more than once."""
    tables: list[Table] = []
    are_all = True
    for one in inputs:
        if one.kind not in ("file", "journal"):
            are_all = False
            continue
        # Showing it says what is wrong.
        with suppress(OSError, EOFError, ImportError, FlatStreamError, click.UsageError), source.open(one) as opened:
            known = [opened.table] if opened.table is not None else list(opened.tables.values())
            tables += known
            are_all = are_all and bool(known)
    selection.find_fields(tables, are_all=are_all)


def show(one: Input, source: Source, selection: Selection, printer: Printer, limit: int | None = None) -> int:
    """Shows the messages of an input from its beginning, at most `limit` of them, and returns the exit status."""
    with open_since(one, source, selection) as opened:
        plan = plan_of(opened, selection)
        loss = Loss()
        printer.begin(one.name, plan)
        try:
            if limit != 0:
                _print_rows(plan, opened.reader, selection, printer, loss, limit, live=one.kind == "pipe")
        except (OSError, EOFError, FlatStreamError) as error:
            if not isinstance(error, BrokenPipeError):
                # What came before the error.
                printer.end()
                tell_loss(one.name, loss)
            raise
        printer.end()
        return combine([tell_loss(one.name, loss), tell_missing(one.name, opened.reader)])


def _print_rows(
    plan: Plan,
    reader: StreamReader,
    selection: Selection,
    printer: Printer,
    loss: Loss,
    limit: int | None,
    *,
    live: bool,
) -> None:
    if isinstance(plan, JsonPlan) and selection.format == "jsonl" and selection.every == 1:
        for chunk in plan.chunks(reader, loss, limit, live=live):
            printer.write(chunk, at_once=live)
        return
    wanted = None if limit is None else (limit - 1) * selection.every + 1
    for rows in thinned(plan.rows(reader, loss, wanted, live=live), selection.every, limit):
        printer.print(rows, at_once=live)


def open_since(one: Input, source: Source, selection: Selection, **options: Any) -> Opened:
    """Opens an input for reading with ``on_error="resync"``; a journal near the time of ``--since``.

    Times in a journal should not decrease; then its segments are searched, and not read from the first one on.
    """
    opened = source.open(one, on_error="resync", **options)
    if one.kind != "journal" or selection.since is None or is_number(selection.since) or opened.table is None:
        return opened
    try:
        field = selection.time_field(opened.table, opened.description)
        start = None if field is None else _moment(parse_time(selection.since))
    except BaseException:
        opened.close()
        raise
    if field is None or start is None:
        return opened
    table, description = opened.table, opened.description
    opened.close()
    near = source.open(one, on_error="resync", start=start, time=(table, field.path, field.unit), **options)
    near.table, near.description = table, description
    return near


def _moment(nanoseconds: int) -> datetime | None:
    """The time, rounded down; None if it is before 1970 or later than there are dates."""
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9, UTC) if nanoseconds >= 0 else None
    except (OverflowError, ValueError, OSError):
        return None


def thinned(batches: Iterable[list[Row]], every: int, limit: int | None) -> Iterator[list[Row]]:
    """Every so-many-th row, up to a number of rows."""
    skip = 0
    for rows in batches:
        chosen = rows
        if every > 1:
            chosen = rows[skip::every]
            skip = (skip - len(rows)) % every
        if limit is not None:
            chosen = chosen[:limit]
            limit -= len(chosen)
        yield chosen
        if limit == 0:
            return


def tell_loss(name: str, loss: Loss, known: Loss | None = None) -> int:
    """Says on standard error what could not be shown, and returns the exit status.

    Parameters
    ----------
    name : str
        The input.
    loss : Loss
        All of it.
    known : Loss, optional
        What was told before.
    """
    told = set() if known is None else set(known.ranges)
    ranges = [lost for lost in loss.ranges if lost not in told]
    refused = loss.refused if known is None else loss.refused[len(known.refused) :]
    for begin, end in ranges[:TOLD]:
        complain(
            f"{name}: damaged: {count_text(end - begin, 'byte')} at offset {begin} cannot be read and are left out"
        )
    if len(ranges) > TOLD:
        rest = sum(end - begin for begin, end in ranges[TOLD:])
        complain(f"{name}: damaged: {count_text(rest, 'byte')} in {len(ranges) - TOLD} more places are left out")
    for offset, reason in refused[:TOLD]:
        complain(f"{name}: damaged: the message at offset {offset} is left out: {reason}")
    if len(refused) > TOLD:
        complain(f"{name}: damaged: {count_text(len(refused) - TOLD, 'more message')} left out")
    others = loss.others - (0 if known is None else known.others)
    if others:
        complain(f"{name}: {count_text(others, 'message')} with another file identifier left out (--hex shows them)")
    return DAMAGED if ranges or refused else INTACT

"""``flatstream tail``: the last messages."""

from __future__ import annotations

from functools import partial

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._encrypted import tell_missing
from flatstream.cli._formats import Printer, make_format
from flatstream.cli._inputs import Input, Source, count_option, expand, json_option, paths_argument, source_options
from flatstream.cli._last import last_rows
from flatstream.cli._plans import plan_of
from flatstream.cli._selection import WHERE_HELP, Selection, selection_options
from flatstream.cli._show import open_since, show_each, tell_loss
from flatstream.cli._status import combine

__all__ = ["command"]


@click.command(epilog=f"{WHERE_HELP}\n{exit_statuses()}")
@paths_argument
@count_option("How many messages.")
@click.option(
    "--from-start",
    is_flag=True,
    help="Read the whole file. By default one of more than 16 MiB is searched from its end, where streams inside of "
    "messages can be taken for the stream itself.",
)
@selection_options
@json_option
@source_options
def command(paths: tuple[str, ...], count: int, from_start: bool, selection: Selection, source: Source) -> int:
    """Show the last messages of each input.

    Of large files and of journals only the end is read, of pipes, compressed and encrypted files everything. Messages
    of a stream that describes itself, or with --schema, are shown with their fields, objects of JSON and MessagePack as
    JSON, and others as hexadecimal digits. Damage at the end is told on standard error and left out.
    """
    if selection.every > 1:
        raise click.UsageError("--every counts from the beginning: use it with head or cat")
    inputs = expand(paths)

    def show(one: Input) -> int:
        with open_since(one, source, selection) as opened:
            plan = plan_of(opened, selection)
            reopen = partial(source.open, one, on_error="resync")
            found = last_rows(one, opened, plan, count, reopen, from_start=from_start)
            missing = tell_missing(one.name, opened.reader)
        printer.begin(one.name, plan)
        printer.print(found.rows)
        printer.end()
        status = combine([missing, tell_loss(one.name, found.loss)])
        if found.error is not None:
            raise found.error
        return status

    with Printer(make_format(selection.format, several=len(inputs) > 1)) as printer:
        return show_each(inputs, source, selection, show)

"""``flatstream head``: the first messages."""

from __future__ import annotations

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._formats import Printer, make_format
from flatstream.cli._inputs import Source, count_option, expand, json_option, paths_argument, source_options
from flatstream.cli._selection import WHERE_HELP, Selection, selection_options
from flatstream.cli._show import show, show_each

__all__ = ["command"]


@click.command(epilog=f"{WHERE_HELP}\n{exit_statuses()}")
@paths_argument
@count_option("How many messages.")
@selection_options
@json_option
@source_options
def command(paths: tuple[str, ...], count: int, selection: Selection, source: Source) -> int:
    """Show the first messages of each input.

    Messages of a stream that describes itself, or with --schema, are shown with their fields, objects of JSON and
    MessagePack as JSON, and others as hexadecimal digits. What is damaged is told on standard error and left out.
    """
    inputs = expand(paths)
    with Printer(make_format(selection.format, several=len(inputs) > 1)) as printer:
        return show_each(inputs, source, selection, lambda one: show(one, source, selection, printer, count))

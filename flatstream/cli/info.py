"""``flatstream info``: what files, journals and pipes are."""

from __future__ import annotations

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._inputs import Input, Source, expand, json_option, paths_argument, source_options
from flatstream.cli._output import print_json, print_line
from flatstream.cli._status import for_each

__all__ = ["command"]


@click.command(epilog=exit_statuses())
@paths_argument
@json_option
@source_options
def command(paths: tuple[str, ...], as_json: bool, source: Source) -> int:
    """Say what files, journals and pipes are."""

    def show(one: Input) -> None:
        with source.open(one) as opened:
            found = {"path": one.name, "kind": one.kind, "checksum": opened.checksum, "found_by": opened.found_by}
            if as_json:
                print_json(found)
            else:
                print_line(f"{one.name}: {one.kind}, checksum {opened.checksum} ({opened.found_by})")

    return for_each(expand(paths), show)

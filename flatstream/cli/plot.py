"""``flatstream plot``: fields over time, and percentiles."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._inputs import Source, json_option, source_options
from flatstream.cli._output import Progress, complain, count_text, is_terminal, print_json, print_line, size_text
from flatstream.cli._status import DAMAGED, INTACT
from flatstream.cli.convert import Messages, failed, message_options
from flatstream.errors import FlatStreamError

if TYPE_CHECKING:
    from flatstream.tools.plotting._result import Plot

__all__ = ["command"]


def _ranks(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(rank) for rank in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter(f"expected numbers from 0 to 100 with commas between them, got {value!r}") from None


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 8 <= int(width) <= 20_000 and 8 <= int(height) <= 20_000):
        raise click.BadParameter(f"expected WIDTHxHEIGHT, each from 8 to 20000, got {value!r}")
    return int(width), int(height)


@click.command(epilog=exit_statuses())
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option(
    "--fields", "-f", required=True, multiple=True, metavar="A,B.C", help="The paths of the fields to draw: numbers."
)
@click.option("--by", metavar="FIELD", help="A field with a key, such as a host: a line for each of its values.")
@click.option("--percentiles", metavar="50,90,99", callback=_ranks, help="Percentiles over time; with --by, as bars.")
@click.option("--out", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="A new .png or .svg file.")
@click.option("--size", metavar="WxH", callback=_size, help="In pixels for a file, in characters for the terminal.")
@source_options
@message_options
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip", "stop", "resync"]),
    default="resync",
    show_default=True,
    help="What happens at damage. By default it is told, and left out.",
)
@json_option
def command(
    paths: tuple[str, ...],
    fields: tuple[str, ...],
    by: str | None,
    percentiles: tuple[float, ...],
    out: str | None,
    size: tuple[int, int] | None,
    source: Source,
    messages: Messages,
    on_error: Any,
    as_json: bool,
) -> int:
    """Draw fields of messages over time, in the terminal or as a picture.

    PATH is a stream, a journal, or a file of any format that convert reads. Several are one after another.
    """
    from flatstream.tools.plotting import plot

    name = paths[0] if len(paths) == 1 else f"{len(paths)} files"
    with Progress(name) as progress:
        try:
            found = plot(
                paths,
                [field.strip() for text in fields for field in text.split(",")],
                by=by,
                percentiles=percentiles,
                schema=source.schema,
                table=source.table,
                checksum=source.checksum,
                where=messages.where,
                on_error=on_error,
                time_field=messages.time_field,
                cipher=source.cipher,
                progress=progress,
            )
            text = ""
            if out is not None:
                width, height = size or (1200, 600)
                found.save(out, width=width, height=height)
            elif not as_json:
                width, height = size or shutil.get_terminal_size((80, 24))
                # The shell's next line stands below the plot.
                text = found.to_text(width, height if size else max(8, height - 2), color=is_terminal(sys.stdout))
        except (ValueError, TypeError, LookupError, OSError, EOFError, ImportError, FlatStreamError) as error:
            return failed(error, paths[0] if len(paths) == 1 else None)
    if as_json:
        print_json(found.to_dict() | {"out": out})
        return tell_damage(found)
    if out is not None:
        print_line(f"{name} -> {out}: {found.messages:,} messages")
    else:
        for line in text.split("\n"):
            click.echo(line, color=True)
    if found.keys_left_out:
        print_line(f"{found.keys_left_out} more values of {found.axis if found.bars else by} are not shown")
    if found.step > 1:
        print_line(f"the percentiles are those of every {found.step}th message")
    return tell_damage(found)


def tell_damage(found: Plot) -> int:
    """Says what is not drawn because it is damaged, and returns the exit status."""
    if found.stop_error is not None:
        complain(f"the plot ends at damage: {found.stop_error}")
    elif found.skipped:
        complain(f"damaged: {count_text(found.skipped, 'place')}, {size_text(found.lost_bytes)} left out")
    return DAMAGED if found.stop_error is not None or found.skipped else INTACT

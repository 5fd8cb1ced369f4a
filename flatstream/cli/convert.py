"""``flatstream convert``: from one format to another."""

from __future__ import annotations

import functools
import sys
from typing import Any

import click

from flatstream.checksums import ChecksumType
from flatstream.cli._app import exit_statuses
from flatstream.cli._inputs import Source, json_option, source_options
from flatstream.cli._output import Progress, complain, count_text, message_of, print_json, print_line, size_text
from flatstream.cli._status import DAMAGED, ERROR, INTACT, status_of
from flatstream.errors import FlatStreamError

__all__ = ["command"]

# Imported by the command alone: the names are needed for --help as well.
FORMATS = ("fs", "parquet", "arrow", "arrows", "csv", "jsonl", "mcap", "fb")


@click.command(epilog=exit_statuses())
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.argument("out", metavar="OUT", type=click.Path())
@click.option("--from", "from_format", type=click.Choice(FORMATS), help="The format of PATH, if its ending is another.")
@click.option("--to", "to_format", type=click.Choice(FORMATS), help="The format of OUT, if its ending is another.")
@source_options
@click.option(
    "--to-checksum",
    type=click.Choice([kind.value for kind in ChecksumType]),
    help="The checksum of a new stream. By default that of PATH.",
)
@click.option(
    "--fields", metavar="A,B.C", help="The paths of the fields to keep, for formats of columns and JSON lines."
)
@click.option("--where", metavar="CONDITIONS", help="The messages to keep, as in \"sequence >= 10 and host == 'a'\".")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip", "stop", "resync"]),
    default="raise",
    show_default=True,
    help="At damage: fail without a new file; leave out refused messages; end there; or go on at intact frames.",
)
@click.option(
    "--unsupported",
    type=click.Choice(["raise", "json", "omit"]),
    default="raise",
    show_default=True,
    help="A field that OUT cannot carry: fail; put JSON text in its place; or leave it out.",
)
@click.option(
    "--enums", type=click.Choice(["name", "number"]), default="name", show_default=True, help="Enums as what."
)
@click.option(
    "--time-field", metavar="NAME[:UNIT]", help="The field with the time of a message (s, ms, us, ns), for MCAP."
)
@click.option(
    "--compression", metavar="NAME", help="Inside of Parquet, Arrow and MCAP: zstd, lz4, snappy, gzip or none."
)
@click.option(
    "--describe/--no-describe", default=True, help="Whether the new file says its schema.  [default: describe]"
)
@click.option("--processes", type=click.IntRange(1, 1024), default=1, help="How many PATHs are converted at a time.")
@json_option
def command(
    paths: tuple[str, ...],
    out: str,
    from_format: str | None,
    to_format: str | None,
    source: Source,
    to_checksum: str | None,
    fields: str | None,
    where: str | None,
    on_error: Any,
    unsupported: Any,
    enums: str,
    time_field: str | None,
    compression: str | None,
    describe: bool,
    processes: int,
    as_json: bool,
) -> int:
    """Convert streams and journals to other formats, and back.

    OUT is a new file; - for standard output; or for several PATHs a folder, or a path with {name}. The endings say the
    formats: .fs, .parquet, .arrow, .arrows, .csv, .jsonl, .mcap and .fb (size-prefixed FlatBuffers); .fs.gz, .csv.zst
    and so on are compressed. Nothing is overwritten, and an error leaves no new file.
    """
    from flatstream.tools.conversion import convert

    is_pipe = out == "-"
    if is_pipe and to_format is None:
        raise click.UsageError("standard output does not say its format: pass --to")
    if is_pipe and as_json:
        raise click.UsageError("--json and the new file cannot both go to standard output")
    path, _, unit = (time_field or "").partition(":")
    with Progress(paths[0] if len(paths) == 1 else f"{len(paths)} files") as progress:
        try:
            found = convert(
                paths[0] if len(paths) == 1 else paths,
                sys.stdout.buffer if is_pipe else out,
                from_format=from_format,
                to_format=to_format,
                schema=source.schema,
                table=source.table,
                checksum=source.checksum,
                to_checksum=to_checksum,
                fields=None if fields is None else [field.strip() for field in fields.split(",")],
                where=None if where is None else conditions(where),
                on_error=on_error,
                on_unsupported=unsupported,
                enums="dictionary" if enums == "name" else "number",
                time_field=path or None,
                time_unit=unit or None,  # type: ignore[arg-type]
                compression=compression,
                describe=describe,
                progress=progress,
                processes=processes,
            )
        except BrokenPipeError:
            raise
        except (ValueError, TypeError, LookupError, OSError, EOFError, ImportError, FlatStreamError) as error:
            return failed(error, paths[0] if len(paths) == 1 else None)
    statuses = [INTACT]
    for report in found if isinstance(found, list) else [found]:
        if report.skipped or report.lost_bytes or report.stop_error is not None:
            statuses.append(DAMAGED)
        if as_json:
            print_json(report.to_dict())
            continue
        text = f"{report.source} -> {'standard output' if report.out is None else report.out}: "
        text += count_text(report.messages, "message")
        text += f", {size_text(report.size)}" if report.size is not None else ""
        text += f"; left out: {', '.join(report.omitted)}" if report.omitted else ""
        text += f"; {count_text(report.others, 'message')} of other tables left out" if report.others else ""
        if report.skipped or report.lost_bytes:
            text += f"; damaged, {count_text(report.skipped, 'message')} and {size_text(report.lost_bytes)} left out"
        text += f"; ended at damage: {report.stop_error}" if report.stop_error is not None else ""
        if is_pipe:
            # Standard output has the messages.
            if statuses[-1]:
                complain(text)
        else:
            print_line(text)
    return max(statuses)


def conditions(text: str) -> Any:
    """The conditions of ``--where``, as a function that gets the table."""
    from flatstream.cli._where import bind, parse

    try:
        return functools.partial(_bound, bind, text, parse(text))
    except ValueError as error:
        raise click.UsageError(f"--where: {error}") from None


def _bound(bind: Any, text: str, comparisons: Any, table: Any) -> Any:
    return bind(text, comparisons, table)


def failed(error: Exception, path: str | None) -> int:
    """Prints an error in one line, and returns the exit status."""
    notes = [note.removeprefix("while ").partition(" was ")[0] for note in getattr(error, "__notes__", ())]
    where = path if path is not None else notes[0] if notes and notes[0] else None
    if isinstance(error, LookupError) and error.args:
        error = ValueError(error.args[0])
    complain(message_of(error, where))
    return status_of(error) if isinstance(error, FlatStreamError) else ERROR

"""``flatstream convert``: from one format to another."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from flatstream.checksums import ChecksumType
from flatstream.cli._app import exit_statuses
from flatstream.cli._inputs import Source, _with_parameters_of, json_option, source_options
from flatstream.cli._lake import check_options, export
from flatstream.cli._output import Progress, complain, count_text, message_of, print_json, print_line, size_text
from flatstream.cli._status import DAMAGED, DAMAGES, ERROR, INTACT, combine, status_of
from flatstream.cli._times import time_options
from flatstream.errors import FlatStreamError, JsonError
from flatstream.tools.inputs import NotAStreamError

__all__ = ["command", "failed", "message_options"]

# As in "pass to_format= (--to)" and "on_unsupported='json'".
ARGUMENT_AND_OPTION = re.compile(r"\w+=(?:True)? \((--[\w-]+)\)")
ARGUMENT = re.compile(
    r"\b(unsupported|checksum|table|fields|where|schema|time_field|time_unit|to_checksum|compression|compress|processes"
    r"|partition_by|name|again|times)="
    r"(?:True\b|'([^']*)'|\[((?:'[^']*'(?:, )?)*)\])?"
)

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

# What is told in one line. Others are faults of the program.
ERRORS = (ValueError, TypeError, LookupError, OSError, EOFError, ImportError, FlatStreamError)

# Imported by the command alone: the names are needed for --help as well.
FORMATS = ("fs", "parquet", "arrow", "arrows", "csv", "jsonl", "mcap", "fb")


class Messages:
    """The values of the options of `message_options`.

    Attributes
    ----------
    time_field : str or None
        ``NAME`` or ``NAME:UNIT``.
    where : function or None
        The conditions, for a table and a description; see `flatstream.tools.convert`.
    """

    def __init__(self, where: tuple[str, ...], since: str | None, until: str | None, time_field: str | None) -> None:
        self.time_field = time_field
        self.where: Callable[[Any, Any], Any] | None = None
        if where or since is not None or until is not None:
            from flatstream.cli._selection import Selection

            self.where = Selection(None, where, since, until, time_field, 1, "jsonl", False).conditions


def message_options(function: FunctionT) -> FunctionT:
    """Adds the options that choose messages, which the function gets as one argument, `messages`."""

    @click.option(
        "--where",
        multiple=True,
        metavar="CONDITIONS",
        help="Only messages for which this holds, as \"sequence >= 10 and host == 'a'\"; see flatstream cat --help.",
    )
    @time_options
    def with_messages(
        *args: Any, where: tuple[str, ...], since: str | None, until: str | None, time_field: str | None, **kwargs: Any
    ) -> Any:
        return function(*args, messages=Messages(where, since, until, time_field), **kwargs)

    return _with_parameters_of(function, with_messages)


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
    "--fields",
    multiple=True,
    metavar="A,B.C",
    help="The paths of the fields to keep, for formats of columns and JSON lines.",
)
@message_options
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
    "--compression", metavar="NAME", help="Inside of Parquet, Arrow and MCAP: zstd, lz4, snappy, gzip or none."
)
@click.option(
    "--compress",
    metavar="METHOD",
    help="Compress each message of a new stream: zstd, lz4 or none, with a level as zstd:9, and with a dictionary "
    "that is trained from the first messages as zstd:9:dict. By default as in PATH.",
)
@click.option(
    "--describe/--no-describe", default=True, help="Whether the new file says its schema.  [default: describe]"
)
@click.option("--decrypt", is_flag=True, help="Write what was encrypted as it is: new files are not encrypted.")
@click.option("--processes", type=click.IntRange(1, 1024), default=1, help="How many PATHs are converted at a time.")
@click.option(
    "--partition-by",
    metavar="KEYS",
    help="Put what is new since the last run into Parquet files in the folder OUT: hour, day, fields, several as "
    "host,day, or none.",
)
@click.option("--closed", is_flag=True, help="With --partition-by: leave out the hour or day that is not over.")
@click.option(
    "--name",
    default="export",
    show_default=True,
    metavar="NAME",
    help="With --partition-by: what its files are called.",
)
@click.option(
    "--again",
    is_flag=True,
    help="With --partition-by: export what an export of another name in OUT has already, so that it is there twice.",
)
@click.option(
    "--times",
    type=click.Choice(["s", "ms", "us", "ns", "number"]),
    help="With --partition-by: the unit of the time, or the number that it is stored as. By default that of the "
    "stream. Spark reads us.",
)
@json_option
def command(
    paths: tuple[str, ...],
    out: str,
    from_format: str | None,
    to_format: str | None,
    source: Source,
    to_checksum: str | None,
    fields: tuple[str, ...],
    messages: Messages,
    on_error: Any,
    unsupported: Any,
    enums: str,
    compression: str | None,
    compress: str | None,
    describe: bool,
    decrypt: bool,
    processes: int,
    partition_by: str | None,
    closed: bool,
    name: str,
    again: bool,
    times: str | None,
    as_json: bool,
) -> int:
    """Convert streams and journals to other formats, and back.

    OUT is a new file; - for standard output; or for several PATHs a folder, or a path with {name}. The endings say the
    formats: .fs, .parquet, .arrow, .arrows, .csv, .jsonl, .mcap and .fb (size-prefixed FlatBuffers); .fs.gz, .csv.zst
    and so on are compressed. Nothing is overwritten, and an error leaves no new file.

    With --partition-by, OUT is a folder to which each run adds Parquet files with what the runs before it have not
    exported: date=2026-11-29/hour=13/*.parquet, for instance. A run that was killed is no harm.
    """
    check_options(click.get_current_context(), partition_by)
    if partition_by is not None:
        try:
            return export(
                paths,
                out,
                partition_by=partition_by,
                closed=closed,
                name=name,
                again=again,
                times=times,
                to_format=to_format,
                source=source,
                fields=fields,
                where=messages.where,
                time_field=messages.time_field,
                on_error=on_error,
                compression=compression,
                decrypt=decrypt,
                as_json=as_json,
            )
        except BrokenPipeError:
            raise
        except ERRORS as error:
            status = failed(error, None)
            if as_json:
                print_json({"path": paths[0] if len(paths) == 1 else None, "error": str(error), "status": status})
            return status
    from flatstream.tools.conversion import convert

    is_pipe = out == "-"
    if is_pipe and to_format is None:
        raise click.UsageError("standard output does not say its format: pass --to")
    if is_pipe and len(paths) > 1:
        raise click.UsageError("only one PATH can go to standard output: flatstream merge makes one stream of several")
    if is_pipe and as_json:
        raise click.UsageError("--json and the new file cannot both go to standard output")
    statuses = [INTACT]

    def tell_failure(path: str, error: Exception) -> None:
        statuses.append(failed(error, path))
        if as_json:
            print_json({"path": path, "error": str(error), "status": statuses[-1]})

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
                fields=[field.strip() for text in fields for field in text.split(",")] or None,
                where=messages.where,
                on_error=on_error,
                on_unsupported=unsupported,
                enums="dictionary" if enums == "name" else "number",
                time_field=messages.time_field,
                compression=compression,
                compressor=compress,
                describe=describe,
                cipher=source.cipher,
                decrypt=decrypt,
                progress=progress,
                failed=tell_failure,
                processes=processes,
            )
        except BrokenPipeError:
            raise
        except ERRORS as error:
            status = failed(error, paths[0] if len(paths) == 1 else None)
            if as_json:
                print_json({"path": paths[0] if len(paths) == 1 else None, "error": str(error), "status": status})
            return status
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
            text += f"; damaged, {count_text(report.skipped, 'place')} and {size_text(report.lost_bytes)} left out"
        text += f"; ended at damage: {report.stop_error}" if report.stop_error is not None else ""
        if is_pipe:
            # Standard output has the messages.
            if statuses[-1]:
                complain(text)
        else:
            print_line(text)
    return combine(statuses)


def with_options(text: str) -> str:
    """A message of the library with the options of the command line in place of its arguments."""
    text = ARGUMENT_AND_OPTION.sub(r"\1", text)
    text = text.replace("on_unsupported=", "unsupported=")
    text = text.replace("compressor=", "compress=")
    text = text.replace("dataset(..., time_field=", "time_field=").replace("'name:ns')", "'name:ns'")
    text = text.replace("and None for no folders", "and 'none' for no folders")
    text = text.replace("flatstream.dataset(paths, schema='events.fbs')", "schema='events.fbs'")
    text = text.replace("until='closed'", "--closed").replace("partition_by with one of", "--partition-by with one of")
    text = text.replace("checksum='crc32', or checksum='none'", "checksum='crc32' or 'none'")
    return ARGUMENT.sub(_option, text)


def _option(found: re.Match[str]) -> str:
    """An argument of the library as an option, its value as the command line takes it."""
    value = found[2] if found[3] is None else found[3].replace("'", "").replace(", ", ",") or "none"
    end = "" if value is not None or found.end() == len(found.string) else found.string[found.end()]
    text = f"--{found[1].replace('_', '-')} {value or ''}"
    # Other values follow as they are.
    return text if end.isalnum() or (end in "(['\"-" and end) else text.rstrip()


def failed(error: Exception, path: str | None) -> int:
    """Prints an error in one line, and returns the exit status. Wrong usage is raised as click.UsageError."""
    from flatstream.tools.conversion._options import ArgumentError

    if not isinstance(error, ERRORS):
        raise error
    notes = [
        note.removeprefix("while ").partition(" was ")[0]
        for note in getattr(error, "__notes__", ())
        if note.startswith("while ")
    ]
    where = path if path is not None else notes[0] if notes and notes[0] else None
    text = str(error.args[0]) if isinstance(error, LookupError) and error.args else message_of(error, where)
    text = with_options(text)
    if isinstance(error, (LookupError, ArgumentError)):
        raise click.UsageError(text if where is None or text.startswith(f"{where}: ") else f"{where}: {text}") from None
    if isinstance(error, FlatStreamError) and isinstance(error, DAMAGES) and not isinstance(error, NotAStreamError):
        text += "; --on-error resync leaves out what is damaged"
    for note in getattr(error, "__notes__", ()):
        # Of an export by --partition-by: the other damage, and what was exported.
        if note.startswith(("and also: ", "exported all the same: ")):
            text += f"; {note}"
    complain(text)
    # A line of JSON that does not fit is no damage of a stream.
    return status_of(error) if isinstance(error, FlatStreamError) and not isinstance(error, JsonError) else ERROR

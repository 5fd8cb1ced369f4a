"""``flatstream convert --partition-by``: streams and journals into Parquet files by folders, again and again."""

from __future__ import annotations

import os
from typing import Any

import click
from click.core import ParameterSource

from flatstream.cli._inputs import Source
from flatstream.cli._output import Progress, complain, count_text, print_json, print_line, size_text
from flatstream.cli._status import DAMAGED, INTACT

__all__ = ["check_options", "export"]

# The options that this form of the command takes. Others are of new files that are made once.
TAKEN = {
    "paths", "out", "partition_by", "closed", "name", "times", "to_format", "checksum", "schema", "table", "key_file",
    "again", "fields", "where", "since", "until", "time_field", "on_error", "compression", "decrypt", "as_json",
}  # fmt: skip
# Those of this form alone.
OWN = {"closed": "--closed", "name": "--name", "again": "--again", "times": "--times"}


def check_options(context: click.Context, partition_by: str | None) -> None:
    """Raises click.UsageError for an option that does not go with ``--partition-by``, or not without it."""
    given = {
        parameter.name: parameter
        for parameter in context.command.params
        if parameter.name is not None and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }
    if partition_by is None:
        for name, option in OWN.items():
            if name in given:
                raise click.UsageError(f"{option} goes with --partition-by only")
        return
    for name, parameter in given.items():
        if name not in TAKEN:
            raise click.UsageError(f"{parameter.opts[0]} does not go with --partition-by")


def export(
    paths: tuple[str, ...],
    out: str,
    *,
    partition_by: str,
    closed: bool,
    name: str,
    again: bool,
    times: Any,
    to_format: str | None,
    source: Source,
    fields: tuple[str, ...],
    where: Any,
    time_field: str | None,
    on_error: Any,
    compression: Any,
    decrypt: bool,
    as_json: bool,
) -> int:
    """Exports streams and journals, prints what was done, and returns the exit status.

    Raises
    ------
    ValueError, TypeError, LookupError, OSError, ImportError, FlatStreamError
        See `flatstream.datasets.Dataset.to_parquet`.
    """
    from flatstream.datasets import dataset
    from flatstream.datasets._parquet import conditions_of, descriptions_of
    from flatstream.errors import InvalidFrameError
    from flatstream.tools._foreign import look_at
    from flatstream.tools.inputs import NotAStreamError, UnreadableError
    from flatstream.transforms.described import ENCRYPTION, encrypted_error

    if to_format not in (None, "parquet"):
        raise click.UsageError(f"--partition-by makes Parquet files, got --to {to_format}")
    if out == "-":
        raise click.UsageError("--partition-by makes files in a folder: OUT cannot be standard output")
    if source.cipher.has_key and not decrypt:
        raise click.UsageError("Parquet files are not encrypted: --decrypt writes what was encrypted as it is")
    keys = [key.strip() for key in partition_by.split(",")]
    found = dataset(
        paths,
        source.table,
        source.checksum,
        schema=source.schema,
        on_error=on_error,
        cipher=source.cipher if source.cipher.has_key else None,
        times=times or "timestamp",
        time_field=time_field,
    )
    try:
        described = list(descriptions_of(found))
    except InvalidFrameError as error:
        # What a file is that is no stream is said in fewer words, as by the other commands.
        path = next((part.path for part in found._parts if error.message.startswith(f"{part.path}: ")), None)
        if source.checksum is not None or path is None or not os.path.isfile(path):
            raise
        raise NotAStreamError.of_foreign(path, look_at(path)) from error
    if not source.cipher.has_key:
        for path, description in described:
            for transform in () if description is None else description.transforms:
                if transform.name == ENCRYPTION:
                    raise UnreadableError.of(path, encrypted_error(transform, "pass --key-file FILE").message)
    with Progress(paths[0] if len(paths) == 1 else f"{len(paths)} paths") as progress:
        report = found.to_parquet(
            out,
            partition_by=None if keys == ["none"] else keys,
            fields=[field.strip() for text in fields for field in text.split(",")] or None,
            where=None if where is None else conditions_of(found, where),
            until="closed" if closed else "now",
            compression=compression or "zstd",
            name=name,
            again=again,
            progress=progress,
        )
    is_lost = bool(report.lost or report.skipped or report.lost_bytes or report.stopped or report.changed)
    if as_json:
        print_json(report.to_dict() | {"path": paths[0] if len(paths) == 1 else None})
        return DAMAGED if is_lost else INTACT
    text = f"{out}: {count_text(report.rows, 'message')} in {count_text(len(report.files), 'new file')}"
    text += f", {size_text(report.size)}" if report.files else ""
    if report.finished:
        text += f"; named {count_text(report.finished, 'file')} of a run that was killed"
    if report.held_back:
        text += f"; {count_text(len(report.held_back), 'file')} held back at the hour or day that is not over"
    print_line(text)
    for one in report.replaced:
        complain(f"{one}: it is another one than at the last run, and was exported from its beginning")
    for path, begin, end in report.lost:
        lost = count_text(end - begin, "message")
        complain(f"{path}: {lost} from number {begin} on were removed before they were exported")
    for one in report.changed:
        complain(f"{one}: left out, because what was exported of it has changed since")
    for one, damage in report.stopped:
        complain(f"{one}: ended at damage: {damage}")
    if report.skipped or report.lost_bytes:
        complain(f"damaged: {count_text(report.skipped, 'place')} and {size_text(report.lost_bytes)} were left out")
    return DAMAGED if is_lost else INTACT

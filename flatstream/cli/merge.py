"""``flatstream merge``: many streams as one."""

from __future__ import annotations

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._copying import (
    table_of,
    tell_out_of_order,
    tell_sources,
    timed_source_options,
    to_checksum_option,
    wrong_usage,
)
from flatstream.cli._inputs import Source, expand, json_option, new_file_option, paths_argument, time_field_option
from flatstream.cli._output import Progress, complain, count_text, print_json, print_line, size_text

__all__ = ["command"]


@click.command(epilog=exit_statuses())
@paths_argument
@new_file_option
@time_field_option("the streams'")
@click.option("--concatenate", is_flag=True, help="One input after the other, whatever their times are.")
@to_checksum_option
@json_option
@timed_source_options
def command(
    paths: tuple[str, ...],
    out: str,
    time_field: str | None,
    concatenate: bool,
    to_checksum: str | None,
    as_json: bool,
    source: Source,
) -> int:
    """Write the messages of all inputs to a new stream, in the order of their times.

    Messages pass as they are, and so does the description of the streams, which must be of the same messages. Metadata
    in which they differ is left out. A file that exists is never overwritten. What is damaged is told on standard error
    and left out.
    """
    from flatstream.tools.merging import merge

    if concatenate and time_field is not None:
        raise click.UsageError("--concatenate does not look at times, and --time-field is given")
    inputs = expand(paths)
    with wrong_usage(), Progress(f"merge to {out}") as progress:
        report = merge(
            inputs,
            out,
            time=False if concatenate else time_field,
            table=table_of(source),
            checksum=source.checksum,
            to_checksum=to_checksum,
            on_error="resync",
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        print_line(
            f"{out}: {count_text(report.frames, 'message')} of {count_text(len(report.sources), 'input')}, "
            f"{size_text(report.size)}"
        )
    if report.metadata_left_out:
        complain(f"the inputs differ in metadata, which is left out: {', '.join(report.metadata_left_out)}")
    tell_out_of_order(report.out_of_order)
    return tell_sources(report.sources)

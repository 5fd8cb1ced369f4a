"""``flatstream split``: each stream as many."""

from __future__ import annotations

import os
import re
from datetime import timedelta

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._copying import (
    parse_size,
    table_of,
    tell_out_of_order,
    tell_sources,
    timed_source_options,
    to_checksum_option,
    wrong_usage,
)
from flatstream.cli._inputs import (
    Input,
    Source,
    expand,
    for_each_of,
    is_folder_of_new,
    json_option,
    paths_argument,
    time_field_option,
    unique_names,
)
from flatstream.cli._output import Progress, count_text, print_json, print_line, size_text
from flatstream.cli._times import parse_duration

__all__ = ["command"]

# What has a meaning in a pattern: {{name}} is no place for a name, but text in braces.
PLACE = re.compile(r"(\{\{|\}\}|\{name\})")


@click.command(epilog=exit_statuses())
@paths_argument
@click.option(
    "-o",
    "--output",
    "pattern",
    required=True,
    metavar="PATTERN",
    type=click.Path(),
    help="The names of the new files: 'part-{number:04}.fs' counts them, and 'day-{time}.fs' has the beginning of the "
    "interval (with --every). For several inputs a folder, or a pattern with {name} too, as '{name}-{number}.fs'. "
    "Compressed if they end in .gz, .bz2, .xz, .zst or .lz4.",
)
@click.option(
    "--every", metavar="DURATION", help="A file for each interval of time: 1h, 30m, 1d. Days are those of UTC."
)
@click.option("--size", metavar="SIZE", help="Files of at most this size: 64MB, 1GiB. A larger message stands alone.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Files of so many messages.")
@time_field_option()
@to_checksum_option
@json_option
@timed_source_options
def command(
    paths: tuple[str, ...],
    pattern: str,
    every: str | None,
    size: str | None,
    count: int | None,
    time_field: str | None,
    to_checksum: str | None,
    as_json: bool,
    source: Source,
) -> int:
    """Write the messages of a stream to several new ones, by time, size or count.

    Each PATH gets files of its own. Messages pass as they are, and each file begins with the description of the stream.
    A file that exists is never overwritten. What is damaged is told on standard error and left out.
    """
    from flatstream.tools.splitting import split

    if sum(value is not None for value in (every, size, count)) != 1:
        raise click.UsageError("say one of --every, --size and --count")
    if every is None and (source.table is not None or source.schema is not None or time_field is not None):
        raise click.UsageError(
            "--schema, --table and --time-field say the time of a message, for --every: without it, all messages pass "
            "(flatstream convert --table copies those of one table)"
        )
    inputs = expand(paths)
    patterns = patterns_of(inputs, pattern, "{name}-{number:04}.fs" if every is None else "{name}-{time}.fs")

    def copy(one: Input) -> int:
        with wrong_usage(), Progress(f"split {one.name}") as progress:
            report = split(
                one,
                patterns[one.name],
                every=None if every is None else timedelta(microseconds=parse_duration(every) // 1000),
                size=None if size is None else parse_size(size),
                count=count,
                time=time_field,
                table=table_of(source),
                checksum=source.checksum,
                to_checksum=to_checksum,
                on_error="resync",
                progress=progress,
            )
        if as_json:
            print_json(report.to_dict())
        else:
            for file in report.files:
                print_line(f"{file.path}: {count_text(file.frames, 'message')}, {size_text(file.size)}")
            total = f"{count_text(report.frames, 'message')} in {count_text(len(report.files), 'file')}"
            print_line(total if len(inputs) == 1 else f"{one.name}: {total}")
        tell_out_of_order(report.out_of_order)
        return tell_sources([report.source])

    return for_each_of(inputs, copy, as_json=as_json)


def patterns_of(inputs: list[Input], pattern: str, last: str) -> dict[str, str]:
    """The pattern of the new files of each input, by the input's name. `last` is that of files in a folder."""
    if is_folder_of_new(pattern):
        pattern = os.path.join(in_braces(pattern), last)
    elif "{name}" not in PLACE.findall(pattern):
        if len(inputs) == 1:
            return {inputs[0].name: pattern}
        raise click.UsageError(
            f"{len(inputs)} inputs need a folder, or a pattern with {{name}}, for their new files (-o), "
            f"got {pattern!r:.100}"
        )
    patterns = {}
    for one, name in zip(inputs, unique_names(inputs), strict=True):
        parts = [in_braces(name) if part == "{name}" else part for part in PLACE.split(pattern)]
        patterns[one.name] = "".join(parts)
    return patterns


def in_braces(text: str) -> str:
    """Text as a part of a pattern, where braces are doubled."""
    return text.replace("{", "{{").replace("}", "}}")

"""``flatstream sample``: some of the messages of streams."""

from __future__ import annotations

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._copying import tell_sources, to_checksum_option, wrong_usage
from flatstream.cli._inputs import (
    Input,
    checksum_option,
    expand,
    for_each_of,
    json_option,
    new_file_option,
    new_paths,
    paths_argument,
)
from flatstream.cli._output import Progress, count_text, print_json, print_line, size_text

__all__ = ["command"]


@click.command(epilog=exit_statuses())
@paths_argument
@new_file_option
@click.option("--every", type=click.IntRange(1), metavar="N", help="The first message, and every N-th behind it.")
@click.option(
    "--fraction", type=click.FloatRange(0, 1), metavar="P", help="Each message with this probability, from 0 to 1."
)
@click.option("--seed", type=int, metavar="N", help="With --fraction: the same seed takes the same messages again.")
@to_checksum_option
@json_option
@checksum_option
def command(
    paths: tuple[str, ...],
    out: str,
    every: int | None,
    fraction: float | None,
    seed: int | None,
    to_checksum: str | None,
    as_json: bool,
    checksum: str | None,
) -> int:
    """Write every N-th message of a stream to a new one, or some at random.

    Each PATH gets a new file; for several, FILE is a folder, or a path with {name}. Messages pass as they are, and so
    does the description of the stream. A file that exists is never overwritten. What is damaged is told on standard
    error and left out.
    """
    from flatstream.tools.sampling import sample

    if (every is None) == (fraction is None):
        raise click.UsageError("say either --every or --fraction")
    inputs = expand(paths)
    new = new_paths(inputs, out, ".fs")

    def copy(one: Input) -> int:
        with wrong_usage(), Progress(f"sample {one.name}") as progress:
            report = sample(
                one,
                new[one.name],
                every=every,
                fraction=fraction,
                seed=seed,
                checksum=checksum,
                to_checksum=to_checksum,
                on_error="resync",
                progress=progress,
            )
        if as_json:
            print_json(report.to_dict())
        else:
            taken = f"{count_text(report.frames, 'message')} of {report.source.frames:,}"
            print_line(f"{report.path}: {taken}, {size_text(report.size)}")
        return tell_sources([report.source])

    return for_each_of(inputs, copy, as_json=as_json)

"""``flatstream recover``: cuts off torn tails, of which a copy is kept."""

from __future__ import annotations

import os

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._inputs import Input, allow_empty_option, checksum_option, expand, json_option, paths_argument
from flatstream.cli._output import Progress, count_text, print_json, print_line, size_text
from flatstream.cli._status import DAMAGED, INTACT, REPAIRED, for_each
from flatstream.tools.repairing import RepairReport, repair

__all__ = ["command"]

STATUS = {"nothing": INTACT, "cut": REPAIRED, "damaged": DAMAGED}


@click.command(epilog=exit_statuses())
@paths_argument
@allow_empty_option
@json_option
@checksum_option
def command(paths: tuple[str, ...], allow_empty: bool | None, as_json: bool, checksum: str | None) -> int:
    """Cut off the torn tails that crashes leave, and keep a copy of them.

    This is the only command that changes its inputs. What is cut off is a last frame of which only the first bytes were
    written, or zeros. Before, it is saved beside the file, as PATH.torn-TIME-OFFSET. Any other damage is reported, and
    left as it is: salvage copies what is intact. Segments of a journal that are sealed are not read: verify reads them.
    """

    def mend(one: Input) -> int:
        with Progress(one.name, one.size) as progress:
            report = repair(one, checksum=checksum, allow_empty=allow_empty, progress=progress)
        if as_json:
            print_json(report.to_dict())
        else:
            tell(report)
        return STATUS[report.action]

    inputs = expand(paths)
    for one in inputs:
        if one.kind not in ("file", "journal"):
            raise click.UsageError(f"{one.name}: only files and journals are repaired")
    return for_each(inputs, mend, as_json=as_json)


def tell(report: RepairReport, indent: str = "") -> None:
    """Prints what was done to a file, or to a journal and each of its segments."""
    whole = f"{count_text(report.frames, 'frame')}, {size_text(report.size)}"
    if report.segments is not None:
        lost = f", {report.lost_segments} lost" if report.lost_segments else ""
        print_line(f"{report.path}: a journal of {count_text(len(report.segments), 'segment')}{lost}; {whole}")
        for segment in report.segments:
            tell(segment, "  ")
        return
    copy = "they were zeros"
    if report.saved_as is not None:
        copy = f"their copy beside it is {os.path.basename(report.saved_as)}"
    cut = f"{count_text(report.bytes_cut, 'byte')} of a torn tail were cut off ({copy})"
    if report.action == "nothing":
        state = "intact, and not changed" if report.checked else "sealed, and not read (flatstream verify reads it)"
        print_line(f"{indent}{report.path}: {state}; {whole}")
    elif report.action == "cut":
        print_line(f"{indent}{report.path}: {cut}; now {whole}")
    else:
        where = "" if report.offset is None else f" at offset {report.offset:,}"
        behind = "" if report.next_intact_offset is None else f"; intact frames at offset {report.next_intact_offset:,}"
        done = cut if report.bytes_cut else "not changed (flatstream salvage copies what is intact)"
        print_line(f"{indent}{report.path}: damaged{where}: {report.error}{behind}; {done}")

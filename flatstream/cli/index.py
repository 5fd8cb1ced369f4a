"""``flatstream index``: the indexes of files and journals, built or compared with what they are about."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._inputs import Input, Source, expand, json_option, paths_argument, source_options
from flatstream.cli._output import Progress, count_text, print_json, print_line, size_text
from flatstream.cli._status import DAMAGED, INTACT, for_each
from flatstream.errors import FlatStreamError
from flatstream.index import IndexReport
from flatstream.index._fields import NoTimeFieldError
from flatstream.tools.indexing import IndexCheck, IndexCheckReport, IndexingReport, check_index, index

__all__ = ["command"]

ReportT = TypeVar("ReportT", IndexingReport, IndexCheckReport)

ACTIONS = {
    "created": "created",
    "continued": "brought up to date",
    "replaced": "replaced",
    "unchanged": "up to date already",
}


@click.command(epilog=exit_statuses())
@paths_argument
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME",
    help="A field whose range is kept for each block, as 'load' or 'cpu.user'. Can be given several times. By default "
    "those that the index has already, or the field of the time.",
)
@click.option("--check", is_flag=True, help="Change nothing, and compare each index with all messages.")
@json_option
@functools.partial(source_options, with_key=False)
def command(paths: tuple[str, ...], fields: tuple[str, ...], check: bool, as_json: bool, source: Source) -> int:
    """Build the index of each file, by which a part of it is found without reading all.

    The index of events.fs is events.fs.idx. It has the range of the time, or of other fields, in each block of some
    64 KiB, so that flatstream.dataset() reads only blocks that can have what is asked for. An index that is there is
    continued behind its end; one that does not fit, or has other fields than those of --field, is replaced: name all
    that it is to have. In a journal, each segment gets
    one. A file that can be read from its beginning only, as one of gzip, gets none. The files themselves are not
    changed.

    With --check, the status is 1 if an index is wrong or left aside. A file without an index is told, with status 0.
    """
    if check and fields:
        raise click.UsageError("--check compares the fields that each index has: --field is not for it")

    def build(one: Input) -> int:
        report = call(index, one, source, fields)
        if as_json:
            print_json(report.to_dict())
        else:
            tell(report)
        return DAMAGED if report.lost_bytes else INTACT

    def compare(one: Input) -> int:
        report = call(check_index, one, source, ())
        if as_json:
            print_json(report.to_dict())
        else:
            tell_check(report)
        return status_of_check(report)

    inputs = expand(paths)
    for one in inputs:
        if one.kind not in ("file", "journal"):
            raise click.UsageError(f"{one.name}: only files and journals have indexes")
    return for_each(inputs, compare if check else build, as_json=as_json)


def call(function: Callable[..., ReportT], one: Input, source: Source, fields: tuple[str, ...]) -> ReportT:
    """Calls `index` or `check_index` for an input.

    Raises
    ------
    click.UsageError
        It contradicts what the command line says of fields and tables. Without that, it is an error of this input.
    """
    options = {"fields": list(fields)} if fields else {}
    with Progress(one.name, one.size) as progress:
        try:
            return function(
                one,
                **options,
                checksum=source.checksum,
                schema=source.schema,
                table=source.table,
                progress=progress,
            )
        except FlatStreamError:
            raise
        except (LookupError, TypeError, ValueError) as error:
            if isinstance(error, NoTimeFieldError):
                raise FlatStreamError(f"{error.reason}: name the fields, as in --field {error.example}") from error
            if fields or source.schema or source.table:
                raise click.UsageError(f"{one.name}: {error.args[0]}") from None
            raise FlatStreamError(str(error.args[0])) from error


def tell(report: IndexingReport) -> None:
    """Prints what was done for a file, or for the segments of a journal."""
    for left_out in report.left_out:
        print_line(f"{left_out.path}: no index: {left_out.reason}")
    if not report.indexes:
        return
    counts: Counter[str] = Counter(one.action for one in report.indexes)
    if report.is_journal:
        segments = count_text(len(report.indexes), "segment")
        done = ", ".join(f"{count_text(counts[action])} {text}" for action, text in ACTIONS.items() if counts[action])
        what = f"the indexes of {segments}: {done}"
    else:
        what = f"index {ACTIONS[report.indexes[0].action]}"
    share = f" ({100 * report.size / report.stream_size:.2g} %)" if report.stream_size else ""
    print_line(
        f"{report.path}: {what}; {count_text(report.blocks, 'block')} of {names_of(report.indexes)}, "
        f"{size_text(report.size)}{share}"
    )
    if report.dropped:
        kept = dict.fromkeys([*report.dropped, *(field.path for one in report.indexes for field in one.fields)])
        options = " ".join(f"--field {name}" for name in kept)
        verb, them = ("is", "it") if len(report.dropped) == 1 else ("are", "them")
        print_line(f"  {', '.join(report.dropped)} {verb} no longer in it; to keep {them}: {options}")
    for one in report.indexes:
        place = one.file if report.is_journal else report.path
        if one.replaced_because is not None and not report.dropped:
            print_line(f"  {place}: the index that was there did not fit: {one.replaced_because}")
        if one.gaps:
            lost = sum(end - begin for begin, end in one.gaps)
            print_line(
                f"  {place}: damaged: {count_text(lost, 'byte')} in {count_text(len(one.gaps), 'place')}, the first at "
                f"offset {one.gaps[0][0]:,}, are in no block; flatstream verify lists what of them is damaged"
            )
        if one.covered < one.stream_size:
            print_line(f"  {place}: the last {count_text(one.stream_size - one.covered, 'byte')} are no whole frames")


def names_of(indexes: tuple[IndexReport, ...]) -> str:
    """The names of all fields of indexes."""
    return ", ".join(dict.fromkeys(field.path for one in indexes for field in one.fields))


def status_of_check(report: IndexCheckReport) -> int:
    """The exit status that the check of an input calls for."""
    if report.count("wrong") or report.count("ignored"):
        return DAMAGED
    # A file without an index is read in full, and nothing is wrong with it.
    return INTACT


def tell_check(report: IndexCheckReport) -> None:
    """Prints what was found of the index of a file, or of those of the segments of a journal."""
    if not report.is_journal:
        for one in report.checks:
            tell_one_check(one)
        return
    words = {"fits": "fit", "wrong": "are wrong", "ignored": "are left aside", "none": "are not there"}
    found = ", ".join(
        f"{count_text(number)} {word}" for state, word in words.items() if (number := report.count(state))
    )
    segments = count_text(len(report.checks), "segment")
    print_line(f"{report.path}: the indexes of {segments}{f': {found}' if found else ''}")
    for one in report.checks:
        if one.state in ("wrong", "ignored"):
            tell_one_check(one, "  ")


def tell_one_check(one: IndexCheck, indent: str = "") -> None:
    """Prints what was found of one index."""
    if one.state == "none":
        print_line(f"{indent}{one.path}: no index{'' if one.reason is None else f': {one.reason}'}")
    elif one.state == "ignored":
        print_line(f"{indent}{one.path}: its index is left aside: {one.reason}")
    else:
        covers = "of all" if one.covered == one.stream_size else f"covers {size_text(one.covered)} of"
        text = f"its index {'fits' if one.state == 'fits' else 'is wrong'}; {count_text(one.blocks, 'block')} of "
        text += f"{', '.join(one.fields)}, {covers} {size_text(one.stream_size)}"
        # A journal's writer continues those of its segments.
        if one.intact_end > one.covered and not indent:
            text += f": flatstream index {one.path} continues it"
        print_line(f"{indent}{one.path}: {text}")
        for problem in one.problems:
            print_line(f"{indent}  {problem}")
        if one.wrong > len(one.problems):
            print_line(f"{indent}  and {count_text(one.wrong - len(one.problems), 'more such block')}")
        if one.state == "fits" and one.reason is not None:
            print_line(f"{indent}  {one.reason}")

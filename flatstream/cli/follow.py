"""``flatstream follow``: messages as they are written."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._encrypted import tell_missing
from flatstream.cli._following import follow_from, is_empty_folder, open_when_certain, skip_to
from flatstream.cli._formats import Printer, make_format
from flatstream.cli._inputs import COUNT, Input, Source, expand, json_option, paths_argument, source_options
from flatstream.cli._last import last_rows
from flatstream.cli._plans import Loss, Plan, Row, plan_of
from flatstream.cli._selection import WHERE_HELP, Selection, selection_options
from flatstream.cli._show import show, tell_loss, thinned
from flatstream.cli._status import INTACT, combine, for_each
from flatstream.reader import StreamReader

__all__ = ["command"]


@click.command(epilog=f"{WHERE_HELP}\n{exit_statuses()}")
@paths_argument
@click.option(
    "-n",
    "--lines",
    "count",
    metavar="N",
    type=COUNT,
    help="How many of the last messages first. By default 10, and with --every none.",
)
@click.option("--all", "from_start", is_flag=True, help="All messages first.")
@selection_options
@json_option
@source_options
def command(paths: tuple[str, ...], count: int | None, from_start: bool, selection: Selection, source: Source) -> int:
    """Show the last messages of each input, and further ones as they are written, until Ctrl-C.

    Files and journals are followed, also empty ones; pipes are read as they come. A followed file ends when it is
    renamed, deleted or replaced; a journal goes on in its next segment.
    """
    if count is None:
        # The messages that --every leaves out are counted from the first one that comes.
        count = 10 if selection.every == 1 else 0
    inputs: list[Input] = []
    for path in paths:
        inputs += [Input(path, "journal")] if is_empty_folder(path) else expand([path])
    with Printer(make_format(selection.format, several=len(inputs) > 1)) as printer:
        shared = _Shared(printer)
        follow = partial(
            _follow, source=source, selection=selection, count=None if from_start else count, shared=shared
        )
        if len(inputs) == 1:
            return for_each(inputs, follow)
        return _in_threads(inputs, follow, shared)


class _Shared:
    """The printer, which several threads use, and what is open."""

    def __init__(self, printer: Printer) -> None:
        self.lock = threading.Lock()
        self.readers: list[StreamReader] = []
        self.printer = printer
        self._current: str | None = None

    def print(self, name: str, plan: Plan, rows: list[Row]) -> None:
        """Prints rows at once, with the name of the input if that was another one before."""
        if not rows:
            return
        with self.lock:
            if name != self._current:
                self.printer.begin(name, plan)
                self._current = name
            self.printer.print(rows, at_once=True)


def _follow(one: Input, source: Source, selection: Selection, count: int | None, shared: _Shared) -> int:
    if one.kind == "pipe":
        return show(one, source, selection, shared.printer)
    reopen = partial(source.open, one, on_error="resync")
    place: Any = "oldest" if one.kind == "journal" else 0
    status = INTACT
    with open_when_certain(one, source) as opened:
        plan = plan_of(opened, selection)
        deframer = opened.reader.deframer
        is_encrypted, messages = opened.reader.encryption is not None, 0
        if count is not None:
            found = last_rows(one, opened, plan, count, reopen)
            place, messages = found.end, opened.reader.frames_read
            shared.print(one.name, plan, found.rows)
            if one.kind != "journal":
                # What is torn at the end may be a frame that is being written.
                found.loss.ranges = [lost for lost in found.loss.ranges if lost[0] < found.end]
            status = combine([tell_loss(one.name, found.loss), tell_missing(one.name, opened.reader)])
    if one.kind == "journal":
        with reopen(follow=True, start=place) as opened:
            rest = _print_all(one.name, plan, opened.reader, selection, shared, 0)
    elif is_encrypted:
        # The first frame of a part is needed to decrypt the others, so it is read from the beginning again.
        with source.open(one, on_error="skip", follow=True) as opened:
            skip_to(opened.reader, place, messages)
            rest = _print_all(one.name, plan, opened.reader, selection, shared, 0)
    else:
        with follow_from(one.name, deframer, place) as reader:
            rest = _print_all(one.name, plan, reader, selection, shared, place)
    return combine([status, rest])


def _print_all(name: str, plan: Plan, reader: StreamReader, selection: Selection, shared: _Shared, begin: int) -> int:
    """Prints messages as they come, tells what is lost, and returns the exit status when there are no more."""
    shared.readers.append(reader)
    loss, known = Loss(), Loss()
    # What was lost where reading began again was told.
    known.ranges = list(reader.lost_ranges)
    statuses = []
    for rows in thinned(plan.rows(reader, loss, live=True), selection.every, None):
        shared.print(name, plan, plan.moved(rows, begin))
        if loss.size != known.size:
            statuses.append(tell_loss(name, loss.moved(begin), known.moved(begin)))
            known = loss.moved(0)
    return combine(statuses)


def _in_threads(inputs: list[Input], follow: Any, shared: _Shared) -> int:
    """Follows several inputs at once, each in a thread."""
    statuses: list[int] = []
    errors: list[BaseException] = []

    def run(one: Input) -> None:
        try:
            statuses.append(for_each([one], follow))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in inputs]
    for thread in threads:
        thread.start()
    try:
        # With a time limit, so that Ctrl-C is noticed everywhere.
        while not errors and any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.1)
        if errors:
            raise errors[0]
        return combine(statuses)
    finally:
        for reader in shared.readers:
            reader.close()

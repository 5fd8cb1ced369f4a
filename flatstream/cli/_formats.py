"""Rows as JSON lines, CSV and tables on standard output."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import click

from flatstream.cli._output import is_terminal, printable, time_text, write_bytes
from flatstream.cli._plans import Json, Plan, Row, json_text

__all__ = ["Format", "Printer", "make_format"]

# How many bytes are gathered before they are written.
BUFFER = 1 << 16

# A table's columns are as wide as these first rows need; on a terminal a cell has at most so many characters.
FIRST_ROWS = 100
WIDEST = 40

# What a cell shows that says little.
EMPTY = ("", "0", "0.0", "false")


class Format(Protocol):
    """Turns rows into text, input by input."""

    def begin(self, name: str, plan: Plan) -> str:
        """Begins with an input."""

    def rows(self, rows: Sequence[Row]) -> str:
        """The text of rows; some of them may be kept back."""

    def rest(self) -> str:
        """The text of the rows that were kept back."""


class Printer:
    """Prints rows in a format. A context manager: rows that were made before an error or Ctrl-C are printed too."""

    def __init__(self, made: Format) -> None:
        self._format = made
        self._pieces: list[str] = []
        self._size = 0

    def begin(self, name: str, plan: Plan) -> None:
        """Begins with the rows of an input."""
        self._add(self._format.begin(name, plan))

    def print(self, rows: Sequence[Row], *, at_once: bool = False) -> None:
        """Prints rows; with `at_once`, they are not gathered."""
        self._add(self._format.rows(rows))
        if at_once:
            self._add(self._format.rest())
        if at_once or self._size >= BUFFER:
            self.flush()

    def write(self, lines: bytes, *, at_once: bool = False) -> None:
        """Prints lines that are made already."""
        self.flush()
        write_bytes(lines)
        if at_once:
            sys.stdout.buffer.flush()

    def end(self) -> None:
        """Ends with the rows of an input."""
        self._add(self._format.rest())
        self.flush()

    def _add(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._size += len(text)

    def flush(self) -> None:
        """Hands over what was gathered."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces:
            write_bytes("".join(pieces).encode("utf-8", "backslashreplace"))
            sys.stdout.buffer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, BrokenPipeError):
            self.end()


class JsonLines:
    """A JSON object a line."""

    def __init__(self) -> None:
        self._names: list[str] | None = None

    def begin(self, name: str, plan: Plan) -> str:
        """Begins with an input."""
        self._names = None if plan.columns is None else [f"{json_text(column)}:" for column in plan.columns]
        return ""

    def rows(self, rows: Sequence[Row]) -> str:
        """The lines."""
        if self._names is None:
            return "".join([f"{row}\n" for row in rows])
        return "".join([self._line(row) for row in rows])

    def _line(self, row: Row) -> str:
        assert self._names is not None
        cells = [name + json_text(cell) for name, cell in zip(self._names, row, strict=True)]
        return f"{{{','.join(cells)}}}\n"

    def rest(self) -> str:
        """Nothing is kept back."""
        return ""


class Csv:
    """Comma-separated values, with one line of names for all inputs."""

    def __init__(self) -> None:
        self._columns: tuple[str, ...] | None = None

    def begin(self, name: str, plan: Plan) -> str:
        """The line of names, before the first input."""
        assert plan.columns is not None
        if self._columns is None:
            self._columns = plan.columns
            return _csv_lines([plan.columns])
        if plan.columns != self._columns:
            raise click.UsageError(
                f"{name} has other columns than the inputs before it, and CSV has one line of names: choose columns "
                "that all have with --fields"
            )
        return ""

    def rows(self, rows: Sequence[Row]) -> str:
        """The lines."""
        return _csv_lines([[_csv_cell(cell) for cell in row] for row in rows])

    def rest(self) -> str:
        """Nothing is kept back."""
        return ""


def _csv_lines(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _csv_cell(cell: Any) -> Any:
    if cell is None or (isinstance(cell, (str, int, float)) and not isinstance(cell, bool)):
        return cell
    return json_text(cell)


class AlignedTable:
    """Aligned columns.

    On a terminal, columns that have no values in the first rows are left out. If the others do not fit the width, so
    are columns of zeros, and those at the end.
    """

    def __init__(self, *, several: bool, width: int | None) -> None:
        self._several = several
        self._width = width
        self._is_first = True
        self._kept: list[list[str]] = []
        self._columns: tuple[str, ...] = ()
        self._times: Mapping[str, str] = {}
        # The numbers of the columns that are shown, their widths, and whether they are aligned to the right.
        self._shown: list[int] | None = None
        self._widths: list[int] = []
        self._right: list[bool] = []

    def begin(self, name: str, plan: Plan) -> str:
        """The name of the input, if there are several."""
        columns = ("message",) if plan.columns is None else plan.columns
        text = ""
        if self._several:
            text = f"{'' if self._is_first else chr(10)}==> {printable(name)} <==\n"
        self._is_first = False
        self._columns, self._times, self._shown, self._right = columns, plan.times, None, []
        return text

    def rows(self, rows: Sequence[Row]) -> str:
        """The lines, from the moment on at which the widths are known."""
        for row in rows:
            cells = row if isinstance(row, tuple) else (row,)
            if not self._right:
                self._right = [True] * len(cells)
            texts = []
            for number, (cell, column) in enumerate(zip(cells, self._columns, strict=True)):
                if (
                    self._shown is None
                    and cell is not None
                    and (isinstance(cell, bool) or not isinstance(cell, (int, float)))
                ):
                    self._right[number] = False
                texts.append(self._cell(cell, column))
            self._kept.append(texts)
        return self.rest() if self._shown is not None or len(self._kept) >= FIRST_ROWS else ""

    def rest(self) -> str:
        """The lines that were kept back."""
        kept, self._kept = self._kept, []
        if not kept:
            return ""
        text = ""
        if self._shown is None:
            self._choose(kept)
            assert self._shown is not None
            text = self._line(self._columns)
            left_out = len(self._columns) - len(self._shown)
            if left_out and self._width is not None:
                text = f"({left_out} of {len(self._columns)} columns are not shown: choose with --fields)\n{text}"
        return text + "".join([self._line(cells) for cells in kept])

    def _choose(self, rows: list[list[str]]) -> None:
        """Chooses the columns for these rows, and their widths."""
        widths = [max(map(len, column)) for column in zip(self._columns, *rows, strict=True)]
        shown = list(range(len(self._columns)))
        if self._width is not None:
            filled = [number for number in shown if any(row[number] for row in rows)]
            if sum(widths[number] + 2 for number in filled) > self._width + 2:
                # Those that say something come before those that do not.
                filled = [number for number in filled if any(row[number] not in EMPTY for row in rows)] or filled
            shown, room = [], self._width
            for number in filled:
                if room < widths[number] and shown:
                    break
                shown.append(number)
                room -= widths[number] + 2
        self._shown, self._widths = shown, widths

    def _line(self, cells: Sequence[str]) -> str:
        assert self._shown is not None
        texts = [
            cells[number].rjust(self._widths[number])
            if self._right[number]
            else cells[number].ljust(self._widths[number])
            for number in self._shown
        ]
        return "  ".join(texts).rstrip() + "\n"

    def _cell(self, cell: Any, column: str) -> str:
        if cell is None:
            return ""
        if column in self._times and isinstance(cell, int):
            return time_text(cell, self._times[column])
        if isinstance(cell, str) and not isinstance(cell, Json):
            text = printable(cell)
        elif isinstance(cell, (int, float)) and not isinstance(cell, bool):
            text = str(cell)
        else:
            text = printable(json_text(cell))
        if self._width is not None and len(text) > WIDEST and len(self._columns) > 1:
            return text[: WIDEST - 3] + "..."
        return text


def make_format(name: str, *, several: bool) -> Format:
    """The format of this name: "jsonl", "csv" or "table". `several` says whether there are several inputs."""
    if name == "jsonl":
        return JsonLines()
    if name == "csv":
        return Csv()
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    return AlignedTable(several=several, width=width)

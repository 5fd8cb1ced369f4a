"""What commands print: lines, tables, JSON, and how far long work is.

Results go to standard output; errors and progress to standard error. A terminal gets tables and progress bars by rich,
which is imported only then; a pipe or a file gets plain text.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from io import StringIO
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from flatstream._compressed import CutOffError
from flatstream.description._schemas import PER_SECOND
from flatstream.tools.inputs import NotAStreamError, decompression

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = [
    "OutputError",
    "Progress",
    "complain",
    "count_text",
    "duration_text",
    "flush_output",
    "give_up_output",
    "is_terminal",
    "message_of",
    "print_json",
    "print_line",
    "print_table",
    "printable",
    "size_text",
    "time_text",
    "write_bytes",
    "write_text",
]

UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")

# In seconds. Work that is done sooner shows no progress.
QUIET = 1.0


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal. A closed one is none."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False


# Text


def printable(text: object) -> str:
    """The text without control characters, which come from files and could change what a terminal shows."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in plain
    )


def size_text(size: int) -> str:
    """A number of bytes for people: ``"1,500 bytes"``, ``"14.2 MB"``."""
    if size < 10_000:
        return count_text(size, "byte")
    value = float(size)
    unit = 0
    while value >= 999.5 and unit + 1 < len(UNITS):
        value /= 1000
        unit += 1
    return f"{value:.3g} {UNITS[unit]}"


def count_text(number: int, noun: str = "", plural: str = "") -> str:
    """A number with its noun: ``"1 frame"``, ``"12,000 frames"``."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration_text(seconds: float) -> str:
    """A time span for people: ``"1.25 s"``, ``"10 min 5 s"``, ``"3 d 4 h"``."""
    if seconds < 0:
        return f"-{duration_text(-seconds)}"
    if seconds < 60:
        if seconds == 0 or seconds >= 1:
            return f"{seconds:.3g} s"
        return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"
    whole = round(seconds)
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    parts = [
        f"{number} {unit}" for number, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if number
    ]
    return " ".join(parts[:2])


DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def time_text(value: int, unit: str = "s") -> str:
    """A time since 1970 in UTC as ISO 8601, with as many digits as the unit has; the number if it is no such time."""
    seconds, rest = divmod(value, PER_SECOND[unit])
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(value)
    digits = DIGITS[unit]
    return f"{text.zfill(19)}.{rest:0{digits}d}Z" if digits else f"{text.zfill(19)}Z"


# Standard output


class OutputError(Exception):
    """Standard output takes no more: the disk is full, for instance. (For a closed pipe, BrokenPipeError comes.)"""


def write_text(text: str) -> None:
    """Writes text to standard output as it is."""
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(message_of(error, "standard output")) from error


def flush_output() -> None:
    """Has what was printed reach its place."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(message_of(error, "standard output")) from error


def print_line(text: str = "") -> None:
    """Prints one line on standard output. Control characters in it are escaped, but for tabs."""
    if not text.isprintable():
        text = "\t".join(map(printable, text.split("\t")))
    write_text(f"{text}\n")


def print_json(value: Any) -> None:
    """Prints one JSON document in one line. Bytes are written as hex, and what JSON does not know as its text."""
    write_text(f"{json.dumps(value, ensure_ascii=False, default=_json_of)}\n")


def _json_of(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    to_dict = getattr(value, "to_dict", None)
    return to_dict() if callable(to_dict) else str(value)


def write_bytes(data: Any) -> None:
    """Writes bytes to standard output, after the text that was printed before."""
    flush_output()
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(message_of(error, "standard output")) from error


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = ()) -> None:
    """Prints a table: by rich on a terminal that is wide enough, and in plain aligned columns elsewhere.

    Parameters
    ----------
    columns : sequence of str
        The headings.
    rows : iterable of sequences
        The cells; None is an empty one.
    right : iterable of str
        The columns that are aligned to the right, as numbers are.
    """
    to_right = [column in right for column in columns]
    cells = [["" if cell is None else printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if is_terminal(sys.stdout) and sum(widths) + 2 * len(widths) <= shutil.get_terminal_size().columns:
        _print_rich_table(columns, cells, to_right)
        return
    for row in [list(columns), *cells]:
        texts = [
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(row, widths, to_right, strict=True)
        ]
        write_text("  ".join(texts).rstrip() + "\n")


def _print_rich_table(columns: Sequence[str], cells: list[list[str]], to_right: list[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, is_right in zip(columns, to_right, strict=True):
        table.add_column(Text(column), justify="right" if is_right else "left", no_wrap=True)
    for row in cells:
        # Text and not str: square brackets are markup in a str.
        table.add_row(*map(Text, row))
    text = StringIO()
    Console(file=text, force_terminal=True, width=shutil.get_terminal_size().columns).print(table)
    write_text(text.getvalue())


def give_up_output() -> None:
    """Prints nothing more on standard output; nor does the interpreter when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


# Standard error


class _Current:
    """The command that runs, which messages begin with."""

    name = "flatstream"


def set_command(name: str | None) -> None:
    """Has messages begin with the name of this command, or only with that of the program."""
    _Current.name = f"flatstream {name}" if name else "flatstream"


def complain(text: str) -> None:
    """Prints one line on standard error, which begins with the command: ``flatstream info: PATH: what is wrong``."""
    line = printable(" ".join(text.split("\n")))
    with contextlib.suppress(OSError, ValueError):
        # What was printed before comes before, if both go to the same place.
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{_Current.name}: {line}\n")
        sys.stderr.flush()


def message_of(error: BaseException, path: str | None = None) -> str:
    """An error in one line: ``PATH: what``. `path` is the input; the error may name another file."""
    if isinstance(error, OSError) and error.strerror:
        named = path if error.filename is None else os.fsdecode(error.filename)
        return f"{named}: {error.strerror}" if named is not None else error.strerror
    if isinstance(error, NotAStreamError) and error.path is not None:
        path = error.path
    text = str(error) or type(error).__name__
    if isinstance(error, CutOffError):
        text = f"{text}; {decompression(error.compression, path or 'FILE')}"
    return text if path is None or text.startswith(f"{path}: ") else f"{path}: {text}"


class Progress:
    """Shows on standard error how far long work is, if that is a terminal. Work of less than a second shows nothing.

    Parameters
    ----------
    label : str
        What is being done, for example the path of the file.
    total : int, optional
        How many bytes (or other units) there are; None if it is not known.
    stream : text file, optional
        Standard error by default.

    Examples
    --------
    >>> with Progress("events.fs", total=100) as progress:
    ...     for done in (50, 100):
    ...         progress(done)
    """

    def __init__(self, label: str, total: int | None = None, stream: TextIO | None = None) -> None:
        self._label = printable(label)
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._is_shown = is_terminal(self._stream)
        self._begin = time.monotonic()
        self._bar: Any = None
        self._task: TaskID | None = None

    def __call__(self, done: int, total: int | None = None) -> None:
        """Tells how much is done, and how much there is if that is known (not 0). Cheap enough for each batch."""
        if not self._is_shown:
            return
        if total:
            self._total = total
        if self._bar is None:
            if time.monotonic() - self._begin < QUIET:
                return
            self._start()
        self._bar.update(self._task, completed=done, total=self._total)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=Console(file=self._stream), transient=True)
        self._task = self._bar.add_task(self._label, total=self._total)
        self._bar.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

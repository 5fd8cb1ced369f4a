"""Exit statuses, and the work on several inputs that ends with one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from flatstream.cli._output import complain, message_of, print_json
from flatstream.errors import (
    ChecksumMismatchError,
    FlatbufferError,
    FlatStreamError,
    InvalidFrameError,
    ValidationFailedError,
)
from flatstream.tools.inputs import Input, NotAStreamError

__all__ = [
    "CLOSED_PIPE",
    "DAMAGED",
    "DAMAGES",
    "ERROR",
    "INTACT",
    "INTERRUPTED",
    "REPAIRED",
    "STATUSES",
    "USAGE",
    "combine",
    "for_each",
    "status_of",
]

INTACT = 0
DAMAGED = 1
USAGE = 2
REPAIRED = 3
ERROR = 4
INTERRUPTED = 130
CLOSED_PIPE = 141

STATUSES = {
    INTACT: "intact; the command did what it was asked to do",
    DAMAGED: "damage was found, or data is lost",
    USAGE: "the command line is wrong",
    REPAIRED: "repaired, and nothing is lost (recover)",
    ERROR: "something cannot be read or written, or is no stream",
    INTERRUPTED: "interrupted (Ctrl-C)",
    CLOSED_PIPE: "the reader of the output went away",
}

# An EOFError comes from a compressed file that is cut off.
DAMAGES = (ChecksumMismatchError, EOFError, FlatbufferError, InvalidFrameError, ValidationFailedError)

# From the mildest to the worst.
SEVERITY = (INTACT, REPAIRED, DAMAGED, ERROR, USAGE)

InputT = TypeVar("InputT", bound=Input)


def combine(statuses: Iterable[int]) -> int:
    """The worst of the statuses of several inputs; INTACT if there are none."""
    return max(statuses, key=SEVERITY.index, default=INTACT)


def status_of(error: Exception) -> int:
    """DAMAGED for damage that reading a stream found, ERROR for anything else."""
    return DAMAGED if isinstance(error, DAMAGES) and not isinstance(error, NotAStreamError) else ERROR


def for_each(inputs: Iterable[InputT], action: Callable[[InputT], int | None], *, as_json: bool = False) -> int:
    """Calls `action` for each input, and returns the worst status.

    The action returns a status (None is INTACT). If it raises an OSError, a FlatStreamError, or an ImportError for a
    package that only this input needs, a line on standard error says so, and the next input follows; with `as_json` an
    object with the input's path, the error and its status is printed too. Other errors, such as those of wrong usage,
    and of a closed standard output, end the command.
    """
    statuses = []
    for one in inputs:
        try:
            one.check_there()
            statuses.append(action(one) or INTACT)
        except BrokenPipeError:
            raise
        except (OSError, EOFError, ImportError, FlatStreamError) as error:
            complain(message_of(error, one.name))
            statuses.append(status_of(error))
            if as_json:
                print_json({"path": one.name, "error": str(error), "status": statuses[-1]})
    return combine(statuses)

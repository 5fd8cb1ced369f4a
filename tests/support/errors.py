"""How the tests catch and compare errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatstream


def raised_by(function: Callable[..., object], *arguments: Any) -> BaseException:
    """The exception that ``function(*arguments)`` raises, whatever it is; a test fails if there is none."""
    try:
        function(*arguments)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def facts(error: BaseException) -> tuple[type[BaseException], dict[str, Any]]:
    """An error's class and all of its attributes but the message, whose wording is nobody's contract.

    For an error that is none of ours the attributes are those of OSError, if it is one.
    """
    if isinstance(error, flatstream.FlatStreamError):
        return type(error), {name: value for name, value in vars(error).items() if name not in ("message", "__notes__")}
    return type(error), {"errno": error.errno} if isinstance(error, OSError) else {}

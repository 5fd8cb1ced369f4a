"""How the tests of bad input are written down: as tables of calls, each with the error that must come.

An error must say what was expected and what came, and, where a stream is concerned, at which frame and offset.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from support.errors import raised_by

TWO_FRAMES = b"\x03\x00\x00\x00abc\x02\x00\x00\x00de"

Errors = type[Exception] | tuple[type[Exception], ...]
Refused = tuple[object, Errors, str]


@dataclass(frozen=True)
class Case:
    """A call that must raise `error`, with a message that `message` matches."""

    name: str
    call: Callable[..., object]
    error: Errors
    message: str

    def check(self, *arguments: object) -> BaseException:
        raised = raised_by(self.call, *arguments)
        assert isinstance(raised, self.error), repr(raised)
        assert re.search(self.message, str(raised)), f"{raised} is not like {self.message}"
        return raised


def shown(value: object) -> str:
    """The repr of a value without addresses: the processes that share the tests must give them the same names."""
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))


def table(*cases: Case) -> pytest.MarkDecorator:
    """Gives a test each of the cases as ``case``."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])


def refusals(name: str, call: Callable[..., object], *refused: Refused) -> list[Case]:
    """A Case for each value: ``call(value)``, or ``call(given, value)`` where the test gives an object."""

    def case(value: object, error: Errors, message: str) -> Case:
        return Case(f"{name} {shown(value):.30}", lambda *given: call(*given, value), error, message)

    return [case(*each) for each in refused]


# Numbers

NO_INTS = [
    (None, "NoneType: None"),
    ("5", "str: '5'"),
    (2.0, r"float: 2\.0"),
    (True, "bool: True"),
    (b"5", "bytes: b'5'"),
]


def no_ints(argument: str, *, but_none: bool = False) -> list[Refused]:
    wrong = NO_INTS[1:] if but_none else NO_INTS
    return [(value, TypeError, f"{argument} must be an int, got {what}") for value, what in wrong]


def lengths(name: str, argument: str, call: Callable[..., object], *, but_none: bool = False) -> list[Case]:
    """For an argument that takes a length, and perhaps None."""
    negative: list[Refused] = [
        (value, ValueError, f"{argument} must not be negative, got {value}") for value in (-1, -(2**70))
    ]
    return refusals(f"{name}({argument})", call, *no_ints(argument, but_none=but_none), *negative)


def counts(name: str, argument: str, call: Callable[..., object], *, but_none: bool = False) -> list[Case]:
    """For an argument that takes a number from 1 on, and perhaps None."""
    outside: list[Refused] = [
        (value, ValueError, f"{argument} must be from 1 to [0-9]+, got {value}") for value in (0, -1, 2**70)
    ]
    return refusals(f"{name}({argument})", call, *no_ints(argument, but_none=but_none), *outside)


# Objects


def instances(
    name: str, argument: str, kind: str, call: Callable[[Any], object], *also: object, but_none: bool = False
) -> list[Case]:
    """For an argument that takes an instance of a class of ours, and perhaps None."""
    # A name of a checksum stands for a framer or deframer.
    values = [*([] if but_none else [None]), 5, *([] if "framer" in argument else ["crc32"]), object, *also]
    message = f"{argument} must be an instance of {kind}.*, got "
    return refusals(
        f"{name}({argument})", call, *[(value, TypeError, message + re.escape(repr(value))) for value in values]
    )


def callables(name: str, argument: str, call: Callable[..., object], *, but_none: bool = False) -> list[Case]:
    values = [*([] if but_none else [None]), 5, "len"]
    return refusals(
        f"{name}({argument})", call, *[(value, TypeError, f"{argument} must be callable, got ") for value in values]
    )


# Bytes


def closed(file: Any) -> Any:
    file.close()
    return file


def released() -> memoryview:
    view = memoryview(TWO_FRAMES)
    view.release()
    return view


def no_bytes(argument: str) -> list[Refused]:
    """What is not bytes-like, or not one piece of memory."""
    what = f"{argument} must be a bytes-like object, got "
    strided = f"{argument} must be C-contiguous, got a strided "
    return [
        (None, TypeError, what + "NoneType"),
        (5, TypeError, what + "int"),
        ("abc", TypeError, what + "str: encode it first"),
        ([1, 2], TypeError, what + "list"),
        (memoryview(b"abcdef")[::2], BufferError, strided + "memoryview"),
        (np.zeros((4, 4), np.uint8).T[1:], BufferError, strided + "ndarray"),
        (released(), ValueError, "released memoryview"),
        (closed(mmap.mmap(-1, 10)), ValueError, "closed"),
    ]

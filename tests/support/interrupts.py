"""Exceptions of signal handlers, at each point of some code where the interpreter can run a handler."""

from __future__ import annotations

import contextlib
import dis
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

# The interpreter looks for signals behind calls of compiled functions, at the begin of a function, and in loops.
_LOOKS = {
    dis.opmap[name] for name in ("CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "RESUME") if name in dis.opmap
}


class Interrupted(BaseException):
    """Raised as by a signal handler."""


class Interruption:
    """Raises `Interrupted` once, at the point number `at` in those files of the package whose names are given.

    Attributes
    ----------
    place : str or None
        Where it was raised.
    """

    def __init__(self, at: int, files: tuple[str, ...]) -> None:
        self._left = at
        self._files = files
        self._before: tuple[FrameType | None, int] = (None, 0)
        self.place: str | None = None

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """While entered, this thread is interrupted, if it was not yet."""
        before = sys.gettrace()
        if self.place is None:
            sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes = True
        self._before = (None, 0)
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            (caller, code), self._before = self._before, (frame, frame.f_code.co_code[frame.f_lasti])
            if caller is frame and code in _LOOKS and frame.f_code.co_filename.endswith(self._files):
                self._left -= 1
                if not self._left:
                    sys.settrace(None)
                    self._before = (None, 0)
                    self.place = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                    raise Interrupted
        elif event != "line":
            self._before = (None, 0)
        return self._step

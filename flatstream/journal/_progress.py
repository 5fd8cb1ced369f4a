"""How far long work is, on the standard error output."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

__all__ = ["Progress"]

# In seconds: how long work goes on before it is told of, and the pauses between two lines.
QUIET = 1.0
TERMINAL_PAUSE = 0.25
FILE_PAUSE = 5.0


class Progress:
    """Tells from a thread how far the work is: on a terminal in one line that is written over, else in a line every few
    seconds. Work that is done within a second is not told of.

    Parameters
    ----------
    stream : text file
        Where to. If it fails, nothing more is told.
    is_shown : bool
        False: nothing is told.
    """

    def __init__(self, stream: TextIO, is_shown: bool = True) -> None:
        self._stream = stream
        self._is_terminal = _is_terminal(stream)
        self._place: tuple[str, Callable[[], int], int] | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True) if is_shown else None
        self._shown = ""

    def watch(self, label: str) -> Callable[[io.RawIOBase, int], None]:
        """What is told of an open file that is read from now on, and its size."""

        def begin(file: io.RawIOBase, size: int) -> None:
            self._place = label, file.tell, size

        return begin

    def report(self, label: str) -> Callable[[int, int], None]:
        """What is told how many of how many bytes are done."""

        def step(done: int, size: int) -> None:
            self._place = label, lambda: done, size

        return step

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._is_over.set()
            self._thread.join()
            self._clear()

    def clear(self) -> None:
        """Removes the line from the terminal, so that another one can be written there."""
        if self._shown:
            self._clear()

    def _tell(self) -> None:
        pause = TERMINAL_PAUSE if self._is_terminal else FILE_PAUSE
        wait = QUIET
        while not self._is_over.wait(wait):
            wait = pause
            if (text := self._text()) and not self._write(text):
                return

    def _text(self) -> str:
        if self._place is None:
            return ""
        label, position, size = self._place
        try:
            done = min(position(), size)
        except ValueError:
            # The file was closed.
            return ""
        return f"{label}: {100 * done // size if size else 100} % of {size:,} bytes"

    def _write(self, text: str) -> bool:
        line = f"\r\x1b[K{text}" if self._is_terminal else f"{time.strftime('%H:%M:%S')} {text}\n"
        self._shown = text if self._is_terminal else ""
        return _put(self._stream, line)

    def _clear(self) -> None:
        if self._shown:
            self._shown = ""
            _put(self._stream, "\r\x1b[K")


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False


def _put(stream: TextIO, text: str) -> bool:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        return False
    return True

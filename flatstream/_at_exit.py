"""The end of the interpreter: writers that are still open and have accepted bytes hand them over, and say so.

A writer that a daemon thread holds is never collected, so nothing else would hand over or report its bytes.
"""

from __future__ import annotations

import atexit
import os
import select
import stat
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatstream._core.stream.encoder import Encoder

__all__ = ["watch"]

# How long the exit waits for other threads and for pipes, in seconds, for all writers together.
PATIENCE = 1.0

HANDED_OVER = "were handed over now"

# By the identity of the reference: a reference has the hash of its writer, and a subclass may have none. (A dictionary
# can be copied while daemon threads make writers.)
_writers: dict[int, weakref.ref[Any]] = {}


def watch(writer: Encoder) -> None:
    """Has `writer`, a StreamWriter, looked at when the interpreter exits, if it still exists then."""
    reference = weakref.ref(writer, _forget)
    _writers[id(reference)] = reference


def _forget(reference: weakref.ref[Any]) -> None:
    _writers.pop(id(reference), None)


def _hand_over_all() -> None:
    end = time.monotonic() + PATIENCE
    told = []
    for writer in [reference() for reference in list(_writers.values())]:
        # A forked child leaves the bytes to its parent. What is closed or refuses has reported its bytes.
        if writer is None or writer._endpoint is None or writer._is_forked_copy or writer.is_refusing:
            continue
        if pending := writer.pending_bytes:
            told.append((writer, f"{pending} bytes in its buffer {_hand_over(writer, writer._endpoint.target, end)}"))
    # Afterwards, because a warning may be an error.
    for writer, fate in told:
        writer._is_told = True
        message = f"{writer!r} is open at the exit of the interpreter: {fate}"
        # Python does not show a ResourceWarning unless it is asked to. The loss of bytes is shown.
        category = ResourceWarning if fate.endswith(HANDED_OVER) else RuntimeWarning
        warnings.warn(message, category, source=writer, stacklevel=2)


def _hand_over(writer: Encoder, sink: Any, end: float) -> str:
    """Hands over what is in the buffer, without waiting longer than until `end`; returns what became of it."""
    try:
        with _not_blocking(sink) as wait:
            while True:
                try:
                    if not writer._drain_within(max(end - time.monotonic(), 0)):
                        return "are lost, because a thread is in the middle of another operation on it"
                    break
                except BlockingIOError:
                    if not wait(end - time.monotonic()):
                        return f"were not all handed over, because the sink blocks: {writer.pending_bytes} are lost"
            if callable(flush := getattr(sink, "flush", None)):
                flush()
    except Exception as error:
        return f"may be lost, because handing them over failed: {type(error).__name__}: {error}"
    return HANDED_OVER


@contextmanager
def _not_blocking(sink: Any) -> Iterator[Callable[[float], bool]]:
    """Makes writing to a pipe, socket or terminal raise BlockingIOError instead of waiting. Gives a function that waits
    for that many seconds until the sink takes bytes again, and returns whether it does.
    """
    try:
        descriptor = sink.fileno()
        waits = not stat.S_ISREG(os.fstat(descriptor).st_mode) and os.get_blocking(descriptor)
    except (AttributeError, OSError, ValueError):
        # No descriptor: it does not wait for the other end of a pipe.
        waits = False
    if not waits:
        yield lambda seconds: False
        return
    os.set_blocking(descriptor, False)
    try:
        yield lambda seconds: seconds > 0 and bool(select.select([], [descriptor], [], seconds)[1])
    finally:
        os.set_blocking(descriptor, True)


atexit.register(_hand_over_all)

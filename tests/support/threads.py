"""Threads that start at once and come to their end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# How long to wait for threads that should come to their end at once.
PATIENCE = 60


switching = pytest.mark.usefixtures("frequent_switches")


def run_threads(*functions: Callable[[], Any]) -> None:
    """Runs each function in a thread of its own, all starting at once, and raises the first error of any."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], Any]) -> None:
        start.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread waits for ever"
    if errors:
        raise errors[0]


# How long a test waits for a thread that has nothing left to do.
JOIN_SECONDS = 30


@contextlib.contextmanager
def running(function: Callable[[], None]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(JOIN_SECONDS)
        assert not thread.is_alive(), "the thread at the other end of a pipe or socket did not come to its end"

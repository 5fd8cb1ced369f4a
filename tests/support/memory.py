"""Measurements of memory."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def repeat(cycle: Callable[[Path], None], folder: Path, times: int) -> None:
    for _ in range(times):
        cycle(folder)


def growth(cycle: Callable[[Path], None], folder: Path, measure: Callable[[], int], times: int) -> list[int]:
    """By how much what `measure` gives grows while `cycle` is run `times` times, in several rounds."""
    # Caches fill and free lists grow first.
    repeat(cycle, folder, 2 * times)
    gc.collect()
    sizes = [measure()]
    for _ in range(4):
        repeat(cycle, folder, times)
        gc.collect()
        sizes.append(measure())
    return [later - earlier for earlier, later in itertools.pairwise(sizes)]


def address(buffer: Any) -> int:
    """Where in memory the first byte of `buffer` lies."""
    return int(np.frombuffer(buffer, np.uint8).__array_interface__["data"][0])

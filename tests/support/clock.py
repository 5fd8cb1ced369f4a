"""A clock for memory policies."""

from __future__ import annotations


class Clock:
    """Stands still until it is told the time; counts how often it was asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.now

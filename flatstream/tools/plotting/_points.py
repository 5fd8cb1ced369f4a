"""Points that are kept in bounded memory: all extremes of a line, or an even sample for percentiles."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Extremes", "Sample", "extremes_by_column", "percentiles_by_column"]

# A line keeps fewer points than twice as many, and a sample at most so many values.
LINE_POINTS = 1 << 18
SAMPLE_POINTS = 1 << 22


class _Points:
    """Points in pieces, in the order of the stream."""

    def __init__(self) -> None:
        self.pieces: list[tuple[Any, Any]] = []
        self.count = 0

    def points(self) -> tuple[Any, Any]:
        """The points that are kept."""
        if not self.pieces:
            return np.empty(0, np.int64), np.empty(0)
        return np.concatenate([x for x, _ in self.pieces]), np.concatenate([y for _, y in self.pieces])


class Extremes(_Points):
    """The points of a line. When they are many, only the least and the greatest of each group of neighbours stay."""

    def __init__(self, most: int = LINE_POINTS) -> None:
        super().__init__()
        self.most = most

    def add(self, x: Any, y: Any) -> None:
        """Adds points in the order of the stream."""
        self.pieces.append((x, y))
        self.count += len(x)
        if self.count >= 2 * self.most:
            x, y = _thinned(*self.points(), self.most // 2)
            self.pieces = [(x, y)]
            self.count = len(x)


def _thinned(x: Any, y: Any, groups: int) -> tuple[Any, Any]:
    """The points with the least and the greatest value of each of about so many groups, in their order."""
    size = -(-len(y) // groups)
    whole = len(y) - len(y) % size
    rows = y[:whole].reshape(-1, size)
    begins = np.arange(0, whole, size)
    chosen = np.unique(np.concatenate([begins + rows.argmin(1), begins + rows.argmax(1), np.arange(whole, len(y))]))
    return x[chosen], y[chosen]


class Sample(_Points):
    """Every n-th of the points, where n is doubled when they are too many."""

    def __init__(self, most: int = SAMPLE_POINTS) -> None:
        super().__init__()
        self.most = most
        self.step = 1
        self.seen = 0

    def add(self, x: Any, y: Any) -> None:
        """Adds points in the order of the stream."""
        first = -self.seen % self.step
        self.seen += len(x)
        # Copies: a slice would keep all of the points.
        self.pieces.append((x[first :: self.step].copy(), y[first :: self.step].copy()))
        self.count += len(self.pieces[-1][0])
        if self.count > self.most:
            x, y = self.points()
            self.pieces = [(x[::2].copy(), y[::2].copy())]
            self.count = len(self.pieces[0][0])
            self.step *= 2


def _columns_of(x: Any, columns: int) -> tuple[Any, Any]:
    """The numbers of the columns of sorted positions, without empty ones, and the places where each begins."""
    first, last = int(x[0]), int(x[-1])
    span = max(1, last - first)
    numbers = ((x - first).astype(np.float64) * (columns / (span + span / columns))).astype(np.int64)
    begins = np.flatnonzero(np.diff(numbers, prepend=-1))
    return numbers[begins], begins


def extremes_by_column(x: Any, y: Any, columns: int) -> tuple[Any, Any]:
    """A line with no more points than two for each column of pixels: the least and the greatest value there."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    if len(x) <= 2 * columns:
        return x, y
    _, begins = _columns_of(x, columns)
    ends = np.append(begins[1:], len(x)) - 1
    low, high = np.minimum.reduceat(y, begins), np.maximum.reduceat(y, begins)
    # The nearer one to the end of the column before comes first, so that a slope stays one.
    rises = y[begins] <= y[ends]
    first, second = np.where(rises, low, high), np.where(rises, high, low)
    return np.stack([x[begins], x[ends]], 1).ravel(), np.stack([first, second], 1).ravel()


def percentiles_by_column(x: Any, y: Any, ranks: tuple[float, ...], columns: int) -> tuple[Any, Any]:
    """For each column that has points, the position of its middle, and the percentiles of the values in it."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    _, begins = _columns_of(x, columns)
    parts = np.split(y, begins[1:])
    ends = np.append(begins[1:], len(x)) - 1
    middles = x[begins] + (x[ends] - x[begins]) // 2
    return middles, np.array([np.percentile(part, ranks) for part in parts])

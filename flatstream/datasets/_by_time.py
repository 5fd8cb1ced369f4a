"""Splits by time: which blocks of which files have rows in a range of times, by their indexes."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flatstream.datasets._pieces import HOLE, Position, Stretch
from flatstream.datasets._planning import Run, Source, find_sources
from flatstream.datasets._unify import time_of
from flatstream.datasets.splits import SPLIT_BYTES, Split, SplitSource, pack_runs, read_split, ticks
from flatstream.index import UnusableIndex

if TYPE_CHECKING:
    from flatstream.datasets._dataset import Dataset

__all__ = ["share_by_time"]


class _Blocks(NamedTuple):
    """The blocks of a file: where they are, and the first and last time in each. Arrays of int64."""

    source: Source
    begins: Any
    ends: Any
    frames: Any
    lows: Any
    highs: Any


def share_by_time(
    dataset: Dataset, shared: SplitSource, field: str | None, count: int | None, where: Any
) -> tuple[str, list[tuple[list[Run], tuple[int, int]]]]:
    """What `split_by_time` does: the time field, and for each split its stretches and its range of times."""
    time = time_of(dataset._kinds())
    if time is None:
        raise ValueError("the messages have no field with the time of each, which the description would name")
    if field is not None and field != time[0]:
        raise ValueError(f"{field!r:.100} is not the time of the messages, which is {time[0]!r}")
    if len({kind.time for kind in dataset._kinds()}) != 1:
        raise ValueError(f"the times {time[0]!r} of the files have several units")
    files = []
    for source in find_sources(dataset, where):
        try:
            files.append(_blocks_of(dataset, shared, source, time[0]))
        finally:
            source.target.close()
    files = [file for file in files if len(file.begins)]
    if not files:
        return time[0], []
    lows = np.concatenate([file.lows for file in files])
    sizes = np.concatenate([file.ends - file.begins for file in files])
    last = max(int(file.highs.max()) for file in files)
    if count is None:
        count = max(1, math.ceil(int(sizes.sum()) / SPLIT_BYTES))
    scale = ticks(dataset)
    # Times of which a coarser column has the same value are in one split.
    bounds = sorted({bound // scale * scale for bound in (*_quantiles(lows, sizes, count), last + scale)})
    shares = []
    for begin, end in itertools.pairwise(bounds):
        runs = [run for file in files for run in _between(file, begin, end)]
        if runs:
            shares.append((runs, (begin, end)))
    return time[0], shares


def _quantiles(lows: Any, sizes: Any, count: int) -> list[int]:
    """The times at which splits of about the same size begin, of which the first is the lowest."""
    order = np.argsort(lows, kind="stable")
    before = np.cumsum(sizes[order]) - sizes[order]
    places = np.searchsorted(before, np.arange(count) * (int(sizes.sum()) / count))
    return sorted({int(lows[order[min(int(place), len(order) - 1)]]) for place in places} | {int(lows.min())})


def _between(file: _Blocks, begin: int, end: int) -> list[Run]:
    """The stretches of a file that may have times in a range."""
    runs: list[Run] = []
    for number in np.flatnonzero((file.highs >= begin) & (file.lows < end)).tolist():
        first, last = int(file.begins[number]), int(file.ends[number])
        if runs and (before := runs[-1][1]).end is not None and first - before.end <= HOLE:
            runs[-1] = file.source, before._replace(end=last)
        else:
            runs.append((file.source, Stretch(Position(first, int(file.frames[number])), last)))
    if runs and runs[-1][1].end == file.source.size:
        # Where a frame may be torn.
        runs[-1] = file.source, runs[-1][1]._replace(end=None)
    return runs


def _blocks_of(dataset: Dataset, shared: SplitSource, source: Source, field: str) -> _Blocks:
    target = source.target
    path, head = target.part.path, target.head
    file = target.ranges()
    index = dataset._index(target.number, head, file)
    if isinstance(index, UnusableIndex):
        why = f"{path} has no index, by which its rows are put in the order of times"
        if target.is_sequential or not file.can_seek:
            raise ValueError(f"{why}: it is encrypted or compressed as a whole, so that none is used")
        if index.path is None:
            raise ValueError(f"{why}: 'flatstream index {path}' makes one")
        raise ValueError(f"{why}: {index.reason} ({index.path}); 'flatstream index {path}' makes it anew")
    statistics = index.statistics.get(field)
    if statistics is None or index.begin != head.begin or source.is_whole or source.size is None:
        raise ValueError(f"{path} has no index of {field!r} that is used as the file is read")
    if index.gaps:
        raise ValueError(f"{path} is damaged, so that its rows cannot be put in the order of times")
    if int(statistics.nulls.sum()):
        raise ValueError(f"{path} has messages without a time")
    lows, highs = _as_int64(path, statistics.low), _as_int64(path, statistics.high)
    has_rows = index.rows > 0
    parts = [[array[has_rows] for array in (index.offsets, index.ends, index.first_frames, lows, highs)]]
    if index.covered < source.size:
        frames = int(index.first_frames[-1] + index.frames[-1]) if len(index) else 0
        begin = max(index.covered, head.begin)
        tail = _tail(shared, source, Position(begin, frames), field, ticks(dataset))
        if tail is not None:
            parts.append([np.array([value], np.int64) for value in (begin, source.size, frames, *tail)])
    wanted = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    # Those that the `where` of the plan leaves.
    chosen = np.zeros(len(wanted[0]), bool)
    for stretch in target.stretches or ():
        end = source.size if stretch.end is None else stretch.end
        chosen |= (wanted[0] < end) & (wanted[1] > stretch.begin.offset)
    return _Blocks(source, *(array[chosen] for array in wanted))


def _as_int64(path: str, values: Any) -> Any:
    if values.dtype == np.uint64 and len(values) and int(values.max()) >= 2**63:
        raise ValueError(f"{path} has times from {2**63} on")
    return values.astype(np.int64)


def _tail(shared: SplitSource, source: Source, begin: Position, field: str, scale: int) -> tuple[int, int] | None:
    """The first and last time of the rows behind the end of an index; None if there are none."""
    split = Split(shared, pack_runs([(source, Stretch(begin, None))]))
    low: int | None = None
    high = 0
    for batch in read_split(split, [field]):
        times = batch.column(0)
        if times.null_count:
            raise ValueError(f"{source.target.part.path} has messages without a time")
        found = pc.min_max(times.cast(pa.int64()))
        first, last = found["min"].as_py(), found["max"].as_py()
        low, high = (first, last) if low is None else (min(low, first), max(high, last))
    return None if low is None else (low * scale, high * scale + scale - 1)

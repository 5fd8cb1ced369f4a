"""Splits: parts of a dataset that other processes read, of about as many bytes each.

A split names ranges of bytes of files, each of whole frames. It is small, and what all splits of a plan have in common
(the schema and the options) is in one object, `SplitSource`, which a pickle of several splits has once and a process
keeps once.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import os
import pickle
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from flatstream._core.base.checks import int_argument
from flatstream.errors import UnexpectedEofError

if TYPE_CHECKING:
    import pyarrow as pa

    from flatstream.datasets._dataset import Dataset
    from flatstream.datasets._parts import Part
    from flatstream.datasets._pieces import Target
    from flatstream.datasets._planning import Run, Source
    from flatstream.datasets._reading import Query

__all__ = [
    "Split",
    "SplitRange",
    "SplitSource",
    "pack_runs",
    "plan_splits",
    "planned_size",
    "read_split",
    "split_by_time",
]

# The default size of a split, which Dask, Ray and Spark recommend as that of a partition within a factor of two.
SPLIT_BYTES = 64 << 20

# The most splits of a plan: what is more is a mistake, as bytes in the place of a number.
MOST_SPLITS = 1_000_000

# How many sources a process keeps.
KEPT_SOURCES = 16


class SplitRange(NamedTuple):
    """A range of whole frames of one file.

    Attributes
    ----------
    part : Part
        The file, as it was when the splits were planned.
    begin, end : int
        Offsets in the stream; `end` is None for the end of the file, where a frame may be torn.
    frame : int
        The number of the first frame, as far as that is known without reading what lies before; for messages.
    """

    part: Part
    begin: int
    end: int | None
    frame: int


class SplitSource:
    """What the splits of a plan have in common: how files are read, what their messages are, and which rows are wanted.

    Pickled with several splits it is there once. Two that were pickled from one are one object in another process.

    Attributes
    ----------
    key : bytes
        Equal for sources that say the same.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self.key = hashlib.blake2b(payload, digest_size=8).digest()
        self._lock = threading.Lock()
        self._content: tuple[Any, Any, Any] | None = None

    @classmethod
    def of(cls, dataset: Dataset, where: Any) -> SplitSource:
        """The source of the splits of a dataset."""
        content = (dataset._options, dataset._kinds(), where)
        # Binary schemas are mostly zeros.
        made = _kept(zlib.compress(pickle.dumps(content, pickle.HIGHEST_PROTOCOL)))
        made._content = content
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _kept, (self._payload,)

    def __eq__(self, other: object) -> bool:
        return self._payload == other._payload if isinstance(other, SplitSource) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<SplitSource {self.key.hex()}>"

    def __dask_tokenize__(self) -> object:
        return "flatstream.SplitSource", self._payload

    def _loaded(self) -> tuple[Any, Any, Any]:
        """The options, the tables of the files, and the predicate."""
        with self._lock:
            if self._content is None:
                # It was made by `of`, maybe in another process, and pickles are trusted as those around it are.
                self._content = pickle.loads(zlib.decompress(self._payload))
            return self._content

    @property
    def where(self) -> Any:
        """The predicate that the splits were planned for."""
        return self._loaded()[2]

    def _read(
        self, split: Split, columns: Iterable[str] | None, where: Any, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        from flatstream.datasets._pieces import Position, Stretch, Target

        # The ranges of a file follow one another.
        files = [(part, list(ranges)) for part, ranges in itertools.groupby(split.ranges, lambda one: one.part)]
        dataset = self._dataset(part for part, _ in files)
        query = dataset._query(columns, _all_of(self.where, where, self._within(split.times)), batch_rows, False, False)

        def targets() -> Iterator[Target]:
            for number, (part, ranges) in enumerate(files):
                try:
                    head = dataset._head(number)
                except FileNotFoundError:
                    if part.kind != "segment":
                        raise
                    # Retention has removed it since the splits were planned.
                    continue
                if head.table is None or not query.columns_of(head, part).has_rows:
                    # The file lacks a field that a condition is on.
                    continue
                stretches = [Stretch(Position(one.begin, one.frame), one.end) for one in ranges]
                yield Target(number, part, head, stretches)

        return _rows(query, targets())

    def _within(self, times: tuple[int, int] | None) -> Any:
        """The conditions of a time range."""
        if times is None:
            return None
        from flatstream.datasets._unify import time_of

        time = time_of(self._loaded()[1])
        assert time is not None
        return [(time[0], ">=", times[0]), (time[0], "<", times[1])]

    @functools.cached_property
    def arrow_schema(self) -> pa.Schema:
        """The columns of the dataset."""
        return self._dataset([]).arrow_schema

    def _schema(self, fields: tuple[str, ...] | None) -> pa.Schema:
        return self._dataset([])._schema(fields)

    def _dataset(self, parts: Iterable[Part]) -> Dataset:
        """A dataset of some of the files, with the columns of all of them."""
        from flatstream.datasets._dataset import Dataset

        options, kinds, _ = self._loaded()
        return Dataset([], options, list(parts), kinds=kinds)


_sources: dict[bytes, SplitSource] = {}
_sources_lock = threading.Lock()


def _kept(payload: bytes) -> SplitSource:
    """The source with this content, which is the one that this process has already, if it has."""
    made = SplitSource(payload)
    with _sources_lock:
        # The last one that was used is behind all others.
        found = _sources.pop(made.key, made)
        _sources[made.key] = found
        while len(_sources) > KEPT_SOURCES:
            del _sources[next(iter(_sources))]
        return found


class Split:
    """A part of a dataset, made by `Dataset.splits` and read by `flatstream.read_split`, in any process.

    It can be pickled: alone it has all that is needed to read it; of several splits in one pickle, that is there once.

    Parameters
    ----------
    source : SplitSource
        What it has in common with the others.
    packed : bytes
        The ranges, from `Split.packed` of another one.

    Attributes
    ----------
    source : SplitSource
        See above. To send it once, send it and the `packed` of each split, and make them anew as ``Split(source,
        packed)``.
    packed : bytes
        The ranges.
    """

    __slots__ = ("__weakref__", "_content", "packed", "source")

    def __init__(self, source: SplitSource, packed: bytes) -> None:
        if not isinstance(source, SplitSource):
            raise TypeError(f"source must be a SplitSource, got {source!r:.100}")
        if not isinstance(packed, bytes):
            raise TypeError(f"packed must be the bytes of another split, got {packed!r:.100}")
        self.source = source
        self.packed = packed
        self._content: _Content | None = None

    @property
    def ranges(self) -> tuple[SplitRange, ...]:
        """What is read, in this order."""
        return self._unpacked.ranges

    @property
    def size(self) -> int:
        """About how many bytes of streams are read."""
        return self._unpacked.size

    @property
    def paths(self) -> tuple[str, ...]:
        """The files: absolute paths, and URLs."""
        return tuple(dict.fromkeys(one.part.path for one in self.ranges))

    @property
    def times(self) -> tuple[int, int] | None:
        """The time range, in the unit of the time field: rows with first <= time < second. None for all."""
        return self._unpacked.times

    @property
    def _unpacked(self) -> _Content:
        if self._content is None:
            self._content = _unpack(self.packed)
        return self._content

    def __reduce__(self) -> tuple[Any, ...]:
        return Split, (self.source, self.packed)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Split):
            return NotImplemented
        return self.source == other.source and self.packed == other.packed

    def __hash__(self) -> int:
        return hash((self.source, self.packed))

    def __setattr__(self, name: str, value: object) -> None:
        if name != "_content" and hasattr(self, name):
            raise AttributeError(f"a split cannot be changed: {name}")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        paths = self.paths
        shown = ", ".join(map(os.path.basename, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        return f"<Split of {self.size:,} bytes in {shown or 'no file'}>"

    def __dask_tokenize__(self) -> object:
        return "flatstream.Split", self.source._payload, self.packed


# Packing. Numbers are little-endian in groups of 7 bits, the highest bit of each byte saying that more follow. A path
# is the number of characters that it shares with the one before it, and the rest. Offsets count from the range before.

KINDS = ("file", "segment", "remote")


class _Content(NamedTuple):
    ranges: tuple[SplitRange, ...]
    size: int
    times: tuple[int, int] | None


def _pack(content: _Content) -> bytes:
    out = bytearray()

    def number(value: int) -> None:
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)

    number(content.size)
    number(0 if content.times is None else 1)
    for bound in content.times or ():
        number(2 * bound if bound >= 0 else -2 * bound - 1)
    before = ""
    at = 0
    last: Any = None
    files: list[tuple[Any, list[SplitRange]]] = []
    for one in content.ranges:
        if one.part is not last:
            files.append((one.part, []))
            last = one.part
        files[-1][1].append(one)
    number(len(files))
    for part, ranges in files:
        # Processes of engines have working directories of their own.
        path = part.path if part.kind == "remote" else os.path.abspath(part.path)
        pairs = enumerate(zip(before, path, strict=False))
        shared = next((at for at, (one, other) in pairs if one != other), min(len(before), len(path)))
        rest = path[shared:].encode("utf-8", "surrogateescape")
        number(shared)
        number(len(rest))
        out.extend(rest)
        before = path
        number(
            KINDS.index(part.kind)
            | (4 if part.was_compressed else 0)
            | (8 if part.journal is not None else 0)
            | (16 if part.fingerprint is not None else 0)
            | (32 if part.tail is not None else 0)
            | (64 if part.version is not None or part.identity is not None else 0)
        )
        number(0 if part.size is None else part.size + 1)
        number(part.first)
        # A file at a URL has a version, and a segment the identity of its journal.
        for known in (part.fingerprint, part.tail, part.version or part.identity):
            out.extend(known or b"")
        if part.journal is not None and part.journal != os.path.dirname(part.path):
            raise ValueError(f"a segment outside of its journal: {part.path!r:.200}")
        number(len(ranges))
        at = frame = 0
        for one in ranges:
            number(one.begin - at)
            number(max(0, one.frame - frame))
            number(0 if one.end is None else one.end - one.begin + 1)
            at, frame = one.begin if one.end is None else one.end, max(frame, one.frame)
    return bytes(out)


def _unpack(packed: bytes) -> _Content:
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = packed[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def signed() -> int:
        value = number()
        return -(value + 1 >> 1) if value & 1 else value >> 1

    from flatstream.datasets._parts import Part

    try:
        size = number()
        times = (signed(), signed()) if number() else None
        ranges = []
        before = ""
        for _ in range(number()):
            shared, length = number(), number()
            path = before[:shared] + packed[at : at + length].decode("utf-8", "surrogateescape")
            at += length
            before = path
            flags, stored, first = number(), number(), number()
            journal = os.path.dirname(path) if flags & 8 else None
            known: list[bytes | None] = []
            for flag in (16, 32, 64):
                known.append(packed[at : at + 8] if flags & flag else None)
                at += len(known[-1] or b"")
            kind: Any = KINDS[flags & 3]
            size_then = stored - 1 if stored else None
            version, identity = (known[2], None) if kind == "remote" else (None, known[2])
            part = Part(path, kind, size_then, journal, first, bool(flags & 4), known[0], known[1], identity, version)
            begin = frame = 0
            for _ in range(number()):
                begin += number()
                frame += number()
                length = number()
                end = begin + length - 1 if length else None
                ranges.append(SplitRange(part, begin, end, frame))
                begin = begin if end is None else end
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"these bytes are not those of a split: {error}") from None
    return _Content(tuple(ranges), size, times)


# Reading


def read_split(
    split: Split, columns: Iterable[str] | None = None, where: Any = None, *, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Reads the rows of a split.

    The rows of all splits of a plan are those of the dataset (with the `where` of the plan, if it has one), each once.

    Parameters
    ----------
    split : Split
        From `Dataset.splits`, in this process or another one.
    columns : iterable of str, optional
        The columns to read, as for `Dataset.batches`; all by default.
    where : optional
        Conditions that rows must meet, besides those that the splits were planned with.
    batch_rows : int
        The most rows of a batch.

    Yields
    ------
    pyarrow.RecordBatch
        In the order of the dataset. Their schema is `Dataset.arrow_schema`, or these columns of it.

    Raises
    ------
    TypeError
        `split` is no Split.
    KeyError
        There is no such column.
    OSError
        A file cannot be read. FileNotFoundError: it was removed. (The segment of a journal that retention has removed
        is left out, as it is by the dataset.)
    FlatStreamError
        A file is damaged, and ``on_error="raise"``; or it is not the file any more that the splits were planned for. Or
        the folder of a journal is not there.
    """
    if not isinstance(split, Split):
        raise TypeError(f"expected a Split, got {split!r:.100}")
    return split.source._read(split, columns, where, batch_rows)


def _rows(query: Query, targets: Iterable[Target]) -> Iterator[pa.RecordBatch]:
    """The rows of the stretches of files."""
    from flatstream.datasets._scan import scan

    found = scan(_opened(targets), query, {}, lambda target: None)
    try:
        for _, batches, _ in found:
            yield from batches
    finally:
        found.close()


def _opened(targets: Iterable[Target]) -> Iterator[Target]:
    for target in targets:
        try:
            file = target.ranges()
        except FileNotFoundError:
            if target.part.kind != "segment":
                raise
            # Retention has removed it since the splits were planned.
            continue
        target.is_sequential = target.head.middle is None or not file.can_seek
        stretches = target.stretches or []
        needed = max((one.begin.offset if one.end is None else one.end for one in stretches), default=0)
        if file.compression is None and 0 <= file.size < needed:
            target.close()
            raise UnexpectedEofError(
                f"{target.part.path}: the file has become shorter since the splits were planned: there were frames up "
                f"to {needed}",
                offset=needed,
            )
        if len(stretches) > 1:
            file.announce([(one.begin.offset, file.size if one.end is None else one.end) for one in stretches])
        yield target


def _all_of(*conditions: Any) -> Any:
    """A `where` of which all parts must hold."""
    found: list[Any] = []
    for one in conditions:
        if isinstance(one, (list, tuple)) and not (one and isinstance(one[0], str)):
            found += one
        elif one is not None:
            found.append(one)
    return found or None


# Planning


def plan_splits(dataset: Dataset, n: int | None = None, where: Any = None) -> list[Split]:
    """The splits of a dataset; see `Dataset.splits`."""
    from flatstream.datasets._planning import find_sources, share_out

    if n is not None:
        n = int_argument("n", n, 1, MOST_SPLITS)
    sources = find_sources(dataset, where)
    count = math.ceil(_size_of(sources) / SPLIT_BYTES) if n is None else n
    source = SplitSource.of(dataset, where)
    return [_split(source, runs) for runs in share_out(dataset, sources, max(1, count))]


def planned_size(dataset: Dataset, where: Any = None) -> int:
    """How many bytes the splits of a dataset would have together, for those who choose their number."""
    from flatstream.datasets._planning import find_sources

    return _size_of(find_sources(dataset, where))


def _size_of(sources: Iterable[Source]) -> int:
    return sum(source.size_of(stretch) for source in sources for stretch in source.target.stretches or ())


def _split(source: SplitSource, runs: Iterable[Run], times: tuple[int, int] | None = None) -> Split:
    return Split(source, pack_runs(runs, times))


def pack_runs(runs: Iterable[Run], times: tuple[int, int] | None = None) -> bytes:
    """The packed content of a split of stretches of files."""
    ranges: list[SplitRange] = []
    size = 0
    for file, stretch in runs:
        size += file.size_of(stretch)
        last = ranges[-1] if ranges else None
        if last is not None and last.part is file.target.part and last.end == stretch.begin.offset:
            ranges[-1] = last._replace(end=stretch.end)
        else:
            ranges.append(SplitRange(file.target.part, stretch.begin.offset, stretch.end, stretch.begin.frame))
    return _pack(_Content(tuple(ranges), size, times))


def split_by_time(
    dataset: Dataset, field: str | None = None, n: int | None = None, where: Any = None
) -> tuple[str, list[Split]]:
    """Splits of which each has a range of times, in the order of times.

    Within a split, rows are in the order of the dataset. A block of a file that lies in two ranges is read by two
    splits, each of which gives its rows.

    Parameters
    ----------
    dataset : Dataset
        Each of its files must have an index of the time field. What lies behind the end of an index is read here.
    field : str, optional
        The time field, which is the default.
    n, where
        As for `Dataset.splits`.

    Returns
    -------
    str and list of Split
        The time field, and splits with `Split.times`.

    Raises
    ------
    ValueError
        The messages have no time field, or `field` is another one. A file has no index of it that fits, or damage, or
        messages without a time. The times of files have several units.
    """
    from flatstream.datasets._by_time import share_by_time

    if n is not None:
        n = int_argument("n", n, 1, MOST_SPLITS)
    source = SplitSource.of(dataset, where)
    name, shares = share_by_time(dataset, source, field, n, where)
    return name, [_split(source, runs, times) for runs, times in shares]


def ticks(dataset: Dataset) -> int:
    """How many units of the time field make one of the time column of the dataset, which may be coarser."""
    from flatstream.datasets._unify import time_of
    from flatstream.description._schemas import UNITS

    time = time_of(dataset._kinds())
    if time is None:
        return 1
    of = dataset._schema((time[0],)).field(0).type
    unit = getattr(of, "unit", None)
    return 1 if unit is None else max(1, UNITS[unit] // UNITS[time[1]])

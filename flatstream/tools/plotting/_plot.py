"""`plot`: reads fields of messages, and keeps as many points as a plot shows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from flatstream._endpoints import is_path
from flatstream.schema import Schema, Table
from flatstream.schema._reflection import SIZES, BaseType
from flatstream.tools.conversion._convert import make_options, make_tasks_of_sources, open_source
from flatstream.tools.conversion._fields import resolve
from flatstream.tools.conversion._frames import on_other
from flatstream.tools.conversion._options import ArgumentError, Known, Options, table_for_columns
from flatstream.tools.conversion._times import TimeField, time_field_of
from flatstream.tools.plotting._result import Bars, Line, Plot

if TYPE_CHECKING:
    from flatstream.checksums import Checksum, ChecksumType
    from flatstream.reader import StreamReader
    from flatstream.transforms.ciphers import Cipher

__all__ = ["plot"]

# So many values of the key have a line or a group of bars; the others are left out.
MAX_KEYS = 12
# A key with more values than this is none.
MOST_KEYS = 10_000
MAX_TIME = 2**63 - 1


def plot(
    source: Any,
    fields: str | Iterable[str],
    *,
    by: str | None = None,
    percentiles: Iterable[float] = (),
    schema: Schema | str | os.PathLike[str] | None = None,
    table: Table | str | None = None,
    checksum: Checksum | ChecksumType | str | None = None,
    where: Any = None,
    on_error: Literal["raise", "skip", "stop", "resync"] = "raise",
    time_field: str | None = None,
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    cipher: Cipher | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Plot:
    """Reads fields of messages for a plot: over time, for each value of a key, or as percentiles.

    Parameters
    ----------
    source : path, or iterable of paths
        Streams, journals, and files of any format that `convert` reads. Several are one after another.
    fields : str or iterable of str
        The paths of fields with numbers or bools.
    by : str, optional
        The path of a field with a key, as a host: a line for each of its values; or with `percentiles`, a group of
        bars. The 12 keys with most messages are shown.
    percentiles : iterable of float
        From 0 to 100. Without `by`, lines of the percentiles over time.
    schema, table, checksum, where, on_error, time_field, time_unit, cipher, progress
        See `convert`. Without a time field, the horizontal axis counts messages.

    Returns
    -------
    Plot
        With its methods `to_text` and `save`.

    Raises
    ------
    ValueError, TypeError, LookupError
        An argument is wrong, a field has no numbers, or the schema is not known.
    ImportError
        NumPy is not installed.
    FlatStreamError, OSError, EOFError
        See `convert`.

    Notes
    -----
    Memory is bounded: of many points, a line keeps the least and the greatest of each group of neighbours, so that no
    peak is lost, and percentiles are those of every n-th message (`Plot.step`).

    Examples
    --------
    >>> import io, os, tempfile
    >>> from flatstream import RecordWriter, Schema, StreamWriter
    >>> from flatstream.tools import plot
    >>> table = Schema.from_file("examples/telemetry.bfbs").root
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "events.fs")
    ...     with StreamWriter(path) as writer:
    ...         written = RecordWriter(writer, table).write_columns({"load_1": [0.5, 2.0, 1.0]})
    ...     found = plot(path, "load_1", table=table, checksum="none", time_field="sequence", time_unit="s")
    >>> found.lines[0].name, found.lines[0].y.tolist()
    ('load_1', [0.5, 2.0, 1.0])
    """
    try:
        import numpy  # noqa: F401 - for the error
    except ImportError as error:
        raise ImportError("plot needs numpy: pip install 'flatstream[plot]'") from error
    names = [fields] if isinstance(fields, str) else list(fields)
    ranks = tuple(float(rank) for rank in percentiles)
    if not names:
        raise ArgumentError("fields must have at least one path")
    if any(not 0 <= rank <= 100 for rank in ranks):
        raise ArgumentError(f"percentiles must be from 0 to 100, got {ranks}")
    options = make_options(
        schema,
        table,
        checksum=checksum,
        where=where,
        on_error=on_error,
        time_field=time_field,
        time_unit=time_unit,
        cipher=cipher,
        decrypt=True,
        progress=progress,
    )
    tasks = make_tasks_of_sources([source] if is_path(source) else source)
    collected = _Collected(names, by, ranks)
    sizes = [task.one.size for task in tasks]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    done = 0
    for task in tasks:
        with open_source(task, options) as opened:
            for reader in opened.readers():

                def tell(rows: int, offset: int, done: int = done) -> None:
                    if progress is not None:
                        progress(done + offset, total)

                collected.read(reader, opened.known, options, tell)
                options.losses.note(reader)
        done += task.one.size or 0
    lost = options.losses
    return replace(collected.plot(), skipped=lost.skipped, lost_bytes=lost.lost_bytes, stop_error=lost.stop_error)


# Greater numbers are left out, as NaN and infinity are.
LARGEST = 1e300


class _Collected:
    """The points that were read so far."""

    def __init__(self, names: list[str], by: str | None, ranks: tuple[float, ...]) -> None:
        self.names, self.by, self.ranks = names, by, ranks
        self.messages = 0
        self.time: TimeField | None = None
        # By key and field.
        self.points: dict[tuple[Any, str], Any] = {}
        self.counts: dict[Any, int] = {}

    def read(self, reader: StreamReader, known: Known, options: Options, tell: Any) -> None:
        """Adds the messages of a reader."""
        import numpy as np

        from flatstream.tools.plotting._points import Extremes, Sample

        table = table_for_columns(known, "a plot")
        for name in self.names:
            _check_numbers(table, name)
        # The bars of percentiles have no time.
        has_axis = self.by is None or not self.ranks
        if has_axis:
            self.time = time_field_of(table, known, options.time_field, options.time_unit)
        wanted = dict.fromkeys([*self.names, *([self.by] if self.by else []), *([self.time.path] if self.time else [])])
        make = Sample if self.ranks else Extremes
        where = options.conditions_for(table, known)
        batches = reader.column_batches(table, wanted, where, progress=tell, on_other=on_other(options, table))
        for batch in batches:
            count = batch.num_rows
            if self.time is None:
                x = np.arange(self.messages, self.messages + count, dtype=np.int64)
                missing = np.zeros(count, bool)
            else:
                x, missing = _nanoseconds(batch[self.time.path].to_numpy(), self.time)
            self.messages += count
            keys = [(None, slice(None))] if self.by is None else self.split(batch[self.by].to_pylist())
            for name in self.names:
                column: Any = np.ma.asarray(batch[name].to_numpy())
                y = column.astype(np.float64).filled(np.nan)
                # The distance of two numbers has to be one too.
                good = (np.abs(y) <= LARGEST) & ~missing
                for key, rows in keys:
                    chosen = good[rows]
                    found = self.points.setdefault((key, name), None)
                    if found is None:
                        found = self.points[key, name] = make()
                    found.add(x[rows][chosen], y[rows][chosen])

    def split(self, keys: list[Any]) -> list[tuple[Any, Any]]:
        """The rows of each key."""
        import numpy as np

        numbers: dict[Any, int] = {}
        codes = np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(keys))
        order = np.argsort(codes, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(keys) else []
        for key, rows in zip(numbers, parts, strict=True):
            self.counts[key] = self.counts.get(key, 0) + len(rows)
        if len(self.counts) > MOST_KEYS:
            raise ArgumentError(f"{self.by} has more than {MOST_KEYS} values, so that it is no key")
        return list(zip(numbers, parts, strict=True))

    def plot(self) -> Plot:
        """What was read, as a plot."""
        import numpy as np

        from flatstream.tools.plotting._points import percentiles_by_column

        keys = [None] if self.by is None else sorted(self.counts, key=lambda key: -self.counts[key])
        left_out = len(keys) - MAX_KEYS if len(keys) > MAX_KEYS else 0
        keys = keys[:MAX_KEYS]
        step = max((getattr(found, "step", 1) for found in self.points.values()), default=1)
        title = ", ".join(self.names) + (f" by {self.by}" if self.by else "")
        axis = self.time.path if self.time else "message"
        if self.by is not None and self.ranks:
            bars = []
            for name in self.names:
                values = [self.points[key, name].points()[1] for key in keys]
                heights = np.array(
                    [np.percentile(found, self.ranks) if len(found) else [0.0] * len(self.ranks) for found in values]
                )
                bars.append(Bars(name, tuple(map(_key_text, keys)), self.ranks, heights.reshape(len(keys), -1)))
            return Plot(title, self.by, False, (), tuple(bars), self.messages, left_out, step)
        lines = []
        for key in keys:
            for name in self.names:
                found = self.points.get((key, name))
                x, y = (np.empty(0, np.int64), np.empty(0)) if found is None else found.points()
                label = _label(key, name, self.names, self.by)
                if not self.ranks:
                    order = np.argsort(x, kind="stable")
                    lines.append(Line(label, x[order], y[order]))
                elif len(x):
                    middles, values = percentiles_by_column(x, y, self.ranks, 200)
                    lines += [
                        Line(f"{label} p{rank:g}", middles, values[:, number]) for number, rank in enumerate(self.ranks)
                    ]
        return Plot(title, axis, self.time is not None, tuple(lines), (), self.messages, left_out, step)


def _label(key: Any, name: str, names: list[str], by: str | None) -> str:
    if by is None:
        return name
    return _key_text(key) if len(names) == 1 else f"{_key_text(key)} {name}"


def _key_text(key: Any) -> str:
    text = "(none)" if key is None else str(key)
    # Keys come from files, and control characters could change what a terminal shows.
    return text if text.isprintable() else text.encode("unicode_escape", "surrogatepass").decode()


def _check_numbers(table: Table, path: str) -> None:
    try:
        field = resolve(table, path)
    except KeyError as error:
        raise ArgumentError(error.args[0]) from None
    if field.type.base not in SIZES or field.type.base is BaseType.UTYPE or (field.type.index >= 0):
        raise ArgumentError(f"the field {path!r} of {table.name} has no numbers, so that it cannot be plotted")


def _nanoseconds(column: Any, time: TimeField) -> tuple[Any, Any]:
    """Times in nanoseconds, and which of them are null."""
    import numpy as np

    missing = np.ma.getmaskarray(column)
    values = np.ma.getdata(column)
    if len(values) and (
        int(values.max()) * time.nanoseconds > MAX_TIME or int(values.min()) * time.nanoseconds < -MAX_TIME
    ):
        raise ValueError(f"{time.path} has a time that is too far away for a plot, in the unit {time.unit}")
    return values.astype(np.int64) * time.nanoseconds, missing

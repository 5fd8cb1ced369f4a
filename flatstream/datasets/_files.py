"""What is known of each file of a dataset, and the range of its times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flatstream.datasets._parts import shown
from flatstream.datasets._pieces import Position, Stretch, Target
from flatstream.datasets._reading import Query
from flatstream.datasets._scan import scan
from flatstream.datasets._unify import Kind, time_of, unify
from flatstream.description._schemas import UNITS
from flatstream.errors import FlatStreamError
from flatstream.index import FileIndex, UnusableIndex

if TYPE_CHECKING:
    from flatstream.datasets._dataset import Dataset

__all__ = ["files_table", "find_range"]

# Rows of the time alone take little memory.
ROWS = 65_536

_COLUMNS = [
    ("path", pa.string()),
    ("bytes", pa.int64()),
    ("journal", pa.string()),
    ("compression", pa.string()),
    ("checksum", pa.string()),
    ("table", pa.string()),
    ("index", pa.string()),
]


def files_table(dataset: Dataset) -> pa.Table:
    """See `Dataset.files`."""
    rows = [_row(dataset, number) for number in range(len(dataset._parts))]
    units = {row["unit"] for row in rows if row["unit"] is not None}
    unit = min(units, key=lambda each: UNITS[each], default="ns")
    time = pa.timestamp(unit, "UTC")
    for row in rows:
        for name in ("first_time", "last_time"):
            if row[name] is not None:
                row[name] = row[name] * (UNITS[row["unit"]] // UNITS[unit])
    schema = pa.schema([*_COLUMNS, ("first_time", time), ("last_time", time), ("status", pa.string())])
    return pa.Table.from_arrays(
        [
            pa.array([_fitting(row[name]) for row in rows], pa.int64()).cast(field.type)
            if field.type == time
            else pa.array([_shown(row[name]) for row in rows], field.type)
            for name, field in zip(schema.names, schema, strict=True)
        ],
        schema=schema,
    )


def _shown(value: Any) -> Any:
    return shown(value) if isinstance(value, str) else value


def _fitting(number: int | None) -> int | None:
    """A time that a timestamp has, or None."""
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _row(dataset: Dataset, number: int) -> dict[str, Any]:
    part = dataset._parts[number]
    row: dict[str, Any] = dict.fromkeys(
        ("compression", "checksum", "table", "first_time", "last_time", "unit", "index"), None
    )
    row |= {"path": part.path, "bytes": part.size, "journal": part.journal, "status": ""}
    try:
        head = dataset._existing_head(number)
        if head is not None:
            row |= {
                "compression": head.compression,
                "checksum": None if head.found_by == "empty file" else head.checksum_name,
                "table": None if head.table is None else head.table.name,
            }
            index = dataset._find_index(number)
            row["index"] = _index_text(index, dataset, number)
            found = None if head.time is None else _known_range(index, head.time, dataset, number)
            if found is not None and head.time is not None:
                row |= {"first_time": found[0], "last_time": found[1], "unit": head.time[1]}
    except FileNotFoundError as error:
        row["status"] = "removed" if part.kind == "segment" else f"cannot be read: {error}"
    except (FlatStreamError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        row["status"] = f"cannot be read: {error}"
    outcome = dataset._known.outcomes.get(number)
    if outcome is not None and not row["status"]:
        row["status"] = outcome.text
    return row


def _index_text(index: FileIndex | UnusableIndex | None, dataset: Dataset, number: int) -> str:
    outcome = dataset._known.outcomes.get(number)
    if outcome is not None and outcome.index_dropped is not None:
        return f"ignored: {outcome.index_dropped}"
    if index is None:
        return "none"
    if isinstance(index, UnusableIndex):
        return "none" if index.path is None else f"ignored: {index.reason}"
    names = ", ".join(field.path for field in index.fields) or "no field"
    return f"covers {index.covered:,} bytes: {names}"


def _known_range(
    index: FileIndex | UnusableIndex | None, time: tuple[str, str], dataset: Dataset, number: int
) -> tuple[int, int] | None:
    """The first and the last time in a file, if its index says it of all of it."""
    if not isinstance(index, FileIndex) or time[0] not in index.statistics or index.gaps:
        return None
    with dataset._parts[number].open_ranges() as file:
        if index.covered < file.size:
            return None
    return _range_of_blocks(index, time[0])


def _range_of_blocks(index: FileIndex, path: str) -> tuple[int, int] | None:
    statistics = index.statistics[path]
    # In a block without a value, nothing lies between the two.
    has_values = statistics.low <= statistics.high
    if not has_values.any():
        return None
    return int(statistics.low[has_values].min()), int(statistics.high[has_values].max())


def find_range(dataset: Dataset, threads: int) -> tuple[int, int] | None:
    """The first and the last time of a dataset, in the finest unit of its files; None if no message has one."""
    time = time_of(dataset._kinds())
    if time is None:
        return None
    found: list[int] = []
    for kind in dataset._kinds():
        if kind.time is not None:
            factor = UNITS[kind.time[1]] // UNITS[time[1]]
            found += [number * factor for number in _extremes(dataset, kind, kind.time[0], threads)]
    return (min(found), max(found)) if found else None


def _extremes(dataset: Dataset, kind: Kind, path: str, threads: int) -> list[int]:
    """Times in the files of one kind, the smallest and the largest one among them."""
    # Numbers, so that times which no timestamp has are read too.
    schema = unify([kind], (path,), "number")
    query = Query(schema, schema, None, ROWS, replace(dataset._options, times="number"))
    found: list[int] = []
    targets: list[Target] = []

    def prepare(target: Target) -> None:
        head = target.head
        dataset._prepare(query, target)
        if not target.stretches or target.is_sequential or not dataset._options.use_index:
            return
        if dataset._options.on_error == "stop":
            # Damage that came after the index decides where rows end.
            return
        index = dataset._index(target.number, head, target.ranges())
        if not isinstance(index, FileIndex) or path not in index.statistics or not len(index):
            return
        if index.begin != head.begin or index.gaps:
            return
        found.extend(_range_of_blocks(index, path) or ())
        behind = Position(index.covered, int(index.first_frames[-1] + index.frames[-1]))
        target.stretches = [Stretch(behind, None)]

    of_kind = (target for target in dataset._targets(targets) if (id(target.head.table), target.head.time) == kind.key)
    rows = scan(of_kind, query, dataset._known.outcomes, prepare, threads=threads)
    try:
        for _, batches, _ in rows:
            for batch in batches:
                extremes = pc.min_max(batch.column(0)).as_py()
                if extremes["min"] is not None:
                    found += extremes.values()
    finally:
        rows.close()
        dataset._note(targets)
    return found

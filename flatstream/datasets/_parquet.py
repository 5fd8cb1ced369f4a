"""`Dataset.to_parquet`: the rows of a dataset in Parquet files by folders, each row once, however often it is run."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from flatstream._core.base.checks import int_argument
from flatstream._remote import is_url
from flatstream.datasets._export_files import COMPRESSIONS
from flatstream.datasets._export_report import Lost, ParquetReport
from flatstream.datasets._export_run import Run
from flatstream.datasets._export_state import Export
from flatstream.datasets._hive import TIMES, Partitioning

if TYPE_CHECKING:
    from flatstream.datasets._dataset import Dataset

__all__ = ["Lost", "ParquetReport", "conditions_of", "descriptions_of", "write_parquet"]

DAY_AND_HOUR = "'hour', 'day'"


def write_parquet(
    dataset: Dataset,
    directory: str | os.PathLike[str],
    *,
    partition_by: str | Sequence[str] | None = "hour",
    fields: Iterable[str] | None = None,
    where: Any = None,
    until: Literal["now", "closed"] | datetime.datetime = "now",
    row_group_rows: int = 65_536,
    max_file_bytes: int = 512 << 20,
    compression: str = "zstd",
    resume: bool = True,
    name: str = "export",
    again: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> ParquetReport:
    """See `Dataset.to_parquet`."""
    if is_url(directory):
        raise ValueError(
            f"the folder of new files must be one of a file system, in which files get their names at once, got the "
            f"URL {os.fspath(directory)!r:.200}: mount it, or copy the files there afterwards"
        )
    if compression not in COMPRESSIONS:
        raise ValueError(f"compression must be one of {', '.join(COMPRESSIONS)}, got {compression!r:.100}")
    if not isinstance(resume, bool):
        raise TypeError(f"resume must be a bool, got {resume!r:.100}")
    if not isinstance(again, bool):
        raise TypeError(f"again must be a bool, got {again!r:.100}")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, got {type(progress).__name__}")
    row_group_rows = int_argument("row_group_rows", row_group_rows, 1, 1 << 30)
    max_file_bytes = int_argument("max_file_bytes", max_file_bytes, 1, 1 << 60)
    names = list(dataset.arrow_schema.names) if fields is None else _names_of(fields)
    layout = _layout(dataset, partition_by)
    written = [one for one in names if one not in layout.removed]
    for one in layout.names():
        if one in written and one not in layout.removed:
            raise ValueError(
                f"the folders make a column {one!r}, and there is a field of this name: choose fields without it"
            )
    if not written:
        raise ValueError("no field is left for the files, because all are in the names of folders")
    open_periods = _open_periods(until, layout)
    table = dataset._options.table
    options = {
        "table": table if table is None or isinstance(table, str) else table.name,
        "partition_by": layout.keys,
        "fields": None if fields is None else names,
        "where": _text_of(where),
        "times": dataset._options.times,
        "time_field": None if dataset._options.time is None else ":".join(filter(None, dataset._options.time)),
    }
    run = Run(dataset, layout, names, written, where, open_periods, row_group_rows, max_file_bytes, compression)
    with Export(os.fspath(directory), name, options, resume=resume) as export:
        run.progress = progress
        run.again = again
        return run.go(export)


def descriptions_of(dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """The path and the description, or None, of each file and segment."""
    for number, part in enumerate(dataset._parts):
        yield part.path, dataset._head(number).description


def conditions_of(dataset: Dataset, make: Callable[[Any, Any], Any]) -> Any:
    """The conditions that `make` returns for the table and the description of the first file that says its messages."""
    for number in range(len(dataset._parts)):
        head = dataset._head(number)
        if head.table is not None:
            return make(head.table, head.description)
    return None


def _names_of(fields: Iterable[str]) -> list[str]:
    if isinstance(fields, str):
        raise TypeError(f"fields must be a list of paths, got a str: {fields!r:.100}")
    return list(fields)


def _text_of(where: Any) -> str | None:
    """A text for conditions that is the same for equal ones."""
    if where is None:
        return None
    return repr(_plain(where)) if isinstance(where, (tuple, list)) else str(where)


def _plain(where: Any) -> Any:
    """Conditions whose text is the same in each process, and says all values: sets have no order, and the text of an
    array leaves out what is in its middle.
    """
    if isinstance(where, tuple):
        return tuple(map(_plain, where))
    if isinstance(where, list):
        return list(map(_plain, where))
    if isinstance(where, (set, frozenset)):
        return sorted(where, key=repr)
    for name in ("tolist", "to_list", "to_pylist"):
        method = getattr(where, name, None)
        if method is not None and not isinstance(where, type):
            return method()
    return where


def _layout(dataset: Dataset, partition_by: Any) -> Partitioning:
    """The folders that `partition_by` means."""
    if partition_by is None:
        return Partitioning([], None, None)
    keys = [partition_by] if isinstance(partition_by, str) else list(partition_by)
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"partition_by must be {DAY_AND_HOUR}, names of columns or None, got {key!r:.100}")
    if len(set(keys)) < len(keys) or sum(key in TIMES for key in keys) > 1:
        raise ValueError(f"partition_by has a column, or the time, more than once: {keys!r:.200}")
    others = [key for key in keys if key not in TIMES]
    for key in others:
        if key.startswith("_"):
            raise ValueError(
                f"the folders of {key!r} would have names with '_' at their beginning, which pyarrow, pandas and Dask "
                "pass over: choose other keys"
            )
    try:
        schema = dataset._schema(tuple(others))
    except KeyError as error:
        raise KeyError(f"{error.args[0]}; and 'hour' and 'day' for the time, and None for no folders") from None
    for key in others:
        kind = schema.field(key).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        types = pa.types
        if not (
            types.is_integer(plain) or types.is_boolean(plain) or types.is_string(plain) or types.is_large_string(plain)
        ):
            raise TypeError(
                f"folders are named by integers, bools, strings and enums; the field {key!r} is {kind}. "
                f"{DAY_AND_HOUR} make folders of the time"
            )
    if not any(key in TIMES for key in keys):
        return Partitioning(keys, None, None)
    path, unit = _time_of(dataset, next(key for key in keys if key in TIMES))
    return Partitioning(keys, path, unit)


def _time_of(dataset: Dataset, key: str) -> tuple[str, str]:
    """The field with the time of the messages of all files, and its unit."""
    found: dict[tuple[str, str], str] = {}
    for number, part in enumerate(dataset._parts):
        head = dataset._head(number)
        if head.table is None:
            continue
        one = head.time
        if one is None:
            raise ValueError(
                f"partition_by={key!r} needs to know the time of messages, and {part.path!r:.200} does not say which "
                "field it is: pass dataset(..., time_field='name:ns'), describe streams with it, or name columns"
            )
        found.setdefault(one, part.path)
    if len({path for path, _ in found}) > 1 or (len(found) > 1 and dataset._options.times == "number"):
        texts = ", ".join(f"{path} ({unit}) in {where}" for (path, unit), where in found.items())
        raise ValueError(f"partition_by={key!r} needs one field with the time, and there are {texts:.400}")
    if not found:
        # There are no messages, so that no row has a folder.
        return "", "ns"
    return next(iter(found))


def _open_periods(until: Any, layout: Partitioning) -> tuple[int, int] | None:
    """The first of the hours or days that are not over, and the one behind the last that is held back; None: all go."""
    if isinstance(until, str) and until == "now":
        return None
    if isinstance(until, datetime.datetime):
        if until.tzinfo is None:
            raise ValueError(f"until must have a time zone, got {until!r}")
        moment = until.timestamp()
    elif isinstance(until, str) and until == "closed":
        moment = time.time()
    else:
        raise ValueError(f"until must be 'now', 'closed' or a datetime, got {until!r:.100}")
    if not layout.period:
        raise ValueError(f"until={until!r} needs folders by time: partition_by with one of {DAY_AND_HOUR}")
    now = int(moment // layout.period)
    # The clock of a machine may be somewhat ahead. What is farther in the future must not hold back all that follows.
    return now, now + 2

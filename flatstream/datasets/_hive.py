"""Folders by the values of columns, in the layout of Hive: ``date=2026-11-29/hour=13``, ``host=alpha``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

__all__ = ["NULL", "TIMES", "Partitioning"]

# The value of a null, for Hive, Spark, DuckDB, polars and pyarrow.
NULL = "__HIVE_DEFAULT_PARTITION__"

# What a time is divided by, in seconds, and the keys of its folders.
TIMES = {"day": (86_400, ("date",)), "hour": (3_600, ("date", "hour"))}

# How many bytes the name of a folder can have, on all file systems that are in use for such data.
LONGEST_NAME = 255

# How many units of a timestamp a second has.
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

EPOCH = datetime.date(1970, 1, 1)
# What `datetime.date` holds, in days from 1970 on.
DAYS = (datetime.date.min.toordinal() - EPOCH.toordinal(), datetime.date.max.toordinal() - EPOCH.toordinal())


class Partitioning:
    """Divides batches of columns by the folders of their rows.

    Parameters
    ----------
    keys : sequence of str
        Columns; and "hour" or "day" for the time.
    time : str or None
        The column of the time.
    unit : {"s", "ms", "us", "ns"} or None
        Its unit, if it is a column of numbers.

    Attributes
    ----------
    columns : list of str
        The columns that must be read.
    removed : list of str
        Those that stand in the names of folders, and not in files.
    """

    def __init__(self, keys: Sequence[str], time: str | None, unit: str | None) -> None:
        self.keys = list(keys)
        self.time = time
        self.unit = unit
        self.removed = [key for key in self.keys if key not in TIMES]
        self.columns = list(self.removed)
        self.period = 0
        for key in self.keys:
            if key in TIMES:
                assert time is not None
                self.period = TIMES[key][0]
                self.columns.append(time)

    def names(self) -> list[str]:
        """The names of the columns that readers make of the folders."""
        return [name for key in self.keys for name in TIMES.get(key, (0, (key,)))[1]]

    def split(self, batch: Any) -> Iterator[tuple[str, Any]]:
        """The rows of a record batch by their folders: the path of each, and its rows in their order.

        A folder whose rows come in several runs of equal keys is given once.
        """
        if not self.keys:
            yield "", batch
            return
        import numpy as np

        codes: Any = None
        labels: list[list[str]] = []
        for key in self.keys:
            indices, texts = self._times_of(batch, key) if key in TIMES else _values_of(batch.column(key), key)
            labels.append(texts)
            codes = indices if codes is None else codes * len(texts) + indices
            if len(labels) > 1:
                # So that the numbers stay small.
                known, codes = np.unique(codes, return_inverse=True)
                before = labels.pop(-2)
                labels[-1] = [f"{before[code // len(texts)]}/{texts[code % len(texts)]}" for code in known.tolist()]
        folders = labels[0]
        edges = np.flatnonzero(np.diff(codes)) + 1
        if not len(edges):
            if batch.num_rows:
                yield folders[int(codes[0])], batch
            return
        begins = [0, *edges.tolist()]
        runs = codes[begins].tolist()
        if len(set(runs)) == len(runs):
            for begin, end, code in zip(begins, [*begins[1:], batch.num_rows], runs, strict=True):
                yield folders[code], batch.slice(begin, end - begin)
            return
        import pyarrow

        order = np.argsort(codes, kind="stable")
        ordered = batch.take(pyarrow.array(order))
        ends = np.flatnonzero(np.diff(codes[order])) + 1
        begins = [0, *ends.tolist()]
        for begin, end in zip(begins, [*begins[1:], batch.num_rows], strict=True):
            yield folders[int(codes[order[begin]])], ordered.slice(begin, end - begin)

    def periods_of(self, batch: Any) -> tuple[Any, Any]:
        """The number of the period of each row, counted from 1970 on, and which rows have none (None: all have)."""
        import numpy as np

        return _periods(batch.column(self.time), self.unit, self.period, np)

    def _times_of(self, batch: Any, key: str) -> tuple[Any, list[str]]:
        """For each row the number of its text, and the texts."""
        import numpy as np

        seconds, _ = TIMES[key]
        periods, absent = _periods(batch.column(self.time), self.unit, seconds, np)
        known, indices = np.unique(periods, return_inverse=True)
        texts = [text_of_period(period, key) for period in known.tolist()]
        if absent is not None:
            indices = np.where(absent, len(texts), indices)
            texts.append("/".join(f"{name}={NULL}" for name in TIMES[key][1]))
        return indices, texts


def text_of_period(period: int, key: str) -> str:
    """The folders of a period. A time that no date can say counts as none."""
    seconds, names = TIMES[key]
    day, rest = divmod(period * seconds, 86_400)
    if not DAYS[0] <= day <= DAYS[1]:
        return "/".join(f"{name}={NULL}" for name in names)
    text = f"date={(EPOCH + datetime.timedelta(days=day)).isoformat()}"
    # Without a zero in front: with it, DuckDB takes the hour for text.
    return f"{text}/hour={rest // 3600}" if key == "hour" else text


def _periods(column: Any, unit: str | None, seconds: int, np: Any) -> tuple[Any, Any]:
    import pyarrow

    kind = column.type
    if pyarrow.types.is_timestamp(kind):
        unit = kind.unit
        numbers = column.view(pyarrow.int64())
    else:
        assert unit is not None
        numbers = column
    absent = None
    if numbers.null_count:
        absent = numbers.is_null().to_numpy(zero_copy_only=False)
        numbers = numbers.fill_null(0)
    return numbers.to_numpy(zero_copy_only=False) // (seconds * UNITS[unit]), absent


def _values_of(column: Any, key: str) -> tuple[Any, list[str]]:
    """For each row the number of its text, and the texts."""
    import numpy as np
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    texts = [_name_of(key, value) for value in column.dictionary.to_pylist()]
    indices = column.indices
    if indices.null_count:
        indices = indices.cast(pyarrow.int64()).fill_null(len(texts))
        texts.append(f"{key}={NULL}")
    return indices.to_numpy(zero_copy_only=False).astype(np.int64), texts


def _name_of(key: str, value: Any) -> str:
    """The name of the folder of a value.

    Raises
    ------
    ValueError
        No folder can have it. It is found here, because a file of a step that counts must be able to get its name.
    """
    name = f"{key}={_text(value)}"
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"the value {value!r:.60} of {key!r} makes the name of a folder of {len(name)} bytes, and it can have "
            f"{LONGEST_NAME}: export into another folder by other keys, or with conditions that leave such values out"
        )
    return name


def _text(value: Any) -> str:
    """A value in the name of a folder. What could not stand there is encoded as in URLs, which all readers decode.

    So are characters that are not ASCII, though Spark, which writes them as they are, decodes each byte as a character.
    In a locale without UTF-8, as that of a service, a Java VM sees no file with such a name, and says nothing of it.
    """
    if value is None or value == "":
        # An empty value would be no folder that Spark reads.
        return NULL
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(str(value), safe="")

"""Messages with every kind of number, and what an index must say of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import flatstream
from flatstream._ranges import open_ranges
from flatstream.index import FileIndex, load_index
from support.flatc import compile_schema

NUMBERS = compile_schema(
    """
    namespace index.test;
    enum Level : ubyte { low, middle = 5, high = 200 }
    struct Point { x: double; y: short; }
    table Inner { time_ns: long; depth: ushort = 7; }
    table Message {
      time_ns: ulong;
      b: byte; ub: ubyte; s: short; us: ushort; i: int; ui: uint; l: long; ul: ulong; f: float; d: double;
      truth: bool = true;
      level: Level = middle;
      maybe: int = null;
      point: Point;
      inner: Inner;
      text: string;
      list: [int];
    }
    root_type Message;
    """
)
MESSAGE: Any = NUMBERS.root
SCALARS = ["time_ns", "b", "ub", "s", "us", "i", "ui", "l", "ul", "f", "d", "truth", "level", "maybe", "point.x"]
SCALARS += ["point.y", "inner.time_ns", "inner.depth"]


def record(n: int) -> dict[str, Any]:
    """Message `n`, in which fields are absent in turn."""
    made: dict[str, Any] = {
        "time_ns": 10**18 + n,
        "b": n % 250 - 125,
        "ub": n * 7 % 256,
        "s": n * 31 % 60000 - 30000,
        "us": n * 17 % 65536,
        "i": (n * 7919) % 2**32 - 2**31,
        "ui": (n * 104729) % 2**32,
        "l": (-1) ** n * (2**63 - 1 - n),
        "ul": 2**64 - 1 - n,
        "f": math.nan if n % 11 == 0 else n * 0.5 - 100,
        "d": math.inf if n % 1013 == 5 else -n * 1.25,
        "truth": n % 3 == 0,
        "level": (0, 5, 200)[n % 3],
        "text": "x" * (n % 90),
    }
    if n % 5:
        made["maybe"] = n - 1000
    if n % 7:
        made["point"] = {"x": n / 3, "y": n % 100 - 50}
    if n % 6:
        made["inner"] = {"time_ns": n} if n % 4 else {"time_ns": -n, "depth": n % 1000}
    return made


def loaded(path: Path, table: Any = MESSAGE) -> FileIndex:
    with open_ranges(path) as stream:
        found = load_index(path, stream, table=table)
    assert isinstance(found, FileIndex), found
    return found


def assert_right(path: Path, index: FileIndex, table: Any = MESSAGE, **options: Any) -> None:
    """The index says what the messages of each block say, frame by frame."""
    with flatstream.open(path, **options) as reader:
        places, ends, numbers, rows = [], [], [], []
        for payload in reader:
            places.append(reader.message_offset)
            ends.append(reader.offset)
            numbers.append(reader.message_number)
            rows.append(table.view(payload))
    for k in range(len(index)):
        first, last = places.index(index.offsets[k]), ends.index(index.ends[k])
        assert numbers[first] == index.first_frames[k]
        assert last - first + 1 == index.frames[k] == index.rows[k]
        for each in index.fields:
            found = [value_at(row, each.path) for row in rows[first : last + 1]]
            values = [value for value in found if value is not None and value == value]
            statistics = index.statistics[each.path]
            assert statistics.nulls[k] == len(found) - len(values)
            if values:
                assert (statistics.low[k], statistics.high[k]) == (min(values), max(values)), each
            else:
                assert statistics.low[k] > statistics.high[k]


def value_at(row: Any, path: str) -> Any:
    for name in path.split("."):
        row = None if row is None else row[name]
    return row if row is None or isinstance(row, float) else int(row)

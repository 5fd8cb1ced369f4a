"""Building indexes of files, and what the blocks say, against the messages themselves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

import flatstream
from flatstream import RecordWriter
from flatstream._ranges import open_ranges
from flatstream.index import FileIndex, UnusableIndex, build_index, load_index
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


def write(path: Path, count: int, checksum: str = "xxhash64", mode: str = "w", **options: Any) -> None:
    with flatstream.open(path, mode, checksum=checksum, describe=MESSAGE, **options) as writer:  # type: ignore[call-overload]
        RecordWriter(writer, MESSAGE).write_records(map(record, range(count)))


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


def test_every_kind_of_number_has_the_range_of_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, 3000)
    report = build_index(path, SCALARS)
    assert (report.action, report.rows, report.gaps, report.covered) == ("created", 3000, [], path.stat().st_size)
    index = loaded(path)
    assert len(index) == report.blocks > 5
    assert [each.path for each in index.fields] == SCALARS
    assert (np.diff(np.concatenate(([index.begin], index.ends)))[:-1] >= 65536).all()
    assert_right(path, index)


def test_default_field_is_the_time_of_the_description(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, 10)
    build_index(path)
    (field,) = loaded(path).fields
    assert (field.path, field.unit, field.kind, field.default) == ("time_ns", "ns", "ulong", "0")


def test_building_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, 1000)
    build_index(path)
    before = Path(f"{path}.idx").read_bytes()
    assert build_index(path).action == "unchanged"
    assert Path(f"{path}.idx").read_bytes() == before


def test_file_that_grew_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, 2500)
    first = build_index(path)
    before = Path(f"{path}.idx").read_bytes()
    write(path, 2500, mode="a")
    second = build_index(path)
    assert (second.action, second.rows, first.rows) == ("continued", 5000, 2500)
    assert Path(f"{path}.idx").read_bytes().startswith(before)
    assert_right(path, loaded(path))


def test_file_without_an_index_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, 10)
    with open_ranges(path) as stream:
        assert load_index(path, stream) == UnusableIndex("there is none")

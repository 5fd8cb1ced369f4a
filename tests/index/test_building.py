"""Building indexes of files, and what the blocks say, against the messages themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import flatstream
from flatstream import RecordWriter
from flatstream._ranges import open_ranges
from flatstream.index import UnusableIndex, build_index, load_index
from support.index_messages import MESSAGE, SCALARS, assert_right, loaded, record


def write(path: Path, count: int, checksum: str = "xxhash64", mode: str = "w", **options: Any) -> None:
    with flatstream.open(path, mode, checksum=checksum, describe=MESSAGE, **options) as writer:  # type: ignore[call-overload]
        RecordWriter(writer, MESSAGE).write_records(map(record, range(count)))


def test_every_kind_of_number_has_the_range_of_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, 3000)
    report = build_index(path, SCALARS)
    assert (report.action, report.rows, report.gaps, report.covered) == ("created", 3000, (), path.stat().st_size)
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

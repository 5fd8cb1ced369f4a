"""Structs, tables, fixed arrays and unions that files of an older schema lack: all writers take the nulls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import Schema
from support.dataset_files import write_records

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

# Structs in structs, fixed arrays, tables, lists and unions of them, with children that an older schema of the table
# "In" lacks too.
OLD = """
table In { a: int; }
table T { time_ns: long; inner: In; inners: [In]; }
root_type T;
"""
NEW = """
enum E: byte { e, f }
struct P { q: float; e: E; }
struct Q { p: P; n: [int:3]; ps: [P:2]; }
table In { a: int; p: P; q: Q; }
table V { x: int; p: P; }
union U { V, In }
table T { time_ns: long; inner: In; inners: [In]; q: Q; qs: [Q]; table: In; tables: [In]; u: U; e: E; ns: [int]; }
root_type T;
"""
P = {"q": 0.5, "e": "f"}
Q = {"p": P, "n": [1, 2, 3], "ps": [P, P]}
IN = {"a": 2, "p": P, "q": Q}
ROWS = 3


def mixed(folder: Path) -> Any:
    """A dataset of an old file, a new one and an old one."""
    old, new = Schema.from_fbs(text=OLD), Schema.from_fbs(text=NEW)
    hour = 3600 * 10**9
    olds = [{"time_ns": n * hour, "inner": {"a": 1}, "inners": [{"a": 1}, {"a": 2}]} for n in range(ROWS - 1)]
    full = {"inner": IN, "inners": [IN, IN], "q": Q, "qs": [Q, Q], "table": IN, "tables": [IN], "e": "f", "ns": [1]}
    news = [{"time_ns": 0} | full, {"time_ns": hour}, {"time_ns": hour, "table": {}, "inners": [{}]}]
    paths = [
        write_records(folder / f"{name}.fs", schema, records)
        for name, schema, records in (("a", old, [*olds, {"time_ns": 0}]), ("b", new, news), ("c", old, olds))
    ]
    return flatstream.dataset(paths)


def null_below_not_null(field: Any, array: Any, path: str = "") -> list[str]:
    """The paths of what has nulls and is not nullable."""
    path = f"{path}.{field.name}"
    found = [path] if array.null_count and not field.nullable else []
    if pa.types.is_struct(field.type):
        for place, child in enumerate(field.type):
            found += null_below_not_null(child, array.field(place), path)
    elif pa.types.is_large_list(field.type) or pa.types.is_fixed_size_list(field.type):
        found += null_below_not_null(field.type.value_field, array.values, path)
    return found


def test_no_field_that_is_not_nullable_has_a_null_at_any_depth(tmp_path: Path) -> None:
    found = mixed(tmp_path)
    paths = ["inner.q.p", "q.p.e", "q.n", "table.q", "inner.q.ps"]
    for fields in (None, paths, ["table", *paths], ["q"], ["tables"]):
        for batch in found.batches(fields):
            assert batch.schema == (found.arrow_schema if fields is None else found.columns(fields).schema)
            for field, array in zip(batch.schema, batch.columns, strict=True):
                assert null_below_not_null(field, array) == []
            batch.validate(full=True)


def test_every_writer_takes_the_nulls(tmp_path: Path) -> None:
    import pyarrow.dataset

    found = mixed(tmp_path)
    expected = found.columns().to_pylist()
    assert expected[0]["q"] is expected[0]["table"] is expected[0]["inner"]["q"] is None
    assert expected[3]["q"] == Q
    assert expected[3]["inners"][0] == expected[3]["inner"] == IN
    kept = [name for name in found.arrow_schema.names if "q" not in name]
    pq.write_table(found.columns(), tmp_path / "all.parquet")
    pq.write_table(found.columns(kept), tmp_path / "kept.parquet")
    pq.write_table(pa.Table.from_batches(found.to_arrow_dataset().to_batches()), tmp_path / "arrow.parquet")

    assert pq.read_table(tmp_path / "kept.parquet").to_pylist() == [{key: row[key] for key in kept} for row in expected]
    pyarrow.dataset.write_dataset(found.to_arrow_dataset().scanner(), tmp_path / "many", format="parquet")
    splits = [batch for split in found.splits(3) for batch in flatstream.read_split(split)]
    pq.write_table(pa.Table.from_batches(splits), tmp_path / "splits.parquet")
    report = found.to_parquet(tmp_path / "lake")
    assert report.rows == len(expected)
    rows = [
        row
        for path in sorted((tmp_path / "lake").rglob("*.parquet"))
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    assert sorted(map(str, rows)) == sorted(map(str, expected))


def test_files_of_a_lake_have_one_schema_whatever_their_sources_lack(tmp_path: Path) -> None:
    import pyarrow.dataset

    old, new = (
        Schema.from_fbs(text=f"{text} root_type T;")
        for text in (
            "table T { time_ns: long; }",
            (
                "struct P { q: float; n: [int:2]; } table In { p: P; ps: [P]; } "
                "table T { time_ns: long; p: P; i: In; x: int; }"
            ),
        )
    )
    full = {"time_ns": 0, "p": {"q": 0.5, "n": [1, 2]}, "i": {"p": None, "ps": [{"q": 1.0, "n": [3, 4]}]}, "x": 1}
    first = write_records(tmp_path / "a.fs", new, [full])
    others = [write_records(tmp_path / "b.fs", old, [{"time_ns": 0}]), write_records(tmp_path / "c.fs", new, [full])]
    for sources in ([first], others):
        flatstream.dataset(sources).to_parquet(tmp_path / "lake")
    files = sorted((tmp_path / "lake").rglob("*.parquet"))
    assert len(files) == 2
    for path in files:
        # The schema of any file is that of all.
        schema = pq.read_schema(path)
        rows = pyarrow.dataset.dataset(files, schema=schema).to_table().to_pylist()
        assert sorted(row["x"] is None for row in rows) == [False, False, True]
        assert [row["i"] for row in rows if row["i"]] == [full["i"]] * 2

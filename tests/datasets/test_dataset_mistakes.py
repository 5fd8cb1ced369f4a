"""What a dataset says of arguments that somebody mistook, and what other libraries make of the dataset itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream.datasets import _parts
from support.dataset_files import EVENTS, write_events, write_records

pyarrow = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")
polars = pytest.importorskip("polars")


def test_no_paths_at_all_are_refused() -> None:
    nothing: list[Any] = [[], (), iter([])]
    for none in nothing:
        with pytest.raises(ValueError, match="got none"):
            flatstream.dataset(none)


def test_an_index_given_as_data_names_what_to_give(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.fs", 0, 5, index=True)
    given: list[list[str]] = [[f"{path}.idx"], [str(path), f"{path}.idx"]]
    for paths in given:
        with pytest.raises(ValueError, match=r"a\.fs\.idx: the file is an index.*the path of the stream"):
            flatstream.dataset(paths).count()
    assert flatstream.dataset(f"{path}.idx", "flatstream.index.Entry").count() > 0


def test_a_table_given_as_schema_names_the_argument() -> None:
    with pytest.raises(TypeError, match="pass it as table="):
        flatstream.dataset("a.fs", schema=EVENTS.root)


def test_a_datetime_without_a_time_zone_in_an_expression_has_a_note(tmp_path: Path) -> None:
    found = flatstream.dataset(write_events(tmp_path / "a.fs", 0, 5))
    naive = datetime(2023, 1, 1)
    asks: list[Callable[[], Any]] = [
        lambda: found.count(polars.col("time_ns") >= naive),
        lambda: found.count(pc.field("time_ns") >= naive),
        lambda: found.scan().filter(polars.col("time_ns") >= naive).collect(),
    ]
    for ask in asks:
        with pytest.raises(Exception, match=r"(?i)time") as caught:
            ask()
        assert "tzinfo=UTC" in "".join(caught.value.__notes__)


def test_libraries_take_the_dataset_itself(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    other = flatstream.Schema.from_fbs(
        text="namespace app; enum Level : ubyte { debug, info, error, fatal } "
        "table Event { time_ns: long; level: Level; more: int; } root_type Event;"
    )
    write_events(tmp_path / "a.fs", 0, 50, index=True)
    write_records(tmp_path / "b.fs", other, [{"time_ns": n, "level": "fatal", "more": n} for n in range(40)])
    found = flatstream.dataset(tmp_path, times="us")
    expected = found.columns()
    assert pyarrow.table(found).to_pylist() == expected.to_pylist()
    assert polars.DataFrame(found).equals(polars.DataFrame(expected))
    for _ in range(2):
        question = "SELECT level::VARCHAR AS name, count(*), sum(more) FROM found GROUP BY name ORDER BY name"
        assert duckdb.sql(question).fetchall() == [
            ("debug", 17, None),
            ("error", 16, None),
            ("fatal", 40, 780),
            ("info", 17, None),
        ]
    path = tmp_path / "a.fs"
    path.write_bytes(path.read_bytes()[:-300] + bytes(10) + path.read_bytes()[-290:])
    damaged = flatstream.dataset(path)
    # Errors go through C, and become those of the library.
    for take in (pyarrow.table, polars.DataFrame):
        with pytest.raises(Exception, match=r"a\.fs: checksum mismatch"):
            take(damaged)
    with pytest.raises(duckdb.Error, match=r"a\.fs: checksum mismatch"):
        duckdb.sql("SELECT count(value) FROM damaged").fetchall()


def test_a_folder_at_a_url_without_its_slash_is_told() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(FileNotFoundError, match="ends with a slash: memory://nothing/there/") as caught:
        flatstream.dataset("memory://nothing/there").count()
    assert caught.value.filename == "memory://nothing/there"
    with pytest.raises(FileNotFoundError) as caught:
        flatstream.dataset("memory://nothing/there.fs").count()
    assert "slash" not in str(caught.value)
    plain = FileNotFoundError(2, "not found", "https://host/*.fs")
    assert "cannot be listed" in str(_parts._with_hint(plain, "https://host/*.fs"))


def test_head_takes_fields_and_conditions(tmp_path: Path) -> None:
    write_events(tmp_path / "a.fs", 0, 50)
    found = flatstream.dataset(tmp_path)
    assert found.head(2, ["value"], ("value", ">", 20)).to_pydict() == {"value": [20.5, 21.0]}
    assert found.head(3, (name for name in ["value"])).column_names == ["value"]
    assert found.head(0, ["level"]).schema.equals(found.columns(["level"]).schema)
    with pytest.raises(KeyError, match="nothing"):
        found.head(1, ["nothing"])

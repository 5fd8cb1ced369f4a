"""What engines are given needs no engine: types, batches, and what is said where an engine is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import flatstream
from support.events import EVENT, write_events

pa = pytest.importorskip("pyarrow")


def module() -> Any:
    from flatstream.engines import _tables

    return _tables


NESTED = pa.schema(
    [
        pa.field("kind", pa.dictionary(pa.int32(), pa.string()), False),
        pa.field(
            "inner",
            pa.struct(
                [
                    pa.field("u", pa.uint64(), False),
                    pa.field("kinds", pa.large_list(pa.dictionary(pa.int8(), pa.string()))),
                ]
            ),
        ),
        pa.field("sizes", pa.list_(pa.uint8(), 2)),
        pa.field("time", pa.timestamp("ns", "UTC"), False),
        pa.field("text", pa.large_string()),
    ]
)


def test_enums_become_strings_at_every_depth() -> None:
    found = module().changed_schema(NESTED, module().plain_type)
    assert found.field("kind").type == pa.string()
    assert not found.field("kind").nullable
    assert found.field("inner").type.field("kinds").type == pa.list_(pa.string())
    assert found.field("inner").type.field("u").type == pa.uint64()
    assert found.field("sizes").type == pa.list_(pa.uint8())
    assert found.field("text").type == pa.string()
    assert all(field.nullable for field in module().changed_schema(NESTED, module().plain_type, nullable=True))


def test_unsigned_integers_become_wider_at_every_depth() -> None:
    found = module().changed_schema(NESTED, module().without_unsigned)
    assert found.field("inner").type.field("u").type == pa.decimal128(20, 0)
    assert found.field("sizes").type == pa.list_(pa.int16())
    assert module().without_unsigned(pa.uint16()) == pa.int32()
    assert module().without_unsigned(pa.uint32()) == pa.int64()
    assert module().without_unsigned(pa.int32()) == pa.int32()


def test_values_are_kept_by_a_cast() -> None:
    rows: list[dict[str, Any]] = [
        {"kind": "a", "inner": {"u": 2**64 - 1, "kinds": ["x", None]}, "sizes": [1, 255], "time": 1_999, "text": "t"},
        {"kind": "b", "inner": None, "sizes": None, "time": -1, "text": None},
        {"kind": "a", "inner": {"u": 0, "kinds": None}, "sizes": [0, 0], "time": 0, "text": ""},
    ]
    batch = pa.RecordBatch.from_pylist(rows, NESTED)
    of = module().changed_schema(NESTED, module().without_unsigned, nullable=True)
    at = of.get_field_index("time")
    of = of.set(at, pa.field("time", pa.timestamp("us", "UTC")))
    for piece, expected in ((batch, rows), (batch.slice(1, 2), rows[1:])):
        found = module().cast_batch(piece, of)
        assert found.schema.equals(of)
        assert found.validate(full=True) is None
        # Rounded down, also before 1970.
        times = found.column("time").cast(pa.int64()).to_pylist()
        assert times == [row["time"] // 1000 for row in expected]
        wanted = [{name: row[name] for name in row if name != "time"} for row in expected]
        assert found.drop_columns(["time"]).to_pylist() == wanted


def test_a_value_that_does_not_fit_is_an_error_with_the_column() -> None:
    batch = pa.RecordBatch.from_pydict({"small": [1, 2], "large": pa.array([5, 2**63], pa.uint64())})
    with pytest.raises(pa.ArrowInvalid, match=f"the column 'large' as int64: .*{2**63}"):
        module().cast_batch(batch, pa.schema([("small", pa.int64()), ("large", pa.int64())]))


def test_a_batch_of_no_columns_keeps_its_rows() -> None:
    batch = pa.RecordBatch.from_pylist([{}, {}, {"kind": "a"}], pa.schema([("kind", pa.string())])).select([])
    assert module().cast_batch(batch, pa.schema([])).num_rows == 3


@pytest.mark.parametrize(("name", "package"), [("dask", "dask"), ("ray", "ray"), ("spark", "pyspark")])
def test_without_its_package_an_engine_says_which_extra_it_needs(tmp_path: Path, name: str, package: str) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with flatstream.open(tmp_path / "a.fs", "w", describe=EVENT) as writer:
        write_events(writer, range(3))
    engine = importlib.import_module(f"flatstream.engines.{name}")
    with pytest.raises(ImportError, match=rf"pip install 'flatstream\[{name}\]'"):
        engine.register() if name == "spark" else engine.read(tmp_path)

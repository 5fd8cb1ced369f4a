"""Datasets in Spark: two executors, each of which is a Java process with Python processes of its own."""

from __future__ import annotations

import datetime
import decimal
import operator
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from asv_benchmarks.scale_data import BEGIN
from asv_benchmarks.scale_data import table as data_table
from support.engines import FILES, ROWS, kill_once, write_files

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]

HOUR = 3600 * 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spark") / "data"


@pytest.fixture(scope="module")
def table(folder: Path) -> Any:
    """The rows of the files in `folder`, with the types that Spark has for them."""
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("there is no java")
    import pyarrow as pa

    made = write_files(folder)
    wider = {pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.decimal128(20, 0)}
    fields = [field.with_type(wider.get(field.type, field.type)) for field in made.schema]
    fields[0] = pa.field("time_ns", pa.timestamp("us", "UTC"))
    return made.cast(pa.schema(fields), safe=False)


@pytest.fixture(scope="module")
def spark(table: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of two executors with a core each."""
    from pyspark.sql import SparkSession

    from flatstream.engines.spark import register

    local = tmp_path_factory.mktemp("spark-local")
    with pytest.MonkeyPatch.context() as patch:
        # Executors run this Python, with the modules of the tests.
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("SPARK_WORKER_DIR", str(local))
        builder = SparkSession.builder.master("local-cluster[2,1,512]").appName("flatstream")
        for name, value in {
            "spark.ui.enabled": "false",
            "spark.executor.memory": "512m",
            "spark.driver.host": "127.0.0.1",
            "spark.local.dir": str(local),
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.warehouse.dir": str(local / "warehouse"),
            "spark.sql.shuffle.partitions": "2",
        }.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("OFF")
        register(session)
        yield session
        session.stop()


def load(spark: Any, path: Any, **options: Any) -> Any:
    return spark.read.format("flatstream").options(**options).load(str(path))


def as_arrow(frame: Any) -> Any:
    """The rows of a data frame, with all fields nullable."""
    import pyarrow as pa

    found = frame.toArrow()
    return found.cast(pa.schema([field.with_nullable(True) for field in found.schema]))


def in_order(table: Any) -> Any:
    return table.sort_by([("host", "ascending"), ("sequence", "ascending")])


def test_all_rows_come_once_with_signed_types(spark: Any, folder: Path, table: Any) -> None:
    frame = load(spark, folder, partitions=5)
    assert frame.rdd.getNumPartitions() == 5
    assert dict(frame.dtypes) == {
        "time_ns": "timestamp",
        "sequence": "decimal(20,0)",
        "host": "int",
        "sensor": "bigint",
        "state": "string",
        "cpu": "float",
        "temperature": "float",
        "load": "double",
        "power": "double",
        **dict.fromkeys(("memory_used", "disk_read", "disk_written", "received", "sent"), "decimal(20,0)"),
    }
    found = as_arrow(frame)
    assert found.schema.equals(table.schema)
    assert in_order(found).equals(in_order(table))


def test_aggregates_are_those_of_the_table(spark: Any, folder: Path, table: Any) -> None:
    found = load(spark, folder, columns="state,sensor").groupBy("state").sum("sensor").collect()
    expected = table.group_by("state").aggregate([("sensor", "sum")]).to_pylist()
    assert {row["state"]: row["sum(sensor)"] for row in found} == {row["state"]: row["sensor_sum"] for row in expected}


def test_the_time_range_and_columns_are_options(spark: Any, folder: Path, table: Any) -> None:
    import pyarrow.compute as pc

    begin, end = (datetime.datetime.fromtimestamp((BEGIN + h * HOUR) // 10**9, datetime.UTC) for h in (3, 4))
    want = in_order(
        table.filter((pc.field("time_ns") >= begin) & (pc.field("time_ns") < end)).select(["host", "sequence"])
    )
    assert want.num_rows > 1000
    for first, last in (
        (begin.isoformat(), end.isoformat()),
        (begin.replace(tzinfo=None).isoformat(), end.isoformat()),
        (str(BEGIN + 3 * HOUR), str(BEGIN + 4 * HOUR)),
    ):
        frame = load(spark, folder, columns='["host", "sequence"]', begin=first, end=last)
        assert in_order(as_arrow(frame)).equals(want)


def test_filters_reach_the_index_and_change_no_result(spark: Any, folder: Path, table: Any) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    moment = datetime.datetime.fromtimestamp((BEGIN + 3 * HOUR) // 10**9, datetime.UTC)
    small = pc.field("sequence") <= pa.scalar(decimal.Decimal(100), pa.decimal128(20, 0))
    texts = {
        "host = 2 AND sequence <= 100": (pc.field("host") == 2) & small,
        f"time_ns >= timestamp'{moment.isoformat()}' AND state = 'Busy'": (pc.field("time_ns") >= moment)
        & (pc.field("state") == "Busy"),
        "cpu > 50.0 AND host IN (1, 3)": (pc.field("cpu") > 50.0) & pc.field("host").isin([1, 3]),
        "host = 99": pc.field("host") == 99,
    }
    for text, expression in texts.items():
        found = as_arrow(load(spark, folder, partitions=3).where(text))
        want = table.filter(expression)
        assert in_order(found).equals(in_order(want)), text


def test_filters_that_are_known_become_conditions(folder: Path, table: Any) -> None:
    from pyspark.sql import datasource as filters

    from flatstream.engines.spark import conditions_of, make_plan

    plan = make_plan({"path": str(folder)}, None)
    moment = datetime.datetime.fromtimestamp(BEGIN // 10**9, datetime.UTC)
    after = moment + datetime.timedelta(microseconds=1)
    known: list[tuple[Any, list[Any]]] = [
        (filters.EqualTo(("host",), 2), [("host", "==", 2)]),
        (filters.LessThan(("sequence",), decimal.Decimal(100)), [("sequence", "<", 100)]),
        (filters.In(("host",), (1, 3)), [("host", "in", [1, 3])]),
        (filters.GreaterThan(("time_ns",), moment), [("time_ns", ">=", after)]),
        (filters.LessThanOrEqual(("time_ns",), moment), [("time_ns", "<", after)]),
        (filters.EqualTo(("time_ns",), moment), [("time_ns", ">=", moment), ("time_ns", "<", after)]),
        # Spark's NaN is greater than all; what is not known is left to Spark.
        (filters.GreaterThan(("cpu",), 50.0), []),
        (filters.GreaterThan(("host",), 1.5), []),
        (filters.GreaterThan(("time_ns",), moment.replace(tzinfo=None)), []),
        (filters.EqualTo(("state",), "Busy"), []),
        (filters.IsNotNull(("host",)), []),
        (filters.Not(filters.EqualTo(("host",), 2)), []),
        (filters.EqualTo(("host", "inner"), 2), []),
    ]
    for one, conditions in known:
        assert conditions_of([one], plan) == conditions, one
    assert conditions_of([one for one, _ in known], plan) == [each for _, found in known for each in found]


def rows_read(path: Path, filters: list[Any], **options: str) -> list[Any]:
    """The times that partitions have, for filters that Spark would hand over."""
    from flatstream.engines.spark import _partitions, _read, conditions_of, make_plan

    plan = make_plan({"path": str(path), "columns": "time_ns", **options}, None)
    conditions = conditions_of(filters, plan)
    reading = plan.reading(conditions)
    return [
        value
        for partition in _partitions(plan, conditions, 2)
        for batch in _read(reading, partition.value)
        for value in batch.column(0).to_pylist()
    ]


@pytest.mark.parametrize("times", ["ns", "us", "ms", "s"])
@pytest.mark.parametrize("offset", [0, 1, 999, 1_000, 500_000, 999_999])
def test_filters_on_times_that_are_rounded_leave_out_no_row(tmp_path: Path, times: str, offset: int) -> None:
    pytest.importorskip("pyspark")
    from pyspark.sql import datasource as filters

    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=data_table(), index=True) as writer:
        records = flatstream.RecordWriter(writer, data_table())
        for number in range(3000):
            # Of several seconds, and within some microseconds.
            records.write(time_ns=BEGIN // 10**9 * 10**9 + (number % 3) * 10**9 + number // 3 * 999_007 + number % 3)
    moment = datetime.datetime.fromtimestamp(BEGIN // 10**9 + 1, datetime.UTC) + datetime.timedelta(microseconds=offset)
    shown = rows_read(path, [], times=times)
    assert len(shown) == 3000
    for name, compared in {
        "EqualTo": operator.eq,
        "LessThan": operator.lt,
        "LessThanOrEqual": operator.le,
        "GreaterThan": operator.gt,
        "GreaterThanOrEqual": operator.ge,
    }.items():
        zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
        for value in (moment, moment.astimezone(zone)):
            found = rows_read(path, [getattr(filters, name)(("time_ns",), value)], times=times)
            assert [one for one in found if compared(one, moment)] == [one for one in shown if compared(one, moment)]


def test_the_last_moment_of_all_is_a_bound(folder: Path, table: Any) -> None:
    from pyspark.sql import datasource as filters

    last = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    for name in ("LessThanOrEqual", "LessThan"):
        assert len(rows_read(folder, [getattr(filters, name)(("time_ns",), last)])) == table.num_rows
    assert rows_read(folder, [filters.GreaterThan(("time_ns",), last.replace(year=2200))]) == []


def test_a_schema_chooses_columns_and_types(spark: Any, folder: Path, table: Any) -> None:
    frame = spark.read.format("flatstream").schema("sequence long, host short").load(str(folder))
    found = as_arrow(frame)
    assert [str(field.type) for field in found.schema] == ["int64", "int16"]
    assert in_order(found).to_pylist() == in_order(table.select(["sequence", "host"])).to_pylist()


def test_the_largest_integers_are_long_if_that_is_asked_for(spark: Any, folder: Path, table: Any) -> None:
    found = as_arrow(load(spark, folder, columns="host,sequence", uint64="long"))
    assert str(found.schema.field("sequence").type) == "int64"
    assert in_order(found).to_pylist() == in_order(table.select(["host", "sequence"])).to_pylist()


def test_several_paths_are_one_table(spark: Any, folder: Path) -> None:
    paths = [str(folder / f"host-0{host}.fs") for host in (0, 2)]
    frame = spark.read.format("flatstream").load(paths)
    assert frame.count() == 2 * ROWS


def test_few_partitions_have_many_ranges(spark: Any, folder: Path, table: Any) -> None:
    frame = load(spark, folder)
    assert frame.rdd.getNumPartitions() == 1
    assert frame.count() == table.num_rows == FILES * ROWS


def test_an_executor_that_is_killed_costs_no_row(spark: Any, folder: Path, table: Any, tmp_path: Path) -> None:
    marker = str(tmp_path / "killed")

    def killing(batches: Any) -> Any:
        for batch in batches:
            if batch.column("sequence")[0].as_py() > ROWS // 2:
                # Of this process the daemon of Python, and of that the executor.
                kill_once(marker, parents=2)
            yield batch

    frame = load(spark, folder, partitions=6)
    found = as_arrow(frame.mapInArrow(killing, frame.schema))
    assert os.path.exists(marker)
    assert in_order(found).equals(in_order(table))


def test_damage_is_an_error_with_the_path_unless_it_is_left_out(spark: Any, folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "host-00.fs").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "damaged.fs").write_bytes(data)
    with pytest.raises(Exception, match=r"damaged\.fs"):
        load(spark, tmp_path, partitions=2).count()
    assert load(spark, tmp_path, partitions=2, on_error="resync").count() == ROWS - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colums": "host"}, "no option 'colums'"),
        ({"columns": "nothing"}, "no field 'nothing'"),
        ({"columns": "[host"}, "columns must be names with commas between them"),
        ({"columns": '["host", 1]'}, "columns must be names with commas between them"),
        ({"columns": "host,,state"}, "columns must be names with commas between them"),
        ({"partitions": "0"}, "partitions must be a number from 1"),
        ({"begin": "yesterday"}, "begin must be a time of ISO 8601"),
        ({"begin": "2026-11-29T00:00:00.1234567"}, "more than 6 digits"),
        ({"uint64": "int"}, "uint64 must be"),
        ({"use_index": "maybe"}, "must be 'true' or 'false'"),
        ({"on_error": "ignore"}, "on_error must be one of"),
    ],
)
def test_wrong_options_are_refused(spark: Any, folder: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(Exception, match=message):
        load(spark, folder, **options).count()


def test_there_is_no_active_session(monkeypatch: pytest.MonkeyPatch, spark: Any) -> None:
    from pyspark.sql import SparkSession

    from flatstream.engines.spark import register

    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    with pytest.raises(ValueError, match="no active session"):
        register()


def test_paths_that_are_no_array_are_refused() -> None:
    pytest.importorskip("pyspark")
    from flatstream.engines.spark import make_plan

    for wrong in ("a.fs", '{"a": 1}', "[1]"):
        with pytest.raises(ValueError, match="paths must be a JSON array of paths, got "):
            make_plan({"paths": wrong}, None)
    with pytest.raises(ValueError, match="no path"):
        make_plan({"paths": "[]"}, None)

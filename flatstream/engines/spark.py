"""Datasets in Spark (the extra ``spark``): after `register`, ``spark.read.format("flatstream").load(path)``.

A partition is a split of the dataset: ranges of bytes, which the executor reads itself. So all executors must see the
files under the same paths, on a shared file system or by URLs, and have this package and pyarrow installed
(``PYSPARK_PYTHON`` says which Python they run).
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from flatstream.datasets import Dataset, dataset
from flatstream.datasets._unify import time_of
from flatstream.datasets.splits import Split, SplitSource, planned_size, read_split
from flatstream.engines._tables import cast_batch, changed_schema, projected, without_unsigned

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["register"]

INSTALL = "pip install 'flatstream[spark]'"
NAME = "flatstream"
PUSHDOWN = "spark.sql.python.filterPushdown.enabled"

# A task costs 50 to 100 ms, so that a partition is at least this large; and small enough to be done again.
LEAST_BYTES = 32 << 20
MOST_BYTES = 1 << 30

OPTIONS = (
    "path",
    "paths",
    "columns",
    "begin",
    "end",
    "partitions",
    "uint64",
    "table",
    "checksum",
    "schema",
    "on_error",
    "torn_end",
    "use_index",
    "times",
)

_NUMBER = re.compile(r"[+-]?\d{1,20}", re.ASCII)


def register(session: Any = None, *, push_filters: bool = True) -> None:
    """Makes the format ``"flatstream"`` known to a session of Spark.

    Its options, besides the path or the list of paths that ``load`` takes (as `flatstream.dataset` does: files,
    patterns, folders, journals, URLs):

    ================  ==================================================================================================
    ``columns``       The names of the columns to read, with commas between them, or as a JSON array. Spark does not
                      tell a data source which columns it needs. A schema given by ``.schema(...)`` says it too.
    ``begin, end``    The time range: rows with begin <= time < end. ISO 8601, where a time without a zone is in UTC,
                      or whole numbers in the unit of the time field.
    ``uint64``        "decimal" (the default) or "long": the type of unsigned integers of 64 bits. Sums of long are
                      several times as fast, and a value from 2**63 on is an error then.
    ``partitions``    How many; by default they are of 32 MiB to 1 GiB, two for each core if that makes such.
    ``table``, ``checksum``, ``schema`` (a path), ``on_error``, ``torn_end``, ``use_index``, ``times``
                      As for `flatstream.dataset`.
    ================  ==================================================================================================

    Parameters
    ----------
    session : SparkSession, optional
        By default the active one.
    push_filters : bool
        Whether filters (``df.where("cpu > 90")``) choose which blocks are read, by the index. This sets
        ``spark.sql.python.filterPushdown.enabled`` of the session, which is off by default in Spark 4.1 to 4.3. Only
        comparisons of times, integers, bools and strings with constants are used, and Spark applies all filters again.

    Raises
    ------
    ImportError
        pyspark is not installed; the message names the extra.
    ValueError
        There is no active session.

    Notes
    -----
    Types: unsigned integers become the next larger signed ones, those of 64 bits decimal(20, 0); enums become strings.
    Spark's timestamps have microseconds: a time in nanoseconds is rounded down. With ``option("times", "number")``
    times are the integers that they are stored as. Messages of errors of a query are those of this package, behind
    Spark's.

    Examples
    --------
    ``register(spark)``, then ``spark.read.format("flatstream").option("columns", "time_ns,cpu")
    .option("begin", "2026-11-29T12:00").load("/data/*.fs").groupBy("host").avg("cpu")``.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ImportError(f"flatstream.engines.spark needs the package pyspark: {INSTALL} ({error})") from None
    if session is None:
        session = SparkSession.getActiveSession()
        if session is None:
            raise ValueError("there is no active session of Spark: pass the session")
    if push_filters:
        session.conf.set(PUSHDOWN, "true")
    session.dataSource.register(_source_class(push_filters, _parallelism_of(session)))


def _parallelism_of(session: Any) -> int:
    try:
        return max(1, int(session.sparkContext.defaultParallelism))
    except Exception:
        # A session of Spark Connect does not tell.
        return 8


@functools.cache
def _source_class(push_filters: bool, parallelism: int) -> Any:
    """The class of the data source. Spark pickles it by value: what it does is in functions of this module."""
    from pyspark.sql.datasource import DataSource, DataSourceReader

    class FlatstreamReader(DataSourceReader):  # type: ignore[misc]
        def __init__(self, plan: _Plan) -> None:
            self.plan = plan
            self.reading = plan.reading([])
            self.conditions: list[tuple[str, str, Any]] = []

        def __getstate__(self) -> dict[str, Any]:
            # What a task needs, without the list of all files. Spark pickles it before it asks for the partitions.
            return {"reading": self.reading}

        def partitions(self) -> list[Any]:
            return _partitions(self.plan, self.conditions, parallelism)

        def read(self, partition: Any) -> Iterator[pa.RecordBatch]:
            return _read(self.reading, partition.value)

    class FilteringReader(FlatstreamReader):
        def pushFilters(self, filters: list[Any]) -> list[Any]:  # noqa: N802 - Spark's name
            self.conditions = conditions_of(filters, self.plan)
            self.reading = self.plan.reading(self.conditions)
            # Spark applies them again: its meaning is what counts.
            return filters

    class FlatstreamSource(DataSource):  # type: ignore[misc]
        @classmethod
        def name(cls) -> str:
            return NAME

        def schema(self) -> Any:
            from pyspark.sql.pandas.types import from_arrow_schema

            return from_arrow_schema(make_plan(dict(self.options), None).schema)

        def reader(self, schema: Any) -> Any:
            return (FilteringReader if push_filters else FlatstreamReader)(make_plan(dict(self.options), schema))

    return FlatstreamSource


class _Plan(NamedTuple):
    """What is read: the dataset, its columns, the schema that Spark gets, and the conditions of the time range."""

    dataset: Dataset
    columns: list[str]
    schema: pa.Schema
    where: list[tuple[str, str, Any]]
    partitions: int | None

    def conditions(self, filters: list[tuple[str, str, Any]]) -> Any:
        """What rows must meet, for `Dataset.splits`."""
        return [*self.where, *filters] or None

    def reading(self, filters: list[tuple[str, str, Any]]) -> _Reading:
        """What every task needs."""
        return _Reading(SplitSource.of(self.dataset, self.conditions(filters)), self.columns, self.schema)


class _Reading(NamedTuple):
    """What every task needs: what splits have in common, the columns, and the schema that Spark gets."""

    source: SplitSource
    columns: list[str]
    schema: pa.Schema


def make_plan(options: Mapping[str, str], wanted: Any) -> _Plan:
    """The plan for the options of a query, and the schema that Spark wants, if it does.

    Raises
    ------
    ValueError
        An option is not known, or its value is wrong.
    LookupError
        There is no such column.
    """
    options = {name.lower(): value for name, value in options.items()}
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise ValueError(f"flatstream has no option {unknown[0]!r}; its options are {', '.join(OPTIONS)}")
    paths = _array("paths", options["paths"], "a JSON array of paths") if "paths" in options else []
    if "path" in options:
        paths.append(options["path"])
    if not paths:
        raise ValueError("no path: pass one to load(), as in spark.read.format('flatstream').load('/data/*.fs')")
    arguments: dict[str, Any] = {
        name: options[name]
        for name in ("table", "checksum", "schema", "on_error", "torn_end", "times")
        if name in options
    }
    if "use_index" in options:
        arguments["use_index"] = _flag("use_index", options["use_index"])
    found = dataset(paths, **arguments)
    names = _names(options["columns"]) if "columns" in options else None
    largest = options.get("uint64", "decimal").lower()
    if largest not in ("decimal", "long"):
        raise ValueError(f"uint64 must be 'decimal' or 'long', got {options['uint64']!r:.100}")
    schema = changed_schema(projected(found, names), _long_type if largest == "long" else _spark_type, nullable=True)
    if wanted is not None:
        schema = _as_wanted(found, wanted)
    return _Plan(found, schema.names, schema, _time_range(found, options), _count(options.get("partitions")))


def _spark_type(of: pa.DataType) -> pa.DataType:
    """The Arrow type that Spark takes for values of a type."""
    import pyarrow as pa

    if pa.types.is_timestamp(of):
        return pa.timestamp("us", of.tz)
    return without_unsigned(of)


def _long_type(of: pa.DataType) -> pa.DataType:
    """The same with the largest integers as signed ones."""
    import pyarrow as pa

    return pa.int64() if pa.types.is_uint64(of) else _spark_type(of)


def _as_wanted(dataset: Dataset, wanted: Any) -> pa.Schema:
    """The columns that a StructType has. Numbers, strings and bytes get its types, others keep their own."""
    import pyarrow as pa

    simple = {
        "byte": pa.int8(),
        "short": pa.int16(),
        "integer": pa.int32(),
        "long": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "string": pa.string(),
        "binary": pa.binary(),
    }
    fields = []
    for field, asked in zip(
        changed_schema(projected(dataset, wanted.names), _spark_type, nullable=True), wanted, strict=True
    ):
        kind = asked.dataType
        to = simple.get(kind.typeName(), field.type)
        if kind.typeName() == "decimal":
            to = pa.decimal128(kind.precision, kind.scale)
        fields.append(field.with_type(to))
    return pa.schema(fields)


def _array(name: str, text: str, expected: str) -> list[str]:
    """The strings of a JSON array."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{name} must be {expected}, got {text!r:.200}")
    return found


def _names(text: str) -> list[str]:
    text = text.strip()
    expected = "names with commas between them, or a JSON array of names"
    names = _array("columns", text, expected) if text.startswith("[") else [name.strip() for name in text.split(",")]
    if not names or not all(names):
        raise ValueError(f"columns must be {expected}, got {text!r:.200}")
    return list(dict.fromkeys(names))


def _flag(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name} must be 'true' or 'false', got {text!r:.100}")
    return text.lower() == "true"


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) <= 1_000_000:
        raise ValueError(f"partitions must be a number from 1 to 1,000,000, got {text!r:.100}")
    return int(text)


def _time_range(found: Dataset, options: Mapping[str, str]) -> list[tuple[str, str, Any]]:
    """The conditions of ``begin`` and ``end``."""
    asked = [(name, comparison) for name, comparison in (("begin", ">="), ("end", "<")) if name in options]
    if not asked:
        return []
    time = time_of(found._kinds())
    if time is None:
        raise ValueError(f"{asked[0][0]} needs a field with the time of each message, which the description names")
    return [(time[0], comparison, _time(name, options[name])) for name, comparison in asked]


def _time(name: str, text: str) -> int | datetime:
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return int(text)
    fraction = re.search(r"[.,](\d+)", text)
    try:
        if fraction is not None and len(fraction[1]) > 6:
            raise ValueError("it has more than 6 digits of a second: pass the number that the field has")
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{name} must be a time of ISO 8601, as 2026-11-29T12:00:00.5Z, or a number, got {text!r:.100}: {error}"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


Comparison = Literal["==", ">", ">=", "<", "<=", "in"]
COMPARISONS: dict[str, Comparison] = {
    "EqualTo": "==",
    "GreaterThan": ">",
    "GreaterThanOrEqual": ">=",
    "LessThan": "<",
    "LessThanOrEqual": "<=",
    "In": "in",
}


def conditions_of(filters: list[Any], plan: _Plan) -> list[tuple[str, str, Any]]:
    """The conditions that follow from filters of Spark: each row that the filters keep meets them.

    Floating-point numbers are left out, since Spark's NaN is greater than all. So is whatever is not known.
    """
    conditions: list[tuple[str, str, Any]] = []
    for each in filters:
        comparison = COMPARISONS.get(type(each).__name__)
        attribute: tuple[str, ...] = getattr(each, "attribute", ())
        if comparison is None or len(attribute) != 1 or attribute[0] not in plan.columns:
            continue
        name, value = attribute[0], each.value
        stored = plan.dataset._schema((name,)).field(0).type
        if _types().is_timestamp(stored):
            if comparison != "in" and isinstance(value, datetime) and value.tzinfo is not None:
                conditions += _conditions_on_time(name, comparison, value, stored.unit)
            continue
        values = [_as_stored(stored, one) for one in (value if comparison == "in" else [value])]
        if None not in values and (comparison in ("==", "in") or not isinstance(values[0], bool)):
            conditions.append((name, comparison, values if comparison == "in" else values[0]))
    return conditions


def _as_stored(of: pa.DataType, value: Any) -> int | bool | str | None:
    """A constant of a filter as a value of a column; None if it is none, or its comparison is not known."""
    types = _types()
    if types.is_integer(of):
        if isinstance(value, Decimal) and value == value.to_integral_value():
            value = int(value)
        return value if type(value) is int else None
    if (types.is_boolean(of) and type(value) is bool) or (types.is_string(of) and type(value) is str):
        return value
    return None


def _types() -> Any:
    """The questions about Arrow types."""
    import pyarrow as pa

    return pa.types


# The step of a column in microseconds, which Spark's timestamps have at least.
STEPS = {"s": 1_000_000, "ms": 1_000}


def _conditions_on_time(
    name: str, comparison: Comparison, value: datetime, unit: str
) -> list[tuple[str, str, datetime]]:
    """Conditions on the time as stored, which the column, of this unit, has rounded down."""
    step = STEPS.get(unit, 1)
    try:
        value = value.astimezone(UTC)
        at = value.replace(microsecond=value.microsecond // step * step)
        after = at + timedelta(microseconds=step)
    except OverflowError:
        # At the end of what a datetime holds, as with "for ever".
        return []
    conditions = {
        "==": [(name, ">=", value), (name, "<", after)],
        ">": [(name, ">=", after)],
        ">=": [(name, ">=", value)],
        "<": [(name, "<", value if value == at else after)],
        "<=": [(name, "<", after)],
    }
    return conditions.get(comparison, [])


def _partitions(plan: _Plan, filters: list[tuple[str, str, Any]], parallelism: int) -> list[Any]:
    from pyspark.sql.datasource import InputPartition

    where = plan.conditions(filters)
    count = plan.partitions
    if count is None:
        size = planned_size(plan.dataset, where)
        count = max(min(size // LEAST_BYTES, 2 * parallelism), math.ceil(size / MOST_BYTES), 1)
    # Without the source, which tasks get with the reader. Spark has at least one partition.
    return [InputPartition(split.packed) for split in plan.dataset.splits(count, where)] or [InputPartition(None)]


def _read(reading: _Reading, packed: bytes | None) -> Iterator[pa.RecordBatch]:
    """What a task does, in a Python of an executor."""
    if packed is None:
        return
    for batch in read_split(Split(reading.source, packed), reading.columns):
        yield cast_batch(batch, reading.schema)

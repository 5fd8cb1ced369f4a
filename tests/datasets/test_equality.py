"""The judge: each question gives the same rows over streams as over Parquet of the same rows, in each engine.

The streams are what one meets: files of different checksums, an empty one, one whose last frame was not written whole,
a damaged one, a sealed one, and one of an older schema. Each question is asked with indexes and without, of polars
(`Dataset.scan`), of DuckDB and pyarrow (`Dataset.to_arrow_dataset`), and of `Dataset.batches` in three ways.

Seen with polars 2.1, DuckDB 2.0 and pyarrow 26.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

import flatstream
from flatstream import RecordWriter, build_index, seal
from support.extent import EVERYTHING, in_one_test
from support.questions import Question, at, ids, older_table_of, questions, rows_of, table_of

TABLE = table_of()
OLDER = older_table_of()
COUNT = 1500
QUESTIONS = questions(COUNT)
INDEXED = ["time_ns", "i8", "u8", "i32", "u32", "i64", "u64", "f", "d", "b", "opt", "optd", "optb", "level", "maybe"]
INSIDE = ["header.sequence", "header.level", "point.x"]

# The columns that are compared, and their types. The times are all different.
KEYS = pa.schema(
    [("time_ns", pa.int64()), ("u64", pa.uint64()), ("opt", pa.int32()), ("name", pa.string()), ("level", pa.string())]
)


@dataclass
class Data:
    """The streams, and the same rows as Parquet.

    Attributes
    ----------
    folder : Path
        That of the streams.
    rows : pyarrow.Table
        The rows that can be read of them, with enums as strings.
    parquet : dict of str to str
        For each unit of the times, the path of a Parquet file.
    """

    folder: Path
    rows: pa.Table
    parquet: dict[str, str]

    def dataset(self, index: bool, times: str = "ns") -> flatstream.Dataset:
        return flatstream.dataset(self.folder, on_error="resync", use_index=index, times=times, threads=1)


def write(path: Path, table: Any, rows: list[dict[str, Any]], checksum: str) -> Path:
    with flatstream.open(path, "w", checksum=checksum, describe=table) as stream:
        records = RecordWriter(stream, table)
        for row in rows:
            records.write_record(row)
    build_index(path, INDEXED + INSIDE if table is TABLE else ["time_ns", "i8", "level"])
    return path


def plain(table: pa.Table) -> pa.Table:
    """The table with enums and large strings as strings, also those in structs."""

    def plain_type(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind):
            return pa.string()
        if pa.types.is_struct(kind):
            return pa.struct([field.with_type(plain_type(field.type)).with_nullable(True) for field in kind])
        return kind

    def plain_array(array: pa.Array, kind: pa.DataType) -> pa.Array:
        if array.type.equals(kind):
            return array
        if pa.types.is_struct(kind):
            parts = [plain_array(array.field(field.name), field.type) for field in kind]
            return pa.StructArray.from_arrays(parts, fields=list(kind), mask=array.is_null())
        return array.cast(kind)

    columns, fields = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = plain_type(field.type)
        columns.append(plain_array(column.combine_chunks(), kind))
        fields.append(pa.field(field.name, kind))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def in_unit(rows: pa.Table, unit: str) -> pa.Table:
    step = {"ns": 1, "us": 1000}[unit]
    numbers = pa.array(rows["time_ns"].to_numpy() // step)
    return rows.set_column(0, "time_ns", numbers.cast(pa.timestamp(unit, "UTC")))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("streams")
    rows = rows_of(COUNT, filler=160)
    third = COUNT // 3
    tables = []

    def note(path: Path, lost: int = 0) -> None:
        """Notes the rows of a file, as a StreamReader of it alone reads them."""
        with flatstream.open(path, on_error="resync") as reader:
            batches = [pa.record_batch(batch) for batch in reader.column_batches()] if not lost else []
            if lost:
                stream = reader.column_batches()
                while True:
                    try:
                        batches.append(pa.record_batch(next(stream)))
                    except (StopIteration, flatstream.UnexpectedEofError):
                        break
        tables.append(plain(pa.Table.from_batches(batches)))

    note(write(folder / "a.fs", TABLE, rows[:third], "xxhash64"))
    write(folder / "b.fs", TABLE, [], "crc32")
    torn = write(folder / "c.fs", TABLE, rows[third : 2 * third], "crc32")
    with torn.open("r+b") as file:
        file.truncate(torn.stat().st_size - 5)
    note(torn, lost=1)
    damaged = write(folder / "d.fs", TABLE, rows[2 * third :], "crc64")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 3] ^= 0x40
    damaged.write_bytes(content)
    build_index(damaged, INDEXED + INSIDE)
    note(damaged)
    older = [
        {key: value for key, value in row.items() if key not in ("opt", "header")}
        | {"time_ns": row["time_ns"] + 10**12 * 10}
        for row in rows_of(200, seed=5, filler=160)
    ]
    note(write(folder / "e.fs", OLDER, older, "none"))
    sealed = write(
        folder / "f.fs", TABLE, [{**row, "time_ns": row["time_ns"] + 10**12 * 50} for row in rows[:200]], "crc32c"
    )
    note(sealed)
    seal(sealed)
    sealed.unlink()
    table = pa.concat_tables(tables, promote_options="default")
    assert table.num_rows == COUNT - 2 + 400
    parquet = {}
    for unit in ("ns", "us"):
        parquet[unit] = str(tmp_path_factory.mktemp("parquet") / f"{unit}.parquet")
        pq.write_table(in_unit(table, unit), parquet[unit], row_group_size=400)
    return Data(folder, table, parquet)


class Asked:
    """What is asked of both sides, in one place for all engines.

    Parameters
    ----------
    data : Data
        The streams and the Parquet files.
    index : bool
        Whether indexes are used.
    """

    def __init__(self, data: Data, index: bool) -> None:
        self.parquet = data.parquet
        self.streams = {times: data.dataset(index, times) for times in data.parquet}
        self.arrow = {times: found.to_arrow_dataset() for times, found in self.streams.items()}
        self.scanned = {times: found.scan() for times, found in self.streams.items()}
        self.parquet_arrow = {times: pads.dataset(path) for times, path in data.parquet.items()}
        # DuckDB takes one thread, because the questions are many and small.
        self.duckdb = duckdb.connect(config={"threads": 1})
        self.duckdb.execute("SET TimeZone = 'UTC'")
        for times, found in self.arrow.items():
            self.duckdb.register(f"streams_{times}", found)
            self.duckdb.execute(f"CREATE VIEW parquet_{times} AS FROM '{data.parquet[times]}'")

    def read(self, times: str) -> int:
        """How many bytes of the streams were read so far."""
        return self.streams[times].bytes_read

    # Over the streams

    def by_polars(self, question: Question, times: str = "ns") -> pa.Table:
        return self.scanned[times].filter(question.polars).select(KEYS.names).collect().to_arrow()

    def by_pyarrow(self, question: Question, times: str = "ns") -> pa.Table:
        return self.arrow[times].to_table(KEYS.names, filter=question.arrow)

    def by_duckdb(self, question: Question, times: str = "us") -> pa.Table:
        return self._sql(f"streams_{times}", question)

    def by_batches(self, where: Any, times: str = "ns") -> pa.Table:
        return pa.Table.from_batches(
            self.streams[times].batches(KEYS.names, where),
            self.streams[times]._query(KEYS.names, None, 1, False, False).given,
        )

    # Over Parquet

    def expected_of_polars(self, question: Question, times: str = "ns") -> pa.Table:
        return pl.scan_parquet(self.parquet[times]).filter(question.polars).select(KEYS.names).collect().to_arrow()

    def expected_of_pyarrow(self, question: Question, times: str = "ns") -> pa.Table:
        return self.parquet_arrow[times].to_table(KEYS.names, filter=question.arrow)

    def expected_of_duckdb(self, question: Question, times: str = "us") -> pa.Table:
        return self._sql(f"parquet_{times}", question)

    def _sql(self, name: str, question: Question) -> pa.Table:
        found: pa.Table = self.duckdb.sql(
            f"SELECT {', '.join(KEYS.names)} FROM {name} WHERE {question.sql}"
        ).to_arrow_table()
        return found


def keys(table: pa.Table) -> pa.Table:
    """The rows as they are compared."""
    return table.cast(KEYS).combine_chunks()


@pytest.fixture(scope="module")
def with_index(data: Data) -> Asked:
    return Asked(data, True)


@pytest.fixture(scope="module")
def without_index(data: Data) -> Asked:
    return Asked(data, False)


# Conditions say of NaN what no library says: no condition holds for it.
FLOATS = {"f", "d", "optd", "point.y"}


def expected_of_conditions(asked: Asked, question: Question) -> pa.Table:
    assert question.conditions is not None
    where = question.arrow
    for path, *_ in question.conditions:
        if path in FLOATS:
            where = where & ~pc.field(*path.split(".")).is_nan()
    return asked.parquet_arrow["ns"].to_table(KEYS.names, filter=where)


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """Fails unless all columns are equal, where NaN equals NaN."""
    found = plain(found)
    assert found.schema == expected.schema
    for name in expected.schema.names:
        # polars' equality, because that of Arrow's is false for NaN.
        assert pl.Series(name, found[name]).equals(pl.Series(name, expected[name])), name


def test_all_columns_are_equal(data: Data, with_index: Asked, without_index: Asked) -> None:
    for asked in (with_index, without_index):
        assert_same(asked.streams["ns"].columns(), in_unit(data.rows, "ns"))
        assert asked.streams["ns"].count() == data.rows.num_rows
        assert_same(asked.arrow["us"].to_table(), in_unit(data.rows, "us"))
        for times in data.parquet:
            assert (
                asked.scanned[times]
                .collect()
                .drop("maybe", "level", "header")
                .equals(pl.read_parquet(data.parquet[times]).drop("maybe", "level", "header"))
            )
            count = asked.duckdb.sql(f"SELECT count(*), sum(i32), max(time_ns) FROM streams_{times}").fetchall()
            assert count == asked.duckdb.sql(f"SELECT count(*), sum(i32), max(time_ns) FROM parquet_{times}").fetchall()


@in_one_test
@pytest.mark.parametrize("number", range(len(QUESTIONS)), ids=ids(QUESTIONS))
def test_question_gives_the_same_rows_as_over_parquet(number: int, with_index: Asked, without_index: Asked) -> None:
    question = QUESTIONS[number]
    conditions = question.conditions

    def ours(where: Any) -> Callable[[Asked], pa.Table]:
        return lambda asked: asked.by_batches(where)

    asked_of: list[tuple[Callable[[Asked], pa.Table], list[Callable[[Asked], pa.Table]]]] = [
        (
            lambda asked: asked.expected_of_polars(question),
            [lambda asked: asked.by_polars(question), ours(question.polars)],
        ),
        (
            lambda asked: asked.expected_of_pyarrow(question),
            [lambda asked: asked.by_pyarrow(question), ours(question.arrow)],
        ),
        (lambda asked: asked.expected_of_duckdb(question), [lambda asked: asked.by_duckdb(question)]),
    ]
    if conditions is not None:
        asked_of.append((lambda asked: expected_of_conditions(asked, question), [ours(conditions)]))
    if "time" in question.name:
        asked_of.append(
            (lambda asked: asked.expected_of_duckdb(question, "ns"), [lambda asked: asked.by_duckdb(question, "ns")])
        )
        asked_of.append(
            (lambda asked: asked.expected_of_polars(question, "us"), [lambda asked: asked.by_polars(question, "us")])
        )
        asked_of.append(
            (lambda asked: asked.expected_of_pyarrow(question, "us"), [lambda asked: asked.by_pyarrow(question, "us")])
        )
    turn = number
    for expectation, ways in asked_of:
        expected = keys(expectation(with_index))
        for way in ways:
            # Both in `make test-long`; here each question in each way with indexes, and in one of three without.
            turn += 1
            for asked in (with_index, without_index) if EVERYTHING or turn % 3 == 0 else (with_index,):
                assert keys(way(asked)).equals(expected)
    if conditions is not None:
        assert (with_index, without_index)[number % 2].streams["ns"].count(conditions) == expected_of_conditions(
            with_index, question
        ).num_rows


PRUNED = {
    "i8 == 3",
    "u8 > 245",
    f"i32 > {COUNT // 2 - 5}",
    "-5 <= i32 < 5",
    "i8 in [-100, 0, 99]",
    f"not i32 >= {10 - COUNT // 2}",
    f"opt > {COUNT - 10}",
    f"(i32 in [{1 - COUNT // 2}, {2 - COUNT // 2}] or i32 in [{COUNT // 2 - 1}])",
    "((i8 < -95 and name == a) or (i8 > 95 and name is null))",
    f"time_ns < {at(3)}",
    f"{at(COUNT // 2)} <= time_ns < {at(COUNT // 2 + 20)}",
    f"(time_ns < {at(10)} or time_ns >= {at(COUNT - 10)})",
}


@in_one_test
@pytest.mark.parametrize("name", sorted(PRUNED))
def test_question_that_an_index_answers_reads_less_in_each_engine(
    name: str, with_index: Asked, without_index: Asked
) -> None:
    (question,) = [each for each in QUESTIONS if each.name == name]
    ways: list[tuple[str, Callable[[Asked], pa.Table]]] = [
        ("ns", lambda asked: asked.by_polars(question)),
        ("ns", lambda asked: asked.by_pyarrow(question)),
        ("us", lambda asked: asked.by_duckdb(question)),
        ("ns", lambda asked: asked.by_batches(question.polars)),
        ("ns", lambda asked: asked.by_batches(question.arrow)),
    ]
    for number, (times, way) in enumerate(ways):
        read = []
        for asked in (with_index, without_index):
            before = asked.read(times)
            way(asked)
            read.append(asked.read(times) - before)

        assert 0 < read[0] <= read[1] * 0.6, (number, read)

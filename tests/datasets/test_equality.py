"""The judge: each question gives the same rows over streams as over Parquet of the same rows, in each engine.

The streams are what one meets: files of different checksums, an empty one, one whose last frame was not written whole,
a damaged one, a sealed one, and one of an older schema. Each question is asked with indexes and without, of polars
(`Dataset.scan`), of DuckDB and pyarrow (`Dataset.to_arrow_dataset`), and of `Dataset.batches` in three ways.

Seen with polars 2.1, DuckDB 2.0 and pyarrow 26.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

import flatstream
from flatstream import RecordWriter, build_index, seal
from flatstream.datasets._arrow import ArrowDataset
from flatstream.datasets._expressions import arrow_tree
from support.extent import EVERYTHING, in_one_test
from support.questions import OPERATORS, Question, at, older_table_of, questions, rows_of, table_of
from support.schemas import root_of

TABLE = table_of()
OLDER = older_table_of()
COUNT = 1500
QUESTIONS = questions(COUNT)
# Two thirds of them, and all in `make test-long`.
ASKED = [number for number in range(len(QUESTIONS)) if EVERYTHING or number % 3 != 1]
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

    def dataset(self, index: bool, times: Any, pattern: str) -> flatstream.Dataset:
        return flatstream.dataset(self.folder / pattern, on_error="resync", use_index=index, times=times, threads=1)


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
    # As after a crash: it covers what is whole.
    build_index(torn, INDEXED + INSIDE)
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
    pattern : str
        Which streams it is about.
    """

    def __init__(self, data: Data, index: bool, pattern: str = "*") -> None:
        self.parquet = data.parquet
        self.streams = {times: data.dataset(index, times, pattern) for times in data.parquet}
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


Way = Callable[[Asked], pa.Table]

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
@pytest.mark.parametrize("number", ASKED, ids=lambda number: QUESTIONS[number].name)
def test_question_gives_the_same_rows_as_over_parquet(number: int, with_index: Asked, without_index: Asked) -> None:
    question = QUESTIONS[number]
    conditions = question.conditions
    # What is expected, and how it is asked for.
    engines: list[tuple[Way, Way]] = [
        (lambda asked: asked.expected_of_polars(question), lambda asked: asked.by_polars(question)),
        (lambda asked: asked.expected_of_pyarrow(question), lambda asked: asked.by_pyarrow(question)),
        (lambda asked: asked.expected_of_duckdb(question), lambda asked: asked.by_duckdb(question)),
    ]
    direct: list[tuple[Way, Way]] = [
        (engines[0][0], lambda asked: asked.by_batches(question.polars)),
        (engines[1][0], lambda asked: asked.by_batches(question.arrow)),
    ]
    if conditions is not None:
        direct.append(
            (lambda asked: expected_of_conditions(asked, question), lambda asked: asked.by_batches(conditions))
        )
    rounded: list[tuple[Way, Way]] = []
    if "time" in question.name:
        rounded = [
            (lambda asked: asked.expected_of_duckdb(question, "ns"), lambda asked: asked.by_duckdb(question, "ns")),
            (lambda asked: asked.expected_of_polars(question, "us"), lambda asked: asked.by_polars(question, "us")),
            (lambda asked: asked.expected_of_pyarrow(question, "us"), lambda asked: asked.by_pyarrow(question, "us")),
        ]
    everything = [*engines, *direct, *rounded]
    # All of it in `make test-long`; here two of the engines with indexes, and the others by turns.
    some = [
        engines[number % 3],
        engines[(number + 1) % 3],
        direct[number % len(direct)],
        *rounded[number % 3 : number % 3 + 1],
    ]
    expected: dict[Way, pa.Table] = {}
    for asked, ways in (
        (with_index, everything if EVERYTHING else some),
        (without_index, everything if EVERYTHING else [everything[number % len(everything)]]),
    ):
        for expectation, way in ways:
            if expectation not in expected:
                expected[expectation] = keys(expectation(with_index))
            assert keys(way(asked)).equals(expected[expectation])
        if conditions is not None and (EVERYTHING or number % 4 == 0):
            assert asked.streams["ns"].count(conditions) == expected_of_conditions(asked, question).num_rows


@pytest.fixture(scope="module")
def pruned(data: Data) -> list[Asked]:
    """The streams that are whole, and whose indexes have all fields: with indexes and without."""
    return [Asked(data, index, "[ac].fs") for index in (True, False)]


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
def test_question_that_an_index_answers_reads_less_in_each_engine(name: str, pruned: list[Asked]) -> None:
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
        for asked in pruned:
            before = asked.read(times)
            way(asked)
            read.append(asked.read(times) - before)

        assert 0 < read[0] <= read[1] / 2, (number, read)


# What DuckDB 2.0 hands over of these, all of which is understood. Another version may hand over other forms: then these
# are evaluated, and this test says what became slower.
HANDED = {
    "i8 + 1 > 98": "(i8 > 97)",
    "i8 IN (1, 3, 5)": "if_else(is_valid(i8), is_in(i8",
    "i8 NOT IN (1, 3, 5)": "invert(if_else(is_valid(i8), is_in(i8",
    "u64 = 18446744073709551615": "(u64 == 18446744073709551615)",
    "f < 1.5::FLOAT": "(f < 1.5)",
    "NOT f > 1.5::FLOAT": "(f <= 1.5)",
    "name IN ('a', 'é')": "is_in(name",
    "name > 'a'": '(name > "a")',
    "optb IS NULL": "is_null(optb",
    "level = 'Error'": '(level == "Error")',
    "header.sequence > 1400": "FieldRef.Nested",
    "header.level = 'Error'": "FieldRef.Nested",
    "header.zone IS NULL": "is_null(FieldRef.Nested",
    "time_ns > TIMESTAMPTZ '2026-01-01 00:10:00+00'": "(time_ns > 2026-01-01 00:10:00.000000Z)",
    "opt IS NULL OR i32 > 5": "(is_null(opt",
    "(i8 > 1 AND i8 < 5) OR name = 'a'": "(((i8 > 1) and (i8 < 5)) or",
    "f > 1.5::FLOAT": "",
    "f BETWEEN 1::FLOAT AND 2::FLOAT AND NOT isnan(f)": "",
    "d = 'nan'::DOUBLE": "",
    "optb IS DISTINCT FROM true": "",
    "i8 > 2.5": "",
    "name ILIKE 'A%'": "",
    "coalesce(optb, false)": "",
    "time_ns::DATE = '2026-01-01'": "",
}


@in_one_test
@pytest.mark.parametrize("sql", HANDED)
def test_filter_of_duckdb_is_understood(sql: str, with_index: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Any] = []
    scanner = ArrowDataset.scanner

    def noted(self: Any, columns: Any = None, filter: Any = None, **options: Any) -> Any:
        handed.append(filter)
        return scanner(self, columns, filter, **options)

    monkeypatch.setattr(ArrowDataset, "scanner", noted)
    question = Question(sql, None, None, sql, None)
    assert keys(with_index.by_duckdb(question)).equals(keys(with_index.expected_of_duckdb(question)))
    (found,) = handed
    assert (found is None) == (not HANDED[sql])
    if found is not None:
        assert HANDED[sql] in str(found)
        predicate = with_index.streams["us"]._predicate(found)
        assert predicate is not None
        tree, names = arrow_tree(found, predicate._columns)
        assert "Unknown" not in repr(tree)
        assert names


# Times in several units, also inside of a struct

STAMPED = [
    root_of(f"struct Place {{ seen: {kind}; x: int; }} table Seen {{ place: Place; number: int; }} root_type Seen;")
    for kind in ("long", "ulong")
]
UNITS: dict[str, tuple[Literal["s", "ms", "us"], Fraction]] = {
    "a.fs": ("ms", Fraction(1)),
    "b.fs": ("us", Fraction(1000)),
    "c.fs": ("s", Fraction(1, 1000)),
    "d.fs": ("us", Fraction(1000)),
}
START = 1_790_000_000_000


@pytest.fixture(scope="module")
def stamped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    """Files whose times have other units, and their rows with times in nanoseconds."""
    folder = tmp_path_factory.mktemp("stamped")
    rows = []
    for number, (name, (unit, scale)) in enumerate(UNITS.items()):
        described = flatstream.Description(
            STAMPED[number % 2], checksum="crc32", time_field="place.seen", time_unit=unit
        )
        with flatstream.open(folder / name, "w", describe=described, checksum="crc32") as stream:
            records = RecordWriter(stream, STAMPED[number % 2])
            for i in range(300):
                milliseconds = START + i * 1000 + (i % 7 if unit != "s" else 0)
                seen = int(milliseconds * scale) + (i % 5 if unit == "us" else 0)
                place = None if i % 10 == 3 else {"seen": seen, "x": i}
                record = {"number": 1000 * number + i} | ({} if place is None else {"place": place})
                records.write_record(record)
                rows.append((1000 * number + i, None if place is None else int(seen * 10**6 / scale)))
        build_index(folder / name, ["place.seen", "number"])
    numbers, times = zip(*rows, strict=True)
    return folder, pa.table({"number": pa.array(numbers, pa.int32()), "seen": pa.array(times, pa.int64())})


@in_one_test(step=2)
@pytest.mark.parametrize("times", ["timestamp", "ns", "us", "ms", "s"])
@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">=", "in"])
@pytest.mark.parametrize("offset_us", [0, 1_002_003, 150_000_000, 299_000_001] if EVERYTHING else [0, 1_002_003])
def test_times_of_several_units_are_compared_as_the_column_shows_them(
    times: Any, sign: str, offset_us: int, stamped: tuple[Path, pa.Table]
) -> None:
    folder, rows = stamped
    dataset = flatstream.dataset(folder, times=times, threads=1)
    unit = "us" if times == "timestamp" else times
    assert dataset.arrow_schema.field("place").type.field("seen").type == pa.timestamp(unit, "UTC")
    step = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}[unit]
    shown = pa.array([None if value is None else value // step * step for value in rows["seen"].to_pylist()])
    moment = START * 1000 + offset_us
    literal = pa.scalar(moment, pa.timestamp("us", "UTC"))
    column = pc.field("place", "seen")
    where = column.isin(pa.array([literal], pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC"), safe=False))
    compared = moment * 1000 // step * step
    if sign != "in":
        where = OPERATORS[sign](column, literal)
        compared = moment * 1000
    expected = {
        number
        for number, value in zip(rows["number"].to_pylist(), shown.to_pylist(), strict=True)
        if value is not None and OPERATORS["==" if sign == "in" else sign](value, compared)
    }
    found = dataset.columns(["number"], where)["number"].to_pylist()
    assert set(found) == expected
    assert len(found) == len(expected)
    # Conditions are about the field itself, however it is shown.
    time = datetime.fromtimestamp(START // 1000, UTC) + timedelta(microseconds=offset_us)
    condition = ("place.seen", sign, [time] if sign == "in" else time)
    exact = {
        number
        for number, value in zip(rows["number"].to_pylist(), rows["seen"].to_pylist(), strict=True)
        if value is not None and OPERATORS["==" if sign == "in" else sign](value, moment * 1000)
    }
    assert set(dataset.columns(["number"], condition)["number"].to_pylist()) == exact
    frame = pl.DataFrame({"number": rows["number"], "seen": pl.Series(shown, dtype=pl.Int64)}).with_columns(
        (pl.col("seen") // step).cast(pl.Datetime(cast(Any, unit if unit != "s" else "ms"), "UTC"))
    )
    if sign != "in" and unit != "s":
        by_polars = OPERATORS[sign](pl.col("seen"), time)
        asked = OPERATORS[sign](pl.col("place").struct.field("seen"), time)
        assert sorted(dataset.scan().filter(asked).select("number").collect()["number"]) == sorted(
            frame.filter(by_polars)["number"]
        )


# Splits, and other doors to the same rows


@in_one_test
@pytest.mark.parametrize("number", range(0, len(QUESTIONS), 1 if EVERYTHING else 9))
def test_splits_of_a_question_have_the_same_rows(number: int, with_index: Asked) -> None:
    question = QUESTIONS[number]
    where = (question.arrow, question.polars)[number % 2]
    dataset = with_index.streams["ns"]
    parts = [
        batch
        for split in dataset.splits(3, where=where)
        for batch in flatstream.read_split(pickle.loads(pickle.dumps(split)), KEYS.names, where)
    ]
    schema = dataset.columns(KEYS.names, limit=0).schema
    assert keys(pa.Table.from_batches(parts, schema)).equals(keys(with_index.by_batches(where)))
    if question.conditions is not None:
        numbers = [record.i32 for record in dataset.records(question.conditions)]
        assert numbers == dataset.columns(["i32"], question.conditions)["i32"].to_pylist()

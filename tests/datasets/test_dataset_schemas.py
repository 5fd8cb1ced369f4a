"""Files whose schemas differ as one table, and files that do not say what they hold."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import RecordWriter, Schema
from support.dataset_files import write_records

pyarrow = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")


def schema_of(text: str) -> Schema:
    return Schema.from_fbs(text=f"{text} root_type T;")


def two(folder: Path, one: tuple[str, list[Any]], other: tuple[str, list[Any]], **options: Any) -> Any:
    """A dataset of two files, each with a schema and records."""
    paths = [
        write_records(folder / f"{name}.fs", schema_of(text), records)
        for name, (text, records) in (("a", one), ("b", other))
    ]
    return flatstream.dataset(paths, **options)


def test_a_field_that_a_file_lacks_is_null_there(tmp_path: Path) -> None:
    found = two(
        tmp_path,
        ("table T { x: int; }", [{"x": 1}]),
        (
            """table In { z: int; } struct P { q: float; } enum E: byte { e }
            table T { x: int; s: string; l: [int]; i: In; p: P; e: E; b: bool; }""",
            [{"x": 2, "s": "s", "l": [1], "i": {"z": 3}, "p": {"q": 0.5}, "e": "e", "b": True}],
        ),
    )
    empty = {"x": 1, "s": None, "l": None, "i": None, "p": None, "e": None, "b": None}
    full = {"x": 2, "s": "s", "l": [1], "i": {"z": 3}, "p": {"q": 0.5}, "e": "e", "b": True}
    assert found.columns().to_pylist() == [empty, full]
    assert [field.nullable for field in found.arrow_schema] == [False] + [True] * 6
    assert found.columns(["i.z", "s"]).to_pylist() == [{"i.z": None, "s": None}, {"i.z": 3, "s": "s"}]
    assert found.count(("s", "startswith", "s")) == 1
    assert found.columns(["x"], pc.field("s").is_null()).to_pylist() == [{"x": 1}]
    with pytest.raises(KeyError, match="no field 'y' in any file of the dataset: there are x, s"):
        found.columns(["y"])


WIDER = [
    ("byte", -1, "long", 2**40, "int64"),
    ("ubyte", 255, "ulong", 2**63, "uint64"),
    ("uint", 2**32 - 1, "int", -1, "int64"),
    ("ubyte", 255, "byte", -1, "int16"),
    ("float", 0.1, "double", 0.1, "double"),
]


@pytest.mark.parametrize(("one", "first", "other", "second", "made"), WIDER)
def test_numbers_become_those_of_the_type_that_holds_both(
    tmp_path: Path, one: str, first: Any, other: str, second: Any, made: str
) -> None:
    # A vector of ubyte is binary.
    lists = one != "ubyte"
    texts = [f"table T {{ x: {kind}; {f'l: [{kind}];' if lists else ''} }}" for kind in (one, other)]

    def record(value: Any, count: int) -> dict[str, Any]:
        return {"x": value} | ({"l": [value] * count} if lists else {})

    def null(value: Any) -> dict[str, Any]:
        return {"x": value} | ({"l": None} if lists else {})

    found = two(tmp_path, (texts[0], [record(first, 2), {}]), (texts[1], [record(second, 1), {}]))
    assert str(found.arrow_schema.field("x").type) == made
    wide = struct.unpack("f", struct.pack("f", first))[0] if one == "float" else first
    assert found.columns().to_pylist() == [record(wide, 2), null(0), record(second, 1), null(0)]
    assert found.count(("x", "==", second)) == 1


CONFLICTS = [
    ("ulong", "int"),
    ("int", "double"),
    ("string", "int"),
    ("[int]", "int"),
    ("[string]", "[int]"),
    ("bool", "ubyte"),
]


@pytest.mark.parametrize(("one", "other"), CONFLICTS)
def test_types_that_no_type_holds_are_an_error_that_names_both_files(tmp_path: Path, one: str, other: str) -> None:
    found = two(tmp_path, (f"table T {{ x: {one}; y: int; }}", []), (f"table T {{ x: {other}; y: int; }}", []))
    with pytest.raises(TypeError, match=r"the field 'x(\[\])?' is .*a\.fs and .*b\.fs: no type holds both"):
        found.columns()
    # Other columns can be read.
    assert found.columns(["y"]).num_rows == 0


def test_fields_that_agree_are_asked_for_beside_one_of_which_types_differ(tmp_path: Path) -> None:
    found = two(
        tmp_path,
        ("table T { x: string; y: int; z: int; }", [{"y": 1, "z": 7}, {"y": 2}]),
        ("table T { x: int; y: short; w: int; }", [{"y": 2, "w": 8}, {"y": 3}]),
    )
    for where in (
        ("y", "==", 2),
        pc.field("y") == 2,
        pc.field("y") + 1 == 3,
        (pc.field("frame") + 0 >= 0, ("y", "==", 2)),
    ):
        assert found.columns(["z", "w"], where).to_pylist() == [{"z": 0, "w": None}, {"z": None, "w": 8}]
        assert found.count(where) == 2
    for where in (("x", "==", 2), pc.field("x") == 2, pc.field(1) == 2):
        with pytest.raises(TypeError, match=r"the field 'x' is .*: no type holds both"):
            found.count(where)
    with pytest.raises(TypeError, match=r"the field 'x' is .*: no type holds both"):
        found.count([("y", "==", 2), ("nothing", "==", 2)])


def test_structs_and_tables_are_unified_inside(tmp_path: Path) -> None:
    found = two(
        tmp_path,
        ("table In { a: int; } table T { i: In; l: [In]; }", [{"i": {"a": 1}, "l": [{"a": 2}]}, {}]),
        (
            "table In { a: long; b: string; } table T { i: In; l: [In]; }",
            [{"i": {"a": 2**40, "b": "b"}, "l": [{"b": "c"}]}],
        ),
    )
    assert found.columns().to_pylist() == [
        {"i": {"a": 1, "b": None}, "l": [{"a": 2, "b": None}]},
        {"i": None, "l": None},
        {"i": {"a": 2**40, "b": "b"}, "l": [{"a": 0, "b": "c"}]},
    ]
    assert found.columns(["i.a"]).column(0).to_pylist() == [1, None, 2**40]


def test_names_of_enums_are_those_of_all_files(tmp_path: Path) -> None:
    text = "enum E: ubyte { %s } table In { e: E; } table T { e: E; l: [E]; i: In; }"
    found = two(
        tmp_path,
        (text % "a, b", [{"e": "b", "l": ["a", "b"], "i": {"e": "b"}}, {"e": 9}]),
        (text % "z = 9, b = 1, a = 0", [{"e": "z", "l": ["z"]}]),
    )
    rows = found.columns()
    assert rows.to_pylist() == [
        {"e": "b", "l": ["a", "b"], "i": {"e": "b"}},
        {"e": "9", "l": None, "i": None},
        {"e": "z", "l": ["z"], "i": None},
    ]
    labels = [chunk.dictionary.to_pylist()[:3] for chunk in rows.column("e").chunks]
    assert labels[0] == labels[1] == ["a", "b", "z"]
    assert found.columns(["e"], ("e", "==", "z")).to_pylist() == [{"e": "z"}]
    assert found.columns(["e"], pc.field("e") == "b").to_pylist() == [{"e": "b"}]


def test_times_of_files_become_those_of_the_finest_unit(tmp_path: Path) -> None:
    paths = [
        write_records(
            tmp_path / "a.fs", schema_of("table T { at: int; }"), [{"at": 5}], time_field="at", time_unit="s"
        ),
        write_records(
            tmp_path / "b.fs", schema_of("table T { at: long; }"), [{"at": 7}], time_field="at", time_unit="us"
        ),
    ]
    found = flatstream.dataset(paths)
    assert found.arrow_schema.field("at").type == pyarrow.timestamp("us", "UTC")
    assert found.columns().column(0).cast(pyarrow.int64()).to_pylist() == [5_000_000, 7]
    assert found.time_range == ("at", "us", 7, 5_000_000)
    assert flatstream.dataset(paths, times="number").columns().to_pylist() == [{"at": 5}, {"at": 7}]
    assert found.files.column("first_time").to_pylist() == [None, None]


@pytest.mark.parametrize("is_first", [False, True])
def test_a_table_that_was_given_its_first_field_later_has_null_in_it_before(tmp_path: Path, is_first: bool) -> None:
    rest = "table T { x: int; e: E; v: [E]; }"
    old = ("table E {} " + rest, [{"x": 0}, {"x": 1, "e": {}, "v": [{}, {}]}])
    new = ("table E { q: int; } " + rest, [{"x": 2}, {"x": 3, "e": {"q": 7}, "v": [{"q": 8}]}])
    found = two(tmp_path, *((old, new) if is_first else (new, old)))
    rows = sorted(found.columns().to_pylist(), key=lambda row: row["x"])
    assert rows == [
        {"x": 0, "e": None, "v": None},
        {"x": 1, "e": {"q": None}, "v": [{"q": None}, {"q": None}]},
        {"x": 2, "e": None, "v": None},
        {"x": 3, "e": {"q": 7}, "v": [{"q": 8}]},
    ]
    e = pc.field("e")
    for where, expected in (
        (e.is_null(), {0, 2}),
        (e.is_valid() | (pc.field("x") == 0), {0, 1, 3}),
        (pc.field("e", "q") == 7, {3}),
        (("e.q", ">", 0), {3}),
        (pc.field("e", "q").is_null() & e.is_valid(), {1}),
    ):
        assert {row["x"] for row in found.columns(["x"], where).to_pylist()} == expected
        assert {record.x for record in found.records(where)} == expected
    for mistake in ("table E {} table T { x: int; e: bool; }", "table T { e: [int]; }"):
        with pytest.raises(TypeError, match="the field 'e' is"):
            _ = two(tmp_path, (mistake, []), new).arrow_schema


@pytest.mark.parametrize("is_indexed", [False, True])
def test_times_as_numbers_are_compared_as_they_are_stored(tmp_path: Path, is_indexed: bool) -> None:
    polars = pytest.importorskip("polars")
    begin = 1_700_000_000
    pad = "x" * 300
    for unit, step in (("s", 1), ("us", 10**6), ("ns", 10**9)):
        rows = [{"at": (begin + second) * step, "pad": pad} for second in range(400)]
        schema = schema_of("table T { at: long; pad: string; }")
        path = write_records(tmp_path / f"{unit}.fs", schema, rows, time_field="at", time_unit=unit)
        if is_indexed:
            flatstream.build_index(path, ["at"])
    found = flatstream.dataset(tmp_path, times="number")
    rows = found.columns(["at"])
    stored = rows.column(0).to_pylist()
    number = (begin + 100) * 10**6
    many = [(begin + second) * 10**6 for second in range(300)]
    at, column = pc.field("at"), polars.col("at")
    for expected, wheres in (
        ([each for each in stored if each < number], [("at", "<", number), at < number, column < number]),
        ([each for each in stored if each >= number], [("at", ">=", number), ~(at < number), column >= number]),
        ([number], [("at", "==", number), ("at", number, number + 1), at == number, column.is_in([number])]),
        (many, [("at", "in", many), at.isin(many), column.is_in(many)]),
    ):
        for where in wheres:
            assert found.columns(["at"], where).column(0).to_pylist() == expected
            assert [record.at for record in found.records(where)] == expected
    # A time is one in each file, as it counts.
    time = datetime.fromtimestamp(begin + 100, UTC)
    assert found.count(("at", "<", time)) == 300
    assert found.count([("at", ">=", time), ("at", "<", number)]) == 300
    # Expressions mean what their libraries say: polars compares numbers with microseconds, and pyarrow not at all.
    for text in (column < time, column < polars.lit(time).cast(polars.Datetime("ns", "UTC"))):
        assert found.count(text) == polars.DataFrame(rows).filter(text).height
    with pytest.raises(pyarrow.ArrowNotImplementedError):
        found.count(at < time)


def test_a_field_that_is_the_time_in_one_file_only_is_an_error(tmp_path: Path) -> None:
    one = write_records(tmp_path / "a.fs", schema_of("table T { time_ns: long; }"), [])
    other = write_records(
        tmp_path / "b.fs", schema_of("table T { time_ns: long; time_ms: long; timestamp_s: long; }"), []
    )
    with pytest.raises(TypeError, match="only one of them is the time of its messages: times='number'"):
        _ = flatstream.dataset([one, other]).arrow_schema
    assert flatstream.dataset([one, other], times="number").arrow_schema.names == ["time_ns", "time_ms", "timestamp_s"]


# Tables


MANY: Any = Schema.from_fbs(
    text="table A { x: int; } table B { y: int; } root_type A; file_identifier 'AAAA';".replace("'", '"')
)


def write_two_tables(path: Path) -> Path:
    other: Any = Schema.from_fbs(text='table B { y: int; } root_type B; file_identifier "BBBB";')
    description = flatstream.Description([MANY.root, other.root])
    with flatstream.open(path, "w", checksum="crc32", describe=description) as stream:
        one, two_ = RecordWriter(stream, MANY.root), RecordWriter(stream, other.root)
        for number in range(3):
            one.write(x=number)
            two_.write(y=10 * number)
    return path


def test_a_table_of_several_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = write_two_tables(tmp_path / "a.fs")
    assert flatstream.dataset(path, "A").columns(frame=True).to_pylist() == [
        {"x": number, "frame": 2 * number} for number in range(3)
    ]
    found = flatstream.dataset(path, "BBBB")
    assert found.columns().to_pylist() == [{"y": 0}, {"y": 10}, {"y": 20}]
    assert [record.y for record in found.records(("y", ">", 0))] == [10, 20]
    with pytest.raises(ValueError, match=r"a\.fs: the stream has messages of several tables \(A, B\)"):
        flatstream.dataset(path).count()
    with pytest.raises(LookupError, match="no file of the dataset has messages of a table 'C'"):
        flatstream.dataset(path, "C").count()


def test_files_without_the_table_that_is_asked_for_give_no_rows(tmp_path: Path) -> None:
    write_two_tables(tmp_path / "a.fs")
    write_records(tmp_path / "b.fs", schema_of("table T { z: int; }"), [{"z": 1}])
    found = flatstream.dataset(tmp_path, "A")
    assert found.count() == 3
    assert found.files.column("table").to_pylist() == ["A", None]
    with pytest.raises(ValueError, match=r"several tables"):
        flatstream.dataset(tmp_path).count()
    (tmp_path / "a.fs").unlink()
    write_records(tmp_path / "c.fs", Schema.from_fbs(text="table U { z: int; } root_type U;"), [{"z": 1}])
    with pytest.raises(ValueError, match=r"b\.fs are of the table T, and those of .*c\.fs of U: pass"):
        flatstream.dataset(tmp_path).count()


def test_files_that_do_not_describe_their_messages_need_a_schema(tmp_path: Path) -> None:
    schema = schema_of("table T { time_ns: long; x: int; }")
    plain = write_records(tmp_path / "a.fs", schema, [{"x": 1}], describe=None)
    described = write_records(tmp_path / "b.fs", schema_of("table T { time_ns: long; x: int; y: int; }"), [{"x": 2}])
    with pytest.raises(ValueError, match=r"a\.fs: the file does not say of which table .*pass table= or schema="):
        flatstream.dataset(tmp_path).count()
    # A name chooses among described tables, and says nothing of these messages.
    with pytest.raises(ValueError, match=r"a\.fs: .*: pass schema= beside table='T', as in flatstream.dataset\("):
        flatstream.dataset(tmp_path, "T").count()
    (tmp_path / "t.bfbs").write_bytes(schema.to_bytes())
    for options in (
        {"schema": tmp_path / "t.bfbs"},
        {"schema": schema},
        {"table": schema.root},
        {"table": "T", "schema": schema},
    ):
        found = flatstream.dataset([plain, described], **options)
        assert found.columns(["x", "y"]).to_pylist() == [{"x": 1, "y": None}, {"x": 2, "y": 0}]
        assert found.arrow_schema.field("time_ns").type == pyarrow.timestamp("ns", "UTC")


def test_empty_files_say_nothing_of_columns(tmp_path: Path) -> None:
    (tmp_path / "a.fs").write_bytes(b"")
    with pytest.raises(ValueError, match=r"which columns there are, because .*a\.fs is empty: pass table= or schema="):
        flatstream.dataset(tmp_path).count()
    (tmp_path / "b.fs").write_bytes(b"")
    with pytest.raises(ValueError, match=r"because all 2 files, from .*a\.fs on, are empty: pass table= or schema="):
        flatstream.dataset(tmp_path).count()
    schema = schema_of("table T { x: int; }")
    assert flatstream.dataset(tmp_path, schema.root).columns().schema.names == ["x"]
    write_records(tmp_path / "b.fs", schema, [{"x": 1}])
    found = flatstream.dataset(tmp_path)
    assert found.columns().to_pylist() == [{"x": 1}]
    assert found.files.column("checksum").to_pylist() == [None, "crc32"]

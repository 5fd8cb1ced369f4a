"""``--fields`` and tables of columns, beside whole messages: fields of every type, and tables of every kind."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import RecordWriter, Schema
from support.cli import Result, call_flatstream

TEXT = """
namespace any;
enum Color : byte { Red = -1, Green, Blue }
enum Marks : ulong (bit_flags) { A, B, C = 63 }
struct Point { x:float; y:double; z:[int:2]; c:Color; }
table Inner { a:int; s:string; deep:Inner; marks:Marks; }
table Other { t:string; }
union Choice { Inner, Other, Text:string }
table Event {
  time_ns:ulong; f:float; s:string; point:Point; marks:Marks; points:[Point]; inner:Inner; inners:[Inner];
  choice:Choice; bytes:[ubyte]; nested:[ubyte] (nested_flatbuffer: "Inner"); old:int (deprecated); list:[double];
}
root_type Event;
file_identifier "ANY1";
"""

INNER = {"a": 1, "deep": {"s": "", "deep": {"marks": 2**63 + 2}}}
POINT = {"x": 0.1, "y": 0.1, "z": [1, 2], "c": "Green"}
MESSAGES: tuple[dict[str, Any], ...] = (
    {},
    {"point": POINT, "points": [POINT, POINT], "marks": 2**63 + 2, "f": 0.1},
    {"inner": INNER, "inners": [{}, INNER], "bytes": b"\x00\xff", "s": ""},
    {"choice_type": "Inner", "choice": INNER},
    {"choice_type": "Other", "choice": {"t": "x"}, "f": math.nan, "list": [math.inf, 1.0]},
    {"choice_type": "Text", "choice": 'a, "b"'},
)
NAMES = ("time_ns", "f", "s", "point", "marks", "points", "inner", "inners", "choice", "choice_type", "bytes", "list")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fields")
    schema = Schema.from_fbs(text=TEXT)
    assert schema.root is not None
    for name, description in (("events.fs", schema), ("plain.fs", None)):
        with flatstream.open(made / name, "w", checksum="crc32", describe=description) as writer:
            records = RecordWriter(writer, schema.root, file_identifier=True)
            for number, message in enumerate(MESSAGES):
                records.write(time_ns=number, **message)
    (made / "any.bfbs").write_bytes(schema.to_bytes())
    (made / "wider.bfbs").write_bytes(Schema.from_fbs(text=TEXT.replace("table Other { t:string; }", WIDER)).to_bytes())
    (made / "bad.bfbs").write_bytes(Schema.from_fbs(text=TEXT.replace("f:float", "f:int")).to_bytes())
    (made / "rootless.bfbs").write_bytes(Schema.from_fbs(text=TEXT.split("root_type")[0]).to_bytes())
    return made


WIDER = "table Other { t:string; u:int; }"


@pytest.fixture
def call(folder: Path) -> Any:
    return lambda *args, **options: call_flatstream(*args, cwd=folder, **options)


def rows(result: Result) -> list[Any]:
    assert (result.status, result.errors) == (0, "")
    return [json.loads(line) for line in result.lines]


def test_fields_are_those_of_whole_messages(call: Any) -> None:
    whole = rows(call("cat", "events.fs"))
    assert whole[1]["marks"] == "B C"
    assert whole[2]["inner"]["deep"]["deep"]["marks"] == "B C"
    for name in NAMES:
        assert [row[name] for row in rows(call("cat", "events.fs", "--fields", name))] == [
            pytest.approx(row.get(name)) if name == "time_ns" else row.get(name) for row in whole
        ], name
    # Together, in this order, and by several options.
    for options in (["--fields", ",".join(NAMES)], [part for name in NAMES for part in ("--fields", name)]):
        found = rows(call("cat", "events.fs", *options))
        assert [list(row) for row in found] == [list(NAMES)] * len(MESSAGES)
        assert [{name: value for name, value in row.items() if value is not None} for row in found] == whole
    paths = "inner.deep.deep,choice.Inner.a,choice.Other.t,point.x,inner.deep.s"
    assert [list(row.values()) for row in rows(call("cat", "events.fs", "--fields", paths))] == [
        [None, None, None, None, None],
        [None, None, None, 0.1, None],
        [{"a": 0, "marks": "B C"}, None, None, None, ""],
        [None, 1, None, None, None],
        [None, None, "x", None, None],
        [None, None, None, None, None],
    ]


def test_csv_and_tables_lose_nothing(call: Any) -> None:
    whole = rows(call("cat", "events.fs"))
    result = call("cat", "events.fs", "--format", "csv")
    header, *lines = csv.reader(result.output.splitlines())
    assert "old" not in header
    cells = [dict(zip(header, line, strict=True)) for line in lines]
    assert [cell["marks"] for cell in cells] == ["0", "B C", "0", "0", "0", "0"]
    assert [cell["choice_type"] for cell in cells] == [row["choice_type"] for row in whole]
    for name in ("inner", "inners", "points"):
        assert [json.loads(cell[name]) if cell[name] else None for cell in cells] == [row.get(name) for row in whole]
    table = call("cat", "events.fs", "--format", "table", "--fields", "marks,choice")
    inner = json.dumps(whole[3]["choice"], separators=(",", ":"))
    assert [line.split(None, 1) for line in table.lines[4:6]] == [["0", inner], ["0", '{"t":"x"}']]


def test_a_deprecated_field_is_none(call: Any) -> None:
    for options in (["--fields", "old"], ["--where", "old == 1"]):
        result = call("cat", "events.fs", *options)
        assert result.status == 2
        assert "has no field" in result.errors


def test_any_number_of_messages_may_be_asked_for(call: Any) -> None:
    for command in ("head", "tail", "cat"):
        assert len(rows(call(command, "events.fs", "-n", "9" * 30))) == len(MESSAGES)


def test_a_schema_that_the_description_contradicts_is_wrong_usage(call: Any, tmp_path: Path) -> None:
    reading = (["head"], ["tail"], ["verify"], ["info"], ["convert", "--to", "jsonl"])
    for command, *options in reading:
        out = [str(tmp_path / "new.jsonl")] if options else []
        result = call(command, "events.fs", *out, *options, "--schema", "bad.bfbs")
        assert (result.status, result.output) == (2, ""), command
        assert "not the one that the stream describes: any.Event.f: the type was float, is int" in result.errors
    # One into which it has evolved, one that it has evolved from, and the same.
    for schema in ("wider.bfbs", "any.bfbs"):
        assert len(rows(call("cat", "events.fs", "--schema", schema))) == len(MESSAGES)
    result = call("cat", "events.fs", "--schema", "any.bfbs", "--table", "Inner")
    assert (result.status, result.output) == (2, "")
    assert "the given table is any.Inner, and the stream says that its messages are any.Event" in result.errors
    assert call("cat", "events.fs", "--table", "Inner").status == 2
    # Nothing is known of what a stream without a description has.
    assert call("cat", "plain.fs", "--schema", "any.bfbs", "--table", "Event").status == 0


def test_tables_without_a_file_identifier_are_read_and_verified(call: Any) -> None:
    for command in ("cat", "verify"):
        result = call(command, "plain.fs", "--schema", "rootless.bfbs", "--table", "Event")
        assert (result.status, result.errors) == (0, ""), command


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("head", "-5", "events.fs"), "the number of messages is -n 5"),
        (("tail", "--limit", "5", "events.fs"), "the number of messages is -n N"),
        (("tail", "-f", "events.fs"), "messages as they are written: flatstream follow"),
        (("merge", "events.fs", "-O", "x"), "the new file is -o FILE"),
    ],
)
def test_options_of_similar_programs_are_hinted_at(call: Any, arguments: tuple[str, ...], hint: str) -> None:
    result = call(*arguments)
    assert result.status == 2
    assert hint in result.errors
    assert result.errors.count("\n") == 1


def test_field_that_an_input_lacks_is_null_where_another_has_it(tmp_path: Path) -> None:
    new = "struct Cpu { user:int; system:int; } table Sample { time_ns:ulong; host:string; cpu:Cpu; } root_type Sample;"
    old = "table Sample { time_ns:ulong; } root_type Sample;"
    for name, text, fields in (("a.fs", new, {"host": "x", "cpu": {"user": 1, "system": 2}}), ("b.fs", old, {})):
        table = Schema.from_fbs(text=text).root
        assert table is not None
        with flatstream.open(tmp_path / name, "w", describe=table) as writer:
            RecordWriter(writer, table).write_records({"time_ns": number, **fields} for number in (1, 2))

    def call(*arguments: str) -> Result:
        return call_flatstream(*arguments, cwd=tmp_path)

    for command in ("cat", "head", "tail"):
        found = rows(call(command, "b.fs", "a.fs", "--fields", "host,time_ns,cpu.user"))
        assert [list(row.values()) for row in found] == [[None, 1, None], [None, 2, None], ["x", 1, 1], ["x", 2, 1]]
        assert list(found[0]) == ["host", "time_ns", "cpu.user"]
    # In CSV, a struct has a column for each of its fields. And an input may lack all fields.
    lines = call("cat", "b.fs", "a.fs", "--format", "csv", "--fields", "cpu,host").lines
    assert lines == ["cpu.user,cpu.system,host", ",,", ",,", "1,2,x", "1,2,x"]
    # No input has it: nothing is shown.
    wrong = call("cat", "a.fs", "b.fs", "--fields", "time_ns,hots")
    assert (wrong.status, wrong.output) == (2, "")
    assert "--fields: no input has a field hots; Sample has host" in wrong.errors
    # Of a condition, the input is named, and the others are shown.
    wrong = call("cat", "b.fs", "a.fs", "--where", "host == 'x'")
    assert (wrong.status, len(wrong.lines)) == (2, 2)
    assert wrong.errors.startswith("flatstream cat: b.fs: --where: ")
    assert call("cat", "b.fs", "--fields", "host").status == 2


def test_number_for_a_time_in_another_unit_is_doubted_once(tmp_path: Path) -> None:
    table = Schema.from_fbs(text="table Sample { time_ns:ulong; } root_type Sample;").root
    assert table is not None
    for name in ("a.fs", "b.fs"):
        with flatstream.open(tmp_path / name, "w", describe=table) as writer:
            RecordWriter(writer, table).write(time_ns=1_795_957_200 * 10**9)
    result = call_flatstream("cat", "a.fs", "b.fs", "--since", "1795957200", cwd=tmp_path)
    assert (result.status, len(result.lines)) == (0, 2)
    assert result.errors == (
        "flatstream cat: --since 1795957200 is 1970-01-01T00:00:01.795957200Z, because time_ns counts in ns; in s it "
        "would be 2026-11-29T13:00:00Z\n"
    )
    for number in ("3", str(1_795_957_200 * 10**9)):
        assert call_flatstream("cat", "a.fs", "--since", number, cwd=tmp_path).errors == ""

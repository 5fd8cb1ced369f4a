"""Streams of objects as files and journals, and what the command line shows of them."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import flatstream
from flatstream import Description, MessagePackSerializer, StreamReader, StreamWriter, ValidationFailedError
from flatstream.cli._status import DAMAGED, USAGE
from flatstream.journal import JournalReader, JournalWriter, ThreadedWriter
from flatstream.tools import convert, info, verify
from flatstream.tools._objects import csv_cell, json_text, value_at
from support.cli import call_flatstream
from support.columns import LEVEL1
from support.extent import in_one_test
from support.serializers import Text

ITEMS: list[Any] = [{"n": number, "where": {"host": f"h{number % 3}"}, "load": number / 4} for number in range(20)]


def make(path: Path, serializer: Any, items: list[Any] | None = None, **options: Any) -> Path:
    options.setdefault("describe", True)
    options.setdefault("checksum", "crc32")
    with flatstream.open(path, "w", serializer=serializer, **options) as writer:
        writer.write_batch(ITEMS if items is None else items)
    return path


# open


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_file_is_appended_to_with_its_own_serializer(serializer: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", serializer)
    every: list[dict[str, Any]] = [{}, {"serializer": serializer}, {"describe": True}]
    for options in [*every, {"describe": True, "serializer": serializer}]:
        with flatstream.open(path, "a", **options) as writer:
            assert writer.serializer is not None
            assert writer.serializer.name == serializer
            writer.write("more")
    with flatstream.open(path) as reader:
        assert list(reader.objects()) == ITEMS + ["more"] * 4
        assert reader.description is not None
        assert reader.description.serializer == serializer


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"serializer": "msgpack"}, "names the serializer 'json', and 'msgpack' is given"),
    ({"serializer": Text()}, "names the serializer 'json', and 'text' is given"),
    ({"serializer": "msgpack", "describe": True}, "names the serializer 'json', and 'msgpack' is given"),
    ({"describe": Description(serializer="msgpack")}, "their serializer differs"),
    ({"describe": LEVEL1}, "schemas and roots and serializer differ"),
    ({"describe": LEVEL1, "serializer": "json"}, "says that the messages are FlatBuffers"),
    ({"serializer": "pickle"}, "no serializer is called 'pickle'"),
]


@in_one_test
@pytest.mark.parametrize(("options", "text"), REFUSED)
@pytest.mark.parametrize("recover", [False, True])
def test_append_with_a_contradiction_leaves_the_file_as_it_is(
    options: dict[str, Any], text: str, recover: bool, tmp_path: Path
) -> None:
    path = make(tmp_path / "a.fs", "json")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=text):
        flatstream.open(path, "a", recover=recover, **options)
    assert path.read_bytes() == before


def test_new_file_at_a_path_for_appending_gets_the_description(tmp_path: Path) -> None:
    path = tmp_path / "new.fs"
    with flatstream.open(path, "a", describe=True, serializer="json") as writer:
        writer.write(ITEMS[0])
    with flatstream.open(path) as reader:
        assert list(reader.objects()) == ITEMS[:1]
    # Without a description, nothing contradicts.
    path = make(tmp_path / "plain.fs", "json", describe=None)
    with flatstream.open(path, "a", serializer="json") as writer:
        writer.write(5)
    with flatstream.open(path) as reader:
        assert list(reader.objects("json")) == [*ITEMS, 5]


def test_serializer_is_an_argument_of_writers(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", "json")
    with pytest.raises(ValueError, match=r"serializer needs the mode 'w', 'x' or 'a', got 'r': see .*objects"):
        flatstream.open(path, serializer="json")  # type: ignore[call-overload]


def test_followed_file_gives_objects_as_they_come(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", "json")
    with flatstream.open(path, follow=True) as reader, flatstream.open(path, "a") as writer:
        objects = reader.objects()
        assert [next(objects) for _ in ITEMS] == ITEMS
        writer.write("late")
        writer.flush()
        assert next(objects) == "late"


def test_damage_of_a_file_is_left_out_by_objects(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", "msgpack")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with flatstream.open(path, on_error="resync") as reader:
        assert list(reader.objects()) == ITEMS[:-1]
        assert reader.skipped == 1


# Journals


def test_journal_has_a_serializer(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, serializer="msgpack") as journal:
        journal.write_batch(ITEMS)
        journal.rotate()
        journal.write("second")
    # Of its own description.
    with JournalWriter(tmp_path) as journal:
        assert journal.serializer is not None
        journal.write("third")
    with JournalReader(tmp_path) as reader:
        assert list(reader.objects()) == [*ITEMS, "second", "third"]
        assert reader.position == len(ITEMS) + 2
    with pytest.raises(ValueError, match="another serializer"):
        JournalWriter(tmp_path, serializer="json")
    with pytest.raises(ValueError, match="another serializer"):
        JournalWriter(tmp_path, describe=LEVEL1)
    with JournalReader(tmp_path) as reader, pytest.raises(ValueError, match="'msgpack', and 'json' is given"):
        reader.objects("json")
    # The refused writers have let go of it.
    with JournalWriter(tmp_path) as journal:
        journal.write("fourth")
        assert journal.position == len(ITEMS) + 3


def test_journal_without_a_description_takes_a_serializer_each_time(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, serializer="json", describe=False) as journal:
        journal.write({"a": 1})
    with JournalReader(tmp_path) as reader, pytest.raises(ValueError, match="pass the serializer"):
        reader.objects()
    with JournalReader(tmp_path) as reader:
        assert list(reader.objects("json")) == [{"a": 1}]


def test_threaded_writer_makes_payloads_in_the_thread_that_puts() -> None:
    sink = io.BytesIO()
    with ThreadedWriter(StreamWriter(sink, serializer="json"), 100) as threaded:
        threaded.write({"a": 1})
        threaded.write_batch([2, "three"])
        with pytest.raises(TypeError):
            threaded.write(object())
    assert list(StreamReader(sink.getvalue()).objects("json")) == [{"a": 1}, 2, "three"]


# The command line


LINES = [json.dumps(item, separators=(",", ":")) for item in ITEMS]


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_commands_show_objects(serializer: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", serializer)
    for arguments, lines in [
        (["cat"], LINES),
        (["head", "-n", "3"], LINES[:3]),
        (["tail", "-n", "3"], LINES[-3:]),
        (["cat", "--every", "7"], LINES[::7]),
        (["head", "-n", "2", "--fields", "n,where.host,none"], [
            '{"n":0,"where.host":"h0","none":null}', '{"n":1,"where.host":"h1","none":null}'
        ]),
        (["head", "-n", "1", "--fields", "where", "--format", "csv"], ["where", '"{""host"":""h0""}"']),
        (["head", "-n", "2", "--fields", "n,load", "--format", "table"], ["n  load", "0   0.0", "1  0.25"]),
        (["head", "-n", "1", "--format", "table"], ["message", LINES[0]]),
    ]:  # fmt: skip
        result = call_flatstream(arguments[0], path, *arguments[1:])
        assert (result.status, result.lines, result.errors) == (0, lines, "")
    result = call_flatstream("head", "-n", "1", "--hex", path)
    assert result.lines[0].startswith('{"offset":')
    assert f"\n  serializer    {serializer}\n" in call_flatstream("info", path).output
    assert "identifiers" not in call_flatstream("info", path).output
    assert info(path).to_dict()["description"]["serializer"] == serializer


def test_commands_show_objects_of_compressed_files_pipes_and_journals(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", "json")
    packed = tmp_path / "b.fs.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with JournalWriter(tmp_path / "j", serializer="json") as journal:
        journal.write_batch(ITEMS)
    for one in (packed, tmp_path / "j"):
        assert call_flatstream("cat", one).lines == LINES
        assert call_flatstream("tail", "-n", "2", one).lines == LINES[-2:]
    assert call_flatstream("cat", "-", input=path.read_bytes()).lines == LINES


def test_what_is_no_object_is_told_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", describe=True, serializer="json", checksum="crc32") as writer:
        writer.write(1)
        writer.write_payload(b"{")
        writer.write(2)
    for command in ("cat", "tail"):
        result = call_flatstream(command, path)
        assert (result.lines, result.status) == (["1", "2"], DAMAGED)
        assert "9 bytes at offset" in result.errors


@in_one_test
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--where", "n > 3"], "--where is about the fields of a schema, and the messages are objects (json)"),
        (["--since", "5"], "--since is about the fields of a schema"),
        (["--format", "csv"], "CSV has columns, and objects may have any: say them with --fields"),
        (["--hex", "--fields", "n"], "--hex shows whole messages"),
    ],
)
def test_options_that_need_a_schema_say_so(options: list[str], text: str, tmp_path: Path) -> None:
    result = call_flatstream("cat", make(tmp_path / "a.fs", "json"), *options)
    assert result.status == USAGE
    assert text in " ".join(result.errors.split())


def test_unknown_serializer_is_shown_as_hex(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", Text(), ["abc"])
    assert json.loads(call_flatstream("cat", path).output)["hex"] == b"abc".hex()


def test_serializer_whose_library_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.fs", "msgpack")
    for name in ("msgspec", "msgspec.msgpack"):
        monkeypatch.setitem(sys.modules, name, None)
    result = call_flatstream("cat", path)
    assert result.status != 0
    assert "pip install 'flatstream[msgpack]'" in result.errors
    assert call_flatstream("cat", "--hex", path).status == 0


# convert


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_objects_become_json_lines_and_csv(serializer: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", serializer)
    report: Any = convert(path, tmp_path / "a.jsonl")
    assert report.messages == len(ITEMS)
    assert (tmp_path / "a.jsonl").read_text().splitlines() == LINES
    convert(path, tmp_path / "b.jsonl", fields=["where.host", "n"])
    assert (tmp_path / "b.jsonl").read_text().splitlines()[1] == '{"where.host":"h1","n":1}'
    convert(path, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[:2] == ['"n","where","load"', '0,"{""host"":""h0""}",0.0']
    convert(path, tmp_path / "b.csv", fields=["load", "where.host"])
    assert (tmp_path / "b.csv").read_text().splitlines()[1:3] == ['0.0,"h0"', '0.25,"h1"']
    # A stream keeps what it is.
    convert(path, tmp_path / "c.fs", to_checksum="xxhash64")
    with flatstream.open(tmp_path / "c.fs") as reader:
        assert list(reader.objects()) == ITEMS
    for kind in ("parquet", "fb"):
        with pytest.raises(
            ValueError, match=r"needs messages that are FlatBuffers, and those of the source are objects"
        ):
            convert(path, tmp_path / f"d.{kind}")
    result = call_flatstream("convert", path, "-", "--to", "jsonl")
    assert result.lines == LINES


def test_where_of_objects_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", "json")
    with pytest.raises(ValueError, match="where= is about the fields of a schema"):
        convert(path, tmp_path / "a.csv", where=("n", 1, 2))
    assert [each.name for each in tmp_path.iterdir()] == ["a.fs"]


def test_columns_of_csv_are_those_of_the_first_objects(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", "json", [{"a": 1}, {"b": None, "a": 'x"y'}, {}])
    convert(path, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == '"a","b"\n1,\n"x""y",\n,\n'
    path = make(tmp_path / "b.fs", "json", [{"a": 1}] * 1000 + [{"late": 1}])
    with pytest.raises(ValueError, match=r"message 1000 has 'late', which the first 1000 did not have: .* fields="):
        convert(path, tmp_path / "b.csv")
    convert(path, tmp_path / "b.csv", fields=["late"])
    assert (tmp_path / "b.csv").read_text().splitlines()[-1] == "1"
    path = make(tmp_path / "c.fs", "json", [{"a": 1}, [1, 2]])
    with pytest.raises(ValueError, match=r"message 1 has no names: \[1,2\]"):
        convert(path, tmp_path / "c.csv")
    path = make(tmp_path / "d.fs", "json", [])
    convert(path, tmp_path / "d.csv", fields=["a"])
    assert (tmp_path / "d.csv").read_text() == '"a"\n'


def test_damaged_object_fails_the_conversion_or_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", describe=True, serializer="json", checksum="crc32") as writer:
        writer.write_batch([1, 2])
        writer.write_payload(b"[")
        writer.write(3)
    with pytest.raises(ValidationFailedError):
        convert(path, tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()
    report: Any = convert(path, tmp_path / "a.jsonl", on_error="skip")
    assert (report.messages, report.skipped) == (3, 1)
    assert (tmp_path / "a.jsonl").read_text() == "1\n2\n3\n"


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_verify_loads_each_object(tmp_path: Path, serializer: str) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", describe=True, serializer=serializer, checksum="crc32") as writer:
        writer.write_batch([1, {"a": 2}])
    report = verify(path)
    assert (report.state, report.frames, report.serializer) == ("intact", 2, serializer)
    assert f"messages are objects ({serializer})" in call_flatstream("verify", path).output
    end = path.stat().st_size
    with flatstream.open(path, "a") as writer:
        writer.write_payload(b"\x9f\xc1")
        writer.write(3)
    for source, data in ((path, b""), ("-", path.read_bytes())):
        result = call_flatstream("verify", source, input=data)
        assert result.status == 1
        assert (
            f"10 bytes from offset {end} on, after 2 intact frames: {serializer} refused the payload" in result.output
        )
    with JournalWriter(tmp_path / "journal", serializer=serializer) as journal:
        journal.write({"a": 1})
        journal.write_payload(b"\xc1\x00")
    report = verify(tmp_path / "journal")
    assert (report.state, report.frames, report.serializer) == ("damaged", 1, serializer)


def test_plain_verify_needs_no_library_of_a_serializer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", describe=True, serializer="msgpack", checksum="crc32") as writer:
        writer.write(1)
    for name in ("msgspec", "msgspec.msgpack"):
        monkeypatch.setitem(sys.modules, name, None)
    report = verify(path)
    assert (report.state, report.frames, report.serializer) == ("intact", 1, None)
    assert report.unreadable is not None
    assert "msgspec" in report.unreadable


# Values that JSON does not have


@in_one_test
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\xff\x00", '"/wA="'),
        ({"a": [b"\xff"]}, '{"a":["/w=="]}'),
        (float("nan"), '"nan"'),
        ([float("inf"), 1.5], '["inf",1.5]'),
        (datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC), '"2026-01-31T00:00:00+00:00"'),
        ({1: "a", None: "b", False: "c"}, '{"1":"a","null":"b","false":"c"}'),
        ({b"\x00": 1}, '{"AA==":1}'),
        ({(1, 2): 3}, '{"[1,2]":3}'),
        (msgspec.msgpack.Ext(5, b"\x01"), '{"code":5,"data":"AQ=="}'),
        ("line\nbreak\u2028", '"line\\nbreak\u2028"'),
        (2**70, str(2**70)),
    ],
    ids=str,
)
def test_any_object_has_a_text_of_one_line(value: Any, text: str) -> None:
    assert json_text(value) == text
    assert "\n" not in json_text(value)
    json.loads(json_text(value))


def test_object_that_is_nested_too_deeply_is_refused() -> None:
    deep: Any = float("nan")
    for _ in range(sys.getrecursionlimit() * 2):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        json_text(deep)


def test_objects_of_messagepack_that_json_does_not_have_are_shown(tmp_path: Path) -> None:
    items = [{1: b"\xff"}, float("nan")]
    path = make(tmp_path / "a.fs", MessagePackSerializer(), items)
    assert call_flatstream("cat", path).lines == ['{"1":"/w=="}', '"nan"']
    deep: Any = float("nan")
    for _ in range(900):
        deep = [deep]
    path = make(tmp_path / "b.fs", "msgpack", [1, deep, 2])
    result = call_flatstream("cat", path)
    assert result.lines == ["1", "2"]
    assert "nested too deeply" in result.errors


@in_one_test
@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        ({"a": {"b": 1}}, "a.b", 1),
        ({"a.b": 2, "a": {"b": 1}}, "a.b", 2),
        ({"a": {"b.c": 3}}, "a.b.c", 3),
        ({"a": 1}, "a.b", None),
        ({"a": 1}, "b", None),
        ([1], "0", None),
        (5, "a", None),
        ({"": {"": 4}}, ".", 4),
    ],
)
def test_path_leads_into_dicts(value: Any, path: str, expected: Any) -> None:
    assert value_at(value, path) == expected


@in_one_test
@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("", '""'),
        (True, "true"),
        (1, "1"),
        (0.1, "0.1"),
        ('a"b', '"a""b"'),
        ([1], '"[1]"'),
        (b"\xff", '"/w=="'),
    ],
    ids=repr,
)
def test_cell_of_csv(value: Any, cell: str) -> None:
    assert csv_cell(value) == cell

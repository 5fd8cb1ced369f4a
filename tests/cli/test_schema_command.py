"""flatstream schema: as text, binary and JSON, from streams and files, and beside an older one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flatstream
from support.cli import call_flatstream, check_expected, run_flatstream
from support.cli_samples import SCHEMA, described, mixed_schemas, telemetry, write_events, write_mixed

OLD = """
namespace agent;
enum Color : ubyte { Red, Green }
struct Point { x:float; y:float; }
/// One sample.
table Event { time_ns:ulong; host:string (required); color:Color = Green; places:[Point]; }
root_type Event;
file_identifier "AGNT";
"""
NEWER = OLD.replace("places:[Point];", "places:[Point]; level:int = 3;")
BREAKING = OLD.replace("host:string (required)", "host:uint")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("old", OLD), ("newer", NEWER), ("breaking", BREAKING)):
        (tmp_path / f"{name}.fbs").write_text(text)
    write_events(tmp_path / "described.fs", 3, **described())
    write_events(tmp_path / "plain.fs", 3)
    return tmp_path


def test_schema_of_a_stream_is_that_of_its_description_in_each_form(folder):
    binary = call_flatstream("schema", "described.fs", "-f", "bfbs", cwd=folder)
    assert (binary.status, binary.data) == (0, SCHEMA.read_bytes())
    text = call_flatstream("schema", "described.fs", cwd=folder)
    assert text.output == telemetry().to_fbs()
    # What flatc makes of the text has the same types.
    made = flatstream.Schema.from_fbs(text=text.output)
    assert made.tables.keys() == telemetry().tables.keys()
    assert made.root is not None
    assert made.root.fields == telemetry().table("telemetry.Event").fields
    piped = run_flatstream("schema", "-", "--format", "bfbs", input=(folder / "described.fs").read_bytes())
    assert piped.data == SCHEMA.read_bytes()


def test_json_has_all_that_the_schema_says(folder):
    result = call_flatstream("schema", "old.fbs", "--format", "json", cwd=folder)
    check_expected("schema.json", result.output)
    event = json.loads(result.output)["tables"]["agent.Event"]
    assert event["documentation"] == ["One sample."]
    assert [field["type"] for field in event["fields"]] == ["ulong", "string", "Color", "[Point]"]


def test_schema_is_written_to_a_new_file(folder):
    assert call_flatstream("schema", "old.fbs", "-f", "bfbs", "-o", "old.bfbs", cwd=folder).status == 0
    assert flatstream.Schema.from_file(folder / "old.bfbs").file_identifier == "AGNT"
    again = call_flatstream("schema", "old.fbs", "-o", "old.bfbs", cwd=folder)
    assert (again.status, again.errors) == (4, "flatstream schema: old.bfbs: File exists\n")
    terminal = call_flatstream("schema", "old.fbs", "-f", "bfbs", cwd=folder, terminal=True)
    assert (terminal.status, terminal.data) == (2, b"")


@pytest.mark.parametrize(("new", "status"), [("newer.fbs", 0), ("breaking.fbs", 1), ("old.fbs", 0)])
def test_older_schema_is_compared(folder, new, status):
    result = call_flatstream("schema", new, "--check-against", "old.fbs", cwd=folder)
    assert result.status == status
    nothing = f"{new} can take the place of old.fbs: nothing breaks readers\n"
    assert (result.output == nothing) is (status == 0)
    found = json.loads(call_flatstream("schema", new, "--check-against", "old.fbs", "-f", "json", cwd=folder).output)
    assert [one["message"] for one in found] == [line.partition(": ")[2] for line in result.lines if status]
    assert all("host" in one["path"] for one in found)


def test_schema_that_a_file_does_not_have_or_that_is_wrong(folder):
    (folder / "wrong.fbs").write_text("table Event { x:nothing; }")
    (folder / "noise.bin").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(100)))
    for name, message in (
        ("plain.fs", "no schema (.fbs or .bfbs), and a stream that does not say its schema"),
        ("noise.bin", "no schema (.fbs or .bfbs), and no stream: it is a PNG file"),
        ("nothing.fs", "No such file or directory"),
        ("wrong.fbs", "nothing"),
    ):
        result = call_flatstream("schema", name, cwd=folder)
        assert (result.status, result.output) == (4, "")
        assert result.errors.startswith(f"flatstream schema: {name}: ")
        assert message in result.errors
    against = call_flatstream("schema", "old.fbs", "--check-against", "plain.fs", cwd=folder)
    assert (against.status, against.errors.split(":")[1]) == (4, " plain.fs")


def test_stream_with_several_schemas_needs_a_table(folder):
    write_mixed(folder / "mixed.fs", 10)
    several = "several schemas, of the tables mix.Temp, mix.Door: choose one by its table (--table)"
    rest = call_flatstream("schema", "mixed.fs", "old.fbs", "--json", cwd=folder)
    error, old = map(json.loads, rest.lines)
    assert (rest.status, error["status"], several in rest.errors, old["path"]) == (2, 2, True, "old.fbs")
    for arguments in (["mixed.fs"], ["old.fbs", "--check-against", "mixed.fs"]):
        result = call_flatstream("schema", *arguments, cwd=folder)
        assert (result.status, several in result.errors) == (2, True)
    door = call_flatstream("schema", "mixed.fs", "--table", "DOOR", cwd=folder)
    assert door.output == mixed_schemas()[1].to_fbs()
    compared = call_flatstream("schema", "mixed.fs", "--check-against", "mixed.fs", "--table", "Temp", cwd=folder)
    assert compared.status == 0


def test_schema_of_another_stream_reads_a_stream_without_one(folder):
    own = call_flatstream("head", "plain.fs", "-n", "1", "--schema", SCHEMA, cwd=folder)
    other = call_flatstream("head", "plain.fs", "-n", "1", "--schema", "described.fs", cwd=folder)
    assert (other.status, other.output) == (0, own.output)
    assert '"sequence":' in other.output
    none = call_flatstream("head", "described.fs", "--schema", "plain.fs", cwd=folder)
    assert none.errors.startswith("flatstream head: plain.fs: no schema")


def test_checksum_that_contradicts_the_description(folder):
    for command in ("cat", "verify", "info"):
        result = call_flatstream(command, "described.fs", "--checksum", "crc32", cwd=folder)
        assert "its checksum is xxhash64, as its description says, and not crc32" in result.output + result.errors
        assert result.status == 4


def test_several_schemas_are_shown_each_under_its_name(folder: Path) -> None:
    own = {name: call_flatstream("schema", name, cwd=folder).output for name in ("newer.fbs", "old.fbs")}
    several = call_flatstream("schema", "[no]*[wl]*.fbs", "plain.fs", cwd=folder)
    assert several.output == "\n".join(f"==> {name} <==\n{text}" for name, text in own.items())
    # The one that has none is told, and the others are shown.
    assert (several.status, several.errors.startswith("flatstream schema: plain.fs: no schema")) == (4, True)
    for option in (["--json"], ["-f", "json"]):
        lines = call_flatstream("schema", "plain.fs", "old.fbs", "described.fs", *option, cwd=folder)
        missing, old, described = map(json.loads, lines.lines)
        assert (missing["path"], missing["status"], lines.status) == ("plain.fs", 4, 4)
        assert (old["path"], old["root"], described["root"]) == ("old.fbs", "agent.Event", "telemetry.Event")
    one = call_flatstream("schema", "old.fbs", "--json", cwd=folder)
    assert json.loads(one.output) == old
    assert len(one.lines) == 1


def test_several_schemas_are_compared_each_with_the_older_one(folder: Path) -> None:
    names = ("newer.fbs", "breaking.fbs")
    text = call_flatstream("schema", *names, "--check-against", "old.fbs", cwd=folder)
    alone = [call_flatstream("schema", name, "--check-against", "old.fbs", cwd=folder).lines for name in names]
    assert text.lines == [*alone[0], *(f"breaking.fbs: {line}" for line in alone[1])]
    found = call_flatstream("schema", *names, "--check-against", "old.fbs", "--json", cwd=folder)
    assert (text.status, found.status) == (1, 1)
    assert [(one["path"], one["against"], bool(one["issues"])) for one in map(json.loads, found.lines)] == [
        ("newer.fbs", "old.fbs", False),
        ("breaking.fbs", "old.fbs", True),
    ]


def test_several_schemas_are_written_to_a_folder_or_by_their_names(folder: Path) -> None:
    (folder / "new").mkdir()
    result = call_flatstream("schema", "old.fbs", "described.fs", "-f", "bfbs", "-o", "new", cwd=folder)
    assert (result.status, result.output + result.errors) == (0, "")
    assert (folder / "new/described.bfbs").read_bytes() == SCHEMA.read_bytes()
    assert flatstream.Schema.from_file(folder / "new/old.bfbs").file_identifier == "AGNT"
    assert call_flatstream("schema", "described.fs", "-o", "{name}-text.fbs", cwd=folder).status == 0
    assert (folder / "described-text.fbs").read_text() == telemetry().to_fbs()
    for status, message, arguments in (
        (4, "new/old.bfbs: File exists", ["newer.fbs", "old.fbs", "-f", "bfbs", "-o", "new"]),
        (4, "nothing/: No such file or directory", ["newer.fbs", "old.fbs", "-o", "nothing/"]),
        (2, "2 inputs need a folder, or a path with {name}", ["newer.fbs", "old.fbs", "-o", "both.fbs"]),
        (2, "more than one input is called 'old'", ["old.fbs", "new/old.bfbs", "-o", "new"]),
        (2, "several binary schemas do not go to standard output", ["newer.fbs", "old.fbs", "-f", "bfbs"]),
        (2, "--json is another form than --format bfbs", ["old.fbs", "--json", "-f", "bfbs"]),
        (2, "--json prints on standard output", ["old.fbs", "--json", "-o", "old.json"]),
    ):
        result = call_flatstream("schema", *arguments, cwd=folder)
        assert (result.status, result.output, message in result.errors) == (status, "", True), result.errors
    assert sorted(path.name for path in (folder / "new").iterdir()) == ["described.bfbs", "old.bfbs"]

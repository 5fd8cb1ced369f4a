"""flatstream schema: as text, binary and JSON, from streams and files, and beside an older one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flatstream
from support.cli import call_flatstream, check_expected, run_flatstream
from support.cli_samples import SCHEMA, described, telemetry, write_events

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
    assert bool(result.output) is (status == 1)
    found = json.loads(call_flatstream("schema", new, "--check-against", "old.fbs", "-f", "json", cwd=folder).output)
    assert [one["message"] for one in found] == [line.partition(": ")[2] for line in result.lines]
    assert all("host" in one["path"] for one in found)


def test_schema_that_a_file_does_not_have_or_that_is_wrong(folder):
    (folder / "wrong.fbs").write_text("table Event { x:nothing; }")
    for name, message in (
        ("plain.fs", "the stream does not say its schema"),
        ("nothing.fs", "No such file or directory"),
        ("wrong.fbs", "nothing"),
    ):
        result = call_flatstream("schema", name, cwd=folder)
        assert (result.status, result.output) == (4, "")
        assert result.errors.startswith(f"flatstream schema: {name}: ")
        assert message in result.errors
    assert call_flatstream("schema", "old.fbs", "--check-against", "plain.fs", cwd=folder).status == 4

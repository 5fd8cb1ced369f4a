"""Which inputs paths stand for, and how they are opened."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

import flatstream
from flatstream.journal import JournalReader
from flatstream.tools.inputs import Input, NotAStreamError, expand, passed_over, pick_table
from support.cli import call_flatstream, environment, script
from support.cli_samples import SCHEMA, described, telemetry, write_events
from support.journal_folders import make_journal


def names(paths: list[str]) -> list[tuple[str, str]]:
    return [(one.name, one.kind) for one in expand(paths)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_events(tmp_path / "b.fs")
    write_events(tmp_path / "a.fs")
    (tmp_path / "notes.txt").write_text("no stream")
    (tmp_path / "a.fs.partial-123").touch()
    (tmp_path / "c.fs.zst").touch()
    make_journal(tmp_path / "journal", [2])
    (tmp_path / "other").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def test_paths_become_inputs_in_their_order(folder):
    assert names(["b.fs", "-", "journal", "pipe", "https://host/x.fs", "nothing"]) == [
        ("b.fs", "file"),
        ("-", "pipe"),
        ("journal", "journal"),
        ("pipe", "pipe"),
        ("https://host/x.fs", "remote"),
        ("nothing", "file"),
    ]
    assert expand([Path("b.fs")])[0].size == (folder / "b.fs").stat().st_size
    assert expand(["journal"])[0].size == sum(path.stat().st_size for path in (folder / "journal").glob("*.fs"))
    assert (expand(["-"])[0].size, expand(["nothing"])[0].size) == (None, None)


def test_folder_stands_for_its_streams_and_journals(folder):
    expected = ["./a.fs", "./b.fs", "./c.fs.zst", "./journal"]
    assert [one.name for one in expand(["."])] == expected
    assert [one.name for one in expand([str(folder / "journal")])] == [str(folder / "journal")]


def test_pattern_stands_for_what_it_matches(folder):
    assert names(["*.fs"]) == [("a.fs", "file"), ("b.fs", "file")]
    assert names(["j*"]) == [("journal", "journal")]
    # A file of this name comes first.
    write_events(folder / "[ab].fs")
    assert names(["[ab].fs"]) == [("[ab].fs", "file")]


def test_index_of_a_file_is_no_input_unless_it_is_named(folder):
    # Beside a plain file, a compressed one, one that was compressed since, and none.
    for name in ("a.fs.idx", "c.fs.zst.idx", "c.fs.idx", "alone.idx"):
        (folder / name).touch()
    assert [one.name for one in expand(["."])] == ["./a.fs", "./b.fs", "./c.fs.zst", "./journal"]
    assert [name for name, _ in names(["[ac]*"])] == ["a.fs", "a.fs.partial-123", "alone.idx", "c.fs.zst"]
    assert [name for name, _ in names(["*.idx"])] == ["a.fs.idx", "alone.idx", "c.fs.idx", "c.fs.zst.idx"]
    assert names(["a.fs.idx"]) == [("a.fs.idx", "file")]
    # notes.txt, a.fs.partial-123 and alone.idx.
    assert passed_over(".") == 3


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["*.nothing"], "no file matches"),
        (["other"], "is no journal, and has no journals and no files that end with .fs, .fs.gz, "),
        (["other"], r"; in folders below it, a pattern as 'folder/\*\*/\*\.fs' finds them"),
        (["-", "a.fs", "-"], "can be read once only"),
    ],
)
def test_paths_that_stand_for_nothing_are_errors(folder, paths, message):
    with pytest.raises(ValueError, match=message):
        expand(paths)


def test_paths_that_stand_for_nothing_leave_the_others_to_be_read(folder):
    found = expand(["other", "*.nothing", "a.fs"], keep_missing=True)
    assert [one.name for one in found] == ["other", "*.nothing", "a.fs"]
    with pytest.raises(FileNotFoundError, match="has no journals and no files"):
        found[0].open()
    for command in ("info", "verify", "index", "cat", "head", "tail", "recover"):
        given = ("--schema", SCHEMA, "--field", "sequence") if command == "index" else ()
        result = call_flatstream(command, "other", "*.nothing", "absent", "b.fs", *given)
        lines = result.errors.splitlines()
        assert (result.status, [line.split(": ")[1] for line in lines]) == (4, ["other", "*.nothing", "absent"]), result
        assert "no files that end with .fs, .fs.gz" in lines[0]
        assert "no file matches this pattern" in lines[1]
        assert "No such file or directory" in lines[2]
        assert result.output, command


def test_input_is_opened_with_what_is_known_of_it(folder):
    with expand(["a.fs"])[0].open() as opened:
        assert (opened.checksum, opened.found_by, opened.table, opened.description) == (
            "xxhash64",
            "detection",
            None,
            None,
        )
    with expand(["a.fs"])[0].open("xxhash64", SCHEMA, on_error="skip") as opened:
        assert (opened.checksum, opened.found_by, opened.table) == ("xxhash64", None, telemetry().root)
        assert sum(1 for _ in opened.reader) == 50
    write_events(folder / "described.fs", **described())
    with expand(["described.fs"])[0].open() as opened:
        assert (opened.found_by, opened.table) == ("description", telemetry().root)
        assert opened.description == opened.reader.description
        assert opened.tables == {"TELE": telemetry().root}
    with expand(["described.fs"])[0].open(table="TELE") as opened:
        assert opened.table == telemetry().root
    # The stream says that its messages are of another table.
    for schema in (None, telemetry()):
        with pytest.raises(LookupError, match=r"telemetry\.Event"):
            expand(["described.fs"])[0].open(schema=schema, table="telemetry.Disk")
    with expand(["journal"])[0].open() as opened:
        assert (opened.checksum, opened.found_by) == ("xxhash64", "journal")
        assert isinstance(opened.reader, JournalReader)


def test_input_that_cannot_be_opened(folder):
    for name in ("notes.txt", "c.fs.zst"):
        if name == "notes.txt":
            with pytest.raises(NotAStreamError, match="no stream: it is a text"):
                expand([name])[0].open()
    with pytest.raises(FileNotFoundError):
        expand(["nothing"])[0].open()
    with pytest.raises(LookupError, match="no schema in which to look for the table 'Event'"):
        expand(["a.fs"])[0].open(table="Event")
    with pytest.raises(LookupError, match=r"no table 'Nothing': there are telemetry.Disk, "):
        expand(["a.fs"])[0].open(schema=telemetry(), table="Nothing")


def test_table_is_found_by_its_name_the_last_part_of_it_or_its_identifier():
    schema = telemetry()
    root = schema.root
    assert root is not None
    tables = {"TELE": root}
    assert pick_table(tables, schema, None) == root
    for name in ("TELE", "telemetry.Event", "Event"):
        assert pick_table(tables, schema, name) == root
    assert pick_table(tables, None, "Event") == root
    assert pick_table(tables, schema, "Disk") == schema.table("telemetry.Disk")
    assert pick_table({}, None, None) is None
    assert pick_table({"AAAA": root, "BBBB": schema.table("telemetry.Disk")}, schema, None) is None
    with pytest.raises(LookupError, match=r"declares no root_type: say which table it is, of telemetry.Disk, "):
        pick_table({}, schema, None)


@pytest.mark.parametrize("options", [{}, described()], ids=["plain", "described"])
def test_pipe_shows_its_first_frame_before_more_is_written(folder, options):
    write_events(folder / "a.fs", **options)
    data = (folder / "a.fs").read_bytes()
    read: list[bytes] = []

    def reader() -> None:
        with Input("pipe", "pipe").open() as opened:
            read.append(bytes(next(opened.reader)))
            done.set()
            read.extend(map(bytes, opened.reader))

    done = threading.Event()
    thread = threading.Thread(target=reader)
    thread.start()
    with open(folder / "pipe", "wb", buffering=0) as pipe:
        with flatstream.open(folder / "a.fs", checksum="xxhash64") as whole:
            next(whole)
            head = whole.offset
        pipe.write(data[:head])
        assert done.wait(60)
        pipe.write(data[head:])
    thread.join()
    assert len(read) == 50


def test_standard_input_stays_open_and_is_read_as_it_comes(folder):
    data = (folder / "a.fs").read_bytes()
    process = subprocess.Popen(
        [*script(), "info", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    assert process.stdin is not None
    for begin in range(0, len(data), 1000):
        process.stdin.write(data[begin : begin + 1000])
        process.stdin.flush()
    output, _ = process.communicate()
    assert (process.returncode, b"  frames        50, " in output) == (0, True)

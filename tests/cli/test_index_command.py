"""`flatstream index`: what it builds and keeps, what `--check` finds, and what stale indexes become."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream._ranges import open_ranges
from flatstream.cli.info import index_text
from flatstream.index import FileIndex, load_index
from flatstream.index._file import IndexFile
from flatstream.journal import JournalWriter, RotationPolicy
from flatstream.tools import check_index, index, info, merge, repair, split
from support.cli import call_flatstream
from support.cli_samples import SCHEMA, described, mixed_schemas, root, write_events


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_events(tmp_path / "a.fs", 3000, **described())
    write_events(tmp_path / "plain.fs", 2000)
    return tmp_path


def make_journal(path: Path, **options: object) -> None:
    with JournalWriter(path, rotate=RotationPolicy(max_frames=400), **described(), **options) as journal:  # type: ignore[arg-type]
        records = flatstream.RecordWriter(journal, root())
        for number in range(1000):
            records.write(sequence=number, wall_time_ns=10**18 + number)


def index_of(path: Path) -> FileIndex:
    with open_ranges(path) as stream:
        found = load_index(path, stream)
    assert isinstance(found, FileIndex), found
    return found


def damage(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def test_index_is_built_continued_and_left_as_it_is(folder):
    result = call_flatstream("index", "a.fs")
    size = (folder / "a.fs").stat().st_size
    assert (result.status, result.errors) == (0, "")
    assert result.output.startswith("a.fs: index created; ")
    assert "of wall_time_ns, " in result.output
    assert index_of(folder / "a.fs").covered == size
    content = (folder / "a.fs.idx").read_bytes()
    assert call_flatstream("index", "a.fs").output.startswith("a.fs: index up to date already; ")
    assert (folder / "a.fs.idx").read_bytes() == content
    with flatstream.open("a.fs", "a") as writer:
        flatstream.RecordWriter(writer, root()).write(sequence=7)
    assert call_flatstream("index", "a.fs").output.startswith("a.fs: index brought up to date; ")
    assert (folder / "a.fs.idx").read_bytes().startswith(content)
    assert index_of(folder / "a.fs").covered > size


def test_fields_that_were_chosen_once_are_kept(folder):
    result = call_flatstream("index", "a.fs", "--field", "load_1", "--field", "cpu_total.user")
    assert "of load_1, cpu_total.user, " in result.output
    with flatstream.open("a.fs", "a") as writer:
        flatstream.RecordWriter(writer, root()).write(sequence=7)
    assert "brought up to date; " in call_flatstream("index", "a.fs").output
    assert [one.path for one in index_of(folder / "a.fs").fields] == ["load_1", "cpu_total.user"]
    replaced = call_flatstream("index", "a.fs", "--field", "sequence")
    assert (replaced.status, len(replaced.lines)) == (0, 2)
    assert replaced.lines[0].startswith("a.fs: index replaced; ")
    assert replaced.lines[1] == (
        "  load_1, cpu_total.user are no longer in it; to keep them: --field load_1 --field cpu_total.user "
        "--field sequence"
    )
    assert index("a.fs", ["load_1"]).dropped == ("sequence",)
    assert index("a.fs", ["load_1", "sequence"]).dropped == ()


def test_stream_without_a_time_field_is_told_in_words_of_the_command_line(folder):
    table = flatstream.Schema.from_fbs(text="table Event { when:long; } root_type Event;").root
    assert table is not None
    with flatstream.open("when.fs", "w", describe=table) as writer:
        flatstream.RecordWriter(writer, table).write(when=1)
    result = call_flatstream("index", "when.fs")
    assert (result.status, result.errors.count("\n")) == (4, 1)
    assert result.errors.endswith("name the fields, as in --field when\n")
    with pytest.raises(ValueError, match=r"index=\['when'\].* time_field='when', time_unit='ns'"):
        flatstream.build_index("when.fs")


def test_info_of_an_index_says_of_what_it_is(folder):
    index("a.fs")
    assert call_flatstream("info", "a.fs.idx").lines[0] == "a.fs.idx: an index of a.fs"
    shutil.copy("a.fs.idx", "other.fs")
    assert call_flatstream("info", "other.fs").lines[0] == "other.fs: an index of a flatstream stream"


def test_info_says_why_the_time_is_not_known(folder):
    with flatstream.open("a.fs", "a") as writer:
        flatstream.RecordWriter(writer, root()).write(sequence=7)
    assert (
        "  time          not known: the last message has none (wall_time_ns)" in call_flatstream("info", "a.fs").lines
    )


def test_streams_of_a_folder_and_pattern_get_indexes_and_indexes_get_none(folder):
    shutil.copy("a.fs", "b.fs")
    (folder / "empty.fs").touch()
    make_journal(folder / "journal", index=False)
    (folder / "plain.fs").unlink()
    for _ in range(2):
        result = call_flatstream("index", ".", "b*", "--json")
        reports = [json.loads(line) for line in result.lines]
        assert [one["path"] for one in reports] == ["./a.fs", "./b.fs", "./empty.fs", "./journal", "b.fs"]
        assert (result.status, result.errors) == (0, "")
    assert reports[2]["left_out"] == [{"path": "./empty.fs", "reason": "it is empty"}]
    assert [len(one["indexes"]) for one in reports] == [1, 1, 0, 3, 1]
    assert sorted(path.name for path in folder.rglob("*.idx")) == [
        *(f"{first:020d}.fs.idx" for first in (0, 400, 800)),
        "a.fs.idx",
        "b.fs.idx",
    ]


def test_schema_of_a_file_is_needed_for_an_index(folder):
    result = call_flatstream("index", "plain.fs", "a.fs")
    assert result.status == 4
    assert result.errors == (
        "flatstream index: plain.fs: the stream does not say its schema, without which there are no fields: give it\n"
    )
    # The other one is done all the same.
    assert result.output.startswith("a.fs: index created; ")
    assert call_flatstream("index", "plain.fs", "--schema", str(SCHEMA)).status == 0
    assert call_flatstream("index", "--check", "plain.fs", "--schema", str(SCHEMA)).status == 0
    assert index_of(folder / "plain.fs").head.table == "telemetry.Event"


def test_one_of_several_tables_has_to_be_named(folder):
    schemas: Any = mixed_schemas()
    temp, door = (schema.root for schema in schemas)
    with flatstream.open("mixed.fs", "w", checksum="crc32", describe={"TEMP": temp, "DOOR": door}) as writer:
        records = [flatstream.RecordWriter(writer, table, file_identifier=True) for table in (temp, door)]
        for number in range(100):
            records[number % 2].write(time=number)
    result = call_flatstream("index", "mixed.fs")
    assert result.status == 4
    assert result.errors.endswith(
        "messages of several tables: say which one the index is about, of mix.Door, mix.Temp\n"
    )
    result = call_flatstream("index", "mixed.fs", "--table", "Door", "--field", "time")
    assert (result.status, result.errors) == (0, "")
    found = index_of(folder / "mixed.fs")
    assert (found.head.table, int(found.rows.sum()), int(found.frames.sum())) == ("mix.Door", 50, 100)
    check = call_flatstream("index", "mixed.fs", "--check")
    assert check.status == 0
    assert check.output.startswith("mixed.fs: its index fits; 1 block of time, of all ")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["a.fs", "--field", "host"], 2, "'host' is of the type string"),
        (["a.fs", "--field", "nothing"], 2, "nothing"),
        (["a.fs", "--field", "load_1", "--field", "load_1"], 2, "is there twice"),
        (["a.fs", "--table", "nothing"], 2, "no table 'nothing'"),
        (["a.fs", "--check", "--field", "load_1"], 2, "--field is not for it"),
        (["-"], 2, "-: only files and journals have indexes"),
        (["https://host/a.fs"], 2, "only files and journals have indexes"),
        (["missing.fs"], 4, "missing.fs: No such file or directory"),
        (["notes.txt"], 4, "no stream: it is a text"),
        (["a.fs", "--checksum", "crc32"], 4, "its checksum is xxhash64, as its description says, and not crc32"),
    ],
)
def test_what_cannot_be_indexed_is_said(folder, arguments, status, message):
    (folder / "notes.txt").write_text("this is no stream, but a text\n" * 9)
    result = call_flatstream("index", *arguments)
    assert result.status == status
    assert message in result.errors
    assert result.errors.count("\n") == 1
    assert not list(folder.rglob("*.idx"))


def test_file_that_is_no_index_is_left_as_it_is(folder):
    (folder / "a.fs.idx").write_text("notes of somebody, which are not to be lost")
    result = call_flatstream("index", "a.fs")
    assert (result.status, result.output) == (4, "")
    assert "there is a file that is none; it is left as it is" in result.errors
    assert (folder / "a.fs.idx").read_text() == "notes of somebody, which are not to be lost"


def test_damage_is_told_and_the_rest_has_an_index(folder):
    path = folder / "a.fs"
    size = path.stat().st_size
    damage(path, size // 2)
    os.truncate(path, size - 3)
    result = call_flatstream("index", "a.fs")
    assert result.status == 1
    assert len(result.lines) == 3
    assert "damaged: " in result.lines[1]
    assert "in 1 place, the first at offset " in result.lines[1]
    assert "are no whole frames" in result.lines[2]
    assert len(index_of(path).gaps) == 1
    assert call_flatstream("index", "--check", "a.fs").status == 0


def test_compressed_files_have_indexes(folder):
    (folder / "a.fs.gz").write_bytes(gzip.compress((folder / "a.fs").read_bytes()))
    flatstream.seal("a.fs", "a.fs.zst")
    assert call_flatstream("index", "a.fs.zst").output.startswith("a.fs.zst: index created; ")
    assert call_flatstream("index", "--check", "a.fs.zst").output.startswith("a.fs.zst: its index fits; ")


def test_file_that_can_be_read_from_its_beginning_only_gets_no_index(folder):
    index("a.fs")
    (folder / "b.fs.gz").write_bytes(gzip.compress((folder / "a.fs").read_bytes()))
    built = call_flatstream("index", "a.fs", "b.fs.gz")
    assert (built.status, built.errors) == (0, "")
    said = "b.fs.gz: no index: the stream cannot be read at offsets: gzip is read from the beginning only"
    assert built.lines[1].startswith(said)
    assert not (folder / "b.fs.gz.idx").exists()
    # One that was built by an earlier version.
    shutil.copy("a.fs.idx", "b.fs.gz.idx")
    checked = call_flatstream("index", "--check", "a.fs", "b.fs.gz")
    assert (checked.status, checked.errors) == (0, "")
    assert checked.lines[1].startswith(said)
    assert "not used: the stream cannot be read at offsets\n" in call_flatstream("info", "b.fs.gz").output
    with pytest.raises(ValueError, match=r"b\.fs\.gz: the stream cannot be read at offsets: gzip is read"):
        flatstream.build_index("b.fs.gz")


def test_index_that_has_a_part_of_the_stream_says_so(folder):
    index("a.fs")
    size = (folder / "a.fs").stat().st_size
    with flatstream.open("a.fs", "a") as writer:
        flatstream.RecordWriter(writer, root()).write(sequence=7)
    whole = (folder / "a.fs").read_bytes()
    continues = "flatstream index a.fs continues it\n"
    checked = call_flatstream("index", "--check", "a.fs")
    assert checked.status == 0
    assert ", covers " in checked.output
    assert checked.output.endswith(continues)
    assert continues in call_flatstream("info", "a.fs").output
    index("a.fs")
    # A torn frame gets no index.
    (folder / "a.fs").write_bytes(whole + whole[size:-4])
    for arguments in (("index", "--check", "a.fs"), ("info", "a.fs")):
        assert "continues it" not in call_flatstream(*arguments).output


def test_index_without_a_block_is_named(folder):
    with flatstream.open("new.fs", "w", index=["sequence"], **described()) as writer:
        records = flatstream.RecordWriter(writer, root())
        records.write_records({"sequence": number} for number in range(3000))
        shutil.copy("new.fs.idx", "kept.idx")
    shutil.copy("kept.idx", "new.fs.idx")
    continues = "flatstream index new.fs continues it\n"
    checked = call_flatstream("index", "--check", "new.fs")
    assert "its index fits; 0 blocks of sequence, covers 0 bytes of " in checked.output
    line = next(line for line in call_flatstream("info", "new.fs").lines if line.startswith("  index "))
    assert "sequence in 0 blocks; " in line
    assert (line + "\n").endswith(continues)


def test_journal_is_indexed_as_its_writer_does_it(folder):
    make_journal(folder / "written")
    make_journal(folder / "later", index=False)
    result = call_flatstream("index", "written", "later")
    assert (result.status, result.errors) == (0, "")
    assert result.lines[0].startswith("written: the indexes of 3 segments: 3 up to date already; ")
    assert result.lines[1].startswith("later: the indexes of 3 segments: 3 created; ")
    for path in (folder / "later").glob("*.fs"):
        # But for where blocks end.
        written = index_of(folder / "written" / path.name)
        later = index_of(path)
        assert (later.covered, later.head.fields) == (written.covered, written.head.fields)
    check = call_flatstream("index", "--check", "written", "later")
    assert (check.status, check.lines) == (
        0,
        ["written: the indexes of 3 segments: 3 fit", "later: the indexes of 3 segments: 3 fit"],
    )
    (folder / "later" / f"{0:020d}.fs.idx").unlink()
    shutil.copy(folder / "written" / f"{400:020d}.fs.idx", folder / "later" / f"{800:020d}.fs.idx")
    check = call_flatstream("index", "--check", "later")
    assert (check.status, len(check.lines)) == (1, 2)
    assert check.lines[0] == "later: the indexes of 3 segments: 1 fit, 1 are left aside, 1 are not there"
    assert "its index is left aside: it is of another stream" in check.lines[1]


def test_index_that_a_writer_has_open_is_left_out(folder):
    make_journal(folder / "journal")
    segment = folder / "journal" / f"{800:020d}.fs"
    held = IndexFile(f"{segment}.idx", os.stat(segment))
    try:
        result = call_flatstream("index", "journal")
    finally:
        held.close()
    assert (result.status, result.errors) == (0, "")
    assert result.lines[0] == f"journal/{segment.name}: no index: the writer of the journal has its index open"
    assert result.lines[1].startswith("journal: the indexes of 2 segments: 2 up to date already; ")


def test_check_finds_an_index_that_would_hide_messages(folder):
    for name, hidden in (("one.fs", 1), ("two.fs", 10**18)):
        with flatstream.open(name, "w", checksum="crc32", describe=root()) as writer:
            records = flatstream.RecordWriter(writer, root())
            for number in range(2000):
                records.write(wall_time_ns=hidden if number == 1000 else 10**9 + number, sequence=number)
    # The descriptions differ in the time; the frames and their sizes do not.
    head = (folder / "one.fs").read_bytes()
    second = bytearray((folder / "two.fs").read_bytes())
    with flatstream.open("one.fs") as reader:
        reader.read_message()
        begin = reader.message_offset
    second[:begin] = head[:begin]
    (folder / "two.fs").write_bytes(second)
    index("one.fs")
    shutil.copy("one.fs.idx", "two.fs.idx")
    result = call_flatstream("index", "--check", "two.fs")
    assert result.status == 1
    assert result.lines[0].startswith("two.fs: its index is wrong; ")
    assert "has values of wall_time_ns from " in result.lines[1]
    assert " to 1000000000000000000, and the index says from 1 to " in result.lines[1]
    check = check_index("two.fs").checks[0]
    assert (check.state, check.wrong) == ("wrong", 1)
    assert check_index("one.fs").checks[0].state == "fits"


KINDS = """
namespace kinds; enum Level:ubyte { low, middle = 5, high = 200 } struct Point { x:double; y:short; }
table Inner { depth:ushort = 7; }
table Row {
  big:ulong; signed:long; truth:bool = true; level:Level; maybe:int = null; number:float; point:Point; inner:Inner;
}
root_type Row;
"""


def test_check_compares_fields_of_each_kind(folder):
    table: Any = flatstream.Schema.from_fbs(text=KINDS).root
    with flatstream.open("kinds.fs", "w", checksum="crc32", describe=table) as writer:
        records = flatstream.RecordWriter(writer, table)
        for n in range(5000):
            record: dict[str, Any] = {
                "big": 2**64 - 1 - n,
                "signed": -(2**63) + n,
                "truth": n % 7 > 2,
                "level": (0, 5, 200)[n % 3],
            }
            record |= {"number": float("nan") if n % 4 == 0 else n / 2, "maybe": None if n % 5 == 0 else -n}
            if n % 3:
                record |= {"point": {"x": n / 8, "y": -n}, "inner": {"depth": n}}
            records.write(**record)
    fields = ["big", "signed", "truth", "level", "maybe", "number", "point.x", "point.y", "inner.depth"]
    report = index("kinds.fs", fields)
    assert report.blocks > 2
    found = check_index("kinds.fs").checks[0]
    assert (found.state, found.problems, found.fields) == ("fits", (), tuple(fields))
    nulls = index_of(folder / "kinds.fs").statistics
    assert [int(nulls[path].nulls.sum()) for path in ("big", "maybe", "number", "inner.depth")] == [0, 1000, 1250, 1667]


def test_check_without_an_index_says_so(folder):
    result = call_flatstream("index", "--check", "a.fs")
    assert (result.status, result.output) == (0, "a.fs: no index\n")
    found = json.loads(call_flatstream("index", "--check", "--json", "a.fs").output)
    assert found["checks"][0]["state"] == "none"


def test_index_of_a_file_that_became_another_one_is_left_aside(folder):
    index("a.fs")
    size = (folder / "a.fs").stat().st_size
    # recover cuts a torn tail off: the blocks before it count.
    os.truncate("a.fs", size - 3)
    assert repair("a.fs").action == "cut"
    found = index_of(folder / "a.fs")
    assert found.covered < size
    assert call_flatstream("index", "--check", "a.fs").status == 0
    # salvage, merge and split write new files, which have no index; a stale one is left aside.
    damage(folder / "a.fs", size // 2)
    flatstream.salvage("a.fs", "salvaged.fs", "xxhash64")
    merge(["salvaged.fs", "salvaged.fs"], "merged.fs")
    split("salvaged.fs", "part-{number}.fs", count=1000)
    for name in ("salvaged.fs", "merged.fs", "part-1.fs"):
        assert call_flatstream("index", "--check", name).output == f"{name}: no index\n"
        shutil.copy("a.fs.idx", f"{name}.idx")
        text = call_flatstream("index", "--check", name).output
        assert "left aside" in text or "its index fits; 0 blocks" in text, text
        assert call_flatstream("index", name).status == 0
        assert call_flatstream("index", "--check", name).status == 0


def row(name: str, label: str) -> str | None:
    """What `flatstream info` says of a file."""
    lines = call_flatstream("info", name).lines
    return next((line.strip().removeprefix(label).strip() for line in lines if line.strip().startswith(label)), None)


def test_info_says_what_an_index_has_and_why_it_is_left_aside(folder):
    assert row("a.fs", "index") is None
    assert json.loads(call_flatstream("info", "a.fs", "--json").output)["index"] is None
    index("a.fs", ["load_1", "wall_time_ns"])
    text = row("a.fs", "index")
    assert text is not None
    assert text.startswith("load_1, wall_time_ns in ")
    assert " blocks, 2026-01-02T03:04:05Z to 2026-01-02T03:09:04.900Z; " in text
    found = json.loads(call_flatstream("info", "a.fs", "--json").output)["index"]
    assert found["ranges"] == {
        "load_1": [0.0, 749.75],
        "wall_time_ns": [1767323045000000000, 1767323344900000000],
    }
    assert (found["fields"], found["reason"]) == (["load_1", "wall_time_ns"], None)
    assert found["covered"] == (folder / "a.fs").stat().st_size - index_of(folder / "a.fs").begin
    assert found["size"] == (folder / "a.fs.idx").stat().st_size
    # It has another first frame.
    shutil.copy("a.fs.idx", "plain.fs.idx")
    result = call_flatstream("info", "plain.fs", "--schema", str(SCHEMA))
    assert "index         left aside: it is of another stream" in result.output
    assert "; flatstream index plain.fs builds it anew\n" in result.output
    assert result.status == 0


def test_index_of_a_file_that_was_cut_back_is_continued_as_the_check_says(folder):
    index("a.fs")
    content = Path("a.fs").read_bytes()
    # Before the end of the index's only message with blocks.
    Path("a.fs").write_bytes(content[: len(content) // 2])
    checked = call_flatstream("index", "--check", "a.fs")
    assert "its index fits; 0 blocks of wall_time_ns, covers 0 bytes of" in checked.output
    assert checked.lines[0].endswith(": flatstream index a.fs continues it")
    assert checked.lines[1] == "  1 message of it is about another end of the stream"
    done = call_flatstream("index", "a.fs")
    assert done.lines[0].startswith("a.fs: index brought up to date; ")
    assert "did not fit" not in done.output
    assert call_flatstream("index", "--check", "a.fs").output.count("fits; 0 blocks") == 0


@pytest.mark.parametrize("kind", ["text", "stream", "damaged", "empty", "zeros"])
def test_info_says_of_a_file_in_the_place_of_an_index_what_index_does_with_it(folder, kind):
    index("a.fs")
    path = folder / "a.fs.idx"
    content = bytearray(path.read_bytes())
    # Of the last one, nothing is left by which it would be known as an index.
    content[:] = {
        "text": b"notes of somebody",
        "stream": (folder / "plain.fs").read_bytes(),
        "damaged": bytes(byte ^ 255 for byte in content[:2000]) + content[2000:],
        "empty": b"",
        "zeros": bytes(3000),
    }[kind]
    path.write_bytes(content)
    text = row("a.fs", "index")
    assert text is not None
    assert text.startswith("left aside: it is ")
    result = call_flatstream("index", "a.fs")
    if kind in ("empty", "zeros"):
        assert text.endswith("; flatstream index a.fs builds it anew")
        assert result.status == 0
    else:
        assert text.endswith("; flatstream index a.fs leaves such a file as it is: move it away first")
        assert result.status == 4
        assert path.read_bytes() == content


def test_info_of_a_journal_says_how_many_segments_have_an_index(folder):
    make_journal(folder / "journal")
    text = row("journal", "index")
    assert text is not None
    assert text.startswith(
        "wall_time_ns in 3 blocks, 2001-09-09T01:46:40Z to 2001-09-09T01:46:40.000000999Z; of 3 of 3 segments; "
    )
    # The writer of a journal can begin a segment between the two counts.
    found = info("journal")
    assert found.index is not None
    later = replace(found.index, segments=4)
    assert "; of 4 of 4 segments; " in index_text(found, later)
    (folder / "journal" / f"{0:020d}.fs.idx").unlink()
    shutil.copy(folder / "journal" / f"{400:020d}.fs.idx", folder / "journal" / f"{800:020d}.fs.idx")
    text = row("journal", "index")
    assert text is not None
    assert "wall_time_ns in 1 block, " in text
    assert "; of 1 of 3 segments; 1 left aside: it is of another stream" in text

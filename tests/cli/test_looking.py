"""info and verify: what they say of inputs of every kind, compared with files (tests/data/cli)."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

import flatstream
from flatstream.journal import JournalWriter
from flatstream.tools import info, verify
from support.cli import Result, call_flatstream, check_expected, run_flatstream
from support.cli_samples import (
    BEGIN,
    FOREIGN,
    JOURNALS,
    SCHEMA,
    STREAMS,
    damage,
    described,
    make_samples,
    mixed_schemas,
    root,
    telemetry,
    write_events,
    write_mixed,
)
from support.extent import in_one_test
from support.journal_folders import damage_frame, make_journal, tear

COMPRESSED = "compressed.fs.gz"
COMMANDS = ["info", "info --short", "info --json", "verify", "verify --json", "verify --quiet"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples"))


def check(name: str, result: Result) -> None:
    """Compares what a command printed, and its status, with a file."""
    check_expected(name, f"{result.output}--- standard error\n{result.errors}--- status {result.status}\n")


@in_one_test
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["streams", "foreign", "journals"])
def test_output_is_as_expected(samples, command, kind):
    names = {"streams": (*STREAMS, COMPRESSED), "foreign": FOREIGN, "journals": JOURNALS}[kind]
    result = call_flatstream(*command.split(), *names, cwd=samples)
    if "--json" in command:
        assert [json.loads(line)["path"] for line in result.lines] == list(names)
    check(f"{command.replace(' --', '-')}-{kind}.txt", result)


def test_installed_script_prints_the_same(samples):
    for command in ("info", "verify"):
        # A folder that is no journal stands for its streams and journals, sorted by name.
        there, here = (run(command, ".", cwd=samples) for run in (run_flatstream, call_flatstream))
        assert (there.status, there.output, there.errors) == (here.status, here.output, here.errors)
        assert there.status == 1
        assert "image.png" not in there.output


@in_one_test
@pytest.mark.parametrize("name", [*STREAMS, *FOREIGN])
def test_pipe_is_read_like_the_file(samples, name):
    data = (samples / name).read_bytes()
    for command in ("info", "verify"):
        file, pipe = (call_flatstream(command, path, "--json", input=data, cwd=samples) for path in (name, "-"))
        assert pipe.status == file.status
        one, other = (json.loads(result.output) for result in (file, pipe))
        if name == "zeros.fs":
            # Only a file can be read once more, to see that zeros are a torn tail.
            assert (other["state"], other["frames"]) == ("damaged", one["frames"])
        elif one.get("state") is not None:
            same = ("state", "frames", "damaged_places", "lost_bytes", *(["checksum"] if one["frames"] else []))
            assert {key: other[key] for key in same} == {key: one[key] for key in same}


def test_time_and_schema_are_those_of_the_option_without_a_description(samples):
    result = call_flatstream("info", "xxhash64.fs", "--schema", SCHEMA, "--json", cwd=samples)
    found = json.loads(result.output)
    assert (found["first_time"], found["last_time"]) == (BEGIN, BEGIN + 4_900_000_000)
    assert (found["time_field"], found["time_unit"], found["seconds"], found["rate"]) == ("wall_time_ns", "ns", 4.9, 10)
    assert found["description"] is None
    other = call_flatstream("info", "xxhash64.fs", "--schema", SCHEMA, "--table", "Disk", cwd=samples)
    assert "telemetry.Disk (as --schema says)" in other.output
    assert "\n  time          not known: no field says that it is one" in other.output
    for wrong in (["--table", "Nothing", "--schema", SCHEMA], ["--table", "Event"]):
        refused = call_flatstream("info", "xxhash64.fs", *wrong, cwd=samples)
        assert (refused.status, refused.output) == (2, "")
        assert refused.errors.startswith("flatstream info: xxhash64.fs: ")


def test_wrong_checksum_is_damage(samples):
    result = call_flatstream("verify", "crc32.fs", "--checksum", "crc32c", cwd=samples)
    assert result.status == 1
    assert "crc32.fs: damaged; 0 intact frames" in result.output


def test_messages_that_are_not_of_their_table_are_listed_one_by_one(tmp_path):
    path = tmp_path / "mixed.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        events = flatstream.RecordWriter(writer, root())
        for number in range(6):
            if number in (2, 3):
                writer.write_payload(b"no message")
            events.write(sequence=number)
    report = verify(path, schema=SCHEMA)
    assert (report.state, report.frames, report.tables) == ("damaged", 6, ("telemetry.Event",))
    size = 8 + len(b"no message")
    found = [(one.kind, one.frame, one.end - one.begin) for one in report.damage]
    assert found == [("payload", 2, size), ("payload", 3, size)]
    assert report.damage[0].reason.startswith("telemetry.Event refused the payload")
    file, pipe = (
        json.loads(call_flatstream("verify", name, "--schema", SCHEMA, "--json", input=path.read_bytes()).output)
        for name in (str(path), "-")
    )
    assert (pipe["damage"], pipe["frames"]) == (file["damage"], file["frames"])
    # Without a schema, all frames are intact.
    assert verify(path).state == "intact"


def test_description_is_the_schema_that_messages_are_verified_by(tmp_path):
    path = write_events(tmp_path / "a.fs", 3, **described())
    assert verify(path).tables == ("telemetry.Event",)
    with flatstream.open(path, "a", checksum="xxhash64") as writer:
        writer.write_payload(b"no message")
    report = verify(path)
    assert [(one.kind, one.frame) for one in report.damage] == [("payload", 3)]


def test_messages_of_a_mixed_stream_are_verified_by_their_own_tables(tmp_path):
    tables = {"TELE": root(), "DISK": telemetry().table("telemetry.Disk")}
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=flatstream.Description(tables)) as writer:
        events = flatstream.RecordWriter(writer, root(), file_identifier=True)
        for number in range(4):
            events.write(sequence=number, wall_time_ns=BEGIN + number)
        # A table without fields, one that is none, and one that is not described.
        writer.write_payload(bytes.fromhex("0c000000") + b"DISK" + bytes.fromhex("04000400 04000000"))
        writer.write_payload(bytes.fromhex("0c000000") + b"DISK" + b"\xff" * 8)
        writer.write_payload(bytes.fromhex("0c000000") + b"ELSE" + bytes.fromhex("04000400 04000000"))
    report = verify(path)
    assert (report.tables, report.frames) == (("telemetry.Event", "telemetry.Disk"), 5)
    assert [(one.kind, one.frame) for one in report.damage] == [("payload", 5), ("payload", 5)]
    assert report.damage[0].reason.startswith("telemetry.Disk refused the payload")
    assert "the file identifier is 'ELSE', and those described are TELE, DISK" in report.damage[1].reason
    shown = info(path)
    assert (shown.identifiers, shown.first_time) == ({"TELE": 4, "DISK": 2, "ELSE": 1}, BEGIN)
    assert shown.tables == {"TELE": "telemetry.Event", "DISK": "telemetry.Disk"}
    text = call_flatstream("info", path).output
    assert "schema        telemetry.Event (TELE), telemetry.Disk (DISK) (as its description says)" in text
    assert "identifiers   TELE 4, DISK 2, ELSE 1" in text


def test_description_that_is_damaged_is_damage(tmp_path):
    path = write_events(tmp_path / "a.fs", 20, **described())
    damage(path, [100])
    for command in ("info", "verify"):
        result = call_flatstream(command, path, "--json")
        found = json.loads(result.output)
        assert (result.status, found["state"], found["frames"], found["damaged_places"]) == (1, "damaged", 20, 1)
    assert call_flatstream("recover", path).status == 1


def test_empty_frames_are_intact_where_they_are_no_zeros_of_a_crash(tmp_path):
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        writer.write_payloads([b"abc", b"", b"de"])
    assert (verify(path).state, verify(path).frames) == ("intact", 3)
    assert (info(path).state, info(path).frames) == ("intact", 3)
    with open(path, "ab") as file:
        file.write(bytes(100))
    assert (verify(path).state, verify(path).frames, info(path).state) == ("torn", 3, "torn")
    # With them, 100 zeros are 12 frames and a torn one.
    taken = verify(path, allow_empty=True)
    assert (taken.state, taken.frames) == ("torn", 15)
    assert call_flatstream("verify", path, "--allow-empty").status == 1


def test_large_files_are_counted_by_headers_and_checked_on_request(tmp_path, monkeypatch):
    path = write_events(tmp_path / "a.fs", 100, **described())
    monkeypatch.setattr("flatstream.tools.inspection.MOST_CHECKED", 100)
    whole = info(path, check=True)
    found = info(path)
    assert (found.checked, whole.checked) == ("headers", "payloads")
    same = ("frames", "payload_bytes", "largest", "first_time", "last_time", "state", "size")
    assert [getattr(found, name) for name in same] == [getattr(whole, name) for name in same]
    assert "payloads not checked: flatstream verify checks them" in call_flatstream("info", path).output
    # A payload that is damaged is not noticed; a length is, and then all is checked.
    with flatstream.open(path, checksum="xxhash64") as reader:
        reader.read_message()
        begin = reader.message_offset
    before = path.read_bytes()[begin + 40]
    damage(path, [begin + 40])
    assert (info(path).state, info(path, check=True).state) == ("intact", "damaged")
    damage(path, [begin + 40], before)
    os.truncate(path, path.stat().st_size - 3)
    assert (info(path).state, info(path).checked, info(path).frames) == ("torn", "payloads", 99)
    assert call_flatstream("info", path).status == 1


@pytest.mark.parametrize("checksum", ["none", "crc16", "xxhash64"])
def test_large_frames_are_counted_without_being_read(tmp_path, monkeypatch, checksum):
    monkeypatch.setattr("flatstream.tools.inspection.MOST_CHECKED", 100)
    path = tmp_path / "a.fs"
    payloads = [bytes([number]) * (300_000 + number) for number in range(1, 12)]
    with flatstream.open(path, "w", checksum=checksum) as writer:
        writer.write_payloads(payloads)
    found = info(path, checksum=checksum)
    assert (found.checked, found.frames, found.state) == ("headers", 11, "intact")
    assert (found.payload_bytes, found.largest) == (sum(map(len, payloads)), 300_011)
    os.truncate(path, path.stat().st_size - 1)
    torn = info(path, checksum=checksum)
    assert (torn.checked, torn.frames, torn.state) == ("payloads", 10, "torn")


def test_progress_is_told_up_to_the_end(tmp_path):
    path = write_events(tmp_path / "a.fs", 200)
    for function in (info, verify):
        told: list[tuple[int, int]] = []
        function(path, progress=lambda *at: told.append(at))  # noqa: B023
        assert told[-1] == (path.stat().st_size, path.stat().st_size)


def test_messages_of_several_tables_are_told_by_their_identifiers(tmp_path):
    # An identifier behind the offset of a table without fields.
    def message(identifier: bytes) -> bytes:
        return (12).to_bytes(4, "little") + identifier + b"\x04\0\x04\0" + (4).to_bytes(4, "little")

    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        writer.write_payloads([message(b"AAAA"), message(b"BBBB"), message(b"AAAA"), b"\x04\0\0\0\0\0\0\0"])
    found = info(path)
    assert found.identifiers == {"AAAA": 2, "BBBB": 1, "": 1}
    assert found.looked_at == 4
    assert "AAAA 2, BBBB 1, none 1" in call_flatstream("info", path).output


def test_input_that_cannot_be_read_is_told_and_others_are_looked_at(samples, tmp_path):
    shutil.copy(samples / "crc32.fs", tmp_path / "b.fs")
    for command in ("info", "verify"):
        result = call_flatstream(command, "nothing.fs", "b.fs", "--json", cwd=tmp_path)
        assert result.status == 4
        assert result.errors == f"flatstream {command}: nothing.fs: No such file or directory\n"
        first, second = map(json.loads, result.lines)
        assert (first["path"], first["status"]) == ("nothing.fs", 4)
        assert second["frames"] == 50


def test_journal_that_describes_itself_is_verified_by_its_schema(tmp_path):
    with JournalWriter(tmp_path / "j", describe=telemetry(), metadata={"site": "north"}) as writer:
        events = flatstream.RecordWriter(writer, root())
        for number in range(30):
            events.write(sequence=number, wall_time_ns=BEGIN + number * 100_000_000)
    found, report = info(tmp_path / "j"), verify(tmp_path / "j")
    assert (found.frames, found.checksum, found.found_by, found.state) == (30, "xxhash64", "journal", "intact")
    assert (found.tables, found.seconds, found.rate) == ({"TELE": "telemetry.Event"}, 2.9, 10)
    assert found.description.metadata["site"] == "north"
    assert (report.frames, report.tables, report.state) == (30, ("telemetry.Event",), "intact")
    assert call_flatstream("schema", "j", "-f", "bfbs", cwd=tmp_path).data == SCHEMA.read_bytes()
    with JournalWriter(tmp_path / "j") as writer:
        writer.write_payload(b"no message")
    again = verify(tmp_path / "j")
    assert (again.frames, [one.kind for one in again.damage]) == (30, ["payload"])
    assert call_flatstream("verify", "j", cwd=tmp_path).status == 1


def test_journal_that_is_large_is_not_read_and_one_that_is_shorter_than_it_was_is_damaged(tmp_path, monkeypatch):
    paths = make_journal(tmp_path / "j", [10, 10, 5], sealed=2)
    damage_frame(paths[0], 3)
    assert (info(tmp_path / "j").state, info(tmp_path / "j").frames) == ("damaged", 24)
    monkeypatch.setattr("flatstream.tools.inspection.MOST_CHECKED", 100)
    found = info(tmp_path / "j")
    assert (found.checked, found.state, found.frames) == ("headers", "intact", 25)
    assert call_flatstream("info", "--check", tmp_path / "j").status == 1
    tear(paths[1])
    short = info(tmp_path / "j")
    assert (short.state, short.damaged_places, short.damage[0].segment) == ("damaged", 1, paths[1].name)
    result = call_flatstream("recover", tmp_path / "j")
    assert result.status == 1
    assert f"{paths[1].name}: damaged: 1 frame is missing that it had when it was sealed" in result.output


def test_url_is_read_like_a_file(samples):
    pytest.importorskip("fsspec")
    url = f"file://{samples / 'described.fs'}"
    for command in ("info", "verify"):
        there, here = (json.loads(call_flatstream(command, name, "--json").output) for name in (url, url[7:]))
        same = ("state", "checksum", "found_by", "frames", "tables")
        assert {key: there[key] for key in same} == {key: here[key] for key in same}
    assert call_flatstream("recover", url).status == 2
    missing = call_flatstream("info", f"{url}.nothing")
    assert (missing.status, missing.output) == (4, "")
    assert missing.errors.startswith(f"flatstream info: {url}.nothing: ")
    assert missing.errors.count("\n") == 1


def test_inputs_that_cannot_be_opened_are_one_line_each(samples, tmp_path):
    write_events(tmp_path / "a.fs", 2000)
    data = gzip.compress((tmp_path / "a.fs").read_bytes(), mtime=0)
    (tmp_path / "cut.fs.gz").write_bytes(data[:-100])
    shutil.copytree(samples / "journal", tmp_path / "journal")
    cut = call_flatstream("verify", "cut.fs.gz", cwd=tmp_path)
    assert (cut.status, cut.lines[0].split(";")[0], cut.errors) == (1, "cut.fs.gz: torn", "")
    for names, status, message in (
        (["nothing://host/a.fs"], 4, "nothing://host/a.fs: "),
        (["journal", "--checksum", "crc32"], 4, "journal: "),
        (["/dev/zero"], 4, "/dev/zero: no stream: it is zeros only"),
    ):
        result = call_flatstream("verify", *names, cwd=tmp_path)
        assert (result.status, result.output, result.errors.count("\n")) == (status, "", 1)
        assert result.errors.startswith(f"flatstream verify: {message}")
        assert not result.errors.startswith(f"flatstream verify: {names[0]}: {names[0]}")


@pytest.mark.long
@pytest.mark.parametrize("checksum", ["none", "xxhash64"])
def test_file_of_a_gibibyte(tmp_path, checksum):
    path = tmp_path / "a.fs"
    payload = bytes(range(256)) * 4
    with flatstream.open(path, "w", checksum=checksum) as writer:
        for _ in range(1024):
            writer.write_payloads([payload] * 1024)
    given = ("--checksum", checksum)
    shown = json.loads(run_flatstream("info", path, "--json", *given).output)
    assert (shown["frames"], shown["checked"], shown["state"]) == (2**20, "headers", "intact")
    whole = run_flatstream("verify", path, "--json", *given)
    assert (whole.status, json.loads(whole.output)["frames"]) == (0, 2**20)
    os.truncate(path, path.stat().st_size - 1)
    torn = run_flatstream("verify", path, "--json", *given)
    found = json.loads(torn.output)
    assert (torn.status, found["state"], found["frames"]) == (1, "torn", 2**20 - 1)
    assert run_flatstream("recover", path, *given).status == 3
    assert run_flatstream("verify", path, *given).status == 0


def test_info_counts_types_that_alternate(tmp_path, monkeypatch):
    path = write_mixed(tmp_path / "mixed.fs")
    assert dict(info(path).identifiers) == {"TEMP": 800, "DOOR": 200}
    # Of a stream of more messages some are looked at, of both types.
    monkeypatch.setattr("flatstream.tools._walk.ALL_OF", 0)
    found = info(path)
    assert found.looked_at == 64
    assert set(found.identifiers) == {"TEMP", "DOOR"}
    assert " of the 64 messages looked at" in call_flatstream("info", path).output


def test_info_says_where_the_schema_comes_from_and_takes_the_time_field(tmp_path):
    write_mixed(tmp_path / "mixed.fs")
    call = lambda *options: call_flatstream("info", "mixed.fs", *options, cwd=tmp_path)  # noqa: E731
    assert "\n  time          not known: no field says that it is one, with its unit; --time-field" in call().output
    timed = call("--time-field", "time:s")
    assert "2023-11-14T22:13:20Z to 2023-11-14T22:29:59Z (16 min 39 s), by time\n" in timed.output
    assert call("--time-field", "time").status == call("--time-field", "nothing:s").status == 2
    assert "mix.Temp (TEMP), mix.Door (DOOR) (as its description says)" in call().output
    (tmp_path / "temp.bfbs").write_bytes(mixed_schemas()[0].to_bytes())
    given = call("--schema", "temp.bfbs")
    assert "mix.Temp (as --schema says; the description says mix.Temp, mix.Door)" in given.output


def test_compressed_file_that_is_cut_off_shows_what_is_before_its_end(samples, tmp_path):
    whole = (samples / COMPRESSED).read_bytes()
    (tmp_path / "cut.fs.gz").write_bytes(whole[:-1000])
    result = call_flatstream("info", "cut.fs.gz", cwd=tmp_path)
    assert (result.status, result.errors) == (1, "")
    assert "no: the gzip data is cut off at the end of the file, after" in result.output
    assert "; gzip -dc cut.fs.gz > NEW decompresses it as far as it goes, and flatstream salvage NEW" in result.output
    assert "telemetry.Event (as its description says)" in result.output
    # What only reads says it on standard error.
    shown = call_flatstream("cat", "cut.fs.gz", cwd=tmp_path)
    assert (shown.status, "; gzip -dc cut.fs.gz > NEW decompresses it" in shown.errors) == (1, True)
    found = verify(tmp_path / "cut.fs.gz")
    assert (found.state, found.damage[0].kind) == ("torn", "torn")
    assert found.frames == info(tmp_path / "cut.fs.gz").frames
    assert 0 < found.frames < 50


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_standard_input_is_told_like_a_file(samples, name):
    # A process of its own for one of them.
    run = run_flatstream if name == FOREIGN[0] else call_flatstream
    piped = run("info", "-", "--json", input=(samples / name).read_bytes())
    found, file = json.loads(piped.output), info(samples / name)
    assert (piped.status, found["kind"], found["hint"] is None) == (4, "foreign", file.hint is None)
    assert found["what"] == file.what
    piped, named = (
        call_flatstream("cat", one, input=(samples / name).read_bytes(), cwd=samples) for one in ("-", name)
    )
    assert (piped.status, piped.errors) == (4, named.errors.replace(name, "-"))


def test_info_of_a_folder_says_how_many_files_it_does_not_look_at(tmp_path):
    write_events(tmp_path / "a.fs", 3)
    write_events(tmp_path / "b", 3)
    (tmp_path / ".hidden").touch()
    # The index of another file is not counted.
    (tmp_path / "a.fs.idx").touch()
    make_journal(tmp_path / "j", [3])
    result = call_flatstream("info", ".", "--short", cwd=tmp_path)
    other = "flatstream info: .: 1 other file not looked at: no name of a stream, which ends with .fs\n"
    assert (result.status, result.errors, len(result.lines)) == (0, other, 3)
    assert call_flatstream("info", "j", cwd=tmp_path).errors == ""


def test_info_of_a_url_tells_of_its_index_and_what_is_stored(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    write_events(Path("a.fs"), 3000, index=True, **described())
    content = Path("a.fs").read_bytes()
    Path("packed.fs.gz").write_bytes(gzip.compress(content))
    Path("stale.fs").write_bytes(content)
    Path("stale.fs.idx").write_bytes(Path("a.fs.idx").read_bytes()[:-50])
    write_events(Path("other.fs"), 200, **described())
    Path("other.fs.idx").write_bytes(b"no index")
    memory = fsspec.filesystem("memory")
    for path in tmp_path.iterdir():
        memory.pipe(f"/looking/{path.name}", path.read_bytes())
    try:
        for name, said in (
            ("a.fs", "wall_time_ns in "),
            ("packed.fs.gz", None),
            ("stale.fs", "flatstream index, where the file is, continues it"),
            ("other.fs", "flatstream index, where the file is, leaves such a file as it is: move it away first"),
        ):
            url = f"memory://looking/{name}"
            here, there = info(name).to_dict(), info(url).to_dict()
            assert {**there, "path": name} == here
            lines = [
                line.replace(f"index {name} ", "index, where the file is, ")
                for line in call_flatstream("info", name).lines
            ]
            assert call_flatstream("info", url).lines == [line.replace(name, url) for line in lines]
            index = next((line for line in lines if line.startswith("  index ")), None)
            assert said == index or (said is not None and index is not None and said in index)
    finally:
        memory.rm("/looking", recursive=True)

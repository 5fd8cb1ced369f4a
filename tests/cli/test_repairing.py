"""recover and salvage: what they change, what they leave alone, and what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

import flatstream
from flatstream.tools import convert, repair, verify
from support.cli import call_flatstream, check_expected, run_flatstream
from support.cli_samples import FOREIGN, JOURNALS, STREAMS, make_samples, write_events
from support.journal_folders import damage_frame, make_journal, tear

TIME = re.compile(r"\d{8}T\d{6}\.\d{6}Z")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture
def folder(samples: Path, tmp_path: Path) -> Path:
    """A copy of the samples, to be changed."""
    shutil.copytree(samples, tmp_path / "samples")
    return tmp_path / "samples"


def content(folder: Path) -> dict[str, bytes]:
    """Every file by its path, but for the files of locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "writer.lock"
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_recover_cuts_torn_tails_saves_them_and_changes_nothing_else(folder, form):
    before = content(folder)
    names = (*STREAMS, *JOURNALS, *FOREIGN, "compressed.fs.gz", "nothing.fs")
    result = call_flatstream("recover", *names, *(["--json"] if form == "json" else []), cwd=folder)
    printed = TIME.sub("TIME", f"{result.output}--- standard error\n{result.errors}--- status {result.status}\n")
    check_expected(f"recover-{form}.txt", printed, [(os.path.realpath(folder), "FOLDER")])
    after = content(folder)
    changed = {name for name in before if after[name] != before[name]} - {f"{name}/journal.json" for name in JOURNALS}
    assert changed == {"torn.fs", "zeros.fs", "torn-journal/00000000000000000010.fs"}
    made = {TIME.sub("TIME", name) for name in after.keys() - before.keys()}
    assert made == {"torn.fs.torn-TIME-4484", "torn-journal/00000000000000000010.fs.torn-TIME-100"}
    for name in changed - {"zeros.fs"}:
        copy = next(saved for saved in after if saved.startswith(f"{name}.torn-"))
        assert after[name] + after[copy] == before[name]
    again = call_flatstream("recover", "torn.fs", "zeros.fs", "torn-journal", cwd=folder)
    assert (again.status, content(folder)) == (0, after)
    assert verify(folder / "torn.fs").state == "intact"


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["crc32.fs", "journal"], 0),
        (["crc32.fs", "torn.fs"], 3),
        (["torn.fs", "damaged.fs"], 1),
        (["torn-journal"], 3),
        (["damaged-journal"], 1),
        (["torn.fs", "damaged.fs", "image.png"], 4),
    ],
)
def test_status_of_recover_is_that_of_the_worst_input(folder, names, status):
    assert call_flatstream("recover", *names, cwd=folder).status == status


def test_file_that_a_writer_has_open_is_not_repaired(tmp_path):
    path = write_events(tmp_path / "a.fs")
    with flatstream.open(path, "a", checksum="xxhash64") as writer:
        os.truncate(path, path.stat().st_size - 1)
        result = run_flatstream("recover", path)
        assert (result.status, result.output) == (4, "")
        assert "a writer has it open" in result.errors
        writer.detach().close()
    assert run_flatstream("recover", path).status == 3


def test_journal_that_a_writer_has_open_is_not_repaired(tmp_path):
    make_journal(tmp_path / "j", [3])
    with flatstream.journal.JournalWriter(tmp_path / "j") as writer:
        writer.write_payload(b"more")
        result = run_flatstream("recover", tmp_path / "j")
        assert result.status == 4
        assert "nothing was changed" in result.errors
        assert "written by" in run_flatstream("info", tmp_path / "j").output


@pytest.mark.parametrize(
    ("ending", "program"), [("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz"), ("zst", "zstd"), ("lz4", "lz4")]
)
def test_hint_for_compressed_files_names_the_program(folder, tmp_path, ending, program):
    path = tmp_path / f"a.fs.{ending}"
    convert(folder / "crc32.fs", path)
    refused = call_flatstream("recover", path)
    assert f"compressed files are not repaired: {program} -dc {path} > NEW decompresses it" in refused.errors


def test_inputs_that_cannot_be_repaired_are_wrong_usage(folder):
    assert call_flatstream("recover", "-", cwd=folder).status == 2
    refused = call_flatstream("recover", "compressed.fs.gz", cwd=folder)
    hint = "gzip -dc compressed.fs.gz > NEW decompresses it as far as it goes, and flatstream salvage NEW OUT copies"
    assert refused.errors == (
        f"flatstream recover: compressed.fs.gz: compressed files are not repaired: {hint} what is intact\n"
    )
    assert refused.status == 4
    # Each input is looked at, whatever the one before is.
    some = call_flatstream("salvage", "compressed.fs.gz", "crc32.fs", "../out", cwd=folder)
    assert some.errors == (
        f"flatstream salvage: compressed.fs.gz: compressed files are not salvaged: {hint} what is intact\n"
    )
    assert (some.status, os.listdir(folder.parent / "out")) == (4, ["crc32.fs"])
    with pytest.raises(ValueError, match="only files and journals are repaired"):
        repair("-")


def test_salvage_copies_what_is_intact_into_a_folder(folder, tmp_path):
    before = content(folder)
    result = call_flatstream("salvage", *STREAMS, *JOURNALS, *FOREIGN, "../out", cwd=folder)
    check_expected("salvage.txt", f"{result.output}--- standard error\n{result.errors}--- status {result.status}\n")
    assert content(folder) == before
    out = tmp_path / "out"
    made = {path.name for path in out.iterdir()}
    assert made == {*STREAMS, "damaged.fs.doubtful", "torn-journal", "damaged-journal"}
    for name in STREAMS:
        assert verify(out / name, checksum="crc32" if name == "crc32.fs" else None).state == "intact"
    assert verify(out / "torn-journal").frames == 4
    again = call_flatstream("salvage", "damaged.fs", "../out", cwd=folder)
    assert (again.status, again.errors) == (4, "flatstream salvage: ../out/damaged.fs: File exists\n")


def test_salvage_of_one_file_gives_it_the_name_of_out(folder):
    result = call_flatstream("salvage", "damaged.fs", "saved.fs", "--json", cwd=folder)
    found = json.loads(result.output)
    assert (result.status, found["out"], found["frames"], found["lost_bytes"]) == (1, "saved.fs", 47, 252)
    assert (folder / "saved.fs").stat().st_size == found["size"]
    same = call_flatstream("salvage", "torn.fs", "../samples/torn.fs", "x", cwd=folder)
    assert (same.status, "more than one input is called 'torn.fs'" in same.errors) == (2, True)
    for names in (["-", "x"], ["damaged.fs", "-"]):
        assert call_flatstream("salvage", *names, cwd=folder).status == 2
        assert not (folder / "-").exists()
    assert not (folder / "x").exists()


def test_salvage_of_a_journal_leaves_its_numbers(folder):
    result = call_flatstream("salvage", "damaged-journal", "saved", "--all", "--json", cwd=folder)
    assert json.loads(result.output)["frames"] == 24
    with flatstream.journal.JournalReader(folder / "saved") as reader:
        numbers = [reader.number for _ in reader]
    assert numbers == [0, 1, 2, *range(4, 20), *range(30, 35)]
    nothing = call_flatstream("salvage", "journal", "saved-2", cwd=folder)
    left_out = "3 intact segments with 25 frames not copied (--all copies them too)"
    assert nothing.output == f"journal: no segment is damaged or torn: nothing was copied; {left_out}\n"
    assert (nothing.status, (folder / "saved-2").exists()) == (0, False)
    tear(folder / "journal" / "00000000000000000020.fs")
    some = call_flatstream("salvage", "journal", "saved-2", "--json", cwd=folder)
    assert (some.status, json.loads(some.output)["left_out"]) == (1, {"segments": 2, "frames": 20})


def test_recover_does_not_call_a_segment_intact_that_it_did_not_read(tmp_path):
    paths = make_journal(tmp_path / "j", [4, 4, 2], sealed=2)
    damage_frame(paths[0], 1)
    result = call_flatstream("recover", "j", cwd=tmp_path)
    states = [line.strip().split(": ")[1].partition(";")[0] for line in result.lines[1:]]
    sealed = "sealed, and not read (flatstream verify reads it)"
    assert (result.status, states) == (0, [sealed, sealed, "intact, and not changed"])
    report = repair(tmp_path / "j")
    assert report.segments is not None
    assert (report.checked, [segment.checked for segment in report.segments]) == (False, [False, False, True])
    assert call_flatstream("verify", "j", cwd=tmp_path).status == 1

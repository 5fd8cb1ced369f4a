"""``python -m flatstream.journal``: what it prints and does, and its exit status."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream._lock import open_for_writing
from flatstream.journal import JournalWriter, RotationPolicy, _cli, _examine, _salvage
from flatstream.journal._cli import main
from flatstream.journal._examine import deframer_of, examine, read_folder
from flatstream.journal._layout import LOCK, MANIFEST, Manifest, list_segments, read_manifest, write_manifest
from support.gated import wait_until
from support.journal_folders import (
    FRAME,
    IDENTITY,
    content,
    damage_frame,
    make_journal,
    overwrite,
    payload,
    tear,
    write_segment,
)

# Of a torn tail, verify says that it is damage, and recover and salvage that nothing is lost.
CLEAN, LOST, TORN, USAGE, REPAIRED, ERROR = 0, 1, 1, 2, 3, 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flatstream.journal", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What a command prints with --json; its status must be the exit status."""
    status = main([*map(str, arguments), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["status"] == status
    return result


def states(result: Any) -> list[str]:
    return [segment["state"] for segment in result["segments"]]


def frames_by_number(folder: Path) -> dict[int, bytes]:
    """All frames of a journal without damage, by their numbers: those of the names, counted on."""
    found = {}
    for segment in list_segments(str(folder)):
        with flatstream.open(segment.path, checksum="xxhash64") as reader:
            found.update({segment.first + at: bytes(one) for at, one in enumerate(reader)})
    return found


# verify


def test_intact_journal_is_clean_and_not_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_journal(folder, [10, 5, 7], sealed=2)
    before = content(folder)
    assert main(["verify", str(folder)]) == CLEAN
    printed = capsys.readouterr()
    assert "3 segments, 22 intact frames; 0 torn tails; 0 bytes lost, 0 frame numbers missing" in printed.out
    assert printed.err == ""
    assert content(folder) == before


def test_torn_tail_is_told_with_its_offset_and_not_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tear(make_journal(folder, [10, 5])[-1])
    before = content(folder)
    result = as_json(capsys, "verify", folder)
    assert result["outcome"] == "torn"
    assert states(result) == ["not sealed", "torn"]
    assert result["segments"][1]["torn"] == 4 * FRAME
    assert result["next"] == 14
    assert content(folder) == before


def test_torn_first_frame_is_a_torn_tail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tear(make_journal(folder, [10, 1])[-1])
    result = as_json(capsys, "verify", folder)
    assert (result["status"], result["segments"][1]["torn"], result["frames"]) == (TORN, 0, 10)


def test_damage_is_told_with_offsets_and_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_journal(folder, [10, 10, 10], sealed=1)
    damage_frame(paths[1], 3)
    damage_frame(paths[1], 7)
    before = content(folder)
    result = as_json(capsys, "verify", folder)
    assert (result["status"], result["outcome"]) == (LOST, "lost")
    assert states(result) == ["sealed", "damaged", "not sealed"]
    assert result["segments"][1]["damage"] == [
        {"begin": 3 * FRAME, "end": 4 * FRAME, "first": 13, "next": 14},
        {"begin": 7 * FRAME, "end": 8 * FRAME, "first": 17, "next": 18},
    ]
    assert (result["lost_bytes"], result["missing_numbers"], result["frames"]) == (2 * FRAME, 2, 28)
    assert content(folder) == before
    assert main(["verify", str(folder)]) == LOST
    assert f"bytes {3 * FRAME} to {4 * FRAME} ({FRAME}): frame number 13\n" in capsys.readouterr().out


def test_damage_of_a_last_segment_counts_as_many_numbers_as_fit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_frame(make_journal(folder, [10, 10])[-1], 4)
    result = as_json(capsys, "verify", folder)
    # 25 bytes can be two frames of 12 bytes and a payload.
    assert result["segments"][1]["damage"] == [{"begin": 4 * FRAME, "end": 5 * FRAME, "first": 14, "next": 16}]
    assert result["next"] == 21


def test_sealed_segment_that_became_shorter_has_lost_frames(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_journal(folder, [10, 10], sealed=2)[1]
    os.truncate(path, 7 * FRAME)
    result = as_json(capsys, "verify", folder)
    assert (result["status"], result["missing_numbers"]) == (LOST, 3)
    assert result["segments"][1]["damage"] == [{"begin": 7 * FRAME, "end": 7 * FRAME, "first": 17, "next": 20}]
    assert f"it has {7 * FRAME} bytes, and had {10 * FRAME} when it was sealed" in result["segments"][1]["reason"]


def test_segment_that_ends_too_early_before_another_has_lost_frames(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_journal(folder, [10, 10])[0]
    os.truncate(path, 7 * FRAME)
    result = as_json(capsys, "verify", folder)
    assert (states(result), result["status"]) == (["damaged", "not sealed"], LOST)
    assert result["segments"][0]["damage"] == [{"begin": 7 * FRAME, "end": 7 * FRAME, "first": 7, "next": 10}]


def test_numbers_of_dropped_frames_behind_a_sealed_segment_are_a_gap_and_no_damage(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_journal(folder, [10, 0], sealed=1)
    (folder / "00000000000000000010.fs").unlink()
    write_segment(folder, 15, 3)
    result = as_json(capsys, "verify", folder)
    assert (result["status"], states(result)) == (CLEAN, ["sealed", "not sealed"])
    assert [segment["gap"] for segment in result["segments"]] == [5, 0]


@pytest.mark.parametrize("lost", [1, 2])
def test_a_sealed_segment_without_its_file_is_lost(folder: Path, capsys: pytest.CaptureFixture[str], lost: int) -> None:
    path = make_journal(folder, [10, 10, 10], sealed=3)[lost]
    path.unlink()
    before = content(folder)
    expected = [
        {"name": path.name, "first": 10 * lost, "next": 10 * lost + 10, "frames": 10, "bytes": 10 * FRAME},
    ]
    for command in ("verify", "ls"):
        result = as_json(capsys, command, folder)
        assert (result["lost_segments"], result["next"], result["frames"]) == (expected, 30, 20)
    result = as_json(capsys, "verify", folder)
    assert (result["status"], result["lost_bytes"], result["missing_numbers"]) == (LOST, 10 * FRAME, 10)
    assert content(folder) == before
    text = f"{path.name}: lost: it was sealed with {10 * FRAME} bytes, and there is no such file: frame numbers {lost}0"
    for command in ("verify", "ls", "recover"):
        main([command, "--quiet", str(folder)])
        assert text in capsys.readouterr().out
    # It stays so, and a copy of the journal goes on behind it.
    for command in ("recover", "verify"):
        result = as_json(capsys, command, folder)
        assert (result["status"], result["lost_segments"]) == (LOST, expected)
    out = folder.with_name("out")
    result = as_json(capsys, "salvage", folder, out, "--all")
    assert (result["status"], result["lost_bytes"], result["frames"]) == (LOST, 10 * FRAME, 20)
    with JournalWriter(out) as journal:
        assert journal.position == 30


def test_segments_that_were_removed_are_not_lost(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_journal(folder, [10, 10, 10], sealed=3)
    segments = list_segments(str(folder))
    paths[0].unlink()
    assert as_json(capsys, "verify", folder)["status"] == CLEAN
    paths[1].unlink()
    # A listing of the folder while both are removed may have the first one and not the second.
    listings = [[segments[0], segments[2]], list_segments(str(folder))]
    monkeypatch.setattr(_examine, "list_segments", lambda folder: listings.pop(0))
    manifest = read_manifest(str(folder))
    assert manifest is not None
    assert (_examine.find_lost(str(folder), manifest), listings) == ({}, [])


def test_a_lost_journal_json_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_journal(folder, [10, 10], sealed=2)
    (folder / MANIFEST).write_bytes(b"{")
    assert main(["verify", "--quiet", str(folder)]) == CLEAN
    assert capsys.readouterr().out.startswith("journal.json is missing or damaged: ")


def test_file_of_another_kind_is_damage_and_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_journal(folder, [10, 10])[1]
    path.write_bytes(b"\x1f\x8b\x08" + bytes(range(200)))
    result = as_json(capsys, "verify", folder)
    assert (states(result), result["status"]) == (["not sealed", "damaged"], LOST)
    assert "gzip" in result["segments"][1]["reason"]


def test_half_a_frame_of_a_running_writer_is_not_torn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tear(make_journal(folder, [10, 5])[-1])
    with open_for_writing(folder / LOCK, "ab"):
        result = as_json(capsys, "verify", folder)
        assert (states(result), result["status"]) == (["not sealed", "growing"], CLEAN)
        assert str(os.getpid()) in result["writer"]
    assert as_json(capsys, "verify", folder)["status"] == TORN


def test_unreadable_segment_is_told_and_the_others_are_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_journal(folder, [10, 10, 10])[1]
    path.unlink()
    path.mkdir()
    damage_frame(folder / "00000000000000000020.fs", 2)
    result = as_json(capsys, "verify", folder)
    assert (states(result), result["status"]) == (["not sealed", "unreadable", "damaged"], ERROR)


def test_segment_that_retention_removes_meanwhile_is_left_out(folder: Path) -> None:
    paths = make_journal(folder, [10, 10, 10])
    found = examine(read_folder(str(folder)), deframer_of(flatstream.ChecksumType.XXHASH64), everything=True)
    assert next(found).segment.first == 0
    paths[1].unlink()
    assert [one.segment.first for one in found] == [20]


def test_checksum_is_detected_without_journal_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_journal(folder, [10, 5], checksum="crc32c")
    (folder / MANIFEST).unlink()
    result = as_json(capsys, "verify", folder)
    assert (result["status"], result["checksum"], result["id"]) == (CLEAN, "crc32c", None)


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_journal_without_a_frame_is_clean(folder: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_journal(folder, [0])
    assert as_json(capsys, command, folder)["status"] == CLEAN
    (folder / MANIFEST).unlink()
    assert as_json(capsys, command, folder)["status"] == CLEAN


# ls


def test_ls_shows_segments_readers_and_cut_tails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_journal(folder, [10, 10, 10], sealed=1)
    tear(paths[2])
    paths[1].with_name(paths[1].name + ".torn-20250101T000000.000000Z-250").write_bytes(b"half a")
    (folder / "cursors").mkdir()
    for name, text in [
        ("archive", f"fsc1:{IDENTITY}:12\n"),
        ("ahead", f"fsc1:{IDENTITY}:1000\n"),
        ("other", f"fsc1:{'f' * 32}:12\n"),
        ("spoiled", "fsc1:"),
    ]:
        (folder / "cursors" / f"{name}.cursor").write_text(text)
    assert main(["ls", str(folder)]) == CLEAN
    printed = capsys.readouterr().out
    assert re.search(r"^ +0 +10 +250  2023-11-14 22:13:20Z  2023-11-14 22:14:20Z  sealed$", printed, re.MULTILINE)
    assert re.search(rf"^ +20 +9 +245 .* torn: {FRAME - 5} bytes from offset {9 * FRAME} on", printed, re.MULTILINE)
    assert "a tail of 6 bytes was cut off: 00000000000000000010.fs.torn-20250101T000000.000000Z-250\n" in printed
    assert "reader archive: at frame 12, 17 behind\n" in printed
    assert "reader ahead: at frame 1000, which is beyond the end of the journal, 29\n" in printed
    assert "reader other: at frame 12 of another journal\n" in printed
    assert "reader spoiled: its file holds no cursor\n" in printed
    lags = {reader["name"]: reader["lag"] for reader in as_json(capsys, "ls", folder)["readers"]}
    assert lags == {"archive": 17, "ahead": None, "other": None, "spoiled": None}


def test_ls_does_not_read_sealed_segments_of_the_right_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_journal(folder, [10, 10], sealed=1)
    damage_frame(paths[0], 3)
    assert states(as_json(capsys, "ls", folder)) == ["sealed", "not sealed"]
    os.truncate(paths[0], 6 * FRAME)
    assert states(as_json(capsys, "ls", folder)) == ["damaged", "not sealed"]


# recover


def test_recover_cuts_a_torn_tail_keeps_a_copy_and_is_clean_the_second_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_journal(folder, [10, 5])[-1]
    tear(path)
    whole = path.read_bytes()
    result = as_json(capsys, "recover", folder)
    assert (result["status"], result["outcome"]) == (REPAIRED, "torn")
    cut = result["segments"][1]
    assert (cut["action"], cut["bytes_cut"], cut["frames"]) == ("cut", FRAME - 5, 4)
    assert path.read_bytes() == whole[: 4 * FRAME]
    assert (folder / cut["saved_as"]).read_bytes() == whole[4 * FRAME :]
    assert as_json(capsys, "recover", folder)["status"] == CLEAN
    assert as_json(capsys, "verify", folder)["status"] == CLEAN
    assert as_json(capsys, "verify", folder)["id"] == IDENTITY


def test_recover_leaves_a_damaged_segment_and_says_lost_each_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_journal(folder, [10, 5])[0]
    damage_frame(path, 3)
    before = path.read_bytes()
    assert main(["recover", str(folder)]) == LOST
    printed = capsys.readouterr().out
    assert f"{path.name}: damaged, and not changed: checksum mismatch" in printed
    assert f"{FRAME} bytes lost" in printed
    assert main(["recover", str(folder)]) == LOST
    assert f"{path.name}: damaged, as was known; 9 frames" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_recover_says_lost_if_a_sealed_segment_became_shorter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_journal(folder, [10, 10], sealed=1)[0]
    os.truncate(path, 7 * FRAME)
    assert main(["recover", str(folder)]) == LOST
    assert f"{path.name}: 3 frames are missing that it had when it was sealed" in capsys.readouterr().out


def test_recover_makes_journal_json_anew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_journal(folder, [10, 5], checksum="crc64")
    (folder / MANIFEST).unlink()
    assert main(["recover", str(folder)]) == CLEAN
    manifest = read_manifest(str(folder))
    assert manifest is not None
    assert (manifest.checksum, list(manifest.sealed)) == ("crc64", ["00000000000000000000.fs"])


def test_recover_refuses_while_a_writer_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tear(make_journal(folder, [10, 5])[-1])
    with open_for_writing(folder / LOCK, "ab"):
        before = content(folder)
        assert main(["recover", str(folder)]) == ERROR
        message = capsys.readouterr().err
        assert f"another writer has the file open: this process, {os.getpid()}; nothing was changed" in message
        assert content(folder) == before


# salvage


def test_salvage_keeps_the_number_of_each_intact_frame(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_journal(folder, [20, 20, 20, 20], sealed=2)
    lost = {0, 1, 7, 19, 25, 26, 39, 60, 72}
    for number in lost:
        damage_frame(paths[number // 20], number % 20)
    tear(paths[3])
    before = content(folder)
    out = folder.with_name("out")
    result = as_json(capsys, "salvage", folder, out, "--all")
    assert result["status"] == LOST
    assert content(folder) == before
    found = frames_by_number(out)
    # A range of 25 bytes in the last segment may be two frames, so numbers behind it are larger there.
    exact = {number: data for number, data in found.items() if number < 60}
    assert exact == {number: payload(number) for number in range(60) if number not in lost}
    assert list(found.values())[len(exact) :] == [payload(number) for number in range(60, 79) if number not in lost]
    assert result["lost_bytes"] == len(lost) * FRAME + FRAME - 5
    assert result["frames"] == len(found)
    assert as_json(capsys, "verify", out)["status"] == CLEAN
    manifest = read_manifest(str(out))
    assert manifest is not None
    assert manifest.id == IDENTITY
    assert len(manifest.sealed) == len(list_segments(str(out)))


def test_salvage_copies_only_damaged_and_torn_segments(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_journal(folder, [10, 10, 10])
    damage_frame(paths[1], 9)
    out = folder.with_name("out")
    assert main(["salvage", str(folder), str(out)]) == LOST
    assert frames_by_number(out) == {number: payload(number) for number in range(10, 19)}
    printed = capsys.readouterr().out
    assert f"bytes {9 * FRAME} to {10 * FRAME} ({FRAME}): frame number 19\n" in printed
    assert "1 doubtful frame in 00000000000000000010.fs.doubtful\n" in printed
    with flatstream.open(out / "00000000000000000010.fs.doubtful", checksum="xxhash64") as reader:
        assert len([*reader]) == 1
    assert (out / "00000000000000000010.fs").stat().st_mtime == paths[1].stat().st_mtime


def test_numbers_lost_at_the_end_are_not_used_again_in_the_salvaged_journal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_journal(folder, [10])[0]
    damage_frame(path, 8)
    damage_frame(path, 9)
    out = folder.with_name("out")
    assert main(["salvage", str(folder), str(out)]) == LOST
    # 50 bytes can be 4 frames.
    assert [segment.first for segment in list_segments(str(out))] == [0, 12]
    capsys.readouterr()
    assert as_json(capsys, "ls", out)["next"] == 12


def test_salvage_of_a_wrong_length_copies_the_frames_behind_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_journal(folder, [10, 10])[0]
    overwrite(path, 4 * FRAME + 1, b"\x40")
    out = folder.with_name("out")
    result = as_json(capsys, "salvage", folder, out)
    assert result["segments"][0]["lost"] == [{"begin": 4 * FRAME, "end": 5 * FRAME, "first": 4, "next": 5}]
    assert frames_by_number(out) == {number: payload(number) for number in range(10) if number != 4}


def test_salvage_of_a_torn_tail_loses_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tear(make_journal(folder, [10, 5])[-1])
    out = folder.with_name("out")
    result = as_json(capsys, "salvage", folder, out)
    assert (result["status"], result["outcome"], result["frames"]) == (REPAIRED, "torn", 4)
    assert as_json(capsys, "verify", out)["status"] == CLEAN


def test_salvage_of_an_intact_journal_makes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_journal(folder, [10, 10])
    out = folder.with_name("out")
    assert main(["salvage", str(folder), str(out)]) == CLEAN
    assert "no segment is damaged or torn: nothing was copied\n" in capsys.readouterr().out
    assert os.listdir(folder.parent) == [folder.name]


def test_salvage_does_not_write_into_a_folder_that_exists(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage_frame(make_journal(folder, [10, 10])[0], 1)
    before = content(folder)
    assert main(["salvage", str(folder), str(folder)]) == ERROR
    assert f"error: {folder}: File exists" in capsys.readouterr().err
    assert content(folder) == before


def test_interrupted_salvage_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_journal(folder, [10, 10, 10])
    damage_frame(paths[0], 1)
    damage_frame(paths[2], 1)
    copied: list[str] = []

    def interrupt_the_second(source: str, *arguments: Any, **options: Any) -> Any:
        if copied:
            raise KeyboardInterrupt
        copied.append(source)
        return flatstream.salvage(source, *arguments, **options)

    monkeypatch.setattr(_salvage, "salvage", interrupt_the_second)
    assert main(["salvage", str(folder), str(folder.with_name("out"))]) == 130
    assert copied == [str(paths[0])]
    assert os.listdir(folder.parent) == [folder.name]
    assert capsys.readouterr().err == "python -m flatstream.journal: interrupted\n"


# A JournalWriter


def test_journal_of_a_running_writer_is_listed_and_verified_and_not_repaired(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with JournalWriter(folder, rotate=RotationPolicy(max_frames=10)) as journal:
        journal.write_payloads([payload(number) for number in range(25)])
        journal.sync()
        result = as_json(capsys, "ls", folder)
        assert (result["frames"], result["next"], result["id"]) == (25, 25, journal.id)
        assert str(os.getpid()) in result["writer"]
        result = as_json(capsys, "verify", folder)
        assert (result["status"], states(result)[-1]) == (CLEAN, "growing")
        assert main(["recover", str(folder)]) == ERROR
        capsys.readouterr()
        journal.write_payload(payload(25))
    result = as_json(capsys, "verify", folder)
    assert (states(result), result["frames"], result["writer"]) == (["sealed"] * 3, 26, None)
    assert as_json(capsys, "recover", folder)["status"] == CLEAN


def test_writer_that_was_killed_leaves_what_recover_repairs_and_the_next_writer_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import os, signal, sys\n"
        "from flatstream.journal import JournalWriter\n"
        "journal = JournalWriter(sys.argv[1])\n"
        "journal.write_payloads([b'frame%08d' % number for number in range(10)])\n"
        "journal.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False, timeout=60)
    (path,) = folder.glob("*.fs")
    tear(path)
    assert states(as_json(capsys, "verify", folder)) == ["torn"]
    assert as_json(capsys, "recover", folder)["status"] == REPAIRED
    with JournalWriter(folder) as journal:
        assert journal.position == 9
        assert [report.action for report in journal.recovery] == ["nothing"]
    assert frames_by_number(folder) == {number: payload(number) for number in range(9)}


def test_writer_goes_on_in_the_salvaged_journal_behind_all_numbers_of_the_old_one(folder: Path) -> None:
    with JournalWriter(folder, describe=False) as journal:
        journal.write_payloads([payload(number) for number in range(10)])
    damage_frame(folder / "00000000000000000000.fs", 9)
    with JournalWriter(folder) as journal:
        went_on_at = journal.position
        identity = journal.id
    assert went_on_at > 9
    out = folder.with_name("out")
    assert main(["salvage", str(folder), str(out), "--all"]) == LOST
    with JournalWriter(out) as journal:
        assert (journal.position, journal.id) == (went_on_at, identity)
        journal.write_payload(payload(went_on_at))
    assert frames_by_number(out) == {number: payload(number) for number in [*range(9), went_on_at]}


# errors


@pytest.mark.parametrize("command", ["ls", "verify", "recover", "salvage"])
def test_what_is_no_journal_is_an_error(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = [str(tmp_path / "out")] if command == "salvage" else []
    (tmp_path / "notes").write_text("text")
    assert main([command, str(tmp_path), *more]) == ERROR
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith(f"error: {tmp_path} is no journal: it has no segments and no journal.json\n")
    assert main([command, str(tmp_path / "nothing"), *more]) == ERROR
    assert capsys.readouterr().err.endswith("nothing: No such file or directory\n")
    assert os.listdir(tmp_path) == ["notes"]


def test_error_is_in_the_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = as_json(capsys, "verify", tmp_path)
    assert (result["status"], result["outcome"]) == (ERROR, "error")
    assert "is no journal" in result["error"]


@pytest.mark.parametrize("command", ["ls", "verify", "recover"])
def test_checksum_of_the_application_is_an_error(
    folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_journal(folder, [10])
    write_manifest(str(folder), Manifest(IDENTITY, None))
    before = content(folder)
    assert main([command, str(folder)]) == ERROR
    assert "checksum or framer that flatstream does not have" in capsys.readouterr().err
    assert content(folder) == before


@pytest.mark.parametrize("command", ["ls", "verify", "recover"])
def test_other_checksum_than_that_of_the_journal_is_an_error(
    folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_journal(folder, [10])
    before = content(folder)
    assert main([command, str(folder), "--checksum", "crc32"]) == ERROR
    assert "has the checksum 'xxhash64', as journal.json says, not 'crc32'" in capsys.readouterr().err
    assert content(folder) == before


@pytest.mark.parametrize(
    "arguments", [[], ["repair", "x"], ["verify"], ["verify", "x", "--checksum", "md5"], ["salvage", "x"]]
)
def test_wrong_command_line_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == USAGE
    assert "usage: python -m flatstream.journal" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in _cli._COMMANDS)])
def test_help_tells_the_exit_statuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 0
    printed = capsys.readouterr().out
    assert _cli.EPILOG.strip() in printed
    for status in (0, 1, 2, 3, 4, 130, 141):
        assert re.search(rf"^  {status}  +\w", printed, re.MULTILINE)


def test_quiet_prints_only_problems_and_the_result(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tear(make_journal(folder, [10, 10, 10])[-1])
    assert main(["verify", "-q", str(folder)]) == TORN
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("00000000000000000020.fs: torn")


def test_recover_says_which_segments_it_did_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_journal(folder, [10, 10, 5], sealed=2)
    damage_frame(paths[0], 3)
    assert main(["recover", str(folder)]) == CLEAN
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{paths[0].name}: sealed, and not read; 10 frames")
    assert lines[-1].startswith("3 segments, 25 frames, 20 of them in sealed segments, which were not read; 0 torn")
    assert main(["verify", str(folder)]) == LOST


# The process


def test_command_is_run_by_the_interpreter(folder: Path) -> None:
    tear(make_journal(folder, [10, 10])[-1])
    done = run("recover", folder)
    assert (done.returncode, done.stderr) == (REPAIRED, "")
    assert "2 segments, 19 intact frames; 1 torn tail cut off; 0 bytes lost" in done.stdout
    assert run("verify", folder).returncode == CLEAN


def run_without_reader(*arguments: object) -> tuple[int, str]:
    """The exit status, and what is printed to the error output, of a command whose output nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "flatstream.journal", *map(str, arguments)]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize("option", ["-q", "--json"])
def test_looking_ends_quietly_when_nobody_reads_the_output(folder: Path, option: str) -> None:
    tear(make_journal(folder, [10] * 5)[-1])
    assert run_without_reader("verify", folder, option) == (141, "")


def test_repairing_is_done_to_its_end_though_nobody_reads_the_output(folder: Path) -> None:
    paths = make_journal(folder, [10] * 5)
    tear(paths[-1])
    assert run_without_reader("recover", folder) == (REPAIRED, "")
    assert paths[-1].stat().st_size == 9 * FRAME
    damage_frame(paths[0], 1)
    out = folder.with_name("out")
    assert run_without_reader("salvage", folder, out) == (LOST, "")
    assert len(frames_by_number(out)) == 9


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_output_that_cannot_be_written_is_an_error(folder: Path) -> None:
    make_journal(folder, [10])
    command = [sys.executable, "-m", "flatstream.journal", "verify", str(folder)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == ERROR
    assert "No space left on device" in done.stderr


def is_open_in(process: subprocess.Popen[str], path: Path) -> bool:
    """Whether a process has a file open."""
    opened = f"/proc/{process.pid}/fd"
    for name in os.listdir(opened):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(os.path.join(opened, name)) == str(path):
                return True
    return False


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are listed by /proc")
def test_ctrl_c_is_status_130(folder: Path) -> None:
    make_journal(folder, [10, 10])
    # A segment whose reading takes long, and which takes no room on the disk.
    large = folder / "00000000000000000020.fs"
    large.touch()
    os.truncate(large, 16 << 30)
    command = [sys.executable, "-m", "flatstream.journal", "verify", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: is_open_in(process, large))
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "python -m flatstream.journal: interrupted\n")

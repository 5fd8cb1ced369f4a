"""Journals with compressed segments: they give what the plain ones give, to readers, writers and the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream.journal import (
    CompressionPolicy,
    Cursor,
    JournalReader,
    JournalWriter,
    RetentionPolicy,
    RotationPolicy,
)
from flatstream.journal._cli import main
from flatstream.journal._layout import list_segments, read_manifest
from flatstream.tools import verify
from support.compressed import (
    compress_by_hand,
    compressor_of,
    files_of,
    finish,
    note_compressed,
    plain,
    wait_until_compressed,
)
from support.extent import in_one_test
from support.journal_folders import FRAME, IDENTITY, content, damage_frame, make_journal, payload, tear
from support.journal_segments import numbered
from support.sealed import compress, zstd
from support.threads import run_threads

COUNTS = [40, 1, 300, 77, 20]
FIRSTS = [0, 40, 41, 341, 418]
TOTAL = sum(COUNTS)


def compress_all(folder: Path) -> None:
    for segment in list_segments(str(folder))[:-1]:
        compress_by_hand(Path(segment.path))
    note_compressed(folder)


def compress_some(folder: Path) -> None:
    for segment in list_segments(str(folder))[:-1:2]:
        compress_by_hand(Path(segment.path))
    note_compressed(folder)


def compress_as_writers_do(folder: Path) -> None:
    finish(compressor_of(folder))


def seal_each(folder: Path) -> None:
    """Also the last one, as somebody may do."""
    for segment in list_segments(str(folder)):
        flatstream.seal(segment.path, remove=True, checksum="xxhash64")


WAYS: dict[str, Callable[[Path], None]] = {
    "all": compress_all,
    "some": compress_some,
    "by a writer": compress_as_writers_do,
    "sealed": seal_each,
}


def untouched(paths: Sequence[Path]) -> None:
    pass


def damaged(paths: Sequence[Path]) -> None:
    damage_frame(paths[0], 7)
    damage_frame(paths[2], 0)
    damage_frame(paths[2], 299)
    paths[3].write_bytes(paths[3].read_bytes()[: FRAME * 70 + 9])


def torn(paths: Sequence[Path]) -> None:
    tear(paths[2])


def lost(paths: Sequence[Path]) -> None:
    paths[1].unlink()


CONDITIONS: dict[str, Callable[[Sequence[Path]], None]] = {
    "intact": untouched,
    "damaged": damaged,
    "torn": torn,
    "lost": lost,
}


def read_everything(folder: Path) -> dict[str, Any]:
    """What readers see of a journal."""
    seen: dict[str, Any] = {}
    starts: list[Any] = [0, 1, 39, 40, 41, 42, 200, 340, 341, 417, 418, TOTAL - 1, -1, -25, -400, "newest", "oldest"]
    starts += [Cursor(IDENTITY, 77), datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)]
    for start in starts:
        with JournalReader(folder, start=start) as reader:
            found = numbered(reader)
            gaps = [gap._replace(segment=os.path.basename(gap.segment).removesuffix(".zst")) for gap in reader.gaps]
            seen[repr(start)] = (found, gaps, reader.position, str(reader.cursor), reader.lost_bytes)
    with JournalReader(folder) as reader:
        seen["batches"] = [bytes(piece) for batch in reader.batches() for piece in batch]
    with JournalReader(folder, name="registered", start=3) as reader:
        # The place is kept in the middle of a segment.
        seen["first"] = [reader.number for _ in zip(range(90), reader, strict=False)]
        reader.commit()
    with JournalReader(folder, name="registered") as reader:
        seen["then"] = numbered(reader)
    (folder / "cursors" / "registered.cursor").unlink()
    return seen


def told(command: str, *arguments: str) -> tuple[int, Any]:
    """The status and the JSON of a command of the journal's command line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        status = main([command, *arguments, "--json"])
    text = out.getvalue().replace(".fs.zst", ".fs")
    return status, without_places(json.loads(text))


def without_places(value: Any) -> Any:
    """What a command says, without what depends on the folder and on how segments are stored."""
    if isinstance(value, dict):
        left = ("directory", "stored_bytes", "out", "ended", "began")
        return {key: without_places(item) for key, item in value.items() if key not in left}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    return value


SHORT = [("by a writer", "intact"), ("some", "damaged"), ("sealed", "torn"), ("all", "lost")]
CASES = [
    pytest.param(way, condition, marks=[] if (way, condition) in SHORT else [pytest.mark.long])
    for way in WAYS
    for condition in CONDITIONS
]


@in_one_test
@pytest.mark.parametrize(("way", "condition"), CASES)
def test_compressed_segments_change_no_result(way: str, condition: str, tmp_path: Path) -> None:
    before, after = tmp_path / "plain", tmp_path / "compressed"
    CONDITIONS[condition](make_journal(before, COUNTS, sealed=4))
    shutil.copytree(before, after)
    WAYS[way](after)
    if condition == "intact" or way != "by a writer":
        assert any(name.endswith(".zst") for name in files_of(after))
    assert read_everything(after) == read_everything(before)
    # Without its size in journal.json, a segment is read by `ls` too, and its end is that of the next one.
    for command in ["ls"] * (way != "sealed" or condition in ("intact", "torn")) + ["verify"]:
        assert told(command, str(after)) == told(command, str(before)), command
    for folder in (before, after):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(tmp_path / f"{folder.name}-saved")
    results = [told("salvage", str(folder), f"{folder}-saved", "--all") for folder in (after, before)]
    assert results[0] == results[1]
    saved = [
        {name: data for name, data in content(Path(f"{folder}-saved")).items() if name != "journal.json"}
        for folder in (after, before)
    ]
    assert saved[0] == saved[1]
    # A writer goes on with the same number, and readers see the same afterwards.
    for folder in (before, after):
        with JournalWriter(folder, describe=False) as writer:
            assert writer.position >= TOTAL
            writer.write_payload(b"further")
        assert read_manifest(str(folder)) is not None
    if way != "sealed" and condition in ("intact", "lost"):
        # Where the last segment is compressed, a new one begins; and no tail is cut off a compressed one.
        assert read_everything(after) == read_everything(before)
    assert frames_of(after) == frames_of(before)


def frames_of(folder: Path) -> list[tuple[int, bytes]]:
    with JournalReader(folder) as reader:
        return numbered(reader)


def test_writer_compresses_what_it_has_sealed(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with JournalWriter(folder, rotate=RotationPolicy(max_frames=10), compress=True) as writer:
        writer.write_payloads([payload(number) for number in range(35)])
        writer.flush()
        wait_until_compressed(writer)
        names = files_of(folder)
        assert names == [
            "00000000000000000000.fs.zst",
            "00000000000000000010.fs.zst",
            "00000000000000000020.fs.zst",
            "00000000000000000030.fs",
        ]
        manifest = read_manifest(str(folder))
        assert manifest is not None
        assert manifest.compressed == {name.removesuffix(".zst"): (folder / name).stat().st_size for name in names[:-1]}
        # They are as they were sealed.
        assert sum(manifest.sealed[name].frames for name in manifest.compressed) == 30
        metrics = writer.metrics()
        assert metrics.segments == 4
        assert metrics.journal_bytes == sum((folder / name).stat().st_size for name in names)
        assert writer.health() == []
    with JournalReader(folder) as reader:
        assert numbered(reader) == [(number, payload(number)) for number in range(35)]
        assert reader.gaps == []
        assert reader.description is not None
    # Each is an ordinary file: a stream, in blocks of whole frames.
    with flatstream.open(folder / names[1]) as stream:
        assert [bytes(one) for one in stream] == [payload(number) for number in range(10, 20)]
    # Opening the journal reads none of them.
    with JournalWriter(folder) as writer:
        assert [report.action for report in writer.recovery] == ["sealed", "sealed", "sealed", "nothing"]
        assert writer.position == 35


def test_nothing_is_compressed_without_being_asked(tmp_path: Path) -> None:
    for asked in (None, False):
        folder = tmp_path / str(asked)
        with JournalWriter(folder, rotate=RotationPolicy(max_frames=3), compress=asked) as writer:
            writer.write_payloads([b"one"] * 10)
            writer.wait_durable()
        assert not any(name.endswith(".zst") for name in files_of(folder))


def test_newest_and_youngest_segments_stay_as_they_are(tmp_path: Path) -> None:
    make_journal(tmp_path / "first", COUNTS, sealed=4)
    finish(compressor_of(tmp_path / "first", CompressionPolicy(after_segments=2)))
    assert [name.endswith(".zst") for name in files_of(tmp_path / "first")] == [True, True, False, False, False]
    make_journal(tmp_path / "second", COUNTS, sealed=4)
    # They ended in 2023.
    compressor = compressor_of(tmp_path / "second", CompressionPolicy(after_seconds=1e12))
    finish(compressor)
    until = compressor.seconds_until_work()
    assert until is not None
    assert until > 1e11
    assert not any(name.endswith(".zst") for name in files_of(tmp_path / "second"))
    finish(compressor_of(tmp_path / "second", CompressionPolicy(after_seconds=60)))
    assert [name.endswith(".zst") for name in files_of(tmp_path / "second")] == [True] * 4 + [False]


def test_times_and_mode_of_a_segment_stay(tmp_path: Path) -> None:
    paths = make_journal(tmp_path / "journal", [3, 3], sealed=1)
    os.utime(paths[0], ns=(1_700_000_000_123_456_789, 1_700_000_060_987_654_321))
    paths[0].chmod(0o640)
    finish(compressor_of(tmp_path / "journal"))
    status = Path(f"{paths[0]}.zst").stat()
    assert status.st_mtime_ns == 1_700_000_060_987_654_321
    assert status.st_mode & 0o777 == 0o640


def test_damaged_segment_or_one_that_was_changed_stays_as_it_is(tmp_path: Path) -> None:
    paths = make_journal(tmp_path / "journal", [3, 3, 3, 3], sealed=3)
    manifest_path = tmp_path / "journal" / "journal.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["sealed"][paths[0].name]["damaged"] = True
    manifest_path.write_text(json.dumps(manifest))
    tear(paths[1])
    before = content(tmp_path / "journal")
    finish(compressor_of(tmp_path / "journal"))
    assert [name.endswith(".zst") for name in files_of(tmp_path / "journal")] == [False, False, True, False]
    assert all(content(tmp_path / "journal")[path.name] == before[path.name] for path in paths[:2])


def test_readers_of_a_plain_segment_go_on_while_it_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    make_journal(folder, COUNTS, sealed=4)
    expected = [(number, payload(number)) for number in range(TOTAL)]
    for follow in (False, True):
        for at in (0, 5, 40, 41, 200):
            copy = tmp_path / f"{follow}-{at}"
            shutil.copytree(folder, copy)
            with JournalReader(copy, capacity=64, follow=follow) as reader:
                found: list[tuple[int, bytes]] = []
                while len(found) < at:
                    found.append((reader.number + 1, bytes(reader.read_message() or b"")))
                finish(compressor_of(copy))
                while len(found) < TOTAL:
                    message = reader.read_message()
                    assert message is not None
                    found.append((reader.number, bytes(message)))
                assert found == expected
                assert reader.gaps == []


def test_readers_that_open_a_journal_while_it_is_compressed_miss_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    count = 400
    with (
        JournalWriter(folder, rotate=RotationPolicy(max_frames=5), compress=True, buffer_size=0) as writer,
        JournalReader(folder, follow=True) as follower,
    ):

        def write() -> None:
            for number in range(count):
                writer.write_payload(payload(number))

        def follow() -> None:
            for number in range(count):
                assert bytes(follower.read_message(timeout=60) or b"") == payload(number)
                assert follower.number == number
            assert follower.gaps == []

        def read() -> None:
            found: list[tuple[int, bytes]] = []
            while len(found) < count:
                with JournalReader(folder) as reader:
                    found = numbered(reader)
                    assert found == [(number, payload(number)) for number in range(len(found))]
                    assert reader.gaps == []

        run_threads(write, follow, read, read)
        wait_until_compressed(writer)
        assert sum(name.endswith(".zst") for name in files_of(folder)) == count // 5 - 1


def test_follower_waits_behind_a_last_segment_that_is_compressed(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    make_journal(folder, [5, 5], sealed=2)
    for segment in list_segments(str(folder)):
        compress_by_hand(Path(segment.path))
    with JournalReader(folder, follow=True) as reader:
        assert [bytes(reader.read_message(timeout=30) or b"") for _ in range(10)] == [payload(n) for n in range(10)]
        with pytest.raises(TimeoutError):
            reader.read_message(timeout=0.01)
        with JournalWriter(folder, describe=False) as writer:
            assert writer.position == 10
            writer.write_payload(b"next")
            writer.flush()
            assert bytes(reader.read_message(timeout=30) or b"") == b"next"
            assert reader.number == 10
    assert files_of(folder)[-1] == "00000000000000000010.fs"


def test_lost_journal_json_costs_reading_the_compressed_segments(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    make_journal(folder, COUNTS, sealed=4)
    finish(compressor_of(folder))
    (folder / "journal.json").unlink()
    with JournalReader(folder) as reader:
        assert [number for number, _ in numbered(reader)] == list(range(TOTAL))
    with JournalWriter(folder) as writer:
        assert [report.action for report in writer.recovery] == ["nothing"] * 5
        assert [report.frames for report in writer.recovery] == COUNTS
        assert writer.position == TOTAL
    with JournalWriter(folder) as writer:
        assert [report.action for report in writer.recovery] == ["sealed"] * 4 + ["nothing"]


def test_damaged_block_costs_its_frames_only(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    paths = make_journal(folder, COUNTS, sealed=4)
    new = compress_by_hand(paths[2], block=FRAME * 50)
    data = bytearray(new.read_bytes())
    data[len(data) // 2] ^= 0x40
    new.write_bytes(data)
    with JournalReader(folder) as reader:
        found = numbered(reader)
        (gap,) = reader.gaps
    missing = sorted(set(range(TOTAL)) - {number for number, _ in found})
    assert found == [(number, payload(number)) for number in range(TOTAL) if number not in missing]
    assert missing == list(range(missing[0], missing[0] + 50))
    assert (gap.first, gap.next, gap.lost_bytes, gap.segment) == (missing[0], missing[0] + 50, FRAME * 50, str(new))
    status, report = told("verify", str(folder))
    assert status != 0
    (segment,) = (one for one in report["segments"] if one["state"] == "damaged")
    assert segment["name"] == paths[2].name
    assert "block 2 is damaged (" in segment["reason"] or "block 3 is damaged (" in segment["reason"]
    (damage,) = verify(folder).damage
    assert damage.end - damage.begin == FRAME * 50
    assert re.match(rf"block [23] of the compressed segment, with {FRAME * 50:,} bytes, cannot be dec", damage.reason)
    with JournalWriter(folder) as writer:
        assert writer.position == TOTAL
        assert files_of(folder)[2] == new.name
        assert new.read_bytes() == data
    # What is intact can be saved.
    assert main(["salvage", str(folder), str(tmp_path / "saved")]) != 2
    with JournalReader(tmp_path / "saved") as reader:
        assert [number for number, _ in numbered(reader)] == [n for n in range(41, 341) if n not in missing]


@in_one_test
@pytest.mark.parametrize("how", ["cut off", "garbage", "empty", "zeros at the end"])
@pytest.mark.parametrize("place", [0, 2])
def test_segment_that_cannot_be_decompressed_stays_damaged(how: str, place: int, tmp_path: Path) -> None:
    # Without a table, nothing stands for the frames that are lost.
    folder = tmp_path / "journal"
    paths = make_journal(folder, COUNTS[:3], sealed=3)
    data = zstd.compress(paths[place].read_bytes())
    path = Path(f"{paths[place]}.zst")
    path.write_bytes(
        {
            "cut off": data[: len(data) // 2],
            "garbage": b"\xa5" * 1000,
            "empty": b"",
            "zeros at the end": compress(paths[place].read_bytes()[: FRAME * 10]) + bytes(1000),
        }[how]
    )
    paths[place].unlink()
    for is_known in (True, True, False):
        if not is_known:
            (folder / "journal.json").unlink()
        status, report = told("verify", str(folder))
        assert status == 1
        assert report["segments"][place]["state"] == "damaged"
        with JournalWriter(folder) as writer:
            assert writer.position == sum(COUNTS[:3])
            found = [one for one in writer.recovery if one.path == str(path)]
            assert [one.action for one in found] in (["damaged"], ["sealed"])
    with JournalReader(folder) as reader:
        missing = set(range(sum(COUNTS[:3]))) - {number for number, _ in numbered(reader)}
        assert missing == {number for gap in reader.gaps for number in range(gap.first, gap.next)}
        assert missing


@pytest.mark.parametrize("kept", [0, 1000, FRAME * 20])
def test_plain_file_that_is_half_decompressed_does_not_take_the_place_of_the_compressed_one(
    kept: int, tmp_path: Path
) -> None:
    # As zstd -d leaves it that was killed.
    folder = tmp_path / "journal"
    paths = make_journal(folder, COUNTS, sealed=4)
    plain_bytes = paths[2].read_bytes()
    finish(compressor_of(folder))
    new = Path(f"{paths[2]}.zst")
    data = new.read_bytes()
    paths[2].write_bytes(plain_bytes[:kept])
    with JournalWriter(folder) as writer:
        assert writer.position == TOTAL
    assert new.read_bytes() == data
    assert not paths[2].exists()
    (aside,) = folder.glob("*.torn-*")
    assert aside.read_bytes() == plain_bytes[:kept]
    with JournalReader(folder) as reader:
        assert [number for number, _ in numbered(reader)] == list(range(TOTAL))
        assert reader.gaps == []
    # A whole one is the segment, and the compressed one goes.
    paths[2].write_bytes(plain_bytes)
    with JournalWriter(folder):
        assert files_of(folder)[2] == paths[2].name
    assert not new.exists()


# Retention


def test_retention_counts_the_bytes_on_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    # 300 frames of the same are stored in some hundred bytes.
    make_journal(folder, [300] * 6, sealed=6)
    size = plain(folder, 0).stat().st_size
    finish(compressor_of(folder, CompressionPolicy(after_segments=1)))
    stored = sum((folder / name).stat().st_size for name in files_of(folder))
    assert stored < 4 * size
    with JournalWriter(folder, retain=RetentionPolicy(max_bytes=4 * size), describe=False) as writer:
        assert writer.metrics().segments == 6
        assert writer.metrics().journal_bytes == stored
    with JournalWriter(folder, retain=RetentionPolicy(max_segments=3), describe=False) as writer:
        assert writer.metrics().removed_segments == 3
    assert files_of(folder) == [f"{number:020}.fs.zst" for number in (900, 1200)] + [f"{1500:020}.fs"]
    manifest = read_manifest(str(folder))
    assert manifest is not None
    assert sorted(manifest.compressed) == [f"{number:020}.fs" for number in (900, 1200)]


def test_segment_that_is_removed_while_it_is_compressed_does_not_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    make_journal(folder, [300, 300], sealed=1)
    for steps in range(1, 9):
        copy = tmp_path / str(steps)
        shutil.copytree(folder, copy)
        compressor = compressor_of(copy)
        for _ in range(steps):
            if compressor.seconds_until_work() == 0:
                compressor._step()
        # As JournalWriter does when the disk is full.
        with compressor.lock:
            for path in (plain(copy, 0), Path(f"{plain(copy, 0)}.zst")):
                path.unlink(missing_ok=True)
            compressor._manifest.sealed.pop(plain(copy, 0).name)
            compressor._manifest.compressed.pop(plain(copy, 0).name, None)
        finish(compressor)
        assert files_of(copy) == [plain(copy, 300).name]


# Arguments


def test_wrong_policies_are_refused(tmp_path: Path) -> None:
    wrong: dict[str, Any]
    unfit: dict[str, Any]
    for wrong in ({"level": 99}, {"after_segments": -1}, {"after_seconds": 0}, {"after_seconds": float("nan")}):
        with pytest.raises(ValueError, match=f"CompressionPolicy.{next(iter(wrong))} must be"):
            CompressionPolicy(**wrong)
    for unfit in ({"level": "high"}, {"after_segments": 1.5}, {"after_seconds": "1"}):
        with pytest.raises(TypeError):
            CompressionPolicy(**unfit)
    with pytest.raises(TypeError, match="compress must be a CompressionPolicy or a bool, got 9"):
        JournalWriter(tmp_path / "journal", compress=9)  # type: ignore[arg-type]
    assert not (tmp_path / "journal").exists()

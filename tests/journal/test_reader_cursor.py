"""Registered readers: a cursor in a file, a crash, a restart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flatstream.journal import Cursor, Gap, JournalReader, JournalWriter, RetentionPolicy, RotationPolicy
from flatstream.journal._layout import list_cursors, read_cursor
from support.journal_segments import PAYLOADS, make_segments, numbered
from support.logs import log_lines
from support.processes import forked

ALL = list(enumerate(PAYLOADS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def write(folder: Path, begin: int = 0, end: int = 60, **options: object) -> JournalWriter:
    writer = JournalWriter(folder, "crc32", rotate=RotationPolicy(max_frames=10), **options)  # type: ignore[arg-type]
    writer.write_payloads(PAYLOADS[begin:end])
    writer.flush()
    return writer


def test_reader_goes_on_where_it_committed(folder: Path) -> None:
    write(folder).close()
    for begin in range(0, 60, 13):
        with JournalReader(folder, name="totals") as reader:
            assert reader.position == begin
            for number in range(begin, min(begin + 13, 60)):
                assert bytes(next(reader)) == PAYLOADS[number]
            reader.commit()
    with JournalReader(folder, name="totals") as reader:
        assert list(reader) == []
    with JournalReader(folder, name="other", start=-3) as reader:
        assert numbered(reader) == ALL[57:]
        reader.commit()
    cursors = list_cursors(str(folder))
    assert {name: cursor.number for name, cursor in cursors.items()} == {"other": 60, "totals": 60}
    assert {cursor.journal for cursor in cursors.values()} == {reader.id}
    assert sorted(os.listdir(folder / "cursors")) == ["other.cursor", "totals.cursor"]


@pytest.mark.parametrize("commits", [1, 7, 25])
def test_crash_gives_frames_again_and_the_number_makes_it_once(folder: Path, commits: int) -> None:
    write(folder).close()
    stored: list[bytes] = []

    def run() -> list[bytes]:
        """Reads 20 frames, commits after every `commits` of them, and crashes."""
        got = []
        reader = JournalReader(folder, name="once")
        for count, payload in enumerate(reader, 1):
            got.append(bytes(payload))
            if reader.number == len(stored):
                stored.append(bytes(payload))
            if count % commits == 0:
                reader.commit()
            if count == 20:
                break
        return got, stored  # type: ignore[return-value]

    seen = []
    for _ in range(12):
        got, kept = forked(run)
        stored[:] = kept
        seen += got
        if commits > 20:
            break
    if commits > 20:
        # It never commits, so it is given the same frames for ever.
        assert seen == PAYLOADS[:20]
        return
    assert stored == PAYLOADS
    assert set(seen) == set(PAYLOADS)
    assert len(seen) >= 60


def test_retention_keeps_what_a_registered_reader_needs(folder: Path) -> None:
    writer = write(folder, 0, 5, retain=RetentionPolicy(max_segments=2))
    with writer, JournalReader(folder, name="slow") as reader:
        assert bytes(next(reader)) == PAYLOADS[0]
        for begin in range(5, 60, 5):
            writer.write_payloads(PAYLOADS[begin : begin + 5])
            writer.flush()
        assert numbered(reader) == ALL[1:]
        assert reader.gaps == []
        reader.commit()


def test_cursor_of_another_journal(folder: Path) -> None:
    write(folder).close()
    other = Cursor("1" * 32, 5)
    with pytest.raises(ValueError, match=f"one of the journal {'1' * 32}, and .* has the journal [0-9a-f]{{32}}"):
        JournalReader(folder, start=other)
    (folder / "cursors").mkdir()
    (folder / "cursors" / "old.cursor").write_text(f"{other}\n")
    with JournalReader(folder, name="old", start=50) as reader:
        assert numbered(reader) == ALL[50:]
        reader.commit()
        assert read_cursor(str(folder / "cursors" / "old.cursor")) == Cursor(reader.id, 60)


def test_cursor_file_that_holds_none_is_an_error(folder: Path) -> None:
    write(folder).close()
    (folder / "cursors").mkdir()
    (folder / "cursors" / "bad.cursor").write_text("17\n")
    with pytest.raises(ValueError, match=r"bad.cursor holds no cursor"):
        JournalReader(folder, name="bad")


def test_cursor_above_the_end_begins_there_with_a_warning(folder: Path) -> None:
    """A power cut can take back frames that were read."""
    make_segments(folder, PAYLOADS[:20], [10])
    with log_lines() as lines, JournalReader(folder, "crc32", start=Cursor("0" * 32, 25)) as reader:
        assert (reader.position, list(reader), reader.gaps) == (20, [], [])
    assert len(lines) == 1
    assert lines[0].startswith(f"WARNING {folder} ends before frame 20, and the cursor is at 25")
    with pytest.raises(ValueError, match="start is 25, and the journal ends before the frame 20"):
        JournalReader(folder, "crc32", start=25)


def test_cursor_in_segments_that_were_removed_is_a_gap(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS, [10] * 5)
    with JournalReader(folder, "crc32", name="late") as reader:
        next(reader)
        reader.commit()
    for path in paths[:3]:
        path.unlink()
    with JournalReader(folder, "crc32", name="late") as reader:
        assert numbered(reader) == ALL[30:]
        assert reader.gaps == [Gap(1, 30, 0, str(paths[3]))]


def test_failed_commit_keeps_the_old_cursor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder).close()
    with JournalReader(folder, name="x") as reader:
        next(reader)
        reader.commit()
        next(reader)

        def refuse(*_: object) -> None:
            raise OSError(28, "no space")

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="no space"):
            reader.commit()
        monkeypatch.undo()
        assert read_cursor(str(folder / "cursors" / "x.cursor")) == Cursor(reader.id, 1)
        reader.commit()
        assert read_cursor(str(folder / "cursors" / "x.cursor")) == Cursor(reader.id, 2)


def test_cursor_of_one_reader_is_the_start_of_another(folder: Path) -> None:
    write(folder).close()
    with JournalReader(folder) as reader:
        for number in range(60):
            with JournalReader(folder, start=Cursor.parse(str(reader.cursor))) as other:
                assert bytes(next(other)) == PAYLOADS[number]
            next(reader)

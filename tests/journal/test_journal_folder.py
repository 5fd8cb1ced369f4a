"""The folder of a journal: files that were lost, deleted, or put there by somebody else."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from flatstream.journal import (
    Cursor,
    JournalReader,
    JournalWriter,
    RetentionPolicy,
    RotationPolicy,
    _layout,
)
from flatstream.journal._layout import Manifest, Sealed, cursor_path, read_manifest, write_manifest
from support.journals import segments_of
from support.threads import run_threads


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal of 20 frames, 5 in each segment."""
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=5)) as journal:
        journal.write_payloads([b"%d" % number for number in range(20)])
    (tmp_path / "j" / "cursors").mkdir()
    return tmp_path / "j"


def segment(number: int) -> str:
    return f"{number:020d}.fs"


@pytest.mark.parametrize("first", [0, 10])
def test_the_numbers_of_segments_that_somebody_has_deleted_are_not_used_again(folder: Path, first: int) -> None:
    for number in range(first, 20, 5):
        (folder / segment(number)).unlink()
    with JournalWriter(folder) as journal:
        assert journal.position == 20
        journal.write_payload(b"20")
    with JournalReader(folder) as reader:
        assert list(map(bytes, reader)) == [b"%d" % number for number in [*range(first), 20]]
        assert [(gap.first, gap.next) for gap in reader.gaps] == ([(10, 20)] if first else [])


def test_the_journal_of_registered_readers_keeps_its_identity(folder: Path) -> None:
    with JournalReader(folder, name="slow") as reader:
        for _ in range(12):
            next(reader)
        reader.commit()
        identity = reader.id
    (folder / "journal.json").unlink()
    with JournalWriter(folder, retain=RetentionPolicy(max_segments=1)) as journal:
        assert journal.id == identity
        assert list(segments_of(folder)) == [10, 15]
    with JournalReader(folder, name="slow") as reader:
        assert bytes(next(reader)) == b"12"


def test_a_name_with_a_number_that_no_journal_has_is_no_segment(folder: Path) -> None:
    (folder / ("9" * 20 + ".fs")).touch()
    # Digits, but not those of ASCII.
    (folder / ("\u0664" * 20 + ".fs")).touch()
    (folder / "cursors" / "far.cursor").write_text(f"fsc1:{read_identity(folder)}:{'9' * 19}\n")
    with JournalWriter(folder) as journal:
        assert journal.position == 20
    with JournalReader(folder) as reader:
        assert len(list(reader)) == 20
    for number in (2**63, 10**19, 10**20):
        with pytest.raises(ValueError, match="the text of a cursor is"):
            Cursor.parse(f"fsc1:{'0' * 32}:{number}")
    assert Cursor.parse(f"fsc1:{'0' * 32}:{2**63 - 1}").number == 2**63 - 1


def read_identity(folder: Path) -> str:
    manifest = read_manifest(str(folder))
    assert manifest is not None
    return manifest.id


def test_a_cursor_that_cannot_be_read_keeps_all_segments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cursors" / "a_folder.cursor").mkdir()
    (folder / "cursors" / "secret.cursor").write_text(f"fsc1:{read_identity(folder)}:20\n")
    real = _layout.read_cursor

    def refuse(path: str) -> Any:
        # As for another user. (The tests may run as root, who can read all.)
        if "secret" in path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path)

    monkeypatch.setattr(_layout, "read_cursor", refuse)
    with JournalWriter(folder, retain=RetentionPolicy(max_segments=1)):
        assert len(segments_of(folder)) == 4
    monkeypatch.undo()
    with JournalWriter(folder, retain=RetentionPolicy(max_segments=1)):
        assert len(segments_of(folder)) == 1


def test_threads_that_commit_at_once_leave_a_whole_cursor(folder: Path) -> None:
    with JournalReader(folder, name="shared") as reader:
        next(reader)
        path = cursor_path(str(folder), "shared")
        is_over = threading.Event()
        seen = set()
        errors: set[int | None] = set()

        def commit() -> None:
            for _ in range(80):
                try:
                    reader.commit()
                except OSError as error:
                    # The other one had the file for a long time.
                    errors.add(error.errno)
            is_over.set()

        def look() -> None:
            while not is_over.is_set():
                seen.add(_layout.read_cursor(path))

        run_threads(commit, commit, look)
        assert errors <= {errno.EBUSY}
        assert seen <= {Cursor(reader.id, 0), Cursor(reader.id, 1)}
    assert [name for name in os.listdir(folder / "cursors") if name.endswith(".new")] == []


def test_many_segments_are_removed_with_few_looks_at_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JournalWriter(folder, rotate=RotationPolicy(max_frames=1)) as journal:
        journal.write_payloads([b"abc"] * 200)
    (folder / f"{segment(30)}.torn-1").touch()
    looks = 0
    real = os.listdir

    def count(path: Any) -> list[str]:
        nonlocal looks
        looks += 1
        return real(path)

    monkeypatch.setattr(os, "listdir", count)
    with JournalWriter(folder, retain=RetentionPolicy(max_segments=1)) as journal:
        assert journal.metrics().removed_segments == 203
    assert looks < 15
    assert sorted(path.name for path in folder.iterdir()) == [segment(219), "cursors", "journal.json", "writer.lock"]


def test_journal_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    sealed = {segment(5 * at): Sealed(5, 100 + at, 5 * at + 5, 1.5, 2.25, bool(at % 2)) for at in range(50)}
    for manifest in (
        Manifest("0" * 32, None),
        Manifest("f" * 32, "crc32", {}, {segment(1): 1.5}),
        Manifest("a" * 32, "xxhash64", sealed, {segment(250): 1e9}),
    ):
        write_manifest(str(tmp_path), manifest)
        assert read_manifest(str(tmp_path)) == manifest


def test_a_reader_that_cannot_tell_its_cursor_is_closed_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = JournalReader(folder)
    next(reader)

    def fail(*_: object) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(reader._parts, "gaps", fail)
    with pytest.raises(OSError, match="Input/output error"):
        reader.close()
    assert reader.closed
    reader.close()


def test_a_folder_that_somebody_else_has_made_is_synced_in_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "j").mkdir()
    synced: list[str] = []
    monkeypatch.setattr("flatstream.journal.writer.sync_folder", synced.append)
    with JournalWriter(tmp_path / "j"):
        assert synced == [str(tmp_path / "j")]


@pytest.mark.parametrize("what", ["segment", "folder", "moved folder"])
def test_what_somebody_removes_under_the_writer_is_told(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "journal"
    with JournalWriter(folder) as writer:
        writer.write_payload(b"first")
        writer.flush()
        assert writer.health() == []
        assert writer.metrics().segments == 1
        if what == "segment":
            (folder / f"{0:020}.fs").unlink()
        elif what == "folder":
            shutil.rmtree(folder)
        else:
            folder.rename(tmp_path / "other")
        # No write fails because of it.
        writer.write_payload(b"second")
        writer.flush()
        (text,) = writer.health()
        assert text.startswith("the segment in use is not at its path any more, so that what is written may be lost: ")
        assert text.endswith(f"{0:020}.fs: No such file or directory")
        assert writer.metrics().segments == 0
        assert writer.metrics().frames == 2

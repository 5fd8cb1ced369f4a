"""Retention: which segments a journal removes, and which never."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flatstream.journal import Cursor, JournalWriter, RetentionPolicy, RotationPolicy
from flatstream.journal import writer as journal_writer
from flatstream.journal._layout import Segment, cursor_path, write_atomically
from flatstream.journal._retention import SegmentSize, surplus
from support.extent import in_one_test
from support.journals import frames_of, segments_of

SIZES = [SegmentSize(Segment(f"{10 * i}", 10 * i), 100, 1000.0 + i) for i in range(6)]


@in_one_test
@pytest.mark.parametrize(
    ("policy", "needed", "removed"),
    [
        (RetentionPolicy(), None, 0),
        (RetentionPolicy(max_segments=1), None, 5),
        (RetentionPolicy(max_segments=4), None, 2),
        (RetentionPolicy(max_segments=6), None, 0),
        (RetentionPolicy(max_bytes=350), None, 3),
        (RetentionPolicy(max_bytes=1), None, 5),
        (RetentionPolicy(max_seconds=8), None, 2),
        (RetentionPolicy(max_seconds=100), None, 0),
        (RetentionPolicy(max_segments=5, max_bytes=350), None, 3),
        (RetentionPolicy(max_segments=1), 25, 2),
        (RetentionPolicy(max_segments=1), 30, 3),
        (RetentionPolicy(max_segments=1), 0, 0),
        (RetentionPolicy(max_segments=1), 99, 5),
        (RetentionPolicy(max_segments=1, max_reader_bytes=350), 0, 3),
        (RetentionPolicy(max_reader_bytes=350), 0, 3),
        (RetentionPolicy(max_reader_bytes=350), None, 0),
    ],
)
def test_what_is_surplus(policy: RetentionPolicy, needed: int | None, removed: int) -> None:
    found = surplus(SIZES, policy, needed, now=1010.0)
    assert [segment.first for segment in found] == [10 * i for i in range(removed)]


def test_a_clock_that_is_set_back_removes_nothing() -> None:
    assert surplus(SIZES, RetentionPolicy(max_seconds=1), None, now=5.0) == []


def test_segments_are_removed_after_rotation_with_their_tails_and_indexes(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with JournalWriter(
        directory, rotate=RotationPolicy(max_frames=10), retain=RetentionPolicy(max_segments=3), buffer_size=0
    ) as journal:
        (directory / f"{0:020d}.fs.torn-20260101T000000.000000Z-5").touch()
        (directory / f"{0:020d}.fs.idx").touch()
        (directory / "notes.txt").touch()
        for number in range(100):
            journal.write_payload(b"%d" % number)
        wait_for(directory, 3)
    assert journal.metrics().removed_segments == 7
    assert sorted(frames_of(directory)) == list(range(70, 100))
    assert sorted(path.name for path in directory.iterdir() if path.suffix != ".fs") == [
        "journal.json",
        "notes.txt",
        "writer.lock",
    ]
    with JournalWriter(directory, retain=RetentionPolicy(max_segments=1)) as journal:
        assert journal.position == 100
        assert list(segments_of(directory)) == [90]


def test_segments_are_removed_also_while_others_end_faster_than_they_are_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=1), retain=RetentionPolicy(max_segments=3))
    journal._keeper.stop_for_good()
    segments = journal._segments
    sync, syncs = segments.sync_descriptor, 0

    def end_another(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        sync(descriptor)
        # As another thread does meanwhile; up to where the test has failed.
        if syncs < 50:
            journal.write_payload(b"abc")
            journal.flush()

    monkeypatch.setattr(journal_writer, "SEAL_TURN", 0.0)
    monkeypatch.setattr(segments, "sync_descriptor", end_another)
    for _ in range(10):
        journal.write_payload(b"abc")
        journal.flush()
    journal._keep(0)
    assert syncs == 1
    assert len(segments_of(tmp_path / "j")) == 3
    # It looks at the others at once.
    assert len(segments.ended) == 2
    assert journal._seconds_until_work() == 0.0
    monkeypatch.undo()
    while segments.ended:
        journal._keep(0)
    assert journal._seconds_until_work() is None
    journal.close()
    assert frames_of(tmp_path / "j") == dict.fromkeys((8, 9, 10), b"abc")


def test_what_a_registered_reader_needs_stays(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with JournalWriter(
        directory, rotate=RotationPolicy(max_frames=10), retain=RetentionPolicy(max_segments=1), buffer_size=0
    ) as journal:
        (directory / "cursors").mkdir()
        write_atomically(cursor_path(str(directory), "slow"), str(Cursor(journal.id, 25)).encode())
        journal.write_payloads([b"%d" % number for number in range(100)])
        wait_for(directory, 8)
        assert next(iter(segments_of(directory))) == 20
        os.unlink(cursor_path(str(directory), "slow"))
        journal.rotate()
        wait_for(directory, 1)


def wait_for(directory: Path, count: int) -> None:
    """Waits until the journal has so many segments."""
    deadline = time.monotonic() + 20
    while len(segments_of(directory)) != count:
        assert time.monotonic() < deadline, list(segments_of(directory))
        time.sleep(0.005)

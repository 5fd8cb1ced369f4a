"""JournalWriter on a disk that fills up, and on one that fails: nothing stands behind torn bytes."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream.journal import Cursor, JournalWriter, RotationPolicy
from flatstream.journal._layout import Segment, cursor_path, write_atomically
from support.extent import spread
from support.faults import file_size_limit
from support.journals import Disk, failing_disk, frames_of, segments_of
from support.logs import log_lines

PAYLOADS = [b"%d:" % number + b"x" * (number % 29) for number in range(200)]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    with failing_disk(monkeypatch) as disk:
        yield disk


@pytest.mark.parametrize("buffer_size", [0, 300, 64 * 1024])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_with_raise_nothing_is_lost(tmp_path: Path, disk: Disk, buffer_size: int, number: int) -> None:
    disk.number = number
    for room in spread(range(0, 900, 7), 7):
        directory = tmp_path / str(room)
        disk.room = None
        journal = JournalWriter(directory, buffer_size=buffer_size)
        disk.room = room
        accepted, refused = [], set()
        for payload in PAYLOADS[:60]:
            try:
                journal.write_payload(payload)
                accepted.append(payload)
            except OSError as error:
                refused.add(error.errno)
        assert journal.position == len(accepted)
        disk.room = None
        journal.write_payload(b"behind")
        accepted.append(b"behind")
        journal.close()
        assert frames_of(directory) == dict(enumerate(accepted))
        assert refused <= {number}
        if buffer_size == 0:
            assert refused


def test_the_log_has_one_line_however_often_a_write_fails(tmp_path: Path, disk: Disk) -> None:
    with log_lines() as log, JournalWriter(tmp_path / "j", buffer_size=0) as journal:
        for episode in (1, 2):
            disk.room = 0
            for number in (errno.ENOSPC, errno.EIO):
                disk.number = number
                for _ in range(50):
                    with pytest.raises(OSError, match=os.strerror(number)):
                        journal.write_payload(b"a")
                assert os.strerror(number) in journal.health()[0]
            disk.room = None
            journal.write_payload(b"a")
            assert journal.health() == []
            # The thread tells the log, so that no write waits for a handler of it.
            deadline = time.monotonic() + 20
            while sum("writing failed" in line for line in log) < 2 * episode:
                assert time.monotonic() < deadline
                time.sleep(0.005)
        journal.sync()
        assert sum("writing failed" in line for line in log) == 4
        assert journal.metrics().errors == {"ENOSPC": 100, "EIO": 100}


def test_who_waits_for_the_disk_gets_the_error_that_the_thread_met(tmp_path: Path, disk: Disk) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        journal.write_payload(b"a")
        disk.room = 0
        with pytest.raises(OSError) as caught:
            journal.wait_durable(timeout=30)
        assert str(caught.value) == str(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        disk.room = None


@pytest.mark.parametrize("buffer_size", [0, 300, 64 * 1024])
def test_dropped_frames_are_counted_and_leave_a_gap_of_numbers(tmp_path: Path, disk: Disk, buffer_size: int) -> None:
    for room in spread(range(0, 900, 37), 3):
        directory = tmp_path / str(room)
        disk.room = None
        journal = JournalWriter(directory, buffer_size=buffer_size, when_full="drop_newest")
        disk.room = room
        for payload in PAYLOADS[:100]:
            journal.write_payload(payload)
        journal.flush()
        dropped = journal.metrics().dropped_frames
        assert journal.position == 100
        assert dropped
        assert journal.metrics().drop_episodes == 1
        assert "the disk is full, so frames are dropped" in journal.health()[0]
        with pytest.raises(flatstream.FlatStreamError, match="were dropped: the disk was full"):
            journal.wait_durable()
        disk.room = None
        time.sleep(0.06)
        for payload in PAYLOADS[100:]:
            journal.write_payload(payload)
        journal.wait_durable()
        assert journal.health() == []
        assert journal.metrics().dropped_frames == dropped
        journal.close()
        frames = frames_of(directory)
        # The first frames and the last ones, with their numbers.
        assert frames == {
            number: payload for number, payload in enumerate(PAYLOADS) if not 100 - dropped <= number < 100
        }
        with JournalWriter(directory) as journal:
            assert journal.position == 200


def test_the_numbers_of_dropped_frames_are_not_used_again(tmp_path: Path, disk: Disk) -> None:
    journal = JournalWriter(tmp_path / "j", when_full="drop_newest", buffer_size=0)
    journal.write_payload(b"a")
    disk.room = 0
    journal.write_payloads([b"b", b"c", b"d"])
    journal.close()
    disk.room = None
    with JournalWriter(tmp_path / "j") as journal:
        assert journal.position == 4
        journal.write_payload(b"e")
    assert frames_of(tmp_path / "j") == {0: b"a", 4: b"e"}


def test_no_empty_segments_pile_up_while_frames_are_dropped(tmp_path: Path, disk: Disk) -> None:
    journal = JournalWriter(tmp_path / "j", when_full="drop_newest", buffer_size=0)
    journal.write_payload(b"a")
    disk.room = 0
    for _ in range(4):
        time.sleep(0.055)
        journal.write_payload(b"b")
    deadline = time.monotonic() + 20
    while len(segments_of(tmp_path / "j")) > 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    disk.room = None
    time.sleep(0.055)
    journal.write_payload(b"c")
    journal.close()
    assert frames_of(tmp_path / "j") == {0: b"a", 5: b"c"}
    assert list(segments_of(tmp_path / "j")) == [0, 5]


@pytest.mark.parametrize("reader", [None, 150])
def test_the_oldest_segments_make_room(tmp_path: Path, disk: Disk, reader: int | None) -> None:
    journal = JournalWriter(
        tmp_path / "j", when_full="drop_oldest", rotate=RotationPolicy(max_frames=10), buffer_size=0
    )
    journal.write_payloads(PAYLOADS)
    journal.sync()
    if reader is not None:
        (tmp_path / "j" / "cursors").mkdir()
        write_atomically(cursor_path(str(tmp_path / "j"), "r"), str(Cursor(journal.id, reader)).encode())
    # Each removed segment frees some bytes.
    removed: list[int] = []
    real = journal._remove

    def remove(segment: Segment, tails: list[str], reason: str) -> None:
        size = os.stat(segment.path).st_size
        real(segment, tails, reason)
        removed.append(segment.first)
        disk.room = (disk.room or 0) + size

    journal._remove = remove  # type: ignore[method-assign]
    disk.room = 0
    count, failure = 200, None
    while count < 500 and len(removed) < 40:
        try:
            journal.write_payload(PAYLOADS[count % 200])
        except OSError as error:
            failure = error
            break
        count += 1
    disk.room = None
    journal.close()
    frames = frames_of(tmp_path / "j")
    if reader is None:
        assert failure is None
        assert removed == list(range(0, 10 * len(removed), 10))
    else:
        # What the reader needs stays, and then the write raises.
        assert failure is not None
        assert failure.errno == errno.ENOSPC
        assert removed == list(range(0, 150, 10))
    assert sorted(frames) == list(range(10 * len(removed), count))
    assert journal.metrics().removed_segments == len(removed)


def test_a_limit_on_the_size_of_files_begins_a_new_one(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "j", buffer_size=0)
    refused, errors = [], set()
    with file_size_limit(4096):
        for number in range(400):
            try:
                journal.write_payload(b"%d" % number + b"x" * 50)
            except OSError as error:
                errors.add(error.errno)
                refused.append(number)
    assert errors <= {errno.EFBIG}
    journal.close()
    frames = frames_of(tmp_path / "j")
    kept = [number for number in range(400) if number not in refused]
    assert [frames[index] for index in range(len(kept))] == [b"%d" % number + b"x" * 50 for number in kept]
    assert len(segments_of(tmp_path / "j")) > 5


def test_a_segment_that_cannot_be_begun_does_not_stop_the_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=3), buffer_size=0)

    def fail(*arguments: object, **options: object) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr("flatstream.journal._segments.open_for_writing", fail)
        journal.write_payloads(PAYLOADS[:10])
        assert "a new segment could not be begun" in journal.health()[0]
        with pytest.raises(OSError, match="Too many open files"):
            journal.rotate()
    journal._segments._rotate_not_before = 0.0
    journal.write_payloads(PAYLOADS[10:20])
    assert journal.health() == []
    journal.close()
    assert list(segments_of(tmp_path / "j"))[:2] == [0, 10]
    assert frames_of(tmp_path / "j") == dict(enumerate(PAYLOADS[:20]))


def write_and_flush(journal: JournalWriter, payload: bytes) -> None:
    journal.write_payload(payload)
    journal.flush()


def test_a_signal_in_the_middle_of_a_write_neither_loses_nor_doubles_a_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupt(BaseException):
        """What the handler raises."""

    for buffer_size in (0, 64 * 1024):
        for part in (0, 1, 5, None):
            directory = tmp_path / f"{buffer_size} {part}"
            journal = JournalWriter(directory, buffer_size=buffer_size)
            journal.write_payloads([b"a", b"b"])
            accepted = [b"a", b"b"]

            def write(descriptor: int, view: Any, part: int | None = part) -> int:
                os.write(descriptor, view[:part])
                # As if the handler ran between the system call and the next line.
                raise Interrupt

            with failing_disk(monkeypatch) as disk:
                monkeypatch.setattr(disk, "write", write, raising=False)
                before = journal.position
                with pytest.raises(Interrupt):
                    write_and_flush(journal, b"c")
                if journal.position > before:
                    accepted.append(b"c")
            journal.write_payload(b"d")
            accepted.append(b"d")
            journal.close()
            assert frames_of(directory) == dict(enumerate(accepted))


def test_a_journal_is_opened_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "j"
    with JournalWriter(directory) as journal:
        journal.write_payloads(PAYLOADS[:10])
    (path,) = segments_of(directory).values()
    whole = path.read_bytes()
    path.write_bytes(whole + b"\x20\x00\x00\x00torn")

    def fail(*arguments: object) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        # Neither the copy of the tail nor the list of segments has room.
        patch.setattr("flatstream.journal._recovery.save_tail", fail)
        patch.setattr("flatstream.journal.writer.write_manifest", fail)
        with JournalWriter(directory, when_full="drop_newest") as journal:
            report = journal.recovery[0]
            assert (report.action, report.frames, report.lost_bytes) == ("damaged", 10, 8)
            behind = journal.position
            assert behind == 11
            journal.write_payload(b"goes on")
        # A journal that is new needs its identity.
        with pytest.raises(OSError, match="No space left"):
            JournalWriter(tmp_path / "new")
    assert path.read_bytes() == whole + b"\x20\x00\x00\x00torn"
    with JournalWriter(directory) as journal:
        # There is room again: the tail is saved and cut off, and the numbers stay.
        assert [report.action for report in journal.recovery] == ["cut", "nothing"]
        assert journal.position == behind + 1
    assert frames_of(directory) == {**dict(enumerate(PAYLOADS[:10])), behind: b"goes on"}

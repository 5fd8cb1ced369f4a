"""Following a journal while it is written: rotation, retention, damage, restarts, recreation, and how waits end."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flatstream import ChecksumMismatchError, InvalidFrameError
from flatstream.journal import Gap, JournalReader, JournalWriter, RetentionPolicy, RotationPolicy, _parts
from reference import framing as reference
from support.alarms import Alarm, StruckError
from support.extent import EVERYTHING
from support.journal_segments import PAYLOADS, add_frames, make_segment, make_segments
from support.logs import log_lines
from support.processes import forked
from support.schemas import ROOT
from support.streams import next_message
from support.threads import running

ALL = list(enumerate(PAYLOADS))
FRAME = 8 + len(PAYLOADS[0])


@pytest.fixture(autouse=True)
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether changes are reported by the system ("reports", the default), or looked for after pauses."""
    if getattr(request, "param", "reports") == "pauses":
        monkeypatch.setattr(_parts, "open_watch", lambda: None)


in_both_ways = pytest.mark.parametrize("waiting", ["reports", "pauses"], indirect=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "journal"
    made.mkdir()
    return made


@contextlib.contextmanager
def following(folder: Path, checksum: str | None = "crc32", **options: object) -> Iterator[JournalReader]:
    with JournalReader(folder, checksum, follow=True, **options) as reader:  # type: ignore[arg-type]
        yield reader


def frames_now(reader: JournalReader) -> list[tuple[int, bytes]]:
    """All frames that are whole now, with their numbers."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            payload = next_message(reader, 0.05)
            found.append((reader.number, payload))
    return found


@contextlib.contextmanager
def later(function: Callable[[], None], seconds: float = 0.1) -> Iterator[None]:
    """Calls a function in another thread after some time."""

    def run() -> None:
        time.sleep(seconds)
        function()

    with running(run):
        yield


# Frames that come


@in_both_ways
def test_first_segment_is_waited_for(folder: Path) -> None:
    with following(folder) as reader:
        with pytest.raises(TimeoutError):
            reader.read_message(timeout=0.05)
        assert (reader.position, reader.number, reader.gaps) == (0, -1, [])
        with later(lambda: add_frames(folder / f"{0:020d}.fs", PAYLOADS[:2])):
            assert next_message(reader, 30) == PAYLOADS[0]
        assert frames_now(reader) == [ALL[1]]
        with later(lambda: add_frames(folder / f"{2:020d}.fs", PAYLOADS[2:3])):
            assert next_message(reader, 30) == PAYLOADS[2]


@in_both_ways
def test_half_a_frame_is_waited_for_and_may_be_replaced(folder: Path) -> None:
    path = make_segment(folder, 0, PAYLOADS[:3])
    with following(folder) as reader:
        assert frames_now(reader) == ALL[:3]
        whole = path.read_bytes()
        path.write_bytes(whole + reference.encode([b"another one"], "crc32")[:-1])
        assert frames_now(reader) == []
        os.truncate(path, len(whole))
        assert frames_now(reader) == []
        add_frames(path, PAYLOADS[3:5])
        assert frames_now(reader) == ALL[3:5]
        assert (reader.gaps, reader.lost_bytes) == ([], 0)


@in_both_ways
def test_end_of_a_segment_that_came_with_the_next_one_is_read(folder: Path) -> None:
    path = make_segment(folder, 0, PAYLOADS[:3])
    with following(folder) as reader:
        assert frames_now(reader) == ALL[:3]
        add_frames(path, PAYLOADS[3:10])
        make_segment(folder, 10, PAYLOADS[10:20])
        make_segment(folder, 20, PAYLOADS[20:21])
        assert frames_now(reader) == ALL[:21][3:]
        assert reader.gaps == []


@pytest.mark.parametrize("how", ["messages", "batches"])
def test_thousand_rotations_by_a_thread(folder: Path, how: str) -> None:
    count = 2500 if EVERYTHING else 1000

    def write() -> None:
        with JournalWriter(folder, "crc32", rotate=None, retain=None) as writer:
            for number in range(count):
                writer.write_payload(b"%d" % number)
                if number % 5 in (1, 4):
                    writer.rotate()
                elif number % 3:
                    writer.flush()

    with following(folder) as reader, running(write):
        found: list[bytes] = []
        while len(found) < count:
            if how == "messages":
                found.append(next_message(reader, 30))
                assert reader.number == len(found) - 1
            else:
                batch = reader.read_batch()
                assert batch is not None
                found += [bytes(payload) for payload in batch]
                assert reader.number == len(found) - 1
        assert found == [b"%d" % number for number in range(count)]
        assert (reader.gaps, reader.lost_bytes) == ([], 0)


WRITER = """
import sys
from flatstream.journal import JournalWriter, RetentionPolicy, RotationPolicy
folder, begin, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rotate, retain = RotationPolicy(max_frames=3), RetentionPolicy(max_segments=20)
with JournalWriter(folder, "crc32", rotate=rotate, retain=retain) as writer:
    for number in range(writer.position, end):
        writer.write_payload(b"%d" % number)
        if number % 7 == 0:
            writer.flush()
        if number == begin:
            print("begun", flush=True)
"""


def test_thousand_rotations_by_processes_that_are_killed(folder: Path) -> None:
    """A registered reader sees every frame once and in order, although the writer is killed and old segments go."""
    count, kills = 3000, 3
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ends = [count * (turn + 1) // (kills + 1) for turn in range(kills + 1)]

    def write() -> None:
        for turn, end in enumerate(ends):
            command = [sys.executable, "-c", WRITER, str(folder), str(max(0, end - 50)), str(count)]
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                if turn < kills:
                    process.stdout.readline()
                    process.kill()
                process.wait()

    with following(folder, name="all") as reader, running(write):
        for number in range(count):
            assert next_message(reader, 60) == b"%d" % number
            assert reader.number == number
            if number % 500 == 0:
                reader.commit()
        assert reader.gaps == []


def test_fast_writer_and_retention_leave_gaps_that_are_told(folder: Path) -> None:
    with JournalWriter(
        folder, "crc32", rotate=RotationPolicy(max_frames=10), retain=RetentionPolicy(max_segments=3)
    ) as writer:
        writer.write_payloads([b"%d" % number for number in range(5)])
        writer.flush()
        with following(folder) as reader:
            assert next_message(reader, 10) == b"0"
            for number in range(5, 500):
                writer.write_payload(b"%d" % number)
            writer.flush()
            numbers = [0]
            while numbers[-1] < 499:
                payload = next_message(reader, 10)
                assert payload == b"%d" % reader.number
                numbers.append(reader.number)
            # The segment that was open was read to its end.
            assert numbers[:10] == list(range(10))
            told = [number for gap in reader.gaps for number in range(gap.first, gap.next)]
            assert sorted(numbers + told) == list(range(500))


# Damage


def test_damage_in_the_segment_that_is_written_waits_for_the_next(folder: Path) -> None:
    path = make_segment(folder, 0, PAYLOADS[:10])
    with path.open("r+b") as file:
        file.seek(4 * FRAME + 10)
        file.write(b"?")
    with log_lines() as lines, following(folder) as reader:
        assert frames_now(reader) == ALL[:4]
        for _ in range(3):
            assert frames_now(reader) == []
        assert (reader.position, reader.gaps, reader.lost_bytes) == (4, [], 0)
        add_frames(path, PAYLOADS[10:12])
        assert frames_now(reader) == []
        make_segment(folder, 12, PAYLOADS[12:14])
        assert frames_now(reader) == ALL[5:14]
        assert reader.gaps == [Gap(4, 5, FRAME, str(path))]
    assert len(lines) == 1
    assert lines[0].startswith(f"WARNING {path}: damage at offset {4 * FRAME}, in the segment")


@pytest.mark.parametrize("on_error", ["raise", "skip", "stop"])
def test_damage_in_the_segment_that_is_written_otherwise(folder: Path, on_error: str) -> None:
    path = make_segment(folder, 0, PAYLOADS[:10])
    with path.open("r+b") as file:
        file.seek(4 * FRAME + 10)
        file.write(b"?")
    with following(folder, on_error=on_error) as reader:
        for number in range(4):
            assert next_message(reader, 1) == PAYLOADS[number]
        if on_error == "raise":
            with pytest.raises(ChecksumMismatchError):
                reader.read_message(timeout=1)
        if on_error == "stop":
            assert reader.read_message(timeout=1) is None
            assert reader.read_batch() is None
            assert list(reader) == []
            assert isinstance(reader.stop_error, ChecksumMismatchError)
        else:
            assert [payload for _, payload in frames_now(reader)] == PAYLOADS[5:10]


def test_wrong_length_in_the_segment_that_is_written(folder: Path) -> None:
    path = make_segment(folder, 0, PAYLOADS[:10])
    data = bytearray(path.read_bytes())
    data[4 * FRAME + 3] = 0x7F
    path.write_bytes(data)
    with following(folder) as reader:
        assert frames_now(reader) == ALL[:4]
        time.sleep(1.1)
        assert frames_now(reader) == []
        assert reader.buffer_capacity < 1 << 21
        make_segment(folder, 10, PAYLOADS[10:12])
        assert frames_now(reader) == ALL[5:12]
        assert (reader.gaps, reader.buffer_capacity < 1 << 22) == ([Gap(4, 5, FRAME, str(path))], True)
    path.write_bytes(data)
    (folder / f"{10:020d}.fs").unlink()
    with following(folder, on_error="raise") as reader:
        assert frames_now(reader) == ALL[:4]
        with pytest.raises(InvalidFrameError, match="an intact frame begins"):
            reader.read_message(timeout=10)


def test_torn_end_is_told_when_the_next_segment_begins(folder: Path) -> None:
    path = make_segment(folder, 0, PAYLOADS[:5])
    path.write_bytes(path.read_bytes()[:-3])
    with following(folder) as reader:
        assert frames_now(reader) == ALL[:4]
        make_segment(folder, 10, PAYLOADS[10:12])
        assert frames_now(reader) == ALL[10:12]
        # The writer began the next one further on: it had dropped frames.
        assert reader.gaps == [Gap(4, 6, FRAME - 3, str(path)), Gap(6, 10, 0, str(path))]


# Changes of the folder


def test_empty_segment_that_is_removed_again(folder: Path) -> None:
    make_segment(folder, 0, PAYLOADS[:5])
    with following(folder) as reader:
        assert frames_now(reader) == ALL[:5]
        empty = make_segment(folder, 5, [])
        assert frames_now(reader) == []
        empty.unlink()
        assert frames_now(reader) == []
        make_segment(folder, 8, PAYLOADS[8:10])
        assert frames_now(reader) == ALL[8:10]
        assert [gap[:2] for gap in reader.gaps] == [(5, 8)]


@in_both_ways
def test_journal_that_is_made_anew_is_read_from_its_first_frame(folder: Path) -> None:
    def write(text: bytes, count: int) -> None:
        with JournalWriter(folder, rotate=RotationPolicy(max_frames=4)) as writer:
            writer.write_payloads([text + b"%d" % number for number in range(count)])

    def replace() -> None:
        shutil.rmtree(folder)
        time.sleep(0.05)
        write(b"new ", 10)

    write(b"old ", 7)
    with following(folder, None) as reader:
        for number in range(6):
            assert next_message(reader, 5) == b"old %d" % number
        before = reader.cursor
        with later(replace, 0.05):
            # The file is still open, so its last frame is not lost.
            assert next_message(reader, 5) == b"old 6"
            for number in range(10):
                assert next_message(reader, 30) == b"new %d" % number
                assert reader.number == number
        assert (reader.id == before.journal, reader.position, reader.gaps) == (False, 10, [])
        assert reader.cursor.journal == reader.id


def test_journal_with_another_checksum_in_its_place_is_refused(folder: Path) -> None:
    with JournalWriter(folder, "crc32") as writer:
        writer.write_payload(b"old")
    with following(folder, None) as reader:
        assert next_message(reader, 5) == b"old"
        shutil.rmtree(folder)
        with JournalWriter(folder, "crc64") as writer:
            writer.write_payload(b"new")
        for _ in range(2):
            with pytest.raises(ValueError, match="has the checksum 'crc64', and the reader has 'crc32'"):
                reader.read_message(timeout=10)


@pytest.mark.parametrize("how", ["cut", "replaced"])
def test_segment_that_is_cut_or_replaced_is_stale(folder: Path, how: str) -> None:
    make_segments(folder, PAYLOADS[:15], [10])
    path = folder / f"{10:020d}.fs"
    with following(folder) as reader:
        assert frames_now(reader) == ALL[:15]
        if how == "cut":
            os.truncate(path, 3)
        else:
            shutil.copy(path, f"{path}.copy")
            os.replace(f"{path}.copy", path)
            make_segment(folder, 10, PAYLOADS[10:16])
        for _ in range(2):
            with pytest.raises(OSError, match="open the journal again") as caught:
                reader.read_message(timeout=5)
        error = caught.value
        assert (error.errno, error.filename) == (errno.ESTALE, str(path))
        assert error.offset == 15 * FRAME  # type: ignore[attr-defined]


def test_deleted_segment_without_a_successor_is_waited_with(folder: Path) -> None:
    make_segments(folder, PAYLOADS[:15], [10])
    with following(folder) as reader:
        assert frames_now(reader) == ALL[:15]
        (folder / f"{10:020d}.fs").unlink()
        assert frames_now(reader) == []
        make_segment(folder, 15, PAYLOADS[15:17])
        assert frames_now(reader) == ALL[15:17]


# Waiting


@in_both_ways
def test_close_in_another_thread_ends_the_wait(folder: Path) -> None:
    for made in (False, True):
        if made:
            make_segment(folder, 0, PAYLOADS[:1])
        with following(folder) as reader:
            assert len(frames_now(reader)) == made
            with later(reader.close), pytest.raises(ValueError, match="JournalReader is closed"):
                reader.read_message(timeout=30)


def test_signal_during_the_wait_loses_nothing(folder: Path) -> None:
    make_segment(folder, 0, PAYLOADS[:1])
    with following(folder) as reader, Alarm(StruckError) as alarm:
        assert frames_now(reader) == ALL[:1]
        assert alarm.strike(lambda: reader.read_message(timeout=30), 0.05)
        make_segment(folder, 1, PAYLOADS[1:3])
        assert frames_now(reader) == ALL[1:3]


# A signal between the opening of a file and the statement that stores it leaves the file to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_signals_between_any_two_steps_lose_nothing(folder: Path) -> None:
    count = 1000

    def write() -> None:
        with JournalWriter(folder, "crc32", rotate=None) as writer:
            for number in range(count):
                writer.write_payload(b"%d" % number)
                writer.rotate()

    found: list[bytes] = []
    interruptions = 0

    def read_on() -> None:
        while len(found) < count:
            payload = reader.read_message(timeout=30)
            assert payload is not None
            found.append(bytes(payload))

    with following(folder) as reader, running(write), Alarm(StruckError) as alarm:
        while len(found) < count:
            # Ever later, so that a step that takes long comes to its end.
            after = 0.0005 + 0.0001 * (interruptions % 17) + 0.00002 * interruptions
            if alarm.strike(read_on, after):
                interruptions += 1
                # The payload was delivered, but the handler ran before it was stored.
                if reader.frames_read > len(found):
                    found.append(b"%d" % len(found))
        assert found == [b"%d" % number for number in range(count)]
        assert (reader.gaps, reader.position) == ([], count)
    assert interruptions > 10


def test_parent_and_child_each_get_all_further_frames(folder: Path) -> None:
    make_segments(folder, PAYLOADS[:15], [10])
    with following(folder) as reader:
        assert frames_now(reader) == ALL[:15]

        def in_child() -> list[tuple[int, bytes]]:
            make_segment(folder, 15, PAYLOADS[15:18])
            found = frames_now(reader)
            make_segment(folder, 18, PAYLOADS[18:20])
            return found + frames_now(reader)

        assert forked(in_child) == ALL[15:20]
        assert frames_now(reader) == ALL[15:20]


def test_threads_share_a_reader(folder: Path) -> None:
    count = 600
    found: list[bytes] = []
    with following(folder) as reader:

        def read() -> None:
            with contextlib.suppress(ValueError):
                while True:
                    found.append(next_message(reader, 60))

        threads = [threading.Thread(target=read, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        with JournalWriter(folder, "crc32", rotate=RotationPolicy(max_frames=5)) as writer:
            for number in range(count):
                writer.write_payload(b"%d" % number)
                if number % 3 == 0:
                    writer.flush()
        deadline = time.monotonic() + 60
        while len(found) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        reader.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    assert sorted(map(int, found)) == list(range(count))


def test_columns_of_a_followed_journal_have_no_end(folder: Path) -> None:
    from support.schemas import TELEMETRY

    with following(folder) as reader, pytest.raises(ValueError, match="no end"):
        reader.columns(TELEMETRY.table("telemetry.Event"))


def test_idle_reader_takes_hardly_any_time_of_the_processor(folder: Path) -> None:
    make_segment(folder, 0, PAYLOADS[:1])
    with following(folder) as reader:
        assert frames_now(reader) == ALL[:1]
        busy = time.thread_time()
        with pytest.raises(TimeoutError):
            reader.read_message(timeout=1.5)
        assert time.thread_time() - busy < 0.5


def test_followed_journal_leaves_no_descriptor_open(folder: Path) -> None:
    make_segment(folder, 0, PAYLOADS[:1])
    before = sorted(os.listdir("/proc/self/fd"))
    with following(folder) as reader:
        for first in range(1, 20):
            make_segment(folder, first, PAYLOADS[first : first + 1])
            assert frames_now(reader)[-1] == ALL[first]
    assert sorted(os.listdir("/proc/self/fd")) == before

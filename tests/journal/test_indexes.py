"""The indexes that a journal writes: what they cover, which segments get one, and that they are never in the way."""

from __future__ import annotations

import errno
import functools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flatstream
from flatstream import FlatStreamError
from flatstream._ranges import ranges_of
from flatstream.index import FileIndex, FileIndexer, UnusableIndex, build_index, load_index
from flatstream.index._file import IndexFile
from flatstream.journal import (
    CompressionPolicy,
    JournalReader,
    JournalWriter,
    MirrorWriter,
    RetentionPolicy,
    RotationPolicy,
    SyncPolicy,
    _indexing,
    _start,
)
from flatstream.journal._layout import Segment, list_segments
from flatstream.journal._segment_files import open_segment
from flatstream.journal._segment_map import open_piece
from flatstream.tools import check_index as check
from support.events import BEGIN, EVENT, SECOND, write_events
from support.gated import wait_until
from support.logs import log_lines
from support.threads import run_threads

# The time field is known by its name.
FIELD = "wall_time_ns"


def index_of(path: Path | str) -> FileIndex | UnusableIndex:
    """The index of a segment, as a query loads it."""
    name = str(path).removesuffix(".zst")
    with ranges_of(open_segment(Segment(name, 0))) as stream:
        return load_index(name, stream, table=EVENT, checksum="xxhash64")


def check_index(path: Path | str, first: int, count: int) -> FileIndex:
    """Compares the index of a segment with the events number `first` and so on that it should have."""
    found = index_of(path)
    assert isinstance(found, FileIndex), found
    assert found.covered == os.path.getsize(path)
    assert not found.gaps
    assert not found.notes
    assert int(found.frames.sum()) == count
    number = first
    times = found.statistics[FIELD]
    for low, high, nulls, frames in zip(times.low, times.high, times.nulls, found.frames, strict=True):
        assert (int(low), int(nulls)) == (BEGIN + number * SECOND, 0)
        number += int(frames)
        assert int(high) == BEGIN + (number - 1) * SECOND
    return found


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def segment_name(first: int) -> str:
    return f"{first:020d}.fs"


def test_each_segment_has_an_index_when_the_journal_is_closed(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, describe=EVENT, rotate=RotationPolicy(max_frames=300)) as journal:
        write_events(journal, range(1000))
    for first, count in ((0, 300), (300, 300), (600, 300), (900, 100)):
        check_index(tmp_path / segment_name(first), first, count)
    report = journal.index_report
    assert report is not None
    assert (report.file, report.rows) == (str(tmp_path / segment_name(900)), 100)
    # What `open` and readers look at is as before.
    with JournalReader(tmp_path) as reader:
        assert len(list(reader)) == 1000
    assert len(list_segments(str(tmp_path))) == 4
    # It goes on in the last one.
    with JournalWriter(tmp_path, rotate=RotationPolicy(max_frames=300)) as journal:
        write_events(journal, range(1000, 1250))
    check_index(tmp_path / segment_name(900), 900, 300)
    check_index(tmp_path / segment_name(1200), 1200, 50)


def test_which_segments_are_indexed_by_what(tmp_path: Path) -> None:
    def fields(name: str, **options: Any) -> list[str]:
        directory = tmp_path / name
        with JournalWriter(directory, **options) as journal:
            write_events(journal, range(10))
        found = index_of(directory / segment_name(0))
        return [one.path for one in found.fields] if isinstance(found, FileIndex) else []

    assert fields("default", describe=EVENT) == [FIELD]
    assert fields("true", describe=EVENT, index=True) == [FIELD]
    assert fields("false", describe=EVENT, index=False) == []
    assert fields("named", describe=EVENT, time_field="sequence", time_unit="s") == ["sequence"]
    assert fields("fields", describe=EVENT, index=["load_1", "cpu_total.user"]) == ["load_1", "cpu_total.user"]
    assert fields("tuple", describe=EVENT, index=("sequence",)) == ["sequence"]
    # Nothing says what the messages are.
    assert fields("not described") == []
    with JournalWriter(tmp_path / "not described") as journal:
        assert journal.index_report is None
    assert fields("no description", describe=False) == []
    assert names(tmp_path / "not described") == {"journal.json", "writer.lock", segment_name(0)}


def test_wrong_index_argument_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    wrong: list[tuple[Any, type[Exception], str]] = [
        (1, TypeError, "index must be a bool or a list of the names of fields, got 1"),
        ("sequence", TypeError, "index must be a bool or a list of the names of fields, got 'sequence'"),
        ([1], TypeError, "index must be a bool or a list"),
        ([], ValueError, "index must name a field, or be False"),
        (["nothing"], KeyError, "nothing"),
        (["host"], TypeError, "host"),
    ]
    for value, kind, message in wrong:
        with pytest.raises(kind, match=message):
            JournalWriter(tmp_path / "j", describe=EVENT, index=value)
    assert not (tmp_path / "j").exists()
    with pytest.raises(ValueError, match="the journal's messages are not described"):
        JournalWriter(tmp_path / "j", index=["sequence"])
    # It can be opened all the same, and nobody has the lock.
    with JournalWriter(tmp_path / "j", describe=EVENT) as journal:
        write_events(journal, range(3))
    check_index(tmp_path / "j" / segment_name(0), 0, 3)


def test_of_several_tables_the_first_one_with_a_time_is_indexed(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, describe={"TELE": EVENT, "OTHR": EVENT}) as journal:
        write_events(journal, range(5))
    with ranges_of(open_segment(Segment(str(tmp_path / segment_name(0)), 0))) as stream:
        found = load_index(tmp_path / segment_name(0), stream)
    assert isinstance(found, FileIndex), found
    assert (found.head.file_identifier, [one.path for one in found.fields]) == ("TELE", [FIELD])


def test_segment_is_indexed_while_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatstream.journal.writer.LOOK_EVERY", 100_000)
    monkeypatch.setattr(_indexing, "LOOK_EVERY", 100_000)
    monkeypatch.setattr("flatstream.index.building.WRITE_FROM", 2)
    path = tmp_path / segment_name(0)
    with JournalWriter(tmp_path, describe=EVENT) as journal:
        write_events(journal, range(4000))
        journal.flush()
        wait_until(lambda: isinstance(found := index_of(path), FileIndex) and found.covered > 100_000)
        found = index_of(path)
        assert isinstance(found, FileIndex)
        # Frames go on, and the index behind them.
        write_events(journal, range(4000, 6000))
        journal.sync()
        write_events(journal, range(6000, 8000))
        covered = found.covered
        wait_until(lambda: isinstance(found := index_of(path), FileIndex) and found.covered > covered)
    check_index(path, 0, 8000)


def test_ended_segment_is_indexed_before_the_journal_is_closed(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, describe=EVENT, rotate=None) as journal:
        write_events(journal, range(700))
        journal.rotate()
        wait_until(lambda: not isinstance(index_of(tmp_path / segment_name(0)), UnusableIndex))
        wait_until(lambda: index_of(tmp_path / segment_name(0)).covered > 0)  # type: ignore[union-attr]
        check_index(tmp_path / segment_name(0), 0, 700)


def crash(directory: Path, count: int) -> None:
    """A process that writes events, and is killed."""
    code = (
        "import os, sys\n"
        "from flatstream.journal import JournalWriter, RotationPolicy\n"
        "from support.events import EVENT, write_events\n"
        "journal = JournalWriter(sys.argv[1], describe=EVENT, rotate=RotationPolicy(max_frames=400))\n"
        "write_events(journal, range(journal.position, journal.position + int(sys.argv[2])))\n"
        "journal.flush()\n"
        "os._exit(0)\n"
    )
    tests = Path(__file__).parent.parent
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    subprocess.run([sys.executable, "-c", code, str(directory), str(count)], check=True, env=env, timeout=60)


def test_next_writer_indexes_what_a_crash_has_left(tmp_path: Path) -> None:
    crash(tmp_path, 900)
    torn = tmp_path / segment_name(800)
    os.truncate(torn, torn.stat().st_size - 5)
    with JournalWriter(tmp_path, rotate=RotationPolicy(max_frames=400)) as journal:
        assert journal.position == 899
        write_events(journal, range(899, 1000))
    for first, count in ((0, 400), (400, 400), (800, 200)):
        check_index(tmp_path / segment_name(first), first, count)


def test_next_writer_indexes_what_closing_had_no_time_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = RotationPolicy(max_frames=1000)
    with monkeypatch.context() as patched:
        # Nothing while it is open, and the half of a segment at its end.
        patched.setattr(_indexing.Indexer, "work", lambda indexer: None)
        JournalWriter(tmp_path, describe=EVENT).close()
        with JournalWriter(tmp_path, describe=EVENT, rotate=rotation) as journal:
            write_events(journal, range(1000))
            journal.flush()
            half = os.path.getsize(tmp_path / segment_name(0)) // 2
            patched.setattr(_indexing, "MOST_AT_CLOSE", half)
            patched.setattr(_indexing, "OPENING", half)
            patched.setattr("flatstream.index.building.CHUNK", 4096)
            patched.setattr("flatstream.index.building.WRITE_FROM", 1)
            write_events(journal, range(1000, 3500))
    first = index_of(tmp_path / segment_name(0))
    assert isinstance(first, FileIndex)
    assert 0 < first.covered < os.path.getsize(tmp_path / segment_name(0))
    assert isinstance(index_of(tmp_path / segment_name(1000)), UnusableIndex)
    with JournalWriter(tmp_path, describe=EVENT, rotate=rotation) as journal:
        assert [report.action for report in journal.recovery] == ["sealed", "sealed", "sealed", "nothing"]
    for number in (0, 1000, 2000):
        check_index(tmp_path / segment_name(number), number, 1000)
    check_index(tmp_path / segment_name(3000), 3000, 500)


def test_closing_indexes_no_more_segments_than_it_has_time_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_indexing.Indexer, "work", lambda indexer: None)
    with JournalWriter(tmp_path, describe=EVENT, rotate=RotationPolicy(max_frames=1)) as journal:
        write_events(journal, range(100))
    assert sum(name.endswith(".idx") for name in names(tmp_path)) == 64


def test_segments_written_without_indexes_get_none_later(tmp_path: Path) -> None:
    rotation = RotationPolicy(max_frames=100)
    with JournalWriter(tmp_path, describe=EVENT, rotate=rotation, index=False) as journal:
        write_events(journal, range(350))
    JournalWriter(tmp_path, describe=EVENT, rotate=rotation).close()
    assert {name for name in names(tmp_path) if name.endswith(".idx")} == {segment_name(300) + ".idx"}


def test_index_that_is_ahead_of_its_segment_is_cut_back_before_frames_follow(tmp_path: Path) -> None:
    path = tmp_path / segment_name(0)
    with JournalWriter(tmp_path, describe=EVENT) as journal:
        write_events(journal, range(2000))
        manifest = (tmp_path / "journal.json").read_bytes()
    # As a power cut does: the segment has lost its last pages, and the index has not.
    (tmp_path / "journal.json").write_bytes(manifest)
    with JournalReader(tmp_path) as reader:
        for _ in range(501):
            reader.read_message()
        end = reader.message_offset
    os.truncate(path, end)
    with JournalWriter(tmp_path) as journal:
        assert journal.position == 500
        found = index_of(path)
        assert isinstance(found, UnusableIndex) or found.covered <= end
        write_events(journal, range(500, 3000))
    check_index(path, 0, 3000)


def test_index_of_another_segment_is_replaced(tmp_path: Path) -> None:
    for name, begin in (("one", 0), ("other", 5000)):
        with JournalWriter(tmp_path / name, describe=EVENT) as journal:
            write_events(journal, range(begin, begin + 900))
    path = tmp_path / "one" / segment_name(0)
    shutil.copy(tmp_path / "other" / f"{segment_name(0)}.idx", f"{path}.idx")
    with JournalWriter(tmp_path / "one") as journal:
        write_events(journal, range(900, 1000))
    check_index(path, 0, 1000)


def test_removed_segment_takes_its_index_with_it(tmp_path: Path) -> None:
    policy = RetentionPolicy(max_segments=2)
    with JournalWriter(tmp_path, describe=EVENT, rotate=RotationPolicy(max_frames=100), retain=policy) as journal:
        for begin in range(0, 1000, 100):
            write_events(journal, range(begin, begin + 100))
            journal.flush()
        wait_until(lambda: len(list_segments(str(tmp_path))) <= 2)
    kept = {segment_name(900), f"{segment_name(900)}.idx"}
    found = {name for name in names(tmp_path) if ".fs" in name}
    segments = {name for name in found if not name.endswith(".idx")}
    # No index without its segment.
    assert {name.removesuffix(".idx") for name in found} == segments
    assert kept <= found


def test_indexes_that_an_earlier_version_has_left_behind_are_removed(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, describe=EVENT, rotate=RotationPolicy(max_frames=100)) as journal:
        write_events(journal, range(500))
    for first in (0, 100, 300):
        (tmp_path / segment_name(first)).unlink()
    (tmp_path / "0.fs.idx").touch()
    JournalWriter(tmp_path).close()
    # That of the third hundred may be of use when its segment comes back.
    assert {name for name in names(tmp_path) if name.endswith(".idx")} == {
        "0.fs.idx",
        *(f"{segment_name(first)}.idx" for first in (200, 300, 400)),
    }


def test_what_a_crash_left_of_the_index_of_a_removed_segment_is_removed(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, describe=EVENT, rotate=RotationPolicy(max_frames=100)) as journal:
        write_events(journal, range(300))
    (tmp_path / segment_name(0)).unlink()
    left = [f"{segment_name(first)}.idx.partial-{number}" for first in (0, 100) for number in ("4194304", "4194304.2")]
    for name in left:
        (tmp_path / name).touch()
    JournalWriter(tmp_path, index=False).close()
    # Those of a segment that is there are removed when it gets an index again.
    assert [name for name in left if (tmp_path / name).exists()] == left[2:]


def test_compressed_segment_keeps_its_index(tmp_path: Path) -> None:
    rotation = RotationPolicy(max_frames=500)
    with JournalWriter(tmp_path, describe=EVENT, rotate=rotation, compress=True) as journal:
        write_events(journal, range(1200))
        journal.flush()
        packed = tmp_path / f"{segment_name(0)}.zst"
        wait_until(packed.exists)
        wait_until(lambda: not (tmp_path / segment_name(0)).exists())
    found = index_of(packed)
    assert isinstance(found, FileIndex), found
    assert int(found.frames.sum()) == 500
    with ranges_of(open_segment(Segment(str(packed), 0))) as stream:
        # It is found by the name of the compressed file, too.
        assert isinstance(load_index(packed, stream, table=EVENT), FileIndex)
        assert found.covered == stream.size


def test_mirror_indexes_as_its_source_does(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "source", describe=EVENT) as journal:
        write_events(journal, range(300))
    with (
        JournalReader(tmp_path / "source") as reader,
        MirrorWriter(tmp_path / "mirror", reader.id, describe=EVENT) as mirror,
    ):
        mirror.write_payloads(reader)
    check_index(tmp_path / "mirror" / segment_name(0), 0, 300)


def failing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "x.idx")

    monkeypatch.setattr(FileIndexer, "__init__", fail)


def failing_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IndexFile, "write_blocks", fail)


def failing_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flatstream.index", None)


@pytest.mark.parametrize("break_it", [failing_open, failing_write, failing_import])
def test_index_that_cannot_be_written_does_not_concern_the_journal(
    break_it: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation, sync = RotationPolicy(max_frames=100), SyncPolicy(seconds=0.01)
    with monkeypatch.context() as patched, log_lines() as lines:
        break_it(patched)
        with JournalWriter(tmp_path, describe=EVENT, rotate=rotation, sync=sync) as journal:
            write_events(journal, range(350))
            journal.wait_durable()
            wait_until(lambda: any("index" in text for text in journal.health()))
            assert any("could not be written, so that it is read in full" in text for text in journal.health())
            # Nothing is kept of segments that ended.
            wait_until(lambda: len(journal._indexer._jobs) <= 1)  # type: ignore[union-attr]
    # One line, and not one for each segment.
    assert len([line for line in lines if line.startswith("WARNING") and "the index of" in line]) == 1
    with JournalReader(tmp_path) as reader:
        assert [record.sequence for record in reader.records()] == list(range(350))
    assert all(
        isinstance(index_of(one.path), UnusableIndex) or not len(index_of(one.path))  # type: ignore[arg-type]
        for one in list_segments(str(tmp_path))
    )
    # And they can be made afterwards.
    for segment in list_segments(str(tmp_path)):
        build_index(segment.path)
    for first, count in ((0, 100), (100, 100), (200, 100), (300, 50)):
        check_index(tmp_path / segment_name(first), first, count)


def test_exception_of_a_signal_handler_is_not_taken_for_one_of_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FromHandlerError(Exception):
        pass

    def interrupted(*arguments: Any) -> None:
        raise FromHandlerError

    journal = JournalWriter(tmp_path, describe=EVENT)
    write_events(journal, range(50))
    with monkeypatch.context() as patched:
        patched.setattr(FileIndexer, "finish", interrupted)
        with pytest.raises(FromHandlerError):
            journal.close()
    # All frames are there, nobody has the lock, and the next writer makes the index.
    assert journal.closed
    with JournalWriter(tmp_path) as journal:
        assert journal.position == 50
    check_index(tmp_path / segment_name(0), 0, 50)


def test_threads_that_wait_for_the_disk_wait_for_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Between two syncs, one step: not a whole segment.
    steps: list[int] = []
    step = _indexing.Indexer._step

    def counted(self: Any, size: int) -> int:
        steps.append(size)
        return step(self, size)

    monkeypatch.setattr(_indexing.Indexer, "_step", counted)
    monkeypatch.setattr(_indexing, "STEP", 4096)
    with JournalWriter(tmp_path, describe=EVENT, rotate=RotationPolicy(max_frames=2000)) as journal:
        write_events(journal, range(6000))
        journal.wait_durable()
        assert set(steps) <= {4096}
    for first in (0, 2000, 4000):
        check_index(tmp_path / segment_name(first), first, 2000)


def test_index_of_a_poisoned_journal_is_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = JournalWriter(tmp_path, describe=EVENT)
    write_events(journal, range(100))

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("flatstream.journal._segments.fdatasync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            journal.sync()
    with pytest.raises(FlatStreamError, match="sync failed"):
        journal.close()
    with JournalWriter(tmp_path) as journal:
        assert journal.position == 100
    check_index(tmp_path / segment_name(0), 0, 100)


def test_index_says_where_each_block_is(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, describe=EVENT) as journal:
        write_events(journal, range(5000))
    path = tmp_path / segment_name(0)
    found = check_index(path, 0, 5000)
    assert len(found) > 2
    with JournalReader(tmp_path) as reader:
        offsets = []
        while reader.read_message() is not None:
            offsets.append(reader.message_offset)
    assert np.array_equal(np.array(offsets)[found.first_frames], found.offsets)
    assert np.array_equal(found.offsets[1:], found.ends[:-1])


def test_index_that_a_crash_has_torn_anywhere_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Several messages with blocks.
    monkeypatch.setattr("flatstream.index.building.WRITE_FROM", 2)
    path, index = tmp_path / "j" / segment_name(0), tmp_path / "j" / f"{segment_name(0)}.idx"
    with JournalWriter(tmp_path / "j", describe=EVENT) as journal:
        write_events(journal, range(3000))
        manifest = (tmp_path / "j" / "journal.json").read_bytes()
    segment, whole = path.read_bytes(), index.read_bytes()
    with flatstream.open(index) as reader:
        reader.read_message()
        head = reader.message_offset
    rng = random.Random(11)
    continued = 0
    for number in range(16):
        cut = number * 3 if number < 4 else rng.randrange(len(whole) + 1)
        garbage = rng.choice([b"", bytes(500), rng.randbytes(100), whole[-40:]])
        (tmp_path / "j" / "journal.json").write_bytes(manifest)
        path.write_bytes(segment)
        index.write_bytes(whole[:cut] + garbage)
        with JournalWriter(tmp_path / "j") as journal:
            assert journal.position == 3000, (cut, len(garbage))
            write_events(journal, range(3000, 3100))
        if journal.health():
            # What has no whole head, and other bytes behind it, does not look like an index, and is left as it is.
            assert cut < head
            assert garbage
            assert index.read_bytes() == whole[:cut] + garbage
        else:
            check_index(path, 0, 3100)
            continued += 1
    assert continued > 8


def test_file_in_the_place_of_an_index_is_never_changed(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, describe=EVENT, index=False) as journal:
        write_events(journal, range(10))
    index = tmp_path / f"{segment_name(0)}.idx"
    index.write_text("notes of somebody, which are not to be lost")
    with JournalWriter(tmp_path) as journal:
        write_events(journal, range(10, 20))
        assert any("it is left as it is" in text for text in journal.health())
    assert index.read_text() == "notes of somebody, which are not to be lost"
    index.unlink()
    index.mkdir()
    with JournalWriter(tmp_path) as journal:
        write_events(journal, range(20, 30))
        assert any("could not be written" in text for text in journal.health())
    assert index.is_dir()
    with JournalReader(tmp_path) as reader:
        assert [record.sequence for record in reader.records()] == list(range(30))


def test_index_that_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, describe=EVENT) as journal:
        write_events(journal, range(100))
    path = tmp_path / segment_name(0)
    held = IndexFile(f"{path}.idx", os.stat(path))
    try:
        with JournalWriter(tmp_path) as journal:
            write_events(journal, range(100, 200))
            assert any("another writer has the file open" in text for text in journal.health())
    finally:
        held.close()
    # The blocks that it has count, and the next writer adds the others.
    with JournalWriter(tmp_path) as journal:
        assert journal.position == 200
    check_index(path, 0, 200)


def starts(directory: Path, moments: list[datetime]) -> list[tuple[int, int | None]]:
    """Where reading begins for each time: the position, and the number of the event."""
    found = []
    for moment in moments:
        with JournalReader(directory, start=moment) as reader:
            position = reader.position
            record = next(iter(reader.records(EVENT, on_error="resync")), None)
            found.append((position, None if record is None else int(record.sequence)))
    return found


@pytest.mark.parametrize("damaged", [False, True])
def test_reading_from_a_time_on_begins_at_the_same_frame_with_and_without_indexes(
    tmp_path: Path, damaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(4)
    # Some are late, and some come again.
    times = [max(0, number + rng.choice([0, 0, 0, -40, 7])) for number in range(6000)]
    with JournalWriter(tmp_path, describe=EVENT, rotate=RotationPolicy(max_frames=2500)) as journal:
        write_events(journal, range(6000), times)
    if damaged:
        for first, offset in ((0, 200_000), (2500, 9000)):
            with open(tmp_path / segment_name(first), "r+b") as file:
                file.seek(offset)
                file.write(b"\xff" * 20)
        for segment in list_segments(str(tmp_path)):
            build_index(segment.path)
    zero = datetime.fromtimestamp(BEGIN // SECOND, UTC)
    moments = [zero + timedelta(seconds=seconds) for seconds in (-5, 0, 3, 1234, 2499.5, 2500, 2600, 4999, 5999, 6010)]
    begins: list[int] = []

    def counted(file: Any, begin: int, end: int, deframer: Any) -> Any:
        begins.append(begin)
        return open_piece(file, begin, end, deframer)

    monkeypatch.setattr(_start, "LEAST_INDEXED", 0)
    with monkeypatch.context() as patched:
        patched.setattr(_start, "open_piece", counted)
        with_indexes = starts(tmp_path, moments)
    # It was not read up to there.
    assert max(begins) > 100_000
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "flatstream.index", None)
        assert starts(tmp_path, moments) == with_indexes
    for path in tmp_path.glob("*.idx"):
        path.unlink()
    assert starts(tmp_path, moments) == with_indexes


def test_segment_that_cannot_be_read_where_its_index_ends_is_searched_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JournalWriter(tmp_path, describe=EVENT) as journal:
        write_events(journal, range(2000))
    moments = [datetime.fromtimestamp(BEGIN // SECOND, UTC) + timedelta(seconds=seconds) for seconds in (0, 1234)]
    expected = starts(tmp_path, moments)
    asked = []

    def fail(*arguments: Any, **options: Any) -> None:
        asked.append(arguments)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(_start, "LEAST_INDEXED", 0)
    monkeypatch.setattr("flatstream.index.reading.find_last", fail)
    assert starts(tmp_path, moments) == expected
    assert asked


def test_indexes_fit_whatever_happens_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Producers that wait for the disk, rotation, retention, compression and indexes, all in turn."""
    monkeypatch.setattr("flatstream.journal.writer.LOOK_EVERY", 20_000)
    monkeypatch.setattr(_indexing, "LOOK_EVERY", 20_000)
    monkeypatch.setattr(_indexing, "STEP", 10_000)
    policies: dict[str, Any] = {
        "rotate": RotationPolicy(max_frames=400),
        "retain": RetentionPolicy(max_segments=12),
        "compress": CompressionPolicy(after_segments=1),
        "sync": SyncPolicy(seconds=0.01),
    }
    with JournalWriter(tmp_path, describe=EVENT, **policies) as journal:

        def produce(number: int) -> None:
            for turn in range(6):
                begin = (number * 6 + turn) * 300
                write_events(journal, range(begin, begin + 300))
                journal.wait_durable(timeout=30)

        # What is compressed meanwhile is chance; some is, before the end.
        run_threads(*(functools.partial(produce, number) for number in range(4)))
        wait_until(lambda: any(segment.is_compressed for segment in list_segments(str(tmp_path))))
    report = check(tmp_path)
    # Some are compressed, and some were removed.
    segments = list_segments(str(tmp_path))
    assert len(report.checks) == len(segments) <= 13
    assert any(segment.is_compressed for segment in segments)
    assert [one.state for one in report.checks] == ["fits"] * len(segments)
    for one in report.checks:
        assert one.covered == one.stream_size
    assert {name for name in names(tmp_path) if name.endswith(".idx")} == {f"{one.name}.idx" for one in segments}

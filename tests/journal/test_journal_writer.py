"""JournalWriter: numbers, segments, and what a journal does when it is opened again."""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream.journal import (
    Cursor,
    JournalWriter,
    RetentionPolicy,
    RotationPolicy,
    SyncPolicy,
)
from flatstream.journal._layout import cursor_path, read_manifest, write_atomically
from support.extent import in_one_test, spread
from support.journals import frames_of, segments_of
from support.logs import log_lines
from support.processes import run_python

HEADER = 12
CHECKSUMS = ["none", "crc16", "crc32", "crc32c", "crc64", "xxhash64"]


def payload_of(number: int) -> bytes:
    """A payload that names its number, of a length that differs from that of its neighbours."""
    return b"%d:" % number + bytes([number % 251 + 1]) * (number % 37)


def expected(*ranges: tuple[int, int]) -> dict[int, bytes]:
    return {number: payload_of(number) for begin, end in ranges for number in range(begin, end)}


def write_some(journal: JournalWriter, count: int) -> None:
    for number in range(journal.position, journal.position + count):
        journal.write_payload(payload_of(number))


@in_one_test
@pytest.mark.parametrize("checksum", CHECKSUMS)
def test_frames_are_numbered_through_segments_and_openings(tmp_path: Path, checksum: str) -> None:
    directory = tmp_path / "journal"
    for opening in range(4):
        with JournalWriter(directory, checksum, rotate=RotationPolicy(max_frames=100)) as journal:
            assert journal.position == 250 * opening == journal.durable_position
            write_some(journal, 250)
            assert journal.position == 250 * (opening + 1)
        assert journal.durable_position == 250 * (opening + 1)
    assert frames_of(directory, checksum) == expected((0, 1000))
    assert list(segments_of(directory)) == list(range(0, 1000, 100))


@in_one_test(step=2)
@pytest.mark.parametrize("buffer_size", [0, 100, 5000, 64 * 1024])
@pytest.mark.parametrize("max_bytes", [1, 300, 4096, 10_000])
def test_no_segment_is_larger_than_its_limit_but_for_one_large_frame(
    tmp_path: Path, buffer_size: int, max_bytes: int
) -> None:
    draw = random.Random(7)
    payloads = [draw.randbytes(draw.choice([1, 20, 100, 3000, 9000])) for _ in range(120)]
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_bytes=max_bytes), buffer_size=buffer_size) as journal:
        for payload in payloads[:60]:
            journal.write_payload(payload)
        journal.write_payloads(payloads[60:])
    assert frames_of(tmp_path / "j") == dict(enumerate(payloads))
    for first, path in segments_of(tmp_path / "j").items():
        size = path.stat().st_size
        with flatstream.open(path, checksum="xxhash64") as reader:
            following = first + sum(1 for _ in reader)
            head = reader._description_size
        assert size <= max_bytes or size == head + HEADER + len(payloads[first])
        # Each has as much as there is room for.
        assert following == len(payloads) or size + HEADER + len(payloads[following]) > max_bytes


@pytest.mark.parametrize("buffer_size", [0, 400, 64 * 1024])
def test_every_way_of_writing_counts_and_rotates(tmp_path: Path, buffer_size: int) -> None:
    source = tmp_path / "source.fs"
    with flatstream.open(source, "w", checksum="xxhash64") as writer:
        writer.write_payloads([payload_of(number) for number in range(500)])
        writer.write_payload(payload_of(500) * 1000)
    builder = flatstream.Builder(64)
    table = flatstream.Schema.from_file("asv_benchmarks/schemas/sample.bfbs").root
    assert table is not None
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=7), buffer_size=buffer_size) as journal:
        journal.write("text")
        journal.write_batch(["one", "two"])
        builder.Clear()
        builder.Finish(builder.CreateString("three"))
        journal.write_finished(builder)
        journal.write_message(builder)
        assert journal.position == 5
        with flatstream.open(source, checksum="xxhash64") as reader:
            for batch in reader.batches(max_frames=100):
                journal.write_frames(batch)
        assert journal.position == 506
        records = flatstream.RecordWriter(journal, table)
        records.write(time_ns=1, value=2.5, sensor=3)
        records.write_columns({"time_ns": [1, 2, 3], "value": [1.0, 2.0, 3.0], "sensor": [1, 2, 3]})
        journal.write_payload(memoryview(b"x" * 100_000))
        assert journal.position == 511
    frames = frames_of(tmp_path / "j")
    assert sorted(frames) == list(range(511))
    assert [frames[5 + number] for number in range(500)] == [payload_of(number) for number in range(500)]
    assert frames[505] == payload_of(500) * 1000
    assert frames[510] == b"x" * 100_000
    assert table.view(frames[508]).time_ns == 2
    assert list(segments_of(tmp_path / "j")) == list(range(0, 511, 7))


def test_an_empty_payload_is_refused_by_every_way_of_writing(tmp_path: Path) -> None:
    source = tmp_path / "source.fs"
    with flatstream.open(source, "w", checksum="xxhash64") as writer:
        writer.write_payloads([b"a", b"", b"b"])
    with flatstream.open(source, checksum="xxhash64") as reader:
        batch = reader.read_batch()
    assert batch is not None
    with JournalWriter(tmp_path / "j") as journal:
        ways: list[Any] = [
            lambda: journal.write_payload(b""),
            lambda: journal.write_payload(bytearray()),
            lambda: journal.write_payloads([b"x", b""]),
            lambda: journal.write_payloads(iter([b""])),
            lambda: journal.write_payloads([b"y"] * 50 + [b""]),
            lambda: journal.write_frames(batch),
        ]
        for way in ways:
            with pytest.raises(flatstream.InvalidFrameError, match="the payload is empty"):
                way()
    assert frames_of(tmp_path / "j") == dict(enumerate([b"x", *[b"y"] * 50, b"a"]))


def test_rotate_begins_a_segment_only_behind_frames(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", rotate=None) as journal:
        journal.rotate()
        write_some(journal, 3)
        journal.rotate()
        journal.rotate()
        write_some(journal, 2)
        assert journal.metrics().rotations == 1
    assert list(segments_of(tmp_path / "j")) == [0, 3]
    assert frames_of(tmp_path / "j") == expected((0, 5))


def test_a_segment_ends_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("flatstream.journal._segments.time.monotonic", lambda: now[0])
    # The keeper would rotate, too: this is about the write.
    monkeypatch.setattr("flatstream.journal._keeper.Keeper.start", lambda keeper: None)
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_seconds=60), buffer_size=0) as journal:
        write_some(journal, 2)
        now[0] += 59
        write_some(journal, 1)
        now[0] += 2
        write_some(journal, 1)
    assert list(segments_of(tmp_path / "j")) == [0, 3]


def test_the_keeper_ends_an_old_segment_of_an_idle_journal(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_seconds=0.05)) as journal:
        write_some(journal, 1)
        wait_until(lambda: len(segments_of(tmp_path / "j")) == 2)
        # What was in the buffer is in the segment that ended.
        assert frames_of(tmp_path / "j") == expected((0, 1))


@pytest.mark.parametrize("shift", [-1e6, 1e6])
def test_setting_the_clock_neither_hastens_nor_delays_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    import time

    real = time.time
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_seconds=3600), buffer_size=0) as journal:
        write_some(journal, 1)
        monkeypatch.setattr(time, "time", lambda: real() + shift)
        write_some(journal, 5)
        assert list(segments_of(tmp_path / "j")) == [0]
    # Opened again with a clock that is behind, it is as if the segment was begun now.
    monkeypatch.setattr(time, "time", lambda: real() - 1e6)
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_seconds=3600), buffer_size=0) as journal:
        write_some(journal, 1)
        assert frames_of(tmp_path / "j") == expected((0, 7))


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    """Waits until `condition()` holds; fails if it does not within so many seconds."""
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


# Opening again


def crash(journal: JournalWriter) -> None:
    """Leaves a journal as the end of its process leaves it."""
    journal._keeper.stop_for_good()
    segments = journal._segments
    for one in [*segments.ended]:
        one.file.close()
    segments.file.close()
    journal._lock_file.close()
    journal._shut_down()
    journal._endpoint = None


@pytest.mark.parametrize("checksum", ["none", "crc16", "xxhash64"])
def test_a_torn_tail_is_saved_and_cut_at_every_byte(tmp_path: Path, checksum: str) -> None:
    with JournalWriter(tmp_path / "j", checksum, rotate=None, describe=False) as journal:
        write_some(journal, 3)
        # The bytes of a stream without checksum are told from a torn frame only if they look like FlatBuffers.
        begin = journal.bytes_written
        journal.write_payload(b"z" * 30)
    (path,) = segments_of(tmp_path / "j").values()
    whole = path.read_bytes()
    for size in spread(range(begin + 1, len(whole)), 4):
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / path.name).write_bytes(whole[:size])
        for action in ("cut", "nothing"):
            with JournalWriter(directory, checksum, describe=False) as journal:
                assert journal.position == 3
                report = journal.recovery[0]
                assert report.action == action
                if action == "cut":
                    assert report.bytes_cut == size - begin
                    assert report.saved_as is not None
                    assert Path(report.saved_as).read_bytes() == whole[begin:size]
        with JournalWriter(directory, checksum) as journal:
            write_some(journal, 2)
        assert frames_of(directory, checksum) == expected((0, 5))


def test_a_torn_first_frame_is_cut(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", describe=False) as journal:
        journal.write_payload(b"abcdefgh")
    (path,) = segments_of(tmp_path / "j").values()
    whole = path.read_bytes()
    for size in range(1, len(whole)):
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / path.name).write_bytes(whole[:size])
        with JournalWriter(directory) as journal:
            report = journal.recovery[0]
            assert (report.action, report.frames, report.bytes, report.bytes_cut) == ("cut", 0, 0, size)
            assert report.saved_as is not None
            assert Path(report.saved_as).read_bytes() == whole[:size]
            write_some(journal, 1)
        assert frames_of(directory) == expected((0, 1))


@in_one_test
@pytest.mark.parametrize("checksum", CHECKSUMS)
@pytest.mark.parametrize("zeros", [1, 11, 12, 13, 100, 8192])
def test_zeros_at_the_end_are_no_frames(tmp_path: Path, checksum: str, zeros: int) -> None:
    with JournalWriter(tmp_path / "j", checksum) as journal:
        write_some(journal, 3)
    (path,) = segments_of(tmp_path / "j").values()
    with path.open("ab") as file:
        file.write(bytes(zeros))
    with JournalWriter(tmp_path / "j", checksum) as journal:
        report = journal.recovery[0]
        assert (report.action, report.bytes_cut, report.saved_as) == ("cut", zeros, None)
        write_some(journal, 1)
    assert frames_of(tmp_path / "j", checksum) == expected((0, 4))


def test_a_damaged_last_segment_stays_and_numbers_go_on_above_all_it_can_have_held(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", describe=False) as journal:
        write_some(journal, 10)
    (path,) = segments_of(tmp_path / "j").values()
    data = bytearray(path.read_bytes())
    # In the middle of the sixth frame.
    offset = sum(HEADER + len(payload_of(number)) for number in range(5)) + HEADER + 1
    data[offset] ^= 0xFF
    path.write_bytes(data)
    os.unlink(tmp_path / "j" / "journal.json")
    with JournalWriter(tmp_path / "j") as journal:
        report = journal.recovery[0]
        lost = HEADER + len(payload_of(5))
        assert (report.action, report.frames, report.bytes, report.lost_bytes) == ("damaged", 9, len(data), lost)
        assert report.next == 9 + max(1, lost // HEADER) == journal.position
        assert isinstance(report.error, flatstream.ChecksumMismatchError)
        write_some(journal, 1)
        behind = journal.position
    assert path.read_bytes() == data
    assert list(segments_of(tmp_path / "j")) == [0, report.next]
    # It is known now, and not read again. The journal goes on in the new segment.
    with JournalWriter(tmp_path / "j") as journal:
        assert [one.action for one in journal.recovery] == ["sealed", "nothing"]
        assert journal.position == behind


@pytest.mark.parametrize("cut", [0, 5])
def test_numbers_of_a_sealed_segment_that_became_shorter_are_not_used_again(tmp_path: Path, cut: int) -> None:
    with JournalWriter(tmp_path / "j", describe=False) as journal:
        write_some(journal, 10)
    (path,) = segments_of(tmp_path / "j").values()
    os.truncate(path, sum(HEADER + len(payload_of(number)) for number in range(7)) + cut)
    for _ in range(2):
        with JournalWriter(tmp_path / "j") as journal:
            assert journal.position == 10
    with JournalWriter(tmp_path / "j") as journal:
        write_some(journal, 1)
    assert frames_of(tmp_path / "j") == expected((0, 7), (10, 11))


@pytest.mark.parametrize("counts", [(10,), (10, 15)])
def test_numbers_of_a_last_segment_that_is_lost_are_not_used_again(tmp_path: Path, counts: tuple[int, ...]) -> None:
    directory = tmp_path / "j"
    for count in counts:
        with JournalWriter(directory) as journal:
            journal.rotate()
            write_some(journal, count)
    last = list(segments_of(directory).values())[-1]
    last.unlink()
    with log_lines() as log:
        for _ in range(2):
            with JournalWriter(directory) as journal:
                assert journal.position == sum(counts)
    with JournalWriter(directory) as journal:
        write_some(journal, 1)
    assert list(frames_of(directory))[-1] == sum(counts)
    if len(counts) > 1:
        assert any(f"{last} is lost: it was sealed with 15 frames" in line for line in log)


def test_retention_forgets_a_segment_that_was_lost(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with JournalWriter(directory, rotate=RotationPolicy(max_frames=10), buffer_size=0) as journal:
        write_some(journal, 40)
    segments_of(directory)[10].unlink()
    JournalWriter(directory).close()
    manifest = read_manifest(str(directory))
    assert manifest is not None
    assert [name[-5:-3] for name in manifest.sealed] == ["00", "10", "20", "30"]
    JournalWriter(directory, retain=RetentionPolicy(max_segments=1)).close()
    manifest = read_manifest(str(directory))
    assert manifest is not None
    assert [name[-5:-3] for name in manifest.sealed] == ["30"]


def test_the_numbers_of_a_damaged_segment_end_where_the_next_one_begins(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=10), describe=False) as journal:
        write_some(journal, 15)
    first = segments_of(tmp_path / "j")[0]
    data = bytearray(first.read_bytes())
    data[HEADER] ^= 1
    first.write_bytes(data)
    os.unlink(tmp_path / "j" / "journal.json")
    with JournalWriter(tmp_path / "j") as journal:
        assert [(one.action, one.next) for one in journal.recovery] == [("damaged", 10), ("nothing", 15)]
        assert journal.position == 15


@pytest.mark.parametrize("offset", [0, HEADER + 1, -1])
def test_a_sealed_last_segment_that_was_damaged_keeps_its_numbers(tmp_path: Path, offset: int) -> None:
    with JournalWriter(tmp_path / "j", describe=False) as journal:
        write_some(journal, 10)
    (path,) = segments_of(tmp_path / "j").values()
    data = bytearray(path.read_bytes())
    # Damage of the last frame's length looks like a torn tail, and nothing is cut off a segment that was whole.
    last = len(data) - HEADER - len(payload_of(9))
    data[last if offset == 0 else offset] ^= 0x40
    path.write_bytes(data)
    for action in ("damaged", "sealed"):
        with JournalWriter(tmp_path / "j") as journal:
            assert (journal.recovery[0].action, journal.recovery[0].frames) == (action, 9)
            assert journal.recovery[0].next == 10 <= journal.position
            write_some(journal, 1)
    assert path.read_bytes() == data
    assert list(segments_of(tmp_path / "j")) == [0, 10]


def test_damage_to_a_sealed_segment_is_not_looked_for_and_not_touched(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=5)) as journal:
        write_some(journal, 12)
    first = segments_of(tmp_path / "j")[0]
    data = bytearray(first.read_bytes())
    data[20] ^= 1
    first.write_bytes(data)
    with JournalWriter(tmp_path / "j") as journal:
        assert journal.position == 12
    assert first.read_bytes() == data


def test_a_journal_without_its_json_file_is_read_once_more(tmp_path: Path) -> None:
    # A description would have the identity.
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=5), describe=False) as journal:
        write_some(journal, 12)
        before = journal.id
    for damage in (
        b"",
        b"{",
        b'{"format": 1}',
        b"[]",
        b"\xff",
        b'{"format": 1, "id": "x", "checksum": null, "sealed": {}}',
        b'{"format": 1, "id": "%032d", "checksum": null, "sealed": []}' % 0,
        b'{"format": 1, "id": "%032d", "checksum": null, "sealed": {}, "begun": 1}' % 0,
        b"[" * 100_000,
    ):
        (tmp_path / "j" / "journal.json").write_bytes(damage)
        with JournalWriter(tmp_path / "j") as journal:
            assert [one.action for one in journal.recovery] == ["nothing"] * 3
            assert journal.position == 12
            assert journal.id != before
    assert frames_of(tmp_path / "j") == expected((0, 12))


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        write_some(journal, 1)
    manifest = json.loads((tmp_path / "j" / "journal.json").read_text())
    manifest["format"] = 2
    (tmp_path / "j" / "journal.json").write_text(json.dumps(manifest))
    with pytest.raises(flatstream.FlatStreamError, match="has the format 2, and this version of flatstream reads"):
        JournalWriter(tmp_path / "j")


@pytest.mark.parametrize("with_manifest", [True, False])
def test_another_checksum_is_refused_and_nothing_is_changed(tmp_path: Path, with_manifest: bool) -> None:
    with JournalWriter(tmp_path / "j", "crc32") as journal:
        write_some(journal, 100)
    if not with_manifest:
        os.unlink(tmp_path / "j" / "journal.json")
    before = {path.name: path.read_bytes() for path in (tmp_path / "j").iterdir()}
    with pytest.raises((ValueError, flatstream.InvalidFrameError), match="checksum 'crc32'"):
        JournalWriter(tmp_path / "j")
    assert {path.name: path.read_bytes() for path in (tmp_path / "j").iterdir()} == before


def test_an_empty_last_segment_keeps_its_number(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        write_some(journal, 3)
    # As a crash leaves it behind frames that were dropped.
    (tmp_path / "j" / f"{10:020d}.fs").touch()
    with JournalWriter(tmp_path / "j") as journal:
        assert journal.position == 10
        write_some(journal, 1)
    assert frames_of(tmp_path / "j") == expected((0, 3), (10, 11))


def test_numbers_that_a_registered_reader_has_seen_are_not_used_again(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        write_some(journal, 3)
        identity = journal.id
    (tmp_path / "j" / "cursors").mkdir()
    write_atomically(cursor_path(str(tmp_path / "j"), "reader"), str(Cursor(identity, 50)).encode())
    write_atomically(cursor_path(str(tmp_path / "j"), "other"), str(Cursor("0" * 32, 90)).encode())
    with JournalWriter(tmp_path / "j") as journal:
        assert journal.position == 50
        write_some(journal, 1)
    assert list(segments_of(tmp_path / "j")) == [0, 50]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        write_some(journal, 1)
        with pytest.raises(OSError, match=f"another writer has the file open: this process, {os.getpid()}"):
            JournalWriter(tmp_path / "j")
        write_some(journal, 1)
    with JournalWriter(tmp_path / "j") as journal:
        assert journal.position == 2


def test_a_forked_child_refuses_and_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = f"""
import os
from flatstream.journal import JournalWriter, SyncPolicy
journal = JournalWriter({str(tmp_path / "j")!r}, sync=SyncPolicy(seconds=0.01))
journal.write_payload(b"parent")
journal.wait_durable()
read, write = os.pipe()
child = os.fork()
if not child:
    os.close(write)
    for way in (lambda: journal.write_payload(b"child"), journal.sync, journal.flush, journal.rotate,
                lambda: journal.wait_durable(1)):
        try:
            way()
            print("no error", flush=True)
        except RuntimeError as error:
            print(type(error).__name__, flush=True)
    journal.close()
    os.read(read, 1)
    os._exit(0)
os.close(read)
journal.write_payload(b"more")
journal.close()
# The child is still there.
with JournalWriter({str(tmp_path / "j")!r}) as again:
    print("opened", again.position)
os.write(write, b"x")
os.waitpid(child, 0)
"""
    output = run_python(script).stdout.splitlines()
    assert output.count("RuntimeError") >= 4
    assert "no error" not in [line for line in output if line != "opened 2"][:4]
    assert "opened 2" in output
    assert frames_of(tmp_path / "j") == {0: b"parent", 1: b"more"}


def test_threads_share_a_journal(tmp_path: Path) -> None:
    with JournalWriter(
        tmp_path / "j", rotate=RotationPolicy(max_bytes=2000), sync=SyncPolicy(seconds=0.001)
    ) as journal:

        def produce(name: int) -> None:
            for i in range(500):
                journal.write_payload(b"%d %d" % (name, i))

        threads = [threading.Thread(target=produce, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    frames = frames_of(tmp_path / "j")
    assert sorted(frames) == list(range(2000))
    for name in range(4):
        mine = [value for _, value in sorted(frames.items()) if value.startswith(b"%d " % name)]
        assert mine == [b"%d %d" % (name, i) for i in range(500)]


def test_wrong_arguments(tmp_path: Path) -> None:
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "sync must be 'never', 'each' or a SyncPolicy, got 'always'", {"sync": "always"}),
        (TypeError, "rotate must be a RotationPolicy or None, got 5", {"rotate": 5}),
        (TypeError, "retain must be a RetentionPolicy or None, got 5", {"retain": 5}),
        (ValueError, "when_full must be 'raise', 'drop_newest' or 'drop_oldest', got 'wait'", {"when_full": "wait"}),
        (ValueError, "unknown checksum", {"checksum": "md5"}),
    ]
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=message):
            JournalWriter(tmp_path / "j", **arguments)
    assert not (tmp_path / "j").exists()
    with pytest.raises(FileNotFoundError):
        JournalWriter(tmp_path / "missing" / "j")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        JournalWriter(tmp_path / "file")
    policies: list[Any] = [SyncPolicy, RotationPolicy, RetentionPolicy]
    for policy in policies:
        for name in policy.__dataclass_fields__:
            for value in (0, -1, float("nan")):
                with pytest.raises((ValueError, TypeError), match=f"{policy.__name__}.{name}"):
                    policy(**{name: value})
            with pytest.raises(TypeError, match=f"{policy.__name__}.{name}"):
                policy(**{name: "5"})


def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "j")
    write_some(journal, 1)
    journal.close()
    journal.close()
    ways: list[Any] = [lambda: journal.write_payload(b"x"), journal.sync, journal.flush, journal.rotate]
    for way in ways:
        with pytest.raises(ValueError, match="this JournalWriter is closed"):
            way()
    journal.wait_durable()
    assert (journal.position, journal.durable_position) == (1, 1)
    assert repr(journal) == "<JournalWriter closed, position 1>"


def test_a_journal_that_is_collected_hands_over_and_says_so(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "j", sync=SyncPolicy(seconds=0.005))
    write_some(journal, 3)
    holder = [journal]
    del journal
    with pytest.warns(ResourceWarning, match="unclosed stream writer <JournalWriter"):
        drop_and_wait(holder, tmp_path / "j" / "journal.json")
    assert frames_of(tmp_path / "j") == expected((0, 3))


def drop_and_wait(holder: list[JournalWriter], manifest: Path) -> None:
    """Drops the only reference to a journal, and waits until its end is noted. The keeper may hold it for a moment."""
    holder.clear()
    wait_until(lambda: '"frames": 3' in manifest.read_text())

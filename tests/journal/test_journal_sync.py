"""JournalWriter: what is acknowledged was synced, and a failed sync is final."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream.journal import JournalWriter, RotationPolicy, SyncPolicy
from support.journals import Disk, failing_disk, frames_of
from support.threads import JOIN_SECONDS


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    with failing_disk(monkeypatch) as disk:
        yield disk


def test_each_write_is_synced_before_it_returns(tmp_path: Path, disk: Disk) -> None:
    builder = flatstream.Builder(64)
    with JournalWriter(tmp_path / "j", sync="each", rotate=RotationPolicy(max_frames=3)) as journal:
        for number in range(10):
            journal.write_payload(b"abc")
            assert journal.durable_position == number + 1 == journal.position
        journal.write_payloads([b"x"] * 100)
        journal.write("text")
        builder.Finish(builder.CreateString("three"))
        journal.write_finished(builder)
        journal.write_payload(bytes(100_000))
        assert journal.durable_position == 113 == journal.position
        assert journal.pending_bytes == 0
    assert sorted(frames_of(tmp_path / "j")) == list(range(113))


@pytest.mark.parametrize("frames", [2, 7, 1000])
def test_never_more_frames_than_the_policy_says_are_not_synced(tmp_path: Path, disk: Disk, frames: int) -> None:
    with JournalWriter(tmp_path / "j", sync=SyncPolicy(frames=frames), rotate=RotationPolicy(max_frames=50)) as journal:
        for _ in range(3 * frames + 5):
            journal.write_payload(b"abc")
            assert journal.position - journal.durable_position <= frames
        journal.write_payloads([b"x"] * (5 * frames))
        assert journal.position - journal.durable_position <= frames
        journal.write_payloads(iter([b"x"] * (5 * frames)))
        assert journal.position - journal.durable_position <= frames
        written = journal.position
    assert sorted(frames_of(tmp_path / "j")) == list(range(written))
    if frames > 2:
        # Not each frame is synced. (A segment is synced by the write or the thread, or by both.)
        assert disk.syncs < written // 2


def test_a_batch_of_frames_keeps_the_policy(tmp_path: Path) -> None:
    source = tmp_path / "source.fs"
    with flatstream.open(source, "w", checksum="xxhash64") as writer:
        writer.write_payloads([b"%d" % number for number in range(1000)])
    with (
        JournalWriter(tmp_path / "j", sync=SyncPolicy(frames=64)) as journal,
        flatstream.open(source, checksum="xxhash64") as reader,
    ):
        for batch in reader.batches(max_frames=300):
            journal.write_frames(batch)
            assert journal.position - journal.durable_position <= 64
    assert frames_of(tmp_path / "j") == {number: b"%d" % number for number in range(1000)}


def test_a_thread_syncs_by_the_clock(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", sync=SyncPolicy(seconds=0.01)) as journal:
        for number in range(3):
            journal.write_payload(b"abc")
            deadline = time.monotonic() + 20
            while journal.durable_position <= number:
                assert time.monotonic() < deadline
                time.sleep(0.002)
        syncs = journal.metrics().syncs
        time.sleep(0.1)
        # While nothing is written, nothing is synced.
        assert journal.metrics().syncs == syncs


def test_nothing_is_durable_before_it_is_synced(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=10)) as journal:
        journal.write_payloads([b"abc"] * 25)
        assert journal.durable_position == 0
        journal.flush()
        assert journal.durable_position == 0
        journal.sync()
        assert journal.durable_position == 25
        journal.write_payload(b"in the buffer")
        assert (journal.position, journal.durable_position) == (26, 25)


def test_waiting_producers_share_a_sync(tmp_path: Path, disk: Disk) -> None:
    disk.on_sync = lambda: time.sleep(0.01)
    failures: list[BaseException] = []
    with JournalWriter(tmp_path / "j") as journal:

        def produce() -> None:
            try:
                for _ in range(10):
                    journal.write_payload(b"abc")
                    position = journal.position
                    journal.wait_durable(position)
                    assert journal.durable_position >= position
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=produce) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(JOIN_SECONDS)
        assert not failures
        assert journal.durable_position == 160
        # Each would have needed one of its own.
        assert journal.metrics().syncs < 80


def test_waiting_has_a_limit_and_goes_on_later(tmp_path: Path, disk: Disk) -> None:
    gate = threading.Event()

    def block() -> None:
        gate.wait(JOIN_SECONDS)

    disk.on_sync = block
    with JournalWriter(tmp_path / "j") as journal:
        journal.write_payload(b"abc")
        with pytest.raises(TimeoutError, match="the disk did not have all frames before number 1 within"):
            journal.wait_durable(1, timeout=0.02)
        with pytest.raises(ValueError, match="position must be from 0 to 1, the number of the next frame, got 2"):
            journal.wait_durable(2)
        with pytest.raises(TypeError, match="timeout must be a number of seconds"):
            journal.wait_durable(1, timeout="1")  # type: ignore[arg-type]
        gate.set()
        journal.wait_durable(1, timeout=JOIN_SECONDS)
        assert journal.durable_position == 1


def test_writing_goes_on_while_the_disk_is_waited_for(tmp_path: Path, disk: Disk) -> None:
    gate, waiting = threading.Event(), threading.Event()

    def block() -> None:
        waiting.set()
        gate.wait(JOIN_SECONDS)

    disk.on_sync = block
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=10)) as journal:
        journal.write_payload(b"abc")
        thread = threading.Thread(target=journal.sync)
        thread.start()
        assert waiting.wait(JOIN_SECONDS)
        # Not even a new segment waits for the sync of the old one.
        for _ in range(100):
            journal.write_payload(b"abc")
            journal.flush()
        assert journal.durable_position == 0
        gate.set()
        thread.join(JOIN_SECONDS)
        assert journal.durable_position >= 1


WAYS: dict[str, Any] = {
    "sync": lambda journal: journal.sync(),
    "wait_durable": lambda journal: journal.wait_durable(),
    "each": lambda journal: journal.write_payload(b"not acknowledged"),
    "frames": lambda journal: journal.write_payloads([b"not acknowledged"] * 4),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_sync_poisons_the_journal(tmp_path: Path, disk: Disk, way: str) -> None:
    policy: Any = {"each": "each", "frames": SyncPolicy(frames=4)}.get(way, "never")
    journal = JournalWriter(tmp_path / "j", sync=policy)
    journal.write_payloads([b"a", b"b"])
    journal.sync()
    durable = journal.durable_position
    assert durable == 2
    journal.write_payload(b"c")
    durable = journal.durable_position
    disk.failing_syncs = 1
    with pytest.raises((OSError, flatstream.FlatStreamError)):
        WAYS[way](journal)
    # The device works again, which changes nothing.
    ways: list[Any] = [
        lambda: journal.write_payload(b"d"),
        lambda: journal.write_payloads([b"d"]),
        journal.sync,
        journal.flush,
        journal.rotate,
    ]
    if journal.position > durable:
        ways.append(journal.wait_durable)
    for _ in range(2):
        for again in ways:
            with pytest.raises(flatstream.FlatStreamError, match="refuses to go on, because an earlier sync failed"):
                again()
    assert journal.durable_position == durable
    assert journal.metrics().poisoned
    assert journal.metrics().errors["sync EIO"] == 1
    assert any("a sync failed" in one for one in journal.health())
    with pytest.raises((OSError, flatstream.FlatStreamError)):
        journal.close()
    assert journal.closed
    assert journal.durable_position == durable
    # What was acknowledged is there, and the journal can be opened again.
    with JournalWriter(tmp_path / "j") as journal:
        assert [frames_of(tmp_path / "j")[number] for number in range(durable)] == [b"a", b"b", b"c"][:durable]


def test_a_failed_sync_of_an_ended_segment_poisons_too(tmp_path: Path, disk: Disk) -> None:
    journal = JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=2), buffer_size=0)
    disk.failing_syncs = 1
    journal.write_payloads([b"a", b"b", b"c"])
    deadline = time.monotonic() + 20
    while not journal.is_refusing:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    with pytest.raises(flatstream.FlatStreamError, match="an earlier sync failed"):
        journal.write_payload(b"d")
    with pytest.raises(flatstream.FlatStreamError):
        journal.wait_durable()
    assert journal.durable_position == 0
    with pytest.raises(flatstream.FlatStreamError):
        journal.close()


def test_all_who_wait_are_told_that_a_sync_failed(tmp_path: Path, disk: Disk) -> None:
    told: list[str] = []
    journal = JournalWriter(tmp_path / "j")
    gate = threading.Event()

    def fail() -> None:
        gate.wait(JOIN_SECONDS)

    disk.on_sync = fail
    disk.failing_syncs = 1

    def produce() -> None:
        journal.write_payload(b"abc")
        try:
            journal.wait_durable()
        except flatstream.FlatStreamError as error:
            told.append(str(error))

    threads = [threading.Thread(target=produce) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    gate.set()
    for thread in threads:
        thread.join(JOIN_SECONDS)
        assert not thread.is_alive()
    assert len(told) == 8
    with pytest.raises(flatstream.FlatStreamError):
        journal.close()


def test_health_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JournalWriter(tmp_path / "j", sync=SyncPolicy(seconds=1000)) as journal:
        assert journal.health() == []
        journal.write_payload(b"abc")
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 20_000)
        (problem,) = journal.health()
        assert "1 frames are not synced: the policy is every 1000 s" in problem
        monkeypatch.setattr(time, "time", real)
        usage = __import__("shutil").disk_usage(tmp_path)
        monkeypatch.setattr("shutil.disk_usage", lambda path: type(usage)(1000, 999, 1))
        assert journal.health() == ["the disk is nearly full: 1 of 1000 bytes are free"]


def test_a_process_without_free_descriptors_does_not_poison_the_journal(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j", rotate=RotationPolicy(max_frames=2), buffer_size=0) as journal:
        journal.write_payload(b"a")
        held = []
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, before[1]))
        try:
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open("/dev/null", os.O_RDONLY))
            journal.sync()
            assert journal.durable_position == 1
            # No new segment can be begun now. The old one grows.
            journal.write_payloads([b"b", b"c", b"d"])
            assert not journal.is_refusing
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        journal.sync()
        assert journal.durable_position == 4
    assert frames_of(tmp_path / "j") == dict(enumerate([b"a", b"b", b"c", b"d"]))


def test_keeper_may_take_an_ended_segment_away_while_another_thread_syncs(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "journal") as writer:
        segments = writer._segments

        class Taken:
            """An ended segment that the keeper seals at this moment."""

            @property
            def file(self) -> io.FileIO:
                segments.ended.popleft()
                return segments.file

        writer.write_payload(b"x")
        segments.ended.extend([Taken(), Taken()])  # type: ignore[list-item]
        writer.sync()
        assert not segments.ended
        assert writer.durable_position == 1

"""JournalWriter: exceptions of signal handlers at any moment neither lose nor double a frame, nor change its number."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flatstream.journal import JournalWriter, RetentionPolicy, RotationPolicy, SyncPolicy
from support.alarms import Alarm, Struck
from support.gated import wait_until
from support.journals import frames_of
from support.threads import PATIENCE


# A file that was made is dropped if the exception comes before anybody has it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("sync", "buffer_size"),
    [("never", 0), ("never", 150), ("each", 150), (SyncPolicy(frames=3), 150), (SyncPolicy(seconds=0.002), 150)],
    ids=["through", "buffer", "each", "frames", "clock"],
)
def test_signals_at_random_moments(tmp_path: Path, sync: Any, buffer_size: int) -> None:
    draw = random.Random(5)
    # By number, what was accepted; and what may have been, because the exception came on the way back to the caller.
    accepted: dict[int, bytes] = {}
    raised = 0
    journal = JournalWriter(
        tmp_path / "j",
        sync=sync,
        buffer_size=buffer_size,
        rotate=RotationPolicy(max_frames=7),
        retain=RetentionPolicy(max_segments=10_000),
    )
    with Alarm() as alarm:
        for step in range(1500):
            payload = b"%d:" % step + b"x" * draw.choice([1, 5, 40, 200])
            ways: list[Callable[[], None]] = [
                partial(journal.write_payload, payload),
                partial(journal.write_payload, payload),
                partial(journal.write_payloads, [payload]),
                journal.flush,
                journal.sync,
                journal.rotate,
                journal.wait_durable,
            ]
            work = draw.choice(ways)
            before = journal.position
            raised += alarm.strike(work, draw.random() * 3e-4 + 1e-6)
            if journal.position > before:
                accepted[before] = payload
            assert journal.position - before <= 1
            assert journal.durable_position <= journal.position
    durable = journal.durable_position
    journal.close()
    assert raised > 20
    frames = frames_of(tmp_path / "j")
    assert frames == accepted
    assert sorted(accepted) == list(range(journal.position))
    assert durable <= journal.position


def test_there_is_one_thread_whatever_threading_believes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In Python before 3.13, an exception of a signal handler makes `is_alive` and `join` call a thread dead that works.
    monkeypatch.setattr(threading.Thread, "is_alive", lambda thread: False)
    journal = JournalWriter(tmp_path / "j", sync=SyncPolicy(seconds=60))
    keeper, keep = journal._keeper, journal._keep
    busy, turns = threading.Event(), []

    def keep_slowly(wanted: int) -> None:
        turns.append(threading.get_ident())
        busy.set()
        time.sleep(0.2)
        keep(wanted)

    monkeypatch.setattr(journal, "_keep", keep_slowly)
    keeper.wake()
    assert busy.wait(PATIENCE)
    for _ in range(10):
        keeper.wake()
    assert keeper.is_running
    journal.close()
    assert not keeper.is_running
    assert len(set(turns)) == 1


def test_start_of_the_thread_may_be_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = JournalWriter(tmp_path / "j")
    start = threading.Thread.start
    held: list[threading.Thread] = []

    def before(thread: threading.Thread) -> None:
        held.append(thread)
        raise Struck

    def behind(thread: threading.Thread) -> None:
        start(thread)
        raise Struck

    keeper = journal._keeper
    for cut, begins in ((before, False), (behind, True), (before, False)):
        keeper.stop()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", cut)
            with pytest.raises(Struck):
                keeper.resume()
        # A thread that has begun goes on; one that has not never works.
        wait_until(partial(lambda wanted: keeper.is_running == wanted, begins))
        number = journal.position
        journal.write_payload(b"abc")
        journal.wait_durable(timeout=PATIENCE)
        assert journal.durable_position == number + 1
        assert keeper.start()
    for thread in held:
        start(thread)
        thread.join(PATIENCE)
    assert keeper.is_running
    journal.close()
    assert not keeper.is_running


def test_a_signal_in_the_middle_of_a_sync_may_sync_and_may_not_close(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "j", buffer_size=0)
    seen: list[str] = []

    def use() -> None:
        for way in (journal.sync, journal.wait_durable):
            try:
                way()
                seen.append("done")
            except RuntimeError as error:
                seen.append(str(error))

    def write() -> None:
        journal.write_payload(b"abc")
        journal.sync()

    with Alarm(action=use) as alarm:
        for step in range(200):
            alarm.strike(write, 1e-5 + step * 2e-6)
    assert "done" in seen
    assert journal.durable_position == 200
    journal.close()
    assert sorted(frames_of(tmp_path / "j")) == list(range(200))

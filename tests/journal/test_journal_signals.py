"""JournalWriter and handlers of signals: their exceptions at any point, and handlers that use the journal."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatstream import StreamReader
from flatstream.errors import FlatStreamError
from flatstream.journal import JournalWriter, RotationPolicy, SyncPolicy, _segments
from support.interrupts import Interrupted, Interruption
from support.journals import failing_disk, frames_of, segments_of

FILES = ("journal/_segments.py", "journal/writer.py", "flatstream/_lock.py")


class Synced:
    """What was synced: the sizes of files, and names in folders."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.names: set[str] = set()

    def sync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self.names.update(os.listdir(descriptor))
        else:
            self.sizes[status.st_ino] = status.st_size

    def has(self, directory: Path, position: int) -> bool:
        """Whether the disk has all frames with smaller numbers."""
        number = 0
        for first, path in segments_of(directory).items():
            if first >= position:
                break
            assert first == number
            status = path.stat()
            data = path.read_bytes()[: self.sizes.get(status.st_ino, 0)]
            with StreamReader(data, "xxhash64") as reader, contextlib.suppress(FlatStreamError):
                for _ in reader:
                    number += 1
            if path.name not in self.names:
                return False
        return number >= position


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Synced:
    made = Synced()
    monkeypatch.setattr(_segments, "fdatasync", made.sync)
    return made


def write(payload: bytes) -> Callable[[JournalWriter], bytes]:
    def do(journal: JournalWriter) -> bytes:
        journal.write_payload(payload)
        return payload

    return do


STEPS: list[Callable[[JournalWriter], bytes | None]] = [
    write(b"0" * 40),
    write(b"1"),
    JournalWriter.rotate,
    write(b"2"),
    JournalWriter.sync,
    write(b"3" * 10_000),
    write(b"4" * 40),
    write(b"5" * 40),
    lambda journal: journal.wait_durable(),
    write(b"6"),
    JournalWriter.rotate,
    write(b"7"),
]

POLICIES: dict[str, dict[str, Any]] = {
    "each": {"sync": "each", "rotate": RotationPolicy(max_frames=3)},
    "every 2 frames": {"sync": SyncPolicy(frames=2), "rotate": RotationPolicy(max_bytes=120)},
    "not buffered": {"buffer_size": 0, "rotate": RotationPolicy(max_bytes=120)},
}


# A signal between the opening of a file and the statement that stores it leaves the file to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("policy", POLICIES)
def test_an_exception_of_a_handler_at_any_point_loses_and_doubles_nothing(
    tmp_path: Path, synced: Synced, policy: str
) -> None:
    at = 0
    place: str | None = ""
    while place is not None:
        at += 1
        directory = tmp_path / str(at)
        journal = JournalWriter(directory, **POLICIES[policy])
        interruption = Interruption(at, FILES)
        accepted = []
        for step in STEPS:
            before = journal.position
            payload = None
            try:
                with interruption.armed():
                    payload = step(journal)
            except Interrupted:
                # The payload of a write that was interrupted was accepted or not; `position` says which.
                if journal.position > before:
                    payload = next(one for one in map(payload_of, STEPS[STEPS.index(step) :]) if one is not None)
            if payload is not None:
                accepted.append(payload)
            assert journal.position == len(accepted), interruption.place
            assert synced.has(directory, journal.durable_position), interruption.place
        place = interruption.place
        with contextlib.suppress(Interrupted), interruption.armed():
            journal.close()
        place = interruption.place
        journal.close()
        assert journal.durable_position == len(accepted), place
        assert synced.has(directory, len(accepted)), place
        assert frames_of(directory) == dict(enumerate(accepted)), place
        with JournalWriter(directory) as again:
            assert again.position == len(accepted), place
    assert at > 100


def payload_of(step: Callable[[JournalWriter], bytes | None]) -> bytes | None:
    closure = getattr(step, "__closure__", None)
    return closure[0].cell_contents if closure else None


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_exception_of_a_handler_while_frames_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_segments, "DROP_PAUSE", 0.0)
    at = 0
    place: str | None = ""
    while place is not None:
        at += 1
        directory = tmp_path / str(at)
        journal = JournalWriter(directory, when_full="drop_newest", rotate=RotationPolicy(max_frames=4))
        interruption = Interruption(at, FILES[:1])
        payloads = [b"%d" % number * 20 for number in range(10)]
        with failing_disk(monkeypatch) as disk:
            for number, payload in enumerate(payloads):
                journal.write_payload(payload)
                # The disk takes a part of a frame, then nothing, and then all again.
                disk.room = {3: 10, 4: 0, 5: 0, 7: 15}.get(number)
                for _ in range(2):
                    with contextlib.suppress(Interrupted), interruption.armed():
                        journal.flush()
                        break
        place = interruption.place
        journal.close()
        frames = frames_of(directory)
        assert frames == {number: payloads[number] for number in frames}, place
        dropped = {number for begin, end in journal._segments.dropped_ranges for number in range(begin, end)}
        assert sorted(frames) == sorted(set(range(10)) - dropped), place
        assert journal.metrics().dropped_frames == len(dropped), place
        assert 0 < len(dropped) < 6
    assert at > 50

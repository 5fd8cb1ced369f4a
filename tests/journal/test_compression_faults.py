"""Compressing segments with a writer that ends, and a disk that fails, at every step."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flatstream._sealing
import flatstream.journal._compression as compression
from flatstream.journal import JournalReader, JournalWriter
from support.compressed import compressor_of, files_of, finish
from support.extent import spread
from support.journal_folders import make_journal, payload
from support.journal_segments import numbered

EXPECTED = [(number, payload(number)) for number in range(130)]
FUNCTIONS = [(os, "replace"), (os, "unlink"), (os, "utime"), (os, "chmod"), (os, "open"), (os, "fsync")]


class Watched:
    """Calls of the system that are counted, and of which one can fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.before_call: Callable[[], object] = lambda: None
        self.failing = -1
        for module, name in FUNCTIONS:
            monkeypatch.setattr(module, name, self._wrapped(name, getattr(module, name)))

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            self.before_call()
            if len(self.calls) - 1 == self.failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return function(*args, **kwargs)

        return call


def check_journal(folder: Path) -> None:
    """The journal has all frames, for readers as it is, and for the next writer, who leaves each segment once."""
    with JournalReader(folder) as reader:
        assert numbered(reader) == EXPECTED
        assert reader.gaps == []
    with JournalWriter(folder, describe=False) as writer:
        assert writer.position == len(EXPECTED)
        assert all(report.action in ("sealed", "nothing") for report in writer.recovery)
        names = files_of(folder)
        assert len({name.split(".")[0] for name in names}) == len(names) == 3, names
        assert not any(name.endswith(".partial") for name in names)
    with JournalReader(folder) as reader:
        assert numbered(reader) == EXPECTED


def test_every_state_of_the_folder_is_a_whole_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "journal"
    make_journal(folder, [60, 50, 20], sealed=2)
    states: dict[tuple[tuple[str, int], ...], Path] = {}

    def keep() -> None:
        # What another process would find after a kill.
        state = tuple((path.name, path.stat().st_size) for path in sorted(folder.iterdir()))
        if state not in states:
            states[state] = tmp_path / f"state-{len(states)}"
            shutil.copytree(folder, states[state])

    with monkeypatch.context() as patched:
        watched = Watched(patched)
        watched.before_call = keep
        finish(compressor_of(folder), keep)
    keep()
    # Partial files, both files, the new one alone; for two segments.
    assert len(states) >= 9
    assert any(f"{0:020}.fs" in dict(state) and f"{0:020}.fs.zst" in dict(state) for state in states)
    for copy in states.values():
        check_journal(copy)


def test_every_call_that_fails_leaves_a_whole_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made"
    make_journal(made, [60, 50, 20], sealed=2)
    with monkeypatch.context() as patched:
        counting = Watched(patched)
        shutil.copytree(made, tmp_path / "counted")
        compressor = compressor_of(tmp_path / "counted")
        counting.calls.clear()
        finish(compressor)
        count = len(counting.calls)
    assert count > 20
    for failing in spread(range(count), 12):
        folder = tmp_path / str(failing)
        shutil.copytree(made, folder)
        compressor = compressor_of(folder)
        with monkeypatch.context() as patched:
            watched = Watched(patched)
            watched.failing = failing
            for _ in range(100):
                compressor.work()
        name = watched.calls[failing]
        # It is told, but for what may fail: the mode of the new file.
        assert name == "chmod" or compressor.problem is not None, (failing, watched.calls)
        check_journal(folder)
        if compressor.problem is not None:
            assert "Input/output error" in compressor.problem
            assert (compressor.seconds_until_work() or 0) > 1
            # It is tried again, and then it is done.
            again = compressor_of(folder)
            finish(again)
            assert sum(one.endswith(".zst") for one in files_of(folder)) >= 2


def test_full_disk_leaves_the_segment_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "journal"
    make_journal(folder, [60, 50, 20], sealed=2)

    def no_room(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    compressor = compressor_of(folder)
    with monkeypatch.context() as patched:
        patched.setattr(flatstream._sealing, "make_table", no_room)
        compressor.work()
    assert compressor.problem is not None
    assert "No space left on device" in compressor.problem
    assert files_of(folder) == [f"{first:020}.fs" for first in (0, 60, 110)]
    check_journal(folder)


def test_copy_that_is_not_what_was_written_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "journal"
    make_journal(folder, [60, 50, 20], sealed=2)
    compressor = compressor_of(folder)
    written = flatstream._sealing.BlockWriter._compress

    def damaging(self: Any, block: bytes) -> bytes:
        return written(self, block[:-1] + b"?")

    with monkeypatch.context() as patched:
        patched.setattr(flatstream._sealing.BlockWriter, "_compress", damaging)
        for _ in range(10):
            compressor.work()
    assert compressor.problem is not None
    assert "the sealed copy is not what was written, behind 0 bytes" in compressor.problem
    assert files_of(folder) == [f"{first:020}.fs" for first in (0, 60, 110)]


def test_segment_that_retention_removes_meanwhile_is_passed_over_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_journal(tmp_path / "journal", [60, 50, 20], sealed=2)
    told: list[str] = []
    compressor = compressor_of(tmp_path / "journal")
    compressor._tell = lambda level, text, *arguments: told.append(text % arguments)
    opened = io.FileIO

    def removing(path: Any, *arguments: Any, **keywords: Any) -> Any:
        file = opened(path, *arguments, **keywords)
        # Between the opening and what is looked up of it.
        if str(path).endswith(f"{0:020}.fs"):
            compressor._manifest.sealed.pop(os.path.basename(path), None)
            os.unlink(path)
        return file

    monkeypatch.setattr(io, "FileIO", removing)
    finish(compressor)
    assert files_of(tmp_path / "journal") == [f"{60:020}.fs.zst", f"{110:020}.fs"]
    assert [text for text in told if "not as it was sealed" in text] == []
    assert compressor.problem is None


def test_writer_that_is_closed_leaves_off(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    make_journal(folder, [60, 50, 20], sealed=2)
    for steps in range(1, 5):
        compressor = compressor_of(folder)
        for _ in range(steps):
            compressor._step()
        if compressor._work is None:
            break
        compressor.stop()
        assert files_of(folder) == [f"{first:020}.fs" for first in (0, 60, 110)]
    else:
        pytest.fail("the segment is never compressed")
    assert compression.TURN < 0.1

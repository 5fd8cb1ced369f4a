"""Exports to Parquet that are killed: after the next run, each row is in one file, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import flatstream
from support import export_kills
from support.lakes import files_of, leftovers_of, numbers_of, write_readings

pytest.importorskip("pyarrow")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

COUNT = 80


def sweep(folder: Path, begin: int, stride: int) -> int:
    source = write_readings(folder / "a.fs", range(COUNT))
    done = subprocess.run(
        [sys.executable, export_kills.__file__, *map(str, (source, folder, begin, stride, COUNT))],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout)


def test_export_killed_at_some_of_its_steps_has_each_row_once(tmp_path: Path) -> None:
    assert sweep(tmp_path, 3, 17) >= 6


@pytest.mark.long
def test_export_killed_at_each_of_its_steps_has_each_row_once(tmp_path: Path) -> None:
    assert sweep(tmp_path, 1, 1) >= 120


RUN = """
import sys, flatstream
from flatstream.datasets import _export_run
_export_run.STEP_BYTES = 200_000
while True:
    flatstream.dataset(sys.argv[1]).to_parquet(sys.argv[2], partition_by='day')
"""


@pytest.mark.long
def test_export_of_a_growing_file_killed_at_random_has_each_row_once(tmp_path: Path) -> None:
    source, lake = write_readings(tmp_path / "a.fs", []), tmp_path / "lake"
    chance = random.Random(5)
    written = 0
    for _ in range(25):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(source), str(lake)])
        end = time.monotonic() + 0.8 + chance.random()
        while time.monotonic() < end:
            write_readings(source, range(written, written + 50), "a")
            written += 50
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    flatstream.dataset(source).to_parquet(lake, partition_by="day")
    assert numbers_of(lake) == list(range(written))
    assert leftovers_of(lake) == []


def test_each_step_is_on_the_disk_before_the_next_one_counts_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut takes what was not synced: so files and source are synced before the state that counts on them."""
    source, lake = write_readings(tmp_path / "a.fs", range(COUNT)), tmp_path / "lake"
    done: list[tuple[str, str]] = []

    def note(name: str, path: str) -> None:
        done.append((name, os.path.relpath(path, tmp_path)))

    def fsync(fd: int, whole: Any = os.fsync) -> None:
        whole(fd)
        note("sync", os.readlink(f"/proc/self/fd/{fd}"))

    def link(path: str, name: str, whole: Any = os.link) -> None:
        whole(path, name)
        note("link", name)

    def replace(path: str, name: str, whole: Any = os.replace) -> None:
        whole(path, name)
        note("replace", name)

    for function in (fsync, link, replace):
        monkeypatch.setattr(os, function.__name__, function)
    report = flatstream.dataset(source).to_parquet(lake)
    export = "lake/_flatstream/export"
    files = [f"lake/{file}" for file in report.files]
    news = [f"{export}/new/{Path(file).name}.partial" for file in report.files]
    assert len(files) == 2
    state = ("replace", f"{export}/state.json")
    committed, cleared = (number for number, step in enumerate(done) if step == state)
    for step in [("sync", "a.fs"), ("sync", f"{export}/new"), ("sync", f"{export}/state.json.new")]:
        assert step in done[:committed], step
    for new in news:
        assert ("sync", new) in done[:committed]
        assert done.index(("sync", new)) < done.index(("sync", f"{export}/new"), done.index(("sync", new)))
    assert done[committed + 1] == ("sync", export)
    for file in files:
        linked = done.index(("link", file))
        assert committed + 1 < linked < cleared
        assert ("sync", str(Path(file).parent)) in done[linked:cleared]
        # The folders were made before that.
        for folder in (Path(file).parent.parent, "lake", "."):
            assert ("sync", str(folder)) in done[:linked], folder


def test_a_run_that_fails_leaves_nothing_and_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flatstream.datasets import _export_files

    source, lake = write_readings(tmp_path / "a.fs", range(COUNT)), tmp_path / "lake"
    whole = _export_files._repeated
    for kind in (OSError, KeyboardInterrupt, MemoryError):

        def fail(group: object, kind: type[BaseException] = kind) -> list[str]:
            raise kind("no more")

        monkeypatch.setattr(_export_files, "_repeated", fail)
        with pytest.raises(kind):
            flatstream.dataset(source).to_parquet(lake)
        assert files_of(lake) == []
        assert leftovers_of(lake) == []
    monkeypatch.setattr(_export_files, "_repeated", whole)
    assert flatstream.dataset(source).to_parquet(lake).rows == COUNT
    assert numbers_of(lake) == list(range(COUNT))


def test_a_state_that_may_be_stored_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error behind the replacement of the state file: on the disk is the new state, whose files are needed."""
    from flatstream import _files
    from flatstream.datasets import _export_state

    source, lake = write_readings(tmp_path / "a.fs", range(COUNT)), tmp_path / "lake"
    whole = _files.sync_folder

    def fail(path: str) -> None:
        if path.endswith("state.json"):
            raise OSError("the disk is broken")
        whole(path)

    monkeypatch.setattr(_export_state, "sync_folder", fail)
    with pytest.raises(OSError, match="broken"):
        flatstream.dataset(source).to_parquet(lake)
    assert files_of(lake) == []
    monkeypatch.setattr(_export_state, "sync_folder", whole)
    report = flatstream.dataset(source).to_parquet(lake)
    assert (report.rows, report.finished) == (0, 2)
    assert numbers_of(lake) == list(range(COUNT))
    assert leftovers_of(lake) == []


def test_a_name_that_another_file_has_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flatstream.datasets import _export_state

    source, lake = write_readings(tmp_path / "a.fs", range(3)), tmp_path / "lake"
    whole = _export_state._give_one
    foreign: list[Path] = []

    def get_in_the_way(new: str, path: str) -> int:
        Path(path).write_bytes(b"another's")
        foreign.append(Path(path))
        return whole(new, path)

    monkeypatch.setattr(_export_state, "_give_one", get_in_the_way)
    with pytest.raises(FileExistsError, match="another file has the name"):
        flatstream.dataset(source).to_parquet(lake)
    monkeypatch.setattr(_export_state, "_give_one", whole)
    with pytest.raises(FileExistsError, match="another file has the name"):
        flatstream.dataset(source).to_parquet(lake)
    assert foreign[0].read_bytes() == b"another's"
    foreign[0].unlink()
    assert flatstream.dataset(source).to_parquet(lake).finished == 1
    assert numbers_of(lake) == [0, 1, 2]


def test_file_systems_without_locks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from flatstream import _lock

    def no_lock(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    source, lake = write_readings(tmp_path / "a.fs", range(3)), tmp_path / "lake"
    monkeypatch.setattr(_lock, "_try_lock", no_lock)
    with pytest.raises(OSError, match=r"has no locks .* by which a run sees that another one runs") as caught:
        flatstream.dataset(source).to_parquet(lake)
    assert caught.value.errno == errno.ENOLCK
    assert files_of(lake) == []


def test_file_systems_without_links_work_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_link)
    source, lake = write_readings(tmp_path / "a.fs", range(3)), tmp_path / "lake"
    flatstream.dataset(source).to_parquet(lake)
    assert numbers_of(lake) == [0, 1, 2]
    assert leftovers_of(lake) == []

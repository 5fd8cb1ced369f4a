"""Recovery of a file that somebody writes: a path is reported with who writes it, a writable file object is locked."""

# ruff: noqa: SIM115 - the tests close what these functions open

from __future__ import annotations

import errno
import gzip
import io
import os
import pickle
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import RecoveryEnd, _lock, recover_file
from support.faults import device_error
from support.processes import forked
from support.streams import encode

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lock, "PATIENCE", 0.03)


WRITABLE: dict[str, Any] = {
    "raw": lambda path: io.FileIO(path, "r+b"),
    "buffered": lambda path: open(path, "r+b"),
    "unbuffered": lambda path: open(path, "r+b", buffering=0),
    "appending": lambda path: open(path, "a+b"),
    "descriptor": lambda path: open(os.open(path, os.O_RDWR), "r+b"),
}
READ_ONLY: dict[str, Any] = {
    "raw": lambda path: io.FileIO(path, "rb"),
    "buffered": lambda path: open(path, "rb"),
    "memory": lambda path: io.BytesIO(path.read_bytes()),
}


def refused(path: Path) -> bool:
    """Whether a writer of another process is refused."""

    def attempt() -> Any:
        try:
            flatstream.open(path, "a", recover=True).close()
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    return bool(forked(attempt))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "stream"
    path.write_bytes(encode(b"one", b"two")[:-1])
    return path


@pytest.mark.parametrize("kind", WRITABLE)
def test_writable_file_object_is_locked_until_it_is_closed(kind, path):
    with WRITABLE[kind](path) as file:
        for _ in range(2):
            assert recover_file(file) == (1, 7, RecoveryEnd.TORN_TAIL)
            assert refused(path)
        file.truncate()
        assert refused(path)
        assert recover_file(file).end is RecoveryEnd.CLEAN_EOF
    assert not refused(path)
    assert path.read_bytes() == encode(b"one")


@pytest.mark.parametrize("kind", READ_ONLY)
def test_read_only_file_object_is_not_locked(kind, path):
    with READ_ONLY[kind](path) as file:
        assert recover_file(file) == (1, 7, RecoveryEnd.TORN_TAIL)
        flatstream.open(path, "w").close()


@pytest.mark.parametrize("kind", WRITABLE)
def test_writable_file_object_of_a_file_that_is_written_is_refused(kind, path):
    path.write_bytes(b"")
    with flatstream.open(path, "a") as writer:
        writer.write_payload(b"one")
        writer.flush()
        with WRITABLE[kind](path) as file:
            with pytest.raises(
                OSError, match=f"another writer has the file open: this process, {os.getpid()}"
            ) as caught:
                recover_file(file)
            assert caught.value.errno == errno.EBUSY
        with READ_ONLY["raw"](path) as file:
            assert recover_file(file).frames == 1
    with WRITABLE[kind](path) as file:
        assert recover_file(file).frames == 1


def test_second_writable_file_object_is_refused(path):
    with open(path, "r+b") as first, open(path, "r+b") as second:
        recover_file(first)
        with pytest.raises(OSError, match="another writer has the file open"):
            recover_file(second)


def test_report_of_a_path_says_who_writes_it(path):
    assert recover_file(path).being_written is None
    assert repr(recover_file(path)) == (
        "RecoveryReport(frames=1, last_good_offset=7, end=<RecoveryEnd.TORN_TAIL: 'torn_tail'>)"
    )
    with flatstream.open(path, "a", recover=True):
        ours = recover_file(str(path))
        assert ours.being_written == f"this process, {os.getpid()}"
        assert repr(ours).endswith(f", being_written='this process, {os.getpid()}')")
        assert ours == (1, 7, RecoveryEnd.CLEAN_EOF)
        assert pickle.loads(pickle.dumps(ours)).being_written == ours.being_written
        theirs = forked(lambda: recover_file(path).being_written)
        assert re.fullmatch(rf"process {os.getpid()} \(.+\)", theirs)
    assert recover_file(path).being_written is None


@pytest.mark.parametrize("when", ["before", "after"])
def test_writer_that_has_the_file_open_for_a_part_of_the_time_is_told(when, path, monkeypatch):
    answers = ["process 1 (agent)", None] if when == "before" else [None, "process 1 (agent)"]
    monkeypatch.setattr(flatstream.recovery, "who_writes", lambda name: answers.pop(0))
    assert recover_file(path).being_written == "process 1 (agent)"


def test_report_of_a_path_takes_no_lock(path):
    recover_file(path)
    flatstream.open(path, "w").close()


def test_file_system_without_locks_is_recovered_without(path, monkeypatch):
    def flock(descriptor: int, operation: int) -> None:
        raise device_error(errno.ENOLCK)

    monkeypatch.setattr("fcntl.flock", flock)
    assert recover_file(path) == (1, 7, RecoveryEnd.TORN_TAIL)
    with open(path, "r+b") as file:
        assert recover_file(file) == (1, 7, RecoveryEnd.TORN_TAIL)


def test_temporary_file_is_locked_too():
    with tempfile.NamedTemporaryFile() as file:
        file.write(encode(b"one"))
        file.flush()
        assert recover_file(file).frames == 1
        assert refused(Path(file.name))


def test_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        recover_file(tmp_path / "missing")


def test_compressed_file_object_is_read_as_ever(tmp_path):
    path = tmp_path / "stream.gz"
    with gzip.open(path, "wb") as file:
        file.write(encode(b"one"))
    with gzip.open(path, "rb") as file:
        assert recover_file(file).frames == 1

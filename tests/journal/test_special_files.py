"""Pipes and sockets at the paths of a journal's files: whoever can write in the folder cannot keep others waiting."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from flatstream.journal import CompressionPolicy, JournalReader, JournalWriter, RotationPolicy
from flatstream.journal._layout import LOCK, MANIFEST, UNFINISHED
from support.alarms import Alarm
from support.gated import wait_until
from support.journals import frames_of

FIRST = "0" * 20 + ".fs"
KINDS = ("pipe", "socket")


def put(kind: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
        return
    # Because a path of a socket must be short.
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def refused(function: Callable[[], object]) -> None:
    """`function` raises OSError, and does not wait."""

    def call() -> None:
        with pytest.raises(OSError, match=r"expected a regular file, got a (pipe|socket)"):
            function()

    with Alarm() as alarm:
        assert not alarm.strike(call, 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "journal"
    with JournalWriter(folder, rotate=RotationPolicy(max_frames=2)) as writer:
        for number in range(5):
            writer.write_payload(b"%d" % number)
    with JournalReader(folder, name="reader") as reader:
        next(reader)
        reader.commit()
    return folder


def segment_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("0*.fs"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [LOCK, MANIFEST, f"{MANIFEST}.new", "last"])
def test_a_writer_refuses_what_is_no_regular_file(folder: Path, name: str, kind: str) -> None:
    path = folder / (segment_names(folder)[-1] if name == "last" else name)
    put(kind, path)
    refused(lambda: JournalWriter(folder).close())
    path.unlink()
    if name != "last":
        with JournalWriter(folder) as writer:
            assert writer.position == 5
        assert len(frames_of(folder)) == 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [MANIFEST, "first"])
def test_a_reader_refuses_what_is_no_regular_file(folder: Path, name: str, kind: str) -> None:
    path = folder / (segment_names(folder)[0] if name == "first" else name)
    put(kind, path)

    def read() -> None:
        with JournalReader(folder) as reader:
            list(reader)

    refused(read)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cursor_that_is_a_pipe_keeps_nobody_waiting(folder: Path, kind: str) -> None:
    put(kind, cursor_of(folder))
    refused(lambda: JournalReader(folder, name="reader"))
    with Alarm() as alarm:
        assert not alarm.strike(lambda: JournalWriter(folder).close(), 5)


def cursor_of(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("reader*") if path.is_file())
    return path


def test_a_pipe_at_the_path_of_an_unfinished_compression_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    with JournalWriter(
        tmp_path / "journal", compress=CompressionPolicy(), rotate=RotationPolicy(max_frames=1)
    ) as writer:
        first = tmp_path / "journal" / segment_names(tmp_path / "journal")[0]
        put("pipe", Path(f"{first}.zst{UNFINISHED}"))
        writer.write_payload(b"a")
        writer.write_payload(b"b")
        writer.flush()
        wait_until(lambda: not first.exists())
    with JournalReader(tmp_path / "journal") as reader:
        assert [bytes(payload) for payload in reader] == [b"a", b"b"]

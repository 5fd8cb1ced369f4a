"""sync(): what was accepted is on the disk when it returns, and a failure is final."""

from __future__ import annotations

import errno
import gzip
import io
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatstream import FlatStreamError, StreamWriter
from reference import framing as reference
from support.faults import device_error
from support.sinks import PlainSink
from support.threads import PATIENCE

SYNC = "fdatasync" if hasattr(os, "fdatasync") else "fsync"


class Syncs:
    """Takes the place of os.fdatasync: notes the file and its size at each call, and does what `acts` says."""

    def __init__(self) -> None:
        self.files: list[tuple[int, int]] = []
        self.act: Callable[[], object] = lambda: None

    def __call__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.files.append((status.st_ino, status.st_size))
        self.act()

    def fail(self, error: BaseException) -> None:
        def act() -> None:
            raise error

        self.act = act


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    replacement = Syncs()
    monkeypatch.setattr(os, SYNC, replacement)
    return replacement


FILES: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "raw": lambda path: io.FileIO(path, "wb"),
    "buffered": lambda path: io.BufferedWriter(io.FileIO(path, "wb")),
    "gzip": lambda path: gzip.GzipFile(path, "wb"),
}


@pytest.mark.parametrize("kind", FILES)
def test_sync_flushes_and_then_syncs_the_file(kind: str, syncs: Syncs, tmp_path: Path) -> None:
    path = tmp_path / "stream"
    writer = StreamWriter(FILES[kind](path), "crc32")
    writer.write_payload(b"first")
    sink = writer.sink
    writer.sync()
    assert writer.pending_bytes == 0
    expected = reference.encode([b"first"], "crc32")
    size = path.stat().st_size
    assert syncs.files == [(path.stat().st_ino, size)]
    if kind == "gzip":
        assert size > 0
    else:
        assert path.read_bytes() == expected
    writer.write_payload(b"second")
    writer.sync()
    assert syncs.files[1][1] > size
    writer.close()
    sink.close()


def test_real_sync_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    with StreamWriter(tmp_path / "stream") as writer:
        writer.write_payload(b"first")
        writer.sync()
        before = os.dup(writer.sink.fileno())
        os.close(before)
        for _ in range(20):
            writer.sync()
        after = os.dup(writer.sink.fileno())
        os.close(after)
        assert after == before


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_failed_sync_is_final(number: int, syncs: Syncs, tmp_path: Path) -> None:
    writer = StreamWriter(tmp_path / "stream")
    file = writer.sink
    writer.write_payload(b"first")
    error = device_error(number)
    syncs.fail(error)
    with pytest.raises(OSError) as caught:
        writer.sync()
    assert caught.value is error
    # From now on the system would report success.
    syncs.act = lambda: None
    assert writer.is_refusing
    uses: list[Callable[[], object]] = [
        writer.sync,
        writer.flush,
        lambda: writer.write_payload(b"small"),
        lambda: writer.write_payloads([b"small"]),
        lambda: writer.write_payload(b"large" * 50_000),
        lambda: writer.write("text"),
        writer.detach,
        writer.close,
    ]
    for use in uses:
        with pytest.raises(FlatStreamError, match="an earlier sync failed") as refused:
            use()
        assert refused.value.__cause__ is error
    assert len(syncs.files) == 1
    assert writer.closed
    assert file.closed
    writer.close()


def test_sync_interrupted_by_a_handler_can_be_tried_again(syncs: Syncs, tmp_path: Path) -> None:
    writer = StreamWriter(tmp_path / "stream")
    syncs.fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        writer.sync()
    syncs.act = lambda: None
    writer.write_payload(b"first")
    writer.sync()
    writer.close()
    assert len(syncs.files) == 2


def test_error_of_the_flush_is_not_final(syncs: Syncs) -> None:
    reading, writing = os.pipe()
    with io.FileIO(reading, "rb"), io.FileIO(writing, "wb") as sink:
        writer = StreamWriter(sink)
        with pytest.raises(io.UnsupportedOperation, match="no regular file"):
            writer.sync()
        writer.write_payload(b"first")
        assert not writer.is_refusing
        writer.close()


def sockets() -> socket.socket:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours


@pytest.mark.parametrize("make", [io.BytesIO, PlainSink, sockets], ids=["bytesio", "object", "socket"])
def test_sink_without_a_file_says_so_and_nothing_is_handed_over(make: Callable[[], Any]) -> None:
    sink = make()
    writer = StreamWriter(sink)
    writer.write_payload(b"first")
    with pytest.raises(io.UnsupportedOperation, match="sink"):
        writer.sync()
    assert writer.pending_bytes == 9
    assert not writer.is_refusing
    if isinstance(sink, socket.socket):
        with pytest.raises(OSError):
            writer.close()
        sink.close()
    else:
        writer.close()


def test_closed_writer_refuses_to_sync(tmp_path: Path) -> None:
    writer = StreamWriter(tmp_path / "stream")
    writer.close()
    with pytest.raises(ValueError, match="this StreamWriter is closed"):
        writer.sync()


def test_others_write_flush_and_close_while_one_thread_syncs(syncs: Syncs, tmp_path: Path) -> None:
    path = tmp_path / "stream"
    syncing, go_on = threading.Event(), threading.Event()

    def act() -> None:
        syncing.set()
        assert go_on.wait(PATIENCE)

    syncs.act = act
    writer = StreamWriter(path, buffer_size=64)
    errors: list[BaseException] = []

    def sync() -> None:
        try:
            writer.sync()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    assert syncing.wait(PATIENCE)
    payloads = [b"%d" % number for number in range(100)]
    writer.write_payloads(payloads)
    writer.flush()
    assert path.read_bytes() == reference.encode(payloads, "none")
    writer.close()
    # The number of the closed descriptor now belongs to another file, which must not be touched.
    with open(tmp_path / "other", "wb"):
        go_on.set()
        thread.join(PATIENCE)
    assert errors == []


def test_second_sync_never_succeeds_after_a_first_one_that_failed(syncs: Syncs, tmp_path: Path) -> None:
    # The system reports an error once. Were two syncs in progress, the second would return as if all was well.
    writer = StreamWriter(tmp_path / "stream")
    syncing, go_on = threading.Event(), threading.Event()

    def act() -> None:
        if len(syncs.files) == 1:
            syncing.set()
            assert go_on.wait(PATIENCE)
            raise device_error(errno.EIO)

    syncs.act = act
    outcomes: list[str] = []

    def sync() -> None:
        try:
            writer.sync()
            outcomes.append("returned")
        except OSError:
            outcomes.append("OSError")
        except FlatStreamError:
            outcomes.append("FlatStreamError")

    threads = [threading.Thread(target=sync) for _ in range(2)]
    threads[0].start()
    assert syncing.wait(PATIENCE)
    threads[1].start()
    threads[1].join(0.1)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert outcomes == ["OSError", "FlatStreamError"]
    with pytest.raises(FlatStreamError):
        writer.close()

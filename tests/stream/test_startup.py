"""`flatstream.open` with ``recover=True``: what it does to a file that a crash left, what it keeps, and what it says.

Each test begins with the bytes of a file, made by the reference, and compares with the files that are there afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import re
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flatbuffers import Builder

import flatstream
from flatstream import (
    ChecksumFramer,
    ChecksumMismatchError,
    Crc32,
    DefaultFramer,
    FlatStreamError,
    InvalidFrameError,
    SizeValidator,
    StartupReport,
    StreamWriter,
    _startup,
)
from reference import framing as reference
from support.extent import EVERYTHING, in_one_test
from support.faults import device_error, file_size_limit
from support.modes import MODES, every_mode
from support.processes import forked
from support.python_strategies import MagicFramer

PAYLOADS = [b"first payload", b"second", b"the third payload"]
STREAM = reference.encode(PAYLOADS, "crc32")
STAMP = r"\d{8}T\d{6}\.\d{6}Z"


SYNC = os.fsync


class DeviceError(OSError):
    """What the tests raise."""


@pytest.fixture(autouse=True)
def _sync_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # It takes most of the time, and a test cannot see what it does.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def start(path: Path, checksum: Any = "crc32", **options: Any) -> StartupReport:
    """Opens the file with ``recover=True``, and closes it."""
    with flatstream.open(path, "a", checksum=checksum, recover=True, **options) as writer:
        assert writer.recovery is not None
        return writer.recovery


def beside(path: Path) -> list[Path]:
    return sorted(set(path.parent.iterdir()) - {path})


def reread(path: Path, checksum: str) -> list[bytes]:
    return reference.decode(path.read_bytes(), checksum).payloads


# Files that can be appended to


@in_one_test
@every_mode
def test_intact_file_is_left_as_it_is(mode, tmp_path):
    path = tmp_path / "events.fs"
    stream = reference.encode(PAYLOADS, mode.name)
    path.write_bytes(stream)
    for _ in range(2):
        assert start(path, mode.checksum()) == ("nothing", 3, len(stream), 0, None, None, None)
        assert path.read_bytes() == stream
    assert beside(path) == []


def test_missing_file_is_created_and_an_empty_one_is_used(tmp_path):
    path = tmp_path / "events.fs"
    assert start(path) == ("created", 0, 0, 0, None, None, None)
    assert path.read_bytes() == b""
    assert start(path) == ("nothing", 0, 0, 0, None, None, None)
    assert beside(path) == []


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        start(tmp_path / "missing" / "events.fs")
    assert list(tmp_path.iterdir()) == []


def test_writer_without_recover_has_no_report(tmp_path):
    with flatstream.open(tmp_path / "stream", "a") as writer:
        assert writer.recovery is None
    assert StreamWriter.recovery is None


def test_device_is_opened_as_ever():
    assert start(Path(os.devnull)) == ("nothing", 0, 0, 0, None, None, None)


# Torn tails


@in_one_test
@every_mode
def test_torn_tail_is_saved_and_cut_off_at_every_cut(mode, tmp_path):
    stream = reference.encode(PAYLOADS, mode.name)
    ends = [0]
    for payload in PAYLOADS:
        ends.append(ends[-1] + 4 + mode.size + len(payload))
    for size in range(ends[1], len(stream)):
        path = tmp_path / str(size) / "events.fs"
        path.parent.mkdir()
        path.write_bytes(stream[:size])
        frames = 1 if size < ends[2] else 2
        good = ends[frames]
        with flatstream.open(path, "a", checksum=mode.checksum(), recover=True) as writer:
            report = writer.recovery
            assert path.read_bytes() == stream[:good]
            writer.write_payload(b"next")
        assert path.read_bytes() == stream[:good] + reference.encode([b"next"], mode.name)
        assert report is not None
        if size == good:
            assert report == ("nothing", frames, good, 0, None, None, None)
            continue
        (saved,) = beside(path)
        assert report == ("cut", frames, good, size - good, str(saved), None, None)
        assert re.fullmatch(rf"events\.fs\.torn-{STAMP}-{good}", saved.name)
        assert path.read_bytes()[:good] + saved.read_bytes() == stream[:size]
        # And again: there is nothing left to do.
        assert start(path, mode.checksum()).action == "nothing"
        assert beside(path) == [saved]


@in_one_test
@every_mode
def test_torn_first_frame_is_moved_aside(mode, tmp_path):
    # Of a file that has not one whole frame, it cannot be known that it is a stream.
    stream = reference.encode([b"first payload"], mode.name)
    for size in range(1, len(stream)):
        path = tmp_path / str(size) / "events.fs"
        path.parent.mkdir()
        path.write_bytes(stream[:size])
        report = start(path, mode.checksum())
        assert path.read_bytes() == b""
        if report.action == "cut":
            # Nothing but zeros: of a frame with an empty checksum, for example.
            assert not any(stream[:size])
            assert report == ("cut", 0, 0, size, None, None, None)
            continue
        (moved,) = beside(path)
        assert (report.action, report.frames, report.offset, report.saved_as) == ("moved", 0, 0, str(moved))
        assert moved.read_bytes() == stream[:size]


@in_one_test
@every_mode
@pytest.mark.parametrize("allow_empty", [None, False])
@pytest.mark.parametrize("zeros", [1, 3, 11, 512, 4096])
def test_zeros_behind_whole_frames_are_cut_off_and_only_counted(mode, zeros, allow_empty, tmp_path):
    path = tmp_path / "events.fs"
    stream = reference.encode(PAYLOADS, mode.name)
    path.write_bytes(stream + bytes(zeros))
    report = start(path, mode.checksum(), allow_empty=allow_empty)
    assert report == ("cut", 3, len(stream), zeros, None, None, None)
    assert path.read_bytes() == stream
    assert beside(path) == []


def test_zeros_that_are_declared_to_be_frames_are_frames(tmp_path):
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM + bytes(16))
    assert start(path, allow_empty=True) == ("nothing", 5, len(STREAM) + 16, 0, None, None, None)


@in_one_test
@every_mode
def test_zeros_behind_a_torn_frame_are_saved_with_it(mode, tmp_path):
    path = tmp_path / "events.fs"
    stream = reference.encode(PAYLOADS, mode.name)
    good = len(stream) - len(PAYLOADS[2]) - 4 - mode.size
    torn = stream[: good + 4 + mode.size + 5] + bytes(3)
    path.write_bytes(torn)
    report = start(path, mode.checksum())
    (saved,) = beside(path)
    assert report == ("cut", 2, good, len(torn) - good, str(saved), None, None)
    assert path.read_bytes() + saved.read_bytes() == torn


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_file_of_zeros_is_emptied_and_only_counted(size, tmp_path):
    path = tmp_path / "events.fs"
    path.write_bytes(bytes(size))
    assert start(path, "xxhash64") == ("cut", 0, 0, size, None, None, None)
    assert path.read_bytes() == b""
    assert beside(path) == []


def test_tail_of_many_chunks_is_saved_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(_startup, "CHUNK", 1000)
    path = tmp_path / "events.fs"
    tail = reference.encode([os.urandom(10_500)], "crc32")[:-1]
    path.write_bytes(STREAM + tail)
    report = start(path)
    assert Path(str(report.saved_as)).read_bytes() == tail


# Damaged and foreign files


def damaged(stream: bytes, where: int) -> bytes:
    return stream[:where] + bytes([stream[where] ^ 0x40]) + stream[where + 1 :]


@in_one_test
@pytest.mark.parametrize("mode", [pytest.param(mode, id=name) for name, mode in MODES.items() if mode.size])
def test_damaged_file_is_moved_aside(mode, tmp_path):
    path = tmp_path / "events.fs"
    stream = damaged(reference.encode(PAYLOADS, mode.name), 4 + mode.size + len(PAYLOADS[0]) + 4 + mode.size + 2)
    path.write_bytes(stream)
    with flatstream.open(path, "a", checksum=mode.checksum(), recover=True) as writer:
        report = writer.recovery
        writer.write_payload(b"next")
    assert report is not None
    (moved,) = beside(path)
    assert re.fullmatch(rf"events\.fs\.damaged-{STAMP}", moved.name)
    assert report[:5] == ("moved", 0, 0, 0, str(moved))
    assert type(report.error) is ChecksumMismatchError
    assert report.error.frame == 1
    assert report.error.__traceback__ is None
    assert moved.read_bytes() == stream
    assert path.read_bytes() == reference.encode([b"next"], mode.name)


def test_damaged_length_is_not_taken_for_a_torn_tail(tmp_path):
    path = tmp_path / "events.fs"
    stream = damaged(STREAM, 8 + len(PAYLOADS[0]) + 2)
    path.write_bytes(stream)
    report = start(path)
    assert report.action == "moved"
    assert type(report.error) is InvalidFrameError
    assert Path(str(report.saved_as)).read_bytes() == stream


LOOKS = {"text": "text", "gzip": "gzip", "png": "PNG", "parquet": "Parquet", "zip": "zip", "one_byte": None}
FOREIGN = {
    "text": b"root:x:0:0:root:/root:/bin/sh\n" * 40,
    "gzip": gzip.compress(STREAM),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "parquet": b"PAR1" + bytes(range(255, 0, -1)) * 20 + b"PAR1",
    "zip": b"PK\x03\x04" + bytes(range(200)) * 9,
    "one_byte": b"\x07",
}


@in_one_test
@every_mode
@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_file_is_moved_aside(what, mode, tmp_path):
    path = tmp_path / "events.fs"
    path.write_bytes(FOREIGN[what])
    report = start(path, mode.checksum())
    assert (report.action, path.read_bytes()) == ("moved", b"")
    (moved,) = beside(path)
    assert report.saved_as == str(moved)
    assert moved.read_bytes() == FOREIGN[what]
    if report.error is None:
        assert report.looks_like == LOOKS[what]
    assert start(path, mode.checksum()).action == "nothing"


@in_one_test
@pytest.mark.parametrize("torn", [0, 1])
@pytest.mark.parametrize("used", ["none", "crc16", "crc32", "crc32c", "crc64", "xxhash64"])
@pytest.mark.parametrize("written", ["crc16", "crc32", "crc32c", "crc64", "xxhash64"])
def test_stream_of_another_checksum_is_the_callers_mistake(written, used, torn, tmp_path):
    if written == used:
        return
    path = tmp_path / "events.fs"
    stream = reference.encode(PAYLOADS, written)
    stream = stream[: len(stream) - torn]
    path.write_bytes(stream)
    for _ in range(2):
        with pytest.raises(InvalidFrameError, match=f"is a stream with the checksum '{written}'"):
            start(path, used)
        assert path.read_bytes() == stream
        assert beside(path) == []
    # And no lock is left.
    flatstream.open(path, "a", checksum=written, recover=True).close()


@pytest.mark.parametrize("used", ["crc16", "crc32", "crc64"])
def test_stream_of_messages_without_a_checksum_is_the_callers_mistake_too(used, tmp_path):
    messages = []
    for number in range(5):
        builder = Builder()
        builder.Finish(builder.CreateString(f"message {number}"))
        messages.append(bytes(builder.Output()))
    path = tmp_path / "events.fs"
    stream = reference.encode(messages, "none")
    path.write_bytes(stream)
    with pytest.raises(InvalidFrameError, match="is a stream with the checksum 'none'"):
        start(path, used)
    assert path.read_bytes() == stream
    assert start(path, "none").action == "nothing"


# Names


class Frozen:
    """A clock that stands."""

    @staticmethod
    def now(zone: Any) -> Any:
        return Frozen

    @staticmethod
    def strftime(form: str) -> str:
        return "20260102T030405.000006Z"


@pytest.mark.parametrize("links", [True, False])
def test_existing_files_are_not_overwritten(links, tmp_path, monkeypatch):
    monkeypatch.setattr(_startup, "datetime", Frozen)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "events.fs"
    taken = [f"events.fs.torn-20260102T030405.000006Z{number}-{len(STREAM)}" for number in ("", ".1")]
    taken += [f"events.fs.damaged-20260102T030405.000006Z{number}" for number in ("", ".1")]
    for name in taken:
        (tmp_path / name).write_bytes(b"mine")
    path.write_bytes(STREAM + b"\x05\0")
    assert start(path).saved_as == f"{path}.torn-20260102T030405.000006Z.2-{len(STREAM)}"
    path.write_bytes(FOREIGN["text"])
    assert start(path).saved_as == f"{path}.damaged-20260102T030405.000006Z.2"
    assert [(tmp_path / name).read_bytes() for name in taken] == [b"mine"] * 4
    assert len(beside(path)) == 6


def no_links(*arguments: Any, **options: Any) -> None:
    raise device_error(errno.EPERM)


def test_file_that_cannot_be_renamed_stays_and_leaves_no_other(tmp_path, monkeypatch):
    # As one that a container has mounted by itself.
    def refuse(*arguments: Any) -> None:
        raise DeviceError(errno.EBUSY, "mounted")

    path = tmp_path / "events.fs"
    path.write_bytes(FOREIGN["text"])
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DeviceError):
        start(path)
    assert path.read_bytes() == FOREIGN["text"]
    assert beside(path) == []


def test_several_crashes_leave_several_files_in_their_order(tmp_path):
    path = tmp_path / "events.fs"
    tails = [b"\x05\0", b"\x09\0\0\0abc", b"\x07"]
    names = []
    for tail in tails:
        with open(path, "ab") as file:
            file.write(reference.encode([b"x"], "crc32") + tail)
        names.append(str(start(path).saved_as))
    for kind in ("text", "gzip"):
        path.write_bytes(FOREIGN[kind])
        names.append(str(start(path).saved_as))
    assert sorted(names[:3]) == names[:3]
    assert sorted(names[3:]) == names[3:]
    assert [Path(name).read_bytes() for name in names] == [*tails, FOREIGN["text"], FOREIGN["gzip"]]


def test_file_behind_a_symbolic_link_is_handled_in_its_own_folder(tmp_path):
    (tmp_path / "real").mkdir()
    path, link = tmp_path / "real" / "events.fs", tmp_path / "link.fs"
    link.symlink_to(path)
    path.write_bytes(STREAM + b"\x05")
    saved = Path(str(start(link).saved_as))
    assert saved.parent == path.parent
    path.write_bytes(FOREIGN["text"])
    moved = Path(str(start(link).saved_as))
    assert moved.parent == path.parent
    assert moved.read_bytes() == FOREIGN["text"]
    assert link.is_symlink()
    assert link.read_bytes() == path.read_bytes() == b""
    assert sorted(path.parent.iterdir()) == sorted([path, saved, moved])


def test_files_are_as_secret_as_the_one_they_come_from(tmp_path):
    path = tmp_path / "events.fs"
    for content in (STREAM + b"\x05", FOREIGN["text"]):
        path.write_bytes(content)
        path.chmod(0o600)
        start(path)
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_other_things_with_such_names_are_not_taken_for_copies(tmp_path):
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM + b"\x05\0")
    prefix = "events.fs.torn-20200101T000000.000000Z"
    (tmp_path / "secret").write_bytes(b"\x05")
    (tmp_path / f"{prefix}.1-{len(STREAM)}").symlink_to(tmp_path / "secret")
    (tmp_path / f"{prefix}.2-{len(STREAM)}").mkdir()
    os.mkfifo(tmp_path / f"{prefix}.3-{len(STREAM)}")
    (tmp_path / f"{prefix}.4-{len(STREAM)}").write_bytes(b"\x06")
    report = start(path)
    assert not str(report.saved_as).startswith(str(tmp_path / prefix))
    assert Path(str(report.saved_as)).read_bytes() == b"\x05\0"
    assert (tmp_path / "secret").read_bytes() == b"\x05"
    assert (tmp_path / f"{prefix}.4-{len(STREAM)}").read_bytes() == b"\x06"


# Interruptions


SITUATIONS: dict[str, bytes | None] = {
    "missing": None,
    "intact": STREAM,
    "torn": STREAM + b"\x05\0\0\0abc",
    "zeros": STREAM + bytes(3),
    "damaged": damaged(STREAM, 8),
    "foreign": FOREIGN["text"],
}


def check_outcome(path: Path, content: bytes | None) -> None:
    """Whether the file is as it must be, and every byte of what it was is there, once."""
    others = [file for file in beside(path) if file.stat().st_size]
    if content is None:
        assert (path.read_bytes(), others) == (b"", [])
    elif not content.startswith(STREAM):
        assert path.read_bytes() == b""
        assert [file.read_bytes() for file in others] == [content]
    else:
        assert path.read_bytes() == STREAM
        tail = content[len(STREAM) :]
        assert [file.read_bytes() for file in others] == ([tail] if any(tail) else [])


def stopped_at_line(number: int, stop: Callable[[], None]) -> Callable[..., Any]:
    """A trace function that calls `stop` at the given line event of the code under test."""
    left = [number]
    files = tuple(Path(flatstream.__file__).with_name(name).as_posix() for name in ("_startup.py", "_lock.py"))

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(files):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                stop()
        return trace

    return trace


def run_until_line(path: Path, number: int) -> bool:
    """Starts in a child that is killed at a line. Returns whether it came to its end before."""

    def child() -> Any:
        sys.settrace(stopped_at_line(number, lambda: os._exit(3)))
        try:
            start(path)
        finally:
            sys.settrace(None)
        return "done"

    try:
        return bool(forked(child) == "done")
    except EOFError:
        return False


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("what", "links"), [*((what, True) for what in SITUATIONS), ("damaged", False), ("foreign", False)]
)
def test_start_that_is_killed_at_any_line_is_completed_by_the_next(what, links, step, tmp_path, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    content = SITUATIONS[what]
    done = False
    number = 0
    while not done:
        number += step
        path = tmp_path / str(number) / "events.fs"
        path.parent.mkdir()
        if content is not None:
            path.write_bytes(content)
        done = run_until_line(path, number)
        if number % 5 == 0:
            run_until_line(path, number + number % 7)
        start(path)
        check_outcome(path, content)
        if links:
            assert len(beside(path)) <= 1
    assert number > 20


# A file object may be collected before anything has got hold of it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", SITUATIONS)
def test_start_that_is_interrupted_at_any_line_leaves_no_lock_and_is_completed_by_the_next(what, tmp_path):
    content = SITUATIONS[what]

    def interrupt() -> None:
        raise KeyboardInterrupt

    number = 0
    interrupted = True
    while interrupted:
        number += 1 if EVERYTHING or number < 3 else 3 + number % 3
        path = tmp_path / str(number) / "events.fs"
        path.parent.mkdir()
        if content is not None:
            path.write_bytes(content)
        before = sys.gettrace()
        sys.settrace(stopped_at_line(number, interrupt))
        try:
            start(path)
            interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        start(path)
        check_outcome(path, content)
    assert number > 20


@in_one_test
@pytest.mark.parametrize("call", ["fsync", "ftruncate", "open", "unlink", "listdir"])
@pytest.mark.parametrize("what", ["torn", "zeros", "damaged"])
def test_start_on_a_device_that_fails_loses_nothing(what, call, tmp_path, monkeypatch):
    content = SITUATIONS[what]
    assert content is not None
    real = getattr(os, call)
    failed = True
    number = 0
    while failed:
        number += 1
        path = tmp_path / str(number) / "events.fs"
        path.parent.mkdir()
        path.write_bytes(content)
        left = [number]

        def fail(*arguments: Any, left: list[int] = left, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise DeviceError(errno.EIO, "failed")
            return real(*arguments, **options)

        monkeypatch.setattr(os, call, fail)
        with contextlib.suppress(DeviceError):
            start(path)
        monkeypatch.setattr(os, call, real)
        failed = left[0] <= 0
        start(path)
        check_outcome(path, content)


def test_tail_that_finds_no_room_is_not_cut_off(tmp_path):
    path = tmp_path / "events.fs"
    content = STREAM + reference.encode([b"x" * 1000], "crc32")[:-1]
    path.write_bytes(content)
    with file_size_limit(500), pytest.raises(OSError):
        start(path)
    assert path.read_bytes() == content
    report = start(path)
    (saved,) = beside(path)
    assert report.saved_as == str(saved)
    check_outcome(path, content)


def test_folder_that_cannot_be_synced_or_read_does_not_stop_the_start(tmp_path, monkeypatch):
    path = tmp_path / "events.fs"
    real = os.open

    def refuse(name: Any, *arguments: Any, **options: Any) -> Any:
        if name == str(tmp_path):
            raise device_error(errno.EACCES)
        return real(name, *arguments, **options)

    def unreadable(name: Any) -> Any:
        raise device_error(errno.EACCES)

    def unsupported(descriptor: int) -> None:
        raise device_error(errno.EINVAL)

    path.write_bytes(STREAM + b"\x05")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        patch.setattr(os, "listdir", unreadable)
        patch.setattr(os, "fsync", unsupported)
        report = start(path)
    assert Path(str(report.saved_as)).read_bytes() == b"\x05"


def test_what_is_cut_off_is_on_the_disk_before_the_file_is_cut(tmp_path, monkeypatch):
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM + b"\x05\0")
    events = []
    real_ftruncate = os.ftruncate

    def name_of(descriptor: int) -> str:
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).split("-")[0]

    def fsync(fd: int) -> None:
        events.append(("fsync", name_of(fd)))
        SYNC(fd)

    def ftruncate(fd: int, size: int) -> None:
        events.append(("ftruncate", name_of(fd)))
        real_ftruncate(fd, size)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "ftruncate", ftruncate)
    start(path)
    folder = tmp_path.name.split("-")[0]
    assert events == [
        ("fsync", "events.fs.torn"),
        ("fsync", folder),
        ("ftruncate", "events.fs"),
        ("fsync", "events.fs"),
    ]


# One owner


@in_one_test
@pytest.mark.parametrize("what", SITUATIONS)
def test_writer_has_the_file_locked_after_the_start(what, tmp_path):
    path = tmp_path / "events.fs"
    content = SITUATIONS[what]
    if content is not None:
        path.write_bytes(content)

    def second() -> Any:
        try:
            start(path)
        except OSError as error:
            return error.errno
        return None

    with flatstream.open(path, "a", checksum="crc32", recover=True) as writer:
        assert os.path.samestat(os.fstat(writer.sink.fileno()), path.stat())
        assert forked(second) == errno.EBUSY
        writer.write_payload(b"next")
    assert reread(path, "crc32")[-1] == b"next"
    assert forked(second) is None


def test_file_that_another_writer_has_open_is_not_touched(tmp_path):
    path = tmp_path / "events.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        writer.write_payload(b"one")
        writer.flush()
        # As if the other writer had written half a frame.
        with open(path, "ab") as file:
            file.write(b"\x05\0")
        with pytest.raises(OSError, match="another writer has the file open"):
            start(path)
        assert path.read_bytes() == reference.encode([b"one"], "crc32") + b"\x05\0"
    assert beside(path) == []


@pytest.mark.parametrize("busy", [False, True])
def test_file_that_another_process_makes_in_the_place_of_the_moved_one_is_its_own(busy, tmp_path, monkeypatch):
    path = tmp_path / "events.fs"
    path.write_bytes(FOREIGN["text"])
    real = vars(_startup)["open_for_writing"]
    others = []

    def open_for_writing(name: Any, mode: str, **options: Any) -> Any:
        others.append(flatstream.open(path, "w", checksum="crc32"))
        others[0].write_payload(b"theirs")
        others[0].flush()
        if not busy:
            others[0].close()
        return real(name, mode, **options)

    monkeypatch.setattr(_startup, "open_for_writing", open_for_writing)
    if busy:
        with pytest.raises(OSError, match="another writer has the file open"):
            start(path)
        others[0].close()
    else:
        report = start(path)
        assert (report.action, report.frames) == ("moved", 1)
    assert reread(path, "crc32") == [b"theirs"]
    assert [file.read_bytes() for file in beside(path)] == [FOREIGN["text"]]


def test_agents_that_start_at_once_and_are_killed_lose_nothing_that_was_written(tmp_path):
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM + b"\x05\0")
    agents = []
    for agent in range(4):
        child = os.fork()
        if not child:
            try:
                done = 0
                while done < 10:
                    with contextlib.suppress(OSError):
                        writer = flatstream.open(path, "a", checksum="crc32", recover=True, buffer_size=0)
                        writer.write_payload(b"%d %d" % (agent, done))
                        done += 1
                        if done == 10:
                            # Killed inside a frame.
                            writer.sink.write(b"\x10\0\0\0torn by %d" % agent)
                            os.kill(os.getpid(), signal.SIGKILL)
                        writer.close()
            finally:
                os._exit(1)
        agents.append(child)
    for child in agents:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    start(path)
    payloads = reread(path, "crc32")
    assert payloads[:3] == PAYLOADS
    assert sorted(payloads[3:]) == sorted(b"%d %d" % (agent, done) for agent in range(4) for done in range(10))
    saved = sorted(file.read_bytes() for file in beside(path))
    assert saved == sorted([b"\x05\0", *(b"\x10\0\0\0torn by %d" % agent for agent in range(4))])


def test_file_that_grows_meanwhile_is_not_cut(tmp_path, monkeypatch):
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM + b"\x05\0")
    real = _startup.save_tail

    def save(*arguments: Any) -> Any:
        with open(path, "ab") as file:
            file.write(b"\0\0more")
        return real(*arguments)

    monkeypatch.setattr(_startup, "save_tail", save)
    with pytest.raises(OSError, match="another process writes to the file without a lock"):
        start(path)
    assert path.read_bytes() == STREAM + b"\x05\0\0\0more"


def test_start_without_a_lock_recovers_all_the_same(tmp_path):
    for what, content in SITUATIONS.items():
        path = tmp_path / what / "events.fs"
        path.parent.mkdir()
        if content is not None:
            path.write_bytes(content)
        start(path, lock=False)
        check_outcome(path, content)


# Arguments


@pytest.mark.parametrize("mode", ["r", "w", "x"])
def test_recover_is_for_appending_only(mode, tmp_path):
    path = tmp_path / "events.fs"
    with pytest.raises(ValueError, match=f"recover=True needs the mode 'a', got '{mode}'"):
        flatstream.open(path, mode, recover=True)
    assert not path.exists()


@in_one_test
@pytest.mark.parametrize(
    "adapt",
    [
        lambda framer: framer,
        lambda framer: framer.bounded(100),
        lambda framer: framer.observed(lambda payload: None),
        lambda framer: framer.bounded(100).with_validator(SizeValidator(0, 100)),
    ],
    ids=["plain", "bounded", "observed", "both"],
)
def test_start_knows_the_format_of_built_in_framers(adapt, tmp_path):
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM + b"\x05\0")
    with flatstream.open(path, "a", framer=adapt(ChecksumFramer(Crc32())), recover=True) as writer:
        assert writer.recovery is not None
        assert writer.recovery.action == "cut"
    check_outcome(path, STREAM + b"\x05\0")


def test_start_with_a_framer_written_in_python_is_refused(tmp_path):
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM + b"\x05\0")
    with pytest.raises(ValueError, match="only a checksum or a built-in framer says how: got the framer"):
        flatstream.open(path, "a", framer=MagicFramer(DefaultFramer()), recover=True)
    assert path.read_bytes() == STREAM + b"\x05\0"


@pytest.mark.parametrize("wrong", [{"builder": 3}, {"buffer_size": -1}, {"bufsize": 3}])
def test_wrong_argument_starts_nothing(wrong, tmp_path):
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM + b"\x05\0")
    with pytest.raises((TypeError, ValueError)):
        flatstream.open(path, "a", checksum="crc32", recover=True, **wrong)
    assert path.read_bytes() == STREAM + b"\x05\0"
    assert beside(path) == []


def test_report_cannot_be_changed(tmp_path):
    report = start(tmp_path / "events.fs")
    with pytest.raises(AttributeError):
        report.action = "cut"  # type: ignore[misc]


def test_error_of_the_system_is_raised_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM)

    def recover(*arguments: Any, **options: Any) -> Any:
        raise device_error(errno.EIO)

    monkeypatch.setattr(_startup, "recover", recover)
    with pytest.raises(OSError) as caught:
        start(path)
    assert not isinstance(caught.value, FlatStreamError)
    assert path.read_bytes() == STREAM


def test_empty_file_of_an_interrupted_move_is_removed_and_no_other(tmp_path):
    path = tmp_path / "events.fs"
    path.write_bytes(FOREIGN["text"])
    left = tmp_path / "events.fs.new-20260102T030405.123456Z"
    others = [tmp_path / "events.fs.new-version", tmp_path / "events.fs.new-20260102T030405.123457Z"]
    left.touch()
    others[0].touch()
    others[1].write_bytes(b"not empty")
    with flatstream.open(path, "a", checksum="crc32", recover=True) as writer:
        assert writer.recovery is not None
        assert writer.recovery.action == "moved"
    assert not left.exists()
    assert [other.read_bytes() for other in others] == [b"", b"not empty"]

"""One owner for each file: who gets the lock of a file, who is refused, and when it is free again."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import FlatStreamError, StreamWriter, _lock
from reference import framing as reference
from support.alarms import Alarm
from support.extent import in_one_test
from support.faults import device_error, file_size_limit
from support.processes import forked, run_python
from support.streams import encode

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

MODES: tuple[Any, ...] = ("w", "a")


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lock, "PATIENCE", 0.03)


def refusal(path: Path, mode: Any = "a") -> str | None:
    """The error of a writer of this process; None if there is none."""
    try:
        flatstream.open(path, mode).close()
    except OSError as error:
        return str(error)
    return None


@contextlib.contextmanager
def child_that_lives(path: Path | None = None) -> Iterator[int]:
    """A forked child that does nothing, or writes `path` with a writer of its own, until it is killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            keep = None if path is None else flatstream.open(path, "a")
            os.write(writing, b"1")
            time.sleep(60)
            del keep
        finally:
            os._exit(1)
    try:
        assert os.read(reading, 1) == b"1"
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def open_by(way: str, path: Path, **options: Any) -> StreamWriter:
    if way == "StreamWriter":
        return StreamWriter(path, **options)
    return flatstream.open(path, way, **options)  # type: ignore[call-overload,no-any-return]


# Who is refused


@in_one_test
@pytest.mark.parametrize("second", MODES)
@pytest.mark.parametrize("first", ["StreamWriter", "w", "x", "a"])
def test_second_writer_is_refused_and_changes_nothing(first, second, tmp_path):
    path = tmp_path / "stream"
    with open_by(first, path) as writer:
        writer.write_payload(b"mine")
        writer.flush()
        for told in (refusal(path, second), forked(lambda: refusal(path, second))):
            holder = "this process, " if told == refusal(path) else "process "
            assert told is not None
            assert f"another writer has the file open: {holder}" in told
            assert str(os.getpid()) in told
        writer.write_payload(b"more")
    assert path.read_bytes() == encode(b"mine", b"more")
    assert refusal(path) is None


def test_refusal_names_the_process_and_its_program(tmp_path):
    path = tmp_path / "stream"
    with child_that_lives(path) as child:
        name = Path(f"/proc/{child}/comm").read_text().strip()
        assert refusal(path) == f"[Errno 16] another writer has the file open: process {child} ({name}): {str(path)!r}"


def test_refusal_comes_from_another_interpreter_too(tmp_path):
    path = tmp_path / "stream"
    code = f"import flatstream\ntry: flatstream.open({str(path)!r}, 'a')\nexcept OSError as error: print(error)"
    with flatstream.open(path, "w"):
        assert f"process {os.getpid()} (" in run_python(code).stdout
    assert run_python(code).stdout == ""


def test_refusal_without_knowledge_of_the_process_says_so(tmp_path, monkeypatch):
    path = tmp_path / "stream"
    with flatstream.open(path, "w"):
        monkeypatch.setattr(_lock, "_pid_of_lock", lambda status: None)
        assert "the process is not known" in str(refusal(path))


@in_one_test
@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("1: FLOCK  ADVISORY  WRITE {pid} {device}:{inode} 0 EOF", True),
        ("1: FLOCK  ADVISORY  WRITE {pid} ff:ff:{inode} 0 EOF", True),
        ("1: FLOCK  ADVISORY  WRITE {parent} {device}:{inode} 0 EOF", True),
        # The parent process has not got the file open, so that this is a file of another device.
        ("1: FLOCK  ADVISORY  WRITE {parent} ff:ff:{inode} 0 EOF", False),
        ("1: FLOCK  ADVISORY  WRITE 999999999 ff:ff:{inode} 0 EOF", False),
        ("1: FLOCK  ADVISORY  WRITE {pid} {device}:{inode}0 0 EOF", False),
        ("1: FLOCK  ADVISORY  READ {pid} {device}:{inode} 0 EOF", False),
        ("1: POSIX  ADVISORY  WRITE {pid} {device}:{inode} 0 EOF", False),
        ("1: -> FLOCK  ADVISORY  WRITE {pid} {device}:{inode} 0 EOF", False),
        ("1: FLOCK  ADVISORY  WRITE 0 {device}:{inode} 0 EOF", False),
        ("1: FLOCK  ADVISORY  WRITE x {device}:{inode} 0 EOF", False),
        ("1: FLOCK", False),
        ("garbage", False),
        ("", False),
    ],
)
def test_list_of_locks_names_the_process_only_if_it_is_sure(line, known, tmp_path, monkeypatch):
    path = tmp_path / "stream"
    with open(path, "wb") as file:
        status = os.fstat(file.fileno())
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        text = line.format(pid=os.getpid(), parent=os.getppid(), device=device, inode=status.st_ino)
        monkeypatch.setattr(_lock, "open", lambda *arguments, **options: io.StringIO(text), raising=False)
        expected = os.getppid() if "{parent}" in line else os.getpid()
        assert _lock._pid_of_lock(status) == (expected if known else None)


def test_refused_writer_leaves_the_others_lock(tmp_path):
    # POSIX record locks end when any descriptor of the file is closed.
    path = tmp_path / "stream"
    with flatstream.open(path, "w"):
        for _ in range(3):
            assert refusal(path) is not None
            path.read_bytes()
            assert forked(lambda: refusal(path)) is not None


def test_same_file_by_another_name_is_refused(tmp_path):
    path = tmp_path / "stream"
    (tmp_path / "symbolic").symlink_to(path)
    with flatstream.open(path, "w"):
        (tmp_path / "hard").hardlink_to(path)
        assert refusal(tmp_path / "symbolic") is not None
        assert refusal(tmp_path / "hard", "w") is not None


def test_lock_false_neither_takes_nor_respects_a_lock(tmp_path):
    path = tmp_path / "stream"
    with flatstream.open(path, "w") as first, flatstream.open(path, "a", lock=False) as second:
        second.write_payload(b"second")
        second.flush()
        first.write_payload(b"first")
    with flatstream.open(path, "a", lock=False):
        assert refusal(path) is None
    assert path.read_bytes() == encode(b"second", b"first")


def test_readers_need_no_lock(tmp_path):
    path = tmp_path / "stream"
    with flatstream.open(path, "w") as writer:
        writer.write_payload(b"one")
        writer.flush()
        with flatstream.open(path) as reader:
            assert list(reader) == [b"one"]
        assert flatstream.recover_file(path).frames == 1


def test_file_objects_of_others_are_not_locked_by_writers(tmp_path):
    path = tmp_path / "stream"
    with open(path, "ab") as file, StreamWriter(file):
        assert refusal(path) is None


# When it is free again


@in_one_test
@pytest.mark.parametrize("end", ["close", "detach", "collect", "fail"])
def test_lock_ends_with_the_file(end, tmp_path):
    path = tmp_path / "stream"
    writer = flatstream.open(path, "w")
    if end == "close":
        writer.close()
    elif end == "detach":
        file = writer.detach()
        assert refusal(path) is not None
        file.close()
    elif end == "collect":
        with pytest.warns(ResourceWarning):
            del writer
    else:
        writer.write_payload(b"first")
        with file_size_limit(3), pytest.raises(OSError):
            writer.close()
    assert refusal(path) is None


@pytest.mark.parametrize("argument", [{"builder": 3}, {"unknown": 3}])
def test_writer_that_was_not_made_keeps_no_lock(argument, tmp_path):
    path = tmp_path / "stream"
    with pytest.raises(TypeError):
        flatstream.open(path, "w", **argument)
    assert refusal(path) is None


def test_append_to_a_damaged_file_that_is_refused_keeps_no_lock(tmp_path):
    path = tmp_path / "stream"
    stream = reference.encode([b"one", b"two"], "crc32")
    path.write_bytes(stream[:-1])
    with pytest.raises(FlatStreamError):
        flatstream.open(path, "a", checksum="crc32")
    path.write_bytes(stream)
    flatstream.open(path, "a", checksum="crc32").close()


def test_killed_process_leaves_no_lock(tmp_path):
    path = tmp_path / "stream"
    with child_that_lives(path):
        assert refusal(path) is not None
    assert refusal(path) is None


# Forks


def test_child_that_lives_does_not_keep_the_lock_of_a_closed_writer(tmp_path):
    path = tmp_path / "stream"
    writer = flatstream.open(path, "w")
    with child_that_lives():
        assert refusal(path) is not None
        writer.close()
        assert refusal(path) is None
        assert forked(lambda: refusal(path)) is None


def test_child_that_lives_does_not_keep_the_lock_of_a_killed_parent(tmp_path):
    path = tmp_path / "stream"
    code = f"""
import flatstream, os, time
writer = flatstream.open({str(path)!r}, "w")
child = os.fork()
if not child:
    os.write(1, b"%d\\n" % os.getpid())
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert f"process {parent.pid} (" in str(refusal(path))
        parent.kill()
        parent.wait()
        try:
            assert refusal(path) is None
        finally:
            os.kill(child, signal.SIGKILL)


@in_one_test
@pytest.mark.parametrize("act", ["exit", "close", "detach", "collect", "sink"])
def test_child_does_not_release_the_lock_of_its_parent(act, tmp_path):
    path = tmp_path / "stream"
    writers = [flatstream.open(path, "w")]

    def child() -> Any:
        told = refusal(path)
        if act == "close":
            writers[0].close()
        elif act == "detach":
            with contextlib.suppress(RuntimeError, ValueError):
                writers[0].detach().close()
        elif act == "collect":
            writers.clear()
        elif act == "sink":
            writers[0].sink.close()
        return told, refusal(path)

    for told in forked(child):
        assert f"process {os.getpid()} (" in told
    assert refusal(path) is not None
    writers[0].write_payload(b"one")
    writers[0].close()
    assert path.read_bytes() == encode(b"one")


def test_child_has_a_working_descriptor_of_its_own(tmp_path):
    # What a parent process detaches is the file object of whoever inherits it.
    path = tmp_path / "stream"
    writer = flatstream.open(path, "w")
    writer.write_payload(b"parent")
    file = writer.detach()

    def child() -> Any:
        inheritable = os.get_inheritable(file.fileno())
        with file:
            return inheritable, file.write(encode(b"child"))

    assert forked(child) == (False, len(encode(b"child")))
    file.write(encode(b"again"))
    file.close()
    assert path.read_bytes() == encode(b"parent", b"child", b"again")


def test_child_that_cannot_open_the_file_anew_has_no_lock_and_cannot_write(tmp_path, monkeypatch):
    path = tmp_path / "stream"
    file = flatstream.open(path, "w").detach()
    real = os.open

    def refuse(name: Any, *arguments: Any) -> int:
        if "/proc/self/fd/" in str(name):
            raise device_error(errno.EACCES)
        return real(name, *arguments)

    def write() -> Any:
        try:
            return file.write(b"lost")
        except OSError as error:
            return error.errno

    monkeypatch.setattr(os, "open", refuse)
    assert forked(write) == errno.EBADF
    with child_that_lives():
        file.close()
        assert refusal(path) is None
    assert path.read_bytes() == b""


def test_descriptor_that_was_closed_and_used_again_is_left_alone_in_a_child(tmp_path):
    path = tmp_path / "stream"
    writer = flatstream.open(path, "w")
    number = writer.sink.fileno()
    writer.close()
    path.write_bytes(b"0123456789")
    with io.FileIO(path, "r+b") as file:
        assert file.fileno() == number
        # The position is shared with the child only if the descriptor is the same.
        forked(lambda: file.seek(4))
        assert file.tell() == 4
    with io.FileIO(tmp_path / "other", "ab") as other:
        assert other.fileno() == number
        assert forked(lambda: os.path.samestat(os.fstat(number), os.stat(tmp_path / "other")))


def test_child_forked_by_another_thread_while_the_file_is_opened_keeps_no_lock(tmp_path, monkeypatch):
    path = tmp_path / "stream"
    real = os.open
    with contextlib.ExitStack() as stack:

        def fork_behind(name: Any, *arguments: Any) -> int:
            descriptor = real(name, *arguments)
            if name == str(path):
                monkeypatch.setattr(os, "open", real)
                stack.enter_context(child_that_lives())
            return descriptor

        for mode in ("x", "a", "w"):
            monkeypatch.setattr(os, "open", fork_behind)
            with flatstream.open(path, mode) as writer:
                assert refusal(path) is not None
                writer.write_payload(b"one")
            assert refusal(path) is None
    assert path.read_bytes() == encode(b"one")


def test_grandchild_keeps_no_lock_of_its_parent(tmp_path):
    path = tmp_path / "stream"

    def child() -> Any:
        writer = flatstream.open(path, "w")
        with child_that_lives():
            held = refusal(path)
            writer.close()
            return held, refusal(path)

    held, after = forked(child)
    assert held is not None
    assert after is None


def test_programs_that_are_started_do_not_keep_the_lock(tmp_path):
    path = tmp_path / "stream"
    writer = flatstream.open(path, "w")
    number = writer.sink.fileno()
    code = f"import os, sys, time\nprint(os.path.exists('/proc/self/fd/{number}'), flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, close_fds=False) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"False\n"
        writer.close()
        assert refusal(path) is None
        program.kill()


def test_writer_opened_again_while_another_thread_forks_gets_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(_lock, "PATIENCE", 10)
    # Between fork and the hook of the child, the child shares the lock.
    path = tmp_path / "stream"
    done = threading.Event()
    children = []

    def fork() -> None:
        while not done.is_set():
            child = os.fork()
            if not child:
                os._exit(0)
            children.append(child)
            os.waitpid(child, 0)

    thread = threading.Thread(target=fork)
    thread.start()
    try:
        for _ in range(100):
            with flatstream.open(path, "w") as writer:
                writer.write_payload(b"one")
    finally:
        done.set()
        thread.join()
    assert children


# What is locked: regular files, before anything happens to them


def test_file_that_is_replaced_before_it_is_locked_is_opened_again(tmp_path, monkeypatch):
    # As a log tool does that rotates. The moved file must not be emptied, and the new one gets the frames.
    path = tmp_path / "stream"
    path.write_bytes(b"old")
    real = _lock.lock_file

    def lock_file(fd: int, name: Any) -> None:
        if not (tmp_path / "rotated").exists():
            path.rename(tmp_path / "rotated")
            path.write_bytes(b"new")
        real(fd, name)

    monkeypatch.setattr(_lock, "lock_file", lock_file)
    with flatstream.open(path, "w") as writer:
        writer.write_payload(b"one")
        assert refusal(path) is not None
    assert path.read_bytes() == encode(b"one")
    assert (tmp_path / "rotated").read_bytes() == b"old"


@pytest.mark.parametrize("mode", ["w", "a", "x"])
def test_file_that_is_removed_before_it_is_locked_is_made_again(mode, tmp_path, monkeypatch):
    path = tmp_path / "stream"
    real = _lock.lock_file
    left = [1]

    def lock_file(fd: int, name: Any) -> None:
        if left:
            left.clear()
            path.unlink()
        real(fd, name)

    monkeypatch.setattr(_lock, "lock_file", lock_file)
    with flatstream.open(path, mode) as writer:
        writer.write_payload(b"one")
    assert path.read_bytes() == encode(b"one")


def test_file_that_is_replaced_again_and_again_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "stream"
    monkeypatch.setattr(_lock, "lock_file", lambda fd, name: path.unlink())
    with pytest.raises(OSError, match="another process replaces the file again and again") as caught:
        flatstream.open(path, "w")
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_file_system_without_locks_needs_lock_false(number, tmp_path, monkeypatch):
    path = tmp_path / "stream"
    path.write_bytes(encode(b"one"))

    def flock(fd: int, operation: int) -> None:
        raise device_error(number)

    monkeypatch.setattr("fcntl.flock", flock)
    for mode in MODES:
        with pytest.raises(
            OSError, match=r"the file cannot be locked .*; with lock=False it is opened without"
        ) as caught:
            flatstream.open(path, mode)
        assert (caught.value.errno, caught.value.filename) == (number, str(path))
        assert path.read_bytes() == encode(b"one")
    with flatstream.open(path, "a", lock=False) as writer:
        writer.write_payload(b"two")
    assert path.read_bytes() == encode(b"one", b"two")
    assert _lock.who_writes(path) is None


def test_lock_that_ends_while_it_is_waited_for_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(_lock, "PATIENCE", 10)
    path = tmp_path / "stream"
    first = flatstream.open(path, "w")
    timer = threading.Timer(0.05, first.close)
    timer.start()
    assert refusal(path) is None
    timer.join()


def test_signal_handler_runs_while_a_lock_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(_lock, "PATIENCE", 10)
    path = tmp_path / "stream"
    with flatstream.open(path, "w"), Alarm() as alarm:
        assert alarm.strike(lambda: flatstream.open(path, "w"), 0.05)
    assert refusal(path) is None


def test_device_takes_many_writers():
    with flatstream.open(os.devnull, "w") as first, flatstream.open(os.devnull, "a") as second:
        for writer in (first, second):
            writer.write_payload(b"one")


@in_one_test
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("recover", [False, True])
def test_named_pipe_is_opened_when_there_is_a_reader_and_is_not_locked(mode, recover, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    arrived: list[bytes] = []
    thread = threading.Thread(target=lambda: arrived.append(path.read_bytes()))
    thread.start()
    options: Any = {"recover": True} if recover and mode == "a" else {}
    with flatstream.open(path, mode, **options) as first, flatstream.open(path, mode) as second:
        first.write_payload(b"one")
        first.flush()
        second.write_payload(b"two")
    thread.join()
    assert arrived == [encode(b"one", b"two")]
    assert stat.S_ISFIFO(os.stat(path).st_mode)


# All writing modes append


@in_one_test
@pytest.mark.parametrize("way", ["StreamWriter", "w", "x", "a"])
def test_writer_of_a_file_that_a_log_tool_has_emptied_goes_on_at_its_beginning(way, tmp_path):
    path = tmp_path / "stream"
    with open_by(way, path) as writer:
        for number in range(3):
            for payload in (b"small", b"L" * 100_000):
                writer.write_payload(payload)
                writer.flush()
                os.truncate(path, 0)
            writer.write_payload(b"%d" % number)
            writer.flush()
            assert path.read_bytes() == encode(b"%d" % number)


@in_one_test
@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("way", ["StreamWriter", "w", "x", "a"])
def test_torn_frame_is_cut_off_exactly_also_after_the_file_was_emptied(way, emptied, tmp_path):
    path = tmp_path / "stream"
    before = encode(b"first")
    with open_by(way, path, buffer_size=0) as writer:
        writer.write_payload(b"first")
        if emptied:
            os.truncate(path, 0)
            writer.write_payload(b"again")
            before = encode(b"again")
        for size in (10, 200, 100_000):
            with file_size_limit(len(before) + size // 2), pytest.raises(OSError):
                writer.write_payload(b"x" * size)
            assert path.read_bytes() == before
        writer.write_payload(b"last")
    assert path.read_bytes() == before + encode(b"last")


def test_frame_whose_beginning_a_log_tool_has_removed_makes_the_writer_refuse(tmp_path, monkeypatch):
    # What is left of the frame is not at its place, and the bytes before it may be another's.
    path = tmp_path / "stream"
    real = os.writev
    taken: list[int] = []

    def writev(descriptor: int, pieces: Any) -> int:
        if taken:
            raise device_error(errno.ENOSPC)
        with file_size_limit(60):
            taken.append(real(descriptor, pieces))
        os.truncate(path, 0)
        return taken[0]

    monkeypatch.setattr(os, "writev", writev)
    writer = StreamWriter(path, buffer_size=16)
    with file_size_limit(40), pytest.raises(OSError):
        writer.write_payload(b"x" * 200)
    assert path.read_bytes() == encode(b"x" * 200)[60:100]
    assert writer.is_refusing
    with pytest.raises(FlatStreamError):
        writer.close()


def test_open_file_has_the_name_and_mode_that_were_asked_for(tmp_path):
    for mode in ("w", "a"):
        with flatstream.open(tmp_path / "stream", mode) as writer:
            assert (writer.sink.name, writer.sink.mode) == (str(tmp_path / "stream"), mode + "b")
            assert not os.get_inheritable(writer.sink.fileno())
    assert stat.S_IMODE(os.stat(tmp_path / "stream").st_mode) & 0o111 == 0


# The functions


def test_lock_of_the_same_open_file_can_be_taken_again(tmp_path):
    path = tmp_path / "stream"
    with io.FileIO(path, "wb") as file:
        for _ in range(2):
            _lock.lock_file(file.fileno(), path)
        assert refusal(path) is not None
    assert refusal(path) is None


def test_lock_that_children_keep_lasts_until_the_last_of_them_has_ended(tmp_path):
    path = tmp_path / "stream"
    file = io.FileIO(path, "wb")
    _lock.lock_file(file.fileno(), path)
    with child_that_lives():
        file.close()
        assert refusal(path) is not None
    assert refusal(path) is None


def test_who_writes_says_who_and_takes_nothing(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(b"")
    assert _lock.who_writes(path) is None
    with flatstream.open(path, "w"):
        assert _lock.who_writes(path) == f"this process, {os.getpid()}"
        assert str(os.getpid()) in forked(lambda: _lock.who_writes(path))
    with child_that_lives(path) as child:
        assert str(child) in str(_lock.who_writes(path))
    assert _lock.who_writes(path) is None
    assert _lock.who_writes(os.devnull) is None
    os.mkfifo(tmp_path / "pipe")
    assert _lock.who_writes(tmp_path / "pipe") is None
    with pytest.raises(FileNotFoundError):
        _lock.who_writes(tmp_path / "missing")

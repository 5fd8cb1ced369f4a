"""A followed file that is renamed, deleted, replaced or cut: all whole frames are given, then an error says so."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import flatstream
from flatstream import StreamReader, _follow
from reference import framing as reference
from support.errors import raised_by
from support.streams import next_message
from support.threads import running


@pytest.fixture(autouse=True, params=["reports", "pauses"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether changes are reported by the system, or the path is looked up often enough for a short test."""
    if request.param == "pauses":
        monkeypatch.setattr(_follow, "_watch_file", lambda file: None)
        monkeypatch.setattr(_follow, "PATH_INTERVAL", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "folder" / "events.fs"
    made.parent.mkdir()
    made.write_bytes(FRAMES[0] + FRAMES[1])
    return made


FRAMES = [reference.encode([payload], "crc32") for payload in (b"first", b"second", b"third", b"fourth")]
SIZE = len(FRAMES[0] + FRAMES[1])


def follow(path: Path) -> StreamReader:
    return flatstream.open(path, checksum="crc32", follow=True)


def rename(path: Path) -> None:
    path.rename(path.with_suffix(".1"))


def rotate(path: Path) -> None:
    rename(path)
    path.write_bytes(FRAMES[3])


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(FRAMES[3])
    os.replace(other, path)


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace_folder(path: Path) -> None:
    remove_folder(path)
    path.parent.write_bytes(b"a file")


CHANGES = {
    "renamed": (rename, "the file was deleted or renamed: nothing is at its path"),
    "deleted": (Path.unlink, "the file was deleted or renamed: nothing is at its path"),
    "rotated": (rotate, "the file was replaced: another one is at its path"),
    "replaced": (replace, "the file was replaced: another one is at its path"),
    "folder removed": (remove_folder, "the file was deleted or renamed"),
    "folder replaced": (replace_folder, "the file was deleted or renamed"),
}
every_change = pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)


def check_stale(error: BaseException, path: Path, offset: int, message: str) -> None:
    assert isinstance(error, OSError)
    assert (error.errno, error.filename, vars(error)) == (errno.ESTALE, str(path), {"offset": offset})
    text = error.strerror or ""
    assert text.startswith(message)
    assert text.endswith(f" (stream offset {offset}): open it again to go on")


@every_change
@pytest.mark.parametrize("tail", [b"", b"half", bytes(50)])
def test_file_that_is_gone_gives_its_whole_frames_first_and_then_an_error(
    change: Callable[[Path], None], message: str, tail: bytes, path: Path
) -> None:
    with path.open("ab", buffering=0) as writer, follow(path) as reader:
        assert next_message(reader) == b"first"
        # The writer writes on, as one does that does not know of the rotation yet.
        change(path)
        writer.write(FRAMES[2] + tail)
        assert [next_message(reader) for _ in range(2)] == [b"second", b"third"]
        offset = SIZE + len(FRAMES[2])
        for _ in range(2):
            check_stale(raised_by(reader.read_message), path, offset, message)
        # What comes late is given too.
        if not tail:
            writer.write(FRAMES[3])
            assert next_message(reader) == b"fourth"
            check_stale(raised_by(next, reader), path, offset + len(FRAMES[3]), message)


@every_change
def test_change_of_the_path_ends_a_wait(change: Callable[[Path], None], message: str, path: Path) -> None:
    with follow(path) as reader:
        assert len(reader.read_batch() or ()) == 2
        errors: list[BaseException] = []
        with running(lambda: errors.append(raised_by(reader.read_batch))):
            time.sleep(0.05)
            begin = time.monotonic()
            change(path)
        assert time.monotonic() - begin < 5
        # A rotation has two steps, and the reader may have looked between them.
        check_stale(errors[0], path, SIZE, message if change is not rotate else "the file was ")


def test_looking_without_waiting_notices_it_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_follow, "PATH_INTERVAL", 0.05)
    with follow(path) as reader:
        assert len(reader.read_batch() or ()) == 2
        rotate(path)
        end = time.monotonic() + 30
        while isinstance(error := raised_by(lambda: reader.read_message(timeout=0)), TimeoutError):
            assert time.monotonic() < end
        check_stale(error, path, SIZE, "the file was replaced")


def test_link_that_names_another_file_is_a_rotation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither file changes, so nothing is reported.
    monkeypatch.setattr(_follow, "PATH_INTERVAL", 0.05)
    link, other = path.with_name("current.fs"), path.with_name("other.fs")
    other.write_bytes(b"")
    link.symlink_to(path)
    with follow(link) as reader:
        assert len(reader.read_batch() or ()) == 2
        assert isinstance(raised_by(lambda: reader.read_message(timeout=0.2)), TimeoutError)
        link.unlink()
        link.symlink_to(other)
        check_stale(raised_by(reader.read_message), link, SIZE, "the file was replaced")


def test_file_that_comes_back_to_its_path_is_followed_on(path: Path) -> None:
    with follow(path) as reader:
        assert len(reader.read_batch() or ()) == 2
        rename(path)
        check_stale(raised_by(reader.read_message), path, SIZE, "the file was deleted or renamed")
        path.with_suffix(".1").rename(path)
        assert isinstance(raised_by(lambda: reader.read_message(timeout=0.1)), TimeoutError)


def test_other_attributes_and_other_folders_are_no_change(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with follow(Path(path.name)) as reader:
        assert len(reader.read_batch() or ()) == 2
        monkeypatch.chdir("/")
        path.chmod(0o600)
        os.utime(path, (1, 1))
        os.link(path, path.with_name("second name"))
        assert isinstance(raised_by(lambda: reader.read_message(timeout=0.2)), TimeoutError)


# Cut


def test_file_cut_to_the_last_frame_read_is_followed_on(path: Path) -> None:
    with path.open("ab", buffering=0) as writer, follow(path) as reader:
        for number in range(5):
            assert next_message(reader) == (b"first", b"second", b"third", b"third", b"third")[number]
            if number:
                writer.write(FRAMES[2][:10])
                assert isinstance(raised_by(lambda: reader.read_message(timeout=0)), TimeoutError)
                os.truncate(path, SIZE + (number - 1) * len(FRAMES[2]))
                assert isinstance(raised_by(lambda: reader.read_message(timeout=0)), TimeoutError)
                writer.write(FRAMES[2])


@pytest.mark.parametrize("size", [0, 1, SIZE - 1])
def test_file_cut_below_the_last_frame_read_is_an_error_from_then_on(size: int, path: Path) -> None:
    with follow(path) as reader:
        assert len(reader.read_batch() or ()) == 2
        errors: list[BaseException] = []
        with running(lambda: errors.append(raised_by(reader.read_message))):
            time.sleep(0.02)
            begin = time.monotonic()
            os.truncate(path, size)
        assert time.monotonic() - begin < 5
        # What is written now does not begin where a frame began.
        path.write_bytes(FRAMES[0] * 20)
        for error in (errors[0], raised_by(reader.read_message), raised_by(next, reader)):
            check_stale(error, path, SIZE, f"the file was cut to {size} bytes, and {SIZE} were read")


def test_frames_that_arrived_before_the_cut_are_given_first(path: Path) -> None:
    with follow(path) as reader:
        assert next_message(reader) == b"first"
        os.truncate(path, 0)
        assert next_message(reader) == b"second"
        check_stale(raised_by(reader.read_message), path, SIZE, "the file was cut to 0 bytes")

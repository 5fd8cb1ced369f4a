"""What long work tells of itself on the error output."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flatstream.journal import _progress
from flatstream.journal._cli import main
from flatstream.journal._progress import Progress
from support.journal_folders import make_journal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A stream that counts the writes that fail."""

    def __init__(self) -> None:
        super().__init__()
        self.failed = 0

    def write(self, text: str) -> int:
        self.failed += 1
        raise BrokenPipeError


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUIET", "TERMINAL_PAUSE", "FILE_PAUSE"):
        monkeypatch.setattr(_progress, name, 0.005)


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.usefixtures("_at_once")
def test_file_gets_a_line_for_each_step(tmp_path: Path) -> None:
    stream = io.StringIO()
    path = tmp_path / "data"
    path.write_bytes(bytes(2000))
    with Progress(stream) as progress, open(path, "rb", buffering=0) as file:
        progress.watch("00.fs (1 of 2)")(file, 2000)
        wait_until(lambda: "00.fs (1 of 2): 0 % of 2,000 bytes\n" in stream.getvalue())
        file.read(500)
        wait_until(lambda: "00.fs (1 of 2): 25 % of 2,000 bytes\n" in stream.getvalue())
        progress.report("copying")(1500, 2000)
        wait_until(lambda: "copying: 75 % of 2,000 bytes\n" in stream.getvalue())


@pytest.mark.usefixtures("_at_once")
def test_terminal_gets_one_line_that_is_removed_at_the_end() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.report("copying")(0, 0)
        wait_until(lambda: "\r\x1b[Kcopying: 100 % of 0 bytes" in stream.getvalue())
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


@pytest.mark.usefixtures("_at_once")
def test_closed_file_and_broken_stream_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(2000))
    stream = Broken()
    with Progress(stream) as progress:
        with open(path, "rb", buffering=0) as file:
            progress.watch("data")(file, 2000)
        progress.report("copying")(1, 2)
        wait_until(lambda: stream.failed)
    assert stream.failed == 1


def test_short_work_and_quiet_work_tell_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.report("copying")(1, 2)
    with Progress(stream, is_shown=False) as progress:
        progress.report("copying")(1, 2)
    assert stream.getvalue() == ""
    make_journal(tmp_path / "journal", [10, 10])
    assert main(["verify", str(tmp_path / "journal")]) == 0
    assert capsys.readouterr().err == ""

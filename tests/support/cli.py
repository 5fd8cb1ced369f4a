"""Runs the command line: as an installed script in a process of its own, or in this process for many cases."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatstream
from flatstream.cli import main

DATA = Path(__file__).parent.parent / "data" / "cli"

# Expectations are written anew instead of compared.
UPDATES = os.environ.get("FLATSTREAM_UPDATE_EXPECTED") == "1"


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit status."""

    status: int
    output: str
    errors: str
    data: bytes = b""

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()


def script() -> list[str]:
    """The installed console script; the module where the package is not installed in this environment."""
    name = "flatstream.exe" if sys.platform == "win32" else "flatstream"
    path = Path(sysconfig.get_path("scripts")) / name
    return [str(path)] if path.exists() else [sys.executable, "-m", "flatstream"]


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that uses the same package as this one, with a fixed width and no colours."""
    package = str(Path(flatstream.__file__).parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR", "NO_COLOR")}
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "TZ": "UTC"} | more


def run_flatstream(
    *args: str | os.PathLike[str],
    input: bytes | None = None,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float = 120,
    variables: Mapping[str, str] | None = None,
) -> Result:
    """Runs the installed script; `variables` are more of its environment."""
    done = subprocess.run(
        [*script(), *(os.fspath(argument) for argument in args)],
        input=b"" if input is None else input,
        capture_output=True,
        cwd=cwd,
        env=environment(**(variables or {})),
        timeout=timeout,
        check=False,
    )
    output, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return Result(done.returncode, output, errors, done.stdout)


class _Standard(io.TextIOWrapper):
    """A standard stream in memory."""

    def __init__(self, content: bytes = b"", terminal: bool = False) -> None:
        self._terminal = terminal
        super().__init__(io.BytesIO(content), encoding="utf-8", newline="\n", write_through=True)

    def isatty(self) -> bool:
        return self._terminal

    def content(self) -> bytes:
        self.flush()
        buffer: Any = self.buffer
        value: bytes = buffer.getvalue()
        return value


def call_flatstream(
    *args: str | os.PathLike[str],
    input: bytes = b"",
    cwd: str | os.PathLike[str] | None = None,
    terminal: bool = False,
) -> Result:
    """Runs a command in this process, with standard streams in memory. For many cases, and to see where one fails."""
    output, errors, source = _Standard(terminal=terminal), _Standard(terminal=terminal), _Standard(input)
    before = sys.stdin
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(cwd if cwd is not None else "."))
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        sys.stdin = source
        try:
            status = main([os.fspath(argument) for argument in args])
        finally:
            sys.stdin = before
    data = output.content()
    return Result(status, data.decode(errors="replace"), errors.content().decode(errors="replace"), data)


def check_expected(name: str, text: str, replaced: Sequence[tuple[str, str]] = ()) -> None:
    """Compares text with the file ``tests/data/cli/<name>``, or writes it there if FLATSTREAM_UPDATE_EXPECTED=1.

    Parameters
    ----------
    name : str
        The name of the file.
    text : str
        What was printed.
    replaced : sequence of (str, str)
        What differs between runs, such as a folder, and what stands for it in the file.
    """
    for what, by in replaced:
        text = text.replace(what, by)
    path = DATA / name
    if UPDATES:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert path.exists(), f"{path} is missing: FLATSTREAM_UPDATE_EXPECTED=1 writes it"
    assert text == path.read_text(encoding="utf-8"), f"not as in {path}; FLATSTREAM_UPDATE_EXPECTED=1 writes it anew"

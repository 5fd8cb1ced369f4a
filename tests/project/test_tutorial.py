"""The tutorial works as it is typed: its blocks run in order, in one folder and one shell, and print what it shows.

A block whose paragraph ends with a name is a file of that name. A block of sh is typed into the shell, one of python
into a notebook: the value of its last expression is shown. A block of text behind either is its output.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import environment, script
from support.documents import Block, sections, stable
from support.schemas import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"
END = "end of block"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("bash") is None, reason="the tutorial is for Linux"
)


class Shell:
    """A bash that is typed into, with `python` and `flatstream` being those of this environment."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        bin_folder.mkdir()
        for name, command in (("python", [sys.executable]), ("flatstream", script())):
            (bin_folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            (bin_folder / name).chmod(0o755)
        variables = environment(PYTHONWARNINGS="error", PYTHONUNBUFFERED="1")
        variables["PATH"] = f"{bin_folder}:{variables['PATH']}"
        self._errors = bin_folder / "errors"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                ["bash"],
                cwd=folder,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def errors(self) -> str:
        """What all blocks printed on standard error, but for the shell's own line on the agent that was killed."""
        return re.sub(r"^.* Killed .*\n", "", self._errors.read_text(), flags=re.MULTILINE)

    def run(self, code: str) -> str:
        """What the block prints."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{{\n{code}}} </dev/null\necho; echo {END}\n")
        process.stdin.flush()
        printed = ""
        for line in process.stdout:
            printed += line
            if line == f"{END}\n":
                return printed.removesuffix(f"\n{END}\n")
        raise AssertionError(f"the shell ended: {self.errors()}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("kill -9 $(jobs -p) 2>/dev/null\n")
        self._process.communicate(timeout=60)


def run_cell(code: str, line: int, namespace: dict[str, object]) -> str:
    """What a notebook shows for a cell."""
    tree = ast.parse("\n" * (line - 1) + code)
    *_, last = tree.body
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, str(TUTORIAL), "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), str(TUTORIAL), "eval"), namespace)
            if value is not None:
                print(repr(value))
    return printed.getvalue()


def blocks() -> Iterator[tuple[Block, Block | None]]:
    """The blocks to run, each with the one that shows its output."""
    all_blocks = [block for name, section in sections(TUTORIAL).items() if name != "Install" for block in section]
    for block, following in zip(all_blocks, [*all_blocks[1:], None], strict=True):
        if file_name(block) or block.language != "text":
            shows = following is not None and following.language == "text" and not file_name(following)
            yield block, following if shows else None


def file_name(block: Block) -> str | None:
    found = re.search(r"as `([\w.]+)`:$", block.before)
    return found and found[1]


def test_every_block_of_the_tutorial_runs_and_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("polars")
    pytest.importorskip("duckdb")
    pytest.importorskip("plotext")
    pytest.importorskip("matplotlib")
    folder = tmp_path / "new"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TZ", "UTC")
    namespace: dict[str, object] = {}
    shell = Shell(folder, tmp_path / "bin")
    try:
        for block, shown in blocks():
            if name := file_name(block):
                (folder / name).write_text(block.code)
                continue
            printed = shell.run(block.code) if block.language == "sh" else run_cell(block.code, block.line, namespace)
            place = f"{TUTORIAL.name}, line {block.line}"
            assert shell.errors() == "", place
            if shown is not None:
                assert stable(printed) == stable(shown.code), f"{place}:\n{printed}"
    finally:
        shell.close()
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")

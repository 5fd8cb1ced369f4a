"""How the tests are laid out: no test file imports another, and none is too long to be read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from support.schemas import TESTS

MAX_LINES = 1000

TEST_FILES = sorted(path for path in TESTS.rglob("test_*.py") if "data" not in path.relative_to(TESTS).parts)
PYTHON_FILES = sorted(path for path in TESTS.rglob("*.py") if "data" not in path.relative_to(TESTS).parts)
FOLDERS = {"checksums", "columns", "flatbuf", "framing", "project", "records", "recovery", "robustness", "stream"}


def name_of(path: Path) -> str:
    return path.relative_to(TESTS).as_posix()


def imports_of(text: str) -> set[str]:
    """The names of all modules that a source imports, and of what it takes from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module or ''}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\nimport " in f"\n{node.value}":
            # A script that runs in a process of its own.
            try:
                found |= imports_of(node.value)
            except SyntaxError:
                continue
    return found


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_no_file_imports_a_test_file(path: Path) -> None:
    tests = {test.stem for test in TEST_FILES}
    assert not {name for name in imports_of(path.read_text()) if tests & set(name.split("."))}


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_no_file_is_longer_than_a_thousand_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_every_test_file_is_in_a_folder_that_mirrors_the_package_and_has_a_name_of_its_own() -> None:
    assert {path.relative_to(TESTS).parts[0] for path in TEST_FILES} == FOLDERS
    assert len({path.stem for path in TEST_FILES}) == len(TEST_FILES)

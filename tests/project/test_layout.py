"""How the tests are laid out: no test file imports another, and none is too long to be read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from support.extent import in_one_test
from support.schemas import TESTS

MAX_LINES = 1000

TEST_FILES = sorted(path for path in TESTS.rglob("test_*.py") if "data" not in path.relative_to(TESTS).parts)
PYTHON_FILES = sorted(path for path in TESTS.rglob("*.py") if "data" not in path.relative_to(TESTS).parts)
FOLDERS = {
    "aio",
    "broker",
    "checksums",
    "cli",
    "columns",
    "description",
    "convert",
    "datasets",
    "engines",
    "faults",
    "flatbuf",
    "framing",
    "index",
    "journal",
    "json",
    "opening",
    "parser",
    "project",
    "records",
    "recovery",
    "robustness",
    "schemas",
    "serializers",
    "stream",
    "tools",
    "transforms",
}


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
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Scripts that run in a process of their own, and pieces of such scripts.
            found |= set(re.findall(r"(?m)^\s*(?:import|from) ([\w.]+)", node.value))
    return found


def test_no_file_imports_a_test_file() -> None:
    tests = {test.stem for test in TEST_FILES}
    imported = {
        name_of(path): sorted(name for name in imports_of(path.read_text()) if tests & set(name.split(".")))
        for path in PYTHON_FILES
        # Its own cases are such imports. Most files have no such name at all.
        if path != Path(__file__) and tests & set(re.findall(r"\btest_\w+", path.read_text()))
    }
    assert not {name: found for name, found in imported.items() if found}


@in_one_test
@pytest.mark.parametrize(
    "text",
    [
        "import test_columns",
        "import test_columns as here",
        "from test_columns import SHAPE",
        "from columns.test_columns import SHAPE",
        "from columns import test_columns",
        "def f():\n    from test_columns import SHAPE",
        'code = """\nimport test_columns as here\nhere.run()\n"""',
        'code = f"""\nimport test_columns as here\nhere.run({number})\n"""',
    ],
)
def test_import_of_a_test_file_is_seen_wherever_it_is(text: str) -> None:
    assert any("test_columns" in name.split(".") for name in imports_of(text))


def test_no_file_is_longer_than_a_thousand_lines() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in PYTHON_FILES}
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def test_every_test_file_is_in_a_folder_that_mirrors_the_package_and_has_a_name_of_its_own() -> None:
    assert {path.relative_to(TESTS).parts[0] for path in TEST_FILES} == FOLDERS
    assert len({path.stem for path in TEST_FILES}) == len(TEST_FILES)


def test_signals_of_a_clock_are_left_to_alarms() -> None:
    # They may come late: a handler that raises whenever it runs can end the whole test run.
    alarms = {"support/alarms.py", "robustness/test_alarms.py", name_of(Path(__file__))}
    names = r"\b(setitimer|interrupt_main|SIGALRM)\b"
    found = {name_of(path) for path in PYTHON_FILES if re.search(names, path.read_text())}
    assert found == alarms

"""The house: which module may import which, what an import brings in, and what a missing build says."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flatstream

PACKAGE = Path(flatstream.__file__).parent

# Each may import those before it; two in one row do not know each other.
ORDER = [
    {"errors"},
    {"_core"},
    {"checksums", "validation", "policy", "serialize"},
    {"framing"},
    {"_endpoints"},
    {"writer", "reader"},
    {"recovery"},
    {"_open"},
    {"columns"},
    {"schema"},
    {"__init__"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def imported_modules(path: Path) -> set[str]:
    """The modules of flatstream, by their first name below it, that a Python or Cython file imports."""
    text = path.read_text()
    if path.suffix == ".py":
        names = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative imports hide layers"
                names.add(node.module or "")
            elif isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
    else:
        names = set(re.findall(r"^\s*(?:from|c?import)\s+(flatstream[\w.]*)", text, re.MULTILINE))
    return {name.split(".")[1] for name in names if name.startswith("flatstream.")}


PYTHON_MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name not in ("_core", "flatbuf"))
CORE_SOURCES = sorted((PACKAGE / "_core").rglob("*.p[yx][xd]"))


def name_of(path: Path) -> str:
    """The layer that a module belongs to: its own name, or that of its wing."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", PYTHON_MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_layers_before_its_own(path: Path) -> None:
    own = name_of(path)
    assert own in RANK, f"{path.name} has no place in the order: give it one"
    for name in imported_modules(path) - ({own} if path.parent != PACKAGE else set()):
        assert RANK[name] < RANK[own], f"{own} imports {name}, which is not before it"


def test_core_sources_import_nothing_above_them_but_errors() -> None:
    if not CORE_SOURCES:
        # An installed wheel has none.
        assert not (PACKAGE.parent / "setup.py").exists()
        return
    for path in CORE_SOURCES:
        assert imported_modules(path) <= {"_core", "errors"}, path


def test_core_knows_nothing_of_files() -> None:
    for path in CORE_SOURCES:
        imports = set(re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE))
        assert not imports & {"io", "socket", "mmap", "pathlib", "select"}, path


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # -P: not the current folder, which may be a source tree.
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_import_brings_in_nothing_optional_and_no_builder() -> None:
    optional = ["numpy", "flatbuffers", "psutil", "pyarrow", "pandas", "polars", "ssl", "asyncio"]
    code = f"import sys, flatstream; print([name for name in {optional!r} if name in sys.modules])"
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_import_without_compiled_modules_fails_with_one_clear_line(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "flatstream", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    done = run_python("import flatstream", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: flatstream's compiled modules are missing: install the package")


def test_all_names_exist_and_are_sorted() -> None:
    assert flatstream.__all__ == sorted(flatstream.__all__)
    for name in flatstream.__all__:
        assert getattr(flatstream, name) is not None


def test_star_leaves_the_builtin_open_alone() -> None:
    names: dict[str, object] = {}
    exec("from flatstream import *", names)
    assert "StreamReader" in names
    assert "open" not in names
    assert callable(flatstream.open)


def test_sanitizer_build_is_really_sanitized() -> None:
    # `make test-sanitize` would show nothing if the modules were built without the sanitizers, or others were imported.
    from flatstream._core import decoder

    library = Path(decoder.__file__).read_bytes()
    assert (b"__asan_" in library) == (os.environ.get("FLATSTREAM_SANITIZED") == "1")
    assert (b"__ubsan_" in library) == (os.environ.get("FLATSTREAM_SANITIZED") == "1")

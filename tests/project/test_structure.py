"""The house: which module may import which, what an import brings in, and what a missing build says."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

import flatstream
from support.extent import in_one_test
from support.processes import run_python

PACKAGE = Path(flatstream.__file__).parent

# Python layers, lowest first. A module may import modules of lower layers only, and none of its own row.
LAYERS = [
    {"errors"},
    {"_core"},
    {"checksums", "validation", "memory_policy", "serialization", "serializers"},
    {"framing"},
    {"transforms"},
    {"_files"},
    {"_lock", "_startup_report"},
    {"_peeked", "_seek_table"},
    {"_compressed", "_remote"},
    {"_seekable"},
    {"_endpoints", "_at_exit"},
    {"_follow", "_mapped", "_ranges"},
    {"description"},
    {"_index_hook"},
    {"_message_reader", "_message_writer"},
    {"writer", "reader", "parser"},
    {"_file_types"},
    {"recovery", "detection"},
    {"_startup"},
    {"_finding", "_encrypted_tail"},
    {"_open"},
    {"_salvage", "_sealing"},
    {"columns"},
    {"schema"},
    {"records"},
    {"index"},
    {"journal"},
    {"aio", "nats"},
    {"tools"},
    {"datasets"},
    {"engines"},
    {"cli"},
    {"__init__", "__main__"},
]
LAYER_OF = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Rooms of the compiled core, lowest first. A room may import and cimport itself and the rooms before it.
ROOMS = [
    "base",
    "checksums",
    "flatbuf",
    "framing",
    "stream",
    "arrow",
    "records",
    "column_reader",
    "column_writer",
]

IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<package>flatstream[\w.]*)[ \t]+c?import[ \t]*(?P<names>\([^)]*\)|[^\n#]*)"
    r"|c?import[ \t]+(?P<module>flatstream[\w.]*)"
    r"|cdef[ \t]+extern[ \t]+from[ \t]+\"(?P<header>flatstream/[\w/.]*)\")",
    re.MULTILINE,
)


def imports_of_cython(text: str) -> set[str]:
    """The dotted names under flatstream that a Cython source imports, cimports or includes as a C header.

    ``from flatstream._core cimport base`` counts as ``flatstream._core.base``: the names that follow a package are
    appended to it, because any of them can be a module.
    """
    found: set[str] = set()
    for match in IMPORT.finditer(text):
        if match["header"]:
            found.add(match["header"].replace("/", "."))
        elif match["module"]:
            found.add(match["module"])
        else:
            names = re.findall(r"(\w+)(?:[ \t]+as[ \t]+\w+)?", match["names"])
            found.update(f"{match['package']}.{name}" for name in names)
    return found


def imports_of_python(text: str) -> set[str]:
    """The dotted names under flatstream that a Python source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide layers"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] == "flatstream"}


def imports_of(path: Path) -> set[str]:
    text = path.read_text()
    return imports_of_python(text) if path.suffix in (".py", ".pyi") else imports_of_cython(text)


def layers_in(names: set[str]) -> set[str]:
    return {parts[1] for parts in (name.split(".") for name in names) if len(parts) > 1}


def rooms_in(names: set[str]) -> set[str]:
    return {parts[2] for parts in (name.split(".") for name in names) if len(parts) > 2 and parts[1] == "_core"}


def layer_of(path: Path) -> str:
    """The layer of a module: its own name, or that of its package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


CORE = PACKAGE / "_core"
PYTHON_MODULES = sorted(path for path in PACKAGE.rglob("*.py") if CORE not in path.parents)
# An installed package has the stubs and no sources.
CORE_SOURCES = sorted(path for path in CORE.rglob("*") if path.suffix in (".pyx", ".pxd", ".pyi", ".py", ".h"))


@in_one_test
@pytest.mark.parametrize("path", PYTHON_MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_lower_layers(path: Path) -> None:
    own = layer_of(path)
    assert own in LAYER_OF, f"{path.name} has no layer: add it to LAYERS"
    for name in layers_in(imports_of(path)) - ({own} if path.parent != PACKAGE else set()):
        assert LAYER_OF[name] < LAYER_OF[own], f"{own} imports {name}, which is not a lower layer"


@in_one_test
@pytest.mark.parametrize("path", CORE_SOURCES, ids=lambda path: str(path.relative_to(CORE)))
def test_core_source_imports_only_its_room_and_rooms_before_it(path: Path) -> None:
    names = imports_of(path) if path.suffix != ".h" else set()
    # What fluent methods of the core return is made above it. Stubs are read by type checkers only.
    above = {"errors", "transforms"} if path.suffix == ".pyi" else {"errors"}
    assert layers_in(names) <= {"_core", *above}, "the compiled core imports nothing above it but the errors"
    if path == CORE / "__init__.py":
        assert not names
        return
    own = path.relative_to(CORE).parts[0]
    assert own in ROOMS, f"{own} is no room: add it to ROOMS"
    for room in rooms_in(names):
        assert room in ROOMS, f"{path.name} imports {room}, which is no room"
        assert ROOMS.index(room) <= ROOMS.index(own), f"{own} imports {room}, which comes after it"


def test_every_room_has_sources_and_every_source_is_in_a_room() -> None:
    assert {path.relative_to(CORE).parts[0] for path in CORE_SOURCES if path.parent != CORE} == set(ROOMS)
    assert [path.name for path in CORE_SOURCES if path.parent == CORE] == ["__init__.py"]
    if (PACKAGE.parent / "setup.py").exists():
        assert any(path.suffix == ".pyx" for path in CORE_SOURCES)


@in_one_test
@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from flatstream._core.stream.decoder cimport Decoder", "flatstream._core.stream.decoder.Decoder"),
        ("from flatstream._core.stream cimport decoder", "flatstream._core.stream.decoder"),
        ("from flatstream._core cimport stream as other", "flatstream._core.stream"),
        ("    from flatstream._core.stream.decoder import Decoder", "flatstream._core.stream.decoder.Decoder"),
        ("cimport flatstream._core.stream.decoder", "flatstream._core.stream.decoder"),
        ("import flatstream._core.stream.decoder as decoder", "flatstream._core.stream.decoder"),
        (
            "from flatstream._core.stream.decoder cimport (\n    One,\n    Two,\n)",
            "flatstream._core.stream.decoder.Two",
        ),
        ('cdef extern from "flatstream/_core/stream/x.h":', "flatstream._core.stream.x.h"),
    ],
)
def test_every_form_of_import_is_seen(line: str, name: str) -> None:
    assert name in imports_of_cython(f"x = 1\n{line}\ny = 2\n")


def test_core_knows_nothing_of_files() -> None:
    for path in CORE_SOURCES:
        imports = set(re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE))
        assert not imports & {"io", "socket", "mmap", "pathlib", "select"}, path


def test_import_brings_in_nothing_optional_and_no_builder() -> None:
    optional = ["numpy", "flatbuffers", "psutil", "pyarrow", "pandas", "polars", "ssl", "asyncio"]
    optional += ["prometheus_client", "opentelemetry", "argparse"]
    code = f"import sys, flatstream, flatstream.journal; print([name for name in {optional!r} if name in sys.modules])"
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_import_without_compiled_modules_fails_with_one_clear_line(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "flatstream", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    done = run_python("import flatstream", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: flatstream's compiled modules are missing: install the package")
    assert last.endswith(f"This Python is {sys.executable}")


def test_all_names_exist_and_are_sorted() -> None:
    assert flatstream.__all__ == sorted(flatstream.__all__)
    for name in {*flatstream.__all__, *flatstream._LAZY}:
        assert getattr(flatstream, name) is not None
        assert name in dir(flatstream)


def test_star_leaves_the_builtin_open_alone_and_datasets_to_those_who_have_pyarrow() -> None:
    names: dict[str, object] = {}
    exec("from flatstream import *", names)
    assert "StreamReader" in names
    assert not {"open", "Dataset", "dataset"} & names.keys()
    assert callable(flatstream.open)
    missing = "import sys; sys.modules.update(dict.fromkeys(['numpy', 'pyarrow']))\n"
    run_python(f"{missing}from flatstream import *").check_returncode()
    for name in ("Dataset", "dataset"):
        done = run_python(f"{missing}import flatstream\nflatstream.{name}")
        assert "pip install 'flatstream[columns]'" in done.stderr.splitlines()[-1]


def test_sanitizer_build_is_really_sanitized() -> None:
    # `make test-sanitize` would show nothing if the modules were built without the sanitizers, or others were imported.
    from flatstream._core.stream import decoder

    library = Path(decoder.__file__).read_bytes()
    assert (b"__asan_" in library) == (os.environ.get("FLATSTREAM_SANITIZED") == "1")
    assert (b"__ubsan_" in library) == (os.environ.get("FLATSTREAM_SANITIZED") == "1")

"""The compiled modules. Everything else about the build is in pyproject.toml.

Environment variables, for the project's own checks:

``FLATSTREAM_DEBUG=1``
    No optimization, debugging data, and bounds checks (see `make debug`).
``FLATSTREAM_SANITIZE=1``
    Address and undefined-behaviour sanitizers (see `make test-sanitize`).
``FLATSTREAM_COVERAGE=1``
    Line tracing in the compiled modules (see `make coverage`).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FLATSTREAM_DEBUG") == "1"
SANITIZE = os.environ.get("FLATSTREAM_SANITIZE") == "1"
COVERAGE = os.environ.get("FLATSTREAM_COVERAGE") == "1"

# -g0: Python's own flags ask for debugging data, which makes the modules five times as large.
compile_args = ["-O3", "-g0", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
link_args: list[str] = []
macros: list[tuple[str, str | None]] = []
if os.name == "nt":
    compile_args = ["/O2"]
if DEBUG:
    compile_args += ["-O0", "-g"]
if SANITIZE:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    compile_args = ["-O1", "-g", *flags]
    link_args = flags
if COVERAGE:
    compile_args = ["-O0"]
    macros = [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]

modules = [
    Extension(
        ".".join(source.with_suffix("").parts),
        [str(source)],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=macros,
        include_dirs=["."],
        depends=[str(header) for header in source.parent.glob("*.h")],
    )
    for source in sorted(Path("flatstream/_core").rglob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        modules,
        # The coverage plugin looks for the C files beside their sources.
        build_dir=None if COVERAGE else "build/cython",
        compiler_directives={
            "language_level": "3",
            "embedsignature": False,
            "linetrace": COVERAGE,
            "warn.undeclared": False,
            "warn.maybe_uninitialized": True,
        },
    )
)

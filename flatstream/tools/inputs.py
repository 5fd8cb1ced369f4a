"""The inputs of a tool: files, folders, patterns, pipes and URLs, each opened with what is known of it."""

from __future__ import annotations

import errno
import glob
import io
import os
import re
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.detection import Detection, detect
from flatstream.errors import InvalidFrameError
from flatstream.reader import StreamReader

if TYPE_CHECKING:
    from flatstream.schema import Schema, Table

__all__ = ["Input", "NotAStreamError", "Opened", "checksum_name", "expand", "load_schema"]

Kind = Literal["file", "journal", "pipe", "remote"]

# The name of standard input.
STDIN = "-"

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

# The endings of the files that a folder stands for, unless it is a journal.
ENDINGS = tuple(f".fs{ending}" for ending in ("", ".gz", ".bz2", ".xz", ".zst", ".lz4"))

# How many bytes of a pipe are looked at to find its checksum, before any of them is read as a frame.
HEAD = 1 << 20


class NotAStreamError(InvalidFrameError):
    """An input is no stream, or it is not certain what it is."""


@dataclass
class Opened:
    """An open input. Close it, best by a ``with`` statement.

    Attributes
    ----------
    reader : StreamReader
        A `JournalReader` if the input is a journal.
    checksum : str or None
        The name of the checksum.
    found_by : str or None
        "description", "detection", "journal" or "empty file"; None if the caller gave the checksum.
    description : Description or None
        The one that the stream begins with.
    tables : dict
        The tables that messages may have, by file identifier; "" for those without one.
    table : Table or None
        The table of the messages: the one that was asked for, or the only one.
    """

    reader: StreamReader
    checksum: str | None = None
    found_by: str | None = None
    description: Any = None
    tables: dict[str, Table] = field(default_factory=dict)
    table: Table | None = None

    def close(self) -> None:
        """Closes the reader."""
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Input:
    """One input of a tool, made by `expand`.

    Attributes
    ----------
    name : str
        The path or URL; "-" for standard input.
    kind : {"file", "journal", "pipe", "remote"}
        A pipe can be read once, and its size is not known.
    size : int or None
        In bytes; of a journal that of its segments. None if it is not known.
    """

    name: str
    kind: Kind
    size: int | None = None

    def open(
        self,
        checksum: Checksum | ChecksumType | str | None = None,
        schema: Schema | str | os.PathLike[str] | None = None,
        table: str | None = None,
        **options: Any,
    ) -> Opened:
        """Opens the input for reading.

        Parameters
        ----------
        checksum : Checksum, ChecksumType or str, optional
            By default it is found: from the stream's description, from `journal.json`, or by trying.
        schema : Schema or path, optional
            The schema of the messages, instead of the description's; a path is that of a schema file.
        table : str, optional
            The name or file identifier of the table that the messages have; the root by default.
        **options
            Those of `StreamReader` or `JournalReader`, such as `on_error` or `follow`.

        Raises
        ------
        NotAStreamError
            The input is no stream, or its checksum cannot be found.
        LookupError
            There is no such table.
        OSError
            It cannot be read.
        """
        made = None if schema is None else load_schema(schema)
        opened = self._open_reader(checksum, options)
        try:
            if made is not None:
                opened.tables = _tables_of(made)
                opened.table = pick_table(opened.tables, made, table)
            elif table is not None:
                raise LookupError(f"the stream has no schema in which to look for the table {table!r}")
        except BaseException:
            opened.close()
            raise
        return opened

    def _open_reader(self, checksum: Any, options: dict[str, Any]) -> Opened:
        if self.kind == "journal":
            from flatstream.journal import JournalReader

            reader = JournalReader(self.name, checksum, **options)
            return Opened(reader, _checksum_of(reader.deframer), None if checksum is not None else "journal")
        if self.kind == "remote":
            raise OSError(errno.EPROTONOSUPPORT, "URLs cannot be read", self.name)
        source: Any = self.name
        if self.kind == "pipe":
            file = sys.stdin.buffer if self.name == STDIN else io.FileIO(self.name, "rb")
            source = _Pipe(file, own=self.name != STDIN)
        elif not self.size and not options.get("follow") and checksum is None:
            # For the error of a file that cannot be read; an empty one has no frames with any checksum.
            return Opened(StreamReader(self.name, **options), None, "empty file")
        if checksum is not None:
            return Opened(StreamReader(source, checksum, **options), checksum_name(checksum))
        detection = source.detect() if isinstance(source, _Pipe) else detect(source)
        if detection is None:
            return Opened(StreamReader(source, **options), None, "empty file")
        if detection.checksum is None or detection.confidence < 1.0:
            raise NotAStreamError(_not_certain(detection))
        return Opened(StreamReader(source, detection.checksum, **options), detection.checksum.value, "detection")


def _not_certain(found: Detection) -> str:
    if found.checksum is None:
        return f"no stream: it looks like {found.looks_like or 'nothing that is known'}"
    frames = "frame" if found.frames == 1 else "frames"
    return (
        f"the checksum is not certain: {found.frames} {frames} would be intact with {found.checksum.value}; "
        "say which one it has"
    )


class _Pipe(io.RawIOBase):
    """A source that cannot seek, and whose first bytes can be looked at before they are read."""

    def __init__(self, file: Any, own: bool) -> None:
        super().__init__()
        self._file = file
        self._own = own
        self._head = bytearray()
        self._at = 0

    def detect(self) -> Detection | None:
        """Finds the checksum from no more bytes than needed, so that a slow pipe shows its first frames soon."""
        read = getattr(self._file, "read1", self._file.read)
        enough = 1
        best = None
        while len(self._head) < HEAD and (piece := read(HEAD - len(self._head))):
            self._head += piece
            if len(self._head) < enough:
                continue
            best = detect(self._head)
            if best.checksum is not None and best.confidence == 1.0:
                return best
            enough = 2 * len(self._head)
        return detect(self._head) if self._head else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._at < len(self._head):
            count = min(len(view), len(self._head) - self._at)
            view[:count] = self._head[self._at : self._at + count]
            self._at += count
            return count
        read = getattr(self._file, "readinto1", self._file.readinto)
        return read(view) or 0

    def close(self) -> None:
        if self._own and not self.closed:
            self._file.close()
        super().close()


def _checksum_of(deframer: Any) -> str:
    """The name of the checksum at the end of a chain of built-in deframers."""
    while (inner := getattr(deframer, "inner", None)) is not None:
        deframer = inner
    found = getattr(deframer, "checksum", None)
    return checksum_name(found)


def checksum_name(checksum: Checksum | ChecksumType | str | None) -> str:
    """The name by which a checksum is given to `flatstream.open`: ``"crc32"``. That of a custom one is its own."""
    made = as_checksum(checksum)
    return next((kind.value for kind in ChecksumType if type(kind.checksum()) is type(made)), made.name)


# Schemas


def load_schema(schema: Schema | str | os.PathLike[str]) -> Schema:
    """The schema itself, or that in a file.

    Raises
    ------
    OSError, FlatbufferError
        The file cannot be read, or has no schema.
    """
    from flatstream.schema import Schema

    return schema if isinstance(schema, Schema) else Schema.from_file(schema)


def _tables_of(schema: Schema) -> dict[str, Table]:
    root = schema.root
    return {} if root is None else {schema.file_identifier: root}


def pick_table(tables: dict[str, Table], schema: Schema | None, name: str | None) -> Table | None:
    """The table with this name or file identifier; without one the only table that there is.

    Raises
    ------
    LookupError
        There is no such table, or more than one and no name.
    """
    if name is None:
        if len(tables) <= 1:
            found = next(iter(tables.values()), None)
            if found is None and schema is not None:
                names = ", ".join(sorted(table.name for table in schema))
                raise LookupError(f"the schema declares no root_type: say which table it is, of {names}")
            return found
        return None
    if name in tables:
        return tables[name]
    known = {table.name: table for table in tables.values()}
    if schema is not None:
        known |= {table.name: table for table in schema}
    # The last part of a name is enough if only one table has it.
    same = [table for full, table in known.items() if full == name or full.rpartition(".")[2] == name]
    if name in known or len(same) == 1:
        return known.get(name) or same[0]
    raise LookupError(f"no table {name!r}: there are {', '.join(sorted(known)) or 'none'}")


# Paths


def expand(paths: Iterable[str | os.PathLike[str]]) -> list[Input]:
    """The inputs that paths stand for.

    Parameters
    ----------
    paths : iterable of paths
        Of files; of journals, which are folders; of other folders, which stand for the ``.fs`` files (compressed ones
        too) and the journals in them; patterns such as ``"*.fs"``; URLs; and "-" for standard input.

    Returns
    -------
    list of Input
        In the order of `paths`; those of a folder or pattern sorted by name. A path where nothing is becomes an input
        that raises FileNotFoundError when it is opened, so that the others can still be read.

    Raises
    ------
    ValueError
        A folder or a pattern stands for nothing; "-" comes twice.
    """
    inputs: list[Input] = []
    for path in paths:
        name = os.fspath(path)
        if name == STDIN:
            if any(one.name == STDIN for one in inputs):
                raise ValueError("'-' (standard input) can be read once only")
            inputs.append(Input(STDIN, "pipe"))
        elif URL.match(name):
            inputs.append(Input(name, "remote"))
        elif not os.path.lexists(name) and glob.has_magic(name):
            found = sorted(glob.glob(name, recursive=True))
            if not found:
                raise ValueError(f"no file matches {name!r}")
            for one in found:
                inputs += _of_path(one)
        else:
            inputs += _of_path(name)
    return inputs


def _of_path(path: str) -> list[Input]:
    try:
        status = os.stat(path)
    except OSError:
        # Opening it says why.
        return [Input(path, "file")]
    if stat.S_ISREG(status.st_mode):
        return [Input(path, "file", status.st_size)]
    if not stat.S_ISDIR(status.st_mode):
        return [Input(path, "pipe")]
    if (size := _journal_size(path)) is not None:
        return [Input(path, "journal", size)]
    inputs = []
    for name in sorted(os.listdir(path)):
        inside = os.path.join(path, name)
        if os.path.isdir(inside):
            if (size := _journal_size(inside)) is not None:
                inputs.append(Input(inside, "journal", size))
        elif name.endswith(ENDINGS):
            inputs += _of_path(inside)
    if not inputs:
        raise ValueError(f"the folder {path!r} is no journal, and has no files that end with .fs")
    return inputs


def _journal_size(path: str) -> int | None:
    """The size of a journal's segments; None if the folder is no journal."""
    from flatstream.journal._layout import MANIFEST, list_segments

    segments = list_segments(path)
    if not segments and not os.path.exists(os.path.join(path, MANIFEST)):
        return None
    return sum(os.stat(segment.path).st_size for segment in segments if os.path.exists(segment.path))

"""What the beginning of a file says: its checksum, its description, the table and the time of its messages."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from flatstream._endpoints import Source
from flatstream._finding import find_checksum
from flatstream._peeked import UnseekableFile
from flatstream.checksums import Checksum, ChecksumType
from flatstream.datasets._parts import OpenPart, Part
from flatstream.description._schemas import find_time
from flatstream.description.choice import choose_table
from flatstream.description.description import Description, checksum_name
from flatstream.detection import describe_head
from flatstream.errors import FlatbufferError, FlatStreamError
from flatstream.framing import Deframer, as_deframer
from flatstream.journal._layout import read_manifest
from flatstream.reader import StreamReader
from flatstream.tools._contradictions import check_table
from flatstream.tools._fields import field_at
from flatstream.tools._times import time_field
from flatstream.transforms.described import COMPRESSION, undoing

if TYPE_CHECKING:
    from flatstream.schema import Table
    from flatstream.transforms.ciphers import Cipher

__all__ = ["Head", "Options", "read_head", "time_said"]

# A head is read with one call if its description is not larger.
FIRST = 8 << 10

# That of the messages of indexes.
INDEX_TABLE = "flatstream.index.Entry"

# How many schemas are kept, of files that were read before.
KEPT_SCHEMAS = 64


@dataclass(frozen=True, slots=True)
class Options:
    """How the files of a dataset are read; see `flatstream.dataset`.

    Attributes
    ----------
    table : Table, str or None
        What the caller says of the messages of all files.
    undescribed : Table or None
        The table of files that do not describe their messages.
    time : (str, str or None) or None
        The path of the field with the time of a message, and its unit, if the caller says so.
    """

    checksum: Checksum | ChecksumType | str | None = None
    table: Table | str | None = None
    undescribed: Table | None = None
    on_error: Literal["raise", "skip", "stop", "resync"] = "raise"
    torn_end: Literal["stop", "raise"] = "stop"
    cipher: Cipher | None = None
    times: Literal["timestamp", "number", "s", "ms", "us", "ns"] = "timestamp"
    use_index: bool = True
    threads: int | None = None
    time: tuple[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """How the messages of one file are read.

    Attributes
    ----------
    checksum : Checksum or ChecksumType
        That of the frames.
    found_by : str
        "description", "detection", "journal", "given" or "empty file".
    description : Description or None
        The one that the stream begins with.
    table : Table or None
        That of the messages. None for a file without messages, or without messages of the table that is asked for.
    leaves_out : bool
        Whether messages of other tables are left out. Otherwise they are damage.
    time : (str, str) or None
        The path of the field with the time of a message, and its unit.
    compression : str or None
        How the whole file is compressed.
    begin : int
        Where the first frame behind the description begins.
    allow_empty : bool or None
        That of the StreamReader.
    middle : Deframer or None
        Finds the frames when reading begins behind the description; None if reading must begin at the first byte.
    """

    checksum: Checksum | ChecksumType
    found_by: str
    description: Description | None
    table: Table | None
    leaves_out: bool
    time: tuple[str, str] | None
    compression: str | None
    begin: int
    allow_empty: bool | None
    middle: Deframer | None

    @property
    def checksum_name(self) -> str:
        """The name of the checksum."""
        return checksum_name(self.checksum)


class _Tables:
    """The tables of descriptions by the bytes of their schemas, so that files of one schema share one table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Any, dict[str, Any]] = {}

    def share(self, description: Description) -> None:
        """Gives the description the tables of an earlier one with the same schemas."""
        key = (description.schemas, description.roots)
        with self._lock:
            known = self._known.pop(key, None)
            if known is not None:
                self._known[key] = known
                for name, value in known.items():
                    description._cache.setdefault(name, value)
                return
        # May raise for a damaged schema.
        _ = description.tables
        cache = description._cache
        made: dict[str, Any] = {name: cache[name] for name in ("tables", "several") if name in cache}
        with self._lock:
            self._known[key] = made
            while len(self._known) > KEPT_SCHEMAS:
                del self._known[next(iter(self._known))]


_tables = _Tables()


def read_head(part: Part, options: Options, guess: Checksum | ChecksumType | None = None) -> Head:
    """Reads the beginning of a part.

    Parameters
    ----------
    part : Part
        The file.
    options : Options
        What the caller says.
    guess : Checksum or ChecksumType, optional
        The checksum of another file of the dataset, which this one probably has too.

    Raises
    ------
    OSError
        It cannot be read.
    FlatStreamError, LookupError, TypeError, ValueError
        It is no stream, or its messages cannot be read as asked. The message has the path.
    """
    with part.open() as file:
        try:
            return _read(part, file, options, guess)
        except FlatStreamError as error:
            raise in_file(error, part.path) from None


def in_file(error: FlatStreamError, path: str) -> FlatStreamError:
    """The error, with the path of the file in its message."""
    if not error.message.startswith(path):
        error.message = f"{path}: {error.message}"
    return error


def _read(part: Part, file: OpenPart, options: Options, guess: Checksum | ChecksumType | None) -> Head:
    compression = file.compression
    allow_empty = False if part.kind == "segment" else None
    checksum: Checksum | ChecksumType
    found = None
    beginning = bytearray(FIRST)
    size = 0
    while size < FIRST and (taken := file.readinto(memoryview(beginning)[size:])):
        size += taken
    data = bytes(beginning[:size])
    if guess is not None:
        found = _described(data, guess)
    if found is None and data:
        described = describe_head(_Beginning(data, file))
        if described is not None and described.kind is not None:
            found = _described(described.frame, described.kind)
    if found is not None:
        description, checksum, begin = found
        return _head(part, options, checksum, "description", description, begin, compression, allow_empty)
    by = "given"
    if options.checksum is not None:
        checksum = _as_checksum(options.checksum)
    elif not data:
        return Head(ChecksumType.NONE, "empty file", None, None, False, None, compression, 0, allow_empty, None)
    elif part.journal is not None and (manifest := read_manifest(part.journal)) is not None and manifest.checksum:
        checksum, by = ChecksumType(manifest.checksum), "journal"
    else:
        with part.open() as again:
            raw = again.file
            seekable = raw if raw.seekable() else UnseekableFile(raw)
            detected = find_checksum(seekable, part.path)
        checksum, by = detected.checksum, detected.by
    # Nothing is described, or a description that is damaged or does not say its checksum.
    said: Description | None = None
    begin = 0
    if data:
        with part.open() as again, _reader(again, checksum, options, allow_empty) as reader:
            try:
                said = reader.description
                begin = reader.offset
            except FlatbufferError:
                # Whoever reads the first frame gets it.
                made = _head(part, options, checksum, by, None, 0, compression, allow_empty)
                return replace(made, middle=None)
    return _head(part, options, checksum, by, said, begin, compression, allow_empty)


class _Beginning:
    """The first bytes of a file, for `describe_head`."""

    def __init__(self, data: bytes, file: OpenPart) -> None:
        self._data = data
        self._file = file

    def __call__(self, size: int) -> bytes:
        while len(self._data) < size:
            more = bytearray(size - len(self._data))
            taken = self._file.readinto(more)
            if not taken:
                break
            self._data += more[:taken]
        return self._data[:size]


def _described(data: bytes, kind: Checksum | ChecksumType) -> tuple[Description, Checksum | ChecksumType, int] | None:
    """The description in the first bytes of a stream, its checksum and where it ends; None if there is no such."""
    # No messages are read, so the frame may be followed by part of another.
    with StreamReader(data, kind) as reader:
        try:
            description = reader.description
        except FlatStreamError:
            return None
        if description is None or description.checksum != checksum_name(kind):
            return None
        return description, kind, reader.offset


def _as_checksum(checksum: Checksum | ChecksumType | str) -> Checksum | ChecksumType:
    return ChecksumType(checksum) if isinstance(checksum, str) else checksum


def _reader(file: OpenPart, checksum: Any, options: Options, allow_empty: bool | None) -> StreamReader:
    arguments = {"readinto": file.readinto, "bytes_left": file.bytes_left}
    return StreamReader(Source(file, arguments), checksum, cipher=options.cipher, allow_empty=allow_empty)


def _head(
    part: Part,
    options: Options,
    checksum: Checksum | ChecksumType,
    by: str,
    description: Description | None,
    begin: int,
    compression: str | None,
    allow_empty: bool | None,
) -> Head:
    described = description
    if description is not None and description.schemas:
        try:
            _tables.share(description)
        except FlatbufferError:
            # A damaged schema, of a stream without a checksum.
            if options.undescribed is None:
                raise
            described = None
    if described is not None and described.schemas:
        table, leaves_out = _choose(part, described, options.table)
    else:
        table, leaves_out = options.undescribed, False
        if table is None:
            text = f"{part.path}: the file does not say of which table its messages are: "
            if isinstance(options.table, str):
                # A name chooses among the tables that files describe.
                raise ValueError(
                    f"{text}pass schema= beside table={options.table!r:.100}, as in "
                    "flatstream.dataset(paths, schema='events.fbs')"
                )
            raise ValueError(f"{text}pass table= or schema=, as in flatstream.dataset(paths, schema='events.fbs')")
    time = None
    if table is not None:
        time = find_time(table)
        if described is not None and described.schemas:
            root = next((root for root in described.roots if root.table == table.name), None)
            time = (
                None
                if root is None or root.time_field is None or root.time_unit is None
                else (root.time_field, root.time_unit)
            )
        try:
            time = time_said(table, options, time)
        except ValueError as error:
            raise ValueError(f"{part.path}: {error}") from None
    middle = None
    plain = as_deframer(checksum)
    undo = undoing(plain, options.cipher, allow_empty=allow_empty)
    transforms = () if description is None else description.transforms
    if options.cipher is None and all(transform.name == COMPRESSION for transform in transforms):
        middle = (undo(description) or plain) if transforms else plain
    return Head(checksum, by, description, table, leaves_out, time, compression, begin, allow_empty, middle)


def time_said(table: Table, options: Options, otherwise: tuple[str, str] | None) -> tuple[str, str] | None:
    """The field with the time of a table that the caller says, and its unit; `otherwise` if the caller says none.

    None if the table has no such field, as that of an older schema.

    Raises
    ------
    ValueError
        The field is no integer, or its unit is not known.
    """
    if options.time is None:
        return otherwise
    path, unit = options.time
    if field_at(table, path) is None:
        return None
    known = otherwise[1] if otherwise is not None and otherwise[0] == path else None
    found = time_field(table, path if unit is None else (path, unit), known)
    return found.path, found.unit


def _choose(part: Part, description: Description, wanted: Any) -> tuple[Table | None, bool]:
    """The table of the messages that are wanted, None if the stream has none of them; and whether it has others."""
    tables = description.tables
    if wanted is None:
        if any(table.name == INDEX_TABLE for table in tables.values()):
            raise ValueError(
                f"{part.path}: the file is an index, and no stream with messages of its own: give the path of the "
                "stream beside which it lies, and its index is used"
            )
        if len(tables) > 1:
            names = ", ".join(sorted(table.name for table in tables.values()))
            raise ValueError(
                f"{part.path}: the stream has messages of several tables ({names}): pass the name of one as table="
            )
        return next(iter(tables.values())), False
    if isinstance(wanted, str):
        try:
            found, one_of_several = choose_table(description, wanted, "dataset")
        except ValueError:
            return None, True
        return found, one_of_several
    same = next((table for table in tables.values() if table.name == wanted.name), None)
    if same is not None:
        check_table(wanted, description)
    return same, len(tables) > 1

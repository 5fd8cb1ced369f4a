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
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from flatstream._compressed import begins_compressed, decompressed
from flatstream._core.base.pickling import fail_to_pickle
from flatstream._endpoints import Source
from flatstream._finding import find_checksum
from flatstream._index_hook import COMPRESSED, SUFFIX, leftover_of_index
from flatstream._open import open as open_stream
from flatstream._open import open_found
from flatstream._peeked import PeekedFile, UnseekableFile
from flatstream.checksums import Checksum, ChecksumType
from flatstream.description.description import checksum_name as name_of_checksum
from flatstream.detection import detect
from flatstream.errors import FlatStreamError, InvalidFrameError
from flatstream.framing import deframer_for
from flatstream.reader import StreamReader
from flatstream.tools._contradictions import check_table
from flatstream.tools._foreign import FIRST, Foreign, look_at, what_is
from flatstream.transforms.described import CipherOfDescription, IfReadable, is_encrypted

if TYPE_CHECKING:
    from flatstream.schema import Schema, Table
    from flatstream.transforms.ciphers import Cipher

__all__ = [
    "Input",
    "NotAStreamError",
    "Opened",
    "UnreadableError",
    "checksum_name",
    "decompression",
    "expand",
    "is_index",
    "load_schema",
    "only_input",
    "open_stdin",
    "passed_over",
    "peeked_pipe",
    "pick_table",
]

FoundBy = Literal["description", "detection", "empty file", "journal"]
Kind = Literal["file", "journal", "pipe", "remote"]

# The name of standard input.
STDIN = "-"

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

# The endings of the files that a folder stands for, unless it is a journal.
ENDINGS = tuple(f".fs{ending}" for ending in ("", *COMPRESSED))

NO_STREAMS = (
    f"the folder is no journal, and has no journals and no files that end with {', '.join(ENDINGS)}; in folders below "
    "it, a pattern as 'folder/**/*.fs' finds them"
)


class NotAStreamError(InvalidFrameError):
    """An input is no stream, or it is not certain what it is.

    Attributes
    ----------
    path : str or None
        The name of the input.
    found : Foreign or None
        What it is, as far as that is known.
    """

    path: str | None = None
    found: Foreign | None = None

    @classmethod
    def of(cls, path: str, reason: str, found: Foreign | None = None) -> NotAStreamError:
        """The error for an input."""
        error = cls(reason)
        error.path, error.found = path, found
        return error

    @classmethod
    def of_foreign(cls, path: str, found: Foreign) -> NotAStreamError:
        """The error for an input of which it is known what it is, in fewer words than `flatstream.open` has for it."""
        return cls.of(path, f"it is {found.what}" if found.is_perhaps else f"no stream: it is {found.what}", found)


class UnreadableError(NotAStreamError):
    """An input is a stream whose messages cannot be read: its description names what cannot be undone."""


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
    compression : str or None
        How the input is compressed: "gzip", "zstd" and others.
    unreadable : str or None
        Why the reader gives what is stored, and not messages; see `Input.open`.
    """

    reader: StreamReader
    checksum: str | None = None
    found_by: FoundBy | None = None
    description: Any = None
    tables: dict[str, Table] = field(default_factory=dict)
    table: Table | None = None
    compression: str | None = None
    unreadable: str | None = None

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

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
    missing : str or None
        Why a folder or a pattern stands for nothing. Such an input, of the kind "file", cannot be opened.
    """

    name: str
    kind: Kind
    size: int | None = None
    missing: str | None = None

    def check_there(self) -> None:
        """Raises FileNotFoundError if this is a folder or a pattern that stands for nothing."""
        if self.missing is not None:
            raise FileNotFoundError(errno.ENOENT, self.missing, self.name)

    def open(
        self,
        checksum: Checksum | ChecksumType | str | None = None,
        schema: Schema | str | os.PathLike[str] | None = None,
        table: str | None = None,
        *,
        cipher: Cipher | CipherOfDescription | None = None,
        stored: bool | Literal["if unreadable"] = False,
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
        cipher : Cipher, optional
            For an encrypted stream. Any other is refused then.
        stored : bool or "if unreadable"
            Whether to read what is stored, and not the messages that the description says that it is of. Or only if
            messages cannot be restored; then `Opened.unreadable` says why.
        **options
            Those of `StreamReader` or `JournalReader`, such as `on_error` or `follow`.

        Raises
        ------
        NotAStreamError
            The input is no stream, or its checksum cannot be found.
        UnreadableError
            Its payloads are compressed or encrypted in a way that cannot be undone; or the key is another one.
        LookupError
            There is no such table, or the schema contradicts the stream's description.
        OSError
            It cannot be read, or stands for nothing.
        """
        self.check_there()
        made = None if schema is None else load_schema(schema)
        choice = IfReadable(cipher) if stored == "if unreadable" else None
        opened = self._open_reader(checksum, options, cipher if choice is None else choice, stored=stored is True)
        try:
            try:
                opened.description = opened.reader.description
                try:
                    opened.reader._check_readable()
                except InvalidFrameError as error:
                    # A damaged dictionary is damage, and another error.
                    raise UnreadableError.of(self.name, error.message) from error
                if choice is not None:
                    opened.unreadable = choice.unreadable
                if cipher is not None and stored is not True:
                    self._check_key(checksum, cipher, opened)
            finally:
                if checksum is not None and opened.description is None and self.kind == "file":
                    self._check_checksum(checksum)
            if made is not None:
                opened.tables = _tables_of(made)
            elif opened.description is not None:
                opened.tables = opened.description.tables
            if made is None and not opened.tables and table is not None:
                raise LookupError(f"the stream has no schema in which to look for the table {table!r}")
            # Of a described stream, all messages are of its roots.
            opened.table = pick_table(opened.tables, made, table)
            if made is not None:
                check_table(opened.table, opened.description)
        except BaseException:
            opened.close()
            raise
        return opened

    def _check_key(self, checksum: Any, cipher: Any, opened: Opened) -> None:
        """Raises UnreadableError if the cipher, or what stands for one, is not the one of the stream.

        With another key, each frame would be refused as a damaged one. Of a pipe, nothing can be read for that.
        """
        if isinstance(cipher, CipherOfDescription):
            if not cipher.has_key or opened.found_by == "empty file":
                return
            if opened.description is None:
                raise UnreadableError.of(
                    self.name, "a key is given, and no description says that the stream is encrypted, and how"
                )
        if self.kind != "file" or (opened.description is not None and not is_encrypted(opened.description)):
            return
        try:
            with self._open_reader(checksum, {"on_error": "resync"}, cipher, stored=False).reader as reader:
                reader.read_message()
                found = reader.encryption
        except (FlatStreamError, EOFError, OSError, LookupError):
            # Reading it says what is wrong.
            return
        if found is not None and found.refused and not found.parts:
            raise UnreadableError.of(
                self.name,
                "nothing of the stream can be decrypted: the key, its id, the algorithm or the context is another, or "
                "the first frame of each part is damaged",
            )

    def _open_reader(self, checksum: Any, options: dict[str, Any], cipher: Any, *, stored: bool) -> Opened:
        if self.kind == "journal":
            from flatstream.journal import JournalReader

            given = cipher.cipher if isinstance(cipher, IfReadable) else cipher
            if given is not None and not (isinstance(given, CipherOfDescription) and not given.has_key):
                raise UnreadableError.of(self.name, "a key is given, and journals are not encrypted")
            try:
                journal = JournalReader(self.name, checksum, **options)
            except ValueError as error:
                # Its checksum is another one.
                raise NotAStreamError.of(self.name, str(error)) from error
            return Opened(journal, journal.checksum, None if checksum is not None else "journal")
        try:
            if not stored:
                options = options | {"cipher": cipher}
            if self.kind == "pipe":
                reader, found_by = _open_pipe(self.name, checksum, options, stored=stored)
            else:
                reader = (
                    open_found(self.name, options)
                    if checksum is None
                    else open_stream(self.name, checksum=checksum, **options)
                )
                found_by = reader.checksum_found_by
                if stored:
                    name = reader.checksum
                    reader.close()
                    made = deframer_for(name if checksum is None else checksum)
                    reader = open_stream(self.name, deframer=made, **options)
        except NotAStreamError:
            raise
        except InvalidFrameError as error:
            if self.kind == "file":
                raise NotAStreamError.of_foreign(self.name, look_at(self.name)) from error
            reason = "no stream, or its checksum is not certain: then say which one it is"
            raise NotAStreamError.of(self.name, reason) from error
        except ValueError as error:
            # A URL of an unknown kind, for instance.
            raise NotAStreamError.of(self.name, str(error)) from error
        return Opened(reader, reader.checksum, found_by, compression=getattr(reader.source, "format", None))

    def _check_checksum(self, checksum: Any) -> None:
        """Raises NotAStreamError if the description of a file says another checksum, with which it is intact."""
        try:
            with open_stream(self.name) as reader:
                said = reader.checksum if reader.checksum_found_by == "description" else None
        except (FlatStreamError, OSError, EOFError, ValueError):
            # Reading it with the given checksum says what is wrong.
            return
        if said is not None and said != checksum_name(checksum):
            given = checksum_name(checksum)
            raise NotAStreamError.of(self.name, f"its checksum is {said}, as its description says, and not {given}")


def open_stdin() -> Any:
    """A raw file with what standard input has left. Closing it leaves standard input open."""
    try:
        return io.FileIO(sys.stdin.fileno(), "rb", closefd=False)
    except (OSError, ValueError):
        # Something else that takes its place.
        return sys.stdin.buffer


def peeked_pipe(file: Any, name: str) -> PeekedFile:
    """A raw file that cannot seek, or what it holds if it is compressed. Closing the result closes the file."""
    peeked = UnseekableFile(file)
    try:
        # No more bytes are waited for than the header of the first frame has.
        may_be_compressed = begins_compressed(peeked.peek(4), whole=False)
        return (decompressed(peeked, name) if may_be_compressed else None) or peeked
    except BaseException:
        peeked.close()
        raise


def _open_pipe(
    name: str, checksum: Any, options: dict[str, Any], *, stored: bool
) -> tuple[StreamReader, FoundBy | None]:
    """A reader of standard input or of a pipe with a name."""
    peeked = peeked_pipe(open_stdin() if name == STDIN else io.FileIO(name, "rb"), name)
    try:
        found = None if checksum is not None else find_checksum(peeked, name)
        deframer = checksum if found is None else found.checksum
        deframer = deframer_for(deframer) if stored else deframer
        source = Source(peeked, {"readinto": peeked.readinto}, owned=True)
        return StreamReader(source, deframer, **options), None if found is None else found.by
    except InvalidFrameError as error:
        with peeked:
            # More is not waited for.
            first = peeked.shown()[:FIRST]
            foreign = what_is(name, first, len(first) + (len(first) == FIRST), detect(first))
        raise NotAStreamError.of_foreign(name, foreign) from error
    except BaseException:
        peeked.close()
        raise


def decompression(compression: str | None, name: str) -> str:
    """What to do with a compressed file that is to be repaired, or that is cut off."""
    # Other programs have the names of the formats.
    program = {"Zstandard": "zstd", "LZ4": "lz4"}.get(compression or "", compression)
    command = f"{program} -dc {'FILE' if name == STDIN else name} > NEW"
    return f"{command} decompresses it as far as it goes, and flatstream salvage NEW OUT copies what is intact"


def checksum_name(checksum: Checksum | ChecksumType | str | None) -> str:
    """The name by which a checksum is given to `flatstream.open`; "none" for None."""
    return ChecksumType.NONE.value if checksum is None else name_of_checksum(checksum)


# Schemas


# What is behind the first four bytes of a file with a binary schema.
BINARY = b"BFBS"


def load_schema(schema: Schema | str | os.PathLike[str] | Input, table: str | None = None) -> Schema:
    """The schema itself, or that in a file, or the one with which a stream or journal describes itself.

    Parameters
    ----------
    schema : Schema, path or Input
        A text (``.fbs``), a binary schema, whatever its name is, or a stream.
    table : str, optional
        Of a stream with several schemas: the name or file identifier of a table of the one that is meant.

    Raises
    ------
    OSError, FlatbufferError, SchemaError
        The file cannot be read; the schema in it is wrong.
    NotAStreamError
        It is no schema, and no stream that describes one.
    LookupError
        There is no such table; or several schemas, and no table is given.
    """
    from flatstream.schema import Schema

    if isinstance(schema, Schema):
        return schema
    one = schema if isinstance(schema, Input) else only_input(schema)
    if one.kind == "file" and not os.path.isdir(one.name):
        with open(one.name, "rb") as file:
            first = file.read(8)
        if first[4:8] == BINARY or one.name.lower().endswith(".fbs"):
            return Schema.from_file(one.name)
    try:
        opened = one.open(stored=True)
    except NotAStreamError as error:
        raise NotAStreamError.of(one.name, f"no schema (.fbs or .bfbs), and {error}", error.found) from error
    with opened:
        tables, description = opened.tables, opened.description
    if not tables:
        raise NotAStreamError.of(one.name, "no schema (.fbs or .bfbs), and a stream that does not say its schema")
    if table is not None:
        found = pick_table(tables, description.schema, table)
        assert found is not None
        return found.schema
    if len({known.schema.to_bytes() for known in tables.values()}) > 1:
        names = ", ".join(known.name for known in tables.values())
        raise LookupError(f"it has several schemas, of the tables {names}: choose one by its table")
    return next(iter(tables.values())).schema


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


def expand(paths: Iterable[str | os.PathLike[str]], *, keep_missing: bool = False) -> list[Input]:
    """The inputs that paths stand for.

    Parameters
    ----------
    paths : iterable of paths
        Of files; of journals, which are folders; of other folders, which stand for the ``.fs`` files (compressed ones
        too) and the journals in them; patterns such as ``"*.fs"``; URLs; and "-" for standard input.
    keep_missing : bool
        Whether a folder or a pattern that stands for nothing becomes an input, too, which cannot be opened.

    Returns
    -------
    list of Input
        In the order of `paths`; those of a folder or pattern sorted by name. A path where nothing is becomes an input
        that raises FileNotFoundError when it is opened, so that the others can still be read. The indexes of other
        files match only patterns that end with ``.idx``, and unfinished ones (``.idx.partial-4711``) none.

    Raises
    ------
    ValueError
        A folder or a pattern stands for nothing, without `keep_missing`; "-" comes twice.
    """
    inputs: list[Input] = []

    def add(name: str, found: list[Input], missing: str) -> None:
        if not found and not keep_missing:
            raise ValueError(f"{name!r}: {missing}")
        inputs.extend(found or [Input(name, "file", None, missing)])

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
            if not name.endswith(SUFFIX):
                found = [one for one in found if not is_index(one)]
            found = [one for one in found if leftover_of_index(one) is None]
            if not found:
                add(name, [], "no file matches this pattern")
            for one in found:
                add(one, _of_path(one), NO_STREAMS)
        else:
            add(name, _of_path(name), NO_STREAMS)
    return inputs


def only_input(path: str | os.PathLike[str] | Input) -> Input:
    """The input that a path stands for; an Input is returned as it is.

    Raises
    ------
    ValueError
        It stands for nothing, or for several.
    """
    if isinstance(path, Input):
        return path
    inputs = expand([path])
    if len(inputs) != 1 or inputs[0].name != os.fspath(path):
        raise ValueError(f"{os.fspath(path)!r} stands for {len(inputs)} inputs: give each to a call of its own")
    return inputs[0]


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
    return inputs


def passed_over(path: str | os.PathLike[str]) -> int:
    """How many files of a folder `expand` leaves out, because their names do not end as those of streams.

    0 for a journal, and for anything that is no folder. Hidden files and the indexes of others do not count, and
    neither do unfinished indexes.
    """
    name = os.fspath(path)
    if not os.path.isdir(name) or _journal_size(name) is not None:
        return 0
    with os.scandir(name) as entries:
        return sum(
            entry.is_file()
            and not entry.name.startswith(".")
            and not entry.name.endswith(ENDINGS)
            and not is_index(entry.path)
            and leftover_of_index(entry.name) is None
            for entry in entries
        )


def is_index(path: str) -> bool:
    """Whether a file has the name of the index of another file that exists."""
    stem = path.removesuffix(SUFFIX)
    return stem != path and any(os.path.exists(stem + ending) for ending in ("", *COMPRESSED))


def _journal_size(path: str) -> int | None:
    """The size of a journal's segments; None if the folder is no journal."""
    from flatstream.journal._layout import MANIFEST, list_segments

    segments = list_segments(path)
    if not segments and not os.path.exists(os.path.join(path, MANIFEST)):
        return None
    return sum(os.stat(segment.path).st_size for segment in segments if os.path.exists(segment.path))

"""StreamReader: reads the messages of a stream."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, TypeVar, overload

from flatstream._core.stream.decoder import DEFAULT_RESYNC_WINDOW, Decoder, PayloadIterator, iterates_in_c
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._core.stream.memory_policy import MemoryPolicy
from flatstream._endpoints import Source, has_known_size, open_source, size_of
from flatstream._follow import follow_path
from flatstream.checksums import Checksum, ChecksumType
from flatstream.description import Description
from flatstream.description.choice import choose_table, choose_tables
from flatstream.description.description import checksum_name
from flatstream.errors import FlatStreamError
from flatstream.framing import Deframer, as_deframer, checksum_of
from flatstream.serialization import SelectedMessages, payload_decoder, required_comparer

if TYPE_CHECKING:
    from typing import Self, Unpack

    from flatstream._core.records.record_iterator import RecordIterator

    # What reading does at damage; see `StreamReader`.
    _OnError = Literal["raise", "skip", "stop", "resync"]

    _FoundBy = Literal["description", "detection", "empty file"]

__all__ = ["FrameBatch", "StreamReader"]

T = TypeVar("T")
BatchT_co = TypeVar("BatchT_co", covariant=True)
StreamT_co = TypeVar("StreamT_co", covariant=True)

DEFAULT_CAPACITY = 256 * 1024


class ColumnOptions(TypedDict, total=False):
    """The keyword arguments for reading columns, passed from a reader to a table; see `StreamReader.columns`."""

    verify: bool
    enums: Literal["dictionary", "number"]
    absent: Literal["default", "null"]
    on_error: _OnError | None
    on_other: Literal["raise", "skip"] | None
    progress: Callable[[int, int], object] | None
    max_depth: int
    max_tables: int
    max_apparent_size: int


class _Columnar(Protocol[BatchT_co, StreamT_co]):
    """A table of a schema, as far as a reader needs it. (Readers do not import schemas or columns.)"""

    def read_columns(
        self,
        reader: Decoder,
        fields: Iterable[str] | None = None,
        where: Any = None,
        **options: Unpack[ColumnOptions],
    ) -> BatchT_co: ...

    def read_column_batches(
        self,
        reader: Decoder,
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        batch_rows: int | None = 65_536,
        **options: Unpack[ColumnOptions],
    ) -> StreamT_co: ...


@iterates_in_c
class StreamReader(Decoder):
    """Reads the messages of a stream, as views that need no copy.

    A payload stays valid and unchanged for as long as it is held, whatever happens to the reader. It keeps its memory
    alive: a chunk, or the caller's buffer. Threads may share a reader: each frame is given once.

    Parameters
    ----------
    source : path, URL, socket, object with ``readinto(buffer)`` or ``read(size)``, or bytes-like object
        A path is opened, and closed by `close`; any other source stays open. A file is read from its position on. A
        compressed file at a path is decompressed, and a URL is opened through fsspec (docs/opening.md).
        Payloads of a bytes-like object are views of it: it cannot be resized or closed while they, or the reader, live.
    deframer : Deframer, Checksum, ChecksumType or its name, optional
        Finds the frames; without a checksum by default.
    capacity : int
        The size of a chunk: how many bytes are read at a time. A larger frame gets a larger chunk.
    memory_policy : MemoryPolicy, optional
        Decides when a chunk that grew for a large frame is given back.
    follow : bool
        The source is the path of a file that is being written (docs/following.md). Reads do not come to an end: they
        wait for further frames, as long as `read_message` is told, or until `close` is called in another thread. Half a
        frame is not there yet. After the last frame of a file that was renamed, deleted or replaced, a read raises
        OSError (ESTALE), as it does if the file was cut below the frames that were read.
    allow_empty : bool, optional
        False: an empty payload is damage, like the zeros that a power cut leaves; the default if `on_error` is given.
    on_error : {"raise", "skip", "stop", "resync"}
        At damage: raise; leave out refused frames, and raise other errors; end as at a clean end, with `stop_error`
        set; or leave out what is damaged, and go on at the next intact frames. A call's own `on_error` wins.
    resync_window : int
        How many bytes of one frame "resync" reads before it searches for others. A frame that is larger is read whole
        from a file of known size that has all of it, or from one that can seek, if so much of it holds no intact
        frames; a frame of a pipe or socket is then given up.

    Raises
    ------
    TypeError, ValueError, io.UnsupportedOperation
        An argument is wrong; the source is a text file, closed or write-only; the reader is closed.
    ChecksumMismatchError, ValidationFailedError
        From every read: the frame was read whole and refused. The next read gives the frame after it.
    FlatbufferError
        From the first read, at offset 0: the stream's description is damaged. The next read gives the first message.
    UnexpectedEofError, InvalidFrameError, OSError
        The stream ends inside a frame; a length is over the limit; the bytes are no frame; the source failed. Later
        reads raise the same, but after BlockingIOError and TimeoutError they go on.

    Notes
    -----
    "resync" first tries a damaged frame's own claim: if intact frames begin, or the stream ends, where it says that it
    ends, it alone is left out. Otherwise it searches for the nearest intact frames: one with a checksum of 4 bytes or
    more; several in a row with a weaker one; without a checksum, several that look like FlatBuffers, and a wrong length
    that leads to other bytes of the stream is not noticed. See docs/damage.md.

    Examples
    --------
    >>> with StreamReader(b"\\x03\\x00\\x00\\x00abc\\x01\\x00\\x00\\x00d") as reader:
    ...     [bytes(payload) for payload in reader]
    [b'abc', b'd']
    """

    _checksum_found_by: _FoundBy | None = None

    def __init__(
        self,
        source: Any,
        deframer: Deframer | Checksum | ChecksumType | str | None = None,
        *,
        capacity: int = DEFAULT_CAPACITY,
        memory_policy: MemoryPolicy | None = None,
        follow: bool = False,
        allow_empty: bool | None = None,
        on_error: _OnError = "raise",
        resync_window: int = DEFAULT_RESYNC_WINDOW,
    ) -> None:
        refuses_empty = allow_empty is None and on_error is not None and on_error != "raise"
        made = as_deframer(deframer, allow_empty=False if refuses_empty else allow_empty)
        if not isinstance(follow, bool):
            raise TypeError(f"follow must be a bool, got {follow!r:.100}")
        if follow and on_error not in ("raise", "skip", None):
            raise ValueError(f'with follow=True, on_error must be "raise" or "skip", got {on_error!r:.100}')
        endpoint = follow_path(source) if follow else open_source(source)
        arguments: dict[str, Any] = {
            "seekable": _can_seek(endpoint.target),
            "bytes_left": partial(_bytes_left, endpoint.target),
            "parse_description": Description.from_bytes,
        }
        try:
            super().__init__(
                made,
                capacity,
                memory_policy=memory_policy,
                on_error=on_error,
                resync_window=resync_window,
                allow_empty=allow_empty,
                **(arguments | endpoint.arguments),
            )
        except BaseException:
            if endpoint.owned:
                endpoint.target.close()
            raise
        self._endpoint: Source | None = endpoint

    @property
    def source(self) -> Any:
        """The source; None after `close` or `detach`."""
        return None if self._endpoint is None else self._endpoint.target

    @property
    def checksum(self) -> str | None:
        """The name of the checksum that frames are compared with, "none" without one; None for a deframer in Python."""
        algorithm = checksum_of(self.deframer)
        return None if algorithm is None else checksum_name(algorithm)

    @property
    def checksum_found_by(self) -> _FoundBy | None:
        """How `flatstream.open` has found the checksum: "description", "detection", or "empty file", which has none.

        None if it was given.
        """
        return self._checksum_found_by

    @property
    def description(self) -> Description | None:
        """What the stream says of itself in its first frame (docs/description.md); None if it says nothing.

        Before the first read it reads as far as this frame, and may wait for it (not for that of a file that is
        followed). It takes no message, and leaves damage to the first read.
        """
        return self._description  # type: ignore[no-any-return]

    def _newest_description(self) -> Description | None:
        """The description by which all messages can be read."""
        return self.description

    def messages(self, *, on_error: _OnError | None = None) -> Iterator[memoryview]:
        """An iterator over the payloads: the reader itself, or one with another `on_error`."""
        return self if on_error is None else PayloadIterator(self, on_error)

    # Typed reading

    def typed_messages(
        self, cls: type[T], *, on_error: _OnError | None = None, on_other: Literal["raise", "skip"] = "raise"
    ) -> Iterator[T]:
        """Iterates over the messages as instances of `cls`.

        `cls` has ``from_payload(payload)``, or is generated by flatc, with ``GetRootAs`` or ``InitFromPackedBuf``. If
        it cannot read the root of a payload, or generated code has another file identifier than the payload,
        FlatbufferError is raised, and the iterator can go on. With ``on_other="skip"``, payloads with another
        identifier are left out, and counted in the iterator's attribute `others`.
        """
        decode = self._decoder(cls)
        if _leaves_out_others(on_other):
            return SelectedMessages(self.messages(on_error=on_error), cls, decode)
        # map() and not a generator: a generator that has raised is at its end, so the next message could not be read.
        return map(decode, self.messages(on_error=on_error))

    def _decoder(self, cls: type[T]) -> Callable[[memoryview], T]:
        decode = payload_decoder(cls)

        def decode_here(payload: memoryview) -> T:
            try:
                return decode(payload)
            except FlatStreamError as error:
                if error.offset is None:
                    error.offset, error.frame = self.message_offset, self.message_number
                raise

        return decode_here

    def process_typed(
        self,
        cls: type[T],
        fn: Callable[[T], object],
        *,
        on_error: _OnError | None = None,
        on_other: Literal["raise", "skip"] = "raise",
    ) -> int:
        """`process_all` with ``fn(message)`` for each message, as an instance of `cls` (see `typed_messages`)."""
        decode = self._decoder(cls)
        _check_callable(fn)
        return self._process(lambda payload: fn(decode(payload)), cls, on_error, on_other)

    def process_typed_with_payload(
        self,
        cls: type[T],
        fn: Callable[[T, memoryview], object],
        *,
        on_error: _OnError | None = None,
        on_other: Literal["raise", "skip"] = "raise",
    ) -> int:
        """`process_typed` with ``fn(message, payload)``."""
        decode = self._decoder(cls)
        _check_callable(fn)
        return self._process(lambda payload: fn(decode(payload), payload), cls, on_error, on_other)

    def _process(
        self,
        fn: Callable[[memoryview], object],
        cls: type,
        on_error: _OnError | None,
        on_other: Literal["raise", "skip"],
    ) -> int:
        if not _leaves_out_others(on_other):
            return self.process_all(fn, on_error=on_error)
        other_identifier = required_comparer(cls)
        others = 0

        def process(payload: memoryview) -> None:
            nonlocal others
            if other_identifier(payload):
                others += 1
            else:
                fn(payload)

        return self.process_all(process, on_error=on_error) - others

    # Records, of a schema at run time

    def records(
        self,
        table: Any = None,
        *,
        verify: bool = True,
        on_error: _OnError | None = None,
        on_other: Literal["raise", "skip"] | None = None,
        where: Any = None,
        limit: int | None = None,
        progress: Callable[[int, int], object] | None = None,
        max_depth: int = 64,
        max_tables: int = 1_000_000,
        max_apparent_size: int = 2**31,
    ) -> RecordIterator:
        """Iterates over the messages, which are of `table`, as `RecordView` objects; each is valid while it is held.

        Without `table`, they are of the table that the stream's `description` names; if it names several, each message
        is of the table that has its file identifier, and there can be no `where`. A str chooses one of these tables, by
        its name or identifier, and messages of the others are left out (``on_other="skip"``).

        After a message that the verifier refuses (ValidationFailedError), the iterator can go on. Without `verify`, no
        access leads outside of a message; damage raises FlatbufferError when it is read. So does another file
        identifier than the schema's, whose root `table` is. `on_error` is about messages that are refused, too. With
        ``on_other="skip"`` those with another identifier are left out, and counted in the iterator's attribute
        `others`. See `Table.view` for limits. `where` selects records as in `columns`. After `limit` records the
        iterator ends, and reads no further. Every few thousand messages and at the end, ``progress(records, offset)``
        gets the records so far and the stream offset.
        """
        mixed = None
        if table is None or isinstance(table, str):
            table, is_one_of_several = choose_tables(self._newest_description(), table, "records")
            if isinstance(table, dict):
                mixed, table = table, next(iter(table.values()))
            elif is_one_of_several and on_other is None:
                on_other = "skip"
        _check_table(table, "read_records")
        options: dict[str, Any] = {
            "verify": verify,
            "on_error": on_error,
            "on_other": "raise" if on_other is None else on_other,
            "limit": limit,
            "progress": progress,
            "max_depth": max_depth,
            "max_tables": max_tables,
            "max_apparent_size": max_apparent_size,
        }
        if mixed is None:
            return table.read_records(self, where=where, **options)  # type: ignore[no-any-return]
        if where is not None:
            raise ValueError(
                "where= is about the fields of one table, and the stream has messages of several: pass the name of "
                f"one, as in records({table.name!r}, where=...)"
            )
        return table._read_mixed_records(mixed, self, **options)  # type: ignore[no-any-return]

    def write_json_lines(self, file: Any, table: Any = None, **options: Any) -> int:
        """Writes the messages, which are of `table`, to a binary file as JSON lines; returns how many lines it wrote.

        A table of the `description` can be left out or be named, as in `columns`. For options see `Table.json_lines`.
        The lines before an error are written.
        """
        table, options["on_other"] = self._chosen(table, options.get("on_other"), "write_json_lines")
        _check_table(table, "json_lines")
        if not callable(getattr(file, "write", None)):
            raise TypeError(f"file must have a method write(bytes), got {type(file).__name__}: {file!r:.100}")
        lines = table.json_lines(self, **options)
        for chunk in lines:
            _write_whole(file, chunk)
        return int(lines.lines)

    # Columns, of a schema at run time

    def _chosen(
        self, table: Any, on_other: Literal["raise", "skip"] | None, method: str
    ) -> tuple[Any, Literal["raise", "skip"]]:
        """The table that an argument stands for, and what happens to messages of others."""
        is_one_of_several = False
        if table is None or isinstance(table, str):
            table, is_one_of_several = choose_table(self._newest_description(), table, method)
        if on_other is None:
            on_other = "skip" if is_one_of_several else "raise"
        return table, on_other

    @overload
    def columns(
        self,
        table: _Columnar[BatchT_co, StreamT_co],
        fields: Iterable[str] | None = None,
        where: Any = None,
        **options: Unpack[ColumnOptions],
    ) -> BatchT_co: ...

    @overload
    def columns(
        self,
        table: str | None = None,
        fields: Iterable[str] | None = None,
        where: Any = None,
        **options: Unpack[ColumnOptions],
    ) -> Any: ...

    def columns(
        self,
        table: Any = None,
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        verify: bool = False,
        enums: Literal["dictionary", "number"] = "dictionary",
        absent: Literal["default", "null"] = "default",
        on_error: _OnError | None = None,
        on_other: Literal["raise", "skip"] | None = None,
        progress: Callable[[int, int], object] | None = None,
        max_depth: int = 64,
        max_tables: int = 1_000_000,
        max_apparent_size: int = 2**31,
    ) -> Any:
        """Reads all remaining messages, which are of `table` (see `Schema.root`), as columns, into a `ColumnBatch`.

        Without `table`, they are of the table that the stream's `description` names. A str chooses one of several that
        it names, by its name or file identifier, and messages of the others are left out (``on_other="skip"``).

        `fields` are paths: ``"name"``, ``"position.x"`` in a table or struct, ``"choice.Named.name"`` in a union's
        variant; the path of a table or struct selects all of its fields. By default all. ``where=(path, low, high)``
        selects messages whose value there is at least `low` and less than `high` (None leaves an end open), and
        ``where=(path, operator, value)`` those for which it is true: ==, !=, <, <=, >, >=, "in" and "not in" a list,
        "startswith" for strings. Of a list of conditions, all must hold. Enums are numbers or names; times of Python
        need the field's unit, "s", "ms", "us" or "ns", as one more item. For NaN and nulls, no condition holds. With
        ``absent="null"``, numbers that a message does not store are null, instead of their default. With `verify`,
        each message is verified first, with the limits of `Table.view`; otherwise only the offsets that are followed
        are checked. `enums` are read as names (in Arrow a dictionary) or numbers. `on_error` is about damaged messages,
        too; "stop" keeps the rows before it; `on_other` is about messages with another file identifier, see `records`.
        After each batch of frames, ``progress(rows, offset)`` gets the rows so far and the stream offset.

        KeyError, TypeError, ValueError: no such field, a path through a vector, a field selected twice.
        FlatbufferError: a damaged message. The rows before it are lost (not so in `column_batches`); reading can go on.
        ValueError: the reader follows a file, which has no end.
        """
        table, on_other = self._chosen(table, on_other, "columns")
        _check_table(table, "read_columns")
        if self._is_following:
            raise ValueError("the columns of a file that is followed have no end: use column_batches(batch_rows=None)")
        return table.read_columns(
            self,
            fields,
            where,
            verify=verify,
            enums=enums,
            absent=absent,
            on_error=on_error,
            on_other=on_other,
            progress=progress,
            max_depth=max_depth,
            max_tables=max_tables,
            max_apparent_size=max_apparent_size,
        )

    @overload
    def column_batches(
        self,
        table: _Columnar[BatchT_co, StreamT_co],
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        batch_rows: int | None = 65_536,
        **options: Unpack[ColumnOptions],
    ) -> StreamT_co: ...

    @overload
    def column_batches(
        self,
        table: str | None = None,
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        batch_rows: int | None = 65_536,
        **options: Unpack[ColumnOptions],
    ) -> Any: ...

    def column_batches(
        self,
        table: Any = None,
        fields: Iterable[str] | None = None,
        where: Any = None,
        *,
        batch_rows: int | None = 65_536,
        verify: bool = False,
        enums: Literal["dictionary", "number"] = "dictionary",
        absent: Literal["default", "null"] = "default",
        on_error: _OnError | None = None,
        on_other: Literal["raise", "skip"] | None = None,
        progress: Callable[[int, int], object] | None = None,
        max_depth: int = 64,
        max_tables: int = 1_000_000,
        max_apparent_size: int = 2**31,
    ) -> Any:
        """Reads messages as batches of columns, see `columns`. A `ColumnStream` is an iterator and an Arrow C stream.

        A batch has at most `batch_rows` rows; fewer at the end, before an error, and after 64 MiB of messages. With
        None, a batch has what one read gives, to follow a slow source or a file that grows. Errors come during the
        iteration: first the rows before a damaged message, then the error, then the rows behind it. Do not read from
        the reader meanwhile.
        """
        table, on_other = self._chosen(table, on_other, "column_batches")
        _check_table(table, "read_column_batches")
        return table.read_column_batches(
            self,
            fields,
            where,
            batch_rows=batch_rows,
            verify=verify,
            enums=enums,
            absent=absent,
            on_error=on_error,
            on_other=on_other,
            progress=progress,
            max_depth=max_depth,
            max_tables=max_tables,
            max_apparent_size=max_apparent_size,
        )

    # The end

    def close(self) -> None:
        """Closes the reader, and the source if the reader opened it. Payloads already handed out stay valid."""
        endpoint = self._endpoint
        if endpoint is None:
            return
        # First, because it raises in the middle of another operation.
        self._shut_down()
        self._endpoint = None
        if endpoint.owned:
            endpoint.target.close()

    def detach(self) -> tuple[Any, bytes | memoryview]:
        """Closes the reader and returns its source, open (for a path, the file), and the bytes that were not read.

        They were taken from the source already; if it is a buffer, they are a view of its rest.
        """
        if self._endpoint is None:
            raise ValueError("this StreamReader is closed")
        self._check_can_enter()
        endpoint, rest = self._endpoint, self._shut_down()
        if self._is_following:
            # It was read at explicit offsets, so that nothing was taken from it.
            rest = b""
            endpoint.target.seek(self.offset)
        self._endpoint = None
        return endpoint.target, rest

    @property
    def closed(self) -> bool:
        """Whether `close` or `detach` was called."""
        return self._endpoint is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"from {_source_text(self.source)}"
        return f"<StreamReader {state}, {self.frames_read} frames>"

    def _repr_html_(self) -> str:
        from flatstream._core.base.html_page import html_page

        rows: list[tuple[str, object]] = [
            ("source", "closed" if self.closed else _source_text(self.source)),
            ("checksum", self.checksum or f"{self.deframer!r:.100}"),
            ("messages read", f"{self.frames_read:,}"),
            ("offset", f"{self.offset:,}"),
        ]
        # Nothing is read for it.
        if self.offset and self.description is not None:
            rows.append(("description", self.description))
        if self.skipped:
            rows.append(("skipped", f"{self.skipped:,} messages, {self.lost_bytes:,} bytes"))
        return html_page("StreamReader", "", (), ("", ""), rows)


def _write_whole(file: Any, data: bytes) -> None:
    """Writes all bytes to a file, which may be a raw one that takes a part of them."""
    taken = file.write(data)
    # None from a raw file: it would block. From others: nothing to say.
    while isinstance(taken, int) and taken < len(data):
        if taken <= 0:
            raise OSError(f"write() took {taken} of {len(data)} bytes: {file!r:.100}")
        data = data[taken:]
        taken = file.write(data)
    if taken is None and isinstance(file, io.RawIOBase):
        raise BlockingIOError(errno.EAGAIN, f"the file takes no bytes now: {file!r:.100}")


def _source_text(source: Any) -> str:
    """A short text for a source: of memory its size, not its content."""
    if not hasattr(source, "read") and not hasattr(source, "recv"):
        try:
            return f"{type(source).__name__} of {memoryview(source).nbytes:,} bytes"
        except TypeError:
            pass
    return f"{source!r:.100}"


def _can_seek(source: Any) -> bool:
    try:
        return bool(source.seekable())
    except Exception:
        # It has no such method, or one that does not work.
        return False


def _bytes_left(source: Any) -> int:
    """How many bytes the source has that were not taken from it; 0 if that is not known."""
    return size_of(source) - source.tell() if has_known_size(source) else 0


def _check_callable(fn: Any) -> None:
    if not callable(fn):
        raise TypeError(f"fn must be callable, got {type(fn).__name__}")


def _leaves_out_others(on_other: Any) -> bool:
    if on_other not in ("raise", "skip"):
        raise ValueError(f"on_other must be 'raise' or 'skip', got {on_other!r:.100}")
    return bool(on_other == "skip")


def _check_table(table: Any, method: str) -> None:
    if isinstance(table, type) or not hasattr(table, method):
        raise TypeError(
            "table must be a Table of a schema (schema.root, or schema.table(name)), "
            f"got {type(table).__name__}: {table!r:.100}"
        )

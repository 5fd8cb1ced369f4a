"""What is read: streams, journals and files of messages. Each gives readers of frames, with messages as they are."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

from flatstream.reader import StreamReader
from flatstream.tools._contradictions import check_table
from flatstream.tools.conversion._files import open_binary
from flatstream.tools.conversion._formats import FORMATS
from flatstream.tools.conversion._frames import PIECE_BYTES, frames_of, unprefixed
from flatstream.tools.conversion._options import ArgumentError, Known, Options, known_of_description, table_for_columns
from flatstream.tools.inputs import Input, Opened, open_stdin, peeked_pipe

__all__ = ["FileSource", "PrefixedSource", "Source", "StreamSource"]


class Source(Protocol):
    """What a target takes messages from."""

    known: Known

    def readers(self) -> Iterator[StreamReader]:
        """Readers of all messages, one after another; each is read to its end before the next is asked for."""
        ...

    def position(self) -> int | None:
        """How many bytes of the source were read; None if that is not known."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class StreamSource:
    """A stream or a journal."""

    def __init__(self, one: Input, options: Options, *, may_decrypt: bool) -> None:
        self.opened: Opened = one.open(options.checksum, cipher=options.cipher, on_error=options.on_error)
        try:
            if self.opened.reader.encryption is not None and not may_decrypt:
                raise ArgumentError(
                    "the source is encrypted, and the new file would not be: pass decrypt=True (--decrypt) if it may "
                    "be read without the key"
                )
            description = self.opened.description or self.opened.reader.description
            known = Known() if description is None else known_of_description(description)
            known = replace(known, checksum=self.opened.checksum)
            self.known = known.with_schema(options)
            if options.schema is not None:
                check_table(self.known.table, description)
        except BaseException:
            self.opened.close()
            raise

    def readers(self) -> Iterator[StreamReader]:
        """The reader itself."""
        yield self.opened.reader

    def position(self) -> int | None:
        """The offset of the reader."""
        return self.opened.reader.offset

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.opened.close()


def _open_stdin(format: str) -> Any:
    """Standard input, which stays open; or what it holds if it is compressed, since no name says that."""
    if not FORMATS[format].compressible:
        return contextlib.nullcontext(sys.stdin.buffer)
    return io.BufferedReader(peeked_pipe(open_stdin(), "-"), 1 << 18)


class FileSource:
    """The parts that sources of other formats share: the file, and what is known without reading it."""

    format = ""

    def __init__(self, one: Input, compression: str, options: Options) -> None:
        self.name = one.name
        self.options = options
        self._context = _open_stdin(self.format) if one.name == "-" else open_binary(one.name, compression)
        self.file: Any = self._context.__enter__()
        try:
            self.known = self.read_known().with_schema(options)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def read_known(self) -> Known:
        """What the file itself says of its messages."""
        return Known()

    def readers(self) -> Iterator[StreamReader]:
        """See `Source`."""
        raise NotImplementedError

    def position(self) -> int | None:
        """How far the file was read."""
        try:
            return int(self.file.tell())
        except (OSError, ValueError):
            return None

    @property
    def title(self) -> str:
        """What the format is called in messages."""
        return FORMATS[self.format].title

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context.__exit__(error_type, error, traceback)


class PrefixedSource(FileSource):
    """Size-prefixed messages, one after another, which are framed as a stream without a checksum."""

    format = "fb"

    def readers(self) -> Iterator[StreamReader]:
        """The messages without their prefixes, aligned as messages of a stream are."""
        identifier = table_for_columns(self.known, self.title).schema.file_identifier.encode("latin-1")
        with StreamReader(self.file, on_error=self.options.on_error) as reader:
            for batch in reader.batches(max_bytes=PIECE_BYTES):
                yield self.options.read_piece(frames_of([unprefixed(payload, identifier) for payload in batch]))
            self.options.losses.note(reader)

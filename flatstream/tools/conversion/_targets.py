"""What is written: streams, size-prefixed messages and JSON lines, from one reader after another."""

from __future__ import annotations

import json
from typing import Any, Protocol

from flatstream._core.records.record_iterator import RecordIterator
from flatstream.description.description import Description, checksum_name
from flatstream.framing import Framer, framer_for
from flatstream.reader import StreamReader
from flatstream.schema import json_lines
from flatstream.tools.conversion._fields import Place, alignment_of
from flatstream.tools.conversion._formats import FORMATS
from flatstream.tools.conversion._frames import on_other, prefixed, selected_payloads
from flatstream.tools.conversion._options import ArgumentError, Known, Options, table_for_columns
from flatstream.transforms.described import ENCRYPTION, framer_with
from flatstream.writer import StreamWriter

__all__ = ["JsonTarget", "PrefixedTarget", "StreamTarget", "Target", "cell_text", "check_whole"]


class Target(Protocol):
    """What messages are written to.

    Attributes
    ----------
    messages : int
        How many messages were written.
    omitted : tuple of str
        The fields that the format cannot carry, and which were left out.
    checksum : str or None
        The checksum of a stream.
    """

    messages: int
    omitted: tuple[str, ...]
    checksum: str | None

    def write(self, reader: StreamReader) -> None:
        """Writes all messages of a reader."""
        ...

    def finish(self) -> None:
        """Writes what is at the end of the format. The file stays open."""
        ...

    def abort(self) -> None:
        """Lets go of the file after an error. What it still writes does not matter."""
        ...


def check_whole(options: Options, what: str) -> None:
    """Raises if fields were chosen for a format that has whole messages."""
    if options.fields is not None:
        raise ArgumentError(f"{what} has whole messages, so that no fields can be chosen: leave out fields=")


class StreamTarget:
    """A stream. Messages pass as they are."""

    omitted: tuple[str, ...] = ()

    def __init__(self, file: Any, known: Known, options: Options) -> None:
        check_whole(options, FORMATS["fs"].title)
        self.table = known.table
        self.options = options
        checksum = (known.checksum or "none") if options.to_checksum is None else options.to_checksum
        self.checksum = checksum_name(checksum)
        only = None if options.table is None else self.table
        description = known.describe(options, only) if options.describe else None
        framer = compressed_as_asked(framer_for(checksum), known, options)
        if description is not None:
            description = description.with_checksum(self.checksum)
        elif options.describe and framer.transforms:
            # Without it, no reader would know.
            description = Description(checksum=self.checksum)
        self.writer = StreamWriter(file, framer, buffer_size=1 << 18, describe=description)

    @property
    def messages(self) -> int:
        """How many were written."""
        return self.writer.frames_written

    def write(self, reader: StreamReader) -> None:
        """See `Target`."""
        for payloads in selected_payloads(reader, self.table, self.options):
            self.writer.write_payloads(payloads)

    def finish(self) -> None:
        """See `Target`."""
        self.writer.close()

    abort = finish


def compressed_as_asked(framer: Framer, known: Known, options: Options) -> Framer:
    """The framer with the compression of the options, or without one there, that of the source."""
    transforms = () if known.description is None else known.description.transforms
    if any(transform.name == ENCRYPTION for transform in transforms):
        raise ArgumentError("the source is encrypted, and the new file would not be: use a reader and a writer")
    if options.compressor is None:
        # Nobody could read it by itself without the description.
        return framer_with(framer, transforms) if options.describe else framer
    return framer if options.compressor == "none" else framer.compressed(options.compressor)


class PrefixedTarget:
    """Size-prefixed messages, one after another."""

    omitted: tuple[str, ...] = ()
    checksum = None

    def __init__(self, file: Any, known: Known, options: Options) -> None:
        title = FORMATS["fb"].title
        check_whole(options, title)
        self.file, self.options = file, options
        self.table = table_for_columns(known, title)
        self.identifier = self.table.schema.file_identifier.encode("latin-1")
        self.alignment = alignment_of(self.table)
        self.messages = 0

    def write(self, reader: StreamReader) -> None:
        """See `Target`."""
        for payloads in selected_payloads(reader, self.table, self.options):
            for payload in payloads:
                if len(payload) < 8:
                    raise ValueError(f"message {self.messages} has {len(payload)} bytes, and is no FlatBuffer")
                self.file.write(prefixed(payload, self.identifier, self.alignment))
                self.messages += 1

    def finish(self) -> None:
        """See `Target`."""

    abort = finish


def _plain(value: Any) -> list[int]:
    """Bytes as flatc has them in JSON."""
    return list(value)


def cell_text(value: Any) -> str:
    """A value of `RecordView.to_dict` as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


class JsonTarget:
    """JSON lines: an object for each message."""

    omitted: tuple[str, ...] = ()
    checksum = None

    def __init__(self, file: Any, known: Known, options: Options) -> None:
        self.file, self.options = file, options
        self.table = table_for_columns(known, FORMATS["jsonl"].title)
        if options.fields is not None:
            # For the error of a path that leads nowhere.
            self.table.arrow_schema(options.fields)
        self.places = {path: Place(self.table, path) for path in options.fields or ()}
        self.enums: Any = "number" if options.enums == "number" else "name"
        self.messages = 0

    def write(self, reader: StreamReader) -> None:
        """See `Target`."""
        records = reader.records(self.table, where=self.options.where, on_other=on_other(self.options, self.table))
        if self.options.fields is None:
            lines = json_lines(records, enums=self.enums, defaults=True)
            for chunk in lines:
                self.file.write(chunk)
                self.options.tick()
            self.messages += lines.lines
        else:
            self._write_fields(records)
        self.options.losses.others += records.others

    def _write_fields(self, records: RecordIterator) -> None:
        """Writes the values at some paths."""
        lines: list[str] = []
        for record in records:
            values = record.to_dict(enums=self.enums)
            lines.append(cell_text({path: place.value_in(values) for path, place in self.places.items()}))
            if len(lines) == 1000:
                self._put(lines)
        self._put(lines)

    def _put(self, lines: list[str]) -> None:
        if lines:
            self.file.write(("\n".join(lines) + "\n").encode())
            self.messages += len(lines)
            lines.clear()
            self.options.tick()

    def finish(self) -> None:
        """See `Target`."""

    abort = finish

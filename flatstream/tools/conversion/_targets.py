"""What is written: streams, size-prefixed messages and JSON lines, from one reader after another."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any, Protocol

from flatstream._core.records.record_iterator import RecordIterator
from flatstream.description.description import Description, checksum_name
from flatstream.framing import framer_for
from flatstream.reader import StreamReader
from flatstream.schema import json_lines
from flatstream.tools.conversion._compressors import SAMPLE_BYTES, as_compression, compressed
from flatstream.tools.conversion._fields import Place, alignment_of
from flatstream.tools.conversion._formats import FORMATS
from flatstream.tools.conversion._frames import on_other, prefixed, selected_payloads
from flatstream.tools.conversion._options import ArgumentError, Known, Options, table_for_columns
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
        self.file, self.known = file, known
        self.kind = (known.checksum or "none") if options.to_checksum is None else options.to_checksum
        self.checksum = checksum_name(self.kind)
        self.compression = as_compression(options.compressor)
        # The first messages, until there are enough of them to train a dictionary.
        self.sample: list[bytes] | None = [] if self.compression is not None and self.compression.trains else None
        self.sampled = 0
        self.writer = self._open() if self.sample is None else None

    def _open(self) -> StreamWriter:
        known, options = self.known, self.options
        only = None if options.table is None else self.table
        description = known.describe(options, only) if options.describe else None
        framer = compressed(framer_for(self.kind), self.compression, known, describe=options.describe)
        if description is not None:
            description = description.with_checksum(self.checksum)
        elif options.describe and framer.transforms:
            # Without it, no reader would know.
            description = Description()
        return StreamWriter(self.file, framer, buffer_size=1 << 18, describe=description)

    @property
    def messages(self) -> int:
        """How many were written."""
        return 0 if self.writer is None else self.writer.frames_written

    def write(self, reader: StreamReader) -> None:
        """See `Target`."""
        for payloads in selected_payloads(reader, self.table, self.options):
            if self.writer is not None:
                self.writer.write_payloads(payloads)
                continue
            assert self.sample is not None
            self.sample += map(bytes, payloads)
            self.sampled += sum(map(len, payloads))
            if self.sampled >= SAMPLE_BYTES:
                self._train()

    def _train(self) -> StreamWriter:
        """Makes the dictionary from the first messages, and writes them."""
        assert self.sample is not None
        assert self.compression is not None
        ends = accumulate(map(len, self.sample))
        self.compression = self.compression.trained(
            [message for message, end in zip(self.sample, ends, strict=True) if end <= SAMPLE_BYTES]
        )
        self.writer = self._open()
        self.writer.write_payloads(self.sample)
        self.sample = None
        return self.writer

    def finish(self) -> None:
        """See `Target`."""
        writer = self.writer or self._train()
        writer.close()

    def abort(self) -> None:
        """See `Target`."""
        if self.writer is not None:
            self.writer.close()


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

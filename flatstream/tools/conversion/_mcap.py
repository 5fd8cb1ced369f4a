"""MCAP: messages with their binary schemas, so that tools such as Foxglove show them."""

from __future__ import annotations

import base64
import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from flatstream.description import Description
from flatstream.reader import StreamReader
from flatstream.schema import Schema, Table
from flatstream.tools.conversion._formats import FORMATS
from flatstream.tools.conversion._frames import PIECE_BYTES, frames_of, selected_payloads
from flatstream.tools.conversion._options import ArgumentError, Known, Options, known_identifier, table_for_columns
from flatstream.tools.conversion._sources import FileSource
from flatstream.tools.conversion._targets import check_whole
from flatstream.tools.conversion._times import time_field_of

__all__ = ["McapSource", "McapTarget"]

ENCODING = "flatbuffer"

# The greatest log time, in nanoseconds since 1970: MCAP has an unsigned number of 64 bits.
MAX_TIME = 2**64 - 1

# The name of the metadata record with the description of the stream.
METADATA = "flatstream"


def load_mcap(module: str) -> Any:
    """A module of the library mcap.

    Raises
    ------
    ImportError
        It is not installed.
    """
    import importlib

    try:
        return importlib.import_module(f"mcap.{module}")
    except ImportError as error:
        raise ImportError("MCAP files need mcap: pip install 'flatstream[mcap]'") from error


class _Times:
    """The log times of the messages of one table."""

    def __init__(self, table: Table, known: Known, options: Options) -> None:
        self.table = table
        found = time_field_of(table, known, options.time_field, options.time_unit)
        if found is None:
            raise ArgumentError(
                f"MCAP needs a time for each message, and it is not known which field of {table.name} has it: "
                "pass time_field= (--time-field), as 'name:unit' if the name does not end with _s, _ms, _us or _ns"
            )
        self.names = found.path.split(".")
        self.path, self.unit = found.path, found.unit
        self.factor = found.nanoseconds

    def of(self, payload: Any, number: int) -> int:
        """The time of a message, in nanoseconds since 1970."""
        value: Any = self.table.view(payload, verify=False)
        for name in self.names:
            if value is None:
                return 0
            value = value[name]
        time: int = (value or 0) * self.factor
        if not 0 <= time <= MAX_TIME:
            raise ValueError(f"message {number}: MCAP cannot carry the time {value} {self.unit} of {self.path!r}")
        return time


class McapTarget:
    """An MCAP file with a channel for each table. Messages pass as they are."""

    omitted: tuple[str, ...] = ()
    checksum = None

    def __init__(self, file: Any, known: Known, options: Options) -> None:
        title = FORMATS["mcap"].title
        check_whole(options, title)
        writer = load_mcap("writer")
        self.options = options
        if options.table is not None or options.where is not None or not known.tables:
            only = table_for_columns(known, title)
            tables = {"": only}
        else:
            tables = dict(known.tables)
        self.only = next(iter(tables.values())) if len(tables) == 1 else None
        self.times = {
            identifier.encode("latin-1"): _Times(table, known, options) for identifier, table in tables.items()
        }
        kinds = writer.CompressionType
        compressions = {None: kinds.ZSTD, "zstd": kinds.ZSTD, "lz4": kinds.LZ4, "none": kinds.NONE}
        if options.compression not in compressions:
            raise ArgumentError(f"compression must be 'zstd', 'lz4' or 'none' for MCAP, got {options.compression!r}")
        self.writer = writer.Writer(file, compression=compressions[options.compression])
        self.writer.start(profile="", library="flatstream")
        self.channels = {}
        schemas: dict[Table, int] = {}
        for identifier, times in self.times.items():
            table = times.table
            if table not in schemas:
                schemas[table] = self.writer.register_schema(
                    name=table.name, encoding=ENCODING, data=table.schema.to_bytes()
                )
            self.channels[identifier] = self.writer.register_channel(
                topic=table.name,
                message_encoding=ENCODING,
                schema_id=schemas[table],
                metadata={"time_field": times.path, "time_unit": times.unit},
            )
        description = known.describe(options, self.only) if options.describe else None
        if description is not None:
            self.writer.add_metadata(METADATA, {"description": base64.b64encode(description.to_bytes()).decode()})
        self.messages = 0

    def write(self, reader: StreamReader) -> None:
        """See `Target`."""
        add = self.writer.add_message
        only = next(iter(self.times)) if len(self.times) == 1 else None
        for payloads in selected_payloads(reader, self.only, self.options):
            for payload in payloads:
                identifier = bytes(payload[4:8]) if only is None else only
                if identifier not in self.times and b"" in self.times:
                    # The table of all others.
                    identifier = b""
                if identifier not in self.times:
                    raise ValueError(
                        f"message {self.messages} has the file identifier {identifier!r} of no known table"
                    )
                time = self.times[identifier].of(payload, self.messages)
                add(
                    channel_id=self.channels[identifier],
                    log_time=time,
                    publish_time=time,
                    data=bytes(payload),
                    sequence=self.messages & 0xFFFFFFFF,
                )
                self.messages += 1

    def finish(self) -> None:
        """See `Target`."""
        self.writer.finish()

    def abort(self) -> None:
        """See `Target`."""


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Says that the file is damaged, whatever the library stumbles on: it has errors of many kinds."""
    try:
        yield
    except (MemoryError, GeneratorExit):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise ValueError(f"the MCAP file is damaged: {error or type(error).__name__}") from error


class McapSource(FileSource):
    """An MCAP file: the messages of its channels with FlatBuffers, in the order of the file."""

    format = "mcap"

    def read_known(self) -> Known:
        """See `FileSource`."""
        module = load_mcap("reader")
        if not self.file.seekable():
            raise ArgumentError("MCAP is read from its end: it cannot come from a pipe")
        with _reading():
            self.mcap = module.make_reader(self.file, validate_crcs=True)
            summary = self.mcap.get_summary()
        if summary is None:
            raise ValueError(
                "the MCAP file has no summary, so that it is not known what is in it: recover it with the tool mcap"
            )
        self.topics: list[str] = []
        found: dict[str, Table] = {}
        wanted = self.options.table
        for channel in summary.channels.values():
            schema = summary.schemas.get(channel.schema_id)
            if wanted is not None and wanted not in (channel.topic, None if schema is None else schema.name):
                continue
            if channel.message_encoding != ENCODING or schema is None or schema.encoding != ENCODING:
                kind = channel.message_encoding or "no encoding"
                raise ArgumentError(
                    f"the topic {channel.topic!r} has no FlatBuffers ({kind}): choose another one with table="
                )
            self.topics.append(channel.topic)
            table = Schema.from_bytes(schema.data).table(schema.name)
            found[channel.topic] = table
            self.channel = channel
        if wanted is not None and not found:
            topics = ", ".join(sorted(channel.topic for channel in summary.channels.values()))
            raise ArgumentError(f"no topic or table {wanted!r}: the MCAP file has {topics or 'none'}")
        return self._known_of(found)

    def _known_of(self, found: dict[str, Table]) -> Known:
        tables = list(dict.fromkeys(found.values()))
        time = None
        if len(tables) == 1 and len(found) == 1 and "time_field" in self.channel.metadata:
            time = (self.channel.metadata["time_field"], self.channel.metadata.get("time_unit", "ns"))
        description = self._description()
        checksum = None if description is None else description.checksum
        if len(tables) <= 1:
            is_chosen = self.options.table is not None and self.options.schema is None
            by_identifier = {known_identifier(table): table for table in tables}
            return Known(by_identifier, next(iter(tables), None), checksum, time, description, is_chosen)
        by_identifier = {table.schema.file_identifier: table for table in tables if table == table.schema.root}
        if len(by_identifier) < len(tables) or "" in by_identifier:
            # In a stream, nothing would tell these messages apart.
            raise ArgumentError(
                "the MCAP file has several topics whose messages have no file identifiers to tell them apart: "
                f"choose one with table=, of {', '.join(sorted(found))}"
            )
        return Known(by_identifier, checksum=checksum, description=description)

    def _description(self) -> Description | None:
        """The description that `McapTarget` put into the file."""
        with _reading():
            found: dict[str, str] = next(
                (one.metadata for one in self.mcap.iter_metadata() if one.name == METADATA), {}
            )
            text = found.get("description")
            return None if text is None else Description.from_bytes(base64.b64decode(text, validate=True))

    def readers(self) -> Iterator[StreamReader]:
        """The messages, in the order of the file."""
        payloads: list[bytes] = []
        size = 0
        with _reading():
            for _, _, message in self.mcap.iter_messages(topics=self.topics, log_time_order=False):
                payloads.append(message.data)
                size += len(message.data)
                if size >= PIECE_BYTES:
                    yield self.options.read_piece(frames_of(payloads))
                    payloads, size = [], 0
        yield self.options.read_piece(frames_of(payloads))

"""The same telemetry events written to a file and read back in other formats, for comparison with this package.

There are two kinds of work, each with the same events for every peer:

- `Framing`: finished messages (the FlatBuffers of the events) go into the format's container and come back as bytes.
This
  measures the cost of the container.
- `Events`: from dicts to a file, and from the file to sums over five fields (two integers, a float, a string, a number
  of each core). This measures the cost for a user, serialization included.

Both are measured from opening the file to closing it. The file is in a temporary directory, and its pages stay in
memory; the time of the system to copy the bytes is part of every figure. asv warms up each benchmark for 0.1 s, and
`setup` makes its inputs; calls share nothing else. Every call asserts its result: the size of the file that it wrote,
or the values that it read.

Messages are written and read one by one, as in a capture program and its reader, unless the peer works otherwise. No
peer compresses. The peers offer different features, which matters for every comparison:

===================== =============================== ============== ===================================================
peer                  checksum, checked when reading  schema in file remarks
===================== =============================== ============== ===================================================
flatstream            none; or each message's CRC-32  no             a torn end is distinguished from a clean end, with
                      or XXH3-64                                     its offset
struct                none; or each message's CRC-32  no             written by hand around `struct` and `zlib`; a torn
                                                                     end is detected
mcap                  CRC-32 of each chunk of 1 MiB   yes            an index by time and channel, with its own CRC-32.
                                                                     Pure Python
protobuf              none                            no             varint lengths, in Python; for protobuf messages by
                                                                     the package's helpers. The messages themselves are
                                                                     read and written in C
msgpack               none                            names in every a reader needs no schema. In C
                                                      message
fastavro              none                            yes            a container file: blocks of 16 kB, separated by
                                                                     markers where reading can begin. In C. It gets all
                                                                     messages in one call
pyarrow               none                            yes            an IPC stream of batches of 1,000 events; columns
                                                                     are read and summed in C++, without an object per
                                                                     event. It gets a batch in one call
===================== =============================== ============== ===================================================

Avro also has messages without a container ("schemaless"), which would need another framing, so its own file format is
measured. Reading a FlatBuffer does not decode it: only the accessed fields are decoded.
flatstream, mcap and struct carry any bytes. In `Events`, flatstream and mcap carry FlatBuffers. Those of mcap are built
and read by generated code with the flatbuffers package. Those of flatstream are built and read by its schema, with the
checksum XXH3-64: as records, one by one, and as columns. Columns are made of the dicts and summed up by Arrow, as
those of pyarrow are.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

import fastavro
import mcap.reader
import mcap.writer
import msgpack
import pyarrow
import pyarrow.compute
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, proto

import flatstream

from .common import Benchmark
from .telemetry_event import (
    CORE_FIELDS,
    EVENT_FIELDS,
    EXAMPLES,
    Totals,
    add_up,
    add_up_flatbuffers,
    build_events,
    make_events,
    make_payloads,
)


def count_bytes(payloads: Iterable[bytes | memoryview]) -> tuple[int, int]:
    """The number of payloads and their total size."""
    lengths = list(map(len, payloads))
    return len(lengths), sum(lengths)


def totals_of(events: Iterable[Any]) -> Totals:
    """The sums over events whose fields are attributes."""
    count = sequence = memory_available = host_characters = 0
    load_1 = core_user = 0.0
    for event in events:
        count += 1
        sequence += event.sequence
        memory_available += event.memory_available
        load_1 += event.load_1
        host_characters += len(event.host)
        for core in event.cores:
            core_user += core.user
    return Totals(count, sequence, memory_available, load_1, host_characters, core_user)


class Peer(ABC):
    """A format, through the package that implements it."""

    @abstractmethod
    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        """Write finished bytes."""

    @abstractmethod
    def read_framed(self, path: str) -> tuple[int, int]:
        """Read them back, and return `count_bytes` of them."""

    @abstractmethod
    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        """Serialize and write events."""

    @abstractmethod
    def read_events(self, path: str) -> Totals:
        """Read and decode them, and return their totals."""


class FlatBufferPeer(Peer):
    """A container for bytes of any kind; for events it carries FlatBuffers."""

    @abstractmethod
    def open_payloads(self, path: str) -> AbstractContextManager[Iterable[bytes | memoryview]]:
        """The payloads in a file, one after another."""

    def read_framed(self, path: str) -> tuple[int, int]:
        with self.open_payloads(path) as payloads:
            return count_bytes(payloads)

    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        self.write_framed(path, build_events(events))

    def read_events(self, path: str) -> Totals:
        with self.open_payloads(path) as payloads:
            return add_up_flatbuffers(payloads)


class FlatStream(FlatBufferPeer):
    """This package, which carries bytes."""

    def __init__(self, checksum: str) -> None:
        self.checksum = checksum

    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        with flatstream.open(path, "w", checksum=self.checksum) as writer:
            for payload in payloads:
                writer.write_payload(payload)

    def open_payloads(self, path: str) -> AbstractContextManager[Iterable[memoryview]]:
        return flatstream.open(path, checksum=self.checksum)


class ByHand(FlatBufferPeer):
    """The same bytes as flatstream, without a checksum or with CRC-32, made with `struct`."""

    def __init__(self, checksum: str) -> None:
        self.has_checksum = {"none": False, "crc32": True}[checksum]

    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        with open(path, "wb") as file:
            for payload in payloads:
                if self.has_checksum:
                    file.write(struct.pack("<II", len(payload), zlib.crc32(payload)))
                else:
                    file.write(struct.pack("<I", len(payload)))
                file.write(payload)

    @contextlib.contextmanager
    def open_payloads(self, path: str) -> Iterator[Iterable[bytes]]:
        with open(path, "rb") as file:
            yield self.payloads(file)

    def payloads(self, file: BinaryIO) -> Iterator[bytes]:
        while header := file.read(8 if self.has_checksum else 4):
            if self.has_checksum:
                length, checksum = struct.unpack("<II", header)
            else:
                (length,) = struct.unpack("<I", header)
            payload = file.read(length)
            if len(payload) != length:
                raise EOFError("torn")
            if self.has_checksum and zlib.crc32(payload) != checksum:
                raise ValueError("damaged")
            yield payload


class Mcap(FlatBufferPeer):
    """MCAP: chunks of 1 MiB with CRCs and indexes, which are the defaults, but without its default compression.

    The reader is set to check the CRCs of the chunks, which it does not do by default, and to keep the order of the
    file, which is faster than the order by time.
    """

    schema = (EXAMPLES / "telemetry.bfbs").read_bytes()

    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        with open(path, "wb") as file:
            writer = mcap.writer.Writer(file, compression=mcap.writer.CompressionType.NONE)
            writer.start()
            schema_id = writer.register_schema("telemetry.Event", "flatbuffer", self.schema)
            channel_id = writer.register_channel("telemetry", "flatbuffer", schema_id)
            for number, payload in enumerate(payloads):
                # The annotation asks for bytes, but a view works as well: the writer copies it immediately.
                writer.add_message(
                    channel_id,
                    log_time=number,
                    data=payload,  # type: ignore[arg-type, unused-ignore]
                    publish_time=number,
                    sequence=number,
                )
            writer.finish()

    @contextlib.contextmanager
    def open_payloads(self, path: str) -> Iterator[Iterable[bytes]]:
        with open(path, "rb") as file:
            reader = mcap.reader.make_reader(file, validate_crcs=True)
            yield (message.data for _, _, message in reader.iter_messages(log_time_order=False))


def make_protobuf_class() -> Any:
    """The class that protoc would generate for the event, with fields numbered from 1 in their order."""
    kinds = descriptor_pb2.FieldDescriptorProto
    types = {
        "bool": kinds.TYPE_BOOL,
        "uint": kinds.TYPE_UINT32,
        "ulong": kinds.TYPE_UINT64,
        "float": kinds.TYPE_FLOAT,
        "double": kinds.TYPE_DOUBLE,
        "string": kinds.TYPE_STRING,
    }
    file = descriptor_pb2.FileDescriptorProto(name="telemetry.proto", package="telemetry", syntax="proto3")
    for name, fields in (("CpuTimes", CORE_FIELDS), ("Event", EVENT_FIELDS)):
        message = file.message_type.add(name=name)
        for number, (field_name, kind) in enumerate(fields.items(), start=1):
            field = message.field.add(name=field_name, number=number, label=kinds.LABEL_OPTIONAL)
            if kind == "[CpuTimes]":
                field.label, field.type, field.type_name = (
                    kinds.LABEL_REPEATED,
                    kinds.TYPE_MESSAGE,
                    ".telemetry.CpuTimes",
                )
            else:
                field.type = types[kind]
    # A separate pool avoids conflicts with other messages of these names.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("telemetry.Event"))


class Protobuf(Peer):
    """Messages preceded by their length as a varint, as protobuf's tools write several messages to a file.

    The message class is made at run time, in the same way in which an import of generated code makes its classes.
    """

    event_class = make_protobuf_class()

    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        with open(path, "wb") as file:
            for payload in payloads:
                length = len(payload)
                while length > 0x7F:
                    file.write(bytes((length & 0x7F | 0x80,)))
                    length >>= 7
                file.write(bytes((length,)))
                file.write(payload)

    def read_framed(self, path: str) -> tuple[int, int]:
        with open(path, "rb") as file:
            return count_bytes(self.payloads(file))

    def payloads(self, file: BinaryIO) -> Iterator[bytes]:
        while byte := file.read(1):
            length, shift = byte[0] & 0x7F, 7
            while byte[0] > 0x7F:
                byte = file.read(1)
                length |= (byte[0] & 0x7F) << shift
                shift += 7
            payload = file.read(length)
            if len(payload) != length:
                raise EOFError("torn")
            yield payload

    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        file: Any  # the annotation asks for BytesIO; by the documentation, any buffered file works
        with open(path, "wb") as file:
            for event in events:
                proto.serialize_length_prefixed(self.event_class(**event), file)

    def read_events(self, path: str) -> Totals:
        with open(path, "rb") as file:
            return totals_of(self.events(file))

    def events(self, file: Any) -> Iterator[Any]:
        while (event := proto.parse_length_prefixed(self.event_class, file)) is not None:
            yield event


class MessagePack(Peer):
    """A sequence of objects: `bin` for bytes, a map with field names for an event."""

    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        self.write(path, payloads)

    def read_framed(self, path: str) -> tuple[int, int]:
        with open(path, "rb") as file:
            return count_bytes(msgpack.Unpacker(file))

    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        self.write(path, events)

    def read_events(self, path: str) -> Totals:
        with open(path, "rb") as file:
            return add_up(msgpack.Unpacker(file))

    def write(self, path: str, objects: Iterable[Any]) -> None:
        packer = msgpack.Packer()
        with open(path, "wb") as file:
            for each in objects:
                file.write(packer.pack(each))


def make_avro_schema() -> Any:
    """The schema of the event. Avro has no unsigned numbers; no value here needs more than 63 bits."""
    core = [{"name": field, "type": kind} for field, kind in CORE_FIELDS.items()]
    types = {
        "bool": "boolean",
        "uint": "long",
        "ulong": "long",
        "float": "float",
        "string": "string",
        "[CpuTimes]": {"type": "array", "items": {"type": "record", "name": "CpuTimes", "fields": core}},
    }
    event = [{"name": field, "type": types[kind]} for field, kind in EVENT_FIELDS.items()]
    return fastavro.parse_schema({"type": "record", "name": "telemetry.Event", "fields": event})


class Avro(Peer):
    """A container file with the default codec, `null`."""

    event_schema = make_avro_schema()

    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        self.write(path, "bytes", payloads)

    def read_framed(self, path: str) -> tuple[int, int]:
        with open(path, "rb") as file:
            return count_bytes(self.objects(file))

    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        self.write(path, self.event_schema, events)

    def read_events(self, path: str) -> Totals:
        with open(path, "rb") as file:
            return add_up(self.objects(file))

    def write(self, path: str, schema: Any, objects: Iterable[Any]) -> None:
        with open(path, "wb") as file:
            fastavro.writer(file, schema, objects)

    def objects(self, file: BinaryIO) -> Iterator[Any]:
        return iter(fastavro.reader(file))


def make_arrow_schema() -> Any:
    """The schema of the event."""
    types = {
        "bool": pyarrow.bool_(),
        "uint": pyarrow.uint32(),
        "ulong": pyarrow.uint64(),
        "float": pyarrow.float32(),
        "string": pyarrow.string(),
        "[CpuTimes]": pyarrow.list_(pyarrow.struct([(field, pyarrow.float64()) for field in CORE_FIELDS])),
    }
    return pyarrow.schema([(field, types[kind]) for field, kind in EVENT_FIELDS.items()])


class Arrow(Peer):
    """An IPC stream of record batches.

    Writing turns events into columns. Reading keeps the columns, and Arrow calculates the sums. Payloads are a binary
    column, and reading makes a `bytes` object of each.
    """

    events_per_batch = 1000
    payload_schema = pyarrow.schema([("payload", pyarrow.binary())])
    event_schema = make_arrow_schema()

    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        with pyarrow.ipc.new_stream(path, self.payload_schema) as writer:
            for batch in self.batches(payloads):
                column = pyarrow.array(batch, pyarrow.binary())
                writer.write_batch(pyarrow.record_batch([column], schema=self.payload_schema))

    def read_framed(self, path: str) -> tuple[int, int]:
        with pyarrow.OSFile(path) as file, pyarrow.ipc.open_stream(file) as reader:
            return count_bytes(payload for batch in reader for payload in batch.column("payload").to_pylist())

    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        with pyarrow.ipc.new_stream(path, self.event_schema) as writer:
            for batch in self.batches(events):
                writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=self.event_schema))

    def read_events(self, path: str) -> Totals:
        with pyarrow.OSFile(path) as file, pyarrow.ipc.open_stream(file) as reader:
            return sum_of(self.add_up(batch) for batch in reader)

    @staticmethod
    def add_up(batch: Any) -> Totals:
        total = pyarrow.compute.sum
        cores = pyarrow.compute.list_flatten(batch.column("cores"))
        return Totals(
            batch.num_rows,
            total(batch.column("sequence")).as_py(),
            total(batch.column("memory_available")).as_py(),
            total(batch.column("load_1")).as_py(),
            total(pyarrow.compute.utf8_length(batch.column("host"))).as_py(),
            total(cores.field("user")).as_py(),
        )

    def batches(self, objects: Iterable[Any]) -> Iterator[list[Any]]:
        return batches_of(objects, self.events_per_batch)


def batches_of(objects: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` objects, and one of those that are left."""
    iterator = iter(objects)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def sum_of(totals: Iterable[Totals]) -> Totals:
    """The totals of all batches together."""
    return Totals(*map(sum, zip(*totals, strict=True)))


def event_table() -> Any:
    """The table of the events."""
    table = flatstream.Schema.from_file(EXAMPLES / "telemetry.bfbs").root
    assert table is not None
    return table


class Records(FlatStream):
    """This package, with a record for each event."""

    table = event_table()

    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        with flatstream.open(path, "w", checksum=self.checksum) as writer:
            flatstream.RecordWriter(writer, self.table, file_identifier=True).write_records(events)

    def read_events(self, path: str) -> Totals:
        with flatstream.open(path, checksum=self.checksum) as reader:
            return totals_of(reader.records(self.table))


class Columns(Records):
    """This package, with columns of many events."""

    fields = ("sequence", "memory_available", "load_1", "host", "cores")

    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        with flatstream.open(path, "w", checksum=self.checksum) as writer:
            records = flatstream.RecordWriter(writer, self.table, file_identifier=True)
            for batch in batches_of(events, Arrow.events_per_batch):
                records.write_columns(pyarrow.RecordBatch.from_pylist(batch, schema=Arrow.event_schema))

    def read_events(self, path: str) -> Totals:
        with flatstream.open(path, checksum=self.checksum) as reader:
            batches = reader.column_batches(self.table, self.fields)
            return sum_of(Arrow.add_up(pyarrow.record_batch(batch)) for batch in batches)


PEERS: dict[str, Peer] = {
    "flatstream": FlatStream("none"),
    "flatstream crc32": FlatStream("crc32"),
    "flatstream xxhash64": FlatStream("xxhash64"),
    "struct": ByHand("none"),
    "struct crc32": ByHand("crc32"),
    "mcap": Mcap(),
    "protobuf": Protobuf(),
    "msgpack": MessagePack(),
    "fastavro": Avro(),
    "pyarrow": Arrow(),
}
EVENT_PEERS: dict[str, Peer] = {
    "flatstream records": Records("xxhash64"),
    "flatstream columns": Columns("xxhash64"),
    **{name: PEERS[name] for name in ("mcap", "protobuf", "msgpack", "fastavro", "pyarrow")},
}
COUNTS = [1_000, 10_000]


class Comparison(Benchmark, ABC):
    """One kind of work, by one peer: `setup` writes the file that `time_read` reads and `time_write` writes again."""

    param_names = ("peer", "events")
    unit = "bytes"  # the unit of the tracked values; times have their own
    expected: tuple[Any, ...]
    peers: dict[str, Peer]

    def setup(self, peer: str, events: int) -> None:
        self.peer = self.peers[peer]
        self.folder = tempfile.TemporaryDirectory(prefix="flatstream-peers-")
        self.path = os.path.join(self.folder.name, "events")
        self.prepare(events)
        self.write()
        self.size = os.path.getsize(self.path)

    def teardown(self, peer: str, events: int) -> None:
        self.folder.cleanup()

    @abstractmethod
    def prepare(self, events: int) -> None:
        """Make the input of writing, and `expected`, the result of reading."""

    @abstractmethod
    def write(self) -> None:
        """Write the file."""

    @abstractmethod
    def read(self) -> tuple[Any, ...]:
        """Read the file, and return the result."""

    def units(self, peer: str, events: int) -> int:
        """The number of messages per sample."""
        return events

    def time_write(self, peer: str, events: int) -> None:
        self.write()
        # time_read checks that a file of this size contains all messages.
        assert os.path.getsize(self.path) == self.size

    def time_read(self, peer: str, events: int) -> None:
        assert self.read() == self.expected

    def track_bytes_per_event(self, peer: str, events: int) -> float:
        assert self.read() == self.expected
        return self.size / events


class Framing(Comparison):
    """Finished bytes, written to a container and read back."""

    peers = PEERS
    params = (list(PEERS), COUNTS)

    def prepare(self, events: int) -> None:
        self.payloads = make_payloads(events)
        self.expected = count_bytes(self.payloads)

    def write(self) -> None:
        self.peer.write_framed(self.path, self.payloads)

    def read(self) -> tuple[int, int]:
        return self.peer.read_framed(self.path)


class Events(Comparison):
    """Events, written from dicts to a file, and read back as sums over some fields."""

    peers = EVENT_PEERS
    params = (list(EVENT_PEERS), COUNTS)

    def prepare(self, events: int) -> None:
        self.events = make_events(events)
        self.expected = add_up(self.events)

    def write(self) -> None:
        self.peer.write_events(self.path, self.events)

    def read(self) -> Totals:
        return self.peer.read_events(self.path)

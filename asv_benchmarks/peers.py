"""The same telemetry events written to a file and read back by other formats: where this package stands.

Two kinds of work, each with the same events for every peer:

- `Framing`: messages that are finished bytes already (the FlatBuffers of the events) go into the format's own
  container and come back as bytes. This is what the container costs.
- `Events`: from dicts to a file, and from the file to sums over five fields (two integers, a float, a string, a number
  of each core). This is what a user pays, serialization included.

Both are measured from opening the file to closing it. It is in a temporary directory, and its pages stay in memory;
what the system takes to copy bytes there and back is part of every figure. asv warms each benchmark up for 0.1 s, and
`setup` makes its inputs; nothing else is kept from one call to the next. Every call asserts what it did: the size of
the file it wrote, or what it found in it.

Messages go in and come out one by one, as an agent has them and a reader wants them, unless the peer works otherwise.
No peer compresses. They do not give the same, which must be remembered with every figure:

===================== =============================== ============== ===================================================
peer                  checksum, checked when reading  schema in file what else
===================== =============================== ============== ===================================================
flatstream            none; or each message's CRC-32  no             a torn end is told from a clean one, with its place
                      or XXH3-64
struct                none; or each message's CRC-32  no             by hand: what anybody would write around `struct`
                                                                     and `zlib`; a torn end is noticed
mcap                  CRC-32 of each chunk of 1 MiB   yes            an index by time and channel, with a CRC-32 of its
                                                                     own. Pure Python
protobuf              none                            no             varint lengths: in Python, by the package's own
                                                                     helpers where the messages are protobuf's. The
                                                                     messages themselves are read and written in C
msgpack               none                            names in every nothing needs to be known to read it. In C
                                                      message
fastavro              none                            yes            a container file: blocks of 16 kB, with a mark
                                                                     between them where reading can begin. In C. It is
                                                                     given all messages in one call
pyarrow               none                            yes            an IPC stream of batches of 1,000 events; columns
                                                                     are read and summed in C++, no event ever becomes
                                                                     an object. It is given a batch in one call
===================== =============================== ============== ===================================================

Avro has messages without a container too ("schemaless"); they would have to be framed by something else, so what is
measured is its own file. A FlatBuffer is not decoded when it is read: only the fields asked for are, by flatc's Python
code. flatstream, mcap and struct carry any bytes; in `Events` flatstream and mcap carry FlatBuffers, which flatc's code
builds: with `flatstream.Builder` in the one, with the flatbuffers package in the other.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

import fastavro
import flatbuffers
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
    """How many payloads there are, and how many bytes they have."""
    lengths = list(map(len, payloads))
    return len(lengths), sum(lengths)


class Peer(ABC):
    """A format, through the package that implements it."""

    @abstractmethod
    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        """Write finished bytes."""

    @abstractmethod
    def read_framed(self, path: str) -> tuple[int, int]:
        """Read them back, and give `count_bytes` of them."""

    @abstractmethod
    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        """Serialize and write events."""

    @abstractmethod
    def read_events(self, path: str) -> Totals:
        """Read and decode them, and give their totals."""


class FlatBufferPeer(Peer):
    """A container for bytes of any kind; for events it carries FlatBuffers."""

    @abstractmethod
    def open_payloads(self, path: str) -> AbstractContextManager[Iterable[bytes | memoryview]]:
        """The payloads in a file, one after another."""

    def read_framed(self, path: str) -> tuple[int, int]:
        with self.open_payloads(path) as payloads:
            return count_bytes(payloads)

    make_builder: Callable[[int], Any] = flatbuffers.Builder

    def write_events(self, path: str, events: Iterable[dict[str, Any]]) -> None:
        self.write_framed(path, build_events(events, self.make_builder))

    def read_events(self, path: str) -> Totals:
        with self.open_payloads(path) as payloads:
            return add_up_flatbuffers(payloads)


class FlatStream(FlatBufferPeer):
    """This package."""

    make_builder = flatstream.Builder

    def __init__(self, checksum: str) -> None:
        self.checksum = checksum

    def write_framed(self, path: str, payloads: Iterable[bytes | memoryview]) -> None:
        with flatstream.open(path, "w", checksum=self.checksum) as writer:
            for payload in payloads:
                writer.write_payload(payload)

    def open_payloads(self, path: str) -> AbstractContextManager[Iterable[memoryview]]:
        return flatstream.open(path, checksum=self.checksum)


class ByHand(FlatBufferPeer):
    """The same bytes as flatstream's, without a checksum or with CRC-32, by `struct`."""

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

    Its reader is asked to check the CRCs of the chunks, which it does not by default, and to keep the order of the
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
                # The writer is annotated for bytes, and takes a view as well: it copies it at once.
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
    """The class that protoc would generate for the event: its fields are numbered from 1, in their order."""
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
    # A pool of its own, so that nobody else's messages of these names are in the way.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("telemetry.Event"))


class Protobuf(Peer):
    """Messages behind their length as a varint, which is how protobuf's tools write many of them to a file.

    The message class is made at run time. Its code is that of generated classes, which are made in the same way when
    they are imported.
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
        file: Any  # the helpers are annotated for BytesIO, and say that any buffered file will do
        with open(path, "wb") as file:
            for event in events:
                proto.serialize_length_prefixed(self.event_class(**event), file)

    def read_events(self, path: str) -> Totals:
        with open(path, "rb") as file:
            return self.add_up(self.events(file))

    def events(self, file: Any) -> Iterator[Any]:
        while (event := proto.parse_length_prefixed(self.event_class, file)) is not None:
            yield event

    @staticmethod
    def add_up(events: Iterable[Any]) -> Totals:
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


class MessagePack(Peer):
    """Objects one after another: `bin` for bytes, a map with the names of its fields for an event."""

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
    """The event. Avro has no unsigned numbers: none of the values needs more than 63 bits."""
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
    """A container file, its codec `null`: the default."""

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
    """The event."""
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

    Events become columns when they are written. They stay columns when they are read: sums are Arrow's own. Payloads
    are a binary column, from which every one becomes `bytes`.
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
            batches = [self.add_up(batch) for batch in reader]
        return Totals(*map(sum, zip(*batches, strict=True)))

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
        iterator = iter(objects)
        while batch := list(itertools.islice(iterator, self.events_per_batch)):
            yield batch


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
# Where building the message takes most of the time, one way to frame it is enough.
EVENT_PEERS = ["flatstream xxhash64", "mcap", "protobuf", "msgpack", "fastavro", "pyarrow"]
COUNTS = [1_000, 10_000]


class Comparison(Benchmark, ABC):
    """One kind of work, by one peer: `setup` writes the file that `time_read` reads and `time_write` writes again."""

    param_names = ("peer", "events")
    unit = "bytes"  # of what is tracked; times have theirs
    expected: tuple[Any, ...]

    def setup(self, peer: str, events: int) -> None:
        self.peer = PEERS[peer]
        self.folder = tempfile.TemporaryDirectory(prefix="flatstream-peers-")
        self.path = os.path.join(self.folder.name, "events")
        self.prepare(events)
        self.write()
        self.size = os.path.getsize(self.path)

    def teardown(self, peer: str, events: int) -> None:
        self.folder.cleanup()

    @abstractmethod
    def prepare(self, events: int) -> None:
        """Make what is written, and `expected`: what must be read."""

    @abstractmethod
    def write(self) -> None:
        """Write the file."""

    @abstractmethod
    def read(self) -> tuple[Any, ...]:
        """Read it, and give what was found."""

    def units(self, peer: str, events: int) -> int:
        """How many messages a sample writes or reads."""
        return events

    def time_write(self, peer: str, events: int) -> None:
        self.write()
        # time_read shows that a file of this size holds everything.
        assert os.path.getsize(self.path) == self.size

    def time_read(self, peer: str, events: int) -> None:
        assert self.read() == self.expected

    def track_bytes_per_event(self, peer: str, events: int) -> float:
        assert self.read() == self.expected
        return self.size / events


class Framing(Comparison):
    """Finished bytes into a container and out of it."""

    params = (list(PEERS), COUNTS)

    def prepare(self, events: int) -> None:
        self.payloads = make_payloads(events)
        self.expected = count_bytes(self.payloads)

    def write(self) -> None:
        self.peer.write_framed(self.path, self.payloads)

    def read(self) -> tuple[int, int]:
        return self.peer.read_framed(self.path)


class Events(Comparison):
    """Events from dicts to a file, and from there to a few of their values."""

    params = (EVENT_PEERS, COUNTS)

    def prepare(self, events: int) -> None:
        self.events = make_events(events)
        self.expected = add_up(self.events)

    def write(self) -> None:
        self.peer.write_events(self.path, self.events)

    def read(self) -> Totals:
        return self.peer.read_events(self.path)

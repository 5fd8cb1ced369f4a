"""Objects to be pickled, and what can be seen of them in any process."""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import socket
import tempfile
from typing import Any

import flatstream
from flatstream import (
    AdaptiveWatermarkPolicy,
    BoundedFramer,
    Checksum,
    ChecksumDeframer,
    Deframer,
    FlatStreamError,
    Framer,
    MemoryPolicy,
    SizeThresholdPolicy,
    StreamReader,
    StreamWriter,
    TransformDeframer,
    TransformFramer,
    TypedValidator,
    ValidationFailedError,
    Validator,
)
from flatstream.aio import AsyncFileReader, AsyncFileWriter, connect, serve
from flatstream.columns import Column, ColumnBatch, ColumnSchema
from flatstream.description import Root, Transform
from flatstream.index import FieldStatistics, FileIndex, FileIndexer, IndexedField, UnusableIndex
from flatstream.index._format import Fingerprint, Head
from flatstream.journal import (
    CompressionPolicy,
    Cursor,
    Gap,
    Histogram,
    JournalReader,
    JournalWriter,
    MirrorWriter,
    RetentionPolicy,
    RotationPolicy,
    SegmentReport,
    SyncPolicy,
    ThreadedWriter,
    stop_on_signals,
)
from flatstream.journal.opentelemetry import JournalInstruments
from flatstream.journal.prometheus import JournalCollector
from flatstream.nats import Forwarder, ForwardReport, Missing, Received, Receiver, ReceiveReport, Subscription
from flatstream.nats._intake import Arrived
from flatstream.schema import EvolutionIssue, Schema, Table
from flatstream.tools import (
    ConvertReport,
    IndexCheck,
    IndexCheckReport,
    IndexingReport,
    LeftOut,
    MergeReport,
    Plot,
    RepairReport,
    SampleReport,
    SplitReport,
    StreamInfo,
    VerifyReport,
)
from flatstream.tools._sources import SourceReport
from flatstream.tools._walk import Damage
from flatstream.tools.inputs import Input, NotAStreamError, Opened, UnreadableError
from flatstream.tools.plotting import Bars, Line
from flatstream.tools.splitting import SplitFile

PAYLOADS = [b"", b"abc", b"x" * 30, bytes.fromhex("08000000 04000400 04000000")]

seen: list[bytes] = []


def observe(payload: Any) -> None:
    """An observer of frames, which a pickle refers to by its name."""
    seen.append(bytes(payload))


def key_of(key_id: str) -> bytes:
    """The key of every id."""
    return bytes(range(32))


def even(payload: Any) -> bool:
    """A function for `TypedValidator.from_verify`."""
    return len(payload) % 2 == 0


def one_second_each(_count: Any = itertools.count()) -> float:  # noqa: B008 - one for all calls
    """A clock for memory policies."""
    return float(next(_count))


class Sum24(Checksum):
    """A checksum of a user, with settings of its own."""

    size = 3

    def __init__(self, start: int, *, step: int = 1) -> None:
        self.start, self.step = start, step

    def calculate(self, payload: Any) -> int:
        return int(self.start + self.step * sum(payload))


class ShortFramer(BoundedFramer):
    """A built-in adapter whose subclass takes other arguments."""

    def __init__(self, checksum: Checksum) -> None:
        super().__init__(flatstream.ChecksumFramer(checksum), 20)
        self.note = "short"


class SlottedDeframer(ChecksumDeframer):
    """A subclass with slots."""

    __slots__ = ("note",)

    def __init__(self) -> None:
        super().__init__(flatstream.Crc16(), max_frame_len=20, allow_empty=False)
        self.note = "slots"


class Doubled(TransformFramer):
    """A transform of a user."""

    def transform(self, payload: Any) -> bytes:
        return bytes(payload) * 2


class Undoubled(TransformDeframer):
    """Its counterpart, with a constructor of its own."""

    def __init__(self, inner: Deframer, *, note: str = "") -> None:
        super().__init__(inner)
        self.note = note

    def restore(self, payload: Any) -> bytes:
        return bytes(payload[: len(payload) // 2])


class Longer(Validator):
    """A validator of a user that decides itself what is pickled."""

    def __init__(self, least: int) -> None:
        self.least, self._used = least, 0

    def validate(self, payload: Any) -> None:
        self._used += 1
        if len(payload) < self.least:
            raise ValidationFailedError(validator=self.name, reason="short")

    def __getstate__(self) -> Any:
        return {"least": self.least, "_used": 0}


class Never(MemoryPolicy):
    """A policy of a user."""

    baseline_capacity = 100

    def __init__(self, note: str) -> None:
        self.note = note

    def should_reset(self, last_message_size: int, current_capacity: int) -> None:
        return None


class AppError(FlatStreamError):
    """An error of a user, with another constructor."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}", offset=code)
        self.code = code


def outcome(function: Any, *arguments: Any) -> str:
    """The result of a call, or its error, as text."""
    try:
        return repr(function(*arguments))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def frame_of(framer: Framer, payload: bytes) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, framer) as writer:
        writer.write_payload(payload)
    return sink.getvalue()


def payloads_of(deframer: Deframer, stream: bytes) -> list[bytes]:
    return [bytes(payload) for payload in StreamReader(stream, deframer)]


@functools.cache
def streams() -> list[bytes]:
    """The payloads in frames of each built-in checksum."""
    frames = [flatstream.ChecksumFramer(kind.checksum()) for kind in flatstream.ChecksumType]
    return [frame_of(framer, payload) for framer in frames for payload in PAYLOADS]


def attributes_of(value: Any) -> list[str]:
    """What the attributes of an object show, other than its methods and views of memory."""
    names = [name for name in dir(value) if not name.startswith("_")]
    found = [(name, getattr(value, name, None)) for name in names]
    return [f"{name}={shown(one)}" for name, one in found if not callable(one) or isinstance(one, type)]


def shown(value: Any) -> str:
    """A representation without addresses."""
    text = repr(value)
    return type(value).__name__ if " at 0x" in text else text


def describe(value: Any) -> Any:
    """What can be seen of an object, in objects of Python that compare equal if nothing differs."""
    seen.clear()
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, Checksum):
        return kind, value.size, [outcome(value.calculate, payload) for payload in PAYLOADS], attributes_of(value)
    if isinstance(value, Framer):
        return kind, [outcome(frame_of, value, payload) for payload in PAYLOADS], seen[:], attributes_of(value)
    if isinstance(value, Deframer):
        return kind, [outcome(payloads_of, value, stream) for stream in streams()], seen[:], attributes_of(value)
    if isinstance(value, Validator):
        return kind, value.name, [outcome(value.validate, payload) for payload in PAYLOADS], attributes_of(value)
    if isinstance(value, (AdaptiveWatermarkPolicy, SizeThresholdPolicy)):
        sizes = [1 << 20 if i % 7 == 0 else 10 for i in range(40)]
        return kind, attributes_of(value), [outcome(value.should_reset, size, 1 << 24) for size in sizes]
    if isinstance(value, BaseException):
        return kind, str(value), repr(value), value.args, attributes_of(value), getattr(value, "__notes__", None)
    if isinstance(value, Schema):
        tables = [(table.name, table.field_names) for table in value]
        return kind, repr(value), tables, value.numbers, value.size_prefixed
    if isinstance(value, Table):
        return kind, repr(value), describe(value.schema), value.number
    if isinstance(value, ColumnBatch):
        left_out = value.skipped, value.lost_ranges, value.lost_bytes, value.others, repr(value.stop_error)
        return kind, repr(value.to_pylist()), describe(value.schema), value.num_rows, left_out, value.names
    if isinstance(value, Column):
        return kind, repr(value.to_pylist()), value.name, value.type, value.null_count
    if isinstance(value, ColumnSchema):
        return kind, repr(value), value.names, value.types, value.metadata
    return kind, shown(value), attributes_of(value)


def describe_pickled(data: bytes) -> Any:
    """What can be seen of a pickled object in the process that calls this."""
    import pickle

    return describe(pickle.loads(data))


# Objects of every public class that can be pickled, by the name of the class.


@functools.cache
def batches() -> list[ColumnBatch]:
    """Batches of random messages of every table of `shapes`, two of which were damaged and skipped."""
    import random

    from support.arrow_types import Making, Mapping
    from support.records import encoded
    from support.schemas import SHAPES

    making = Making(Mapping(SHAPES._info), random.Random(4))
    found = []
    for table in SHAPES:
        sink = io.BytesIO()
        with StreamWriter(sink) as writer:
            for _ in range(10):
                writer.write_payload(encoded(table, making.record(table.number)))
            writer.write_payloads([b"", b"abc"])
        found.append(StreamReader(sink.getvalue()).columns(table, on_error="skip"))
        assert found[-1].skipped == 2
    return found


def noted(error: BaseException) -> BaseException:
    error.add_note("a note")
    error.custom = [1, 2]  # type: ignore[attr-defined]
    return error


def typed() -> Any:
    from support.schemas import TELEMETRY

    return TypedValidator.for_type(TELEMETRY, max_depth=3, max_tables=20, max_apparent_size=1000, identifier=True)


def journal_metrics() -> Any:
    with tempfile.TemporaryDirectory() as folder, JournalWriter(folder) as journal:
        journal.write_payload(b"abc")
        return journal.metrics()


def split() -> Any:
    """A part of a dataset, which it does not need any more to be described."""
    from support.schemas import TELEMETRY

    with tempfile.TemporaryDirectory() as folder:
        with flatstream.open(f"{folder}/a.fs", "w", describe=TELEMETRY.root) as writer:
            flatstream.RecordWriter(writer, TELEMETRY.root).write(host="a")  # type: ignore[arg-type]
        return flatstream.dataset(folder).splits(1, where=[("host", "==", "a")])[0]


def carried() -> dict[str, list[Any]]:
    """Objects by the public name of their class; users' subclasses are with the class that they inherit from."""
    import numpy as np

    from flatstream.datasets import Dataset, Lost, ParquetReport, TimeRange
    from flatstream.datasets._heads import Options
    from support.compression import Deflate, dictionary
    from support.schemas import SHAPES, TELEMETRY

    fs = flatstream
    default, checked = fs.DefaultDeframer(max_frame_len=9, allow_empty=False), fs.ChecksumDeframer(fs.Crc32())
    report = fs.RecoveryReport(3, 40, fs.RecoveryEnd.TORN_TAIL)
    no_stream = fs.RecoveryReport(0, 0, fs.RecoveryEnd.NOT_A_STREAM, "gzip")
    written = fs.RecoveryReport(1, 9, fs.RecoveryEnd.CLEAN_EOF)
    written._being_written = "process 7"
    damage: Any = noted(fs.InvalidFrameError("text", declared_len=1, buffer_len=2, limit=3, offset=4))
    damage.next_intact_offset = 90
    torn = Damage(30, 40, "torn", "the stream ends inside a frame", 3)
    read = SourceReport("a.fs", 3, ((30, 40),))
    line = Line("cpu", np.array([0, 5]), np.array([0.5, np.nan]))
    bars = Bars("cpu", ("a", "b"), (50.0,), np.array([[1.0], [2.0]]))
    head = Head("crc32", "a.B", "", None, (), Fingerprint(7, 8), 0)
    one = split()
    prefixed = Schema.from_bytes(SHAPES._data or b"", size_prefixed=True)
    return {
        "AdaptiveWatermarkPolicy": [
            fs.AdaptiveWatermarkPolicy(),
            fs.AdaptiveWatermarkPolicy(3, 2, 1.5, baseline_capacity=77, clock=one_second_each),
        ],
        "BoundedDeframer": [fs.BoundedDeframer(default, 4), checked.bounded(10).bounded(2)],
        "BoundedFramer": [fs.BoundedFramer(fs.DefaultFramer(), 4), ShortFramer(Sum24(5))],
        "Checksum": [Sum24(7, step=2)],
        "ChecksumDeframer": [
            fs.ChecksumDeframer(fs.XxHash64(), max_frame_len=10, allow_empty=False),
            fs.ChecksumDeframer(Sum24(1)),
            SlottedDeframer(),
        ],
        "ChecksumFramer": [fs.ChecksumFramer(fs.Crc64()), fs.ChecksumFramer(Sum24(1))],
        "ChecksumMismatchError": [noted(fs.ChecksumMismatchError(expected=1, calculated=2, offset=3, frame=4))],
        "ChecksumType": list(fs.ChecksumType),
        "Column": [column for batch in batches() for column in batch.values()],
        "ColumnBatch": batches(),
        "ColumnSchema": [batch.schema for batch in batches()],
        "CompositeValidator": [
            fs.CompositeValidator(),
            fs.CompositeValidator(fs.SizeValidator(1, 12), fs.CompositeValidator(fs.TableRootValidator())),
        ],
        "Crc16": [fs.Crc16()],
        "Crc32": [fs.Crc32()],
        "Crc32c": [fs.Crc32c()],
        "Crc64": [fs.Crc64()],
        "DefaultDeframer": [fs.DefaultDeframer(), default],
        "DefaultFramer": [fs.DefaultFramer()],
        "Cursor": [Cursor("0123456789abcdef" * 2, 17)],
        "Description": [
            fs.Description(),
            fs.Description(TELEMETRY, checksum="crc32", metadata={"a": "b"}, created_ns=5, serializer="json"),
        ],
        "Detection": [fs.Detection(fs.ChecksumType.CRC32, 3, 1.0, None), fs.Detection(None, 0, 0.0, "gzip")],
        "Deframer": [fs.framing.as_deframer(fs.ObserverDeframer(checked, observe), allow_empty=False)],
        "Aes256Gcm": [fs.Aes256Gcm(key_of, key_id="a", context=b"b")],
        "CompressedDeframer": [
            fs.CompressedDeframer(default),
            fs.CompressedDeframer(checked, [fs.ZstdCompressor(9), fs.Lz4Compressor(3)], max_payload_len=5),
        ],
        "CompressedFramer": [
            fs.CompressedFramer(fs.DefaultFramer().bounded(9), fs.Lz4Compressor()),
            fs.CompressedFramer(fs.ChecksumFramer(fs.Crc64()), fs.ZstdCompressor(3, dictionary())),
        ],
        "Compressor": [Deflate()],
        "Lz4Compressor": [fs.Lz4Compressor(), fs.Lz4Compressor(9)],
        "ZstdCompressor": [fs.ZstdCompressor(), fs.ZstdCompressor(-5, dictionary())],
        "ChaCha20Poly1305": [fs.ChaCha20Poly1305(key_of)],
        "Cipher": [fs.ChaCha20Poly1305(key_of, key_id="a")],
        "EncryptedDeframer": [fs.EncryptedDeframer(checked, fs.Aes256Gcm(key_of), require_final=True)],
        "EncryptedFramer": [
            fs.EncryptedFramer(fs.ChecksumFramer(fs.Crc64()), fs.ChaCha20Poly1305(key_of), _salt=bytes(32))
        ],
        "EncryptionReport": [fs.EncryptionReport(3, True, (1,), 1, 2, 3, 4, 5, 6)],
        "Enum": [*TELEMETRY.enums.values(), *SHAPES.enums.values()],
        "EnumValue": [value for enum in SHAPES.enums.values() for value in enum.values],
        "EvolutionIssue": [EvolutionIssue("field_removed", "T.x", "text")],
        "Field": [field for table in SHAPES for field in table.fields.values()],
        "FlatStreamError": [noted(fs.FlatStreamError("text", offset=1)), AppError(9)],
        "JsonError": [noted(fs.JsonError("text", path="a.b", line=2, column=3))],
        "FlatbufferError": [noted(fs.FlatbufferError("text", frame=2))],
        "FrameSpan": [fs.FrameSpan(4, 7, 9)],
        "Framer": [MagicFramer(fs.ChecksumFramer(fs.Crc16()))],
        "Gap": [Gap(3, 5, 40, "00000000000000000000.fs")],
        "ForwardReport": [ForwardReport(9, 1, 2, 40, 0, 0, 0, [Gap(3, 5, 40, "0.fs")])],
        "Missing": [Missing("0123" * 8, 3, 5, "stream")],
        "ReceiveReport": [ReceiveReport({"0123" * 8: 9}, 2, 1, 0, 0, [Missing("0123" * 8, 3, 5, "journal")])],
        "Histogram": [Histogram((0.5, 1.0), (1, 2, 3), 4.5)],
        "JournalMetrics": [journal_metrics()],
        "CompressionPolicy": [CompressionPolicy(after_segments=2)],
        "RetentionPolicy": [RetentionPolicy(max_bytes=5)],
        "RotationPolicy": [RotationPolicy(max_seconds=1.5)],
        "SegmentReport": [SegmentReport("0.fs", 3, "damaged", 4, 90, 9, 0, None, 40, damage)],
        "SyncPolicy": [SyncPolicy(frames=3)],
        "Bars": [bars],
        "IndexCheck": [
            IndexCheck("a.fs", "a.fs.idx", "fits", fields=("time_ns",), blocks=3, covered=90, stream_size=99)
        ],
        "IndexCheckReport": [IndexCheckReport("a.fs", (IndexCheck("a.fs", None, "none"),))],
        "IndexingReport": [IndexingReport("a", (), (LeftOut("a/0.fs", "it is empty"),), is_journal=True)],
        "LeftOut": [LeftOut("a.fs", "it is empty")],
        "ConvertReport": [ConvertReport("a.fs", "a.parquet", "stream", "parquet", 3, 90, omitted=("x",))],
        "Line": [line],
        "MergeReport": [MergeReport("b.fs", 3, 40, (read,), 1)],
        "Plot": [Plot("cpu", "time", True, (line,), (bars,), 2)],
        "SampleReport": [SampleReport("b.fs", 3, 40, read)],
        "Split": [one],
        "SplitRange": [*one.ranges],
        "SplitSource": [one.source],
        "SplitFile": [SplitFile("b.fs", 3, 40)],
        "SplitReport": [SplitReport((SplitFile("b.fs", 3, 40),), read, 0)],
        "Input": [Input("events.fs", "file", 100), Input("-", "pipe")],
        "FieldStatistics": [FieldStatistics([1, 2], [3, 4], [0, 1])],
        "FileIndex": [FileIndex("a.idx", [0], [9], [0], [2], [2], {}, (), 9, 0, [(0, 4)], head, ["a note"])],
        "IndexedField": [IndexedField("a.b", "long", "0", (4, 8), "ns")],
        "UnusableIndex": [UnusableIndex("it is empty", "a.idx")],
        "IndexReport": [fs.IndexReport("a.fs.idx", "a.fs", "created", None, (), "a.B", 2, 9, 9, 70, 80, ((5, 9),), 60)],
        "InvalidFrameError": [damage],
        "Dataset": [Dataset(["events*.fs"], Options(undescribed=TELEMETRY.root, on_error="skip"), [])],
        "TimeRange": [TimeRange("time_ns", "ns", 1, 2)],
        "Lost": [Lost("events", 3, 8)],
        "ParquetReport": [ParquetReport("lake", ["hour=1/a.parquet"], 7, 900, 1, lost=[Lost("events", 3, 8)])],
        "MemoryPolicy": [Never("a note")],
        "NoChecksum": [fs.NoChecksum()],
        "NoOpPolicy": [fs.NoOpPolicy()],
        "NoValidator": [fs.NoValidator()],
        "ObserverDeframer": [fs.ObserverDeframer(default, observe)],
        "ObserverFramer": [fs.ObserverFramer(fs.DefaultFramer(), observe)],
        "ReclamationInfo": [fs.ReclamationInfo(fs.ReclamationReason.TIME_COOLDOWN, 1, 2, 3)],
        "ReclamationReason": list(fs.ReclamationReason),
        "RecoveryEnd": list(fs.RecoveryEnd),
        "RecoveryReport": [report, no_stream, written],
        "Root": [fs.Description(TELEMETRY).roots[0], Root("a.B")],
        "SealReport": [fs.SealReport("events.fs.zst", 60, 20, 1)],
        "SalvageReport": [fs.SalvageReport(3, 60, ((5, 9),), 4, ((7, 9),), "doubtful.fs")],
        "Schema": [SHAPES, TELEMETRY, prefixed],
        "SchemaError": [noted(fs.SchemaError("text", path="a.fbs", line=3))],
        "SizeThresholdPolicy": [fs.SizeThresholdPolicy(), fs.SizeThresholdPolicy(5, 3, 2, baseline_capacity=1)],
        "Serializer": [fs.Serializer()],
        "JsonSerializer": [fs.JsonSerializer(), fs.JsonSerializer(list[int], default=observe)],
        "MessagePackSerializer": [fs.MessagePackSerializer()],
        "SizeValidator": [fs.SizeValidator(2, 20)],
        "Struct": list(SHAPES.structs.values()),
        "StartupReport": [fs.StartupReport("moved", 0, 0, 3, "old.fs", damage, "gzip")],
        "Table": [TELEMETRY.root, SHAPES.table("shapes.Tree"), prefixed.table("shapes.Tree")],
        "TableRootValidator": [fs.TableRootValidator(3, 4)],
        "Transform": [Transform("zstd", (("level", "3"),), b"abc")],
        "TransformDeframer": [Undoubled(default), Undoubled(default, note="n").bounded(40).inner],
        "TransformFramer": [Doubled(fs.ChecksumFramer(fs.Crc32())), Doubled(fs.DefaultFramer().bounded(40))],
        "TypedValidator": [typed(), TypedValidator.from_verify("even", even)],
        "UnexpectedEofError": [noted(fs.UnexpectedEofError(needed=1, got=0, offset=7))],
        "StreamInfo": [StreamInfo("a.fs", "stream", "a flatstream stream", frames=3, damage=(torn,))],
        "VerifyReport": [VerifyReport("a.fs", "file", "torn", "crc32", "detection", 3, 40, (torn,), 1, 10)],
        "NotAStreamError": [noted(NotAStreamError("no stream"))],
        "UnreadableError": [noted(UnreadableError("encrypted"))],
        "RepairReport": [RepairReport("a.fs", "cut", 3, 30, 10, "a.fs.torn")],
        "ValidatingDeframer": [fs.ValidatingDeframer(fs.DefaultDeframer(), fs.SizeValidator(1, 3))],
        "ValidatingFramer": [
            fs.ValidatingFramer(fs.DefaultFramer(), Longer(2)),
            fs.DefaultFramer().with_validator(typed()),
        ],
        "DecompressionError": [noted(fs.DecompressionError(validator="zstd", reason="r", offset=1))],
        "DecryptionError": [noted(fs.DecryptionError(validator="v", reason="r", offset=1))],
        "ValidationFailedError": [noted(fs.ValidationFailedError(validator="v", reason="r", path="p", offset=1))],
        "Validator": [Longer(3)],
        "XxHash64": [fs.XxHash64()],
    }


class MagicFramer(Framer):
    """A framer of a user around another."""

    def __init__(self, inner: Framer) -> None:
        self.inner = inner

    def frame_and_write(self, writer: Any, payload: Any) -> None:
        writer.write(b"MAGC")
        self.inner.frame_and_write(writer, payload)


async def refused_by_loops(table: Any, stream: bytes) -> dict[str, list[Any]]:
    """Objects of event loops, which end with this one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        async with await serve(lambda connection: connection.wait_closed(), sock=listener.dup()) as server:
            connection = await connect("127.0.0.1", server.port)
            connection.abort()
    file_reader = AsyncFileReader(StreamReader(stream))
    await file_reader.close()
    file_writer = AsyncFileWriter(StreamWriter(io.BytesIO()))
    await file_writer.close()
    return {
        "AsyncFileReader": [file_reader],
        "AsyncFileWriter": [file_writer],
        "AsyncRecordWriter": [connection.writer.records(table)],
        "AsyncStreamReader": [connection.reader],
        "AsyncStreamWriter": [connection.writer],
        "Connection": [connection],
        "Server": [server],
    }


def refused() -> dict[str, list[Any]]:
    """Objects that belong to a process, by the public name of their class."""
    from support.records import encoded
    from support.schemas import TELEMETRY

    table: Any = TELEMETRY.root
    builder = flatstream.Builder()
    message = encoded(table, {"host": "alpha", "disks": [{"name": "sda"}]})
    stream = frame_of(flatstream.DefaultFramer(), message)
    record = table.view(message)
    writer = StreamWriter(io.BytesIO())
    with tempfile.TemporaryDirectory() as folder:
        # Of an empty journal, so that it has no file open.
        journal_reader = JournalReader(folder)
    with tempfile.TemporaryDirectory() as folder:
        with flatstream.open(f"{folder}/a.fs", "w", checksum="crc32", describe=table) as described:
            described.write_payload(message)
        with FileIndexer(f"{folder}/a.fs", ["sequence"]) as indexer:
            indexer.finish()
    with tempfile.TemporaryDirectory() as folder:
        journal = JournalWriter(folder)
        journal.close()
        mirror = MirrorWriter(folder + "/mirror", "0123" * 8)
        mirror.close()
    threaded = ThreadedWriter(StreamWriter(io.BytesIO()), 10)
    threaded.close()
    arrived = Arrived("0123" * 8, "a", flatstream.Crc32(), 3, 3, [], None, [], None)
    return asyncio.run(refused_by_loops(table, stream)) | {
        "Builder": [builder],
        "ColumnStream": [StreamReader(stream).column_batches(table)],
        "FileIndexer": [indexer],
        "FrameBatch": [StreamReader(stream).read_batch()],
        "FrameParser": [flatstream.FrameParser()],
        "FrameSerializer": [flatstream.FrameSerializer()],
        "JournalCollector": [JournalCollector()],
        "JournalInstruments": [object.__new__(JournalInstruments)],
        "JournalReader": [journal_reader],
        "JournalWriter": [journal],
        "MirrorWriter": [mirror],
        "Forwarder": [Forwarder("events", "telemetry.alpha")],
        "Received": [Received(arrived, Subscription("a"))],
        "Receiver": [Receiver("telemetry.*", "received")],
        "Subscription": [Subscription("telemetry.*")],
        "Opened": [Opened(StreamReader(stream))],
        "RecordView": [record, record.disks[0]],
        "RecordWriter": [flatstream.RecordWriter(writer, table)],
        "StreamReader": [StreamReader(stream), StreamReader(io.BytesIO(stream))],
        "StreamWriter": [writer],
        "ThreadedWriter": [threaded],
        "stop_on_signals": [stop_on_signals()],
        "VectorView": [record.disks],
        "RecordIterator": [StreamReader(stream).records(table)],
        "JsonLines": [table.json_lines(StreamReader(stream))],
    }

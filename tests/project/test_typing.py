"""The annotations and stubs say what the package does.

A type checker accepts a program that uses the package well, knows the types of what it returns, and refuses each wrong
use. And the stubs agree with the built modules.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flatstream

RIGHT_USE = '''
"""A program that uses most of the package. It is checked, and it is run."""

import asyncio
import io
import os
import tempfile
from collections.abc import Iterator
from typing import Any, assert_type

import flatstream
from flatstream import (
    AdaptiveWatermarkPolicy, Aes256Gcm, Checksum, ChecksumDeframer, ChecksumFramer, ChecksumType, Cipher,
    CompositeValidator, CompressedFramer, Compressor, Crc32, Crc64, DefaultDeframer, DefaultFramer, Deframer,
    EncryptedDeframer, EncryptedFramer, EncryptionReport, Framer, FrameBatch, FrameParser, FrameSerializer, FrameSpan,
    InvalidFrameError, JsonSerializer, MemoryPolicy, ReclamationInfo, ReclamationReason, RecoveryEnd, RecoveryReport,
    SealReport, Serializer, SizeThresholdPolicy, SizeValidator, StreamReader, StreamWriter, TransformDeframer,
    TransformFramer, ValidationFailedError, Validator, ZstdCompressor, recover, recover_file,
)
from flatstream.aio import AsyncStreamReader, AsyncStreamWriter, Server, connect, serve


class Sum24(Checksum):
    size = 3
    name = "sum24"

    def calculate(self, payload: memoryview) -> int:
        return sum(payload)


class NotEmpty(Validator):
    def validate(self, payload: memoryview) -> None:
        if not len(payload):
            raise ValidationFailedError(validator=self.name, reason="empty")


class MagicFramer(Framer):
    def __init__(self, inner: Framer) -> None:
        self.inner = inner

    def frame_and_write(self, writer: Any, payload: memoryview) -> None:
        writer.write(b"MAGC")
        self.inner.frame_and_write(writer, payload)


class MagicDeframer(Deframer):
    def __init__(self, inner: Deframer) -> None:
        self.inner = inner

    def locate(self, data: memoryview) -> FrameSpan | int:
        if len(data) < 4:
            return 4
        if bytes(data[:4]) != b"MAGC":
            raise InvalidFrameError("no magic number")
        found = self.inner.locate(data[4:])
        if isinstance(found, int):
            return found + 4
        start, end, frame_end = found
        return FrameSpan(start + 4, end + 4, frame_end + 4)

    def check(self, frame: memoryview, payload: memoryview) -> None:
        self.inner.check(frame[4:], payload)


class Turned(TransformFramer):
    def transform(self, payload: memoryview) -> bytes:
        return bytes(payload[::-1])


class TurnedBack(TransformDeframer):
    def restore(self, payload: memoryview) -> bytes | None:
        return bytes(payload[::-1])


class Runs(Compressor):
    number = 200

    def compress(self, payload: memoryview) -> bytes:
        return bytes(payload)

    def decompress(self, data: memoryview, max_size: int) -> bytes:
        return bytes(data)


class Text(Serializer):
    name = "text"

    def dumps(self, item: Any) -> bytes:
        return str(item).encode()

    def loads(self, payload: memoryview) -> str:
        return str(payload, "utf-8")


class Patient(MemoryPolicy):
    baseline_capacity = 4096

    def should_reset(self, last_message_size: int, current_capacity: int) -> ReclamationReason | None:
        return ReclamationReason.SIZE_THRESHOLD if last_message_size < 100 else None

    def on_reclaim(self, info: ReclamationInfo) -> None:
        assert_type(info.reason, ReclamationReason)
        assert_type(info.capacity_before, int)


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def serialize(self, builder: Any) -> None:
        builder.Finish(builder.CreateByteVector(self.x.to_bytes(4, "little")))

    @classmethod
    def from_payload(cls, payload: memoryview) -> "Point":
        return cls(int.from_bytes(payload[8:12], "little"))


def write(sink: io.BytesIO) -> None:
    writer = StreamWriter(
        sink, ChecksumFramer(Crc32()).bounded(1 << 20).observed(len).with_validator(NotEmpty()),
        capacity=64, buffer_size=0, memory_policy=AdaptiveWatermarkPolicy(4, 5, cooldown=1.5, baseline_capacity=1024),
    )
    with writer as entered:
        assert_type(entered, StreamWriter)
        entered.write(Point(1))
        entered.write("text")
        entered.write_batch([Point(2), "more"])
        entered.write_payload(bytearray(b"abc"))
        entered.write_payloads([b"d", memoryview(b"e")])
        assert_type(entered.frames_written, int)
        assert_type(entered.bytes_written, int)
        assert_type(entered.buffer_capacity, int)
        assert_type(entered.framer, Framer)
        entered.flush()


def read(stream: bytes) -> None:
    deframer = ChecksumDeframer(Crc32(), max_frame_len=1 << 20, allow_empty=False)
    assert_type(deframer.max_frame_len, int)
    assert_type(deframer.allow_empty, bool)
    assert_type(deframer.checksum, Checksum)
    assert_type(deframer.with_max_frame_len(5), Deframer)
    seen: list[memoryview] = []
    with StreamReader(stream, deframer.observed(seen.append), capacity=4096, memory_policy=Patient()) as reader:
        assert_type(reader, StreamReader)
        assert_type(reader.read_message(), memoryview | None)
        assert_type(reader.read_batch(2, max_bytes=100), FrameBatch | None)
        for payload in reader:
            assert_type(payload, memoryview)
        assert_type(reader.messages(), Iterator[memoryview])
        assert_type(reader.offset, int)
        assert_type(reader.process_all(bytes), int)
    with StreamReader(stream, ChecksumType.CRC32) as reader:
        points = reader.typed_messages(Point)
        assert_type(points, Iterator[Point])
        assert_type(next(points).x, int)
        assert_type(reader.process_typed(Point, lambda point: point.x), int)
        assert_type(reader.process_typed_with_payload(Point, lambda point, payload: payload[point.x]), int)
    with StreamReader(stream, ChecksumType.CRC32) as reader:
        for batch in reader.batches(max_frames=3):
            assert_type(batch, FrameBatch)
            assert_type(len(batch), int)
            assert_type(batch[0], memoryview)
            assert_type(batch[:2], list[memoryview])
            assert_type([view for view in batch], list[memoryview])
            assert_type(batch.offsets[0] + batch.lengths[0] + batch.stream_offset, int)
        source, unread = reader.detach()
        assert_type(unread, bytes | memoryview)


def paths(folder: str) -> None:
    path = os.path.join(folder, "stream")
    writer = flatstream.open(path, "x", checksum="crc64", buffer_size=100, make_builder=None)
    assert_type(writer, StreamWriter)
    writer.close()
    reader = flatstream.open(path, checksum=Crc64(), capacity=100)
    assert_type(reader, StreamReader)
    reader.close()
    report = recover_file(path, ChecksumType.CRC64, guard=False)
    assert_type(report, RecoveryReport)
    assert_type(report.end, RecoveryEnd)
    frames, last_good_offset, end = report
    assert_type(frames, int)


def strategies() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, MagicFramer(ChecksumFramer(Sum24()))) as writer:
        writer.write_payload(b"abc")
    report = recover(sink.getvalue(), MagicDeframer(ChecksumDeframer(Sum24())))
    assert report == RecoveryReport(1, 14, RecoveryEnd.CLEAN_EOF)
    assert_type(ChecksumType.CRC32.checksum().calculate(memoryview(b"a")), int)
    assert_type(Crc32().calculate(b"a"), int)
    assert_type(Crc32().size, int)
    Crc32().verify(Crc32().calculate(b"a"), b"a")
    both = CompositeValidator(SizeValidator(0, 8), NotEmpty()).add(NotEmpty())
    assert_type(both.validators, tuple[Validator, ...])
    both.validate(bytearray(b"a"))
    DefaultFramer().frame_and_write(sink, b"abc")
    assert_type(DefaultDeframer().locate(b"abc"), FrameSpan | int)
    assert_type(SizeThresholdPolicy(messages_to_wait=3).should_reset(1, 1), ReclamationReason | None)
    try:
        StreamReader(b"abc").read_message()
    except flatstream.UnexpectedEofError as error:
        assert_type(error.needed, int | None)
        assert_type(error.offset, int | None)
    except (flatstream.ChecksumMismatchError, flatstream.FlatStreamError) as other:
        assert_type(other.frame, int | None)


def transforms(path: str) -> None:
    cipher = Aes256Gcm(bytes(32), key_id="1")
    framer = ChecksumFramer(Crc32()).encrypted(cipher)
    assert_type(framer, EncryptedFramer)
    assert_type(framer.cipher, Cipher)
    compressed = framer.compressed(ZstdCompressor(1))
    assert_type(compressed, CompressedFramer)
    assert_type(compressed.compressor, Compressor)
    with flatstream.open(path, "w", framer=compressed, describe=True) as writer:
        writer.write_payload(b"a" * 100)
    with flatstream.open(path, cipher=cipher) as reader:
        assert_type([bytes(payload) for payload in reader], list[bytes])
        assert_type(reader.encryption, EncryptionReport | None)
    assert_type(ChecksumDeframer(Crc32()).encrypted(cipher, require_final=True), EncryptedDeframer)
    DefaultDeframer().compressed([Runs(), ZstdCompressor()], max_payload_len=1 << 20).observed(len)
    with StreamWriter(io.BytesIO(), Turned(DefaultFramer().compressed(Runs()))) as writer:
        writer.write_payload(b"abc")
    TurnedBack(DefaultDeframer()).bounded(100)
    assert_type(flatstream.seal(path, path + ".zst"), SealReport)
    samples = [b"%d some event or other" % number for number in range(2000)]
    assert_type(flatstream.train_dictionary(samples, 1024), bytes)


def pieces() -> None:
    serializer = FrameSerializer("crc32", serializer=JsonSerializer(), describe=True)
    serializer.write({"any": "object"})
    parser = FrameParser("crc32")
    for buffer in serializer.pending_buffers():
        assert_type(buffer, memoryview)
        parser.get_buffer()[: len(buffer)] = buffer
        parser.buffer_updated(len(buffer))
        serializer.mark_sent(len(buffer))
    serializer.finish()
    while data := serializer.take(10):
        parser.feed(data)
    parser.feed_eof()
    assert list(parser.objects()) == [{"any": "object"}]
    assert_type(parser.read_message(), memoryview | None)
    assert_type(parser.read_batch(), FrameBatch | None)
    assert_type(parser.needed, int)
    assert_type(parser.at_eof, bool)
    with StreamWriter(io.BytesIO(), serializer=Text()) as writer:
        writer.write(3)
        assert_type(writer.serializer, Serializer | None)


async def connections() -> None:
    async def answer(connection: Any) -> None:
        async for payload in connection.reader:
            await connection.writer.write_payload(payload)

    async with await serve(answer, "127.0.0.1", 0, framer="crc32", deframer="crc32") as server:
        assert_type(server, Server)
        async with connect("127.0.0.1", server.port, framer="crc32", deframer="crc32") as connection:
            assert_type(connection.reader, AsyncStreamReader)
            assert_type(connection.writer, AsyncStreamWriter)
            await connection.writer.write_payload(b"abc")
            await connection.writer.flush()
            assert_type(await connection.reader.read_message(), memoryview | None)
            assert_type(connection.reader.frames_read, int)


if __name__ == "__main__":
    sink = io.BytesIO()
    write(sink)
    read(sink.getvalue())
    strategies()
    pieces()
    asyncio.run(connections())
    with tempfile.TemporaryDirectory() as folder:
        paths(folder)
        transforms(os.path.join(folder, "transformed.fs"))
'''

# Each line is wrong in the way that its comment names. The checker is told to report comments that silence nothing, so
# that a stub which is not precise enough to see the mistake shows here.
WRONG_USE = """
import io
from typing import Any

import flatstream
from flatstream import (
    Checksum, ChecksumDeframer, ChecksumFramer, ChecksumType, Crc32, DefaultDeframer, DefaultFramer, FrameParser,
    Framer, FrameSerializer, MemoryPolicy, Serializer, SizeValidator, StreamReader, StreamWriter, TransformDeframer,
    Validator, ZstdCompressor, recover,
)

sink = io.BytesIO()
writer = StreamWriter(sink)
reader = StreamReader(b"")

StreamWriter(sink, Crc32)  # type: ignore[arg-type]
StreamWriter(sink, buffer_size="big")  # type: ignore[arg-type]
StreamWriter(sink, DefaultFramer(), 100)  # type: ignore[call-arg]
StreamReader(b"", DefaultFramer())  # type: ignore[arg-type]
StreamReader(b"", memory_policy=5)  # type: ignore[arg-type]
ChecksumFramer("crc32")  # type: ignore[arg-type]
ChecksumDeframer(Crc32(), 100)  # type: ignore[call-arg]
DefaultDeframer(max_frame_length=3)  # type: ignore[call-arg]
DefaultFramer().bounded("3")  # type: ignore[arg-type]
DefaultFramer().observed(3)  # type: ignore[arg-type]
DefaultFramer().with_validator(Crc32())  # type: ignore[arg-type]
DefaultDeframer().max_frame_len = 3  # type: ignore[misc]
Crc32().calculate("text")  # type: ignore[arg-type]
Crc32().size = 3  # type: ignore[misc]
SizeValidator(1)  # type: ignore[call-arg]
StreamWriter(sink, serializer=3)  # type: ignore[arg-type]
writer.write_payload("text is no payload")  # type: ignore[arg-type]
writer.write_payloads([3])  # type: ignore[list-item]
writer.frames_written = 3  # type: ignore[misc]
reader.read_message().nbytes  # type: ignore[union-attr]
reader.read_batch("all")  # type: ignore[arg-type]
reader.process_typed(int, lambda number: number.nothing)  # type: ignore[attr-defined]
flatstream.open("path", "rw")  # type: ignore[call-overload]
flatstream.open("path", "r", buffer_size=3)  # type: ignore[call-overload]
flatstream.open("path", "w", bufer_size=3)  # type: ignore[call-overload]
recover(b"", guard="yes")  # type: ignore[arg-type]
recover(b"").frame  # type: ignore[attr-defined]
ChecksumType.MD5  # type: ignore[attr-defined]
DefaultFramer().compressed("zstd")  # type: ignore[arg-type]
DefaultFramer().encrypted(bytes(32))  # type: ignore[arg-type]
DefaultDeframer().encrypted(None)  # type: ignore[arg-type]
DefaultDeframer().compressed(ZstdCompressor(), max_frame_len=3)  # type: ignore[call-arg]
flatstream.open("path", cipher=bytes(32))  # type: ignore[call-overload]
FrameParser().feed("text")  # type: ignore[arg-type]
FrameParser().read_message().nbytes  # type: ignore[union-attr]
FrameParser(max_frame_len="1 MiB")  # type: ignore[arg-type]
FrameSerializer().take().decode().nothing  # type: ignore[attr-defined]
FrameSerializer(FrameParser())  # type: ignore[arg-type]


class OneArgument(Framer):
    def frame_and_write(self, payload: memoryview) -> None:  # type: ignore[override]
        pass


class Nothing(TransformDeframer):
    def restore(self, payload: memoryview) -> int:  # type: ignore[override]
        return 0


class TextSerializer(Serializer):
    def dumps(self, item: object) -> str:  # type: ignore[override]
        return ""


class TextChecksum(Checksum):
    def calculate(self, payload: memoryview) -> str:  # type: ignore[override]
        return ""


class OnlyBytes(Validator):
    def validate(self, payload: bytes) -> None:  # type: ignore[override]
        pass


class Always(MemoryPolicy):
    def should_reset(self, last_message_size: int, current_capacity: int) -> bool:  # type: ignore[override]
        return True
"""


def environment() -> dict[str, str]:
    """The environment with which mypy finds the same package as this test: an editable install is not enough for it."""
    parent = Path(flatstream.__file__).resolve().parent.parent
    found = {name: value for name, value in os.environ.items() if name != "MYPYPATH"}
    # It looks into site-packages by itself, and refuses to be told to.
    return found if parent.name == "site-packages" else {**found, "MYPYPATH": str(parent)}


PROGRAMS = {
    "right_use": RIGHT_USE,
    "wrong_use": WRONG_USE,
    # Without their comments, so that it is certain that the checker finds the package at all.
    "reported_use": f"{WRONG_USE}\nCrc32().calculate(3)\nwriter.write_payload(None)\n",
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says of each program in its strictest mode, by the program: one process reads the package once."""
    folder = tmp_path_factory.mktemp("typing")
    for name, program in PROGRAMS.items():
        (folder / f"{name}.py").write_text(program)
    # Of an installed package, mypy says only what is wrong with its use: its modules import libraries without types.
    quiet = ["--no-error-summary", "--follow-imports=silent"]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", *quiet, "--cache-dir"]
    done = subprocess.run(
        [*command, str(folder / "cache"), *(f"{name}.py" for name in PROGRAMS)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not done.stderr, done.stderr
    assert done.returncode == bool(done.stdout)
    found: dict[str, list[str]] = {name: [] for name in PROGRAMS}
    for line in done.stdout.splitlines():
        found[line.partition(".py:")[0]].append(line)
    return found


def test_right_use_of_the_package_is_accepted_and_typed(reports: dict[str, list[str]]) -> None:
    assert reports["right_use"] == []


def test_right_use_of_the_package_runs(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(RIGHT_USE)
    subprocess.run([sys.executable, "-W", "error", str(path)], cwd=tmp_path, check=True, timeout=300)


def test_every_wrong_use_of_the_package_is_refused(reports: dict[str, list[str]]) -> None:
    assert reports["wrong_use"] == []


def test_wrong_use_is_reported_by_name(reports: dict[str, list[str]]) -> None:
    errors = [line for line in reports["reported_use"] if ": error: " in line]
    assert len(errors) == sum("[arg-type]" in line for line in errors) == 2

"""Messages that are compressed one by one, beside the libraries alone; and what becomes of a file in other formats.

    python -m asv_benchmarks.compression                                # prints the tables of docs/compression.md
    python -m asv_benchmarks.compression --write docs/compression.md

`CompressedFrames` writes to and reads from memory. Its yardstick is the library alone: one context over the same
messages, into a list, without frames.

The tables compare files. Each format has the same messages, with a checksum where it has one, and is written and read
as its users do it: MCAP in chunks of 1 MiB with CRCs, Avro in blocks of 16 kB. Their readers give bytes. What they
share of the messages, whole files, chunks and blocks compress better; and to read one message, all of the chunk or the
block, or of the file before it, is decompressed.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import fastavro
import lz4.block
import mcap.reader
import mcap.writer
import zstandard

import flatstream
from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    Compressor,
    Crc32,
    Lz4Compressor,
    StreamReader,
    StreamWriter,
    ZstdCompressor,
)
from flatstream.transforms import _zstd

from .common import Benchmark, NullSink
from .compressed_events import KINDS, dictionary_of, events_of
from .telemetry_event import EXAMPLES

METHODS = ("zstd", "zstd+dictionary", "lz4")

LEVEL = 3


def compressor_of(method: str, kind: str, count: int) -> Compressor:
    """The compressor of a method; a dictionary is that for these events."""
    if method == "lz4":
        return Lz4Compressor()
    return ZstdCompressor(LEVEL, dictionary_of(kind, count) if method == "zstd+dictionary" else None)


class CompressedFrames(Benchmark):
    """`count` events through `CompressedFramer` and back, with CRC-32."""

    params = (METHODS, KINDS)
    param_names = ("method", "kind")
    count = 2000

    def setup(self, method: str, kind: str) -> None:
        self.events = list(events_of(kind, self.count))
        compressor = compressor_of(method, kind, self.count)
        self.framer = ChecksumFramer(Crc32()).compressed(compressor)
        self.deframer = ChecksumDeframer(Crc32()).compressed(compressor)
        sink = io.BytesIO()
        with StreamWriter(sink, self.framer) as writer:
            writer.write_payloads(self.events)
        self.stream = sink.getvalue()
        self.size = sum(map(len, self.events))
        trained = compressor.dictionary
        self.compressed = [bytes(compressor.compress(memoryview(event))) for event in self.events]
        if method == "lz4":
            self.library_compress: Callable[[bytes], bytes] = lz4.block.compress
            self.library_decompress: Callable[[bytes], bytes] = lz4.block.decompress
            return
        zstd = _zstd.standard_zstd()
        context = zstd.ZstdCompressor(LEVEL, zstd_dict=zstd.ZstdDict(trained) if trained else None)
        end = context.FLUSH_FRAME
        self.library_compress = lambda event: context.compress(event, end)
        known = zstandard.ZstdCompressionDict(trained) if trained else None
        self.library_decompress = zstandard.ZstdDecompressor(dict_data=known).decompress

    def units(self, method: str, kind: str) -> int:
        return self.count

    def time_write_payloads(self, method: str, kind: str) -> None:
        with StreamWriter(NullSink(), self.framer) as writer:
            writer.write_payloads(self.events)
        assert writer.bytes_written == len(self.stream)

    def time_compress_by_library(self, method: str, kind: str) -> None:
        compress = self.library_compress
        frames = [compress(event) for event in self.events]
        assert sum(map(len, frames)) == sum(map(len, self.compressed))

    def time_read_batches(self, method: str, kind: str) -> None:
        size = 0
        with StreamReader(self.stream, self.deframer) as reader:
            for batch in reader.batches():
                size += len(batch.buffer)
        assert size == self.size

    def time_for_loop(self, method: str, kind: str) -> None:
        size = 0
        with StreamReader(self.stream, self.deframer) as reader:
            for payload in reader:
                size += len(payload)
        assert size == self.size

    def time_decompress_by_library(self, method: str, kind: str) -> None:
        decompress = self.library_decompress
        events = [decompress(frame) for frame in self.compressed]
        assert sum(map(len, events)) == self.size


class Unpackers(Benchmark):
    """Reading with `zstandard`, which uses its context again, and with the standard module, which makes one a frame."""

    params = (("zstandard", "standard"), KINDS)
    param_names = ("library", "kind")
    count = 2000

    def setup(self, library: str, kind: str) -> None:
        self.events = list(events_of(kind, self.count))
        trained = dictionary_of(kind, self.count)
        compressor = ZstdCompressor(LEVEL, trained)
        self.frames = [memoryview(compressor.compress(event)) for event in self.events]
        self.unpacker = {"zstandard": _zstd.reusing_unpacker, "standard": _zstd.standard_unpacker}[library](trained)

    def units(self, library: str, kind: str) -> int:
        return self.count

    def time_read_zstd(self, library: str, kind: str) -> None:
        unpack = self.unpacker.unpack
        for frame in self.frames:
            unpack(frame, 1 << 20)


class Sizes(Benchmark):
    """What a dictionary gains: the bytes of frames without one, divided by those with one and the dictionary itself."""

    params = (KINDS,)
    param_names = ("kind",)
    count = 5000
    unit = "times smaller"

    def setup(self, kind: str) -> None:
        self.events = list(events_of(kind, self.count))

    def track_gain_of_dictionary(self, kind: str) -> float:
        sizes = []
        for method in ("zstd", "zstd+dictionary"):
            compressor = compressor_of(method, kind, self.count)
            sink = io.BytesIO()
            with StreamWriter(sink, ChecksumFramer(Crc32()).compressed(compressor), describe=True) as writer:
                writer.write_payloads(self.events)
            sizes.append(len(sink.getvalue()))
        return sizes[0] / sizes[1]


# The tables


def write_stream(compressor: Compressor | None) -> Callable[[str, Sequence[bytes]], None]:
    """Writes a stream with CRC-32 that says how it is compressed."""

    def write(path: str, events: Sequence[bytes]) -> None:
        framer = ChecksumFramer(Crc32())
        made = framer if compressor is None else framer.compressed(compressor)
        with flatstream.open(path, "w", framer=made, describe=True) as writer:
            for event in events:
                writer.write_payload(event)

    return write


def write_whole(compression: str) -> Callable[[str, Sequence[bytes]], None]:
    """Writes a stream with CRC-32 into a file that is compressed as a whole."""

    def write(path: str, events: Sequence[bytes]) -> None:
        if compression == "zstd":
            file: Any = _zstd.standard_zstd().open(path, "wb")
        else:
            import lz4.frame

            file = lz4.frame.open(path, "wb")
        with file, StreamWriter(file, Crc32(), describe=True) as writer:
            for event in events:
                writer.write_payload(event)

    return write


def read_stream(path: str) -> int:
    """The bytes of the messages of a stream."""
    with flatstream.open(path) as reader:
        return sum(len(payload) for payload in reader)


def write_mcap(compression: Any) -> Callable[[str, Sequence[bytes]], None]:
    """Writes MCAP with chunks of 1 MiB."""
    schema = (EXAMPLES / "telemetry.bfbs").read_bytes()

    def write(path: str, events: Sequence[bytes]) -> None:
        with open(path, "wb") as file:
            writer = mcap.writer.Writer(file, compression=compression)
            writer.start()
            schema_id = writer.register_schema("telemetry.Event", "flatbuffer", schema)
            channel_id = writer.register_channel("telemetry", "flatbuffer", schema_id)
            for number, event in enumerate(events):
                writer.add_message(channel_id, log_time=number, data=event, publish_time=number, sequence=number)
            writer.finish()

    return write


def read_mcap(path: str) -> int:
    """The bytes of the messages of an MCAP file."""
    with open(path, "rb") as file:
        reader = mcap.reader.make_reader(file, validate_crcs=True)
        return sum(len(message.data) for _, _, message in reader.iter_messages(log_time_order=False))


def write_avro(codec: str) -> Callable[[str, Sequence[bytes]], None]:
    """Writes an Avro container of bytes, with blocks of 16 kB."""

    def write(path: str, events: Sequence[bytes]) -> None:
        with open(path, "wb") as file:
            fastavro.writer(file, "bytes", events, codec=codec)

    return write


def read_avro(path: str) -> int:
    """The bytes of the messages of an Avro container."""
    with open(path, "rb") as file:
        return sum(map(len, fastavro.reader(file)))  # type: ignore[arg-type, unused-ignore]


Row = tuple[str, str, Callable[[str, Sequence[bytes]], None], Callable[[str], int]]


def rows_of(kind: str, count: int) -> Iterable[Row]:
    """A name, the ending of the file, what writes it and what reads it."""
    kinds = mcap.writer.CompressionType
    yield "flatstream, not compressed", ".fs", write_stream(None), read_stream
    yield "flatstream, each message, zstd", ".fs", write_stream(compressor_of("zstd", kind, count)), read_stream
    trained = compressor_of("zstd+dictionary", kind, count)
    yield "flatstream, each message, zstd with a dictionary", ".fs", write_stream(trained), read_stream
    yield "flatstream, each message, lz4", ".fs", write_stream(compressor_of("lz4", kind, count)), read_stream
    yield "flatstream, the whole file, zstd", ".fs.zst", write_whole("zstd"), read_stream
    yield "flatstream, the whole file, lz4", ".fs.lz4", write_whole("lz4"), read_stream
    yield "MCAP, chunks, zstd", ".mcap", write_mcap(kinds.ZSTD), read_mcap
    yield "MCAP, chunks, lz4", ".mcap", write_mcap(kinds.LZ4), read_mcap
    yield "Avro, blocks, zstandard", ".avro", write_avro("zstandard"), read_avro
    yield "Avro, blocks, deflate", ".avro", write_avro("deflate"), read_avro
    yield "Avro, blocks, not compressed", ".avro", write_avro("null"), read_avro


def best(function: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of several calls."""
    found = float("inf")
    for _ in range(runs):
        begin = time.perf_counter()
        function()
        found = min(found, time.perf_counter() - begin)
    return found


def table(kind: str, count: int, runs: int) -> Iterable[str]:
    """The table of one kind of events, as Markdown."""
    events = list(events_of(kind, count))
    size = sum(map(len, events))
    title = {"agent": "Events of the agent", "small": "Small events"}[kind]
    yield f"**{title}: {count:,} of {size / count:,.0f} bytes**"
    yield ""
    yield "| file | bytes an event | of the messages | write, µs an event | read, µs an event |"
    yield "|---|---:|---:|---:|---:|"
    with tempfile.TemporaryDirectory() as folder:
        for name, ending, write, read in rows_of(kind, count):
            path = os.path.join(folder, f"events{ending}")
            written = best(lambda: write(path, events), runs)  # noqa: B023 - called at once
            assert read(path) == size
            taken = best(lambda: read(path), runs)  # noqa: B023 - called at once
            bytes_each = os.path.getsize(path) / count
            yield (
                f"| {name} | {bytes_each:,.1f} | {100 * os.path.getsize(path) / size:.0f} % | "
                f"{written / count * 1e6:.2f} | {taken / count * 1e6:.2f} |"
            )
            os.unlink(path)
    yield ""


def main() -> None:
    """Measures, and prints the tables or writes them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", metavar="PAGE", type=Path)
    arguments = parser.parse_args()
    lines = [line for kind in KINDS for line in table(kind, arguments.count, arguments.runs)]
    text = "\n".join(lines)
    if arguments.write is None:
        print(text)
        return
    page = arguments.write.read_text()
    begin, end = "<!-- tables -->\n", "<!-- end of tables -->"
    arguments.write.write_text(
        re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", page, count=1, flags=re.DOTALL)
    )


if __name__ == "__main__":
    main()

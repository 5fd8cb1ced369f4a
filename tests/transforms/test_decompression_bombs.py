"""What a stranger sends takes no more memory than the limit, and a claim takes none; nothing is left over either."""

from __future__ import annotations

import gc
import io
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    CompressedDeframer,
    DecompressionError,
    DefaultDeframer,
    FlatStreamError,
    Lz4Compressor,
    StreamReader,
    StreamWriter,
    ZstdCompressor,
)
from reference import framing
from support.compression import (
    block,
    dictionary,
    event,
    every_unpacker,  # noqa: F401 - a fixture
    frame_header,
    repeated,
)
from support.extent import EVERYTHING, in_one_test
from support.memory import growth
from support.processes import run_python

MIB = 1 << 20

# Each is a few bytes or KiB, and would become, or claims to be, gigabytes. None of them may become more than the limit.
DENSEST = 1 << 17
BOMBS = {
    "zstd with a true size": b"\1" + frame_header(size=8000 * DENSEST) + repeated(b"a", DENSEST, last=False) * 8000,
    "zstd without a size": b"\1" + frame_header(size=None, window=0x88) + repeated(b"a", DENSEST, last=False) * 8000,
    "zstd with a size that is too small": b"\1" + frame_header(size=1000) + repeated(b"a", DENSEST, last=False) * 8000,
    "zstd with a size of 64 MiB in few bytes": b"\1" + frame_header(size=64 * MIB) + block(b"abc"),
    "zstd with a size of 1 GiB in few bytes": b"\1" + frame_header(size=1 << 30) + block(b"abc"),
    "zstd frames in a row": b"\1" + (frame_header(size=DENSEST) + repeated(b"a", DENSEST)) * 8000,
    "zstd that can be skipped": b"\1\x50\x2a\x4d\x18" + (2**32 - 1).to_bytes(4, "little") + b"abc",
    "lz4 with a size of 4 GiB": b"\2" + b"\xff" * 4 + b"\x1fa\1\0" + b"\xff" * 1000,
    "lz4 with a size of 64 MiB in few bytes": b"\2" + (64 * MIB).to_bytes(4, "little") + b"\x1fa\1\0" + b"\xff" * 1000,
    "lz4 with a size that is too small": b"\2" + (1000).to_bytes(4, "little") + b"\x1fa\1\0" + b"\xff" * MIB,
}


@pytest.mark.usefixtures("every_unpacker")
@in_one_test
@pytest.mark.parametrize("name", list(BOMBS))
def test_bomb_is_refused_and_the_next_message_is_read(name: str) -> None:
    data = framing.encode([BOMBS[name], b"\0fine"], "none")
    tracemalloc.start()
    try:
        with StreamReader(data, CompressedDeframer(DefaultDeframer(), max_payload_len=64 * MIB)) as reader:
            with pytest.raises(DecompressionError):
                reader.read_message()
            payload = reader.read_message()
            assert payload is not None
            assert bytes(payload) == b"fine"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB


def test_process_that_reads_bombs_stays_small() -> None:
    # The memory of the libraries is not that of Python: the process itself is measured.
    code = f"""
import resource, sys
sys.path[:0] = {[str(Path(__file__).parent.parent)]!r}
from flatstream import CompressedDeframer, DecompressionError, DefaultDeframer, StreamReader
from flatstream.transforms import _zstd
from reference import framing
from support.compression import UNPACKERS, block, frame_header, repeated

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

bombs = [
    b"\\1" + frame_header(size=64 << 20) + block(b"abc"),
    b"\\1" + frame_header(size=None, window=0x88) + repeated(b"a", 1 << 17, last=False) * 8000,
    b"\\1" + frame_header(size=1000) + repeated(b"a", 1 << 17, last=False) * 8000,
    b"\\1" + frame_header(size=64 << 20) + repeated(b"a", 1 << 17, last=False) * 512,
    b"\\2" + (64 << 20).to_bytes(4, "little") + b"\\x1fa\\1\\0" + bytes(270_000),
]
for make in UNPACKERS.values():
    _zstd.UNPACKERS = (make,)
    deframer = CompressedDeframer(DefaultDeframer())
    # Imports, and the context.
    for stored in (b"\\1" + _zstd.standard_zstd().compress(b"a" * 1000), b"\\0a"):
        with StreamReader(framing.encode([stored], "none"), deframer) as reader:
            reader.read_message()
    before = peak()
    for bomb in bombs[:3]:
        with StreamReader(framing.encode([bomb], "none"), deframer) as reader:
            try:
                reader.read_message()
            except DecompressionError:
                pass
            else:
                raise SystemExit("not refused")
    print(peak() - before, end=" ")
    # The limit itself, and no more than what the library and the payload take of it.
    for bomb in bombs[3:]:
        with StreamReader(framing.encode([bomb], "none"), deframer) as reader:
            try:
                reader.read_message()
            except DecompressionError:
                pass
    print(peak() - before, end=" ")
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    small, large, small_again, large_again = map(int, done.stdout.split())
    assert max(small, small_again) < 8, done.stdout
    assert max(large, large_again) < 64 * 2 + 16, done.stdout


def test_hostile_dictionary_in_a_description_is_refused() -> None:
    from flatstream.description import Description, Transform

    good = dictionary()
    for data in (b"\x37\xa4\x30\xec" + bytes(3), good[:50], b"no dictionary", good[:8] + bytes(500)):
        described = Description(checksum="none", transforms=[Transform("compression", (("method", "zstd"),), data)])
        stream = framing.encode([described.to_bytes(), b"\1" + ZstdCompressor(3, good).compress(event(1))], "none")
        with StreamReader(stream) as reader:
            assert reader.description == described
            with pytest.raises(FlatStreamError, match="the dictionary in the description is damaged"):
                reader.read_message()
            with pytest.raises(FlatStreamError, match="the dictionary in the description is damaged"):
                reader.read_batch()


# Leaks


def read_everything(data: bytes, deframer: Any) -> None:
    with StreamReader(data, deframer, on_error="skip") as reader:
        for _ in reader:
            pass
    with StreamReader(data, deframer) as reader:
        while True:
            try:
                if reader.read_batch() is None:
                    break
            except FlatStreamError:
                pass


@pytest.mark.usefixtures("every_unpacker")
def test_nothing_is_left_over_of_streams_with_refused_frames(tmp_path: Path) -> None:
    compressors: list[Any] = [ZstdCompressor(3, dictionary()), Lz4Compressor()]
    streams = []
    for compressor in compressors:
        stored = [bytes([compressor.number]) + bytes(compressor.compress(event(number))) for number in range(8)]
        stored[3] = stored[3][:-3]
        stored[5] = b"\xc8abc"
        stored[6] = b"\1" + frame_header(size=1 << 30)
        streams.append((framing.encode([*stored, b"\0abc"], "crc32"), compressor))

    def cycle(folder: Path) -> None:
        for data, compressor in streams:
            deframer = flatstream.ChecksumDeframer(flatstream.Crc32()).compressed(compressor)
            read_everything(data, deframer)
            with StreamWriter(io.BytesIO(), flatstream.DefaultFramer().compressed(compressor)) as writer:
                writer.write_payloads([event(number) for number in range(5)])
                writer.write_payload(event(9))

    assert min(growth(cycle, tmp_path, sys.getallocatedblocks, 30 if EVERYTHING else 10)) < 3
    gc.collect()


@pytest.mark.long
def test_a_million_frames_take_no_more_memory_than_the_first() -> None:
    code = f"""
import io, resource, sys
sys.path[:0] = {[str(Path(__file__).parent.parent)]!r}
import flatstream
from flatstream import ChecksumDeframer, ChecksumFramer, Crc32, StreamReader, StreamWriter, ZstdCompressor
from support.compression import dictionary, event

framer = ChecksumFramer(Crc32()).compressed(ZstdCompressor(1, dictionary()))
deframer = ChecksumDeframer(Crc32()).compressed(ZstdCompressor(1, dictionary()))
payloads = [event(number) for number in range(10_000)]

def turn():
    sink = io.BytesIO()
    with StreamWriter(sink, framer) as writer:
        writer.write_payloads(payloads)
    with StreamReader(sink.getvalue(), deframer) as reader:
        assert sum(1 for _ in reader) == 10_000

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for _ in range(10):
    turn()
before = peak()
for _ in range(100):
    turn()
print(peak() - before)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4096

"""Files that are no stream (goal 18 of RELIABILITY.md): nothing is authorised, and what they are."""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import lzma
import pickle
import random
import sqlite3
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import FlatStreamError, RecoveryEnd, RecoveryReport, recover, recover_file
from flatstream._file_types import looks_like
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES, Mode, every_mode
from support.sources import every_source
from support.streams import corpus, recover_bytes

RANDOM = random.Random(18)
EVENTS = [flatbuffer_of_event(number) for number in range(200)]


def archive(kind: str) -> bytes:
    sink = io.BytesIO()
    data = corpus(MODES["crc32"], EVENTS[:20]).data
    if kind == "zip":
        with zipfile.ZipFile(sink, "w") as zipped:
            zipped.writestr("events.fs", data)
    else:
        with tarfile.open(fileobj=sink, mode="w") as tar:
            member = tarfile.TarInfo("events.fs")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def sqlite() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table events (number)")
        return connection.serialize()


def png() -> bytes:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(72))),
        (b"IEND", b""),
    ]
    body = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


# What each is, by name, and the bytes.
FOREIGN: dict[str, tuple[str | None, bytes]] = {
    "text": ("text", b"root:x:0:0:root:/root:/bin/sh\n" * 40),
    "long text": ("text", "größer, ".encode() * 2000),
    "json": ("text", b'{"event": 1, "value": 2.5}\n' * 9),
    "utf-16": ("text", "text".encode("utf-16")),
    "gzip": ("gzip", gzip.compress(corpus(MODES["xxhash64"], EVENTS).data)),
    "bzip2": ("bzip2", bz2.compress(corpus(MODES["crc32"], EVENTS[:20]).data)),
    "xz": ("xz", lzma.compress(corpus(MODES["crc32"], EVENTS[:20]).data)),
    "zstd": ("zstd", bytes.fromhex("28b52ffd 046055 0000 18616263 01 00 29d5 19 0a")),
    "lz4": ("lz4", b"\x04\x22\x4d\x18\x64\x40\xa7" + RANDOM.randbytes(500)),
    "zip": ("zip", archive("zip")),
    "tar": ("tar", archive("tar")),
    "parquet": ("Parquet", b"PAR1" + RANDOM.randbytes(5000) + b"PAR1"),
    "arrow file": ("Arrow", b"ARROW1\x00\x00\xff\xff\xff\xff" + RANDOM.randbytes(500) + b"ARROW1"),
    "arrow stream": ("Arrow", b"\xff\xff\xff\xff\x78\x00\x00\x00\x10\x00\x00\x00" + bytes(500)),
    "feather 1": ("Arrow", b"FEA1\x00\x00\x00\x00" + RANDOM.randbytes(500) + b"FEA1"),
    "orc": ("ORC", b"ORC\x11\x00\x00\x0a" + RANDOM.randbytes(500)),
    "sqlite": ("SQLite", sqlite()),
    "png": ("PNG", png()),
    "jpeg": ("JPEG", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + RANDOM.randbytes(500)),
    "pdf": ("PDF", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + RANDOM.randbytes(500)),
    "elf": ("ELF", Path(sys.executable).read_bytes()[:20_000] if sys.platform == "linux" else b"\x7fELF" + bytes(20)),
    "zeros": ("zeros", bytes(5000)),
    "random": (None, RANDOM.randbytes(5000)),
    "one byte": (None, b"\x07"),
    "three bytes": (None, b"abc"),
}
every_foreign_file = pytest.mark.parametrize("kind", FOREIGN)


@in_one_test(step=3)
@every_foreign_file
@every_mode
def test_foreign_file_authorises_nothing_and_is_not_changed(mode: Mode, kind: str, tmp_path: Path) -> None:
    seems, data = FOREIGN[kind]
    path = tmp_path / "file"
    path.write_bytes(data)
    with open(path, "r+b") as file:
        report = recover_bytes(path, mode.deframer())
        if not isinstance(report, FlatStreamError):
            assert recover_file(file, mode.deframer()) == report == (0, 0, RecoveryEnd.NOT_A_STREAM)
            assert report.looks_like in (seems, "a torn frame") if seems is None else report.looks_like == seems
            # Those who cut in spite of it cut nothing.
            file.truncate()
    if mode.checksum_type is not None:
        # What can be decompressed is known for what it is.
        with pytest.raises(ValueError if seems in ("gzip", "bzip2", "xz") else FlatStreamError) as caught:
            flatstream.open(path, "a", checksum=mode.checksum_type)
        assert "truncate it" not in str(caught.value)
    assert path.read_bytes() == data


@in_one_test
@every_foreign_file
def test_what_a_foreign_file_looks_like_is_told_by_its_first_bytes(kind: str) -> None:
    seems, data = FOREIGN[kind]
    for view in (data, bytearray(data), memoryview(data), data[:300] if kind != "random" else data):
        assert looks_like(view) == seems
    assert looks_like(b"") is None


@in_one_test
@every_foreign_file
@every_mode
def test_foreign_file_without_the_guard_gives_the_crates_report(mode: Mode, kind: str) -> None:
    data = FOREIGN[kind][1]
    report = recover_bytes(data, mode.deframer(), guard=False)
    assert isinstance(report, FlatStreamError) or report.end is not RecoveryEnd.NOT_A_STREAM


@in_one_test
@every_source
def test_foreign_file_is_told_from_every_source(source_kind: Any, tmp_path: Path) -> None:
    # Its first bytes are a length of 1.9 GB.
    for seems, data in (FOREIGN["text"], FOREIGN["zeros"]):
        with source_kind.open(data, tmp_path) as source:
            report = recover(source, "crc32")
        assert (report, report.looks_like) == ((0, 0, RecoveryEnd.NOT_A_STREAM), seems)


@in_one_test
@every_mode
def test_stream_that_is_torn_in_its_first_frame_is_no_stream_yet(mode: Mode) -> None:
    stream = corpus(mode, [flatbuffer_of_event(3)])
    for cut in range(1, len(stream.data)):
        report = recover(stream.data[:cut], mode.deframer())
        assert report == (0, 0, RecoveryEnd.NOT_A_STREAM)
        assert report.looks_like == ("a torn frame" if cut >= 4 else None)
        assert recover(stream.data[:cut], mode.deframer(), guard=False) == (0, 0, RecoveryEnd.TORN_TAIL)
    assert recover(b"", mode.deframer()) == (0, 0, RecoveryEnd.CLEAN_EOF)


def test_stream_with_another_checksum_looks_like_one() -> None:
    for name in ("crc16", "crc32", "crc32c", "crc64", "xxhash64"):
        assert looks_like(corpus(MODES[name], EVENTS[:3]).data) == f"a stream with the checksum {name}"


# The report


def test_report_is_a_tuple_of_three_with_what_the_source_looks_like_beside_it() -> None:
    report = recover(b"root:x:0:0:root:/root:/bin/sh\n")
    assert report == (0, 0, RecoveryEnd.NOT_A_STREAM)
    assert report == RecoveryReport(0, 0, RecoveryEnd.NOT_A_STREAM)
    assert hash(report) == hash((0, 0, RecoveryEnd.NOT_A_STREAM))
    frames, offset, end = report
    assert (frames, offset, end, len(report)) == (0, 0, RecoveryEnd.NOT_A_STREAM, 3)
    assert report.looks_like == "text"
    assert repr(report) == (
        "RecoveryReport(frames=0, last_good_offset=0, end=<RecoveryEnd.NOT_A_STREAM: 'not_a_stream'>, "
        "looks_like='text')"
    )
    for copied in (pickle.loads(pickle.dumps(report)), copy.copy(report), copy.deepcopy(report)):
        assert (type(copied), copied, copied.looks_like) == (RecoveryReport, report, "text")
    with pytest.raises(AttributeError):
        report.looks_like = "gzip"  # type: ignore[misc]


def test_report_of_a_stream_looks_like_nothing() -> None:
    report = recover(corpus(MODES["crc32"], EVENTS[:2]).data[:-1], "crc32")
    assert report.looks_like is None
    assert repr(report).endswith("end=<RecoveryEnd.TORN_TAIL: 'torn_tail'>)")
    assert pickle.loads(pickle.dumps(report)).looks_like is None
    assert report._replace(frames=7) == (7, *report[1:])


@pytest.mark.parametrize("fill", [b"", bytes(100), b"x" * 5000])
def test_a_flatbuffer_without_a_frame_is_no_torn_stream(tmp_path: Path, fill: bytes) -> None:
    # The offset of its root is taken for the length of a frame, so it seems to be a whole frame and a torn one.
    for number in range(12):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(flatbuffer_of_event(number) + fill)
        data = path.read_bytes()
        report = recover_file(path)
        assert (report, report.looks_like) == ((0, 0, RecoveryEnd.NOT_A_STREAM), "a FlatBuffer")
        with flatstream.open(path, "a", recover=True) as writer:
            assert writer.recovery is not None
            assert writer.recovery.action == "moved"
            assert writer.recovery.saved_as is not None
            assert Path(writer.recovery.saved_as).read_bytes() == data

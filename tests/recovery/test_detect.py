"""`detect`: the checksum of a stream, from many frames at several places, or the answer that it is none."""

from __future__ import annotations

import io
import mmap
import random
import time
from pathlib import Path
from typing import Any

import pytest

from flatstream import ChecksumType, Detection, StreamWriter, detect
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES
from support.streams import corpus

every_type = pytest.mark.parametrize("kind", list(ChecksumType), ids=lambda kind: kind.value)
EVENTS = [flatbuffer_of_event(number) for number in range(60)]


def written(kind: ChecksumType, payloads: list[bytes]) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, kind) as writer:
        writer.write_payloads(payloads)
    return sink.getvalue()


@in_one_test
@every_type
def test_checksum_of_a_stream_is_detected(kind: ChecksumType) -> None:
    for count in (1, 2, 3, 60):
        found = detect(written(kind, EVENTS[:count]))
        enough = {ChecksumType.NONE: 10, ChecksumType.CRC16: 2}.get(kind, 1)
        assert found == (kind, count, 1.0 if count >= enough else 0.5, None)


@in_one_test
@every_type
def test_checksum_of_a_torn_or_damaged_stream_is_detected(kind: ChecksumType) -> None:
    data = written(kind, EVENTS)
    assert detect(data[:-5])[:2] == (kind, 59)
    for place in (0, 2, 30):
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        assert detect(damaged).checksum is kind
    assert detect(data + bytes(4096))[:2] == (kind, 60)


@pytest.mark.parametrize(
    "name",
    ["crc16", "crc32", *(pytest.param(name, marks=pytest.mark.long) for name in ("crc32c", "crc64", "xxhash64"))],
)
def test_frames_in_any_place_of_a_large_file_count(name: str, tmp_path: Path) -> None:
    # Its beginning is lost, and so is its middle.
    data = bytearray(written(ChecksumType(name), EVENTS * 900))
    data[: 3 << 19] = bytes(3 << 19)
    path = tmp_path / "large.fs"
    path.write_bytes(data)
    found = detect(path)
    assert found.checksum is ChecksumType(name)
    assert found.confidence == 1.0
    assert found.frames > 1000


@in_one_test
@every_type
def test_first_frame_larger_than_a_place_is_read(kind: ChecksumType) -> None:
    payload = bytearray(EVENTS[7] + bytes(1_200_000))
    found = detect(written(kind, [bytes(payload), *EVENTS]))
    assert found.checksum is kind


@in_one_test
@pytest.mark.parametrize(
    ("data", "seems"),
    [
        (b"", None),
        (b"\x07", None),
        (bytes(10_000), "zeros"),
        (bytes(2 << 20), "zeros"),
        (b"root:x:0:0:root:/root:/bin/sh\n" * 40, "text"),
        (b"\x1f\x8b" + random.Random(1).randbytes(100_000), "gzip"),
        (random.Random(2).randbytes(100_000), None),
        (EVENTS[0], "a FlatBuffer"),
        (EVENTS[0][:-1] + b"??????", "a FlatBuffer"),
        (b"PK\x03\x04" + bytes(26) + corpus(MODES["crc32"], EVENTS).data, "zip"),
    ],
    ids=[
        "empty",
        "one byte",
        "zeros",
        "many zeros",
        "text",
        "gzip",
        "random",
        "message",
        "message and more",
        "zip with a stream",
    ],
)
def test_what_is_no_stream_has_no_checksum(data: bytes, seems: str | None) -> None:
    assert detect(data) == Detection(None, 0, 0.0, seems)


def test_frames_without_a_checksum_and_without_messages_are_not_detected() -> None:
    assert detect(written(ChecksumType.NONE, [b"telemetry"] * 50)).checksum is None


def test_stream_is_detected_from_a_path_a_file_and_every_buffer(tmp_path: Path) -> None:
    data = written(ChecksumType.CRC32C, EVENTS)
    path = tmp_path / "stream.fs"
    path.write_bytes(data)
    expected = (ChecksumType.CRC32C, 60, 1.0, None)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        file.seek(17)
        sources: list[Any] = [path, str(path), file, mapping, data, bytearray(data), memoryview(data), io.BytesIO(data)]
        for source in sources:
            assert detect(source) == expected
        # A file keeps its position.
        assert file.tell() == 17


def test_large_file_is_not_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.fs"
    with open(path, "wb") as file:
        file.write(written(ChecksumType.XXHASH64, EVENTS))
        file.truncate(8 << 30)
    began = time.perf_counter()
    assert detect(path).checksum is ChecksumType.XXHASH64
    assert time.perf_counter() - began < 10


def test_wrong_sources_are_refused(tmp_path: Path) -> None:
    for wrong in (None, 5, object()):
        with pytest.raises(TypeError, match="source must be a path, a bytes-like object or a seekable file object"):
            detect(wrong)
    with pytest.raises(TypeError, match="open it in binary mode"):
        detect(io.StringIO("text"))
    with pytest.raises(FileNotFoundError):
        detect(tmp_path / "missing.fs")

"""Compressed files: read by `flatstream.open`, `StreamReader` and `detect`, and what is wrong with them."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import itertools
import lzma
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import pytest

import flatstream
from flatstream import InvalidFrameError, RecoveryEnd, StreamReader, detect, recover, recover_file, salvage
from flatstream._compressed import decompressed
from flatstream._peeked import UnseekableFile
from reference import framing as reference
from support.errors import raised_by
from support.extent import in_one_test
from support.processes import run_python

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def attempted(function: Callable[[], Any]) -> Any:
    """The result of a call, or its error."""
    try:
        return function()
    except flatstream.FlatStreamError as error:
        return error


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "Zstandard": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
    "LZ4": lambda data: lz4.frame.compress(data, content_checksum=True),
}
every_format = pytest.mark.parametrize("name", COMPRESS)
PAYLOADS = [bytes([number % 250]) * (number * 37 % 900 + 1) for number in range(900)]
STREAM = reference.encode(PAYLOADS, "crc32")


@in_one_test
@every_format
def test_compressed_file_is_read_as_what_it_holds(name: str, tmp_path: Path) -> None:
    path = tmp_path / "events.fs.any"
    path.write_bytes(COMPRESS[name](STREAM))
    with flatstream.open(path) as reader:
        assert (reader.checksum, reader.checksum_found_by) == ("crc32", "detection")
        assert [bytes(payload) for payload in reader] == PAYLOADS
        assert reader.offset == len(STREAM)
        assert reader.read_message() is None
    several: list[dict[str, Any]] = [{}, {"capacity": 11}, {"on_error": "resync"}]
    for options in several:
        with StreamReader(path, "crc32", **options) as reader:
            assert [bytes(payload) for payload in reader] == PAYLOADS
    with flatstream.open(str(path), checksum="none") as reader, pytest.raises(flatstream.FlatStreamError):
        list(reader)
    found = detect(path)
    assert (found.checksum, found.confidence) == (flatstream.ChecksumType.CRC32, 1.0)
    # A file object is read as it is.
    with open(path, "rb") as file, StreamReader(file, "crc32") as reader, pytest.raises(flatstream.FlatStreamError):
        list(reader)


@in_one_test
@every_format
def test_members_one_after_another_and_padding_are_one_stream(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    compress = COMPRESS[name]
    cuts = [0, 1, 700, len(STREAM) // 2, len(STREAM), len(STREAM)]
    members = [compress(STREAM[begin:end]) for begin, end in itertools.pairwise(cuts)]
    # Zstandard has no padding: zeros are what a power cut has left.
    padding = b"" if name == "Zstandard" else bytes(1000)
    path.write_bytes(b"".join(members) + padding)
    with flatstream.open(path) as reader:
        assert [bytes(payload) for payload in reader] == PAYLOADS
    if name == "Zstandard":
        path.write_bytes(members[0] + members[1] + bytes(len(members[2])))
        with flatstream.open(path) as reader:
            assert "followed by" in str(raised_by(lambda: list(reader)))
    if name in ("Zstandard", "LZ4"):
        skippable = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00skip"
        path.write_bytes(members[0] + skippable + b"".join(members[1:]) + skippable)
        with flatstream.open(path, checksum="crc32") as reader:
            assert [bytes(payload) for payload in reader] == PAYLOADS
    path.write_bytes(b"".join(members) + b"something else")
    with flatstream.open(path) as reader:
        error = raised_by(lambda: list(reader))
    assert type(error) is OSError
    assert f"{path}: the {name} data is followed by 14 bytes or more that are none" in str(error)
    assert f"behind {len(STREAM)} bytes of the stream" in str(error)


@in_one_test
@every_format
def test_data_that_is_cut_off_is_never_a_clean_end(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = COMPRESS[name](STREAM)
    for cut in {len(whole) - 1, len(whole) - 4, len(whole) // 2, 40, 12, 7}:
        path.write_bytes(whole[:cut])
        with StreamReader(path, "crc32") as reader:
            found: list[bytes] = []
            error = raised_by(lambda read=found.extend, source=reader: read(map(bytes, source)))
            assert isinstance(error, EOFError), cut
            message = f"{path}: the {name} data is cut off at the end of the file, after {cut} bytes"
            assert message in str(error)
            assert found == PAYLOADS[: len(found)]
            # It is raised again.
            assert str(raised_by(reader.read_message)) == str(error)
    path.write_bytes(whole[: len(whole) - 1])
    with flatstream.open(path) as reader:
        assert reader.checksum == "crc32"
        # All that was decompressed is given first.
        assert bytes(next(reader)) == PAYLOADS[0]


@in_one_test
@every_format
def test_damaged_data_is_an_error_that_names_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    # At the end is what the whole member is checked with. Damage before it can give wrong frames, which show earlier.
    whole = bytearray(COMPRESS[name](reference.encode([random.Random(5).randbytes(3000)] * 40, "crc32")))
    whole[-3] ^= 0x10
    path.write_bytes(whole)
    several: list[dict[str, Any]] = [{}, {"on_error": "stop"}, {"on_error": "resync"}]
    for options in several:
        # "stop" and "resync" are about frames, and the source has failed.
        with flatstream.open(path, checksum="crc32", **options) as reader:
            error = raised_by(lambda source=reader: list(source))
        assert isinstance(error, OSError), repr(error)
        assert f"{path}: the {name} data cannot be decompressed (" in str(error)
        assert "in the first " in str(error)


def gzip_magic_stream(payload: bytes, checksum: str) -> bytes:
    """A stream whose first bytes are those of gzip: a length of 559,903."""
    assert len(payload) == 0x00088B1F
    return reference.encode([payload, b"next", b"more"], checksum)


def test_intact_stream_that_begins_like_a_compressed_file_is_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "file"
    # Even one whose bytes can be decompressed: no checksum, so that the data of gzip goes on in the payload.
    inside = gzip.compress(b"inside" * 1000, mtime=0)[4:]
    payload = inside + bytes(0x00088B1F - len(inside))
    path.write_bytes(gzip_magic_stream(payload, "crc32"))
    with flatstream.open(path) as reader:
        assert (reader.checksum, [len(each) for each in reader]) == ("crc32", [0x00088B1F, 4, 4])
    path.write_bytes(gzip_magic_stream(bytes(0x00088B1F), "none"))
    with flatstream.open(path) as reader:
        assert (reader.checksum, [len(each) for each in reader]) == ("none", [0x00088B1F, 4, 4])


@in_one_test
@every_format
def test_what_only_begins_like_a_compressed_file_is_read_as_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(COMPRESS[name](b"")[:6] + b"\xee" * 50_000)
    with StreamReader(path, "crc32") as reader:
        assert isinstance(raised_by(reader.read_message), flatstream.FlatStreamError)
    with pytest.raises(InvalidFrameError, match=r"looks like (gzip|bzip2|xz|zstd|lz4)"):
        flatstream.open(path)


@in_one_test
@every_format
def test_compressed_file_is_neither_followed_nor_appended_to_nor_recovered_nor_salvaged(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    data = COMPRESS[name](STREAM)
    path.write_bytes(data)
    for checksum in (None, "crc32"):
        with pytest.raises(InvalidFrameError, match=rf"got a compressed one \({name}\)"):
            flatstream.open(path, follow=True, checksum=checksum)
        with pytest.raises(InvalidFrameError, match=rf"nothing can be appended to a compressed file \({name}\)"):
            flatstream.open(path, "a", checksum=checksum)
    with pytest.raises(InvalidFrameError, match=rf"the source is compressed \({name}\)"):
        salvage(path, tmp_path / "out", "crc32")
    # The offsets of the stream are not those of the file, which somebody may cut there.
    for function in (recover, recover_file):
        found = attempted(functools.partial(function, path, "crc32"))
        if name in ("Zstandard", "LZ4"):
            # The first bytes are a length over the limit, or an uncompressed piece holds whole frames.
            assert isinstance(found, InvalidFrameError)
            assert found.offset == 0
        else:
            assert found == (0, 0, RecoveryEnd.NOT_A_STREAM)
    assert path.read_bytes() == data
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@every_format
def test_much_that_is_decompressed_takes_little_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = reference.encode([bytes(100_000)], "crc32") * 300
    path.write_bytes(COMPRESS[name](data))

    del data
    tracemalloc.start()
    try:
        with flatstream.open(path) as reader:
            assert sum(len(payload) for payload in reader) == 30_000_000
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@in_one_test
@every_format
def test_source_that_cannot_seek_is_decompressed(name: str) -> None:
    file = decompressed(UnseekableFile(io.BytesIO(COMPRESS[name](STREAM))), "a pipe")
    assert file is not None
    assert (file.format, file.name, file.seekable()) == (name, "a pipe", False)
    assert file.peek(5) == STREAM[:5]
    assert file.read() == STREAM
    assert decompressed(plain := UnseekableFile(io.BytesIO(STREAM)), "a pipe") is None
    assert plain.read() == STREAM


def test_xz_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = bytearray(lzma.compress(STREAM))
    # To write such a file takes gigabytes: so its header is made to ask for a dictionary of 2 GiB.
    end = 12 + data[12] * 4
    data[data.index(b"\x21\x01") + 2] = 38
    data[end : end + 4] = zlib.crc32(data[12:end]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(InvalidFrameError, match="looks like xz"):
        flatstream.open(path)


def test_missing_package_is_named(tmp_path: Path) -> None:
    for name, package in (("Zstandard", "backports.zstd"), ("LZ4", "lz4")):
        path = tmp_path / name
        path.write_bytes(COMPRESS[name](STREAM))
        code = (
            "import sys, flatstream\n"
            "sys.modules.update({'compression': None, 'backports': None, 'lz4': None})\n"
            f"try: flatstream.open({str(path)!r})\n"
            "except ImportError as error: print(error)"
        )
        done = run_python(code)
        assert done.stdout == f"reading {name} needs the package {package}: pip install 'flatstream[compression]'\n"
        assert done.stderr == ""

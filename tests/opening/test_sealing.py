"""`flatstream.seal`: where blocks end, what is copied, and what is left when it fails."""

from __future__ import annotations

import errno
import io
import itertools
import os
import random
import shutil
import subprocess
from array import array
from pathlib import Path
from typing import Any

import pytest
import pyzstd

import flatstream
import flatstream._sealing
from flatstream import ChecksumType, InvalidFrameError, SealReport, seal
from flatstream._core.framing.deframer import index_frames
from flatstream._endpoints import open_file
from flatstream._files import give_name
from flatstream._sealing import BlockWriter
from flatstream._seekable import SeekableFile
from flatstream.framing import deframer_for
from support.errors import raised_by
from support.extent import in_one_test
from support.sealed import zstd

RANDOM = random.Random(3)
PAYLOADS = [RANDOM.randbytes(60) * RANDOM.randrange(1, 60) for _ in range(500)]


def stream_of(payloads: list[bytes], checksum: str) -> bytes:
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink, ChecksumType(checksum)) as writer:
        writer.write_payloads(payloads)
    return sink.getvalue()


def blocks_of(path: Path | str) -> list[bytes]:
    with open_file(path) as file:
        assert isinstance(file, SeekableFile)
        blocks = [file.read_block(index) for index in range(file.count)]
        assert file.has_table
        return blocks


def frames_in(data: bytes, checksum: str) -> int | None:
    """How many frames are in a block; None if it does not consist of whole ones."""
    offsets, lengths = array("q", bytes(8 * 5000)), array("q", bytes(8 * 5000))
    count, end = index_frames(data, deframer_for(checksum), offsets, lengths)
    return count if end == len(data) else None


@in_one_test
@pytest.mark.parametrize("checksum", [kind.value for kind in ChecksumType])
@pytest.mark.parametrize("block_size", [4096, 1 << 18])
def test_blocks_have_whole_frames(checksum: str, block_size: int, tmp_path: Path) -> None:
    stream = stream_of(PAYLOADS, checksum)
    path = tmp_path / "events.fs"
    path.write_bytes(stream)
    report = seal(path, checksum=checksum, block_size=block_size)
    blocks = blocks_of(report.path)
    assert report == SealReport(f"{path}.zst", len(stream), os.path.getsize(f"{path}.zst"), len(blocks))
    assert b"".join(blocks) == stream
    counts = [frames_in(block, checksum) for block in blocks]
    assert None not in counts
    assert sum(count or 0 for count in counts) == len(PAYLOADS)
    # No block could have had a frame more.
    longest = 12 + max(map(len, PAYLOADS))
    assert all(block_size - longest < len(block) <= block_size for block in blocks[:-1])
    assert path.read_bytes() == stream


def test_sealed_file_gives_back_the_stream_to_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(stream := stream_of(PAYLOADS, "crc32"))
    report = seal(path)
    data = Path(report.path).read_bytes()
    assert zstd.decompress(data) == stream
    with pyzstd.SeekableZstdFile(report.path) as referee:
        for place in (0, 5, 262_144, len(stream) - 1):
            referee.seek(place)
            assert referee.read(100_000) == stream[place : place + 100_000]
    if shutil.which("zstd"):
        done = subprocess.run(["zstd", "-dc", report.path], capture_output=True, check=True)
        assert done.stdout == stream
    # The ratio is that of the whole file, nearly.
    assert len(zstd.compress(stream, level=3)) > 0.9 * report.stored_size


@in_one_test
@pytest.mark.parametrize("length", [300_000, (4 << 20) - 8, (4 << 20) - 7, 9 << 20])
def test_large_frame_is_a_block_of_its_own_or_is_cut(length: int, tmp_path: Path) -> None:
    payloads = [b"before", b"\x7f" * length, b"behind"] * 2
    stream = stream_of(payloads, "crc32")
    path = tmp_path / "events.fs"
    path.write_bytes(stream)
    blocks = blocks_of(seal(path, checksum="crc32").path)
    assert b"".join(blocks) == stream
    if length + 8 <= 4 << 20:
        assert [frames_in(block, "crc32") for block in blocks] == [1, 1, 2, 1, 1]
    else:
        assert max(map(len, blocks)) == 1 << 18
        # Behind it, blocks begin with frames again.
        assert frames_in(blocks[-1], "crc32") == 1
    with flatstream.open(f"{path}.zst") as reader:
        assert [len(payload) for payload in reader] == list(map(len, payloads))


@in_one_test
@pytest.mark.parametrize("kind", ["a changed byte", "a changed length", "a torn tail", "zeros", "no frame at all"])
def test_damaged_stream_is_sealed_as_it_is(kind: str, tmp_path: Path) -> None:
    stream = bytearray(stream_of(PAYLOADS, "crc32"))
    if kind == "a changed byte":
        for at in (20, 300_000, 500_000):
            stream[at] ^= 1
    elif kind == "a changed length":
        stream[0:4] = (3 << 20).to_bytes(4, "little")
    elif kind == "a torn tail":
        del stream[-7:]
    elif kind == "zeros":
        stream[100_000:400_000] = bytes(300_000)
    else:
        stream = bytearray(random.Random(1).randbytes(600_000))
    path = tmp_path / "events.fs"
    path.write_bytes(stream)
    blocks = blocks_of(seal(path, checksum="crc32").path)
    assert b"".join(blocks) == stream
    assert max(map(len, blocks)) <= 1 << 18
    if kind in ("a changed byte", "zeros"):
        # Behind damage, blocks begin with frames again.
        assert frames_in(blocks[-1], "crc32") is not None


def test_much_damage_makes_no_small_blocks(tmp_path: Path) -> None:
    payloads = [b"%05d" % number * 20 for number in range(5000)]
    stream = bytearray(stream_of(payloads, "crc32"))
    size = len(stream) // len(payloads)
    for at in range(50, len(stream), 2 * size):
        stream[at] ^= 1
    path = tmp_path / "events.fs"
    path.write_bytes(stream)
    blocks = blocks_of(seal(path, checksum="crc32", block_size=16 << 10).path)
    assert b"".join(blocks) == stream
    assert min(map(len, blocks[:-1])) >= 8 << 10


def test_file_of_more_blocks_than_a_table_has_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flatstream._sealing, "MAX_ENTRIES", 3)
    path = tmp_path / "events.fs"
    path.write_bytes(stream_of(PAYLOADS, "crc32"))
    with pytest.raises(ValueError, match="block_size must be larger than"):
        seal(path, block_size=4 << 10)
    with pytest.raises(OSError, match="at most 3 blocks"):
        BlockWriter(lambda data: None, block_size=4 << 10, threads=0).write(path.read_bytes())
    assert list(tmp_path.iterdir()) == [path]


def test_empty_file_is_sealed(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.touch()
    report = seal(path)
    assert (report.size, report.blocks) == (0, 1)
    assert blocks_of(report.path) == [b""]
    assert zstd.decompress(Path(report.path).read_bytes()) == b""
    with flatstream.open(report.path, checksum="crc32") as reader:
        assert list(reader) == []


def test_writer_of_blocks_gives_the_same_for_pieces_of_any_size(tmp_path: Path) -> None:
    stream = stream_of(PAYLOADS, "xxhash64")
    results = set()
    for threads, size in itertools.product((0, 1, 3), (1000, 70_000, len(stream))):
        pieces: list[bytes] = []
        with BlockWriter(pieces.append, threads=threads) as writer:
            for at in range(0, len(stream), size):
                assert writer.write(stream[at : at + size]) == len(stream[at : at + size])
        results.add(b"".join(pieces))
        with pytest.raises(ValueError, match="closed file"):
            writer.write(b"more")
    (result,) = results
    (tmp_path / "file").write_bytes(result)
    # The checksum was found by the first bytes.
    assert None not in [frames_in(block, "xxhash64") for block in blocks_of(tmp_path / "file")]


def test_writer_of_blocks_that_is_left_writes_no_table() -> None:
    pieces: list[bytes] = []
    writer = BlockWriter(pieces.append, threads=2)
    writer.write(stream_of(PAYLOADS, "crc32"))
    writer.abandon()
    writer.abandon()
    assert writer.closed
    assert not b"".join(pieces).endswith(b"\xb1\xea\x92\x8f")


# Removing, names, locks


def test_stream_is_removed_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(stream := stream_of(PAYLOADS, "crc32"))
    path.chmod(0o600)
    os.utime(path, ns=(1_700_000_000_000_000_001, 1_700_000_000_123_456_789))
    kept = seal(path, tmp_path / "kept.zst")
    assert path.exists()
    removed = seal(path, remove=True)
    assert sorted(os.listdir(tmp_path)) == ["events.fs.zst", "kept.zst"]
    for report in (kept, removed):
        assert zstd.decompress(Path(report.path).read_bytes()) == stream
        assert os.stat(report.path).st_mtime_ns == 1_700_000_000_123_456_789
        assert os.stat(report.path).st_mode & 0o777 == 0o600


def test_file_that_is_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        writer.write_payload(b"one")
        writer.flush()
        for remove in (False, True):
            error = raised_by(lambda remove=remove: seal(path, remove=remove))
            assert isinstance(error, OSError)
            assert error.errno == errno.EBUSY
    assert os.listdir(tmp_path) == ["events.fs"]


def test_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(stream_of([b"one"], "crc32"))
    copy = flatstream._sealing.copy_sealed

    def growing(*args: Any, **kwargs: Any) -> Any:
        with open(path, "ab") as file:
            file.write(b"x")
        return copy(*args, **kwargs)

    monkeypatch.setattr(flatstream._sealing, "copy_sealed", growing)
    with pytest.raises(OSError, match="was changed while it was sealed: it has 12 bytes, and had 11"):
        seal(path)
    assert os.listdir(tmp_path) == ["events.fs"]


def test_nothing_is_overwritten_or_sealed_twice(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(stream_of(PAYLOADS[:5], "crc32"))
    (tmp_path / "taken").touch()
    with pytest.raises(FileExistsError):
        seal(path, tmp_path / "taken")
    report = seal(path)
    with pytest.raises(InvalidFrameError, match="the file is compressed already"):
        seal(report.path, tmp_path / "twice")
    with pytest.raises(FileNotFoundError):
        seal(tmp_path / "nothing")
    (tmp_path / "text").write_text("This is a text, and no stream at all.\n" * 40)
    with pytest.raises(InvalidFrameError, match="not like a stream"):
        seal(tmp_path / "text")
    assert sorted(os.listdir(tmp_path)) == ["events.fs", "events.fs.zst", "taken", "text"]


@in_one_test
@pytest.mark.parametrize("fails", ["sync", "give_name", "make_table", "open_seekable"])
def test_error_leaves_the_stream_and_no_new_file(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(stream := stream_of(PAYLOADS, "crc32"))

    def failing(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.EIO, "no disk")

    with monkeypatch.context() as patched:
        patched.setattr(flatstream._sealing, fails, failing)
        for remove in (False, True):
            with pytest.raises(OSError, match="no disk"):
                seal(path, remove=remove)
    assert os.listdir(tmp_path) == ["events.fs"]
    assert path.read_bytes() == stream


def test_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for remove in (False, True):
        with pytest.raises(io.UnsupportedOperation, match="only a regular file"):
            flatstream.seal(tmp_path / "pipe", checksum="crc32c", remove=remove)


def test_nobody_else_can_read_the_copy_of_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(stream_of([b"secret"], "crc32c"))
    path.chmod(0o600)
    modes = []
    copy = flatstream._sealing.copy_sealed

    def watched(source: io.FileIO, size: int, target: io.FileIO, *arguments: Any, **options: Any) -> Any:
        modes.append(os.fstat(target.fileno()).st_mode & 0o777)
        return copy(source, size, target, *arguments, **options)

    monkeypatch.setattr(flatstream._sealing, "copy_sealed", watched)
    report = flatstream.seal(path)
    assert modes == [0o600]
    assert os.stat(report.path).st_mode & 0o777 == 0o600


def test_file_that_took_the_name_meanwhile_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(stream_of([b"old"], "crc32c"))

    def rotated(partial: str, name: str) -> None:
        give_name(partial, name)
        path.rename(tmp_path / "events.1.fs")
        path.write_bytes(stream_of([b"new"], "crc32c"))

    monkeypatch.setattr(flatstream._sealing, "give_name", rotated)
    with pytest.raises(OSError, match="another file has its name") as caught:
        flatstream.seal(path, remove=True)
    assert caught.value.errno == errno.EBUSY
    with flatstream.open(path) as reader:
        assert [bytes(payload) for payload in reader] == [b"new"]


@pytest.mark.parametrize("threads", [0, 2])
def test_writer_of_blocks_that_failed_writes_no_table(threads: int) -> None:
    # A block is missing, so the file must not look complete.
    written: list[bytes] = []

    def put(data: bytes) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "full")
        written.append(data)

    writer = BlockWriter(put, block_size=4 << 10, threads=threads)
    with pytest.raises(OSError, match="full"):
        writer.write(stream_of(PAYLOADS, "crc32c"))
    written.clear()
    writer.close()
    assert not written
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"more")

"""Parts of streams, read at offsets: of plain, sealed and other compressed files, pipes and URLs."""

from __future__ import annotations

import errno
import gzip
import io
import itertools
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flatstream import _ranges
from flatstream._ranges import RangeFile, open_ranges, ranges_of
from flatstream._remote import RemoteFile
from flatstream._seekable import SeekableFile
from support.errors import raised_by
from support.sealed import sealed

DATA = random.Random(3).randbytes(300_000)
CUTS = [0, 5, 70_000, 100_001, len(DATA)]
SEALED = sealed([DATA[begin:end] for begin, end in itertools.pairwise(CUTS)])
NUMBERS = itertools.count()


def url_of(data: bytes) -> str:
    """A URL in fsspec's memory, each time another one."""
    url = f"memory://ranges/{next(NUMBERS)}.fs"
    with fsspec.open(url, "wb") as file:
        file.write(data)
    return url


def stored(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def every_kind(tmp_path: Path) -> Iterator[tuple[str, RangeFile]]:
    """The same stream, in each way in which it can be stored."""
    packed = gzip.compress(DATA)
    for name, path in (
        ("plain", stored(tmp_path, "plain.fs", DATA)),
        ("sealed", stored(tmp_path, "sealed.fs.zst", SEALED)),
        ("gzip", stored(tmp_path, "packed.fs.gz", packed)),
        ("url", url_of(DATA)),
        ("sealed at a url", url_of(SEALED)),
        ("gzip at a url", url_of(packed)),
    ):
        with open_ranges(path) as file:
            assert file.path == str(path)
            yield name, file


def test_any_part_of_any_kind_of_file_is_read(tmp_path: Path) -> None:
    expected = {
        "plain": (None, True, len(DATA)),
        "sealed": ("Zstandard", True, len(DATA)),
        "gzip": ("gzip", False, -1),
        "url": (None, True, len(DATA)),
        "sealed at a url": ("Zstandard", True, len(DATA)),
        "gzip at a url": ("gzip", False, -1),
    }
    rng = random.Random(5)
    for name, file in every_kind(tmp_path):
        assert (file.compression, file.can_seek, file.size) == expected.pop(name)
        assert file.bytes_read == 0
        for _ in range(20):
            begin, size = rng.randrange(len(DATA) + 9), rng.choice([0, 1, 999, 200_000])
            assert file.read_at(begin, size) == DATA[begin : begin + size], name
        before = file.bytes_read
        ranges = [(290_000, 300_009), (7, 7), (20, 9_020), (9_020, 9_021), (0, 100_000)]
        file.announce(ranges)
        pieces = list(file.read_ranges(ranges, piece=40_000))
        places = [(begin, len(piece)) for begin, piece in pieces]
        cut = [(290_000, 10_000), (7, 0), (20, 9_000), (9_020, 1), (0, 40_000), (40_000, 40_000), (80_000, 20_000)]
        assert places == cut, name
        assert all(piece == DATA[begin : begin + len(piece)] for begin, piece in pieces)
        assert all(type(piece) is bytes for _, piece in pieces)
        if name == "plain":
            assert file.bytes_read - before == 10_000 + 9_001 + 100_000
    assert not expected


def test_size_limits_what_is_read(tmp_path: Path) -> None:
    for path in (stored(tmp_path, "a.fs", DATA), stored(tmp_path, "b.zst", SEALED), url_of(DATA)):
        with open_ranges(path, size=1000) as file:
            assert file.size == 1000
            assert file.read_at(900, 500) == DATA[900:1000]
            assert file.read_at(1000, 1) == file.read_at(5000, 1) == b""
            assert [*file.read_ranges([(990, 2000)], 9)] == [(990, DATA[990:999]), (999, DATA[999:1000])]
        with open_ranges(path, size=1 << 40) as file:
            assert file.size == len(DATA)
    with pytest.raises(ValueError, match="size must be at least 0, got -1"):
        open_ranges(tmp_path / "a.fs", size=-1)


def test_what_was_appended_since_is_not_read_and_a_cut_file_is_shorter(tmp_path: Path) -> None:
    path = stored(tmp_path, "a.fs", DATA)
    with open_ranges(path) as file:
        with path.open("ab") as other:
            other.write(b"more")
        assert file.size == len(DATA)
        assert file.read_at(len(DATA) - 3, 100) == DATA[-3:]
        os.truncate(path, 1000)
        assert file.size == len(DATA)
        assert file.read_at(900, 1 << 40) == DATA[900:1000]
        assert file.read_at(1000, 50) == b""
        found = list(file.read_ranges([(990, 200_000), (5000, 9000), (1, 4)], 1000))
        assert found == [(990, DATA[990:1000]), (5000, b""), (1, DATA[1:4])]


def test_bytes_that_cannot_be_decompressed_raise_where_they_are(tmp_path: Path) -> None:
    broken = bytearray(SEALED)
    # In the second of the four blocks.
    broken[40_000] ^= 0xFF
    path = stored(tmp_path, "broken.zst", bytes(broken))
    with open_ranges(path) as file:
        assert file.read_at(0, 100) == DATA[:5]
        for _ in range(2):
            with pytest.raises(OSError, match="the Zstandard data cannot be decompressed"):
                file.read_at(5, 100)
        assert file.read_at(70_000, 100) == DATA[70_000:70_100]
        found = file.read_ranges([(0, 1000)])
        assert next(found) == (0, DATA[:5])
        with pytest.raises(OSError, match="cannot be decompressed"):
            next(found)
    # As the segments of a journal are read.
    with open_ranges(path) as file:
        table = file._file._table
    with ranges_of(SeekableFile(io.FileIO(path), str(path), table, fill=True)) as file:
        assert file.read_at(0, 100_001) == DATA[:5] + b"\xff" * 69_995 + DATA[70_000:100_001]
    with ranges_of(SeekableFile(io.FileIO(path), str(path), None, fill=True)) as file:
        assert (file.can_seek, file.size) == (False, -1)
        assert file.read_at(0, 4) == DATA[:4]
    packed = gzip.compress(DATA)[:100_000]
    with open_ranges(stored(tmp_path, "cut.gz", packed)) as file:
        data = file.read_at(0, len(DATA))
        assert 90_000 < len(data) < 110_000
        assert data == DATA[: len(data)]
        with pytest.raises(EOFError, match="the gzip data is cut off"):
            file.read_at(len(data), 1)


def test_compressed_file_without_a_table_is_read_again_from_its_beginning(tmp_path: Path) -> None:
    path = stored(tmp_path, "a.gz", gzip.compress(DATA))
    with open_ranges(path) as file:
        assert file.read_at(200_000, 10) == DATA[200_000:200_010]
        assert file.bytes_read == 200_010
        assert file.read_at(100, 10) == DATA[100:110]
        assert file.bytes_read == 200_120
        assert file.read_at(len(DATA) + 5, 10) == b""
        stored(tmp_path, "b.gz", gzip.compress(DATA)).replace(path)
        with pytest.raises(OSError, match="another process has replaced the file") as caught:
            file.read_at(0, 10)
        assert caught.value.errno == errno.EBUSY


def test_pipe_is_read_forwards_only(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    thread = threading.Thread(target=path.write_bytes, args=(DATA[:50_000],))
    thread.start()
    with open_ranges(path) as file:
        assert (file.can_seek, file.size) == (False, -1)
        assert file.read_at(10, 10) == DATA[10:20]
        assert file.read_at(20, 100_000) == DATA[20:50_000]
        with pytest.raises(io.UnsupportedOperation, match=r"50000 bytes were read, .* offset 9 was asked for"):
            file.read_at(9, 1)
    thread.join()


def test_threads_read_at_once_and_each_gets_its_bytes(tmp_path: Path) -> None:
    for name, file in every_kind(tmp_path):
        if not file.can_seek:
            continue
        wrong: list[Any] = []

        def read(seed: int, file: RangeFile = file, wrong: list[Any] = wrong) -> None:
            rng = random.Random(seed)
            for _ in range(30):
                begin = rng.randrange(len(DATA))
                if file.read_at(begin, 500) != DATA[begin : begin + 500]:
                    wrong.append(begin)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong, name
        if name == "plain":
            assert file.bytes_read == sum(
                min(500, len(DATA) - begin)
                for seed in range(4)
                for rng in [random.Random(seed)]
                for begin in [rng.randrange(len(DATA)) for _ in range(30)]
            )


def test_close_waits_for_a_thread_that_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path, "a.fs", DATA)
    file = open_ranges(path)
    descriptor = file._file.fileno()
    inside, go_on = threading.Event(), threading.Event()
    pread = os.pread

    def slow(fd: int, size: int, offset: int) -> bytes:
        inside.set()
        assert go_on.wait(30)
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", slow)
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(file.read_at(0, 100)))
    thread.start()
    assert inside.wait(30)
    file.close()
    # The descriptor cannot become that of another file meanwhile.
    assert file.closed
    assert os.fstat(descriptor).st_size == len(DATA)
    go_on.set()
    thread.join()
    assert found == [DATA[:100]]
    assert file._file.closed


def check_wrong_arguments(file: RangeFile) -> None:
    for offset, size in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match=f"an offset and a size of at least 0, got {offset} and {size}"):
            file.read_at(offset, size)
    for ranges in ([(-1, 3)], [(0, 1), (5, 4)]):
        for call in (file.announce, file.read_ranges):
            with pytest.raises(ValueError, match="expected ranges from one offset to another, got "):
                call(ranges)
    with pytest.raises(ValueError, match="piece must be at least 1, got 0"):
        file.read_ranges([], 0)
    assert list(file.read_ranges([])) == []


def check_closing(file: RangeFile) -> None:
    pieces = file.read_ranges([(0, 10), (20, 30)])
    assert next(pieces) == (0, DATA[:10])
    for _ in range(2):
        file.close()
    assert "closed" in repr(file)
    for call in (
        lambda: file.read_at(0, 1),
        lambda: file.size,
        lambda: file.announce([(0, 1)]),
        lambda: next(pieces),
        file.__enter__,
        lambda: list(file.read_ranges([(0, 1)])),
    ):
        assert "closed file" in str(raised_by(call))


def test_closed_file_and_wrong_arguments_are_refused(tmp_path: Path) -> None:
    for _, file in every_kind(tmp_path):
        check_wrong_arguments(file)
        check_closing(file)
    with pytest.raises(FileNotFoundError):
        open_ranges(tmp_path / "missing")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        open_ranges(tmp_path)


def test_error_of_the_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path, "a.fs", DATA)
    pread = os.pread

    def failing(fd: int, size: int, offset: int) -> bytes:
        if offset >= 1000:
            raise OSError(errno.EIO, "Input/output error")
        # As the system may: fewer bytes than were asked for.
        return pread(fd, min(size, 300, 1000 - offset), offset)

    with open_ranges(path) as file:
        monkeypatch.setattr(os, "pread", failing)
        assert file.read_at(0, 950) == DATA[:950]
        assert file.read_at(0, 5000) == DATA[:1000]
        error = raised_by(lambda: file.read_at(1000, 1))
        assert isinstance(error, OSError)
        assert (error.errno, error.filename) == (errno.EIO, str(path))
        found = file.read_ranges([(10, 2000)])
        assert next(found) == (10, DATA[10:1000])
        with pytest.raises(OSError, match="Input/output error"):
            next(found)


def test_all_ranges_are_announced_ahead_of_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path, "a.fs", DATA)
    told: list[tuple[int, int]] = []

    def fadvise(fd: int, begin: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        told.append((begin, size))
        # As file systems that have none.
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    monkeypatch.setattr(_ranges, "AHEAD", 1000)
    with open_ranges(path) as file:
        file.announce([(50, 60), (5, 5), (10, 20), (20, 30), (25, 28)])
        assert told == [(10, 20), (50, 10)]
        told.clear()
        pieces = file.read_ranges([(0, 400), (700, 900), (2000, 9000)], 100)
        next(pieces)
        # 400 and 200, and the first 400 of the last.
        assert told == [(0, 400), (700, 200), (2000, 400)]
        told.clear()
        assert sum(len(piece) for _, piece in pieces) == 7500
        assert sum(size for _, size in told) == 6600
        assert told[0] == (2400, 500)


def test_parts_of_a_url_are_fetched_together(monkeypatch: pytest.MonkeyPatch) -> None:
    url = url_of(DATA)
    calls: list[list[tuple[int, int]]] = []
    fetch = RemoteFile.fetch

    def counted(self: RemoteFile, ranges: list[tuple[int, int]]) -> list[bytes]:
        calls.append(ranges)
        return fetch(self, ranges)

    monkeypatch.setattr(RemoteFile, "fetch", counted)
    monkeypatch.setattr(_ranges, "GAP", 100)
    with open_ranges(url) as file:
        wanted = [(0, 50), (120, 200), (1000, 1010), (290_000, 400_000)]
        file.announce(wanted)
        assert calls == [[(0, 200), (1000, 1010), (290_000, 300_000)]]
        assert [file.read_at(begin, end - begin) for begin, end in wanted] == [DATA[slice(*each)] for each in wanted]
        assert len(calls) == 1
        assert file.bytes_read == 200 + 10 + 10_000
        # What was read is not kept.
        assert not file._kept  # type: ignore[attr-defined]
        assert file.read_at(1000, 10) == DATA[1000:1010]
        assert calls[1:] == [[(1000, 1010)]]
        calls.clear()
        monkeypatch.setattr(_ranges, "KEPT", 150)
        file.announce([(0, 100), (1000, 1040), (2000, 2040)])
        assert calls == [[(0, 100), (1000, 1040)]]
        file.announce([(3000, 3100)])
        assert list(file._kept) == [1000, 3000]  # type: ignore[attr-defined]
        calls.clear()
        monkeypatch.setattr(_ranges, "KEPT", 1 << 20)
        monkeypatch.setattr(_ranges, "AHEAD", 1000)
        pieces = file.read_ranges([(begin, begin + 200) for begin in range(10_000, 20_000, 1000)])
        assert b"".join(piece for _, piece in pieces) == b"".join(
            DATA[begin : begin + 200] for begin in range(10_000, 20_000, 1000)
        )
        assert [len(call) for call in calls] == [5, 3, 2]


class OtherSizes:
    """A file system of which parts are too short or cannot be had."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer

    def cat_ranges(self, paths: list[str], begins: list[int], ends: list[int], on_error: str) -> list[Any]:
        return [self.answer for _ in paths]


def test_parts_that_the_server_does_not_give_are_errors_with_the_url() -> None:
    for answer, text in (
        (b"12", "2 bytes were received instead of the 3 from byte 4 on"),
        (bytes(100), "100 bytes were received instead of the 3 from byte 4 on"),
        (RuntimeError("no route"), "no route"),
    ):
        file = RemoteFile(io.BytesIO(DATA), "s3://bucket/a.fs", (OtherSizes(answer), "bucket/a.fs"))
        with pytest.raises(OSError, match=f"s3://bucket/a.fs: {text}"):
            file.fetch([(4, 7)])
        file.close()
        with pytest.raises(ValueError, match="closed file"):
            file.fetch([(4, 7)])
    with (
        RemoteFile(io.BytesIO(DATA), "s3://bucket/a.fs") as other,
        pytest.raises(io.UnsupportedOperation, match="no parts of it can be fetched"),
    ):
        other.fetch([(0, 1)])

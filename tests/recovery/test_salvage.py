"""Salvage: a new file of what is intact, with everything that is not in it told."""

from __future__ import annotations

import gc
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import InvalidFrameError, SalvageReport, StreamReader, salvage
from reference import framing as reference
from support import corruption
from support.extent import in_one_test
from support.modes import MODES
from support.streams import corpus, flip

# 40 MB. The reference would take a minute.
LARGE = bytes(range(1, 256)) * 400
LONG = (struct.pack("<II", len(LARGE), zlib.crc32(LARGE)) + LARGE) * 400

PAYLOADS = [bytes([i % 250 + 1]) * (40 + i % 7) for i in range(500)]


def read(path: Any, checksum: str) -> list[bytes]:
    with flatstream.open(path, checksum=checksum) as reader:
        return [bytes(payload) for payload in reader]


@in_one_test
@pytest.mark.parametrize("checksum", list(corruption.CHECKSUMS))
@pytest.mark.parametrize("kind", ["path", "bytes", "mapped"])
def test_an_intact_stream_is_copied_byte_for_byte(checksum: str, kind: str, tmp_path: Path) -> None:
    data = corpus(MODES[checksum], PAYLOADS).data
    source: Any = data
    if kind != "bytes":
        source = tmp_path / "source.fs"
        source.write_bytes(data)
    if kind == "mapped":
        import mmap

        with source.open("rb") as file:
            source = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    report = salvage(source, tmp_path / "new.fs", checksum)
    assert report == SalvageReport(len(PAYLOADS), len(data), (), 0, (), None)
    assert (tmp_path / "new.fs").read_bytes() == data
    assert sorted(os.listdir(tmp_path)) == sorted({"new.fs"} | ({"source.fs"} if kind != "bytes" else set()))


@in_one_test
@pytest.mark.parametrize("checksum", ["crc32", "xxhash64"])
@pytest.mark.parametrize("kind", list(corruption.KINDS))
def test_what_is_intact_is_copied_and_the_rest_is_told(kind: str, checksum: str, tmp_path: Path) -> None:
    for seed in range(2):
        pieces = corruption.damaged(kind, checksum, seed)
        data = b"".join(piece.data for piece in pieces)
        source, out = tmp_path / f"{seed}.fs", tmp_path / f"{seed}.new"
        source.write_bytes(data)
        report = salvage(source, out, checksum)
        intact = [payload for _, payload in corruption.intact_frames(pieces, checksum)]
        copied = read(out, checksum)
        apart = set(read(report.doubtful, checksum)) if report.doubtful else set()
        assert [payload for payload in intact if payload not in apart] == [p for p in copied if p not in apart]
        assert set(copied) <= set(intact) <= set(copied) | apart
        assert (report.frames, report.size) == (len(copied), out.stat().st_size)
        assert source.read_bytes() == data
        # The copied and the lost bytes are all bytes there are, and the lost ranges neither touch nor overlap.
        assert report.lost_bytes == sum(end - begin for begin, end in report.lost_ranges) == len(data) - report.size
        flat = [offset for begin_end in report.lost_ranges for offset in begin_end]
        assert flat == sorted(set(flat))
        kept, at = [], 0
        for begin, end in report.lost_ranges:
            kept.append(data[at:begin])
            at = end
        assert b"".join([*kept, data[at:]]) == out.read_bytes()


def test_a_frame_with_a_damaged_payload_is_put_apart(tmp_path: Path) -> None:
    stream = corpus(MODES["crc32"], PAYLOADS)
    data = flip(stream.data, 8 * (stream.ends[3] - 1))
    data = flip(data, 8 * (stream.ends[4] - 1))
    data = flip(data, 8 * (stream.ends[9] - 1))
    report = salvage(data, tmp_path / "new.fs", "crc32")
    assert report.lost_ranges == ((stream.starts[3], stream.ends[4]), (stream.starts[9], stream.ends[9]))
    assert report.doubtful_ranges == tuple((stream.starts[i], stream.ends[i]) for i in (3, 4, 9))
    assert report.doubtful == str(tmp_path / "new.fs.doubtful")
    expected = [PAYLOADS[i][:-1] + bytes([PAYLOADS[i][-1] ^ 1]) for i in (3, 4, 9)]
    assert read(report.doubtful, "crc32") == expected
    assert read(tmp_path / "new.fs", "crc32") == [p for i, p in enumerate(PAYLOADS) if i not in (3, 4, 9)]


def test_a_run_that_is_too_short_to_be_evidence_is_put_apart(tmp_path: Path) -> None:
    # With two bytes of checksum, one frame between two damaged places may have matched by chance.
    payloads = [bytes([65 + i]) * 64 for i in range(12)]
    frames = [reference.encode([payload], "crc16") for payload in payloads]
    junk = b"\xff" * 100
    data = b"".join([*frames[:4], junk, *frames[4:7], junk, *frames[7:]])
    report = salvage(data, tmp_path / "new.fs", "crc16")
    assert read(tmp_path / "new.fs", "crc16") == payloads
    assert report.doubtful is None
    # The reader itself asks for two frames in a row; what it gives after a refused frame can be a single one.
    at = len(b"".join(frames[:5])) + 6
    single = bytearray(b"".join(frames))
    single[at] ^= 1
    single[at + 2 * len(frames[0])] ^= 1
    report = salvage(bytes(single), tmp_path / "second.fs", "crc16")
    assert read(tmp_path / "second.fs", "crc16") == payloads[:5] + payloads[8:]
    assert report.doubtful is not None
    apart = read(report.doubtful, "crc16")
    assert payloads[6] in apart
    assert [begin for begin, _ in report.doubtful_ranges] == [n * len(frames[0]) for n in (5, 6, 7)]


def test_an_empty_source_gives_an_empty_file(tmp_path: Path) -> None:
    assert salvage(b"", tmp_path / "new.fs", "crc32") == (0, 0, (), 0, (), None, None)
    assert (tmp_path / "new.fs").read_bytes() == b""


def test_a_foreign_file_gives_an_empty_file_and_is_lost_as_a_whole(tmp_path: Path) -> None:
    text = b"a line of a log\n" * 1000
    report = salvage(text, tmp_path / "new.fs", "xxhash64")
    assert (report.frames, report.lost_ranges, report.looks_like) == (0, ((0, len(text)),), "text")


@pytest.mark.usefixtures("quick_collections")
@pytest.mark.parametrize("given", ["none", "crc16", "crc32", "crc64"])
@pytest.mark.parametrize("damage", [None, 5, 30])
@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_a_stream_with_another_checksum_is_refused(kind: str, given: str, damage: int | None, tmp_path: Path) -> None:
    data = bytearray(corpus(MODES["xxhash64"], PAYLOADS).data)
    if damage is not None:
        data[damage] ^= 1
    source = tmp_path / "source.fs"
    source.write_bytes(data)
    with pytest.raises(InvalidFrameError, match=r"checksum 'xxhash64', and not with \w+: nothing was copied"):
        salvage(source if kind == "path" else bytes(data), tmp_path / "new.fs", given)
    assert os.listdir(tmp_path) == ["source.fs"]
    # No file is left open, which would be a warning.
    gc.collect()


@pytest.mark.parametrize("name", ["new.fs", "new.fs.doubtful"])
def test_a_file_that_exists_is_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(FileExistsError) as caught:
        salvage(corpus(MODES["crc32"]).data, tmp_path / "new.fs", "crc32")
    assert caught.value.filename == str(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"mine"
    assert os.listdir(tmp_path) == [name]


def test_the_source_itself_is_no_target(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(corpus(MODES["crc32"]).data)
    with pytest.raises(FileExistsError):
        salvage(path, path, "crc32")
    assert path.read_bytes() == corpus(MODES["crc32"]).data


def test_what_a_killed_salvage_left_is_no_obstacle(tmp_path: Path) -> None:
    left = tmp_path / f"new.fs.partial-{os.getpid()}"
    left.write_bytes(b"the beginning of a result")
    salvage(corpus(MODES["crc32"], PAYLOADS).data, tmp_path / "new.fs", "crc32")
    assert read(tmp_path / "new.fs", "crc32") == PAYLOADS
    assert left.read_bytes() == b"the beginning of a result"
    assert sorted(os.listdir(tmp_path)) == ["new.fs", left.name]


def test_an_interrupted_salvage_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source.fs"
    source.write_bytes(LONG)

    def stop(offset: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        salvage(source, tmp_path / "new.fs", "crc32", progress=stop)
    assert os.listdir(tmp_path) == ["source.fs"]


@pytest.mark.parametrize("lost", [False, True])
def test_progress_is_told_up_to_the_end(lost: bool, tmp_path: Path) -> None:
    source = tmp_path / "source.fs"
    # All of it is one lost range, after the first frame.
    data = LONG[: len(LARGE) + 8] + bytes(40 << 20) if lost else LONG
    source.write_bytes(data)
    told: list[tuple[int, int]] = []
    salvage(source, tmp_path / "new.fs", "crc32", progress=lambda offset, size: told.append((offset, size)))
    assert len(told) >= 3
    assert told == sorted(told)
    assert told[-1] == (len(data), len(data))


def test_a_result_that_reads_back_differently_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = corpus(MODES["none"], PAYLOADS).data
    sync = flatstream.StreamWriter.sync

    def lose(writer: Any) -> None:
        sync(writer)
        with open(writer.sink.name, "r+b") as file:
            file.seek(10)
            file.write(b"?")

    monkeypatch.setattr(flatstream.StreamWriter, "sync", lose)
    with pytest.raises(OSError, match="what was read back"):
        salvage(data, tmp_path / "new.fs")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((42, "new.fs", "crc32"), TypeError),
        ((b"", 42, "crc32"), TypeError),
        ((b"", "new.fs", "crc33"), ValueError),
    ],
    ids=["source", "out", "checksum"],
)
def test_a_wrong_argument_is_refused(arguments: Any, error: type[Exception], tmp_path: Path) -> None:
    os.chdir(tmp_path)
    with pytest.raises(error):
        salvage(*arguments)
    assert os.listdir(tmp_path) == []


def test_frames_are_read_as_they_lie(tmp_path: Path) -> None:
    """The copy has the same bytes, so that checksums are not calculated anew over payloads that changed in memory."""
    payload = b"x" * 100
    frame = reference.encode([payload], "crc32")
    salvage(frame * 5000, tmp_path / "new.fs", "crc32")
    with StreamReader(tmp_path / "new.fs", "crc32") as reader:
        batch = reader.read_batch()
        assert batch is not None
        assert batch.buffer[: len(frame)] == frame


def test_repr_of_a_report_with_many_ranges_is_short():
    ranges = tuple((each, each + 1) for each in range(0, 100_000, 2))
    report = flatstream.SalvageReport(3, 60, ranges, len(ranges), ranges[:2], None)
    assert repr(report) == (
        f"SalvageReport(frames=3, size=60, lost_ranges=({', '.join(map(repr, ranges[:10]))}, ... 49990 more), "
        "lost_bytes=50000, doubtful_ranges=((0, 1), (2, 3)), doubtful=None, looks_like=None)"
    )

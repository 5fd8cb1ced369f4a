"""Tails that a crash leaves (goal 1 and hazard 1 of RELIABILITY.md): cut anywhere, or filled up with zero bytes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from flatstream import (
    ChecksumDeframer,
    ChecksumMismatchError,
    Crc32,
    DefaultDeframer,
    InvalidFrameError,
    RecoveryEnd,
    StreamReader,
    UnexpectedEofError,
    recover,
    recover_file,
)
from reference import framing as reference
from support.extent import in_one_test, spread
from support.modes import MODES, Mode, every_mode
from support.sources import SOURCES, CutSource
from support.streams import corpus, read_all, recover_bytes

GOAL_1 = ["bytes", "bytesio", "raw_file", "buffered_file", "mmap", "socket"]


# Goal 1: truncation at every byte, for every mode and a custom one, from six kinds of source: no wrong report


@in_one_test
@pytest.mark.parametrize("name", GOAL_1)
@every_mode
def test_reader_of_a_stream_cut_at_every_byte_is_never_wrong(mode: Mode, name: str, tmp_path: Path) -> None:
    stream = corpus(mode)
    for cut in spread(range(len(stream.data) + 1), 4):
        with SOURCES[name].open(stream.data[:cut], tmp_path) as source:
            payloads, error = read_all(source, mode.deframer())
        frames, offset, end = stream.report(cut, guard=False)
        assert payloads == list(stream.payloads[:frames]), f"cut at {cut}"
        if end is RecoveryEnd.CLEAN_EOF:
            assert error is None, f"cut at {cut}"
        else:
            assert isinstance(error, UnexpectedEofError), f"cut at {cut}"
            assert (error.offset, error.frame, error.got) == (offset, frames, cut - offset)


@in_one_test(step=2)
@pytest.mark.parametrize("guard", [True, False], ids=["guarded", "unguarded"])
@pytest.mark.parametrize("name", GOAL_1)
@every_mode
def test_recovery_of_a_stream_cut_at_every_byte_is_never_wrong(
    mode: Mode, name: str, guard: bool, tmp_path: Path
) -> None:
    stream = corpus(mode)
    for cut in spread(range(len(stream.data) + 1), 4):
        with SOURCES[name].open(stream.data[:cut], tmp_path) as source:
            assert recover(source, mode.deframer(), guard=guard) == stream.report(cut, guard), f"cut at {cut}"


# Hazard 1: zero bytes are empty frames

FRAMES = [b"first", b"\x00\x00", b"the last one"]
LONGEST_TAIL = 8192
# The checksum of nothing is 0 for all but the last.
PHANTOM_MODES = pytest.mark.parametrize("name", ["none", "crc16", "crc32", "crc32c", "crc64"])


@every_mode
def test_zero_tail_is_a_torn_tail_where_nothing_may_be_empty(mode: Mode) -> None:
    stream = corpus(mode, FRAMES)
    # Views, because a copy of each would take longer than reading it.
    data = memoryview(stream.data + bytes(LONGEST_TAIL))
    deframer = mode.deframer(allow_empty=False)
    expected = (3, len(stream.data), RecoveryEnd.TORN_TAIL)
    for zeros in spread(range(1, LONGEST_TAIL + 1), 3):
        assert recover(data[: len(stream.data) + zeros], deframer) == expected, f"{zeros} zero bytes"
    assert recover(stream.data, deframer) == (3, len(stream.data), RecoveryEnd.CLEAN_EOF)


@in_one_test
@pytest.mark.parametrize("guard", [True, False], ids=["guarded", "unguarded"])
@every_mode
def test_file_of_zeros_alone_has_no_frame_where_nothing_may_be_empty(mode: Mode, guard: bool) -> None:
    for zeros in (1, 3, 4, 5, 12, 4096):
        report = recover(bytes(zeros), mode.deframer(allow_empty=False), guard=guard)
        assert report == (0, 0, RecoveryEnd.NOT_A_STREAM if guard else RecoveryEnd.TORN_TAIL)
        assert report.looks_like == ("zeros" if guard else None)


@in_one_test
@pytest.mark.parametrize("zeros", [1, 4, 4095, 4096, 262_144, 1_000_003])
@every_mode
def test_zero_tail_is_a_torn_tail_from_files_too(mode: Mode, zeros: int, tmp_path: Path) -> None:
    stream = corpus(mode, FRAMES)
    deframer = mode.deframer(allow_empty=False)
    path = tmp_path / "zeros.fs"
    path.write_bytes(stream.data + bytes(zeros))
    assert recover(path, deframer) == (3, len(stream.data), RecoveryEnd.TORN_TAIL)
    with open(path, "r+b") as file:
        assert recover_file(file, deframer) == (3, len(stream.data), RecoveryEnd.TORN_TAIL)
        assert file.tell() == len(stream.data)
        file.truncate()
    assert path.read_bytes() == stream.data


def test_zero_tail_is_a_torn_tail_through_adapters() -> None:
    stream = corpus(MODES["crc32"], FRAMES)
    deframer = ChecksumDeframer(Crc32(), allow_empty=False).bounded(100).observed(len).with_max_frame_len(1000)
    data = stream.data + bytes(40)
    assert recover(data, deframer) == (3, len(stream.data), RecoveryEnd.TORN_TAIL)


@PHANTOM_MODES
def test_zero_tail_is_phantom_empty_frames_without_the_guard_or_if_empty_frames_are_allowed(name: str) -> None:
    # The crate's behaviour, which plain readers keep.
    mode = MODES[name]
    stream = corpus(mode, FRAMES)
    data = memoryview(stream.data + bytes(LONGEST_TAIL))
    header = 4 + mode.size
    deframer = mode.deframer()
    for zeros in [*range(1, 200), 1000, 4095, 4096, 8191, 8192]:
        phantoms, rest = divmod(zeros, header)
        end = RecoveryEnd.TORN_TAIL if rest else RecoveryEnd.CLEAN_EOF
        report = recover(data[: len(stream.data) + zeros], deframer, allow_empty=True)
        assert report == recover(data[: len(stream.data) + zeros], deframer, guard=False)
        assert report == (3 + phantoms, len(stream.data) + phantoms * header, end), f"{zeros} zero bytes"


@PHANTOM_MODES
def test_reader_delivers_phantom_frames_by_default_and_none_where_nothing_may_be_empty(name: str) -> None:
    mode = MODES[name]
    data = corpus(mode, FRAMES).data + bytes(10 * (4 + mode.size))
    assert read_all(data, mode.deframer()) == (FRAMES + [b""] * 10, None)
    for source in (data, io.BytesIO(data), CutSource(data, range(len(data)))):
        payloads, error = read_all(source, mode.deframer(allow_empty=False))
        assert payloads == FRAMES
        assert isinstance(error, InvalidFrameError)
        assert (error.declared_len, error.frame) == (0, 3)


def test_zero_tail_fails_the_checksum_of_xxhash64() -> None:
    # XXH3 of nothing is not 0, so that zero bytes are no frame; a header that is not all there is a torn one.
    mode = MODES["xxhash64"]
    stream = corpus(mode, FRAMES)
    for zeros in range(1, 100):
        report = recover_bytes(stream.data + bytes(zeros), mode.deframer(), guard=False)
        assert recover(stream.data + bytes(zeros), mode.deframer()) == (3, len(stream.data), RecoveryEnd.TORN_TAIL)
        if zeros < 12:
            assert report == (3, len(stream.data), RecoveryEnd.TORN_TAIL)
        else:
            assert isinstance(report, ChecksumMismatchError)
            assert (report.expected, report.calculated) == (0, 0x2D06800538D394C2)


@in_one_test
@every_mode
def test_nonzero_byte_behind_a_zero_tail_is_an_error_where_nothing_may_be_empty(mode: Mode) -> None:
    stream = corpus(mode, FRAMES)
    # Behind the first four: those are the length that is refused.
    for place in range(4, 64):
        for tail in (bytes(place) + b"\x01", bytes(place) + b"\x80" + bytes(20)):
            for source in (stream.data + tail, CutSource(stream.data + tail, range(0, 200, 3))):
                report = recover_bytes(source, mode.deframer(allow_empty=False))
                assert isinstance(report, InvalidFrameError), f"{tail!r}: {report}"
                assert (report.declared_len, report.offset, report.frame) == (0, len(stream.data), 3)


@in_one_test
@every_mode
def test_empty_frame_in_mid_stream_is_an_error_where_nothing_may_be_empty(mode: Mode) -> None:
    stream = corpus(mode, [b"first", b"", b"last"])
    report = recover_bytes(stream.data, mode.deframer(allow_empty=False))
    assert isinstance(report, InvalidFrameError)
    assert (report.declared_len, report.offset, report.frame) == (0, stream.starts[1], 1)
    payloads, error = read_all(stream.data, mode.deframer(allow_empty=False))
    assert payloads == [b"first"]
    assert isinstance(error, InvalidFrameError)


@in_one_test
@every_mode
def test_payloads_of_zero_bytes_are_good_where_nothing_may_be_empty(mode: Mode) -> None:
    stream = corpus(mode, [bytes(size) for size in range(1, 20)])
    assert read_all(stream.data, mode.deframer(allow_empty=False)) == (list(stream.payloads), None)
    for cut in range(len(stream.data) + 1):
        got = recover(stream.data[:cut], mode.deframer(allow_empty=False), guard=False)
        assert got == stream.report(cut, guard=False), f"cut at {cut}"


def test_reference_says_the_same_of_zero_tails() -> None:
    data = corpus(MODES["crc32"], FRAMES).data
    for zeros in range(40):
        frames, offset, end = recover(data + bytes(zeros), ChecksumDeframer(Crc32(), allow_empty=False))
        expected = reference.recover(data + bytes(zeros), "crc32", allow_empty=False)
        assert reference.Recovered(frames, offset, end.value) == expected


def test_reader_can_be_gone_on_with_after_recovery_of_the_same_bytes() -> None:
    # Recovery takes nothing away: the same buffer is read as before.
    data = bytearray(corpus(MODES["none"], FRAMES).data + b"\x09\x00")
    assert recover(data).end is RecoveryEnd.TORN_TAIL
    # Nor does it keep a view, which would lock the bytearray's size.
    data += b"\x00\x00nine more"
    with StreamReader(bytes(data), DefaultDeframer()) as reader:
        assert list(reader) == [*FRAMES, b"nine more"]

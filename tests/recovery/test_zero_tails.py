"""Zeros that a power cut leaves, because file systems extend a file before they write: never frames, with the guard."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    ChecksumDeframer,
    ChecksumMismatchError,
    Crc32,
    InvalidFrameError,
    RecoveryEnd,
    RecoveryReport,
    recover,
    recover_file,
)
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES, Mode, every_mode
from support.sources import every_source
from support.streams import corpus, flip, guarded, recover_bytes

TORN, CLEAN = RecoveryEnd.TORN_TAIL, RecoveryEnd.CLEAN_EOF
PAYLOADS = [bytes([65 + number]) * 92 for number in range(6)]
checksummed = pytest.mark.parametrize("mode", [pytest.param(m, id=n) for n, m in MODES.items() if n != "none"])


@in_one_test
@checksummed
def test_zeros_from_anywhere_in_or_behind_the_last_frame_are_a_torn_tail(mode: Mode) -> None:
    stream = corpus(mode, PAYLOADS)
    begin, end = stream.starts[-1], stream.ends[-1]
    for cut in (*range(begin, begin + 16), *range(begin + 16, end + 1, 7), end):
        for zeros in (1, end - cut, end - cut + 1, 100, 4096):
            if zeros == 0:
                continue
            report = recover(stream.data[:cut] + bytes(zeros), mode.deframer())
            frames = 5 + (cut == end)
            assert report == (frames, end if cut == end else begin, TORN), (cut, zeros)


def test_zeros_behind_the_last_frame_or_that_make_it_incomplete_are_a_torn_tail_without_a_checksum() -> None:
    mode = MODES["none"]
    stream = corpus(mode, PAYLOADS)
    begin, end = stream.starts[-1], stream.ends[-1]
    for zeros in (1, 2, 3, 4, 5, 8, 100, 4096):
        assert recover(stream.data + bytes(zeros)) == (6, end, TORN)
    for cut in range(begin + 1, end - 1):
        assert recover(stream.data[:cut] + bytes(end - 1 - cut)) == (5, begin, TORN)


@in_one_test(step=2)
@every_source
@every_mode
def test_zeros_are_a_torn_tail_from_every_source(mode: Mode, source_kind: Any, tmp_path: Path) -> None:
    stream = corpus(mode, PAYLOADS)
    for zeros in (1, 100, 300_001):
        with source_kind.open(stream.data + bytes(zeros), tmp_path) as source:
            assert recover(source, mode.deframer()) == (6, len(stream.data), TORN)
        if mode.size:
            with source_kind.open(stream.data[:-20] + bytes(zeros), tmp_path) as source:
                assert recover(source, mode.deframer()) == (5, stream.starts[5], TORN)


@in_one_test
@every_mode
def test_empty_frame_with_anything_but_zeros_behind_it_is_a_frame(mode: Mode) -> None:
    stream = corpus(mode, [b"first", b"", b"", b"last"])
    assert recover(stream.data, mode.deframer()) == (4, len(stream.data), CLEAN)
    for cut in range(len(stream.data)):
        unguarded = recover(stream.data[:cut], mode.deframer(), guard=False)
        expected = guarded(unguarded, stream.data[:cut], stream.starts, 4 + mode.size)
        assert recover(stream.data[:cut], mode.deframer()) == expected


@in_one_test
@every_mode
def test_allow_empty_says_what_an_empty_frame_is(mode: Mode) -> None:
    stream = corpus(mode, [b"first", b"", b"last", b""])
    whole, last = len(stream.data), stream.starts[3]
    has_zeros = mode.name != "xxhash64"
    for source in (stream.data, io.BytesIO(stream.data)):
        assert recover(source, mode.deframer(), allow_empty=True) == (4, whole, CLEAN)
    assert recover(stream.data, mode.deframer()) == ((3, last, TORN) if has_zeros else (4, whole, CLEAN))
    assert recover(stream.data, mode.deframer(), guard=False) == (4, whole, CLEAN)
    assert recover(stream.data, mode.deframer(), guard=False, allow_empty=True) == (4, whole, CLEAN)
    for guard in (True, False):
        error = recover_bytes_strictly(stream.data, mode, guard)
        assert isinstance(error, InvalidFrameError)
        assert (error.declared_len, error.offset) == (0, stream.starts[1])
        assert recover(
            stream.data[: stream.starts[1]] + bytes(50), mode.deframer(), guard=guard, allow_empty=False
        ) == (
            1,
            stream.starts[1],
            TORN,
        )
    file = io.BytesIO(stream.data)
    assert recover_file(file, mode.deframer(), allow_empty=True) == (4, whole, CLEAN)
    # A deframer that refuses empty payloads by itself goes on doing so.
    with pytest.raises(InvalidFrameError):
        recover(stream.data, mode.deframer(allow_empty=False), allow_empty=True)
    with pytest.raises(TypeError, match="allow_empty must be a bool or None, got 1"):
        recover(b"", mode.deframer(), allow_empty=1)  # type: ignore[arg-type]


def recover_bytes_strictly(data: bytes, mode: Mode, guard: bool) -> Any:
    try:
        return recover(data, mode.deframer(), guard=guard, allow_empty=False)
    except InvalidFrameError as error:
        return error


def test_deframer_that_refuses_empty_payloads_takes_no_frame_of_zeros_either() -> None:
    # The length was written, and nothing behind it: the CRC-16 of zeros is 0.
    stream = corpus(MODES["crc16"], PAYLOADS)
    data = stream.data[: stream.starts[5] + 4] + bytes(512)
    assert recover(data, MODES["crc16"].deframer(allow_empty=False)) == (5, stream.starts[5], TORN)


# Damage stays damage


@in_one_test
@checksummed
def test_damage_before_other_frames_is_an_error_though_the_stream_ends_with_zeros(mode: Mode) -> None:
    stream = corpus(mode, [flatbuffer_of_event(number) + bytes(8) for number in range(8)])
    for zeros, frame in itertools.product((0, 512), range(7)):
        data = flip(stream.data, 8 * (stream.ends[frame] - 20)) + bytes(zeros)
        report = recover_bytes(data, mode.deframer())
        assert isinstance(report, ChecksumMismatchError), (zeros, frame, report)
        assert (report.frame, report.offset) == (frame, stream.starts[frame])


@in_one_test
@checksummed
def test_wrong_length_that_reaches_over_frames_to_the_zeros_at_the_end_is_an_error(mode: Mode) -> None:
    stream = corpus(mode, [flatbuffer_of_event(number) + bytes(8) for number in range(8)])
    header = 4 + mode.size
    for frame in range(1, 6):
        data = bytearray(stream.data + bytes(512))
        for end in (len(stream.data) - 2, len(stream.data), len(stream.data) + 100, len(data)):
            data[stream.starts[frame] : stream.starts[frame] + 4] = (end - stream.starts[frame] - header).to_bytes(
                4, "little"
            )
            report = recover_bytes(bytes(data), mode.deframer())
            assert isinstance(report, ChecksumMismatchError), (frame, end, report)


def test_damage_of_a_last_frame_that_ends_with_zeros_costs_that_frame_at_most() -> None:
    # It cannot be told from zeros that were left in its place. A frame that ends with other bytes is not cut.
    for payload, is_torn in ((b"payload" + bytes(2), True), (b"payload", False)):
        stream = corpus(MODES["crc32"], [b"first", payload])
        report = recover_bytes(flip(stream.data, 8 * (stream.starts[1] + 9)), "crc32")
        if is_torn:
            assert report == (1, stream.starts[1], TORN)
        else:
            assert isinstance(report, ChecksumMismatchError)


def test_wrong_length_of_the_last_frame_is_an_error_though_it_ends_with_zeros() -> None:
    stream = corpus(MODES["crc32"], [b"first", b"payload" + bytes(20)])
    data = flip(stream.data, 8 * stream.starts[1] + 3)  # 27 becomes 19
    assert isinstance(recover_bytes(data, "crc32"), ChecksumMismatchError)


def test_frame_without_a_checksum_that_ends_with_zeros_is_not_cut_after_a_wrong_length_before_it() -> None:
    # The frames that are read then are not those that were written, and their end is four zeros before the true one.
    stream = corpus(MODES["none"], [flatbuffer_of_event(number) for number in range(30)])
    for bit in range(8 * stream.starts[1], 8 * stream.starts[1] + 16):
        for data in (flip(stream.data, bit), io.BytesIO(flip(stream.data, bit))):
            report = recover_bytes(data)
            assert isinstance(report, InvalidFrameError) or (
                isinstance(report, RecoveryReport) and report.end is CLEAN
            ), (bit, report)


def test_zeros_of_a_first_frame_are_no_torn_tail() -> None:
    stream = corpus(MODES["crc32"], PAYLOADS[:1])
    with pytest.raises(ChecksumMismatchError):
        recover(stream.data[:50] + bytes(512), ChecksumDeframer(Crc32()))
    for mode in MODES.values():
        report = recover(bytes(512), mode.deframer())
        assert (report, report.looks_like) == ((0, 0, RecoveryEnd.NOT_A_STREAM), "zeros")

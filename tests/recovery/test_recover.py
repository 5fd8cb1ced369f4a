"""Recovery: exact frames, offset and end for every cut, damage that is an error, and every source alike.

The guard has a file of its own: test_recovery_guard.py.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    ChecksumDeframer,
    ChecksumMismatchError,
    ChecksumType,
    Crc32,
    InvalidFrameError,
    RecoveryEnd,
    RecoveryReport,
    SizeValidator,
    StreamWriter,
    ValidationFailedError,
    recover,
    recover_file,
)
from reference import framing as reference
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES, Mode, every_mode
from support.sources import CutReadSource, CutSource, FaultySource, InterruptedSource, every_source
from support.streams import SMALL_PAYLOADS, corpus, flip, read_all

both_guards = pytest.mark.parametrize("guard", [True, False], ids=["guarded", "unguarded"])
every_checksum = pytest.mark.parametrize("mode", [pytest.param(m, id=n) for n, m in MODES.items() if n != "none"])


# Cut at every byte gives exact frames, offset and end, for every checksum mode


@in_one_test
@both_guards
@every_mode
def test_recover_cut_at_every_byte_gives_exact_frames_offset_and_end(mode: Mode, guard: bool) -> None:
    stream = corpus(mode)
    deframer = mode.deframer()
    for cut in range(len(stream.data) + 1):
        assert recover(stream.data[:cut], deframer, guard=guard) == stream.report(cut, guard), f"cut at {cut}"


@in_one_test
@every_mode
def test_recover_cut_at_every_byte_agrees_with_the_reference(mode: Mode) -> None:
    stream = corpus(mode)
    for cut in range(len(stream.data) + 1):
        frames, offset, end = recover(stream.data[:cut], mode.deframer(), guard=False)
        assert reference.Recovered(frames, offset, end.value) == reference.recover(stream.data[:cut], mode.name)


@in_one_test
@pytest.mark.parametrize("checksum_type", list(ChecksumType))
def test_recover_takes_a_checksum_type_for_a_deframer(checksum_type: ChecksumType) -> None:
    stream = corpus(MODES[checksum_type.value])
    cut = len(stream.data) - 1
    assert recover(stream.data[:cut], checksum_type) == stream.report(cut)


# Empty stream is a clean end 0/0


@in_one_test
@both_guards
@every_source
def test_recover_empty_stream_is_a_clean_end_at_zero(source_kind: Any, guard: bool, tmp_path: Path) -> None:
    with source_kind.open(b"", tmp_path) as source:
        assert recover(source, guard=guard) == RecoveryReport(0, 0, RecoveryEnd.CLEAN_EOF)


@in_one_test
@every_mode
def test_recover_file_empty_stream_is_a_clean_end_at_zero(mode: Mode) -> None:
    file = io.BytesIO()
    assert recover_file(file, mode.deframer()) == RecoveryReport(0, 0, RecoveryEnd.CLEAN_EOF)
    assert file.tell() == 0


# A payload bit flipped in mid-file is an error even when what follows is intact


@in_one_test
@both_guards
@every_checksum
def test_recover_payload_bit_flipped_in_mid_file_is_an_error(mode: Mode, guard: bool) -> None:
    stream = corpus(mode)
    frame = 4
    begin, end = stream.ends[frame] - len(stream.payloads[frame]), stream.ends[frame]
    assert end < len(stream.data), "intact frames must follow"
    for bit in range(8 * begin, 8 * end):
        with pytest.raises(ChecksumMismatchError) as caught:
            recover(flip(stream.data, bit), mode.deframer(), guard=guard)
        assert (caught.value.frame, caught.value.offset) == (frame, stream.starts[frame])


# So are a validator's refusal, a bound smaller than a real frame, a complete u32::MAX header at the end, ...


@in_one_test
@both_guards
@every_mode
def test_recover_validators_refusal_is_an_error(mode: Mode, guard: bool) -> None:
    stream = corpus(mode, [b"aaa", b"bb", b"cccc"])
    with pytest.raises(ValidationFailedError) as caught:
        recover(stream.data, mode.deframer().with_validator(SizeValidator(3, 9)), guard=guard)
    assert (caught.value.frame, caught.value.offset) == (1, stream.starts[1])
    assert (caught.value.validator, caught.value.reason) == ("SizeValidator", "2 bytes are fewer than the 3 required")


@in_one_test
@both_guards
@every_mode
def test_recover_bound_smaller_than_a_real_frame_is_an_error(mode: Mode, guard: bool) -> None:
    stream = corpus(mode, [b"aaa", b"bb", b"cccc"])
    for deframer in (mode.deframer().bounded(3), mode.deframer(max_frame_len=3)):
        with pytest.raises(InvalidFrameError) as caught:
            recover(stream.data, deframer, guard=guard)
        assert (caught.value.frame, caught.value.offset) == (2, stream.starts[2])
        assert (caught.value.declared_len, caught.value.limit) == (4, 3)


@in_one_test
@both_guards
@every_mode
def test_recover_complete_u32_max_header_at_the_end_is_an_error(mode: Mode, guard: bool) -> None:
    stream = corpus(mode)
    # With the four bytes of the length alone, and with the checksum behind it too.
    for rest in (b"", b"\xff" * mode.size):
        with pytest.raises(InvalidFrameError) as caught:
            recover(stream.data + b"\xff\xff\xff\xff" + rest, mode.deframer(), guard=guard)
        assert (caught.value.declared_len, caught.value.limit) == (2**32 - 1, 2**31)
        assert (caught.value.frame, caught.value.offset) == (len(stream.payloads), len(stream.data))


@in_one_test
@every_mode
def test_recover_incomplete_u32_max_header_at_the_end_is_a_torn_tail(mode: Mode) -> None:
    stream = corpus(mode)
    for size in (1, 2, 3):
        report = recover(stream.data + b"\xff" * size, mode.deframer())
        assert report == (len(stream.payloads), len(stream.data), RecoveryEnd.TORN_TAIL)


@in_one_test
@both_guards
@every_checksum
def test_recover_checksummed_deframer_on_a_plain_stream_is_an_error(mode: Mode, guard: bool) -> None:
    plain = corpus(MODES["none"], [b"abcdefgh" * 4] * 8)
    with pytest.raises(ChecksumMismatchError) as caught:
        recover(plain.data, mode.deframer(), guard=guard)
    assert (caught.value.frame, caught.value.offset) == (0, 0)
    assert caught.value.expected == int.from_bytes(b"abcdefgh"[: mode.size], "little")


# Sources that give one byte at a time, or interrupt every third read, give the same report


@in_one_test
@pytest.mark.parametrize("kind", [CutSource, CutReadSource])
@every_mode
def test_recover_from_one_byte_at_a_time_gives_the_same_report(mode: Mode, kind: Any) -> None:
    stream = corpus(mode)
    for cut in range(len(stream.data) + 1):
        data = stream.data[:cut]
        assert recover(kind(data, range(cut)), mode.deframer()) == stream.report(cut), f"cut at {cut}"


@in_one_test
@every_mode
def test_recover_interrupted_every_third_read_gives_the_same_report(mode: Mode) -> None:
    stream = corpus(mode)
    for cut in range(len(stream.data) + 1):
        source = InterruptedSource(stream.data[:cut], range(cut))
        assert recover(source, mode.deframer()) == stream.report(cut), f"cut at {cut}"
        assert source.interruptions == source.calls // 3
    assert source.interruptions > 0


@in_one_test
@every_source
def test_recover_gives_the_same_report_from_every_source(source_kind: Any, tmp_path: Path) -> None:
    stream = corpus(MODES["crc32"])
    for cut in (0, 1, len(stream.data) // 2, len(stream.data) - 1, len(stream.data)):
        with source_kind.open(stream.data[:cut], tmp_path) as source:
            assert recover(source, ChecksumType.CRC32) == stream.report(cut), f"cut at {cut}"


# `recover` starts where the source stands and counts from there


@in_one_test
@pytest.mark.parametrize("opener", ["bytesio", "raw", "buffered"])
@both_guards
def test_recover_starts_where_the_source_stands_and_counts_from_there(opener: str, guard: bool, tmp_path: Path) -> None:
    mode = MODES["crc32"]
    stream = corpus(mode)
    cut = len(stream.data) - 3
    # What stands before is no frame: had it been read, it would have been refused.
    before = b"\xff" * 11
    for first in range(len(stream.payloads)):
        begin = stream.starts[first]
        with open_file(opener, before + stream.data[:cut], tmp_path) as file:
            file.seek(len(before) + begin)
            report = recover(file, mode.deframer(), guard=guard)
        whole = stream.report(cut)
        end = RecoveryEnd.TORN_TAIL if whole.frames > first or not guard else RecoveryEnd.NOT_A_STREAM
        assert report == (whole.frames - first, whole.last_good_offset - begin, end)


def open_file(opener: str, data: bytes, folder: Path) -> Any:
    """A seekable file for reading and writing that holds `data`."""
    if opener == "bytesio":
        return io.BytesIO(data)
    path = folder / "stream.fs"
    path.write_bytes(data)
    return open(path, "r+b", buffering=0 if opener == "raw" else -1)


# `recover_file` starts at 0 and leaves the cursor at last_good_offset


@in_one_test
@pytest.mark.parametrize("opener", ["bytesio", "raw", "buffered"])
@both_guards
def test_recover_file_starts_at_zero_and_leaves_the_cursor_at_last_good_offset(
    opener: str, guard: bool, tmp_path: Path
) -> None:
    stream = corpus(MODES["crc16"])
    for cut in range(len(stream.data) + 1):
        with open_file(opener, stream.data[:cut], tmp_path) as file:
            file.seek(cut // 2)
            report = recover_file(file, ChecksumType.CRC16, guard=guard)
            assert report == stream.report(cut, guard)
            is_none = report.end is RecoveryEnd.NOT_A_STREAM
            assert file.tell() == (cut if is_none else report.last_good_offset)


def test_recover_file_changes_nothing(tmp_path: Path) -> None:
    stream = corpus(MODES["crc32"])
    torn = stream.data[:-2]
    path = tmp_path / "torn.fs"
    path.write_bytes(torn)
    for file in (path, str(path)):
        assert recover_file(file, ChecksumType.CRC32) == stream.report(len(torn))
        assert path.read_bytes() == torn


# A device fault comes through as itself


every_fault = pytest.mark.parametrize(
    "make_fault",
    [
        pytest.param(lambda: OSError(errno.EIO, "Input/output error"), id="EIO"),
        pytest.param(lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), id="ECONNRESET"),
        pytest.param(lambda: TimeoutError(errno.ETIMEDOUT, "Timed out"), id="ETIMEDOUT"),
        pytest.param(lambda: BlockingIOError(errno.EAGAIN, "Would block"), id="EAGAIN"),
        pytest.param(lambda: OSError("a device that gives no number"), id="no_errno"),
    ],
)


@in_one_test
@both_guards
@every_fault
@every_mode
def test_recover_device_fault_at_every_byte_comes_through_as_itself(
    mode: Mode, make_fault: Callable[[], OSError], guard: bool
) -> None:
    stream = corpus(mode)
    fault = make_fault()
    number = fault.errno
    for fault_at in range(len(stream.data) + 1):
        source = FaultySource(stream.data, fault_at, fault, piece=7)
        with pytest.raises(OSError) as caught:
            recover(source, mode.deframer(), guard=guard)
        assert caught.value is fault, f"fault at {fault_at}"
        assert caught.value.errno == number
        assert source.faults == 1


def test_recover_file_device_fault_comes_through_as_itself() -> None:
    fault = OSError(errno.EIO, "Input/output error")

    class Device(FaultySource):
        def seek(self, offset: int) -> int:
            assert offset == 0
            return offset

    with pytest.raises(OSError) as caught:
        recover_file(Device(corpus(MODES["crc32"]).data, 30, fault), ChecksumType.CRC32)
    assert caught.value is fault


# Recover, truncate, append, read again is byte-exact and the second recovery is clean


@in_one_test(step=2)
@pytest.mark.parametrize("opener", ["bytesio", "raw", "buffered"])
@every_mode
def test_recover_truncate_append_read_again_is_byte_exact(mode: Mode, opener: str, tmp_path: Path) -> None:
    stream = corpus(mode)
    # Every byte in memory; on disk every third, which is enough to meet every field of a frame.
    for cut in range(0, len(stream.data) + 1, 1 if opener == "bytesio" else 3):
        with open_file(opener, stream.data[:cut], tmp_path) as file:
            report = recover_file(file, mode.deframer())
            file.truncate()
            if report.end is RecoveryEnd.NOT_A_STREAM:
                # Nothing was cut off.
                file.seek(0)
                assert file.read() == stream.data[:cut]
                continue
            with StreamWriter(file, mode.framer()) as writer:
                writer.write_payloads(stream.payloads[report.frames :])

            file.seek(0)
            assert file.read() == stream.data, f"cut at {cut}"
            file.seek(0)
            assert read_all(file, mode.deframer()) == (list(stream.payloads), None)
            assert recover_file(file, mode.deframer()) == stream.report(len(stream.data))


def test_recover_truncate_append_other_messages_keeps_what_was_intact() -> None:
    stream = corpus(MODES["crc32"], SMALL_PAYLOADS)
    file = io.BytesIO(stream.data[:-1])
    report = recover_file(file, ChecksumDeframer(Crc32()))
    file.truncate()
    with StreamWriter(file, ChecksumType.CRC32) as writer:
        writer.write_payload(b"written after the crash")
    payloads, error = read_all(file.getvalue(), ChecksumType.CRC32)
    assert error is None
    assert payloads == [*SMALL_PAYLOADS[: report.frames], b"written after the crash"]


# In short


def test_only_a_torn_tail_authorises_truncation() -> None:
    stream = corpus(MODES["crc32"])
    whole = len(stream.payloads)
    assert recover(stream.data, ChecksumType.CRC32) == (whole, len(stream.data), RecoveryEnd.CLEAN_EOF)
    assert recover(stream.data[:-1], ChecksumType.CRC32) == (whole - 1, stream.ends[-2], RecoveryEnd.TORN_TAIL)
    with pytest.raises(ChecksumMismatchError):
        recover(flip(stream.data, 8 * len(stream.data) - 1), ChecksumType.CRC32)


def test_guards_are_there() -> None:
    stream = corpus(MODES["crc32"], [flatbuffer_of_event(number) for number in range(5)])
    # A length bit of the second frame, so that it reaches beyond the end.
    damaged = flip(stream.data, 8 * stream.starts[1] + 20)
    with pytest.raises(InvalidFrameError, match=f"an intact frame begins at stream offset {stream.starts[2]}"):
        recover(damaged, ChecksumType.CRC32)
    assert recover(damaged, ChecksumType.CRC32, guard=False) == (1, stream.starts[1], RecoveryEnd.TORN_TAIL)
    # Zero bytes, as file systems leave them.
    file = io.BytesIO(stream.data + bytes(100))
    deframer = ChecksumDeframer(Crc32(), allow_empty=False)
    assert recover_file(file, deframer) == (5, len(stream.data), RecoveryEnd.TORN_TAIL)
    assert file.tell() == len(stream.data)

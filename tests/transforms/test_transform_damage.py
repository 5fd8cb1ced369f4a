"""Damaged streams of transforms, in every mode: what is given, what is told, and where reading goes on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    ChecksumMismatchError,
    FlatStreamError,
    InvalidFrameError,
    RecoveryEnd,
    StreamReader,
    UnexpectedEofError,
    ValidationFailedError,
    recover,
    recover_file,
)
from reference import framing
from reference import transforms as reference
from support.extent import in_one_test, spread
from support.messages import event_payloads
from support.modes import MODES, Mode, every_mode
from support.schemas import schema_of
from support.streams import by_message
from support.transforms import CASES, Case, every_transform, every_twin

PAYLOADS = [b"first message", b"second", b"a" * 60, bytes(range(40)), b"fifth one", b"sixth"]
STRONG = [MODES["crc32"], MODES["xxhash64"]]


def damaged_streams(stream: bytes, step: int) -> Iterator[tuple[int, bytes]]:
    """The stream with one byte changed, and where."""
    for place in spread(range(len(stream)), step):
        yield place, stream[:place] + bytes([stream[place] ^ 1 << place % 8]) + stream[place + 1 :]


def reader_of(source: Any, case: Case, mode: Mode, **options: Any) -> StreamReader:
    return StreamReader(source, case.deframer(mode.deframer(max_frame_len=1 << 20)), **options)


def read_on(reader: StreamReader, take: str) -> tuple[list[bytes | tuple[str, int]], FlatStreamError | None]:
    """Messages, and for each refused frame the kind of its error and its offset; and the error that ended it."""
    found: list[bytes | tuple[str, int]] = []
    while True:
        try:
            if take == "message":
                payload = reader.read_message()
                if payload is None:
                    return found, None
                found.append(bytes(payload))
            else:
                batch = reader.read_batch(3)
                if batch is None:
                    return found, None
                found += map(bytes, batch)
        except (ChecksumMismatchError, ValidationFailedError) as error:
            is_damaged = isinstance(error, ChecksumMismatchError)
            found.append((reference.DAMAGED if is_damaged else reference.REFUSED, error.offset or 0))
        except FlatStreamError as error:
            return found, error


@in_one_test
@every_twin
@every_mode
def test_error_by_error_reading_is_that_of_the_twin(case: Case, mode: Mode) -> None:
    stream = case.write(PAYLOADS, mode)
    for place, damaged in damaged_streams(stream, 23):
        judged = framing.decode(damaged, mode.name, max_frame_len=1 << 20)
        assert case.twin is not None
        expected = [
            frame.outcome if isinstance(frame.outcome, bytes) else (frame.outcome, frame.offset)
            for frame in reference.frames_of(damaged, mode.name, case.twin)
            if frame.outcome != reference.CONTROL
        ]
        ends = {framing.Clean: type(None), framing.Torn: UnexpectedEofError, framing.Invalid: InvalidFrameError}
        for take in ("message", "batch"):
            for options in ({}, {"capacity": 32}):
                with reader_of(io.BytesIO(damaged), case, mode, **options) as reader:
                    found, error = read_on(reader, take)
                    assert found == expected, (place, take)
                    assert type(error) is ends[type(judged.end)], (place, take)
                    assert reader.offset == judged.end.offset


@in_one_test
@every_twin
@every_mode
def test_skipping_is_that_of_the_twin(case: Case, mode: Mode) -> None:
    stream = case.write(PAYLOADS, mode)
    assert case.twin is not None
    for place, damaged in damaged_streams(stream, 23):
        judged = framing.decode(damaged, mode.name, max_frame_len=1 << 20)
        if not isinstance(judged.end, framing.Clean):
            continue
        if any(isinstance(one, framing.Good) and not one.payload for one in judged.outcomes):
            # What is stored as nothing is taken for zeros.
            continue
        frames = reference.frames_of(damaged, mode.name, case.twin)
        expected = [frame.outcome for frame in frames if isinstance(frame.outcome, bytes)]
        if b"" in expected:
            continue
        lost = [frame for frame in frames if frame.outcome in (reference.DAMAGED, reference.REFUSED)]
        for take in ("message", "batch"):
            with reader_of(io.BytesIO(damaged), case, mode, on_error="skip", capacity=64) as reader:
                found, error = read_on(reader, take)
                assert (found, error) == (expected, None), (place, take)
                assert reader.skipped == len(lost)
                assert reader.lost_bytes == sum(frame.size for frame in lost)


@in_one_test
@every_transform
@pytest.mark.parametrize("mode", STRONG, ids=lambda mode: mode.name)
def test_resync_gives_every_undamaged_message_and_tells_the_rest(case: Case, mode: Mode) -> None:
    stream = case.write(PAYLOADS, mode)
    frames = framing.decode(stream, mode.name).outcomes
    first = case.controls[0]
    for place, damaged in damaged_streams(stream, 19):
        hit = next(i for i, frame in enumerate(frames) if frame.offset <= place < frame.offset + frame.size)
        expected = [payload for number, payload in enumerate(PAYLOADS, first) if number != hit]
        if hit < first and case.is_strict:
            # Without its head, nothing of the part can be restored.
            expected = []
        for take in ("message", "batch"):
            for options in ({}, {"capacity": 32, "resync_window": 512}):
                with reader_of(io.BytesIO(damaged), case, mode, on_error="resync", **options) as reader:
                    found, error = read_on(reader, take)
                    assert error is None
                    if hit < first and not case.is_strict:
                        assert set(found) <= set(PAYLOADS)
                    else:
                        assert found == expected, (place, take, options)
                    assert reader.skipped >= 1
                    begin, end = frames[hit].offset, frames[hit].offset + frames[hit].size
                    assert any(low <= begin and end <= high for low, high in reader.lost_ranges), (place, options)


@in_one_test
@every_transform
@every_mode
def test_stopping_ends_before_the_damage(case: Case, mode: Mode) -> None:
    stream = case.write(PAYLOADS, mode)
    frames = framing.decode(stream, mode.name).outcomes
    first = case.controls[0]
    for hit in range(first + 1, first + len(PAYLOADS)):
        place = frames[hit].offset + frames[hit].size - 1
        damaged = stream[:place] + bytes([stream[place] ^ 1]) + stream[place + 1 :]
        if mode.name == "none" and case.keeps_empty:
            continue
        for take in ("message", "batch"):
            with reader_of(io.BytesIO(damaged), case, mode, on_error="stop", capacity=64) as reader:
                found, error = read_on(reader, take)
                if mode.name == "none" and not reader.stop_error:
                    # Nobody noticed: a transform without a checksum of its own.
                    continue
                assert (found, error) == (PAYLOADS[: hit - first], None)
                assert reader.stop_error is not None
                assert (reader.offset, reader.stop_error.offset) == (frames[hit].offset, frames[hit].offset)
                # A read that does not stop finds the error there.
                with pytest.raises(FlatStreamError) as caught:
                    reader.read_batch(on_error="raise")
                assert caught.value.offset == frames[hit].offset
                if not case.is_strict:
                    assert by_message(reader) == PAYLOADS[hit - first + 1 :]


@in_one_test
@every_transform
def test_without_a_checksum_resync_finds_frames_that_the_transform_may_have_stored(case: Case) -> None:
    mode = MODES["none"]
    payloads = [b"message %d " % number * 3 for number in range(40)]
    stream = case.write(payloads, mode)
    frames = framing.decode(stream, mode.name).outcomes
    hit = case.controls[0] + 10
    place = frames[hit].offset
    # Its length is wrong.
    damaged = stream[: place + 2] + b"\x7f" + stream[place + 3 :]
    with reader_of(io.BytesIO(damaged), case, mode, on_error="resync") as reader:
        found, error = read_on(reader, "message")
    assert error is None
    assert found == payloads[:10] + payloads[11:]
    assert reader.lost_ranges == [(place, place + frames[hit].size)]


# Records and columns


@in_one_test
@every_transform
@pytest.mark.parametrize("on_error", ["raise", "skip", "stop", "resync"])
def test_damaged_messages_of_records_and_columns_are_told_with_the_places_of_their_frames(
    case: Case, on_error: Any
) -> None:
    mode = MODES["crc32"]
    table = schema_of("telemetry").root
    messages = event_payloads(30)
    for bad in (7, 20):
        # The offset of the root table leads out of the message.
        messages[bad] = b"\xff\xff\xff\x7f" + messages[bad][4:]
    stream = case.write(messages, mode)
    frames = framing.decode(stream, mode.name).outcomes[case.controls[0] :]
    ranges = [(frames[bad].offset, frames[bad].offset + frames[bad].size) for bad in (7, 20)]
    good = [record.to_json() for record in StreamReader(framing.encode(event_payloads(30), "none")).records(table)]
    kept = [text for number, text in enumerate(good) if number not in (7, 20)]

    def records(reader: StreamReader) -> list[str]:
        return [record.to_json() for record in reader.records(table, on_error=on_error)]

    def columns(reader: StreamReader) -> list[Any]:
        return list(reader.columns(table, ["sequence"], on_error=on_error).to_pylist())

    for read in (records, columns):
        for options in ({}, {"capacity": 500}):
            with reader_of(io.BytesIO(stream), case, mode, **options) as reader:
                if on_error == "raise":
                    with pytest.raises(FlatStreamError) as caught:
                        read(reader)
                    assert (caught.value.offset, caught.value.frame) == (ranges[0][0], 7)
                elif on_error == "stop":
                    assert len(read(reader)) == 7
                    assert reader.stop_error is not None
                    assert (reader.stop_error.offset, reader.stop_error.frame) == (ranges[0][0], 7)
                    # Whoever reads on gets the message, and those behind it.
                    assert (reader.offset, reader.frames_read) == (ranges[0][0], 7)
                    assert by_message(reader) == messages[7:]
                else:
                    found = read(reader)
                    assert len(found) == len(kept)
                    assert found == kept or read is columns
                    assert (reader.lost_ranges, reader.skipped) == (ranges, 2)


@in_one_test
@every_transform
def test_columns_stopped_in_the_middle_of_a_batch_can_be_read_on(case: Case) -> None:
    table = schema_of("telemetry").root
    messages = event_payloads(20)
    messages[9] = b"\xff\xff\xff\x7f" + messages[9][4:]
    with reader_of(case.write(messages, MODES["crc32"]), case, MODES["crc32"]) as reader:
        for _ in range(3):
            assert len(reader.columns(table, ["sequence"], on_error="stop").to_pylist()) in (9, 0)
            assert reader.frames_read == 9
        assert by_message(reader) == messages[9:]
        assert reader.read_message() is None


# Recovery


@in_one_test
@every_transform
@every_mode
def test_recovery_of_a_torn_stream_counts_the_frames_before_the_tear(case: Case, mode: Mode) -> None:
    stream = case.write(PAYLOADS, mode)
    frames = framing.decode(stream, mode.name).outcomes
    ends = [0, *(frame.offset + frame.size for frame in frames)]
    for cut in spread(range(ends[2], len(stream) + 1), 29):
        whole = sum(end <= cut for end in ends[1:])
        for guard in (True, False):
            report = recover(stream[:cut], case.deframer(mode.deframer()), guard=guard)
            end = RecoveryEnd.CLEAN_EOF if cut in ends else RecoveryEnd.TORN_TAIL
            assert report == (whole, ends[whole], end), (cut, guard)


@in_one_test
@every_transform
@every_mode
def test_zeros_behind_a_stream_are_a_torn_tail(case: Case, mode: Mode, tmp_path: Path) -> None:
    stream = case.write(PAYLOADS, mode)
    frames = len(framing.decode(stream, mode.name).outcomes)
    for zeros in (1, 13, 4096):
        path = tmp_path / f"{zeros}.fs"
        path.write_bytes(stream + bytes(zeros))
        for source in (path, stream + bytes(zeros)):
            report = recover(source, case.deframer(mode.deframer()))
            assert report == (frames, len(stream), RecoveryEnd.TORN_TAIL), (zeros, source)


@in_one_test
@every_transform
@pytest.mark.parametrize("mode", STRONG, ids=lambda mode: mode.name)
def test_guard_does_not_let_intact_frames_be_cut(case: Case, mode: Mode, tmp_path: Path) -> None:
    stream = case.write(PAYLOADS, mode)
    frames = framing.decode(stream, mode.name).outcomes
    hit = frames[case.controls[0] + 2]
    damaged = stream[: hit.offset] + (1 << 24).to_bytes(4, "little") + stream[hit.offset + 4 :]
    path = tmp_path / "a.fs"
    path.write_bytes(damaged)
    with pytest.raises(InvalidFrameError, match="an intact frame begins at stream offset") as caught:
        recover_file(path, case.deframer(mode.deframer()))
    assert caught.value.next_intact_offset == hit.offset + hit.size


def test_frame_that_the_transform_refuses_is_damage_for_recovery() -> None:
    case, mode = CASES["numbers"], MODES["crc32"]
    frames = framing.decode(case.write(PAYLOADS, mode), "crc32").outcomes
    parts = [frame.payload for frame in frames if isinstance(frame, framing.Good)]
    without = reference.encode([*parts[:3], *parts[4:]], "crc32")
    with pytest.raises(ValidationFailedError, match="number 3 after 2") as caught:
        recover(without, case.deframer(mode.deframer()))
    assert caught.value.offset == frames[3].offset
    assert caught.value.next_intact_offset is not None

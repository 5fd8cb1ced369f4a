"""Reading a journal with damage: what is lost stays within its segment, and the frames around it keep their numbers."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import pytest

from flatstream import FlatStreamError, UnexpectedEofError
from flatstream.journal import Cursor, Gap, JournalReader, JournalWriter, RotationPolicy
from flatstream.journal._numbers import distribute, numbers_of_ranges, possible_frames
from reference import framing as reference
from support.extent import spread
from support.journal_segments import PAYLOADS, add_frames, make_segment, make_segments, numbered
from support.modes import MODES, Mode, every_mode

ALL = list(enumerate(PAYLOADS))
FRAME = 8 + len(PAYLOADS[0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def damage(path: Path, offset: int, mask: int = 0xFF) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([before ^ mask]))


def missing(gaps: list[Gap]) -> list[int]:
    return [number for gap in gaps for number in range(gap.first, gap.next)]


# One damage in a segment


@pytest.mark.parametrize("mask", [1, 0x80])
@every_mode
def test_damage_of_each_byte_loses_nothing_of_other_segments(folder: Path, mode: Mode, mask: int) -> None:
    payloads = PAYLOADS[:24]
    paths = make_segments(folder, payloads, [8, 8], mode.name)
    data = paths[1].read_bytes()
    for offset in spread(range(len(data)), 5):
        paths[1].write_bytes(data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :])
        with JournalReader(folder, deframer=mode.deframer()) as reader:
            found = numbered(reader)
        outside = [each for each in found if not 8 <= each[0] < 16]
        assert outside == [*ALL[:8], *ALL[16:24]], offset
        assert reader.position == 24
        if mode.size >= 2:
            # Every frame that comes has its own number, and the others are told.
            assert set(found) <= set(ALL), offset
            assert sorted([number for number, _ in found] + missing(reader.gaps)) == list(range(24)), offset
            assert len(found) >= 22, offset


@every_mode
def test_segment_cut_at_each_byte_does_not_swallow_the_next(folder: Path, mode: Mode) -> None:
    payloads = PAYLOADS[:24]
    paths = make_segments(folder, payloads, [8, 8], mode.name)
    data = paths[1].read_bytes()
    frame = len(data) // 8
    for size in spread(range(len(data)), 4):
        paths[1].write_bytes(data[:size])
        with JournalReader(folder, deframer=mode.deframer()) as reader:
            whole = 8 + size // frame
            assert numbered(reader) == [*ALL[:whole], *ALL[16:24]], size
            assert missing(reader.gaps) == list(range(whole, 16)), size
            assert sum(gap.lost_bytes for gap in reader.gaps) == size % frame


@pytest.mark.parametrize("mode", ["none", "crc32"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_cut_segment_is_raised_and_stays_so(folder: Path, mode: str, on_error: str) -> None:
    paths = make_segments(folder, PAYLOADS, [10] * 5, mode)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    with JournalReader(folder, mode, on_error=on_error) as reader:  # type: ignore[arg-type]
        for number in range(19):
            assert bytes(next(reader)) == PAYLOADS[number]
        for _ in range(2):
            with pytest.raises(UnexpectedEofError) as caught:
                next(reader)
        assert (caught.value.frame, reader.position) == (19, 19)
        # Another way to read goes on.
        batch = reader.read_batch(on_error="resync")
        assert batch is not None
        assert [bytes(payload) for payload in batch] == PAYLOADS[20:30]
        assert reader.number == 29


def test_stop_ends_at_damage(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS, [10] * 5)
    damage(paths[2], 3 * FRAME + 10)
    with JournalReader(folder, "crc32", on_error="stop") as reader:
        assert numbered(reader) == ALL[:23]
        assert reader.read_message() is None
        assert isinstance(reader.stop_error, FlatStreamError)


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 5, 15])
@pytest.mark.parametrize("frame", [0, 4, 9])
def test_numbers_behind_damage_are_exact_in_batches_and_from_a_start(folder: Path, frame: int, offset: int) -> None:
    paths = make_segments(folder, PAYLOADS, [10] * 5)
    damage(paths[1], frame * FRAME + offset)
    lost = 10 + frame
    gap = Gap(lost, lost + 1, FRAME, str(paths[1]))
    with JournalReader(folder, "crc32") as reader:
        found = []
        while (batch := reader.read_batch(max_frames=3)) is not None:
            found += [bytes(payload) for payload in batch]
            assert PAYLOADS[reader.number] == found[-1]
            assert reader.gaps == ([gap] if reader.number > lost else [])
        assert found == PAYLOADS[:lost] + PAYLOADS[lost + 1 :]
    for start in range(60):
        with JournalReader(folder, "crc32", start=start) as reader:
            expected = [each for each in ALL[start:] if each[0] != lost]
            assert reader.position == start
            assert numbered(reader) == expected, start
            assert reader.gaps == ([gap] if start <= lost else [])


def test_damage_in_several_places_is_distributed_by_its_bytes(folder: Path) -> None:
    payloads = [b"x" * 10, b"y" * 300, b"z" * 10] * 4
    first = make_segment(folder, 0, payloads)
    make_segment(folder, 12, [b"next"])
    ends = [0]
    for payload in payloads:
        ends.append(ends[-1] + 8 + len(payload))
    # The length of two frames of 300 bytes, and of one of 10 bytes.
    for frame in (1, 4, 6):
        damage(first, ends[frame] + 1)
    with JournalReader(folder, "crc32") as reader:
        found = numbered(reader)
        assert found[-1] == (12, b"next")
        assert [payload for _, payload in found[:-1]] == [payloads[n] for n in range(12) if n not in (1, 4, 6)]
        assert [number for number, _ in found] == sorted(number for number, _ in found)
        assert (len(missing(reader.gaps)), reader.lost_bytes) == (3, 308 + 308 + 18)
        assert sorted([number for number, _ in found] + missing(reader.gaps)) == list(range(13))


def test_missing_frames_are_distributed() -> None:
    assert distribute(3, [(0, 308), (400, 708), (800, 818)]) == [1, 1, 1]
    assert distribute(5, [(0, 10)]) == [5]
    assert distribute(0, [(0, 10), (20, 30)]) == [0, 0]
    assert distribute(10, [(0, 1), (5, 6), (8, 16)]) == [1, 1, 8]
    assert possible_frames([(0, 1), (10, 25), (30, 46)], 8) == 1 + 1 + 2
    # What cannot have been in the ranges is missing behind them.
    assert numbers_of_ranges([(0, 1), (10, 26)], 100, 8) == numbers_of_ranges([(0, 1), (10, 26)], None, 8) == [1, 2]
    assert numbers_of_ranges([(0, 1), (10, 26)], -1, 8) == [0, 0]


def test_frames_cut_off_a_sealed_segment_are_a_gap_with_its_bytes(folder: Path) -> None:
    with JournalWriter(folder, "crc32", describe=False, rotate=RotationPolicy(max_frames=10)) as writer:
        writer.write_payloads(PAYLOADS)
    paths = sorted(folder.glob("*.fs"))
    paths[1].write_bytes(paths[1].read_bytes()[: 7 * FRAME])
    with JournalReader(folder) as reader:
        assert numbered(reader) == ALL[:17] + ALL[20:]
        assert reader.gaps == [Gap(17, 20, 3 * FRAME, str(paths[1]))]


# The last segment


def test_damaged_last_segment_is_numbered_as_the_writer_goes_on(folder: Path) -> None:
    path = make_segment(folder, 0, PAYLOADS[:10])
    damage(path, 4 * FRAME + 1)
    possible = FRAME // 8
    with JournalReader(folder, "crc32") as reader:
        found = numbered(reader)
        assert found == ALL[:4] + [(number - 1 + possible, payload) for number, payload in ALL[5:10]]
        assert (reader.position, reader.gaps) == (9 + possible, [Gap(4, 4 + possible, FRAME, str(path))])
        position = reader.position
    with JournalWriter(folder, "crc32", describe=False) as writer:
        assert writer.position == position
        writer.write_payload(b"more")
    with JournalReader(folder) as reader:
        assert numbered(reader) == [*found, (position, b"more")]
        assert reader.gaps == [Gap(4, 4 + possible, FRAME, str(path))]
    with JournalReader(folder, start=position) as reader:
        assert numbered(reader) == [(position, b"more")]


def test_damaged_last_segment_of_a_closed_writer_has_exact_numbers(folder: Path) -> None:
    with JournalWriter(folder, "crc32", describe=False) as writer:
        writer.write_payloads(PAYLOADS[:10])
    path = next(folder.glob("*.fs"))
    damage(path, 4 * FRAME + 1)
    with JournalReader(folder) as reader:
        assert numbered(reader) == ALL[:4] + ALL[5:10]
        assert (reader.position, reader.gaps) == (10, [Gap(4, 5, FRAME, str(path))])


def test_a_start_in_a_damaged_last_segment_finds_the_same_numbers(folder: Path) -> None:
    with JournalWriter(folder, "crc32", describe=False, rotate=RotationPolicy(max_frames=10)) as writer:
        writer.write_payloads(PAYLOADS[:20])
    for path in folder.glob("*.fs"):
        damage(path, 4 * FRAME + 1)
    found = [one for one in ALL[:20] if one[0] not in (4, 14)]
    for start in range(21):
        with JournalReader(folder, start=start) as reader:
            assert numbered(reader) == [one for one in found if one[0] >= start]
    for start in range(-7, 0):
        with JournalReader(folder, start=start) as reader:
            assert numbered(reader) == [one for one in found if one[0] >= 20 + start]


@pytest.mark.parametrize("gone", [False, True])
def test_opening_a_writer_changes_no_number(folder: Path, gone: bool) -> None:
    with JournalWriter(folder, "crc32", describe=False, rotate=RotationPolicy(max_frames=10)) as writer:
        writer.write_payloads(PAYLOADS[:40])
    paths = sorted(folder.glob("*.fs"))
    # Bytes are lost in the middle, so that the segment has not the size that it was sealed with.
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: 3 * FRAME + 12] + data[3 * FRAME + 15 :])
    if gone:
        paths[2].unlink()
    with JournalReader(folder) as reader:
        found, lost = numbered(reader), missing(reader.gaps)
    assert found == ALL[:13] + ALL[14 : 20 if gone else 30] + ALL[30:40]
    with JournalWriter(folder, "crc32", describe=False) as writer:
        assert writer.position == 40
    with JournalReader(folder) as reader:
        assert (numbered(reader), missing(reader.gaps)) == (found, lost)
    for start in (11, 15, 17, 19, 25):
        with JournalReader(folder, start=start) as reader:
            assert numbered(reader) == [one for one in found if one[0] >= start]


@pytest.mark.parametrize("offset", [4 * FRAME + 9, 4 * FRAME + 1, 9 * FRAME])
def test_a_sealed_segment_is_written_further_only_if_it_is_intact(folder: Path, offset: int) -> None:
    with JournalWriter(folder, "crc32", describe=False) as writer:
        writer.write_payloads(PAYLOADS[:10])
    path = next(folder.glob("*.fs"))
    damage(path, offset)
    data = path.read_bytes()
    with JournalReader(folder) as reader:
        found = numbered(reader)
    with JournalWriter(folder, "crc32", describe=False) as writer:
        assert [one.action for one in writer.recovery] == ["damaged"]
        assert writer.position == 10
        writer.write_payload(b"more")
        writer.flush()
        # While it is written, too.
        with JournalReader(folder) as reader:
            assert numbered(reader) == [*found, (10, b"more")]
    with JournalReader(folder) as reader:
        assert numbered(reader) == [*found, (10, b"more")]
    assert path.read_bytes() == data
    assert len(list(folder.glob("*.torn-*"))) == 0


def test_an_intact_sealed_segment_is_written_further(folder: Path) -> None:
    for number in range(3):
        with JournalWriter(folder, "crc32", describe=False) as writer:
            writer.write_payload(PAYLOADS[number])
    with JournalReader(folder) as reader:
        assert numbered(reader) == ALL[:3]
    assert len(list(folder.glob("*.fs"))) == 1


@pytest.mark.parametrize("mode", ["none", "crc16", "xxhash64"])
def test_torn_end_of_the_last_segment_has_no_number(folder: Path, mode: str) -> None:
    paths = make_segments(folder, PAYLOADS[:20], [10], mode)
    data = paths[1].read_bytes()
    frame = len(data) // 10
    for size in range(9 * frame + 1, 10 * frame):
        paths[1].write_bytes(data[:size])
        with JournalReader(folder, deframer=MODES[mode].deframer()) as reader:
            assert numbered(reader) == ALL[:19]
            assert (reader.position, reader.gaps) == (19, [])
            assert reader.lost_ranges == [(19 * frame, 10 * frame + size)]
        with JournalReader(folder, deframer=MODES[mode].deframer(), start="newest") as reader:
            assert reader.position == 19


def test_zeros_at_the_end_are_no_frames(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS[:20], [10], "none")
    for path in paths:
        path.write_bytes(path.read_bytes() + bytes(5000))
    with JournalReader(folder, "none") as reader:
        assert numbered(reader) == ALL[:20]
        assert reader.gaps == [Gap(10, 10, 5000, str(paths[0]))]


def test_wrong_length_costs_no_memory(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS, [10] * 5)
    for path, offset in ((paths[1], 3 * FRAME), (paths[5], 9 * FRAME)):
        if path.stat().st_size:
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(struct.pack("<I", 2**32 - 5))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with JournalReader(folder, "crc32") as reader:
        assert len(numbered(reader)) == 58
        assert reader.buffer_capacity < 1 << 21
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_number_of_a_frame_that_the_journal_never_had(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS[:20], [10])
    damage(paths[0], 9 * FRAME + 10)
    # All of the rest of the first segment is lost, and so is the number that is asked for.
    with JournalReader(folder, "crc32", start=Cursor("0" * 32, 9)) as reader:
        assert numbered(reader) == ALL[10:20]
        assert reader.gaps == [Gap(9, 10, FRAME, str(paths[0]))]


def test_damage_while_the_rest_is_written_is_read_past(folder: Path) -> None:
    make_segments(folder, PAYLOADS[:10], [])
    path = make_segment(folder, 10, PAYLOADS[10:15])
    damage(path, FRAME + 10)
    with JournalReader(folder, "crc32") as reader:
        assert [payload for _, payload in numbered(reader)] == [payload for n, payload in ALL[:15] if n != 11]
        add_frames(path, PAYLOADS[15:18])
        make_segment(folder, 18, PAYLOADS[18:20])
        assert numbered(reader) == ALL[15:20]
        assert reader.gaps == [Gap(11, 12, FRAME, str(path))]


def test_bytes_between_frames_that_are_no_frame_shift_no_number(folder: Path) -> None:
    path = make_segment(folder, 0, PAYLOADS[:5])
    path.write_bytes(path.read_bytes() + b"\xff" * 50 + reference.encode(PAYLOADS[5:10], "crc32"))
    make_segment(folder, 10, PAYLOADS[10:20])
    with JournalReader(folder, "crc32") as reader:
        assert numbered(reader) == ALL[:20]
        assert reader.gaps == [Gap(5, 5, 50, str(path))]

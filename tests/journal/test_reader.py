"""Reading a journal: all segments as one stream, numbers, and where reading begins."""

from __future__ import annotations

import io
import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import ChecksumMismatchError, SizeValidator, StreamReader, ValidationFailedError
from flatstream.journal import Cursor, Gap, JournalReader, JournalWriter, RotationPolicy
from reference import framing as reference
from support.bad_input import Case, refusals, table
from support.journal_segments import PAYLOADS, add_frames, make_segment, make_segments, numbered
from support.modes import MODES, Mode, every_mode
from support.records import encoded
from support.schemas import TELEMETRY

ROOT: Any = TELEMETRY.root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def records(count: int) -> list[bytes]:
    return [encoded(ROOT, {"sequence": 10 * number, "host": f"host {number % 3}"}) for number in range(count)]


# One stream


@pytest.mark.parametrize("size", [1, 2, 7, 59, 60, 1000])
@every_mode
def test_segments_are_read_as_one_stream(folder: Path, mode: Mode, size: int) -> None:
    make_segments(folder, PAYLOADS, [size] * (len(PAYLOADS) // size), mode.name)
    options: dict[str, Any] = {"deframer": mode.deframer()}
    with JournalReader(folder, **options) as reader:
        assert numbered(reader) == list(enumerate(PAYLOADS))
        assert reader.read_message() is None
        assert (reader.frames_read, reader.gaps, reader.position) == (60, [], 60)
        assert reader.offset == reader.bytes_read == len(reference.encode(PAYLOADS, mode.name))
    with JournalReader(folder, **options) as reader:
        found = []
        while (batch := reader.read_batch(max_frames=5)) is not None:
            found += [bytes(payload) for payload in batch]
            assert reader.number == len(found) - 1
        assert found == PAYLOADS
    with JournalReader(folder, **options) as reader:
        found = []
        assert reader.process_all(lambda payload: found.append(bytes(payload))) == 60
        assert found == PAYLOADS


@pytest.mark.parametrize("size", [1, 4, 100])
def test_records_and_columns_are_read_across_segments(folder: Path, size: int) -> None:
    messages = records(50)
    make_segments(folder, messages, [size] * (50 // size), "xxhash64")
    stream = reference.encode(messages, "xxhash64")

    def ours() -> JournalReader:
        return JournalReader(folder, "xxhash64")

    def expected() -> StreamReader:
        return StreamReader(stream, "xxhash64")

    with ours() as reader:
        assert [record.to_dict() for record in reader.records(ROOT)] == [
            record.to_dict() for record in expected().records(ROOT)
        ]
    with ours() as reader:
        some = reader.records(ROOT, where=("host", "==", "host 1"), limit=10)
        assert [record.sequence for record in some] == [10 * number for number in range(1, 30, 3)]
        assert reader.number == 28
    with ours() as reader:
        assert reader.columns(ROOT).to_pylist() == expected().columns(ROOT).to_pylist()
    with ours() as reader:
        rows = [row for batch in reader.column_batches(ROOT, ["sequence"], batch_rows=7) for row in batch.to_pylist()]
        assert rows == [{"sequence": 10 * number} for number in range(50)]
    with ours() as reader:
        found: list[int] = []
        assert reader.process_typed(Length, lambda length: found.append(length.size)) == 50
        assert found == [len(message) for message in messages]


class Length:
    """A message as its length."""

    def __init__(self, size: int) -> None:
        self.size = size

    @classmethod
    def from_payload(cls, payload: memoryview) -> Length:
        return cls(len(payload))


def test_frame_larger_than_a_chunk_is_read_in_any_segment(folder: Path) -> None:
    payloads = [bytes([number]) * 100_000 for number in range(1, 7)]
    make_segments(folder, payloads, [2, 1])
    with JournalReader(folder, "crc32", capacity=1000) as reader:
        assert numbered(reader) == list(enumerate(payloads))


def test_empty_segments_and_empty_folders_have_no_frames(folder: Path) -> None:
    folder.mkdir()
    with JournalReader(folder) as reader:
        assert (reader.read_message(), reader.position, reader.number, reader.gaps) == (None, 0, -1, [])
        make_segment(folder, 0, [])
        assert reader.read_message() is None
        add_frames(Path(_segment(folder, 0)), [b"a"], "xxhash64")
        assert numbered(reader) == [(0, b"a")]
        make_segment(folder, 1, [b"b"], "xxhash64")
        assert numbered(reader) == [(1, b"b")]


def test_a_folder_of_other_files_is_no_journal(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("notes")
    with pytest.raises(flatstream.FlatStreamError, match=r"is no journal: it has other files, and no segments and no"):
        JournalReader(folder)
    # A writer may begin one there.
    with JournalReader(folder, follow=True) as reader, JournalWriter(folder) as writer:
        writer.write_payload(b"a")
        writer.flush()
        assert bytes(next(reader)) == b"a"
    with JournalReader(folder) as reader:
        assert numbered(reader) == [(0, b"a")]


def test_a_folder_in_which_a_writer_is_just_beginning_is_a_journal(folder: Path) -> None:
    folder.mkdir()
    for name in ("writer.lock", "journal.json.new"):
        (folder / name).touch()
    JournalReader(folder, name="early").close()
    JournalReader(folder).close()


def _segment(folder: Path, first: int) -> str:
    return os.path.join(folder, f"{first:020d}.fs")


def test_what_is_added_after_the_end_is_read_next(folder: Path) -> None:
    rotate = RotationPolicy(max_frames=3)
    with JournalWriter(folder, "crc32", rotate=rotate) as writer, JournalReader(folder) as reader:
        for number in range(20):
            writer.write_payload(b"%d" % number)
            writer.flush()
            assert numbered(reader) == [(number, b"%d" % number)]
            assert reader.read_message() is None
        assert reader.gaps == []


def test_bytes_that_came_before_the_next_segment_are_read_first(folder: Path) -> None:
    make_segments(folder, PAYLOADS[:10], [])
    with JournalReader(folder, "crc32") as reader:
        assert len(numbered(reader)) == 10
        add_frames(Path(_segment(folder, 0)), PAYLOADS[10:20])
        make_segment(folder, 20, PAYLOADS[20:30])
        assert numbered(reader) == list(enumerate(PAYLOADS[:30]))[10:]
        assert reader.gaps == []


def test_incomplete_listing_loses_no_segment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is listed while files are created can show a later one without an earlier one."""
    make_segments(folder, PAYLOADS, [10] * 5)
    real, names = os.listdir, [os.path.basename(_segment(folder, first)) for first in range(0, 60, 10)]
    reader = JournalReader(folder, "crc32")
    shown = iter([[names[0], names[3]], names[:4], [*names[:3], names[5]]])
    monkeypatch.setattr(os, "listdir", lambda path: next(shown, None) or real(path))
    with reader:
        assert numbered(reader) == list(enumerate(PAYLOADS))
        assert reader.gaps == []


def test_segment_that_is_removed_is_a_gap(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS, [10] * 5)
    with JournalReader(folder, "crc32") as reader:
        assert bytes(next(reader)) == PAYLOADS[0]
        for path in (paths[0], paths[1], paths[4]):
            path.unlink()
        left = [*range(1, 10), *range(20, 40), *range(50, 60)]
        assert numbered(reader) == [(number, PAYLOADS[number]) for number in left]
        assert reader.gaps == [Gap(10, 20, 0, str(paths[0])), Gap(40, 50, 0, str(paths[3]))]


def test_frames_that_were_never_written_are_a_gap(folder: Path) -> None:
    first = make_segment(folder, 0, PAYLOADS[:3])
    make_segment(folder, 10, PAYLOADS[10:12])
    with JournalReader(folder, "crc32") as reader:
        assert [number for number, _ in numbered(reader)] == [0, 1, 2, 10, 11]
        assert reader.gaps == [Gap(3, 10, 0, str(first))]
    with JournalReader(folder, "crc32", start=5) as reader:
        assert [number for number, _ in numbered(reader)] == [10, 11]
        assert reader.gaps == [Gap(5, 10, 0, str(first))]


# Where reading begins


@pytest.mark.parametrize("start", [0, 1, 9, 10, 11, 30, 59, 60, -1, -5, -10, -11, -60, -100])
@pytest.mark.parametrize("size", [1, 10, 100])
def test_reading_begins_at_a_number(folder: Path, start: int, size: int) -> None:
    make_segments(folder, PAYLOADS, [size] * (60 // size))
    number = max(0, start + 60) if start < 0 else start
    with JournalReader(folder, "crc32", start=start) as reader:
        assert (reader.position, reader.number, reader.frames_read, reader.bytes_read) == (number, -1, 0, 0)
        assert numbered(reader) == list(enumerate(PAYLOADS))[number:]
        assert (reader.frames_read, reader.gaps) == (60 - number, [])
    with JournalReader(folder, "crc32", start=Cursor("0" * 32, number)) as reader:
        assert numbered(reader) == list(enumerate(PAYLOADS))[number:]


def test_newest_gives_only_frames_that_are_written_later(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS[:25], [10, 10])
    # Half a frame, which its writer is about to finish.
    half = reference.encode([PAYLOADS[25]], "crc32")
    with paths[-1].open("ab", buffering=0) as file:
        file.write(half[:9])
        with JournalReader(folder, "crc32", start="newest") as reader:
            assert reader.position == 25
            file.write(half[9:])
            assert numbered(reader) == [(25, PAYLOADS[25])]


def test_start_before_the_oldest_frame_is_a_gap(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS, [10] * 5)
    paths[0].unlink()
    paths[1].unlink()
    with JournalReader(folder, "crc32", start=5) as reader:
        assert reader.position == 20
        assert numbered(reader)[0] == (20, PAYLOADS[20])
        assert reader.gaps == [Gap(5, 20, 0, str(paths[2]))]
    with JournalReader(folder, "crc32") as reader:
        assert len(numbered(reader)) == 40
        assert reader.gaps == []


def test_time_chooses_the_first_segment_that_was_written_since(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS, [10] * 5)
    begin = datetime(2024, 5, 1, tzinfo=UTC)
    for hour, path in enumerate(paths):
        stamp = (begin + timedelta(hours=hour)).timestamp()
        os.utime(path, (stamp, stamp))
    for hours, first in [(-1, 0), (0, 0), (0.5, 10), (3, 30), (5, 50), (5.1, 60)]:
        with JournalReader(folder, "crc32", start=begin + timedelta(hours=hours)) as reader:
            assert (reader.position, len(numbered(reader))) == (first, 60 - first), hours


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("size", [1, 7, 60])
def test_time_of_a_field_is_found_exactly(folder: Path, unit: Any, size: int) -> None:
    make_segments(folder, records(60), [size] * (60 // size))
    step = {"s": timedelta(seconds=10), "ms": timedelta(milliseconds=10), "us": timedelta(microseconds=10)}
    begin = datetime(1970, 1, 1, tzinfo=UTC)
    for number in (0, 1, 6, 7, 8, 30, 59):
        if unit == "ns":
            # 10 ns are less than a datetime has.
            moment = begin + timedelta(microseconds=1 if number else 0)
            expected = 60 if number else 0
            if number:
                expected = 60 if 10 * 59 < 1000 else 0
        else:
            moment, expected = begin + number * step[unit], number
        with JournalReader(folder, "crc32", start=moment, time=(ROOT, "sequence", unit)) as reader:
            assert reader.position == expected
            assert [record.sequence for record in reader.records(ROOT)] == list(range(10 * expected, 600, 10))
    if unit != "ns":
        with JournalReader(folder, "crc32", start=begin + 59.5 * step[unit], time=(ROOT, "sequence", unit)) as reader:
            assert (reader.position, reader.read_message()) == (60, None)


def test_checksum_is_that_of_the_journal(folder: Path) -> None:
    with JournalWriter(folder, "crc64") as writer:
        writer.write_payload(b"abc")
    for checksum in (None, "crc64", flatstream.Crc64(), flatstream.ChecksumType.CRC64):
        with JournalReader(folder, checksum) as reader:
            assert numbered(reader) == [(0, b"abc")]
    with pytest.raises(ValueError, match="has the checksum 'crc64', and the reader has 'crc32'"):
        JournalReader(folder, "crc32")
    (folder / "journal.json").unlink()
    with JournalReader(folder) as reader:
        assert numbered(reader) == [(0, b"abc")]
        assert reader.id == "0" * 32


# What the deframer refuses


def test_frames_that_a_validator_refuses_have_numbers(folder: Path) -> None:
    payloads = [b"x" * (50 if number % 7 == 3 else 5) for number in range(60)]
    make_segments(folder, payloads, [10] * 5)
    deframer = MODES["crc32"].deframer().with_validator(SizeValidator(0, 20))
    left = [(number, payload) for number, payload in enumerate(payloads) if len(payload) == 5]
    with JournalReader(folder, deframer=deframer) as reader:
        assert numbered(reader) == left
    with JournalReader(folder, deframer=deframer, on_error="raise") as reader:
        found = []
        while reader.position < 60:
            try:
                if (payload := reader.read_message()) is not None:
                    found.append((reader.number, bytes(payload)))
            except ValidationFailedError:
                found.append((reader.number, b"refused"))
        assert found == [(n, payload if len(payload) == 5 else b"refused") for n, payload in enumerate(payloads)]
        assert reader.gaps == []


def test_frames_that_are_raised_have_numbers(folder: Path) -> None:
    paths = make_segments(folder, PAYLOADS, [10] * 5)
    data = bytearray(paths[2].read_bytes())
    data[3 * (8 + len(PAYLOADS[0])) + 10] ^= 1
    paths[2].write_bytes(data)
    with JournalReader(folder, "crc32", on_error="raise") as reader:
        found = []
        while reader.position < 60:
            try:
                payload = next(reader)
                found.append((reader.number, bytes(payload)))
            except ChecksumMismatchError as error:
                found.append((reader.position, b"%d" % (error.offset or 0)))
        frame_size = 8 + len(PAYLOADS[0])
        assert found == [*enumerate(PAYLOADS[:23]), (23, b"%d" % (23 * frame_size)), *list(enumerate(PAYLOADS))[24:]]
        assert reader.gaps == [Gap(23, 24, frame_size, str(paths[2]))]


# The object


def test_reader_tells_what_it_is(folder: Path) -> None:
    make_segments(folder, PAYLOADS, [10])
    reader = JournalReader(folder, "crc32")
    next(reader)
    assert repr(reader) == f"<JournalReader from {str(folder)!r}, 1 frames>"
    assert (reader.directory, reader.source) == (str(folder), str(folder))
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        pickle.dumps(reader)
    with pytest.raises(io.UnsupportedOperation, match="cursor"):
        reader.detach()
    assert bytes(next(reader)) == PAYLOADS[1]
    reader.close()
    reader.close()
    assert (reader.closed, reader.source, repr(reader)) == (True, None, "<JournalReader closed, 2 frames>")
    assert (reader.number, reader.position, reader.cursor, reader.gaps) == (1, 2, Cursor("0" * 32, 2), [])
    with pytest.raises(ValueError, match="closed"):
        reader.read_message()


def test_payloads_stay_valid_in_the_next_segments(folder: Path) -> None:
    make_segments(folder, PAYLOADS, [7] * 8)
    with JournalReader(folder, "crc32") as reader:
        kept = list(reader)
    assert [bytes(payload) for payload in kept] == PAYLOADS


def test_segments_are_open_one_at_a_time(folder: Path) -> None:
    make_segments(folder, PAYLOADS, [1] * 60)
    before = len(os.listdir("/proc/self/fd"))
    with JournalReader(folder, "crc32") as reader:
        for _ in reader:
            assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(os.listdir("/proc/self/fd")) == before


def commit_without_name(folder: Path) -> None:
    with JournalReader(folder, "crc32") as reader:
        reader.commit()


# Without types, so that wrong arguments can be passed.
READER: Any = JournalReader


@table(
    *refusals(
        "start",
        lambda folder, value: READER(folder, "crc32", start=value),
        ("latest", ValueError, "start must be 'oldest', 'newest'"),
        (None, ValueError, "start must be"),
        (1.5, ValueError, "start must be"),
        (True, TypeError, "start must be an int"),
        (61, ValueError, "start is 61, and the journal ends before the frame 60"),
        (datetime(2024, 5, 1), ValueError, "time zone"),
    ),
    *refusals(
        "time",
        lambda folder, value: READER(folder, "crc32", start=datetime.now(UTC), time=value),
        (5, TypeError, "time must be"),
        ((ROOT,), TypeError, "time must be"),
        ((ROOT, 5), TypeError, "field of time"),
        ((ROOT, "sequence", "h"), ValueError, "unit of time"),
        ((5, "sequence"), TypeError, "Table"),
        ((ROOT, "nothing"), KeyError, "nothing"),
    ),
    *refusals(
        "name",
        lambda folder, value: READER(folder, "crc32", name=value),
        (5, TypeError, "name of a reader"),
        ("../x", ValueError, "name of a reader"),
    ),
    Case("time without datetime", lambda folder: READER(folder, "crc32", time=(ROOT, "x")), ValueError, "datetime"),
    Case("directory", lambda folder: READER(5), TypeError, "directory must be a path"),
    Case("bytes", lambda folder: READER(bytes(folder)), TypeError, "directory must be a path"),
    Case("no folder", lambda folder: READER(folder / "x"), FileNotFoundError, "x"),
    Case("a file", lambda folder: READER(_segment(folder, 0)), NotADirectoryError, ""),
    Case("follow", lambda folder: READER(folder, follow=1), TypeError, "follow must be"),
    Case("checksum", lambda folder: READER(folder, "md5"), ValueError, "unknown checksum 'md5'"),
    Case("deframer", lambda folder: READER(folder, deframer=5), TypeError, "deframer must be"),
    Case(
        "both",
        lambda folder: READER(folder, "crc32", deframer=MODES["crc32"].deframer()),
        ValueError,
        "expected a checksum or a deframer",
    ),
    Case("on_error", lambda folder: READER(folder, "crc32", on_error="ignore"), ValueError, "on_error must be"),
    Case("commit", commit_without_name, ValueError, "reader with a name"),
)
def test_wrong_argument_is_refused_and_leaves_nothing_open(folder: Path, case: Case) -> None:
    make_segments(folder, PAYLOADS, [10] * 5)
    before = len(os.listdir("/proc/self/fd"))
    case.check(folder)
    assert len(os.listdir("/proc/self/fd")) == before


def test_start_in_an_empty_journal(folder: Path) -> None:
    folder.mkdir()
    with pytest.raises(ValueError, match="start is 1, and the journal has no frame"):
        JournalReader(folder, start=1)
    starts: list[Any] = [0, -3, "newest", datetime.now(UTC)]
    for start in starts:
        with JournalReader(folder, start=start) as reader:
            assert (reader.position, reader.read_message()) == (0, None)


def test_reader_is_a_stream_reader(folder: Path) -> None:
    make_segments(folder, PAYLOADS, [10])
    with JournalReader(folder, "crc32") as reader:
        assert isinstance(reader, flatstream.StreamReader)

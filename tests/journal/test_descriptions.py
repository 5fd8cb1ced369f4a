"""The descriptions with which segments begin: they have no number, and their loss moves none."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flatstream import Description, RecordWriter, Schema, StreamReader
from flatstream.journal import Cursor, JournalReader, JournalWriter, RetentionPolicy, RotationPolicy
from flatstream.journal._cli import main
from flatstream.journal._heads import FIRST_KEY, JOURNAL_KEY
from reference import framing as reference
from support.journals import failing_disk, segments_of
from support.schemas import root_of

SAMPLE = "table Sample { time_ms: long; value: double; } root_type Sample;"
# A field more; the same with other text; and a field with another type.
LONGER = "table Sample { time_ms: long; value: double; host: string; } root_type Sample;"
TOLD = "/// Of the agent.\n" + SAMPLE
BROKEN = "table Sample { time_ms: long; value: int; } root_type Sample;"

ROTATE = RotationPolicy(max_frames=5)


@pytest.fixture(scope="module")
def schemas() -> dict[str, Schema]:
    return {text: Schema.from_fbs(text=text) for text in (SAMPLE, LONGER, TOLD, BROKEN)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def payload(number: int) -> bytes:
    return b"payload %06d" % number


def write(folder: Path, numbers: range, **options: Any) -> str:
    """Writes these payloads, five to a segment; returns the identity."""
    with JournalWriter(folder, **{"rotate": ROTATE, **options}) as journal:
        assert journal.position == numbers.start
        for number in numbers:
            journal.write_payload(payload(number))
        assert journal.position == numbers.stop
        return journal.id


def read(folder: Path, **options: Any) -> dict[int, bytes]:
    with JournalReader(folder, **options) as reader:
        return numbered(reader)


def numbered(reader: JournalReader) -> dict[int, bytes]:
    found = {}
    for view in reader:
        assert reader.number not in found
        found[reader.number] = bytes(view)
    return found


def next_of(reader: JournalReader) -> bytes:
    view = reader.read_message(timeout=30)
    assert view is not None
    return bytes(view)


def payloads(*ranges: range) -> dict[int, bytes]:
    return {number: payload(number) for numbers in ranges for number in numbers}


def head_of(path: Path) -> bytes:
    """The frame of the description with which a segment begins."""
    data = path.read_bytes()
    size = 12 + int.from_bytes(data[:4], "little")
    assert data[16:20] == b"FSD1"
    return data[:size]


def unseal(folder: Path) -> None:
    """Makes journal.json that of a writer that was killed."""
    content = json.loads((folder / "journal.json").read_text())
    del content["sealed"][max(content["sealed"])]
    (folder / "journal.json").write_text(json.dumps(content))


def change(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


# What they say


def test_each_segment_begins_with_a_description_that_has_no_number(folder: Path, schemas: dict[str, Schema]) -> None:
    identity = write(folder, range(12), describe=schemas[SAMPLE], metadata={"host": "a"}, checksum="crc32c")
    for first, path in segments_of(folder).items():
        with StreamReader(path, "crc32c") as reader:
            described = reader.description
            assert described is not None
            assert described.metadata == {"host": "a", JOURNAL_KEY: identity, FIRST_KEY: path.stem}
            assert (described.checksum, described.schema) == ("crc32c", schemas[SAMPLE])
            assert described.time == ("Sample", "time_ms", "ms")
            assert abs((described.created_ns or 0) / 1e9 - path.stat().st_mtime) < 60
            assert list(map(bytes, reader)) == [payload(number) for number in range(first, min(first + 5, 12))]
        # To others it is one more message.
        assert reference.decode(path.read_bytes(), "crc32c").payloads[0] == described.to_bytes()
    assert read(folder) == payloads(range(12))


def test_a_journal_is_described_without_being_asked_and_not_with_false(folder: Path) -> None:
    write(folder, range(3))
    with JournalReader(folder) as reader:
        assert reader.description is not None
        assert (reader.description.checksum, reader.description.table) == ("xxhash64", None)
    other = folder.with_name("other")
    for describe in (False, None):
        write(other, range(3), describe=describe)
        (path,) = segments_of(other).values()
        assert path.read_bytes() == reference.encode([payload(number) for number in range(3)], "xxhash64")
        with JournalReader(other) as reader:
            assert reader.description is None
        path.unlink()
        (other / "journal.json").unlink()


def test_a_journal_without_frames_says_what_they_will_be(folder: Path, schemas: dict[str, Schema]) -> None:
    with JournalWriter(folder, describe=schemas[SAMPLE]) as journal:
        assert journal.description is not None
        assert journal.description.table == schemas[SAMPLE].root
        with JournalReader(folder, follow=True) as reader:
            assert reader.description == journal.description
            journal.write_payload(payload(0))
            journal.flush()
            assert (next_of(reader), reader.number) == (payload(0), 0)
    assert read(folder) == payloads(range(1))


@pytest.mark.parametrize("start", [0, 3, 5, 7, 11, -4, "newest", "cursor"])
def test_reading_begins_at_the_right_frame_and_knows_the_description(folder: Path, start: Any) -> None:
    identity = write(folder, range(12))
    first = {"newest": 12, "cursor": 8, -4: 8}.get(start, start)
    place = Cursor(identity, 8) if start == "cursor" else start
    with JournalReader(folder, start=place) as reader:
        assert reader.description is not None
        assert reader.description.metadata[FIRST_KEY] == f"{min(first, 11) // 5 * 5:020d}"
        assert reader.position == first
        assert numbered(reader) == payloads(range(first, 12))
        assert (reader.position, reader.gaps) == (12, [])
        assert reader.description.metadata[FIRST_KEY] == f"{10:020d}"


def test_reader_and_writer_tell_the_description_of_the_segment_in_use(folder: Path) -> None:
    with JournalWriter(folder, rotate=None) as journal, JournalReader(folder, follow=True) as reader:
        for number in range(3):
            journal.write_payload(payload(number))
            journal.flush()
            assert next_of(reader) == payload(number)
            assert reader.description == journal.description
            assert reader.description is not None
            assert reader.description.metadata[FIRST_KEY] == f"{number:020d}"
            journal.rotate()
            # The new segment has no frame yet.
            with pytest.raises(TimeoutError):
                reader.read_message(timeout=0)
            assert reader.description.metadata[FIRST_KEY] == f"{number:020d}"


def test_cursors_retention_and_the_command_line_count_messages_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, range(12))
    with JournalReader(folder, name="slow") as reader:
        for _ in range(7):
            reader.read_message()
        reader.commit()
    write(folder, range(12, 20), retain=RetentionPolicy(max_segments=1))
    assert list(segments_of(folder)) == [5, 10, 15]
    assert read(folder, name="slow") == payloads(range(7, 20))
    assert main(["verify", "--json", str(folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["first"], one["frames"], one["next"]) for one in found["segments"]] == [
        (5, 5, 10),
        (10, 5, 15),
        (15, 5, 20),
    ]
    assert (found["frames"], found["next"], found["missing_numbers"]) == (15, 20, 0)


def test_a_lost_journal_json_keeps_its_identity(folder: Path) -> None:
    identity = write(folder, range(7))
    (folder / "journal.json").unlink()
    assert write(folder, range(7, 9)) == identity
    (folder / "journal.json").unlink()
    assert main(["recover", "-q", str(folder)]) == 0
    assert json.loads((folder / "journal.json").read_text())["id"] == identity


# Times


def test_a_start_by_time_uses_the_time_field_of_the_description(folder: Path, schemas: dict[str, Schema]) -> None:
    begin = datetime(2026, 1, 31, 12, tzinfo=UTC)
    schema = schemas[SAMPLE]
    with JournalWriter(folder, rotate=ROTATE, describe=schema) as journal:
        samples = RecordWriter(journal, schema.table("Sample"))
        for second in range(20):
            samples.write(time_ms=int(begin.timestamp() + second) * 1000, value=second)
    for second in (0, 3, 10, 13, 19, 20):
        with JournalReader(folder, start=begin + timedelta(seconds=second)) as reader:
            assert reader.position == second
            assert len(list(reader)) == 20 - second
    with JournalReader(folder, start=begin, time=(schema.root, "time_ms", "s")) as reader:
        assert reader.position == 0


def test_a_start_by_time_begins_at_the_first_message_of_any_table(folder: Path) -> None:
    begin = datetime(2026, 1, 31, 12, tzinfo=UTC)
    first = root_of('table A { x: int; time_ms: long; } root_type A; file_identifier "AAAA";')
    second = root_of('table B { s: string; ts_s: long; } root_type B; file_identifier "BBBB";')
    plain = root_of("table C { time_us: long; } root_type C;")
    for number, kinds in enumerate(["A" * 10 + "B" * 10, "B" * 10 + "A" * 10, "AB" * 10, "B" * 20, "CAB" * 6 + "CC"]):
        path = folder.with_name(f"journal-{number}")
        with JournalWriter(path, rotate=ROTATE, describe=[first, second, plain]) as journal:
            writers = {"A": RecordWriter(journal, first), "B": RecordWriter(journal, second)}
            for second_number, kind in enumerate(kinds):
                now = int(begin.timestamp()) + second_number
                if kind == "A":
                    writers["A"].write(time_ms=now * 1000)
                elif kind == "B":
                    writers["B"].write(ts_s=now)
                else:
                    RecordWriter(journal, plain).write(time_us=now * 10**6)
        for second_number in (0, 3, 9, 10, 13, 19, 20):
            with JournalReader(path, start=begin + timedelta(seconds=second_number)) as reader:
                assert reader.position == second_number, kinds
                assert len(list(reader)) == 20 - second_number


# Another schema


def test_messages_of_one_table_are_read_when_others_join_it(folder: Path) -> None:
    first = root_of('table A { x: int; } root_type A; file_identifier "AAAA";')
    second = root_of('table B { y: int; } root_type B; file_identifier "BBBB";')
    with JournalWriter(folder, describe=first) as journal:
        # Neither needs an identifier, and the second has one.
        RecordWriter(journal, first).write(x=1)
        RecordWriter(journal, first, file_identifier=True).write(x=2)
    # As messages of A and B, the first one would be of none.
    with pytest.raises(ValueError, match="no table without a file identifier, and had A, as in"):
        JournalWriter(folder, describe=[first, second])
    with JournalWriter(folder, describe={"": first, "BBBB": second}) as journal:
        RecordWriter(journal, second).write(y=3)
        RecordWriter(journal, first).write(x=4)
    with JournalReader(folder) as reader:
        assert [record.to_dict() for record in reader.records()] == [{"x": 1}, {"x": 2}, {"y": 3}, {"x": 4}]
    with JournalReader(folder) as reader:
        assert list(reader.columns("A")["x"]) == [1, 2, 4]
    with pytest.raises(ValueError, match="no table with the file identifier 'BBBB', and had B"):
        JournalWriter(folder, describe=first)


def test_a_writer_that_is_reopened_goes_on_with_the_schema(folder: Path, schemas: dict[str, Schema]) -> None:
    write(folder, range(3), describe=schemas[SAMPLE], metadata={"host": "a"})
    for begin, describe, metadata in [(3, schemas[SAMPLE], None), (5, True, None), (7, True, {"host": "b"})]:
        write(folder, range(begin, begin + 2), describe=describe, metadata=metadata)
    write(folder, range(9, 12), describe=True)
    assert list(segments_of(folder)) == [0, 5, 10]
    for path, host in zip(segments_of(folder).values(), "aab", strict=True):
        with StreamReader(path, "xxhash64") as reader:
            assert reader.description is not None
            assert reader.description.schema == schemas[SAMPLE]
            assert reader.description.metadata.get("host") in (host, "a" if host == "b" else host)
    assert read(folder) == payloads(range(12))


def test_a_schema_that_readers_can_follow_begins_a_segment(folder: Path, schemas: dict[str, Schema]) -> None:
    write(folder, range(2), describe=False)
    write(folder, range(2, 3), describe=True)
    for begin, text in enumerate([SAMPLE, TOLD, LONGER], 3):
        write(folder, range(begin, begin + 1), describe=schemas[text])
        write(folder, range(begin + 1, begin + 1), describe=schemas[text])
    assert list(segments_of(folder)) == [0, 3, 4, 5]
    assert read(folder) == payloads(range(6))
    with JournalReader(folder) as reader:
        assert reader.description is None
        found = [reader.description and reader.description.schema for _ in reader]
    assert found == [None, None, None, schemas[SAMPLE], schemas[TOLD], schemas[LONGER]]


def test_a_schema_that_readers_cannot_follow_is_refused_and_nothing_changes(
    folder: Path, schemas: dict[str, Schema]
) -> None:
    write(folder, range(7), describe=schemas[SAMPLE])
    before = {path.name: path.read_bytes() for path in segments_of(folder).values()}
    with pytest.raises(ValueError, match=r"the journal's messages are described as .*Sample.* cannot be read: .*value"):
        JournalWriter(folder, describe=schemas[BROKEN])
    assert {path.name: path.read_bytes() for path in segments_of(folder).values()} == before
    write(folder, range(7, 9), describe=schemas[SAMPLE])
    assert read(folder) == payloads(range(9))


def test_the_description_of_a_segment_without_frames_is_replaced(folder: Path, schemas: dict[str, Schema]) -> None:
    JournalWriter(folder, describe=schemas[SAMPLE]).close()
    JournalWriter(folder, describe=schemas[LONGER]).close()
    with JournalReader(folder) as reader:
        assert reader.description is not None
        assert reader.description.schema == schemas[LONGER]
    write(folder, range(3), describe=schemas[LONGER])
    assert list(segments_of(folder)) == [0]
    assert read(folder) == payloads(range(3))


def test_messages_are_read_by_the_newest_schema_without_being_asked(folder: Path, schemas: dict[str, Schema]) -> None:
    for number, text in enumerate([SAMPLE, LONGER]):
        with JournalWriter(folder, describe=schemas[text]) as journal:
            samples = RecordWriter(journal, schemas[text].table("Sample"))
            samples.write(time_ms=number, value=0.5, **({"host": "a"} if text is LONGER else {}))
    with JournalReader(folder) as reader:
        assert [(record.time_ms, record.host) for record in reader.records()] == [(0, None), (1, "a")]
    with JournalReader(folder) as reader:
        columns = reader.columns(fields=["time_ms", "host"])
        assert (columns["time_ms"].to_pylist(), columns["host"].to_pylist()) == ([0, 1], [None, "a"])
    write(folder.with_name("none"), range(2), describe=False)
    with (
        JournalReader(folder.with_name("none")) as reader,
        pytest.raises((TypeError, ValueError), match="no description"),
    ):
        reader.records()


# Messages that look like descriptions


@pytest.mark.parametrize("options", [{}, {"sync": "each"}, {"buffer_size": 100}])
@pytest.mark.parametrize("describe", [False, True])
def test_a_message_that_is_a_description_stays_a_message(folder: Path, describe: bool, options: Any) -> None:
    looks = [Description(metadata={"text": "x" * size}).to_bytes() for size in (1, 10, 5000)] * 3
    looks.insert(4, payload(4))
    with JournalWriter(folder, describe=describe, rotate=RotationPolicy(max_frames=2), **options) as journal:
        for message in looks[:5]:
            journal.write_payload(message)
        journal.write_payloads(looks[5:])
    assert read(folder) == dict(enumerate(looks))
    for start in range(len(looks)):
        assert read(folder, start=start) == dict(list(enumerate(looks))[start:])
    assert main(["verify", "-q", str(folder)]) == 0
    with JournalWriter(folder, describe=describe) as journal:
        assert journal.position == len(looks)


# Crashes


@pytest.mark.parametrize("behind", [b"", bytes(300), bytes(range(200, 240))])
def test_a_torn_description_is_a_torn_tail(folder: Path, behind: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, range(12))
    unseal(folder)
    manifest = (folder / "journal.json").read_bytes()
    path = segments_of(folder)[10]
    head = head_of(path)
    for size in [*range(22), *range(22, len(head), 60), len(head) - 1]:
        for later in segments_of(folder).values():
            if later > path:
                later.unlink()
        path.write_bytes(head[:size] + behind)
        (folder / "journal.json").write_bytes(manifest)
        assert read(folder) == payloads(range(10))
        with JournalWriter(folder, rotate=ROTATE) as journal:
            first = journal.position
            report = journal.recovery[2]
            if not behind:
                assert (report.action, report.bytes_cut, first) == ("cut" if size else "nothing", size, 10)
            # How many frames were in bytes of which nothing is known is an estimate.
            assert first >= 10
            for number in range(first, first + 2):
                journal.write_payload(payload(number))
        assert read(folder) == payloads(range(10), range(first, first + 2))
        assert main(["verify", "-q", str(folder)]) == int(report.action == "damaged")
    capsys.readouterr()


@pytest.mark.parametrize("policy", ["raise", "drop_newest", "drop_oldest"])
def test_a_description_that_does_not_fit_on_the_disk_is_a_frame_that_does_not(
    folder: Path, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing_disk(monkeypatch) as disk:
        for room in [0, 1, 11, 100, 230, 260, 300]:
            directory = folder.with_name(f"journal-{room}")
            with JournalWriter(directory, rotate=RotationPolicy(max_frames=2), when_full=policy) as journal:
                for number in range(4):
                    journal.write_payload(payload(number))
                    journal.flush()
                disk.room = room
                errors = set()
                for number in range(4, 7):
                    try:
                        journal.write_payload(payload(number))
                        journal.flush()
                    except OSError as error:
                        errors.add(error.errno)
                disk.room = None
                journal._segments._write_not_before = 0.0
                position = journal.position
                for number in range(position, position + 3):
                    journal.write_payload(payload(number))
                    journal.flush()
                journal.sync()
                dropped = journal.metrics().dropped_frames
                assert errors <= (set() if policy == "drop_newest" else {errno.ENOSPC})
                assert not (dropped and policy != "drop_newest")
            found = read(directory)
            assert all(found[number] == payload(number) for number in found)
            assert max(found) == position + 2
            first = min(found)
            assert position + 3 - first - len(found) == dropped
            assert first == 0 or policy == "drop_oldest"
            for begin, path in segments_of(directory).items():
                if path.stat().st_size:
                    with StreamReader(path, "xxhash64") as reader:
                        assert reader.description is not None
                        assert reader.description.metadata[FIRST_KEY] == f"{begin:020d}"


def test_a_failed_write_of_a_description_leaves_nothing_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A signal handler that raises in the middle: the bytes that were written are cut off.
    with failing_disk(monkeypatch) as disk, JournalWriter(folder, rotate=None) as journal:
        write_to_disk = disk.write
        journal.write_payload(payload(0))
        journal.rotate()

        def interrupted(descriptor: int, data: Any) -> int:
            disk.write = write_to_disk  # type: ignore[method-assign]
            write_to_disk(descriptor, memoryview(data)[:100])
            raise KeyboardInterrupt

        journal.write_payload(payload(1))
        disk.write = interrupted  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            journal.flush()
        journal.flush()
        assert segments_of(folder)[1].stat().st_size == len(head_of(segments_of(folder)[1])) + 12 + len(payload(1))
    assert read(folder) == payloads(range(2))


# Damage

DAMAGES: dict[str, tuple[Callable[[Path, int], None], range]] = {
    "in the description": (lambda path, head: change(path, head // 2, b"\xff\xff"), range(0)),
    "in its identifier": (lambda path, head: change(path, 16, b"f"), range(0)),
    "in its length": (lambda path, head: change(path, 0, (head - 12 + 9).to_bytes(4, "little")), range(0)),
    "in it and in the frame behind": (lambda path, head: change(path, head - 5, bytes(30)), range(5, 6)),
    "in its length and a frame behind": (
        lambda path, head: change(path, 0, b"\x07" + path.read_bytes()[1 : head + 13] + b"\xff"),
        range(5, 6),
    ),
    "all of it": (lambda path, head: change(path, 0, b"\xaa" * head), range(0)),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("is_last", [False, True])
def test_damage_of_a_description_moves_no_number(
    folder: Path, name: str, is_last: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, lost = DAMAGES[name]
    write(folder, range(10 if is_last else 15))
    end = 10 if is_last else 15
    path = segments_of(folder)[5]
    damage(path, len(head_of(path)))
    expected = payloads(range(lost.start), range(lost.stop, end)) if lost else payloads(range(end))
    for start in [0, 5, 6, 8, 9]:
        with JournalReader(folder, start=start) as reader:
            found = numbered(reader)
            assert found == {number: data for number, data in expected.items() if number >= start}
            missing = [number for gap in reader.gaps for number in range(gap.first, gap.next)]
            assert missing == [number for number in lost if number >= start]
    assert main(["verify", "--json", str(folder)]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["missing_numbers"] == len(lost)
    assert [one["state"] for one in result["segments"]] == ["sealed", "damaged", "sealed"][: len(result["segments"])]
    out = folder.with_name("out")
    assert main(["salvage", "-q", "--all", str(folder), str(out)]) == 1
    assert read(out) == expected
    write(folder, range(end, end + 3))
    assert read(folder) == expected | payloads(range(end, end + 3))


def test_salvage_gives_each_segment_the_description(folder: Path, schemas: dict[str, Schema]) -> None:
    write(folder, range(12), describe=schemas[SAMPLE], rotate=None)
    (path,) = segments_of(folder).values()
    head, frame = len(head_of(path)), 12 + len(payload(0))
    for number in (3, 7, 8):
        change(path, head + number * frame + 15, b"\xff")
    out = folder.with_name("out")
    assert main(["salvage", "-q", str(folder), str(out)]) == 1
    assert list(segments_of(out)) == [0, 4, 9]
    for segment in segments_of(out).values():
        with StreamReader(segment, "xxhash64") as reader:
            assert reader.description is not None
            assert reader.description.schema == schemas[SAMPLE]
    assert read(out) == payloads(range(3), range(4, 7), range(9, 12))
    assert main(["verify", "-q", str(out)]) == 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_salvage_takes_a_lost_description_from_the_segments_around_it(
    folder: Path, schemas: dict[str, Schema], place: int
) -> None:
    write(folder, range(9), describe=schemas[SAMPLE], rotate=RotationPolicy(max_frames=3))
    path = segments_of(folder)[3 * place]
    head, frame = len(head_of(path)), 12 + len(payload(0))
    for at in (head - 9, head + frame + 15):
        change(path, at, b"\xff")
    out = folder.with_name("out")
    assert main(["salvage", "-q", str(folder), str(out)]) == 1
    assert list(segments_of(out)) == [3 * place, 3 * place + 2]
    for number, segment in segments_of(out).items():
        with StreamReader(segment, "xxhash64") as reader:
            assert reader.description is not None
            assert reader.description.schema == schemas[SAMPLE]
            assert int(reader.description.metadata["journal.first"]) == number
    assert read(out) == {3 * place: payload(3 * place), 3 * place + 2: payload(3 * place + 2)}
    assert main(["verify", "-q", str(out)]) == 0


def test_salvage_takes_no_description_from_segments_that_differ(folder: Path, schemas: dict[str, Schema]) -> None:
    write(folder, range(2), describe=schemas[SAMPLE])
    write(folder, range(2, 6), describe=schemas[LONGER], rotate=RotationPolicy(max_frames=2))
    assert list(segments_of(folder)) == [0, 2, 4]
    path = segments_of(folder)[2]
    change(path, len(head_of(path)) - 9, b"\xff")
    out = folder.with_name("out")
    assert main(["salvage", "-q", str(folder), str(out)]) == 1
    with StreamReader(segments_of(out)[2], "xxhash64") as reader:
        assert reader.description is None
    assert read(out) == payloads(range(2, 4))


@pytest.mark.parametrize("describe", [False, True])
def test_salvage_takes_no_message_for_a_description(folder: Path, describe: bool) -> None:
    looks = Description(metadata={"text": "x"}).to_bytes()
    messages = [payload(0), looks, payload(2), looks, payload(4)]
    with JournalWriter(folder, describe=describe) as journal:
        journal.write_payloads(messages)
    (path,) = segments_of(folder).values()
    data = path.read_bytes()
    # Of the description, and of the messages before those that look like one.
    for lost in [payload(0), payload(2), *([b"journal.id"] if describe else [])]:
        change(path, data.index(lost), b"\xff")
    out = folder.with_name("out")
    assert main(["salvage", "-q", str(folder), str(out)]) == 1
    assert read(out) == {1: looks, 3: looks, 4: payload(4)}
    assert main(["verify", "-q", str(out)]) == 0


def test_followers_read_across_descriptions(folder: Path) -> None:
    with (
        JournalWriter(folder, rotate=RotationPolicy(max_frames=1)) as journal,
        JournalReader(folder, follow=True) as reader,
    ):
        for number in range(6):
            journal.write_payload(payload(number))
            journal.flush()
            assert (next_of(reader), reader.number) == (payload(number), number)
        assert reader.gaps == []

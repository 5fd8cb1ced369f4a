"""Indexes that are torn, damaged, foreign or made to mislead: none raises, and none says what is not so."""

from __future__ import annotations

import functools
import io
import os
import random
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream._ranges import open_ranges
from flatstream.index import FileIndex, UnusableIndex, build_index, load_index
from flatstream.index._format import entry_table
from support.extent import in_one_test
from support.index_messages import MESSAGE, record
from support.processes import run_python

FIELDS = ["time_ns", "maybe", "d"]


@functools.cache
def sample() -> tuple[bytes, bytes]:
    """A stream, and its index of several messages with blocks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fs"
        with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE) as writer:
            RecordWriter(writer, MESSAGE).write_records(map(record, range(500)))
        for _ in range(3):
            with flatstream.open(path, "a", describe=MESSAGE, index=FIELDS) as writer:
                RecordWriter(writer, MESSAGE).write_records(map(record, range(500)))
        return path.read_bytes(), Path(f"{path}.idx").read_bytes()


def frames(data: bytes) -> list[tuple[int, int]]:
    """Where the messages of an index begin and end."""
    with StreamReader(data, "xxhash64") as reader:
        return [(reader.message_offset, reader.offset) for _ in reader]


class Place:
    """A folder with the sample stream, whose index is exchanged."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "a.fs"
        self.index = folder / "a.fs.idx"
        data, self.good = sample()
        self.path.write_bytes(data)
        self.stream = open_ranges(self.path)
        expected = self.load(self.good)
        assert isinstance(expected, FileIndex)
        self.expected: FileIndex = expected

    def load(self, index: bytes) -> FileIndex | UnusableIndex:
        self.index.write_bytes(index)
        return load_index(self.path, self.stream, table=MESSAGE, checksum="crc32")

    def load_again(self) -> FileIndex | UnusableIndex:
        """The index, with the modes and owners that the files have now."""
        with open_ranges(self.path) as stream:
            return load_index(self.path, stream)

    def check(self, index: bytes) -> FileIndex | UnusableIndex:
        """What it says is so: it is the beginning of what the whole index says."""
        found = self.load(index)
        if isinstance(found, FileIndex):
            count = len(found)
            assert found.ends.tolist() == self.expected.ends.tolist()[:count]
            assert found.first_frames.tolist() == self.expected.first_frames.tolist()[:count]
            for name, one in found.statistics.items():
                other = self.expected.statistics[name]
                assert one.low.tolist() == other.low.tolist()[:count]
                assert one.high.tolist() == other.high.tolist()[:count]
                assert one.nulls.tolist() == other.nulls.tolist()[:count]
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Place(tmp_path_factory.mktemp("index"))
    yield made
    made.stream.close()


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.long)])
def test_index_with_any_byte_changed_says_nothing_wrong(place: Place, step: int) -> None:
    good = place.good
    head = frames(good)[0][0]
    # Of the messages, and some of the description.
    for i in [*range(0, head, 97), *range(head, len(good), step)]:
        changed = bytearray(good)
        changed[i] ^= 1 << i % 8
        place.check(bytes(changed))


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.long)])
def test_index_that_is_cut_anywhere_says_less(place: Place, step: int) -> None:
    counts = []
    head = frames(place.good)[0][0]
    ends = {end for _, end in frames(place.good)}
    for end in sorted(
        {*range(0, head, 97), *range(head, len(place.good) + 1, step), *ends, *(end - 1 for end in ends)}
    ):
        found = place.check(place.good[:end])
        counts.append(len(found) if isinstance(found, FileIndex) else -1)
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (-1, len(place.expected))
    assert len(set(counts)) == len(frames(place.good)) + 1


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.long)])
def test_index_with_any_byte_changed_or_cut_is_built_anew(tmp_path: Path, count: int) -> None:
    place = Place(tmp_path)
    rnd = random.Random(5)
    for _ in range(count):
        changed = bytearray(place.good[: rnd.randrange(len(place.good) + 1)])
        # What is short and damaged may be anything.
        if len(changed) > 200 and rnd.random() < 0.7:
            changed[rnd.randrange(len(changed))] ^= 1 << rnd.randrange(8)
        place.index.write_bytes(changed)
        report = build_index(place.path, FIELDS)
        assert report.rows == 2000
        found = place.load(place.index.read_bytes())
        assert isinstance(found, FileIndex)
        assert (found.covered, found.gaps) == (place.path.stat().st_size, [])
    place.stream.close()


# With matching checksums


def reframed(entries: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, "xxhash64", describe=entry_table()) as writer:
        RecordWriter(writer, entry_table()).write_records(entries)
    return sink.getvalue()


def entries_of(data: bytes) -> list[dict[str, Any]]:
    with StreamReader(data, "xxhash64") as reader:
        return [record.to_dict() for record in reader.records(entry_table())]


NUMBERS = [0, 1, 3, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def mutate(value: Any, rnd: random.Random) -> Any:
    """The value with one thing in it changed."""
    if isinstance(value, dict):
        key = rnd.choice([key for key, part in value.items() if part is not None])
        return value | {key: mutate(value[key], rnd)}
    if isinstance(value, list):
        if not value or rnd.random() < 0.2:
            return value[: len(value) // 2] if rnd.random() < 0.5 else value * 2
        i = rnd.randrange(len(value))
        return [*value[:i], mutate(value[i], rnd), *value[i + 1 :]]
    if isinstance(value, float):
        return rnd.choice([float("nan"), float("inf"), -float("inf"), 0.0])
    if isinstance(value, int):
        return rnd.choice([*NUMBERS, value + 1, max(value - 1, 0)])
    return "other" if isinstance(value, str) else value


@pytest.mark.parametrize("count", [120, pytest.param(3000, marks=pytest.mark.long)])
def test_numbers_that_mislead_are_within_the_stream_and_raise_nothing(place: Place, count: int) -> None:
    rnd = random.Random(7)
    entries = entries_of(place.good)
    kinds = {"used": 0, "left aside": 0}
    size = place.stream.size
    for _ in range(count):
        i = rnd.randrange(len(entries))
        changed = entries
        for _ in range(rnd.choice([1, 1, 3])):
            changed = [*changed[:i], mutate(changed[i], rnd), *changed[i + 1 :]]
        try:
            data = reframed(changed)
        except (TypeError, ValueError):
            # The number does not fit its field.
            continue
        found = place.load(data)
        kinds["used" if isinstance(found, FileIndex) else "left aside"] += 1
        if isinstance(found, FileIndex):
            assert (found.offsets < found.ends).all()
            assert (found.ends[:-1] <= found.offsets[1:]).all()
            assert not len(found) or (found.begin <= found.offsets[0] and found.ends[-1] <= size)
            assert (found.frames > 0).all()
            assert (found.rows <= found.frames).all()
            assert (found.first_frames[:-1] + found.frames[:-1] <= found.first_frames[1:]).all()
    assert min(kinds.values()) > 10


@in_one_test
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda head: head.update(version=2), "version 2"),
        (lambda head: head.update(table="other.Message"), "messages of other.Message"),
        (lambda head: head.update(file_identifier="ABCD"), "and the stream is read with"),
        (lambda head: head.update(others=["ABCD"]), "and the stream is read with"),
        (lambda head: head.update(checksum="crc64"), "checksum crc64"),
        (lambda head: head.update(first_frame_hash=7), "of another stream"),
        (lambda head: head.update(first_frame_size=2**40), "of another stream"),
        (lambda head: head.update(first_frame_size=0), "of another stream"),
        (lambda head: head.update(begin=2**63), "its head is wrong"),
        (lambda head: head.update(fields=[]), "its head is wrong"),
        (lambda head: head["fields"].append(head["fields"][0]), "a field twice"),
    ],
)
def test_head_that_does_not_fit_is_left_aside(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    place = Place(tmp_path)
    entries = entries_of(place.good)
    change(entries[0]["head"])
    found = place.load(reframed(entries))
    place.stream.close()
    assert isinstance(found, UnusableIndex)
    assert reason in found.reason


@in_one_test
@pytest.mark.parametrize(
    "change",
    [
        lambda blocks: blocks["frames"].__setitem__(0, 2**31),
        lambda blocks: blocks["ends"].__setitem__(0, 2**40),
        lambda blocks: blocks["ranges"][0]["low_ulong"].__setitem__(0, 2**64 - 1),
    ],
)
def test_index_that_queries_leave_aside_is_built_anew(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    place = Place(tmp_path)
    entries = entries_of(place.good)
    change(entries[1]["blocks"])
    found = place.load(reframed(entries))
    assert isinstance(found, UnusableIndex)
    assert "cannot be" in found.reason
    report = build_index(place.path, FIELDS)
    assert (report.action, report.replaced_because) == ("replaced", found.reason)
    assert isinstance(place.load(place.index.read_bytes()), FileIndex)
    assert build_index(place.path, FIELDS).action == "unchanged"
    place.stream.close()


@in_one_test
@pytest.mark.parametrize(
    "change", [{"kind": "int"}, {"default": "1"}, {"default": None}, {"steps": [8]}, {"path": "gone"}]
)
def test_field_that_is_read_otherwise_is_left_out(tmp_path: Path, change: dict[str, Any]) -> None:
    place = Place(tmp_path)
    entries = entries_of(place.good)
    # Of the same form, so that the ranges are where they should be.
    entries[0]["head"]["fields"][1].update(change)
    found = place.load(reframed(entries))
    place.stream.close()
    assert isinstance(found, FileIndex)
    same = change == {"kind": "int"} or change == {"default": None}
    assert ("maybe" in found.statistics) == same
    assert set(found.statistics) >= {"time_ns", "d"}
    assert same or any("left aside" in note for note in found.notes)


# Whose file it is


def test_index_that_others_can_write_is_left_aside(place: Place) -> None:
    assert isinstance(place.load(place.good), FileIndex)
    for mode in (0o646, 0o664, 0o666):
        os.chmod(place.index, mode)
        found = place.load_again()
        assert isinstance(found, UnusableIndex), oct(mode)
        assert "others may write it" in found.reason
    os.chmod(place.path, 0o666)
    assert isinstance(place.load_again(), FileIndex)
    os.chmod(place.path, 0o644)
    os.chmod(place.index, 0o644)


def test_index_that_others_can_write_is_replaced_and_not_continued(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.stream.close()
    place.index.write_bytes(place.good)
    for mode in (0o666, 0o664):
        place.index.chmod(mode)
        report = build_index(place.path, FIELDS)
        assert report.action == "replaced"
        assert "others may write it" in str(report.replaced_because)
        assert place.index.stat().st_mode & 0o777 == place.path.stat().st_mode & 0o777
        assert isinstance(place.load_again(), FileIndex)


def test_link_at_the_path_of_an_index_is_not_followed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.stream.close()
    place.index.unlink()
    for target in (tmp_path / "not there", tmp_path / "empty"):
        if target.name == "empty":
            target.touch()
        place.index.symlink_to(target)
        with pytest.raises(FileExistsError, match="symbolic link"):
            build_index(place.path, FIELDS)
        with flatstream.open(place.path, "a", index=FIELDS) as writer:
            assert writer.index_report is None
        place.index.unlink()
    assert not (tmp_path / "not there").exists()
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_index_of_somebody_else_is_left_aside(place: Place) -> None:
    place.load(place.good)
    os.chown(place.index, 12345, -1)
    found = place.load_again()
    assert isinstance(found, UnusableIndex)
    assert "somebody else" in found.reason
    os.chown(place.path, 12345, -1)
    assert isinstance(place.load_again(), FileIndex)
    os.chown(place.path, 0, -1)
    os.chown(place.index, 0, -1)


def test_what_is_no_regular_file_is_left_aside(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.stream.close()
    place.index.unlink()
    makers: list[Callable[[Path], object]] = [Path.mkdir, lambda path: path.symlink_to(path)]
    if hasattr(os, "mkfifo"):
        makers.append(os.mkfifo)
    for make in makers:
        make(place.index)
        with open_ranges(place.path) as stream:
            assert isinstance(load_index(place.path, stream), UnusableIndex)
        if place.index.is_dir() and not place.index.is_symlink():
            place.index.rmdir()
        else:
            place.index.unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_at_the_path_of_an_index_is_not_waited_for(tmp_path: Path) -> None:
    # Opening one to write waits for a reader, and a journal's thread would wait with it.
    path = tmp_path / "events.fs"
    fifo = tmp_path / "events.fs.idx"
    os.mkfifo(fifo)
    script = f"""
import signal, sys
signal.alarm(60)
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
import flatstream
from support.events import EVENT, write_events
path = {str(path)!r}
with flatstream.open(path, "w", describe=EVENT, index=True) as writer:
    write_events(writer, range(100))
try:
    flatstream.build_index(path)
except FileExistsError as error:
    print(error.strerror)
"""
    done = run_python(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the path of the index is that of no regular file\n"
    assert fifo.is_fifo()


def test_index_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.index.open("wb") as file:
        file.truncate(1 << 40)
    found = load_index(place.path, place.stream)
    place.stream.close()
    assert isinstance(found, UnusableIndex)
    assert "too many" in found.reason


def test_file_that_is_no_index_is_left_as_it_is(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.stream.close()
    for content in (
        b"my notes",
        b"x" * 5000,
        sample()[0],
        # Short files that begin with a small number; texts and messages about indexes.
        struct.pack("<QQ", 100, 200),
        b"1\n",
        b"import flatstream.index\n" * 10,
        _stream(None),
        _stream(MESSAGE),
        _stream(MESSAGE)[:1000],
        _stream(MESSAGE, {"note": "see flatstream.index"}),
    ):
        place.index.write_bytes(content)
        with pytest.raises(FileExistsError, match="a file that is none"):
            build_index(place.path, FIELDS)
        with flatstream.open(place.path, "a", describe=MESSAGE, index=FIELDS) as writer:
            assert writer.index_report is None
        with flatstream.open(tmp_path / "b.fs", "w", describe=MESSAGE) as writer:
            pass
        assert place.index.read_bytes() == content


def _stream(described: Any, metadata: dict[str, str] | None = None) -> bytes:
    """Somebody's stream, with the checksum that an index has."""
    file = io.BytesIO()
    with flatstream.StreamWriter(file, "xxhash64", describe=described, metadata=metadata) as writer:
        writer.write_payload(b"mine")
        writer.flush()
        return file.getvalue()


def test_what_a_loss_of_power_leaves_of_an_index_is_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.stream.close()
    build_index(place.path, FIELDS)
    whole = place.index.read_bytes()
    for kept in (0, 1, 3, 4, 11, 12, 30, 100, 200, 300, 2000):
        for content in (whole[:kept], whole[:kept] + bytes(4096 - kept)):
            place.index.write_bytes(content)
            assert build_index(place.path, FIELDS).action == ("replaced" if content else "created")
            assert build_index(place.path, FIELDS).action == "unchanged"

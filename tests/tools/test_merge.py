"""tools.merge: many streams as one, in the order of their times."""

from __future__ import annotations

import heapq
import io
import os
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatstream
from flatstream import ChecksumMismatchError, DefaultDeframer, StreamReader, UnexpectedEofError
from flatstream.framing import FrameSpan
from flatstream.journal import JournalReader, JournalWriter
from flatstream.tools.merging import merge
from support.events import BEGIN, EVENT, SECOND, event_stream, frames_of, sequences, write_events
from support.schemas import TINY


def write(folder: Path, *streams: bytes) -> list[Path]:
    paths = [folder / f"{number}.fs" for number in range(len(streams))]
    for path, stream in zip(paths, streams, strict=True):
        path.write_bytes(stream)
    return paths


def in_order(sources: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """(source, index) of the messages with these times, in the order in which they are to be merged: the reference."""
    keyed = []
    for number, times in enumerate(sources):
        latest = times[0] if times else 0
        row = []
        for index, time in enumerate(times):
            latest = max(latest, time)
            row.append((latest, number, index))
        keyed.append(row)
    return [(number, index) for _, number, index in heapq.merge(*keyed)]


def test_messages_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    evens, odds = range(0, 3000, 2), range(1, 3000, 2)
    paths = write(tmp_path, event_stream(evens), event_stream(odds), event_stream([]), event_stream(range(3000, 5000)))
    out = tmp_path / "out.fs"
    seen: list[tuple[int, int]] = []
    report = merge(paths, out, table=EVENT, progress=lambda done, total: seen.append((done, total)))
    assert sequences(out) == list(range(5000))
    size = sum(path.stat().st_size for path in paths)
    assert (report.frames, report.size, report.out_of_order, report.lost_bytes) == (5000, size, 0, 0)
    assert [source.frames for source in report.sources] == [1500, 1500, 0, 2000]
    assert [source.name for source in report.sources] == [str(path) for path in paths]
    assert seen[-1] == (size, size)
    assert out.stat().st_size == size
    assert sorted(os.listdir(tmp_path)) == ["0.fs", "1.fs", "2.fs", "3.fs", "out.fs"]
    assert report.to_dict()["sources"][1]["lost_bytes"] == 0
    assert pickle.loads(pickle.dumps(report)) == report


def test_one_source_passes_byte_for_byte(tmp_path: Path) -> None:
    stream = event_stream(range(9_000))
    paths = write(tmp_path, stream)
    merge(paths, tmp_path / "out.fs", table=EVENT)
    assert (tmp_path / "out.fs").read_bytes() == stream


@given(st.lists(st.lists(st.integers(0, 12), max_size=12), min_size=1, max_size=4))
def test_any_times_are_merged_as_the_reference_says(sources: list[list[int]]) -> None:
    streams = [
        event_stream([100 * number + index for index in range(len(times))], "crc16", times)
        for number, times in enumerate(sources)
    ]
    with Scratch() as folder:
        report = merge(
            [StreamReader(stream, "crc16") for stream in streams],
            folder / "out.fs",
            table=EVENT,
        )
        expected = [100 * number + index for number, index in in_order(sources)]
        assert sequences(folder / "out.fs", "crc16") == expected
    late = sum(time < max(times[: index + 1]) for times in sources for index, time in enumerate(times))
    assert report.out_of_order == late


class Scratch:
    """A folder for one example of Hypothesis."""

    def __enter__(self) -> Path:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        return Path(self.folder.name)

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()


def test_the_checksum_can_be_another_one(tmp_path: Path) -> None:
    paths = write(tmp_path, event_stream([0, 2], "crc32"), event_stream(range(1, 40, 2), "none"))
    with pytest.raises(ValueError, match=r"0\.fs has the checksum .*to_checksum"):
        merge(paths, tmp_path / "no.fs", table=EVENT)
    readers = [StreamReader(paths[0], "crc32"), StreamReader(paths[1])]
    merge(readers, tmp_path / "out.fs", table=EVENT, to_checksum="crc64")
    assert sequences(tmp_path / "out.fs", "crc64") == [0, 1, 2, *range(3, 40, 2)]
    assert not (tmp_path / "no.fs").exists()
    # They stay open, and belong to the caller.
    assert not any(reader.closed for reader in readers)
    for reader in readers:
        reader.close()


def test_sources_can_be_one_after_the_other(tmp_path: Path) -> None:
    paths = write(tmp_path, event_stream([5, 6]), event_stream([1, 2]))
    merge(paths, tmp_path / "out.fs", time=False)
    assert sequences(tmp_path / "out.fs") == [5, 6, 1, 2]
    assert (tmp_path / "out.fs").read_bytes() == paths[0].read_bytes() + paths[1].read_bytes()


def test_the_time_field_and_its_unit_can_be_given(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink, "crc32") as writer:
        records = flatstream.RecordWriter(writer, EVENT)
        for sequence, monotonic in ((1, 10), (2, 30)):
            records.write(sequence=sequence, monotonic_ns=monotonic, wall_time_ns=100 - monotonic)
    other = io.BytesIO()
    with flatstream.StreamWriter(other, "crc32") as writer:
        flatstream.RecordWriter(writer, EVENT).write(sequence=3, monotonic_ns=20)
    for time in ("monotonic_ns", "monotonic_ns:s", ("monotonic_ns", "ms")):
        with Scratch() as folder:
            readers = [StreamReader(stream.getvalue(), "crc32") for stream in (sink, other)]
            merge(readers, folder / "out.fs", table=EVENT, time=time)
            assert sequences(folder / "out.fs", "crc32") == [1, 3, 2]
    wrong: list[tuple[Any, str]] = [
        ("host", "no integer"),
        ("none_ns", "no field"),
        ("sequence", "is not known"),
        (3, "time must be"),
    ]
    for wrong_time, problem in wrong:
        with pytest.raises((ValueError, TypeError), match=problem):
            merge([StreamReader(b"")], tmp_path / "out.fs", table=EVENT, time=wrong_time)
    with pytest.raises(ValueError, match="time field"):
        merge([StreamReader(b"")], tmp_path / "out.fs", table=TINY.root)
    with pytest.raises(ValueError, match="does not describe itself: say the table"):
        merge([StreamReader(b"")], tmp_path / "out.fs")
    assert os.listdir(tmp_path) == []


def test_messages_that_are_no_event_stay_behind_those_before_them(tmp_path: Path) -> None:
    """Of another table, damaged inside, or empty: they have no time."""
    events = [bytes(payload) for payload in StreamReader(event_stream([3, 4]), "xxhash64")]
    foreign = [b"\x08\x00\x00\x00ABCD" + bytes(8), b"\xff" * 16, b""]
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink, "xxhash64") as writer:
        writer.write_payloads([events[0], *foreign, events[1]])
    paths = write(tmp_path, sink.getvalue(), event_stream([1, 5]))
    report = merge(paths, tmp_path / "out.fs", table=EVENT)
    with StreamReader(tmp_path / "out.fs", "xxhash64") as reader:
        found = [bytes(payload) for payload in reader]
    assert found[1:6] == [events[0], *foreign, events[1]]
    assert len(found) == 7
    assert report.out_of_order == 0


def test_damage_is_raised_or_left_out(tmp_path: Path) -> None:
    stream = bytearray(event_stream(range(10)))
    begin, end = frames_of(bytes(stream))[4]
    stream[begin + 20] ^= 1
    torn = event_stream(range(10, 20))[:-3]
    paths = write(tmp_path, bytes(stream), torn)
    out = tmp_path / "out.fs"
    with pytest.raises((ChecksumMismatchError, UnexpectedEofError)):
        merge(paths, out, table=EVENT)
    assert sorted(os.listdir(tmp_path)) == ["0.fs", "1.fs"]
    report = merge(paths, out, table=EVENT, on_error="resync")
    assert sequences(out) == [0, 1, 2, 3, *range(5, 19)]
    assert report.sources[0].lost_ranges == ((begin, end),)
    last = frames_of(event_stream(range(10, 20)))[9]
    assert report.sources[1].lost_ranges == ((last[0], last[1] - 3),)
    assert report.lost_bytes == end - begin + last[1] - 3 - last[0]


def test_a_file_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    paths = write(tmp_path, event_stream([1]))
    with pytest.raises(FileExistsError):
        merge(paths, paths[0], table=EVENT)
    assert sequences(paths[0]) == [1]

    def appear(done: int, total: int) -> None:
        (tmp_path / "out.fs").write_bytes(b"mine")

    with pytest.raises(FileExistsError):
        merge(paths, tmp_path / "out.fs", table=EVENT, progress=appear)
    assert (tmp_path / "out.fs").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["0.fs", "out.fs"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    paths = write(tmp_path, event_stream([1]))

    def interrupt(done: int, total: int) -> None:
        assert [name for name in os.listdir(tmp_path) if ".partial-" in name]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(paths, tmp_path / "out.fs", table=EVENT, progress=interrupt)
    assert os.listdir(tmp_path) == ["0.fs"]


def test_a_journal_and_files_are_merged(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "journal", "xxhash64") as journal:
        write_events(journal, range(0, 40, 2))
    (tmp_path / "odd.fs").write_bytes(event_stream(range(1, 40, 2)))
    report = merge([tmp_path / "journal", tmp_path / "odd.fs"], tmp_path / "out.fs", table=EVENT)
    assert sequences(tmp_path / "out.fs") == list(range(40))
    assert report.frames == 40
    with JournalReader(tmp_path / "journal") as reader:
        assert merge([reader], tmp_path / "again.fs", table=EVENT).frames == 20


class Reversed(DefaultDeframer):
    """Frames whose length is big-endian: a format that only this class knows."""

    def locate(self, data: Any) -> Any:
        if len(data) < 4:
            return 4
        size = int.from_bytes(data[:4], "big")
        return FrameSpan(4, 4 + size, 4 + size) if len(data) >= 4 + size else 4 + size


def test_a_format_of_ones_own_is_read_and_needs_a_checksum_to_write(tmp_path: Path) -> None:
    events = [bytes(payload) for payload in StreamReader(event_stream([4, 6]), "xxhash64")]
    own = b"".join(len(payload).to_bytes(4, "big") + payload for payload in events)
    with pytest.raises(ValueError, match="to_checksum"):
        merge([StreamReader(own, Reversed())], tmp_path / "out.fs", table=EVENT)
    merge(
        [StreamReader(own, Reversed()), StreamReader(event_stream([5]), "xxhash64")],
        tmp_path / "out.fs",
        table=EVENT,
        to_checksum="xxhash64",
    )
    assert sequences(tmp_path / "out.fs") == [4, 5, 6]


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, event_stream([1]))
    with pytest.raises(ValueError, match="no sources"):
        merge([], tmp_path / "out.fs", table=EVENT)
    with pytest.raises(TypeError, match="StreamReader"):
        merge([3], tmp_path / "out.fs", table=EVENT)
    with pytest.raises(TypeError, match="callable"):
        merge(paths, tmp_path / "out.fs", table=EVENT, progress=3)  # type: ignore[arg-type]
    with StreamReader(paths[0], "xxhash64", follow=True) as reader, pytest.raises(ValueError, match="no end"):
        merge([reader], tmp_path / "out.fs", table=EVENT)
    with pytest.raises(FileNotFoundError):
        merge([tmp_path / "none.fs"], tmp_path / "out.fs", table=EVENT)
    with pytest.raises(FileNotFoundError):
        merge(paths, tmp_path / "none" / "out.fs", table=EVENT)
    assert os.listdir(tmp_path) == ["0.fs"]


@pytest.mark.long
def test_many_large_sources_use_little_memory(tmp_path: Path) -> None:
    """The memory grows with the number of sources, and not with their sizes."""
    from support.processes import run_python

    rng = random.Random(1)
    streams = [event_stream(sorted(rng.sample(range(10**6), 60_000))) for _ in range(4)]
    write(tmp_path, *streams)
    code = f"""
import resource, sys
sys.path[:0] = {[str(Path(__file__).parent.parent)]!r}
from support.events import EVENT
from flatstream.tools.merging import merge
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = merge([{str(tmp_path)!r} + f"/{{n}}.fs" for n in range(4)], {str(tmp_path / "out.fs")!r}, table=EVENT)
assert report.frames == 240_000 and report.size > 30_000_000
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert grown < 24_000, grown
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_times_before_1970_and_at_the_ends_of_their_type_are_kept(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink, "crc32") as writer:
        records = flatstream.RecordWriter(writer, EVENT)
        for sequence, time in enumerate((0, 2**63, 2**64 - 1)):
            records.write(sequence=sequence, wall_time_ns=time)
    readers = [StreamReader(sink.getvalue(), "crc32"), StreamReader(event_stream([9], "crc32"), "crc32")]
    assert BEGIN < 2**63
    merge(readers, tmp_path / "out.fs", table=EVENT, time="wall_time_ns:s")
    assert sequences(tmp_path / "out.fs", "crc32") == [0, 9, 1, 2]
    assert SECOND

"""tools.split and tools.sample."""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatstream
from flatstream import ChecksumMismatchError, StreamReader
from flatstream.journal import JournalWriter
from flatstream.tools.sampling import sample
from flatstream.tools.splitting import split
from support.events import BEGIN, EVENT, SECOND, event_stream, frames_of, sequences, write_events

HOUR = timedelta(hours=1)


def source(stream: bytes, checksum: str = "xxhash64", **options: Any) -> StreamReader:
    return StreamReader(stream, checksum, **options)


def parts(report: Any, checksum: str = "xxhash64") -> list[list[int]]:
    return [sequences(file.path, checksum) for file in report.files]


# split


def test_files_have_so_many_messages(tmp_path: Path) -> None:
    stream = event_stream(range(25))
    seen: list[tuple[int, int]] = []
    report = split(
        source(stream), tmp_path / "{number:02}.fs", count=10, progress=lambda done, total: seen.append((done, total))
    )
    assert parts(report) == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert [os.path.basename(file.path) for file in report.files] == ["00.fs", "01.fs", "02.fs"]
    assert b"".join(Path(file.path).read_bytes() for file in report.files) == stream
    assert [file.size for file in report.files] == [os.path.getsize(file.path) for file in report.files]
    assert (report.frames, report.source.frames, report.out_of_order) == (25, 25, 0)
    assert seen == [(len(stream), len(stream))]
    assert report.to_dict()["files"][2]["frames"] == 5


def test_more_messages_than_a_batch_has_are_one_file(tmp_path: Path) -> None:
    report = split(source(event_stream(range(9_000))), tmp_path / "{number}.fs", count=8_500)
    assert [file.frames for file in report.files] == [8_500, 500]


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 150))
def test_files_are_at_most_so_large_and_as_few_as_can_be(sizes: list[int], limit: int) -> None:
    import io
    import tempfile

    sink = io.BytesIO()
    with flatstream.StreamWriter(sink, "crc32") as writer:
        writer.write_payloads([bytes([index % 256]) * size for index, size in enumerate(sizes)])
    with tempfile.TemporaryDirectory() as folder:
        report = split(source(sink.getvalue(), "crc32"), os.path.join(folder, "{number}.fs"), size=limit)
        assert b"".join(Path(file.path).read_bytes() for file in report.files) == sink.getvalue()
        for file in report.files:
            assert file.size == os.path.getsize(file.path)
            assert file.size <= limit or file.frames == 1
        with_first = [source(Path(file.path).read_bytes(), "crc32").read_message() for file in report.files]
        for (one, _), (_, first) in pairwise(zip(report.files, with_first, strict=True)):
            assert one.size + 8 + len(first or b"") > limit


def test_files_have_the_messages_of_an_interval(tmp_path: Path) -> None:
    # BEGIN is 22:13:20: hours begin 800 s before and 2800 s behind it.
    stream = event_stream(range(6), times=[0, 2799, 2800, 6399, 6400, 100_000])
    report = split(source(stream), tmp_path / "{time}.fs", every=HOUR, table=EVENT)
    names = ["20231114T220000Z.fs", "20231114T230000Z.fs", "20231115T000000Z.fs", "20231116T020000Z.fs"]
    assert [os.path.basename(file.path) for file in report.files] == names
    assert parts(report) == [[0, 1], [2, 3], [4], [5]]


def test_intervals_shorter_than_a_second_have_a_fraction_in_their_names(tmp_path: Path) -> None:
    report = split(
        source(event_stream([1, 2])),
        tmp_path / "{number}-{time}.fs",
        every=timedelta(milliseconds=300),
        table=EVENT,
        time="wall_time_ns:us",
    )
    # In microseconds, the times are in the year 55840: no date has that.
    assert [os.path.basename(file.path) for file in report.files] == [
        f"{number}-{time // 300_000_000 * 300_000_000}.fs"
        for number, time in enumerate(((BEGIN + SECOND) * 1000, (BEGIN + 2 * SECOND) * 1000))
    ]
    report = split(source(event_stream([2])), tmp_path / "x{time}.fs", every=timedelta(milliseconds=300), table=EVENT)
    assert os.path.basename(report.files[0].path) == "x20231114T221321.9Z.fs"


def test_late_messages_stay_in_the_file_of_those_before_them(tmp_path: Path) -> None:
    stream = event_stream(range(5), times=[0, 10, 5, 11, 20])
    report = split(source(stream), tmp_path / "{number}.fs", every=timedelta(seconds=10), table=EVENT)
    assert parts(report) == [[0], [1, 2, 3], [4]]
    assert report.out_of_order == 1


def test_messages_without_a_time_are_with_their_neighbours(tmp_path: Path) -> None:
    import io

    events = [bytes(payload) for payload in source(event_stream([1, 3_700]))]
    for payloads, frames, name in (
        ([b"none", *events, b"none"], [2, 2], "20231114T220000Z.fs"),
        ([b"none", b"none"], [2], "undated.fs"),
    ):
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink, "xxhash64") as writer:
            writer.write_payloads(payloads)
        report = split(source(sink.getvalue()), tmp_path / "{time}.fs", every=HOUR, table=EVENT)
        assert [file.frames for file in report.files] == frames
        assert os.path.basename(report.files[0].path) == name


def test_an_empty_stream_has_no_files(tmp_path: Path) -> None:
    for options in ({"count": 3}, {"size": 3}, {"every": HOUR, "table": EVENT}):
        assert split(source(b""), tmp_path / "{number}.fs", **options).files == ()
    assert os.listdir(tmp_path) == []


def test_files_that_were_complete_before_an_error_remain(tmp_path: Path) -> None:
    stream = bytearray(event_stream(range(10)))
    begin, end = frames_of(bytes(stream))[7]
    stream[begin + 20] ^= 1
    with pytest.raises(ChecksumMismatchError):
        split(source(bytes(stream)), tmp_path / "{number}.fs", count=3)
    assert sorted(os.listdir(tmp_path)) == ["0.fs", "1.fs"]
    report = split(source(bytes(stream), on_error="resync"), tmp_path / "r{number}.fs", count=3)
    assert parts(report) == [[0, 1, 2], [3, 4, 5], [6, 8, 9]]
    assert report.source.lost_ranges == ((begin, end),)
    assert report.lost_bytes == end - begin


def test_a_file_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "1.fs").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        split(source(event_stream(range(10))), tmp_path / "{number}.fs", count=3)
    assert (tmp_path / "1.fs").read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["1.fs"]


def test_patterns_are_checked(tmp_path: Path) -> None:
    wrong = {
        "all.fs": "needs",
        "{}.fs": "braces",
        "{number": "braces",
        "{number!r}": "braces",
        "{number.real}": "braces",
        "{name}.fs": "braces",
        "{{number}}.fs": "needs",
        "{time}.fs": "by time",
        "{number:999999999}.fs": "braces",
    }
    for pattern, problem in wrong.items():
        with pytest.raises(ValueError, match=problem):
            split(source(event_stream([1])), tmp_path / pattern, count=1)
    with pytest.raises(ValueError, match="no width"):
        split(source(event_stream([1])), tmp_path / "{time:04}.fs", every=HOUR, table=EVENT)
    report = split(source(event_stream([1])), tmp_path / "{{a}}{number:3}.fs", count=1)
    assert os.path.basename(report.files[0].path) == "{a}  0.fs"


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    def attempt(problem: str, error: type[Exception] = ValueError, **options: Any) -> None:
        with pytest.raises(error, match=problem):
            split(source(event_stream([1])), tmp_path / "{number}.fs", **options)

    attempt("one of every, size and count, got none")
    attempt("got size and count", size=3, count=3)
    attempt("count must be", count=0)
    attempt("size must be", TypeError, size=1.5)
    attempt("timedelta", TypeError, every=3, table=EVENT)
    attempt("longer than nothing", every=timedelta(0), table=EVENT)
    attempt("needs a schema", every=HOUR)
    attempt("say every", count=1, time="wall_time_ns")
    assert os.listdir(tmp_path) == []


def test_size_that_has_no_room_beside_the_description_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=EVENT) as writer:
        writer.write_payloads([bytes(50), bytes(20_000), bytes(50)])
    described = path.stat().st_size - 3 * 8 - 20_100
    for size in (100, described, described + 57):
        with pytest.raises(
            ValueError, match=f"too small: each begins with the description, which has {described:,} bytes"
        ):
            split(path, tmp_path / "out" / "{number}.fs", size=size)
    report = split(path, tmp_path / "{number}.fs", size=described + 58)
    assert [(file.frames, file.size) for file in report.files] == [
        (1, described + 58),
        (1, described + 20_008),
        (1, described + 58),
    ]


def test_numbers_that_are_taken_are_found_before_anything_is_written(tmp_path: Path) -> None:
    for taken in ("part-2.fs", "part-17.fs"):
        (tmp_path / taken).touch()
        with pytest.raises(FileExistsError, match=taken):
            split(source(event_stream(range(9))), tmp_path / "part-{number}.fs", count=3)
        assert [path.name for path in tmp_path.iterdir()] == [taken]
        (tmp_path / taken).unlink()
    (tmp_path / "part-x.fs").touch()
    assert split(source(event_stream(range(9))), tmp_path / "part-{number}.fs", count=3).frames == 9


@pytest.mark.parametrize("ending", [".fs.gz", ".gz", ".FS.XZ", ".fs.bz2"])
def test_new_streams_are_compressed_as_their_names_say(tmp_path: Path, ending: str) -> None:
    report = split(source(event_stream(range(9))), tmp_path / f"{{number}}{ending}", count=5)
    assert parts(report) == [list(range(5)), list(range(5, 9))]
    for file in report.files:
        with flatstream.open(file.path) as reader:
            assert reader.source.format in ("gzip", "xz", "bzip2")
        assert file.size == os.path.getsize(file.path)
    with pytest.raises(ChecksumMismatchError):
        sample(source(event_stream(range(9)), "crc32"), tmp_path / f"out{ending}", every=1)
    assert len(list(tmp_path.iterdir())) == 2


# sample


def test_every_so_many_th_message_is_taken(tmp_path: Path) -> None:
    stream = event_stream(range(9_001))
    report = sample(source(stream), tmp_path / "out.fs", every=1000)
    assert sequences(tmp_path / "out.fs") == list(range(0, 9_001, 1000))
    assert (report.frames, report.source.frames, report.size) == (10, 9_001, os.path.getsize(tmp_path / "out.fs"))
    sample(source(stream), tmp_path / "all.fs", every=1)
    assert (tmp_path / "all.fs").read_bytes() == stream
    assert report.to_dict()["frames"] == 10


def test_messages_are_taken_at_random(tmp_path: Path) -> None:
    stream = event_stream(range(20_000))
    taken = []
    for number, seed in enumerate((1, 1, 2)):
        sample(source(stream), tmp_path / f"{number}.fs", fraction=0.1, seed=seed)
        taken.append(sequences(tmp_path / f"{number}.fs"))
    assert taken[0] == taken[1] != taken[2]
    # Within five standard deviations, which are 42.
    assert 1790 <= len(taken[0]) <= 2210
    assert sum(number < 10_000 for number in taken[0]) == pytest.approx(1000, abs=150)
    for fraction, expected in ((0.0, 0), (1.0, 20_000), (1e-300, 0)):
        report = sample(source(stream), tmp_path / f"f{fraction}.fs", fraction=fraction)
        assert report.frames == expected


def test_a_sample_of_a_journal_with_another_checksum(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "journal", "crc32") as journal:
        write_events(journal, range(10))
    sample(tmp_path / "journal", tmp_path / "out.fs", every=3, to_checksum="none")
    assert sequences(tmp_path / "out.fs", "none") == [0, 3, 6, 9]


def test_a_sample_leaves_damage_out_and_an_interrupt_nothing(tmp_path: Path) -> None:
    stream = bytearray(event_stream(range(10)))
    begin, end = frames_of(bytes(stream))[4]
    stream[begin + 20] ^= 1
    report = sample(source(bytes(stream), on_error="resync"), tmp_path / "out.fs", every=2)
    assert sequences(tmp_path / "out.fs") == [0, 2, 5, 7, 9]
    assert report.lost_bytes == end - begin

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(source(event_stream([1])), tmp_path / "no.fs", every=2, progress=interrupt)
    assert os.listdir(tmp_path) == ["out.fs"]


def test_wrong_arguments_of_a_sample_are_refused(tmp_path: Path) -> None:
    def attempt(problem: str, error: type[Exception] = ValueError, **options: Any) -> None:
        with pytest.raises(error, match=problem):
            sample(source(event_stream([1])), tmp_path / "out.fs", **options)

    attempt("got none")
    attempt("got both", every=1, fraction=0.5)
    attempt("every must be", every=0)
    attempt("from 0 to 1", fraction=1.5)
    attempt("from 0 to 1", fraction=float("nan"))
    attempt("a number", TypeError, fraction="half")
    attempt("a seed is for", every=1, seed=1)
    attempt("seed must be", TypeError, fraction=0.5, seed="x")
    assert os.listdir(tmp_path) == []

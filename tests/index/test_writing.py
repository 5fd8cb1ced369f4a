"""Indexes that are written with their file."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import RecordWriter
from flatstream.index import build_index
from flatstream.transforms.compression import CompressedFramer
from support.index_messages import MESSAGE, SCALARS, assert_right, loaded, record


def write(path: Path, numbers: range, mode: str = "w", **options: Any) -> Any:
    with flatstream.open(path, mode, describe=MESSAGE, index=True, **options) as writer:  # type: ignore[call-overload]
        RecordWriter(writer, MESSAGE).write_records(map(record, numbers))
    return writer.index_report


def test_index_covers_all_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    report = write(path, range(3000), checksum="crc32")
    assert (report.action, report.rows, report.gaps, report.stopped_because) == ("created", 3000, (), None)
    assert report.covered == report.stream_size == path.stat().st_size
    index = loaded(path)
    assert len(index) == report.blocks > 5
    assert_right(path, index)


def test_index_is_the_same_as_one_that_is_built_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="xxhash64", describe=MESSAGE, index=SCALARS) as writer:
        RecordWriter(writer, MESSAGE).write_records(map(record, range(3000)))
    written = loaded(path)
    assert build_index(path, SCALARS).action == "unchanged"
    os.unlink(f"{path}.idx")
    build_index(path, SCALARS)
    built = loaded(path)
    assert written.ends.tolist() == built.ends.tolist()
    for name in SCALARS:
        one, other = written.statistics[name], built.statistics[name]
        assert all((a == b).all() for a, b in zip(vars(one).values(), vars(other).values(), strict=True)), name
    assert_right(path, written)


@pytest.mark.parametrize("buffer_size", [0, 100, 64 << 10, 300 << 10])
@pytest.mark.parametrize("way", ["payload", "payloads", "frames", "large", "compressed", "observed"])
def test_every_way_of_writing_is_seen(tmp_path: Path, way: str, buffer_size: int) -> None:
    path, other = tmp_path / "a.fs", tmp_path / "b.fs"
    count = 30 if way == "large" else 700
    with flatstream.open(other, "w", checksum="crc32", describe=MESSAGE) as writer:
        rows = (record(n) | ({"text": "y" * (n * 9000)} if way == "large" else {}) for n in range(count))
        RecordWriter(writer, MESSAGE).write_records(rows)
    framer: Any = flatstream.ChecksumFramer(flatstream.Crc32())
    if way == "compressed":
        framer = CompressedFramer(framer, flatstream.ZstdCompressor())
    if way == "observed":
        framer = flatstream.ObserverFramer(framer, lambda payload: None)
    with (
        flatstream.open(path, "w", framer=framer, describe=MESSAGE, index=True, buffer_size=buffer_size) as writer,
        flatstream.open(other) as reader,
    ):
        if way == "frames":
            for batch in reader.batches(100):
                writer.write_frames(batch)
        elif way == "payloads":
            writer.write_payloads([bytes(payload) for payload in reader])
        else:
            for payload in reader:
                writer.write_payload(payload)
    report = writer.index_report
    assert (report.rows, report.gaps, report.covered) == (count, (), path.stat().st_size)
    assert_right(path, loaded(path))


def test_any_mixture_of_writes_and_flushes_is_seen(tmp_path: Path) -> None:
    rnd = random.Random(11)
    payloads = [bytes(MESSAGE.from_json("{}"))] * 3
    other = tmp_path / "other.fs"
    with flatstream.open(other, "w", checksum="crc32", describe=MESSAGE) as writer:
        rows = (record(n) | ({"text": "y" * rnd.randrange(90_000)} if n % 40 == 0 else {}) for n in range(900))
        RecordWriter(writer, MESSAGE).write_records(rows)
    with flatstream.open(other) as reader:
        payloads += [bytes(payload) for payload in reader]
    for turn in range(6):
        path = tmp_path / f"{turn}.fs"
        size = rnd.choice([0, 300, 5000, 64 << 10, 1 << 20])
        with (
            flatstream.open(
                path, "w", checksum="crc32", describe=MESSAGE, index=["time_ns", "maybe"], buffer_size=size
            ) as writer,
            flatstream.open(other) as reader,
        ):
            count = 0
            for _ in range(60):
                some = rnd.choices(payloads, k=rnd.choice([1, 5, 50]))
                kind = rnd.randrange(6)
                if kind == 0:
                    for payload in some:
                        writer.write_payload(payload)
                elif kind == 1:
                    writer.write_payloads(some)
                elif kind == 2:
                    writer.write_payload(bytearray(some[0]))
                    some = some[:1]
                elif kind == 3 and (batch := reader.read_batch(rnd.choice([1, 20, 200]))) is not None:
                    writer.write_frames(batch)
                    some = [*map(bytes, batch)]
                else:
                    writer.flush()
                    some = []
                count += len(some)
        report = writer.index_report
        assert (report.rows, report.gaps, report.covered) == (count, (), path.stat().st_size)
        assert_right(path, loaded(path))


def test_appending_continues_the_index(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, range(1500), checksum="xxhash64")
    before = Path(f"{path}.idx").read_bytes()
    report = write(path, range(1500, 3000), "a")
    assert (report.action, report.rows, report.covered) == ("continued", 3000, path.stat().st_size)
    assert Path(f"{path}.idx").read_bytes().startswith(before)
    assert_right(path, loaded(path))


def test_appending_builds_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="xxhash64", describe=MESSAGE) as writer:
        RecordWriter(writer, MESSAGE).write_records(map(record, range(1500)))
    report = write(path, range(1500, 2000), "a")
    assert (report.action, report.rows, report.gaps) == ("created", 2000, ())
    assert_right(path, loaded(path))


def test_message_that_is_none_is_in_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="xxhash64", describe=MESSAGE, index=True) as writer:
        records = RecordWriter(writer, MESSAGE)
        for n in range(2000):
            if n == 1000:
                writer.write_payload(b"garbage.")
            else:
                records.write_record(record(n))
    report = writer.index_report
    ((begin, end),) = report.gaps
    assert report.rows < 2000
    with flatstream.open(path) as reader:
        places = [reader.message_offset for _ in reader]
    assert begin <= places[1000] < places[1001] == end
    assert build_index(path).action == "unchanged"

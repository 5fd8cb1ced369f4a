"""tools.merge, split and sample carry the description of streams on, and use the time field that it says."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import Description, RecordWriter, StreamReader
from flatstream.tools import merge, sample, split
from support.events import EVENT
from support.schemas import TINY


def write(path: Path, numbers: list[int], checksum: str = "xxhash64", **options: Any) -> Path:
    """Events with these numbers, which are their times as well, in another field than the one with the usual name."""
    options = {"describe": EVENT, "time_field": "monotonic_ns", "time_unit": "ns"} | options
    with flatstream.open(path, "x", checksum=checksum, **options) as writer:
        records = RecordWriter(writer, EVENT, file_identifier=True)
        for number in numbers:
            records.write(sequence=number, monotonic_ns=number, wall_time_ns=1000 - number)
    return path


def read(path: str | Path) -> tuple[list[int], Description | None]:
    """The numbers in a file, with the checksum that it describes, and its description."""
    with flatstream.open(path) as reader:
        description = reader.description
        assert description is not None
        assert description.checksum == reader.checksum
        return [record.sequence for record in reader.records(EVENT)], description


def test_the_description_is_carried_on(tmp_path: Path) -> None:
    one = write(tmp_path / "1.fs", [1, 4], metadata={"site": "a", "shift": "early"})
    two = write(tmp_path / "2.fs", [2, 3], metadata={"site": "a", "shift": "late"})
    _, original = read(one)
    assert original is not None
    report = merge([one, two], tmp_path / "merged.fs")
    found, description = read(tmp_path / "merged.fs")
    assert found == [1, 2, 3, 4]
    assert report.frames == 4
    assert description is not None
    assert description.matches(original)
    assert description.metadata == {"site": "a"}
    assert report.metadata_left_out == ("shift",)
    assert description.time == original.time == ("telemetry.Event", "monotonic_ns", "ns")
    assert description.created_ns == original.created_ns

    parts = split(one, tmp_path / "part-{number}-{time}.fs", every=timedelta(microseconds=1)).files
    assert [os.path.basename(part.path) for part in parts] == ["part-0-19700101T000000Z.fs"]
    parts = split(one, tmp_path / "part-{number}.fs", count=1).files
    assert [read(part.path) for part in parts] == [([1], original), ([4], original)]
    assert [part.size for part in parts] == [os.path.getsize(part.path) for part in parts]

    sample(one, tmp_path / "sample.fs", every=2)
    assert read(tmp_path / "sample.fs") == ([1], original)
    sample(one, tmp_path / "crc.fs", every=1, to_checksum="crc32")
    assert read(tmp_path / "crc.fs") == ([1, 4], original.with_checksum("crc32"))
    # One source passes byte for byte, its description too.
    merge([one], tmp_path / "same.fs")
    assert (tmp_path / "same.fs").read_bytes() == one.read_bytes()


def test_streams_that_describe_different_messages_are_not_merged(tmp_path: Path) -> None:
    one = write(tmp_path / "1.fs", [1])
    other_time = write(tmp_path / "2.fs", [2], time_field="wall_time_ns")
    other_table = tmp_path / "3.fs"
    with flatstream.open(other_table, "x", checksum="xxhash64", describe=TINY.root) as writer:
        writer.write_payload(b"x")
    undescribed = write(tmp_path / "4.fs", list(range(20)), describe=None, time_field=None, time_unit=None)
    for other in (other_time, other_table):
        with pytest.raises(ValueError, match="do not describe themselves as streams of the same messages"):
            merge([one, other], tmp_path / "out.fs")
    with pytest.raises(ValueError, match=r"1\.fs describes itself and .*4\.fs does not: say the table"):
        merge([one, undescribed], tmp_path / "out.fs")
    assert not (tmp_path / "out.fs").exists()
    merge([one, undescribed], tmp_path / "out.fs", table=EVENT)
    found, description = read(tmp_path / "out.fs")
    assert sorted(found) == sorted([1, *range(20)])
    assert description == read(one)[1]
    (tmp_path / "empty.fs").touch()
    assert merge([tmp_path / "empty.fs", one], tmp_path / "with-empty.fs").frames == 1
    assert read(tmp_path / "with-empty.fs") == ([1], description)


def test_descriptions_of_other_checksums_are_of_the_same_messages(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.fs", [1, 3], "crc32"), write(tmp_path / "2.fs", [2], "crc16")
    with pytest.raises(ValueError, match="to_checksum"):
        merge([one, two], tmp_path / "out.fs")
    merge([one, two], tmp_path / "out.fs", to_checksum="crc64")
    found, description = read(tmp_path / "out.fs")
    assert found == [1, 2, 3]
    assert description is not None
    assert description.checksum == "crc64"


def test_messages_of_several_tables_have_their_own_times(tmp_path: Path) -> None:
    describe = Description({"TELE": EVENT, "OTHR": TINY.root})
    assert [root.time_field for root in describe.roots] == ["wall_time_ns", None]
    paths = []
    for number, times in enumerate(([10, 40], [20, 30])):
        path = tmp_path / f"{number}.fs"
        paths.append(path)
        with flatstream.open(path, "x", checksum="crc32", describe=describe) as writer:
            records = RecordWriter(writer, EVENT, file_identifier=True)
            for time in times:
                records.write(sequence=time, wall_time_ns=time)
                writer.write_payload(b"\x08\x00\x00\x00OTHR" + bytes([time]) * 4)
    with pytest.raises(ValueError, match=r"there is no nothing_ns in telemetry\.Event and T: say the field"):
        merge(paths, tmp_path / "no.fs", time="nothing_ns")
    merge(paths, tmp_path / "out.fs")
    with StreamReader(tmp_path / "out.fs", "crc32") as reader:
        description = reader.description
        assert description is not None
        assert [root.file_identifier for root in description.roots] == ["TELE", "OTHR"]
        found = [bytes(payload) for payload in reader]
    # A message without a time follows the one before it.
    order = [EVENT.view(payload).sequence if payload[4:8] == b"TELE" else payload[8] for payload in found]
    assert order == [10, 10, 20, 20, 30, 30, 40, 40]
    parts = split(paths[0], tmp_path / "part-{number}.fs", every=timedelta(microseconds=1), time="wall_time_ns:us")
    assert [part.frames for part in parts.files] == [2, 2]


def test_a_table_can_be_named(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.fs", [1, 3]), write(tmp_path / "2.fs", [2])
    for number, name in enumerate(("telemetry.Event", "Event")):
        out = tmp_path / f"out{number}.fs"
        merge([one, two], out, table=name, time="sequence:ns")
        assert read(out)[0] == [1, 2, 3]
    with pytest.raises(LookupError, match="no table 'Nothing'"):
        merge([one, two], tmp_path / "no.fs", table="Nothing")

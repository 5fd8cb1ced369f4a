"""Descriptions that no writer of this package has completed, and streams that are read with another checksum."""

import io

import pytest

from flatstream import (
    ChecksumType,
    Description,
    InvalidFrameError,
    RecordWriter,
    Schema,
    StreamReader,
    StreamWriter,
    detect,
    salvage,
)
from flatstream import open as open_stream

SCHEMA = Schema.from_file("examples/telemetry.bfbs")
TABLE = SCHEMA.table("telemetry.Event")
MESSAGES = [b"one", b"two" * 10, b"three"]


def stream_with(description, checksum):
    """A stream whose first frame has exactly these bytes."""
    sink = io.BytesIO()
    with StreamWriter(sink, checksum) as writer:
        writer.write_payload(description.to_bytes())
        writer.write_payloads(MESSAGES)
    return sink.getvalue()


@pytest.mark.parametrize(
    "description",
    [
        Description(SCHEMA, checksum="crc32"),
        Description(SCHEMA, created_ns=5),
        Description(SCHEMA, checksum="crc64", created_ns=5),
        Description(metadata={"a": "b"}, checksum="one of theirs"),
    ],
    ids=["without a time", "without a checksum", "another checksum", "an unknown checksum"],
)
def test_salvage_keeps_descriptions_that_are_incomplete(tmp_path, description):
    data = stream_with(description, "crc32")
    out = tmp_path / "new.fs"
    report = salvage(data, out, "crc32")
    assert (report.frames, report.size, report.lost_bytes) == (4, out.stat().st_size, 0)
    with StreamReader(out, "crc32") as reader:
        assert [bytes(payload) for payload in reader] == MESSAGES
        expected = description if description.checksum is None else description.with_checksum("crc32")
        assert reader.description == expected


@pytest.mark.parametrize("checksum", ["none", "crc16", "crc32", "crc64", "xxhash64"])
def test_a_description_tells_the_checksum_of_few_messages(tmp_path, checksum):
    path = tmp_path / "events.fs"
    for count in (0, 1, 3):
        with open_stream(path, "w", checksum=checksum, describe=SCHEMA) as writer:
            records = RecordWriter(writer, TABLE)
            for number in range(count):
                records.write(sequence=number, host="a")
        before = path.read_bytes()
        found = detect(path)
        assert (found.checksum, found.confidence) == (ChecksumType(checksum), 1.0)
        wrong = "crc32c" if checksum == "none" else "none"
        # The binary schema has what looks like frames without a checksum.
        with pytest.raises(InvalidFrameError, match=f"checksum '{checksum}'"):
            salvage(path, tmp_path / "new.fs", wrong)
        with pytest.raises(InvalidFrameError, match=checksum):
            open_stream(path, "a", checksum=wrong, recover=True)
        assert path.read_bytes() == before
        assert sorted(tmp_path.iterdir()) == [path]


def test_a_damaged_schema_is_no_stream_without_a_checksum(tmp_path):
    sink = io.BytesIO()
    with StreamWriter(sink, "crc32", describe=SCHEMA) as writer:
        for number in range(5):
            RecordWriter(writer, TABLE).write(sequence=number)
    for place in (2, 5, 100, 3000):
        damaged = bytearray(sink.getvalue())
        damaged[place] ^= 4
        with pytest.raises(InvalidFrameError, match="checksum 'crc32'"):
            salvage(bytes(damaged), tmp_path / "new.fs")

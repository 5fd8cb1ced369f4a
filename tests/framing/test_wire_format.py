"""The wire format: golden files, the wrong deframer for a stream, a custom checksum, all modes from all sources."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import flatbuffers
import pytest

from flatstream import (
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    ChecksumType,
    DefaultDeframer,
    StreamReader,
    StreamWriter,
)
from reference import framing as reference
from support.extent import in_one_test
from support.items import FinishedBytes
from support.modes import MODES, Mode, every_mode
from support.schemas import VECTORS
from support.sources import every_source
from support.streams import corpus, flip, read_all

GOLDEN_FILES = VECTORS / "upstream_hex"
every_checksum = pytest.mark.parametrize("mode", [pytest.param(m, id=n) for n, m in MODES.items() if n != "none"])


# Twelve golden files. They are the crate's own: a stream of other bytes could not be read by it, and streams that it
# wrote could not be read here, so nothing in them may ever change.


def vector_of_zeros() -> flatbuffers.Builder:
    """A builder that has finished a message whose root is a vector of 1024 zero bytes."""
    builder = flatbuffers.Builder(2048)
    builder.StartVector(1, 1024, 1)
    builder.head -= 1024
    builder.Finish(builder.EndVector())
    return builder


PAYLOADS = {
    "empty": b"",
    "small": b"abc",
    # Root offset 4, 1024 elements, all of them zero.
    "medium": bytes.fromhex("04000000 00040000") + bytes(1024),
}
GOLDEN = [
    (name, checksum_type, size)
    for name, checksum_type in [
        ("default", ChecksumType.NONE),
        ("crc16", ChecksumType.CRC16),
        ("crc32", ChecksumType.CRC32),
        ("xxhash64", ChecksumType.XXHASH64),
    ]
    for size in PAYLOADS
]
every_golden_file = pytest.mark.parametrize(("name", "checksum_type", "size"), GOLDEN)


def golden(name: str, size: str) -> bytes:
    return bytes.fromhex((GOLDEN_FILES / f"{name}_{size}.hex").read_text())


def test_golden_files_are_twelve_and_all_are_tested() -> None:
    assert sorted(path.stem for path in GOLDEN_FILES.iterdir()) == sorted(f"{name}_{size}" for name, _, size in GOLDEN)
    assert len(GOLDEN) == 12


def test_golden_message_is_what_a_builder_makes_of_1024_zero_bytes() -> None:
    assert vector_of_zeros().Output() == PAYLOADS["medium"]


@in_one_test
@every_golden_file
def test_golden_file_is_reproduced_byte_for_byte(name: str, checksum_type: ChecksumType, size: str) -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, checksum_type) as writer:
        writer.write_payload(PAYLOADS[size])
    assert sink.getvalue() == golden(name, size)


@in_one_test
@every_golden_file
def test_golden_file_is_reproduced_byte_for_byte_from_a_builder(
    name: str, checksum_type: ChecksumType, size: str
) -> None:
    if size != "medium":
        # The other two payloads are no FlatBuffers; a builder is stood in for.
        builder: Any = FinishedBytes(PAYLOADS[size], before=b"not of the message")
    else:
        builder = vector_of_zeros()
    sink = io.BytesIO()
    with StreamWriter(sink, checksum_type) as writer:
        writer.write_finished(builder)
    assert sink.getvalue() == golden(name, size)


@in_one_test
@every_golden_file
def test_golden_file_is_read_back(name: str, checksum_type: ChecksumType, size: str) -> None:
    data = golden(name, size)
    for source in (data, io.BytesIO(data)):
        assert read_all(source, checksum_type) == ([PAYLOADS[size]], None)


@in_one_test
@every_golden_file
def test_golden_file_agrees_with_the_reference(name: str, checksum_type: ChecksumType, size: str) -> None:
    assert reference.encode([PAYLOADS[size]], checksum_type.value) == golden(name, size)


# A plain reader on a checksummed stream gives the right lengths and wrong bytes, without an error


@in_one_test
@every_checksum
def test_plain_reader_on_a_checksummed_frame_gives_the_right_length_and_wrong_bytes(mode: Mode) -> None:
    for payload in (b"abcdefgh", bytes(range(100))):
        frame = corpus(mode, [payload]).data
        with StreamReader(frame, DefaultDeframer()) as reader:
            got = reader.read_message()
            assert got is not None
            assert len(got) == len(payload)
            # The checksum is taken for the payload's first bytes, and so many of its last are left over.
            assert got == frame[4 : 4 + len(payload)]
            assert got != payload
            assert reader.offset == len(frame) - mode.size


@in_one_test
@pytest.mark.parametrize("name", ["crc32", "crc32c", "crc64", "xxhash64"])
def test_plain_reader_on_a_checksummed_stream_may_not_notice_at_all(name: str) -> None:
    # As many bytes as the checksum has are left over of each payload. If they are zero, they are empty frames.
    mode = MODES[name]
    payloads = [b"abcdefgh" + bytes(8), b"x" * 30 + bytes(8)]
    stream = corpus(mode, payloads)
    got, error = read_all(stream.data, DefaultDeframer())
    assert error is None
    phantoms = [b""] * (mode.size // 4)
    assert [len(payload) for payload in got] == [16, *map(len, phantoms), 38, *map(len, phantoms)]
    assert not set(payloads) & set(got)


# A custom checksum of 3 bytes works


class Xor24(Checksum):
    """The exclusive or of all groups of three bytes."""

    size = 3

    def calculate(self, payload: Any) -> int:
        data = bytes(payload)
        value = 0
        for begin in range(0, len(data), 3):
            value ^= int.from_bytes(data[begin : begin + 3], "little")
        return value


class Wide24(Xor24):
    """The same, with more above its three bytes, which no frame stores."""

    def calculate(self, payload: Any) -> int:
        return super().calculate(payload) + 0xABCD_000000


@pytest.mark.parametrize("checksum", [Xor24(), Wide24()], ids=["exact", "wide"])
def test_custom_checksum_of_three_bytes_is_written_and_read(checksum: Checksum) -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumFramer(checksum)) as writer:
        writer.write_payloads([b"abc", b"", b"\x01\x02\x03\xff\x00\x80\x10"])
    assert sink.getvalue().hex(" ") == (
        "03 00 00 00 61 62 63 61 62 63 "  # "abc" is its own checksum
        "00 00 00 00 00 00 00 "
        "07 00 00 00 ee 02 83 01 02 03 ff 00 80 10"
    )
    payloads, error = read_all(sink.getvalue(), ChecksumDeframer(checksum))
    assert (payloads, error) == ([b"abc", b"", b"\x01\x02\x03\xff\x00\x80\x10"], None)


@pytest.mark.parametrize("checksum", [Xor24(), Wide24()], ids=["exact", "wide"])
def test_custom_checksum_of_three_bytes_notices_every_flipped_bit(checksum: Checksum) -> None:
    frame = bytes.fromhex("07000000 ee0283 010203ff008010")
    for bit in range(32, 8 * len(frame)):
        _, error = read_all(flip(frame, bit), ChecksumDeframer(checksum))
        assert isinstance(error, ChecksumMismatchError)
        assert error.expected is not None
        assert error.calculated is not None
        assert max(error.expected, error.calculated) < 2**24
        assert (error.expected ^ error.calculated).bit_count() == 1


# All modes, all sources


@in_one_test
@every_mode
@every_source
def test_stream_of_every_mode_is_read_from_every_source(mode: Mode, source_kind: Any, tmp_path: Path) -> None:
    stream = corpus(mode)
    with source_kind.open(stream.data, tmp_path) as source:
        assert read_all(source, mode.deframer()) == (list(stream.payloads), None)

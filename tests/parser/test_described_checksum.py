"""A described stream that is read with another checksum than its own: the error says which one it has."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import FlatStreamError, FrameParser, RecoveryEnd, StreamReader, recover_file

MESSAGES = [b"%d" % number * 40 for number in range(50)]


def described(checksum: str, **options: Any) -> bytes:
    file = io.BytesIO()
    with flatstream.StreamWriter(file, checksum, describe=True, **options) as writer:
        writer.write_payloads(MESSAGES)
        writer.flush()
        return file.getvalue()


def notes_of(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def read_by_reader(data: bytes, deframer: Any) -> None:
    for _ in StreamReader(data, deframer):
        pass


def read_by_parser(data: bytes, deframer: Any) -> None:
    parser = FrameParser(deframer)
    parser.feed(data)
    parser.feed_eof()
    for _ in parser:
        pass


@pytest.mark.parametrize("read", [read_by_reader, read_by_parser])
@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("crc32c", None),
        ("crc32c", "crc32"),
        ("crc32", "xxhash64"),
        ("xxhash64", "crc16"),
        ("crc16", None),
        ("none", "crc32"),
    ],
)
def test_error_names_the_checksum_that_the_description_names(read: Any, written: str, given: str | None) -> None:
    read(described(written), written)
    with pytest.raises(FlatStreamError) as caught:
        read(described(written), given)
    hints = [note for note in notes_of(caught.value) if f"its checksum is {written!r}: pass it" in note]
    assert len(hints) == 1


def test_recovery_names_it_too(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(described("crc32c"))
    with pytest.raises(FlatStreamError) as caught:
        recover_file(path)
    assert any("its checksum is 'crc32c'" in note for note in notes_of(caught.value))
    assert recover_file(path, "crc32c").end is RecoveryEnd.CLEAN_EOF


def test_encrypted_stream_without_its_checksum_says_so() -> None:
    pytest.importorskip("cryptography")
    cipher = flatstream.Aes256Gcm(bytes(32))
    data = described(flatstream.ChecksumFramer(flatstream.Crc32c()).encrypted(cipher))  # type: ignore[arg-type]
    parser = FrameParser(cipher=cipher)
    parser.feed(data)
    with pytest.raises(FlatStreamError) as caught:
        parser.read_message()
    assert any("its checksum is 'crc32c'" in note for note in notes_of(caught.value))


def test_streams_that_only_resemble_it_get_no_hint() -> None:
    # The mark of a description, and no description behind it; damage of one whose checksum is the right one.
    whole = described("crc32c")
    for data, given in (
        (whole[:16] + bytes(40) + whole[56:], None),
        *((whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "crc32c") for at in range(16, 80)),
        (b"\x20\x00\x00\x00FSD1" + bytes(20), "crc32"),
    ):
        with pytest.raises(FlatStreamError) as caught:
            read_by_reader(data, given)
        assert not any("its checksum is" in note for note in notes_of(caught.value))

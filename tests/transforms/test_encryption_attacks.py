"""What a stranger or a power cut does to encrypted streams, beyond single frames: descriptions, heads, searches."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    Aes256Gcm,
    ChecksumFramer,
    Crc32,
    DecryptionError,
    DefaultDeframer,
    DefaultFramer,
    EncryptionReport,
    FlatStreamError,
    FrameParser,
    InvalidFrameError,
    StreamReader,
    StreamWriter,
    ZstdCompressor,
)
from flatstream.framing import deframer_for
from reference import framing
from support.compression import dictionary, event
from support.errors import raised_by
from support.extent import in_one_test
from support.streams import by_message

KEY = bytes(range(32))
CIPHER = Aes256Gcm(KEY, key_id="2026")


def written(messages: list[bytes], framer: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, framer, **options) as writer:
        writer.write_payloads(messages)
    return sink.getvalue()


def frames_of(stream: bytes) -> list[bytes]:
    return [framing.encode([payload], "crc32") for payload in framing.decode(stream, "crc32").payloads]


# A description that is another one


def other_dictionary() -> tuple[bytes, bytes]:
    """A dictionary, and one with the same number that has other text."""
    one = dictionary()
    other = one.replace(b"level=info", b"level=crit")
    assert other != one
    assert ZstdCompressor(dictionary=other).dictionary_id == ZstdCompressor(dictionary=one).dictionary_id
    return one, other


@in_one_test
@pytest.mark.parametrize("on_error", ["raise", "skip", "stop", "resync"])
def test_dictionary_of_a_stranger_changes_no_message(on_error: Any) -> None:
    one, other = other_dictionary()
    encrypted = ChecksumFramer(Crc32()).encrypted(CIPHER)
    messages = [event(number) for number in range(5)]
    streams = [
        written(messages, encrypted.compressed(ZstdCompressor(dictionary=trained)), describe=True)
        for trained in (one, other)
    ]
    frames, stranger = frames_of(streams[0]), frames_of(streams[1])
    forged = b"".join([stranger[0], *frames[1:]])
    # What the stranger would reach: messages are authentic, and not those that were written.
    plain = [ZstdCompressor(dictionary=trained) for trained in (one, other)]
    assert plain[1].decompress(plain[0].compress(messages[0]), 1 << 20) != messages[0]
    parser = FrameParser("crc32", on_error=on_error, cipher=CIPHER)
    parser.feed(forged)
    parser.feed_eof()
    for reader in (StreamReader(forged, "crc32", on_error=on_error, cipher=CIPHER), parser):
        found = []
        for _ in range(20):
            try:
                if (payload := reader.read_message()) is None:
                    break
                found.append(bytes(payload))
            except FlatStreamError as error:
                assert isinstance(error, DecryptionError)  # noqa: PT017 - each of them
        assert found == []
        assert reader.encryption is not None
        assert (reader.encryption.parts, reader.encryption.is_complete) == (0, False)
    with StreamReader(b"".join(frames), "crc32", on_error=on_error, cipher=CIPHER) as intact:
        assert by_message(intact) == messages


def test_error_for_a_missing_cipher_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    path.write_bytes(written([b"a"], ChecksumFramer(Crc32()).encrypted(CIPHER), describe=True))
    expected = "the stream is encrypted (aes-256-gcm, key id '2026'): pass cipher="
    for mode in ("r", "a"):
        error = raised_by(flatstream.open, path, mode)
        assert isinstance(error, InvalidFrameError)
        assert expected in str(error)


# A head that is damaged, at the end of a file


@in_one_test
@pytest.mark.parametrize("behind", [0, 1])
def test_file_with_a_damaged_last_head_is_moved_aside(behind: int, tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    framer = DefaultFramer().encrypted(CIPHER)
    with flatstream.open(path, "w", framer=framer) as writer:
        writer.write_payloads([b"a", b"b"])
    size = path.stat().st_size
    with flatstream.open(path, "a", framer=framer) as writer:
        writer.write_payload(b"c")
    data = bytearray(path.read_bytes())
    # The head was half on the disk, when the power went.
    end = size + 4 + int.from_bytes(data[size : size + 4], "little")
    data[size + 60 : end] = bytes(end - size - 60)
    stored = bytes(data) if behind else bytes(data[:end])
    path.write_bytes(stored)
    with pytest.raises(DecryptionError):
        flatstream.open(path, "a", framer=framer)
    # With another key, that is not known to be damage.
    other = DefaultFramer().encrypted(Aes256Gcm(bytes(32), key_id="2026"))
    with pytest.raises(DecryptionError):
        flatstream.open(path, "a", framer=other, recover=True)
    assert path.read_bytes() == stored
    with flatstream.open(path, "a", framer=framer, recover=True) as writer:
        assert writer.recovery is not None
        assert writer.recovery.action == "moved"
        assert Path(str(writer.recovery.saved_as)).read_bytes() == stored
        writer.write_payload(b"new")
    with StreamReader(path, DefaultDeframer().encrypted(CIPHER)) as reader:
        assert by_message(reader) == [b"new"]
        assert reader.encryption == EncryptionReport(1, True)


# A search behind damage


@in_one_test
@pytest.mark.parametrize("kind", ["encrypted", "compressed"])
def test_search_asks_the_transform_about_whole_frames_only(kind: str) -> None:
    framer, deframer = (
        (DefaultFramer().encrypted(CIPHER), DefaultDeframer().encrypted(CIPHER))
        if kind == "encrypted"
        else (DefaultFramer().compressed(ZstdCompressor()), DefaultDeframer().compressed())
    )
    stream = written([b"%d" % number * 9 for number in range(9)], framer)
    # Lengths that are longer than the stream, and zeros.
    hostile = b"\xff\xff\xff\x7f" * 5_000 + bytes(20_000)
    raised = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal raised
        raised += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        with StreamReader(stream + hostile + stream, deframer, on_error="resync") as reader:
            found = by_message(reader)
    finally:
        sys.setprofile(before)
    assert found[:9] == [b"%d" % number * 9 for number in range(9)]
    # Of 40,000 offsets: a call for each or an exception, made this 4 µs a byte.
    assert raised < 5_000


def test_deframer_for_a_checksum_still_tolerates_another_description() -> None:
    """What decrypts is given by the caller, and not by the description."""
    framer = ChecksumFramer(Crc32()).encrypted(CIPHER)
    frames = frames_of(written([b"a", b"b"], framer, describe=True, metadata={"host": "a"}))
    other = frames_of(written([], framer, describe=True, metadata={"host": "b"}))[0]
    forged = b"".join([other, *frames[1:]])
    with StreamReader(forged, deframer_for("crc32").encrypted(CIPHER), on_error="skip") as reader:
        assert by_message(reader) == [b"a", b"b"]
        assert reader.encryption == EncryptionReport(1, True, other_descriptions=1)

"""Compressed and encrypted streams through a serializer and a parser, in any pieces."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from flatstream import (
    Aes256Gcm,
    ChecksumDeframer,
    ChecksumFramer,
    CompressedDeframer,
    CompressedFramer,
    Crc32,
    DecryptionError,
    DefaultDeframer,
    DefaultFramer,
    EncryptedDeframer,
    EncryptedFramer,
    FrameParser,
    Framer,
    FrameSerializer,
    InvalidFrameError,
    StreamReader,
    ZstdCompressor,
)
from support.errors import raised_by
from support.parsing import hand_in, parse_pieces, pieces_of, read_whole

CIPHER = Aes256Gcm(bytes(range(32)))
PAYLOADS = [b"event %d of a compressible kind " % number * (number % 5 + 1) for number in range(40)]


def compressed(framer: Framer) -> Framer:
    return CompressedFramer(framer, ZstdCompressor())


def serialized(framer: Any, payloads: list[bytes] = PAYLOADS, **options: Any) -> bytes:
    serializer = FrameSerializer(framer, **options)
    serializer.write_payloads(payloads)
    serializer.finish()
    assert serializer.frames_written == len(payloads)
    return serializer.take()


CHAINS: dict[str, tuple[Any, Any]] = {
    "compressed": (lambda: compressed(DefaultFramer()), lambda: CompressedDeframer(DefaultDeframer())),
    "encrypted": (
        lambda: EncryptedFramer(ChecksumFramer(Crc32()), CIPHER),
        lambda: EncryptedDeframer(ChecksumDeframer(Crc32()), CIPHER, require_final=True),
    ),
    "both": (
        lambda: compressed(EncryptedFramer(DefaultFramer(), CIPHER)),
        lambda: CompressedDeframer(EncryptedDeframer(DefaultDeframer(), CIPHER, require_final=True)),
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_transformed_stream_in_pieces_is_read_as_a_whole_one(chain: str) -> None:
    make_framer, make_deframer = CHAINS[chain]
    data = serialized(make_framer())
    expected = read_whole(data, make_deframer())
    assert [event[2] for event in expected[0]] == PAYLOADS
    rng = random.Random(4)
    for _ in range(15):
        pieces = pieces_of(data, [rng.randrange(len(data)) for _ in range(8)])
        assert parse_pieces(pieces, make_deframer(), lent=[True, False], capacity=200) == expected
    pieces = [data[i : i + 1] for i in range(len(data))]
    assert parse_pieces(pieces, make_deframer()) == expected


def test_missing_final_frame_is_told_at_the_end_and_not_before() -> None:
    make_framer, make_deframer = CHAINS["encrypted"]
    serializer = FrameSerializer(make_framer())
    serializer.write_payload(b"abc")
    parser = FrameParser(make_deframer())
    parser.feed(serializer.take())
    assert [bytes(payload) for payload in parser] == [b"abc"]
    assert parser.read_message() is None
    parser.feed_eof()
    assert isinstance(raised_by(parser.read_message), DecryptionError | InvalidFrameError | EOFError)
    # With it, the end is clean.
    serializer.finish()
    final = serializer.take()
    parser = FrameParser(make_deframer())
    again = FrameSerializer(make_framer())
    again.write_payload(b"abc")
    again.finish()
    assert len(final) > 0
    parser.feed(again.take())
    parser.feed_eof()
    assert [bytes(payload) for payload in parser] == [b"abc"]
    assert parser.at_eof


@pytest.mark.parametrize("encrypted", [False, True])
def test_described_transforms_are_undone(encrypted: bool) -> None:
    framer: Any = ChecksumFramer(Crc32())
    framer = compressed(EncryptedFramer(framer, CIPHER) if encrypted else framer)
    data = serialized(framer, describe=True)
    for cut in (1, 30, len(data) // 2, len(data)):
        parser = FrameParser("crc32", cipher=CIPHER if encrypted else None)
        hand_in(parser, data[:cut], True)
        got = [bytes(payload) for payload in parser]
        hand_in(parser, data[cut:], False)
        assert got + [bytes(payload) for payload in parser] == PAYLOADS
        assert parser.description is not None
        assert len(parser.description.transforms) == 1 + encrypted
    with pytest.raises(TypeError, match="a cipher is for the deframer to be made"):
        FrameParser(DefaultDeframer(), cipher=CIPHER)
    # A reader of the same bytes.
    assert [bytes(payload) for payload in StreamReader(data, "crc32", cipher=CIPHER if encrypted else None)] == PAYLOADS


def test_limit_holds_for_what_is_stored_and_for_what_is_restored() -> None:
    bomb = serialized(compressed(DefaultFramer()), [bytes(1 << 20)])
    assert len(bomb) < 2000
    described = serialized(compressed(DefaultFramer()), [bytes(1 << 20)], describe=True)
    for deframer, data in ((CompressedDeframer(DefaultDeframer()), bomb), (None, described)):
        parser = FrameParser(deframer, max_frame_len=100_000)
        parser.feed(data)
        with pytest.raises(ValueError, match=r"100000|limit|bound"):
            parser.read_message()
        parser.feed(struct.pack("<I", 3_000_000_000 >> 1))
        error = raised_by(parser.read_message)
        assert isinstance(error, InvalidFrameError)
        assert error.offset == len(data)
        assert error.declared_len is not None
        assert 100_000 < error.declared_len <= 3_000_000_000 >> 1
        assert raised_by(parser.read_message) is error
        assert parser.needed == 0


def test_search_goes_on_behind_a_claim_that_is_too_large() -> None:
    data = serialized(compressed(ChecksumFramer(Crc32())))
    deframer = CompressedDeframer(ChecksumDeframer(Crc32()))
    cases: tuple[tuple[Any, list[bytes]], ...] = (("resync", PAYLOADS), ("stop", []))
    for on_error, expected in cases:
        parser = FrameParser(deframer, max_frame_len=1000, on_error=on_error)
        parser.feed(struct.pack("<I", 1 << 30) + bytes(6))
        got = [bytes(payload) for payload in parser]
        parser.feed(data)
        parser.feed_eof()
        assert got + [bytes(payload) for payload in parser] == expected
    assert isinstance(parser.stop_error, InvalidFrameError)

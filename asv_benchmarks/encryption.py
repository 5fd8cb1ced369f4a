"""Encrypted streams, beside the same messages encrypted and framed by hand with `cryptography` alone.

By hand: a counter for the nonce, one call of AESGCM or ChaCha20Poly1305, and a length. That has no places, parts, ends
or errors, and is what the algorithm and the calls into its library cost.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305 as RawChaCha20Poly1305

import flatstream

from .common import Benchmark, payload_of

KEY = bytes(range(32))
SIZES = [100, 1024, 64 * 1024]
CIPHERS = {
    "aes-256-gcm": (flatstream.Aes256Gcm, AESGCM),
    "chacha20-poly1305": (flatstream.ChaCha20Poly1305, RawChaCha20Poly1305),
}


class Encrypted(Benchmark):
    """`count` messages of `size` bytes."""

    param_names = ("algorithm", "size", "count")
    params = (list(CIPHERS), SIZES, [500, 10_000])

    def setup(self, algorithm: str, size: int, count: int) -> None:
        if (count > 500) == (size >= 64 * 1024):
            raise NotImplementedError("few large messages, or many small ones")
        kind, raw = CIPHERS[algorithm]
        self.payloads = [payload_of(size)] * count
        self.framer = flatstream.DefaultFramer().encrypted(kind(KEY))
        self.deframer = flatstream.DefaultDeframer().encrypted(kind(KEY))
        self.raw: Any = raw(KEY)

    def units(self, algorithm: str, size: int, count: int) -> int:
        """How many messages a sample has."""
        return count

    def written_by_hand(self) -> bytes:
        encrypt, pack = self.raw.encrypt, struct.Struct("<I").pack
        sink = io.BytesIO()
        for number, payload in enumerate(self.payloads):
            nonce = number.to_bytes(12, "little")
            sealed = encrypt(nonce, payload, None)
            sink.write(pack(len(sealed) + 12) + nonce + sealed)
        return sink.getvalue()

    def written(self) -> bytes:
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink, self.framer) as writer:
            writer.write_payloads(self.payloads)
        return sink.getvalue()


class Write(Encrypted):
    """Many messages into memory."""

    def time_by_hand(self, algorithm: str, size: int, count: int) -> None:
        assert len(self.written_by_hand()) == count * (size + 32)

    def time_write_payloads(self, algorithm: str, size: int, count: int) -> None:
        assert len(self.written()) == 4 + 120 + count * (size + 33) + 33

    def time_write_payload(self, algorithm: str, size: int, count: int) -> None:
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink, self.framer) as writer:
            for payload in self.payloads:
                writer.write_payload(payload)
        assert len(sink.getvalue()) == 4 + 120 + count * (size + 33) + 33


class Read(Encrypted):
    """Many messages from memory."""

    def setup(self, algorithm: str, size: int, count: int) -> None:
        super().setup(algorithm, size, count)
        self.stream = self.written()
        self.stream_by_hand = self.written_by_hand()

    def time_by_hand(self, algorithm: str, size: int, count: int) -> None:
        decrypt, unpack = self.raw.decrypt, struct.Struct("<I").unpack_from
        stream, total, at = memoryview(self.stream_by_hand), 0, 0
        while at < len(stream):
            (length,) = unpack(stream, at)
            total += len(decrypt(stream[at + 4 : at + 16], stream[at + 16 : at + 4 + length], None))
            at += 4 + length
        assert total == count * size

    def time_for_loop(self, algorithm: str, size: int, count: int) -> None:
        total = 0
        for payload in flatstream.StreamReader(self.stream, self.deframer):
            total += len(payload)
        assert total == count * size

    def time_read_batch(self, algorithm: str, size: int, count: int) -> None:
        total = 0
        for batch in flatstream.StreamReader(self.stream, self.deframer).batches():
            total += sum(batch.lengths)
        assert total == count * size

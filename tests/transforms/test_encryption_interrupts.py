"""Exceptions of signal handlers at any moment of writing and reading: no nonce twice, no message lost or repeated."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest

from flatstream import Aes256Gcm, DefaultDeframer, DefaultFramer, EncryptionReport, StreamReader, StreamWriter
from flatstream.transforms.ciphers import Aead
from support.interrupts import Interrupted, Interruption
from support.streams import by_message

KEY = bytes(range(32))
MESSAGES = [b"first", b"", b"third" * 30]
FILES = ("transforms/_parts.py", "transforms/ciphers.py", "transforms/encryption.py")


class RecordingCipher(Aes256Gcm):
    """Keeps every (key, nonce) with which something was encrypted."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        super().__init__(KEY)
        self.used: list[tuple[bytes, bytes]] = []

    def _algorithm(self, key: bytes) -> Aead:
        inner, used = super()._algorithm(key), self.used

        class Recorder:
            def encrypt(self, nonce: Any, data: Any, associated_data: Any) -> bytes:
                used.append((key, bytes(nonce)))
                return inner.encrypt(nonce, data, associated_data)

        return Recorder()  # type: ignore[return-value]


@pytest.mark.parametrize("buffer_size", [0, 1000])
def test_writing_is_interrupted_at_each_step(buffer_size: int) -> None:
    count = 0
    for step in range(1, 1000):
        cipher, sink = RecordingCipher(), io.BytesIO()
        writer = StreamWriter(sink, DefaultFramer().encrypted(cipher), buffer_size=buffer_size)
        interruption = Interruption(step, FILES)
        with interruption.armed():
            for message in MESSAGES:
                before = writer.frames_written
                while writer.frames_written == before:
                    with contextlib.suppress(Interrupted):
                        writer.write_payload(message)
            while not writer.closed:
                with contextlib.suppress(Interrupted):
                    writer.close()
        assert len(cipher.used) == len(set(cipher.used)), interruption.place
        with StreamReader(sink.getvalue(), DefaultDeframer().encrypted(Aes256Gcm(KEY), require_final=True)) as reader:
            assert by_message(reader) == MESSAGES, interruption.place
            assert reader.encryption == EncryptionReport(1, True), interruption.place
        if interruption.place is None:
            break
        count += 1
    assert count > 10, "the sweep saw few steps"


@pytest.mark.parametrize("max_frames", [None, 2])
def test_reading_is_interrupted_at_each_step(max_frames: int | None) -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, DefaultFramer().encrypted(Aes256Gcm(KEY))) as writer:
        writer.write_payloads(MESSAGES)
    deframer = DefaultDeframer().encrypted(Aes256Gcm(KEY), require_final=True)
    count = 0
    for step in range(1, 1000):
        interruption = Interruption(step, FILES)
        with StreamReader(sink.getvalue(), deframer) as reader:
            found: list[bytes] = []
            some: Any = ()
            with interruption.armed():
                while some is not None:
                    with contextlib.suppress(Interrupted):
                        some = reader.read_message() if max_frames is None else reader.read_batch(max_frames)
                        if some is not None:
                            found += [bytes(some)] if max_frames is None else [bytes(view) for view in some]
            assert found == MESSAGES, interruption.place
            assert reader.encryption == EncryptionReport(1, True), interruption.place
        if interruption.place is None:
            break
        count += 1
    assert count > 10, "the sweep saw few steps"

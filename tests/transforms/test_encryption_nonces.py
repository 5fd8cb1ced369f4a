"""No nonce is used twice, whatever becomes of the frames: disks that are full, sinks that block, signals, forks."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import Aes256Gcm, EncryptionReport, FlatStreamError, StreamReader, StreamWriter
from flatstream.transforms import _parts
from flatstream.transforms.ciphers import Aead
from support.errors import raised_by
from support.extent import in_one_test, spread
from support.faults import device_error, file_size_limit
from support.processes import forked
from support.streams import by_message

KEY = bytes(range(32))


class Recording:
    """An algorithm that says with which key and nonce it encrypts."""

    def __init__(self, inner: Aead, key: bytes, used: list[tuple[bytes, bytes]]) -> None:
        self.inner, self.key, self.used = inner, key, used

    def encrypt(self, nonce: Any, data: Any, associated_data: Any) -> bytes:
        self.used.append((self.key, bytes(nonce)))
        return self.inner.encrypt(nonce, data, associated_data)

    def decrypt(self, nonce: Any, data: Any, associated_data: Any) -> bytes:
        return self.inner.decrypt(nonce, data, associated_data)


class RecordingCipher(Aes256Gcm):
    """AES-256-GCM that keeps every (key, nonce) with which something was encrypted."""

    __slots__ = ("used",)

    used: list[tuple[bytes, bytes]]

    def __init__(self) -> None:
        super().__init__(KEY)
        self.used = []

    def _algorithm(self, key: bytes) -> Aead:
        return Recording(super()._algorithm(key), key, self.used)

    def assert_each_once(self) -> None:
        assert len(self.used) == len(set(self.used))


def framer_of(cipher: Any, checksum: str = "crc32c") -> Any:
    return flatstream.framing.framer_for(checksum).encrypted(cipher)


def deframer_of(checksum: str = "crc32c", **options: Any) -> Any:
    return flatstream.framing.deframer_for(checksum).encrypted(Aes256Gcm(KEY), **options)


class FullSink:
    """Takes what fits, raises ENOSPC when nothing does, and says that it would block; then there is room again."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.data = bytearray()
        self.room = 100

    def write(self, data: Any) -> int | None:
        if self.room == 0:
            self.room = self.rng.choice([0, 1, 30, 100, 500, 5000])
            if self.rng.random() < 0.5:
                raise BlockingIOError(errno.EAGAIN, "it would block", 0)
            raise OSError(errno.ENOSPC, "no space left")
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.data += taken
        return len(taken)


def messages(rng: random.Random, count: int) -> Iterator[bytes]:
    for number in range(count):
        yield b"%d " % number + rng.randbytes(rng.choice([0, 5, 60, 300]))


def write_all(writer: StreamWriter, rng: random.Random, payloads: list[bytes]) -> list[bytes]:
    """Writes payloads, each once, and returns those that were accepted."""
    accepted = []
    while payloads:
        count = rng.choice([1, 1, 1, 5])
        some, payloads = payloads[:count], payloads[count:]
        before = writer.frames_written
        try:
            if count == 1:
                writer.write_payload(some[0])
            else:
                writer.write_payloads(some)
        except OSError:
            pass
        accepted += some[: writer.frames_written - before]
    return accepted


@in_one_test
@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("buffer_size", [0, 100, 1000])
def test_sink_that_is_full_again_and_again(seed: int, buffer_size: int) -> None:
    rng = random.Random(1000 * buffer_size + seed)
    cipher, sink = RecordingCipher(), FullSink(rng)
    writer = StreamWriter(sink, framer_of(cipher), buffer_size=buffer_size)
    try:
        accepted = write_all(writer, rng, list(messages(rng, 60)))
    except FlatStreamError:
        # The stream ends inside a frame, and the writer refuses to go on.
        cipher.assert_each_once()
        raised_by(writer.close)
        return
    while True:
        try:
            writer.close()
            break
        except BlockingIOError:
            continue
        except OSError:
            # The writer is closed, and the rest was not written.
            cipher.assert_each_once()
            return
    cipher.assert_each_once()
    assert len(cipher.used) > len(accepted)
    with StreamReader(bytes(sink.data), deframer_of(require_final=True)) as reader:
        assert by_message(reader) == accepted
        assert reader.encryption == EncryptionReport(1, True)


@in_one_test
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("buffer_size", [0, 100, 1000])
def test_disk_that_is_full_again_and_again(seed: int, buffer_size: int, tmp_path: Path) -> None:
    # The writer cuts the file back to its last whole frame, and goes on when there is room.
    rng = random.Random(seed)
    cipher, path = RecordingCipher(), tmp_path / "stream.fs"
    writer = StreamWriter(path, framer_of(cipher), buffer_size=buffer_size)
    accepted: list[bytes] = []
    refused = 0
    for _ in range(8):
        payloads = list(messages(rng, 10))
        with file_size_limit(path.stat().st_size + rng.choice([0, 1, 50, 200, 10_000])):
            got = write_all(writer, rng, payloads)
        refused += len(payloads) - len(got)
        accepted += got
    writer.close()
    cipher.assert_each_once()
    assert len(cipher.used) >= len(accepted) + 1
    with StreamReader(path, deframer_of(require_final=True)) as reader:
        assert by_message(reader) == accepted
        assert reader.encryption == EncryptionReport(1, True)
    if buffer_size == 0:
        assert refused, "the disk was never full"
        assert len(cipher.used) > len(accepted) + 1


def test_place_of_a_message_that_was_not_accepted_is_taken_by_the_next(tmp_path: Path) -> None:
    cipher, path = RecordingCipher(), tmp_path / "stream.fs"
    with StreamWriter(path, framer_of(cipher), buffer_size=0) as writer:
        writer.write_payload(b"first")
        for size in range(1, 40):
            with file_size_limit(path.stat().st_size + size), pytest.raises(OSError):
                writer.write_payload(b"not accepted %d" % size)
        writer.write_payload(b"second")
    cipher.assert_each_once()
    with StreamReader(path, deframer_of(require_final=True)) as reader:
        assert by_message(reader) == [b"first", b"second"]
        assert reader.encryption == EncryptionReport(1, True)


def test_writer_that_cannot_finish_closes_and_the_part_is_unfinished(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    writer = StreamWriter(path, framer_of(Aes256Gcm(KEY)), buffer_size=0)
    writer.write_payload(b"first")
    with file_size_limit(path.stat().st_size + 5), pytest.raises(OSError):
        writer.close()
    with StreamReader(path, deframer_of(), on_error="resync") as reader:
        assert by_message(reader) == [b"first"]
        assert reader.encryption is not None
        assert reader.encryption.unfinished_parts == (0,)


def test_validator_outside_that_refuses_spends_no_number() -> None:
    cipher, sink = RecordingCipher(), io.BytesIO()
    with StreamWriter(sink, framer_of(cipher).bounded(3)) as writer:
        for payload in (b"a", b"long", b"b"):
            try:
                writer.write_payload(payload)
            except flatstream.InvalidFrameError:
                assert payload == b"long"
    assert [int.from_bytes(nonce, "little") for _, nonce in cipher.used] == [0, 1 | 1 << 48, 2 | 2 << 48]
    with StreamReader(sink.getvalue(), deframer_of()) as reader:
        assert by_message(reader) == [b"a", b"b"]


def test_key_changes_before_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parts, "BYTES_OF_KEY", 1000)
    cipher, sink = RecordingCipher(), io.BytesIO()
    rng = random.Random(1)
    wanted = list(messages(rng, 200))
    with StreamWriter(sink, framer_of(cipher)) as writer:
        writer.write_payloads(wanted)
    cipher.assert_each_once()
    keys = {key for key, _ in cipher.used}
    assert len(keys) > 10
    with StreamReader(sink.getvalue(), deframer_of(require_final=True)) as reader:
        assert by_message(reader) == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_process_does_not_go_on_with_the_numbers_of_its_parent() -> None:
    session = framer_of(Aes256Gcm(KEY)).start()
    session.begin()
    session.transform(memoryview(b"parent"))

    def child() -> list[str]:
        return [
            f"{type(error).__name__}: {error}"
            for error in (raised_by(session.transform, memoryview(b"child")), raised_by(session.finish))
        ]

    wanted = "FlatStreamError: this process was made by fork, and the encrypted stream is its parent's: "
    for text in forked(child):
        assert text.startswith(wanted)
    # A stream of the child's own is another.
    framer = framer_of(Aes256Gcm(KEY))

    def own() -> bytes:
        sink = io.BytesIO()
        with StreamWriter(sink, framer) as writer:
            writer.write_payload(b"child")
        return sink.getvalue()

    with StreamReader(forked(own), deframer_of()) as reader:
        assert by_message(reader) == [b"child"]
    assert session.transform(memoryview(b"parent"))[1:7] == (1).to_bytes(6, "little")


def test_every_failing_byte_of_a_stream(tmp_path: Path) -> None:
    """The disk is full at each byte in turn, once; then all goes on."""
    wanted = [b"a", b"", b"c" * 30]
    with StreamWriter(tmp_path / "whole.fs", framer_of(Aes256Gcm(KEY)), buffer_size=0) as writer:
        writer.write_payloads(wanted)
    size = (tmp_path / "whole.fs").stat().st_size
    for limit in spread(range(size), 4):
        cipher, path = RecordingCipher(), tmp_path / f"{limit}.fs"
        writer = StreamWriter(path, framer_of(cipher), buffer_size=0)
        for message in wanted:
            before = writer.frames_written
            with file_size_limit(limit), contextlib.suppress(OSError):
                writer.write_payload(message)
            if writer.frames_written == before:
                writer.write_payload(message)
        writer.close()
        cipher.assert_each_once()
        with StreamReader(path, deframer_of(require_final=True)) as reader:
            assert by_message(reader) == wanted, limit


def test_error_of_a_device_reaches_the_caller() -> None:
    class Sink:
        def write(self, data: Any) -> int:
            raise device_error(errno.EIO)

    writer = StreamWriter(Sink(), framer_of(Aes256Gcm(KEY)), buffer_size=0)
    with pytest.raises(OSError) as info:
        writer.write_payload(b"a")
    assert info.value.errno == errno.EIO
    raised_by(writer.close)

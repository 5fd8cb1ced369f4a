"""`flatstream.open` without a checksum: what is found, how, and the error where it is not certain."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    ChecksumDeframer,
    ChecksumType,
    Crc32,
    DefaultDeframer,
    InvalidFrameError,
    StreamReader,
    UnexpectedEofError,
)
from reference import framing as reference
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES, Sum24
from support.python_strategies import MagicDeframer
from support.streams import SMALL_PAYLOADS

BUILT_IN = [kind.value for kind in ChecksumType]
every_checksum = pytest.mark.parametrize("name", BUILT_IN)
EVENTS = [flatbuffer_of_event(number) for number in range(40)]
TEXTS = [f"line {number} of a log".encode() for number in range(40)]


def opened(path: Path, data: bytes, **options: Any) -> tuple[str | None, str | None, list[bytes]]:
    """The checksum, how it was found, and the payloads."""
    path.write_bytes(data)
    with flatstream.open(path, **options) as reader:
        return reader.checksum, reader.checksum_found_by, [bytes(payload) for payload in reader]


@in_one_test
@every_checksum
def test_checksum_of_a_whole_file_is_found_however_small_it_is(name: str, tmp_path: Path) -> None:
    for payloads in (EVENTS, EVENTS[:1], TEXTS, TEXTS[:1], TEXTS[:2], [b"a"], list(SMALL_PAYLOADS), [b"x", b"", b"y"]):
        found = opened(tmp_path / "stream", reference.encode(payloads, name))
        assert found == (name, "detection", payloads), payloads[:3]


@in_one_test
@every_checksum
def test_checksum_of_a_torn_or_damaged_file_is_found(name: str, tmp_path: Path) -> None:
    data = reference.encode(EVENTS, name)
    path = tmp_path / "stream"
    path.write_bytes(data[:-5])
    with flatstream.open(path) as reader:
        assert reader.checksum == name
        with pytest.raises(UnexpectedEofError):
            list(reader)
    damaged = bytearray(data)
    damaged[len(EVENTS[0]) + 30] ^= 1
    assert opened(path, bytes(damaged), on_error="resync")[0] == name
    damaged[30] ^= 1
    if name != "none":
        assert opened(path, bytes(damaged), on_error="resync")[:2] == (name, "detection")


@pytest.mark.parametrize("name", ["none", "crc16", "xxhash64"])
def test_first_frame_that_is_larger_than_what_is_looked_at_is_read_whole(name: str, tmp_path: Path) -> None:
    large = random.Random(name).randbytes(1_100_000)
    assert opened(tmp_path / "stream", reference.encode([large, b"next"], name)) == (
        name,
        "detection",
        [large, b"next"],
    )


def test_lengths_that_lead_to_the_end_of_a_large_file_are_enough(tmp_path: Path) -> None:
    payloads = [random.Random(5).randbytes(700)] * 1600
    assert opened(tmp_path / "stream", reference.encode(payloads, "none"))[:2] == ("none", "detection")
    with pytest.raises(InvalidFrameError, match="none: frame 1600 at offset 1126400 is torn"):
        opened(tmp_path / "stream", reference.encode(payloads, "none") + b"\x07")


def test_lengths_of_more_than_64_mib_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    with open(path, "wb") as file:
        file.write(reference.encode([b"one"], "none") + (65 << 20).to_bytes(4, "little"))
        file.truncate(7 + 4 + (65 << 20))
    with pytest.raises(InvalidFrameError, match="but it is too large to look at all of them"):
        flatstream.open(path)
    with flatstream.open(path, checksum="none") as reader:
        assert reader.checksum_found_by is None
        assert [len(payload) for payload in reader] == [3, 65 << 20]


UNCERTAIN = {
    "text": (b"root:x:0:0:root:/root:/bin/sh\n" * 40, "looks like text"),
    "zeros": (bytes(4096), "looks like zeros"),
    "few zeros": (bytes(4), "looks like zeros"),
    "random": (random.Random(2).randbytes(5000), "is not certain"),
    "one byte": (b"\x07", "is not certain"),
    "no whole frame": (reference.encode([b"x" * 90], "crc32")[:50], "is not certain"),
    "a message": (EVENTS[0], "looks like a FlatBuffer"),
    # Without a checksum, its lengths lead to the end: the last 4 bytes are those of an empty frame.
    "a damaged frame": (reference.encode([b"one two three" + bytes(4)], "crc32").replace(b"w", b"W"), "is not certain"),
    "a few torn": (reference.encode(TEXTS[:3], "none")[:-2], "is not certain"),
    "another checksum": (reference.encode(TEXTS, "sum24"), "is not certain"),
    "zip": (b"PK\x03\x04" + bytes(26) + reference.encode(EVENTS, "crc32"), "looks like zip"),
}


@in_one_test
@pytest.mark.parametrize("what", UNCERTAIN)
def test_what_is_not_certain_is_an_error_that_says_what_was_tried(what: str, tmp_path: Path) -> None:
    data, message = UNCERTAIN[what]
    path = tmp_path / "stream"
    path.write_bytes(data)
    with pytest.raises(InvalidFrameError, match=message) as caught:
        flatstream.open(path)
    text = str(caught.value)
    assert str(path) in text
    assert "that it was written with, as in checksum='crc32', or checksum='none'" in text
    for name in BUILT_IN:
        assert f"{name}: " in text
    # StreamReader reads without a checksum, as always.
    with StreamReader(path) as reader:
        assert (reader.checksum, reader.checksum_found_by) == ("none", None)


def test_checksum_that_is_given_is_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(reference.encode(TEXTS, "crc32"))
    for given, name in (
        ({"checksum": "none"}, "none"),
        ({"checksum": "crc16"}, "crc16"),
        ({"checksum": ChecksumType.CRC32}, "crc32"),
        ({"deframer": "xxhash64"}, "xxhash64"),
        ({"deframer": DefaultDeframer()}, "none"),
        ({"deframer": ChecksumDeframer(Crc32()).bounded(9).observed(print)}, "crc32"),
        ({"checksum": Sum24()}, "Sum24"),
        ({"deframer": MagicDeframer(DefaultDeframer())}, None),
        ({"checksum": "crc32", "allow_empty": False}, "crc32"),
    ):
        with flatstream.open(path, **given) as reader:
            assert (reader.checksum, reader.checksum_found_by) == (name, None)


def test_empty_file_has_no_frames_and_any_checksum(tmp_path: Path) -> None:
    assert opened(tmp_path / "stream", b"") == ("none", "empty file", [])
    assert opened(tmp_path / "stream", b"", checksum="crc32") == ("crc32", None, [])
    with flatstream.open(os.devnull) as reader:
        assert (reader.checksum_found_by, list(reader)) == ("empty file", [])


@in_one_test
@every_checksum
def test_file_that_is_followed_is_looked_at_and_an_empty_one_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="the file is empty, so that the checksum of what will be written"):
        flatstream.open(path, follow=True)
    with flatstream.open(path, "w", checksum=name) as writer:
        writer.write_payloads(EVENTS[:3])
        writer.flush()
        with flatstream.open(path, follow=True) as reader:
            assert (reader.checksum, reader.checksum_found_by) == (name, "detection")
            assert [bytes(reader.read_message(timeout=10) or b"") for _ in range(3)] == EVENTS[:3]
            writer.write_payload(b"more")
            writer.flush()
            assert bytes(reader.read_message(timeout=10) or b"") == b"more"


@in_one_test
@every_checksum
def test_file_is_appended_to_with_the_checksum_that_it_has(name: str, tmp_path: Path) -> None:
    path = tmp_path / "stream"
    for payloads in (EVENTS[:1], TEXTS[:1], TEXTS):
        for recover in (False, True):
            path.write_bytes(reference.encode(payloads, name))
            with flatstream.open(path, "a", recover=recover) as writer:
                writer.write_payload(b"appended")
            assert path.read_bytes() == reference.encode([*payloads, b"appended"], name)
    path.write_bytes(reference.encode(EVENTS, name)[:-3])
    with flatstream.open(path, "a", recover=True) as writer:
        assert writer.recovery is not None
        assert writer.recovery.action == "cut"
        writer.write_payload(b"appended")
    assert path.read_bytes() == reference.encode([*EVENTS[:-1], b"appended"], name)


def test_file_that_is_not_certain_is_appended_to_only_as_one_without_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(reference.encode([b"one"], "none")[:-1])
    with pytest.raises(InvalidFrameError, match="the file has no frame, so that nothing may be appended"):
        flatstream.open(path, "a")
    with flatstream.open(path, "a", recover=True) as writer:
        assert writer.recovery is not None
        assert writer.recovery.action == "moved"
    for mode in ("a", "w", "x"):
        path.unlink()
        with flatstream.open(path, mode) as writer:
            writer.write_payload(b"one")
        assert path.read_bytes() == reference.encode([b"one"], "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@every_checksum
def test_checksum_of_a_pipe_is_found_in_its_first_frames(name: str, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = reference.encode(TEXTS, name)
    first = len(TEXTS[0]) + 4 + MODES[name].size
    go_on = threading.Event()

    def write() -> None:
        with open(path, "wb", buffering=0) as pipe:
            pipe.write(data[:first])
            # With 4 bytes or more, the first frame is enough, and nothing more is waited for.
            if MODES[name].size >= 4:
                go_on.wait(60)
            pipe.write(data[first:])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with flatstream.open(path) as reader:
            assert (reader.checksum, reader.checksum_found_by) == (name, "detection")
            assert bytes(next(reader)) == TEXTS[0]
            go_on.set()
            assert list(reader) == TEXTS[1:]
    finally:
        go_on.set()
        thread.join()


def test_position_and_file_are_those_of_a_reader_that_was_given_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(reference.encode(TEXTS, "crc32"))
    with flatstream.open(path) as reader:
        assert (reader.offset, reader.frames_read) == (0, 0)
        next(reader)
        file, rest = reader.detach()
        assert bytes(rest) + file.read() == reference.encode(TEXTS[1:], "crc32")
        file.close()

"""`flatstream.open` in all its modes: what it makes, appends to, refuses and leaves alone."""

from __future__ import annotations

import functools
import io
import os
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    ChecksumType,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    InvalidFrameError,
    SizeValidator,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
    XxHash64,
)
from reference import framing as reference
from support.bad_input import shown
from support.extent import in_one_test
from support.modes import every_mode
from support.python_strategies import MagicDeframer, MagicFramer
from support.streams import PAYLOADS, STREAM, encode

# flatstream.open


class Folder(os.PathLike[str]):
    """A path that is neither str nor pathlib's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@in_one_test
@pytest.mark.parametrize("binary", ["", "b"])
@pytest.mark.parametrize("kind", [str, Path, Folder])
def test_open_writes_appends_and_reads(kind, binary, tmp_path):
    path = kind(tmp_path / "stream")
    with flatstream.open(path, "x" + binary) as writer:
        assert type(writer) is StreamWriter
        writer.write_payload(b"one")
    with flatstream.open(path, "a" + binary) as writer:
        writer.write_payload(b"two")
    with flatstream.open(path, "r" + binary) as reader:
        assert type(reader) is StreamReader
        assert list(reader) == [b"one", b"two"]
    with flatstream.open(path, "w" + binary) as writer:
        writer.write_payload(b"three")
    with flatstream.open(path) as reader:
        assert list(reader) == [b"three"]
    assert Path(path).read_bytes() == encode(b"three")


@in_one_test
@every_mode
@pytest.mark.parametrize("form", ["instance", "type", "name"])
def test_open_takes_a_checksum_in_every_form(mode, form, tmp_path):
    if mode.checksum_type is None:
        form = "instance"
    checksum: Any = {"instance": mode.checksum(), "type": mode.checksum_type, "name": mode.name}[form]
    path = tmp_path / "stream"
    with flatstream.open(path, "w", checksum=checksum) as writer:
        writer.write_payloads([b"one", b"two"])
    with flatstream.open(path, "a", checksum=checksum) as writer:
        writer.write_payload(b"three")
    assert path.read_bytes() == reference.encode([b"one", b"two", b"three"], mode.name)
    with flatstream.open(path, checksum=checksum) as reader:
        assert list(reader) == [b"one", b"two", b"three"]


def test_open_takes_framers_deframers_and_options(tmp_path):
    path = tmp_path / "stream"
    with flatstream.open(path, "w", framer=ChecksumFramer(Crc32()).bounded(5), buffer_size=7) as writer:
        assert writer.buffer_capacity == 7
        writer.write_payload(b"12345")
        with pytest.raises(InvalidFrameError):
            writer.write_payload(b"123456")
    with flatstream.open(path, "a", framer=ChecksumType.CRC32) as writer:
        writer.write_payload(b"123456")
    with flatstream.open(path, deframer=ChecksumDeframer(Crc32()).bounded(6), capacity=9) as reader:
        assert list(reader) == [b"12345", b"123456"]
    with flatstream.open(path, deframer=ChecksumType.CRC32) as reader:
        assert list(reader) == [b"12345", b"123456"]


def test_open_of_a_missing_file_to_read_fails_and_to_append_makes_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        flatstream.open(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    with flatstream.open(tmp_path / "missing", "a") as writer:
        writer.write_payload(b"one")
    assert (tmp_path / "missing").read_bytes() == encode(b"one")


def test_open_exclusively_leaves_an_existing_file_alone(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(STREAM)
    with pytest.raises(FileExistsError):
        flatstream.open(path, "x")
    assert path.read_bytes() == STREAM


def test_open_of_a_folder_fails(tmp_path):
    for mode in ("r", "w", "a"):
        journal = "Reader reads" if mode == "r" else "Writer writes"
        with pytest.raises(IsADirectoryError, match=rf"is a folder: if .* flatstream\.journal\.Journal{journal}"):
            flatstream.open(tmp_path, mode)


def test_append_to_an_empty_file_works(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(b"")
    with flatstream.open(path, "a", checksum="crc32") as writer:
        writer.write_payload(b"one")
    assert path.read_bytes() == reference.encode([b"one"], "crc32")


@in_one_test
@every_mode
def test_append_to_a_torn_file_is_refused_at_every_cut(mode, tmp_path):
    path = tmp_path / "stream"
    stream = reference.encode([b"one", b"three"], mode.name)
    first = 4 + mode.size + 3
    for size in range(len(stream)):
        path.write_bytes(stream[:size])
        if size in (0, first):
            flatstream.open(path, "a", checksum=mode.checksum()).close()
            continue
        if size < first:
            with pytest.raises(InvalidFrameError, match="the file has no frame, so that nothing may be appended"):
                flatstream.open(path, "a", checksum=mode.checksum())
        else:
            with pytest.raises(UnexpectedEofError, match="recover=True saves the bytes of that frame") as caught:
                flatstream.open(path, "a", checksum=mode.checksum())
            assert (caught.value.offset, caught.value.frame) == (first, 1)
        assert path.read_bytes() == stream[:size]


def test_append_to_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "stream"
    stream = bytearray(reference.encode([b"one", b"two", b"three"], "crc32"))
    stream[-1] ^= 1
    path.write_bytes(stream)
    with pytest.raises(ChecksumMismatchError) as caught:
        flatstream.open(path, "a", checksum="crc32")
    assert (caught.value.offset, caught.value.frame) == (22, 2)
    assert path.read_bytes() == stream


def test_append_to_a_file_whose_length_is_damaged_is_refused(tmp_path):
    # Not torn: intact frames stand behind the wrong length.
    path = tmp_path / "stream"
    stream = bytearray(reference.encode([b"one", b"two", b"three"], "crc32"))
    stream[11 + 2] ^= 0x40
    path.write_bytes(stream)
    with pytest.raises(InvalidFrameError):
        flatstream.open(path, "a", checksum="crc32")
    assert path.read_bytes() == stream


def test_append_to_a_file_of_another_checksum_is_refused(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(reference.encode(PAYLOADS, "crc32"))
    with pytest.raises(ChecksumMismatchError):
        flatstream.open(path, "a", checksum="crc32c")
    assert path.read_bytes() == reference.encode(PAYLOADS, "crc32")


@in_one_test
@pytest.mark.parametrize(
    "adapt",
    [
        lambda framer: framer.bounded(100),
        lambda framer: framer.observed(lambda payload: None),
        lambda framer: framer.with_validator(SizeValidator(0, 100)),
        lambda framer: framer.bounded(100).observed(lambda payload: None).with_validator(SizeValidator(0, 100)),
    ],
    ids=["bounded", "observed", "validated", "all"],
)
def test_append_looks_at_the_end_through_adapters(adapt, tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(reference.encode([b"x" * 200], "xxhash64"))
    with flatstream.open(path, "a", framer=adapt(ChecksumFramer(XxHash64()))) as writer:
        writer.write_payload(b"next")
    stream = reference.encode([b"x" * 200, b"next"], "xxhash64")
    assert path.read_bytes() == stream
    path.write_bytes(stream[:-1])
    with pytest.raises(UnexpectedEofError):
        flatstream.open(path, "a", framer=adapt(ChecksumFramer(XxHash64())))


MAGIC_FRAMER = functools.partial(MagicFramer, DefaultFramer())


class MagicDefaultFramer(DefaultFramer):
    """A format of its own, as a subclass of a built-in framer."""

    def frame_and_write(self, writer, payload):
        writer.write(b"MAGC")
        super().frame_and_write(writer, payload)


@pytest.mark.parametrize("make", [MAGIC_FRAMER, MagicDefaultFramer, lambda: MAGIC_FRAMER().bounded(100)])
def test_append_trusts_a_framer_whose_format_it_does_not_know(make, tmp_path):
    path = tmp_path / "stream"
    for mode, payload in [("w", b"one"), ("a", b"two"), ("a", b"three")]:
        with flatstream.open(path, mode, framer=make()) as writer:  # type: ignore[call-overload]
            writer.write_payload(payload)
    with flatstream.open(path, deframer=MagicDeframer(DefaultDeframer())) as reader:
        assert list(reader) == [b"one", b"two", b"three"]


@in_one_test
@pytest.mark.parametrize("mode", ["", "rw", "r+", "b", "br", "rbb", "rt", "R", None, 3, b"r", ["r"]], ids=repr)
def test_open_with_a_wrong_mode_says_which_there_are(mode, tmp_path):
    with pytest.raises(ValueError, match="mode must be 'r', 'w', 'a' or 'x'"):
        flatstream.open(tmp_path / "stream", mode)
    assert list(tmp_path.iterdir()) == []


@in_one_test
@pytest.mark.parametrize("path", [None, 3, b"stream", io.BytesIO()], ids=["None", "int", "bytes", "BytesIO"])
@pytest.mark.parametrize("mode", ["r", "w"])
def test_open_of_what_is_no_path_is_refused(path, mode):
    with pytest.raises(TypeError, match=r"path must be a str or os\.PathLike, got"):
        flatstream.open(path, mode)


class BadPolicy(flatstream.MemoryPolicy):
    baseline_capacity = -1


WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown_checksum": ({"checksum": "md5"}, ValueError, "unknown checksum 'md5': expected one of 'none', 'crc16'"),
    "no_checksum": ({"checksum": 32}, TypeError, "expected a Checksum, a ChecksumType, its name or None, got 32"),
    "framer_and_checksum": ({"checksum": "crc32", "framer": DefaultFramer()}, TypeError, "got both"),
    "deframer": ({"deframer": DefaultDeframer()}, TypeError, "takes a framer, got"),
    "no_framer": ({"framer": 32}, TypeError, "framer must be an instance of Framer"),
    "negative_buffer": ({"buffer_size": -1}, ValueError, "buffer_size must not be negative, got -1"),
    "no_buffer_size": ({"buffer_size": "64"}, TypeError, "buffer_size must be an int, got str"),
    "bool_buffer_size": ({"buffer_size": True}, TypeError, "buffer_size must be an int, got bool"),
    "negative_capacity": ({"capacity": -1}, ValueError, "capacity must not be negative, got -1"),
    "no_capacity": ({"capacity": "1024"}, TypeError, "capacity must be an int, got str"),
    "no_policy": ({"memory_policy": "adaptive"}, TypeError, "memory_policy must be an instance of MemoryPolicy"),
    "no_builder": ({"builder": object()}, TypeError, "builder must be a flatbuffers.Builder, got object"),
    "no_make_builder": ({"make_builder": 3}, TypeError, "make_builder must be callable, got 3"),
    "no_lock": ({"lock": 1}, TypeError, "lock must be a bool, got 1"),
    "no_recover": ({"recover": None}, TypeError, "recover must be a bool, got None"),
    "no_allow_empty": ({"allow_empty": 0}, TypeError, "allow_empty must be a bool or None, got 0"),
    "unknown_option": ({"bufsize": 3}, TypeError, "bufsize"),
}


@in_one_test
@pytest.mark.parametrize("mode", ["w", "x", "a"])
@pytest.mark.parametrize("wrong", WRONG_ARGUMENTS)
def test_open_with_a_wrong_argument_neither_empties_nor_makes_a_file(wrong, mode, tmp_path):
    arguments, error, message = WRONG_ARGUMENTS[wrong]
    path = tmp_path / "stream"
    if mode != "x":
        path.write_bytes(STREAM)
    with pytest.raises(error, match=message):
        flatstream.open(path, mode, **arguments)
    if mode == "x":
        assert not path.exists()
    else:
        assert path.read_bytes() == STREAM


ONLY_OF_OPEN = {"checksum", "deframer", "lock", "recover", "allow_empty"}


@in_one_test
@pytest.mark.parametrize(
    "wrong", [name for name, (arguments, *_) in WRONG_ARGUMENTS.items() if not ONLY_OF_OPEN & {*arguments}]
)
def test_writer_with_a_wrong_argument_does_not_empty_its_file(wrong, tmp_path):
    arguments, error, message = WRONG_ARGUMENTS[wrong]
    path = tmp_path / "stream"
    path.write_bytes(STREAM)
    with pytest.raises(error, match=message):
        StreamWriter(path, **arguments)
    assert path.read_bytes() == STREAM


@in_one_test
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"framer": DefaultFramer()}, TypeError, "takes a deframer, got"),
        ({"deframer": 32}, TypeError, "deframer must be an instance of Deframer"),
        ({"checksum": "crc32", "deframer": DefaultDeframer()}, TypeError, "got both"),
        ({"lock": False}, ValueError, "lock=False needs the mode 'w', 'a' or 'x': readers take no lock, got 'r'"),
        ({"recover": True}, ValueError, "recover=True needs the mode 'a', got 'r'"),
        ({"allow_empty": 1}, TypeError, "allow_empty must be a bool or None, got 1"),
        ({"capacity": 0}, ValueError, "capacity must be from 1 to"),
        ({"capacity": 1.5}, TypeError, "capacity must be an int, got float"),
        ({"buffer_size": 3}, TypeError, "buffer_size"),
        ({"memory_policy": 3}, TypeError, "memory_policy must be an instance of MemoryPolicy"),
        ({"memory_policy": BadPolicy()}, ValueError, "memory_policy.baseline_capacity must be from 0 to"),
    ],
    ids=shown,
)
def test_open_to_read_with_a_wrong_argument_leaves_no_file_open(arguments, error, message, tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(STREAM)
    # A file that was left open would warn when it is collected, and warnings are errors here.
    with pytest.raises(error, match=message):
        flatstream.open(path, **arguments)


def test_reader_follows_a_writer_to_the_same_file(tmp_path):
    path = tmp_path / "stream"
    with flatstream.open(path, "w", checksum="crc32") as writer, flatstream.open(path, checksum="crc32") as reader:
        for payload in PAYLOADS:
            assert reader.read_message() is None
            writer.write_payload(payload)
            writer.flush()
            assert bytes(next(reader)) == payload

"""`flatstream.open(path, mmap=True)`: what it gives, what it refuses, and how long the map lives."""

from __future__ import annotations

import gc
import gzip
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    ChecksumMismatchError,
    InvalidFrameError,
    StreamReader,
    TableRootValidator,
    UnexpectedEofError,
    ValidatingDeframer,
)
from reference import framing as reference
from support.columns import LEVEL1
from support.extent import in_one_test
from support.messages import numbered_messages
from support.modes import MODES, Mode, every_mode

PAYLOADS = [b"%d" % number * (number % 70) for number in range(1, 500)]


def make(path: Path, checksum: str = "crc32", payloads: list[bytes] | None = None) -> Path:
    path.write_bytes(reference.encode(PAYLOADS if payloads is None else payloads, checksum))
    return path


def maps_of(path: Path) -> int:
    """How often this process has the file mapped."""
    text = Path("/proc/self/maps").read_text(encoding="utf-8")
    return sum(line.endswith(f" {path}") for line in text.splitlines())


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/maps is Linux's")


@every_mode
def test_mapped_file_is_read_as_any_other(mode: Mode, tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", mode.name)
    for kind in ("deframer", "found"):
        if kind == "found" and mode.name in ("sum24", "none"):
            continue
        options: dict[str, Any] = {"deframer": mode.deframer()} if kind == "deframer" else {}
        with flatstream.open(path, mmap=True, **options) as reader, flatstream.open(path, **options) as other:
            assert list(reader) == list(other) == PAYLOADS
            assert (reader.offset, reader.frames_read) == (other.offset, other.frames_read)
            assert (reader.checksum, reader.checksum_found_by) == (other.checksum, other.checksum_found_by)


@on_linux
def test_payloads_are_views_of_the_map_and_nothing_is_copied(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs")
    reader = flatstream.open(path, mmap=True)
    payloads = list(reader)
    assert maps_of(path) == 1
    owners = {id(payload.obj) for payload in payloads}
    assert len(owners) == 1
    assert all(payload.readonly for payload in payloads)
    with pytest.raises(TypeError):
        payloads[0][0] = 1
    reader.close()


@on_linux
def test_map_is_gone_with_the_reader(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs")
    with flatstream.open(path, mmap=True) as reader:
        assert maps_of(path) == 1
        assert "mapped file" in repr(reader.source)
        assert "mapped file" in repr(reader)
        assert not reader.source.closed
        source = reader.source
    assert source.closed
    assert maps_of(path) == 0
    # One that is collected, too.
    reader = flatstream.open(path, mmap=True)
    assert next(reader) == PAYLOADS[0]
    del reader
    gc.collect()
    assert maps_of(path) == 0


@on_linux
def test_views_keep_the_map_until_the_last_one_is_gone(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs")
    with flatstream.open(path, mmap=True) as reader:
        kept = [next(reader), next(reader)]
        batch = reader.read_batch(5)
        assert batch is not None
    assert reader.closed
    assert maps_of(path) == 1
    assert kept == PAYLOADS[:2]
    assert [bytes(payload) for payload in batch] == PAYLOADS[2:7]
    with pytest.raises(ValueError, match="closed"):
        next(reader)
    del kept
    gc.collect()
    assert maps_of(path) == 1
    del batch
    gc.collect()
    assert maps_of(path) == 0


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs")
    # The first one imports what it needs.
    flatstream.open(path, mmap=True).close()
    before = os.listdir("/dev/fd")
    for options in ({}, {"checksum": "crc32"}):
        with flatstream.open(path, mmap=True, **options):  # type: ignore[call-overload]
            pass
        for wrong in ({"capacity": -1}, {"on_error": "ignore"}, {"nonsense": 1}):
            with pytest.raises((TypeError, ValueError)):
                flatstream.open(path, mmap=True, **options, **wrong)  # type: ignore[call-overload]
    assert os.listdir("/dev/fd") == before


def test_detach_gives_the_source_and_the_rest(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", payloads=[b"abc", b"de"])
    reader = flatstream.open(path, mmap=True)
    assert bytes(next(reader)) == b"abc"
    source, rest = reader.detach()
    assert bytes(rest) == reference.encode([b"de"], "crc32")
    source.close()
    assert bytes(rest) == reference.encode([b"de"], "crc32")


def test_empty_file_is_an_empty_stream(tmp_path: Path) -> None:
    path = tmp_path / "empty.fs"
    path.touch()
    with flatstream.open(path, mmap=True) as reader:
        assert list(reader) == []
        assert reader.checksum_found_by == "empty file"


def test_file_that_grows_is_read_as_it_was(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs")
    with flatstream.open(path, mmap=True) as reader:
        with flatstream.open(path, "a") as writer:
            writer.write_payload(b"later")
        assert list(reader) == PAYLOADS
        assert reader.read_message() is None


def test_file_that_is_replaced_or_removed_is_read_to_its_end(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs")
    with flatstream.open(path, mmap=True) as reader:
        path.unlink()
        assert list(reader) == PAYLOADS


# What reading does with it


def test_damage_is_treated_as_on_error_says(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", payloads=[b"x" * 50] * 20)
    data = bytearray(path.read_bytes())
    data[58 * 7 + 20] ^= 1
    path.write_bytes(data)
    with flatstream.open(path, mmap=True) as reader, pytest.raises(ChecksumMismatchError) as caught:
        list(reader)
    assert (caught.value.frame, caught.value.offset) == (7, 58 * 7)
    with flatstream.open(path, mmap=True, on_error="resync") as reader:
        assert len(list(reader)) == 19
        assert reader.lost_ranges == [(58 * 7, 58 * 8)]
    path.write_bytes(data[:-1])
    with (
        flatstream.open(path, checksum="crc32", mmap=True, on_error="skip") as reader,
        pytest.raises(UnexpectedEofError),
    ):
        list(reader)


def test_columns_records_and_adapters_work_on_a_map(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs", payloads=list(numbered_messages(100)))
    with flatstream.open(path, mmap=True) as reader:
        columns = reader.columns(LEVEL1, ["value"])
    with flatstream.open(path, mmap=True) as reader:
        records = [record.value for record in reader.records(LEVEL1)]
    assert columns["value"].to_pylist() == records == list(range(100))
    deframer = ValidatingDeframer(MODES["crc32"].deframer(), TableRootValidator())
    with flatstream.open(path, deframer=deframer, mmap=True) as reader:
        assert sum(1 for _ in reader) == 100


def test_described_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32c", describe=True, serializer="json") as writer:
        writer.write([1, 2])
    with flatstream.open(path, mmap=True) as reader:
        assert list(reader.objects()) == [[1, 2]]
        assert reader.checksum_found_by == "description"


# What is refused


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.fs")
    with pytest.raises(FileNotFoundError):
        flatstream.open(tmp_path / "none.fs", mmap=True)
    with pytest.raises(IsADirectoryError):
        flatstream.open(tmp_path, mmap=True)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for special in (pipe, Path("/dev/null"), Path("/dev/zero")):
        for options in ({}, {"checksum": "none"}):
            with pytest.raises(io.UnsupportedOperation, match="mmap=True needs a regular file"):
                flatstream.open(special, mmap=True, **options)  # type: ignore[call-overload]
    packed = tmp_path / "b.fs.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for options in ({}, {"checksum": "crc32"}):
        with pytest.raises(InvalidFrameError, match=r"as it is written, got a compressed one \(gzip\)"):
            flatstream.open(packed, mmap=True, **options)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="a URL cannot be mapped"):
        flatstream.open("memory://a.fs", mmap=True)


@in_one_test
@pytest.mark.parametrize(
    ("mode", "options", "error", "text"),
    [
        ("r", {"mmap": True, "follow": True}, ValueError, "either mmap=True or follow=True"),
        ("r", {"mmap": 1}, TypeError, "mmap must be a bool, got 1"),
        ("r", {"mmap": None}, TypeError, "mmap must be a bool, got None"),
        ("w", {"mmap": True}, ValueError, "mmap=True needs the mode 'r', got 'w'"),
        ("a", {"mmap": True}, ValueError, "mmap=True needs the mode 'r', got 'a'"),
    ],
)
def test_wrong_arguments_are_refused(
    mode: str, options: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "a.fs")
    before = path.read_bytes()
    with pytest.raises(error, match=text):
        flatstream.open(path, mode, **options)  # type: ignore[call-overload]
    assert path.read_bytes() == before
    with flatstream.open(path, mmap=False) as reader:
        assert not isinstance(reader.source, type(None))
    with flatstream.open(tmp_path / "new.fs", "w", mmap=False):  # type: ignore[call-overload]
        pass


def test_file_whose_checksum_is_not_certain_is_refused_before_it_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    path.write_bytes(os.urandom(5000))
    with pytest.raises(InvalidFrameError):
        flatstream.open(path, mmap=True)
    if sys.platform == "linux":
        assert maps_of(path) == 0


@on_linux
def test_file_that_is_cut_under_a_map_kills_the_process_as_documented(tmp_path: Path) -> None:
    # Behind the last page of what is left. This is why nobody should map a file that others may cut.
    path = make(tmp_path / "a.fs", "none", [b"x" * 9996] * 100)
    code = (
        "import flatstream, os, sys\n"
        "reader = flatstream.open(sys.argv[1], checksum='none', mmap=True)\n"
        "print(len(next(reader)), flush=True)\n"
        "os.truncate(sys.argv[1], 10000)\n"
        "sum(map(len, reader))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, timeout=120, check=False)
    assert done.stdout == b"9996\n"
    assert done.returncode == -signal.SIGBUS


def test_reader_of_a_map_object_is_as_before(tmp_path: Path) -> None:
    # mmap=True is about paths.
    path = make(tmp_path / "a.fs")
    import mmap

    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        with StreamReader(memory, "crc32") as reader:
            assert sum(1 for _ in reader) == len(PAYLOADS)
        assert memory[:4] == (1).to_bytes(4, "little")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_file_without_a_size_is_refused_and_not_taken_for_an_empty_one() -> None:
    with pytest.raises(io.UnsupportedOperation, match="needs a file with a size"):
        flatstream.open("/proc/self/status", checksum="none", mmap=True)

"""Streams that convert, merge, split and sample write as sealed files."""

from __future__ import annotations

from pathlib import Path

import pytest

import flatstream
from flatstream._endpoints import open_file
from flatstream._seekable import SeekableFile
from flatstream.tools import convert, merge
from support.cli import call_flatstream
from support.cli_samples import described, write_events
from support.extent import in_one_test
from support.sealed import zstd

PAYLOADS = [b"message %06d, and some more bytes" % number for number in range(30_000)]


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    path = tmp_path / "in.fs"
    with flatstream.open(path, "w", checksum="xxhash64", describe=True) as writer:
        writer.write_payloads(PAYLOADS)
    return path


def is_sealed(path: Path) -> bool:
    with open_file(path) as file:
        return isinstance(file, SeekableFile) and file.size() > 0 and file.has_table and file.count > 1


def payloads_of(path: Path) -> list[bytes]:
    with flatstream.open(path) as reader:
        return [bytes(payload) for payload in reader]


def test_convert_seals_and_unseals(stream: Path, tmp_path: Path) -> None:
    report = convert(stream, tmp_path / "out.fs.zst")
    assert not isinstance(report, list)
    assert report.messages == len(PAYLOADS)
    assert is_sealed(tmp_path / "out.fs.zst")
    assert payloads_of(tmp_path / "out.fs.zst") == PAYLOADS
    convert(tmp_path / "out.fs.zst", tmp_path / "back.fs")
    assert payloads_of(tmp_path / "back.fs") == PAYLOADS
    # It is what the stream was, but for the time in the description.
    sealed = flatstream.seal(tmp_path / "back.fs")
    assert zstd.decompress(Path(sealed.path).read_bytes()) == (tmp_path / "back.fs").read_bytes()


def test_other_tools_seal_and_other_formats_are_compressed_as_a_whole(stream: Path, tmp_path: Path) -> None:
    merge([stream, stream], tmp_path / "merged.fs.zst", time=False)
    assert is_sealed(tmp_path / "merged.fs.zst")
    assert len(payloads_of(tmp_path / "merged.fs.zst")) == 2 * len(PAYLOADS)
    write_events(tmp_path / "events.fs", **described())
    convert(tmp_path / "events.fs", tmp_path / "out.jsonl.zst")
    with open_file(tmp_path / "out.jsonl.zst") as file:
        assert not isinstance(file, SeekableFile)


@in_one_test
@pytest.mark.parametrize("command", ["info", "head", "tail", "cat", "verify"])
def test_commands_show_the_same_of_a_sealed_file(command: str, tmp_path: Path) -> None:
    path = tmp_path / "in.fs"
    with flatstream.open(path, "w", checksum="xxhash64") as writer:
        writer.write_payloads(PAYLOADS[:3000])
    flatstream.seal(path, tmp_path / "sealed")
    options = ["--json"] if command in ("info", "verify") else []
    plain, sealed = (call_flatstream(command, tmp_path / name, *options) for name in ("in.fs", "sealed"))
    assert (sealed.status, sealed.errors) == (plain.status, plain.errors) == (0, "")
    if command in ("head", "tail", "cat"):
        assert sealed.output == plain.output
    else:
        assert '"frames": 3000' in sealed.output or '"messages": 3000' in sealed.output

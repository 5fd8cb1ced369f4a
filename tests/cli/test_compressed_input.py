"""Standard input that is compressed, and outputs that cannot be written to their end."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.cli import call_flatstream, environment, run_flatstream, script
from support.cli_samples import described, telemetry, write_events

resource = pytest.importorskip("resource")

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("compressed")
    write_events(made / "described.fs", **described())
    write_events(made / "plain.fs", checksum="crc32")
    (made / "telemetry.bfbs").write_bytes(telemetry().to_bytes())
    return made


@pytest.mark.parametrize("name", ["described.fs", "plain.fs"])
def test_compressed_standard_input_is_read_as_what_it_holds(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    expected = {command: call_flatstream(command, "-", input=data).output for command in ("cat", "tail", "verify")}
    for kind, compress in COMPRESSIONS.items():
        compressed = compress(data)
        for command, output in expected.items():
            for options in ((), ("--checksum", "xxhash64" if name == "described.fs" else "crc32")):
                result = call_flatstream(command, "-", *options, input=compressed)
                assert (result.status, result.output, result.errors) == (0, output, ""), (kind, command, options)
        assert f"compressed with {kind}" in call_flatstream("info", "-", input=compressed).lines[0]
        # Cut off: what comes before is shown, and data is lost.
        cut = call_flatstream("cat", "-", input=compressed[:-20])
        assert cut.status == 1
        assert cut.errors.count("\n") == 1
        assert "cut off" in cut.errors
    # As a process, from a file and from a pipe.
    (folder / "data").write_bytes(gzip.compress(data))
    with open(folder / "data", "rb") as file:
        done = subprocess.run([*script(), "cat", "-"], stdin=file, capture_output=True, env=environment(), check=True)
    assert done.stdout.decode() == expected["cat"]
    assert run_flatstream("cat", "-", input=gzip.compress(data)).output == expected["cat"]


def test_stream_that_begins_as_compressed_files_do_is_no_compressed_one(tmp_path: Path) -> None:
    # A first frame of 0x088b1f bytes, without a checksum.
    first = (0x088B1F).to_bytes(4, "little")
    data = first + bytes(range(1, 256)) * (0x088B1F // 255) + b"x" * (0x088B1F % 255) + b"\x03\0\0\0abc"
    result = call_flatstream("verify", "-", "--checksum", "none", input=data)
    assert (result.status, result.errors) == (0, "")
    assert "2 intact frames" in result.output
    # A stream of a few bytes, which begins as a compressed file begins.
    short = call_flatstream("cat", "-", "--checksum", "none", input=b"\x28\0\0\0" + bytes(range(40)))
    assert (short.status, json.loads(short.output)["size"]) == (0, 40)


def test_compressed_lines_on_standard_input_are_converted(folder: Path, tmp_path: Path) -> None:
    lines = call_flatstream("cat", folder / "described.fs").data
    new = tmp_path / "new.fs"
    arguments = ("convert", "-", new, "--from", "jsonl", "--schema", folder / "telemetry.bfbs")
    for data in (lines, *(compress(lines) for compress in COMPRESSIONS.values())):
        result = call_flatstream(*arguments, input=data)
        assert (result.status, result.errors) == (0, "")
        assert call_flatstream("cat", new).data == lines
        new.unlink()
    assert run_flatstream(*arguments, input=gzip.compress(lines)).status == 0


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Has files of at most so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of processes")
def test_output_without_room_is_named_and_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    path, out = folder / "described.fs", tmp_path / "new"
    number = tmp_path / "new-{number}"
    cases: list[list[str | Path]] = [
        ["merge", path, path, "-o", out],
        ["sample", path, "-o", out, "--every", "1"],
        ["split", path, "-o", number, "--count", "1000"],
        ["salvage", path, out],
        ["schema", path, "-f", "json", "-o", out],
        ["convert", path, out, "--to", "jsonl"],
        ["convert", path, out, "--to", "fs"],
        ["convert", path, out, "--to", "parquet", "--unsupported", "json"],
    ]
    for arguments in cases:
        with room_for(2000):
            result = call_flatstream(*arguments)
        assert result.status == 4, arguments
        assert (
            result.errors
            == f"flatstream {arguments[0]}: {tmp_path}/new{'-0' * (arguments[0] == 'split')}: File too large\n"
        )
        assert os.listdir(tmp_path) == [], arguments

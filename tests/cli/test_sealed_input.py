"""``flatstream tail`` of sealed files: the end is read, and not what is before."""

from __future__ import annotations

from pathlib import Path

import pytest

import flatstream
import flatstream.cli._last
from flatstream._seekable import SeekableFile
from support.cli import call_flatstream

COUNT = 40_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sealed")
    with flatstream.open(made / "plain.fs", "w", checksum="crc32") as writer:
        writer.write_payloads([b"message %08d" % number * 4 for number in range(COUNT)])
    flatstream.seal(made / "plain.fs")
    return made


def test_tail_reads_the_end_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatstream.cli._last, "WHOLE", 1 << 16)
    read: list[int] = []
    decompressed = SeekableFile._decompressed

    def counting(self: SeekableFile, index: int) -> bytes:
        read.append(index)
        return decompressed(self, index)

    monkeypatch.setattr(SeekableFile, "_decompressed", counting)
    for count in ("1", "7", "2000"):
        read.clear()
        expected = call_flatstream("tail", "-n", count, folder / "plain.fs")
        found = call_flatstream("tail", "-n", count, folder / "plain.fs.zst")
        assert (found.status, found.output, found.errors) == (0, expected.output, "")
        # The first one is looked at, to find the checksum.
        assert set(read) <= {0, *range(5, 20)}, (count, read)


def test_tail_of_a_damaged_sealed_file_tells_the_damage(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flatstream.cli._last, "WHOLE", 1 << 16)
    data = bytearray((folder / "plain.fs.zst").read_bytes())
    with SeekableFile(open(folder / "plain.fs.zst", "rb", buffering=0), "", None) as whole:
        assert whole.size() > 1 << 20
    # In the last block.
    data[len(data) - 400] ^= 0xFF
    damaged = tmp_path / "damaged.fs.zst"
    damaged.write_bytes(data)
    found = call_flatstream("tail", "-n", "3", damaged)
    assert found.status != 0
    assert "the Zstandard data cannot be decompressed" in found.errors
    # What is before it is shown.
    assert len(found.output.splitlines()) >= 3

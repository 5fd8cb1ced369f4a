"""Sealed files: read from any place and by threads, with tables that are wrong or damaged, cut off, made by others."""

from __future__ import annotations

import itertools
import os
import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import pyzstd

import flatstream
from flatstream import StreamReader, detect
from flatstream._endpoints import open_file
from flatstream._seekable import SeekableFile
from reference import framing as reference
from support.errors import raised_by
from support.extent import in_one_test, spread
from support.processes import run_python
from support.sealed import compress, compress_without_size, sealed, table, zstd

PAYLOADS = [bytes([number % 250]) * (number * 37 % 900 + 1) for number in range(900)]
STREAM = reference.encode(PAYLOADS, "crc32")
# Blocks of different sizes, one of them empty.
CUTS = [0, 5, 70_000, 70_000, 100_001, 300_000, len(STREAM)]
BLOCKS = [STREAM[begin:end] for begin, end in itertools.pairwise(CUTS)]
SEALED = sealed(BLOCKS)


def sealed_file(path: Path, data: bytes = SEALED) -> SeekableFile:
    path.write_bytes(data)
    file = open_file(path)
    assert isinstance(file, SeekableFile)
    return file


def read_all(file: Any, size: int = 1 << 16) -> bytes:
    pieces = []
    while piece := file.read(size):
        pieces.append(piece)
    return b"".join(pieces)


def payloads_of(path: Path) -> list[bytes]:
    with flatstream.open(path) as reader:
        return [bytes(payload) for payload in reader]


def test_sealed_file_is_an_ordinary_one_for_others(tmp_path: Path) -> None:
    path = tmp_path / "events.fs.zst"
    path.write_bytes(SEALED)
    assert zstd.decompress(SEALED) == STREAM
    with pyzstd.SeekableZstdFile(path) as referee:
        referee.seek(70_001)
        assert referee.read(1000) == STREAM[70_001:71_001]
    assert payloads_of(path) == PAYLOADS
    assert detect(path).checksum is flatstream.ChecksumType.CRC32


def test_any_place_is_read_with_the_blocks_there_alone(tmp_path: Path) -> None:
    with sealed_file(tmp_path / "file") as file:
        rng = random.Random(7)
        for _ in range(200):
            begin = rng.randrange(len(STREAM) + 10)
            size = rng.choice([0, 1, 17, 40_000, 400_000])
            buffer = bytearray(size)
            taken = 0
            while taken < size and (count := file.read_at(begin + taken, memoryview(buffer)[taken:])):
                taken += count
            assert buffer[:taken] == STREAM[begin : begin + size]
            assert taken == len(STREAM[begin : begin + size])
        assert file.size() == len(STREAM)
        # The position is another matter.
        assert file.tell() == 0
        assert file.seek(100_000) == file.tell() == 100_000
        assert file.peek(50)[:50] == STREAM[100_000:100_050]
        assert file.tell() == 100_000
        assert file.read(5) == STREAM[100_000:100_005]
        assert file.seek(3, os.SEEK_CUR) == 100_008
        assert file.seek(-9, os.SEEK_END) == len(STREAM) - 9
        assert read_all(file) == STREAM[-9:]
        file.seek(len(STREAM) + 100)
        assert file.read(1) == b""
        with pytest.raises(ValueError, match="expected a position of at least 0, got -1"):
            file.seek(-1)


def test_blocks_are_read_by_number(tmp_path: Path) -> None:
    with sealed_file(tmp_path / "file") as file:
        assert file.count == len(BLOCKS)
        assert file.check(file.count)
        assert [file.bounds(index) for index in range(file.count)] == list(itertools.pairwise(CUTS))
        assert [file.read_block(index) for index in (4, 2, 0)] == [BLOCKS[4], b"", BLOCKS[0]]
        assert list(file.read_blocks(1, 5)) == BLOCKS[1:5]
        assert file.blocks(0, 5) == range(1)
        assert file.blocks(5, 6) == range(1, 2)
        assert file.blocks(69_999, 100_002) == range(1, 5)
        assert file.blocks(7, 7) == range(0)
        with pytest.raises(IndexError, match="expected a block from 0 to 5, got 6"):
            file.read_block(6)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_give_the_same_bytes(threads: int, tmp_path: Path) -> None:
    blocks = [random.Random(number).randbytes(700) * 300 for number in range(40)]
    path = tmp_path / "file"
    with sealed_file(path, sealed(blocks)) as file:
        file._threads = threads
        assert read_all(file) == b"".join(blocks)
        file.seek(0)
        assert file.read(10) == blocks[0][:10]
        assert read_all(file) == b"".join(blocks)[10:]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    block = bytes(1 << 18)
    data = compress(block)
    path = tmp_path / "file"
    # 200 MiB of stream, in some KiB.
    with sealed_file(path, data * 800 + table([(len(data), len(block))] * 800)) as file:
        file._threads = 2
        buffer = bytearray(1 << 16)
        tracemalloc.start()
        try:
            total = 0
            while count := file.readinto(buffer):
                total += count
            assert total == 800 << 18
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


# Tables that are not right


def wrong_tables() -> dict[str, bytes]:
    stored = [compress(block) for block in BLOCKS]
    entries = [(len(one), len(block)) for one, block in zip(stored, BLOCKS, strict=True)]
    body = b"".join(stored)
    total = len(body)
    moved, halves = list(entries), list(entries)
    moved[1], moved[3] = (moved[1][0], moved[1][1] + 100), (moved[3][0], moved[3][1] - 100)
    halves[0], halves[1] = (halves[0][0] - 1, halves[0][1]), (halves[1][0] + 1, halves[1][1])
    return {
        "sizes that are not those of the blocks": body + table(moved),
        "places that are not those of the frames": body + table(halves),
        "several frames in an entry": body + table([(total, len(STREAM))]),
        "no entries": body + table([]),
        "entries of nothing before the first": body + table([(0, 0), *entries]),
        "more entries than there are bytes": body + table(entries, count=1 << 30),
        "fewer entries than there are": body + table(entries, count=3),
        "reserved bits": body + table(entries, descriptor=4),
        "checksums that are not there": body + table(entries, descriptor=0x80),
        "one block of 4 GiB": body + table([(total, 0xFFFFFFFF)]),
        "too little": body + table(entries[:-1]),
        "a frame that is said to hold nothing": body
        + table([*entries[:-2], (entries[-2][0], 0), (entries[-1][0], len(STREAM) - 100_001)]),
        "another frame to skip behind it": body + table(entries) + struct.pack("<II", 0x184D2A50, 20) + bytes(20),
        "a second one": SEALED + SEALED,
    }


def same_as_without_table(path: Path, data: bytes, expected: bytes) -> None:
    path.write_bytes(data)
    assert payloads_of(path) == reference_payloads(expected)
    for place in (0, 1, 69_999, 200_000, len(expected) - 1, len(expected)):
        with open_file(path) as file:
            if not isinstance(file, SeekableFile):
                return
            file.seek(place)
            assert read_all(file) == expected[place:]
            assert file.size() == len(expected)


def reference_payloads(stream: bytes) -> list[bytes]:
    return PAYLOADS * (len(stream) // len(STREAM))


@in_one_test
@pytest.mark.parametrize("name", wrong_tables())
def test_table_that_is_wrong_changes_no_result(name: str, tmp_path: Path) -> None:
    expected = STREAM * 2 if name == "a second one" else STREAM
    same_as_without_table(tmp_path / "file", wrong_tables()[name], expected)


def test_every_changed_byte_of_the_table_changes_no_result(tmp_path: Path) -> None:
    path = tmp_path / "file"
    begin = len(SEALED) - len(table([(0, 0)] * len(BLOCKS)))
    for at in spread(range(begin, len(SEALED)), 30):
        for change in (0x01, 0x80, 0xFF):
            data = bytearray(SEALED)
            data[at] ^= change
            path.write_bytes(data)
            found = b""
            with open_file(path) as file:
                # A changed magic number or size makes the table a frame of another kind, or none.
                error = raised_by_reading(file)
                if isinstance(file, SeekableFile):
                    assert error is None
                    file.seek(250_000)
                    found = read_all(file)
                    assert found == STREAM[250_000:]


def raised_by_reading(file: Any) -> Exception | None:
    """What reading a file met behind all of the stream; AssertionError if it gave something else."""
    pieces = []
    error = None
    try:
        while piece := file.read(1 << 16):
            pieces.append(piece)
    except (OSError, EOFError) as caught:
        error = caught
    assert b"".join(pieces) == STREAM
    return error


def test_cut_at_any_place_gives_what_is_before_and_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for cut in spread(range(30, len(SEALED)), 50):
        path.write_bytes(SEALED[:cut])
        with StreamReader(path, "crc32") as reader:
            found: list[bytes] = []
            error = raised_by(lambda read=found.extend, source=reader: read(map(bytes, source)))
        assert found == PAYLOADS[: len(found)], cut
        # Of the table, nothing is missed.
        assert isinstance(error, EOFError) or (error is None and len(found) == len(PAYLOADS)), (cut, error)


def test_damaged_block_is_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    stored = [compress(block) for block in BLOCKS]
    at = sum(map(len, stored[:3]))
    for offset in (0, 4, 7, len(stored[3]) // 2, len(stored[3]) - 2):
        data = bytearray(SEALED)
        data[at + offset] ^= 0x55
        path = tmp_path / "file"
        path.write_bytes(data)
        with open_file(path) as file:
            assert isinstance(file, SeekableFile)
            error = raised_by(lambda source=file: read_all(source))
            assert type(error) is OSError
            assert f"{path}: the Zstandard data cannot be decompressed (" in str(error)
            assert f"in the first {at + len(stored[3])} bytes of the file, behind 70000 bytes of the stream" in str(
                error
            )
            file.seek(100_001)
            assert read_all(file) == STREAM[100_001:]
        with SeekableFile(open(path, "rb", buffering=0), str(path), file._table, fill=True) as filled:
            expected = STREAM[:70_000] + b"\xff" * 30_001 + STREAM[100_001:]
            assert read_all(filled) == expected
            assert list(filled.damage) == [3]
            assert filled.size() == len(STREAM)


def test_table_of_a_damaged_file_that_lies_about_what_is_behind(tmp_path: Path) -> None:
    # The first frame is no frame, and the table says that it is a small block: what is behind is read by the table.
    stored = [compress(block) for block in BLOCKS[3:]]
    data = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"junk"
    entries = [(len(data), 3), *((len(one), len(block)) for one, block in zip(stored, BLOCKS[3:], strict=True))]
    path = tmp_path / "file"
    with sealed_file(path, data + b"".join(stored) + table(entries)) as file:
        # What is skipped holds nothing, so the table is wrong, and everything is read from the beginning.
        assert read_all(file) == STREAM[70_000:]
        assert not file.has_table
        assert file.count == 0
        assert raised_by(lambda: file.read_block(0)).__class__ is IndexError
        file.seek(10)
        assert file.read(10) == STREAM[70_010:70_020]


def test_block_of_zeros_is_damage_also_at_the_end(tmp_path: Path) -> None:
    # As a power cut leaves them. They are no padding.
    stored = [compress(block) for block in BLOCKS]
    entries = [(len(one), len(block)) for one, block in zip(stored, BLOCKS, strict=True)]
    for first in (len(stored) - 2, len(stored) - 1):
        zeros = bytes(sum(map(len, stored[first:])))
        path = tmp_path / "file"
        with sealed_file(path, b"".join(stored[:first]) + zeros + table(entries)) as file:
            assert "cannot be decompressed" in str(raised_by(lambda source=file: read_all(source)))
            assert file.has_table
            assert file.size() == len(STREAM)
        # The table is zeros, too.
        path.write_bytes(b"".join(stored[:first]) + zeros + bytes(100))
        assert type(raised_by(lambda source=path: payloads_of(source))) is OSError


def test_table_claims_no_more_than_frames_can_hold(tmp_path: Path) -> None:
    first = compress(b"abc")
    for size, has_table in ((128 << 10, True), (64 << 20, False)):
        path = tmp_path / "file"
        path.write_bytes(first + b"junk" * 10 + table([(len(first), 3)] + [(4, size)] * 10))
        with open_file(path) as file:
            assert isinstance(file, SeekableFile) == has_table


def test_frames_that_reach_into_others_are_not_looked_at_without_end(tmp_path: Path) -> None:
    # Each entry is the beginning of a frame that reaches up to the end, where its checksum is wrong.
    length, count = 10_000, 400
    inner = ((length - 3) << 3).to_bytes(3, "little")
    one = b"\x28\xb5\x2f\xfd\x84\x58" + struct.pack("<I", length * count) + inner
    first = compress(b"abc")
    last = one[:10] + b"\x01\x00\x00" + b"junk"
    body = first + one.ljust(length, b"x") * count + last
    path = tmp_path / "file"
    entries = [(len(first), 3), *[(length, length)] * count, (len(last), 10)]
    with sealed_file(path, body + table(entries)) as file:
        read = 0
        read_at = file._raw.read_at

        def counted(offset: int, size: int) -> bytes:
            nonlocal read
            data = read_at(offset, size)
            read += len(data)
            return data

        file._raw.read_at = counted  # type: ignore[method-assign]
        assert not file.check(file.count)
        # It would be 800 MB.
        assert 1 << 20 < read < 64 << 20


# Files of others


@in_one_test
@pytest.mark.parametrize("size", [1000, 100_000, 1 << 30])
def test_file_of_pyzstd_is_read_from_any_place(size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pyzstd.SeekableZstdFile(path, "w", max_frame_content_size=size) as writer:
        writer.write(STREAM)
    same_as_without_table(path, path.read_bytes(), STREAM)
    with sealed_file(path, path.read_bytes()) as file:
        file.seek(250_000)
        assert file.read(10) == STREAM[250_000:250_010]


def test_frames_that_do_not_say_their_size(tmp_path: Path) -> None:
    stored = [compress_without_size(block) for block in BLOCKS if block]
    assert zstd.get_frame_info(stored[1]).decompressed_size is None
    sizes = [len(block) for block in BLOCKS if block]
    good = b"".join(stored) + table([(len(one), size) for one, size in zip(stored, sizes, strict=True)])
    same_as_without_table(tmp_path / "file", good, STREAM)
    with sealed_file(tmp_path / "file", good) as file:
        file.seek(300_001)
        assert file.read(9) == STREAM[300_001:300_010]
        assert file.has_table
    sizes[0], sizes[1] = sizes[0] + 1, sizes[1] - 1
    wrong = b"".join(stored) + table([(len(one), size) for one, size in zip(stored, sizes, strict=True)])
    same_as_without_table(tmp_path / "file", wrong, STREAM)


def test_frame_of_very_many_parts_is_decompressed_to_see_where_it_ends(tmp_path: Path) -> None:
    # Nobody else makes thousands of parts of some bytes.
    compressor = zstd.ZstdCompressor()
    many = b"".join(compressor.compress(STREAM[at : at + 30], compressor.FLUSH_BLOCK) for at in range(0, 60_000, 30))
    many += compressor.flush(compressor.FLUSH_FRAME)
    last = compress(STREAM[60_000:])
    good = many + last + table([(len(many), 60_000), (len(last), len(STREAM) - 60_000)])
    with sealed_file(tmp_path / "file", good) as file:
        assert file.check(2)
        file.seek(60_001)
        assert file.read(5) == STREAM[60_001:60_006]
    for wrong in ([(len(many) + len(last), 60_000)], [(len(many), 60_001), (len(last), len(STREAM) - 60_001)]):
        same_as_without_table(tmp_path / "file", many + last + table(wrong), STREAM)


def test_file_that_begins_with_frames_to_skip_is_recognized(tmp_path: Path) -> None:
    skipped = b"\x5d\x2a\x4d\x18" + struct.pack("<I", 300) + bytes(300)
    path = tmp_path / "file"
    for data in (
        skipped + compress(STREAM),
        skipped * 3 + compress(STREAM[:100]) + skipped + compress(STREAM[100:]),
        skipped + SEALED[: -len(table([(0, 0)] * len(BLOCKS)))]
        + table([(len(skipped), 0), *((len(compress(block)), len(block)) for block in BLOCKS)]),
    ):  # fmt: skip
        path.write_bytes(data)
        assert payloads_of(path) == PAYLOADS
        assert detect(path).checksum is flatstream.ChecksumType.CRC32
    import lz4.frame

    path.write_bytes(skipped + lz4.frame.compress(STREAM))
    assert payloads_of(path) == PAYLOADS
    # Something else behind them, or nothing, or more of them than anybody writes.
    for other in (skipped + b"something else", skipped, skipped[:100], skipped * 17 + compress(STREAM)):
        path.write_bytes(other)
        with open_file(path) as file:
            assert not hasattr(file, "format")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_reading_goes_on_in_a_forked_child(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(sealed([bytes([number]) * 100_000 for number in range(60)]))
    done = run_python(f"""
import os
from flatstream._endpoints import open_file
file = open_file({str(path)!r})
file._threads = 2
buffer = bytearray(100_000)
total = sum(file.readinto(buffer) for _ in range(3))
child = os.fork()
while count := file.readinto(buffer):
    total += count
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(total)
else:
    os._exit(0 if total == 6_000_000 else 1)
""")
    assert done.stdout.strip() == "6000000", done

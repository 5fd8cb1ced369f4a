"""CRCs of ranges that are calculated from those of the bytes before their ends."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import pytest

from flatstream._core.checksums.crc_ranges import crcs_of_ranges
from reference.framing import crc16_xmodem, crc32c_iscsi, crc64_xz
from support.extent import in_one_test

REFERENCES: dict[str, Callable[[bytes], int]] = {
    "crc16": crc16_xmodem,
    "crc32": zlib.crc32,
    "crc32c": crc32c_iscsi,
    "crc64": crc64_xz,
}


@in_one_test
@pytest.mark.parametrize("name", REFERENCES)
def test_ranges_of_all_kinds_of_sizes_have_the_crc_of_their_bytes(name: str) -> None:
    generator = random.Random(3)
    data = generator.randbytes(9000)
    edges = (0, 1, 255, 256, 257, 511, 512, 513, 2047, 2048, 2049, 4096, 8999, 9000)
    ranges = [(begin, end) for begin in edges for end in edges if begin <= end]
    ranges += [(0, size) for size in range(500, 530)] + [(7, 7 + size) for size in range(2040, 2060)]
    expected = [REFERENCES[name](data[begin:end]) for begin, end in ranges]
    assert crcs_of_ranges(data, name, ranges) == expected


def test_long_ranges_have_the_crc_of_their_bytes() -> None:
    # From 4 MiB on, sizes have three digits.
    data = random.Random(4).randbytes((8 << 20) + 77)
    ranges = [(0, len(data)), (5, 4 << 20), (3, (4 << 20) + 3), (1001, (8 << 20) + 1), (256, (4 << 20) + 2048 + 256)]
    assert crcs_of_ranges(data, "crc32", ranges) == [zlib.crc32(data[begin:end]) for begin, end in ranges]


@pytest.mark.parametrize("size", [0, 1, 600])
def test_ranges_outside_of_the_data_are_refused(size: int) -> None:
    data = bytes(size)
    assert crcs_of_ranges(data, "crc32", [(0, size), (size, size)]) == [zlib.crc32(data), 0]
    for begin, end in ((-1, 0), (0, size + 1), (size + 1, size + 1), (1, 0)):
        with pytest.raises(ValueError, match="does not lie in"):
            crcs_of_ranges(data, "crc32", [(begin, end)])


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="xxhash64"):
        crcs_of_ranges(b"abc", "xxhash64", [])

"""The checksum kernels, called directly: `crc.crc16`, `crc32`, `crc32c`, `crc64` and `xxh3.xxh3_64`.

These functions take typed memoryviews, so a kernel is tested here without a checksum class, a frame or a stream. The
code path is chosen at import, so a process of its own runs each: the paths of the CRCs that this processor supports,
and both implementations of XXH3. Every process calculates, for each function:

- every length from 0 to 300 at every alignment from 0 to 63;
- a message of 300 bytes, split in two at every byte (the CRCs only);
- large messages, smaller and larger than the size from which the GIL is released.

The values are compared with binascii, zlib, google-crc32c, fastcrc and the public function of xxhash.
"""

from __future__ import annotations

import array
import binascii
import functools
import json
import mmap
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import fastcrc
import google_crc32c
import numpy as np
import pytest
import xxhash

from flatstream import Crc16, Crc32, Crc32c, Crc64, XxHash64
from flatstream._core.checksums import crc, xxh3
from support.extent import in_one_test

ORACLES: dict[str, Callable[[bytes], int]] = {
    "crc16": lambda data: binascii.crc_hqx(data, 0),
    "crc32": zlib.crc32,
    "crc32c": google_crc32c.value,
    "crc64": fastcrc.crc64.xz,
    "xxh3_64": xxhash.xxh3_64_intdigest,
}
CRC_DOORS: dict[str, Callable[..., int]] = {
    "crc16": crc.crc16,
    "crc32": crc.crc32,
    "crc32c": crc.crc32c,
    "crc64": crc.crc64,
}
DOORS: dict[str, Callable[..., int]] = {**CRC_DOORS, "xxh3_64": xxh3.xxh3_64}
CLASSES: dict[str, type[Any]] = {
    "crc16": Crc16,
    "crc32": Crc32,
    "crc32c": Crc32c,
    "crc64": Crc64,
    "xxh3_64": XxHash64,
}

every_door = pytest.mark.parametrize("name", DOORS)
every_crc_door = pytest.mark.parametrize("name", CRC_DOORS)

LONGEST = 300
ALIGNMENTS = 64
# From this size on, the GIL is released: RELEASE_FROM of flatstream/_core/checksums/kernel.pxd.
RELEASE_FROM = 262_144
LARGE = [4096, 65_537, RELEASE_FROM - 1, RELEASE_FROM, RELEASE_FROM + 1, 3_000_001]
NOISE = random.Random(20240518).randbytes(max(LARGE))

# One process for each path of the CRCs, and one for each implementation of XXH3.
EVERY_WAY = [
    *((name, "FLATSTREAM_CRC", path) for name in CRC_DOORS for path in crc.available_paths()),
    ("xxh3_64", "FLATSTREAM_XXH3", ""),
    ("xxh3_64", "FLATSTREAM_XXH3", "python"),
]
every_way = pytest.mark.parametrize(("name", "variable", "setting"), EVERY_WAY)
every_crc_way = pytest.mark.parametrize(
    ("name", "variable", "setting"), [way for way in EVERY_WAY if way[0] in CRC_DOORS]
)

SCRIPT = """
import json, mmap, random, sys
from flatstream._core.checksums import crc, xxh3

plan = json.load(sys.stdin)
noise = random.Random(20240518).randbytes(max(plan["large"]))
found = {"crc_path": crc.PATH, "xxh3_kernel": xxh3.KERNEL_NAME}
for name in plan["names"]:
    door = getattr(crc, name, None) or getattr(xxh3, name)
    prefixes = plan["prefixes"][name]
    longest = len(prefixes) - 1
    # A mapping begins at a page, so offsets in it are alignments.
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    compared, wrong, split, wrong_splits = 0, [], 0, []
    for alignment in range(plan["alignments"]):
        memory[:] = bytes([alignment + 1]) * mmap.PAGESIZE
        memory[alignment : alignment + longest] = noise[:longest]
        with memoryview(memory) as whole, whole[alignment : alignment + longest] as message:
            for length, expected in enumerate(prefixes):
                if door(message[:length]) != expected:
                    wrong.append([alignment, length])
                compared += 1
            for cut in range(longest + 1) if name.startswith("crc") else ():
                if door(message[cut:], prefixes[cut]) != prefixes[longest]:
                    wrong_splits.append([alignment, cut])
                if door(message[cut:], door(message[:cut])) != prefixes[longest]:
                    wrong_splits.append([alignment, cut])
                split += 1
    found[name] = {
        "compared": compared, "wrong": wrong[:20], "split": split, "wrong_splits": wrong_splits[:20],
        "large": [door(noise[:size]) for size in plan["large"]],
        "large_split": [
            door(memoryview(noise)[size // 3 : size], door(memoryview(noise)[: size // 3])) for size in plan["large"]
        ] if name.startswith("crc") else [],
    }
json.dump(found, sys.stdout)
"""


@functools.cache
def run_doors(variable: str, setting: str) -> dict[str, Any]:
    """Runs every function that the environment variable concerns, in a process of its own."""
    names = list(CRC_DOORS) if variable == "FLATSTREAM_CRC" else ["xxh3_64"]
    plan = {
        "names": names,
        "alignments": ALIGNMENTS,
        "large": LARGE,
        "prefixes": {name: [ORACLES[name](NOISE[:length]) for length in range(LONGEST + 1)] for name in names},
    }
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {variable: setting},
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# Values


@in_one_test
@every_way
def test_every_length_to_300_at_every_alignment_agrees_with_the_oracle(name, variable, setting):
    found = run_doors(variable, setting)[name]
    assert (found["compared"], found["wrong"]) == (ALIGNMENTS * (LONGEST + 1), [])


@in_one_test
@every_crc_way
def test_message_split_at_every_byte_has_the_value_of_the_whole(name, variable, setting):
    found = run_doors(variable, setting)[name]
    assert (found["split"], found["wrong_splits"]) == (ALIGNMENTS * (LONGEST + 1), [])


@in_one_test
@every_way
def test_large_message_agrees_with_the_oracle(name, variable, setting):
    assert run_doors(variable, setting)[name]["large"] == [ORACLES[name](NOISE[:size]) for size in LARGE]


@in_one_test
@every_crc_way
def test_large_message_split_in_two_agrees_with_the_oracle(name, variable, setting):
    assert run_doors(variable, setting)[name]["large_split"] == [ORACLES[name](NOISE[:size]) for size in LARGE]


@in_one_test
@pytest.mark.parametrize("path", crc.available_paths())
def test_requested_path_is_the_one_that_ran(path):
    assert run_doors("FLATSTREAM_CRC", path)["crc_path"] == path


def test_requested_implementation_of_xxh3_is_the_one_that_ran():
    assert run_doors("FLATSTREAM_XXH3", "python")["xxh3_kernel"] == ""
    # Empty, too, where the xxhash package hides its C functions.
    assert run_doors("FLATSTREAM_XXH3", "")["xxh3_kernel"] in ("", "XXH3_64bits", "XXH3_64bits_dispatch")


@in_one_test
@every_door
def test_value_is_that_of_the_checksum_class(name):
    for size in (0, 1, 9, 31, 32, 300, RELEASE_FROM):
        assert DOORS[name](NOISE[:size]) == CLASSES[name]().calculate(NOISE[:size])


@in_one_test
@every_crc_door
def test_extended_value_is_that_of_the_checksum_class(name):
    for value in (0, 1, 0xABCD):
        for size in (0, 1, 9, 31, 32, 300, RELEASE_FROM):
            assert DOORS[name](NOISE[:size], value) == CLASSES[name]().extend(value, NOISE[:size])


# Empty memory

EMPTY: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"",
    "bytearray": bytearray,
    "memoryview": lambda: memoryview(b"abc")[3:],
    "array": lambda: array.array("B"),
    "numpy": lambda: np.zeros(0, np.uint8),
}


@in_one_test
@pytest.mark.parametrize("kind", EMPTY)
@every_door
def test_empty_memory_has_the_value_of_no_bytes(name, kind):
    assert DOORS[name](EMPTY[kind]()) == ORACLES[name](b"")


@in_one_test
@every_crc_door
def test_value_extended_by_empty_memory_stays(name):
    width = 8 * CLASSES[name].size
    for value in (0, 1, 2 ** (width - 1), 2**width - 1):
        assert DOORS[name](b"", value) == value


# Memory that is accepted

ACCEPTED: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "read_only_memoryview": lambda data: memoryview(bytearray(data)).toreadonly(),
    "array": lambda data: array.array("B", data),
    "numpy": lambda data: np.array(list(data), np.uint8),
    "read_only_numpy": lambda data: np.frombuffer(data, np.uint8),
    "contiguous_slice": lambda data: memoryview(b"xy" + data + b"z")[2:-1],
}


@in_one_test
@pytest.mark.parametrize("kind", ACCEPTED)
@every_door
def test_contiguous_unsigned_bytes_are_accepted(name, kind):
    data = NOISE[:77]
    assert DOORS[name](ACCEPTED[kind](data)) == ORACLES[name](data)


@in_one_test
@every_door
def test_mapped_file_is_accepted_read_only_or_writable(name, tmp_path):
    path = tmp_path / "mapped"
    path.write_bytes(NOISE[:5000])
    for access in (mmap.ACCESS_READ, mmap.ACCESS_COPY):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=access) as mapped:
            assert DOORS[name](mapped) == ORACLES[name](NOISE[:5000])


@in_one_test
@every_door
def test_memory_is_released_after_the_call(name):
    for size in (3, RELEASE_FROM):
        data = bytearray(NOISE[:size])
        DOORS[name](data)
        # Raises BufferError while a view of it exists.
        data.append(0)


@in_one_test
@every_door
def test_data_may_be_passed_by_name(name):
    assert DOORS[name](data=b"123456789") == ORACLES[name](b"123456789")


# Memory that is refused


@in_one_test
@every_door
def test_none_raises_type_error(name):
    with pytest.raises(TypeError, match=r"^Argument 'data' must not be None$"):
        DOORS[name](None)


@in_one_test
@pytest.mark.parametrize("data", ["text", 7, [1, 2], object()], ids=["str", "int", "list", "object"])
@every_door
def test_object_without_a_buffer_raises_type_error(name, data):
    with pytest.raises(TypeError, match="a bytes-like object is required, not "):
        DOORS[name](data)


STRIDED: dict[str, Any] = {
    "memoryview": memoryview(b"abcdef")[::2],
    "backwards": memoryview(b"abcdef")[::-1],
    "numpy": np.arange(10, dtype=np.uint8)[::2],
    "numpy_backwards": np.arange(10, dtype=np.uint8)[::-1],
    "numpy_column": np.zeros((4, 4), np.uint8)[:, 1],
}


@in_one_test
@pytest.mark.parametrize("kind", STRIDED)
@every_door
def test_strided_memory_is_refused(name, kind):
    # NumPy raises ValueError where memoryview raises BufferError.
    with pytest.raises((BufferError, ValueError), match="not C-contiguous"):
        DOORS[name](STRIDED[kind])


OTHER_ITEMS: dict[str, Any] = {
    "int8": np.zeros(4, np.int8),
    "uint16": np.zeros(4, np.uint16),
    "int64": np.zeros(4, np.int64),
    "float32": np.zeros(4, np.float32),
    "float64": np.zeros(4, np.float64),
    "empty_float64": np.zeros(0, np.float64),
    "array_of_ints": array.array("i", [1, 2]),
    "memoryview_of_signed_bytes": memoryview(b"abcd").cast("b"),
    "memoryview_of_shorts": memoryview(b"abcd").cast("H"),
}


@in_one_test
@pytest.mark.parametrize("kind", OTHER_ITEMS)
@every_door
def test_items_that_are_not_unsigned_bytes_are_refused(name, kind):
    with pytest.raises(ValueError, match="Buffer dtype mismatch, expected 'const unsigned char' but got "):
        DOORS[name](OTHER_ITEMS[kind])


DIMENSIONS: dict[str, Any] = {
    "numpy_0": np.zeros((), np.uint8),
    "numpy_2": np.zeros((2, 2), np.uint8),
    "memoryview_2": memoryview(b"abcd").cast("B", [2, 2]),
}


@in_one_test
@pytest.mark.parametrize("kind", DIMENSIONS)
@every_door
def test_memory_of_no_or_several_dimensions_is_refused(name, kind):
    with pytest.raises(ValueError, match="Buffer has wrong number of dimensions"):
        DOORS[name](DIMENSIONS[kind])


@in_one_test
@every_door
def test_released_memoryview_is_refused(name):
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="released"):
        DOORS[name](view)


# The value to extend


@in_one_test
@pytest.mark.parametrize(
    "value",
    [None, "1", b"\x01", 1.0, 1.5, True, [1], np.float64(1)],
    ids=["none", "str", "bytes", "float", "fraction", "bool", "list", "numpy"],
)
@every_crc_door
def test_value_that_is_not_an_int_raises_type_error(name, value):
    with pytest.raises(TypeError, match=f"^value must be an int, got {type(value).__name__}"):
        DOORS[name](b"abc", value)


@in_one_test
@every_crc_door
def test_value_outside_the_width_of_the_crc_raises_value_error(name):
    size = CLASSES[name].size
    for value in (-1, -(2**64), 2 ** (8 * size), 2 ** (8 * size) + 1, 2**64, 2**100):
        with pytest.raises(ValueError, match=rf"^value must be a checksum of {size} bytes, got {value}$"):
            DOORS[name](b"abc", value)


@in_one_test
@every_crc_door
def test_memory_is_released_if_the_value_is_refused(name):
    data = bytearray(3)
    with pytest.raises(ValueError, match="value must be a checksum"):
        DOORS[name](data, -1)
    data.append(0)

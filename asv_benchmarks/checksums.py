"""Checksums: each kernel beside the library commonly used for it.

K1, K2, K3 and K5 of the performance goals. A sample calculates the checksum of the same bytes repeatedly, over 16 MiB
in total. Up to 64 KiB, the bytes come from the processor's caches; 16 MiB come from the shared cache or from memory.
"""

from __future__ import annotations

import binascii
import json
import os
import random
import subprocess
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable

import fastcrc
import google_crc32c
import xxhash
from isal import isal_zlib

import flatstream
from flatstream._core.checksums import crc, xxh3

from .common import Benchmark, NullSink

KERNEL_SIZES = [64, 4096, 64 * 1024, 16 * 1024 * 1024]
BYTES_PER_SAMPLE = 16 * 1024 * 1024

# Independent implementations of the kernels that `Doors` calls.
DOOR_ORACLES: dict[str, Callable[[bytes], int]] = {
    "crc16": lambda data: binascii.crc_hqx(data, 0),
    "crc32": zlib.crc32,
    "crc32c": google_crc32c.value,
    "crc64": fastcrc.crc64.xz,
    "xxh3_64": xxhash.xxh3_64_intdigest,
}


class Kernel(Benchmark, ABC):
    """One checksum of `size` bytes, many times."""

    param_names = ("size",)
    params = (KERNEL_SIZES,)

    def setup(self, size: int) -> None:
        # Random, because all pages of a block of zeros can be the same physical page.
        self.data = random.Random(size).randbytes(size)
        self.times = self.units(size) // size
        self.expected = self.independent(self.data)

    def units(self, size: int) -> int:
        """The number of bytes per sample."""
        return max(min(BYTES_PER_SAMPLE, size * 20_000), size)

    @abstractmethod
    def independent(self, data: bytes) -> int:
        """The value from an independent implementation."""

    def repeat_calculation(self, calculate: Callable[[bytes], int], expected: int) -> None:
        """Calculates the same checksum `times` times."""
        data = self.data
        for _ in range(self.times):
            value = calculate(data)
        assert value == expected


class Crc32(Kernel):
    """CRC-32/ISO-HDLC (K1)."""

    def independent(self, data: bytes) -> int:
        return zlib.crc32(data)

    def time_flatstream(self, size: int) -> None:
        self.repeat_calculation(flatstream.Crc32().calculate, self.expected)

    def time_isal(self, size: int) -> None:
        self.repeat_calculation(isal_zlib.crc32, self.expected)

    def time_zlib(self, size: int) -> None:
        self.repeat_calculation(zlib.crc32, self.expected)


class Crc16(Kernel):
    """CRC-16/XMODEM (K2)."""

    def units(self, size: int) -> int:
        # Fewer bytes, because the yardstick takes 2.4 ns per byte.
        return max(super().units(size) // 16, size)

    def independent(self, data: bytes) -> int:
        return binascii.crc_hqx(data, 0)

    def time_flatstream(self, size: int) -> None:
        self.repeat_calculation(flatstream.Crc16().calculate, self.expected)

    def time_crc_hqx(self, size: int) -> None:
        self.repeat_calculation(lambda data: binascii.crc_hqx(data, 0), self.expected)


class Crc64(Kernel):
    """CRC-64/XZ beside isal's CRC-32 (K3)."""

    def setup(self, size: int) -> None:
        super().setup(size)
        self.expected_crc32 = zlib.crc32(self.data)

    def independent(self, data: bytes) -> int:
        return int(fastcrc.crc64.xz(data))

    def time_flatstream(self, size: int) -> None:
        self.repeat_calculation(flatstream.Crc64().calculate, self.expected)

    def time_isal_crc32(self, size: int) -> None:
        self.repeat_calculation(isal_zlib.crc32, self.expected_crc32)


class Crc32c(Kernel):
    """CRC-32C beside google-crc32c (K3)."""

    def independent(self, data: bytes) -> int:
        return int(fastcrc.crc32.iscsi(data))

    def time_flatstream(self, size: int) -> None:
        self.repeat_calculation(flatstream.Crc32c().calculate, self.expected)

    def time_google_crc32c(self, size: int) -> None:
        self.repeat_calculation(google_crc32c.value, self.expected)


class XxHash64(Kernel):
    """XXH3-64 beside the package that provides it: the cost of a call."""

    def independent(self, data: bytes) -> int:
        return xxhash.xxh3_64_intdigest(data)

    def time_flatstream(self, size: int) -> None:
        self.repeat_calculation(flatstream.XxHash64().calculate, self.expected)

    def time_xxhash(self, size: int) -> None:
        self.repeat_calculation(xxhash.xxh3_64_intdigest, self.expected)


class Doors(Benchmark):
    """A kernel called directly, without a checksum class or a stream: one typed memoryview, then the kernel.

    For small sizes the difference from the classes above is the cost of the typed view; for large sizes it is noise.
    """

    param_names = ("kernel", "size")
    params = (["crc16", "crc32", "crc32c", "crc64", "xxh3_64"], KERNEL_SIZES)

    def setup(self, kernel: str, size: int) -> None:
        self.data = random.Random(size).randbytes(size)
        self.times = max(min(BYTES_PER_SAMPLE, size * 20_000), size) // size
        self.door = xxh3.xxh3_64 if kernel == "xxh3_64" else getattr(crc, kernel)
        self.expected = DOOR_ORACLES[kernel](self.data)

    def time_call_kernel(self, kernel: str, size: int) -> None:
        door, data = self.door, self.data
        for _ in range(self.times):
            value = door(data)
        assert value == self.expected


class ShortPayloads(Benchmark):
    """The cost of a checksum in `write_payloads` for short payloads, where it is most of the work.

    Some sizes are multiples of 16 and some are not, because folding processes 16 bytes at a time.
    """

    param_names = ("checksum", "size")
    params = (["none", "crc16", "crc32", "crc32c", "crc64", "xxhash64"], [8, 12, 16, 24, 31, 32, 60, 64, 100, 128, 300])
    count = 50_000

    def setup(self, checksum: str, size: int) -> None:
        self.payloads = [random.Random(size).randbytes(size)] * self.count

    def time_write_payloads(self, checksum: str, size: int) -> None:
        sink = NullSink()
        with flatstream.StreamWriter(sink, checksum) as writer:
            writer.write_payloads(self.payloads)
        header = 4 + flatstream.ChecksumType(checksum).checksum().size
        assert sink.taken == self.count * (header + size)


# The import of the package chooses the implementation of the CRCs, so the portable one is measured in a separate
# process, together with its yardstick.
PORTABLE = """
import json, random, sys, time, zlib
import flatstream
from flatstream._core.checksums import crc

name, size, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
assert crc.PATH == "portable", crc.PATH
data = random.Random(size).randbytes(size)
calculate = flatstream.ChecksumType(name).checksum().calculate
expected = calculate(data)


def best_of(function, expected):
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        value = function(data)
        times.append(time.perf_counter() - begin)
        assert value == expected
    return min(times)


print(json.dumps({"portable": best_of(calculate, expected), "zlib": best_of(zlib.crc32, zlib.crc32(data))}))
"""


class Portable(Benchmark):
    """The CRCs without special instructions, as a share of zlib's speed (K5)."""

    param_names = ("checksum",)
    params = (["crc16", "crc32", "crc32c", "crc64"],)
    unit = "times zlib.crc32's speed"
    size = 1024 * 1024

    def setup(self, checksum: str) -> None:
        self.repeats = 50

    def track_speed_beside_zlib(self, checksum: str) -> float:
        times = self.measure(checksum)
        return times["zlib"] / times["portable"]

    def measure(self, checksum: str) -> dict[str, float]:
        """Seconds for `size` bytes: {"portable": ..., "zlib": ...}."""
        result = subprocess.run(
            [sys.executable, "-c", PORTABLE, checksum, str(self.size), str(self.repeats)],
            env=os.environ | {"FLATSTREAM_CRC": "portable"},
            capture_output=True,
            text=True,
            check=True,
        )
        times: dict[str, float] = json.loads(result.stdout)
        return times

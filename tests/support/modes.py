"""The checksum modes.

``MODES`` are by name, the names of `reference.framing.ALGORITHMS`: "none", "crc16", "crc32", "crc32c", "crc64",
"xxhash64", and "sum24", a checksum of three bytes written in Python. ``@every_mode`` gives a test each of them as
``mode``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import flatstream
from flatstream import (
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumType,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    Framer,
)


class Sum24(Checksum):
    """A checksum of three bytes, written in Python: each byte times its place, counted from 1, all added up."""

    size = 3

    def calculate(self, payload: Any) -> int:
        return sum(place * byte for place, byte in enumerate(bytes(payload), 1))


@dataclass(frozen=True)
class Mode:
    """One way to protect payloads; `name` is that of the reference's algorithm, `size` its bytes in a frame."""

    name: str
    checksum: Callable[[], Checksum]
    size: int
    checksum_type: ChecksumType | None

    def framer(self) -> Framer:
        return DefaultFramer() if self.name == "none" else ChecksumFramer(self.checksum())

    def deframer(self, **options: Any) -> Deframer:
        """`options` are ``max_frame_len`` and ``allow_empty``."""
        return DefaultDeframer(**options) if self.name == "none" else ChecksumDeframer(self.checksum(), **options)


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("none", flatstream.NoChecksum, 0, ChecksumType.NONE),
        Mode("crc16", flatstream.Crc16, 2, ChecksumType.CRC16),
        Mode("crc32", flatstream.Crc32, 4, ChecksumType.CRC32),
        Mode("crc32c", flatstream.Crc32c, 4, ChecksumType.CRC32C),
        Mode("crc64", flatstream.Crc64, 8, ChecksumType.CRC64),
        Mode("xxhash64", flatstream.XxHash64, 8, ChecksumType.XXHASH64),
        Mode("sum24", Sum24, 3, None),
    )
}


every_mode = pytest.mark.parametrize("mode", [pytest.param(mode, id=name) for name, mode in MODES.items()])

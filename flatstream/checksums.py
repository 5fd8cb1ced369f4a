"""Checksums: stored in a frame with its payload, to detect damage."""

from __future__ import annotations

import enum

from flatstream._core.checksums.checksum import Checksum, Crc16, Crc32, Crc32c, Crc64, NoChecksum, XxHash64

__all__ = ["Checksum", "ChecksumType", "Crc16", "Crc32", "Crc32c", "Crc64", "NoChecksum", "XxHash64", "as_checksum"]


class ChecksumType(enum.Enum):
    """The built-in checksums by name: accepted by `open`, `StreamWriter`, `StreamReader`, `recover` and `recover_file`.

    Where an instance is needed, as in `ChecksumFramer`, pass ``ChecksumType.CRC32.checksum()``.

    Examples
    --------
    >>> ChecksumType("crc32") is ChecksumType.CRC32
    True
    >>> ChecksumType.CRC32.checksum()
    Crc32()
    """

    NONE = "none"
    CRC16 = "crc16"
    CRC32 = "crc32"
    CRC32C = "crc32c"
    CRC64 = "crc64"
    XXHASH64 = "xxhash64"

    def checksum(self) -> Checksum:
        """A new instance of the checksum."""
        return _CLASSES[self]()


_CLASSES: dict[ChecksumType, type[Checksum]] = {
    ChecksumType.NONE: NoChecksum,
    ChecksumType.CRC16: Crc16,
    ChecksumType.CRC32: Crc32,
    ChecksumType.CRC32C: Crc32c,
    ChecksumType.CRC64: Crc64,
    ChecksumType.XXHASH64: XxHash64,
}


def as_checksum(value: Checksum | ChecksumType | str | None) -> Checksum:
    """Converts `value` to a checksum.

    Parameters
    ----------
    value : Checksum, ChecksumType, str or None
        A checksum, a built-in checksum by its ChecksumType or name ("crc32"), or None for no checksum.

    Raises
    ------
    TypeError
        `value` has another type.
    ValueError
        `value` is an unknown name.
    """
    if isinstance(value, Checksum):
        return value
    if value is None:
        return NoChecksum()
    if isinstance(value, str):
        try:
            value = ChecksumType(value)
        except ValueError:
            names = ", ".join(repr(member.value) for member in ChecksumType)
            raise ValueError(f"unknown checksum {value!r}: expected one of {names}") from None
    if isinstance(value, ChecksumType):
        return value.checksum()
    raise TypeError(f"expected a Checksum, a ChecksumType, its name or None, got {value!r:.100}")

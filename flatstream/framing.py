"""Framers and deframers, and the adapters that wrap them."""

from __future__ import annotations

from flatstream._core.checksums.checksum import Checksum, NoChecksum
from flatstream._core.framing.deframer import (
    BoundedDeframer,
    ChecksumDeframer,
    DefaultDeframer,
    Deframer,
    FrameSpan,
    NonEmptyDeframer,
    ObserverDeframer,
    ValidatingDeframer,
)
from flatstream._core.framing.framer import (
    BoundedFramer,
    ChecksumFramer,
    DefaultFramer,
    Framer,
    ObserverFramer,
    ValidatingFramer,
)
from flatstream._core.framing.transform import TransformDeframer, TransformFramer
from flatstream.checksums import ChecksumType, as_checksum

__all__ = [
    "BoundedDeframer",
    "BoundedFramer",
    "ChecksumDeframer",
    "ChecksumFramer",
    "DefaultDeframer",
    "DefaultFramer",
    "Deframer",
    "FrameSpan",
    "Framer",
    "ObserverDeframer",
    "ObserverFramer",
    "TransformDeframer",
    "TransformFramer",
    "ValidatingDeframer",
    "ValidatingFramer",
    "as_deframer",
    "as_framer",
    "checksum_of",
    "deframer_for",
    "framer_for",
]


def framer_for(checksum: Checksum | ChecksumType | str | None) -> Framer:
    """The built-in framer that stores `checksum` (see `as_checksum`)."""
    algorithm = as_checksum(checksum)
    return DefaultFramer() if type(algorithm) is NoChecksum else ChecksumFramer(algorithm)


def deframer_for(checksum: Checksum | ChecksumType | str | None) -> Deframer:
    """The built-in deframer that compares `checksum` (see `as_checksum`)."""
    algorithm = as_checksum(checksum)
    return DefaultDeframer() if type(algorithm) is NoChecksum else ChecksumDeframer(algorithm)


def checksum_of(deframer: Deframer) -> Checksum | None:
    """The checksum of the frames that a deframer finds; None if a deframer written in Python decides that."""
    while type(deframer) in (
        BoundedDeframer,
        NonEmptyDeframer,
        ObserverDeframer,
        ValidatingDeframer,
    ) or isinstance(deframer, TransformDeframer):
        deframer = deframer.inner  # type: ignore[attr-defined]
    if type(deframer) is ChecksumDeframer:
        return deframer.checksum
    return NoChecksum() if type(deframer) is DefaultDeframer else None


def as_framer(value: Framer | Checksum | ChecksumType | str | None) -> Framer:
    """`value` if it is a framer; otherwise the built-in framer for a checksum, a ChecksumType or its name, or None.

    Raises
    ------
    TypeError, ValueError
        `value` is none of these, or an unknown name.
    """
    if isinstance(value, Framer):
        return value
    if value is None or isinstance(value, (Checksum, ChecksumType, str)):
        return framer_for(value)
    raise TypeError(
        f"framer must be an instance of Framer or Checksum, a ChecksumType, its name or None, got {value!r:.100}"
    )


def as_deframer(value: Deframer | Checksum | ChecksumType | str | None, *, allow_empty: bool | None = None) -> Deframer:
    """`value` if it is a deframer; otherwise the built-in deframer for a checksum, a ChecksumType or its name, or None.

    With ``allow_empty=False`` it refuses empty payloads. A deframer that refuses them by itself goes on doing so.

    Raises
    ------
    TypeError, ValueError
        `value` is none of these, or an unknown name.
    """
    if allow_empty is not None and not isinstance(allow_empty, bool):
        raise TypeError(f"allow_empty must be a bool or None, got {allow_empty!r:.100}")
    if isinstance(value, Deframer):
        return value if allow_empty is not False else NonEmptyDeframer(value)
    if value is None or isinstance(value, (Checksum, ChecksumType, str)):
        return deframer_for(value) if allow_empty is not False else NonEmptyDeframer(deframer_for(value))
    raise TypeError(
        f"deframer must be an instance of Deframer or Checksum, a ChecksumType, its name or None, got {value!r:.100}"
    )

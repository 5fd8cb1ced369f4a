"""How each message of a new stream is compressed: as an argument says, or as in the source."""

from __future__ import annotations

from typing import Any

from flatstream.framing import Framer
from flatstream.tools.conversion._options import ArgumentError, Known
from flatstream.transforms.compressors import (
    Compressor,
    Lz4Compressor,
    ZstdCompressor,
    check_compressor,
    train_dictionary,
)
from flatstream.transforms.described import ENCRYPTION, framer_with

__all__ = ["SAMPLE_BYTES", "Compression", "as_compression", "compressed"]

# A dictionary is trained from so many bytes of messages at the beginning: 200 times as many as it has.
SAMPLE_BYTES = 1 << 20

EXPECTED = (
    "expected 'none', 'lz4' or 'zstd', with a level as in 'zstd:9', and for zstd with a dictionary as in 'zstd:9:dict'"
)


class Compression:
    """A compressor, or the request for one with a dictionary that is trained from messages.

    Attributes
    ----------
    compressor : Compressor or None
        None: messages are stored as they are.
    trains : bool
        Whether a dictionary is to be trained.
    """

    def __init__(self, compressor: Compressor | None, *, trains: bool = False) -> None:
        self.compressor = compressor
        self.trains = trains

    def trained(self, messages: list[bytes]) -> Compression:
        """The same with a dictionary from these messages; without one if they are too few."""
        assert isinstance(self.compressor, ZstdCompressor)
        try:
            return Compression(ZstdCompressor(self.compressor.level, train_dictionary(messages)))
        except ValueError:
            return Compression(self.compressor)


def as_compression(value: Any) -> Compression | None:
    """What a `Compressor` or a text such as "zstd:9:dict" asks for; None for None.

    Raises
    ------
    ArgumentError
        It is no such text.
    TypeError, ImportError
        It is neither; a package is not installed.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        return Compression(check_compressor(value))
    method, *rest = value.split(":")
    trains = rest[-1:] == ["dict"]
    rest = rest[: len(rest) - trains]
    if len(rest) > 1 or method not in ("none", "lz4", "zstd") or (method != "zstd" and trains):
        raise ArgumentError(f"{EXPECTED}; got {value!r:.100}")
    try:
        level = [int(text) for text in rest]
        if method == "none" and not level:
            return Compression(None)
        return Compression({"lz4": Lz4Compressor, "zstd": ZstdCompressor}[method](*level), trains=trains)
    except (KeyError, ValueError) as error:
        raise ArgumentError(f"{EXPECTED}; got {value!r:.100} ({error})") from None


def compressed(framer: Framer, compression: Compression | None, known: Known, *, describe: bool) -> Framer:
    """The framer with a compression; without one given, with that of the source."""
    transforms = () if known.description is None else known.description.transforms
    # A source that is encrypted was opened to write what it has as it is.
    transforms = tuple(transform for transform in transforms if transform.name != ENCRYPTION)
    if compression is None:
        # Without the description, nobody would know of it.
        return framer_with(framer, transforms) if describe else framer
    return framer if compression.compressor is None else framer.compressed(compression.compressor)

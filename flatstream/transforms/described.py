"""The transforms that a description names: undone for a reader, and done again for a writer that appends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flatstream.framing import Deframer, Framer

__all__ = ["deframer_maker", "framer_with", "undone"]

COMPRESSION = "compression"
ENCRYPTION = "encryption"


def undone(deframer: Deframer, transforms: Iterable[Any], cipher: Any = None) -> Deframer:
    """The deframer around `deframer` that undoes transforms.

    Parameters
    ----------
    deframer : Deframer
        Finds the frames.
    transforms : iterable of Transform
        As `Description.transforms` has them: the one that was done first is first.
    cipher : Cipher, optional
        For an encrypted stream.

    Raises
    ------
    ValueError
        A transform is not known, or is not built in; there is a cipher, and the stream is not encrypted.
    TypeError
        There is no cipher, and the stream is encrypted.
    FlatbufferError
        The description is damaged.
    ImportError
        A package is not installed.
    """
    known = list(transforms)
    if cipher is not None and all(transform.name != ENCRYPTION for transform in known):
        # What comes from a stranger would be taken for what was encrypted.
        raise ValueError("a cipher is given, and the description says that the stream is not encrypted")
    for transform in reversed(known):
        parameters = dict(transform.parameters)
        if transform.name == COMPRESSION:
            from flatstream.transforms import compression

            deframer = compression.described_deframer(deframer, parameters, transform.data)
        elif transform.name == ENCRYPTION:
            deframer = _encryption().from_description(transform, cipher, deframer)
        else:
            raise _unknown(transform, "deframer")
    return deframer


def framer_with(framer: Framer, transforms: Iterable[Any], cipher: Any = None) -> Framer:
    """The framer around `framer` that does transforms as they were done before; see `undone`."""
    for transform in reversed(list(transforms)):
        parameters: Mapping[str, str] = dict(transform.parameters)
        if transform.name == COMPRESSION:
            from flatstream.transforms import compression

            framer = compression.described_framer(framer, parameters, transform.data)
        elif transform.name == ENCRYPTION:
            framer = _encryption().framer_from_description(transform, cipher, framer)
        else:
            raise _unknown(transform, "framer")
    return framer


def deframer_maker(deframer: Deframer, cipher: Any = None) -> Callable[[Any], Deframer | None]:
    """A function that a decoder calls with the description of its stream, for the deframer behind it.

    It returns None if that is `deframer`, because nothing was done to payloads.
    """

    def make(description: Any) -> Deframer | None:
        transforms = () if description is None else description.transforms
        if not transforms and cipher is None:
            return None
        return undone(deframer, transforms, cipher)

    return make


def _unknown(transform: Any, what: str) -> ValueError:
    return ValueError(
        f"the description names the transform {transform.name!r:.100}, which this version does not know: pass the {what} "
        "that knows it, or use a later version of flatstream"
    )


def _encryption() -> Any:
    import importlib

    return importlib.import_module("flatstream.transforms.encryption")
